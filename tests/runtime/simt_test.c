/* simt_test.c - kernels in the common subset of C11 and CUDA C++, written by hand, on the CPU: what
 * they compute, and what is found wrong in them. */
#include "codegen/codegen.h"
#include "simt_kernel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int launch(SimtFunction *function, int64_t blocks, int threads, int64_t shared,
                  const float *a, const float *b, float *c, int64_t n) {
    void *param[] = {&a, &b, &c, &n};
    return simt_launch(function, blocks, threads, shared, param);
}

TEST(elementwise_in_many_blocks) {
    enum { N = 100000 };
    SimtFunction *add = simt_kernel("    i64 i = (i64)block_index() * 256 + thread_index();\n"
                                    "    if (i < n) c[i] = a[i] + b[i] + 0 * block_count();");
    float *a = simt_values(N, 1), *b = simt_values(N, 2), *c = simt_values(N + 1, 3);
    float behind = c[N];
    CHECK_INT(launch(add, (N + 255) / 256, 256, 0, a, b, c, N), 0);
    for (int i = 0; i < N; i++) CHECK(c[i] == a[i] + b[i]);
    CHECK(c[N] == behind);
    CHECK_INT(launch(add, 0, 256, 0, a, b, c, N), 0);
    free(a), free(b), free(c);
}

TEST(a_launch_that_no_gpu_takes_is_refused) {
    SimtFunction *nothing = simt_kernel("    (void)n;");
    CHECK_FAIL(launch(nothing, 1, 1025, 0, NULL, NULL, NULL, 0), "1025 threads");
    CHECK_FAIL(launch(nothing, 1, 0, 0, NULL, NULL, NULL, 0), "0 threads");
    CHECK_FAIL(launch(nothing, -1, 1, 0, NULL, NULL, NULL, 0), "-1 blocks");
    CHECK_FAIL(launch(nothing, 1, 1, 300000, NULL, NULL, NULL, 0), "300000 bytes");
    CHECK_INT(launch(nothing, 1, 1024, 227 << 10, NULL, NULL, NULL, 0), 0);
}

// Each block's sum: shuffles in a warp, then shared memory among the warps.
static const char block_sum[] =
    "    f32 *part = (f32 *)shared_at(0);\n"
    "    const i32 thread = thread_index();\n"
    "    f32 sum = a[(i64)block_index() * n + thread];\n"
    "    for (i32 mask = 16; mask; mask /= 2) sum += shuffle_xor_f32(sum, mask);\n"
    "    if (thread % 32 == 0) part[thread / 32] = sum;\n"
    "    barrier();\n"
    "    if (thread < 32) {\n"
    "        sum = thread < n / 32 ? part[thread] : 0;\n"
    "        for (i32 mask = 16; mask; mask /= 2) sum += shuffle_xor_f32(sum, mask);\n"
    "        if (thread == 0) c[block_index()] = sum;\n"
    "    }";

TEST(sums_of_blocks_do_not_depend_on_the_seed) {
    enum { BLOCKS = 40, THREADS = 1024 };
    SimtFunction *sum = simt_kernel(block_sum);
    float *a = simt_values(BLOCKS * THREADS, 4), c[BLOCKS], first[BLOCKS];
    for (int seed = 0; seed < 4; seed++) {
        char text[8];
        snprintf(text, sizeof text, "%d", seed);
        setenv("PG_SIMT_SEED", text, 1);
        CHECK_INT(launch(sum, BLOCKS, THREADS, 128, a, NULL, c, THREADS), 0);
        if (!seed) memcpy(first, c, sizeof c);
        CHECK(!memcmp(first, c, sizeof c));
    }
    unsetenv("PG_SIMT_SEED");
    for (int block = 0; block < BLOCKS; block++) {
        double wanted = 0;
        for (int i = 0; i < THREADS; i++) wanted += a[block * THREADS + i];
        CHECK_NEAR(c[block], wanted, 1e-4);
    }
    free(a);
}

