/* values_test.c - what the PyTorch file has no cases for: values beside the C library's, types, and
 * misuse. */
#include "tensor/values.h"

#include <math.h>

typedef PgTensor *Unary(PgTensor *);

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double rsqrt(double x) { return 1 / sqrt(x); }
static double relu(double x) { return x > 0 || isnan(x) ? x : 0; }
static double negative(double x) { return -x; }

TEST(functions_of_one) {
    const struct {
        const char *name;
        Unary *ours;
        double (*theirs)(double);
        bool positive;
    } rows[] = {
        {"cos", pg_cos, cos, false},
        {"tanh", pg_tanh, tanh, false},
        {"floor", pg_floor, floor, false},
        {"ceil", pg_ceil, ceil, false},
        {"round", pg_round, nearbyint, false},
        {"abs", pg_abs, fabs, false},
        {"sigmoid", pg_sigmoid, sigmoid, false},
        {"rsqrt", pg_rsqrt, rsqrt, true},
        {"relu", pg_relu, relu, false},
        {"neg", pg_neg, negative, false},
    };
    static const float x[] = {0,     0.1f, 0.2499f, 0.25f, 0.5f, 1.5f,       2.5f,
                              3.49f, 8,    88,      100,   1000, 8388607.5f, 1e-20f,
                              -0.5f, -1,   -1.5f,   -3.7f, -20,  -100,       -8388607.5f};
    for (int row = 0; row < COUNT_OF(rows); row++) {
        pg_scope_begin();
        float got[COUNT_OF(x)];
        pg_to_host(rows[row].ours(vector(COUNT_OF(x), x)), got, sizeof got);
        for (int i = 0; i < COUNT_OF(x); i++) {
            if (rows[row].positive && x[i] <= 0) continue;
            if (rows[row].theirs == cos && fabsf(x[i]) > 1e6f) continue;
            double want = rows[row].theirs((double)x[i]), error = fabs((double)got[i] - want);
            if (!(error <= 4e-7 * fabs(want) + (rows[row].theirs == cos ? 2e-7 : 1e-38)))
                fatal("%s(%g) is %.9g, not %.9g", rows[row].name, (double)x[i], (double)got[i],
                      want);
        }
        pg_scope_end();
    }
}

TEST(not_a_number_stays) {
    pg_scope_begin();
    Unary *functions[] = {pg_cos,     pg_tanh, pg_floor, pg_round,
                          pg_sigmoid, pg_relu, pg_gelu,  pg_abs};
    for (int i = 0; i < COUNT_OF(functions); i++) CHECK(isnan(pg_item(functions[i](VECTOR(NAN)))));
    pg_scope_end();
}

TEST(powers) {
    pg_scope_begin();
    float x[] = {2,        0, -2, -2,        0.5f,      0, 0,     9, 3,       -1,
                 INFINITY, 7, 1,  -INFINITY, -INFINITY, 0, -0.0f, 2, INFINITY};
    float y[] = {0.5f, 2.5f, 3,         0.5f, -2,    0,   -1, 1.5f,     0,    4,
                 2,    NAN,  -INFINITY, 2.5f, -2.5f, NAN, -3, INFINITY, -0.5f};
    float got[COUNT_OF(x)];
    pg_to_host(pg_pow(vector(COUNT_OF(x), x), vector(COUNT_OF(y), y)), got, sizeof got);
    for (int i = 0; i < COUNT_OF(x); i++)
        CHECK_NEAR(got[i], pow((double)x[i], (double)y[i]),
                   2e-6 * fabs(pow((double)x[i], (double)y[i])));
    CHECK_VALUES(pg_recip(pg_abs(VECTOR(-0.0f, 0))), INFINITY, INFINITY);
    PgTensor *v = VECTOR(-2, 3);
    CHECK_VALUES(pg_pow(v, pg_scalar(5)), -32, 243);
    CHECK_VALUES(pg_pow(v, pg_scalar(0)), 1, 1);
    CHECK_VALUES(pg_pow(pg_abs(v), pg_scalar(0.5)), sqrt(2), sqrt(3));
    CHECK_VALUES(pg_pow(pg_cast(v, PG_I32), pg_scalar(3)), -8, 27);
    pg_scope_end();
}

