/* legal_test.c - what threads must not share, and must find written: what is refused for it. */
#include "kernel_run.h"

#include <string.h>

static void check_refused(const char *text, const char *schedule) {
    Arena *arena = arena_new();
    Kernel *kernel = kernel_parse(arena, "test", text);
    CHECK_FATAL_TEXT(schedule_apply(kernel, schedule), "threads of loop i would meet in it");
    arena_free(arena);
}

// The last iteration of i stores nothing and reads what the one before left.
TEST(a_loop_that_may_not_run_stores_for_no_later_one) {
    check_refused("kernel t\nin x f32[32]\nout y f32[4]\nown p f32[1]\nfor i < 4 {\n"
                  "for j < 8, 3 - i { p[0] = x[8*i + j] } y[i] = p[0] }",
                  "THREAD i");
}

TEST(a_loop_that_may_not_run_stores_for_itself) {
    Arena *arena = arena_new();
    Kernel *kernel = kernel_parse(arena, "test",
                                  "kernel t\nin x f32[32]\nout y f32[32]\nown p f32[1]\nfor i < 4 "
                                  "{ for j < 8, 3 - i { p[0] = x[8*i + j] y[8*i + j] = p[0] } }");
    CHECK(strstr(run_schedule(arena, kernel, "THREAD i", NULL), "thread for i") != NULL);
    arena_free(arena);
}

// Back go all 16 of a row, the 4 of the next that the condition kept as well.
TEST(what_is_copied_back_meets_no_other_thread) {
    const char *text = "kernel t\ninout x f32[60]\nfor i < 4 { for j < 16 {\n"
                       "x[12*i + j] = (mul x[12*i + j] 2) when (cmplt @i32(j) @i32(12)) } }";
    check_refused(text, "THREAD i\nSTAGE x at i over j in own");
    check_refused(text, "STAGE x at i over j in own\nTHREAD i");
}

// Quotient and remainder of what is split again tell its number: (8*p0 + p1)/10 and (8*p0 + p1)%10,
// and of what is larger than 10, 10*p0 + (4*p0 + p1)/10 too.
TEST(a_number_comes_from_its_digits) {
    static const char *const factors[] = {"8", "14"};
    for (int i = 0; i < COUNT_OF(factors); i++) {
        Arena *arena = arena_new();
        Kernel *kernel = kernel_parse(
            arena, "test",
            "kernel t\nin x f32[120]\nout y f32[120]\nfor n < 3 { for o < 4 { for x_ < "
            "10 {\ny[40*n + 10*o + x_] = x[40*n + 10*o + x_] } } }");
        const char *schedule = arena_print(arena,
                                           "ORDER o n x_\nFUSE n x_ as p\nSPLIT p %s pad\n"
                                           "FUSE o p0 as t\nTHREAD t\n",
                                           factors[i]);
        CHECK(strstr(run_schedule(arena, kernel, schedule, NULL), "thread for t") != NULL);
        arena_free(arena);
    }
}

TEST(digits_of_digits_tell_a_number) {
    Arena *arena = arena_new();
    Kernel *kernel = kernel_parse(arena, "test",
                                  "kernel t\nin x f32[64]\nout y f32[64]\n"
                                  "for i < 64 { y[32*(i/32) + 8*(i%4) + i/4%8] = x[i] }");
    CHECK(strstr(run_schedule(arena, kernel, "THREAD i\n", NULL), "thread for i") != NULL);
    arena_free(arena);
}

// Without one of the two there are many such numbers.
TEST(one_digit_does_not_tell_a_number) {
    check_refused("kernel t\nin x f32[32]\nout y f32[8]\nfor i < 32 { y[i/4] = x[i] }", "THREAD i");
    check_refused("kernel t\nin x f32[32]\nout y f32[8]\nfor i < 32 { y[i%8] = x[i] }", "THREAD i");
    check_refused("kernel t\nin x f32[32]\nout y f32[99]\nfor i < 32 { y[10*(i/4) + i%8] = x[i] }",
                  "THREAD i");
}

// Rows of 5 and columns of 7 in tiles of 4 x 4: of 8 x 8 elements, conditions keep 5 x 7.
TEST(padding_on_two_sides_meets_nobody) {
    Arena *arena = arena_new();
    Kernel *kernel = kernel_parse(arena, "test",
                                  "kernel t\nin x f32[70]\nout y f32[70]\nfor n < 2 { for i < 5 { "
                                  "for j < 7 {\ny[35*n + 7*i + j] = x[35*n + 7*i + j] } } }");
    const char *schedule = "SPLIT i 4 pad\nSPLIT j 4 pad\nORDER n i0 j0 i1 j1\nTHREAD n\n";
    CHECK(strstr(run_schedule(arena, kernel, schedule, NULL), "thread for n") != NULL);
    arena_free(arena);
}
