/* safetensors.c - reading headers. Every rule is checked before a tensor is handed out: the entry
 * itself while it is read, then, in the order of the data, that tensors follow each other without
 * gap or overlap from the first byte of the data to the last of the file. */
#include "format/safetensors.h"

#include "core/checked.h"
#include "core/dtype.h"
#include "core/error.h"
#include "format/mapping.h"
#include "format/json.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
  rondo_safetensors *st;
  rondo_json json;
  const char *shown;
  rondo_text tensor; /* being read */
  rondo_error *e;
} header_reader;

/* ---- errors ------------------------------------------------------------------------------ */

static bool refuse(header_reader *r, const char *problem) {
  return rondo_json_refuse(&r->json, r->shown, 8, r->e, problem);
}

static bool refuse_tensor(const rondo_safetensors *st, uint32_t i, const char *shown,
                          const char *problem, rondo_error *e) {
  rondo_excerpt name = rondo_excerpt_text(rondo_safetensors_name(st, i));
  return rondo_fail(e, RONDO_FORMAT, "%s: tensor \"%s\": %s", shown, name.text, problem);
}

static bool refuse_entry(header_reader *r, const char *problem) {
  rondo_excerpt name = rondo_excerpt_text(r->tensor);
  return rondo_fail(r->e, RONDO_FORMAT, "%s: tensor \"%s\": %s, at byte %llu", r->shown, name.text,
                    problem, (unsigned long long)(8 + r->json.start));
}

static bool report(header_reader *r) {
  return rondo_json_report(&r->json, r->shown, 8, r->e);
}

static bool no_memory(header_reader *r) {
  return rondo_fail(r->e, RONDO_MEMORY, "%s: not enough memory for the header", r->shown);
}

/* ---- growing tables ---------------------------------------------------------------------- */

/* Makes room for one more element of the given size; capacity grows by half. */
static bool reserve(void **table, uint32_t count, uint32_t *capacity, size_t size) {
  if (count < *capacity) return true;
  uint32_t more = *capacity < 16 ? 16 : *capacity / 2 * 3; /* count is below 10^8 / 2 */
  void *grown = realloc(*table, more * size);
  if (grown == NULL) return false;
  *table = grown;
  *capacity = more;
  return true;
}

/* Gives back what growing by half has left over. Failing to shrink is no failure. */
static void trim(rondo_safetensors *st) {
  void *table = st->count > 0 ? realloc(st->tensors, st->count * sizeof *st->tensors) : NULL;
  if (table != NULL) st->tensors = table;
}

static uint32_t place(const rondo_safetensors *st, const char *p) {
  return (uint32_t)(p - st->header);
}

/* ---- __metadata__ ------------------------------------------------------------------------ */

/* The entries are no table: there may be millions. The strings stay where they are in the header,
 * each between a quote and this byte, which is in no UTF-8, with nothing but blanks, commas and
 * brackets between them. */
#define END_OF_STRING '\xff'

static void end_string(header_reader *r) {
  char *end = r->st->header + place(r->st, r->json.text.text) + r->json.text.length;
  memset(end, ' ', (size_t)(r->st->header + r->json.position - end));
  *end = END_OF_STRING;
}

static bool read_metadata(header_reader *r) {
  rondo_safetensors *st = r->st;
  rondo_json_event event = rondo_json_next(&r->json);
  if (event == RONDO_JSON_ERROR) return report(r);
  if (event != RONDO_JSON_OBJECT) return refuse(r, "__metadata__ is not an object");
  st->has_metadata = true;
  st->metadata = (uint32_t)r->json.position;
  while ((event = rondo_json_next(&r->json)) == RONDO_JSON_KEY) {
    end_string(r);
    event = rondo_json_next(&r->json);
    if (event == RONDO_JSON_ERROR) break;
    if (event != RONDO_JSON_STRING) return refuse(r, "a value of __metadata__ is not a string");
    end_string(r);
    st->metadata_count++;
  }
  return event == RONDO_JSON_ERROR ? report(r) : true;
}

static rondo_text next_string(const char **at) {
  const char *first = strchr(*at, '"') + 1, *end = first;
  while (*end != END_OF_STRING) end++;
  *at = end + 1;
  return (rondo_text){first, (size_t)(end - first)};
}

