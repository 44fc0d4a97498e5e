/* safetensors.c - named tensors in a file, in the safetensors format.
 * In: names and tensors; or a file that nobody has checked.  Out: the file; or tensors, or where
 * they lie.
 * Invariant: nothing is read before the whole header has been checked: strict JSON, known types, no
 * name twice, and the tensors' bytes lie end to end from the header's end to the file's.
 *   8 bytes: length | {"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}} | 8 bytes          */
#include "io/io.h"
#include "tensor/tensor.h"

#include <stdlib.h>
#include <string.h>

enum { HEADER_MAX = 100 << 20, LENGTH_BYTES = 8 };

_Static_assert((int)RANK_MAX == (int)SAFETENSORS_RANK_MAX, "a tensor has room for every shape");

// Types that picograd has none for are named and measured: a file may hold more than what is read.
static const struct {
    const char *name;
    int bytes;  // of a value
    int dtype;  // -1: none
} types[] = {
    {"F32", 4, DT_F32}, {"F16", 2, DT_F16}, {"BF16", 2, DT_BF16}, {"I8", 1, DT_I8},
    {"I32", 4, DT_I32}, {"I64", 8, DT_I64}, {"U8", 1, DT_U8},     {"U16", 2, DT_U16},
    {"U32", 4, DT_U32}, {"F64", 8, -1},     {"BOOL", 1, DT_BOOL}, {"I16", 2, -1},
    {"U64", 8, -1},     {"F8_E4M3", 1, -1}, {"F8_E5M2", 1, -1},
};

// As a header is read: type NULL, rank or end < 0 are not given yet; first and end count from where
// the header ends.
typedef struct {
    SafeTensor tensor;
    int64_t value_bytes;
} Entry;

typedef LIST(Entry) EntryList;

// ---- writing -----------------------------------------------------------------------------------

static void put_name(Text *text, const char *name) {
    text_add(text, "\"");
    for (const unsigned char *at = (const unsigned char *)name; *at; at++) {
        if (*at < ' ')
            text_add(text, "\\u%04x", *at);
        else if (*at == '"' || *at == '\\')
            text_add(text, "\\%c", *at);
        else
            text_add(text, "%c", *at);
    }
    text_add(text, "\"");
}

static const char *type_name(DType dtype) {
    int i = 0;
    while (types[i].dtype != (int)dtype) i++;
    return types[i].name;
}

static void put_entry(Text *text, const char *name, DType dtype, Shape shape, size_t first,
                      size_t end) {
    put_name(text, name);
    text_add(text, ":{\"dtype\":\"%s\",\"shape\":[", type_name(dtype));
    for (int i = 0; i < shape.rank; i++)
        text_add(text, "%s%lld", i ? "," : "", (long long)shape.size[i]);
    text_add(text, "],\"data_offsets\":[%zu,%zu]}", first, end);
}

int pg_save(const char *path, int count, const char *const *names, PgTensor **tensors) {
    must_not_trace("save", "save after pg_call");
    Scope *scope = scope_now();
    Arena *arena = arena_new();
    Text header = text_new(arena), body = text_new(arena);
    text_add(&header, "{");
    for (int i = 0; i < count; i++) {
        Id id = tensor_in(tensors[i]);
        DType dtype = node_dtype(scope->graph, id);
        size_t first = body.count;
        size_t bytes = (size_t)pg_count(tensors[i]) * (size_t)dtypes[dtype].bytes;
        text_add_bytes(&body, buffer_read(realise_whole(scope, id)), bytes);
        if (i) text_add(&header, ",");
        put_entry(&header, names[i], dtype, node_shape(scope->graph, id), first, body.count);
    }
    text_add(&header, "}");
    while (header.count % LENGTH_BYTES) text_add(&header, " ");
    Text file = text_new(arena);
    for (int i = 0; i < LENGTH_BYTES; i++)
        text_add_bytes(&file, &(char){(char)(header.count >> 8 * i)}, 1);
    text_add_bytes(&file, header.at, header.count);
    text_add_bytes(&file, body.at, body.count);
    int status = file_write(path, file.at, file.count);
    arena_free(arena);
    return status;
}

// ---- reading JSON: each returns false at the first byte that it does not understand ------------

typedef struct {
    Arena *arena;
    const char *at, *end;
} HeaderText;

static bool peek(HeaderText *json, char c) {
    while (json->at < json->end && memchr(" \t\r\n", *json->at, 4)) json->at++;
    return json->at < json->end && *json->at == c;
}

static bool take(HeaderText *json, char c) {
    bool there = peek(json, c);
    json->at += there;
    return there;
}

