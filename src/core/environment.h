/* environment.h - the default floating-point environment (to nearest, no flush-to-zero, no traps),
 * whatever the host has set, whose environment comes back afterwards: environment_replace around
 * work on many elements (rondo_spread and rondo_pool_run have it), the cheaper environment_enter
 * around scalar work on the caller's thread.
 *
 * Between the two calls nothing may call Lua that can raise. The compiler may move arithmetic on
 * local values past them: such arithmetic belongs into a function of its own, not inlined, and if
 * it only computes a value, with environment_barrier() as its first line. */
#ifndef RONDO_CORE_ENVIRONMENT_H
#define RONDO_CORE_ENVIRONMENT_H

#include <fenv.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct rondo_environment {
  bool changed;
  fenv_t saved;
  uint64_t control; /* aarch64: all of FPCR */
} rondo_environment;

/* Keeps a function without side effects from being moved past one of the calls below. */
#define environment_barrier() __asm__ volatile("" ::: "memory")

/* The C library leaves some bits of FPCR alone: default NaN, other half floats, their flushing. */
static inline uint64_t environment_control(void) {
  uint64_t control = 0;
#if defined(__aarch64__)
  __asm__ volatile("mrs %0, fpcr" : "=r"(control));
#endif
  return control;
}

static inline void environment_set_control(uint64_t control) {
#if defined(__aarch64__)
  __asm__ volatile("msr fpcr, %0" : : "r"(control) : "memory");
#else
  (void)control;
#endif
}

/* Whether there is nothing to change; a look that costs a few cycles, where fesetenv costs a
 * hundred. False where that cannot be told so cheaply. */
static inline bool environment_is_default(void) {
#if defined(__x86_64__)
  return (__builtin_ia32_stmxcsr() & 0xffc0u) == 0x1f80u; /* all but the sticky flags */
#elif defined(__aarch64__)
  return environment_control() == 0;
#else
  return false;
#endif
}

static inline void environment_replace(rondo_environment *e) {
  e->changed = true;
  e->control = environment_control();
  fegetenv(&e->saved);
  fesetenv(FE_DFL_ENV);
  environment_set_control(0);
}

static inline void environment_enter(rondo_environment *e) {
  e->changed = false;
  if (!environment_is_default()) environment_replace(e);
}

static inline void environment_leave(const rondo_environment *e) {
  if (!e->changed) return;
  fesetenv(&e->saved);
  environment_set_control(e->control);
}

#endif
