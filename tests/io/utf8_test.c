/* utf8_test.c - any bytes to valid UTF-8, wherever they are cut. */
#include "helpers.h"
#include "test.h"

#include <string.h>

#define R "\xef\xbf\xbd"  // U+FFFD

static const char *repaired(Arena *arena, const char *bytes, size_t count, size_t cut) {
    Text out = text_new(arena);
    Utf8Stream stream = {0};
    utf8_push(&stream, bytes, cut, &out);
    utf8_push(&stream, bytes + cut, count - cut, &out);
    utf8_finish(&stream, &out);
    return out.at;
}

TEST(invalid_bytes_are_replaced_as_in_python) {
    const char *cases[][2] = {
        {"plain", "plain"},
        {"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"\xff", R},
        {"\x80\x80", R R},
        {"\xc3", R},
        {"\xc3(", R "("},
        {"\xe2\x82", R},
        {"\xe2\x82x", R "x"},
        {"\xe2(\xa1", R "(" R},
        {"\xf0\x9f\x98", R},
        {"\xf0\x9f\x98 \xf0 y", R " " R " y"},
        {"\xc0\xaf", R R},
        {"\xe0\x80\xaf", R R R},
        {"\xed\xa0\x80", R R R},
        {"\xed\x9f\xbf", "\xed\x9f\xbf"},
        {"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"},
        {"\xf4\x90\x80\x80", R R R R},
        {"\xf5\x80", R R},
        {"\xe2\x82\xe2\x82\xac", R "\xe2\x82\xac"},
        {"\xf0\x9f\xf0\x9f\x98\x80", R "\xf0\x9f\x98\x80"},
    };
    Arena *arena = arena_new();
    for (int i = 0; i < COUNT_OF(cases); i++) {
        size_t count = strlen(cases[i][0]);
        for (size_t cut = 0; cut <= count; cut++) {
            CHECK_TEXT(repaired(arena, cases[i][0], count, cut), cases[i][1]);
        }
    }
    arena_free(arena);
}

TEST(byte_by_byte_equals_all_at_once) {
    Arena *arena = arena_new();
    uint64_t seed = 1;
    char bytes[64];
    for (int round = 0; round < 5000; round++) {
        static const unsigned char leads[] = {0xe2, 0x82, 0xac, 0xf0, 0x9f, 0x98, 0x80, 0xed,
                                              0xa0, 0xc2, 0xf4, 0x8f, 0x90, 0xe0, 'a',  0xff};
        for (int i = 0; i < 64; i++) {
            seed = seed * 6364136223846793005 + 1442695040888963407;
            bytes[i] = (char)(seed >> 60 ? leads[seed >> 56 & 15] : seed >> 40 & 255);
        }
        Text out = text_new(arena);
        Utf8Stream stream = {0};
        for (int i = 0; i < 64; i++) {
            utf8_push(&stream, bytes + i, 1, &out);
            CHECK(stream.count <= 3);
        }
        utf8_finish(&stream, &out);
        const char *whole = repaired(arena, bytes, 64, 64);
        if (strcmp(out.at, whole)) CHECK_TEXT(out.at, whole);
        arena_reset(arena);
    }
    arena_free(arena);
}

TEST(a_character_is_held_until_it_is_whole) {
    Arena *arena = arena_new();
    Text out = text_new(arena);
    Utf8Stream stream = {0};
    utf8_push(&stream, "a\xf0\x9f", 3, &out);
    CHECK_TEXT(out.at, "a");
    utf8_push(&stream, "\x98", 1, &out);
    CHECK_TEXT(out.at, "a");
    utf8_push(&stream, "\x80!", 2, &out);
    CHECK_TEXT(out.at, "a\xf0\x9f\x98\x80!");
    CHECK_INT(stream.count, 0);
    arena_free(arena);
}
