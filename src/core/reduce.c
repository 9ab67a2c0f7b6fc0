/* reduce.c - many elements into one. A line of elements is cut into blocks, a block into chunks;
 * totals of chunks are added to the block's, those of blocks to the line's, in order. */
#include "core/reduce.h"

#include "core/checked.h"
#include "core/chunk.h"
#include "core/dtype.h"
#include "core/element.h"
#include "core/environment.h"
#include "core/gather.h"
#include "core/spread.h"
#include "core/tensor.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 1 << 16, TILE_BYTES = 64, MAX_TILE = TILE_BYTES };

__extension__ typedef __int128 wide;

/* One way through the elements; std takes two. */
typedef enum { PASS_SUM, PASS_SQUARES, PASS_MIN, PASS_MAX, PASS_COUNT } pass;

typedef struct {
  const rondo_kernels *k;
  rondo_reduction op;
  pass pass;
  rondo_dtype as;    /* f64 or i64 */
  bool is_unsigned;  /* u64 in i64 */
  rondo_tensor view; /* coalesced */
} work;

typedef struct {
  int64_t seen;  /* elements so far */
  double center; /* of squares */
  double total;  /* floats: sum, squares */
  wide sum;      /* integers */
  int64_t count; /* elements not 0 */
  int64_t at;    /* place of the extreme; -1: none yet */
  double best;   /* the extreme, floats */
  int64_t whole; /* the extreme, integers */
} state;

static state fresh(double center, int64_t seen) {
  return (state){.center = center, .seen = seen, .at = -1};
}

static void set_pass(work *w, pass p) {
  bool floats = rondo_dtype_is_float(w->view.dtype);
  w->pass = p;
  w->as = floats || p == PASS_SQUARES ? RONDO_F64 : RONDO_I64;
  w->is_unsigned = w->view.dtype == RONDO_U64;
}

/* ---- Chunks ---- */

static int64_t first_nan(const double *x, size_t n) {
  size_t i = 0;
  while (i < n && x[i] == x[i]) i++;
  return (int64_t)i;
}

static int64_t first_equal(const double *x, double wanted) {
  int64_t i = 0;
  while (x[i] != wanted) i++;
  return i;
}

static void float_extreme(const work *w, state *s, const double *x, size_t n) {
  double low = INFINITY, high = -INFINITY;
  size_t nans = 0;
  if (s->at >= 0 && s->best != s->best) return;
  w->k->range_f64(x, n, &low, &high, &nans);
  double found = w->pass == PASS_MIN ? low : high;
  bool better = w->pass == PASS_MIN ? found < s->best : found > s->best;
  if (nans == 0 && s->at >= 0 && !better) return;
  int64_t i = nans > 0 ? first_nan(x, n) : first_equal(x, found);
  s->best = x[i];
  s->at = s->seen + i;
}

static void integer_extreme(const work *w, state *s, const int64_t *x, size_t n) {
  const int64_t flip = w->is_unsigned ? INT64_MIN : 0;
  int64_t best = x[0] ^ flip;
  size_t at = 0;
  for (size_t i = 1; i < n; i++) {
    int64_t v = x[i] ^ flip;
    bool better = w->pass == PASS_MIN ? v < best : v > best;
    at = better ? i : at;
    best = better ? v : best;
  }
  int64_t known = s->whole ^ flip;
  if (s->at >= 0 && (w->pass == PASS_MIN ? best >= known : best <= known)) return;
  s->whole = x[at];
  s->at = s->seen + (int64_t)at;
}

static void integer_sum(const work *w, state *s, const int64_t *x, size_t n) {
  /* 512 halves of at most 32 bits cannot overflow. */
  int64_t high = 0, low = 0;
  for (size_t i = 0; i < n; i++) {
    high += w->is_unsigned ? (int64_t)((uint64_t)x[i] >> 32) : x[i] >> 32;
    low += x[i] & 0xffffffff;
  }
  s->sum += (wide)high * ((wide)1 << 32) + low;
}

