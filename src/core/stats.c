/* stats.c - see stats.h. Blocks of a fixed size are summed up on their own and merged in order, by
 * the rule for means and squared distances of two samples; so no digits are lost where the mean is
 * large and the deviation small. */
#include "core/stats.h"

#include "core/dtype.h"
#include "core/element.h"
#include "core/environment.h"

#include <math.h>

enum { CHUNK = 512 };

typedef struct {
  const rondo_kernels *kernels;
  rondo_array x, y;
  double low, high;
  size_t bins;
  rondo_stats *stats;
  rondo_difference *differences;
  int64_t *counts;
} work;

static size_t smallest(size_t a, size_t b) {
  return a < b ? a : b;
}

static size_t blocks_of(rondo_array x) {
  return x.count / RONDO_STATS_BLOCK + (x.count % RONDO_STATS_BLOCK != 0);
}

static void load(const work *w, rondo_array x, size_t first, double *values, size_t n) {
  const char *source = (const char *)x.data + first * rondo_dtype_size(x.dtype);
  rondo_load_f64(w->kernels, x.dtype, source, values, n);
}

/* ---- Summaries ---- */

static void merge(rondo_stats *a, const rondo_stats *b) {
  a->nans += b->nans;
  a->infinities += b->infinities;
  a->zeros += b->zeros;
  if (b->count == 0) return;
  if (a->count == 0 || b->low < a->low) a->low = b->low;
  if (a->count == 0 || b->high > a->high) a->high = b->high;
  double count = a->count + b->count, step = b->mean - a->mean;
  a->mean += step * (b->count / count);
  a->squares += b->squares + step * step * (a->count * b->count / count);
  a->count = count;
}

/* A few hundred values: their mean first, then their distances from it. */
static rondo_stats chunk_stats(const double *values, size_t n) {
  rondo_stats s = {.low = INFINITY, .high = -INFINITY};
  double sum = 0;
  for (size_t i = 0; i < n; i++) {
    double x = values[i];
    if (!isfinite(x)) {
      s.nans += x != x;
      s.infinities += x == x;
      continue;
    }
    s.count += 1;
    s.zeros += x == 0;
    sum += x;
    s.low = x < s.low ? x : s.low;
    s.high = x > s.high ? x : s.high;
  }
  if (s.count == 0) return s;
  s.mean = sum / s.count;
  for (size_t i = 0; i < n; i++) {
    double d = values[i] - s.mean;
    if (isfinite(values[i])) s.squares += d * d;
  }
  return s;
}

static void stats_block(void *context, size_t task, int worker) {
  (void)worker;
  work *w = context;
  double values[CHUNK];
  rondo_stats s = {0};
  size_t first = task * RONDO_STATS_BLOCK, end = smallest(first + RONDO_STATS_BLOCK, w->x.count);
  for (; first < end; first += CHUNK) {
    size_t n = smallest(CHUNK, end - first);
    load(w, w->x, first, values, n);
    rondo_stats piece = chunk_stats(values, n);
    merge(&s, &piece);
  }
  w->stats[task] = s;
}

static __attribute__((noinline)) void merge_all(rondo_stats *total, const rondo_stats *parts,
                                                size_t n) {
  for (size_t i = 0; i < n; i++) merge(total, &parts[i]);
}

void rondo_stats_add(rondo_pool *pool, const rondo_kernels *k, rondo_array x, rondo_stats *total,
                     rondo_stats *scratch) {
  work w = {.kernels = k, .x = x, .stats = scratch};
  size_t blocks = blocks_of(x);
  rondo_pool_run(pool, blocks, stats_block, &w);
  rondo_environment host;
  environment_enter(&host);
  merge_all(total, scratch, blocks);
  environment_leave(&host);
}

/* ---- Differences ---- */

static void add_difference(rondo_difference *d, double x, double y) {
  if (isfinite(x) && isfinite(y)) {
    double distance = fabs(x - y);
    d->differing += distance != 0;
    d->largest = distance > d->largest ? distance : d->largest;
  } else if (!(x == y || (x != x && y != y))) {
    d->differing += 1;
    d->incomparable += 1;
  }
}

static void difference_block(void *context, size_t task, int worker) {
  (void)worker;
  work *w = context;
  double a[CHUNK], b[CHUNK];
  rondo_difference d = {0};
  size_t first = task * RONDO_STATS_BLOCK, end = smallest(first + RONDO_STATS_BLOCK, w->x.count);
  for (; first < end; first += CHUNK) {
    size_t n = smallest(CHUNK, end - first);
    load(w, w->x, first, a, n);
    load(w, w->y, first, b, n);
    for (size_t i = 0; i < n; i++) add_difference(&d, a[i], b[i]);
  }
  w->differences[task] = d;
}

static __attribute__((noinline)) void add_all(rondo_difference *total,
                                              const rondo_difference *parts, size_t n) {
  for (size_t i = 0; i < n; i++) {
    total->differing += parts[i].differing;
    total->incomparable += parts[i].incomparable;
    if (parts[i].largest > total->largest) total->largest = parts[i].largest;
  }
}

void rondo_difference_add(rondo_pool *pool, const rondo_kernels *k, rondo_array x, rondo_array y,
                          rondo_difference *total, rondo_difference *scratch) {
  work w = {.kernels = k, .x = x, .y = y, .differences = scratch};
  size_t blocks = blocks_of(x);
  rondo_pool_run(pool, blocks, difference_block, &w);
  rondo_environment host;
  environment_enter(&host);
  add_all(total, scratch, blocks);
  environment_leave(&host);
}

/* ---- Histograms ---- */

static void histogram_block(void *context, size_t task, int worker) {
  work *w = context;
  double values[CHUNK], width = w->high - w->low;
  int64_t *counts = w->counts + (size_t)worker * w->bins;
  size_t first = task * RONDO_STATS_BLOCK, end = smallest(first + RONDO_STATS_BLOCK, w->x.count);
  for (; first < end; first += CHUNK) {
    size_t n = smallest(CHUNK, end - first);
    load(w, w->x, first, values, n);
    for (size_t i = 0; i < n; i++) {
      if (!(values[i] >= w->low && values[i] <= w->high)) continue;
      size_t bar = (size_t)((values[i] - w->low) / width * (double)w->bins);
      counts[smallest(bar, w->bins - 1)] += 1;
    }
  }
}

void rondo_histogram_add(rondo_pool *pool, const rondo_kernels *k, rondo_array x, double low,
                         double high, size_t bins, int64_t *counts, int64_t *scratch) {
  work w = {.kernels = k, .x = x, .low = low, .high = high, .bins = bins, .counts = scratch};
  rondo_pool_run(pool, blocks_of(x), histogram_block, &w);
  size_t all = (size_t)rondo_pool_threads(pool) * bins;
  for (size_t i = 0; i < all; i++) counts[i % bins] += scratch[i];
}
