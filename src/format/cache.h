/* cache.h - how much of the system's page cache a run may use. */
#ifndef RONDO_FORMAT_CACHE_H
#define RONDO_FORMAT_CACHE_H

#include <stdbool.h>
#include <stdint.h>

/* Whether files of so many bytes are streamed: they would push out what other programs need, and
 * their own beginning before anybody reads it again. True for more than half of the memory. */
bool rondo_cache_streams(uint64_t bytes);

/* Lets the system forget pages of a file that have been read. */
void rondo_cache_drop(int file, uint64_t offset, uint64_t size);

/* Begins to write pages that have been changed to the disk. */
void rondo_cache_begin_write(int file, uint64_t offset, uint64_t size);

/* Waits until changed pages are on the disk, and drops them. */
void rondo_cache_finish_write(int file, uint64_t offset, uint64_t size);

#endif
