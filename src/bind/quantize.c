/* quantize.c - number grids and tiles for Lua. Options arrive checked and complete from the Lua
 * half (rondo.rtn, rondo.plan); here they are only kept from doing harm: every size and dtype is
 * verified before a kernel sees it. */
#include "bind/bind.h"
#include "bind/sums.h"

#include "core/checked.h"
#include "core/dtype.h"
#include "core/grid.h"
#include "core/quantize.h"

#include <math.h>
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

/* divisor(grid) -> a number: a group's scale is its range over that. */
static int divisor(lua_State *L) {
  const rondo_grid *grid = luaL_checkudata(L, 1, GRID_META);
  lua_pushnumber(L, grid->divisor);
  return 1;
}

/* ---- Reading arguments ---- */

/* Replaces the options at idx by a table of our own with the same fields. It has no metamethods,
 * nobody else can change it, and it keeps the tensors in it alive while C holds their data. */
static void own_options(lua_State *L, int idx) {
  luaL_checktype(L, idx, LUA_TTABLE);
  lua_newtable(L);
  lua_pushnil(L);
  while (lua_next(L, idx) != 0) {
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, -4);
  }
  lua_replace(L, idx);
}

static int64_t integer_field(lua_State *L, int options, const char *name, int64_t otherwise) {
  int64_t value = otherwise;
  if (lua_getfield(L, options, name) != LUA_TNIL) {
    int whole;
    value = lua_tointegerx(L, -1, &whole);
    if (!whole) luaL_error(L, "field '%s' must be an integer", name);
  }
  lua_pop(L, 1);
  return value;
}

static bool is_wide(rondo_dtype dtype) {
  return dtype == RONDO_F32 || dtype == RONDO_F16 || dtype == RONDO_BF16;
}

static bool is_scale(rondo_dtype dtype) {
  return is_wide(dtype) || dtype == RONDO_F8_E4M3 || dtype == RONDO_F8_E8M0;
}

/* options[name], one that is `allowed`; f32 when the field is nil. */
static rondo_dtype float_field(lua_State *L, int options, const char *name,
                               bool (*allowed)(rondo_dtype)) {
  rondo_dtype dtype = RONDO_F32;
  if (lua_getfield(L, options, name) != LUA_TNIL) {
    size_t length = 0;
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &length) : NULL;
    bool known = text != NULL && rondo_dtype_parse(text, length, &dtype) && allowed(dtype);
    if (!known) {
      luaL_error(L, "field '%s' must be f32, f16%s", name,
                 allowed == is_scale ? ", bf16, f8_e4m3 or f8_e8m0" : " or bf16");
    }
  }
  lua_pop(L, 1);
  return dtype;
}

static bool flag_field(lua_State *L, int options, const char *name) {
  lua_getfield(L, options, name);
  bool value = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return value;
}

static bool has_field(lua_State *L, int options, const char *name) {
  bool has = lua_getfield(L, options, name) != LUA_TNIL;
  lua_pop(L, 1);
  return has;
}

/* Whether t is row-major and its data aligned for its type; *count gets its elements. */
static bool is_plain(const rondo_tensor *t, int64_t *count) {
  int64_t expected = 1;
  bool row_major = true;
  *count = 1;
  for (int i = t->rank - 1; i >= 0; i--) {
    row_major &= t->shape[i] < 2 || t->stride[i] == expected;
    if (!checked_mul_i64(*count, t->shape[i], count)) *count = 0; /* beside a dimension of 0 */
    expected = *count;
  }
  if (*count == 0) return true;
  return row_major && (uintptr_t)t->data % rondo_dtype_size(t->dtype) == 0;
}

/* The 2-D tensor at idx, or the block of a checkpoint, as a tile whose weights are f32, f16 or
 * bf16. */
