/* checkpoint_open.c - finding the files of a checkpoint and reading their headers. Nothing is
 * opened outside the folder that was named, but through links that lie in it. */
#include "format/checkpoint.h"

#include "core/error.h"
#include "format/index.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef O_PATH
#define O_PATH O_RDONLY
#endif

static const char index_name[] = "model.safetensors.index.json";
static const char single_name[] = "model.safetensors";

static bool ends_with(const char *text, const char *ending) {
  size_t length = strlen(text), n = strlen(ending);
  return length >= n && memcmp(text + length - n, ending, n) == 0;
}

static bool no_memory(rondo_error *e) {
  return rondo_fail(e, RONDO_MEMORY, "not enough memory to open the checkpoint");
}

static rondo_text tensor_name(const void *owner, uint32_t id) {
  return rondo_checkpoint_name(owner, id);
}

/* ---- shards ------------------------------------------------------------------------------ */

/* Reads the header of shards[shard_count], whose name is set, and counts it in. */
static bool read_shard(rondo_checkpoint *cp, rondo_error *e) {
  rondo_shard *shard = &cp->shards[cp->shard_count++]; /* counted at once: close() frees it */
  rondo_path_excerpt shown = rondo_checkpoint_shown(cp, shard->name);
  int fd;
  if (!rondo_file_open(cp->folder, shard->name, shown.text, &fd, &shard->id, e)) return false;
  bool fine = rondo_safetensors_read(&shard->header, fd, shown.text, shard->id.size, e);
  close(fd);
  return fine;
}

static bool open_shard(rondo_checkpoint *cp, rondo_text name, rondo_error *e) {
  char *copy = strndup(name.text, name.length);
  if (copy == NULL) return no_memory(e);
  cp->shards[cp->shard_count].name = copy;
  return read_shard(cp, e);
}

static bool reserve_shards(rondo_checkpoint *cp, uint32_t count, rondo_error *e) {
  cp->shards = calloc(count, sizeof *cp->shards);
  return cp->shards != NULL || no_memory(e);
}

/* Numbers the tensors and fills the table of names, which are all different. */
static bool number_tensors(rondo_checkpoint *cp, rondo_error *e) {
  for (uint32_t i = 0; i < cp->shard_count; i++) {
    cp->shards[i].first = cp->count;
    cp->count += cp->shards[i].header.count; /* one header or the index bounds it: below 2^32 */
  }
  if (!rondo_names_reserve(&cp->names, cp->count)) return no_memory(e);
  for (uint32_t i = 0; i < cp->count; i++) {
    uint32_t id;
    if (!rondo_names_insert(&cp->names, rondo_checkpoint_name(cp, i), 0, &id)) return no_memory(e);
  }
  return true;
}

/* ---- the index against its shards -------------------------------------------------------- */

static bool wrong_shard(const rondo_checkpoint *cp, rondo_text name, const char *shard,
                        const char *other, rondo_error *e) {
  rondo_path_excerpt shown = rondo_checkpoint_shown(cp, cp->index);
  rondo_excerpt tensor = rondo_excerpt_text(name);
  rondo_excerpt file = rondo_excerpt_text((rondo_text){shard, strlen(shard)});
  if (other == NULL) {
    return rondo_fail(e, RONDO_FORMAT,
                      "%s: weight_map says that tensor \"%s\" is in \"%s\", which lacks it",
                      shown.text, tensor.text, file.text);
  }
  rondo_excerpt found = rondo_excerpt_text((rondo_text){other, strlen(other)});
  return rondo_fail(e, RONDO_FORMAT,
                    "%s: weight_map says that tensor \"%s\" is in \"%s\", but it is in \"%s\"",
                    shown.text, tensor.text, file.text, found.text);
}

/* Marks the tensors of one shard that the index lists there; refuses one listed elsewhere. */
static bool match_shard(rondo_checkpoint *cp, rondo_index *index, uint32_t number, rondo_error *e) {
  rondo_safetensors *header = &cp->shards[number].header;
  for (uint32_t i = 0; i < header->count; i++) {
    rondo_text name = rondo_safetensors_name(header, i);
    uint32_t entry = rondo_names_find(&index->names, name);
    header->tensors[i].listed = entry != RONDO_NO_NAME;
    if (entry == RONDO_NO_NAME) continue;
    uint32_t said = index->entries[entry].shard;
    if (said != number)
      return wrong_shard(cp, name, cp->shards[said].name, cp->shards[number].name, e);
    index->entries[entry].found = 1;
  }
  return true;
}

