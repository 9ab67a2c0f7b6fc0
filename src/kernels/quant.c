/* quant.c - number grids over groups of f32 values: range, scale, codes, loss.
 * Included by table.c. One rounding per operation, in the order of the reference functions
 * (neural_compressor.torch.algorithms.rtn); division where the reference divides. */

enum { LANES = 16 }; /* sums run in this many lanes, folded in a fixed order, on every machine */

static inline float smaller(float a, float b) {
  return b < a ? b : a;
}

static inline float larger(float a, float b) {
  return b > a ? b : a;
}

static inline float magnitude_of(float x) {
  return float_of(bits_of(x) & 0x7fffffffu);
}

/* Nearest integer, half to even; keeps the sign of a zero. Values of 2^22 and more may come out as
 * a neighbouring integer: callers clamp to at most 16 bits. */
static inline float round_half_even(float x) {
  const float magic = 12582912.0f; /* 1.5 * 2^23 */
  float rounded = (x + magic) - magic;
  return float_of(bits_of(rounded) | (bits_of(x) & 0x80000000u));
}

static inline float clamp(float x, float low, float high) {
  return x < low ? low : x > high ? high : x;
}

static double fold_lanes(const double *lane) {
  double half[LANES / 2];
  for (int i = 0; i < LANES / 2; i++) half[i] = lane[i] + lane[i + LANES / 2];
  for (int step = LANES / 4; step > 0; step /= 2) {
    for (int i = 0; i < step; i++) half[i] += half[i + step];
  }
  return half[0];
}

static uint32_t largest_magnitude(const float *restrict x, size_t n) {
  uint32_t lane[LANES] = {0};
  size_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    for (int l = 0; l < LANES; l++) {
      uint32_t m = bits_of(x[i + (size_t)l]) & 0x7fffffffu;
      lane[l] = m > lane[l] ? m : lane[l];
    }
  }
  for (; i < n; i++) {
    uint32_t m = bits_of(x[i]) & 0x7fffffffu;
    lane[0] = m > lane[0] ? m : lane[0];
  }
  uint32_t largest = 0;
  for (int l = 0; l < LANES; l++) largest = lane[l] > largest ? lane[l] : largest;
  return largest;
}

static void widen_range(const float *restrict x, size_t n, rondo_range *range) {
  float low[LANES], high[LANES];
  for (int l = 0; l < LANES; l++) {
    low[l] = range->low;
    high[l] = range->high;
  }
  size_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    for (int l = 0; l < LANES; l++) {
      low[l] = smaller(low[l], x[i + (size_t)l]);
      high[l] = larger(high[l], x[i + (size_t)l]);
    }
  }
  for (; i < n; i++) {
    low[0] = smaller(low[0], x[i]);
    high[0] = larger(high[0], x[i]);
  }
  for (int l = 0; l < LANES; l++) {
    range->low = smaller(range->low, low[l]);
    range->high = larger(range->high, high[l]);
  }
}

static rondo_params symmetric_params(const rondo_grid *grid, rondo_range range, float ratio) {
  float top = magnitude_of(range.high), bottom = magnitude_of(range.low);
  float m = larger(top, bottom) * ratio;
  float scale = (m == 0 ? 1.0f : m) / grid->divisor;
  if (scale == 0) scale = 1.0f / grid->divisor; /* underflow: a group of zeros */
  bool negative = grid->full_range && top > bottom;
  return (rondo_params){negative ? -scale : scale, 0};
}

static rondo_params asymmetric_params(const rondo_grid *grid, rondo_range range, float ratio) {
  float low = smaller(0, range.low) * ratio, high = larger(0, range.high) * ratio;
  float scale = (high - low) / grid->divisor;
  if (scale == 0) { /* all zeros, or an underflow that is treated as such */
    low = -1;
    high = 1;
    scale = 2.0f / grid->divisor;
  }
  return (rondo_params){scale, round_half_even(-low / scale)};
}

static rondo_params params_of(const rondo_grid *grid, rondo_range range, float ratio) {
  switch (grid->kind) {
  case RONDO_SYMMETRIC:
    return symmetric_params(grid, range, ratio);
  case RONDO_ASYMMETRIC:
    return asymmetric_params(grid, range, ratio);
  default:
    break;
  }
  float m = larger(magnitude_of(range.high), magnitude_of(range.low)) * ratio;
  return (rondo_params){m / grid->divisor, 0};
}

