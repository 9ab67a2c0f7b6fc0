/* simd.h - the few vector operations that the kernels over groups need, WIDTH floats at a time.
 *
 * Three bodies of one interface: AVX-512, AVX2 with FMA and F16C, and GNU C vectors of four floats,
 * which any target compiles and which are the reference of the other two; aarch64 takes three
 * operations from NEON there. Intrinsics because compilers turn the plain loops into code that
 * takes three times as long (GCC 12). All operations round once, to nearest even, so that every
 * body gives the same bits.
 *
 *   vf, vi             WIDTH floats, WIDTH int32; + - * / work on vf
 *   v_min(a, b)        a < b ? a : b        v_max(a, b)  a > b ? a : b
 *   v_fma(a, b, c)     a * b + c, v_fnma(a, b, c)  c - a * b, rounded once; only where V_HAS_FMA
 *   v_round            nearest integer, half to even, keeping the sign of zero; |x| < 2^22
 *   v_to_int           the same as int32; v_from_int back; v_add on int32
 *   v_and, v_or        of the bits of floats
 *   v_bits             these as int32; v_sub and v_shift_right (of all 32 bits) on such
 *   v_abs              without the sign
 *   v_above_bits       a bit for each a > b; popcount of them tells how many
 *   v_keep             stores those of x whose bits are set, in order, and then up to WIDTH others
 *   v_divisor          x, but infinity where it is 0: a scale of 0 gives quotients of 0
 *   v_sum              x[0] + x[1] + ... of LANES values in the one fixed order: halves are added
 *   v_bf16, v_f16      WIDTH 16-bit floats from any address, widened
 *   v_bytes            BLOCK int32, in BLOCK / WIDTH vectors, as bytes (the low eight bits)
 *   v_map_bytes        BLOCK bytes, each 0 .. 15, through a table
 *   v_rank             how many of 15 rising cuts each value exceeds
 *   v_pick             entries 0 .. 15 of a table by index
 *
 * Where V_HAS_TO_F16: v_to_f16 rounds WIDTH floats to f16.
 *
 * Where V_HAS_SPLIT, for nibbles.c: v_split takes 2 * WIDTH bf16 apart into those of even and odd
 * index, v_half_block is what meets its part k of a block whose first half has a and second half b,
 * v_octet is eight floats, v_add_octets adds vectors to it eight lanes after the other, v_octet_sum
 * is v_sum over lanes of even and odd index, and v_nibbles clamps and packs the codes of BLOCK
 * values, even and odd.
 *
 * Where V_HAS_RAW: vraw, RAW_HALVES int16 or half as many int32, for ranges (ranges.c); elsewhere
 * compilers do as well by themselves.
 */
#ifndef RONDO_KERNELS_SIMD_H
#define RONDO_KERNELS_SIMD_H

#include "kernels/kernels.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { BLOCK = 32 }; /* values that quantizing takes at once, on every machine */

enum { LANES = 16 }; /* sums run in this many lanes, on every machine */

#if defined(__AVX2__)
#include <immintrin.h>

/* See nibbles.c: bounds of the integers code - zero, and zero; in every byte. */
typedef struct v_nibble_bounds {
  __m256i low, high, zero;
} v_nibble_bounds;

static inline v_nibble_bounds v_bounds(int low, int high, int zero) {
  __m256i z = _mm256_set1_epi8((char)zero);
  return (v_nibble_bounds){_mm256_sub_epi8(_mm256_set1_epi8((char)low), z),
                           _mm256_sub_epi8(_mm256_set1_epi8((char)high), z), z};
}

/* Eight lanes of a sum; see nibbles.c. */
typedef __m256 v_octet;

static inline v_octet v_no_octet(void) {
  return _mm256_setzero_ps();
}

