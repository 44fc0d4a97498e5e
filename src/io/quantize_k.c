/* quantize_k.c - floats to blocks, in the formats whose scales are searched for: Q2_K to Q6_K, and
 * IQ4_NL and IQ4_XS, whose codes stand for values of a table.
 * In: the values of a block.  Out: its bytes.
 * Invariant: the very bytes of ggml's quantisers without an importance matrix for finite input
 * whose squares are finite, and codes in range for any other. So every sum is made in their order.
 *   A group of Q4_K: codes for 21 scales around (highest - lowest) / 15 are tried; for each the
 *   least squares' scale and minimum are found, and the pair with the smallest error is kept. Then
 *   the groups' scales and minimums are rounded to 6 bits, and codes are made anew with these.
 * Source: make_qkx2_quants, make_qx_quants, make_q3_quants, quantize_row_*_K_ref and
 * quantize_row_iq4_nl_impl of ggml/src/ggml-quants.c.                                            */
#include "io/io.h"

#include <math.h>
#include <string.h>

enum { GROUPS_MAX = 16, IQ4_CODES = 16 };
static const float smallest = 1e-15f;  // a largest magnitude below it counts as 0

// To nearest, ties to even, of numbers below 2^22: 1.5 * 2^23 leaves no bits for a fraction. Any
// other number gives some integer.
static int nearest(float value) {
    uint32_t bits;
    float moved = value + 0x1.8p23f;
    memcpy(&bits, &moved, sizeof bits);
    return (int)(bits & 0x7fffff) - 0x400000;
}

static int between(int number, int lowest, int highest) {
    return number < lowest ? lowest : number > highest ? highest : number;
}

static float largest_magnitude(const float *x, int count) {  // with its sign
    float largest = 0;
    for (int i = 0; i < count; i++)
        if (fabsf(x[i]) > fabsf(largest)) largest = x[i];
    return largest;
}

static void put_codes(const GgufFormat *format, const int *codes, uint8_t *block) {
    block_pack(&format->layout, block_axes(&format->layout), &format->layout.code, codes, block);
}

// ---- a scale and a minimum: value = scale * code - minimum -------------------------------------
typedef struct {
    int length, highest;  // values of a group; codes are 0 to highest
    float first, step;    // tried: highest + first, highest + first + step, ... steps in the range
    int steps;
    bool absolute;  // errors count as they are, else squared
} Search;

typedef struct {
    const Search *search;
    const float *x, *weight;
    float weights, sum;  // of the weights; of weight * x
} Group;

static void codes_of(const Group *group, float inverse, float lowest, int *codes) {
    for (int i = 0; i < group->search->length; i++) {
        int code = nearest(inverse * (group->x[i] - lowest));
        codes[i] = between(code, 0, group->search->highest);
    }
}

static float error_of(const Group *group, float scale, float lowest, const int *codes) {
    float error = 0;
    for (int i = 0; i < group->search->length; i++) {
        float off = scale * (float)codes[i] + lowest - group->x[i];
        off = group->search->absolute ? fabsf(off) : off * off;
        error += group->weight[i] * off;
    }
    return error;
}

// The weighted least squares' scale and lowest value for these codes; false if they are all equal.
static bool fit(const Group *group, const int *codes, float *scale, float *lowest) {
    float sum = 0, squares = 0, products = 0;
    for (int i = 0; i < group->search->length; i++) {
        float code = (float)codes[i], weighted = group->weight[i] * code;
        sum += weighted;
        squares += weighted * code;
        products += weighted * group->x[i];
    }
    float determinant = group->weights * squares - sum * sum;
    if (!(determinant > 0)) return false;
    *scale = (group->weights * products - group->sum * sum) / determinant;
    *lowest = (squares * group->sum - sum * products) / determinant;
    if (*lowest > 0) {
        *lowest = 0;
        *scale = products / squares;
    }
    return true;
}

static float fit_range(const Search *search, const float *x, const float *weight, int *codes,
                       float *minimum) {
    Group group = {search, x, weight, weight[0], weight[0] * x[0]};
    float lowest = x[0], highest = x[0], top = (float)search->highest;
    for (int i = 1; i < search->length; i++) {
        if (x[i] < lowest) lowest = x[i];
        if (x[i] > highest) highest = x[i];
        group.weights += weight[i];
        group.sum += weight[i] * x[i];
    }
    if (lowest > 0) lowest = 0;
    memset(codes, 0, (size_t)search->length * sizeof *codes);
    *minimum = -lowest;
    if (highest == lowest) return 0;
    float inverse = top / (highest - lowest), scale = 1 / inverse;
    codes_of(&group, inverse, lowest, codes);
    float best = error_of(&group, scale, lowest, codes);
    for (int step = 0; step <= search->steps; step++) {
        int tried[BLOCK_LENGTH_MAX];
        float its_scale, its_lowest;
        inverse = (search->first + search->step * (float)step + top) / (highest - lowest);
        codes_of(&group, inverse, lowest, tried);
        if (!fit(&group, tried, &its_scale, &its_lowest)) continue;
        float error = error_of(&group, its_scale, its_lowest, tried);
        if (!(error < best)) continue;
        memcpy(codes, tried, (size_t)search->length * sizeof *codes);
        best = error;
        scale = its_scale;
        lowest = its_lowest;
    }
    *minimum = -lowest;
    return scale;
}

