/* tensor_make.c - tensors from Lua values and back: nested tables, byte strings, constants.
 *
 * The dtype is f32 unless the caller names one; tables of booleans make bool tensors. A value that
 * the dtype cannot hold (NaN, 0.5 or 300 for u8, a string for anything) is refused, with its
 * place; floats are rounded. */
#include "bind/tensor_bind.h"

#include "core/dtype.h"
#include "core/element.h"
#include "core/environment.h"
#include "core/random.h"
#include "core/spread.h"
#include "core/tensor.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { RANDOM_PIECE = 1 << 20 }; /* numbers between two looks at whether to stop */

double rondo_element_number(const rondo_kernels *k, rondo_dtype dtype, const void *element) {
  double x;
  rondo_environment host;
  environment_enter(&host);
  rondo_load_f64(k, dtype, element, &x, 1);
  environment_leave(&host);
  return x;
}

void rondo_push_element(lua_State *L, rondo_dtype dtype, const void *element) {
  const rondo_kernels *k = rondo_state_kernels(L);
  if (rondo_dtype_is_float(dtype)) {
    lua_pushnumber(L, rondo_element_number(k, dtype, element));
    return;
  }
  int64_t i;
  rondo_load_i64(k, dtype, element, &i, 1);
  if (dtype == RONDO_BOOL) {
    lua_pushboolean(L, i != 0);
  } else if (dtype == RONDO_U64 && i < 0) {
    lua_pushnumber(L, rondo_element_number(k, dtype, element));
  } else {
    lua_pushinteger(L, i);
  }
}

/* A float number with an integral value from 2^63 to 2^64-1, which no Lua integer holds. */
static bool large_unsigned(lua_State *L, int idx, uint64_t *value) {
  double x = lua_tonumber(L, idx);
  if (lua_isinteger(L, idx) || !(x >= 0x1p63 && x < 0x1p64)) return false;
  *value = (uint64_t)x;
  return true;
}

static bool store_integer(lua_State *L, int idx, rondo_dtype dtype, void *element) {
  uint64_t large;
  if (dtype == RONDO_U64 && large_unsigned(L, idx, &large)) {
    memcpy(element, &large, sizeof large);
    return true;
  }
  int exact;
  int64_t value = lua_tointegerx(L, idx, &exact), low, high;
  if (!exact) {
    const char *shown = isnan(lua_tonumber(L, idx)) ? "NaN" : luaL_tolstring(L, idx, NULL);
    lua_pushfstring(L, "%s has no %s representation", shown, rondo_dtype_name(dtype));
    return false;
  }
  rondo_integer_range(dtype, &low, &high);
  bool fits = dtype == RONDO_U64 ? value >= 0 : value >= low && value <= high;
  if (!fits) {
    lua_pushfstring(L, "%I does not fit in %s", (LUAI_UACINT)value, rondo_dtype_name(dtype));
    return false;
  }
  rondo_store_wrapped(dtype, &value, element, 1);
  return true;
}

/* One value of another type as an element, rounded as rondo_convert does. */
static void store_converted(lua_State *L, rondo_dtype from, const void *value, rondo_dtype dtype,
                            void *element) {
  const rondo_kernels *k = rondo_state_kernels(L);
  rondo_environment host;
  environment_enter(&host);
  rondo_convert(k, from, value, dtype, element, 1);
  environment_leave(&host);
}

bool rondo_store_element(lua_State *L, int idx, rondo_dtype dtype, void *element) {
  idx = lua_absindex(L, idx);
  int type = lua_type(L, idx);
  if (dtype == RONDO_BOOL && type == LUA_TBOOLEAN) {
    *(uint8_t *)element = (uint8_t)lua_toboolean(L, idx);
    return true;
  }
  if (type != LUA_TNUMBER) {
    const char *wanted = dtype == RONDO_BOOL ? "boolean" : "number";
    lua_pushfstring(L, "%s expected, got %s", wanted, luaL_typename(L, idx));
    return false;
  }
  if (rondo_dtype_is_float(dtype) && lua_isinteger(L, idx)) {
    int64_t value = lua_tointeger(L, idx);
    store_converted(L, RONDO_I64, &value, dtype, element);
    return true;
  }
  if (rondo_dtype_is_float(dtype) || dtype == RONDO_BOOL) {
    double value = lua_tonumber(L, idx);
    store_converted(L, RONDO_F64, &value, dtype, element);
    return true;
  }
  return store_integer(L, idx, dtype, element);
}

/* While a nested table is read: where we are, for messages, and where the next element goes. */
typedef struct {
  int rank;
  int64_t shape[RONDO_MAX_RANK];
  int64_t place[RONDO_MAX_RANK]; /* 1-based index at each level above the current one */
  rondo_dtype dtype;
  char *next;
} nested;

