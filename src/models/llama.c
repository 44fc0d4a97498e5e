/* llama.c - a llama model: what a token does, written as an eager program.
 * In: tokens, and the keys and values of the tokens before them.  Out: logits of the next token.
 * Invariant: position p of the cache holds the keys and values of token p, for p below
 * llama->position; what lies beyond is never looked at. Several sequences run in step: they end at
 * the same position, and of a shorter one the first positions are padding that nobody looks at.
 *   llama_forward(llama, (int32_t[]){1, 42}, 2, logits, NULL)   =>   logits (vocabulary)
 *
 * Source: H. Touvron and others, LLaMA (2023); J. Ainslie and others, GQA (2023); N. Shazeer, GLU
 * Variants (2020); J. Su and others, RoFormer (2021); B. Peng and others, YaRN (2023); A. Q. Jiang
 * and others, Mistral 7B (2023). */
#include "models/llama.h"

#include <string.h>

// A prompt runs in pieces of these sizes, so that a new length compiles nothing.
static const int64_t chunks[] = {LLAMA_PIECE, 256, 128, 64, 8, 1};
enum {
    CACHE_BLOCK = 256,  // positions; llama_cache_bytes counts the cache in these
};

// ---- the model ---------------------------------------------------------------------------------
static PgTensor *linear(Linear by, PgTensor *x) { return pg_linear(x, by.weight, by.bias); }

static PgTensor *split_heads(PgTensor *x, int64_t heads, int64_t size) {  // (T, H*D) -> (H, T, D)
    return pg_permute(pg_reshape(x, PG_SHAPE(pg_shape(x, 0), heads, size)), PG_AXES(1, 0, 2));
}

PgTensor *llama_rotate(const Llama *llama, PgTensor *x, PgTensor *positions, double scale) {
    const LlamaConfig *config = &llama->config;
    bool whole = config->rope_size == config->head_size;
    PgTensor *part = whole ? x : pg_slice(x, 2, 0, config->rope_size, 1);
    part = pg_rope(part, positions, config->rope_base, llama->rope_factors, !config->rope_halves);
    if (scale != 1) part = pg_mul(part, pg_scalar(scale));
    if (whole) return part;
    PgTensor *parts[] = {part, pg_slice(x, 2, config->rope_size, PG_NONE, 1)};
    return pg_concat(2, parts, 2);
}

// (H, B*T, D) -> (B, H, T, D); a single sequence stays (H, T, D)
static PgTensor *by_sequence(const Llama *llama, PgTensor *x) {
    int64_t sequences = llama->config.sequences, rows = pg_shape(x, 1);
    if (sequences == 1) return x;
    x = pg_reshape(x, PG_SHAPE(pg_shape(x, 0), sequences, rows / sequences, pg_shape(x, 2)));
    return pg_permute(x, PG_AXES(1, 0, 2, 3));
}

// Which keys a query sees, besides those after it: not those too far back, nor padding. (T, S) or
// (B, 1, T, S); NULL: all.
static PgTensor *visible(const Llama *llama, int64_t layer, int64_t tokens, int64_t start) {
    const LlamaConfig *config = &llama->config;
    PgTensor *key = pg_arange(PG_I64, 0, pg_size_add(start, tokens), 1), *seen = NULL;
    if (config->window && config->window < config->context && layer >= config->window_from) {
        PgTensor *query = pg_add(pg_arange(PG_I64, 0, tokens, 1), pg_from_size(start));
        PgTensor *last_hidden = pg_sub(query, pg_scalar((double)config->window));
        seen = pg_lt(pg_unsqueeze(last_hidden, 1), key);
    }
    if (config->sequences == 1) return seen;
    PgTensor *begin = pg_reshape(llama->begin, PG_SHAPE(config->sequences, 1, 1, 1));
    PgTensor *begun = pg_le(begin, key);
    return seen ? pg_and(seen, begun) : begun;
}

