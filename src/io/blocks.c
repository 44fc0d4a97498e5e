/* blocks.c - the storage formats of GGUF tensors: one row each, and from it values of bytes.
 * In: blocks of bytes as they lie in a file.  Out: floats, and back.
 * Invariant: a row says all that there is to know of a layout. The decoding here, the packing of
 * the encoders (quantize.c, quantize_k.c) and the tensor expression (packed.c) come from it.
 *   Q4_1, 32 values in 20 bytes: f16 scale, f16 offset, 16 bytes; byte i holds the codes of values
 *   i (low half) and i + 16 (high half)
 *       axes 2, 16; code of 4 bits at bit 32, steps 4, 8;    value = scale * code + offset
 *   Q4_K, 256 values: 8 groups of 32, of which groups 2i and 2i + 1 share 32 bytes as low and high
 *   halves; 6 bits of scale and 6 of minimum a group, in two pieces
 *       axes 2, 2, 2, 32;    value = scale * (6 bits) * code - minimum * (6 bits)
 * Source: the block_ structures of ggml/src/ggml-common.h, dequantize_row_ of ggml-quants.c.     */
#include "io/io.h"
#include "ir/scalar.h"

#include <string.h>
#include <strings.h>

enum { NUMBERS_MAX = BLOCK_LENGTH_MAX };

// What the codes of IQ4_NL and IQ4_XS stand for, plus 128: finer steps near zero.
static const uint8_t iq4_values[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                       129, 141, 153, 166, 181, 197, 217, 241};

