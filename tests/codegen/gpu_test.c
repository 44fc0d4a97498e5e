/* gpu_test.c - kernels for GPUs: schedules with blocks, warps and threads, run on simt as compiled
 * for speed and as checked, against the chunk interpreter on the unscheduled kernel. */
#include "codegen/gpu_run.h"
#include "test.h"

#include <string.h>

// Buffer 0, of `size` floats, is the result; the others are given.
static Gpu check_equal(const char *text, const char *schedule, void **buffer, int64_t size,
                       double tolerance) {
    Gpu gpu = gpu_render(text, schedule);
    gpu_check(&gpu, text, buffer, size, tolerance, NULL);
    return gpu;
}

static float *values(int64_t count, uint32_t seed) {
    static Arena *all;
    if (!all) all = arena_new();
    return random_floats(all, count, seed);
}

static bool has(const Gpu *gpu, const char *part) { return gpu_has(gpu, part); }

// ---- blocks and threads ------------------------------------------------------------------------
static const char added[] =
    "kernel k\nout y f32[1000]\nin a f32[1000]\nfor i < 1000 { y[i] = (add a[i] 1) }\n";

TEST(a_thread_for_each_element) {
    float *a = values(1000, 1);
    Gpu gpu = check_equal(added, "SPLIT i 256 guard\nBLOCK i0\nTHREAD i1\n", (void *[]){NULL, a},
                          1000, 0);
    CHECK(has(&gpu, "if (thread < min_i32(256, 1000 - 256*i0))"));
    CHECK_INT(gpu.counts.loads, 32);  // requests of warps, the last block's too
    gpu_free(&gpu);
}

TEST(four_elements_at_once) {
    float *a = values(1000, 1);
    Gpu gpu =
        check_equal(added, "SPLIT i 4\nVECTORIZE i1\nSPLIT i0 128 guard\nBLOCK i00\nTHREAD i01\n",
                    (void *[]){NULL, a}, 1000, 0);
    CHECK(has(&gpu, "load_f32x4(a + 512*i00 + 4*thread)"));
    CHECK(has(&gpu, "store_f32x4(y + 512*i00 + 4*thread, wide)"));
    CHECK_INT(gpu.counts.loads, 8);        // 250 threads are 7.8 warps
    CHECK_INT(gpu.counts.load_lines, 32);  // 4000 bytes are 31.25 lines
    gpu_free(&gpu);
}

TEST(what_is_not_aligned_goes_one_by_one) {
    float *a = values(1001, 1);
    Gpu gpu = check_equal("kernel k\nout y f32[1000]\nin a f32[1001]\n"
                          "for i < 1000 { y[i] = (add a[i + 1] 1) }\n",
                          "SPLIT i 4\nVECTORIZE i1\nBLOCK i0\n", (void *[]){NULL, a}, 1000, 0);
    CHECK(!has(&gpu, "load_f32x4") && has(&gpu, "store_f32x4"));
    gpu_free(&gpu);
}

TEST(half_of_it_is_aligned) {
    float *a = values(1002, 1);
    Gpu gpu = check_equal("kernel k\nout y f32[1000]\nin a f32[1002]\n"
                          "for i < 1000 { y[i] = (add a[i + 2] 1) }\n",
                          "SPLIT i 4\nVECTORIZE i1\nBLOCK i0\n", (void *[]){NULL, a}, 1000, 0);
    CHECK(has(&gpu, "load_f32x2(a + 4*i0 + 2)") && has(&gpu, "load_f32x2(a + 4*i0 + 4)"));
    gpu_free(&gpu);
}

TEST(without_a_schedule_one_thread_does_it) {
    float *a = values(1000, 1);
    Gpu gpu = check_equal(added, "", (void *[]){NULL, a}, 1000, 0);
    CHECK(has(&gpu, "KERNEL(1)"));
    gpu_free(&gpu);
}

