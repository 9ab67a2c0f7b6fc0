/* tensor.c - tensors as Lua userdata. */
#include "bind/bind.h"

void rondo_open_tensor(lua_State *L) { (void)L; }
