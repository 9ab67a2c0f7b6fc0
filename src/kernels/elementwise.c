/* elementwise.c - one operation on arrays of f32 or f64, and sums of f64.
 * Included by table.c. A result that is NaN is the positive quiet NaN without payload (negation and
 * absolute value apart, which only touch the sign): which operand's NaN an instruction hands on
 * differs between processors. */
#include "kernels/elementary.h"

#define EACH(expression)                                \
  for (size_t i = 0; i < n; i++) out[i] = (expression); \
  break

static inline float minimum_f32(float a, float b) {
  float least = a < b ? a : a > b ? b : float_of(bits_of(a) | bits_of(b)); /* -0 before +0 */
  return a != a ? a : b != b ? b : least;
}

static inline float maximum_f32(float a, float b) {
  float most = a > b ? a : a < b ? b : float_of(bits_of(a) & bits_of(b));
  return a != a ? a : b != b ? b : most;
}

static inline double minimum_f64(double a, double b) {
  if (a == b) return __builtin_signbit(a) ? a : b;
  return a < b || a != a ? a : b;
}

static inline double maximum_f64(double a, double b) {
  if (a == b) return __builtin_signbit(a) ? b : a;
  return a > b || a != a ? a : b;
}

/* Lua's %: the sign of the divisor. */
static inline double modulo(double a, double b) {
  double rest = __builtin_fmod(a, b);
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

static inline double round_f64(double x) {
  double magic = __builtin_copysign(0x1p52, x);
  double rounded = __builtin_copysign((x + magic) - magic, x);
  return __builtin_fabs(x) < 0x1p52 ? rounded : x;
}

static inline double floor_f64(double x) {
  double rounded = round_f64(x);
  return __builtin_copysign(rounded > x ? rounded - 1 : rounded, x);
}

static inline double ceil_f64(double x) {
  double rounded = round_f64(x);
  return __builtin_copysign(rounded < x ? rounded + 1 : rounded, x);
}

static inline float round_f32(float x) {
  float magic = __builtin_copysignf(0x1p23f, x);
  float rounded = __builtin_copysignf((x + magic) - magic, x);
  return magnitude_of(x) < 0x1p23f ? rounded : x;
}

static inline float floor_f32(float x) {
  float rounded = round_f32(x);
  return __builtin_copysignf(rounded > x ? rounded - 1 : rounded, x);
}

static inline float ceil_f32(float x) {
  float rounded = round_f32(x);
  return __builtin_copysignf(rounded < x ? rounded + 1 : rounded, x);
}

static void plain_nans_f32(float *restrict out, size_t n) {
  for (size_t i = 0; i < n; i++) out[i] = out[i] == out[i] ? out[i] : float_of(0x7fc00000u);
}

static void plain_nans_f64(double *restrict out, size_t n) {
  const double plain = __builtin_nan("");
  for (size_t i = 0; i < n; i++) out[i] = out[i] == out[i] ? out[i] : plain;
}

static void binary_f32(rondo_binary op, const float *restrict a, const float *restrict b,
                       float *restrict out, size_t n) {
  switch (op) {
  case RONDO_ADD:
    EACH(a[i] + b[i]);
  case RONDO_SUBTRACT:
    EACH(a[i] - b[i]);
  case RONDO_MULTIPLY:
    EACH(a[i] * b[i]);
  case RONDO_DIVIDE:
    EACH(a[i] / b[i]);
  case RONDO_MINIMUM:
    EACH(minimum_f32(a[i], b[i]));
  case RONDO_MAXIMUM:
    EACH(maximum_f32(a[i], b[i]));
  case RONDO_FLOOR_DIVIDE:
    EACH(floor_f32(a[i] / b[i]));
  case RONDO_MODULO:
    EACH((float)modulo(a[i], b[i]));
  case RONDO_POWER:
    EACH((float)rondo_pow(a[i], b[i]));
  default:
    break;
  }
  plain_nans_f32(out, n);
}

static void binary_f64(rondo_binary op, const double *restrict a, const double *restrict b,
                       double *restrict out, size_t n) {
  switch (op) {
  case RONDO_ADD:
    EACH(a[i] + b[i]);
  case RONDO_SUBTRACT:
    EACH(a[i] - b[i]);
  case RONDO_MULTIPLY:
    EACH(a[i] * b[i]);
  case RONDO_DIVIDE:
    EACH(a[i] / b[i]);
  case RONDO_MINIMUM:
    EACH(minimum_f64(a[i], b[i]));
  case RONDO_MAXIMUM:
    EACH(maximum_f64(a[i], b[i]));
  case RONDO_FLOOR_DIVIDE:
    EACH(floor_f64(a[i] / b[i]));
  case RONDO_MODULO:
    EACH(modulo(a[i], b[i]));
  case RONDO_POWER:
    EACH(rondo_pow(a[i], b[i]));
  default:
    break;
  }
  plain_nans_f64(out, n);
}

static void unary_f32(rondo_unary op, const float *restrict a, float *restrict out, size_t n) {
  switch (op) {
  case RONDO_NEGATE:
    EACH(float_of(bits_of(a[i]) ^ 0x80000000u));
  case RONDO_ABSOLUTE:
    EACH(magnitude_of(a[i]));
  case RONDO_SQUARE_ROOT:
    EACH(__builtin_sqrtf(a[i]));
  case RONDO_EXP:
    EACH((float)rondo_exp(a[i]));
  case RONDO_LOG:
    EACH((float)rondo_log(a[i]));
  case RONDO_ROUND:
    EACH(round_f32(a[i]));
  case RONDO_FLOOR:
    EACH(floor_f32(a[i]));
  case RONDO_CEIL:
    EACH(ceil_f32(a[i]));
  case RONDO_SIGN:
    EACH(a[i] > 0 ? 1 : a[i] < 0 ? -1 : a[i]);
  case RONDO_SQUARE:
    EACH(a[i] * a[i]);
  default:
    break;
  }
  if (op != RONDO_NEGATE && op != RONDO_ABSOLUTE) plain_nans_f32(out, n);
}

static void unary_f64(rondo_unary op, const double *restrict a, double *restrict out, size_t n) {
  switch (op) {
  case RONDO_NEGATE:
    EACH(-a[i]);
  case RONDO_ABSOLUTE:
    EACH(__builtin_fabs(a[i]));
  case RONDO_SQUARE_ROOT:
    EACH(__builtin_sqrt(a[i]));
  case RONDO_EXP:
    EACH(rondo_exp(a[i]));
  case RONDO_LOG:
    EACH(rondo_log(a[i]));
  case RONDO_ROUND:
    EACH(round_f64(a[i]));
  case RONDO_FLOOR:
    EACH(floor_f64(a[i]));
  case RONDO_CEIL:
    EACH(ceil_f64(a[i]));
  case RONDO_SIGN:
    EACH(a[i] > 0 ? 1 : a[i] < 0 ? -1 : a[i]);
  case RONDO_SQUARE:
    EACH(a[i] * a[i]);
  default:
    break;
  }
  if (op != RONDO_NEGATE && op != RONDO_ABSOLUTE) plain_nans_f64(out, n);
}

static void compare_f32(rondo_comparison op, const float *restrict a, const float *restrict b,
                        uint8_t *restrict out, size_t n) {
  switch (op) {
  case RONDO_EQUAL:
    EACH(a[i] == b[i]);
  case RONDO_NOT_EQUAL:
    EACH(a[i] != b[i]);
  case RONDO_LESS:
    EACH(a[i] < b[i]);
  case RONDO_LESS_EQUAL:
    EACH(a[i] <= b[i]);
  case RONDO_GREATER:
    EACH(a[i] > b[i]);
  case RONDO_GREATER_EQUAL:
    EACH(a[i] >= b[i]);
  }
}

static void compare_f64(rondo_comparison op, const double *restrict a, const double *restrict b,
                        uint8_t *restrict out, size_t n) {
  switch (op) {
  case RONDO_EQUAL:
    EACH(a[i] == b[i]);
  case RONDO_NOT_EQUAL:
    EACH(a[i] != b[i]);
  case RONDO_LESS:
    EACH(a[i] < b[i]);
  case RONDO_LESS_EQUAL:
    EACH(a[i] <= b[i]);
  case RONDO_GREATER:
    EACH(a[i] > b[i]);
  case RONDO_GREATER_EQUAL:
    EACH(a[i] >= b[i]);
  }
}

#undef EACH

static double sum_f64(const double *restrict x, size_t n) {
  double lane[LANES] = {0};
  size_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    for (int l = 0; l < LANES; l++) lane[l] += x[i + (size_t)l];
  }
  for (size_t l = 0; i < n; i++, l++) lane[l] += x[i];
  return fold_lanes(lane);
}

