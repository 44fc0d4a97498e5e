/* Transforms one by one: text in, text out, the same numbers; and what each refuses. */
#include "kernel_run.h"

#include <string.h>

#include "codegen/codegen.h"

static const char copy_head[] = "kernel t\nin x f32[20]\nout y f32[20]\n";
static const char copy_body[] = "for i < 4 { for j < 5 { y[5*i + j] = x[5*i + j] } }";
static const char dot_head[] = "kernel t\nin x f32[24]\nin w f32[24]\nout y f32[1]\n";
static const char dot_body[] = "register s f32[1]\ninit s[0] = 0\n"
                               "for k < 24 { update s[0] = (fma x[k] w[k] s[0]) }\n"
                               "finish y[0] = s[0]\n";
static const char half_head[] =
    "kernel t\nin a f16[24]\nin w f16[6]\nin b f32[64]\nout c f32[96]\n";
static const char half_body[] =
    "register s f32[1]\nfor i < 6 { for j < 16 { init s[0] = 0 for k < 4 {\n"
    "update s[0] = (fma (mul (cast:f32 a[4*i + k]) (cast:f32 w[i])) b[16*k + j] s[0]) }\n"
    "finish c[16*i + j] = s[0] } }";
static const char scan_head[] = "kernel t\nin x f32[24]\nout y f32[24]\n";
static const char scan_body[] = "register s f32[1]\nfor i < 3 { init s[0] = 0 for k < 8 {\n"
                                "update s[0] = (add s[0] x[8*i + k]) y[8*i + k] = s[0] } }";

// `wanted` is what comes after the PARAMs.
static void check_lines(const char *head, const char *body, const char *schedule,
                        const char *wanted) {
    Arena *arena = arena_new();
    Kernel *kernel = kernel_parse(arena, "test", arena_print(arena, "%s%s", head, body));
    int64_t var[] = {5};
    char *got = run_schedule(arena, kernel, schedule, var);
    CHECK_TEXT(got, arena_print(arena, "%s%s", head, wanted));
    arena_free(arena);
}

static void check_refused(const char *head, const char *body, const char *schedule,
                          const char *message) {
    Arena *arena = arena_new();
    Kernel *kernel = kernel_parse(arena, "test", arena_print(arena, "%s%s", head, body));
    CHECK_FATAL_TEXT(schedule_apply(kernel, schedule), message);
    arena_free(arena);
}

// ---- SPLIT, FUSE -------------------------------------------------------------------------------

TEST(split_guards_the_tail) {
    check_lines(copy_head, copy_body, "SPLIT j 2",
                "for i < 4 {\n"
                "  for j0 < 3 {\n"
                "    for j1 < 2, 5 - 2*j0 {\n"
                "      y[5*i + 2*j0 + j1] = x[5*i + 2*j0 + j1]\n"
                "    }\n"
                "  }\n"
                "}\n");
}

TEST(split_without_a_tail_has_no_guard) {
    check_lines(copy_head, copy_body, "SPLIT i 2 pad",
                "for i0 < 2 {\n"
                "  for i1 < 2 {\n"
                "    for j < 5 {\n"
                "      y[10*i0 + 5*i1 + j] = x[10*i0 + 5*i1 + j]\n"
                "    }\n"
                "  }\n"
                "}\n");
}

TEST(split_peels_the_tail) {
    check_lines(copy_head, copy_body, "SPLIT j 2 peel",
                "for i < 4 {\n"
                "  for j0 < 2 {\n"
                "    for j1 < 2 {\n"
                "      y[5*i + 2*j0 + j1] = x[5*i + 2*j0 + j1]\n"
                "    }\n"
                "  }\n"
                "  for j2 < 1 {\n"
                "    y[5*i + 4] = x[5*i + 4]\n"
                "  }\n"
                "}\n");
}

TEST(split_peels_a_symbolic_tail) {
    check_lines("kernel t\nvar n 1..6\nin x f32[6]\nout y f32[6]\n", "for i < n { y[i] = x[i] }",
                "SPLIT i 3 peel",
                "for i0 < n/3 {\n"
                "  for i1 < 3 {\n"
                "    y[3*i0 + i1] = x[3*i0 + i1]\n"
                "  }\n"
                "}\n"
                "for i2 < n%3 {\n"
                "  y[3*(n/3) + i2] = x[3*(n/3) + i2]\n"
                "}\n");
}

TEST(split_pads_and_guards_memory) {
    check_lines(copy_head, copy_body, "SPLIT j 2 pad",
                "for i < 4 {\n"
                "  for j0 < 3 {\n"
                "    for j1 < 2 {\n"
                "      let t1 = (cmplt @i32(2*j0 + j1) @i32(5))\n"
                "      y[5*i + 2*j0 + j1] = x[5*i + 2*j0 + j1 if t1] when t1\n"
                "    }\n"
                "  }\n"
                "}\n");
}

