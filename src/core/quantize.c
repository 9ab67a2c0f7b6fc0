/* quantize.c - a scheme over a tile of a weight matrix, on all threads: how the tile is cut into
 * tasks, the workers' memory, and what the tasks for rows and for columns have in common. */
#include "core/quantize.h"

#include "core/checked.h"
#include "core/dtype.h"
#include "core/quantize_job.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
  TASK_VALUES = 32768,    /* a task takes rows until it has this many values */
  PIECE_VALUES = 1024,    /* of a row at once: values and codes stay in L1 */
  STRIP_VALUES = 512,     /* columns at once where groups run along the rows */
  LONG_GROUP = 512,       /* rows; longer groups are read twice from memory: wider strips */
  SEGMENT_GROUPS = 16384, /* whose parameters are kept at once */
  READ_BYTES = 1 << 18    /* rows of more bytes are read before the work begins */
};

/* ---- Values ---- */

const unsigned char *rondo_job_address(const job *j, const scratch *s, int64_t row, int64_t col) {
  const rondo_tile *tile = j->tile;
  size_t size = dtype_bytes(tile->dtype);
  if (tile->read != NULL) {
    return s->read + (size_t)((row - s->read_first) * tile->cols + col) * size;
  }
  return (const unsigned char *)tile->data + (size_t)(row * tile->row_stride + col) * size;
}

static bool is_special(float x) {
  return !isfinite(x);
}

/* Codes cannot hold NaN and infinity, so there they are an error whatever is asked for. */
static bool keeps_specials(const job *j) {
  bool codes = j->purpose == QUANTIZE && (j->out->codes != NULL || j->out->words != NULL);
  return j->q->keep_nonfinite && !codes;
}

line rondo_job_line(job *j, scratch *s, int64_t row, int64_t col, int64_t n, bool finite) {
  const void *x = rondo_job_address(j, s, row, col);
  if (finite) return (line){x, j->tile->dtype, false};
  if (s->line == NULL)
    s->line = malloc((size_t)smallest(j->segment, j->tile->cols) * sizeof(float));
  if (s->line == NULL) {
    atomic_store(&j->no_memory, true);
    return (line){NULL, RONDO_F32, false};
  }
  j->q->kernels->to_f32[j->tile->dtype](x, s->line, (size_t)n);
  bool keep = keeps_specials(j);
  for (int64_t i = 0; i < n; i++) {
    if (!is_special(s->line[i])) continue;
    if (!keep) record_bad(&j->bad_weight, (uint64_t)(row * j->tile->cols + col + i));
    s->line[i] = 0;
  }
  return (line){s->line, RONDO_F32, true};
}

/* ---- Results ---- */

bool rondo_job_at_ratios(const job *j) {
  return j->losses->ratios != NULL && !j->losses->exact && j->losses->power == 2 &&
         (j->q->storage.dtype == RONDO_F32 || j->q->round_first);
}

float rondo_job_ratio(const job *j, size_t r) {
  return j->losses->ratios == NULL ? j->ratio : j->losses->ratios[r];
}

bool rondo_job_wants_values(const job *j) {
  return j->out->values != NULL || j->out->error != NULL;
}

/* Codes come from the f32 scale, values from the one that is stored beside the codes. */
bool rondo_job_values_from_codes(const job *j, const scratch *s) {
  return s->stored != s->scale && j->q->grid->bits <= 8;
}

/* Puts back the values that are passed through. */
static void restore_specials(job *j, const scratch *s, int64_t row, int64_t col, int64_t n,
                             float *y) {
  for (int64_t i = 0; i < n; i++) {
    float original;
    j->q->kernels->to_f32[j->tile->dtype](rondo_job_address(j, s, row, col + i), &original, 1);
    if (is_special(original)) y[i] = original;
  }
}

void rondo_job_finish_piece(job *j, scratch *s, int64_t row, int64_t col, int64_t n, line x,
                            float *y) {
  const rondo_kernels *k = j->q->kernels;
  rondo_quantized *out = j->out;
  unsigned char *stored = NULL;
  if (out->values != NULL) {
    size_t size = rondo_dtype_size(out->values_dtype);
    stored = (unsigned char *)out->values + (size_t)(row * j->tile->cols + col) * size;
    k->from_f32[out->values_dtype](y, stored, (size_t)n);
  }
  if (out->error != NULL) {
    const float *weight = j->tile->weight == NULL ? NULL : j->tile->weight + col;
    double *sums = j->block_sums + 2 * (row * j->blocks + col / RONDO_ERROR_BLOCK);
    if (stored != NULL && out->values_dtype != RONDO_F32) {
      k->to_f32[out->values_dtype](stored, y, (size_t)n);
    }
    k->squared_error(x.dtype, x.x, y, weight, (size_t)n, sums);
  }
  if (x.special && stored != NULL) {
    restore_specials(j, s, row, col, n, y);
    k->from_f32[out->values_dtype](y, stored, (size_t)n);
  }
}

