/* llama_load.c - what a model file says a llama is, and where its weights lie.
 * In: a checked GGUF file (or a seed).  Out: a LlamaConfig; tensors that read the file's pages.
 * Invariant: a size that a file gives is within bounds before anything is made of it, and every
 * tensor has the shape that the sizes say.
 *   qwen2.block_count = 24, blk.0.attn_q.weight, blk.0.attn_q.bias, ...   =>   layer[0].query    */
#include "models/llama.h"

#include <math.h>
#include <string.h>

// ---- what a file says --------------------------------------------------------------------------
// Architectures that are a llama with other names for its keys. In the files of `halves`, and in
// folders, the two numbers that a rotation turns lie half a head apart, else side by side.
static const struct {
    const char *name;
    bool halves;
} architectures[] = {{"llama", false}, {"mistral", false}, {"qwen2", true}};

typedef struct {
    const Gguf *gguf;
    const char *architecture;
    char name[128];
} Keys;

static const char *key_name(Keys *keys, const char *name) {
    snprintf(keys->name, sizeof keys->name, "%s.%s", keys->architecture, name);
    return keys->name;
}

static bool has_key(Keys *keys, const char *name) {
    return gguf_find_key(keys->gguf, key_name(keys, name)) != NULL;
}

static int read_size(Keys *keys, const char *name, int64_t low, int64_t high, int64_t *value) {
    if (gguf_int(keys->gguf, key_name(keys, name), value) < 0) return -1;
    if (*value >= low && *value <= high) return 0;
    return fail("%s: %s is %lld, outside %lld to %lld", gguf_path(keys->gguf), keys->name,
                (long long)*value, (long long)low, (long long)high);
}

// One that the file need not have: then *value stays.
static int read_size_if_there(Keys *keys, const char *name, int64_t low, int64_t high,
                              int64_t *value) {
    return has_key(keys, name) ? read_size(keys, name, low, high, value) : 0;
}

static int read_number_if_there(Keys *keys, const char *name, double low, double high,
                                double *value) {
    if (!has_key(keys, name)) return 0;
    if (gguf_number(keys->gguf, keys->name, value) < 0) return -1;
    if (*value >= low && *value <= high) return 0;
    return fail("%s: %s is %g, outside %g to %g", gguf_path(keys->gguf), keys->name, *value, low,
                high);
}

static int read_architecture(Keys *keys, LlamaConfig *config) {
    TextSpan name;
    if (gguf_text(keys->gguf, "general.architecture", &name) < 0) return -1;
    for (int i = 0; i < COUNT_OF(architectures); i++) {
        const char *known = architectures[i].name;
        if (name.length != strlen(known) || memcmp(name.at, known, name.length)) continue;
        keys->architecture = known;
        config->rope_halves = architectures[i].halves || gguf_is_folder(keys->gguf);
        return 0;
    }
    return fail("%s: architecture %.*s is not supported yet; llama, mistral and qwen2 are",
                gguf_path(keys->gguf), (int)min_i64((int64_t)name.length, 40), name.at);
}

static int read_rope_scaling(Keys *keys, LlamaConfig *config) {
    TextSpan type = {"none", 4};
    config->rope_factor = config->rope_attention = 1;
    config->rope_fast = 32, config->rope_slow = 1;
    if (has_key(keys, "rope.scaling.type") && gguf_text(keys->gguf, keys->name, &type) < 0)
        return -1;
    if (type.length == 4 && !memcmp(type.at, "none", 4)) return 0;
    bool linear = type.length == 6 && !memcmp(type.at, "linear", 6);
    config->rope_yarn = type.length == 4 && !memcmp(type.at, "yarn", 4);
    if (!linear && !config->rope_yarn)
        return fail("%s: rope scaling %.*s is not supported yet; linear, yarn and llama 3's are",
                    gguf_path(keys->gguf), (int)min_i64((int64_t)type.length, 40), type.at);
    config->rope_original = config->trained;
    if (read_number_if_there(keys, "rope.scaling.factor", 1e-3, 1e6, &config->rope_factor) < 0 ||
        read_number_if_there(keys, "rope.scaling.attn_factor", 1e-3, 1e3, &config->rope_attention) <
            0 ||
        read_number_if_there(keys, "rope.scaling.yarn_beta_fast", 1e-3, 1e6, &config->rope_fast) <
            0 ||
        read_number_if_there(keys, "rope.scaling.yarn_beta_slow", 1e-3, 1e6, &config->rope_slow) <
            0)
        return -1;
    return read_size_if_there(keys, "rope.scaling.original_context_length", 1, 1 << 24,
                              &config->rope_original);
}

