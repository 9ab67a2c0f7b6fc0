/* json.c - JSON text to Lua values, and the pieces that lua/rondo/json.lua writes JSON with.
 *
 * decode is iterative; the reader's depth cap bounds the Lua stack. A reader lives in a userdata,
 * so an error raised by Lua half-way leaks nothing. */
#include "bind/bind.h"

#include "core/error.h"
#include "core/utf8.h"
#include "format/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define READER_META "rondo.json_reader"
#define ARRAY_META "rondo.json_array"   /* the mark of lists */
#define OBJECT_META "rondo.json_object" /* the mark of objects with their members in order */

typedef struct {
  rondo_json json;
  char *buffer; /* the reader's copy of the text */
} json_box;

static int box_release(lua_State *L) {
  json_box *box = luaL_checkudata(L, 1, READER_META);
  rondo_json_free(&box->json);
  free(box->buffer);
  box->buffer = NULL;
  return 0;
}

/* Pushes a box that reads a copy of text. [-0, +1] */
static json_box *push_reader(lua_State *L, const char *text, size_t size) {
  json_box *box = lua_newuserdatauv(L, sizeof *box, 0);
  box->buffer = NULL;
  rondo_json_init(&box->json, NULL, 0);
  luaL_setmetatable(L, READER_META);
  box->buffer = malloc(size + 1);
  if (box->buffer == NULL) luaL_error(L, "not enough memory");
  memcpy(box->buffer, text, size);
  box->buffer[size] = '\0';
  rondo_json_init(&box->json, box->buffer, size);
  return box;
}

static void close_reader(json_box *box) {
  rondo_json_free(&box->json);
  free(box->buffer);
  box->buffer = NULL;
}

/* nil, message, code for the reader's problem, or for one that the caller found. */
static int push_problem(lua_State *L, json_box *box, const char *found) {
  rondo_json *json = &box->json;
  rondo_error e;
  if (found != NULL)
    rondo_fail(&e, RONDO_FORMAT, "%s, at byte %llu", found, (unsigned long long)json->start);
  else if (json->out_of_memory)
    rondo_fail(&e, RONDO_MEMORY, "not enough memory for the JSON text");
  else
    rondo_fail(&e, RONDO_FORMAT, "not valid JSON: %s, at byte %llu", json->problem,
               (unsigned long long)json->problem_at);
  close_reader(box);
  return rondo_push_error(L, &e);
}

/* ---- decode ------------------------------------------------------------------------------ */

/* Pushes a number: an integer where it is one and fits, else a float. False when too large. */
static bool push_number(lua_State *L, rondo_text text) {
  int64_t integer;
  double real;
  if (rondo_json_i64(text, &integer)) return lua_pushinteger(L, integer), true;
  if (!rondo_json_real(text, &real)) return false;
  return lua_pushnumber(L, real), true;
}

static bool push_scalar(lua_State *L, const rondo_json *json, rondo_json_event event) {
  if (event == RONDO_JSON_NUMBER) return push_number(L, json->text);
  if (event == RONDO_JSON_STRING)
    lua_pushlstring(L, json->text.text, json->text.length);
  else if (event == RONDO_JSON_NULL)
    lua_pushlightuserdata(L, NULL);
  else
    lua_pushboolean(L, event == RONDO_JSON_TRUE);
  return true;
}

/* Puts the finished value at the top into the object or array below it, if there is one. */
static void attach(lua_State *L, const rondo_json *json, lua_Integer counts[]) {
  if (json->depth == 0) return;
  if (json->in_object[json->depth - 1])
    lua_rawset(L, -3);
  else
    lua_rawseti(L, -2, ++counts[json->depth - 1]);
}

static void push_container(lua_State *L, const rondo_json *json, bool array, lua_Integer counts[]) {
  lua_newtable(L);
  if (!array) return;
  counts[json->depth - 1] = 0;
  luaL_setmetatable(L, ARRAY_META);
}

