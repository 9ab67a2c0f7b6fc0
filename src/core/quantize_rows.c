/* quantize_rows.c - groups along the columns: each row by itself.
 *
 * A row is taken in segments (nearly always one), whose groups get their parameters first; then
 * piece by piece, so that what is computed stays in the L1 cache. */
#include "core/checked.h"
#include "core/quantize_job.h"

#include <math.h>

/* Position of a column in the row's groups, and the number of the group. */
static int64_t position_of(const job *j, int64_t col) {
  return j->tile->offset + col;
}

/* Groups that n columns from col on touch. */
static int64_t touched(const job *j, int64_t col, int64_t n) {
  int64_t size = j->q->group_size, first = position_of(j, col);
  return (first + n - 1) / size - first / size + 1;
}

/* The line of a row among the ranges. */
static int64_t range_line(const job *j, int64_t row) {
  return row / j->q->group_rows;
}

/* Where the group of a place stands in what is given or wanted by group. */
static int64_t param_index(const job *j, int64_t row, int64_t col) {
  int64_t first = (j->tile->line + row) / j->q->group_rows * j->tile->across;
  return first + position_of(j, col) / j->q->group_size;
}

/* Calls k->group_ranges over n values from column col on, which may begin within a group; low and
 * high get one element for each group that is touched. */
static bool ranges_of(const job *j, line x, int64_t col, int64_t n, float *low, float *high) {
  const rondo_kernels *k = j->q->kernels;
  int64_t size = j->q->group_size, first = smallest(size - position_of(j, col) % size, n);
  bool finite = true;
  if (first < size) {
    finite = k->group_ranges(x.dtype, x.x, (size_t)first, (size_t)first, low++, high++);
  } else {
    first = 0;
  }
  return (n == first ||
          k->group_ranges(x.dtype, skip(x, first), (size_t)(n - first), (size_t)size, low, high)) &&
         finite;
}

/* The ranges of a segment in s->low and s->high, and its values. Where ranges are given, the values
 * are looked at all the same. */
static line segment_line(job *j, scratch *s, int64_t row, int64_t col, int64_t n) {
  line x = {rondo_job_address(j, s, row, col), j->tile->dtype, false};
  const rondo_range *given = j->purpose == RANGES ? NULL : j->tile->ranges;
  float *low = given == NULL ? s->low : s->other_low,
        *high = given == NULL ? s->high : s->other_high;
  if (!ranges_of(j, x, col, n, low, high)) {
    x = rondo_job_line(j, s, row, col, n, false);
    if (x.x == NULL) return x;
    ranges_of(j, x, col, n, low, high);
  }
  if (given == NULL) return x;
  given += range_line(j, row) * j->tile->range_groups + position_of(j, col) / j->q->group_size;
  for (int64_t i = 0; i < touched(j, col, n); i++) {
    s->low[i] = given[i].low;
    s->high[i] = given[i].high;
  }
  return x;
}

static void widen_ranges(job *j, scratch *s, int64_t row, int64_t col, int64_t n) {
  int64_t group = position_of(j, col) / j->q->group_size, count = touched(j, col, n);
  rondo_range *range = j->tile->ranges + range_line(j, row) * j->tile->range_groups + group;
  for (int64_t i = 0; i < count; i++) {
    if (s->low[i] < range[i].low) range[i].low = s->low[i];
    if (s->high[i] > range[i].high) range[i].high = s->high[i];
  }
}

/* Scales, zero points and inverses of a segment's groups. */
static bool segment_params(job *j, scratch *s, int64_t row, int64_t col, int64_t n, float ratio,
                           bool *divide) {
  int64_t count = touched(j, col, n), bad = 0, size = j->q->group_size;
  if (rondo_job_params(j, s, param_index(j, row, col), count, ratio, &bad, divide)) return true;
  int64_t start = (position_of(j, col) / size + bad) * size - j->tile->offset;
  rondo_job_bad_scale(j, row, start > col ? start : col);
  return false;
}

