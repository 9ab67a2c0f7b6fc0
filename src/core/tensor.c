/* tensor.c - shapes and views. All products are checked where a shape enters, in
 * rondo_shape_size; what follows relies on it. Data of empty tensors is never pointed into. */
#include "core/tensor.h"

#include "core/checked.h"
#include "core/dtype.h"

#include <string.h>

bool rondo_shape_size(rondo_dtype dtype, int rank, const int64_t *shape, int64_t *count,
                      uint64_t *bytes) {
  int64_t n = 1;
  bool empty = false, fits = true;
  for (int d = 0; d < rank; d++) {
    if (shape[d] < 0) return false;
    if (shape[d] == 0) empty = true;
    if (shape[d] > 0 && fits) fits = checked_mul_i64(n, shape[d], &n);
  }
  if (empty) n = 0;
  if (!empty && !fits) return false;
  int64_t bits;
  unsigned width = rondo_dtype_bits(dtype);
  if (width >= 8) {
    if (!checked_mul_i64(n, width / 8, &bits)) return false;
    if (bytes != NULL) *bytes = (uint64_t)bits;
  } else {
    if (!checked_mul_i64(n, width, &bits) || bits % 8 != 0) return false;
    if (bytes != NULL) *bytes = (uint64_t)bits / 8;
  }
  if (count != NULL) *count = n;
  return true;
}

void rondo_tensor_init(rondo_tensor *t, rondo_dtype dtype, int rank, const int64_t *shape,
                       void *data) {
  t->dtype = dtype;
  t->rank = rank;
  t->read_only = false;
  t->data = data;
  int64_t stride = 1;
  for (int d = rank - 1; d >= 0; d--) {
    t->shape[d] = shape[d];
    t->stride[d] = stride;
    /* Only an empty shape can overflow here; its strides are never used. */
    if (shape[d] > 0 && !checked_mul_i64(stride, shape[d], &stride)) stride = 0;
  }
}

int64_t rondo_tensor_count(const rondo_tensor *t) {
  int64_t n = 1;
  for (int d = 0; d < t->rank; d++) {
    if (t->shape[d] == 0) return 0;
  }
  for (int d = 0; d < t->rank; d++) n *= t->shape[d];
  return n;
}

uint64_t rondo_tensor_bytes(const rondo_tensor *t) {
  uint64_t n = (uint64_t)rondo_tensor_count(t);
  unsigned width = rondo_dtype_bits(t->dtype);
  return width >= 8 ? n * (width / 8) : n * width / 8;
}

bool rondo_tensor_is_row_major(const rondo_tensor *t) {
  int64_t expected = 1;
  if (rondo_tensor_count(t) == 0) return true; /* its other sizes may overflow */
  for (int d = t->rank - 1; d >= 0; d--) {
    if (t->shape[d] == 1) continue;
    if (t->stride[d] != expected) return false;
    expected *= t->shape[d];
  }
  return true;
}

bool rondo_tensor_same_shape(const rondo_tensor *a, const rondo_tensor *b) {
  return a->rank == b->rank && memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape) == 0;
}

void rondo_tensor_extent(const rondo_tensor *t, const char **begin, const char **end) {
  *begin = *end = t->data;
  if (rondo_tensor_count(t) == 0) return;
  if (rondo_dtype_is_opaque(t->dtype)) {
    *end += rondo_tensor_bytes(t);
    return;
  }
  int64_t last = 0;
  for (int d = 0; d < t->rank; d++) last += (t->shape[d] - 1) * t->stride[d];
  *end += (last + 1) * (int64_t)rondo_dtype_size(t->dtype);
}

bool rondo_tensor_overlap(const rondo_tensor *a, const rondo_tensor *b) {
  const char *a_begin, *a_end, *b_begin, *b_end;
  rondo_tensor_extent(a, &a_begin, &a_end);
  rondo_tensor_extent(b, &b_begin, &b_end);
  return a_begin < b_end && b_begin < a_end;
}

static void advance(rondo_tensor *t, int64_t elements) {
  t->data = (char *)t->data + elements * (int64_t)rondo_dtype_size(t->dtype);
}

