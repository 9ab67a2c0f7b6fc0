/* gather.c - strided views into arrays and back, run by run along the last dimension. */
#include "core/gather.h"

#include "core/checked.h"
#include "core/dtype.h"
#include "core/spread.h"
#include "core/tensor.h"

#include <string.h>

/* Where a walk through a coalesced view stands. */
typedef struct {
  const rondo_tensor *t;
  int64_t index[RONDO_MAX_RANK];
  char *at;
  size_t size; /* bytes of one element */
} walk;

static walk walk_to(const rondo_tensor *t, int64_t first) {
  walk w; /* only the places in use of index are set */
  w.t = t;
  w.size = rondo_dtype_size(t->dtype);
  int64_t offset = 0;
  for (int d = t->rank - 1; d >= 0; d--) {
    w.index[d] = first % t->shape[d];
    first /= t->shape[d];
    offset += w.index[d] * t->stride[d];
  }
  w.at = (char *)t->data + offset * (int64_t)w.size;
  return w;
}

/* Elements left in the current run, at most count. */
static size_t run_length(const walk *w, size_t count) {
  int last = w->t->rank - 1;
  size_t left = (size_t)(w->t->shape[last] - w->index[last]);
  return left < count ? left : count;
}

/* Goes on by a whole or partial run; carries into the dimensions before the last. */
static void advance(walk *w, size_t run) {
  const rondo_tensor *t = w->t;
  int64_t size = (int64_t)w->size;
  int d = t->rank - 1;
  w->index[d] += (int64_t)run;
  w->at += (int64_t)run * t->stride[d] * size;
  while (d > 0 && w->index[d] == t->shape[d]) {
    w->at -= w->index[d] * t->stride[d] * size;
    w->index[d--] = 0;
    w->index[d]++;
    w->at += t->stride[d] * size;
  }
}

/* n elements, source and target steps in bytes. */
#define MOVE(bytes)                                                              \
  for (size_t i = 0; i < n; i++, target += target_step, source += source_step) { \
    memcpy(target, source, bytes);                                               \
  }                                                                              \
  break

static void move(char *target, int64_t target_step, const char *source, int64_t source_step,
                 size_t size, size_t n) {
  if (target_step == (int64_t)size && source_step == (int64_t)size) {
    memcpy(target, source, n * size);
    return;
  }
  switch (size) {
  case 1:
    MOVE(1);
  case 2:
    MOVE(2);
  case 4:
    MOVE(4);
  default:
    MOVE(8);
  }
}

void rondo_copy_strided(void *out, const void *source, size_t step, size_t size, size_t n) {
  move(out, (int64_t)size, source, (int64_t)step, size, n);
}

const void *rondo_peek(const rondo_tensor *t, int64_t first, size_t count) {
  if (t->rank == 1 && (t->stride[0] == 1 || count == 1)) return walk_to(t, first).at;
  if (t->rank == 1 || t->stride[t->rank - 1] != 1) return NULL;
  walk w = walk_to(t, first);
  return run_length(&w, count) == count ? w.at : NULL;
}

void rondo_gather(const rondo_tensor *t, int64_t first, size_t count, void *out) {
  if (count == 0) return;
  walk w = walk_to(t, first);
  char *target = out;
  int64_t size = (int64_t)w.size, step = t->stride[t->rank - 1] * size;
  while (count > 0) {
    size_t run = run_length(&w, count);
    move(target, size, w.at, step, w.size, run);
    target += run * w.size;
    count -= run;
    if (count > 0) advance(&w, run);
  }
}

void rondo_scatter(const rondo_tensor *t, int64_t first, size_t count, const void *in) {
  if (count == 0) return;
  walk w = walk_to(t, first);
  const char *source = in;
  int64_t size = (int64_t)w.size, step = t->stride[t->rank - 1] * size;
  while (count > 0) {
    size_t run = run_length(&w, count);
    move(w.at, step, source, size, w.size, run);
    source += run * w.size;
    count -= run;
    if (count > 0) advance(&w, run);
  }
}

/* One square of a transposition, by way of a buffer: each cache line of the source (a column) and
 * of the target (a row) is used once, however their addresses collide in the cache. */
