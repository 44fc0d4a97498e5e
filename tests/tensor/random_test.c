/* random_test.c - Threefry beside its published vectors; how numbers are spread; who gets which. */
#include "tensor/tensor.h"

#include "values.h"

#include <math.h>

static PgTensor *word(uint32_t value) { return pg_from_data(PG_U32, PG_SCALAR, &value); }

// Known answers of the Random123 library's threefry2x32, 20 rounds.
TEST(threefry_known_answers) {
    static const uint32_t rows[][6] = {
        {0, 0, 0, 0, 0x6b200159, 0x99ba4efe},
        {~0u, ~0u, ~0u, ~0u, 0x1cb996fc, 0xbb002be7},
        {0x13198a2e, 0x03707344, 0x243f6a88, 0x85a308d3, 0xc4923a9c, 0x483df7a0},
    };
    pg_scope_begin();
    for (int i = 0; i < COUNT_OF(rows); i++) {
        PgTensor *key[] = {word(rows[i][0]), word(rows[i][1])}, *out[2];
        PgTensor *counter[] = {word(rows[i][2]), word(rows[i][3])};
        threefry(key, counter, out);
        CHECK_INT(pg_item_int(out[0]), rows[i][4]);
        CHECK_INT(pg_item_int(out[1]), rows[i][5]);
    }
    pg_scope_end();
}

static PgTensor *seed_of(int64_t seed) { return pg_from_data(PG_I64, PG_SCALAR, &seed); }

TEST(a_seed_decides) {
    pg_scope_begin();
    CHECK_INT(pg_item_int(pg_select(pg_random_bits(seed_of(0), PG_SHAPE(3)), 0, 0)), 0x6b200159);
    PgTensor *a = pg_rand(seed_of(-7), PG_SHAPE(4)), *b = pg_rand(seed_of(-7), PG_SHAPE(2, 2));
    CHECK_VALUES(pg_sub(a, pg_reshape(b, PG_SHAPE(4))), 0, 0, 0, 0);
    PgTensor *c = pg_rand(seed_of(-7 + ((int64_t)1 << 32)), PG_SHAPE(4));
    CHECK_VALUES(pg_any(pg_eq(a, c), PG_ALL_AXES, false), 0);
    pg_seed(5);
    PgTensor *first = pg_rand(NULL, PG_SHAPE(4)), *second = pg_rand(NULL, PG_SHAPE(4));
    CHECK_VALUES(pg_any(pg_eq(first, second), PG_ALL_AXES, false), 0);
    pg_seed(5);
    CHECK_VALUES(pg_all(pg_eq(first, pg_rand(NULL, PG_SHAPE(4))), PG_ALL_AXES, false), 1);
    CHECK_VALUES(pg_all(pg_eq(first, pg_rand(seed_of(5), PG_SHAPE(4))), PG_ALL_AXES, false), 1);
    CHECK_FATAL_TEXT(pg_rand(pg_scalar(1), PG_SHAPE(4)), "Hint: an integer scalar");
    pg_scope_end();
}

static double moment(PgTensor *x, int power) {
    return pg_item(pg_mean(pg_pow(x, pg_scalar(power)), PG_ALL_AXES, false));
}

TEST(spread) {
    enum { COUNT = 20000 };
    pg_scope_begin();
    PgTensor *flat = pg_rand(seed_of(1), PG_SHAPE(COUNT)),
             *normal = pg_randn(seed_of(1), PG_SHAPE(COUNT));
    CHECK_NEAR(moment(flat, 1), 0.5, 0.01);
    CHECK_NEAR(moment(flat, 2), 1.0 / 3, 0.01);
    CHECK(pg_item(pg_max(flat, PG_ALL_AXES, false)) < 1);
    CHECK(pg_item(pg_min(flat, PG_ALL_AXES, false)) >= 0);
    CHECK_NEAR(moment(normal, 1), 0, 0.02);
    CHECK_NEAR(moment(normal, 2), 1, 0.03);
    CHECK_NEAR(moment(normal, 4), 3, 0.2);
    PgTensor *ones = pg_dropout(seed_of(2), pg_ones(PG_F32, PG_SHAPE(COUNT)), 0.25);
    CHECK_NEAR(moment(ones, 1), 1, 0.02);
    CHECK_NEAR(pg_item(pg_max(ones, PG_ALL_AXES, false)), 4.0 / 3, 1e-6);
    CHECK_FATAL_TEXT(pg_dropout(NULL, ones, 1), "a probability of 1");
    pg_scope_end();
}

static void draw(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = pg_random_bits(in[0], PG_SHAPE(5));
    out[1] = pg_randn(in[0], PG_SHAPE(5));
}

TEST(both_modes_draw_the_same) {
    pg_scope_begin();
    PgFunction *function = pg_function(draw, NULL, 1, 2);
    for (int64_t i = 0; i < 3; i++) {
        PgTensor *seed = seed_of(i << 31), *eager[2], *graph[2];
        pg_set_mode(PG_EAGER);
        CHECK_INT(pg_call(function, &seed, eager), 0);
        pg_set_mode(PG_GRAPH);
        CHECK_INT(pg_call(function, &seed, graph), 0);
        CHECK_VALUES(pg_all(pg_eq(eager[0], graph[0]), PG_ALL_AXES, false), 1);
        CHECK_VALUES(pg_sub(eager[1], graph[1]), 0, 0, 0, 0, 0);
    }
    CHECK_INT(pg_function_traces(function), 1);
    pg_function_free(function);
    pg_scope_end();
}
