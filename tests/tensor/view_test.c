/* view_test.c - shapes, slices, copies, and what they refuse. */
#include "values.h"

#include <math.h>

TEST(reshape_finds_a_size) {
    pg_scope_begin();
    PgTensor *x = iota(PG_SHAPE(2, 6));
    CHECK_SHAPE(pg_reshape(x, PG_SHAPE(3, -1)), 3, 4);
    CHECK_SHAPE(pg_reshape(x, PG_SHAPE(-1)), 12);
    CHECK_SHAPE(pg_reshape(x, PG_SHAPE(2, 3, 2)), 2, 3, 2);
    CHECK_FATAL_TEXT(pg_reshape(x, PG_SHAPE(5, -1)), "(2, 6)");
    CHECK_FATAL_TEXT(pg_reshape(x, PG_SHAPE(-1, -1)), "both -1");
    CHECK_FATAL_TEXT(pg_reshape(x, PG_SHAPE(3, 3)), "(2, 6) does not become (3, 3)");
    pg_scope_end();
}

TEST(slices_are_pythons) {
    pg_scope_begin();
    PgTensor *x = iota(PG_SHAPE(6));
    CHECK_VALUES(pg_slice(x, 0, 1, 4, 1), 1, 2, 3);
    CHECK_VALUES(pg_slice(x, 0, -2, PG_NONE, 1), 4, 5);
    CHECK_VALUES(pg_slice(x, 0, PG_NONE, PG_NONE, 2), 0, 2, 4);
    CHECK_VALUES(pg_slice(x, 0, PG_NONE, PG_NONE, -1), 5, 4, 3, 2, 1, 0);
    CHECK_VALUES(pg_slice(x, 0, 4, 0, -2), 4, 2);
    CHECK_VALUES(pg_slice(x, 0, 4, PG_NONE, -3), 4, 1);
    CHECK_VALUES(pg_slice(x, 0, 3, 100, 1), 3, 4, 5);
    CHECK_SHAPE(pg_slice(x, 0, 4, 2, 1), 0);
    CHECK_VALUES(pg_slice(pg_slice(x, 0, 1, PG_NONE, 2), 0, 1, PG_NONE, 1), 3, 5);
    CHECK_FATAL_TEXT(pg_slice(x, 0, 0, 1, 0), "a step of 0");
    CHECK_FATAL_TEXT(pg_slice(x, 1, 0, 1, 1), "no axis 1 in shape (6)");
    pg_scope_end();
}

TEST(axes) {
    pg_scope_begin();
    PgTensor *x = iota(PG_SHAPE(2, 3));
    CHECK_VALUES(pg_transpose(x, 0, -1), 0, 3, 1, 4, 2, 5);
    CHECK_SHAPE(pg_permute(pg_unsqueeze(x, 1), PG_AXES(2, -2, 0)), 3, 1, 2);
    CHECK_SHAPE(pg_unsqueeze(x, -1), 2, 3, 1);
    CHECK_SHAPE(pg_squeeze(pg_unsqueeze(x, 0), 0), 2, 3);
    CHECK_VALUES(pg_flip(x, PG_ALL_AXES), 5, 4, 3, 2, 1, 0);
    CHECK_VALUES(pg_select(x, 1, -1), 2, 5);
    CHECK_VALUES(pg_expand(pg_select(x, 0, 0), PG_SHAPE(2, 3)), 0, 1, 2, 0, 1, 2);
    CHECK_FATAL_TEXT(pg_squeeze(x, 0), "axis 0 of shape (2, 3) is not of size 1");
    CHECK_FATAL_TEXT(pg_permute(x, PG_AXES(0)), "1 axes for shape (2, 3)");
    CHECK_FATAL_TEXT(pg_permute(x, PG_AXES(0, 0)), "twice");
    CHECK_FATAL_TEXT(pg_expand(x, PG_SHAPE(2, 4)), "(2, 3) does not stretch to (2, 4)");
    CHECK_FATAL_TEXT(pg_expand(x, PG_SHAPE(3)), "(2, 3) does not stretch to (3)");
    CHECK_FATAL_TEXT(pg_select(x, 0, 2), "not inside (2, 3)");
    pg_scope_end();
}

