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
        gguf_decode(gguf_format(GGUF_BF16), tensor->data, values, 64);
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
    Tokenizer *tokenizer = tokenizer_open(gguf);
    CHECK(tokenizer_is_end(tokenizer, 287));
    CHECK(tokenizer_is_end(tokenizer, 284));
    CHECK(!tokenizer_is_end(tokenizer, 283));
    CHECK(!tokenizer_is_end(tokenizer, 0));
    tokenizer_close(tokenizer);
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

TEST(ids_of_sentencepiece_and_qwen2) {
    NEEDS_JANSSON;
    check_prompt("mistral");
    check_prompt("qwen2");
}

TEST(end_ids_outside_the_vocabulary) {
    NEEDS_PCRE2;
    Arena *arena = arena_new();
    const int32_t ids[][9] = {{3, 1 << 20}, {-1}, {0}};
    for (int i = 0; i < COUNT_OF(ids); i++) {
        GgufWriter *writer = small_vocabulary_writer(arena, "smollm");
        gguf_put_array_i32(writer, GGUF_ENDS, ids[i], i == 2 ? 9 : 2);
        Gguf *gguf = reopened(arena, writer);
        CHECK(!tokenizer_open(gguf));
        CHECK(strstr(error_text(), "picograd.end_token_ids must be at most 8 ids of the"));
        gguf_close(gguf);
    }
    arena_free(arena);
}

// ---- folders that are not what they say --------------------------------------------------------

// Not file_write: thousands of these files need not outlive a power cut.
static void put_file(const char *path, const char *bytes, size_t size) {
    FILE *file = fopen(path, "wb");
    CHECK(file);
    CHECK_INT((int64_t)fwrite(bytes, 1, size, file), (int64_t)size);
    CHECK_INT(fclose(file), 0);
}

// A copy of a small model, to be spoilt.
static const char *copied(Arena *arena, const char *name) {
    const char *from = model_path(arena, name), *to = temporary_path(arena, "folder");
    DIR *folder = opendir(to);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        if (entry->d_type == DT_REG) unlink(arena_print(arena, "%s/%s", to, entry->d_name));
    }
    if (folder) closedir(folder);
    CHECK_INT(folder_make(to), 0);
    folder = opendir(from);
    for (struct dirent *entry; (entry = readdir(folder));) {
        size_t size;
        if (entry->d_name[0] == '.') continue;
        char *bytes = file_read(arena, arena_print(arena, "%s/%s", from, entry->d_name), &size);
        put_file(arena_print(arena, "%s/%s", to, entry->d_name), bytes, size);
    }
    closedir(folder);
    return to;
}

typedef struct {
    const char *model, *file, *from, *to, *why;
} Change;

static const char *changed(Arena *arena, Change change) {
    const char *folder = copied(arena, change.model);
    const char *path = arena_print(arena, "%s/%s", folder, change.file);
    size_t size, length = strlen(change.from);
    char *bytes = file_read(arena, path, &size), *at = bytes;
    while (at + length <= bytes + size && memcmp(at, change.from, length)) at++;
    if (at + length > bytes + size) fatal("%s has no %s", change.file, change.from);
    Text text = text_new(arena);
    text_add_bytes(&text, bytes, (size_t)(at - bytes));
    text_add(&text, "%s", change.to);
    text_add_bytes(&text, at + length, (size_t)(bytes + size - at) - length);
    put_file(path, text.at, text.count);
    return folder;
}

static void check_refused(const char *folder, const char *why, const char *source, int line) {
    Gguf *gguf = gguf_open(folder);
    Tokenizer *tokenizer = gguf ? tokenizer_open(gguf) : NULL;
    check(!tokenizer, why, source, line);
    check_part(error_text(), why, "gguf_open", source, line);
    check_part(error_text(), folder, "gguf_open", source, line);
    check(!strchr(error_text(), '\n'), "one line", source, line);
    tokenizer_close(tokenizer);
    gguf_close(gguf);
}
#define REFUSED(folder, why) check_refused((folder), (why), __FILE__, __LINE__)