static PgTensor *attend(const Llama *llama, int64_t number, PgTensor *x, PgTensor *positions) {
    const LlamaConfig *config = &llama->config;
    const LlamaLayer *layer = &llama->layer[number];
    int64_t rows = pg_shape(x, 0), tokens = rows / config->sequences, size = config->head_size;
    int64_t start = pg_var("position", 0, config->context - 1), end = pg_size_add(start, tokens);
    PgTensor *q = split_heads(linear(layer->query, x), config->heads, size);
    PgTensor *k = split_heads(linear(layer->key, x), config->key_heads, size);
    PgTensor *v = split_heads(linear(layer->value, x), config->key_heads, size);
    q = by_sequence(llama, llama_rotate(llama, q, positions, llama->rope_scale));
    k = by_sequence(llama, llama_rotate(llama, k, positions, llama->rope_scale));
    pg_assign(pg_slice(layer->keys, -2, start, end, 1), k);
    pg_assign(pg_slice(layer->values, -2, start, end, 1), by_sequence(llama, v));
    PgAttention how = {
        .mask = visible(llama, number, tokens, start), .causal = true, .offset = start};
    PgTensor *out = pg_attention(q, pg_slice(layer->keys, -2, 0, end, 1),
                                 pg_slice(layer->values, -2, 0, end, 1), how);
    out = pg_transpose(out, -3, -2);  // (T, H, D) or (B, T, H, D)
    return linear(layer->output, pg_reshape(out, PG_SHAPE(rows, config->heads * size)));
}

static PgTensor *feed_forward(const LlamaLayer *layer, PgTensor *x) {  // SwiGLU
    PgTensor *gate = pg_silu(linear(layer->gate, x));
    return linear(layer->down, pg_mul(gate, linear(layer->up, x)));
}

// Of each row, in the model's own count, where padding does not: (B*T)
static PgTensor *positions_of(const Llama *llama, int64_t rows) {
    int64_t sequences = llama->config.sequences;
    PgTensor *first = pg_from_size(pg_var("position", 0, llama->config.context - 1));
    PgTensor *positions = pg_add(pg_arange(PG_I64, 0, rows / sequences, 1), first);
    if (sequences == 1) return positions;
    return pg_reshape(pg_sub(positions, pg_unsqueeze(llama->begin, 1)), PG_SHAPE(rows));
}

static PgTensor *hidden(const Llama *llama, PgTensor *ids) {  // (B*T) -> (B*T, W)
    const LlamaConfig *config = &llama->config;
    PgTensor *positions = positions_of(llama, pg_shape(ids, 0));
    PgTensor *x = pg_embedding(llama->embedding, ids);
    for (int64_t i = 0; i < config->layers; i++) {
        const LlamaLayer *layer = &llama->layer[i];
        PgTensor *normed = pg_rms_norm(x, layer->attention_norm, config->epsilon);
        x = pg_add(x, attend(llama, i, normed, positions));
        x = pg_add(x, feed_forward(layer, pg_rms_norm(x, layer->feed_norm, config->epsilon)));
    }
    return pg_rms_norm(x, llama->norm, config->epsilon);
}

// Logits after each token.
static void step_all(void *context, PgTensor **in, PgTensor **out) {
    const Llama *llama = context;
    out[0] = linear(llama->head, hidden(llama, in[0]));
}

// Logits after token number `last` of each sequence.
static void step(void *context, PgTensor **in, PgTensor **out) {
    const Llama *llama = context;
    int64_t sequences = llama->config.sequences, tokens = pg_shape(in[0], 0) / sequences;
    int64_t last = pg_var("last", 0, tokens - 1), next = pg_size_add(last, 1);
    PgTensor *x = hidden(llama, in[0]);
    if (sequences > 1) x = pg_reshape(x, PG_SHAPE(sequences, tokens, llama->config.width));
    x = pg_slice(x, -2, last, next, 1);
    out[0] = linear(llama->head, pg_reshape(x, PG_SHAPE(sequences, llama->config.width)));
}