// Codes for the scales as they were rounded; a group whose scale became 0 keeps what it had.
static void codes_again(const GgufFormat *format, const Search *search, const float *values,
                        const uint8_t *block, int *codes) {
    const BlockLayout *layout = &format->layout;
    int scale[GROUPS_MAX], minimum[GROUPS_MAX], groups = format->length / search->length;
    block_unpack(layout, layout->groups, &layout->scale, block, scale);
    block_unpack(layout, layout->groups, &layout->offset, block, minimum);
    float unit = block_half(block + layout->scale_at);
    float offset_unit = block_half(block + layout->offset_at);
    for (int group = 0; group < groups; group++) {
        float by = unit * (float)scale[group], less = offset_unit * (float)minimum[group];
        if (by == 0) continue;
        for (int i = group * search->length; i < (group + 1) * search->length; i++)
            codes[i] = between(nearest((values[i] + less) / by), 0, search->highest);
    }
}

static float largest_of(const float *x, int count) {
    float largest = 0;
    for (int i = 0; i < count; i++)
        if (x[i] > largest) largest = x[i];
    return largest;
}

void encode_q2_k(const GgufFormat *format, const float *values, uint8_t *block) {
    static const Search search = {16, 3, -0.5f, 0.1f, 15, true};
    const BlockLayout *layout = &format->layout;
    float scale[GROUPS_MAX], minimum[GROUPS_MAX], weight[16];
    int codes[BLOCK_LENGTH_MAX], scales[GROUPS_MAX] = {0}, minimums[GROUPS_MAX] = {0};
    for (int group = 0; group < 16; group++) {
        const float *x = values + 16 * group;
        for (int i = 0; i < 16; i++) weight[i] = fabsf(x[i]);
        scale[group] = fit_range(&search, x, weight, codes + 16 * group, &minimum[group]);
    }
    float top_scale = largest_of(scale, 16), top_minimum = largest_of(minimum, 16);
    for (int group = 0; group < 16; group++) {
        if (top_scale > 0) scales[group] = nearest(15 / top_scale * scale[group]);
        if (top_minimum > 0) minimums[group] = nearest(15 / top_minimum * minimum[group]);
    }
    memset(block, 0, (size_t)format->bytes);
    block_put_half(block + layout->scale_at, top_scale / 15);
    block_put_half(block + layout->offset_at, top_minimum / 15);
    block_pack(layout, layout->groups, &layout->scale, scales, block);
    block_pack(layout, layout->groups, &layout->offset, minimums, block);
    codes_again(format, &search, values, block, codes);
    put_codes(format, codes, block);
}

static void encode_q45(const GgufFormat *format, const Search *search, const float *values,
                       uint8_t *block) {
    const BlockLayout *layout = &format->layout;
    float scale[8], minimum[8], weight[32];
    int codes[BLOCK_LENGTH_MAX], scales[8], minimums[8];
    for (int group = 0; group < 8; group++) {
        const float *x = values + 32 * group;
        float squares = 0;
        for (int i = 0; i < 32; i++) squares += x[i] * x[i];
        float mean = sqrtf(squares / 32);
        for (int i = 0; i < 32; i++) weight[i] = mean + fabsf(x[i]);
        scale[group] = fit_range(search, x, weight, codes + 32 * group, &minimum[group]);
    }
    float top_scale = largest_of(scale, 8), top_minimum = largest_of(minimum, 8);
    float inverse_scale = top_scale > 0 ? 63 / top_scale : 0;
    float inverse_minimum = top_minimum > 0 ? 63 / top_minimum : 0;
    for (int group = 0; group < 8; group++) {
        scales[group] = between(nearest(inverse_scale * scale[group]), 0, 63);
        minimums[group] = between(nearest(inverse_minimum * minimum[group]), 0, 63);
    }
    memset(block, 0, (size_t)format->bytes);
    block_put_half(block + layout->scale_at, top_scale / 63);
    block_put_half(block + layout->offset_at, top_minimum / 63);
    block_pack(layout, layout->groups, &layout->scale, scales, block);
    block_pack(layout, layout->groups, &layout->offset, minimums, block);
    codes_again(format, search, values, block, codes);
    put_codes(format, codes, block);
}

