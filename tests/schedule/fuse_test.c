/* fuse_test.c - which graphs become which kernels. Counts are what a reader of docs/ is told. */
#include "ir/graph_parse.h"
#include "schedule/schedule.h"
#include "test.h"

#include <string.h>

static Arena *arena;
static Module *module;

static void done(void) {
    arena_free(arena);
    arena = NULL;
}

static Module *fused(const char *text) {
    Arena *before = arena;  // holds the text, perhaps
    arena = arena_new();
    GraphProgram program = graph_parse(arena, "fuse_test", text);
    module = fuse(arena, program.graph, program.outputs, program.output, 0, NULL, PRODUCTS_MAX);
    arena_free(before);
    return module;
}

static const char *kernel_text(int call) {
    return kernel_print(arena, module->calls.at[call].kernel);
}

TEST(fuse_elementwise_chain_is_one_kernel) {
    fused("%0 = buffer{1, 0} f32 (4, 8)\n%1 = exp2 f32 (4, 8) %0\n%2 = mul f32 (4, 8) %1 %0\n"
          "%3 = contiguous f32 (4, 8) %2\nout %3\n");
    CHECK_INT(module->calls.count, 1);
    CHECK_TEXT(kernel_text(0),
               "kernel mul_4x8\nout out f32[32]\nin a f32[32]\nfor i < 4 {\n  for j < 8 {\n"
               "    out[8*i + j] = (mul (exp2 a[8*i + j]) a[8*i + j])\n  }\n}\n");
    done();
}

TEST(fuse_movement_leaves_no_kernel) {
    fused(
        "%0 = buffer{1, 0} f32 (4, 8)\n%1 = permute{1, 0} f32 (8, 4) %0\n%2 = reshape f32 (32) %1\n"
        "%3 = flip{0} f32 (32) %2\n%4 = contiguous f32 (32) %3\nout %4\n");
    CHECK_INT(module->calls.count, 1);
    done();
}

static const char *const softmax =
    "%0 = buffer{1, 0} f32 (4, 8)\n%1 = reduce{max, 1} f32 (4, 1) %0\n%2 = expand f32 (4, 8) %1\n"
    "%3 = const{-1} f32 (4, 8)\n%4 = mul f32 (4, 8) %2 %3\n%5 = add f32 (4, 8) %0 %4\n%6 = exp2 "
    "f32 (4, 8) %5\n"
    "%7 = reduce{add, 1} f32 (4, 1) %6\n%8 = recip f32 (4, 1) %7\n%9 = expand f32 (4, 8) %8\n"
    "%10 = mul f32 (4, 8) %6 %9\n%11 = contiguous f32 (4, 8) %10\nout %11\n";

TEST(fuse_softmax_is_one_kernel) {
    fused(softmax);
    CHECK_INT(module->calls.count, 1);
    accumulate(module->calls.at[0].kernel);
    int stores =
        kernel_accesses(arena, module->calls.at[0].kernel, module->calls.at[0].kernel->body, -1)
            .count;
    CHECK(stores > 0);
    done();
}

// An activation and its slope: both read x, and nothing between them is memory.
TEST(fuse_shared_expression_of_one_value_is_made_again) {
    static const char *const shared =
        "%0 = buffer{1, 0} f32 (4, 8)\n%1 = exp2 f32 (4, 8) %0\n%2 = mul f32 (4, 8) %1 %1\n"
        "%3 = mul f32 (4, 8) %2 %0\n%4 = contiguous f32 (4, 8) %3\n"
        "%5 = add f32 (4, 8) %2 %1\n%6 = contiguous f32 (4, 8) %5\nout %4 %6\n";
    fused(shared);
    CHECK_INT(module->calls.count, 2);
    CHECK(strstr(kernel_text(1), "in a f32[32]\nfor"));
    done();
    fused("%0 = buffer{1, 0} f32 (4, 8)\n%1 = buffer{2, 0} f32 (4, 8)\n%2 = mul f32 (4, 8) %1 "
          "%0\n%3 = exp2 f32 (4, 8) %2\n%4 = contiguous f32 (4, 8) %3\n%5 = add f32 (4, 8) %2 "
          "%3\n%6 = contiguous f32 (4, 8) %5\nout %4 %6\n");
    CHECK_INT(module->calls.count, 4);  // two reads would stand for one
    done();
}