/* Calls the kernels for n columns from col on. x: the values of the segment that begins at column
 * `segment`. */
static void quantize_span(job *j, const scratch *s, line x, int64_t segment, int64_t col, int64_t n,
                          float *y, uint8_t *codes) {
  const rondo_kernels *k = j->q->kernels;
  int64_t size = j->q->group_size;
  for (int64_t done = 0; done < n;) {
    int64_t position = position_of(j, col + done);
    int64_t group = position / size - position_of(j, segment) / size;
    int64_t part = smallest(size - position % size, n - done);
    int64_t m = part < size ? part : n - done; /* whole groups, the last one perhaps not */
    rondo_params p = {s->scale + group, s->zero + group, s->inverse + group};
    rondo_params stored = {s->stored + group, s->zero + group, s->inverse + group};
    bool from_codes = y != NULL && rondo_job_values_from_codes(j, s);
    k->quantize_groups(j->q->grid, x.dtype, skip(x, col + done - segment), (size_t)m, (size_t)size,
                       p, from_codes || y == NULL ? NULL : y + done,
                       codes == NULL ? NULL : codes + done);
    if (from_codes) {
      k->dequantize_groups(j->q->grid, codes + done, (size_t)m, (size_t)size, stored, y + done);
    }
    done += m;
  }
}

/* Packs the codes of columns col .. col+n-1 of one row along the columns. */
static void pack_row(job *j, int64_t row, int64_t col, int64_t n, const uint8_t *codes) {
  const rondo_packing *p = &j->out->packing;
  int64_t row_words = ceil_div_i64(j->tile->cols, p->fields), words = ceil_div_i64(n, p->fields);
  unsigned char *target = j->out->words;
  target += (size_t)(row * row_words + col / p->fields) * (size_t)p->word_bytes;
  j->q->kernels->pack_words(codes, (size_t)p->fields, 1, (size_t)words, p->fields,
                            (int)(n - (words - 1) * p->fields), p->bits, p->word_bytes, target);
}

/* Has what the next row holds in columns col .. col+n-1 on its way while this row is computed. */
static void prefetch_below(const job *j, const scratch *s, int64_t row, int64_t col, int64_t n) {
  enum { CACHE_LINE = 64 };
  if (row + 1 >= j->tile->rows || j->tile->read != NULL) return;
  const unsigned char *at = rondo_job_address(j, s, row + 1, col);
  size_t bytes = (size_t)n * dtype_bytes(j->tile->dtype);
  for (size_t i = 0; i < bytes; i += CACHE_LINE) __builtin_prefetch(at + i);
}

/* Whether a segment is what the fused kernel takes: packed codes of 4 bits and perhaps the error of
 * bf16, nothing else, words and groups in whole blocks. */
static bool takes_nibbles(const job *j, const scratch *s, line x, int64_t col, int64_t n,
                          bool divide) {
  const rondo_quantized *out = j->out;
  const rondo_packing *p = &out->packing;
  if (j->q->kernels->quantize_nibbles == NULL || out->words == NULL || p->dim != 1) return false;
  bool nibbles = p->bits == 4 && p->fields * 4 == p->word_bytes * 8 && n % p->fields == 0;
  bool halves = j->q->group_size == RONDO_NIBBLE_BLOCK / 2 && j->q->grid->kind != RONDO_ASYMMETRIC;
  bool blocks = (j->q->group_size % RONDO_NIBBLE_BLOCK == 0 || halves) &&
                n % RONDO_NIBBLE_BLOCK == 0 && position_of(j, col) % RONDO_NIBBLE_BLOCK == 0;
  /* Integer zero points that are given may be none of the grid's codes. */
  bool own_zeros = j->tile->scales == NULL || j->q->grid->kind != RONDO_ASYMMETRIC;
  bool plain = x.dtype == RONDO_BF16 && !divide && own_zeros && s->stored == s->scale;
  return nibbles && blocks && plain && out->codes == NULL && out->values == NULL &&
         j->tile->weight == NULL;
}

