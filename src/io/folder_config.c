/* folder_config.c - what config.json says, as the keys that GGUF has for it.
 * In: config.json of a llama, mistral or qwen2.  Out: keys, and the factors of llama 3's rotations.
 * Invariant: what is in the file and would change the numbers is either a key or refused by name.
 *   {"model_type": "qwen2", "num_hidden_layers": 24, ...}   =>   qwen2.block_count = 24, ...
 * Source: the configurations and modeling_rope_utils.py of transformers 4.57; keys as llama.cpp's
 * convert_hf_to_gguf.py names them.                                                             */
#include "io/io.h"

#include <math.h>
#include <string.h>

enum { SIZE_MAX_VALUE = 1 << 30, PAIRS_MAX = 4096 };

static const struct {
    const char *model_type, *architecture;
    int biases;  // that it always has
} architectures[] = {
    {"llama", "llama", 0},
    {"mistral", "llama", 0},
    {"qwen2", "qwen2", FOLDER_QKV_BIAS},
};

typedef struct {
    Folder *folder;
    const char *path;
    const Json *root, *rope;  // rope: NULL if plain
    bool mistral;
    int64_t heads, width, head_size, context;
    double rope_base;
} Config;

static const char *key_name(const Config *config, const char *name) {
    return arena_print(config->folder->arena, "%s.%s", config->folder->architecture, name);
}

static void put_int(const Config *config, const char *name, int64_t value) {
    gguf_put_int(config->folder->writer, key_name(config, name), value);
}

static void put_number(const Config *config, const char *name, double value) {
    gguf_put_f32(config->folder->writer, key_name(config, name), (float)value);
}

static void put_text(const Config *config, const char *name, const char *value) {
    gguf_put_text(config->folder->writer, key_name(config, name), value);
}

// ---- typed reads: where the file has nothing, *value stays -------------------------------------

static int read_size(const Config *config, const Json *object, const char *name, int64_t *value) {
    const Json *json = json_member(object, name);
    if (!json) return 0;
    if (json_int(json, value) && *value >= 1 && *value <= SIZE_MAX_VALUE) return 0;
    return fail("%s: %s must be a whole number from 1 to %d", config->path, name, SIZE_MAX_VALUE);
}

static int need_size(const Config *config, const char *name, int64_t *value) {
    if (!json_member(config->root, name)) return fail("%s: %s is missing", config->path, name);
    return read_size(config, config->root, name, value);
}

static int read_number(const Config *config, const Json *object, const char *name, double *value) {
    const Json *json = json_member(object, name);
    if (!json) return 0;
    if (json_number(json, value) && *value > 0 && *value <= 1e12) return 0;
    return fail("%s: %s must be a number above 0", config->path, name);
}

static int need_number(const Config *config, const Json *object, const char *name, double *value) {
    if (!json_member(object, name)) return fail("%s: %s is missing", config->path, name);
    return read_number(config, object, name, value);
}

static int read_truth(const Config *config, const char *name, bool *value) {
    const Json *json = json_member(config->root, name);
    if (!json || json_truth(json, value)) return 0;
    return fail("%s: %s must be true or false", config->path, name);
}

static const char *shown(const Config *config, const Json *json) {
    TextSpan text;
    if (!json_text(json, &text)) return "(no text)";
    return arena_print(config->folder->arena, "%.*s", (int)min_i64((int64_t)text.length, 60),
                       text.at);
}

// ---- what is computed --------------------------------------------------------------------------

static int read_architecture(Config *config) {
    const Json *type = json_member(config->root, "model_type");
    for (int i = 0; i < COUNT_OF(architectures); i++) {
        if (!json_is(type, architectures[i].model_type)) continue;
        config->folder->architecture = architectures[i].architecture;
        config->folder->biases = architectures[i].biases;
        config->mistral = !strcmp(architectures[i].model_type, "mistral");
        gguf_put_text(config->folder->writer, "general.architecture",
                      architectures[i].architecture);
        return 0;
    }
    return fail("%s: model_type %s is not supported yet; llama, mistral and qwen2 are",
                config->path, shown(config, type));
}

// Models that compute something else under a known name.
static int refuse_others(const Config *config) {
    const Json *act = json_member(config->root, "hidden_act");
    const Json *quantised = json_member(config->root, "quantization_config");
    double part = 1;
    if (act && !json_is(act, "silu"))
        return fail("%s: hidden_act %s is not supported yet; silu is", config->path,
                    shown(config, act));
    if (quantised)
        return fail("%s: weights quantised by %s are not read; F32, F16 and BF16 are", config->path,
                    shown(config, json_member(quantised, "quant_method")));
    if (read_number(config, config->root, "partial_rotary_factor", &part)) return -1;
    return part == 1 ? 0 : fail("%s: partial_rotary_factor is not supported yet", config->path);
}

