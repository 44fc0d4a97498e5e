/* prelude_test.c - each wrapper of prelude_gpu.c against values worked out on the CPU: on simt, or
 * where PG_DEVICE is cuda or cuda:N on that GPU, which takes the same texts. */
#include "simt_kernel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- on either device --------------------------------------------------------------------------
static bool on_cuda(void) { return !strncmp(env_text("DEVICE", "simt"), "cuda", 4); }

static Cuda *gpu_of_test(void) {
    static Cuda *gpu;
    const char *name = env_text("DEVICE", "cuda");
    if (!gpu) gpu = cuda_open(name[4] == ':' ? atoi(name + 5) : 0);
    if (!gpu || !nvrtc_available()) fatal("%s", error_text());
    return gpu;
}

static CudaFunction cuda_kernel(Arena *arena, const char *body, int64_t shared) {
    const CudaInfo *info = cuda_facts(gpu_of_test());
    const char *name, *text = kernel_text(arena, body, &name);
    NvrtcUnit unit = {.name = name,
                      .source = text,
                      .arch = arena_print(arena, "sm_%d%d%s", info->major, info->minor,
                                          info->major == 9 && info->minor == 0 ? "a" : "")};
    CudaFunction function;
    if (nvrtc_compile(arena, &unit, 1)) fatal("%s", error_text());
    CudaModule *module = cuda_module(gpu_of_test(), name, unit.cubin);
    if (!module || cuda_function(gpu_of_test(), module, name, shared, &function))
        fatal("%s", error_text());
    return function;
}

static uint64_t put(const float *from, int64_t count) {
    const DeviceMemory *memory = cuda_get(gpu_of_test(), max_i64(count, 1) * 4);
    if (!memory || cuda_write(gpu_of_test(), memory->at, from, count * 4))
        fatal("%s", error_text());
    return memory->at;
}

static void run_cuda(const char *body, int64_t blocks, int threads, int64_t shared, const float *a,
                     int64_t a_count, const float *b, int64_t b_count, float *c, int64_t c_count,
                     int64_t n) {
    Arena *arena = arena_new();
    CudaFunction function = cuda_kernel(arena, body, shared);
    uint64_t at[] = {put(a, a_count), put(b, b_count), put(c, c_count)};
    void *param[] = {&at[0], &at[1], &at[2], &n};
    if (cuda_launch(gpu_of_test(), &function, blocks, threads, param) ||
        cuda_read(gpu_of_test(), c, at[2], c_count * 4))
        fatal("%s", error_text());
    arena_free(arena);
}

// The kernel `body` of simt_kernel.h; counts are of elements.
static void run(const char *body, int64_t blocks, int threads, int64_t shared, const float *a,
                int64_t a_count, const float *b, int64_t b_count, float *c, int64_t c_count,
                int64_t n) {
    if (on_cuda()) {
        run_cuda(body, blocks, threads, shared, a, a_count, b, b_count, c, c_count, n);
        return;
    }
    void *param[] = {&a, &b, &c, &n};
    CHECK_INT(simt_launch(simt_kernel(body), blocks, threads, shared, param), 0);
}

// A kernel that reads `a` and writes as many elements to `c`.
static void map(const char *body, int threads, int64_t shared, const float *a, float *c,
                int64_t count, int64_t n) {
    run(body, 1, threads, shared, a, count, NULL, 0, c, count, n);
}

// ---- threads, barriers, votes ------------------------------------------------------------------
TEST(who_a_thread_is) {
    enum { BLOCKS = 7, THREADS = 96 };
    static float c[3 * BLOCKS * THREADS];
    run("    const i32 at = 3 * (96 * block_index() + thread_index());\n"
        "    c[at] = thread_index();\n"
        "    c[at + 1] = block_index();\n"
        "    c[at + 2] = block_count() + ((i64)shared_at(0) % 1024 != 0)\n"
        "                + (shared_at(64) - shared_at(0) != 64);",
        BLOCKS, THREADS, 128, NULL, 0, NULL, 0, c, COUNT_OF(c), 0);
    for (int i = 0; i < BLOCKS * THREADS; i++) {
        CHECK_INT((int64_t)c[3 * i], i % THREADS);
        CHECK_INT((int64_t)c[3 * i + 1], i / THREADS);
        CHECK_INT((int64_t)c[3 * i + 2], BLOCKS);
    }
}