static inline float symmetric_code(float x, float scale, float low, float high) {
  return clamp(round_half_even(x / scale), low, high);
}

static inline float asymmetric_code(float x, float scale, float zero, float high) {
  return clamp(round_half_even(x / scale) + zero, 0, high);
}

/* Codebook entries for x / scale: an entry's interval ends with the cut above it, inclusive. */
static void codebook_values(const rondo_grid *grid, const float *restrict x, size_t n, float scale,
                            float *restrict y) {
  enum { CHUNK = 64 };
  float scaled[CHUNK], value[CHUNK];
  for (size_t start = 0; start < n; start += CHUNK) {
    size_t m = n - start < CHUNK ? n - start : CHUNK;
    for (size_t i = 0; i < m; i++) {
      scaled[i] = x[start + i] / scale;
      value[i] = grid->value[0];
    }
    for (int k = 0; k + 1 < grid->entries; k++) {
      float cut = grid->cut[k], above = grid->value[k + 1];
      for (size_t i = 0; i < m; i++) value[i] = scaled[i] > cut ? above : value[i];
    }
    for (size_t i = 0; i < m; i++) y[start + i] = value[i] * scale;
  }
}

static void codebook_codes(const rondo_grid *grid, const float *restrict x, size_t n, float scale,
                           uint8_t *restrict codes) {
  enum { CHUNK = 64 };
  float scaled[CHUNK];
  int32_t code[CHUNK];
  for (size_t start = 0; start < n; start += CHUNK) {
    size_t m = n - start < CHUNK ? n - start : CHUNK;
    for (size_t i = 0; i < m; i++) {
      scaled[i] = x[start + i] / scale;
      code[i] = grid->code[0];
    }
    for (int k = 0; k + 1 < grid->entries; k++) {
      float cut = grid->cut[k];
      int32_t above = grid->code[k + 1];
      for (size_t i = 0; i < m; i++) code[i] = scaled[i] > cut ? above : code[i];
    }
    for (size_t i = 0; i < m; i++) codes[start + i] = (uint8_t)code[i];
  }
}

/* A scale of 0 stands for a group of zeros; only codebooks have it. */
static void codebook_zeros(const rondo_grid *grid, size_t n, float *y, uint8_t *codes) {
  uint8_t zero = 0;
  for (int k = 0; k < grid->entries; k++) {
    if (grid->value[k] == 0) zero = (uint8_t)grid->code[k];
  }
  if (y != NULL) memset(y, 0, n * sizeof *y);
  if (codes != NULL) memset(codes, zero, n);
}

static void quantize_codebook(const rondo_grid *grid, const float *x, size_t n, float scale,
                              float *y, uint8_t *codes) {
  if (scale == 0) {
    codebook_zeros(grid, n, y, codes);
    return;
  }
  if (y != NULL) codebook_values(grid, x, n, scale, y);
  if (codes != NULL) codebook_codes(grid, x, n, scale, codes);
}

static void quantize_symmetric(const rondo_grid *grid, const float *restrict x, size_t n,
                               float scale, float *restrict y, uint8_t *restrict codes) {
  float low = grid->low, high = grid->high;
  if (y != NULL) {
    for (size_t i = 0; i < n; i++) y[i] = scale * symmetric_code(x[i], scale, low, high);
  }
  if (codes != NULL) {
    for (size_t i = 0; i < n; i++) {
      codes[i] = (uint8_t)(int32_t)symmetric_code(x[i], scale, low, high);
    }
  }
}

static void quantize_asymmetric(const rondo_grid *grid, const float *restrict x, size_t n,
                                float scale, float zero, float *restrict y,
                                uint8_t *restrict codes) {
  float high = grid->high;
  if (y != NULL) {
    for (size_t i = 0; i < n; i++) {
      y[i] = scale * (asymmetric_code(x[i], scale, zero, high) - zero);
    }
  }
  if (codes != NULL) {
    for (size_t i = 0; i < n; i++) {
      codes[i] = (uint8_t)(int32_t)asymmetric_code(x[i], scale, zero, high);
    }
  }
}

