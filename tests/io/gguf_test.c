/* gguf_test.c - reading, writing and refusing GGUF files. */
#include "helpers.h"
#include "test.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { U8 = 0, U32 = 4, F32 = 6, BOOL = 7, TEXT = 8, ARRAY = 9, U64 = 10 };

static void add_u32(Text *file, uint32_t value) { text_add_bytes(file, (char *)&value, 4); }

static void add_u64(Text *file, uint64_t value) { text_add_bytes(file, (char *)&value, 8); }

static void add_text(Text *file, const char *text) {
    add_u64(file, strlen(text));
    text_add(file, "%s", text);
}

static Text begin(Arena *arena, uint32_t version, uint64_t tensors, uint64_t keys) {
    Text file = text_new(arena);
    text_add(&file, "GGUF");
    add_u32(&file, version);
    add_u64(&file, tensors);
    add_u64(&file, keys);
    return file;
}

static void add_key(Text *file, const char *name, uint32_t type) {
    add_text(file, name);
    add_u32(file, type);
}

static void add_tensor(Text *file, const char *name, uint64_t size, uint32_t type,
                       uint64_t offset) {
    add_text(file, name);
    add_u32(file, 1);
    add_u64(file, size);
    add_u32(file, type);
    add_u64(file, offset);
}

static void add_data(Text *file, size_t bytes) {
    while (file->count % 32) text_add_bytes(file, "", 1);
    for (size_t i = 0; i < bytes; i++) text_add_bytes(file, "\1", 1);
}

// In a buffer of its very size, so that the sanitizers see one byte too many.
static Gguf *read_bytes(const char *bytes, size_t count, void **buffer) {
    *buffer = malloc(count ? count : 1);
    memcpy(*buffer, bytes, count);
    return gguf_read("test.gguf", (FileBytes){.at = *buffer, .size = count});
}

static void refused(const Text *file, const char *why, const char *source, int line) {
    void *buffer;
    Gguf *gguf = read_bytes(file->at, file->count, &buffer);
    check(!gguf, why, source, line);
    check_part(error_text(), why, "gguf_read", source, line);
    check_part(error_text(), "test.gguf", "gguf_read", source, line);
    check(!strchr(error_text(), '\n'), "one line", source, line);
    free(buffer);
}
#define REFUSED(file, why) refused(&(file), (why), __FILE__, __LINE__)

TEST(refuses_other_files) {
    Arena *arena = arena_new();
    Text file = text_new(arena);
    REFUSED(file, "not a GGUF file, only 0 bytes");
    text_add(&file, "PK\3\4 and so on, a zip file");
    REFUSED(file, "begins with bytes 50 4b 03 04");
    file = begin(arena, 1, 0, 0);
    REFUSED(file, "version 1");
    file = begin(arena, 4, 0, 0);
    REFUSED(file, "version 4");
    file = begin(arena, 0x03000000, 0, 0);
    REFUSED(file, "big-endian");
    CHECK(!gguf_open("/nonexistent.gguf"));
    CHECK(strstr(error_text(), "/nonexistent.gguf"));
    CHECK(!gguf_open("/tmp"));
    CHECK(strstr(error_text(), "folder"));
    arena_free(arena);
}

TEST(refuses_counts_beyond_the_file) {
    Arena *arena = arena_new();
    Text file = begin(arena, 3, UINT64_MAX, 0);
    REFUSED(file, "18446744073709551615 tensors");
    file = begin(arena, 3, 0, 1ull << 63);
    REFUSED(file, "9223372036854775808 keys");
    file = begin(arena, 3, 1, 0);
    REFUSED(file, "1 tensors");
    arena_free(arena);
}

TEST(refuses_bad_names) {
    Arena *arena = arena_new();
    char *longest = arena_alloc(arena, 257);
    memset(longest, 'k', 256);
    const char *names[] = {"", "line\nbreak", "\x7f", longest};
    for (int i = 0; i < COUNT_OF(names); i++) {
        Text file = begin(arena, 3, 0, 1);
        add_key(&file, names[i], U32);
        add_u32(&file, 0);
        add_data(&file, 32);
        REFUSED(file, "must have 1 to 255 bytes");
    }
    Text file = begin(arena, 3, 0, 1);
    add_u64(&file, UINT64_MAX);
    add_data(&file, 32);
    REFUSED(file, "cut short or damaged");
    arena_free(arena);
}

