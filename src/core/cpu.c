/* cpu.c - chooses a table of kernels once per process. */
#include "core/cpu.h"

#include "core/error.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* The baseline of the architecture, which every processor of it runs, comes first. */
#if defined(__x86_64__)
static const rondo_kernels *const tables[] = {&rondo_kernels_base, &rondo_kernels_v3,
                                              &rondo_kernels_v4};
static bool supported(const rondo_kernels *table) {
  if (table == &rondo_kernels_v3) return __builtin_cpu_supports("x86-64-v3");
  if (table == &rondo_kernels_v4) return __builtin_cpu_supports("x86-64-v4");
  return true;
}
#else
#if defined(__aarch64__)
static const rondo_kernels *const tables[] = {&rondo_kernels_neon};
#else
static const rondo_kernels *const tables[] = {&rondo_kernels_base};
#endif
static bool supported(const rondo_kernels *table) {
  (void)table;
  return true;
}
#endif
enum { TABLE_COUNT = sizeof tables / sizeof *tables };

const rondo_kernels *rondo_kernels_at(size_t i) {
  for (size_t k = 0; k < TABLE_COUNT; k++) {
    if (supported(tables[k]) && i-- == 0) return tables[k];
  }
  return NULL;
}

const rondo_kernels *rondo_kernels_named(const char *isa) {
  for (size_t i = 0; i < TABLE_COUNT; i++) {
    if (strcmp(tables[i]->isa, isa) == 0 && supported(tables[i])) return tables[i];
  }
  return strcmp(isa, "base") == 0 ? tables[0] : NULL;
}

static const rondo_kernels *chosen;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void choose(void) {
  const char *forced = getenv("RONDO_ISA");
  if (forced != NULL && forced[0] != '\0') {
    chosen = rondo_kernels_named(forced);
    return;
  }
  for (size_t i = 0; i < TABLE_COUNT; i++) {
    if (supported(tables[i])) chosen = tables[i];
  }
}

const rondo_kernels *rondo_kernels_best(rondo_error *e) {
  pthread_once(&once, choose);
  if (chosen == NULL) {
    char known[64] = "base";
    for (size_t i = 0; rondo_kernels_at(i) != NULL; i++) {
      if (strcmp(rondo_kernels_at(i)->isa, "base") == 0) continue;
      strcat(known, ", ");
      strcat(known, rondo_kernels_at(i)->isa);
    }
    rondo_fail(e, RONDO_USAGE, "RONDO_ISA=%s: this processor runs %s", getenv("RONDO_ISA"), known);
  }
  return chosen;
}
