/* recipe.c - which type each tensor of a model gets when the model is stored in one type.
 * In: a model's tensors, the type asked for.  Out: a type for each.
 * Invariant: what is chosen divides the tensor's rows. Small tensors stay F32; those that matter
 * most get more bits than asked for, as llama-quantize gives them without an importance matrix (of
 * types with variants: to the _M ones).
 *   Q4_K, rows of 576 values  =>  token_embd Q8_0, attn_q Q5_0, attn_v of some layers Q8_0
 * Source: llama_tensor_get_type and tensor_type_fallback of llama.cpp's src/llama-quant.cpp.     */
#include "io/io.h"

#include <stdlib.h>
#include <string.h>

// The numbers of llama.cpp's llama_ftype.
static const struct {
    int type, file_type;
} file_types[] = {
    {GGUF_F32, 0},   {GGUF_F16, 1},   {GGUF_Q4_0, 2},    {GGUF_Q4_1, 3},    {GGUF_Q8_0, 7},
    {GGUF_Q5_0, 8},  {GGUF_Q5_1, 9},  {GGUF_Q2_K, 10},   {GGUF_Q3_K, 12},   {GGUF_Q4_K, 15},
    {GGUF_Q5_K, 17}, {GGUF_Q6_K, 18}, {GGUF_IQ4_NL, 25}, {GGUF_IQ4_XS, 30}, {GGUF_BF16, 32},
};

// What takes the place of a type whose blocks do not divide a row; F16 if those do not, either.
static const struct {
    int type, instead;
} fallbacks[] = {
    {GGUF_Q2_K, GGUF_Q4_0}, {GGUF_Q3_K, GGUF_Q4_0}, {GGUF_Q4_K, GGUF_Q5_0},
    {GGUF_Q5_K, GGUF_Q5_1}, {GGUF_Q6_K, GGUF_Q8_0}, {GGUF_IQ4_XS, GGUF_IQ4_NL},
};

// Layers: of 30 the first eighth are 0 to 2, the last 26 to 29.
typedef enum {
    ALL,
    FIRST_TWO,
    FIRST_SIXTEENTH,
    FIRST_EIGHTH,
    EIGHTHS_AND_THIRDS,  // the first and last eighth, and every third one between
    SHARED_BY_FOUR,      // all, if four or more heads share keys and values
} Layers;

// The first row that fits counts.
static const struct {
    int type;
    const char *tensor;  // a part of its name
    Layers layers;
    int instead;
} better[] = {
    {GGUF_Q2_K, "attn_v.weight", SHARED_BY_FOUR, GGUF_Q4_K},
    {GGUF_Q2_K, "attn_v.weight", ALL, GGUF_Q3_K},
    {GGUF_Q2_K, "ffn_down", ALL, GGUF_Q3_K},
    {GGUF_Q2_K, "attn_output.weight", ALL, GGUF_Q3_K},
    {GGUF_Q3_K, "attn_v.weight", FIRST_TWO, GGUF_Q5_K},
    {GGUF_Q3_K, "attn_v.weight", ALL, GGUF_Q4_K},
    {GGUF_Q3_K, "ffn_down", FIRST_SIXTEENTH, GGUF_Q5_K},
    {GGUF_Q3_K, "ffn_down", ALL, GGUF_Q4_K},
    {GGUF_Q3_K, "attn_output.weight", ALL, GGUF_Q4_K},
    {GGUF_Q4_K, "attn_v.weight", EIGHTHS_AND_THIRDS, GGUF_Q6_K},
    {GGUF_Q4_K, "ffn_down", EIGHTHS_AND_THIRDS, GGUF_Q6_K},
    {GGUF_Q5_K, "attn_v.weight", EIGHTHS_AND_THIRDS, GGUF_Q6_K},
    {GGUF_Q5_K, "ffn_down", EIGHTHS_AND_THIRDS, GGUF_Q6_K},
    {GGUF_IQ4_NL, "attn_v.weight", SHARED_BY_FOUR, GGUF_Q5_K},
    {GGUF_IQ4_NL, "ffn_down", FIRST_EIGHTH, GGUF_Q5_K},
    {GGUF_IQ4_XS, "attn_v.weight", SHARED_BY_FOUR, GGUF_Q5_K},
    {GGUF_IQ4_XS, "ffn_down", FIRST_EIGHTH, GGUF_Q5_K},
};

