/* breakpoints.c - losses of groups at many clip ratios; evenly falling ones by following the codes
 * that change.
 * Included by table.c.
 *
 * With S = scale / ratio, which is the same at every ratio, and v = x / S, a weight's loss is
 * S^2 (v - g c)^2 at a ratio g and a code c (less the zero point). With the codes of the first
 * ratio g0 that is
 *
 *   S^2 ((v - g0 c)^2 + 2 (g0 - g) (v - g0 c) c + (g0 - g)^2 c^2)
 *
 * But |v| / g rises as g falls, and c takes a step away from zero where it passes the middle
 * m = |c| + 1/2 (a breakpoint), which changes the loss by S^2 (2 m g^2 - 2 |v| g). So a weight
 * meets its steps alone, and few have more than one. Rounding may put a step to the ratio before or
 * behind, where both codes are as good. */

enum {
  STEP_LEAST = 12,   /* ratios at least, and */
  STEP_VALUES = 128, /* values; with fewer, or more steps for a weight, trying all is cheaper */
  STEP_MOST = 4,     /* steps of a weight at most */
  STEP_RATIOS = 64,  /* ratios at most */
  STEP_RUN = 256,    /* values that are followed together */
  STEP_GROUPS = 32   /* groups, too */
};

/* ratio[r] = first * (1 - r / rate); x / scale grows from the first to the last by growth. */
typedef struct {
  const float *ratio;
  size_t count;
  float first, rate, growth;
} falling_ratios;

/* A group at the first ratio; low, high: bounds of code - zero; square: S^2. */
typedef struct {
  float inverse, low, high, square;
} step_group;

/* Values that have steps to take: u = x / scale at the first ratio, the code at the last, and S^2.
 * There is room for a vector behind the last one. */
typedef struct {
  float value[STEP_RUN + 16], last[STEP_RUN + 16], square[STEP_RUN + 16];
} step_list;

typedef struct {
  double middle, size;
} step_change;

/* Sums, all times S^2: of (u - c)^2, (u - c) c and c^2 at the first ratio; of m and |u| over the
 * steps between each ratio and the one before it, the last place for those that come later. */
typedef struct {
  double rest, mixed, codes;
  step_change change[STEP_RATIOS + 1];
} step_sums;

typedef struct {
  vf rest[PARTS], mixed[PARTS], codes[PARTS];
} step_lanes;

TEMPLATE vf clamped_code(vf u, const step_group *g) {
  return v_round(v_min(v_max(u, v_set(g->low)), v_set(g->high)));
}

/* LANES values of a group; returns how many it lists, from `at` on. */
TEMPLATE size_t list_block(const float *x, const step_group *g, float growth, step_lanes *sum,
                           step_list *list, size_t at) {
  size_t first = at;
  for (int k = 0; k < PARTS; k++) {
    vf u = v_load(x + k * WIDTH) * v_set(g->inverse), code = clamped_code(u, g);
    vf last = clamped_code(u * v_set(growth), g), rest = u - code;
    sum->rest[k] = sum->rest[k] + rest * rest;
    sum->mixed[k] = sum->mixed[k] + rest * code;
    sum->codes[k] = sum->codes[k] + code * code;
    unsigned moving = v_above_bits(v_abs(last), v_abs(code));
    v_keep(list->value + at, u, moving);
    v_keep(list->last + at, last, moving);
    at += (size_t)__builtin_popcount(moving);
  }
  return at - first;
}

