/* safetensors_test.c - tensors through a file, and files that are not what they say. */
#include "tensor/values.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[64];

static const char *file_of(const char *header, size_t body) {
    snprintf(path, sizeof path, "/tmp/safetensors_test_%d", (int)getpid());
    size_t length = strlen(header), size = 8 + length + body;
    uint8_t *bytes = calloc(1, size + 1);
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(length >> 8 * i);
    memcpy(bytes + 8, header, length);
    CHECK_INT(file_write(path, bytes, size), 0);
    free(bytes);
    return path;
}

TEST(what_is_saved_is_loaded) {
    pg_scope_begin();
    file_of("", 0);
    const char *names[] = {"weight", "a \"quoted\"\\\n name", "half", "empty", "flag"};
    PgTensor *saved[] = {pg_transpose(iota(PG_SHAPE(2, 3)), 0, 1), pg_full(PG_I64, PG_SCALAR, -5),
                         pg_cast(VECTOR(1.5f), PG_F16), pg_zeros(PG_F32, PG_SHAPE(0, 4)),
                         pg_tril_mask(2, 2, 0)},
             *loaded[5];
    CHECK_INT(pg_save(path, 5, names, saved), 0);
    CHECK_INT(pg_load(path, 5, names, loaded), 0);
    for (int i = 0; i < 5; i++) {
        CHECK_INT(pg_type(loaded[i]), pg_type(saved[i]));
        CHECK_INT(pg_rank(loaded[i]), pg_rank(saved[i]));
        CHECK_INT(pg_item_int(pg_all(pg_eq(loaded[i], saved[i]), PG_ALL_AXES, false)), 1);
    }
    CHECK_SHAPE(loaded[3], 0, 4);
    pg_assign(loaded[0], pg_scalar(1));
    const char *missing = "bias";
    CHECK_FAIL(pg_load(path, 1, &missing, loaded), "there is no tensor bias");
    unlink(path);
    CHECK_FAIL(pg_load(path, 1, names, loaded), "");
    CHECK_FAIL(pg_save("/nonexistent/folder/file", 1, names, saved), "/nonexistent");
    pg_scope_end();
}

TEST(other_writers) {
    pg_scope_begin();
    PgTensor *x;
    const char *name = "w";
    file_of(" { \"__metadata__\" : {\"by\":\"pt\"} , \"w\": {\"shape\":[1],\"data_offsets\":[0,4],"
            "\"dtype\":\"F32\"}}  ",
            4);
    CHECK_INT(pg_load(path, 1, &name, &x), 0);
    CHECK_VALUES(x, 0);
    file_of("{}", 0);
    CHECK_INT(pg_load(path, 0, NULL, NULL), 0);
    file_of("{\"v\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]},"
            "\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[8,9]}}",
            9);
    CHECK_INT(pg_load(path, 1, &name, &x), 0);
    name = "v";
    CHECK_FAIL(pg_load(path, 1, &name, &x), "tensor v is F64, which picograd has no type for");
    unlink(path);
    pg_scope_end();
}

#define ENTRY(name, shape, range) \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":[" shape "],\"data_offsets\":[" range "]}"

TEST(hostile_files) {
    static const struct {
        const char *header;
        size_t body;
        const char *message;
    } rows[] = {
        {"", 0, "cannot be read at byte 0"},
        {"{", 0, "cannot be read"},
        {"{}x", 0, "cannot be read"},
        {"[]", 0, "cannot be read"},
        {"{\"w\":3}", 0, "cannot be read"},
        {"{\"w\":{}}", 0, "cannot be read"},
        {"{" ENTRY("w", "1", "0,4") ",}", 4, "cannot be read"},
        {"{" ENTRY("w", "1.5", "0,4") "}", 4, "cannot be read"},
        {"{" ENTRY("w", "-1", "0,4") "}", 4, "cannot be read"},
        {"{" ENTRY("w", "01", "0,4") "}", 4, "cannot be read"},
        {"{" ENTRY("w", "99999999999999999999", "0,4") "}", 4, "cannot be read"},
        {"{" ENTRY("w", "1,1,1,1,1,1,1,1,1", "0,4") "}", 4, "cannot be read"},
        {"{" ENTRY("w", "1", "0,4,4") "}", 4, "cannot be read"},
        {"{" ENTRY("w\\q", "1", "0,4") "}", 4, "cannot be read"},
        {"{" ENTRY("w\\u12", "1", "0,4") "}", 4, "cannot be read"},
        {"{" ENTRY("w\n", "1", "0,4") "}", 4, "cannot be read"},
        {"{\"w\":{\"dtype\":\"F99\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "cannot be read"},
        {"{\"w\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
         "cannot be read"},
        {"{" ENTRY("w", "2", "0,4") "}", 4, "do not give its 4 bytes"},
        {"{" ENTRY("w", "4294967296,4294967296", "0,4") "}", 4, "do not give its 4 bytes"},
        {"{" ENTRY("w", "0,4611686018427387904", "0,0") "}", 0, "do not give its 0 bytes"},
        {"{" ENTRY("w", "0,4294967296,4294967296", "0,0") "}", 0, "do not give its 0 bytes"},
        {"{" ENTRY("v\\n", "2", "0,4") "}", 4, "tensor v? do not give"},
        {"{" ENTRY("w", "1", "4,0") "}", 4, "do not give its"},
        {"{" ENTRY("w", "1", "4,8") "}", 8, "do not follow"},
        {"{" ENTRY("w", "2", "0,8") "}", 4, "do not follow"},
        {"{" ENTRY("v", "1", "0,4") "," ENTRY("w", "1", "0,4") "}", 4, "do not follow"},
        {"{" ENTRY("w", "1", "0,4") "," ENTRY("w", "1", "4,8") "}", 8, "is there twice"},
        {"{" ENTRY("w", "1", "0,4") "}", 5, "1 bytes at the end belong to no tensor"},
    };
    PgTensor *x;
    const char *name = "w";
    for (int i = 0; i < COUNT_OF(rows); i++)
        CHECK_FAIL(pg_load(file_of(rows[i].header, rows[i].body), 1, &name, &x), rows[i].message);
    CHECK_INT(file_write(path, "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10), 0);
    CHECK_FAIL(pg_load(path, 1, &name, &x), "cut short");
    CHECK_INT(file_write(path, "\1", 1), 0);
    CHECK_FAIL(pg_load(path, 1, &name, &x), "too short");
    unlink(path);
}

// Every prefix of a good file, and every byte of its header changed: refused or read, no more.
TEST(broken_files) {
    pg_scope_begin();
    file_of("", 0);
    const char *names[] = {"a", "b"};
    PgTensor *saved[] = {iota(PG_SHAPE(2, 2)), iota(PG_SHAPE(3))}, *loaded[2];
    CHECK_INT(pg_save(path, 2, names, saved), 0);
    Arena *arena = arena_new();
    size_t size;
    char *good = file_read(arena, path, &size);
    for (size_t cut = 1; cut < size; cut++) {
        CHECK_INT(file_write(path, good, cut), 0);
        CHECK_INT(pg_load(path, 2, names, loaded), -1);
    }
    for (size_t i = 0; i < size; i++) {
        good[i] ^= 1;
        CHECK_INT(file_write(path, good, size), 0);
        pg_load(path, 2, names, loaded);
        good[i] ^= 1;
    }
    arena_free(arena);
    unlink(path);
    pg_scope_end();
}
