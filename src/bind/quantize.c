/* quantize.c - number grids and tiles for Lua. Options arrive checked and complete from the Lua
 * half (rondo.rtn, rondo.plan); here they are only kept from doing harm: every size and dtype is
 * verified before a kernel sees it. */
#include "bind/bind.h"

#include "core/checked.h"
#include "core/dtype.h"
#include "core/grid.h"
#include "core/quantize.h"

#include <string.h>

#define GRID_META "rondo.grid"

/* grid(data_type, bits, symmetric, full_range) -> grid. Raises when there is no such grid. */
static int grid_new(lua_State *L) {
  const char *data_type = luaL_checkstring(L, 1);
  lua_Integer bits = luaL_checkinteger(L, 2);
  luaL_argcheck(L, bits >= 1 && bits <= 16, 2, "the number of bits is 1 to 16");
  rondo_grid *grid = lua_newuserdatauv(L, sizeof *grid, 0);
  rondo_error e;
  if (!rondo_grid_make(grid, data_type, (int)bits, lua_toboolean(L, 3), lua_toboolean(L, 4), &e)) {
    return luaL_error(L, "%s", e.message);
  }
  luaL_setmetatable(L, GRID_META);
  return 1;
}

/* ---- Reading arguments ---- */

static int64_t integer_field(lua_State *L, int options, const char *name, int64_t otherwise) {
  int64_t value = otherwise;
  if (lua_getfield(L, options, name) != LUA_TNIL) value = luaL_checkinteger(L, -1);
  lua_pop(L, 1);
  return value;
}

/* The 2-D tensor at idx as a tile whose weights are f32, f16 or bf16. */
static rondo_tile check_tile(lua_State *L, int idx) {
  const rondo_tensor *t = rondo_check_tensor(L, idx);
  luaL_argcheck(L, t->rank == 2, idx, "a tensor of rank 2 is expected");
  luaL_argcheck(L, t->shape[1] < 2 || t->stride[1] == 1, idx, "rows must be contiguous");
  bool known = t->dtype == RONDO_F32 || t->dtype == RONDO_F16 || t->dtype == RONDO_BF16;
  luaL_argcheck(L, known, idx, "f32, f16 or bf16 is expected; convert with :to(\"f32\")");
  return (rondo_tile){.data = t->data,
                      .dtype = t->dtype,
                      .rows = t->shape[0],
                      .cols = t->shape[1],
                      .row_stride = t->stride[0]};
}

/* The row-major tensor in options[name], of that dtype and with at least `count` elements. NULL
 * when the field is nil. */
static void *buffer_field(lua_State *L, int options, const char *name, rondo_dtype dtype,
                          int64_t count) {
  void *data = NULL;
  if (lua_getfield(L, options, name) != LUA_TNIL) {
    const rondo_tensor *t = rondo_test_tensor(L, -1);
    if (t == NULL || t->dtype != dtype) {
      luaL_error(L, "field '%s' must be a tensor of %s", name, rondo_dtype_name(dtype));
    }
    int64_t elements = 1, expected = 1;
    bool row_major = true;
    for (int i = t->rank - 1; i >= 0; i--) {
      row_major &= t->shape[i] < 2 || t->stride[i] == expected;
      expected *= t->shape[i];
      elements *= t->shape[i];
    }
    if (!row_major || elements < count || t->read_only) {
      luaL_error(L, "field '%s' must be a writable row-major tensor of %I elements", name,
                 (LUAI_UACINT)count);
    }
    data = t->data;
  }
  lua_pop(L, 1);
  return data;
}

/* Weight per column: f32 [cols]; options.weight. */
static const float *weight_field(lua_State *L, int options, int64_t cols) {
  return buffer_field(L, options, "weight", RONDO_F32, cols);
}

/* options.scale_dtype, the type that scales will be stored in. */
static rondo_dtype scale_dtype_field(lua_State *L) {
  rondo_dtype dtype = RONDO_F32;
  if (lua_getfield(L, 3, "scale_dtype") != LUA_TNIL) dtype = rondo_check_dtype(L, -1);
  lua_pop(L, 1);
  bool known = dtype == RONDO_F32 || dtype == RONDO_F16 || dtype == RONDO_BF16;
  luaL_argcheck(L, known, 3, "scale_dtype is f32, f16 or bf16");
  return dtype;
}