// Threads note when they were there, without atomics: one worker runs a block.
TEST(the_order_of_threads_is_the_seeds) {
    SimtFunction *order = simt_kernel("    i32 *at = (i32 *)shared_at(0);\n"
                                      "    if (thread_index() == 0) *at = 0;\n"
                                      "    barrier();\n"
                                      "    c[(*at)++] = thread_index();\n");
    float c[2][96], again[96];
    for (int seed = 0; seed < 2; seed++) {
        setenv("PG_SIMT_SEED", seed ? "11" : "12", 1);
        CHECK_INT(launch(order, 1, 96, 4, NULL, NULL, c[seed], 0), 0);
    }
    CHECK_INT(launch(order, 1, 96, 4, NULL, NULL, again, 0), 0);
    unsetenv("PG_SIMT_SEED");
    CHECK(!memcmp(again, c[1], sizeof again));
    CHECK(memcmp(c[0], c[1], sizeof again) != 0);
    bool seen[96] = {false};
    for (int i = 0; i < 96; i++) seen[(int)c[0][i]] = true;
    for (int i = 0; i < 96; i++) CHECK(seen[i]);
}

TEST(shuffles_of_all_types_and_ballots) {
    SimtFunction *all = simt_kernel(
        "    const i32 thread = thread_index(), lane = thread % 32;\n"
        "    const i64 wide = shuffle_i64((i64)thread << 40 | 5, lane + 1);\n"
        "    const i64 wide_xor = shuffle_xor_i64((i64)thread << 40, 3);\n"
        "    const u32 word = shuffle_u32(thread * 2u, 31 - lane);\n"
        "    const u32 votes = ballot(a[thread] > 0), none = ballot(0), all = ballot(7);\n"
        "    warp_barrier();\n"
        "    const f32 number = shuffle_f32(a[thread], 4);\n"
        "    c[thread] = (wide >> 40) + 1000 * (wide & 7) + (wide_xor >> 32);\n"
        "    c[64 + thread] = word + shuffle_xor_u32(1u, 1);\n"
        "    c[128 + thread] = shuffle_i32(-thread, 7) + shuffle_xor_i32(0, 1);\n"
        "    c[192 + thread] = votes >> lane & 1;\n"
        "    c[256 + thread] = number;\n"
        "    c[320 + thread] = none == 0 && all == 0xffffffffu;");
    float *a = simt_values(64, 5), c[384];
    CHECK_INT(launch(all, 1, 64, 0, a, NULL, c, 0), 0);
    for (int i = 0; i < 64; i++) {
        int warp = i / 32 * 32, lane = i % 32;
        CHECK(c[i] == (float)(warp + (lane + 1) % 32 + 5000 + ((i ^ 3) << 8)));
        CHECK(c[64 + i] == (float)(2 * (warp + 31 - lane) + 1));
        CHECK(c[128 + i] == (float)-(warp + 7));
        CHECK(c[192 + i] == (a[i] > 0));
        CHECK(c[256 + i] == a[warp + 4]);
        CHECK(c[320 + i] == 1);
    }
    free(a);
}

TEST(matmul_in_tiles_of_shared_memory) {
    enum { N = 64 };
    SimtFunction *matmul =
        simt_kernel("    f32 *left = (f32 *)shared_at(0), *right = (f32 *)shared_at(1024);\n"
                    "    const i32 row = thread_index() / 16, column = thread_index() % 16;\n"
                    "    const i64 tiles = n / 16;\n"
                    "    const i64 i = block_index() / tiles * 16 + row;\n"
                    "    const i64 j = block_index() % tiles * 16 + column;\n"
                    "    f32 sum = 0;\n"
                    "    for (i64 k = 0; k < n; k += 16) {\n"
                    "        left[16 * row + column] = a[n * i + k + column];\n"
                    "        right[16 * row + column] = b[n * (k + row) + j];\n"
                    "        barrier();\n"
                    "        for (i32 p = 0; p < 16; p++) sum += left[16 * row + p] * "
                    "right[16 * p + column];\n"
                    "        barrier();\n"
                    "    }\n"
                    "    c[n * i + j] = sum;");
    float *a = simt_values(N * N, 6), *b = simt_values(N * N, 7), *c = simt_values(N * N, 8);
    CHECK_INT(launch(matmul, N * N / 256, 256, 2048, a, b, c, N), 0);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            float sum = 0;
            for (int k = 0; k < N; k++) sum += a[N * i + k] * b[N * k + j];
            CHECK(c[N * i + j] == sum);
        }
    free(a), free(b), free(c);
}

