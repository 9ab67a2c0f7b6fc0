/* nibbles.c - rows of bf16 straight into packed codes of 4 bits, with their error.
 * Included by table.c; only where simd.h has V_HAS_SPLIT. The same bits as quantize_groups,
 * pack_words and squared_error one after the other, in half the time: bf16 values are taken apart
 * into those of even and of odd columns, which costs less than widening them in order, and leaves
 * the codes of a byte in the same lane of two vectors. */
#if defined(V_HAS_SPLIT)

/* The LANES sums of squared_error, those of even and those of odd columns. */
typedef struct {
  v_octet error[2], norm[2];
} split_lanes;

enum { SPLITS = BLOCK / 2 / WIDTH }; /* pairs of vectors in a block */

/* What the values of a block are quantized with: one group, or two, a half of the block each. */
typedef struct {
  rondo_grid_kind kind; /* a constant where it is inlined */
  vf scale[SPLITS], zero[SPLITS], inverse[SPLITS], low, high;
  v_nibble_bounds bounds;
} nibble_group;

/* The integers code - zero of WIDTH values, not clamped (|q| is at most 2^28, see inverses), or the
 * ranks of a codebook. */
TEMPLATE vi split_codes(const rondo_grid *grid, const nibble_group *g, int k, vf x) {
  if (g->kind == RONDO_AFFINE) x = x - g->zero[k];
  vf q = quotient(x, g->scale[k], g->inverse[k], false);
  return g->kind == RONDO_CODEBOOK ? v_rank(&grid->cuts, q) : v_to_int(q);
}

/* The same clamped, with the error. */
TEMPLATE vi split_errors(const rondo_grid *grid, const nibble_group *g, int k, vf x, v_octet *error,
                         v_octet *norm) {
  vf shifted = x, q, y;
  vi code;
  if (g->kind == RONDO_AFFINE) shifted = x - g->zero[k];
  q = quotient(shifted, g->scale[k], g->inverse[k], false);
  if (g->kind == RONDO_CODEBOOK) {
    code = v_rank(&grid->cuts, q);
    y = v_pick(grid->value, code) * g->scale[k];
  } else {
    q = v_round(v_min(v_max(q, g->low), g->high));
    code = v_to_int(q);
    y = g->scale[k] * q;
    if (g->kind == RONDO_AFFINE) y = y + g->zero[k];
  }
  vf d = x - y;
  v_add_octets(error, d * d);
  v_add_octets(norm, x * x);
  return code;
}

/* Parameters of the first group; of the first two where `half` a block is a group, which have the
 * same bounds. */
TEMPLATE nibble_group nibble_params(const rondo_grid *grid, rondo_grid_kind kind, rondo_params p,
                                    bool half) {
  nibble_group g;
  float zero = kind == RONDO_ASYMMETRIC ? *p.zero : 0;
  g.kind = kind;
  for (int k = 0; k < SPLITS; k++) {
    g.scale[k] = v_half_block(v_set(p.scale[0]), v_set(p.scale[half]), k);
    g.zero[k] = v_half_block(v_set(p.zero[0]), v_set(p.zero[half]), k);
    g.inverse[k] = v_half_block(v_set(p.inverse[0]), v_set(p.inverse[half]), k);
  }
  g.low = v_set(grid->low) - v_set(zero);
  g.high = v_set(grid->high) - v_set(zero);
  g.bounds = v_bounds((int)grid->low, (int)grid->high, (int)zero);
  return g;
}

/* BLOCK values into BLOCK / 2 bytes. */
TEMPLATE void nibble_block(const rondo_grid *grid, const nibble_group *g, const uint16_t *x,
                           uint8_t *out, split_lanes *sums) {
  vi even[SPLITS], odd[SPLITS];
  for (int k = 0; k < SPLITS; k++) {
    vf a, b;
    v_split(x + 2 * WIDTH * k, &a, &b);
    if (sums == NULL) {
      even[k] = split_codes(grid, g, k, a);
      odd[k] = split_codes(grid, g, k, b);
    } else {
      even[k] = split_errors(grid, g, k, a, &sums->error[0], &sums->norm[0]);
      odd[k] = split_errors(grid, g, k, b, &sums->error[1], &sums->norm[1]);
    }
  }
  if (g->kind == RONDO_CODEBOOK) {
    v_rank_nibbles(out, even, odd, grid->code);
  } else {
    v_nibbles(out, even, odd, &g->bounds, g->kind == RONDO_ASYMMETRIC);
  }
}

