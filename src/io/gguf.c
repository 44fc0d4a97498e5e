/* gguf.c - reads a GGUF model file: named values, then named tensors.
 * In: a path to bytes that may be hostile.  Out: tables whose pointers go into the mapped file.
 * Invariant: gguf_open has walked the whole header and checked every count, size and offset
 * against the file, so that typed reads and tensor data need no further check. Tensors of other
 * files (gguf_parts.c, folder.c) are added to the same table by who has checked them.
 *   "GGUF" | u32 version | u64 tensors | u64 keys | key* | tensor* | padding to alignment | data
 *   key = text name, u32 type, value       text = u64 length, bytes
 *   array = u32 type, u64 count, values    tensor = text name, u32 rank, u64 shape[rank],
 *                                                   u32 format, u64 offset from where data starts
 * Source: the GGUF specification of the ggml project; versions 2 and 3 read the same here.      */
#include "io/io.h"
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { VECTOR_BYTES = 64 };  // that a kernel may read at once
enum { NAME_MAX_BYTES = 255, ENTRIES_MAX = 1 << 20, SHOWN_BYTES = 60, SHOWN_ELEMENTS = 6 };

typedef enum {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    BOOL,
    TEXT,
    ARRAY,
    U64,
    I64,
    F64,
    VALUE_TYPES
} ValueType;

static const struct {
    const char *name;
    size_t bytes;  // 0: of varying size
} value_types[VALUE_TYPES] = {
    [U8] = {"u8", 1},     [I8] = {"i8", 1},       [U16] = {"u16", 2}, [I16] = {"i16", 2},
    [U32] = {"u32", 4},   [I32] = {"i32", 4},     [F32] = {"f32", 4}, [BOOL] = {"bool", 1},
    [TEXT] = {"text", 0}, [ARRAY] = {"array", 0}, [U64] = {"u64", 8}, [I64] = {"i64", 8},
    [F64] = {"f64", 8},
};

struct Gguf {
    Arena *arena;
    const char *path;
    FileBytes file;          // that of the keys
    LIST(FileBytes) others;  // in which further tensors lie
    GgufWriter *writer;      // which holds the keys of a folder; else NULL
    size_t alignment;
    int64_t key_count;
    GgufKey *keys;
    LIST(GgufTensor) tensors;
    Map *key_by_name, *tensor_by_name;
};

// A position in the header, which only the take_ functions move.
typedef struct {
    Gguf *gguf;
    size_t at;
} Cursor;

static size_t bytes_left(const Cursor *cursor) { return cursor->gguf->file.size - cursor->at; }

static const uint8_t *take_bytes(Cursor *cursor, size_t count, const char *what) {
    if (count > bytes_left(cursor)) {
        fail("%s: the file ends at byte %zu, inside %s that begins at byte %zu; "
             "it is cut short or damaged",
             cursor->gguf->path, cursor->gguf->file.size, what, cursor->at);
        return NULL;
    }
    cursor->at += count;
    return cursor->gguf->file.at + cursor->at - count;
}

static int take_number(Cursor *cursor, void *number, size_t size, const char *what) {
    const uint8_t *bytes = take_bytes(cursor, size, what);
    if (!bytes) return -1;
    memcpy(number, bytes, size);
    return 0;
}

static int take_text(Cursor *cursor, TextSpan *text, const char *what) {
    uint64_t length;
    if (take_number(cursor, &length, sizeof length, what)) return -1;
    *text = (TextSpan){(const char *)take_bytes(cursor, length, what), length};
    return text->at ? 0 : -1;
}

// Names are printed in messages and compared as C text: they are short, without control bytes.
static int take_name(Cursor *cursor, const char **name, const char *what) {
    size_t start = cursor->at;
    TextSpan text;
    if (take_text(cursor, &text, what)) return -1;
    bool plain = text.length > 0 && text.length <= NAME_MAX_BYTES;
    for (size_t i = 0; plain && i < text.length; i++) {
        plain = (unsigned char)text.at[i] >= ' ' && text.at[i] != 0x7f;
    }
    if (!plain) {
        return fail("%s: %s at byte %zu must have 1 to %d bytes, none of them a control character",
                    cursor->gguf->path, what, start, NAME_MAX_BYTES);
    }
    *name = arena_print(cursor->gguf->arena, "%.*s", (int)text.length, text.at);
    return 0;
}

