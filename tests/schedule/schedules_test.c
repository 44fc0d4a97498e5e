/* The hand-written kernels under their schedules: line by line, each keeps what is computed. */
#include "kernel_run.h"

static void check_schedule(const char *name, int64_t var) {
    Arena *arena = arena_new();
    Kernel *kernel = run_kernel(arena, arena_print(arena, "tests/kernels/%s.kernel", name));
    char *schedule = file_read(arena, arena_print(arena, "tests/kernels/%s.schedule", name), NULL);
    CHECK(schedule != NULL);
    run_schedule(arena, kernel, schedule, &var);
    arena_free(arena);
}

TEST(matmul_in_packed_tiles) { check_schedule("matmul", 0); }
TEST(rmsnorm_matmul_with_two_outputs) { check_schedule("rmsnorm_matmul", 0); }
TEST(q4_1_matvec_in_lanes) { check_schedule("q4_1_matvec", 0); }

TEST(attention_for_any_number_of_keys) {
    check_schedule("attention", 1);
    check_schedule("attention", 16);
    check_schedule("attention", 37);
    check_schedule("attention", 64);
}

// k in blocks around everything: partial sums live in memory and visit registers tile by tile.
TEST(matmul_in_blocks_of_k) {
    Arena *arena = arena_new();
    Kernel *kernel = run_kernel(arena, "tests/kernels/matmul.kernel");
    run_schedule(arena, kernel,
                 "SPLIT i 4\nSPLIT j 16\nSPLIT k 32\nSTAGE c at top in shared\n"
                 "ORDER k0 i0 j0 k1 i1 j1\nSTAGE b at k0 over j0 k1 j1 in shared\n"
                 "STAGE s at j0 over i1 j1 in reg\nTENSORCORE avx2_fma 4x16 on s_reg\n"
                 "THREAD i0_init\nTHREAD i0\nTHREAD i0_finish\n",
                 NULL);
    arena_free(arena);
}
