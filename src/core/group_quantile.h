/* group_quantile.h - quantiles of magnitudes, group by group. */
#ifndef RONDO_CORE_GROUP_QUANTILE_H
#define RONDO_CORE_GROUP_QUANTILE_H

#include "core/pool.h"
#include "kernels/kernels.h"

/* A matrix in memory (f32, f16 or bf16, row-major or with a row stride) whose groups are blocks of
 * block_rows x block_cols, smaller at its end. */
typedef struct rondo_blocks {
  const void *data;
  rondo_dtype dtype;
  int64_t rows, cols, row_stride;
  int64_t block_rows, block_cols;
} rondo_blocks;

/* out [blocks down][blocks across]: the q-quantile (0 <= q <= 1) of |x| in each block, by linear
 * interpolation between the two order statistics next to (n - 1) q. No NaN is expected. False: no
 * memory. */
bool rondo_group_quantiles(const rondo_blocks *b, const rondo_kernels *k, rondo_pool *pool,
                           double q, float *out);

#endif
