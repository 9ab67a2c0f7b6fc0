/* groups.c - see groups.h. */
#include "format/groups.h"

#include <stdlib.h>
#include <string.h>

/* The keys of the groups found so far, one behind the other. */
typedef struct {
  char *text;
  size_t room;
  size_t *starts; /* of each key, and the end of the last */
  uint32_t starts_room;
  rondo_names names; /* their numbers */
} keys;

static rondo_text key_of(const void *owner, uint32_t id) {
  const keys *k = owner;
  return (rondo_text){k->text + k->starts[id], k->starts[id + 1] - k->starts[id]};
}

/* Room for one more key of at most `length` bytes. */
static bool make_room(keys *k, size_t length) {
  uint32_t count = k->names.count;
  if (count + 2 > k->starts_room) {
    uint32_t room = k->starts_room > 0 ? 2 * k->starts_room : 64;
    size_t *starts = reallocarray(k->starts, room, sizeof *starts);
    if (starts == NULL) return false;
    if (k->starts == NULL) starts[0] = 0;
    k->starts = starts;
    k->starts_room = room;
  }
  size_t needed = k->starts[count] + length;
  if (needed <= k->room) return true;
  char *text = realloc(k->text, 2 * needed);
  if (text == NULL) return false;
  k->text = text;
  k->room = 2 * needed;
  return true;
}

static bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/* Writes a name with its numbers replaced; returns the end. */
static char *put_stem(rondo_text name, char *out) {
  for (size_t at = 0; at < name.length;) {
    size_t from = at;
    while (at < name.length && is_digit(name.text[at])) at++;
    size_t digits = at - from;
    bool segment =
        (from == 0 || name.text[from - 1] == '.') && (at == name.length || name.text[at] == '.');
    if (digits == 0)
      *out++ = name.text[at++];
    else if (segment && digits <= 9)
      *out++ = '0';
    else if (digits == 1)
      *out++ = name.text[from];
    else
      *out++ = '0', *out++ = '0';
  }
  return out;
}

/* Writes what stands for the tensor's group behind the last key. Names hold no NUL, so that what
 * follows one cannot be taken for a part of it. */
static rondo_text put_key(keys *k, const rondo_checkpoint *cp, uint32_t tensor, rondo_text name) {
  rondo_stored stored;
  rondo_checkpoint_describe(cp, tensor, &stored);
  char *start = k->text + k->starts[k->names.count], *out = put_stem(name, start);
  size_t dimensions = (size_t)stored.rank * sizeof *stored.shape;
  *out++ = '\0';
  *out++ = (char)stored.dtype;
  memcpy(out, stored.shape, dimensions);
  return (rondo_text){start, (size_t)(out - start) + dimensions};
}

static bool find_group(keys *k, const rondo_checkpoint *cp, uint32_t tensor, uint32_t *group) {
  rondo_text name = rondo_checkpoint_name(cp, tensor);
  if (!make_room(k, name.length + 2 + RONDO_MAX_RANK * sizeof(int64_t))) return false;
  rondo_text key = put_key(k, cp, tensor, name);
  uint32_t known = k->names.count;
  k->starts[known + 1] = k->starts[known] + key.length;
  return rondo_names_insert(&k->names, key, 0, group);
}

bool rondo_checkpoint_groups(const rondo_checkpoint *cp, uint32_t *group_of, uint32_t *first,
                             uint32_t *count) {
  keys k = {0};
  bool fine = true;
  rondo_names_init(&k.names, &k, key_of);
  for (uint32_t i = 0; fine && i < cp->count; i++) {
    uint32_t known = k.names.count;
    fine = find_group(&k, cp, i, &group_of[i]);
    if (fine && group_of[i] == known) first[known] = i;
  }
  *count = k.names.count;
  rondo_names_free(&k.names);
  free(k.starts);
  free(k.text);
  return fine;
}
