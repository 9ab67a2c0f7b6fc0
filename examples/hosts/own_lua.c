/* own_lua.c - an application that has Lua already, and gives its scripts rondo.
 *
 *   own_lua MODEL
 *
 * The Lua half of rondo is inside the library: nothing is looked for on disk but lua-filesystem,
 * for models that are folders. The memory, the threads and the trust of this state are the
 * application's business.
 *   cc -std=c11 own_lua.c -o own_lua $(pkg-config --cflags --libs rondo lua5.4) */
#include <rondo/rondo.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>

static const char script[] = "local rondo = require 'rondo'\n"
                             "rondo.threads(2)\n"
                             "for name, layer in assert(rondo.open(...)):layers() do\n"
                             "  local w = layer.weight\n"
                             "  report(name, w:max(), w:std())\n"
                             "end\n";

/* report(name, largest, deviation): a function of the application. */
static int report(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  printf("%-40s max %8.4f   std %8.4f\n", name, luaL_checknumber(L, 2), luaL_checknumber(L, 3));
  return 0;
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: %s MODEL\n", argv[0]);
    return 2;
  }
  lua_State *L = luaL_newstate();
  if (L == NULL) return 1;
  luaL_openlibs(L);
  luaL_requiref(L, "rondo", luaopen_rondo, 0);
  lua_pop(L, 1);
  lua_register(L, "report", report);
  luaL_loadbufferx(L, script, sizeof script - 1, "=script", "t");
  lua_pushstring(L, argv[1]);
  int result = lua_pcall(L, 1, 0, 0);
  if (result != LUA_OK) fprintf(stderr, "%s: %s\n", argv[0], lua_tostring(L, -1));
  lua_close(L);
  return result == LUA_OK ? 0 : 1;
}
