/* scales.c - scales and zero points that follow from ranges, and scales as they are stored.
 * Included by table.c. One rounding per operation; those of the integers and codebooks in the order
 * of the reference functions (neural_compressor.torch.algorithms.rtn), those of affine integers as
 * MLX has them. */

/* Nearest integer, half to even; keeps the sign of a zero. Values of 2^22 and more may come out as
 * a neighbouring integer: callers clamp to at most 16 bits. */
static inline float round_half_even(float x) {
  const float magic = 12582912.0f; /* 1.5 * 2^23 */
  float rounded = (x + magic) - magic;
  return float_of(bits_of(rounded) | (bits_of(x) & 0x80000000u));
}

static inline void symmetric_params(const rondo_grid *grid, float low, float high, float ratio,
                                    float *scale, float *zero) {
  float top = magnitude_of(high), bottom = magnitude_of(low), divisor = grid->divisor;
  float m = larger(top, bottom) * ratio;
  float s = (m == 0 ? 1.0f : m) / divisor;
  s = s == 0 ? 1.0f / divisor : s; /* underflow: a group of zeros */
  *scale = grid->full_range && top > bottom ? -s : s;
  *zero = 0;
}

static inline void asymmetric_params(const rondo_grid *grid, float low, float high, float ratio,
                                     float *scale, float *zero) {
  float bottom = smaller(0, low) * ratio, top = larger(0, high) * ratio, divisor = grid->divisor;
  float s = (top - bottom) / divisor;
  bool none = s == 0; /* all zeros, or an underflow that is treated as such */
  bottom = none ? -1.0f : bottom;
  s = none ? 2.0f / divisor : s;
  *scale = s;
  *zero = round_half_even(-bottom / s);
}

/* Zero points of at least zero_low: where the range lies above, the codes below are left out. */
static inline void bounded_params(const rondo_grid *grid, float low, float high, float ratio,
                                  float *scale, float *zero) {
  asymmetric_params(grid, low, high, ratio, scale, zero);
  bool below = *zero < grid->zero_low;
  float s = larger(0, high) * ratio / (grid->divisor - grid->zero_low);
  *scale = below ? s : *scale;
  *zero = below ? grid->zero_low : *zero;
}

static inline void magnitude_params(const rondo_grid *grid, float low, float high, float ratio,
                                    float *scale, float *zero) {
  *scale = larger(magnitude_of(high), magnitude_of(low)) * ratio / grid->divisor;
  *zero = 0;
}

/* Nearest integer of any value, half to even. */
static inline float nearest_integer(float x) {
  float magnitude = magnitude_of(x), rounded = (magnitude + 0x1p23f) - 0x1p23f;
  rounded = magnitude < 0x1p23f ? rounded : magnitude;
  return float_of(bits_of(rounded) | (bits_of(x) & 0x80000000u));
}

/* MLX's rule for affine integers: the end of the range that is farther from 0 is a value of the
 * grid, and so is 0, unless it lies too far away; zero is the value of code 0. */
static inline void affine_params(const rondo_grid *grid, float low, float high, float ratio,
                                 float *scale, float *zero) {
  float bottom = low * ratio, top = high * ratio;
  float s = larger((top - bottom) / grid->divisor, 1e-7f);
  bool below = magnitude_of(bottom) > magnitude_of(top);
  float edge = below ? bottom : top;
  s = below ? s : -s;
  float code = nearest_integer(edge / s);
  *scale = code != 0 ? edge / code : s;
  *zero = code != 0 ? edge : 0;
}

/* ranges: low[i], high[i] with one ratio (step 1, 0), or one range with ratio[i] (0, 1). */
#define PARAMS_BY(kind_params)                                                                    \
  for (size_t i = 0; i < count; i++) {                                                            \
    kind_params(grid, low[i * ranges], high[i * ranges], ratio[i * ratios], scale + i, zero + i); \
  }
TEMPLATE void params_by(const rondo_grid *grid, const float *low, const float *high,
                        const float *ratio, size_t ranges, size_t ratios, size_t count,
                        float *restrict scale, float *restrict zero) {
  switch (grid->kind) {
  case RONDO_SYMMETRIC:
    PARAMS_BY(symmetric_params)
    break;
  case RONDO_ASYMMETRIC:
    if (grid->zero_low == 0) {
      PARAMS_BY(asymmetric_params)
    } else {
      PARAMS_BY(bounded_params)
    }
    break;
  case RONDO_AFFINE:
    PARAMS_BY(affine_params)
    break;
  default:
    PARAMS_BY(magnitude_params)
    break;
  }
}

KERNEL void params_of(const rondo_grid *grid, const float *low, const float *high, size_t count,
                      const float *ratio, bool one_ratio, float *scale, float *zero) {
  if (one_ratio) {
    params_by(grid, low, high, ratio, 1, 0, count, scale, zero);
  } else {
    params_by(grid, low, high, ratio, 1, 1, count, scale, zero);
  }
}

/* ---- Scales as they are stored ---- */

/* The power of two by the OCP rule: floor(log2(largest)) - floor(log2(divisor)) is the exponent,
 * largest = scale * divisor; from 2^-127 to 2^127. mantissa: the divisor's, 1 .. 2. */
static inline float power_of_two(float scale, float mantissa) {
  uint32_t bits = bits_of(scale), magnitude = bits & 0x7fffffffu;
  uint32_t power = bits_of(float_of(magnitude) * mantissa) & 0x7f800000u;
  power = power == 0 ? 0x00400000u : power;
  power = power > 0x7f000000u ? 0x7f000000u : power;
  power = magnitude < 0x7f800000u ? power : magnitude;
  return float_of(power | (bits & 0x80000000u));
}

