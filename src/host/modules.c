/* modules.c - the Lua half of rondo without files: every module as a loader in package.preload. */
#include "bind/bind.h"
#include "host/host.h"
#include "host/lua_modules.h"

/* The loader of one module. Upvalue 1: its rondo_lua_module. Called with the module's name. */
static int load_module(lua_State *L) {
  const rondo_lua_module *m = lua_touserdata(L, lua_upvalueindex(1));
  const char *bytes = (const char *)m->bytes;
  if (luaL_loadbufferx(L, bytes, m->size, m->chunk, "t") != LUA_OK) return lua_error(L);
  lua_pushvalue(L, 1);
  lua_call(L, 1, 1);
  return 1;
}

void rondo_preload(lua_State *L) {
  luaL_checkversion(L);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, luaopen_rondo_core);
  lua_setfield(L, -2, "rondo.core");
  for (const rondo_lua_module *m = rondo_lua_modules; m->name != NULL; m++) {
    lua_pushlightuserdata(L, (void *)m);
    lua_pushcclosure(L, load_module, 1);
    lua_setfield(L, -2, m->name);
  }
  lua_pop(L, 1);
}

int luaopen_rondo(lua_State *L) {
  rondo_preload(L);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_getfield(L, -1, "rondo");
  lua_pushliteral(L, "rondo");
  lua_call(L, 1, 1);
  return 1;
}