TEST(split_adds_zeros_to_a_sum) {
    check_lines("kernel t\nin x f32[5]\nin w f32[5]\nout y f32[1]\n",
                "register s f32[1]\ninit s[0] = 0\n"
                "for k < 5 { update s[0] = (fma x[k] w[k] s[0]) }\nfinish y[0] = s[0]\n",
                "SPLIT k 2 zero",
                "register s f32[1]\n"
                "init s[0] = 0\n"
                "for k0 < 3 {\n"
                "  for k1 < 2 {\n"
                "    let t1 = (cmplt @i32(2*k0 + k1) @i32(5))\n"
                "    update s[0] = (fma x[2*k0 + k1 if t1] w[2*k0 + k1 if t1] s[0])\n"
                "  }\n"
                "}\n"
                "finish y[0] = s[0]\n");
    check_refused(copy_head, copy_body, "SPLIT j 2 zero", "not a sum of products");
}

// 5*i + 3*j0 + j1 goes up to 8 for i = 0, but what is stored only to 4.
TEST(padding_that_stores_nothing_meets_nobody) {
    check_lines(copy_head, copy_body, "SPLIT j 3 pad\nORDER j0 i j1",
                "for j0 < 2 {\n"
                "  for i < 4 {\n"
                "    for j1 < 3 {\n"
                "      let t1 = (cmplt @i32(3*j0 + j1) @i32(5))\n"
                "      y[5*i + 3*j0 + j1] = x[5*i + 3*j0 + j1 if t1] when t1\n"
                "    }\n"
                "  }\n"
                "}\n");
    check_refused(copy_head, "for i < 4 { for j < 5 { y[4*i + j] = x[5*i + j] } }",
                  "SPLIT j 3 pad\nORDER j0 i j1", "may depend on each other");
}

TEST(a_peeled_tail_has_its_own_accumulator) {
    check_lines("kernel t\nin x f32[10]\nout y f32[5]\n",
                "register s f32[1]\nfor i < 5 { init s[0] = 0 for k < 2 {\n"
                "update s[0] = (add s[0] x[2*i + k]) } finish y[i] = s[0] }",
                "SPLIT i 4 peel\nTHREAD i1",
                "register s f32[1]\n"
                "register s_2 f32[1]\n"
                "for i0 < 1 {\n"
                "  thread for i1 < 4 {\n"
                "    init s[0] = 0\n"
                "    for k < 2 {\n"
                "      update s[0] = (add s[0] x[2*i1 + k])\n"
                "    }\n"
                "    finish y[i1] = s[0]\n"
                "  }\n"
                "}\n"
                "for i2 < 1 {\n"
                "  init s_2[0] = 0\n"
                "  for k_tail < 2 {\n"
                "    update s_2[0] = (add s_2[0] x[k_tail + 8])\n"
                "  }\n"
                "  finish y[4] = s_2[0]\n"
                "}\n");
}

TEST(fuse_makes_one_loop) {
    check_lines(copy_head, copy_body, "FUSE i j",
                "for i_j < 20 {\n"
                "  y[i_j] = x[i_j]\n"
                "}\n");
}

TEST(split_and_fuse_refuse) {
    check_refused(copy_head, copy_body, "SPLIT k 2", "no loop k. Hint: there are i j");
    check_refused(copy_head, copy_body, "SPLIT j 0", "0 is not a number of 1 or more");
    check_refused(copy_head, copy_body, "SPLIT j 2 trim", "no tail 'trim'");
    check_refused(copy_head, copy_body, "SPLIT j 8 peel", "fewer iterations than 8");
    check_refused(copy_head, copy_body, "SPLIT j 2\nSPLIT j1 3", "the loop has a limit");
    check_refused(copy_head, copy_body, "THREAD i\nSPLIT i 2",
                  "split a loop before it gets a kind");
    check_refused(copy_head, copy_body, "FUSE j i", "not alone inside j");
    check_refused(half_head, half_body, "FUSE j k", "not alone inside j");
}

// ---- ORDER and kinds ---------------------------------------------------------------------------

TEST(order_where_elements_differ) {
    check_lines(copy_head, copy_body, "ORDER j i",
                "for j < 5 {\n"
                "  for i < 4 {\n"
                "    y[5*i + j] = x[5*i + j]\n"
                "  }\n"
                "}\n");
}

TEST(order_refuses_what_depends_on_order) {
    const char *shift = "for i < 3 { for j < 5 { x[5*i + j + 5] = (add x[5*i + j] 1) } }";
    check_refused("kernel t\ninout x f32[20]\n", shift, "ORDER j i",
                  "x[5*i + j + 5]: iterations of loop i may depend on each other");
    check_refused(half_head, half_body, "ORDER k j", "its body is not one loop of those named");
    check_refused(copy_head, copy_body, "ORDER i i", "i twice");
}

TEST(unroll_keeps_a_loop_over_some) {
    check_lines(copy_head, copy_body, "UNROLL i 3\nUNROLL j",
                "unroll 3 for i < 4 {\n"
                "  unroll for j < 5 {\n"
                "    y[5*i + j] = x[5*i + j]\n"
                "  }\n"
                "}\n");
}

