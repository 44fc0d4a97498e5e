/* elementwise.c - the functions of chunk.h, for one instruction set.
 * In: arrays, their dtype.  Out: an array, which may be one of those that came in.
 * Invariant: plain loops over the op table, for the compiler to make vectors of; the bits are
 * scalar_apply's.
 *   #define ELEMENT I32 ...   =>   map_I32 with `case OP_ADD: for (...) to[i] = x + y;`         */
#include "runtime/library/library.h"

#include <math.h>
#include <string.h>
#ifdef __F16C__
#include <immintrin.h>
#endif

#include "ir/scalar.h"

// Before a loop whose iterations are independent, though `to` may be a source.
#ifdef __clang__
#define EACH _Pragma("clang loop vectorize(assume_safety)")
#else
#define EACH _Pragma("GCC ivdep")
#endif

// Elements in compute type, at any address and of any earlier type.
#define DTYPE(name, text, bytes, kind, stored, computed) \
    typedef computed Computed_##name __attribute__((aligned(1), may_alias));
#include "ir/dtypes.def"
#undef DTYPE

// ---- one element: what the scalar column's names mean here -------------------------------------

#define TRUNC_(x)     truncf(x)
#define TF32_(x)      scalar_tf32(x)
#define SQRT_(x)      sqrtf(x)
#define EXP2_(x)      (float)exp2((double)(x))
#define LOG2_(x)      (float)log2((double)(x))
#define SIN_(x)       (float)sin((double)(x))
#define FMA_(x, y, z) fmaf(x, y, z)
#define IDIV_(x, y)   floor_quotient((int64_t)(x), (int64_t)(y))
#define MOD_(x, y)    floor_remainder((int64_t)(x), (int64_t)(y))
#define SHL_(x, y)    (int64_t)((uint64_t)(x) << ((int64_t)(y) & (bits - 1)))
#define SHR_(x, y)    ((x) >> ((y) & (bits - 1)))

// -1 on its own: the lowest of all divided by it overflows, and wraps.
static inline int64_t floor_quotient(int64_t x, int64_t y) {
    if (y == 0 || y == -1) return y ? (int64_t) - (uint64_t)x : 0;
    return x / y - (x % y && (x < 0) != (y < 0));
}

static inline int64_t floor_remainder(int64_t x, int64_t y) {
    if (y == 0 || y == -1) return 0;
    int64_t rest = x % y;
    return rest && (rest < 0) != (y < 0) ? rest + y : rest;
}

// A float x to the nearest integer of a dtype, towards 0; NaN to 0. HIGHEST + 1 is a power of two,
// so it is exact as a float, while HIGHEST may not be.
#define HIGHEST(bytes, kind) (UINT64_MAX >> (64 + ((kind) == KIND_SIGNED) - 8 * (bytes)))
#define LOWEST(bytes, kind)  ((kind) == KIND_SIGNED ? -1 - (int64_t)HIGHEST(bytes, kind) : 0)
#define SATURATE(bytes, kind, x)                                          \
    ((x) != (x)                           ? 0                             \
     : (x) <= (float)LOWEST(bytes, kind)  ? LOWEST(bytes, kind)           \
     : (x) >= (float)HIGHEST(bytes, kind) ? (int64_t)HIGHEST(bytes, kind) \
                                          : (int64_t)(x))

// ---- arrays of one type ------------------------------------------------------------------------

#define TYPE_JOIN(name, element)   name##_##element
#define TYPE_EXPAND(name, element) TYPE_JOIN(name, element)
#define TYPE_NAME(name)            TYPE_EXPAND(name, ELEMENT)  // map_I32, Computed_I32

#define ELEMENT F32
#define KIND    KIND_FLOAT
#define WIDE    float
#include "runtime/library/elementwise_type.h"
#define ELEMENT I8
#define KIND    KIND_SIGNED
#define WIDE    int32_t
#include "runtime/library/elementwise_type.h"
#define ELEMENT I32
#define KIND    KIND_SIGNED
#define WIDE    int64_t
#include "runtime/library/elementwise_type.h"
#define ELEMENT I64
#define KIND    KIND_SIGNED
#define WIDE    __int128
#include "runtime/library/elementwise_type.h"
#define ELEMENT U8
#define KIND    KIND_UNSIGNED
#define WIDE    uint32_t
#include "runtime/library/elementwise_type.h"
#define ELEMENT U16
#define KIND    KIND_UNSIGNED
#define WIDE    uint32_t
#include "runtime/library/elementwise_type.h"
#define ELEMENT U32
#define KIND    KIND_UNSIGNED
#define WIDE    uint64_t
#include "runtime/library/elementwise_type.h"
#define ELEMENT BOOL
#define KIND    KIND_BOOL
#define WIDE    int64_t
#include "runtime/library/elementwise_type.h"