static void refuse_all(const Change *changes, int count) {
    for (int i = 0; i < count; i++) {
        Arena *arena = arena_new();
        REFUSED(changed(arena, changes[i]), changes[i].why);
        arena_free(arena);
    }
}

TEST(configurations_of_wrong_kinds_and_sizes) {
    NEEDS_JANSSON;
#define CONFIG(from, to, why) \
    { "llama-yarn", "config.json", from, to, why }
    const Change changes[] = {
        CONFIG("_layers\": 2", "_layers\": 0", "num_hidden_layers must be a whole number from 1"),
        CONFIG("_layers\": 2", "_layers\": -2", "num_hidden_layers must be a whole number from 1"),
        CONFIG("_layers\": 2", "_layers\": 1.5", "num_hidden_layers must be a whole number from 1"),
        CONFIG("_layers\": 2", "_layers\": \"2\"", "num_hidden_layers must be a whole number"),
        CONFIG("_layers\": 2", "_layers\": [2]", "num_hidden_layers must be a whole number"),
        CONFIG("_layers\": 2", "_layers\": null", "num_hidden_layers is missing"),
        CONFIG("_layers\": 2", "_layers\": 9223372036854775808", "must be a whole number from 1"),
        CONFIG("_layers\": 2", "_layers\": 1e300", "must be a whole number from 1"),
        CONFIG("_layers\": 2", "_layers\": 1e999", "line"),
        CONFIG("_layers\": 2", "_layers\": 1",
               "model.layers.1.input_layernorm.weight is there, but"),
        CONFIG("_heads\": 4", "_heads\": 0", "num_attention_heads must be a whole number from 1"),
        CONFIG("hidden_size\": 64", "hidden_size\": 0", "hidden_size must be a whole number from"),
        CONFIG("vocab_size\": 288", "vocab_size\": 289",
               "vocab_size is 289, but the embedding has"),
        CONFIG("eps\": 1e-05", "eps\": 0", "rms_norm_eps must be a number above 0"),
        CONFIG("eps\": 1e-05", "eps\": \"small\"", "rms_norm_eps must be a number above 0"),
        CONFIG("theta\": 100.0", "theta\": -1", "rope_theta must be a number above 0"),
        CONFIG("e\": \"llama\"", "e\": \"gemma3\"", "model_type gemma3 is not supported yet"),
        CONFIG("e\": \"llama\"", "e\": 3", "model_type (no text) is not supported yet"),
        CONFIG("\"silu\"", "\"gelu\"", "hidden_act gelu is not supported yet"),
        CONFIG("\"use_cache\": true", "\"quantization_config\": {\"quant_method\": \"gptq\"}",
               "weights quantised by gptq are not read"),
        CONFIG("\"use_cache\": true", "\"partial_rotary_factor\": 0.5", "partial_rotary_factor"),
        CONFIG("\"use_cache\": true", "\"hidden_size\": 64", "duplicate object key"),
        CONFIG("embeddings\": true", "embeddings\": 1",
               "tie_word_embeddings must be true or false"),
        CONFIG("embeddings\": true", "embeddings\": false", "tensor lm_head.weight is missing"),
        CONFIG("attention_bias\": false", "attention_bias\": true", "blk.0.attn_q.bias is missing"),
        CONFIG("\"mlp_bias\": false", "\"mlp_bias\": true",
               "tensor blk.0.ffn_gate.bias is missing"),
        CONFIG("\"yarn\"", "\"longrope\"", "rope scaling longrope is not supported yet"),
        CONFIG("\"rope_type\"", "\"rope\"",
               "rope scaling without a rope_type is not supported yet"),
        CONFIG("\"factor\": 4.0", "\"factor\": \"4\"", "factor must be a number above 0"),
        CONFIG("\"factor\": 4.0", "\"scale\": 4.0", "factor is missing"),
        CONFIG("embeddings\": 16", "embeddings\": 0", "original_max_position_embeddings must be"),
        CONFIG("{", "{{", "config.json: line 1: "),
        CONFIG("{", "[", "config.json: line 2: "),
        {"llama-llama3", "config.json", "high_freq_factor\": 4.0", "high_freq_factor\": 1.0",
         "low_freq_factor below high_freq_factor"},
        {"qwen2-window", "config.json", "full_attention", "chunked_attention",
         "chunked_attention in layer 0 is not supported yet"},
        {"qwen2-window", "config.json", "sliding_attention\"", "sliding_attention\", \"x\"",
         "layer_types has 3 entries for 2 layers"},
        {"qwen2-window", "config.json", "_window_layers\": 1", "_window_layers\": -1",
         "max_window_layers is below 0"},
        {"qwen2-window", "config.json", "sliding_window\": 8", "sliding_window\": 0",
         "sliding_window must be a whole number from 1"},
        {"llama", "generation_config.json", "284", "288", "eos_token_id must be a token's id"},
        {"llama", "generation_config.json", "284", "-1", "eos_token_id must be a token's id"},
        {"llama", "tokenizer_config.json", "\"eos_token\": \"<|eot_id|>\"", "\"eos_token\": \"no\"",
         "the eos_token 'no' is not in the vocabulary"},
    };
    refuse_all(changes, COUNT_OF(changes));
}