TEST(kinds_refuse_what_would_meet) {
    check_refused(half_head, half_body, "THREAD k", "update s[0]: threads of loop k would meet");
    check_refused(half_head, half_body, "VECTORIZE j", "for k < 4: inside loop j");
    check_refused(scan_head, scan_body, "VECTORIZE k", "update s[0]: lanes of loop k would meet");
    check_refused(copy_head, copy_body, "VECTORIZE j", "lanes are a constant power of two");
    check_refused(copy_head, copy_body, "THREAD i\nTHREAD j", "inside the thread loop i");
    check_refused(copy_head, copy_body, "THREAD i\nUNROLL i", "it has a kind already");
    check_refused("kernel t\nvar n 1..6\nout y f32[6]\n", "for i < n { y[i] = 1 }", "UNROLL i",
                  "its extent is not a constant");
    check_refused(copy_head, copy_body, "UNROLL j 1", "1 in a row: 2 to 64");
    check_refused(copy_head, copy_body, "UNROLL j 65", "65 in a row: 2 to 64");
    check_refused(copy_head, copy_body, "UNROLL j 4\nVECTORIZE j", "it has a kind already");
}

TEST(a_gather_of_written_memory_may_depend_on_order) {
    check_refused("kernel t\nin ids i32[8]\ninout y f32[4]\n",
                  "for n < 8 { let r in 0..3 = (cast:i64 (and ids[n] 3:i32))\n"
                  "update y[r] = (mul (add y[r] 1) 2) }",
                  "THREAD n", "threads of loop n would meet");
}

// A loop is told from its quotient and its remainder by one number, not from one of them.
TEST(threads_share_a_fused_loop) {
    check_lines("kernel t\nin x f32[24]\nout y f32[24]\n",
                "for i < 6 { for j < 4 { y[6*j + i] = x[4*i + j] } }", "FUSE i j\nTHREAD i_j",
                "thread for i_j < 24 {\n"
                "  y[6*(i_j%4) + i_j/4] = x[i_j]\n"
                "}\n");
    check_refused("kernel t\nin x f32[24]\nout y f32[24]\n", "for n < 24 { y[n%4] = x[n] }",
                  "THREAD n", "threads of loop n would meet");
    check_refused("kernel t\nin x f32[24]\nout y f32[40]\n",
                  "for n < 24 { y[6*(n%4) + n/3] = x[n] }", "THREAD n",
                  "threads of loop n would meet");
}

// Every second element is written: one in between may be another iteration's.
TEST(what_is_gathered_may_not_have_been_written) {
    check_refused("kernel t\nin ids i32[4]\nin x f32[12]\nout y f32[12]\n",
                  "own p f32[8]\nfor i < 3 { for j < 4 { p[2*j] = x[4*i + j] }\n"
                  "for k < 4 { let r in 0..1 = (cast:i64 (and ids[k] 1:i32))\n"
                  "y[4*i + k] = p[2*k + r] } }",
                  "THREAD i", "threads of loop i would meet");
}

// ---- STAGE -------------------------------------------------------------------------------------

TEST(stage_fissions_and_expands) {
    check_lines(half_head, half_body, "STAGE c at i in reg\nORDER k j\nVECTORIZE j",
                "register s f32[16]\n"
                "for i < 6 {\n"
                "  for j_init < 16 {\n"
                "    init s[j_init] = 0\n"
                "  }\n"
                "  for k < 4 {\n"
                "    vector for j < 16 {\n"
                "      update s[j] = (fma (mul (cast:f32 a[4*i + k]) (cast:f32 w[i])) "
                "b[16*k + j] s[j])\n"
                "    }\n"
                "  }\n"
                "  for j_finish < 16 {\n"
                "    finish c[16*i + j_finish] = s[j_finish]\n"
                "  }\n"
                "}\n");
}

TEST(stage_copies_in_another_layout) {
    check_lines(half_head, half_body, "STAGE a at top over i k as k i in shared",
                "register s f32[1]\n"
                "shared a_shared f16[24]\n"
                "for k_a < 4 {\n"
                "  for i_a < 6 {\n"
                "    a_shared[6*k_a + i_a] = a[4*i_a + k_a]\n"
                "  }\n"
                "}\n"
                "for i < 6 {\n"
                "  for j < 16 {\n"
                "    init s[0] = 0\n"
                "    for k < 4 {\n"
                "      update s[0] = (fma (mul (cast:f32 a_shared[6*k + i]) (cast:f32 w[i])) "
                "b[16*k + j] s[0])\n"
                "    }\n"
                "    finish c[16*i + j] = s[0]\n"
                "  }\n"
                "}\n");
}

TEST(stage_converts_on_the_way) {
    check_lines(half_head, half_body, "STAGE a at i over k in L1 convert",
                "register s f32[1]\n"
                "own a_L1 f32[4]\n"
                "for i < 6 {\n"
                "  for k_a < 4 {\n"
                "    a_L1[k_a] = (mul (cast:f32 a[4*i + k_a]) (cast:f32 w[i]))\n"
                "  }\n"
                "  for j < 16 {\n"
                "    init s[0] = 0\n"
                "    for k < 4 {\n"
                "      update s[0] = (fma a_L1[k] b[16*k + j] s[0])\n"
                "    }\n"
                "    finish c[16*i + j] = s[0]\n"
                "  }\n"
                "}\n");
}

// What a window of 3 sees of 20 padded by 1 is a sum of loops: each element is copied once.
static const char window_head[] = "kernel t\nin x f32[20]\nin w f32[3]\nout y f32[20]\n";
static const char window_body[] =
    "register s f32[1]\nfor i < 20 { init s[0] = 0 for k < 3 {\n"
    "update s[0] = (fma x[i + k - 1 if (and (cmplt @i32(-1) @i32(i + k - 1)) "
    "(cmplt @i32(i + k - 1) @i32(20)))] w[k] s[0]) } finish y[i] = s[0] }";

