/* coroutines.c - coroutine.resume and wrap that let an interruption find the thread that runs.
 *
 * Each thread of Lua has a hook of its own, and one that looks for interruptions all the time makes
 * Lua half as fast. So a state that does not poll notes which of its threads runs, and the hook of
 * that one is set (see interrupt.c). lua_resume and lua_resetthread catch all errors, so that the
 * note is always right. Where nothing interrupts, these do what Lua's own functions do. */
#include "host/host.h"

#include <lualib.h>

/* Pushes an error without its place; returns -1. [-n, +1] */
static int refuse(lua_State *L, int n, const char *message) {
  lua_pop(L, n);
  lua_pushstring(L, message);
  return -1;
}

/* Resumes `thread` with the n values on top of the stack; returns how many it yields or returns, or
 * -1 for an error. [-n, +results | 1] */
static int resume(lua_State *L, lua_State *thread, int n) {
  rondo *r = rondo_host_of(L);
  bool over = lua_status(thread) == LUA_OK && lua_gettop(thread) == 0;
  if (over) return refuse(L, n, "cannot resume dead coroutine");
  if (!lua_checkstack(thread, n)) return refuse(L, n, "too many arguments to resume");
  int results = 0;
  lua_xmove(L, thread, n);
  rondo_switch(r, L, thread);
  int status = lua_resume(thread, L, n, &results);
  rondo_switch(r, thread, L);
  bool failed = status != LUA_OK && status != LUA_YIELD;
  if (failed) results = 1;
  if (!lua_checkstack(L, results + 1)) {
    lua_pop(thread, results);
    return refuse(L, 0, "too many results to resume");
  }
  lua_xmove(thread, L, results);
  return failed ? -1 : results;
}

/* resume(thread, ...) -> true, values | false, error. An interruption goes on in whoever has
 * resumed the thread. */
static int resume_caught(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTHREAD);
  int results = resume(L, lua_tothread(L, 1), lua_gettop(L) - 1), kept = results < 0 ? 1 : results;
  if (results < 0 && rondo_host_of(L)->stop.asked) return lua_error(L);
  lua_pushboolean(L, results >= 0);
  lua_insert(L, -kept - 1);
  return kept + 1;
}

/* Ends a thread that has failed: what it has to close is closed, and its error, the last one, takes
 * the place of that on top of the stack. */
static void end_failed(lua_State *L, lua_State *thread) {
  rondo *r = rondo_host_of(L);
  rondo_switch(r, L, thread);
  lua_resetthread(thread);
  rondo_switch(r, thread, L);
  lua_pop(L, 1);
  lua_xmove(thread, L, 1);
}

/* What wrap returns: (...) -> values; upvalue 1 is the thread. Errors get the caller's place, but
 * for the one of an interruption. */
static int resume_wrapped(lua_State *L) {
  lua_State *thread = lua_tothread(L, lua_upvalueindex(1));
  int results = resume(L, thread, lua_gettop(L));
  if (results >= 0) return results;
  int status = lua_status(thread);
  if (status != LUA_OK && status != LUA_YIELD) end_failed(L, thread);
  bool placed = status != LUA_ERRMEM && !rondo_host_of(L)->stop.asked;
  if (placed && lua_type(L, -1) == LUA_TSTRING) {
    luaL_where(L, 1);
    lua_insert(L, -2);
    lua_concat(L, 2);
  }
  return lua_error(L);
}

/* wrap(f) */
static int wrap(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_State *thread = lua_newthread(L);
  lua_pushvalue(L, 1);
  lua_xmove(L, thread, 1);
  lua_pushcclosure(L, resume_wrapped, 1);
  return 1;
}

void rondo_replace_coroutines(lua_State *L) {
  static const luaL_Reg functions[] = {{"resume", resume_caught}, {"wrap", wrap}, {NULL, NULL}};
  lua_getglobal(L, LUA_COLIBNAME);
  luaL_setfuncs(L, functions, 0);
  lua_pop(L, 1);
}
