/* softmax.c - the program that the chapters of docs/ follow.
 *   cc docs/softmax.c -Iinclude build/libpicograd.a -lm -ldl -lpthread -o build/softmax */
#include "picograd.h"

#include <stdio.h>

static void body(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = pg_softmax(pg_matmul(in[0], in[1]), -1);
}

int main(void) {
    PgTensor *in[] = {pg_rand(NULL, PG_SHAPE(8, 64)), pg_rand(NULL, PG_SHAPE(64, 32))}, *y;
    PgFunction *function = pg_function(body, NULL, 2, 1);
    if (pg_call(function, in, &y) < 0) {
        fprintf(stderr, "%s\n", pg_error());
        return 1;
    }
    pg_print(pg_slice(y, 1, 0, 5, 1));
    pg_function_free(function);
}
