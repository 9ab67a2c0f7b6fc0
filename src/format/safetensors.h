/* safetensors.h - the header of a safetensors file, read into a compact table, and written.
 *
 * A file is 8 bytes of header length (little-endian), the header (JSON), and the data up to the end
 * of the file. Reading is strict: what the format text or the reference reader forbids is refused,
 * and so are names twice, names with NUL, shapes of more than RONDO_MAX_RANK dimensions or 2^63
 * elements. Memory: the header's bytes, 32 more a tensor; while reading, about 24 more a tensor and
 * a metadata entry. Nothing else in a file decides about an allocation. */
#ifndef RONDO_FORMAT_SAFETENSORS_H
#define RONDO_FORMAT_SAFETENSORS_H

#include "format/names.h"
#include "rondo/tensor.h"

/* The longest header, in bytes, as in the reference implementation. */
#define RONDO_SAFETENSORS_HEADER_MAX 100000000u

typedef struct rondo_st_tensor {
  uint64_t offset;      /* of its first byte, from the start of the data */
  uint64_t size;        /* bytes */
  uint32_t name;        /* where its name begins in the header, unescaped */
  uint32_t name_length; /* bytes */
  uint32_t shape;       /* where its list of dimensions begins in the header, behind the '[' */
  uint8_t dtype;        /* a rondo_dtype */
  uint8_t rank;
  uint16_t listed; /* free for the owner of the table; 1 after reading */
} rondo_st_tensor;

/* An entry of the metadata. */
typedef struct rondo_st_meta {
  rondo_text key, value;
} rondo_st_meta;

typedef struct rondo_safetensors {
  char *header; /* header_size bytes and a NUL; strings in it are unescaped in place */
  uint32_t header_size;
  uint32_t count, capacity;
  rondo_st_tensor *tensors; /* by offset; empty ones at one place in the order of the header */
  uint32_t metadata;       /* where __metadata__ begins in the header, see rondo_safetensors_pair */
  uint32_t metadata_count; /* entries */
  bool has_metadata;
  uint64_t data_start; /* of the data in the file: 8 + header_size */
  uint64_t data_size;
  uint64_t digest; /* of the header's bytes as they are in the file */
} rondo_safetensors;

/* Reads and checks the header of the file open at fd, file_size bytes long. *st need not be
 * initialized; it must be freed when this returns true, and may be when it returns false. */
bool rondo_safetensors_read(rondo_safetensors *st, int fd, const char *shown, uint64_t file_size,
                            rondo_error *e);
void rondo_safetensors_free(rondo_safetensors *st);

rondo_text rondo_safetensors_name(const rondo_safetensors *st, uint32_t i);

/* Fills shape with the tensor's rank dimensions, each at least 0 and below 2^63. */
void rondo_safetensors_shape(const rondo_safetensors *st, uint32_t i, int64_t *shape);

/* Reads one entry of the metadata after the other, metadata_count in all, in the order of the
 * header. *place is 0 before the first. */
void rondo_safetensors_pair(const rondo_safetensors *st, uint32_t *place, rondo_st_meta *pair);

/* ---- writing ---- */

/* One tensor to write. offset and size are filled in by rondo_safetensors_layout. */
typedef struct rondo_st_item {
  rondo_text name;
  rondo_dtype dtype;
  int rank;
  const int64_t *shape;
  uint64_t offset, size; /* bytes, offset from the start of the data */
  uint32_t tag;          /* the caller's */
} rondo_st_item;

/* Brings the items into the order of the reference writer (by falling element size, then name) and
 * places them one behind the other. Refuses a name twice, "__metadata__", NUL, bad UTF-8, and sizes
 * that do not fit (RONDO_USAGE). */
bool rondo_safetensors_layout(rondo_st_item *items, uint32_t count, rondo_error *e);

/* Puts metadata in order by key; refuses NUL-free UTF-8 violations and keys twice. */
bool rondo_safetensors_sort_metadata(rondo_st_meta *pairs, uint32_t count, rondo_error *e);

/* Writes length and header, padded with spaces so that the data starts at a multiple of 8; returns
 * the number of bytes. pairs NULL: no metadata. With out NULL it only measures. The header may
 * come out longer than RONDO_SAFETENSORS_HEADER_MAX: compare. */
size_t rondo_safetensors_header(const rondo_st_item *items, uint32_t count,
                                const rondo_st_meta *pairs, uint32_t pair_count, char *out);

#endif
