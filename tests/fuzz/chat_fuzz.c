/* chat_fuzz.c - bytes as a model's chat template, and after a byte 0xff as what a user says: the
 * template is recognised or refused, and what is said never becomes a control token. */
#include "fuzz/fuzz.h"
#include "fuzz/small_files.h"

#include <string.h>

static Tokenizer *tokenizer;

static void begin(void) {
    if (tokenizer) return;
    Arena *arena = arena_new();
    GgufWriter *writer = gguf_writer_new();
    small_tokenizer(writer, arena, "smollm");
    Gguf *gguf = gguf_read("chat.gguf", small_gguf(arena, writer));
    tokenizer = gguf ? tokenizer_open(gguf) : NULL;
    if (!tokenizer) fuzz_refused("has no PCRE2");
    gguf_close(gguf);
    arena_free(arena);
}

static void add_text(Text *file, const void *at, uint64_t length) {
    text_add_bytes(file, (const char *)&length, sizeof length);
    text_add_bytes(file, at, length);
}

// A GGUF file of one key.
static Gguf *file_of(Arena *arena, const uint8_t *text, size_t length) {
    static const char name[] = "tokenizer.chat_template";
    const uint32_t version = 3, type = 8;
    const uint64_t tensors = 0, keys = 1;
    Text file = text_new(arena);
    text_add(&file, "GGUF");
    text_add_bytes(&file, (const char *)&version, sizeof version);
    text_add_bytes(&file, (const char *)&tensors, sizeof tensors);
    text_add_bytes(&file, (const char *)&keys, sizeof keys);
    add_text(&file, name, strlen(name));
    text_add_bytes(&file, (const char *)&type, sizeof type);
    add_text(&file, text, length);
    return gguf_read("fuzz.gguf", (FileBytes){.at = (uint8_t *)file.at, .size = file.count});
}

static int controls(const Template *template, Arena *arena, TextSpan said) {
    const Message messages[] = {{BY_SYSTEM, said.at, said.length},
                                {BY_USER, said.at, said.length},
                                {BY_ASSISTANT, said.at, said.length},
                                {BY_USER, said.at, said.length}};
    IdList ids = {0};
    int count = 0, status = template_encode(template, tokenizer, arena, messages, 4, 0, -1, &ids);
    fuzz_check(!status, "a conversation is refused");
    for (int32_t i = 0; i < ids.count; i++) count += tokenizer_is_control(tokenizer, ids.at[i]);
    return count;
}

void fuzz_one(const uint8_t *data, size_t size) {
    begin();
    if (!tokenizer) return;  // this build lacks what it needs
    Arena *arena = arena_new();
    const uint8_t *end = size ? memchr(data, 0xff, size) : NULL;
    size_t length = end ? (size_t)(end - data) : size;
    TextSpan said = {end ? (const char *)end + 1 : "", end ? size - length - 1 : 0};
    Gguf *gguf = file_of(arena, data, length);
    fuzz_check(gguf != NULL, "the file does not open");
    Template *template = template_open(arena, gguf, tokenizer, NULL);
    if (template)
        fuzz_check(controls(template, arena, said) == controls(template, arena, (TextSpan){"x", 1}),
                   "what was said became a control token");
    else
        fuzz_refused("fuzz.gguf");
    gguf_close(gguf);
    arena_free(arena);
}
