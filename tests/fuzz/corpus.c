/* corpus.c - writes the inputs that the fuzzers start from, one folder for each target.
 * In: a folder.  Out: FOLDER/<target>/<name>; those that are text lie in tests/fuzz/corpus. */
#include "fuzz/small_files.h"

#include <string.h>

static void put(Arena *arena, const char *folder, const char *target, const char *name,
                FileBytes bytes) {
    folder = arena_print(arena, "%s/%s", folder, target);
    const char *path = arena_print(arena, "%s/%s", folder, name);
    if (folder_make(folder) || file_write(path, bytes.at, bytes.size)) fatal("%s", error_text());
}

static void put_text(Arena *arena, const char *folder, const char *target, const char *name,
                     const char *text) {
    put(arena, folder, target, name, (FileBytes){(const uint8_t *)text, strlen(text), false});
}

static FileBytes tokenizer_file(Arena *arena, const char *rule) {
    GgufWriter *writer = gguf_writer_new();
    small_tokenizer(writer, arena, rule);
    return small_gguf(arena, writer);
}

static FileBytes pieces_file(Arena *arena, const char *model) {
    GgufWriter *writer = gguf_writer_new();
    small_pieces(writer, arena, model);
    return small_gguf(arena, writer);
}

static FileBytes model_file(Arena *arena, int64_t vocabulary) {
    GgufWriter *writer = gguf_writer_new();
    small_llama(writer, arena, vocabulary);
    return small_gguf(arena, writer);
}

// A tensor of every type that is read.
static FileBytes types_file(Arena *arena) {
    GgufWriter *writer = gguf_writer_new();
    for (int type = 0; type < 64; type++) {
        const GgufFormat *format = gguf_format(type);
        if (!format || !format->length) continue;
        int64_t bytes = BLOCK_LENGTH_MAX / format->length * format->bytes;
        uint8_t *blocks = arena_array(arena, uint8_t, bytes);
        for (int64_t i = 0; i < bytes; i++) blocks[i] = (uint8_t)(37 * i + type);
        gguf_put_tensor(writer,
                        &(GgufTensor){.name = format->name,
                                      .type = type,
                                      .rank = 1,
                                      .shape = {BLOCK_LENGTH_MAX, 1, 1, 1},
                                      .data = blocks,
                                      .bytes = bytes},
                        type);
    }
    return small_gguf(arena, writer);
}

// Three tokens of a model of eight.
static FileBytes state_file(Arena *arena) {
    static const int32_t ids[] = {1, 2, 3};
    Gguf *gguf = gguf_read("state.gguf", model_file(arena, 8));
    Llama *llama = gguf ? llama_open(gguf, 6, 1) : NULL;
    if (!llama || llama_forward(llama, ids, COUNT_OF(ids), NULL, NULL)) fatal("%s", error_text());
    FileBytes file = small_state(arena, llama, ids);
    llama_close(llama);
    gguf_close(gguf);
    return file;
}

// A conversation of one message and an answer; nothing where there is no tokenizer.
static void put_conversation(Arena *arena, const char *folder) {
    GgufWriter *writer = gguf_writer_new();
    gguf_put_int(writer, "llama.context_length", 64);
    small_tokenizer(writer, arena, "smollm");
    small_llama(writer, arena, SMALL_VOCABULARY);
    Gguf *gguf = gguf_read("conversation.gguf", small_gguf(arena, writer));
    Tokenizer *tokenizer = tokenizer_open(gguf);
    Llama *llama = llama_open(gguf, 64, 1);
    Template *template = tokenizer ? template_open(arena, gguf, tokenizer, "chatml") : NULL;
    if (template && llama) {
        Sampler sampler = {SAMPLER_DEFAULTS, .state = 1};
        GenerationHow how = {.sampler = &sampler, .count = 2};
        GenerationResult result;
        const char *path = arena_print(arena, "%s/conversation/one", folder);
        Conversation *conversation = conversation_new(llama, tokenizer, template);
        if (folder_make(arena_print(arena, "%s/conversation", folder)) ||
            conversation_say(conversation, "hell", 4, &how, &result) ||
            conversation_save(conversation, path, &sampler))
            fatal("%s", error_text());
        conversation_free(conversation);
        sampler_free(&sampler);
    }
    llama_close(llama);
    tokenizer_close(tokenizer);
    gguf_close(gguf);
}

