/* place.c - where an output folder goes, and that writing it there destroys nothing. */
#include "format/place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *rondo_path_tail(const char *path) {
  enum { SHOWN = 160 };
  size_t length = strlen(path);
  return length > SHOWN ? path + length - SHOWN : path;
}

/* Cuts "/" and "/." from the end, which change nothing about where a folder path leads. */
static void trim(char *path) {
  size_t n = strlen(path);
  for (;;) {
    if (n > 1 && path[n - 1] == '/') {
      n--;
    } else if (n > 2 && path[n - 1] == '.' && path[n - 2] == '/') {
      n--;
    } else {
      break;
    }
  }
  path[n] = '\0';
}

static bool no_memory(rondo_error *e) {
  return rondo_fail(e, RONDO_MEMORY, "not enough memory for a path");
}

/* Opens the folder real (taken over) and completes the place with the name in it. */
static bool set_place(rondo_place *place, const char *real, const char *name, rondo_error *e) {
  size_t length = strlen(real), size = length + strlen(name) + 2;
  place->path = malloc(size);
  if (place->path == NULL) return no_memory(e);
  if (length == 1) length = 0; /* "/" */
  memcpy(place->path, real, length);
  place->path[length] = '/';
  strcpy(place->path + length + 1, name);
  place->name = place->path + length + 1;
  place->parent = open(real, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (place->parent < 0) {
    return rondo_fail_errno(e, errno, "cannot create %s: its parent folder %s cannot be opened",
                            rondo_path_tail(name), rondo_path_tail(real));
  }
  return rondo_place_look(place, e);
}

/* Something is there: links and dots are resolved. */
static bool find_existing(rondo_place *place, const char *path, rondo_error *e) {
  char *real = realpath(path, NULL);
  if (real == NULL) {
    bool dangling = errno == ENOENT;
    return dangling ? rondo_fail(e, RONDO_IO, "%s is a symbolic link that leads nowhere",
                                 rondo_path_tail(path))
                    : rondo_fail_errno(e, errno, "cannot look at %s", rondo_path_tail(path));
  }
  char *slash = strrchr(real, '/');
  bool ok = false;
  if (slash[1] == '\0') {
    rondo_fail(e, RONDO_USAGE, "the output is the root folder, which cannot be replaced");
  } else {
    *slash = '\0';
    ok = set_place(place, slash == real ? "/" : real, slash + 1, e);
  }
  free(real);
  return ok;
}

/* Nothing is there: the parent must be. path is cut up. */
static bool find_new(rondo_place *place, char *path, rondo_error *e) {
  char *slash = strrchr(path, '/');
  const char *name = slash != NULL ? slash + 1 : path, *parent = ".";
  if (slash == path) {
    parent = "/";
  } else if (slash != NULL) {
    *slash = '\0';
    parent = path;
  }
  char *real = strcmp(name, "..") == 0 ? (errno = ENOENT, NULL) : realpath(parent, NULL);
  if (real == NULL) {
    return rondo_fail_errno(e, errno, "cannot create %s: its parent folder %s",
                            rondo_path_tail(name), rondo_path_tail(parent));
  }
  bool ok = set_place(place, real, name, e);
  free(real);
  return ok;
}

bool rondo_place_find(rondo_place *place, const char *path, rondo_error *e) {
  char *copy = strdup(path);
  if (copy == NULL) return no_memory(e);
  trim(copy);
  rondo_entry entry;
  bool ok;
  if (rondo_entry_at(AT_FDCWD, copy, false, &entry)) {
    ok = find_existing(place, copy, e);
  } else if (errno == ENOENT) {
    ok = find_new(place, copy, e);
  } else {
    ok = rondo_fail_errno(e, errno, "cannot look at %s", rondo_path_tail(path));
  }
  free(copy);
  return ok;
}

bool rondo_place_look(rondo_place *place, rondo_error *e) {
  place->exists = rondo_entry_at(place->parent, place->name, false, &place->entry);
  if (place->exists || errno == ENOENT) return true;
  return rondo_fail_errno(e, errno, "cannot look at %s", rondo_path_tail(place->path));
}

void rondo_place_close(rondo_place *place) {
  if (place->parent >= 0) close(place->parent);
  place->parent = -1;
}

void rondo_place_free(rondo_place *place) {
  rondo_place_close(place);
  free(place->path);
  *place = (rondo_place){.parent = -1};
}

static bool refuse_inside(const rondo_place *place, const rondo_input_mark *m, rondo_error *e) {
  return rondo_fail(e, RONDO_USAGE, "the output %s lies inside the input %s",
                    rondo_path_tail(place->path), rondo_path_tail(m->path));
}

/* Goes up from the parent to the root by descriptors. */
static bool check_not_inside(const rondo_place *place, const rondo_inputs *inputs, rondo_error *e) {
  const int flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
  rondo_entry entry, below = {0};
  int folder = openat(place->parent, ".", flags);
  while (folder >= 0 && rondo_entry_at(folder, "", false, &entry)) {
    const rondo_input_mark *m = rondo_inputs_find(inputs, &entry, false);
    if (m != NULL) refuse_inside(place, m, e);
    if (m != NULL || rondo_entry_same(&entry, &below)) {
      close(folder);
      return m == NULL;
    }
    below = entry;
    int up = openat(folder, "..", flags);
    close(folder);
    folder = up;
  }
  int errnum = errno;
  if (folder >= 0) close(folder);
  return rondo_fail_errno(e, errnum, "cannot look at the folders above %s",
                          rondo_path_tail(place->path));
}

bool rondo_place_check_inputs(const rondo_place *place, const rondo_inputs *inputs,
                              rondo_error *e) {
  const rondo_input_mark *m = place->exists ? rondo_inputs_find(inputs, &place->entry, true) : NULL;
  if (m == NULL) return check_not_inside(place, inputs, e);
  return rondo_fail(e, RONDO_USAGE,
                    m->above ? "the output %s holds the input %s" : "the output %s is the input %s",
                    rondo_path_tail(place->path), rondo_path_tail(m->path));
}