TEST(folds) {
    pg_scope_begin();
    PgTensor *x = pg_add(iota(PG_SHAPE(2, 3)), pg_scalar(1)), *odd = pg_lt(x, pg_scalar(4));
    CHECK_VALUES(pg_prod(x, PG_AXES(1), false), 6, 120);
    CHECK_VALUES(pg_any(odd, PG_AXES(1), false), 1, 0);
    CHECK_VALUES(pg_all(odd, PG_AXES(1), true), 1, 0);
    CHECK_VALUES(pg_any(x, PG_ALL_AXES, false), 1);
    CHECK_VALUES(pg_sum(odd, PG_ALL_AXES, false), 3);
    CHECK_INT(pg_type(pg_sum(odd, PG_ALL_AXES, false)), PG_I64);
    CHECK_VALUES(pg_std(x, PG_AXES(1), 1, false), 1, 1);
    CHECK_VALUES(pg_variance(x, PG_AXES(0), 0, false), 2.25, 2.25, 2.25);
    CHECK_VALUES(pg_cumprod(x, 1), 1, 2, 6, 4, 20, 120);
    CHECK_VALUES(pg_cumsum(pg_cast(x, PG_I32), 0), 1, 2, 3, 5, 7, 9);
    CHECK_VALUES(pg_logsumexp(VECTOR(1000, 1000), PG_ALL_AXES, false), 1000 + M_LN2);
    CHECK_VALUES(pg_logsumexp(VECTOR(-INFINITY, -INFINITY), PG_ALL_AXES, false), -INFINITY);
    CHECK_VALUES(pg_logsumexp(VECTOR(INFINITY, 1), PG_ALL_AXES, true), INFINITY);
    CHECK_VALUES(pg_argmax(VECTOR(1, NAN, 3, NAN), 0, false), 1);
    CHECK_VALUES(pg_argmin(pg_cast(x, PG_U8), 1, true), 0, 0);
    CHECK_FATAL_TEXT(pg_sum(x, PG_AXES(2), false), "sum: there is no axis 2 in shape (2, 3)");
    CHECK_FATAL_TEXT(pg_max(x, PG_AXES(0, 0), false), "axis 0 is named twice");
    pg_scope_end();
}

TEST(operands_must_be_alike) {
    pg_scope_begin();
    PgTensor *x = iota(PG_SHAPE(2, 3)), *i = pg_cast(x, PG_I32);
    CHECK_FATAL_TEXT(pg_add(x, iota(PG_SHAPE(4, 5))), "add: shapes (2, 3) and (4, 5) do not fit");
    CHECK_FATAL_TEXT(pg_mul(x, i), "mul: types i32 and f32 differ. Hint: pg_cast");
    CHECK_FATAL_TEXT(pg_mul(i, pg_scalar(0.5)), "the constant 0.5 cannot be i32");
    CHECK_FATAL_TEXT(pg_exp(i), "i32");
    CHECK_FATAL_TEXT(pg_div(i, i), "i32");
    CHECK_FATAL_TEXT(pg_and(x, x), "f32");
    CHECK_FATAL_TEXT(pg_idiv(x, x), "f32");
    CHECK_FATAL_TEXT(pg_neg(pg_eq(x, x)), "Hint: pg_not");
    CHECK_FATAL_TEXT(pg_where(x, x, x), "the condition is f32, not bool");
    CHECK_FATAL_TEXT(pg_matmul(x, x), "matmul: shapes (2, 3) and (2, 3) do not fit");
    CHECK_FATAL_TEXT(pg_matmul(x, pg_scalar(1)), "do not fit");
    CHECK_FATAL_TEXT(pg_linear(x, iota(PG_SHAPE(2, 2)), NULL), "linear: shape (2, 3) does not fit");
    CHECK_VALUES(pg_mul(i, pg_scalar(2)), 0, 2, 4, 6, 8, 10);
    pg_scope_end();
}

