/* quantize.h - a scheme over a tile of a weight matrix, on all threads.
 *
 * A tile is a 2-D piece [rows, cols] of a weight. Groups run along its columns (group_dim 1) or
 * along its rows (group_dim 0): `group_size` elements each, the last one shorter when it does not
 * divide. Where groups run across tiles, their ranges are collected over all tiles first
 * (rondo_tile_ranges) and given to the other calls; `offset` then says at which element of the
 * first group's line the tile begins. Results do not depend on the number of threads. */
#ifndef RONDO_CORE_QUANTIZE_H
#define RONDO_CORE_QUANTIZE_H

#include "core/exact_sum.h"
#include "core/pool.h"
#include "kernels/kernels.h"

typedef struct rondo_quantizer {
  const rondo_kernels *kernels;
  rondo_pool *pool;
  const rondo_grid *grid;
  int group_dim;         /* 1: along the columns of a row, 0: along the rows of a column */
  int64_t group_size;    /* at least 1 */
  int64_t group_rows;    /* rows that share a scale, at least 1; more than 1: group_dim is 1 */
  double ratio;          /* clip ratio (quantile), in (0, 1]; used as f32 */
  rondo_storage storage; /* of scales */
  bool round_first;      /* codes come from the stored scale, too; else from the f32 one, and only
                            dequantized values from the stored one. Needed by affine grids, whose
                            zeros are of the type of their scales */
  bool keep_nonfinite;   /* NaN and infinity pass through and count as 0; otherwise an error */
} rondo_quantizer;

/* Reads rows first .. first+rows-1 of a tile, row-major, into out; called from any thread. False:
 * *e says why. */
typedef bool (*rondo_tile_read)(void *source, int64_t first, int64_t rows, void *out,
                                rondo_error *e);

/* In memory (data), row-major or with a row stride, the last stride 1; or read piece by piece by
 * the threads that work on it (read). f32, f16 or bf16. */
typedef struct rondo_tile {
  const void *data;
  rondo_tile_read read;
  void *source;
  rondo_dtype dtype;
  int64_t rows, cols, row_stride; /* stride in elements */
  int64_t offset;                 /* see above; 0 when `ranges` is NULL */
  rondo_range *ranges;            /* [lines, groups]: lines are rows (dim 1; or group_rows of them)
                                     or columns (dim 0) */
  int64_t range_groups;           /* groups per line in `ranges` */
  const float *weight;            /* importance per column of the tile, or NULL */

  /* What is known by group, or NULL: clip ratios in place of the quantizer's; scales, and zero
   * points with them (NULL: 0), in place of those of the ranges. All [rows, groups] (dim 1; rows /
   * group_rows of them) or [groups, cols] (dim 0), `across` values to a row, of the matrix in which
   * the tile begins with line `line`. */
  const float *group_ratios, *scales;
  const void *zeros; /* of rondo_zero_dtype */
  int64_t line, across;
} rondo_tile;

/* Zero points are u8; on affine grids they are the values of code 0, f32. */
static inline rondo_dtype rondo_zero_dtype(const rondo_grid *grid) {
  return grid->kind == RONDO_AFFINE ? RONDO_F32 : RONDO_U8;
}

/* How codes are packed: `fields` of `bits` bits in words of word_bytes, along dimension `dim`. */
typedef struct rondo_packing {
  int bits, fields, word_bytes, dim;
} rondo_packing;

/* Everything optional, all row-major. Scales and zeros: [rows, groups] for group_dim 1, and
 * [groups, cols] for group_dim 0; only without given ranges. */
typedef struct rondo_quantized {
  void *values; /* [rows, cols] dequantized */
  rondo_dtype values_dtype;
  uint8_t *codes; /* [rows, cols] */
  void *words;    /* the codes packed: [rows, ceil(cols / fields)] or [ceil(rows / fields), cols] */
  rondo_packing packing;
  float *scales; /* what codes are computed with */
  void *zeros;   /* of rondo_zero_dtype */
  /* What weight*(x-y)^2 and weight*x^2 are added to, y as stored in `values`; both or none. */
  rondo_exact_sum *error, *norm;
} rondo_quantized;

/* Where a tile cannot be quantized: status RONDO_NONFINITE with the 0-based place. */
typedef struct rondo_place {
  rondo_status status; /* RONDO_OK, RONDO_NONFINITE, RONDO_MEMORY, or that of error */
  bool scale;          /* the group's scale is not finite, rather than a weight */
  int64_t row, col;    /* the weight, or the group's first weight */
  rondo_error error;   /* of reading */
} rondo_place;

/* Quantizes the tile. False: *place says why, outputs are unspecified. */
bool rondo_tile_quantize(const rondo_quantizer *q, const rondo_tile *tile, rondo_quantized *out,
                         rondo_place *place);

/* Widens tile->ranges (made ready with rondo_ranges_clear) by the tile's values. */
bool rondo_tile_ranges(const rondo_quantizer *q, const rondo_tile *tile, rondo_place *place);
void rondo_ranges_clear(rondo_range *ranges, size_t count);

/* Scales and zeros of `count` ranges; ratios: one each, or NULL for the quantizer's. False when one
 * is not finite; *bad is its index then. */
bool rondo_ranges_params(const rondo_quantizer *q, const rondo_range *ranges, const float *ratios,
                         size_t count, float *scales, void *zeros, size_t *bad);

/* Scales as a reader of the stored ones sees them. */
void rondo_scales_round(const rondo_quantizer *q, const float *scales, size_t count, float *stored);

/* What is asked of a tile: the sum of weight * |x - y|^power. */
typedef struct rondo_losses {
  const float *ratios; /* every group clipped to each of these; NULL: as the tile says, once */
  size_t count;        /* of ratios, 1 where there are none */
  double power;
  bool exact;     /* codes at ratios by the reference's quotients, not by products; slower */
  double *total;  /* [count], added to; or NULL */
  double *groups; /* [groups as in rondo_tile][count], added to; or NULL */
} rondo_losses;

bool rondo_tile_losses(const rondo_quantizer *q, const rondo_tile *tile, const rondo_losses *wanted,
                       rondo_place *place);

/* Adds weight*(x-y)^2 and weight*x^2 over two tiles of the same shape. */
bool rondo_tile_error(const rondo_quantizer *q, const rondo_tile *x, const rondo_tile *y,
                      rondo_exact_sum *error, rondo_exact_sum *norm, rondo_place *place);

/* values [rows, cols] f32 from codes, scales and zeros (NULL: none) of a whole tile. */
bool rondo_tile_dequantize(const rondo_quantizer *q, const uint8_t *codes, int64_t rows,
                           int64_t cols, const float *scales, const void *zeros, float *values);

#endif