TEST(stage_copies_over_a_sum_of_loops) {
    check_lines(window_head, window_body, "STAGE x at top over i+k in shared convert",
                "register s f32[1]\n"
                "shared x_shared f32[22]\n"
                "for i_k_x < 22 {\n"
                "  x_shared[i_k_x] = x[i_k_x - 1 if (and (cmplt @i32(-1) @i32(i_k_x - 1)) "
                "(cmplt @i32(i_k_x - 1) @i32(20)))]\n"
                "}\n"
                "for i < 20 {\n"
                "  init s[0] = 0\n"
                "  for k < 3 {\n"
                "    update s[0] = (fma x_shared[i + k] w[k] s[0])\n"
                "  }\n"
                "  finish y[i] = s[0]\n"
                "}\n");
}

// Every second element: even ones first, so that a step of i is one element.
TEST(stage_sorts_the_steps_of_a_sum) {
    check_lines("kernel t\nin x f32[21]\nin w f32[3]\nout y f32[10]\n",
                "register s f32[1]\nfor i < 10 { init s[0] = 0 for k < 3 {\n"
                "update s[0] = (fma x[2*i + k] w[k] s[0]) } finish y[i] = s[0] }",
                "STAGE x at top over 2*i+k in shared\nSTAGE x_shared at i over k in L1",
                "register s f32[1]\n"
                "shared x_shared f32[22]\n"
                "own x_shared_L1 f32[3]\n"
                "for i_k_x < 21 {\n"
                "  x_shared[11*(i_k_x%2) + i_k_x/2] = x[i_k_x]\n"
                "}\n"
                "for i < 10 {\n"
                "  for k_x_shared < 3 {\n"
                "    x_shared_L1[k_x_shared] = x_shared[11*(k_x_shared%2) + i + k_x_shared/2]\n"
                "  }\n"
                "  init s[0] = 0\n"
                "  for k < 3 {\n"
                "    update s[0] = (fma x_shared_L1[k] w[k] s[0])\n"
                "  }\n"
                "  finish y[i] = s[0]\n"
                "}\n");
}

// A copy at the place of another one goes behind it.
TEST(stage_copies_what_was_copied_there) {
    check_lines(window_head, window_body,
                "STAGE x at top over i+k in shared convert\nSPLIT i 4\n"
                "STAGE x_shared at top over i0 k i1 in shared",
                "register s f32[1]\n"
                "shared x_shared f32[22]\n"
                "shared x_shared_shared f32[60]\n"
                "for i_k_x < 22 {\n"
                "  x_shared[i_k_x] = x[i_k_x - 1 if (and (cmplt @i32(-1) @i32(i_k_x - 1)) "
                "(cmplt @i32(i_k_x - 1) @i32(20)))]\n"
                "}\n"
                "for i0_x_shared < 5 {\n"
                "  for k_x_shared < 3 {\n"
                "    for i1_x_shared < 4 {\n"
                "      x_shared_shared[12*i0_x_shared + 4*k_x_shared + i1_x_shared] = "
                "x_shared[4*i0_x_shared + i1_x_shared + k_x_shared]\n"
                "    }\n"
                "  }\n"
                "}\n"
                "for i0 < 5 {\n"
                "  for i1 < 4 {\n"
                "    init s[0] = 0\n"
                "    for k < 3 {\n"
                "      update s[0] = (fma x_shared_shared[12*i0 + 4*k + i1] w[k] s[0])\n"
                "    }\n"
                "    finish y[4*i0 + i1] = s[0]\n"
                "  }\n"
                "}\n");
}

TEST(stage_over_sums_refuses) {
    check_refused(window_head, window_body, "STAGE x at top over 2*i+k in shared",
                  "does not depend on the sum");
    check_refused(window_head, window_body, "STAGE x at top over 4*i+k in shared",
                  "leaves out values");
    check_refused(window_head, window_body, "STAGE x at top over i+i in shared", "loop i twice");
    check_refused(window_head, window_body, "STAGE x at top over i+j in shared", "no loop j");
    check_refused(window_head, window_body, "STAGE x at top over 2i+k in shared",
                  "should be like 2*y+v");
    check_refused(window_head, window_body, "STAGE x at top over 0*i+k in shared",
                  "should be like 2*y+v");
    check_refused(half_head, half_body, "STAGE c at top over i+j in own", "nothing there reads it");
}

TEST(stage_refuses) {
    check_refused(half_head, half_body, "STAGE a at i in reg", "a is not stored there");
    check_refused(half_head, half_body, "STAGE c at j in reg",
                  "no loop is between it and the place");
    check_refused(half_head, half_body, "STAGE c at i in L3", "no space L3");
    check_refused(copy_head, copy_body, "STAGE y at i in reg", "has nothing to take apart");
    check_refused(half_head, half_body, "STAGE b at i over j in L2",
                  "depends on other loops there");
    check_refused(half_head, half_body, "STAGE b at k over j in L2",
                  "loop j is not inside the place");
    check_refused(half_head, half_body, "STAGE b at i over j k as k in L2", "name different loops");
    check_refused(half_head, half_body, "THREAD i\nSTAGE a at i over k in shared",
                  "all threads of loop i write the same element");
}

