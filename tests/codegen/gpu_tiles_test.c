/* gpu_tiles_test.c - the heuristic's tiles for GPUs, by kinds of product: results on simt, counts
 * derived by hand, and nothing that NVRTC spills. */
#include "codegen/gpu_run.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

static Arena *all;

// What is stored last was made of factors below 1, exact in 13 bits; tf32 rounds each by at most
// 2^-12.
static double tolerance(const char *tiles, int64_t terms) {
    return tiles ? (double)terms * 2 * 0x1p-12 : 1e-4;
}

static Gpu tiled(const char *text, const GpuTarget *row, const char *tiles) {
    ScheduleTarget target = {.gpu = row, .tiles = tiles};
    if (!all) all = arena_new();
    Gpu gpu = gpu_render(text, gpu_first(all, text, &target));
    CHECK(strstr(gpu.schedule, "in shared convert") != NULL);
    CHECK_INT(gpu_spills(&gpu), 0);
    return gpu;
}

// The buffers behind the first, by their sizes.
static void check_values(Gpu *gpu, const char *text, int64_t size, int64_t a, int64_t b,
                         double bound, const int64_t *var) {
    void *buffer[] = {NULL, random_floats(all, a, 4), random_floats(all, b, 5)};
    gpu_check(gpu, text, buffer, size, bound, var);
    if (strstr(gpu->schedule, "PIPELINE")) CHECK(gpu_has(gpu, "copy_async_wait"));
    CHECK_INT(gpu->counts.wavefronts, gpu->counts.conflict_free);
}

static const char *const kinds[] = {NULL, "mma_tf32", "wgmma_tf32"};

// ---- sizes that are VARs -----------------------------------------------------------------------
static void check_var(const char *text, int64_t size, int64_t a, int64_t b, int64_t terms,
                      bool ahead) {
    static const int64_t values[] = {1, 64, 65, 150};
    for (int kind = 0; kind < COUNT_OF(kinds); kind++) {
        Gpu gpu = tiled(text, gpu_target("h100"), kinds[kind]);
        CHECK_INT(strstr(gpu.schedule, "PIPELINE") != NULL, ahead);
        for (int i = 0; i < COUNT_OF(values); i++)
            check_values(&gpu, text, size, a, b, tolerance(kinds[kind], terms), &values[i]);
        gpu_free(&gpu);
    }
}

TEST(rows_may_be_a_var) {
    check_var("kernel k\nvar n 1..150\nout c f32[28800]\nin a f32[9600]\nin b f32[12288]\n"
              "for h < 2 { for i < n { for j < 96 {\n"
              "c[14400*h + 96*i + j] = (reduce add k<64 (mul a[64*i + k] b[6144*h + 96*k + j]))\n"
              "} } }\n",
              28800, 9600, 12288, 64, true);
}

TEST(columns_may_be_a_var) {
    check_var("kernel k\nvar n 1..150\nout c f32[9600]\nin a f32[4096]\nin b f32[9600]\n"
              "for i < 64 { for j < n {\n"
              "c[150*i + j] = (reduce add k<64 (mul a[64*i + k] b[64*j + k]))\n} }\n",
              9600, 4096, 9600, 64, true);
}

TEST(a_sum_may_be_a_var) {
    check_var("kernel k\nvar n 1..150\nout c f32[8192]\nin a f32[19200]\nin b f32[9600]\n"
              "for h < 2 { for i < 64 { for j < 64 {\n"
              "c[4096*h + 64*i + j] = (reduce add k<n (mul a[9600*h + 150*i + k] b[64*k + j]))\n"
              "} } }\n",
              8192, 19200, 9600, 150, false);
}

