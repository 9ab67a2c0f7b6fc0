/* summary.h - statistics and histograms of any view, whole or from a sample: stats.h run by run. */
#ifndef RONDO_CORE_SUMMARY_H
#define RONDO_CORE_SUMMARY_H

#include "core/stats.h"

/* Which elements of the row-major order are looked at: spans of `length` elements, `step` apart. */
typedef struct rondo_sample {
  int64_t spans, length, step;
} rondo_sample;

/* All of count elements; or, above limit, 2^20 of them in 1024 spans evenly spread. */
rondo_sample rondo_sample_of(int64_t count, int64_t limit);

/* Bytes of scratch memory that the functions below need. */
enum { RONDO_SUMMARY_SCRATCH = RONDO_STATS_BLOCK * 8 };

/* Tells the system whether the memory of a mapped tensor is about to be read here and there, so
 * that it does not read megabytes around each place. Nothing for tensors in memory. */
void rondo_expect_scattered(const rondo_tensor *t, bool scattered);

/* Adds the sampled elements of a tensor of an arithmetic type to *total. */
void rondo_view_stats(rondo_pool *pool, const rondo_kernels *k, const rondo_tensor *t,
                      rondo_sample sample, void *scratch, rondo_stats *total);

/* Adds them to `bins` bars, as rondo_histogram_add does. counters: bins for each thread. */
void rondo_view_histogram(rondo_pool *pool, const rondo_kernels *k, const rondo_tensor *t,
                          rondo_sample sample, double low, double high, size_t bins,
                          int64_t *counts, void *scratch, int64_t *counters);

#endif
