/* element.c - operations that work element by element, and how two operands become alike.
 * In: handles of any shapes that broadcast.  Out: a handle of the common shape.
 * Invariant: MAPS nodes get sources of one shape, and of one type where the op table wants it; a
 * constant is made in its final shape, never expanded.
 *   add (2, 3) (3)   =>   %2 = reshape %1 (1, 3); %3 = expand %2 (2, 3); %4 = add %0 %3          */
#include "tensor/tensor.h"

#include <float.h>
#include <math.h>

// ---- operands that are alike -------------------------------------------------------------------

Id constant(DType dtype, Shape shape, double value) {
    if (dtype_is_float(dtype)) return node_const_float(graph_now(), dtype, shape, value);
    if (value != trunc(value) || !(fabs(value) < 0x1p63))
        fatal("the constant %g cannot be %s. Hint: pg_cast the tensor that it meets", value,
              dtypes[dtype].text);
    return node_const_int(graph_now(), dtype, shape, (int64_t)value);
}

Id broadcast(Id x, Shape shape) {
    Graph *graph = graph_now();
    const Node *node = graph_node(graph, x);
    Shape from = shape_at(x), common;
    if (shape_equal(from, shape)) return x;
    if (!shape_broadcast(from, shape, &common) || !shape_equal(common, shape))
        fatal("expand: shape %s does not stretch to %s. Hint: aligned at the right, sizes of 1 do",
              shape_name(x), graph_shape_text(graph, shape));
    if (node->op == OP_CONST)
        return node_make(graph, OP_CONST, node->dtype, shape, 0, NULL, node->arg_count, node->arg);
    while (shape_at(x).rank < shape.rank) x = with_axis(x, 0);
    return shape_equal(shape_at(x), shape) ? x : node_expand(graph, x, shape);
}

// x, or pg_scalar's value as a constant of dtype.
static Id typed(const char *verb, PgTensor *x, DType dtype) {
    Id id = tensor_in(x);
    if (dtype_at(id) == dtype) return id;
    if (!x->adapts)
        fatal("%s: types %s and %s differ. Hint: pg_cast one of them", verb,
              dtypes[dtype_at(id)].text, dtypes[dtype].text);
    return constant(dtype, (Shape){0}, x->value);
}

static void must_broadcast(const char *verb, Id x, Id y, Shape *shape) {
    if (!shape_broadcast(shape_at(x), shape_at(y), shape))
        fatal("%s: shapes %s and %s do not fit. Hint: aligned at the right, sizes must be equal "
              "or 1",
              verb, shape_name(x), shape_name(y));
}

Id tensor_like(const char *verb, PgTensor *x, Id like) {
    Id id = typed(verb, x, dtype_at(like));
    Shape shape;
    must_broadcast(verb, like, id, &shape);
    if (!shape_equal(shape, shape_at(like)))
        fatal("%s: a value of shape %s does not fit into %s. Hint: broadcasting stretches the "
              "value alone",
              verb, shape_name(id), shape_name(like));
    return broadcast(id, shape);
}

// Both in one type and shape.
static void unify(const char *verb, PgTensor *x, PgTensor *y, Id *left, Id *right) {
    DType dtype = dtype_at(tensor_in(x->adapts ? y : x));
    *left = typed(verb, x, dtype);
    *right = typed(verb, y, dtype);
    Shape shape;
    must_broadcast(verb, *left, *right, &shape);
    *left = broadcast(*left, shape);
    *right = broadcast(*right, shape);
}

static PgTensor *unary(Op op, PgTensor *x) {
    return tensor_out(node_unary(graph_now(), op, tensor_in(x)));
}

static PgTensor *binary(const char *verb, Op op, PgTensor *x, PgTensor *y) {
    Id left, right;
    unify(verb, x, y, &left, &right);
    return tensor_out(node_binary(graph_now(), op, left, right));
}

static bool is_float(PgTensor *x) { return dtype_is_float((DType)pg_type(x)); }

PgTensor *with_slope_of(PgTensor *value, PgTensor *other) {
    return tensor_out(node_withgrad(graph_now(), tensor_in(value), tensor_in(other)));
}

PgTensor *wide(PgTensor *x) { return is_float(x) ? pg_cast(x, PG_F32) : x; }

PgTensor *rounded(PgTensor *x, PgTensor *like) { return pg_cast(x, pg_type(like)); }