// ... but not once for each of the elements that it is stretched to.
TEST(fuse_stretched_shared_expression_is_stored) {
    fused("%0 = buffer{1, 0} f32 (4, 1)\n%1 = exp2 f32 (4, 1) %0\n%2 = expand f32 (4, 8) %1\n"
          "%3 = buffer{2, 0} f32 (4, 8)\n%4 = mul f32 (4, 8) %2 %3\n%5 = contiguous f32 (4, 8) "
          "%4\n%6 = add f32 (4, 8) %2 %3\n%7 = contiguous f32 (4, 8) %6\nout %5 %7\n");
    CHECK_INT(module->calls.count, 3);
    done();
}

// A column's maximum under row loops would be computed once a row: it gets memory.
TEST(fuse_column_fold_is_stored) {
    fused("%0 = buffer{1, 0} f32 (4, 8)\n%1 = reduce{max, 0} f32 (1, 8) %0\n%2 = expand f32 (4, "
          "8) %1\n"
          "%3 = add f32 (4, 8) %0 %2\n%4 = contiguous f32 (4, 8) %3\nout %4\n");
    CHECK_INT(module->calls.count, 2);
    done();
}

// A mean of losses: folds of rows are computed in the loop of the fold of all rows, and there the
// target's element is read. What has several rows for each of the outer fold's terms is not.
TEST(fuse_fold_of_rows_takes_the_folds_of_each_in) {
    static const char *const loss =
        "%0 = buffer{1, 0} f32 (4, 8)\n%1 = buffer{2, 0} i32 (4, 1)\n"
        "%2 = reduce{max, 1} f32 (4, 1) %0\n%3 = expand f32 (4, 8) %2\n%4 = const{-1} f32 (4, 8)\n"
        "%5 = mul f32 (4, 8) %3 %4\n%6 = add f32 (4, 8) %0 %5\n%7 = exp2 f32 (4, 8) %6\n"
        "%8 = reduce{add, 1} f32 (4, 1) %7\n%9 = log2 f32 (4, 1) %8\n%10 = add f32 (4, 1) %9 %2\n"
        "%11 = gather{1} f32 (4, 1) %0 %1\n%12 = mul f32 (4, 1) %10 %11\n"
        "%13 = reduce{add, 0} f32 (1, 1) %12\n%14 = contiguous f32 (1, 1) %13\nout %14\n";
    fused(loss);
    CHECK_INT(module->calls.count, 1);
    accumulate(module->calls.at[0].kernel);
    CHECK(
        strstr(kernel_text(0), "init s[0] = 0\nfor k < 4 {\n  init s_2[0] = -inf\n  for k_3 < 8 "));
    done();
    fused("%0 = buffer{1, 0} f32 (4, 8)\n%1 = reduce{max, 0} f32 (1, 8) %0\n%2 = expand f32 (4, 8) "
          "%1\n%3 = add f32 (4, 8) %0 %2\n%4 = reduce{add, 0, 1} f32 (1, 1) %3\n"
          "%5 = contiguous f32 (1, 1) %4\nout %5\n");
    CHECK_INT(module->calls.count, 2);
    done();
    fused("%0 = buffer{1, 0} f32 (4, 8, 2)\n%1 = reduce{max, 1} f32 (4, 1, 2) %0\n"
          "%2 = reduce{add, 0} f32 (1, 1, 2) %1\n%3 = contiguous f32 (1, 1, 2) %2\nout %3\n");
    CHECK_INT(module->calls.count, 2);  // threads share its loop, and would not share the fold's
    done();
}

static const char *const matmul =
    "%0 = buffer{1, 0} f32 (4, 1, 8)\n%1 = expand f32 (4, 6, 8) %0\n%2 = buffer{2, 0} f32 (1, "
    "6, 8)\n"
    "%3 = expand f32 (4, 6, 8) %2\n%4 = mul f32 (4, 6, 8) %1 %3\n%5 = reduce{add, 2} f32 (4, 6, "
    "1) %4\n"
    "%6 = reshape f32 (4, 6) %5\n";

TEST(fuse_matmul_takes_its_epilogue_in) {
    arena = arena_new();
    fused(arena_print(
        arena, "%s%s", matmul,
        "%7 = buffer{3, 0} f32 (4, 6)\n%8 = add f32 (4, 6) %6 %7\n%9 = exp2 f32 (4, 6) %8\n"
        "%10 = contiguous f32 (4, 6) %9\nout %10\n"));
    CHECK_INT(module->calls.count, 1);
    done();
}