// ---- REUSE -------------------------------------------------------------------------------------

static const char twice_head[] = "kernel t\nin x f32[40]\nin w f32[8]\nout y f32[40]\n";
static const char twice_body[] =
    "register s f32[1]\nfor i < 5 { init s[0] = 0\n"
    "for k < 8 { update s[0] = (add (exp2 (mul x[8*i + k] w[k])) s[0]) }\n"
    "for j < 8 { finish y[8*i + j] = (mul (exp2 (mul x[8*i + j] w[j])) s[0]) } }";

TEST(reuse_keeps_what_a_later_loop_computes_again) {
    check_lines(twice_head, twice_body, "REUSE k j in own\nTHREAD i",
                "register s f32[1]\n"
                "own k_kept f32[8]\n"
                "thread for i < 5 {\n"
                "  init s[0] = 0\n"
                "  for k < 8 {\n"
                "    k_kept[k] = (exp2 (mul x[8*i + k] w[k]))\n"
                "    update s[0] = (add k_kept[k] s[0])\n"
                "  }\n"
                "  for j < 8 {\n"
                "    finish y[8*i + j] = (mul k_kept[j] s[0])\n"
                "  }\n"
                "}\n");
}

TEST(reuse_refuses) {
    check_refused(twice_head, twice_body, "REUSE j k in own", "it does not follow loop j");
    check_refused(twice_head, twice_body, "REUSE i k in own", "it does not follow loop i");
    check_refused(twice_head, twice_body, "REUSE k j in own\nREUSE k j in own", "nothing dear");
    check_refused(copy_head, "for i < 20 { y[i] = x[i] } for j < 20 { y[j] = x[j] }",
                  "REUSE i j in own", "nothing dear is computed in both");
    check_refused("kernel t\ninout x f32[8]\nout y f32[8]\n",
                  "for k < 8 { y[k] = (exp2 x[k]) } for j < 8 { x[j] = (exp2 x[j]) }",
                  "REUSE k j in own", "or it changes");
    check_refused("kernel t\nin x f32[8]\nout y f32[8]\n",
                  "for k < 8 { y[k] = (exp2 x[k]) } for j < 7 { y[j] = (exp2 x[j]) }",
                  "REUSE k j in own", "nothing dear is computed in both");
}

// ---- COMPUTE_AT, STAGE in once, PIPELINE -------------------------------------------------------
static const char offset_head[] = "kernel t\nin x f32[8]\nweight w f32[24]\nout y f32[3]\n";
static const char offset_body[] =
    "register s f32[1]\nregister p f32[1]\n"
    "for j < 3 { init s[0] = 0 for k < 2 { init p[0] = 0 for b < 4 {\n"
    "update p[0] = (add x[4*k + b] p[0]) } update s[0] = (fma w[8*j + k] p[0] s[0]) }\n"
    "finish y[j] = s[0] }";

TEST(compute_at_computes_once_what_no_loop_there_changes) {
    check_lines(offset_head, offset_body, "COMPUTE_AT p at top over k",
                "register s f32[1]\n"
                "register p f32[1]\n"
                "own p_own f32[2]\n"
                "for k_p < 2 {\n"
                "  init p_own[k_p] = 0\n"
                "  for b_p < 4 {\n"
                "    update p_own[k_p] = (add x[4*k_p + b_p] p_own[k_p])\n"
                "  }\n"
                "}\n"
                "for j < 3 {\n"
                "  init s[0] = 0\n"
                "  for k < 2 {\n"
                "    update s[0] = (fma w[8*j + k] p_own[k] s[0])\n"
                "  }\n"
                "  finish y[j] = s[0]\n"
                "}\n");
}

TEST(compute_at_refuses_what_depends_on_loops_there) {
    check_refused(offset_head, offset_body, "COMPUTE_AT s at top over k", "it depends on loop j");
    check_refused(offset_head, offset_body, "COMPUTE_AT p at top over b", "it depends on loop k");
    check_refused(offset_head, offset_body, "COMPUTE_AT x at top over k", "is not one accumulator");
}

TEST(stage_once_lays_a_weight_out) {
    check_lines(offset_head, offset_body, "STAGE w at top over j k as k j in once",
                "register s f32[1]\n"
                "register p f32[1]\n"
                "once w_once f32[6]\n"
                "for k_w < 2 {\n"
                "  for j_w < 3 {\n"
                "    w_once[3*k_w + j_w] = w[8*j_w + k_w]\n"
                "  }\n"
                "}\n"
                "for j < 3 {\n"
                "  init s[0] = 0\n"
                "  for k < 2 {\n"
                "    init p[0] = 0\n"
                "    for b < 4 {\n"
                "      update p[0] = (add x[4*k + b] p[0])\n"
                "    }\n"
                "    update s[0] = (fma w_once[3*k + j] p[0] s[0])\n"
                "  }\n"
                "  finish y[j] = s[0]\n"
                "}\n");
}

TEST(stage_once_is_for_weights_at_the_top) {
    check_refused(offset_head, offset_body, "STAGE x at top over k b in once", "it is no weight");
    check_refused(offset_head, offset_body, "STAGE w at j over k in once", "`once` is `at top`");
    check_refused(offset_head, offset_body, "STAGE y at top in once", "no space once");
    check_refused(offset_head, offset_body, "RFACTOR k in once", "no space once");
    check_refused(twice_head, twice_body, "REUSE k j in once", "no space once");
}

