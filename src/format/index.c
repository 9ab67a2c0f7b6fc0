/* index.c - reading model.safetensors.index.json. */
#include "format/index.h"

#include "core/error.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
  rondo_index *index;
  rondo_json json;
  const char *shown;
  rondo_error *e;
} index_reader;

static bool refuse(index_reader *r, const char *problem) {
  return rondo_json_refuse(&r->json, r->shown, 0, r->e, problem);
}

static bool report(index_reader *r) {
  return rondo_json_report(&r->json, r->shown, 0, r->e);
}

static bool no_memory(index_reader *r) {
  return rondo_fail(r->e, RONDO_MEMORY, "%s: not enough memory for the index", r->shown);
}

rondo_text rondo_index_name(const rondo_index *index, uint32_t entry) {
  const rondo_index_entry *at = &index->entries[entry];
  return (rondo_text){index->text + at->name, at->name_length};
}

rondo_text rondo_index_shard(const rondo_index *index, uint32_t shard) {
  return (rondo_text){index->text + index->shards[shard].at, index->shards[shard].length};
}

static rondo_text entry_name(const void *owner, uint32_t id) {
  return rondo_index_name(owner, id);
}

static rondo_text shard_name(const void *owner, uint32_t id) {
  return rondo_index_shard(owner, id);
}

/* ---- weight_map -------------------------------------------------------------------------- */

/* What is wrong with a file name of the weight_map, NULL if nothing. */
static const char *name_problem(rondo_text name) {
  const char *s = name.text;
  if (name.length == 0) return "is empty";
  if (name.length > 255) return "is longer than 255 bytes";
  if (s[0] == '.' && (name.length == 1 || (name.length == 2 && s[1] == '.'))) return "is a folder";
  if (name.length > 1 && s[1] == ':') return "has a drive letter";
  for (size_t i = 0; i < name.length; i++) {
    if (s[i] == '/' || s[i] == '\\') return "is not a plain name in the index's folder";
    if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f) return "holds a control character";
  }
  return NULL;
}

static bool refuse_shard(index_reader *r, rondo_text tensor, rondo_text shard, const char *why) {
  rondo_excerpt a = rondo_excerpt_text(tensor), b = rondo_excerpt_text(shard);
  return rondo_fail(r->e, RONDO_FORMAT,
                    "%s: weight_map: the file \"%s\" of tensor \"%s\" %s, at byte %llu", r->shown,
                    b.text, a.text, why, (unsigned long long)r->json.start);
}

/* Makes room for one more element of the given size. */
static bool reserve(void **table, uint32_t count, uint32_t *capacity, size_t size) {
  if (count < *capacity) return true;
  uint32_t more = *capacity < 16 ? 16 : *capacity / 2 * 3; /* the text bounds it: below 2^25 */
  void *grown = realloc(*table, more * size);
  if (grown == NULL) return false;
  *table = grown;
  *capacity = more;
  return true;
}

static bool shard_number(index_reader *r, rondo_text name, uint32_t *number) {
  rondo_index *x = r->index;
  if (!reserve((void **)&x->shards, x->shard_count, &x->shard_capacity, sizeof *x->shards))
    return no_memory(r);
  x->shards[x->shard_count] =
      (rondo_json_key){(uint32_t)(name.text - x->text), (uint32_t)name.length};
  if (!rondo_names_insert(&x->shard_names, name, 0, number)) return no_memory(r);
  if (*number == x->shard_count) x->shard_count++;
  return true;
}

static bool read_entry(index_reader *r, rondo_text tensor) {
  rondo_index *x = r->index;
  if (tensor.length > 0 && memchr(tensor.text, '\0', tensor.length) != NULL)
    return refuse(r, "a tensor name of the weight_map holds a NUL character");
  rondo_json_event event = rondo_json_next(&r->json);
  if (event == RONDO_JSON_ERROR) return report(r);
  if (event != RONDO_JSON_STRING) return refuse(r, "a value of the weight_map is not a file name");
  const char *problem = name_problem(r->json.text);
  if (problem != NULL) return refuse_shard(r, tensor, r->json.text, problem);
  rondo_index_entry entry = {(uint32_t)(tensor.text - x->text), (uint32_t)tensor.length, 0, 0};
  if (!shard_number(r, r->json.text, &entry.shard)) return false;
  if (!reserve((void **)&x->entries, x->count, &x->capacity, sizeof entry)) return no_memory(r);
  x->entries[x->count++] = entry;
  return true;
}

static bool read_weight_map(index_reader *r) {
  rondo_json_event event = rondo_json_next(&r->json);
  if (event == RONDO_JSON_ERROR) return report(r);
  if (event != RONDO_JSON_OBJECT) return refuse(r, "weight_map is not an object");
  while ((event = rondo_json_next(&r->json)) == RONDO_JSON_KEY)
    if (!read_entry(r, r->json.text)) return false;
  return event == RONDO_JSON_ERROR ? report(r) : true;
}

/* ---- the rest ---------------------------------------------------------------------------- */

static bool text_is(rondo_text text, const char *word) {
  return text.length == strlen(word) && memcmp(text.text, word, text.length) == 0;
}

