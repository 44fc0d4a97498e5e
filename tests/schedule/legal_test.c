/* legal_test.c - what threads must not share, and must find written: what is refused for it. */
#include "kernel_run.h"

static void check_refused(const char *text, const char *schedule) {
    Arena *arena = arena_new();
    Kernel *kernel = kernel_parse(arena, "test", text);
    CHECK_FATAL_TEXT(schedule_apply(kernel, schedule), "threads of loop i would meet in it");
    arena_free(arena);
}

// Back go all 16 of a row, the 4 of the next that the condition kept as well.
TEST(what_is_copied_back_meets_no_other_thread) {
    const char *text = "kernel t\ninout x f32[60]\nfor i < 4 { for j < 16 {\n"
                       "x[12*i + j] = (mul x[12*i + j] 2) when (cmplt @i32(j) @i32(12)) } }";
    check_refused(text, "THREAD i\nSTAGE x at i over j in own");
    check_refused(text, "STAGE x at i over j in own\nTHREAD i");
}
