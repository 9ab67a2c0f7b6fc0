/* state.c - what a host's Lua state is made of: memory, warnings, libraries, trust. */
#include "bind/bind.h"
#include "host/host.h"

#include <lualib.h>
#include <stdlib.h>
#include <string.h>

static const char globals_key = 'g'; /* its address is the registry key of the scripts' globals */

static bool is_untrusted(const rondo *r) {
  return r->config.trust == RONDO_TRUST_NOTHING;
}

/* Before Lua gives up it looks through all its memory for some to free, which takes time. */
static void *refuse(rondo *r) {
  rondo_spend_bytes(r, r->used);
  return NULL;
}

void *rondo_host_allocate(void *user, void *block, size_t old_size, size_t new_size) {
  rondo *r = user;
  if (block == NULL) old_size = 0; /* Lua tells the kind of the new object there */
  if (new_size == 0) {
    r->used -= old_size;
    free(block);
    return NULL;
  }
  if (new_size >= RONDO_IMPOSSIBLE_SIZE) return NULL;
  uint64_t used = r->used - old_size, limit = r->config.memory_limit;
  bool grows = new_size > old_size;
  if (grows && limit != 0 && (used > limit || new_size > limit - used)) return refuse(r);
  if (grows) rondo_spend_bytes(r, new_size - old_size);
  if (grows && r->limited != RONDO_LIMIT_NONE && is_untrusted(r)) return NULL;
  void *moved = realloc(block, new_size);
  if (moved != NULL) r->used = used + new_size;
  return moved;
}

void rondo_host_warn(void *user, const char *text, int to_be_continued) {
  rondo *r = user;
  size_t room = sizeof r->warning - 1 - r->warning_length, length = strlen(text);
  bool control = r->warning_length == 0 && !to_be_continued && *text == '@';
  if (length > room) length = room;
  memcpy(r->warning + r->warning_length, text, length);
  r->warning_length += length;
  r->warning[r->warning_length] = '\0';
  if (to_be_continued) return;
  r->warning_length = 0;
  if (!control && r->config.on_warning != NULL) r->config.on_warning(r->config.user, r->warning);
}

/* os.exit: ends the script, for the command the process. */
static int leave(lua_State *L) {
  rondo *r = rondo_host_of(L);
  if (r->commanding) {
    r->L = NULL; /* a signal must not reach into a state that is being closed */
    lua_settop(L, 1);
    lua_pushboolean(L, 1); /* close the state: unfinished outputs disappear */
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, 2, 0);
  }
  if (lua_isnoneornil(L, 1) || lua_isboolean(L, 1)) {
    r->exit_code = lua_isboolean(L, 1) && !lua_toboolean(L, 1) ? EXIT_FAILURE : EXIT_SUCCESS;
  } else {
    r->exit_code = (int)luaL_checkinteger(L, 1);
  }
  r->exited = true;
  lua_pushliteral(L, "the script has ended itself");
  return lua_error(L);
}

static void replace_exit(lua_State *L) {
  lua_getglobal(L, LUA_OSLIBNAME);
  lua_getfield(L, -1, "exit");
  lua_pushcclosure(L, leave, 1);
  lua_setfield(L, -2, "exit");
  lua_pop(L, 1);
}

/* Takes the entries that begin with "." out of package.path or package.cpath. [-0, +0] */
static void drop_relative(lua_State *L, const char *field) {
  lua_getglobal(L, LUA_LOADLIBNAME);
  lua_getfield(L, -1, field);
  const char *rest = luaL_checkstring(L, -1);
  lua_pushliteral(L, "");
  while (*rest != '\0') {
    size_t length = strcspn(rest, ";");
    if (length > 0 && *rest != '.') {
      lua_pushlstring(L, rest, length);
      lua_pushliteral(L, ";");
      lua_concat(L, 3);
    }
    rest += length + (rest[length] == ';');
  }
  lua_setfield(L, -3, field);
  lua_pop(L, 2);
}

static void put_back(lua_State *L, const char *field, int value) {
  lua_getglobal(L, LUA_LOADLIBNAME);
  lua_pushvalue(L, value);
  lua_setfield(L, -2, field);
  lua_pop(L, 1);
}

static void push_path(lua_State *L, const char *field) {
  lua_getglobal(L, LUA_LOADLIBNAME);
  lua_getfield(L, -1, field);
  lua_remove(L, -2);
}

