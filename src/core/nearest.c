/* nearest.c - see nearest.h. A value lies above as many midpoints as its place says; they are
 * searched by halves, in double, where they are exact. */
#include "core/nearest.h"

#include "core/checked.h"

#include <math.h>
#include <string.h>

enum { ENTRIES = 256, TASK_VALUES = 16384, LANES = 16 };

typedef struct {
  const float *values, *map;
  int64_t n;
  double middle[ENTRIES - 1]; /* infinite where there are fewer */
  uint8_t *places;
  float *entries;
} job;

/* Places of LANES values: one step of all at once, since each waits for its own one before. */
static void places_of(const double *middle, const float *values, int *places) {
  for (int k = 0; k < LANES; k++) places[k] = 0;
  for (int step = ENTRIES / 2; step > 0; step /= 2) {
    for (int k = 0; k < LANES; k++) {
      places[k] += values[k] > middle[places[k] + step - 1] ? step : 0;
    }
  }
}

static void nearest_task(void *context, size_t task, int worker) {
  (void)worker;
  job *j = context;
  int64_t first = (int64_t)task * TASK_VALUES;
  int64_t last = first + TASK_VALUES < j->n ? first + TASK_VALUES : j->n;
  for (int64_t at = first; at < last; at += LANES) {
    float values[LANES] = {0};
    int places[LANES], n = last - at < LANES ? (int)(last - at) : LANES;
    memcpy(values, j->values + at, (size_t)n * sizeof *values);
    places_of(j->middle, values, places);
    for (int k = 0; k < n; k++) {
      j->places[at + k] = (uint8_t)places[k];
      j->entries[at + k] = j->map[places[k]];
    }
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
