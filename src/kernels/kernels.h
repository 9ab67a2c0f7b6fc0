/* kernels.h - the table of hot loops. Each instruction set is one build of table.c.
 *
 * All kernels are pure functions over arrays, assume the default floating-point environment (see
 * pool.h), round once per written operation, and give the same bits in every table. Arrays do not
 * overlap unless said; sources may be unaligned, destinations need their type's alignment. */
#ifndef RONDO_KERNELS_H
#define RONDO_KERNELS_H

#include "rondo/tensor.h"

/* Widens n elements of a floating type to f32. Exact but for f64, which is rounded. */
typedef void (*rondo_to_f32)(const void *source, float *restrict target, size_t n);

/* Rounds n f32 values to a floating type, half to even; a NaN stays a NaN, overflow gives infinity
 * (NaN in f8_e4m3, which has no infinity). */
typedef void (*rondo_from_f32)(const float *restrict source, void *target, size_t n);

enum {
  RONDO_ERROR_BLOCK = 256, /* columns; see squared_error */
  RONDO_NIBBLE_BLOCK = 32  /* values; see quantize_nibbles */
};

/* ---- Number grids ---- */

typedef enum rondo_grid_kind {
  RONDO_SYMMETRIC,  /* integers low .. high, value scale * q */
  RONDO_ASYMMETRIC, /* integers 0 .. high, value scale * (q - zero) */
  RONDO_AFFINE,     /* integers 0 .. high, value scale * q + zero */
  RONDO_CODEBOOK,   /* up to 16 values, value scale * value[i] */
  RONDO_E4M3        /* 8-bit floats up to 448, value scale * value; codes are their bits */
} rondo_grid_kind;

/* The cuts between up to 16 rising values, infinite where there are fewer: in rising order, and by
 * quarters, which three of them divide. within[k][-q & 3] is cut k of quarter q. */
typedef struct rondo_cuts {
  float rising[15];
  float within[3][4];
} rondo_cuts;

/* A number grid, ready for use; made by rondo_grid_make (core/grid.h). */
typedef struct rondo_grid {
  rondo_grid_kind kind;
  int bits;
  bool full_range; /* symmetric: scale = range / 2^(bits-1), negative where max > |min| */
  float low, high; /* the integer codes' bounds */
  float divisor;   /* scale = range / divisor */
  float zero_low;  /* asymmetric: the smallest zero point, 0 or 1 */
  int entries;     /* codebook: values in rising order, their codes, cuts between neighbours */
  float value[16];
  uint8_t code[16];
  rondo_cuts cuts;
  float decode[16]; /* value by the low four bits of the code */
} rondo_grid;

/* Smallest and largest value of a group; { INFINITY, -INFINITY } when nothing was seen. */
typedef struct rondo_range {
  float low, high;
} rondo_range;

/* What the codes of groups, or of columns, are scaled by: arrays of one element each. zero holds
 * integers, 0 on grids without a zero point; the value of code 0 on affine grids. inverse is 1 /
 * scale where x * inverse, corrected by its residual, is the quotient x / scale for every x of the
 * group (see quant.c), NaN elsewhere. */
typedef struct rondo_params {
  float *scale, *zero, *inverse;
} rondo_params;

/* How scales are stored: as f32, f16, bf16, f8_e4m3, or f8_e8m0 (the power of two by the OCP rule).
 * factor: 0, or what E4M3 scales are multiplied by; then what is too large for them is 448 times
 * it, and what is not 0 at least 2^-9 times it. */
typedef struct rondo_storage {
  rondo_dtype dtype;
  float factor;
} rondo_storage;

/* ---- Elementwise ---- */