static void nibble_piece(job *j, const scratch *s, line x, int64_t segment, int64_t row,
                         int64_t col, int64_t n) {
  int64_t size = j->q->group_size, position = position_of(j, col);
  int64_t group = position / size - position_of(j, segment) / size;
  const rondo_packing *p = &j->out->packing;
  uint8_t *out = j->out->words;
  double *sums = NULL;
  out += (row * ceil_div_i64(j->tile->cols, p->fields) + col / p->fields) * p->word_bytes;
  if (j->out->error != NULL) {
    sums = j->block_sums + 2 * (row * j->blocks + col / RONDO_ERROR_BLOCK);
  }
  j->q->kernels->quantize_nibbles(
      j->q->grid, skip(x, col - segment), (size_t)(position % size), (size_t)n, (size_t)size,
      (rondo_params){s->scale + group, s->zero + group, s->inverse + group}, out, sums);
}

static void quantize_segment(job *j, scratch *s, line x, int64_t row, int64_t col, int64_t n,
                             bool divide) {
  rondo_quantized *out = j->out;
  bool along = out->words != NULL && out->packing.dim == 1;
  bool down = out->words != NULL && out->packing.dim == 0; /* whole rows of codes are kept */
  float *y = rondo_job_wants_values(j) ? s->y : NULL;
  bool need_codes =
      out->codes != NULL || out->words != NULL || (y != NULL && rondo_job_values_from_codes(j, s));
  int64_t group = position_of(j, col) / j->q->group_size - position_of(j, 0) / j->q->group_size;
  rondo_job_store_params(j, s, row * j->groups + group, touched(j, col, n));
  bool nibbles = takes_nibbles(j, s, x, col, n, divide);
  for (int64_t at = 0; at < n; at += j->piece) {
    int64_t m = smallest(j->piece, n - at);
    uint8_t *codes = NULL;
    prefetch_below(j, s, row, col + at, m);
    if (nibbles) {
      nibble_piece(j, s, x, col, row, col + at, m);
      continue;
    }
    if (out->codes != NULL) {
      codes = out->codes + row * j->tile->cols + col + at;
    } else if (need_codes) {
      codes = s->codes + (row % j->code_rows) * j->code_cols + (down ? col + at : 0);
    }
    quantize_span(j, s, x, col, col + at, m, y, codes);
    if (along) pack_row(j, row, col + at, m, codes);
    if (y != NULL) {
      line rest = {skip(x, at), x.dtype, x.special};
      rondo_job_finish_piece(j, s, row, col + at, m, rest, y);
    }
  }
}

/* Where the losses of the group at a place are added: total, unless they are wanted by group. */
static double *loss_of(const job *j, int64_t row, int64_t col, double *total) {
  if (j->losses->groups == NULL) return total;
  return j->losses->groups + param_index(j, row, col) * (int64_t)j->losses->count;
}

/* Columns from col on, at most n, that are in one group. */
static int64_t within_group(const job *j, int64_t col, int64_t n) {
  return smallest(j->q->group_size - position_of(j, col) % j->q->group_size, n);
}

/* At all ratios. */
static void losses_at_ratios(job *j, scratch *s, line x, int64_t row, int64_t col, int64_t n,
                             double *total) {
  const rondo_kernels *k = j->q->kernels;
  const float *weight = j->tile->weight == NULL ? NULL : j->tile->weight + col;
  for (int64_t done = 0; done < n;) {
    int64_t size = j->q->group_size, m = smallest(within_group(j, col + done, n - done), j->piece);
    int64_t group = touched(j, col, done + 1) - 1;
    if (m == size && j->losses->groups == NULL) { /* with the whole groups behind it, and a part */
      m = smallest(j->piece - j->piece % size, n - done);
    }
    k->to_f32[x.dtype](skip(x, done), s->x, (size_t)m);
    k->group_losses(j->q->grid, j->q->storage, s->x, weight == NULL ? NULL : weight + done,
                    (size_t)m, (size_t)size, s->low + group, s->high + group, j->losses->ratios,
                    j->losses->count, loss_of(j, row, col + done, total));
    done += m;
  }
}