/* Handles one event other than ERROR and END. False when a number is too large. */
static bool take_event(lua_State *L, const rondo_json *json, rondo_json_event event,
                       lua_Integer counts[]) {
  if (event == RONDO_JSON_OBJECT || event == RONDO_JSON_ARRAY) {
    push_container(L, json, event == RONDO_JSON_ARRAY, counts);
  } else if (event == RONDO_JSON_KEY) {
    lua_pushlstring(L, json->text.text, json->text.length);
  } else {
    bool container = event == RONDO_JSON_OBJECT_END || event == RONDO_JSON_ARRAY_END;
    if (!container && !push_scalar(L, json, event)) return false;
    attach(L, json, counts);
  }
  return true;
}

/* Reads up to the end of the text; the value is then at the top. False on an error, with *problem
 * set if it is not the reader's. */
static bool build(lua_State *L, rondo_json *json, const char **problem) {
  lua_Integer counts[RONDO_JSON_DEPTH];
  for (;;) {
    rondo_json_event event = rondo_json_next(json);
    if (event == RONDO_JSON_END) return true;
    if (event == RONDO_JSON_ERROR) return false;
    if (!take_event(L, json, event, counts))
      return *problem = "a number too large for a float", false;
  }
}

/* json_decode(text [, nan]) -> value | nil, message, code. nan: NaN and Infinity are numbers. */
static int json_decode(lua_State *L) {
  size_t size;
  const char *text = luaL_checklstring(L, 1, &size);
  bool nan = lua_toboolean(L, 2);
  luaL_checkstack(L, 2 * RONDO_JSON_DEPTH + 10, "JSON");
  json_box *box = push_reader(L, text, size);
  box->json.allow_nan = nan;
  const char *problem = NULL;
  if (!build(L, &box->json, &problem)) return push_problem(L, box, problem);
  close_reader(box);
  return 1;
}

/* ---- places in a text -------------------------------------------------------------------- */

typedef struct {
  size_t key, first, last; /* offsets of the key, the value's first byte, and one past its last */
  bool set;
} member;

/* Reads all members of the top-level object; finds the wanted one and the last. */
static bool scan_members(rondo_json *json, rondo_text wanted, member *found, member *last) {
  rondo_json_event event;
  while ((event = rondo_json_next(json)) == RONDO_JSON_KEY) {
    bool hit = rondo_text_equal(json->text, wanted);
    size_t key = json->start, at = json->position;
    while (strchr(" \t\r\n", json->buffer[at]) != NULL && json->buffer[at] != '\0') at++;
    if (!rondo_json_skip(json)) return false;
    *last = (member){key, at, json->position, true};
    if (hit) *found = *last;
  }
  return event == RONDO_JSON_OBJECT_END && rondo_json_next(json) == RONDO_JSON_END;
}

static void push_member(lua_State *L, const member *m) {
  for (int i = 0; i < 3; i++) {
    size_t at = i == 0 ? m->key : i == 1 ? m->first : m->last;
    if (m->set)
      lua_pushinteger(L, (lua_Integer)at + (i < 2));
    else
      lua_pushnil(L);
  }
}

/* json_members(text, key) -> the place where the object's text begins, three places of the
 * member with that key (its key begins, its value begins, its value ends; nil when there is none),
 * and the same of the last member. Places are those of string.sub. | nil, message, code */
static int json_members(lua_State *L) {
  size_t size;
  const char *text = luaL_checklstring(L, 1, &size);
  rondo_text wanted;
  wanted.text = luaL_checklstring(L, 2, &wanted.length);
  json_box *box = push_reader(L, text, size);
  box->json.allow_nan = true;
  member found = {0}, last = {0};
  rondo_json_event event = rondo_json_next(&box->json);
  size_t begin = box->json.start;
  if (event == RONDO_JSON_ERROR) return push_problem(L, box, NULL);
  if (event != RONDO_JSON_OBJECT) return push_problem(L, box, "the text is not a JSON object");
  if (!scan_members(&box->json, wanted, &found, &last)) return push_problem(L, box, NULL);
  close_reader(box);
  lua_pushinteger(L, (lua_Integer)begin + 1);
  push_member(L, &found);
  push_member(L, &last);
  return 7;
}