static int read_biases(const Config *config) {
    bool attention = false, feed = false;
    if (read_truth(config, "attention_bias", &attention) || read_truth(config, "mlp_bias", &feed))
        return -1;
    if (attention) config->folder->biases |= FOLDER_QKV_BIAS | FOLDER_OUTPUT_BIAS;
    if (feed) config->folder->biases |= FOLDER_FEED_BIAS;
    return read_truth(config, "tie_word_embeddings", &config->folder->tied);
}

static int read_sizes(Config *config) {
    int64_t hidden, key_heads, vocabulary = config->folder->vocabulary;
    double epsilon = 1e-6;  // transformers' own where the file has none
    if (need_size(config, "num_hidden_layers", &config->folder->layers) ||
        need_size(config, "hidden_size", &config->width) ||
        need_size(config, "intermediate_size", &hidden) ||
        need_size(config, "num_attention_heads", &config->heads) ||
        need_size(config, "max_position_embeddings", &config->context) ||
        read_size(config, config->root, "vocab_size", &vocabulary) ||
        read_number(config, config->root, "rms_norm_eps", &epsilon))
        return -1;
    if (vocabulary != config->folder->vocabulary)
        return fail("%s: vocab_size is %lld, but the embedding has %lld rows", config->path,
                    (long long)vocabulary, (long long)config->folder->vocabulary);
    key_heads = config->heads;
    config->head_size = config->width / config->heads;
    if (!json_member(config->root, "head_dim") && config->width % config->heads)
        return fail("%s: hidden_size %lld is no multiple of num_attention_heads %lld", config->path,
                    (long long)config->width, (long long)config->heads);
    if (read_size(config, config->root, "num_key_value_heads", &key_heads) ||
        read_size(config, config->root, "head_dim", &config->head_size))
        return -1;
    put_int(config, "block_count", config->folder->layers);
    put_int(config, "context_length", config->context);
    put_int(config, "embedding_length", config->width);
    put_int(config, "feed_forward_length", hidden);
    put_int(config, "attention.head_count", config->heads);
    put_int(config, "attention.head_count_kv", key_heads);
    put_int(config, "vocab_size", vocabulary);
    put_int(config, "rope.dimension_count", config->head_size);
    put_number(config, "attention.layer_norm_rms_epsilon", epsilon);
    if (config->head_size * config->heads == config->width) return 0;
    put_int(config, "attention.key_length", config->head_size);
    put_int(config, "attention.value_length", config->head_size);
    return 0;
}

// ---- windows -----------------------------------------------------------------------------------

// Layers from *from on have a window; -1 with a message if they alternate.
static int read_layer_types(const Config *config, int64_t *from) {
    const Json *types = json_member(config->root, "layer_types");
    int64_t layers = config->folder->layers;
    if (!types) return 0;
    if (json_count(types) != layers)
        return fail("%s: layer_types has %lld entries for %lld layers", config->path,
                    (long long)json_count(types), (long long)layers);
    for (*from = 0; *from < layers; ++*from) {
        if (!json_is(json_element(types, *from), "full_attention")) break;
    }
    for (int64_t i = *from; i < layers; i++) {
        const Json *type = json_element(types, i);
        if (!json_is(type, "sliding_attention"))
            return fail("%s: layer_types: %s in layer %lld is not supported yet; sliding_attention "
                        "after full_attention is",
                        config->path, shown(config, type), (long long)i);
    }
    return 0;
}

static int read_window(const Config *config) {
    bool used = config->mistral;
    int64_t window = 0, from = 0;
    if (!strcmp(config->folder->architecture, "qwen2") &&
        (read_truth(config, "use_sliding_window", &used) ||
         (used && json_int(json_member(config->root, "max_window_layers"), &from) && from < 0)))
        return fail("%s: max_window_layers is below 0", config->path);
    if (read_layer_types(config, &from)) return -1;
    if (!used || from >= config->folder->layers) return 0;
    if (read_size(config, config->root, "sliding_window", &window)) return -1;
    if (!window) return 0;
    put_int(config, "attention.sliding_window", window);
    if (from) put_int(config, "attention.sliding_window_from", from);
    return 0;
}

// ---- rotations ---------------------------------------------------------------------------------

static int read_linear(const Config *config) {
    double factor;
    if (need_number(config, config->rope, "factor", &factor)) return -1;
    put_text(config, "rope.scaling.type", "linear");
    put_number(config, "rope.scaling.factor", factor);
    return 0;
}

static double yarn_attention(double factor, double scale) {
    return factor > 1 ? 0.1 * scale * log(factor) + 1 : 1;
}

