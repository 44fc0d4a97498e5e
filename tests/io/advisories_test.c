/* advisories_test.c - what was reported against other readers of model files, as files for this
 * one. Each is refused in one line that names the file. Behind a name stands what it was elsewhere;
 * a number of llama.cpp's is an issue or pull request there. */
#include "fuzz/small_files.h"
#include "picograd.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { U8, I8, U16, I16, U32, I32, F32, BOOL, TEXT, ARRAY, U64, I64, F64 };

static void add_u32(Text *file, uint32_t value) { text_add_bytes(file, (char *)&value, 4); }
static void add_u64(Text *file, uint64_t value) { text_add_bytes(file, (char *)&value, 8); }

static void add_text(Text *file, const char *text) {
    add_u64(file, strlen(text));
    text_add(file, "%s", text);
}

static Text begin(Arena *arena, uint64_t tensors, uint64_t keys) {
    Text file = text_new(arena);
    text_add(&file, "GGUF");
    add_u32(&file, 3);
    add_u64(&file, tensors);
    add_u64(&file, keys);
    return file;
}

static void add_key(Text *file, const char *name, uint32_t type) {
    add_text(file, name);
    add_u32(file, type);
}

static void add_array(Text *file, const char *name, uint32_t element, uint64_t count) {
    add_key(file, name, ARRAY);
    add_u32(file, element);
    add_u64(file, count);
}

static void add_tensor(Text *file, const char *name, int rank, const uint64_t *shape, uint32_t type,
                       uint64_t offset) {
    add_text(file, name);
    add_u32(file, (uint32_t)rank);
    for (int i = 0; i < rank; i++) add_u64(file, shape[i]);
    add_u32(file, type);
    add_u64(file, offset);
}

static void add_zeros(Text *file, size_t count) {
    for (size_t i = 0; i < count; i++) text_add_bytes(file, "", 1);
}

static bool is_one_line(const char *text) {
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f) return false;
    return true;
}

static void check_refusal(const char *why, const char *source, int line) {
    check_part(error_text(), why, "the refusal", source, line);
    check_part(error_text(), "bad.gguf", "the refusal", source, line);
    check(is_one_line(error_text()), "a refusal is one line", source, line);
}

// In a buffer of its very size, so that the sanitizers see one byte too many.
static Gguf *opened(const Text *file, void **buffer) {
    *buffer = malloc(file->count ? file->count : 1);
    memcpy(*buffer, file->at, file->count);
    return gguf_read("bad.gguf", (FileBytes){.at = *buffer, .size = file->count});
}

static void gguf_refused(const Text *file, const char *why, const char *source, int line) {
    void *buffer;
    Gguf *gguf = opened(file, &buffer);
    check(!gguf, why, source, line);
    check_refusal(why, source, line);
    free(buffer);
}
#define GGUF_REFUSED(file, why) gguf_refused(&(file), (why), __FILE__, __LINE__)

// ---- counts, lengths, sizes --------------------------------------------------------------------

TEST(counts_that_wrap_an_allocation) {  // CVE-2024-23605, CVE-2024-21836: header.n_kv, n_tensors
    const uint64_t counts[] = {UINT64_MAX, 1ull << 63, 1ull << 60, UINT64_MAX / 64 + 2, 1u << 31};
    Arena *arena = arena_new();
    for (int i = 0; i < COUNT_OF(counts); i++) {
        Text keys = begin(arena, 0, counts[i]), tensors = begin(arena, counts[i], 0);
        add_zeros(&keys, 200);
        add_zeros(&tensors, 200);
        GGUF_REFUSED(keys, "keys, more than the file holds");
        GGUF_REFUSED(tensors, "tensors, more than the file holds");
    }
    arena_free(arena);
}

