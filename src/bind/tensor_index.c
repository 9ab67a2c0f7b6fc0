/* tensor_index.c - what t[key] means: fields and methods by name, rows by number, elements by
 * mask, and slices by a string such as "2:5, :". Reading gives views (elements by mask: a copy);
 * writing converts and stretches. Slices count from 1, ends are included, -1 is the last. */
#include "bind/tensor_bind.h"

#include "core/assign.h"
#include "core/dtype.h"
#include "core/masked.h"
#include "core/reduce.h"
#include "core/tensor.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void push_shape(lua_State *L, const rondo_tensor *t) {
  lua_createtable(L, t->rank, 0);
  for (int d = 0; d < t->rank; d++) {
    lua_pushinteger(L, t->shape[d]);
    lua_rawseti(L, -2, d + 1);
  }
}

static const char *const fields[] = {"shape", "dtype", "rank", "nbytes", NULL};

/* Pushes the field of that name; false if there is none. */
static bool push_field(lua_State *L, const rondo_tensor *t, const char *name) {
  if (strcmp(name, "shape") == 0) {
    push_shape(L, t);
  } else if (strcmp(name, "dtype") == 0) {
    lua_pushstring(L, rondo_dtype_name(t->dtype));
  } else if (strcmp(name, "rank") == 0) {
    lua_pushinteger(L, t->rank);
  } else if (strcmp(name, "nbytes") == 0) {
    lua_pushinteger(L, (lua_Integer)rondo_tensor_bytes(t));
  } else {
    return false;
  }
  return true;
}

static bool looks_like_slice(const char *key) {
  while (isspace((unsigned char)*key)) key++;
  return !isalpha((unsigned char)*key) && *key != '_';
}

/* One edit (a letter changed, lost, added, or two swapped) or a shared start of three letters. */
static bool resembles(const char *name, const char *known) {
  size_t start = 0, n = strlen(name), m = strlen(known);
  while (start < n && start < m && name[start] == known[start]) start++;
  if (start >= 3) return true;
  const char *a = name + start, *b = known + start;
  size_t la = n - start, lb = m - start;
  if (la == lb && la >= 1 && strcmp(a + 1, b + 1) == 0) return n > 1;
  if (la == lb + 1 && strcmp(a + 1, b) == 0) return true;
  if (lb == la + 1 && strcmp(a, b + 1) == 0) return true;
  return la == lb && la >= 2 && a[0] == b[1] && a[1] == b[0] && strcmp(a + 2, b + 2) == 0;
}

/* Appends a known name if it resembles the wanted one. */
static void suggest(luaL_Buffer *list, const char *name, const char *known, int *found) {
  if (!resembles(name, known) || *found == 5) return;
  luaL_addstring(list, (*found)++ == 0 ? " (did you mean " : ", ");
  luaL_addstring(list, known);
}

static int unknown_field(lua_State *L, const char *name) {
  char shown[RONDO_SHOWN_TEXT];
  rondo_shown_text(name, shown);
  int found = 0;
  luaL_Buffer list;
  luaL_buffinit(L, &list);
  for (int i = 0; fields[i] != NULL; i++) suggest(&list, shown, fields[i], &found);
  for (const luaL_Reg *const *part = rondo_tensor_methods; *part != NULL; part++) {
    for (const luaL_Reg *m = *part; m->name != NULL; m++) suggest(&list, shown, m->name, &found);
  }
  luaL_addstring(&list, found > 0 ? "?)" : "");
  luaL_pushresult(&list);
  return luaL_error(L, "a tensor has no field or method '%s'%s", shown, lua_tostring(L, -1));
}

/* The part of a slice string between commas: ":", "a", "a:b", "a:", ":b". */
typedef struct {
  bool has_first, has_last, is_range;
  int64_t first, last;
} slice_part;

static const char *skip_spaces(const char *s) {
  while (isspace((unsigned char)*s)) s++;
  return s;
}

/* Reads an optional integer. */
static const char *read_number(const char *s, bool *found, int64_t *value) {
  s = skip_spaces(s);
  const char *digits = s + (*s == '-');
  *found = isdigit((unsigned char)*digits);
  if (!*found) return s;
  char *end;
  *value = strtoll(s, &end, 10); /* out of range: the largest value, refused as an index */
  return skip_spaces(end);
}

static int bad_slice(lua_State *L, const char *key) {
  char shown[RONDO_SHOWN_TEXT];
  rondo_shown_text(key, shown);
  return luaL_error(L, "bad slice '%s' (write one part a dimension: \"3\", \"2:5\", \":\", \"-1\")",
                    shown);
}

static const char *read_part(lua_State *L, const char *key, const char *s, slice_part *part) {
  s = read_number(s, &part->has_first, &part->first);
  part->is_range = *s == ':';
  part->has_last = false;
  if (part->is_range) s = read_number(s + 1, &part->has_last, &part->last);
  bool nothing = !part->has_first && !part->is_range;
  if (nothing || (*s != ',' && *s != '\0')) bad_slice(L, key);
  return s;
}

