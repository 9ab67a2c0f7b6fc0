/* embed.c - an application with rondo inside: quantizes a model and says how far it is.
 *
 *   embed MODEL OUT [RECIPE.lua]
 *
 * Built against an installed rondo with the CMakeLists.txt beside it, or with pkg-config:
 *   cc -std=c11 embed.c -o embed $(pkg-config --cflags --libs rondo)
 * Only the headers and the library are needed, and lua-filesystem where it runs; the Lua half of
 * rondo is inside the library. */
#include <rondo/rondo.h>

#include <stdio.h>

/* Called on this thread after each tensor; anything but 0 would stop the work. */
static int on_progress(void *user, uint64_t bytes, uint64_t total, const char *tensor) {
  FILE *out = user;
  fprintf(out, "%5.1f%%  %s\n", total > 0 ? 100.0 * (double)bytes / (double)total : 100.0, tensor);
  return 0;
}

static void on_warning(void *user, const char *message) {
  (void)user;
  fprintf(stderr, "warning: %s\n", message);
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
      .user = stdout,
  };
  rondo *r = rondo_new(&config);
  rondo_status status = rondo_quantize(r, argv[1], argv[2], argc > 3 ? argv[3] : NULL);
  if (status != RONDO_OK) fprintf(stderr, "%s: %s\n", argv[0], rondo_message(r));
  rondo_free(r);
  return status == RONDO_OK ? 0 : 1;
}
