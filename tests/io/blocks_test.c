/* blocks_test.c - the storage formats: f16 and bf16 by exhaustion, others against ggml's. */
#include "helpers.h"
#include "ir/scalar.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

TEST(f16_survives_f32) {
    for (int bits = 0; bits < 0x10000; bits++) {
        float value = f16_widen((uint16_t)bits);
        int wanted = isnan(value) ? bits | 0x200 : bits;  // a NaN comes back quiet
        if (f16_round(value) != wanted) CHECK_INT(f16_round(value), wanted);
    }
}

TEST(f16_has_the_known_values) {
    CHECK_NEAR(f16_widen(0x3c00), 1, 0);
    CHECK_NEAR(f16_widen(0xc000), -2, 0);
    CHECK_NEAR(f16_widen(0x7bff), 65504, 0);
    CHECK_NEAR(f16_widen(0x0001), 0x1p-24, 0);
    CHECK(isinf(f16_widen(0xfc00)));
    CHECK_INT(f16_round(65519.996f), 0x7bff);
    CHECK_INT(f16_round(65520), 0x7c00);
    CHECK_INT(f16_round(-INFINITY), 0xfc00);
    CHECK_INT(f16_round(0x1p-25f), 0);
    CHECK_INT(f16_round(-0x1.8p-25f), 0x8001);
    CHECK(isnan(f16_widen(f16_round(NAN))));
}

// Between any two neighbours: the middle goes to the even one, a hair off the middle to the nearer.
TEST(f16_rounds_to_nearest_even) {
    for (int bits = 0; bits < 0x7bff; bits++) {
        float middle = (f16_widen((uint16_t)bits) + f16_widen((uint16_t)(bits + 1))) / 2;
        int even = bits + (bits & 1);
        bool right = f16_round(middle) == even && f16_round(nextafterf(middle, 0)) == bits &&
                     f16_round(nextafterf(middle, INFINITY)) == bits + 1 &&
                     f16_round(-middle) == (even | 0x8000);
        if (!right) CHECK_INT(f16_round(middle), even);
    }
}

TEST(bf16_survives_f32_and_rounds_to_nearest_even) {
    for (int bits = 0; bits < 0x7f80; bits++) {
        float value = bf16_widen((uint16_t)bits), next = bf16_widen((uint16_t)(bits + 1));
        bool right = bf16_round(value) == bits && bf16_round(-value) == (bits | 0x8000);
        float middle = value + (next - value) / 2;
        if (bits < 0x7f7f && bf16_round(middle) != bits + (bits & 1)) right = false;
        if (!right) CHECK_INT(bf16_round(value), bits);
    }
    CHECK_INT(bf16_round(INFINITY), 0x7f80);
    CHECK_INT(bf16_round(3.4e38f), 0x7f80);
    CHECK(isnan(bf16_widen(bf16_round(NAN))));
}

static uint8_t *from_hex(Arena *arena, const char *hex) {
    uint8_t *bytes = arena_alloc(arena, strlen(hex) / 2);
    for (size_t i = 0; i < strlen(hex) / 2; i++) {
        bytes[i] = (uint8_t)strtol((char[]){hex[2 * i], hex[2 * i + 1], 0}, NULL, 16);
    }
    return bytes;
}

TEST(encoded_blocks_are_ggmls) {
    enum { ROW = 256 };
    Arena *arena = arena_new();
    Lines lines = golden_lines(arena, "blocks.txt");
    const float *row = NULL;
    int checked = 0;
    for (int i = 0; i < lines.count; i++) {
        char name[8], *text = arena_alloc(arena, 8 * ROW + 1);
        CHECK_INT(sscanf(terminated(arena, lines.at[i]), "%7s %2048s", name, text), 2);
        const GgufFormat *format = gguf_format_named(name);
        if (!format) {
            row = (const float *)from_hex(arena, text);
            continue;
        }
        size_t bytes = (size_t)(ROW / format->length * format->bytes);
        uint8_t *got = arena_alloc(arena, bytes);
        gguf_encode(format, row, got, ROW);
        const char *sum = short_sum(arena, (Text){.at = (char *)got, .count = bytes});
        if (strcmp(sum, text)) CHECK_TEXT(arena_print(arena, "line %d, %s", i + 1, name), text);
        checked++;
    }
    CHECK_INT(checked, 12 * 14);
    arena_free(arena);
}