// ---- folds -------------------------------------------------------------------------------------
static const char sums[] = "kernel k\nout y f32[12]\nin a f32[12000]\n"
                           "for i < 12 { y[i] = (reduce add k<1000 a[1000*i + k]) }\n";

TEST(threads_fold_together) {
    float *a = values(12000, 2);
    Gpu gpu = check_equal(sums, "BLOCK i\nTHREAD k\n", (void *[]){NULL, a}, 12, 1e-4);
    CHECK(has(&gpu, "block_add_f32(ME "));
    CHECK(has(&gpu, "k += 256"));  // more iterations than a block has threads
    gpu_free(&gpu);
}

TEST(lanes_fold_before_threads) {
    float *a = values(12000, 2);
    Gpu gpu = check_equal(sums, "BLOCK i\nSPLIT k 4\nVECTORIZE k1\nTHREAD k0\n",
                          (void *[]){NULL, a}, 12, 1e-4);
    CHECK(has(&gpu, "load_f32x4(a + "));
    gpu_free(&gpu);
}

TEST(a_warp_folds_for_itself) {
    float *a = values(12000, 2);
    Gpu gpu = check_equal(sums, "SPLIT i 4\nBLOCK i0\nWARP i1\nSPLIT k 32 guard\nTHREAD k1\n",
                          (void *[]){NULL, a}, 12, 1e-4);
    CHECK(has(&gpu, "warp_add_f32(ME ") && !has(&gpu, "barrier"));
    CHECK(has(&gpu, "KERNEL(128)"));
    CHECK_INT(gpu.counts.shuffles, 12 * 32 * 5);  // rows, slices, halvings
    gpu_free(&gpu);
}

TEST(partial_sums_are_each_threads_own) {
    float *a = values(12000, 2);
    Gpu gpu = check_equal(sums, "BLOCK i\nSPLIT k 100\nRFACTOR k1\nTHREAD k1_init k1 k1_fold\n",
                          (void *[]){NULL, a}, 12, 1e-4);
    CHECK(has(&gpu, "s_k1") && !has(&gpu, "s_k1["));  // a register, not an array
    gpu_free(&gpu);
}

// Digits of a thread's number may lie in any order in an index, as long as no two share a place.
TEST(a_register_is_spread_by_digits_of_the_threads_number) {
    float *a = values(1024, 2);
    const char *text = "kernel k\nout y f32[1024]\nin a f32[1024]\nregister s f32[1024]\n"
                       "for t < 8 { for u < 8 { for i < 16 {\n"
                       "s[128*u + 8*i + t] = a[128*t + 16*u + i] } } }\n"
                       "for x < 8 { for z < 8 { for j < 16 {\n"
                       "y[128*x + 16*z + j] = (mul s[128*z + 8*j + x] 2) } } }\n";
    Gpu gpu =
        check_equal(text, "FUSE t u\nFUSE x z\nBLOCK top\nUNROLL i\nUNROLL j\nTHREAD t_u x_z\n",
                    (void *[]){NULL, a}, 1024, 0);
    CHECK(has(&gpu, "s_15") && !has(&gpu, "s_16") && !has(&gpu, "barrier"));
    gpu_free(&gpu);
}

TEST(blocks_leave_partial_sums_to_the_next_launch) {
    float *a = values(4096, 2);
    Gpu gpu =
        check_equal("kernel k\nout y f32[4]\nin a f32[4096]\nregister s f32[1]\n"
                    "for i < 4 { y[i] = (reduce add k<1024 a[1024*i + k]) }\n",
                    "SPLIT k 256\nRFACTOR k0 in shared\nBLOCK i\n", (void *[]){NULL, a}, 4, 1e-4);
    gpu_free(&gpu);
}