static void quantize_group(const rondo_grid *grid, rondo_params p, const float *x, size_t n,
                           float *y, uint8_t *codes) {
  switch (grid->kind) {
  case RONDO_SYMMETRIC:
    quantize_symmetric(grid, x, n, p.scale, y, codes);
    break;
  case RONDO_ASYMMETRIC:
    quantize_asymmetric(grid, x, n, p.scale, p.zero, y, codes);
    break;
  default:
    quantize_codebook(grid, x, n, p.scale, y, codes);
    break;
  }
}

static void dequantize_group(const rondo_grid *grid, rondo_params p, const uint8_t *restrict codes,
                             size_t n, float *restrict y) {
  float scale = p.scale, zero = p.zero;
  switch (grid->kind) {
  case RONDO_SYMMETRIC:
    for (size_t i = 0; i < n; i++) y[i] = scale * (float)(int8_t)codes[i];
    break;
  case RONDO_ASYMMETRIC:
    for (size_t i = 0; i < n; i++) y[i] = scale * ((float)codes[i] - zero);
    break;
  default:
    for (size_t i = 0; i < n; i++) y[i] = grid->decode[codes[i] & 15] * scale;
    break;
  }
}

/* lane[j mod LANES] += weight * (x - y)^2 and lane_x[...] += weight * x^2 for the columns j that
 * start at `first`; the difference is rounded to f32, as in the reference, all else is f64. */
static void add_error(const float *restrict x, const float *restrict y,
                      const float *restrict weight, size_t n, size_t first, double *restrict error,
                      double *restrict norm) {
  for (size_t i = 0; i < n;) {
    size_t start = (first + i) % LANES, m = LANES - start < n - i ? LANES - start : n - i;
    if (m == LANES && weight == NULL) {
      for (int l = 0; l < LANES; l++) {
        double d = x[i + (size_t)l] - y[i + (size_t)l], v = x[i + (size_t)l];
        error[l] += d * d;
        norm[l] += v * v;
      }
    } else {
      for (size_t l = 0; l < m; l++) {
        double d = x[i + l] - y[i + l], v = x[i + l], w = weight == NULL ? 1.0 : weight[i + l];
        error[start + l] += w * (d * d);
        norm[start + l] += w * (v * v);
      }
    }
    i += m;
  }
}

static double squared_loss(const float *restrict x, const float *restrict y,
                           const float *restrict weight, size_t n) {
  double lane[LANES] = {0};
  size_t i = 0;
  if (weight == NULL) {
    for (; i + LANES <= n; i += LANES) {
      for (int l = 0; l < LANES; l++) {
        double d = x[i + (size_t)l] - y[i + (size_t)l];
        lane[l] += d * d;
      }
    }
  } else {
    for (; i + LANES <= n; i += LANES) {
      for (int l = 0; l < LANES; l++) {
        double d = x[i + (size_t)l] - y[i + (size_t)l];
        lane[l] += weight[i + (size_t)l] * (d * d);
      }
    }
  }
  for (size_t l = 0; i < n; i++, l++) {
    double d = x[i] - y[i];
    lane[l] += (weight == NULL ? 1.0 : weight[i]) * (d * d);
  }
  return fold_lanes(lane);
}

/* loss[r] += the group's weighted squared error at ratios[r]. Sub-blocks of a group are summed one
 * after the other, so that the scratch memory stays in L1. */
static void group_losses(const rondo_grid *grid, const float *x, const float *weight, size_t n,
                         rondo_range range, const float *ratios, size_t count, double *loss) {
  enum { CHUNK = 1024 };
  float y[CHUNK];
  for (size_t r = 0; r < count; r++) {
    rondo_params p = params_of(grid, range, ratios[r]);
    for (size_t start = 0; start < n; start += CHUNK) {
      size_t m = n - start < CHUNK ? n - start : CHUNK;
      quantize_group(grid, p, x + start, m, y, NULL);
      loss[r] += squared_loss(x + start, y, weight == NULL ? NULL : weight + start, m);
    }
  }
}
