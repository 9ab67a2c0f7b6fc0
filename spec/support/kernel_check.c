/* kernel_check.c - runs every kernel of every table that this processor has, over odd lengths, odd
 * addresses and hard values, and compares the results with the baseline's bit for bit.
 *
 *   kernel_check          prints a line per table; the exit status is 1 when one differs
 *
 * The line of the baseline has a digest of all results: it is the same on every processor. The last
 * table runs once more where a host has set the floating-point environment to its liking. Inputs
 * end where memory that cannot be read begins; outputs stand before bytes that must stay. */
#include "core/cpu.h"
#include "core/environment.h"
#include "core/grid.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* ---- Results ---- */

enum { MAX_RESULTS = 1 << 16, LABEL = 160 };

typedef struct {
  char label[LABEL];
  uint64_t digest;
} result;

typedef struct {
  const rondo_kernels *k;
  size_t count;
  result result[MAX_RESULTS];
} results;

static void fail(const char *table, const char *label, const char *what) {
  printf("%s: %s: %s\n", table, label, what);
  exit(1);
}

static uint64_t digest_of(uint64_t h, const void *data, size_t bytes) {
  const unsigned char *p = data;
  for (size_t i = 0; i < bytes; i++) h = (h ^ p[i]) * 0x100000001b3u;
  return h;
}

static void add(results *r, const char *label, const void *data, size_t bytes) {
  if (r->count == MAX_RESULTS) fail(r->k->isa, label, "too many results");
  result *slot = &r->result[r->count++];
  snprintf(slot->label, sizeof slot->label, "%s", label);
  slot->digest = digest_of(0xcbf29ce484222325u, data, bytes);
}

/* ---- Memory ---- */

enum { ROOM = 1 << 20, GUARD = 64, FILL = 0xa5 };

/* A copy of the bytes that ends where no memory is readable; one place for each of 4 sources. */
static void *source(int place, const void *data, size_t bytes) {
  static unsigned char *end[4];
  if (end[place] == NULL) {
    unsigned char *room =
        mmap(NULL, 2 * ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED || mprotect(room + ROOM, ROOM, PROT_NONE) != 0) abort();
    end[place] = room + ROOM;
  }
  return memcpy(end[place] - bytes, data, bytes);
}

/* Room for an output of that many bytes, aligned for any vector or, with `shift`, for 8 bytes. */
static void *target(int place, size_t bytes, size_t shift) {
  static _Alignas(64) unsigned char room[4][ROOM];
  unsigned char *p = room[place] + 8 * (shift % 8);
  memset(p, FILL, bytes + GUARD);
  return p;
}

/* Adds an output to the results, and looks whether more than it was written. */
static void add_target(results *r, const char *label, const void *data, size_t bytes) {
  const unsigned char *p = data;
  for (size_t i = 0; i < GUARD; i++) {
    if (p[bytes + i] != FILL) fail(r->k->isa, label, "writes past the end");
  }
  add(r, label, data, bytes);
}

/* ---- Values: made from integers, so that they are the same on every processor ---- */

static uint64_t state;

