/* json.h - a strict reader of JSON text as a series of events, and a few writers.
 *
 * RFC 8259 and nothing else: UTF-8 is checked, lone surrogate escapes, a byte order mark, a key
 * twice in one object (compared after unescaping), nesting beyond RONDO_JSON_DEPTH and anything
 * after the value are refused. Numbers stay text. No recursion; memory: at most about 26 bytes for
 * each key of the objects that are open at one time. Time is linear whatever the text. */
#ifndef RONDO_FORMAT_JSON_H
#define RONDO_FORMAT_JSON_H

#include "format/names.h"
#include "rondo/tensor.h"

#define RONDO_JSON_DEPTH 64

/* The longest text the reader takes, in bytes. */
#define RONDO_JSON_MAX 0x7fffffff

typedef enum rondo_json_event {
  RONDO_JSON_ERROR, /* problem and problem_at are set; every further call gives this again */
  RONDO_JSON_END,   /* the one value and the white space after it have been read */
  RONDO_JSON_OBJECT,
  RONDO_JSON_OBJECT_END,
  RONDO_JSON_ARRAY,
  RONDO_JSON_ARRAY_END,
  RONDO_JSON_KEY,    /* text: the key, unescaped */
  RONDO_JSON_STRING, /* text: the string, unescaped; may hold NUL */
  RONDO_JSON_NUMBER, /* text: as written; with allow_nan also NaN, Infinity and -Infinity */
  RONDO_JSON_TRUE,
  RONDO_JSON_FALSE,
  RONDO_JSON_NULL
} rondo_json_event;

typedef struct rondo_json_key {
  uint32_t at, length;
} rondo_json_key;

typedef struct rondo_json {
  char *buffer; /* the whole text; strings are unescaped in place */
  size_t size, position;
  rondo_text text;      /* of the last KEY, STRING or NUMBER; lies in buffer and stays there */
  size_t start;         /* where the last event's token begins */
  const char *problem;  /* what is wrong, in words, for ERROR */
  size_t problem_at;    /* and where */
  bool out_of_memory;   /* the problem is not the text's */
  bool allow_nan;       /* may be set after rondo_json_init */
  int depth;            /* objects and arrays that are open */
  unsigned char expect; /* what may come next */
  bool in_object[RONDO_JSON_DEPTH];
  uint32_t first_key[RONDO_JSON_DEPTH]; /* of the open objects, in keys */
  rondo_json_key *keys;                 /* those of all open objects */
  uint32_t key_capacity;
  rondo_names names; /* over keys */
} rondo_json;

/* Starts reading buffer[0..size-1]; buffer[size] must be NUL. The buffer is written to. *reader
 * must not be moved afterwards. Allocates nothing. */
void rondo_json_init(rondo_json *reader, char *buffer, size_t size);

/* Releases the reader's memory, not the buffer. May be called at any time, also twice. */
void rondo_json_free(rondo_json *reader);

rondo_json_event rondo_json_next(rondo_json *reader);

/* Reads one whole value (after a KEY, or where an array's element or the text's value is due) and
 * ignores it. False on an error. */
bool rondo_json_skip(rondo_json *reader);

/* Makes the reader's problem, or one that the caller found (at reader->start) an error record:
 * "FILE: what is wrong, at byte N". base is added to the offset. Returns false. */
bool rondo_json_report(const rondo_json *reader, const char *file, uint64_t base, rondo_error *e);
bool rondo_json_refuse(const rondo_json *reader, const char *file, uint64_t base, rondo_error *e,
                       const char *problem);

/* Conversions of a NUMBER's text; false when it is written otherwise or does not fit. u64 takes
 * digits only: no sign, fraction or exponent. i64 also takes a minus, but not "-0". real takes
 * all, rounds to nearest, and refuses what overflows; it reads up to text's end, wherever that is
 * in the reader's buffer, and does not depend on the locale. */
bool rondo_json_u64(rondo_text text, uint64_t *value);
bool rondo_json_i64(rondo_text text, int64_t *value);
bool rondo_json_real(rondo_text text, double *value);

/* Writes text as a JSON string with quotes, escaping what must be and no more; returns the number
 * of bytes. out may be NULL to measure. The text must be UTF-8. At most 6 * length + 2 bytes. */
size_t rondo_json_quote(rondo_text text, char *out);

/* Writes the first of 15, 16 and 17 digits that read back as value (fewer for subnormal ones),
 * always with a point or an exponent; returns its length. value must be finite. Independent of the
 * locale. */
#define RONDO_JSON_REAL_SIZE 40
size_t rondo_json_write_real(double value, char out[RONDO_JSON_REAL_SIZE]);

#endif