// Each round, a thread reads what one of another warp wrote in the round before.
TEST(barriers_of_a_block) {
    enum { THREADS = 1024, ROUNDS = 50 };
    static float c[THREADS];
    run("    i32 *at = (i32 *)shared_at(0), x = thread_index();\n"
        "    for (i64 i = 0; i < n; i++) {\n"
        "        at[thread_index()] = x;\n"
        "        barrier();\n"
        "        x = at[(thread_index() + 33) % 1024] + 1;\n"
        "        barrier();\n"
        "    }\n"
        "    c[thread_index()] = x;",
        1, THREADS, 4 * THREADS, NULL, 0, NULL, 0, c, THREADS, ROUNDS);
    for (int i = 0; i < THREADS; i++)
        CHECK_INT((int64_t)c[i], (i + 33 * ROUNDS) % THREADS + ROUNDS);
}

TEST(barriers_of_a_warp) {
    enum { THREADS = 256, ROUNDS = 40 };
    static float c[THREADS];
    run("    i32 *at = (i32 *)shared_at(0), x = thread_index();\n"
        "    const i32 warp = thread_index() / 32 * 32;\n"
        "    for (i64 i = 0; i < n; i++) {\n"
        "        at[thread_index()] = x;\n"
        "        warp_barrier();\n"
        "        x = at[warp + (thread_index() + 7) % 32] + 1;\n"
        "        warp_barrier();\n"
        "    }\n"
        "    c[thread_index()] = x;",
        1, THREADS, 4 * THREADS, NULL, 0, NULL, 0, c, THREADS, ROUNDS);
    for (int i = 0; i < THREADS; i++)
        CHECK_INT((int64_t)c[i], i / 32 * 32 + (i + 7 * ROUNDS) % 32 + ROUNDS);
}

// Bits, so that every pattern of an f32 and both halves of an i64 are told apart.
TEST(shuffles_of_all_types_from_all_lanes) {
    static float a[64], c[64 * 32 * 10];
    for (int i = 0; i < 64; i++) a[i] = float_of(0x7f800001u + (uint32_t)i * 0x01234567u);
    run("    const i32 thread = thread_index();\n"
        "    const u32 *bits = (const u32 *)a;\n"
        "    u32 *to = (u32 *)c + 320 * thread;\n"
        "    const i64 wide = (i64)bits[thread] << 32 | (u32)~bits[thread];\n"
        "    for (i32 i = 0; i < 32; i++, to += 10) {\n"
        "        const f32 one = shuffle_f32(a[thread], i);\n"
        "        const f32 other = shuffle_xor_f32(a[thread], i);\n"
        "        const i64 far = shuffle_i64(wide, i), near = shuffle_xor_i64(wide, i);\n"
        "        *(f32 *)to = one;\n"
        "        *(f32 *)(to + 1) = other;\n"
        "        to[2] = shuffle_u32(bits[thread], i + 32 * thread);\n"
        "        to[3] = shuffle_xor_u32(bits[thread], i);\n"
        "        to[4] = (u32)shuffle_i32((i32)bits[thread], i);\n"
        "        to[5] = (u32)shuffle_xor_i32((i32)bits[thread], i);\n"
        "        to[6] = (u32)(far >> 32);\n"
        "        to[7] = (u32)far;\n"
        "        to[8] = (u32)(near >> 32);\n"
        "        to[9] = (u32)near;\n"
        "    }",
        1, 64, 0, a, 64, NULL, 0, c, COUNT_OF(c), 0);
    for (int thread = 0; thread < 64; thread++)
        for (int i = 0; i < 32; i++) {
            uint32_t from = bits_of(a[thread / 32 * 32 + i]), other = bits_of(a[thread ^ i]);
            uint32_t want[] = {from, other, from, other, from, other, from, ~from, other, ~other};
            for (int j = 0; j < 10; j++) CHECK_INT(bits_of(c[320 * thread + 10 * i + j]), want[j]);
        }
}

