/* expand.c - EXP2, LOG2 and SIN as polynomials over the other ops, so that every backend agrees.
 * In: such a node of a tensor graph or of a kernel.  Out: f32 nodes of the same shape.
 * Invariants: errors stay near 1 unit in the last place, see each function; infinities, NaNs and
 * denormals as C's math library has them. f16 and bf16 are computed in f32 and rounded once.
 * Rounding to an integer is t = fma(x, scale, 1.5 * 2^23), whose low bits are that integer; it is
 * one fma, and not a mul and an add, so that no rule for sums undoes it.
 *   exp2 %0   =>   19 nodes, 15 instructions of a vector unit (a clamp is one, a bitcast none)
 * Polynomials: Remez exchange for the least largest relative error, coefficients rounded to f32. */
#include "rewrite/rewrite.h"

#include <math.h>

static const float magic = 0x1.8p23f;

// Constants and nodes of one shape.
typedef struct {
    Graph *graph;
    Shape shape;
} Maker;

static Id real(const Maker *make, float value) {
    return node_const_float(make->graph, DT_F32, make->shape, (double)value);
}

static Id fma3(const Maker *make, Id x, float y, float z) {
    Id scale = real(make, y);
    return node_fma(make->graph, x, scale, real(make, z));
}

static Id add(const Maker *make, Id x, float y) {
    return node_binary(make->graph, OP_ADD, x, real(make, y));
}

static Id mul(const Maker *make, Id x, Id y) { return node_binary(make->graph, OP_MUL, x, y); }

// An op with an integer constant behind it.
static Id bits(const Maker *make, Op op, Id x, int64_t y) {
    return node_binary(make->graph, op, x, node_const_int(make->graph, DT_I32, make->shape, y));
}

static Id less(const Maker *make, Id x, float limit) {
    return node_binary(make->graph, OP_CMPLT, x, real(make, limit));
}

static Id as_int(const Maker *make, Id x) { return node_bitcast(make->graph, x, DT_I32); }

static Id as_real(const Maker *make, Id x) { return node_bitcast(make->graph, x, DT_F32); }

// coefficient[0] + x * (coefficient[1] + x * ...)
static Id polynomial(const Maker *make, Id x, int count, const float *coefficient) {
    Id sum = real(make, coefficient[count - 1]);
    for (int i = count - 2; i >= 0; i--)
        sum = node_fma(make->graph, x, sum, real(make, coefficient[i]));
    return sum;
}

// 2^x = p(r) * s * s with s = 2^h, h = round(x / 2), r = x - 2h in [-1, 1]. s is a normal number
// for every x that matters, so the last product alone overflows, or rounds a denormal. Within 1.7
// units; exact for integers.
static Id expand_exp2(const Maker *make, Id x) {
    static const float q[] = {0x1.62e432p-1f,  0x1.ebfbfep-3f,  0x1.c6afe6p-5f, 0x1.3b1ee4p-7f,
                              0x1.5dafcep-10f, 0x1.4847f6p-13f, 0x1.f857a6p-17f};
    Graph *graph = make->graph;
    // Comparisons, not MAX: they let a NaN through and are one instruction each.
    Id low = less(make, x, -160);
    x = node_where(graph, low, real(make, -160), x);
    Id limit = real(make, 130), high = node_binary(graph, OP_CMPLT, limit, x);
    x = node_where(graph, high, limit, x);
    Id t = fma3(make, x, 0.5f, magic + 127);  // with the bias of an exponent
    Id h = add(make, t, -(magic + 127));
    Id r = node_fma(graph, h, real(make, -2), x);
    Id rest = polynomial(make, r, COUNT_OF(q), q);
    Id p = node_fma(graph, r, rest, real(make, 1));
    Id s = as_real(make, bits(make, OP_SHL, as_int(make, t), 23));
    return mul(make, mul(make, p, s), s);
}

