/* losses.c - squared errors.
 * Included by table.c. Differences are those of the stored f32 values, as in the reference. Runs of
 * at most RONDO_ERROR_BLOCK values are summed in f32, LANES side by side, and folded into f64; a
 * run whose sum may have lost to under- or overflow is summed in f64 instead. */

#include "kernels/elementary.h"

static double fold_lanes(const double *lane) {
  double half[LANES / 2];
  for (int i = 0; i < LANES / 2; i++) half[i] = lane[i] + lane[i + LANES / 2];
  for (int step = LANES / 4; step > 0; step /= 2) {
    for (int i = 0; i < step; i++) half[i] += half[i + step];
  }
  return half[0];
}

/* What is less may have lost terms that count; what is not finite has overflowed. */
static inline bool is_sound(float sum) {
  return sum > 0x1p-80f && sum < INFINITY;
}

/* Sum of weight * (x - y)^2 in f64; y: NULL for zeros. */
static double careful_sum(const float *x, const float *y, const float *weight, size_t n) {
  double lane[LANES] = {0};
  for (size_t i = 0; i < n; i++) {
    float difference = y == NULL ? x[i] : x[i] - y[i];
    double d = difference, w = weight == NULL ? 1.0 : weight[i];
    lane[i % LANES] += w * (d * d);
  }
  return fold_lanes(lane);
}

enum { PARTS = LANES / WIDTH };

/* ---- Error of values ---- */

typedef struct {
  vf error[PARTS], norm[PARTS];
} error_lanes;

/* LANES values. */
TEMPLATE void add_lanes(error_lanes *sum, rondo_dtype dtype, const void *x, const float *y,
                        const float *weight) {
  for (int k = 0; k < PARTS; k++) {
    vf v = v_widen(dtype, x, (size_t)k * WIDTH), d = v - v_load(y + k * WIDTH);
    vf error = d * d, norm = v * v;
    if (weight != NULL) {
      vf w = v_load(weight + k * WIDTH);
      error = w * error;
      norm = w * norm;
    }
    sum->error[k] = sum->error[k] + error;
    sum->norm[k] = sum->norm[k] + norm;
  }
}

/* The values as f32, for sums that need care. */
static void careful_error(rondo_dtype dtype, const void *x, const float *y, const float *weight,
                          size_t n, bool error, bool norm, double *sums) {
  float values[RONDO_ERROR_BLOCK];
  for (size_t i = 0; i < n; i++) values[i] = widened(dtype, x, i);
  if (error) sums[0] = careful_sum(values, y, weight, n);
  if (norm) sums[1] = careful_sum(values, NULL, weight, n);
}

/* n values, at most a block; the last lanes are filled up with zeros. */
TEMPLATE void block_error(rondo_dtype dtype, const void *x, const float *y, const float *weight,
                          size_t n, double *sums) {
  const unsigned char *bytes = x;
  size_t i = 0, size = dtype == RONDO_F32 ? 4 : 2;
  error_lanes sum;
  for (int k = 0; k < PARTS; k++) sum.error[k] = sum.norm[k] = v_set(0);
  if (weight == NULL) {
    for (; i + LANES <= n; i += LANES) add_lanes(&sum, dtype, bytes + i * size, y + i, NULL);
  } else {
    for (; i + LANES <= n; i += LANES) add_lanes(&sum, dtype, bytes + i * size, y + i, weight + i);
  }
  if (i < n) {
    float last_x[LANES] = {0}, last_y[LANES] = {0}, last_weight[LANES] = {0};
    for (size_t l = 0; i + l < n; l++) {
      last_x[l] = widened(dtype, x, i + l);
      last_y[l] = y[i + l];
      if (weight != NULL) last_weight[l] = weight[i + l];
    }
    add_lanes(&sum, RONDO_F32, last_x, last_y, weight == NULL ? NULL : last_weight);
  }
  float e = v_sum(sum.error), s = v_sum(sum.norm);
  sums[0] = e;
  sums[1] = s;
  if (!is_sound(e) || !is_sound(s)) {
    careful_error(dtype, x, y, weight, n, !is_sound(e), !is_sound(s), sums);
  }
}

TEMPLATE void errors_as(rondo_dtype dtype, const void *x, const float *y, const float *weight,
                        size_t n, double *sums) {
  const unsigned char *bytes = x;
  size_t size = dtype == RONDO_F32 ? 4 : 2;
  for (size_t at = 0; at < n; at += RONDO_ERROR_BLOCK, sums += 2) {
    size_t m = n - at < RONDO_ERROR_BLOCK ? n - at : RONDO_ERROR_BLOCK;
    block_error(dtype, bytes + at * size, y + at, weight == NULL ? NULL : weight + at, m, sums);
  }
}

