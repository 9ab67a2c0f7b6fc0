/* arith.c - drivers: operands are read chunk by chunk in the computing type, a kernel works on the
 * chunk, the result is rounded into place. */
#include "core/arith.h"

#include "core/chunk.h"
#include "core/dtype.h"
#include "core/element.h"
#include "core/integer.h"
#include "core/spread.h"
#include "core/tensor.h"

#include <stdatomic.h>
#include <string.h>

enum { GRAIN = 1 << 15 };

static bool is_signed(rondo_dtype dtype) {
  return dtype == RONDO_I8 || dtype == RONDO_I16 || dtype == RONDO_I32 || dtype == RONDO_I64;
}

static rondo_dtype promote_floats(rondo_dtype a, rondo_dtype b) {
  if (a == RONDO_F64 || b == RONDO_F64) return RONDO_F64;
  if (rondo_dtype_size(a) == rondo_dtype_size(b)) return RONDO_F32;
  return rondo_dtype_size(a) > rondo_dtype_size(b) ? a : b;
}

rondo_dtype rondo_promote(rondo_dtype a, rondo_dtype b) {
  static const rondo_dtype wider[] = {[1] = RONDO_I16, [2] = RONDO_I32, [4] = RONDO_I64};
  if (a == b) return a;
  if (rondo_dtype_is_float(a) && rondo_dtype_is_float(b)) return promote_floats(a, b);
  if (rondo_dtype_is_float(a) || b == RONDO_BOOL) return a;
  if (rondo_dtype_is_float(b) || a == RONDO_BOOL) return b;
  size_t m = rondo_dtype_size(a), n = rondo_dtype_size(b);
  if (is_signed(a) == is_signed(b)) return m > n ? a : b;
  rondo_dtype with_sign = is_signed(a) ? a : b;
  size_t unsigned_size = is_signed(a) ? n : m;
  if (rondo_dtype_size(with_sign) > unsigned_size) return with_sign;
  return unsigned_size == 8 ? RONDO_F64 : wider[unsigned_size];
}

rondo_dtype rondo_computing_dtype(rondo_dtype dtype) {
  if (!rondo_dtype_is_float(dtype)) return RONDO_I64;
  return dtype == RONDO_F64 ? RONDO_F64 : RONDO_F32;
}

typedef struct {
  const rondo_kernels *k;
  int op;
  rondo_dtype as; /* computing type */
  rondo_tensor mask, a, b;
  rondo_dtype out_dtype;
  char *out;
  atomic_bool divided_by_zero;
} operation;

typedef void (*chunk_step)(operation *o, int64_t first, size_t n);

static void each_chunk(operation *o, int64_t first, int64_t count, chunk_step step) {
  for (int64_t done = 0; done < count; done += RONDO_CHUNK) {
    int64_t left = count - done;
    step(o, first + done, (size_t)(left < RONDO_CHUNK ? left : RONDO_CHUNK));
  }
}

/* Where the result of a chunk is computed: in its place if the types allow it. */
static void *result_place(const operation *o, int64_t first, char *buffer) {
  if (o->out_dtype == o->as) return o->out + (size_t)first * rondo_dtype_size(o->as);
  return buffer;
}

static void store_result(const operation *o, int64_t first, const void *values, size_t n) {
  char *place = o->out + (size_t)first * rondo_dtype_size(o->out_dtype);
  if (place == values) return;
  if (o->as == RONDO_F32) {
    o->k->from_f32[o->out_dtype](values, place, n);
  } else {
    rondo_store_wrapped(o->out_dtype, values, place, n);
  }
}

static void binary_chunk(operation *o, int64_t first, size_t n) {
  rondo_chunk left, right;
  _Alignas(64) char buffer[RONDO_CHUNK * 8];
  const void *a = rondo_read_chunk(o->k, &o->a, first, n, o->as, &left);
  const void *b = rondo_read_chunk(o->k, &o->b, first, n, o->as, &right);
  void *out = result_place(o, first, buffer);
  if (o->as == RONDO_F32) {
    o->k->binary_f32((rondo_binary)o->op, a, b, out, n);
  } else if (o->as == RONDO_F64) {
    o->k->binary_f64((rondo_binary)o->op, a, b, out, n);
  } else if (!rondo_binary_i64((rondo_binary)o->op, o->out_dtype == RONDO_U64, a, b, out, n)) {
    atomic_store(&o->divided_by_zero, true);
  }
  store_result(o, first, out, n);
}

static void binary_piece(void *context, int64_t first, int64_t count, int64_t piece) {
  (void)piece;
  each_chunk(context, first, count, binary_chunk);
}

static void unary_chunk(operation *o, int64_t first, size_t n) {
  rondo_chunk source;
  _Alignas(64) char buffer[RONDO_CHUNK * 8];
  const void *a = rondo_read_chunk(o->k, &o->a, first, n, o->as, &source);
  void *out = result_place(o, first, buffer);
  if (o->as == RONDO_F32) {
    o->k->unary_f32((rondo_unary)o->op, a, out, n);
  } else if (o->as == RONDO_F64) {
    o->k->unary_f64((rondo_unary)o->op, a, out, n);
  } else {
    rondo_unary_i64((rondo_unary)o->op, o->out_dtype, a, out, n);
  }
  store_result(o, first, out, n);
}