// Squares of 2 x 2, 4 down and 5 across: each loop of the image is cut where they meet.
TEST(fuse_product_takes_an_image_of_squares_in) {
    fused("%0 = buffer{1, 0} f32 (1, 2, 1, 2, 3)\n%1 = buffer{2, 0} f32 (4, 1, 5, 1, 3)\n"
          "%2 = buffer{3, 0} f32 (8, 10)\n%3 = expand f32 (4, 2, 5, 2, 3) %0\n"
          "%4 = expand f32 (4, 2, 5, 2, 3) %1\n%5 = mul f32 (4, 2, 5, 2, 3) %3 %4\n"
          "%6 = reduce{add, 4} f32 (4, 2, 5, 2, 1) %5\n%7 = reshape f32 (8, 10) %6\n"
          "%8 = add f32 (8, 10) %7 %2\n%9 = contiguous f32 (8, 10) %8\nout %9\n");
    CHECK_INT(module->calls.count, 1);
    CHECK_TEXT(kernel_text(0),
               "kernel add_8x10\nout out f32[80]\nin a f32[12]\nin b f32[60]\nin c f32[80]\n"
               "for i < 4 {\n  for i_2 < 2 {\n    for j < 5 {\n      for j_2 < 2 {\n"
               "        out[20*i + 10*i_2 + 2*j + j_2] = (add (reduce add k<3 (mul a[6*i_2 + 3*j_2 "
               "+ k] b[15*i + 3*j + k])) c[20*i + 10*i_2 + 2*j + j_2])\n      }\n    }\n  }\n}\n");
    done();
}

// What is no product would be computed again for each of the parts.
TEST(fuse_fold_of_parts_of_an_axis_is_stored) {
    fused("%0 = buffer{1, 0} f32 (4, 2, 5, 3)\n%1 = buffer{2, 0} f32 (8, 5)\n"
          "%2 = reduce{max, 3} f32 (4, 2, 5, 1) %0\n%3 = reshape f32 (8, 5) %2\n"
          "%4 = add f32 (8, 5) %3 %1\n%5 = contiguous f32 (8, 5) %4\nout %5\n");
    CHECK_INT(module->calls.count, 2);
    done();
}

TEST(fuse_matmul_then_row_fold_is_two) {
    arena = arena_new();
    fused(arena_print(arena, "%s%s", matmul, "%7 = reduce{add, 1} f32 (4, 1) %6\nout %7\n"));
    CHECK_INT(module->calls.count, 2);
    done();
}

// What a contraction reads again and again is computed once, into memory.
TEST(fuse_contraction_operand_is_stored) {
    fused("%0 = buffer{1, 0} f32 (4, 8)\n%1 = exp2 f32 (4, 8) %0\n%2 = reshape f32 (4, 1, 8) %1\n"
          "%3 = expand f32 (4, 6, 8) %2\n%4 = buffer{2, 0} f32 (1, 6, 8)\n%5 = expand f32 (4, 6, "
          "8) %4\n"
          "%6 = mul f32 (4, 6, 8) %3 %5\n%7 = reduce{add, 2} f32 (4, 6, 1) %6\nout %7\n");
    CHECK_INT(module->calls.count, 2);
    done();
}

// ... unless it reads fewer bytes than it has: a packed weight is unpacked where it is used.
TEST(fuse_packed_weight_is_unpacked_in_place) {
    fused("%0 = buffer{1, 0} f32 (4, 1, 8)\n%1 = expand f32 (4, 6, 8) %0\n%2 = buffer{2, 0} i8 "
          "(1, 6, 8)\n"
          "%3 = cast f32 (1, 6, 8) %2\n%4 = expand f32 (4, 6, 8) %3\n%5 = mul f32 (4, 6, 8) %1 %4\n"
          "%6 = reduce{add, 2} f32 (4, 6, 1) %5\nout %6\n");
    CHECK_INT(module->calls.count, 1);
    done();
}

