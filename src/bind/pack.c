/* pack.c - codes of any number of bits in words, and back; see kernels/pack.c. */
#include "bind/pack.h"

#include "core/checked.h"
#include "core/dtype.h"

bool rondo_is_word(rondo_dtype dtype) {
  return dtype == RONDO_I8 || dtype == RONDO_I16 || dtype == RONDO_I32 || dtype == RONDO_I64;
}

rondo_words rondo_words_of(rondo_dtype dtype, int bits, int dim, int64_t rows, int64_t cols) {
  rondo_words p = {.dtype = dtype, .bits = bits, .dim = dim, .rows = rows, .cols = cols};
  p.fields = (int)rondo_dtype_bits(dtype) / bits;
  p.word_rows = dim == 1 ? rows : ceil_div_i64(rows, p.fields);
  p.word_cols = dim == 1 ? ceil_div_i64(cols, p.fields) : cols;
  return p;
}

/* An integer argument from low to high, checked before it is narrowed. */
static int small_argument(lua_State *L, int idx, int low, int high, const char *allowed) {
  lua_Integer value = luaL_checkinteger(L, idx);
  luaL_argcheck(L, value >= low && value <= high, idx, allowed);
  return (int)value;
}

/* bits, word dtype, dim at idx, idx+1, idx+2. */
static rondo_words check_packing(lua_State *L, int idx, int64_t rows, int64_t cols) {
  int bits = small_argument(L, idx, 1, 8, "bits are 1 to 8");
  rondo_dtype dtype = rondo_check_dtype(L, idx + 1);
  luaL_argcheck(L, rondo_is_word(dtype), idx + 1, "words are i8, i16, i32 or i64");
  return rondo_words_of(
      dtype, bits, small_argument(L, idx + 2, 0, 1, "the packed dimension is 0 or 1"), rows, cols);
}

/* Fields in the last word (dim 1) or in every word of the last row of words (dim 0). */
static int last_fields(const rondo_words *p, int64_t count) {
  int64_t rest = count % p->fields;
  return rest == 0 ? p->fields : (int)rest;
}

/* pack(codes, bits, dtype, dim [, words]) -> words: codes are bytes [rows, cols], contiguous. */
static int pack(lua_State *L) {
  const rondo_tensor *codes = rondo_check_tensor(L, 1);
  luaL_argcheck(L, codes->rank == 2 && rondo_dtype_size(codes->dtype) == 1, 1,
                "codes are bytes [rows, cols]");
  luaL_argcheck(L, codes->shape[1] < 2 || codes->stride[1] == 1, 1, "rows must be contiguous");
  rondo_words p = check_packing(L, 2, codes->shape[0], codes->shape[1]);
  lua_settop(L, 5);
  rondo_tensor *words;
  if (lua_isnil(L, 5)) {
    words = rondo_push_tensor(L, p.dtype, 2, (int64_t[]){p.word_rows, p.word_cols});
  } else {
    words = rondo_check_tensor(L, 5);
    luaL_argcheck(L,
                  words->dtype == p.dtype && words->rank == 2 && words->shape[0] == p.word_rows &&
                      words->shape[1] == p.word_cols &&
                      (p.word_rows < 2 || words->stride[0] == p.word_cols) &&
                      (p.word_cols < 2 || words->stride[1] == 1) && !words->read_only,
                  5, "words of the right shape are expected");
  }
  const rondo_kernels *k = rondo_state_kernels(L);
  size_t size = rondo_dtype_size(p.dtype), stride = (size_t)codes->stride[0];
  if (p.rows == 0 || p.cols == 0) return 1;
  for (int64_t r = 0; r < p.word_rows; r++) {
    unsigned char *target = (unsigned char *)words->data + (size_t)(r * p.word_cols) * size;
    if (p.dim == 1) {
      k->pack_words((const uint8_t *)codes->data + (size_t)r * stride, (size_t)p.fields, 1,
                    (size_t)p.word_cols, p.fields, last_fields(&p, p.cols), p.bits, (int)size,
                    target);
    } else {
      int fields = r + 1 == p.word_rows ? last_fields(&p, p.rows) : p.fields;
      k->pack_words((const uint8_t *)codes->data + (size_t)r * (size_t)p.fields * stride, 1, stride,
                    (size_t)p.word_cols, fields, fields, p.bits, (int)size, target);
    }
  }
  return 1;
}

/* unpack(words, bits, dim, rows, cols, signed) -> codes i8 (signed) or u8 [rows, cols]. */
static int unpack(lua_State *L) {
  const rondo_tensor *words = rondo_check_tensor(L, 1);
  luaL_argcheck(L, words->rank == 2, 1, "words are [rows, cols]");
  int64_t rows = luaL_checkinteger(L, 4), cols = luaL_checkinteger(L, 5);
  luaL_argcheck(L, rows >= 0 && cols >= 0, 4, "the shape is not negative");
  bool sign = lua_toboolean(L, 6);
  lua_settop(L, 3);
  lua_pushstring(L, rondo_dtype_name(words->dtype));
  lua_insert(L, 3); /* words, bits, dtype, dim */
  rondo_words p = check_packing(L, 2, rows, cols);
  luaL_argcheck(L, words->shape[0] == p.word_rows && words->shape[1] == p.word_cols, 1,
                "the words do not fit the shape");
  luaL_argcheck(L, words->shape[1] < 2 || words->stride[1] == 1, 1, "rows must be contiguous");
  rondo_tensor *codes =
      rondo_push_tensor(L, sign ? RONDO_I8 : RONDO_U8, 2, (int64_t[]){rows, cols});
  const rondo_kernels *k = rondo_state_kernels(L);
  size_t size = rondo_dtype_size(p.dtype);
  if (rows == 0 || cols == 0) return 1;
  for (int64_t r = 0; r < p.word_rows; r++) {
    const unsigned char *source =
        (const unsigned char *)words->data + (size_t)(r * words->stride[0]) * size;
    if (p.dim == 1) {
      k->unpack_words(source, (size_t)p.fields, 1, (size_t)p.word_cols, p.fields,
                      last_fields(&p, cols), p.bits, (int)size, sign,
                      (uint8_t *)codes->data + (size_t)(r * cols));
    } else {
      int fields = r + 1 == p.word_rows ? last_fields(&p, rows) : p.fields;
      k->unpack_words(source, 1, (size_t)cols, (size_t)p.word_cols, fields, fields, p.bits,
                      (int)size, sign, (uint8_t *)codes->data + (size_t)(r * p.fields * cols));
    }
  }
  return 1;
}

void rondo_open_pack(lua_State *L) {
  static const luaL_Reg functions[] = {{"pack", pack}, {"unpack", unpack}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
