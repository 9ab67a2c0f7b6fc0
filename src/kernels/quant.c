/* quant.c - codes and values of groups and columns on number grids.
 * Included by table.c. One rounding per operation, in the order of the reference functions
 * (neural_compressor.torch.algorithms.rtn).
 *
 * The reference divides by the scale. A division takes as long as everything else together, so
 * where there is a fused multiply-add the quotient is q = x * inverse, corrected by its residual
 * x - q * scale (Markstein 2000, IA-64 and Elementary Functions). Near the values that decide a
 * code the result is the rounded quotient itself: checked for every mantissa of the scale, for all
 * half integers up to 258 and all cuts of the codebooks, with the neighbouring floats on both sides
 * (tools/check_quotient.c); the cuts of E4M3 are half integers times powers of two. Elsewhere the
 * code does not hang on the last bit. */

#if defined(V_HAS_FMA)
enum { HAS_FMA = 1 };
#else
enum { HAS_FMA = 0 }; /* then there is one way to divide, and code for one */
#endif

TEMPLATE vf quotient(vf x, vf scale, vf inverse, bool divide) {
#if defined(V_HAS_FMA)
  if (!divide) {
    vf q = x * inverse;
    return v_fma(v_fnma(q, scale, x), inverse, q);
  }
#else
  (void)divide;
  (void)inverse;
#endif
  return x / v_divisor(scale);
}

/* The same with the sign of a zero, which the correction loses. */
TEMPLATE vf signed_quotient(vf x, vf scale, vf inverse, bool divide) {
  vf q = quotient(x, scale, inverse, divide);
#if defined(V_HAS_FMA)
  if (!divide) return v_or(q, v_and(x * inverse, v_set(-0.0f)));
#endif
  return q;
}

/* Parameters of column i, or of the one group that all values are in. */
TEMPLATE vf param_at(const float *p, size_t i, bool columns) {
  return columns ? v_load(p + i) : v_set(*p);
}

/* What a block is quantized with; constants where it is inlined. */
typedef struct {
  rondo_grid_kind kind;
  rondo_dtype dtype;
  bool columns, divide;
  bool loose_zeros; /* the sign of a zero does not matter */
} variant;

/* E4M3 by its own arithmetic: adding 2^20 times the power of two of a magnitude (2^-6 for what is
 * less) makes the adder round at the third bit of its mantissa, half to even. sum - magic is that
 * number of eighths: as bits it counts up from the exponent of magic. */
typedef struct {
  vf magic, sum, sign;
} e4m3_parts;

TEMPLATE e4m3_parts e4m3_round(vf x) {
  vf magnitude = v_min(v_max(x, v_set(0) - x), v_set(448));
  vf power = v_max(v_and(magnitude, v_set(INFINITY)), v_set(0x1p-6f));
  vf magic = power * v_set(0x1p20f);
  return (e4m3_parts){magic, magnitude + magic, v_and(x, v_set(-0.0f))};
}

TEMPLATE vf e4m3_nearest(vf x) {
  e4m3_parts e = e4m3_round(x);
  return v_or(e.sum - e.magic, e.sign);
}

/* The exponent's step is eight codes, and one that it has: 2^14 is the magic of 2^-6. */
TEMPLATE vi e4m3_code(vf x) {
  e4m3_parts e = e4m3_round(x);
  vi eighths = v_sub(v_bits(e.sum), v_bits(e.magic));
  vi steps = v_sub(v_shift_right(v_bits(e.magic), 20), v_shift_right(v_bits(v_set(0x1p14f)), 20));
  return v_add(v_add(steps, eighths), v_shift_right(v_bits(e.sign), 24));
}

/* WIDTH codes as int32; on a codebook their ranks. */
TEMPLATE vi code_vector(const rondo_grid *grid, variant v, vf x, vf scale, vf zero, vf inverse) {
  if (v.kind == RONDO_E4M3) return e4m3_code(signed_quotient(x, scale, inverse, v.divide));
  if (v.kind == RONDO_AFFINE) x = x - zero;
  vf q = quotient(x, scale, inverse, v.divide);
  if (v.kind == RONDO_CODEBOOK) return v_rank(&grid->cuts, q);
  if (v.kind == RONDO_SYMMETRIC || v.kind == RONDO_AFFINE) {
    return v_to_int(v_min(v_max(q, v_set(grid->low)), v_set(grid->high)));
  }
  q = v_min(v_max(q, v_set(0) - zero), v_set(grid->high) - zero);
  return v_add(v_to_int(q), v_to_int(zero));
}

