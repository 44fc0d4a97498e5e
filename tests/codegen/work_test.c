/* work_test.c - what launches do, held to numbers derived by hand. */
#include "codegen/codegen.h"
#include "test.h"

static GpuCounts work_of(const char *text, const int64_t *var) {
    Arena *arena = arena_new();
    Kernel *kernel = kernel_parse(arena, "k", text);
    GpuCounts work = launch_work(lower(arena, kernel, &(LowerOptions){.gpu = true}), 0, var);
    arena_free(arena);
    return work;
}

// Four to a thread, in loads of 16 bytes: two of them, four sums, one store; a sum waits for loads.
TEST(elements) {
    GpuCounts work = work_of("kernel k\nin a f32[4096]\nin b f32[4096]\nout c f32[4096]\n"
                             "grid for i < 4 { thread for t < 256 { vector for v < 4 {\n"
                             "c[1024*i + 4*t + v] = (add a[1024*i + 4*t + v] "
                             "b[1024*i + 4*t + v]) } } }\n",
                             NULL);
    CHECK_INT((int)work.flops, 4096);
    CHECK_INT((int)work.instructions, 4 * 8 * (2 + 4 + 1));
    CHECK(work.independent == 7 / 2.0);
}

// For each k two loads and what waits for them; then a store. k ends at n, or at i + 1.
#define PRODUCT(k)                                                            \
    "in a f32[2048]\nin b f32[2048]\nout c f32[1024]\nregister s f32[1]\n"    \
    "grid for i < 32 { thread for j < 32 { init s[0] = 0\n for k < " k " {\n" \
    "update s[0] = (fma a[64*i + k] b[32*k + j] s[0]) }\n finish c[32*i + j] = s[0] } }\n"
TEST(a_sum_is_a_chain) {
    GpuCounts work = work_of("kernel k\n" PRODUCT("64"), NULL);
    CHECK_INT((int)work.flops, 2 * 32 * 32 * 64);
    CHECK_INT((int)work.instructions, 32 * (64 * 3 + 1));
    CHECK(work.independent == (64 * 3 + 1) / (64 * 2.0));
    int64_t n = 10;
    CHECK_INT((int)work_of("kernel k\nvar n 1..64\n" PRODUCT("n"), &n).flops, 2 * 32 * 32 * 10);
}

// Eight sums of a thread: each waits for two loads, of which b's is of all, and for the one of the
// k before.
TEST(sums_side_by_side) {
    GpuCounts work =
        work_of("kernel k\nin a f32[2048]\nin b f32[64]\nout c f32[256]\nregister s f32[8]\n"
                "grid for i < 4 { thread for j < 8 {\n"
                "unroll for v < 8 { init s[v] = 0 }\n"
                "for k < 8 { unroll for u < 8 {\n"
                "update s[u] = (fma a[512*i + 64*j + 8*k + u] b[k] s[u]) } }\n"
                "unroll for w < 8 { finish c[64*i + 8*j + w] = s[w] } } }\n",
                NULL);
    CHECK_INT((int)work.flops, 2 * 4 * 8 * 8 * 8);
    CHECK(work.independent == (8 * (8 + 1 + 8) + 8) / (8 * 2.0));
}

// All 64 threads do what stands outside of loops over threads.
TEST(what_all_threads_do) {
    GpuCounts work = work_of("kernel k\nin a f32[4]\nout c f32[256]\nregister s f32[1]\n"
                             "grid for i < 4 { init s[0] = (mul a[i] a[i])\n"
                             "thread for j < 64 { c[64*i + j] = (add s[0] 1) } }\n",
                             NULL);
    CHECK_INT((int)work.flops, 4 * 64 * 2);
}

// ---- what warps ask for ------------------------------------------------------------------------

// 16 bytes a lane are four lines of a warp; 4 KB of c is 8 warps'.
TEST(requests_of_elements) {
    GpuCounts work = work_of("kernel k\nin a f32[4096]\nout c f32[4096]\n"
                             "grid for i < 4 { thread for t < 256 { vector for v < 4 {\n"
                             "c[1024*i + 4*t + v] = (add a[1024*i + 4*t + v] 1) } } }\n",
                             NULL);
    CHECK_INT((int)work.loads, 32);
    CHECK_INT((int)work.load_lines, 4 * 32);
    CHECK_INT((int)work.load_sectors, 16 * 32);
    CHECK_INT((int)work.stores, 32);
    CHECK_INT((int)work.store_sectors, 16 * 32);
}

// A warp's lanes read a column: a line each; of the second loop 8 of 32 lanes take part. What is
// loaded is no part of an index: b[0] for all.
TEST(requests_of_columns_of_some_and_of_gathers) {
    GpuCounts work =
        work_of("kernel k\nin a f32[8192]\nin d i32[8]\nin b f32[32]\nout c f32[64]\n"
                "grid for i < 2 { thread for t < 32 { c[32*i + t] = a[128*t + i] }\n"
                "thread for u < 8 {\nlet e in 0..31 = (cast:i64 d[u])\nc[32*i + u] = b[e] } }\n",
                NULL);
    CHECK_INT((int)work.loads, 2 * (1 + 2));
    CHECK_INT((int)work.load_lines, 2 * (32 + 2));
    CHECK_INT((int)work.load_sectors, 2 * (32 + 2));
    CHECK_INT((int)work.store_sectors, 2 * (4 + 1));
}

// Rows of 32 words in 32 banks: a column is all of one bank, unless a word stays free behind a row.
#define TRANSPOSED(row)                                                                    \
    "kernel k\nin a f32[1024]\nout c f32[1024]\nshared s f32[1056]\n"                      \
    "grid for i < 1 { for r < 32 { thread for t < 32 { s[" row "*r + t] = a[32*r + t] } }" \
    " for q < 32 { thread for u < 32 { c[32*q + u] = s[" row "*u + q] } } }\n"
TEST(conflicts_of_banks) {
    GpuCounts work = work_of(TRANSPOSED("32"), NULL);
    CHECK_INT((int)work.shared, 64);
    CHECK_INT((int)work.conflict_free, 64);
    CHECK_INT((int)work.wavefronts, 32 + 32 * 32);
    CHECK_INT((int)work_of(TRANSPOSED("33"), NULL).wavefronts, 64);
}
