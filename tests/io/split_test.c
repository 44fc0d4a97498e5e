/* split_test.c - text to words, against the tokenizers library's splits. */
#include "helpers.h"
#include "test.h"

#include <string.h>

static Splitter *open_rule(const char *rule) {
    Splitter *splitter = splitter_new(rule);
    if (!splitter && strstr(error_text(), "PCRE2")) SKIP("built without PCRE2");
    CHECK(splitter);
    return splitter;
}

static int add_word(void *context, const char *word, size_t length) {
    text_add((Text *)context, "[%.*s]", (int)length, word);
    return 0;
}

static void check_words(const char *rule, const char *text, const char *wanted) {
    Arena *arena = arena_new();
    Splitter *splitter = open_rule(rule);
    Text out = text_new(arena);
    CHECK_INT(splitter_run(splitter, text, strlen(text), add_word, &out), 0);
    CHECK_TEXT(out.at, wanted);
    splitter_free(splitter);
    arena_free(arena);
}

TEST(rules_differ) {
    const char *text = "I've 12345  cats, I'LL.\n\n x";
    check_words("gpt-2", text, "[I]['ve][ 12345][ ][ cats][,][ I]['][LL][.][\n\n][ x]");
    check_words("smollm", text, "[I]['ve][ ][1][2][3][4][5][ ][ cats][,][ I]['][LL][.][\n\n][ x]");
    check_words("llama-bpe", text, "[I]['ve][ ][123][45][ ][ cats][,][ I]['LL][.\n\n][ x]");
    check_words("qwen2", text, "[I]['ve][ ][1][2][3][4][5][ ][ cats][,][ I]['LL][.\n\n][ x]");
    check_words("tekken", text, "[I]['ve][ ][1][2][3][4][5][ ][ cats][,][ I]['LL][.\n\n][ x]");
    check_words("default", text, "[I]['][ve][ ][123][45][ ][ cats][,][ I]['][LL][.][\n\n][ x]");
}

TEST(other_names_are_the_same_rules) {
    const char *names[][2] = {{"llama3", "llama-bpe"},
                              {"falcon3", "llama-bpe"},
                              {"starcoder", "smollm"},
                              {"phi-2", "gpt-2"},
                              {"deepseek-r1-qwen", "qwen2"}};
    for (int i = 0; i < COUNT_OF(names); i++) {
        Splitter *other = open_rule(names[i][0]), *rule = open_rule(names[i][1]);
        CHECK_INT(splitter_whole_words(other), splitter_whole_words(rule));
        CHECK_INT(splitter_normalises(other), splitter_normalises(rule));
        splitter_free(other);
        splitter_free(rule);
    }
    check_words("llama-v3", "I'LL 1234", "[I]['LL][ ][123][4]");
}

TEST(the_end_of_a_piece_is_an_end) {
    check_words("smollm", "a  1  2", "[a][  ][1][  ][2]");
    check_words("gpt-2", "a  1  2", "[a][ ][ 1][ ][ 2]");
}

TEST(no_text_no_words) { check_words("gpt-2", "", ""); }

static int refuse(void *context, const char *word, size_t length) {
    (void)word, (void)length;
    ++*(int *)context;
    return fail("enough");
}

TEST(an_error_stops_it) {
    int calls = 0;
    Splitter *splitter = open_rule("smollm");
    CHECK_FAIL(splitter_run(splitter, "a 1 b", 5, refuse, &calls), "enough");
    CHECK_INT(calls, 1);
    splitter_free(splitter);
}

TEST(an_unknown_rule_is_named) {
    CHECK(!splitter_new("poro-chat"));
    CHECK(strstr(error_text(), "poro-chat is not supported yet; gpt-2"));
}

static int add_length(void *context, const char *word, size_t length) {
    (void)word;
    Text *out = context;
    text_add(out, out->count ? " %zu" : "%zu", length);
    return 0;
}

TEST(every_code_point_is_cut_as_the_library_does) {
    Arena *arena = arena_new(), *scratch = arena_new();
    Lines lines = golden_lines(arena, "splits.txt");
    Splitter *splitter = NULL;
    char opened[16] = "";
    for (int i = 0; i < lines.count; i++) {
        char rule[16], wanted[17];
        int first;
        const char *line = terminated(arena, lines.at[i]);
        CHECK_INT(sscanf(line, "%15s %x %16s", rule, (unsigned *)&first, wanted), 3);
        if (strcmp(rule, opened)) {
            splitter_free(splitter);
            splitter = open_rule(strcpy(opened, rule));
        }
        Text text = code_point_lines(scratch, first), lengths = text_new(scratch);
        CHECK_INT(splitter_run(splitter, text.at, text.count, add_length, &lengths), 0);
        CHECK_TEXT(short_sum(scratch, lengths), wanted);
        arena_reset(scratch);
    }
    splitter_free(splitter);
    arena_free(scratch);
    arena_free(arena);
}
