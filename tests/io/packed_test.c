/* packed_test.c - packed weights beside the decoder of the file format, whole and in use. */
#include "io/io.h"
#include "ir/scalar.h"
#include "runtime/runtime.h"
#include "tensor/values.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 3, COLUMNS = 512, COUNT = ROWS * COLUMNS };

static const int types[] = {GGUF_F32,  GGUF_F16,  GGUF_BF16, GGUF_Q8_0,   GGUF_Q4_0,
                            GGUF_Q4_1, GGUF_Q5_0, GGUF_Q5_1, GGUF_Q2_K,   GGUF_Q3_K,
                            GGUF_Q4_K, GGUF_Q5_K, GGUF_Q6_K, GGUF_IQ4_NL, GGUF_IQ4_XS};

typedef struct {
    uint8_t bytes[COUNT * 4 + 64];
    float value[COUNT];  // what the bytes say
    float largest;
    PgTensor *tensor;
} Packed;

static void put_half(uint8_t *bytes, double value) {
    uint16_t half = f16_round((float)value);
    memcpy(bytes, &half, sizeof half);
}

// Any bits as codes, with scales and offsets of every block its own.
static Packed packed(int type) {
    const GgufFormat *format = gguf_format(type);
    Packed result = {0};
    uint32_t dice = 12345;
    for (int i = 0; i < COUNT / format->length; i++) {
        uint8_t *block = result.bytes + i * format->bytes;
        for (int j = 0; j < format->bytes; j++) {
            dice = dice * 1664525 + 1013904223;
            block[j] = (uint8_t)(dice >> 24);
        }
        float plain = sinf((float)(i * i));
        if (!format->layout.axis[0]) gguf_encode(format, &plain, block, 1);
        if (format->layout.axis[0]) put_half(block + format->layout.scale_at, 0.01 + 0.001 * i);
        if (format->layout.offset_at) put_half(block + format->layout.offset_at, 0.1 - 0.01 * i);
    }
    gguf_decode(format, result.bytes, result.value, COUNT);
    for (int i = 0; i < COUNT; i++) result.largest = fmaxf(result.largest, fabsf(result.value[i]));
    return result;
}

static void open_packed(Packed *weight, int type, size_t beyond) {
    weight->tensor = pg_from_blocks(gguf_format(type)->name, PG_SHAPE(ROWS, COLUMNS), weight->bytes,
                                    beyond, NULL, NULL);
}

TEST(values_are_the_formats) {
    for (int i = 0; i < COUNT_OF(types); i++) {
        for (size_t beyond = 0; beyond <= 64; beyond += 64) {
            pg_scope_begin();
            Packed weight = packed(types[i]);
            open_packed(&weight, types[i], beyond);
            float got[COUNT];
            pg_to_host(weight.tensor, got, sizeof got);
            for (int j = 0; j < COUNT; j++)
                if (!(fabsf(got[j] - weight.value[j]) <= 2e-7f * weight.largest))
                    CHECK_TEXT(gguf_format(types[i])->name, "as decoded");
            pg_scope_end();
        }
    }
}

static void use(void *context, PgTensor **in, PgTensor **out) {
    PgTensor *weight = context;
    out[0] = pg_linear(in[0], weight, NULL);
    out[1] = pg_embedding(weight, pg_arange(PG_I64, 1, 3, 1));
}

// rows: of x. One is a product of a matrix and a vector, where scales leave the sums.
static void check_use(PgMode mode, int rows) {
    pg_set_mode(mode);
    for (int i = 0; i < COUNT_OF(types); i++) {
        pg_scope_begin();
        Packed weight = packed(types[i]);
        open_packed(&weight, types[i], 64);
        PgTensor *plain = pg_from_data(PG_F32, PG_SHAPE(ROWS, COLUMNS), weight.value);
        PgTensor *x = pg_sin(iota(PG_SHAPE(rows, COLUMNS))), *out[2];
        PgFunction *function = pg_function(use, weight.tensor, 1, 2);
        CHECK_INT(pg_call(function, &x, out), 0);
        PgTensor *error = pg_abs(pg_sub(out[0], pg_linear(x, plain, NULL)));
        double off = pg_item(pg_max(error, PG_ALL_AXES, false));
        if (!(off < 2e-5 * (double)weight.largest)) CHECK_TEXT(gguf_format(types[i])->name, "near");
        error = pg_abs(pg_sub(out[1], pg_slice(plain, 0, 1, 3, 1)));
        CHECK(pg_item(pg_max(error, PG_ALL_AXES, false)) <= 2e-7 * (double)weight.largest);
        pg_function_free(function);
        pg_scope_end();
    }
}

