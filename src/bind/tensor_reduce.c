/* tensor_reduce.c - many elements into one (sum, mean, max, any, ...), and two tensors into a
 * verdict (==, close). Without a dimension the result is a Lua value; along a dimension a tensor
 * without it, or with { keep = true } with size 1 in its place. */
#include "bind/tensor_bind.h"

#include "core/dtype.h"
#include "core/environment.h"
#include "core/equal.h"
#include "core/reduce.h"
#include "core/summary.h"
#include "core/tensor.h"

#include <math.h>
#include <string.h>

static bool keeps_dimension(lua_State *L, int idx) {
  if (lua_isnoneornil(L, idx)) return false;
  luaL_checktype(L, idx, LUA_TTABLE);
  lua_pushnil(L);
  while (lua_next(L, idx) != 0) {
    bool known = lua_type(L, -2) == LUA_TSTRING && strcmp(lua_tostring(L, -2), "keep") == 0;
    luaL_argcheck(L, known, idx, "the only option is keep");
    luaL_argcheck(L, lua_isboolean(L, -1), idx, "keep is true or false");
    lua_pop(L, 1);
  }
  lua_getfield(L, idx, "keep");
  return lua_toboolean(L, -1);
}

static void require_elements(lua_State *L, rondo_reduction op, const char *name, bool empty) {
  if (empty && rondo_reduction_needs_elements(op)) {
    luaL_error(L, "%s of an empty tensor: there are no elements", name);
  }
}

static void push_number(lua_State *L, rondo_reduction op, rondo_dtype dtype, rondo_number n) {
  bool place = op == RONDO_ARGMIN || op == RONDO_ARGMAX;
  bool truth = op == RONDO_ANY || op == RONDO_ALL ||
               (dtype == RONDO_BOOL && (op == RONDO_MIN || op == RONDO_MAX));
  bool unsigned_value = dtype == RONDO_U64 && !place && op != RONDO_COUNT;
  if (!n.is_whole) {
    lua_pushnumber(L, n.real);
  } else if (truth) {
    lua_pushboolean(L, n.whole != 0);
  } else if (unsigned_value) {
    rondo_push_element(L, RONDO_U64, &n.whole);
  } else {
    lua_pushinteger(L, n.whole + place);
  }
}

/* Places along a dimension count from 1 in Lua. */
static void count_from_one(const rondo_tensor *places) {
  int64_t *at = places->data, n = rondo_tensor_count(places);
  for (int64_t i = 0; i < n; i++) at[i]++;
}

static int reduce_dimension(lua_State *L, rondo_reduction op, const char *name) {
  rondo_tensor view = *rondo_check_tensor(L, 1);
  int d = rondo_check_dim(L, 2, &view);
  bool keep = keeps_dimension(L, 3);
  int64_t shape[RONDO_MAX_RANK];
  memcpy(shape, view.shape, sizeof shape);
  shape[d] = 1;
  const rondo_kernels *k = rondo_state_kernels(L);
  rondo_dtype dtype = rondo_reduced_dtype(op, view.dtype);
  rondo_tensor *result = rondo_push_tensor(L, dtype, view.rank, shape);
  require_elements(L, op, name, view.shape[d] == 0 && rondo_tensor_count(result) > 0);
  rondo_tensor_move_last(&view, d);
  rondo_pool *pool = rondo_pool_for(L, rondo_tensor_count(&view));
  rondo_reduce_lines(pool, k, op, &view, result);
  rondo_check_stop(L);
  if (op == RONDO_ARGMIN || op == RONDO_ARGMAX) count_from_one(result);
  if (!keep) rondo_tensor_select(result, d, 0);
  return 1;
}

static int reduce(lua_State *L, rondo_reduction op, const char *name) {
  const rondo_tensor *t = rondo_check_tensor(L, 1);
  rondo_require_arithmetic(L, t, name);
  if (!lua_isnoneornil(L, 2)) return reduce_dimension(L, op, name);
  keeps_dimension(L, 3);
  int64_t count = rondo_tensor_count(t);
  require_elements(L, op, name, count == 0);
  const rondo_kernels *k = rondo_state_kernels(L);
  rondo_number total = rondo_reduce(rondo_pool_for(L, count), k, op, t);
  rondo_check_stop(L);
  push_number(L, op, t->dtype, total);
  return 1;
}

static int sum(lua_State *L) {
  return reduce(L, RONDO_SUM, "sum");
}
static int mean(lua_State *L) {
  return reduce(L, RONDO_MEAN, "mean");
}
static int deviation(lua_State *L) {
  return reduce(L, RONDO_STD, "std");
}
static int norm(lua_State *L) {
  return reduce(L, RONDO_NORM, "norm");
}
static int smallest(lua_State *L) {
  return reduce(L, RONDO_MIN, "min");
}
static int largest(lua_State *L) {
  return reduce(L, RONDO_MAX, "max");
}
static int place_of_smallest(lua_State *L) {
  return reduce(L, RONDO_ARGMIN, "argmin");
}
static int place_of_largest(lua_State *L) {
  return reduce(L, RONDO_ARGMAX, "argmax");
}
static int count(lua_State *L) {
  return reduce(L, RONDO_COUNT, "count");
}
static int any(lua_State *L) {
  return reduce(L, RONDO_ANY, "any");
}
static int all(lua_State *L) {
  return reduce(L, RONDO_ALL, "all");
}

