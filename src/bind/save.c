/* save.c - replacing single files, reading small ones whole. */
#include "bind/bind.h"

#include "core/dtype.h"
#include "core/error.h"
#include "core/tensor.h"
#include "core/gather.h"
#include "format/mapping.h"
#include "format/save.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define SAVE_META "rondo.save"
#define TEXT_META "rondo.text"

/* ---- saving ------------------------------------------------------------------------------ */

static int save_release(lua_State *L) {
  rondo_save_abort(luaL_checkudata(L, 1, SAVE_META));
  return 0;
}

static rondo_save *check_save(lua_State *L) {
  rondo_save *save = luaL_checkudata(L, 1, SAVE_META);
  if (save->path == NULL) luaL_error(L, "the file is closed");
  return save;
}

/* save(path [, size]) -> file to write | nil, message, code */
static int save_begin(lua_State *L) {
  const char *path = rondo_check_path(L, 1, RONDO_WRITE);
  lua_Integer size = luaL_optinteger(L, 2, 0);
  luaL_argcheck(L, size >= 0, 2, "a size cannot be negative");
  rondo_save *save = lua_newuserdatauv(L, sizeof *save, 0);
  *save = RONDO_SAVE_CLOSED;
  luaL_setmetatable(L, SAVE_META);
  rondo_error e;
  return rondo_save_begin(save, path, (uint64_t)size, &e) ? 1 : rondo_push_error(L, &e);
}

/* Writes any view in row-major order, through a small buffer where it is not so in memory. */
static bool write_tensor(rondo_save *save, const rondo_tensor *given, rondo_error *e) {
  if (rondo_tensor_is_row_major(given))
    return rondo_save_write(save, given->data, (size_t)rondo_tensor_bytes(given), e);
  char block[8192];
  rondo_tensor t = *given;
  rondo_tensor_coalesce(&t);
  size_t size = rondo_dtype_size(t.dtype); /* not 0: narrower types are always row-major */
  int64_t total = rondo_tensor_count(&t), most = (int64_t)(sizeof block / size);
  for (int64_t first = 0; first < total; first += most) {
    size_t count = (size_t)(total - first < most ? total - first : most);
    rondo_gather(&t, first, count, block);
    if (!rondo_save_write(save, block, count * size, e)) return false;
  }
  return true;
}

/* file:write(tensor or string) -> true | nil, message, code. A failure gives the file up. */
static int save_write(lua_State *L) {
  rondo_save *save = check_save(L);
  rondo_error e;
  size_t size;
  bool text = lua_type(L, 2) == LUA_TSTRING, fine;
  if (text) {
    const char *bytes = lua_tolstring(L, 2, &size);
    fine = rondo_save_write(save, bytes, size, &e);
  } else {
    fine = write_tensor(save, rondo_check_tensor(L, 2), &e);
  }
  if (!fine) {
    rondo_save_abort(save);
    return rondo_push_error(L, &e);
  }
  lua_pushboolean(L, true);
  return 1;
}

/* file:commit() -> true | nil, message, code */
static int save_commit(lua_State *L) {
  rondo_save *save = check_save(L);
  rondo_error e;
  if (!rondo_save_commit(save, &e)) return rondo_push_error(L, &e);
  lua_pushboolean(L, true);
  return 1;
}

/* ---- small files ------------------------------------------------------------------------- */

typedef struct {
  char *text;
} text_box;

static int text_release(lua_State *L) {
  text_box *box = luaL_checkudata(L, 1, TEXT_META);
  char *text = box->text;
  box->text = NULL;
  free(text);
  return 0;
}

/* read_file(path [, limit]) -> the bytes of a regular file | nil, message, code. limit: bytes,
 * 16 MiB if absent. */
static int read_file(lua_State *L) {
  const char *path = rondo_check_path(L, 1, RONDO_READ);
  lua_Integer limit = luaL_optinteger(L, 2, 16 << 20);
  luaL_argcheck(L, limit >= 0, 2, "a limit cannot be negative");
  text_box *box = lua_newuserdatauv(L, sizeof *box, 0);
  box->text = NULL;
  luaL_setmetatable(L, TEXT_META);
  rondo_path_excerpt shown = rondo_excerpt_path(path, "");
  rondo_file_id id;
  rondo_error e;
  size_t size;
  if (!rondo_file_slurp(AT_FDCWD, path, shown.text, (size_t)limit, &box->text, &size, &id, &e))
    return rondo_push_error(L, &e);
  lua_pushlstring(L, box->text, size);
  free(box->text);
  box->text = NULL;
  return 1;
}

static void new_type(lua_State *L, const char *name, const luaL_Reg *meta) {
  luaL_newmetatable(L, name);
  luaL_setfuncs(L, meta, 0);
  lua_pushliteral(L, "locked");
  lua_setfield(L, -2, "__metatable");
}

void rondo_open_save(lua_State *L) {
  static const luaL_Reg text_meta[] = {{"__gc", text_release}, {NULL, NULL}};
  static const luaL_Reg meta[] = {{"__gc", save_release}, {"__close", save_release}, {NULL, NULL}};
  static const luaL_Reg methods[] = {
      {"write", save_write}, {"commit", save_commit}, {"abort", save_release}, {NULL, NULL}};
  static const luaL_Reg functions[] = {
      {"save", save_begin}, {"read_file", read_file}, {NULL, NULL}};
  new_type(L, TEXT_META, text_meta);
  lua_pop(L, 1);
  new_type(L, SAVE_META, meta);
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  luaL_setfuncs(L, functions, 0);
}
