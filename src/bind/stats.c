/* stats.c - summaries, differences and histograms of tensors of any size, tile by tile. */
#include "core/stats.h"

#include "bind/bind.h"
#include "core/dtype.h"
#include "core/tensor.h"

#include <string.h>

/* The elements of a row-major tensor of an arithmetic type. */
static rondo_array check_array(lua_State *L, int idx) {
  const rondo_tensor *t = rondo_check_tensor(L, idx);
  luaL_argcheck(L, !rondo_dtype_is_opaque(t->dtype), idx, "its type has no arithmetic");
  luaL_argcheck(L, rondo_tensor_is_row_major(t), idx, "a row-major tensor is expected");
  return (rondo_array){t->dtype, t->data, (size_t)rondo_tensor_count(t)};
}

/* The memory of a writable row-major tensor of `count` elements. */
static void *check_state(lua_State *L, int idx, rondo_dtype dtype, int64_t count) {
  const rondo_tensor *t = rondo_check_tensor(L, idx);
  bool good = t->dtype == dtype && !t->read_only && rondo_tensor_is_row_major(t) &&
              rondo_tensor_count(t) == count;
  if (!good) {
    luaL_argerror(
        L, idx,
        lua_pushfstring(L, "%s {%I} is expected", rondo_dtype_name(dtype), (LUAI_UACINT)count));
  }
  return t->data;
}

/* Memory for `count` things of `size` bytes; on the stack until the call returns. [-0, +1] */
static void *push_scratch(lua_State *L, size_t count, size_t size) {
  return lua_newuserdatauv(L, count * size + 1, 0);
}

static size_t blocks_of(rondo_array x) {
  return x.count / RONDO_STATS_BLOCK + 1;
}

/* stats(tensor, state): adds the tensor to state, f64 {8}: finite values, NaNs, infinities, zeros,
 * mean, sum of squared distances from it, smallest, largest. It starts as zeros. */
static int stats(lua_State *L) {
  rondo_array x = check_array(L, 1);
  rondo_stats *state = check_state(L, 2, RONDO_F64, 8);
  const rondo_kernels *k = rondo_state_kernels(L);
  rondo_stats *scratch = push_scratch(L, blocks_of(x), sizeof *scratch);
  rondo_stats_add(rondo_state_pool(L), k, x, state, scratch);
  rondo_check_stop(L);
  return 0;
}

/* difference(x, y, state): adds two tensors of one number of elements to state, f64 {3}: places
 * with different values, largest |x - y|, places where just one is finite. It starts as zeros. */
static int difference(lua_State *L) {
  rondo_array x = check_array(L, 1), y = check_array(L, 2);
  luaL_argcheck(L, x.count == y.count, 2, "the tensors differ in their number of elements");
  rondo_difference *state = check_state(L, 3, RONDO_F64, 3);
  const rondo_kernels *k = rondo_state_kernels(L);
  rondo_difference *scratch = push_scratch(L, blocks_of(x), sizeof *scratch);
  rondo_difference_add(rondo_state_pool(L), k, x, y, state, scratch);
  rondo_check_stop(L);
  return 0;
}

/* histogram(tensor, low, high, counts): adds the values in [low, high] to counts, i64 {bars}. */
static int histogram(lua_State *L) {
  rondo_array x = check_array(L, 1);
  double low = luaL_checknumber(L, 2), high = luaL_checknumber(L, 3);
  luaL_argcheck(L, low < high && high - low <= 1.7976931348623157e308, 3,
                "a finite range that is not empty is expected");
  const rondo_tensor *bars = rondo_check_tensor(L, 4);
  int64_t bins = rondo_tensor_count(bars);
  luaL_argcheck(L, bins >= 1 && bins <= 1 << 20, 4, "1 to 2^20 bars are expected");
  int64_t *counts = check_state(L, 4, RONDO_I64, bins);
  const rondo_kernels *k = rondo_state_kernels(L);
  int64_t *scratch = rondo_push_per_thread(L, (size_t)bins * sizeof *scratch);
  rondo_pool *pool = rondo_state_pool(L);
  size_t all = (size_t)bins * (size_t)rondo_pool_threads(pool);
  memset(scratch, 0, all * sizeof *scratch);
  rondo_histogram_add(pool, k, x, low, high, (size_t)bins, counts, scratch);
  rondo_check_stop(L);
  return 0;
}

void rondo_open_stats(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"stats", stats}, {"difference", difference}, {"histogram", histogram}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