/* Sums over two tiles. Places where either is not finite count as no difference. */
static void error_task(job *j, scratch *s, size_t task) {
  const rondo_kernels *k = j->q->kernels;
  const rondo_tile *tile = j->tile, *other = j->other;
  int64_t first = (int64_t)task * j->task_rows;
  int64_t last = smallest(first + j->task_rows, tile->rows);
  for (int64_t row = first; row < last; row++) {
    for (int64_t col = 0; col < tile->cols; col += j->piece) {
      int64_t n = smallest(j->piece, tile->cols - col);
      const unsigned char *y = other->data;
      y += (size_t)(row * other->row_stride + col) * dtype_bytes(other->dtype);
      k->to_f32[tile->dtype](rondo_job_address(j, s, row, col), s->x, (size_t)n);
      k->to_f32[other->dtype](y, s->y, (size_t)n);
      uint32_t a = k->largest_magnitude(s->x, (size_t)n), b = k->largest_magnitude(s->y, (size_t)n);
      for (int64_t i = 0; (a >= 0x7f800000u || b >= 0x7f800000u) && i < n; i++) {
        if (is_special(s->x[i]) || is_special(s->y[i])) s->x[i] = s->y[i] = 0;
      }
      k->squared_error(RONDO_F32, s->x, s->y, tile->weight == NULL ? NULL : tile->weight + col,
                       (size_t)n, j->block_sums + 2 * (row * j->blocks + col / RONDO_ERROR_BLOCK));
    }
  }
}

/* ---- Cutting the tile ---- */

