/* equal.c - whether two tensors are the same, chunk by chunk. */
#include "core/equal.h"

#include "core/chunk.h"
#include "core/dtype.h"
#include "core/gather.h"
#include "core/spread.h"
#include "core/tensor.h"

#include <stdatomic.h>
#include <string.h>

enum { GRAIN = 128 * RONDO_CHUNK }; /* elements of a task */

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

typedef struct {
  rondo_tensor a, b;
  atomic_bool differ;
} comparison;

static void compare_piece(void *context, int64_t first, int64_t count, int64_t piece) {
  (void)piece;
  comparison *c = context;
  for (int64_t i = first, end = first + count; i < end && !c->differ; i += RONDO_CHUNK) {
    size_t n = (size_t)(end - i < RONDO_CHUNK ? end - i : RONDO_CHUNK);
    if (!same_chunk(&c->a, &c->b, i, n)) c->differ = true;
  }
}

bool rondo_tensor_equal(rondo_pool *pool, const rondo_tensor *a, const rondo_tensor *b) {
  if (a->dtype != b->dtype || !rondo_tensor_same_shape(a, b)) return false;
  if (rondo_tensor_count(a) == 0) return true;
  comparison c = {.differ = false};
  rondo_view_elements(a, &c.a);
  rondo_view_elements(b, &c.b);
  rondo_spread(pool, rondo_tensor_count(&c.a), GRAIN, compare_piece, &c);
  return !c.differ;
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

typedef struct {
  const rondo_kernels *k;
  rondo_tensor a, b;
  double tolerance;
  _Atomic int64_t place; /* of the first found so far */
} distance;

static void measure_piece(void *context, int64_t first, int64_t count, int64_t piece) {
  (void)piece;
  distance *d = context;
  rondo_chunk left, right;
  for (int64_t i = first, end = first + count; i < end && i < d->place; i += RONDO_CHUNK) {
    size_t n = (size_t)(end - i < RONDO_CHUNK ? end - i : RONDO_CHUNK);
    size_t found = apart(rondo_read_chunk(d->k, &d->a, i, n, RONDO_F64, &left),
                         rondo_read_chunk(d->k, &d->b, i, n, RONDO_F64, &right), n, d->tolerance);
    int64_t place = i + (int64_t)found, known = d->place;
    if (found == n) continue;
    while (place < known && !atomic_compare_exchange_weak(&d->place, &known, place)) continue;
    return;
  }
}

int64_t rondo_first_apart(rondo_pool *pool, const rondo_kernels *k, const rondo_tensor *a,
                          const rondo_tensor *b, double tolerance) {
  distance d = {.k = k, .a = *a, .b = *b, .tolerance = tolerance, .place = INT64_MAX};
  rondo_tensor_coalesce(&d.a);
  rondo_tensor_coalesce(&d.b);
  rondo_spread(pool, rondo_tensor_count(a), GRAIN, measure_piece, &d);
  return d.place < INT64_MAX ? d.place : -1;
}