static inline float v_lanes_sum(v_octet v) {
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline float v_octet_sum(const v_octet *even_odd) {
  return v_lanes_sum(even_odd[0]) + v_lanes_sum(even_odd[1]);
}

/* The smallest and largest of 16 int16; one instruction finds the smallest of eight uint16. */
static inline int32_t fold_min16(__m256i x) {
  __m128i low = _mm256_castsi256_si128(x), high = _mm256_extracti128_si256(x, 1);
  __m128i least = _mm_xor_si128(_mm_min_epi16(low, high), _mm_set1_epi16(INT16_MIN));
  return (int16_t)(_mm_extract_epi16(_mm_minpos_epu16(least), 0) ^ 0x8000);
}

static inline int32_t fold_max16(__m256i x) {
  __m128i low = _mm256_castsi256_si128(x), high = _mm256_extracti128_si256(x, 1);
  __m128i most = _mm_xor_si128(_mm_max_epi16(low, high), _mm_set1_epi16(INT16_MAX));
  return (int16_t)(_mm_extract_epi16(_mm_minpos_epu16(most), 0) ^ 0x7fff);
}
#endif

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#define V_HAS_FMA 1
enum { WIDTH = 16 };
typedef __m512 vf;
typedef __m512i vi;

static inline vf v_set(float x) {
  return _mm512_set1_ps(x);
}

static inline vf v_load(const float *x) {
  return _mm512_loadu_ps(x);
}

static inline void v_store(float *x, vf v) {
  _mm512_storeu_ps(x, v);
}

static inline vf v_min(vf a, vf b) {
  return _mm512_min_ps(a, b);
}

static inline vf v_max(vf a, vf b) {
  return _mm512_max_ps(a, b);
}

static inline vf v_fma(vf a, vf b, vf c) {
  return _mm512_fmadd_ps(a, b, c);
}

static inline vf v_fnma(vf a, vf b, vf c) {
  return _mm512_fnmadd_ps(a, b, c);
}

static inline vf v_round(vf x) {
  return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline vi v_to_int(vf x) {
  return _mm512_cvtps_epi32(x);
}

static inline vf v_from_int(vi x) {
  return _mm512_cvtepi32_ps(x);
}

static inline vf v_bf16(const void *x) {
  __m256i half = _mm256_loadu_si256((const __m256i *)x);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

static inline vf v_f16(const void *x) {
  return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)x));
}

/* Rounds to nearest whatever the environment. */
#define V_HAS_TO_F16 1
static inline void v_to_f16(uint16_t *out, vf x) {
  __m256i half = _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  _mm256_storeu_si256((__m256i *)out, half);
}

static inline void v_bytes(uint8_t *out, const vi *v) {
  _mm_storeu_si128((__m128i *)out, _mm512_cvtepi32_epi8(v[0]));
  _mm_storeu_si128((__m128i *)(out + 16), _mm512_cvtepi32_epi8(v[1]));
}

static inline vi v_add(vi a, vi b) {
  return _mm512_add_epi32(a, b);
}

static inline vi v_sub(vi a, vi b) {
  return _mm512_sub_epi32(a, b);
}

static inline vi v_shift_right(vi a, int n) {
  return _mm512_srli_epi32(a, n);
}

static inline vi v_bits(vf x) {
  return _mm512_castps_si512(x);
}

static inline vf v_and(vf a, vf b) {
  return _mm512_and_ps(a, b);
}

static inline vf v_or(vf a, vf b) {
  return _mm512_or_ps(a, b);
}

static inline unsigned v_above_bits(vf a, vf b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
}

static inline void v_keep(float *out, vf x, unsigned bits) {
  _mm512_storeu_ps(out, _mm512_maskz_compress_ps((__mmask16)bits, x));
}

static inline vf v_abs(vf x) {
  return _mm512_abs_ps(x);
}

static inline vf v_divisor(vf x) {
  __mmask16 zero = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_EQ_OQ);
  return _mm512_mask_mov_ps(x, zero, v_set(INFINITY));
}

