/* file.c - output folders and their files as userdata. The module's functions:
 *
 *   output(path [, { inputs = list of paths, overwrite = boolean }]) -> output | nil, message, code
 *   output:file(name, size) -> file                output:write(name, string) -> true
 *   output:copy(name, source path) -> true         output:publish() -> true [, remark]
 *   output:abort()    output:path()    output:partial()
 *   file:write(offset, string or row-major tensor) -> true         file:close() -> true
 *   file:queue(offset, row-major tensor) -> true: written while the caller goes on; the tensor is
 *     not to be changed before the next queue or close, which reports what has gone wrong
 *
 * Both structs lie in their userdata, closed, before anything is opened; closing is idempotent and
 * what __gc and __close do. A file keeps its output alive as its user value. Any call of Lua may
 * run a finalizer that closes what is in use: names stay until __gc, and the functions of
 * format/output.h refuse what is closed. */
#include "bind/bind.h"

#include "core/tensor.h"
#include "format/output.h"

#include <string.h>

#define OUTPUT_META "rondo.output"
#define FILE_META "rondo.output_file"

static const char *check_path(lua_State *L, int idx, rondo_access access) {
  const char *path = rondo_check_path(L, idx, access);
  luaL_argcheck(L, *path != '\0', idx, "the path is empty");
  return path;
}

static const char *check_name(lua_State *L, int idx) {
  size_t length;
  const char *name = luaL_checklstring(L, idx, &length);
  luaL_argcheck(L, strlen(name) == length, idx, "it contains a NUL byte");
  luaL_argcheck(L, rondo_output_name_ok(name), idx,
                "a file name without '/' and of at most 255 bytes is needed");
  return name;
}

static rondo_output *check_output(lua_State *L) {
  rondo_output *o = luaL_checkudata(L, 1, OUTPUT_META);
  if (o->folder < 0) luaL_error(L, "the output is closed");
  return o;
}

static rondo_output_file *check_file(lua_State *L) {
  rondo_output_file *f = luaL_checkudata(L, 1, FILE_META);
  if (f->file < 0) luaL_error(L, "the file is closed");
  if (f->output->folder < 0) luaL_error(L, "the output of this file is closed");
  return f;
}

static int push_result(lua_State *L, bool ok, const rondo_error *e) {
  if (!ok) return rondo_push_error(L, e);
  lua_pushboolean(L, 1);
  return 1;
}

/* Raises when the table at idx has a field that is not one of output's options. */
static void check_fields(lua_State *L, int idx) {
  lua_pushnil(L);
  while (lua_next(L, idx) != 0) {
    bool known = lua_type(L, -2) == LUA_TSTRING && (strcmp(lua_tostring(L, -2), "inputs") == 0 ||
                                                    strcmp(lua_tostring(L, -2), "overwrite") == 0);
    if (!known) {
      const char *name = luaL_tolstring(L, -2, NULL);
      luaL_argerror(L, idx,
                    lua_pushfstring(L, "unknown option '%s' (known: inputs, overwrite)", name));
    }
    lua_pop(L, 1);
  }
}

/* [-0, +2] Pushes a list of the strings in the field inputs of the table at idx, which keeps them
 * alive, and an array of pointers to them. */
static const char **push_inputs(lua_State *L, int idx, size_t *count) {
  *count = 0;
  if (lua_getfield(L, idx, "inputs") == LUA_TNIL) lua_newtable(L);
  luaL_argcheck(L, lua_istable(L, -1), idx, "inputs is a list of paths");
  int given = lua_gettop(L);
  lua_Integer n = luaL_len(L, given);
  luaL_argcheck(L, n >= 0 && n <= 1 << 24, idx, "too many inputs");
  lua_createtable(L, (int)n, 0);
  const char **paths = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof *paths, 0);
  for (lua_Integer i = 1; i <= n; i++) {
    lua_geti(L, given, i);
    size_t length = 0;
    const char *path = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &length) : NULL;
    luaL_argcheck(L, length > 0 && strlen(path) == length, idx, "inputs is a list of paths");
    paths[i - 1] = path;
    lua_rawseti(L, given + 1, i);
  }
  lua_remove(L, given);
  *count = (size_t)n;
  return paths;
}

static bool get_overwrite(lua_State *L, int idx) {
  int type = lua_getfield(L, idx, "overwrite");
  luaL_argcheck(L, type == LUA_TNIL || type == LUA_TBOOLEAN, idx, "overwrite is true or false");
  bool overwrite = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return overwrite;
}

static int output(lua_State *L) {
  const char *path = check_path(L, 1, RONDO_WRITE);
  lua_settop(L, 2);
  if (lua_isnil(L, 2)) {
    lua_newtable(L);
    lua_replace(L, 2);
  }
  luaL_checktype(L, 2, LUA_TTABLE);
  check_fields(L, 2);
  bool overwrite = get_overwrite(L, 2);
  size_t count;
  const char **inputs = push_inputs(L, 2, &count);
  rondo_output *o = lua_newuserdatauv(L, sizeof *o, 0);
  rondo_output_init(o);
  luaL_setmetatable(L, OUTPUT_META);
  rondo_error e;
  if (!rondo_output_open(o, path, inputs, count, overwrite, &e)) return rondo_push_error(L, &e);
  return 1;
}

