/* file.c - output folders. */
#include "bind/bind.h"

void rondo_open_file(lua_State *L) { (void)L; }
