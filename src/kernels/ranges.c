/* ranges.c - ranges of groups and of columns.
 * Included by table.c.
 *
 * Floats are compared as integers: key(bits) turns sign and magnitude into two's complement, which
 * keeps the order, sorts -NaN below -infinity and NaN above infinity, and works on 16-bit floats as
 * they stand. -0 comes before +0. */
#include <math.h>

/* Entry points, and loops that are to be seen in a disassembly: one body each. */
#if defined(__clang__)
#define KERNEL static __attribute__((noinline))
#else
#define KERNEL static __attribute__((noinline, noclone))
#endif
#define TEMPLATE static inline __attribute__((always_inline))

static inline float magnitude_of(float x) {
  return float_of(bits_of(x) & 0x7fffffffu);
}

static inline float smaller(float a, float b) {
  return b < a ? b : a;
}

static inline float larger(float a, float b) {
  return b > a ? b : a;
}

static inline int16_t key_of_half(int16_t bits) {
  return (int16_t)(bits ^ ((bits >> 15) & 0x7fff));
}

static inline int32_t key_of_word(int32_t bits) {
  return bits ^ ((bits >> 31) & 0x7fffffff);
}

/* Value i of an array of f32, f16 or bf16. */
static inline float widened(rondo_dtype dtype, const void *x, size_t i) {
  const unsigned char *bytes = x;
  float value;
  if (dtype == RONDO_F32) {
    memcpy(&value, bytes + 4 * i, sizeof value);
    return value;
  }
  uint32_t bits = load_u16(bytes, i);
  if (dtype == RONDO_BF16) return float_of(bits << 16);
  return widen(bits & 0x7fff, bits >> 15, 10, 15, 0x7c00);
}

typedef struct {
  int32_t low, high;
} key_range;

static inline key_range scalar_halves(const unsigned char *x, size_t n) {
  int16_t low = INT16_MAX, high = INT16_MIN;
  for (size_t i = 0; i < n; i++) {
    int16_t key = key_of_half((int16_t)load_u16(x, i));
    low = key < low ? key : low;
    high = key > high ? key : high;
  }
  return (key_range){low, high};
}

static inline key_range scalar_words(const unsigned char *x, size_t n) {
  int32_t low = INT32_MAX, high = INT32_MIN;
  for (size_t i = 0; i < n; i++) {
    int32_t bits;
    memcpy(&bits, x + 4 * i, sizeof bits);
    int32_t key = key_of_word(bits);
    low = key < low ? key : low;
    high = key > high ? key : high;
  }
  return (key_range){low, high};
}

/* The vector bodies begin with the last values, some of which they read twice where n is no
 * multiple of their width. */
#if defined(V_HAS_RAW)
static inline key_range range_of_halves(const unsigned char *x, size_t n) {
  if (n < RAW_HALVES) return scalar_halves(x, n);
  vraw low = raw_key16(raw_load(x + 2 * (n - RAW_HALVES))), high = low;
  for (size_t i = 0; i + RAW_HALVES < n; i += RAW_HALVES) {
    vraw key = raw_key16(raw_load(x + 2 * i));
    low = raw_min16(low, key);
    high = raw_max16(high, key);
  }
  return (key_range){raw_fold_min16(low), raw_fold_max16(high)};
}

static inline key_range range_of_words(const unsigned char *x, size_t n) {
  if (n < RAW_HALVES / 2) return scalar_words(x, n);
  vraw low = raw_key32(raw_load(x + 4 * (n - RAW_HALVES / 2))), high = low;
  for (size_t i = 0; i + RAW_HALVES / 2 < n; i += RAW_HALVES / 2) {
    vraw key = raw_key32(raw_load(x + 4 * i));
    low = raw_min32(low, key);
    high = raw_max32(high, key);
  }
  return (key_range){raw_fold_min32(low), raw_fold_max32(high)};
}
#else
static inline key_range range_of_halves(const unsigned char *x, size_t n) {
  return scalar_halves(x, n);
}

static inline key_range range_of_words(const unsigned char *x, size_t n) {
  return scalar_words(x, n);
}
#endif

