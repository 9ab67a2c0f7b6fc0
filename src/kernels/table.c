/* table.c - one build of all kernels: RONDO_TABLE names the table, RONDO_ISA_NAME the instruction
 * set. The build system compiles this file once per instruction set. */
#include "kernels/kernels.h"

#include "kernels/simd.h"

#include "kernels/convert.c"
#include "kernels/ranges.c"
#include "kernels/scales.c"
#include "kernels/quant.c"
#include "kernels/losses.c"
#include "kernels/breakpoints.c"
#include "kernels/pack.c"
#include "kernels/nibbles.c"
#include "kernels/elementwise.c"

const rondo_kernels RONDO_TABLE = {
    .isa = RONDO_ISA_NAME,
    .group_ranges = group_ranges,
    .params_of = params_of,
    .stored_scales = stored_scales,
    .zeros_on = zeros_on,
    .inverses = inverses,
    .quantize_groups = quantize_groups,
    .dequantize_groups = dequantize_groups,
    .group_losses = group_losses,
    .power_errors = power_errors,
    .column_ranges = column_ranges,
    .quantize_columns = quantize_columns,
    .dequantize_columns = dequantize_columns,
    .squared_error = squared_error,
    .largest_magnitude = largest_magnitude,
#if defined(V_HAS_SPLIT)
    .quantize_nibbles = quantize_nibbles,
#endif
    .pack_words = pack_words,
    .recode_pairs = recode_pairs,
    .binary_f32 = binary_f32,
    .binary_f64 = binary_f64,
    .unary_f32 = unary_f32,
    .unary_f64 = unary_f64,
    .compare_f32 = compare_f32,
    .compare_f64 = compare_f64,
    .sum_f64 = sum_f64,
    .sum_squares_f64 = sum_squares_f64,
    .range_f64 = range_f64,
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
