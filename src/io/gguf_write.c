/* gguf_write.c - writes a GGUF file, converting tensors on the way.
 * In: named values, and tensors in any known format.  Out: a GGUF version 3 file.
 * Invariant: the file appears under its name whole or not at all; no tensor is converted in memory,
 * only a batch of it at a time, of which each thread takes chunks.
 *   Q4_1 file -> F32 file:  gguf_put_keys(w, in);  for each tensor gguf_put_tensor(w, t, GGUF_F32);
 *                           gguf_writer_save(w, "out.gguf")                                      */
#include "io/io.h"

#include <string.h>

enum {
    ALIGNMENT = 32,  // the default, so that no key need say it
    CHUNK = 4096,    // values; a multiple of every format's block length
    BATCH = 256,     // chunks; 4 MB of f32
    U8 = 0,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    BOOL = 7,
    TEXT = 8,
    ARRAY = 9,
    I64 = 11,  // types of values in a file
};

// Values lie in rows, which keep their order unless `heads` says how many heads they are of.
typedef struct {
    GgufTensor source;
    const GgufFormat *from, *to;
    int64_t rows, columns, heads;
    int64_t bytes;  // as written
} Output;

struct GgufWriter {
    Arena *arena;
    Text keys;  // as they will lie in the file
    LIST(const char *) names;
    Map *name;
    LIST(Output) tensors;
    GgufProgress *progress;  // may be NULL
    void *context;
    int64_t done, all;  // bytes
};

GgufWriter *gguf_writer_new(void) {
    Arena *arena = arena_new();
    GgufWriter *writer = arena_object(arena, GgufWriter);
    *writer = (GgufWriter){.arena = arena, .keys = text_new(arena), .name = map_new(arena)};
    return writer;
}

void gguf_writer_free(GgufWriter *writer) {
    if (writer) arena_free(writer->arena);
}

static void add_u32(Text *out, uint32_t value) {
    text_add_bytes(out, (const char *)&value, sizeof value);
}

static void add_u64(Text *out, uint64_t value) {
    text_add_bytes(out, (const char *)&value, sizeof value);
}

static void add_text(Text *out, const char *at, size_t length) {
    add_u64(out, length);
    text_add_bytes(out, at, length);
}

typedef struct {
    const GgufWriter *writer;
    const char *name;
} NameQuery;

static bool same_name(const void *context, int32_t i) {
    const NameQuery *query = context;
    return strcmp(query->writer->names.at[i], query->name) == 0;
}

// False if the name is taken; else its name and type have been written and the value comes next.
static bool begin_key(GgufWriter *writer, const char *name, uint32_t type) {
    uint64_t hash = hash_bytes(name, strlen(name), secret());
    if (map_find(writer->name, hash, same_name, &(NameQuery){writer, name}) >= 0) return false;
    map_add(writer->arena, writer->name, hash, writer->names.count);
    *list_add(writer->arena, &writer->names) = arena_text(writer->arena, name);
    add_text(&writer->keys, name, strlen(name));
    add_u32(&writer->keys, type);
    return true;
}

void gguf_put_text(GgufWriter *writer, const char *name, const char *text) {
    gguf_put_span(writer, name, (TextSpan){text, strlen(text)});
}

void gguf_put_span(GgufWriter *writer, const char *name, TextSpan text) {
    if (begin_key(writer, name, TEXT)) add_text(&writer->keys, text.at, text.length);
}

void gguf_put_int(GgufWriter *writer, const char *name, int64_t value) {
    bool small = value >= 0 && value <= UINT32_MAX;
    if (!begin_key(writer, name, small ? U32 : I64)) return;
    text_add_bytes(&writer->keys, (const char *)&value, small ? 4 : 8);
}

void gguf_put_f32(GgufWriter *writer, const char *name, float value) {
    if (!begin_key(writer, name, F32)) return;
    text_add_bytes(&writer->keys, (const char *)&value, sizeof value);
}

void gguf_put_bool(GgufWriter *writer, const char *name, bool value) {
    if (begin_key(writer, name, BOOL)) text_add_bytes(&writer->keys, value ? "\1" : "\0", 1);
}

static bool begin_array(GgufWriter *writer, const char *name, uint32_t element, int64_t count) {
    if (!begin_key(writer, name, ARRAY)) return false;
    add_u32(&writer->keys, element);
    add_u64(&writer->keys, (uint64_t)count);
    return true;
}

