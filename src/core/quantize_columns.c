/* quantize_columns.c - groups along the rows: a strip of columns at a time, whose groups are next
 * to each other, so that the kernels run over columns and nothing is transposed. */
#include "core/checked.h"
#include "core/quantize_job.h"

#include <math.h>

/* A part of a strip in which each column is one group, or what the tile holds of it. */
typedef struct {
  int64_t row, rows, col, cols, group;
} block;

/* Rows of a strip lie far apart, which the processor's own prefetching does not see. */
static void prefetch_row(const job *j, const scratch *s, const block *b, int64_t row) {
  enum { AHEAD = 4, CACHE_LINE = 64 };
  if (row + AHEAD >= j->tile->rows) return;
  const unsigned char *at = rondo_job_address(j, s, row + AHEAD, b->col);
  size_t bytes = (size_t)b->cols * dtype_bytes(j->tile->dtype);
  for (size_t i = 0; i < bytes; i += CACHE_LINE) __builtin_prefetch(at + i);
}

static line block_line(job *j, scratch *s, const block *b, int64_t row, bool finite) {
  if (!finite) return rondo_job_line(j, s, row, b->col, b->cols, false);
  return (line){rondo_job_address(j, s, row, b->col), j->tile->dtype, false};
}

static bool widen_columns(job *j, scratch *s, const block *b, bool finite, float *low,
                          float *high) {
  bool all = true;
  for (int64_t i = 0; i < b->cols; i++) {
    low[i] = INFINITY;
    high[i] = -INFINITY;
  }
  for (int64_t row = b->row; row < b->row + b->rows; row++) {
    prefetch_row(j, s, b, row);
    line x = block_line(j, s, b, row, finite);
    if (x.x == NULL) return false;
    all &= j->q->kernels->column_ranges(x.dtype, x.x, (size_t)b->cols, low, high);
  }
  return all;
}

/* Ranges of the block's columns in s->low and s->high. False: some values are not finite. */
static bool block_ranges(job *j, scratch *s, const block *b) {
  const rondo_range *given = j->purpose == RANGES ? NULL : j->tile->ranges;
  float *low = given == NULL ? s->low : s->other_low,
        *high = given == NULL ? s->high : s->other_high;
  bool finite = widen_columns(j, s, b, true, low, high);
  if (!finite) widen_columns(j, s, b, false, low, high);
  for (int64_t i = 0; i < b->cols && given != NULL; i++) {
    const rondo_range *range = given + (b->col + i) * j->tile->range_groups + b->group;
    s->low[i] = range->low;
    s->high[i] = range->high;
  }
  return finite;
}

static void keep_ranges(job *j, const scratch *s, const block *b) {
  for (int64_t i = 0; i < b->cols; i++) {
    rondo_range *range = j->tile->ranges + (b->col + i) * j->tile->range_groups + b->group;
    if (s->low[i] < range->low) range->low = s->low[i];
    if (s->high[i] > range->high) range->high = s->high[i];
  }
}

/* Where the first group of a block stands in what is given or wanted by group. */
static int64_t param_index(const job *j, const block *b) {
  return b->group * j->tile->across + j->tile->line + b->col;
}

static bool block_params(job *j, scratch *s, const block *b, float ratio, bool *divide) {
  int64_t bad = 0;
  if (rondo_job_params(j, s, param_index(j, b), b->cols, ratio, &bad, divide)) return true;
  rondo_job_bad_scale(j, b->row, b->col + bad);
  return false;
}

