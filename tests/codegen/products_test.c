/* products_test.c - products of four warps of a GPU: the tile loop, the schedules that make it,
 * what waits for what, and the heuristic's tiles; on simt, against the chunk interpreter. */
#include "codegen/gpu_run.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

static float *values(int64_t count, uint32_t seed) {
    static Arena *all;
    if (!all) all = arena_new();
    return random_floats(all, count, seed);
}

// c (64, 16) = a (64, 8) b (8, 16) as its tile loop wants it.
static const char four_warps[] =
    "kernel k\nout c f32[1024]\nin a f32[512]\nin b f32[128]\nshared b_s f32[128]\n"
    "register s f32[1024]\nregister r f32[512]\n"
    "grid for g < 1 {\n"
    "  thread for t < 128 {\n"
    "    b_s[t] = (tf32 b[64*(t/32%2) + 16*(t%4) + 8*(t/64) + t%32/4])\n"
    "  }\n"
    "  warp for w < 4 {\n"
    "    thread for l < 32 { unroll for n < 4 { unroll for m < 2 {\n"
    "      init s[256*w + 64*n + 2*l + m] = 0 } } }\n"
    "    thread for q < 32 { unroll for u < 2 { unroll for v < 2 {\n"
    "      r[128*w + 64*u + 32*v + q] = (tf32 a[128*w + 64*v + 8*(q/4) + 4*u + q%4]) } } }\n"
    "    tile for j2 < 2 { for i1 < 2 { for i < 8 { for j < 4 { for j1 < 2 { for k1 < 2 {\n"
    "      for k < 4 { update s[256*w + 128*j2 + 64*i1 + 8*i + 2*j + j1] = (fma\n"
    "        r[128*w + 32*i1 + 4*i + 64*k1 + k] b_s[64*j2 + 8*j + 4*j1 + 32*k1 + k]\n"
    "        s[256*w + 128*j2 + 64*i1 + 8*i + 2*j + j1]) } } } } } } }\n"
    "    thread for e < 32 { unroll for z < 2 { unroll for x < 2 { unroll for y < 2 {\n"
    "      finish c[256*w + 128*x + 16*(e/4) + 8*z + 2*(e%4) + y] = s[256*w + 128*z + 64*x + 2*e\n"
    "        + y] } } } }\n"
    "  }\n"
    "}\n";

static char *replaced(Arena *arena, const char *text, const char *old, const char *new) {
    const char *at = strstr(text, old);
    if (!at) fatal("no %s in %s", old, text);
    return arena_print(arena, "%.*s%s%s", (int)(at - text), text, new, at + strlen(old));
}

TEST(four_warps_multiply_by_what_is_shared) {
    Gpu gpu = gpu_render(four_warps, "");
    gpu_check(&gpu, four_warps, (void *[]){NULL, values(512, 8), values(128, 9)}, 1024,
              8 * 8 * 0x1p-24, NULL);
    CHECK(gpu_has(&gpu, "wgmma_tf32_64x16x8(s + 0, r + 0, wgmma_descriptor(b_s + 0, 128, 256));"));
    CHECK(gpu_has(&gpu, "shared_fence_async();\n    barrier();"));
    CHECK_INT(gpu.counts.mmas, 8);
    gpu_free(&gpu);
}