void rondo_safetensors_pair(const rondo_safetensors *st, uint32_t *place, rondo_st_meta *pair) {
  const char *at = st->header + (*place > 0 ? *place : st->metadata);
  pair->key = next_string(&at);
  pair->value = next_string(&at);
  *place = (uint32_t)(at - st->header);
}

/* ---- one tensor -------------------------------------------------------------------------- */

typedef struct {
  bool dtype, shape, offsets; /* seen */
  uint64_t begin, end;
  bool empty;        /* a dimension is 0 */
  uint64_t elements; /* product of the dimensions, a dimension of 0 counting as 1 */
} entry_facts;

static bool read_dtype(header_reader *r, rondo_st_tensor *t) {
  rondo_json_event event = rondo_json_next(&r->json);
  if (event == RONDO_JSON_ERROR) return report(r);
  if (event != RONDO_JSON_STRING) return refuse_entry(r, "its dtype is not a string");
  rondo_dtype dtype;
  if (!rondo_dtype_parse_file_name(r->json.text.text, r->json.text.length, &dtype)) {
    rondo_excerpt name = rondo_excerpt_text(r->tensor), type = rondo_excerpt_text(r->json.text);
    return rondo_fail(r->e, RONDO_FORMAT, "%s: tensor \"%s\": unknown dtype \"%s\", at byte %llu",
                      r->shown, name.text, type.text, (unsigned long long)(8 + r->json.start));
  }
  t->dtype = (uint8_t)dtype;
  return true;
}

static bool read_shape(header_reader *r, rondo_st_tensor *t, entry_facts *facts) {
  rondo_json_event event = rondo_json_next(&r->json);
  if (event == RONDO_JSON_ERROR) return report(r);
  if (event != RONDO_JSON_ARRAY) return refuse_entry(r, "its shape is not a list");
  t->shape = (uint32_t)r->json.position;
  facts->elements = 1;
  while ((event = rondo_json_next(&r->json)) != RONDO_JSON_ARRAY_END) {
    uint64_t dim;
    if (event == RONDO_JSON_ERROR) return report(r);
    if (event != RONDO_JSON_NUMBER || !rondo_json_u64(r->json.text, &dim))
      return refuse_entry(r, "a dimension is not a whole number from 0 to 2^64-1");
    if (t->rank == RONDO_MAX_RANK) return refuse_entry(r, "more than 64 dimensions");
    t->rank++;
    if (dim == 0) facts->empty = true;
    if (!checked_mul_u64(facts->elements, dim == 0 ? 1 : dim, &facts->elements) ||
        facts->elements > INT64_MAX)
      return refuse_entry(r, "the product of the dimensions is beyond 2^63-1");
  }
  return true;
}

static bool read_offsets(header_reader *r, entry_facts *facts) {
  rondo_json_event event = rondo_json_next(&r->json);
  if (event == RONDO_JSON_ERROR) return report(r);
  if (event != RONDO_JSON_ARRAY) return refuse_entry(r, "its data_offsets are not a list");
  uint64_t *ends[2] = {&facts->begin, &facts->end};
  for (int i = 0; i < 2; i++) {
    event = rondo_json_next(&r->json);
    if (event == RONDO_JSON_ERROR) return report(r);
    if (event == RONDO_JSON_ARRAY_END) return refuse_entry(r, "data_offsets need two numbers");
    if (event != RONDO_JSON_NUMBER || !rondo_json_u64(r->json.text, ends[i]))
      return refuse_entry(r, "an offset is not a whole number from 0 to 2^64-1");
  }
  event = rondo_json_next(&r->json);
  if (event == RONDO_JSON_ERROR) return report(r);
  if (event != RONDO_JSON_ARRAY_END) return refuse_entry(r, "data_offsets have a third element");
  return true;
}

static bool text_is(rondo_text text, const char *word) {
  return text.length == strlen(word) && memcmp(text.text, word, text.length) == 0;
}

static bool read_fields(header_reader *r, rondo_st_tensor *t, entry_facts *facts) {
  rondo_json_event event;
  while ((event = rondo_json_next(&r->json)) == RONDO_JSON_KEY) {
    bool fine;
    if (text_is(r->json.text, "dtype")) {
      facts->dtype = true;
      fine = read_dtype(r, t);
    } else if (text_is(r->json.text, "shape")) {
      facts->shape = true;
      fine = read_shape(r, t, facts);
    } else if (text_is(r->json.text, "data_offsets")) {
      facts->offsets = true;
      fine = read_offsets(r, facts);
    } else {
      fine = rondo_json_skip(&r->json) || report(r);
    }
    if (!fine) return false;
  }
  return event == RONDO_JSON_ERROR ? report(r) : true;
}