static int take_array(Cursor *cursor, GgufKey *key) {
    const char *path = cursor->gguf->path;
    uint32_t element;
    uint64_t count;
    if (take_number(cursor, &element, sizeof element, "an array's type")) return -1;
    if (take_number(cursor, &count, sizeof count, "an array's count")) return -1;
    if (element == ARRAY || element >= VALUE_TYPES) {
        return fail("%s: key %s is an array of %s", path, key->name,
                    element == ARRAY ? "arrays, which are not read" : "an unknown type");
    }
    size_t smallest = element == TEXT ? sizeof(uint64_t) : value_types[element].bytes;
    if (count > bytes_left(cursor) / smallest) {
        return fail("%s: key %s claims %llu elements of %s at byte %zu, more than the file holds",
                    path, key->name, (unsigned long long)count, value_types[element].name,
                    cursor->at);
    }
    key->element = (int)element;
    key->count = (int64_t)count;
    key->at = cursor->gguf->file.at + cursor->at;
    if (element != TEXT) return take_bytes(cursor, count * smallest, "an array") ? 0 : -1;
    for (uint64_t i = 0; i < count; i++) {
        TextSpan text;
        if (take_text(cursor, &text, "an array of text")) return -1;
    }
    return 0;
}

static int take_value(Cursor *cursor, GgufKey *key) {
    TextSpan text = {0};
    if (key->type == ARRAY) return take_array(cursor, key);
    if (key->type == TEXT) {
        if (take_text(cursor, &text, "a text value")) return -1;
        key->at = (const uint8_t *)text.at;
        return 0;
    }
    key->at = take_bytes(cursor, value_types[key->type].bytes, "a value");
    return key->at ? 0 : -1;
}

typedef struct {
    const Gguf *gguf;
    const char *name;
} NameQuery;

static bool same_key(const void *context, int32_t i) {
    const NameQuery *query = context;
    return strcmp(query->gguf->keys[i].name, query->name) == 0;
}

static bool same_tensor(const void *context, int32_t i) {
    const NameQuery *query = context;
    return strcmp(query->gguf->tensors.at[i].name, query->name) == 0;
}

static int32_t find(const Gguf *gguf, const Map *map, MapSame *same, const char *name) {
    return map_find(map, hash_bytes(name, strlen(name), secret()), same, &(NameQuery){gguf, name});
}

static int take_key(Cursor *cursor, int64_t i) {
    Gguf *gguf = cursor->gguf;
    GgufKey *key = &gguf->keys[i];
    uint32_t type;
    if (take_name(cursor, &key->name, "a key's name")) return -1;
    if (gguf_find_key(gguf, key->name))
        return fail("%s: key %s appears twice", gguf->path, key->name);
    if (take_number(cursor, &type, sizeof type, "a key's type")) return -1;
    if (type >= VALUE_TYPES)
        return fail("%s: key %s has unknown type %u", gguf->path, key->name, type);
    *key = (GgufKey){.name = key->name, .type = (int)type, .element = -1, .count = 1};
    if (take_value(cursor, key)) return -1;
    key->bytes = (size_t)(gguf->file.at + cursor->at - key->at);
    if (type == BOOL && *key->at > 1) {
        return fail("%s: key %s is %d, neither true nor false", gguf->path, key->name, *key->at);
    }
    map_add(gguf->arena, gguf->key_by_name, hash_bytes(key->name, strlen(key->name), secret()),
            (int32_t)i);
    return 0;
}

static int take_shape(Cursor *cursor, GgufTensor *tensor, int64_t *elements) {
    const char *path = cursor->gguf->path;
    uint32_t rank;
    if (take_number(cursor, &rank, sizeof rank, "a tensor's rank")) return -1;
    if (rank < 1 || rank > 4) {
        return fail("%s: tensor %s has %u dimensions; 1 to 4 are possible", path, tensor->name,
                    rank);
    }
    tensor->rank = (int)rank;
    *elements = 1;
    for (int d = 0; d < 4; d++) tensor->shape[d] = 1;
    for (int d = 0; d < tensor->rank; d++) {
        uint64_t size;
        if (take_number(cursor, &size, sizeof size, "a tensor's shape")) return -1;
        if (size < 1 || size > INT64_MAX ||
            __builtin_mul_overflow(*elements, (int64_t)size, elements)) {
            return fail("%s: dimension %d of tensor %s is %llu, which is zero or too large", path,
                        d, tensor->name, (unsigned long long)size);
        }
        tensor->shape[d] = (int64_t)size;
    }
    return 0;
}

