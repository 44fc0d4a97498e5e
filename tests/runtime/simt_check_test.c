/* simt_check_test.c - what the checked build counts, held to numbers derived by hand, and what it
 * finds wrong. */
#include "simt_kernel.h"

#include <stdlib.h>
#include <string.h>

enum { N = 4096 };
// With something between, as buffers have: an overrun into a neighbour would be that one's access.
static _Alignas(128) struct { float in[N], gap0[64], other[N], gap1[64], out[N], gap2[64]; } memory;
static float *const in = memory.in, *const other = memory.other, *const out = memory.out;
static SimtCounts counts;

static int run(const char *body, int64_t blocks, int threads, int64_t shared, int64_t n) {
    const float *a = in, *b = other;
    float *c = out;
    void *param[] = {&a, &b, &c, &n};
    const SimtRange range[] = {{"a", in, 4 * N, 4}, {"b", other, 4 * N, 4}, {"c", out, 4 * N, 4}};
    return simt_check(simt_checked(body), blocks, threads, shared, param, 3, range, &counts);
}

TEST(a_row_is_one_line_and_a_column_32) {
    static const char copy[] = "    c[thread_index()] = a[n * thread_index()];";
    CHECK_INT(run(copy, 1, 64, 0, 1), 0);
    CHECK_INT(counts.loads, 2);
    CHECK_INT(counts.load_lines, 2);
    CHECK_INT(counts.load_sectors, 8);
    CHECK_INT(counts.load_bytes, 256);
    CHECK_INT(counts.stores, 2);
    CHECK_INT(counts.store_lines, 2);
    CHECK_INT(counts.store_sectors, 8);
    CHECK_INT(counts.memory_bytes, 512);
    CHECK_INT(run(copy, 1, 64, 0, 64), 0);
    CHECK_INT(counts.loads, 2);
    CHECK_INT(counts.load_lines, 64);
    CHECK_INT(counts.load_sectors, 64);
    CHECK_INT(counts.load_bytes, 256);
    CHECK_INT(counts.store_lines, 2);
    CHECK_INT(run(copy, 1, 64, 0, 0), 0);  // all lanes the same
    CHECK_INT(counts.load_lines, 2);
    CHECK_INT(counts.load_sectors, 2);
    CHECK_INT(counts.memory_bytes, 256 + 4);
}

static const char wide[] =
    "    typedef f32 f32x4 __attribute__((vector_size(16)));\n"
    "    typedef f32 f32x4_at __attribute__((vector_size(16), aligned(1), may_alias));\n"
    "    const f32x4 x = *(const f32x4_at *)(a + 4 * thread_index() + n);\n"
    "    *(f32x4_at *)(c + 4 * thread_index()) = x;";

TEST(sixteen_bytes_a_lane_are_four_lines) {
    CHECK_INT(run(wide, 1, 32, 0, 0), 0);
    CHECK_INT(counts.loads, 1);
    CHECK_INT(counts.load_lines, 4);
    CHECK_INT(counts.load_sectors, 16);
    CHECK_INT(counts.load_bytes, 512);
    CHECK_INT(run(wide, 1, 32, 0, 4), 0);  // half a sector further
    CHECK_INT(counts.load_lines, 5);
    CHECK_INT(counts.load_sectors, 17);
}

// 32 lanes of a warp read a column of a tile 32 wide: the same bank; with rows of which the columns
// are exchanged by an xor, 32 different ones.
TEST(conflicts_of_banks_and_none_after_a_swizzle) {
    static const char column[] =
        "    f32 *tile = (f32 *)shared_at(0);\n"
        "    const i32 t = thread_index();\n"
        "    for (i32 i = 0; i < 32; i++) tile[32 * i + (n ? t ^ i : t)] = a[32 * i + t];\n"
        "    warp_barrier();\n"
        "    f32 sum = 0;\n"
        "    for (i32 i = 0; i < 32; i++) {\n"
        "        const f32 x = tile[32 * t + (n ? i ^ t : i)];\n"
        "        sum = sum + x;\n"
        "    }\n"
        "    c[t] = sum;";
    CHECK_INT(run(column, 1, 32, 4096, 0), 0);
    CHECK_INT(counts.shared, 64);
    CHECK_INT(counts.wavefronts, 32 + 32 * 32);
    CHECK_INT(counts.conflict_free, 64);
    CHECK_INT(counts.shared_bytes, 2 * 4096);
    CHECK_INT(counts.warp_barriers, 1);
    CHECK_INT(counts.load_lines, 32);
    CHECK_INT(run(column, 1, 32, 4096, 1), 0);
    CHECK_INT(counts.wavefronts, 64);
    CHECK_INT(counts.conflict_free, 64);
}

