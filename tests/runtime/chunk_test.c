/* Every instruction set's chunk operations beside scalar.c, over limits, NaN and random values. */
#include <math.h>
#include <string.h>

#include "ir/scalar.h"
#include "runtime/library/library.h"
#include "test.h"

static uint64_t seed = 7;

static uint64_t next_random(void) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return hash_bytes(&seed, sizeof seed, 0);
}

static const float floats[] = {0.0f,          -0.0f,          1,       -1,       0.5f,
                               -2.5f,         3e38f,          -3e38f,  INFINITY, NAN,
                               -INFINITY,     1e-40f,         65504,   65520,    6.1e-5f,
                               5.96e-8f,      127.5f,         -128.5f, 255.9f,   2147483520.0f,
                               2147483648.0f, -2147483648.0f, 9.3e18f, -9.3e18f, 4294967296.0f,
                               1.0039f};

static Scalar random_scalar(DType dtype) {
    uint64_t bits = next_random();
    bool special = bits % 3 == 0;
    if (dtype_is_float(dtype)) {
        float value = special ? floats[bits / 3 % COUNT_OF(floats)]
                              : ldexpf((float)(int32_t)(bits >> 32), (int)(bits % 40) - 51);
        return scalar_cast((Scalar){.real = value}, DT_F32, dtype);
    }
    static const int64_t integers[] = {0,        1,         -1,        2,          3,
                                       7,        INT64_MIN, INT64_MAX, INT32_MIN,  INT32_MAX,
                                       INT8_MIN, INT8_MAX,  UINT8_MAX, UINT16_MAX, UINT32_MAX};
    int64_t value = special ? integers[bits / 3 % COUNT_OF(integers)] : (int64_t)bits;
    return (Scalar){.integer = scalar_wrap(dtype, dtype == DT_BOOL ? value & 1 : value)};
}

// f16 and bf16 compute in f32; the rest in its stored form.
static DType computed(DType dtype) { return dtype_is_float(dtype) ? DT_F32 : dtype; }

static Scalar value_at(DType dtype, const char *values, int i) {
    return scalar_load(computed(dtype), values + i * chunk_bytes(dtype));
}

static void put(DType dtype, char *values, int i, Scalar value) {
    scalar_store(computed(dtype), values + i * chunk_bytes(dtype), value);
}

static void random_values(DType dtype, char *values) {
    for (int i = 0; i < CHUNK; i++) put(dtype, values, i, random_scalar(dtype));
}

static bool same(DType dtype, Scalar a, Scalar b) {
    if (!dtype_is_float(dtype)) return a.integer == b.integer;
    return a.real != a.real ? b.real != b.real
                            : a.real == b.real && !signbit(a.real) == !signbit(b.real);
}

static bool takes(Op op, DType dtype) {
    int properties = ops[op].properties;
    if (!(properties & MAPS) || properties & (TYPED | CHOOSES)) return false;
    if (dtype_is_float(dtype)) return !(properties & (BITS | INTEGERS));
    return !(properties & FLOATS) && !(dtype == DT_BOOL && properties & INTEGERS);
}

static void check_map(const Library *isa, Op op, DType dtype, int count) {
    static char x[CHUNK * 8], y[CHUNK * 8], z[CHUNK * 8], to[CHUNK * 8];
    DType result = ops[op].properties & TO_BOOL ? DT_BOOL : dtype;
    random_values(dtype, x), random_values(dtype, y), random_values(dtype, z);
    isa->chunk->map(op, dtype, count, x, y, z, to);
    for (int i = 0; i < count; i++) {
        Scalar a = value_at(dtype, x, i), b = value_at(dtype, y, i), c = value_at(dtype, z, i);
        if (same(result, value_at(result, to, i), scalar_apply(op, dtype, a, b, c))) continue;
        say("%s: %s %s, element %d", isa->name, ops[op].text, dtypes[dtype].text, i);
        CHECK(false);
    }
}

static void for_each_isa(void (*run)(const Library *)) {
    for (const Library *row = library(); row->name; row++) run(row);
}

static void map_all(const Library *isa) {
    for (Op op = 0; op < OP_COUNT; op++)
        for (DType dtype = 0; dtype < DT_COUNT; dtype++)
            for (int round = 0; round < 8 && takes(op, dtype); round++)
                check_map(isa, op, dtype, (int)(next_random() % CHUNK) + 1);
}

TEST(maps_are_the_scalar_column) { for_each_isa(map_all); }

TEST(what_does_not_map_stops) {
    float x = 0;
    CHECK_FATAL_TEXT(chunk_map(OP_REDUCE, DT_F32, 1, &x, NULL, NULL, &x), "reduce");
    CHECK_FATAL_TEXT(chunk_map(OP_AND, DT_F32, 1, &x, &x, NULL, &x), "and");
}

static void cast_all(const Library *isa) {
    static char x[CHUNK * 8], to[CHUNK * 8];
    for (DType from = 0; from < DT_COUNT; from++)
        for (DType into = 0; into < DT_COUNT; into++) {
            int count = (int)(next_random() % CHUNK) + 1;
            random_values(from, x);
            isa->chunk->cast(from, into, count, x, to);
            for (int i = 0; i < count; i++) {
                if (same(into, value_at(into, to, i),
                         scalar_cast(value_at(from, x, i), from, into)))
                    continue;
                say("%s: %s to %s", isa->name, dtypes[from].text, dtypes[into].text);
                CHECK(false);
            }
        }
}

TEST(casts_saturate_and_wrap) { for_each_isa(cast_all); }