// What fills is a kernel of its own, in as few loops as can be; the rest reads a weight.
TEST(once_is_taken_out) {
    Arena *arena = arena_new();
    const char *body =
        "for i < 4 { for k < 2 { for b < 3 { y[6*i + 3*k + b] = w[4*(3*k + b) + i] } } }";
    Kernel *kernel = kernel_parse(
        arena, "test", arena_print(arena, "kernel t\nweight w f32[24]\nout y f32[24]\n%s", body));
    schedule_apply(kernel, "STAGE w at top over i k b in once\nTHREAD i\nPIPELINE w_once 256");
    OnceList once = {0};
    kernel = once_take_out(arena, kernel, &once);
    CHECK_TEXT(kernel_print(arena, kernel), "kernel t\n"
                                            "weight w f32[24]\n"
                                            "out y f32[24]\n"
                                            "weight w_once f32[24] ahead 256\n"
                                            "thread for i < 4 {\n"
                                            "  for k < 2 {\n"
                                            "    for b < 3 {\n"
                                            "      y[6*i + 3*k + b] = w_once[6*i + 3*k + b]\n"
                                            "    }\n"
                                            "  }\n"
                                            "}\n");
    CHECK_INT(once.count, 1);
    CHECK_INT(once.at[0].param, 2);
    CHECK_INT(once.at[0].sources, 1);
    CHECK_INT(once.at[0].elements, 24);
    CHECK_TEXT(kernel_print(arena, once.at[0].kernel), "kernel once\n"
                                                       "weight a f32[24]\n"
                                                       "out b f32[24]\n"
                                                       "for i0 < 4 {\n"
                                                       "  for i1 < 6 {\n"
                                                       "    b[6*i0 + i1] = a[4*i1 + i0]\n"
                                                       "  }\n"
                                                       "}\n");
    arena_free(arena);
}

TEST(pipeline_asks_for_a_line_once) {
    Arena *arena = arena_new();
    Kernel *kernel = kernel_parse(arena, "test",
                                  "kernel t\nin x f32[320]\nout y f32[320]\n"
                                  "for i < 10 { for k < 32 { y[32*i + k] = x[32*i + k] } }");
    schedule_apply(kernel, "SPLIT k 8\nUNROLL k0\nVECTORIZE k1\nPIPELINE x 4096");
    const char *text = program_print(arena, lower(arena, kernel, &(LowerOptions){0}));
    int asked = 0;
    for (const char *at = text; (at = strstr(at, "ahead 4096 x[")); at++) asked++;
    CHECK_INT(asked, 2);  // 128 bytes an iteration, in four loads
    arena_free(arena);
    check_refused(copy_head, copy_body, "PIPELINE x 2000000", "at most 1048576 bytes ahead");
}

TEST(stream_is_for_results_that_are_not_read) {
    check_refused(copy_head, copy_body, "STREAM x", "it is no result");
    check_refused("kernel t\ninout y f32[20]\n", "for i < 20 { y[i] = (add y[i] 1) }", "STREAM y",
                  "it is read here");
    Arena *arena = arena_new();
    Kernel *kernel = kernel_parse(arena, "test",
                                  "kernel t\nin x f32[20]\nout y f32[20]\n"
                                  "for i < 20 { y[i] = x[i] }");
    schedule_apply(kernel, "SPLIT i 8 peel\nVECTORIZE i1\nSTREAM y");
    char *text = kernel_print(arena, kernel);
    CHECK(strstr(text, "out y f32[20] streams\n") != NULL);
    CHECK_TEXT(kernel_print(arena, kernel_parse(arena, "again", text)), text);
    arena_free(arena);
}

// ---- RFACTOR, DISTRIBUTE -----------------------------------------------------------------------

TEST(rfactor_into_lanes) {
    check_lines(dot_head, dot_body,
                "SPLIT k 8\nRFACTOR k1\nVECTORIZE k1_init\nVECTORIZE k1\nVECTORIZE k1_fold",
                "register s f32[1]\n"
                "register s_k1 f32[8]\n"
                "init s[0] = 0\n"
                "vector for k1_init < 8 {\n"
                "  init s_k1[k1_init] = 0\n"
                "}\n"
                "for k0 < 3 {\n"
                "  vector for k1 < 8 {\n"
                "    update s_k1[k1] = (fma x[8*k0 + k1] w[8*k0 + k1] s_k1[k1])\n"
                "  }\n"
                "}\n"
                "vector for k1_fold < 8 {\n"
                "  update s[0] = (add s_k1[k1_fold] s[0])\n"
                "}\n"
                "finish y[0] = s[0]\n");
}

