/* header.c - safetensors headers: sizes and offsets of tensors that are to be written, and the
 * header's bytes.
 *
 * The tensors come from a Lua function, one a call, and take some 60 bytes and their name each
 * while this works: plans have hundreds of thousands. That is too much to wait for the collector,
 * so it comes from Lua's allocator (a host's limit holds) and is freed at the end; where the
 * function raises, the collector does it. */
#include "bind/bind.h"

#include "core/dtype.h"
#include "core/error.h"
#include "core/tensor.h"
#include "format/safetensors.h"

#include <string.h>

#define READER_META "rondo.header_reader"

/* Places on the Lua stack: the arguments; the reader; the dtype and the shape read last. */
enum { NEXT = 1, METADATA, READER, DTYPE, SHAPE, CALL };

enum { BLOCK_BYTES = 1 << 16, FIRST_ROOM = 64 };

/* Memory for names and shapes. */
typedef struct block {
  struct block *next;
  size_t size, used; /* bytes of the whole block */
} block;

typedef struct {
  rondo_st_item *items;
  uint32_t count, room;
  block *blocks; /* the one in use first */
} reader;

/* Changes the size of memory of Lua's allocator; NULL and 0 bytes for none. Raises when there is no
 * more of it. */
static void *resize(lua_State *L, void *memory, size_t old, size_t size) {
  void *context;
  lua_Alloc allocate = lua_getallocf(L, &context);
  void *moved = allocate(context, memory, old, size);
  if (moved == NULL && size > 0) luaL_error(L, "not enough memory");
  return moved;
}

static void release(lua_State *L, reader *r) {
  while (r->blocks != NULL) {
    block *first = r->blocks;
    r->blocks = first->next;
    resize(L, first, first->size, 0);
  }
  r->items = resize(L, r->items, r->room * sizeof *r->items, 0);
  r->count = r->room = 0;
}

static int reader_gc(lua_State *L) {
  release(L, luaL_checkudata(L, 1, READER_META));
  return 0;
}

/* Memory that stays where it is, aligned for numbers. */
static void *take(lua_State *L, reader *r, size_t bytes) {
  bytes = (bytes + 7) & ~(size_t)7;
  if (r->blocks == NULL || r->blocks->size - r->blocks->used < bytes) {
    size_t size = sizeof(block) + (bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES);
    block *fresh = resize(L, NULL, 0, size);
    *fresh = (block){r->blocks, size, sizeof *fresh};
    r->blocks = fresh;
  }
  char *taken = (char *)r->blocks + r->blocks->used;
  r->blocks->used += bytes;
  return taken;
}

static rondo_st_item *new_item(lua_State *L, reader *r) {
  luaL_argcheck(L, r->count < RONDO_SAFETENSORS_HEADER_MAX, NEXT, "too many tensors");
  if (r->count == r->room) {
    uint32_t room = r->room > 0 ? 2 * r->room : FIRST_ROOM;
    r->items = resize(L, r->items, r->room * sizeof *r->items, room * sizeof *r->items);
    r->room = room;
  }
  return &r->items[r->count++];
}

/* Tensors often share dtype and shape with the one before: that is not looked at again. */
static rondo_dtype read_dtype(lua_State *L, const reader *r) {
  if (r->count > 0 && lua_rawequal(L, DTYPE, CALL + 1)) return r->items[r->count - 1].dtype;
  rondo_dtype dtype = rondo_check_dtype(L, CALL + 1);
  lua_pushvalue(L, CALL + 1);
  lua_replace(L, DTYPE);
  return dtype;
}

static void read_shape(lua_State *L, reader *r, rondo_st_item *item) {
  lua_Unsigned rank = lua_type(L, CALL + 2) == LUA_TTABLE ? lua_rawlen(L, CALL + 2) : UINT32_MAX;
  if (rank > RONDO_MAX_RANK)
    luaL_argerror(L, NEXT, "each tensor needs a shape, a list of at most 64 integers");
  int64_t *shape = take(L, r, (size_t)rank * sizeof *shape);
  for (lua_Unsigned d = 0; d < rank; d++) {
    int integer;
    lua_rawgeti(L, CALL + 2, (lua_Integer)d + 1);
    shape[d] = lua_tointegerx(L, -1, &integer);
    if (!integer || shape[d] < 0) luaL_argerror(L, NEXT, "a dimension must be an integer from 0");
    lua_pop(L, 1);
  }
  item->rank = (int)rank;
  item->shape = shape;
  lua_pushvalue(L, CALL + 2);
  lua_replace(L, SHAPE);
}

/* Reads the name, dtype and shape on top of the stack. */
static void read_item(lua_State *L, reader *r) {
  rondo_st_item item = {.tag = r->count};
  if (lua_type(L, CALL) != LUA_TSTRING)
    luaL_argerror(L, NEXT, "each tensor needs a name, a string");
  const char *name = lua_tolstring(L, CALL, &item.name.length);
  item.dtype = read_dtype(L, r);
  if (r->count > 0 && lua_rawequal(L, SHAPE, CALL + 2)) {
    item.rank = r->items[r->count - 1].rank;
    item.shape = r->items[r->count - 1].shape;
  } else {
    read_shape(L, r, &item);
  }
  char *text = take(L, r, item.name.length);
  memcpy(text, name, item.name.length);
  item.name.text = text;
  *new_item(L, r) = item;
}