TEST(tokenizers_of_other_rules_and_bad_numbers) {
    NEEDS_JANSSON;
#define TOKENIZER(model, from, to, why) \
    { model, "tokenizer.json", from, to, why }
    const Change changes[] = {
        TOKENIZER("llama", "\"BPE\"", "\"WordPiece\"", "neither BPE nor Unigram"),
        TOKENIZER("llama", "{1,3}", "{1,4}", "byte-level BPE with the steps 'split((?i:'s|'t"),
        TOKENIZER("llama", "\"Isolated\"", "\"Removed\"", "the steps 'split otherwise("),
        TOKENIZER("llama", "\"Split\"", "\"Punctuation\"", "steps 'unknown(Punctuation) bytes'"),
        TOKENIZER("llama-yarn", "_digits\": true", "_digits\": false", "'numbers bytes(words)'"),
        TOKENIZER("llama-yarn", "space\": false", "space\": true", "'digits bytes behind a space("),
        TOKENIZER("llama-linear", "_suffix\": null", "_suffix\": \"</w>\"",
                  "'bytes(words) end_of_word_suffix(</w>)' is not supported yet"),
        TOKENIZER("mistral", "\"Prepend\"", "\"Append\"", "the steps 'unknown(Append) mark'"),
        TOKENIZER("llama", "\"!\": 0", "\"!\": -1", "token '!' has the id -1, but the embedding"),
        TOKENIZER("llama", "\"!\": 0", "\"!\": 288", "token '!' has the id 288, but the embedding"),
        TOKENIZER("llama", "\"!\": 0", "\"!\": 1e15", "token '!' has the id 1000000000000000, but"),
        TOKENIZER("llama", "\"!\": 0", "\"!\": 9223372036854775808", "'!' is no whole number"),
        TOKENIZER("llama", "\"!\": 0", "\"!\": \"0\"", "'!' is no whole number"),
        TOKENIZER("llama", "\"!\": 0", "\"!\": 1", "has the text or the id of another"),
        TOKENIZER("llama", "\"id\": 283", "\"id\": 3", "of id 3 has the text or the id of another"),
        TOKENIZER("llama", "\"id\": 283", "\"it\": 3", "added token 0 has no content or no id"),
        TOKENIZER("llama", "\"vocab\"", "\"words\"", "there is no vocabulary in it"),
        TOKENIZER("llama-linear", "Ġ t", "Ġ q", "merge 0 of the tokenizer names a token that"),
        TOKENIZER("llama-linear", "Ġ t", "Ġ", "merge 0 of the tokenizer does not name two tokens"),
        TOKENIZER("llama-linear", "\"Ġ t\"", "[\"Ġ\"]", "merge 0 is neither \"a b\" nor"),
        TOKENIZER("llama-linear", "\"Ġ t\"", "[\"Ġ\", 1]", "merge 0 is neither \"a b\" nor"),
        TOKENIZER("llama-linear", "\"Ġ t\"", "7", "merge 0 is neither \"a b\" nor"),
        TOKENIZER("mistral", "\"▁ t\"", "\"▁ tttt\"", "'▁ tttt', makes no token of the vocabulary"),
        TOKENIZER("mistral", "\"▁ t\"", "\" \"", "makes no token of the vocabulary"),
    };
    refuse_all(changes, COUNT_OF(changes));
}