static double sum_squares_f64(const double *restrict x, double center, size_t n) {
  double lane[LANES] = {0};
  size_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    for (int l = 0; l < LANES; l++) {
      double d = x[i + (size_t)l] - center;
      lane[l] += d * d;
    }
  }
  for (size_t l = 0; i < n; i++, l++) {
    double d = x[i] - center;
    lane[l] += d * d;
  }
  return fold_lanes(lane);
}

static void range_f64(const double *restrict x, size_t n, double *low, double *high, size_t *nans) {
  double least[LANES], most[LANES];
  uint64_t odd[LANES] = {0};
  for (int l = 0; l < LANES; l++) {
    least[l] = *low;
    most[l] = *high;
  }
  size_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    for (int l = 0; l < LANES; l++) {
      double v = x[i + (size_t)l];
      least[l] = v < least[l] ? v : least[l];
      most[l] = v > most[l] ? v : most[l];
      odd[l] += v != v;
    }
  }
  for (int l = 0; i < n; i++, l++) {
    least[l] = x[i] < least[l] ? x[i] : least[l];
    most[l] = x[i] > most[l] ? x[i] : most[l];
    odd[l] += x[i] != x[i];
  }
  for (int l = 0; l < LANES; l++) {
    *low = least[l] < *low ? least[l] : *low;
    *high = most[l] > *high ? most[l] : *high;
    *nans += odd[l];
  }
}