// gate(x w1) * (x w2), as in SwiGLU; %%d: the version of w2, -1 a weight.
static void fuse_pair(int version, const char *more) {
    arena = arena_new();
    fused(arena_print(
        arena,
        "%%0 = buffer{1, 0} f32 (4, 1, 8)\n%%1 = expand f32 (4, 6, 8) %%0\n%%2 = buffer{2, -1} f32 "
        "(1, 6, 8)\n%%3 = expand f32 (4, 6, 8) %%2\n%%4 = mul f32 (4, 6, 8) %%1 %%3\n%%5 = "
        "reduce{add, 2} f32 (4, 6, 1) %%4\n%%6 = buffer{3, %d} f32 (1, 6, 8)\n%%7 = expand f32 "
        "(4, 6, 8) %%6\n%%8 = mul f32 (4, 6, 8) %%1 %%7\n%%9 = reduce{add, 2} f32 (4, 6, 1) %%8\n"
        "%%10 = exp2 f32 (4, 6, 1) %%5\n%%11 = mul f32 (4, 6, 1) %%10 %%9\n%s",
        version, more));
}

TEST(fuse_two_products_of_one_x_share_their_loops) {
    fuse_pair(-1, "%12 = contiguous f32 (4, 6, 1) %11\nout %12\n");
    CHECK_INT(module->calls.count, 1);
    accumulate(module->calls.at[0].kernel);
    CHECK(strstr(kernel_text(0),
                 "    for k < 8 {\n      update s[0] = (fma a[8*i + k] b[8*j + k] s[0])\n"
                 "      update s_2[0] = (fma a[8*i + k] c[8*j + k] s_2[0])\n    }\n"));
    done();
    fuse_pair(0, "%12 = contiguous f32 (4, 6, 1) %11\nout %12\n");  // nothing is laid out for it
    CHECK_INT(module->calls.count, 2);
    done();
    fuse_pair(-1, "%12 = contiguous f32 (4, 6, 1) %11\n%13 = exp2 f32 (4, 6, 1) %9\n"
                  "%14 = contiguous f32 (4, 6, 1) %13\nout %12 %14\n");  // somebody else reads it
    CHECK_INT(module->calls.count, 3);
    done();
}

// A product's rows, cut into heads: pairs of a head are rotated, or rows are put where a cache
// wants them. version: of the weights.
static Module *fuse_heads(int version, const char *more) {
    arena = arena_new();
    return fused(arena_print(
        arena,
        "%%0 = buffer{1, 0} f32 (5, 1, 8)\n%%1 = expand f32 (5, 12, 8) %%0\n"
        "%%2 = buffer{2, %d} f32 (1, 12, 8)\n%%3 = expand f32 (5, 12, 8) %%2\n"
        "%%4 = mul f32 (5, 12, 8) %%1 %%3\n%%5 = reduce{add, 2} f32 (5, 12, 1) %%4\n"
        "%%6 = reshape f32 (5, 3, 2, 2) %%5\n%%7 = permute{1, 0, 2, 3} f32 (3, 5, 2, 2) %%6\n%s",
        version, more));
}

static const char *const rotated =
    "%8 = flip{3} f32 (3, 5, 2, 2) %7\n%9 = buffer{3, 0} f32 (3, 5, 2, 2)\n"
    "%10 = mul f32 (3, 5, 2, 2) %8 %9\n%11 = add f32 (3, 5, 2, 2) %7 %10\n"
    "%12 = contiguous f32 (3, 5, 2, 2) %11\nout %12\n";

TEST(fuse_product_takes_a_rotation_of_pairs_in) {
    fuse_heads(-1, rotated);
    CHECK_INT(module->calls.count, 1);
    accumulate(module->calls.at[0].kernel);
    CHECK(
        strstr(kernel_text(0),
               "    for l < 2 {\n      init s[0] = 0\n      init s_2[0] = 0\n"
               "      for k < 8 {\n"
               "        update s[0] = (fma a[8*j + k] b[32*i + 16*l + k] s[0])\n"
               "        update s_2[0] = (fma a[8*j + k] b[32*i + 16*l + k + 8] s_2[0])\n"
               "      }\n"
               "      finish out[20*i + 4*j + 2*l] = (add s[0] (mul s_2[0] c[20*i + 4*j + 2*l]))\n"
               "      finish out[20*i + 4*j + 2*l + 1] = (add s_2[0] (mul s[0] c[20*i + 4*j + "
               "2*l + 1]))\n"));
    done();
    fuse_heads(-1, "%8 = permute{0, 2, 3, 1} f32 (3, 2, 2, 5) %7\n"
                   "%9 = contiguous f32 (3, 2, 2, 5) %8\nout %9\n");  // rows are no lanes then
    CHECK_INT(module->calls.count, 2);
    done();
    fuse_heads(0, rotated);  // the other factor is no weight: twice the work, or twice the memory
    CHECK_INT(module->calls.count, 2);
    done();
}