TEST(all_of_a_kernel_is_one_block) {
    float *a = values(4096, 2);
    Gpu gpu = check_equal("kernel k\nout y f32[1]\nin a f32[4096]\n"
                          "y[0] = (reduce max k<4096 a[k])\n",
                          "BLOCK top\nTHREAD k\n", (void *[]){NULL, a}, 1, 0);
    CHECK(has(&gpu, "block_max_f32"));
    gpu_free(&gpu);
}

// The first schedule that the heuristic offers and the transforms take.
static Gpu check_target(const char *text, const ScheduleTarget *target, void **buffer, int64_t size,
                        double tolerance) {
    Arena *arena = arena_new();
    Gpu gpu = check_equal(text, gpu_first(arena, text, target), buffer, size, tolerance);
    arena_free(arena);
    return gpu;
}

static Gpu check_first(const char *text, const char *tiles, void **buffer, int64_t size,
                       double tolerance) {
    ScheduleTarget target = {.gpu = gpu_target("h100"), .tiles = tiles};
    return check_target(text, &target, buffer, size, tolerance);
}

TEST(a_softmax_is_a_block_for_each_row) {
    float *a = values(6 * 300, 3);
    Gpu gpu = check_first(
        "kernel k\nout y f32[1800]\nin a f32[1800]\nfor i < 6 {\nfor j < 300 {\n"
        "y[300*i + j] = (mul (exp2 (add a[300*i + j] (mul -1 (reduce max k<300 a[300*i + k]))))\n"
        "(recip (reduce add l<300 (exp2 (add a[300*i + l] (mul -1 (reduce max m<300 a[300*i + "
        "m])))))))\n} }\n",
        NULL, (void *[]){NULL, a}, 1800, 1e-6);
    CHECK(has(&gpu, "block_max_f32") && has(&gpu, "block_add_f32"));
    CHECK_INT(gpu.counts.wavefronts, gpu.counts.conflict_free);
    gpu_free(&gpu);
}

TEST(rows_of_sums_are_warps) {
    Arena *arena = arena_new();
    Gpu gpu = check_first(
        "kernel k\nout y f32[100]\nin w f32[25600]\nin x f32[256]\n"
        "for i < 100 { y[i] = (reduce add k<256 (mul w[256*i + k] x[k])) }\n",
        NULL, (void *[]){NULL, random_floats(arena, 25600, 6), random_floats(arena, 256, 7)}, 100,
        1e-4);
    CHECK(has(&gpu, "KERNEL(256)") && has(&gpu, "warp_add_f32") && !has(&gpu, "barrier"));
    CHECK_INT(gpu.counts.loads, 100 * 2 * 2);           // 16 bytes for each of 32 threads, w and x
    CHECK_INT(gpu.counts.load_lines, 100 * 2 * 2 * 4);  // coalesced
    gpu_free(&gpu);
    arena_free(arena);
}

// ---- shared memory -----------------------------------------------------------------------------
static char *product(Arena *arena, int m, int n, int k) {
    return arena_print(arena,
                       "kernel k\nout c f32[%d]\nin a f32[%d]\nin b f32[%d]\n"
                       "for i < %d { for j < %d {\n"
                       "c[%d*i + j] = (reduce add k<%d (mul a[%d*i + k] b[%d*k + j])) } }\n",
                       m * n, m * k, k * n, m, n, n, k, k, n);
}

static Gpu check_candidate(int m, int n, int k, const char *tiles, double tolerance) {
    Arena *arena = arena_new();
    void *buffer[] = {NULL, random_floats(arena, (int64_t)m * k, 4),
                      random_floats(arena, (int64_t)k * n, 5)};
    Gpu gpu = check_first(product(arena, m, n, k), tiles, buffer, (int64_t)m * n, tolerance);
    arena_free(arena);
    return gpu;
}

TEST(tiles_meet_once_a_slice) {
    Gpu gpu = check_candidate(128, 64, 32, NULL, 1e-4);
    CHECK(has(&gpu, "copy_async_wait(1);"));
    CHECK_INT(gpu.counts.barriers, 2 * 8 * 4);  // blocks, warps, slices
    gpu_free(&gpu);
}

