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

typedef struct rondo_kernels {
  const char *isa;
  rondo_to_f32 to_f32[RONDO_F8_E5M2 + 1];     /* by dtype; f64 .. f8_e5m2 */
  rondo_from_f32 from_f32[RONDO_F8_E5M2 + 1]; /* by dtype */
} rondo_kernels;

extern const rondo_kernels rondo_kernels_base;
extern const rondo_kernels rondo_kernels_v3;
extern const rondo_kernels rondo_kernels_v4;

#endif