static uint64_t next(void) {
  uint64_t z = (state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

static float float_from(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

static uint32_t bits_from(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

typedef enum { WEIGHTS, TIES, SPREAD, SMALL, KINDS, ANY = KINDS } values;

/* Near a normal distribution's cube: tails as heavy as weights have. */
static float weight(void) {
  int32_t sum = 0;
  for (int i = 0; i < 4; i++) sum += (int32_t)(next() & 0xffff) - 0x8000;
  float x = (float)sum * 0x1p-16f;
  return x * x * x;
}

/* Within a few units in the last place of a point halfway between codes, for groups whose largest
 * value is 0.8125. */
static float tie(void) {
  static const float divisors[] = {1, 3, 7, 8, 15, 31, 127, 128, 255};
  float d = divisors[next() % 9], k = (float)(next() % 256);
  if (k >= d || next() % 64 == 0) k = d - 0.5f;
  float x = 0.8125f * ((k + 0.5f) / d);
  x = float_from(bits_from(x) + (uint32_t)(next() % 9) - 4);
  return next() % 2 == 0 ? x : -x;
}

static float value(values kind, size_t i) {
  uint32_t bits = (uint32_t)next();
  switch (kind) {
  case WEIGHTS:
    return i % 37 == 5 ? 0 : weight();
  case TIES:
    return tie();
  case SPREAD: /* any exponent from 2^-63 to 2^64, and zeros of both signs */
    return bits % 16 == 0 ? float_from(bits & 0x80000000u)
                          : float_from((bits & 0xbfffffffu) + 0x20000000u);
  case SMALL: /* denormals and what is near them */
    return float_from(bits & 0x817fffffu);
  default: {
    static const uint32_t hard[] = {0,          0x80000000, 0x7f800000, 0xff800000, 0x7fc00000,
                                    0x7f800001, 0xffc12345, 0x7f7fffff, 0xff7fffff, 1,
                                    0x80000001, 0x3f800000, 0xbf800000, 0x3f000000, 0x40200000};
    return float_from(bits % 3 == 0 ? hard[next() % 15] : bits);
  }
  }
}

static void fill_f32(float *x, values kind, size_t n) {
  for (size_t i = 0; i < n; i++) x[i] = value(kind, i);
}

static void fill_f64(double *x, values kind, size_t n) {
  for (size_t i = 0; i < n; i++) {
    uint64_t bits = next();
    x[i] = value(kind, i);
    if (kind == ANY && bits % 4 == 0) memcpy(&x[i], &bits, sizeof bits);
  }
}

/* An f32 value cut to an f16, with what does not fit brought near 1. */
static uint16_t half_from(float x, bool nonfinite) {
  uint32_t bits = bits_from(x), exponent = bits >> 23 & 0xff;
  uint32_t small = exponent < 112 ? (exponent & 3) : exponent > 142 ? 15 : exponent - 112;
  if (nonfinite && exponent == 255) small = 31;
  return (uint16_t)((bits >> 16 & 0x8000) | small << 10 | (bits >> 13 & 0x3ff));
}

static const rondo_dtype dtypes[] = {RONDO_F32, RONDO_F16, RONDO_BF16};
static const char *const dtype_names[] = {"f32", "f16", "bf16"};

/* n values of dtypes[d], as a source. */
static void *weights_source(int place, int d, values kind, size_t n) {
  static float x[ROOM / 4];
  static uint16_t half[ROOM / 4];
  fill_f32(x, kind, n);
  if (dtypes[d] == RONDO_F32) return source(place, x, n * sizeof *x);
  for (size_t i = 0; i < n; i++) {
    half[i] =
        dtypes[d] == RONDO_F16 ? half_from(x[i], kind == ANY) : (uint16_t)(bits_from(x[i]) >> 16);
  }
  return source(place, half, n * sizeof *half);
}

static const size_t lengths[] = {1,   2,   3,   7,   8,   9,   15,   16,   17,
                                 31,  32,  33,  63,  64,  65,  96,   127,  128,
                                 129, 255, 256, 257, 511, 513, 1000, 1024, 4099};
static const size_t group_sizes[] = {1, 3, 8, 16, 31, 32, 33, 64, 100, 128, 256, 1000, 5000};
enum {
  LENGTHS = sizeof lengths / sizeof *lengths,
  GROUP_SIZES = sizeof group_sizes / sizeof *group_sizes,
  LONGEST = 4099
};

/* ---- Number grids ---- */

typedef struct {
  const char *type;
  int bits;
  bool symmetric, full_range;
} grid_name;

static const grid_name grids[] = {
    {"int", 1, true, false},       {"int", 2, false, false},      {"int", 2, true, false},
    {"int", 3, false, false},      {"int", 3, true, true},        {"int", 4, false, false},
    {"int", 4, true, false},       {"int", 4, true, true},        {"int", 5, false, false},
    {"int", 8, false, false},      {"int", 8, true, false},       {"int", 16, false, false},
    {"int", 16, true, false},      {"affine", 1, false, false},   {"affine", 3, false, false},
    {"affine", 4, false, false},   {"affine", 8, false, false},   {"fp8", 8, true, false},
    {"positive", 4, false, false}, {"positive", 8, false, false}, {"nf4", 4, true, false},
    {"fp4", 4, true, false},       {"fp4_e2m1", 4, true, false},  {"e2m1", 4, true, false}};
enum { GRIDS = sizeof grids / sizeof *grids };

static rondo_grid grid_at(int g) {
  rondo_grid grid;
  rondo_error e;
  const grid_name *n = &grids[g];
  if (!rondo_grid_make(&grid, n->type, n->bits, n->symmetric, n->full_range, &e)) abort();
  return grid;
}

static const char *grid_label(int g) {
  static char text[32];
  const grid_name *n = &grids[g];
  snprintf(text, sizeof text, "%s%d%s%s", n->type, n->bits, n->symmetric ? " sym" : " asym",
           n->full_range ? " full" : "");
  return text;
}

/* ---- Groups ---- */

typedef struct {
  int grid, dtype;
  values kind;
  size_t n, group, groups;
  float ratio;
} group_case;

typedef struct {
  float low[LONGEST], high[LONGEST], scale[LONGEST], zero[LONGEST], inverse[LONGEST];
} group_room;

/* Inverses that are not there make kernels divide: the codes must be the same. */
static void check_division(results *r, const group_case *c, const rondo_grid *grid, const void *x,
                           rondo_params p, const uint8_t *codes, const char *label) {
  static float none[LONGEST];
  for (size_t i = 0; i < c->groups; i++) none[i] = __builtin_nanf("");
  uint8_t *divided = target(2, c->n, c->n);
  p.inverse = none;
  r->k->quantize_groups(grid, dtypes[c->dtype], x, c->n, c->group, p, NULL, divided);
  if (memcmp(codes, divided, c->n) != 0) fail(r->k->isa, label, "other codes by division");
}

static void quantize_groups(results *r, const group_case *c, const void *x, rondo_params p) {
  const rondo_grid grid = grid_at(c->grid);
  bool bytes = grid.bits <= 8;
  float *y = target(0, c->n * sizeof *y, c->n);
  uint8_t *codes = target(1, c->n, c->group);
  char label[LABEL];
  snprintf(label, sizeof label, "quantize_groups %s %s kind %d n %zu group %zu",
           grid_label(c->grid), dtype_names[c->dtype], (int)c->kind, c->n, c->group);
  r->k->quantize_groups(&grid, dtypes[c->dtype], x, c->n, c->group, p, y, bytes ? codes : NULL);
  add_target(r, label, y, c->n * sizeof *y);
  if (!bytes) return;
  add_target(r, label, codes, c->n);
  check_division(r, c, &grid, x, p, codes, label);
  uint8_t *alone = target(2, c->n, c->n);
  r->k->quantize_groups(&grid, dtypes[c->dtype], x, c->n, c->group, p, NULL, alone);
  if (memcmp(codes, alone, c->n) != 0) fail(r->k->isa, label, "other codes without values");
  float *back = target(3, c->n * sizeof *back, c->group);
  r->k->dequantize_groups(&grid, source(1, codes, c->n), c->n, c->group, p, back);
  add_target(r, label, back, c->n * sizeof *back);
}

static void check_group_case(results *r, const group_case *c) {
  static group_room g;
  const rondo_grid grid = grid_at(c->grid);
  const void *x = weights_source(0, c->dtype, c->kind, c->n);
  char label[LABEL];
  snprintf(label, sizeof label, "params %s %s kind %d n %zu group %zu", grid_label(c->grid),
           dtype_names[c->dtype], (int)c->kind, c->n, c->group);
  if (!r->k->group_ranges(dtypes[c->dtype], x, c->n, c->group, g.low, g.high)) {
    fail(r->k->isa, label, "finite values are refused");
  }
  add(r, label, g.low, c->groups * sizeof *g.low);
  add(r, label, g.high, c->groups * sizeof *g.high);
  r->k->params_of(&grid, g.low, g.high, c->groups, &c->ratio, true, g.scale, g.zero);
  add(r, label, g.scale, c->groups * sizeof *g.scale);
  add(r, label, g.zero, c->groups * sizeof *g.zero);
  r->k->inverses(&grid, g.scale, g.low, g.high, c->groups, g.inverse);
  quantize_groups(r, c, x, (rondo_params){g.scale, g.zero, g.inverse});
}

static void check_groups(results *r) {
  static const float ratios[] = {1, 0.9f, 0.505f};
  for (int i = 0; i < GRIDS * LENGTHS * KINDS; i++) {
    group_case c = {.grid = i % GRIDS, .kind = (values)(i / GRIDS % KINDS)};
    c.n = lengths[i / GRIDS / KINDS];
    c.dtype = (int)(next() % 3);
    c.group = group_sizes[next() % GROUP_SIZES];
    c.groups = (c.n + c.group - 1) / c.group;
    c.ratio = ratios[next() % 3];
    check_group_case(r, &c);
  }
}

/* Codes of 4 bits and errors of bf16: the fused kernel, where the table has it, gives what the
 * others do one after the other. */
static void check_nibbles_case(results *r, const rondo_grid *grid, values kind, size_t first,
                               size_t n, size_t group) {
  static group_room g;
  static float y[LONGEST];
  static uint8_t codes[LONGEST];
  const uint16_t *x = weights_source(0, 2, kind, n);
  const float ratio = 0.9f;
  size_t count = 0, at = 0, blocks = (n + RONDO_ERROR_BLOCK - 1) / RONDO_ERROR_BLOCK;
  char label[LABEL];
  double expected[2 * (LONGEST / RONDO_ERROR_BLOCK + 1)];
  snprintf(label, sizeof label, "nibbles of grid %d kind %d first %zu n %zu group %zu",
           (int)grid->kind, (int)kind, first, n, group);
  for (size_t left = group - first; at < n; at += left, left = group, count++) {
    size_t m = left < n - at ? left : n - at;
    rondo_params p = {g.scale + count, g.zero + count, g.inverse + count};
    r->k->group_ranges(RONDO_BF16, x + at, m, m, g.low + count, g.high + count);
    r->k->params_of(grid, g.low + count, g.high + count, 1, &ratio, true, p.scale, p.zero);
    if (!r->k->inverses(grid, p.scale, g.low + count, g.high + count, 1, p.inverse)) return;
    r->k->quantize_groups(grid, RONDO_BF16, x + at, m, m, p, y + at, codes + at);
    left = m;
  }
  uint8_t *words = target(1, n / 2, n);
  r->k->pack_words(codes, 2, 1, n / 2, 2, 2, 4, 1, words);
  r->k->squared_error(RONDO_BF16, x, y, NULL, n, expected);
  add_target(r, label, words, n / 2);
  add(r, label, expected, 2 * blocks * sizeof *expected);
  if (r->k->quantize_nibbles == NULL) return;
  rondo_params p = {g.scale, g.zero, g.inverse};
  uint8_t *fused = target(2, n / 2, n + group);
  double *sums = target(3, 2 * blocks * sizeof *sums, 8 * n);
  r->k->quantize_nibbles(grid, x, first, n, group, p, fused, sums);
  if (memcmp(fused, words, n / 2) != 0) fail(r->k->isa, label, "other bytes");
  if (memcmp(sums, expected, 2 * blocks * sizeof *sums) != 0) fail(r->k->isa, label, "other sums");
  memset(fused, 0xa5, n / 2);
  r->k->quantize_nibbles(grid, x, first, n, group, p, fused, NULL);
  if (memcmp(fused, words, n / 2) != 0) fail(r->k->isa, label, "other bytes without sums");
}

static void check_nibbles(results *r) {
  static const size_t groups[] = {32, 64, 96, 128, 256, 1024, 4096};
  rondo_grid kinds[6];
  rondo_grid_make(&kinds[0], "int", 4, true, false, NULL);
  rondo_grid_make(&kinds[1], "int", 4, true, true, NULL);
  rondo_grid_make(&kinds[2], "int", 4, false, false, NULL);
  rondo_grid_make(&kinds[3], "nf4", 4, true, false, NULL);
  rondo_grid_make(&kinds[4], "fp4", 4, true, false, NULL);
  rondo_grid_make(&kinds[5], "affine", 4, false, false, NULL);
  for (int i = 0; i < 6 * 7 * KINDS; i++) {
    size_t group = groups[i / 6 % 7], n = (1 + next() % 40) * RONDO_NIBBLE_BLOCK;
    size_t first = next() % (group / RONDO_NIBBLE_BLOCK) * RONDO_NIBBLE_BLOCK;
    check_nibbles_case(r, &kinds[i % 6], (values)(i / 42), first, n, group);
    if (kinds[i % 6].kind == RONDO_ASYMMETRIC) continue;
    check_nibbles_case(r, &kinds[i % 6], (values)(i / 42), 0, n, RONDO_NIBBLE_BLOCK / 2);
  }
}

/* The ways of storing scales. */
static rondo_storage storage_at(int i) {
  static const rondo_dtype types[] = {RONDO_F32,     RONDO_F16,     RONDO_BF16,
                                      RONDO_F8_E4M3, RONDO_F8_E8M0, RONDO_F8_E4M3};
  return (rondo_storage){types[i], i < 5 ? 0 : 0x1p-20f * (float)(1 + next() % 4096)};
}

/* A ratio for each range, and scales as they are stored, with the zero points that go with them. */
static void check_scales_case(results *r, int g, values kind, size_t n) {
  static group_room c;
  static float ratios[LONGEST];
  const rondo_grid grid = grid_at(g);
  fill_f32(c.low, kind, n);
  fill_f32(c.high, kind, n);
  for (size_t i = 0; i < n; i++) {
    float larger = c.low[i] > c.high[i] ? c.low[i] : c.high[i];
    c.low[i] = c.low[i] > c.high[i] ? c.high[i] : c.low[i];
    c.high[i] = larger;
    ratios[i] = (float)(1 + next() % 64) / 64;
  }
  char label[LABEL];
  snprintf(label, sizeof label, "scales %s kind %d n %zu", grid_label(g), (int)kind, n);
  r->k->params_of(&grid, c.low, c.high, n, ratios, false, c.scale, c.zero);
  add(r, label, c.scale, n * sizeof *c.scale);
  add(r, label, c.zero, n * sizeof *c.zero);
  for (int t = 0; t < 6; t++) {
    float *stored = target(0, n * sizeof *stored, n);
    r->k->stored_scales(&grid, storage_at(t), c.scale, n, stored);
    add_target(r, label, stored, n * sizeof *stored);
    float *zero = target(1, n * sizeof *zero, n);
    memcpy(zero, c.zero, n * sizeof *zero);
    r->k->zeros_on(&grid, c.low, c.high, n, ratios, t % 2 == 0, stored, zero);
    add_target(r, label, zero, n * sizeof *zero);
  }
}

static void check_scales(results *r) {
  for (int i = 0; i < GRIDS * LENGTHS; i++) {
    check_scales_case(r, i % GRIDS, (values)(next() % KINDS), lengths[i / GRIDS]);
  }
}

static void check_nonfinite(results *r) {
  static group_room g;
  for (int i = 0; i < 400; i++) {
    size_t n = lengths[i % LENGTHS], group = group_sizes[next() % GROUP_SIZES];
    int d = i % 3;
    const unsigned char *x = weights_source(0, d, i % 4 == 0 ? ANY : SPREAD, n);
    bool good[2] = {r->k->group_ranges(dtypes[d], x, n, group, g.low, g.high), false};
    fill_f32(g.low, WEIGHTS, n);
    memcpy(g.high, g.low, n * sizeof *g.low);
    good[1] = r->k->column_ranges(dtypes[d], x, n, g.low, g.high);
    if (good[0] != good[1]) fail(r->k->isa, "nonfinite", "ranges of groups and columns differ");
    add(r, "nonfinite", good, sizeof good);
  }
}

/* Losses at all ratios are those at each ratio alone, but for quotients that are rounded. */
static void check_alone(results *r, const char *label, const rondo_grid *grid,
                        rondo_storage storage, const float *x, size_t n, size_t group,
                        const group_room *g, const float *ratios, size_t count,
                        const double *loss) {
  double norm = 0;
  for (size_t i = 0; i < n; i++) norm += (double)x[i] * x[i];
  for (size_t i = 0; i < count; i++) {
    double alone = 0;
    r->k->group_losses(grid, storage, x, NULL, n, group, g->low, g->high, ratios + i, 1, &alone);
    double off = fabs(loss[i] - alone), room = 5e-7 * sqrt(alone * norm) + 1e-8 * norm;
    if (!(off <= room)) fail(r->k->isa, label, "another loss at one ratio alone");
  }
}

static void check_losses(results *r) {
  static group_room g;
  float ratios[40];
  double loss[40];
  for (int i = 0; i < 40; i++) ratios[i] = 1 - (float)i / 200;
  for (int i = 0; i < GRIDS * LENGTHS; i++) {
    const rondo_grid grid = grid_at(i % GRIDS);
    size_t n = lengths[i / GRIDS], count = (size_t)(1 + next() % 40);
    size_t group = group_sizes[next() % GROUP_SIZES], first = next() % (41 - count);
    const float *x = weights_source(0, 0, next() % 3 == 0 ? TIES : WEIGHTS, n);
    const float *importance = next() % 3 == 0 ? weights_source(1, 0, WEIGHTS, n) : NULL;
    char label[LABEL];
    snprintf(label, sizeof label, "group_losses %s n %zu", grid_label(i % GRIDS), n);
    if (!r->k->group_ranges(RONDO_F32, x, n, group, g.low, g.high)) abort();
    memset(loss, 0, sizeof loss);
    rondo_storage storage = storage_at((int)(next() % 6));
    r->k->group_losses(&grid, storage, x, importance, n, group, g.low, g.high, ratios + first,
                       count, loss);
    add(r, label, loss, sizeof loss);
    if (importance == NULL) {
      check_alone(r, label, &grid, storage, x, n, group, &g, ratios + first, count, loss);
    }
  }
}

/* ---- Columns ---- */

/* Ranges over a few rows, then the codes of the last of them. */
static void check_column_case(results *r, int g, int d, size_t n) {
  static group_room c;
  const rondo_grid grid = grid_at(g);
  const float one = 1;
  const void *x = NULL;
  char label[LABEL];
  snprintf(label, sizeof label, "columns %s %s n %zu", grid_label(g), dtype_names[d], n);
  for (size_t i = 0; i < n; i++) {
    c.low[i] = float_from(0x7f800000);
    c.high[i] = float_from(0xff800000);
  }
  for (int row = 0; row < 3; row++) {
    x = weights_source(0, d, (values)(next() % KINDS), n);
    if (!r->k->column_ranges(dtypes[d], x, n, c.low, c.high)) {
      fail(r->k->isa, label, "finite values are refused");
    }
  }
  add(r, label, c.low, n * sizeof *c.low);
  add(r, label, c.high, n * sizeof *c.high);
  r->k->params_of(&grid, c.low, c.high, n, &one, true, c.scale, c.zero);
  bool divide = !r->k->inverses(&grid, c.scale, c.low, c.high, n, c.inverse);
  rondo_params p = {c.scale, c.zero, c.inverse};
  float *y = target(0, n * sizeof *y, n);
  uint8_t *codes = target(1, n, n);
  r->k->quantize_columns(&grid, dtypes[d], x, n, divide, p, y, grid.bits <= 8 ? codes : NULL);
  add_target(r, label, y, n * sizeof *y);
  if (grid.bits > 8) return;
  add_target(r, label, codes, n);
  float *back = target(2, n * sizeof *back, n);
  r->k->dequantize_columns(&grid, source(1, codes, n), n, p, back);
  add_target(r, label, back, n * sizeof *back);
}

static void check_columns(results *r) {
  for (int i = 0; i < GRIDS * LENGTHS; i++) {
    for (int d = 0; d < 3; d++) check_column_case(r, i % GRIDS, d, lengths[i / GRIDS]);
  }
}

/* ---- Rows and words ---- */

static void check_rows(results *r) {
  for (int i = 0; i < 12 * LENGTHS; i++) {
    size_t n = lengths[i / 12];
    int d = i % 3;
    const void *x = weights_source(0, d, (values)(i / 3 % 2), n);
    const float *y = weights_source(1, 0, WEIGHTS, n);
    const float *importance = i % 2 == 0 ? weights_source(2, 0, WEIGHTS, n) : NULL;
    size_t blocks = (n + RONDO_ERROR_BLOCK - 1) / RONDO_ERROR_BLOCK;
    double *sums = target(0, 2 * blocks * sizeof *sums, n);
    r->k->squared_error(dtypes[d], x, y, importance, n, sums);
    add_target(r, "squared_error", sums, 2 * blocks * sizeof *sums);
    uint32_t largest = r->k->largest_magnitude(weights_source(0, 0, (values)(i % 5), n), n);
    add(r, "largest_magnitude", &largest, sizeof largest);
  }
}

static void check_words_case(results *r, int bits, int word_bytes, size_t words, bool rows) {
  static uint8_t code[64 * 100];
  int fields = 8 * word_bytes / bits, last = 1 + (int)(next() % (unsigned)fields);
  size_t word_step = rows ? 1 : (size_t)fields, field_step = rows ? words : 1;
  size_t count = rows ? words * (size_t)last : (words - 1) * (size_t)fields + (size_t)last;
  size_t size = words * (size_t)word_bytes;
  if (rows) fields = last; /* every word of the last row of words is as short */
  for (size_t i = 0; i < count; i++) code[i] = (uint8_t)(next() & ((1u << bits) - 1));
  char label[LABEL];
  snprintf(label, sizeof label, "words bits %d bytes %d words %zu fields %d %d", bits, word_bytes,
           words, fields, last);
  void *packed = target(0, size, words);
  r->k->pack_words(source(0, code, count), word_step, field_step, words, fields, last, bits,
                   word_bytes, packed);
  add_target(r, label, packed, size);
}

static void check_words(results *r) {
  static const size_t counts[] = {1, 2, 7, 8, 15, 16, 17, 31, 33, 64, 99};
  for (int bits = 1; bits <= 8; bits++) {
    for (int bytes = 1; bytes <= 8; bytes *= 2) {
      for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        check_words_case(r, bits, bytes, counts[i], false);
        check_words_case(r, bits, bytes, counts[i], true);
      }
    }
  }
}

static void check_pairs(results *r) {
  static const size_t counts[] = {1, 2, 31, 32, 33, 63, 64, 65, 99};
  for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
    uint8_t pairs[99], low[16], high[16];
    for (size_t e = 0; e < sizeof pairs; e++) pairs[e] = (uint8_t)next();
    for (size_t e = 0; e < sizeof low; e++) low[e] = (uint8_t)next(), high[e] = (uint8_t)next();
    uint8_t *out = target(0, counts[i], i);
    r->k->recode_pairs(source(0, pairs, counts[i]), counts[i], low, high, out);
    add_target(r, "recode_pairs", out, counts[i]);
  }
}

/* ---- Elements ---- */

static void check_f32(results *r, size_t n, values kind) {
  const float *a = weights_source(0, 0, kind, n), *b = weights_source(1, 0, kind, n);
  for (int op = RONDO_ADD; op <= RONDO_POWER; op++) {
    float *out = target(0, n * sizeof *out, n);
    r->k->binary_f32((rondo_binary)op, a, b, out, n);
    add_target(r, "binary_f32", out, n * sizeof *out);
  }
  for (int op = RONDO_NEGATE; op <= RONDO_SQUARE; op++) {
    float *out = target(0, n * sizeof *out, n);
    r->k->unary_f32((rondo_unary)op, a, out, n);
    add_target(r, "unary_f32", out, n * sizeof *out);
  }
  for (int op = RONDO_EQUAL; op <= RONDO_GREATER_EQUAL; op++) {
    uint8_t *out = target(0, n, n);
    r->k->compare_f32((rondo_comparison)op, a, b, out, n);
    add_target(r, "compare_f32", out, n);
  }
}

static void check_f64(results *r, size_t n, values kind) {
  static double x[LONGEST];
  fill_f64(x, kind, n);
  const double *a = source(0, x, n * sizeof *x);
  fill_f64(x, kind, n);
  const double *b = source(1, x, n * sizeof *x);
  for (int op = RONDO_ADD; op <= RONDO_POWER; op++) {
    double *out = target(0, n * sizeof *out, n);
    r->k->binary_f64((rondo_binary)op, a, b, out, n);
    add_target(r, "binary_f64", out, n * sizeof *out);
  }
  for (int op = RONDO_NEGATE; op <= RONDO_SQUARE; op++) {
    double *out = target(0, n * sizeof *out, n);
    r->k->unary_f64((rondo_unary)op, a, out, n);
    add_target(r, "unary_f64", out, n * sizeof *out);
  }
  for (int op = RONDO_EQUAL; op <= RONDO_GREATER_EQUAL; op++) {
    uint8_t *out = target(0, n, n);
    r->k->compare_f64((rondo_comparison)op, a, b, out, n);
    add_target(r, "compare_f64", out, n);
  }
}

static void check_sums(results *r, size_t n) {
  static double values_f64[LONGEST];
  fill_f64(values_f64, WEIGHTS, n);
  const double *x = source(0, values_f64, n * sizeof *x);
  double sums[2] = {r->k->sum_f64(x, n), r->k->sum_squares_f64(x, 0.125, n)};
  add(r, "sums", sums, sizeof sums);
  fill_f64(values_f64, ANY, n);
  double range[2] = {__builtin_inf(), -__builtin_inf()};
  size_t nans = 1;
  r->k->range_f64(source(0, values_f64, n * sizeof *x), n, &range[0], &range[1], &nans);
  add(r, "range_f64", range, sizeof range);
  add(r, "range_f64 nans", &nans, sizeof nans);
}

static void check_elements(results *r) {
  for (int i = 0; i < LENGTHS; i++) {
    for (int kind = 0; kind <= ANY; kind++) {
      check_f32(r, lengths[i], (values)kind);
      check_f64(r, lengths[i], (values)kind);
    }
    check_sums(r, lengths[i]);
  }
}

/* ---- Conversions ---- */

static size_t size_of(int dtype) {
  switch (dtype) {
  case RONDO_F64:
    return 8;
  case RONDO_F32:
    return 4;
  case RONDO_F16:
  case RONDO_BF16:
    return 2;
  default:
    return 1;
  }
}

static void check_to_f32(results *r, int dtype, size_t n) {
  static unsigned char bytes[65536 * 8];
  size_t size = size_of(dtype);
  for (size_t i = 0; i < n; i++) { /* all patterns of up to 16 bits */
    uint64_t bits = size <= 2 ? i : next();
    memcpy(bytes + i * size, &bits, size);
  }
  if (dtype == RONDO_F64) fill_f64((double *)(void *)bytes, (values)(n % (ANY + 1)), n);
  float *out = target(0, n * sizeof *out, n);
  r->k->to_f32[dtype](source(0, bytes, n * size), out, n);
  add_target(r, "to_f32", out, n * sizeof *out);
}

static void check_from_f32(results *r, int dtype, size_t n) {
  size_t size = size_of(dtype);
  for (int kind = 0; kind <= ANY; kind++) {
    const float *x = weights_source(0, 0, (values)kind, n);
    void *out = target(0, n * size, n);
    r->k->from_f32[dtype](x, out, n);
    add_target(r, "from_f32", out, n * size);
  }
}

static void check_conversions(results *r) {
  for (int dtype = RONDO_F64; dtype <= RONDO_F8_E5M2; dtype++) {
    for (int i = 0; i < LENGTHS; i++) {
      check_to_f32(r, dtype, lengths[i]);
      check_from_f32(r, dtype, lengths[i]);
    }
    check_to_f32(r, dtype, 65536);
    check_from_f32(r, dtype, 65536);
  }
}

/* ---- All tables ---- */

static void run(results *r, const rondo_kernels *k) {
  r->k = k;
  r->count = 0;
  state = 1;
  check_groups(r);
  check_nibbles(r);
  check_scales(r);
  check_nonfinite(r);
  check_losses(r);
  check_columns(r);
  check_rows(r);
  check_words(r);
  check_pairs(r);
  check_elements(r);
  check_conversions(r);
}

static void compare(const results *expected, const results *r, const char *what) {
  for (size_t i = 0; i < r->count && i < expected->count; i++) {
    const result *e = &expected->result[i], *f = &r->result[i];
    if (strcmp(e->label, f->label) != 0 || e->digest != f->digest) {
      fail(r->k->isa, f->label, what);
    }
  }
  if (r->count != expected->count) fail(r->k->isa, "the number of results", what);
}

/* environment.c; neither function looks at its argument. */
struct lua_State;
int host_upward(struct lua_State *L);
int host_flush(struct lua_State *L);
int host_default(struct lua_State *L);

static uint64_t control(void) {
#if defined(__x86_64__)
  return __builtin_ia32_stmxcsr() & 0xffc0u;
#else
  return environment_control() | (uint64_t)(unsigned)fegetround() << 32;
#endif
}

static void check_environment(const results *expected, results *r, const rondo_kernels *k) {
  rondo_environment e;
  host_flush(NULL);
  host_upward(NULL);
  uint64_t before = control();
  volatile float ten = 10;
  bool matters = -1 / ten != -1 / 10.0f; /* the latter is the compiler's, to nearest */
  environment_enter(&e);
  run(r, k);
  environment_leave(&e);
  bool restored = control() == before;
  host_default(NULL);
  if (!matters) fail(k->isa, "environment", "the host's settings change nothing here");
  if (!restored) fail(k->isa, "environment", "the host's settings are not back");
  compare(expected, r, "differs when the host has set the floating-point environment");
  printf("%s: the same in another floating-point environment\n", k->isa);
}

int main(void) {
  static results baseline, other;
  uint64_t digest = 0;
  const rondo_kernels *last = rondo_kernels_at(0);
  run(&baseline, last);
  for (size_t i = 0; i < baseline.count; i++) {
    const unsigned char *bytes = (const unsigned char *)&baseline.result[i].digest;
    digest = digest_of(digest, bytes, sizeof digest);
  }
  printf("%s: %zu results, digest %016llx\n", baseline.k->isa, baseline.count,
         (unsigned long long)digest);
  for (size_t i = 1; rondo_kernels_at(i) != NULL; i++) {
    run(&other, rondo_kernels_at(i));
    compare(&baseline, &other, "differs from the baseline");
    printf("%s: the same\n", other.k->isa);
    last = other.k;
  }
  check_environment(&baseline, &other, last);
  return 0;
}
