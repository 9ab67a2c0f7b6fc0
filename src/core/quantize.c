/* quantize.c - a scheme over a tile of a weight matrix, on all threads.
 *
 * The unit of work is a line: the values along which groups run, as contiguous f32. Rows are lines
 * already and are taken piece by piece; columns are gathered a strip at a time, and their results
 * put back in row order. Sums are folded per row, then over rows in order. */
#include "core/quantize.h"

#include "core/checked.h"
#include "core/dtype.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
  PIECE = 4096,       /* columns of a row taken at once: 16 KiB of f32, stays in L1 */
  STRIP = 16,         /* columns gathered at once where groups run along the rows */
  TASK_VALUES = 32768 /* a task takes rows until it has this many values */
};

typedef enum { QUANTIZE, RANGES, LOSSES, ERRORS } purpose;

/* A worker's buffers, made by its first task. */
typedef struct {
  float *x, *y;
  uint8_t *codes;
} scratch;

typedef struct {
  purpose purpose;
  float ratio; /* of the quantizer, rounded in a task: there the rounding mode is known */
  const rondo_quantizer *q;
  const rondo_tile *tile, *other; /* other: the second tile of ERRORS */
  rondo_quantized *out;
  int64_t groups;         /* per line */
  int64_t scratch_values; /* per worker */
  int64_t rows_per_task;
  float *values;    /* group_dim 0: [rows, cols] dequantized f32 between the two passes */
  double *row_sums; /* [rows][2]: error, norm */
  const float *ratios;
  size_t ratio_count;
  double *task_losses; /* [tasks][ratio_count] */
  size_t tasks;
  double *error, *norm, *losses;          /* what the sums are added to at the end */
  scratch *scratch;                       /* one per worker */
  _Atomic uint64_t bad_weight, bad_scale; /* smallest row-major index found so far */
  atomic_bool no_memory;
} job;

static int64_t smallest(int64_t a, int64_t b) {
  return a < b ? a : b;
}

static void record_bad(_Atomic uint64_t *slot, uint64_t index) {
  uint64_t seen = atomic_load(slot);
  while (index < seen && !atomic_compare_exchange_weak(slot, &seen, index)) {
  }
}

/* ---- Scratch memory ---- */

static scratch *worker_scratch(job *j, int worker) {
  scratch *s = &j->scratch[worker];
  if (s->x != NULL) return s;
  size_t n = (size_t)j->scratch_values;
  s->x = malloc(n * (2 * sizeof(float) + 1));
  if (s->x == NULL) {
    atomic_store(&j->no_memory, true);
    return NULL;
  }
  s->y = s->x + n;
  s->codes = (uint8_t *)(s->y + n);
  return s;
}

/* Columns of a row that are processed at once: whole groups, unless their ranges are known. */
static int64_t piece_columns(const job *j) {
  int64_t group = j->q->group_size, cols = j->tile->cols;
  if (j->purpose == ERRORS || j->tile->ranges != NULL || group >= cols) {
    bool whole = j->tile->ranges == NULL && j->purpose != ERRORS;
    return whole ? cols : smallest(PIECE, cols);
  }
  return smallest(group * ceil_div_i64(PIECE, group), cols);
}

/* ---- Lines ---- */

static const unsigned char *address(const rondo_tile *tile, int64_t row, int64_t col) {
  size_t size = rondo_dtype_size(tile->dtype);
  return (const unsigned char *)tile->data + (size_t)(row * tile->row_stride + col) * size;
}

static void load(const job *j, const rondo_tile *tile, int64_t row, int64_t col, int64_t n,
                 float *x) {
  j->q->kernels->to_f32[tile->dtype](address(tile, row, col), x, (size_t)n);
}

/* The scale as a reader of the stored one sees it. */
static float stored_scale(const rondo_quantizer *q, float scale) {
  if (q->scale_dtype == RONDO_F32) return scale;
  uint16_t narrow;
  float wide;
  q->kernels->from_f32[q->scale_dtype](&scale, &narrow, 1);
  q->kernels->to_f32[q->scale_dtype](&narrow, &wide, 1);
  return wide;
}

