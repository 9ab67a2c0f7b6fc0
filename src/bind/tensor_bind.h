/* tensor_bind.h - what the files of the tensor binding share. Other parts use bind.h alone. */
#ifndef RONDO_BIND_TENSOR_BIND_H
#define RONDO_BIND_TENSOR_BIND_H

#include "bind/bind.h"

/* Whether the memory of the tensor at idx is there. Storage of tensors lives as long as they do;
 * what else lends memory (see rondo_owner) may have been finalized before its views. */
bool rondo_tensor_has_memory(lua_State *L, int idx);

/* The dtype at idx, or fallback when the argument is absent or nil. */
rondo_dtype rondo_opt_dtype(lua_State *L, int idx, rondo_dtype fallback);

/* Reads a shape: a list of non-negative integers, or one integer. Returns the rank. What the
 * shape multiplies out to is checked by rondo_push_tensor. */
int rondo_check_shape(lua_State *L, int idx, int64_t *shape);

/* "2x3x4", "scalar" for rank 0, shortened with "..." where it does not fit. */
const char *rondo_shape_text(int rank, const int64_t *shape, char *buffer, size_t size);
enum { RONDO_SHAPE_TEXT = 128 };

/* What a caller wrote, for a message: printable, and cut where it is long. Returns buffer. */
enum { RONDO_SHOWN_TEXT = 44 };
const char *rondo_shown_text(const char *text, char *buffer);

/* A 1-based index, negative from the end, as 0-based; raises with the allowed range otherwise.
 * what: "index", "row", "dimension". */
int64_t rondo_check_index(lua_State *L, int arg, lua_Integer index, int64_t size, const char *what);

/* The dimension at idx, 0-based. */
int rondo_check_dim(lua_State *L, int idx, const rondo_tensor *t);

/* Raises when t is opaque: `what` names the operation. */
void rondo_require_arithmetic(lua_State *L, const rondo_tensor *t, const char *what);

/* Raises when dtype, named by argument idx, is opaque. */
void rondo_require_arithmetic_dtype(lua_State *L, int idx, rondo_dtype dtype);

/* The state's pool when count elements are worth several threads, else NULL. */
rondo_pool *rondo_pool_for(lua_State *L, int64_t count);

/* A copy of the tensor at idx, row-major, with storage of its own. [-0, +1] */
rondo_tensor *rondo_push_copy(lua_State *L, int idx);

/* The tensor at idx in another dtype. When it has that dtype already: itself, or a copy. [-0, +1]
 */
rondo_tensor *rondo_push_converted(lua_State *L, int idx, rondo_dtype dtype, bool always_copy);

/* The tensor at idx if it is row-major, else a copy. [-0, +1] */
rondo_tensor *rondo_push_row_major(lua_State *L, int idx);

/* Pushes the Lua value of one element: integer, float or boolean. u64 values above 2^63-1 become
 * floats. */
void rondo_push_element(lua_State *L, rondo_dtype dtype, const void *element);

/* An element as a double, rounded to nearest whatever the host has set. Arithmetic types. */
double rondo_element_number(const rondo_kernels *k, rondo_dtype dtype, const void *element);

/* Writes the Lua value at idx as one element. False and a message without position on the stack
 * when the dtype cannot hold it. */
bool rondo_store_element(lua_State *L, int idx, rondo_dtype dtype, void *element);

/* Adds the constructors to the module table at the top of the stack. */
void rondo_open_tensor_make(lua_State *L);

/* Methods by topic; all of them, ended by NULL. */
extern const luaL_Reg rondo_tensor_view_methods[], rondo_tensor_ops_methods[];
extern const luaL_Reg rondo_tensor_reduce_methods[], rondo_tensor_show_methods[];
extern const luaL_Reg *const rondo_tensor_methods[];

/* Metamethods. */
extern const luaL_Reg rondo_tensor_operators[];

/* Fields and methods: the method table is the upvalue. */
int rondo_tensor_index(lua_State *L);
int rondo_tensor_newindex(lua_State *L);
int rondo_tensor_pairs(lua_State *L);
int rondo_tensor_eq(lua_State *L);
int rondo_tensor_tostring(lua_State *L);

#endif