// ---- running it --------------------------------------------------------------------------------
static int run_chunk(Llama *llama, const int32_t *ids, int64_t stride, int64_t valid, int64_t size,
                     float *logits, bool all) {
    int64_t sequences = llama->config.sequences;
    memset(llama->ids, 0, sizeof *ids * (size_t)(sequences * size));
    for (int64_t i = 0; i < sequences; i++)
        memcpy(llama->ids + i * size, ids + i * stride, sizeof *ids * (size_t)valid);
    pg_bind("position", llama->position);
    pg_bind("last", valid - 1);
    pg_scope_begin();
    bool recorded = pg_no_grad(true);
    PgTensor *in = pg_from_data(PG_I32, PG_SHAPE(sequences * size), llama->ids), *out;
    int status = pg_call(all ? llama->step_all : llama->step, &in, &out);
    if (status == 0 && logits) {
        PgTensor *wanted = all ? pg_slice(out, 0, 0, valid, 1) : out;
        size_t count = (size_t)(all ? valid : sequences) * (size_t)llama->config.vocabulary;
        pg_to_host(pg_contiguous(wanted), logits, count * sizeof *logits);
    }
    pg_no_grad(recorded);
    pg_scope_end();
    if (status == 0) llama->position += valid;
    return status;
}

// The smallest piece that holds the whole rest if over half is used, else the largest full one.
static int64_t chunk_size(const Llama *llama, int64_t left) {
    int first = 0;
    while (chunks[first] > 1 && llama->config.sequences * chunks[first] > LLAMA_PIECE) first++;
    for (int i = COUNT_OF(chunks) - 1; i >= first; i--)
        if (chunks[i] >= left && (chunks[i] == 1 || left > chunks[i] / 2)) return chunks[i];
    for (int i = first; i < COUNT_OF(chunks); i++)
        if (chunks[i] <= left) return chunks[i];
    return 1;
}

static int must_fit(const Llama *llama, const int32_t *ids, int64_t count) {
    const LlamaConfig *config = &llama->config;
    if (count < 1) return fail("llama: no tokens to run. Give at least one");
    if (count > config->context - llama->position)
        return fail(
            "llama: %lld tokens after %lld do not fit a context of %lld. Use a larger -c, or a "
            "shorter prompt",
            (long long)count, (long long)llama->position, (long long)config->context);
    for (int64_t i = 0; i < count * config->sequences; i++)
        if (ids[i] < 0 || ids[i] >= config->vocabulary)
            return fail("llama: token id %d is outside the vocabulary of %lld", ids[i],
                        (long long)config->vocabulary);
    return 0;
}

int llama_forward(Llama *llama, const int32_t *ids, int64_t count, float *logits,
                  float *all_logits) {
    int64_t vocabulary = llama->config.vocabulary;
    if (all_logits && llama->config.sequences > 1)
        fatal("llama_forward: the logits of all tokens are given for a single sequence only");
    if (must_fit(llama, ids, count) < 0) return -1;
    for (int64_t done = 0; done < count;) {
        int64_t size = chunk_size(llama, count - done), valid = min_i64(size, count - done);
        float *to = all_logits              ? all_logits + done * vocabulary
                    : done + valid == count ? logits
                                            : NULL;
        if (run_chunk(llama, ids + done, count, valid, size, to, all_logits != NULL) < 0) return -1;
        done += valid;
    }
    if (all_logits && logits)
        memcpy(logits, all_logits + (count - 1) * vocabulary, sizeof *logits * (size_t)vocabulary);
    return 0;
}

void llama_begin(Llama *llama, const int64_t *padding) {
    llama->position = 0;
    pg_scope_begin();
    pg_assign(llama->begin, pg_from_data(PG_I64, PG_SHAPE(llama->config.sequences), padding));
    pg_scope_end();
}