void encode_q4_k(const GgufFormat *format, const float *values, uint8_t *block) {
    static const Search search = {32, 15, -1, 0.1f, 20, false};
    encode_q45(format, &search, values, block);
}

void encode_q5_k(const GgufFormat *format, const float *values, uint8_t *block) {
    static const Search search = {32, 31, -0.5f, 0.1f, 15, false};
    encode_q45(format, &search, values, block);
}

// ---- a scale: value = scale * (code - zero) ----------------------------------------------------
// The sums by which least squares, weighted by x * x, find the scale of signed codes.
typedef struct {
    float products, squares;  // of weight, x and code; of weight, code and code
} Sums;

static Sums sums_of(const float *x, int count, const int *codes) {
    Sums sums = {0};
    for (int i = 0; i < count; i++) {
        float weight = x[i] * x[i], code = (float)codes[i];
        sums.products += weight * x[i] * code;
        sums.squares += weight * code * code;
    }
    return sums;
}

static void signed_codes(const float *x, int count, float inverse, int zero, int *codes) {
    for (int i = 0; i < count; i++) codes[i] = between(nearest(inverse * x[i]), -zero, zero - 1);
}

// 19 scales around the one that takes the largest magnitude to -zero.
static float fit_scale(const float *x, int count, int zero, int *codes) {
    float largest = largest_magnitude(x, count);
    memset(codes, 0, (size_t)count * sizeof *codes);
    if (fabsf(largest) < smallest) return 0;
    signed_codes(x, count, (float)-zero / largest, zero, codes);
    Sums sums = sums_of(x, count, codes);
    float scale = sums.squares != 0 ? sums.products / sums.squares : 0;
    float best = scale * sums.products;
    for (int step = -9; step <= 9; step++) {
        int tried[BLOCK_LENGTH_MAX];
        if (!step) continue;
        signed_codes(x, count, -((float)zero + 0.1f * (float)step) / largest, zero, tried);
        sums = sums_of(x, count, tried);
        if (!(sums.squares > 0 && sums.products * sums.products > best * sums.squares)) continue;
        memcpy(codes, tried, (size_t)count * sizeof *codes);
        scale = sums.products / sums.squares;
        best = scale * sums.products;
    }
    for (int i = 0; i < count; i++) codes[i] += zero;
    return scale;
}

// Of 16 groups of 16, for the scales as they are stored; where one is 0 the codes stay.
static void codes_of_groups(const float *values, float unit, const int *scales, int zero,
                            int *codes) {
    for (int group = 0; group < 16; group++) {
        float by = unit * (float)scales[group];
        if (by == 0) continue;
        for (int i = 16 * group; i < 16 * (group + 1); i++)
            codes[i] = between(nearest(values[i] / by), -zero, zero - 1) + zero;
    }
}

void encode_q6_k(const GgufFormat *format, const float *values, uint8_t *block) {
    const BlockLayout *layout = &format->layout;
    float scale[16];
    int codes[BLOCK_LENGTH_MAX], scales[16];
    for (int group = 0; group < 16; group++)
        scale[group] = fit_scale(values + 16 * group, 16, 32, codes + 16 * group);
    float largest = largest_magnitude(scale, 16);
    memset(block, 0, (size_t)format->bytes);
    if (fabsf(largest) < smallest) return;
    float inverse = -128 / largest;
    for (int group = 0; group < 16; group++)
        scales[group] = between(nearest(inverse * scale[group]), -128, 127);
    block_put_half(block + layout->scale_at, 1 / inverse);
    block_pack(layout, layout->groups, &layout->scale, scales, block);
    float unit = block_half(block + layout->scale_at);
    codes_of_groups(values, unit, scales, 32, codes);
    put_codes(format, codes, block);
}

// One code after the other is moved to where it is best for the scale that the others make, five
// times over.
static float fit_one_by_one(const float *x, int count, int zero, int *codes) {
    float largest = largest_magnitude(x, count);
    memset(codes, 0, (size_t)count * sizeof *codes);
    if (fabsf(largest) < smallest) return 0;
    signed_codes(x, count, (float)-zero / largest, zero, codes);
    Sums sums = sums_of(x, count, codes);
    for (int round = 0, changed = 1; round < 5 && changed; round++) {
        changed = 0;
        for (int i = 0; i < count; i++) {
            float weight = x[i] * x[i], code = (float)codes[i];
            Sums other = {sums.products - weight * x[i] * code,
                          sums.squares - weight * code * code};
            if (!(other.products > 0)) continue;
            int now = between(nearest(x[i] * other.squares / other.products), -zero, zero - 1);
            if (now == codes[i]) continue;
            code = (float)now;
            other.products += weight * x[i] * code;
            other.squares += weight * code * code;
            if (!(other.squares > 0 && other.products * other.products * sums.squares >
                                           sums.products * sums.products * other.squares))
                continue;
            codes[i] = now;
            sums = other;
            changed++;
        }
    }
    for (int i = 0; i < count; i++) codes[i] += zero;
    return sums.squares > 0 ? sums.products / sums.squares : 0;
}