typedef void MapFunction(Op op, int count, const void *x, const void *y, const void *z, void *to);
typedef void CastFunction(DType into, int count, const void *x, void *to);
static const struct {
    MapFunction *map;
    CastFunction *cast;
} types[DT_COUNT] = {
    [DT_F32] = {map_F32, cast_F32},  [DT_F16] = {map_F32, cast_F32},
    [DT_BF16] = {map_F32, cast_F32}, [DT_I8] = {map_I8, cast_I8},
    [DT_I32] = {map_I32, cast_I32},  [DT_I64] = {map_I64, cast_I64},
    [DT_U8] = {map_U8, cast_U8},     [DT_U16] = {map_U16, cast_U16},
    [DT_U32] = {map_U32, cast_U32},  [DT_BOOL] = {map_BOOL, cast_BOOL},
};

// ---- arrays of any type, by its width ----------------------------------------------------------

typedef uint8_t Bytes1 __attribute__((may_alias));
typedef uint16_t Bytes2 __attribute__((aligned(1), may_alias));
typedef uint32_t Bytes4 __attribute__((aligned(1), may_alias));
typedef uint64_t Bytes8 __attribute__((aligned(1), may_alias));

// clang-format off
static void where(DType dtype, int count, const uint8_t *condition, const void *y, const void *z,
                  void *to) {
    switch (chunk_bytes(dtype)) {
#define WIDTH(bytes)                                                                         \
    case bytes: {                                                                            \
        const Bytes##bytes *yes = y, *no = z;                                                \
        EACH for (int i = 0; i < count; i++)                                                 \
            ((Bytes##bytes *)to)[i] = condition[i] ? yes[i] : no[i];                         \
        return;                                                                              \
    }
    WIDTH(1) WIDTH(2) WIDTH(4) WIDTH(8)
#undef WIDTH
    }
}

static void repeat(int width, int count, const void *value, void *to) {
    switch (width) {
#define WIDTH(bytes)                                                                         \
    case bytes: {                                                                            \
        Bytes##bytes element = *(const Bytes##bytes *)value;                                 \
        for (int i = 0; i < count; i++) ((Bytes##bytes *)to)[i] = element;                   \
        return;                                                                              \
    }
    WIDTH(1) WIDTH(2) WIDTH(4) WIDTH(8)
#undef WIDTH
    }
}

// A patch of memory, row after row in `values`. A group's 16 bytes of codes are one move.
static void gather(int width, const Patch *patch, const char *memory, char *values) {
    int count = patch->count;
    size_t row = (size_t)count * (size_t)width;
    for (int r = 0; r < patch->rows; r++, values += row, memory += patch->row_stride * width) {
        if (patch->stride == 1 && row == 16)
            memcpy(values, memory, 16);
        else if (patch->stride == 1)
            memcpy(values, memory, row);
        else if (patch->stride == 0)
            repeat(width, count, memory, values);
        else
            switch (width) {
#define WIDTH(bytes)                                                                         \
            case bytes:                                                                      \
                for (int64_t i = 0; i < count; i++)                                          \
                    ((Bytes##bytes *)values)[i] =                                            \
                        ((const Bytes##bytes *)memory)[i * patch->stride];                   \
                break;
            WIDTH(1) WIDTH(2) WIDTH(4) WIDTH(8)
#undef WIDTH
            }
    }
}

static void scatter(int width, const Patch *patch, const char *values, char *memory) {
    int count = patch->count;
    size_t row = (size_t)count * (size_t)width;
    for (int r = 0; r < patch->rows; r++, values += row, memory += patch->row_stride * width) {
        if (patch->stride == 1) {
            memcpy(memory, values, row);
            continue;
        }
        switch (width) {
#define WIDTH(bytes)                                                                         \
        case bytes:                                                                          \
            for (int64_t i = 0; i < count; i++)                                              \
                ((Bytes##bytes *)memory)[i * patch->stride] = ((const Bytes##bytes *)values)[i]; \
            break;
        WIDTH(1) WIDTH(2) WIDTH(4) WIDTH(8)
#undef WIDTH
        }
    }
}
// clang-format on

static void fill(DType dtype, int count, const void *value, void *to) {
    repeat(chunk_bytes(dtype), count, value, to);
}

// ---- stored form and compute type --------------------------------------------------------------

static void widen_f16(int count, const Bytes2 *from, Computed_F32 *to) {
    int i = 0;
#ifdef __F16C__
    for (; i + 8 <= count; i += 8)
        _mm256_storeu_ps((float *)to + i,
                         _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(from + i))));
#endif
    for (; i < count; i++) to[i] = f16_widen(from[i]);
}

static void narrow_f16(int count, const Computed_F32 *from, Bytes2 *to) {
    int i = 0;
#ifdef __F16C__
    for (; i + 8 <= count; i += 8) {
        __m256 eight = _mm256_loadu_ps((const float *)from + i);
        _mm_storeu_si128((__m128i *)(to + i), _mm256_cvtps_ph(eight, _MM_FROUND_TO_NEAREST_INT));
    }
#endif
    for (; i < count; i++) to[i] = f16_round(from[i]);
}

// bf16_widen and bf16_round, in a form that becomes vectors.
static void widen_bf16(int count, const Bytes2 *from, Bytes4 *to) {
    EACH for (int i = 0; i < count; i++) to[i] = (uint32_t)from[i] << 16;
}

static void narrow_bf16(int count, const Bytes4 *from, Bytes2 *to) {
    EACH for (int i = 0; i < count; i++) {
        uint32_t bits = from[i];
        uint32_t even = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
        to[i] = (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? bits >> 16 | 0x40 : even);
    }
}

static void widen(DType dtype, int count, const uint16_t *halves, void *to) {
    if (dtype == DT_F16)
        widen_f16(count, halves, to);
    else
        widen_bf16(count, halves, to);
}

static void narrow(DType dtype, int count, const void *x, uint16_t *halves) {
    if (dtype == DT_F16)
        narrow_f16(count, x, halves);
    else
        narrow_bf16(count, x, halves);
}

static void read(DType dtype, const Patch *patch, const void *from, void *to) {
    uint16_t halves[CHUNK];
    Computed_BOOL *flags = to;
    int count = patch->rows * patch->count;
    if (dtype != DT_F16 && dtype != DT_BF16) {
        gather(dtypes[dtype].bytes, patch, from, to);
        for (int i = 0; i < count && dtype == DT_BOOL; i++) flags[i] = flags[i] != 0;
        return;
    }
    bool there = patch->rows == 1 && patch->stride == 1;
    if (!there) gather(2, patch, from, (char *)halves);
    widen(dtype, count, there ? from : halves, to);
}

static void write(DType dtype, const Patch *patch, const void *x, void *to) {
    uint16_t halves[CHUNK];
    if (dtype != DT_F16 && dtype != DT_BF16) {
        scatter(dtypes[dtype].bytes, patch, x, to);
        return;
    }
    narrow(dtype, patch->rows * patch->count, x, halves);
    scatter(2, patch, (const char *)halves, to);
}

// ---- the functions of chunk.h ------------------------------------------------------------------

static void round_stored(DType dtype, int count, void *x) {
    uint16_t halves[CHUNK];
    if (dtype != DT_F16 && dtype != DT_BF16) return;
    narrow(dtype, count, x, halves);
    widen(dtype, count, halves, x);
}

static void map(Op op, DType dtype, int count, const void *x, const void *y, const void *z,
                void *to) {
    types[dtype].map(op, count, x, y, z, to);
    if (!(ops[op].properties & TO_BOOL)) round_stored(dtype, count, to);
}

static void cast(DType from, DType into, int count, const void *x, void *to) {
    types[from].cast(into, count, x, to);
    if (from != into) round_stored(into, count, to);
}

static void fold(Op op, DType dtype, int count, void *x) {
    for (; count > 1; count -= count / 2) {
        int later = count - count / 2;
        map(op, dtype, count / 2, x, (char *)x + later * chunk_bytes(dtype), NULL, x);
    }
}

extern const ChunkFunctions LIBRARY_NAME(chunk_functions);
const ChunkFunctions LIBRARY_NAME(chunk_functions) = {map, where, cast, fold, fill, read, write};