static const char slices[] =
    "kernel k\nout y f32[64]\nin a f32[512]\nshared t f32[32]\nregister s f32[32]\n"
    "for b < 1 {\nfor i < 2 {\nfor c0 < 32 { init s[c0] = 0 }\nfor k < 8 {\n"
    "for c < 32 { t[c] = a[256*i + 32*k + c] }\n"
    "for c1 < 32 { update s[c1] = (add t[31 - c1] s[c1]) }\n}\n"
    "for c2 < 32 { finish y[32*i + c2] = s[c2] }\n} }\n";

// Without a pipeline: before the copy and behind it. With one: once. And before y is stored, behind
// which the copies ahead of the next row's loop go where the last row's slices were read.
TEST(a_pipeline_that_runs_again_waits_for_what_was_read) {
    float *a = values(512, 8);
    Gpu gpu = check_equal(slices, "BLOCK b\nTHREAD c c0 c1 c2\n", (void *[]){NULL, a}, 64, 1e-5);
    CHECK_INT(gpu.counts.barriers, 2 * (8 * 2 + 1));
    gpu_free(&gpu);
    gpu = check_equal(slices, "BLOCK b\nTHREAD c c0 c1 c2\nPIPELINE k 4\n", (void *[]){NULL, a}, 64,
                      1e-5);
    CHECK_INT(gpu.counts.barriers, 2 * (8 + 1));
    gpu_free(&gpu);
}

// The same by the copy engine, which one thread asks; one meeting more, behind the barriers' init.
TEST(a_pipeline_of_bulk_copies) {
    float *a = values(512, 8);
    for (int places = 2; places <= 8; places++) {
        char schedule[80];
        snprintf(schedule, sizeof schedule, "BLOCK b\nTHREAD c c0 c1 c2\nPIPELINE k %d bulk\n",
                 places);
        Gpu gpu = check_equal(slices, schedule, (void *[]){NULL, a}, 64, 1e-5);
        CHECK(has(&gpu, ", 128, came + group %") && !has(&gpu, "copy_async"));
        CHECK_INT(gpu.counts.copies, 2 * 8);
        CHECK_INT(gpu.counts.load_sectors, 2 * 8 * 128 / 32);
        CHECK_INT(gpu.counts.barriers, 1 + 2 * (8 + 1));
        CHECK(text_needs_sm_90(gpu.source));
        gpu_free(&gpu);
    }
}

TEST(tiles_that_do_not_fit_are_padded) {
    Gpu gpu = check_candidate(70, 45, 37, NULL, 1e-4);
    gpu_free(&gpu);
}

// 14 x 8 large tiles are one round on 132 multiprocessors, and two on 108, where 14 x 16 of half
// the size are three.
TEST(tiles_are_small_where_large_ones_leave_multiprocessors_idle) {
    static const struct {
        const char *gpu, *split;
    } cases[] = {{"a100", "SPLIT j 64\n"}, {"h100", "SPLIT j 128\n"}};
    Arena *arena = arena_new();
    for (int n = 0; n < COUNT_OF(cases); n++) {
        const char *candidate[CANDIDATES_MAX];
        Kernel *kernel = kernel_parse(arena, "test", product(arena, 14 * 128, 8 * 128, 64));
        accumulate(kernel);
        ScheduleTarget target = {.gpu = gpu_target(cases[n].gpu)};
        schedule_candidates(arena, kernel, &target, candidate);
        CHECK(strstr(candidate[0], cases[n].split) != NULL);
    }
    arena_free(arena);
}

TEST(tensor_cores_multiply_a_tile) {
    // |a| and |b| are below 1 and exact in 13 bits; each is rounded by at most 2^-12
    Gpu gpu = check_candidate(128, 64, 64, "mma_tf32", 64 * 2 * 0x1p-12);
    CHECK(has(&gpu, "mma_tf32_16x8x8(s + 0, "));
    CHECK_INT(gpu.counts.mmas, 128 / 16 * (64 / 8) * (64 / 8));
    CHECK_INT(gpu.counts.wavefronts, gpu.counts.conflict_free);
    gpu_free(&gpu);
}