TEST(votes) {
    static float a[64], c[64 * 4];
    for (int i = 0; i < 64; i++) a[i] = (float)(i * 37 % 11 < 5);
    run("    const i32 thread = thread_index();\n"
        "    u32 *to = (u32 *)c + 4 * thread;\n"
        "    to[0] = ballot(a[thread] > 0);\n"
        "    to[1] = ballot(thread % 3 == 1 ? 256 : 0);\n"
        "    to[2] = ballot(0);\n"
        "    to[3] = ballot(-1);",
        1, 64, 0, a, 64, NULL, 0, c, COUNT_OF(c), 0);
    for (int thread = 0; thread < 64; thread++) {
        uint32_t positive = 0, third = 0;
        for (int i = 0; i < 32; i++) {
            int of = thread / 32 * 32 + i;
            positive |= (uint32_t)(a[of] > 0) << i;
            third |= (uint32_t)(of % 3 == 1) << i;
        }
        uint32_t want[] = {positive, third, 0, UINT32_MAX};
        for (int j = 0; j < 4; j++) CHECK_INT(bits_of(c[4 * thread + j]), want[j]);
    }
}

// ---- tf32 --------------------------------------------------------------------------------------
// To the nearest of 10 bits, ties away from zero; NaN stays one.
static uint32_t rounded(uint32_t bits) {
    uint32_t low = bits & 0x1fff;
    return bits - low + (low >= 0x1000 ? 0x2000 : 0);
}

TEST(rounding_to_tf32) {
    enum { COUNT = 1 << 16 };
    static const uint32_t edges[] = {0,          0x80000000, 0xfff,      0x1000,     0x80001000,
                                     0x7fffff,   0x800000,   0x3f800fff, 0x3f801000, 0x3f803000,
                                     0xbf801000, 0x3fffffff, 0x7f7fefff, 0x7f7ff000, 0xff7fffff,
                                     0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 0xffffffff};
    static float a[COUNT], c[COUNT];
    for (int i = 0; i < COUNT; i++)
        a[i] = float_of(i < COUNT_OF(edges) ? edges[i] : (uint32_t)hash_bytes(&i, sizeof i, 1));
    map("    for (i64 i = thread_index(); i < n; i += 256) c[i] = round_tf32(a[i]);", 256, 0, a, c,
        COUNT, COUNT);
    for (int i = 0; i < COUNT; i++)
        if (isnan(a[i]))
            CHECK(isnan(c[i]));
        else
            CHECK_INT(bits_of(c[i]), rounded(bits_of(a[i])));
}

// a (16, 8) b (8, 8) + c (16, 8), n of them in a row, by PTX's figure of who holds what.
static const char product[] =
    "    const i32 group = thread_index() / 4, place = thread_index() % 4;\n"
    "    for (i64 p = 0; p < n; p++) {\n"
    "        f32 x[4], y[2], z[4];\n"
    "        for (i32 i = 0; i < 4; i++)\n"
    "            x[i] = a[128 * p + 8 * (group + 8 * (i % 2)) + place + 4 * (i / 2)];\n"
    "        for (i32 i = 0; i < 2; i++) y[i] = b[64 * p + 8 * (place + 4 * i) + group];\n"
    "        for (i32 i = 0; i < 4; i++)\n"
    "            z[i] = c[128 * p + 8 * (group + 8 * (i / 2)) + 2 * place + i % 2];\n"
    "        mma_tf32_16x8x8(z, x, y);\n"
    "        for (i32 i = 0; i < 4; i++)\n"
    "            c[128 * p + 8 * (group + 8 * (i / 2)) + 2 * place + i % 2] = z[i];\n"
    "    }";

// a has a single 1, which takes one row of b to one row of c.
TEST(who_holds_what_in_a_matrix_product) {
    enum { PRODUCTS = 128 };
    static float a[128 * PRODUCTS], b[64 * PRODUCTS], c[128 * PRODUCTS];
    for (int p = 0; p < PRODUCTS; p++) {
        a[128 * p + p] = 1;
        for (int i = 0; i < 64; i++) b[64 * p + i] = (float)(i + 1);
        for (int i = 0; i < 128; i++) c[128 * p + i] = (float)(1000 * i);
    }
    run(product, 1, 32, 0, a, COUNT_OF(a), b, COUNT_OF(b), c, COUNT_OF(c), PRODUCTS);
    for (int p = 0; p < PRODUCTS; p++)
        for (int i = 0; i < 128; i++) {
            int row = i / 8, from = row == p / 8 ? 8 * (p % 8) + i % 8 + 1 : 0;
            CHECK_INT((int64_t)c[128 * p + i], 1000 * i + from);
        }
}