static int take_format(Cursor *cursor, GgufTensor *tensor, int64_t elements) {
    const char *path = cursor->gguf->path;
    uint32_t type;
    if (take_number(cursor, &type, sizeof type, "a tensor's type")) return -1;
    const GgufFormat *format = gguf_format(type);
    if (!format) return fail("%s: tensor %s has unknown type %u", path, tensor->name, type);
    if (!format->length) {
        return fail("%s: tensor %s has type %s, which is not supported; F32, F16, BF16, Q4_0 to "
                    "Q8_0, Q2_K to Q6_K, IQ4_NL and IQ4_XS are",
                    path, tensor->name, format->name);
    }
    if (tensor->shape[0] % format->length) {
        return fail("%s: tensor %s has rows of %lld values, but %s stores them in blocks of %d",
                    path, tensor->name, (long long)tensor->shape[0], format->name, format->length);
    }
    if (__builtin_mul_overflow(elements / format->length, format->bytes, &tensor->bytes)) {
        return fail("%s: tensor %s has %lld values, more than a file can hold", path, tensor->name,
                    (long long)elements);
    }
    tensor->type = (int)type;
    return 0;
}

int gguf_add_tensor(Gguf *gguf, const GgufTensor *tensor) {
    if (gguf_find_tensor(gguf, tensor->name))
        return fail("%s: tensor %s appears twice", gguf->path, tensor->name);
    if (gguf->tensors.count == ENTRIES_MAX)
        return fail("%s: a model of more than %d tensors", gguf->path, ENTRIES_MAX);
    GgufTensor *added = list_add(gguf->arena, &gguf->tensors);
    *added = *tensor;
    added->name = arena_text(gguf->arena, tensor->name);
    map_add(gguf->arena, gguf->tensor_by_name,
            hash_bytes(added->name, strlen(added->name), secret()), gguf->tensors.count - 1);
    return 0;
}

// The offset is for later: where data starts is known only after the last tensor.
static int take_tensor(Cursor *cursor, uint64_t *offset) {
    Gguf *gguf = cursor->gguf;
    GgufTensor tensor = {0};
    int64_t elements = 0;
    if (take_name(cursor, &tensor.name, "a tensor's name")) return -1;
    if (take_shape(cursor, &tensor, &elements)) return -1;
    if (take_format(cursor, &tensor, elements)) return -1;
    if (take_number(cursor, offset, sizeof *offset, "a tensor's offset")) return -1;
    if (*offset % gguf->alignment) {
        return fail("%s: tensor %s begins at offset %llu, not a multiple of the alignment %zu",
                    gguf->path, tensor.name, (unsigned long long)*offset, gguf->alignment);
    }
    return gguf_add_tensor(gguf, &tensor);
}

static int place_tensor(Gguf *gguf, size_t data_start, GgufTensor *tensor, uint64_t offset) {
    size_t room = data_start < gguf->file.size ? gguf->file.size - data_start : 0;
    if (offset > room || (uint64_t)tensor->bytes > room - offset) {
        return fail("%s: tensor %s has %lld bytes at offset %llu, beyond the end of the file; "
                    "it is cut short or damaged",
                    gguf->path, tensor->name, (long long)tensor->bytes, (unsigned long long)offset);
    }
    tensor->data = gguf->file.at + data_start + offset;
    tensor->beyond = room - offset - (size_t)tensor->bytes;
    return 0;
}

static int take_alignment(Gguf *gguf) {
    int64_t alignment = 32;
    if (gguf_find_key(gguf, "general.alignment") && gguf_int(gguf, "general.alignment", &alignment))
        return -1;
    if (alignment < 1 || alignment > 1 << 30 || (alignment & (alignment - 1))) {
        return fail("%s: general.alignment is %lld, not a power of two up to 2^30", gguf->path,
                    (long long)alignment);
    }
    gguf->alignment = (size_t)alignment;
    return 0;
}

static int take_count(Cursor *cursor, int64_t *count, size_t smallest, const char *what) {
    uint64_t value;
    if (take_number(cursor, &value, sizeof value, "the file's header")) return -1;
    if (value > bytes_left(cursor) / smallest || value > ENTRIES_MAX) {
        return fail("%s: the header claims %llu %s, more than the file holds", cursor->gguf->path,
                    (unsigned long long)value, what);
    }
    *count = (int64_t)value;
    return 0;
}