TEST(what_is_no_product_of_four_warps) {
    static const struct {
        const char *old, *new, *wrong;
    } cases[] = {
        {"warp for w < 4", "warp for w < 2", "in a warp loop of a multiple of 4"},
        {"tile for j2 < 2", "tile for j2 < 33", "loops of 1 to 32, 2, 8, 4, 2, 2 and 4"},
        {"+ 32*k1 + k]", "+ 30*k1 + k]", "multiples of 16 bytes apart"},
        {"b_s[64*j2", "b_s[30*j2", "multiples of 16 bytes apart"},
        {"b_s[64*j2", "b_s[2 + 64*j2", "multiples of 16 bytes apart"},
        {"8*j + 4*j1 +", "4*j + 16*j1 +", "not where a warp's threads hold them"},
        {"b_s[64*j2", "b_s[4*w + 64*j2", "its four warps read different elements of b"},
        {"shared b_s", "register b_s", "from the block's shared memory"},
        {"b_s[64*j2 + 8*j + 4*j1 + 32*k1 + k]", "(mul 2 b_s[64*j2 + 8*j + 4*j1 + 32*k1 + k])",
         "f32 that is loaded as it is"},
    };
    Arena *arena = arena_new();
    for (int n = 0; n < COUNT_OF(cases); n++) {
        char *text = replaced(arena, four_warps, cases[n].old, cases[n].new);
        text = replaced(arena, text, "b_s f32[128]", "b_s f32[4096]");
        Kernel *kernel = kernel_parse(arena, "test", text);
        CHECK_FATAL_TEXT(kernel_verify(kernel), cases[n].wrong);
    }
    // Other columns for each four warps, and pieces that have 4 and 8 elements free between.
    char *text = replaced(arena, four_warps, "warp for w < 4", "warp for w < 8");
    text = replaced(arena, text, "b_s[64*j2 + 8*j + 4*j1 + 32*k1",
                    "b_s[72*(w/4) + 40*j2 + 8*j + 4*j1 + 36*k1");
    text = replaced(arena, text, "b_s f32[128]", "b_s f32[256]");
    text = replaced(arena, text, "c f32[1024]", "c f32[2048]");
    text = replaced(arena, text, "a f32[512]", "a f32[1024]");
    text = replaced(arena, text, "s f32[1024]", "s f32[2048]");
    text = replaced(arena, text, "r f32[512]", "r f32[1024]");
    Kernel *kernel = kernel_parse(arena, "test", text);
    kernel_verify(kernel);
    Program *program = lower(arena, kernel, &(LowerOptions){.gpu = true});
    program_verify(program);
    char symbol[SYMBOL_SIZE], *source = render_cuda(arena, program, NULL, symbol);
    CHECK(strstr(source, "wgmma_descriptor(b_s + 72*quotient_i32(warp, 4), 144,") != NULL);
    arena_free(arena);
}

// Loops of the tile, then what is put where it reads it.
static const char group_of_64[] =
    "SPLIT i 16\nSPLIT i1 8\nSPLIT j 8\nSPLIT j1 2\nORDER i0 j0 i10 i11 j10 j11\n"
    "STAGE s at top in reg\nSPLIT k 16\nSPLIT k1 8\nSPLIT k11 4\n"
    "ORDER k0 i0 k10 j0 i10 i11 j10 j11 k110 k111\n"
    "STAGE b at k0 over k10 k110 j0 j10 j11 k111 in shared\n"
    "STAGE a at k0 over i0 i10 i11 k10 k110 k111 as i0 i10 i11 +4 k10 k110 k111 in shared\n"
    "BLOCK top\nWARP i0 i0_init i0_finish\n"
    "STAGE a_shared at i0 over k10 i10 i11 k110 k111 as k10 k110 i10 i11 k111 in reg\n"
    "FUSE i11_a_shared k111_a_shared as ta\nORDER ta k10_a_shared k110_a_shared i10_a_shared\n"
    "FUSE i11_init j10_init as t_init\nORDER t_init j0_init i10_init j11_init\n"
    "FUSE i11_finish j10_finish as t_finish\nORDER t_finish j0_finish i10_finish j11_finish\n"
    "FUSE i0_a i10_a i11_a k10_a k110_a k111_a as copy_a\nSPLIT copy_a 128\n"
    "ORDER copy_a1 copy_a0\nTHREAD copy_a1\nUNROLL copy_a0\n"
    "FUSE k10_b k110_b j0_b j10_b j11_b k111_b as copy_b\nSPLIT copy_b 128\n"
    "ORDER copy_b1 copy_b0\nTHREAD copy_b1\nUNROLL copy_b0\n"
    "UNROLL k10\nUNROLL k10_a_shared\nUNROLL k110_a_shared\nUNROLL i10_a_shared\n"
    "UNROLL j0_init\nUNROLL i10_init\nUNROLL j11_init\n"
    "UNROLL j0_finish\nUNROLL i10_finish\nUNROLL j11_finish\n";

static char *product(Arena *arena) {
    return arena_print(arena,
                       "kernel k\nout c f32[1536]\nin a f32[6144]\nin b f32[2304]\n"
                       "for i < 64 { for j < 24 {\n"
                       "c[24*i + j] = (reduce add k<96 (mul a[96*i + k] b[24*k + j])) } }\n");
}

static Gpu check_group(const char *more) {
    Arena *arena = arena_new();
    Gpu gpu = gpu_render(product(arena), arena_print(arena, "%s%s", group_of_64, more));
    gpu_check(&gpu, product(arena), (void *[]){NULL, values(64 * 96, 4), values(96 * 24, 5)},
              64 * 24, 96 * 2 * 0x1p-12, NULL);
    CHECK_INT(gpu.counts.mmas, 4 * 3 * 12);
    arena_free(arena);
    return gpu;
}

