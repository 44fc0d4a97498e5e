/* rfactor_test.c - RFACTOR .. apart: partial sums in a nest of their own. */
#include "kernel_run.h"

static const char rows[] = "kernel t\nin x f32[24]\nout y f32[3]\nregister s f32[1]\n"
                           "for i < 3 { init s[0] = 0 for k < 8 {\n"
                           "update s[0] = (add x[8*i + k] s[0]) } finish y[i] = (exp2 s[0]) }";

TEST(a_nest_of_partial_sums_and_one_that_adds_them_up) {
    Arena *arena = arena_new();
    Kernel *kernel = kernel_parse(arena, "test", rows);
    CHECK_TEXT(
        run_schedule(arena, kernel, "SPLIT k 4\nRFACTOR k0 apart in shared\nTHREAD k0", NULL),
        "kernel t\nin x f32[24]\nout y f32[3]\n"
        "register s f32[1]\n"
        "shared s_k0 f32[6]\n"
        "register s_fold f32[1]\n"
        "for i < 3 {\n"
        "  thread for k0 < 2 {\n"
        "    init s[0] = 0\n"
        "    for k1 < 4 {\n"
        "      update s[0] = (add x[8*i + 4*k0 + k1] s[0])\n"
        "    }\n"
        "    finish s_k0[3*k0 + i] = s[0]\n"
        "  }\n"
        "}\n"
        "for i_fold < 3 {\n"
        "  init s_fold[0] = 0\n"
        "  for k0_fold < 2 {\n"
        "    update s_fold[0] = (add s_k0[3*k0_fold + i_fold] s_fold[0])\n"
        "  }\n"
        "  finish y[i_fold] = (exp2 s_fold[0])\n"
        "}\n");
    arena_free(arena);
}

static void check_refused(const char *text, const char *schedule, const char *message) {
    Arena *arena = arena_new();
    CHECK_FATAL_TEXT(schedule_apply(kernel_parse(arena, "test", text), schedule), message);
    arena_free(arena);
}

TEST(what_is_not_one_sum_stays_together) {
    check_refused(rows, "THREAD i\nRFACTOR k apart in shared", "it has a limit or a kind");
    check_refused(rows, "SPLIT k 3\nRFACTOR k1 apart in shared", "it has a limit");
    check_refused(rows, "SPLIT k 2\nRFACTOR k1 apart in shared", "it is not all there is");
    check_refused("kernel t\nin x f32[24]\nout y f32[24]\nregister s f32[1]\n"
                  "for i < 3 { init s[0] = 0 for k < 8 {\n"
                  "update s[0] = (add s[0] x[8*i + k]) y[8*i + k] = s[0] } }",
                  "RFACTOR k apart in shared", "it is not one sum, between an init and a finish");
    check_refused("kernel t\nin x f32[24]\nout y f32[1]\nregister s f32[1]\ninit s[0] = 0\n"
                  "for k < 24 { update s[0] = (add x[k] s[0]) }\nfinish y[0] = s[0]",
                  "RFACTOR k apart in shared", "no loop is around it");
    check_refused("kernel t\ninout x f32[24]\nregister s f32[1]\nfor i < 3 { init s[0] = 0\n"
                  "for k < 8 { update s[0] = (add x[8*i + k] s[0]) } finish x[i] = s[0] }",
                  "RFACTOR k apart in shared", "something besides the sum depends on it");
}
