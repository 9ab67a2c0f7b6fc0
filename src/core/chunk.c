/* chunk.c - any stretch of a view as an array of a type that is computed in. */
#include "core/chunk.h"

#include "core/dtype.h"
#include "core/element.h"
#include "core/gather.h"

const void *rondo_widen_chunk(const rondo_kernels *k, rondo_dtype from, const void *raw, size_t n,
                              rondo_dtype as, rondo_chunk *buffer) {
  bool is_unsigned = as == RONDO_I64 && from == RONDO_U64;
  bool ready = (from == as || is_unsigned) && (uintptr_t)raw % rondo_dtype_size(as) == 0;
  if (ready) return raw;
  if (as == RONDO_F32) {
    rondo_load_f32(k, from, raw, (float *)(void *)buffer->values, n);
  } else if (as == RONDO_F64) {
    rondo_load_f64(k, from, raw, (double *)(void *)buffer->values, n);
  } else {
    rondo_load_i64(k, from, raw, (int64_t *)(void *)buffer->values, n);
  }
  return buffer->values;
}

const void *rondo_read_chunk(const rondo_kernels *k, const rondo_tensor *view, int64_t first,
                             size_t n, rondo_dtype as, rondo_chunk *buffer) {
  const void *raw = rondo_peek(view, first, n);
  if (raw == NULL) {
    rondo_gather(view, first, n, buffer->raw);
    raw = buffer->raw;
  }
  return rondo_widen_chunk(k, view->dtype, raw, n, as, buffer);
}