void rondo_tensor_slice(rondo_tensor *t, int d, int64_t first, int64_t count) {
  t->shape[d] = count;
  if (rondo_tensor_count(t) > 0) advance(t, first * t->stride[d]);
}

static void remove_dimension(rondo_tensor *t, int d) {
  size_t behind = (size_t)(t->rank - 1 - d) * sizeof *t->shape;
  memmove(&t->shape[d], &t->shape[d + 1], behind);
  memmove(&t->stride[d], &t->stride[d + 1], behind);
  t->rank--;
}

void rondo_tensor_select(rondo_tensor *t, int d, int64_t index) {
  rondo_tensor_slice(t, d, index, 1);
  remove_dimension(t, d);
}

void rondo_tensor_swap(rondo_tensor *t, int a, int b) {
  int64_t size = t->shape[a], stride = t->stride[a];
  t->shape[a] = t->shape[b];
  t->stride[a] = t->stride[b];
  t->shape[b] = size;
  t->stride[b] = stride;
}

void rondo_tensor_move_last(rondo_tensor *t, int d) {
  int64_t size = t->shape[d], stride = t->stride[d];
  remove_dimension(t, d);
  t->shape[t->rank] = size;
  t->stride[t->rank++] = stride;
}

/* Both shapes are cut into the shortest runs of dimensions with equal products; a run keeps its
 * memory if the old dimensions in it lie one behind the other. */
bool rondo_tensor_reshape(rondo_tensor *t, int rank, const int64_t *shape) {
  rondo_tensor result;
  rondo_tensor_init(&result, t->dtype, rank, shape, t->data);
  result.read_only = t->read_only;
  if (!rondo_tensor_is_row_major(t)) {
    rondo_tensor old = *t;
    rondo_tensor_coalesce(&old);
    int o = old.rank - 1, d = rank - 1;
    while (d >= 0) {
      int64_t stride = o >= 0 ? old.stride[o] : 1, run = 1;
      int64_t size = o >= 0 ? old.shape[o] : 1;
      for (; d >= 0 && run * shape[d] <= size; d--) {
        result.stride[d] = stride * run;
        run *= shape[d];
      }
      if (run != size) return false;
      o--;
    }
  }
  *t = result;
  return true;
}

bool rondo_broadcast_shape(const rondo_tensor *a, const rondo_tensor *b, int *rank,
                           int64_t *shape) {
  int longest = a->rank > b->rank ? a->rank : b->rank;
  for (int k = 1; k <= longest; k++) {
    int64_t m = k <= a->rank ? a->shape[a->rank - k] : 1;
    int64_t n = k <= b->rank ? b->shape[b->rank - k] : 1;
    if (m != n && m != 1 && n != 1) return false;
    shape[longest - k] = m == 1 ? n : m;
  }
  *rank = longest;
  return true;
}

bool rondo_tensor_broadcast(rondo_tensor *t, int rank, const int64_t *shape) {
  if (t->rank > rank) return false;
  rondo_tensor result = *t;
  for (int k = 1; k <= rank; k++) {
    int64_t size = k <= t->rank ? t->shape[t->rank - k] : 1;
    if (size != 1 && size != shape[rank - k]) return false;
    result.shape[rank - k] = shape[rank - k];
    bool stretched = size == 1 && shape[rank - k] != 1;
    result.stride[rank - k] = k > t->rank || stretched ? 0 : t->stride[t->rank - k];
  }
  result.rank = rank;
  *t = result;
  return true;
}

void rondo_tensor_coalesce(rondo_tensor *t) {
  if (rondo_tensor_count(t) == 0) {
    t->rank = 1;
    t->shape[0] = 0;
    t->stride[0] = 1;
    return;
  }
  int used = 0;
  for (int d = 0; d < t->rank; d++) {
    if (t->shape[d] == 1) continue;
    if (used > 0 && t->stride[used - 1] == t->shape[d] * t->stride[d]) {
      t->shape[used - 1] *= t->shape[d];
      t->stride[used - 1] = t->stride[d];
    } else {
      t->shape[used] = t->shape[d];
      t->stride[used++] = t->stride[d];
    }
  }
  if (used == 0) {
    t->shape[0] = 1;
    t->stride[0] = 1;
    used = 1;
  }
  t->rank = used;
}
