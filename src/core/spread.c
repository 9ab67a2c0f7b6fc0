/* spread.c - a range of work cut into equal pieces. */
#include "core/spread.h"

#include "core/checked.h"
#include "core/environment.h"

typedef struct {
  int64_t count, grain;
  rondo_piece body;
  void *context;
} spread;

static void run_piece(void *context, size_t task, int worker) {
  (void)worker;
  const spread *s = context;
  int64_t first = (int64_t)task * s->grain, left = s->count - first;
  s->body(s->context, first, left < s->grain ? left : s->grain, (int64_t)task);
}

void rondo_spread(rondo_pool *pool, int64_t count, int64_t grain, rondo_piece body, void *context) {
  spread s = {count, grain, body, context};
  size_t pieces = (size_t)ceil_div_i64(count, grain);
  if (pool != NULL) {
    rondo_pool_run(pool, pieces, run_piece, &s);
    return;
  }
  rondo_environment host;
  environment_replace(&host);
  for (size_t i = 0; i < pieces; i++) run_piece(&s, i, 0);
  environment_leave(&host);
}