TEST(text_lengths_that_wrap) {  // CVE-2024-23496: gguf_fread_str added 1 to a length of 2^64 - 1
    const uint64_t lengths[] = {UINT64_MAX, UINT64_MAX - 7, 1ull << 63, 1ull << 32, 1000};
    Arena *arena = arena_new();
    for (int i = 0; i < COUNT_OF(lengths); i++) {
        Text name = begin(arena, 0, 1), value = begin(arena, 0, 1), element = begin(arena, 0, 1);
        add_u64(&name, lengths[i]);
        add_zeros(&name, 64);
        GGUF_REFUSED(name, "the file ends");
        add_key(&value, "k", TEXT);
        add_u64(&value, lengths[i]);
        add_zeros(&value, 64);
        GGUF_REFUSED(value, "the file ends");
        add_array(&element, "k", TEXT, 2);
        add_text(&element, "first");
        add_u64(&element, lengths[i]);
        GGUF_REFUSED(element, "the file ends");
    }
    arena_free(arena);
}

TEST(array_counts_that_wrap) {  // CVE-2024-21825, CVE-2024-21802: n elements times their size
    const uint64_t counts[] = {UINT64_MAX, (1ull << 62) + 1, (1ull << 61) + 1, 1ull << 40, 26};
    Arena *arena = arena_new();
    for (uint32_t type = U8; type <= F64; type++)
        for (int i = 0; type != ARRAY && i < COUNT_OF(counts); i++) {
            Text file = begin(arena, 0, 1);
            add_array(&file, "k", type, counts[i]);
            add_zeros(&file, 25);
            GGUF_REFUSED(file, "more than the file holds");
        }
    arena_free(arena);
}

TEST(arrays_in_arrays) {  // llama.cpp 26690 and before: nesting without a limit
    Arena *arena = arena_new();
    Text file = begin(arena, 0, 1);
    add_array(&file, "k", ARRAY, 1);
    for (int i = 0; i < 100000; i++) {
        add_u32(&file, ARRAY);
        add_u64(&file, 1);
    }
    GGUF_REFUSED(file, "arrays");
    arena_free(arena);
}

TEST(
    types_out_of_range) {  // llama.cpp 8816, 19856: a type number indexes a table, also if negative
    const uint32_t types[] = {13, 255, 1u << 31, UINT32_MAX};
    Arena *arena = arena_new();
    for (int i = 0; i < COUNT_OF(types); i++) {
        Text key = begin(arena, 0, 1), array = begin(arena, 0, 1), tensor = begin(arena, 1, 0);
        add_key(&key, "k", types[i]);
        add_zeros(&key, 64);
        GGUF_REFUSED(key, "unknown type");
        add_array(&array, "k", types[i], 1);
        add_zeros(&array, 64);
        GGUF_REFUSED(array, "unknown type");
        add_tensor(&tensor, "t", 1, (uint64_t[]){32}, types[i] + 200, 0);
        add_zeros(&tensor, 256);
        GGUF_REFUSED(tensor, "unknown type");
    }
    arena_free(arena);
}

// ---- tensors -----------------------------------------------------------------------------------

static void shape_refused(int rank, const uint64_t *shape, uint32_t type, const char *why) {
    Arena *arena = arena_new();
    Text file = begin(arena, 1, 0);
    add_tensor(&file, "t", rank, shape, type, 0);
    add_zeros(&file, 4096);
    GGUF_REFUSED(file, why);
    arena_free(arena);
}

TEST(dimensions_of_zero_and_of_2_63) {  // ggml 1517, llama.cpp 24263: INT64_MAX / 0 is a signal
    const uint64_t sizes[] = {0, 1ull << 63, UINT64_MAX};
    for (int rank = 1; rank <= 4; rank++)
        for (int d = 0; d < rank; d++)
            for (int i = 0; i < COUNT_OF(sizes); i++) {
                uint64_t shape[4] = {32, 1, 1, 1};
                shape[d] = sizes[i];
                shape_refused(rank, shape, GGUF_F32, "zero or too large");
            }
    shape_refused(0, NULL, GGUF_F32, "0 dimensions");
    shape_refused(5, (uint64_t[]){1, 1, 1, 1, 1}, GGUF_F32, "5 dimensions");
}