/* Codes come from the f32 scale; values from the one that is stored beside the codes. */
static void quantize_values(const job *j, rondo_params p, const float *x, size_t n, float *y,
                            uint8_t *codes) {
  const rondo_kernels *k = j->q->kernels;
  rondo_params stored = {stored_scale(j->q, p.scale), p.zero};
  bool same = stored.scale == p.scale || codes == NULL;
  k->quantize_group(j->q->grid, p, x, n, same ? y : NULL, codes);
  if (!same && y != NULL) k->dequantize_group(j->q->grid, stored, codes, n, y);
}

/* Range and parameters of one group, or of the part of it that this tile holds. */
static bool group_params(job *j, int64_t line, int64_t group, const float *x, size_t n,
                         rondo_range *range, rondo_params *params) {
  const rondo_kernels *k = j->q->kernels;
  const rondo_tile *tile = j->tile;
  if (tile->ranges != NULL) {
    *range = tile->ranges[line * tile->range_groups + group];
  } else {
    *range = (rondo_range){INFINITY, -INFINITY};
    k->widen_range(x, n, range);
  }
  *params = k->params_of(j->q->grid, *range, j->ratio);
  return isfinite(stored_scale(j->q, params->scale));
}

static void store_params(job *j, int64_t line, int64_t group, rondo_params p) {
  rondo_quantized *out = j->out;
  bool columns = j->q->group_dim == 0;
  int64_t at = columns ? group * j->tile->cols + line : line * j->groups + group;
  if (out->scales != NULL) out->scales[at] = p.scale;
  if (out->zeros != NULL) out->zeros[at] = (uint8_t)(int32_t)p.zero;
}

/* Values start .. start+n-1 of a line, at x; y and codes (either may be NULL) get the results. */
static void quantize_line(job *j, int64_t line, int64_t start, const float *x, int64_t n, float *y,
                          uint8_t *codes, const float *weight, double *loss) {
  const rondo_kernels *k = j->q->kernels;
  int64_t size = j->q->group_size;
  for (int64_t at = 0; at < n;) {
    int64_t position = j->tile->offset + start + at, group = position / size;
    int64_t m = smallest(size - position % size, n - at);
    rondo_range range;
    rondo_params p;
    if (j->purpose == RANGES) {
      k->widen_range(x + at, (size_t)m, &j->tile->ranges[line * j->tile->range_groups + group]);
    } else if (!group_params(j, line, group, x + at, (size_t)m, &range, &p)) {
      bool columns = j->q->group_dim == 0;
      int64_t row = columns ? start + at : line, col = columns ? line : start + at;
      record_bad(&j->bad_scale, (uint64_t)(row * j->tile->cols + col));
    } else if (j->purpose == LOSSES) {
      k->group_losses(j->q->grid, x + at, weight == NULL ? NULL : weight + at, (size_t)m, range,
                      j->ratios, j->ratio_count, loss);
    } else {
      store_params(j, line, group, p);
      quantize_values(j, p, x + at, (size_t)m, y == NULL ? NULL : y + at,
                      codes == NULL ? NULL : codes + at);
    }
    at += m;
  }
}

/* ---- NaN and infinity ---- */

static bool is_special(float x) {
  return !isfinite(x);
}

/* Reports the first special value of n at (row, col), stepping by row_step or along the row; with
 * keep_nonfinite sets them all to 0 instead. Codes cannot hold them, so there they are an error.
 * Returns whether there were any. */
static bool treat_specials(job *j, float *x, int64_t n, int64_t row, int64_t col, bool column) {
  if (j->q->kernels->largest_magnitude(x, (size_t)n) < 0x7f800000u) return false;
  bool keep = j->q->keep_nonfinite && !(j->purpose == QUANTIZE && j->out->codes != NULL);
  for (int64_t i = 0; i < n; i++) {
    if (!is_special(x[i])) continue;
    int64_t r = column ? row + i : row, c = column ? col : col + i;
    if (!keep) record_bad(&j->bad_weight, (uint64_t)(r * j->tile->cols + c));
    x[i] = 0;
  }
  return true;
}

/* ---- Results of a row ---- */

/* Puts back the values that are passed through. */
static void restore_specials(job *j, int64_t row, int64_t col, int64_t n, float *y) {
  for (int64_t i = 0; i < n; i++) {
    float original;
    load(j, j->tile, row, col + i, 1, &original);
    if (is_special(original)) y[i] = original;
  }
}

