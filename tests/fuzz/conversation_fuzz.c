/* conversation_fuzz.c - bytes as a saved conversation with a small model: loaded, or refused and
 * one begins anew; some of those loaded go on, backwards and forwards. */
#include "fuzz/fuzz.h"
#include "fuzz/small_files.h"

#include <string.h>

static Arena *kept;  // of the file that the model reads its weights from
static Tokenizer *tokenizer;
static Conversation *conversation;
static FileBytes own;

static void begin(void) {
    static const int32_t ids[1];
    if (conversation) return;
    kept = arena_new();
    GgufWriter *writer = gguf_writer_new();
    gguf_put_int(writer, "llama.context_length", 64);
    small_tokenizer(writer, kept, "smollm");
    small_llama(writer, kept, SMALL_VOCABULARY);
    Gguf *gguf = gguf_read("conversation.gguf", small_gguf(kept, writer));
    tokenizer = gguf ? tokenizer_open(gguf) : NULL;
    if (!tokenizer) {
        fuzz_refused("has no PCRE2");
        return;
    }
    Llama *llama = llama_open(gguf, 64, 1);
    Template *template = template_open(kept, gguf, tokenizer, "chatml");
    fuzz_check(llama && template, "the small model does not open");
    own = small_state(kept, llama, ids);
    conversation = conversation_new(llama, tokenizer, template);
}

static bool is_there(const Message *message, size_t *bytes) {
    if (message) *bytes += message->length;
    return message != NULL;
}

void fuzz_one(const uint8_t *data, size_t size) {
    begin();
    if (!conversation) return;  // this build lacks what it needs
    Arena *arena = arena_new();
    uint8_t *file = arena_copy(arena, data, size);
    small_state_right(file, size, own);
    const char *path = fuzz_file(file, size);
    Sampler sampler = {SAMPLER_DEFAULTS, .state = 1};
    conversation_begin(conversation, NULL);
    if (conversation_load(conversation, path, &sampler)) {
        fuzz_refused(path);
    } else {
        GenerationHow how = {.sampler = &sampler, .count = 1, .shift = true};
        GenerationResult result;
        size_t bytes = 0;
        for (int64_t i = 0; is_there(conversation_message(conversation, i), &bytes);) i++;
        fuzz_check(bytes <= size, "more than the file holds");
        // Milliseconds, where all else takes microseconds: one input in sixteen.
        bool goes_on = hash_bytes(data, size, 0) % 16 == 0;
        if (goes_on && conversation_again(conversation, &how, &result)) fuzz_refused("");
        conversation_undo(conversation);
        if (goes_on && conversation_say(conversation, "he", 2, &how, &result)) fuzz_refused("");
    }
    sampler_free(&sampler);
    arena_free(arena);
}
