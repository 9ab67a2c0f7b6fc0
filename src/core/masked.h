/* masked.h - the elements of a tensor where a mask is true. The mask is a bool tensor of the same
 * shape; any strides; arithmetic types. */
#ifndef RONDO_CORE_MASKED_H
#define RONDO_CORE_MASKED_H

#include "rondo/tensor.h"

/* Copies the elements where the mask is true to out, in row-major order. */
void rondo_take_masked(const rondo_tensor *t, const rondo_tensor *mask, void *out);

/* Replaces them by `values`, elements of t's type: one after the other, or all by the first. */
void rondo_put_masked(const rondo_tensor *t, const rondo_tensor *mask, const void *values,
                      bool repeat_first);

#endif
