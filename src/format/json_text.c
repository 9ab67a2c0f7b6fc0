/* json_text.c - the text of JSON numbers and strings: exact both ways, whatever the locale. */
#include "format/json.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool rondo_json_u64(rondo_text text, uint64_t *value) {
  uint64_t v = 0;
  if (text.length == 0) return false;
  for (size_t i = 0; i < text.length; i++) {
    char c = text.text[i];
    if (c < '0' || c > '9') return false;
    if (__builtin_mul_overflow(v, 10u, &v)) return false;
    if (__builtin_add_overflow(v, (uint64_t)(c - '0'), &v)) return false;
  }
  if (text.length > 1 && text.text[0] == '0') return false;
  *value = v;
  return true;
}

bool rondo_json_i64(rondo_text text, int64_t *value) {
  bool negative = text.length > 0 && text.text[0] == '-';
  rondo_text digits = {text.text + negative, text.length - negative};
  uint64_t v;
  if (!rondo_json_u64(digits, &v) || (negative && v == 0)) return false;
  if (v > (uint64_t)INT64_MAX + negative) return false;
  *value = negative ? (int64_t)(0 - v) : (int64_t)v;
  return true;
}

bool rondo_json_real(rondo_text text, double *value) {
  if (text.length == 3 && memcmp(text.text, "NaN", 3) == 0) return *value = (double)NAN, true;
  bool negative = text.text[0] == '-';
  if (text.text[negative] == 'I')
    return *value = negative ? -(double)INFINITY : (double)INFINITY, true;
  /* glibc and musl keep one static "C" locale: making it neither fails nor allocates there */
  locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
  if (plain == (locale_t)0) return false;
  *value = strtod_l(text.text, NULL, plain); /* ends at the first byte that is not the number's */
  freelocale(plain);
  return isfinite(*value);
}

/* Writes the escape for a byte that must not stand in a string; returns its length. */
static size_t escape(char c, char piece[8]) {
  static const char letters[] = "\"\\bfnrt", values[] = "\"\\\b\f\n\r\t";
  const char *special = c != '\0' ? strchr(values, c) : NULL;
  if (special == NULL) return (size_t)snprintf(piece, 8, "\\u%04x", (unsigned)c);
  piece[0] = '\\';
  piece[1] = letters[special - values];
  return 2;
}

size_t rondo_json_quote(rondo_text text, char *out) {
  size_t used = 1;
  char piece[8];
  if (out != NULL) out[0] = '"';
  for (size_t i = 0; i < text.length; i++) {
    char c = text.text[i];
    bool plain = (unsigned char)c >= 0x20 && c != '"' && c != '\\';
    size_t length = plain ? 1 : escape(c, piece);
    if (out != NULL) memcpy(out + used, plain ? &c : piece, length);
    used += length;
  }
  if (out != NULL) out[used] = '"';
  return used + 1;
}

size_t rondo_json_write_real(double value, char out[RONDO_JSON_REAL_SIZE]) {
  locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
  locale_t old = plain != (locale_t)0 ? uselocale(plain) : (locale_t)0;
  int length = 0;
  int few = fabs(value) < DBL_MIN ? 1 : 15; /* what has 15 digits or fewer reads back by 15 */
  for (int digits = few; digits <= 17; digits++) {
    length = snprintf(out, RONDO_JSON_REAL_SIZE - 2, "%.*g", digits, value);
    if (strtod(out, NULL) == value) break;
  }
  if (plain != (locale_t)0) {
    uselocale(old);
    freelocale(plain);
  }
  if (out[strcspn(out, ".e")] == '\0') {
    memcpy(out + length, ".0", 3);
    length += 2;
  }
  return (size_t)length;
}
