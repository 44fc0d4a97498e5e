/* llama.c - a llama model: what a token does, written as an eager program.
 * In: tokens, and the keys and values of the tokens before them.  Out: logits of the next token.
 * Invariant: position p of the cache holds the keys and values of token p, for p below
 * llama->position; what lies beyond is never looked at. Shapes are written as (T tokens, W width, H
 * heads, K key heads, D head size, S cached positions).
 *   llama_forward(llama, (int32_t[]){1, 42}, 2, logits, NULL)   =>   logits (vocabulary)
 *
 * Source: H. Touvron and others, LLaMA (2023); J. Ainslie and others, GQA (2023); N. Shazeer, GLU
 * Variants (2020); J. Su and others, RoFormer (2021). */
#include "models/models.h"
#include "ir/scalar.h"

#include <math.h>
#include <string.h>

typedef struct {
    PgTensor *attention_norm;       // (W)
    PgTensor *query, *key, *value;  // (H*D, W) (K*D, W) (K*D, W)
    PgTensor *output;               // (W, H*D)
    PgTensor *feed_norm;            // (W)
    PgTensor *gate, *up, *down;     // (F, W) (F, W) (W, F)
    PgTensor *keys, *values;        // (K, S, D): the cache
} Layer;

struct Llama {
    Arena *arena;
    LlamaConfig config;
    Layer *layer;
    PgTensor *embedding, *norm;  // (V, W) (W)
    PgTensor *head;              // (V, W); the embedding where the two are tied
    PgTensor *rope_factors;      // (rope_size / 2), NULL: all 1
    PgFunction *step, *step_all;
    int64_t position, weight_bytes;
    double compile_seconds;
};

// A prompt runs in pieces of these sizes, so that a new length compiles nothing.
static const int64_t chunks[] = {512, 256, 128, 64, 8, 1};
enum {
    CACHE_BLOCK = 256,  // positions; llama_cache_bytes counts the cache in these
    PAGE_KEYS = 4096 / 4,
    SCORES_BYTES = 40 << 20,  // a layer's attention at most: above, smaller pieces
};

// ---- the model ---------------------------------------------------------------------------------
static PgTensor *split_heads(PgTensor *x, int64_t heads, int64_t size) {  // (T, H*D) -> (H, T, D)
    return pg_permute(pg_reshape(x, PG_SHAPE(pg_shape(x, 0), heads, size)), PG_AXES(1, 0, 2));
}

static PgTensor *rotate(const Llama *llama, PgTensor *x, PgTensor *positions) {  // (H, T, D)
    const LlamaConfig *config = &llama->config;
    if (config->rope_size == config->head_size)
        return pg_rope(x, positions, config->rope_base, llama->rope_factors, true);
    PgTensor *turned = pg_rope(pg_slice(x, 2, 0, config->rope_size, 1), positions,
                               config->rope_base, llama->rope_factors, true);
    PgTensor *parts[] = {turned, pg_slice(x, 2, config->rope_size, PG_NONE, 1)};
    return pg_concat(2, parts, 2);
}

static PgTensor *attend(const Llama *llama, const Layer *layer, PgTensor *x, PgTensor *positions) {
    const LlamaConfig *config = &llama->config;
    int64_t tokens = pg_shape(x, 0), size = config->head_size;
    int64_t start = pg_var("position", 0, config->context - 1), end = pg_size_add(start, tokens);
    PgTensor *q = split_heads(pg_linear(x, layer->query, NULL), config->heads, size);
    PgTensor *k = split_heads(pg_linear(x, layer->key, NULL), config->key_heads, size);
    PgTensor *v = split_heads(pg_linear(x, layer->value, NULL), config->key_heads, size);
    pg_assign(pg_slice(layer->keys, 1, start, end, 1), rotate(llama, k, positions));
    pg_assign(pg_slice(layer->values, 1, start, end, 1), v);
    PgTensor *out = pg_attention(rotate(llama, q, positions), pg_slice(layer->keys, 1, 0, end, 1),
                                 pg_slice(layer->values, 1, 0, end, 1),
                                 (PgAttention){.causal = true, .offset = start});  // (H, T, D)
    out = pg_reshape(pg_permute(out, PG_AXES(1, 0, 2)), PG_SHAPE(tokens, config->heads * size));
    return pg_linear(out, layer->output, NULL);
}