TEST(products_of_dimensions_that_wrap) {  // CVE-2025-53630, CVE-2026-27940: a sum of sizes wraps
    shape_refused(2, (uint64_t[]){1ull << 32, 1ull << 32}, GGUF_F32, "too large");
    shape_refused(4, (uint64_t[]){1 << 16, 1 << 16, 1 << 16, 1 << 16}, GGUF_F32, "too large");
    shape_refused(2, (uint64_t[]){1ull << 31, (1ull << 32) + 1}, GGUF_Q8_0, "too large");
    shape_refused(1, (uint64_t[]){1ull << 62}, GGUF_F32, "more than a file can hold");
    shape_refused(1, (uint64_t[]){1ull << 60}, GGUF_F32, "beyond the end of the file");
    shape_refused(2, (uint64_t[]){32, (1ull << 58) - 1}, GGUF_Q4_0, "beyond the end of the file");
}

TEST(rows_that_fill_no_block) {
    shape_refused(1, (uint64_t[]){31}, GGUF_Q4_0, "in blocks of 32");
    shape_refused(2, (uint64_t[]){16, 2}, GGUF_Q8_0, "in blocks of 32");
}

TEST(offsets_past_the_file) {  // data + offset wraps, or lies behind the last byte
    const uint64_t offsets[] = {UINT64_MAX - 31, 1ull << 63, 1ull << 32, 4096, 2080};
    for (int i = 0; i < COUNT_OF(offsets); i++) {
        Arena *arena = arena_new();
        Text file = begin(arena, 1, 0);
        add_tensor(&file, "t", 1, (uint64_t[]){512}, GGUF_F32, offsets[i]);
        add_zeros(&file, 4000);
        GGUF_REFUSED(file, "beyond the end of the file");
        arena_free(arena);
    }
}

TEST(alignments) {  // llama.cpp 19856, 26318: 0 divides; one that is no power of two; a text
    const uint32_t alignments[] = {0, 3, 33, 1u << 31, UINT32_MAX};
    Arena *arena = arena_new();
    for (int i = 0; i < COUNT_OF(alignments); i++) {
        Text file = begin(arena, 0, 1);
        add_key(&file, "general.alignment", U32);
        add_u32(&file, alignments[i]);
        GGUF_REFUSED(file, "not a power of two");
    }
    Text file = begin(arena, 0, 1);
    add_key(&file, "general.alignment", TEXT);
    add_text(&file, "32");
    GGUF_REFUSED(file, "general.alignment is text");
    arena_free(arena);
}

TEST(names_twice_and_empty) {  // llama.cpp 19856: duplicates; 24263: an empty key is an assertion
    Arena *arena = arena_new();
    Text keys = begin(arena, 0, 2), tensors = begin(arena, 2, 0), empty = begin(arena, 0, 1);
    for (int i = 0; i < 2; i++) {
        add_key(&keys, "k", U32);
        add_u32(&keys, 1);
        add_tensor(&tensors, "t", 1, (uint64_t[]){8}, GGUF_F32, 0);
    }
    add_zeros(&tensors, 128);
    GGUF_REFUSED(keys, "appears twice");
    GGUF_REFUSED(tensors, "appears twice");
    add_key(&empty, "", U32);
    add_u32(&empty, 1);
    GGUF_REFUSED(empty, "a key's name");
    arena_free(arena);
}

// ---- typed reads -------------------------------------------------------------------------------

// llama.cpp 24888, 26690: scores and token types were read with four bytes an element, whatever it
// was in the file.
TEST(element_types_that_are_not_what_the_reader_assumes) {
    Arena *arena = arena_new();
    for (uint32_t type = U8; type <= F64; type++) {
        if (type == ARRAY) continue;
        Text file = begin(arena, 0, 1);
        void *buffer;
        int64_t count = -1;
        add_array(&file, "k", type, 2);
        add_zeros(&file, 16);
        Gguf *gguf = opened(&file, &buffer);
        CHECK(gguf != NULL);
        CHECK((gguf_array_f32(gguf, "k", arena, &count) != NULL) == (type == F32));
        CHECK((gguf_array_i32(gguf, "k", arena, &count) != NULL) == (type == I32));
        CHECK((gguf_array_text(gguf, "k", arena, &count) != NULL) == (type == TEXT));
        TextSpan text;
        bool truth;
        double number;
        CHECK_FAIL(gguf_text(gguf, "k", &text), "an array of");
        CHECK_FAIL(gguf_int(gguf, "k", &count), "an array of");
        CHECK_FAIL(gguf_bool(gguf, "k", &truth), "an array of");
        CHECK_FAIL(gguf_number(gguf, "k", &number), "an array of");
        gguf_close(gguf);
        free(buffer);
    }
    arena_free(arena);
}