TEST(scalars_are_exact) {
    pg_scope_begin();
    PgTensor *x = pg_full(PG_I64, PG_SHAPE(1), -1);
    CHECK_INT(pg_item_int(pg_and(x, pg_scalar(0xffffffff))), 0xffffffff);
    CHECK_INT(pg_item_int(pg_add(x, pg_scalar(16777218))), 16777217);
    CHECK_FATAL_TEXT(pg_add(pg_cast(x, PG_U8), pg_scalar(INFINITY)), "cannot be u8");
    pg_scope_end();
}

TEST(types_must_be_known) {
    pg_scope_begin();
    PgTensor *x = pg_arange(PG_U8, 7, 0, -3);
    CHECK_VALUES(x, 7, 4, 1);
    CHECK_FATAL_TEXT(pg_cast(x, (PgType)10), "cast: 10 is no PgType");
    CHECK_FATAL_TEXT(pg_bitcast(x, (PgType)-1), "bitcast: -1 is no PgType");
    pg_scope_end();
}

TEST(parts_must_fit) {
    pg_scope_begin();
    PgTensor *x = pg_ones(PG_F32, PG_SHAPE(2, 1)), *three = pg_ones(PG_F32, PG_SHAPE(3));
    CHECK_FATAL_TEXT(pg_layer_norm(x, three, NULL, 0), "layer_norm's weight: shape (3)");
    CHECK_FATAL_TEXT(pg_rms_norm(x, three, 0), "rms_norm's weight: shape (3) where x is (2, 1)");
    CHECK_FATAL_TEXT(pg_group_norm(x, 1, NULL, three, 0), "group_norm's bias: shape (3)");
    CHECK_FATAL_TEXT(pg_linear(x, pg_ones(PG_F32, PG_SHAPE(1, 1)), three), "linear's bias");
    PgTensor *image = pg_ones(PG_F32, PG_SHAPE(1, 1, 2, 2));
    CHECK_FATAL_TEXT(pg_conv2d(image, image, three, (PgConv){0}), "conv's bias: shape (3)");
    CHECK_FATAL_TEXT(
        pg_rope(pg_ones(PG_I32, PG_SHAPE(1, 2)), pg_arange(PG_I32, 0, 1, 1), 10, NULL, false),
        "rope: ");
    CHECK_FATAL_TEXT(pg_argmax(pg_ones(PG_F32, PG_SHAPE(2, 0)), 1, false), "has no elements");
    CHECK_FATAL_TEXT(pg_linspace(0, 1, -1), "linspace: a count of -1");
    PgTensor *part[2];
    CHECK_FATAL_TEXT(pg_split(three, 0, PG_SHAPE(-2, 5), part), "split: a size of -2");
    CHECK_FATAL_TEXT(pg_arange(PG_I64, 1 - INT64_MAX, INT64_MAX, 1), "beyond every memory");
    CHECK_FATAL_TEXT(pg_expand(three, PG_SHAPE(INT64_MAX / 2 + 1, 3)), "beyond every memory");
    pg_scope_end();
}

TEST(einsum_refuses) {
    pg_scope_begin();
    PgTensor *x = iota(PG_SHAPE(2, 3)), *two[] = {x, x};
    CHECK_FATAL_TEXT(pg_einsum("ij,jk->ik", 2, two),
                     "axis 0 of operand 1 of shape (2, 3) was 3 before");
    CHECK_FATAL_TEXT(pg_einsum("ijk->i", 1, two), "names 3 axes of operand 0");
    CHECK_FATAL_TEXT(pg_einsum("ij->iz", 1, two), "is in no operand");
    CHECK_FATAL_TEXT(pg_einsum("ij->ii", 1, two), "is named twice");
    CHECK_FATAL_TEXT(pg_einsum("ij", 2, two), "does not have 2 operands");
    CHECK_FATAL_TEXT(pg_einsum("ij,ij,ij", 2, two), "does not have 2 operands");
    CHECK_FATAL_TEXT(pg_einsum("i1->i", 1, two), "has '1' where a letter should be");
    CHECK_FATAL_TEXT(pg_einsum("ii->i", 1, two), "axis 1 of operand 0 of shape (2, 3)");
    CHECK_FATAL_TEXT(pg_einsum("i.->i", 1, two), "where a letter should be");
    CHECK_FATAL_TEXT(pg_einsum("", 0, two), "0 operands");
    pg_scope_end();
}