static PgTensor *feed_forward(const Layer *layer, PgTensor *x) {  // SwiGLU
    PgTensor *gate = pg_silu(pg_linear(x, layer->gate, NULL));
    return pg_linear(pg_mul(gate, pg_linear(x, layer->up, NULL)), layer->down, NULL);
}

static PgTensor *hidden(const Llama *llama, PgTensor *ids) {  // (T) -> (T, W)
    const LlamaConfig *config = &llama->config;
    PgTensor *first = pg_from_size(pg_var("position", 0, config->context - 1));
    PgTensor *positions = pg_add(pg_arange(PG_I64, 0, pg_shape(ids, 0), 1), first);
    PgTensor *x = pg_embedding(llama->embedding, ids);
    for (int64_t i = 0; i < config->layers; i++) {
        const Layer *layer = &llama->layer[i];
        x = pg_add(x, attend(llama, layer, pg_rms_norm(x, layer->attention_norm, config->epsilon),
                             positions));
        x = pg_add(x, feed_forward(layer, pg_rms_norm(x, layer->feed_norm, config->epsilon)));
    }
    return pg_rms_norm(x, llama->norm, config->epsilon);
}

// Logits after each token.
static void step_all(void *context, PgTensor **in, PgTensor **out) {
    const Llama *llama = context;
    out[0] = pg_linear(hidden(llama, in[0]), llama->head, NULL);
}

// Logits after token number `last`.
static void step(void *context, PgTensor **in, PgTensor **out) {
    const Llama *llama = context;
    int64_t last = pg_var("last", 0, pg_shape(in[0], 0) - 1);
    PgTensor *x = pg_slice(hidden(llama, in[0]), 0, last, pg_size_add(last, 1), 1);
    out[0] = pg_linear(x, llama->head, NULL);
}

// ---- running it --------------------------------------------------------------------------------
static int run_chunk(Llama *llama, const int32_t *ids, int64_t valid, int64_t size, float *logits,
                     bool all) {
    int32_t padded[512] = {0};
    memcpy(padded, ids, sizeof *ids * (size_t)valid);
    pg_bind("position", llama->position);
    pg_bind("last", valid - 1);
    pg_scope_begin();
    bool recorded = pg_no_grad(true);
    PgTensor *in = pg_from_data(PG_I32, PG_SHAPE(size), padded), *out;
    int status = pg_call(all ? llama->step_all : llama->step, &in, &out);
    if (status == 0 && logits) {
        PgTensor *wanted = all ? pg_slice(out, 0, 0, valid, 1) : out;
        size_t count = (size_t)(all ? valid : 1) * (size_t)llama->config.vocabulary;
        pg_to_host(pg_contiguous(wanted), logits, count * sizeof *logits);
    }
    pg_no_grad(recorded);
    pg_scope_end();
    if (status == 0) llama->position += valid;
    return status;
}

// Scores of a piece and their powers, (heads, size, keys) each, fit SCORES_BYTES. Their rows are as
// long as the context, and of a row the keys so far and what else is in their pages is in memory.
static bool scores_fit(const Llama *llama, int64_t size) {
    int64_t keys = min_i64(llama->config.context + chunks[0], llama->position + size + PAGE_KEYS);
    return size <= 64 || 2 * llama->config.heads * size * keys * 4 <= SCORES_BYTES;
}

// The smallest piece that holds the whole rest if over half is used, else the largest full one.
static int64_t chunk_size(const Llama *llama, int64_t left) {
    int first = 0;
    while (!scores_fit(llama, chunks[first])) first++;
    for (int i = COUNT_OF(chunks) - 1; i >= first; i--)
        if (chunks[i] >= left && (chunks[i] == 1 || left > chunks[i] / 2)) return chunks[i];
    for (int i = first; i < COUNT_OF(chunks); i++)
        if (chunks[i] <= left) return chunks[i];
    return 1;
}

int llama_forward(Llama *llama, const int32_t *ids, int64_t count, float *logits,
                  float *all_logits) {
    const LlamaConfig *config = &llama->config;
    if (count < 1) return fail("llama: no tokens to run. Give at least one");
    if (count > config->context - llama->position)
        return fail(
            "llama: %lld tokens after %lld do not fit a context of %lld. Use a larger -c, or a "
            "shorter prompt",
            (long long)count, (long long)llama->position, (long long)config->context);
    for (int64_t i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= config->vocabulary)
            return fail("llama: token id %d is outside the vocabulary of %lld", ids[i],
                        (long long)config->vocabulary);
    for (int64_t done = 0; done < count;) {
        int64_t size = chunk_size(llama, count - done), valid = min_i64(size, count - done);
        float *to = all_logits              ? all_logits + done * config->vocabulary
                    : done + valid == count ? logits
                                            : NULL;
        if (run_chunk(llama, ids + done, valid, size, to, all_logits != NULL) < 0) return -1;
        done += valid;
    }
    if (all_logits && logits)
        memcpy(logits, all_logits + (count - 1) * config->vocabulary,
               sizeof *logits * (size_t)config->vocabulary);
    return 0;
}