/* WIDTH dequantized values. The sign of zeros is that of the reference: kept by rounding, lost by
 * adding the zero point. */
TEMPLATE vf value_vector(const rondo_grid *grid, variant v, vf x, vf scale, vf zero, vf inverse) {
  if (v.kind == RONDO_E4M3) {
    return e4m3_nearest(signed_quotient(x, scale, inverse, v.divide)) * scale;
  }
  if (v.kind == RONDO_AFFINE) x = x - zero;
  vf q = quotient(x, scale, inverse, v.divide);
  if (v.kind == RONDO_CODEBOOK) return v_pick(grid->value, v_rank(&grid->cuts, q)) * scale;
  if (v.kind == RONDO_AFFINE) {
    return scale * v_round(v_min(v_max(q, v_set(0)), v_set(grid->high))) + zero;
  }
  if (v.kind == RONDO_SYMMETRIC) {
    if (!v.loose_zeros) q = signed_quotient(x, scale, inverse, v.divide);
    return scale * v_min(v_set(grid->high), v_max(v_set(grid->low), v_round(q)));
  }
  q = v_min(v_max(q, v_set(0) - zero), v_set(grid->high) - zero);
  return scale * (v_round(q) + v_set(0));
}

/* BLOCK values from x[at]; what is not wanted is the constant NULL. */
TEMPLATE void quantize_block(const rondo_grid *grid, variant v, const void *x, size_t at,
                             rondo_params p, float *y, uint8_t *codes) {
  vi code[BLOCK / WIDTH];
  for (int k = 0; k < BLOCK / WIDTH; k++) {
    size_t i = at + (size_t)k * WIDTH;
    vf scale = param_at(p.scale, i, v.columns), zero = param_at(p.zero, i, v.columns);
    vf inverse = param_at(p.inverse, i, v.columns);
    vf value = v_widen(v.dtype, x, i);
    code[k] =
        codes == NULL ? v_to_int(v_set(0)) : code_vector(grid, v, value, scale, zero, inverse);
    if (y != NULL) v_store(y + i, value_vector(grid, v, value, scale, zero, inverse));
  }
  if (codes == NULL) return;
  v_bytes(codes + at, code);
  if (v.kind == RONDO_CODEBOOK) v_map_bytes(codes + at, grid->code);
}

/* A whole block of f32, each value with parameters of its own. */
static __attribute__((noinline)) void padded_block(const rondo_grid *grid, const float *x,
                                                   bool divide, rondo_params p, float *y,
                                                   uint8_t *codes) {
  for (int by_scale = 0; by_scale < 2; by_scale++) {
    if ((divide || !HAS_FMA) != by_scale) continue;
    for (int kind = RONDO_SYMMETRIC; kind <= RONDO_E4M3; kind++) {
      variant v = {(rondo_grid_kind)kind, RONDO_F32, true, by_scale, false};
      if ((int)grid->kind == kind) quantize_block(grid, v, x, 0, p, y, codes);
    }
  }
}

/* Fewer values than a block: a block filled up with zeros. */
TEMPLATE void quantize_rest(const rondo_grid *grid, variant v, const void *x, size_t at, size_t n,
                            rondo_params p, float *y, uint8_t *codes) {
  float values[BLOCK] = {0}, results[BLOCK], scale[BLOCK], zero[BLOCK], inverse[BLOCK];
  uint8_t bytes[BLOCK];
  for (size_t i = 0; i < BLOCK; i++) {
    size_t from = v.columns ? at + (i < n ? i : n - 1) : 0;
    if (i < n) values[i] = widened(v.dtype, x, at + i);
    scale[i] = p.scale[from];
    zero[i] = p.zero[from];
    inverse[i] = p.inverse[from];
  }
  padded_block(grid, values, v.divide, (rondo_params){scale, zero, inverse}, results, bytes);
  if (y != NULL) memcpy(y + at, results, n * sizeof *y);
  if (codes != NULL) memcpy(codes + at, bytes, n);
}

