/* integer.h - operations on arrays of 64-bit integers, modulo 2^64; u64 travels as i64. */
#ifndef RONDO_CORE_INTEGER_H
#define RONDO_CORE_INTEGER_H

#include "kernels/kernels.h"

/* out = a op b; no division but floor division and modulo, which give 0 for a divisor of 0 and
 * then make the result false. is_unsigned: both are u64. out overlaps neither source. */
bool rondo_binary_i64(rondo_binary op, bool is_unsigned, const int64_t *a, const int64_t *b,
                      int64_t *out, size_t n);

/* out = op a, of an integer or bool type (whose negation is "not", as is RONDO_NOT's). */
void rondo_unary_i64(rondo_unary op, rondo_dtype dtype, const int64_t *a, int64_t *out, size_t n);

/* out = a op b, exact for every mixture of signed and unsigned. */
void rondo_compare_i64(rondo_comparison op, bool a_unsigned, const int64_t *a, bool b_unsigned,
                       const int64_t *b, uint8_t *out, size_t n);

#endif