TEST(shards_and_tensors_that_do_not_fit) {
    NEEDS_JANSSON;
    static const char index[] = "model.safetensors.index.json";
    static const char first[] =
        "\"model.embed_tokens.weight\": \"model-00001-of-00002.safetensors\"";
#define FIRST(value) "\"model.embed_tokens.weight\": " value
    const Change changes[] = {
        {"sharded", index, first, FIRST("\"../model.safetensors\""), "in the same folder"},
        {"sharded", index, first, FIRST("\"/etc/passwd\""), "in the same folder"},
        {"sharded", index, first, FIRST("\"config.json\""), "must be the name of a .safetensors"},
        {"sharded", index, first, FIRST("3"), "the file of model.embed_tokens.weight must be"},
        {"sharded", index, first, FIRST("\"none.safetensors\""), "none.safetensors: No such file"},
        {"sharded", index, first, FIRST("\"model-00002-of-00002.safetensors\""),
         "tensor model.embed_tokens.weight is not in it"},
        {"sharded", index, "weight_map", "weights", "there is no weight_map in it"},
        {"sharded", "model-00001-of-00002.safetensors", "\"BF16\"", "\"I16\" ", "is I16; F32, F16"},
        {"sharded", "model-00001-of-00002.safetensors", "[288,64]", "[64,288]",
         "the embedding has 64 rows"},
        {"llama", "model.safetensors", "model.norm.weight", "model.morm.weight",
         "tensor model.morm.weight is none that a llama model has"},
        {"llama", "model.safetensors", "layers.0.input", "layers.00.inpu",
         "is none that a llama model has"},
        {"llama", "model.safetensors", "[288,32]", "[288,33]", "do not give its 36864 bytes"},
    };
    refuse_all(changes, COUNT_OF(changes));
}

// A file of a hundred bytes must not make a vocabulary of as many rows as it says.
TEST(embeddings_of_more_rows_than_tokens) {
    NEEDS_JANSSON;
    const struct {
        const char *shape, *end, *why;
        size_t body;
    } files[] = {
        {"[16000000,0]", "0", "model.embed_tokens.weight has no rows", 0},
        {"[4611686018427387904,0]", "0", "do not give its 0 bytes", 0},
        {"[288]", "288", "model.embed_tokens.weight has no rows", 288},
        {"[100000,1]", "100000", "288 tokens, but the embedding has 100000 rows", 100000},
    };
    const Change unsaid = {"llama", "config.json", "\"vocab_size\": 288", "\"hidden\": 32", ""};
    Arena *arena = arena_new();
    for (int i = 0; i < COUNT_OF(files); i++) {
        const char *folder = changed(arena, unsaid);
        const char *header =
            arena_print(arena,
                        "{\"model.embed_tokens.weight\":{\"dtype\":\"U8\",\"shape\":%s,"
                        "\"data_offsets\":[0,%s]}}",
                        files[i].shape, files[i].end);
        uint64_t length = strlen(header);
        Text file = text_new(arena);
        text_add_bytes(&file, (const char *)&length, sizeof length);
        text_add(&file, "%s", header);
        text_add_bytes(&file, arena_alloc(arena, files[i].body), files[i].body);
        put_file(arena_print(arena, "%s/model.safetensors", folder), file.at, file.count);
        REFUSED(folder, files[i].why);
    }
    arena_free(arena);
}

