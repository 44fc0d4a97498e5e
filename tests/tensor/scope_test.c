/* scope_test.c - who owns a tensor, what is kept, what history is. */
#include "runtime/runtime.h"
#include "values.h"

#include <pthread.h>
#include <string.h>

TEST(a_scope_frees_its_buffers) {
    int64_t before = buffer_live_bytes();
    pg_scope_begin();
    PgTensor *x = iota(PG_SHAPE(100));
    CHECK_NEAR(pg_item(pg_sum(pg_mul(x, x), PG_ALL_AXES, false)), 328350, 0);
    CHECK(buffer_live_bytes() > before);
    pg_scope_end();
    CHECK_INT(buffer_live_bytes(), before);
}

TEST(what_is_kept_outlives_its_scope) {
    pg_scope_begin();
    PgTensor *kept;
    pg_scope_begin();
    PgTensor *x = VECTOR(1, 2, 3);
    kept = pg_keep(pg_slice(pg_add(x, x), 0, 1, PG_NONE, 1));
    pg_scope_end();
    CHECK_VALUES(kept, 4, 6);
    pg_scope_end();
}

TEST(two_kept_constants_are_two_memories) {
    pg_scope_begin();
    PgTensor *a = pg_keep(pg_zeros(PG_F32, PG_SHAPE(2))),
             *b = pg_keep(pg_zeros(PG_F32, PG_SHAPE(2)));
    pg_assign(a, pg_scalar(1));
    CHECK_VALUES(a, 1, 1);
    CHECK_VALUES(b, 0, 0);
    PgTensor *x = VECTOR(1, 2), *y = pg_mul(x, x);
    a = pg_keep(y), b = pg_keep(y);
    pg_assign(a, pg_scalar(7));
    CHECK_VALUES(b, 1, 4);
    CHECK_VALUES(y, 1, 4);
    pg_scope_end();
}

TEST(without_history_equal_results_are_two_memories) {
    pg_scope_begin();
    bool recorded = pg_no_grad(true);
    PgTensor *x = VECTOR(1, 2), *a = pg_add(x, x), *b = pg_add(x, x);
    pg_assign(a, pg_scalar(7));
    CHECK_VALUES(b, 2, 4);
    pg_no_grad(recorded);
    pg_scope_end();
}

TEST(history_reaches_into_scopes_around) {
    PgTensor *x = VECTOR(3), *square = pg_mul(x, x), *slope, *old;
    pg_scope_begin();
    PgTensor *loss = pg_sum(pg_mul(square, x), PG_ALL_AXES, false);
    pg_grad(loss, 1, &x, &slope);
    CHECK_VALUES(slope, 27);
    pg_scope_begin();
    pg_grad(pg_sum(slope, PG_ALL_AXES, false), 1, &x, &old);
    CHECK_VALUES(old, 18);
    pg_scope_end();
    pg_scope_end();
}

TEST(history_ends_at_keep_detach_and_no_grad) {
    pg_scope_begin();
    PgTensor *x = VECTOR(3), *slope;
    bool recorded = pg_no_grad(true);
    PgTensor *unrecorded = pg_mul(x, x);
    pg_no_grad(recorded);
    PgTensor *ended[] = {pg_keep(pg_mul(x, x)), pg_detach(pg_mul(x, x)), unrecorded};
    for (int i = 0; i < 3; i++) {
        pg_grad(pg_sum(pg_mul(ended[i], x), PG_ALL_AXES, false), 1, &x, &slope);
        CHECK_VALUES(slope, 9);
    }
    pg_scope_end();
}

TEST(a_long_history_needs_no_stack) {
    pg_scope_begin();
    PgTensor *x = VECTOR(1), *y = x, *slope;
    for (int i = 0; i < 3000; i++) y = pg_add(y, x);
    pg_scope_begin();
    pg_grad(pg_sum(y, PG_ALL_AXES, false), 1, &x, &slope);
    CHECK_VALUES(slope, 3001);
    pg_scope_end();
    pg_scope_end();
}

static void train_step(PgTensor *weight, PgTensor *x) {
    PgTensor *slope, *loss = pg_mse(pg_matmul(x, weight), pg_scalar(1));
    pg_grad(loss, 1, &weight, &slope);
    pg_sgd(weight, slope, NULL, pg_scalar(0.01), 0, 0);
}

TEST(a_training_loop_does_not_grow) {
    pg_scope_begin();
    PgTensor *weight = pg_keep(pg_zeros(PG_F32, PG_SHAPE(4, 3))), *x = iota(PG_SHAPE(2, 4));
    int64_t live = 0;
    for (int step = 0; step < 1000; step++) {
        pg_scope_begin();
        train_step(weight, x);
        pg_scope_end();
        if (step == 10) live = buffer_live_bytes();
    }
    CHECK_INT(buffer_live_bytes(), live);
    pg_scope_end();
}

static void *on_a_thread(void *result) {
    PgTensor *x = VECTOR(1, 2, 3);
    *(double *)result = pg_item(pg_sum(x, PG_ALL_AXES, false));
    return NULL;
}

TEST(every_thread_has_a_root_scope) {
    int64_t before = buffer_live_bytes();
    pthread_t threads[4];
    double results[4];
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, on_a_thread, &results[i]);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        CHECK_NEAR(results[i], 6, 0);
    }
    CHECK_INT(buffer_live_bytes(), before);
}

static void open_and_stop(void *unused) {
    (void)unused;
    pg_scope_begin();
    pg_scope_begin();
    pg_no_grad(true);
    pg_add(VECTOR(1, 2), VECTOR(1, 2, 3));
}

TEST(try_closes_scopes) {
    pg_scope_begin();
    int64_t before = buffer_live_bytes();
    CHECK_INT(pg_try(open_and_stop, NULL), -1);
    CHECK(strstr(pg_error(), "scope_test.c:") != NULL);
    CHECK(strstr(pg_error(), "add: shapes (2) and (3) do not fit") != NULL);
    CHECK_INT(buffer_live_bytes(), before);
    CHECK(!pg_no_grad(false));
    pg_scope_end();
}

static PgScope *object(float first, PgTensor **x) {
    pg_scope_begin();
    *x = pg_from_data(PG_F32, PG_SHAPE(2), (float[]){first, first + 1});
    return pg_scope_leave();
}

TEST(left_scopes_live_until_they_are_freed) {
    int64_t before = buffer_live_bytes();
    PgTensor *x, *y;
    PgScope *one = object(1, &x), *other = object(10, &y);
    pg_scope_begin();
    CHECK_VALUES(pg_add(x, y), 11, 13);
    pg_assign(x, pg_scalar(5));
    pg_scope_end();
    CHECK_VALUES(pg_sub(x, pg_scalar(0)), 5, 5);
    pg_scope_free(one);
    pg_scope_begin();
    CHECK_VALUES(pg_add(y, y), 20, 22);
    pg_scope_end();
    pg_scope_free(other);
    pg_scope_free(NULL);
    CHECK(buffer_live_bytes() <= before + 64);  // the root's own sum
    CHECK_FATAL_TEXT(pg_scope_leave(), "no scope is open");
}

TEST(scope_end_without_begin) { CHECK_FATAL_TEXT(pg_scope_end(), "no scope is open"); }
