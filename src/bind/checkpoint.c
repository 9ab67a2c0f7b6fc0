/* checkpoint.c - checkpoints as Lua userdata.
 *
 * A checkpoint's one user value is the list of its mappings, made at first use. Each mapping is a
 * userdata of its own and every view of a mapped tensor holds it, so views stay valid after
 * close() and after the checkpoint is collected; the file is unmapped with the last of them.
 *
 * Any call of Lua may run a finalizer that closes the checkpoint in use. So close() lets go of
 * files only; the memory goes with the userdata, which no running method can lose. */
#include "bind/bind.h"

#include "core/dtype.h"
#include "core/error.h"
#include "core/tensor.h"
#include "format/checkpoint.h"
#include "format/groups.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define CHECKPOINT_META "rondo.checkpoint"
#define MAPPING_META "rondo.mapping"
#define BLOCK_META "rondo.block"

typedef struct checkpoint_box {
  rondo_checkpoint *cp; /* NULL when it could not be opened, and once collected */
  bool read;            /* mode "read": tensors are copies */
  int64_t held;         /* bytes that the guard knows of */
} checkpoint_box;

/* ---- mappings ---------------------------------------------------------------------------- */

typedef struct {
  rondo_owner owner;
  void *base;
  size_t size;
} mapping;

static int mapping_release(lua_State *L) {
  mapping *m = luaL_checkudata(L, 1, MAPPING_META);
  bool mapped = m->owner.alive;
  m->owner.alive = false;
  if (mapped) munmap(m->base, m->size);
  return 0;
}

/* Pushes the mapping of a shard of the checkpoint at index 1; NULL, nothing pushed, on failure. */
static mapping *push_mapping(lua_State *L, rondo_checkpoint *cp, uint32_t shard, rondo_error *e) {
  if (lua_getiuservalue(L, 1, 1) != LUA_TTABLE) luaL_error(L, "the checkpoint is closed");
  if (lua_rawgeti(L, -1, (lua_Integer)shard + 1) == LUA_TUSERDATA) {
    mapping *known = luaL_testudata(L, -1, MAPPING_META);
    if (known != NULL && known->owner.alive) {
      lua_remove(L, -2);
      return known;
    }
  }
  lua_pop(L, 1);
  mapping *m = lua_newuserdatauv(L, sizeof *m, 0);
  *m = (mapping){.size = (size_t)cp->shards[shard].id.size};
  luaL_setmetatable(L, MAPPING_META);
  lua_pushvalue(L, -1);
  lua_rawseti(L, -3, (lua_Integer)shard + 1);
  if (!rondo_checkpoint_map(cp, shard, &m->base, e)) {
    lua_pop(L, 2);
    return NULL;
  }
  m->owner.alive = true;
  lua_remove(L, -2);
  return m;
}

/* ---- opening and closing ----------------------------------------------------------------- */

static int checkpoint_close(lua_State *L) {
  checkpoint_box *box = luaL_checkudata(L, 1, CHECKPOINT_META);
  if (box->cp != NULL) rondo_checkpoint_close(box->cp);
  lua_pushnil(L);
  lua_setiuservalue(L, 1, 1); /* views go on holding their mappings */
  return 0;
}

static int checkpoint_gc(lua_State *L) {
  checkpoint_box *box = luaL_checkudata(L, 1, CHECKPOINT_META);
  rondo_checkpoint *cp = box->cp;
  box->cp = NULL;
  rondo_checkpoint_free(cp);
  rondo_hold(L, -box->held);
  box->held = 0;
  return 0;
}

static bool is_closed(const checkpoint_box *box) {
  return box->cp == NULL || rondo_checkpoint_is_closed(box->cp);
}

static rondo_checkpoint *check_checkpoint(lua_State *L) {
  checkpoint_box *box = luaL_checkudata(L, 1, CHECKPOINT_META);
  if (is_closed(box)) luaL_error(L, "the checkpoint is closed");
  return box->cp;
}