/* The bitwise ones are for integers alone, which core/arith.c does. */
typedef enum rondo_binary {
  RONDO_ADD,
  RONDO_SUBTRACT,
  RONDO_MULTIPLY,
  RONDO_DIVIDE,
  RONDO_MINIMUM, /* NaN if either is; -0 lies before +0 */
  RONDO_MAXIMUM,
  RONDO_FLOOR_DIVIDE,
  RONDO_MODULO, /* the sign of the divisor, as in Lua */
  RONDO_POWER,  /* elementary.h */
  RONDO_AND,
  RONDO_OR,
  RONDO_XOR
} rondo_binary;

typedef enum rondo_unary {
  RONDO_NEGATE,
  RONDO_ABSOLUTE,
  RONDO_SQUARE_ROOT,
  RONDO_EXP, /* elementary.h */
  RONDO_LOG,
  RONDO_ROUND, /* half to even; the sign of zero is kept in the next three too */
  RONDO_FLOOR,
  RONDO_CEIL,
  RONDO_SIGN,
  RONDO_SQUARE,
  RONDO_NOT
} rondo_unary;

typedef enum rondo_comparison {
  RONDO_EQUAL,
  RONDO_NOT_EQUAL,
  RONDO_LESS,
  RONDO_LESS_EQUAL,
  RONDO_GREATER,
  RONDO_GREATER_EQUAL
} rondo_comparison;

