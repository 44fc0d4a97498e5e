/* recipe_test.c - which types the tensors of a model get. */
#include "helpers.h"
#include "test.h"

#include <string.h>

// A llama of 16 layers and 8 heads; of its tensors only the output counts here.
static Gguf *llama(Arena *arena, int64_t key_heads, bool tied) {
    static const float values[4];
    GgufWriter *writer = gguf_writer_new();
    gguf_put_text(writer, "general.architecture", "llama");
    gguf_put_int(writer, "llama.block_count", 16);
    gguf_put_int(writer, "llama.attention.head_count", 8);
    gguf_put_int(writer, "llama.attention.head_count_kv", key_heads);
    GgufTensor tensor = {.name = tied ? "token_embd.weight" : "output.weight",
                         .rank = 2,
                         .shape = {2, 2, 1, 1},
                         .data = (const uint8_t *)values,
                         .bytes = sizeof values};
    gguf_put_tensor(writer, &tensor, GGUF_F32);
    return reopened(arena, writer);
}

static const char *stored(const Gguf *gguf, int type, const char *name, int rank, int64_t columns) {
    Recipe recipe;
    GgufTensor tensor = {.name = name, .rank = rank, .shape = {columns, 64, 1, 1}};
    CHECK_INT(recipe_open(&recipe, gguf, type), 0);
    return gguf_format(recipe_fitting(&tensor, recipe_wanted(&recipe, &tensor)))->name;
}

TEST(small_tensors_stay_f32) {
    Arena *arena = arena_new();
    Gguf *gguf = llama(arena, 8, false);
    const int types[] = {GGUF_F16, GGUF_Q8_0, GGUF_Q4_K};
    for (int i = 0; i < COUNT_OF(types); i++) {
        CHECK_TEXT(stored(gguf, types[i], "output_norm.weight", 1, 512), "F32");
        CHECK_TEXT(stored(gguf, types[i], "blk.0.attn_q.bias", 1, 512), "F32");
        CHECK_TEXT(stored(gguf, types[i], "rope_freqs.weight", 1, 32), "F32");
        CHECK_TEXT(stored(gguf, types[i], "blk.0.attn_norm.weight", 2, 512), "F32");
        CHECK_TEXT(stored(gguf, types[i], "blk.0.ffn_gate_inp.weight", 2, 512), "F32");
    }
    gguf_close(gguf);
    arena_free(arena);
}

TEST(the_output_gets_more_bits) {
    Arena *arena = arena_new();
    Gguf *own = llama(arena, 8, false);
    CHECK_TEXT(stored(own, GGUF_Q4_K, "output.weight", 2, 512), "Q6_K");
    CHECK_TEXT(stored(own, GGUF_Q4_0, "output.weight", 2, 512), "Q6_K");
    CHECK_TEXT(stored(own, GGUF_Q4_0, "output.weight", 2, 576), "Q8_0");
    CHECK_TEXT(stored(own, GGUF_Q4_K, "output.weight", 2, 576), "Q8_0");
    CHECK_TEXT(stored(own, GGUF_Q8_0, "output.weight", 2, 512), "Q8_0");
    CHECK_TEXT(stored(own, GGUF_F16, "output.weight", 2, 512), "F16");
    CHECK_TEXT(stored(own, GGUF_Q4_K, "token_embd.weight", 2, 512), "Q4_K");
    gguf_close(own);
    Gguf *tied = llama(arena, 8, true);
    CHECK_TEXT(stored(tied, GGUF_Q4_K, "token_embd.weight", 2, 512), "Q6_K");
    gguf_close(tied);
    arena_free(arena);
}

