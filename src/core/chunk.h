/* chunk.h - any stretch of a view as an array of a type that is computed in. */
#ifndef RONDO_CORE_CHUNK_H
#define RONDO_CORE_CHUNK_H

#include "kernels/kernels.h"

/* The most elements of one stretch. */
enum { RONDO_CHUNK = 512 };

typedef struct rondo_chunk {
  _Alignas(64) char raw[RONDO_CHUNK * 8];
  _Alignas(64) char values[RONDO_CHUNK * 8];
} rondo_chunk;

/* Elements first .. first+n-1 of a coalesced view as f32, f64 or i64 (`as`; see element.h): where
 * they lie if that is possible, else in *buffer. n <= RONDO_CHUNK. */
const void *rondo_read_chunk(const rondo_kernels *k, const rondo_tensor *view, int64_t first,
                             size_t n, rondo_dtype as, rondo_chunk *buffer);

/* n elements at `raw`, of any arithmetic type and alignment, as f32, f64 or i64. */
const void *rondo_widen_chunk(const rondo_kernels *k, rondo_dtype from, const void *raw, size_t n,
                              rondo_dtype as, rondo_chunk *buffer);

#endif