KERNEL void squared_error(rondo_dtype dtype, const void *x, const float *y, const float *weight,
                          size_t n, double *sums) {
  if (dtype == RONDO_BF16) {
    errors_as(RONDO_BF16, x, y, weight, n, sums);
  } else if (dtype == RONDO_F16) {
    errors_as(RONDO_F16, x, y, weight, n, sums);
  } else {
    errors_as(RONDO_F32, x, y, weight, n, sums);
  }
}

/* ---- Other norms ---- */

KERNEL void power_errors(const float *x, const float *y, const float *weight, size_t n,
                         double power, double *errors) {
  for (size_t i = 0; i < n; i++) errors[i] = __builtin_fabsf(x[i] - y[i]);
  if (power == 2) {
    for (size_t i = 0; i < n; i++) errors[i] = errors[i] * errors[i];
  } else if (power != 1) {
    for (size_t i = 0; i < n; i++) errors[i] = rondo_pow(errors[i], power);
  }
  for (size_t i = 0; weight != NULL && i < n; i++) errors[i] = weight[i] * errors[i];
}

/* ---- Losses of a group at many clip ratios ----
 *
 * The lanes are ratios: each value meets all of them, and nothing is summed across lanes. A loss is
 * scale^2 times the sum of (u - code)^2, u = x / scale, which neither over- nor underflows; u is
 * x * inverse, which may be off by its last bit: so is the reference's x - scale * code. */

enum {
  RATIO_BLOCK = 64,                 /* ratios whose parameters are kept at once */
  RATIO_VECTORS = 80 / (WIDTH + 8), /* of which sums are kept in registers: 40 ratios and more */
  RATIO_RUN = 32                    /* values that are summed in f32 */
};

/* Parameters by ratio, filled up to whole vectors. floor and ceiling: what the integers code - zero
 * are clamped to. */
typedef struct {
  float scale[RATIO_BLOCK], zero[RATIO_BLOCK], inverse[RATIO_BLOCK];
  float floor[RATIO_BLOCK], ceiling[RATIO_BLOCK];
} ratio_params;

/* (u - value)^2 of one value at WIDTH ratios. */
TEMPLATE vf ratio_error(const rondo_grid *grid, variant v, vf x, const ratio_params *p, size_t r) {
  if (v.kind == RONDO_AFFINE) x = x - v_load(p->zero + r);
  vf u = v.divide ? x / v_divisor(v_load(p->scale + r)) : x * v_load(p->inverse + r), nearest;
  if (v.kind == RONDO_CODEBOOK) {
    nearest = v_pick(grid->value, v_rank(&grid->cuts, u));
  } else if (v.kind == RONDO_E4M3) {
    nearest = e4m3_nearest(u);
  } else if (v.kind == RONDO_SYMMETRIC || v.kind == RONDO_AFFINE) {
    nearest = v_round(v_min(v_max(u, v_set(grid->low)), v_set(grid->high)));
  } else {
    nearest = v_round(v_min(v_max(u, v_load(p->floor + r)), v_load(p->ceiling + r)));
  }
  vf e = u - nearest;
  return e * e;
}

/* Sums over n values at `vectors` times WIDTH ratios from r on. */
TEMPLATE void ratio_sums(const rondo_grid *grid, variant v, const float *x, const float *weight,
                         size_t n, const ratio_params *p, size_t r, int vectors, double *total) {
  for (size_t at = 0; at < n; at += RATIO_RUN) {
    size_t end = n - at < RATIO_RUN ? n : at + RATIO_RUN;
    vf sum[RATIO_VECTORS];
    for (int k = 0; k < vectors; k++) sum[k] = v_set(0);
    for (size_t i = at; i < end; i++) {
      vf value = v_set(x[i]);
      for (int k = 0; k < vectors; k++) {
        vf e = ratio_error(grid, v, value, p, r + (size_t)k * WIDTH);
        if (weight != NULL) e = v_set(weight[i]) * e;
        sum[k] = sum[k] + e;
      }
    }
    float lane[RATIO_VECTORS * WIDTH];
    for (int k = 0; k < vectors; k++) v_store(lane + k * WIDTH, sum[k]);
    for (int k = 0; k < vectors * WIDTH; k++) total[r + (size_t)k] += lane[k];
  }
}

TEMPLATE void ratio_block(const rondo_grid *grid, variant v, const float *x, const float *weight,
                          size_t n, const ratio_params *p, size_t count, double *total) {
  size_t r = 0;
  for (; r + (RATIO_VECTORS - 1) * WIDTH < count; r += RATIO_VECTORS * WIDTH) {
    ratio_sums(grid, v, x, weight, n, p, r, RATIO_VECTORS, total);
  }
  for (; r < count; r += WIDTH) ratio_sums(grid, v, x, weight, n, p, r, 1, total);
}

TEMPLATE void ratio_kind(const rondo_grid *grid, rondo_grid_kind kind, bool divide, const float *x,
                         const float *weight, size_t n, const ratio_params *p, size_t count,
                         double *total) {
  variant by_inverse = {kind, RONDO_F32, false, false, true};
  variant by_scale = {kind, RONDO_F32, false, true, true};
  if (divide) {
    ratio_block(grid, by_scale, x, weight, n, p, count, total);
  } else if (weight != NULL) {
    ratio_block(grid, by_inverse, x, weight, n, p, count, total);
  } else {
    ratio_block(grid, by_inverse, x, NULL, n, p, count, total);
  }
}

