/* rondo/tensor.h - tensors for authors of C code: element types, shapes, views, errors.
 *
 * A rondo_tensor describes memory, it never owns it. Shapes and strides count elements; row-major
 * means the last stride is 1. Whoever hands out a tensor says how long its bytes stay valid. */
#ifndef RONDO_TENSOR_H
#define RONDO_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The most dimensions a tensor may have; files with more are refused. */
#define RONDO_MAX_RANK 64

/* Element types under their safetensors meaning. Those from RONDO_F4 on are opaque: they have a
 * shape and bytes and can be copied, but there is no arithmetic on them. */
typedef enum rondo_dtype {
  RONDO_F64,
  RONDO_F32,
  RONDO_F16,
  RONDO_BF16,
  RONDO_F8_E4M3, /* the "fn" flavour: no infinity, largest 448, NaN 0x7f and 0xff */
  RONDO_F8_E5M2,
  RONDO_I8,
  RONDO_U8,
  RONDO_I16,
  RONDO_U16,
  RONDO_I32,
  RONDO_U32,
  RONDO_I64,
  RONDO_U64,
  RONDO_BOOL,
  RONDO_F4,
  RONDO_F6_E2M3,
  RONDO_F6_E3M2,
  RONDO_F8_E8M0,
  RONDO_F8_E4M3FNUZ,
  RONDO_F8_E5M2FNUZ,
  RONDO_C64,
  RONDO_DTYPE_COUNT
} rondo_dtype;

typedef struct rondo_tensor {
  rondo_dtype dtype;
  int rank;       /* 0 for a scalar, at most RONDO_MAX_RANK */
  bool read_only; /* set for memory mapped from a file */
  int64_t shape[RONDO_MAX_RANK];
  int64_t stride[RONDO_MAX_RANK]; /* in elements; opaque types are always row-major */
  void *data;                     /* the first element; may be unaligned when mapped from a file */
} rondo_tensor;

/* What went wrong, for programs. Lua sees the names of rondo_status_name(). */
typedef enum rondo_status {
  RONDO_OK,
  RONDO_USAGE,       /* "usage": the caller asked for something that makes no sense */
  RONDO_IO,          /* "io": the system refused: missing file, full disk, no permission */
  RONDO_FORMAT,      /* "format": a file does not keep to its format */
  RONDO_UNSUPPORTED, /* "unsupported": legal, but rondo cannot do it */
  RONDO_NONFINITE,   /* "nonfinite": NaN or infinity where numbers are needed */
  RONDO_CHANGED,     /* "changed": an input changed while it was being read */
  RONDO_EXISTS,      /* "exists": the output is already there */
  RONDO_MEMORY,      /* "memory": an allocation failed */
  RONDO_INTERRUPTED, /* "interrupted": stopped on request */
  RONDO_LIMIT,       /* "limit": a script has used up its steps or its time */
  RONDO_STATUS_COUNT
} rondo_status;

/* One error: the message is UTF-8, printable, shorter than the buffer, and names file and tensor.
 */
typedef struct rondo_error {
  rondo_status status;
  char message[512];
} rondo_error;

#ifdef __cplusplus
}
#endif
#endif