// One of two is the outermost loop of blocks, and a block walks the other.
TEST(rows_and_columns_may_be_vars) {
    static const char text[] = "kernel k\nvar n 1..150\nvar m 1..70\n"
                               "out c f32[10500]\nin a f32[4800]\nin b f32[2240]\n"
                               "for i < n { for j < m {\n"
                               "c[70*i + j] = (reduce add k<32 (mul a[32*i + k] b[32*j + k]))\n"
                               "} }\n";
    static const int64_t values[][2] = {{1, 1}, {1, 70}, {150, 1}, {65, 66}};
    for (int kind = 0; kind < COUNT_OF(kinds); kind++) {
        Gpu gpu = tiled(text, gpu_target("h100"), kinds[kind]);
        CHECK(strstr(gpu.schedule, "BLOCK i0\n") != NULL);
        for (int i = 0; i < COUNT_OF(values); i++)
            check_values(&gpu, text, 10500, 4800, 2240, tolerance(kinds[kind], 32), values[i]);
        gpu_free(&gpu);
    }
}

// What is padded in whole vectors is still copied by sixteen bytes: 36 columns of 64.
TEST(whole_vectors_are_past_the_end_or_not) {
    static const char text[] = "kernel k\nout c f32[2304]\nin a f32[2048]\nin b f32[1152]\n"
                               "for i < 64 { for j < 36 {\n"
                               "c[36*i + j] = (reduce add k<32 (mul a[32*i + k] b[36*k + j]))\n"
                               "} }\n";
    Gpu gpu = tiled(text, gpu_target("h100"), NULL);
    check_values(&gpu, text, 2304, 2048, 1152, 1e-4, NULL);
    CHECK(gpu_has(&gpu, "copy_async_16_if(b_shared") && !gpu_has(&gpu, "copy_async_4_if(b_shared"));
    gpu_free(&gpu);
}

// ---- copies ------------------------------------------------------------------------------------
// A slice of a is 64 rows of 8, which is a sector. Eight threads take one each, a warp four, and
// write them in another order where no two meet in a bank. 4 slices, of 2 requests for each warp.
TEST(rows_are_turned_a_sector_at_a_time) {
    static const char text[] = "kernel k\nout c f32[4096]\nin a f32[2048]\nin b f32[2048]\n"
                               "for i < 64 { for j < 64 {\n"
                               "c[64*i + j] = (reduce add k<32 (mul a[32*i + k] b[32*j + k]))\n"
                               "} }\n";
    Gpu gpu = tiled(text, gpu_target("h100"), NULL);
    check_values(&gpu, text, 4096, 2048, 2048, 1e-4, NULL);
    CHECK_INT(gpu.counts.copies, 2 * 4 * 2 * 8);
    CHECK_INT(gpu.counts.load_sectors, 4 * gpu.counts.copies);
    gpu_free(&gpu);
}

// ---- convolutions ------------------------------------------------------------------------------
typedef struct {
    int images, filters, channels, height, width, window_y, window_x, stride, padding;
} Shape2;

static int places(int size, int window, const Shape2 *of) {
    return (size + 2 * of->padding - window) / of->stride + 1;
}

// first <= stride*at + step < first + size
static const char *within(const Shape2 *of, const char *at, const char *step, int size) {
    const char *index = arena_print(all, "%d*%s + %s", of->stride, at, step);
    return arena_print(all, "(and (cmplt @i32(%d) @i32(%s)) (cmplt @i32(%s) @i32(%d)))",
                       of->padding - 1, index, index, size + of->padding);
}