// clang-format off
static const GgufFormat formats[] = {
    {GGUF_F32, "F32", 1, 4, .encode = encode_f32},
    {GGUF_F16, "F16", 1, 2, .encode = encode_f16},
    {GGUF_BF16, "BF16", 1, 2, .encode = encode_bf16},
    {GGUF_Q8_0, "Q8_0", 32, 34, .layout = {
        .axis = {32},
        .code = {.field = {{8, 16, 0, {8}}}, .is_signed = true}},
     .encode = encode_q8_0},
    {GGUF_Q4_0, "Q4_0", 32, 18, .layout = {
        .axis = {2, 16},
        .code = {.field = {{4, 16, 0, {4, 8}}}, .zero = 8}},
     .encode = encode_symmetric},
    {GGUF_Q4_1, "Q4_1", 32, 20, .layout = {
        .axis = {2, 16},
        .code = {.field = {{4, 32, 0, {4, 8}}}}, .offset_at = 2},
     .encode = encode_ranged},
    {GGUF_Q5_0, "Q5_0", 32, 22, .layout = {
        .axis = {2, 2, 8},
        .code = {.field = {{4, 48, 0, {4, 64, 8}}, {1, 16, 4, {16, 8, 1}}}, .zero = 16}},
     .encode = encode_symmetric},
    {GGUF_Q5_1, "Q5_1", 32, 24, .layout = {
        .axis = {2, 2, 8},
        .code = {.field = {{4, 64, 0, {4, 64, 8}}, {1, 32, 4, {16, 8, 1}}}}, .offset_at = 2},
     .encode = encode_ranged},
    {GGUF_Q2_K, "Q2_K", 256, 84, .layout = {
        .axis = {2, 4, 2, 16}, .groups = 3,
        .code = {.field = {{2, 128, 0, {256, 2, 128, 8}}}},
        .scale = {.field = {{4, 0, 0, {64, 16, 8}}}}, .scale_at = 80,
        .offset = {.field = {{4, 4, 0, {64, 16, 8}}}}, .offset_at = 82, .is_negative = true},
     .encode = encode_q2_k},
    {GGUF_Q3_K, "Q3_K", 256, 110, .layout = {
        .axis = {2, 2, 2, 2, 16}, .groups = 4,
        .code = {.field = {{2, 256, 0, {256, 4, 2, 128, 8}}, {1, 0, 2, {4, 2, 1, 128, 8}}},
                 .zero = 4},
        .scale = {.field = {{4, 768, 0, {4, 32, 16, 8}}, {2, 832, 4, {4, 2, 16, 8}}}, .zero = 32},
        .scale_at = 108},
     .encode = encode_q3_k},
    {GGUF_Q4_K, "Q4_K", 256, 144, .layout = {
        .axis = {2, 2, 2, 32}, .groups = 3,
        .code = {.field = {{4, 128, 0, {512, 256, 4, 8}}}},
        .scale = {.field = {{4, 32, 0, {64, 16, 8}}, {2, 36, 4, {2, 16, 8}}}},
        .offset = {.field = {{4, 64, 0, {36, 16, 8}}, {2, 68, 4, {2, 16, 8}}}},
        .offset_at = 2, .is_negative = true},
     .encode = encode_q4_k},
    {GGUF_Q5_K, "Q5_K", 256, 176, .layout = {
        .axis = {2, 2, 2, 32}, .groups = 3,
        .code = {.field = {{4, 384, 0, {512, 256, 4, 8}}, {1, 128, 4, {4, 2, 1, 8}}}},
        .scale = {.field = {{4, 32, 0, {64, 16, 8}}, {2, 36, 4, {2, 16, 8}}}},
        .offset = {.field = {{4, 64, 0, {36, 16, 8}}, {2, 68, 4, {2, 16, 8}}}},
        .offset_at = 2, .is_negative = true},
     .encode = encode_q5_k},
    {GGUF_Q6_K, "Q6_K", 256, 210, .layout = {
        .axis = {2, 2, 2, 2, 16}, .groups = 4,
        .code = {.field = {{4, 0, 0, {512, 4, 256, 128, 8}}, {2, 1024, 4, {256, 4, 2, 128, 8}}},
                 .zero = 32},
        .scale = {.field = {{8, 1536, 0, {64, 32, 16, 8}}}, .is_signed = true}, .scale_at = 208},
     .encode = encode_q6_k},
    {GGUF_IQ4_NL, "IQ4_NL", 32, 18, .layout = {
        .axis = {2, 16},
        .code = {.field = {{4, 16, 0, {4, 8}}}, .table = iq4_values, .zero = 128}},
     .encode = encode_iq4_nl},
    {GGUF_IQ4_XS, "IQ4_XS", 256, 136, .layout = {
        .axis = {2, 2, 2, 2, 16}, .groups = 3,
        .code = {.field = {{4, 64, 0, {512, 256, 128, 4, 8}}}, .table = iq4_values, .zero = 128},
        .scale = {.field = {{4, 32, 0, {16, 8, 4}}, {2, 16, 4, {8, 4, 2}}}, .zero = 32}},
     .encode = encode_iq4_xs},
    {.type = 9, .name = "Q8_1"}, {.type = 15, .name = "Q8_K"}, {.type = 16, .name = "IQ2_XXS"},
    {.type = 17, .name = "IQ2_XS"}, {.type = 18, .name = "IQ3_XXS"}, {.type = 19, .name = "IQ1_S"},
    {.type = 21, .name = "IQ3_S"}, {.type = 22, .name = "IQ2_S"}, {.type = 24, .name = "I8"},
    {.type = 25, .name = "I16"}, {.type = 26, .name = "I32"}, {.type = 27, .name = "I64"},
    {.type = 28, .name = "F64"}, {.type = 29, .name = "IQ1_M"}, {.type = 34, .name = "TQ1_0"},
    {.type = 35, .name = "TQ2_0"}, {.type = 39, .name = "MXFP4"},
};
// clang-format on

const GgufFormat *gguf_format(int64_t type) {
    for (int i = 0; i < COUNT_OF(formats); i++) {
        if (formats[i].type == type) return &formats[i];
    }
    return NULL;
}

const GgufFormat *gguf_format_named(const char *name) {
    for (int i = 0; i < COUNT_OF(formats); i++) {
        if (strcasecmp(formats[i].name, name) == 0) return &formats[i];
    }
    return NULL;
}

int block_axes(const BlockLayout *layout) {
    int axes = 0;
    while (axes < BLOCK_AXES && layout->axis[axes]) axes++;
    return axes;
}

// ---- fields ------------------------------------------------------------------------------------
// The bit at which each index of the first `axes` axes has the field; their count. From the last
// index to the first, since indices of one axis more take the places of those before.
static int field_places(const BlockLayout *layout, int axes, const BlockField *field, int *bit) {
    int count = 1;
    bit[0] = field->at;
    for (int axis = 0; axis < axes; axis++) {
        int size = layout->axis[axis];
        for (int i = count - 1; i >= 0; i--) {
            for (int j = size - 1; j >= 0; j--) bit[size * i + j] = bit[i] + j * field->step[axis];
        }
        count *= size;
    }
    return count;
}

