/* sentencepiece_test.c - BPE and unigram with ids equal to the sentencepiece library's; hostile
 * vocabularies and maps of characters. */
#include "helpers.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAP_BYTES_MOST = 4096 };

static void put_map(GgufWriter *writer, Arena *arena, TextSpan digits) {
    uint8_t *bytes = arena_alloc(arena, digits.length / 2);
    for (size_t i = 0; i < digits.length / 2; i++) {
        bytes[i] = (uint8_t)strtol(terminated(arena, (TextSpan){digits.at + 2 * i, 2}), NULL, 16);
    }
    gguf_put_array_u8(writer, "tokenizer.ggml.precompiled_charsmap", bytes,
                      (int64_t)digits.length / 2);
}

// The vocabulary of golden/pieces-NAME.txt, without its map of characters.
static GgufWriter *pieces_writer(Arena *arena, const char *name, const char *model, Lines *lines) {
    GgufWriter *writer = gguf_writer_new();
    LIST(TextSpan) tokens = {0};
    IdList kinds = {0};
    LIST(float) scores = {0};
    int prefix, single, i = 1;
    *lines = golden_lines(arena, arena_print(arena, "pieces-%s.txt", name));
    CHECK_INT(sscanf(terminated(arena, lines->at[0]), "prefix %d single %d", &prefix, &single), 2);
    for (; i < lines->count && lines->at[i].length; i++) {
        char *end;
        const char *line = terminated(arena, lines->at[i]);
        *list_add(arena, &kinds) = (int32_t)strtol(line, &end, 10);
        *list_add(arena, &scores) = strtof(end, &end);
        *list_add(arena, &tokens) = span(end + 1);
    }
    gguf_put_text(writer, "tokenizer.ggml.model", model);
    gguf_put_array_text(writer, "tokenizer.ggml.tokens", tokens.at, tokens.count);
    gguf_put_array_f32(writer, "tokenizer.ggml.scores", scores.at, scores.count);
    gguf_put_array_i32(writer, "tokenizer.ggml.token_type", kinds.at, kinds.count);
    gguf_put_bool(writer, "tokenizer.ggml.add_space_prefix", prefix);
    gguf_put_bool(writer, "tokenizer.ggml.remove_extra_whitespaces", single);
    gguf_put_int(writer, "tokenizer.ggml.bos_token_id", 1);
    gguf_put_int(writer, "tokenizer.ggml.eos_token_id", 2);
    return writer;
}

static Tokenizer *written(Arena *arena, GgufWriter *writer) {
    Gguf *gguf = reopened(arena, writer);
    CHECK(gguf);
    Tokenizer *tokenizer = opened_tokenizer(gguf);
    gguf_close(gguf);
    return tokenizer;
}

static Tokenizer *pieces_tokenizer(Arena *arena, const char *name, const char *model) {
    Lines lines;
    GgufWriter *writer = pieces_writer(arena, name, model, &lines);
    int last = lines.count - 1;
    if (!lines.at[last - 1].length) put_map(writer, arena, lines.at[last]);
    return written(arena, writer);
}

static void check_pieces(const char *name, const char *model) {
    Arena *arena = arena_new();
    Tokenizer *tokenizer = pieces_tokenizer(arena, name, model);
    check_golden_ids(tokenizer, name, 0);
    tokenizer_close(tokenizer);
    arena_free(arena);
}

TEST(llama_ids) { check_pieces("llama", "llama"); }

TEST(unused_tokens_fall_apart) { check_pieces("unused", "llama"); }

TEST(user_defined_tokens_stay_whole) { check_pieces("user", "llama"); }

TEST(tokens_over_several_words) { check_pieces("words", "llama"); }

TEST(characters_are_mapped) { check_pieces("map", "t5"); }

TEST(unigram_ids) { check_pieces("unigram", "t5"); }

TEST(unigram_ids_with_bytes) { check_pieces("bytes", "t5"); }

static const char *decoded(Arena *arena, const Tokenizer *tokenizer, TextSpan text, int flags) {
    IdList ids = {0};
    Text out = text_new(arena);
    CHECK_INT(tokenizer_encode(tokenizer, arena, text.at, text.length, flags, &ids), 0);
    tokenizer_decode(tokenizer, ids.at, ids.count, &out);
    return out.at;
}