static int64_t groups_along(const rondo_quantizer *q, const rondo_tile *tile) {
  return ceil_div_i64(q->group_dim == 0 ? tile->rows : tile->cols, q->group_size);
}

/* Grid at 1, tile at 2, options at 3: group_size (absent: the whole line), group_dim, ratio, keep,
 * and for groups that run across tiles ranges, range_groups, offset. */
static rondo_quantizer check_quantizer(lua_State *L, rondo_tile *tile) {
  const rondo_grid *grid = luaL_checkudata(L, 1, GRID_META);
  *tile = check_tile(L, 2);
  luaL_checktype(L, 3, LUA_TTABLE);
  rondo_quantizer q = {.grid = grid, .ratio = 1.0f};
  q.scale_dtype = scale_dtype_field(L);
  q.group_dim = (int)integer_field(L, 3, "group_dim", 1);
  luaL_argcheck(L, q.group_dim == 0 || q.group_dim == 1, 3, "group_dim is 0 or 1");
  int64_t line = q.group_dim == 0 ? tile->rows : tile->cols;
  q.group_size = integer_field(L, 3, "group_size", line > 0 ? line : 1);
  luaL_argcheck(L, q.group_size >= 1, 3, "group_size is at least 1");
  if (lua_getfield(L, 3, "ratio") != LUA_TNIL) q.ratio = (float)luaL_checknumber(L, -1);
  lua_getfield(L, 3, "keep");
  q.keep_nonfinite = lua_toboolean(L, -1);
  lua_pop(L, 2);
  tile->weight = weight_field(L, 3, tile->cols);
  tile->offset = integer_field(L, 3, "offset", 0);
  tile->range_groups = integer_field(L, 3, "range_groups", groups_along(&q, tile));
  bool sane = tile->offset >= 0 && tile->offset < INT64_MAX - line && tile->range_groups >= 1 &&
              (line == 0 || (tile->offset + line - 1) / q.group_size < tile->range_groups);
  luaL_argcheck(L, sane || line == 0, 3, "offset lies outside of the groups");
  int64_t lines = q.group_dim == 0 ? tile->cols : tile->rows, count = 0;
  bool fits =
      checked_mul_i64(lines, tile->range_groups, &count) && checked_mul_i64(count, 2, &count);
  luaL_argcheck(L, fits, 3, "too many groups");
  tile->ranges = buffer_field(L, 3, "ranges", RONDO_F32, count);
  q.kernels = rondo_state_kernels(L);
  q.pool = rondo_state_pool(L);
  return q;
}

/* ---- Outcomes ---- */

/* nil, "weight" or "scale", row, column (1-based, within the tile); memory failures raise. */
static int push_place(lua_State *L, const rondo_place *place) {
  if (place->status == RONDO_MEMORY) return luaL_error(L, "not enough memory");
  lua_pushnil(L);
  lua_pushstring(L, place->scale ? "scale" : "weight");
  lua_pushinteger(L, place->row + 1);
  lua_pushinteger(L, place->col + 1);
  return 4;
}

/* Field `name` of the options asks for an output: a tensor to fill, or (when allocate is set and
 * the field is true) a new one; it lands in the result table on top of the stack. */
static void *output_field(lua_State *L, const char *name, rondo_dtype dtype, int64_t rows,
                          int64_t cols) {
  int kind = lua_getfield(L, 3, name);
  if (kind == LUA_TNIL || (kind == LUA_TBOOLEAN && !lua_toboolean(L, -1))) {
    lua_pop(L, 1);
    return NULL;
  }
  void *data;
  if (kind == LUA_TBOOLEAN) {
    lua_pop(L, 1);
    data = rondo_push_tensor(L, dtype, 2, (int64_t[]){rows, cols})->data;
  } else {
    int64_t count = 0;
    if (!checked_mul_i64(rows, cols, &count)) luaL_error(L, "tile too large");
    data = buffer_field(L, 3, name, dtype, count);
  }
  lua_setfield(L, -2, name);
  return data;
}