TEMPLATE void quantize_run(const rondo_grid *grid, variant v, const void *x, size_t n,
                           rondo_params p, float *y, uint8_t *codes) {
  size_t at = 0;
  if (codes != NULL && y == NULL) {
    for (; at + BLOCK <= n; at += BLOCK) quantize_block(grid, v, x, at, p, NULL, codes);
  } else if (codes == NULL) {
    for (; at + BLOCK <= n; at += BLOCK) quantize_block(grid, v, x, at, p, y, NULL);
  } else {
    for (; at + BLOCK <= n; at += BLOCK) quantize_block(grid, v, x, at, p, y, codes);
  }
  if (at < n) quantize_rest(grid, v, x, at, n - at, p, y, codes);
}

TEMPLATE void strip_as(const rondo_grid *grid, rondo_grid_kind kind, rondo_dtype dtype,
                       const void *x, size_t n, bool divide, rondo_params p, float *y,
                       uint8_t *codes) {
  variant by_inverse = {kind, dtype, true, false, false},
          by_scale = {kind, dtype, true, true, false};
  if (divide || !HAS_FMA) {
    quantize_run(grid, by_scale, x, n, p, y, codes);
  } else {
    quantize_run(grid, by_inverse, x, n, p, y, codes);
  }
}

TEMPLATE void groups_as(const rondo_grid *grid, rondo_grid_kind kind, rondo_dtype dtype,
                        const void *x, size_t n, size_t group, rondo_params p, float *y,
                        uint8_t *codes) {
  size_t size = dtype == RONDO_F32 ? 4 : 2;
  variant by_inverse = {kind, dtype, false, false, false},
          by_scale = {kind, dtype, false, true, false};
  for (size_t at = 0; at < n; at += group) {
    size_t m = n - at < group ? n - at : group;
    const void *values = (const unsigned char *)x + at * size;
    float *out = y == NULL ? NULL : y + at;
    uint8_t *bytes = codes == NULL ? NULL : codes + at;
    if (HAS_FMA && *p.inverse == *p.inverse) {
      quantize_run(grid, by_inverse, values, m, p, out, bytes);
    } else {
      quantize_run(grid, by_scale, values, m, p, out, bytes);
    }
    p.scale++, p.zero++, p.inverse++;
  }
}

/* Calls function(grid, kind, dtype, ...) with kind and dtype as constants. */
#define BY_DTYPE(function, grid, kind, dtype, ...) \
  switch (dtype) {                                 \
  case RONDO_BF16:                                 \
    function(grid, kind, RONDO_BF16, __VA_ARGS__); \
    break;                                         \
  case RONDO_F16:                                  \
    function(grid, kind, RONDO_F16, __VA_ARGS__);  \
    break;                                         \
  default:                                         \
    function(grid, kind, RONDO_F32, __VA_ARGS__);  \
    break;                                         \
  }
#define BY_KIND(function, grid, dtype, ...)                        \
  switch ((grid)->kind) {                                          \
  case RONDO_SYMMETRIC:                                            \
    BY_DTYPE(function, grid, RONDO_SYMMETRIC, dtype, __VA_ARGS__)  \
    break;                                                         \
  case RONDO_ASYMMETRIC:                                           \
    BY_DTYPE(function, grid, RONDO_ASYMMETRIC, dtype, __VA_ARGS__) \
    break;                                                         \
  case RONDO_AFFINE:                                               \
    BY_DTYPE(function, grid, RONDO_AFFINE, dtype, __VA_ARGS__)     \
    break;                                                         \
  case RONDO_E4M3:                                                 \
    BY_DTYPE(function, grid, RONDO_E4M3, dtype, __VA_ARGS__)       \
    break;                                                         \
  default:                                                         \
    BY_DTYPE(function, grid, RONDO_CODEBOOK, dtype, __VA_ARGS__)   \
    break;                                                         \
  }