// GGUF's attn_factor multiplies what YaRN scales by anyway; transformers' attention_factor is all.
static int read_yarn(const Config *config) {
    double factor, fast = 32, slow = 1, scale = 0, scale_all = 0;
    int64_t original = config->context;
    bool truncate = true;
    const Json *truncated = json_member(config->rope, "truncate");
    if (truncated && (!json_truth(truncated, &truncate) || !truncate))
        return fail("%s: YaRN with truncate false is not supported yet", config->path);
    if (need_number(config, config->rope, "factor", &factor) ||
        read_size(config, config->rope, "original_max_position_embeddings", &original) ||
        read_number(config, config->rope, "beta_fast", &fast) ||
        read_number(config, config->rope, "beta_slow", &slow) ||
        read_number(config, config->rope, "mscale", &scale) ||
        read_number(config, config->rope, "mscale_all_dim", &scale_all))
        return -1;
    double usual = yarn_attention(factor, 1), attention = usual;
    if (scale > 0 && scale_all > 0)
        attention = yarn_attention(factor, scale) / yarn_attention(factor, scale_all);
    if (read_number(config, config->rope, "attention_factor", &attention)) return -1;
    put_text(config, "rope.scaling.type", "yarn");
    put_number(config, "rope.scaling.factor", factor);
    put_int(config, "rope.scaling.original_context_length", original);
    put_number(config, "rope.scaling.attn_factor", attention / usual);
    put_number(config, "rope.scaling.yarn_beta_fast", fast);
    put_number(config, "rope.scaling.yarn_beta_slow", slow);
    return 0;
}

// Slow rotations are slowed by `factor`, fast ones kept, those between pass from one to the other.
// GGUF has no keys for it but the result: by what each frequency is divided.
static int read_llama3(const Config *config) {
    double factor, low, high;
    int64_t original, pairs = config->head_size / 2;
    if (need_number(config, config->rope, "factor", &factor) ||
        need_number(config, config->rope, "low_freq_factor", &low) ||
        need_number(config, config->rope, "high_freq_factor", &high) ||
        read_size(config, config->rope, "original_max_position_embeddings", &original))
        return -1;
    if (!json_member(config->rope, "original_max_position_embeddings") || low >= high ||
        pairs < 1 || pairs > PAIRS_MAX)
        return fail("%s: llama3's rotations need original_max_position_embeddings, and a "
                    "low_freq_factor below high_freq_factor",
                    config->path);
    float *factors = arena_array(config->folder->arena, float, pairs);
    for (int64_t i = 0; i < pairs; i++) {
        double frequency = pow(config->rope_base, -2 * (double)i / (double)config->head_size);
        double length = 2 * acos(-1) / frequency;  // positions of one turn
        double smooth = ((double)original / length - low) / (high - low);
        smooth = fmin(fmax(smooth, 0), 1);
        factors[i] = (float)(1 / ((1 - smooth) / factor + smooth));
    }
    config->folder->factors = factors;
    config->folder->factor_count = pairs;
    return 0;
}

static const struct {
    const char *name;
    int (*read)(const Config *config);  // NULL: plain
} rotations[] = {
    {"default", NULL},   {"none", NULL},          {"linear", read_linear},
    {"yarn", read_yarn}, {"llama3", read_llama3},
};

// Older files have rope_theta beside rope_scaling, and `type` in it; newer ones all in
// rope_parameters.
static int read_rope(Config *config) {
    config->rope_base = 10000;
    config->rope = json_member(config->root, "rope_parameters");
    if (read_number(config, config->root, "rope_theta", &config->rope_base) ||
        read_number(config, config->rope, "rope_theta", &config->rope_base))
        return -1;
    if (!config->rope) config->rope = json_member(config->root, "rope_scaling");
    put_number(config, "rope.freq_base", config->rope_base);
    if (!config->rope) return 0;
    const Json *type = json_member(config->rope, "rope_type");
    if (!type) type = json_member(config->rope, "type");
    for (int i = 0; i < COUNT_OF(rotations); i++) {
        if (!json_is(type, rotations[i].name)) continue;
        return rotations[i].read ? rotations[i].read(config) : 0;
    }
    return fail("%s: rope scaling %s is not supported yet; linear, yarn and llama3 are",
                config->path, type ? shown(config, type) : "without a rope_type");
}

static int read_keys(Config *config) {
    if (read_architecture(config) || refuse_others(config) || read_biases(config)) return -1;
    return read_sizes(config) || read_window(config) || read_rope(config) ? -1 : 0;
}

int folder_read_config(Folder *folder) {
    Config config = {
        .folder = folder, .path = folder_path(folder, "config.json"), .root = folder->config};
    return read_keys(&config);
}