static void check_convolution(Shape2 of) {
    if (!all) all = arena_new();
    int rows = places(of.height, of.window_y, &of), columns = places(of.width, of.window_x, &of);
    int image = of.height * of.width, window = of.window_y * of.window_x;
    const char *inside = of.padding
                             ? arena_print(all, " if (and %s %s)", within(&of, "y", "v", of.height),
                                           within(&of, "x", "u", of.width))
                             : "";
    const char *text = arena_print(
        all,
        "kernel k\nout r f32[%d]\nin a f32[%d]\nin w f32[%d]\n"
        "for n < %d { for o < %d { for y < %d { for x < %d {\n"
        "r[%d*n + %d*o + %d*y + x] = (reduce add c<%d v<%d u<%d (mul\n"
        "a[%d*n + %d*c + %d*y + %d*v + %d*x + u - %d%s] w[%d*o + %d*c + %d*v + u]))\n} } } }\n",
        of.images * of.filters * rows * columns, of.images * of.channels * image,
        of.filters * of.channels * window, of.images, of.filters, rows, columns,
        of.filters * rows * columns, rows * columns, columns, of.channels, of.window_y, of.window_x,
        of.channels * image, image, of.stride * of.width, of.width, of.stride,
        of.padding * (of.width + 1), inside, of.channels * window, window, of.window_x);
    for (int kind = 0; kind < COUNT_OF(kinds); kind++) {
        Gpu gpu = tiled(text, gpu_target("h100"), kinds[kind]);
        check_values(&gpu, text, of.images * of.filters * rows * columns,
                     of.images * of.channels * image, of.filters * of.channels * window,
                     tolerance(kinds[kind], of.channels * window), NULL);
        gpu_free(&gpu);
    }
}

TEST(a_convolution_is_a_product) { check_convolution((Shape2){1, 64, 8, 12, 12, 3, 3, 1, 1}); }
TEST(places_of_several_images_are_one_loop) {
    check_convolution((Shape2){3, 40, 7, 6, 10, 3, 3, 1, 1});
}
TEST(windows_may_move_by_two) { check_convolution((Shape2){2, 64, 5, 15, 15, 3, 3, 2, 1}); }
TEST(a_window_of_one_is_a_plain_product) {
    check_convolution((Shape2){2, 64, 40, 9, 8, 1, 1, 1, 0});
}
TEST(one_row_is_a_convolution_too) { check_convolution((Shape2){1, 80, 24, 1, 98, 1, 3, 1, 0}); }

// Neighbours have neighbouring places: 32 of a row of 64, which begin anywhere, are in 5 sectors,
// and in 4 where the window is in its first column. Of the filters' 64 rows of 32, quads.
TEST(threads_side_by_side_read_places_side_by_side) {
    static const char text[] =
        "kernel k\nout r f32[12288]\nin a f32[8448]\nin w f32[6144]\n"
        "for o < 64 { for y < 3 { for x < 64 {\n"
        "r[192*o + 64*y + x] = (reduce add c<32 u<3 (mul a[264*c + 66*y + x + u] "
        "w[96*o + 3*c + u]))\n"
        "} } }\n";
    Gpu gpu = tiled(text, gpu_target("h100"), "mma_tf32");
    check_values(&gpu, text, 12288, 8448, 6144, tolerance("mma_tf32", 96), NULL);
    int64_t filters = 3 * 64 * 96 / 4 / 32, images = 3 * 64 * 96 / 32;  // requests, of 3 blocks
    CHECK_INT(gpu.counts.copies, filters + images);
    CHECK(gpu.counts.load_sectors <= 16 * filters + 5 * images);
    gpu_free(&gpu);
}

// Sums over several loops are one: dw[o, c, u] = sum over n, x of g[n, o, x] a[n, c, x + u].
TEST(a_gradient_of_filters_is_a_product) {
    static const char text[] =
        "kernel k\nout r f32[6912]\nin g f32[9216]\nin a f32[6912]\n"
        "for o < 48 { for c < 36 { for u < 4 {\n"
        "r[144*o + 4*c + u] = (reduce add n<4 x<45 (mul g[2304*n + 48*o + x] a[1728*n + 48*c + x "
        "+ u]))\n} } }\n";
    for (int kind = 0; kind < COUNT_OF(kinds); kind++) {
        Gpu gpu = tiled(text, gpu_target("h100"), kinds[kind]);
        CHECK(strstr(gpu.schedule, "FUSE n x\n") && strstr(gpu.schedule, "FUSE c u\n"));
        check_values(&gpu, text, 6912, 9216, 6912, tolerance(kinds[kind], 180), NULL);
        gpu_free(&gpu);
    }
}