static bool all_found(const rondo_checkpoint *cp, const rondo_index *index, rondo_error *e) {
  for (uint32_t i = 0; i < index->count; i++)
    if (!index->entries[i].found)
      return wrong_shard(cp, rondo_index_name(index, i), cp->shards[index->entries[i].shard].name,
                         NULL, e);
  return true;
}

/* Takes out the tensors that the index does not list; returns how many. */
static uint32_t drop_unlisted(rondo_checkpoint *cp) {
  uint32_t dropped = 0;
  for (uint32_t s = 0; s < cp->shard_count; s++) {
    rondo_safetensors *header = &cp->shards[s].header;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < header->count; i++)
      if (header->tensors[i].listed) header->tensors[kept++] = header->tensors[i];
    dropped += header->count - kept;
    header->count = kept;
  }
  return dropped;
}

static uint64_t total_size(const rondo_checkpoint *cp) {
  uint64_t total = 0; /* each file is below 2^63 bytes; a wrapped sum only spoils a remark */
  for (uint32_t s = 0; s < cp->shard_count; s++)
    for (uint32_t i = 0; i < cp->shards[s].header.count; i++)
      total += cp->shards[s].header.tensors[i].size;
  return total;
}

static void warn_about(rondo_checkpoint *cp, const rondo_index *index, uint32_t dropped) {
  rondo_path_excerpt shown = rondo_checkpoint_shown(cp, cp->index);
  if (dropped > 0)
    rondo_fail(&cp->warnings[cp->warning_count++], RONDO_OK,
               "%s: %u tensors in the shards are not in the weight_map and are left out",
               shown.text, dropped);
  uint64_t total = total_size(cp);
  bool known = index->total_state == RONDO_TOTAL_KNOWN;
  if (index->total_state == RONDO_TOTAL_WRONG || (known && index->total != total))
    rondo_fail(&cp->warnings[cp->warning_count++], RONDO_OK,
               "%s: total_size is wrong: the tensors have %llu bytes", shown.text,
               (unsigned long long)total);
}

/* Says in a shard's error that the index wants that file. */
static bool blame_index(const rondo_checkpoint *cp, rondo_error *e) {
  rondo_error inner = *e;
  return rondo_fail(e, inner.status, "%s (a shard of %s)", inner.message, cp->index);
}

static bool match_index(rondo_checkpoint *cp, rondo_index *index, rondo_error *e) {
  if (!reserve_shards(cp, index->shard_count, e)) return false;
  for (uint32_t i = 0; i < index->shard_count; i++)
    if (!open_shard(cp, rondo_index_shard(index, i), e)) return blame_index(cp, e);
  for (uint32_t i = 0; i < index->shard_count; i++)
    if (!match_shard(cp, index, i, e)) return false;
  if (!all_found(cp, index, e)) return false;
  warn_about(cp, index, drop_unlisted(cp));
  return true;
}

static bool open_index(rondo_checkpoint *cp, const char *name, rondo_error *e) {
  cp->index = strdup(name);
  if (cp->index == NULL) return no_memory(e);
  rondo_path_excerpt shown = rondo_checkpoint_shown(cp, name);
  rondo_index index;
  if (!rondo_index_read(&index, cp->folder, name, shown.text, &cp->index_id, e)) return false;
  cp->index_digest = index.digest;
  bool fine = match_index(cp, &index, e);
  rondo_index_free(&index);
  return fine && number_tensors(cp, e);
}

static bool open_single(rondo_checkpoint *cp, const char *name, rondo_error *e) {
  return reserve_shards(cp, 1, e) && open_shard(cp, (rondo_text){name, strlen(name)}, e) &&
         number_tensors(cp, e);
}

/* ---- folders ----------------------------------------------------------------------------- */

static bool is_candidate(const char *name) {
  return name[0] != '.' && ends_with(name, ".safetensors") && strlen(name) <= NAME_MAX;
}

/* The *.safetensors names of a folder: how many, and the two that come first in bytewise order. */
typedef struct {
  unsigned count;
  char first[NAME_MAX + 1], second[NAME_MAX + 1];
} candidates;