TEST(missing_files_are_named) {
    NEEDS_JANSSON;
    Arena *arena = arena_new();
    const struct {
        const char *name, *why;
    } files[] = {
        {"config.json", "a folder without a config.json is no model"},
        {"model.safetensors",
         "there is neither model.safetensors nor model.safetensors.index.json"},
        {"tokenizer.json", "tokenizer.json is missing"},
    };
    for (int i = 0; i < COUNT_OF(files); i++) {
        const char *folder = copied(arena, "llama");
        unlink(arena_print(arena, "%s/%s", folder, files[i].name));
        REFUSED(folder, files[i].why);
    }
    const char *folder = copied(arena, "llama");
    unlink(arena_print(arena, "%s/model.safetensors", folder));
    put_file(arena_print(arena, "%s/pytorch_model.bin", folder), "\x80\x02", 2);
    REFUSED(folder, "the weights are a Python pickle, which could run any program");
    folder = copied(arena, "sharded");
    unlink(arena_print(arena, "%s/model-00002-of-00002.safetensors", folder));
    REFUSED(folder, "model-00002-of-00002.safetensors: No such file");
    arena_free(arena);
}

TEST(deep_nesting_and_a_template_of_a_megabyte) {
    NEEDS_JANSSON;
    Arena *arena = arena_new();
    const char *folder = copied(arena, "llama");
    Text text = text_new(arena);
    for (int i = 0; i < 1 << 20; i++) text_add_bytes(&text, "[", 1);
    const char *names[] = {"config.json", "tokenizer.json", "tokenizer_config.json"};
    for (int i = 0; i < COUNT_OF(names); i++) {
        folder = copied(arena, "llama");
        put_file(arena_print(arena, "%s/%s", folder, names[i]), text.at, text.count);
        REFUSED(folder, names[i]);
    }
    folder = copied(arena, "llama");
    const char *path = arena_print(arena, "%s/chat_template.jinja", folder);
    put_file(path, text.at, text.count);
    Gguf *gguf = gguf_open(folder);
    TextSpan template;
    CHECK_INT(gguf_text(gguf, "tokenizer.chat_template", &template), 0);
    CHECK_INT(template.length, 1 << 20);
    gguf_close(gguf);
    arena_free(arena);
}

// Tries a file cut at every step-th byte, and with every step-th byte flipped.
static void survive(const char *model, const char *file, size_t step) {
    Arena *arena = arena_new();
    const char *folder = copied(arena, model);
    const char *path = arena_print(arena, "%s/%s", folder, file);
    size_t size;
    char *bytes = file_read(arena, path, &size);
    for (size_t i = 0; i < size; i += step) {
        const char flips[] = {1, 4, 32, (char)0x80};
        for (int j = -1; j < COUNT_OF(flips); j++) {
            if (j >= 0) bytes[i] = (char)(bytes[i] ^ flips[j]);
            put_file(path, bytes, j < 0 ? i : size);
            Gguf *gguf = gguf_open(folder);
            tokenizer_close(gguf ? tokenizer_open(gguf) : NULL);
            gguf_close(gguf);
            if (j >= 0) bytes[i] = (char)(bytes[i] ^ flips[j]);
        }
    }
    arena_free(arena);
}

TEST(cuts_and_flips_are_survived) {
    NEEDS_JANSSON;
    survive("llama-yarn", "config.json", 1);
    survive("sharded", FOLDER_INDEX, 11);
    survive("mistral", "tokenizer.json", 101);
    survive("llama", "tokenizer_config.json", 17);
    survive("llama", "model.safetensors", 1009);
}

// ---- what need not be there --------------------------------------------------------------------