TEST(einsum_chooses_its_order) {
    pg_scope_begin();
    PgTensor *a = iota(PG_SHAPE(2, 30)), *b = iota(PG_SHAPE(30, 3)), *c = iota(PG_SHAPE(3, 4));
    PgTensor *d = iota(PG_SHAPE(4)), *x[] = {a, b, c, d};
    PgTensor *want = pg_matmul(pg_matmul(pg_matmul(a, b), c), d);
    PgTensor *got = pg_einsum("ab, bc, cd, d", 4, x);
    CHECK_VALUES(pg_div(got, want), 1, 1);
    PgTensor *same[] = {b, b};
    CHECK_VALUES(pg_einsum("ij,ij->", 2, same), 89 * 90 * 179 / 6);
    PgTensor *batch[] = {pg_reshape(iota(PG_SHAPE(8)), PG_SHAPE(2, 2, 2)), pg_eye(PG_F32, 2)};
    CHECK_VALUES(pg_einsum("...ij,jk", 2, batch), 0, 1, 2, 3, 4, 5, 6, 7);
    CHECK_VALUES(pg_einsum("...ii->...", 1, batch), 3, 11);
    CHECK_VALUES(pg_einsum("i...->...", 1, batch), 4, 6, 8, 10);
    pg_scope_end();
}

TEST(indices_outside) {
    pg_scope_begin();
    PgTensor *x = pg_add(iota(PG_SHAPE(3)), pg_scalar(1));
    PgTensor *index = pg_from_data(PG_I32, PG_SHAPE(4), (int32_t[]){2, -1, 3, 0});
    CHECK_VALUES(pg_gather(x, 0, index), 3, 0, 0, 1);
    CHECK_VALUES(pg_scatter_add(x, 0, index, pg_ones(PG_F32, PG_SHAPE(4))), 2, 2, 4);
    CHECK_VALUES(pg_index(iota(PG_SHAPE(2, 3)), 1, index), 2, 0, 0, 0, 5, 0, 0, 3);
    CHECK_FATAL_TEXT(pg_gather(x, 0, x), "Hint");
    CHECK_FATAL_TEXT(pg_embedding(x, index), "the table has shape (3)");
    CHECK_FATAL_TEXT(pg_max_pool2d(x, (int[]){1, 1}, (PgConv){0}), "shape (3) has no two axes");
    pg_scope_end();
}

TEST(bits) {
    pg_scope_begin();
    PgTensor *bytes = pg_from_data(PG_U8, PG_SHAPE(4), (uint8_t[]){0, 0x3c, 0, 0xc0});
    CHECK_VALUES(pg_bitcast(bytes, PG_F16), 1, -2);
    CHECK_VALUES(pg_bitcast(VECTOR(1), PG_I32), 0x3f800000);
    CHECK_SHAPE(pg_bitcast(VECTOR(1, 2), PG_U8), 8);
    CHECK_FATAL_TEXT(pg_bitcast(bytes, PG_I64), "bitcast");
    CHECK_VALUES(pg_not(pg_from_data(PG_I8, PG_SHAPE(2), (int8_t[]){0, 5})), -1, -6);
    CHECK_VALUES(pg_clamp(VECTOR(-5, 0.5f, 5), -1, 1), -1, 0.5, 1);
    CHECK_VALUES(pg_clamp(pg_from_data(PG_I8, PG_SHAPE(2), (int8_t[]){-128, 127}), -1, 1), -1, 1);
    pg_scope_end();
}

