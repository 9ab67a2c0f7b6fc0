/* progress.c - an application with rondo inside: quantizes a model and shows how far it is.
 *
 *   progress MODEL OUT [RECIPE.lua]
 *
 * Control-C ends the work cleanly: nothing of OUT stays. Built against an installed rondo with the
 * CMakeLists.txt beside it, or with pkg-config:
 *   cc -std=c11 progress.c -o progress $(pkg-config --cflags --libs rondo)
 * Only the headers and the library are needed, and lua-filesystem where it runs; the Lua half of
 * rondo is inside the library. */
#include <rondo/rondo.h>

#include <signal.h>
#include <stdio.h>

enum { WIDTH = 40 };

static rondo *host;

/* Called on this thread after each piece of work; anything but 0 would stop it. */
static int on_progress(void *user, uint64_t bytes, uint64_t total, const char *tensor) {
  static const char full[WIDTH + 1] = "########################################";
  int done = total > 0 ? (int)(WIDTH * bytes / total) : WIDTH;
  fprintf(user, "\r[%-*.*s] %3d%% %-40.40s", WIDTH, done, full, done * 100 / WIDTH, tensor);
  fflush(user);
  return 0;
}

static void on_warning(void *user, const char *message) {
  fprintf(user, "\rwarning: %s\n", message);
}

/* One of the few functions that a signal handler may call. */
static void on_signal(int number) {
  (void)number;
  rondo_interrupt(host);
}

static void show_error(const rondo_error_record *e) {
  fprintf(stderr, "\r%s: %s\n", e->code, e->message);
  if (e->line != 0) fprintf(stderr, "  in %s, line %d\n", e->file, e->line);
  if (e->tensor[0] != '\0') fprintf(stderr, "  tensor %s\n", e->tensor);
}

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: %s MODEL OUT [RECIPE.lua]\n", argv[0]);
    return 2;
  }
  rondo_config config = {
      .size = sizeof config,
      .memory_limit = 1ull << 30, /* Lua and tensors; the mapped model is not counted */
      .on_progress = on_progress,
      .on_warning = on_warning,
      .user = stderr,
  };
  host = rondo_new(&config);
  signal(SIGINT, on_signal);
  rondo_status status = rondo_quantize(host, argv[1], argv[2], argc > 3 ? argv[3] : NULL);
  fputc('\n', stderr);
  if (status != RONDO_OK) show_error(rondo_last_error(host));
  signal(SIGINT, SIG_DFL);
  rondo_free(host);
  return status == RONDO_OK ? 0 : 1;
}
