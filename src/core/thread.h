/* thread.h - starting a thread inside somebody else's process. */
#ifndef RONDO_CORE_THREAD_H
#define RONDO_CORE_THREAD_H

#include <pthread.h>
#include <stdbool.h>

/* Starts main(argument) on a thread that leaves signals to the host: all are blocked, so handlers
 * run on the host's threads, but for those that an instruction of the thread itself causes (a
 * mapped file that became shorter, say): blocked, they would kill the process past the host's
 * handler. False where the system gives no thread. */
bool rondo_thread_start(pthread_t *thread, void *(*main)(void *), void *argument);

#endif