/* Those of the params that were found, ratio r. */
static void losses_of_values(job *j, scratch *s, line x, int64_t row, int64_t col, int64_t n,
                             double *total, size_t r) {
  const rondo_kernels *k = j->q->kernels;
  double errors[RONDO_ERROR_BLOCK];
  for (int64_t at = 0; at < n; at += RONDO_ERROR_BLOCK) {
    int64_t m = smallest(RONDO_ERROR_BLOCK, n - at), part;
    const float *weight = j->tile->weight == NULL ? NULL : j->tile->weight + col + at;
    quantize_span(j, s, x, col, col + at, m, s->y, s->codes);
    k->to_f32[x.dtype](skip(x, at), s->x, (size_t)m);
    k->power_errors(s->x, s->y, weight, (size_t)m, j->losses->power, errors);
    for (int64_t done = 0; done < m; done += part) {
      part = within_group(j, col + at + done, m - done);
      loss_of(j, row, col + at + done, total)[r] += k->sum_f64(errors + done, (size_t)part);
    }
  }
}

static void losses_of_row(job *j, scratch *s, line x, int64_t row, int64_t col, int64_t n,
                          double *total) {
  bool at_ratios = rondo_job_at_ratios(j), divide;
  for (size_t r = 0; r < (at_ratios ? 1 : j->losses->count); r++) {
    if (rondo_pool_is_stopped(j->q->pool)) return; /* a group of many rows is one task */
    if (!segment_params(j, s, row, col, n, rondo_job_ratio(j, r), &divide)) return;
    if (at_ratios) {
      losses_at_ratios(j, s, x, row, col, n, total);
    } else {
      losses_of_values(j, s, x, row, col, n, total, r);
    }
  }
}

static void do_row(job *j, scratch *s, int64_t row, double *loss) {
  bool divide;
  for (int64_t col = 0; col < j->tile->cols; col += j->segment) {
    int64_t n = smallest(j->segment, j->tile->cols - col);
    line x = segment_line(j, s, row, col, n);
    if (x.x == NULL) return;
    if (j->purpose == RANGES) {
      widen_ranges(j, s, row, col, n);
    } else if (j->purpose == LOSSES) {
      losses_of_row(j, s, x, row, col, n, loss);
    } else if (segment_params(j, s, row, col, n, j->ratio, &divide)) {
      quantize_segment(j, s, x, row, col, n, divide);
    }
  }
}

/* Packs `fields` rows of codes, or those that are left, of which `row` is the last. */
static void pack_rows_up_to(job *j, const scratch *s, int64_t row) {
  const rondo_packing *p = &j->out->packing;
  int64_t word_row = row / p->fields, cols = j->tile->cols, first = word_row * p->fields;
  const uint8_t *codes = j->out->codes != NULL ? j->out->codes + first * cols : s->codes;
  unsigned char *target = j->out->words;
  int fields = (int)(row - first + 1);
  target += (size_t)(word_row * cols) * (size_t)p->word_bytes;
  j->q->kernels->pack_words(codes, 1, (size_t)cols, (size_t)cols, fields, fields, p->bits,
                            p->word_bytes, target);
}

void rondo_row_task(job *j, scratch *s, size_t task) {
  int64_t first = (int64_t)task * j->task_rows;
  int64_t last = smallest(first + j->task_rows, j->tile->rows);
  double *loss = j->task_losses == NULL ? NULL : j->task_losses + task * j->losses->count;
  bool down = j->purpose == QUANTIZE && j->out->words != NULL && j->out->packing.dim == 0;
  for (int64_t row = first; row < last; row++) {
    do_row(j, s, row, loss);
    if (down && ((row + 1) % j->out->packing.fields == 0 || row + 1 == last)) {
      pack_rows_up_to(j, s, row);
    }
  }
}
