/* layout.c - layouts of codes in words, as objects; see core/layout.h. */
#include "bind/bind.h"
#include "core/dtype.h"
#include "core/layout.h"

#include <string.h>

#define LAYOUT_META "rondo.layout"

typedef struct {
  rondo_layout layout;
  rondo_dtype word;
} layout_box;

static layout_box *check_layout(lua_State *L, int idx) {
  return luaL_checkudata(L, idx, LAYOUT_META);
}

/* ---- Making ---- */

static int integer_field(lua_State *L, const char *name, int low, int high, int fallback) {
  int isnum = 1;
  lua_Integer value = fallback;
  if (lua_getfield(L, 1, name) != LUA_TNIL) value = lua_tointegerx(L, -1, &isnum);
  lua_pop(L, 1);
  if (!isnum || value < low || value > high) {
    luaL_error(L, "layout: '%s' is an integer from %d to %d", name, low, high);
  }
  return (int)value;
}

static bool boolean_field(lua_State *L, const char *name) {
  lua_getfield(L, 1, name);
  bool value = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return value;
}

static rondo_dtype word_field(lua_State *L) {
  rondo_dtype word = RONDO_U8;
  if (lua_getfield(L, 1, "word") != LUA_TNIL) word = rondo_check_dtype(L, -1);
  lua_pop(L, 1);
  return word;
}

