/* estimate_test.c - the bound that a search drops candidates by. */
#include "schedule/schedule.h"
#include "test.h"

// Seconds of a kernel of 72 times a loop over j, at a float operation a second and all else free.
static double seconds(const char *loop) {
    Arena *arena = arena_new();
    Kernel *kernel = kernel_parse(
        arena, "t",
        arena_print(arena,
                    "kernel t\nin a f32[64]\nout c f32[4608]\nfor i < 72 {\n for j < %s {\n  "
                    "c[64*i + j] = (mul a[j] a[j])\n }\n}\n",
                    loop));
    kernel_verify(kernel);
    Machine machine = {1, 1e9, 1e9, 1e9, 1 << 15, 1 << 20, 1, 1};
    double least = kernel_bound(kernel, &machine, NULL, 0).least;
    arena_free(arena);
    return least;
}

// A limit that outer loops move counts with what it is on average.
TEST(a_limit_counts_as_its_mean) {
    double all = seconds("64");
    CHECK_NEAR(all, 72 * 64, 0);
    CHECK_NEAR(seconds("32") / all, 0.5, 1e-9);
    CHECK_NEAR(seconds("64, 32") / all, 0.5, 1e-9);
    CHECK_NEAR(seconds("64, 8*(i%8) + 8") / all, 36.0 / 64, 0.03);
    CHECK_NEAR(seconds("64, 72 - i") / all, 36.0 / 64, 0.03);
    CHECK_NEAR(seconds("64, i - 72") / all, 0, 0);
}
