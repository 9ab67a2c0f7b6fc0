/* table.c - one build of all kernels: RONDO_TABLE names the table, RONDO_ISA_NAME the instruction
 * set. The build system compiles this file once per instruction set. */
#include "kernels/kernels.h"

#include "kernels/convert.c"

const rondo_kernels RONDO_TABLE = {
    .isa = RONDO_ISA_NAME,
    .to_f32 = {[RONDO_F64] = f64_to_f32,
               [RONDO_F32] = f32_to_f32,
               [RONDO_F16] = f16_to_f32,
               [RONDO_BF16] = bf16_to_f32,
               [RONDO_F8_E4M3] = e4m3_to_f32,
               [RONDO_F8_E5M2] = e5m2_to_f32},
    .from_f32 = {[RONDO_F64] = f64_from_f32,
                 [RONDO_F32] = f32_from_f32,
                 [RONDO_F16] = f16_from_f32,
                 [RONDO_BF16] = bf16_from_f32,
                 [RONDO_F8_E4M3] = e4m3_from_f32,
                 [RONDO_F8_E5M2] = e5m2_from_f32},
};
