/* matmul.h - what matmul.c and matmul_thin.c share: a register of floats, as wide as the
 * instruction set has them. A multiply and an add are fused where the CPU can, and only where it
 * is written. */
#ifndef PICOGRAD_LIBRARY_MATMUL_H
#define PICOGRAD_LIBRARY_MATMUL_H
#ifdef __AVX2__
#include <immintrin.h>
#endif

#include "runtime/library/library.h"

// Products that read each element of b few times; see matmul_thin.c for what they ask of strides.
void LIBRARY_NAME(matmul_dots)(const Matmul *matmul);
void LIBRARY_NAME(matmul_rows)(const Matmul *matmul);

// A register tile of c is TILE_ROWS x 2 vectors: that, two vectors of b and one element of a, in
// every lane, are 31 of AVX-512's 32 registers, 15 of the others' 16.
#if defined(__AVX512F__)
enum { LANES = 16, TILE_ROWS = 14 };
#elif defined(__AVX2__)
enum { LANES = 8, TILE_ROWS = 6 };
#else
enum { LANES = 4, TILE_ROWS = 4 };
#endif
enum { TILE_COLUMNS = 2 * LANES };

typedef float Vector __attribute__((vector_size(LANES * sizeof(float))));
typedef float AnyVector __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));
typedef float Four __attribute__((vector_size(16)));
typedef float AnyFour __attribute__((vector_size(16), aligned(4), may_alias));

static inline Vector vector_load(const float *at) { return *(const AnyVector *)at; }
static inline void vector_store(float *at, Vector x) { *(AnyVector *)at = x; }
static inline Vector vector_of(float x) { return x - (Vector){0}; }  // in every lane

static inline Vector vector_fma(Vector x, Vector y, Vector z) {
#if defined(__AVX512F__)
    return _mm512_fmadd_ps(x, y, z);
#elif defined(__AVX2__)
    return _mm256_fmadd_ps(x, y, z);
#else
    return x * y + z;
#endif
}

// Elements of x are 0 to 3, those of y 4 to 7.
#ifdef __clang__
#define FOUR_OF(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#else
typedef int32_t FourPlaces __attribute__((vector_size(16)));
#define FOUR_OF(x, y, ...) __builtin_shuffle(x, y, (FourPlaces){__VA_ARGS__})
#endif

static inline Four four_load(const float *at) { return *(const AnyFour *)at; }
static inline void four_store(float *at, Four x) { *(AnyFour *)at = x; }

// Its quarters, or halves, added.
static inline Four vector_to_four(Vector x) {
#if defined(__AVX512F__)
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
#elif defined(__AVX2__)
    return _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
#else
    return x;
#endif
}

// The sums of four vectors' lanes.
static inline Four vector_sums(Vector a, Vector b, Vector c, Vector d) {
    Four w = vector_to_four(a), x = vector_to_four(b), y = vector_to_four(c), z = vector_to_four(d);
    Four wx = FOUR_OF(w, x, 0, 1, 4, 5) + FOUR_OF(w, x, 2, 3, 6, 7);
    Four yz = FOUR_OF(y, z, 0, 1, 4, 5) + FOUR_OF(y, z, 2, 3, 6, 7);
    return FOUR_OF(wx, yz, 0, 2, 4, 6) + FOUR_OF(wx, yz, 1, 3, 5, 7);
}
#endif
