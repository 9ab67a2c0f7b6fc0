/* json.c - the event reader. One pass over the bytes; a small state says what may come next. */
#include "format/json.h"

#include "core/error.h"
#include "core/utf8.h"

#include <stdlib.h>
#include <string.h>

enum { VALUE, FIRST_ELEMENT, FIRST_KEY, NEXT_KEY, AFTER_VALUE, DONE, BROKEN };

static rondo_text key_text(const void *owner, uint32_t id) {
  const rondo_json *reader = owner;
  rondo_json_key key = reader->keys[id];
  return (rondo_text){reader->buffer + key.at, key.length};
}

void rondo_json_init(rondo_json *reader, char *buffer, size_t size) {
  *reader = (rondo_json){.buffer = buffer, .size = size, .expect = VALUE};
  rondo_names_init(&reader->names, reader, key_text);
  if (size <= RONDO_JSON_MAX) return;
  reader->expect = BROKEN;
  reader->problem = "longer than 2 GiB";
}

void rondo_json_free(rondo_json *reader) {
  free(reader->keys);
  reader->keys = NULL;
  reader->key_capacity = 0;
  reader->expect = BROKEN;
  if (reader->problem == NULL) reader->problem = "the reader was closed";
  rondo_names_free(&reader->names);
}

static rondo_json_event fail_at(rondo_json *reader, size_t at, const char *problem) {
  reader->problem = problem;
  reader->problem_at = at;
  reader->expect = BROKEN;
  return RONDO_JSON_ERROR;
}

static rondo_json_event no_memory(rondo_json *reader) {
  reader->out_of_memory = true;
  return fail_at(reader, reader->position, "not enough memory");
}

/* The byte at the reading position, 0 at the end (a NUL in the text is an error everywhere). */
static char peek(const rondo_json *reader) {
  return reader->buffer[reader->position];
}

static void skip_space(rondo_json *reader) {
  for (;; reader->position++) {
    char c = peek(reader);
    if (c != ' ' && c != '\n' && c != '\r' && c != '\t') return;
  }
}

/* ---- strings --------------------------------------------------------------------------- */

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/* The four hex digits at s, or -1. Stops at the first that is none, so never passes the NUL. */
static int32_t hex4(const char *s) {
  int32_t code = 0;
  for (int i = 0; i < 4; i++) {
    int digit = hex_digit(s[i]);
    if (digit < 0) return -1;
    code = code << 4 | digit;
  }
  return code;
}

