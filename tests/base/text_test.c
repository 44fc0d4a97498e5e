/* text_test.c - Text and Reader. */
#include "test.h"

#include <locale.h>
#include <math.h>
#include <string.h>

static Reader reader(const char *text) { return reader_new("test", text); }

TEST(text_grows) {
    Arena *arena = arena_new();
    Text text = text_new(arena);
    CHECK_TEXT(text.at, "");
    for (int i = 0; i < 500; i++) text_add(&text, "%%%d ", i);
    text_add_bytes(&text, "end", 3);
    text_add_bytes(&text, "", 0);
    CHECK_INT(text.count, strlen(text.at));
    CHECK_INT(text.count, 10 * 3 + 90 * 4 + 400 * 5 + 3);
    CHECK_INT(strncmp(text.at, "%0 %1 %2 ", 9), 0);
    CHECK_TEXT(text.at + text.count - 8, "%499 end");
    arena_free(arena);
}

TEST(directives_of_every_kind) {
    Arena *arena = arena_new();
    CHECK_TEXT(arena_print(arena, "%d %ld %lld|", INT32_MIN, INT64_MAX, (long long)INT64_MIN),
               "-2147483648 9223372036854775807 -9223372036854775808|");
    CHECK_TEXT(arena_print(arena, "%s%c%s%d", "a", 'b', "", 0), "ab0");
    CHECK_TEXT(
        arena_print(arena, "%s %5d %-3s| %lld%% %.*s %zu", "a", 7, "b", 8LL, 2, "cde", (size_t)9),
        "a     7 b  | 8% cd 9");
    CHECK_TEXT(arena_print(arena, "%016lx %s", 0xabcUL, "end"), "0000000000000abc end");
    CHECK_TEXT(arena_print(arena, "%s", ""), "");
    arena_free(arena);
}

TEST(text_may_hold_zero_bytes) {
    Arena *arena = arena_new();
    Text text = text_new(arena);
    text_add_bytes(&text, "a\0b", 3);
    text_add(&text, "%s", "");
    CHECK_INT(text.count, 3);
    CHECK_INT(text.at[2], 'b');
    arena_free(arena);
}

TEST(numbers_do_not_follow_the_locale) {
    if (!setlocale(LC_ALL, "de_DE.UTF-8") && !setlocale(LC_ALL, "fr_FR.UTF-8"))
        SKIP("no locale with a decimal comma on this machine");
    Arena *arena = arena_new();
    CHECK_TEXT(arena_print(arena, "%g", 1.5), "1.5");
    double value = 0;
    Reader in = reader("2.25");
    CHECK(reader_number(&in, &value));
    CHECK_NEAR(value, 2.25, 0);
    setlocale(LC_ALL, "C");
    arena_free(arena);
}

TEST(words_are_whole) {
    Reader in = reader("  # a comment\n mul mulx (x");
    CHECK(!reader_take(&in, "mu"));
    CHECK(reader_peek(&in, "mul"));
    CHECK(reader_take(&in, "mul"));
    CHECK(!reader_take(&in, "mul"));
    CHECK(reader_take(&in, "mulx"));
    CHECK(reader_take(&in, "("));
    reader_expect(&in, "x");
    CHECK(!reader_take(&in, "x"));
    reader_skip(&in);
    CHECK(in.at == in.end);
}

TEST(names) {
    Arena *arena = arena_new();
    Reader in = reader("_a1 pack.b i..9 2x");
    CHECK_TEXT(reader_name(&in, arena), "_a1");
    CHECK_TEXT(reader_name(&in, arena), "pack.b");
    CHECK_TEXT(reader_name(&in, arena), "i");
    CHECK(reader_name(&in, arena) == NULL);
    CHECK(reader_take(&in, ".."));
    int64_t value = 0;
    CHECK(reader_int(&in, &value));
    CHECK_INT(value, 9);
    CHECK(reader_name(&in, arena) == NULL);
    arena_free(arena);
}

TEST(integers) {
    Reader in = reader("0 -12 9223372036854775807 -9223372036854775808 14x32 1..5");
    const int64_t wanted[] = {0, -12, INT64_MAX, INT64_MIN, 14};
    int64_t value = 0;
    for (int i = 0; i < COUNT_OF(wanted); i++) {
        CHECK(reader_int(&in, &value));
        CHECK_INT(value, wanted[i]);
    }
    reader_expect(&in, "x32");
    CHECK(reader_int(&in, &value));
    CHECK_INT(value, 1);
}

TEST(what_is_no_integer_stays) {
    const char *texts[] = {"1.5", "1e3", "1E-3", "0x10", "-", "x", "", "- 1"};
    for (int i = 0; i < COUNT_OF(texts); i++) {
        Reader in = reader(texts[i]);
        int64_t value = 77;
        CHECK(!reader_int(&in, &value));
        CHECK(in.at == in.start);
    }
    Reader in = reader("9223372036854775808");
    int64_t value;
    CHECK_FATAL_TEXT(reader_int(&in, &value), "does not fit");
}

TEST(numbers) {
    const struct {
        const char *text;
        double value;
    } rows[] = {
        {"1", 1},          {"-2.5", -2.5},       {".5", 0.5},
        {"1e-3", 1e-3},    {"0x1p-3", 0.125},    {"-0x1.8p1", -3},
        {"inf", INFINITY}, {"-inf)", -INFINITY}, {"nan", NAN},
    };
    for (int i = 0; i < COUNT_OF(rows); i++) {
        Reader in = reader(rows[i].text);
        double value = 0;
        CHECK(reader_number(&in, &value));
        CHECK_NEAR(value, rows[i].value, 0);
    }
    Reader in = reader("-0");
    double value = 1;
    CHECK(reader_number(&in, &value) && signbit(value));
}

TEST(what_is_no_number_stays) {
    const char *texts[] = {"info", "nano", "-infx", "x", "-", ".", "+1", "3f", ""};
    for (int i = 0; i < COUNT_OF(texts); i++) {
        Reader in = reader(texts[i]);
        double value = 0;
        CHECK(!reader_number(&in, &value));
        CHECK(in.at == in.start);
    }
}

TEST(open_brackets_are_counted) {
    Arena *arena = arena_new();
    Text text = text_new(arena);
    for (int i = 0; i < 5000; i++) text_add(&text, "()(");
    text_add(&text, "(");
    Reader in = reader(text.at);
    for (int i = 0; i < 5000; i++) {
        CHECK(reader_open(&in));
        reader_close(&in);
        CHECK(reader_open(&in));
    }
    CHECK_FATAL_TEXT(reader_open(&in), "test:1:15002: more than 5000 brackets are open");
    CHECK_FATAL_TEXT(reader_close(&in), "expected ')'");
    arena_free(arena);
}

TEST(a_message_has_line_and_column) {
    Reader in = reader("a\n  b c");
    reader_expect(&in, "a");
    reader_expect(&in, "b");
    CHECK_FATAL_TEXT(reader_expect(&in, "d"), "test:2:5: expected 'd', at 'c'");
    reader_expect(&in, "c");
    CHECK_FATAL_TEXT(reader_expect(&in, "d"), "test:2:6: expected 'd', but the text ends");
}