static inline float v_sum(const vf *v) {
  __m256 a = _mm512_castps512_ps256(v[0]);
  __m256 b = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(v[0]), 1));
  __m256 eight = _mm256_add_ps(a, b);
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline void v_map_bytes(uint8_t *bytes, const uint8_t *table) {
  __m256i all = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table));
  __m256i index = _mm256_loadu_si256((const __m256i *)bytes);
  _mm256_storeu_si256((__m256i *)bytes, _mm256_shuffle_epi8(all, index));
}

static inline vf v_pick(const float *table, vi index) {
  return _mm512_permutexvar_ps(index, _mm512_loadu_ps(table));
}

/* Takes 1 off the counts where x exceeds the cut. */
static inline vi v_count_above(vi count, vf x, vf cut) {
  __mmask16 above = _mm512_cmp_ps_mask(x, cut, _CMP_GT_OQ);
  return _mm512_mask_sub_epi32(count, above, count, _mm512_set1_epi32(1));
}

/* Counts are negative until the end; two bits of them choose within a quarter. */
static inline vi v_rank(const rondo_cuts *cuts, vf x) {
  vi quarter = _mm512_setzero_si512();
  for (int i = 3; i < 15; i += 4) quarter = v_count_above(quarter, x, v_set(cuts->rising[i]));
  vi rank = _mm512_slli_epi32(quarter, 2);
  for (int k = 0; k < 3; k++) {
    vf table = _mm512_broadcast_f32x4(_mm_loadu_ps(cuts->within[k]));
    rank = v_count_above(rank, x, _mm512_permutevar_ps(table, quarter));
  }
  return _mm512_sub_epi32(_mm512_setzero_si512(), rank);
}

#define V_HAS_RAW 1
enum { RAW_HALVES = 32 };
typedef __m512i vraw;

static inline vraw raw_load(const void *x) {
  return _mm512_loadu_si512(x);
}

static inline vraw raw_key16(vraw x) {
  return _mm512_xor_si512(x, _mm512_srli_epi16(_mm512_srai_epi16(x, 15), 1));
}

static inline vraw raw_key32(vraw x) {
  return _mm512_xor_si512(x, _mm512_srli_epi32(_mm512_srai_epi32(x, 31), 1));
}

static inline vraw raw_min16(vraw a, vraw b) {
  return _mm512_min_epi16(a, b);
}

static inline vraw raw_max16(vraw a, vraw b) {
  return _mm512_max_epi16(a, b);
}

static inline vraw raw_min32(vraw a, vraw b) {
  return _mm512_min_epi32(a, b);
}

static inline vraw raw_max32(vraw a, vraw b) {
  return _mm512_max_epi32(a, b);
}

static inline __m256i raw_low(vraw x) {
  return _mm512_castsi512_si256(x);
}

static inline __m256i raw_high(vraw x) {
  return _mm512_extracti64x4_epi64(x, 1);
}

static inline int32_t raw_fold_min16(vraw x) {
  return fold_min16(_mm256_min_epi16(raw_low(x), raw_high(x)));
}

static inline int32_t raw_fold_max16(vraw x) {
  return fold_max16(_mm256_max_epi16(raw_low(x), raw_high(x)));
}

static inline int32_t raw_fold_min32(vraw x) {
  return _mm512_reduce_min_epi32(x);
}

static inline int32_t raw_fold_max32(vraw x) {
  return _mm512_reduce_max_epi32(x);
}

#define V_HAS_SPLIT 1
static inline void v_split(const uint16_t *x, vf *even, vf *odd) {
  vi v = _mm512_loadu_si512(x);
  *even = _mm512_castsi512_ps(_mm512_slli_epi32(v, 16));
  *odd = _mm512_castsi512_ps(_mm512_and_si512(v, _mm512_set1_epi32((int32_t)0xffff0000)));
}

static inline vf v_half_block(vf a, vf b, int k) {
  (void)k;
  return _mm512_mask_mov_ps(a, 0xff00, b);
}

static inline void v_add_octets(v_octet *sum, vf v) {
  *sum = _mm256_add_ps(*sum, _mm512_castps512_ps256(v));
  *sum = _mm256_add_ps(*sum, _mm512_extractf32x8_ps(v, 1));
}