static int take_magic(Cursor *cursor) {
    const char *path = cursor->gguf->path;
    uint32_t version;
    if (bytes_left(cursor) < 4)
        return fail("%s: not a GGUF file, only %zu bytes", path, bytes_left(cursor));
    const uint8_t *magic = take_bytes(cursor, 4, "the file's header");
    if (memcmp(magic, "GGUF", 4) != 0) {
        return fail("%s: not a GGUF file: it begins with bytes %02x %02x %02x %02x, not with GGUF",
                    path, magic[0], magic[1], magic[2], magic[3]);
    }
    if (take_number(cursor, &version, sizeof version, "the file's header")) return -1;
    if (version != 2 && version != 3) {
        return fail("%s: GGUF version %u%s; only 2 and 3 are read", path, version,
                    version << 16 == 0 ? " (or a big-endian file)" : "");
    }
    return 0;
}

static int read_header(Gguf *gguf) {
    Cursor cursor = {gguf, 0};
    int64_t tensor_count;
    if (take_magic(&cursor)) return -1;
    // The smallest tensor has a name of one byte and rank 1, the smallest key one byte of value.
    if (take_count(&cursor, &tensor_count, 9 + 4 + 8 + 4 + 8, "tensors")) return -1;
    if (take_count(&cursor, &gguf->key_count, 9 + 4 + 1, "keys")) return -1;
    gguf->keys = arena_array(gguf->arena, GgufKey, gguf->key_count);
    uint64_t *offsets = arena_array(gguf->arena, uint64_t, tensor_count);
    for (int64_t i = 0; i < gguf->key_count; i++) {
        if (take_key(&cursor, i)) return -1;
    }
    if (take_alignment(gguf)) return -1;
    for (int64_t i = 0; i < tensor_count; i++) {
        if (take_tensor(&cursor, &offsets[i])) return -1;
    }
    size_t data_start = (size_t)round_up((int64_t)cursor.at, (int64_t)gguf->alignment);
    for (int64_t i = 0; i < tensor_count; i++) {
        if (place_tensor(gguf, data_start, &gguf->tensors.at[i], offsets[i])) return -1;
    }
    return 0;
}

Gguf *gguf_open(const char *path) {
    FileBytes file;
    struct stat facts;
    if (!stat(path, &facts) && S_ISDIR(facts.st_mode)) return folder_open(path);
    Gguf *gguf = file_map(path, &file) ? NULL : gguf_read(path, file);
    return gguf && gguf_find_key(gguf, "split.count") ? gguf_open_parts(gguf) : gguf;
}

static Gguf *read_file(const char *path, FileBytes file, GgufWriter *writer) {
    Arena *arena = arena_new();
    Gguf *gguf = arena_object(arena, Gguf);
    *gguf = (Gguf){.arena = arena, .path = arena_text(arena, path), .file = file, .writer = writer};
    gguf->key_by_name = map_new(arena);
    gguf->tensor_by_name = map_new(arena);
    if (read_header(gguf) == 0) return gguf;
    gguf_close(gguf);
    return NULL;
}

Gguf *gguf_read(const char *path, FileBytes file) { return read_file(path, file, NULL); }

Gguf *gguf_of_folder(const char *path, GgufWriter *writer) {
    Text header = gguf_writer_header(writer);
    FileBytes file = {.at = (const uint8_t *)header.at, .size = header.count};
    return read_file(path, file, writer);
}

void gguf_close(Gguf *gguf) {
    if (!gguf) return;
    file_unmap(&gguf->file);
    for (int i = 0; i < gguf->others.count; i++) file_unmap(&gguf->others.at[i]);
    gguf_writer_free(gguf->writer);
    arena_free(gguf->arena);
}

void gguf_add_file(Gguf *gguf, FileBytes file) { *list_add(gguf->arena, &gguf->others) = file; }

int gguf_add_values(Gguf *gguf, const char *name, const float *values, int64_t count) {
    size_t bytes = (size_t)count * sizeof *values;
    uint8_t *data = arena_alloc(gguf->arena, bytes + VECTOR_BYTES);
    memcpy(data, values, bytes);
    return gguf_add_tensor(gguf, &(GgufTensor){.name = name,
                                               .type = GGUF_F32,
                                               .rank = 1,
                                               .shape = {count, 1, 1, 1},
                                               .data = data,
                                               .bytes = (int64_t)bytes,
                                               .beyond = VECTOR_BYTES});
}