TEST(a_text_is_not_read_as_a_number) {
    Arena *arena = arena_new();
    for (uint32_t type = U8; type <= F64; type++) {
        if (type == ARRAY) continue;
        Text file = begin(arena, 0, 1);
        void *buffer;
        int64_t integer;
        bool truth;
        TextSpan text;
        const size_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 0, 8, 8, 8};
        add_key(&file, "k", type);
        add_zeros(&file, bytes[type]);
        Gguf *gguf = opened(&file, &buffer);
        CHECK(gguf != NULL);
        bool whole = type != F32 && type != BOOL && type != TEXT && type != F64;
        CHECK_INT(gguf_int(gguf, "k", &integer), whole ? 0 : -1);
        CHECK_INT(gguf_bool(gguf, "k", &truth), type == BOOL ? 0 : -1);
        CHECK_INT(gguf_text(gguf, "k", &text), type == TEXT ? 0 : -1);
        gguf_close(gguf);
        free(buffer);
    }
    arena_free(arena);
}

TEST(a_chat_template_of_a_megabyte) {
    Arena *arena = arena_new();
    Text file = begin(arena, 0, 1), shown = text_new(arena);
    void *buffer;
    TextSpan text;
    add_key(&file, "tokenizer.chat_template", TEXT);
    add_u64(&file, 1 << 20);
    for (int i = 0; i < 1 << 18; i++) text_add(&file, "{%%{{");
    Gguf *gguf = opened(&file, &buffer);
    CHECK(gguf != NULL);
    CHECK_INT(gguf_text(gguf, "tokenizer.chat_template", &text), 0);
    CHECK_INT(text.length, 1 << 20);
    gguf_print_value(gguf_key(gguf, 0), &shown);
    CHECK(shown.count < 300);
    gguf_close(gguf);
    free(buffer);
    arena_free(arena);
}

// The constants of base/map.c, which hash_bytes is made of.
static uint64_t mix(uint64_t value) {
    value = (value ^ value >> 32) * 0xe9846af9b1a615d;
    value = (value ^ value >> 32) * 0xe9846af9b1a615d;
    return value ^ value >> 28;
}

static bool is_plain(uint64_t bytes, int count) {
    for (; count > 0; count--, bytes >>= 8)
        if ((bytes & 0xff) < '!' || (bytes & 0xff) == 0x7f) return false;
    return true;
}

// Names of 15 bytes whose hash, begun with 0, is the same: the last seven undo what the first eight
// did. In a map they would all lie in one row, and each be compared with all before it: minutes.
TEST(names_that_meet_in_a_map) {
    enum { NAMES = 1 << 17 };
    Arena *arena = arena_new();
    Text file = begin(arena, 0, NAMES);
    const uint64_t start = mix(16 * 0x9e3779b97f4a7c15);
    uint64_t first = 0, hash = 0, firsts = 0;
    for (int names = 0; names < NAMES; firsts++) {
        for (int byte = 0; byte < 8; byte++)  // four bits of the count in each of the eight bytes
            first = first << 8 | ('A' + (firsts >> (4 * byte) & 15));
        uint64_t last = (mix(start ^ first) + first) ^ 0x0123456789abcdef;
        if (last >> 56 || !is_plain(last, 7)) continue;
        char name[16] = "";
        memcpy(name, &first, 8);
        memcpy(name + 8, &last, 7);
        if (names++ == 0) hash = hash_bytes(name, 15, 0);
        if (names < 100) CHECK(hash_bytes(name, 15, 0) == hash);
        add_key(&file, name, U8);
        text_add_bytes(&file, "", 1);
    }
    void *buffer;
    alarm(30);
    Gguf *gguf = opened(&file, &buffer);
    alarm(0);
    CHECK(gguf != NULL);
    CHECK_INT(gguf_key_count(gguf), NAMES);
    gguf_close(gguf);
    free(buffer);
    arena_free(arena);
}