static void add_candidate(candidates *c, const char *name) {
  if (c->count == 0 || strcmp(name, c->first) < 0) {
    memcpy(c->second, c->first, sizeof c->second);
    memcpy(c->first, name, strlen(name) + 1);
  } else if (c->count == 1 || strcmp(name, c->second) < 0) {
    memcpy(c->second, name, strlen(name) + 1);
  }
  c->count++;
}

static bool list_candidates(const rondo_checkpoint *cp, candidates *c, rondo_error *e) {
  int fd = openat(cp->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *dir = fd < 0 ? NULL : fdopendir(fd);
  if (dir == NULL) {
    int problem = errno;
    if (fd >= 0) close(fd);
    return rondo_fail_errno(e, problem, "%s: the folder cannot be listed",
                            rondo_checkpoint_shown(cp, "").text);
  }
  struct dirent *entry;
  while ((entry = readdir(dir)) != NULL)
    if (is_candidate(entry->d_name)) add_candidate(c, entry->d_name);
  closedir(dir);
  return true;
}

static bool open_only_file(rondo_checkpoint *cp, rondo_error *e) {
  candidates c = {0};
  if (!list_candidates(cp, &c, e)) return false;
  rondo_path_excerpt shown = rondo_checkpoint_shown(cp, "");
  if (c.count == 0)
    return rondo_fail(e, RONDO_IO, "%s: there is no safetensors file in this folder", shown.text);
  if (c.count == 1) return open_single(cp, c.first, e);
  rondo_excerpt a = rondo_excerpt_text((rondo_text){c.first, strlen(c.first)});
  rondo_excerpt b = rondo_excerpt_text((rondo_text){c.second, strlen(c.second)});
  return rondo_fail(e, RONDO_USAGE,
                    "%s: %u safetensors files and no index: name the file to open (\"%s\", "
                    "\"%s\"%s)",
                    shown.text, c.count, a.text, b.text, c.count > 2 ? ", ..." : "");
}

/* Whether the folder has that name, if only as a link to nothing. */
static bool has(const rondo_checkpoint *cp, const char *name) {
  struct stat s;
  return fstatat(cp->folder, name, &s, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool open_folder_layout(rondo_checkpoint *cp, rondo_error *e) {
  if (has(cp, index_name)) return open_index(cp, index_name, e);
  if (has(cp, single_name)) return open_single(cp, single_name, e);
  return open_only_file(cp, e);
}

/* ---- the path ---------------------------------------------------------------------------- */

/* Splits path into cp->directory, of which it opens the folder, and the base name (an end of
 * path, empty when path is a folder). */
static bool open_directory(rondo_checkpoint *cp, const char *path, bool folder, const char **base,
                           rondo_error *e) {
  size_t length = strlen(path);
  const char *slash = strrchr(path, '/');
  size_t keep = folder ? length : slash == NULL ? 0 : (size_t)(slash - path) + 1;
  *base = path + keep;
  cp->directory = malloc(keep + 2);
  if (cp->directory == NULL) return no_memory(e);
  memcpy(cp->directory, path, keep);
  if (folder && path[keep - 1] != '/') cp->directory[keep++] = '/';
  cp->directory[keep] = '\0';
  cp->folder = open(keep == 0 ? "." : cp->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (cp->folder >= 0) return true;
  return rondo_fail_errno(e, errno, "%s: the folder cannot be opened",
                          rondo_checkpoint_shown(cp, "").text);
}

static bool open_path(rondo_checkpoint *cp, const char *path, rondo_error *e) {
  struct stat s;
  if (stat(path, &s) != 0)
    return rondo_fail_errno(e, errno, "%s: cannot be opened", rondo_excerpt_path(path, "").text);
  const char *base;
  bool folder = S_ISDIR(s.st_mode);
  if (!open_directory(cp, path, folder, &base, e)) return false;
  if (folder) return open_folder_layout(cp, e);
  return ends_with(base, ".json") ? open_index(cp, base, e) : open_single(cp, base, e);
}

rondo_checkpoint *rondo_checkpoint_open(const char *path, rondo_error *e) {
  rondo_checkpoint *cp = calloc(1, sizeof *cp);
  if (cp == NULL) return no_memory(e), NULL;
  cp->folder = cp->file = -1;
  rondo_names_init(&cp->names, cp, tensor_name);
  if (open_path(cp, path, e)) return cp;
  rondo_checkpoint_free(cp);
  return NULL;
}