// Within 2^-20 of the terms' sizes, see prelude_gpu.c; with factors from 2^-20 to 2^20.
TEST(how_exact_a_matrix_product_is) {
    enum { PRODUCTS = 64 };
    float *a = simt_values(128 * PRODUCTS, 1), *b = simt_values(64 * PRODUCTS, 2),
          *c = simt_values(128 * PRODUCTS, 3), *before = simt_values(128 * PRODUCTS, 3);
    for (int i = 0; i < 128 * PRODUCTS; i++)
        a[i] = float_of(rounded(bits_of(ldexpf(a[i], i * 7 % 41 - 20))));
    for (int i = 0; i < 64 * PRODUCTS; i++) b[i] = float_of(rounded(bits_of(b[i])));
    run(product, 1, 32, 0, a, 128 * PRODUCTS, b, 64 * PRODUCTS, c, 128 * PRODUCTS, PRODUCTS);
    double worst = 0;
    for (int i = 0; i < 128 * PRODUCTS; i++) {
        int p = i / 128, row = i % 128 / 8, column = i % 8;
        double sum = before[i], size = fabs(sum);
        for (int k = 0; k < 8; k++) {
            double term = (double)a[128 * p + 8 * row + k] * b[64 * p + 8 * k + column];
            sum += term;
            size += fabs(term);
        }
        worst = fmax(worst, fabs(c[i] - sum) / size);
    }
    printf("a matrix product is within 2^%.1f of its terms' sizes\n", log2(worst));
    CHECK(worst <= 0x1p-20);
    free(a), free(b), free(c), free(before);
}

// ---- products of four warps --------------------------------------------------------------------
// wgmma is an instruction of compute capability 9.0 alone.
static bool has_wgmma(void) {
    if (!on_cuda()) return true;
    const CudaInfo *info = cuda_facts(gpu_of_test());
    return info->major == 9 && info->minor == 0;
}

// a (64, 8) b (8, N) + c (64, N), n of them in a row, by PTX's figures of who holds what; pieces of
// b are so many elements apart along k and along N.
static const char *product_of_four(Arena *arena, int columns, int along_k, int along_n) {
    return arena_print(
        arena,
        "    f32 *at = (f32 *)shared_at(0);\n"
        "    const i32 t = thread_index(), row = t / 32 * 16 + t %% 32 / 4, place = t %% 4;\n"
        "    for (i64 p = 0; p < n; p++) {\n"
        "        f32 x[4], z[%d];\n"
        "        for (i32 i = t; i < 8 * %d; i += 128) {\n"
        "            const i32 k = i %% 8, j = i / 8;\n"
        "            at[k / 4 * %d + j / 8 * %d + j %% 8 * 4 + k %% 4] =\n"
        "                b[8 * %d * p + %d * k + j];\n"
        "        }\n"
        "        shared_fence_async();\n"
        "        barrier();\n"
        "        _Pragma(\"unroll\") for (i32 i = 0; i < 4; i++)\n"
        "            x[i] = a[512 * p + 8 * (row + i %% 2 * 8) + place + i / 2 * 4];\n"
        "        _Pragma(\"unroll\") for (i32 i = 0; i < %d; i++)\n"
        "            z[i] = c[64 * %d * p + %d * (row + i / 2 %% 2 * 8) + i / 4 * 8 + 2 * place + "
        "i %% 2];\n"
        "        wgmma_hold(x, 4);\n"
        "        wgmma_hold(z, %d);\n"
        "        wgmma_fence();\n"
        "        wgmma_tf32_64x%dx8(z, x, wgmma_descriptor(at, 4 * %d, 4 * %d));\n"
        "        wgmma_commit();\n"
        "        wgmma_wait(0);\n"
        "        wgmma_hold(z, %d);\n"
        "        _Pragma(\"unroll\") for (i32 i = 0; i < %d; i++)\n"
        "            c[64 * %d * p + %d * (row + i / 2 %% 2 * 8) + i / 4 * 8 + 2 * place + "
        "i %% 2] = z[i];\n"
        "        barrier();\n"
        "    }",
        columns / 2, columns, along_k, along_n, columns, columns, columns / 2, columns, columns,
        columns / 2, columns, along_k, along_n, columns / 2, columns / 2, columns, columns);
}