static Text one_key(Arena *arena, uint32_t type) {
    Text file = begin(arena, 3, 0, 1);
    add_key(&file, "some.key", type);
    return file;
}

TEST(refuses_bad_values) {
    Arena *arena = arena_new();
    Text file = one_key(arena, 13);
    add_data(&file, 32);
    REFUSED(file, "some.key has unknown type 13");
    file = one_key(arena, BOOL);
    text_add_bytes(&file, "\2", 1);
    REFUSED(file, "some.key is 2, neither true nor false");
    file = one_key(arena, TEXT);
    add_u64(&file, UINT64_MAX);
    REFUSED(file, "cut short or damaged");
    file = one_key(arena, U64);
    add_u32(&file, 0);
    REFUSED(file, "cut short or damaged");
    file = begin(arena, 3, 0, 2);
    for (int i = 0; i < 2; i++) {
        add_key(&file, "twice", U32);
        add_u32(&file, 1);
    }
    REFUSED(file, "key twice appears twice");
    arena_free(arena);
}

TEST(refuses_bad_arrays) {
    const struct {
        uint32_t element;
        uint64_t count;
        const char *why;
    } cases[] = {
        {ARRAY, 1, "array of arrays"},
        {13, 1, "array of an unknown type"},
        {U64, 1ull << 61, "claims 2305843009213693952 elements of u64"},
        {U8, 33, "claims 33 elements of u8"},
        {TEXT, 5, "claims 5 elements of text"},
        {TEXT, 4, "cut short or damaged"},
    };
    Arena *arena = arena_new();
    for (int i = 0; i < COUNT_OF(cases); i++) {
        Text file = one_key(arena, ARRAY);
        add_u32(&file, cases[i].element);
        add_u64(&file, cases[i].count);
        for (int j = 0; j < 4; j++) add_u64(&file, 1);
        REFUSED(file, cases[i].why);
    }
    arena_free(arena);
}

TEST(refuses_bad_alignment) {
    const uint32_t alignments[] = {0, 3, 48, 1u << 31, UINT32_MAX};
    Arena *arena = arena_new();
    for (int i = 0; i < COUNT_OF(alignments); i++) {
        Text file = begin(arena, 3, 0, 1);
        add_key(&file, "general.alignment", U32);
        add_u32(&file, alignments[i]);
        REFUSED(file, "not a power of two");
    }
    Text file = begin(arena, 3, 0, 1);
    add_key(&file, "general.alignment", F32);
    add_u32(&file, 32);
    REFUSED(file, "general.alignment is f32, not an integer");
    arena_free(arena);
}

TEST(refuses_bad_tensors) {
    const struct {
        uint64_t size;
        uint32_t type;
        uint64_t offset;
        const char *why;
    } cases[] = {
        {0, GGUF_F32, 0, "dimension 0 of tensor w is 0"},
        {1ull << 63, GGUF_F32, 0, "tensor w is 9223372036854775808"},
        {1ull << 62, GGUF_F32, 0, "more than a file can hold"},
        {1ull << 40, GGUF_F32, 0, "beyond the end of the file"},
        {8, 200, 0, "tensor w has unknown type 200"},
        {256, 16, 0, "IQ2_XXS, which is not supported"},
        {128, GGUF_Q6_K, 0, "rows of 128 values, but Q6_K"},
        {31, GGUF_Q4_0, 0, "rows of 31 values, but Q4_0"},
        {8, GGUF_F32, 16, "not a multiple of the alignment"},
        {8, GGUF_F32, 32, "beyond the end of the file"},
        {9, GGUF_F32, 0, "beyond the end of the file"},
        {8, GGUF_F32, UINT64_MAX - 31, "beyond the end of the file"},
    };
    Arena *arena = arena_new();
    for (int i = 0; i < COUNT_OF(cases); i++) {
        Text file = begin(arena, 3, 1, 0);
        add_tensor(&file, "w", cases[i].size, cases[i].type, cases[i].offset);
        add_data(&file, 32);
        REFUSED(file, cases[i].why);
    }
    arena_free(arena);
}

