/* losses.c - squared errors.
 * Included by table.c. Differences are those of the stored f32 values, as in the reference. Runs of
 * at most RONDO_ERROR_BLOCK values are summed in f32, LANES side by side, and folded into f64; a
 * run whose sum may have lost to under- or overflow is summed in f64 instead. */

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

TEMPLATE void add_lanes(error_lanes *sum, const float *x, const float *y, const float *weight) {
  for (int k = 0; k < PARTS; k++) {
    vf v = v_load(x + k * WIDTH), d = v - v_load(y + k * WIDTH);
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

/* n values, at most a block; the last lanes are filled up with zeros. */
static void block_error(const float *x, const float *y, const float *weight, size_t n,
                        double *sums) {
  error_lanes sum;
  size_t i = 0;
  for (int k = 0; k < PARTS; k++) sum.error[k] = sum.norm[k] = v_set(0);
  if (weight == NULL) {
    for (; i + LANES <= n; i += LANES) add_lanes(&sum, x + i, y + i, NULL);
  } else {
    for (; i + LANES <= n; i += LANES) add_lanes(&sum, x + i, y + i, weight + i);
  }
  if (i < n) {
    float last_x[LANES] = {0}, last_y[LANES] = {0}, last_weight[LANES] = {0};
    memcpy(last_x, x + i, (n - i) * sizeof *x);
    memcpy(last_y, y + i, (n - i) * sizeof *y);
    if (weight != NULL) memcpy(last_weight, weight + i, (n - i) * sizeof *weight);
    add_lanes(&sum, last_x, last_y, weight == NULL ? NULL : last_weight);
  }
  float e = v_sum(sum.error), s = v_sum(sum.norm);
  sums[0] = is_sound(e) ? e : careful_sum(x, y, weight, n);
  sums[1] = is_sound(s) ? s : careful_sum(x, NULL, weight, n);
}

KERNEL void squared_error(rondo_dtype dtype, const void *x, const float *y, const float *weight,
                          size_t n, double *sums) {
  float block[RONDO_ERROR_BLOCK];
  for (size_t at = 0; at < n; at += RONDO_ERROR_BLOCK) {
    size_t m = n - at < RONDO_ERROR_BLOCK ? n - at : RONDO_ERROR_BLOCK;
    const float *values = (const float *)x + at;
    if (dtype != RONDO_F32) {
      values = block;
      if (dtype == RONDO_BF16) {
        bf16_to_f32((const uint16_t *)x + at, block, m);
      } else {
        f16_to_f32((const uint16_t *)x + at, block, m);
      }
    }
    block_error(values, y + at, weight == NULL ? NULL : weight + at, m, sums);
    sums += 2;
  }
}

/* ---- Losses of a group at many clip ratios ---- */

TEMPLATE void add_loss(const rondo_grid *grid, variant v, const float *x, const float *weight,
                       vf scale, vf zero, vf inverse, vf *sum) {
  for (int k = 0; k < PARTS; k++) {
    vf value = v_load(x + k * WIDTH);
    vf d = value - value_vector(grid, v, value, scale, zero, inverse);
    d = d * d;
    if (weight != NULL) d = v_load(weight + k * WIDTH) * d;
    sum[k] = sum[k] + d;
  }
}

/* Sum over a run of a multiple of LANES values, of which the first n count. */
TEMPLATE double run_loss(const rondo_grid *grid, variant v, const float *x, const float *weight,
                         size_t n, float scale, float zero, float inverse) {
  vf sum[PARTS], s = v_set(scale), z = v_set(zero), inv = v_set(inverse);
  for (int k = 0; k < PARTS; k++) sum[k] = v_set(0);
  for (size_t i = 0; i < n; i += LANES) {
    add_loss(grid, v, x + i, weight == NULL ? NULL : weight + i, s, z, inv, sum);
  }
  float total = v_sum(sum);
  if (is_sound(total)) return total;
  float y[RONDO_ERROR_BLOCK];
  groups_as(grid, v.kind, RONDO_F32, x, n, n, (rondo_params){&scale, &zero, &inverse}, y, NULL);
  return careful_sum(x, y, weight, n);
}

enum { RATIO_BLOCK = 64 };

/* x and weight: a run, filled up with zeros to a multiple of LANES. A zero stands for itself on
 * every grid, so what fills up adds nothing. */
TEMPLATE void run_losses(const rondo_grid *grid, rondo_grid_kind kind, const float *x,
                         const float *weight, size_t n, size_t count, rondo_params p,
                         double *loss) {
  variant by_inverse = {kind, RONDO_F32, false, false, true},
          by_scale = {kind, RONDO_F32, false, true, true};
  for (size_t r = 0; r < count; r++) {
    float scale = p.scale[r], zero = p.zero[r], inverse = p.inverse[r];
    if (inverse != inverse) {
      loss[r] += run_loss(grid, by_scale, x, weight, n, scale, zero, inverse);
    } else if (weight != NULL) {
      loss[r] += run_loss(grid, by_inverse, x, weight, n, scale, zero, inverse);
    } else {
      loss[r] += run_loss(grid, by_inverse, x, NULL, n, scale, zero, inverse);
    }
  }
}

static void losses_of_run(const rondo_grid *grid, const float *x, const float *weight, size_t n,
                          size_t count, rondo_params p, double *loss) {
  float values[RONDO_ERROR_BLOCK], weights[RONDO_ERROR_BLOCK];
  if (n % LANES != 0) {
    size_t whole = (n + LANES - 1) / LANES * LANES;
    memset(values, 0, whole * sizeof *values);
    memcpy(values, x, n * sizeof *x);
    x = values;
    if (weight != NULL) {
      memset(weights, 0, whole * sizeof *weights);
      memcpy(weights, weight, n * sizeof *weight);
      weight = weights;
    }
  }
  switch (grid->kind) {
  case RONDO_SYMMETRIC:
    run_losses(grid, RONDO_SYMMETRIC, x, weight, n, count, p, loss);
    break;
  case RONDO_ASYMMETRIC:
    run_losses(grid, RONDO_ASYMMETRIC, x, weight, n, count, p, loss);
    break;
  default:
    run_losses(grid, RONDO_CODEBOOK, x, weight, n, count, p, loss);
    break;
  }
}

KERNEL void group_losses(const rondo_grid *grid, const float *x, const float *weight, size_t n,
                         float low, float high, const float *ratios, size_t count, double *loss) {
  float scale[RATIO_BLOCK], zero[RATIO_BLOCK], inverse[RATIO_BLOCK];
  float lows[RATIO_BLOCK], highs[RATIO_BLOCK];
  for (int r = 0; r < RATIO_BLOCK; r++) {
    lows[r] = low;
    highs[r] = high;
  }
  for (size_t first = 0; first < count; first += RATIO_BLOCK) {
    size_t m = count - first < RATIO_BLOCK ? count - first : RATIO_BLOCK;
    params_by(grid, &low, &high, ratios + first, 0, 1, m, scale, zero);
    inverses(grid, scale, lows, highs, m, inverse);
    for (size_t at = 0; at < n; at += RONDO_ERROR_BLOCK) {
      size_t run = n - at < RONDO_ERROR_BLOCK ? n - at : RONDO_ERROR_BLOCK;
      losses_of_run(grid, x + at, weight == NULL ? NULL : weight + at, run, m,
                    (rondo_params){scale, zero, inverse}, loss + first);
    }
  }
}
