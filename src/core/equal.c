/* equal.c - whether two tensors are the same, chunk by chunk. */
#include "core/equal.h"

#include "core/chunk.h"
#include "core/dtype.h"
#include "core/environment.h"
#include "core/gather.h"
#include "core/tensor.h"

#include <string.h>

/* The bits of a magnitude from which on it is NaN; 0 for types without NaN. */
static uint64_t nan_limit(rondo_dtype dtype) {
  switch (dtype) {
  case RONDO_F64:
    return 0x7ff0000000000001u;
  case RONDO_F32:
    return 0x7f800001u;
  case RONDO_F16:
    return 0x7c01u;
  case RONDO_BF16:
    return 0x7f81u;
  case RONDO_F8_E4M3:
    return 0x7fu;
  case RONDO_F8_E5M2:
    return 0x7du;
  default:
    return 0;
  }
}

static bool same_element(rondo_dtype dtype, const char *a, const char *b) {
  size_t size = rondo_dtype_size(dtype);
  uint64_t x = 0, y = 0, magnitude = (UINT64_MAX >> (64 - 8 * size)) >> 1;
  memcpy(&x, a, size);
  memcpy(&y, b, size);
  if (dtype == RONDO_BOOL) return (x != 0) == (y != 0);
  uint64_t limit = nan_limit(dtype);
  return x == y || (limit > 0 && (x & magnitude) >= limit && (y & magnitude) >= limit);
}

/* n elements where they lie, or in buffer. */
static const char *elements(const rondo_tensor *t, int64_t first, size_t n, char *buffer) {
  const void *place = rondo_peek(t, first, n);
  if (place != NULL) return place;
  rondo_gather(t, first, n, buffer);
  return buffer;
}

static bool same_chunk(const rondo_tensor *a, const rondo_tensor *b, int64_t first, size_t n) {
  char left[RONDO_CHUNK * 8], right[RONDO_CHUNK * 8];
  const char *x = elements(a, first, n, left), *y = elements(b, first, n, right);
  size_t size = rondo_dtype_size(a->dtype);
  if (memcmp(x, y, n * size) == 0) return true;
  for (size_t i = 0; i < n; i++) {
    if (!same_element(a->dtype, x + i * size, y + i * size)) return false;
  }
  return true;
}

bool rondo_tensor_equal(const rondo_tensor *a, const rondo_tensor *b) {
  if (a->dtype != b->dtype || !rondo_tensor_same_shape(a, b)) return false;
  int64_t count = rondo_tensor_count(a);
  if (count == 0) return true;
  if (rondo_dtype_is_opaque(a->dtype)) return memcmp(a->data, b->data, rondo_tensor_bytes(a)) == 0;
  rondo_tensor x = *a, y = *b;
  rondo_tensor_coalesce(&x);
  rondo_tensor_coalesce(&y);
  for (int64_t i = 0; i < count; i += RONDO_CHUNK) {
    size_t n = (size_t)(count - i < RONDO_CHUNK ? count - i : RONDO_CHUNK);
    if (!same_chunk(&x, &y, i, n)) return false;
  }
  return true;
}

/* The index of the first pair that is too far apart, or n. */
static size_t apart(const double *a, const double *b, size_t n, double tolerance) {
  for (size_t i = 0; i < n; i++) {
    double distance = __builtin_fabs(a[i] - b[i]);
    bool close = distance <= tolerance || a[i] == b[i] || (a[i] != a[i] && b[i] != b[i]);
    bool infinite = a[i] != b[i] && (__builtin_isinf(a[i]) || __builtin_isinf(b[i]));
    if (!close || infinite) return i;
  }
  return n;
}

int64_t rondo_first_apart(const rondo_kernels *k, const rondo_tensor *a, const rondo_tensor *b,
                          double tolerance) {
  rondo_chunk left, right;
  rondo_tensor x = *a, y = *b;
  int64_t count = rondo_tensor_count(a), found = -1;
  rondo_tensor_coalesce(&x);
  rondo_tensor_coalesce(&y);
  rondo_environment host;
  environment_replace(&host);
  for (int64_t i = 0; i < count && found < 0; i += RONDO_CHUNK) {
    size_t n = (size_t)(count - i < RONDO_CHUNK ? count - i : RONDO_CHUNK);
    size_t place = apart(rondo_read_chunk(k, &x, i, n, RONDO_F64, &left),
                         rondo_read_chunk(k, &y, i, n, RONDO_F64, &right), n, tolerance);
    if (place < n) found = i + (int64_t)place;
  }
  environment_leave(&host);
  return found;
}
