/* index.h - the weight_map of a sharded checkpoint: which tensor lies in which file.
 *
 * A file of the map must be a plain name in the index's own folder: no separators, "." or "..",
 * control characters or drive letters. Links under such a name are followed, as the Hugging Face
 * cache has them. Of "metadata" only total_size is looked at, and only to be compared. */
#ifndef RONDO_FORMAT_INDEX_H
#define RONDO_FORMAT_INDEX_H

#include "format/json.h"
#include "format/mapping.h"

/* The longest index, in bytes. */
#define RONDO_INDEX_MAX 100000000u

typedef struct rondo_index_entry {
  uint32_t name, name_length; /* place in the text, unescaped */
  uint32_t shard;             /* number of its file */
  uint32_t found;             /* free for the owner of the table; 0 after reading */
} rondo_index_entry;

typedef struct rondo_index {
  char *text;
  rondo_index_entry *entries; /* in the order of the text */
  uint32_t count, capacity;
  rondo_names names; /* over entries; built by rondo_index_read */
  rondo_json_key *shards;
  uint32_t shard_count, shard_capacity; /* in bytewise order of their names */
  rondo_names shard_names;              /* over shards, while reading */
  enum { RONDO_TOTAL_ABSENT, RONDO_TOTAL_KNOWN, RONDO_TOTAL_WRONG } total_state;
  uint64_t total; /* total_size, when KNOWN; WRONG: a number that cannot be a size */
  uint64_t digest;
} rondo_index;

/* Reads the index file name in folder. *index must not be moved afterwards; it must be freed when
 * this returns true, and may be when it returns false. */
bool rondo_index_read(rondo_index *index, int folder, const char *name, const char *shown,
                      rondo_file_id *id, rondo_error *e);
void rondo_index_free(rondo_index *index);

rondo_text rondo_index_name(const rondo_index *index, uint32_t entry);
rondo_text rondo_index_shard(const rondo_index *index, uint32_t shard);

#endif
