/* llama.h - inside the models layer: what the files of the llama model share. Shapes are written as
 * (B sequences, T tokens, W width, F hidden, V vocabulary, H heads, K key heads, D head size, S
 * positions of the cache).                                                                       */
#ifndef PICOGRAD_LLAMA_H
#define PICOGRAD_LLAMA_H
#include "models/models.h"

typedef struct {
    PgTensor *weight;  // (out, in)
    PgTensor *bias;    // (out), or NULL
} Linear;

typedef struct {
    PgTensor *attention_norm;  // (W)
    Linear query, key, value;  // to H*D, K*D, K*D
    Linear output;             // to W
    PgTensor *feed_norm;       // (W)
    Linear gate, up, down;     // to F, F, W
    PgTensor *keys, *values;   // (K, S, D) or (B, K, S, D): the cache
} LlamaLayer;

struct Llama {
    Arena *arena;
    PgScope *scope;             // of the tensors
    const Gguf *gguf;           // NULL: random weights
    const RandomModel *random;  // of this shape
    LlamaConfig config;
    LlamaLayer *layer;
    PgTensor *embedding, *norm;  // (V, W) (W)
    Linear head;                 // to V; the embedding where the two are tied
    PgTensor *rope_factors;      // (rope_size / 2), NULL: all 1
    double rope_scale;           // YaRN: what is rotated is also multiplied by this
    PgTensor *begin;             // (B) i64: a sequence's first position
    PgFunction *step, *step_all;
    int32_t *ids;  // room for a piece of each sequence
    int64_t position, weight_bytes;
};

enum { LLAMA_PIECE = 512 };  // tokens that run at once, at most

// llama.c: x (H, T, D) turned by its positions (T), then multiplied by scale
PgTensor *llama_rotate(const Llama *llama, PgTensor *x, PgTensor *positions, double scale);
// llama_load.c: -1 with error_text()
int llama_read_config(const Gguf *gguf, LlamaConfig *config);
int llama_load(Llama *llama, uint64_t seed);  // the weights of llama->gguf, else random ones
// llama_random.c: (rows, columns), or ones (columns) where rows is 0; *counter goes on by the words
// of random bits that it took. NULL with error_text() where there is no memory
PgTensor *llama_random_weight(Llama *llama, uint64_t *counter, int64_t rows, int64_t columns);
#endif