typedef struct rondo_kernels {
  const char *isa;

  /* ---- Groups: `group` consecutive values of x each, the last one what is left of n ---- */

  /* Range of each group; dtype is f32, f16 or bf16. False when a value is NaN or infinite; the
   * ranges are of no use then. */
  bool (*group_ranges)(rondo_dtype dtype, const void *x, size_t n, size_t group, float *low,
                       float *high);

  /* Scale and zero point of `count` ranges, each clipped to its ratio (or all to *ratio) times it.
   * A group of zeros has the scale of the reference; the scale is infinite when the range overflows
   * f32. */
  void (*params_of)(const rondo_grid *grid, const float *low, const float *high, size_t count,
                    const float *ratio, bool one_ratio, float *scale, float *zero);

  /* Scales as a reader of the stored ones sees them. May be in place. */
  void (*stored_scales)(const rondo_grid *grid, rondo_storage storage, const float *scale, size_t n,
                        float *stored);

  /* Zero points of an asymmetric grid on scales that have been rounded, in place of those of
   * params_of. */
  void (*zeros_on)(const rondo_grid *grid, const float *low, const float *high, size_t count,
                   const float *ratio, bool one_ratio, const float *scale, float *zero);

  /* The inverses of scales for groups of those ranges (on affine grids: less the zero); true when
   * none is NaN. */
  bool (*inverses)(const rondo_grid *grid, const float *scale, const float *low, const float *high,
                   size_t count, float *inverse);

  /* Codes and dequantized values y; either may be NULL. Signed codes are stored as two's
   * complement bytes. */
  void (*quantize_groups)(const rondo_grid *grid, rondo_dtype dtype, const void *x, size_t n,
                          size_t group, rondo_params p, float *y, uint8_t *codes);
  void (*dequantize_groups)(const rondo_grid *grid, const uint8_t *codes, size_t n, size_t group,
                            rondo_params p, float *y);

  /* loss[r] += sum of weight * (x - y)^2 over all groups, their ranges clipped to ratios[r], on
   * scales as they are stored; weight: one a value, or NULL for ones. */
  void (*group_losses)(const rondo_grid *grid, rondo_storage storage, const float *x,
                       const float *weight, size_t n, size_t group, const float *low,
                       const float *high, const float *ratios, size_t count, double *loss);

  /* Codes of 4 bits of n bf16 values, two a byte, the first in the low half, and squared_error's
   * sums unless they are NULL: quantize_groups, pack_words and squared_error in one. x begins at
   * value `first` of its groups, whose inverses are no NaN; first, n and group are multiples of
   * RONDO_NIBBLE_BLOCK; on grids without integer zero points group may be half of that. NULL in
   * tables that gain nothing by it. */
  void (*quantize_nibbles)(const rondo_grid *grid, const void *x, size_t first, size_t n,
                           size_t group, rondo_params p, uint8_t *out, double *sums);

  /* ---- Columns: one group a column, of which x is one row ---- */

  /* Widens low[i] .. high[i] by x[i]. False when a value is NaN or infinite. */
  bool (*column_ranges)(rondo_dtype dtype, const void *x, size_t n, float *low, float *high);
  /* divide: some inverse is NaN. */
  void (*quantize_columns)(const rondo_grid *grid, rondo_dtype dtype, const void *x, size_t n,
                           bool divide, rondo_params p, float *y, uint8_t *codes);
  void (*dequantize_columns)(const rondo_grid *grid, const uint8_t *codes, size_t n, rondo_params p,
                             float *y);

  /* ---- Rows ---- */

  /* Sums of weight * (x - y)^2 and of weight * x^2 over each RONDO_ERROR_BLOCK of n columns of a
   * row; sums: [blocks][2]. weight may be NULL. */
  void (*squared_error)(rondo_dtype dtype, const void *x, const float *y, const float *weight,
                        size_t n, double *sums);

  /* errors[i] = weight[i] * |x[i] - y[i]|^power in f64, of the f32 difference; weight may be NULL.
   */
  void (*power_errors)(const float *x, const float *y, const float *weight, size_t n, double power,
                       double *errors);

  /* The largest |x| as bits without sign: 0x7f800000 and above mean infinity or NaN. */
  uint32_t (*largest_magnitude)(const float *restrict x, size_t n);

  /* Fields of `bits` bits in words of word_bytes; see pack.c. */
  void (*pack_words)(const uint8_t *codes, size_t word_step, size_t field_step, size_t words,
                     int fields, int last_fields, int bits, int word_bytes, void *target);

  /* n bytes of two codes of four bits into low[code at bit 0] | high[code at bit 4], of tables of
   * 16. */
  void (*recode_pairs)(const uint8_t *from, size_t n, const uint8_t *low, const uint8_t *high,
                       uint8_t *out);

  /* ---- Elements ---- */

  /* out[i] = a[i] op b[i]; NaN results are the positive quiet NaN without payload (elementwise.c).
   * out overlaps neither source. */
  void (*binary_f32)(rondo_binary op, const float *restrict a, const float *restrict b,
                     float *restrict out, size_t n);
  void (*binary_f64)(rondo_binary op, const double *restrict a, const double *restrict b,
                     double *restrict out, size_t n);
  void (*unary_f32)(rondo_unary op, const float *restrict a, float *restrict out, size_t n);
  void (*unary_f64)(rondo_unary op, const double *restrict a, double *restrict out, size_t n);
  void (*compare_f32)(rondo_comparison op, const float *restrict a, const float *restrict b,
                      uint8_t *restrict out, size_t n);
  void (*compare_f64)(rondo_comparison op, const double *restrict a, const double *restrict b,
                      uint8_t *restrict out, size_t n);

  /* Sums of x, and of (x - center)^2, in sixteen lanes folded in the one fixed order. */
  double (*sum_f64)(const double *restrict x, size_t n);
  double (*sum_squares_f64)(const double *restrict x, double center, size_t n);

  /* Widens *low .. *high to hold x, NaN apart, which are counted in *nans. */
  void (*range_f64)(const double *restrict x, size_t n, double *low, double *high, size_t *nans);

  rondo_to_f32 to_f32[RONDO_F8_E5M2 + 1];     /* by dtype; f64 .. f8_e5m2 */
  rondo_from_f32 from_f32[RONDO_F8_E5M2 + 1]; /* by dtype */
} rondo_kernels;

extern const rondo_kernels rondo_kernels_base;
extern const rondo_kernels rondo_kernels_v3;
extern const rondo_kernels rondo_kernels_v4;
extern const rondo_kernels rondo_kernels_neon;

#endif