static char *put_utf8(char *out, uint32_t code) {
  if (code < 0x80) {
    *out++ = (char)code;
  } else if (code < 0x800) {
    *out++ = (char)(0xc0 | code >> 6);
    *out++ = (char)(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    *out++ = (char)(0xe0 | code >> 12);
    *out++ = (char)(0x80 | (code >> 6 & 0x3f));
    *out++ = (char)(0x80 | (code & 0x3f));
  } else {
    *out++ = (char)(0xf0 | code >> 18);
    *out++ = (char)(0x80 | (code >> 12 & 0x3f));
    *out++ = (char)(0x80 | (code >> 6 & 0x3f));
    *out++ = (char)(0x80 | (code & 0x3f));
  }
  return out;
}

/* Reads the escape at s (a backslash), writes what it stands for at *out. Returns the bytes read,
 * or 0 with *problem set. What is written is never longer than what is read. */
static size_t unescape(const char *s, char **out, const char **problem) {
  static const char letters[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
  const char *simple = s[1] != '\0' ? strchr(letters, s[1]) : NULL;
  if (simple != NULL) {
    *(*out)++ = values[simple - letters];
    return 2;
  }
  int32_t code = s[1] == 'u' ? hex4(s + 2) : -1, low = 0;
  if (code < 0) return *problem = "a bad escape in a string", 0;
  size_t length = 6;
  if (code >= 0xd800 && code <= 0xdfff) {
    bool pair = code < 0xdc00 && s[6] == '\\' && s[7] == 'u';
    low = pair ? hex4(s + 8) : -1;
    if (low < 0xdc00 || low > 0xdfff) return *problem = "an escaped surrogate without its pair", 0;
    code = 0x10000 + (code - 0xd800) * 0x400 + (low - 0xdc00);
    length = 12;
  }
  *out = put_utf8(*out, (uint32_t)code);
  return length;
}

/* Reads a string from its opening quote; sets text and the position behind the closing quote. */
static bool read_string(rondo_json *reader) {
  const char *end = reader->buffer + reader->size;
  char *in = reader->buffer + reader->position + 1, *out = in, *first = in;
  const char *problem = NULL;
  for (;;) {
    unsigned char c = (unsigned char)*in;
    size_t length = 1;
    if (c == '"') break;
    if (in == end)
      problem = "a string without its closing quote";
    else if (c < 0x20)
      problem = "a control character in a string";
    else if (c == '\\')
      length = unescape(in, &out, &problem);
    else if (c >= 0x80)
      length = utf8_length(in, (size_t)(end - in));
    if (length == 0 && problem == NULL) problem = "invalid UTF-8";
    if (problem != NULL) return fail_at(reader, (size_t)(in - reader->buffer), problem), false;
    if (c != '\\') {
      if (out != in) memmove(out, in, length);
      out += length;
    }
    in += length;
  }
  reader->position = (size_t)(in - reader->buffer) + 1;
  reader->text = (rondo_text){first, (size_t)(out - first)};
  return true;
}

/* ---- values ------------------------------------------------------------------------------ */

static bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

static bool ends_value(char c) {
  return c == ',' || c == ']' || c == '}' || c == ' ' || c == '\n' || c == '\r' || c == '\t' ||
         c == '\0';
}

/* The length of the number at s by the grammar, 0 if there is none. */
static size_t number_length(const char *s) {
  const char *p = s;
  if (*p == '-') p++;
  if (!is_digit(*p)) return 0;
  if (*p == '0')
    p++;
  else
    while (is_digit(*p)) p++;
  if (*p == '.') {
    if (!is_digit(*++p)) return 0;
    while (is_digit(*p)) p++;
  }
  if (*p == 'e' || *p == 'E') {
    p++;
    if (*p == '+' || *p == '-') p++;
    if (!is_digit(*p)) return 0;
    while (is_digit(*p)) p++;
  }
  return ends_value(*p) ? (size_t)(p - s) : 0;
}

static bool word_at(const char *s, const char *word) {
  size_t length = strlen(word);
  return strncmp(s, word, length) == 0 && ends_value(s[length]);
}

static rondo_json_event finish_value(rondo_json *reader, size_t length, rondo_json_event event) {
  reader->text = (rondo_text){reader->buffer + reader->position, length};
  reader->position += length;
  reader->expect = AFTER_VALUE;
  return event;
}

static rondo_json_event open_container(rondo_json *reader, bool object) {
  if (reader->depth == RONDO_JSON_DEPTH)
    return fail_at(reader, reader->position, "nesting deeper than 64 levels");
  reader->in_object[reader->depth] = object;
  reader->first_key[reader->depth] = reader->names.count;
  reader->depth++;
  reader->position++;
  reader->expect = object ? FIRST_KEY : FIRST_ELEMENT;
  return object ? RONDO_JSON_OBJECT : RONDO_JSON_ARRAY;
}

static rondo_json_event close_container(rondo_json *reader) {
  bool object = reader->in_object[--reader->depth];
  bool last = reader->depth == 0; /* nothing will be compared with these keys any more */
  while (object && !last && reader->names.count > reader->first_key[reader->depth])
    rondo_names_pop(&reader->names);
  reader->position++;
  reader->expect = AFTER_VALUE;
  return object ? RONDO_JSON_OBJECT_END : RONDO_JSON_ARRAY_END;
}

static rondo_json_event read_scalar(rondo_json *reader) {
  const char *s = reader->buffer + reader->position;
  if (*s == '"') {
    if (!read_string(reader)) return RONDO_JSON_ERROR;
    reader->expect = AFTER_VALUE;
    return RONDO_JSON_STRING;
  }
  if (word_at(s, "true")) return finish_value(reader, 4, RONDO_JSON_TRUE);
  if (word_at(s, "false")) return finish_value(reader, 5, RONDO_JSON_FALSE);
  if (word_at(s, "null")) return finish_value(reader, 4, RONDO_JSON_NULL);
  size_t length = number_length(s);
  if (length == 0 && reader->allow_nan) {
    static const char *const words[] = {"NaN", "Infinity", "-Infinity"};
    for (int i = 0; i < 3; i++)
      if (word_at(s, words[i])) length = strlen(words[i]);
  }
  if (length > 0) return finish_value(reader, length, RONDO_JSON_NUMBER);
  if (reader->position >= reader->size)
    return fail_at(reader, reader->position, "the text ends where a value is due");
  bool number = is_digit(*s) || *s == '-';
  return fail_at(reader, reader->position, number ? "a malformed number" : "not a JSON value");
}

static rondo_json_event read_value(rondo_json *reader) {
  char c = peek(reader);
  if (c == '{') return open_container(reader, true);
  if (c == '[') return open_container(reader, false);
  return read_scalar(reader);
}

/* ---- keys and commas --------------------------------------------------------------------- */

static bool reserve_key(rondo_json *reader) {
  if (reader->names.count < reader->key_capacity) return true;
  uint32_t capacity = reader->key_capacity < 16 ? 16 : reader->key_capacity / 2 * 3;
  rondo_json_key *keys = realloc(reader->keys, capacity * sizeof *keys);
  if (keys == NULL) return false;
  reader->keys = keys;
  reader->key_capacity = capacity;
  return true;
}

static bool remember_key(rondo_json *reader) {
  uint32_t id = reader->names.count, found;
  if (!reserve_key(reader)) return no_memory(reader), false;
  uint32_t at = (uint32_t)(reader->text.text - reader->buffer);
  reader->keys[id] = (rondo_json_key){at, (uint32_t)reader->text.length};
  uint32_t floor = reader->first_key[reader->depth - 1];
  if (!rondo_names_insert(&reader->names, reader->text, floor, &found))
    return no_memory(reader), false;
  if (found != id)
    return fail_at(reader, reader->start, "a key that the object has already"), false;
  return true;
}

static rondo_json_event read_key(rondo_json *reader) {
  if (peek(reader) != '"') {
    bool end = reader->position >= reader->size;
    return fail_at(reader, reader->position,
                   end ? "the text ends where a key is due" : "not a key in quotes");
  }
  if (!read_string(reader) || !remember_key(reader)) return RONDO_JSON_ERROR;
  skip_space(reader);
  if (peek(reader) != ':') return fail_at(reader, reader->position, "a key without its colon");
  reader->position++;
  reader->expect = VALUE;
  return RONDO_JSON_KEY;
}

static rondo_json_event read_end(rondo_json *reader) {
  if (reader->position < reader->size)
    return fail_at(reader, reader->position, "something after the end of the JSON value");
  reader->expect = DONE;
  return RONDO_JSON_END;
}

/* Behind a value: a comma and what follows it, or the end of what is open. */
static rondo_json_event read_after_value(rondo_json *reader) {
  if (reader->depth == 0) return read_end(reader);
  bool object = reader->in_object[reader->depth - 1];
  char c = peek(reader);
  if (c == (object ? '}' : ']')) return close_container(reader);
  if (c != ',') {
    bool end = reader->position >= reader->size;
    return fail_at(reader, reader->position,
                   end ? "the text ends inside an object or array"
                       : "a comma or bracket is missing");
  }
  reader->position++;
  skip_space(reader);
  reader->start = reader->position;
  return object ? read_key(reader) : read_value(reader);
}

rondo_json_event rondo_json_next(rondo_json *reader) {
  if (reader->expect == BROKEN) return RONDO_JSON_ERROR;
  skip_space(reader);
  reader->start = reader->position;
  switch (reader->expect) {
  case FIRST_ELEMENT:
    return peek(reader) == ']' ? close_container(reader) : read_value(reader);
  case FIRST_KEY:
    return peek(reader) == '}' ? close_container(reader) : read_key(reader);
  case VALUE:
    return read_value(reader);
  case AFTER_VALUE:
    return read_after_value(reader);
  default:
    return RONDO_JSON_END;
  }
}

bool rondo_json_skip(rondo_json *reader) {
  int depth = reader->depth;
  do {
    if (rondo_json_next(reader) == RONDO_JSON_ERROR) return false;
  } while (reader->depth > depth);
  return true;
}

bool rondo_json_refuse(const rondo_json *reader, const char *file, uint64_t base, rondo_error *e,
                       const char *problem) {
  return rondo_fail(e, RONDO_FORMAT, "%s: %s, at byte %llu", file, problem,
                    (unsigned long long)(base + reader->start));
}

bool rondo_json_report(const rondo_json *reader, const char *file, uint64_t base, rondo_error *e) {
  if (reader->out_of_memory) return rondo_fail(e, RONDO_MEMORY, "%s: not enough memory", file);
  return rondo_fail(e, RONDO_FORMAT, "%s: not valid JSON: %s, at byte %llu", file, reader->problem,
                    (unsigned long long)(base + reader->problem_at));
}
