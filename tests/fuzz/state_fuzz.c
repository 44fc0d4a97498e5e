/* state_fuzz.c - bytes as a saved cache of a small model: restored whole, or refused and nothing
 * has changed. The sum at the end is made right first, and so is what names the model: no input
 * would come past them by chance. */
#include "fuzz/fuzz.h"
#include "fuzz/small_files.h"
#include "models/models.h"

#include <string.h>

// As llama_state.c lays them out.
enum { MODEL_AT = 16, POSITION_AT = 48, EXTRA_AT = 56, HEADER = 64, LAYERS = 1, PART_FLOATS = 16 };
enum { CONTEXT = 6, VOCABULARY = 8, TOKENS = 3 };

static Arena *kept;  // of the file that the model reads its weights from
static Llama *llama;
static FileBytes first;
static uint8_t model[8];

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
    memcpy(model, first.at + MODEL_AT, sizeof model);
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

static void make_right(uint8_t *file, size_t size) {
    int64_t position, extra;
    uint64_t hash = 0;
    if (size < HEADER + sizeof hash) return;
    memcpy(file + MODEL_AT, model, sizeof model);
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

void fuzz_one(const uint8_t *data, size_t size) {
    begin();
    Arena *arena = arena_new();
    IdList ids = {0};
    TextSpan extra = {0};
    uint8_t *file = arena_copy(arena, data, size);
    make_right(file, size);
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
