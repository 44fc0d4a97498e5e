/* tiles_test.c - products on tiles of bf16: what the heuristic writes for them computes the same,
 * and what TENSORCORE refuses. */
#include "kernel_run.h"

#include <string.h>

// wanted: what must stand in the kernel in the end; unwanted: what must not.
static void check_tiles(const char *text, const char *wanted, const char *unwanted) {
    static const ScheduleTarget targets[] = {
        {"avx2_fma", 8, 6, 16, "amx_bf16", 320, 128, false},
        {"avx512_fma", 16, 14, 32, "amx_bf16", 320, 128, false}};
    for (int t = 0; t < COUNT_OF(targets); t++) {
        Arena *arena = arena_new();
        Kernel *kernel = kernel_parse(arena, "tiles_test", text);
        const char *candidate[CANDIDATES_MAX];
        accumulate(kernel);
        schedule_candidates(arena, kernel, &targets[t], candidate);
        CHECK(strstr(candidate[0], "TENSORCORE amx_bf16 32x32") != NULL);
        void **truth = run_memory(arena, kernel), **memory = run_memory(arena, kernel);
        kernel_eval(kernel, truth, NULL);
        schedule_apply(kernel, candidate[0]);
        run_check_text(arena, kernel);
        kernel_eval(kernel, memory, NULL);
        run_compare(kernel, memory, truth, "tiled");
        char *done = kernel_print(arena, kernel);
        CHECK(strstr(done, "tile for") != NULL);
        CHECK(strstr(done, wanted) != NULL);
        CHECK(!unwanted || !strstr(done, unwanted));
        arena_free(arena);
    }
}

static void check_matmul(int m, int n, int k) {
    Arena *arena = arena_new();
    check_tiles(arena_print(arena,
                            "kernel mm\nin a f32[%d]\nin b f32[%d]\nout c f32[%d]\nfor i < %d {\n"
                            "for j < %d {\nc[%d*i + j] = (add 1 (reduce add k<%d (mul a[%d*i + k] "
                            "b[%d*k + j]))) } }\n",
                            m * k, k * n, m * n, m, n, n, k, k, n),
                "vector for j11_b1", NULL);
    arena_free(arena);
}

TEST(tiles_of_whole_sizes) { check_matmul(64, 64, 32); }
TEST(tiles_of_what_they_do_not_divide) { check_matmul(65, 33, 39); }

// Weights (out, in) are the rows, packed in vectors along the sum.
static void check_linear(int rows, int columns, int k, const char *weight, const char *load,
                         const char *wanted, const char *unwanted) {
    Arena *arena = arena_new();
    check_tiles(arena_print(arena,
                            "kernel linear\nin x f32[%d]\nin w %s[%d]\nout c f32[%d]\nfor i < %d "
                            "{\nfor j < %d {\nc[%d*i + j] = (reduce add k<%d (mul x[%d*i + k] %s)) "
                            "} }\n",
                            rows * k, weight, columns * k, rows * columns, rows, columns, columns,
                            k, k, arena_print(arena, load, k)),
                wanted, unwanted);
    arena_free(arena);
}

TEST(tiles_of_weights) {
    check_linear(64, 48, 40, "f32", "w[%d*j + k]", "w_L2_lo[", NULL);
    check_linear(70, 32, 32, "f16", "(cast:f32 w[%d*j + k])", "w_L2_lo[", NULL);
}

// They are what is stored: one tile, and no product with its rest.
TEST(tiles_of_exact_weights) {
    check_linear(64, 48, 33, "bf16", "(cast:f32 w[%d*j + k])", "x_shared_lo[", "w_L2_lo[");
    check_linear(64, 32, 32, "i8", "(cast:f32 w[%d*j + k])", "x_shared_lo[", "w_L2_lo[");
}

