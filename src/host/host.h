/* host.h - what the files behind rondo.h share. */
#ifndef RONDO_HOST_HOST_H
#define RONDO_HOST_HOST_H

#include "rondo/rondo.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdatomic.h>

/* Bytes; no allocation of this size is ever tried. */
#define RONDO_IMPOSSIBLE_SIZE ((size_t)-1 / 4)

struct rondo {
  lua_State *L; /* NULL when it could not be made, and after the script has ended the process */
  rondo_config config;
  uint64_t used;       /* bytes that Lua holds */
  rondo_status start;  /* of rondo_new; reported by every call unless RONDO_OK */
  bool busy;           /* a call is running; a callback must not begin another */
  bool commanding;     /* that call is rondo_command */
  bool exited;         /* the script has called os.exit */
  int exit_code;       /* with this */
  rondo_status status; /* of the call, set by what it runs */
  atomic_bool interrupted;
  int interruptions;     /* errors raised for it */
  size_t warning_length; /* of the warning that is being put together */
  char warning[1024];
  char message[4096];
};

/* The host that a state, or one of its coroutines, belongs to. */
rondo *rondo_host_of(lua_State *L);

/* modules.c: makes rondo.core and the Lua half known to require. [-0, +0] */
void rondo_preload(lua_State *L);

/* interrupt.c: raises when the host's call is to stop; also a Lua function. [-0, +0] */
int rondo_poll(lua_State *L);

/* interrupt.c: a Lua function: asks the host whether the prompt goes on after an interruption,
 * which is then forgotten. -> whether it does */
int rondo_go_on(lua_State *L);

/* interrupt.c: forgets an interruption; the hook rests, or polls in a state without trust. */
void rondo_rest_hook(rondo *r);

/* state.c: libraries, paths, threads, and os.exit of a new state, in protected mode: [-0, +0] */
int rondo_prepare_state(lua_State *L);

/* state.c: requires a module from the system's folders only, if it is there. [-0, +0] */
void rondo_require_installed(lua_State *L, const char *name);

/* state.c: a Lua allocator that counts and refuses; user is the host. */
void *rondo_host_allocate(void *user, void *block, size_t old_size, size_t new_size);

/* state.c: a Lua warning function; user is the host. */
void rondo_host_warn(void *user, const char *text, int to_be_continued);

/* state.c: the chunk on top of the stack gets the globals that its host's trust allows. [-0, +0] */
void rondo_confine(lua_State *L);

/* state.c: pushes the table of globals of scripts. [-0, +1] */
void rondo_push_globals(lua_State *L);

#endif