static Gguf *opened_with(Arena *arena, Change change) {
    Gguf *gguf = gguf_open(changed(arena, change));
    if (!gguf) fatal("%s", error_text());
    return gguf;
}

TEST(attention_factors_of_yarn) {
    NEEDS_JANSSON;
    Arena *arena = arena_new();
    const double usual = 0.1 * log(4) + 1;
    Change change = {"llama-yarn", "config.json", "\"beta_fast\": 2.0", "\"attention_factor\": 1.5",
                     ""};
    Gguf *gguf = opened_with(arena, change);
    CHECK_NEAR(number_of(gguf, "llama.rope.scaling.attn_factor"), 1.5 / usual, 1e-6);
    CHECK_NEAR(number_of(gguf, "llama.rope.scaling.yarn_beta_fast"), 32, 0);
    gguf_close(gguf);
    change.to = "\"mscale\": 2.0, \"mscale_all_dim\": 0.5";
    gguf = opened_with(arena, change);
    CHECK_NEAR(number_of(gguf, "llama.rope.scaling.attn_factor"),
               (0.2 * log(4) + 1) / (0.05 * log(4) + 1) / usual, 1e-6);
    gguf_close(gguf);
    arena_free(arena);
}

TEST(holes_of_the_vocabulary_are_unused_tokens) {
    NEEDS_JANSSON;
    Arena *arena = arena_new();
    int64_t count;
    Gguf *gguf = opened_with(arena, (Change){"llama", "tokenizer.json", "\"!\": 0,", "", ""});
    TextSpan *texts = gguf_array_text(gguf, "tokenizer.ggml.tokens", arena, &count);
    int32_t *kinds = gguf_array_i32(gguf, "tokenizer.ggml.token_type", arena, &count);
    CHECK_INT(count, 288);
    CHECK_TEXT(terminated(arena, texts[0]), "[PAD0]");
    CHECK_INT(kinds[0], 5);
    CHECK_INT(kinds[1], 1);
    CHECK_TEXT(terminated(arena, texts[283]), "<|begin_of_text|>");
    CHECK_INT(kinds[283], 3);
    gguf_close(gguf);
    gguf = opened_with(
        arena, (Change){"llama", "tokenizer.json", "\"special\": true", "\"special\": false", ""});
    CHECK_INT(gguf_array_i32(gguf, "tokenizer.ggml.token_type", arena, &count)[283], 4);
    gguf_close(gguf);
    arena_free(arena);
}

// Scores order as merges do where every merge is there; else the merges are kept.
TEST(sentencepiece_has_scores) {
    NEEDS_JANSSON;
    Arena *arena = arena_new();
    int64_t count;
    Gguf *gguf = opened(arena, "mistral");
    CHECK_TEXT(text_of(arena, gguf, "tokenizer.ggml.model"), "llama");
    TextSpan *texts = gguf_array_text(gguf, "tokenizer.ggml.tokens", arena, &count);
    float *scores = gguf_array_f32(gguf, "tokenizer.ggml.scores", arena, &count);
    int32_t *kinds = gguf_array_i32(gguf, "tokenizer.ggml.token_type", arena, &count);
    CHECK_TEXT(terminated(arena, texts[3]), "<0x00>");
    CHECK_INT(kinds[0], 2);
    CHECK_INT(kinds[1], 3);
    CHECK_INT(kinds[3], 6);
    CHECK_INT(kinds[259], 1);
    CHECK_TEXT(terminated(arena, texts[259]), "▁t");
    CHECK_NEAR(scores[259], 0, 0);
    CHECK(scores[260] < scores[259] && scores[261] < scores[260]);
    CHECK(!gguf_find_key(gguf, "tokenizer.ggml.merges"));
    gguf_close(gguf);
    gguf = opened_with(arena, (Change){"mistral", "tokenizer.json", "\"▁ t\",", "", ""});
    CHECK(!gguf_find_key(gguf, "tokenizer.ggml.scores"));
    CHECK(gguf_find_key(gguf, "tokenizer.ggml.merges"));
    gguf_close(gguf);
    arena_free(arena);
}

