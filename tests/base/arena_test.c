/* arena_test.c - arenas and the lists in them. */
#include "test.h"

#include <string.h>

TEST(objects_are_zeroed_and_aligned) {
    Arena *arena = arena_new();
    for (size_t bytes = 1; bytes < 3000; bytes = bytes * 3 / 2 + 1) {
        unsigned char *at = arena_alloc(arena, bytes);
        CHECK_INT((uintptr_t)at % (bytes >= 64 ? 64 : 16), 0);
        for (size_t i = 0; i < bytes; i++) CHECK_INT(at[i], 0);
        memset(at, 255, bytes);
    }
    arena_free(arena);
}

TEST(objects_do_not_overlap) {
    Arena *arena = arena_new();
    int *arrays[200];
    for (int i = 0; i < COUNT_OF(arrays); i++) {
        arrays[i] = arena_array(arena, int, 1 + i * 7);
        for (int j = 0; j < 1 + i * 7; j++) arrays[i][j] = i;
    }
    for (int i = 0; i < COUNT_OF(arrays); i++)
        for (int j = 0; j < 1 + i * 7; j++) CHECK_INT(arrays[i][j], i);
    arena_free(arena);
}

TEST(reset_zeroes_what_it_hands_out_again) {
    Arena *arena = arena_new();
    memset(arena_alloc(arena, 1000), 255, 1000);
    CHECK_INT(arena_bytes(arena), 1000);
    arena_reset(arena);
    CHECK_INT(arena_bytes(arena), 0);
    unsigned char *at = arena_alloc(arena, 1000);
    for (int i = 0; i < 1000; i++) CHECK_INT(at[i], 0);
    arena_free(arena);
}

TEST(an_object_may_be_larger_than_a_chunk) {
    Arena *arena = arena_new();
    char *large = arena_alloc(arena, 3 << 20);
    large[(3 << 20) - 1] = 1;
    int *small = arena_object(arena, int);
    *small = 7;
    CHECK_INT(large[(3 << 20) - 1], 1);
    arena_reset(arena);
    arena_alloc(arena, 10);
    arena_free(arena);
}

TEST(an_empty_object_is_an_address) {
    Arena *arena = arena_new();
    CHECK(arena_alloc(arena, 0) != NULL);
    CHECK(arena_copy(arena, NULL, 0) != NULL);
    arena_free(arena);
    arena_free(NULL);
}

TEST(impossible_sizes_are_fatal) {
    Arena *arena = arena_new();
    CHECK_FATAL_TEXT(arena_array_bytes(arena, SIZE_MAX / 2, 3), "out of memory");
    CHECK_FATAL_TEXT(arena_alloc(arena, SIZE_MAX - 8), "out of memory");
    CHECK_FATAL_TEXT(arena_alloc(arena, SIZE_MAX / 4), "out of memory");
    arena_free(arena);
}

TEST(copies_and_prints) {
    Arena *arena = arena_new();
    CHECK_TEXT(arena_text(arena, "axon"), "axon");
    CHECK_TEXT(arena_print(arena, "%d x %s", 3, "f32"), "3 x f32");
    CHECK_TEXT(arena_print(arena, "%s", ""), "");
    CHECK_INT(memcmp(arena_copy(arena, "a\0b", 3), "a\0b", 3), 0);
    arena_free(arena);
}

TEST(a_list_grows) {
    Arena *arena = arena_new();
    LIST(int64_t) list = {0};
    for (int i = 0; i < 1000; i++) *list_add(arena, &list) = i;
    CHECK_INT(list.count, 1000);
    for (int i = 0; i < 1000; i++) CHECK_INT(list.at[i], i);
    arena_free(arena);
}