/* A list of `count` distinct numbers below it, or nothing. inverse: its inverse. */
static bool permutation_field(lua_State *L, const char *name, int count, uint8_t *list,
                              uint8_t *inverse) {
  bool given = lua_getfield(L, 1, name) == LUA_TTABLE;
  uint64_t seen = 0;
  for (int i = 0; given && i < count; i++) {
    lua_rawgeti(L, -1, i + 1);
    lua_Integer value = lua_tointeger(L, -1);
    if (!lua_isinteger(L, -1) || value < 0 || value >= count || (seen >> value & 1) != 0) {
      luaL_error(L, "layout: '%s' holds each of 0 .. %d once", name, count - 1);
    }
    seen |= (uint64_t)1 << value;
    list[i] = (uint8_t)value;
    if (inverse != NULL) inverse[value] = (uint8_t)i;
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return given;
}

/* layout { bits, word = "u8", dim = 1, dense = false, transposed = false, signed = false, add = 0,
 * map = nil, order = nil } -> layout; see core/layout.h. word: the dtype of words, 1, 2, 4 or 8
 * bytes. map: the field of each of 16 codes; order: the code of each field of a word. */
static int layout(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  layout_box box = {.word = word_field(L)};
  rondo_layout *made = &box.layout;
  made->bits = integer_field(L, "bits", 1, 8, 0);
  made->dim = integer_field(L, "dim", 0, 1, 1);
  made->add = (uint8_t)integer_field(L, "add", 0, 255, 0);
  made->dense = boolean_field(L, "dense");
  made->transposed = boolean_field(L, "transposed");
  made->is_signed = boolean_field(L, "signed");
  unsigned bits = rondo_dtype_bits(box.word);
  luaL_argcheck(L, bits % 8 == 0, 1, "words are of whole bytes");
  made->word_bytes = (int)bits / 8;
  luaL_argcheck(L, made->bits <= (int)bits, 1, "fields are no longer than words");
  made->mapped = permutation_field(L, "map", 16, made->map, made->unmap);
  luaL_argcheck(L, !made->mapped || made->bits == 4, 1, "a map is for 4 bits");
  made->ordered = permutation_field(L, "order", (int)bits / made->bits, made->order, NULL);
  luaL_argcheck(L, !made->ordered || !made->dense, 1, "a stream of bits has its own order");
  *(layout_box *)lua_newuserdatauv(L, sizeof box, 0) = box;
  luaL_setmetatable(L, LAYOUT_META);
  return 1;
}

/* ---- Using ---- */

static void words_shape(const rondo_layout *l, int64_t rows, int64_t cols, int64_t *shape) {
  int64_t words = rondo_layout_words(l, l->dim == 1 ? cols : rows);
  int64_t lines = l->dim == 1 ? rows : cols;
  bool as_rows = (l->dim == 1) != l->transposed;
  shape[0] = as_rows ? lines : words;
  shape[1] = as_rows ? words : lines;
}

/* layout:unit() -> codes of a line that only go together. */
static int unit(lua_State *L) {
  lua_pushinteger(L, rondo_layout_unit(&check_layout(L, 1)->layout));
  return 1;
}

static int64_t check_count(lua_State *L, int idx) {
  lua_Integer count = luaL_checkinteger(L, idx);
  luaL_argcheck(L, count >= 0 && count <= INT64_MAX / 64, idx, "no number of rows or columns");
  return count;
}

/* layout:words(codes) -> words of a line of so many codes. */
static int words(lua_State *L) {
  lua_pushinteger(L, rondo_layout_words(&check_layout(L, 1)->layout, check_count(L, 2)));
  return 1;
}

/* layout:shape(rows, cols) -> rows and columns of the words of so many codes. */
static int shape(lua_State *L) {
  int64_t words[2];
  words_shape(&check_layout(L, 1)->layout, check_count(L, 2), check_count(L, 3), words);
  lua_pushinteger(L, words[0]);
  lua_pushinteger(L, words[1]);
  return 2;
}

static bool row_major(const rondo_tensor *t) {
  return (t->shape[1] < 2 || t->stride[1] == 1) && (t->shape[0] < 2 || t->stride[0] == t->shape[1]);
}

/* layout:pack(codes) -> words; codes: bytes [rows, cols]. */
static int pack(lua_State *L) {
  const layout_box *box = check_layout(L, 1);
  const rondo_tensor *codes = rondo_check_tensor(L, 2);
  luaL_argcheck(L, codes->rank == 2 && rondo_dtype_size(codes->dtype) == 1 && row_major(codes), 2,
                "codes are bytes [rows, cols], contiguous");
  int64_t words_of[2];
  words_shape(&box->layout, codes->shape[0], codes->shape[1], words_of);
  rondo_tensor *words = rondo_push_tensor(L, box->word, 2, words_of);
  rondo_pool *pool = rondo_state_pool(L);
  rondo_layout_pack(&box->layout, pool, codes->data, codes->shape[0], codes->shape[1], words->data);
  rondo_check_stop(L);
  return 1;
}

/* Whether words of codes in their own order can be made words of the layout. */
static bool recodes(const rondo_layout *layout) {
  if (layout->bits != 4) return false;
  return layout->word_bytes == 1 || (layout->word_bytes == 4 && layout->ordered && !layout->mapped);
}

/* layout:recode(words) -> words, of words that hold codes as they are; see core/layout.h. */
static int recode(lua_State *L) {
  const layout_box *box = check_layout(L, 1);
  const rondo_tensor *from = rondo_check_tensor(L, 2);
  luaL_argcheck(L, recodes(&box->layout), 1, "this order or map needs the codes themselves");
  luaL_argcheck(L,
                from->rank == 2 && row_major(from) &&
                    rondo_dtype_size(from->dtype) == (size_t)box->layout.word_bytes,
                2, "words of that size, contiguous");
  rondo_tensor *to = rondo_push_tensor(L, from->dtype, 2, from->shape);
  rondo_pool *pool = rondo_state_pool(L);
  rondo_layout_recode(&box->layout, rondo_state_kernels(L), pool, from->data,
                      (size_t)(from->shape[0] * from->shape[1]), to->data);
  rondo_check_stop(L);
  return 1;
}

/* layout:unpack(words, rows, cols) -> codes [rows, cols]: i8 where they are signed, else u8. */
static int unpack(lua_State *L) {
  const layout_box *box = check_layout(L, 1);
  const rondo_tensor *words = rondo_check_tensor(L, 2);
  int64_t rows = check_count(L, 3), cols = check_count(L, 4), wanted[2];
  words_shape(&box->layout, rows, cols, wanted);
  luaL_argcheck(L,
                words->rank == 2 && words->shape[0] == wanted[0] && words->shape[1] == wanted[1] &&
                    rondo_dtype_size(words->dtype) == (size_t)box->layout.word_bytes,
                2, "the words do not fit the shape");
  luaL_argcheck(L, row_major(words), 2, "words must be contiguous");
  rondo_tensor *codes =
      rondo_push_tensor(L, box->layout.is_signed ? RONDO_I8 : RONDO_U8, 2, (int64_t[]){rows, cols});
  rondo_pool *pool = rondo_state_pool(L);
  rondo_layout_unpack(&box->layout, pool, words->data, rows, cols, codes->data);
  rondo_check_stop(L);
  return 1;
}

void rondo_open_layout(lua_State *L) {
  static const luaL_Reg methods[] = {{"unit", unit}, {"words", words},   {"shape", shape},
                                     {"pack", pack}, {"recode", recode}, {"unpack", unpack},
                                     {NULL, NULL}};
  luaL_newmetatable(L, LAYOUT_META);
  lua_pushliteral(L, "locked");
  lua_setfield(L, -2, "__metatable");
  luaL_newlib(L, methods);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  lua_pushcfunction(L, layout);
  lua_setfield(L, -2, "layout");
}
