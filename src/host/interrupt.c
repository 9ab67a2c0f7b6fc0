/* interrupt.c - stopping a script on request, by Lua's debug hook.
 *
 * The hook of the thread that runs is set from a signal handler, as lua.c does: lua_sethook is made
 * for that. A state without trust, or with limits, polls: its hook is set from the start, and
 * coroutines inherit it. */
#include "host/host.h"

enum {
  POLL = 100,     /* instructions between two looks, where a state polls */
  GRACE = 100000, /* instructions for cleaning up before the error is raised again */
  PATIENCE = 8,   /* errors after which there is no more grace */
  EVENTS = LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT
};

static void on_hook(lua_State *L, lua_Debug *ar);

rondo *rondo_host_of(lua_State *L) {
  return *(rondo **)lua_getextraspace(L);
}

/* Hooks rest while a message handler deals with an error of the hook itself, so a script could stay
 * in its handler for ever. Memory errors are raised without one. */
static void fail_without_handler(lua_State *L) {
  lua_newuserdatauv(L, RONDO_IMPOSSIBLE_SIZE, 0);
}

/* Has the hook called at once, or where an error has been raised already, after a while. */
static void set_hook(lua_State *L, const rondo *r) {
  bool trusted = r->config.trust == RONDO_TRUST_EVERYTHING;
  bool grace = trusted && r->interruptions > 0 && r->interruptions < PATIENCE;
  lua_sethook(L, on_hook, grace ? LUA_MASKCOUNT : EVENTS, grace ? GRACE : 1);
}

/* A script that catches the error meets it again, and in the end wherever it is. */
int rondo_poll(lua_State *L) {
  rondo *r = rondo_host_of(L);
  if (!rondo_is_over(r) && !r->stop.asked) return 0;
  r->interruptions++;
  set_hook(L, r);
  if (r->config.trust != RONDO_TRUST_EVERYTHING) fail_without_handler(L);
  lua_pushliteral(L, "interrupted");
  return lua_error(L);
}

/* A hook that is left over in a coroutine rests from now on, but for an interruption that comes at
 * this moment. */
static void on_hook(lua_State *L, lua_Debug *ar) {
  rondo *r = rondo_host_of(L);
  if (ar->event == LUA_HOOKCOUNT) rondo_spend(r, POLL);
  if (!rondo_is_polled(r)) lua_sethook(L, NULL, 0, 0);
  rondo_poll(L);
}

void rondo_rest_hook(rondo *r) {
  bool poll = rondo_is_polled(r);
  r->stop.asked = false;
  r->interruptions = 0;
  lua_sethook(r->L, poll ? on_hook : NULL, poll ? LUA_MASKCOUNT : 0, poll ? POLL : 0);
}

int rondo_attempt(lua_State *L) {
  rondo *r = rondo_host_of(L);
  int (*ask)(void *) = r->config.on_interrupted;
  luaL_checkany(L, 1);
  int result = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
  bool stopped = r->stop.asked;
  if (stopped && ask != NULL && ask(r->config.user) != 0) {
    rondo_rest_hook(r);
    lua_pushboolean(L, 0);
    return 1;
  }
  if (stopped) lua_pushliteral(L, "interrupted");
  if (stopped || result != LUA_OK) return lua_error(L);
  lua_pushboolean(L, 1);
  lua_insert(L, 1);
  return lua_gettop(L);
}

/* An interruption from another thread of the process may be at work on `from`, and has taken the
 * note meanwhile: whoever waits here lets the thread of Lua live until that is done. */
void rondo_switch(rondo *r, lua_State *from, lua_State *to) {
  lua_State *expected = from;
  while (!atomic_compare_exchange_weak(&r->running, &expected, to)) expected = from;
  if (r->stop.asked) set_hook(to, r);
}

void rondo_interrupt(rondo *r) {
  if (r == NULL || r->L == NULL) return;
  r->stop.asked = true;
  if (rondo_is_polled(r)) return;
  lua_State *running = atomic_exchange(&r->running, NULL);
  if (running == NULL) return; /* another interruption is setting its hook */
  lua_sethook(running, on_hook, EVENTS, 1);
  atomic_store(&r->running, running);
}
