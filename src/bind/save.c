/* save.c - writing safetensors headers, replacing single files, reading small ones whole. */
#include "bind/bind.h"

#include "core/dtype.h"
#include "core/error.h"
#include "core/tensor.h"
#include "core/gather.h"
#include "format/mapping.h"
#include "format/safetensors.h"
#include "format/save.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define SAVE_META "rondo.save"
#define TEXT_META "rondo.text"

/* ---- headers ----------------------------------------------------------------------------- */

/* Pushes field `key` of the table at entry, or its i-th element when there is no such field; both
 * raw, so that no other code runs. */
static int push_field(lua_State *L, int entry, const char *key, int i) {
  lua_pushstring(L, key);
  if (lua_rawget(L, entry) != LUA_TNIL) return lua_type(L, -1);
  lua_pop(L, 1);
  return lua_rawgeti(L, entry, i);
}

/* Pushes a userdata with the dimensions of the shape at index list. */
static const int64_t *push_shape(lua_State *L, int list, int rank) {
  int64_t *shape = lua_newuserdatauv(L, (size_t)rank * sizeof *shape, 0);
  for (int d = 0; d < rank; d++) {
    int integer;
    lua_rawgeti(L, list, d + 1);
    shape[d] = lua_tointegerx(L, -1, &integer);
    if (!integer || shape[d] < 0) luaL_argerror(L, 1, "a dimension must be an integer from 0");
    lua_pop(L, 1);
  }
  return shape;
}

/* Reads one { name, dtype, shape }. The table at keep keeps alive what item points to. */
static void read_item(lua_State *L, int entry, int keep, uint32_t number, rondo_st_item *item) {
  if (push_field(L, entry, "name", 1) != LUA_TSTRING)
    luaL_argerror(L, 1, "each tensor needs a name, a string");
  item->name.text = lua_tolstring(L, -1, &item->name.length);
  lua_rawseti(L, keep, 2 * (lua_Integer)number + 1);
  push_field(L, entry, "dtype", 2);
  item->dtype = rondo_check_dtype(L, lua_gettop(L));
  int type = push_field(L, entry, "shape", 3);
  lua_Unsigned rank = type == LUA_TTABLE ? lua_rawlen(L, -1) : RONDO_MAX_RANK + 1;
  if (rank > RONDO_MAX_RANK)
    luaL_argerror(L, 1, "each tensor needs a shape, a list of at most 64 integers");
  item->rank = (int)rank;
  item->shape = push_shape(L, lua_gettop(L), item->rank);
  lua_rawseti(L, keep, 2 * (lua_Integer)number + 2);
  item->tag = number;
}

/* Reads the list at index 1. Leaves the items' userdata and the table that keeps their parts. */
static rondo_st_item *read_items(lua_State *L, uint32_t *count) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_Unsigned n = lua_rawlen(L, 1);
  luaL_argcheck(L, n <= RONDO_SAFETENSORS_HEADER_MAX, 1, "too many tensors");
  rondo_st_item *items = lua_newuserdatauv(L, (size_t)n * sizeof *items, 0);
  lua_createtable(L, (int)n * 2, 0);
  int keep = lua_gettop(L);
  for (uint32_t i = 0; i < (uint32_t)n; i++) {
    if (lua_rawgeti(L, 1, (lua_Integer)i + 1) != LUA_TTABLE)
      luaL_argerror(L, 1, "a list of tables { name, dtype, shape } expected");
    read_item(L, keep + 1, keep, i, &items[i]);
    lua_settop(L, keep);
  }
  *count = (uint32_t)n;
  return items;
}

/* Pushes a list of keys and values, by turns, of the table at index 2; returns its length. */
static lua_Integer push_strings(lua_State *L) {
  lua_Integer n = 0;
  lua_newtable(L);
  int list = lua_gettop(L);
  for (lua_pushnil(L); lua_next(L, 2); lua_settop(L, list + 1)) {
    bool strings = lua_type(L, -2) == LUA_TSTRING && lua_type(L, -1) == LUA_TSTRING;
    luaL_argcheck(L, strings, 2, "metadata must map strings to strings");
    lua_pushvalue(L, -2);
    lua_rawseti(L, list, ++n);
    lua_rawseti(L, list, ++n);
  }
  return n;
}