// ---- tokenizers --------------------------------------------------------------------------------

#ifdef PG_HAVE_PCRE2
static void tokenizer_refused(Arena *arena, GgufWriter *writer, const char *why, const char *source,
                              int line) {
    Gguf *gguf = gguf_read("bad.gguf", small_gguf(arena, writer));
    check(gguf != NULL, "the file opens", source, line);
    Tokenizer *tokenizer = tokenizer_open(gguf);
    check(!tokenizer, why, source, line);
    check_refusal(why, source, line);
    gguf_close(gguf);
}
#define TOKENIZER_REFUSED(writer, why) tokenizer_refused(arena, (writer), (why), __FILE__, __LINE__)

TEST(special_tokens_outside_the_vocabulary) {  // llama.cpp 25475: ids index without a check
    const char *const names[] = {"bos", "eos", "eot", "eom"};
    const int64_t ids[] = {SMALL_VOCABULARY, UINT32_MAX, -1, INT64_MIN, INT64_MAX};
    Arena *arena = arena_new();
    for (int i = 0; i < COUNT_OF(names); i++)
        for (int j = 0; j < COUNT_OF(ids); j++) {
            GgufWriter *writer = gguf_writer_new();
            const char *key = arena_print(arena, "tokenizer.ggml.%s_token_id", names[i]);
            gguf_put_int(writer, key, ids[j]);
            small_tokenizer(writer, arena, "gpt-2");
            TOKENIZER_REFUSED(writer, key);
        }
    arena_free(arena);
}

TEST(merges_outside_the_vocabulary) {
    const char *const merges[] = {"h zz", "zz h", "z q", "h", "", " ", "h ", " h", "  "};
    Arena *arena = arena_new();
    for (int i = 0; i < COUNT_OF(merges); i++) {
        GgufWriter *writer = gguf_writer_new();
        TextSpan text = {merges[i], strlen(merges[i])};
        gguf_put_array_text(writer, "tokenizer.ggml.merges", &text, 1);
        small_tokenizer(writer, arena, "gpt-2");
        TOKENIZER_REFUSED(writer, "merge 0");
    }
    arena_free(arena);
}

TEST(token_types_of_another_count) {  // llama.cpp 20735: as many as tokens was assumed
    const int counts[] = {0, 1, SMALL_VOCABULARY - 1, SMALL_VOCABULARY + 1};
    int32_t kinds[SMALL_VOCABULARY + 1];
    for (int i = 0; i < COUNT_OF(kinds); i++) kinds[i] = 1;
    Arena *arena = arena_new();
    for (int i = 0; i < COUNT_OF(counts); i++) {
        GgufWriter *writer = gguf_writer_new();
        gguf_put_array_i32(writer, "tokenizer.ggml.token_type", kinds, counts[i]);
        small_tokenizer(writer, arena, "gpt-2");
        TOKENIZER_REFUSED(writer, "token_type");
    }
    arena_free(arena);
}

TEST(vocabularies_too_small) {  // CVE-2025-49847, llama.cpp 14145
    TextSpan token = {"a", 1}, same[] = {{"a", 1}, {"a", 1}};
    Arena *arena = arena_new();
    GgufWriter *writer = gguf_writer_new();
    gguf_put_array_text(writer, "tokenizer.ggml.tokens", &token, 0);
    small_tokenizer(writer, arena, "gpt-2");
    TOKENIZER_REFUSED(writer, "a vocabulary of 0 tokens");
    writer = gguf_writer_new();
    gguf_put_array_i32(writer, "tokenizer.ggml.token_type", (int32_t[]){1}, 1);
    gguf_put_array_text(writer, "tokenizer.ggml.tokens", &token, 1);
    small_tokenizer(writer, arena, "gpt-2");
    TOKENIZER_REFUSED(writer, "bad.gguf");
    writer = gguf_writer_new();
    gguf_put_array_text(writer, "tokenizer.ggml.tokens", same, 2);
    gguf_put_array_i32(writer, "tokenizer.ggml.token_type", (int32_t[]){1, 1}, 2);
    small_tokenizer(writer, arena, "gpt-2");
    TOKENIZER_REFUSED(writer, "the same text");
    arena_free(arena);
}

