/* blocks.c - the storage formats of GGUF tensors, to and from f32.
 * In: blocks of bytes as they lie in a file.  Out: floats, and back.
 * Invariant: decode gives scale * code + offset in f32; encode gives the very bytes of ggml's
 * reference quantisers for finite input, and codes in range for any other.
 *   Q4_0, 32 values in 18 bytes:  f16 scale | 16 bytes;              scale * (code - 8)
 *   Q4_1, 32 values in 20 bytes:  f16 scale, f16 minimum | 16 bytes; scale * code + minimum
 *   Q8_0, 32 values in 34 bytes:  f16 scale | 32 signed bytes;       scale * code
 * Byte i of the 16 holds the codes of values i (low half) and i + 16 (high half).                */
#include "io/io.h"
#include "ir/scalar.h"
#include <math.h>
#include <string.h>

enum { LENGTH = 32, HALF = LENGTH / 2 };  // values in a block of each of the Q formats

static uint16_t half_at(const uint8_t *bytes) { return (uint16_t)(bytes[0] | bytes[1] << 8); }

static void half_put(uint8_t *bytes, uint16_t half) {
    bytes[0] = (uint8_t)half;
    bytes[1] = (uint8_t)(half >> 8);
}

static void decode_f32(const uint8_t *blocks, float *values, int64_t count) {
    memcpy(values, blocks, (size_t)count * sizeof *values);
}

static void encode_f32(const float *values, uint8_t *blocks, int64_t count) {
    memcpy(blocks, values, (size_t)count * sizeof *values);
}

static void decode_f16(const uint8_t *blocks, float *values, int64_t count) {
    for (int64_t i = 0; i < count; i++) values[i] = f16_widen(half_at(blocks + 2 * i));
}

static void encode_f16(const float *values, uint8_t *blocks, int64_t count) {
    for (int64_t i = 0; i < count; i++) half_put(blocks + 2 * i, f16_round(values[i]));
}

static void decode_bf16(const uint8_t *blocks, float *values, int64_t count) {
    for (int64_t i = 0; i < count; i++) values[i] = bf16_widen(half_at(blocks + 2 * i));
}

static void encode_bf16(const float *values, uint8_t *blocks, int64_t count) {
    for (int64_t i = 0; i < count; i++) half_put(blocks + 2 * i, bf16_round(values[i]));
}

// NaN becomes the lowest code: a conversion out of range would be undefined.
static int code_between(float value, int lowest, int highest) {
    return value > (float)lowest ? value < (float)highest ? (int)value : highest : lowest;
}

static float reciprocal(float scale) { return scale != 0 ? 1 / scale : 0; }

static void decode_q8_0(const uint8_t *blocks, float *values, int64_t count) {
    for (; count > 0; count -= LENGTH, blocks += 2 + LENGTH, values += LENGTH) {
        float scale = f16_widen(half_at(blocks));
        for (int i = 0; i < LENGTH; i++) values[i] = scale * (float)(int8_t)blocks[2 + i];
    }
}

static void encode_q8_0(const float *values, uint8_t *blocks, int64_t count) {
    for (; count > 0; count -= LENGTH, blocks += 2 + LENGTH, values += LENGTH) {
        float largest = 0;
        for (int i = 0; i < LENGTH; i++) largest = fmaxf(largest, fabsf(values[i]));
        float scale = largest / 127, inverse = reciprocal(scale);
        half_put(blocks, f16_round(scale));
        for (int i = 0; i < LENGTH; i++) {
            blocks[2 + i] = (uint8_t)code_between(roundf(values[i] * inverse), -128, 127);
        }
    }
}

static void decode_q4(const uint8_t *codes, float *values, float scale, float minimum, int zero) {
    for (int i = 0; i < HALF; i++) {
        values[i] = scale * (float)((codes[i] & 15) - zero) + minimum;
        values[i + HALF] = scale * (float)((codes[i] >> 4) - zero) + minimum;
    }
}

// Codes round half up: by adding 0.5 before the cut, so a zero point of 8 adds 8.5.
static void encode_q4(const float *values, uint8_t *codes, float inverse, float minimum,
                      float shift) {
    for (int i = 0; i < HALF; i++) {
        int low = code_between((values[i] - minimum) * inverse + shift, 0, 15);
        int high = code_between((values[i + HALF] - minimum) * inverse + shift, 0, 15);
        codes[i] = (uint8_t)(low | high << 4);
    }
}