/* quantize(grid, tile, options) -> { values, codes, scale, zero }, or nil, what, row, column.
 * Wanted outputs are true (new) or tensors (filled): values (of values_dtype, default f32) and
 * codes [rows, cols]; scale f32 and zero u8 [rows, groups] ([groups, cols] for group_dim 0).
 * sums: f64 [2], to which the squared error and the squared norm are added. */
static int quantize(lua_State *L) {
  rondo_tile tile;
  rondo_quantizer q = check_quantizer(L, &tile);
  bool columns = q.group_dim == 0;
  int64_t groups = groups_along(&q, &tile);
  rondo_quantized out = {.values_dtype = RONDO_F32};
  if (lua_getfield(L, 3, "values_dtype") != LUA_TNIL) out.values_dtype = rondo_check_dtype(L, -1);
  lua_pop(L, 1);
  luaL_argcheck(L, out.values_dtype <= RONDO_BF16, 3, "values_dtype is f32, f16 or bf16");
  lua_newtable(L);
  out.values = output_field(L, "values", out.values_dtype, tile.rows, tile.cols);
  bool bytes = q.grid->bits <= 8;
  rondo_dtype code_dtype = q.grid->kind == RONDO_ASYMMETRIC ? RONDO_U8 : RONDO_I8;
  out.codes = output_field(L, "codes", code_dtype, tile.rows, tile.cols);
  luaL_argcheck(L, bytes || out.codes == NULL, 3, "codes have at most 8 bits");
  if (tile.ranges == NULL) {
    int64_t rows = columns ? groups : tile.rows, cols = columns ? tile.cols : groups;
    out.scales = output_field(L, "scale", RONDO_F32, rows, cols);
    if (q.grid->kind == RONDO_ASYMMETRIC && bytes) {
      out.zeros = output_field(L, "zero", RONDO_U8, rows, cols);
    }
  }
  double *sums = buffer_field(L, 3, "sums", RONDO_F64, 2);
  out.want_error = sums != NULL;
  if (sums != NULL) {
    out.error = sums[0];
    out.norm = sums[1];
  }
  rondo_place place;
  if (!rondo_tile_quantize(&q, &tile, &out, &place)) return push_place(L, &place);
  if (sums != NULL) {
    sums[0] = out.error;
    sums[1] = out.norm;
  }
  return 1;
}

/* ranges(grid, tile, options) -> true: widens options.ranges (f32 [lines, groups, 2], made by
 * clear_ranges) by the tile; or nil, what, row, column. */
static int ranges(lua_State *L) {
  rondo_tile tile;
  rondo_quantizer q = check_quantizer(L, &tile);
  luaL_argcheck(L, tile.ranges != NULL, 3, "field 'ranges' is missing");
  rondo_place place;
  if (!rondo_tile_ranges(&q, &tile, &place)) return push_place(L, &place);
  lua_pushboolean(L, true);
  return 1;
}

/* clear_ranges(tensor) -> tensor: f32 of shape {..., 2}, set to "nothing seen". */
static int clear_ranges(lua_State *L) {
  const rondo_tensor *t = rondo_check_tensor(L, 1);
  int64_t count = 1;
  for (int i = 0; i < t->rank; i++) count *= t->shape[i];
  luaL_argcheck(L, t->dtype == RONDO_F32 && count % 2 == 0 && !t->read_only, 1,
                "f32 pairs are expected");
  rondo_ranges_clear(t->data, (size_t)count / 2);
  lua_settop(L, 1);
  return 1;
}

/* params(grid, ranges, options) -> scale f32 [n], zero u8 [n] or nil; or nil, "scale", index.
 * ranges: row-major f32 with n pairs; options: ratio. */