/* n values of a group, behind those that are listed; returns how many are listed then. */
TEMPLATE size_t list_group(const float *x, size_t n, const step_group *g, float growth,
                           step_list *list, size_t listed, step_sums *sums) {
  size_t i = 0, first = listed;
  step_lanes sum;
  for (int k = 0; k < PARTS; k++) sum.rest[k] = sum.mixed[k] = sum.codes[k] = v_set(0);
  for (; i + LANES <= n; i += LANES) listed += list_block(x + i, g, growth, &sum, list, listed);
  if (i < n) {
    float last[LANES] = {0};
    memcpy(last, x + i, (n - i) * sizeof *x);
    listed += list_block(last, g, growth, &sum, list, listed);
  }
  for (size_t l = first; l < listed; l += WIDTH) v_store(list->square + l, v_set(g->square));
  sums->rest += (double)g->square * v_sum(sum.rest);
  sums->mixed += (double)g->square * v_sum(sum.mixed);
  sums->codes += (double)g->square * v_sum(sum.codes);
  return listed;
}

/* WIDTH changes. */
TEMPLATE void store_changes(step_change *changes, vf middle, vf size, vf square) {
  float middles[WIDTH], sizes[WIDTH], squares[WIDTH];
  v_store(middles, middle);
  v_store(sizes, size);
  v_store(squares, square);
  for (size_t l = 0; l < WIDTH; l++) {
    changes[l].middle = (double)squares[l] * middles[l];
    changes[l].size = (double)squares[l] * sizes[l];
  }
}

/* The next step of the first n of the list, all of which have taken `taken`. Returns how many have
 * more to take; these are the list then. */
KERNEL size_t take_step(const falling_ratios *ratios, step_list *list, size_t n, float taken,
                        step_sums *sums) {
  float place[STEP_RUN + 16];
  step_change changes[STEP_RUN + 16];
  size_t left = 0;
  vf behind = v_set((float)ratios->count), rate = v_set(ratios->rate);
  v_store(list->value + n, v_set(0));
  v_store(list->last + n, v_set(0));
  v_store(list->square + n, v_set(0));
  for (size_t i = 0; i < n; i += WIDTH) {
    vf u = v_load(list->value + i), last = v_load(list->last + i), size = v_abs(u);
    vf square = v_load(list->square + i), middle = v_abs(v_round(u)) + v_set(taken + 0.5f);
    v_store(place + i, v_min((v_set(1) - size / middle) * rate + v_set(1), behind));
    store_changes(changes + i, middle, size, square);
    unsigned moving = v_above_bits(v_abs(last), middle + v_set(0.5f));
    v_keep(list->value + left, u, moving);
    v_keep(list->last + left, last, moving);
    v_keep(list->square + left, square, moving);
    left += (size_t)__builtin_popcount(moving);
  }
  for (size_t i = 0; i < n; i++) {
    step_change *change = &sums->change[(int32_t)place[i]];
    change->middle += changes[i].middle;
    change->size += changes[i].size;
  }
  return left;
}

/* Adds the losses that the sums amount to. */
static void add_losses(const falling_ratios *ratios, const step_sums *sums, double *loss) {
  double first = ratios->first, rest = sums->rest * first * first, mixed = sums->mixed * 2 * first;
  step_change so_far = {0, 0};
  for (size_t r = 0; r < ratios->count; r++) {
    double ratio = ratios->ratio[r], fall = first - ratio;
    so_far.middle += sums->change[r].middle;
    so_far.size += sums->change[r].size;
    double kept = rest + fall * (mixed + fall * sums->codes);
    double added = kept + 2 * ratio * (ratio * so_far.middle - first * so_far.size);
    loss[r] += added > 0 ? added : 0; /* a difference of sums: rounding may leave less */
  }
}

/* Whether ratios fall evenly, are as many as pay, and so near 1 that S^2 is a float wherever scales
 * have inverses. */
static bool fall_evenly(const float *ratio, size_t count, falling_ratios *ratios) {
  if (count < STEP_LEAST || count > STEP_RATIOS) return false;
  float first = ratio[0], last = ratio[count - 1], step = (first - last) / (float)(count - 1);
  int32_t uneven = 0;
  for (int32_t r = 0; r < (int32_t)count; r++) {
    uneven |= -(magnitude_of(first - (float)r * step - ratio[r]) > step * 0x1p-8f);
  }
  *ratios = (falling_ratios){ratio, count, first, first / step, first / last};
  return step > 0 && last > 0.25f && first < 4 && uneven == 0;
}