static inline __m128i v_half_bytes(vi v, const v_nibble_bounds *b, bool has_zero) {
  __m128i bytes = _mm512_cvtsepi32_epi8(v);
  bytes = _mm_max_epi8(bytes, _mm256_castsi256_si128(b->low));
  bytes = _mm_min_epi8(bytes, _mm256_castsi256_si128(b->high));
  if (has_zero) bytes = _mm_add_epi8(bytes, _mm256_castsi256_si128(b->zero));
  return _mm_and_si128(bytes, _mm_set1_epi8(0x0f));
}

static inline void v_nibbles(uint8_t *out, const vi *even, const vi *odd, const v_nibble_bounds *b,
                             bool has_zero) {
  __m128i upper = _mm_slli_epi16(v_half_bytes(odd[0], b, has_zero), 4);
  __m128i bytes = _mm_or_si128(v_half_bytes(even[0], b, has_zero), upper);
  _mm_storeu_si128((__m128i *)out, bytes);
}

static inline void v_rank_nibbles(uint8_t *out, const vi *even, const vi *odd,
                                  const uint8_t *table) {
  __m128i codes = _mm_and_si128(_mm_loadu_si128((const __m128i *)table), _mm_set1_epi8(0x0f));
  __m128i low = _mm_shuffle_epi8(codes, _mm512_cvtepi32_epi8(even[0]));
  __m128i high = _mm_shuffle_epi8(codes, _mm512_cvtepi32_epi8(odd[0]));
  _mm_storeu_si128((__m128i *)out, _mm_or_si128(low, _mm_slli_epi16(high, 4)));
}

#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define V_HAS_FMA 1
enum { WIDTH = 8 };
typedef __m256 vf;
typedef __m256i vi;

static inline vf v_set(float x) {
  return _mm256_set1_ps(x);
}

static inline vf v_load(const float *x) {
  return _mm256_loadu_ps(x);
}

static inline void v_store(float *x, vf v) {
  _mm256_storeu_ps(x, v);
}

static inline vf v_min(vf a, vf b) {
  return _mm256_min_ps(a, b);
}

static inline vf v_max(vf a, vf b) {
  return _mm256_max_ps(a, b);
}

static inline vf v_fma(vf a, vf b, vf c) {
  return _mm256_fmadd_ps(a, b, c);
}

static inline vf v_fnma(vf a, vf b, vf c) {
  return _mm256_fnmadd_ps(a, b, c);
}

static inline vf v_round(vf x) {
  return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline vi v_to_int(vf x) {
  return _mm256_cvtps_epi32(x);
}

static inline vf v_from_int(vi x) {
  return _mm256_cvtepi32_ps(x);
}

static inline vf v_bf16(const void *x) {
  __m128i half = _mm_loadu_si128((const __m128i *)x);
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

static inline vf v_f16(const void *x) {
  return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)x));
}

/* Rounds to nearest whatever the environment. */
#define V_HAS_TO_F16 1
static inline void v_to_f16(uint16_t *out, vf x) {
  __m128i half = _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT);
  _mm_storeu_si128((__m128i *)out, half);
}

static inline void v_bytes(uint8_t *out, const vi *v) {
  const vi low = _mm256_set1_epi16(0xff), order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  vi a = _mm256_and_si256(_mm256_packs_epi32(v[0], v[1]), low);
  vi b = _mm256_and_si256(_mm256_packs_epi32(v[2], v[3]), low);
  vi bytes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(a, b), order);
  _mm256_storeu_si256((__m256i *)out, bytes);
}

static inline vi v_add(vi a, vi b) {
  return _mm256_add_epi32(a, b);
}

static inline vi v_sub(vi a, vi b) {
  return _mm256_sub_epi32(a, b);
}

static inline vi v_shift_right(vi a, int n) {
  return _mm256_srli_epi32(a, n);
}

