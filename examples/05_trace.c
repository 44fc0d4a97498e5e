/* 05_trace.c - what pg_function does: it traces a body once for each shape, compiles what was
 * recorded, and from then on calls that. A size that changes from call to call can be a variable:
 * then one trace serves all. PG_DUMP prints every stage on the way.
 *
 *   cc examples/05_trace.c -Iinclude build/libpicograd.a -lm -ldl -lpthread -o build/trace
 *   build/trace
 *   PG_DUMP=fuse build/trace      the kernels of each compiled function
 *   PG_DUMP=all build/trace       graph, kernels, schedules, C, assembly                        */
#include "picograd.h"

#include <stdio.h>

static int fail(void) { return fprintf(stderr, "%s\n", pg_error()), 1; }

// A variance of each row: two sums and what is around them, one kernel.
static void variances(void *context, PgTensor **in, PgTensor **out) {
    puts("tracing");  // no call on tensors: it happens when the body is traced, and then no more
    (void)context;
    out[0] = pg_variance(in[0], PG_AXES(1), 0, false);
}

// The sum of the first `rows` rows, a number from 1 to 3 that each call has anew.
static void first_rows(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = pg_sum(pg_slice(in[0], 0, 0, pg_var("rows", 1, 3), 1), PG_AXES(0), false);
}

int main(void) {
    pg_set_mode(PG_GRAPH);
    PgFunction *function = pg_function(variances, NULL, 1, 1);
    PgTensor *small = pg_reshape(pg_arange(PG_F32, 0, 6, 1), PG_SHAPE(2, 3)), *out;
    PgTensor *large = pg_reshape(pg_arange(PG_F32, 0, 12, 1), PG_SHAPE(3, 4));
    PgTensor *in[] = {small, small, large, small};
    for (int i = 0; i < 4; i++) {
        if (pg_call(function, &in[i], &out)) return fail();
        pg_print(out);
    }
    printf("4 calls, %d traces\n", pg_function_traces(function));
    pg_function_free(function);

    function = pg_function(first_rows, NULL, 1, 1);
    for (int64_t rows = 1; rows <= 3; rows++) {
        pg_bind("rows", rows);
        if (pg_call(function, &large, &out)) return fail();
        pg_print(out);
    }
    printf("3 calls, %d trace\n", pg_function_traces(function));
    pg_function_free(function);
    return 0;
}

/* Prints:
 *   tracing
 *   [0.6667 0.6667]
 *   [0.6667 0.6667]
 *   tracing
 *   [1.2500 1.2500 1.2500]
 *   [0.6667 0.6667]
 *   4 calls, 2 traces
 *   [0. 1. 2. 3.]
 *   [ 4.  6.  8. 10.]
 *   [12. 15. 18. 21.]
 *   3 calls, 1 trace
 */