// Two buffers in shared memory: while one is summed, the other is filled.
TEST(copies_into_two_buffers) {
    SimtFunction *sum = simt_kernel(
        "    f32 *at = (f32 *)shared_at(0);\n"
        "    const i32 thread = thread_index();\n"
        "    f32 total = 0;\n"
        "    copy_async_16(at + 4 * thread, a + 4 * thread);\n"
        "    copy_async_commit();\n"
        "    for (i64 step = 0; step < n; step++) {\n"
        "        const i32 here = (step & 1) * 256, there = 256 - here;\n"
        "        const i32 more = step + 1 < n;\n"
        "        copy_async_16_if(at + there + 4 * thread,\n"
        "                         a + (more ? 256 * (step + 1) : 0) + 4 * thread, more);\n"
        "        copy_async_commit();\n"
        "        copy_async_wait(1);\n"
        "        barrier();\n"
        "        for (i32 i = 0; i < 4; i++) total += at[here + (thread ^ 5) + 64 * i];\n"
        "        barrier();\n"
        "    }\n"
        "    copy_async_wait(0);\n"
        "    barrier();\n"
        "    c[thread] = total;\n"
        "    c[64 + thread] = at[(n & 1) * 256 + thread];");
    float *a = simt_values(256 * 5, 9), c[128];
    CHECK_INT(launch(sum, 1, 64, 2048, a, NULL, c, 5), 0);
    for (int thread = 0; thread < 64; thread++) {
        float total = 0;
        for (int step = 0; step < 5; step++)
            for (int i = 0; i < 4; i++) total += a[256 * step + (thread ^ 5) + 64 * i];
        CHECK(c[thread] == total);
        CHECK_INT(bits_of(c[64 + thread]), 0);  // copied where there was nothing more
    }
    free(a);
}

TEST(what_is_not_there_yet_reads_as_nan) {
    SimtFunction *early = simt_kernel("    u32 *at = (u32 *)shared_at(0), *to = (u32 *)c;\n"
                                      "    to[0] = at[0];\n"
                                      "    at[0] = 1;\n"
                                      "    copy_async_4(at, a);\n"
                                      "    copy_async_commit();\n"
                                      "    copy_async_4_if(at + 1, a, 0);\n"
                                      "    copy_async_commit();\n"
                                      "    copy_async_4(at + 2, a + 1);\n"
                                      "    to[1] = at[0];\n"
                                      "    copy_async_wait(1);\n"
                                      "    to[2] = at[0];\n"
                                      "    to[3] = at[1];\n"
                                      "    copy_async_wait(0);\n"
                                      "    to[4] = at[1];\n"
                                      "    to[5] = at[2];");
    uint32_t c[6], a[] = {0x3f800000, 0x40000000};
    CHECK_INT(launch(early, 1, 1, 16, (float *)a, NULL, (float *)c, 0), 0);
    CHECK_INT(c[0], SIMT_UNWRITTEN);
    CHECK_INT(c[1], SIMT_UNDER_WAY);
    CHECK_INT(c[2], 0x3f800000);
    CHECK_INT(c[3], SIMT_UNDER_WAY);
    CHECK_INT(c[4], 0);
    CHECK_INT(c[5], SIMT_UNDER_WAY);  // never committed
    CHECK(isnan(float_of(SIMT_UNWRITTEN)) && isnan(float_of(SIMT_UNDER_WAY)));
}

TEST(copies_that_hardware_refuses) {
    SimtFunction *across = simt_kernel("    copy_async_16(shared_at(0), a + n);");
    SimtFunction *behind = simt_kernel("    copy_async_16(shared_at(n), a);");
    _Alignas(16) float a[8] = {0};
    CHECK_INT(launch(across, 1, 1, 16, a, NULL, NULL, 4), 0);
    CHECK_FAIL(launch(across, 1, 1, 16, a, NULL, NULL, 1), "not aligned");
    CHECK_FAIL(launch(behind, 1, 1, 16, a, NULL, NULL, 16), "copies 16 bytes to 16, of 16");
    CHECK_FAIL(launch(behind, 1, 1, 16, a, NULL, NULL, -16), "copies 16 bytes to -16, of 16");
}

