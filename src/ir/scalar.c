/* scalar.c - the scalar column of ops.def, made into two functions: over floats, over integers.
 * In: an op, a dtype, up to three elements.  Out: one element.
 * Invariant: what comes out is in its dtype's range and was rounded once.
 *   scalar_apply(OP_ADD, DT_I8, 127, 1) is -128                                               */
#include "ir/scalar.h"

#include <math.h>
#include <string.h>

// ---- storage formats ---------------------------------------------------------------------------

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

float bf16_widen(uint16_t bits) { return from_bits((uint32_t)bits << 16); }

uint16_t bf16_round(float value) {
    uint32_t bits = bits_of(value);
    if (value != value) return (uint16_t)(bits >> 16 | 0x40);  // quiet, else a payload might vanish
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float f16_widen(uint16_t bits) {
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16, rest = bits & 0x7fff;
    if (rest >= 0x7c00) return from_bits(sign | 0x7f800000 | (rest & 0x3ff) << 13);
    // As an f32 with the exponent still biased by 15; the product corrects that, denormals as well.
    return from_bits(sign | bits_of(from_bits(rest << 13) * 0x1p112f));
}

uint16_t f16_round(float value) {
    uint32_t bits = bits_of(value), rest = bits & 0x7fffffff;
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    if (rest > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (rest >> 13 & 0x1ff));
    if (rest >= 0x477ff000) return sign | 0x7c00;  // 65520 and above round to infinity
    // Denormals: adding 0.5 leaves 2^-24 as the last bit, so the addition rounds.
    if (rest < 0x38800000) return (uint16_t)(sign | (bits_of(from_bits(rest) + 0.5f) - 0x3f000000));
    return (uint16_t)(sign | (rest - 0x38000000 + 0xfff + (rest >> 13 & 1)) >> 13);
}

Scalar scalar_load(DType dtype, const void *at) {
    uint64_t bits = 0;
    memcpy(&bits, at, (size_t)dtypes[dtype].bytes);
    if (dtype == DT_F32) return (Scalar){.real = from_bits((uint32_t)bits)};
    if (dtype == DT_F16) return (Scalar){.real = f16_widen((uint16_t)bits)};
    if (dtype == DT_BF16) return (Scalar){.real = bf16_widen((uint16_t)bits)};
    return (Scalar){.integer = scalar_wrap(dtype, (int64_t)bits)};
}

void scalar_store(DType dtype, void *at, Scalar value) {
    uint64_t bits = (uint64_t)value.integer;
    if (dtype == DT_F32) bits = bits_of(value.real);
    if (dtype == DT_F16) bits = f16_round(value.real);
    if (dtype == DT_BF16) bits = bf16_round(value.real);
    memcpy(at, &bits, (size_t)dtypes[dtype].bytes);
}

// ---- ranges and casts --------------------------------------------------------------------------

static int64_t lowest(DType dtype) {
    if (dtypes[dtype].kind != KIND_SIGNED) return 0;
    return -1 - (int64_t)(UINT64_MAX >> (65 - 8 * dtypes[dtype].bytes));
}

static int64_t highest(DType dtype) {
    if (dtypes[dtype].kind == KIND_BOOL) return 1;
    int sign = dtypes[dtype].kind == KIND_SIGNED;
    return (int64_t)(UINT64_MAX >> (64 + sign - 8 * dtypes[dtype].bytes));
}

int64_t scalar_wrap(DType dtype, int64_t value) {
    if (dtypes[dtype].kind == KIND_BOOL) return value != 0;
    int unused = 64 - 8 * dtypes[dtype].bytes;
    uint64_t high = (uint64_t)value << unused;
    return dtypes[dtype].kind == KIND_SIGNED ? (int64_t)high >> unused : (int64_t)(high >> unused);
}

static float round_to(DType dtype, float value) {
    if (dtype == DT_F16) return f16_widen(f16_round(value));
    if (dtype == DT_BF16) return bf16_widen(bf16_round(value));
    return value;
}

static int64_t saturate(DType dtype, float value) {
    if (dtypes[dtype].kind == KIND_BOOL) return value != 0;
    if (value != value) return 0;
    // highest + 1 is a power of two, so it is exact as a float, while highest may not be.
    if (value <= (float)lowest(dtype)) return lowest(dtype);
    if (value >= (float)highest(dtype)) return highest(dtype);
    return (int64_t)value;
}

Scalar scalar_cast(Scalar value, DType from, DType to) {
    if (dtype_is_float(from) && dtype_is_float(to))
        return (Scalar){.real = round_to(to, value.real)};
    if (dtype_is_float(from)) return (Scalar){.integer = saturate(to, value.real)};
    if (dtype_is_float(to)) return (Scalar){.real = round_to(to, (float)value.integer)};
    return (Scalar){.integer = scalar_wrap(to, value.integer)};
}

Scalar scalar_identity(Op fold, DType dtype) {
    if (fold != OP_ADD && fold != OP_MAX && fold != OP_MUL)
        fatal("%s has no identity. Hint: a fold is add, max or mul", ops[fold].text);
    int value = fold == OP_MUL;
    if (dtype_is_float(dtype)) return (Scalar){.real = fold == OP_MAX ? -INFINITY : (float)value};
    return (Scalar){.integer = fold == OP_MAX ? lowest(dtype) : value};
}

// ---- arithmetic --------------------------------------------------------------------------------

// What the scalar column's names mean here. Integers are in 128 bits, where x * y cannot overflow.
#define TRUNC_(x)     truncf((float)(x))
#define TF32_(x)      scalar_tf32((float)(x))
#define SQRT_(x)      sqrtf((float)(x))
#define EXP2_(x)      (float)exp2((double)(x))
#define LOG2_(x)      (float)log2((double)(x))
#define SIN_(x)       (float)sin((double)(x))
#define FMA_(x, y, z) fmaf((float)(x), (float)(y), (float)(z))
#define IDIV_(x, y)   floor_quotient((int64_t)(x), (int64_t)(y))
#define MOD_(x, y)    floor_remainder((int64_t)(x), (int64_t)(y))
#define SHL_(x, y)    (int64_t)((uint64_t)(x) << ((int64_t)(y) & (bits - 1)))
#define SHR_(x, y)    ((int64_t)(x) >> ((int64_t)(y) & (bits - 1)))

float scalar_tf32(float x) {
    uint32_t bits;
    if (isnan(x)) return x;
    memcpy(&bits, &x, 4);
    bits = (bits + 0x1000) & 0xffffe000;
    memcpy(&x, &bits, 4);
    return x;
}

static __int128 floor_quotient(__int128 x, __int128 y) {
    return y ? x / y - (x % y && (x < 0) != (y < 0)) : 0;
}

static int64_t floor_remainder(__int128 x, __int128 y) {
    return y ? (int64_t)(x - y * floor_quotient(x, y)) : 0;
}

// `(T[1]){expression}[0]` is 0 where the table has no expression.
static int64_t integer_apply(Op op, int bits, __int128 x, __int128 y, __int128 z) {
    switch (op) {
#define OP(name, text, arity, properties, scalar, ...) \
    case OP_##name:                                    \
        return (int64_t)(__int128[1]){scalar}[0];
#include "ir/ops.def"
#undef OP
    default: return 0;
    }
}

// Ops on bits do not compile over floats (and never come here with them): theirs are integers.
#define OPERAND(properties) \
    __typeof__(__builtin_choose_expr(((properties) & (BITS | INTEGERS)) != 0, 0, 0.0f))

static float float_apply(Op op, float a, float b, float c) {
    enum { bits = 32 };
    switch (op) {
#define OP(name, text, arity, properties, scalar, ...)                              \
    case OP_##name: {                                                               \
        OPERAND(properties) x = (OPERAND(properties))a, y = (OPERAND(properties))b; \
        OPERAND(properties) z = (OPERAND(properties))c;                             \
        (void)x, (void)y, (void)z;                                                  \
        return (float)(__typeof__(x)[1]){scalar}[0];                                \
    }
#include "ir/ops.def"
#undef OP
    default: return 0;
    }
}

Scalar scalar_apply(Op op, DType dtype, Scalar x, Scalar y, Scalar z) {
    bool to_bool = ops[op].properties & TO_BOOL;
    if (!dtype_is_float(dtype)) {
        int64_t value = integer_apply(op, 8 * dtypes[dtype].bytes, x.integer, y.integer, z.integer);
        return (Scalar){.integer = scalar_wrap(to_bool ? DT_BOOL : dtype, value)};
    }
    float first = ops[op].properties & CHOOSES ? (float)x.integer : x.real;
    float value = float_apply(op, first, y.real, z.real);
    return to_bool ? (Scalar){.integer = value != 0} : (Scalar){.real = round_to(dtype, value)};
}