TEST(shared_memory_by_16_bytes_takes_a_quarter_warp_a_wavefront) {
    CHECK_INT(run("    copy_async_16(shared_at(16 * thread_index()), a + 4 * thread_index());\n"
                  "    copy_async_commit();\n"
                  "    copy_async_wait(0);\n"
                  "    barrier();\n"
                  "    const f32 x = *(f32 *)shared_at(4 * (thread_index() / 2));\n"
                  "    c[thread_index()] = x;",
                  2, 64, 1024, 0),
              -1);  // both blocks write to c
    CHECK_INT(run("    copy_async_16(shared_at(16 * thread_index()), a + 4 * thread_index());\n"
                  "    copy_async_commit();\n"
                  "    copy_async_wait(0);\n"
                  "    barrier();\n"
                  "    const f32 x = *(f32 *)shared_at(4 * (thread_index() / 2));\n"
                  "    c[64 * block_index() + thread_index()] = x;",
                  2, 64, 1024, 0),
              0);
    CHECK_INT(counts.copies, 4);
    CHECK_INT(counts.loads, 4);
    CHECK_INT(counts.load_lines, 16);
    CHECK_INT(counts.memory_bytes, 1024 + 512);  // the second block finds a in a cache
    CHECK_INT(counts.shared, 8);
    CHECK_INT(counts.wavefronts, 4 * 4 + 4);
    CHECK_INT(counts.conflict_free, 4 * 4 + 4);
    CHECK_INT(counts.barriers, 4);
}

// A line that some lanes come to less often: its n-th times are requests together.
TEST(lanes_that_diverge_make_requests_of_their_own) {
    CHECK_INT(run("    f32 sum = 0;\n"
                  "    for (i32 i = 0; i < (thread_index() < 8 ? 3 : 1); i++) {\n"
                  "        const f32 x = a[thread_index()];\n"
                  "        sum = sum + x;\n"
                  "    }\n"
                  "    if (thread_index() % 2) c[thread_index()] = sum;",
                  1, 40, 0, 0),
              0);
    CHECK_INT(counts.loads, 3 + 1);
    CHECK_INT(counts.load_sectors, 4 + 1 + 1 + 1);
    CHECK_INT(counts.load_bytes, 4 * (40 + 16));
    CHECK_INT(counts.stores, 2);
    CHECK_INT(counts.store_bytes, 4 * 20);
}

// Blocks 1, 4, 7 of nine: each has a part of c, and all read the same 32 of a, twice.
TEST(some_blocks_of_a_grid) {
    static const char body[] = "    const i32 t = thread_index(), at = 32 * block_index() + t;\n"
                               "    const f32 x = a[t];\n"
                               "    const f32 y = a[31 - t];\n"
                               "    c[at] = x + y + 1;";
    const float *a = in, *b = other;
    float *c = out;
    int64_t n = 0;
    void *param[] = {&a, &b, &c, &n};
    const SimtRange range[] = {{"a", in, 4 * N, 4}, {"b", other, 4 * N, 4}, {"c", out, 4 * N, 4}};
    memset(in, 0, 4 * N);
    memset(out, 0, 4 * N);
    CHECK_INT(simt_check_some(simt_checked(body), 9, 1, 3, 32, 0, param, 3, range, &counts), 0);
    for (int i = 0; i < 9; i++) CHECK_INT((int)out[32 * i], i % 3 == 1);
    CHECK_INT(counts.loads, 6);
    CHECK_INT(counts.load_sectors, 6 * 4);
    CHECK_INT(counts.block_sectors, 3 * 4);
    CHECK_INT(counts.memory_bytes, 128 + 3 * 128);
}

