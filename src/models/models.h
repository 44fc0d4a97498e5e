/* models.h - the models, each one file of eager tensor code. */
#ifndef PICOGRAD_MODELS_H
#define PICOGRAD_MODELS_H
#include "io/io.h"
#include "picograd.h"

// ---- llama.c -----------------------------------------------------------------------------------
typedef struct {
    int64_t layers, width, hidden, heads, key_heads, head_size, vocabulary;
    int64_t sequences;    // that run in step, each with a cache of its own
    int64_t context;      // positions that a cache has room for
    int64_t trained;      // positions that the model was trained on
    double epsilon;       // of the RMS norms
    int64_t window;       // positions that a token looks back at, itself included; 0: all
    int64_t window_from;  // the first layer with that window
    int64_t rope_size;    // leading part of a head that is rotated
    bool rope_halves;     // pairs are (i, i + rope_size / 2), else (2i, 2i + 1)
    double rope_base;
    double rope_factor;  // linear or YaRN: positions are stretched by this
    bool rope_yarn;
    int64_t rope_original;  // YaRN: positions before stretching
    double rope_fast, rope_slow, rope_attention;
} LlamaConfig;
typedef struct Llama Llama;
// The weights stay in the file's pages, so the file must stay open as long as the model. context 0
// is min(4096, trained). NULL with error_text() if the file is no llama model, or if a tensor is
// missing or of the wrong shape. A model may be used by one thread at a time.
Llama *llama_open(const Gguf *gguf, int64_t context, int64_t sequences);
// Random weights in the shape of SmolLM2-135M: runs at the same speed, says nothing.
Llama *llama_random(int64_t context, int64_t sequences, uint64_t seed);
void llama_close(Llama *llama);  // NULL is allowed
const LlamaConfig *llama_config(const Llama *llama);
int64_t llama_position(const Llama *llama);         // tokens in the cache
void llama_rewind(Llama *llama, int64_t position);  // forgets what came after
int llama_traces(const Llama *llama);               // how often a step was traced and compiled
int64_t llama_weight_bytes(const Llama *llama);
int64_t llama_cache_bytes(const Llama *llama);  // of the cache blocks in use
// Empties the cache. The first padding[i] tokens that sequence i is then given count for nothing,
// so that texts of different length end together.
void llama_begin(Llama *llama, const int64_t *padding);
// Appends `count` tokens to each sequence: ids (sequences, count). logits (sequences, vocabulary),
// if not NULL, gets those after the last token; all_logits (count, vocabulary), if not NULL, those
// after each, of a single sequence. -1 if the context is full, an id is out of range, or the
// compiler failed.
int llama_forward(Llama *llama, const int32_t *ids, int64_t count, float *logits,
                  float *all_logits);
// llama_state.c
// Forgets the `count` tokens after the first `keep`: those behind move up, as if they had come
// right after. What they took from the forgotten ones stays in them.
void llama_shift(Llama *llama, int64_t keep, int64_t count);
// The cache in a file, with its tokens (as many as llama_position) and what else the caller wants to
// find again. -1 with error_text(); the file is whole or not there.
int llama_save(const Llama *llama, const char *path, const int32_t *ids, TextSpan extra);
// -1 with error_text(), and nothing has changed, if the file is damaged, of another model or does
// not fit the context. ids and extra are made in the arena.
int llama_restore(Llama *llama, const char *path, Arena *arena, IdList *ids, TextSpan *extra);

// ---- sampler.c ---------------------------------------------------------------------------------
typedef struct {
    double temperature;     // 0: the most likely token
    int64_t top_k;          // 0: all
    double top_p, min_p;    // 1 and 0: all
    double repeat_penalty;  // 1: none
    int64_t repeat_last;    // tokens that it looks back at
    uint64_t state;         // starts as the seed
} Sampler;
// Changes logits. history: the prompt and what was generated so far.
int32_t sampler_next(Sampler *sampler, float *logits, int64_t vocabulary, const int32_t *history,
                     int64_t count);
#endif
