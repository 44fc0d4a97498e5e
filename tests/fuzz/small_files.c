#include "fuzz/small_files.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// bytes_to_unicode in GPT-2's encoder.py.
static void add_character(Text *out, int byte) {
    int c = byte <= 0x20 ? 0x100 + byte : byte >= 0x7f && byte <= 0xa0 ? 0xa2 + byte : byte;
    if (byte == 0xad) c = 0x143;
    if (c >= 0x80) text_add_bytes(out, &(char){(char)(0xc0 | c >> 6)}, 1);
    text_add_bytes(out, &(char){(char)(c < 0x80 ? c : 0x80 | (c & 0x3f))}, 1);
}

void small_tokenizer(GgufWriter *writer, Arena *arena, const char *rule) {
    static const char *const merges[] = {"h e", "l l", "o r", "he ll", "1 2", "\u0120 w"};
    static const char *const joined[] = {"he", "ll", "or", "hell", "12", "\u0120w"};
    static const char *const special[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<user>"};
    TextSpan tokens[SMALL_VOCABULARY], merge[COUNT_OF(merges)];
    int32_t kinds[SMALL_VOCABULARY], count = 0;
    for (; count < 256; count++) {
        Text text = text_new(arena);
        add_character(&text, count);
        tokens[count] = (TextSpan){text.at, text.count};
        kinds[count] = 1;
    }
    for (int i = 0; i < COUNT_OF(merges); i++) {
        merge[i] = (TextSpan){merges[i], strlen(merges[i])};
        tokens[count] = (TextSpan){joined[i], strlen(joined[i])};
        kinds[count++] = 1;
    }
    for (int i = 0; i < COUNT_OF(special); i++) {
        tokens[count] = (TextSpan){special[i], strlen(special[i])};
        kinds[count++] = i < 3 ? 3 : 4;  // control, user-defined
    }
    gguf_put_text(writer, "tokenizer.ggml.model", "gpt2");
    gguf_put_text(writer, "tokenizer.ggml.pre", rule);
    gguf_put_array_text(writer, "tokenizer.ggml.tokens", tokens, count);
    gguf_put_array_i32(writer, "tokenizer.ggml.token_type", kinds, count);
    gguf_put_array_text(writer, "tokenizer.ggml.merges", merge, COUNT_OF(merge));
    gguf_put_int(writer, "tokenizer.ggml.bos_token_id", count - 4);
    gguf_put_int(writer, "tokenizer.ggml.eos_token_id", count - 2);
}

// A double array with the one key "A": the root's children lie at 0 XOR their byte, the value of
// 'A' at that XOR 1. Behind it stands what the value points at.
static void put_charsmap(GgufWriter *writer) {
    struct {
        uint32_t bytes, units[256];
        char replacements[2];
    } map = {.bytes = sizeof map.units, .replacements = "a"};
    map.units['A'] = 'A' | 1 << 8 | 1 << 10;
    map.units['A' ^ 1] = 1u << 31;
    size_t size = sizeof map.bytes + sizeof map.units + sizeof map.replacements;
    gguf_put_array_u8(writer, "tokenizer.ggml.precompiled_charsmap", (uint8_t *)&map,
                      (int64_t)size);
}

void small_pieces(GgufWriter *writer, Arena *arena, const char *model) {
#define MARK "\u2581"
    static const char *const special[] = {"<unk>", "<s>", "</s>", "<user>"};
    static const char *const pieces[] = {
        MARK, "h",    "e",     "l",      "o",         "a",       "he",     "ll",
        "lo", "hell", "hello", MARK "h", MARK "hell", MARK MARK, "\u00e9", "unused"};
    enum { SPECIAL = COUNT_OF(special), COUNT = SPECIAL + 256 + COUNT_OF(pieces) };
    static const int32_t special_kinds[] = {2, 3, 3, 4};
    TextSpan tokens[COUNT];
    int32_t kinds[COUNT];
    float scores[COUNT] = {0};
    for (int i = 0; i < COUNT; i++) {
        const char *text = i < SPECIAL         ? special[i]
                           : i < SPECIAL + 256 ? arena_print(arena, "<0x%02X>", i - SPECIAL)
                                               : pieces[i - SPECIAL - 256];
        tokens[i] = (TextSpan){text, strlen(text)};
        kinds[i] = i < SPECIAL ? special_kinds[i] : i < SPECIAL + 256 ? 6 : i == COUNT - 1 ? 5 : 1;
        if (i >= SPECIAL + 256) scores[i] = -(float)(i - SPECIAL - 256);
    }
    gguf_put_text(writer, "tokenizer.ggml.model", model);
    gguf_put_array_text(writer, "tokenizer.ggml.tokens", tokens, COUNT);
    gguf_put_array_i32(writer, "tokenizer.ggml.token_type", kinds, COUNT);
    gguf_put_array_f32(writer, "tokenizer.ggml.scores", scores, COUNT);
    gguf_put_int(writer, "tokenizer.ggml.unknown_token_id", 0);
    gguf_put_int(writer, "tokenizer.ggml.bos_token_id", 1);
    gguf_put_int(writer, "tokenizer.ggml.eos_token_id", 2);
    gguf_put_bool(writer, "tokenizer.ggml.remove_extra_whitespaces", !strcmp(model, "t5"));
    if (!strcmp(model, "t5")) put_charsmap(writer);
#undef MARK
}

static void put_weights(GgufWriter *writer, Arena *arena, const char *name, int64_t rows,
                        int64_t columns, int type) {
    int64_t count = columns * (rows ? rows : 1);
    float *values = arena_array(arena, float, count);
    for (int64_t i = 0; i < count; i++) values[i] = rows ? (float)(i * 37 % 19 - 9) / 64 : 1;
    GgufTensor tensor = {.name = name,
                         .type = GGUF_F32,
                         .rank = rows ? 2 : 1,
                         .shape = {columns, rows ? rows : 1, 1, 1},
                         .data = (uint8_t *)values,
                         .bytes = count * 4};
    gguf_put_tensor(writer, &tensor, type);
}

void small_llama(GgufWriter *writer, Arena *arena, int64_t vocabulary) {
    gguf_put_text(writer, "general.architecture", "llama");
    gguf_put_int(writer, "llama.block_count", 1);
    gguf_put_int(writer, "llama.context_length", 16);
    gguf_put_int(writer, "llama.embedding_length", 32);
    gguf_put_int(writer, "llama.feed_forward_length", 32);
    gguf_put_int(writer, "llama.attention.head_count", 2);
    gguf_put_int(writer, "llama.attention.head_count_kv", 1);
    gguf_put_f32(writer, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gguf_put_f32(writer, "llama.rope.freq_base", 10000);
    gguf_put_int(writer, "llama.rope.dimension_count", 16);
    put_weights(writer, arena, "token_embd.weight", vocabulary, 32, GGUF_Q4_0);
    put_weights(writer, arena, "output_norm.weight", 0, 32, GGUF_F32);
    put_weights(writer, arena, "rope_freqs.weight", 0, 8, GGUF_F32);
    put_weights(writer, arena, "blk.0.attn_norm.weight", 0, 32, GGUF_F32);
    put_weights(writer, arena, "blk.0.attn_q.weight", 32, 32, GGUF_Q5_0);
    put_weights(writer, arena, "blk.0.attn_k.weight", 16, 32, GGUF_Q8_0);
    put_weights(writer, arena, "blk.0.attn_v.weight", 16, 32, GGUF_F16);
    put_weights(writer, arena, "blk.0.attn_output.weight", 32, 32, GGUF_Q5_1);
    put_weights(writer, arena, "blk.0.ffn_norm.weight", 0, 32, GGUF_F32);
    put_weights(writer, arena, "blk.0.ffn_gate.weight", 32, 32, GGUF_IQ4_NL);
    put_weights(writer, arena, "blk.0.ffn_up.weight", 32, 32, GGUF_BF16);
    put_weights(writer, arena, "blk.0.ffn_down.weight", 32, 32, GGUF_Q4_1);
}

// The writers know only files.
static FileBytes taken(Arena *arena, const char *path) {
    FileBytes file;
    if (file_map(path, &file)) fatal("%s", error_text());
    FileBytes copy = {.at = arena_copy(arena, file.at, file.size), .size = file.size};
    file_unmap(&file);
    unlink(path);
    return copy;
}

static const char *temporary(Arena *arena) {
    const char *folder = getenv("TMPDIR");
    return arena_print(arena, "%s/picograd-small-%d", folder ? folder : "/tmp", (int)getpid());
}

FileBytes small_gguf(Arena *arena, GgufWriter *writer) {
    const char *path = temporary(arena);
    int status = gguf_writer_save(writer, path);
    gguf_writer_free(writer);
    if (status) fatal("%s", error_text());
    return taken(arena, path);
}

FileBytes small_state(Arena *arena, const Llama *llama, const int32_t *ids) {
    const char *path = temporary(arena);
    if (llama_save(llama, path, ids, (TextSpan){"extra", 5})) fatal("%s", error_text());
    return taken(arena, path);
}

// As llama_state.c lays them out; a layer's keys, and its values, have 16 floats a position.
enum { MODEL_AT = 16, POSITION_AT = 48, EXTRA_AT = 56, HEADER = 64, LAYERS = 1, PART_FLOATS = 16 };

void small_state_right(uint8_t *file, size_t size, FileBytes own) {
    int64_t position, extra;
    uint64_t hash = 0;
    if (size < HEADER + sizeof hash) return;
    memcpy(file + MODEL_AT, own.at + MODEL_AT, sizeof(uint64_t));
    memcpy(&position, file + POSITION_AT, sizeof position);
    memcpy(&extra, file + EXTRA_AT, sizeof extra);
    size_t left = size - HEADER - sizeof hash, at = HEADER;
    if (position < 0 || extra < 0 || (uint64_t)position > left || (uint64_t)extra > left) return;
    const size_t part = (size_t)position * PART_FLOATS * sizeof(float);
    const size_t parts[] = {HEADER, (size_t)position * 4, (size_t)extra, part, part};
    if (HEADER + left != parts[0] + parts[1] + parts[2] + 2 * part * LAYERS) return;
    at = 0;
    for (int i = 0; i < COUNT_OF(parts); at += parts[i++])
        hash = hash_bytes(file + at, parts[i], hash);
    memcpy(file + at, &hash, sizeof hash);
}

FileBytes small_safetensors(Arena *arena) {
    static const char *const names[] = {"a", "b"};
    const char *path = temporary(arena);
    pg_scope_begin();
    PgTensor *tensors[] = {
        pg_from_data(PG_F32, PG_SHAPE(2, 3), (float[]){1, 2, 3, 4, 5, 6}),
        pg_from_data(PG_U8, PG_SHAPE(4), (uint8_t[]){1, 2, 3, 4}),
    };
    int status = pg_save(path, 2, names, tensors);
    pg_scope_end();
    if (status) fatal("%s", error_text());
    return taken(arena, path);
}