static void warn(lua_State *L, const rondo_checkpoint *cp) {
  for (int i = 0; i < cp->warning_count; i++) {
    lua_warning(L, "rondo: ", 1);
    lua_warning(L, cp->warnings[i].message, 0);
  }
}

/* The memory of a checkpoint: headers and what is made of them. */
static int64_t memory_of(const rondo_checkpoint *cp) {
  enum { NAME = 16 }; /* bytes of a name in a table of names */
  uint64_t bytes = sizeof *cp + (uint64_t)cp->count * NAME;
  for (uint32_t i = 0; i < cp->shard_count; i++) {
    const rondo_safetensors *st = &cp->shards[i].header;
    bytes += sizeof *cp->shards + st->header_size + (uint64_t)st->capacity * sizeof *st->tensors;
  }
  return (int64_t)bytes;
}

/* checkpoint(path [, mode]) -> checkpoint | nil, message, code. mode: "map" or "read". */
static int checkpoint(lua_State *L) {
  static const char *const modes[] = {"map", "read", NULL};
  const char *path = rondo_check_path(L, 1, RONDO_READ);
  bool read = luaL_checkoption(L, 2, "map", modes) == 1;
  checkpoint_box *box = lua_newuserdatauv(L, sizeof *box, 1);
  *box = (checkpoint_box){NULL, read, 0};
  luaL_setmetatable(L, CHECKPOINT_META);
  lua_newtable(L);
  lua_setiuservalue(L, -2, 1);
  rondo_error e;
  box->cp = rondo_checkpoint_open(path, &e);
  if (box->cp == NULL) return rondo_push_error(L, &e);
  int64_t memory = memory_of(box->cp);
  rondo_hold(L, memory);
  box->held = memory;
  warn(L, box->cp);
  return 1;
}

static int checkpoint_tostring(lua_State *L) {
  checkpoint_box *box = luaL_checkudata(L, 1, CHECKPOINT_META);
  if (is_closed(box))
    lua_pushliteral(L, "checkpoint (closed)");
  else
    lua_pushfstring(L, "checkpoint (%I tensors)", (LUAI_UACINT)box->cp->count);
  return 1;
}

/* ---- names and facts --------------------------------------------------------------------- */

static void push_name(lua_State *L, const rondo_checkpoint *cp, uint32_t tensor) {
  rondo_text name = rondo_checkpoint_name(cp, tensor);
  lua_pushlstring(L, name.text, name.length);
}

static rondo_text check_name(lua_State *L, int idx) {
  rondo_text name;
  name.text = luaL_checklstring(L, idx, &name.length);
  return name;
}

static int checkpoint_len(lua_State *L) {
  lua_pushinteger(L, check_checkpoint(L)->count);
  return 1;
}

