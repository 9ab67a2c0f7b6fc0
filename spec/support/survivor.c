/* survivor.c - a host for spec/sandbox_spec.lua: runs scripts that nobody vouches for, each in a
 * host of its own, and after each a sane one in the same host.
 *
 *   survivor MILLISECONDS INPUTS OUTPUTS SCRIPT...
 *
 * Prints a line for each: "STATUS alive MESSAGE", where alive says that the sane script, the limits
 * of memory, steps and time included, had what it needs. */
#include <rondo/rondo.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char sane[] =
    "(function()\n"
    "  local t = require('rondo').arange(1, 100000)\n"
    "  for i = 1, 10000 do t[1] = i end\n"
    "  return (t + 1):sum() == 5000150000 + 9999\n"
    "    and ('x'):rep(1000000):find('y') == nil and #table.pack(1, 2) == 2\n"
    "end)()";

static void on_warning(void *user, const char *message) {
  (void)user;
  printf("warning %s\n", message);
}

int main(int argc, char **argv) {
  for (int i = 4; i < argc; i++) {
    rondo_config config = {.size = sizeof config,
                           .threads = 2,
                           .memory_limit = 64 * 1000 * 1000,
                           .step_limit = 10 * 1000 * 1000,
                           .time_limit = (uint64_t)strtol(argv[1], NULL, 10),
                           .inputs = argv[2],
                           .outputs = argv[3],
                           .on_warning = on_warning};
    rondo *r = rondo_new(&config);
    rondo_run(r, argv[i], 0, NULL);
    rondo_error_record error = *rondo_last_error(r);
    char message[4096];
    snprintf(message, sizeof message, "%s", rondo_message(r));
    rondo_value value;
    bool alive = rondo_eval(r, sane, &value) == RONDO_OK && value.boolean;
    printf("%s %s %s\n", error.code, alive ? "alive" : rondo_message(r), strtok(message, "\n"));
    fflush(stdout);
    rondo_free(r);
  }
  return 0;
}