// Groups of 32, as Q8_0 has them, and as Q4_1 has them in the halves of 16 bytes.
TEST(tiles_of_groups) {
    check_tiles("kernel q8\nin w i8[2048]\nin d f32[64]\nin x f32[4096]\nout y f32[2048]\n"
                "for i < 64 { for j < 32 {\n"
                "y[32*i + j] = (reduce add g<2 b<32 (mul x[64*i + 32*g + b] (mul d[2*j + g] "
                "(cast:f32 w[64*j + 32*g + b])))) } }\n",
                "w_L2_lo[", NULL);
    check_tiles("kernel q4_1\nin w u8[1280]\nin w16 u16[640]\nin x f32[4096]\nout y f32[2048]\n"
                "for i < 64 { for j < 32 {\n"
                "y[32*i + j] = (reduce add g<2 h<2 b<16 (mul x[64*i + 32*g + 16*h + b] (add (mul "
                "(cast:f32 (bitcast:f16 w16[20*j + 10*g])) (cast:f32 (and (shr w[40*j + 20*g + b + "
                "4] (cast:u8 @i32(4*h))) 15:u8))) (cast:f32 (bitcast:f16 w16[20*j + 10*g + 1])))))"
                " } }\n",
                "w_L2_lo[", NULL);
}

TEST(tiles_of_several_products) {
    check_tiles("kernel heads\nin a f32[6144]\nin b f32[3072]\nout c f32[6144]\nfor h < 3 {\n"
                "for i < 64 { for j < 32 {\nc[2048*h + 32*i + j] = (reduce add k<32 (mul "
                "a[2048*h + 32*i + k] b[1024*h + 32*k + j])) } } }\n",
                "b_shared_lo[", NULL);
}

static void check_refused(const char *schedule, const char *message) {
    Arena *arena = arena_new();
    Kernel *kernel =
        kernel_parse(arena, "t",
                     "kernel t\nin a f32[4096]\nin b f32[4096]\nout c f32[4096]\n"
                     "register s f32[1]\nfor i < 64 { for j < 64 { init s[0] = 0\n"
                     "for k < 64 { update s[0] = (fma a[64*i + k] b[64*k + j] s[0]) }\n"
                     "finish c[64*i + j] = s[0] } }\n");
    CHECK_FATAL_TEXT(schedule_apply(kernel, schedule), message);
    arena_free(arena);
}

#define SPLITS                                                                   \
    "SPLIT i 32\nSPLIT i1 16\nSPLIT j 32\nSPLIT j1 16\nSPLIT k 32\nSPLIT k1 2\n" \
    "ORDER i0 j0 i10 i11 j10 j11\n"
#define SUMS      "STAGE s at i0 in own\nORDER j0 k0 i10 j10 i11 j11 k10 k11\n"
#define REGISTERS "STAGE s at j0 over i10 j10 i11 j11 in reg\n"

TEST(tiles_are_refused) {
    check_refused("TENSORCORE amx_bf16 32x32 on s\n", "seven plain loops");
    check_refused(SPLITS SUMS "TENSORCORE amx_bf16 32x32 on s\n", "not staged");
    check_refused(SPLITS SUMS REGISTERS "STAGE a at i0 over k0 i10 i11 k10 k11 in own\n"
                                        "TENSORCORE amx_bf16 32x32 on s_reg\n",
                  "b is not staged");
    check_refused(SPLITS SUMS REGISTERS "STAGE a at i0 over k0 i10 i11 k10 k11 in own\n"
                                        "STAGE b at top over j0 k0 j10 k10 j11 k11 in shared\n"
                                        "TENSORCORE amx_bf16 64x32 on s_reg\n",
                  "no tile 64x32");
    check_refused(SPLITS SUMS REGISTERS "STAGE a at i0 over k0 i10 k10 k11 i11 in own\n"
                                        "STAGE b at top over j0 k0 j10 k10 j11 k11 in shared\n"
                                        "TENSORCORE amx_bf16 32x32 on s_reg\n",
                  "not neighbours in a_own");
    check_refused(SPLITS SUMS "STAGE a at i0 over k0 i10 i11 k10 k11 in own\n"
                              "STAGE b at top over j0 k0 j10 k10 j11 k11 in shared\n"
                              "TENSORCORE amx_bf16 32x32 on s\n",
                  "not a copy");
}