/* Pushes "[2][3]" for the first `depth` levels. */
static const char *push_place(lua_State *L, const nested *n, int depth) {
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (int d = 0; d < depth; d++) {
    char index[32];
    snprintf(index, sizeof index, "[%lld]", (long long)n->place[d]);
    luaL_addstring(&b, index);
  }
  luaL_pushresult(&b);
  return lua_tostring(L, -1);
}

/* The shape along the first elements, and the dtype that their kind suggests. */
static void measure(lua_State *L, nested *n, bool guess_dtype) {
  int top = lua_gettop(L);
  lua_pushvalue(L, 1);
  while (lua_type(L, -1) == LUA_TTABLE) {
    if (n->rank == RONDO_MAX_RANK) {
      luaL_argerror(L, 1, lua_pushfstring(L, "nested deeper than %d", RONDO_MAX_RANK));
    }
    n->shape[n->rank++] = (int64_t)lua_rawlen(L, -1);
    lua_rawgeti(L, -1, 1);
    lua_replace(L, -2);
    if (n->shape[n->rank - 1] == 0) break;
  }
  if (guess_dtype) n->dtype = lua_type(L, -1) == LUA_TBOOLEAN ? RONDO_BOOL : RONDO_F32;
  lua_settop(L, top);
}

static void read_level(lua_State *L, nested *n, int depth);

/* The value at the top of the stack, at place[0 .. depth-1]: a table or an element. */
static void read_value(lua_State *L, nested *n, int depth) {
  if (depth < n->rank) {
    if (lua_type(L, -1) != LUA_TTABLE) {
      const char *text = "%s is %s; a table of %I expected";
      const char *what = luaL_typename(L, -1);
      luaL_argerror(
          L, 1,
          lua_pushfstring(L, text, push_place(L, n, depth), what, (LUAI_UACINT)n->shape[depth]));
    }
    read_level(L, n, depth);
  } else if (!rondo_store_element(L, -1, n->dtype, n->next)) {
    const char *reason = lua_tostring(L, -1);
    luaL_argerror(L, 1, lua_pushfstring(L, "%s: %s", push_place(L, n, depth), reason));
  } else {
    n->next += rondo_dtype_size(n->dtype);
  }
}

static void read_level(lua_State *L, nested *n, int depth) {
  luaL_checkstack(L, 8, "table nested too deeply");
  int64_t length = (int64_t)lua_rawlen(L, -1);
  if (length != n->shape[depth]) {
    const char *text = "ragged: the table at %s has %I entries where the first has %I";
    luaL_argerror(L, 1,
                  lua_pushfstring(L, text, push_place(L, n, depth), (LUAI_UACINT)length,
                                  (LUAI_UACINT)n->shape[depth]));
  }
  for (int64_t i = 1; i <= length; i++) {
    n->place[depth] = i;
    lua_rawgeti(L, -1, i);
    read_value(L, n, depth + 1);
    lua_pop(L, 1);
  }
}

/* tensor(nested table | number | boolean | tensor [, dtype]) */
static int make_tensor(lua_State *L) {
  if (rondo_test_tensor(L, 1) != NULL) {
    rondo_dtype own = rondo_check_tensor(L, 1)->dtype, dtype = rondo_opt_dtype(L, 2, own);
    if (dtype != own) rondo_require_arithmetic_dtype(L, 2, dtype);
    rondo_push_converted(L, 1, dtype, true);
    return 1;
  }
  int type = lua_type(L, 1);
  if (type != LUA_TTABLE && type != LUA_TNUMBER && type != LUA_TBOOLEAN) {
    luaL_typeerror(L, 1, "table, number, boolean or tensor");
  }
  lua_settop(L, 2);
  nested n = {.dtype = rondo_opt_dtype(L, 2, RONDO_F32)};
  rondo_require_arithmetic_dtype(L, 2, n.dtype);
  measure(L, &n, lua_isnil(L, 2));
  rondo_tensor *t = rondo_push_tensor(L, n.dtype, n.rank, n.shape);
  n.next = t->data;
  lua_pushvalue(L, 1);
  read_value(L, &n, 0);
  lua_pop(L, 1);
  return 1;
}

static rondo_tensor *push_zeros(lua_State *L, int shape_idx, rondo_dtype dtype) {
  int64_t shape[RONDO_MAX_RANK];
  int rank = rondo_check_shape(L, shape_idx, shape);
  rondo_tensor *t = rondo_push_tensor(L, dtype, rank, shape);
  memset(t->data, 0, rondo_tensor_bytes(t));
  return t;
}

/* zeros(shape [, dtype]) */
static int zeros(lua_State *L) {
  push_zeros(L, 1, rondo_opt_dtype(L, 2, RONDO_F32));
  return 1;
}