// All 16 x 8 elements and all 8 steps of k, by PTX's figure of who holds which of them.
TEST(matrix_product_of_a_warp) {
    SimtFunction *mma =
        simt_kernel("    const i32 group = thread_index() / 4, place = thread_index() % 4;\n"
                    "    f32 x[4], y[2], z[4];\n"
                    "    for (i32 i = 0; i < 4; i++)\n"
                    "        x[i] = a[8 * (group + 8 * (i % 2)) + place + 4 * (i / 2)];\n"
                    "    for (i32 i = 0; i < 2; i++) y[i] = b[8 * (place + 4 * i) + group];\n"
                    "    for (i32 i = 0; i < 4; i++)\n"
                    "        z[i] = c[8 * (group + 8 * (i / 2)) + 2 * place + i % 2];\n"
                    "    mma_tf32_16x8x8(z, x, y);\n"
                    "    for (i32 i = 0; i < 4; i++)\n"
                    "        c[8 * (group + 8 * (i / 2)) + 2 * place + i % 2] = z[i];");
    float *a = simt_values(128, 10), *b = simt_values(64, 11), *c = simt_values(128, 12),
          *before = simt_values(128, 12);
    CHECK_INT(launch(mma, 1, 32, 0, a, b, c, 0), 0);
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 8; j++) {
            double sum = before[8 * i + j], size = fabs(sum);
            for (int k = 0; k < 8; k++) {
                double product = (double)float_of(bits_of(a[8 * i + k]) & 0xffffe000) *
                                 float_of(bits_of(b[8 * k + j]) & 0xffffe000);
                sum += product;
                size += fabs(product);
            }
            CHECK_NEAR(c[8 * i + j], sum, 8 * ldexp(size, -24));
        }
    free(a), free(b), free(c), free(before);
}

// ---- products of four warps --------------------------------------------------------------------
// b is 1 in the 8 x 8 elements that are there, so a row's sum goes to each of its elements.
#define ONES                                                              \
    "    f32 *at = (f32 *)shared_at(0), x[4], z[4] = {0, 0, 0, 0};\n"     \
    "    const i64 where = wgmma_descriptor(at, 128, 128);\n"             \
    "    if (thread_index() < 64) at[thread_index()] = 1;\n"              \
    "    for (i32 i = 0; i < 4; i++) x[i] = a[4 * thread_index() + i];\n" \
    "    shared_fence_async();\n"                                         \
    "    barrier();\n"
#define BEGIN                               \
    "    wgmma_hold(z, 4);\n"               \
    "    wgmma_hold(x, 4);\n"               \
    "    wgmma_fence();\n"                  \
    "    wgmma_tf32_64x8x8(z, x, where);\n" \
    "    wgmma_commit();\n"
#define WAIT                  \
    "    wgmma_wait(0);\n"    \
    "    wgmma_hold(z, 4);\n" \
    "    c[thread_index()] = z[0];\n"

static int launch_four(const char *body, float *c) {
    float *a = simt_values(4 * 128, 3);
    int result = launch(simt_kernel(body), 1, 128, 512, a, NULL, c, 0);
    free(a);
    return result;
}

TEST(products_of_four_warps_are_done_when_they_are_waited_for) {
    float c[128], early[128];
    CHECK_INT(launch_four(ONES BEGIN WAIT, c), 0);
    for (int i = 0; i < 128; i++) CHECK(fabsf(c[i]) <= 8 && c[i] == c[i / 4 * 4]);
    // what is summed in, before
    CHECK_INT(launch_four(ONES BEGIN "    const f32 z0 = z[0];\n" WAIT
                                     "    c[thread_index()] = z0;\n",
                          early),
              0);
    for (int i = 0; i < 128; i++) CHECK_INT(bits_of(early[i]), SIMT_SUMMING);
    // b, changed by a thread that has not waited
    CHECK_INT(launch_four(ONES BEGIN "    at[thread_index() % 64] = 2;\n" WAIT, early), 0);
    for (int i = 0; i < 128; i++) CHECK(early[i] == 2 * c[i]);
}