TEST(copies_are_on_their_way_while_others_compute) {
    Gpu gpu = check_candidate(64, 64, 128, "mma_tf32", 128 * 2 * 0x1p-12);
    CHECK(has(&gpu, "copy_async_16(a_shared + ") && has(&gpu, "copy_async_16(b_shared + "));
    // 4 slices, each of 2 x 64 x 32 floats: 16 bytes for each of a warp's 32 threads
    CHECK_INT(gpu.counts.copies, 4 * 2 * 64 * 32 / 4 / 32);
    gpu_free(&gpu);
}

TEST(too_few_slices_are_not_copied_ahead) {
    Gpu gpu = check_candidate(64, 64, 32, "mma_tf32", 32 * 2 * 0x1p-12);
    CHECK(has(&gpu, "mma_tf32_16x8x8") && !has(&gpu, "copy_async"));
    gpu_free(&gpu);
}

TEST(tensor_cores_take_what_does_not_fit) {
    Gpu gpu = check_candidate(70, 45, 37, "mma_tf32", 37 * 2 * 0x1p-12);
    CHECK(has(&gpu, "mma_tf32_16x8x8"));
    gpu_free(&gpu);
}

// ---- weights that are laid out at load ---------------------------------------------------------
// x (m, k) times weights (n, k), or (k, n). large: of 128 x 128, on a GPU of one multiprocessor.
static Gpu check_weights(const char *name, int m, int n, int k, bool rows, bool large) {
    Arena *arena = arena_new();
    GpuTarget one = *gpu_target(name);
    if (large) one.sms = 1;
    ScheduleTarget target = {.gpu = &one, .tiles = "mma_tf32"};
    void *buffer[] = {NULL, random_floats(arena, (int64_t)m * k, 4),
                      random_floats(arena, (int64_t)k * n, 5)};
    const char *text = arena_print(
        arena,
        "kernel k\nout c f32[%d]\nin a f32[%d]\nweight b f32[%d]\nfor i < %d { for j < %d {\n"
        "c[%d*i + j] = (reduce add k<%d (mul a[%d*i + k] b[%d*%s + %s])) } }\n",
        m * n, m * k, k * n, m, n, n, k, k, rows ? k : n, rows ? "j" : "k", rows ? "k" : "j");
    Gpu gpu = check_target(text, &target, buffer, (int64_t)m * n, k * 2 * 0x1p-12);
    CHECK_INT(gpu.once.count, 1);
    arena_free(arena);
    return gpu;
}

// 64 x 64 by 4 slices of 32. Of the weight a slice is 8 KB in a row, 16 bytes a thread. A warp has
// 32 x 32 elements: for 8 of the sum it reads 8 words a thread of x, one by one, and 8 of the
// weight, 4 at a time. Of factors, x is rounded to tf32 here; the weight was when it was laid out.
TEST(weights_are_read_in_the_order_of_fragments) {
    for (int rows = 0; rows < 2; rows++) {
        Gpu gpu = check_weights("a100", 64, 64, 128, rows, false);
        CHECK(has(&gpu, "copy_async_16(b_once_shared + ") && has(&gpu, "load_f32x4(b_once_shared"));
        CHECK(has(&gpu, "a_shared_reg[0] = tf32_f32(") &&
              !has(&gpu, "b_once_shared_reg[0] = tf32"));
        CHECK_INT(gpu.once.at[0].elements, 64 * 128);
        CHECK(strstr(kernel_print(gpu.arena, gpu.once.at[0].kernel), "] = (tf32 a["));
        CHECK_INT(gpu.counts.mmas, 64 / 16 * (64 / 8) * (128 / 8));
        CHECK_INT(gpu.counts.load_sectors, 2 * 64 * 128 * 4 / 32);
        CHECK_INT(gpu.counts.shared, gpu.counts.copies + 4 * 4 * 4 * (8 + 2));
        CHECK_INT(gpu.counts.wavefronts, gpu.counts.copies * 4 + 4 * 4 * 4 * (8 + 2 * 4));
        CHECK_INT(gpu.counts.barriers, 4 * 4);
        gpu_free(&gpu);
    }
}