/* Applies one part to dimension d of the view; true when the dimension stays. */
static bool apply_part(lua_State *L, rondo_tensor *view, int d, const slice_part *part) {
  int64_t size = view->shape[d];
  if (!part->is_range) {
    rondo_tensor_select(view, d, rondo_check_index(L, 2, part->first, size, "index"));
    return false;
  }
  /* One past the end may start an empty range: "1:0", "4:3". */
  bool none = part->has_first && part->has_last && part->first >= 1 && part->first - 1 <= size &&
              part->last == part->first - 1;
  if (none || (size == 0 && !part->has_first && !part->has_last)) {
    rondo_tensor_slice(view, d, 0, 0);
    return true;
  }
  int64_t first = part->has_first ? rondo_check_index(L, 2, part->first, size, "index") : 0;
  int64_t last = part->has_last ? rondo_check_index(L, 2, part->last, size, "index") : size - 1;
  if (first > last) {
    luaL_error(L, "bad slice: %I lies before %I", (LUAI_UACINT)last + 1, (LUAI_UACINT)first + 1);
  }
  rondo_tensor_slice(view, d, first, last - first + 1);
  return true;
}

/* The view that a slice string asks for; dimensions not named are kept whole. */
static void apply_slice(lua_State *L, rondo_tensor *view, const char *key) {
  rondo_require_arithmetic(L, view, "slice");
  if (strlen(key) != lua_rawlen(L, 2)) bad_slice(L, key);
  int d = 0, parts = 0, rank = view->rank;
  const char *s = key;
  for (;;) {
    slice_part part = {0};
    s = read_part(L, key, s, &part);
    if (++parts > rank) {
      luaL_error(L, "bad slice: more parts than the tensor has dimensions (%d)", rank);
    }
    d += apply_part(L, view, d, &part);
    if (*s == '\0') return;
    s++;
  }
}

/* The view of row `index` (an integer at idx). */
static void apply_row(lua_State *L, rondo_tensor *view, int idx) {
  int exact;
  lua_Integer index = lua_tointegerx(L, idx, &exact);
  rondo_require_arithmetic(L, view, "index");
  if (!exact) luaL_error(L, "bad index: number has no integer representation");
  if (view->rank == 0) luaL_error(L, "bad index: a scalar has no rows (its value is t:item())");
  rondo_tensor_select(view, 0, rondo_check_index(L, idx, index, view->shape[0], "index"));
}

/* Narrows *view to what the key at index 2 (a number or a slice string) names. */
static void apply_key(lua_State *L, rondo_tensor *view) {
  if (lua_type(L, 2) == LUA_TNUMBER) {
    apply_row(L, view, 2);
  } else {
    apply_slice(L, view, lua_tostring(L, 2));
  }
}

static bool is_place(lua_State *L) {
  int type = lua_type(L, 2);
  return type == LUA_TNUMBER || (type == LUA_TSTRING && looks_like_slice(lua_tostring(L, 2)));
}

/* The mask at index 2, of the shape of t. */
static const rondo_tensor *check_mask(lua_State *L, const rondo_tensor *t) {
  const rondo_tensor *mask = rondo_check_tensor(L, 2);
  if (mask->dtype != RONDO_BOOL) {
    luaL_error(L, "a mask is a bool tensor, not %s", rondo_dtype_name(mask->dtype));
  }
  if (!rondo_tensor_same_shape(t, mask)) {
    char own[RONDO_SHAPE_TEXT], other[RONDO_SHAPE_TEXT];
    rondo_shape_text(t->rank, t->shape, own, sizeof own);
    rondo_shape_text(mask->rank, mask->shape, other, sizeof other);
    luaL_error(L, "a mask of shape %s does not fit a tensor of shape %s", other, own);
  }
  rondo_require_arithmetic(L, t, "mask");
  return mask;
}

static int64_t count_true(lua_State *L, const rondo_tensor *mask) {
  rondo_pool *pool = rondo_pool_for(L, rondo_tensor_count(mask));
  int64_t count = rondo_reduce(pool, rondo_state_kernels(L), RONDO_COUNT, mask).whole;
  rondo_check_stop(L);
  return count;
}

/* t[mask]: a new list of the elements where the mask is true. */
static int take_masked(lua_State *L, const rondo_tensor *t) {
  const rondo_tensor *mask = check_mask(L, t);
  int64_t count = count_true(L, mask);
  rondo_tensor *result = rondo_push_tensor(L, t->dtype, 1, &count);
  /* Finalizers run in allocations, and may write to the mask. */
  if (count_true(L, mask) != count) luaL_error(L, "a finalizer has changed the mask in use");
  rondo_take_masked(t, mask, result->data);
  return 1;
}

