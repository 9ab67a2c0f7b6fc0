/* pool.c - the thread pool. One mutex, two condition variables, an atomic task counter. */
#include "core/pool.h"

#include "core/environment.h"
#include "core/thread.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_THREADS = 1024 };

typedef struct {
  rondo_pool *pool;
  int index;
  pthread_t thread;
} worker;

struct rondo_pool {
  pthread_mutex_t mutex; /* this and the conditions exist while there are workers */
  pthread_cond_t work_arrived, work_done;
  unsigned long generation; /* counts runs since the workers began; they wait for it to move */
  int busy;                 /* workers that have not finished the current generation */
  bool closing;
  size_t count;
  _Atomic size_t next;
  const rondo_stop *stop;
  rondo_task task;
  void *context;
  pid_t owner; /* a forked child has this memory but not the threads */
  int workers;
  worker *worker;
};

bool rondo_pool_is_stopped(const rondo_pool *pool) {
  return pool->stop != NULL && rondo_stop_is_due(pool->stop);
}

/* Tasks start from the default floating-point environment and leave the thread's as it was. */
static void run_tasks(rondo_pool *pool, int index) {
  rondo_environment host;
  environment_replace(&host);
  size_t task;
  while (!rondo_pool_is_stopped(pool) && (task = atomic_fetch_add(&pool->next, 1)) < pool->count) {
    pool->task(pool->context, task, index);
  }
  environment_leave(&host);
}

static void *worker_main(void *argument) {
  worker *self = argument;
  rondo_pool *pool = self->pool;
  unsigned long seen = 0;
  pthread_mutex_lock(&pool->mutex);
  for (;;) {
    while (pool->generation == seen && !pool->closing) {
      pthread_cond_wait(&pool->work_arrived, &pool->mutex);
    }
    if (pool->closing) break;
    seen = pool->generation;
    pthread_mutex_unlock(&pool->mutex);
    run_tasks(pool, self->index);
    pthread_mutex_lock(&pool->mutex);
    if (--pool->busy == 0) pthread_cond_signal(&pool->work_done);
  }
  pthread_mutex_unlock(&pool->mutex);
  return NULL;
}

static void start_workers(rondo_pool *pool, int wanted) {
  pthread_mutex_init(&pool->mutex, NULL);
  pthread_cond_init(&pool->work_arrived, NULL);
  pthread_cond_init(&pool->work_done, NULL);
  pool->owner = getpid();
  pool->generation = 0;
  pool->closing = false;
  for (int i = 0; i < wanted; i++) {
    worker *w = &pool->worker[pool->workers];
    w->pool = pool;
    w->index = pool->workers + 1;
    if (!rondo_thread_start(&w->thread, worker_main, w)) break;
    pool->workers++;
  }
}

/* Ends all workers. Those of the process that has forked this one are not ours, nor is the state of
 * the mutex known. */
static void end_workers(rondo_pool *pool) {
  if (pool->worker != NULL && pool->owner == getpid()) {
    pthread_mutex_lock(&pool->mutex);
    pool->closing = true;
    pthread_cond_broadcast(&pool->work_arrived);
    pthread_mutex_unlock(&pool->mutex);
    for (int i = 0; i < pool->workers; i++) pthread_join(pool->worker[i].thread, NULL);
    pthread_cond_destroy(&pool->work_done);
    pthread_cond_destroy(&pool->work_arrived);
    pthread_mutex_destroy(&pool->mutex);
  }
  free(pool->worker);
  pool->worker = NULL;
  pool->workers = 0;
}

size_t rondo_pool_size(void) {
  return sizeof(rondo_pool);
}

void rondo_pool_init(rondo_pool *pool, const rondo_stop *stop) {
  memset(pool, 0, sizeof *pool);
  pool->stop = stop;
  pool->owner = getpid();
}

bool rondo_pool_resize(rondo_pool *pool, int threads) {
  if (threads <= 0) threads = rondo_processor_count();
  if (threads > MAX_THREADS) threads = MAX_THREADS;
  size_t others = (size_t)threads - 1;
  worker *room = others > 0 ? calloc(others, sizeof *room) : NULL;
  if (others > 0 && room == NULL) return false;
  end_workers(pool);
  pool->worker = room;
  if (others > 0) start_workers(pool, (int)others);
  return true;
}

void rondo_pool_close(rondo_pool *pool) {
  end_workers(pool);
}

int rondo_pool_threads(const rondo_pool *pool) {
  return pool->workers + 1;
}

void rondo_pool_run(rondo_pool *pool, size_t count, rondo_task task, void *context) {
  bool alone = pool->workers == 0 || count < 2 || pool->owner != getpid();
  pool->count = count;
  pool->task = task;
  pool->context = context;
  atomic_store(&pool->next, 0);
  if (alone) {
    run_tasks(pool, 0);
    return;
  }
  pthread_mutex_lock(&pool->mutex);
  pool->busy = pool->workers;
  pool->generation++;
  pthread_cond_broadcast(&pool->work_arrived);
  pthread_mutex_unlock(&pool->mutex);
  run_tasks(pool, 0);
  pthread_mutex_lock(&pool->mutex);
  while (pool->busy > 0) pthread_cond_wait(&pool->work_done, &pool->mutex);
  pthread_mutex_unlock(&pool->mutex);
}

int rondo_processor_count(void) {
  cpu_set_t set;
  int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
  return count > 0 ? count : 1;
}
