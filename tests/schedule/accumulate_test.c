/* REDUCE made explicit: text in, text out, and the same numbers. */
#include "kernel_run.h"

// `wanted` is what comes after the PARAMs.
static void check_accumulate(const char *head, const char *body, const char *wanted) {
    Arena *arena = arena_new();
    Kernel *kernel = kernel_parse(arena, "test", arena_print(arena, "%s%s", head, body));
    void **before = run_memory(arena, kernel), **after = run_memory(arena, kernel);
    int64_t var[] = {5};
    kernel_verify(kernel);
    run_check_text(arena, kernel);
    kernel_eval(kernel, before, var);
    accumulate(kernel);
    CHECK_TEXT(kernel_print(arena, kernel), arena_print(arena, "%s%s", head, wanted));
    run_check_text(arena, kernel);
    kernel_eval(kernel, after, var);
    run_compare(kernel, after, before, "accumulate");
    arena_free(arena);
}

TEST(a_sum_of_products_is_fused) {
    check_accumulate("kernel t\nin a f32[12]\nin b f32[8]\nout c f32[6]\n",
                     "for i < 3 { for j < 2 {\n"
                     "c[2*i + j] = (max (reduce add k<4 (mul a[4*i + k] b[2*k + j])) 0) } }",
                     "register s f32[1]\n"
                     "for i < 3 {\n"
                     "  for j < 2 {\n"
                     "    init s[0] = 0\n"
                     "    for k < 4 {\n"
                     "      update s[0] = (fma a[4*i + k] b[2*k + j] s[0])\n"
                     "    }\n"
                     "    finish c[2*i + j] = (max s[0] 0)\n"
                     "  }\n"
                     "}\n");
}

TEST(softmax_is_three_siblings_under_the_row) {
    check_accumulate("kernel t\nin x f32[24]\nout y f32[24]\n",
                     "for i < 4 { for j < 6 {\n"
                     "let m = (mul (reduce max k<6 x[6*i + k]) -1)\n"
                     "let e = (reduce add l<6 (exp2 (add x[6*i + l] m)))\n"
                     "y[6*i + j] = (mul (exp2 (add x[6*i + j] m)) (recip e)) } }",
                     "register s f32[1]\n"
                     "register s_2 f32[1]\n"
                     "for i < 4 {\n"
                     "  init s[0] = -inf\n"
                     "  for k < 6 {\n"
                     "    update s[0] = (max x[6*i + k] s[0])\n"
                     "  }\n"
                     "  init s_2[0] = 0\n"
                     "  for l < 6 {\n"
                     "    update s_2[0] = (add (exp2 (add x[6*i + l] (mul s[0] -1))) s_2[0])\n"
                     "  }\n"
                     "  for j < 6 {\n"
                     "    finish y[6*i + j] = (mul (exp2 (add x[6*i + j] (mul s[0] -1))) "
                     "(recip s_2[0]))\n"
                     "  }\n"
                     "}\n");
}

TEST(sums_over_equal_ranges_share_a_nest) {
    check_accumulate("kernel t\nvar n 1..6\nin x f16[24]\nout y f16[4]\n",
                     "for i < 4 {\n"
                     "y[i] = (add (reduce add k<n x[6*i + k]) (reduce max l<n x[6*i + l])) }",
                     "register s f32[1]\n"
                     "register s_2 f32[1]\n"
                     "for i < 4 {\n"
                     "  init s[0] = 0\n"
                     "  init s_2[0] = -inf\n"
                     "  for k < n {\n"
                     "    update s[0] = (add (cast:f32 x[6*i + k]) s[0])\n"
                     "    update s_2[0] = (max (cast:f32 x[6*i + k]) s_2[0])\n"
                     "  }\n"
                     "  finish y[i] = (add (cast:f16 s[0]) (cast:f16 s_2[0]))\n"
                     "}\n");
}

TEST(a_sum_that_needs_another_comes_after_it) {
    check_accumulate("kernel t\nin x f32[24]\nout y f32[4]\nout z f32[4]\n",
                     "for i < 4 {\n"
                     "let m = (mul (reduce add k<6 x[6*i + k]) -0.125)\n"
                     "let d over l<6 = (add x[6*i + l] m)\n"
                     "y[i] = (reduce add l<6 (mul d d))\n"
                     "z[i] = m }",
                     "register s f32[1]\n"
                     "register s_2 f32[1]\n"
                     "for i < 4 {\n"
                     "  init s[0] = 0\n"
                     "  for k < 6 {\n"
                     "    update s[0] = (add x[6*i + k] s[0])\n"
                     "  }\n"
                     "  init s_2[0] = 0\n"
                     "  for l < 6 {\n"
                     "    let t1 = (add x[6*i + l] (mul s[0] -0.125))\n"
                     "    update s_2[0] = (fma t1 t1 s_2[0])\n"
                     "  }\n"
                     "  finish y[i] = s_2[0]\n"
                     "  finish z[i] = (mul s[0] -0.125)\n"
                     "}\n");
}

TEST(an_inner_sum_stays_under_the_loop_that_it_needs) {
    check_accumulate("kernel t\nin x f32[24]\nin w f32[4]\nout y f32[1]\n",
                     "y[0] = (reduce add g<4 (mul w[g] (reduce add k<6 (mul x[6*g + k] x[k]))))",
                     "register s f32[1]\n"
                     "register s_2 f32[1]\n"
                     "init s[0] = 0\n"
                     "for g < 4 {\n"
                     "  init s_2[0] = 0\n"
                     "  for k < 6 {\n"
                     "    update s_2[0] = (fma x[6*g + k] x[k] s_2[0])\n"
                     "  }\n"
                     "  update s[0] = (fma w[g] s_2[0] s[0])\n"
                     "}\n"
                     "finish y[0] = s[0]\n");
}

TEST(a_fold_of_what_is_overwritten_is_refused) {
    Arena *arena = arena_new();
    Kernel *kernel = kernel_parse(arena, "test",
                                  "kernel t\ninout x f32[6]\n"
                                  "for j < 6 { x[j] = (mul x[j] (reduce add k<6 x[k])) }");
    CHECK_FATAL_TEXT(accumulate(kernel), "x[j] changes what loop k folds");
    arena_free(arena);
}
