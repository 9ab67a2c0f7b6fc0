/* rondo/rondo.h - rondo inside an application.
 *
 *   rondo *r = rondo_new(&(rondo_config){.threads = 4, .memory_limit = 8ull << 30});
 *   if (rondo_quantize(r, "model", "out", NULL) != RONDO_OK) show_error(rondo_message(r));
 *   rondo_free(r);
 *
 * A host is one Lua state with rondo in it. The library never prints, exits, or touches signals,
 * locale or working folder; errors come back as a status and a message, never as a Lua error.
 * What scripts without trust cannot do protects against accidents and mischief. Against attackers
 * who know faults of Lua or of the system, put the host into a process of its own, without rights.
 * Callbacks arrive on the calling thread. A host serves one thread at a time; several hosts in
 * several threads do not know of each other. */
#ifndef RONDO_RONDO_H
#define RONDO_RONDO_H

#include "rondo/tensor.h"

#define RONDO_VERSION_MAJOR 0
#define RONDO_VERSION_MINOR 1
#define RONDO_VERSION_PATCH 0

/* Comparable in #if: 0.1.0 is 100. */
#define RONDO_VERSION_NUMBER \
  (RONDO_VERSION_MAJOR * 10000 + RONDO_VERSION_MINOR * 100 + RONDO_VERSION_PATCH)

#if defined(__GNUC__)
#define RONDO_API __attribute__((visibility("default")))
#else
#define RONDO_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rondo rondo;
struct lua_State;

/* What scripts may do. */
typedef enum rondo_trust {
  /* Computing, and rondo's own functions, on files in the folders inputs and outputs. No processes,
   * environment or other modules, no native code, no bytecode, no debug library, no finalizers. */
  RONDO_TRUST_NOTHING = 0,
  /* All that Lua can. */
  RONDO_TRUST_EVERYTHING = 1
} rondo_trust;

/* How a host is set up. A struct of zeros is the default, and 0 means the default in each field. */
typedef struct rondo_config {
  size_t size; /* sizeof(rondo_config); 0: the struct as it was in version 0.1 */
  int threads; /* that compute, the caller's included, at most 1024; 0: all processors */
  rondo_trust trust;

  /* Limits. 0 stands for none where everything is trusted; without trust for 4 GiB, 4 * 10^9 steps
   * and 60 s. What reaches a limit of steps or time ends with RONDO_LIMIT; both count for one call,
   * for rondo_quantize from one report of progress to the next. */
  uint64_t memory_limit; /* bytes for Lua and tensors (not for mapped files) */
  uint64_t step_limit;   /* Lua's instructions, and native work that takes as long as so many */
  uint64_t time_limit;   /* milliseconds, whether computing or waiting */

  /* For scripts without trust: the folder below which they may open models, and the one below which
   * they may write and read; NULL: none. Links that lead out of it are refused. Outlive the host.
   */
  const char *inputs;
  const char *outputs;

  /* Called as rondo_quantize writes: after each tensor and, in a large one, after each piece of
   * it. bytes and total count the source.
   * Anything but 0 ends the call with RONDO_INTERRUPTED. */
  int (*on_progress)(void *user, uint64_t bytes, uint64_t total, const char *tensor);

  /* Called with remarks that stop nothing, what scripts hand to warn() included. */
  void (*on_warning)(void *user, const char *message);

  /* Asked by the prompt of rondo_command when rondo_interrupt has ended what it was doing: anything
   * but 0 forgets the interruption, and the prompt goes on; 0, or no callback, ends the command. */
  int (*on_interrupted)(void *user);

  void *user; /* handed to the callbacks */
} rondo_config;

/* The version of the library, "0.1.0". */
RONDO_API const char *rondo_version(void);

/* A new host; config may be NULL. NULL when there is no memory for the handle itself; when anything
 * else fails, every call with this host reports that failure. */
RONDO_API rondo *rondo_new(const rondo_config *config);

