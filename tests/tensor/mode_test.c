/* mode_test.c - which execution model runs where there is no C compiler. A program of its own: the
 * compiler is looked up once. */
#include "values.h"

#include <stdlib.h>

static void twice(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = pg_add(in[0], in[0]);
}

TEST(without_a_compiler) {
    setenv("PATH", "/nonexistent", 1);
    unsetenv("PG_CC");
    unsetenv("PG_MODE");
    pg_scope_begin();
    PgFunction *function = pg_function(twice, NULL, 1, 1);
    PgTensor *x = VECTOR(1, 2), *out;
    CHECK_INT(pg_mode(), PG_EAGER);
    CHECK_INT(pg_call(function, &x, &out), 0);
    CHECK_VALUES(out, 2, 4);
    pg_set_mode(PG_GRAPH);
    CHECK_FAIL(pg_call(function, &x, &out), "");
    CHECK(*pg_error());
    CHECK_VALUES(pg_add(x, x), 2, 4);
    pg_function_free(function);
    pg_scope_end();
}
