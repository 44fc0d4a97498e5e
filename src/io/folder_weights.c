/* folder_weights.c - the tensors of a Hugging Face folder, under the names that GGUF gives them.
 * In: model.safetensors, or the files of model.safetensors.index.json.  Out: tensors in a Gguf, in
 * the mapped files.
 * Invariant: every tensor of the files is known by name, of a type that is computed with and of a
 * layer that config.json counts; nothing is left out unseen.
 *   model.layers.3.self_attn.q_proj.weight BF16 (576, 576)   =>   blk.3.attn_q.weight            */
#include "io/io.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const struct {
    const char *from, *to;
} names[] = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
};

static const struct {
    const char *from, *to;  // behind model.layers.N. and blk.N., with .weight or .bias after them
} layer_names[] = {
    {"input_layernorm", "attn_norm"}, {"post_attention_layernorm", "ffn_norm"},
    {"self_attn.q_proj", "attn_q"},   {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},   {"self_attn.o_proj", "attn_output"},
    {"mlp.gate_proj", "ffn_gate"},    {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
};

static const struct {
    const char *from;
    int to;
} types[] = {{"F32", GGUF_F32}, {"F16", GGUF_F16}, {"BF16", GGUF_BF16}};

// ---- which files -------------------------------------------------------------------------------

static int map_file(Folder *folder, const char *name) {
    FolderFile *file = list_add(folder->arena, &folder->files);
    *file = (FolderFile){.name = name, .path = folder_path(folder, name)};
    if (file_map(file->path, &file->bytes)) return -1;
    file->tensors = safetensors_read(file->path, folder->arena, file->bytes, &file->count);
    return file->tensors ? 0 : -1;
}

static const FolderFile *find_file(const Folder *folder, const char *name) {
    for (int i = 0; i < folder->files.count; i++) {
        if (!strcmp(folder->files.at[i].name, name)) return &folder->files.at[i];
    }
    return NULL;
}

static int by_name(const void *left, const void *right) {
    return strcmp(((const SafeTensor *)left)->name, ((const SafeTensor *)right)->name);
}

static const SafeTensor *find_in(const FolderFile *file, const char *name) {
    SafeTensor key = {.name = name};
    return bsearch(&key, file->tensors, (size_t)file->count, sizeof key, by_name);
}

// A name, not a path: what lies outside the folder is not read.
static bool is_plain(TextSpan name) {
    static const char ending[] = ".safetensors";
    size_t end = sizeof ending - 1;
    return name.length > end && name.length < 200 && !memchr(name.at, '/', name.length) &&
           !memchr(name.at, 0, name.length) && !memcmp(name.at + name.length - end, ending, end);
}

static int map_shard(Folder *folder, JsonMember entry) {
    TextSpan name;
    if (!json_text(entry.value, &name) || !is_plain(name))
        return fail("%s: in weight_map, the file of %.100s must be the name of a .safetensors file "
                    "in the same folder",
                    folder_path(folder, FOLDER_INDEX), entry.name);
    const char *text = arena_print(folder->arena, "%.*s", (int)name.length, name.at);
    const FolderFile *file = find_file(folder, text);
    if (!file && map_file(folder, text)) return -1;
    if (!file) file = find_file(folder, text);
    if (find_in(file, entry.name)) return 0;
    return fail("%s: tensor %.100s is not in it, but %s says so", file->path, entry.name,
                FOLDER_INDEX);
}

static int map_shards(Folder *folder) {
    const char *path = folder_path(folder, FOLDER_INDEX);
    Json *root = json_open(path);
    if (!root) return -1;
    const Json *map = json_member(root, "weight_map");
    int status = json_count(map) ? 0 : fail("%s: there is no weight_map in it", path);
    for (JsonMember entry = json_first(map); entry.name && !status; entry = json_next(map, entry)) {
        status = map_shard(folder, entry);
    }
    json_close(root);
    return status;
}

static int no_weights(const Folder *folder) {
    if (folder_has(folder, "pytorch_model.bin") ||
        folder_has(folder, "pytorch_model.bin.index.json"))
        return fail("%s: the weights are a Python pickle, which could run any program and is not "
                    "opened. Save them in transformers with save_pretrained(folder, "
                    "safe_serialization=True)",
                    folder_path(folder, "pytorch_model.bin"));
    return fail("%s: there is neither model.safetensors nor " FOLDER_INDEX " in the folder",
                folder->path);
}

int folder_map_weights(Folder *folder) {
    if (folder_has(folder, "model.safetensors")) return map_file(folder, "model.safetensors");
    return folder_has(folder, FOLDER_INDEX) ? map_shards(folder) : no_weights(folder);
}

int64_t folder_vocabulary(const Folder *folder) {
    for (int i = 0; i < folder->files.count; i++) {
        const SafeTensor *tensor = find_in(&folder->files.at[i], names[0].from);
        if (tensor && tensor->rank == 2 && tensor->shape[1] > 0) return tensor->shape[0];
        if (tensor)
            return fail("%s: tensor %s has no rows", folder->files.at[i].path, names[0].from);
    }
    return fail("%s: tensor %s is missing", folder->path, names[0].from);
}

// ---- which tensors -----------------------------------------------------------------------------

static const char *layer_name(const Folder *folder, const char *from, int64_t number) {
    for (int i = 0; i < COUNT_OF(layer_names); i++) {
        size_t length = strlen(layer_names[i].from);
        if (strncmp(from, layer_names[i].from, length) != 0) continue;
        const char *rest = from + length;
        if (strcmp(rest, ".weight") != 0 && strcmp(rest, ".bias") != 0) continue;
        return arena_print(folder->arena, "blk.%lld.%s%s", (long long)number, layer_names[i].to,
                           rest);
    }
    return NULL;
}

// NULL: none that a model of these architectures has.
static const char *gguf_name(const Folder *folder, const char *from, int64_t *layer) {
    static const char layers[] = "model.layers.";
    *layer = -1;
    for (int i = 0; i < COUNT_OF(names); i++) {
        if (!strcmp(from, names[i].from)) return names[i].to;
    }
    if (strncmp(from, layers, sizeof layers - 1) != 0) return NULL;
    const char *digits = from + sizeof layers - 1, *end = digits;
    for (*layer = 0; *end >= '0' && *end <= '9' && end - digits < 9; end++) {
        *layer = *layer * 10 + (*end - '0');
    }
    bool plain = end > digits && *end == '.' && (*digits != '0' || end == digits + 1);
    return plain ? layer_name(folder, end + 1, *layer) : NULL;
}

// Not weights: old files keep what is computed from config.json.
static bool is_computed(const char *name) {
    static const char ending[] = ".rotary_emb.inv_freq";
    size_t length = strlen(name), end = sizeof ending - 1;
    return length > end && !strcmp(name + length - end, ending);
}

static int find_type(const FolderFile *file, const SafeTensor *from, int *type) {
    for (int i = 0; i < COUNT_OF(types); i++) {
        if (strcmp(types[i].from, from->type) != 0) continue;
        *type = types[i].to;
        return 0;
    }
    return fail("%s: tensor %s is %s; F32, F16 and BF16 are read", file->path, from->name,
                from->type);
}

static int set_shape(const FolderFile *file, const SafeTensor *from, GgufTensor *to) {
    bool good = from->rank >= 1 && from->rank <= 2;
    for (int d = 0; d < 4; d++) to->shape[d] = 1;
    for (int d = 0; good && d < from->rank; d++) {
        to->shape[from->rank - 1 - d] = from->shape[d];
        good = from->shape[d] > 0;
    }
    to->rank = from->rank;
    return good ? 0
                : fail("%s: tensor %s has %d dimensions, or one of them is 0; weights have 1 or 2",
                       file->path, from->name, from->rank);
}

static int add_tensor(const Folder *folder, Gguf *gguf, const FolderFile *file,
                      const SafeTensor *from) {
    int64_t layer;
    GgufTensor to = {.name = gguf_name(folder, from->name, &layer)};
    if (is_computed(from->name)) return 0;
    if (!to.name)
        return fail("%s: tensor %.100s is none that a %s model has", file->path, from->name,
                    folder->architecture);
    if (layer >= folder->layers)
        return fail("%s: tensor %s is there, but config.json has %lld layers", file->path,
                    from->name, (long long)folder->layers);
    if (folder->tied && !strcmp(to.name, "output.weight")) return 0;  // a copy of the embedding
    if (find_type(file, from, &to.type) || set_shape(file, from, &to)) return -1;
    to.data = file->bytes.at + from->first;
    to.bytes = from->end - from->first;
    to.beyond = file->bytes.size - (size_t)from->end;
    return gguf_add_tensor(gguf, &to);
}

// Biases that are asked for must be there; of weights, the model says what is missing.
static int check_biases(const Folder *folder, const Gguf *gguf) {
    static const struct {
        const char *name;
        int need;
    } biases[] = {{"attn_q", FOLDER_QKV_BIAS},    {"attn_k", FOLDER_QKV_BIAS},
                  {"attn_v", FOLDER_QKV_BIAS},    {"attn_output", FOLDER_OUTPUT_BIAS},
                  {"ffn_gate", FOLDER_FEED_BIAS}, {"ffn_up", FOLDER_FEED_BIAS},
                  {"ffn_down", FOLDER_FEED_BIAS}};
    for (int64_t layer = 0; layer < folder->layers; layer++) {
        for (int i = 0; i < COUNT_OF(biases); i++) {
            if (!(folder->biases & biases[i].need)) continue;
            const char *name =
                arena_print(folder->arena, "blk.%lld.%s.bias", (long long)layer, biases[i].name);
            if (!gguf_find_tensor(gguf, name))
                return fail("%s: tensor %s is missing", folder->path, name);
        }
    }
    return 0;
}

int folder_add_weights(Folder *folder, Gguf *gguf) {
    for (int i = 0; i < folder->files.count; i++) {
        FolderFile *file = &folder->files.at[i];
        for (int64_t j = 0; j < file->count; j++) {
            if (add_tensor(folder, gguf, file, &file->tensors[j])) return -1;
        }
    }
    if (!folder->tied && !gguf_find_tensor(gguf, "output.weight"))
        return fail("%s: tensor lm_head.weight is missing, and tie_word_embeddings is false",
                    folder->path);
    if (check_biases(folder, gguf)) return -1;
    for (int i = 0; i < folder->files.count; i++) {
        gguf_add_file(gguf, folder->files.at[i].bytes);
        folder->files.at[i].bytes = (FileBytes){0};
    }
    return 0;
}
