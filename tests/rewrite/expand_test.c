/* expand_test.c - the polynomials against the math library in double, over dense samples. */
#include "ir/scalar.h"
#include "rewrite/rewrite.h"
#include "runtime/runtime.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLES = 1 << 14 };

static float input[SAMPLES], output[SAMPLES];

static void *input_memory(void *context, int64_t number) {
    (void)context, (void)number;
    return input;
}

static const Binding binding = {.param = input_memory};

// output[i] = op(input[i]), through the expansion.
static int run(Op op, DType dtype) {
    Arena *arena = arena_new();
    Graph *graph = graph_new(arena);
    Id x = node_param(graph, DT_F32, shape_of(1, (int64_t)SAMPLES), 0);
    if (dtype != DT_F32) x = node_cast(graph, x, dtype);
    Id root = node_unary(graph, op, x);
    if (dtype != DT_F32) root = node_cast(graph, root, DT_F32);
    Graph *expanded = rewrite(arena, graph, rules(RULES_EXPAND), 1, &root, &root);
    graph_verify(expanded, 1, &root);
    int count = 0;
    for (Id id = 0; id < graph_count(expanded); id++) {
        Op made = (Op)graph_node(expanded, id)->op;
        CHECK(made != OP_EXP2 && made != OP_LOG2 && made != OP_SIN);
        count += (ops[made].properties & MAPS) != 0;
    }
    reference_run(expanded, root, &binding, output);
    arena_free(arena);
    return count;
}

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// Samples [first, last] by their bits, evenly.
static void sample_bits(uint32_t first, uint32_t last) {
    for (int64_t i = 0; i < SAMPLES; i++)
        input[i] = from_bits((uint32_t)(first + i * (int64_t)(last - first) / (SAMPLES - 1)));
}

// Distance in units in the last place of `got`, which is near; of the least normal for denormals.
static double units(float got, double wanted) {
    float rounded = (float)wanted;
    if (got == rounded || (got != got && wanted != wanted)) return 0;
    if (!isfinite(got) || !isfinite(rounded)) return 1e9;
    int exponent;
    frexp(wanted, &exponent);
    return fabs((double)got - wanted) / ldexp(1, (exponent < -125 ? -125 : exponent) - 24);
}

static double worst(double (*truth)(double)) {
    double largest = 0;
    for (int i = 0; i < SAMPLES; i++) {
        double error = units(output[i], truth((double)input[i]));
        if (error > largest) largest = error;
    }
    return largest;
}

static double worst_over(Op op, double (*truth)(double), uint32_t first, uint32_t last) {
    sample_bits(first, last);
    run(op, DT_F32);
    return worst(truth);
}

static double worst_between(Op op, double (*truth)(double), double low, double high) {
    for (int i = 0; i < SAMPLES; i++) input[i] = (float)(low + (high - low) * i / (SAMPLES - 1));
    run(op, DT_F32);
    return worst(truth);
}

static float one(Op op, float x) {
    input[0] = x;
    run(op, DT_F32);
    return output[0];
}

TEST(exp2_is_within_2_units) {
    CHECK(worst_between(OP_EXP2, exp2, -1, 1) < 1.7);
    CHECK(worst_between(OP_EXP2, exp2, -126, 128) < 1.7);
    CHECK(worst_between(OP_EXP2, exp2, -20, 0) < 1.7);
    CHECK(worst_between(OP_EXP2, exp2, -160, -120) < 1.7);
    CHECK(worst_over(OP_EXP2, exp2, 0, 0x7f800000) < 1.7);
    CHECK(worst_over(OP_EXP2, exp2, 0x80000000, 0xff800000) < 1.7);
}

TEST(exp2_is_exact_where_it_matters) {
    for (int i = 0; i < SAMPLES; i++) input[i] = (float)(i % 400 - 200);
    run(OP_EXP2, DT_F32);
    for (int i = 0; i < 400; i++) CHECK_NEAR((double)output[i], (double)(float)exp2(i - 200), 0);
    CHECK_NEAR((double)one(OP_EXP2, INFINITY), INFINITY, 0);
    CHECK_NEAR((double)one(OP_EXP2, -INFINITY), 0, 0);
    CHECK(isnan(one(OP_EXP2, NAN)) && isnan(one(OP_EXP2, from_bits(0x7fc001ff))));
    CHECK_NEAR((double)one(OP_EXP2, 3e38f), INFINITY, 0);
    CHECK_NEAR((double)one(OP_EXP2, -3e38f), 0, 0);
}

TEST(exp2_takes_few_ops) { CHECK_INT(run(OP_EXP2, DT_F32), 19); }

