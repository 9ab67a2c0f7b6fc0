/* checked.h - the one place where sizes that come from files or callers are computed.
 * Every function returns false on overflow and leaves *result unspecified then. */
#ifndef RONDO_CORE_CHECKED_H
#define RONDO_CORE_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

static inline bool checked_add_u64(uint64_t a, uint64_t b, uint64_t *result) {
  return !__builtin_add_overflow(a, b, result);
}

static inline bool checked_mul_u64(uint64_t a, uint64_t b, uint64_t *result) {
  return !__builtin_mul_overflow(a, b, result);
}

static inline bool checked_mul_i64(int64_t a, int64_t b, int64_t *result) {
  return !__builtin_mul_overflow(a, b, result);
}

/* a / b rounded up; b > 0, a >= 0. Cannot overflow. */
static inline int64_t ceil_div_i64(int64_t a, int64_t b) {
  return a / b + (a % b != 0);
}

#endif
