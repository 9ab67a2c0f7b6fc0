/* environment.h - the default floating-point environment (to nearest, no flush-to-zero, no traps)
 * for scalar work on the caller's thread, whatever the host has set. Work on many elements has it
 * from rondo_spread or rondo_pool_run.
 *
 * Between the two calls nothing may call Lua that can raise. The compiler may move arithmetic on
 * local values past them: such arithmetic belongs into a function of its own, not inlined, and if
 * it only computes a value, with environment_barrier() as its first line. */
#ifndef RONDO_CORE_ENVIRONMENT_H
#define RONDO_CORE_ENVIRONMENT_H

#include <fenv.h>
#include <stdbool.h>

typedef struct rondo_environment {
  bool changed;
  fenv_t saved;
} rondo_environment;

/* Keeps a function without side effects from being moved past one of the calls below. */
#define environment_barrier() __asm__ volatile("" ::: "memory")

/* Whether there is nothing to change; a look that costs a few cycles, where fesetenv costs a
 * hundred. False where that cannot be told so cheaply. */
static inline bool environment_is_default(void) {
#if defined(__x86_64__)
  return (__builtin_ia32_stmxcsr() & 0xffc0u) == 0x1f80u; /* all but the sticky flags */
#else
  return false;
#endif
}

static inline void environment_enter(rondo_environment *e) {
  e->changed = !environment_is_default();
  if (!e->changed) return;
  fegetenv(&e->saved);
  fesetenv(FE_DFL_ENV);
}

static inline void environment_leave(const rondo_environment *e) {
  if (e->changed) fesetenv(&e->saved);
}

#endif