static int field_mask(const BlockField *field) { return (1 << field->bits) - 1; }

static int number_meant(const BlockNumber *number, int bits) {
    if (number->table) bits = number->table[bits];
    return (number->is_signed ? (int8_t)bits : bits) - number->zero;
}

void block_unpack(const BlockLayout *layout, int axes, const BlockNumber *number,
                  const uint8_t *block, int *numbers) {
    int bit[NUMBERS_MAX], count = 0;
    for (int f = 0; f < 2 && number->field[f].bits; f++) {
        const BlockField *field = &number->field[f];
        count = field_places(layout, axes, field, bit);
        for (int i = 0; i < count; i++) {
            int bits = (block[bit[i] / 8] >> bit[i] % 8 & field_mask(field)) << field->up;
            numbers[i] = f ? numbers[i] | bits : bits;
        }
    }
    for (int i = 0; i < count; i++) numbers[i] = number_meant(number, numbers[i]);
}

void block_pack(const BlockLayout *layout, int axes, const BlockNumber *number, const int *numbers,
                uint8_t *block) {
    int bit[NUMBERS_MAX];
    for (int f = 0; f < 2 && number->field[f].bits; f++) {
        const BlockField *field = &number->field[f];
        int count = field_places(layout, axes, field, bit);
        for (int i = 0; i < count; i++) {
            int bits = numbers[i] >> field->up & field_mask(field);
            block[bit[i] / 8] |= (uint8_t)(bits << bit[i] % 8);
        }
    }
}

static uint16_t word_at(const uint8_t *at) { return (uint16_t)(at[0] | at[1] << 8); }

float block_half(const uint8_t *at) { return f16_widen(word_at(at)); }

void block_put_half(uint8_t *at, float value) {
    uint16_t half = f16_round(value);
    at[0] = (uint8_t)half;
    at[1] = (uint8_t)(half >> 8);
}

// ---- decoding ----------------------------------------------------------------------------------
static void decode_plain(const GgufFormat *format, const uint8_t *blocks, float *values,
                         int64_t count) {
    if (format->type == GGUF_F32) memcpy(values, blocks, (size_t)count * sizeof *values);
    if (format->type == GGUF_F16) {
        for (int64_t i = 0; i < count; i++) values[i] = block_half(blocks + 2 * i);
    }
    if (format->type == GGUF_BF16) {
        for (int64_t i = 0; i < count; i++) values[i] = bf16_widen(word_at(blocks + 2 * i));
    }
}

static void decode_block(const GgufFormat *format, const uint8_t *block, float *values) {
    const BlockLayout *layout = &format->layout;
    int code[NUMBERS_MAX], scale[NUMBERS_MAX] = {1}, offset[NUMBERS_MAX] = {1}, groups = 1;
    for (int axis = 0; axis < layout->groups; axis++) groups *= layout->axis[axis];
    block_unpack(layout, block_axes(layout), &layout->code, block, code);
    block_unpack(layout, layout->groups, &layout->scale, block, scale);
    block_unpack(layout, layout->groups, &layout->offset, block, offset);
    float unit = block_half(block + layout->scale_at), offset_unit = 0;
    if (layout->offset_at) offset_unit = block_half(block + layout->offset_at);
    if (layout->is_negative) offset_unit = -offset_unit;
    for (int group = 0, each = format->length / groups; group < groups; group++) {
        float by = unit * (float)scale[group], plus = offset_unit * (float)offset[group];
        for (int i = group * each; i < (group + 1) * each; i++)
            values[i] = by * (float)code[i] + plus;
    }
}

void gguf_decode(const GgufFormat *format, const uint8_t *blocks, float *values, int64_t count) {
    if (!format->layout.axis[0]) {
        decode_plain(format, blocks, values, count);
        return;
    }
    for (int64_t i = 0; i < count; i += format->length, blocks += format->bytes)
        decode_block(format, blocks, values + i);
}

void gguf_encode(const GgufFormat *format, const float *values, uint8_t *blocks, int64_t count) {
    for (int64_t i = 0; i < count; i += format->length, blocks += format->bytes)
        format->encode(format, values + i, blocks);
}
