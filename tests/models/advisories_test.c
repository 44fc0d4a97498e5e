/* advisories_test.c - sizes that make no model, as files: each was a crash, a hang or memory
 * without bound in some other reader. Every one is refused in one line that names the file. */
#include "fuzz/small_files.h"
#include "test.h"

#include <math.h>
#include <string.h>

enum { VOCABULARY = 8 };

// A key put first keeps its value: what the model has for it is passed over.
static Llama *open_with(Arena *arena, GgufWriter *writer, Gguf **gguf) {
    small_llama(writer, arena, VOCABULARY);
    *gguf = gguf_read("bad.gguf", small_gguf(arena, writer));
    check(*gguf != NULL, "the file opens", __FILE__, __LINE__);
    return llama_open(*gguf, 4, 1);
}

static void refused(Arena *arena, GgufWriter *writer, const char *why, const char *source,
                    int line) {
    Gguf *gguf;
    Llama *llama = open_with(arena, writer, &gguf);
    check(!llama, why, source, line);
    check_part(error_text(), why, "llama_open", source, line);
    check_part(error_text(), "bad.gguf", "llama_open", source, line);
    gguf_close(gguf);
}
#define REFUSED(writer, why) refused(arena, (writer), (why), __FILE__, __LINE__)

static GgufWriter *with_int(const char *name, int64_t value) {
    GgufWriter *writer = gguf_writer_new();
    gguf_put_int(writer, name, value);
    return writer;
}

static GgufWriter *with_number(const char *name, float value) {
    GgufWriter *writer = gguf_writer_new();
    gguf_put_f32(writer, name, value);
    return writer;
}

TEST(the_model_itself_is_good) {
    Arena *arena = arena_new();
    Gguf *gguf;
    Llama *llama = open_with(arena, gguf_writer_new(), &gguf);
    CHECK(llama != NULL);
    llama_close(llama);
    gguf_close(gguf);
    arena_free(arena);
}

// llama.cpp 2247 and others: width / heads with no heads; a count without a bound is allocated.
TEST(sizes_of_nothing_and_beyond) {
    const char *const names[] = {
        "llama.block_count",          "llama.embedding_length",        "llama.feed_forward_length",
        "llama.attention.head_count", "llama.attention.head_count_kv", "llama.context_length",
    };
    const int64_t sizes[] = {0, -1, INT32_MAX, 1ll << 32, 1ll << 62, INT64_MIN, INT64_MAX};
    Arena *arena = arena_new();
    for (int i = 0; i < COUNT_OF(names); i++)
        for (int j = 0; j < COUNT_OF(sizes); j++) REFUSED(with_int(names[i], sizes[j]), names[i]);
    arena_free(arena);
}

TEST(heads_that_divide_nothing) {
    Arena *arena = arena_new();
    REFUSED(with_int("llama.attention.head_count", 3), "not divided by 3 heads");
    REFUSED(with_int("llama.attention.head_count", 33), "not divided by 33 heads");
    REFUSED(with_int("llama.attention.head_count", 4096), "not divided by 4096 heads");
    REFUSED(with_int("llama.attention.head_count_kv", 3), "llama.attention.head_count_kv");
    REFUSED(with_int("llama.attention.key_length", 0), "llama.attention.key_length");
    REFUSED(with_int("llama.attention.key_length", 1 << 20), "llama.attention.key_length");
    REFUSED(with_int("llama.rope.dimension_count", 0), "llama.rope.dimension_count");
    REFUSED(with_int("llama.rope.dimension_count", 15), "rope size 15");
    REFUSED(with_int("llama.rope.dimension_count", 18), "llama.rope.dimension_count");
    arena_free(arena);
}

TEST(numbers_that_are_none) {
    const char *const names[] = {"llama.attention.layer_norm_rms_epsilon", "llama.rope.freq_base"};
    const float numbers[] = {NAN, INFINITY, -INFINITY, -1, 3e38f};
    Arena *arena = arena_new();
    for (int i = 0; i < COUNT_OF(names); i++)
        for (int j = 0; j < COUNT_OF(numbers); j++)
            REFUSED(with_number(names[i], numbers[j]), names[i]);
    REFUSED(with_number("llama.rope.freq_base", 0), "llama.rope.freq_base");
    arena_free(arena);
}

TEST(rope_scaling_that_is_none) {
    static const char *const types[] = {"linear", "yarn"};
    const float factors[] = {NAN, INFINITY, -1, 0, 1e30f};
    Arena *arena = arena_new();
    for (int i = 0; i < COUNT_OF(types); i++)
        for (int j = 0; j < COUNT_OF(factors); j++) {
            GgufWriter *writer = with_number("llama.rope.scaling.factor", factors[j]);
            gguf_put_text(writer, "llama.rope.scaling.type", types[i]);
            REFUSED(writer, "llama.rope.scaling.factor");
        }
    GgufWriter *writer = gguf_writer_new();
    gguf_put_text(writer, "llama.rope.scaling.type", "spiral");
    REFUSED(writer, "rope scaling spiral");
    writer = with_int("llama.rope.scaling.original_context_length", 1ll << 62);
    gguf_put_text(writer, "llama.rope.scaling.type", "yarn");
    REFUSED(writer, "original_context_length");
    arena_free(arena);
}

