/* gradient.c - softmax.c with a loss, and the slope of that loss by w.
 *   cc docs/gradient.c -Iinclude build/libpicograd.a -lm -ldl -lpthread -o build/gradient */
#include "picograd.h"

static void body(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    PgTensor *y = pg_softmax(pg_matmul(in[0], in[1]), -1);
    PgTensor *loss = pg_sum(pg_mul(y, y), PG_ALL_AXES, false);
    pg_grad(loss, 1, &in[1], &out[0]);
}

int main(void) {
    PgTensor *in[] = {pg_rand(NULL, PG_SHAPE(8, 64)), pg_rand(NULL, PG_SHAPE(64, 32))}, *slope;
    PgFunction *function = pg_function(body, NULL, 2, 1);
    if (pg_call(function, in, &slope) < 0) return 1;
    pg_print(pg_slice(pg_slice(slope, 0, 0, 2, 1), 1, 0, 5, 1));
    pg_function_free(function);
}