static int read_sizes(Keys *keys, LlamaConfig *config) {
    if (read_size(keys, "block_count", 1, 1024, &config->layers) < 0) return -1;
    if (read_size(keys, "embedding_length", 1, 1 << 20, &config->width) < 0) return -1;
    if (read_size(keys, "feed_forward_length", 1, 1 << 22, &config->hidden) < 0) return -1;
    if (read_size(keys, "attention.head_count", 1, 4096, &config->heads) < 0) return -1;
    if (read_size(keys, "context_length", 1, 1 << 24, &config->trained) < 0) return -1;
    config->key_heads = config->heads;
    config->head_size = config->width / config->heads;
    if (read_size_if_there(keys, "attention.head_count_kv", 1, config->heads, &config->key_heads) <
            0 ||
        read_size_if_there(keys, "attention.key_length", 1, 4096, &config->head_size) < 0)
        return -1;
    if (!has_key(keys, "attention.key_length") && config->width % config->heads)
        return fail("%s: a width of %lld is not divided by %lld heads", gguf_path(keys->gguf),
                    (long long)config->width, (long long)config->heads);
    config->rope_size = config->head_size;
    if (read_size_if_there(keys, "rope.dimension_count", 2, config->head_size, &config->rope_size) <
            0 ||
        read_size_if_there(keys, "attention.sliding_window", 0, 1 << 24, &config->window) < 0)
        return -1;
    return read_size_if_there(keys, "attention.sliding_window_from", 0, 1024, &config->window_from);
}

int llama_read_config(const Gguf *gguf, LlamaConfig *config) {
    Keys keys = {.gguf = gguf};
    *config = (LlamaConfig){.rope_base = 10000, .epsilon = -1, .sequences = 1};
    if (read_architecture(&keys, config) < 0 || read_sizes(&keys, config) < 0 ||
        read_rope_scaling(&keys, config) < 0 ||
        read_number_if_there(&keys, "attention.layer_norm_rms_epsilon", 0, 1, &config->epsilon) <
            0 ||
        read_number_if_there(&keys, "rope.freq_base", 1, 1e12, &config->rope_base) < 0)
        return -1;
    if (config->epsilon < 0)
        return fail("%s: key %s is missing", gguf_path(gguf),
                    key_name(&keys, "attention.layer_norm_rms_epsilon"));
    if (config->heads % config->key_heads || config->rope_size % 2)
        return fail("%s: heads %lld, key heads %lld, rope size %lld do not make a llama",
                    gguf_path(gguf), (long long)config->heads, (long long)config->key_heads,
                    (long long)config->rope_size);
    const GgufTensor *embedding = gguf_find_tensor(gguf, "token_embd.weight");
    if (!embedding) return fail("%s: tensor token_embd.weight is missing", gguf_path(gguf));
    config->vocabulary = embedding->shape[1];
    if (config->vocabulary <= INT32_MAX) return 0;
    return fail("%s: a vocabulary of %lld tokens", gguf_path(gguf), (long long)config->vocabulary);
}

// ---- loading -----------------------------------------------------------------------------------
typedef struct {
    Llama *llama;
    uint64_t counter;  // of random numbers drawn so far
} Loading;

// A tensor of the given sizes (rows 0: of rank 1), its bytes left where the file is mapped.
static int load(Loading *loading, PgTensor **to, int64_t rows, int64_t columns, const char *name) {
    Llama *llama = loading->llama;
    const Gguf *gguf = llama->gguf;
    if (!gguf) {
        *to = llama_random_weight(llama, &loading->counter, rows, columns);
        return *to ? 0 : -1;
    }
    const GgufTensor *tensor = gguf_find_tensor(gguf, name);
    if (!tensor) return fail("%s: tensor %s is missing", gguf_path(gguf), name);
    int rank = rows ? 2 : 1;
    if (tensor->rank != rank || tensor->shape[0] != columns || (rows && tensor->shape[1] != rows))
        return fail("%s: tensor %s has shape (%lld, %lld), expected (%lld, %lld)", gguf_path(gguf),
                    name, (long long)tensor->shape[1], (long long)tensor->shape[0],
                    (long long)max_i64(rows, 1), (long long)columns);
    const char *format = gguf_format(tensor->type)->name;
    int64_t shape[] = {rows, columns};
    *to = pg_from_blocks(format, rank, rows ? shape : shape + 1, tensor->data, tensor->beyond, NULL,
                         NULL);
    if (!*to) return fail("%s: tensor %s: %s is not supported yet", gguf_path(gguf), name, format);
    llama->weight_bytes += tensor->bytes;
    return 0;
}

