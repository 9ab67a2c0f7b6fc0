/* tensor_view.c - views and copies of tensors: reshape, transpose, rows, to, clone, and the way
 * out of tensors: totable, item, bytes. Views share memory with the tensor they were made from. */
#include "bind/tensor_bind.h"

#include "core/assign.h"
#include "core/dtype.h"
#include "core/gather.h"
#include "core/tensor.h"

#include <string.h>

enum { MAX_EMPTY_TABLES = 1 << 24 };

rondo_pool *rondo_pool_for(lua_State *L, int64_t count) {
  rondo_charge_elements(L, count);
  return count >= RONDO_PARALLEL_FROM ? rondo_state_pool(L) : NULL;
}

/* A finalizer that runs in the allocation may ask for more threads. */
void *rondo_push_per_thread(lua_State *L, size_t bytes) {
  rondo_pool *pool = rondo_state_pool(L);
  for (;;) {
    int threads = rondo_pool_threads(pool);
    void *memory = lua_newuserdatauv(L, (size_t)threads * bytes, 0);
    if (rondo_pool_threads(pool) <= threads) return memory;
    lua_pop(L, 1);
  }
}

rondo_tensor *rondo_push_copy(lua_State *L, int idx) {
  const rondo_tensor *t = rondo_check_tensor(L, idx);
  rondo_tensor *copy = rondo_push_tensor(L, t->dtype, t->rank, t->shape);
  rondo_copy_out(rondo_pool_for(L, rondo_tensor_count(t)), t, copy->data);
  rondo_check_stop(L);
  return copy;
}

rondo_tensor *rondo_push_converted(lua_State *L, int idx, rondo_dtype dtype, bool always_copy) {
  const rondo_tensor *t = rondo_check_tensor(L, idx);
  if (t->dtype == dtype && always_copy) return rondo_push_copy(L, idx);
  if (t->dtype == dtype) {
    lua_pushvalue(L, idx);
    return (rondo_tensor *)t;
  }
  rondo_require_arithmetic(L, t, "conversion");
  const rondo_kernels *k = rondo_state_kernels(L);
  rondo_tensor *result = rondo_push_tensor(L, dtype, t->rank, t->shape);
  rondo_assign(rondo_pool_for(L, rondo_tensor_count(t)), k, result, t);
  rondo_check_stop(L);
  return result;
}

rondo_tensor *rondo_push_row_major(lua_State *L, int idx) {
  rondo_tensor *t = rondo_check_tensor(L, idx);
  if (!rondo_tensor_is_row_major(t)) return rondo_push_copy(L, idx);
  lua_pushvalue(L, idx);
  return t;
}

/* t:to(dtype): t itself when it has that dtype already. */
static int to(lua_State *L) {
  rondo_check_tensor(L, 1);
  rondo_dtype dtype = rondo_check_dtype(L, 2);
  if (rondo_check_tensor(L, 1)->dtype != dtype) rondo_require_arithmetic_dtype(L, 2, dtype);
  rondo_push_converted(L, 1, dtype, false);
  return 1;
}

static int clone(lua_State *L) {
  rondo_push_copy(L, 1);
  return 1;
}

/* t:contiguous(): t itself when it is row-major. */
static int contiguous(lua_State *L) {
  rondo_push_row_major(L, 1);
  return 1;
}

/* One dimension of -1 in shape becomes what the count asks for. */
static void infer_dimension(lua_State *L, int rank, int64_t *shape, int64_t count) {
  int inferred = -1;
  int64_t product = 1;
  for (int d = 0; d < rank; d++) {
    if (shape[d] < 0) {
      luaL_argcheck(L, shape[d] == -1, 2, "a dimension is -1 (inferred) or not negative");
      luaL_argcheck(L, inferred < 0, 2, "only one dimension can be -1");
      inferred = d;
    } else if (__builtin_mul_overflow(product, shape[d], &product)) {
      luaL_argerror(L, 2, "the shape is too large");
    }
  }
  if (inferred >= 0) {
    luaL_argcheck(L, product != 0 && count % product == 0, 2,
                  lua_pushfstring(L, "%I elements cannot be shaped so", (LUAI_UACINT)count));
    shape[inferred] = count / product;
    product = count;
  }
  if (product != count) {
    const char *text = "the tensor has %I elements, the shape %I";
    luaL_argerror(L, 2, lua_pushfstring(L, text, (LUAI_UACINT)count, (LUAI_UACINT)product));
  }
}

/* The arguments from 2 on as one shape: a list, or numbers. -1 is allowed. */
static int reshape_arguments(lua_State *L, int64_t *shape) {
  bool list = lua_istable(L, 2);
  int rank = list ? (int)lua_rawlen(L, 2) : lua_gettop(L) - 1;
  luaL_argcheck(L, rank <= RONDO_MAX_RANK, 2, "too many dimensions");
  for (int d = 0; d < rank; d++) {
    if (!list) {
      shape[d] = luaL_checkinteger(L, d + 2);
      continue;
    }
    int exact;
    lua_rawgeti(L, 2, d + 1);
    shape[d] = lua_tointegerx(L, -1, &exact);
    luaL_argcheck(L, exact, 2, "a list of integers expected");
    lua_pop(L, 1);
  }
  return rank;
}

/* t:reshape { rows, cols } or t:reshape(rows, cols): a view where the memory allows it, else a
 * copy. */
static int reshape(lua_State *L) {
  rondo_tensor view = *rondo_check_tensor(L, 1);
  int64_t shape[RONDO_MAX_RANK];
  int rank = reshape_arguments(L, shape);
  infer_dimension(L, rank, shape, rondo_tensor_count(&view));
  if (rondo_tensor_reshape(&view, rank, shape)) {
    rondo_push_view(L, 1, &view);
  } else {
    rondo_tensor *copy = rondo_push_copy(L, 1);
    rondo_tensor_reshape(copy, rank, shape);
  }
  return 1;
}

