/* tokenizer_test.c - ids equal to the tokenizers library's; decoding; hostile vocabularies. */
#include "helpers.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static Tokenizer *small_tokenizer(Arena *arena, const char *rule) {
    Gguf *gguf = small_vocabulary(arena, rule);
    CHECK(gguf);
    Tokenizer *tokenizer = opened_tokenizer(gguf);
    gguf_close(gguf);
    return tokenizer;
}

static Tokenizer *real_tokenizer(Arena *arena) {
    const char *path = models_find(arena, "smollm2");
    if (!path) SKIP("smollm2 is not in the cache; picograd models pull smollm2");
    Gguf *gguf = gguf_open(path);
    CHECK(gguf);
    Tokenizer *tokenizer = opened_tokenizer(gguf);
    gguf_close(gguf);
    return tokenizer;
}

static const char *ids_text(Arena *arena, const IdList *ids) {
    Text out = text_new(arena);
    for (int i = 0; i < ids->count; i++) text_add(&out, i ? " %d" : "%d", ids->at[i]);
    return out.at;
}

static void check_rule(const char *rule) {
    Arena *arena = arena_new();
    Tokenizer *tokenizer = small_tokenizer(arena, rule);
    check_golden_ids(tokenizer, rule, TOKENIZE_SPECIAL);
    tokenizer_close(tokenizer);
    arena_free(arena);
}

TEST(gpt2_ids) { check_rule("gpt-2"); }

TEST(smollm_ids) { check_rule("smollm"); }

TEST(llama_bpe_ids) { check_rule("llama-bpe"); }

TEST(default_ids) { check_rule("default"); }

TEST(qwen2_ids) { check_rule("qwen2"); }

TEST(tekken_ids) { check_rule("tekken"); }

TEST(smollm2_ids) {
    Arena *arena = arena_new();
    Tokenizer *tokenizer = real_tokenizer(arena);
    check_golden_ids(tokenizer, "smollm2", TOKENIZE_SPECIAL);
    tokenizer_close(tokenizer);
    arena_free(arena);
}

TEST(smollm2_ids_of_every_code_point) {
    Arena *arena = arena_new(), *scratch = arena_new();
    Tokenizer *tokenizer = real_tokenizer(arena);
    Lines lines = golden_lines(arena, "codepoints.txt");
    for (int i = 0; i < lines.count; i++) {
        char wanted[17];
        int first;
        IdList ids = {0};
        const char *line = terminated(arena, lines.at[i]);
        CHECK_INT(sscanf(line, "%x %16s", (unsigned *)&first, wanted), 2);
        Text text = code_point_lines(scratch, first), out = text_new(scratch);
        CHECK_INT(tokenizer_encode(tokenizer, scratch, text.at, text.count, 0, &ids), 0);
        text_add(&out, "%s", ids_text(scratch, &ids));
        CHECK_TEXT(short_sum(scratch, out), wanted);
        arena_reset(scratch);
    }
    tokenizer_close(tokenizer);
    arena_free(scratch);
    arena_free(arena);
}

static TextSpan repaired(Arena *arena, TextSpan text) {
    Text out = text_new(arena);
    Utf8Stream stream = {0};
    utf8_push(&stream, text.at, text.length, &out);
    utf8_finish(&stream, &out);
    return (TextSpan){out.at, out.count};
}

// The small vocabulary has every byte, so nothing is lost but what was not UTF-8.
TEST(decoding_undoes_encoding) {
    const char *rules[] = {"gpt-2", "smollm", "llama-bpe", "tekken", "default"};
    Arena *arena = arena_new();
    Lines texts = golden_lines(arena, "texts.txt");
    for (int i = 0; i < COUNT_OF(rules); i++) {
        Tokenizer *tokenizer = small_tokenizer(arena, rules[i]);
        for (int j = 0; j < texts.count; j++) {
            TextSpan text = unescape(arena, texts.at[j]), wanted = repaired(arena, text);
            for (int flags = 0; flags <= TOKENIZE_SPECIAL; flags += TOKENIZE_SPECIAL) {
                IdList ids = {0};
                tokenizer_encode(tokenizer, arena, text.at, text.length, flags, &ids);
                Text out = text_new(arena);
                tokenizer_decode(tokenizer, ids.at, ids.count, &out);
                CHECK(out.count == wanted.length && !memcmp(out.at, wanted.at, out.count));
            }
        }
        tokenizer_close(tokenizer);
    }
    arena_free(arena);
}

