/* output.c - opening, publishing and abandoning an output folder. */
#include "format/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void rondo_output_init(rondo_output *o) {
  *o = (rondo_output){.place.parent = -1, .folder = -1, .old = -1};
}

/* Run once more before publishing: the world may have changed since. */
static bool check_target(rondo_output *o, bool *empty, rondo_error *e) {
  return rondo_place_look(&o->place, e) &&
         rondo_place_check_free(&o->place, &o->inputs, o->overwrite, empty, e);
}

/* What says that a file system does not know a flag of renameat2. */
static bool unsupported(int errnum) {
  return errnum == EINVAL || errnum == ENOSYS || errnum == EOPNOTSUPP || errnum == EXDEV;
}

static bool cannot_exchange(const rondo_output *o, rondo_error *e) {
  return rondo_fail(e, RONDO_UNSUPPORTED,
                    "%s is not replaced: this file system cannot exchange two folders; remove or "
                    "rename the old one, or write to a new place",
                    rondo_path_tail(o->place.path));
}

/* Tries an exchange inside the partial folder, so that nobody waits for hours to learn it. */
static bool probe_exchange(rondo_output *o, rondo_error *e) {
  static const char a[] = "exchange-a", b[] = "exchange-b";
  bool ok = mkdirat(o->folder, a, 0700) == 0 && mkdirat(o->folder, b, 0700) == 0 &&
            renameat2(o->folder, a, o->folder, b, RENAME_EXCHANGE) == 0;
  int errnum = errno;
  unlinkat(o->folder, a, AT_REMOVEDIR);
  unlinkat(o->folder, b, AT_REMOVEDIR);
  if (ok) return true;
  if (unsupported(errnum)) return cannot_exchange(o, e);
  return rondo_fail_errno(e, errnum, "cannot write beside %s", rondo_path_tail(o->place.path));
}

/* The new folder takes over group and mode of the old one, as far as the system allows; files get
 * the group through the setgid bit. */
static void inherit_mode(rondo_output *o, mode_t extra) {
  if (o->old < 0) return;
  const rondo_entry *old = &o->place.entry;
  rondo_entry own;
  if (rondo_entry_at(o->folder, "", false, &own) && own.gid != old->gid &&
      fchown(o->folder, (uid_t)-1, old->gid) != 0) {
    return;
  }
  (void)!fchmod(o->folder, (old->mode & 07777) | extra);
}

static bool prepare_exchange(rondo_output *o, bool empty, rondo_error *e) {
  if (!empty && !probe_exchange(o, e)) return false;
  const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  o->old = openat(o->place.parent, o->place.name, flags);
  if (o->old < 0) {
    return rondo_fail_errno(e, errno, "cannot look into %s", rondo_path_tail(o->place.path));
  }
  inherit_mode(o, S_IRWXU);
  return true;
}

static bool open_parts(rondo_output *o, const char *path, const char *const *inputs, size_t count,
                       rondo_error *e) {
  if (!rondo_place_find(&o->place, path, e)) return false;
  for (size_t i = 0; i < count; i++) {
    if (!rondo_inputs_add(&o->inputs, inputs[i], e)) return false;
  }
  if (!rondo_place_check_inputs(&o->place, &o->inputs, e)) return false;
  rondo_partial_sweep(&o->place, &o->inputs);
  bool empty;
  return check_target(o, &empty, e) && rondo_partial_make(&o->place, o->partial, &o->folder, e) &&
         (!o->place.exists || prepare_exchange(o, empty, e));
}

bool rondo_output_open(rondo_output *o, const char *path, const char *const *inputs, size_t count,
                       bool overwrite, rondo_error *e) {
  o->owner = getpid();
  o->overwrite = overwrite;
  if (open_parts(o, path, inputs, count, e)) return true;
  rondo_output_free(o);
  return false;
}

/* Renames where nothing, or an empty folder that may be replaced, stands. Without the flag a
 * rename of a folder replaces at most an empty one, so the plain call is safe as well. */
static bool rename_to_place(rondo_output *o, rondo_error *e) {
  int parent = o->place.parent;
  unsigned flag = o->place.exists ? 0 : RENAME_NOREPLACE;
  int result = renameat2(parent, o->partial, parent, o->place.name, flag);
  if (result != 0 && flag != 0 && unsupported(errno)) {
    result = renameat(parent, o->partial, parent, o->place.name);
  }
  if (result == 0) return true;
  if (errno == EEXIST || errno == ENOTEMPTY || errno == ENOTDIR) {
    return rondo_fail(e, RONDO_EXISTS, "%s was created by somebody else meanwhile",
                      rondo_path_tail(o->place.path));
  }
  return rondo_fail_errno(e, errno, "cannot create %s", rondo_path_tail(o->place.path));
}