// Small integers, of which any sum is exact.
static float *integers(int64_t count, int seed) {
    float *at = simt_values(count, seed);
    for (int64_t i = 0; i < count; i++) at[i] = rintf(9 * at[i]);
    return at;
}

// Largest error in terms' sizes.
static double check_four(int columns, int along_k, int along_n, bool whole) {
    enum { PRODUCTS = 3, WORDS = 8192 };
    Arena *arena = arena_new();
    float *(*make)(int64_t, int) = whole ? integers : simt_values;
    float *a = make(512 * PRODUCTS, 1), *b = make(8L * columns * PRODUCTS, 2),
          *c = make(64L * columns * PRODUCTS, 3), *before = make(64L * columns * PRODUCTS, 3);
    for (int i = 0; i < 512 * PRODUCTS; i++) a[i] = float_of(rounded(bits_of(a[i])));
    for (int i = 0; i < 8 * columns * PRODUCTS; i++) b[i] = float_of(rounded(bits_of(b[i])));
    run(product_of_four(arena, columns, along_k, along_n), 1, 128, 4L * WORDS, a, 512 * PRODUCTS, b,
        8L * columns * PRODUCTS, c, 64L * columns * PRODUCTS, PRODUCTS);
    double worst = 0;
    for (int i = 0; i < 64 * columns * PRODUCTS; i++) {
        int p = i / 64 / columns, row = i / columns % 64, column = i % columns;
        double sum = before[i], size = fabs(sum);
        for (int k = 0; k < 8; k++) {
            double term =
                (double)a[512 * p + 8 * row + k] * b[8 * columns * p + columns * k + column];
            sum += term;
            size += fabs(term);
        }
        if (whole)
            CHECK_INT((int64_t)c[i], (int64_t)sum);
        else if (!(fabs(c[i] - sum) <= worst * size))
            worst = fabs(c[i] - sum) / size;
    }
    free(a), free(b), free(c), free(before);
    arena_free(arena);
    return worst;
}

TEST(who_holds_what_in_a_product_of_four_warps) {
    static const int columns[] = {8, 24, 64, 128, 192, 256};
    if (!has_wgmma()) SKIP("wgmma is compute capability 9.0's");
    for (int i = 0; i < COUNT_OF(columns); i++) check_four(columns[i], 4 * columns[i], 32, true);
}

// Pieces that follow one another along k first; with 16 bytes, and with more, left free.
TEST(where_pieces_of_a_matrix_lie) {
    static const int apart[][2] = {{32, 64},    {260, 32}, {36, 72},
                                   {4000, 100}, {64, 256}, {300, 36}};
    if (!has_wgmma()) SKIP("wgmma is compute capability 9.0's");
    for (int i = 0; i < COUNT_OF(apart); i++) check_four(64, apart[i][0], apart[i][1], true);
}

TEST(how_exact_a_product_of_four_warps_is) {
    if (!has_wgmma()) SKIP("wgmma is compute capability 9.0's");
    double worst = check_four(128, 512, 32, false);
    printf("a product of four warps is within 2^%.1f of its terms' sizes\n", log2(worst));
    CHECK(worst <= 0x1p-20);
}

