/* shape_test.c - sizes, plain and symbolic; shapes under broadcasting. */
#include "ir/ir.h"
#include "test.h"

typedef struct {
    Arena *arena;
    IndexTable *table;
    Size keys, rows;  // 1 to 64, 1 to 8
} World;

static World world_new(void) {
    World world = {.arena = arena_new()};
    world.table = index_table_new(world.arena);
    world.keys = size_from_index(world.table, index_atom(world.table, ATOM_VAR, 0, 1, 64));
    world.rows = size_from_index(world.table, index_atom(world.table, ATOM_VAR, 1, 1, 8));
    return world;
}

TEST(plain_sizes_stay_plain) {
    World world = world_new();
    CHECK_INT(size_add(world.table, 3, 4), 7);
    CHECK_INT(size_sub(world.table, 3, 4), -1);
    CHECK_INT(size_scale(world.table, 3, 4), 12);
    CHECK_INT(size_max(world.table, 9), 9);
    CHECK(!size_is_symbolic(9));
    arena_free(world.arena);
}

TEST(a_huge_size_is_no_symbolic_one) {
    World world = world_new();
    const Size sizes[] = {SIZE_SYMBOLIC + 100, SIZE_SYMBOLIC + ((Size)1 << 32), INT64_MAX};
    for (int i = 0; i < COUNT_OF(sizes); i++)
        CHECK_FATAL_TEXT(size_max(world.table, sizes[i]), "beyond every memory");
    arena_free(world.arena);
}

TEST(symbolic_sizes) {
    World world = world_new();
    Size more = size_add(world.table, world.keys, 1);
    CHECK(size_is_symbolic(world.keys) && size_is_symbolic(more) && more != world.keys);
    CHECK_INT(size_sub(world.table, more, 1), world.keys);
    CHECK_INT(size_sub(world.table, more, world.keys), 1);
    CHECK_INT(size_scale(world.table, world.keys, 0), 0);
    CHECK_INT(size_max(world.table, size_scale(world.table, more, 2)), 130);
    CHECK_INT(size_add(world.table, world.keys, world.rows),
              size_add(world.table, world.rows, world.keys));
    arena_free(world.arena);
}

TEST(a_plain_size_cannot_look_symbolic) {
    World world = world_new();
    CHECK_FATAL_TEXT(size_scale(world.table, (int64_t)1 << 61, 2), "beyond");
    CHECK_FATAL_TEXT(size_scale(world.table, (int64_t)1 << 61, 8), "overflows");
    arena_free(world.arena);
}

TEST(shapes_compare) {
    World world = world_new();
    CHECK(shape_equal(shape_of(0), shape_of(0)));
    CHECK(shape_equal(shape_of(2, (Size)2, world.keys), shape_of(2, (Size)2, world.keys)));
    CHECK(!shape_equal(shape_of(2, (Size)2, world.keys), shape_of(2, (Size)2, world.rows)));
    CHECK(!shape_equal(shape_of(1, (Size)2), shape_of(2, (Size)2, (Size)1)));
    CHECK_FATAL_TEXT(shape_of(9), "rank 9");
    arena_free(world.arena);
}

TEST(capacity_is_of_the_largest_sizes) {
    World world = world_new();
    CHECK_INT(shape_capacity(world.table, shape_of(0)), 1);
    CHECK_INT(shape_capacity(world.table, shape_of(2, (Size)3, world.keys)), 192);
    CHECK_INT(shape_capacity(world.table, shape_of(3, (Size)3, (Size)0, world.keys)), 0);
    Size huge = (Size)1 << 40;
    CHECK_FATAL_TEXT(shape_capacity(world.table, shape_of(2, huge, huge)), "more elements");
    CHECK_FATAL_TEXT(shape_capacity(world.table, shape_of(1, (Size)-2)), "size -2");
    arena_free(world.arena);
}

TEST(broadcasting_aligns_right_and_stretches_ones) {
    World world = world_new();
    Shape out;
    CHECK(shape_broadcast(shape_of(2, (Size)3, (Size)1), shape_of(3, (Size)2, (Size)1, (Size)4),
                          &out));
    CHECK(shape_equal(out, shape_of(3, (Size)2, (Size)3, (Size)4)));
    CHECK(shape_broadcast(shape_of(0), shape_of(1, world.keys), &out));
    CHECK(shape_equal(out, shape_of(1, world.keys)));
    CHECK(shape_broadcast(shape_of(1, (Size)0), shape_of(1, (Size)1), &out));
    CHECK(shape_equal(out, shape_of(1, (Size)0)));
    CHECK(!shape_broadcast(shape_of(1, (Size)3), shape_of(1, (Size)2), &out));
    CHECK(!shape_broadcast(shape_of(1, world.keys), shape_of(1, world.rows), &out));
    CHECK(!shape_broadcast(shape_of(1, (Size)0), shape_of(1, (Size)2), &out));
    arena_free(world.arena);
}
