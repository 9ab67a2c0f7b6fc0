/* writer.h - a thread that writes, so that a caller goes on computing meanwhile.
 *
 * It takes one write at a time: handing over the next one waits for the last. One thread at a time
 * may call; the first failure is kept and later writes are left out. A forked child has no such
 * thread: there everything is ECANCELED. */
#ifndef RONDO_FORMAT_WRITER_H
#define RONDO_FORMAT_WRITER_H

#include <stddef.h>
#include <stdint.h>

typedef struct rondo_writer rondo_writer;

/* For a file of size bytes. NULL when there is no memory or no thread to be had. */
rondo_writer *rondo_writer_start(uint64_t size);

/* Writes count bytes at offset of a file, later: both stay as they are until the next call of one
 * of these functions. Returns 0 or the errno of an earlier write. */
int rondo_writer_put(rondo_writer *w, int file, uint64_t offset, const void *bytes, uint64_t count);

/* Waits until all is written. Returns 0 or the errno of the first failure. */
int rondo_writer_wait(rondo_writer *w);

/* Waits, ends the thread and frees the memory; in a forked child it does nothing. NULL is fine. */
void rondo_writer_stop(rondo_writer *w);

/* Writes now. Returns 0 or an errno. */
int rondo_write_all(int file, uint64_t offset, const void *bytes, uint64_t count);

#endif