static int output_file(lua_State *L) {
  rondo_output *o = check_output(L);
  const char *name = check_name(L, 2);
  lua_Integer size = luaL_checkinteger(L, 3);
  luaL_argcheck(L, size >= 0, 3, "a size cannot be negative");
  rondo_output_file *f = lua_newuserdatauv(L, sizeof *f, 2);
  rondo_output_file_init(f);
  f->output = o;
  luaL_setmetatable(L, FILE_META);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  rondo_error e;
  if (!rondo_output_file_open(f, o, name, (uint64_t)size, &e)) return rondo_push_error(L, &e);
  return 1;
}

static int output_write(lua_State *L) {
  rondo_output *o = check_output(L);
  const char *name = check_name(L, 2);
  size_t size;
  const char *bytes = luaL_checklstring(L, 3, &size);
  rondo_output_file f;
  rondo_error e;
  bool ok = rondo_output_file_open(&f, o, name, size, &e);
  if (ok) {
    ok = rondo_output_file_write(&f, 0, bytes, size, &e);
    if (ok) {
      ok = rondo_output_file_close(&f, &e);
    } else {
      rondo_output_file_drop(&f);
    }
  }
  return push_result(L, ok, &e);
}

static int output_copy(lua_State *L) {
  rondo_output *o = check_output(L);
  const char *name = check_name(L, 2), *source = check_path(L, 3, RONDO_READ);
  rondo_error e;
  bool ok = rondo_output_copy(o, name, source, &e);
  return push_result(L, ok, &e);
}

/* The remark says that the replaced folder could not be removed. */
static int output_publish(lua_State *L) {
  rondo_output *o = check_output(L);
  int old_left;
  rondo_error e;
  lua_pushboolean(L, 1);
  lua_pushstring(L, o->partial);
  if (!rondo_output_publish(o, &old_left, &e)) return rondo_push_error(L, &e);
  if (old_left == 0) {
    lua_pop(L, 1);
    return 1;
  }
  lua_pushfstring(L, "the replaced folder is still there as %s: %s", lua_tostring(L, -1),
                  strerror(old_left));
  lua_remove(L, -2);
  return 2;
}

static int output_abort(lua_State *L) {
  rondo_output_close(luaL_checkudata(L, 1, OUTPUT_META));
  return 0;
}

static int output_gc(lua_State *L) {
  rondo_output_free(luaL_checkudata(L, 1, OUTPUT_META));
  return 0;
}

static int output_path(lua_State *L) {
  lua_pushstring(L, check_output(L)->place.path);
  return 1;
}

static int output_partial(lua_State *L) {
  const rondo_output *o = check_output(L);
  lua_pushlstring(L, o->place.path, (size_t)(o->place.name - o->place.path));
  lua_pushstring(L, o->partial);
  lua_concat(L, 2);
  return 1;
}

static int file_write(lua_State *L) {
  rondo_output_file *f = check_file(L);
  lua_Integer offset = luaL_checkinteger(L, 2);
  luaL_argcheck(L, offset >= 0, 2, "an offset cannot be negative");
  const rondo_tensor *t = rondo_test_tensor(L, 3);
  size_t length = 0;
  const void *bytes = t != NULL ? t->data : luaL_checklstring(L, 3, &length);
  luaL_argcheck(L, t == NULL || rondo_tensor_is_row_major(t), 3,
                "a row-major tensor is needed; copy this view first");
  uint64_t count = t != NULL ? rondo_tensor_bytes(t) : length;
  rondo_error e;
  bool ok = rondo_output_file_write(f, (uint64_t)offset, bytes, count, &e);
  return push_result(L, ok, &e);
}

/* The tensor that is being written is the file's second user value. */
static int file_queue(lua_State *L) {
  rondo_output_file *f = check_file(L);
  lua_Integer offset = luaL_checkinteger(L, 2);
  luaL_argcheck(L, offset >= 0, 2, "an offset cannot be negative");
  const rondo_tensor *t = rondo_check_tensor(L, 3);
  luaL_argcheck(L, rondo_tensor_is_row_major(t), 3,
                "a row-major tensor is needed; copy this view first");
  rondo_error e;
  bool ok = rondo_output_file_queue(f, (uint64_t)offset, t->data, rondo_tensor_bytes(t), &e);
  lua_pushvalue(L, 3);
  lua_setiuservalue(L, 1, 2);
  return push_result(L, ok, &e);
}

static int file_close(lua_State *L) {
  rondo_output_file *f = check_file(L);
  rondo_error e;
  bool ok = rondo_output_file_close(f, &e);
  return push_result(L, ok, &e);
}

static int file_drop(lua_State *L) {
  rondo_output_file_drop(luaL_checkudata(L, 1, FILE_META));
  return 0;
}

static void make_class(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc,
                       lua_CFunction finish) {
  luaL_newmetatable(L, name);
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, gc);
  lua_setfield(L, -2, "__gc");
  lua_pushcfunction(L, finish);
  lua_setfield(L, -2, "__close");
  lua_pushliteral(L, "locked");
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 1);
}

void rondo_open_file(lua_State *L) {
  static const luaL_Reg output_methods[] = {
      {"file", output_file},       {"write", output_write},
      {"copy", output_copy},       {"publish", output_publish},
      {"abort", output_abort},     {"path", output_path},
      {"partial", output_partial}, {NULL, NULL}};
  static const luaL_Reg file_methods[] = {
      {"write", file_write}, {"queue", file_queue}, {"close", file_close}, {NULL, NULL}};
  make_class(L, OUTPUT_META, output_methods, output_gc, output_abort);
  make_class(L, FILE_META, file_methods, file_drop, file_drop);
  lua_pushcfunction(L, output);
  lua_setfield(L, -2, "output");
}