int rondo_tensor_index(lua_State *L) {
  const rondo_tensor *t = rondo_check_tensor(L, 1);
  if (is_place(L)) {
    rondo_tensor view = *t;
    apply_key(L, &view);
    if (view.rank == 0) {
      rondo_push_element(L, view.dtype, view.data);
    } else {
      rondo_push_view(L, 1, &view);
    }
    return 1;
  }
  if (lua_type(L, 2) == LUA_TSTRING) {
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
    const char *name = lua_tostring(L, 2);
    return push_field(L, t, name) ? 1 : unknown_field(L, name);
  }
  if (rondo_test_tensor(L, 2) != NULL) return take_masked(L, t);
  return luaL_error(L,
                    "a tensor is indexed by a number, a slice such as \"1:3, :\" or a mask, "
                    "not a %s value",
                    luaL_typename(L, 2));
}

/* The value at index 3 as a tensor: itself, or a number or boolean as a scalar of that dtype. */
static const rondo_tensor *value_tensor(lua_State *L, rondo_dtype dtype) {
  const rondo_tensor *value = rondo_test_tensor(L, 3);
  if (value != NULL) return value;
  rondo_tensor *scalar = rondo_push_tensor(L, dtype, 0, NULL);
  if (!rondo_store_element(L, 3, dtype, scalar->data)) {
    luaL_error(L, "bad value: %s", lua_tostring(L, -1));
  }
  return scalar;
}

/* target[...] = the value at index 3, stretched and converted. */
static void assign_value(lua_State *L, const rondo_tensor *target) {
  rondo_tensor value = *value_tensor(L, target->dtype);
  rondo_require_arithmetic(L, &value, "assignment");
  if (rondo_tensor_overlap(target, &value)) value = *rondo_push_copy(L, 3);
  rondo_tensor source = value;
  if (!rondo_tensor_broadcast(&source, target->rank, target->shape)) {
    char from[RONDO_SHAPE_TEXT], to[RONDO_SHAPE_TEXT];
    rondo_shape_text(value.rank, value.shape, from, sizeof from);
    rondo_shape_text(target->rank, target->shape, to, sizeof to);
    luaL_error(L, "a value of shape %s does not fit into %s", from, to);
  }
  int64_t count = rondo_tensor_count(target);
  rondo_assign(rondo_pool_for(L, count), rondo_state_kernels(L), target, &source);
  rondo_check_stop(L);
}

/* t[mask] = one value, or a list of as many as the mask has true elements. */
static void put_masked(lua_State *L, const rondo_tensor *t) {
  const rondo_tensor *mask = check_mask(L, t);
  if (rondo_tensor_overlap(t, mask)) mask = rondo_push_copy(L, 2);
  const rondo_tensor *value = value_tensor(L, t->dtype);
  if (value != rondo_test_tensor(L, 3)) {
    rondo_put_masked(t, mask, value->data, true);
    return;
  }
  /* A row-major copy in t's type, which cannot lie in t's memory. */
  if (value->dtype != t->dtype) {
    value = rondo_push_converted(L, 3, t->dtype, false);
  } else {
    value = rondo_push_copy(L, 3);
  }
  /* Counted after the last allocation: finalizers run in them, and may write to the mask. */
  int64_t wanted = count_true(L, mask), count = rondo_tensor_count(value);
  bool single = value->rank == 0;
  if (!single && (value->rank != 1 || count != wanted)) {
    char shape[RONDO_SHAPE_TEXT];
    rondo_shape_text(value->rank, value->shape, shape, sizeof shape);
    luaL_error(L, "the mask has %I true elements, the value the shape %s", (LUAI_UACINT)wanted,
               shape);
  }
  rondo_put_masked(t, mask, value->data, single);
}

int rondo_tensor_newindex(lua_State *L) {
  rondo_tensor view = *rondo_check_tensor(L, 1);
  bool masked = rondo_test_tensor(L, 2) != NULL;
  if (!masked && !is_place(L)) {
    return luaL_error(L, "a tensor's fields cannot be set; elements are set by number, slice such "
                         "as \"1:3, :\" or mask");
  }
  if (view.read_only) {
    return luaL_error(L, "this tensor is mapped from a file and read-only: change a t:clone()");
  }
  if (masked) {
    put_masked(L, &view);
  } else {
    apply_key(L, &view);
    assign_value(L, &view);
  }
  return 0;
}

/* The iterator of pairs: the next row of the tensor at 1. */
static int next_row(lua_State *L) {
  const rondo_tensor *t = rondo_check_tensor(L, 1);
  lua_Integer i = luaL_checkinteger(L, 2);
  if (i >= t->shape[0]) return 0;
  lua_pushinteger(L, i + 1);
  lua_pushinteger(L, i + 1);
  lua_gettable(L, 1);
  return 2;
}

/* for i, row in pairs(t): rows are views, or numbers for rank 1. */
int rondo_tensor_pairs(lua_State *L) {
  const rondo_tensor *t = rondo_check_tensor(L, 1);
  if (t->rank == 0) return luaL_error(L, "a scalar tensor has no rows");
  lua_pushcfunction(L, next_row);
  lua_pushvalue(L, 1);
  lua_pushinteger(L, 0);
  return 3;
}
