/* checkpoint.c - tensors over shards: reading and looking up. checkpoint_open.c builds them. */
#include "format/checkpoint.h"

#include "core/error.h"
#include "format/cache.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

void rondo_checkpoint_close(rondo_checkpoint *cp) {
  if (cp->file >= 0) close(cp->file);
  if (cp->folder >= 0) close(cp->folder);
  cp->file = cp->folder = -1;
}

bool rondo_checkpoint_is_closed(const rondo_checkpoint *cp) {
  return cp->folder < 0;
}

static bool check_open(const rondo_checkpoint *cp, rondo_error *e) {
  return cp->folder >= 0 || rondo_fail(e, RONDO_USAGE, "the checkpoint is closed");
}

void rondo_checkpoint_free(rondo_checkpoint *cp) {
  if (cp == NULL) return;
  rondo_checkpoint_close(cp);
  for (uint32_t i = 0; i < cp->shard_count; i++) {
    rondo_safetensors_free(&cp->shards[i].header);
    free(cp->shards[i].name);
  }
  rondo_names_free(&cp->names);
  free(cp->shards);
  free(cp->index);
  free(cp->directory);
  free(cp);
}

rondo_path_excerpt rondo_checkpoint_shown(const rondo_checkpoint *cp, const char *name) {
  return rondo_excerpt_path(cp->directory, name);
}