/* Stores y (columns col .. col+n-1 of a row) and adds to the row's 2 x 16 lanes of error. */
static void finish_piece(job *j, int64_t row, int64_t col, int64_t n, const float *x, float *y,
                         bool specials, double *lanes) {
  const rondo_kernels *k = j->q->kernels;
  rondo_quantized *out = j->out;
  const float *weight = j->tile->weight == NULL ? NULL : j->tile->weight + col;
  unsigned char *stored = NULL;
  if (out->values != NULL) {
    size_t size = rondo_dtype_size(out->values_dtype);
    stored = (unsigned char *)out->values + (size_t)(row * j->tile->cols + col) * size;
    k->from_f32[out->values_dtype](y, stored, (size_t)n);
  }
  if (out->want_error) {
    if (stored != NULL) k->to_f32[out->values_dtype](stored, y, (size_t)n);
    k->add_error(x, y, weight, (size_t)n, (size_t)col, lanes, lanes + 16);
  }
  if (specials && stored != NULL) {
    restore_specials(j, row, col, n, y);
    k->from_f32[out->values_dtype](y, stored, (size_t)n);
  }
}

static void finish_row(job *j, int64_t row, const double *lanes) {
  if (j->row_sums == NULL) return;
  j->row_sums[2 * row] = j->q->kernels->fold_lanes(lanes);
  j->row_sums[2 * row + 1] = j->q->kernels->fold_lanes(lanes + 16);
}

/* ---- Tasks ---- */

/* Values of scales that are rounded for storage are computed from codes, wanted or not. */
static uint8_t *scratch_codes(const job *j, const scratch *s, bool values) {
  return values && j->q->scale_dtype != RONDO_F32 ? s->codes : NULL;
}

/* Groups along the columns: rows of one task, piece by piece. */
static void row_task(void *context, size_t task, int worker) {
  job *j = context;
  scratch *s = worker_scratch(j, worker);
  if (s == NULL) return;
  const rondo_tile *tile = j->tile;
  int64_t first = (int64_t)task * j->rows_per_task, piece = piece_columns(j);
  int64_t last = smallest(first + j->rows_per_task, tile->rows);
  bool quantizing = j->purpose == QUANTIZE;
  bool need_values = quantizing && (j->out->values != NULL || j->out->want_error);
  double *loss = j->purpose == LOSSES ? j->task_losses + task * j->ratio_count : NULL;
  for (int64_t row = first; row < last; row++) {
    double lanes[32] = {0};
    for (int64_t col = 0; col < tile->cols; col += piece) {
      int64_t n = smallest(piece, tile->cols - col);
      uint8_t *codes = scratch_codes(j, s, need_values);
      if (quantizing && j->out->codes != NULL) codes = j->out->codes + row * tile->cols + col;
      load(j, tile, row, col, n, s->x);
      bool specials = treat_specials(j, s->x, n, row, col, false);
      quantize_line(j, row, col, s->x, n, need_values ? s->y : NULL, codes,
                    tile->weight == NULL ? NULL : tile->weight + col, loss);
      if (need_values) finish_piece(j, row, col, n, s->x, s->y, specials, lanes);
    }
    if (quantizing) finish_row(j, row, lanes);
  }
}

/* Gathers columns col .. col+width-1 as lines of `rows` values each. */
static bool gather(job *j, int64_t col, int64_t width, float *x) {
  const rondo_tile *tile = j->tile;
  bool specials = false;
  for (int64_t row = 0; row < tile->rows; row++) {
    float values[STRIP];
    load(j, tile, row, col, width, values);
    for (int64_t c = 0; c < width; c++) x[c * tile->rows + row] = values[c];
  }
  for (int64_t c = 0; c < width; c++) {
    specials |= treat_specials(j, x + c * tile->rows, tile->rows, 0, col + c, true);
  }
  return specials;
}

