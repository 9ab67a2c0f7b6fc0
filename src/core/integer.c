/* integer.c - operations on arrays of 64-bit integers. Wrapping is done on unsigned values. */
#include "core/integer.h"

#define EACH(expression)                                         \
  for (size_t i = 0; i < n; i++) out[i] = (int64_t)(expression); \
  break

/* Rounds down, as Lua's // does; b is not 0. */
static int64_t floor_divide(int64_t a, int64_t b) {
  if (b == -1) return (int64_t)(0 - (uint64_t)a);
  int64_t quotient = a / b;
  return quotient - (a % b != 0 && (a < 0) != (b < 0));
}

static int64_t modulo(int64_t a, int64_t b) {
  if (b == -1) return 0;
  int64_t rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

static bool divide(rondo_binary op, bool is_unsigned, const int64_t *restrict a,
                   const int64_t *restrict b, int64_t *restrict out, size_t n) {
  bool whole = true, quotient = op == RONDO_FLOOR_DIVIDE;
  for (size_t i = 0; i < n; i++) {
    uint64_t m = (uint64_t)a[i], d = (uint64_t)b[i];
    if (b[i] == 0) {
      out[i] = 0;
      whole = false;
    } else if (is_unsigned) {
      out[i] = (int64_t)(quotient ? m / d : m % d);
    } else {
      out[i] = quotient ? floor_divide(a[i], b[i]) : modulo(a[i], b[i]);
    }
  }
  return whole;
}

static int64_t power(int64_t a, int64_t exponent) {
  uint64_t result = 1, base = (uint64_t)a;
  for (int64_t left = exponent; left > 0; left >>= 1, base *= base) {
    if (left & 1) result *= base;
  }
  return (int64_t)result;
}

bool rondo_binary_i64(rondo_binary op, bool is_unsigned, const int64_t *a, const int64_t *b,
                      int64_t *restrict out, size_t n) {
  /* Exclusive or with this bit turns the order of u64 into that of i64. */
  const int64_t flip = is_unsigned ? INT64_MIN : 0;
  switch (op) {
  case RONDO_ADD:
    EACH((uint64_t)a[i] + (uint64_t)b[i]);
  case RONDO_SUBTRACT:
    EACH((uint64_t)a[i] - (uint64_t)b[i]);
  case RONDO_MULTIPLY:
    EACH((uint64_t)a[i] * (uint64_t)b[i]);
  case RONDO_MINIMUM:
    EACH((a[i] ^ flip) < (b[i] ^ flip) ? a[i] : b[i]);
  case RONDO_MAXIMUM:
    EACH((a[i] ^ flip) > (b[i] ^ flip) ? a[i] : b[i]);
  case RONDO_AND:
    EACH(a[i] & b[i]);
  case RONDO_OR:
    EACH(a[i] | b[i]);
  case RONDO_XOR:
    EACH(a[i] ^ b[i]);
  case RONDO_POWER:
    EACH(power(a[i], b[i]));
  default:
    return divide(op, is_unsigned, a, b, out, n);
  }
  return true;
}

void rondo_unary_i64(rondo_unary op, rondo_dtype dtype, const int64_t *a, int64_t *restrict out,
                     size_t n) {
  const bool wide = dtype == RONDO_U64;
  switch (op) {
  case RONDO_NEGATE:
    EACH(0 - (uint64_t)a[i]);
  case RONDO_ABSOLUTE:
    EACH(a[i] < 0 && !wide ? 0 - (uint64_t)a[i] : (uint64_t)a[i]);
  case RONDO_SIGN:
    EACH(wide ? a[i] != 0 : (a[i] > 0) - (a[i] < 0));
  case RONDO_SQUARE:
    EACH((uint64_t)a[i] * (uint64_t)a[i]);
  case RONDO_NOT:
    EACH(dtype == RONDO_BOOL ? a[i] == 0 : ~a[i]);
  default:
    EACH(a[i]); /* round, floor, ceil */
  }
}

#undef EACH

#define EACH(comparison)                                                     \
  for (size_t i = 0; i < n; i++) {                                           \
    __extension__ __int128 x = a_unsigned ? (__int128)(uint64_t)a[i] : a[i]; \
    __extension__ __int128 y = b_unsigned ? (__int128)(uint64_t)b[i] : b[i]; \
    out[i] = x comparison y;                                                 \
  }                                                                          \
  break

void rondo_compare_i64(rondo_comparison op, bool a_unsigned, const int64_t *a, bool b_unsigned,
                       const int64_t *b, uint8_t *restrict out, size_t n) {
  switch (op) {
  case RONDO_EQUAL:
    EACH(==);
  case RONDO_NOT_EQUAL:
    EACH(!=);
  case RONDO_LESS:
    EACH(<);
  case RONDO_LESS_EQUAL:
    EACH(<=);
  case RONDO_GREATER:
    EACH(>);
  case RONDO_GREATER_EQUAL:
    EACH(>=);
  }
}