TEST(refuses_bad_shapes) {
    Arena *arena = arena_new();
    for (uint32_t rank = 0; rank <= 5; rank += 5) {
        Text file = begin(arena, 3, 1, 0);
        add_text(&file, "w");
        add_u32(&file, rank);
        for (int i = 0; i < 8; i++) add_u64(&file, 1);
        REFUSED(file, "1 to 4 are possible");
    }
    Text file = begin(arena, 3, 1, 0);
    add_text(&file, "w");
    add_u32(&file, 3);
    for (int i = 0; i < 8; i++) add_u64(&file, 1ull << 32);
    REFUSED(file, "dimension 1 of tensor w is 4294967296, which is zero or too large");
    file = begin(arena, 3, 2, 0);
    for (int i = 0; i < 2; i++) add_tensor(&file, "same", 8, GGUF_F32, 0);
    add_data(&file, 32);
    REFUSED(file, "tensor same appears twice");
    arena_free(arena);
}

TEST(reads_version_2_and_an_alignment) {
    Arena *arena = arena_new();
    Text file = begin(arena, 2, 1, 1);
    add_key(&file, "general.alignment", U32);
    add_u32(&file, 8);
    add_tensor(&file, "w", 2, GGUF_F32, 8);
    while (file.count % 8) text_add_bytes(&file, "", 1);
    add_u64(&file, 0);
    add_u64(&file, 0x4000000040400000);
    void *buffer;
    Gguf *gguf = read_bytes(file.at, file.count, &buffer);
    CHECK(gguf);
    float values[2];
    memcpy(values, gguf_find_tensor(gguf, "w")->data, sizeof values);
    CHECK_NEAR(values[0], 3, 0);
    CHECK_NEAR(values[1], 2, 0);
    gguf_close(gguf);
    free(buffer);
    arena_free(arena);
}

static GgufWriter *small_file(Arena *arena) {
    GgufWriter *writer = gguf_writer_new();
    TextSpan texts[] = {{"one", 3}, {"", 0}, {"a\0b", 3}};
    gguf_put_text(writer, "text", "some \"text\"\n");
    gguf_put_int(writer, "int", 4000000000);
    gguf_put_int(writer, "negative", -5);
    gguf_put_f32(writer, "f32", 0.5f);
    gguf_put_bool(writer, "bool", true);
    gguf_put_array_text(writer, "texts", texts, COUNT_OF(texts));
    gguf_put_array_i32(writer, "ints", (int32_t[]){1, -2, 3, 4, 5, 6, 7}, 7);
    float *values = arena_array(arena, float, 192);
    for (int i = 0; i < 192; i++) values[i] = sinf((float)i);
    GgufTensor tensor = {"f32.weight", GGUF_F32, 2, {64, 3, 1, 1}, (uint8_t *)values, 192 * 4, 0};
    gguf_put_tensor(writer, &tensor, GGUF_F32);
    tensor.name = "q8.weight";
    gguf_put_tensor(writer, &tensor, GGUF_Q8_0);
    tensor = (GgufTensor){"norm", GGUF_F32, 1, {5, 1, 1, 1}, (uint8_t *)values, 20, 0};
    gguf_put_tensor(writer, &tensor, GGUF_BF16);
    return writer;
}

