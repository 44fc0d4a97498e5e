/* print_test.c - tensors as text. */
#include "values.h"

#include <math.h>
#include <string.h>

static const char *text_of(PgTensor *x) {
    static char text[4096];
    CHECK(pg_format(x, text, sizeof text) < sizeof text);
    return text;
}

TEST(numbers) {
    pg_scope_begin();
    CHECK_TEXT(text_of(VECTOR(1, 20, -3)), "[ 1. 20. -3.]");
    CHECK_TEXT(text_of(VECTOR(1, 0.5f)), "[1.0000 0.5000]");
    CHECK_TEXT(text_of(VECTOR(1e-7f, -2)), "[ 1.0000e-07 -2.0000e+00]");
    CHECK_TEXT(text_of(VECTOR(NAN, INFINITY, -INFINITY, 1)), "[ nan  inf -inf   1.]");
    CHECK_TEXT(text_of(pg_scalar(2.5)), "2.5000");
    CHECK_TEXT(text_of(pg_arange(PG_I64, 9, 12, 1)), "[ 9 10 11]");
    CHECK_TEXT(text_of(pg_eye(PG_BOOL, 2)), "[[ True False]\n [False  True]]");
    CHECK_TEXT(text_of(pg_cast(VECTOR(1.5f), PG_F16)), "[1.5000]");
    CHECK_TEXT(text_of(pg_zeros(PG_F32, PG_SHAPE(2, 0))), "[[]\n []]");
    pg_scope_end();
}

TEST(axes) {
    pg_scope_begin();
    CHECK_TEXT(text_of(iota(PG_SHAPE(2, 2, 2))), "[[[0. 1.]\n  [2. 3.]]\n\n [[4. 5.]\n  [6. 7.]]]");
    CHECK_TEXT(text_of(pg_arange(PG_I32, 0, 1001, 1)), "[   0    1    2 ...  998  999 1000]");
    PgTensor *wide = pg_reshape(pg_arange(PG_I32, 0, 5000, 1), PG_SHAPE(1000, 5));
    CHECK(strstr(text_of(wide), "[  10   11   12   13   14]\n ...\n [4985 4986 4987 4988 4989]") !=
          NULL);
    pg_scope_end();
}

TEST(a_short_buffer) {
    char text[4];
    pg_scope_begin();
    CHECK_INT(pg_format(VECTOR(1, 2), text, sizeof text), 7);
    CHECK_TEXT(text, "[1.");
    pg_scope_end();
}
