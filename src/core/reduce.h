/* reduce.h - many elements into one: sums, means, extremes, counts, over a tensor or a dimension.
 *
 * Floats are summed in f64 in one fixed order of the elements' row-major order (blocks of 65536 of
 * chunks of 512 of sixteen lanes), whatever the strides, the kernels and the number of threads;
 * integers are summed exactly and taken modulo 2^64. NaN anywhere makes sum, mean, std, norm, min
 * and max NaN. std is that of the population. Arithmetic types. pool may be NULL. */
#ifndef RONDO_CORE_REDUCE_H
#define RONDO_CORE_REDUCE_H

#include "core/pool.h"
#include "kernels/kernels.h"

typedef enum rondo_reduction {
  RONDO_SUM,
  RONDO_MEAN,
  RONDO_STD,
  RONDO_NORM, /* root of the sum of squares */
  RONDO_MIN,
  RONDO_MAX,
  RONDO_ARGMIN, /* places count from 0; the first NaN, else the first of the smallest */
  RONDO_ARGMAX,
  RONDO_COUNT, /* of what is not 0; NaN is not 0 */
  RONDO_ANY,
  RONDO_ALL
} rondo_reduction;

/* A result: an integer (bools are 0 and 1; u64 above 2^63-1 wraps) or a float. */
typedef struct rondo_number {
  bool is_whole;
  int64_t whole;
  double real;
} rondo_number;

/* Whether nothing can be reduced: there is no smallest of no elements. */
bool rondo_reduction_needs_elements(rondo_reduction op);

/* The type of results along a dimension: that of the elements for min and max; i64 for places,
 * counts and sums of integers (u64 of u64); bool for any and all; else f32, f64 for f64. */
rondo_dtype rondo_reduced_dtype(rondo_reduction op, rondo_dtype dtype);

/* All elements of t. */
rondo_number rondo_reduce(rondo_pool *pool, const rondo_kernels *k, rondo_reduction op,
                          const rondo_tensor *t);

/* Each line of t along its last dimension into one element of out, which is row-major, of
 * rondo_reduced_dtype, and has t's shape without the last dimension (any rank will do). */
void rondo_reduce_lines(rondo_pool *pool, const rondo_kernels *k, rondo_reduction op,
                        const rondo_tensor *t, const rondo_tensor *out);

#endif
