/* prelude.c - the types and functions that rendered C is written with; a text gets those it names.
 * In: the body of a rendered program.  Out: typedefs and functions, each before its first use.
 * Invariants: a name says all, `name_type`: fma_f32x8 is fma for 8 lanes of f32, f16_to_f32x8
 * converts; the compiler's own macros choose among alternatives, so that one text serves every
 * target; a text may stand in a file twice.
 * In a row: $T the type in the name, $E its element, $N lanes, $W its bytes, $M its masks, $B the
 * bits of an element less 1; $F $I $U are f32, i32 and u32 of $N lanes; for conversions $S is what
 * is converted; $L(e) is e for each lane @; $R the whole name.                                 */
#include "codegen/codegen.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name, *dtypes;  // "" any
    const char *scalar, *vector;
} Helper;

// clang-format off gcc 12 widens narrow integers lane by lane, or in halves.
#define WIDEN(how, bytes_or_words, x8)                                              \
    "$T $R($S x) {\n"                                                               \
    "#if !defined(__clang__) && defined(__AVX2__) && $N == 8\n"                     \
    "    typedef " bytes_or_words " part __attribute__((vector_size(16)));\n"       \
    "    return __builtin_ia32_pmov" how "d256((part)" x8 ");\n"                    \
    "#elif !defined(__clang__) && defined(__AVX512F__) && $N == 16\n"               \
    "    typedef " bytes_or_words " part __attribute__((vector_size(sizeof x)));\n" \
    "    return __builtin_ia32_pmov" how "d512_mask((part)x, ($T){0}, -1);\n"       \
    "#else\n"                                                                       \
    "    return __builtin_convertvector(x, $T);\n"                                  \
    "#endif\n"                                                                      \
    "}\n"

#define WARP_FOLD(op)                                          \
    "$T $R(SELF $T x) {\n"                                     \
    "    for (i32 distance = 16; distance; distance /= 2) {\n" \
    "        const $T other = shuffle_xor_$E(x, distance);\n"  \
    "        x = " op ";\n"                                    \
    "    }\n"                                                  \
    "    return x;\n"                                          \
    "}\n"
#define BLOCK_FOLD(name, op)                                             \
    "$T $R(SELF $T x, char *memory, i32 threads) {\n"                    \
    "    $T *part = ($T *)memory;\n"                                     \
    "    x = warp_" name "_$E(ME x);\n"                                  \
    "    if (threads == 32) return x;\n"                                 \
    "    barrier();\n"                                                   \
    "    if (thread_index() % 32 == 0) part[thread_index() / 32] = x;\n" \
    "    barrier();\n"                                                   \
    "    x = part[0];\n"                                                 \
    "    for (i32 i = 1; i < threads / 32; i++) x = " op ";\n"           \
    "    return x;\n"                                                    \
    "}\n"