static void unary_piece(void *context, int64_t first, int64_t count, int64_t piece) {
  (void)piece;
  each_chunk(context, first, count, unary_chunk);
}

static void comparison_chunk(operation *o, int64_t first, size_t n) {
  rondo_chunk left, right;
  const void *a = rondo_read_chunk(o->k, &o->a, first, n, o->as, &left);
  const void *b = rondo_read_chunk(o->k, &o->b, first, n, o->as, &right);
  uint8_t *out = (uint8_t *)o->out + first;
  if (o->as == RONDO_F32) {
    o->k->compare_f32((rondo_comparison)o->op, a, b, out, n);
  } else if (o->as == RONDO_F64) {
    o->k->compare_f64((rondo_comparison)o->op, a, b, out, n);
  } else {
    rondo_compare_i64((rondo_comparison)o->op, o->a.dtype == RONDO_U64, a, o->b.dtype == RONDO_U64,
                      b, out, n);
  }
}

static void comparison_piece(void *context, int64_t first, int64_t count, int64_t piece) {
  (void)piece;
  each_chunk(context, first, count, comparison_chunk);
}

/* Choosing copies elements of the computing type, four or eight bytes wide. */
static void choose_u32(const int64_t *restrict mask, const uint32_t *restrict a,
                       const uint32_t *restrict b, uint32_t *restrict out, size_t n) {
  for (size_t i = 0; i < n; i++) out[i] = mask[i] != 0 ? a[i] : b[i];
}

static void choose_u64(const int64_t *restrict mask, const uint64_t *restrict a,
                       const uint64_t *restrict b, uint64_t *restrict out, size_t n) {
  for (size_t i = 0; i < n; i++) out[i] = mask[i] != 0 ? a[i] : b[i];
}

static void choice_chunk(operation *o, int64_t first, size_t n) {
  rondo_chunk left, right, truth;
  _Alignas(64) char buffer[RONDO_CHUNK * 8];
  const void *mask = rondo_read_chunk(o->k, &o->mask, first, n, RONDO_I64, &truth);
  const void *a = rondo_read_chunk(o->k, &o->a, first, n, o->as, &left);
  const void *b = rondo_read_chunk(o->k, &o->b, first, n, o->as, &right);
  void *out = result_place(o, first, buffer);
  if (rondo_dtype_size(o->as) == 4) choose_u32(mask, a, b, out, n);
  if (rondo_dtype_size(o->as) == 8) choose_u64(mask, a, b, out, n);
  store_result(o, first, out, n);
}

static void choice_piece(void *context, int64_t first, int64_t count, int64_t piece) {
  (void)piece;
  each_chunk(context, first, count, choice_chunk);
}

static void prepare(operation *o, const rondo_kernels *k, int op, rondo_dtype as,
                    const rondo_tensor *a, const rondo_tensor *b, const rondo_tensor *out) {
  o->k = k;
  o->op = op;
  o->as = as;
  o->a = *a;
  rondo_tensor_coalesce(&o->a);
  if (b != NULL) {
    o->b = *b;
    rondo_tensor_coalesce(&o->b);
  }
  o->out_dtype = out->dtype;
  o->out = out->data;
  atomic_init(&o->divided_by_zero, false);
}

bool rondo_apply_binary(rondo_pool *pool, const rondo_kernels *k, rondo_binary op,
                        const rondo_tensor *a, const rondo_tensor *b, const rondo_tensor *out) {
  operation o;
  prepare(&o, k, op, rondo_computing_dtype(out->dtype), a, b, out);
  rondo_spread(pool, rondo_tensor_count(out), GRAIN, binary_piece, &o);
  return !atomic_load(&o.divided_by_zero);
}

void rondo_apply_unary(rondo_pool *pool, const rondo_kernels *k, rondo_unary op,
                       const rondo_tensor *a, const rondo_tensor *out) {
  operation o;
  prepare(&o, k, op, rondo_computing_dtype(out->dtype), a, NULL, out);
  rondo_spread(pool, rondo_tensor_count(out), GRAIN, unary_piece, &o);
}

void rondo_apply_comparison(rondo_pool *pool, const rondo_kernels *k, rondo_comparison op,
                            const rondo_tensor *a, const rondo_tensor *b, const rondo_tensor *out) {
  bool floats = rondo_dtype_is_float(a->dtype) && rondo_dtype_is_float(b->dtype);
  bool integers = !rondo_dtype_is_float(a->dtype) && !rondo_dtype_is_float(b->dtype);
  rondo_dtype as = integers ? RONDO_I64
                   : floats ? rondo_computing_dtype(rondo_promote(a->dtype, b->dtype))
                            : RONDO_F64;
  operation o;
  prepare(&o, k, op, as, a, b, out);
  rondo_spread(pool, rondo_tensor_count(out), GRAIN, comparison_piece, &o);
}

void rondo_apply_choice(rondo_pool *pool, const rondo_kernels *k, const rondo_tensor *mask,
                        const rondo_tensor *a, const rondo_tensor *b, const rondo_tensor *out) {
  operation o;
  prepare(&o, k, 0, rondo_computing_dtype(out->dtype), a, b, out);
  o.mask = *mask;
  rondo_tensor_coalesce(&o.mask);
  rondo_spread(pool, rondo_tensor_count(out), GRAIN, choice_piece, &o);
}