static int params(lua_State *L) {
  const rondo_grid *grid = luaL_checkudata(L, 1, GRID_META);
  const rondo_tensor *t = rondo_check_tensor(L, 2);
  luaL_checktype(L, 3, LUA_TTABLE);
  rondo_quantizer q = {.grid = grid, .ratio = 1.0f, .kernels = rondo_state_kernels(L)};
  q.pool = rondo_state_pool(L);
  q.scale_dtype = scale_dtype_field(L);
  if (lua_getfield(L, 3, "ratio") != LUA_TNIL) q.ratio = (float)luaL_checknumber(L, -1);
  lua_pop(L, 1);
  int64_t count = 1;
  for (int i = 0; i < t->rank; i++) count *= t->shape[i];
  luaL_argcheck(L, t->dtype == RONDO_F32 && count % 2 == 0, 2, "f32 pairs are expected");
  count /= 2;
  rondo_tensor *scale = rondo_push_tensor(L, RONDO_F32, 1, &count), *zero = NULL;
  if (grid->kind == RONDO_ASYMMETRIC && grid->bits <= 8) {
    zero = rondo_push_tensor(L, RONDO_U8, 1, &count);
  } else {
    lua_pushnil(L);
  }
  size_t bad = 0;
  if (!rondo_ranges_params(&q, t->data, (size_t)count, scale->data,
                           zero == NULL ? NULL : zero->data, &bad)) {
    lua_pushnil(L);
    lua_pushliteral(L, "scale");
    lua_pushinteger(L, (lua_Integer)bad + 1);
    return 3;
  }
  return 2;
}

/* losses(grid, tile, options) -> true: adds the tile's squared error at each of options.ratios
 * (f32 [n]) to options.losses (f64 [n]); or nil, what, row, column. */
static int losses(lua_State *L) {
  rondo_tile tile;
  rondo_quantizer q = check_quantizer(L, &tile);
  lua_getfield(L, 3, "ratios");
  const rondo_tensor *ratios = rondo_check_tensor(L, -1);
  luaL_argcheck(L, ratios->rank == 1 && ratios->dtype == RONDO_F32, 3, "ratios are f32 [n]");
  luaL_argcheck(L, ratios->shape[0] < 2 || ratios->stride[0] == 1, 3, "ratios are contiguous");
  int64_t count = ratios->shape[0];
  double *loss = buffer_field(L, 3, "losses", RONDO_F64, count);
  luaL_argcheck(L, loss != NULL, 3, "field 'losses' is missing");
  rondo_place place;
  if (!rondo_tile_losses(&q, &tile, ratios->data, (size_t)count, loss, &place)) {
    return push_place(L, &place);
  }
  lua_pushboolean(L, true);
  return 1;
}

/* squared_error(x, y, options): adds sum (x-y)^2 and sum x^2 to options.sums (f64 [2]); places that
 * are not finite in either are left out. Options: weight. */
static int squared_error(lua_State *L) {
  rondo_tile x = check_tile(L, 1), y = check_tile(L, 2);
  luaL_argcheck(L, x.rows == y.rows && x.cols == y.cols, 2, "the tiles' shapes differ");
  luaL_checktype(L, 3, LUA_TTABLE);
  double *sums = buffer_field(L, 3, "sums", RONDO_F64, 2);
  luaL_argcheck(L, sums != NULL, 3, "field 'sums' is missing");
  x.weight = weight_field(L, 3, x.cols);
  rondo_quantizer q = {
      .kernels = rondo_state_kernels(L), .group_dim = 1, .group_size = 1, .scale_dtype = RONDO_F32};
  q.pool = rondo_state_pool(L);
  double error = sums[0], norm = sums[1];
  if (!rondo_tile_error(&q, &x, &y, &error, &norm)) return luaL_error(L, "not enough memory");
  sums[0] = error;
  sums[1] = norm;
  return 0;
}

/* dequantize(grid, codes, scale, zero or nil, group_size, group_dim [, values]) -> f32 [rows,
 * cols]. codes: bytes [rows, cols]; scale and zero as quantize gives them for a whole matrix. */