TEST(instructions_of_warps) {
    CHECK_INT(run("    f32 x[4] = {1, 1, 1, 1}, y[2] = {1, 1}, z[4] = {0};\n"
                  "    mma_tf32_16x8x8(z, x, y);\n"
                  "    mma_tf32_16x8x8(z, x, y);\n"
                  "    const u32 votes = ballot(z[0] > 3);\n"
                  "    c[thread_index()] = shuffle_xor_f32(z[0], 1) + votes;\n"
                  "    barrier();\n",
                  1, 96, 0, 0),
              0);
    CHECK_INT(counts.mmas, 6);
    CHECK_INT(counts.ballots, 3);
    CHECK_INT(counts.shuffles, 3);
    CHECK_INT(counts.barriers, 3);
    CHECK_INT(counts.loads + counts.shared, 0);
}

// 64 elements of b, written by as many threads, for a product of four warps.
#define FOUR(show, meet)                                                                      \
    "    f32 *at = (f32 *)shared_at(0), x[4] = {1, 1, 1, 1}, z[4] = {0, 0, 0, 0};\n"          \
    "    if (thread_index() < 64) at[thread_index()] = 1;\n" show meet "    wgmma_fence();\n" \
    "    wgmma_tf32_64x8x8(z, x, wgmma_descriptor(at, 128, 128));\n"                          \
    "    wgmma_commit();\n"                                                                   \
    "    if (n) at[thread_index() % 64] = 2;\n"                                               \
    "    wgmma_wait(0);\n"                                                                    \
    "    c[thread_index()] = z[0];\n"

#define SHOW "    shared_fence_async();\n"
#define MEET "    barrier();\n"

TEST(products_of_four_warps) {
    CHECK_INT(run(FOUR(SHOW, MEET), 1, 128, 256, 0), 0);
    CHECK_INT(counts.mmas, 4);            // 64 x 8 is four times 16 x 8
    CHECK_INT(counts.shared, 2);          // of two warps that store 32 words each
    CHECK_INT(counts.wavefronts, 2 + 2);  // b is two pieces of 128 bytes
    CHECK_INT(counts.shared_bytes, 256 + 256);
    CHECK_FAIL(run(FOUR("", MEET), 1, 128, 256, 0), "has not shown to products");
    CHECK_FAIL(run(FOUR(MEET, SHOW), 1, 128, 256, 0), "has not shown to products");
    CHECK_FAIL(run(FOUR(SHOW, ""), 1, 128, 256, 0), "with no barrier between");
    CHECK_FAIL(run(FOUR(SHOW, MEET), 1, 128, 256, 1), "of shared memory at");  // written again
}

TEST(races) {
    static const char neighbour[] = "    f32 *at = (f32 *)shared_at(0);\n"
                                    "    const i32 t = thread_index();\n"
                                    "    at[t] = 1;\n"
                                    "    if (n == 1) warp_barrier();\n"
                                    "    if (n == 2) barrier();\n"
                                    "    const f32 x = at[t ^ b_lane];\n"
                                    "    c[t] = x;";
    char in_warp[sizeof neighbour + 32], across[sizeof neighbour + 32];
    snprintf(in_warp, sizeof in_warp, "    const i32 b_lane = 1;\n%s", neighbour);
    snprintf(across, sizeof across, "    const i32 b_lane = 32;\n%s", neighbour);
    CHECK_FAIL(run(in_warp, 1, 64, 256, 0), "of shared memory at");
    CHECK_INT(run(in_warp, 1, 64, 256, 1), 0);
    CHECK_INT(run(in_warp, 1, 64, 256, 2), 0);
    CHECK_FAIL(run(across, 1, 64, 256, 1), "of shared memory at");
    CHECK_INT(run(across, 1, 64, 256, 2), 0);
    // Read before a write, by every other thread: two readers are known, and one would do.
    CHECK_FAIL(run("    f32 *at = (f32 *)shared_at(0);\n"
                   "    if (thread_index() == 0) *at = 1;\n"
                   "    barrier();\n"
                   "    const f32 x = *at;\n"
                   "    if (thread_index() == 5) *at = x;",
                   1, 64, 4, 0),
               "with no barrier between");
    CHECK_FAIL(run("    c[thread_index() / 2] = 1;", 1, 64, 0, 0),
               "wrote, with no barrier between");
    CHECK_FAIL(
        run("    c[0] = 1;", 2, 1, 0, 0),
        "block 1: thread 0 writes 4 bytes of c at 0, which thread 0 of block 0 wrote: blocks "
        "have no order");
}

