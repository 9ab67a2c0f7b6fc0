/* gather.h - the elements of any view as plain arrays in row-major order, and back.
 *
 * Views here have been through rondo_tensor_coalesce (which keeps the order); ranges count
 * elements of that order. Sources may be unaligned. Arithmetic types only. */
#ifndef RONDO_CORE_GATHER_H
#define RONDO_CORE_GATHER_H

#include "core/pool.h"
#include "rondo/tensor.h"

/* Elements first .. first+count-1 where they lie, if they lie one after the other; else NULL. */
const void *rondo_peek(const rondo_tensor *t, int64_t first, size_t count);

/* Copies elements first .. first+count-1 to out. */
void rondo_gather(const rondo_tensor *t, int64_t first, size_t count, void *out);

/* Copies the array in to elements first .. first+count-1. */
void rondo_scatter(const rondo_tensor *t, int64_t first, size_t count, const void *in);

/* n elements of `size` bytes (1, 2, 4 or 8), `step` bytes apart, to an array. */
void rondo_copy_strided(void *out, const void *source, size_t step, size_t size, size_t n);

/* The view of a tensor that these functions take; of an opaque one its bytes. */
void rondo_view_elements(const rondo_tensor *t, rondo_tensor *view);

/* All elements of any tensor, opaque ones too, to a row-major array, on the pool; NULL: on the
 * calling thread. */
void rondo_copy_out(rondo_pool *pool, const rondo_tensor *t, void *out);

#endif