// Of 16 layers the first and last two, and every third one between.
TEST(some_layers_get_more_bits) {
    Arena *arena = arena_new();
    Gguf *gguf = llama(arena, 8, false);
    char layers[17] = {0};
    for (int i = 0; i < 16; i++) {
        char name[32];
        snprintf(name, sizeof name, "blk.%d.ffn_down.weight", i);
        layers[i] = strcmp(stored(gguf, GGUF_Q4_K, name, 2, 1024), "Q6_K") ? '4' : '6';
    }
    CHECK_TEXT(layers, "6644644644644666");
    CHECK_TEXT(stored(gguf, GGUF_Q4_K, "blk.0.attn_v.weight", 2, 512), "Q6_K");
    CHECK_TEXT(stored(gguf, GGUF_Q4_K, "blk.0.attn_k.weight", 2, 512), "Q4_K");
    CHECK_TEXT(stored(gguf, GGUF_Q3_K, "blk.1.attn_v.weight", 2, 512), "Q5_K");
    CHECK_TEXT(stored(gguf, GGUF_Q3_K, "blk.2.attn_v.weight", 2, 512), "Q4_K");
    CHECK_TEXT(stored(gguf, GGUF_Q3_K, "blk.0.ffn_down.weight", 2, 512), "Q5_K");
    CHECK_TEXT(stored(gguf, GGUF_Q3_K, "blk.1.ffn_down.weight", 2, 512), "Q4_K");
    CHECK_TEXT(stored(gguf, GGUF_Q2_K, "blk.9.attn_output.weight", 2, 512), "Q3_K");
    CHECK_TEXT(stored(gguf, GGUF_Q2_K, "blk.9.attn_v.weight", 2, 512), "Q3_K");
    CHECK_TEXT(stored(gguf, GGUF_IQ4_XS, "blk.9.attn_v.weight", 2, 512), "IQ4_XS");
    gguf_close(gguf);
    gguf = llama(arena, 2, false);
    CHECK_TEXT(stored(gguf, GGUF_Q2_K, "blk.9.attn_v.weight", 2, 512), "Q4_K");
    CHECK_TEXT(stored(gguf, GGUF_IQ4_XS, "blk.9.attn_v.weight", 2, 512), "Q5_K");
    gguf_close(gguf);
    arena_free(arena);
}

TEST(rows_that_blocks_do_not_divide) {
    Arena *arena = arena_new();
    Gguf *gguf = llama(arena, 8, false);
    const char *wanted[][2] = {{"Q2_K", "Q4_0"}, {"Q3_K", "Q4_0"},    {"Q4_K", "Q5_0"},
                               {"Q5_K", "Q5_1"}, {"Q6_K", "Q8_0"},    {"IQ4_XS", "IQ4_NL"},
                               {"Q4_0", "Q4_0"}, {"IQ4_NL", "IQ4_NL"}};
    for (int i = 0; i < COUNT_OF(wanted); i++) {
        int type = gguf_format_named(wanted[i][0])->type;
        CHECK_TEXT(stored(gguf, type, "blk.9.attn_q.weight", 2, 96), wanted[i][1]);
        CHECK_TEXT(stored(gguf, type, "blk.9.attn_q.weight", 2, 90), "F16");
    }
    gguf_close(gguf);
    arena_free(arena);
}

// Names and numbers from a file that mean nothing.
TEST(odd_models_have_a_recipe) {
    Arena *arena = arena_new();
    Recipe recipe;
    Gguf *gguf = reopened(arena, gguf_writer_new());
    CHECK_FAIL(recipe_open(&recipe, gguf, GGUF_Q4_K), "general.architecture is missing");
    gguf_close(gguf);
    gguf = llama(arena, 0, false);
    CHECK_TEXT(stored(gguf, GGUF_Q2_K, "blk.99999999999999999999.attn_v.weight", 2, 256), "Q3_K");
    CHECK_TEXT(stored(gguf, GGUF_Q4_K, "blk.-1.attn_v.weight", 2, 256), "Q4_K");
    CHECK_TEXT(stored(gguf, GGUF_Q4_K, "weight", 2, 256), "Q4_K");
    CHECK_TEXT(stored(gguf, GGUF_Q4_K, "x", 2, 256), "F32");
    gguf_close(gguf);
    arena_free(arena);
}

TEST(every_type_has_a_file_type) {
    for (int type = 0; type < 64; type++) {
        const GgufFormat *format = gguf_format(type);
        if (format && format->encode) CHECK(recipe_file_type(type) >= 0);
    }
    CHECK_INT(recipe_file_type(GGUF_Q4_K), 15);
    CHECK_INT(recipe_file_type(16), -1);
}
