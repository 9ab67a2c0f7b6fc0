/* host.c - rondo.h: a Lua state with rondo in it, and calls that never let a Lua error out. */
#include "host/host.h"

#include "core/error.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char no_memory[] = "not enough memory";

const char *rondo_version(void) {
  return RONDO_VERSION;
}

const char *rondo_message(const rondo *r) {
  return r != NULL ? r->message : no_memory;
}

rondo_status rondo_report(rondo *r, rondo_status status, const char *message) {
  snprintf(r->message, sizeof r->message, "%s", message);
  r->reported = status;
  return status;
}

/* Takes what this version knows of the host's config; a newer host may have left the rest 0. */
static rondo_status copy_config(rondo *r, const rondo_config *given) {
  if (given == NULL) return RONDO_OK;
  size_t size = given->size != 0 ? given->size : sizeof *given;
  size_t known = size < sizeof *given ? size : sizeof *given;
  memcpy(&r->config, given, known);
  const char *bytes = (const char *)given;
  for (size_t i = known; i < size; i++) {
    if (bytes[i] != 0)
      return rondo_report(r, RONDO_USAGE, "the config has a field that is not known");
  }
  if (r->config.threads < 0 || r->config.threads > 1024) {
    return rondo_report(r, RONDO_USAGE, "the number of threads is 0 (all) to 1024");
  }
  if (r->config.trust != RONDO_TRUST_NOTHING && r->config.trust != RONDO_TRUST_EVERYTHING) {
    return rondo_report(r, RONDO_USAGE, "trust is RONDO_TRUST_NOTHING or RONDO_TRUST_EVERYTHING");
  }
  rondo_set_defaults(&r->config);
  return RONDO_OK;
}

/* Turns the error value on top of the stack into status and message. Calls nothing that can raise:
 * the message handler has left a string, unless memory ran out. */
static rondo_status take_error(rondo *r, int result) {
  const char *text = lua_type(r->L, -1) == LUA_TSTRING ? lua_tostring(r->L, -1) : NULL;
  if (r->exited && r->exit_code == 0) return rondo_report(r, RONDO_OK, "");
  char why[128];
  if (r->exited) {
    snprintf(why, sizeof why, "the script ended with exit code %d", r->exit_code);
    return rondo_report(r, RONDO_USAGE, why);
  }
  if (r->limited != RONDO_LIMIT_NONE) {
    rondo_limit_text(r, why, sizeof why);
    return rondo_report(r, RONDO_LIMIT, why);
  }
  if (r->stop.asked) return rondo_report(r, RONDO_INTERRUPTED, "interrupted");
  if (result == LUA_ERRMEM) return rondo_report(r, RONDO_MEMORY, no_memory);
  rondo_status status = r->status != RONDO_OK ? r->status : RONDO_USAGE;
  if (text != NULL && strstr(text, no_memory) != NULL) status = RONDO_MEMORY; /* raised again */
  return rondo_report(r, status, text != NULL ? text : "an error without a message");
}

/* Message handler: any error value becomes a string; defects of rondo get a traceback. */
static int describe_error(lua_State *L) {
  const rondo *r = rondo_host_of(L);
  const char *text = luaL_tolstring(L, 1, NULL);
  rondo_record_place(L, text);
  if (r->commanding && !r->stop.asked && strstr(text, "\nstack traceback:") == NULL) {
    luaL_traceback(L, L, text, 1);
  }
  return 1;
}

/* Runs function(data) in protected mode. */
rondo_status rondo_call(rondo *r, lua_CFunction function, void *data) {
  lua_State *L = r->L;
  if (r->stop.asked && r->made) {
    rondo_rest_hook(r);
    return rondo_report(r, RONDO_INTERRUPTED, "interrupted");
  }
  r->busy = true;
  rondo_refill(r);
  rondo_clear_record(r);
  r->exited = false;
  r->status = RONDO_OK;
  rondo_report(r, RONDO_OK, "");
  lua_pushcfunction(L, describe_error);
  lua_pushcfunction(L, function);
  lua_pushlightuserdata(L, data);
  int result = lua_pcall(L, 1, 0, 1);
  rondo_status status = result == LUA_OK ? rondo_report(r, RONDO_OK, "") : take_error(r, result);
  lua_settop(L, 0);
  r->busy = false;
  r->stop.deadline = RONDO_NEVER;
  r->limited = RONDO_LIMIT_NONE;
  r->model = r->out = NULL;
  rondo_rest_hook(r);
  return status;
}

