/* writer.c - the thread that writes. One mutex, one condition for both directions. */
#include "format/writer.h"

#include "core/thread.h"
#include "format/cache.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

struct rondo_writer {
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  pthread_t thread;
  pid_t owner;
  bool busy, closing, streams;
  int errnum, file;
  uint64_t offset, count;
  uint64_t last_offset, last_count; /* of the write before */
  const void *bytes;
};

/* In pieces: Linux takes up to 2 GiB at a time, but for writes of several MiB it looks for large
 * free stretches of memory, and took ten times as long (measured on 6.18, ext4). */
int rondo_write_all(int file, uint64_t offset, const void *bytes, uint64_t count) {
  enum { LARGEST = 1 << 18 };
  const char *at = bytes;
  while (count > 0) {
    ssize_t n = pwrite(file, at, count < LARGEST ? count : LARGEST, (off_t)offset);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 ? errno : EIO;
    offset += (uint64_t)n;
    at += n;
    count -= (uint64_t)n;
  }
  return 0;
}

/* The disk begins with what has been written, so that little is left to sync at the end. Of a file
 * that streams, at most two writes stay in memory. */
static int write_one(rondo_writer *w) {
  int errnum = rondo_write_all(w->file, w->offset, w->bytes, w->count);
  if (errnum != 0) return errnum;
  rondo_cache_begin_write(w->file, w->offset, w->count);
  if (w->streams && w->last_count > 0) {
    rondo_cache_finish_write(w->file, w->last_offset, w->last_count);
  }
  w->last_offset = w->offset;
  w->last_count = w->count;
  return 0;
}

static void *writer_main(void *argument) {
  rondo_writer *w = argument;
  pthread_mutex_lock(&w->mutex);
  for (;;) {
    while (!w->busy && !w->closing) pthread_cond_wait(&w->changed, &w->mutex);
    if (!w->busy) break;
    pthread_mutex_unlock(&w->mutex);
    int errnum = write_one(w);
    pthread_mutex_lock(&w->mutex);
    if (w->errnum == 0) w->errnum = errnum;
    w->busy = false;
    pthread_cond_broadcast(&w->changed);
  }
  pthread_mutex_unlock(&w->mutex);
  return NULL;
}

rondo_writer *rondo_writer_start(uint64_t size) {
  rondo_writer *w = calloc(1, sizeof *w);
  if (w == NULL) return NULL;
  w->streams = rondo_cache_streams(size);
  pthread_mutex_init(&w->mutex, NULL);
  pthread_cond_init(&w->changed, NULL);
  w->owner = getpid();
  if (rondo_thread_start(&w->thread, writer_main, w)) return w;
  pthread_cond_destroy(&w->changed);
  pthread_mutex_destroy(&w->mutex);
  free(w);
  return NULL;
}

/* Waits for the write under way. The mutex is held before and after. */
static int settle(rondo_writer *w) {
  while (w->busy) pthread_cond_wait(&w->changed, &w->mutex);
  return w->errnum;
}

/* A forked child has the memory but not the thread. */
static bool is_elsewhere(const rondo_writer *w) {
  return w->owner != getpid();
}

int rondo_writer_put(rondo_writer *w, int file, uint64_t offset, const void *bytes,
                     uint64_t count) {
  if (is_elsewhere(w)) return ECANCELED;
  pthread_mutex_lock(&w->mutex);
  int errnum = settle(w);
  if (errnum == 0) {
    w->file = file;
    w->offset = offset;
    w->bytes = bytes;
    w->count = count;
    w->busy = true;
    pthread_cond_broadcast(&w->changed);
  }
  pthread_mutex_unlock(&w->mutex);
  return errnum;
}

int rondo_writer_wait(rondo_writer *w) {
  if (is_elsewhere(w)) return ECANCELED;
  pthread_mutex_lock(&w->mutex);
  int errnum = settle(w);
  pthread_mutex_unlock(&w->mutex);
  return errnum;
}

void rondo_writer_stop(rondo_writer *w) {
  if (w == NULL || is_elsewhere(w)) return;
  pthread_mutex_lock(&w->mutex);
  settle(w);
  w->closing = true;
  pthread_cond_broadcast(&w->changed);
  pthread_mutex_unlock(&w->mutex);
  pthread_join(w->thread, NULL);
  pthread_cond_destroy(&w->changed);
  pthread_mutex_destroy(&w->mutex);
  free(w);
}
