/* folder.c - looking at, walking and removing folders. One descriptor is open per level. */
#include "format/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { MAX_DEPTH = 64, MAX_PASSES = 8 };

typedef struct {
  rondo_visit visit;
  void *context;
  uint64_t device; /* of the folder where the walk began */
  int problem;     /* the first errno */
  bool stopped;
} walk;

bool rondo_entry_at(int folder, const char *name, bool follow, rondo_entry *entry) {
  struct statx s;
  int flags = AT_EMPTY_PATH | AT_NO_AUTOMOUNT | (follow ? 0 : AT_SYMLINK_NOFOLLOW);
  if (statx(folder, name, flags, STATX_BASIC_STATS, &s) != 0) return false;
  *entry = (rondo_entry){
      .device = makedev(s.stx_dev_major, s.stx_dev_minor),
      .inode = s.stx_ino,
      .mode = s.stx_mode,
      .uid = s.stx_uid,
      .gid = s.stx_gid,
      .mount = (s.stx_attributes & s.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) != 0,
  };
  return true;
}

static void note(walk *w, int errnum) {
  if (w->problem == 0) w->problem = errnum;
}

static void walk_folder(walk *w, int folder, int depth);

static void walk_entry(walk *w, int folder, const char *name, int depth) {
  rondo_entry entry;
  if (!rondo_entry_at(folder, name, false, &entry)) {
    if (errno != ENOENT) note(w, errno);
    return;
  }
  if (entry.device != w->device) entry.mount = true;
  if (S_ISDIR(entry.mode) && !entry.mount) {
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    int child = depth + 1 < MAX_DEPTH ? openat(folder, name, flags) : (errno = ELOOP, -1);
    if (child < 0) {
      note(w, errno);
    } else {
      walk_folder(w, child, depth + 1);
    }
  }
  if (!w->stopped) w->stopped = !w->visit(w->context, folder, name, &entry, depth);
}

/* Takes over the descriptor. */
static void walk_folder(walk *w, int folder, int depth) {
  DIR *dir = fdopendir(folder);
  if (dir == NULL) {
    note(w, errno);
    close(folder);
    return;
  }
  while (!w->stopped) {
    errno = 0;
    const struct dirent *d = readdir(dir);
    if (d == NULL) {
      if (errno != 0) note(w, errno);
      break;
    }
    if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0) continue;
    walk_entry(w, dirfd(dir), d->d_name, depth);
  }
  closedir(dir);
}

int rondo_folder_walk(int folder, rondo_visit visit, void *context) {
  rondo_entry self;
  if (!rondo_entry_at(folder, "", false, &self)) return errno;
  int again = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (again < 0) return errno;
  walk w = {.visit = visit, .context = context, .device = self.device};
  walk_folder(&w, again, 0);
  return w.problem;
}

static bool remove_entry(void *context, int folder, const char *name, const rondo_entry *entry,
                         int depth) {
  (void)depth;
  int *removed = context;
  if (unlinkat(folder, name, S_ISDIR(entry->mode) ? AT_REMOVEDIR : 0) == 0) ++*removed;
  return true;
}

/* A file system may skip entries while others are removed, hence the passes. */
void rondo_folder_clear(int folder) {
  int removed = 1;
  for (int pass = 0; removed > 0 && pass < MAX_PASSES; pass++) {
    removed = 0;
    rondo_folder_walk(folder, remove_entry, &removed);
  }
}

int rondo_folder_remove(int parent, const char *name, const rondo_entry *expected) {
  int folder = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (folder < 0) return errno;
  rondo_entry entry;
  bool same = rondo_entry_at(folder, "", false, &entry) && rondo_entry_same(&entry, expected);
  if (same && !entry.mount) rondo_folder_clear(folder);
  close(folder);
  if (!same) return ENOENT;
  return unlinkat(parent, name, AT_REMOVEDIR) == 0 ? 0 : errno;
}
