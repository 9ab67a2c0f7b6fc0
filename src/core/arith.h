/* arith.h - one operation on all elements of tensors.
 *
 * Types of results: two types meet in the smallest type that holds both kinds of numbers (f16 and
 * bf16 in f32, i8 and u8 in i16, i64 and u64 in f64); an integer or bool meets a float in the
 * float's type. Types up to f32 are computed in f32 and rounded once, f64 in f64, integers modulo
 * 2^bits. Operands have been stretched to the shape of out; out is row-major, with memory of its
 * own. pool may be NULL. Results do not depend on it, nor on k. */
#ifndef RONDO_CORE_ARITH_H
#define RONDO_CORE_ARITH_H

#include "core/pool.h"
#include "kernels/kernels.h"

/* The type in which a and b meet. Arithmetic types. */
rondo_dtype rondo_promote(rondo_dtype a, rondo_dtype b);

/* The type in which elements of a type are computed: f32, f64, or i64 for integers and bools. */
rondo_dtype rondo_computing_dtype(rondo_dtype dtype);

/* out = a op b in the computing type of out. False when an integer was divided by 0 (floor
 * division and modulo), where out is 0. Division is for float results. */
bool rondo_apply_binary(rondo_pool *pool, const rondo_kernels *k, rondo_binary op,
                        const rondo_tensor *a, const rondo_tensor *b, const rondo_tensor *out);

/* out = op a. */
void rondo_apply_unary(rondo_pool *pool, const rondo_kernels *k, rondo_unary op,
                       const rondo_tensor *a, const rondo_tensor *out);

/* out (bool) = a op b. Exact among floats, among integers, and between floats and integers of at
 * most 32 bits; f64 otherwise. */
void rondo_apply_comparison(rondo_pool *pool, const rondo_kernels *k, rondo_comparison op,
                            const rondo_tensor *a, const rondo_tensor *b, const rondo_tensor *out);

/* out = mask is true ? a : b. */
void rondo_apply_choice(rondo_pool *pool, const rondo_kernels *k, const rondo_tensor *mask,
                        const rondo_tensor *a, const rondo_tensor *b, const rondo_tensor *out);

#endif
