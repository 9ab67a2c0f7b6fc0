/* tensor_show.c - what a tensor looks like: one line with statistics and a tiny histogram for
 * tostring, and the corners of its matrices for t:show(). Bars are ASCII but in UTF-8 locales.
 * Above 2^24 elements the numbers come from a sample of 2^20 and are marked with ~, so that a
 * mapped tensor of any size prints at once. */
#include "bind/tensor_bind.h"

#include "core/dtype.h"
#include "core/element.h"
#include "core/environment.h"
#include "core/summary.h"
#include "core/tensor.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { BARS = 9, SAMPLED_ABOVE = 1 << 24 };

/* Three digits, but whole numbers up to a million in full. */
static void format_number(char *out, size_t size, double x) {
  double magnitude = fabs(x);
  bool plain = magnitude >= 1000 && magnitude < 1e6;
  if (isnan(x)) {
    snprintf(out, size, "NaN");
  } else if (plain || (magnitude < 1000 && x == (double)(int)x)) {
    snprintf(out, size, "%.0f", x);
  } else {
    snprintf(out, size, "%.3g", x);
  }
}

static void add_statistic(luaL_Buffer *b, const char *name, bool sampled, double value) {
  char number[40], text[80];
  rondo_environment host;
  environment_enter(&host);
  format_number(number, sizeof number, value);
  environment_leave(&host);
  snprintf(text, sizeof text, "   %s %s%s", name, sampled ? "~" : "", number);
  luaL_addstring(b, text);
}

static void add_alarm(luaL_Buffer *b, double count, const char *what, bool sampled) {
  char text[64];
  if (count == 0) return;
  snprintf(text, sizeof text, "   %.0f %s%s!", count, what, sampled ? " in the sample" : "");
  luaL_addstring(b, text);
}

/* What is needed to look at a tensor; scratch memory lies on the Lua stack. */
typedef struct {
  const rondo_tensor *t;
  rondo_pool *pool;
  const rondo_kernels *k;
  rondo_sample sample;
  bool sampled;
  void *scratch;
  int64_t *counters;
} look;

static look prepare(lua_State *L, const rondo_tensor *t) {
  int64_t count = rondo_tensor_count(t);
  look l = {.t = t, .k = rondo_state_kernels(L)};
  l.sample = rondo_sample_of(count, SAMPLED_ABOVE);
  l.sampled = count > SAMPLED_ABOVE;
  l.scratch = lua_newuserdatauv(L, RONDO_SUMMARY_SCRATCH, 0);
  l.counters = rondo_push_per_thread(L, BARS * sizeof *l.counters);
  l.pool = rondo_state_pool(L);
  return l;
}

/* What is seen; bars are all 0 where there is no range to count in. */
typedef struct {
  rondo_stats stats;
  double deviation, largest;
  int64_t bars[BARS];
} sight;

/* Nine bars between four deviations on either side of the mean, or the extremes if nearer. */
static void count_bars(const look *l, sight *seen) {
  const rondo_stats *s = &seen->stats;
  double low = fmax(s->low, s->mean - 4 * seen->deviation);
  double high = fmin(s->high, s->mean + 4 * seen->deviation);
  if (!(low < high) || !isfinite(high - low)) return;
  rondo_view_histogram(l->pool, l->k, l->t, l->sample, low, high, BARS, seen->bars, l->scratch,
                       l->counters);
}

static __attribute__((noinline)) sight examine(const look *l) {
  sight seen = {0};
  if (l->sampled) rondo_expect_scattered(l->t, true);
  rondo_view_stats(l->pool, l->k, l->t, l->sample, l->scratch, &seen.stats);
  seen.deviation = sqrt(seen.stats.squares / seen.stats.count);
  seen.largest = fmax(fabs(seen.stats.low), fabs(seen.stats.high));
  count_bars(l, &seen);
  if (l->sampled) rondo_expect_scattered(l->t, false);
  return seen;
}

