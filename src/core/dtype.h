/* dtype.h - facts about element types. */
#ifndef RONDO_CORE_DTYPE_H
#define RONDO_CORE_DTYPE_H

#include "rondo/tensor.h"

/* Bits of one element (4 and 6 exist among the opaque types). */
unsigned rondo_dtype_bits(rondo_dtype dtype);

/* Bytes of one element; 0 for types narrower than a byte. */
static inline size_t rondo_dtype_size(rondo_dtype dtype) {
  return rondo_dtype_bits(dtype) / 8;
}

static inline bool rondo_dtype_is_opaque(rondo_dtype dtype) {
  return dtype >= RONDO_F4;
}

static inline bool rondo_dtype_is_float(rondo_dtype dtype) {
  return dtype <= RONDO_F8_E5M2;
}

/* The name used in Lua ("bf16", "f8_e4m3", "u8"), and the one in safetensors files ("BF16"). */
const char *rondo_dtype_name(rondo_dtype dtype);
const char *rondo_dtype_file_name(rondo_dtype dtype);

/* Position in the order in which safetensors writers lay out tensors (by falling alignment). */
int rondo_dtype_file_rank(rondo_dtype dtype);

/* Finds a type by Lua name, by long spelling ("float16", "int32", "bfloat16") or by safetensors
 * name, exactly as written there; false if there is none. */
bool rondo_dtype_parse(const char *name, size_t length, rondo_dtype *dtype);

/* Only the safetensors spelling. */
bool rondo_dtype_parse_file_name(const char *name, size_t length, rondo_dtype *dtype);

#endif
