/* optim_test.c - steps of the optimizers beside the same formulas in double. */
#include "values.h"

#include <math.h>

TEST(sgd_with_momentum_and_decay) {
    pg_scope_begin();
    PgTensor *w = VECTOR(1, -2), *v = pg_keep(pg_zeros(PG_F32, PG_SHAPE(2))), *g = VECTOR(0.5f, 1);
    double weight[] = {1, -2}, velocity[] = {0, 0}, grad[] = {0.5, 1};
    for (int step = 0; step < 5; step++) {
        pg_sgd(w, g, v, pg_scalar(0.1), 0.9, 0.01);
        for (int i = 0; i < 2; i++) {
            velocity[i] = 0.9 * velocity[i] + grad[i] + 0.01 * weight[i];
            weight[i] -= 0.1 * velocity[i];
        }
    }
    CHECK_VALUES(w, weight[0], weight[1]);
    CHECK_VALUES(v, velocity[0], velocity[1]);
    pg_scope_end();
}

TEST(adamw) {
    pg_scope_begin();
    PgTensor *w = VECTOR(1, -2), *m = pg_keep(pg_zeros(PG_F32, PG_SHAPE(2)));
    PgTensor *s = pg_keep(pg_zeros(PG_F32, PG_SHAPE(2)));
    double weight[] = {1, -2}, mean[] = {0, 0}, square[] = {0, 0};
    for (int step = 1; step <= 5; step++) {
        double grad[] = {0.5 * step, -1};
        pg_adamw(w, VECTOR(0.5f * (float)step, -1), m, s, pg_scalar(step), pg_scalar(0.1),
                 (PgAdam){.beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8, .decay = 0.1});
        for (int i = 0; i < 2; i++) {
            mean[i] = 0.9 * mean[i] + 0.1 * grad[i];
            square[i] = 0.99 * square[i] + 0.01 * grad[i] * grad[i];
            double m1 = mean[i] / (1 - pow(0.9, step)), s1 = square[i] / (1 - pow(0.99, step));
            weight[i] -= 0.1 * (m1 / (sqrt(s1) + 1e-8) + 0.1 * weight[i]);
        }
    }
    PgTensor *error = pg_abs(pg_sub(w, VECTOR((float)weight[0], (float)weight[1])));
    CHECK(pg_item(pg_max(error, PG_ALL_AXES, false)) < 1e-5);
    pg_scope_end();
}
