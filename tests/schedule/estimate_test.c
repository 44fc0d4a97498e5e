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

// A mask, a conversion and a product for each vector of codes: where a code lies is a number, and
// its shift is part of the mask. A word is loaded once for its four bytes.
TEST(codes_in_words_count_without_shifts) {
    Arena *arena = arena_new();
    Kernel *kernel = kernel_parse(
        arena, "t",
        "kernel t\nin x f32[8]\nin w u8[3200]\nout c f32[6400]\nfor i < 100 {\n"
        "unroll for b < 4 { unroll for h < 2 { vector for v < 8 {\n"
        "c[64*i + 16*b + 8*h + v] = (mul x[2*b + h] (cast:f32 (and (shr w[32*i + 4*v + b]\n"
        "(mul (cast:u8 @i32(h)) 4:u8)) 15:u8)))\n} } } }\n");
    Machine machine = {1, 1e9, 1e9, 1e9, 1 << 15, 1 << 20, 8, 1};
    CHECK_NEAR(kernel_bound(kernel, &machine, NULL, 0).least, 100 * 4 * 2 * 3, 0);
    machine = (Machine){1e9, 4 * 8, 1e9, 1e9, 1 << 15, 1 << 20, 8, 1};  // a load a second
    // 8 numbers of x, a vector of words and 8 vectors of results in each iteration
    CHECK_NEAR(kernel_bound(kernel, &machine, NULL, 0).least, 100 * (8 + 1 + 8), 0);
    arena_free(arena);
}