/* Whether a group's codes can be followed: few steps each, and one zero point for all ratios. The
 * quotient that the zero point is rounded from is the same but for rounding. */
static bool can_follow(const rondo_grid *grid, const falling_ratios *ratios, float low, float zero,
                       float inverse) {
  float most = larger(grid->high - zero, zero - grid->low);
  bool few = (most - 0.5f) * (ratios->growth - 1) <= STEP_MOST - 1;
  float exact = grid->kind == RONDO_ASYMMETRIC ? smaller(0, low) * ratios->first * inverse : 0;
  return few && inverse == inverse && magnitude_of(exact + zero) < 0.4999f;
}

/* At most STEP_RUN values: groups, at most STEP_GROUPS, or a part of one. */
KERNEL void follow_run(const rondo_grid *grid, const float *x, size_t n, size_t group,
                       const float *low, const float *high, const falling_ratios *ratios,
                       step_sums *sums, double *loss) {
  float scale[STEP_GROUPS] = {0}, zero[STEP_GROUPS], inverse[STEP_GROUPS];
  size_t groups = (n + group - 1) / group, listed = 0;
  step_list list;
  params_by(grid, low, high, &ratios->first, 1, 0, groups, scale, zero);
  inverses(grid, scale, low, high, groups, inverse);
  for (size_t i = 0; i < groups; i++, x += group, n -= group) {
    size_t m = n < group ? n : group;
    float unit = scale[i] / ratios->first;
    step_group g = {inverse[i], grid->low - zero[i], grid->high - zero[i], unit * unit};
    if (can_follow(grid, ratios, low[i], zero[i], inverse[i])) {
      listed = list_group(x, m, &g, ratios->growth, &list, listed, sums);
    } else {
      try_ratios(grid, (rondo_storage){RONDO_F32, 0}, x, NULL, m, low[i], high[i], ratios->ratio,
                 ratios->count, loss);
    }
  }
  for (float taken = 0; listed > 0; taken++) {
    listed = take_step(ratios, &list, listed, taken, sums);
  }
}

static size_t least_of(size_t a, size_t b) {
  return a < b ? a : b;
}

static void follow_groups(const rondo_grid *grid, const float *x, size_t n, size_t group,
                          const float *low, const float *high, const falling_ratios *ratios,
                          double *loss) {
  size_t together = group * least_of(STEP_GROUPS, STEP_RUN / group);
  step_sums sums = {0};
  for (size_t at = 0, m; at < n; at += m) {
    m = least_of(together > 0 ? together : least_of(group - at % group, STEP_RUN), n - at);
    follow_run(grid, x + at, m, group, low + at / group, high + at / group, ratios, &sums, loss);
  }
  add_losses(ratios, &sums, loss);
}

/* Whether a grid's codes may step from ratio to ratio: integers, on scales that are proportional to
 * the ratios. */
static bool has_steps(const rondo_grid *grid, rondo_storage storage) {
  bool integers = grid->kind == RONDO_SYMMETRIC || grid->kind == RONDO_ASYMMETRIC;
  return integers && storage.dtype == RONDO_F32;
}

KERNEL void group_losses(const rondo_grid *grid, rondo_storage storage, const float *x,
                         const float *weight, size_t n, size_t group, const float *low,
                         const float *high, const float *ratios, size_t count, double *loss) {
  falling_ratios falling;
  if (has_steps(grid, storage) && weight == NULL && n >= STEP_VALUES &&
      fall_evenly(ratios, count, &falling)) {
    follow_groups(grid, x, n, group, low, high, &falling, loss);
    return;
  }
  for (size_t at = 0; at < n; at += group) {
    try_ratios(grid, storage, x + at, weight == NULL ? NULL : weight + at, least_of(group, n - at),
               *low++, *high++, ratios, count, loss);
  }
}