// Of \uXXXX only what is ASCII: names need no more.
static bool take_escape(HeaderText *json, char *out) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (json->at == json->end) return false;
    char c = *json->at++;
    const char *found = memchr(from, c, sizeof from - 1);
    if (found) *out = to[found - from];
    if (found || c != 'u' || json->end - json->at < 4) return found != NULL;
    int value = 0;
    for (int i = 0; i < 4; i++) {
        static const char digits[] = "0123456789abcdef";
        const char *digit = memchr(digits, *json->at++ | ' ', sizeof digits - 1);
        if (!digit) return false;
        value = value * 16 + (int)(digit - digits);
    }
    *out = (char)value;
    return value > 0 && value < 128;
}

static bool take_text(HeaderText *json, const char **out) {
    if (!take(json, '"')) return false;
    Text text = text_new(json->arena);
    while (json->at < json->end && *json->at != '"') {
        char c = *json->at++;
        if ((unsigned char)c < ' ' || (c == '\\' && !take_escape(json, &c))) return false;
        text_add_bytes(&text, &c, 1);
    }
    *out = text.at;
    return take(json, '"');
}

static bool take_count(HeaderText *json, int64_t *out) {
    peek(json, 0);
    const char *start = json->at;
    for (*out = 0; json->at < json->end && *json->at >= '0' && *json->at <= '9'; json->at++)
        if (__builtin_mul_overflow(*out, 10, out) ||
            __builtin_add_overflow(*out, *json->at - '0', out))
            return false;
    return json->at > start && (*start != '0' || json->at == start + 1);
}

static bool take_counts(HeaderText *json, int64_t *out, int most, int *count) {
    *count = 0;
    if (!take(json, '[')) return false;
    if (take(json, ']')) return true;
    do {
        if (*count == most || !take_count(json, &out[(*count)++])) return false;
    } while (take(json, ','));
    return take(json, ']');
}

static bool take_type(HeaderText *json, Entry *entry) {
    const char *text;
    if (entry->tensor.type || !take_text(json, &text)) return false;
    for (int i = 0; i < COUNT_OF(types); i++) {
        if (strcmp(types[i].name, text) != 0) continue;
        entry->tensor.type = types[i].name;
        entry->tensor.dtype = types[i].dtype;
        entry->value_bytes = types[i].bytes;
        return true;
    }
    return false;
}

static bool take_field(HeaderText *json, Entry *entry) {
    const char *key;
    if (!take_text(json, &key) || !take(json, ':')) return false;
    SafeTensor *tensor = &entry->tensor;
    if (!strcmp(key, "dtype")) return take_type(json, entry);
    if (!strcmp(key, "shape"))
        return tensor->rank < 0 && take_counts(json, tensor->shape, RANK_MAX, &tensor->rank);
    int64_t range[2];
    int count;
    if (strcmp(key, "data_offsets") != 0 || tensor->end >= 0 ||
        !take_counts(json, range, 2, &count) || count != 2)
        return false;
    tensor->first = range[0];
    tensor->end = range[1];
    return true;
}

static bool take_entry(HeaderText *json, Entry *entry) {
    if (!take(json, '{')) return false;
    do {
        if (!take_field(json, entry)) return false;
    } while (take(json, ','));
    const SafeTensor *tensor = &entry->tensor;
    return take(json, '}') && tensor->type && tensor->rank >= 0 && tensor->end >= 0;
}

static bool take_metadata(HeaderText *json) {
    const char *ignored;
    if (!take(json, '{')) return false;
    if (take(json, '}')) return true;
    do {
        if (!take_text(json, &ignored) || !take(json, ':') || !take_text(json, &ignored))
            return false;
    } while (take(json, ','));
    return take(json, '}');
}

static bool take_header(HeaderText *json, EntryList *entries) {
    if (!take(json, '{')) return false;
    if (!take(json, '}')) {
        do {
            Entry entry = {.tensor = {.rank = -1, .end = -1}};
            if (!take_text(json, &entry.tensor.name) || !take(json, ':')) return false;
            if (!strcmp(entry.tensor.name, "__metadata__")) {
                if (!take_metadata(json)) return false;
                continue;
            }
            if (!take_entry(json, &entry)) return false;
            *list_add(json->arena, entries) = entry;
        } while (take(json, ','));
        if (!take(json, '}')) return false;
    }
    peek(json, 0);
    return json->at == json->end;
}

// ---- reading -----------------------------------------------------------------------------------

static int by_place(const void *left, const void *right) {
    const SafeTensor *a = &((const Entry *)left)->tensor, *b = &((const Entry *)right)->tensor;
    if (a->first != b->first) return a->first < b->first ? -1 : 1;
    return (a->end > b->end) - (a->end < b->end);
}

static int by_name(const void *left, const void *right) {
    return strcmp(((const SafeTensor *)left)->name, ((const SafeTensor *)right)->name);
}

