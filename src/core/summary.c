/* summary.c - statistics and histograms of any view: its elements are handed on where they lie, or
 * gathered a block at a time. */
#include "core/summary.h"

#include "core/dtype.h"
#include "core/gather.h"
#include "core/tensor.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PIECE_BLOCKS = 16 };

typedef struct {
  rondo_pool *pool;
  const rondo_kernels *k;
  rondo_tensor view;
  void *scratch;
  rondo_stats *total; /* or, when NULL, the histogram: */
  double low, high;
  size_t bins;
  int64_t *counts, *counters;
} summary;

rondo_sample rondo_sample_of(int64_t count, int64_t limit) {
  enum { SPANS = 1024, LENGTH = 1024 };
  if (count <= limit) return (rondo_sample){1, count, count};
  return (rondo_sample){SPANS, LENGTH, (count - LENGTH) / (SPANS - 1)};
}

void rondo_expect_scattered(const rondo_tensor *t, bool scattered) {
  const char *begin, *end;
  if (!t->read_only) return;
  rondo_tensor_extent(t, &begin, &end);
  uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  uintptr_t first = (uintptr_t)begin / page * page;
  /* Only advice: that it may fail does not matter. */
  (void)madvise((void *)first, (uintptr_t)end - first, scattered ? MADV_RANDOM : MADV_NORMAL);
}

static void add_array(const summary *s, rondo_array x) {
  rondo_stats blocks[PIECE_BLOCKS];
  if (s->total != NULL) {
    rondo_stats_add(s->pool, s->k, x, s->total, blocks);
    return;
  }
  size_t counters = s->bins * (size_t)rondo_pool_threads(s->pool);
  memset(s->counters, 0, counters * sizeof *s->counters);
  rondo_histogram_add(s->pool, s->k, x, s->low, s->high, s->bins, s->counts, s->counters);
}

static void add_span(const summary *s, int64_t first, int64_t count) {
  const int64_t most = (int64_t)PIECE_BLOCKS * RONDO_STATS_BLOCK;
  while (count > 0) {
    int64_t n = count < most ? count : most;
    const void *data = rondo_peek(&s->view, first, (size_t)n);
    if (data == NULL) {
      n = count < RONDO_STATS_BLOCK ? count : RONDO_STATS_BLOCK;
      rondo_gather(&s->view, first, (size_t)n, s->scratch);
      data = s->scratch;
    }
    add_array(s, (rondo_array){s->view.dtype, data, (size_t)n});
    first += n;
    count -= n;
  }
}

static void add_sample(summary *s, const rondo_tensor *t, rondo_sample sample) {
  s->view = *t;
  rondo_tensor_coalesce(&s->view);
  for (int64_t i = 0; i < sample.spans; i++) add_span(s, i * sample.step, sample.length);
}

void rondo_view_stats(rondo_pool *pool, const rondo_kernels *k, const rondo_tensor *t,
                      rondo_sample sample, void *scratch, rondo_stats *total) {
  summary s = {.pool = pool, .k = k, .scratch = scratch, .total = total};
  add_sample(&s, t, sample);
}

void rondo_view_histogram(rondo_pool *pool, const rondo_kernels *k, const rondo_tensor *t,
                          rondo_sample sample, double low, double high, size_t bins,
                          int64_t *counts, void *scratch, int64_t *counters) {
  summary s = {.pool = pool, .k = k, .scratch = scratch, .low = low, .high = high, .bins = bins};
  s.counts = counts;
  s.counters = counters;
  add_sample(&s, t, sample);
}
