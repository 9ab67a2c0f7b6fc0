/* json.c - JSON text to Lua values. */
#include "bind/bind.h"

void rondo_open_json(lua_State *L) { (void)L; }
