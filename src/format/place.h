/* place.h - where an output folder goes, and that writing it there destroys nothing.
 *
 * Compared are device and inode, never spellings, so symbolic links, "..", hard links and bind
 * mounts are seen through. Not seen: a bind mount of a folder that lies two or more levels below
 * an input; an output written there adds a folder to the input and overwrites nothing. */
#ifndef RONDO_FORMAT_PLACE_H
#define RONDO_FORMAT_PLACE_H

#include "core/error.h"
#include "format/folder.h"

/* The files and folders that are read while the output is written. Zero bytes: none. */
typedef struct rondo_input_mark {
  uint64_t device, inode;
  const char *path; /* the input that this mark belongs to */
  bool above;       /* a folder that the input lies in, else the input itself */
} rondo_input_mark;

typedef struct rondo_inputs {
  rondo_input_mark *marks;
  char **paths;
  size_t mark_count, mark_room, path_count, path_room;
} rondo_inputs;

/* Adds a file, or a folder with the files directly in it. Links are followed, and both the link
 * and what it leads to count. */
bool rondo_inputs_add(rondo_inputs *inputs, const char *path, rondo_error *e);

void rondo_inputs_free(rondo_inputs *inputs);

/* The input that entry is or, with above, that lies below entry; NULL when there is none. */
const rondo_input_mark *rondo_inputs_find(const rondo_inputs *inputs, const rondo_entry *entry,
                                          bool above);

/* The place of an output: an open parent folder and a name in it. */
typedef struct rondo_place {
  int parent;        /* -1: not open */
  char *path;        /* absolute, without links */
  const char *name;  /* the last part of path */
  bool exists;       /* something has that name, as of the last look */
  rondo_entry entry; /* what it is, when it exists */
} rondo_place;

/* Finds the place that path names. A link to a folder is resolved: the folder that it leads to is
 * the place. Fails when the parent is missing, the link leads nowhere, or it is the root. */
bool rondo_place_find(rondo_place *place, const char *path, rondo_error *e);

/* Looks again whether something is there. */
bool rondo_place_look(rondo_place *place, rondo_error *e);

/* Closes the parent; path and name stay until rondo_place_free. */
void rondo_place_close(rondo_place *place);
void rondo_place_free(rondo_place *place);

/* Refuses an output that is an input, holds one or lies inside one. */
bool rondo_place_check_inputs(const rondo_place *place, const rondo_inputs *inputs, rondo_error *e);

/* Refuses a place that is taken. With overwrite a folder may be replaced that is empty or looks
 * like a checkpoint and can be removed afterwards; *empty says which. */
bool rondo_place_check_free(const rondo_place *place, const rondo_inputs *inputs, bool overwrite,
                            bool *empty, rondo_error *e);

/* The end of a path, short enough for a message. */
const char *rondo_path_tail(const char *path);

#endif
