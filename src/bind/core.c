/* core.c - the module rondo.core: one table of native functions, for the Lua half of rondo. What
 * users see is documented in library/rondo.lua; nothing here is meant to be called by recipes. */
#include "bind/bind.h"

#include "core/error.h"

int rondo_push_error(lua_State *L, const rondo_error *e) {
  luaL_checkstack(L, 3, NULL);
  lua_pushnil(L);
  lua_pushstring(L, e->message);
  lua_pushstring(L, rondo_status_name(e->status));
  return 3;
}

int rondo_raise(lua_State *L, const rondo_error *e) {
  return luaL_error(L, "%s", e->message);
}

int luaopen_rondo_core(lua_State *L) {
  luaL_checkversion(L);
  lua_createtable(L, 0, 64);
  rondo_open_runtime(L);
  rondo_open_tensor(L);
  rondo_open_json(L);
  rondo_open_checkpoint(L);
  rondo_open_file(L);
  rondo_open_quantize(L);
  rondo_open_layout(L);
  rondo_open_stats(L);
  rondo_open_groups(L);
  rondo_open_sums(L);
  rondo_open_edit(L);
  return 1;
}
