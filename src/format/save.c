/* save.c - replacing one file atomically and durably. */
#include "format/save.h"

#include "core/error.h"
#include "format/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *shown(const rondo_save *save, rondo_path_excerpt *buffer) {
  *buffer = rondo_excerpt_path(save->path, "");
  return buffer->text;
}

static bool fail_errno(const rondo_save *save, int problem, const char *what, rondo_error *e) {
  rondo_path_excerpt buffer;
  return rondo_fail_errno(e, problem, "%s: %s", shown(save, &buffer), what);
}

static bool no_memory(rondo_error *e) {
  return rondo_fail(e, RONDO_MEMORY, "not enough memory to save a file");
}

void rondo_save_abort(rondo_save *save) {
  if (save->file >= 0) {
    close(save->file);
    if (save->owner == getpid()) unlinkat(save->folder, save->temporary, 0);
  }
  if (save->folder >= 0) close(save->folder);
  free(save->name);
  free(save->temporary);
  free(save->path);
  *save = RONDO_SAVE_CLOSED;
}

/* Sets path to the file to replace: path itself, or where the link at path leads. */
static bool resolve(rondo_save *save, const char *path, rondo_error *e) {
  struct stat s;
  bool link = lstat(path, &s) == 0 && S_ISLNK(s.st_mode);
  save->path = strdup(path);
  if (save->path == NULL) return no_memory(e);
  if (!link) return true;
  char *target = realpath(path, NULL);
  if (target == NULL) return fail_errno(save, errno, "the link leads to no file", e);
  free(save->path);
  save->path = target;
  return true;
}

/* A path that ends with a slash, or is empty, has no name for a file. */
static bool check_name(const rondo_save *save, rondo_error *e) {
  const char *slash = strrchr(save->path, '/'), *name = slash == NULL ? save->path : slash + 1;
  if (*name != '\0') return true;
  if (slash == NULL) return rondo_fail(e, RONDO_IO, "the path of a file to save is empty");
  rondo_path_excerpt buffer;
  return rondo_fail(e, RONDO_IO, "%s: this names a folder, not a file", shown(save, &buffer));
}

/* Opens the folder of save->path and sets name to the last part of it. */
static bool open_folder(rondo_save *save, rondo_error *e) {
  const char *slash = strrchr(save->path, '/');
  size_t keep = slash == NULL ? 0 : (size_t)(slash - save->path) + 1;
  save->name = strdup(save->path + keep);
  char *folder = keep == 0 ? strdup(".") : strndup(save->path, keep);
  if (save->name == NULL || folder == NULL) {
    free(folder);
    return no_memory(e);
  }
  save->folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int problem = errno;
  free(folder);
  return save->folder >= 0 || fail_errno(save, problem, "its folder cannot be opened", e);
}

/* The mode of the file that is there already, -1 when there is none. Only files are replaced. */
static bool old_mode(const rondo_save *save, int *mode, rondo_error *e) {
  struct stat s;
  *mode = -1;
  if (fstatat(save->folder, save->name, &s, 0) != 0)
    return errno == ENOENT || fail_errno(save, errno, "cannot be examined", e);
  rondo_path_excerpt buffer;
  if (!S_ISREG(s.st_mode))
    return rondo_fail(e, RONDO_IO, "%s: not replaced: this is not a regular file",
                      shown(save, &buffer));
  *mode = (int)(s.st_mode & 07777);
  return true;
}

/* Creates the file that will be renamed. Its name ends with .partial- and 12 random digits, and
 * fits where the final name does. */
static bool create(rondo_save *save, rondo_error *e) {
  const size_t suffix = 9 + 12;
  size_t keep = strlen(save->name);
  if (keep > NAME_MAX) return fail_errno(save, ENAMETOOLONG, "cannot be created", e);
  if (keep > NAME_MAX - suffix) keep = NAME_MAX - suffix;
  save->temporary = malloc(keep + suffix + 1);
  if (save->temporary == NULL) return no_memory(e);
  for (int attempt = 0; save->file < 0 && attempt < 10; attempt++) {
    uint64_t random = 0;
    if (getrandom(&random, 6, GRND_NONBLOCK) != 6) random = (uint64_t)getpid() << 8 | attempt;
    sprintf(save->temporary, "%.*s.partial-%012llx", (int)keep, save->name,
            (unsigned long long)random);
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
    save->file = openat(save->folder, save->temporary, flags, 0666);
    if (save->file < 0 && errno != EEXIST && errno != EINTR) break;
  }
  return save->file >= 0 || fail_errno(save, errno, "cannot be created", e);
}

/* Reserves space; file systems that cannot are left alone. */
static bool reserve(const rondo_save *save, uint64_t size, rondo_error *e) {
  if (size == 0 || size > INT64_MAX) return true;
  while (fallocate(save->file, FALLOC_FL_KEEP_SIZE, 0, (off_t)size) != 0) {
    if (errno == EINTR) continue;
    if (errno != ENOSPC && errno != EDQUOT && errno != EFBIG) return true;
    return fail_errno(save, errno, "no room for the file", e);
  }
  return true;
}

bool rondo_save_begin(rondo_save *save, const char *path, uint64_t size, rondo_error *e) {
  int mode;
  save->owner = getpid();
  bool fine = resolve(save, path, e) && check_name(save, e) && open_folder(save, e) &&
              old_mode(save, &mode, e) && create(save, e);
  if (fine && mode >= 0 && fchmod(save->file, (mode_t)mode) != 0)
    fine = fail_errno(save, errno, "the old file's mode cannot be kept", e);
  fine = fine && reserve(save, size, e);
  if (!fine) rondo_save_abort(save);
  return fine;
}

bool rondo_save_write(rondo_save *save, const void *bytes, size_t size, rondo_error *e) {
  const size_t most = 1u << 30; /* one call transfers less than 2 GiB on Linux */
  const char *at = bytes;
  while (size > 0) {
    ssize_t put = write(save->file, at, size < most ? size : most);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return fail_errno(save, errno, "writing failed", e);
    at += put;
    size -= (size_t)put;
  }
  return true;
}

/* fsync and close. An error of either is final: the kernel tells it only once. */
static bool finish_file(rondo_save *save, rondo_error *e) {
  if (fsync(save->file) != 0) return fail_errno(save, errno, "writing to the disk failed", e);
  int fd = save->file;
  save->file = -1;
  if (close(fd) == 0 || errno == EINTR) return true;
  fail_errno(save, errno, "closing failed", e);
  unlinkat(save->folder, save->temporary, 0);
  return false;
}

bool rondo_save_commit(rondo_save *save, rondo_error *e) {
  if (save->owner != getpid()) {
    rondo_path_excerpt buffer;
    rondo_fail(e, RONDO_USAGE, "%s can only be finished by the process that began it",
               shown(save, &buffer));
    rondo_save_abort(save);
    return false;
  }
  bool fine = finish_file(save, e);
  if (fine && renameat(save->folder, save->temporary, save->folder, save->name) != 0) {
    fine = fail_errno(save, errno, "cannot be given its name", e);
    unlinkat(save->folder, save->temporary, 0);
  } else if (fine && fsync(save->folder) != 0 && errno != EINVAL) {
    fine = fail_errno(save, errno, "written, but its folder could not be synced", e);
  }
  rondo_save_abort(save); /* only releases what is left */
  return fine;
}