/* Groups along the rows, first pass: the lines of one strip of columns. */
static void strip_task(void *context, size_t task, int worker) {
  job *j = context;
  scratch *s = worker_scratch(j, worker);
  if (s == NULL) return;
  const rondo_tile *tile = j->tile;
  int64_t col = (int64_t)task * STRIP, width = smallest(STRIP, tile->cols - col);
  int64_t rows = tile->rows;
  bool quantizing = j->purpose == QUANTIZE;
  double *loss = j->purpose == LOSSES ? j->task_losses + task * j->ratio_count : NULL;
  gather(j, col, width, s->x);
  for (int64_t c = 0; c < width; c++) {
    float *y = quantizing && j->values != NULL ? s->y : NULL;
    bool want_codes = quantizing && j->out->codes != NULL;
    uint8_t *codes = want_codes ? s->codes : scratch_codes(j, s, y != NULL);
    float *weight = NULL;
    if (tile->weight != NULL && loss != NULL) { /* one weight for the whole column */
      weight = s->y;
      for (int64_t i = 0; i < rows; i++) weight[i] = tile->weight[col + c];
    }
    quantize_line(j, col + c, 0, s->x + c * rows, rows, y, codes, weight, loss);
    for (int64_t i = 0; i < rows && y != NULL; i++) j->values[i * tile->cols + col + c] = y[i];
    for (int64_t i = 0; i < rows && want_codes; i++) {
      j->out->codes[i * tile->cols + col + c] = codes[i];
    }
  }
}

/* Groups along the rows, second pass: rows of values are stored and measured. */
static void finish_task(void *context, size_t task, int worker) {
  job *j = context;
  scratch *s = worker_scratch(j, worker);
  if (s == NULL) return;
  const rondo_tile *tile = j->tile;
  int64_t first = (int64_t)task * j->rows_per_task;
  int64_t last = smallest(first + j->rows_per_task, tile->rows);
  for (int64_t row = first; row < last; row++) {
    double lanes[32] = {0};
    for (int64_t col = 0; col < tile->cols; col += PIECE) {
      int64_t n = smallest(PIECE, tile->cols - col);
      load(j, tile, row, col, n, s->x);
      bool specials = j->q->kernels->largest_magnitude(s->x, (size_t)n) >= 0x7f800000u;
      for (int64_t i = 0; specials && i < n; i++) s->x[i] = is_special(s->x[i]) ? 0 : s->x[i];
      finish_piece(j, row, col, n, s->x, j->values + row * tile->cols + col, specials, lanes);
    }
    finish_row(j, row, lanes);
  }
}

/* Sums over two tiles. Places where either is not finite count as no difference. */
static void error_task(void *context, size_t task, int worker) {
  job *j = context;
  scratch *s = worker_scratch(j, worker);
  if (s == NULL) return;
  const rondo_tile *tile = j->tile;
  int64_t first = (int64_t)task * j->rows_per_task;
  int64_t last = smallest(first + j->rows_per_task, tile->rows);
  for (int64_t row = first; row < last; row++) {
    double lanes[32] = {0};
    for (int64_t col = 0; col < tile->cols; col += PIECE) {
      int64_t n = smallest(PIECE, tile->cols - col);
      load(j, tile, row, col, n, s->x);
      load(j, j->other, row, col, n, s->y);
      for (int64_t i = 0; i < n; i++) {
        if (is_special(s->x[i]) || is_special(s->y[i])) s->x[i] = s->y[i] = 0;
      }
      j->q->kernels->add_error(s->x, s->y, tile->weight == NULL ? NULL : tile->weight + col,
                               (size_t)n, (size_t)col, lanes, lanes + 16);
    }
    finish_row(j, row, lanes);
  }
}

/* ---- Running a job ---- */

static bool reserve(job *j, size_t tasks) {
  int64_t rows = j->tile->rows, cols = j->tile->cols, line = rows * smallest(STRIP, cols);
  int64_t piece = piece_columns(j), finish = smallest(PIECE, cols);
  bool columns = j->q->group_dim == 0 && j->purpose != ERRORS;
  j->scratch_values = columns ? (line > finish ? line : finish) : piece;
  j->groups = columns ? ceil_div_i64(rows, j->q->group_size) : ceil_div_i64(cols, j->q->group_size);
  j->scratch = calloc((size_t)rondo_pool_threads(j->q->pool), sizeof *j->scratch);
  bool sums = j->purpose == ERRORS || (j->purpose == QUANTIZE && j->out->want_error);
  if (sums) j->row_sums = calloc((size_t)rows, 2 * sizeof(double));
  if (j->purpose == LOSSES) j->task_losses = calloc(tasks, j->ratio_count * sizeof(double));
  if (columns && j->purpose == QUANTIZE && (j->out->values != NULL || sums)) {
    j->values = malloc((size_t)rows * (size_t)cols * sizeof(float));
    if (j->values == NULL) return false;
  }
  return j->scratch != NULL && (!sums || j->row_sums != NULL) &&
         (j->purpose != LOSSES || j->task_losses != NULL);
}

