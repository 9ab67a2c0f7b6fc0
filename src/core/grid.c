/* grid.c - the number grids: integers of 1 to 16 bits, affine ones, the 4-bit codebooks, E4M3.
 * Values and codes of the codebooks are those of neural_compressor.torch.algorithms.rtn; NF4 comes
 * from QLoRA (arXiv 2305.14314), E2M1 from the OCP Microscaling formats specification 1.0. */
#include "core/grid.h"

#include "core/error.h"

#include <math.h>
#include <string.h>

typedef struct {
  const char *name;
  int entries;
  double value[16]; /* midpoints are taken in double, then rounded, as in the reference */
  int8_t code[16];
  bool ties_to_even; /* values half way between two go to the even code, else to the lower value */
} codebook;

#define FP4_BNB_VALUES \
  { -12, -8, -6, -4, -3, -2, -0.0625, 0, 0.0625, 2, 3, 4, 6, 8, 12 }
#define FP4_BNB_CODES \
  { -5, -6, -3, -4, -1, -2, -7, 0, 1, 6, 7, 4, 5, 2, 3 }

static const codebook codebooks[] = {
    {"nf4",
     16,
     {-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
      -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
      0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
      0.7229568362236023, 1.0},
     {7, 1, 2, 3, 4, 5, 6, 0, -8, -7, -6, -5, -4, -3, -2, -1},
     false},
    {"fp4", 15, FP4_BNB_VALUES, FP4_BNB_CODES, false},
    {"fp4_e2m1_bnb", 15, FP4_BNB_VALUES, FP4_BNB_CODES, false},
    {"fp4_e2m1",
     15,
     {-6, -4, -3, -2, -1.5, -1, -0.0625, 0, 0.0625, 1, 1.5, 2, 3, 4, 6},
     {-1, -2, -3, -4, -5, -6, -7, 0, 1, 2, 3, 4, 5, 6, 7},
     false},
    {"e2m1",
     15,
     {-6, -4, -3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 6},
     {15, 14, 13, 12, 11, 10, 9, 0, 1, 2, 3, 4, 5, 6, 7},
     true},
};

static void fill_quarters(rondo_cuts *cuts) {
  for (int k = 0; k < 3; k++) {
    for (int q = 0; q < 4; q++) cuts->within[k][-q & 3] = cuts->rising[4 * q + k];
  }
}

/* A cut belongs to the value below it; here, to that of the even code. */
static void move_ties(rondo_grid *grid) {
  for (int i = 1; i < grid->entries; i++) {
    float *cut = &grid->cuts.rising[i - 1];
    if (grid->code[i] % 2 == 0) *cut = nextafterf(*cut, -INFINITY);
  }
}

static void fill_codebook(rondo_grid *grid, const codebook *book) {
  grid->kind = RONDO_CODEBOOK;
  grid->entries = book->entries;
  grid->divisor = (float)book->value[book->entries - 1];
  for (int i = 0; i < 15; i++) grid->cuts.rising[i] = INFINITY;
  for (int i = 0; i < book->entries; i++) {
    grid->value[i] = (float)book->value[i];
    grid->code[i] = (uint8_t)book->code[i];
    grid->decode[book->code[i] & 15] = (float)book->value[i];
    if (i > 0) grid->cuts.rising[i - 1] = (float)((book->value[i - 1] + book->value[i]) * 0.5);
  }
  if (book->ties_to_even) move_ties(grid);
  fill_quarters(&grid->cuts);
}

static void fill_integers(rondo_grid *grid, int bits, bool symmetric, bool full_range) {
  float half = (float)(1 << (bits - 1));
  grid->kind = symmetric ? RONDO_SYMMETRIC : RONDO_ASYMMETRIC;
  grid->full_range = full_range;
  if (!symmetric) {
    grid->low = 0;
    grid->high = grid->divisor = (float)((1 << bits) - 1);
  } else if (bits == 1) { /* the reference's one-bit grid holds 0 and 1 */
    grid->low = 0;
    grid->high = grid->divisor = 1;
  } else {
    grid->low = -half;
    grid->high = half - 1;
    grid->divisor = full_range ? half : half - 1;
  }
}

static bool fill_affine(rondo_grid *grid, int bits, rondo_error *e) {
  if (bits > 8) return rondo_fail(e, RONDO_USAGE, "affine codes have 1 to 8 bits, not %d", bits);
  grid->kind = RONDO_AFFINE;
  grid->high = grid->divisor = (float)((1 << bits) - 1);
  return true;
}

static bool fill_e4m3(rondo_grid *grid, int bits, rondo_error *e) {
  if (bits != 8) return rondo_fail(e, RONDO_USAGE, "data type fp8 has 8 bits, not %d", bits);
  grid->kind = RONDO_E4M3;
  grid->divisor = 448;
  return true;
}

static bool fill_positive(rondo_grid *grid, int bits, rondo_error *e) {
  if (bits < 2 || bits > 8) {
    return rondo_fail(e, RONDO_USAGE, "positive zero points are for 2 to 8 bits, not %d", bits);
  }
  fill_integers(grid, bits, false, false);
  grid->zero_low = 1;
  return true;
}

bool rondo_grid_make(rondo_grid *grid, const char *data_type, int bits, bool symmetric,
                     bool full_range, rondo_error *e) {
  memset(grid, 0, sizeof *grid);
  grid->bits = bits;
  if (bits < 1 || bits > 16) {
    return rondo_fail(e, RONDO_USAGE, "the number of bits is 1 to 16, not %d", bits);
  }
  if (strcmp(data_type, "int") == 0) {
    if (symmetric && full_range && bits == 1) {
      return rondo_fail(e, RONDO_USAGE, "1 bit has no full range: its scale would divide by zero");
    }
    fill_integers(grid, bits, symmetric, symmetric && full_range);
    return true;
  }
  if (strcmp(data_type, "positive") == 0) return fill_positive(grid, bits, e);
  if (strcmp(data_type, "affine") == 0) return fill_affine(grid, bits, e);
  if (strcmp(data_type, "fp8") == 0) return fill_e4m3(grid, bits, e);
  for (size_t i = 0; i < sizeof codebooks / sizeof *codebooks; i++) {
    if (strcmp(data_type, codebooks[i].name) != 0) continue;
    if (bits != 4) {
      return rondo_fail(e, RONDO_USAGE, "data type %s has 4 bits, not %d", data_type, bits);
    }
    fill_codebook(grid, &codebooks[i]);
    return true;
  }
  return rondo_fail(
      e, RONDO_USAGE,
      "unknown data type '%s' (known: int, positive, affine, nf4, fp4, fp4_e2m1, fp4_e2m1_bnb, "
      "e2m1, fp8)",
      data_type);
}
