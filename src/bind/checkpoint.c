/* checkpoint.c - safetensors checkpoints. */
#include "bind/bind.h"

void rondo_open_checkpoint(lua_State *L) { (void)L; }
