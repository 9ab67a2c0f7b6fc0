/* names.h - a set of names that live elsewhere, numbered 0, 1, 2, ... in the order they came.
 *
 * The set holds six to twelve bytes a name and asks its owner for the text. The hash is keyed
 * with a random number for each set, so that a file cannot be made to collide. */
#ifndef RONDO_FORMAT_NAMES_H
#define RONDO_FORMAT_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A run of bytes that may hold NUL and is not ended by one. */
typedef struct rondo_text {
  const char *text;
  size_t length;
} rondo_text;

static inline bool rondo_text_equal(rondo_text a, rondo_text b) {
  return a.length == b.length && (a.length == 0 || __builtin_memcmp(a.text, b.text, a.length) == 0);
}

/* Bytewise order; a shorter text comes before what it starts. */
int rondo_text_compare(rondo_text a, rondo_text b);

/* A text for use in messages: cut to about 90 bytes, whole characters only, NUL shown as \x00. */
typedef struct rondo_excerpt {
  char text[128];
} rondo_excerpt;
rondo_excerpt rondo_excerpt_text(rondo_text text);

typedef rondo_text (*rondo_name_of)(const void *owner, uint32_t id);

typedef struct rondo_names {
  uint32_t *slots; /* id + 1, 0 where free; the number of slots is a power of two */
  uint8_t *tags;   /* eight other bits of each slot's hash, to compare few texts; behind slots */
  uint32_t mask;   /* number of slots - 1 */
  uint32_t count;
  uint64_t key[2];
  const void *owner;
  rondo_name_of name_of;
} rondo_names;

#define RONDO_NO_NAME UINT32_MAX

/* Cannot fail and allocates nothing. */
void rondo_names_init(rondo_names *names, const void *owner, rondo_name_of name_of);

/* Releases the memory; the set is empty afterwards and may be used again. */
void rondo_names_free(rondo_names *names);

/* Makes room for count names in all. False when memory runs out; the set is empty then. */
bool rondo_names_reserve(rondo_names *names, uint32_t count);

/* The id of a name, RONDO_NO_NAME when it is not in the set. */
uint32_t rondo_names_find(const rondo_names *names, rondo_text name);

/* Gives name the id names->count, unless it has one that is >= floor already. Returns false when
 * memory runs out, and the set is empty then; otherwise *id is the id. The owner must be able to
 * name the new id at once. */
bool rondo_names_insert(rondo_names *names, rondo_text name, uint32_t floor, uint32_t *id);

/* Takes out the name with the highest id, which the owner must still be able to name. */
void rondo_names_pop(rondo_names *names);

#endif
