/* tensor_ops.c - arithmetic, comparisons and masks: operators and methods on tensors and numbers.
 *
 * A number takes the type of the tensor it meets, but for a float that meets integers or bools:
 * the result is f32. (Lua tells 2 from 2.0.) Division gives floats, f32 for integers. Two bool
 * tensors have no sum: masks are joined with &, | and ~. */
#include "bind/tensor_bind.h"

#include "core/arith.h"
#include "core/assign.h"
#include "core/dtype.h"
#include "core/element.h"
#include "core/tensor.h"

#include <math.h>
#include <string.h>

/* One operand: a copy of a tensor's description, or a number as a scalar. */
typedef struct {
  rondo_tensor t;
  bool is_number;
  union {
    double real;
    int64_t whole;
    char bytes[8];
  } value;
} operand;

/* Reads the argument at idx; false when it is neither tensor nor number (nor boolean, where
 * that is allowed). */
static bool read_operand(lua_State *L, int idx, bool allow_boolean, operand *o) {
  const rondo_tensor *t = rondo_test_tensor(L, idx);
  int type = lua_type(L, idx);
  o->is_number = t == NULL;
  if (t != NULL) {
    o->t = *t;
    return true;
  }
  bool whole = lua_isinteger(L, idx) || type == LUA_TBOOLEAN;
  if (type != LUA_TNUMBER && !(allow_boolean && type == LUA_TBOOLEAN)) return false;
  if (type == LUA_TBOOLEAN) {
    o->value.whole = lua_toboolean(L, idx);
  } else if (whole) {
    o->value.whole = lua_tointeger(L, idx);
  } else {
    o->value.real = lua_tonumber(L, idx);
  }
  rondo_tensor_init(&o->t, whole ? RONDO_I64 : RONDO_F64, 0, NULL, &o->value);
  return true;
}

/* Both arguments of an operator or method, one of them a tensor at least. */
static void read_operands(lua_State *L, const char *what, bool allow_boolean, operand *a,
                          operand *b) {
  for (int i = 1; i <= 2; i++) {
    if (!read_operand(L, i, allow_boolean, i == 1 ? a : b)) {
      const char *other = luaL_typename(L, i);
      luaL_error(L, "attempt to %s a tensor and a %s value", what, other);
    }
  }
  if (!a->is_number) rondo_require_arithmetic(L, &a->t, what);
  if (!b->is_number) rondo_require_arithmetic(L, &b->t, what);
}

/* The type in which the operands of arithmetic meet. */
static rondo_dtype meeting_type(const operand *a, const operand *b) {
  if (!a->is_number && !b->is_number) return rondo_promote(a->t.dtype, b->t.dtype);
  rondo_dtype tensor = a->is_number ? b->t.dtype : a->t.dtype;
  rondo_dtype number = a->is_number ? a->t.dtype : b->t.dtype;
  if (rondo_dtype_is_float(tensor)) return tensor;
  if (number == RONDO_F64) return RONDO_F32;
  return tensor == RONDO_BOOL ? RONDO_I64 : tensor;
}

/* Stretches the operands to their common shape and pushes a tensor of that shape. */
static rondo_tensor *push_result(lua_State *L, operand *a, operand *b, rondo_dtype dtype) {
  int rank;
  int64_t shape[RONDO_MAX_RANK];
  if (!rondo_broadcast_shape(&a->t, &b->t, &rank, shape)) {
    char left[RONDO_SHAPE_TEXT], right[RONDO_SHAPE_TEXT];
    rondo_shape_text(a->t.rank, a->t.shape, left, sizeof left);
    rondo_shape_text(b->t.rank, b->t.shape, right, sizeof right);
    luaL_error(L, "shapes %s and %s do not fit together", left, right);
  }
  rondo_tensor *result = rondo_push_tensor(L, dtype, rank, shape);
  rondo_tensor_broadcast(&a->t, rank, shape);
  rondo_tensor_broadcast(&b->t, rank, shape);
  return result;
}

static int apply(lua_State *L, rondo_binary op, operand *a, operand *b, rondo_dtype dtype) {
  const rondo_kernels *k = rondo_state_kernels(L);
  const rondo_tensor *result = push_result(L, a, b, dtype);
  rondo_pool *pool = rondo_pool_for(L, rondo_tensor_count(result));
  if (!rondo_apply_binary(pool, k, op, &a->t, &b->t, result)) {
    return luaL_error(L, "attempt to perform '%s'", op == RONDO_MODULO ? "n%%0" : "n//0");
  }
  rondo_check_stop(L);
  return 1;
}