static void feed(const work *w, state *s, const void *values, size_t n) {
  bool floats = w->as == RONDO_F64;
  switch (w->pass) {
  case PASS_SUM:
    if (floats) s->total += w->k->sum_f64(values, n);
    if (!floats) integer_sum(w, s, values, n);
    break;
  case PASS_SQUARES:
    s->total += w->k->sum_squares_f64(values, s->center, n);
    break;
  case PASS_COUNT:
    for (size_t i = 0; i < n; i++) {
      s->count += floats ? ((const double *)values)[i] != 0 : ((const int64_t *)values)[i] != 0;
    }
    break;
  default:
    if (floats) float_extreme(w, s, values, n);
    if (!floats) integer_extreme(w, s, values, n);
  }
  s->seen += (int64_t)n;
}

/* Adds the state of the block that follows. */
static void merge(const work *w, state *s, const state *next) {
  s->total += next->total;
  s->sum += next->sum;
  s->count += next->count;
  s->seen = next->seen;
  bool low = w->pass == PASS_MIN, better;
  if (w->as == RONDO_F64) {
    bool nan = s->best != s->best;
    better =
        !nan && (next->best != next->best || (low ? next->best < s->best : next->best > s->best));
  } else {
    const int64_t flip = w->is_unsigned ? INT64_MIN : 0;
    int64_t a = s->whole ^ flip, b = next->whole ^ flip;
    better = low ? b < a : b > a;
  }
  if (next->at >= 0 && (s->at < 0 || better)) {
    s->at = next->at;
    s->best = next->best;
    s->whole = next->whole;
  }
}

/* ---- Lines whose elements are read one after the other ---- */

/* Elements first .. first+count-1 of the view, a block at most, as the part of a line that begins
 * at its element `place`. */
static state reduce_block(const work *w, int64_t first, int64_t count, int64_t place,
                          double center) {
  rondo_chunk buffer;
  state s = fresh(center, place);
  for (int64_t done = 0; done < count; done += RONDO_CHUNK) {
    size_t n = (size_t)(count - done < RONDO_CHUNK ? count - done : RONDO_CHUNK);
    feed(w, &s, rondo_read_chunk(w->k, &w->view, first + done, n, w->as, &buffer), n);
  }
  return s;
}

static state reduce_line(const work *w, int64_t first, int64_t n, double center) {
  state line = fresh(center, 0);
  for (int64_t done = 0; done < n; done += BLOCK) {
    int64_t count = n - done < BLOCK ? n - done : BLOCK;
    state block = reduce_block(w, first + done, count, done, center);
    merge(w, &line, &block);
  }
  return line;
}

/* ---- Results ---- */

static double mean_of(const work *w, const state *s, int64_t n) {
  double sum = rondo_dtype_is_float(w->view.dtype) ? s->total : (double)s->sum;
  return sum / (double)n;
}

static rondo_number whole_number(int64_t value) {
  return (rondo_number){.is_whole = true, .whole = value};
}

/* Which NaN comes out of a sum differs between processors; here there is one. */
static rondo_number real_number(double value) {
  return (rondo_number){.real = value == value ? value : __builtin_nan("")};
}

static rondo_number finish(const work *w, const state *s, int64_t n) {
  bool floats = rondo_dtype_is_float(w->view.dtype);
  switch (w->op) {
  case RONDO_SUM:
    return floats ? real_number(s->total) : whole_number((int64_t)s->sum);
  case RONDO_MEAN:
    return real_number(mean_of(w, s, n));
  case RONDO_STD:
    return real_number(sqrt(s->total / (double)n));
  case RONDO_NORM:
    return real_number(sqrt(s->total));
  case RONDO_ARGMIN:
  case RONDO_ARGMAX:
    return whole_number(s->at);
  case RONDO_COUNT:
    return whole_number(s->count);
  case RONDO_ANY:
    return whole_number(s->count > 0);
  case RONDO_ALL:
    return whole_number(s->count == n);
  default:
    return floats ? real_number(s->best) : whole_number(s->whole);
  }
}

static pass first_pass(rondo_reduction op) {
  switch (op) {
  case RONDO_SUM:
  case RONDO_MEAN:
  case RONDO_STD:
    return PASS_SUM;
  case RONDO_NORM:
    return PASS_SQUARES;
  case RONDO_MIN:
  case RONDO_ARGMIN:
    return PASS_MIN;
  case RONDO_MAX:
  case RONDO_ARGMAX:
    return PASS_MAX;
  default:
    return PASS_COUNT;
  }
}

bool rondo_reduction_needs_elements(rondo_reduction op) {
  pass p = first_pass(op);
  return p == PASS_MIN || p == PASS_MAX;
}

