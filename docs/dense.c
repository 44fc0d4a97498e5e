/* dense.c - relu(x @ w + b), compiled: the expression whose stages README.md shows.
 *   cc docs/dense.c -Iinclude build/libpicograd.a -lm -ldl -lpthread -o build/dense */
#include "picograd.h"

static void dense(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = pg_relu(pg_add(pg_matmul(in[0], in[1]), in[2]));
}

int main(void) {
    PgTensor *in[] = {pg_rand(NULL, PG_SHAPE(8, 64)), pg_rand(NULL, PG_SHAPE(64, 32)),
                      pg_rand(NULL, PG_SHAPE(32))},
             *y;
    PgFunction *function = pg_function(dense, NULL, 3, 1);
    if (pg_call(function, in, &y) < 0) return 1;
    pg_function_free(function);
}
