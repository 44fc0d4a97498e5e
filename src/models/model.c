/* model.c - the model layer of picograd.h: a file opened, read to, and asked for text.
 * In: a path; text or tokens.  Out: logits, tokens, text.
 * Invariant: the generation's history and the cache hold the same tokens between two calls, but for
 * the last one chosen.
 *   pg_model_open("model.gguf", 0); pg_model_generate(model, "Once upon a time", NULL)           */
#define PG_NO_CALL_SITES
#include "models/models.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct PgModel {
    ModelFiles files;
    Generation *generation;
    atomic_bool cancelled;
};

struct PgSampler {
    Arena *arena;
    Sampler sampler;
};

int model_open_files(ModelFiles *files, const char *name, bool ids, bool with_weights,
                     int64_t context, int64_t sequences) {
    Arena *scratch = arena_new();
    const char *path = models_find(scratch, name);
    *files = (ModelFiles){.gguf = path ? gguf_open(path) : NULL};
    arena_free(scratch);
    if (!files->gguf) return -1;
    files->tokenizer = tokenizer_open(files->gguf);
    if (!files->tokenizer && !ids) return -1;
    if (!files->tokenizer) say("%s. Ids need none; no id ends a text then", error_text());
    if (!with_weights) return 0;
    files->llama = llama_open(files->gguf, context, sequences);
    if (!files->llama) return -1;
    if (!files->tokenizer) return 0;
    int64_t vocabulary = llama_config(files->llama)->vocabulary;
    if (tokenizer_count(files->tokenizer) <= vocabulary) return 0;
    return fail("%s: the tokenizer has %d tokens, the weights are for %lld", name,
                tokenizer_count(files->tokenizer), (long long)vocabulary);
}

void model_close_files(ModelFiles *files) {
    llama_close(files->llama);
    tokenizer_close(files->tokenizer);
    gguf_close(files->gguf);
    *files = (ModelFiles){0};
}

PgModel *pg_model_open(const char *path, int64_t context) {
    PgModel *model = calloc(1, sizeof *model);
    if (!model) fatal("model_open: no memory");
    if (context < 0 || context > 1 << 24)
        fatal("model_open: a context of %lld. Hint: 0 for the model's own", (long long)context);
    if (model_open_files(&model->files, path, false, true, context, 1) < 0) {
        pg_model_close(model);
        return NULL;
    }
    model->generation = generation_new(model->files.llama, model->files.tokenizer);
    return model;
}

void pg_model_close(PgModel *model) {
    if (!model) return;
    generation_free(model->generation);
    model_close_files(&model->files);
    free(model);
}

int64_t pg_model_vocabulary(const PgModel *model) {
    return llama_config(model->files.llama)->vocabulary;
}

int64_t pg_model_context(const PgModel *model) { return llama_config(model->files.llama)->context; }

int64_t pg_model_position(const PgModel *model) {
    return generation_history(model->generation)->count;
}

void pg_model_rewind(PgModel *model, int64_t position) {
    generation_rewind(model->generation, max_i64(0, position));
}

// ---- tokens ------------------------------------------------------------------------------------
static int encode(const PgModel *model, Arena *arena, const char *text, size_t length, bool special,
                  IdList *ids) {
    int flags = pg_model_position(model) ? 0 : TOKENIZE_BOS;
    return tokenizer_encode(model->files.tokenizer, arena, text, length,
                            flags | (special ? TOKENIZE_SPECIAL : 0), ids);
}

int64_t pg_model_tokenize(const PgModel *model, const char *text, size_t length, bool special,
                          int32_t *ids, int64_t max) {
    Arena *arena = arena_new();
    IdList found = {0};
    int64_t count = encode(model, arena, text, length, special, &found) < 0 ? -1 : found.count;
    for (int64_t i = 0; i < count && i < max; i++) ids[i] = found.at[i];
    arena_free(arena);
    return count;
}

size_t pg_model_piece(const PgModel *model, int32_t id, char *text, size_t size) {
    TextSpan piece = {"", 0};
    if (id >= 0 && id < tokenizer_count(model->files.tokenizer))
        piece = tokenizer_piece(model->files.tokenizer, id);
    if (!size) return piece.length;
    size_t shown = piece.length < size ? piece.length : size - 1;
    memcpy(text, piece.at, shown);
    text[shown] = 0;
    return piece.length;
}

bool pg_model_is_end(const PgModel *model, int32_t id) {
    return tokenizer_is_end(model->files.tokenizer, id);
}

