/* error.c - filling a rondo_error: bounded, printable, valid UTF-8 whatever the file put in. */
#include "core/error.h"

#include "core/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Copies text into out (size bytes), writing control characters and broken bytes as \xNN. */
static void copy_printable(char *out, size_t size, const char *text) {
  const unsigned char *s = (const unsigned char *)text;
  size_t n = strlen(text), used = 0;
  while (n > 0) {
    size_t length = utf8_length((const char *)s, n);
    bool plain = length > 0 && s[0] >= 0x20 && s[0] != 0x7f && !(s[0] == 0xc2 && s[1] < 0xa0);
    char escaped[5];
    if (!plain) snprintf(escaped, sizeof escaped, "\\x%02x", s[0]);
    size_t width = plain ? length : 4;
    if (used + width + 1 > size) break;
    memcpy(out + used, plain ? (const char *)s : escaped, width);
    used += width;
    s += plain ? length : 1;
    n -= plain ? length : 1;
  }
  out[used] = '\0';
}

static void fill(rondo_error *e, rondo_status status, const char *format, va_list args,
                 const char *suffix) {
  char raw[sizeof e->message];
  int length = vsnprintf(raw, sizeof raw, format, args);
  size_t used = length < 0 ? 0 : (size_t)length < sizeof raw ? (size_t)length : sizeof raw - 1;
  snprintf(raw + used, sizeof raw - used, "%s", suffix);
  e->status = status;
  copy_printable(e->message, sizeof e->message, raw);
}

bool rondo_fail(rondo_error *e, rondo_status status, const char *format, ...) {
  if (e == NULL) return false;
  va_list args;
  va_start(args, format);
  fill(e, status, format, args, "");
  va_end(args);
  return false;
}

bool rondo_fail_errno(rondo_error *e, int errnum, const char *format, ...) {
  if (e == NULL) return false;
  char reason[128], suffix[sizeof reason + 2];
#if defined(__GLIBC__) && defined(_GNU_SOURCE)
  const char *text = strerror_r(errnum, reason, sizeof reason);
#else
  const char *text = strerror_r(errnum, reason, sizeof reason) == 0 ? reason : "unknown error";
#endif
  snprintf(suffix, sizeof suffix, ": %s", text);
  va_list args;
  va_start(args, format);
  fill(e, RONDO_IO, format, args, suffix);
  va_end(args);
  return false;
}

const char *rondo_status_name(rondo_status status) {
  static const char *const names[] = {"ok",          "usage",       "io",      "format",
                                      "unsupported", "nonfinite",   "changed", "exists",
                                      "memory",      "interrupted", "limit"};
  return (size_t)status < sizeof names / sizeof *names ? names[status] : "unknown";
}