static bool has_tensor(const Loading *loading, const char *name) {
    return loading->llama->gguf && gguf_find_tensor(loading->llama->gguf, name);
}

// NAME.weight, and NAME.bias if there is one.
static int load_linear(Loading *loading, Linear *to, int64_t rows, int64_t columns,
                       const char *name) {
    Arena *arena = loading->llama->arena;
    const char *weight = arena_print(arena, "%s.weight", name);
    const char *bias = arena_print(arena, "%s.bias", name);
    if (load(loading, &to->weight, rows, columns, weight) < 0) return -1;
    return has_tensor(loading, bias) ? load(loading, &to->bias, 0, rows, bias) : 0;
}

static int load_layer(Loading *loading, int64_t number, LlamaLayer *layer) {
    const LlamaConfig *config = &loading->llama->config;
    Arena *arena = loading->llama->arena;
    int64_t width = config->width, queries = config->heads * config->head_size;
    int64_t keys = config->key_heads * config->head_size;
    const struct {
        const char *name;
        Linear *to;
        int64_t rows, columns;
    } wanted[] = {
        {"attn_q", &layer->query, queries, width},
        {"attn_k", &layer->key, keys, width},
        {"attn_v", &layer->value, keys, width},
        {"attn_output", &layer->output, width, queries},
        {"ffn_gate", &layer->gate, config->hidden, width},
        {"ffn_up", &layer->up, config->hidden, width},
        {"ffn_down", &layer->down, width, config->hidden},
    };
    for (int i = 0; i < COUNT_OF(wanted); i++) {
        const char *name = arena_print(arena, "blk.%lld.%s", (long long)number, wanted[i].name);
        if (load_linear(loading, wanted[i].to, wanted[i].rows, wanted[i].columns, name) < 0)
            return -1;
    }
    const char *norm = arena_print(arena, "blk.%lld.attn_norm.weight", (long long)number);
    if (load(loading, &layer->attention_norm, 0, width, norm) < 0) return -1;
    norm = arena_print(arena, "blk.%lld.ffn_norm.weight", (long long)number);
    return load(loading, &layer->feed_norm, 0, width, norm);
}

// YaRN leaves alone what turns often over the positions trained on (rope_fast times or more),
// stretches by rope_factor what turns rarely (rope_slow times or less), and passes from one to the
// other between. The dimension that turns `times` times:
static double yarn_dimension(const LlamaConfig *config, double times) {
    double turns = (double)config->rope_original / (times * 2 * acos(-1));
    return (double)config->rope_size * log(turns) / (2 * log(config->rope_base));
}

static void make_rope_factors(Llama *llama) {
    const LlamaConfig *config = &llama->config;
    int64_t pairs = config->rope_size / 2;
    float *factors = arena_array(llama->arena, float, pairs);
    double low = fmax(floor(yarn_dimension(config, config->rope_fast)), 0);
    double high =
        fmin(ceil(yarn_dimension(config, config->rope_slow)), (double)config->rope_size - 1);
    for (int64_t i = 0; i < pairs; i++) {
        double stretched = fmin(fmax(((double)i - low) / fmax(high - low, 1e-3), 0), 1);
        if (!config->rope_yarn) stretched = 1;
        factors[i] = (float)(1 / (stretched / config->rope_factor + 1 - stretched));
    }
    llama->rope_factors = pg_from_data(PG_F32, PG_SHAPE(pairs), factors);
    if (config->rope_yarn && config->rope_factor > 1)
        llama->rope_scale = config->rope_attention * (1 + 0.1 * log(config->rope_factor));
}

int llama_load(Llama *llama, uint64_t seed) {
    const LlamaConfig *config = &llama->config;
    Loading loading = {llama, seed << 32};
    int64_t width = config->width;
    llama->layer = arena_array(llama->arena, LlamaLayer, config->layers);
    if (load(&loading, &llama->embedding, config->vocabulary, width, "token_embd.weight") < 0 ||
        load(&loading, &llama->norm, 0, width, "output_norm.weight") < 0)
        return -1;
    llama->head.weight = llama->embedding;
    if (has_tensor(&loading, "output.weight") &&
        load_linear(&loading, &llama->head, config->vocabulary, width, "output") < 0)
        return -1;
    if (config->rope_factor != 1) make_rope_factors(llama);
    if (has_tensor(&loading, "rope_freqs.weight") &&
        load(&loading, &llama->rope_factors, 0, config->rope_size / 2, "rope_freqs.weight") < 0)
        return -1;
    for (int64_t i = 0; i < config->layers; i++)
        if (load_layer(&loading, i, &llama->layer[i]) < 0) return -1;
    return 0;
}