PgTensor *scaled(PgTensor *x, double by) { return pg_mul(x, pg_scalar(by)); }

PgTensor *shifted(PgTensor *x, double by) { return pg_add(x, pg_scalar(by)); }

// ---- types -------------------------------------------------------------------------------------

PgTensor *pg_cast(PgTensor *x, PgType type) {
    Id id = tensor_in(x);
    DType from = dtype_at(id), to = dtype_of("cast", type);
    if (from == to) return tensor_view(id);
    if (to != DT_BOOL) return tensor_out(node_cast(graph_now(), id, to));
    Id zero = constant(from, shape_at(id), 0);
    return tensor_out(node_binary(graph_now(), OP_CMPNE, id, zero));
}

PgTensor *pg_bitcast(PgTensor *x, PgType type) {
    return tensor_out(node_bitcast(graph_now(), tensor_in(x), dtype_of("bitcast", type)));
}

// ---- arithmetic --------------------------------------------------------------------------------

PgTensor *pg_add(PgTensor *x, PgTensor *y) { return binary("add", OP_ADD, x, y); }

PgTensor *pg_mul(PgTensor *x, PgTensor *y) { return binary("mul", OP_MUL, x, y); }

PgTensor *pg_sub(PgTensor *x, PgTensor *y) {
    Id left, right;
    unify("sub", x, y, &left, &right);
    DType dtype = dtype_at(left);
    if (dtype == DT_BOOL) fatal("sub: takes numbers, not bool. Hint: pg_xor, or pg_cast");
    Id minus = constant(dtype, shape_at(left), -1);
    return tensor_out(
        node_binary(graph_now(), OP_ADD, left, node_binary(graph_now(), OP_MUL, right, minus)));
}

PgTensor *pg_div(PgTensor *x, PgTensor *y) {
    Id left, right;
    unify("div", x, y, &left, &right);
    compose_begin();
    PgTensor *quotient = pg_mul(wide(tensor_view(left)), pg_recip(wide(tensor_view(right))));
    return compose_end(rounded(quotient, tensor_view(left)));
}

PgTensor *pg_idiv(PgTensor *x, PgTensor *y) { return binary("idiv", OP_IDIV, x, y); }

PgTensor *pg_mod(PgTensor *x, PgTensor *y) { return binary("mod", OP_MOD, x, y); }

PgTensor *pg_maximum(PgTensor *x, PgTensor *y) { return binary("maximum", OP_MAX, x, y); }

// Negation turns the order of floats around, complement that of all integers.
PgTensor *pg_minimum(PgTensor *x, PgTensor *y) {
    compose_begin();
    bool floats = is_float(x->adapts ? y : x);
    PgTensor *(*turn)(PgTensor *) = floats ? pg_neg : pg_not;
    Id left, right;
    unify("minimum", x, y, &left, &right);
    return compose_end(turn(pg_maximum(turn(tensor_view(left)), turn(tensor_view(right)))));
}

// The bounds themselves have a slope of 1.
PgTensor *pg_clamp(PgTensor *x, double low, double high) {
    compose_begin();
    PgTensor *least = pg_scalar(low), *most = pg_scalar(high);
    PgTensor *outside = pg_or(pg_lt(x, least), pg_lt(most, x));
    PgTensor *slope = pg_where(outside, pg_scalar(0), x);
    return compose_end(with_slope_of(pg_minimum(pg_maximum(x, least), most), slope));
}

PgTensor *pg_neg(PgTensor *x) {
    if (pg_type(x) == PG_BOOL) fatal("neg: takes numbers, not bool. Hint: pg_not");
    compose_begin();
    return compose_end(scaled(x, -1));
}

// At 0 the slopes of x and -x cancel; the outer maximum makes a 0 of a -0.
PgTensor *pg_abs(PgTensor *x) {
    compose_begin();
    if (is_float(x)) return compose_end(pg_maximum(pg_maximum(x, pg_neg(x)), pg_scalar(0)));
    return compose_end(pg_where(pg_lt(x, pg_scalar(0)), pg_neg(x), x));
}

PgTensor *pg_recip(PgTensor *x) { return unary(OP_RECIP, x); }

PgTensor *pg_sqrt(PgTensor *x) { return unary(OP_SQRT, x); }

PgTensor *pg_exp2(PgTensor *x) { return unary(OP_EXP2, x); }

