/* tensor.c - tensors as Lua userdata: storage, views, fields, and the checks that others build on.
 *
 * A tensor's userdata holds its description and, for one that owns its elements, the elements
 * themselves, so that Lua's collector sees their size. A view has one user value: the userdata
 * that keeps its memory alive. */
#include "bind/tensor_bind.h"

#include "core/dtype.h"
#include "core/tensor.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { ALIGNMENT = 64 };

bool rondo_tensor_has_memory(lua_State *L, int idx) {
  bool there = true;
  if (lua_getiuservalue(L, idx, 1) == LUA_TUSERDATA &&
      luaL_testudata(L, -1, RONDO_TENSOR_META) == NULL) {
    const rondo_owner *owner = lua_touserdata(L, -1);
    there = owner->alive;
  }
  lua_pop(L, 1);
  return there;
}

rondo_tensor *rondo_test_tensor(lua_State *L, int idx) {
  rondo_tensor *t = luaL_testudata(L, idx, RONDO_TENSOR_META);
  if (t != NULL && !rondo_tensor_has_memory(L, idx)) {
    luaL_error(L, "the file behind this tensor has been closed");
  }
  return t;
}

rondo_tensor *rondo_check_tensor(lua_State *L, int idx) {
  rondo_tensor *t = rondo_test_tensor(L, idx);
  if (t == NULL) luaL_typeerror(L, idx, "tensor");
  return t;
}

const char *rondo_shape_text(int rank, const int64_t *shape, char *buffer, size_t size) {
  if (rank == 0) snprintf(buffer, size, "scalar");
  size_t used = 0;
  for (int d = 0; d < rank; d++) {
    char number[24];
    int length = snprintf(number, sizeof number, "%s%lld", d > 0 ? "x" : "", (long long)shape[d]);
    if (used + (size_t)length + 4 > size) {
      memcpy(buffer + used, "...", 4);
      break;
    }
    memcpy(buffer + used, number, (size_t)length + 1);
    used += (size_t)length;
  }
  return buffer;
}

const char *rondo_shown_text(const char *text, char *buffer) {
  size_t used = 0;
  for (; text[used] != '\0' && used < RONDO_SHOWN_TEXT - 4; used++) {
    buffer[used] = text[used];
    if (text[used] < 0x20 || text[used] > 0x7e) buffer[used] = '?';
  }
  strcpy(buffer + used, text[used] == '\0' ? "" : "...");
  return buffer;
}

/* More than all memory of the machine is refused here: where the system promises memory that it
 * does not have, filling it would end the process. */
static bool beyond_memory(uint64_t bytes) {
  long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  return pages > 0 && page > 0 && bytes / (uint64_t)page > (uint64_t)pages;
}

rondo_tensor *rondo_push_tensor(lua_State *L, rondo_dtype dtype, int rank, const int64_t *shape) {
  uint64_t bytes;
  char text[RONDO_SHAPE_TEXT];
  if (!rondo_shape_size(dtype, rank, shape, NULL, &bytes)) {
    rondo_shape_text(rank, shape, text, sizeof text);
    luaL_error(L, "a tensor of shape %s and type %s is too large or not whole bytes", text,
               rondo_dtype_name(dtype));
  }
  if (beyond_memory(bytes)) {
    rondo_shape_text(rank, shape, text, sizeof text);
    luaL_error(L, "not enough memory for a tensor of shape %s and type %s", text,
               rondo_dtype_name(dtype));
  }
  rondo_tensor *t = lua_newuserdatauv(L, sizeof *t + ALIGNMENT + (size_t)bytes, 0);
  uintptr_t address = ((uintptr_t)(t + 1) + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1);
  rondo_tensor_init(t, dtype, rank, shape, (void *)address);
  luaL_setmetatable(L, RONDO_TENSOR_META);
  return t;
}

rondo_tensor *rondo_push_view(lua_State *L, int owner, const rondo_tensor *view) {
  owner = lua_absindex(L, owner);
  rondo_tensor *t = lua_newuserdatauv(L, sizeof *t, 1);
  *t = *view;
  luaL_setmetatable(L, RONDO_TENSOR_META);
  bool has_owner =
      rondo_test_tensor(L, owner) != NULL && lua_getiuservalue(L, owner, 1) == LUA_TUSERDATA;
  if (!has_owner) {
    if (rondo_test_tensor(L, owner) != NULL) lua_pop(L, 1);
    lua_pushvalue(L, owner);
  }
  lua_setiuservalue(L, -2, 1);
  return t;
}

static int unknown_dtype(lua_State *L, int idx, const char *name) {
  luaL_Buffer list;
  luaL_buffinit(L, &list);
  for (int d = 0; d < RONDO_DTYPE_COUNT; d++) {
    if (d > 0) luaL_addchar(&list, ' ');
    luaL_addstring(&list, rondo_dtype_name((rondo_dtype)d));
  }
  luaL_pushresult(&list);
  return luaL_argerror(
      L, idx, lua_pushfstring(L, "unknown dtype '%s' (known: %s)", name, lua_tostring(L, -1)));
}

