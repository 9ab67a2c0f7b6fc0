/* cache.c - hints about the page cache. Where a file system does not take them, nothing is lost, so
 * their results are not looked at. */
#include "format/cache.h"

#include <fcntl.h>
#include <unistd.h>

bool rondo_cache_streams(uint64_t bytes) {
  long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  return pages > 0 && page > 0 && bytes / (uint64_t)page > (uint64_t)pages / 2;
}

/* The system keeps stretches of up to 2 MiB together and drops none that is not wholly inside, so
 * the end of what was dropped before is dropped again. */
void rondo_cache_drop(int file, uint64_t offset, uint64_t size) {
  const uint64_t before = offset < 4 << 20 ? offset : 4 << 20;
  offset -= before;
  size += before;
  (void)posix_fadvise(file, (off_t)offset, (off_t)size, POSIX_FADV_DONTNEED);
}

void rondo_cache_begin_write(int file, uint64_t offset, uint64_t size) {
  (void)sync_file_range(file, (off_t)offset, (off_t)size, SYNC_FILE_RANGE_WRITE);
}

void rondo_cache_finish_write(int file, uint64_t offset, uint64_t size) {
  const unsigned all =
      SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
  if (sync_file_range(file, (off_t)offset, (off_t)size, all) == 0) {
    rondo_cache_drop(file, offset, size);
  }
}