TEST(reads_what_was_written) {
    Arena *arena = arena_new();
    Gguf *gguf = reopened(arena, small_file(arena));
    CHECK(gguf);
    CHECK_INT(gguf_key_count(gguf), 7);
    CHECK_TEXT(gguf_key(gguf, 4)->name, "bool");
    CHECK_INT(gguf_tensor_count(gguf), 3);
    const GgufTensor *tensor = gguf_find_tensor(gguf, "q8.weight");
    CHECK(tensor == gguf_tensor(gguf, 1));
    CHECK_INT(tensor->rank, 2);
    CHECK_INT(tensor->shape[0], 64);
    CHECK_INT(tensor->shape[1], 3);
    CHECK_INT(tensor->shape[2], 1);
    CHECK_INT(tensor->bytes, 192 / 32 * 34);
    float values[192];
    gguf_decode(gguf_format(tensor->type), tensor->data, values, 192);
    for (int i = 0; i < 192; i++) CHECK_NEAR(values[i], sin(i), 0.005);
    CHECK_INT(gguf_find_tensor(gguf, "norm")->bytes, 10);
    CHECK(!gguf_find_tensor(gguf, "no"));
    CHECK((gguf_tensor(gguf, 0)->data - gguf_file(gguf).at) % 32 == 0);
    gguf_close(gguf);
    arena_free(arena);
}

TEST(typed_reads) {
    Arena *arena = arena_new();
    Gguf *gguf = reopened(arena, small_file(arena));
    TextSpan text;
    int64_t integer, count;
    double number;
    bool truth;
    CHECK_INT(gguf_text(gguf, "text", &text), 0);
    CHECK_TEXT(terminated(arena, text), "some \"text\"\n");
    CHECK_INT(gguf_int(gguf, "int", &integer), 0);
    CHECK_INT(integer, 4000000000);
    CHECK_INT(gguf_int(gguf, "negative", &integer), 0);
    CHECK_INT(integer, -5);
    CHECK_INT(gguf_number(gguf, "f32", &number), 0);
    CHECK_NEAR(number, 0.5, 0);
    CHECK_INT(gguf_number(gguf, "int", &number), 0);
    CHECK_NEAR(number, 4e9, 0);
    CHECK_INT(gguf_bool(gguf, "bool", &truth), 0);
    CHECK(truth);
    TextSpan *texts = gguf_array_text(gguf, "texts", arena, &count);
    CHECK_INT(count, 3);
    CHECK(texts[2].length == 3 && !memcmp(texts[2].at, "a\0b", 3));
    CHECK_INT(gguf_array_i32(gguf, "ints", arena, &count)[1], -2);
    CHECK_INT(count, 7);
    CHECK_FAIL(gguf_text(gguf, "gone", &text), "key gone is missing");
    CHECK_FAIL(gguf_text(gguf, "int", &text), "key int is u32, not text");
    CHECK_FAIL(gguf_int(gguf, "f32", &integer), "key f32 is f32, not an integer");
    CHECK_FAIL(gguf_number(gguf, "texts", &number), "key texts is an array of text, not a number");
    CHECK_FAIL(gguf_bool(gguf, "int", &truth), "not true or false");
    CHECK(!gguf_array_f32(gguf, "ints", arena, &count));
    CHECK(!gguf_array_text(gguf, "ints", arena, &count));
    CHECK(!gguf_array_i32(gguf, "gone", arena, &count));
    gguf_close(gguf);
    arena_free(arena);
}

TEST(a_u64_beyond_i64_is_no_integer_but_prints) {
    Arena *arena = arena_new();
    int64_t value;
    void *buffer;
    Text file = one_key(arena, U64), out = text_new(arena);
    add_u64(&file, UINT64_MAX);
    Gguf *gguf = read_bytes(file.at, file.count, &buffer);
    CHECK_FAIL(gguf_int(gguf, "some.key", &value), "not an integer of at most 63 bits");
    gguf_print_value(gguf_key(gguf, 0), &out);
    CHECK_TEXT(out.at, "18446744073709551615");
    gguf_close(gguf);
    free(buffer);
    arena_free(arena);
}

TEST(values_print_on_a_short_line) {
    const char *wanted[] = {"\"some \\x22text\\x22\\x0a\"",
                            "4000000000",
                            "-5",
                            "0.5",
                            "true",
                            "3 text [\"one\", \"\", \"a\\x00b\"]",
                            "7 i32 [1, -2, 3, 4, 5, 6, ...]"};
    Arena *arena = arena_new();
    Gguf *gguf = reopened(arena, small_file(arena));
    for (int i = 0; i < COUNT_OF(wanted); i++) {
        Text out = text_new(arena);
        gguf_print_value(gguf_key(gguf, i), &out);
        CHECK_TEXT(out.at, wanted[i]);
    }
    gguf_close(gguf);
    arena_free(arena);
}