rondo_dtype rondo_reduced_dtype(rondo_reduction op, rondo_dtype dtype) {
  bool floats = rondo_dtype_is_float(dtype);
  switch (op) {
  case RONDO_MIN:
  case RONDO_MAX:
    return dtype;
  case RONDO_ARGMIN:
  case RONDO_ARGMAX:
  case RONDO_COUNT:
    return RONDO_I64;
  case RONDO_ANY:
  case RONDO_ALL:
    return RONDO_BOOL;
  case RONDO_SUM:
    if (!floats) return dtype == RONDO_U64 ? RONDO_U64 : RONDO_I64; /* fall through */
  default:
    return dtype == RONDO_F64 ? RONDO_F64 : RONDO_F32;
  }
}

/* ---- Whole tensors: blocks on all threads, some at a time ---- */

enum { BATCH = 64 };

typedef struct {
  const work *w;
  int64_t start;
  double center;
  state blocks[BATCH];
} batch;

static void batch_block(void *context, int64_t first, int64_t count, int64_t piece) {
  batch *b = context;
  int64_t place = b->start + first;
  b->blocks[piece] = reduce_block(b->w, place, count, place, b->center);
}

static state reduce_all(rondo_pool *pool, const work *w, int64_t n, double center) {
  batch b = {.w = w, .center = center};
  state whole = fresh(center, 0);
  for (; b.start < n; b.start += (int64_t)BATCH * BLOCK) {
    int64_t count = n - b.start < (int64_t)BATCH * BLOCK ? n - b.start : (int64_t)BATCH * BLOCK;
    rondo_spread(pool, count, BLOCK, batch_block, &b);
    for (int64_t i = 0; i < ceil_div_i64(count, BLOCK); i++) merge(w, &whole, &b.blocks[i]);
  }
  return whole;
}

static __attribute__((noinline)) rondo_number
reduce_whole(rondo_pool *pool, const rondo_kernels *k, rondo_reduction op, const rondo_tensor *t) {
  work w = {.k = k, .op = op, .view = *t};
  int64_t n = rondo_tensor_count(t);
  rondo_tensor_coalesce(&w.view);
  set_pass(&w, first_pass(op));
  state s = reduce_all(pool, &w, n, 0);
  if (op == RONDO_STD) {
    double mean = mean_of(&w, &s, n);
    set_pass(&w, PASS_SQUARES);
    s = reduce_all(pool, &w, n, mean);
  }
  return finish(&w, &s, n);
}

rondo_number rondo_reduce(rondo_pool *pool, const rondo_kernels *k, rondo_reduction op,
                          const rondo_tensor *t) {
  rondo_environment host;
  environment_enter(&host);
  rondo_number result = reduce_whole(pool, k, op, t);
  environment_leave(&host);
  return result;
}

/* ---- Lines ---- */

typedef struct {
  work w;
  int64_t lines, n, width; /* width: lines side by side in a tile */
  rondo_dtype out_dtype;
  char *out;
} line_work;

static void write_result(const line_work *l, int64_t line, const work *w, const state *s) {
  rondo_number result = finish(w, s, l->n);
  char *place = l->out + (size_t)line * rondo_dtype_size(l->out_dtype);
  if (result.is_whole) {
    rondo_store_wrapped(l->out_dtype, &result.whole, place, 1);
  } else {
    rondo_convert(w->k, RONDO_F64, &result.real, l->out_dtype, place, 1);
  }
}

static void line_piece(void *context, int64_t first, int64_t count, int64_t piece) {
  (void)piece;
  const line_work *l = context;
  for (int64_t line = first; line < first + count; line++) {
    work w = l->w;
    state s = reduce_line(&w, line * l->n, l->n, 0);
    if (w.op == RONDO_STD) {
      double mean = mean_of(&w, &s, l->n);
      set_pass(&w, PASS_SQUARES);
      s = reduce_line(&w, line * l->n, l->n, mean);
    }
    write_result(l, line, &w, &s);
  }
}

/* ---- Lines that lie side by side: a cache line's worth of them at a time. The view has the
 * reduced dimension first, so its element i * lines + line is element i of that line. ---- */

typedef struct {
  _Alignas(64) char raw[RONDO_CHUNK * TILE_BYTES];
  _Alignas(64) char line[RONDO_CHUNK * 8];
  rondo_chunk chunk;
} tile;