/* Ends the host: outputs that are not finished disappear. Not from within a callback. */
RONDO_API void rondo_free(rondo *r);

/* Quantizes the model (a folder or a file) into the new folder out, which appears whole or not at
 * all. recipe: a Lua file that returns rondo.recipe { ... }, or the table of options of
 * rondo.quantize: { format = "mlx", recipe = ... }, where recipe may be the name of a file beside
 * it; NULL: defaults. The format is "fake" unless options say another. Model and out may lie
 * anywhere, with trust or without. */
RONDO_API rondo_status rondo_quantize(rondo *r, const char *model, const char *out,
                                      const char *recipe);

/* Runs a Lua script. As under lua, the global arg holds path at 0 and the arguments from 1, which
 * are also the script's "...". Globals stay for the next script of this host. os.exit, where it is
 * trusted, ends the script only. RONDO_USAGE for an error in the script or an exit code but 0. */
RONDO_API rondo_status rondo_run(rondo *r, const char *path, int argc, const char *const *argv);

typedef enum rondo_value_type {
  RONDO_VALUE_NIL,
  RONDO_VALUE_BOOLEAN,
  RONDO_VALUE_INTEGER,
  RONDO_VALUE_NUMBER,
  RONDO_VALUE_STRING,
  RONDO_VALUE_OTHER /* tables, tensors, ... */
} rondo_value_type;

/* A value of Lua. */
typedef struct rondo_value {
  rondo_value_type type;
  bool boolean;     /* false for nil and false, as in Lua */
  int64_t integer;  /* 0 unless it is an integer, or a number or numeral that equals one */
  double number;    /* 0 unless it is a number or a numeral */
  const char *text; /* the string, or what tostring makes of the value; valid until the next call */
  size_t length;    /* of text, which may hold NULs */
} rondo_value;

/* Evaluates a Lua expression, or runs a chunk of Lua; value, if it is not NULL, receives the
 * (first) value that is returned, nil after an error. Globals are those of rondo_run. */
RONDO_API rondo_status rondo_eval(rondo *r, const char *code, rondo_value *value);

/* The rondo command: argv[0] is the program's name. Unlike everything else here it reads and writes
 * the standard streams, and os.exit in a script of `rondo run` ends the process. Needs
 * RONDO_TRUST_EVERYTHING. Returns the exit code: 0 done, 1 failed, 2 wrong usage. */
RONDO_API int rondo_command(rondo *r, int argc, const char *const *argv);

/* What the last call with this host has to say: "" after success. Valid until the next call. */
RONDO_API const char *rondo_message(const rondo *r);

/* An error by its pieces; "" and 0 stand for what is not known. */
typedef struct rondo_error_record {
  rondo_status status;
  const char *code;    /* the status as scripts see it: "usage", "io", "format", ... */
  const char *message; /* as rondo_message has it */
  const char *file;    /* the script where it arose, or the file that the message is about */
  int line;            /* of the script */
  const char *tensor;  /* that the message is about */
} rondo_error_record;

/* How the last call with this host ended. Never NULL; valid until the next call. */
RONDO_API const rondo_error_record *rondo_last_error(rondo *r);

/* Makes the call that is running end soon with RONDO_INTERRUPTED; when none is running, the next
 * one. What a C function that Lua has called is at is completed first: a few thousand numbers of a
 * tensor on each thread, the reading of a row block, one pattern match. May be called from a signal
 * handler and from other threads, but not after rondo_free. */
RONDO_API void rondo_interrupt(rondo *r);

/* For hosts with a Lua state of their own: luaL_requiref(L, "rondo", luaopen_rondo, 0). The state
 * needs Lua's standard libraries, as luaL_openlibs opens them. Makes every module of rondo known to
 * require without files, and returns the module rondo. */
RONDO_API int luaopen_rondo(struct lua_State *L);

#ifdef __cplusplus
}
#endif
#endif
