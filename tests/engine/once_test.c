/* once_test.c - weights are laid out once, for all functions that read them. */
#include "engine/compiled.h"
#include "../tensor/values.h"

#include <pthread.h>

enum { OUT = 64, IN = 32 };

static void apply(void *weight, PgTensor **in, PgTensor **out) {
    out[0] = pg_linear(in[0], weight, NULL);
}

// y = W x for several rows of x, which a step for one row and one for eight read alike.
static void check_rows(PgFunction *function, PgTensor *weight, int64_t rows) {
    float x[8 * IN], got[8 * OUT], wanted[8 * OUT];
    PgTensor *out;
    for (int i = 0; i < rows * IN; i++) x[i] = (float)(i % 11) - 5;
    PgTensor *input = pg_from_data(PG_F32, PG_SHAPE(rows, IN), x);
    CHECK_INT(pg_call(function, &input, &out), 0);
    pg_to_host(out, got, sizeof *got * (size_t)(rows * OUT));
    pg_to_host(pg_linear(input, weight, NULL), wanted, sizeof *wanted * (size_t)(rows * OUT));
    for (int i = 0; i < rows * OUT; i++) CHECK(got[i] == wanted[i]);  // small integers: exact
}

TEST(a_weight_is_laid_out_once_for_all_that_read_it) {
    static float data[OUT * IN + 16];
    if (pg_mode() != PG_GRAPH) SKIP("there is no C compiler");
    for (int i = 0; i < OUT * IN; i++) data[i] = (float)(i % 7) - 3;
    pg_scope_begin();
    PgTensor *weight = pg_wrap(PG_F32, PG_SHAPE(OUT, IN), data, 64, NULL, NULL);
    PgFunction *function = pg_function(apply, weight, 1, 1);
    int64_t before = once_live_bytes();
    pg_scope_begin();
    check_rows(function, weight, 1);
    pg_scope_end();
    CHECK_INT(once_live_bytes() - before, OUT * IN * (int64_t)sizeof(float));
    pg_scope_begin();
    check_rows(function, weight, 8);
    check_rows(function, weight, 3);
    pg_scope_end();
    CHECK_INT(once_live_bytes() - before, OUT * IN * (int64_t)sizeof(float));
    pg_function_free(function);
    CHECK_INT(once_live_bytes() - before, 0);
    pg_scope_end();
}

// ---- several threads ---------------------------------------------------------------------------

enum { THREADS = 3, ROUNDS = 4 };
static float shared[OUT * IN + 16], own[THREADS][OUT * IN + 16];

typedef struct {
    float *data;
    int wrong;
} Job;

// A matrix that all threads have and one of this thread's own, by steps for one row and for eight.
static void use(Job *job, float *data) {
    float x[8 * IN], got[8 * OUT];
    pg_scope_begin();
    for (int i = 0; i < 8 * IN; i++) x[i] = (float)(i % 11) - 5;
    PgTensor *weight = pg_wrap(PG_F32, PG_SHAPE(OUT, IN), data, 64, NULL, NULL);
    PgFunction *function = pg_function(apply, weight, 1, 1);
    for (int64_t rows = 1; rows <= 8; rows += 7) {
        PgTensor *input = pg_from_data(PG_F32, PG_SHAPE(rows, IN), x), *out;
        job->wrong += pg_call(function, &input, &out) != 0;
        pg_to_host(out, got, sizeof *got * (size_t)(rows * OUT));
        for (int i = 0; i < rows * OUT; i++) {
            float sum = 0;
            for (int k = 0; k < IN; k++) sum += x[i / OUT * IN + k] * data[i % OUT * IN + k];
            job->wrong += got[i] != sum;
        }
    }
    pg_function_free(function);
    pg_scope_end();
}

static void *work(void *job) {
    for (int round = 0; round < ROUNDS; round++) {
        use(job, shared);
        use(job, ((Job *)job)->data);
    }
    return NULL;
}

TEST(threads_lay_weights_out_at_once) {
    pthread_t thread[THREADS];
    Job job[THREADS];
    if (pg_mode() != PG_GRAPH) SKIP("there is no C compiler");
    int64_t before = once_live_bytes();
    for (int i = 0; i < OUT * IN; i++) shared[i] = (float)(i % 7) - 3;
    for (int t = 0; t < THREADS; t++) {
        for (int i = 0; i < OUT * IN; i++) own[t][i] = (float)(i % (5 + t)) - 2;
        job[t] = (Job){own[t], 0};
        CHECK_INT(pthread_create(&thread[t], NULL, work, &job[t]), 0);
    }
    for (int t = 0; t < THREADS; t++) CHECK_INT(pthread_join(thread[t], NULL), 0);
    for (int t = 0; t < THREADS; t++) CHECK_INT(job[t].wrong, 0);
    CHECK_INT(once_live_bytes() - before, 0);
}