#define GROUP "TENSORCORE wgmma_tf32 64x24 on s with t_init t_finish ta\n"

// Slices of two products: they are waited for before the other slice is stored.
TEST(products_of_four_warps_are_a_group) {
    Gpu gpu = check_group(GROUP);
    CHECK(
        gpu_has(&gpu, "wgmma_fence();\n            wgmma_tf32_64x24x8(s + 0, a_shared_reg + 0, "));
    CHECK(gpu_has(&gpu, "wgmma_commit();\n        }\n        wgmma_wait(0);\n"));
    CHECK_INT(gpu.counts.barriers, 4 * 6 * 2);
    gpu_free(&gpu);
}

TEST(what_is_rounded_goes_through_registers) {
    Gpu gpu = check_group(GROUP "PIPELINE k0 through reg\n");
    CHECK_INT(gpu.counts.barriers, 4 * 6);
    // loaded before the products, stored while they run
    const char *loaded = strstr(strstr(gpu.source, "for (i32 k0 "), "b_shared_next"),
               *begun = strstr(loaded, "wgmma_commit();"), *stored = strstr(loaded, "b_shared[32*"),
               *waits = strstr(loaded, "wgmma_wait(0);");
    CHECK(begun < waits && strstr(begun, "] = tf32_f32(b_shared_next") < waits && stored != begun);
    CHECK_INT(gpu.counts.copies, 0);
    gpu_free(&gpu);
}

TEST(copies_and_registers_fill_the_same_slice) {
    Gpu gpu = check_group(GROUP "PIPELINE k0 3\nPIPELINE k0 through reg\n");
    CHECK_INT(gpu.counts.barriers, 4 * 6);
    CHECK_INT(gpu.counts.copies, 64 * 96 / 32);
    gpu_free(&gpu);
}

TEST(what_four_warps_refuse) {
    Arena *arena = arena_new();
    static const struct {
        const char *more, *wrong;
    } cases[] = {
        {"TENSORCORE wgmma_tf32 64x32 on s with t_init t_finish ta\n", "it has 24 columns"},
        {"TENSORCORE wgmma_tf32 64x20 on s with t_init\n", "no tile 64x20. Hint: 64x256"},
        {"TENSORCORE wgmma_tf32 16x24 on s with t_init\n", "no tile 16x24"},
        {"TENSORCORE mma_tf32 16x8 on s with t_init t_finish ta\n", "not where a warp"},
        {"PIPELINE k0 2\n" GROUP, "while others compute is plain"},
        {GROUP "PIPELINE i0 through reg\n", "no plain loop of a block"},
        {GROUP "PIPELINE k0 through own\n", "reg"},
        {GROUP "PIPELINE k0 through reg\nPIPELINE k0 through reg\n", "does not fill shared memory"},
    };
    for (int n = 0; n < COUNT_OF(cases); n++) {
        Kernel *kernel = kernel_parse(arena, "test", product(arena));
        char *schedule = arena_print(arena, "%s%s", group_of_64, cases[n].more);
        accumulate(kernel);
        CHECK_FATAL_TEXT(schedule_apply(kernel, schedule), cases[n].wrong);
    }
    arena_free(arena);
}

// a (m, k) or (k, m), b (k, n) or (n, k); on a GPU of so many multiprocessors. b: "in", "weight".
static Gpu check_factors(int m, int n, int k, bool left_turned, bool right_turned, int sms,
                         const char *kind) {
    Arena *arena = arena_new();
    GpuTarget gpu = *gpu_target("h100");
    gpu.sms = sms;
    ScheduleTarget target = {.gpu = &gpu, .tiles = "wgmma_tf32"};
    char *a = left_turned ? arena_print(arena, "%d*k + i", m) : arena_print(arena, "%d*i + k", k),
         *b = right_turned ? arena_print(arena, "%d*j + k", k) : arena_print(arena, "%d*k + j", n);
    char *text = arena_print(arena,
                             "kernel k\nout c f32[%d]\nin a f32[%d]\n%s b f32[%d]\n"
                             "for i < %d { for j < %d {\n"
                             "c[%d*i + j] = (reduce add k<%d (mul a[%s] b[%s])) } }\n",
                             m * n, m * k, kind, k * n, m, n, n, k, a, b);
    void *buffer[] = {NULL, random_floats(arena, (int64_t)m * k, 4),
                      random_floats(arena, (int64_t)k * n, 5)};
    Gpu made = gpu_render(text, gpu_first(arena, text, &target));
    gpu_check(&made, text, buffer, (int64_t)m * n, k * 2 * 0x1p-12, NULL);
    CHECK_INT(gpu_spills(&made), 0);
    arena_free(arena);
    return made;
}