TEST(what_was_not_written_or_is_under_way) {
    CHECK_FAIL(
        run("    c[0] = *(f32 *)shared_at(8);", 1, 1, 16, 0),
        "block 0: thread 0 reads 4 bytes of shared memory at 8, which nothing was written to");
    CHECK_FAIL(run("    copy_async_16(shared_at(0), a);\n"
                   "    copy_async_commit();\n"
                   "    c[0] = *(f32 *)shared_at(4);\n"
                   "    copy_async_wait(0);",
                   1, 1, 16, 0),
               "reads 4 bytes of shared memory at 4, which thread 0 still copies to, with no wait "
               "for it between");
    CHECK_INT(run("    copy_async_4(shared_at(4), a);\n"
                  "    copy_async_commit();\n"
                  "    copy_async_wait(0);\n"
                  "    c[0] = *(f32 *)shared_at(4);\n",
                  1, 1, 16, 0),
              0);
}

TEST(out_of_bounds) {
    static const char body[] = "    c[n] = a[0];";
    CHECK_INT(run(body, 1, 1, 0, N - 1), 0);
    CHECK_FAIL(run(body, 1, 1, 0, N), "thread 0 writes 4 bytes at 16384 of c, which has 16384");
    CHECK_FAIL(run("    c[0] = a[n - 1];", 1, 1, 0, 0), "reads 4 bytes at");
    CHECK_FAIL(run("    *(f32 *)shared_at(n) = 0;", 1, 1, 16, 16),
               "at 16 of shared memory, which has 16 bytes");
    CHECK_FAIL(run("    *(f32 *)shared_at(n) = 0;", 1, 1, 16, 14), "at 14 of shared memory");
    CHECK_FAIL(run("    copy_async_16(shared_at(0), a + n);", 1, 1, 16, N), "reads 16 bytes at");
    CHECK_INT(run("    copy_async_16_if(shared_at(0), a + n, 0);", 1, 1, 16, N), 0);
    CHECK_FAIL(run("    *(volatile f32 *)n = 0;", 1, 1, 0, 64), "writes 4 bytes at");
    CHECK_INT(
        run("    static const f32 table[4] = {1, 2, 3, 4};\n    c[0] = table[n];", 1, 1, 0, 3), 0);
    CHECK(out[0] == 4);
}

TEST(barriers_of_two_places) {
    CHECK_FAIL(run("    if (thread_index() < 7) barrier();\n    else barrier();", 1, 32, 0, 0),
               "meet at different places");
    CHECK_FAIL(run("    if (thread_index() < 7) barrier();", 1, 32, 0, 0),
               "threads 0 to 6 at a barrier, threads 7 to 31 at the end");
    CHECK_FAIL(run("    const i32 x = thread_index() % 2 ? shuffle_i32(1, 1) : shuffle_i32(2, 3);\n"
                   "    c[thread_index()] = x;",
                   1, 32, 0, 0),
               "meet at different places");
}

TEST(the_same_text_runs_unchecked) {
    const float *a = in, *b = other;
    float *c = out;
    int64_t n = 1;
    void *param[] = {&a, &b, &c, &n};
    in[3] = 5;
    CHECK_INT(simt_launch(simt_checked("    c[thread_index()] = a[3 * n];"), 8, 32, 0, param), 0);
    CHECK(out[31] == 5);
}