// The folder of mistral with another tokenizer.json, here with ' for ".
static const char *with_unigram(Arena *arena, const char *charsmap) {
    const char *folder = copied(arena, "mistral");
    char *text = arena_print(
        arena,
        "{'model': {'type': 'Unigram', 'unk_id': 0, 'byte_fallback': false, 'vocab': "
        "[['<unk>', 0], ['<s>', 0], ['</s>', 0], ['▁', -2], ['a', -3], ['b', -3.5], ['▁ab', -4]]}, "
        "'normalizer': {'type': 'Sequence', 'normalizers': ["
        "{'type': 'Precompiled', 'precompiled_charsmap': '%s'}, "
        "{'type': 'Strip', 'strip_left': false, 'strip_right': true}, "
        "{'type': 'Replace', 'pattern': {'Regex': ' {2,}'}, 'content': '▁'}]}, "
        "'pre_tokenizer': {'type': 'Metaspace', 'prepend_scheme': 'always'}, "
        "'added_tokens': [{'id': 1, 'content': '<s>', 'special': true}, "
        "{'id': 2, 'content': '</s>', 'special': true}]}",
        charsmap);
    for (char *at = text; *at; at++) *at = *at == '\'' ? '"' : *at;
    put_file(arena_print(arena, "%s/tokenizer.json", folder), text, strlen(text));
    return folder;
}

TEST(unigram_has_scores_of_its_own) {
    NEEDS_JANSSON;
    Arena *arena = arena_new();
    const int32_t wanted[] = {1, 6, 3, 4, 0, 5};
    int64_t count;
    IdList ids = {0};
    Gguf *gguf = gguf_open(with_unigram(arena, ""));
    CHECK_TEXT(text_of(arena, gguf, "tokenizer.ggml.model"), "t5");
    CHECK_NEAR(gguf_array_f32(gguf, "tokenizer.ggml.scores", arena, &count)[5], -3.5, 0);
    Tokenizer *tokenizer = tokenizer_open(gguf);
    CHECK_INT(tokenizer_encode(tokenizer, arena, "ab  azb ", 8, TOKENIZE_BOS, &ids), 0);
    CHECK_INT(ids.count, COUNT_OF(wanted));
    for (int i = 0; i < ids.count; i++) CHECK_INT(ids.at[i], wanted[i]);
    tokenizer_close(tokenizer);
    gguf_close(gguf);
    REFUSED(with_unigram(arena, "AA!A"), "precompiled_charsmap is not base64");
    gguf = gguf_open(with_unigram(arena, "BAAAAAEC/w=="));
    const GgufKey *key = gguf_find_key(gguf, "tokenizer.ggml.precompiled_charsmap");
    CHECK_INT(key->bytes, 7);
    CHECK(!memcmp(key->at, "\4\0\0\0\1\2\xff", 7));
    gguf_close(gguf);
    arena_free(arena);
}

TEST(templates_and_bos_in_their_other_places) {
    NEEDS_JANSSON;
    Arena *arena = arena_new();
    bool truth = true;
    const char *templates =
        "\"chat_template\": [{\"name\": \"rag\", \"template\": \"no\"}, "
        "{\"name\": \"default\", \"template\": \"yes\"}], \"add_bos_token\": false, \"x\"";
    const Change change = {"llama", "tokenizer_config.json", "\"tokenizer_class\"", templates, ""};
    const char *folder = changed(arena, change);
    unlink(arena_print(arena, "%s/chat_template.jinja", folder));
    Gguf *gguf = gguf_open(folder);
    CHECK_TEXT(text_of(arena, gguf, "tokenizer.chat_template"), "yes");
    CHECK_INT(gguf_bool(gguf, "tokenizer.ggml.add_bos_token", &truth), 0);
    CHECK(!truth);
    gguf_close(gguf);
    arena_free(arena);
}