// Elsewhere a number for each layer (an array) or a text was read as the bytes of an integer.
TEST(sizes_of_another_type) {
    Arena *arena = arena_new();
    GgufWriter *writer = gguf_writer_new();
    gguf_put_array_i32(writer, "llama.attention.head_count", (int32_t[]){2}, 1);
    REFUSED(writer, "an array of i32");
    writer = gguf_writer_new();
    gguf_put_text(writer, "llama.block_count", "1");
    REFUSED(writer, "is text");
    REFUSED(with_number("llama.embedding_length", 32), "is f32");
    REFUSED(with_int("general.architecture", 1), "general.architecture");
    arena_free(arena);
}

static const char long_name[] =
    "an architecture whose name is longer than what a message should show of it, and then some";

TEST(an_architecture_of_any_name) {
    const char *const names[] = {"", "llam", "llamas", "llama\n", "%s%n", long_name};
    Arena *arena = arena_new();
    for (int i = 0; i < COUNT_OF(names); i++) {
        GgufWriter *writer = gguf_writer_new();
        gguf_put_text(writer, "general.architecture", names[i]);
        REFUSED(writer, "is not supported yet");
        CHECK(strlen(error_text()) < 200);
    }
    arena_free(arena);
}

// Tensors put before those of the model; two of one name are refused, so that these have to be
// others' names.
static void put_tensor(GgufWriter *writer, const char *name, int rank, int64_t columns,
                       int64_t rows) {
    static float values[4096];
    GgufTensor tensor = {.name = name,
                         .type = GGUF_F32,
                         .rank = rank,
                         .shape = {columns, rows, 1, 1},
                         .data = (const uint8_t *)values,
                         .bytes = columns * rows * 4};
    gguf_put_tensor(writer, &tensor, GGUF_F32);
}

TEST(an_output_of_another_size) {
    Arena *arena = arena_new();
    GgufWriter *writer = gguf_writer_new();
    put_tensor(writer, "output.weight", 2, 32, VOCABULARY - 1);
    REFUSED(writer, "output.weight");
    writer = gguf_writer_new();
    put_tensor(writer, "output.weight", 1, 32, 1);
    REFUSED(writer, "output.weight");
    writer = gguf_writer_new();
    put_tensor(writer, "output.weight", 3, 32, VOCABULARY);
    REFUSED(writer, "output.weight");
    arena_free(arena);
}

TEST(biases_of_another_size) {
    const char *const names[] = {"blk.0.attn_q.bias", "blk.0.ffn_down.bias"};
    Arena *arena = arena_new();
    for (int i = 0; i < COUNT_OF(names); i++)
        for (int64_t size = 31; size <= 33; size += 2) {
            GgufWriter *writer = gguf_writer_new();
            put_tensor(writer, names[i], 1, size, 1);
            REFUSED(writer, names[i]);
        }
    arena_free(arena);
}

// rope_freqs of the small model has 8 numbers; half a head of another size has not.
TEST(rope_factors_of_another_size) {
    Arena *arena = arena_new();
    REFUSED(with_int("llama.rope.dimension_count", 14), "rope_freqs.weight");
    REFUSED(with_int("llama.rope.dimension_count", 2), "rope_freqs.weight");
    arena_free(arena);
}

TEST(layers_that_are_not_there) {
    Arena *arena = arena_new();
    REFUSED(with_int("llama.block_count", 2), "blk.1.");
    REFUSED(with_int("llama.block_count", 1024), "blk.1.");
    arena_free(arena);
}

#ifdef PG_HAVE_PCRE2
// llama.cpp 14145: an id that the weights have and the vocabulary has not was looked up all the
// same. Weights are often larger, to fill a round number of rows.
TEST(a_vocabulary_smaller_than_the_weights) {
    Arena *arena = arena_new();
    GgufWriter *writer = gguf_writer_new();
    small_tokenizer(writer, arena, "gpt-2");
    Gguf *gguf = gguf_read("small.gguf", small_gguf(arena, writer));
    Tokenizer *tokenizer = tokenizer_open(gguf);
    CHECK(tokenizer != NULL);
    CHECK_INT(generation_piece(tokenizer, SMALL_VOCABULARY - 1).length, strlen("<user>"));
    CHECK_INT(generation_piece(tokenizer, SMALL_VOCABULARY).length, 0);
    CHECK_INT(generation_piece(tokenizer, INT32_MAX).length, 0);
    tokenizer_close(tokenizer);
    gguf_close(gguf);
    arena_free(arena);
}
#endif

// Weights of infinities and NaN give logits of NaN: a token is chosen all the same.
TEST(logits_that_are_no_numbers) {
    const float numbers[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < COUNT_OF(numbers); i++)
        for (int greedy = 0; greedy < 2; greedy++) {
            float logits[VOCABULARY];
            for (int j = 0; j < VOCABULARY; j++) logits[j] = j % 3 ? numbers[i] : (float)j;
            Sampler sampler = {SAMPLER_DEFAULTS, .state = 1};
            sampler.temperature = greedy ? 0 : 1;
            int32_t id = sampler_next(&sampler, logits, VOCABULARY, (int32_t[]){1}, 1);
            CHECK(id >= 0 && id < VOCABULARY);
            for (int j = 0; j < VOCABULARY; j++) logits[j] = numbers[i];
            id = sampler_next(&sampler, logits, VOCABULARY, (int32_t[]){1}, 1);
            CHECK(id >= 0 && id < VOCABULARY);
            sampler_free(&sampler);
        }
}
