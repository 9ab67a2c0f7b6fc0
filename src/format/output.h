/* output.h - output folders that appear whole or not at all.
 *
 * All files are written into a partial folder beside OUT. Publishing syncs it and puts it in OUT's
 * place with one rename (or one exchange), so that at every moment, also after kill -9 or a power
 * cut, OUT is absent, the old folder or the new one. The first failure is final: later calls
 * report it again and publishing refuses. One thread at a time. */
#ifndef RONDO_FORMAT_OUTPUT_H
#define RONDO_FORMAT_OUTPUT_H

#include "format/partial.h"
#include "format/writer.h"

#include <sys/types.h>

typedef struct rondo_output {
  rondo_place place;
  rondo_inputs inputs;
  int folder;                    /* the partial folder, locked; -1: this output is closed */
  int old;                       /* the folder that is to be replaced; -1: there is none */
  char partial[RONDO_NAME_SIZE]; /* its name beside OUT */
  bool overwrite;
  unsigned open_files;
  pid_t owner; /* a forked child must not remove what its parent writes */
  rondo_error failure;
} rondo_output;

/* A closed output: what rondo_output_open expects and rondo_output_free leaves. */
void rondo_output_init(rondo_output *o);

/* Checks everything that can be checked before work begins, sweeps leftovers of earlier runs for
 * the same OUT, and creates the partial folder. inputs: all files and folders that will be read.
 * RONDO_EXISTS when OUT is taken, RONDO_USAGE when OUT is, holds or lies inside an input,
 * RONDO_UNSUPPORTED when the file system cannot exchange two folders and OUT is to be replaced. */
bool rondo_output_open(rondo_output *o, const char *path, const char *const *inputs, size_t count,
                       bool overwrite, rondo_error *e);

/* Puts the folder in OUT's place, sweeps once more, and closes the output; all files must be
 * closed. On failure OUT is what it was, and the partial folder is gone. *old_left: the errno for
 * which the replaced folder could not be removed (the next run tries again), 0 when all is well. */
bool rondo_output_publish(rondo_output *o, int *old_left, rondo_error *e);

/* Removes the partial folder unless it was published, and closes; later calls for the output or its
 * files fail with RONDO_USAGE. Names and paths stay as they are. May be called again and again. */
void rondo_output_close(rondo_output *o);

/* Closes and frees everything. May be called again and again. */
void rondo_output_free(rondo_output *o);

/* Whether the output is open; false fills *e. */
bool rondo_output_check(const rondo_output *o, rondo_error *e);

/* One file of the output. Bytes may be written in any order; all must be written before it is
 * closed. */
typedef struct rondo_output_range {
  uint64_t begin, end;
} rondo_output_range;

typedef struct rondo_output_file {
  rondo_output *output; /* outlives the file */
  int file;             /* -1: closed */
  uint64_t size;
  rondo_output_range *written; /* sorted, with gaps between them */
  size_t count, room;
  rondo_writer *writer; /* NULL until something is queued */
  char name[RONDO_NAME_SIZE];
} rondo_output_file;

void rondo_output_file_init(rondo_output_file *f);

/* Whether name may be given to a file: one part of a path, not "." or "..", at most 255 bytes. */
bool rondo_output_name_ok(const char *name);

/* Creates a file of size bytes and reserves its space where the file system can, so that a full
 * disk is noticed here. Its mode follows umask; a file of that name in the folder that is replaced
 * hands on its mode. RONDO_USAGE when the name is taken. */
bool rondo_output_file_open(rondo_output_file *f, rondo_output *o, const char *name, uint64_t size,
                            rondo_error *e);

/* Writes count bytes at offset. RONDO_USAGE when they do not fit into the file's size. */
bool rondo_output_file_write(rondo_output_file *f, uint64_t offset, const void *bytes,
                             uint64_t count, rondo_error *e);

/* The same, but the bytes are written while the caller goes on: they stay as they are until the
 * next queue or close of this file, which reports what has gone wrong meanwhile. */
bool rondo_output_file_queue(rondo_output_file *f, uint64_t offset, const void *bytes,
                             uint64_t count, rondo_error *e);

/* Checks that every byte was written, and syncs. */
bool rondo_output_file_close(rondo_output_file *f, rondo_error *e);

/* Closes an unfinished file, which makes publishing refuse. Does nothing on a closed one. */
void rondo_output_file_drop(rondo_output_file *f);

/* Copies a regular file, its bytes only. RONDO_CHANGED when it changes size meanwhile. */
bool rondo_output_copy(rondo_output *o, const char *name, const char *source, rondo_error *e);

#endif
