/* roof.c - what the machine itself can do, for one thread and one instruction set: the roofs that
 * kernels are held against.
 * In: how much to do.  Out: how much was done; the caller holds the clock.
 * Invariant: enough sums run side by side that none waits for the one before; the compiler can
 * leave nothing out, since what is returned depends on all of it. */
#include "runtime/library/matmul.h"

// More than the latency of a fused multiply-add times how many start in a cycle: 4 x 2, or 5 x 2.
enum { SUMS = 12 };

static double multiply_add(int64_t steps, float *result) {
    Vector sum[SUMS], factor = vector_of(0.999F), term = vector_of(0.001F), all = {0};
    for (int i = 0; i < SUMS; i++) sum[i] = vector_of((float)i);
    for (int64_t step = 0; step < steps; step++) {
#pragma GCC unroll 16
        for (int i = 0; i < SUMS; i++) sum[i] = vector_fma(sum[i], factor, term);
    }
    for (int i = 0; i < SUMS; i++) all += sum[i];
    *result += all[0];
    return 2.0 * SUMS * LANES * (double)steps;
}

// Integers: exclusive or takes the fewest cycles of all, and knows no numbers that are slow.
typedef uint32_t Bits __attribute__((vector_size(LANES * sizeof(float)), may_alias));

static double read_all(const void *at, size_t bytes, int64_t times, uint32_t *result) {
    enum { STEP = 8 };
    const Bits *end = (const Bits *)((const char *)at + bytes);
    Bits sum[STEP] = {0};
    for (int64_t i = 0; i < times; i++) {
        for (const Bits *from = at; from < end; from += STEP) {
#pragma GCC unroll 8
            for (int j = 0; j < STEP; j++) sum[j] ^= from[j];
        }
        __asm__ volatile("" ::: "memory");  // else two times would cancel each other
    }
    for (int j = 1; j < STEP; j++) sum[0] ^= sum[j];
    for (int j = 0; j < LANES; j++) *result ^= sum[0][j];
    return (double)bytes * (double)times;
}

#ifdef __AVX512F__
// Four tiles of 16 x 16 sums, so that each has 64 cycles for its 52; two tiles of 16 x 32 on each
// side. GCC 12's own _tile_loadconfig names only 8 of the 64 bytes that it reads.
__attribute__((target("amx-tile,amx-bf16"))) static double tiles(int64_t steps) {
    enum { ROWS = 16, ROW_BYTES = 64, USED = 8, BYTES_AT = 16, ROWS_AT = 48 };
    uint8_t config[64] = {[0] = 1};  // the first palette
    for (int i = 0; i < USED; i++) config[BYTES_AT + 2 * i] = ROW_BYTES, config[ROWS_AT + i] = ROWS;
    __asm__ volatile("ldtilecfg %0" : : "m"(config));
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    _tile_zero(6);
    _tile_zero(7);
    for (int64_t step = 0; step < steps; step++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_release();
    return 4 * 2.0 * 16 * 16 * 32 * (double)steps;
}
#else
static double (*const tiles)(int64_t) = NULL;
#endif

const RoofFunctions LIBRARY_NAME(roof_functions) = {multiply_add, read_all, tiles};
