/* host.h - what the files behind rondo.h share. */
#ifndef RONDO_HOST_HOST_H
#define RONDO_HOST_HOST_H

#include "bind/bind.h"
#include "rondo/rondo.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdatomic.h>

/* Bytes; no allocation of this size is ever tried. */
#define RONDO_IMPOSSIBLE_SIZE ((size_t)-1 / 4)

/* Why a call was ended by rondo itself. */
typedef enum rondo_limited { RONDO_LIMIT_NONE, RONDO_LIMIT_STEPS, RONDO_LIMIT_TIME } rondo_limited;

/* A line of a script; "" and 0 stand for none. */
typedef struct rondo_place {
  char file[512];
  int line;
} rondo_place;

struct rondo {
  lua_State *L; /* NULL when it could not be made, and after the script has ended the process */
  rondo_config config;
  uint64_t used;         /* bytes that Lua and open checkpoints hold */
  int open;              /* checkpoints */
  rondo_status start;    /* of rondo_new; reported by every call unless RONDO_OK */
  bool busy;             /* a call is running; a callback must not begin another */
  bool made;             /* the state is complete: from here on calls are limited */
  bool commanding;       /* that call is rondo_command */
  bool exited;           /* the script has called os.exit */
  int exit_code;         /* with this */
  rondo_status status;   /* of the call, set by what it runs */
  rondo_status reported; /* with the message */
  rondo_stop stop;       /* asked: the call is interrupted; its deadline is the limit of time */
  _Atomic(lua_State *) running; /* the thread of L that runs; NULL while its hook is being set */
  int interruptions;            /* errors raised for it */
  rondo_limited limited;
  uint64_t steps;          /* left to the call */
  uint64_t bytes;          /* of new memory that have not made a step yet */
  const char *model, *out; /* that rondo_quantize may use, beside what is granted to scripts */
  struct {
    rondo_place place, witnessed;
    char tensor[512];
    char words[256]; /* the end of the text of the error that was witnessed last */
    rondo_error_record record;
  } error;
  size_t warning_length; /* of the warning that is being put together */
  char warning[1024];
  char message[4096];
};

/* The host that a state, or one of its coroutines, belongs to. */
rondo *rondo_host_of(lua_State *L);

/* host.c: runs function(data) in protected mode, within the limits; reports how it ended. */
rondo_status rondo_call(rondo *r, lua_CFunction function, void *data);

/* host.c: whether a call may begin; if not, the reason is reported. */
rondo_status rondo_ready(rondo *r);

/* host.c: keeps status and message for the host; returns the status. */
rondo_status rondo_report(rondo *r, rondo_status status, const char *message);

/* record.c: forgets the last error. */
void rondo_clear_record(rondo *r);

/* record.c: remembers where in a script the error arose that a message handler deals with; where it
 * tells on in other words what a witness has seen, that one's place. */
void rondo_record_place(lua_State *L, const char *message);

/* record.c: the module rondo.witness of a host: a message handler. */
int rondo_witness(lua_State *L);

/* record.c: "FILE:LINE: " of the script that runs, or "". [-0, +1] */
void rondo_push_place(lua_State *L);

/* record.c: remembers a script that does not compile, and the line that message names. */
void rondo_record_chunk(rondo *r, const char *path, const char *message);

/* modules.c: makes rondo.core and the Lua half known to require. [-0, +0] */
void rondo_preload(lua_State *L);

/* interrupt.c: raises when the host's call is to stop; also a Lua function. [-0, +0] */
int rondo_poll(lua_State *L);

/* limits.c: what 0 stands for in the config. */
void rondo_set_defaults(rondo_config *config);

/* limits.c: whether the state's hook looks for interruptions and limits all the time. */
bool rondo_is_polled(const rondo *r);

/* limits.c: gives the call all its steps and time again. */
void rondo_refill(rondo *r);

/* limits.c: take from what the call has left; the next look finds that nothing is. */
void rondo_spend(rondo *r, uint64_t steps);
void rondo_spend_bytes(rondo *r, uint64_t bytes);

/* limits.c: whether the call has reached a limit. */
bool rondo_is_over(rondo *r);

/* limits.c: counts an open checkpoint with so many bytes, or with -bytes no longer; raises when the
 * host grants no more. [-0, +0] */
void rondo_keep(lua_State *L, int64_t bytes);

/* limits.c: what a script that has reached its limit is told. */
void rondo_limit_text(const rondo *r, char *text, size_t size);

/* limits.c: spends and looks; also as a Lua function charge(steps). [-0, +0] */
void rondo_charge(lua_State *L, uint64_t steps);
int rondo_charge_script(lua_State *L);

/* access.c: raises unless this state may use the path so. [-0, +0] */
void rondo_admit(lua_State *L, const char *path, rondo_access access);

/* match.c: puts functions that charge for their work into the table at the top: find, match,
 * gmatch, gsub, rep. [-0, +0] */
void rondo_open_match(lua_State *L);

/* interrupt.c: a Lua function for the prompt: attempt(f, ...) gives true and what f gives, or false
 * where an interruption that the host wants forgotten came meanwhile. Errors go on. */
int rondo_attempt(lua_State *L);

/* interrupt.c: notes that in place of the thread `from`, which ran, the thread `to` runs now. */
void rondo_switch(rondo *r, lua_State *from, lua_State *to);

/* coroutines.c: puts functions that note it in the place of Lua's own, for a state that does not
 * poll. [-0, +0] */
void rondo_replace_coroutines(lua_State *L);

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