static inline vi v_bits(vf x) {
  return _mm256_castps_si256(x);
}

static inline vf v_and(vf a, vf b) {
  return _mm256_and_ps(a, b);
}

static inline vf v_or(vf a, vf b) {
  return _mm256_or_ps(a, b);
}

static inline unsigned v_above_bits(vf a, vf b) {
  return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ));
}

static inline void v_keep(float *out, vf x, unsigned bits) {
  static const int32_t order[16][4] __attribute__((aligned(16))) = {
      {0, 0, 0, 0}, {0, 0, 0, 0}, {1, 0, 0, 0}, {0, 1, 0, 0}, {2, 0, 0, 0}, {0, 2, 0, 0},
      {1, 2, 0, 0}, {0, 1, 2, 0}, {3, 0, 0, 0}, {0, 3, 0, 0}, {1, 3, 0, 0}, {0, 1, 3, 0},
      {2, 3, 0, 0}, {0, 2, 3, 0}, {1, 2, 3, 0}, {0, 1, 2, 3}};
  __m128i low = _mm_load_si128((const __m128i *)order[bits & 15]);
  __m128i high = _mm_load_si128((const __m128i *)order[bits >> 4]);
  _mm_storeu_ps(out, _mm_permutevar_ps(_mm256_castps256_ps128(x), low));
  out += __builtin_popcount(bits & 15);
  _mm_storeu_ps(out, _mm_permutevar_ps(_mm256_extractf128_ps(x, 1), high));
}

static inline vf v_abs(vf x) {
  return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}

static inline vf v_divisor(vf x) {
  return _mm256_blendv_ps(x, v_set(INFINITY), _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_EQ_OQ));
}

static inline float v_sum(const vf *v) {
  vf eight = _mm256_add_ps(v[0], v[1]);
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline void v_map_bytes(uint8_t *bytes, const uint8_t *table) {
  vi all = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table));
  vi index = _mm256_loadu_si256((const __m256i *)bytes);
  _mm256_storeu_si256((__m256i *)bytes, _mm256_shuffle_epi8(all, index));
}

static inline vf v_pick(const float *table, vi index) {
  vf low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), index);
  vf high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), index);
  return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
}

/* -1 where x exceeds the cut. */
static inline vi v_above(vf x, vf cut) {
  return _mm256_castps_si256(_mm256_cmp_ps(x, cut, _CMP_GT_OQ));
}

/* Counts are negative until the end; two bits of them choose within a quarter. */
static inline vi v_rank(const rondo_cuts *cuts, vf x) {
  vi quarter = v_above(x, v_set(cuts->rising[3]));
  quarter = _mm256_add_epi32(quarter, v_above(x, v_set(cuts->rising[7])));
  quarter = _mm256_add_epi32(quarter, v_above(x, v_set(cuts->rising[11])));
  vi rank = _mm256_slli_epi32(quarter, 2);
  for (int k = 0; k < 3; k++) {
    vf table = _mm256_broadcast_ps((const __m128 *)cuts->within[k]);
    vf cut = _mm256_permutevar_ps(table, quarter);
    rank = _mm256_add_epi32(rank, v_above(x, cut));
  }
  return _mm256_sub_epi32(_mm256_setzero_si256(), rank);
}

#define V_HAS_RAW 1
enum { RAW_HALVES = 16 };
typedef __m256i vraw;

static inline vraw raw_load(const void *x) {
  return _mm256_loadu_si256((const __m256i *)x);
}

static inline vraw raw_key16(vraw x) {
  return _mm256_xor_si256(x, _mm256_srli_epi16(_mm256_srai_epi16(x, 15), 1));
}

static inline vraw raw_key32(vraw x) {
  return _mm256_xor_si256(x, _mm256_srli_epi32(_mm256_srai_epi32(x, 31), 1));
}

static inline vraw raw_min16(vraw a, vraw b) {
  return _mm256_min_epi16(a, b);
}

