/* element.c - element types into each other.
 *
 * Rounding once: a value on its way to a type narrower than f32 may pass through f64 or f32 only
 * "rounded to odd" (truncated, the last bit set when anything was cut off). Two bits more than the
 * target has are enough for the second rounding to see every tie and every excess. */
#include "core/element.h"

#include "core/dtype.h"

#include <string.h>

enum { CHUNK = 512 };

/* One loop for a source type T: value is its name in the expression. */
#define EACH(T, expression)                                 \
  for (size_t i = 0; i < n; i++) {                          \
    T value;                                                \
    memcpy(&value, bytes + i * sizeof value, sizeof value); \
    target[i] = (expression);                               \
  }                                                         \
  break

/* The loops over the integer types and bool, as cases of a switch. */
#define EACH_INTEGER(expression)     \
  case RONDO_I8:                     \
    EACH(int8_t, expression);        \
  case RONDO_U8:                     \
    EACH(uint8_t, expression);       \
  case RONDO_I16:                    \
    EACH(int16_t, expression);       \
  case RONDO_U16:                    \
    EACH(uint16_t, expression);      \
  case RONDO_I32:                    \
    EACH(int32_t, expression);       \
  case RONDO_U32:                    \
    EACH(uint32_t, expression);      \
  case RONDO_I64:                    \
    EACH(int64_t, expression);       \
  case RONDO_U64:                    \
    EACH(uint64_t, expression);      \
  case RONDO_BOOL:                   \
    for (size_t i = 0; i < n; i++) { \
      int value = bytes[i] != 0;     \
      target[i] = (expression);      \
    }                                \
    break

static bool small_float(rondo_dtype dtype) {
  return rondo_dtype_is_float(dtype) && dtype != RONDO_F64;
}

void rondo_load_f32(const rondo_kernels *k, rondo_dtype from, const void *source, float *target,
                    size_t n) {
  const unsigned char *bytes = source;
  switch (from) {
    EACH_INTEGER((float)value);
  default:
    k->to_f32[from](source, target, n);
  }
}

void rondo_load_f64(const rondo_kernels *k, rondo_dtype from, const void *source, double *target,
                    size_t n) {
  const unsigned char *bytes = source;
  float narrow[CHUNK];
  size_t size = rondo_dtype_size(from);
  switch (from) {
    EACH_INTEGER((double)value);
  case RONDO_F64:
    memcpy(target, source, n * sizeof *target);
    break;
  default:
    for (size_t done = 0; done < n; done += CHUNK) {
      size_t count = n - done < CHUNK ? n - done : CHUNK;
      k->to_f32[from](bytes + done * size, narrow, count);
      for (size_t i = 0; i < count; i++) target[done + i] = narrow[i];
    }
  }
}

static inline int64_t clamp_f64(double x) {
  double rounded = rondo_round_even(x);
  if (rounded >= 0x1p63) return INT64_MAX;
  if (rounded < -0x1p63) return INT64_MIN;
  return x == x ? (int64_t)rounded : 0;
}

static inline uint64_t clamp_f64_u64(double x) {
  double rounded = rondo_round_even(x);
  if (rounded >= 0x1p64) return UINT64_MAX;
  return rounded > 0 ? (uint64_t)rounded : 0; /* NaN compares false */
}

void rondo_load_i64(const rondo_kernels *k, rondo_dtype from, const void *source, int64_t *target,
                    size_t n) {
  const unsigned char *bytes = source;
  double wide[CHUNK];
  size_t size = rondo_dtype_size(from);
  switch (from) {
    EACH_INTEGER((int64_t)value);
  default:
    for (size_t done = 0; done < n; done += CHUNK) {
      size_t count = n - done < CHUNK ? n - done : CHUNK;
      rondo_load_f64(k, from, bytes + done * size, wide, count);
      for (size_t i = 0; i < count; i++) target[done + i] = clamp_f64(wide[i]);
    }
  }
}

void rondo_integer_range(rondo_dtype dtype, int64_t *low, int64_t *high) {
  unsigned bits = rondo_dtype_bits(dtype);
  bool is_signed =
      dtype == RONDO_I8 || dtype == RONDO_I16 || dtype == RONDO_I32 || dtype == RONDO_I64;
  if (dtype == RONDO_BOOL) bits = 1;
  *low = is_signed ? INT64_MIN >> (64 - bits) : 0;
  *high = (int64_t)(UINT64_MAX >> (64 - bits + is_signed));
}

#define STORE(T, S)                                          \
  do {                                                       \
    T *restrict out = target;                                \
    for (size_t i = 0; i < n; i++) out[i] = (T)(S)source[i]; \
  } while (0)

void rondo_store_wrapped(rondo_dtype to, const int64_t *source, void *target, size_t n) {
  switch (rondo_dtype_size(to)) {
  case 1:
    STORE(uint8_t, uint64_t);
    break;
  case 2:
    STORE(uint16_t, uint64_t);
    break;
  case 4:
    STORE(uint32_t, uint64_t);
    break;
  default:
    memcpy(target, source, n * sizeof *source);
  }
}

