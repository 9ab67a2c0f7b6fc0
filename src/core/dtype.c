/* dtype.c - facts about element types, one line a type. */
#include "core/dtype.h"

#include <string.h>

typedef struct {
  const char *name, *file_name, *long_name;
  unsigned char bits, file_rank; /* rank: the order of safetensors' own Dtype enumeration */
} dtype_info;

static const dtype_info infos[RONDO_DTYPE_COUNT] = {
    [RONDO_F64] = {"f64", "F64", "float64", 64, 19},
    [RONDO_F32] = {"f32", "F32", "float32", 32, 17},
    [RONDO_F16] = {"f16", "F16", "float16", 16, 13},
    [RONDO_BF16] = {"bf16", "BF16", "bfloat16", 16, 14},
    [RONDO_F8_E4M3] = {"f8_e4m3", "F8_E4M3", "float8_e4m3fn", 8, 7},
    [RONDO_F8_E5M2] = {"f8_e5m2", "F8_E5M2", "float8_e5m2", 8, 6},
    [RONDO_I8] = {"i8", "I8", "int8", 8, 5},
    [RONDO_U8] = {"u8", "U8", "uint8", 8, 4},
    [RONDO_I16] = {"i16", "I16", "int16", 16, 11},
    [RONDO_U16] = {"u16", "U16", "uint16", 16, 12},
    [RONDO_I32] = {"i32", "I32", "int32", 32, 15},
    [RONDO_U32] = {"u32", "U32", "uint32", 32, 16},
    [RONDO_I64] = {"i64", "I64", "int64", 64, 20},
    [RONDO_U64] = {"u64", "U64", "uint64", 64, 21},
    [RONDO_BOOL] = {"bool", "BOOL", "boolean", 8, 0},
    [RONDO_F4] = {"f4", "F4", "float4_e2m1fn", 4, 1},
    [RONDO_F6_E2M3] = {"f6_e2m3", "F6_E2M3", "float6_e2m3fn", 6, 2},
    [RONDO_F6_E3M2] = {"f6_e3m2", "F6_E3M2", "float6_e3m2fn", 6, 3},
    [RONDO_F8_E8M0] = {"f8_e8m0", "F8_E8M0", "float8_e8m0fnu", 8, 8},
    [RONDO_F8_E4M3FNUZ] = {"f8_e4m3fnuz", "F8_E4M3FNUZ", "float8_e4m3fnuz", 8, 9},
    [RONDO_F8_E5M2FNUZ] = {"f8_e5m2fnuz", "F8_E5M2FNUZ", "float8_e5m2fnuz", 8, 10},
    [RONDO_C64] = {"c64", "C64", "complex64", 64, 18},
};

unsigned rondo_dtype_bits(rondo_dtype dtype) {
  return infos[dtype].bits;
}

const char *rondo_dtype_name(rondo_dtype dtype) {
  return infos[dtype].name;
}

const char *rondo_dtype_file_name(rondo_dtype dtype) {
  return infos[dtype].file_name;
}

int rondo_dtype_file_rank(rondo_dtype dtype) {
  return infos[dtype].file_rank;
}

static bool same(const char *text, const char *name, size_t length) {
  return strlen(text) == length && memcmp(text, name, length) == 0;
}

bool rondo_dtype_parse(const char *name, size_t length, rondo_dtype *dtype) {
  for (int i = 0; i < RONDO_DTYPE_COUNT; i++) {
    if (same(infos[i].name, name, length) || same(infos[i].long_name, name, length) ||
        same(infos[i].file_name, name, length)) {
      *dtype = (rondo_dtype)i;
      return true;
    }
  }
  return false;
}

bool rondo_dtype_parse_file_name(const char *name, size_t length, rondo_dtype *dtype) {
  for (int i = 0; i < RONDO_DTYPE_COUNT; i++) {
    if (same(infos[i].file_name, name, length)) {
      *dtype = (rondo_dtype)i;
      return true;
    }
  }
  return false;
}