TEST(decoding_undoes_encoding) {
    Arena *arena = arena_new();
    Tokenizer *tokenizer = pieces_tokenizer(arena, "user", "llama");
    const char *texts[] = {"Hello",
                           " two  spaces ",
                           "a\nb\t\xf0\x9f\xa6\xa0",
                           "<tool>x",
                           "   ",
                           "1<s>2 <s> 3",
                           "<0x0A>",
                           "",
                           "the the",
                           "\xe7\x95\x8c \xc3\xa9"};
    for (int i = 0; i < COUNT_OF(texts); i++) {
        for (int flags = 0; flags <= TOKENIZE_SPECIAL; flags += TOKENIZE_SPECIAL) {
            CHECK_TEXT(decoded(arena, tokenizer, span(texts[i]), flags), texts[i]);
        }
    }
    tokenizer_close(tokenizer);
    arena_free(arena);
}

TEST(pieces_keep_their_spaces) {
    Arena *arena = arena_new();
    Tokenizer *tokenizer = pieces_tokenizer(arena, "llama", "llama");
    IdList ids = {0};
    Text out = text_new(arena);
    CHECK_INT(tokenizer_encode(tokenizer, arena, "the\n", 4, 0, &ids), 0);
    for (int i = 0; i < ids.count; i++) {
        TextSpan piece = tokenizer_piece(tokenizer, ids.at[i]);
        text_add_bytes(&out, piece.at, piece.length);
    }
    CHECK_TEXT(out.at, " the\n");
    tokenizer_close(tokenizer);
    arena_free(arena);
}

// The name of a byte or control token in a text is text.
TEST(names_of_tokens_are_text) {
    Arena *arena = arena_new();
    Tokenizer *tokenizer = pieces_tokenizer(arena, "llama", "llama");
    const char *newline = encoded(arena, tokenizer, span("\n"), 0);
    CHECK(strcmp(encoded(arena, tokenizer, span("<0x0A>"), TOKENIZE_SPECIAL), newline));
    IdList ids = {0};
    CHECK_INT(tokenizer_encode(tokenizer, arena, "<s>", 3, 0, &ids), 0);
    for (int i = 0; i < ids.count; i++) CHECK(ids.at[i] != 1);
    CHECK_TEXT(encoded(arena, tokenizer, span("<s>"), TOKENIZE_SPECIAL), "1");
    CHECK_TEXT(encoded(arena, tokenizer, span("<s>"), TOKENIZE_SPECIAL | TOKENIZE_BOS), "1");
    CHECK_TEXT(encoded(arena, tokenizer, span(""), TOKENIZE_BOS), "1");
    tokenizer_close(tokenizer);
    tokenizer = pieces_tokenizer(arena, "unigram", "t5");
    CHECK_TEXT(encoded(arena, tokenizer, span(""), TOKENIZE_BOS), "");
    tokenizer_close(tokenizer);
    arena_free(arena);
}

// _, a, b, ab, aa, and what the tests add: keys put first win.
static GgufWriter *tiny(GgufWriter *writer, const char *model) {
    TextSpan tokens[] = {span("<unk>"), span("\xe2\x96\x81"), span("a"),
                         span("b"),     span("ab"),           span("aa")};
    gguf_put_text(writer, "tokenizer.ggml.model", model);
    gguf_put_array_text(writer, "tokenizer.ggml.tokens", tokens, 6);
    gguf_put_array_i32(writer, "tokenizer.ggml.token_type", (int32_t[]){2, 1, 1, 1, 1, 1}, 6);
    gguf_put_array_f32(writer, "tokenizer.ggml.scores", (float[]){0, -5, -4, -3, -2, -1}, 6);
    return writer;
}

static void check_tiny(GgufWriter *writer, const char *model, const char *text, const char *ids) {
    Arena *arena = arena_new();
    Tokenizer *tokenizer = written(arena, tiny(writer, model));
    CHECK_TEXT(encoded(arena, tokenizer, span(text), TOKENIZE_SPECIAL), ids);
    tokenizer_close(tokenizer);
    arena_free(arena);
}

TEST(the_highest_score_merges_first) {
    check_tiny(gguf_writer_new(), "llama", "aab", "1 5 3");
    GgufWriter *writer = gguf_writer_new();
    gguf_put_array_f32(writer, "tokenizer.ggml.scores", (float[]){0, -5, -4, -3, -1, -2}, 6);
    check_tiny(writer, "llama", "aab", "1 2 4");
    writer = gguf_writer_new();
    gguf_put_array_f32(writer, "tokenizer.ggml.scores", (float[]){0, 0, 0, 0, 0, 0}, 6);
    check_tiny(writer, "llama", "aaab", "1 5 4");
}