const LlamaConfig *llama_config(const Llama *llama) { return &llama->config; }
void llama_rewind(Llama *llama, int64_t position) {
    llama->position = min_i64(position, llama->position);
}
int llama_traces(const Llama *llama) {
    return pg_function_traces(llama->step) + pg_function_traces(llama->step_all);
}
int64_t llama_weight_bytes(const Llama *llama) { return llama->weight_bytes; }

int64_t llama_cache_bytes(const Llama *llama) {
    const LlamaConfig *config = &llama->config;
    int64_t positions = min_i64(round_up(llama->position, CACHE_BLOCK), config->context);
    return 2 * config->layers * config->key_heads * config->head_size * positions *
           (int64_t)sizeof(float);
}

// ---- what a file says --------------------------------------------------------------------------
static int read_size(const Gguf *gguf, const char *name, int64_t low, int64_t high,
                     int64_t *value) {
    if (gguf_int(gguf, name, value) < 0) return -1;
    if (*value >= low && *value <= high) return 0;
    return fail("%s: %s is %lld, outside %lld to %lld", gguf_path(gguf), name, (long long)*value,
                (long long)low, (long long)high);
}

static int read_config(const Gguf *gguf, LlamaConfig *config) {
    TextSpan name;
    if (gguf_text(gguf, "general.architecture", &name) < 0) return -1;
    if (name.length != 5 || memcmp(name.at, "llama", 5))
        return fail("%s: architecture %.*s is not supported yet; this build runs llama",
                    gguf_path(gguf), (int)min_i64((int64_t)name.length, 40), name.at);
    if (read_size(gguf, "llama.block_count", 1, 1024, &config->layers) < 0) return -1;
    if (read_size(gguf, "llama.embedding_length", 1, 1 << 20, &config->width) < 0) return -1;
    if (read_size(gguf, "llama.feed_forward_length", 1, 1 << 22, &config->hidden) < 0) return -1;
    if (read_size(gguf, "llama.attention.head_count", 1, 4096, &config->heads) < 0) return -1;
    if (read_size(gguf, "llama.context_length", 1, 1 << 24, &config->trained) < 0) return -1;
    config->key_heads = config->heads;
    if (gguf_find_key(gguf, "llama.attention.head_count_kv") &&
        read_size(gguf, "llama.attention.head_count_kv", 1, config->heads, &config->key_heads) < 0)
        return -1;
    config->head_size = config->width / config->heads;
    if (gguf_find_key(gguf, "llama.attention.key_length") &&
        read_size(gguf, "llama.attention.key_length", 1, 4096, &config->head_size) < 0)
        return -1;
    config->rope_size = config->head_size;
    if (gguf_find_key(gguf, "llama.rope.dimension_count") &&
        read_size(gguf, "llama.rope.dimension_count", 2, config->head_size, &config->rope_size) < 0)
        return -1;
    if (gguf_number(gguf, "llama.attention.layer_norm_rms_epsilon", &config->epsilon) < 0)
        return -1;
    config->rope_base = 10000;
    if (gguf_find_key(gguf, "llama.rope.freq_base") &&
        gguf_number(gguf, "llama.rope.freq_base", &config->rope_base) < 0)
        return -1;
    if (config->heads % config->key_heads || config->rope_size % 2 || !(config->epsilon >= 0) ||
        !(config->rope_base > 0))
        return fail(
            "%s: heads %lld, key heads %lld, rope size %lld, epsilon %g, rope base %g do not "
            "make a llama",
            gguf_path(gguf), (long long)config->heads, (long long)config->key_heads,
            (long long)config->rope_size, config->epsilon, config->rope_base);
    const GgufTensor *embedding = gguf_find_tensor(gguf, "token_embd.weight");
    if (!embedding) return fail("%s: tensor token_embd.weight is missing", gguf_path(gguf));
    config->vocabulary = embedding->shape[1];
    return 0;
}

typedef struct {
    Llama *llama;
    const Gguf *gguf;  // NULL: random weights
    uint64_t counter;  // of random numbers drawn so far
} Loading;

