/* llama_fuzz.c - bytes as a GGUF file with a model: opened, run for two tokens, sampled
 * from. */
#include "fuzz/fuzz.h"
#include "models/models.h"

static void run(Llama *llama, Arena *arena) {
    int64_t vocabulary = llama_config(llama)->vocabulary;
    int32_t ids[] = {0, (int32_t)(vocabulary - 1)};
    float *logits = arena_array(arena, float, vocabulary);
    fuzz_check(!llama_forward(llama, ids, 2, logits, NULL), "two tokens");
    Sampler sampler = {SAMPLER_DEFAULTS, .state = 1};
    int32_t id = sampler_next(&sampler, logits, vocabulary, ids, 2);
    fuzz_check(id >= 0 && id < vocabulary, "a token outside the vocabulary");
    sampler_free(&sampler);
}

void fuzz_one(const uint8_t *data, size_t size) {
    // What a model keeps lives in the scope around the one that it is opened in.
    pg_scope_begin();
    pg_scope_begin();
    Gguf *gguf = gguf_read("fuzz.gguf", (FileBytes){.at = data, .size = size});
    Llama *llama = gguf ? llama_open(gguf, 4, 1) : NULL;
    if (!llama) fuzz_refused("fuzz.gguf");
    if (llama) {
        Arena *arena = arena_new();
        run(llama, arena);
        arena_free(arena);
        llama_close(llama);
    }
    pg_scope_end();
    pg_scope_end();
    gguf_close(gguf);
}
