/* host.c - a host for spec/embed_spec.lua: does with rondo.h what its arguments say.
 *
 *   host [--trust] [--threads N] [--limit BYTES] [--size N] [--stop-at N] [--interrupt MS]
 *        [--steps N] [--time MS] [--inputs FOLDER] [--outputs FOLDER] [--parallel N] ACTION ...
 *
 * Actions: run SCRIPT, eval CODE, error, quantize MODEL OUT, recipe MODEL OUT FILE, command ARG,
 * open, version.
 * What follows "--" are the arguments of scripts. Callbacks print a line each, and so does the end
 * of every action: its status and message. */
#include "rondo/rondo.h"

#include <lauxlib.h>
#include <lualib.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static const char *const names[] = {"ok",          "usage",       "io",      "format",
                                    "unsupported", "nonfinite",   "changed", "exists",
                                    "memory",      "interrupted", "limit"};
static rondo *target; /* of the timer */
static long stop_at = -1;
static pthread_t caller;

static int on_progress(void *user, uint64_t bytes, uint64_t total, const char *tensor) {
  rondo *r = *(rondo **)user;
  printf("progress %llu of %llu %s %s\n", (unsigned long long)bytes, (unsigned long long)total,
         tensor, pthread_equal(caller, pthread_self()) ? "here" : "elsewhere");
  if (rondo_run(r, "nothing", 0, NULL) == RONDO_USAGE) printf("callback: %s\n", rondo_message(r));
  return stop_at >= 0 && bytes >= (uint64_t)stop_at;
}

static void on_warning(void *user, const char *message) {
  (void)user;
  printf("warning %s\n", message);
}

static void on_alarm(int number) {
  (void)number;
  rondo_interrupt(target);
}

static void set_alarm(long ms) {
  struct itimerval timer = {.it_value = {ms / 1000, ms % 1000 * 1000}};
  signal(SIGALRM, on_alarm);
  setitimer(ITIMER_REAL, &timer, NULL);
}

/* A host's own Lua state. */
static int open_in_own_state(void) {
  lua_State *L = luaL_newstate();
  luaL_openlibs(L);
  luaL_requiref(L, "rondo", luaopen_rondo, 0);
  lua_pop(L, 1);
  int failed = luaL_dostring(L, "local r = require 'rondo'\n"
                                "return r.version .. ' ' .. r.zeros({2, 3}).rank");
  printf("own state: %s\n", lua_tostring(L, -1));
  lua_close(L);
  return failed;
}

static void finish(rondo *r, rondo_status status) {
  printf("%s: %s\n", names[status], rondo_message(r));
}

static int act(rondo *r, int argc, char **argv, int count, const char *const *values) {
  for (int i = 0; i < argc; i++) {
    const char *action = argv[i];
    int left = argc - i - 1;
    if (strcmp(action, "run") == 0 && left >= 1) {
      finish(r, rondo_run(r, argv[++i], count, values));
    } else if (strcmp(action, "eval") == 0 && left >= 1) {
      rondo_value v;
      rondo_status status = rondo_eval(r, argv[++i], &v);
      printf("%d %d %lld %.17g %zu %s\n", v.type, v.boolean, (long long)v.integer, v.number,
             v.length, v.text);
      finish(r, status);
    } else if (strcmp(action, "error") == 0) {
      const rondo_error_record *e = rondo_last_error(r);
      printf("%d %s|%s|%d|%s|%s\n", e->status, e->code, e->file, e->line, e->tensor, e->message);
    } else if (strcmp(action, "quantize") == 0 && left >= 2) {
      finish(r, rondo_quantize(r, argv[i + 1], argv[i + 2], NULL));
      i += 2;
    } else if (strcmp(action, "recipe") == 0 && left >= 3) {
      finish(r, rondo_quantize(r, argv[i + 1], argv[i + 2], argv[i + 3]));
      i += 3;
    } else if (strcmp(action, "command") == 0 && left >= 1) {
      const char *words[] = {"rondo", argv[++i]};
      printf("code %d: %s\n", rondo_command(r, 2, words), rondo_message(r));
    } else if (strcmp(action, "open") == 0) {
      if (open_in_own_state() != 0) return 1;
    } else if (strcmp(action, "version") == 0) {
      printf("%d.%d.%d %d %s\n", RONDO_VERSION_MAJOR, RONDO_VERSION_MINOR, RONDO_VERSION_PATCH,
             RONDO_VERSION_NUMBER, rondo_version());
    } else {
      return 2;
    }
    fflush(stdout);
  }
  return 0;
}

typedef struct {
  rondo_config config;
  const char *script;
  rondo_status status;
} job;

static void *run_job(void *argument) {
  job *j = argument;
  for (int i = 0; i < 20 && j->status == RONDO_OK; i++) {
    rondo *r = rondo_new(&j->config);
    j->status = rondo_run(r, j->script, 0, NULL);
    rondo_free(r);
  }
  return NULL;
}

static int run_parallel(rondo_config config, long n, const char *script) {
  pthread_t threads[64];
  job jobs[64];
  for (long i = 0; i < n; i++) {
    jobs[i] = (job){config, script, RONDO_OK};
    pthread_create(&threads[i], NULL, run_job, &jobs[i]);
  }
  for (long i = 0; i < n; i++) {
    pthread_join(threads[i], NULL);
    printf("%s\n", names[jobs[i].status]);
  }
  return 0;
}

int main(int argc, char **argv) {
  rondo *r = NULL;
  struct {
    rondo_config config;
    char later[16]; /* a field of a newer version */
  } c = {{.on_progress = on_progress, .on_warning = on_warning, .user = &r}, {0}};
  long interrupt = 0, parallel = 0;
  int i = 1;
  for (; i < argc && strncmp(argv[i], "--", 2) == 0; i++) {
    if (strcmp(argv[i], "--trust") == 0) {
      c.config.trust = RONDO_TRUST_EVERYTHING;
      continue;
    }
    if (i + 1 >= argc) return 2;
    const char *name = argv[i++];
    long value = strtol(argv[i], NULL, 10);
    if (strcmp(name, "--steps") == 0) c.config.step_limit = (uint64_t)value;
    if (strcmp(name, "--time") == 0) c.config.time_limit = (uint64_t)value;
    if (strcmp(name, "--inputs") == 0) c.config.inputs = argv[i];
    if (strcmp(name, "--outputs") == 0) c.config.outputs = argv[i];
    if (strcmp(name, "--threads") == 0) c.config.threads = (int)value;
    if (strcmp(name, "--limit") == 0) c.config.memory_limit = (uint64_t)value;
    if (strcmp(name, "--size") == 0) c.config.size = sizeof(rondo_config) + (size_t)value;
    if (strcmp(name, "--later") == 0) c.later[7] = (char)value;
    if (strcmp(name, "--stop-at") == 0) stop_at = value;
    if (strcmp(name, "--interrupt") == 0) interrupt = value;
    if (strcmp(name, "--parallel") == 0) parallel = value;
  }
  if (parallel > 0 && parallel <= 64 && i < argc) return run_parallel(c.config, parallel, argv[i]);
  caller = pthread_self();
  r = rondo_new(&c.config);
  target = r;
  if (interrupt > 0) set_alarm(interrupt);
  int end = i;
  while (end < argc && strcmp(argv[end], "--") != 0) end++;
  int count = end < argc ? argc - end - 1 : 0;
  int code = act(r, end - i, argv + i, count, (const char *const *)argv + end + 1);
  target = NULL;
  rondo_free(r);
  return code;
}
