/* interrupt.c - stopping a script on request, by Lua's debug hook.
 *
 * The hook of the main thread is set from a signal handler, as lua.c does: lua_sethook is made for
 * that. Coroutines have hooks of their own, so a state without trust, or with limits, polls: its
 * hook is set from the start, and coroutines inherit it. */
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

/* A script that catches the error meets it again, and in the end wherever it is. */
int rondo_poll(lua_State *L) {
  rondo *r = rondo_host_of(L);
  if (!rondo_is_over(r) && !r->interrupted) return 0;
  bool trusted = r->config.trust == RONDO_TRUST_EVERYTHING;
  bool grace = trusted && ++r->interruptions < PATIENCE;
  lua_sethook(L, on_hook, grace ? LUA_MASKCOUNT : EVENTS, grace ? GRACE : 1);
  if (!trusted) fail_without_handler(L);
  lua_pushliteral(L, "interrupted");
  return lua_error(L);
}

static void on_hook(lua_State *L, lua_Debug *ar) {
  if (ar->event == LUA_HOOKCOUNT) rondo_spend(rondo_host_of(L), POLL);
  rondo_poll(L);
}

void rondo_rest_hook(rondo *r) {
  bool poll = rondo_is_polled(r);
  r->interrupted = false;
  r->interruptions = 0;
  lua_sethook(r->L, poll ? on_hook : NULL, poll ? LUA_MASKCOUNT : 0, poll ? POLL : 0);
}

int rondo_go_on(lua_State *L) {
  rondo *r = rondo_host_of(L);
  int (*ask)(void *) = r->config.on_interrupted;
  bool forget = r->interrupted && ask != NULL && ask(r->config.user) != 0;
  if (forget) rondo_rest_hook(r);
  lua_pushboolean(L, !r->interrupted);
  return 1;
}

void rondo_interrupt(rondo *r) {
  if (r == NULL || r->L == NULL) return;
  r->interrupted = true;
  if (!rondo_is_polled(r)) lua_sethook(r->L, on_hook, EVENTS, 1);
}