/* Some tools write total_size as a float or a string: those are left alone. */
static void note_total(rondo_index *x, rondo_text number) {
  bool whole = true;
  for (size_t i = 0; i < number.length; i++)
    if (strchr(".eE", number.text[i]) != NULL) whole = false;
  if (!whole) return;
  bool known = rondo_json_u64(number, &x->total);
  x->total_state = known ? RONDO_TOTAL_KNOWN : RONDO_TOTAL_WRONG;
}

static bool skip(index_reader *r) {
  return rondo_json_skip(&r->json) || report(r);
}

/* Reads past "metadata", whatever it is, and notes total_size if it is an object's own member. */
static bool read_metadata(index_reader *r) {
  rondo_json_event event = rondo_json_next(&r->json);
  if (event != RONDO_JSON_OBJECT && event != RONDO_JSON_ARRAY)
    return event == RONDO_JSON_ERROR ? report(r) : true;
  bool object = event == RONDO_JSON_OBJECT;
  int depth = r->json.depth;
  while (r->json.depth >= depth) {
    event = rondo_json_next(&r->json);
    if (event == RONDO_JSON_ERROR) return report(r);
    bool member = object && event == RONDO_JSON_KEY && r->json.depth == depth;
    if (!member || !text_is(r->json.text, "total_size")) continue;
    event = rondo_json_next(&r->json);
    if (event == RONDO_JSON_ERROR) return report(r);
    if (event == RONDO_JSON_NUMBER) note_total(r->index, r->json.text);
  }
  return true;
}

static bool read_top(index_reader *r) {
  bool mapped = false;
  rondo_json_event event = rondo_json_next(&r->json);
  if (event == RONDO_JSON_ERROR) return report(r);
  if (event != RONDO_JSON_OBJECT) return refuse(r, "the index is not a JSON object");
  while ((event = rondo_json_next(&r->json)) == RONDO_JSON_KEY) {
    bool weights = text_is(r->json.text, "weight_map");
    bool metadata = text_is(r->json.text, "metadata");
    mapped = mapped || weights;
    if (!(weights ? read_weight_map(r) : metadata ? read_metadata(r) : skip(r))) return false;
  }
  if (event != RONDO_JSON_ERROR) event = rondo_json_next(&r->json);
  if (event == RONDO_JSON_ERROR) return report(r);
  if (!mapped) return refuse(r, "the index has no weight_map");
  return r->index->count > 0 || refuse(r, "the weight_map is empty");
}

typedef struct {
  rondo_text name;
  rondo_json_key key;
  uint32_t old;
} shard_order;

static int by_name(const void *left, const void *right) {
  const shard_order *a = left, *b = right;
  return rondo_text_compare(a->name, b->name);
}

/* Numbers the files by name, so that the first shard comes first whatever the map's order. */
static bool sort_shards(index_reader *r) {
  rondo_index *x = r->index;
  rondo_names_free(&x->shard_names);
  shard_order *order = malloc(x->shard_count * sizeof *order);
  uint32_t *number = malloc(x->shard_count * sizeof *number);
  if (order != NULL && number != NULL) {
    for (uint32_t i = 0; i < x->shard_count; i++)
      order[i] = (shard_order){rondo_index_shard(x, i), x->shards[i], i};
    qsort(order, x->shard_count, sizeof *order, by_name);
    for (uint32_t i = 0; i < x->shard_count; i++) {
      x->shards[i] = order[i].key;
      number[order[i].old] = i;
    }
    for (uint32_t i = 0; i < x->count; i++) x->entries[i].shard = number[x->entries[i].shard];
  }
  bool fine = order != NULL && number != NULL;
  free(order);
  free(number);
  return fine || no_memory(r);
}

static bool build_names(index_reader *r) {
  rondo_index *x = r->index;
  if (!rondo_names_reserve(&x->names, x->count)) return no_memory(r);
  for (uint32_t i = 0; i < x->count; i++) {
    uint32_t id; /* always i: the JSON reader has refused a key twice */
    if (!rondo_names_insert(&x->names, rondo_index_name(x, i), 0, &id)) return no_memory(r);
  }
  return true;
}

bool rondo_index_read(rondo_index *index, int folder, const char *name, const char *shown,
                      rondo_file_id *id, rondo_error *e) {
  *index = (rondo_index){0};
  size_t size;
  if (!rondo_file_slurp(folder, name, shown, RONDO_INDEX_MAX, &index->text, &size, id, e))
    return false;
  index->digest = rondo_digest(index->text, size);
  rondo_names_init(&index->names, index, entry_name);
  rondo_names_init(&index->shard_names, index, shard_name);
  index_reader r = {.index = index, .shown = shown, .e = e};
  rondo_json_init(&r.json, index->text, size);
  bool fine = read_top(&r);
  rondo_json_free(&r.json);
  fine = fine && sort_shards(&r) && build_names(&r);
  if (!fine) rondo_index_free(index);
  return fine;
}

void rondo_index_free(rondo_index *index) {
  rondo_names_free(&index->names);
  rondo_names_free(&index->shard_names);
  free(index->text);
  free(index->entries);
  free(index->shards);
  index->text = NULL;
  index->entries = NULL;
  index->shards = NULL;
  index->count = index->shard_count = 0;
}