TEST(used_eagerly) {
    check_use(PG_EAGER, 1);
    check_use(PG_EAGER, 2);
}

TEST(used_in_a_graph) {
    check_use(PG_GRAPH, 1);
    check_use(PG_GRAPH, 2);
}

TEST(used_on_other_targets) {
    if (getenv("PG_ISA")) SKIP("PG_ISA is set: it is tested by the others");
    setenv("PG_ISA", "ref", 1);
    check_use(PG_EAGER, 1);
    setenv("PG_ISA", "c", 1);
    check_use(PG_GRAPH, 1);
    check_use(PG_EAGER, 1);
    unsetenv("PG_ISA");
}

// Kept and viewed, the weights are still the file's bytes: an f32 copy would be live.
TEST(kept_packed) {
    for (int i = 1; i < COUNT_OF(types); i++) {
        pg_scope_begin();
        Packed weight = packed(types[i]);
        int64_t live = buffer_live_bytes();
        pg_scope_begin();
        open_packed(&weight, types[i], 64);
        PgTensor *turned = pg_keep(pg_transpose(weight.tensor, 0, 1));
        pg_scope_end();
        CHECK_INT(buffer_live_bytes(), live);
        CHECK_NEAR(pg_item(pg_select(pg_select(turned, 0, 5), 0, 1)),
                   (double)weight.value[COLUMNS + 5], 2e-7 * (double)weight.largest);
        pg_scope_end();
    }
}

static int released;
static void release(void *owner) { *(int *)owner += 1; }

TEST(released_once) {
    for (size_t beyond = 0; beyond <= 64; beyond += 64) {
        released = 0;
        pg_scope_begin();
        Packed weight = packed(GGUF_Q8_0);
        pg_from_blocks("Q8_0", PG_SHAPE(ROWS, COLUMNS), weight.bytes, beyond, release, &released);
        pg_scope_end();
        CHECK_INT(released, 1);
    }
}

TEST(any_number_of_axes) {
    Packed weight = packed(GGUF_Q6_K);
    pg_scope_begin();
    PgTensor *flat = pg_from_blocks("Q6_K", PG_SHAPE(COUNT), weight.bytes, 64, NULL, NULL);
    PgTensor *many =
        pg_from_blocks("Q6_K", PG_SHAPE(1, 1, 1, 1, 3, 1, 2, 256), weight.bytes, 64, NULL, NULL);
    double off = pg_item(
        pg_max(pg_abs(pg_sub(flat, pg_reshape(many, PG_SHAPE(COUNT)))), PG_ALL_AXES, false));
    CHECK_NEAR(off, 0, 0);
    pg_scope_end();
}

TEST(other_formats) {
    pg_scope_begin();
    CHECK(pg_from_blocks("IQ2_XS", PG_SHAPE(1, 256), "", 0, NULL, NULL) == NULL);
    CHECK(strstr(pg_error(), "IQ2_XS are not supported") != NULL);
    CHECK(pg_from_blocks("Q9", PG_SHAPE(1, 256), "", 0, NULL, NULL) == NULL);
    CHECK_FATAL_TEXT(pg_from_blocks("Q4_0", PG_SHAPE(2, 33), "", 0, NULL, NULL),
                     "a last axis in multiples of 32, got (2, 33)");
    CHECK_FATAL_TEXT(pg_from_blocks("Q4_K", PG_SHAPE(2, 128), "", 0, NULL, NULL),
                     "a last axis in multiples of 256, got (2, 128)");
    pg_scope_end();
}
