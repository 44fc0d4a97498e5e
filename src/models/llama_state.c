/* llama_state.c - the cache of keys and values as a thing: parts forgotten, or all kept in a file.
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

// ---- files -------------------------------------------------------------------------------------
// header | ids (i32) | extra | of each layer keys, then values (f32), (K, position, D) | hash of
// all before. The header has fixed fields, in the machine's byte order, which is little-endian.
typedef struct {
    char magic[8];
    uint32_t version, header_bytes;
    uint64_t model;  // see model_hash
    int64_t layers, key_heads, head_size, position, extra_bytes;
} StateHeader;
static const char magic[8] = "PGSTATE";
enum { VERSION = 1, SAMPLED = 4096 };

// Of what makes a model: its sizes, and each tensor's name, type, shape, first and last bytes.
static uint64_t model_hash(const Llama *llama) {
    const LlamaConfig *config = &llama->config;
    const int64_t sizes[] = {config->layers,    config->width,     config->hidden,    config->heads,
                             config->key_heads, config->head_size, config->vocabulary};
    uint64_t hash = hash_bytes(sizes, sizeof sizes, VERSION);
    for (int64_t i = 0; llama->gguf && i < gguf_tensor_count(llama->gguf); i++) {
        const GgufTensor *tensor = gguf_tensor(llama->gguf, i);
        size_t sampled = (size_t)min_i64(tensor->bytes, SAMPLED);
        hash = hash_bytes(tensor->name, strlen(tensor->name), hash);
        hash = hash_bytes(&tensor->type, sizeof tensor->type, hash);
        hash = hash_bytes(tensor->shape, sizeof tensor->shape, hash);
        hash = hash_bytes(tensor->data, sampled, hash);
        hash = hash_bytes(tensor->data + tensor->bytes - sampled, sampled, hash);
    }
    return hash;
}

static StateHeader header_of(const Llama *llama, size_t extra_bytes) {
    const LlamaConfig *config = &llama->config;
    StateHeader header = {.version = VERSION,
                          .header_bytes = sizeof header,
                          .model = model_hash(llama),
                          .layers = config->layers,
                          .key_heads = config->key_heads,
                          .head_size = config->head_size,
                          .position = llama->position,
                          .extra_bytes = (int64_t)extra_bytes};
    memcpy(header.magic, magic, sizeof magic);
    return header;
}

// Bytes of the keys, or of the values, of one layer.
static size_t part_bytes(const LlamaConfig *config, int64_t position) {
    return (size_t)(config->key_heads * config->head_size * position) * sizeof(float);
}

typedef struct {
    const Llama *llama;
    OutputFile *output;
    uint64_t hash;
} Saving;

static void add(Saving *saving, const void *bytes, size_t count) {
    saving->hash = hash_bytes(bytes, count, saving->hash);
    output_add(saving->output, bytes, count);
}

static void add_cache(Saving *saving, PgTensor *cache, void *room, size_t bytes) {
    pg_scope_begin();
    PgTensor *used = pg_slice(cache, 1, 0, saving->llama->position, 1);
    pg_to_host(pg_contiguous(used), room, bytes);
    pg_scope_end();
    add(saving, room, bytes);
}

int llama_save(const Llama *llama, const char *path, const int32_t *ids, TextSpan extra) {
    const LlamaConfig *config = &llama->config;
    if (config->sequences > 1) fatal("llama_save: of several sequences");
    Saving saving = {.llama = llama, .output = output_open(path)};
    if (!saving.output) return -1;
    Arena *arena = arena_new();
    StateHeader header = header_of(llama, extra.length);
    size_t bytes = part_bytes(config, llama->position);
    char *room = arena_alloc(arena, bytes);
    add(&saving, &header, sizeof header);
    add(&saving, ids, (size_t)llama->position * sizeof *ids);
    add(&saving, extra.at, extra.length);
    for (int64_t i = 0; i < config->layers && bytes; i++) {
        add_cache(&saving, llama->layer[i].keys, room, bytes);
        add_cache(&saving, llama->layer[i].values, room, bytes);
    }
    output_add(saving.output, &saving.hash, sizeof saving.hash);
    arena_free(arena);
    return output_finish(saving.output);
}

// What follows the header is as long as it says, and is what was written.
static int check_file(const char *path, FileBytes file, const StateHeader *header,
                      const LlamaConfig *config) {
    size_t ids = (size_t)header->position * sizeof(int32_t), extra = (size_t)header->extra_bytes;
    size_t cache = 2 * (size_t)config->layers * part_bytes(config, header->position);
    size_t before = sizeof *header + ids + extra, at = sizeof *header;
    uint64_t hash = hash_bytes(header, sizeof *header, 0), kept;
    if (file.size != before + cache + sizeof hash)
        return fail("%s: %zu bytes, but its header speaks of %zu; it is cut short or damaged", path,
                    file.size, before + cache + sizeof hash);
    hash = hash_bytes(file.at + at, ids, hash);
    hash = hash_bytes(file.at + at + ids, extra, hash);
    size_t part = part_bytes(config, header->position);
    for (at = before; at < before + cache; at += part) hash = hash_bytes(file.at + at, part, hash);
    memcpy(&kept, file.at + before + cache, sizeof kept);
    if (kept == hash) return 0;
    return fail("%s: its sum is wrong: it is damaged. Save it again", path);
}

static int check_header(const Llama *llama, const char *path, FileBytes file, StateHeader *header) {
    const LlamaConfig *config = &llama->config;
    if (file.size < sizeof *header || memcmp(file.at, magic, sizeof magic))
        return fail("%s: not a saved state of picograd", path);
    memcpy(header, file.at, sizeof *header);
    if (header->version != VERSION || header->header_bytes != sizeof *header)
        return fail("%s: a state of version %u; this build reads version %d", path, header->version,
                    VERSION);
    if (header->layers != config->layers || header->key_heads != config->key_heads ||
        header->head_size != config->head_size || header->model != model_hash(llama))
        return fail("%s: a state of another model. Open the one that it was saved with", path);
    if (header->position < 0 || header->extra_bytes < 0 || (uint64_t)header->position > file.size ||
        (uint64_t)header->extra_bytes > file.size)
        return fail("%s: its header does not fit its %zu bytes", path, file.size);
    if (header->position > config->context)
        return fail("%s: a state of %lld tokens does not fit a context of %lld. Use a larger -c",
                    path, (long long)header->position, (long long)config->context);
    return check_file(path, file, header, config);
}

static int take_ids(const Llama *llama, const char *path, const uint8_t *at, int64_t count,
                    Arena *arena, IdList *ids) {
    int32_t *taken = arena_copy(arena, at, (size_t)count * sizeof *taken);
    for (int64_t i = 0; i < count; i++)
        if (taken[i] < 0 || taken[i] >= llama->config.vocabulary)
            return fail("%s: token %lld has id %d, outside the vocabulary of %lld", path,
                        (long long)i, taken[i], (long long)llama->config.vocabulary);
    ids->count = 0;
    for (int64_t i = 0; i < count; i++) *list_add(arena, ids) = taken[i];
    return 0;
}

static void set_cache(PgTensor *cache, int64_t position, const void *bytes) {
    pg_scope_begin();
    PgTensor *place = pg_slice(cache, 1, 0, position, 1);
    const int64_t shape[] = {pg_shape(cache, 0), position, pg_shape(cache, 2)};
    pg_assign(place, pg_from_data(PG_F32, 3, shape, bytes));
    pg_scope_end();
}

static int restore(Llama *llama, const char *path, FileBytes file, Arena *arena, IdList *ids,
                   TextSpan *extra) {
    StateHeader header;
    if (check_header(llama, path, file, &header) < 0) return -1;
    const uint8_t *at = file.at + sizeof header;
    if (take_ids(llama, path, at, header.position, arena, ids) < 0) return -1;
    at += (size_t)header.position * sizeof(int32_t);
    *extra =
        (TextSpan){arena_copy(arena, at, (size_t)header.extra_bytes), (size_t)header.extra_bytes};
    at += header.extra_bytes;
    size_t bytes = part_bytes(&llama->config, header.position);
    for (int64_t i = 0; i < llama->config.layers && bytes; i++, at += 2 * bytes) {
        set_cache(llama->layer[i].keys, header.position, at);
        set_cache(llama->layer[i].values, header.position, at + bytes);
    }
    llama->position = header.position;
    return 0;
}

int llama_restore(Llama *llama, const char *path, Arena *arena, IdList *ids, TextSpan *extra) {
    FileBytes file;
    if (llama->config.sequences > 1) fatal("llama_restore: of several sequences");
    if (file_map(path, &file) < 0) return -1;
    int status = restore(llama, path, file, arena, ids, extra);
    file_unmap(&file);
    return status;
}
