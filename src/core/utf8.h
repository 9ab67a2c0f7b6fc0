/* utf8.h - what counts as UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef RONDO_CORE_UTF8_H
#define RONDO_CORE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The length of the valid sequence that starts at text (size > 0 bytes left), 0 if there is none.
 */
static inline size_t utf8_length(const char *text, size_t size) {
  static const uint32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
  const unsigned char *s = (const unsigned char *)text;
  if (s[0] < 0x80) return 1;
  size_t length = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
  if (s[0] < 0xc2 || s[0] > 0xf4 || length > size) return 0;
  uint32_t code = s[0] & (0xffu >> (length + 1));
  for (size_t i = 1; i < length; i++) {
    if ((s[i] & 0xc0) != 0x80) return 0;
    code = code << 6 | (s[i] & 0x3f);
  }
  bool surrogate = code >= 0xd800 && code <= 0xdfff;
  return code < smallest[length] || surrogate || code > 0x10ffff ? 0 : length;
}

static inline bool utf8_valid(const char *text, size_t size) {
  for (size_t at = 0; at < size;) {
    size_t length = utf8_length(text + at, size - at);
    if (length == 0) return false;
    at += length;
  }
  return true;
}

#endif