/* Whether a call may begin; if not, the reason is reported. */
rondo_status rondo_ready(rondo *r) {
  if (r == NULL) return RONDO_MEMORY;
  if (r->start != RONDO_OK) return r->start;
  if (r->busy) return rondo_report(r, RONDO_USAGE, "this host is busy with another call");
  return RONDO_OK;
}

rondo *rondo_new(const rondo_config *config) {
  rondo *r = calloc(1, sizeof *r);
  if (r == NULL) return NULL;
  r->start = copy_config(r, config);
  if (r->start != RONDO_OK) return r;
  r->L = lua_newstate(rondo_host_allocate, r);
  if (r->L == NULL) {
    r->start = rondo_report(r, RONDO_MEMORY, no_memory);
    return r;
  }
  *(rondo **)lua_getextraspace(r->L) = r;
  r->running = r->L;
  lua_setwarnf(r->L, rondo_host_warn, r);
  r->start = rondo_call(r, rondo_prepare_state, NULL);
  r->made = true;
  return r;
}

void rondo_free(rondo *r) {
  if (r == NULL || r->busy) return;
  lua_State *L = r->L;
  r->L = NULL; /* from here on interruptions find nothing */
  if (L != NULL) lua_close(L);
  free(r);
}

typedef struct {
  const char *model, *out, *recipe;
} quantize_call;

/* progress(bytes, total, name) for rondo.quantize. A long quantization is no endless script: its
 * limits begin again. */
static int report_progress(lua_State *L) {
  rondo *r = rondo_host_of(L);
  rondo_refill(r);
  if (r->config.on_progress == NULL) return 0;
  uint64_t bytes = (uint64_t)luaL_checkinteger(L, 1), total = (uint64_t)luaL_checkinteger(L, 2);
  const char *name = luaL_optstring(L, 3, "");
  if (r->config.on_progress(r->config.user, bytes, total, name) != 0) r->stop.asked = true;
  if (!r->stop.asked) return 0;
  lua_pushliteral(L, "interrupted");
  return lua_error(L);
}

/* Pushes the chunk of a Lua file; raises otherwise, with the host's status set. */
static void load_file(lua_State *L, const char *path) {
  rondo *r = rondo_host_of(L);
  bool trusted = r->config.trust == RONDO_TRUST_EVERYTHING;
  int result = luaL_loadfilex(L, path, trusted ? "bt" : "t");
  if (result == LUA_OK) {
    rondo_confine(L);
    return;
  }
  if (result == LUA_ERRFILE) r->status = RONDO_IO;
  if (result == LUA_ERRSYNTAX) rondo_record_chunk(r, path, lua_tostring(L, -1));
  lua_error(L);
}

/* [-0, +1] What a file returns. */
static void push_returned(lua_State *L, const char *path) {
  load_file(L, path);
  lua_call(L, 0, 1);
}

/* Options may say a recipe by the name of a file beside the one at `path` that they came from. */
static void load_named_recipe(lua_State *L, const char *path) {
  if (lua_getfield(L, -1, "recipe") != LUA_TSTRING) {
    lua_pop(L, 1);
    return;
  }
  const char *name = lua_tostring(L, -1), *slash = strrchr(path, '/');
  if (strchr(name, '/') != NULL) {
    luaL_error(L, "%s: recipe is a recipe or the name of a file beside this one, not %s", path,
               name);
  }
  lua_pushlstring(L, path, slash != NULL ? (size_t)(slash + 1 - path) : 0);
  lua_insert(L, -2);
  lua_concat(L, 2);
  push_returned(L, lua_tostring(L, -1));
  lua_setfield(L, -3, "recipe");
  lua_pop(L, 1);
}

/* [-1, +1] What a recipe file returns, as options of rondo.quantize: rondo.recipe { ... } is one of
 * them; a plain table is all of them. */
static void push_as_options(lua_State *L, const char *recipe) {
  if (!lua_istable(L, -1)) {
    luaL_error(L, "%s: a recipe file returns rondo.recipe { ... } or a table of options, not %s",
               recipe, luaL_typename(L, -1));
  }
  if (luaL_getmetafield(L, -1, "__name") == LUA_TNIL) {
    load_named_recipe(L, recipe);
    return;
  }
  lua_pop(L, 1);
  lua_newtable(L);
  lua_insert(L, -2);
  lua_setfield(L, -2, "recipe");
}

/* [-0, +1] The options: those of the recipe, or none. */
static void push_options(lua_State *L, const char *recipe) {
  if (recipe == NULL) {
    lua_newtable(L);
  } else {
    push_returned(L, recipe);
    push_as_options(L, recipe);
  }
  lua_pushcfunction(L, report_progress);
  lua_setfield(L, -2, "progress");
}