TEST(writes_spans_and_floats) {
    Arena *arena = arena_new();
    GgufWriter *writer = gguf_writer_new();
    gguf_put_span(writer, "span", (TextSpan){"a\0bc", 3});
    gguf_put_array_f32(writer, "floats", (float[]){0.5f, -2, INFINITY}, 3);
    gguf_put_array_f32(writer, "none", NULL, 0);
    Gguf *gguf = reopened(arena, writer);
    TextSpan text;
    int64_t count;
    CHECK_INT(gguf_text(gguf, "span", &text), 0);
    CHECK(text.length == 3 && !memcmp(text.at, "a\0b", 3));
    float *values = gguf_array_f32(gguf, "floats", arena, &count);
    CHECK_INT(count, 3);
    CHECK_NEAR(values[1], -2, 0);
    CHECK(isinf(values[2]));
    CHECK(gguf_array_f32(gguf, "none", arena, &count));
    CHECK_INT(count, 0);
    gguf_close(gguf);
    arena_free(arena);
}

// Rows of 2 heads of 6: 0, 1, 2 | 3, 4, 5 become 0, 3, 1, 4, 2, 5.
TEST(halves_of_heads_become_pairs) {
    enum { ROWS = 12, COLUMNS = 4128 };  // more than a chunk
    const int wanted[ROWS] = {0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11};
    Arena *arena = arena_new();
    float *values = arena_array(arena, float, ROWS *COLUMNS);
    for (int i = 0; i < ROWS * COLUMNS; i++) values[i] = (float)(i / COLUMNS);
    GgufWriter *writer = gguf_writer_new();
    GgufTensor tensor = {.name = "f32",
                         .rank = 2,
                         .shape = {COLUMNS, ROWS, 1, 1},
                         .data = (uint8_t *)values,
                         .bytes = ROWS * COLUMNS * 4};
    gguf_put_tensor_paired(writer, &tensor, GGUF_F32, 2);
    tensor.name = "q8_0";
    gguf_put_tensor_paired(writer, &tensor, GGUF_Q8_0, 2);
    for (int i = 0; i < ROWS; i++) values[i] = (float)i;
    tensor = (GgufTensor){.name = "bias",
                          .rank = 1,
                          .shape = {ROWS, 1, 1, 1},
                          .data = (uint8_t *)arena_copy(arena, values, ROWS * 4),
                          .bytes = ROWS * 4};
    for (int i = 0; i < ROWS; i++) values[i] = 0;
    gguf_put_tensor_paired(writer, &tensor, GGUF_F32, 2);
    CHECK_FATAL_TEXT(gguf_put_tensor_paired(writer, &tensor, GGUF_F32, 4), "12 rows, which are");
    Gguf *gguf = reopened(arena, writer);
    for (int t = 0; t < 3; t++) {
        const GgufTensor *written = gguf_tensor(gguf, t);
        int64_t columns = t < 2 ? COLUMNS : 1;
        gguf_decode(gguf_format(written->type), written->data, values, ROWS * columns);
        for (int64_t i = 0; i < ROWS * columns; i++)
            if (fabsf(values[i] - (float)wanted[i / columns]) > 1e-3f)
                CHECK_INT(i, wanted[i / columns]);
    }
    gguf_close(gguf);
    arena_free(arena);
}

typedef struct {
    int64_t calls, done, all, stop_at;
} Watch;

static bool watch(void *context, int64_t done, int64_t all) {
    Watch *seen = context;
    CHECK(done > seen->done && done <= all);
    seen->calls++;
    seen->done = done;
    seen->all = all;
    return seen->calls != seen->stop_at;
}

