/* stats.h - what the numbers of a long array look like, piece by piece: any number of arrays can be
 * added to one summary, so that a tensor larger than memory is summed up tile by tile.
 *
 * Everything is computed in f64 (64-bit integers above 2^53 are rounded). Arrays are contiguous, of
 * an arithmetic type, maybe unaligned. Results do not depend on the number of threads. */
#ifndef RONDO_CORE_STATS_H
#define RONDO_CORE_STATS_H

#include "core/pool.h"
#include "kernels/kernels.h"

/* Of the finite values: how many, their mean, the sum of squared distances from it, the smallest
 * and the largest (meaningless while count is 0). Starts as zeros. Counts are exact to 2^53. */
typedef struct rondo_stats {
  double count, nans, infinities, zeros, mean, squares, low, high;
} rondo_stats;

/* Elements that one task works on; tasks are what `scratch` below is counted in. */
enum { RONDO_STATS_BLOCK = 65536 };

typedef struct rondo_array {
  rondo_dtype dtype;
  const void *data;
  size_t count;
} rondo_array;

/* Adds an array. scratch: one rondo_stats for each begun block of it. */
void rondo_stats_add(rondo_pool *pool, const rondo_kernels *k, rondo_array x, rondo_stats *total,
                     rondo_stats *scratch);

/* How far two arrays of one length are from each other: elements with different values (NaN equals
 * NaN, -0 equals 0); the largest |x - y| where both are finite; elements where just one is finite,
 * or that are infinities of different signs or infinity and NaN. Starts as zeros. */
typedef struct rondo_difference {
  double differing, largest, incomparable;
} rondo_difference;

/* Adds two arrays. scratch: one rondo_difference for each begun block. */
void rondo_difference_add(rondo_pool *pool, const rondo_kernels *k, rondo_array x, rondo_array y,
                          rondo_difference *total, rondo_difference *scratch);

/* Adds the finite values in [low, high] to `bins` bars of equal width (low < high; a value on a cut
 * belongs to the upper bar, high to the last). scratch: bins counters, zeros, for each thread. */
void rondo_histogram_add(rondo_pool *pool, const rondo_kernels *k, rondo_array x, double low,
                         double high, size_t bins, int64_t *counts, int64_t *scratch);

#endif
