/* error.h - filling a rondo_error. Messages are made printable and cut at the buffer's end. */
#ifndef RONDO_CORE_ERROR_H
#define RONDO_CORE_ERROR_H

#include "rondo/tensor.h"

/* Records status and message in *e (which may be NULL) and returns false, so that a function can
 * `return rondo_fail(...)`. Control characters and broken UTF-8 in the result become \xNN. */
bool rondo_fail(rondo_error *e, rondo_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Like rondo_fail with status RONDO_IO and ": <what errno says>" appended. */
bool rondo_fail_errno(rondo_error *e, int errnum, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* "usage", "io", ... : the code that Lua callers get as third result. */
const char *rondo_status_name(rondo_status status);

#endif