// A query that sees no key, NaN nowhere.
TEST(attention_without_keys) {
    pg_scope_begin();
    PgTensor *query = pg_ones(PG_F32, PG_SHAPE(1, 1, 2)), *none = pg_slice(query, 1, 0, 0, 1);
    CHECK_VALUES(pg_attention(query, none, none, (PgAttention){0}), 0, 0);
    PgTensor *q = iota(PG_SHAPE(1, 2, 2)), *k = iota(PG_SHAPE(1, 3, 2)),
             *v = iota(PG_SHAPE(1, 3, 1));
    bool see[] = {true, false, false, false, false, false};
    PgTensor *mask = pg_from_data(PG_BOOL, PG_SHAPE(2, 3), see);
    CHECK_VALUES(pg_attention(q, k, v, (PgAttention){.mask = mask}), 0, 0);
    PgTensor *added = pg_where(mask, pg_scalar(0), pg_scalar(-INFINITY));
    CHECK_VALUES(pg_attention(q, k, v, (PgAttention){.mask = added}), 0, 0);
    CHECK_VALUES(pg_attention(q, k, v, (PgAttention){.causal = true, .offset = -1}), 0, 0);
    CHECK_VALUES(pg_select(pg_attention(q, k, v, (PgAttention){.causal = true}), 1, 0), 0);
    CHECK_FATAL_TEXT(pg_attention(q, k, pg_transpose(v, 1, 2), (PgAttention){0}), "do not fit");
    pg_scope_end();
}

TEST(rope_turns_pairs) {
    pg_scope_begin();
    PgTensor *x = pg_reshape(VECTOR(1, 0, 0, 1, 1, 2, 3, 4), PG_SHAPE(2, 4));
    PgTensor *at = pg_from_data(PG_I64, PG_SHAPE(2), (int64_t[]){0, 3});
    double a = 3, b = 3 / sqrt(10000);
    CHECK_VALUES(pg_rope(x, at, 10000, NULL, true), 1, 0, 0, 1, cos(a) - 2 * sin(a),
                 2 * cos(a) + sin(a), 3 * cos(b) - 4 * sin(b), 4 * cos(b) + 3 * sin(b));
    CHECK_VALUES(pg_rope(x, at, 10000, NULL, false), 1, 0, 0, 1, cos(a) - 3 * sin(a),
                 2 * cos(b) - 4 * sin(b), 3 * cos(a) + sin(a), 4 * cos(b) + 2 * sin(b));
    CHECK_VALUES(pg_slice(pg_rope(x, at, 10000, VECTOR(2, 1), true), 0, 1, 2, 1),
                 cos(a / 2) - 2 * sin(a / 2), 2 * cos(a / 2) + sin(a / 2), 3 * cos(b) - 4 * sin(b),
                 4 * cos(b) + 3 * sin(b));
    CHECK_FATAL_TEXT(pg_rope(x, VECTOR(1), 10000, NULL, true), "positions of shape (1)");
    pg_scope_end();
}

static PgTensor *softmax(PgTensor *x) { return pg_softmax(x, 0); }
static PgTensor *norm(PgTensor *x) { return pg_layer_norm(x, x, x, 1e-5); }
static PgTensor *mean(PgTensor *x) { return pg_mean(x, PG_ALL_AXES, false); }
static PgTensor *prefixes(PgTensor *x) { return pg_cumsum(x, 0); }
static PgTensor *square(PgTensor *x) { return pg_matmul(pg_reshape(x, PG_SHAPE(1, -1)), x); }