static int dequantize(lua_State *L) {
  const rondo_grid *grid = luaL_checkudata(L, 1, GRID_META);
  const rondo_tensor *codes = rondo_check_tensor(L, 2);
  luaL_argcheck(L, codes->rank == 2 && rondo_dtype_size(codes->dtype) == 1, 2,
                "codes are bytes [rows, cols]");
  int64_t rows = codes->shape[0], cols = codes->shape[1];
  rondo_quantizer q = {.grid = grid, .group_size = luaL_checkinteger(L, 5)};
  q.group_dim = (int)luaL_checkinteger(L, 6);
  luaL_argcheck(L, q.group_size >= 1, 5, "group_size is at least 1");
  luaL_argcheck(L, q.group_dim == 0 || q.group_dim == 1, 6, "group_dim is 0 or 1");
  int64_t count = q.group_dim == 0 ? ceil_div_i64(rows, q.group_size) * cols
                                   : rows * ceil_div_i64(cols, q.group_size);
  lua_settop(L, 7);
  lua_createtable(L, 0, 4); /* the buffers under names, for buffer_field */
  static const char *const names[] = {"codes", "scale", "zero", "values"};
  static const int places[] = {2, 3, 4, 7};
  for (int i = 0; i < 4; i++) {
    lua_pushvalue(L, places[i]);
    lua_setfield(L, 8, names[i]);
  }
  const uint8_t *bytes = buffer_field(L, 8, "codes", codes->dtype, rows * cols);
  const float *scale = buffer_field(L, 8, "scale", RONDO_F32, count);
  const uint8_t *zero = buffer_field(L, 8, "zero", RONDO_U8, count);
  luaL_argcheck(L, scale != NULL, 3, "scales are missing");
  float *values = buffer_field(L, 8, "values", RONDO_F32, rows * cols);
  if (values == NULL) {
    values = rondo_push_tensor(L, RONDO_F32, 2, (int64_t[]){rows, cols})->data;
  } else {
    lua_pushvalue(L, 7);
  }
  q.kernels = rondo_state_kernels(L);
  q.pool = rondo_state_pool(L);
  rondo_tile_dequantize(&q, bytes, rows, cols, scale, zero, values);
  return 1;
}

/* ---- Packing ---- */

typedef struct {
  rondo_dtype dtype; /* of the words: i8, i16, i32, i64 */
  int bits, fields, dim;
  int64_t rows, cols;           /* of the codes */
  int64_t word_rows, word_cols; /* of the words */
} packing;

/* bits, word dtype, dim at idx, idx+1, idx+2. */
static packing check_packing(lua_State *L, int idx, int64_t rows, int64_t cols) {
  packing p = {.bits = (int)luaL_checkinteger(L, idx), .rows = rows, .cols = cols};
  luaL_argcheck(L, p.bits >= 1 && p.bits <= 8, idx, "bits are 1 to 8");
  p.dtype = rondo_check_dtype(L, idx + 1);
  bool word =
      p.dtype == RONDO_I8 || p.dtype == RONDO_I16 || p.dtype == RONDO_I32 || p.dtype == RONDO_I64;
  luaL_argcheck(L, word, idx + 1, "words are i8, i16, i32 or i64");
  p.dim = (int)luaL_checkinteger(L, idx + 2);
  luaL_argcheck(L, p.dim == 0 || p.dim == 1, idx + 2, "the packed dimension is 0 or 1");
  p.fields = (int)rondo_dtype_bits(p.dtype) / p.bits;
  p.word_rows = p.dim == 1 ? rows : ceil_div_i64(rows, p.fields);
  p.word_cols = p.dim == 1 ? ceil_div_i64(cols, p.fields) : cols;
  return p;
}

/* Fields in the last word (dim 1) or in every word of the last row of words (dim 0). */
static int last_fields(const packing *p, int64_t count) {
  int64_t rest = count % p->fields;
  return rest == 0 ? p->fields : (int)rest;
}

/* pack(codes, bits, dtype, dim [, words]) -> words: codes are bytes [rows, cols], contiguous. */
static int pack(lua_State *L) {
  const rondo_tensor *codes = rondo_check_tensor(L, 1);
  luaL_argcheck(L, codes->rank == 2 && rondo_dtype_size(codes->dtype) == 1, 1,
                "codes are bytes [rows, cols]");
  luaL_argcheck(L, codes->shape[1] < 2 || codes->stride[1] == 1, 1, "rows must be contiguous");
  packing p = check_packing(L, 2, codes->shape[0], codes->shape[1]);
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
  packing p = check_packing(L, 2, rows, cols);
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

void rondo_open_quantize(lua_State *L) {
  luaL_newmetatable(L, GRID_META);
  lua_pushliteral(L, "locked");
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 1);
  static const luaL_Reg functions[] = {{"grid", grid_new},
                                       {"quantize", quantize},
                                       {"ranges", ranges},
                                       {"clear_ranges", clear_ranges},
                                       {"params", params},
                                       {"losses", losses},
                                       {"squared_error", squared_error},
                                       {"dequantize", dequantize},
                                       {"pack", pack},
                                       {"unpack", unpack},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
