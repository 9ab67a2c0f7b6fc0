/* quantize_params.c - scales and zero points: found from ranges, or given; as they are stored. */
#include "core/quantize_job.h"

#include <math.h>

void rondo_job_bad_scale(job *j, int64_t row, int64_t col) {
  record_bad(&j->bad_scale, (uint64_t)(row * j->tile->cols + col));
}

/* Scales as a reader of the stored ones sees them; stored may be scale. */
static void round_scales(const rondo_quantizer *q, const float *scale, size_t n, float *stored) {
  q->kernels->stored_scales(q->grid, q->storage, scale, n, stored);
}

/* Scales and zero points of n ranges; ratios: one each, or just one. */
static void range_params(const rondo_quantizer *q, const float *low, const float *high,
                         const float *ratios, bool one_ratio, size_t n, float *scale, float *zero) {
  const rondo_kernels *k = q->kernels;
  k->params_of(q->grid, low, high, n, ratios, one_ratio, scale, zero);
  if (!q->round_first || q->storage.dtype == RONDO_F32) return;
  round_scales(q, scale, n, scale);
  if (q->grid->kind == RONDO_AFFINE) round_scales(q, zero, n, zero);
  if (q->grid->kind == RONDO_ASYMMETRIC) {
    k->zeros_on(q->grid, low, high, n, ratios, one_ratio, scale, zero);
  }
}

void rondo_load_zeros(const rondo_grid *grid, const void *zeros, int64_t at, int64_t n,
                      float *zero) {
  bool floats = rondo_zero_dtype(grid) == RONDO_F32;
  for (int64_t i = 0; i < n; i++) {
    zero[i] = zeros == NULL ? 0
              : floats      ? ((const float *)zeros)[at + i]
                            : ((const uint8_t *)zeros)[at + i];
  }
}

static void store_zeros(const rondo_grid *grid, const float *zero, int64_t at, int64_t n,
                        void *zeros) {
  bool floats = rondo_zero_dtype(grid) == RONDO_F32;
  for (int64_t i = 0; floats && i < n; i++) ((float *)zeros)[at + i] = zero[i];
  for (int64_t i = 0; !floats && i < n; i++) ((uint8_t *)zeros)[at + i] = (uint8_t)(int32_t)zero[i];
}

/* Inverses; on an affine grid they are for what is left of the values without the zero. */
static bool inverses(job *j, scratch *s, size_t n) {
  const float *low = s->low, *high = s->high;
  if (j->q->grid->kind == RONDO_AFFINE) {
    for (size_t i = 0; i < n; i++) {
      s->other_low[i] = s->low[i] - s->zero[i];
      s->other_high[i] = s->high[i] - s->zero[i];
    }
    low = s->other_low;
    high = s->other_high;
  }
  return j->q->kernels->inverses(j->q->grid, s->scale, low, high, n, s->inverse);
}

/* Whether all are finite; *bad is the first that is not. */
static bool all_finite(const rondo_kernels *k, const float *x, size_t n, int64_t *bad) {
  if (k->largest_magnitude(x, n) < 0x7f800000u) return true;
  for (*bad = 0; isfinite(x[*bad]);) ++*bad;
  return false;
}

bool rondo_job_params(job *j, scratch *s, int64_t at, int64_t n, float ratio, int64_t *bad,
                      bool *divide) {
  const rondo_quantizer *q = j->q;
  const float *ratios = j->tile->group_ratios;
  if (j->tile->scales != NULL) {
    for (int64_t i = 0; i < n; i++) s->scale[i] = j->tile->scales[at + i];
    rondo_load_zeros(q->grid, j->tile->zeros, at, n, s->zero);
  } else {
    range_params(q, s->low, s->high, ratios == NULL ? &ratio : ratios + at, ratios == NULL,
                 (size_t)n, s->scale, s->zero);
  }
  *divide = !inverses(j, s, (size_t)n);
  s->stored = s->scale;
  if (q->storage.dtype != RONDO_F32 && !q->round_first) {
    s->stored = s->other_low; /* no longer needed */
    round_scales(q, s->scale, (size_t)n, s->stored);
  }
  return all_finite(q->kernels, s->stored, (size_t)n, bad) &&
         all_finite(q->kernels, s->zero, (size_t)n, bad);
}

void rondo_job_store_params(const job *j, const scratch *s, int64_t at, int64_t n) {
  rondo_quantized *out = j->out;
  for (int64_t i = 0; i < n && out->scales != NULL; i++) out->scales[at + i] = s->scale[i];
  if (out->zeros != NULL) store_zeros(j->q->grid, s->zero, at, n, out->zeros);
}

/* ---- Without a tile ---- */

typedef struct {
  const rondo_quantizer *q;
  const rondo_range *ranges;
  const float *ratios;
  size_t count, good; /* good: ranges before the first whose scale is not finite */
  float *scales;
  void *zeros;
} params_job;

enum { CHUNK = 256 };

/* Up to a chunk of ranges from j->good on; whether all are good. */
static bool params_chunk(params_job *j, size_t n) {
  float low[CHUNK], high[CHUNK], scale[CHUNK], zero[CHUNK], stored[CHUNK];
  float ratio = (float)j->q->ratio;
  int64_t bad = 0;
  for (size_t i = 0; i < n; i++) {
    low[i] = j->ranges[j->good + i].low;
    high[i] = j->ranges[j->good + i].high;
  }
  range_params(j->q, low, high, j->ratios == NULL ? &ratio : j->ratios + j->good, j->ratios == NULL,
               n, scale, zero);
  round_scales(j->q, scale, n, stored);
  for (size_t i = 0; i < n; i++) j->scales[j->good + i] = scale[i];
  if (j->zeros != NULL) store_zeros(j->q->grid, zero, (int64_t)j->good, (int64_t)n, j->zeros);
  bool good =
      all_finite(j->q->kernels, stored, n, &bad) && all_finite(j->q->kernels, zero, n, &bad);
  j->good += good ? n : (size_t)bad;
  return good;
}

static void params_task(void *context, size_t task, int worker) {
  (void)task;
  (void)worker;
  params_job *j = context;
  while (j->good < j->count) {
    if (!params_chunk(j, (size_t)smallest(CHUNK, (int64_t)(j->count - j->good)))) return;
  }
}

bool rondo_ranges_params(const rondo_quantizer *q, const rondo_range *ranges, const float *ratios,
                         size_t count, float *scales, void *zeros, size_t *bad) {
  params_job j = {q, ranges, ratios, count, 0, scales, zeros};
  rondo_pool_run(q->pool, 1, params_task, &j); /* a task: it has the right FP environment */
  *bad = j.good;
  return j.good == count;
}

typedef struct {
  const rondo_quantizer *q;
  const float *scales;
  size_t count;
  float *stored;
} rounding;

static void round_task(void *context, size_t task, int worker) {
  (void)task;
  (void)worker;
  rounding *r = context;
  round_scales(r->q, r->scales, r->count, r->stored);
}

void rondo_scales_round(const rondo_quantizer *q, const float *scales, size_t count,
                        float *stored) {
  rounding r = {q, scales, count, stored};
  rondo_pool_run(q->pool, 1, round_task, &r);
}