// The weight's slices by the copy engine, 64 wavefronts each; x's rows by all threads as before.
TEST(weights_are_copied_in_bulk_where_there_is_an_engine) {
    for (int rows = 0; rows < 2; rows++) {
        Gpu gpu = check_weights("h100", 64, 64, 128, rows, false),
            large = check_weights("h100", 128, 128, 128, rows, true);
        const int shares = 4 * 64 * 32 / 4 / 32;
        CHECK(has(&gpu, "copy_bulk(b_once_shared") && has(&gpu, "copy_async_16(a_shared"));
        CHECK(strstr(gpu.schedule, "PIPELINE k0 4 bulk") &&
              strstr(large.schedule, "PIPELINE k0 3 bulk"));
        CHECK_INT(gpu.counts.copies, 4 + shares);
        CHECK_INT(large.counts.copies, 4 * 2 + 2 * shares);
        CHECK_INT(gpu.counts.load_sectors, 2 * 64 * 128 * 4 / 32);
        CHECK_INT(gpu.counts.wavefronts, 4 * 64 + shares * 4 + 4 * 4 * 4 * (8 + 2 * 4));
        CHECK_INT(gpu.counts.barriers, 4 * (1 + 4));
        CHECK_INT(large.counts.barriers, 4 * (1 + 4));
        gpu_free(&gpu);
        gpu_free(&large);
    }
}

TEST(weights_of_any_size_are_padded_when_they_are_laid_out) {
    static const int sizes[][3] = {{70, 45, 37}, {130, 130, 100}, {33, 70, 65}};
    for (int i = 0; i < COUNT_OF(sizes); i++)
        for (int how = 0; how < 8; how++) {
            Gpu gpu = check_weights(how & 4 ? "h100" : "a100", sizes[i][0], sizes[i][1],
                                    sizes[i][2], how & 1, (how & 2) != 0);
            CHECK(has(&gpu, "mma_tf32_16x8x8"));
            gpu_free(&gpu);
        }
}

// Tiles of both sizes read the same memory: the kernels that lay it out are the same text.
TEST(a_weight_is_laid_out_alike_for_tiles_of_all_sizes) {
    for (int rows = 0; rows < 2; rows++) {
        Gpu small = check_weights("a100", 128, 128, 64, rows, false),
            large = check_weights("a100", 128, 128, 64, rows, true);
        CHECK_INT(small.counts.copies, 2 * large.counts.copies);
        CHECK_TEXT(kernel_print(small.arena, small.once.at[0].kernel),
                   kernel_print(large.arena, large.once.at[0].kernel));
        gpu_free(&small);
        gpu_free(&large);
    }
}

// ---- what is refused ---------------------------------------------------------------------------
static void refused(const char *text, const char *schedule, const char *part) {
    Arena *arena = arena_new();
    Kernel *kernel = kernel_parse(arena, "test", text);
    accumulate(kernel);
    CHECK_FATAL_TEXT(schedule_apply(kernel, schedule), part);
    arena_free(arena);
}

TEST(blocks_are_outermost) {
    refused(
        "kernel k\nout y f32[64]\nin a f32[64]\nfor i < 8 { for j < 8 { y[8*i + j] = a[8*i + j] "
        "} }\n",
        "BLOCK j\n", "a block loop is outermost");
}