static const Helper helpers[] = {
    {"vec", "", NULL, "$T $R($E x) {\n    return ($T){$L(x)};\n}\n"},
    {"load", "", NULL,
     "$T $R(const void *at) {\n"
     "#ifdef __CUDACC__\n"
     "    union { wide_$W words; $T x; } all;\n"
     "    all.words = *(const wide_$W *)at;\n"
     "    return all.x;\n"
     "#else\n"
     "    return *(const $T_at *)at;\n"
     "#endif\n"
     "}\n"},
    {"store", "", NULL,
     "void $R(void *at, $T x) {\n"
     "#ifdef __CUDACC__\n"
     "    union { $T x; wide_$W words; } all;\n"
     "    all.x = x;\n"
     "    *(wide_$W *)at = all.words;\n"
     "#else\n"
     "    *($T_at *)at = x;\n"
     "#endif\n"
     "}\n"},
    // Past the caches, to aligned memory; `streamed` before other threads may read it.
    {"stream", "", NULL,
     "void $R(void *at, $T x) {\n"
     "#if defined(__clang__)\n"
     "    __builtin_nontemporal_store(x, ($T *)at);\n"
     "#elif defined(__AVX512F__) && $N == 16\n"
     "    __builtin_ia32_movntps512((f32 *)at, x);\n"
     "#elif defined(__AVX__) && $N == 8\n"
     "    __builtin_ia32_movntps256((f32 *)at, x);\n"
     "#else\n"
     "    *($T_at *)at = x;\n"
     "#endif\n"
     "}\n"},
    {"streamed", "f32",
     "void $R(void) {\n"
     "#ifdef __SSE2__\n"
     "    __builtin_ia32_sfence();\n"
     "#endif\n"
     "}\n",
     NULL},
    {"loadif", "", NULL,
     "$T $R(const void *at, $I mask) {\n"
     "#if defined(__AVX2__) && $N == 8 && $B == 31\n"
     "    return ($T)__builtin_ia32_maskloadd256((const $I *)at, mask);\n"
     "#elif defined(__AVX512F__) && $N == 16 && $B == 31\n"
     "    u16 lanes = __builtin_ia32_cmpd512_mask(mask, ($I){0}, 4, -1);\n"
     "    return ($T)__builtin_ia32_loaddqusi512_mask(at, ($I){0}, lanes);\n"
     "#else\n"
     "    const $E_at *from = at;\n"
     "    return ($T){$L(mask[@] ? from[@] : 0)};\n"
     "#endif\n"
     "}\n"},
    {"storeif", "", NULL,
     "void $R(void *at, $I mask, $T x) {\n"
     "#if defined(__AVX2__) && $N == 8 && $B == 31\n"
     "    __builtin_ia32_maskstored256(at, mask, ($I)x);\n"
     "#elif defined(__AVX512F__) && $N == 16 && $B == 31\n"
     "    u16 lanes = __builtin_ia32_cmpd512_mask(mask, ($I){0}, 4, -1);\n"
     "    __builtin_ia32_storedqusi512_mask(at, ($I)x, lanes);\n"
     "#else\n"
     "    $E_at *to = at;\n"
     "    for (int i = 0; i < $N; i++)\n"
     "        if (mask[i]) to[i] = x[i];\n"
     "#endif\n"
     "}\n"},
    // In a table of sixteen; gcc and clang name their permutations of 16 lanes differently.
    {"lookup", "f32", NULL,
     "$T $R(const f32 *table, $I at) {\n"
     "#if defined(__AVX2__) && $N == 8\n"
     "    $T low = __builtin_ia32_permvarsf256(*(const $T_at *)table, at);\n"
     "    $T high = __builtin_ia32_permvarsf256(*(const $T_at *)(table + 8), at);\n"
     "    return select_f32x8(at > 7, high, low);\n"
     "#elif defined(__AVX512F__) && $N == 16 && !defined(__clang__)\n"
     "    return __builtin_shuffle(*(const $T_at *)table, at);\n"
     "#elif defined(__AVX512F__) && $N == 16\n"
     "    return __builtin_ia32_permvarsf512(*(const $T_at *)table, at);\n"
     "#else\n"
     "    return ($T){$L(table[at[@] & 15])};\n"
     "#endif\n"
     "}\n"},
    {"select", "", NULL,
     "$T $R($M mask, $T x, $T y) {\n    return ($T)((mask & ($M)x) | (~mask & ($M)y));\n}\n"},
    // Without the instruction: the product is exact in double; the sum is rounded to odd, which
    // leaves enough of it to be rounded to float correctly.
    {"fma", "",
     "f32 $R(f32 x, f32 y, f32 z) {\n"
     "#if defined(__CUDACC__)\n"
     "    return __fmaf_rn(x, y, z);\n"
     "#elif defined(__FMA__)\n"
     "    return __builtin_fmaf(x, y, z);\n"
     "#else\n"
     "    double product = (double)x * y, sum = product + z, part = sum - product;\n"
     "    double error = (product - (sum - part)) + (z - part);\n"
     "    union { double number; i64 bits; } odd = {sum};\n"
     "    if ((error < 0 || error > 0) && !(odd.bits & 1))\n"
     "        odd.bits += (error > 0) == (sum > 0) ? 1 : -1;\n"
     "    return (f32)odd.number;\n"
     "#endif\n"
     "}\n",
     "$T $R($T x, $T y, $T z) {\n"
     "#if defined(__FMA__) && $N == 8\n"
     "    return __builtin_ia32_vfmaddps256(x, y, z);\n"
     "#elif defined(__AVX512F__) && $N == 16\n"
     "    return __builtin_ia32_vfmaddps512_mask(x, y, z, -1, 4);\n"
     "#elif defined(__FMA__) && $N == 4\n"
     "    return __builtin_ia32_vfmaddps(x, y, z);\n"
     "#else\n"
     "    return ($T){$L(fma_f32(x[@], y[@], z[@]))};\n"
     "#endif\n"
     "}\n"},
    {"sqrt", "",
     "f32 $R(f32 x) {\n"
     "#ifdef __CUDACC__\n"
     "    return __fsqrt_rn(x);\n"
     "#else\n"
     "    return __builtin_sqrtf(x);\n"
     "#endif\n"
     "}\n",
     "$T $R($T x) {\n    return ($T){$L(__builtin_sqrtf(x[@]))};\n}\n"},
    {"trunc", "",
     "f32 $R(f32 x) {\n"
     "#if defined(__CUDACC__)\n"
     "    return truncf(x);\n"
     "#elif defined(__SSE4_1__)\n"
     "    return __builtin_truncf(x);\n"
     "#else\n"
     "    return __builtin_fabsf(x) < 0x1p23f ? __builtin_copysignf((f32)(i32)x, x) : x;\n"
     "#endif\n"
     "}\n",
     "$T $R($T x) {\n    return ($T){$L(trunc_f32(x[@]))};\n}\n"},
    {"tf32", "",
     "f32 $R(f32 x) {\n"
     "#ifdef KERNEL\n"
     "    return round_tf32(x);\n"
     "#else\n"
     "    const u32 bits = f32_as_u32(x);\n"
     "    return x != x ? x : u32_as_f32((bits + 0x1000) & 0xffffe000);\n"
     "#endif\n"
     "}\n",
     "$T $R($T x) {\n    return ($T){$L(tf32_f32(x[@]))};\n}\n"},
    {"idiv", "u32", "u32 $R(u32 x, u32 y) {\n    return y ? x / y : 0;\n}\n", NULL},
    {"mod", "u32", "u32 $R(u32 x, u32 y) {\n    return y ? x % y : 0;\n}\n", NULL},
    {"idiv", "i32 i64",
     "$T $R($T x, $T y) {\n"
     "    if (y == 0) return 0;\n"
     "    if (y == -1) return 0 - x;\n"
     "    return x / y - (x % y != 0 && (x < 0) != (y < 0));\n"
     "}\n",
     NULL},
    {"mod", "i32 i64",
     "$T $R($T x, $T y) {\n"
     "    if (y == 0 || y == -1) return 0;\n"
     "    $T rest = x % y;\n"
     "    return rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest;\n"
     "}\n",
     NULL},
    {"idiv", "", NULL, "$T $R($T x, $T y) {\n    return ($T){$L(idiv_$E(x[@], y[@]))};\n}\n"},
    {"mod", "", NULL, "$T $R($T x, $T y) {\n    return ($T){$L(mod_$E(x[@], y[@]))};\n}\n"},
    {"shl", "", "$T $R($T x, $T y) {\n    return x << (y & $B);\n}\n",
     "$T $R($T x, $T y) {\n    return x << (y & $B);\n}\n"},
    {"shr", "", "$T $R($T x, $T y) {\n    return x >> (y & $B);\n}\n",
     "$T $R($T x, $T y) {\n    return x >> (y & $B);\n}\n"},
    // Indices, which are never negative here.
    {"quotient", "u32", "i64 $R(i64 x, i64 by) {\n    return (u32)x / (u32)by;\n}\n", NULL},
    {"rest", "u32", "i64 $R(i64 x, i64 by) {\n    return (u32)x % (u32)by;\n}\n", NULL},
    {"quotient", "i32", "i32 $R(i32 x, i32 by) {\n    return (i32)((u32)x / (u32)by);\n}\n", NULL},
    {"rest", "i32", "i32 $R(i32 x, i32 by) {\n    return (i32)((u32)x % (u32)by);\n}\n", NULL},
    {"min", "i32 i64", "$T $R($T x, $T y) {\n    return x < y ? x : y;\n}\n", NULL},
    {"share", "i64",
     "i64 $R(i64 count, i64 thread, i64 threads) {  // where a thread's part begins\n"
     "    if (count < 0) return 0;\n"
     "    i64 each = count / threads, longer = count % threads;\n"
     "    return each * thread + (thread < longer ? thread : longer);\n"
     "}\n",
     NULL},
    // The next iterations that a thread runs: a fixed part at first, together half of all, then a
    // piece of what is left, until nothing is. `first` is -1 at the start.
    {"take", "i64",
     "int $R(PgBarrier *barrier, int counter, i64 count, i64 thread, i64 threads, i64 *first,\n"
     "             i64 *end) {\n"
     "    i64 *taken = (i64 *)barrier + counter;\n"
     "    i64 piece = threads > 1 ? count / (2 * threads) : count, fixed = piece * threads, at;\n"
     "    if (*first < 0 && piece > 0) {\n"
     "        *first = piece * thread;\n"
     "        *end = *first + piece;\n"
     "        return 1;\n"
     "    }\n"
     "    if (threads == 1) return 0;\n"
     "    at = __atomic_load_n(taken, __ATOMIC_RELAXED);\n"
     "    do {\n"
     "        if (fixed + at >= count) return 0;\n"
     "        piece = (count - fixed - at - 1) / (2 * threads) + 1;\n"
     "    } while (!__atomic_compare_exchange_n(taken, &at, at + piece, 1, __ATOMIC_RELAXED,\n"
     "                                          __ATOMIC_RELAXED));\n"
     "    *first = fixed + at;\n"
     "    *end = *first + piece;\n"
     "    return 1;\n"
     "}\n",
     NULL},
    {"*_as", "",
     "$T $R($S x) {\n"
     "    union { $S from; $T to; } bits;\n"
     "    bits.from = x;\n"
     "    return bits.to;\n"
     "}\n",
     NULL},
    // All threads of a warp, of a block, in a fixed tree; each of them has the result.
    {"warp_add", "", WARP_FOLD("x + other"), NULL},
    {"warp_mul", "", WARP_FOLD("x * other"), NULL},
    {"warp_max", "", WARP_FOLD("x > other || x != x ? x : other"), NULL},
    {"block_add", "", BLOCK_FOLD("add", "x + part[i]"), NULL},
    {"block_mul", "", BLOCK_FOLD("mul", "x * part[i]"), NULL},
    {"block_max", "", BLOCK_FOLD("max", "x > part[i] || x != x ? x : part[i]"), NULL},
    // Floats to integers saturate, NaN gives 0.
    {"f32_to", "i32",
     "i32 $R(f32 x) {\n"
     "    if (x >= 0x1p31f) return 0x7fffffff;\n"
     "    return x >= -0x1p31f ? (i32)x : x != x ? 0 : -0x7fffffff - 1;\n"
     "}\n",
     "$T $R($F x) {\n"
     "    $I high = x >= 0x1p31f, low = x < -0x1p31f, none = x != x;\n"
     "    $I inside = __builtin_convertvector(($F)(($I)x & ~(high | low | none)), $I);\n"
     "    return inside | (high & 0x7fffffff) | (low & (-0x7fffffff - 1));\n"
     "}\n"},
    {"f32_to", "u32",
     "u32 $R(f32 x) {\n    return x >= 0x1p32f ? 0xffffffff : x > 0 ? (u32)x : 0;\n}\n",
     "$T $R($F x) {\n    return ($T){$L(f32_to_u32(x[@]))};\n}\n"},
    {"f32_to", "i64",
     "i64 $R(f32 x) {\n"
     "    if (x >= 0x1p63f) return 0x7fffffffffffffff;\n"
     "    return x >= -0x1p63f ? (i64)x : x != x ? 0 : -0x7fffffffffffffff - 1;\n"
     "}\n",
     "$T $R($F x) {\n    return ($T){$L(f32_to_i64(x[@]))};\n}\n"},
    {"f32_to", "f16",
     "f16 $R(f32 x) {\n"
     "#ifdef __CUDACC__\n"
     "    f16 half;\n"
     "    asm(\"cvt.rn.f16.f32 %0, %1;\" : \"=h\"(half) : \"f\"(x));\n"
     "    return half;\n"
     "#else\n"
     "    return f32_to_f16x4((f32x4){x})[0];\n"
     "#endif\n"
     "}\n",
     "$T $R($F x) {\n"
     "#if defined(__F16C__) && $N == 8\n"
     "    return ($T)__builtin_ia32_vcvtps2ph256(x, 0);\n"
     "#elif defined(__F16C__) && $N == 4\n"
     "    i64x2 bits = (i64x2)__builtin_ia32_vcvtps2ph(x, 0);\n"
     "    return ($T)bits[0];\n"
     "#elif defined(__AVX512F__) && $N == 16\n"
     "    typedef short part __attribute__((vector_size(32)));\n"
     "    return ($T)__builtin_ia32_vcvtps2ph512_mask(x, 0, (part){0}, -1);\n"
     "#else\n"
     "    $U bits = ($U)x, sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;\n"
     "    $U normal = (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13;\n"
     "    $U small = ($U)(($F)size + 0.5f) - 0x3f000000;  // ends where a denormal does\n"
     "    $U nan = (size >> 13 & 0x1ff) | 0x7e00, inf = size - size + 0x7c00;\n"
     "    $U large = select_u32x$N(size > 0x7f800000, nan, inf);\n"
     "    $U usual = select_u32x$N(size < 0x38800000, small, normal);\n"
     "    $U rest = select_u32x$N(size >= 0x477ff000, large, usual);\n"
     "    return __builtin_convertvector(sign | rest, $T);\n"
     "#endif\n"
     "}\n"},
    {"f32_to", "bf16",
     "bf16 $R(f32 x) {\n"
     "    const u32 bits = f32_as_u32(x);\n"
     "    return (bf16)(x != x ? bits >> 16 | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);\n"
     "}\n",
     "$T $R($F x) {\n"
     "    $U bits = ($U)x, even = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;\n"
     "    return __builtin_convertvector(select_u32x$N(x != x, bits >> 16 | 0x40, even), $T);\n"
     "}\n"},
    {"f16_to", "f32",
     "f32 $R(f16 x) {\n"
     "#ifdef __CUDACC__\n"
     "    f32 whole;\n"
     "    asm(\"cvt.f32.f16 %0, %1;\" : \"=f\"(whole) : \"h\"(x));\n"
     "    return whole;\n"
     "#else\n"
     "    return f16_to_f32x4((f16x4){x})[0];\n"
     "#endif\n"
     "}\n",
     "$T $R($S x) {\n"
     "#if defined(__F16C__) && ($N == 8 || $N == 4)\n"
     "    typedef short part __attribute__((vector_size(16)));\n"
     "#if $N == 8\n"
     "    return __builtin_ia32_vcvtph2ps256((part)x);\n"
     "#else\n"
     "    return __builtin_ia32_vcvtph2ps((part)(i64x2){(i64)x});\n"
     "#endif\n"
     "#elif defined(__AVX512F__) && $N == 16\n"
     "    typedef short part __attribute__((vector_size(32)));\n"
     "    return __builtin_ia32_vcvtph2ps512_mask((part)x, ($T){0}, -1, 4);\n"
     "#else\n"
     "    $U bits = ($U)u16_to_i32x$N(x), size = bits & 0x7fff;\n"
     "    $U number = ($U)(($F)(size << 13) * 0x1p112f);  // denormals as well\n"
     "    return ($F)(number | (bits & 0x8000) << 16 | (($U)(size > 0x7bff) & 0x7f800000));\n"
     "#endif\n"
     "}\n"},
    {"bf16_to", "f32", "f32 $R(bf16 x) {\n    return u32_as_f32((u32)x << 16);\n}\n",
     "$T $R($S x) {\n    return ($T)(u16_to_i32x$N(x) << 16);\n}\n"},
    {"u8_to", "i32", NULL, WIDEN("zxb", "char", "(i64x2){(i64)x}")},
    {"i8_to", "i32", NULL, WIDEN("sxb", "char", "(i64x2){(i64)x}")},
    {"u16_to", "i32", NULL, WIDEN("zxw", "short", "x")},
    {"u8_to", "bool", NULL, "$I $R(u8x$N x) {\n    return u8_to_i32x$N(x) != 0;\n}\n"},
    {"bool_to", "", NULL, "$T $R($I x) {\n    return __builtin_convertvector(x & 1, $T);\n}\n"},
    {"*_to", "", NULL, "$T $R($S x) {\n    return __builtin_convertvector(x, $T);\n}\n"},
};

