/* output_file.c - the files of an output folder: reserved, written in any order, complete, synced.
 */
#include "format/output.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void rondo_output_file_init(rondo_output_file *f) {
  *f = (rondo_output_file){.file = -1};
}

bool rondo_output_name_ok(const char *name) {
  size_t length = strlen(name);
  return length > 0 && length < RONDO_NAME_SIZE && strchr(name, '/') == NULL &&
         strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* Remembers the first failure, which makes publishing refuse, and returns false. */
static bool failed(rondo_output *o, const rondo_error *e) {
  if (o->failure.status == RONDO_OK) o->failure = *e;
  return false;
}

static bool fail_errno(rondo_output *o, const char *name, int errnum, rondo_error *e) {
  rondo_fail_errno(e, errnum, "cannot write %s/%s", rondo_path_tail(o->place.path),
                   rondo_path_tail(name));
  return failed(o, e);
}

/* fallocate rather than posix_fallocate, which would write to every block where the file system
 * cannot reserve. */
static bool reserve(int file, uint64_t size) {
  if (size == 0) return true;
  int result;
  do {
    result = fallocate(file, 0, 0, (off_t)size);
  } while (result != 0 && errno == EINTR);
  return result == 0 || errno == EOPNOTSUPP || errno == EINVAL || errno == ENOSYS;
}

static void keep_mode(const rondo_output *o, int file, const char *name) {
  rondo_entry old;
  if (o->old >= 0 && rondo_entry_at(o->old, name, false, &old) && S_ISREG(old.mode)) {
    (void)!fchmod(file, old.mode & 0777);
  }
}

bool rondo_output_file_open(rondo_output_file *f, rondo_output *o, const char *name, uint64_t size,
                            rondo_error *e) {
  if (!rondo_output_check(o, e)) return false;
  if (size > INT64_MAX)
    return rondo_fail(e, RONDO_USAGE, "a file cannot have %" PRIu64 " bytes", size);
  int file = openat(o->folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
  if (file < 0 && errno == EEXIST) {
    return rondo_fail(e, RONDO_USAGE, "%s/%s was written before", rondo_path_tail(o->place.path),
                      rondo_path_tail(name));
  }
  if (file < 0) return fail_errno(o, name, errno, e);
  if (!reserve(file, size)) {
    fail_errno(o, name, errno, e);
    close(file);
    return false;
  }
  keep_mode(o, file, name);
  *f = (rondo_output_file){.output = o, .file = file, .size = size};
  strcpy(f->name, name);
  o->open_files++;
  return true;
}

/* The first range that ends at or after begin. */
static size_t find_range(const rondo_output_file *f, uint64_t begin) {
  size_t low = 0, high = f->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (f->written[middle].end < begin) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

/* Notes that begin .. end-1 is written. False: no memory. */
static bool add_range(rondo_output_file *f, uint64_t begin, uint64_t end) {
  size_t first = find_range(f, begin), last = first;
  for (; last < f->count && f->written[last].begin <= end; last++) {
    if (f->written[last].begin < begin) begin = f->written[last].begin;
    if (f->written[last].end > end) end = f->written[last].end;
  }
  if (first == last && f->count == f->room) {
    size_t room = f->room > 0 ? f->room * 2 : 8;
    rondo_output_range *larger = reallocarray(f->written, room, sizeof *larger);
    if (larger == NULL) return false;
    f->written = larger;
    f->room = room;
  }
  memmove(&f->written[first + 1], &f->written[last], (f->count - last) * sizeof *f->written);
  f->written[first] = (rondo_output_range){begin, end};
  f->count = f->count + 1 - (last - first);
  return true;
}

static bool check_open(const rondo_output_file *f, rondo_error *e) {
  if (f->file < 0) return rondo_fail(e, RONDO_USAGE, "the file is closed");
  return rondo_output_check(f->output, e);
}

static bool check_place(const rondo_output_file *f, uint64_t offset, uint64_t count,
                        rondo_error *e) {
  if (!check_open(f, e)) return false;
  if (count > f->size || offset > f->size - count) {
    return rondo_fail(e, RONDO_USAGE,
                      "%" PRIu64 " bytes at %" PRIu64 " do not fit into %s, which has %" PRIu64,
                      count, offset, rondo_path_tail(f->name), f->size);
  }
  return true;
}

bool rondo_output_file_write(rondo_output_file *f, uint64_t offset, const void *bytes,
                             uint64_t count, rondo_error *e) {
  if (!check_place(f, offset, count, e)) return false;
  if (count == 0) return true;
  int errnum = rondo_write_all(f->file, offset, bytes, count);
  if (errnum == 0 && !add_range(f, offset, offset + count)) errnum = ENOMEM;
  return errnum == 0 || fail_errno(f->output, f->name, errnum, e);
}

bool rondo_output_file_queue(rondo_output_file *f, uint64_t offset, const void *bytes,
                             uint64_t count, rondo_error *e) {
  if (!check_place(f, offset, count, e)) return false;
  if (count == 0) return true;
  if (f->writer == NULL) f->writer = rondo_writer_start(f->size);
  if (f->writer == NULL) return rondo_output_file_write(f, offset, bytes, count, e);
  int errnum = rondo_writer_put(f->writer, f->file, offset, bytes, count);
  if (errnum == 0 && !add_range(f, offset, offset + count)) errnum = ENOMEM;
  return errnum == 0 || fail_errno(f->output, f->name, errnum, e);
}

static void release(rondo_output_file *f) {
  rondo_writer_stop(f->writer);
  if (f->file >= 0) close(f->file);
  free(f->written);
  rondo_output_file_init(f);
}

/* Every byte is there once one range covers the whole file. */
static bool check_written(rondo_output_file *f, rondo_error *e) {
  uint64_t begin = 0;
  if (f->count > 0 && f->written[0].begin == 0) begin = f->written[0].end;
  if (begin == f->size) return true;
  uint64_t end = f->size;
  if (f->count > 0 && f->written[0].begin > begin) end = f->written[0].begin;
  if (f->count > 1 && begin > 0) end = f->written[1].begin;
  rondo_fail(e, RONDO_USAGE, "bytes %" PRIu64 " to %" PRIu64 " of %s were not written", begin,
             end - 1, rondo_path_tail(f->name));
  return failed(f->output, e);
}

static bool finish(rondo_output_file *f, rondo_error *e) {
  struct stat s;
  int errnum = f->writer == NULL ? 0 : rondo_writer_wait(f->writer);
  if (errnum != 0) return fail_errno(f->output, f->name, errnum, e);
  if (!check_written(f, e)) return false;
  if (fsync(f->file) != 0 || fstat(f->file, &s) != 0) {
    return fail_errno(f->output, f->name, errno, e);
  }
  if ((uint64_t)s.st_size != f->size) {
    rondo_fail(e, RONDO_CHANGED, "%s has %jd bytes instead of %" PRIu64, rondo_path_tail(f->name),
               (intmax_t)s.st_size, f->size);
    return failed(f->output, e);
  }
  int file = f->file;
  f->file = -1;
  return close(file) == 0 || errno == EINTR || fail_errno(f->output, f->name, errno, e);
}

bool rondo_output_file_close(rondo_output_file *f, rondo_error *e) {
  if (!check_open(f, e)) return false;
  bool ok = finish(f, e);
  f->output->open_files--;
  release(f);
  return ok;
}

void rondo_output_file_drop(rondo_output_file *f) {
  if (f->file < 0) return;
  rondo_output *o = f->output;
  if (o->folder >= 0) { /* the output is closed before its files when a Lua state ends */
    rondo_error e;
    rondo_fail(&e, RONDO_USAGE, "%s was not finished", rondo_path_tail(f->name));
    failed(o, &e);
    o->open_files--;
  }
  release(f);
}

/* Copies until the end of source, which must come after exactly f->size bytes. */
static bool copy_with(rondo_output_file *f, int source, char *buffer, size_t room, const char *path,
                      rondo_error *e) {
  uint64_t done = 0;
  for (;;) {
    ssize_t n = read(source, buffer, room);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return rondo_fail_errno(e, errno, "cannot read %s", rondo_path_tail(path));
    if (n == 0 ? done < f->size : (uint64_t)n > f->size - done) {
      return rondo_fail(e, RONDO_CHANGED, "%s changed while it was copied", rondo_path_tail(path));
    }
    if (n == 0) return true;
    if (!rondo_output_file_write(f, done, buffer, (uint64_t)n, e)) return false;
    done += (uint64_t)n;
  }
}

static bool copy_bytes(rondo_output_file *f, int source, const char *path, rondo_error *e) {
  const size_t room = 1 << 20;
  char *buffer = malloc(room);
  if (buffer == NULL) return rondo_fail(e, RONDO_MEMORY, "not enough memory to copy %s", f->name);
  bool ok = copy_with(f, source, buffer, room, path, e);
  free(buffer);
  return ok;
}

static bool copy_from(rondo_output *o, const char *name, int source, const char *path,
                      rondo_error *e) {
  struct stat s;
  rondo_output_file f;
  if (fstat(source, &s) != 0) {
    return rondo_fail_errno(e, errno, "cannot look at %s", rondo_path_tail(path));
  }
  if (!S_ISREG(s.st_mode)) {
    return rondo_fail(e, RONDO_IO, "cannot copy %s: it is not a regular file",
                      rondo_path_tail(path));
  }
  if (!rondo_output_file_open(&f, o, name, (uint64_t)s.st_size, e)) return false;
  if (copy_bytes(&f, source, path, e)) return rondo_output_file_close(&f, e);
  failed(o, e);
  rondo_output_file_drop(&f);
  return false;
}

bool rondo_output_copy(rondo_output *o, const char *name, const char *source, rondo_error *e) {
  int file = open(source, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return rondo_fail_errno(e, errno, "cannot read %s", rondo_path_tail(source));
  bool ok = copy_from(o, name, file, source, e);
  close(file);
  return ok;
}