/* The shard that holds a tensor: the last one whose first tensor is not behind it. */
static uint32_t shard_of(const rondo_checkpoint *cp, uint32_t tensor) {
  uint32_t low = 0, high = cp->shard_count - 1;
  while (low < high) {
    uint32_t middle = low + (high - low + 1) / 2;
    if (cp->shards[middle].first <= tensor)
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

uint32_t rondo_checkpoint_find(const rondo_checkpoint *cp, rondo_text name) {
  return rondo_names_find(&cp->names, name);
}

rondo_text rondo_checkpoint_name(const rondo_checkpoint *cp, uint32_t tensor) {
  const rondo_shard *shard = &cp->shards[shard_of(cp, tensor)];
  return rondo_safetensors_name(&shard->header, tensor - shard->first);
}

void rondo_checkpoint_describe(const rondo_checkpoint *cp, uint32_t tensor, rondo_stored *stored) {
  uint32_t number = shard_of(cp, tensor);
  const rondo_shard *shard = &cp->shards[number];
  uint32_t local = tensor - shard->first;
  const rondo_st_tensor *t = &shard->header.tensors[local];
  stored->shard = number;
  stored->offset = shard->header.data_start + t->offset;
  stored->size = t->size;
  stored->dtype = (rondo_dtype)t->dtype;
  stored->rank = t->rank;
  rondo_safetensors_shape(&shard->header, local, stored->shape);
}

/* Compares two states of one file; the message says what is different. */
static bool same_file(const rondo_file_id *then, const rondo_file_id *now, const char *shown,
                      rondo_error *e) {
  if (rondo_file_id_equal(then, now)) return true;
  bool other = then->device != now->device || then->inode != now->inode;
  if (!other && then->size != now->size) {
    return rondo_fail(e, RONDO_CHANGED, "%s: changed since it was opened: %llu bytes, now %llu",
                      shown, (unsigned long long)then->size, (unsigned long long)now->size);
  }
  return rondo_fail(e, RONDO_CHANGED, "%s: changed since it was opened: %s", shown,
                    other ? "another file has its name" : "it was written to or its state changed");
}

/* Has the shard open at cp->file, and no other. */
static bool use_shard(rondo_checkpoint *cp, uint32_t shard, const char *shown, rondo_error *e) {
  if (!check_open(cp, e)) return false;
  if (cp->file >= 0 && cp->file_shard == shard) return true;
  if (cp->file >= 0) close(cp->file);
  cp->file = -1;
  int fd;
  rondo_file_id now;
  if (!rondo_file_open(cp->folder, cp->shards[shard].name, shown, &fd, &now, e)) return false;
  if (!same_file(&cp->shards[shard].id, &now, shown, e)) {
    close(fd);
    return false;
  }
  cp->file = fd;
  cp->file_shard = shard;
  return true;
}

bool rondo_checkpoint_read(rondo_checkpoint *cp, uint32_t shard, uint64_t offset, void *out,
                           size_t size, rondo_error *e) {
  rondo_path_excerpt shown = rondo_checkpoint_shown(cp, cp->shards[shard].name);
  return use_shard(cp, shard, shown.text, e) &&
         rondo_file_read(cp->file, shown.text, offset, out, size, e);
}

bool rondo_checkpoint_share(rondo_checkpoint *cp, uint32_t shard, rondo_error *e) {
  rondo_path_excerpt shown = rondo_checkpoint_shown(cp, cp->shards[shard].name);
  return use_shard(cp, shard, shown.text, e);
}

bool rondo_checkpoint_read_shared(const rondo_checkpoint *cp, uint64_t offset, void *out,
                                  size_t size, rondo_error *e) {
  rondo_path_excerpt shown = rondo_checkpoint_shown(cp, cp->shards[cp->file_shard].name);
  return rondo_file_read(cp->file, shown.text, offset, out, size, e);
}

/* A byte that is not there at once tells that the file is not in the page cache; asking for what is
 * there already would cost as much as reading it. */
void rondo_checkpoint_read_ahead(const rondo_checkpoint *cp, uint64_t offset, uint64_t size) {
  uint64_t end = cp->shards[cp->file_shard].id.size;
  char byte;
  struct iovec one = {&byte, 1};
  if (offset >= end) return;
  if (size > end - offset) size = end - offset;
  if (preadv2(cp->file, &one, 1, (off_t)offset, RWF_NOWAIT) == 1) return;
  posix_fadvise(cp->file, (off_t)offset, (off_t)size, POSIX_FADV_WILLNEED);
}

void rondo_checkpoint_read_behind(const rondo_checkpoint *cp, uint64_t offset, uint64_t size) {
  uint64_t all = 0;
  for (uint32_t i = 0; i < cp->shard_count; i++) all += cp->shards[i].id.size;
  if (cp->file >= 0 && rondo_cache_streams(all)) rondo_cache_drop(cp->file, offset, size);
}

bool rondo_checkpoint_map(rondo_checkpoint *cp, uint32_t shard, void **base, rondo_error *e) {
  rondo_path_excerpt shown = rondo_checkpoint_shown(cp, cp->shards[shard].name);
  return use_shard(cp, shard, shown.text, e) &&
         rondo_file_map(cp->file, shown.text, cp->shards[shard].id.size, base, e);
}

static bool same_digest(uint64_t then, uint64_t now, const char *shown, rondo_error *e) {
  if (then == now) return true;
  return rondo_fail(e, RONDO_CHANGED, "%s: changed since it was opened: another header", shown);
}

static bool check_shard(const rondo_checkpoint *cp, const rondo_shard *shard, rondo_error *e) {
  rondo_path_excerpt shown = rondo_checkpoint_shown(cp, shard->name);
  int fd;
  rondo_file_id now;
  uint64_t digest = 0;
  if (!rondo_file_open(cp->folder, shard->name, shown.text, &fd, &now, e)) {
    e->status = RONDO_CHANGED; /* it could be opened before */
    return false;
  }
  bool fine = same_file(&shard->id, &now, shown.text, e) &&
              rondo_file_digest(fd, shown.text, 8, shard->header.header_size, &digest, e) &&
              same_digest(shard->header.digest, digest, shown.text, e);
  close(fd);
  return fine;
}

/* Reads the index again only where it has the size that it had, which was within the limit. */
static bool check_index(const rondo_checkpoint *cp, rondo_error *e) {
  rondo_path_excerpt shown = rondo_checkpoint_shown(cp, cp->index);
  int fd;
  rondo_file_id now;
  uint64_t digest = 0;
  if (!rondo_file_open(cp->folder, cp->index, shown.text, &fd, &now, e)) {
    e->status = RONDO_CHANGED; /* it could be opened before */
    return false;
  }
  bool fine = same_file(&cp->index_id, &now, shown.text, e) &&
              rondo_file_digest(fd, shown.text, 0, (size_t)now.size, &digest, e) &&
              same_digest(cp->index_digest, digest, shown.text, e);
  close(fd);
  return fine;
}

bool rondo_checkpoint_check(rondo_checkpoint *cp, rondo_error *e) {
  if (!check_open(cp, e) || (cp->index != NULL && !check_index(cp, e))) return false;
  for (uint32_t i = 0; i < cp->shard_count; i++)
    if (!check_shard(cp, &cp->shards[i], e)) return false;
  return true;
}