static Gpu check_wgmma(int m, int n, int k, bool left_turned, bool right_turned, int sms) {
    return check_factors(m, n, k, left_turned, right_turned, sms, "in");
}

// Whatever is contiguous, threads read and write it without conflicts.
TEST(wgmma_takes_matrices_as_they_lie) {
    for (int turned = 0; turned < 4; turned++) {
        Gpu gpu = check_wgmma(128, 128, 96, turned & 1, turned & 2, 132);
        CHECK(gpu_has(&gpu, "wgmma_tf32_64x64x8(s + 0, a_shared_reg + 0, "));
        CHECK(gpu_has(&gpu, "copy_async_16(a_shared") && gpu_has(&gpu, "b_shared_next"));
        CHECK_INT(gpu.counts.mmas, 128 / 16 * (128 / 8) * (96 / 8));
        CHECK_INT(gpu.counts.wavefronts, gpu.counts.conflict_free);
        CHECK_INT(gpu.counts.barriers, 4 * 4 * 3);  // blocks, warps, slices
        gpu_free(&gpu);
    }
}

// With few multiprocessors the tile is as large as registers allow.
TEST(wgmma_tiles_are_for_all_multiprocessors) {
    static const struct {
        int sms;
        const char *unit, *threads;
    } cases[] = {{1, "wgmma_tf32_64x256x8(", "KERNEL(256)"},
                 {2, "wgmma_tf32_64x128x8(", "KERNEL(256)"},
                 {4, "wgmma_tf32_64x128x8(", "KERNEL(128)"},
                 {8, "wgmma_tf32_64x64x8(", "KERNEL(128)"}};
    for (int n = 0; n < COUNT_OF(cases); n++) {
        Gpu gpu = check_wgmma(128, 256, 64, false, n % 2, cases[n].sms);
        CHECK(gpu_has(&gpu, cases[n].unit) && gpu_has(&gpu, cases[n].threads));
        gpu_free(&gpu);
    }
}

// Not whole: of rows, of columns, of slices; what is guarded is loaded ahead, too.
TEST(wgmma_takes_what_does_not_fit) {
    static const int sizes[][3] = {{70, 65, 37}, {129, 67, 100}, {64, 200, 33}, {65, 64, 32}};
    for (int n = 0; n < COUNT_OF(sizes); n++) {  // each way to lie once
        Gpu gpu = check_wgmma(sizes[n][0], sizes[n][1], sizes[n][2], n & 1, n & 2, 9);
        CHECK(gpu_has(&gpu, "wgmma_tf32_64x") && gpu_has(&gpu, "_next") == (sizes[n][2] > 32));
        gpu_free(&gpu);
    }
}

// Panels of 64 columns, which instructions multiply by one at a time: a slice of each is 8 KB, one
// copy of the engine's. Nothing of b is rounded or stored by threads.
TEST(wgmma_weights_are_laid_out_and_copied_in_bulk) {
    for (int turned = 0; turned < 2; turned++) {
        Gpu gpu = check_factors(128, 256, 128, false, turned, 1, "weight");
        CHECK_INT(gpu.once.count, 1);
        CHECK(gpu_has(&gpu, "wgmma_tf32_64x64x8(s + 96, ") && gpu_has(&gpu, ", 8192, came"));
        CHECK(!gpu_has(&gpu, "b_once_shared_next"));
        CHECK_INT(gpu.counts.mmas, 128 / 16 * (256 / 8) * (128 / 8));
        // 4 slices: of b 4 panels, of a 128 x 32 floats, 16 bytes for each of a warp's 32 threads
        CHECK_INT(gpu.counts.copies, 4 * (4 + 128 * 32 / 4 / 32));
        CHECK_INT(gpu.counts.wavefronts, gpu.counts.conflict_free);
        gpu_free(&gpu);
    }
}

TEST(wgmma_weights_of_any_size) {
    static const int sizes[][3] = {{70, 65, 37}, {129, 67, 100}, {64, 200, 70}};
    for (int n = 0; n < COUNT_OF(sizes); n++) {
        Gpu gpu = check_factors(sizes[n][0], sizes[n][1], sizes[n][2], n & 1, n & 2, 9, "weight");
        CHECK(gpu_has(&gpu, "wgmma_tf32_64x64x8(") && gpu.once.count == 1);
        gpu_free(&gpu);
    }
}
