/* equal.h - whether two tensors are the same, exactly or nearly. Same shapes; any strides. On the
 * pool; NULL: on the calling thread. */
#ifndef RONDO_CORE_EQUAL_H
#define RONDO_CORE_EQUAL_H

#include "core/pool.h"
#include "kernels/kernels.h"

/* Same dtype, same shape and the same bits, but that NaN equals NaN, and true equals true. Opaque
 * types by their bytes. */
bool rondo_tensor_equal(rondo_pool *pool, const rondo_tensor *a, const rondo_tensor *b);

/* The place in row-major order of the first two elements that are more than tolerance apart (in
 * f64; equal infinities are not, and NaN is close to NaN alone); -1 if there is none. Arithmetic
 * types. */
int64_t rondo_first_apart(rondo_pool *pool, const rondo_kernels *k, const rondo_tensor *a,
                          const rondo_tensor *b, double tolerance);

#endif