/* a == b: false for anything but two equal tensors. */
int rondo_tensor_eq(lua_State *L) {
  const rondo_tensor *a = luaL_testudata(L, 1, RONDO_TENSOR_META);
  const rondo_tensor *b = luaL_testudata(L, 2, RONDO_TENSOR_META);
  bool comparable =
      a != NULL && b != NULL && rondo_tensor_has_memory(L, 1) && rondo_tensor_has_memory(L, 2);
  bool equal = comparable && rondo_tensor_equal(rondo_pool_for(L, rondo_tensor_count(a)), a, b);
  rondo_check_stop(L);
  lua_pushboolean(L, equal);
  return 1;
}

/* Pushes "[2, 3]" for the place of an element in row-major order. */
static void push_place(lua_State *L, const rondo_tensor *t, int64_t place) {
  int64_t index[RONDO_MAX_RANK];
  for (int d = t->rank - 1; d >= 0; d--) {
    index[d] = place % t->shape[d] + 1;
    place /= t->shape[d];
  }
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  luaL_addchar(&b, '[');
  for (int d = 0; d < t->rank; d++) {
    if (d > 0) luaL_addstring(&b, ", ");
    lua_pushinteger(L, index[d]);
    luaL_addvalue(&b);
  }
  luaL_addchar(&b, ']');
  luaL_pushresult(&b);
}

/* Pushes the value of the element at a place in row-major order. */
static void push_at(lua_State *L, rondo_tensor t, int64_t place) {
  while (t.rank > 0) {
    int64_t size = t.shape[t.rank - 1];
    rondo_tensor_select(&t, t.rank - 1, place % size);
    place /= size;
  }
  rondo_push_element(L, t.dtype, t.data);
}

static int shapes_differ(lua_State *L, const rondo_tensor *a, const rondo_tensor *b) {
  char left[RONDO_SHAPE_TEXT], right[RONDO_SHAPE_TEXT];
  rondo_shape_text(a->rank, a->shape, left, sizeof left);
  rondo_shape_text(b->rank, b->shape, right, sizeof right);
  lua_pushboolean(L, 0);
  lua_pushfstring(L, "the shapes are %s and %s", left, right);
  return 2;
}

/* t:close(other [, tolerance]): true, or false and where they differ. The types may differ. */
static int is_close(lua_State *L) {
  const rondo_tensor *a = rondo_check_tensor(L, 1), *b = rondo_check_tensor(L, 2);
  double tolerance = luaL_optnumber(L, 3, 1e-6);
  luaL_argcheck(L, tolerance >= 0, 3, "the tolerance is a number from 0 on");
  rondo_require_arithmetic(L, a, "close");
  rondo_require_arithmetic(L, b, "close");
  if (!rondo_tensor_same_shape(a, b)) return shapes_differ(L, a, b);
  rondo_pool *pool = rondo_pool_for(L, rondo_tensor_count(a));
  int64_t place = rondo_first_apart(pool, rondo_state_kernels(L), a, b, tolerance);
  rondo_check_stop(L);
  lua_pushboolean(L, place < 0);
  if (place < 0) return 1;
  push_place(L, a, place);
  push_at(L, *a, place);
  const char *left = luaL_tolstring(L, -1, NULL);
  push_at(L, *b, place);
  const char *right = luaL_tolstring(L, -1, NULL);
  lua_pushfstring(L, "element %s is %s and %s", lua_tostring(L, -5), left, right);
  lua_pushboolean(L, 0);
  lua_insert(L, -2);
  return 2;
}

static rondo_stats stats_of(lua_State *L, const rondo_tensor *t, void *scratch) {
  rondo_stats stats = {0};
  rondo_charge_elements(L, rondo_tensor_count(t));
  rondo_sample everything = {1, rondo_tensor_count(t), 0};
  rondo_view_stats(rondo_state_pool(L), rondo_state_kernels(L), t, everything, scratch, &stats);
  rondo_check_stop(L);
  return stats;
}

/* t:count_nonfinite(): how many NaNs and infinities; and each alone. */
static int count_nonfinite(lua_State *L) {
  const rondo_tensor *t = rondo_check_tensor(L, 1);
  rondo_require_arithmetic(L, t, "count_nonfinite");
  rondo_stats stats = stats_of(L, t, lua_newuserdatauv(L, RONDO_SUMMARY_SCRATCH, 0));
  lua_pushinteger(L, (lua_Integer)(stats.nans + stats.infinities));
  lua_pushinteger(L, (lua_Integer)stats.nans);
  lua_pushinteger(L, (lua_Integer)stats.infinities);
  return 3;
}

typedef struct {
  lua_Integer bins;
  bool has_low, has_high;
  double low, high;
} hist_options;

static double check_bound(lua_State *L, const char *name) {
  double value = lua_tonumber(L, -1);
  if (lua_type(L, -1) != LUA_TNUMBER || !isfinite(value)) {
    luaL_argerror(L, 2, lua_pushfstring(L, "%s is a finite number", name));
  }
  return value;
}

