/* runtime.c - what belongs to a Lua state as a whole: its thread pool, the kernels in use; and what
 * Lua's own libraries do not tell: whether a descriptor is a terminal, a clock that never steps. */
#include "bind/bind.h"

#include <limits.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static const char pool_key = 'p'; /* its address is the registry key of the pool's userdata */

/* The pool's userdata holds a rondo_pool pointer, NULL until the first use. */
static rondo_pool **pool_slot(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &pool_key);
  rondo_pool **slot = lua_touserdata(L, -1);
  lua_pop(L, 1); /* the registry keeps it */
  return slot;
}

static int pool_gc(lua_State *L) {
  rondo_pool **slot = lua_touserdata(L, 1);
  rondo_pool *pool = *slot;
  *slot = NULL;
  rondo_pool_free(pool);
  return 0;
}

rondo_pool *rondo_state_pool(lua_State *L) {
  rondo_pool **slot = pool_slot(L);
  if (*slot == NULL) *slot = rondo_pool_new(0);
  if (*slot == NULL) luaL_error(L, "not enough memory for the thread pool");
  return *slot;
}

const rondo_kernels *rondo_state_kernels(lua_State *L) {
  rondo_error e;
  const rondo_kernels *kernels = rondo_kernels_best(&e);
  if (kernels == NULL) rondo_raise(L, &e);
  return kernels;
}

/* threads() -> the number in use; threads(n) -> sets it first, 0 meaning all processors. */
static int threads(lua_State *L) {
  if (!lua_isnoneornil(L, 1)) {
    lua_Integer n = luaL_checkinteger(L, 1);
    luaL_argcheck(L, n >= 0 && n <= 1024, 1, "the number of threads is 0 (all) to 1024");
    rondo_pool **slot = pool_slot(L);
    rondo_pool *pool = rondo_pool_new((int)n);
    if (pool == NULL) return luaL_error(L, "not enough memory for the thread pool");
    rondo_pool_free(*slot);
    *slot = pool;
  }
  lua_pushinteger(L, rondo_pool_threads(rondo_state_pool(L)));
  return 1;
}

/* isa() -> the name of the kernel table in use, and a list of all that run here. */
static int isa(lua_State *L) {
  lua_pushstring(L, rondo_state_kernels(L)->isa);
  lua_newtable(L);
  for (size_t i = 0; rondo_kernels_at(i) != NULL; i++) {
    lua_pushstring(L, rondo_kernels_at(i)->isa);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 2;
}

/* isatty(descriptor) -> whether it is a terminal, and its width in columns where it is known. */
static int is_terminal(lua_State *L) {
  lua_Integer descriptor = luaL_checkinteger(L, 1);
  luaL_argcheck(L, descriptor >= 0 && descriptor <= INT_MAX, 1, "a file descriptor is expected");
  lua_pushboolean(L, isatty((int)descriptor));
  struct winsize window;
  if (!lua_toboolean(L, -1) || ioctl((int)descriptor, TIOCGWINSZ, &window) != 0 ||
      window.ws_col == 0) {
    return 1;
  }
  lua_pushinteger(L, window.ws_col);
  return 2;
}

/* monotonic() -> seconds since some fixed moment, never stepping back. */
static int monotonic(lua_State *L) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  lua_pushnumber(L, (lua_Number)now.tv_sec + (lua_Number)now.tv_nsec / 1e9);
  return 1;
}

void rondo_open_runtime(lua_State *L) {
  rondo_pool **slot = lua_newuserdatauv(L, sizeof *slot, 0);
  *slot = NULL;
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, pool_gc);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &pool_key);

  lua_pushliteral(L, RONDO_VERSION);
  lua_setfield(L, -2, "version");
  static const luaL_Reg functions[] = {{"threads", threads},
                                       {"isa", isa},
                                       {"isatty", is_terminal},
                                       {"monotonic", monotonic},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
