/* inputs.c - what must not be destroyed: the identities of all inputs and of the folders above
 * them, by device and inode. */
#include "format/place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Makes room for one more element; false when memory runs out. */
static bool grow(void **array, size_t *room, size_t count, size_t size) {
  if (count < *room) return true;
  size_t wanted = *room > 0 ? *room * 2 : 16;
  void *larger = reallocarray(*array, wanted, size);
  if (larger == NULL) return false;
  *array = larger;
  *room = wanted;
  return true;
}

static bool mark(rondo_inputs *in, const rondo_entry *entry, bool above, const char *path) {
  void *marks = in->marks;
  if (!grow(&marks, &in->mark_room, in->mark_count, sizeof *in->marks)) return false;
  in->marks = marks;
  in->marks[in->mark_count++] = (rondo_input_mark){
      .device = entry->device,
      .inode = entry->inode,
      .path = path,
      .above = above,
  };
  return true;
}

/* Marks every folder above what spelling leads to. False: no memory. */
static bool mark_above(rondo_inputs *in, const char *spelling, const char *path) {
  char *real = realpath(spelling, NULL), *slash;
  if (real == NULL) return errno != ENOMEM;
  bool ok = true;
  while (ok && (slash = strrchr(real, '/')) != NULL) {
    *slash = '\0';
    rondo_entry entry;
    const char *above = *real != '\0' ? real : "/";
    if (rondo_entry_at(AT_FDCWD, above, true, &entry)) ok = mark(in, &entry, true, path);
  }
  free(real);
  return ok;
}

/* A file directly in an input folder. Only links can lead to other folders. False: no memory. */
static bool mark_inside(rondo_inputs *in, int folder, const char *name, const char *path) {
  rondo_entry link, file;
  if (!rondo_entry_at(folder, name, false, &link)) return true;
  if (!rondo_entry_at(folder, name, true, &file) || !S_ISREG(file.mode)) return true;
  if (!mark(in, &file, false, path)) return false;
  if (!S_ISLNK(link.mode)) return true;
  char *spelling;
  if (!mark(in, &link, false, path) || asprintf(&spelling, "%s/%s", path, name) < 0) return false;
  bool ok = mark_above(in, spelling, path);
  free(spelling);
  return ok;
}

/* 0 or an errno. What cannot be opened holds nothing that is read. */
static int mark_folder(rondo_inputs *in, const char *path) {
  DIR *dir = opendir(path);
  if (dir == NULL) return errno == ENOMEM ? ENOMEM : 0;
  bool ok = true;
  const struct dirent *d;
  while (ok && (errno = 0, d = readdir(dir)) != NULL) {
    ok = mark_inside(in, dirfd(dir), d->d_name, path);
  }
  int problem = ok ? errno : ENOMEM;
  closedir(dir);
  return problem;
}

/* A copy of path that lives as long as the marks. */
static const char *keep_path(rondo_inputs *in, const char *path) {
  void *paths = in->paths;
  if (!grow(&paths, &in->path_room, in->path_count, sizeof *in->paths)) return NULL;
  in->paths = paths;
  char *copy = strdup(path);
  if (copy != NULL) in->paths[in->path_count++] = copy;
  return copy;
}

bool rondo_inputs_add(rondo_inputs *inputs, const char *path, rondo_error *e) {
  rondo_entry link, self;
  if (!rondo_entry_at(AT_FDCWD, path, false, &link) ||
      !rondo_entry_at(AT_FDCWD, path, true, &self)) {
    return rondo_fail_errno(e, errno, "cannot read the input %s", rondo_path_tail(path));
  }
  path = keep_path(inputs, path);
  if (path != NULL && mark(inputs, &self, false, path) && mark(inputs, &link, false, path) &&
      mark_above(inputs, path, path)) {
    int problem = S_ISDIR(self.mode) ? mark_folder(inputs, path) : 0;
    if (problem == 0) return true;
    if (problem != ENOMEM) {
      return rondo_fail_errno(e, problem, "cannot list the input %s", rondo_path_tail(path));
    }
  }
  return rondo_fail(e, RONDO_MEMORY, "not enough memory for the list of inputs");
}

void rondo_inputs_free(rondo_inputs *inputs) {
  for (size_t i = 0; i < inputs->path_count; i++) free(inputs->paths[i]);
  free(inputs->paths);
  free(inputs->marks);
  *inputs = (rondo_inputs){0};
}

const rondo_input_mark *rondo_inputs_find(const rondo_inputs *inputs, const rondo_entry *entry,
                                          bool above) {
  for (size_t i = 0; i < inputs->mark_count; i++) {
    const rondo_input_mark *m = &inputs->marks[i];
    bool same = m->device == entry->device && m->inode == entry->inode;
    if (same && (above || !m->above)) return m;
  }
  return NULL;
}