/* Inverses of all scales at once where all are well within what inverses() calls safe; there are as
 * many as there are ratios for every group. Returns whether some inverse is NaN. */
static bool inverses_at(const rondo_grid *grid, float low, float high, size_t whole,
                        ratio_params *p) {
  const uint32_t least = (127 - 60) << 23, most = (127 + 60) << 23, room = 28 << 23;
  uint32_t smallest = UINT32_MAX, largest = 0;
  uint32_t reach = bits_of(larger(magnitude_of(low), magnitude_of(high)));
  for (size_t r = 0; r < whole; r++) {
    uint32_t magnitude = bits_of(p->scale[r]) & 0x7fffffffu;
    smallest = magnitude < smallest ? magnitude : smallest;
    largest = magnitude > largest ? magnitude : largest;
    p->inverse[r] = 1.0f / p->scale[r];
  }
  bool safe = smallest >= least && largest <= most && reach <= smallest + room;
  if (safe && grid->bits <= 8) return false;
  float lows[RATIO_BLOCK], highs[RATIO_BLOCK];
  for (size_t r = 0; r < whole; r++) {
    lows[r] = low;
    highs[r] = high;
  }
  return !inverses(grid, p->scale, lows, highs, whole, p->inverse);
}

/* Scales and zero points as params_by has them, on scales as they are stored. */
static void round_params(const rondo_grid *grid, rondo_storage storage, float low, float high,
                         const float *ratios, size_t count, ratio_params *p) {
  if (storage.dtype == RONDO_F32) return;
  stored_scales(grid, storage, p->scale, count, p->scale);
  if (grid->kind == RONDO_AFFINE) stored_scales(grid, storage, p->zero, count, p->zero);
  if (grid->kind == RONDO_ASYMMETRIC) {
    zeros_by(grid, &low, &high, ratios, 0, 1, count, p->scale, p->zero);
  }
}

/* Parameters at `count` ratios, filled up to whole vectors; returns whether some inverse is NaN. */
static bool params_at(const rondo_grid *grid, rondo_storage storage, float low, float high,
                      const float *ratios, size_t count, ratio_params *p) {
  float filled[RATIO_BLOCK];
  size_t whole = (count + WIDTH - 1) / WIDTH * WIDTH;
  if (whole != count) {
    for (size_t r = 0; r < whole; r++) filled[r] = ratios[r < count ? r : count - 1];
    ratios = filled;
  }
  params_by(grid, &low, &high, ratios, 0, 1, whole, p->scale, p->zero);
  round_params(grid, storage, low, high, ratios, whole, p);
  for (size_t r = 0; grid->kind == RONDO_ASYMMETRIC && r < whole; r++) {
    p->floor[r] = 0 - p->zero[r];
    p->ceiling[r] = grid->high - p->zero[r];
  }
  return inverses_at(grid, low, high, whole, p);
}

/* loss[r] += the group's at ratios[r]. */
KERNEL void try_ratios(const rondo_grid *grid, rondo_storage storage, const float *x,
                       const float *weight, size_t n, float low, float high, const float *ratios,
                       size_t count, double *loss) {
  ratio_params p;
  for (size_t first = 0; first < count; first += RATIO_BLOCK) {
    double total[RATIO_BLOCK];
    size_t m = count - first < RATIO_BLOCK ? count - first : RATIO_BLOCK;
    memset(total, 0, (m + WIDTH - 1) / WIDTH * WIDTH * sizeof *total);
    bool divide = params_at(grid, storage, low, high, ratios + first, m, &p);
    switch (grid->kind) {
    case RONDO_SYMMETRIC:
      ratio_kind(grid, RONDO_SYMMETRIC, divide, x, weight, n, &p, m, total);
      break;
    case RONDO_ASYMMETRIC:
      ratio_kind(grid, RONDO_ASYMMETRIC, divide, x, weight, n, &p, m, total);
      break;
    case RONDO_AFFINE:
      ratio_kind(grid, RONDO_AFFINE, divide, x, weight, n, &p, m, total);
      break;
    case RONDO_E4M3:
      ratio_kind(grid, RONDO_E4M3, divide, x, weight, n, &p, m, total);
      break;
    default:
      ratio_kind(grid, RONDO_CODEBOOK, divide, x, weight, n, &p, m, total);
      break;
    }
    for (size_t r = 0; r < m; r++) {
      /* A scale that was rounded to 0 makes all values 0. */
      double zero = p.scale[r] == 0 ? careful_sum(x, NULL, weight, n) : 0;
      loss[first + r] += total[r] * ((double)p.scale[r] * p.scale[r]) + zero;
    }
  }
}