TEST(blocks_do_not_meet) {
    refused("kernel k\nout y f32[1]\nin a f32[64]\nregister s f32[1]\ninit s[0] = 0\n"
            "for i < 64 { update s[0] = (add a[i] s[0]) }\nfinish y[0] = s[0]\n",
            "BLOCK i\n", "would meet");
}

TEST(a_warp_has_32_threads) {
    refused(sums, "SPLIT i 4\nBLOCK i0\nWARP i1\nTHREAD k\n", "a warp 32 threads");
}

TEST(registers_are_spread_alike) {
    refused(sums, "BLOCK i\nSPLIT k 100\nRFACTOR k1\nTHREAD k1\n", "in one place and otherwise");
}

// Threads t and t + 4 would hold s[t%4], each its own; t and t/2 are digits of one place.
TEST(a_register_is_of_one_thread) {
    static const char text[] = "kernel k\nout y f32[64]\nin a f32[64]\nregister s f32[64]\n"
                               "grid for b < 1 { thread for t < 8 { s[%s] = a[t] }\n"
                               "thread for u < 8 { y[u] = s[%s] } }\n";
    Arena *arena = arena_new();
    static const char *const wrong[][3] = {
        {"t%4", "u%4", "is one element of several threads"},
        {"8*t + t/2", "8*u + u/2", "is no digit"},
        {"4*(t%2) + t/2", "4*(u%2) + u/4", "in one place and otherwise"},
    };
    for (int i = 0; i < COUNT_OF(wrong); i++) {
        const char *kernel = arena_print(arena, text, wrong[i][0], wrong[i][1]);
        CHECK_FATAL_TEXT(kernel_verify(kernel_parse(arena, "test", kernel)), wrong[i][2]);
    }
    arena_free(arena);
}

TEST(a_name_that_is_taken_is_no_loops) {
    static const char square[] = "kernel k\nout y f32[64]\nin a f32[64]\n"
                                 "for i < 8 { for j < 8 { y[8*i + j] = a[8*i + j] } }\n";
    refused(square, "FUSE i j as y\n", "y is a name or a word of the language already");
    refused(square, "FUSE i j as thread\n", "thread is a name or a word of the language already");
}

TEST(only_plain_copies_are_made_ahead) {
    refused(sums, "BLOCK i\nPIPELINE k 3\n", "does not begin with plain copies");
    refused("kernel k\nout y f32[64]\nin a f32[64]\nshared t f32[8]\nfor i < 8 { for k < 8 {\n"
            "for j < 8 { t[j] = a[8*k + j] }\ny[8*i + k] = (add t[0] t[7]) } }\n",
            "BLOCK i\nPIPELINE k 9\n", "2 to 8 places");
}

TEST(what_the_copy_engine_cannot_copy_is_not_copied_in_bulk) {
    static const char start[] = "kernel k\nout y f32[64]\nin a f32[600]\nshared t f32[32]\n"
                                "register s f32[32]\nfor b < 1 {\nfor k < 8 {\n";
    static const char rest[] = "for c1 < 32 { y[c1] = (add t[31 - c1] y[c1]) }\n} }\n";
    static const struct {
        const char *copy, *schedule, *part;
    } wrong[] = {
        {"for c < 32 { t[c] = a[32*k + c] }", "PIPELINE k 3 bulky", "'bulky' should be 'bulk'"},
        {"for c < 32 { t[c] = a[32*k + c + 1] }", "PIPELINE k 3 bulk", "no copy is of runs of 16"},
        {"for c < 32 { t[c] = a[33*k + c] }", "PIPELINE k 3 bulk", "no copy is of runs"},
        {"for c < 32 { t[c] = a[64*k + 2*c] }", "PIPELINE k 3 bulk", "no copy is of runs"},
        {"for c < 6 { t[c] = a[32*k + c] }", "PIPELINE k 3 bulk", "no copy is of runs"},
        {"for c < 32 { t[c] = a[32*k + c] when (cmplt @i32(k) @i32(5)) }", "PIPELINE k 3 bulk",
         "no copy is of runs"},
        {"for c < 32 { t[c] = a[(5*c + k)%32] }", "PIPELINE k 3 bulk", "no copy is of runs"},
    };
    for (int i = 0; i < COUNT_OF(wrong); i++) {
        char text[400], schedule[80];
        snprintf(text, sizeof text, "%s%s\n%s", start, wrong[i].copy, rest);
        snprintf(schedule, sizeof schedule, "BLOCK b\nTHREAD c1\n%s\n", wrong[i].schedule);
        refused(text, schedule, wrong[i].part);
    }
}

