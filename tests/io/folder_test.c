/* folder_test.c - Hugging Face folders: the small models' keys, tensors and ids, and folders that
 * are not what they say.                                                                         */
#define _DEFAULT_SOURCE  // DT_REG
#include "helpers.h"
#include "test.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef PG_HAVE_JANSSON
#define NEEDS_JANSSON
#else
#define NEEDS_JANSSON SKIP("this build has no jansson")
#endif

static const char *model_path(Arena *arena, const char *name) {
    return arena_print(arena, "tests/models/small/%s", name);
}

static Gguf *opened(Arena *arena, const char *name) {
    Gguf *gguf = gguf_open(model_path(arena, name));
    if (!gguf) fatal("%s", error_text());
    return gguf;
}

static int64_t int_of(const Gguf *gguf, const char *name) {
    int64_t value = -1;
    CHECK_INT(gguf_int(gguf, name, &value), 0);
    return value;
}

static double number_of(const Gguf *gguf, const char *name) {
    double value = NAN;
    CHECK_INT(gguf_number(gguf, name, &value), 0);
    return value;
}

static const char *text_of(Arena *arena, const Gguf *gguf, const char *name) {
    TextSpan value = {"", 0};
    CHECK_INT(gguf_text(gguf, name, &value), 0);
    return terminated(arena, value);
}

// ---- what the small models are -----------------------------------------------------------------

TEST(keys_are_those_of_a_converted_file) {
    NEEDS_JANSSON;
    Arena *arena = arena_new();
    Gguf *gguf = opened(arena, "llama-headdim");
    bool truth = true;
    CHECK(gguf_is_folder(gguf));
    CHECK_TEXT(gguf_path(gguf), "tests/models/small/llama-headdim");
    CHECK_TEXT(text_of(arena, gguf, "general.architecture"), "llama");
    CHECK_INT(int_of(gguf, "llama.block_count"), 2);
    CHECK_INT(int_of(gguf, "llama.context_length"), 512);
    CHECK_INT(int_of(gguf, "llama.embedding_length"), 32);
    CHECK_INT(int_of(gguf, "llama.feed_forward_length"), 48);
    CHECK_INT(int_of(gguf, "llama.attention.head_count"), 2);
    CHECK_INT(int_of(gguf, "llama.attention.head_count_kv"), 1);
    CHECK_INT(int_of(gguf, "llama.attention.key_length"), 32);
    CHECK_INT(int_of(gguf, "llama.attention.value_length"), 32);
    CHECK_INT(int_of(gguf, "llama.rope.dimension_count"), 32);
    CHECK_INT(int_of(gguf, "llama.vocab_size"), 288);
    CHECK_NEAR(number_of(gguf, "llama.attention.layer_norm_rms_epsilon"), 1e-5, 1e-12);
    CHECK_NEAR(number_of(gguf, "llama.rope.freq_base"), 10000, 0);
    CHECK_INT(int_of(gguf, "tokenizer.ggml.bos_token_id"), 286);
    CHECK_INT(int_of(gguf, "tokenizer.ggml.eos_token_id"), 287);
    CHECK_INT(gguf_bool(gguf, "tokenizer.ggml.add_bos_token", &truth), 0);
    CHECK(!truth);
    CHECK(!strncmp(text_of(arena, gguf, "tokenizer.chat_template"), "{% for message in", 17));
    CHECK(!gguf_find_key(gguf, "llama.rope.scaling.type"));
    CHECK(!gguf_find_key(gguf, "llama.attention.sliding_window"));
    gguf_close(gguf);
    arena_free(arena);
}

