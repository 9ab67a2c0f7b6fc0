/* partial.c - the folder that an output is built in, and what others have left of theirs. */
#include "format/partial.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MARKER ".partial-"
enum {
  RANDOM_DIGITS = 16,
  PID_DIGITS = 10,
  SUFFIX = sizeof MARKER - 1 + PID_DIGITS + 1 + RANDOM_DIGITS,
  HASH = 1 + 16, /* ~ and 16 digits */
  ATTEMPTS = 100
};

static uint64_t fnv1a(const char *text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (; *text != '\0'; text++) hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
  return hash;
}

/* "NAME.partial-". A name that leaves no room for the rest is cut, at the start of a UTF-8
 * character, and told from others by its hash. Returns the length. */
static size_t make_stem(const rondo_place *place, char stem[RONDO_NAME_SIZE]) {
  size_t length = strlen(place->name), room = RONDO_NAME_SIZE - 1;
  long limit = fpathconf(place->parent, _PC_NAME_MAX);
  if (limit > 2 * (SUFFIX + HASH) && (size_t)limit < room) room = (size_t)limit;
  if (length + SUFFIX <= room) {
    return (size_t)snprintf(stem, RONDO_NAME_SIZE, "%s" MARKER, place->name);
  }
  length = room - SUFFIX - HASH;
  while (length > 0 && ((unsigned char)place->name[length] & 0xc0) == 0x80) length--;
  return (size_t)snprintf(stem, RONDO_NAME_SIZE, "%.*s~%016" PRIx64 MARKER, (int)length,
                          place->name, fnv1a(place->name));
}

/* Whether name is stem, a decimal number, a dash and 16 hexadecimal digits. */
static bool matches(const char *name, const char *stem, size_t stem_length) {
  if (strncmp(name, stem, stem_length) != 0) return false;
  name += stem_length;
  size_t digits = strspn(name, "0123456789");
  if (digits < 1 || digits > PID_DIGITS || name[digits] != '-') return false;
  name += digits + 1;
  return strspn(name, "0123456789abcdef") == RANDOM_DIGITS && name[RANDOM_DIGITS] == '\0';
}

static uint64_t random_number(int attempt) {
  uint64_t number;
  if (getrandom(&number, sizeof number, GRND_NONBLOCK) == sizeof number) return number;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (uint64_t)now.tv_sec * 1000000007u ^ (uint64_t)now.tv_nsec << 20 ^ (uint64_t)attempt;
}

/* Takes the lock; false when somebody else has it. File systems without locks count as locked:
 * their leftovers are nobody's to judge. */
static bool take_lock(int folder, bool *supported) {
  bool locked = flock(folder, LOCK_EX | LOCK_NB) == 0;
  *supported = locked || errno == EWOULDBLOCK;
  return locked;
}

static bool still_named(int parent, const char *name, int folder, rondo_entry *entry) {
  rondo_entry named;
  return rondo_entry_at(folder, "", false, entry) && rondo_entry_at(parent, name, false, &named) &&
         rondo_entry_same(entry, &named);
}

static int open_folder(int parent, const char *name) {
  return openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* Between mkdir and lock a sweeper may take the folder for a leftover: then -1, errno EAGAIN. */
static int create(int parent, const char *name) {
  if (mkdirat(parent, name, 0777) != 0) {
    if (errno == EEXIST) errno = EAGAIN;
    return -1;
  }
  int folder = open_folder(parent, name);
  if (folder < 0) {
    int errnum = errno;
    unlinkat(parent, name, AT_REMOVEDIR);
    errno = errnum == ENOENT ? EAGAIN : errnum;
    return -1;
  }
  bool supported;
  rondo_entry entry;
  bool ours = take_lock(folder, &supported) || !supported;
  if (ours && still_named(parent, name, folder, &entry)) return folder;
  close(folder);
  errno = EAGAIN;
  return -1;
}

bool rondo_partial_make(const rondo_place *place, char partial[RONDO_NAME_SIZE], int *folder,
                        rondo_error *e) {
  size_t length = make_stem(place, partial);
  for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
    snprintf(partial + length, RONDO_NAME_SIZE - length, "%ld-%016" PRIx64, (long)getpid(),
             random_number(attempt));
    *folder = create(place->parent, partial);
    if (*folder >= 0) return true;
    if (errno != EAGAIN) break;
  }
  return rondo_fail_errno(e, errno, "cannot create a folder beside %s",
                          rondo_path_tail(place->path));
}

static void sweep_one(int parent, const char *name, const rondo_inputs *inputs) {
  int folder = open_folder(parent, name);
  if (folder < 0) return;
  bool supported;
  rondo_entry entry;
  if (rondo_entry_at(folder, "", false, &entry) && entry.uid == geteuid() && !entry.mount &&
      rondo_inputs_find(inputs, &entry, true) == NULL && take_lock(folder, &supported) &&
      still_named(parent, name, folder, &entry)) {
    rondo_folder_remove(parent, name, &entry);
  }
  close(folder);
}

void rondo_partial_sweep(const rondo_place *place, const rondo_inputs *inputs) {
  char stem[RONDO_NAME_SIZE];
  size_t length = make_stem(place, stem);
  int again = openat(place->parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *dir = again < 0 ? NULL : fdopendir(again);
  if (dir == NULL) {
    if (again >= 0) close(again);
    return;
  }
  const struct dirent *d;
  while ((d = readdir(dir)) != NULL) {
    if (matches(d->d_name, stem, length)) sweep_one(place->parent, d->d_name, inputs);
  }
  closedir(dir);
}
