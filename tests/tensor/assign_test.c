/* assign_test.c - writing in place: who sees it, and what it forbids. */
#include "values.h"

TEST(views_read_the_new_bytes) {
    pg_scope_begin();
    PgTensor *x = iota(PG_SHAPE(2, 3)), *row = pg_select(x, 0, 1), *turned = pg_transpose(x, 0, 1);
    pg_assign(row, pg_scalar(9));
    CHECK_VALUES(x, 0, 1, 2, 9, 9, 9);
    CHECK_VALUES(row, 9, 9, 9);
    CHECK_VALUES(turned, 0, 9, 1, 9, 2, 9);
    pg_assign(pg_slice(turned, 0, 0, 1, 1), VECTOR(5, 6));
    CHECK_VALUES(x, 5, 1, 2, 6, 9, 9);
    CHECK_VALUES(row, 6, 9, 9);
    pg_scope_end();
}

TEST(views_of_scopes_around_too) {
    pg_scope_begin();
    PgTensor *x = iota(PG_SHAPE(4)), *half = pg_slice(x, 0, 2, PG_NONE, 1);
    for (int i = 1; i < 4; i++) {
        pg_scope_begin();
        pg_assign(half, pg_scalar(10 * i));
        CHECK_VALUES(x, 0, 1, 10 * i, 10 * i);
        pg_scope_end();
        CHECK_VALUES(x, 0, 1, 10 * i, 10 * i);
    }
    pg_scope_end();
}

TEST(flipped_and_permuted_views_are_written_to) {
    pg_scope_begin();
    PgTensor *x = pg_keep(pg_zeros(PG_F32, PG_SHAPE(2, 2)));
    pg_assign(pg_flip(pg_transpose(x, 0, 1), PG_AXES(0)), iota(PG_SHAPE(2, 2)));
    CHECK_VALUES(x, 2, 0, 3, 1);
    pg_scope_end();
}

TEST(a_value_may_read_what_it_overwrites) {
    pg_scope_begin();
    PgTensor *x = iota(PG_SHAPE(5));
    pg_assign(pg_slice(x, 0, 1, PG_NONE, 1), pg_slice(x, 0, 0, 4, 1));
    CHECK_VALUES(x, 0, 0, 1, 2, 3);
    pg_assign(x, pg_flip(x, PG_AXES(0)));
    CHECK_VALUES(x, 3, 2, 1, 0, 0);
    pg_assign(x, pg_add(x, x));
    CHECK_VALUES(x, 6, 4, 2, 0, 0);
    pg_scope_end();
}

TEST(results_keep_the_old_value) {
    pg_scope_begin();
    PgTensor *x = VECTOR(1, 2), *square = pg_mul(x, x), *copy = pg_contiguous(x);
    pg_assign(x, pg_scalar(5));
    CHECK_VALUES(square, 1, 4);
    CHECK_VALUES(copy, 1, 2);
    CHECK_VALUES(pg_mul(x, x), 25, 25);
    pg_scope_end();
}

TEST(gradients_do_not_flow_through_assign) {
    pg_scope_begin();
    PgTensor *x = VECTOR(2, 3), *state = pg_keep(pg_zeros(PG_F32, PG_SHAPE(2))), *slope;
    pg_assign(state, pg_mul(x, x));
    CHECK_FATAL_TEXT(pg_grad(pg_sum(state, PG_ALL_AXES, false), 1, &x, &slope), "Hint");
    state = pg_keep(pg_zeros(PG_F32, PG_SHAPE(2)));
    pg_assign(state, pg_detach(pg_mul(x, x)));
    pg_grad(pg_sum(pg_mul(state, x), PG_ALL_AXES, false), 1, &x, &slope);
    CHECK_VALUES(slope, 4, 9);
    pg_scope_end();
}

TEST(gradient_of_a_value_that_has_moved_on) {
    pg_scope_begin();
    PgTensor *w = VECTOR(1, 2), *x = VECTOR(3, 4), *slope;
    PgTensor *loss = pg_sum(pg_mul(w, x), PG_ALL_AXES, false);
    pg_assign(w, pg_scalar(0));
    CHECK_FATAL_TEXT(pg_grad(loss, 1, &x, &slope), "Hint: call pg_grad before pg_assign");
    pg_scope_end();
}

TEST(gradient_by_a_tensor_replaced_since) {
    pg_scope_begin();
    PgTensor *w = VECTOR(1, 2), *slope;
    PgTensor *loss = pg_sum(pg_mul(w, w), PG_ALL_AXES, false);
    pg_assign(w, pg_scalar(0));
    CHECK_FATAL_TEXT(pg_grad(loss, 1, &w, &slope), "Hint: call pg_grad before pg_assign");
    pg_scope_end();
}

TEST(what_cannot_be_assigned_to) {
    pg_scope_begin();
    PgTensor *x = VECTOR(1, 2), *y = pg_add(x, x);
    CHECK_FATAL_TEXT(pg_assign(y, x), "Hint: pg_keep it first");
    CHECK_FATAL_TEXT(pg_assign(pg_scalar(1), x), "Hint");
    CHECK_FATAL_TEXT(pg_assign(x, VECTOR(1, 2, 3)), "(2) and (3)");
    CHECK_FATAL_TEXT(pg_assign(x, pg_zeros(PG_F32, PG_SHAPE(2, 2))), "does not fit into (2)");
    CHECK_FATAL_TEXT(pg_assign(pg_expand(x, PG_SHAPE(3, 2)), x), "expand");
    CHECK_FATAL_TEXT(pg_assign(x, pg_zeros(PG_I32, PG_SHAPE(2))), "types i32 and f32 differ");
    static const float fixed[2 + 64 / 4] = {1, 2};
    PgTensor *wrapped = pg_wrap(PG_F32, PG_SHAPE(2), fixed, 64, NULL, NULL);
    CHECK_VALUES(wrapped, 1, 2);
    CHECK_FATAL_TEXT(pg_assign(wrapped, x), "read-only");
    CHECK_VALUES(x, 1, 2);
    pg_scope_end();
}

static void double_first(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    pg_assign(in[0], pg_mul(in[1], pg_scalar(2)));
    out[0] = pg_add(in[0], pg_scalar(0));
}

// Compiled code takes its inputs for different memory; where they are not, it says so.
TEST(assign_refuses_one_input_under_two_names) {
    if (pg_mode() == PG_EAGER) SKIP("there is no compiler");
    PgTensor *x = pg_keep(pg_ones(PG_F32, PG_SHAPE(8))), *in[2] = {x, x}, *out[1];
    PgFunction *function = pg_function(double_first, NULL, 2, 1);
    CHECK_FAIL(pg_call(function, in, out), "under another name");
    in[1] = pg_keep(pg_full(PG_F32, PG_SHAPE(8), 3));
    CHECK_INT(pg_call(function, in, out), 0);
    CHECK_NEAR(pg_item(pg_select(out[0], 0, 7)), 6, 0);
    pg_function_free(function);
}
