/* elementary.h - exp, log and powers from nothing but correctly rounded operations, so that every
 * machine gives the same bits (the ones in libm differ between versions and instruction sets).
 * Errors stay below 2 units in the last place of a double for exp and log. */
#ifndef RONDO_KERNELS_ELEMENTARY_H
#define RONDO_KERNELS_ELEMENTARY_H

#include <stdint.h>
#include <string.h>

/* log(2) in two parts; the first has 21 zero bits at its end, so products with |k| < 2^20 of it
 * are exact. */
#define RONDO_LN2_HIGH 0x1.62e42fee00000p-1
#define RONDO_LN2_LOW 0x1.a39ef35793c76p-33

static inline double rondo_exp(double x) {
  const double magic = 0x1.8p52;
  double y = x < -746 ? -746 : x > 710 ? 710 : x;
  double shifted = y * 0x1.71547652b82fep+0 + magic;
  double k = shifted - magic;
  double r = (y - k * RONDO_LN2_HIGH) - k * RONDO_LN2_LOW; /* |r| <= log(2) / 2 */
  double sum = 1.0 / 6227020800.0;                         /* the series up to r^13 / 13! */
  sum = sum * r + 1.0 / 479001600.0;
  sum = sum * r + 1.0 / 39916800.0;
  sum = sum * r + 1.0 / 3628800.0;
  sum = sum * r + 1.0 / 362880.0;
  sum = sum * r + 1.0 / 40320.0;
  sum = sum * r + 1.0 / 5040.0;
  sum = sum * r + 1.0 / 720.0;
  sum = sum * r + 1.0 / 120.0;
  sum = sum * r + 1.0 / 24.0;
  sum = sum * r + 1.0 / 6.0;
  sum = sum * r + 0.5;
  sum = (sum * r) * r + r + 1.0;
  /* Times 2^k in two steps: k reaches below the smallest normal exponent. The low bits of
   * `shifted` hold k; for NaN they are of no importance. */
  uint64_t bits;
  memcpy(&bits, &shifted, sizeof bits);
  int64_t exponent = (int64_t)(bits & 0xfff) - (int64_t)((bits & 0x800) << 1);
  uint64_t half = (uint64_t)(exponent / 2 + 1023) << 52;
  uint64_t rest = (uint64_t)(exponent - exponent / 2 + 1023) << 52;
  double first, second;
  memcpy(&first, &half, sizeof first);
  memcpy(&second, &rest, sizeof second);
  return sum * first * second;
}

static inline double rondo_log(double x) {
  double y = x < 0x1p-1022 ? x * 0x1p54 : x;
  uint64_t bits;
  memcpy(&bits, &y, sizeof bits);
  /* x = m * 2^e with m from sqrt(1/2) to sqrt(2). */
  int64_t e = (int64_t)(bits - 0x3fe6a09e667f3bcdull) >> 52;
  bits -= (uint64_t)e << 52;
  double m, k = (double)(x < 0x1p-1022 ? e - 54 : e);
  memcpy(&m, &bits, sizeof m);
  /* With s = f / (2 + f): log(1 + f) = 2 (s + s^3 / 3 + s^5 / 5 + ...), and 2 s = f - s f. */
  double f = m - 1, s = f / (2 + f), z = s * s;
  double series = 2.0 / 23;
  series = series * z + 2.0 / 21;
  series = series * z + 2.0 / 19;
  series = series * z + 2.0 / 17;
  series = series * z + 2.0 / 15;
  series = series * z + 2.0 / 13;
  series = series * z + 2.0 / 11;
  series = series * z + 2.0 / 9;
  series = series * z + 2.0 / 7;
  series = series * z + 2.0 / 5;
  series = series * z + 2.0 / 3;
  double r = series * z;
  double result = k * RONDO_LN2_HIGH + (f - (s * (f - r) - k * RONDO_LN2_LOW));
  result = x > 0x1.fffffffffffffp1023 ? x : result;
  result = x > 0 ? result : x == 0 ? -__builtin_inf() : __builtin_nan("");
  return result;
}

/* x^y. Whole exponents up to 64 by multiplication, 0.5 as a square root; the others by exp and
 * log, whose relative error grows to about |y log x| units in the last place of a double. */
static inline double rondo_pow(double x, double y) {
  double n = __builtin_fabs(y), magnitude = __builtin_fabs(x), result = 1;
  if (y == 0.5) return __builtin_sqrt(x);
  if (n <= 64 && n == (double)(int)n) {
    for (int left = (int)n; left > 0; left >>= 1, x *= x) {
      if (left & 1) result *= x;
    }
    return y < 0 ? 1 / result : result;
  }
  if (magnitude != 1 || y != y) result = rondo_exp(y * rondo_log(magnitude));
  if (x >= 0 || x != x) return result;
  if (!(n < 0x1p53)) return result; /* even, or NaN */
  if (n != (double)(int64_t)n) return __builtin_nan("");
  return (int64_t)n & 1 ? -result : result;
}

#endif