TEST(what_products_of_four_warps_refuse) {
    float c[128];
    CHECK_FAIL(
        launch_four(ONES "    wgmma_tf32_64x8x8(z, x, where);\n    wgmma_commit();\n" WAIT, c),
        "behind no wgmma_fence");
    CHECK_FAIL(launch_four(ONES BEGIN WAIT "    wgmma_tf32_64x8x8(z, x, where);\n", c),
               "behind no wgmma_fence");
    CHECK_FAIL(launch_four(ONES BEGIN, c), "ends before its products do");
    CHECK_FAIL(
        launch_four(ONES "    wgmma_fence();\n    wgmma_tf32_64x8x8(z, x, where);\n" WAIT, c),
        "ends before its products do");  // never committed
    CHECK_FAIL(launch_four(ONES BEGIN "    x[1] += 1;\n" WAIT, c),
               "changed registers that a product reads");
    CHECK_FAIL(launch_four(ONES BEGIN "    z[3] = 0;\n" WAIT, c),
               "changed registers that a product sums in");
    CHECK_FAIL(launch_four(ONES "    if (thread_index() < 96) {\n" BEGIN WAIT "    }\n", c),
               "not all threads meet: threads 0 to 95 at a product of four warps");
    CHECK_FAIL(launch_four(ONES "    const i64 other = thread_index() < 32 ? where : where + 1;\n"
                                "    wgmma_fence();\n    wgmma_tf32_64x8x8(z, x, other);\n" WAIT,
                           c),
               "multiply by different matrices");
    CHECK_FAIL(launch_four(ONES "    wgmma_fence();\n"
                                "    wgmma_tf32_64x8x8(z, x, where | (i64)1 << 62);\n" WAIT,
                           c),
               "other bits than an address");
    CHECK_FAIL(launch_four(ONES "    wgmma_fence();\n    wgmma_tf32_64x8x8(z, x, where + 24);\n"
                                "    wgmma_commit();\n" WAIT,
                           c),
               "a product reads 128 bytes at 512 of shared memory, which has 512");
}

TEST(rounding_to_tf32) {
    static const struct {
        uint32_t from, to;
    } rows[] = {
        {0x3f800000, 0x3f800000}, {0x3f800fff, 0x3f800000}, {0x3f801000, 0x3f802000},  // a tie
        {0x3f803000, 0x3f804000}, {0xbf801000, 0xbf802000}, {0x3f801001, 0x3f802000},
        {0x3fffffff, 0x40000000}, {0x00000fff, 0x00000000}, {0x00001000, 0x00002000},  // denormal
        {0x80001000, 0x80002000}, {0x007fffff, 0x00800000}, {0x80000000, 0x80000000},
        {0x7f7fefff, 0x7f7fe000}, {0x7f7ff000, 0x7f800000}, {0xff7fffff, 0xff800000},  // to inf
        {0x7f800000, 0x7f800000}, {0xff800000, 0xff800000}, {0x7fc00000, 0},
        {0x7f800001, 0},          {0xffffffff, 0}};
    SimtFunction *round = simt_kernel("    c[thread_index()] = round_tf32(a[thread_index()]);");
    float a[COUNT_OF(rows)], c[COUNT_OF(rows)];
    for (int i = 0; i < COUNT_OF(rows); i++) a[i] = float_of(rows[i].from);
    CHECK_INT(launch(round, 1, COUNT_OF(rows), 0, a, NULL, c, 0), 0);
    for (int i = 0; i < COUNT_OF(rows); i++)
        if (isnan(a[i]))
            CHECK(isnan(c[i]));
        else
            CHECK_INT(bits_of(c[i]), rows[i].to);
}