/* A module of the system must not come from the working folder, which may be an unpacked model. A
 * module that is missing is reported where it is used. */
void rondo_require_installed(lua_State *L, const char *name) {
  int top = lua_gettop(L);
  push_path(L, "path");
  push_path(L, "cpath");
  drop_relative(L, "path");
  drop_relative(L, "cpath");
  lua_getglobal(L, "require");
  lua_pushstring(L, name);
  lua_pcall(L, 1, 0, 0);
  put_back(L, "path", top + 1);
  put_back(L, "cpath", top + 2);
  lua_settop(L, top);
}

static void set_threads(lua_State *L, int threads) {
  luaL_requiref(L, "rondo.core", luaopen_rondo_core, 0);
  lua_getfield(L, -1, "threads");
  lua_pushinteger(L, threads);
  lua_call(L, 1, 0);
  lua_pop(L, 1);
}

/* Calls upvalue 1, which reads the path that is its first argument, or writes it where the second
 * is a mode that says so. */
static int call_admitted(lua_State *L) {
  const char *mode = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
  bool writes = lua_toboolean(L, lua_upvalueindex(2)) && strpbrk(mode, "wa+") != NULL;
  rondo_check_path(L, 1, writes ? RONDO_WRITE : RONDO_READ);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
  return lua_gettop(L);
}

/* Puts call_admitted in the place of a function of the table at the top, if it is there. [-0, +0]
 */
static void admit_field(lua_State *L, const char *field, bool has_mode) {
  if (lua_getfield(L, -1, field) != LUA_TFUNCTION) {
    lua_pop(L, 1);
    return;
  }
  lua_pushboolean(L, has_mode);
  lua_pushcclosure(L, call_admitted, 2);
  lua_setfield(L, -2, field);
}

/* What rondo's own Lua half uses of files, in a state whose scripts may make it do so. */
static void guard_files(lua_State *L) {
  static const char *const walks[] = {"attributes", "symlinkattributes", "dir"};
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  if (lua_getfield(L, -1, "lfs") == LUA_TTABLE) {
    for (size_t i = 0; i < sizeof walks / sizeof *walks; i++) admit_field(L, walks[i], false);
  }
  lua_getfield(L, -2, LUA_IOLIBNAME);
  admit_field(L, "open", true);
  lua_pop(L, 3);
}

/* The globals of scripts that nobody vouches for. [-0, +1] */
static void push_sandbox(lua_State *L) {
  guard_files(L);
  lua_getglobal(L, LUA_STRLIBNAME);
  rondo_open_match(L);
  lua_pop(L, 1);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "rondo.sandbox");
  lua_call(L, 1, 1);
  lua_pushcfunction(L, rondo_charge_script);
  lua_call(L, 1, 1);
}

/* The globals of scripts: the state's own, or a table with what nobody needs to be trusted for. */
static void make_globals(lua_State *L, bool trusted) {
  if (trusted) {
    lua_pushglobaltable(L);
  } else {
    push_sandbox(L);
  }
  lua_rawsetp(L, LUA_REGISTRYINDEX, &globals_key);
}

/* Errors that the Lua half tells on in other words keep their places. */
static void set_witness(lua_State *L) {
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_pushcfunction(L, rondo_witness);
  lua_setfield(L, -2, "rondo.witness");
  lua_pop(L, 1);
}

static const rondo_guard guard = {rondo_charge, rondo_admit, rondo_keep};

int rondo_prepare_state(lua_State *L) {
  const rondo *r = rondo_host_of(L);
  bool trusted = r->config.trust == RONDO_TRUST_EVERYTHING;
  luaL_checkversion(L);
  if (!trusted) {
    lua_pushboolean(L, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, "LUA_NOENV");
  }
  luaL_openlibs(L);
  rondo_stop_by(L, &rondo_host_of(L)->stop);
  if (rondo_is_polled(r) || r->config.memory_limit != 0) rondo_set_guard(L, &guard);
  replace_exit(L);
  if (!rondo_is_polled(r)) rondo_replace_coroutines(L);
  rondo_preload(L);
  set_witness(L);
  rondo_require_installed(L, "lfs");
  if (r->config.threads != 0) set_threads(L, r->config.threads);
  make_globals(L, trusted);
  return 0;
}

void rondo_push_globals(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &globals_key);
}

void rondo_confine(lua_State *L) {
  rondo_push_globals(L);
  if (lua_setupvalue(L, -2, 1) == NULL) lua_pop(L, 1);
}
