/* bind.h - what the bindings share: Lua <-> C mechanism, no arithmetic, no policy.
 *
 * Rules: nothing between acquiring and releasing a C resource may call Lua (errors longjmp), so
 * resources live in userdata made before they are acquired. A caller's mistake raises
 * (luaL_error family); the world's failures return nil, message, code (rondo_push_error). */
#ifndef RONDO_BIND_H
#define RONDO_BIND_H

#include "core/cpu.h"
#include "core/pool.h"
#include "rondo/tensor.h"

#include <lauxlib.h>
#include <lua.h>

#define RONDO_TENSOR_META "rondo.tensor"

/* The tensor at idx; raises Lua's "bad argument" error otherwise. */
rondo_tensor *rondo_check_tensor(lua_State *L, int idx);

/* The tensor at idx or NULL. */
rondo_tensor *rondo_test_tensor(lua_State *L, int idx);

/* Pushes a new row-major tensor with storage of its own inside the userdata, aligned to 64 bytes,
 * contents undefined. Raises on overflow and when memory runs out. [-0, +1] */
rondo_tensor *rondo_push_tensor(lua_State *L, rondo_dtype dtype, int rank, const int64_t *shape);

/* Pushes a view: *view is copied, and the value at owner (a tensor, whose own owner is then taken,
 * or any userdata whose __gc releases the memory) is kept alive as user value. [-0, +1] */
rondo_tensor *rondo_push_view(lua_State *L, int owner, const rondo_tensor *view);

/* What a userdata that lends memory to views begins with: it may be finalized before they are (at
 * lua_close, or in one cycle of the collector), and says so here. */
typedef struct rondo_owner {
  bool alive; /* the memory is there */
} rondo_owner;

/* What is done with a path. */
typedef enum rondo_access { RONDO_READ, RONDO_WRITE } rondo_access;

/* What a host forbids in its state: each function raises where it does, see below. */
typedef struct rondo_guard {
  void (*charge)(lua_State *L, uint64_t steps);
  void (*admit)(lua_State *L, const char *path, rondo_access access);
  void (*hold)(lua_State *L, int64_t bytes);
} rondo_guard;

/* The guard outlives the state; without one everything goes. [-0, +0] */
void rondo_set_guard(lua_State *L, const rondo_guard *guard);

/* Charges for work on so many elements, before it is begun; 0: only asks whether to stop. [-0, +0]
 */
void rondo_charge_elements(lua_State *L, int64_t count);

/* Tells the guard of an open checkpoint, and of its memory, which Lua does not see; the guard may
 * raise. With -bytes: it is gone. [-0, +0] */
void rondo_hold(lua_State *L, int64_t bytes);

/* The path at idx; raises when it is no string, holds a NUL, or the guard does not admit it. */
const char *rondo_check_path(lua_State *L, int idx, rondo_access access);

/* Pushes nil, message, code and returns 3. */
int rondo_push_error(lua_State *L, const rondo_error *e);

/* Raises e's message as a Lua error at the caller's position. */
int rondo_raise(lua_State *L, const rondo_error *e);

/* The dtype named by the string at idx ("bf16", "bfloat16", ...); raises, listing all names. */
rondo_dtype rondo_check_dtype(lua_State *L, int idx);

/* This state's thread pool, made at first use, joined when the state closes. Its number of threads
 * may change whenever Lua allocates: a finalizer may call threads(n). */
rondo_pool *rondo_state_pool(lua_State *L);

/* Makes work on this state's pool stop early once *stop is due; it then raises "interrupted", or
 * what the guard raises. Before rondo.core is opened; *stop outlives the state. [-0, +0] */
void rondo_stop_by(lua_State *L, const rondo_stop *stop);

/* Whether the environment names a UTF-8 locale. The process's own locale, which is the host's, is
 * neither asked nor set. */
bool rondo_locale_is_utf8(void);

/* Whether the state's work is to stop. [-0, +0] */
bool rondo_is_stopped(lua_State *L);

/* Raises "interrupted" when the state's work is to stop: after each run on its pool and before the
 * result is used, since that may be incomplete. [-0, +0] */
void rondo_check_stop(lua_State *L);

/* Pushes memory of `bytes` bytes for each thread of the state's pool, contents undefined. Good for
 * work that is begun before Lua is called again. [-0, +1] */
void *rondo_push_per_thread(lua_State *L, size_t bytes);

/* A rectangle of a tensor in a checkpoint that is read where it is worked on, by any thread; made
 * by checkpoint:block. */
typedef struct rondo_block {
  rondo_dtype dtype;
  int64_t rows, cols;
  const struct checkpoint_box *box; /* of the checkpoint, which is the block's user value */
  uint32_t shard;
  uint64_t offset, pitch; /* bytes: of the first element in the file; from row to row */
} rondo_block;

/* The block at idx or NULL. */
const rondo_block *rondo_test_block(lua_State *L, int idx);

/* Has the block's file open; until Lua is called again, any thread may read from it. */
bool rondo_block_begin(const rondo_block *block, rondo_error *e);
void rondo_block_end(const rondo_block *block); /* its weights are not needed again */
bool rondo_block_read(void *block, int64_t first, int64_t rows, void *out, rondo_error *e);

/* The kernels in use; raises when RONDO_ISA asks for what this processor cannot run. */
const rondo_kernels *rondo_state_kernels(lua_State *L);

/* Each part fills the table on top of the stack with its functions and registers its metatables.
 * [-0, +0] Called once per state by luaopen_rondo_core. */
void rondo_open_runtime(lua_State *L);    /* runtime.c: threads, isa, version */
void rondo_open_tensor(lua_State *L);     /* tensor.c */
void rondo_open_json(lua_State *L);       /* json.c */
void rondo_open_checkpoint(lua_State *L); /* checkpoint.c: safetensors files and indexes */
void rondo_open_save(lua_State *L);       /* save.c: single files; by the one above */
void rondo_open_header(lua_State *L);     /* header.c: headers to write; by checkpoint.c, too */
void rondo_open_file(lua_State *L);       /* file.c: output folders, durable writing */
void rondo_open_quantize(lua_State *L);   /* quantize.c: schemes over row blocks */
void rondo_open_layout(lua_State *L);     /* layout.c: layouts of codes in words */
void rondo_open_groups(lua_State *L);     /* groups.c: quantiles by group */
void rondo_open_stats(lua_State *L);      /* stats.c: summaries of tensors of any size */
void rondo_open_sums(lua_State *L);       /* sums.c: sums behind errors */
void rondo_open_edit(lua_State *L);       /* edit.c: lines edited on a terminal */

/* The module rondo.core. */
__attribute__((visibility("default"))) int luaopen_rondo_core(lua_State *L);

#endif
