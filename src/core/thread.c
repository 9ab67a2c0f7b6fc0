/* thread.c - threads are made with the signals blocked that they are to block. */
#include "core/thread.h"

#include <signal.h>
#include <stddef.h>

bool rondo_thread_start(pthread_t *thread, void *(*main)(void *), void *argument) {
  static const int own[] = {SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};
  sigset_t most, saved;
  sigfillset(&most);
  for (size_t i = 0; i < sizeof own / sizeof *own; i++) sigdelset(&most, own[i]);
  pthread_sigmask(SIG_SETMASK, &most, &saved);
  bool started = pthread_create(thread, NULL, main, argument) == 0;
  pthread_sigmask(SIG_SETMASK, &saved, NULL);
  return started;
}