PgTensor *pg_log2(PgTensor *x) { return unary(OP_LOG2, x); }

PgTensor *pg_sin(PgTensor *x) { return unary(OP_SIN, x); }

PgTensor *pg_trunc(PgTensor *x) { return unary(OP_TRUNC, x); }

PgTensor *pg_rsqrt(PgTensor *x) {
    compose_begin();
    return compose_end(rounded(pg_recip(pg_sqrt(wide(x))), x));
}

PgTensor *pg_exp(PgTensor *x) {
    compose_begin();
    return compose_end(rounded(pg_exp2(scaled(wide(x), M_LOG2E)), x));
}

PgTensor *pg_log(PgTensor *x) {
    compose_begin();
    return compose_end(rounded(scaled(pg_log2(wide(x)), M_LN2), x));
}

// 1 - 2 sin(x/2)^2: halving is exact, where adding pi/2 to a large x would lose digits.
PgTensor *pg_cos(PgTensor *x) {
    compose_begin();
    PgTensor *sine = pg_sin(scaled(wide(x), 0.5));
    return compose_end(rounded(shifted(scaled(pg_mul(sine, sine), -2), 1), x));
}

// Through exp(-2|x|), which cannot overflow; near 0, where 1 - exp cancels, a polynomial (the
// Taylor series; its next term is below 1e-9 of the value) of what cannot overflow either.
PgTensor *pg_tanh(PgTensor *given) {
    compose_begin();
    PgTensor *x = wide(given);
    PgTensor *magnitude = pg_abs(x), *is_small = pg_lt(magnitude, pg_scalar(0.25));
    PgTensor *small = pg_where(is_small, x, pg_scalar(0)), *square = pg_mul(small, small);
    PgTensor *power = pg_exp(scaled(magnitude, -2));
    PgTensor *far = pg_div(pg_sub(pg_scalar(1), power), shifted(power, 1));
    static const double series[] = {-1382.0 / 155925, 62.0 / 2835, -17.0 / 315, 2.0 / 15, -1.0 / 3};
    PgTensor *near = scaled(square, series[0]);
    for (int i = 1; i < COUNT_OF(series); i++) near = pg_mul(shifted(near, series[i]), square);
    far = pg_where(pg_lt(x, pg_scalar(0)), pg_neg(far), far);
    PgTensor *result = pg_where(is_small, pg_mul(small, shifted(near, 1)), far);
    return compose_end(rounded(result, given));
}

PgTensor *pg_floor(PgTensor *x) {
    compose_begin();
    PgTensor *whole = pg_trunc(x);
    return compose_end(pg_where(pg_lt(x, whole), shifted(whole, -1), whole));
}

PgTensor *pg_ceil(PgTensor *x) {
    compose_begin();
    PgTensor *whole = pg_trunc(x);
    return compose_end(pg_where(pg_lt(whole, x), shifted(whole, 1), whole));
}

static PgTensor *is_odd(PgTensor *whole) {
    PgTensor *half = scaled(whole, 0.5);
    return pg_ne(half, pg_trunc(half));
}

PgTensor *pg_round(PgTensor *x) {
    compose_begin();
    PgTensor *whole = pg_trunc(x), *rest = pg_abs(pg_sub(x, whole));
    PgTensor *tie = pg_eq(rest, pg_scalar(0.5));
    PgTensor *away = pg_or(pg_lt(pg_scalar(0.5), rest), pg_and(tie, is_odd(whole)));
    PgTensor *next = pg_where(pg_lt(x, pg_scalar(0)), shifted(whole, -1), shifted(whole, 1));
    return compose_end(pg_where(away, next, whole));
}

static PgTensor *value_like(PgTensor *x, double value) {
    return tensor_view(constant(dtype_at(tensor_in(x)), (Shape){0}, value));
}

// x to a small whole power, by squaring.
static PgTensor *whole_power(PgTensor *x, int power) {
    PgTensor *result = NULL;
    for (; power; power >>= 1, x = power ? pg_mul(x, x) : x)
        if (power & 1) result = result ? pg_mul(result, x) : x;
    return result;
}