// A character without a token: the unknown token, once for a row of them.
TEST(missing_byte_tokens_are_unknown) {
    check_tiny(gguf_writer_new(), "llama", "axyb", "1 2 0 3");
    check_tiny(gguf_writer_new(), "t5", "axyb", "2 0 3");
    GgufWriter *writer = gguf_writer_new();
    TextSpan tokens[] = {span("<unk>"), span("\xe2\x96\x81"), span("a"),
                         span("b"),     span("<0x78>"),       span("aa")};
    gguf_put_array_text(writer, "tokenizer.ggml.tokens", tokens, 6);
    gguf_put_array_i32(writer, "tokenizer.ggml.token_type", (int32_t[]){2, 1, 1, 1, 6, 1}, 6);
    check_tiny(writer, "llama", "axyb", "1 2 4 0 3");
    writer = gguf_writer_new();
    gguf_put_array_i32(writer, "tokenizer.ggml.token_type", (int32_t[]){1, 1, 1, 1, 1, 1}, 6);
    check_tiny(writer, "llama", "axyb", "1 2 3");
}

// As Hugging Face's tokenizer.json has it: merges, of which the first counts, and no scores.
TEST(merges_stand_in_for_scores) {
    Arena *arena = arena_new();
    GgufWriter *writer = gguf_writer_new();
    TextSpan tokens[] = {span("<unk>"), span("\xe2\x96\x81"), span("a"),
                         span("b"),     span("ab"),           span("aa")};
    gguf_put_text(writer, "tokenizer.ggml.model", "llama");
    gguf_put_array_text(writer, "tokenizer.ggml.tokens", tokens, 6);
    gguf_put_array_text(writer, "tokenizer.ggml.merges", (TextSpan[]){span("a b"), span("a a")}, 2);
    Tokenizer *tokenizer = written(arena, writer);
    CHECK_TEXT(encoded(arena, tokenizer, span("aab aa"), 0), "1 2 4 1 5");
    tokenizer_close(tokenizer);
    arena_free(arena);
}

// Of the user-defined tokens, those that were added to a trained model are cut out first, so that a
// space comes in front of what follows.
TEST(added_tokens_part_a_text) {
    for (int added = 0; added < 2; added++) {
        GgufWriter *writer = gguf_writer_new();
        float score = added ? -1000 : 0;
        gguf_put_array_i32(writer, "tokenizer.ggml.token_type", (int32_t[]){2, 1, 1, 1, 4, 1}, 6);
        gguf_put_array_f32(writer, "tokenizer.ggml.scores", (float[]){0, -5, -4, -3, score, -1}, 6);
        check_tiny(writer, "llama", "aaba", added ? "1 2 4 1 2" : "1 2 4 2");
    }
}

static void check_refused(GgufWriter *writer, const char *model, const char *why) {
    Arena *arena = arena_new();
    Gguf *gguf = reopened(arena, tiny(writer, model));
    Tokenizer *tokenizer = tokenizer_open(gguf);
    CHECK(!tokenizer);
    CHECK_FAIL(-1, why);
    CHECK(strstr(error_text(), "written.gguf"));
    gguf_close(gguf);
    arena_free(arena);
}

TEST(refuses_bad_vocabularies) {
    GgufWriter *writer = gguf_writer_new();
    gguf_put_array_f32(writer, "tokenizer.ggml.scores", (float[]){0, 0, 0, 0, 0, INFINITY}, 6);
    check_refused(writer, "llama", "the score of token 5 is inf");
    writer = gguf_writer_new();
    gguf_put_array_i32(writer, "tokenizer.ggml.token_type", (int32_t[]){2, 1, 1, 6, 1, 1}, 6);
    check_refused(writer, "llama", "token 3 is of the kind byte, but its text is not like <0x0A>");
    writer = gguf_writer_new();
    gguf_put_int(writer, "tokenizer.ggml.unknown_token_id", 6);
    check_refused(writer, "t5", "tokenizer.ggml.unknown_token_id is 6");
    writer = gguf_writer_new();
    gguf_put_array_i32(writer, "tokenizer.ggml.scores", (int32_t[]){0, 0, 0, 0, 0, 0}, 6);
    check_refused(writer, "t5", "tokenizer.ggml.scores");
}

static void check_map_refused(size_t bytes, const char *why) {
    static const uint8_t zeros[MAP_BYTES_MOST];
    uint8_t map[MAP_BYTES_MOST];
    memcpy(map, zeros, sizeof map);
    map[0] = (uint8_t)(bytes > 8 ? 8 : bytes);
    GgufWriter *writer = gguf_writer_new();
    gguf_put_array_u8(writer, "tokenizer.ggml.precompiled_charsmap", map, (int64_t)bytes);
    check_refused(writer, "t5", why);
}

