/* gradient_test.c - gradients beside differences, first and second, of what the PyTorch file has no
 * gradients for; and where a value is finite but a careless gradient would not be. */
#include "tensor/values.h"

#include <math.h>

// Of x (2, 3), positive and away from kinks, to any shape.
typedef PgTensor *Function(PgTensor *x);

static PgTensor *cumprods(PgTensor *x) { return pg_cumprod(x, 1); }
static PgTensor *cumsums(PgTensor *x) { return pg_cumsum(x, 0); }
static PgTensor *products(PgTensor *x) { return pg_prod(x, PG_AXES(1), false); }
static PgTensor *deviations(PgTensor *x) { return pg_std(x, PG_AXES(1), 1, false); }
static PgTensor *variances(PgTensor *x) { return pg_variance(x, PG_ALL_AXES, 0, true); }
static PgTensor *logsums(PgTensor *x) { return pg_logsumexp(x, PG_AXES(0), false); }
static PgTensor *powers(PgTensor *x) { return pg_pow(x, pg_scalar(2.5)); }
static PgTensor *exponents(PgTensor *x) { return pg_pow(pg_scalar(1.5), x); }
static PgTensor *both_powers(PgTensor *x) { return pg_pow(x, pg_flip(x, PG_ALL_AXES)); }
static PgTensor *windows(PgTensor *x) { return pg_unfold(x, 1, 2, 1, 1); }
static PgTensor *backwards(PgTensor *x) { return pg_slice(x, 1, PG_NONE, PG_NONE, -2); }
static PgTensor *clamped(PgTensor *x) { return pg_clamp(x, 0.5, 1.2); }
static PgTensor *least(PgTensor *x) { return pg_min(x, PG_AXES(1), false); }
static PgTensor *padded(PgTensor *x) { return pg_pad(x, (int64_t[]){1, 0}, (int64_t[]){0, 2}, 5); }
static PgTensor *squares(PgTensor *x) { return pg_matmul(x, pg_transpose(pg_mul(x, x), 0, 1)); }
static PgTensor *diagonals(PgTensor *x) {
    PgTensor *square = pg_matmul(pg_transpose(x, 0, 1), x);
    return pg_einsum("ii->i", 1, &square);
}
static PgTensor *triples(PgTensor *x) {
    PgTensor *y[] = {x, x, x};
    return pg_einsum("ij,kj,kl->il", 3, y);
}
static PgTensor *turned(PgTensor *x) {
    PgTensor *even = pg_slice(x, 1, 0, 2, 1);
    return pg_rope(even, VECTOR(1, 2), 100, NULL, true);
}
static PgTensor *attended(PgTensor *x) {
    PgTensor *q = pg_unsqueeze(x, 0), *k = pg_mul(q, q);
    return pg_attention(q, k, pg_sin(k), (PgAttention){.causal = true});
}
static PgTensor *masked(PgTensor *x) {
    PgTensor *q = pg_unsqueeze(x, 0),
             *mask = pg_lt(pg_matmul(x, pg_transpose(x, 0, 1)), pg_scalar(2.2));
    return pg_attention(q, pg_mul(q, q), pg_sin(q), (PgAttention){.mask = mask});
}
static PgTensor *modelled(PgTensor *x) {
    PgTensor *y = pg_layer_norm(x, NULL, NULL, 1e-3);
    return pg_add(pg_mul(pg_gelu(y), pg_silu(x)), pg_rms_norm(pg_gelu_tanh(x), NULL, 1e-3));
}
static PgTensor *picked(PgTensor *x) {
    PgTensor *rows = pg_from_data(PG_I64, PG_SHAPE(4), (int64_t[]){1, 0, 1, 7});
    return pg_mul(pg_index(x, 0, rows), pg_scalar(2));
}
static PgTensor *entropy(PgTensor *x) {
    return pg_cross_entropy(pg_mul(x, x), pg_from_data(PG_I64, PG_SHAPE(2), (int64_t[]){2, 0}));
}
static PgTensor *dropped(PgTensor *x) {
    return pg_dropout(pg_from_data(PG_I64, PG_SCALAR, (int64_t[]){3}), pg_mul(x, x), 0.5);
}

static const struct {
    const char *name;
    Function *function;
} rows[] = {
    {"cos", pg_cos},         {"tanh", pg_tanh},        {"sigmoid", pg_sigmoid},
    {"rsqrt", pg_rsqrt},     {"abs", pg_abs},          {"log", pg_log},
    {"cumprod", cumprods},   {"cumsum", cumsums},      {"prod", products},
    {"std", deviations},     {"variance", variances},  {"logsumexp", logsums},
    {"pow", powers},         {"pow of x", exponents},  {"pow x of x", both_powers},
    {"unfold", windows},     {"backwards", backwards}, {"clamp", clamped},
    {"min", least},          {"pad", padded},          {"matmul", squares},
    {"diagonal", diagonals}, {"three", triples},       {"rope", turned},
    {"attention", attended}, {"masked", masked},       {"model", modelled},
    {"index", picked},       {"entropy", entropy},     {"dropout", dropped},
    {"gelu", pg_gelu},       {"silu", pg_silu},        {"exp", pg_exp},
};

enum { COUNT = 6 };
static const float start[COUNT] = {0.9f, 1.31f, 0.42f, 1.7f, 0.65f, 1.1f};

// A scalar of uneven weights, so that no error cancels.
static PgTensor *loss_of(PgTensor *out) {
    PgTensor *flat = pg_reshape(out, PG_SHAPE(-1));
    return pg_sum(pg_mul(flat, pg_cos(pg_arange(PG_F32, 1, 1 + pg_count(flat), 1))), PG_ALL_AXES,
                  false);
}