/* Compares extent, shape and dtype, and sets offset and size. */
static bool check_entry(header_reader *r, rondo_st_tensor *t, const entry_facts *facts) {
  if (!facts->dtype) return refuse_entry(r, "it has no dtype");
  if (!facts->shape) return refuse_entry(r, "it has no shape");
  if (!facts->offsets) return refuse_entry(r, "it has no data_offsets");
  uint64_t bits;
  if (!checked_mul_u64(facts->empty ? 0 : facts->elements, rondo_dtype_bits(t->dtype), &bits))
    return refuse_entry(r, "its size in bits is beyond 2^64-1");
  if (bits % 8 != 0) return refuse_entry(r, "its elements do not fill whole bytes");
  if (facts->begin > facts->end) return refuse_entry(r, "it ends before it begins");
  if (facts->end - facts->begin != bits / 8)
    return refuse_entry(r, "its extent is not the size of its shape and dtype");
  t->offset = facts->begin;
  t->size = bits / 8;
  return true;
}

static bool read_tensor(header_reader *r, rondo_text name) {
  rondo_safetensors *st = r->st;
  r->tensor = name;
  if (name.length > 0 && memchr(name.text, '\0', name.length) != NULL)
    return refuse_entry(r, "the name holds a NUL character");
  rondo_json_event event = rondo_json_next(&r->json);
  if (event == RONDO_JSON_ERROR) return report(r);
  if (event != RONDO_JSON_OBJECT) return refuse_entry(r, "its entry is not an object");
  rondo_st_tensor t = {.name = place(st, name.text), .name_length = (uint32_t)name.length};
  t.listed = 1;
  entry_facts facts = {0};
  if (!read_fields(r, &t, &facts) || !check_entry(r, &t, &facts)) return false;
  if (!reserve((void **)&st->tensors, st->count, &st->capacity, sizeof t)) return no_memory(r);
  st->tensors[st->count++] = t;
  return true;
}

static bool read_header(header_reader *r) {
  rondo_json_event event = rondo_json_next(&r->json);
  if (event == RONDO_JSON_ERROR) return report(r);
  if (event != RONDO_JSON_OBJECT) return refuse(r, "the header is not a JSON object");
  while ((event = rondo_json_next(&r->json)) == RONDO_JSON_KEY) {
    bool metadata = text_is(r->json.text, "__metadata__");
    if (!(metadata ? read_metadata(r) : read_tensor(r, r->json.text))) return false;
  }
  if (event != RONDO_JSON_ERROR) event = rondo_json_next(&r->json);
  return event == RONDO_JSON_ERROR ? report(r) : true;
}

/* ---- the whole --------------------------------------------------------------------------- */

static int by_offset(const void *left, const void *right) {
  const rondo_st_tensor *a = left, *b = right;
  if (a->offset != b->offset) return a->offset < b->offset ? -1 : 1;
  if ((a->size == 0) != (b->size == 0)) return a->size == 0 ? -1 : 1;
  return (a->name > b->name) - (a->name < b->name);
}

static bool in_order(const rondo_safetensors *st) {
  for (uint32_t i = 1; i < st->count; i++)
    if (by_offset(&st->tensors[i - 1], &st->tensors[i]) > 0) return false;
  return true;
}

/* Sorts the tensors by offset and checks that they cover the data exactly. */
static bool check_coverage(rondo_safetensors *st, const char *shown, rondo_error *e) {
  if (!in_order(st)) qsort(st->tensors, st->count, sizeof *st->tensors, by_offset);
  uint64_t at = 0;
  for (uint32_t i = 0; i < st->count; i++) {
    const rondo_st_tensor *t = &st->tensors[i];
    if (t->offset < at) return refuse_tensor(st, i, shown, "it overlaps another tensor", e);
    if (t->offset > at)
      return refuse_tensor(st, i, shown, "bytes before it belong to no tensor", e);
    at += t->size; /* no more than data_offsets can say */
  }
  if (at == st->data_size) return true;
  if (at > st->data_size) {
    return rondo_fail(e, RONDO_FORMAT,
                      "%s: the file is cut short: its header describes %llu bytes of tensors, %llu "
                      "are there",
                      shown, (unsigned long long)at, (unsigned long long)st->data_size);
  }
  return rondo_fail(e, RONDO_FORMAT, "%s: %llu bytes behind the last tensor belong to none", shown,
                    (unsigned long long)(st->data_size - at));
}