/* Packs what has become complete with this row's codes. */
static void pack_codes(job *j, const scratch *s, const block *b, int64_t row,
                       const uint8_t *codes) {
  const rondo_packing *p = &j->out->packing;
  unsigned char *words = j->out->words;
  size_t bytes = (size_t)p->word_bytes;
  if (p->dim == 1) {
    int64_t count = ceil_div_i64(b->cols, p->fields),
            row_words = ceil_div_i64(j->tile->cols, p->fields);
    words += (size_t)(row * row_words + b->col / p->fields) * bytes;
    j->q->kernels->pack_words(codes, (size_t)p->fields, 1, (size_t)count, p->fields,
                              (int)(b->cols - (count - 1) * p->fields), p->bits, p->word_bytes,
                              words);
    return;
  }
  int64_t word_row = row / p->fields, first = word_row * p->fields;
  int fields = (int)(row - first + 1);
  if (fields < p->fields && row + 1 < j->tile->rows) return;
  bool kept = j->out->codes != NULL;
  const uint8_t *from = kept ? j->out->codes + first * j->tile->cols + b->col : s->codes;
  words += (size_t)(word_row * j->tile->cols + b->col) * bytes;
  j->q->kernels->pack_words(from, 1, (size_t)(kept ? j->tile->cols : j->code_cols), (size_t)b->cols,
                            fields, fields, p->bits, p->word_bytes, words);
}

/* Codes and values of a row of the block; either may be NULL. */
static void compute_row(job *j, const scratch *s, const block *b, line x, bool divide, float *y,
                        uint8_t *codes) {
  const rondo_kernels *k = j->q->kernels;
  rondo_params p = {s->scale, s->zero, s->inverse}, stored = {s->stored, s->zero, s->inverse};
  bool from_codes = y != NULL && rondo_job_values_from_codes(j, s);
  k->quantize_columns(j->q->grid, x.dtype, x.x, (size_t)b->cols, divide, p, from_codes ? NULL : y,
                      codes);
  if (from_codes) k->dequantize_columns(j->q->grid, codes, (size_t)b->cols, stored, y);
}

static void quantize_row(job *j, scratch *s, const block *b, int64_t row, bool finite,
                         bool divide) {
  rondo_quantized *out = j->out;
  float *y = rondo_job_wants_values(j) ? s->y : NULL;
  uint8_t *codes = NULL;
  if (out->codes != NULL) {
    codes = out->codes + row * j->tile->cols + b->col;
  } else if (out->words != NULL || (y != NULL && rondo_job_values_from_codes(j, s))) {
    codes = s->codes + (row % j->code_rows) * j->code_cols;
  }
  prefetch_row(j, s, b, row);
  line x = block_line(j, s, b, row, finite);
  if (x.x == NULL) return;
  compute_row(j, s, b, x, divide, y, codes);
  if (out->words != NULL) pack_codes(j, s, b, row, codes);
  if (y != NULL) rondo_job_finish_piece(j, s, row, b->col, b->cols, x, y);
}

/* Columns first .. first+count-1 of some rows of the block as lines of f32. */
static void gather(job *j, scratch *s, const block *b, int64_t row, int64_t rows, int64_t first,
                   int64_t count, bool finite) {
  for (int64_t r = 0; r < rows; r++) {
    float values[LINES];
    line x = block_line(j, s, b, row + r, finite);
    if (x.x == NULL) return;
    j->q->kernels->to_f32[x.dtype](skip(x, first), values, (size_t)count);
    for (int64_t c = 0; c < count; c++) s->y[c * rows + r] = values[c];
  }
}

/* total: where losses are added that are not wanted by group; otherwise where those of column i of
 * the block are. */
static double *loss_of(const job *j, const block *b, int64_t i, double *total) {
  if (j->losses->groups == NULL) return total;
  return j->losses->groups + (param_index(j, b) + i) * (int64_t)j->losses->count;
}

