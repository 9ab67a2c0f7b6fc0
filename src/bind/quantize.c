/* quantize.c - schemes over row blocks. */
#include "bind/bind.h"

void rondo_open_quantize(lua_State *L) { (void)L; }