TEST(fuse_product_goes_where_an_assign_wants_it) {
    fuse_heads(-1, "%8 = reshape f32 (3, 5, 4) %7\n%9 = buffer{4, 0} f32 (3, 9, 4)\n%10 = "
                   "shrink{(0, 2, 0)} f32 (3, 5, 4) %9\n%11 = assign{4, 1} f32 (3, 9, 4) %10 %8\n"
                   "%12 = contiguous f32 (3, 9, 4) %11\nout %12\n");
    CHECK_INT(module->calls.count, 2);  // the second reads the cache
    CHECK(strstr(kernel_text(0), "reduce add k<8"));
    done();
}

// Readers of the old bytes run before the write, readers of the new ones after it.
TEST(fuse_orders_around_assign) {
    fused("%0 = buffer{1, 0} f32 (8)\n%1 = const{2} f32 (8)\n%2 = mul f32 (8) %0 %1\n%3 = "
          "contiguous f32 (8) %2\n"
          "%4 = buffer{2, 0} f32 (8)\n%5 = assign{1, 1} f32 (8) %0 %4\n%6 = add f32 (8) %5 %3\n"
          "%7 = contiguous f32 (8) %6\nout %7\n");
    CHECK_INT(module->calls.count, 3);
    CHECK_INT(module->calls.at[0].root, 3);
    CHECK_INT(module->calls.at[1].root, 5);
    CHECK_INT(module->calls.at[2].root, 7);
    done();
}

// A value computed from old bytes is not computed anew after they are gone.
TEST(fuse_keeps_old_bytes) {
    fused("%0 = buffer{1, 0} f32 (8)\n%1 = const{2} f32 (8)\n%2 = mul f32 (8) %0 %1\n"
          "%3 = buffer{2, 0} f32 (8)\n%4 = assign{1, 1} f32 (8) %0 %3\n%5 = add f32 (8) %4 %2\n"
          "%6 = contiguous f32 (8) %5\nout %6\n");
    CHECK_INT(module->calls.count, 3);
    CHECK_INT(module->calls.at[0].root, 2);
    done();
}

TEST(fuse_plans_memory_by_liveness) {
    fused("%0 = buffer{1, 0} f32 (64)\n%1 = exp2 f32 (64) %0\n%2 = contiguous f32 (64) %1\n%3 = "
          "exp2 f32 (64) %2\n"
          "%4 = contiguous f32 (64) %3\n%5 = exp2 f32 (64) %4\n%6 = contiguous f32 (64) %5\n%7 = "
          "exp2 f32 (64) %6\n"
          "%8 = contiguous f32 (64) %7\nout %8\n");
    CHECK_INT(module->calls.count, 4);
    plan_memory(module);
    CHECK_INT(module->temporary_bytes,
              2 * 320);  // three temporaries of 256 + 64 bytes, two alive at a time
    done();
}

// Loops are cut where an index divides by them, so that every index is affine.
TEST(ranges_cut_loops_at_divisors) {
    fused("%0 = buffer{1, 0} f32 (2, 3, 4)\n%1 = permute{1, 0, 2} f32 (3, 2, 4) %0\n%2 = reshape "
          "f32 (24) %1\n"
          "%3 = contiguous f32 (24) %2\nout %3\n");
    CHECK_TEXT(
        kernel_text(0),
        "kernel buffer_24\nout out f32[24]\nin a f32[24]\nfor i < 3 {\n  for i_2 < 2 {\n"
        "    for i_3 < 4 {\n      out[8*i + 4*i_2 + i_3] = a[12*i_2 + 4*i + i_3]\n    }\n  }\n}\n");
    done();
}

TEST(factor_moves_scale_and_offset_out_of_a_group) {
    arena = arena_new();
    Kernel *kernel = kernel_parse(
        arena, "factor_test",
        "kernel q\nin scale f32[2]\nin offset f32[2]\nin code f32[64]\nin x f32[64]\nout y f32[1]\n"
        "y[0] = (reduce add g<2 b<32 (mul (add (mul scale[g] code[32*g + b]) offset[g]) x[32*g "
        "+ b]))\n");
    factor(kernel);
    CHECK_TEXT(
        kernel_print(arena, kernel),
        "kernel q\nin scale f32[2]\nin offset f32[2]\nin code f32[64]\nin x f32[64]\nout y f32[1]\n"
        "y[0] = (reduce add g<2 (add (mul scale[g] (reduce add b<32 (mul x[32*g + b] code[32*g "
        "+ b]))) "
        "(mul offset[g] (reduce add b<32 x[32*g + b]))))\n");
    done();
}