/* What the file seems to be, from its first bytes, for a kinder message. */
static const char *guess(const char *head, size_t size) {
  static const struct {
    const char *magic, *meaning;
  } known[] = {
      {"version ", " (this is a git-lfs pointer: fetch the file itself with git lfs pull)"},
      {"GGUF", " (this is a GGUF file)"},
      {"PK\x03\x04", " (this is a zip archive, perhaps a PyTorch .bin file)"},
      {"\x80\x02", " (this is a Python pickle)"},
      {"\x1f\x8b", " (this is a gzip archive)"},
      {"<", " (this is a web page)"},
      {"{", " (this is bare JSON)"}};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    size_t length = strlen(known[i].magic);
    if (length <= size && memcmp(head, known[i].magic, length) == 0) return known[i].meaning;
  }
  return "";
}

/* Reads the 8 length bytes and compares them with the file's size. */
static bool read_length(int fd, const char *shown, uint64_t file_size, char head[8],
                        uint32_t *length, rondo_error *e) {
  if (file_size < 8) {
    return rondo_fail(e, RONDO_FORMAT,
                      "%s: not a safetensors file: %llu bytes, no room for the "
                      "8 bytes of the header's length",
                      shown, (unsigned long long)file_size);
  }
  if (!rondo_file_read(fd, shown, 0, head, 8, e)) return false;
  uint64_t n = 0;
  for (int i = 7; i >= 0; i--) n = n << 8 | (unsigned char)head[i];
  if (n > RONDO_SAFETENSORS_HEADER_MAX || n > file_size - 8) {
    const char *rule = n > RONDO_SAFETENSORS_HEADER_MAX ? "more than the 100000000 allowed"
                                                        : "more than the file holds";
    return rondo_fail(e, RONDO_FORMAT, "%s: not a safetensors file: a header of %llu bytes, %s%s",
                      shown, (unsigned long long)n, rule, guess(head, 8));
  }
  *length = (uint32_t)n;
  return true;
}

static bool read_all(rondo_safetensors *st, int fd, const char *shown, uint64_t file_size,
                     rondo_error *e) {
  char head[8];
  if (!read_length(fd, shown, file_size, head, &st->header_size, e)) return false;
  st->data_start = 8 + (uint64_t)st->header_size;
  st->data_size = file_size - st->data_start;
  st->header = malloc((size_t)st->header_size + 1);
  if (st->header == NULL)
    return rondo_fail(e, RONDO_MEMORY, "%s: not enough memory for the header", shown);
  if (!rondo_file_read(fd, shown, 8, st->header, st->header_size, e)) return false;
  st->header[st->header_size] = '\0';
  st->digest = rondo_digest(st->header, st->header_size);
  header_reader r = {.st = st, .shown = shown, .e = e};
  rondo_json_init(&r.json, st->header, st->header_size);
  bool fine = read_header(&r);
  rondo_json_free(&r.json);
  if (fine) trim(st);
  return fine && check_coverage(st, shown, e);
}

bool rondo_safetensors_read(rondo_safetensors *st, int fd, const char *shown, uint64_t file_size,
                            rondo_error *e) {
  *st = (rondo_safetensors){0};
  if (read_all(st, fd, shown, file_size, e)) return true;
  rondo_safetensors_free(st);
  return false;
}

void rondo_safetensors_free(rondo_safetensors *st) {
  free(st->header);
  free(st->tensors);
  *st = (rondo_safetensors){0};
}

rondo_text rondo_safetensors_name(const rondo_safetensors *st, uint32_t i) {
  return (rondo_text){st->header + st->tensors[i].name, st->tensors[i].name_length};
}

void rondo_safetensors_shape(const rondo_safetensors *st, uint32_t i, int64_t *shape) {
  const char *p = st->header + st->tensors[i].shape;
  for (int d = 0; d < st->tensors[i].rank; d++) { /* the reader has checked digits and range */
    while (*p < '0' || *p > '9') p++;
    int64_t dim = 0;
    for (; *p >= '0' && *p <= '9'; p++) dim = dim * 10 + (*p - '0');
    shape[d] = dim;
  }
}
