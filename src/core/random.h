/* random.h - random numbers with the same bits on every machine.
 *
 * The generator is xoshiro256++ (Blackman and Vigna), its four words of state taken from splitmix64
 * started at the seed. Uniform numbers are as many of its upper bits as the type holds, times a
 * power of two: 0 <= x < 1, each exact. Normal numbers come in pairs from Marsaglia's polar method
 * in f64, with the logarithm of kernels/elementary.h, and are rounded to the type. */
#ifndef RONDO_CORE_RANDOM_H
#define RONDO_CORE_RANDOM_H

#include "kernels/kernels.h"

typedef struct rondo_random {
  uint64_t s[4];
  bool has_spare; /* the second normal number of a pair */
  double spare;
} rondo_random;

void rondo_random_seed(rondo_random *r, uint64_t seed);

/* Fill a row-major tensor of a floating type, in order. */
void rondo_fill_uniform(rondo_random *r, const rondo_kernels *k, const rondo_tensor *t);
void rondo_fill_normal(rondo_random *r, const rondo_kernels *k, const rondo_tensor *t);

#endif