// clang-format on

// The elements' C types; those ending in _at are memory's: of alignment 1, perhaps of another type.
static const char scalar_types[] = "typedef float f32;\n"
                                   "typedef signed char i8;\n"
                                   "typedef unsigned char u8;\n"
                                   "typedef unsigned short u16, f16, bf16;\n"
                                   "typedef int i32;\n"
                                   "typedef unsigned int u32;\n"
                                   "typedef long i64;\n"
                                   "#ifndef PG_ARGS\n"
                                   "#define PG_ARGS\n"
                                   "typedef struct PgBarrier PgBarrier;\n"
                                   "typedef struct {\n"
                                   "    void *const *buffer;\n"
                                   "    const i64 *var;\n"
                                   "    char *workspace;\n"
                                   "    void (*wait)(PgBarrier *barrier, int thread);\n"
                                   "} PgArgs;\n"
                                   "#endif\n";

// Tiles, named by the numbers of their registers. Where the compiler has AMX they are that
// unit's, 8 of 16 rows of 64 bytes; elsewhere the same sums in the same order, with denormals taken
// and given as zeros. GCC 12's _tile_loadconfig names 8 of the 64 bytes that it reads, and the rest
// of the shapes is dropped as dead: here the operand is all of them.
static const char tiles[] =
    "#ifndef PG_TILES\n"
    "#define PG_TILES\n"
    "#ifdef __AMX_BF16__\n"
    "static const struct {\n"
    "    u8 palette, start, unused[14];\n"
    "    u16 bytes[16];\n"
    "    u8 rows[16];\n"
    "} tile_shapes = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64},\n"
    "                 {16, 16, 16, 16, 16, 16, 16, 16}};\n"
    "#define tile_begin() __asm__ volatile(\"ldtilecfg %0\" : : \"m\"(tile_shapes))\n"
    "#define tile_end() __asm__ volatile(\"tilerelease\")\n"
    "#define tile_load(tile, at, stride) \\\n"
    "    __asm__ volatile(\"tileloadd (%0, %1, 1), %%tmm\" #tile \\\n"
    "                     : : \"r\"(at), \"r\"((i64)(stride)) : \"memory\")\n"
    "#define tile_store(tile, at, stride) \\\n"
    "    __asm__ volatile(\"tilestored %%tmm\" #tile \", (%0, %1, 1)\" \\\n"
    "                     : : \"r\"(at), \"r\"((i64)(stride)) : \"memory\")\n"
    "#define tile_product(sum, a, b) \\\n"
    "    __asm__ volatile(\"tdpbf16ps %tmm\" #b \", %tmm\" #a \", %tmm\" #sum)\n"
    "#else\n"
    "typedef struct {\n"
    "    _Alignas(64) u8 row[16][64];\n"
    "} tile_type;\n"
    "static inline void tile_copy(void *to, i64 to_stride, const void *from, i64 from_stride) {\n"
    "    for (int row = 0; row < 16; row++)\n"
    "        __builtin_memcpy((u8 *)to + row * to_stride, (const u8 *)from + row * from_stride, "
    "64);\n"
    "}\n"
    "static inline f32 tile_flush(f32 x) {\n"
    "    return __builtin_fabsf(x) < 0x1p-126f ? __builtin_copysignf(0, x) : x;\n"
    "}\n"
    "static void tile_sum(tile_type *sum, const tile_type *a, const tile_type *b) {\n"
    "    u16 x[16][32], y[16][32];\n"
    "    f32 z[16][16], right[2][16][16];\n"
    "    __builtin_memcpy(x, a, 1024);\n"
    "    __builtin_memcpy(y, b, 1024);\n"
    "    __builtin_memcpy(z, sum, 1024);\n"
    "    for (int p = 0; p < 16; p++)\n"
    "        for (int j = 0; j < 32; j++) right[j % 2][p][j / 2] = "
    "tile_flush(bf16_to_f32(y[p][j]));\n"
    "    for (int i = 0; i < 16; i++) {\n"
    "        f32 part[2][16] = {{0}};\n"
    "        for (int q = 0; q < 2; q++)\n"
    "            for (int p = 0; p < 16; p++) {\n"
    "                const f32 left = tile_flush(bf16_to_f32(x[i][2 * p + q]));\n"
    "                for (int j = 0; j < 16; j++)\n"
    "                    part[q][j] = tile_flush(fma_f32(left, right[q][p][j], part[q][j]));\n"
    "            }\n"
    "        for (int j = 0; j < 16; j++)\n"
    "            z[i][j] = tile_flush(tile_flush(z[i][j]) + tile_flush(part[0][j] + part[1][j]));\n"
    "    }\n"
    "    __builtin_memcpy(sum, z, 1024);\n"
    "}\n"
    "#define tile_begin() tile_type tile_register[8]\n"
    "#define tile_end()\n"
    "#define tile_load(tile, at, stride) tile_copy(&tile_register[tile], 64, at, stride)\n"
    "#define tile_store(tile, at, stride) tile_copy(at, stride, &tile_register[tile], 64)\n"
    "#define tile_product(sum, a, b) \\\n"
    "    tile_sum(&tile_register[sum], &tile_register[a], &tile_register[b])\n"
    "#endif\n"
    "#endif\n\n";

