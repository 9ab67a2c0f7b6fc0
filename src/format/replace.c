/* replace.c - whether the place of an output is free, or taken by a folder that may be replaced.
 *
 * The old folder will be removed with all it holds, so it must look like a checkpoint, and all of
 * it must be visible and removable. A git repository, the working folder and anything that
 * something is mounted in are never removed. */
#include "format/place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
  const rondo_place *place;
  const rondo_inputs *inputs;
  rondo_error *e;
  bool refused, empty, checkpoint;
} old_folder;

static bool refuse_as(old_folder *old, rondo_status status, const char *reason, const char *name) {
  old->refused = true;
  return rondo_fail(old->e, status, "%s is not replaced: %s%s", rondo_path_tail(old->place->path),
                    reason, rondo_path_tail(name));
}

static bool refuse(old_folder *old, const char *reason, const char *name) {
  return refuse_as(old, RONDO_EXISTS, reason, name);
}

static bool refuse_errno(old_folder *old, int errnum) {
  old->refused = true;
  return rondo_fail_errno(old->e, errnum, "%s is not replaced: not all of it can be looked at",
                          rondo_path_tail(old->place->path));
}

static bool is_checkpoint_file(const char *name) {
  static const char ending[] = ".safetensors";
  size_t length = strlen(name), n = sizeof ending - 1;
  return strcmp(name, "config.json") == 0 || strcmp(name, "rondo-report.json") == 0 ||
         (length > n && strcmp(name + length - n, ending) == 0);
}

/* The names directly in the folder decide whether it may be replaced at all. */
static bool check_names(old_folder *old, int folder) {
  int again = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *dir = again < 0 ? NULL : fdopendir(again);
  if (dir == NULL) {
    int errnum = errno;
    if (again >= 0) close(again);
    return refuse_errno(old, errnum);
  }
  bool git = false;
  const struct dirent *d;
  errno = 0;
  while ((d = readdir(dir)) != NULL) {
    if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0) continue;
    old->empty = false;
    if (strcmp(d->d_name, ".git") == 0) git = true;
    if (is_checkpoint_file(d->d_name)) old->checkpoint = true;
  }
  int problem = errno;
  closedir(dir);
  if (problem != 0) return refuse_errno(old, problem);
  if (git) return refuse(old, "it is a git repository", "");
  return old->empty || old->checkpoint ||
         refuse(old,
                "it does not look like a checkpoint (no config.json, rondo-report.json or "
                "*.safetensors)",
                "");
}

static bool visit(void *context, int folder, const char *name, const rondo_entry *entry,
                  int depth) {
  (void)depth;
  old_folder *old = context;
  if (entry->mount) return refuse(old, "something is mounted in it, at ", name);
  const rondo_input_mark *m = rondo_inputs_find(old->inputs, entry, false);
  if (m != NULL) return refuse_as(old, RONDO_USAGE, "it holds the input ", m->path);
  bool removable = !S_ISDIR(entry->mode) || faccessat(folder, name, W_OK | X_OK, AT_EACCESS) == 0;
  return removable || refuse(old, "there is no permission to empty ", name);
}

static bool check_content(old_folder *old, int folder) {
  if (!check_names(old, folder)) return false;
  if (old->empty) return true;
  if (faccessat(folder, ".", W_OK | X_OK, AT_EACCESS) != 0) {
    return refuse(old, "there is no permission to empty it", "");
  }
  int problem = rondo_folder_walk(folder, visit, old);
  return !old->refused && (problem == 0 || refuse_errno(old, problem));
}

/* Whether the working folder is the place or lies below it. */
static bool holds_working_folder(const rondo_place *place) {
  char up[3 * 256 + 2] = ".";
  size_t length = 1;
  rondo_entry entry, below = {0};
  while (length + 4 < sizeof up && rondo_entry_at(AT_FDCWD, up, true, &entry)) {
    if (rondo_entry_same(&entry, &place->entry)) return true;
    if (rondo_entry_same(&entry, &below)) break;
    below = entry;
    memcpy(up + length, "/..", 4);
    length += 3;
  }
  return false;
}

/* In a folder like /tmp only the owner may rename. */
static bool owner_must_rename(const rondo_place *place) {
  rondo_entry parent;
  uid_t user = geteuid();
  return user != 0 && place->entry.uid != user &&
         rondo_entry_at(place->parent, "", false, &parent) && (parent.mode & S_ISVTX) != 0 &&
         parent.uid != user;
}

static bool check_old(old_folder *old) {
  const rondo_place *place = old->place;
  if (place->entry.mount) return refuse(old, "it is where something is mounted", "");
  if (holds_working_folder(place)) return refuse(old, "it holds the working folder", "");
  if (owner_must_rename(place)) return refuse(old, "it belongs to another user", "");
  int folder = openat(place->parent, place->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (folder < 0) return refuse_errno(old, errno);
  bool ok = check_content(old, folder);
  close(folder);
  return ok;
}

bool rondo_place_check_free(const rondo_place *place, const rondo_inputs *inputs, bool overwrite,
                            bool *empty, rondo_error *e) {
  *empty = false;
  if (!place->exists) return true;
  bool folder = S_ISDIR(place->entry.mode);
  if (!overwrite || !folder) {
    return rondo_fail(e, RONDO_EXISTS, "%s exists already%s", rondo_path_tail(place->path),
                      folder ? "" : " and is not a folder");
  }
  old_folder old = {.place = place, .inputs = inputs, .e = e, .empty = true};
  bool ok = check_old(&old);
  *empty = old.empty;
  return ok;
}