/* A scale over the tensor's own, as E4M3 holds it: what is too large is the largest, what is not 0
 * does not become so. Rounds as e4m3_round in quant.c does. */
static inline float over_factor(float scale, float factor) {
  float x = scale / factor, magnitude = smaller(448.0f, magnitude_of(x));
  float power = larger(0x1p-6f, float_of(bits_of(magnitude) & 0x7f800000u)),
        magic = power * 0x1p20f;
  float rounded = larger(0x1p-9f, (magnitude + magic) - magic);
  rounded = scale == 0 ? 0 : rounded;
  return float_of(bits_of(rounded) | (bits_of(x) & 0x80000000u));
}

KERNEL void powers_of_two(const rondo_grid *grid, const float *scale, size_t n, float *stored) {
  float mantissa = float_of((bits_of(grid->divisor) & 0x007fffffu) | 0x3f800000u);
  for (size_t i = 0; i < n; i++) stored[i] = power_of_two(scale[i], mantissa);
}

static void f16_rounded(const float *x, size_t n, float *stored) {
  uint16_t half[RONDO_ERROR_BLOCK];
  f16_from_f32(x, half, n);
  f16_to_f32(half, stored, n);
}

static void bf16_rounded(const float *x, size_t n, float *stored) {
  uint16_t half[RONDO_ERROR_BLOCK];
  bf16_from_f32(x, half, n);
  bf16_to_f32(half, stored, n);
}

static void e4m3_rounded(const float *x, size_t n, float *stored) {
  uint8_t byte[RONDO_ERROR_BLOCK];
  e4m3_from_f32(x, byte, n);
  e4m3_to_f32(byte, stored, n);
}

/* An infinite scale stays infinite. */
KERNEL void factored(float factor, const float *scale, size_t n, float *stored) {
  for (size_t i = 0; i < n; i++) {
    float found = over_factor(scale[i], factor) * factor;
    stored[i] = magnitude_of(scale[i]) < INFINITY ? found : INFINITY;
  }
}

KERNEL void stored_scales(const rondo_grid *grid, rondo_storage storage, const float *scale,
                          size_t n, float *stored) {
  for (size_t at = 0; at < n; at += RONDO_ERROR_BLOCK) {
    size_t m = n - at < RONDO_ERROR_BLOCK ? n - at : RONDO_ERROR_BLOCK;
    if (storage.factor != 0) {
      factored(storage.factor, scale + at, m, stored + at);
    } else if (storage.dtype == RONDO_F8_E8M0) {
      powers_of_two(grid, scale + at, m, stored + at);
    } else if (storage.dtype == RONDO_F8_E4M3) {
      e4m3_rounded(scale + at, m, stored + at);
    } else if (storage.dtype == RONDO_F16) {
      f16_rounded(scale + at, m, stored + at);
    } else if (storage.dtype == RONDO_BF16) {
      bf16_rounded(scale + at, m, stored + at);
    } else {
      memmove(stored + at, scale + at, m * sizeof *stored);
    }
  }
}

/* The reference's zero point, but on a scale that has been rounded; where it was rounded to 0, the
 * largest. A range of zeros keeps the zero point that it has. ranges, ratios: as in params_by. */
TEMPLATE void zeros_by(const rondo_grid *grid, const float *low, const float *high,
                       const float *ratio, size_t ranges, size_t ratios, size_t count,
                       const float *scale, float *restrict zero) {
  const float most = grid->high;
  for (size_t i = 0; i < count; i++) {
    float bottom = low[i * ranges], top = high[i * ranges], kept = zero[i];
    float x = larger(0, -bottom) * ratio[i * ratios] / scale[i];
    float found = larger(grid->zero_low, round_half_even(x < most ? x : most));
    zero[i] = (bottom < 0) | (top > 0) ? found : kept;
  }
}

KERNEL void zeros_on(const rondo_grid *grid, const float *low, const float *high, size_t count,
                     const float *ratio, bool one_ratio, const float *scale, float *zero) {
  if (one_ratio) {
    zeros_by(grid, low, high, ratio, 1, 0, count, scale, zero);
  } else {
    zeros_by(grid, low, high, ratio, 1, 1, count, scale, zero);
  }
}

/* ---- Inverses ---- */

/* A quotient is found by its inverse where nothing on the way can under- or overflow, and the codes
 * are small enough for the proof of quant.c: scales of 2^-60 to 2^60, values up to 2^28 times that
 * (as integers, which compilers turn into vectors). A scale of 0 (a codebook's group of zeros, or
 * one that was rounded to 0, or given) has the inverse 0. */
KERNEL bool inverses(const rondo_grid *grid, const float *scale, const float *low,
                     const float *high, size_t count, float *restrict inverse) {
  const uint32_t least = (127 - 60) << 23, most = (127 + 60) << 23, room = 28 << 23;
  const uint32_t wide = grid->bits > 8 ? UINT32_MAX : 0;
  for (size_t i = 0; i < count; i++) {
    uint32_t magnitude = bits_of(scale[i]) & 0x7fffffffu;
    uint32_t a = bits_of(low[i]) & 0x7fffffffu, b = bits_of(high[i]) & 0x7fffffffu;
    uint32_t largest = a > b ? a : b;
    uint32_t unsafe = magnitude < least ? UINT32_MAX : wide;
    unsafe = magnitude > most ? UINT32_MAX : unsafe;
    unsafe = largest > magnitude + room ? UINT32_MAX : unsafe;
    unsafe = magnitude == 0 ? 0 : unsafe;
    float found = 1.0f / scale[i];
    uint32_t bits = magnitude == 0 ? 0 : bits_of(found);
    inverse[i] = float_of(bits | (unsafe & 0x7fc00000u));
  }
  return largest_magnitude(inverse, count) < 0x7f800000u;
}
