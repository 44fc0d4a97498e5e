/* map_test.c - the hash map and the hash. */
#include "test.h"

#include <string.h>

TEST(finds_what_was_added) {
    Arena *arena = arena_new();
    Map *map = map_new(arena);
    for (int i = 0; i < 5000; i++) map_add(arena, map, (uint64_t)i << 40, i);
    for (int i = 0; i < 5000; i++) CHECK_INT(map_find(map, (uint64_t)i << 40, NULL, NULL), i);
    CHECK_INT(map_find(map, 1, NULL, NULL), -1);
    arena_free(arena);
}

static bool equals(const void *context, int32_t value) {
    return value == *(const int32_t *)context;
}

TEST(equal_keys_come_in_the_order_added) {
    Arena *arena = arena_new();
    Map *map = map_new(arena);
    for (int i = 0; i < 300; i++) map_add(arena, map, (uint64_t)i % 10, i);
    for (int i = 0; i < 10; i++) CHECK_INT(map_find(map, (uint64_t)i, NULL, NULL), i);
    for (int32_t i = 0; i < 300; i++) CHECK_INT(map_find(map, (uint64_t)i % 10, equals, &i), i);
    int32_t absent = 301;
    CHECK_INT(map_find(map, 1, equals, &absent), -1);
    arena_free(arena);
}

TEST(an_empty_map_has_nothing) {
    Arena *arena = arena_new();
    CHECK_INT(map_find(map_new(arena), 0, NULL, NULL), -1);
    CHECK_FATAL_TEXT(map_add(arena, map_new(arena), 0, -1), "negative");
    arena_free(arena);
}

TEST(the_hash_tells_length_content_and_seed_apart) {
    static const char zeros[64];
    uint64_t seen[300];
    int count = 0;
    for (size_t length = 0; length <= 64; length++) {
        seen[count++] = hash_bytes(zeros, length, 0);
        seen[count++] = hash_bytes(zeros, length, 1);
    }
    for (int i = 0; i < 64; i++) {
        char one[64] = {0};
        one[i] = 1;
        seen[count++] = hash_bytes(one, sizeof one, 0);
    }
    for (int i = 0; i < count; i++)
        for (int j = 0; j < i; j++) CHECK(seen[i] != seen[j]);
}

// Cache entries outlive a build, so the function itself is part of the format.
TEST(the_hash_stays_what_it_is) {
    CHECK(hash_bytes("", 0, 0) == 0xbf344fb889235d92);
    CHECK(hash_bytes("picograd", 8, 0) == 0xd60f1ef510fbbe49);
    CHECK(hash_bytes("picograd!", 9, 7) == 0xd8f6aca48b5ae303);
}

TEST(one_flipped_bit_flips_about_half) {
    char text[32] = "the quick brown fox jumps over ";
    uint64_t before = hash_bytes(text, sizeof text, 0);
    int64_t flipped = 0;
    for (int bit = 0; bit < 256; bit++) {
        text[bit / 8] ^= (char)(1 << bit % 8);
        flipped += __builtin_popcountll(before ^ hash_bytes(text, sizeof text, 0));
        text[bit / 8] ^= (char)(1 << bit % 8);
    }
    CHECK_NEAR((double)flipped / 256, 32, 1.5);
}