/* The status whose name is at idx; RONDO_IO for others. */
static rondo_status status_at(lua_State *L, int idx) {
  const char *name = lua_type(L, idx) == LUA_TSTRING ? lua_tostring(L, idx) : "io";
  for (rondo_status s = RONDO_USAGE; s < RONDO_STATUS_COUNT; s++) {
    if (strcmp(name, rondo_status_name(s)) == 0) return s;
  }
  return RONDO_IO;
}

/* [-0, +1] The part of the file system that a model's path stands for: an index is one of the files
 * of its folder. */
static const char *push_extent(lua_State *L, const char *model) {
  const char *slash = strrchr(model, '/'), *extension = strrchr(model, '.');
  if (extension == NULL || strcmp(extension, ".json") != 0) {
    return lua_pushstring(L, model);
  }
  return slash != NULL ? lua_pushlstring(L, model, (size_t)(slash - model) + 1)
                       : lua_pushliteral(L, ".");
}

static int run_quantize(lua_State *L) {
  const quantize_call *c = lua_touserdata(L, 1);
  rondo *r = rondo_host_of(L);
  const char *extent = push_extent(L, c->model);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "rondo");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, "quantize");
  lua_pushstring(L, c->model);
  lua_pushstring(L, c->out);
  push_options(L, c->recipe);
  r->model = extent;
  r->out = c->out;
  lua_call(L, 3, 3);
  if (lua_toboolean(L, -3)) return 0;
  r->status = status_at(L, -1);
  lua_pop(L, 1);
  return lua_error(L);
}

rondo_status rondo_quantize(rondo *r, const char *model, const char *out, const char *recipe) {
  rondo_status status = rondo_ready(r);
  if (status != RONDO_OK) return status;
  if (model == NULL || out == NULL)
    return rondo_report(r, RONDO_USAGE, "a model and an output are needed");
  return rondo_call(r, run_quantize, &(quantize_call){model, out, recipe});
}

typedef struct {
  const char *path;
  int argc;
  const char *const *argv;
  int code; /* of rondo_command */
} script_call;

/* [-0, +1] { [0] = name, arguments } */
static void push_arguments(lua_State *L, const char *name, int argc, const char *const *argv) {
  lua_createtable(L, argc, 1);
  lua_pushstring(L, name);
  lua_rawseti(L, -2, 0);
  for (int i = 0; i < argc; i++) {
    lua_pushstring(L, argv[i]);
    lua_rawseti(L, -2, i + 1);
  }
}

static int run_script(lua_State *L) {
  const script_call *c = lua_touserdata(L, 1);
  rondo_push_globals(L);
  push_arguments(L, c->path, c->argc, c->argv);
  lua_setfield(L, -2, "arg");
  load_file(L, c->path);
  luaL_checkstack(L, c->argc, "too many arguments");
  for (int i = 0; i < c->argc; i++) lua_pushstring(L, c->argv[i]);
  lua_call(L, c->argc, 0);
  rondo_poll(L); /* a script may have caught the error of its last coroutine */
  return 0;
}

rondo_status rondo_run(rondo *r, const char *path, int argc, const char *const *argv) {
  rondo_status status = rondo_ready(r);
  if (status != RONDO_OK) return status;
  if (path == NULL || argc < 0 || (argc > 0 && argv == NULL)) {
    return rondo_report(r, RONDO_USAGE, "a script and its arguments are needed");
  }
  return rondo_call(r, run_script, &(script_call){path, argc, argv, 0});
}

static int run_command(lua_State *L) {
  script_call *c = lua_touserdata(L, 1);
  rondo_require_installed(L, "argparse");
  lua_getglobal(L, "require");
  lua_pushliteral(L, "rondo.cli");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, "main");
  int given = c->argc > 1 ? c->argc - 1 : 0;
  push_arguments(L, c->argc > 0 ? c->argv[0] : "rondo", given, c->argv + 1);
  lua_pushcfunction(L, rondo_attempt);
  lua_call(L, 2, 1);
  c->code = (int)luaL_checkinteger(L, -1);
  return 0;
}

int rondo_command(rondo *r, int argc, const char *const *argv) {
  if (rondo_ready(r) != RONDO_OK) return 1;
  if (r->config.trust != RONDO_TRUST_EVERYTHING) {
    rondo_report(r, RONDO_USAGE, "the command needs RONDO_TRUST_EVERYTHING");
    return 1;
  }
  script_call c = {NULL, argc, argv, 1};
  r->commanding = true;
  rondo_status status = rondo_call(r, run_command, &c);
  r->commanding = false;
  return status == RONDO_OK ? c.code : 1;
}
