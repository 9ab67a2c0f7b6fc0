/* groups.c - what clip strategies need of groups and scales, for Lua. */
#include "bind/bind.h"

#include "core/checked.h"
#include "core/dtype.h"
#include "core/group_quantile.h"
#include "core/nearest.h"

/* group_quantiles(tensor, rows, cols, q) -> f32 [blocks down, blocks across]: quantiles of the
 * magnitudes in blocks of rows x cols of a matrix of f32, f16 or bf16. */
static int group_quantiles(lua_State *L) {
  const rondo_tensor *t = rondo_check_tensor(L, 1);
  luaL_argcheck(L, t->rank == 2, 1, "a tensor of rank 2 is expected");
  luaL_argcheck(L, t->shape[1] < 2 || t->stride[1] == 1, 1, "rows must be contiguous");
  bool known = t->dtype == RONDO_F32 || t->dtype == RONDO_F16 || t->dtype == RONDO_BF16;
  luaL_argcheck(L, known, 1, "f32, f16 or bf16 is expected");
  rondo_blocks b = {.data = t->data,
                    .dtype = t->dtype,
                    .rows = t->shape[0],
                    .cols = t->shape[1],
                    .row_stride = t->stride[0],
                    .block_rows = luaL_checkinteger(L, 2),
                    .block_cols = luaL_checkinteger(L, 3)};
  luaL_argcheck(L, b.block_rows >= 1 && b.block_cols >= 1, 2, "blocks hold something");
  /* Within half the range of integers, places in and behind the matrix can be computed. */
  if (b.block_rows > b.rows && b.rows > 0) b.block_rows = b.rows;
  if (b.block_cols > b.cols && b.cols > 0) b.block_cols = b.cols;
  rondo_charge_elements(L, b.rows * b.cols);
  double q = luaL_checknumber(L, 4);
  luaL_argcheck(L, q >= 0 && q <= 1, 4, "a quantile is 0 to 1");
  int64_t shape[] = {ceil_div_i64(b.rows, b.block_rows), ceil_div_i64(b.cols, b.block_cols)};
  rondo_tensor *out = rondo_push_tensor(L, RONDO_F32, 2, shape);
  const rondo_kernels *k = rondo_state_kernels(L);
  bool good = rondo_group_quantiles(&b, k, rondo_state_pool(L), q, out->data);
  rondo_check_stop(L);
  return good ? 1 : luaL_error(L, "not enough memory");
}

static bool is_f32_line(const rondo_tensor *t) {
  bool line = t->dtype == RONDO_F32 && t->rank == 1 && (t->shape[0] < 2 || t->stride[0] == 1);
  return line && (uintptr_t)t->data % sizeof(float) == 0;
}

/* nearest(values, map) -> u8 [n], f32 [n]: the places (from 0) of the entries of a rising map that
 * are nearest to values, and these entries. All f32, of rank 1. */
static int nearest(lua_State *L) {
  const rondo_tensor *values = rondo_check_tensor(L, 1), *map = rondo_check_tensor(L, 2);
  luaL_argcheck(L, is_f32_line(values), 1, "contiguous, aligned f32 [n] is expected");
  bool fits = is_f32_line(map) && map->shape[0] >= 1 && map->shape[0] <= 256;
  luaL_argcheck(L, fits, 2, "aligned f32 with 1 to 256 entries is expected");
  rondo_charge_elements(L, values->shape[0]);
  rondo_tensor *places = rondo_push_tensor(L, RONDO_U8, 1, values->shape);
  rondo_tensor *entries = rondo_push_tensor(L, RONDO_F32, 1, values->shape);
  rondo_nearest(rondo_state_pool(L), values->data, values->shape[0], map->data, (int)map->shape[0],
                places->data, entries->data);
  rondo_check_stop(L);
  return 2;
}

/* lookup(places, map) -> f32 [n]: the entries of a map of 256 (f32) at places (u8 [n]). */
static int lookup(lua_State *L) {
  const rondo_tensor *places = rondo_check_tensor(L, 1), *map = rondo_check_tensor(L, 2);
  bool line = places->rank == 1 && places->dtype == RONDO_U8 &&
              (places->shape[0] < 2 || places->stride[0] == 1);
  luaL_argcheck(L, line, 1, "contiguous u8 [n] is expected");
  luaL_argcheck(L, is_f32_line(map) && map->shape[0] == 256, 2, "aligned f32 [256] is expected");
  rondo_charge_elements(L, places->shape[0]);
  rondo_tensor *entries = rondo_push_tensor(L, RONDO_F32, 1, places->shape);
  const uint8_t *place = places->data;
  const float *entry = map->data;
  float *out = entries->data;
  for (int64_t i = 0; i < places->shape[0]; i++) out[i] = entry[place[i]];
  return 1;
}

void rondo_open_groups(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"group_quantiles", group_quantiles}, {"nearest", nearest}, {"lookup", lookup}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