static int arithmetic(lua_State *L, rondo_binary op) {
  operand a, b;
  read_operands(L, "perform arithmetic on", false, &a, &b);
  rondo_dtype dtype = meeting_type(&a, &b);
  if (dtype == RONDO_BOOL) {
    return luaL_error(L, "no arithmetic on two bool tensors: join masks with & | ~, or convert "
                         "with :to(\"i32\")");
  }
  bool whole_power = b.is_number && b.t.dtype == RONDO_I64 && b.value.whole >= 0;
  bool needs_float = op == RONDO_DIVIDE || (op == RONDO_POWER && !whole_power);
  if (needs_float && !rondo_dtype_is_float(dtype)) dtype = RONDO_F32;
  return apply(L, op, &a, &b, dtype);
}

static int add(lua_State *L) {
  return arithmetic(L, RONDO_ADD);
}
static int subtract(lua_State *L) {
  return arithmetic(L, RONDO_SUBTRACT);
}
static int multiply(lua_State *L) {
  return arithmetic(L, RONDO_MULTIPLY);
}
static int divide(lua_State *L) {
  return arithmetic(L, RONDO_DIVIDE);
}
static int floor_divide(lua_State *L) {
  return arithmetic(L, RONDO_FLOOR_DIVIDE);
}
static int modulo(lua_State *L) {
  return arithmetic(L, RONDO_MODULO);
}
static int power(lua_State *L) {
  return arithmetic(L, RONDO_POWER);
}

/* An integer that an integer tensor is compared with takes the nearest value of its type. */
static void saturate(operand *number, rondo_dtype dtype) {
  if (!number->is_number || rondo_dtype_is_float(dtype)) return;
  int64_t low, high, value = number->value.whole;
  rondo_integer_range(dtype, &low, &high);
  if (dtype == RONDO_U64) high = INT64_MAX;
  number->value.whole = value < low ? low : value > high ? high : value;
}

/* The smaller or larger of the arguments at 1 and 2. */
static int extreme(lua_State *L, rondo_binary op) {
  operand a, b;
  rondo_check_tensor(L, 1);
  read_operands(L, "compare", false, &a, &b);
  rondo_dtype dtype = meeting_type(&a, &b);
  saturate(&b, dtype);
  return apply(L, op, &a, &b, dtype);
}

static int minimum(lua_State *L) {
  return extreme(L, RONDO_MINIMUM);
}
static int maximum(lua_State *L) {
  return extreme(L, RONDO_MAXIMUM);
}

/* Replaces the tensor at 1 by its smaller or larger with the value at idx, unless that is nil. */
static void bound(lua_State *L, int idx, rondo_binary op) {
  if (lua_isnoneornil(L, idx)) return;
  if (lua_type(L, idx) == LUA_TNUMBER) {
    luaL_argcheck(L, !isnan(lua_tonumber(L, idx)), idx, "the bound is NaN");
  }
  lua_pushcfunction(L, op == RONDO_MAXIMUM ? maximum : minimum);
  lua_pushvalue(L, 1);
  lua_pushvalue(L, idx);
  lua_call(L, 2, 1);
  lua_replace(L, 1);
}

/* t:clamp(low, high): either may be nil, a number or a tensor. */
static int clamp(lua_State *L) {
  rondo_check_tensor(L, 1);
  lua_settop(L, 3);
  luaL_argcheck(L, !lua_isnil(L, 2) || !lua_isnil(L, 3), 2, "a lower or an upper bound expected");
  if (lua_type(L, 2) == LUA_TNUMBER && lua_type(L, 3) == LUA_TNUMBER) {
    luaL_argcheck(L, !lua_compare(L, 3, 2, LUA_OPLT), 3, "the upper bound is below the lower");
  }
  bound(L, 2, RONDO_MAXIMUM);
  bound(L, 3, RONDO_MINIMUM);
  lua_settop(L, 1);
  return 1;
}

static int unary(lua_State *L, rondo_unary op, const char *name) {
  const rondo_tensor *t = rondo_check_tensor(L, 1);
  rondo_require_arithmetic(L, t, name);
  bool curved = op == RONDO_SQUARE_ROOT || op == RONDO_EXP || op == RONDO_LOG;
  rondo_dtype dtype = curved && !rondo_dtype_is_float(t->dtype) ? RONDO_F32 : t->dtype;
  if (dtype == RONDO_BOOL) {
    return luaL_error(L, "%s: no arithmetic on a bool tensor (convert with :to(\"i32\"))", name);
  }
  const rondo_kernels *k = rondo_state_kernels(L);
  const rondo_tensor *result = rondo_push_tensor(L, dtype, t->rank, t->shape);
  rondo_apply_unary(rondo_pool_for(L, rondo_tensor_count(t)), k, op, t, result);
  rondo_check_stop(L);
  return 1;
}

