/* nearest.c - see nearest.h. A value lies above as many midpoints as its place says; they are
 * searched by halves, in double, where they are exact. */
#include "core/nearest.h"

#include "core/checked.h"

#include <math.h>

enum { ENTRIES = 256, TASK_VALUES = 16384 };

typedef struct {
  const float *values, *map;
  int64_t n;
  double middle[ENTRIES - 1]; /* infinite where there are fewer */
  uint8_t *places;
  float *entries;
} job;

static int place_of(const double *middle, double value) {
  int place = 0;
  for (int step = ENTRIES / 2; step > 0; step /= 2) {
    place += value > middle[place + step - 1] ? step : 0;
  }
  return place;
}

static void nearest_task(void *context, size_t task, int worker) {
  (void)worker;
  job *j = context;
  int64_t first = (int64_t)task * TASK_VALUES;
  int64_t last = first + TASK_VALUES < j->n ? first + TASK_VALUES : j->n;
  for (int64_t i = first; i < last; i++) {
    int place = place_of(j->middle, j->values[i]);
    j->places[i] = (uint8_t)place;
    j->entries[i] = j->map[place];
  }
}

void rondo_nearest(rondo_pool *pool, const float *values, int64_t n, const float *map, int count,
                   uint8_t *places, float *entries) {
  job j = {.values = values, .map = map, .n = n, .places = places, .entries = entries};
  for (int i = 0; i < ENTRIES - 1; i++) {
    j.middle[i] = i + 1 < count ? ((double)map[i] + map[i + 1]) / 2 : INFINITY;
  }
  rondo_pool_run(pool, (size_t)ceil_div_i64(n, TASK_VALUES), nearest_task, &j);
}
