/* state_fuzz.c - bytes as a saved cache of a small model: restored whole, or refused and nothing
 * has changed. The sum at the end is made right first, and so is what names the model: no input
 * would come past them by chance. */
#include "fuzz/fuzz.h"
#include "fuzz/small_files.h"
#include "models/models.h"

enum { CONTEXT = 6, VOCABULARY = 8, TOKENS = 3 };

static Arena *kept;  // of the file that the model reads its weights from
static Llama *llama;
static FileBytes first;

// A model of its own, with TOKENS tokens in its cache.
static void begin(void) {
    static const int32_t ids[TOKENS] = {1, 2, 3};
    if (llama) return;
    kept = arena_new();
    GgufWriter *writer = gguf_writer_new();
    small_llama(writer, kept, VOCABULARY);
    FileBytes file = small_gguf(kept, writer);
    Gguf *gguf = gguf_read("state.gguf", file);
    llama = gguf ? llama_open(gguf, CONTEXT, 1) : NULL;
    fuzz_check(llama != NULL, "the small model does not open");
    fuzz_check(!llama_forward(llama, ids, TOKENS, NULL, NULL), "a few tokens");
    first = small_state(kept, llama, ids);
}

// What was restored, and then the state that the next input finds.
static void look_at(Arena *arena, const IdList *ids) {
    float logits[VOCABULARY];
    IdList again = {0};
    TextSpan extra;
    fuzz_check(llama_position(llama) == ids->count, "the position is not its tokens'");
    for (int32_t i = 0; i < ids->count; i++)
        fuzz_check(ids->at[i] >= 0 && ids->at[i] < VOCABULARY, "an id outside the vocabulary");
    // Milliseconds, where all else takes microseconds.
    if (ids->count != TOKENS && ids->count < CONTEXT)
        fuzz_check(!llama_forward(llama, (int32_t[]){1}, 1, logits, NULL), "one more token");
    const char *path = fuzz_file(first.at, first.size);
    fuzz_check(!llama_restore(llama, path, arena, &again, &extra), "the first state");
}

void fuzz_one(const uint8_t *data, size_t size) {
    begin();
    Arena *arena = arena_new();
    IdList ids = {0};
    TextSpan extra = {0};
    uint8_t *file = arena_copy(arena, data, size);
    small_state_right(file, size, first);
    const char *path = fuzz_file(file, size);
    if (llama_restore(llama, path, arena, &ids, &extra)) {
        fuzz_refused(path);
        fuzz_check(llama_position(llama) == TOKENS, "a refused state has changed the position");
    } else {
        fuzz_check(extra.length <= size, "more than the file holds");
        look_at(arena, &ids);
    }
    arena_free(arena);
}