// One array of texts, one of numbers, a value of each simple type.
static FileBytes values_file(Arena *arena) {
    GgufWriter *writer = gguf_writer_new();
    TextSpan texts[] = {{"one", 3}, {"", 0}, {"three", 5}};
    int32_t numbers[] = {1, -1, INT32_MAX};
    float values[64] = {1, 2, 3};
    GgufTensor tensor = {.name = "t",
                         .type = GGUF_F32,
                         .rank = 2,
                         .shape = {32, 2, 1, 1},
                         .data = (uint8_t *)values,
                         .bytes = sizeof values};
    gguf_put_int(writer, "general.alignment", 32);
    gguf_put_array_text(writer, "texts", texts, COUNT_OF(texts));
    gguf_put_array_i32(writer, "numbers", numbers, COUNT_OF(numbers));
    gguf_put_f32(writer, "number", 0.5f);
    gguf_put_bool(writer, "truth", true);
    gguf_put_text(writer, "text", "a text");
    gguf_put_tensor(writer, &tensor, GGUF_F32);
    tensor.name = "u";
    gguf_put_tensor(writer, &tensor, GGUF_Q8_0);
    return small_gguf(arena, writer);
}

static void put_kernels(Arena *arena, const char *folder) {
    static const char *const names[] = {"attention", "matmul", "q4_1_matvec", "rmsnorm_matmul"};
    for (int i = 0; i < COUNT_OF(names); i++) {
        char *kernel =
            file_read(arena, arena_print(arena, "tests/kernels/%s.kernel", names[i]), NULL);
        char *schedule =
            file_read(arena, arena_print(arena, "tests/kernels/%s.schedule", names[i]), NULL);
        if (!kernel || !schedule) fatal("%s. Hint: run this from the top folder", error_text());
        put_text(arena, folder, "ir", names[i], kernel);
        put_text(arena, folder, "schedule", names[i],
                 arena_print(arena, "%s\n---\n%s", kernel, schedule));
    }
}

// As folder_fuzz.c takes them apart.
static void put_folders(Arena *arena, const char *folder) {
    static const char *const models[] = {"llama", "mistral", "qwen2-window"};
    static const char *const names[] = {"config.json", "tokenizer.json", "tokenizer_config.json"};
    for (int i = 0; i < COUNT_OF(models); i++) {
        Text text = text_new(arena);
        text_add(&text, "%c", '0' + i);  // '0' is a multiple of three
        for (int j = 0; j < COUNT_OF(names); j++) {
            const char *path = arena_print(arena, "tests/models/small/%s/%s", models[i], names[j]);
            char *file = file_read(arena, path, NULL);
            if (!file) fatal("%s. Hint: run this from the top folder", error_text());
            text_add(&text, "%s%s", j ? "\n---\n" : "", file);
        }
        put_text(arena, folder, "folder", models[i], text.at);
    }
}

int main(int count, char **arguments) {
    if (count != 2) fatal("usage: corpus FOLDER");
    const char *folder = arguments[1];
    Arena *arena = arena_new();
    thread_set_count(1);
    pg_set_mode(PG_EAGER);
    put(arena, folder, "gguf", "values", values_file(arena));
    put(arena, folder, "gguf", "types", types_file(arena));
    put(arena, folder, "gguf", "model", model_file(arena, 8));
    put(arena, folder, "llama", "model", model_file(arena, 8));
    put(arena, folder, "tokenizer", "gpt-2", tokenizer_file(arena, "gpt-2"));
    put(arena, folder, "tokenizer", "llama-bpe", tokenizer_file(arena, "llama-bpe"));
    put(arena, folder, "tokenizer", "llama", pieces_file(arena, "llama"));
    put(arena, folder, "tokenizer", "t5", pieces_file(arena, "t5"));
    put(arena, folder, "safetensors", "two", small_safetensors(arena));
    put(arena, folder, "state", "three", state_file(arena));
    put_conversation(arena, folder);
    put_kernels(arena, folder);
    put_folders(arena, folder);
    arena_free(arena);
}