TEST(progress_is_seen_and_stops) {
    enum { COUNT = 3 << 20 };
    Arena *arena = arena_new();
    float *values = arena_array(arena, float, COUNT);
    const char *path = temporary_path(arena, "watched.gguf");
    for (int stop = 0; stop < 3; stop += 2) {
        Watch seen = {.stop_at = stop};
        GgufWriter *writer = gguf_writer_new();
        GgufTensor tensor = {.name = "w",
                             .rank = 2,
                             .shape = {1024, COUNT / 1024, 1, 1},
                             .data = (uint8_t *)values,
                             .bytes = COUNT * 4};
        gguf_put_tensor(writer, &tensor, GGUF_Q8_0);
        gguf_writer_watch(writer, watch, &seen);
        int status = gguf_writer_save(writer, path);
        CHECK_INT(seen.calls, stop ? 2 : 3);
        CHECK_INT(seen.all, COUNT / 32 * 34);
        if (stop) CHECK_FAIL(status, "it was stopped");
        if (!stop) CHECK_INT(seen.done, seen.all);
        CHECK(access(path, F_OK) == (stop ? -1 : 0));
        CHECK(access(arena_print(arena, "%s.%d.tmp", path, (int)getpid()), F_OK) != 0);
        gguf_writer_free(writer);
        unlink(path);
    }
    arena_free(arena);
}

TEST(a_copy_keeps_keys_and_converts_tensors) {
    Arena *arena = arena_new();
    Gguf *gguf = reopened(arena, small_file(arena));
    GgufWriter *writer = gguf_writer_new();
    const GgufTensor *tensor = gguf_find_tensor(gguf, "f32.weight");
    gguf_put_int(writer, "int", 7);
    gguf_put_keys(writer, gguf);
    gguf_put_tensor(writer, tensor, GGUF_Q4_1);
    const char *path = temporary_path(arena, "copy.gguf");
    CHECK_INT(gguf_writer_save(writer, path), 0);
    gguf_writer_free(writer);
    Gguf *copy = gguf_open(path);
    int64_t value;
    uint8_t blocks[6 * 20];
    CHECK_INT(gguf_key_count(copy), 7);
    CHECK_INT(gguf_int(copy, "int", &value), 0);
    CHECK_INT(value, 7);
    gguf_encode(gguf_format(GGUF_Q4_1), (const float *)(const void *)tensor->data, blocks, 192);
    CHECK_INT(gguf_tensor(copy, 0)->bytes, sizeof blocks);
    CHECK(!memcmp(gguf_tensor(copy, 0)->data, blocks, sizeof blocks));
    writer = gguf_writer_new();
    CHECK_FATAL_TEXT(gguf_put_tensor(writer, gguf_find_tensor(gguf, "norm"), GGUF_Q4_0),
                     "rows of 5 values");
    CHECK_FATAL_TEXT(gguf_put_tensor(writer, tensor, GGUF_IQ4_XS), "type 23 (IQ4_XS)");
    gguf_writer_free(writer);
    gguf_close(copy);
    gguf_close(gguf);
    arena_free(arena);
}

TEST(an_unwritable_place_leaves_nothing) {
    Arena *arena = arena_new();
    GgufWriter *writer = small_file(arena);
    CHECK_FAIL(gguf_writer_save(writer, "/nonexistent/x.gguf"), "cannot write /nonexistent/x.gguf");
    CHECK_FAIL(gguf_writer_save(writer, "/dev/null"), "not a regular file");
    const char *path = temporary_path(arena, "full.gguf");
    struct rlimit before, tiny;
    getrlimit(RLIMIT_FSIZE, &before);
    tiny = (struct rlimit){100, before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &tiny);
    int result = gguf_writer_save(writer, path);
    setrlimit(RLIMIT_FSIZE, &before);
    CHECK_FAIL(result, "cannot write");
    CHECK(access(path, F_OK) != 0);
    CHECK(access(arena_print(arena, "%s.%d.tmp", path, (int)getpid()), F_OK) != 0);
    gguf_writer_free(writer);
    arena_free(arena);
}

// ---- a model in several files ------------------------------------------------------------------

typedef struct {
    const char *name;
    int64_t number, count, tensors;  // as its keys say; tensors < 0: no such key
    int first, end;                  // tensors t<first> to t<end - 1>
} Part;

