/* first.c - the program of README.md: a softmax, a loss, and its slope. */
#include "picograd.h"
int main(void) {
    PgTensor *x = pg_from_data(PG_F32, PG_SHAPE(2, 3), (float[]){1, 2, 3, 4, 5, 6}), *slope;
    PgTensor *w = pg_from_data(PG_F32, PG_SHAPE(3, 2), (float[]){1, 0, 0, 1, 1, -1});
    PgTensor *y = pg_softmax(pg_matmul(x, w), -1);
    PgTensor *loss = pg_sum(pg_mul(y, pg_arange(PG_F32, 0, 2, 1)), PG_ALL_AXES, false);
    pg_grad(loss, 1, &w, &slope);
    pg_print(y);
    pg_print(slope);
}