// CVE-2025-49847 too: a token's text of 2^31 bytes and more was copied by a signed length. And a
// long one makes finding the longest token at each place of a text take as many steps.
TEST(tokens_of_any_length) {
    Arena *arena = arena_new();
    char *long_text = arena_alloc(arena, 1 << 20);
    memset(long_text, 'a', 1 << 20);
    const size_t lengths[] = {4096, 4097, 1 << 20};
    for (int i = 0; i < COUNT_OF(lengths); i++) {
        GgufWriter *writer = gguf_writer_new();
        TextSpan tokens[] = {{"a", 1}, {long_text, lengths[i]}};
        gguf_put_array_text(writer, "tokenizer.ggml.tokens", tokens, 2);
        gguf_put_array_i32(writer, "tokenizer.ggml.token_type", (int32_t[]){1, 4}, 2);
        gguf_put_array_text(writer, "tokenizer.ggml.merges", tokens, 0);
        gguf_put_int(writer, "tokenizer.ggml.bos_token_id", 0);
        gguf_put_int(writer, "tokenizer.ggml.eos_token_id", 1);
        small_tokenizer(writer, arena, "gpt-2");
        if (i) {
            TOKENIZER_REFUSED(writer, "token 1 of the vocabulary has");
            continue;
        }
        Gguf *gguf = gguf_read("long.gguf", small_gguf(arena, writer));
        Tokenizer *tokenizer = tokenizer_open(gguf);
        CHECK(tokenizer != NULL);
        IdList ids = {0};
        alarm(30);
        CHECK_INT(tokenizer_encode(tokenizer, arena, long_text, 1 << 20, 0, &ids), 0);
        alarm(0);
        CHECK_INT(ids.count, (1 << 20) / 4096);
        tokenizer_close(tokenizer);
        gguf_close(gguf);
    }
    arena_free(arena);
}

TEST(scores_that_are_none) {  // llama.cpp 24888, 20735; NaN has no place in an order
    enum { TOKENS = 4 + 256 + 16 };
    const float bad[] = {NAN, INFINITY, -INFINITY};
    float scores[TOKENS + 1] = {0};
    int32_t numbers[TOKENS] = {0};
    Arena *arena = arena_new();
    for (int i = 0; i < 2 * COUNT_OF(bad); i++) {
        GgufWriter *writer = gguf_writer_new();
        scores[7] = bad[i / 2];
        gguf_put_array_f32(writer, "tokenizer.ggml.scores", scores, TOKENS);
        small_pieces(writer, arena, i % 2 ? "t5" : "llama");
        TOKENIZER_REFUSED(writer, "the score of token 7");
    }
    scores[7] = 0;
    for (int count = TOKENS - 1; count <= TOKENS + 1; count += 2) {
        GgufWriter *writer = gguf_writer_new();
        gguf_put_array_f32(writer, "tokenizer.ggml.scores", scores, count);
        small_pieces(writer, arena, "llama");
        TOKENIZER_REFUSED(writer, "tokenizer.ggml.scores has");
    }
    GgufWriter *writer = gguf_writer_new();
    gguf_put_array_i32(writer, "tokenizer.ggml.scores", numbers, TOKENS);
    small_pieces(writer, arena, "llama");
    TOKENIZER_REFUSED(writer, "an array of i32");
    arena_free(arena);
}

TEST(byte_tokens_that_name_no_byte) {  // llama.cpp 25969: "<0x-1>" wrote before a table
    const char *const texts[] = {"<0x-1>", "<0xZZ>", "<0x1>", "<0x100>",
                                 "0x41",   "<0x4 >", "<0x+1>"};
    Arena *arena = arena_new();
    for (int i = 0; i < COUNT_OF(texts); i++) {
        GgufWriter *writer = gguf_writer_new();
        TextSpan tokens[] = {{"a", 1}, {texts[i], strlen(texts[i])}};
        gguf_put_array_text(writer, "tokenizer.ggml.tokens", tokens, 2);
        gguf_put_array_i32(writer, "tokenizer.ggml.token_type", (int32_t[]){1, 6}, 2);
        gguf_put_array_f32(writer, "tokenizer.ggml.scores", (float[]){0, 0}, 2);
        small_pieces(writer, arena, "llama");
        TOKENIZER_REFUSED(writer, "its text is not like <0x0A>");
    }
    arena_free(arena);
}

