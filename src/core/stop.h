/* stop.h - when work is to end early: once somebody says so, or at a moment set before. */
#ifndef RONDO_CORE_STOP_H
#define RONDO_CORE_STOP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* The time for which no moment is set. */
#define RONDO_NEVER UINT64_MAX

typedef struct rondo_stop {
  atomic_bool asked;         /* anybody may set it, a signal handler, too */
  _Atomic uint64_t deadline; /* by rondo_clock(), or RONDO_NEVER */
} rondo_stop;

/* Nanoseconds since some fixed moment. */
static inline uint64_t rondo_clock(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* Once true, it stays so until somebody else changes *stop. */
static inline bool rondo_stop_is_due(const rondo_stop *stop) {
  if (atomic_load_explicit(&stop->asked, memory_order_relaxed)) return true;
  uint64_t deadline = atomic_load_explicit(&stop->deadline, memory_order_relaxed);
  return deadline != RONDO_NEVER && rondo_clock() > deadline;
}

#endif
