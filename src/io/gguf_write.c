/* gguf_write.c - writes a GGUF file, converting tensors on the way.
 * In: named values, and tensors in any known format.  Out: a GGUF version 3 file.
 * Invariant: the file appears under its name whole or not at all; no tensor is converted in memory,
 * only CHUNK values of it at a time.
 *   Q4_1 file -> F32 file:  gguf_put_keys(w, in);  for each tensor gguf_put_tensor(w, t, GGUF_F32);
 *                           gguf_writer_save(w, "out.gguf")                                      */
#include "io/io.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    ALIGNMENT = 32,  // the default, so that no key need say it
    CHUNK = 4096,    // values; a multiple of every format's block length
    U8 = 0,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    BOOL = 7,
    TEXT = 8,
    ARRAY = 9,
    I64 = 11,  // types of values in a file
};

typedef struct {
    GgufTensor source;
    const GgufFormat *format;
    int64_t bytes;  // as written
} Output;

struct GgufWriter {
    Arena *arena;
    Text keys;  // as they will lie in the file
    LIST(const char *) names;
    Map *name;
    LIST(Output) tensors;
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
    uint64_t hash = hash_bytes(name, strlen(name), 0);
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

void gguf_put_array_u8(GgufWriter *writer, const char *name, const uint8_t *values, int64_t count) {
    if (!begin_array(writer, name, U8, count)) return;
    text_add_bytes(&writer->keys, (const char *)values, (size_t)count);
}

static void put_key(GgufWriter *writer, const GgufKey *key) {
    if (strcmp(key->name, "general.alignment") == 0) return;  // of that file, not of this one
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

void gguf_put_tensor(GgufWriter *writer, const GgufTensor *tensor, int type) {
    const GgufFormat *format = gguf_format(type);
    bool kept = tensor->type == type;
    if (!format || (!kept && !format->encode) || tensor->shape[0] % format->length) {
        fatal("gguf_put_tensor: %s, with rows of %lld values, can not be stored as type %d (%s). "
              "Hint: keep its own type",
              tensor->name, (long long)tensor->shape[0], type, format ? format->name : "unknown");
    }
    const GgufFormat *from = gguf_format(tensor->type);
    Output *output = list_add(writer->arena, &writer->tensors);
    *output = (Output){.source = *tensor, .format = format};
    output->source.name = arena_text(writer->arena, tensor->name);
    output->bytes = tensor->bytes / from->bytes * from->length / format->length * format->bytes;
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
        add_u32(&out, (uint32_t)output->format->type);
        add_u64(&out, offset);
        offset += (uint64_t)round_up(output->bytes, ALIGNMENT);
    }
    return out;
}

// Write errors stay in the stream and are looked at once, by finish.
static void pad(FILE *file, int64_t written) {
    static const char zeros[ALIGNMENT];
    fwrite(zeros, 1, (size_t)(round_up(written, ALIGNMENT) - written), file);
}

static void write_tensor(FILE *file, const Output *output) {
    const GgufFormat *from = gguf_format(output->source.type), *to = output->format;
    if (from == to) {
        fwrite(output->source.data, 1, (size_t)output->bytes, file);
        return;
    }
    float values[CHUNK];
    uint8_t blocks[CHUNK * sizeof(float)];
    int64_t count = output->bytes / to->bytes * to->length;
    for (int64_t i = 0; i < count && !ferror(file); i += CHUNK) {
        int64_t part = min_i64(CHUNK, count - i);
        gguf_decode(from, output->source.data + i / from->length * from->bytes, values, part);
        gguf_encode(to, values, blocks, part);
        fwrite(blocks, 1, (size_t)(part / to->length * to->bytes), file);
    }
}

static int finish(FILE *file) {
    int error = fflush(file) || fsync(fileno(file)) || ferror(file) ? errno : 0;
    if (fclose(file) && !error) error = errno;
    return error;
}

int gguf_writer_save(GgufWriter *writer, const char *path) {
    struct stat facts;
    if (!stat(path, &facts) && !S_ISREG(facts.st_mode)) {
        return fail("cannot write %s: it is not a regular file", path);
    }
    const char *temporary = arena_print(writer->arena, "%s.%d.tmp", path, (int)getpid());
    FILE *file = fopen(temporary, "wbx");
    if (!file) return fail("cannot write %s: %s", temporary, strerror(errno));
    Text top = gguf_writer_header(writer);
    fwrite(top.at, 1, top.count, file);
    if (writer->tensors.count) pad(file, (int64_t)top.count);
    for (int i = 0; i < writer->tensors.count; i++) {
        write_tensor(file, &writer->tensors.at[i]);
        pad(file, writer->tensors.at[i].bytes);
    }
    int error = finish(file);
    if (!error && rename(temporary, path)) error = errno;
    if (!error) return 0;
    unlink(temporary);
    return fail("cannot write %s: %s", path, strerror(error));
}