TEST(streamed_pieces_are_whole_characters) {
    Arena *arena = arena_new();
    Tokenizer *tokenizer = small_tokenizer(arena, "smollm");
    const char *text = "a\xf0\x9f\xa6\xa0 \xe9\xac\xb1!";
    IdList ids = {0};
    Utf8Stream stream = {0};
    Text out = text_new(arena);
    tokenizer_encode(tokenizer, arena, text, strlen(text), 0, &ids);
    CHECK(ids.count > 5);
    for (int i = 0; i < ids.count; i++) {
        TextSpan piece = tokenizer_piece(tokenizer, ids.at[i]);
        utf8_push(&stream, piece.at, piece.length, &out);
        CHECK(!strstr(out.at, "\xef\xbf\xbd"));
    }
    CHECK_TEXT(out.at, text);
    CHECK_FATAL_TEXT(tokenizer_piece(tokenizer, -1), "id -1");
    CHECK_FATAL_TEXT(tokenizer_piece(tokenizer, tokenizer_count(tokenizer)), "vocabulary has");
    tokenizer_close(tokenizer);
    arena_free(arena);
}

TEST(control_tokens_only_when_asked) {
    Arena *arena = arena_new();
    Tokenizer *tokenizer = small_tokenizer(arena, "smollm");
    int32_t end = tokenizer_find(tokenizer, "<|im_end|>"),
            tool = tokenizer_find(tokenizer, "<tool>");
    IdList ids = {0};
    tokenizer_encode(tokenizer, arena, "<|im_end|><tool>", 16, 0, &ids);
    CHECK(ids.count > 2);
    CHECK_INT(ids.at[ids.count - 1], tool);
    for (int i = 0; i < ids.count; i++) CHECK(ids.at[i] != end);
    ids.count = 0;
    tokenizer_encode(tokenizer, arena, "<|im_end|><tool>", 16, TOKENIZE_SPECIAL, &ids);
    CHECK_TEXT(ids_text(arena, &ids), arena_print(arena, "%d %d", end, tool));
    CHECK(tokenizer_is_control(tokenizer, end));
    CHECK(!tokenizer_is_control(tokenizer, tool));
    CHECK(!tokenizer_is_control(tokenizer, 0));
    CHECK_INT(tokenizer_find(tokenizer, "!"), -1);
    CHECK_INT(tokenizer_find(tokenizer, "nothing"), -1);
    tokenizer_close(tokenizer);
    arena_free(arena);
}

TEST(the_real_model_has_its_ends) {
    Arena *arena = arena_new();
    Tokenizer *tokenizer = real_tokenizer(arena);
    CHECK_INT(tokenizer_count(tokenizer), 49152);
    CHECK_INT(tokenizer_bos(tokenizer), 1);
    CHECK_INT(tokenizer_eos(tokenizer), 2);
    CHECK_INT(tokenizer_eot(tokenizer), 2);
    CHECK(tokenizer_is_end(tokenizer, 2));
    CHECK(tokenizer_is_end(tokenizer, tokenizer_find(tokenizer, "<|endoftext|>")));
    CHECK(!tokenizer_is_end(tokenizer, 1));
    CHECK(!tokenizer_is_end(tokenizer, -1));
    CHECK_TEXT(encoded(arena, tokenizer, span("Hello"), TOKENIZE_BOS), "19556");
    tokenizer_close(tokenizer);
    arena_free(arena);
}

TEST(bos_comes_first_where_the_model_asks) {
    Arena *arena = arena_new();
    for (int asked = 0; asked < 2; asked++) {
        GgufWriter *writer = small_vocabulary_writer(arena, "gpt-2");
        gguf_put_int(writer, "tokenizer.ggml.bos_token_id", 5);
        gguf_put_bool(writer, "tokenizer.ggml.add_bos_token", asked);
        Gguf *gguf = reopened(arena, writer);
        Tokenizer *tokenizer = opened_tokenizer(gguf);
        CHECK_TEXT(encoded(arena, tokenizer, span(""), TOKENIZE_BOS), asked ? "5" : "");
        CHECK_TEXT(encoded(arena, tokenizer, span(""), 0), "");
        tokenizer_close(tokenizer);
        gguf_close(gguf);
    }
    GgufWriter *writer = small_vocabulary_writer(arena, "llama3");
    gguf_put_int(writer, "tokenizer.ggml.bos_token_id", 7);
    Gguf *gguf = reopened(arena, writer);
    Tokenizer *tokenizer = opened_tokenizer(gguf);
    CHECK_TEXT(encoded(arena, tokenizer, span(""), TOKENIZE_BOS), "7");
    tokenizer_close(tokenizer);
    gguf_close(gguf);
    arena_free(arena);
}

