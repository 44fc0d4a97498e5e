/* prompt_fuzz.c - bytes as a prompt: whatever the rule that splits it, its ids decode to the
 * valid UTF-8 that it reads as; but for rules that normalise (qwen2, t5), and that sentencepiece's
 * mark reads as a space. The first byte chooses the rule, and whether special tokens are looked
 * for. */
#include "fuzz/fuzz.h"
#include "fuzz/small_files.h"

#include <string.h>

static const struct {
    const char *rule, *pieces;  // pieces: the model, of one of sentencepiece's
    bool normalises;
} rules[] = {{"gpt-2", NULL, false},   {"smollm", NULL, false}, {"llama-bpe", NULL, false},
             {"default", NULL, false}, {"tekken", NULL, false}, {"qwen2", NULL, true},
             {NULL, "llama", false},   {NULL, "t5", true}};

// NULL where this build lacks what the rule needs.
static Tokenizer *tokenizer_of(int rule) {
    static Tokenizer *opened[COUNT_OF(rules)];
    if (opened[rule]) return opened[rule];
    Arena *arena = arena_new();
    GgufWriter *writer = gguf_writer_new();
    if (rules[rule].pieces)
        small_pieces(writer, arena, rules[rule].pieces);
    else
        small_tokenizer(writer, arena, rules[rule].rule);
    Gguf *gguf = gguf_read("prompt.gguf", small_gguf(arena, writer));
    opened[rule] = gguf ? tokenizer_open(gguf) : NULL;
    if (!opened[rule]) fuzz_refused("has no PCRE2");
    gguf_close(gguf);
    arena_free(arena);
    return opened[rule];
}

static Text with_spaces(Arena *arena, const Text *text) {
    Text out = text_new(arena);
    for (size_t i = 0; i < text->count;) {
        bool mark = text->count - i >= 3 && !memcmp(text->at + i, "\u2581", 3);
        text_add_bytes(&out, mark ? " " : text->at + i, 1);
        i += mark ? 3 : 1;
    }
    return out;
}

void fuzz_one(const uint8_t *data, size_t size) {
    if (!size) return;
    int rule = data[0] % COUNT_OF(rules);
    const Tokenizer *tokenizer = tokenizer_of(rule);
    const char *text = (const char *)data + 1;
    if (!tokenizer) return;
    Arena *arena = arena_new();
    Text valid = text_new(arena), back = text_new(arena);
    Utf8Stream stream = {0};
    IdList ids = {0};
    utf8_push(&stream, text, size - 1, &valid);
    utf8_finish(&stream, &valid);
    int status = tokenizer_encode(tokenizer, arena, text, size - 1,
                                  data[0] & 0x80 ? TOKENIZE_SPECIAL : 0, &ids);
    if (status) fuzz_refused("has no utf8proc");
    tokenizer_decode(tokenizer, ids.at, ids.count, &back);
    for (int32_t i = 0; i < ids.count; i++)
        fuzz_check(ids.at[i] >= 0 && ids.at[i] < tokenizer_count(tokenizer), "an id");
    if (rules[rule].pieces) valid = with_spaces(arena, &valid);
    fuzz_check(status || rules[rule].normalises ||
                   (back.count == valid.count && !memcmp(back.at, valid.at, valid.count)),
               "the ids decode to another text");
    arena_free(arena);
}
