/* sums.c - the sums behind the errors of a layer: of squared differences and of squares, exact over
 * any number of tiles in any order. */
#include "bind/sums.h"

#include <string.h>

#define SUMS_META "rondo.sums"

/* sums() -> sums of nothing, for the functions that take a field "sums". */
static int sums(lua_State *L) {
  memset(lua_newuserdatauv(L, sizeof(rondo_sums), 0), 0, sizeof(rondo_sums));
  luaL_setmetatable(L, SUMS_META);
  return 1;
}

/* sums:add(error, norm): adds one number to each. */
static int add(lua_State *L) {
  rondo_sums *s = luaL_checkudata(L, 1, SUMS_META);
  rondo_exact_sum_add(&s->error, luaL_checknumber(L, 2));
  rondo_exact_sum_add(&s->norm, luaL_checknumber(L, 3));
  return 0;
}

/* sums:values() -> error, norm */
static int values(lua_State *L) {
  const rondo_sums *s = luaL_checkudata(L, 1, SUMS_META);
  lua_pushnumber(L, rondo_exact_sum_value(&s->error));
  lua_pushnumber(L, rondo_exact_sum_value(&s->norm));
  return 2;
}

rondo_sums *rondo_sums_field(lua_State *L, int options) {
  rondo_sums *found = NULL;
  if (lua_getfield(L, options, "sums") != LUA_TNIL) {
    found = luaL_testudata(L, -1, SUMS_META);
    if (found == NULL) luaL_error(L, "'sums' must come from sums()");
  }
  lua_pop(L, 1);
  return found;
}

void rondo_open_sums(lua_State *L) {
  static const luaL_Reg methods[] = {{"add", add}, {"values", values}, {NULL, NULL}};
  luaL_newmetatable(L, SUMS_META);
  lua_pushliteral(L, "locked");
  lua_setfield(L, -2, "__metatable");
  luaL_newlib(L, methods);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  lua_pushcfunction(L, sums);
  lua_setfield(L, -2, "sums");
}