TEST(refuses_maps_that_are_cut_short) {
    for (size_t bytes = 1; bytes <= 12; bytes++) check_map_refused(bytes, "is cut short");
    GgufWriter *writer = gguf_writer_new();
    gguf_put_text(writer, "tokenizer.ggml.precompiled_charsmap", "a");
    check_refused(writer, "t5", "is not an array of bytes");
}

// Whatever a unit of the map holds, encoding ends with ids or a message.
TEST(survives_maps_that_point_anywhere) {
    Arena *arena = arena_new(), *scratch = arena_new();
    Lines lines;
    GgufWriter *writer = pieces_writer(arena, "map", "t5", &lines);
    put_map(writer, arena, lines.at[lines.count - 1]);
    Gguf *gguf = reopened(arena, writer);
    const GgufKey *key = gguf_find_key(gguf, "tokenizer.ggml.precompiled_charsmap");
    FileBytes file = gguf_file(gguf);
    char *bytes = arena_copy(arena, file.at, file.size), *map = bytes + (key->at - file.at);
    int refused = 0;
    for (size_t i = 0; i < key->bytes; i++) {
        char kept = map[i];
        map[i] = (char)(i % 3 ? 0xff : kept ^ 0x10);
        Gguf *other = gguf_read("test", (FileBytes){.at = (uint8_t *)bytes, .size = file.size});
        Tokenizer *tokenizer = other ? tokenizer_open(other) : NULL;
        IdList ids = {0};
        const char *text = "e\xcc\x81 \xef\xac\x81 \xef\xb7\xba\xe2\x80\xa6 A\xcc\x8a\x01\tx";
        if (tokenizer && tokenizer_encode(tokenizer, scratch, text, strlen(text), 0, &ids)) {
            CHECK(strstr(error_text(), "points outside itself"));
            refused++;
        }
        tokenizer_close(tokenizer);
        gguf_close(other);
        map[i] = kept;
        arena_reset(scratch);
    }
    CHECK(refused > 10);
    gguf_close(gguf);
    arena_free(scratch);
    arena_free(arena);
}

// A megabyte without a space: quadratic time would be hours.
static void check_long(const char *name, const char *model, int32_t most) {
    Arena *arena = arena_new();
    Tokenizer *tokenizer = pieces_tokenizer(arena, name, model);
    size_t size = 1 << 20;
    char *text = arena_alloc(arena, size + 1);
    memset(text, 'a', size);
    for (size_t i = 0; i < size; i += 4099) text[i] = 'x';
    IdList ids = {0};
    CHECK_INT(tokenizer_encode(tokenizer, arena, text, size, 0, &ids), 0);
    CHECK(ids.count > 1000 && ids.count <= most);
    Text out = text_new(arena);
    tokenizer_decode(tokenizer, ids.at, ids.count, &out);
    CHECK_TEXT(out.at, text);
    tokenizer_close(tokenizer);
    arena_free(arena);
}

TEST(a_megabyte_in_one_word) {
    check_long("llama", "llama", 1 << 20);
    check_long("unused", "llama", 1 << 20);
    check_long("unigram", "t5", 1 << 20);
}

TEST(every_cut_and_flip_of_a_vocabulary_is_survived) {
    static const char *const models[] = {"llama", "t5"};
    Arena *arena = arena_new(), *scratch = arena_new();
    for (int kind = 0; kind < COUNT_OF(models); kind++) {
        Gguf *gguf = reopened(arena, tiny(gguf_writer_new(), models[kind]));
        FileBytes file = gguf_file(gguf);
        char *bytes = arena_copy(arena, file.at, file.size);
        for (size_t i = 0; i < 8 * file.size; i++) {
            bytes[i / 8] = (char)(bytes[i / 8] ^ 1 << i % 8);
            Gguf *other = gguf_read("test", (FileBytes){.at = (uint8_t *)bytes, .size = file.size});
            Tokenizer *tokenizer = other ? tokenizer_open(other) : NULL;
            if (tokenizer) encoded(scratch, tokenizer, span("aab b\xff \xe2\x96\x81<unk>"), 2);
            tokenizer_close(tokenizer);
            gguf_close(other);
            arena_reset(scratch);
            bytes[i / 8] = (char)(bytes[i / 8] ^ 1 << i % 8);
        }
        gguf_close(gguf);
    }
    arena_free(scratch);
    arena_free(arena);
}
