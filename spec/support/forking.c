/* forking.c - the Lua module `forking`: a function that forks and returns whether this is the
 * child. The parent returns when the child has ended. */
#include <lauxlib.h>
#include <sys/wait.h>
#include <unistd.h>

int luaopen_forking(lua_State *L);

static int forked(lua_State *L) {
  pid_t child = fork();
  if (child > 0) waitpid(child, NULL, 0);
  lua_pushboolean(L, child == 0);
  return child >= 0 ? 1 : luaL_error(L, "no child");
}

int luaopen_forking(lua_State *L) {
  lua_pushcfunction(L, forked);
  return 1;
}
