/* safetensors_write.c - writing headers, byte for byte as the reference writer does: compact JSON,
 * metadata first, tensors by falling element size and then name, spaces up to a multiple of 8. */
#include "core/checked.h"
#include "core/dtype.h"
#include "core/error.h"
#include "core/tensor.h"
#include "core/utf8.h"
#include "format/json.h"
#include "format/safetensors.h"

#include <stdlib.h>
#include <string.h>

static int in_file_order(const void *left, const void *right) {
  const rondo_st_item *a = left, *b = right;
  int ranks = rondo_dtype_file_rank(b->dtype) - rondo_dtype_file_rank(a->dtype);
  return ranks != 0 ? ranks : rondo_text_compare(a->name, b->name);
}

static int by_name(const void *left, const void *right) {
  const rondo_st_item *a = left, *b = right;
  return rondo_text_compare(a->name, b->name);
}

static bool check_name(rondo_text name, rondo_error *e) {
  const char *problem = NULL;
  if (!utf8_valid(name.text, name.length))
    problem = "is not UTF-8";
  else if (memchr(name.text, '\0', name.length) != NULL)
    problem = "holds a NUL character";
  else if (name.length == 12 && memcmp(name.text, "__metadata__", 12) == 0)
    problem = "is reserved for the file's metadata";
  if (problem == NULL) return true;
  return rondo_fail(e, RONDO_USAGE, "the tensor name \"%s\" %s", rondo_excerpt_text(name).text,
                    problem);
}

/* Sorts, unless that is done already: most lists come from a file. */
static void sort(rondo_st_item *items, uint32_t count, int (*compare)(const void *, const void *)) {
  for (uint32_t i = 1; i < count; i++) {
    if (compare(&items[i - 1], &items[i]) <= 0) continue;
    qsort(items, count, sizeof *items, compare);
    return;
  }
}

bool rondo_safetensors_layout(rondo_st_item *items, uint32_t count, rondo_error *e) {
  for (uint32_t i = 0; i < count; i++) {
    if (!check_name(items[i].name, e)) return false;
    if (!rondo_shape_size(items[i].dtype, items[i].rank, items[i].shape, NULL, &items[i].size))
      return rondo_fail(e, RONDO_USAGE,
                        "tensor \"%s\": its shape does not fill whole bytes, or is "
                        "beyond 2^63",
                        rondo_excerpt_text(items[i].name).text);
  }
  sort(items, count, by_name);
  for (uint32_t i = 1; i < count; i++)
    if (rondo_text_equal(items[i - 1].name, items[i].name))
      return rondo_fail(e, RONDO_USAGE, "two tensors have the name \"%s\"",
                        rondo_excerpt_text(items[i].name).text);
  sort(items, count, in_file_order);
  uint64_t at = 0;
  for (uint32_t i = 0; i < count; i++) {
    items[i].offset = at;
    if (!checked_add_u64(at, items[i].size, &at) || at > INT64_MAX)
      return rondo_fail(e, RONDO_USAGE, "the tensors are beyond 2^63 bytes together");
  }
  return true;
}

static int by_key(const void *left, const void *right) {
  const rondo_st_meta *a = left, *b = right;
  return rondo_text_compare(a->key, b->key);
}

bool rondo_safetensors_sort_metadata(rondo_st_meta *pairs, uint32_t count, rondo_error *e) {
  for (uint32_t i = 0; i < count; i++) {
    rondo_st_meta *p = &pairs[i];
    if (!utf8_valid(p->key.text, p->key.length) || !utf8_valid(p->value.text, p->value.length))
      return rondo_fail(e, RONDO_USAGE, "the metadata of \"%s\" is not UTF-8",
                        rondo_excerpt_text(p->key).text);
  }
  if (count > 1) qsort(pairs, count, sizeof *pairs, by_key);
  for (uint32_t i = 1; i < count; i++)
    if (rondo_text_equal(pairs[i - 1].key, pairs[i].key))
      return rondo_fail(e, RONDO_USAGE, "the metadata have the key \"%s\" twice",
                        rondo_excerpt_text(pairs[i].key).text);
  return true;
}

/* Output that measures when out is NULL. */
typedef struct {
  char *out;
  size_t used;
} sink;

static void put(sink *s, const char *text, size_t length) {
  if (s->out != NULL) memcpy(s->out + s->used, text, length);
  s->used += length;
}

static void put_word(sink *s, const char *word) {
  put(s, word, strlen(word));
}

static void put_quoted(sink *s, rondo_text text) {
  s->used += rondo_json_quote(text, s->out == NULL ? NULL : s->out + s->used);
}

static void put_number(sink *s, uint64_t n) {
  char digits[20], *first = digits + sizeof digits;
  do *--first = (char)('0' + n % 10);
  while ((n /= 10) > 0);
  put(s, first, (size_t)(digits + sizeof digits - first));
}

static void put_item(sink *s, const rondo_st_item *item) {
  put_quoted(s, item->name);
  put_word(s, ":{\"dtype\":\"");
  put_word(s, rondo_dtype_file_name(item->dtype));
  put_word(s, "\",\"shape\":[");
  for (int d = 0; d < item->rank; d++) {
    if (d > 0) put_word(s, ",");
    put_number(s, (uint64_t)item->shape[d]);
  }
  put_word(s, "],\"data_offsets\":[");
  put_number(s, item->offset);
  put_word(s, ",");
  put_number(s, item->offset + item->size);
  put_word(s, "]}");
}

static void put_metadata(sink *s, const rondo_st_meta *pairs, uint32_t count) {
  put_word(s, "\"__metadata__\":{");
  for (uint32_t i = 0; i < count; i++) {
    if (i > 0) put_word(s, ",");
    put_quoted(s, pairs[i].key);
    put_word(s, ":");
    put_quoted(s, pairs[i].value);
  }
  put_word(s, "}");
}

size_t rondo_safetensors_header(const rondo_st_item *items, uint32_t count,
                                const rondo_st_meta *pairs, uint32_t pair_count, char *out) {
  sink s = {out, 8};
  put_word(&s, "{");
  if (pairs != NULL) put_metadata(&s, pairs, pair_count);
  for (uint32_t i = 0; i < count; i++) {
    if (i > 0 || pairs != NULL) put_word(&s, ",");
    put_item(&s, &items[i]);
  }
  put_word(&s, "}");
  while (s.used % 8 != 0) put_word(&s, " ");
  uint64_t length = s.used - 8;
  for (int i = 0; out != NULL && i < 8; i++) out[i] = (char)(length >> (8 * i) & 0xff);
  return s.used;
}