// x times the identity, and times twice that: two groups, of which the first is waited for first.
// Two groups of four warps do so, each with a matrix of its own.
TEST(groups_of_products_come_in_order) {
    enum { THREADS = 256 };
    float *a = simt_values(4 * THREADS, 4), c[2 * 4 * THREADS] = {0};
    for (int i = 0; i < 4 * THREADS; i++) a[i] = float_of(rounded(bits_of(a[i])));
    if (!has_wgmma()) SKIP("wgmma is compute capability 9.0's");
    run("    const i32 t = thread_index(), scale = 1 + t / 128;\n"
        "    f32 *at = (f32 *)shared_at(0) + 128 * (t / 128);\n"
        "    for (i32 i = t % 128; i < 128; i += 128) {\n"
        "        const i32 k = i / 32 % 2 * 4 + i % 4, j = i / 4 % 8;\n"
        "        at[i] = k == j ? scale << i / 64 : 0;\n"
        "    }\n"
        "    shared_fence_async();\n"
        "    barrier();\n"
        "    f32 x[4], y[4] = {0, 0, 0, 0}, z[4] = {0, 0, 0, 0};\n"
        "    _Pragma(\"unroll\") for (i32 i = 0; i < 4; i++) x[i] = a[4 * t + i];\n"
        "    wgmma_hold(x, 4);\n"
        "    wgmma_hold(y, 4);\n"
        "    wgmma_hold(z, 4);\n"
        "    wgmma_fence();\n"
        "    wgmma_tf32_64x8x8(y, x, wgmma_descriptor(at, 128, 128));\n"
        "    wgmma_commit();\n"
        "    wgmma_tf32_64x8x8(z, x, wgmma_descriptor(at + 64, 128, 128));\n"
        "    wgmma_commit();\n"
        "    wgmma_wait(1);\n"
        "    wgmma_hold(y, 4);\n"
        "    _Pragma(\"unroll\") for (i32 i = 0; i < 4; i++) c[8 * t + i] = y[i];\n"
        "    wgmma_wait(0);\n"
        "    wgmma_hold(z, 4);\n"
        "    _Pragma(\"unroll\") for (i32 i = 0; i < 4; i++) c[8 * t + 4 + i] = z[i];",
        1, THREADS, 1024, a, 4 * THREADS, NULL, 0, c, COUNT_OF(c), 0);
    for (int t = 0; t < THREADS; t++)
        for (int i = 0; i < 4; i++) {
            int column = t % 4 * 2 + i % 2, from = t / 4 * 4 + column % 4;  // k % 4 is whose
            float x = a[4 * from + i / 2 + column / 4 * 2] * (float)(1 + t / 128);
            CHECK_INT(bits_of(c[8 * t + i]), bits_of(x));
            CHECK_INT(bits_of(c[8 * t + 4 + i]), bits_of(2 * x));
        }
    free(a);
}

// ---- copies ------------------------------------------------------------------------------------
// Two buffers; while one is summed, the other is filled. Behind the end come zeros.
#define PIPELINE(bytes, floats)                                                                   \
    "    f32 *at = (f32 *)shared_at(0);\n"                                                        \
    "    const i32 thread = thread_index();\n"                                                    \
    "    f32 total = 0;\n"                                                                        \
    "    copy_async_" bytes "(at + " floats " * thread, a + " floats " * thread);\n"              \
    "    copy_async_commit();\n"                                                                  \
    "    for (i64 step = 0; step < n; step++) {\n"                                                \
    "        const i32 size = 64 * " floats ", here = (step & 1) * size, there = size - here;\n"  \
    "        const i32 more = step + 1 < n;\n"                                                    \
    "        copy_async_" bytes "_if(at + there + " floats " * thread,\n"                         \
    "                         a + (more ? size * (step + 1) : 0) + " floats " * thread, more);\n" \
    "        copy_async_commit();\n"                                                              \
    "        copy_async_wait(1);\n"                                                               \
    "        barrier();\n"                                                                        \
    "        for (i32 i = 0; i < " floats "; i++) total += at[here + (thread ^ 5) + 64 * i];\n"   \
    "        barrier();\n"                                                                        \
    "    }\n"                                                                                     \
    "    copy_async_wait(0);\n"                                                                   \
    "    barrier();\n"                                                                            \
    "    c[thread] = total;\n"                                                                    \
    "    for (i32 i = 0; i < " floats "; i++)\n"                                                  \
    "        c[64 * (i + 1) + thread] = at[(n & 1) * 64 * " floats " + 64 * i + thread];"

static void check_copies(const char *body, int floats) {
    enum { STEPS = 9 };
    float *a = simt_values(64 * 4 * STEPS, 4), c[64 * 5];
    memset(c, 0xff, sizeof c);
    run(body, 1, 64, 2048, a, 64 * floats * STEPS, NULL, 0, c, 64 * (floats + 1), STEPS);
    for (int thread = 0; thread < 64; thread++) {
        float total = 0;
        for (int step = 0; step < STEPS; step++)
            for (int i = 0; i < floats; i++) total += a[64 * floats * step + (thread ^ 5) + 64 * i];
        CHECK(c[thread] == total);
        for (int i = 0; i < floats; i++) CHECK_INT(bits_of(c[64 * (i + 1) + thread]), 0);
    }
    free(a);
}

