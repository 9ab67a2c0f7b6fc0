/* element.h - arrays of elements from one type to another, and to the types that are computed in.
 *
 * The rules, everywhere in rondo: widening is exact; a float becomes a narrower float by one
 * rounding, half to even, overflowing to infinity (to NaN in f8_e4m3), NaN staying NaN; a float
 * becomes an integer by rounding half to even, clamped to the type's range, NaN giving 0; an
 * integer becomes a narrower one by clamping and a float by one rounding; anything but 0 is true.
 *
 * Arithmetic types only. Sources may be unaligned, destinations are aligned to their type. Source
 * and destination do not overlap. Like kernels, these assume the default float environment. */
#ifndef RONDO_CORE_ELEMENT_H
#define RONDO_CORE_ELEMENT_H

#include "kernels/kernels.h"

void rondo_convert(const rondo_kernels *k, rondo_dtype from, const void *source, rondo_dtype to,
                   void *target, size_t n);

/* To the types of computing: f32 and f64 hold rounded values of wider types; i64 holds integers
 * and bools (u64 above 2^63-1 wraps), floats by the rules above. */
void rondo_load_f32(const rondo_kernels *k, rondo_dtype from, const void *source, float *target,
                    size_t n);
void rondo_load_f64(const rondo_kernels *k, rondo_dtype from, const void *source, double *target,
                    size_t n);
void rondo_load_i64(const rondo_kernels *k, rondo_dtype from, const void *source, int64_t *target,
                    size_t n);

/* Stores the low bits of integers: to is an integer type. */
void rondo_store_wrapped(rondo_dtype to, const int64_t *source, void *target, size_t n);

/* Smallest and largest value of an integer type; u64's largest is given as -1. */
void rondo_integer_range(rondo_dtype dtype, int64_t *low, int64_t *high);

/* x rounded half to even, the sign of zero kept, whatever its size; NaN stays. */
static inline double rondo_round_even(double x) {
  double magic = __builtin_copysign(0x1p52, x);
  double rounded = __builtin_copysign((x + magic) - magic, x);
  return __builtin_fabs(x) < 0x1p52 ? rounded : x;
}

#endif