static void release(job *j) {
  for (int i = 0; j->scratch != NULL && i < rondo_pool_threads(j->q->pool); i++) {
    free(j->scratch[i].x);
  }
  free(j->scratch);
  free(j->values);
  free(j->row_sums);
  free(j->task_losses);
}

static bool judge(job *j, rondo_place *place) {
  uint64_t weight = atomic_load(&j->bad_weight), scale = atomic_load(&j->bad_scale);
  uint64_t cols = (uint64_t)j->tile->cols;
  *place = (rondo_place){.status = RONDO_OK};
  if (atomic_load(&j->no_memory)) {
    place->status = RONDO_MEMORY;
  } else if (weight != UINT64_MAX || scale != UINT64_MAX) {
    uint64_t at = weight != UINT64_MAX ? weight : scale;
    place->status = RONDO_NONFINITE;
    place->scale = weight == UINT64_MAX;
    place->row = (int64_t)(at / cols);
    place->col = (int64_t)(at % cols);
  }
  return place->status == RONDO_OK;
}

static void begin_task(void *context, size_t task, int worker) {
  (void)task;
  (void)worker;
  job *j = context;
  j->ratio = (float)j->q->ratio;
}

/* Runs the job's tasks: rows, or strips of columns and then rows. */
static bool run(job *j, rondo_place *place) {
  const rondo_tile *tile = j->tile;
  *place = (rondo_place){.status = RONDO_OK};
  if (tile->rows == 0 || tile->cols == 0) return true;
  bool columns = j->q->group_dim == 0 && j->purpose != ERRORS;
  j->rows_per_task = ceil_div_i64(TASK_VALUES, tile->cols);
  size_t row_tasks = (size_t)ceil_div_i64(tile->rows, j->rows_per_task);
  size_t strips = (size_t)ceil_div_i64(tile->cols, STRIP), tasks = columns ? strips : row_tasks;
  atomic_init(&j->bad_weight, UINT64_MAX);
  atomic_init(&j->bad_scale, UINT64_MAX);
  atomic_init(&j->no_memory, !reserve(j, tasks));
  j->tasks = tasks;
  if (!atomic_load(&j->no_memory)) {
    rondo_pool_run(j->q->pool, 1, begin_task, j);
    rondo_task task = columns ? strip_task : j->purpose == ERRORS ? error_task : row_task;
    rondo_pool_run(j->q->pool, tasks, task, j);
  }
  bool good = judge(j, place);
  if (good && j->values != NULL) {
    rondo_pool_run(j->q->pool, row_tasks, finish_task, j);
    good = judge(j, place);
  }
  return good;
}

/* Folding is a task too, for its floating-point environment. */
static void add_rows_task(void *context, size_t task, int worker) {
  (void)task;
  (void)worker;
  const job *j = context;
  for (int64_t row = 0; row < j->tile->rows; row++) {
    *j->error += j->row_sums[2 * row];
    *j->norm += j->row_sums[2 * row + 1];
  }
}

static void add_rows(job *j, double *error, double *norm) {
  if (j->row_sums == NULL) return;
  j->error = error;
  j->norm = norm;
  rondo_pool_run(j->q->pool, 1, add_rows_task, j);
}

static void add_losses_task(void *context, size_t task, int worker) {
  (void)task;
  (void)worker;
  const job *j = context;
  for (size_t t = 0; t < j->tasks; t++) {
    for (size_t r = 0; r < j->ratio_count; r++) {
      j->losses[r] += j->task_losses[t * j->ratio_count + r];
    }
  }
}