int recipe_file_type(int type) {
    for (int i = 0; i < COUNT_OF(file_types); i++)
        if (file_types[i].type == type) return file_types[i].file_type;
    return -1;
}

static int64_t number_or(const Gguf *gguf, const TextSpan *architecture, const char *name,
                         int64_t otherwise) {
    char key[256];
    int64_t value;
    snprintf(key, sizeof key, "%.*s.%s", (int)min_i64((int64_t)architecture->length, 64),
             architecture->at, name);
    return gguf_find_key(gguf, key) && gguf_int(gguf, key, &value) == 0 ? value : otherwise;
}

int recipe_open(Recipe *recipe, const Gguf *gguf, int type) {
    *recipe = (Recipe){.type = type, .tied = !gguf_find_tensor(gguf, "output.weight")};
    if (gguf_text(gguf, "general.architecture", &recipe->architecture) < 0) return -1;
    const TextSpan *architecture = &recipe->architecture;
    recipe->layers = number_or(gguf, architecture, "block_count", 0);
    recipe->heads = number_or(gguf, architecture, "attention.head_count", 1);
    recipe->key_heads = number_or(gguf, architecture, "attention.head_count_kv", recipe->heads);
    return 0;
}

// -1: of no layer
static int64_t layer_of(const char *name) {
    if (strncmp(name, "blk.", 4)) return -1;
    char *end;
    long layer = strtol(name + 4, &end, 10);
    return end > name + 4 && *end == '.' && layer >= 0 ? layer : -1;
}

static bool is_among(const Recipe *recipe, Layers which, int64_t layer) {
    int64_t layers = recipe->layers, eighth = layers / 8;
    if (layer < 0 && which != SHARED_BY_FOUR) return which == ALL;
    switch (which) {
    case ALL: return true;
    case FIRST_TWO: return layer < 2;
    case FIRST_SIXTEENTH: return layer < layers / 16;
    case FIRST_EIGHTH: return layer < eighth;
    case EIGHTHS_AND_THIRDS:
        return layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2;
    case SHARED_BY_FOUR: return recipe->key_heads > 0 && recipe->heads / recipe->key_heads >= 4;
    }
    return false;
}

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), wanted = strlen(end);
    return length >= wanted && !strcmp(text + length - wanted, end);
}

static bool is_small(const GgufTensor *tensor) {
    return tensor->rank < 2 || !ends_with(tensor->name, "weight") ||
           ends_with(tensor->name, "_norm.weight") || strstr(tensor->name, "ffn_gate_inp.weight");
}

static bool is_output(const Recipe *recipe, const char *name) {
    return !strcmp(name, recipe->tied ? "token_embd.weight" : "output.weight");
}

static bool divides(int type, const GgufTensor *tensor) {
    return tensor->shape[0] % gguf_format(type)->length == 0;
}

int recipe_wanted(const Recipe *recipe, const GgufTensor *tensor) {
    bool plain = !gguf_format(recipe->type)->layout.axis[0];
    int64_t layer = layer_of(tensor->name);
    if (is_small(tensor)) return GGUF_F32;
    if (plain) return recipe->type;
    if (is_output(recipe, tensor->name)) {
        if (recipe->type == GGUF_Q8_0 || !divides(recipe->type, tensor)) return GGUF_Q8_0;
        return GGUF_Q6_K;
    }
    for (int i = 0; i < COUNT_OF(better); i++) {
        if (better[i].type == recipe->type && strstr(tensor->name, better[i].tensor) &&
            is_among(recipe, better[i].layers, layer))
            return better[i].instead;
    }
    return recipe->type;
}

int recipe_fitting(const GgufTensor *tensor, int type) {
    for (int i = 0; i < COUNT_OF(fallbacks) && !divides(type, tensor); i++)
        if (fallbacks[i].type == type) type = fallbacks[i].instead;
    return divides(type, tensor) ? type : GGUF_F16;
}