/* At all ratios. */
static void losses_at_ratios(job *j, scratch *s, const block *b, bool finite, double *total) {
  const rondo_kernels *k = j->q->kernels;
  const float *weight = j->tile->weight;
  float weights[LINE_ROWS];
  for (int64_t at = 0; at < b->rows; at += LINE_ROWS) {
    int64_t rows = smallest(LINE_ROWS, b->rows - at);
    if (rondo_pool_is_stopped(j->q->pool)) return;
    for (int64_t first = 0; first < b->cols; first += LINES) {
      int64_t count = smallest(LINES, b->cols - first);
      gather(j, s, b, b->row + at, rows, first, count, finite);
      int64_t together = weight == NULL && j->losses->groups == NULL ? count : 1;
      for (int64_t c = 0; c < count; c += together) {
        int64_t i = first + c;
        for (int64_t r = 0; r < rows && weight != NULL; r++) weights[r] = weight[b->col + i];
        k->group_losses(j->q->grid, j->q->storage, s->y + c * rows, weight == NULL ? NULL : weights,
                        (size_t)(together * rows), (size_t)rows, s->low + i, s->high + i,
                        j->losses->ratios, j->losses->count, loss_of(j, b, i, total));
      }
    }
  }
}

/* Losses of one row of the block with the params that were found, ratio r. */
static void row_losses(job *j, scratch *s, const block *b, line x, bool divide, double *total,
                       size_t r) {
  const rondo_kernels *k = j->q->kernels;
  const float *weight = j->tile->weight == NULL ? NULL : j->tile->weight + b->col;
  double errors[RONDO_ERROR_BLOCK];
  compute_row(j, s, b, x, divide, s->y, s->codes);
  k->to_f32[x.dtype](x.x, s->x, (size_t)b->cols);
  for (int64_t at = 0; at < b->cols; at += RONDO_ERROR_BLOCK) {
    int64_t n = smallest(RONDO_ERROR_BLOCK, b->cols - at);
    k->power_errors(s->x + at, s->y + at, weight == NULL ? NULL : weight + at, (size_t)n,
                    j->losses->power, errors);
    for (int64_t i = 0; i < n; i++) loss_of(j, b, at + i, total)[r] += errors[i];
  }
}

static void block_losses(job *j, scratch *s, const block *b, bool finite, double *total) {
  size_t rounds = rondo_job_at_ratios(j) ? 1 : j->losses->count;
  for (size_t r = 0; r < rounds; r++) {
    bool divide;
    if (!block_params(j, s, b, rondo_job_ratio(j, r), &divide)) return;
    if (rondo_job_at_ratios(j)) {
      losses_at_ratios(j, s, b, finite, total);
      return;
    }
    for (int64_t row = b->row; row < b->row + b->rows; row++) {
      line x = block_line(j, s, b, row, finite);
      if (x.x == NULL || rondo_pool_is_stopped(j->q->pool)) return; /* a block may be tall */
      row_losses(j, s, b, x, divide, total, r);
    }
  }
}

static void do_block(job *j, scratch *s, const block *b, double *loss) {
  bool divide, finite = block_ranges(j, s, b);
  if (j->purpose == RANGES) {
    keep_ranges(j, s, b);
  } else if (j->purpose == LOSSES) {
    block_losses(j, s, b, finite, loss);
  } else if (block_params(j, s, b, j->ratio, &divide)) {
    if (j->tile->ranges == NULL)
      rondo_job_store_params(j, s, b->group * j->tile->cols + b->col, b->cols);
    for (int64_t row = b->row; row < b->row + b->rows; row++) {
      quantize_row(j, s, b, row, finite, divide);
    }
  }
}

void rondo_column_task(job *j, scratch *s, size_t task) {
  const rondo_tile *tile = j->tile;
  int64_t strips = ceil_div_i64(tile->cols, j->strip), size = j->q->group_size;
  int64_t first = (int64_t)task / strips * j->task_rows;
  int64_t last = smallest(first + j->task_rows, tile->rows);
  double *loss = j->task_losses == NULL ? NULL : j->task_losses + task * j->losses->count;
  block b = {.col = (int64_t)task % strips * j->strip};
  b.cols = smallest(j->strip, tile->cols - b.col);
  for (b.row = first; b.row < last; b.row += b.rows) {
    int64_t position = tile->offset + b.row;
    b.group = position / size;
    b.rows = smallest(size - position % size, last - b.row);
    do_block(j, s, &b, loss);
  }
}