static int negate(lua_State *L) {
  return unary(L, RONDO_NEGATE, "neg");
}
static int absolute(lua_State *L) {
  return unary(L, RONDO_ABSOLUTE, "abs");
}
static int square_root(lua_State *L) {
  return unary(L, RONDO_SQUARE_ROOT, "sqrt");
}
static int exponential(lua_State *L) {
  return unary(L, RONDO_EXP, "exp");
}
static int logarithm(lua_State *L) {
  return unary(L, RONDO_LOG, "log");
}
static int round_even(lua_State *L) {
  return unary(L, RONDO_ROUND, "round");
}
static int round_down(lua_State *L) {
  return unary(L, RONDO_FLOOR, "floor");
}
static int round_up(lua_State *L) {
  return unary(L, RONDO_CEIL, "ceil");
}
static int sign(lua_State *L) {
  return unary(L, RONDO_SIGN, "sign");
}
static int square(lua_State *L) {
  return unary(L, RONDO_SQUARE, "square");
}

/* A number compared with a float tensor is rounded to its type first, so that 0.1 equals what
 * tensor { 0.1 } holds; one that overflows the type stays as it is. */
static void round_number(lua_State *L, operand *number, rondo_dtype dtype) {
  if (!number->is_number || !rondo_dtype_is_float(dtype)) return;
  char rounded[8];
  double wide;
  rondo_tensor narrow, back;
  rondo_tensor_init(&narrow, dtype, 0, NULL, rounded);
  rondo_tensor_init(&back, RONDO_F64, 0, NULL, &wide);
  const rondo_kernels *k = rondo_state_kernels(L);
  rondo_assign(NULL, k, &narrow, &number->t);
  rondo_assign(NULL, k, &back, &narrow);
  if (!isfinite(wide)) return;
  memcpy(number->value.bytes, rounded, sizeof rounded);
  number->t.dtype = dtype;
}

static int comparison(lua_State *L, rondo_comparison op) {
  operand a, b;
  rondo_check_tensor(L, 1);
  luaL_checkany(L, 2);
  read_operands(L, "compare", true, &a, &b);
  round_number(L, &b, a.t.dtype);
  const rondo_kernels *k = rondo_state_kernels(L);
  const rondo_tensor *result = push_result(L, &a, &b, RONDO_BOOL);
  rondo_pool *pool = rondo_pool_for(L, rondo_tensor_count(result));
  rondo_apply_comparison(pool, k, op, &a.t, &b.t, result);
  rondo_check_stop(L);
  return 1;
}

static int equal(lua_State *L) {
  return comparison(L, RONDO_EQUAL);
}
static int not_equal(lua_State *L) {
  return comparison(L, RONDO_NOT_EQUAL);
}
static int less(lua_State *L) {
  return comparison(L, RONDO_LESS);
}
static int less_equal(lua_State *L) {
  return comparison(L, RONDO_LESS_EQUAL);
}
static int greater(lua_State *L) {
  return comparison(L, RONDO_GREATER);
}
static int greater_equal(lua_State *L) {
  return comparison(L, RONDO_GREATER_EQUAL);
}

/* a < b and its like: Lua would make one boolean of the answer. */
static int no_order(lua_State *L) {
  return luaL_error(L,
                    "tensors are compared element by element: a:lt(b), a:le(b), a:gt(b), a:ge(b)");
}

/* a & b, a | b, a ~ b: logical on two masks, bitwise on integers. */
static int bitwise(lua_State *L, rondo_binary op) {
  operand a, b;
  read_operands(L, "perform bitwise operation on", true, &a, &b);
  rondo_dtype dtype = meeting_type(&a, &b);
  bool floats = rondo_dtype_is_float(a.t.dtype) || rondo_dtype_is_float(b.t.dtype);
  if (floats || rondo_dtype_is_float(dtype)) {
    return luaL_error(L, "attempt to perform bitwise operation on a float tensor");
  }
  bool truth = lua_isboolean(L, 1) || lua_isboolean(L, 2);
  if (truth && (a.t.dtype == RONDO_BOOL || b.t.dtype == RONDO_BOOL)) dtype = RONDO_BOOL;
  return apply(L, op, &a, &b, dtype);
}

static int bit_and(lua_State *L) {
  return bitwise(L, RONDO_AND);
}
static int bit_or(lua_State *L) {
  return bitwise(L, RONDO_OR);
}
static int bit_xor(lua_State *L) {
  return bitwise(L, RONDO_XOR);
}

