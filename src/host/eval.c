/* eval.c - Lua in a string, and its value for C. */
#include "host/host.h"

#include <string.h>

static const char value_key = 'v'; /* its address is the registry key of the value's text */

typedef struct {
  const char *code;
  rondo_value *value;
} evaluation;

/* An expression, or else a chunk; raises its syntax error. [-0, +1] */
static void load_code(lua_State *L, const char *code) {
  lua_pushfstring(L, "return %s", code);
  size_t length;
  const char *expression = lua_tolstring(L, -1, &length);
  if (luaL_loadbufferx(L, expression, length, "=eval", "t") != LUA_OK) {
    lua_pop(L, 1);
    if (luaL_loadbufferx(L, code, strlen(code), "=eval", "t") != LUA_OK) lua_error(L);
  }
  lua_remove(L, -2);
  rondo_confine(L);
}

static rondo_value_type type_at(lua_State *L, int idx) {
  switch (lua_type(L, idx)) {
  case LUA_TNIL:
    return RONDO_VALUE_NIL;
  case LUA_TBOOLEAN:
    return RONDO_VALUE_BOOLEAN;
  case LUA_TNUMBER:
    return lua_isinteger(L, idx) ? RONDO_VALUE_INTEGER : RONDO_VALUE_NUMBER;
  case LUA_TSTRING:
    return RONDO_VALUE_STRING;
  default:
    return RONDO_VALUE_OTHER;
  }
}

static int evaluate(lua_State *L) {
  evaluation *e = lua_touserdata(L, 1);
  load_code(L, e->code);
  lua_call(L, 0, 1);
  rondo_poll(L);
  rondo_value value = {.type = type_at(L, -1),
                       .boolean = lua_toboolean(L, -1),
                       .integer = lua_tointeger(L, -1),
                       .number = lua_tonumber(L, -1)};
  value.text = luaL_tolstring(L, -1, &value.length);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &value_key);
  if (e->value != NULL) *e->value = value;
  return 0;
}

rondo_status rondo_eval(rondo *r, const char *code, rondo_value *value) {
  if (value != NULL) *value = (rondo_value){.text = ""};
  rondo_status status = rondo_ready(r);
  if (status != RONDO_OK) return status;
  if (code == NULL) return rondo_report(r, RONDO_USAGE, "a piece of Lua is needed");
  return rondo_call(r, evaluate, &(evaluation){code, value});
}