static void put_map(GgufWriter *writer, const uint32_t *units, uint32_t count, const char *texts,
                    size_t bytes) {
    uint8_t map[64];
    uint32_t unit_bytes = count * 4;
    memcpy(map, &unit_bytes, 4);
    memcpy(map + 4, units, unit_bytes);
    memcpy(map + 4 + unit_bytes, texts, bytes);
    gguf_put_array_u8(writer, "tokenizer.ggml.precompiled_charsmap", map,
                      (int64_t)(4 + unit_bytes + bytes));
}

TEST(maps_of_characters_cut_short) {  // llama.cpp 25258: a size of four bytes was read from one
    const struct {
        uint8_t bytes[12];
        int count;
    } maps[] = {{{0}, 1},
                {{1, 2, 3}, 3},
                {{0, 0, 0, 0}, 4},
                {{4, 0, 0, 0}, 4},
                {{4, 0, 0, 0, 0, 0, 0, 0}, 8},
                {{3, 0, 0, 0, 0, 0, 0, 0, 0}, 9},
                {{255, 255, 255, 255, 0, 0, 0, 0, 0}, 9},
                {{252, 255, 255, 255, 0, 0, 0, 0, 0}, 9}};
    Arena *arena = arena_new();
    for (int i = 0; i < COUNT_OF(maps); i++) {
        GgufWriter *writer = gguf_writer_new();
        gguf_put_array_u8(writer, "tokenizer.ggml.precompiled_charsmap", maps[i].bytes,
                          maps[i].count);
        small_pieces(writer, arena, "t5");
        TOKENIZER_REFUSED(writer, "cut short");
    }
    GgufWriter *writer = gguf_writer_new();
    gguf_put_array_i32(writer, "tokenizer.ggml.precompiled_charsmap", (int32_t[]){4, 0, 0}, 3);
    small_pieces(writer, arena, "t5");
    TOKENIZER_REFUSED(writer, "not an array of bytes");
    arena_free(arena);
}

// A map whose first unit leads out of it; one where 'a' leads to itself, for ever, without a value;
// one whose value lies behind the texts, or whose text has no end.
TEST(maps_of_characters_that_point_outside) {
    const uint32_t leaf = 'b' | 1 << 8;
    const struct {
        uint32_t units[4], count;
        const char *texts;
        size_t bytes;
        bool refused;
    } maps[] = {
        {{1u << 31 | 1 << 30}, 1, "", 1, true},
        {{('a' ^ 1) << 10, 'a' | 'a' << 10}, 2, "", 1, false},
        {{('b' ^ 2) << 10, 0, leaf | 1 << 10, 1u << 31 | 5}, 4, "x", 2, true},
        {{('b' ^ 2) << 10, 0, leaf | 1 << 10, 1u << 31}, 4, "xy", 2, true},
    };
    Arena *arena = arena_new();
    char *text = arena_alloc(arena, 1 << 20);
    memset(text, 'a', 1 << 20);
    for (int i = 0; i < COUNT_OF(maps); i++) {
        GgufWriter *writer = gguf_writer_new();
        put_map(writer, maps[i].units, maps[i].count, maps[i].texts, maps[i].bytes);
        small_pieces(writer, arena, "t5");
        Gguf *gguf = gguf_read("bad.gguf", small_gguf(arena, writer));
        Tokenizer *tokenizer = tokenizer_open(gguf);
        CHECK(tokenizer != NULL);
        IdList ids = {0};
        alarm(30);
        int status =
            tokenizer_encode(tokenizer, arena, i > 1 ? "b" : text, i > 1 ? 1 : 1 << 20, 0, &ids);
        alarm(0);
        CHECK_INT(status, maps[i].refused ? -1 : 0);
        if (maps[i].refused) check_refusal("points outside itself", __FILE__, __LINE__);
        tokenizer_close(tokenizer);
        gguf_close(gguf);
    }
    arena_free(arena);
}
#endif