typedef struct {
    char helper[16];
    DType dtype;
    int lanes;  // 1: no vector
} Name;

// f32x8 => f32, 8 lanes.
static bool type_parse(const char *text, size_t length, DType *dtype, int *lanes) {
    char element[8];
    const char *times = memchr(text, 'x', length);
    size_t size = times ? (size_t)(times - text) : length;
    if (size >= sizeof element) return false;
    memcpy(element, text, size);
    element[size] = 0;
    if (!dtype_find(element, dtype)) return false;
    char *end = (char *)(uintptr_t)(text + length);
    *lanes = times ? (int)strtol(times + 1, &end, 10) : 1;
    return end == text + length && (!times || *lanes > 1);
}

static const Helper *helper_find(const Name *name) {
    for (int i = 0; i < COUNT_OF(helpers); i++) {
        const Helper *helper = &helpers[i];
        const char *text = dtypes[name->dtype].text, *from = strrchr(name->helper, '_');
        bool any = helper->name[0] == '*' && from && !strcmp(helper->name + 1, from);
        if (!any && strcmp(helper->name, name->helper)) continue;
        if (helper->dtypes[0] && !strstr(helper->dtypes, text)) continue;
        if (name->lanes > 1 ? helper->vector : helper->scalar) return helper;
    }
    return NULL;
}