TEST(tensors_have_ggufs_names_and_shapes) {
    NEEDS_JANSSON;
    Arena *arena = arena_new();
    Gguf *gguf = opened(arena, "llama-headdim");
    const struct {
        const char *name;
        int rank;
        int64_t columns, rows;
    } wanted[] = {
        {"token_embd.weight", 2, 32, 288},       {"output_norm.weight", 1, 32, 1},
        {"blk.0.attn_norm.weight", 1, 32, 1},    {"blk.1.ffn_norm.weight", 1, 32, 1},
        {"blk.0.attn_q.weight", 2, 32, 64},      {"blk.0.attn_q.bias", 1, 64, 1},
        {"blk.0.attn_k.weight", 2, 32, 32},      {"blk.1.attn_k.bias", 1, 32, 1},
        {"blk.1.attn_v.weight", 2, 32, 32},      {"blk.1.attn_v.bias", 1, 32, 1},
        {"blk.1.attn_output.weight", 2, 64, 32}, {"blk.1.attn_output.bias", 1, 32, 1},
        {"blk.1.ffn_gate.weight", 2, 32, 48},    {"blk.1.ffn_gate.bias", 1, 48, 1},
        {"blk.1.ffn_up.weight", 2, 32, 48},      {"blk.1.ffn_up.bias", 1, 48, 1},
        {"blk.1.ffn_down.weight", 2, 48, 32},    {"blk.1.ffn_down.bias", 1, 32, 1},
    };
    for (int i = 0; i < COUNT_OF(wanted); i++) {
        const GgufTensor *tensor = gguf_find_tensor(gguf, wanted[i].name);
        CHECK(tensor);
        CHECK_INT(tensor->type, GGUF_F32);
        CHECK_INT(tensor->rank, wanted[i].rank);
        CHECK_INT(tensor->shape[0], wanted[i].columns);
        CHECK_INT(tensor->shape[1], wanted[i].rows);
        CHECK_INT(tensor->bytes, 4 * wanted[i].columns * wanted[i].rows);
    }
    CHECK_INT(gguf_tensor_count(gguf), 2 + 2 * 16);
    CHECK(!gguf_find_tensor(gguf, "output.weight"));
    gguf_close(gguf);
    gguf = opened(arena, "llama");
    CHECK_INT(gguf_find_tensor(gguf, "output.weight")->shape[1], 288);
    gguf_close(gguf);
    gguf = opened(arena, "qwen2");
    CHECK_TEXT(text_of(arena, gguf, "general.architecture"), "qwen2");
    CHECK_INT(gguf_find_tensor(gguf, "token_embd.weight")->type, GGUF_F16);
    CHECK(gguf_find_tensor(gguf, "blk.0.attn_q.bias"));
    CHECK(!gguf_find_tensor(gguf, "blk.0.attn_output.bias"));
    gguf_close(gguf);
    arena_free(arena);
}

// Norms are drawn near 1, so that bytes of another place would show.
TEST(tensors_of_all_shards_point_at_their_bytes) {
    NEEDS_JANSSON;
    Arena *arena = arena_new();
    Gguf *gguf = opened(arena, "sharded");
    const char *names[] = {"blk.0.attn_norm.weight", "blk.1.ffn_norm.weight", "output_norm.weight"};
    CHECK_INT(gguf_tensor_count(gguf), 2 + 2 * 9);
    for (int i = 0; i < COUNT_OF(names); i++) {
        const GgufTensor *tensor = gguf_find_tensor(gguf, names[i]);
        float values[64], sum = 0;
        CHECK_INT(tensor->type, GGUF_BF16);
        gguf_format(GGUF_BF16)->decode(tensor->data, values, 64);
        for (int j = 0; j < 64; j++) {
            CHECK(values[j] > 0 && values[j] < 2);
            sum += values[j];
        }
        CHECK_NEAR(sum / 64, 1, 0.1);
    }
    uint8_t all = 0;
    for (int64_t i = 0; i < gguf_tensor_count(gguf); i++) {
        const GgufTensor *tensor = gguf_tensor(gguf, i);
        for (int64_t j = 0; j < tensor->bytes + (int64_t)tensor->beyond; j++)
            all |= tensor->data[j];
    }
    CHECK_INT(all, 255);
    gguf_close(gguf);
    arena_free(arena);
}

TEST(windows_and_rotations) {
    NEEDS_JANSSON;
    Arena *arena = arena_new();
    Gguf *gguf = opened(arena, "mistral");
    CHECK_TEXT(text_of(arena, gguf, "general.architecture"), "llama");
    CHECK_INT(int_of(gguf, "llama.attention.sliding_window"), 8);
    CHECK(!gguf_find_key(gguf, "llama.attention.sliding_window_from"));
    gguf_close(gguf);
    gguf = opened(arena, "qwen2-window");
    CHECK_INT(int_of(gguf, "qwen2.attention.sliding_window"), 8);
    CHECK_INT(int_of(gguf, "qwen2.attention.sliding_window_from"), 1);
    gguf_close(gguf);
    gguf = opened(arena, "qwen2");
    CHECK(!gguf_find_key(gguf, "qwen2.attention.sliding_window"));
    gguf_close(gguf);
    gguf = opened(arena, "llama-linear");
    CHECK_TEXT(text_of(arena, gguf, "llama.rope.scaling.type"), "linear");
    CHECK_NEAR(number_of(gguf, "llama.rope.scaling.factor"), 2, 0);
    gguf_close(gguf);
    gguf = opened(arena, "llama-yarn");
    CHECK_TEXT(text_of(arena, gguf, "llama.rope.scaling.type"), "yarn");
    CHECK_NEAR(number_of(gguf, "llama.rope.scaling.factor"), 4, 0);
    CHECK_INT(int_of(gguf, "llama.rope.scaling.original_context_length"), 16);
    CHECK_NEAR(number_of(gguf, "llama.rope.scaling.attn_factor"), 1, 1e-7);
    CHECK_NEAR(number_of(gguf, "llama.rope.scaling.yarn_beta_fast"), 2, 0);
    CHECK_NEAR(number_of(gguf, "llama.rope.scaling.yarn_beta_slow"), 0.25, 0);
    gguf_close(gguf);
    arena_free(arena);
}