int pg_model_prefill(PgModel *model, const int32_t *ids, int64_t count, float *logits) {
    const IdList *history = generation_history(model->generation);
    int32_t before = history->count;
    generation_add(model->generation, ids, count);
    const int32_t *unread = history->at + llama_position(model->files.llama);
    int64_t unread_count = history->count - llama_position(model->files.llama);
    if (llama_forward(model->files.llama, unread, unread_count, logits, NULL) == 0) return 0;
    generation_rewind(model->generation, before);
    return -1;
}

int pg_model_decode(PgModel *model, int32_t id, float *logits) {
    return pg_model_prefill(model, &id, 1, logits);
}

// ---- sampling ----------------------------------------------------------------------------------
static Sampler sampler_of(PgSampling from) {
    Sampler sampler = {SAMPLER_DEFAULTS};
    sampler.temperature = from.temperature;
    sampler.top_k = from.top_k;
    sampler.typical_p = from.typical_p > 0 ? from.typical_p : 1;
    sampler.top_p = from.top_p > 0 ? from.top_p : 1;
    sampler.min_p = from.min_p;
    sampler.repeat_penalty = from.repeat_penalty > 0 ? from.repeat_penalty : 1;
    sampler.frequency_penalty = from.frequency_penalty;
    sampler.presence_penalty = from.presence_penalty;
    sampler.state = from.seed;
    return sampler;
}

PgSampler *pg_sampler_new(PgSampling sampling) {
    Arena *arena = arena_new();
    PgSampler *sampler = arena_object(arena, PgSampler);
    *sampler = (PgSampler){.arena = arena, .sampler = sampler_of(sampling)};
    return sampler;
}

void pg_sampler_free(PgSampler *sampler) {
    if (!sampler) return;
    sampler_free(&sampler->sampler);
    arena_free(sampler->arena);
}

int32_t pg_sample(PgSampler *sampler, float *logits, int64_t vocabulary, const int32_t *history,
                  int64_t count) {
    if (vocabulary < 1) fatal("sample: a vocabulary of %lld", (long long)vocabulary);
    return sampler_next(&sampler->sampler, logits, vocabulary, history, count);
}

// ---- the loop ----------------------------------------------------------------------------------
typedef struct {
    PgModel *model;
    const PgGenerate *how;  // NULL: to standard output
    bool lost;              // which could not be written
} Run;

static bool show(void *context, int32_t id, TextSpan text) {
    Run *run = context;
    bool goes_on;
    if (!run->how || !run->how->token) {
        goes_on = fwrite(text.at, 1, text.length, stdout) == text.length && !fflush(stdout);
        run->lost |= !goes_on;
    } else {
        goes_on = run->how->token(run->how->context, id, text.at, text.length);
    }
    return goes_on && !run->model->cancelled;
}

static bool reading(void *context, int64_t done, int64_t count) {
    const Run *run = context;
    (void)done, (void)count;
    return !run->model->cancelled;
}

static int64_t run_loop(Run *run, Sampler *sampler) {
    const PgGenerate *how = run->how;
    GenerationHow loop = {.sampler = sampler,
                          .count = how && how->count ? how->count : -1,
                          .stop = how ? how->stop : NULL,
                          .show = show,
                          .reading = reading,
                          .context = run};
    GenerationResult result;
    if (generation_run(run->model->generation, &loop, &result) < 0) return -1;
    return run->lost ? fail("cannot write standard output") : result.count;
}

int64_t pg_model_generate(PgModel *model, const char *prompt, const PgGenerate *how) {
    Arena *arena = arena_new();
    IdList ids = {0};
    Run run = {.model = model, .how = how};
    Sampler sampler = sampler_of(how ? how->sampling : (PgSampling){0});
    int32_t before = generation_history(model->generation)->count;
    int64_t count = encode(model, arena, prompt, strlen(prompt), how && how->special, &ids);
    model->cancelled = false;
    generation_add(model->generation, ids.at, ids.count);
    if (count == 0) count = run_loop(&run, &sampler);
    if (count < 0) generation_rewind(model->generation, before);
    sampler_free(&sampler);
    arena_free(arena);
    return count;
}

void pg_model_cancel(PgModel *model) { model->cancelled = true; }

int pg_model_save(const PgModel *model, const char *path) {
    return generation_save(model->generation, path, (TextSpan){"", 0});
}

int pg_model_load(PgModel *model, const char *path) {
    Arena *arena = arena_new();
    TextSpan extra;
    int status = generation_restore(model->generation, path, arena, &extra);
    arena_free(arena);
    return status;
}