TEST(windows) {
    pg_scope_begin();
    PgTensor *x = iota(PG_SHAPE(7));
    CHECK_VALUES(pg_unfold(x, 0, 3, 2, 2), 0, 2, 4, 2, 4, 6);
    CHECK_FATAL_TEXT(pg_unfold(x, 0, 8, 1, 1), "(7)");
    pg_scope_end();
}

TEST(joining_and_splitting) {
    pg_scope_begin();
    PgTensor *x = iota(PG_SHAPE(2, 2)), *parts[] = {x, pg_neg(x)}, *out[2];
    CHECK_VALUES(pg_concat(2, parts, -1), 0, 1, 0, -1, 2, 3, -2, -3);
    CHECK_SHAPE(pg_stack(2, parts, -1), 2, 2, 2);
    CHECK_VALUES(pg_stack(2, parts, -1), 0, 0, 1, -1, 2, -2, 3, -3);
    pg_split(iota(PG_SHAPE(1, 5)), 1, 2, (int64_t[]){2, 3}, out);
    CHECK_VALUES(out[1], 2, 3, 4);
    PgTensor *other[] = {x, iota(PG_SHAPE(3, 2))};
    CHECK_VALUES(pg_concat(2, other, 0), 0, 1, 2, 3, 0, 1, 2, 3, 4, 5);
    CHECK_FATAL_TEXT(pg_concat(2, other, 1), "(3, 2)");
    CHECK_FATAL_TEXT(pg_split(x, 0, 2, (int64_t[]){1, 2}, out), "do not sum");
    pg_scope_end();
}

TEST(padding) {
    pg_scope_begin();
    PgTensor *x = VECTOR(1, 2);
    CHECK_VALUES(pg_pad(x, (int64_t[]){1}, (int64_t[]){2}, 0), 0, 1, 2, 0, 0);
    CHECK_VALUES(pg_pad(x, (int64_t[]){1}, (int64_t[]){0}, -INFINITY), -INFINITY, 1, 2);
    CHECK_FATAL_TEXT(pg_pad(x, (int64_t[]){-1}, (int64_t[]){0}, 0), "Hint");
    pg_scope_end();
}

TEST(creation) {
    pg_scope_begin();
    CHECK_VALUES(pg_arange(PG_I32, 5, -2, -3), 5, 2, -1);
    CHECK_VALUES(pg_arange(PG_F32, 1, 4, 2), 1, 3);
    CHECK_SHAPE(pg_arange(PG_F32, 4, 1, 1), 0);
    CHECK_VALUES(pg_linspace(1, 2, 5), 1, 1.25, 1.5, 1.75, 2);
    CHECK_VALUES(pg_eye(PG_F32, 2), 1, 0, 0, 1);
    CHECK_VALUES(pg_tril_mask(2, 3, 1), 1, 1, 0, 1, 1, 1);
    CHECK_VALUES(pg_full(PG_U8, PG_SHAPE(2), 300), 44, 44);
    CHECK_FATAL_TEXT(pg_zeros(PG_F32, PG_SHAPE(1 << 30, 1 << 30, 1 << 30)), "");
    CHECK_FATAL_TEXT(pg_zeros(PG_F32, PG_SHAPE(-1)), "size -1 of axis 0");
    CHECK_FATAL_TEXT(pg_zeros((PgType)77, PG_SHAPE(1)), "77 is no PgType");
    pg_scope_end();
}

TEST(host) {
    pg_scope_begin();
    PgTensor *x = pg_transpose(iota(PG_SHAPE(2, 2)), 0, 1);
    float data[4];
    pg_to_host(x, data, sizeof data);
    CHECK_NEAR(data[1], 2, 0);
    CHECK_FATAL_TEXT(pg_to_host(x, data, 4), "(2, 2) has 16 bytes, not 4");
    CHECK_FATAL_TEXT(pg_item(x), "(2, 2) has more than one element");
    CHECK_INT(pg_item_int(pg_full(PG_I64, PG_SCALAR, -0x1p62)), -((int64_t)1 << 62));
    pg_scope_end();
}
