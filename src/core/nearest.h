/* nearest.h - values on a map of up to 256 numbers. */
#ifndef RONDO_CORE_NEAREST_H
#define RONDO_CORE_NEAREST_H

#include "core/pool.h"

#include <stdint.h>

/* places[i]: the entry of the rising map [count, 1 to 256] that is nearest to values[i], the lower
 * of two as near; entries[i]: that entry. */
void rondo_nearest(rondo_pool *pool, const float *values, int64_t n, const float *map, int count,
                   uint8_t *places, float *entries);

#endif