// fma_f32x8 => fma, f32, 8 lanes; NULL if no helper is called so.
static const Helper *helper_parse(const char *text, size_t length, Name *name) {
    size_t split = length;
    while (split && text[split - 1] != '_') split--;
    if (split < 2 || split - 1 >= sizeof name->helper) return NULL;
    if (!type_parse(text + split, length - split, &name->dtype, &name->lanes)) return NULL;
    memcpy(name->helper, text, split - 1);
    name->helper[split - 1] = 0;
    return helper_find(name);
}

typedef struct {
    Arena *arena;
    Text types, functions;
    Map *seen;  // hash of a name => 0
    bool cuda;
} Prelude;

static bool is_new(Prelude *prelude, const char *name, size_t length) {
    uint64_t key = hash_bytes(name, length, 0);
    if (map_find(prelude->seen, key, NULL, NULL) >= 0) return false;
    map_add(prelude->arena, prelude->seen, key, 0);
    return true;
}

static const char *vector_name(Arena *arena, const char *element, int lanes) {
    return lanes > 1 ? arena_print(arena, "%sx%d", element, lanes) : element;
}

static int masked_bits(DType dtype) { return dtypes[dtype].bytes == 8 ? 64 : 32; }

static void add_lanes(Text *out, const char *at, const char *end, int lanes) {
    for (int lane = 0; lane < lanes; lane++) {
        text_add(out, lane ? lane % 8 ? ", " : ",\n        " : "");
        for (const char *c = at; c < end; c++)
            if (*c == '@')
                text_add(out, "%d", lane);
            else
                text_add_bytes(out, c, 1);
    }
}