/* The largest magnitude of x's value in 24 bits, odd when inexact; infinity and NaN as they are. */
static inline float odd_f32(double x) {
  float nearest = (float)x;
  uint32_t u;
  memcpy(&u, &nearest, sizeof u);
  bool exact = nearest == x || x != x;
  u -= !exact && __builtin_fabs((double)nearest) > __builtin_fabs(x);
  u |= !exact;
  memcpy(&nearest, &u, sizeof u);
  return nearest;
}

static inline double odd_f64(uint64_t magnitude, bool negative) {
  int excess = 11 - __builtin_clzll(magnitude | 1); /* bits beyond 53 */
  uint64_t kept = magnitude;
  double scale = 1;
  if (excess > 0) {
    uint64_t cut = magnitude & ((1ull << excess) - 1);
    kept = magnitude >> excess | (cut != 0);
    scale = (double)(1ull << excess);
  }
  double x = (double)kept * scale;
  return negative ? -x : x;
}

static void odd_integers(rondo_dtype from, const unsigned char *bytes, double *target, size_t n) {
  for (size_t i = 0; i < n; i++) {
    uint64_t u;
    memcpy(&u, bytes + i * sizeof u, sizeof u);
    bool negative = from == RONDO_I64 && u >> 63 != 0;
    target[i] = odd_f64(negative ? 0 - u : u, negative);
  }
}

static void f64_to_integers(const double *restrict source, rondo_dtype to, void *target, size_t n) {
  int64_t low, high, clamped[CHUNK];
  if (to == RONDO_U64) {
    uint64_t *out = target;
    for (size_t i = 0; i < n; i++) out[i] = clamp_f64_u64(source[i]);
    return;
  }
  rondo_integer_range(to, &low, &high);
  for (size_t i = 0; i < n; i++) {
    int64_t x = clamp_f64(source[i]);
    clamped[i] = x < low ? low : x > high ? high : x;
  }
  rondo_store_wrapped(to, clamped, target, n);
}

/* At most CHUNK elements, of which source holds values to be rounded once more. */
static void store_f64(const rondo_kernels *k, const double *restrict source, rondo_dtype to,
                      void *target, size_t n) {
  float narrow[CHUNK];
  if (to == RONDO_F64) {
    memcpy(target, source, n * sizeof *source);
  } else if (to == RONDO_F32) {
    float *restrict out = target;
    for (size_t i = 0; i < n; i++) out[i] = (float)source[i];
  } else if (rondo_dtype_is_float(to)) {
    for (size_t i = 0; i < n; i++) narrow[i] = odd_f32(source[i]);
    k->from_f32[to](narrow, target, n);
  } else if (to == RONDO_BOOL) {
    uint8_t *restrict out = target;
    for (size_t i = 0; i < n; i++) out[i] = source[i] != 0;
  } else {
    f64_to_integers(source, to, target, n);
  }
}

/* Integers and bools into each other, at most CHUNK. */
static void integers(const rondo_kernels *k, rondo_dtype from, const void *source, rondo_dtype to,
                     void *target, size_t n) {
  int64_t values[CHUNK], low, high;
  rondo_load_i64(k, from, source, values, n);
  rondo_integer_range(to, &low, &high);
  for (size_t i = 0; i < n; i++) {
    int64_t x = values[i];
    if (from == RONDO_U64) {
      values[i] = (uint64_t)x > (uint64_t)high ? high : x;
    } else if (to == RONDO_U64) {
      values[i] = x < 0 ? 0 : x;
    } else if (to == RONDO_BOOL) {
      values[i] = x != 0;
    } else {
      values[i] = x < low ? low : x > high ? high : x;
    }
  }
  rondo_store_wrapped(to, values, target, n);
}

static void convert_chunk(const rondo_kernels *k, rondo_dtype from, const void *source,
                          rondo_dtype to, void *target, size_t n) {
  float narrow[CHUNK];
  double wide[CHUNK];
  if (!rondo_dtype_is_float(from) && !rondo_dtype_is_float(to)) {
    integers(k, from, source, to, target, n);
  } else if (small_float(from) && small_float(to)) {
    k->to_f32[from](source, narrow, n);
    k->from_f32[to](narrow, target, n);
  } else {
    bool odd = (from == RONDO_I64 || from == RONDO_U64) && to != RONDO_F64;
    if (odd) odd_integers(from, source, wide, n);
    if (!odd) rondo_load_f64(k, from, source, wide, n);
    store_f64(k, wide, to, target, n);
  }
}

void rondo_convert(const rondo_kernels *k, rondo_dtype from, const void *source, rondo_dtype to,
                   void *target, size_t n) {
  size_t source_size = rondo_dtype_size(from), target_size = rondo_dtype_size(to);
  if (from == to && from != RONDO_BOOL) {
    if (n > 0) memcpy(target, source, n * source_size);
  } else if (to == RONDO_F32 && small_float(from)) {
    k->to_f32[from](source, target, n);
  } else {
    for (size_t done = 0; done < n; done += CHUNK) {
      convert_chunk(k, from, (const char *)source + done * source_size, to,
                    (char *)target + done * target_size, n - done < CHUNK ? n - done : CHUNK);
    }
  }
}
