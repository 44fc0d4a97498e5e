/* models.h - the models, each one file of eager tensor code. */
#ifndef PICOGRAD_MODELS_H
#define PICOGRAD_MODELS_H
#include "io/io.h"
#include "picograd.h"

// ---- llama.c -----------------------------------------------------------------------------------
typedef struct {
    int64_t layers, width, hidden, heads, key_heads, head_size, vocabulary;
    int64_t context;  // positions that the cache has room for
    int64_t trained;  // positions that the model was trained on
    double epsilon;   // of the RMS norms
    double rope_base;
    int64_t rope_size;  // leading part of a head that is rotated
} LlamaConfig;
typedef struct Llama Llama;
// The weights stay in the file's pages, so the file must stay open as long as the model. context 0
// is min(4096, trained). NULL with error_text() if the file is no llama model, or if a tensor is
// missing or of the wrong shape.
Llama *llama_open(const Gguf *gguf, int64_t context);
// Random weights in the shape of SmolLM2-135M: runs at the same speed, says nothing.
Llama *llama_random(int64_t context, uint64_t seed);
void llama_close(Llama *llama);
const LlamaConfig *llama_config(const Llama *llama);
void llama_rewind(Llama *llama, int64_t position);  // forgets what came after
int llama_traces(const Llama *llama);               // how often a step was traced and compiled
int64_t llama_weight_bytes(const Llama *llama);
int64_t llama_cache_bytes(const Llama *llama);  // of the cache blocks in use
// Appends the tokens to the cache. logits (vocabulary) gets those after the last token, all_logits
// (count, vocabulary), if not NULL, those after each. -1 if the context is full, an id is out of
// range, or the compiler failed.
int llama_forward(Llama *llama, const int32_t *ids, int64_t count, float *logits,
                  float *all_logits);

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