// The partial sum visits a register while its thread works on it.
TEST(rfactor_into_threads) {
    check_lines(dot_head, dot_body,
                "SPLIT k 6\nRFACTOR k0 in shared\nSTAGE s_k0 at k0 over in reg\nTHREAD k0",
                "register s f32[1]\n"
                "shared s_k0 f32[4]\n"
                "register s_k0_reg f32[1]\n"
                "init s[0] = 0\n"
                "for k0_init < 4 {\n"
                "  init s_k0[k0_init] = 0\n"
                "}\n"
                "thread for k0 < 4 {\n"
                "  s_k0_reg[0] = s_k0[k0]\n"
                "  for k1 < 6 {\n"
                "    update s_k0_reg[0] = (fma x[6*k0 + k1] w[6*k0 + k1] s_k0_reg[0])\n"
                "  }\n"
                "  s_k0[k0] = s_k0_reg[0]\n"
                "}\n"
                "for k0_fold < 4 {\n"
                "  update s[0] = (add s_k0[k0_fold] s[0])\n"
                "}\n"
                "finish y[0] = s[0]\n");
}

TEST(distribute_keeps_lanes_apart) {
    check_lines("kernel t\nin x f32[16]\nin d f32[2]\nout y f32[1]\n",
                "register s f32[1]\nregister c f32[1]\ninit s[0] = 0\n"
                "for g < 2 { init c[0] = 0 for b < 8 { update c[0] = (add c[0] x[8*g + b]) }\n"
                "update s[0] = (fma d[g] c[0] s[0]) } finish y[0] = s[0]",
                "RFACTOR b\nDISTRIBUTE b_fold",
                "register s f32[1]\n"
                "register c f32[1]\n"
                "register c_b f32[8]\n"
                "init s[0] = 0\n"
                "for g < 2 {\n"
                "  for b_init < 8 {\n"
                "    init c_b[b_init] = 0\n"
                "  }\n"
                "  for b < 8 {\n"
                "    update c_b[b] = (add c_b[b] x[8*g + b])\n"
                "  }\n"
                "  for b_fold < 8 {\n"
                "    update s[0] = (fma d[g] c_b[b_fold] s[0])\n"
                "  }\n"
                "}\n"
                "finish y[0] = s[0]\n");
}

TEST(partial_sums_refuse) {
    check_refused(copy_head, copy_body, "RFACTOR j", "no accumulator is folded over it");
    check_refused(scan_head, scan_body, "RFACTOR k", "no accumulator is folded over it");
    check_refused(dot_head, dot_body, "SPLIT k 5\nRFACTOR k1", "it has a limit");
    check_refused(dot_head, dot_body, "DISTRIBUTE k", "no sum follows it");
    check_refused("kernel t\nin x f32[4]\nout y f32[1]\n",
                  "register s f32[1]\nregister c f32[1]\ninit s[0] = 0 init c[0] = 0\n"
                  "for b < 4 { update c[0] = (add c[0] x[b]) }\n"
                  "update s[0] = (fma c[0] c[0] s[0]) finish y[0] = s[0]",
                  "DISTRIBUTE b", "not a multiple of the sums");
}

// Two rows of a cache a head: threads of what FUSE made of two loops are apart, padding aside.
TEST(thread_takes_loops_that_were_fused) {
    const char *head = "kernel cache\nin x f32[40]\nout y f32[120]\n";
    const char *body = "for h < 3 { for t < 5 { for d < 2 { for e < 2 {\n"
                       "y[40*h + 8*t + 4*d + 2*e] = x[8*t + 4*d + e]\n"
                       "y[40*h + 8*t + 4*d + 2*e + 1] = x[8*t + 4*d + e + 1]\n} } } }\n";
    check_lines(head, body, "SPLIT t 3 pad\nORDER h d t0 t1 e\nFUSE h d\nTHREAD h_d",
                "thread for h_d < 6 {\n"
                "  for t0 < 2 {\n"
                "    for t1 < 3 {\n"
                "      for e < 2 {\n"
                "        let t2 = (cmplt @i32(3*t0 + t1) @i32(5))\n"
                "        y[40*(h_d/2) + 24*t0 + 8*t1 + 4*(h_d%2) + 2*e] = x[24*t0 + 8*t1 + "
                "4*(h_d%2) + e if t2] when t2\n"
                "        let t3 = (cmplt @i32(3*t0 + t1) @i32(5))\n"
                "        y[40*(h_d/2) + 24*t0 + 8*t1 + 4*(h_d%2) + 2*e + 1] = x[24*t0 + 8*t1 + "
                "4*(h_d%2) + e + 1 if t3] when t3\n"
                "      }\n"
                "    }\n"
                "  }\n"
                "}\n");
    check_refused(head, "for h < 3 { for d < 2 { for e < 2 { y[4*h + 2*e] = x[d] } } }",
                  "FUSE h d\nTHREAD h_d", "threads of loop h_d would meet in it");
}

// ---- TENSORCORE and lines ----------------------------------------------------------------------

TEST(tensorcore_makes_a_tile_of_registers) {
    check_lines(half_head, half_body,
                "STAGE c at top in reg\nORDER k i j\nTENSORCORE avx2_fma 6x16 on s",
                "register s f32[96]\n"
                "unroll for i_init < 6 {\n"
                "  unroll for j_init0 < 2 {\n"
                "    vector for j_init1 < 8 {\n"
                "      init s[16*i_init + 8*j_init0 + j_init1] = 0\n"
                "    }\n"
                "  }\n"
                "}\n"
                "for k < 4 {\n"
                "  unroll for i < 6 {\n"
                "    unroll for j0 < 2 {\n"
                "      vector for j1 < 8 {\n"
                "        update s[16*i + 8*j0 + j1] = (fma (mul (cast:f32 a[4*i + k]) "
                "(cast:f32 w[i])) b[16*k + 8*j0 + j1] s[16*i + 8*j0 + j1])\n"
                "      }\n"
                "    }\n"
                "  }\n"
                "}\n"
                "unroll for i_finish < 6 {\n"
                "  unroll for j_finish0 < 2 {\n"
                "    vector for j_finish1 < 8 {\n"
                "      finish c[16*i_finish + 8*j_finish0 + j_finish1] = "
                "s[16*i_finish + 8*j_finish0 + j_finish1]\n"
                "    }\n"
                "  }\n"
                "}\n");
}