int gguf_join(Gguf *gguf, Gguf *from) {
    int status = 0;
    for (int i = 0; i < from->tensors.count && !status; i++) {
        status = gguf_add_tensor(gguf, &from->tensors.at[i]);
    }
    gguf_add_file(gguf, from->file);
    from->file = (FileBytes){0};
    gguf_close(from);
    return status;
}

const char *gguf_path(const Gguf *gguf) { return gguf->path; }

FileBytes gguf_file(const Gguf *gguf) { return gguf->file; }

bool gguf_is_folder(const Gguf *gguf) { return gguf->writer != NULL; }

int64_t gguf_bytes(const Gguf *gguf) {
    size_t bytes = gguf->file.size;
    for (int i = 0; i < gguf->others.count; i++) bytes += gguf->others.at[i].size;
    return (int64_t)bytes;
}

int64_t gguf_tensor_count(const Gguf *gguf) { return gguf->tensors.count; }

const GgufTensor *gguf_tensor(const Gguf *gguf, int64_t i) { return &gguf->tensors.at[i]; }

const GgufTensor *gguf_find_tensor(const Gguf *gguf, const char *name) {
    int32_t i = find(gguf, gguf->tensor_by_name, same_tensor, name);
    return i < 0 ? NULL : &gguf->tensors.at[i];
}

int64_t gguf_key_count(const Gguf *gguf) { return gguf->key_count; }

const GgufKey *gguf_key(const Gguf *gguf, int64_t i) { return &gguf->keys[i]; }

const GgufKey *gguf_find_key(const Gguf *gguf, const char *name) {
    int32_t i = find(gguf, gguf->key_by_name, same_key, name);
    return i < 0 ? NULL : &gguf->keys[i];
}

// The i-th element as an integer; false if it is of another kind or does not fit.
static bool integer_at(const uint8_t *at, int type, int64_t i, int64_t *value) {
    uint64_t bits = 0;
    if (type == F32 || type == F64 || type == BOOL || type == TEXT || type == ARRAY) return false;
    size_t bytes = value_types[type].bytes;
    memcpy(&bits, at + (size_t)i * bytes, bytes);
    int unused = 64 - 8 * (int)bytes;
    bool has_sign = type == I8 || type == I16 || type == I32 || type == I64;
    *value = has_sign ? (int64_t)(bits << unused) >> unused : (int64_t)bits;
    return type != U64 || bits <= INT64_MAX;
}

static bool number_at(const uint8_t *at, int type, int64_t i, double *value) {
    int64_t integer;
    float single;
    if (type == F64) {
        memcpy(value, at + 8 * i, sizeof *value);
        return true;
    }
    if (type == F32) {
        memcpy(&single, at + 4 * i, sizeof single);
        *value = single;
        return true;
    }
    if (!integer_at(at, type, i, &integer)) return false;
    *value = (double)integer;
    return true;
}

static TextSpan text_at(const uint8_t **at) {
    uint64_t length;
    memcpy(&length, *at, sizeof length);
    TextSpan text = {(const char *)*at + sizeof length, length};
    *at += sizeof length + length;
    return text;
}

static const GgufKey *wanted(const Gguf *gguf, const char *name) {
    const GgufKey *key = gguf_find_key(gguf, name);
    if (!key) fail("%s: key %s is missing", gguf->path, name);
    return key;
}

static int refuse(const Gguf *gguf, const GgufKey *key, const char *wish) {
    bool array = key->type == ARRAY;
    return fail("%s: key %s is %s%s, not %s", gguf->path, key->name, array ? "an array of " : "",
                value_types[array ? key->element : key->type].name, wish);
}

int gguf_text(const Gguf *gguf, const char *name, TextSpan *value) {
    const GgufKey *key = wanted(gguf, name);
    if (!key) return -1;
    if (key->type != TEXT) return refuse(gguf, key, "text");
    *value = (TextSpan){(const char *)key->at, key->bytes};
    return 0;
}

int gguf_int(const Gguf *gguf, const char *name, int64_t *value) {
    const GgufKey *key = wanted(gguf, name);
    if (!key) return -1;
    return integer_at(key->at, key->type, 0, value)
               ? 0
               : refuse(gguf, key, "an integer of at most 63 bits");
}

