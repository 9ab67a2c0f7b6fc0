/* guard.c - what a host forbids: see rondo_guard in bind.h. */
#include "bind/bind.h"

#include <string.h>

enum { ELEMENTS_PER_STEP = 16 }; /* f32, say, in the time of a Lua instruction */

static const char guard_key = 'g'; /* its address is the registry key of the guard */

void rondo_set_guard(lua_State *L, const rondo_guard *guard) {
  lua_pushlightuserdata(L, (void *)guard);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &guard_key);
}

static const rondo_guard *guard_of(lua_State *L) {
  luaL_checkstack(L, 1, NULL);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &guard_key);
  const rondo_guard *guard = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return guard;
}

void rondo_charge_elements(lua_State *L, int64_t count) {
  const rondo_guard *guard = guard_of(L);
  if (guard != NULL) guard->charge(L, (uint64_t)count / ELEMENTS_PER_STEP);
}

void rondo_hold(lua_State *L, int64_t bytes) {
  const rondo_guard *guard = guard_of(L);
  if (guard != NULL && bytes != 0) guard->hold(L, bytes);
}

const char *rondo_check_path(lua_State *L, int idx, rondo_access access) {
  size_t length;
  const char *path = luaL_checklstring(L, idx, &length);
  luaL_argcheck(L, strlen(path) == length, idx, "a path cannot hold a NUL byte");
  const rondo_guard *guard = guard_of(L);
  if (guard != NULL) guard->admit(L, path, access);
  return path;
}