static const char *write_part(Arena *arena, Part part) {
    GgufWriter *writer = gguf_writer_new();
    gguf_put_int(writer, "split.no", part.number);
    gguf_put_int(writer, "split.count", part.count);
    if (part.tensors >= 0) gguf_put_int(writer, "split.tensors.count", part.tensors);
    if (part.number == 0) gguf_put_text(writer, "general.architecture", "llama");
    for (int i = part.first; i < part.end; i++) {
        float *values = arena_array(arena, float, 4);
        values[3] = (float)i;
        GgufTensor tensor = {
            arena_print(arena, "t%d", i), GGUF_F32, 1, {4, 1, 1, 1}, (uint8_t *)values, 16, 0};
        gguf_put_tensor(writer, &tensor, GGUF_F32);
    }
    const char *path = temporary_path(arena, part.name);
    CHECK_INT(gguf_writer_save(writer, path), 0);
    gguf_writer_free(writer);
    return path;
}

static const Part good_parts[] = {
    {"m-00001-of-00003.gguf", 0, 3, 5, 0, 0},
    {"m-00002-of-00003.gguf", 1, 3, -1, 0, 3},
    {"m-00003-of-00003.gguf", 2, 3, -1, 3, 5},
};

static const char *write_parts(Arena *arena) {
    for (int i = 1; i < COUNT_OF(good_parts); i++) write_part(arena, good_parts[i]);
    return write_part(arena, good_parts[0]);
}

TEST(any_part_opens_the_whole) {
    Arena *arena = arena_new();
    write_parts(arena);
    for (int i = 0; i < COUNT_OF(good_parts); i++) {
        Gguf *gguf = gguf_open(temporary_path(arena, good_parts[i].name));
        CHECK(gguf);
        CHECK_INT(gguf_tensor_count(gguf), 5);
        CHECK(gguf_find_key(gguf, "general.architecture"));
        for (int j = 0; j < 5; j++) {
            const GgufTensor *tensor = gguf_find_tensor(gguf, arena_print(arena, "t%d", j));
            CHECK_NEAR(((const float *)(const void *)tensor->data)[3], j, 0);
            CHECK(tensor->beyond >= 16);  // the writer's padding
        }
        CHECK(gguf_bytes(gguf) > 3 * 100);
        gguf_close(gguf);
    }
    arena_free(arena);
}

TEST(parts_that_are_not_as_they_say_are_refused) {
    const struct {
        Part part;
        const char *why;
    } cases[] = {
        {{"m-00001-of-00003.gguf", 0, 3, 6, 0, 0}, "split.tensors.count is 6, but the 3 parts"},
        {{"m-00001-of-00003.gguf", 0, 3, -1, 0, 0}, "key split.tensors.count is missing"},
        {{"m-00001-of-00003.gguf", 0, 3, 6, 2, 3}, "tensor t2 appears twice"},
        {{"m-00001-of-00003.gguf", 0, 4, 5, 0, 0}, "its name does not end like -00001-of-00004"},
        {{"m-00001-of-00003.gguf", 0, -3, 5, 0, 0}, "split.count is -3, outside 0 to 99999"},
        {{"m-00001-of-00003.gguf", 0, 100000, 5, 0, 0}, "split.count is 100000, outside"},
        {{"m-00001-of-00003.gguf", 1, 3, 5, 0, 0}, "split.no is 1, but as its name says"},
        {{"m-00003-of-00003.gguf", 1, 3, 5, 0, 0}, "00003-of-00003.gguf: split.no is 1, but"},
        {{"m-00003-of-00003.gguf", 2, 4, 5, 0, 0}, "00003-of-00003.gguf: split.count is 4, but"},
    };
    Arena *arena = arena_new();
    for (int i = 0; i < COUNT_OF(cases); i++) {
        const char *path = write_parts(arena);
        write_part(arena, cases[i].part);
        CHECK(!gguf_open(path));
        CHECK(strstr(error_text(), cases[i].why));
    }
    const char *path = write_parts(arena);
    unlink(temporary_path(arena, "m-00002-of-00003.gguf"));
    CHECK(!gguf_open(path));
    CHECK(strstr(error_text(), "part 2 of 3 is missing: cannot open "));
    CHECK(strstr(error_text(), "/m-00002-of-00003.gguf: No such file"));
    const char *names[] = {"x.gguf", "m-00004-of-00003.gguf", "m-0001-of-00003.gguf",
                           "m--0001-of-00003.gguf"};
    for (int i = 0; i < COUNT_OF(names); i++) {
        CHECK(!gguf_open(write_part(arena, (Part){names[i], 0, 3, 5, 0, 0})));
        CHECK(strstr(error_text(), "its name does not end like"));
    }
    arena_free(arena);
}

