/* quantize.c - floats to blocks, in the formats whose codes are rounded and no more.
 * In: the values of a block.  Out: its bytes.
 * Invariant: the very bytes of ggml's reference quantisers for finite input, and codes in range for
 * any other.
 *   Q4_0, the values -4, 1, 2 and zeros  =>  scale -4 / -8 = 0.5, codes 0, 10, 12, 8, ...
 * Source: quantize_row_*_ref of ggml/src/ggml-quants.c.                                          */
#include "io/io.h"
#include "ir/scalar.h"

#include <math.h>
#include <string.h>

void encode_f32(const GgufFormat *format, const float *values, uint8_t *block) {
    memcpy(block, values, (size_t)format->bytes);
}

void encode_f16(const GgufFormat *format, const float *values, uint8_t *block) {
    (void)format;
    block_put_half(block, values[0]);
}

void encode_bf16(const GgufFormat *format, const float *values, uint8_t *block) {
    (void)format;
    uint16_t half = bf16_round(values[0]);
    block[0] = (uint8_t)half;
    block[1] = (uint8_t)(half >> 8);
}

// NaN becomes the lowest code: a conversion out of range would be undefined.
static int code_between(float value, int lowest, int highest) {
    return value > (float)lowest ? value < (float)highest ? (int)value : highest : lowest;
}

static float reciprocal(float scale) { return scale != 0 ? 1 / scale : 0; }

static void put_codes(const GgufFormat *format, const int *codes, uint8_t *block) {
    const BlockLayout *layout = &format->layout;
    block_pack(layout, block_axes(layout), &layout->code, codes, block);
}

void encode_q8_0(const GgufFormat *format, const float *values, uint8_t *block) {
    int codes[BLOCK_LENGTH_MAX];
    float largest = 0;
    for (int i = 0; i < format->length; i++) largest = fmaxf(largest, fabsf(values[i]));
    float scale = largest / 127, inverse = reciprocal(scale);
    memset(block, 0, (size_t)format->bytes);
    block_put_half(block, scale);
    for (int i = 0; i < format->length; i++)
        codes[i] = code_between(roundf(values[i] * inverse), -128, 127);
    put_codes(format, codes, block);
}

// The value of largest magnitude takes code 0, that is -zero, whatever its sign. Codes round half
// up: by adding 0.5 before the cut.
void encode_symmetric(const GgufFormat *format, const float *values, uint8_t *block) {
    int codes[BLOCK_LENGTH_MAX], zero = format->layout.code.zero;
    float largest = 0;
    for (int i = 0; i < format->length; i++)
        if (fabsf(values[i]) > fabsf(largest)) largest = values[i];
    float scale = largest / (float)-zero, inverse = reciprocal(scale), half_up = (float)zero + 0.5f;
    memset(block, 0, (size_t)format->bytes);
    block_put_half(block, scale);
    for (int i = 0; i < format->length; i++)
        codes[i] = code_between(values[i] * inverse + half_up, 0, 2 * zero - 1);
    put_codes(format, codes, block);
}

void encode_ranged(const GgufFormat *format, const float *values, uint8_t *block) {
    int codes[BLOCK_LENGTH_MAX], highest_code = format->type == GGUF_Q4_1 ? 15 : 31;
    float lowest = values[0], highest = values[0];
    for (int i = 1; i < format->length; i++) {
        lowest = fminf(lowest, values[i]);
        highest = fmaxf(highest, values[i]);
    }
    float scale = (highest - lowest) / (float)highest_code, inverse = reciprocal(scale);
    memset(block, 0, (size_t)format->bytes);
    block_put_half(block, scale);
    block_put_half(block + format->layout.offset_at, lowest);
    for (int i = 0; i < format->length; i++)
        codes[i] = code_between((values[i] - lowest) * inverse + 0.5f, 0, highest_code);
    put_codes(format, codes, block);
}