KERNEL void quantize_columns(const rondo_grid *grid, rondo_dtype dtype, const void *x, size_t n,
                             bool divide, rondo_params p, float *y, uint8_t *codes) {
  BY_KIND(strip_as, grid, dtype, x, n, divide, p, y, codes)
}

/* Parameters of n values, from value `first` of their groups on, one for each; returns whether some
 * inverse is NaN. */
static bool spread_params(rondo_params p, size_t first, size_t n, size_t group, rondo_params out) {
  bool divide = false;
  for (size_t at = 0; at < n; first = 0) {
    size_t end = at + (group - first) < n ? at + (group - first) : n;
    float scale = *p.scale++, zero = *p.zero++, inverse = *p.inverse++;
    divide |= inverse != inverse;
    for (; at < end; at++) {
      out.scale[at] = scale;
      out.zero[at] = zero;
      out.inverse[at] = inverse;
    }
  }
  return divide;
}

/* Groups that are no whole blocks, many of them at once. */
static void small_groups(const rondo_grid *grid, rondo_dtype dtype, const void *x, size_t n,
                         size_t group, rondo_params p, float *y, uint8_t *codes) {
  enum { SPREAD = 256 };
  float scale[SPREAD], zero[SPREAD], inverse[SPREAD];
  rondo_params spread = {scale, zero, inverse};
  size_t size = dtype == RONDO_F32 ? 4 : 2;
  for (size_t at = 0; at < n; at += SPREAD) {
    size_t m = n - at < SPREAD ? n - at : SPREAD, g = at / group;
    rondo_params from = {p.scale + g, p.zero + g, p.inverse + g};
    bool divide = spread_params(from, at % group, m, group, spread);
    quantize_columns(grid, dtype, (const unsigned char *)x + at * size, m, divide, spread,
                     y == NULL ? NULL : y + at, codes == NULL ? NULL : codes + at);
  }
}

KERNEL void quantize_groups(const rondo_grid *grid, rondo_dtype dtype, const void *x, size_t n,
                            size_t group, rondo_params p, float *y, uint8_t *codes) {
  enum { SMALL = 256 };
  if (group % BLOCK != 0 && group < SMALL && group < n) {
    small_groups(grid, dtype, x, n, group, p, y, codes);
    return;
  }
  BY_KIND(groups_as, grid, dtype, x, n, group, p, y, codes)
}

/* ---- Dequantizing ---- */

/* step: 0 where all values share one scale. */
TEMPLATE
void dequantize_run(const rondo_grid *grid, const uint8_t *restrict codes, size_t n,
                    const float *scale, const float *zero, size_t step, float *restrict y) {
  switch (grid->kind) {
  case RONDO_SYMMETRIC:
    for (size_t i = 0; i < n; i++) y[i] = scale[i * step] * (float)(int8_t)codes[i];
    break;
  case RONDO_ASYMMETRIC:
    for (size_t i = 0; i < n; i++) y[i] = scale[i * step] * ((float)codes[i] - zero[i * step]);
    break;
  case RONDO_AFFINE:
    for (size_t i = 0; i < n; i++) y[i] = scale[i * step] * (float)codes[i] + zero[i * step];
    break;
  case RONDO_E4M3:
    for (size_t i = 0; i < n; i++) y[i] = e4m3_value(codes[i]) * scale[i * step];
    break;
  default:
    for (size_t i = 0; i < n; i++) y[i] = grid->decode[codes[i] & 15] * scale[i * step];
    break;
  }
}

KERNEL void dequantize_groups(const rondo_grid *grid, const uint8_t *codes, size_t n, size_t group,
                              rondo_params p, float *y) {
  for (size_t at = 0; at < n; at += group) {
    size_t m = n - at < group ? n - at : group;
    float scale = *p.scale++, zero = *p.zero++;
    dequantize_run(grid, codes + at, m, &scale, &zero, 0, y + at);
  }
}

KERNEL void dequantize_columns(const rondo_grid *grid, const uint8_t *codes, size_t n,
                               rondo_params p, float *y) {
  dequantize_run(grid, codes, n, p.scale, p.zero, 1, y);
}
