/* ladder_test.c - each rung of bench/ladder computes the product, and moves what it is there to
 * show: counts of simt's checked build against numbers worked out by hand. */
#include "schedule/ladder.h"

#include "codegen/run.h"
#include "test.h"

#include <math.h>
#include <string.h>

enum { N = 128, WARP = 32 };

static struct {
    Arena *arena;
    float *a, *b, *c;
} memory;

static void fill_memory(int n) {
    run_private_cache();
    if (!memory.arena) memory.arena = arena_new();
    memory.a = random_floats(memory.arena, (int64_t)n * n, 1);
    memory.b = random_floats(memory.arena, (int64_t)n * n, 2);
    memory.c = arena_array(memory.arena, float, (int64_t)n *n);
    memset(memory.c, 0xff, sizeof *memory.c * (size_t)n * (size_t)n);
}

// ---- results -----------------------------------------------------------------------------------

// To nearest, ties away from zero: 10 bits of the fraction stay.
static double tf32(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    bits = (bits + 0x1000) & 0xffffe000;
    memcpy(&x, &bits, 4);
    return (double)x;
}

// A sum of n products in f32 is within n 2^-24 of the exact one, times the sum of their sizes, in
// any order; tensor cores may cut instead of rounding: twice that. Their factors are rounded.
static void check_product(int rung, int n) {
    bool rounds = rung >= 6;
    Rung made = ladder_read(rung, n, true);
    fill_memory(n);
    ladder_run(&made, memory.a, memory.b, memory.c);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            double sum = 0, sizes = 0;
            for (int k = 0; k < n; k++) {
                float x = memory.a[i * n + k], y = memory.b[k * n + j];
                double product = rounds ? tf32(x) * tf32(y) : (double)x * (double)y;
                sum += product;
                sizes += fabs(product);
            }
            CHECK_NEAR((double)memory.c[i * n + j], sum, (rounds ? 2 : 1) * n * sizes * 0x1p-24);
        }
    ladder_free(&made);
}

TEST(every_rung_computes_the_product) {
    for (int rung = 0; rung < LADDER_RUNGS; rung++) check_product(rung, N);
}

TEST(of_several_blocks_too) {
    for (int rung = 0; rung < LADDER_RUNGS; rung++) check_product(rung, 2 * N);
}

// ---- counts ------------------------------------------------------------------------------------

// The program alone says what running it shows. It has the copies of a pipeline that would come
// after the last slice.
static void check_work(const GpuCounts *program, const SimtCounts *counts, bool ahead, bool wgmma) {
    enum { SLICES = N / 32, AHEAD = 2 };
    GpuCounts scaled = *program, *work = &scaled;
    double *const copied[] = {&work->loads, &work->load_lines, &work->load_sectors};
    for (int i = 0; i < COUNT_OF(copied) && ahead; i++)
        *copied[i] *= (double)SLICES / (SLICES + AHEAD);
    CHECK_NEAR(work->tensor_flops, 2048 * (double)counts->mmas, 0);
    if (wgmma) return;  // b is loaded one slice ahead, and a two
    CHECK_NEAR(work->loads, (double)counts->loads, 0);
    CHECK_NEAR(work->load_lines, (double)counts->load_lines, 0);
    CHECK_NEAR(work->load_sectors, (double)counts->load_sectors, 0);
    CHECK_NEAR(work->stores, (double)counts->stores, 0);
    CHECK_NEAR(work->store_lines, (double)counts->store_lines, 0);
    CHECK_NEAR(work->store_sectors, (double)counts->store_sectors, 0);
    if (ahead) return;
    CHECK_NEAR(work->shared, (double)counts->shared, 0);
    CHECK_NEAR(work->wavefronts, (double)counts->wavefronts, 0);
    CHECK_NEAR(work->conflict_free, (double)counts->conflict_free, 0);
}

// Of all warps of the launch, each once, in a matrix of N x N.
static SimtCounts counts_of(int rung, bool gaps) {
    Rung made = ladder_read(rung, N, gaps);
    fill_memory(N);
    SimtCounts counts = ladder_count(&made, made.blocks, memory.a, memory.b, memory.c);
    CHECK_INT(counts.memory_bytes, 3 * 4 * N * N);
    check_work(&made.work, &counts, rung == 7, rung >= LADDER_WGMMA);
    ladder_free(&made);
    return counts;
}

// A warp has 32 rows of one column. For each of N products a lane loads an element of a, 4 N bytes
// from the next lane's, so in a line of its own, and the element of b that all lanes want.
TEST(naive_loads_a_line_for_each_lane) {
    const int warps = N * N / WARP;
    SimtCounts counts = counts_of(0, true);
    CHECK_INT(counts.loads, warps * 2 * N);
    CHECK_INT(counts.load_lines, warps * N * (32 + 1));
    CHECK_INT(counts.load_sectors, warps * N * (32 + 1));
    CHECK_INT(counts.stores, warps);
    CHECK_INT(counts.store_lines, warps * 32);
    CHECK_INT(counts.shared + counts.barriers, 0);
}

