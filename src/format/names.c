/* names.c - open addressing over SipHash-1-3, keyed by random bytes. Removal is only of the newest
 * name, which with linear probing leaves the slots as they were before it came. */
#include "format/names.h"

#include "core/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static uint64_t rotate(uint64_t x, int by) {
  return x << by | x >> (64 - by);
}

static void sip_round(uint64_t v[4]) {
  v[0] += v[1], v[2] += v[3];
  v[1] = rotate(v[1], 13) ^ v[0], v[3] = rotate(v[3], 16) ^ v[2];
  v[0] = rotate(v[0], 32);
  v[2] += v[1], v[0] += v[3];
  v[1] = rotate(v[1], 17) ^ v[2], v[3] = rotate(v[3], 21) ^ v[0];
  v[2] = rotate(v[2], 32);
}

static void sip_word(uint64_t v[4], uint64_t word) {
  v[3] ^= word;
  sip_round(v);
  v[0] ^= word;
}

/* SipHash with one round a word and three at the end (Aumasson and Bernstein), folded to 32 bits.
 * Words are read in the machine's byte order: the hash never leaves the process. */
static uint32_t hash(const rondo_names *names, rondo_text name) {
  uint64_t v[4] = {names->key[0] ^ 0x736f6d6570736575, names->key[1] ^ 0x646f72616e646f6d,
                   names->key[0] ^ 0x6c7967656e657261, names->key[1] ^ 0x7465646279746573};
  uint64_t word;
  size_t at = 0;
  for (; name.length - at >= 8; at += 8) {
    memcpy(&word, name.text + at, 8);
    sip_word(v, word);
  }
  word = 0;
  if (name.length > at) memcpy(&word, name.text + at, name.length - at);
  sip_word(v, word);
  sip_word(v, name.length);
  v[2] ^= 0xff;
  for (int i = 0; i < 3; i++) sip_round(v);
  uint64_t h = v[0] ^ v[1] ^ v[2] ^ v[3];
  return (uint32_t)(h ^ h >> 32);
}

void rondo_names_init(rondo_names *names, const void *owner, rondo_name_of name_of) {
  *names = (rondo_names){.owner = owner, .name_of = name_of};
  if (getrandom(names->key, sizeof names->key, GRND_NONBLOCK) != (ssize_t)sizeof names->key) {
    struct timespec now; /* early in boot: better than a constant */
    clock_gettime(CLOCK_MONOTONIC, &now);
    names->key[0] = (uint64_t)now.tv_nsec * 0x9e3779b97f4a7c15;
    names->key[1] = (uint64_t)(uintptr_t)names ^ (uint64_t)now.tv_sec;
  }
}

void rondo_names_free(rondo_names *names) {
  free(names->slots);
  names->slots = NULL;
  names->tags = NULL;
  names->mask = names->count = 0;
}

static uint8_t tag(uint32_t h) {
  return (uint8_t)(h >> 24); /* the slot comes from the low bits */
}

/* The place of the name, or the free one where it belongs. There is always a free one. */
static uint32_t probe(const rondo_names *names, rondo_text name, uint32_t floor, uint32_t h) {
  for (uint32_t at = h & names->mask;; at = (at + 1) & names->mask) {
    uint32_t slot = names->slots[at];
    if (slot == 0) return at;
    if (names->tags[at] != tag(h) || slot - 1 < floor) continue;
    if (rondo_text_equal(names->name_of(names->owner, slot - 1), name)) return at;
  }
}

uint32_t rondo_names_find(const rondo_names *names, rondo_text name) {
  if (names->count == 0) return RONDO_NO_NAME;
  return names->slots[probe(names, name, 0, hash(names, name))] - 1; /* free: RONDO_NO_NAME */
}

/* Puts the names in again in the order of their ids, as rondo_names_pop needs it. False: no memory,
 * and the set is empty. */
static bool resize(rondo_names *names, size_t size) {
  uint32_t count = names->count;
  rondo_names_free(names); /* first, so that there are never two tables */
  if (size > (size_t)1 << 31) return false;
  uint32_t *slots = calloc(size, sizeof *slots + 1);
  if (slots == NULL) return false;
  names->count = count;
  names->slots = slots;
  names->tags = (uint8_t *)(slots + size);
  names->mask = (uint32_t)(size - 1);
  for (uint32_t id = 0; id < names->count; id++) {
    uint32_t h = hash(names, names->name_of(names->owner, id)), at = h & names->mask;
    while (slots[at] != 0) at = (at + 1) & names->mask;
    slots[at] = id + 1;
    names->tags[at] = tag(h);
  }
  return true;
}

bool rondo_names_reserve(rondo_names *names, uint32_t count) {
  size_t size = names->slots == NULL ? 16 : (size_t)names->mask + 1;
  while (size / 8 * 7 <= count) size *= 2;
  return (names->slots != NULL && size == (size_t)names->mask + 1) || resize(names, size);
}

bool rondo_names_insert(rondo_names *names, rondo_text name, uint32_t floor, uint32_t *id) {
  if (!rondo_names_reserve(names, names->count)) return false;
  uint32_t h = hash(names, name), at = probe(names, name, floor, h);
  if (names->slots[at] == 0) {
    names->slots[at] = ++names->count;
    names->tags[at] = tag(h);
  }
  *id = names->slots[at] - 1;
  return true;
}

void rondo_names_pop(rondo_names *names) {
  uint32_t id = names->count - 1;
  uint32_t at = hash(names, names->name_of(names->owner, id)) & names->mask;
  while (names->slots[at] != id + 1) at = (at + 1) & names->mask;
  names->slots[at] = 0;
  names->count--;
}

int rondo_text_compare(rondo_text a, rondo_text b) {
  size_t common = a.length < b.length ? a.length : b.length;
  int order = common == 0 ? 0 : memcmp(a.text, b.text, common);
  return order != 0 ? order : (a.length > b.length) - (a.length < b.length);
}

rondo_excerpt rondo_excerpt_text(rondo_text text) {
  rondo_excerpt out;
  size_t used = 0, at = 0;
  while (at < text.length && used < 90) {
    size_t length = utf8_length(text.text + at, text.length - at);
    if (length == 0) length = 1; /* rondo_fail shows the broken byte as \xNN */
    if (text.text[at] == '\0')
      used += (size_t)sprintf(out.text + used, "\\x00");
    else
      memcpy(out.text + used, text.text + at, length), used += length;
    at += length;
  }
  memcpy(out.text + used, at < text.length ? "..." : "", at < text.length ? 4 : 1);
  return out;
}