TEST(log2_is_within_2_units) {
    CHECK(worst_between(OP_LOG2, log2, 0.5, 2) < 1.5);
    CHECK(worst_between(OP_LOG2, log2, 0.99, 1.01) < 1.5);
    CHECK(worst_over(OP_LOG2, log2, 1, 0x00ffffff) < 1.5);
    CHECK(worst_over(OP_LOG2, log2, 1, 0x7f800000) < 1.5);
}

TEST(log2_of_what_has_none) {
    CHECK_NEAR((double)one(OP_LOG2, 0), -INFINITY, 0);
    CHECK_NEAR((double)one(OP_LOG2, -0.0f), -INFINITY, 0);
    CHECK_NEAR((double)one(OP_LOG2, INFINITY), INFINITY, 0);
    CHECK_NEAR((double)one(OP_LOG2, 1), 0, 0);
    CHECK_NEAR((double)one(OP_LOG2, 0x1p-149f), -149, 0);
    CHECK(isnan(one(OP_LOG2, -1)) && isnan(one(OP_LOG2, -INFINITY)) && isnan(one(OP_LOG2, NAN)));
    CHECK(isnan(one(OP_LOG2, -0x1p-140f)));
}

TEST(sin_is_within_2_units) {
    CHECK(worst_between(OP_SIN, sin, -4, 4) < 2.2);
    CHECK(worst_between(OP_SIN, sin, -1000, 1000) < 2.2);
    CHECK(worst_between(OP_SIN, sin, 0, 1e5) < 2.2);
    CHECK(worst_over(OP_SIN, sin, 0, bits_of(1e5f)) < 2.2);
}

TEST(sin_near_multiples_of_pi) {
    for (int i = 0; i < SAMPLES; i++) {
        float near = (float)(3.14159265358979323846 * (i / 3 + 1) / 2);
        input[i] = i % 3 == 0 ? near : nextafterf(near, i % 3 == 1 ? 0 : INFINITY);
    }
    run(OP_SIN, DT_F32);
    CHECK(worst(sin) < 2.2);
}

TEST(sin_of_large_arguments) {
    for (int i = 0; i < SAMPLES; i++) input[i] = (float)(i * 608.0);
    run(OP_SIN, DT_F32);
    for (int i = 0; i < SAMPLES; i++)
        CHECK_NEAR((double)output[i], sin((double)input[i]), input[i] < 1e6f ? 2e-7 : 1e-5);
    CHECK_NEAR((double)one(OP_SIN, 1e20f), 0, 0);
    CHECK(isnan(one(OP_SIN, INFINITY)) && isnan(one(OP_SIN, NAN)));
    CHECK(signbit(one(OP_SIN, -0.0f)) && !signbit(one(OP_SIN, 0.0f)));
}

TEST(short_floats_round_once) {
    for (int i = 0; i < SAMPLES; i++) input[i] = f16_widen((uint16_t)(4 * i + i % 4));
    run(OP_EXP2, DT_F16);
    for (int i = 0; i < SAMPLES; i++) {
        float wanted = f16_widen(f16_round((float)exp2((double)input[i])));
        CHECK(output[i] == wanted || (output[i] != output[i] && wanted != wanted) ||
              fabsf(output[i] - wanted) <= fabsf(wanted) * 0x1p-10f);
    }
}

TEST(kernel_expressions_expand_too) {
    Arena *arena = arena_new();
    Graph *graph = graph_new(arena);
    Index at = index_atom(graph_indices(graph), ATOM_LOOP, 0, 0, 9);
    Id load = node_make(graph, OP_LOAD, DT_F32, (Shape){0}, 0, NULL, 2, (int64_t[]){0, at});
    Id root = node_unary(graph, OP_EXP2, load);
    Graph *expanded = rewrite(arena, graph, rules(RULES_EXPAND), 1, &root, &root);
    CHECK_INT(graph_node(expanded, root)->op, OP_MUL);
    CHECK_INT(graph_node(expanded, root)->rank, 0);
    arena_free(arena);
}

TEST(products_in_sums_round_once) {
    Arena *arena = arena_new();
    Kernel *kernel = kernel_parse(arena, "test",
                                  "kernel t\nin x f32[4]\nin n i32[4]\nout y f32[4]\nout m i32[4]\n"
                                  "for i < 4 { y[i] = (add (mul x[i] x[i]) (add 3 (mul x[i] 2)))\n"
                                  "m[i] = (add (mul n[i] n[i]) 1:i32) }");
    expand_kernel(kernel);
    char *text = kernel_print(arena, kernel);
    CHECK(strstr(text, "y[i] = (fma x[i] x[i] (fma x[i] 2 3))") != NULL);
    CHECK(strstr(text, "m[i] = (add (mul n[i] n[i]) 1:i32)") != NULL);
    arena_free(arena);
}