/* ---- writing ----------------------------------------------------------------------------- */

/* json_quote(string) -> the string as JSON; nil when it is not UTF-8. */
static int json_quote(lua_State *L) {
  rondo_text text;
  text.text = luaL_checklstring(L, 1, &text.length);
  if (!utf8_valid(text.text, text.length)) return 0;
  size_t size = rondo_json_quote(text, NULL);
  luaL_Buffer buffer;
  rondo_json_quote(text, luaL_buffinitsize(L, &buffer, size));
  luaL_pushresultsize(&buffer, size);
  return 1;
}

/* json_real(number) -> the shortest exact text, always a float's. Raises for NaN and infinity. */
static int json_real(lua_State *L) {
  double value = luaL_checknumber(L, 1);
  luaL_argcheck(L, isfinite(value), 1, "NaN and infinity have no JSON form");
  char text[RONDO_JSON_REAL_SIZE];
  size_t length = rondo_json_write_real(value, text);
  lua_pushlstring(L, text, length);
  return 1;
}

/* ---- marks ------------------------------------------------------------------------------- */

/* The number of the mark that the value at idx carries: 0 array, 1 object; -1 for none. A mark is a
 * metatable that no Lua code ever holds, so what it says is ours. */
static int mark_of(lua_State *L, int idx) {
  int found = -1;
  if (lua_type(L, idx) != LUA_TTABLE || !lua_getmetatable(L, idx)) return found;
  for (int i = 0; i < 2 && found < 0; i++) {
    luaL_getmetatable(L, i == 0 ? ARRAY_META : OBJECT_META);
    if (lua_rawequal(L, -1, -2)) found = i;
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return found;
}

static const char *const mark_names[] = {"array", "object", NULL};

/* json_mark(table, "array" or "object") -> the table with that mark. Raises for one that has a
 * metatable which is protected. */
static int json_mark(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  int mark = luaL_checkoption(L, 2, NULL, mark_names);
  if (mark_of(L, 1) < 0 && luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL)
    return luaL_error(L, "cannot change a protected metatable");
  lua_settop(L, 1);
  luaL_setmetatable(L, mark == 0 ? ARRAY_META : OBJECT_META);
  return 1;
}

/* json_kind(value) -> "array" or "object" for a table with that mark, else nil. */
static int json_kind(lua_State *L) {
  luaL_checkany(L, 1);
  int mark = mark_of(L, 1);
  if (mark < 0) return lua_pushnil(L), 1;
  lua_pushstring(L, mark_names[mark]);
  return 1;
}

static void new_mark(lua_State *L, const char *name, const char *shown) {
  luaL_newmetatable(L, name);
  lua_pushstring(L, shown);
  lua_setfield(L, -2, "__name");
  lua_pushliteral(L, "locked");
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 1);
}

void rondo_open_json(lua_State *L) {
  static const luaL_Reg reader[] = {{"__gc", box_release}, {NULL, NULL}};
  luaL_newmetatable(L, READER_META);
  luaL_setfuncs(L, reader, 0);
  lua_pushliteral(L, "locked");
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 1);
  new_mark(L, ARRAY_META, "json array");
  new_mark(L, OBJECT_META, "json object");
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "json_null");
  static const luaL_Reg functions[] = {{"json_decode", json_decode},
                                       {"json_members", json_members},
                                       {"json_mark", json_mark},
                                       {"json_kind", json_kind},
                                       {"json_quote", json_quote},
                                       {"json_real", json_real},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