const LlamaConfig *llama_config(const Llama *llama) { return &llama->config; }
int64_t llama_position(const Llama *llama) { return llama->position; }
void llama_rewind(Llama *llama, int64_t position) {
    llama->position = min_i64(position, llama->position);
}
int llama_traces(const Llama *llama) {
    return pg_function_traces(llama->step) + pg_function_traces(llama->step_all);
}
int64_t llama_weight_bytes(const Llama *llama) { return llama->weight_bytes; }

static int64_t position_bytes(const LlamaConfig *config) {
    return 2 * config->layers * config->sequences * config->key_heads * config->head_size *
           (int64_t)sizeof(float);
}

int64_t llama_cache_bytes(const Llama *llama) {
    const LlamaConfig *config = &llama->config;
    int64_t positions = min_i64(round_up(llama->position, CACHE_BLOCK), config->context);
    return positions * position_bytes(config);
}

// ---- opening -----------------------------------------------------------------------------------
// The cache is address space for the whole context, and 512 more for the padding of a last piece;
// pages of it become memory when tokens reach them.
static PgTensor *make_cache(const LlamaConfig *config) {
    int64_t positions = config->context + LLAMA_PIECE, size = config->head_size;
    if (config->sequences == 1)
        return pg_zeros(PG_F32, PG_SHAPE(config->key_heads, positions, size));
    return pg_zeros(PG_F32, PG_SHAPE(config->sequences, config->key_heads, positions, size));
}

static void make_caches(void *context) {
    Llama *llama = context;
    const LlamaConfig *config = &llama->config;
    pg_scope_begin();
    for (int64_t i = 0; i < config->layers; i++) {
        llama->layer[i].keys = pg_keep(make_cache(config));
        llama->layer[i].values = pg_keep(make_cache(config));
    }
    llama->begin = pg_keep(pg_zeros(PG_I64, PG_SHAPE(config->sequences)));
    pg_scope_end();
    llama->ids = arena_array(llama->arena, int32_t, config->sequences * LLAMA_PIECE);
    llama->step = pg_function(step, llama, 1, 1);
    llama->step_all = pg_function(step_all, llama, 1, 1);
}

static Llama *llama_new(const LlamaConfig *config, const Gguf *gguf, const RandomModel *random,
                        uint64_t seed) {
    Arena *arena = arena_new();
    Llama *llama = arena_object(arena, Llama);
    *llama =
        (Llama){.arena = arena, .config = *config, .gguf = gguf, .random = random, .rope_scale = 1};
    pg_scope_begin();
    int status = llama_load(llama, seed);
    if (status == 0 && pg_try(make_caches, llama) < 0)
        status = fail("no memory for the keys and values of %lld tokens. Hint: a smaller context",
                      (long long)config->context);
    llama->scope = pg_scope_leave();
    if (status == 0) return llama;
    llama_close(llama);
    return NULL;
}

Llama *llama_open(const Gguf *gguf, int64_t context, int64_t sequences) {
    LlamaConfig config;
    if (llama_read_config(gguf, &config) < 0) return NULL;
    config.context = context ? context : min_i64(4096, config.trained);
    config.sequences = sequences;
    if (config.context > config.trained)
        say("a context of %lld is more than the %lld positions that the model was trained on",
            (long long)config.context, (long long)config.trained);
    return llama_new(&config, gguf, NULL, 0);
}

Llama *llama_random(const RandomModel *of, int64_t context, int64_t sequences, uint64_t seed) {
    LlamaConfig config = of->config;
    config.context = context ? context : min_i64(4096, config.trained);
    config.sequences = sequences;
    return llama_new(&config, NULL, of, seed);
}

void llama_close(Llama *llama) {
    if (!llama) return;
    if (llama->step) pg_function_free(llama->step);
    if (llama->step_all) pg_function_free(llama->step_all);
    pg_scope_free(llama->scope);
    arena_free(llama->arena);
}
