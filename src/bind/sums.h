/* sums.h - the Lua value that gathers the errors of a layer. */
#ifndef RONDO_BIND_SUMS_H
#define RONDO_BIND_SUMS_H

#include "bind/bind.h"
#include "core/exact_sum.h"

typedef struct rondo_sums {
  rondo_exact_sum error, norm;
} rondo_sums;

/* options.sums of our own options, which keep it alive; NULL when the field is nil. */
rondo_sums *rondo_sums_field(lua_State *L, int options);

#endif
