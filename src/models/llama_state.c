/* llama_state.c - the cache of keys and values as a thing: parts of it forgotten, or kept in a file.
 * In: a model with tokens in its cache.  Out: the cache with tokens gone; a file, and back.
 * Invariant: see llama.c; a file that is not whole, or of another model, changes nothing.        */
#include "models/llama.h"

#include <string.h>

// ---- forgetting --------------------------------------------------------------------------------
typedef struct {
    Llama *llama;
    int64_t keep, count;
} Shift;

// Positions from `from` on move to `to`.
static void move(PgTensor *cache, PgTensor *moved, int64_t to) {
    pg_assign(pg_slice(cache, -2, to, to + pg_shape(moved, -2), 1), moved);
}

// A rotation by position p - count is one by p, followed by one by -count.
static void shift_layer(const Shift *shift, const LlamaLayer *layer) {
    const Llama *llama = shift->llama;
    int64_t from = shift->keep + shift->count, end = llama->position;
    PgTensor *keys = pg_slice(layer->keys, -2, from, end, 1);
    PgTensor *back = pg_full(PG_I64, PG_SHAPE(end - from), -(double)shift->count);
    PgTensor *values = pg_contiguous(pg_slice(layer->values, -2, from, end, 1));
    move(layer->keys, llama_rotate(llama, keys, back, 1), shift->keep);
    move(layer->values, values, shift->keep);
}

static void shift_layers(const Shift *shift) {
    const LlamaConfig *config = &shift->llama->config;
    for (int64_t i = 0; i < config->layers; i++) {
        pg_scope_begin();
        bool recorded = pg_no_grad(true);
        shift_layer(shift, &shift->llama->layer[i]);
        pg_no_grad(recorded);
        pg_scope_end();
    }
}

void llama_shift(Llama *llama, int64_t keep, int64_t count) {
    if (keep < 0 || count < 0 || keep + count > llama->position)
        fatal("llama_shift: %lld tokens after the first %lld, of %lld", (long long)count,
              (long long)keep, (long long)llama->position);
    if (llama->config.sequences > 1) fatal("llama_shift: of several sequences");
    if (keep + count < llama->position) shift_layers(&(Shift){llama, keep, count});
    llama->position -= count;
}