// ---- random weights ----------------------------------------------------------------------------
// S. Vigna's splitmix64: number `counter` of a sequence.
static uint64_t random_bits(uint64_t counter) {
    uint64_t z = counter * 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

// Blocks of 32 values, of mean 0 and variance 1 / columns, so that a product is as large as what it
// is applied to.
//   Q4_1: f16 scale, f16 offset, codes of 4 bits, 0 to 15
//   Q8_0: f16 scale, codes of 8 bits, -128 to 127
static uint8_t *random_blocks(Loading *loading, int64_t rows, int64_t columns,
                              const GgufFormat *format) {
    bool nibbles = format->type == GGUF_Q4_1;
    int64_t blocks = rows * columns / format->length;
    uint8_t *data = arena_array(loading->llama->arena, uint8_t, blocks * format->bytes + 64),
            *at = data;
    double deviation = nibbles ? 4.61 : 73.9;  // of evenly spread codes: sqrt((n^2 - 1) / 12)
    float scale = (float)(1 / (deviation * sqrt((double)columns)));
    uint16_t head[] = {f16_round(scale), f16_round(-7.5f * scale)};
    size_t head_bytes = nibbles ? 4 : 2;
    for (int64_t i = 0; i < blocks; i++, at += format->bytes) {
        memcpy(at, head, head_bytes);
        for (size_t j = head_bytes; j < (size_t)format->bytes; j += sizeof(uint64_t)) {
            uint64_t bits = random_bits(++loading->counter);
            memcpy(at + j, &bits, sizeof bits);
        }
    }
    return data;
}

// A norm's weights are ones, not to change the size of what passes through.
static int make_random(Loading *loading, PgTensor **to, int64_t rows, int64_t columns) {
    Llama *llama = loading->llama;
    if (!rows) {
        *to = pg_keep(pg_ones(PG_F32, PG_SHAPE(columns)));
        llama->weight_bytes += columns * (int64_t)sizeof(float);
        return 0;
    }
    const GgufFormat *format =
        gguf_format(rows == llama->config.vocabulary ? GGUF_Q8_0 : GGUF_Q4_1);
    const uint8_t *data = random_blocks(loading, rows, columns, format);
    *to = pg_from_blocks(format->name, PG_SHAPE(rows, columns), data, 64, NULL, NULL);
    llama->weight_bytes += rows * columns / format->length * format->bytes;
    return 0;
}

// ---- loading -----------------------------------------------------------------------------------
// A tensor of the given sizes (0: as the file has it), its bytes left where the file is mapped.
static int load(Loading *loading, PgTensor **to, int64_t rows, int64_t columns, const char *name) {
    if (!loading->gguf) return make_random(loading, to, rows, columns);
    const GgufTensor *tensor = gguf_find_tensor(loading->gguf, name);
    if (!tensor) return fail("%s: tensor %s is missing", gguf_path(loading->gguf), name);
    int rank = rows ? 2 : 1;
    if (tensor->rank != rank || tensor->shape[0] != columns || (rows && tensor->shape[1] != rows))
        return fail("%s: tensor %s has shape (%lld, %lld), expected (%lld, %lld)",
                    gguf_path(loading->gguf), name, (long long)tensor->shape[1],
                    (long long)tensor->shape[0], (long long)max_i64(rows, 1), (long long)columns);
    FileBytes file = gguf_file(loading->gguf);
    size_t beyond = (size_t)(file.at + file.size - (tensor->data + tensor->bytes));
    const char *format = gguf_format(tensor->type)->name;
    int64_t shape[] = {rows, columns};
    *to = pg_from_blocks(format, rank, rows ? shape : shape + 1, tensor->data, beyond, NULL, NULL);
    if (!*to)
        return fail("%s: tensor %s: %s is not supported yet", gguf_path(loading->gguf), name,
                    format);
    loading->llama->weight_bytes += tensor->bytes;
    return 0;
}

static bool has_tensor(const Loading *loading, const char *name) {
    return loading->gguf && gguf_find_tensor(loading->gguf, name);
}

static int load_layer(Loading *loading, int64_t number, Layer *layer) {
    const LlamaConfig *config = &loading->llama->config;
    int64_t width = config->width, queries = config->heads * config->head_size;
    int64_t keys = config->key_heads * config->head_size;
    const struct {
        const char *name;
        PgTensor **to;
        int64_t rows, columns;
    } wanted[] = {
        {"attn_norm", &layer->attention_norm, 0, width},
        {"attn_q", &layer->query, queries, width},
        {"attn_k", &layer->key, keys, width},
        {"attn_v", &layer->value, keys, width},
        {"attn_output", &layer->output, width, queries},
        {"ffn_norm", &layer->feed_norm, 0, width},
        {"ffn_gate", &layer->gate, config->hidden, width},
        {"ffn_up", &layer->up, config->hidden, width},
        {"ffn_down", &layer->down, width, config->hidden},
    };
    for (int i = 0; i < COUNT_OF(wanted); i++) {
        const char *name = arena_print(loading->llama->arena, "blk.%lld.%s.weight",
                                       (long long)number, wanted[i].name);
        if (load(loading, wanted[i].to, wanted[i].rows, wanted[i].columns, name) < 0) return -1;
    }
    return 0;
}

static int load_weights(Loading *loading) {
    Llama *llama = loading->llama;
    const LlamaConfig *config = &llama->config;
    llama->layer = arena_array(llama->arena, Layer, config->layers);
    if (load(loading, &llama->embedding, config->vocabulary, config->width, "token_embd.weight") <
        0)
        return -1;
    if (load(loading, &llama->norm, 0, config->width, "output_norm.weight") < 0) return -1;
    llama->head = llama->embedding;
    if (has_tensor(loading, "output.weight") &&
        load(loading, &llama->head, config->vocabulary, config->width, "output.weight") < 0)
        return -1;
    if (has_tensor(loading, "rope_freqs.weight") &&
        load(loading, &llama->rope_factors, 0, config->rope_size / 2, "rope_freqs.weight") < 0)
        return -1;
    for (int64_t i = 0; i < config->layers; i++)
        if (load_layer(loading, i, &llama->layer[i]) < 0) return -1;
    return 0;
}

// The cache is address space for the whole context, and 512 more for the padding of a last piece;
// pages of it become memory when tokens reach them.
static void make_cache(void *context) {
    Llama *llama = context;
    const LlamaConfig *config = &llama->config;
    int64_t positions = config->context + chunks[0];
    for (int64_t i = 0; i < config->layers; i++) {
        llama->layer[i].keys =
            pg_keep(pg_zeros(PG_F32, PG_SHAPE(config->key_heads, positions, config->head_size)));
        llama->layer[i].values =
            pg_keep(pg_zeros(PG_F32, PG_SHAPE(config->key_heads, positions, config->head_size)));
    }
    llama->step = pg_function(step, llama, 1, 1);
    llama->step_all = pg_function(step_all, llama, 1, 1);
}

static Llama *llama_new(void) {
    Arena *arena = arena_new();
    Llama *llama = arena_object(arena, Llama);
    llama->arena = arena;
    return llama;
}

static Llama *llama_with_weights(Llama *llama, Loading *loading) {
    int status = load_weights(loading);
    if (status == 0 && pg_try(make_cache, llama) < 0)
        status = fail("no memory for the keys and values of %lld tokens. Hint: a smaller context",
                      (long long)llama->config.context);
    if (status == 0) return llama;
    llama_close(llama);
    return NULL;
}

Llama *llama_open(const Gguf *gguf, int64_t context) {
    Llama *llama = llama_new();
    LlamaConfig *config = &llama->config;
    if (read_config(gguf, config) < 0) {
        llama_close(llama);
        return NULL;
    }
    config->context = context ? context : min_i64(4096, config->trained);
    if (config->context > config->trained)
        say("a context of %lld is more than the %lld positions that the model was trained on",
            (long long)config->context, (long long)config->trained);
    return llama_with_weights(llama, &(Loading){.llama = llama, .gguf = gguf});
}

Llama *llama_random(int64_t context, uint64_t seed) {
    Llama *llama = llama_new();
    llama->config = (LlamaConfig){.layers = 30,
                                  .width = 576,
                                  .hidden = 1536,
                                  .heads = 9,
                                  .key_heads = 3,
                                  .head_size = 64,
                                  .vocabulary = 49152,
                                  .context = context ? context : 4096,
                                  .trained = 8192,
                                  .epsilon = 1e-5,
                                  .rope_base = 100000,
                                  .rope_size = 64};
    return llama_with_weights(llama, &(Loading){.llama = llama, .counter = seed << 32});
}

void llama_close(Llama *llama) {
    if (llama->step) pg_function_free(llama->step);
    if (llama->step_all) pg_function_free(llama->step_all);
    arena_free(llama->arena);
}