TEST(copies_of_16_bytes) { check_copies(PIPELINE("16", "4"), 4); }

TEST(copies_of_4_bytes) { check_copies(PIPELINE("4", "1"), 1); }

// Four groups are under way; wait(3) to wait(0) take one after the other.
TEST(groups_of_copies_come_in_order) {
    float *a = simt_values(4 * 128, 5), c[4 * 128];
    map("    f32 *at = (f32 *)shared_at(0) + 16 * thread_index();\n"
        "    const f32 *from = a + 16 * thread_index();\n"
        "    f32 *to = c + 16 * thread_index();\n"
        "    for (i32 i = 0; i < 4; i++) {\n"
        "        copy_async_16(at + 4 * i, from + 4 * i);\n"
        "        copy_async_commit();\n"
        "    }\n"
        "    copy_async_wait(3);\n"
        "    for (i32 i = 0; i < 4; i++) to[i] = at[i];\n"
        "    copy_async_wait(2);\n"
        "    for (i32 i = 4; i < 8; i++) to[i] = at[i];\n"
        "    copy_async_wait(1);\n"
        "    for (i32 i = 8; i < 12; i++) to[i] = at[i];\n"
        "    copy_async_wait(0);\n"
        "    for (i32 i = 12; i < 16; i++) to[i] = at[i];",
        32, 2048, a, c, 4 * 128, 0);
    CHECK(!memcmp(a, c, sizeof c));
    free(a);
}

// ---- bulk copies -------------------------------------------------------------------------------
// Of compute capability 9.0 on.
static bool has_bulk(void) { return !on_cuda() || cuda_facts(gpu_of_test())->major >= 9; }

// Three places of 4 KB: in each step one is waited for and summed while two are filled.
TEST(bulk_copies_by_three_barriers) {
    enum { STEPS = 11, COUNT = 1024, THREADS = 64 };
    if (!has_bulk()) SKIP("no bulk copies before sm_90");
    float *a = simt_values(COUNT * STEPS, 7), c[THREADS];
    run("    i64 *came = (i64 *)shared_at(0);\n"
        "    f32 *at = (f32 *)shared_at(128);\n"
        "    const i32 thread = thread_index();\n"
        "    f32 total = 0;\n"
        "    if (thread == 0) {\n"
        "        for (i32 i = 0; i < 3; i++) barrier_init(came + i, 1);\n"
        "        barrier_fence();\n"
        "    }\n"
        "    barrier();\n"
        "    for (i64 step = -2; step < n; step++) {\n"
        "        const i32 here = (i32)((step + 3) % 3), there = (i32)((step + 5) % 3);\n"
        "        if (step >= 0) barrier_wait(came + here, (i32)(step / 3 & 1));\n"
        "        barrier();\n"
        "        if (thread == 0 && step + 2 < n) {\n"
        "            copy_bulk(at + 1024 * there, a + 1024 * (step + 2), 4096, came + there);\n"
        "            barrier_expect(came + there, 4096);\n"
        "        }\n"
        "        for (i32 i = 0; i < 16 && step >= 0; i++)\n"
        "            total += at[1024 * here + (thread ^ 5) + 64 * i];\n"
        "    }\n"
        "    c[thread] = total;",
        1, THREADS, 128 + 3 * 4096, a, COUNT * STEPS, NULL, 0, c, THREADS, STEPS);
    for (int thread = 0; thread < THREADS; thread++) {
        float total = 0;
        for (int i = 0; i < COUNT * STEPS / 64; i++) total += a[(thread ^ 5) + 64 * i];
        CHECK(c[thread] == total);
    }
    free(a);
}