static void add_bars(luaL_Buffer *b, const int64_t *bars) {
  static const char *const blocks[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  static const char *const ascii[] = {"_", ".", "-", "=", "+", "*", "#", "@"};
  const char *const *marks = rondo_locale_is_utf8() ? blocks : ascii;
  int64_t most = 0;
  for (int i = 0; i < BARS; i++) most = bars[i] > most ? bars[i] : most;
  if (most == 0) return;
  luaL_addstring(b, "   ");
  for (int i = 0; i < BARS; i++) luaL_addstring(b, marks[bars[i] * 7 / most]);
}

static void add_truths(luaL_Buffer *b, const look *l, const rondo_stats *s) {
  char text[80];
  double truths = s->count - s->zeros;
  rondo_environment host;
  environment_enter(&host);
  if (l->sampled) {
    snprintf(text, sizeof text, "   ~%.3g%% true", 100 * truths / s->count);
  } else {
    snprintf(text, sizeof text, "   %.0f of %.0f true", truths, s->count);
  }
  environment_leave(&host);
  luaL_addstring(b, text);
}

static void add_statistics(luaL_Buffer *b, const look *l, const sight *seen) {
  const rondo_stats *s = &seen->stats;
  if (l->t->dtype == RONDO_BOOL) {
    add_truths(b, l, s);
    return;
  }
  if (s->count > 0) {
    add_statistic(b, "mean", l->sampled, s->mean);
    add_statistic(b, "std", l->sampled, seen->deviation);
    add_statistic(b, "|max|", l->sampled, seen->largest);
  }
  add_alarm(b, s->nans, "NaN", l->sampled);
  add_alarm(b, s->infinities, "inf", l->sampled);
  add_bars(b, seen->bars);
}

static void format_float(double x, int digits, char *out, size_t size) {
  rondo_environment host;
  environment_enter(&host);
  snprintf(out, size, "%.*g", digits, x);
  if (isnan(x)) snprintf(out, size, "NaN");
  environment_leave(&host);
}

/* One element as text; floats with `digits` significant ones. */
static void format_element(const rondo_kernels *k, rondo_dtype dtype, const void *element,
                           int digits, char *out, size_t size) {
  if (rondo_dtype_is_float(dtype)) {
    format_float(rondo_element_number(k, dtype, element), digits, out, size);
    return;
  }
  int64_t i;
  rondo_load_i64(k, dtype, element, &i, 1);
  if (dtype == RONDO_BOOL) {
    snprintf(out, size, "%s", i != 0 ? "true" : "false");
  } else if (dtype == RONDO_U64) {
    snprintf(out, size, "%llu", (unsigned long long)i);
  } else {
    snprintf(out, size, "%lld", (long long)i);
  }
}

/* Pushes the summary line of the tensor at 1. */
static void push_line(lua_State *L) {
  const rondo_tensor *t = rondo_check_tensor(L, 1);
  char shape[RONDO_SHAPE_TEXT], head[RONDO_SHAPE_TEXT + 64], value[48];
  int64_t count = rondo_tensor_count(t);
  bool opaque = rondo_dtype_is_opaque(t->dtype);
  rondo_shape_text(t->rank, t->shape, shape, sizeof shape);
  snprintf(head, sizeof head, "%s %s", rondo_dtype_name(t->dtype), shape);
  if (opaque) {
    lua_pushfstring(L, "%s   %I bytes, opaque", head, (LUAI_UACINT)rondo_tensor_bytes(t));
  } else if (count == 0) {
    lua_pushfstring(L, "%s   empty", head);
  } else if (t->rank == 0) {
    format_element(rondo_state_kernels(L), t->dtype, t->data, 7, value, sizeof value);
    lua_pushfstring(L, "%s   %s", head, value);
  } else {
    look l = prepare(L, t);
    rondo_environment host;
    environment_enter(&host);
    sight seen = examine(&l);
    environment_leave(&host);
    rondo_check_stop(L);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    luaL_addstring(&b, head);
    add_statistics(&b, &l, &seen);
    luaL_pushresult(&b);
  }
}

int rondo_tensor_tostring(lua_State *L) {
  push_line(L);
  return 1;
}

/* ---- Corners ---- */

enum { WHOLE = 8, EDGE = 3, CELL = 24 }; /* up to WHOLE rows or columns are shown, else the edges */

static int shown(int64_t size) {
  return size <= WHOLE ? (int)size : 2 * EDGE;
}

/* The index of the i-th shown row or column. */
static int64_t shown_index(int64_t size, int i) {
  return size <= WHOLE || i < EDGE ? i : size - 2 * EDGE + i;
}

static bool gap_before(int64_t size, int i) {
  return size > WHOLE && i == EDGE;
}

/* Adds the corners of a matrix, a line a row. */
static void add_matrix(luaL_Buffer *b, const rondo_kernels *k, const rondo_tensor *m) {
  char cells[WHOLE * WHOLE][CELL], line[(WHOLE + 1) * (CELL + 2) + 2];
  int rows = shown(m->shape[0]), cols = shown(m->shape[1]), width = 0;
  const char *data = m->data;
  int64_t size = (int64_t)rondo_dtype_size(m->dtype);
  for (int i = 0; i < rows * cols; i++) {
    int64_t r = shown_index(m->shape[0], i / cols), c = shown_index(m->shape[1], i % cols);
    const char *element = data + (r * m->stride[0] + c * m->stride[1]) * size;
    format_element(k, m->dtype, element, 4, cells[i], CELL);
    int length = (int)strlen(cells[i]);
    width = length > width ? length : width;
  }
  for (int r = 0; r < rows; r++) {
    if (gap_before(m->shape[0], r)) luaL_addstring(b, "\n  ...");
    luaL_addstring(b, "\n");
    for (int c = 0; c < cols; c++) {
      const char *gap = gap_before(m->shape[1], c) ? "  ..." : "";
      snprintf(line, sizeof line, "%s  %*s", gap, width, cells[r * cols + c]);
      luaL_addstring(b, line);
    }
  }
}

/* Adds the slice of t at `place` of its leading dimensions, the first or the last one. */
static void add_slice(luaL_Buffer *b, const rondo_kernels *k, rondo_tensor t, bool last) {
  char index[32];
  if (t.rank > 2) luaL_addstring(b, "\n[");
  bool leading = t.rank > 2;
  while (t.rank > 2) {
    int64_t i = last ? t.shape[0] - 1 : 0;
    snprintf(index, sizeof index, "%lld, ", (long long)i + 1);
    luaL_addstring(b, index);
    rondo_tensor_select(&t, 0, i);
  }
  if (leading) luaL_addstring(b, ":, :]");
  if (t.rank == 1) {
    t.shape[1] = t.shape[0];
    t.stride[1] = t.stride[0];
    t.shape[0] = 1;
    t.stride[0] = 0;
    t.rank = 2;
  }
  add_matrix(b, k, &t);
}

/* t:show(): the line of tostring, and the corners of the matrix; of the first and the last one
 * where there are several. */
static int show(lua_State *L) {
  const rondo_tensor *t = rondo_check_tensor(L, 1);
  const rondo_kernels *k = rondo_state_kernels(L);
  lua_settop(L, 1);
  push_line(L);
  int64_t count = rondo_tensor_count(t);
  if (rondo_dtype_is_opaque(t->dtype) || t->rank == 0 || count == 0) return 1;
  const char *line = lua_tostring(L, -1);
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  luaL_addstring(&b, line);
  add_slice(&b, k, *t, false);
  bool several = t->rank > 2 && count > t->shape[t->rank - 1] * t->shape[t->rank - 2];
  if (several) add_slice(&b, k, *t, true);
  luaL_pushresult(&b);
  return 1;
}

const luaL_Reg rondo_tensor_show_methods[] = {{"show", show}, {NULL, NULL}};