bool rondo_tile_quantize(const rondo_quantizer *q, const rondo_tile *tile, rondo_quantized *out,
                         rondo_place *place) {
  job j = {.purpose = QUANTIZE, .q = q, .tile = tile, .out = out};
  bool good = run(&j, place);
  if (good) add_rows(&j, &out->error, &out->norm);
  release(&j);
  return good;
}

bool rondo_tile_ranges(const rondo_quantizer *q, const rondo_tile *tile, rondo_place *place) {
  job j = {.purpose = RANGES, .q = q, .tile = tile};
  bool good = run(&j, place);
  release(&j);
  return good;
}

void rondo_ranges_clear(rondo_range *ranges, size_t count) {
  for (size_t i = 0; i < count; i++) ranges[i] = (rondo_range){INFINITY, -INFINITY};
}

typedef struct {
  const rondo_quantizer *q;
  const rondo_range *ranges;
  size_t count, good; /* good: ranges before the first whose scale is not finite */
  float *scales;
  uint8_t *zeros;
} params_job;

static void params_task(void *context, size_t task, int worker) {
  (void)task;
  (void)worker;
  params_job *j = context;
  for (; j->good < j->count; j->good++) {
    float ratio = (float)j->q->ratio;
    rondo_params p = j->q->kernels->params_of(j->q->grid, j->ranges[j->good], ratio);
    if (!isfinite(stored_scale(j->q, p.scale))) return;
    if (j->scales != NULL) j->scales[j->good] = p.scale;
    if (j->zeros != NULL) j->zeros[j->good] = (uint8_t)(int32_t)p.zero;
  }
}

bool rondo_ranges_params(const rondo_quantizer *q, const rondo_range *ranges, size_t count,
                         float *scales, uint8_t *zeros, size_t *bad) {
  params_job j = {q, ranges, count, 0, scales, zeros};
  rondo_pool_run(q->pool, 1, params_task, &j); /* a task: it has the right FP environment */
  *bad = j.good;
  return j.good == count;
}

bool rondo_tile_losses(const rondo_quantizer *q, const rondo_tile *tile, const float *ratios,
                       size_t count, double *loss, rondo_place *place) {
  job j = {.purpose = LOSSES, .q = q, .tile = tile, .ratios = ratios, .ratio_count = count};
  bool good = run(&j, place);
  if (good && j.task_losses != NULL) {
    j.losses = loss;
    rondo_pool_run(q->pool, 1, add_losses_task, &j);
  }
  release(&j);
  return good;
}

bool rondo_tile_error(const rondo_quantizer *q, const rondo_tile *x, const rondo_tile *y,
                      double *error, double *norm) {
  job j = {.purpose = ERRORS, .q = q, .tile = x, .other = y};
  rondo_place place;
  bool good = run(&j, &place);
  if (good) add_rows(&j, error, norm);
  release(&j);
  return good;
}

/* ---- Dequantizing ---- */

typedef struct {
  const rondo_quantizer *q;
  const uint8_t *codes;
  int64_t rows, cols, groups;
  const float *scales;
  const uint8_t *zeros;
  float *values;
} decoding;

static rondo_params stored_params(const decoding *d, int64_t at) {
  return (rondo_params){d->scales[at], d->zeros == NULL ? 0 : (float)d->zeros[at]};
}

static void decode_row(void *context, size_t task, int worker) {
  (void)worker;
  decoding *d = context;
  int64_t row = (int64_t)task, size = d->q->group_size;
  const uint8_t *codes = d->codes + row * d->cols;
  float *values = d->values + row * d->cols;
  bool columns = d->q->group_dim == 0;
  for (int64_t col = 0; col < d->cols;) {
    int64_t n = columns ? 1 : smallest(size, d->cols - col);
    int64_t at = columns ? row / size * d->cols + col : row * d->groups + col / size;
    d->q->kernels->dequantize_group(d->q->grid, stored_params(d, at), codes + col, (size_t)n,
                                    values + col);
    col += n;
  }
}

bool rondo_tile_dequantize(const rondo_quantizer *q, const uint8_t *codes, int64_t rows,
                           int64_t cols, const float *scales, const uint8_t *zeros, float *values) {
  decoding d = {q, codes, rows, cols, ceil_div_i64(cols, q->group_size), scales, zeros, values};
  if (cols > 0) rondo_pool_run(q->pool, (size_t)rows, decode_row, &d);
  return true;
}
