/* exact_sum.c - see exact_sum.h. */
#include "core/exact_sum.h"

#include <string.h>

enum { EXPONENT_MAX = 0x7ff, FRACTION_BITS = 52, LAST = RONDO_SUM_WORDS - 1 };

#define MOST_PENDING (UINT32_C(1) << 30) /* each adds less than 2^33 to a word */

/* Brings every word but the last below 2^32. */
static void carry(rondo_exact_sum *sum) {
  for (int k = 0; k < LAST; k++) {
    sum->word[k + 1] += sum->word[k] >> 32;
    sum->word[k] &= UINT32_MAX;
  }
  sum->pending = 0;
}

void rondo_exact_sum_add(rondo_exact_sum *sum, double value) {
  uint64_t bits, fraction;
  memcpy(&bits, &value, sizeof bits);
  int exponent = (int)(bits >> FRACTION_BITS) & EXPONENT_MAX;
  fraction = bits & ((UINT64_C(1) << FRACTION_BITS) - 1);
  if (exponent == EXPONENT_MAX) {
    *(fraction != 0 ? &sum->nan : &sum->infinite) = true;
    return;
  }
  if (exponent > 0) { /* else subnormal: the same scale without the leading one */
    fraction |= UINT64_C(1) << FRACTION_BITS;
    exponent--;
  }
  int k = exponent / 32, shift = exponent % 32;
  uint64_t low = (fraction & UINT32_MAX) << shift, high = (fraction >> 32) << shift;
  sum->word[k] += low & UINT32_MAX;
  sum->word[k + 1] += (low >> 32) + (high & UINT32_MAX);
  sum->word[k + 2] += high >> 32;
  if (++sum->pending == MOST_PENDING) carry(sum);
}

/* The bit that counts 2^(at - 1074). */
static bool bit(const rondo_exact_sum *sum, int at) {
  return sum->word[at / 32] >> (at % 32) & 1;
}

static int highest_bit(const rondo_exact_sum *sum) {
  int at = 32 * RONDO_SUM_WORDS - 1;
  while (at >= 0 && !bit(sum, at)) at--;
  return at;
}

static bool any_below(const rondo_exact_sum *sum, int end) {
  for (int at = 0; at < end; at++)
    if (bit(sum, at)) return true;
  return false;
}

double rondo_exact_sum_value(const rondo_exact_sum *given) {
  rondo_exact_sum carried = *given;
  const rondo_exact_sum *sum = &carried;
  carry(&carried);
  uint64_t bits = 0;
  int top = highest_bit(sum), low = top > FRACTION_BITS ? top - FRACTION_BITS : 0;
  for (int at = top; at >= low; at--) bits = bits << 1 | bit(sum, at);
  /* With its leading one, the fraction counts as one step of the exponent; so does rounding up. */
  if (low > 0) {
    bool half = bit(sum, low - 1), odd = bits & 1;
    bits += (uint64_t)low << FRACTION_BITS;
    bits += half && (odd || any_below(sum, low - 1));
  }
  uint64_t infinity = (uint64_t)EXPONENT_MAX << FRACTION_BITS;
  if (sum->infinite || bits > infinity) bits = infinity;
  if (sum->nan) bits = infinity + 1;
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
