/* blocks_test.c - packed weights beside the reader of the file format, whole and in use. */
#include "io/io.h"
#include "runtime/runtime.h"
#include "values.h"

#include <math.h>
#include <string.h>

enum { ROWS = 3, COLUMNS = 64, COUNT = ROWS * COLUMNS };

static const int types[] = {GGUF_F32, GGUF_F16, GGUF_BF16, GGUF_Q8_0, GGUF_Q4_0, GGUF_Q4_1};

typedef struct {
    uint8_t bytes[COUNT * 4 + 64];
    float value[COUNT];  // what the bytes say
    size_t size;
    PgTensor *tensor;
} Packed;

static Packed packed(int type) {
    const GgufFormat *format = gguf_format(type);
    Packed result = {.size = (size_t)(COUNT / format->length * format->bytes)};
    float value[COUNT];
    for (int i = 0; i < COUNT; i++) value[i] = sinf((float)(i * i)) * (float)(1 + i / 32);
    format->encode(value, result.bytes, COUNT);
    format->decode(result.bytes, result.value, COUNT);
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
                CHECK_NEAR(got[j], weight.value[j], 1e-6 * fabs((double)weight.value[j]));
            pg_scope_end();
        }
    }
}

static void use(void *context, PgTensor **in, PgTensor **out) {
    PgTensor *weight = context;
    out[0] = pg_linear(in[0], weight, NULL);
    out[1] = pg_embedding(weight, pg_arange(PG_I64, 1, 3, 1));
}

static void check_use(PgMode mode) {
    pg_set_mode(mode);
    for (int i = 0; i < COUNT_OF(types); i++) {
        pg_scope_begin();
        Packed weight = packed(types[i]);
        open_packed(&weight, types[i], 64);
        PgTensor *plain = pg_from_data(PG_F32, PG_SHAPE(ROWS, COLUMNS), weight.value);
        PgTensor *x = pg_sin(iota(PG_SHAPE(2, COLUMNS))), *out[2];
        PgFunction *function = pg_function(use, weight.tensor, 1, 2);
        CHECK_INT(pg_call(function, &x, out), 0);
        PgTensor *error = pg_abs(pg_sub(out[0], pg_linear(x, plain, NULL)));
        CHECK(pg_item(pg_max(error, PG_ALL_AXES, false)) < 2e-5);
        error = pg_abs(pg_sub(out[1], pg_slice(plain, 0, 1, 3, 1)));
        CHECK(pg_item(pg_max(error, PG_ALL_AXES, false)) < 1e-6);
        pg_function_free(function);
        pg_scope_end();
    }
}

TEST(used_eagerly) { check_use(PG_EAGER); }

TEST(used_in_a_graph) { check_use(PG_GRAPH); }

// Kept and viewed, the weights are still the file's bytes: an f32 copy would be live.
TEST(kept_packed) {
    pg_scope_begin();
    Packed weight = packed(GGUF_Q4_1);
    int64_t live = buffer_live_bytes();
    pg_scope_begin();
    open_packed(&weight, GGUF_Q4_1, 64);
    PgTensor *turned = pg_keep(pg_transpose(weight.tensor, 0, 1));
    pg_scope_end();
    CHECK_INT(buffer_live_bytes(), live);
    CHECK_VALUES(pg_select(pg_select(turned, 0, 5), 0, 1), (double)weight.value[COLUMNS + 5]);
    pg_scope_end();
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

TEST(other_formats) {
    pg_scope_begin();
    CHECK(pg_from_blocks("Q6_K", PG_SHAPE(1, 32), "", 0, NULL, NULL) == NULL);
    CHECK(strstr(pg_error(), "Q6_K are not supported") != NULL);
    CHECK_FATAL_TEXT(pg_from_blocks("Q4_0", PG_SHAPE(2, 33), "", 0, NULL, NULL),
                     "a last axis in multiples of 32, got (2, 33)");
    pg_scope_end();
}
