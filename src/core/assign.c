/* assign.c - whole tensors into others, in chunks that stay in the first-level cache. */
#include "core/assign.h"

#include "core/dtype.h"
#include "core/element.h"
#include "core/gather.h"
#include "core/spread.h"
#include "core/tensor.h"

enum { CHUNK = 1024, GRAIN = 1 << 16 };

typedef struct {
  const rondo_kernels *k;
  rondo_tensor target, source;
} assignment;

static void assign_chunk(const assignment *a, int64_t first, size_t n) {
  _Alignas(64) char gathered[CHUNK * 8], converted[CHUNK * 8];
  const void *from = rondo_peek(&a->source, first, n);
  if (from == NULL) {
    rondo_gather(&a->source, first, n, gathered);
    from = gathered;
  }
  void *to = (void *)rondo_peek(&a->target, first, n);
  bool in_place = to != NULL && (uintptr_t)to % 8 == 0;
  rondo_convert(a->k, a->source.dtype, from, a->target.dtype, in_place ? to : converted, n);
  if (!in_place) rondo_scatter(&a->target, first, n, converted);
}

static void assign_piece(void *context, int64_t first, int64_t count, int64_t piece) {
  (void)piece;
  for (int64_t done = 0; done < count; done += CHUNK) {
    int64_t left = count - done;
    assign_chunk(context, first + done, (size_t)(left < CHUNK ? left : CHUNK));
  }
}

void rondo_assign(rondo_pool *pool, const rondo_kernels *k, const rondo_tensor *target,
                  const rondo_tensor *source) {
  int64_t count = rondo_tensor_count(target);
  assignment a = {k, *target, *source};
  rondo_tensor_coalesce(&a.target);
  rondo_tensor_coalesce(&a.source);
  rondo_spread(pool, count, GRAIN, assign_piece, &a);
}