// ---- safetensors -------------------------------------------------------------------------------

static void safetensors_refused(const char *header, size_t body, uint64_t length, const char *why,
                                const char *source, int line) {
    static const char *const names[] = {"a"};
    Arena *arena = arena_new();
    Text file = text_new(arena);
    add_u64(&file, length ? length : strlen(header));
    text_add(&file, "%s", header);
    add_zeros(&file, body);
    const char *path = arena_print(arena, "/tmp/picograd-%d-bad.gguf", (int)getpid());
    check(!file_write(path, file.at, file.count), "the file is written", source, line);
    PgTensor *loaded;
    pg_scope_begin();
    int status = pg_load(path, 1, names, &loaded);
    pg_scope_end();
    unlink(path);
    check_int(status, -1, header, source, line);
    check_refusal(why, source, line);
    arena_free(arena);
}
#define SAFETENSORS_REFUSED(header, body, why) \
    safetensors_refused((header), (body), 0, (why), __FILE__, __LINE__)

#define ENTRY(shape, offsets) \
    "{\"a\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

TEST(safetensors_headers_too_long) {  // the format's own limit is 100 MB; lengths that wrap
    const uint64_t lengths[] = {UINT64_MAX, UINT64_MAX - 7, 1ull << 63, (100 << 20) + 1, 1000};
    for (int i = 0; i < COUNT_OF(lengths); i++)
        safetensors_refused(ENTRY("[1]", "[0,4]"), 4, lengths[i], "a header of", __FILE__,
                            __LINE__);
}

TEST(safetensors_shapes_that_wrap) {  // shapes of 2^32 x 2^32, offsets that go down, gaps
    SAFETENSORS_REFUSED(ENTRY("[4294967296,4294967296]", "[0,4]"), 4, "do not give");
    SAFETENSORS_REFUSED(ENTRY("[4611686018427387905]", "[0,4]"), 4, "do not give");
    SAFETENSORS_REFUSED(ENTRY("[0,9223372036854775807,4]", "[0,0]"), 0, "do not give");
    SAFETENSORS_REFUSED(ENTRY("[1]", "[4,0]"), 4, "do not give");
    SAFETENSORS_REFUSED(ENTRY("[1]", "[4,8]"), 8, "do not follow");
    SAFETENSORS_REFUSED(ENTRY("[2]", "[0,8]"), 4, "do not follow");
    SAFETENSORS_REFUSED(ENTRY("[1]", "[0,4]"), 8, "belong to no tensor");
    SAFETENSORS_REFUSED(ENTRY("[-1]", "[0,4]"), 4, "cannot be read");
    SAFETENSORS_REFUSED(ENTRY("[18446744073709551617]", "[0,4]"), 4, "cannot be read");
    SAFETENSORS_REFUSED(ENTRY("[1]", "[18446744073709551616,4]"), 4, "cannot be read");
}

TEST(safetensors_tensors_that_share_bytes_or_names) {  // a file in a file, two tensors of one name
    static const char entry[] = "\"%s\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[%d,%d]}";
    char text[256], one[100], other[100];
    snprintf(one, sizeof one, entry, "a", 0, 4);
    snprintf(other, sizeof other, entry, "b", 0, 4);
    snprintf(text, sizeof text, "{%s,%s}", one, other);
    SAFETENSORS_REFUSED(text, 4, "do not follow");
    snprintf(other, sizeof other, entry, "a", 4, 8);
    snprintf(text, sizeof text, "{%s,%s}", one, other);
    SAFETENSORS_REFUSED(text, 8, "is there twice");
}

TEST(safetensors_nested_without_end) {  // a parser that calls itself has a stack
    Arena *arena = arena_new();
    Text text = text_new(arena);
    for (int i = 0; i < 200000; i++) text_add(&text, "[");
    SAFETENSORS_REFUSED(text.at, 0, "cannot be read");
    text.count = 0;
    for (int i = 0; i < 200000; i++) text_add(&text, "{\"a\":");
    SAFETENSORS_REFUSED(text.at, 0, "cannot be read");
    arena_free(arena);
}