TEST(one_part_of_one_may_have_any_name) {
    Arena *arena = arena_new();
    for (int count = 0; count <= 1; count++) {  // 0: as llama.cpp leaves it after a merge
        Gguf *gguf = gguf_open(write_part(arena, (Part){"one.gguf", 0, count, -1, 0, 2}));
        CHECK_INT(gguf_tensor_count(gguf), 2);
        gguf_close(gguf);
    }
    arena_free(arena);
}

// Reads all there is to read; sums the data so that every byte is touched.
static uint64_t walk(const Gguf *gguf, Arena *arena) {
    uint64_t sum = 0;
    int64_t count;
    for (int64_t i = 0; i < gguf_key_count(gguf); i++) {
        Text out = text_new(arena);
        gguf_print_value(gguf_key(gguf, i), &out);
        gguf_array_text(gguf, gguf_key(gguf, i)->name, arena, &count);
        gguf_array_i32(gguf, gguf_key(gguf, i)->name, arena, &count);
        sum += out.count;
    }
    for (int64_t i = 0; i < gguf_tensor_count(gguf); i++) {
        const GgufTensor *tensor = gguf_tensor(gguf, i);
        for (int64_t j = 0; j < tensor->bytes; j++) sum += tensor->data[j];
    }
    return sum;
}

static void survives(const char *bytes, size_t count, Arena *arena) {
    void *buffer;
    Gguf *gguf = read_bytes(bytes, count, &buffer);
    if (gguf) walk(gguf, arena);
    if (!gguf) CHECK(strstr(error_text(), "test.gguf"));
    gguf_close(gguf);
    free(buffer);
    arena_reset(arena);
}

TEST(every_prefix_and_every_flipped_byte_is_survived) {
    Arena *arena = arena_new(), *scratch = arena_new();
    GgufWriter *writer = small_file(arena);
    const char *path = temporary_path(arena, "whole.gguf");
    CHECK_INT(gguf_writer_save(writer, path), 0);
    size_t size;
    char *bytes = file_read(arena, path, &size);
    for (size_t cut = 0; cut < size; cut++) survives(bytes, cut, scratch);
    for (size_t i = 0; i < size; i++) {
        const int flips[] = {1, 2, 4, 8, 16, 32, 64, 128, 255};
        for (int j = 0; j < COUNT_OF(flips); j++) {
            bytes[i] = (char)(bytes[i] ^ flips[j]);
            survives(bytes, size, scratch);
            bytes[i] = (char)(bytes[i] ^ flips[j]);
        }
    }
    gguf_writer_free(writer);
    arena_free(scratch);
    arena_free(arena);
}

TEST(the_real_model_opens) {
    Arena *arena = arena_new();
    const char *path = models_find(arena, "smollm2");
    if (!path) SKIP("smollm2 is not in the cache; picograd models pull smollm2");
    Gguf *gguf = gguf_open(path);
    CHECK(gguf);
    CHECK_INT(gguf_tensor_count(gguf), 272);
    const GgufTensor *tensor = gguf_find_tensor(gguf, "token_embd.weight");
    CHECK_TEXT(gguf_format(tensor->type)->name, "Q8_0");
    CHECK_INT(tensor->shape[1], 49152);
    double epsilon;
    CHECK_INT(gguf_number(gguf, "llama.attention.layer_norm_rms_epsilon", &epsilon), 0);
    CHECK_NEAR(epsilon, 1e-5, 1e-12);
    gguf_close(gguf);
    arena_free(arena);
}