// log2(2^e * (1 + f)) = e + (f + f * p(f)) with 1 + f in [sqrt(1/2), sqrt(2)). Denormals are scaled
// by 2^23 first. Within 1.5 units.
static Id expand_log2(const Maker *make, Id x) {
    static const float p[] = {0x1.c551d6p-2f,  -0x1.715470p-1f, 0x1.ec73d6p-2f,
                              -0x1.715c4ep-2f, 0x1.26d384p-2f,  -0x1.e95beap-3f,
                              0x1.b9c926p-3f,  -0x1.a87d08p-3f, 0x1.01b6bap-3f};
    enum { ROOT = 0x3f3504f3 };  // the bits of sqrt(1/2)
    Graph *graph = make->graph;
    Id small = less(make, x, 0x1p-126f);
    Id scaled = mul(make, x, real(make, 0x1p23f));
    Id normal = node_where(graph, small, scaled, x);
    Id k = bits(make, OP_ADD, as_int(make, normal), -ROOT);
    Id exponent = node_cast(graph, bits(make, OP_SHR, k, 23), DT_F32);
    Id lowered = add(make, exponent, -23);
    Id e = node_where(graph, small, lowered, exponent);
    Id mantissa = bits(make, OP_ADD, bits(make, OP_AND, k, 0x7fffff), ROOT);
    Id f = add(make, as_real(make, mantissa), -1);
    Id y = node_fma(graph, f, polynomial(make, f, COUNT_OF(p), p), f);
    y = node_binary(graph, OP_ADD, y, e);
    Id nan = real(make, NAN), negative = less(make, x, 0);
    Id outside = node_where(graph, negative, nan, real(make, -INFINITY));
    Id positive = node_binary(graph, OP_CMPLT, real(make, 0), x);
    y = node_where(graph, positive, y, outside);
    return node_where(graph, less(make, x, INFINITY), y, x);  // infinity and NaN are their own
}

// sin(x) = (-1)^n sin(r) with n = round(x / pi), r = x - n * pi by an fma for each of pi's three
// parts. Within 2.2 units for |x| < 1e5. The error stays below 2e-7 to 1e6, and below 1e-5 to 1e7
// (n is then no longer the nearest). Beyond, where floats are 1 apart, it is 0.
static Id expand_sin(const Maker *make, Id x) {
    static const float q[] = {-0x1.55554cp-3f, 0x1.110ed4p-7f, -0x1.9f6feep-13f, 0x1.5dbce6p-19f};
    static const float pi[] = {0x1.921fb6p+1f, -0x1.777a5cp-24f, -0x1.ee59dap-49f};
    Graph *graph = make->graph;
    Id inside = less(make, mul(make, x, x), 1e14f);
    Id zero = mul(make, x, real(make, 0));  // NaN of an infinity
    x = node_where(graph, inside, x, zero);
    Id t = fma3(make, x, 0x1.45f306p-2f, magic), n = add(make, t, -magic), r = x;
    for (int i = 0; i < COUNT_OF(pi); i++) r = node_fma(graph, n, real(make, -pi[i]), r);
    Id sign = bits(make, OP_SHL, as_int(make, t), 31);
    Id square = mul(make, r, r);
    Id rest = polynomial(make, square, COUNT_OF(q), q);
    Id turned = as_real(make, node_binary(graph, OP_XOR, as_int(make, r), sign));
    Id y = node_fma(graph, mul(make, square, rest), turned, turned);
    Id some = node_binary(graph, OP_CMPNE, y, real(make, 0));
    return node_where(graph, some, y, x);  // sums lose the sign of -0
}

static Id expand(const Match *match, Id (*body)(const Maker *, Id)) {
    Graph *graph = match->graph;
    Maker make = {graph, node_shape(graph, match->root)};
    DType dtype = node_dtype(graph, match->root);
    if (dtype == DT_F32) return body(&make, match->at[0]);
    return node_cast(graph, body(&make, node_cast(graph, match->at[0], DT_F32)), dtype);
}

static Id make_exp2(const Match *match) { return expand(match, expand_exp2); }

static Id make_log2(const Match *match) { return expand(match, expand_log2); }

static Id make_sin(const Match *match) { return expand(match, expand_sin); }

const Rule rules_expand[] = {
    {"(exp2 ?x) => !", RULE_REASSOCIATES, NULL, make_exp2},
    {"(log2 ?x) => !", RULE_REASSOCIATES, NULL, make_log2},
    {"(sin ?x) => !", RULE_REASSOCIATES, NULL, make_sin},
};
const int rules_expand_count = COUNT_OF(rules_expand);
