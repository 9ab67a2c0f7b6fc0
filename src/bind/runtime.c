/* runtime.c - what belongs to a Lua state as a whole: its thread pool, the kernels in use; and what
 * Lua's own libraries do not tell: whether a descriptor is a terminal and the locale UTF-8, a clock
 * that never steps. */
#include "bind/bind.h"

#include <limits.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define POOL_META "rondo.pool"
static const char pool_key = 'p'; /* its address is the registry key of the pool's userdata */

/* The pool stays where it is until the state's memory goes: what holds it may run finalizers. */
typedef struct {
  bool started; /* the threads have been started, at the first use */
  bool closed;  /* the state is closing; later finalizers compute without workers */
  alignas(void *) char pool[];
} pool_box;

static const char stop_key = 's'; /* of what stops the pool */

static pool_box *get_box(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &pool_key);
  pool_box *box = luaL_checkudata(L, -1, POOL_META);
  lua_pop(L, 1); /* the registry keeps it */
  return box;
}

static int pool_gc(lua_State *L) {
  pool_box *box = luaL_checkudata(L, 1, POOL_META);
  box->closed = true;
  rondo_pool_close((rondo_pool *)box->pool);
  return 0;
}

static void resize(lua_State *L, pool_box *box, int threads) {
  if (box->closed) return;
  if (!rondo_pool_resize((rondo_pool *)box->pool, threads))
    luaL_error(L, "not enough memory for the thread pool");
  box->started = true;
}

rondo_pool *rondo_state_pool(lua_State *L) {
  rondo_charge_elements(L, 0);
  pool_box *box = get_box(L);
  if (!box->started) resize(L, box, 0);
  return (rondo_pool *)box->pool;
}

void rondo_stop_by(lua_State *L, const rondo_stop *stop) {
  lua_pushlightuserdata(L, (void *)stop);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &stop_key);
}

bool rondo_is_stopped(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &stop_key);
  const rondo_stop *stop = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return stop != NULL && rondo_stop_is_due(stop);
}

void rondo_check_stop(lua_State *L) {
  if (!rondo_is_stopped(L)) return;
  rondo_charge_elements(L, 0); /* a guard knows why, and raises */
  lua_pushliteral(L, "interrupted");
  lua_error(L);
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
    resize(L, get_box(L), (int)n);
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

bool rondo_locale_is_utf8(void) {
  static const char *const variables[] = {"LC_ALL", "LC_CTYPE", "LANG"};
  for (int i = 0; i < 3; i++) {
    const char *value = getenv(variables[i]);
    if (value != NULL && *value != 0) {
      return strcasestr(value, "utf-8") != NULL || strcasestr(value, "utf8") != NULL;
    }
  }
  return false;
}

/* is_utf8() -> whether the locale that the environment names has characters beyond ASCII. */
static int is_utf8(lua_State *L) {
  lua_pushboolean(L, rondo_locale_is_utf8());
  return 1;
}

/* monotonic() -> seconds since some fixed moment, never stepping back. */
static int monotonic(lua_State *L) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  lua_pushnumber(L, (lua_Number)now.tv_sec + (lua_Number)now.tv_nsec / 1e9);
  return 1;
}

void rondo_open_runtime(lua_State *L) {
  pool_box *box = lua_newuserdatauv(L, sizeof *box + rondo_pool_size(), 0);
  *box = (pool_box){0};
  lua_rawgetp(L, LUA_REGISTRYINDEX, &stop_key);
  rondo_pool_init((rondo_pool *)box->pool, lua_touserdata(L, -1));
  lua_pop(L, 1);
  luaL_newmetatable(L, POOL_META);
  lua_pushcfunction(L, pool_gc);
  lua_setfield(L, -2, "__gc");
  lua_pushliteral(L, "locked");
  lua_setfield(L, -2, "__metatable");
  lua_setmetatable(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &pool_key);

  lua_pushliteral(L, RONDO_VERSION);
  lua_setfield(L, -2, "version");
  static const luaL_Reg functions[] = {{"threads", threads},     {"isa", isa},
                                       {"isatty", is_terminal},  {"is_utf8", is_utf8},
                                       {"monotonic", monotonic}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
