/* exact_sum.h - sums of doubles that are rounded once, at the end: the order in which values come,
 * and how they are divided among tiles, does not matter. Integers only, so that no floating-point
 * environment does either. */
#ifndef RONDO_CORE_EXACT_SUM_H
#define RONDO_CORE_EXACT_SUM_H

#include <stdbool.h>
#include <stdint.h>

enum { RONDO_SUM_WORDS = 67 };

/* A fixed-point number that holds every double from 0 up: word k counts 2^(32 k - 1074). All zeros
 * is zero. Words may hold more than 32 bits until they are carried on. */
typedef struct rondo_exact_sum {
  uint64_t word[RONDO_SUM_WORDS];
  uint32_t pending;   /* values added since words were carried on */
  bool nan, infinite; /* whether there was one */
} rondo_exact_sum;

/* Adds value; its sign is ignored. */
void rondo_exact_sum_add(rondo_exact_sum *sum, double value);

/* The sum rounded to nearest, ties to even; infinity where that is too large. */
double rondo_exact_sum_value(const rondo_exact_sum *sum);

#endif
