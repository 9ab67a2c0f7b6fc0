/* tensor.h - shapes and views: sizes, slicing, transposing, reshaping, broadcasting.
 *
 * Everything here changes descriptions only, never elements. Indices and dimensions count from 0;
 * the caller has checked them (the bindings turn 1-based and negative ones into these). */
#ifndef RONDO_CORE_TENSOR_H
#define RONDO_CORE_TENSOR_H

#include "rondo/tensor.h"

/* The number of elements and of bytes of a shape. False when a dimension is negative, when a
 * product does not fit (bytes stay below 2^63), or when elements narrower than a byte do not fill
 * whole bytes. count and bytes may be NULL. */
bool rondo_shape_size(rondo_dtype dtype, int rank, const int64_t *shape, int64_t *count,
                      uint64_t *bytes);

/* Makes *t a row-major tensor over data. The shape has passed rondo_shape_size. */
void rondo_tensor_init(rondo_tensor *t, rondo_dtype dtype, int rank, const int64_t *shape,
                       void *data);

/* Elements, and bytes of a row-major copy. */
int64_t rondo_tensor_count(const rondo_tensor *t);
uint64_t rondo_tensor_bytes(const rondo_tensor *t);

/* Whether the elements lie in memory one after the other in row-major order. */
bool rondo_tensor_is_row_major(const rondo_tensor *t);

bool rondo_tensor_same_shape(const rondo_tensor *a, const rondo_tensor *b);

/* Bytes from the lowest to one past the highest element in memory; both equal when empty. */
void rondo_tensor_extent(const rondo_tensor *t, const char **begin, const char **end);

/* Whether two tensors may share bytes. */
bool rondo_tensor_overlap(const rondo_tensor *a, const rondo_tensor *b);

/* Keeps first .. first+count-1 of dimension d. Not for opaque types. */
void rondo_tensor_slice(rondo_tensor *t, int d, int64_t first, int64_t count);

/* Keeps one index of dimension d and drops the dimension. Not for opaque types. */
void rondo_tensor_select(rondo_tensor *t, int d, int64_t index);

/* Exchanges two dimensions. */
void rondo_tensor_swap(rondo_tensor *t, int a, int b);

/* Moves dimension d behind all others, which keep their order. */
void rondo_tensor_move_last(rondo_tensor *t, int d);

/* Gives t another shape with as many elements. False, t unchanged, when that needs a copy. */
bool rondo_tensor_reshape(rondo_tensor *t, int rank, const int64_t *shape);

/* The common shape of a and b: dimensions are matched from the last, 1 stretches. False when they
 * do not fit. shape: RONDO_MAX_RANK places. */
bool rondo_broadcast_shape(const rondo_tensor *a, const rondo_tensor *b, int *rank, int64_t *shape);

/* Stretches t to a shape by strides of 0. False when it does not fit; t is unchanged then. */
bool rondo_tensor_broadcast(rondo_tensor *t, int rank, const int64_t *shape);

/* Merges dimensions that lie one behind the other in memory and drops those of size 1; the
 * row-major order of the elements stays. The result has rank 1 at least and no empty dimension
 * but in an empty tensor. */
void rondo_tensor_coalesce(rondo_tensor *t);

#endif