// Bytes are expected before and behind the copy, by threads of two warps; a phase without bytes
// ends when all arrived.
TEST(bulk_copies_of_two_threads_come_to_one_barrier) {
    enum { COUNT = 512, THREADS = 128 };
    if (!has_bulk()) SKIP("no bulk copies before sm_90");
    float *a = simt_values(COUNT, 8), c[COUNT];
    map("    i64 *came = (i64 *)shared_at(0);\n"
        "    f32 *at = (f32 *)shared_at(16);\n"
        "    const i32 thread = thread_index();\n"
        "    if (thread == 0) {\n"
        "        barrier_init(came, 2);\n"
        "        barrier_init(came + 1, 128);\n"
        "        barrier_fence();\n"
        "    }\n"
        "    barrier();\n"
        "    barrier_expect(came + 1, 0);\n"
        "    barrier_wait(came + 1, 0);\n"
        "    if (thread == 5) {\n"
        "        barrier_expect(came, 16);\n"
        "        copy_bulk(at, a, 16, came);\n"
        "    }\n"
        "    if (thread == 77) {\n"
        "        copy_bulk(at + 4, a + 4, 2032, came);\n"
        "        barrier_expect(came, 2032);\n"
        "    }\n"
        "    barrier_wait(came, 0);\n"
        "    barrier();\n"
        "    for (i32 i = thread; i < 512; i += 128) c[i] = at[i];",
        THREADS, 16 + 2048, a, c, COUNT, 0);
    CHECK(!memcmp(a, c, sizeof c));
    free(a);
}

// ---- types and functions of prelude.c that are instructions of their own ------------------------
TEST(halves_are_rounded_to_the_nearest) {
    enum { COUNT = 1 << 16 };
    static float a[COUNT], c[COUNT];
    for (int i = 0; i < COUNT; i++) a[i] = float_of((uint32_t)i | (uint32_t)i << 16);
    map("    const u16 *half = (const u16 *)a;\n"
        "    for (i64 i = thread_index(); i < n; i += 256) c[i] = f16_to_f32(half[2 * i]);",
        256, 0, a, c, COUNT, COUNT);
    for (int i = 0; i < COUNT; i++) {
        int exponent = i >> 10 & 31, mantissa = i & 1023;
        float size = exponent ? ldexpf((float)(1024 + mantissa), exponent - 25)
                              : ldexpf((float)mantissa, -24);
        if (exponent == 31) size = mantissa ? NAN : INFINITY;
        if (isnan(size))
            CHECK(isnan(c[i]));
        else
            CHECK_INT(bits_of(c[i]), bits_of(i >> 15 ? -size : size));
    }
    memcpy(a, c, sizeof a);
    // Back, and half way to the next one up, which an even number wins.
    map("    for (i64 i = thread_index(); i < n; i += 256) c[i] = f32_to_f16(a[i]);", 256, 0, a, c,
        COUNT, COUNT);
    for (int i = 0; i < COUNT; i++)
        if (!isnan(a[i])) CHECK_INT((int64_t)c[i], i);
    for (int i = 0; i < 0x7bff; i++) a[i] = (a[i] + a[i + 1]) / 2;
    map("    for (i64 i = thread_index(); i < n; i += 256) c[i] = f32_to_f16(a[i]);", 256, 0, a, c,
        COUNT, 0x7bff);
    for (int i = 0; i < 0x7bff; i++) CHECK_INT((int64_t)c[i], i + (i & 1));
}

// Products and sums are rounded each, but where one instruction is asked for.
TEST(sums_of_products_are_fused_where_asked) {
    enum { COUNT = 3 * 4096 };
    float *a = simt_values(COUNT, 6), c[4 * COUNT / 3];
    memset(c, 0, sizeof c);
    run("    for (i64 i = thread_index(); i < n; i += 256) {\n"
        "        const f32 x = a[3 * i], y = a[3 * i + 1], z = a[3 * i + 2];\n"
        "        c[4 * i] = x * y + z;\n"
        "        c[4 * i + 1] = fma_f32(x, y, z);\n"
        "        c[4 * i + 2] = sqrt_f32(x * x);\n"
        "        c[4 * i + 3] = x / (y + 2.0f);\n"
        "    }",
        1, 256, 0, a, COUNT, NULL, 0, c, COUNT_OF(c), COUNT / 3);
    for (int i = 0; i < COUNT / 3; i++) {
        float x = a[3 * i], y = a[3 * i + 1], z = a[3 * i + 2];
        CHECK_INT(bits_of(c[4 * i]), bits_of(x * y + z));
        CHECK_INT(bits_of(c[4 * i + 1]), bits_of(fmaf(x, y, z)));
        CHECK_INT(bits_of(c[4 * i + 2]), bits_of(sqrtf(x * x)));
        CHECK_INT(bits_of(c[4 * i + 3]), bits_of(x / (y + 2.0f)));
    }
    free(a);
}