// Exactly, but for 0 and -0: an offset of 0 is added here and not there.
TEST(decoded_blocks_are_the_gguf_packages) {
    enum { VALUES = 256 };
    Arena *arena = arena_new();
    Lines lines = golden_lines(arena, "decoded.txt");
    CHECK_INT(lines.count, 12);
    for (int i = 0; i < lines.count; i++) {
        char name[8], *blocks = arena_alloc(arena, 1000), *wanted = arena_alloc(arena, 3000);
        CHECK_INT(sscanf(terminated(arena, lines.at[i]), "%7s %999s %2999s", name, blocks, wanted),
                  3);
        const GgufFormat *format = gguf_format_named(name);
        float got[VALUES];
        CHECK_INT((int64_t)strlen(blocks) / 2, VALUES / format->length * format->bytes);
        gguf_decode(format, from_hex(arena, blocks), got, VALUES);
        const float *values = (const float *)from_hex(arena, wanted);
        for (int j = 0; j < VALUES; j++)
            if (got[j] != values[j]) CHECK_TEXT(name, arena_print(arena, "%a", got[j]));
    }
    arena_free(arena);
}

TEST(packing_undoes_unpacking) {
    uint8_t block[BLOCK_BYTES_MAX], again[BLOCK_BYTES_MAX] = {0};
    int numbers[BLOCK_LENGTH_MAX];
    for (int i = 0; i < COUNT_OF(block); i++) block[i] = (uint8_t)(i * 89 + i / 7) | 1;
    for (int type = 0; type < 64; type++) {
        const GgufFormat *format = gguf_format(type);
        if (!format || !format->layout.axis[0]) continue;
        BlockLayout layout = format->layout;
        memset(again, 0, sizeof again);
        BlockNumber *const all[] = {&layout.code, &layout.scale, &layout.offset};
        for (int i = 0; i < COUNT_OF(all); i++) {
            all[i]->table = NULL, all[i]->is_signed = false, all[i]->zero = 0;
            int axes = i ? layout.groups : block_axes(&layout);
            block_unpack(&layout, axes, all[i], block, numbers);
            block_pack(&layout, axes, all[i], numbers, again);
        }
        // Every byte belongs to a number, but for those of the f16 scales.
        int same = 0, halves = layout.offset_at ? 4 : 2;
        for (int i = 0; i < format->bytes; i++) same += block[i] == again[i];
        CHECK_INT(same, format->bytes - halves);
    }
}

TEST(decoding_is_scale_times_code) {
    float values[32];
    uint8_t block[34] = {0, 0x38, 0, 0x3c};  // f16: 0.5 and 1
    block[4] = 0xf3;
    gguf_decode(gguf_format(GGUF_Q4_1), block, values, 32);
    CHECK_NEAR(values[0], 0.5 * 3 + 1, 0);
    CHECK_NEAR(values[16], 0.5 * 15 + 1, 0);
    CHECK_NEAR(values[1], 1, 0);
    memmove(block + 2, block + 4, 16);
    gguf_decode(gguf_format(GGUF_Q4_0), block, values, 32);
    CHECK_NEAR(values[0], 0.5 * (3 - 8), 0);
    CHECK_NEAR(values[16], 0.5 * (15 - 8), 0);
    gguf_decode(gguf_format(GGUF_Q8_0), block, values, 32);
    CHECK_NEAR(values[0], 0.5 * (int8_t)0xf3, 0);
}

// Values from -3 to 3, and so a step of 6 over the number of codes; twice that at the ends.
TEST(encoding_loses_little) {
    float values[BLOCK_LENGTH_MAX], back[BLOCK_LENGTH_MAX];
    uint8_t blocks[sizeof values];
    for (int i = 0; i < COUNT_OF(values); i++) values[i] = sinf((float)i) * 3;
    for (int type = 0; type < 64; type++) {
        const GgufFormat *format = gguf_format(type);
        if (!format || !format->encode) continue;
        gguf_encode(format, values, blocks, COUNT_OF(values));
        gguf_decode(format, blocks, back, COUNT_OF(values));
        int bits = 8 * format->bytes / format->length;
        double step = bits == 32 ? 0 : bits == 16 ? 0.02 : 12 / exp2(bits);
        for (int i = 0; i < COUNT_OF(values); i++) CHECK_NEAR(back[i], values[i], step);
    }
}

// No conversion of a float to an integer may be out of range: the sanitizers watch.
TEST(encoding_takes_any_bits) {
    float values[BLOCK_LENGTH_MAX] = {NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1e-45f, 0, -0.0f};
    uint8_t blocks[sizeof values];
    for (int round = 0; round < 3; round++) {
        for (int type = 0; type < 64; type++) {
            const GgufFormat *format = gguf_format(type);
            if (format && format->encode) gguf_encode(format, values, blocks, COUNT_OF(values));
        }
        values[0] = 1e-45f;
        if (round) values[1] = values[2] = values[3] = values[4] = 2e-45f;
    }
}

TEST(a_type_without_a_number_is_null) {
    CHECK(!gguf_format(-1));
    CHECK(!gguf_format(4));
    CHECK(!gguf_format(INT64_MAX));
    CHECK_TEXT(gguf_format(16)->name, "IQ2_XXS");
    CHECK_INT(gguf_format(16)->length, 0);
    CHECK_TEXT(gguf_format_named("q4_k")->name, "Q4_K");
    CHECK(!gguf_format_named("q4"));
}
