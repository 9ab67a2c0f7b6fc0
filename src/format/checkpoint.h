/* checkpoint.h - the tensors of a model over one or many safetensors files.
 *
 * Opening reads headers only and keeps no descriptor but that of the folder; later at most one
 * file is open at a time, whatever the number of shards. Files are opened relative to the folder,
 * and a file that is not the one seen at opening (by device, inode, size and times) is refused. */
#ifndef RONDO_FORMAT_CHECKPOINT_H
#define RONDO_FORMAT_CHECKPOINT_H

#include "format/mapping.h"
#include "format/safetensors.h"

typedef struct rondo_shard {
  char *name; /* in the checkpoint's folder */
  rondo_file_id id;
  rondo_safetensors header;
  uint32_t first; /* number of its first tensor in the checkpoint */
} rondo_shard;

typedef struct rondo_checkpoint {
  char *directory; /* with a slash at its end, or empty */
  int folder;      /* open descriptor of it; -1: the checkpoint is closed */
  rondo_shard *shards;
  uint32_t shard_count;
  char *index; /* name of the index file, NULL for a single file */
  rondo_file_id index_id;
  uint64_t index_digest;
  uint32_t count;    /* tensors in all shards */
  rondo_names names; /* over all tensors, numbered shard by shard */
  int file;          /* the shard open at the moment, -1 when none is */
  uint32_t file_shard;
  rondo_error warnings[2]; /* remarks about odd but usable files; only the messages count */
  int warning_count;
} rondo_checkpoint;

/* One tensor, as its header describes it. */
typedef struct rondo_stored {
  uint32_t shard;
  uint64_t offset; /* of its first byte in the shard's file */
  uint64_t size;   /* bytes */
  rondo_dtype dtype;
  int rank;
  int64_t shape[RONDO_MAX_RANK];
} rondo_stored;

/* Opens a folder in Hugging Face layout (its model.safetensors.index.json, else model.safetensors,
 * else its only *.safetensors file), an index (*.json), or one safetensors file. NULL and *e filled
 * on failure. With an index, the tensors are those that it lists; each must lie in the shard
 * that it names. */
rondo_checkpoint *rondo_checkpoint_open(const char *path, rondo_error *e);

/* Closes the descriptors. What headers and index say stays known; reading, mapping and checking
 * fail with RONDO_USAGE from then on. May come again. */
void rondo_checkpoint_close(rondo_checkpoint *cp);

bool rondo_checkpoint_is_closed(const rondo_checkpoint *cp);

/* Closes and frees everything; mappings that were handed out stay. NULL is fine. */
void rondo_checkpoint_free(rondo_checkpoint *cp);

/* The number of the tensor with exactly that name, or RONDO_NO_NAME. */
uint32_t rondo_checkpoint_find(const rondo_checkpoint *cp, rondo_text name);

/* Tensors are numbered 0 .. count-1: shards by file name, within a shard by offset. */
rondo_text rondo_checkpoint_name(const rondo_checkpoint *cp, uint32_t tensor);
void rondo_checkpoint_describe(const rondo_checkpoint *cp, uint32_t tensor, rondo_stored *stored);

/* Reads size bytes at offset of a shard's file. */
bool rondo_checkpoint_read(rondo_checkpoint *cp, uint32_t shard, uint64_t offset, void *out,
                           size_t size, rondo_error *e);

/* Has a shard's file open for rondo_checkpoint_read_shared, which any thread may call until the
 * checkpoint is used for anything else. */
bool rondo_checkpoint_share(rondo_checkpoint *cp, uint32_t shard, rondo_error *e);
bool rondo_checkpoint_read_shared(const rondo_checkpoint *cp, uint64_t offset, void *out,
                                  size_t size, rondo_error *e);

/* Asks the system to read ahead where the bytes of a shared shard are not in memory yet. */
void rondo_checkpoint_read_ahead(const rondo_checkpoint *cp, uint64_t offset, uint64_t size);

/* Bytes of the shared shard have been read and are not needed again: where the checkpoint is too
 * large for the page cache (cache.h), the system may forget them. */
void rondo_checkpoint_read_behind(const rondo_checkpoint *cp, uint64_t offset, uint64_t size);

/* Maps a shard's file whole, read-only; shards[shard].id.size bytes, for the caller to munmap. */
bool rondo_checkpoint_map(rondo_checkpoint *cp, uint32_t shard, void **base, rondo_error *e);

/* Whether all files still are what they were: identity, size and times, and the digests of index
 * and headers, read again. RONDO_CHANGED if not. */
bool rondo_checkpoint_check(rondo_checkpoint *cp, rondo_error *e);

/* How messages call a file of the checkpoint. */
rondo_path_excerpt rondo_checkpoint_shown(const rondo_checkpoint *cp, const char *name);

#endif