// By what transformers' _compute_llama3_parameters divides each frequency: base 100, head 16, 64
// positions before; wave lengths below 16 stay, those above 64 take the factor of 8.
TEST(llama3_frequencies) {
    NEEDS_JANSSON;
    const double wanted[] = {1, 1, 1.29397595, 2.7651732, 7.6673851, 8, 8, 8};
    Arena *arena = arena_new();
    Gguf *gguf = opened(arena, "llama-llama3");
    const GgufTensor *tensor = gguf_find_tensor(gguf, "rope_freqs.weight");
    float values[8];
    CHECK_INT(tensor->bytes, sizeof values);
    memcpy(values, tensor->data, sizeof values);
    for (int i = 0; i < 8; i++) CHECK_NEAR(values[i], wanted[i], 1e-6);
    CHECK_NEAR(number_of(gguf, "llama.rope.freq_base"), 100, 0);
    CHECK(!gguf_find_key(gguf, "llama.rope.scaling.type"));
    gguf_close(gguf);
    arena_free(arena);
}

TEST(ends_of_a_text) {
    NEEDS_JANSSON;
    Arena *arena = arena_new();
    Gguf *gguf = opened(arena, "llama");
    int64_t count;
    bool truth = false;
    int32_t *ends = gguf_array_i32(gguf, "picograd.end_token_ids", arena, &count);
    CHECK_INT(count, 2);
    CHECK_INT(ends[0], 287);
    CHECK_INT(ends[1], 284);
    CHECK_INT(gguf_bool(gguf, "tokenizer.ggml.add_bos_token", &truth), 0);
    CHECK(truth);
    gguf_close(gguf);
    arena_free(arena);
}

// ---- ids ---------------------------------------------------------------------------------------

typedef struct {
    TextSpan text;
    IdList ids;
} Prompt;

static Prompt golden_prompt(Arena *arena, const char *name) {
    Prompt prompt = {0};
    char *at = strstr(file_read(arena, "tests/golden/small.txt", NULL),
                      arena_print(arena, "case %s\ntext ", name));
    at = strstr(at, "\ntext ") + 6;
    Text text = text_new(arena);
    for (; *at != '\n'; at++) {
        bool escape = *at == '\\';
        at += escape;
        text_add(&text, "%c", escape && *at == 'n' ? '\n' : *at);
    }
    prompt.text = (TextSpan){text.at, text.count};
    at = strstr(at, "prompt ") + 7;
    for (int64_t count = strtoll(at, &at, 10); count > 0; count--) {
        *list_add(arena, &prompt.ids) = (int32_t)strtol(at, &at, 10);
    }
    return prompt;
}

static void check_prompt(const char *name) {
    Arena *arena = arena_new();
    Gguf *gguf = opened(arena, name);
    Tokenizer *tokenizer = tokenizer_open(gguf);
    if (!tokenizer) fatal("%s", error_text());
    Prompt prompt = golden_prompt(arena, name);
    IdList ids = {0};
    CHECK_INT(
        tokenizer_encode(tokenizer, arena, prompt.text.at, prompt.text.length, TOKENIZE_BOS, &ids),
        0);
    CHECK_INT(ids.count, prompt.ids.count);
    for (int i = 0; i < ids.count; i++) CHECK_INT(ids.at[i], prompt.ids.at[i]);
    tokenizer_close(tokenizer);
    gguf_close(gguf);
    arena_free(arena);
}

TEST(ids_of_gpt2_smollm_and_llama3) {
    NEEDS_JANSSON;
    check_prompt("llama");
    check_prompt("llama-linear");
    check_prompt("llama-yarn");
}