/* Fills n elements of `size` bytes with the first one, by doubling. */
static void repeat_first(char *data, size_t size, int64_t n) {
  size_t have = size, bytes = (size_t)n * size;
  while (have < bytes) {
    size_t more = bytes - have < have ? bytes - have : have;
    memcpy(data + have, data, more);
    have += more;
  }
}

/* full(shape, value [, dtype]) */
static int full(lua_State *L) {
  bool truth = lua_type(L, 2) == LUA_TBOOLEAN;
  rondo_dtype dtype = rondo_opt_dtype(L, 3, truth ? RONDO_BOOL : RONDO_F32);
  rondo_require_arithmetic_dtype(L, 3, dtype);
  int64_t shape[RONDO_MAX_RANK], element;
  int rank = rondo_check_shape(L, 1, shape);
  if (!rondo_store_element(L, 2, dtype, &element)) luaL_argerror(L, 2, lua_tostring(L, -1));
  rondo_tensor *t = rondo_push_tensor(L, dtype, rank, shape);
  int64_t n = rondo_tensor_count(t);
  size_t size = rondo_dtype_size(dtype);
  if (n > 0) memcpy(t->data, &element, size);
  repeat_first(t->data, size, n);
  return 1;
}

/* How many values lie in first, first + step .. last, of which both are finite; -1 for a step of 0
 * or NaN. An infinite step leaves the first. */
static __attribute__((noinline)) double ramp_length(double first, double last, double step) {
  environment_barrier();
  if (step == 0 || step != step) return -1;
  if (step > 0 ? last < first : last > first) return 0;
  return isinf(step) ? 1 : floor((last - first) / step) + 1;
}

/* The same; raises when that is no number. */
static int64_t arange_count(lua_State *L, double first, double last, double step) {
  luaL_argcheck(L, isfinite(first), 1, "a finite number expected");
  luaL_argcheck(L, isfinite(last), 2, "a finite number expected");
  rondo_environment host;
  environment_enter(&host);
  double count = ramp_length(first, last, step);
  environment_leave(&host);
  luaL_argcheck(L, count >= 0, 3, "the step cannot be 0 or NaN");
  luaL_argcheck(L, count < 0x1p62, 2, "too many values");
  return (int64_t)count;
}

static void arange_integers(rondo_tensor *t, int64_t first, int64_t step, int64_t n) {
  size_t size = rondo_dtype_size(t->dtype);
  uint64_t value = (uint64_t)first;
  for (int64_t i = 0; i < n; i++, value += (uint64_t)step) {
    rondo_store_wrapped(t->dtype, &(int64_t){(int64_t)value}, (char *)t->data + (size_t)i * size,
                        1);
  }
}

typedef struct {
  const rondo_kernels *k;
  const rondo_tensor *t;
  double first, step;
} ramp;

enum { RAMP_CHUNK = 256 };

static void ramp_piece(void *context, int64_t first, int64_t count, int64_t piece) {
  (void)piece;
  const ramp *r = context;
  double values[RAMP_CHUNK];
  char *place = (char *)r->t->data + (size_t)first * rondo_dtype_size(r->t->dtype);
  for (int64_t i = 0; i < count; i++) values[i] = r->first + (double)(first + i) * r->step;
  rondo_convert(r->k, RONDO_F64, values, r->t->dtype, place, (size_t)count);
}

/* The number of integers first, first + step .. last, exactly. */
static int64_t integer_count(int64_t first, int64_t last, int64_t step) {
  uint64_t distance =
      step > 0 ? (uint64_t)last - (uint64_t)first : (uint64_t)first - (uint64_t)last;
  uint64_t stride = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
  bool none = step > 0 ? last < first : last > first;
  uint64_t steps = distance / stride;
  return none ? 0 : steps < INT64_MAX ? (int64_t)steps + 1 : INT64_MAX;
}

/* arange(first, last [, step [, dtype]]): last included, as in Lua's for. */
static int arange(lua_State *L) {
  double first = luaL_checknumber(L, 1), last = luaL_checknumber(L, 2);
  double step = luaL_optnumber(L, 3, 1);
  rondo_dtype dtype = rondo_opt_dtype(L, 4, RONDO_F32);
  rondo_require_arithmetic_dtype(L, 4, dtype);
  luaL_argcheck(L, dtype != RONDO_BOOL, 4, "arange makes numbers, not booleans");
  const rondo_kernels *k = rondo_state_kernels(L);
  if (rondo_dtype_is_float(dtype)) {
    int64_t n = arange_count(L, first, last, step);
    ramp r = {k, rondo_push_tensor(L, dtype, 1, &n), first, n > 1 ? step : 0};
    rondo_spread(NULL, n, RAMP_CHUNK, ramp_piece, &r);
    return 1;
  }
  int64_t from = luaL_checkinteger(L, 1), to = luaL_checkinteger(L, 2);
  int64_t by = luaL_optinteger(L, 3, 1);
  luaL_argcheck(L, by != 0, 3, "the step cannot be 0");
  int64_t n = integer_count(from, to, by), ends[2] = {from, 0}, ignored;
  if (n > 0) {
    ends[1] = (int64_t)((uint64_t)from + (uint64_t)(n - 1) * (uint64_t)by);
    for (int i = 0; i < 2; i++) {
      lua_pushinteger(L, ends[i]);
      if (!rondo_store_element(L, -1, dtype, &ignored)) {
        luaL_argerror(L, i + 1, lua_tostring(L, -1));
      }
    }
  }
  arange_integers(rondo_push_tensor(L, dtype, 1, &n), from, by, n);
  return 1;
}