static void copy_square(char *target, int64_t pitch, const char *source, int64_t col_step,
                        size_t size, size_t rows, size_t cols) {
  _Alignas(64) char square[4096];
  size_t row_bytes = cols * size;
  for (size_t c = 0; c < cols; c++) {
    move(square + c * size, (int64_t)row_bytes, source + (int64_t)c * col_step, (int64_t)size, size,
         rows);
  }
  for (size_t r = 0; r < rows; r++) {
    memcpy(target + (int64_t)r * pitch, square + r * row_bytes, row_bytes);
  }
}

/* rows x cols elements, of which those of a column lie one after the other in the source, columns
 * col_step bytes apart; the target is row-major. */
static void copy_transposed(char *target, const char *source, int64_t col_step, size_t size,
                            int64_t rows, int64_t cols) {
  int64_t side = size == 8 ? 16 : 64 / (int64_t)size, bytes = (int64_t)size;
  for (int64_t r = 0; r < rows; r += side) {
    int64_t height = rows - r < side ? rows - r : side;
    for (int64_t c = 0; c < cols; c += side) {
      int64_t width = cols - c < side ? cols - c : side;
      copy_square(target + (r * cols + c) * bytes, cols * bytes, source + r * bytes + c * col_step,
                  col_step, size, (size_t)height, (size_t)width);
    }
  }
}

/* ---- Whole tensors ---- */

enum { GRAIN = 1 << 18, STRIPE = 64 }; /* elements; rows of a matrix that is transposed */

typedef struct {
  rondo_tensor view; /* what is copied, coalesced */
  char *out;
  size_t size;          /* bytes of an element */
  rondo_tensor corners; /* of matrices: where each begins */
  int64_t stripes;      /* of a matrix */
} copying;

static void copy_range(void *context, int64_t first, int64_t count, int64_t piece) {
  (void)piece;
  const copying *c = context;
  rondo_gather(&c->view, first, (size_t)count, c->out + first * (int64_t)c->size);
}

/* Stripes of matrices that lie one after the other: the last two dimensions of a view whose last
 * but one has the stride 1. */
static void copy_stripes(void *context, int64_t first, int64_t count, int64_t piece) {
  (void)piece;
  const copying *c = context;
  int64_t rows = c->view.shape[c->view.rank - 2], cols = c->view.shape[c->view.rank - 1];
  int64_t size = (int64_t)c->size, col_step = c->view.stride[c->view.rank - 1] * size;
  for (int64_t i = first; i < first + count; i++) {
    int64_t matrix = i / c->stripes, row = i % c->stripes * STRIPE;
    walk w = walk_to(&c->corners, matrix);
    copy_transposed(c->out + (matrix * rows + row) * cols * size, w.at + row * size, col_step,
                    c->size, rows - row < STRIPE ? rows - row : STRIPE, cols);
  }
}

static void copy_matrices(rondo_pool *pool, copying *c) {
  const rondo_tensor *t = &c->view;
  int64_t rows = t->shape[t->rank - 2], cols = t->shape[t->rank - 1];
  c->corners = *t;
  c->corners.rank = t->rank - 2;
  rondo_tensor_coalesce(&c->corners);
  c->stripes = ceil_div_i64(rows, STRIPE);
  int64_t grain = GRAIN / STRIPE / cols;
  rondo_spread(pool, rondo_tensor_count(&c->corners) * c->stripes, grain > 1 ? grain : 1,
               copy_stripes, c);
}

void rondo_view_elements(const rondo_tensor *t, rondo_tensor *view) {
  bool opaque = rondo_dtype_is_opaque(t->dtype);
  int64_t bytes = (int64_t)rondo_tensor_bytes(t);
  if (opaque) rondo_tensor_init(view, RONDO_U8, 1, &bytes, t->data);
  if (!opaque) *view = *t;
  rondo_tensor_coalesce(view);
}

void rondo_copy_out(rondo_pool *pool, const rondo_tensor *t, void *out) {
  copying c = {.out = out};
  if (rondo_tensor_count(t) == 0) return;
  rondo_view_elements(t, &c.view);
  c.size = rondo_dtype_size(c.view.dtype);
  if (c.view.rank >= 2 && c.view.stride[c.view.rank - 2] == 1) {
    copy_matrices(pool, &c);
  } else {
    rondo_spread(pool, rondo_tensor_count(&c.view), GRAIN, copy_range, &c);
  }
}
