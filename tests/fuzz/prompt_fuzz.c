/* prompt_fuzz.c - bytes as a prompt: whatever the rule that splits it, its ids decode to the
 * valid UTF-8 that it reads as. The first byte chooses the rule, and whether special tokens are
 * looked for. */
#include "fuzz/fuzz.h"
#include "fuzz/small_files.h"

#include <string.h>

static const char *const rules[] = {"gpt-2", "smollm", "llama-bpe", "default"};

static Tokenizer *tokenizer_of(int rule) {
    static Tokenizer *opened[COUNT_OF(rules)];
    if (opened[rule]) return opened[rule];
    Arena *arena = arena_new();
    GgufWriter *writer = gguf_writer_new();
    small_tokenizer(writer, arena, rules[rule]);
    Gguf *gguf = gguf_read("prompt.gguf", small_gguf(arena, writer));
    opened[rule] = gguf ? tokenizer_open(gguf) : NULL;
    fuzz_check(opened[rule] != NULL, "the small vocabulary does not open");
    gguf_close(gguf);
    arena_free(arena);
    return opened[rule];
}

void fuzz_one(const uint8_t *data, size_t size) {
    if (!size) return;
    const Tokenizer *tokenizer = tokenizer_of(data[0] % COUNT_OF(rules));
    const char *text = (const char *)data + 1;
    Arena *arena = arena_new();
    Text valid = text_new(arena), back = text_new(arena);
    Utf8Stream stream = {0};
    IdList ids = {0};
    utf8_push(&stream, text, size - 1, &valid);
    utf8_finish(&stream, &valid);
    int status = tokenizer_encode(tokenizer, arena, text, size - 1,
                                  data[0] & 0x80 ? TOKENIZE_SPECIAL : 0, &ids);
    fuzz_check(!status, "the prompt is refused");
    tokenizer_decode(tokenizer, ids.at, ids.count, &back);
    fuzz_check(back.count == valid.count && !memcmp(back.at, valid.at, valid.count),
               "the ids decode to another text");
    arena_free(arena);
}