// Blocks k with a scale d, in them groups g with a scale s.
TEST(factor_moves_each_scale_out_as_far_as_it_goes) {
    arena = arena_new();
    const char *buffers =
        "kernel q\nin d f32[2]\nin s f32[6]\nin c f32[24]\nin x f32[24]\nout y f32[1]\n";
    const char *sum =
        "y[0] = (reduce add k<2 g<3 b<4 (mul x[12*k + 4*g + b] (mul (mul d[k] s[3*k + g]) "
        "c[12*k + 4*g + b])))\n";
    Kernel *kernel = kernel_parse(arena, "factor_test", arena_print(arena, "%s%s", buffers, sum));
    factor(kernel);
    const char *sums =
        "y[0] = (reduce add k<2 (mul d[k] (reduce add g<3 (mul s[3*k + g] (reduce add b<4 "
        "(mul x[12*k + 4*g + b] c[12*k + 4*g + b]))))))\n";
    CHECK_TEXT(kernel_print(arena, kernel), arena_print(arena, "%s%s", buffers, sums));
    done();
}

TEST(cost_counts_operations_and_bytes_once) {
    arena = arena_new();
    fused(arena_print(arena, "%s%s", matmul, "%7 = contiguous f32 (4, 6) %6\nout %7\n"));
    double operations, bytes;
    kernel_cost(module->calls.at[0].kernel, NULL, &operations, &bytes);
    CHECK_NEAR(operations, 2.0 * 4 * 6 * 8, 0);
    CHECK_NEAR(bytes, 4.0 * (32 + 48 + 24), 0);
    done();
}

// 16 queries and keys of 4 elements; a query sees the keys up to its own. Three folds have scores
// of 2 * 4 operations and one for the mask in common.
TEST(cost_counts_what_folds_have_in_common_once_and_nothing_that_is_hidden) {
    arena = arena_new();
    const char *scores = "(reduce %s %s<16 (where (cmplt @i32(%s) @i32(i + %d)) (reduce add e<4 "
                         "(mul q[4*i + e] k[4*%s + e])) -1e+30))";
    double operations[2], bytes;
    for (int all = 0; all < 2; all++) {
        const char *sum[3], *names[] = {"a", "b", "c"}, *folds[] = {"max", "add", "mul"};
        for (int n = 0; n < 3; n++)
            sum[n] =
                arena_print(arena, scores, folds[n], names[n], names[n], all ? 16 : 1, names[n]);
        Kernel *kernel = kernel_parse(
            arena, "cost_test",
            arena_print(arena,
                        "kernel t\nin q f32[64]\nin k f32[64]\nout y f32[16]\nfor i < 16 {\n"
                        "  y[i] = (add %s (add %s %s))\n}\n",
                        sum[0], sum[1], sum[2]));
        kernel_cost(kernel, NULL, &operations[all], &bytes);
        CHECK_NEAR(bytes, 4.0 * (64 + 64 + 16), 0);
    }
    double scored = 2 * 4 + 1 + 3;  // each key: a score, a mask, three folds
    CHECK_NEAR(operations[1], 16 * 16 * scored + 2 * 16, 0);
    CHECK_NEAR(operations[0], 17.0 / 32 * 16 * 16 * scored + 2 * 16, 1e-6);
    done();
}

TEST(cost_counts_a_buffer_that_is_read_twice_once) {
    arena = arena_new();
    Kernel *kernel = kernel_parse(arena, "cost_test",
                                  "kernel twice\nin x f32[8]\nout y f32[8]\nfor i < 8 {\n"
                                  "  y[i] = (mul x[i] (reduce add k<8 x[k]))\n}\n");
    double operations, bytes;
    kernel_cost(kernel, NULL, &operations, &bytes);
    CHECK_NEAR(bytes, 4.0 * (8 + 8), 0);
    done();
}

