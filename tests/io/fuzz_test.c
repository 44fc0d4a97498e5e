/* fuzz_test.c - files with numbers that nobody would write: every field of a GGUF file that says
 * how many, how large, where or of which type, and every number of a safetensors header, set to
 * extremes. Each is read whole or refused in one line.  PG_SEED=n repeats one run.              */
#include "helpers.h"
#include "picograd.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

static const uint64_t extremes[] = {
    0,          1,
    2,          31,
    33,         255,
    256,        65536,
    INT32_MAX,  1u << 31,
    UINT32_MAX, 1ull << 32,
    1ull << 61, (1ull << 62) - 1,
    1ull << 62, INT64_MAX,
    1ull << 63, UINT64_MAX - 31,
    UINT64_MAX,
};

static uint64_t state;

static uint64_t below(uint64_t count) {  // S. Vigna's splitmix64
    state += 0x9e3779b97f4a7c15;
    uint64_t z = (state ^ state >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (z ^ z >> 31) % count;
}

static void start(void) { state = (uint64_t)env_int("SEED", 1); }

static void check_refusal(const char *name) {
    CHECK(strstr(error_text(), name));
    for (const char *at = error_text(); *at; at++) CHECK((unsigned char)*at >= ' ' && *at != 0x7f);
}

// ---- GGUF --------------------------------------------------------------------------------------

typedef struct {
    size_t at, bytes;
} Field;
typedef LIST(Field) FieldList;

typedef struct {
    Arena *arena;
    const char *bytes;
    size_t at;
    FieldList fields;
} Walk;

static uint64_t field(Walk *walk, size_t bytes) {
    uint64_t value = 0;
    memcpy(&value, walk->bytes + walk->at, bytes);
    *list_add(walk->arena, &walk->fields) = (Field){walk->at, bytes};
    walk->at += bytes;
    return value;
}

static void text_field(Walk *walk) { walk->at += field(walk, 8); }

static void value_fields(Walk *walk, uint64_t type) {
    static const size_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    enum { TEXT = 8, ARRAY = 9 };
    if (type == TEXT) text_field(walk);
    if (type != TEXT && type != ARRAY) field(walk, bytes[type]);
    if (type != ARRAY) return;
    uint64_t element = field(walk, 4), count = field(walk, 8);
    for (uint64_t i = 0; i < count; i++) value_fields(walk, element);
}

static FieldList gguf_fields(Arena *arena, const char *bytes) {
    Walk walk = {.arena = arena, .bytes = bytes, .at = 4};
    field(&walk, 4);
    uint64_t tensors = field(&walk, 8), keys = field(&walk, 8);
    for (uint64_t i = 0; i < keys; i++) {
        text_field(&walk);
        value_fields(&walk, field(&walk, 4));
    }
    for (uint64_t i = 0; i < tensors; i++) {
        text_field(&walk);
        for (uint64_t rank = field(&walk, 4); rank > 0; rank--) field(&walk, 8);
        field(&walk, 4);
        field(&walk, 8);
    }
    return walk.fields;
}

static char *whole_gguf(Arena *arena, size_t *size) {
    GgufWriter *writer = small_vocabulary_writer(arena, "smollm");
    gguf_put_int(writer, "general.alignment", 32);
    gguf_put_int(writer, "tokenizer.ggml.bos_token_id", 1);
    gguf_put_int(writer, "tokenizer.ggml.eos_token_id", 2);
    gguf_put_bool(writer, "tokenizer.ggml.add_bos_token", true);
    gguf_put_f32(writer, "some.number", 0.5f);
    float *values = arena_array(arena, float, 192);
    GgufTensor tensor = {"plain", GGUF_F32, 2, {64, 3, 1, 1}, (uint8_t *)values, 192 * 4, 0};
    gguf_put_tensor(writer, &tensor, GGUF_F32);
    tensor.name = "blocks";
    gguf_put_tensor(writer, &tensor, GGUF_Q4_1);
    const char *path = temporary_path(arena, "whole.gguf");
    CHECK_INT(gguf_writer_save(writer, path), 0);
    gguf_writer_free(writer);
    return file_read(arena, path, size);
}

static void decode_all(const Gguf *gguf, Arena *arena) {
    for (int64_t i = 0; i < gguf_tensor_count(gguf); i++) {
        const GgufTensor *tensor = gguf_tensor(gguf, i);
        const GgufFormat *format = gguf_format(tensor->type);
        int64_t count = tensor->bytes / format->bytes * format->length;
        gguf_decode(format, tensor->data, arena_array(arena, float, count), count);
    }
}

static void tokenize(const Gguf *gguf, Arena *arena) {
    static const char text[] = "Hello 12 worlds<|im_end|>\xff";
    Tokenizer *tokenizer = tokenizer_open(gguf);
    if (!tokenizer) {
        check_refusal("fuzz.gguf");
        return;
    }
    IdList ids = {0};
    Text out = text_new(arena);
    CHECK_INT(tokenizer_encode(tokenizer, arena, text, sizeof text - 1,
                               TOKENIZE_BOS | TOKENIZE_SPECIAL, &ids),
              0);
    tokenizer_decode(tokenizer, ids.at, ids.count, &out);
    for (int32_t id = 0; id < tokenizer_count(tokenizer); id++)
        text_add_bytes(&out, tokenizer_piece(tokenizer, id).at,
                       tokenizer_piece(tokenizer, id).length);
    tokenizer_close(tokenizer);
}

// In a buffer of its very size, so that the sanitizers see one byte too many. True if it opens.
static bool try_gguf(const char *bytes, size_t size, Arena *arena) {
    void *exact = malloc(size);
    memcpy(exact, bytes, size);
    Gguf *gguf = gguf_read("fuzz.gguf", (FileBytes){.at = exact, .size = size});
    if (!gguf) check_refusal("fuzz.gguf");
    if (gguf) {
        Text out = text_new(arena);
        for (int64_t i = 0; i < gguf_key_count(gguf); i++)
            gguf_print_value(gguf_key(gguf, i), &out);
        decode_all(gguf, arena);
        tokenize(gguf, arena);
    }
    bool opens = gguf != NULL;
    gguf_close(gguf);
    free(exact);
    arena_reset(arena);
    return opens;
}

TEST(gguf_fields_of_any_value) {
    Arena *arena = arena_new(), *scratch = arena_new();
    size_t size;
    int opened = 0, rounds = 4000;
    char *good = whole_gguf(arena, &size);
    FieldList fields = gguf_fields(arena, good);
    char *bad = arena_alloc(arena, size);
    CHECK(try_gguf(good, size, scratch));
    start();
    for (int i = 0; i < rounds; i++) {
        memcpy(bad, good, size);
        for (uint64_t changes = 1 + below(2); changes > 0; changes--) {
            // Half of them among the last, where the tensors are: the vocabulary has most fields.
            uint64_t last = below(2) ? 30 : (uint64_t)fields.count;
            const Field *at = &fields.at[fields.count - 1 - (int)below(last)];
            uint64_t value = below(3) ? extremes[below(COUNT_OF(extremes))] : below(64);
            memcpy(bad + at->at, &value, at->bytes);
        }
        opened += try_gguf(bad, below(20) ? size : (size_t)below(size), scratch);
    }
    CHECK(opened > 0 && opened < rounds);
    arena_free(scratch);
    arena_free(arena);
}

TEST(a_tokenizer_of_any_bytes) {
    Arena *arena = arena_new(), *scratch = arena_new();
    size_t size;
    char *good = whole_gguf(arena, &size), *bad = arena_alloc(arena, size);
    start();
    for (int i = 0; i < 1000; i++) {
        memcpy(bad, good, size);
        for (uint64_t changes = 1 + below(4); changes > 0; changes--)
            bad[below(size)] = (char)below(256);
        try_gguf(bad, size, scratch);
    }
    arena_free(scratch);
    arena_free(arena);
}

// ---- safetensors -------------------------------------------------------------------------------

static void add_number(Text *text, bool sane) {
    uint64_t value = sane ? below(4) : extremes[below(COUNT_OF(extremes))];
    text_add(text, "%llu", (unsigned long long)value);
}

static void add_entry(Text *header, const char *name) {
    static const char *const types[] = {"F32", "I64", "U8", "F16", "BOOL", "F64"};
    bool sane = below(2);
    text_add(header, "\"%s\":{\"dtype\":\"%s\",\"shape\":[", name, types[below(COUNT_OF(types))]);
    for (uint64_t axes = below(10), i = 0; i < axes; i++) {
        if (i) text_add(header, ",");
        add_number(header, sane || below(2));
    }
    text_add(header, "],\"data_offsets\":[");
    uint64_t first = 8 * below(2), bytes = below(2) ? 0 : 4 * below(4);
    text_add(header, "%llu,", (unsigned long long)first);
    if (below(4))
        text_add(header, "%llu", (unsigned long long)(first + bytes));
    else
        add_number(header, false);
    text_add(header, "]}");
}

TEST(safetensors_headers_of_any_numbers) {
    Arena *arena = arena_new();
    const char *path = temporary_path(arena, "fuzz.safetensors");
    int opened = 0, rounds = 4000;
    pg_scope_begin();
    start();
    for (int i = 0; i < rounds; i++) {
        const char *names[] = {"a", "b"};
        PgTensor *loaded[2];
        Arena *scratch = arena_new();
        Text header = text_new(scratch), file = text_new(scratch);
        int entries = 1 + (int)below(2);
        for (int j = 0; j < entries; j++) {
            text_add(&header, j ? "," : "{");
            add_entry(&header, names[j]);
        }
        text_add(&header, "}");
        uint64_t length = header.count;
        text_add_bytes(&file, (char *)&length, 8);
        text_add_bytes(&file, header.at, header.count);
        for (uint64_t bytes = 4 * below(5); bytes > 0; bytes--) text_add_bytes(&file, "\1", 1);
        FILE *out = fopen(path, "wb");
        CHECK(out && fwrite(file.at, 1, file.count, out) == file.count && !fclose(out));
        bool opens = !pg_load(path, entries, names, loaded);
        opened += opens;
        if (!opens) check_refusal("fuzz.safetensors");
        for (int j = 0; opens && j < entries; j++) {
            int64_t values[20];  // a body has up to 16 bytes
            size_t bytes = (size_t)pg_count(loaded[j]) * sizeof *values;
            CHECK(bytes <= sizeof values);
            pg_to_host(pg_cast(loaded[j], PG_I64), values, bytes);
        }
        arena_free(scratch);
    }
    CHECK(opened > 0 && opened < rounds);
    pg_scope_end();
    arena_free(arena);
}