TEST(one_bos_is_enough) {
    Arena *arena = arena_new();
    GgufWriter *writer = small_vocabulary_writer(arena, "llama-bpe");
    Tokenizer *plain = small_tokenizer(arena, "llama-bpe");
    int32_t bos = tokenizer_find(plain, "<|im_start|>");
    gguf_put_int(writer, "tokenizer.ggml.bos_token_id", bos);
    Gguf *gguf = reopened(arena, writer);
    Tokenizer *tokenizer = opened_tokenizer(gguf);
    const char *one = arena_print(arena, "%d", bos), *two = arena_print(arena, "%d %d", bos, bos);
    TextSpan text = span("<|im_start|>"), twice = span("<|im_start|><|im_start|>");
    int flags = TOKENIZE_BOS | TOKENIZE_SPECIAL;
    CHECK_TEXT(encoded(arena, tokenizer, text, flags), one);
    CHECK_TEXT(encoded(arena, tokenizer, twice, flags), two);
    CHECK_TEXT(encoded(arena, tokenizer, span(""), flags), one);
    const char *as_text = encoded(arena, tokenizer, text, TOKENIZE_BOS);
    const char *without = encoded(arena, tokenizer, text, 0);
    CHECK_TEXT(as_text, arena_print(arena, "%d %s", bos, without));
    tokenizer_close(plain);
    tokenizer_close(tokenizer);
    gguf_close(gguf);
    arena_free(arena);
}

// Without a heap this would take hours: a word of n bytes needs n merges.
TEST(a_megabyte_in_one_word) {
    Arena *arena = arena_new();
    Tokenizer *tokenizer = small_tokenizer(arena, "gpt-2");
    size_t size = 1 << 20;
    char *text = arena_alloc(arena, size);
    for (size_t i = 0; i < size; i++) text[i] = "xi"[i % 4099 == 0];
    IdList ids = {0};
    CHECK_INT(tokenizer_encode(tokenizer, arena, text, size, 0, &ids), 0);
    CHECK(ids.count < 200000);
    Text out = text_new(arena);
    tokenizer_decode(tokenizer, ids.at, ids.count, &out);
    CHECK(out.count == size && !memcmp(out.at, text, size));
    CHECK_FAIL(tokenizer_encode(tokenizer, arena, text, (size_t)1 << 30, 0, &ids), "too long");
    tokenizer_close(tokenizer);
    arena_free(arena);
}

// A vocabulary of a, b and one more token, whose text, kind and merge the tests vary.
static GgufWriter *tiny(const char *third, const char *merge) {
    GgufWriter *writer = gguf_writer_new();
    TextSpan tokens[] = {span("a"), span("b"), span(third)}, merges[] = {span(merge)};
    gguf_put_array_text(writer, "tokenizer.ggml.merges", merges, *merge != 0);
    gguf_put_array_text(writer, "tokenizer.ggml.tokens", tokens, 3);
    return writer;
}

static void check_refused(GgufWriter *writer, const char *why) {
    Arena *arena = arena_new();
    gguf_put_text(writer, "tokenizer.ggml.model", "gpt2");
    gguf_put_text(writer, "tokenizer.ggml.pre", "gpt-2");
    Gguf *gguf = reopened(arena, writer);
    Tokenizer *tokenizer = tokenizer_open(gguf);
    CHECK(!tokenizer);
    if (strstr(error_text(), "PCRE2")) SKIP("built without PCRE2");
    CHECK_FAIL(-1, why);
    CHECK(strstr(error_text(), "written.gguf"));
    gguf_close(gguf);
    arena_free(arena);
}

TEST(refuses_bad_vocabularies) {
    check_refused(tiny("a", ""), "tokens 0 and 2 of the vocabulary are the same text");
    check_refused(tiny("ab", "a"), "merge 0 of the tokenizer does not name two tokens");
    check_refused(tiny("ab", "a "), "merge 0 of the tokenizer does not name two tokens");
    check_refused(tiny("ab", "a c"), "merge 0 of the tokenizer names a token");
    check_refused(tiny("ab", "b a"), "merge 0 of the tokenizer names a token");
    GgufWriter *writer = gguf_writer_new();
    gguf_put_array_text(writer, "tokenizer.ggml.tokens", NULL, 0);
    check_refused(writer, "a vocabulary of 0 tokens");
    check_refused(gguf_writer_new(), "key tokenizer.ggml.tokens is missing");
    writer = gguf_writer_new();
    gguf_put_array_text(writer, "tokenizer.ggml.tokens", (TextSpan[]){span("ab")}, 1);
    check_refused(writer, "no token for any single byte");
    writer = gguf_writer_new();
    gguf_put_array_text(writer, "tokenizer.ggml.tokens", (TextSpan[]){span("a")}, 1);
    check_refused(writer, "key tokenizer.ggml.merges is missing");
    writer = gguf_writer_new();
    TextSpan merges[] = {span("a b"), span("a b")};
    gguf_put_array_text(writer, "tokenizer.ggml.merges", merges, 2);
    gguf_put_array_text(writer, "tokenizer.ggml.tokens",
                        (TextSpan[]){span("a"), span("b"), span("ab")}, 3);
    check_refused(writer, "merge 1 of the tokenizer appears twice");
}

