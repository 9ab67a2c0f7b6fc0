/* check_quotient.c - the proof that src/kernels/quant.c refers to.
 *
 * Quantizing finds x / scale as q = x * inverse, inverse = 1 / scale rounded, corrected by the
 * residual: q + (x - q * scale) * inverse, with two fused multiply-adds. A code changes where the
 * quotient passes a half integer or a cut of a codebook, so the result has to be the rounded
 * quotient there. This program looks at every mantissa of the scale, and for each such place at the
 * floats x around place * scale and around the two middles between the place and its neighbours.
 * Powers of two in scale and x change nothing but exponents, signs only signs; the kernels divide
 * where exponents could leave the normal range.
 *
 *   cc -O3 -march=native -ffp-contract=off tools/check_quotient.c -lm && ./a.out [LARGEST [STEP]]
 *
 * LARGEST: half integers up to it (258: all of 8 bits; about a minute), STEP: every STEP-th
 * mantissa. Prints the number of places and of differences; exit status 1 where there are any. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

static uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

/* The positive values of the 4-bit codebooks; cuts are the middles of neighbours. */
static const double nf4[] = {-1.0,
                             -0.6961928009986877,
                             -0.5250730514526367,
                             -0.39491748809814453,
                             -0.28444138169288635,
                             -0.18477343022823334,
                             -0.09105003625154495,
                             0.0,
                             0.07958029955625534,
                             0.16093020141124725,
                             0.24611230194568634,
                             0.33791524171829224,
                             0.44070982933044434,
                             0.5626170039176941,
                             0.7229568362236023,
                             1.0};
static const double fp4_bnb[] = {0, 0.0625, 2, 3, 4, 6, 8, 12};
static const double fp4_e2m1[] = {0, 0.0625, 1, 1.5, 2, 3, 4, 6};
static const double e2m1[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};

static size_t add_cuts(float *places, size_t n, const double *values, size_t count) {
  for (size_t i = 0; i + 1 < count; i++) {
    places[n++] = fabsf((float)((values[i] + values[i + 1]) * 0.5));
  }
  return n;
}

static uint64_t differences_at(float place, float scale, float inverse) {
  uint64_t found = 0;
  float neighbours[] = {nextafterf(place, 0), place, nextafterf(place, INFINITY)};
  for (int side = 0; side < 3; side++) {
    double middle = ((double)place + neighbours[side]) / 2;
    float x0 = (float)(middle * scale);
    for (int step = -2; step <= 2; step++) {
      float x = float_of(bits_of(x0) + (uint32_t)step), q = x * inverse;
      float corrected = fmaf(fmaf(-q, scale, x), inverse, q);
      found += corrected != x / scale;
    }
  }
  return found;
}

int main(int argc, char **argv) {
  int largest = argc > 1 ? atoi(argv[1]) : 258, step = argc > 2 ? atoi(argv[2]) : 1;
  if (largest < 1 || largest > 4096 || step < 1) return 2;
  float *places = malloc(((size_t)largest + 64) * sizeof *places);
  if (places == NULL) return 2;
  size_t count = 0;
  for (int i = 0; i < largest; i++) places[count++] = (float)i + 0.5f;
  count = add_cuts(places, count, nf4, sizeof nf4 / sizeof *nf4);
  count = add_cuts(places, count, fp4_bnb, sizeof fp4_bnb / sizeof *fp4_bnb);
  count = add_cuts(places, count, fp4_e2m1, sizeof fp4_e2m1 / sizeof *fp4_e2m1);
  count = add_cuts(places, count, e2m1, sizeof e2m1 / sizeof *e2m1);
  uint64_t found = 0, looked = 0;
  for (uint32_t mantissa = 0; mantissa < 1u << 23; mantissa += (uint32_t)step) {
    float scale = float_of(0x3f800000u | mantissa), inverse = 1.0f / scale;
    for (size_t i = 0; i < count; i++) found += differences_at(places[i], scale, inverse);
    looked += count;
  }
  printf("%llu places, %llu differences\n", (unsigned long long)looked, (unsigned long long)found);
  free(places);
  return found != 0;
}