static const char *group_end(const char *at) {  // at an opening parenthesis: behind the closing one
    int depth = 0;
    do depth += (*at == '(') - (*at == ')');
    while (*at++ && depth);
    return at;
}

// A row's text with its types put in.
static char *instantiate(Prelude *prelude, const Helper *helper, const Name *name) {
    Arena *arena = prelude->arena;
    const char *element = dtypes[name->dtype].text;
    const char *type = vector_name(arena, element, name->lanes);
    const char *at = name->lanes > 1 ? helper->vector : helper->scalar;
    char source[16];
    snprintf(source, sizeof source, "%s", name->helper);
    if (strchr(source, '_')) *strchr(source, '_') = 0;
    Text raw = text_new(arena), out = text_new(arena);
    for (; *at; at++) {  // all but $L, whose content may have others in it
        if (*at != '$' || at[1] == 'L') {
            text_add_bytes(&raw, at, 1);
            continue;
        }
        switch (*++at) {
        case 'R': text_add(&raw, "%s_%s", name->helper, type); break;
        case 'T':
            if (name->dtype == DT_BOOL)
                text_add(&raw, "i32x%d", name->lanes);
            else
                text_add(&raw, "%s", type);
            break;
        case 'E': text_add(&raw, "%s", element); break;
        case 'N': text_add(&raw, "%d", name->lanes); break;
        case 'W': text_add(&raw, "%d", name->lanes * dtypes[name->dtype].bytes); break;
        case 'B': text_add(&raw, "%d", 8 * dtypes[name->dtype].bytes - 1); break;
        case 'M': text_add(&raw, "i%dx%d", masked_bits(name->dtype), name->lanes); break;
        case 'S': text_add(&raw, "%s", vector_name(arena, source, name->lanes)); break;
        case 'F': text_add(&raw, "f32x%d", name->lanes); break;
        case 'I': text_add(&raw, "i32x%d", name->lanes); break;
        case 'U': text_add(&raw, "u32x%d", name->lanes); break;
        default: fatal("prelude: $%c in helper %s", *at, helper->name);
        }
    }
    for (at = raw.at; *at; at++) {
        if (*at != '$') {
            text_add_bytes(&out, at, 1);
            continue;
        }
        const char *end = group_end(at + 2);
        add_lanes(&out, at + 3, end - 1, name->lanes);
        at = end - 1;
    }
    return out.at;
}