TEST(refuses_bad_ids_and_kinds) {
    GgufWriter *writer = tiny("ab", "a b");
    gguf_put_int(writer, "tokenizer.ggml.eos_token_id", 3);
    check_refused(writer, "tokenizer.ggml.eos_token_id is 3, but the vocabulary has 3 tokens");
    writer = tiny("ab", "a b");
    gguf_put_int(writer, "tokenizer.ggml.bos_token_id", -1);
    check_refused(writer, "tokenizer.ggml.bos_token_id is -1");
    writer = tiny("ab", "a b");
    gguf_put_array_i32(writer, "tokenizer.ggml.token_type", (int32_t[]){1, 1}, 2);
    check_refused(writer, "tokenizer.ggml.token_type has 2 entries");
    writer = tiny("ab", "a b");
    gguf_put_bool(writer, "tokenizer.ggml.add_bos_token", true);
    check_refused(writer, "tokenizer.ggml.bos_token_id is missing");
    writer = tiny("ab", "a b");
    gguf_put_text(writer, "tokenizer.ggml.pre", "poro-chat");
    check_refused(writer, "splitting rule poro-chat is not supported yet");
    writer = tiny("ab", "a b");
    gguf_put_text(writer, "tokenizer.ggml.model", "rwkv");
    check_refused(writer, "tokenizer model rwkv is not supported yet");
    writer = tiny("ab", "a b");
    gguf_put_array_f32(writer, "tokenizer.ggml.scores", (float[]){0, NAN, 1}, 3);
    check_refused(writer, "the score of token 1 is nan");
    writer = tiny("ab", "a b");
    gguf_put_array_f32(writer, "tokenizer.ggml.scores", (float[]){0, 1}, 2);
    check_refused(writer, "tokenizer.ggml.scores has 2 entries");
}

TEST(empty_and_unknown_tokens_do_no_harm) {
    Arena *arena = arena_new();
    GgufWriter *writer = tiny("", "");
    gguf_put_text(writer, "tokenizer.ggml.model", "gpt2");
    gguf_put_array_i32(writer, "tokenizer.ggml.token_type", (int32_t[]){-7, 99, 3}, 3);
    Gguf *gguf = reopened(arena, writer);
    Tokenizer *tokenizer = opened_tokenizer(gguf);
    // c has no token and is left out, as in the tokenizers library; so its neighbours meet.
    CHECK_TEXT(encoded(arena, tokenizer, span("abca"), TOKENIZE_SPECIAL), "0 1 0");
    CHECK_INT(tokenizer_eos(tokenizer), -1);
    CHECK_INT(tokenizer_eot(tokenizer), -1);
    CHECK(!tokenizer_is_end(tokenizer, -1));
    tokenizer_close(tokenizer);
    gguf_close(gguf);
    arena_free(arena);
}

TEST(every_cut_and_flip_of_a_vocabulary_is_survived) {
    Arena *arena = arena_new();
    GgufWriter *writer = tiny("ab", "a b");
    gguf_put_text(writer, "tokenizer.ggml.model", "gpt2");
    gguf_put_text(writer, "tokenizer.ggml.pre", "smollm");
    gguf_put_array_i32(writer, "tokenizer.ggml.token_type", (int32_t[]){1, 1, 4}, 3);
    gguf_put_int(writer, "tokenizer.ggml.eos_token_id", 2);
    Gguf *gguf = reopened(arena, writer);
    tokenizer_close(opened_tokenizer(gguf));
    FileBytes file = gguf_file(gguf);
    char *bytes = arena_copy(arena, file.at, file.size);
    for (size_t i = 0; i < 8 * file.size; i++) {
        bytes[i / 8] = (char)(bytes[i / 8] ^ 1 << i % 8);
        Gguf *other = gguf_read("test", (FileBytes){.at = (uint8_t *)bytes, .size = file.size});
        Tokenizer *tokenizer = other ? tokenizer_open(other) : NULL;
        if (tokenizer) encoded(arena, tokenizer, span("aab ba\xff 1"), TOKENIZE_SPECIAL);
        tokenizer_close(tokenizer);
        gguf_close(other);
        bytes[i / 8] = (char)(bytes[i / 8] ^ 1 << i % 8);
    }
    gguf_close(gguf);
    arena_free(arena);
}