static PgTensor *at(int moved, float by) {
    float x[COUNT];
    for (int i = 0; i < COUNT; i++) x[i] = start[i] + (i == moved ? by : 0);
    return pg_from_data(PG_F32, PG_SHAPE(2, 3), x);
}

static PgTensor *slope_of(Function *function, PgTensor *x) {
    PgTensor *slope;
    pg_grad(loss_of(function(x)), 1, &x, &slope);
    return slope;
}

typedef PgTensor *Loss(Function *, PgTensor *);
static PgTensor *value_loss(Function *function, PgTensor *x) { return loss_of(function(x)); }
static PgTensor *slope_loss(Function *function, PgTensor *x) {
    return loss_of(slope_of(function, x));
}

static void compare(const char *name, Function *function, Loss *loss) {
    static const float step = 0x1p-7f;
    pg_scope_begin();
    PgTensor *x = at(-1, 0), *slope;
    pg_grad(loss(function, x), 1, &x, &slope);
    float got[COUNT];
    pg_to_host(slope, got, sizeof got);
    for (int i = 0; i < COUNT; i++) {
        double up = pg_item(loss(function, at(i, step))),
               down = pg_item(loss(function, at(i, -step)));
        double want = (up - down) / (2 * (double)step);
        if (!(fabs((double)got[i] - want) <= 3e-3 * (1 + fabs(want))))
            fatal("%s: slope %d is %g, not %g", name, i, (double)got[i], want);
    }
    pg_scope_end();
}

TEST(slopes) {
    for (int i = 0; i < COUNT_OF(rows); i++) compare(rows[i].name, rows[i].function, value_loss);
}

TEST(slopes_of_slopes) {
    for (int i = 0; i < COUNT_OF(rows); i++) compare(rows[i].name, rows[i].function, slope_loss);
}

// The values are finite, so the slopes are.
TEST(slopes_at_the_edges) {
    pg_scope_begin();
    Function *functions[] = {pg_sigmoid, pg_silu, pg_tanh, pg_gelu, pg_gelu_tanh,
                             pg_relu,    pg_abs,  powers,  logsums};
    for (int i = 0; i < COUNT_OF(functions); i++) {
        PgTensor *x = pg_reshape(VECTOR(0, -200, 200, 1e10f, -1e4f, 60), PG_SHAPE(2, 3));
        if (functions[i] == powers) x = pg_reshape(VECTOR(0, 1, 2, 0, 4, 5), PG_SHAPE(2, 3));
        x = pg_keep(pg_contiguous(x));
        float slope[COUNT];
        pg_to_host(slope_of(functions[i], x), slope, sizeof slope);
        for (int j = 0; j < COUNT; j++) CHECK(isfinite(slope[j]));
    }
    PgTensor *mask = pg_zeros(PG_BOOL, PG_SHAPE(2, 2)), *x = iota(PG_SHAPE(1, 2, 2)), *slope;
    PgTensor *out = pg_attention(x, x, x, (PgAttention){.mask = mask});
    pg_grad(pg_sum(out, PG_ALL_AXES, false), 1, &x, &slope);
    CHECK_VALUES(slope, 0, 0, 0, 0);
    pg_scope_end();
}

static PgTensor *within(PgTensor *x) { return pg_clamp(x, -1, 1); }
static PgTensor *largest(PgTensor *x) { return pg_max(x, PG_ALL_AXES, false); }

static PgTensor *plain_slope(Function *function, PgTensor *x) {
    PgTensor *slope;
    pg_grad(pg_sum(function(x), PG_ALL_AXES, false), 1, &x, &slope);
    return slope;
}

// As PyTorch has it.
TEST(slopes_at_kinks) {
    pg_scope_begin();
    CHECK_VALUES(plain_slope(pg_relu, VECTOR(-1, 0, 1)), 0, 0, 1);
    CHECK_VALUES(plain_slope(pg_abs, VECTOR(-1, 0, 1)), -1, 0, 1);
    CHECK_VALUES(plain_slope(within, VECTOR(-2, -1, 0, 1, 2)), 0, 1, 1, 1, 0);
    CHECK_VALUES(plain_slope(largest, VECTOR(2, 1, 2)), 0.5, 0, 0.5);
    pg_scope_end();
}

// The one row of a table, read often: 8192 ones are 8192 in f16 too.
TEST(slopes_of_halves_are_summed_in_f32) {
    pg_scope_begin();
    PgTensor *table = pg_keep(pg_ones(PG_F16, PG_SHAPE(1, 1))), *slope;
    PgTensor *read = pg_embedding(table, pg_zeros(PG_I32, PG_SHAPE(8192)));
    pg_grad(pg_sum(pg_cast(read, PG_F32), PG_ALL_AXES, false), 1, &table, &slope);
    CHECK_INT(pg_type(slope), PG_F16);
    CHECK_VALUES(slope, 8192);
    pg_scope_end();
}

TEST(what_has_no_gradient) {
    pg_scope_begin();
    PgTensor *x = VECTOR(1, 2), *y = VECTOR(3), *slope[2], *wrt[] = {x, y};
    pg_grad(pg_sum(x, PG_ALL_AXES, false), 2, wrt, slope);
    CHECK_VALUES(slope[0], 1, 1);
    CHECK_VALUES(slope[1], 0);
    CHECK_FATAL_TEXT(pg_grad(x, 1, &x, slope), "f32 of shape (2). Hint: a float scalar");
    CHECK_FATAL_TEXT(pg_grad(pg_argmax(x, 0, false), 1, &x, slope), "the loss is i64");
    PgTensor *c = pg_scalar(2);
    CHECK_FATAL_TEXT(pg_grad(pg_mul(c, c), 1, &c, slope), "is a constant");
    pg_scope_end();
}