static int exchange(const rondo_output *o) {
  int parent = o->place.parent;
  return renameat2(parent, o->partial, parent, o->place.name, RENAME_EXCHANGE);
}

/* Afterwards the old folder has the partial folder's name. It must be the one that was checked. */
static bool exchange_with_place(rondo_output *o, rondo_error *e) {
  if (exchange(o) != 0) {
    if (unsupported(errno)) return cannot_exchange(o, e);
    return rondo_fail_errno(e, errno, "cannot replace %s", rondo_path_tail(o->place.path));
  }
  rondo_entry old;
  if (rondo_entry_at(o->place.parent, o->partial, false, &old) &&
      rondo_entry_same(&old, &o->place.entry)) {
    return true;
  }
  exchange(o);
  return rondo_fail(e, RONDO_EXISTS, "%s was replaced by somebody else meanwhile",
                    rondo_path_tail(o->place.path));
}

/* What is not durable does not count: OUT becomes again what it was. */
static bool undo(rondo_output *o, bool exchanged, int errnum, rondo_error *e) {
  int parent = o->place.parent;
  bool undone =
      exchanged ? exchange(o) == 0 : renameat(parent, o->place.name, parent, o->partial) == 0;
  return rondo_fail_errno(e, errnum, "cannot sync the folder that holds %s%s",
                          rondo_path_tail(o->place.path),
                          undone ? "" : " (it has its new content all the same)");
}

static bool check_complete(rondo_output *o, rondo_error *e) {
  if (o->failure.status != RONDO_OK) {
    *e = o->failure;
    return false;
  }
  if (o->owner != getpid()) {
    return rondo_fail(e, RONDO_USAGE, "%s can only be published by the process that opened it",
                      rondo_path_tail(o->place.path));
  }
  if (o->open_files == 0) return true;
  return rondo_fail(e, RONDO_USAGE, "%s has %u files that are not closed",
                    rondo_path_tail(o->place.path), o->open_files);
}

static bool publish(rondo_output *o, bool *exchanged, rondo_error *e) {
  bool empty;
  if (!check_complete(o, e) || !check_target(o, &empty, e)) return false;
  inherit_mode(o, 0);
  if (fsync(o->folder) != 0) {
    return rondo_fail_errno(e, errno, "cannot sync the new content of %s",
                            rondo_path_tail(o->place.path));
  }
  *exchanged = o->place.exists && !empty;
  if (!(*exchanged ? exchange_with_place(o, e) : rename_to_place(o, e))) return false;
  return fsync(o->place.parent) == 0 || undo(o, *exchanged, errno, e);
}

bool rondo_output_check(const rondo_output *o, rondo_error *e) {
  return o->folder >= 0 || rondo_fail(e, RONDO_USAGE, "the output is closed");
}

/* Closes what is open. */
static void release(rondo_output *o) {
  if (o->folder >= 0) close(o->folder);
  if (o->old >= 0) close(o->old);
  o->folder = o->old = -1;
  rondo_place_close(&o->place);
}

bool rondo_output_publish(rondo_output *o, int *old_left, rondo_error *e) {
  bool exchanged = false;
  *old_left = 0;
  if (!rondo_output_check(o, e)) return false;
  if (!publish(o, &exchanged, e)) {
    rondo_output_close(o);
    return false;
  }
  if (exchanged) *old_left = rondo_folder_remove(o->place.parent, o->partial, &o->place.entry);
  rondo_partial_sweep(&o->place, &o->inputs); /* of runs that have died since this one began */
  release(o);
  return true;
}

void rondo_output_close(rondo_output *o) {
  rondo_entry own, named;
  if (o->folder >= 0 && o->owner == getpid() && rondo_entry_at(o->folder, "", false, &own) &&
      rondo_entry_at(o->place.parent, o->partial, false, &named) &&
      rondo_entry_same(&own, &named)) {
    rondo_folder_clear(o->folder);
    unlinkat(o->place.parent, o->partial, AT_REMOVEDIR);
  }
  release(o);
}

void rondo_output_free(rondo_output *o) {
  rondo_output_close(o);
  rondo_place_free(&o->place);
  rondo_inputs_free(&o->inputs);
  rondo_output_init(o);
}