static void where_all(const Library *isa) {
    static char y[CHUNK * 8], z[CHUNK * 8], to[CHUNK * 8];
    uint8_t condition[CHUNK];
    for (DType dtype = 0; dtype < DT_COUNT; dtype++) {
        random_values(DT_BOOL, (char *)condition);
        random_values(dtype, y), random_values(dtype, z);
        isa->chunk->where(dtype, 201, condition, y, z, to);
        for (int i = 0; i < 201; i++)
            CHECK(same(dtype, value_at(dtype, to, i), value_at(dtype, condition[i] ? y : z, i)));
    }
}

TEST(where_chooses) { for_each_isa(where_all); }

// Memory at an odd address, there and back: elements of the patch are at `middle` + these offsets.
static int64_t offset(const Patch *patch, int i) {
    return i / patch->count * patch->row_stride + i % patch->count * patch->stride;
}

static void move_patch(const Library *isa, DType dtype, const Patch *patch) {
    static char memory[1 + 8 * CHUNK * 8], values[CHUNK * 8];
    int points = patch->rows * patch->count, bytes = dtypes[dtype].bytes;
    char *middle = memory + 1 + 4 * CHUNK * bytes;
    for (int i = 0; i < points; i++)
        scalar_store(dtype, middle + offset(patch, i) * bytes, random_scalar(dtype));
    isa->chunk->read(dtype, patch, middle, values);
    for (int i = 0; i < points; i++)
        CHECK(same(dtype, value_at(dtype, values, i),
                   scalar_load(dtype, middle + offset(patch, i) * bytes)));
    if (!patch->stride || !patch->row_stride) return;  // one place for several values
    random_values(dtype, values);
    isa->chunk->write(dtype, patch, values, middle);
    for (int i = 0; i < points; i++)
        CHECK(same(dtype, value_at(dtype, values, i),
                   scalar_load(dtype, middle + offset(patch, i) * bytes)));
}

static void move_all(const Library *isa) {
    static const int counts[] = {1, 2, 16, 33, 131};
    for (DType dtype = 0; dtype < DT_COUNT; dtype++)
        for (int i = 0; i < COUNT_OF(counts); i++)
            for (int64_t stride = -2; stride <= 3; stride++)
                for (int rows = 1; rows <= 5; rows += 4)
                    for (int64_t space = -1; space <= 1; space++)
                        move_patch(isa, dtype,
                                   &(Patch){rows, counts[i], space * (3 * counts[i] + 1), stride});
}

TEST(memory_is_read_and_written_at_any_stride) { for_each_isa(move_all); }

// All 65,536 f16 and bf16 widen, and what lies between two of them rounds, as scalar.c says.
static void round_all(const Library *isa) {
    uint16_t stored[CHUNK], back[CHUNK];
    float wide[CHUNK];
    Patch all = {1, CHUNK, 0, 1};
    for (int first = 0; first < 65536; first += CHUNK)
        for (DType dtype = DT_F16; dtype <= DT_BF16; dtype++) {
            for (int i = 0; i < CHUNK; i++) stored[i] = (uint16_t)(first + i);
            isa->chunk->read(dtype, &all, stored, wide);
            for (int i = 0; i < CHUNK; i++)
                CHECK(same(dtype, (Scalar){.real = wide[i]}, scalar_load(dtype, &stored[i])));
            for (int i = 0; i < CHUNK; i++) wide[i] *= 1 + (float)(i % 9 - 4) * 0x1p-12f;
            isa->chunk->write(dtype, &all, wide, back);
            for (int i = 0; i < CHUNK; i++) {
                uint16_t wanted;
                scalar_store(dtype, &wanted, (Scalar){.real = wide[i]});
                CHECK(same(dtype, scalar_load(dtype, &back[i]), scalar_load(dtype, &wanted)));
            }
        }
}

TEST(halves_round_to_nearest_even) { for_each_isa(round_all); }

static void fold_all(const Library *isa) {
    static char x[CHUNK * 8];
    static const Op folds[] = {OP_ADD, OP_MAX, OP_MUL};
    for (DType dtype = 0; dtype < DT_COUNT; dtype++)
        for (int count = 1; count <= CHUNK; count += 1 + count / 8)
            for (int f = 0; f < COUNT_OF(folds); f++) {
                Scalar wanted = scalar_identity(folds[f], dtype);
                for (int i = 0; i < CHUNK; i++) {
                    Scalar small = {.integer = (int64_t)(next_random() % 16 == 0)};
                    Scalar value = dtype_is_float(dtype) ? scalar_cast(small, DT_I32, dtype)
                                                         : random_scalar(dtype);
                    put(dtype, x, i, value);
                    if (i < count) wanted = scalar_apply(folds[f], dtype, wanted, value, value);
                }
                isa->chunk->fold(folds[f], dtype, count, x);
                CHECK(same(dtype, value_at(dtype, x, 0), wanted));
            }
}

// Zeros and few ones: their sums and products are exact in bf16, too.
TEST(folds_give_one_value) { for_each_isa(fold_all); }

TEST(float_sums_are_made_of_pairs) {
    float x[CHUNK] = {0x1p24f};
    for (int i = 1; i < CHUNK; i++) x[i] = 1;
    chunk_fold(OP_ADD, DT_F32, CHUNK, x);  // one by one, each 1 would be lost
    CHECK_NEAR(x[0], 0x1p24 + CHUNK - 1, 8);
}

TEST(one_value_fills_an_array) {
    int64_t value = INT64_MIN + 5, to[CHUNK];
    chunk_fill(DT_I64, CHUNK, &value, to);
    CHECK(to[0] == value && to[CHUNK - 1] == value);
}
