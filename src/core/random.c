/* random.c - random numbers with the same bits on every machine. */
#include "core/random.h"

#include "core/dtype.h"
#include "core/element.h"
#include "core/spread.h"
#include "core/tensor.h"
#include "kernels/elementary.h"

enum { CHUNK = 256 };

static uint64_t rotate(uint64_t x, int bits) {
  return x << bits | x >> (64 - bits);
}

static uint64_t next(rondo_random *r) {
  uint64_t *s = r->s, result = rotate(s[0] + s[3], 23) + s[0], shifted = s[1] << 17;
  s[2] ^= s[0];
  s[3] ^= s[1];
  s[1] ^= s[2];
  s[0] ^= s[3];
  s[2] ^= shifted;
  s[3] = rotate(s[3], 45);
  return result;
}

void rondo_random_seed(rondo_random *r, uint64_t seed) {
  for (int i = 0; i < 4; i++) {
    uint64_t z = seed += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    r->s[i] = z ^ z >> 31;
  }
  r->has_spare = false;
}

typedef struct {
  rondo_random *random;
  const rondo_kernels *k;
  const rondo_tensor *t;
} filling;

static void store(const filling *f, int64_t first, const double *values, int64_t n) {
  char *place = (char *)f->t->data + (size_t)first * rondo_dtype_size(f->t->dtype);
  rondo_convert(f->k, RONDO_F64, values, f->t->dtype, place, (size_t)n);
}

static void uniform_piece(void *context, int64_t first, int64_t count, int64_t piece) {
  (void)piece;
  /* The digits of each type, its leading one included. */
  static const int digits[] = {[RONDO_F64] = 53, [RONDO_F32] = 24,    [RONDO_F16] = 11,
                               [RONDO_BF16] = 8, [RONDO_F8_E4M3] = 4, [RONDO_F8_E5M2] = 3};
  const filling *f = context;
  int bits = digits[f->t->dtype];
  double values[CHUNK], unit = 1.0 / (double)(1ull << bits);
  for (int64_t i = 0; i < count; i++) {
    values[i] = (double)(next(f->random) >> (64 - bits)) * unit;
  }
  store(f, first, values, count);
}

/* Uniform from -1 to 1. */
static double signed_unit(rondo_random *r) {
  return (double)(next(r) >> 11) * 0x1p-52 - 1;
}

static double normal(rondo_random *r) {
  if (r->has_spare) {
    r->has_spare = false;
    return r->spare;
  }
  double x, y, square;
  do {
    x = signed_unit(r);
    y = signed_unit(r);
    square = x * x + y * y;
  } while (square >= 1 || square == 0);
  double scale = __builtin_sqrt(-2 * rondo_log(square) / square);
  r->has_spare = true;
  r->spare = y * scale;
  return x * scale;
}

static void normal_piece(void *context, int64_t first, int64_t count, int64_t piece) {
  (void)piece;
  const filling *f = context;
  double values[CHUNK];
  for (int64_t i = 0; i < count; i++) values[i] = normal(f->random);
  store(f, first, values, count);
}

void rondo_fill_uniform(rondo_random *r, const rondo_kernels *k, const rondo_tensor *t) {
  filling f = {r, k, t};
  rondo_spread(NULL, rondo_tensor_count(t), CHUNK, uniform_piece, &f);
}

void rondo_fill_normal(rondo_random *r, const rondo_kernels *k, const rondo_tensor *t) {
  filling f = {r, k, t};
  rondo_spread(NULL, rondo_tensor_count(t), CHUNK, normal_piece, &f);
}