rondo_dtype rondo_check_dtype(lua_State *L, int idx) {
  size_t length;
  if (lua_type(L, idx) != LUA_TSTRING) luaL_typeerror(L, idx, "dtype name");
  const char *name = lua_tolstring(L, idx, &length);
  rondo_dtype dtype = RONDO_F32;
  if (!rondo_dtype_parse(name, length, &dtype)) {
    char shown[RONDO_SHOWN_TEXT];
    rondo_shown_text(name, shown);
    unknown_dtype(L, idx, shown);
  }
  return dtype;
}

rondo_dtype rondo_opt_dtype(lua_State *L, int idx, rondo_dtype fallback) {
  return lua_isnoneornil(L, idx) ? fallback : rondo_check_dtype(L, idx);
}

int rondo_check_shape(lua_State *L, int idx, int64_t *shape) {
  if (lua_type(L, idx) == LUA_TNUMBER) {
    shape[0] = luaL_checkinteger(L, idx);
    luaL_argcheck(L, shape[0] >= 0, idx, "a dimension cannot be negative");
    return 1;
  }
  luaL_checktype(L, idx, LUA_TTABLE);
  lua_Unsigned rank = lua_rawlen(L, idx);
  if (rank > RONDO_MAX_RANK) {
    luaL_argerror(L, idx, lua_pushfstring(L, "at most %d dimensions", RONDO_MAX_RANK));
  }
  for (int d = 0; d < (int)rank; d++) {
    int is_integer;
    lua_rawgeti(L, idx, d + 1);
    shape[d] = lua_tointegerx(L, -1, &is_integer);
    if (!is_integer || lua_type(L, -1) != LUA_TNUMBER || shape[d] < 0) {
      const char *shown = luaL_tolstring(L, -1, NULL);
      const char *text = "dimension %d is %s; a non-negative integer expected";
      luaL_argerror(L, idx, lua_pushfstring(L, text, d + 1, shown));
    }
    lua_pop(L, 1);
  }
  return (int)rank;
}

int64_t rondo_check_index(lua_State *L, int arg, lua_Integer index, int64_t size,
                          const char *what) {
  if (index < -size || index > size || index == 0) {
    const char *text = size == 0 ? "%s %I out of range (there is none)"
                                 : "%s %I out of range (1 to %I, or -1 to -%I from the end)";
    luaL_argerror(
        L, arg,
        lua_pushfstring(L, text, what, (LUAI_UACINT)index, (LUAI_UACINT)size, (LUAI_UACINT)size));
  }
  return index > 0 ? index - 1 : size + index;
}

int rondo_check_dim(lua_State *L, int idx, const rondo_tensor *t) {
  return (int)rondo_check_index(L, idx, luaL_checkinteger(L, idx), t->rank, "dimension");
}

void rondo_require_arithmetic(lua_State *L, const rondo_tensor *t, const char *what) {
  if (rondo_dtype_is_opaque(t->dtype)) {
    luaL_error(L, "%s: tensors of type %s are opaque (only shape, dtype, bytes and copies)", what,
               rondo_dtype_name(t->dtype));
  }
}

void rondo_require_arithmetic_dtype(lua_State *L, int idx, rondo_dtype dtype) {
  if (rondo_dtype_is_opaque(dtype)) {
    const char *text = "%s is an opaque type: there is no arithmetic on it";
    luaL_argerror(L, idx, lua_pushfstring(L, text, rondo_dtype_name(dtype)));
  }
}

static int length(lua_State *L) {
  const rondo_tensor *t = rondo_check_tensor(L, 1);
  if (t->rank == 0) return luaL_error(L, "attempt to get length of a scalar tensor");
  lua_pushinteger(L, t->shape[0]);
  return 1;
}

const luaL_Reg *const rondo_tensor_methods[] = {rondo_tensor_view_methods, rondo_tensor_ops_methods,
                                                rondo_tensor_reduce_methods,
                                                rondo_tensor_show_methods, NULL};

void rondo_open_tensor(lua_State *L) {
  static const luaL_Reg metamethods[] = {{"__len", length},
                                         {"__eq", rondo_tensor_eq},
                                         {"__pairs", rondo_tensor_pairs},
                                         {"__tostring", rondo_tensor_tostring},
                                         {"__newindex", rondo_tensor_newindex},
                                         {NULL, NULL}};
  luaL_newmetatable(L, RONDO_TENSOR_META);
  luaL_setfuncs(L, metamethods, 0);
  luaL_setfuncs(L, rondo_tensor_operators, 0);
  lua_createtable(L, 0, 64);
  for (const luaL_Reg *const *part = rondo_tensor_methods; *part != NULL; part++) {
    luaL_setfuncs(L, *part, 0);
  }
  lua_pushcclosure(L, rondo_tensor_index, 1);
  lua_setfield(L, -2, "__index");
  lua_pushliteral(L, "locked");
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 1);
  rondo_open_tensor_make(L);
}