static void add_names(Prelude *prelude, const char *text);

static void add_type(Prelude *prelude, const char *name, size_t length, DType dtype, int lanes,
                     bool memory) {
    if (!is_new(prelude, name, length)) return;
    if (prelude->cuda) {
        text_add(&prelude->types, "#ifdef __CUDACC__\n");
        if (lanes > 1)  // a text may stand in a file twice
            text_add(&prelude->types,
                     "#ifndef PG_HAS_%.*s\n#define PG_HAS_%.*s\n"
                     "typedef struct {\n    %s at[%d];\n} %.*s;\n#endif\n",
                     (int)length, name, (int)length, name, dtypes[dtype].text, lanes, (int)length,
                     name);
        else
            text_add(&prelude->types, "typedef %s %.*s;\n", dtypes[dtype].text, (int)length, name);
        text_add(&prelude->types, "#else\n");
    }
    text_add(&prelude->types, "typedef %s %.*s __attribute__((", dtypes[dtype].text, (int)length,
             name);
    if (lanes > 1) text_add(&prelude->types, "vector_size(%d)", lanes * dtypes[dtype].bytes);
    if (memory) text_add(&prelude->types, "%saligned(1), may_alias", lanes > 1 ? ", " : "");
    text_add(&prelude->types, prelude->cuda ? "));\n#endif\n" : "));\n");
}