// A warp has 32 columns of one row: 128 bytes of b, which are 4 sectors, and one element of a.
TEST(coalesced_loads_a_line_for_each_request) {
    const int warps = N * N / WARP;
    SimtCounts counts = counts_of(1, true);
    CHECK_INT(counts.loads, warps * 2 * N);
    CHECK_INT(counts.load_lines, warps * N * (1 + 1));
    CHECK_INT(counts.load_sectors, warps * N * (4 + 1));
    CHECK_INT(counts.stores, warps);
    CHECK_INT(counts.store_lines, warps);
    CHECK_INT(counts.store_sectors, warps * 4);
}

// A slice of 32 products: a warp copies a row of 32 elements of a and one of b, and reads 2 * 32
// times, a word for all lanes or 32 words side by side.
TEST(shared_memory_takes_a_32nd_of_the_loads) {
    const int warps = N * N / WARP, slices = N / 32;
    SimtCounts counts = counts_of(2, true);
    CHECK_INT(counts.loads, warps * slices * 2);
    CHECK_INT(counts.load_lines, counts.loads);
    CHECK_INT(counts.load_sectors, 4 * counts.loads);
    CHECK_INT(counts.shared, warps * slices * (2 + 2 * 32));
    CHECK_INT(counts.wavefronts, counts.shared);
    CHECK_INT(counts.barriers, warps * slices * 2);
}

// 16 warps for 64 x 64 elements. Of a slice of 8 products a warp copies half a row of b, a line,
// and 8 elements each of 4 rows of a; then it reads 1 + 8 values for 8 products, 8 times.
TEST(a_column_of_8_reads_9_values_for_8_products) {
    const int warps = N * N / WARP / 8, slices = N / 8;
    SimtCounts counts = counts_of(3, true);
    CHECK_INT(counts.loads, warps * slices * 2);
    CHECK_INT(counts.load_lines, warps * slices * (1 + 4));
    CHECK_INT(counts.load_sectors, warps * slices * (4 + 4));
    CHECK_INT(counts.shared, warps * slices * (2 + 8 * (1 + 8)));
    CHECK_INT(counts.wavefronts, counts.shared);
    CHECK_INT(counts.store_lines, counts.stores);
}

// 8 warps for 128 x 128 elements, which copy as above, four times. A warp is 2 rows of 16 threads:
// what it reads of b is 16 words, 8 apart, so 4 in each of 4 banks; of a, 2 words that are 64
// apart, in one bank. A row of threads stores 16 words that lie 32 bytes apart, in 4 lines.
TEST(a_square_of_8_by_8_reads_16_values_for_64_products_with_conflicts) {
    const int warps = N * N / WARP / 64, slices = N / 8;
    SimtCounts counts = counts_of(4, true);
    CHECK_INT(counts.loads, warps * slices * 8);
    CHECK_INT(counts.load_lines, warps * slices * 4 * (1 + 4));
    CHECK_INT(counts.shared, warps * slices * (8 + 8 * 16));
    CHECK_INT(counts.conflict_free, counts.shared);
    CHECK_INT(counts.wavefronts, warps * slices * (8 + 8 * (8 * 4 + 8 * 2)));
    CHECK_INT(counts.stores, warps * 64);
    CHECK_INT(counts.store_lines, warps * 64 * 2 * 4);
    CHECK_INT(counts.store_sectors, warps * 64 * 2 * 16);
}

// The same tile. A warp copies 512 bytes of a row of b, and 32 bytes each of 16 rows of a, which it
// stores transposed, word by word. 16 bytes a lane are at least 4 wavefronts, for 8 lanes each: 8
// threads read 128 bytes of b side by side, or the same 16 of a.
TEST(vectors_read_64_products_values_in_4_requests) {
    const int warps = N * N / WARP / 64, slices = N / 8;
    SimtCounts counts = counts_of(5, true);
    CHECK_INT(counts.loads, warps * slices * 2);
    CHECK_INT(counts.load_lines, warps * slices * (4 + 16));
    CHECK_INT(counts.load_sectors, warps * slices * (16 + 16));
    CHECK_INT(counts.shared, warps * slices * (1 + 4 + 8 * 4));
    CHECK_INT(counts.wavefronts, warps * slices * (4 + 4 + 8 * 16));
    CHECK_INT(counts.conflict_free, counts.wavefronts);
    CHECK_INT(counts.stores, warps * 16);
    CHECK_INT(counts.store_lines, warps * 16 * 4);
    CHECK_INT(counts.store_sectors, warps * 16 * 16);
    // A warp stores 16 elements each to two rows that are 4 * 128 words apart: the same banks. With
    // 4 * 132 words between they are 16 banks apart.
    counts = counts_of(5, false);
    CHECK_INT(counts.wavefronts, warps * slices * (4 + 4 * 2 + 8 * 16));
}