// Computed in f32, rounded at the end.
TEST(half_types_round_once) {
    pg_scope_begin();
    PgType types[] = {PG_F16, PG_BF16};
    Unary *functions[] = {pg_tanh, pg_gelu, pg_gelu_tanh, pg_sigmoid, pg_cos, pg_exp,
                          pg_silu, softmax, norm,         mean,       square, prefixes};
    for (int t = 0; t < 2; t++) {
        PgTensor *x = pg_cast(pg_linspace(-10, 10, 600), types[t]);
        for (int i = 0; i < COUNT_OF(functions); i++) {
            PgTensor *got = functions[i](x), *want = functions[i](pg_cast(x, PG_F32));
            PgTensor *same = pg_eq(got, pg_cast(want, types[t]));
            if (functions[i] == square) {  // its products are rounded too
                PgTensor *error = pg_abs(pg_sub(pg_div(pg_cast(got, PG_F32), want), pg_scalar(1)));
                same = pg_lt(error, pg_scalar(types[t] == PG_F16 ? 1e-3 : 8e-3));
            }
            if (!pg_item_int(pg_all(same, PG_ALL_AXES, false))) fatal("function %d differs", i);
        }
        PgTensor *ones = pg_ones(types[t], PG_SHAPE(8192)), *zero = pg_zeros(types[t], PG_SHAPE(1));
        PgTensor *first = pg_zeros(PG_I64, PG_SHAPE(8192));
        CHECK_VALUES(pg_scatter_add(zero, 0, first, ones), 8192);
        CHECK_VALUES(pg_select(pg_cumsum(ones, 0), 0, -1), 8192);
        CHECK_FATAL_TEXT(pg_layer_norm(x, VECTOR(1), NULL, 0), "types");
        CHECK_FATAL_TEXT(pg_mse(x, VECTOR(1)), "mse: types");
    }
    pg_scope_end();
}

static void empty(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    PgTensor *none = pg_reshape(in[0], PG_SHAPE(3, 2, 0)), *loss, *slope;
    out[0] = pg_matmul(in[0], in[1]);
    out[1] = pg_mean(pg_mul(none, none), PG_AXES(0, 2), false);
    out[2] = pg_cumprod(none, 0);
    out[3] = pg_gather(in[0], 1, pg_zeros(PG_I64, PG_SHAPE(2, 1)));
    loss = pg_mean(pg_linear(in[0], pg_transpose(in[1], 0, 1), NULL), PG_ALL_AXES, false);
    pg_grad(loss, 1, in, &slope);
    out[4] = slope;
}

TEST(sums_of_nothing) {
    for (int mode = 0; mode < 2; mode++) {
        pg_scope_begin();
        pg_set_mode(mode ? PG_GRAPH : PG_EAGER);
        PgTensor *in[] = {iota(PG_SHAPE(2, 0)), iota(PG_SHAPE(0, 3))};
        PgTensor *out[5];
        PgFunction *function = pg_function(empty, NULL, 2, 5);
        CHECK_INT(pg_call(function, in, out), 0);
        CHECK_VALUES(out[0], 0, 0, 0, 0, 0, 0);
        CHECK_VALUES(out[1], NAN, NAN);
        CHECK_SHAPE(out[2], 3, 2, 0);
        CHECK_VALUES(out[3], 0, 0);
        CHECK_SHAPE(out[4], 2, 0);
        pg_function_free(function);
        pg_scope_end();
    }
}

TEST(half_types_compute) {
    pg_scope_begin();
    PgType types[] = {PG_F16, PG_BF16};
    Unary *functions[] = {pg_tanh, pg_round, pg_gelu, pg_sigmoid,
                          pg_cos,  pg_exp,   pg_silu, pg_floor};
    for (int t = 0; t < 2; t++) {
        PgTensor *x = pg_cast(VECTOR(-1.5f, 0.25f, 2), types[t]);
        for (int i = 0; i < COUNT_OF(functions); i++) {
            PgTensor *got = functions[i](x), *want = functions[i](VECTOR(-1.5f, 0.25f, 2));
            CHECK_INT(pg_type(got), types[t]);
            PgTensor *error = pg_abs(pg_sub(pg_cast(got, PG_F32), want));
            CHECK(pg_item(pg_max(error, PG_ALL_AXES, false)) < 0.03);
        }
        CHECK_VALUES(pg_softmax(pg_zeros(types[t], PG_SHAPE(4)), 0), .25, .25, .25, .25);
        CHECK_VALUES(pg_matmul(x, x), 6.3125);
        CHECK_VALUES(pg_pow(pg_abs(x), pg_cast(VECTOR(2, 2, 2), types[t])), 2.25, 0.0625, 4);
    }
    pg_scope_end();
}
