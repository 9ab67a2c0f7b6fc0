/* process.c - a host for spec/process_spec.lua that has set up its process in its own way, and
 * looks whether rondo leaves it so.
 *
 *   process MODEL OUT SCRIPT
 *
 * Prints nothing but the names of what has changed. */
#include <rondo/rondo.h>

#include <fenv.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

typedef struct {
  struct sigaction actions[65];
  sigset_t blocked;
  int rounding;
  unsigned control; /* of floating-point numbers, without the flags that arithmetic leaves */
  char locale[256], folder[4096], environment[65536];
  mode_t mask;
} state;

static void on_signal(int number) {
  (void)number;
}

static void set_up(void) {
  for (int i = 1; i < 65; i++) signal(i, i % 2 == 0 ? SIG_IGN : on_signal);
  signal(SIGCHLD, SIG_DFL);
  sigset_t some;
  sigemptyset(&some);
  sigaddset(&some, SIGUSR1);
  sigprocmask(SIG_BLOCK, &some, NULL);
  setlocale(LC_ALL, "C.UTF-8");
  fesetround(FE_DOWNWARD);
  feraiseexcept(FE_INEXACT);
  umask(027);
  setenv("LUA_INIT", "error 'read'", 1);
}

static void look(state *s) {
  memset(s, 0, sizeof *s);
  for (int i = 1; i < 65; i++) sigaction(i, NULL, &s->actions[i]);
  sigprocmask(SIG_BLOCK, NULL, &s->blocked);
  s->rounding = fegetround();
#if defined(__x86_64__)
  s->control = __builtin_ia32_stmxcsr() & ~0x3fu;
#endif
  snprintf(s->locale, sizeof s->locale, "%s", setlocale(LC_ALL, NULL));
  if (getcwd(s->folder, sizeof s->folder) == NULL) abort();
  size_t used = 0;
  for (char **e = environ; *e != NULL; e++) {
    used += (size_t)snprintf(s->environment + used, sizeof s->environment - used, "%s\n", *e);
  }
  s->mask = umask(0);
  umask(s->mask);
}

static void compare(const char *when, const state *a, const state *b) {
  for (int i = 1; i < 65; i++) {
    bool same = a->actions[i].sa_handler == b->actions[i].sa_handler &&
                a->actions[i].sa_flags == b->actions[i].sa_flags;
    if (!same) printf("%s: signal %d\n", when, i);
  }
  if (memcmp(&a->blocked, &b->blocked, sizeof a->blocked) != 0) printf("%s: mask\n", when);
  if (a->rounding != b->rounding || a->control != b->control) printf("%s: floats\n", when);
  if (strcmp(a->locale, b->locale) != 0) printf("%s: locale\n", when);
  if (strcmp(a->folder, b->folder) != 0) printf("%s: folder\n", when);
  if (strcmp(a->environment, b->environment) != 0) printf("%s: environment\n", when);
  if (a->mask != b->mask) printf("%s: umask\n", when);
}

int main(int argc, char **argv) {
  static state before, after;
  if (argc != 4) return 2;
  set_up();
  look(&before);
  for (rondo_trust trust = RONDO_TRUST_NOTHING; trust <= RONDO_TRUST_EVERYTHING; trust++) {
    rondo *r = rondo_new(&(rondo_config){.threads = 3, .trust = trust, .time_limit = 60000});
    look(&after);
    compare("new", &before, &after);
    char out[4096];
    snprintf(out, sizeof out, "%s%d", argv[2], trust);
    if (rondo_quantize(r, argv[1], out, NULL) != RONDO_OK) puts(rondo_message(r));
    look(&after);
    compare("quantize", &before, &after);
    if (rondo_run(r, argv[3], 0, NULL) != RONDO_OK) puts(rondo_message(r));
    if (rondo_quantize(r, "none", out, NULL) != RONDO_IO) puts("there is something");
    if (rondo_eval(r, "error()", NULL) != RONDO_USAGE) puts("no error");
    rondo_free(r);
    look(&after);
    compare("end", &before, &after);
  }
  if (waitpid(-1, NULL, WNOHANG) != -1) puts("a child");
  return 0;
}