// And what is told of it; the process goes on.
TEST(threads_that_do_not_meet) {
    SimtFunction *half = simt_kernel("    if (thread_index() < n) barrier();");
    CHECK_INT(launch(half, 100, 64, 0, NULL, NULL, NULL, 64), 0);
    CHECK_FAIL(launch(half, 1, 64, 0, NULL, NULL, NULL, 32),
               "block 0: not all threads meet: threads 0 to 31 at a barrier, threads 32 to 63 "
               "at the end");
    SimtFunction *mixed = simt_kernel("    if (thread_index() < n) barrier();\n"
                                      "    else if (thread_index() == n) ballot(1);\n"
                                      "    else shuffle_i32(1, 1);");
    CHECK_FAIL(launch(mixed, 1, 64, 0, NULL, NULL, NULL, 40),
               "threads 0 to 39 at a barrier, thread 40 at a ballot, threads 41 to 63 at a "
               "shuffle");
    SimtFunction *few = simt_kernel("    shuffle_i32(1, 1);");
    CHECK_FAIL(launch(few, 3, 16, 0, NULL, NULL, NULL, 0), "threads 0 to 15 at a shuffle");
    CHECK_FAIL(launch(few, 1, 16, 0, NULL, NULL, NULL, 0), "simt_");
    SimtFunction *odd = simt_kernel("    if (thread_index() % 2) barrier();");
    CHECK_FAIL(launch(odd, 1, 64, 0, NULL, NULL, NULL, 0), "thread 7 at a barrier, and others");
    CHECK_INT(launch(half, 100, 1024, 0, NULL, NULL, NULL, 1024), 0);
}

// Each lane runs ahead of the others as far as it may: what it gave last is still there.
TEST(shuffles_in_a_row) {
    SimtFunction *row = simt_kernel("    i32 x = thread_index();\n"
                                    "    for (i64 i = 0; i < n; i++) {\n"
                                    "        x = shuffle_i32(x, thread_index() + 1) + 1;\n"
                                    "        if (i % 3 == 0) warp_barrier();\n"
                                    "        if (i % 5 == 0) barrier();\n"
                                    "    }\n"
                                    "    c[thread_index()] = x;");
    float c[128];
    CHECK_INT(launch(row, 1, 128, 0, NULL, NULL, c, 50), 0);
    for (int i = 0; i < 128; i++) CHECK(c[i] == (float)(i / 32 * 32 + (i + 50) % 32 + 50));
}

TEST(comparisons_are_the_lanes_of_a_vector) {
    SimtFunction *compare = simt_kernel("#ifndef __CUDACC__\n"
                                        "    typedef i32 i32x4 __attribute__((vector_size(16)));\n"
                                        "    const i32x4 x = *(const i32x4 *)a;\n"
                                        "    i32x4 y;\n"
                                        "    y[0] = x[0] != 0;\n    y[1] = x[1] != 0;\n"
                                        "    y[2] = x[2] != 0;\n    y[3] = x[3] != 0;\n"
                                        "    *(i32x4 *)c = y;\n"
                                        "#endif");
    _Alignas(16) float a[4] = {1, 0, 3, 4}, c[4];
    CHECK_INT(launch(compare, 1, 1, 0, a, NULL, c, 0), 0);
    for (int i = 0; i < 4; i++) CHECK_INT(bits_of(c[i]), i != 1);
}

TEST(one_text_for_nvrtc_and_c) {
    Arena *arena = arena_new();
    Text text = text_new(arena);
    prelude_gpu_add(&text, arena, "x = shuffle_xor_i32(y, 1); barriers(); my_ballot();");
    CHECK(strstr(text.at, "__shfl_xor_sync") && strstr(text.at, "simt_shuffle_i32"));
    CHECK(!strstr(text.at, "simt_shuffle_f32") && !strstr(text.at, "__syncthreads"));
    CHECK(!strstr(text.at, "__ballot_sync") && !strstr(text.at, "shared_memory"));
    CHECK(prelude_gpu_has("barrier") && prelude_gpu_has("SELF") && prelude_gpu_has("simt_mma"));
    CHECK(!prelude_gpu_has("x") && !prelude_gpu_has("shuffle"));
    arena_free(arena);
}