/* The options among the list of a shape: { rows, cols, seed = 1, dtype = "f16" }. Pushes seed and
 * dtype, nil where absent. */
static void push_random_options(lua_State *L) {
  lua_pushnil(L);
  while (lua_next(L, 1) != 0) {
    const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
    bool known = name == NULL || strcmp(name, "seed") == 0 || strcmp(name, "dtype") == 0;
    luaL_argcheck(L, known, 1, "the options beside the dimensions are seed and dtype");
    lua_pop(L, 1);
  }
  lua_getfield(L, 1, "seed");
  lua_getfield(L, 1, "dtype");
}

/* rand(shape [, seed [, dtype]]) or rand { rows, cols, seed = , dtype = }; the seed is 0 unless
 * given, the type a float. */
static int make_random(lua_State *L, bool is_normal) {
  bool options = lua_istable(L, 1) && lua_isnoneornil(L, 2) && lua_isnoneornil(L, 3);
  lua_settop(L, options ? 1 : 3);
  if (options) push_random_options(L);
  lua_Integer seed = luaL_optinteger(L, 2, 0);
  rondo_dtype dtype = rondo_opt_dtype(L, 3, RONDO_F32);
  luaL_argcheck(L, rondo_dtype_is_float(dtype), 3, "random numbers are of a floating type");
  int64_t shape[RONDO_MAX_RANK];
  int rank = rondo_check_shape(L, 1, shape);
  const rondo_kernels *k = rondo_state_kernels(L);
  const rondo_tensor *t = rondo_push_tensor(L, dtype, rank, shape);
  rondo_random random;
  rondo_random_seed(&random, (uint64_t)seed);
  int64_t count = rondo_tensor_count(t);
  for (int64_t first = 0; first < count; first += RANDOM_PIECE) {
    int64_t n = count - first < RANDOM_PIECE ? count - first : RANDOM_PIECE;
    rondo_tensor piece;
    rondo_tensor_init(&piece, dtype, 1, &n,
                      (char *)t->data + first * (int64_t)rondo_dtype_size(dtype));
    if (is_normal) {
      rondo_fill_normal(&random, k, &piece);
    } else {
      rondo_fill_uniform(&random, k, &piece);
    }
    rondo_check_stop(L);
  }
  return 1;
}

/* Uniform from 0 up to and without 1. */
static int rand_uniform(lua_State *L) {
  return make_random(L, false);
}

/* Normal with mean 0 and deviation 1. */
static int rand_normal(lua_State *L) {
  return make_random(L, true);
}

/* from_bytes(string, dtype, shape): the elements as they lie in memory, row-major. */
static int from_bytes(lua_State *L) {
  size_t length;
  const char *bytes = luaL_checklstring(L, 1, &length);
  rondo_dtype dtype = rondo_check_dtype(L, 2);
  int64_t shape[RONDO_MAX_RANK];
  int rank = rondo_check_shape(L, 3, shape);
  uint64_t wanted;
  bool fits = rondo_shape_size(dtype, rank, shape, NULL, &wanted);
  if (!fits || wanted != length) {
    char text[RONDO_SHAPE_TEXT];
    rondo_shape_text(rank, shape, text, sizeof text);
    luaL_argerror(L, 1,
                  lua_pushfstring(L, "%I bytes are not a %s of type %s", (LUAI_UACINT)length, text,
                                  rondo_dtype_name(dtype)));
  }
  rondo_tensor *t = rondo_push_tensor(L, dtype, rank, shape);
  memcpy(t->data, bytes, length);
  return 1;
}

/* is_tensor(value) */
static int is_tensor(lua_State *L) {
  luaL_checkany(L, 1);
  lua_pushboolean(L, luaL_testudata(L, 1, RONDO_TENSOR_META) != NULL);
  return 1;
}

void rondo_open_tensor_make(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"tensor", make_tensor}, {"zeros", zeros},           {"full", full},
      {"arange", arange},      {"from_bytes", from_bytes}, {"is_tensor", is_tensor},
      {"rand", rand_uniform},  {"randn", rand_normal},     {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