// Beside an axis of 0 the others must multiply without overflow, too, as in every tensor.
static bool has_size(const Entry *entry) {
    const SafeTensor *tensor = &entry->tensor;
    int64_t bytes = entry->value_bytes;
    bool empty = false;
    for (int i = 0; i < tensor->rank; i++) {
        int64_t size = tensor->shape[i];
        empty |= size == 0;
        if (size >= SIZE_SYMBOLIC || __builtin_mul_overflow(bytes, max_i64(size, 1), &bytes))
            return false;
    }
    return tensor->first <= tensor->end && (empty ? 0 : bytes) == tensor->end - tensor->first;
}

static int check_entries(const char *path, EntryList *entries, int64_t size) {
    int64_t end = 0;
    if (entries->count) qsort(entries->at, (size_t)entries->count, sizeof(Entry), by_place);
    for (int i = 0; i < entries->count; i++) {
        const SafeTensor *tensor = &entries->at[i].tensor;
        if (!has_size(&entries->at[i]))
            return fail("%s: the shape and type of tensor %s do not give its %lld bytes", path,
                        tensor->name, (long long)(tensor->end - tensor->first));
        if (tensor->first != end || tensor->end > size)
            return fail("%s: the bytes of tensor %s, %lld to %lld of %lld, do not follow those "
                        "before",
                        path, tensor->name, (long long)tensor->first, (long long)tensor->end,
                        (long long)size);
        end = tensor->end;
    }
    if (end == size) return 0;
    return fail("%s: %lld bytes at the end belong to no tensor", path, (long long)(size - end));
}

static int read_header(const char *path, Arena *arena, FileBytes file, EntryList *entries,
                       int64_t *body) {
    uint64_t length = 0;
    if (file.size < LENGTH_BYTES) return fail("%s: too short for a safetensors file", path);
    for (int i = 0; i < LENGTH_BYTES; i++) length |= (uint64_t)file.at[i] << 8 * i;
    if (length > HEADER_MAX || length > file.size - LENGTH_BYTES)
        return fail("%s: not a safetensors file, or cut short: a header of %llu bytes in a file of "
                    "%zu",
                    path, (unsigned long long)length, file.size);
    const char *start = (const char *)file.at + LENGTH_BYTES;
    HeaderText json = {arena, start, start + length};
    if (!take_header(&json, entries))
        return fail("%s: the safetensors header cannot be read at byte %lld", path,
                    (long long)(json.at - start));
    *body = (int64_t)(LENGTH_BYTES + length);
    return check_entries(path, entries, (int64_t)file.size - *body);
}

SafeTensor *safetensors_read(const char *path, Arena *arena, FileBytes file, int64_t *count) {
    EntryList entries = {0};
    int64_t body = 0;
    if (read_header(path, arena, file, &entries, &body)) return NULL;
    SafeTensor *tensors = arena_array(arena, SafeTensor, entries.count);
    for (int i = 0; i < entries.count; i++) {
        tensors[i] = entries.at[i].tensor;
        tensors[i].first += body;
        tensors[i].end += body;
    }
    *count = entries.count;
    qsort(tensors, (size_t)entries.count, sizeof *tensors, by_name);
    for (int i = 1; i < entries.count; i++) {
        if (by_name(&tensors[i - 1], &tensors[i])) continue;
        fail("%s: tensor %s is there twice", path, tensors[i].name);
        return NULL;
    }
    return tensors;
}

static int load(const char *path, Arena *arena, FileBytes file, int count, const char *const *names,
                PgTensor **out) {
    int64_t there;
    const SafeTensor *tensors = safetensors_read(path, arena, file, &there);
    if (!tensors) return -1;
    const SafeTensor **found = arena_array(arena, const SafeTensor *, count);
    for (int i = 0; i < count; i++) {
        SafeTensor key = {.name = names[i]};
        found[i] = bsearch(&key, tensors, (size_t)there, sizeof key, by_name);
        if (!found[i]) return fail("%s: there is no tensor %s in it", path, names[i]);
        if (found[i]->dtype < 0)
            return fail("%s: tensor %s is %s, which picograd has no type for", path, names[i],
                        found[i]->type);
    }
    for (int i = 0; i < count; i++)
        out[i] = pg_from_data((PgType)found[i]->dtype, found[i]->rank, found[i]->shape,
                              file.at + found[i]->first);
    return 0;
}

int pg_load(const char *path, int count, const char *const *names, PgTensor **out) {
    must_not_trace("load", "load before pg_call");
    FileBytes file;
    if (file_map(path, &file)) return -1;
    Arena *arena = arena_new();
    int status = load(path, arena, file, count, names, out);
    arena_free(arena);
    file_unmap(&file);
    return status;
}