// Layers x = x + silu(x w) of weights that differ: each layer has the kernels of the first.
static const char *layers(int count) {
    Text text = text_new(arena);
    text_add(&text, "%%0 = param{0} f32 (1, 8)\n%%1 = const{-1.4426950408889634} f32 (1, 8)\n");
    int x = 0, next = 2;
    for (int i = 0; i < count; i++) {
        int w = next;
        text_add(&text, "%%%d = buffer{%d, -1} f32 (8, 8)\n", w, 1 + i);
        text_add(&text, "%%%d = reshape f32 (1, 1, 8) %%%d\n", w + 1, x);
        text_add(&text, "%%%d = expand f32 (1, 8, 8) %%%d\n", w + 2, w + 1);
        text_add(&text, "%%%d = reshape f32 (1, 8, 8) %%%d\n", w + 3, w);
        text_add(&text, "%%%d = mul f32 (1, 8, 8) %%%d %%%d\n", w + 4, w + 2, w + 3);
        text_add(&text, "%%%d = reduce{add, 2} f32 (1, 8, 1) %%%d\n", w + 5, w + 4);
        text_add(&text, "%%%d = reshape f32 (1, 8) %%%d\n", w + 6, w + 5);
        text_add(&text, "%%%d = mul f32 (1, 8) %%%d %%1\n", w + 7, w + 6);
        text_add(&text, "%%%d = exp2 f32 (1, 8) %%%d\n", w + 8, w + 7);
        text_add(&text, "%%%d = add f32 (1, 8) %%%d %%%d\n", w + 9, x, w + 8);
        text_add(&text, "%%%d = contiguous f32 (1, 8) %%%d\n", w + 10, w + 9);
        x = w + 10;
        next = w + 11;
    }
    text_add(&text, "out %%%d\n", x);
    return text.at;
}

TEST(fuse_makes_the_kernels_of_equal_layers_once) {
    arena = arena_new();
    fused(layers(9));
    int each = module->calls.count / 9;
    CHECK_INT(module->calls.count, 9 * each);
    for (int i = 2 * each; i < module->calls.count; i++)  // the first layer reads a PARAM
        CHECK(module->calls.at[i].kernel == module->calls.at[i - each].kernel);
    for (int layer = 1; layer < 9; layer++) {  // with memory of its own
        const KernelCall *call = &module->calls.at[layer * each];
        bool own = false;
        for (int i = 0; i < call->params; i++)
            own |= module->slots.at[call->slot[i]].of == 1 + layer;
        CHECK(own);
    }
    done();
}

TEST(fuse_takes_memory_in_proportion_to_the_graph) {
    size_t bytes[2];
    for (int i = 0; i < 2; i++) {
        Arena *texts = arena = arena_new();
        const char *text = layers(i ? 64 : 16);
        arena = arena_new();
        GraphProgram program = graph_parse(arena, "fuse_test", text);
        size_t before = arena_bytes(arena);
        fuse(arena, program.graph, program.outputs, program.output, 0, NULL, PRODUCTS_MAX);
        bytes[i] = arena_bytes(arena) - before;
        arena_free(texts);
        done();
    }
    CHECK(bytes[1] < 4 * bytes[0]);
}

TEST(fuse_keeps_kernels_apart_that_differ_in_more_than_memory) {
    fused("%0 = buffer{1, 0} f32 (4, 8)\n%1 = buffer{2, -1} f32 (4, 8)\n"
          "%2 = add f32 (4, 8) %0 %0\n%3 = contiguous f32 (4, 8) %2\n"
          "%4 = add f32 (4, 8) %3 %3\n%5 = contiguous f32 (4, 8) %4\n"
          "%6 = add f32 (4, 8) %5 %3\n%7 = contiguous f32 (4, 8) %6\n"     // two values
          "%8 = add f32 (4, 8) %7 %1\n%9 = contiguous f32 (4, 8) %8\n"     // a weight
          "%10 = add f32 (4, 8) %9 %7\n%11 = contiguous f32 (4, 8) %10\n"  // as the third
          "%12 = reshape f32 (8, 4) %11\n%13 = reshape f32 (8, 4) %9\n"
          "%14 = add f32 (8, 4) %12 %13\n%15 = contiguous f32 (8, 4) %14\nout %15\n");
    CHECK_INT(module->calls.count, 6);
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < i; j++)
            CHECK((module->calls.at[i].kernel == module->calls.at[j].kernel) == (i == 4 && j == 2));
    done();
}