/* t:view(dtype): the same memory as elements of another type of the same size. */
static int view_as(lua_State *L) {
  rondo_tensor view = *rondo_check_tensor(L, 1);
  rondo_dtype dtype = rondo_check_dtype(L, 2);
  if (rondo_dtype_bits(dtype) != rondo_dtype_bits(view.dtype)) {
    return luaL_error(L, "view: %s has %d bits, %s %d", rondo_dtype_name(dtype),
                      (int)rondo_dtype_bits(dtype), rondo_dtype_name(view.dtype),
                      (int)rondo_dtype_bits(view.dtype));
  }
  view.dtype = dtype;
  rondo_push_view(L, 1, &view);
  return 1;
}

/* t:transpose([a, b]): a view with two dimensions exchanged, by default the last two. */
static int transpose(lua_State *L) {
  rondo_tensor view = *rondo_check_tensor(L, 1);
  rondo_require_arithmetic(L, &view, "transpose");
  if (lua_isnoneornil(L, 2) && lua_isnoneornil(L, 3)) {
    luaL_argcheck(L, view.rank >= 2, 1, "a tensor of two dimensions or more expected");
    rondo_tensor_swap(&view, view.rank - 2, view.rank - 1);
  } else {
    int a = rondo_check_dim(L, 2, &view);
    rondo_tensor_swap(&view, a, rondo_check_dim(L, 3, &view));
  }
  rondo_push_view(L, 1, &view);
  return 1;
}

/* t:rows(first, last): a view of these rows, both included; last may be first - 1 for none. */
static int rows(lua_State *L) {
  rondo_tensor view = *rondo_check_tensor(L, 1);
  rondo_require_arithmetic(L, &view, "rows");
  luaL_argcheck(L, view.rank >= 1, 1, "a scalar has no rows");
  int64_t size = view.shape[0];
  lua_Integer a = luaL_checkinteger(L, 2), b = luaL_checkinteger(L, 3);
  if (a >= 1 && a - 1 <= size && b == a - 1) {
    rondo_tensor_slice(&view, 0, 0, 0);
  } else {
    int64_t first = rondo_check_index(L, 2, a, size, "row");
    int64_t last = rondo_check_index(L, 3, b, size, "row");
    luaL_argcheck(L, first <= last, 3, "the last row lies before the first");
    rondo_tensor_slice(&view, 0, first, last - first + 1);
  }
  rondo_push_view(L, 1, &view);
  return 1;
}

/* Pushes the nested tables of dimension d onwards; base is the offset so far, in elements. */
static void push_tables(lua_State *L, const rondo_tensor *t, int d, int64_t base) {
  if (d == t->rank) {
    const char *data = t->data;
    rondo_push_element(L, t->dtype, data + base * (int64_t)rondo_dtype_size(t->dtype));
    return;
  }
  luaL_checkstack(L, 4, "too many dimensions");
  lua_createtable(L, t->shape[d] < INT_MAX ? (int)t->shape[d] : 0, 0);
  for (int64_t i = 0; i < t->shape[d]; i++) {
    push_tables(L, t, d + 1, base + i * t->stride[d]);
    lua_rawseti(L, -2, i + 1);
  }
}

/* Raises when an empty tensor asks for too many empty tables; those with elements in them are
 * bounded by the memory of the elements. */
static void require_few_tables(lua_State *L, const rondo_tensor *t) {
  int64_t lists = 1;
  for (int d = 0; d < t->rank && lists > 0; d++) {
    if (__builtin_mul_overflow(lists, t->shape[d], &lists) || lists > MAX_EMPTY_TABLES) {
      char text[RONDO_SHAPE_TEXT];
      rondo_shape_text(t->rank, t->shape, text, sizeof text);
      luaL_error(L, "totable: an empty tensor of shape %s would be more than %d tables", text,
                 MAX_EMPTY_TABLES);
    }
  }
}

/* t:totable(): nested lists of numbers or booleans; one value for a scalar. Raises for an empty
 * tensor of more than 2^24 lists. */
static int totable(lua_State *L) {
  rondo_tensor view = *rondo_check_tensor(L, 1);
  rondo_require_arithmetic(L, &view, "totable");
  if (rondo_tensor_count(&view) == 0) {
    require_few_tables(L, &view);
    memset(view.stride, 0, sizeof view.stride); /* there is nothing to go to */
  }
  push_tables(L, &view, 0, 0);
  return 1;
}

/* t:item(): the value of a tensor with one element. */
static int item(lua_State *L) {
  const rondo_tensor *t = rondo_check_tensor(L, 1);
  rondo_require_arithmetic(L, t, "item");
  char text[RONDO_SHAPE_TEXT];
  if (rondo_tensor_count(t) != 1) {
    rondo_shape_text(t->rank, t->shape, text, sizeof text);
    luaL_argerror(L, 1, lua_pushfstring(L, "one element expected, got shape %s", text));
  }
  rondo_push_element(L, t->dtype, t->data);
  return 1;
}

/* t:bytes(): the elements as a string, row-major. */
static int bytes(lua_State *L) {
  const rondo_tensor *t = rondo_push_row_major(L, 1);
  lua_pushlstring(L, t->data, rondo_tensor_bytes(t));
  return 1;
}

const luaL_Reg rondo_tensor_view_methods[] = {
    {"to", to},           {"clone", clone}, {"contiguous", contiguous}, {"reshape", reshape},
    {"view", view_as},    {"t", transpose}, {"transpose", transpose},   {"rows", rows},
    {"totable", totable}, {"item", item},   {"bytes", bytes},           {NULL, NULL}};