static rondo_tile check_tile(lua_State *L, int idx) {
  const rondo_block *block = rondo_test_block(L, idx);
  if (block != NULL) {
    return (rondo_tile){.read = rondo_block_read,
                        .source = (void *)(uintptr_t)block,
                        .dtype = block->dtype,
                        .rows = block->rows,
                        .cols = block->cols,
                        .row_stride = block->cols};
  }
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

typedef enum { READ, WRITE } access;

/* Raises unless t can be used as `count` elements of that dtype; what: "field 'codes'". */
static void *check_buffer(lua_State *L, const rondo_tensor *t, const char *name, rondo_dtype dtype,
                          int64_t count, access how) {
  int64_t elements = 0;
  if (t == NULL || t->dtype != dtype || !is_plain(t, &elements) || elements < count ||
      (how == WRITE && t->read_only)) {
    luaL_error(L, "'%s' must be a %srow-major tensor of %s with %I elements", name,
               how == WRITE ? "writable " : "", rondo_dtype_name(dtype), (LUAI_UACINT)count);
  }
  return t->data;
}

/* The data of the tensor in options[name]; NULL when the field is nil. The options are our own, so
 * the tensor outlives the call. */
static void *buffer_field(lua_State *L, int options, const char *name, rondo_dtype dtype,
                          int64_t count, access how) {
  void *data = NULL;
  if (lua_getfield(L, options, name) != LUA_TNIL) {
    data = check_buffer(L, rondo_test_tensor(L, -1), name, dtype, count, how);
  }
  lua_pop(L, 1);
  return data;
}

/* Weight per column: f32 [cols]; options.weight. */
static const float *weight_field(lua_State *L, int options, int64_t cols) {
  return buffer_field(L, options, "weight", RONDO_F32, cols, READ);
}

static int64_t groups_along(const rondo_quantizer *q, const rondo_tile *tile) {
  return ceil_div_i64(q->group_dim == 0 ? tile->rows : tile->cols, q->group_size);
}

static double number_field(lua_State *L, const char *name, double otherwise) {
  double value = otherwise;
  if (lua_getfield(L, 3, name) != LUA_TNIL) {
    if (lua_type(L, -1) != LUA_TNUMBER) luaL_error(L, "field '%s' must be a number", name);
    value = lua_tonumber(L, -1);
  }
  lua_pop(L, 1);
  return value;
}

/* Fills in where the tile lies in groups that run across tiles, from ranges, range_groups and
 * offset; without ranges (and scales) the tile holds its groups whole. */
static void check_ranges(lua_State *L, const rondo_quantizer *q, rondo_tile *tile) {
  int64_t line = q->group_dim == 0 ? tile->rows : tile->cols, count = 0;
  int64_t lines = q->group_dim == 0 ? tile->cols : ceil_div_i64(tile->rows, q->group_rows);
  tile->range_groups = groups_along(q, tile);
  if (!has_field(L, 3, "ranges") && !has_field(L, 3, "scales")) return;
  tile->offset = integer_field(L, 3, "offset", 0);
  tile->range_groups = integer_field(L, 3, "range_groups", tile->range_groups);
  bool inside = tile->offset >= 0 && tile->offset < INT64_MAX - line && tile->range_groups >= 0 &&
                (line == 0 || (tile->offset + line - 1) / q->group_size < tile->range_groups);
  luaL_argcheck(L, inside, 3, "offset lies outside of the groups");
  bool fits =
      checked_mul_i64(lines, tile->range_groups, &count) && checked_mul_i64(count, 2, &count);
  luaL_argcheck(L, fits, 3, "too many groups");
  tile->ranges = buffer_field(L, 3, "ranges", RONDO_F32, count, WRITE);
}

/* Elements of arrays by group, of which the tile's are the last; fills in tile->across. */
static int64_t check_lines(lua_State *L, const rondo_quantizer *q, rondo_tile *tile) {
  bool columns = q->group_dim == 0, given = has_field(L, 3, "scales");
  tile->line = given ? integer_field(L, 3, "line", 0) : 0;
  int64_t lines = columns ? tile->cols : tile->rows, rows = 0, count = 0;
  bool inside = tile->line >= 0 && tile->line < INT64_MAX - lines;
  luaL_argcheck(L, inside, 3, "line lies outside of the matrix");
  tile->across = columns ? (given ? integer_field(L, 3, "across", tile->cols) : tile->cols)
                         : tile->range_groups;
  luaL_argcheck(L, !columns || tile->line + tile->cols <= tile->across, 3,
                "line lies outside of the matrix");
  rows = columns ? ceil_div_i64(tile->offset + tile->rows, q->group_size)
                 : ceil_div_i64(tile->line + tile->rows, q->group_rows);
  luaL_argcheck(L, checked_mul_i64(rows, tile->across, &count), 3, "too many groups");
  return count;
}

/* What is known by group: group_ratios; or scales and zeros of a matrix whose line `line` (from 0)
 * is the tile's first, `offset` elements into its groups; across: columns of the matrix, where
 * groups run along its rows. */
static void check_given(lua_State *L, const rondo_quantizer *q, rondo_tile *tile) {
  int64_t count = check_lines(L, q, tile);
  tile->group_ratios = buffer_field(L, 3, "group_ratios", RONDO_F32, count, READ);
  tile->scales = buffer_field(L, 3, "scales", RONDO_F32, count, READ);
  tile->zeros = buffer_field(L, 3, "zeros", rondo_zero_dtype(q->grid), count, READ);
}

/* Scales in the options at 3, and how they are stored: ratio, scale_dtype, round_first, factor. */
static rondo_quantizer check_scales(lua_State *L, const rondo_grid *grid) {
  rondo_quantizer q = {.grid = grid, .ratio = number_field(L, "ratio", 1)};
  q.storage.dtype = float_field(L, 3, "scale_dtype", is_scale);
  q.round_first = flag_field(L, 3, "round_first");
  q.storage.factor = (float)number_field(L, "factor", 0);
  luaL_argcheck(L, q.storage.dtype == RONDO_F32 || grid->bits <= 8, 3,
                "scales of more than 8 bits' codes are f32");
  luaL_argcheck(L, q.storage.factor == 0 || q.storage.dtype == RONDO_F8_E4M3, 3,
                "a factor is for scales of f8_e4m3");
  luaL_argcheck(L, q.storage.factor >= 0 && q.storage.factor < INFINITY, 3,
                "a factor is above 0 and finite");
  bool plain = q.storage.dtype == RONDO_F32 || (is_wide(q.storage.dtype) && q.round_first);
  luaL_argcheck(L, grid->kind != RONDO_AFFINE || plain, 3,
                "scales of affine grids are f32, or f16 or bf16 with round_first");
  return q;
}

/* Grid at 1, tile at 2, options at 3 (made our own): group_size (absent: the whole line),
 * group_rows (1), group_dim, keep, weight, those of check_scales and check_given, and for groups
 * that run across tiles ranges, range_groups, offset. */
static rondo_quantizer check_quantizer(lua_State *L, rondo_tile *tile) {
  const rondo_grid *grid = luaL_checkudata(L, 1, GRID_META);
  *tile = check_tile(L, 2);
  own_options(L, 3);
  rondo_quantizer q = check_scales(L, grid);
  int64_t dim = integer_field(L, 3, "group_dim", 1);
  luaL_argcheck(L, dim == 0 || dim == 1, 3, "group_dim is 0 or 1");
  q.group_dim = (int)dim;
  int64_t line = q.group_dim == 0 ? tile->rows : tile->cols;
  q.group_size = integer_field(L, 3, "group_size", line > 0 ? line : 1);
  luaL_argcheck(L, q.group_size >= 1, 3, "group_size is at least 1");
  q.group_rows = integer_field(L, 3, "group_rows", 1);
  luaL_argcheck(L, q.group_rows >= 1 && (q.group_rows == 1 || dim == 1), 3,
                "group_rows is at least 1, and 1 with group_dim 0");
  q.keep_nonfinite = flag_field(L, 3, "keep");
  rondo_charge_elements(L, tile->rows * tile->cols);
  tile->weight = weight_field(L, 3, tile->cols);
  check_ranges(L, &q, tile);
  check_given(L, &q, tile);
  q.kernels = rondo_state_kernels(L);
  return q;
}

/* ---- Outcomes ---- */

/* nil, "weight" or "scale", row, column (1-based, within the tile), or nil, "read", message, code;
 * memory failures raise. */
static int push_place(lua_State *L, const rondo_place *place) {
  if (place->status == RONDO_MEMORY) return luaL_error(L, "not enough memory");
  if (place->status != RONDO_NONFINITE) {
    rondo_push_error(L, &place->error);
    lua_pushliteral(L, "read");
    lua_insert(L, -3);
    return 4;
  }
  lua_pushnil(L);
  lua_pushstring(L, place->scale ? "scale" : "weight");
  lua_pushinteger(L, place->row + 1);
  lua_pushinteger(L, place->col + 1);
  return 4;
}

/* Has a tile that is read ready for it. From here to the end of the work nothing runs Lua. */
static bool begin_reading(const rondo_tile *tile, rondo_place *place) {
  *place = (rondo_place){.status = RONDO_OK};
  if (tile->read == NULL || rondo_block_begin(tile->source, &place->error)) return true;
  place->status = place->error.status;
  return false;
}

static bool overlaps(const rondo_tile *tile, const void *data, size_t bytes) {
  if (tile->read != NULL || tile->rows == 0 || tile->cols == 0) return false;
  uintptr_t first = (uintptr_t)tile->data, at = (uintptr_t)data;
  int64_t last = (tile->rows - 1) * tile->row_stride;
  if (last < 0) {
    first -= (uintptr_t)-last * rondo_dtype_size(tile->dtype);
    last = -last;
  }
  uintptr_t end = first + (uintptr_t)(last + tile->cols) * rondo_dtype_size(tile->dtype);
  return at < end && first < at + bytes;
}

/* Field `name` of the options asks for an output [rows, cols]: true for a new tensor, or one to
 * fill, which must not share memory with the tile. It lands in the result table on top of the
 * stack. NULL when it is not asked for. */
static void *output_field(lua_State *L, const rondo_tile *tile, const char *name, rondo_dtype dtype,
                          int64_t rows, int64_t cols) {
  int kind = lua_getfield(L, 3, name);
  if (kind == LUA_TNIL || (kind == LUA_TBOOLEAN && !lua_toboolean(L, -1))) {
    lua_pop(L, 1);
    return NULL;
  }
  if (kind == LUA_TBOOLEAN) {
    lua_pop(L, 1);
    rondo_push_tensor(L, dtype, 2, (int64_t[]){rows, cols});
  }
  int64_t count = 0;
  if (!checked_mul_i64(rows, cols, &count)) luaL_error(L, "the tile is too large");
  void *data = check_buffer(L, rondo_test_tensor(L, -1), name, dtype, count, WRITE);
  if (overlaps(tile, data, (size_t)count * rondo_dtype_size(dtype))) {
    luaL_error(L, "'%s' must not share memory with the tile", name);
  }
  lua_setfield(L, -2, name);
  return data;
}

/* The packed codes that options.words asks for: words of options.word_dtype along word_dim. */
static void words_field(lua_State *L, const rondo_quantizer *q, const rondo_tile *tile,
                        rondo_quantized *out) {
  rondo_dtype dtype = RONDO_I32;
  if (lua_getfield(L, 3, "word_dtype") != LUA_TNIL) dtype = rondo_check_dtype(L, -1);
  lua_pop(L, 1);
  int64_t dim = integer_field(L, 3, "word_dim", 1);
  bool word = dtype == RONDO_I8 || dtype == RONDO_I16 || dtype == RONDO_I32 || dtype == RONDO_I64;
  luaL_argcheck(L, word, 3, "words are i8, i16, i32 or i64");
  luaL_argcheck(L, dim == 0 || dim == 1, 3, "word_dim is 0 or 1");
  if (q->grid->bits > 8) return;
  int fields = (int)rondo_dtype_bits(dtype) / q->grid->bits;
  int64_t rows = dim == 1 ? tile->rows : ceil_div_i64(tile->rows, fields);
  int64_t cols = dim == 1 ? ceil_div_i64(tile->cols, fields) : tile->cols;
  out->words = output_field(L, tile, "words", dtype, rows, cols);
  out->packing = (rondo_packing){q->grid->bits, fields, (int)rondo_dtype_size(dtype), (int)dim};
}

/* Codes of the signed grids are i8. */
static rondo_dtype code_dtype(const rondo_grid *grid) {
  bool sign = grid->kind == RONDO_SYMMETRIC || grid->kind == RONDO_CODEBOOK;
  return sign ? RONDO_I8 : RONDO_U8;
}

static bool has_zeros(const rondo_grid *grid) {
  return grid->kind == RONDO_AFFINE || (grid->kind == RONDO_ASYMMETRIC && grid->bits <= 8);
}

/* quantize(grid, tile, options) -> { values, codes, words, scale, zero }, or nil, what, row,
 * column. Wanted outputs are true (new) or tensors (filled): values (of values_dtype, default f32)
 * and codes [rows, cols]; words, the codes packed as by a layout (word_dtype, default i32;
 * word_dim, default 1); scale f32 and zero u8 (f32 on affine grids) [rows, groups] ([groups, cols]
 * for group_dim 0). sums: of core.sums, to which the squared error and the squared norm are added.
 */
static int quantize(lua_State *L) {
  rondo_tile tile;
  rondo_quantizer q = check_quantizer(L, &tile);
  bool columns = q.group_dim == 0;
  int64_t groups = groups_along(&q, &tile);
  rondo_quantized out = {.values_dtype = float_field(L, 3, "values_dtype", is_wide)};
  luaL_argcheck(L, q.group_rows == 1 || tile.ranges != NULL || tile.scales != NULL, 3,
                "groups of several rows need ranges or scales");
  lua_newtable(L);
  out.values = output_field(L, &tile, "values", out.values_dtype, tile.rows, tile.cols);
  bool bytes = q.grid->bits <= 8;
  out.codes = output_field(L, &tile, "codes", code_dtype(q.grid), tile.rows, tile.cols);
  luaL_argcheck(L, bytes || out.codes == NULL, 3, "codes have at most 8 bits");
  words_field(L, &q, &tile, &out);
  if (tile.ranges == NULL && tile.scales == NULL) {
    int64_t rows = columns ? groups : tile.rows, cols = columns ? tile.cols : groups;
    out.scales = output_field(L, &tile, "scale", RONDO_F32, rows, cols);
    if (has_zeros(q.grid)) {
      out.zeros = output_field(L, &tile, "zero", rondo_zero_dtype(q.grid), rows, cols);
    }
  }
  rondo_sums *sums = rondo_sums_field(L, 3);
  if (sums != NULL) {
    out.error = &sums->error;
    out.norm = &sums->norm;
  }
  rondo_place place;
  q.pool = rondo_state_pool(L); /* last: nothing below runs Lua */
  bool good = begin_reading(&tile, &place) && rondo_tile_quantize(&q, &tile, &out, &place);
  if (tile.read != NULL && good) rondo_block_end(tile.source);
  rondo_check_stop(L);
  if (!good) return push_place(L, &place);
  return 1;
}

/* ranges(grid, tile, options) -> true: widens options.ranges (f32 [lines, groups, 2], made by
 * clear_ranges) by the tile; or nil, what, row, column. */
static int ranges(lua_State *L) {
  rondo_tile tile;
  rondo_quantizer q = check_quantizer(L, &tile);
  luaL_argcheck(L, tile.ranges != NULL, 3, "field 'ranges' is missing");
  rondo_place place;
  q.pool = rondo_state_pool(L);
  bool good = begin_reading(&tile, &place) && rondo_tile_ranges(&q, &tile, &place);
  rondo_check_stop(L);
  if (!good) return push_place(L, &place);
  lua_pushboolean(L, true);
  return 1;
}

/* clear_ranges(tensor) -> tensor: f32 of shape {..., 2}, set to "nothing seen". */
static int clear_ranges(lua_State *L) {
  const rondo_tensor *t = rondo_check_tensor(L, 1);
  int64_t count = 0;
  luaL_argcheck(L, t->dtype == RONDO_F32 && is_plain(t, &count) && count % 2 == 0 && !t->read_only,
                1, "row-major pairs of f32 are expected");
  rondo_ranges_clear(t->data, (size_t)count / 2);
  lua_settop(L, 1);
  return 1;
}

/* params(grid, ranges, options) -> scale f32 [n], zero u8 or f32 [n] or nil; or nil, "scale",
 * index. ranges: row-major f32 with n pairs; options: those of check_scales, or group_ratios [n] in
 * place of ratio. */
static int params(lua_State *L) {
  const rondo_grid *grid = luaL_checkudata(L, 1, GRID_META);
  const rondo_tensor *t = rondo_check_tensor(L, 2);
  own_options(L, 3);
  rondo_quantizer q = check_scales(L, grid);
  q.kernels = rondo_state_kernels(L);
  int64_t count = 0;
  luaL_argcheck(L, t->dtype == RONDO_F32 && is_plain(t, &count) && count % 2 == 0, 2,
                "row-major pairs of f32 are expected");
  count /= 2;
  const float *ratios = buffer_field(L, 3, "group_ratios", RONDO_F32, count, READ);
  rondo_tensor *scale = rondo_push_tensor(L, RONDO_F32, 1, &count), *zero = NULL;
  if (has_zeros(grid)) {
    zero = rondo_push_tensor(L, rondo_zero_dtype(grid), 1, &count);
  } else {
    lua_pushnil(L);
  }
  size_t bad = 0;
  q.pool = rondo_state_pool(L);
  bool good = rondo_ranges_params(&q, t->data, ratios, (size_t)count, scale->data,
                                  zero == NULL ? NULL : zero->data, &bad);
  rondo_check_stop(L);
  if (!good) {
    lua_pushnil(L);
    lua_pushliteral(L, "scale");
    lua_pushinteger(L, (lua_Integer)bad + 1);
    return 3;
  }
  return 2;
}

/* round_scales(grid, scales, options) -> f32 of the same shape: scales (row-major f32) as they are
 * when they are stored and read again. Options: scale_dtype, factor. */
static int round_scales(lua_State *L) {
  const rondo_grid *grid = luaL_checkudata(L, 1, GRID_META);
  const rondo_tensor *t = rondo_check_tensor(L, 2);
  own_options(L, 3);
  rondo_quantizer q = check_scales(L, grid);
  int64_t count = 0;
  luaL_argcheck(L, t->dtype == RONDO_F32 && is_plain(t, &count), 2, "row-major f32 is expected");
  rondo_tensor *stored = rondo_push_tensor(L, RONDO_F32, t->rank, t->shape);
  q.kernels = rondo_state_kernels(L);
  q.pool = rondo_state_pool(L);
  rondo_scales_round(&q, t->data, (size_t)count, stored->data);
  rondo_check_stop(L);
  return 1;
}

/* options.ratios, f32 [n]; they stay NULL, one loss, when the field is nil. */
static void ratios_field(lua_State *L, rondo_losses *wanted) {
  wanted->count = 1;
  if (lua_getfield(L, 3, "ratios") != LUA_TNIL) {
    const rondo_tensor *ratios = rondo_test_tensor(L, -1);
    int64_t count = 0;
    luaL_argcheck(L, ratios != NULL, 3, "field 'ratios' must be a tensor");
    luaL_argcheck(L, ratios->rank == 1 && ratios->dtype == RONDO_F32 && is_plain(ratios, &count), 3,
                  "ratios are contiguous f32 [n]");
    luaL_argcheck(L, count > 0, 3, "at least one ratio is needed");
    wanted->ratios = ratios->data;
    wanted->count = (size_t)count;
  }
  lua_pop(L, 1);
}

/* losses(grid, tile, options) -> true; or nil, what, row, column. Adds the tile's error, the sum of
 * weight * |difference|^power (default 2), at each of options.ratios (f32 [n]), or without them
 * that of ratio, group_ratios or scales (n = 1), to options.losses (f64 [n]), or by group to
 * options.group_losses (f64 [groups as in group_ratios][n]). */
static int losses(lua_State *L) {
  rondo_tile tile;
  rondo_quantizer q = check_quantizer(L, &tile);
  rondo_losses wanted = {.power = number_field(L, "power", 2)};
  lua_getfield(L, 3, "exact");
  wanted.exact = lua_toboolean(L, -1);
  lua_pop(L, 1);
  ratios_field(L, &wanted);
  int64_t groups = 0, work = 0;
  if (!checked_mul_i64(tile.rows * tile.cols, (int64_t)wanted.count, &work)) work = INT64_MAX;
  rondo_charge_elements(L, work);
  bool fits = checked_mul_i64(check_lines(L, &q, &tile), (int64_t)wanted.count, &groups);
  luaL_argcheck(L, fits, 3, "too many groups");
  wanted.groups = buffer_field(L, 3, "group_losses", RONDO_F64, groups, WRITE);
  wanted.total = buffer_field(L, 3, "losses", RONDO_F64, (int64_t)wanted.count, WRITE);
  luaL_argcheck(L, (wanted.groups == NULL) != (wanted.total == NULL), 3,
                "field 'losses' or field 'group_losses' is missing");
  int64_t into = q.group_dim == 0 ? tile.offset % q.group_size : tile.line % q.group_rows;
  luaL_argcheck(L, wanted.groups == NULL || into == 0, 3,
                "with 'group_losses' the tile begins with the first row of its groups");
  luaL_argcheck(L, q.group_rows == 1 || tile.ranges != NULL || tile.scales != NULL, 3,
                "groups of several rows need ranges or scales");
  rondo_place place;
  q.pool = rondo_state_pool(L);
  bool good = begin_reading(&tile, &place) && rondo_tile_losses(&q, &tile, &wanted, &place);
  rondo_check_stop(L);
  if (!good) return push_place(L, &place);
  lua_pushboolean(L, true);
  return 1;
}

/* squared_error(x, y, options): adds sum (x-y)^2 and sum x^2 to options.sums (of core.sums); places
 * that are not finite in either are left out. Options: weight. */
static int squared_error(lua_State *L) {
  rondo_tile x = check_tile(L, 1), y = check_tile(L, 2);
  luaL_argcheck(L, y.read == NULL, 2, "a tensor is expected");
  luaL_argcheck(L, x.rows == y.rows && x.cols == y.cols, 2, "the tiles' shapes differ");
  own_options(L, 3);
  rondo_sums *sums = rondo_sums_field(L, 3);
  luaL_argcheck(L, sums != NULL, 3, "field 'sums' is missing");
  x.weight = weight_field(L, 3, x.cols);
  rondo_quantizer q = {
      .kernels = rondo_state_kernels(L), .group_dim = 1, .storage = {RONDO_F32, 0}};
  q.group_rows = 1;
  q.group_size = x.cols > 0 ? x.cols : 1;
  q.pool = rondo_state_pool(L);
  rondo_place place;
  bool good =
      begin_reading(&x, &place) && rondo_tile_error(&q, &x, &y, &sums->error, &sums->norm, &place);
  rondo_check_stop(L);
  if (!good) return push_place(L, &place);
  return 0;
}

/* dequantize(grid, codes, scale, zero or nil, group_size, group_dim [, values [, group_rows]]) ->
 * f32 [rows, cols]. codes: bytes [rows, cols]; scale and zero as quantize gives them for a whole
 * matrix. */
static int dequantize(lua_State *L) {
  const rondo_grid *grid = luaL_checkudata(L, 1, GRID_META);
  const rondo_tensor *codes = rondo_check_tensor(L, 2);
  luaL_argcheck(L, codes->rank == 2 && rondo_dtype_size(codes->dtype) == 1, 2,
                "codes are bytes [rows, cols]");
  int64_t rows = codes->shape[0], cols = codes->shape[1];
  rondo_quantizer q = {.grid = grid, .group_size = luaL_checkinteger(L, 5)};
  lua_Integer dim = luaL_checkinteger(L, 6);
  luaL_argcheck(L, dim == 0 || dim == 1, 6, "group_dim is 0 or 1");
  q.group_dim = (int)dim;
  luaL_argcheck(L, q.group_size >= 1, 5, "group_size is at least 1");
  q.group_rows = luaL_optinteger(L, 8, 1);
  luaL_argcheck(L, q.group_rows >= 1 && (q.group_rows == 1 || q.group_dim == 1), 8,
                "group_rows is at least 1, and 1 with group_dim 0");
  int64_t lines = ceil_div_i64(rows, q.group_rows);
  int64_t size = 0, count = q.group_dim == 0 ? ceil_div_i64(rows, q.group_size) * cols
                                             : lines * ceil_div_i64(cols, q.group_size);
  luaL_argcheck(L, checked_mul_i64(rows, cols, &size), 2, "too many codes");
  lua_settop(L, 7);
  lua_createtable(L, 0, 4); /* the buffers under names, for buffer_field */
  static const char *const names[] = {"codes", "scale", "zero", "values"};
  static const int places[] = {2, 3, 4, 7};
  for (int i = 0; i < 4; i++) {
    lua_pushvalue(L, places[i]);
    lua_setfield(L, 8, names[i]);
  }
  const uint8_t *bytes = buffer_field(L, 8, "codes", codes->dtype, size, READ);
  const float *scale = buffer_field(L, 8, "scale", RONDO_F32, count, READ);
  const void *zero = buffer_field(L, 8, "zero", rondo_zero_dtype(grid), count, READ);
  luaL_argcheck(L, scale != NULL, 3, "scales are missing");
  float *values = buffer_field(L, 8, "values", RONDO_F32, size, WRITE);
  if (values == NULL) {
    values = rondo_push_tensor(L, RONDO_F32, 2, (int64_t[]){rows, cols})->data;
  } else {
    lua_pushvalue(L, 7);
  }
  q.kernels = rondo_state_kernels(L);
  q.pool = rondo_state_pool(L);
  rondo_tile_dequantize(&q, bytes, rows, cols, scale, zero, values);
  rondo_check_stop(L);
  return 1;
}

void rondo_open_quantize(lua_State *L) {
  luaL_newmetatable(L, GRID_META);
  lua_pushliteral(L, "locked");
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 1);
  static const luaL_Reg functions[] = {{"grid", grid_new},
                                       {"divisor", divisor},
                                       {"quantize", quantize},
                                       {"ranges", ranges},
                                       {"clear_ranges", clear_ranges},
                                       {"params", params},
                                       {"round_scales", round_scales},
                                       {"losses", losses},
                                       {"squared_error", squared_error},
                                       {"dequantize", dequantize},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
