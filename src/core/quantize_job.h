/* quantize_job.h - what the tasks of quantize.c share: one call over one tile.
 *
 * Tasks write to places of their own; sums are kept per block of columns of a row, losses per
 * task, and added up at the end, so that no result depends on the number of threads. */
#ifndef RONDO_CORE_QUANTIZE_JOB_H
#define RONDO_CORE_QUANTIZE_JOB_H

#include "core/quantize.h"

#include <stdatomic.h>

typedef enum { QUANTIZE, RANGES, LOSSES, ERRORS } purpose;

/* Losses of groups along the rows: columns that are gathered as lines, and rows of them at once, a
 * multiple of RONDO_ERROR_BLOCK; s->y holds as many values then. */
enum { LINES = 16, LINE_ROWS = 1024 };

/* A worker's buffers, made by its first task. Arrays of params hold one element a group (rows) or a
 * column (columns). */
typedef struct {
  unsigned char *read; /* the task's rows, where the tile is read */
  int64_t read_first;  /* the tile's row that stands first in it */
  float *x, *y;
  float *low, *high, *scale, *zero, *inverse, *stored;
  float *other_low, *other_high; /* for looking at values whose ranges are known */
  uint8_t *codes;
  float *line; /* a segment whose values that are not finite are set to 0; made when needed */
} scratch;

typedef struct {
  purpose purpose;
  const rondo_quantizer *q;
  const rondo_tile *tile, *other; /* other: the second tile of ERRORS */
  rondo_quantized *out;
  float ratio; /* of the quantizer, rounded in a task: there the rounding mode is known */

  /* How the tile is cut. */
  int64_t task_rows,
      strip;       /* rows and columns of a task; all columns where groups run along them */
  int64_t segment; /* columns whose groups' parameters are kept at once */
  int64_t piece;   /* columns that are quantized at once */
  int64_t groups;  /* per line of the tile, parts of groups included */
  int64_t params;  /* elements of the arrays of params */
  int64_t code_rows, code_cols;

  rondo_tile staged;  /* the tile in memory, where it is read beforehand */
  double *block_sums; /* [rows][blocks][2]: error and norm of each RONDO_ERROR_BLOCK columns */
  int64_t blocks;
  const rondo_losses *losses;
  size_t tasks;
  double *task_losses; /* [tasks][losses->count], where totals are wanted */

  scratch *scratch;                       /* one per worker */
  _Atomic uint64_t bad_weight, bad_scale; /* smallest row-major index found so far */
  atomic_bool no_memory, unreadable;
  rondo_error read_error; /* of whoever set unreadable */
} job;

/* Values of a row from a column on: where they are and as what. */
typedef struct {
  const void *x;
  rondo_dtype dtype;
  bool special; /* some were not finite, and are 0 here */
} line;

/* ---- quantize.c ---- */

/* The task's row `row` from column col on, as stored. */
const unsigned char *rondo_job_address(const job *j, const scratch *s, int64_t row, int64_t col);

/* n values from a place as a line without NaN and infinity. finite: what a look at them has said.
 * Where they are not, they are reported, or set to 0 in the worker's own copy. NULL x: no memory.
 */
line rondo_job_line(job *j, scratch *s, int64_t row, int64_t col, int64_t n, bool finite);

/* Whether losses are those of the kernel for many ratios, rather than of values one by one. */
bool rondo_job_at_ratios(const job *j);

/* Ratio r of LOSSES, or the quantizer's. */
float rondo_job_ratio(const job *j, size_t r);

/* Whether dequantized values are wanted, and whether they are computed from codes. */
bool rondo_job_wants_values(const job *j);
bool rondo_job_values_from_codes(const job *j, const scratch *s);

/* Stores y (columns col .. col+n-1 of a row) and notes the error. x: the line's values from col. */
void rondo_job_finish_piece(job *j, scratch *s, int64_t row, int64_t col, int64_t n, line x,
                            float *y);

/* ---- quantize_params.c ---- */

/* Scales (as computed with and as stored), zero points and inverses of n params, those from index
 * `at` on of what is given by group; or of s->low and s->high, clipped to ratio. False when a scale
 * is not finite, whose number is *bad then. *divide: some inverse is NaN. */
bool rondo_job_params(job *j, scratch *s, int64_t at, int64_t n, float ratio, int64_t *bad,
                      bool *divide);

/* Notes a group whose scale is not finite, by its first weight. */
void rondo_job_bad_scale(job *j, int64_t row, int64_t col);

/* n zero points from index `at` on, as floats; zeros: NULL for none. */
void rondo_load_zeros(const rondo_grid *grid, const void *zeros, int64_t at, int64_t n,
                      float *zero);

/* Stores n params where they are wanted, from index `at` on. */
void rondo_job_store_params(const job *j, const scratch *s, int64_t at, int64_t n);

/* ---- The tasks ---- */

void rondo_row_task(job *j, scratch *s, size_t task);    /* quantize_rows.c */
void rondo_column_task(job *j, scratch *s, size_t task); /* quantize_columns.c */

/* Puts the smallest row-major index in *slot. */
static inline void record_bad(_Atomic uint64_t *slot, uint64_t index) {
  uint64_t seen = atomic_load(slot);
  while (index < seen && !atomic_compare_exchange_weak(slot, &seen, index)) {
  }
}

static inline int64_t smallest(int64_t a, int64_t b) {
  return a < b ? a : b;
}

static inline size_t dtype_bytes(rondo_dtype dtype) {
  return dtype == RONDO_F32 ? 4 : 2;
}

static inline const void *skip(line l, int64_t values) {
  return (const unsigned char *)l.x + (size_t)values * dtype_bytes(l.dtype);
}

#endif