/* A block of columns whose sum needs care, once more. */
static __attribute__((noinline)) void careful_block(const rondo_grid *grid, const uint16_t *x,
                                                    size_t first, size_t n, size_t group,
                                                    rondo_params p, double *sums) {
  float y[RONDO_ERROR_BLOCK];
  for (size_t at = 0; at < n; at += BLOCK) {
    size_t g = (first + at) / group;
    rondo_params one = {p.scale + g, p.zero + g, p.inverse + g};
    quantize_groups(grid, RONDO_BF16, x + at, BLOCK, group < BLOCK ? group : BLOCK, one, y + at,
                    NULL);
  }
  squared_error(RONDO_BF16, x, y, NULL, n, sums);
}

TEMPLATE void nibble_row(const rondo_grid *grid, rondo_grid_kind kind, const uint16_t *x,
                         size_t first, size_t n, size_t group, rondo_params p, uint8_t *out,
                         double *sums) {
  const bool half = group < BLOCK && kind != RONDO_ASYMMETRIC;
  size_t number = 0, size = half ? BLOCK : group, left = size - first;
  for (size_t at = 0; at < n; at += RONDO_ERROR_BLOCK) {
    size_t end = n - at < RONDO_ERROR_BLOCK ? n : at + RONDO_ERROR_BLOCK;
    split_lanes lanes = {{v_no_octet(), v_no_octet()}, {v_no_octet(), v_no_octet()}};
    for (size_t i = at; i < end;) {
      rondo_params here = {p.scale + number, p.zero + number, p.inverse + number};
      nibble_group g = nibble_params(grid, kind, here, half);
      size_t stop = left < end - i ? i + left : end;
      left -= stop - i;
      for (; i < stop; i += BLOCK) {
        nibble_block(grid, &g, x + i, out + i / 2, sums == NULL ? NULL : &lanes);
      }
      if (left == 0) {
        left = size;
        number += half ? 2 : 1;
      }
    }
    if (sums == NULL) continue;
    float error = v_octet_sum(lanes.error), norm = v_octet_sum(lanes.norm);
    sums[0] = error;
    sums[1] = norm;
    if (!is_sound(error) || !is_sound(norm)) {
      careful_block(grid, x + at, first + at, end - at, group, p, sums);
    }
    sums += 2;
  }
}

TEMPLATE void nibbles_as(const rondo_grid *grid, rondo_grid_kind kind, const uint16_t *x,
                         size_t first, size_t n, size_t group, rondo_params p, uint8_t *out,
                         double *sums) {
  if (sums == NULL) {
    nibble_row(grid, kind, x, first, n, group, p, out, NULL);
  } else {
    nibble_row(grid, kind, x, first, n, group, p, out, sums);
  }
}

KERNEL void quantize_nibbles(const rondo_grid *grid, const void *x, size_t first, size_t n,
                             size_t group, rondo_params p, uint8_t *out, double *sums) {
  if (grid->kind == RONDO_SYMMETRIC) {
    nibbles_as(grid, RONDO_SYMMETRIC, x, first, n, group, p, out, sums);
  } else if (grid->kind == RONDO_CODEBOOK) {
    nibbles_as(grid, RONDO_CODEBOOK, x, first, n, group, p, out, sums);
  } else if (grid->kind == RONDO_AFFINE) {
    nibbles_as(grid, RONDO_AFFINE, x, first, n, group, p, out, sums);
  } else {
    nibbles_as(grid, RONDO_ASYMMETRIC, x, first, n, group, p, out, sums);
  }
}
#endif