/* Feeds elements i .. i+n-1 of `width` lines from `line` on to the states of their blocks. */
static void feed_tile(const line_work *l, const work *w, tile *t, int64_t line, int64_t width,
                      int64_t i, size_t n, state *blocks) {
  size_t size = rondo_dtype_size(w->view.dtype), pitch = (size_t)width * size;
  for (size_t r = 0; r < n; r++) {
    int64_t first = (i + (int64_t)r) * l->lines + line;
    rondo_gather(&w->view, first, (size_t)width, t->raw + r * pitch);
  }
  for (int64_t c = 0; c < width; c++) {
    rondo_copy_strided(t->line, t->raw + (size_t)c * size, pitch, size, n);
    feed(w, &blocks[c], rondo_widen_chunk(w->k, w->view.dtype, t->line, n, w->as, &t->chunk), n);
  }
}

static void reduce_tile(const line_work *l, const work *w, int64_t line, int64_t width,
                        state *states) {
  tile t;
  state blocks[MAX_TILE];
  for (int64_t start = 0; start < l->n; start += BLOCK) {
    int64_t end = l->n - start < BLOCK ? l->n : start + BLOCK;
    for (int64_t c = 0; c < width; c++) blocks[c] = fresh(states[c].center, start);
    for (int64_t i = start; i < end; i += RONDO_CHUNK) {
      size_t n = (size_t)(end - i < RONDO_CHUNK ? end - i : RONDO_CHUNK);
      feed_tile(l, w, &t, line, width, i, n, blocks);
    }
    for (int64_t c = 0; c < width; c++) merge(w, &states[c], &blocks[c]);
  }
}

static void tile_piece(void *context, int64_t first, int64_t count, int64_t piece) {
  (void)piece;
  const line_work *l = context;
  state states[MAX_TILE];
  for (int64_t line = first * l->width; line < (first + count) * l->width; line += l->width) {
    if (line >= l->lines) break;
    work w = l->w;
    int64_t width = l->lines - line < l->width ? l->lines - line : l->width;
    for (int64_t c = 0; c < width; c++) states[c] = fresh(0, 0);
    reduce_tile(l, &w, line, width, states);
    if (w.op == RONDO_STD) {
      for (int64_t c = 0; c < width; c++) states[c] = fresh(mean_of(&w, &states[c], l->n), 0);
      set_pass(&w, PASS_SQUARES);
      reduce_tile(l, &w, line, width, states);
    }
    for (int64_t c = 0; c < width; c++) write_result(l, line + c, &w, &states[c]);
  }
}

/* t with its last dimension first. */
static rondo_tensor last_first(const rondo_tensor *t) {
  rondo_tensor view = *t;
  for (int d = 0; d < t->rank; d++) {
    int from = d == 0 ? t->rank - 1 : d - 1;
    view.shape[d] = t->shape[from];
    view.stride[d] = t->stride[from];
  }
  rondo_tensor_coalesce(&view);
  return view;
}

void rondo_reduce_lines(rondo_pool *pool, const rondo_kernels *k, rondo_reduction op,
                        const rondo_tensor *t, const rondo_tensor *out) {
  line_work l = {.w = {.k = k, .op = op, .view = *t}, .out = out->data};
  int64_t step = t->stride[t->rank - 1];
  l.n = t->shape[t->rank - 1];
  l.lines = rondo_tensor_count(out);
  l.out_dtype = out->dtype;
  rondo_tensor across = last_first(t);
  bool side_by_side = l.n > 1 && l.lines > 1 && across.stride[across.rank - 1] < step;
  if (side_by_side) {
    l.w.view = across;
  } else {
    rondo_tensor_coalesce(&l.w.view);
  }
  set_pass(&l.w, first_pass(op));
  int64_t line_size = l.n > 0 ? l.n : 1;
  if (side_by_side) {
    l.width = TILE_BYTES / (int64_t)rondo_dtype_size(t->dtype);
    int64_t grain = ceil_div_i64(BLOCK, line_size * l.width);
    rondo_spread(pool, ceil_div_i64(l.lines, l.width), grain, tile_piece, &l);
  } else {
    rondo_spread(pool, l.lines, ceil_div_i64(BLOCK, line_size), line_piece, &l);
  }
}
