/* main.c - the rondo command: a host that trusts its user, and the signals of a process.
 *
 * A signal that asks the process to end lets the command clean up first; the process then dies of
 * that signal, so that shells see it. The same signal again, some seconds later, does not wait:
 * what comes at once is one request sent twice, as timeout(1) does. */
#include "rondo/rondo.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static rondo *host;
static volatile sig_atomic_t caught;
static time_t caught_at; /* written and read by the handler alone */

static time_t seconds(void) {
  struct timespec now = {0};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec;
}

static void die_of(int number) {
  signal(number, SIG_DFL);
  raise(number);
}

static void on_signal(int number) {
  if (caught == number && number != SIGPIPE && seconds() - caught_at >= 2) die_of(number);
  if (caught != number) caught_at = seconds();
  caught = number;
  rondo_interrupt(host);
}

/* Ctrl-C is for what the prompt is doing, other signals are for the process. */
static int on_interrupted(void *user) {
  (void)user;
  if (caught != SIGINT) return 0;
  caught = 0;
  return 1;
}

/* What the parent has chosen to ignore, as nohup does, stays ignored. */
static void catch_signals(void) {
  static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, old;
  sigemptyset(&action.sa_mask);
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    bool ignored = sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler == SIG_IGN;
    if (!ignored) sigaction(numbers[i], &action, NULL);
  }
  signal(SIGXFSZ, SIG_IGN); /* a file at its size limit is an error of the write */
}

int main(int argc, char **argv) {
  host =
      rondo_new(&(rondo_config){.trust = RONDO_TRUST_EVERYTHING, .on_interrupted = on_interrupted});
  catch_signals();
  int code = rondo_command(host, argc, (const char *const *)argv);
  const char *message = rondo_message(host);
  if (*message != '\0' && caught != SIGPIPE) fprintf(stderr, "rondo: %s\n", message);
  rondo_free(host);
  if (caught != 0 && caught != SIGPIPE) fflush(stdout);
  if (caught != 0) die_of(caught);
  return code;
}