// Loops in any order and of any kind, rows apart in memory, two copies of one slice.
TEST(runs_are_found_whatever_the_loops) {
    Arena *arena = arena_new();
    void *buffer[] = {NULL, random_floats(arena, 4096, 3), random_floats(arena, 2048, 4)};
    Gpu gpu = check_equal(
        "kernel k\nout y f32[64]\nin a f32[4096]\nin w f32[2048]\nshared t f32[64]\n"
        "shared u f32[128]\nregister s f32[64]\nfor b < 1 {\nfor c0 < 64 { init s[c0] = 0 }\n"
        "for k < 16 {\nfor c < 4 { for r < 2 { for q < 8 {\n"
        "t[32*r + 8*c + q] = w[1024*r + 32*k + 8*c + q] } } }\n"
        "for d < 4 { for e < 32 { u[4*e + d] = a[128*k + 4*e + d] } }\n"
        "for c1 < 64 { update s[c1] = (fma t[63 - c1] u[2*c1] s[c1]) }\n}\n"
        "for c2 < 64 { finish y[c2] = s[c2] }\n}\n",
        "BLOCK b\nTHREAD e c0 c1 c2\nPIPELINE k 3 bulk\n", buffer, 64, 1e-4);
    CHECK(has(&gpu, ", 128, came") && has(&gpu, ", 512, came") && !has(&gpu, "copy_async"));
    CHECK_INT(gpu.counts.copies, 16 * (2 + 1));
    CHECK_INT(gpu.counts.barriers, 2 * (1 + 16));
    gpu_free(&gpu);
    arena_free(arena);
}

TEST(bulk_copies_are_begun_by_one_thread_of_a_block) {
    Arena *arena = arena_new();
    const char *text = "kernel k\nout y f32[32]\nin a f32[64]\nshared t f32[32]\n"
                       "grid for b < 1 {\n  %s {\n"
                       "    tile for c < %d {\n      async t[c] = a[c + %d]\n    }\n  }\n}\n";
    Kernel *kernel = kernel_parse(arena, "test", arena_print(arena, text, "for i < 1", 32, 4));
    kernel_verify(kernel);
    CHECK_TEXT(kernel_print(arena, kernel), arena_print(arena, text, "for i < 1", 32, 4));
    kernel = kernel_parse(arena, "test", arena_print(arena, text, "warp for w < 1", 32, 4));
    CHECK_FATAL_TEXT(kernel_verify(kernel), "a bulk copy is a block's, in no loop over warps");
    kernel = kernel_parse(arena, "test", arena_print(arena, text, "for i < 1", 30, 4));
    CHECK_FATAL_TEXT(kernel_verify(kernel), "a bulk copy is of 16 bytes or more, aligned");
    kernel = kernel_parse(arena, "test", arena_print(arena, text, "for i < 1", 32, 2));
    CHECK_FATAL_TEXT(kernel_verify(kernel), "a bulk copy is of 16 bytes or more, aligned");
    arena_free(arena);
}

TEST(registers_do_not_outlive_a_launch) {
    refused("kernel k\nout y f32[64]\nin a f32[64]\nregister s f32[1]\ns[0] = a[0]\n"
            "for i < 64 { y[i] = (add s[0] a[i]) }\n",
            "BLOCK i\n", "several launches");
}