void gguf_put_array_text(GgufWriter *writer, const char *name, const TextSpan *texts,
                         int64_t count) {
    if (!begin_array(writer, name, TEXT, count)) return;
    for (int64_t i = 0; i < count; i++) add_text(&writer->keys, texts[i].at, texts[i].length);
}

void gguf_put_array_u8(GgufWriter *writer, const char *name, const uint8_t *values, int64_t count) {
    if (!begin_array(writer, name, U8, count)) return;
    text_add_bytes(&writer->keys, (const char *)values, (size_t)count);
}

void gguf_put_array_i32(GgufWriter *writer, const char *name, const int32_t *values,
                        int64_t count) {
    if (!begin_array(writer, name, I32, count)) return;
    text_add_bytes(&writer->keys, (const char *)values, (size_t)count * sizeof *values);
}

void gguf_put_array_f32(GgufWriter *writer, const char *name, const float *values, int64_t count) {
    if (!begin_array(writer, name, F32, count)) return;
    text_add_bytes(&writer->keys, (const char *)values, (size_t)count * sizeof *values);
}

static void put_key(GgufWriter *writer, const GgufKey *key) {
    bool of_that_file = !strcmp(key->name, "general.alignment") || !strncmp(key->name, "split.", 6);
    if (of_that_file) return;
    if (!begin_key(writer, key->name, (uint32_t)key->type)) return;
    if (key->type == TEXT) add_u64(&writer->keys, key->bytes);
    if (key->type == ARRAY) {
        add_u32(&writer->keys, (uint32_t)key->element);
        add_u64(&writer->keys, (uint64_t)key->count);
    }
    text_add_bytes(&writer->keys, (const char *)key->at, key->bytes);
}

void gguf_put_keys(GgufWriter *writer, const Gguf *from) {
    for (int64_t i = 0; i < gguf_key_count(from); i++) put_key(writer, gguf_key(from, i));
}

static Output *put_tensor(GgufWriter *writer, const GgufTensor *tensor, int type) {
    const GgufFormat *from = gguf_format(tensor->type), *to = gguf_format(type);
    if (!to || (to != from && !to->encode) || tensor->shape[0] % to->length) {
        fatal("gguf_put_tensor: %s, with rows of %lld values, can not be stored as type %d (%s). "
              "Hint: keep its own type",
              tensor->name, (long long)tensor->shape[0], type, to ? to->name : "unknown");
    }
    Output *output = list_add(writer->arena, &writer->tensors);
    int64_t values = tensor->bytes / from->bytes * from->length;
    *output = (Output){.source = *tensor, .from = from, .to = to, .rows = 1, .columns = values};
    output->source.name = arena_text(writer->arena, tensor->name);
    output->bytes = values / to->length * to->bytes;
    return output;
}

void gguf_put_tensor(GgufWriter *writer, const GgufTensor *tensor, int type) {
    put_tensor(writer, tensor, type);
}

void gguf_put_tensor_paired(GgufWriter *writer, const GgufTensor *tensor, int type, int64_t heads) {
    int64_t columns = tensor->rank > 1 ? tensor->shape[0] : 1, rows = 1;
    for (int i = tensor->rank > 1; i < tensor->rank; i++) rows *= tensor->shape[i];
    if (heads < 1 || rows % heads || rows / heads % 2) {
        fatal("gguf_put_tensor_paired: %s has %lld rows, which are not %lld heads of pairs. "
              "Hint: look at the file's head counts",
              tensor->name, (long long)rows, (long long)heads);
    }
    Output *output = put_tensor(writer, tensor, type);
    output->columns = columns;
    output->rows = rows;
    output->heads = heads;
}

Text gguf_writer_header(GgufWriter *writer) {
    Text out = text_new(writer->arena);
    uint64_t offset = 0;
    text_add(&out, "GGUF");
    add_u32(&out, 3);
    add_u64(&out, (uint64_t)writer->tensors.count);
    add_u64(&out, (uint64_t)writer->names.count);
    text_add_bytes(&out, writer->keys.at, writer->keys.count);
    for (int i = 0; i < writer->tensors.count; i++) {
        const Output *output = &writer->tensors.at[i];
        const GgufTensor *source = &output->source;
        add_text(&out, source->name, strlen(source->name));
        add_u32(&out, (uint32_t)source->rank);
        for (int d = 0; d < source->rank; d++) add_u64(&out, (uint64_t)source->shape[d]);
        add_u32(&out, (uint32_t)output->to->type);
        add_u64(&out, offset);
        offset += (uint64_t)round_up(output->bytes, ALIGNMENT);
    }
    return out;
}

