/* convert.c - floating types to f32 and back, on the bits, so that every table agrees.
 * Included by table.c. Small-float formulas: shift the magnitude into f32's fields and multiply by
 * a power of two, which also handles subnormals (Fabian Giesen's half-float notes). */
#include <string.h>

static inline uint32_t bits_of(float x) {
  uint32_t u;
  memcpy(&u, &x, sizeof u);
  return u;
}

static inline float float_of(uint32_t u) {
  float x;
  memcpy(&x, &u, sizeof x);
  return x;
}

/* A float with E exponent bits and M mantissa bits under its sign bit, as f32 (exact). top: the
 * magnitude bits from which on values are infinite or NaN; they keep their payload. */
static inline float widen(uint32_t magnitude, uint32_t sign, int mantissa, int bias, uint32_t top) {
  float scale = float_of((uint32_t)(127 + 127 - bias) << 23);
  float finite = float_of(magnitude << (23 - mantissa)) * scale;
  uint32_t special = 0x7f800000u | (magnitude << (23 - mantissa));
  return float_of((magnitude >= top ? special : bits_of(finite)) | sign << 31);
}

/* The reverse, of magnitudes that do not overflow: magnitude bits of x rounded half to even. */
static inline uint32_t narrow_finite(uint32_t magnitude, int mantissa, int bias) {
  int shift = 23 - mantissa;
  uint32_t odd = magnitude >> shift & 1;
  uint32_t rebased = magnitude - ((uint32_t)(127 - bias) << 23);
  uint32_t normal = (rebased + ((1u << (shift - 1)) - 1) + odd) >> shift;
  /* Below the smallest normal: adding this power of two makes the adder round at the right bit. */
  uint32_t smallest = (uint32_t)(127 - bias + 1) << 23;
  float magic = float_of((uint32_t)(127 - bias + 1 + shift) << 23);
  uint32_t subnormal = bits_of(float_of(magnitude) + magic) - bits_of(magic);
  return magnitude < smallest ? subnormal : normal;
}

/* Of all. infinity: the magnitude for overflow; nan: the one for NaN; overflow: f32 bits from which
 * on the rounded result overflows. */
static inline uint32_t narrow(uint32_t magnitude, int mantissa, int bias, uint32_t infinity,
                              uint32_t nan, uint32_t overflow) {
  uint32_t finite = narrow_finite(magnitude, mantissa, bias);
  uint32_t result = magnitude >= overflow ? infinity : finite;
  return magnitude > 0x7f800000u ? nan : result;
}

static void f32_to_f32(const void *source, float *restrict target, size_t n) {
  memcpy(target, source, n * sizeof *target);
}

static void f32_from_f32(const float *restrict source, void *target, size_t n) {
  memcpy(target, source, n * sizeof *source);
}

static void f64_to_f32(const void *source, float *restrict target, size_t n) {
  const unsigned char *bytes = source;
  for (size_t i = 0; i < n; i++) {
    double x;
    memcpy(&x, bytes + i * sizeof x, sizeof x);
    target[i] = (float)x;
  }
}

static void f64_from_f32(const float *restrict source, void *target, size_t n) {
  double *restrict out = target;
  for (size_t i = 0; i < n; i++) out[i] = source[i];
}

static inline uint16_t load_u16(const unsigned char *bytes, size_t i) {
  uint16_t u;
  memcpy(&u, bytes + 2 * i, sizeof u);
  return u;
}

static void bf16_to_f32(const void *source, float *restrict target, size_t n) {
  for (size_t i = 0; i < n; i++) target[i] = float_of((uint32_t)load_u16(source, i) << 16);
}

static void bf16_from_f32(const float *restrict source, void *target, size_t n) {
  uint16_t *restrict out = target;
  for (size_t i = 0; i < n; i++) {
    uint32_t u = bits_of(source[i]);
    uint32_t rounded = (u + 0x7fffu + (u >> 16 & 1)) >> 16;
    uint32_t quiet = u >> 16 | 0x40u;
    out[i] = (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
  }
}

static void f16_to_f32(const void *source, float *restrict target, size_t n) {
  for (size_t i = 0; i < n; i++) {
    uint32_t h = load_u16(source, i);
    target[i] = widen(h & 0x7fff, h >> 15, 10, 15, 0x7c00);
  }
}

static void f16_from_f32(const float *restrict source, void *target, size_t n) {
  uint16_t *restrict out = target;
  size_t i = 0;
#if defined(V_HAS_TO_F16)
  for (; i + WIDTH <= n; i += WIDTH) v_to_f16(out + i, v_load(source + i));
#endif
  for (; i < n; i++) {
    uint32_t u = bits_of(source[i]), magnitude = u & 0x7fffffffu;
    uint32_t nan = 0x7e00u | (magnitude >> 13 & 0x3ffu);
    out[i] = (uint16_t)(narrow(magnitude, 10, 15, 0x7c00, nan, 0x477ff000u) | u >> 31 << 15);
  }
}

static inline float e4m3_value(uint32_t bits) {
  uint32_t sign = bits >> 7 << 31;
  float finite = widen(bits & 0x7f, bits >> 7, 3, 7, 0x80);
  return (bits & 0x7f) == 0x7f ? float_of(0x7fc00000u | sign) : finite;
}

static void e4m3_to_f32(const void *source, float *restrict target, size_t n) {
  const unsigned char *bytes = source;
  for (size_t i = 0; i < n; i++) target[i] = e4m3_value(bytes[i]);
}

static void e4m3_from_f32(const float *restrict source, void *target, size_t n) {
  uint8_t *restrict out = target;
  for (size_t i = 0; i < n; i++) {
    uint32_t u = bits_of(source[i]);
    uint32_t magnitude = u & 0x7fffffffu;
    /* 0x43e80000 is 464: it lies half way to 480, which the format cannot hold; the tie goes to
     * 448, whose mantissa is even. All ones is NaN, for infinities, too; by a mask, since compilers
     * make branches of two choices of the same constant. */
    uint32_t nan = 0u - (uint32_t)(magnitude > 0x43e80000u);
    magnitude = (narrow_finite(magnitude, 3, 7) | nan) & 0x7fu;
    out[i] = (uint8_t)(magnitude | u >> 31 << 7);
  }
}

static void e5m2_to_f32(const void *source, float *restrict target, size_t n) {
  const unsigned char *bytes = source;
  for (size_t i = 0; i < n; i++) {
    uint32_t b = bytes[i];
    target[i] = widen(b & 0x7f, b >> 7, 2, 15, 0x7c);
  }
}

static void e5m2_from_f32(const float *restrict source, void *target, size_t n) {
  uint8_t *restrict out = target;
  for (size_t i = 0; i < n; i++) {
    uint32_t u = bits_of(source[i]), magnitude = u & 0x7fffffffu;
    uint32_t nan = 0x7eu | (magnitude >> 21 & 0x3u);
    out[i] = (uint8_t)(narrow(magnitude, 2, 15, 0x7c, nan, 0x47700000u) | u >> 31 << 7);
  }
}