static void decode_q4_0(const uint8_t *blocks, float *values, int64_t count) {
    for (; count > 0; count -= LENGTH, blocks += 2 + HALF, values += LENGTH) {
        decode_q4(blocks + 2, values, f16_widen(half_at(blocks)), 0, 8);
    }
}

// The value of largest magnitude takes code 0, that is -8, whatever its sign.
static void encode_q4_0(const float *values, uint8_t *blocks, int64_t count) {
    for (; count > 0; count -= LENGTH, blocks += 2 + HALF, values += LENGTH) {
        float largest = 0;
        for (int i = 0; i < LENGTH; i++) {
            if (fabsf(values[i]) > fabsf(largest)) largest = values[i];
        }
        float scale = largest / -8;
        half_put(blocks, f16_round(scale));
        encode_q4(values, blocks + 2, reciprocal(scale), 0, 8.5f);
    }
}

static void decode_q4_1(const uint8_t *blocks, float *values, int64_t count) {
    for (; count > 0; count -= LENGTH, blocks += 4 + HALF, values += LENGTH) {
        decode_q4(blocks + 4, values, f16_widen(half_at(blocks)), f16_widen(half_at(blocks + 2)),
                  0);
    }
}

static void encode_q4_1(const float *values, uint8_t *blocks, int64_t count) {
    for (; count > 0; count -= LENGTH, blocks += 4 + HALF, values += LENGTH) {
        float lowest = values[0], highest = values[0];
        for (int i = 1; i < LENGTH; i++) {
            lowest = fminf(lowest, values[i]);
            highest = fmaxf(highest, values[i]);
        }
        float scale = (highest - lowest) / 15;
        half_put(blocks, f16_round(scale));
        half_put(blocks + 2, f16_round(lowest));
        encode_q4(values, blocks + 4, reciprocal(scale), lowest, 0.5f);
    }
}

static const GgufFormat formats[] = {
    {GGUF_F32, "F32", 1, 4, decode_f32, encode_f32},
    {GGUF_F16, "F16", 1, 2, decode_f16, encode_f16},
    {GGUF_BF16, "BF16", 1, 2, decode_bf16, encode_bf16},
    {GGUF_Q8_0, "Q8_0", LENGTH, 2 + LENGTH, decode_q8_0, encode_q8_0},
    {GGUF_Q4_0, "Q4_0", LENGTH, 2 + HALF, decode_q4_0, encode_q4_0},
    {GGUF_Q4_1, "Q4_1", LENGTH, 4 + HALF, decode_q4_1, encode_q4_1},
    {.type = 6, .name = "Q5_0"},
    {.type = 7, .name = "Q5_1"},
    {.type = 9, .name = "Q8_1"},
    {.type = 10, .name = "Q2_K"},
    {.type = 11, .name = "Q3_K"},
    {.type = 12, .name = "Q4_K"},
    {.type = 13, .name = "Q5_K"},
    {.type = 14, .name = "Q6_K"},
    {.type = 15, .name = "Q8_K"},
    {.type = 16, .name = "IQ2_XXS"},
    {.type = 17, .name = "IQ2_XS"},
    {.type = 18, .name = "IQ3_XXS"},
    {.type = 19, .name = "IQ1_S"},
    {.type = 20, .name = "IQ4_NL"},
    {.type = 21, .name = "IQ3_S"},
    {.type = 22, .name = "IQ2_S"},
    {.type = 23, .name = "IQ4_XS"},
    {.type = 24, .name = "I8"},
    {.type = 25, .name = "I16"},
    {.type = 26, .name = "I32"},
    {.type = 27, .name = "I64"},
    {.type = 28, .name = "F64"},
    {.type = 29, .name = "IQ1_M"},
    {.type = 34, .name = "TQ1_0"},
    {.type = 35, .name = "TQ2_0"},
    {.type = 39, .name = "MXFP4"},
};

const GgufFormat *gguf_format(int64_t type) {
    for (int i = 0; i < COUNT_OF(formats); i++) {
        if (formats[i].type == type) return &formats[i];
    }
    return NULL;
}