// Negative x: whole powers alone are real. x = 0 is kept out of the logarithm, so that the gradient
// there is 0 and not NaN; an infinite y is made finite, so that 1 to it is 1.
static PgTensor *float_power(PgTensor *x, PgTensor *y) {
    PgTensor *zero = value_like(x, 0), *at_zero = pg_eq(x, zero), *infinity = pg_scalar(INFINITY);
    PgTensor *size = pg_where(at_zero, pg_scalar(1), pg_abs(x)), *whole = pg_trunc(y);
    PgTensor *power = pg_exp2(pg_mul(pg_clamp(y, -FLT_MAX, FLT_MAX), pg_log2(size)));
    PgTensor *is_whole = pg_eq(whole, y), *odd = pg_and(is_whole, is_odd(whole));
    PgTensor *negative = pg_where(odd, pg_neg(power), power);
    negative = pg_where(pg_or(is_whole, pg_eq(size, infinity)), negative, pg_scalar(NAN));
    power = pg_where(pg_lt(x, zero), negative, power);
    PgTensor *nothing = pg_detach(pg_where(odd, x, zero));  // with x's sign
    nothing = pg_where(pg_lt(y, zero), pg_recip(nothing), pg_where(pg_eq(y, y), nothing, y));
    power = pg_where(at_zero, nothing, power);
    return pg_where(pg_eq(y, zero), pg_scalar(1), power);
}

PgTensor *pg_pow(PgTensor *x, PgTensor *y) {
    compose_begin();
    Id left, right;
    unify("pow", x, y, &left, &right);
    x = tensor_view(left);
    bool fixed = graph_node(graph_now(), right)->op == OP_CONST;
    double power = fixed ? node_const_value(graph_now(), right, NULL) : 0;
    if (fixed && power >= 1 && power <= 64 && power == trunc(power))
        return compose_end(rounded(whole_power(wide(x), (int)power), x));
    if (fixed && power == 0.5) return compose_end(pg_sqrt(x));
    if (fixed && power == -0.5) return compose_end(pg_rsqrt(x));
    if (fixed && power == -1) return compose_end(pg_recip(x));
    return compose_end(rounded(float_power(wide(x), wide(tensor_view(right))), x));
}

// ---- comparisons, logic ------------------------------------------------------------------------

PgTensor *pg_lt(PgTensor *x, PgTensor *y) { return binary("lt", OP_CMPLT, x, y); }

PgTensor *pg_gt(PgTensor *x, PgTensor *y) { return binary("gt", OP_CMPLT, y, x); }

PgTensor *pg_ne(PgTensor *x, PgTensor *y) { return binary("ne", OP_CMPNE, x, y); }

PgTensor *pg_eq(PgTensor *x, PgTensor *y) {
    compose_begin();
    return compose_end(pg_not(pg_ne(x, y)));
}

// A NaN is neither less nor equal.
PgTensor *pg_le(PgTensor *x, PgTensor *y) {
    compose_begin();
    return compose_end(pg_or(pg_lt(x, y), pg_eq(x, y)));
}

PgTensor *pg_ge(PgTensor *x, PgTensor *y) { return pg_le(y, x); }

PgTensor *pg_and(PgTensor *x, PgTensor *y) { return binary("and", OP_AND, x, y); }

PgTensor *pg_or(PgTensor *x, PgTensor *y) { return binary("or", OP_OR, x, y); }

PgTensor *pg_xor(PgTensor *x, PgTensor *y) { return binary("xor", OP_XOR, x, y); }

PgTensor *pg_not(PgTensor *x) {
    compose_begin();
    return compose_end(pg_xor(x, pg_scalar(pg_type(x) == PG_BOOL ? 1 : -1)));
}

PgTensor *pg_shl(PgTensor *x, PgTensor *y) { return binary("shl", OP_SHL, x, y); }

PgTensor *pg_shr(PgTensor *x, PgTensor *y) { return binary("shr", OP_SHR, x, y); }

PgTensor *pg_where(PgTensor *condition, PgTensor *x, PgTensor *y) {
    Id choice = tensor_in(condition), left, right;
    if (dtype_at(choice) != DT_BOOL)
        fatal("where: the condition is %s, not bool. Hint: pg_ne(condition, pg_scalar(0))",
              dtypes[dtype_at(choice)].text);
    unify("where", x, y, &left, &right);
    Shape shape;
    must_broadcast("where", choice, left, &shape);
    return tensor_out(node_where(graph_now(), broadcast(choice, shape), broadcast(left, shape),
                                 broadcast(right, shape)));
}