/* Calls the function until it gives nil. */
static reader *read_items(lua_State *L) {
  luaL_checktype(L, NEXT, LUA_TFUNCTION);
  lua_settop(L, READER - 1);
  reader *r = memset(lua_newuserdatauv(L, sizeof *r, 0), 0, sizeof *r);
  luaL_setmetatable(L, READER_META);
  lua_settop(L, CALL - 1);
  for (;; lua_settop(L, CALL - 1)) {
    lua_pushvalue(L, NEXT);
    lua_call(L, 0, 3);
    if (lua_isnil(L, CALL)) break;
    read_item(L, r);
  }
  return r;
}

/* Pushes a list of keys and values, by turns, of the table of metadata; returns its length. */
static lua_Integer push_strings(lua_State *L) {
  lua_Integer n = 0;
  lua_newtable(L);
  int list = lua_gettop(L);
  for (lua_pushnil(L); lua_next(L, METADATA); lua_settop(L, list + 1)) {
    bool strings = lua_type(L, -2) == LUA_TSTRING && lua_type(L, -1) == LUA_TSTRING;
    luaL_argcheck(L, strings, METADATA, "metadata must map strings to strings");
    lua_pushvalue(L, -2);
    lua_rawseti(L, list, ++n);
    lua_rawseti(L, list, ++n);
  }
  return n;
}

/* Reads the table of metadata (string to string); NULL when it is absent. Leaves a list that keeps
 * the strings and a userdata. */
static rondo_st_meta *read_metadata(lua_State *L, uint32_t *count) {
  *count = 0;
  if (lua_isnoneornil(L, METADATA)) return NULL;
  luaL_checktype(L, METADATA, LUA_TTABLE);
  lua_Integer n = push_strings(L);
  luaL_argcheck(L, n <= RONDO_SAFETENSORS_HEADER_MAX, METADATA, "too many entries");
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

/* What both functions begin with: everything read, in its order, measured. */
typedef struct {
  reader *tensors;
  rondo_st_meta *pairs;
  uint32_t pair_count;
  size_t size; /* of the header */
} layout;

/* False: nil, message and code are pushed. */
static bool read_layout(lua_State *L, layout *l) {
  rondo_error e;
  l->tensors = read_items(L);
  l->pairs = read_metadata(L, &l->pair_count);
  rondo_st_item *items = l->tensors->items;
  uint32_t count = l->tensors->count;
  if (!rondo_safetensors_layout(items, count, &e)) rondo_raise(L, &e);
  if (!rondo_safetensors_sort_metadata(l->pairs, l->pair_count, &e)) rondo_raise(L, &e);
  l->size = rondo_safetensors_header(items, count, l->pairs, l->pair_count, NULL);
  if (l->size - 8 <= RONDO_SAFETENSORS_HEADER_MAX) return true;
  rondo_fail(&e, RONDO_UNSUPPORTED, "a header of %llu bytes is more than the 100000000 allowed",
             (unsigned long long)(l->size - 8));
  return rondo_push_error(L, &e), false;
}

/* safetensors_layout(next [, metadata]) -> bytes of the header with its 8 length bytes, offsets (of
 * each tensor, from the start of the data), order (numbers of the tensors in the order of the
 * file), bytes of all data | nil, message, code. next() gives name, dtype and shape of one tensor
 * after the other, then nil; offsets and order are i64 tensors. Raises for names that a file cannot
 * hold. */
static int safetensors_layout(lua_State *L) {
  layout l;
  lua_settop(L, METADATA);
  if (!read_layout(L, &l)) return 3;
  const rondo_st_item *items = l.tensors->items;
  int64_t count = l.tensors->count;
  lua_pushinteger(L, (lua_Integer)l.size);
  int64_t *offsets = rondo_push_tensor(L, RONDO_I64, 1, &count)->data;
  int64_t *order = rondo_push_tensor(L, RONDO_I64, 1, &count)->data;
  for (int64_t i = 0; i < count; i++) {
    offsets[items[i].tag] = (int64_t)items[i].offset;
    order[i] = (int64_t)items[i].tag + 1;
  }
  const rondo_st_item *last = count > 0 ? &items[count - 1] : NULL;
  lua_pushinteger(L, last != NULL ? (lua_Integer)(last->offset + last->size) : 0);
  release(L, l.tensors);
  return 4;
}

/* safetensors_header(next [, metadata]) -> the header with its 8 length bytes, a u8 tensor | nil,
 * message, code. As above. */
static int safetensors_header(lua_State *L) {
  layout l;
  lua_settop(L, METADATA);
  if (!read_layout(L, &l)) return 3;
  int64_t size = (int64_t)l.size;
  char *out = rondo_push_tensor(L, RONDO_U8, 1, &size)->data;
  rondo_safetensors_header(l.tensors->items, l.tensors->count, l.pairs, l.pair_count, out);
  release(L, l.tensors);
  return 1;
}

void rondo_open_header(lua_State *L) {
  static const luaL_Reg functions[] = {{"safetensors_layout", safetensors_layout},
                                       {"safetensors_header", safetensors_header},
                                       {NULL, NULL}};
  luaL_newmetatable(L, READER_META);
  lua_pushcfunction(L, reader_gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  luaL_setfuncs(L, functions, 0);
}
