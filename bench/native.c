/* native.c - what Lua cannot measure, as the module bench.native: memory bandwidth with 1 .. N
 * threads, and the time, processor time and memory of a child process. */
#include <fcntl.h>
#include <lauxlib.h>
#include <lua.h>
#include <pthread.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int luaopen_bench_native(lua_State *L);

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- Memory ---- */

enum { MAX_THREADS = 256 };

typedef struct {
  const char *source;
  char *target; /* NULL: only read */
  size_t bytes;
  uint64_t sum;
} share;

static void *run_share(void *argument) {
  share *s = argument;
  if (s->target != NULL) {
    memcpy(s->target, s->source, s->bytes);
    return NULL;
  }
  const uint64_t *word = (const uint64_t *)(const void *)s->source;
  uint64_t sum = 0;
  for (size_t i = 0; i < s->bytes / sizeof *word; i++) sum += word[i];
  s->sum = sum;
  return NULL;
}

/* Seconds for `threads` threads to copy (or to read) their parts of the bytes. */
static double run_shares(const char *source, char *target, size_t bytes, int threads) {
  share part[MAX_THREADS];
  pthread_t thread[MAX_THREADS];
  size_t size = bytes / (size_t)threads / 4096 * 4096;
  double begun = now();
  for (int i = 0; i < threads; i++) {
    size_t at = (size_t)i * size;
    part[i] = (share){source + at, target == NULL ? NULL : target + at, size, 0};
    if (i > 0 && pthread_create(&thread[i], NULL, run_share, &part[i]) != 0) abort();
  }
  run_share(&part[0]);
  for (int i = 1; i < threads; i++) pthread_join(thread[i], NULL);
  double seconds = now() - begun;
  volatile uint64_t used = 0; /* the sums are not optimised away */
  for (int i = 0; i < threads; i++) used += part[i].sum;
  return seconds;
}

static char *buffers[2]; /* kept for the life of the process, all pages touched */
static size_t buffer_bytes;

/* Bytes moved a second: kind "copy" (read plus written) or "read", over `bytes` bytes. */
static int bandwidth(lua_State *L) {
  static const char *const kinds[] = {"copy", "read", NULL};
  int copying = luaL_checkoption(L, 1, NULL, kinds) == 0;
  size_t bytes = (size_t)luaL_checkinteger(L, 2);
  int threads = (int)luaL_checkinteger(L, 3);
  luaL_argcheck(L, threads >= 1 && threads <= MAX_THREADS, 3, "1 to 256 threads");
  if (buffer_bytes != bytes) {
    for (int i = 0; i < 2; i++) {
      free(buffers[i]);
      buffers[i] = malloc(bytes);
      if (buffers[i] == NULL) return luaL_error(L, "not enough memory");
      memset(buffers[i], i + 1, bytes);
    }
    buffer_bytes = bytes;
  }
  double seconds = run_shares(buffers[0], copying ? buffers[1] : NULL, bytes, threads);
  size_t moved = bytes / (size_t)threads / 4096 * 4096 * (size_t)threads * (copying ? 2 : 1);
  lua_pushnumber(L, (double)moved / seconds);
  return 1;
}

/* ---- Processes ---- */

/* The child's private memory now, in bytes; 0 when it has gone. */
static long anonymous_bytes(pid_t pid) {
  char path[64], line[256];
  long kilobytes = 0;
  snprintf(path, sizeof path, "/proc/%ld/status", (long)pid);
  FILE *file = fopen(path, "r");
  if (file == NULL) return 0;
  while (fgets(line, sizeof line, file) != NULL) {
    if (sscanf(line, "RssAnon: %ld", &kilobytes) == 1) break;
  }
  fclose(file);
  return kilobytes * 1024;
}

/* Starts a program with its input and output at /dev/null; 0 or an error number. */
static int start(pid_t *pid, char *const *argv) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  int failure = posix_spawnp(pid, argv[0], &actions, NULL, argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  return failure;
}

static int wait_sampling(pid_t pid, double interval, struct rusage *usage, long *peak) {
  int status = 0;
  struct timespec pause = {0, (long)(interval * 1e9)};
  *peak = 0;
  while (wait4(pid, &status, interval > 0 ? WNOHANG : 0, usage) == 0) {
    long bytes = anonymous_bytes(pid);
    if (bytes > *peak) *peak = bytes;
    nanosleep(&pause, NULL);
  }
  return status;
}

static void set_number(lua_State *L, const char *name, double value) {
  lua_pushnumber(L, value);
  lua_setfield(L, -2, name);
}

static double seconds_of(struct timeval t) {
  return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

/* spawn(argv [, interval]) -> { seconds, user, system, resident, anonymous }: runs a program, its
 * output thrown away, and raises when it fails. resident: its peak in bytes, mapped files included
 * (and at least this process's, by the way Linux counts); anonymous: the peak of its private
 * memory, looked at every `interval` seconds (0: never). */
static int spawn(lua_State *L) {
  char *argv[64] = {NULL};
  double interval = luaL_optnumber(L, 2, 0);
  luaL_checktype(L, 1, LUA_TTABLE);
  int count = (int)lua_rawlen(L, 1);
  luaL_argcheck(L, count >= 1 && count < 64, 1, "1 to 63 words");
  luaL_checkstack(L, count, NULL);
  for (int i = 0; i < count; i++) {
    lua_rawgeti(L, 1, i + 1); /* stays on the stack, so that its text stays */
    argv[i] = (char *)(uintptr_t)luaL_checkstring(L, -1);
  }
  struct rusage usage;
  long peak;
  double begun = now();
  pid_t pid;
  int failure = start(&pid, argv);
  if (failure != 0) return luaL_error(L, "%s: %s", argv[0], strerror(failure));
  int status = wait_sampling(pid, interval, &usage, &peak);
  double seconds = now() - begun;
  if (!WIFEXITED(status)) return luaL_error(L, "%s was killed", argv[0]);
  if (status != 0) return luaL_error(L, "%s: exit status %d", argv[0], WEXITSTATUS(status));
  lua_newtable(L);
  set_number(L, "seconds", seconds);
  set_number(L, "user", seconds_of(usage.ru_utime));
  set_number(L, "system", seconds_of(usage.ru_stime));
  set_number(L, "resident", (double)usage.ru_maxrss * 1024);
  set_number(L, "anonymous", (double)peak);
  return 1;
}

int luaopen_bench_native(lua_State *L) {
  static const luaL_Reg functions[] = {{"bandwidth", bandwidth}, {"spawn", spawn}, {NULL, NULL}};
  luaL_newlib(L, functions);
  return 1;
}