static inline vraw raw_max16(vraw a, vraw b) {
  return _mm256_max_epi16(a, b);
}

static inline vraw raw_min32(vraw a, vraw b) {
  return _mm256_min_epi32(a, b);
}

static inline vraw raw_max32(vraw a, vraw b) {
  return _mm256_max_epi32(a, b);
}

static inline int32_t raw_fold_min16(vraw x) {
  return fold_min16(x);
}

static inline int32_t raw_fold_max16(vraw x) {
  return fold_max16(x);
}

static inline int32_t raw_fold_min32(vraw x) {
  __m128i four = _mm_min_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  __m128i two = _mm_min_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_min_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

static inline int32_t raw_fold_max32(vraw x) {
  __m128i four = _mm_max_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  __m128i two = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

#define V_HAS_SPLIT 1
static inline void v_split(const uint16_t *x, vf *even, vf *odd) {
  vi v = _mm256_loadu_si256((const __m256i *)x);
  *even = _mm256_castsi256_ps(_mm256_slli_epi32(v, 16));
  *odd = _mm256_castsi256_ps(_mm256_and_si256(v, _mm256_set1_epi32((int32_t)0xffff0000)));
}

static inline vf v_half_block(vf a, vf b, int k) {
  return k == 0 ? a : b;
}

static inline void v_add_octets(v_octet *sum, vf v) {
  *sum = _mm256_add_ps(*sum, v);
}

/* Bytes by lane: even 0-7, 16-23, odd 0-7, 16-23 | even 8-15, 24-31, odd 8-15, 24-31. */
static inline vi v_split_bytes(const vi *even, const vi *odd) {
  return _mm256_packs_epi16(_mm256_packs_epi32(even[0], even[1]),
                            _mm256_packs_epi32(odd[0], odd[1]));
}

/* Joins the low halves of such bytes. */
static inline void v_join_nibbles(uint8_t *out, vi v) {
  v = _mm256_and_si256(v, _mm256_set1_epi8(0x0f));
  v = _mm256_or_si256(v, _mm256_slli_epi16(_mm256_srli_si256(v, 8), 4));
  v = _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(0, 4, 1, 5, 0, 0, 0, 0));
  _mm_storeu_si128((__m128i *)out, _mm256_castsi256_si128(v));
}

static inline void v_nibbles(uint8_t *out, const vi *even, const vi *odd, const v_nibble_bounds *b,
                             bool has_zero) {
  vi v = v_split_bytes(even, odd);
  v = _mm256_min_epi8(_mm256_max_epi8(v, b->low), b->high);
  if (has_zero) v = _mm256_add_epi8(v, b->zero);
  v_join_nibbles(out, v);
}

static inline void v_rank_nibbles(uint8_t *out, const vi *even, const vi *odd,
                                  const uint8_t *table) {
  vi codes = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table));
  v_join_nibbles(out, _mm256_shuffle_epi8(codes, v_split_bytes(even, odd)));
}

#else
enum { WIDTH = 4 };
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
typedef uint16_t v_halves __attribute__((vector_size(8)));
typedef uint32_t v_words __attribute__((vector_size(16)));
typedef uint8_t v_quad __attribute__((vector_size(4)));

static inline vf v_set(float x) {
  return (vf){x, x, x, x};
}

static inline vf v_load(const float *x) {
  vf v;
  memcpy(&v, x, sizeof v);
  return v;
}

static inline void v_store(float *x, vf v) {
  memcpy(x, &v, sizeof v);
}

static inline vf v_select(vi mask, vf a, vf b) {
  return (vf)((mask & (vi)a) | (~mask & (vi)b));
}

static inline vf v_min(vf a, vf b) {
  return v_select(a < b, a, b);
}

static inline vf v_max(vf a, vf b) {
  return v_select(a > b, a, b);
}

#if defined(__aarch64__)
#include <arm_neon.h>
#define V_HAS_FMA 1
static inline vf v_fma(vf a, vf b, vf c) {
  return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}