static int64_t gcd(int64_t a, int64_t b) {
  while (b != 0) {
    int64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

static int64_t lcm(int64_t a, int64_t b) {
  return a / gcd(a, b) * b;
}

/* The largest multiple of unit up to `most`, at least one. */
static int64_t multiple(int64_t most, int64_t unit) {
  return most < unit ? unit : most / unit * unit;
}

static int64_t round_up(int64_t value, int64_t unit) {
  return ceil_div_i64(value, unit) * unit;
}

/* Cuts come at multiples of RONDO_ERROR_BLOCK columns, and never within a word. */
static void cut_rows(job *j) {
  const rondo_tile *tile = j->tile;
  bool packs = j->purpose == QUANTIZE && j->out->words != NULL;
  int64_t across = packs && j->out->packing.dim == 1 ? j->out->packing.fields : 1;
  bool packs_down = packs && j->out->packing.dim == 0;
  int64_t down = packs_down ? j->out->packing.fields : 1;
  int64_t unit = lcm(RONDO_ERROR_BLOCK, across), size = j->q->group_size;
  j->strip = tile->cols;
  /* Tasks that gather by group keep blocks of rows whole. */
  bool gathers = j->purpose == RANGES || (j->purpose == LOSSES && j->losses->groups != NULL);
  j->task_rows = round_up(ceil_div_i64(TASK_VALUES, tile->cols), gathers ? j->q->group_rows : down);
  j->piece = multiple(PIECE_VALUES, unit);
  j->segment = tile->cols;
  if (tile->ranges == NULL && tile->cols / size > SEGMENT_GROUPS) {
    j->segment = multiple(SEGMENT_GROUPS, unit) * size;
  }
  j->params = smallest(j->segment, tile->cols) / size + 2;
  j->code_rows = down;
  j->code_cols = packs_down ? tile->cols : smallest(j->piece, tile->cols);
  j->tasks = (size_t)ceil_div_i64(tile->rows, j->task_rows);
}

static void cut_columns(job *j) {
  const rondo_tile *tile = j->tile;
  bool packs = j->purpose == QUANTIZE && j->out->words != NULL;
  int64_t across = packs && j->out->packing.dim == 1 ? j->out->packing.fields : 1;
  int64_t down = packs && j->out->packing.dim == 0 ? j->out->packing.fields : 1;
  int64_t unit = lcm(RONDO_ERROR_BLOCK, across), size = j->q->group_size;
  int64_t width = size > LONG_GROUP ? 2 * STRIP_VALUES : STRIP_VALUES;
  j->strip = smallest(multiple(width, unit), tile->cols);
  j->piece = j->segment = j->params = j->strip;
  /* Groups of a tile stay with one task; those that run on into other tiles, all rows do. */
  bool whole = tile->ranges != NULL || size >= tile->rows;
  j->task_rows = whole ? tile->rows : lcm(size, down);
  if (!whole) j->task_rows = round_up(TASK_VALUES / j->strip, j->task_rows);
  j->code_rows = down;
  j->code_cols = j->strip;
  j->tasks = (size_t)(ceil_div_i64(tile->cols, j->strip) * ceil_div_i64(tile->rows, j->task_rows));
}

static bool by_columns(const job *j) {
  return j->q->group_dim == 0 && j->purpose != ERRORS;
}

/* ---- Memory ---- */

/* Room for the arrays of a worker; the read rows come first, for their alignment. */
static scratch *worker_scratch(job *j, int worker) {
  scratch *s = &j->scratch[worker];
  if (s->x != NULL) return s;
  size_t piece = (size_t)smallest(j->piece, j->tile->cols), params = (size_t)j->params;
  size_t values = by_columns(j) && j->purpose == LOSSES ? LINES * LINE_ROWS : piece;
  size_t rows = (size_t)smallest(j->task_rows, j->tile->rows);
  size_t reads =
      j->tile->read == NULL ? 0 : rows * (size_t)j->tile->cols * dtype_bytes(j->tile->dtype);
  size_t codes = (size_t)(j->code_rows * j->code_cols), floats = piece + values + 7 * params;
  reads = (reads + 63) / 64 * 64;
  unsigned char *memory = malloc(reads + floats * sizeof(float) + codes);
  if (memory == NULL) {
    atomic_store(&j->no_memory, true);
    return NULL;
  }
  float *at = (float *)(memory + reads);
  *s = (scratch){.read = memory, .x = at, .y = at + piece};
  float **arrays[] = {&s->low,     &s->high,      &s->scale,     &s->zero,
                      &s->inverse, &s->other_low, &s->other_high};
  at += piece + values;
  for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++, at += params) *arrays[i] = at;
  s->codes = (uint8_t *)at;
  return s;
}

static bool reserve(job *j) {
  bool sums = j->purpose == ERRORS || (j->purpose == QUANTIZE && j->out->error != NULL);
  j->scratch = calloc((size_t)rondo_pool_threads(j->q->pool), sizeof *j->scratch);
  j->blocks = ceil_div_i64(j->tile->cols, RONDO_ERROR_BLOCK);
  if (sums) j->block_sums = calloc((size_t)(j->tile->rows * j->blocks), 2 * sizeof(double));
  bool totals = j->purpose == LOSSES && j->losses->total != NULL;
  if (totals) j->task_losses = calloc(j->tasks, j->losses->count * sizeof(double));
  return j->scratch != NULL && (!sums || j->block_sums != NULL) &&
         (!totals || j->task_losses != NULL);
}

static void release(job *j) {
  for (int i = 0; j->scratch != NULL && i < rondo_pool_threads(j->q->pool); i++) {
    free(j->scratch[i].read);
    free(j->scratch[i].line);
  }
  free(j->scratch);
  free(j->block_sums);
  free(j->task_losses);
  if (j->tile == &j->staged) free((void *)(uintptr_t)j->staged.data);
}

/* ---- Reading ---- */

static bool read_rows(job *j, const rondo_tile *tile, int64_t first, int64_t rows, void *out) {
  rondo_error e;
  if (tile->read(tile->source, first, rows, out, &e)) return true;
  if (!atomic_exchange(&j->unreadable, true)) j->read_error = e;
  return false;
}

static void stage_task(void *context, size_t task, int worker) {
  (void)worker;
  job *j = context;
  const rondo_tile *from = j->other;
  int64_t step = ceil_div_i64(TASK_VALUES, from->cols), first = (int64_t)task * step;
  size_t row_bytes = (size_t)from->cols * dtype_bytes(from->dtype);
  unsigned char *to = (unsigned char *)(uintptr_t)j->staged.data + (size_t)first * row_bytes;
  read_rows(j, from, first, smallest(step, from->rows - first), to);
}

/* Reads the tile at once where tasks would read it in small parts. */
static void stage(job *j) {
  const rondo_tile *tile = j->tile;
  size_t row_bytes = (size_t)tile->cols * dtype_bytes(tile->dtype);
  if (tile->read == NULL || (!by_columns(j) && row_bytes <= READ_BYTES)) return;
  void *data = malloc((size_t)tile->rows * row_bytes);
  if (data == NULL) {
    atomic_store(&j->no_memory, true);
    return;
  }
  const rondo_tile *other = j->other;
  j->staged = *tile;
  j->staged.read = NULL;
  j->staged.data = data;
  j->staged.row_stride = tile->cols;
  j->other = tile;
  int64_t step = ceil_div_i64(TASK_VALUES, tile->cols);
  rondo_pool_run(j->q->pool, (size_t)ceil_div_i64(tile->rows, step), stage_task, j);
  j->other = other;
  j->tile = &j->staged;
}

/* ---- Running a job ---- */

static void run_task(void *context, size_t task, int worker) {
  job *j = context;
  scratch *s = worker_scratch(j, worker);
  if (s == NULL || atomic_load_explicit(&j->unreadable, memory_order_relaxed)) return;
  if (j->tile->read != NULL) {
    s->read_first = (int64_t)task * j->task_rows;
    int64_t rows = smallest(j->task_rows, j->tile->rows - s->read_first);
    if (!read_rows(j, j->tile, s->read_first, rows, s->read)) return;
  }
  if (j->purpose == ERRORS) {
    error_task(j, s, task);
  } else if (by_columns(j)) {
    rondo_column_task(j, s, task);
  } else {
    rondo_row_task(j, s, task);
  }
}

static void begin_task(void *context, size_t task, int worker) {
  (void)task;
  (void)worker;
  job *j = context;
  j->ratio = (float)j->q->ratio;
}

static bool judge(job *j, rondo_place *place) {
  uint64_t weight = atomic_load(&j->bad_weight), scale = atomic_load(&j->bad_scale);
  uint64_t cols = (uint64_t)j->tile->cols;
  if (atomic_load(&j->no_memory)) {
    place->status = RONDO_MEMORY;
  } else if (atomic_load(&j->unreadable)) {
    place->status = j->read_error.status;
    place->error = j->read_error;
  } else if (weight != UINT64_MAX || scale != UINT64_MAX) {
    uint64_t at = weight != UINT64_MAX ? weight : scale;
    place->status = RONDO_NONFINITE;
    place->scale = weight == UINT64_MAX;
    place->row = (int64_t)(at / cols);
    place->col = (int64_t)(at % cols);
  }
  return place->status == RONDO_OK;
}

static bool run(job *j, rondo_place *place) {
  *place = (rondo_place){.status = RONDO_OK};
  if (j->tile->rows == 0 || j->tile->cols == 0) return true;
  atomic_init(&j->bad_weight, UINT64_MAX);
  atomic_init(&j->bad_scale, UINT64_MAX);
  atomic_init(&j->unreadable, false);
  if (by_columns(j)) {
    cut_columns(j);
  } else {
    cut_rows(j);
  }
  j->groups = ceil_div_i64(j->tile->cols, j->q->group_size);
  atomic_init(&j->no_memory, !reserve(j));
  if (!atomic_load(&j->no_memory)) stage(j);
  if (!atomic_load(&j->no_memory)) {
    rondo_pool_run(j->q->pool, 1, begin_task, j);
    rondo_pool_run(j->q->pool, j->tasks, run_task, j);
  }
  return judge(j, place);
}

/* Blocks of columns are summed the same way whatever the tile is, and what adds them up is exact:
 * the sums of a matrix do not depend on its tiles, where those are cut between blocks. */
static void add_sums(const job *j, rondo_exact_sum *error, rondo_exact_sum *norm) {
  size_t count = j->block_sums == NULL ? 0 : (size_t)(j->tile->rows * j->blocks);
  for (size_t i = 0; i < count; i++) {
    rondo_exact_sum_add(error, j->block_sums[2 * i]);
    rondo_exact_sum_add(norm, j->block_sums[2 * i + 1]);
  }
}

static void add_losses_task(void *context, size_t task, int worker) {
  (void)task;
  (void)worker;
  const job *j = context;
  for (size_t t = 0; t < j->tasks; t++) {
    for (size_t r = 0; r < j->losses->count; r++) {
      j->losses->total[r] += j->task_losses[t * j->losses->count + r];
    }
  }
}

bool rondo_tile_quantize(const rondo_quantizer *q, const rondo_tile *tile, rondo_quantized *out,
                         rondo_place *place) {
  job j = {.purpose = QUANTIZE, .q = q, .tile = tile, .out = out};
  bool good = run(&j, place);
  if (good) add_sums(&j, out->error, out->norm);
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

bool rondo_tile_losses(const rondo_quantizer *q, const rondo_tile *tile, const rondo_losses *wanted,
                       rondo_place *place) {
  job j = {.purpose = LOSSES, .q = q, .tile = tile, .losses = wanted};
  bool good = run(&j, place);
  if (good && j.task_losses != NULL) rondo_pool_run(q->pool, 1, add_losses_task, &j);
  release(&j);
  return good;
}

bool rondo_tile_error(const rondo_quantizer *q, const rondo_tile *x, const rondo_tile *y,
                      rondo_exact_sum *error, rondo_exact_sum *norm, rondo_place *place) {
  job j = {.purpose = ERRORS, .q = q, .tile = x, .other = y};
  bool good = run(&j, place);
  if (good) add_sums(&j, error, norm);
  release(&j);
  return good;
}