void encode_q3_k(const GgufFormat *format, const float *values, uint8_t *block) {
    const BlockLayout *layout = &format->layout;
    float scale[16];
    int codes[BLOCK_LENGTH_MAX], scales[16];
    for (int group = 0; group < 16; group++)
        scale[group] = fit_one_by_one(values + 16 * group, 16, 4, codes + 16 * group);
    float largest = largest_magnitude(scale, 16), inverse = -32 / largest;
    memset(block, 0, (size_t)format->bytes);
    if (largest != 0) {
        for (int group = 0; group < 16; group++)
            scales[group] = between(nearest(inverse * scale[group]), -32, 31) + 32;
        block_put_half(block + layout->scale_at, 1 / inverse);
        block_pack(layout, layout->groups, &layout->scale, scales, block);
    }
    float unit = block_half(block + layout->scale_at);
    block_unpack(layout, layout->groups, &layout->scale, block, scales);
    codes_of_groups(values, unit, scales, 4, codes);
    put_codes(format, codes, block);
}

// ---- a scale: value = scale * table[code] ------------------------------------------------------
static float meant(const BlockNumber *code, int i) { return (float)(code->table[i] - code->zero); }

// The nearest entry of a rising table, the upper one of two equally near.
static int nearest_entry(const BlockNumber *code, float value) {
    int at = 0;
    for (int step = IQ4_CODES / 2; step; step /= 2) {
        float middle = meant(code, at + step - 1) + meant(code, at + step);
        if (value + value >= middle) at += step;
    }
    return at;
}

static Sums table_sums(const BlockNumber *code, const float *x, float inverse) {
    Sums sums = {0};
    for (int i = 0; i < 32; i++) {
        float weight = x[i] * x[i], number = meant(code, nearest_entry(code, inverse * x[i]));
        sums.products += weight * number * x[i];
        sums.squares += weight * number * number;
    }
    return sums;
}

// The largest magnitude is taken to the lowest entry first, and then to 15 numbers around it.
static float fit_table(const BlockNumber *code, const float *x) {
    float largest = largest_magnitude(x, 32), lowest = meant(code, 0);
    if (fabsf(largest) < smallest) return 0;
    Sums sums = table_sums(code, x, 1 / (-largest / lowest));
    float scale = sums.squares > 0 ? sums.products / sums.squares : 0;
    float best = scale * sums.products;
    for (int step = -7; step <= 7; step++) {
        sums = table_sums(code, x, ((float)step + lowest) / largest);
        if (!(sums.squares > 0 && sums.products * sums.products > best * sums.squares)) continue;
        scale = sums.products / sums.squares;
        best = scale * sums.products;
    }
    return scale;
}

static float inverse_of(float scale) { return scale != 0 ? 1 / scale : 0; }

void encode_iq4_nl(const GgufFormat *format, const float *values, uint8_t *block) {
    const BlockNumber *code = &format->layout.code;
    int codes[32];
    float scale = fit_table(code, values), inverse = inverse_of(scale);
    memset(block, 0, (size_t)format->bytes);
    block_put_half(block, scale);
    for (int i = 0; i < 32; i++) codes[i] = nearest_entry(code, inverse * values[i]);
    put_codes(format, codes, block);
}

void encode_iq4_xs(const GgufFormat *format, const float *values, uint8_t *block) {
    const BlockLayout *layout = &format->layout;
    float scale[8];
    int codes[BLOCK_LENGTH_MAX], scales[8];
    for (int group = 0; group < 8; group++)
        scale[group] = fit_table(&layout->code, values + 32 * group);
    float unit = -largest_magnitude(scale, 8) / 32, inverse = inverse_of(unit);
    for (int group = 0; group < 8; group++) {
        scales[group] = between(nearest(inverse * scale[group]), -32, 31);
        float of_codes = inverse_of(unit * (float)scales[group]);
        for (int i = 32 * group; i < 32 * (group + 1); i++)
            codes[i] = nearest_entry(&layout->code, of_codes * values[i]);
        scales[group] += 32;
    }
    memset(block, 0, (size_t)format->bytes);
    block_put_half(block + layout->scale_at, unit);
    block_pack(layout, layout->groups, &layout->scale, scales, block);
    put_codes(format, codes, block);
}