static inline vf v_fnma(vf a, vf b, vf c) {
  return (vf)vfmsq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
#endif

/* Adding 1.5 * 2^23 makes the adder round at the units. */
static inline vi v_to_int(vf x) {
  const vf magic = v_set(12582912.0f);
  return (vi)(x + magic) - (vi)magic;
}

static inline vf v_round(vf x) {
  const vf magic = v_set(12582912.0f);
  const vi sign = (vi)v_set(-0.0f);
  return (vf)((vi)((x + magic) - magic) | ((vi)x & sign));
}

static inline vf v_from_int(vi x) {
  return __builtin_convertvector(x, vf);
}

static inline vf v_bf16(const void *x) {
  v_halves half;
  memcpy(&half, x, sizeof half);
  return (vf)(__builtin_convertvector(half, v_words) << 16);
}

/* The shift puts the fields in place, the product corrects the bias, subnormals included. */
static inline vf v_f16(const void *x) {
  v_halves half;
  memcpy(&half, x, sizeof half);
  v_words u = __builtin_convertvector(half, v_words), sign = (u & 0x8000u) << 16;
  v_words special = (v_words)((u & 0x7fffu) > 0x7bffu) & 0x7f800000u; /* infinity or NaN */
  vf finite = (vf)((u & 0x7fffu) << 13) * v_set(0x1p112f);
  return (vf)((v_words)finite | special | sign);
}

static inline void v_bytes(uint8_t *out, const vi *v) {
  for (int i = 0; i < BLOCK / WIDTH; i++) {
    v_quad bytes = __builtin_convertvector(v[i], v_quad);
    memcpy(out + WIDTH * i, &bytes, sizeof bytes);
  }
}

static inline vi v_add(vi a, vi b) {
  return a + b;
}

static inline vi v_sub(vi a, vi b) {
  return a - b;
}

static inline vi v_shift_right(vi a, int n) {
  return (vi)((v_words)a >> n);
}

static inline vi v_bits(vf x) {
  return (vi)x;
}

static inline vf v_and(vf a, vf b) {
  return (vf)((vi)a & (vi)b);
}

static inline vf v_or(vf a, vf b) {
  return (vf)((vi)a | (vi)b);
}

static inline unsigned v_above_bits(vf a, vf b) {
  vi above = (a > b) & (vi){1, 2, 4, 8};
  return (unsigned)(above[0] | above[1] | above[2] | above[3]);
}

static inline void v_keep(float *out, vf x, unsigned bits) {
  for (int i = 0; i < WIDTH; i++) {
    *out = x[i];
    out += bits >> i & 1;
  }
}

static inline vf v_abs(vf x) {
  return (vf)((vi)x & 0x7fffffff);
}

static inline vf v_divisor(vf x) {
  return v_select(x == v_set(0), v_set(INFINITY), x);
}

static inline float v_sum(const vf *v) {
  vf four = (v[0] + v[2]) + (v[1] + v[3]);
  return (four[0] + four[2]) + (four[1] + four[3]);
}

static inline void v_map_bytes(uint8_t *bytes, const uint8_t *table) {
  for (int i = 0; i < BLOCK; i++) bytes[i] = table[bytes[i]];
}

static inline vf v_pick(const float *table, vi index) {
  return (vf){table[index[0]], table[index[1]], table[index[2]], table[index[3]]};
}

static inline vi v_rank(const rondo_cuts *cuts, vf x) {
  vi rank = {0, 0, 0, 0};
  for (int i = 0; i < 15; i++) rank -= (vi)(x > v_set(cuts->rising[i]));
  return rank;
}
#endif

/* Values i .. i+WIDTH-1 of an array of f32, f16 or bf16. */
static inline vf v_widen(rondo_dtype dtype, const void *x, size_t i) {
  if (dtype == RONDO_BF16) return v_bf16((const uint16_t *)x + i);
  if (dtype == RONDO_F16) return v_f16((const uint16_t *)x + i);
  return v_load((const float *)x + i);
}

#endif
