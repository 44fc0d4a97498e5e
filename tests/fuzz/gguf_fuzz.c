/* gguf_fuzz.c - bytes as a GGUF file: opened, every value printed and read as each type, every
 * tensor turned into floats. */
#include "fuzz/fuzz.h"
#include "io/io.h"

static void read_key(const Gguf *gguf, const GgufKey *key, Arena *arena) {
    int64_t integer, count;
    double number;
    bool truth;
    TextSpan text;
    Text shown = text_new(arena);
    gguf_print_value(key, &shown);
    fuzz_check(shown.count < 4096, "a value's line is long");
    if (gguf_text(gguf, key->name, &text)) fuzz_refused("fuzz.gguf");
    if (gguf_int(gguf, key->name, &integer)) fuzz_refused("fuzz.gguf");
    if (gguf_number(gguf, key->name, &number)) fuzz_refused("fuzz.gguf");
    if (gguf_bool(gguf, key->name, &truth)) fuzz_refused("fuzz.gguf");
    gguf_array_text(gguf, key->name, arena, &count);
    gguf_array_f32(gguf, key->name, arena, &count);
    gguf_array_i32(gguf, key->name, arena, &count);
}

static void read_tensor(const GgufTensor *tensor, Arena *arena) {
    const GgufFormat *format = gguf_format(tensor->type);
    int64_t count = tensor->bytes / format->bytes * format->length;
    fuzz_check(count % tensor->shape[0] == 0, "a tensor is not whole rows");
    gguf_decode(format, tensor->data, arena_array(arena, float, count), count);
}

void fuzz_one(const uint8_t *data, size_t size) {
    Gguf *gguf = gguf_read("fuzz.gguf", (FileBytes){.at = data, .size = size});
    if (!gguf) {
        fuzz_refused("fuzz.gguf");
        return;
    }
    Arena *arena = arena_new();
    for (int64_t i = 0; i < gguf_key_count(gguf); i++) read_key(gguf, gguf_key(gguf, i), arena);
    for (int64_t i = 0; i < gguf_tensor_count(gguf); i++) read_tensor(gguf_tensor(gguf, i), arena);
    arena_free(arena);
    gguf_close(gguf);
}
