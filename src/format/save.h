/* save.h - one file written whole or not at all: built beside the old one, synced, renamed.
 *
 * Until rondo_save_commit returns true the old file, if there is one, is untouched; after an abort
 * or a crash at most a file NAME.partial-XXXXXXXXXXXX is left. A destination that is a symbolic
 * link stays one: the file that it leads to is replaced. A new file gets its mode from the
 * umask, a replaced one keeps its mode. */
#ifndef RONDO_FORMAT_SAVE_H
#define RONDO_FORMAT_SAVE_H

#include "rondo/tensor.h"

#include <sys/types.h>

typedef struct rondo_save {
  int file, folder;       /* open descriptors, -1 when not */
  char *name, *temporary; /* names in the folder */
  char *path;             /* for messages */
  pid_t owner;            /* a forked child must not remove what its parent writes */
} rondo_save;

#define RONDO_SAVE_CLOSED ((rondo_save){.file = -1, .folder = -1})

/* Starts writing the file at path. size: the bytes to come, reserved at once where the file system
 * can; 0 when unknown. RONDO_IO when path names a folder ("", or a slash at its end). *save must
 * be RONDO_SAVE_CLOSED; it is again after a failure. */
bool rondo_save_begin(rondo_save *save, const char *path, uint64_t size, rondo_error *e);

/* Appends bytes. After a failure only rondo_save_abort makes sense. */
bool rondo_save_write(rondo_save *save, const void *bytes, size_t size, rondo_error *e);

/* Syncs and renames, then syncs the folder. Only for the process that began. Closes in any case; on
 * failure the old file stays (but when only the folder's sync fails, which the message says). */
bool rondo_save_commit(rondo_save *save, rondo_error *e);

/* Removes what was written, unless another process began it. Does nothing when closed. */
void rondo_save_abort(rondo_save *save);

#endif