TEST(tensorcore_refuses) {
    check_refused(half_head, half_body, "TENSORCORE amx 6x16 on s", "no matrix unit amx");
    check_refused(half_head, half_body, "TENSORCORE avx2_fma 7x16 on s", "no tile 7x16");
    check_refused(half_head, half_body, "TENSORCORE avx2_fma 6x12 on s", "no tile 6x12");
    check_refused(half_head, half_body, "TENSORCORE avx2_fma 15x8 on s", "no tile 15x8");
    check_refused(half_head, half_body, "TENSORCORE avx2_fma 14x8 on s",
                  "the tile needs a loop of 8");
    check_refused(half_head, half_body, "TENSORCORE avx2_fma 9223372036854775807x8 on s",
                  "no tile");
    check_refused(half_head, half_body, "TENSORCORE avx2_fma 6 on s", "no tile 6");
    check_refused(half_head, half_body, "STAGE c at top in reg\nTENSORCORE avx2_fma 6x16 on s",
                  "for k < 4: the tile needs a loop of 16 here");
}

TEST(lines_are_checked) {
    check_refused(copy_head, copy_body, "TWIST i", "no transform TWIST");
    check_refused(copy_head, copy_body, "SPLIT j", "the line ends too early");
    check_refused(copy_head, copy_body, "STAGE q at i in reg", "no buffer q");
    check_lines(copy_head, copy_body, "# nothing\n\n  UNROLL j   # a comment\n",
                "for i < 4 {\n"
                "  unroll for j < 5 {\n"
                "    y[5*i + j] = x[5*i + j]\n"
                "  }\n"
                "}\n");
}

// ---- TABULATE ----------------------------------------------------------------------------------

static const char codes[] = "kernel codes\nin w u8[32]\nin d f32[2]\nin o f32[2]\nin x f32[64]\n"
                            "out y f32[1]\nregister s f32[1]\ninit s[0] = 0\n"
                            "for g < 2 { for h < 2 { for b < 16 {\n"
                            "let c = (and (shr w[16*g + b] (cast:u8 @i32(4*h))) 15:u8)\n"
                            "update s[0] = (fma (fma (cast:f32 c) d[g] o[g]) x[32*g + 16*h + b] "
                            "s[0]) } } }\nfinish y[0] = s[0]\n";

TEST(tabulate_makes_a_table_of_what_a_code_becomes) {
    Arena *arena = arena_new();
    Kernel *kernel = kernel_parse(arena, "codes", codes);
    char *text = run_schedule(arena, kernel, "TABULATE w at g\n", NULL);
    CHECK(strstr(text, "register w_table f32[16]") != NULL);
    CHECK(strstr(text, "w_table[w_t] = (fma (cast:f32 (cast:u8 @i32(w_t))) d[g] o[g])") != NULL);
    CHECK(strstr(text, "update s[0] = (fma w_table[") != NULL);
    CHECK(strstr(text, " in 0..15 = (cast:i32 (and (shr w[16*g + b] ") != NULL);
    arena_free(arena);
}

TEST(tabulate_goes_with_vectors_and_threads) {
    static const char schedule[] = "RFACTOR b\nTABULATE w at g\nSPLIT b 8\nVECTORIZE b1\n"
                                   "SPLIT w_t 8\nVECTORIZE w_t1\nUNROLL h\n";
    Arena *arena = arena_new();
    run_schedule(arena, kernel_parse(arena, "codes", codes), schedule, NULL);
    Kernel *rows = kernel_parse(arena, "rows",
                                "kernel rows\nin w u8[64]\nin d f32[4]\nout y f32[64]\n"
                                "for g < 4 { for b < 16 {\n"
                                "y[16*g + b] = (exp2 (mul d[g] (cast:f32 (and w[16*g + b] 7:u8))))"
                                " } }");
    run_schedule(arena, rows, "TABULATE w at g\nTHREAD g\n", NULL);
    arena_free(arena);
}

TEST(tabulate_refuses) {
    check_refused("", codes, "TABULATE x at g", "depends on a code of x");
    check_refused("", codes, "TABULATE x at g", "(and .. 15)");
    check_refused("", codes, "TABULATE w at q", "no loop q");
    check_refused("",
                  "kernel two\nin w u8[8]\nout y f32[8]\nfor i < 2 { for j < 4 {\n"
                  "y[4*i + j] = (add (cast:f32 (and w[4*i + j] 15:u8))\n"
                  "(mul 3 (cast:f32 (and (shr w[4*i + j] 4:u8) 15:u8)))) } }",
                  "TABULATE w at i", "become different things");
}
