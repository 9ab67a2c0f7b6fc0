/* mapping.c - regular files only, opened without blocking; reads that are whole or fail. */
#include "format/mapping.h"

#include "core/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int64_t nanoseconds(struct timespec t) {
  return (int64_t)((uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec);
}

static rondo_file_id identity(const struct stat *s) {
  return (rondo_file_id){.device = s->st_dev,
                         .inode = s->st_ino,
                         .size = (uint64_t)s->st_size,
                         .modified = nanoseconds(s->st_mtim),
                         .changed = nanoseconds(s->st_ctim)};
}

bool rondo_file_id_equal(const rondo_file_id *a, const rondo_file_id *b) {
  return a->device == b->device && a->inode == b->inode && a->size == b->size &&
         a->modified == b->modified && a->changed == b->changed;
}

static bool check_regular(const struct stat *s, const char *shown, rondo_error *e) {
  if (S_ISREG(s->st_mode)) return true;
  const char *kind = S_ISDIR(s->st_mode) ? "a folder" : "not a regular file";
  return rondo_fail(e, RONDO_IO, "%s: this is %s", shown, kind);
}

bool rondo_file_open(int dirfd, const char *name, const char *shown, int *fd, rondo_file_id *id,
                     rondo_error *e) {
  int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, opened;
  do opened = openat(dirfd, name, flags);
  while (opened < 0 && errno == EINTR);
  if (opened < 0) return rondo_fail_errno(e, errno, "%s: cannot be opened", shown);
  struct stat s;
  bool fine = fstat(opened, &s) == 0;
  if (!fine) rondo_fail_errno(e, errno, "%s: cannot be examined", shown);
  if (!fine || !check_regular(&s, shown, e)) {
    close(opened);
    return false;
  }
  *id = identity(&s);
  *fd = opened;
  return true;
}

bool rondo_file_identify(int dirfd, const char *name, const char *shown, rondo_file_id *id,
                         rondo_error *e) {
  struct stat s;
  if (fstatat(dirfd, name, &s, 0) != 0)
    return rondo_fail_errno(e, errno, "%s: cannot be examined", shown);
  if (!check_regular(&s, shown, e)) return false;
  *id = identity(&s);
  return true;
}

bool rondo_file_read(int fd, const char *shown, uint64_t offset, void *out, size_t size,
                     rondo_error *e) {
  const size_t most = 1u << 30; /* one call transfers less than 2 GiB on Linux */
  char *at = out;
  while (size > 0) {
    if (offset > INT64_MAX) return rondo_fail(e, RONDO_FORMAT, "%s: offset beyond 2^63", shown);
    ssize_t got = pread(fd, at, size < most ? size : most, (off_t)offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return rondo_fail_errno(e, errno, "%s: reading failed", shown);
    if (got == 0)
      return rondo_fail(e, RONDO_CHANGED, "%s: the file ends at byte %llu: it became shorter",
                        shown, (unsigned long long)offset);
    at += got;
    offset += (uint64_t)got;
    size -= (size_t)got;
  }
  return true;
}

bool rondo_file_map(int fd, const char *shown, uint64_t size, void **base, rondo_error *e) {
  if (size > SIZE_MAX) return rondo_fail(e, RONDO_UNSUPPORTED, "%s: too large to map", shown);
  void *mapped = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) return rondo_fail_errno(e, errno, "%s: cannot be mapped", shown);
  *base = mapped;
  return true;
}

static bool slurp_open(int fd, const char *shown, size_t limit, char **text, uint64_t size,
                       rondo_error *e) {
  if (size > limit)
    return rondo_fail(e, RONDO_FORMAT, "%s: the file has %llu bytes, more than the %llu allowed",
                      shown, (unsigned long long)size, (unsigned long long)limit);
  char *bytes = malloc((size_t)size + 1);
  if (bytes == NULL) return rondo_fail(e, RONDO_MEMORY, "%s: not enough memory", shown);
  if (!rondo_file_read(fd, shown, 0, bytes, (size_t)size, e)) {
    free(bytes);
    return false;
  }
  bytes[size] = '\0';
  *text = bytes;
  return true;
}

bool rondo_file_slurp(int dirfd, const char *name, const char *shown, size_t limit, char **text,
                      size_t *size, rondo_file_id *id, rondo_error *e) {
  int fd;
  if (!rondo_file_open(dirfd, name, shown, &fd, id, e)) return false;
  bool fine = slurp_open(fd, shown, limit, text, id->size, e);
  close(fd);
  if (fine) *size = (size_t)id->size;
  return fine;
}

static uint64_t word_at(const unsigned char *s, size_t size) {
  uint64_t word = 0;
  for (size_t i = 0; i < size; i++) word |= (uint64_t)s[i] << (8 * i);
  return word;
}

/* Each step is one-to-one in the word and in the value so far. */
static uint64_t digest_step(uint64_t value, uint64_t word) {
  value = (value ^ word) * 0x9e3779b97f4a7c15u;
  return value ^ value >> 29;
}

static uint64_t digest_start(size_t size) {
  return digest_step(0x243f6a8885a308d3u, size);
}

/* All but the last piece are whole words. */
static uint64_t digest_piece(uint64_t value, const unsigned char *s, size_t size, bool last) {
  for (; size >= 8; s += 8, size -= 8) value = digest_step(value, word_at(s, 8));
  return last ? digest_step(digest_step(value, word_at(s, size)), 0) : value;
}

uint64_t rondo_digest(const void *bytes, size_t size) {
  return digest_piece(digest_start(size), bytes, size, true);
}

bool rondo_file_digest(int fd, const char *shown, uint64_t offset, size_t size, uint64_t *digest,
                       rondo_error *e) {
  unsigned char piece[1 << 14];
  uint64_t value = digest_start(size);
  for (bool last = false; !last;) {
    last = size <= sizeof piece;
    size_t n = last ? size : sizeof piece;
    if (!rondo_file_read(fd, shown, offset, piece, n, e)) return false;
    value = digest_piece(value, piece, n, last);
    offset += n;
    size -= n;
  }
  *digest = value;
  return true;
}

/* Appends the last bytes of text, so that out holds at most 280; "..." shows what is left out. */
static void append_tail(rondo_path_excerpt *out, const char *text, size_t reserved) {
  size_t used = strlen(out->text), length = strlen(text), room = 280 - used - reserved;
  if (length > room) {
    const char *tail = text + length - (room - 3);
    while (((unsigned char)*tail & 0xc0) == 0x80) tail++; /* start at a whole character */
    memcpy(out->text + used, "...", 4);
    used += 3;
    text = tail;
  }
  memcpy(out->text + used, text, strlen(text) + 1);
}

rondo_path_excerpt rondo_excerpt_path(const char *directory, const char *name) {
  rondo_path_excerpt out = {""};
  size_t length = strlen(name);
  append_tail(&out, directory, length < 260 ? length : 260);
  append_tail(&out, name, 0);
  return out;
}