static inline uint32_t bits_of_key(rondo_dtype dtype, int32_t key) {
  if (dtype == RONDO_F32) return (uint32_t)key_of_word(key);
  uint32_t bits = (uint32_t)(key ^ (key >> 31 & 0x7fff)) & 0xffffu;
  if (dtype == RONDO_BF16) return bits << 16;
  return bits_of(widen(bits & 0x7fff, bits >> 15, 10, 15, 0x7c00));
}

/* Turns keys into floats; returns the largest magnitude as bits, or `largest`. */
TEMPLATE uint32_t floats_of_keys(rondo_dtype dtype, const int32_t *restrict keys, size_t n,
                                 uint32_t largest, float *restrict out) {
  for (size_t i = 0; i < n; i++) {
    uint32_t bits = bits_of_key(dtype, keys[i]), magnitude = bits & 0x7fffffffu;
    largest = magnitude > largest ? magnitude : largest;
    out[i] = float_of(bits);
  }
  return largest;
}

TEMPLATE bool ranges_as(rondo_dtype dtype, const void *x, size_t n, size_t group, float *low,
                        float *high) {
  enum { GROUPS = 64 };
  const unsigned char *values = x;
  size_t size = dtype == RONDO_F32 ? 4 : 2;
  uint32_t largest = 0;
  for (size_t at = 0; at < n;) {
    int32_t lows[GROUPS], highs[GROUPS];
    size_t count = 0;
    for (; count < GROUPS && at < n; at += group, count++) {
      size_t m = n - at < group ? n - at : group;
      const unsigned char *first = values + at * size;
      key_range range = size == 4 ? range_of_words(first, m) : range_of_halves(first, m);
      lows[count] = range.low;
      highs[count] = range.high;
    }
    largest = floats_of_keys(dtype, lows, count, largest, low);
    largest = floats_of_keys(dtype, highs, count, largest, high);
    low += count;
    high += count;
  }
  return largest < 0x7f800000u;
}

KERNEL bool group_ranges(rondo_dtype dtype, const void *x, size_t n, size_t group, float *low,
                         float *high) {
  if (dtype == RONDO_BF16) return ranges_as(RONDO_BF16, x, n, group, low, high);
  if (dtype == RONDO_F16) return ranges_as(RONDO_F16, x, n, group, low, high);
  return ranges_as(RONDO_F32, x, n, group, low, high);
}

/* 0 * x is NaN for what is not finite, and stays so in a sum. */
TEMPLATE bool columns_as(rondo_dtype dtype, const void *x, size_t n, float *low, float *high) {
  vf poison = v_set(0);
  size_t i = 0;
  for (; i + WIDTH <= n; i += WIDTH) {
    vf v = v_widen(dtype, x, i);
    v_store(low + i, v_min(v, v_load(low + i)));
    v_store(high + i, v_max(v, v_load(high + i)));
    poison = poison + v * v_set(0);
  }
  float lane[WIDTH], sum = 0;
  v_store(lane, poison);
  for (int l = 0; l < WIDTH; l++) sum += lane[l];
  for (; i < n; i++) {
    float v = widened(dtype, x, i);
    low[i] = v < low[i] ? v : low[i];
    high[i] = v > high[i] ? v : high[i];
    sum += v * 0;
  }
  return sum == 0;
}

KERNEL bool column_ranges(rondo_dtype dtype, const void *x, size_t n, float *low, float *high) {
  if (dtype == RONDO_BF16) return columns_as(RONDO_BF16, x, n, low, high);
  if (dtype == RONDO_F16) return columns_as(RONDO_F16, x, n, low, high);
  return columns_as(RONDO_F32, x, n, low, high);
}

KERNEL uint32_t largest_magnitude(const float *restrict x, size_t n) {
  uint32_t largest = 0;
  for (size_t i = 0; i < n; i++) {
    uint32_t magnitude = bits_of(x[i]) & 0x7fffffffu;
    largest = magnitude > largest ? magnitude : largest;
  }
  return largest;
}