static void pad(OutputFile *file, int64_t written) {
    static const char zeros[ALIGNMENT];
    output_add(file, zeros, (size_t)(round_up(written, ALIGNMENT) - written));
}

// In a head, the two halves' rows by turns: 0, 1, 2 | 3, 4, 5  =>  0, 3, 1, 4, 2, 5.
static int64_t source_row(const Output *output, int64_t row) {
    if (!output->heads) return row;
    int64_t size = output->rows / output->heads, place = row % size;
    return row - place + place % 2 * (size / 2) + place / 2;
}

// Chunks of a row, a row after the other. `first` chunks of a tensor are written already.
typedef struct {
    const Output *output;
    int64_t first, count;
    uint8_t *blocks;  // of them
} Batch;

static int64_t chunks_of_row(const Output *output) { return (output->columns + CHUNK - 1) / CHUNK; }

// Where a chunk begins, in values.
static int64_t chunk_start(const Output *output, int64_t chunk) {
    int64_t each = chunks_of_row(output);
    if (chunk >= each * output->rows) return output->rows * output->columns;
    return chunk / each * output->columns + chunk % each * CHUNK;
}

static void convert_chunk(const Batch *batch, int64_t chunk) {
    const Output *output = batch->output;
    const GgufFormat *from = output->from, *to = output->to;
    float values[CHUNK];
    int64_t start = chunk_start(output, chunk), count = chunk_start(output, chunk + 1) - start;
    int64_t row = start / output->columns;
    int64_t source = start + (source_row(output, row) - row) * output->columns;
    const uint8_t *data = output->source.data + source / from->length * from->bytes;
    int64_t skipped = start - chunk_start(output, batch->first);
    uint8_t *blocks = batch->blocks + skipped / to->length * to->bytes;
    if (from == to) {
        memcpy(blocks, data, (size_t)(count / to->length * to->bytes));
        return;
    }
    gguf_decode(from, data, values, count);
    gguf_encode(to, values, blocks, count);
}

static void convert_share(void *context, int thread, int threads, Barrier *barrier) {
    const Batch *batch = context;
    int64_t first, last;
    (void)barrier;
    thread_share(batch->count, thread, threads, &first, &last);
    for (int64_t i = first; i < last; i++) convert_chunk(batch, batch->first + i);
}

// False: it is no use going on.
static bool report(GgufWriter *writer, const OutputFile *file, int64_t written) {
    writer->done += written;
    bool wanted = !writer->progress || writer->progress(writer->context, writer->done, writer->all);
    return wanted && !output_failed(file);
}

static bool write_tensor(GgufWriter *writer, OutputFile *file, const Output *output,
                         uint8_t *blocks) {
    const GgufFormat *to = output->to;
    int64_t chunks = chunks_of_row(output) * output->rows;
    for (int64_t first = 0; first < chunks; first += BATCH) {
        Batch batch = {output, first, min_i64(BATCH, chunks - first), blocks};
        thread_run(convert_share, &batch);
        int64_t start = chunk_start(output, first);
        int64_t values = chunk_start(output, first + batch.count) - start;
        int64_t bytes = values / to->length * to->bytes;
        output_add(file, blocks, (size_t)bytes);
        if (!report(writer, file, bytes)) return false;
    }
    pad(file, output->bytes);
    return true;
}

void gguf_writer_watch(GgufWriter *writer, GgufProgress *progress, void *context) {
    writer->progress = progress;
    writer->context = context;
}

int gguf_writer_save(GgufWriter *writer, const char *path) {
    OutputFile *file = output_open(path);
    if (!file) return -1;
    Text top = gguf_writer_header(writer);
    bool going = true;
    uint8_t *blocks = arena_array(writer->arena, uint8_t, BATCH * CHUNK * sizeof(float));
    writer->done = writer->all = 0;
    for (int i = 0; i < writer->tensors.count; i++) writer->all += writer->tensors.at[i].bytes;
    output_add(file, top.at, top.count);
    if (writer->tensors.count) pad(file, (int64_t)top.count);
    for (int i = 0; i < writer->tensors.count && going; i++)
        going = write_tensor(writer, file, &writer->tensors.at[i], blocks);
    if (going || output_failed(file)) return output_finish(file);
    output_give_up(file);
    return fail("%s was not written: it was stopped", path);
}