/* Replaces the tensor at idx by its truth values. */
static void to_mask(lua_State *L, int idx) {
  if (lua_isboolean(L, idx)) return;
  rondo_check_tensor(L, idx);
  rondo_push_converted(L, idx, RONDO_BOOL, false);
  lua_replace(L, idx);
}

static int invert(lua_State *L) {
  const rondo_tensor *t = rondo_check_tensor(L, 1);
  rondo_require_arithmetic(L, t, "not");
  if (rondo_dtype_is_float(t->dtype)) {
    return luaL_error(L, "attempt to perform bitwise operation on a float tensor");
  }
  const rondo_tensor *result = rondo_push_tensor(L, t->dtype, t->rank, t->shape);
  const rondo_kernels *k = rondo_state_kernels(L);
  rondo_apply_unary(rondo_pool_for(L, rondo_tensor_count(t)), k, RONDO_NOT, t, result);
  rondo_check_stop(L);
  return 1;
}

/* a:land(b), a:lor(b), a:lnot(): masks of what is not 0, whatever the type. */
static int logical(lua_State *L, rondo_binary op) {
  rondo_check_tensor(L, 1);
  lua_settop(L, 2);
  to_mask(L, 1);
  to_mask(L, 2);
  return bitwise(L, op);
}

static int logical_and(lua_State *L) {
  return logical(L, RONDO_AND);
}
static int logical_or(lua_State *L) {
  return logical(L, RONDO_OR);
}

static int logical_not(lua_State *L) {
  lua_settop(L, 1);
  to_mask(L, 1);
  return invert(L);
}

/* The type of mask:pick(a, b). */
static rondo_dtype choice_type(const operand *a, const operand *b) {
  if (a->is_number && b->is_number) return RONDO_F32;
  return meeting_type(a, b);
}

/* mask:pick(a, b): a where the mask is true, else b; tensors or numbers, stretched. */
static int pick(lua_State *L) {
  const rondo_tensor *t = rondo_check_tensor(L, 1);
  luaL_argcheck(L, t->dtype == RONDO_BOOL, 1, "a bool tensor expected (from lt, ge, ...)");
  operand mask = {.t = *t}, a, b;
  for (int i = 2; i <= 3; i++) {
    if (!read_operand(L, i, false, i == 2 ? &a : &b)) luaL_typeerror(L, i, "tensor or number");
  }
  if (!a.is_number) rondo_require_arithmetic(L, &a.t, "pick");
  if (!b.is_number) rondo_require_arithmetic(L, &b.t, "pick");
  rondo_dtype dtype = choice_type(&a, &b);
  int64_t shape[RONDO_MAX_RANK];
  int rank;
  operand both = {.t = a.t};
  if (!rondo_broadcast_shape(&a.t, &b.t, &rank, shape)) return push_result(L, &a, &b, dtype) != 0;
  rondo_tensor_init(&both.t, dtype, rank, shape, NULL);
  const rondo_tensor *result = push_result(L, &mask, &both, dtype);
  rondo_tensor_broadcast(&a.t, result->rank, result->shape);
  rondo_tensor_broadcast(&b.t, result->rank, result->shape);
  const rondo_kernels *k = rondo_state_kernels(L);
  rondo_pool *pool = rondo_pool_for(L, rondo_tensor_count(result));
  rondo_apply_choice(pool, k, &mask.t, &a.t, &b.t, result);
  rondo_check_stop(L);
  return 1;
}

const luaL_Reg rondo_tensor_operators[] = {
    {"__add", add},           {"__sub", subtract}, {"__mul", multiply}, {"__div", divide},
    {"__idiv", floor_divide}, {"__mod", modulo},   {"__pow", power},    {"__unm", negate},
    {"__band", bit_and},      {"__bor", bit_or},   {"__bxor", bit_xor}, {"__bnot", invert},
    {"__lt", no_order},       {"__le", no_order},  {NULL, NULL}};

const luaL_Reg rondo_tensor_ops_methods[] = {
    {"abs", absolute},    {"neg", negate},       {"sqrt", square_root}, {"exp", exponential},
    {"log", logarithm},   {"round", round_even}, {"floor", round_down}, {"ceil", round_up},
    {"sign", sign},       {"square", square},    {"clamp", clamp},      {"minimum", minimum},
    {"maximum", maximum}, {"eq", equal},         {"ne", not_equal},     {"lt", less},
    {"le", less_equal},   {"gt", greater},       {"ge", greater_equal}, {"land", logical_and},
    {"lor", logical_or},  {"lnot", logical_not}, {"pick", pick},        {NULL, NULL}};
