/* trace_test.c - traced functions: what is traced when, what they capture, what they change. */
#include "runtime/runtime.h"
#include "values.h"

#include <math.h>
#include <string.h>

static void affine(void *context, PgTensor **in, PgTensor **out) {
    PgTensor *weight = *(PgTensor **)context;
    out[0] = pg_add(pg_mul(in[0], weight), pg_scalar(1));
}

static PgFunction *begin(PgMode mode, PgFunctionBody *body, void *context, int inputs,
                         int outputs) {
    pg_set_mode(mode);
    pg_scope_begin();
    return pg_function(body, context, inputs, outputs);
}

static void end(PgFunction *function) {
    pg_function_free(function);
    pg_scope_end();
}

// Runs a test's body in both modes.
#define BOTH(name)                         \
    static void name(PgMode mode);         \
    TEST(name##_eager) { name(PG_EAGER); } \
    TEST(name##_graph) { name(PG_GRAPH); } \
    static void name(PgMode mode)

BOTH(captured_tensors_are_read_at_each_call) {
    PgTensor *weight = NULL, *out;
    PgFunction *function = begin(mode, affine, &weight, 1, 1);
    weight = VECTOR(2, 3);
    PgTensor *x = VECTOR(10, 20);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(pg_call(function, &x, &out), 0);
        CHECK_VALUES(out, 10 * (2 + i) + 1, 20 * (3 + i) + 1);
        pg_assign(weight, pg_add(weight, pg_scalar(1)));
    }
    CHECK_INT(pg_function_traces(function), mode == PG_GRAPH);
    end(function);
}

TEST(a_new_shape_or_type_retraces) {
    PgTensor *weight = NULL, *out;
    PgFunction *function = begin(PG_GRAPH, affine, &weight, 1, 1);
    weight = pg_scalar(2);
    PgTensor *inputs[] = {VECTOR(1, 2), VECTOR(3, 4), VECTOR(1, 2, 3), VECTOR(5, 6)};
    int traces[] = {1, 1, 2, 2};
    for (int i = 0; i < 4; i++) {
        CHECK_INT(pg_call(function, &inputs[i], &out), 0);
        CHECK_INT(pg_function_traces(function), traces[i]);
    }
    CHECK_VALUES(out, 11, 13);
    end(function);
}

static void count_and_add(void *context, PgTensor **in, PgTensor **out) {
    PgTensor *count = context;
    pg_assign(count, pg_add(count, pg_scalar(1)));
    out[0] = pg_add(in[0], count);
    pg_assign(count, pg_mul(count, pg_scalar(2)));
    out[1] = pg_reshape(count, PG_SHAPE(1));
}

BOTH(assignments_happen_at_every_call_in_order) {
    pg_scope_begin();
    PgTensor *count = pg_keep(pg_zeros(PG_F32, PG_SCALAR)), *out[2];
    PgFunction *function = begin(mode, count_and_add, count, 1, 2);
    PgTensor *x = VECTOR(10, 20);
    double expected = 0;
    for (int i = 0; i < 3; i++) {
        CHECK_INT(pg_call(function, &x, out), 0);
        expected++;
        CHECK_VALUES(out[0], 10 + expected, 20 + expected);
        expected *= 2;
        CHECK_VALUES(out[1], expected);
        CHECK_VALUES(count, expected);
    }
    end(function);
    CHECK_VALUES(count, expected);
    pg_scope_end();
}

static void shift_in(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    pg_assign(pg_slice(in[0], 0, 1, PG_NONE, 1), pg_slice(in[0], 0, 0, -1, 1));
    out[0] = pg_sum(in[0], PG_ALL_AXES, false);
}

BOTH(an_input_may_be_assigned_to) {
    PgFunction *function = begin(mode, shift_in, NULL, 1, 1);
    PgTensor *x = iota(PG_SHAPE(4)), *view = pg_flip(x, PG_AXES(0)), *out;
    CHECK_INT(pg_call(function, &x, &out), 0);
    CHECK_VALUES(out, 3);
    CHECK_VALUES(x, 0, 0, 1, 2);
    CHECK_VALUES(view, 2, 1, 0, 0);
    end(function);
}

TEST(an_assigned_input_must_be_memory) {
    PgFunction *function = begin(PG_GRAPH, shift_in, NULL, 1, 1);
    PgTensor *x = iota(PG_SHAPE(4)), *sum = pg_add(x, x), *out;
    CHECK_FATAL_TEXT(pg_call(function, &sum, &out), "Hint: pg_keep it first");
    end(function);
}

static void append(void *context, PgTensor **in, PgTensor **out) {
    PgTensor *cache = context;
    int64_t start = pg_var("start", 0, 6), end_of = pg_size_add(start, 2);
    pg_assign(pg_slice(cache, 0, start, end_of, 1), in[0]);
    PgTensor *seen = pg_slice(cache, 0, PG_NONE, end_of, 1);
    out[0] = pg_mean(seen, PG_ALL_AXES, false);
    out[1] = pg_mul(seen, pg_cast(pg_from_size(end_of), PG_F32));
    out[2] = pg_arange(PG_I64, start, end_of, 1);
}

BOTH(sizes_and_positions_change_between_calls) {
    pg_scope_begin();
    PgTensor *cache = pg_keep(pg_zeros(PG_F32, PG_SHAPE(8))), *out[3];
    PgFunction *function = begin(mode, append, cache, 1, 3);
    for (int step = 0; step < 3; step++) {
        PgTensor *x = VECTOR(1, 3);
        pg_bind("start", 2 * step);
        CHECK_INT(pg_call(function, &x, out), 0);
        CHECK_VALUES(out[0], 2);
        CHECK_SHAPE(out[1], 2 * step + 2);
        CHECK_VALUES(pg_slice(out[1], 0, -2, PG_NONE, 1), 2 * step + 2, 3 * (2 * step + 2));
        CHECK_VALUES(out[2], 2 * step, 2 * step + 1);
    }
    CHECK_INT(pg_function_traces(function), mode == PG_GRAPH);
    PgTensor *x = VECTOR(1, 3);
    pg_bind("start", 7);
    CHECK_FATAL_TEXT(pg_call(function, &x, out), "start is bound to 7, outside 0..6");
    end(function);
    pg_scope_end();
}

TEST(an_unbound_var) { CHECK_FATAL_TEXT(pg_var("nobody", 0, 1), "Hint: pg_bind(\"nobody\""); }

static void train(void *context, PgTensor **in, PgTensor **out) {
    PgTensor **weights = context, *slope[2];
    PgTensor *hidden = pg_relu(pg_matmul(in[0], weights[0]));
    out[0] = pg_mse(pg_matmul(hidden, weights[1]), in[1]);
    pg_grad(out[0], 2, weights, slope);
    for (int i = 0; i < 2; i++) pg_sgd(weights[i], slope[i], NULL, pg_scalar(0.01), 0, 0);
}

BOTH(training_steps) {
    pg_scope_begin();
    PgTensor *weights[2], *out;
    weights[0] = pg_keep(pg_mul(pg_sub(iota(PG_SHAPE(3, 4)), pg_scalar(5)), pg_scalar(0.1)));
    weights[1] = pg_keep(pg_mul(pg_sub(iota(PG_SHAPE(4, 1)), pg_scalar(2)), pg_scalar(0.2)));
    PgFunction *function = begin(mode, train, weights, 2, 1);
    PgTensor *in[] = {iota(PG_SHAPE(2, 3)), vector(2, (float[]){1, -1})};
    in[1] = pg_reshape(in[1], PG_SHAPE(2, 1));
    double last = 1e9, loss = 0;
    for (int step = 0; step < 20; step++) {
        CHECK_INT(pg_call(function, in, &out), 0);
        loss = pg_item(out);
        CHECK(loss < last);
        last = loss;
    }
    CHECK_NEAR(loss, 0.968285, 1e-5);
    end(function);
    pg_scope_end();
}

static void reads_a_value(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = pg_scalar(pg_item(in[0]));
}

static void prints(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    pg_print(out[0] = in[0]);
}

static void keeps(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = pg_keep(in[0]);
}

static void draws(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = pg_add(in[0], pg_rand(NULL, PG_SCALAR));
}

static void leaves_scopes_open(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    pg_scope_begin();
    out[0] = in[0];
}

static void sets_nothing(void *context, PgTensor **in, PgTensor **out) {
    (void)context, (void)in, (void)out;
}

TEST(what_a_trace_forbids) {
    const struct {
        PgFunctionBody *body;
        const char *message;
    } rows[] = {
        {reads_a_value, "item: this function is being traced"},
        {prints, "print: this function is being traced"},
        {keeps, "keep: this function is being traced"},
        {draws, "every call would draw the same numbers"},
        {leaves_scopes_open, "left a scope open"},
        {sets_nothing, "left out[0] unset"},
    };
    for (int i = 0; i < COUNT_OF(rows); i++) {
        PgFunction *function = begin(PG_GRAPH, rows[i].body, NULL, 1, 1);
        PgTensor *x = pg_from_data(PG_F32, PG_SCALAR, (float[]){1}), *out;
        int64_t live = buffer_live_bytes();
        CHECK_FATAL_TEXT(pg_call(function, &x, &out), rows[i].message);
        CHECK(i > 3 || strstr(pg_error(), "trace_test.c:") != NULL);
        CHECK_INT(buffer_live_bytes(), live);
        CHECK_NEAR(pg_item(pg_add(x, x)), 2, 0);
        end(function);
    }
}

static void scoped(void *context, PgTensor **in, PgTensor **out) {
    PgTensor *x = in[0];
    for (int i = 0; i < *(int *)context; i++) {
        pg_scope_begin();
        x = pg_keep(pg_mul(x, pg_scalar(2)));
        pg_scope_end();
    }
    out[0] = x;
}

static void calls_another(void *context, PgTensor **in, PgTensor **out) {
    CHECK_INT(pg_call(context, in, out), 0);
    out[0] = pg_add(out[0], in[0]);
}

BOTH(functions_nest_and_scopes_too) {
    int times = 3;
    PgFunction *inner = begin(mode, scoped, &times, 1, 1);
    PgFunction *outer = pg_function(calls_another, inner, 1, 1);
    PgTensor *x = VECTOR(1, 2), *out;
    CHECK_INT(pg_call(outer, &x, &out), 0);
    CHECK_VALUES(out, 9, 18);
    CHECK_INT(pg_function_traces(inner), 0);
    pg_function_free(outer);
    end(inner);
}

static void hands_back(void *context, PgTensor **in, PgTensor **out) {
    out[0] = in[0];
    out[1] = context;
    out[2] = pg_ones(PG_F32, PG_SHAPE(2));
}

BOTH(results_are_tensors_of_their_own) {
    pg_scope_begin();
    PgTensor *captured = VECTOR(5, 6), *out[3];
    PgFunction *function = begin(mode, hands_back, captured, 1, 3);
    PgTensor *x = VECTOR(1, 2);
    CHECK_INT(pg_call(function, &x, out), 0);
    for (int i = 0; i < 3; i++) pg_assign(out[i], pg_scalar(9));
    CHECK_VALUES(x, 1, 2);
    CHECK_VALUES(captured, 5, 6);
    CHECK_VALUES(out[2], 9, 9);
    end(function);
    pg_scope_end();
}

BOTH(results_have_no_history) {
    PgTensor *weight = NULL, *out, *slope;
    PgFunction *function = begin(mode, affine, &weight, 1, 1);
    weight = VECTOR(2, 3);
    PgTensor *x = VECTOR(1, 1);
    CHECK_INT(pg_call(function, &x, &out), 0);
    pg_grad(pg_sum(pg_mul(out, x), PG_ALL_AXES, false), 1, &x, &slope);
    CHECK_VALUES(slope, 3, 4);
    end(function);
}

BOTH(captured_memory_outlives_its_scope) {
    int64_t live = buffer_live_bytes();
    PgTensor *weight = NULL, *out;
    PgFunction *function = begin(mode, affine, &weight, 1, 1);
    PgTensor *x = VECTOR(1, 2);
    pg_scope_begin();
    weight = VECTOR(2, 3);
    CHECK_INT(pg_call(function, &x, &out), 0);
    CHECK_VALUES(out, 3, 7);
    pg_scope_end();
    if (mode == PG_GRAPH) {
        CHECK_INT(pg_call(function, &x, &out), 0);
        CHECK_VALUES(out, 3, 7);
    }
    end(function);
    CHECK_INT(buffer_live_bytes(), live);
}

static void empties(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = pg_slice(in[0], 0, 0, 0, 1);
    out[1] = pg_sum(out[0], PG_ALL_AXES, false);
}

BOTH(empty_tensors) {
    PgFunction *function = begin(mode, empties, NULL, 1, 2);
    PgTensor *x = VECTOR(1, 2), *out[2];
    CHECK_INT(pg_call(function, &x, out), 0);
    CHECK_SHAPE(out[0], 0);
    CHECK_VALUES(out[1], 0);
    end(function);
}

enum { STEPS = 5000 };
static void chain(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = in[0];
    for (int i = 0; i < STEPS; i++) out[0] = pg_sin(pg_add(out[0], in[0]));
}

TEST(a_long_chain_is_several_kernels) {
    PgFunction *function = begin(PG_GRAPH, chain, NULL, 1, 1);
    PgTensor *x = VECTOR(1, -0.5f), *out;
    float wanted[] = {1, -0.5f};
    for (int i = 0; i < STEPS; i++)
        for (int j = 0; j < 2; j++) wanted[j] = sinf(wanted[j] + (j ? -0.5f : 1));
    CHECK_INT(pg_call(function, &x, &out), 0);
    CHECK_NEAR(pg_item(pg_select(out, 0, 0)), wanted[0], 1e-4);
    CHECK_NEAR(pg_item(pg_select(out, 0, 1)), wanted[1], 1e-4);
    end(function);
}
