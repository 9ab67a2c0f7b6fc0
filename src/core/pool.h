/* pool.h - a thread pool that belongs to one owner (a Lua state or a host) and dies with it.
 *
 * Work is a number of independent tasks. Which thread runs which task is not fixed, so tasks must
 * write to places of their own; then results do not depend on the number of threads. Tasks never
 * see Lua. While tasks run, the floating-point environment is the default one (round to nearest,
 * no flush-to-zero), whatever the host has set; the host's is restored afterwards.
 *
 * A pool may be stopped: once its stop is due, tasks that have not begun are left out, and whoever
 * runs work asks whether it is due before using what the work has left: while it is not, all is
 * complete. Nobody but the thread that uses the pool takes a stop back. */
#ifndef RONDO_CORE_POOL_H
#define RONDO_CORE_POOL_H

#include "core/stop.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct rondo_pool rondo_pool;

/* task: 0 .. count-1; worker: 0 .. rondo_pool_threads()-1, for per-thread scratch memory. */
typedef void (*rondo_task)(void *context, size_t task, int worker);

/* The bytes of a pool. Its owner provides them, aligned as for a pointer, and keeps them in their
 * place for as long as anybody may use the pool. */
size_t rondo_pool_size(void);

/* Makes a pool without workers, which runs all tasks on the calling thread. stop: outlives the
 * pool, or NULL. */
void rondo_pool_init(rondo_pool *pool, const rondo_stop *stop);

/* Ends the pool's workers and starts others. Must not be called while tasks run. threads: total,
 * the caller's included; 0 means one per processor that this process may use, above 1024 is 1024.
 * When the system gives fewer threads than asked, the pool works with those. False: no memory, and
 * the pool is as before. Scratch memory made for rondo_pool_threads() may be too small after it. */
bool rondo_pool_resize(rondo_pool *pool, int threads);

/* Joins all workers; the pool is what rondo_pool_init made. May come again. */
void rondo_pool_close(rondo_pool *pool);

int rondo_pool_threads(const rondo_pool *pool);

/* Runs task 0 .. count-1 and returns when all are done. Must not be called from inside a task, and
 * by one thread at a time. In a forked child it runs all tasks on the calling thread. */
void rondo_pool_run(rondo_pool *pool, size_t count, rondo_task task, void *context);

/* Whether its stop is due: a task that takes long looks from time to time, and returns early. */
bool rondo_pool_is_stopped(const rondo_pool *pool);

/* Processors that this process may run on (affinity mask), at least 1. */
int rondo_processor_count(void);

#endif
