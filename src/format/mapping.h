/* mapping.h - files that are only read: opening, identity, exact reads, mapping.
 *
 * Only regular files are opened (links to them are followed), never blocking. Every failure names
 * the file as the caller spells it. Reading past the end is an error, not a short result. */
#ifndef RONDO_FORMAT_MAPPING_H
#define RONDO_FORMAT_MAPPING_H

#include "format/names.h"
#include "rondo/tensor.h"

/* What tells one state of a file from another, as fstat gives it. Times in nanoseconds. */
typedef struct rondo_file_id {
  uint64_t device, inode, size;
  int64_t modified, changed;
} rondo_file_id;

bool rondo_file_id_equal(const rondo_file_id *a, const rondo_file_id *b);

/* Opens name, relative to the folder open at dirfd (or AT_FDCWD), for reading. shown is how
 * messages call the file. On success *fd is the caller's to close. */
bool rondo_file_open(int dirfd, const char *name, const char *shown, int *fd, rondo_file_id *id,
                     rondo_error *e);

/* The same without opening: what stat says about name now. */
bool rondo_file_identify(int dirfd, const char *name, const char *shown, rondo_file_id *id,
                         rondo_error *e);

/* Fills out with exactly size bytes from offset. Short reads and signals are dealt with. A file
 * that ends before is RONDO_CHANGED: the caller has compared with its size at opening. */
bool rondo_file_read(int fd, const char *shown, uint64_t offset, void *out, size_t size,
                     rondo_error *e);

/* Maps a whole file of size bytes (not 0) for reading. The descriptor may be closed afterwards.
 * If another process shortens the file, touching the lost pages raises SIGBUS. */
bool rondo_file_map(int fd, const char *shown, uint64_t size, void **base, rondo_error *e);

/* Reads a whole file into new memory, with a NUL behind it; the caller frees *text. Longer than
 * limit bytes is RONDO_FORMAT. */
bool rondo_file_slurp(int dirfd, const char *name, const char *shown, size_t limit, char **text,
                      size_t *size, rondo_file_id *id, rondo_error *e);

/* A 64-bit digest of bytes, the same on every machine. A change inside one aligned group of eight
 * bytes always changes it, others all but always. It notices change; it does not resist forgery. */
uint64_t rondo_digest(const void *bytes, size_t size);

/* The same of bytes of a file, which are not kept. */
bool rondo_file_digest(int fd, const char *shown, uint64_t offset, size_t size, uint64_t *digest,
                       rondo_error *e);

/* The path directory .. name for messages: long ones lose their beginning, never the last 255
 * bytes. directory ends with a slash or is empty. */
typedef struct rondo_path_excerpt {
  char text[288];
} rondo_path_excerpt;
rondo_path_excerpt rondo_excerpt_path(const char *directory, const char *name);

#endif