/* names() -> list of all names in file order. */
static int checkpoint_names(lua_State *L) {
  const rondo_checkpoint *cp = check_checkpoint(L);
  lua_createtable(L, cp->count <= INT32_MAX ? (int)cp->count : 0, 0);
  for (uint32_t i = 0; i < cp->count; i++) {
    push_name(L, cp, i);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

static void push_numbers(lua_State *L, const uint32_t *numbers, uint32_t count) {
  lua_createtable(L, count <= INT32_MAX ? (int)count : 0, 0);
  for (uint32_t i = 0; i < count; i++) {
    lua_pushinteger(L, (lua_Integer)numbers[i] + 1);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
}

/* groups() -> the group of each tensor, the first tensor of each group; see format/groups.h. */
static int checkpoint_groups(lua_State *L) {
  const rondo_checkpoint *cp = check_checkpoint(L);
  uint32_t *group_of = lua_newuserdatauv(L, (size_t)cp->count * sizeof *group_of, 0);
  uint32_t *first = lua_newuserdatauv(L, (size_t)cp->count * sizeof *first, 0), count;
  if (!rondo_checkpoint_groups(cp, group_of, first, &count))
    return luaL_error(L, "not enough memory");
  push_numbers(L, group_of, cp->count);
  push_numbers(L, first, count);
  return 2;
}

static int checkpoint_has(lua_State *L) {
  const rondo_checkpoint *cp = check_checkpoint(L);
  lua_pushboolean(L, rondo_checkpoint_find(cp, check_name(L, 2)) != RONDO_NO_NAME);
  return 1;
}

/* info(name) -> dtype, shape, bytes, number of its file, offset in that file | nil */
static int checkpoint_info(lua_State *L) {
  const rondo_checkpoint *cp = check_checkpoint(L);
  uint32_t tensor = rondo_checkpoint_find(cp, check_name(L, 2));
  if (tensor == RONDO_NO_NAME) return lua_pushnil(L), 1;
  rondo_stored stored;
  rondo_checkpoint_describe(cp, tensor, &stored);
  lua_pushstring(L, rondo_dtype_name(stored.dtype));
  lua_createtable(L, stored.rank, 0);
  for (int d = 0; d < stored.rank; d++) {
    lua_pushinteger(L, stored.shape[d]);
    lua_rawseti(L, -2, d + 1);
  }
  lua_pushinteger(L, (lua_Integer)stored.size);
  lua_pushinteger(L, (lua_Integer)stored.shard + 1);
  lua_pushinteger(L, (lua_Integer)stored.offset);
  return 5;
}

/* Whether full ends with name on whole dotted segments. */
static bool ends_with_segments(rondo_text full, rondo_text name) {
  if (full.length <= name.length) return false;
  const char *tail = full.text + (full.length - name.length);
  return tail[-1] == '.' && memcmp(tail, name.text, name.length) == 0;
}

/* resolve(name) -> the full name; or nil and the list of names that end so */
static int checkpoint_resolve(lua_State *L) {
  const rondo_checkpoint *cp = check_checkpoint(L);
  rondo_text name = check_name(L, 2);
  if (rondo_checkpoint_find(cp, name) != RONDO_NO_NAME) return lua_pushvalue(L, 2), 1;
  lua_pushnil(L);
  lua_newtable(L);
  lua_Integer found = 0;
  for (uint32_t i = 0; i < cp->count && name.length > 0; i++) {
    if (!ends_with_segments(rondo_checkpoint_name(cp, i), name)) continue;
    push_name(L, cp, i);
    lua_rawseti(L, -2, ++found);
  }
  if (found != 1) return 2;
  lua_rawgeti(L, -1, 1);
  return 1;
}

/* ---- tensors ----------------------------------------------------------------------------- */

/* nil, message, "usage" for a name that is not there. */
static int push_unknown(lua_State *L, const rondo_checkpoint *cp, rondo_text name) {
  rondo_error e;
  rondo_path_excerpt place =
      rondo_checkpoint_shown(cp, cp->shard_count == 1 ? cp->shards[0].name : "");
  rondo_fail(&e, RONDO_USAGE, "%s: there is no tensor \"%s\"", place.text,
             rondo_excerpt_text(name).text);
  return rondo_push_error(L, &e);
}

/* Finds the tensor named at index 2 of the checkpoint at index 1. False: pushes the error. */
static bool find_tensor(lua_State *L, const rondo_checkpoint *cp, rondo_stored *stored) {
  rondo_text name = check_name(L, 2);
  uint32_t tensor = rondo_checkpoint_find(cp, name);
  if (tensor == RONDO_NO_NAME) return push_unknown(L, cp, name), false;
  rondo_checkpoint_describe(cp, tensor, stored);
  return true;
}

static int push_mapped(lua_State *L, rondo_checkpoint *cp, const rondo_stored *stored) {
  rondo_error e;
  mapping *m = push_mapping(L, cp, stored->shard, &e);
  if (m == NULL) return rondo_push_error(L, &e);
  rondo_tensor view;
  void *data = (char *)m->base + stored->offset; /* the header reader has compared with the size */
  rondo_tensor_init(&view, stored->dtype, stored->rank, stored->shape, data);
  view.read_only = true;
  rondo_push_view(L, -1, &view);
  return 1;
}

static int push_copied(lua_State *L, rondo_checkpoint *cp, const rondo_stored *stored) {
  rondo_error e;
  rondo_tensor *t = rondo_push_tensor(L, stored->dtype, stored->rank, stored->shape);
  if (rondo_checkpoint_read(cp, stored->shard, stored->offset, t->data, stored->size, &e)) return 1;
  return rondo_push_error(L, &e);
}

/* tensor(name) -> tensor | nil, message, code. The name is exact. */
static int checkpoint_tensor(lua_State *L) {
  rondo_checkpoint *cp = check_checkpoint(L);
  rondo_stored stored;
  if (!find_tensor(L, cp, &stored)) return 3;
  const checkpoint_box *box = lua_touserdata(L, 1);
  return box->read ? push_copied(L, cp, &stored) : push_mapped(L, cp, &stored);
}

/* A result tensor of that dtype and shape: over the storage of the tensor at out, or new. Returns
 * its data. [-0, +1] */
static void *push_result(lua_State *L, int out, rondo_dtype dtype, int rank, const int64_t *shape) {
  if (lua_isnoneornil(L, out)) return rondo_push_tensor(L, dtype, rank, shape)->data;
  rondo_tensor *given = rondo_check_tensor(L, out), view;
  int64_t count;
  bool sized = rondo_shape_size(dtype, rank, shape, &count, NULL);
  bool fits = sized && given->dtype == dtype && !given->read_only &&
              rondo_tensor_is_row_major(given) && rondo_tensor_count(given) >= count;
  if (!fits) {
    const char *text = "a writable row-major %s tensor of enough elements expected";
    luaL_argerror(L, out, lua_pushfstring(L, text, rondo_dtype_name(dtype)));
  }
  rondo_tensor_init(&view, dtype, rank, shape, given->data);
  rondo_push_view(L, out, &view);
  return view.data;
}

/* Rows and columns of a tensor seen as a matrix: the last dimension is the columns. */
static void matrix_shape(const rondo_stored *stored, int64_t *rows, int64_t *cols) {
  *cols = stored->rank > 0 ? stored->shape[stored->rank - 1] : 1;
  *rows = 1;
  for (int d = 0; d + 1 < stored->rank; d++) *rows *= stored->shape[d];
}

/* Reads a range first, count at the indices at and at + 1 and checks it against size. */
static void check_range(lua_State *L, int at, int64_t size, int64_t *first, int64_t *count) {
  *first = luaL_checkinteger(L, at);
  *count = luaL_checkinteger(L, at + 1);
  if (*first < 1 || *first - 1 > size)
    luaL_argerror(L, at, lua_pushfstring(L, "1 to %I expected", (LUAI_UACINT)size));
  if (*count < 0 || *count > size - (*first - 1)) {
    int64_t most = size - (*first - 1);
    luaL_argerror(L, at + 1, lua_pushfstring(L, "0 to %I expected", (LUAI_UACINT)most));
  }
}

/* A rectangle of a stored matrix, in bytes. */
typedef struct {
  uint64_t offset, pitch; /* of the first byte in the file; from row to row */
  int64_t rows;
  size_t width; /* bytes of one row of the rectangle */
} rectangle;

static bool read_rectangle(rondo_checkpoint *cp, uint32_t shard, rectangle r, char *out,
                           rondo_error *e) {
  if (r.width == 0) return true;
  if (r.pitch == r.width) {
    r.width *= (size_t)r.rows;
    r.rows = r.rows > 0;
  }
  for (int64_t i = 0; i < r.rows; i++) {
    uint64_t offset = r.offset + (uint64_t)i * r.pitch;
    if (!rondo_checkpoint_read(cp, shard, offset, out + (size_t)i * r.width, r.width, e))
      return false;
  }
  return true;
}

/* read(name, first_row, rows, first_col, cols [, out]) -> tensor [rows, cols] | nil, message, code.
 * Always by pread: a file that became shorter is an error. */
static int checkpoint_read(lua_State *L) {
  rondo_checkpoint *cp = check_checkpoint(L);
  rondo_stored stored;
  int64_t all_rows, all_cols, row, col, shape[2];
  if (!find_tensor(L, cp, &stored)) return 3;
  matrix_shape(&stored, &all_rows, &all_cols);
  check_range(L, 3, all_rows, &row, &shape[0]);
  check_range(L, 5, all_cols, &col, &shape[1]);
  uint64_t size = rondo_dtype_size(stored.dtype);
  if (size == 0)
    return luaL_error(L, "rows of %s elements cannot be read alone; use read_bytes",
                      rondo_dtype_name(stored.dtype));
  char *out = push_result(L, 7, stored.dtype, 2, shape);
  uint64_t pitch = (uint64_t)all_cols * size;
  rectangle r = {stored.offset + (uint64_t)(row - 1) * pitch + (uint64_t)(col - 1) * size, pitch,
                 shape[0], (size_t)shape[1] * size};
  rondo_error e;
  return read_rectangle(cp, stored.shard, r, out, &e) ? 1 : rondo_push_error(L, &e);
}

/* ---- blocks ------------------------------------------------------------------------------ */

/* block(name, first_row, rows, first_col, cols) -> block: as read, but when it is worked on. It has
 * a field shape, like a tensor. Raises where read fails for the name. */
static int checkpoint_block(lua_State *L) {
  rondo_checkpoint *cp = check_checkpoint(L);
  rondo_stored stored;
  int64_t all_rows, all_cols, row, col, rows, cols;
  if (!find_tensor(L, cp, &stored)) return 3;
  matrix_shape(&stored, &all_rows, &all_cols);
  check_range(L, 3, all_rows, &row, &rows);
  check_range(L, 5, all_cols, &col, &cols);
  bool known = stored.dtype == RONDO_F32 || stored.dtype == RONDO_F16 || stored.dtype == RONDO_BF16;
  luaL_argcheck(L, known, 2, "a tensor of f32, f16 or bf16 is expected");
  uint64_t size = rondo_dtype_size(stored.dtype), pitch = (uint64_t)all_cols * size;
  rondo_block *b = lua_newuserdatauv(L, sizeof *b, 1);
  *b = (rondo_block){.dtype = stored.dtype,
                     .rows = rows,
                     .cols = cols,
                     .box = lua_touserdata(L, 1),
                     .shard = stored.shard,
                     .offset =
                         stored.offset + (uint64_t)(row - 1) * pitch + (uint64_t)(col - 1) * size,
                     .pitch = pitch};
  luaL_setmetatable(L, BLOCK_META);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  return 1;
}

const rondo_block *rondo_test_block(lua_State *L, int idx) {
  return luaL_testudata(L, idx, BLOCK_META);
}

static int block_index(lua_State *L) {
  const rondo_block *b = luaL_checkudata(L, 1, BLOCK_META);
  if (strcmp(luaL_checkstring(L, 2), "shape") != 0) return 0;
  lua_createtable(L, 2, 0);
  lua_pushinteger(L, b->rows);
  lua_rawseti(L, -2, 1);
  lua_pushinteger(L, b->cols);
  lua_rawseti(L, -2, 2);
  return 1;
}

bool rondo_block_begin(const rondo_block *b, rondo_error *e) {
  enum { AHEAD = 16 << 20 };
  if (b->box->cp == NULL) return rondo_fail(e, RONDO_USAGE, "the checkpoint is closed");
  if (!rondo_checkpoint_share(b->box->cp, b->shard, e)) return false;
  rondo_checkpoint_read_ahead(b->box->cp, b->offset + (uint64_t)b->rows * b->pitch, AHEAD);
  return true;
}

void rondo_block_end(const rondo_block *b) {
  uint64_t width = (uint64_t)b->cols * rondo_dtype_size(b->dtype);
  if (b->box->cp == NULL || b->pitch != width) return; /* other blocks need the rows' other parts */
  rondo_checkpoint_read_behind(b->box->cp, b->offset, (uint64_t)b->rows * b->pitch);
}

bool rondo_block_read(void *block, int64_t first, int64_t rows, void *out, rondo_error *e) {
  const rondo_block *b = block;
  size_t width = (size_t)b->cols * rondo_dtype_size(b->dtype);
  uint64_t offset = b->offset + (uint64_t)first * b->pitch;
  if (b->pitch == width) {
    return rondo_checkpoint_read_shared(b->box->cp, offset, out, (size_t)rows * width, e);
  }
  for (int64_t i = 0; i < rows; i++, offset += b->pitch) {
    char *row = (char *)out + (size_t)i * width;
    if (!rondo_checkpoint_read_shared(b->box->cp, offset, row, width, e)) return false;
  }
  return true;
}

/* read_bytes(name, offset, count [, out]) -> u8 tensor [count] | nil, message, code. offset: from
 * 0, within the tensor. */
static int checkpoint_read_bytes(lua_State *L) {
  rondo_checkpoint *cp = check_checkpoint(L);
  rondo_stored stored;
  if (!find_tensor(L, cp, &stored)) return 3;
  int64_t offset = luaL_checkinteger(L, 3), count = luaL_checkinteger(L, 4);
  if (offset < 0 || (uint64_t)offset > stored.size)
    luaL_argerror(L, 3, lua_pushfstring(L, "0 to %I expected", (LUAI_UACINT)stored.size));
  if (count < 0 || (uint64_t)count > stored.size - (uint64_t)offset) {
    uint64_t most = stored.size - (uint64_t)offset;
    luaL_argerror(L, 4, lua_pushfstring(L, "0 to %I expected", (LUAI_UACINT)most));
  }
  void *out = push_result(L, 5, RONDO_U8, 1, &count);
  rondo_error e;
  uint64_t from = stored.offset + (uint64_t)offset;
  bool fine = rondo_checkpoint_read(cp, stored.shard, from, out, (size_t)count, &e);
  if (fine) rondo_checkpoint_read_behind(cp, from, (uint64_t)count);
  return fine ? 1 : rondo_push_error(L, &e);
}

/* ---- files ------------------------------------------------------------------------------- */

static void digest_text(uint64_t digest, char text[24]) {
  snprintf(text, 24, "%016" PRIx64, digest);
}

/* files() -> list of { path, size, header_digest }, in the numbering of info */
static int checkpoint_files(lua_State *L) {
  const rondo_checkpoint *cp = check_checkpoint(L);
  char digest[24];
  lua_createtable(L, (int)cp->shard_count, 0);
  for (uint32_t i = 0; i < cp->shard_count; i++) {
    const rondo_shard *shard = &cp->shards[i];
    lua_createtable(L, 0, 3);
    lua_pushfstring(L, "%s%s", cp->directory, shard->name);
    lua_setfield(L, -2, "path");
    lua_pushinteger(L, (lua_Integer)shard->id.size);
    lua_setfield(L, -2, "size");
    digest_text(shard->header.digest, digest);
    lua_pushstring(L, digest);
    lua_setfield(L, -2, "header_digest");
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

/* metadata() -> table of the first file's __metadata__, or nil when it has none */
static int checkpoint_metadata(lua_State *L) {
  const rondo_checkpoint *cp = check_checkpoint(L);
  const rondo_safetensors *st = &cp->shards[0].header;
  if (!st->has_metadata) return lua_pushnil(L), 1;
  lua_newtable(L);
  uint32_t place = 0;
  for (uint32_t i = 0; i < st->metadata_count; i++) {
    rondo_st_meta pair;
    rondo_safetensors_pair(st, &place, &pair);
    lua_pushlstring(L, pair.key.text, pair.key.length);
    lua_pushlstring(L, pair.value.text, pair.value.length);
    lua_rawset(L, -3);
  }
  return 1;
}

/* check() -> true | nil, message, "changed" */
static int checkpoint_check(lua_State *L) {
  rondo_checkpoint *cp = check_checkpoint(L);
  rondo_error e;
  if (!rondo_checkpoint_check(cp, &e)) return rondo_push_error(L, &e);
  lua_pushboolean(L, true);
  return 1;
}

static void add_fingerprint(luaL_Buffer *buffer, const char *name, uint64_t size, uint64_t digest) {
  char numbers[64];
  snprintf(numbers, sizeof numbers, " %" PRIu64 " %016" PRIx64 "\n", size, digest);
  luaL_addstring(buffer, name);
  luaL_addstring(buffer, numbers);
}

/* fingerprint() -> a line for each file: its name, size, and the digest of its header (of all of
 * it, for an index). */
static int checkpoint_fingerprint(lua_State *L) {
  const rondo_checkpoint *cp = check_checkpoint(L);
  luaL_Buffer buffer;
  luaL_buffinit(L, &buffer);
  if (cp->index != NULL) add_fingerprint(&buffer, cp->index, cp->index_id.size, cp->index_digest);
  for (uint32_t i = 0; i < cp->shard_count; i++) {
    const rondo_shard *shard = &cp->shards[i];
    add_fingerprint(&buffer, shard->name, shard->id.size, shard->header.digest);
  }
  luaL_pushresult(&buffer);
  return 1;
}

/* ---- registration ------------------------------------------------------------------------ */

static void new_type(lua_State *L, const char *name, const luaL_Reg *meta) {
  luaL_newmetatable(L, name);
  luaL_setfuncs(L, meta, 0);
  lua_pushliteral(L, "locked");
  lua_setfield(L, -2, "__metatable");
}

void rondo_open_checkpoint(lua_State *L) {
  static const luaL_Reg mapping_meta[] = {{"__gc", mapping_release}, {NULL, NULL}};
  static const luaL_Reg block_meta[] = {{"__index", block_index}, {NULL, NULL}};
  static const luaL_Reg meta[] = {{"__gc", checkpoint_gc},
                                  {"__close", checkpoint_close},
                                  {"__len", checkpoint_len},
                                  {"__tostring", checkpoint_tostring},
                                  {NULL, NULL}};
  static const luaL_Reg methods[] = {{"names", checkpoint_names},
                                     {"groups", checkpoint_groups},
                                     {"has", checkpoint_has},
                                     {"info", checkpoint_info},
                                     {"resolve", checkpoint_resolve},
                                     {"tensor", checkpoint_tensor},
                                     {"block", checkpoint_block},
                                     {"read", checkpoint_read},
                                     {"read_bytes", checkpoint_read_bytes},
                                     {"files", checkpoint_files},
                                     {"metadata", checkpoint_metadata},
                                     {"check", checkpoint_check},
                                     {"fingerprint", checkpoint_fingerprint},
                                     {"close", checkpoint_close},
                                     {NULL, NULL}};
  new_type(L, MAPPING_META, mapping_meta);
  lua_pop(L, 1);
  new_type(L, BLOCK_META, block_meta);
  lua_pop(L, 1);
  new_type(L, CHECKPOINT_META, meta);
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  lua_pushcfunction(L, checkpoint);
  lua_setfield(L, -2, "checkpoint");
  rondo_open_save(L);
  rondo_open_header(L);
}