static void add_helper(Prelude *prelude, const Helper *helper, const Name *name, const char *called,
                       size_t length) {
    if (!is_new(prelude, called, length)) return;
    char *text = instantiate(prelude, helper, name);
    add_names(prelude, text);
    int size = (int)length;
    bool both = name->lanes == 1 || !strcmp(helper->name, "load") || !strcmp(helper->name, "store");
    text_add(&prelude->functions,
             prelude->cuda && !both ? "#if !defined(%.*s) && !defined(__CUDACC__)\n"
                                    : "#ifndef %.*s\n",
             size, called);
    text_add(&prelude->functions, "#define %.*s %.*s\n", size, called, size, called);
    text_add(&prelude->functions, "static inline %s#endif\n\n", text);
}

static void add_name(Prelude *prelude, const char *at, size_t length) {
    DType dtype;
    int lanes;
    Name name;
    bool memory = length > 3 && !memcmp(at + length - 3, "_at", 3);
    if (type_parse(at, memory ? length - 3 : length, &dtype, &lanes)) {
        if (memory || lanes > 1) add_type(prelude, at, length, dtype, lanes, memory);
        return;
    }
    const Helper *helper = helper_parse(at, length, &name);
    if (helper) add_helper(prelude, helper, &name, at, length);
}

static void add_names(Prelude *prelude, const char *text) {
    while (*text) {
        size_t length = 0;
        while (isalnum((unsigned char)text[length]) || text[length] == '_') length++;
        if (length) add_name(prelude, text, length);
        text += length ? length : 1;
    }
}

bool prelude_has(const char *name) {
    DType dtype;
    int lanes;
    return !strncmp(name, "tile_", 5) || prelude_gpu_has(name) ||
           type_parse(name, strlen(name), &dtype, &lanes) ||
           helper_parse(name, strlen(name), &(Name){.lanes = 1});
}

// What lies side by side in memory, as CUDA C moves it and as C does.
static const char wide_types[] = "#ifdef __CUDACC__\n"
                                 "typedef u32 wide_4;\n"
                                 "typedef uint2 wide_8;\n"
                                 "typedef uint4 wide_16;\n"
                                 "#define lane_of(x, lane) (x).at[lane]\n"
                                 "#define zeros(type) type{}\n"
                                 "#else\n"
                                 "#define lane_of(x, lane) (x)[lane]\n"
                                 "#define zeros(type) (type){0}\n"
                                 "#endif\n";

void prelude_add(Text *text, Arena *arena, const char *body, bool cuda) {
    Prelude prelude = {arena, text_new(arena), text_new(arena), map_new(arena), cuda};
    bool has_tiles = strstr(body, "tile_begin");
    if (has_tiles) add_names(&prelude, tiles);
    add_names(&prelude, body);
    text_add(text, "%s%s\n%s", scalar_types, cuda ? wide_types : "", prelude.types.at);
    if (cuda) prelude_gpu_add(text, arena, arena_print(arena, "%s%s", prelude.functions.at, body));
    text_add(text, "%s%s", prelude.functions.at, has_tiles ? tiles : "");
}
