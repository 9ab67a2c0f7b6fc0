/* access.c - the files that a state without trust may use.
 *
 * What a script asks for must lie, all links resolved, in the folder that the host has granted:
 * config.inputs for reading, config.outputs for writing, and what it may write it may read. While
 * rondo_quantize runs, the paths that the host itself has named are granted besides, as they are
 * spelled: links in its own model are the host's business. */
#include "host/host.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Whether path is folder or lies below it, by their spelling. */
static bool is_below(const char *path, const char *folder) {
  size_t length = strlen(folder);
  while (length > 1 && folder[length - 1] == '/') length--;
  if (length == 0 || strncmp(path, folder, length) != 0) return false;
  return path[length] == '\0' || path[length] == '/' || folder[length - 1] == '/';
}

/* Whether a part of the path is "..". */
static bool climbs(const char *path) {
  for (const char *part = path; part != NULL; part = strchr(part, '/')) {
    part += *part == '/';
    if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == '\0')) return true;
  }
  return false;
}

/* Where path leads, all links resolved; what is not there yet lies in a folder that is. */
static bool resolve(const char *path, char *real) {
  if (realpath(path, real) != NULL) return true;
  struct stat status;
  if (lstat(path, &status) == 0) return false; /* a link to what is not there */
  char folder[PATH_MAX];
  size_t length = strlen(path);
  while (length > 1 && path[length - 1] == '/') length--;
  if (length >= sizeof folder) return false;
  memcpy(folder, path, length);
  folder[length] = '\0';
  char *slash = strrchr(folder, '/'), *name = slash != NULL ? slash + 1 : folder;
  char tail[PATH_MAX];
  strcpy(tail, name);
  strcpy(name, slash != NULL ? "" : ".");
  if (realpath(folder, real) == NULL || strlen(real) + strlen(tail) + 2 > PATH_MAX) return false;
  if (real[1] != '\0') strcat(real, "/");
  strcat(real, tail);
  return true;
}

static bool is_granted(const char *real, const char *folder) {
  char root[PATH_MAX];
  return folder != NULL && realpath(folder, root) != NULL && is_below(real, root);
}

static bool is_named_by_host(const rondo *r, const char *path, rondo_access access) {
  if (r->out == NULL || climbs(path)) return false;
  return is_below(path, r->out) || (access == RONDO_READ && is_below(path, r->model));
}

void rondo_admit(lua_State *L, const char *path, rondo_access access) {
  const rondo *r = rondo_host_of(L);
  char real[PATH_MAX];
  if (r->config.trust == RONDO_TRUST_EVERYTHING) return;
  if (is_named_by_host(r, path, access)) return;
  if (resolve(path, real)) {
    if (access == RONDO_READ && is_granted(real, r->config.inputs)) return;
    if (is_granted(real, r->config.outputs)) return;
  }
  bool writes = access == RONDO_WRITE;
  const char *folder = writes ? r->config.outputs : r->config.inputs;
  rondo_push_place(L);
  lua_pushfstring(L, "this script may not %s %s: its host grants %s below %s",
                  writes ? "write" : "read", path, writes ? "writing" : "reading",
                  folder != NULL ? folder : "no folder");
  lua_concat(L, 2);
  lua_error(L);
}