// ---- which blocks do what ----------------------------------------------------------------------
static const char *matrices(int m, int n, int k) {
    if (!all) all = arena_new();
    return arena_print(all,
                       "kernel k\nout c f32[%d]\nin a f32[%d]\nin b f32[%d]\n"
                       "for i < %d { for j < %d {\n"
                       "c[%d*i + j] = (reduce add k<%d (mul a[%d*i + k] b[%d*k + j]))\n} }\n",
                       m * n, m * k, k * n, m, n, n, k, k, n);
}

// The bytes that the blocks of 132 multiprocessors share, of 24 x 16 tiles of 128 x 128 elements
// and 24 slices of the sum: 12 KB for each row of tiles, or column.
static int64_t wave_bytes(double l2_bytes) {
    enum { M = 24 * 128, N = 16 * 128, K = 24, BLOCKS = 132, PANEL = 4 * 128 * K };
    GpuTarget row = *gpu_target("h100");
    row.l2_bytes = l2_bytes;
    Gpu gpu = tiled(matrices(M, N, K), &row, NULL);
    CHECK(strstr(gpu.schedule, "SPLIT i 128\nSPLIT j 128\n") != NULL);
    void *buffer[] = {malloc(sizeof(float) * M * N), random_floats(all, M * K, 4),
                      random_floats(all, K * N, 5)};
    SimtCounts counts = gpu_count(&gpu, BLOCKS, buffer);
    free(buffer[0]);
    gpu_free(&gpu);
    int64_t read = counts.memory_bytes - (int64_t)BLOCKS * 128 * 128 * 4;
    CHECK_INT(read % PANEL, 0);
    return read / PANEL;
}

// One after another they are 8 rows and a half, so 9 rows and 16 columns; by groups of 12 rows, 11
// columns.
TEST(blocks_that_run_at_once_share_what_they_read) {
    CHECK_INT(wave_bytes(50e6), 9 + 16);
    CHECK_INT(wave_bytes(1e5), 12 + 11);
}

// 2 x 2 tiles of 64 x 64 elements are 4 blocks of 132, and 2100 products a sum enough for all.
TEST(a_long_sum_of_few_tiles_is_in_parts) {
    const char *text = matrices(128, 100, 2100);
    for (int kind = 0; kind < COUNT_OF(kinds); kind++) {
        Gpu gpu = tiled(text, gpu_target("h100"), kinds[kind]);
        CHECK(strstr(gpu.schedule, "RFACTOR k0 apart in shared\n") != NULL);
        CHECK(gpu_has(&gpu, "_1(") && gpu_has(&gpu, "copy_async_16"));  // two launches
        check_values(&gpu, text, 12800, 128 * 2100, 100 * 2100, tolerance(kinds[kind], 2100), NULL);
        gpu_free(&gpu);
    }
}

TEST(a_short_sum_is_one) {
    Gpu gpu = tiled(matrices(128, 128, 128), gpu_target("h100"), NULL);
    CHECK(!strstr(gpu.schedule, "RFACTOR"));
    gpu_free(&gpu);
}

// Five rows and three columns of tiles on four multiprocessors.
TEST(as_many_blocks_as_multiprocessors) {
    enum { M = 300, N = 180, K = 64 };
    const char *text = matrices(M, N, K), *candidate[CANDIDATES_MAX];
    GpuTarget row = *gpu_target("h100");
    row.sms = 4;
    for (int kind = 0; kind < COUNT_OF(kinds); kind++) {
        ScheduleTarget target = {.gpu = &row, .tiles = kinds[kind]};
        Kernel *kernel = kernel_parse(all, "test", text);
        accumulate(kernel);
        int walking = 0, count = schedule_candidates(all, kernel, &target, candidate);
        while (walking < count && !strstr(candidate[walking], "BLOCK tiles0\n")) walking++;
        CHECK(walking > 0 && walking < count);
        Gpu gpu = gpu_render(text, candidate[walking]);
        CHECK_INT(gpu_spills(&gpu), 0);
        check_values(&gpu, text, M * N, M * K, K * N, tolerance(kinds[kind], K), NULL);
        gpu_free(&gpu);
    }
}
