/* spread.h - a range of work cut into equal pieces and given to the thread pool. */
#ifndef RONDO_CORE_SPREAD_H
#define RONDO_CORE_SPREAD_H

#include "core/pool.h"

#include <stdint.h>

/* Handles items first .. first+count-1; piece counts the pieces from 0. */
typedef void (*rondo_piece)(void *context, int64_t first, int64_t count, int64_t piece);

/* Calls body for pieces of `grain` items (the last one shorter) that cover 0 .. count-1, under the
 * default floating-point environment. pool NULL: in order, on the calling thread. The pieces do
 * not depend on the pool. */
void rondo_spread(rondo_pool *pool, int64_t count, int64_t grain, rondo_piece body, void *context);

#endif