static hist_options check_hist_options(lua_State *L) {
  hist_options o = {.bins = 32};
  if (lua_isnoneornil(L, 2)) return o;
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_pushnil(L);
  while (lua_next(L, 2) != 0) {
    const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";
    if (strcmp(name, "bins") == 0) {
      int exact;
      o.bins = lua_tointegerx(L, -1, &exact);
      luaL_argcheck(L, exact && o.bins >= 1 && o.bins <= 1 << 20, 2, "bins is 1 to 1048576");
    } else if (strcmp(name, "low") == 0) {
      o.has_low = true;
      o.low = check_bound(L, name);
    } else if (strcmp(name, "high") == 0) {
      o.has_high = true;
      o.high = check_bound(L, name);
    } else {
      luaL_argerror(L, 2, "the options are bins, low and high");
    }
    lua_pop(L, 1);
  }
  return o;
}

/* Fills the bounds that were not given from the values, and makes room between equal ones. NULL,
 * or what is wrong with them. */
static __attribute__((noinline)) const char *complete_bounds(hist_options *o,
                                                             const rondo_stats *stats) {
  if (!o->has_low) o->low = stats->count > 0 ? stats->low : 0;
  if (!o->has_high) o->high = stats->count > 0 ? stats->high : 1;
  if (o->low == o->high && !o->has_low && !o->has_high) {
    double room = fmax(0.5, fabs(o->low) * 0x1p-20);
    o->low -= room;
    o->high += room;
  }
  if (!(o->low < o->high)) return "the histogram's high does not lie above its low";
  return isfinite(o->high - o->low) ? NULL : "the histogram's range is too wide";
}

static void require_bounds(lua_State *L, hist_options *o, const rondo_stats *stats) {
  rondo_environment host;
  environment_enter(&host);
  const char *wrong = complete_bounds(o, stats);
  environment_leave(&host);
  if (wrong != NULL) luaL_argerror(L, 2, wrong);
}

static __attribute__((noinline)) double edge_of(const hist_options *o, lua_Integer i) {
  environment_barrier();
  double edge = o->low + (o->high - o->low) * ((double)i / (double)o->bins);
  return i == o->bins ? o->high : edge;
}

static void push_edge(lua_State *L, const hist_options *o, lua_Integer i) {
  rondo_environment host;
  environment_enter(&host);
  double edge = edge_of(o, i);
  environment_leave(&host);
  lua_pushnumber(L, edge);
}

/* Pushes the counts, the edges, and how many of `count` values lie outside of them. */
static int push_histogram(lua_State *L, const hist_options *o, const int64_t *counts,
                          int64_t count) {
  int64_t outside = count;
  lua_createtable(L, (int)o->bins, 0);
  for (lua_Integer i = 0; i < o->bins; i++) {
    outside -= counts[i];
    lua_pushinteger(L, counts[i]);
    lua_rawseti(L, -2, i + 1);
  }
  lua_createtable(L, (int)o->bins + 1, 0);
  for (lua_Integer i = 0; i <= o->bins; i++) {
    push_edge(L, o, i);
    lua_rawseti(L, -2, i + 1);
  }
  lua_pushinteger(L, outside);
  return 3;
}

/* t:hist { bins = 32, low = , high = }: a list of counts and one of the bins + 1 edges, from the
 * smallest to the largest finite value unless told; and how many values lie outside. */
static int hist(lua_State *L) {
  const rondo_tensor *t = rondo_check_tensor(L, 1);
  rondo_require_arithmetic(L, t, "hist");
  hist_options o = check_hist_options(L);
  const rondo_kernels *k = rondo_state_kernels(L);
  size_t bins = (size_t)o.bins;
  void *scratch = lua_newuserdatauv(L, RONDO_SUMMARY_SCRATCH, 0);
  int64_t *counts = lua_newuserdatauv(L, bins * sizeof *counts, 0);
  int64_t *counters = rondo_push_per_thread(L, bins * sizeof *counters);
  rondo_pool *pool = rondo_state_pool(L);
  rondo_stats stats = stats_of(L, t, scratch);
  require_bounds(L, &o, &stats);
  memset(counts, 0, bins * sizeof *counts);
  rondo_sample everything = {1, rondo_tensor_count(t), 0};
  rondo_view_histogram(pool, k, t, everything, o.low, o.high, bins, counts, scratch, counters);
  rondo_check_stop(L);
  return push_histogram(L, &o, counts, rondo_tensor_count(t));
}

const luaL_Reg rondo_tensor_reduce_methods[] = {{"sum", sum},
                                                {"mean", mean},
                                                {"std", deviation},
                                                {"norm", norm},
                                                {"min", smallest},
                                                {"max", largest},
                                                {"argmin", place_of_smallest},
                                                {"argmax", place_of_largest},
                                                {"count", count},
                                                {"any", any},
                                                {"all", all},
                                                {"close", is_close},
                                                {"count_nonfinite", count_nonfinite},
                                                {"hist", hist},
                                                {NULL, NULL}};
