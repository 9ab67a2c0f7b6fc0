/* folder.h - looking at, walking and removing folders, relative to open folders only.
 *
 * Symbolic links are never followed here and mounts never entered, so removing a folder cannot
 * reach anything outside it. */
#ifndef RONDO_FORMAT_FOLDER_H
#define RONDO_FORMAT_FOLDER_H

#include <stdbool.h>
#include <stdint.h>

/* What a name stands for. device and inode together are the same for every spelling, hard link
 * and bind mount of one file or folder. */
typedef struct rondo_entry {
  uint64_t device, inode;
  uint32_t mode, uid, gid;
  bool mount; /* something is mounted there, as far as the kernel tells */
} rondo_entry;

static inline bool rondo_entry_same(const rondo_entry *a, const rondo_entry *b) {
  return a->device == b->device && a->inode == b->inode;
}

/* Looks at name in folder (AT_FDCWD works too; "" is the folder itself). False sets errno. */
bool rondo_entry_at(int folder, const char *name, bool follow, rondo_entry *entry);

/* Called for every entry, after the entries inside it; depth is 0 directly in the folder that is
 * walked. Returning false ends the walk. */
typedef bool (*rondo_visit)(void *context, int folder, const char *name, const rondo_entry *entry,
                            int depth);

/* Visits all that folder holds, down to 64 levels. 0, or the errno of the first entry that could
 * not be looked at or into (the walk goes on after it). */
int rondo_folder_walk(int folder, rondo_visit visit, void *context);

/* Removes what folder holds, as far as that is possible. */
void rondo_folder_clear(int folder);

/* Removes the folder name in parent with all it holds, if it still is the one that expected
 * describes. 0 or an errno. */
int rondo_folder_remove(int parent, const char *name, const rondo_entry *expected);

#endif
