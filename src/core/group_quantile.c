/* group_quantile.c - see group_quantile.h. Magnitudes are ordered as the bits of f32. */
#include "core/group_quantile.h"

#include "core/checked.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  const rondo_blocks *b;
  const rondo_kernels *k;
  double q;
  float *out;
  int64_t across;
  atomic_bool no_memory;
} job;

static void swap(uint32_t *a, uint32_t *b) {
  uint32_t kept = *a;
  *a = *b;
  *b = kept;
}

/* Hoare's selection: a[at] is what would stand there in rising order, nothing before it is larger
 * and nothing behind it smaller. */
static void select_at(uint32_t *a, int64_t n, int64_t at) {
  int64_t low = 0, high = n - 1;
  while (low < high) {
    uint32_t pivot = a[low + (high - low) / 2];
    int64_t i = low, j = high;
    while (i <= j) {
      while (a[i] < pivot) i++;
      while (a[j] > pivot) j--;
      if (i <= j) swap(&a[i++], &a[j--]);
    }
    if (at <= j) {
      high = j;
    } else if (at >= i) {
      low = i;
    } else {
      return;
    }
  }
}

static double value_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static float quantile(uint32_t *a, int64_t n, double q) {
  double place = (double)(n - 1) * q;
  int64_t at = (int64_t)place;
  select_at(a, n, at);
  double lower = value_of(a[at]), upper = lower;
  uint32_t next = UINT32_MAX;
  for (int64_t i = at + 1; i < n; i++) next = a[i] < next ? a[i] : next;
  if (at + 1 < n) upper = value_of(next);
  return (float)(lower + (upper - lower) * (place - (double)at));
}

/* The magnitudes of a block as bits; returns how many. */
static int64_t gather(const job *j, int64_t down, int64_t across, uint32_t *magnitudes) {
  const rondo_blocks *b = j->b;
  int64_t row = down * b->block_rows, col = across * b->block_cols, count = 0;
  int64_t last = row + b->block_rows < b->rows ? row + b->block_rows : b->rows;
  int64_t n = col + b->block_cols < b->cols ? b->block_cols : b->cols - col;
  size_t size = b->dtype == RONDO_F32 ? 4 : 2;
  for (; row < last; row++, count += n) {
    const unsigned char *x = b->data;
    x += (size_t)(row * b->row_stride + col) * size;
    j->k->to_f32[b->dtype](x, (float *)(void *)(magnitudes + count), (size_t)n);
  }
  for (int64_t i = 0; i < count; i++) magnitudes[i] &= 0x7fffffffu;
  return count;
}

/* One line of blocks. */
static void line_task(void *context, size_t task, int worker) {
  (void)worker;
  job *j = context;
  const rondo_blocks *b = j->b;
  int64_t rows = b->block_rows < b->rows ? b->block_rows : b->rows;
  int64_t cols = b->block_cols < b->cols ? b->block_cols : b->cols;
  uint32_t *magnitudes = malloc((size_t)(rows * cols) * sizeof *magnitudes);
  if (magnitudes == NULL) {
    atomic_store(&j->no_memory, true);
    return;
  }
  for (int64_t i = 0; i < j->across; i++) {
    int64_t n = gather(j, (int64_t)task, i, magnitudes);
    j->out[(int64_t)task * j->across + i] = quantile(magnitudes, n, j->q);
  }
  free(magnitudes);
}

bool rondo_group_quantiles(const rondo_blocks *b, const rondo_kernels *k, rondo_pool *pool,
                           double q, float *out) {
  job j = {.b = b, .k = k, .q = q, .out = out, .across = ceil_div_i64(b->cols, b->block_cols)};
  atomic_init(&j.no_memory, false);
  if (b->rows == 0 || b->cols == 0) return true;
  rondo_pool_run(pool, (size_t)ceil_div_i64(b->rows, b->block_rows), line_task, &j);
  return !atomic_load(&j.no_memory);
}
