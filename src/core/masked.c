/* masked.c - the elements of a tensor where a mask is true, chunk by chunk in row-major order. */
#include "core/masked.h"

#include "core/dtype.h"
#include "core/gather.h"
#include "core/tensor.h"

#include <string.h>

enum { CHUNK = 512 };

typedef struct {
  rondo_tensor t, mask;
  int64_t count;
  size_t size;
  unsigned char truth[CHUNK];
  char elements[CHUNK * 8];
} masking;

static void prepare(masking *m, const rondo_tensor *t, const rondo_tensor *mask) {
  m->t = *t;
  m->mask = *mask;
  m->count = rondo_tensor_count(t);
  m->size = rondo_dtype_size(t->dtype);
  rondo_tensor_coalesce(&m->t);
  rondo_tensor_coalesce(&m->mask);
}

static size_t read_chunk(masking *m, int64_t first) {
  int64_t left = m->count - first;
  size_t n = (size_t)(left < CHUNK ? left : CHUNK);
  rondo_gather(&m->mask, first, n, m->truth);
  rondo_gather(&m->t, first, n, m->elements);
  return n;
}

void rondo_take_masked(const rondo_tensor *t, const rondo_tensor *mask, void *out) {
  masking m;
  char *target = out;
  prepare(&m, t, mask);
  for (int64_t first = 0; first < m.count; first += CHUNK) {
    size_t n = read_chunk(&m, first);
    for (size_t i = 0; i < n; i++) {
      if (m.truth[i] == 0) continue;
      memcpy(target, m.elements + i * m.size, m.size);
      target += m.size;
    }
  }
}

void rondo_put_masked(const rondo_tensor *t, const rondo_tensor *mask, const void *values,
                      bool repeat_first) {
  masking m;
  const char *source = values;
  prepare(&m, t, mask);
  for (int64_t first = 0; first < m.count; first += CHUNK) {
    size_t n = read_chunk(&m, first);
    for (size_t i = 0; i < n; i++) {
      if (m.truth[i] == 0) continue;
      memcpy(m.elements + i * m.size, source, m.size);
      if (!repeat_first) source += m.size;
    }
    rondo_scatter(&m.t, first, n, m.elements);
  }
}