// Slices of 32 products. A warp copies 4 times 512 bytes of a row of b, and 4 times 128 bytes of 4
// rows of a. For 8 products it reads 16 words of a and 8 of b, for 4 x 4 tiles of the instruction.
// The lanes' words of a are at 36 (lane / 4) + lane % 4, those of b at 136 (lane % 4) + lane / 4:
// 32 banks. Without gaps at 32 (lane / 4) + lane % 4, 8 in each of 4 banks, and at
// 128 (lane % 4) + lane / 4, 4 in each of 8.
TEST(tensor_cores_read_24_values_for_1024_products) {
    const int warps = N * N / WARP / 64, slices = N / 32;
    SimtCounts counts = counts_of(6, true);
    CHECK_INT(counts.mmas, warps * slices * 4 * 16);
    CHECK_INT(counts.loads, warps * slices * 8);
    CHECK_INT(counts.load_lines, warps * slices * 8 * 4);
    CHECK_INT(counts.load_sectors, warps * slices * 8 * 16);
    CHECK_INT(counts.shared, warps * slices * (8 + 4 * (16 + 8)));
    CHECK_INT(counts.wavefronts, warps * slices * (8 * 4 + 4 * (16 + 8)));
    CHECK_INT(counts.conflict_free, counts.wavefronts);
    CHECK_INT(counts.barriers, warps * slices * 2);
    counts = counts_of(6, false);
    CHECK_INT(counts.wavefronts, warps * slices * (8 * 4 + 4 * (16 * 8 + 8 * 4)));
}

// The same requests, and threads meet once a slice: behind the wait for it, before the copy into
// the place that they read in the slice before. What is copied does not pass through registers.
TEST(a_pipeline_copies_the_same_ahead) {
    const int warps = N * N / WARP / 64, slices = N / 32;
    SimtCounts counts = counts_of(7, true), before = counts_of(6, true);
    CHECK_INT(counts.copies, warps * slices * 8);
    CHECK_INT(counts.loads, before.loads);
    CHECK_INT(counts.load_lines, before.load_lines);
    CHECK_INT(counts.wavefronts, before.wavefronts);
    CHECK_INT(counts.mmas, before.mmas);
    CHECK_INT(counts.barriers, warps * slices);
}

// A warp copies 16 bytes a lane of a, 4 rows of 128 bytes a request, and loads words of b, 128
// bytes of a row each, which it stores four at a time: 512 bytes in a row. It reads its 16 x 32
// elements of a once, 36 words from row to row. Four warps read 32 x 128 elements of b together, in
// pieces of 128 bytes: 32 wavefronts for each 8 of k.
TEST(four_warps_read_shared_memory_together) {
    const int warps = N * N / WARP / 64, slices = N / 32;
    SimtCounts counts = counts_of(8, true), before = counts_of(7, true);
    CHECK_INT(counts.mmas, before.mmas);
    CHECK_INT(counts.copies, warps * slices * 4);
    CHECK_INT(counts.loads, warps * slices * (4 + 16));
    CHECK_INT(counts.load_lines, warps * slices * (4 * 4 + 16));
    CHECK_INT(counts.load_sectors, warps * slices * (4 * 16 + 16 * 4));
    CHECK_INT(counts.shared, warps * slices * (4 + 4 + 16));
    CHECK_INT(counts.wavefronts,
              warps * slices * (4 * 4 + 4 * 4 + 16) + warps / 4 * slices * 4 * 32);
    CHECK_INT(counts.conflict_free, counts.wavefronts);
    CHECK_INT(counts.barriers, warps * slices);
    counts = counts_of(8, false);
    CHECK_INT(counts.wavefronts,
              warps * slices * (4 * 4 + 4 * 4 + 16 * 8) + warps / 4 * slices * 4 * 32);
}

// ---- machine code ------------------------------------------------------------------------------

TEST(every_rung_compiles_without_spills) {
    static const char *const architectures[] = {"sm_80", "sm_90a"};
    for (int rung = 0; rung < LADDER_RUNGS; rung++) {
        Rung made = ladder_read(rung, 1024, true);
        for (int i = 0; i < COUNT_OF(architectures); i++) {
            NvrtcKernel kernel;
            if (rung >= LADDER_WGMMA && strcmp(architectures[i], "sm_90a") != 0) continue;
            if (ladder_compile(&made, architectures[i], &kernel)) SKIP(error_text());
            CHECK_INT(kernel.spill_stores + kernel.spill_loads + kernel.stack, 0);
            // An SM has 65536 registers: two blocks of these threads fit.
            CHECK(kernel.registers * made.threads <= 32768);
        }
        ladder_free(&made);
    }
}