/* Reads the table at index 2 (string to string); NULL when it is absent. Leaves a list that keeps
 * the strings and a userdata. */
static rondo_st_meta *read_metadata(lua_State *L, uint32_t *count) {
  *count = 0;
  if (lua_isnoneornil(L, 2)) return NULL;
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_Integer n = push_strings(L);
  luaL_argcheck(L, n <= RONDO_SAFETENSORS_HEADER_MAX, 2, "too many entries");
  rondo_st_meta *pairs = lua_newuserdatauv(L, ((size_t)n / 2 + 1) * sizeof *pairs, 0);
  for (lua_Integer i = 0; i < n; i++) {
    rondo_text *text = i % 2 == 0 ? &pairs[i / 2].key : &pairs[i / 2].value;
    lua_rawgeti(L, -2, i + 1);
    text->text = lua_tolstring(L, -1, &text->length);
    lua_pop(L, 1);
  }
  *count = (uint32_t)(n / 2);
  return pairs;
}

static void push_header(lua_State *L, const rondo_st_item *items, uint32_t count,
                        const rondo_st_meta *pairs, uint32_t pair_count, size_t size) {
  luaL_Buffer buffer;
  rondo_safetensors_header(items, count, pairs, pair_count, luaL_buffinitsize(L, &buffer, size));
  luaL_pushresultsize(&buffer, size);
}

/* Pushes the offsets by place in the caller's list, and the caller's places in file order. */
static void push_layout(lua_State *L, const rondo_st_item *items, uint32_t count) {
  lua_createtable(L, (int)count, 0);
  lua_createtable(L, (int)count, 0);
  for (uint32_t i = 0; i < count; i++) {
    lua_pushinteger(L, (lua_Integer)items[i].offset);
    lua_rawseti(L, -3, (lua_Integer)items[i].tag + 1);
    lua_pushinteger(L, (lua_Integer)items[i].tag + 1);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
}

/* safetensors_header(list of { name, dtype, shape } [, metadata]) -> header with its 8 length
 * bytes, offsets (of each tensor of the list, from the start of the data), order (places in the
 * list in the order of the file), bytes of all data | nil, message, code. Raises for names that a
 * file cannot hold. */
static int safetensors_header(lua_State *L) {
  lua_settop(L, 2);
  uint32_t count, pair_count;
  rondo_st_item *items = read_items(L, &count);
  rondo_st_meta *pairs = read_metadata(L, &pair_count);
  rondo_error e;
  if (!rondo_safetensors_layout(items, count, &e)) return rondo_raise(L, &e);
  if (!rondo_safetensors_sort_metadata(pairs, pair_count, &e)) return rondo_raise(L, &e);
  size_t size = rondo_safetensors_header(items, count, pairs, pair_count, NULL);
  if (size - 8 > RONDO_SAFETENSORS_HEADER_MAX) {
    rondo_fail(&e, RONDO_UNSUPPORTED, "a header of %llu bytes is more than the 100000000 allowed",
               (unsigned long long)(size - 8));
    return rondo_push_error(L, &e);
  }
  push_header(L, items, count, pairs, pair_count, size);
  push_layout(L, items, count);
  lua_pushinteger(L,
                  count > 0 ? (lua_Integer)(items[count - 1].offset + items[count - 1].size) : 0);
  return 4;
}

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
  static const luaL_Reg functions[] = {{"safetensors_header", safetensors_header},
                                       {"save", save_begin},
                                       {"read_file", read_file},
                                       {NULL, NULL}};
  new_type(L, TEXT_META, text_meta);
  lua_pop(L, 1);
  new_type(L, SAVE_META, meta);
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  luaL_setfuncs(L, functions, 0);
}