int gguf_number(const Gguf *gguf, const char *name, double *value) {
    const GgufKey *key = wanted(gguf, name);
    if (!key) return -1;
    return number_at(key->at, key->type, 0, value) ? 0 : refuse(gguf, key, "a number");
}

int gguf_bool(const Gguf *gguf, const char *name, bool *value) {
    const GgufKey *key = wanted(gguf, name);
    if (!key) return -1;
    if (key->type != BOOL) return refuse(gguf, key, "true or false");
    *value = *key->at;
    return 0;
}

TextSpan *gguf_array_text(const Gguf *gguf, const char *name, Arena *arena, int64_t *count) {
    const GgufKey *key = wanted(gguf, name);
    if (!key) return NULL;
    if (key->element != TEXT) return refuse(gguf, key, "an array of text"), NULL;
    TextSpan *texts = arena_array(arena, TextSpan, key->count);
    const uint8_t *at = key->at;
    for (int64_t i = 0; i < key->count; i++) texts[i] = text_at(&at);
    *count = key->count;
    return texts;
}

float *gguf_array_f32(const Gguf *gguf, const char *name, Arena *arena, int64_t *count) {
    const GgufKey *key = wanted(gguf, name);
    if (!key) return NULL;
    if (key->element != F32) return refuse(gguf, key, "an array of f32"), NULL;
    *count = key->count;
    return arena_copy(arena, key->at, key->bytes);
}

int32_t *gguf_array_i32(const Gguf *gguf, const char *name, Arena *arena, int64_t *count) {
    const GgufKey *key = wanted(gguf, name);
    if (!key) return NULL;
    if (key->element != I32) return refuse(gguf, key, "an array of i32"), NULL;
    *count = key->count;
    return arena_copy(arena, key->at, key->bytes);
}

static void print_text(TextSpan text, Text *out) {
    text_add(out, "\"");
    for (size_t i = 0; i < text.length && i < SHOWN_BYTES; i++) {
        unsigned char byte = (unsigned char)text.at[i];
        bool plain = byte >= ' ' && byte < 0x7f && byte != '\\' && byte != '"';
        text_add(out, plain ? "%c" : "\\x%02x", byte);
    }
    text_add(out, text.length > SHOWN_BYTES ? "...\"" : "\"");
}

static void print_scalar(const uint8_t *at, int type, int64_t i, Text *out) {
    int64_t integer;
    double number;
    uint64_t large;
    if (integer_at(at, type, i, &integer)) {
        text_add(out, "%lld", (long long)integer);
    } else if (number_at(at, type, i, &number)) {
        text_add(out, "%g", number);
    } else if (type == BOOL) {
        text_add(out, at[i] ? "true" : "false");
    } else {  // a u64 beyond i64
        memcpy(&large, at + 8 * i, sizeof large);
        text_add(out, "%llu", (unsigned long long)large);
    }
}

void gguf_print_value(const GgufKey *key, Text *out) {
    const uint8_t *at = key->at;
    if (key->type == TEXT) {
        print_text((TextSpan){(const char *)at, key->bytes}, out);
        return;
    }
    if (key->type != ARRAY) {
        print_scalar(at, key->type, 0, out);
        return;
    }
    text_add(out, "%lld %s [", (long long)key->count, value_types[key->element].name);
    for (int64_t i = 0; i < key->count && i < SHOWN_ELEMENTS; i++) {
        if (i) text_add(out, ", ");
        if (key->element == TEXT) {
            print_text(text_at(&at), out);
        } else {
            print_scalar(at, key->element, i, out);
        }
    }
    text_add(out, key->count > SHOWN_ELEMENTS ? ", ...]" : "]");
}

const char *gguf_type_name(int type) { return value_types[type].name; }

// A number with as few digits as read back as the same.
void gguf_print_element(const GgufKey *key, int64_t i, Text *out) {
    int type = key->type == ARRAY ? key->element : key->type;
    double number, again;
    char digits[40];
    if ((type != F32 && type != F64) || !number_at(key->at, type, i, &number)) {
        print_scalar(key->at, type, i, out);
        return;
    }
    for (int count = 6; count <= 17; count++) {
        snprintf(digits, sizeof digits, "%.*g", count, number);
        again = strtod(digits, NULL);
        if (type == F32 ? (float)again == (float)number : again == number) break;
    }
    text_add(out, "%s", digits);
}
