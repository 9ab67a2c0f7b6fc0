/* dequantize.c - the values of codes, row by row on all threads; see quantize.h. */
#include "core/checked.h"
#include "core/quantize_job.h"

typedef struct {
  const rondo_quantizer *q;
  const uint8_t *codes;
  int64_t rows, cols, groups;
  const float *scales;
  const void *zeros;
  float *values;
} decoding;

static void decode_row(void *context, size_t task, int worker) {
  (void)worker;
  enum { CHUNK = 256 };
  decoding *d = context;
  const rondo_kernels *k = d->q->kernels;
  int64_t row = (int64_t)task, size = d->q->group_size;
  const uint8_t *codes = d->codes + row * d->cols;
  float *values = d->values + row * d->cols, zero[CHUNK], *scales = (float *)(uintptr_t)d->scales;
  bool columns = d->q->group_dim == 0;
  int64_t params = columns ? d->cols : d->groups,
          base = columns ? row / size * d->cols : row / d->q->group_rows * params;
  for (int64_t i = 0; i < params; i += CHUNK) {
    int64_t count = smallest(CHUNK, params - i), col = columns ? i : i * size;
    int64_t n = columns ? count : smallest(count * size, d->cols - col);
    rondo_params p = {scales + base + i, zero, NULL};
    rondo_load_zeros(d->q->grid, d->zeros, base + i, count, zero);
    if (columns) {
      k->dequantize_columns(d->q->grid, codes + col, (size_t)n, p, values + col);
    } else {
      k->dequantize_groups(d->q->grid, codes + col, (size_t)n, (size_t)size, p, values + col);
    }
  }
}

bool rondo_tile_dequantize(const rondo_quantizer *q, const uint8_t *codes, int64_t rows,
                           int64_t cols, const float *scales, const void *zeros, float *values) {
  decoding d = {q, codes, rows, cols, ceil_div_i64(cols, q->group_size), scales, zeros, values};
  if (cols > 0) rondo_pool_run(q->pool, (size_t)rows, decode_row, &d);
  return true;
}
