/* heuristic_test.c - the first candidate of each shape of kernel is accepted and computes the same.
 * On each target. Which shape was recognised is told by a word that its schedule must hold.      */
#include <string.h>

#include "kernel_run.h"

static const ScheduleTarget targets[] = {{"avx2_fma", 8, 4, 16, NULL, 512, 344, false},
                                         {"avx2_fma", 8, 6, 16, NULL, 512, 344, false},
                                         {"avx512_fma", 16, 14, 32, NULL, 320, 344, false}};

// The bytes of whole lines with which both begin.
static size_t lines_shared(const char *a, const char *b) {
    size_t shared = 0;
    for (size_t i = 0; a[i] && a[i] == b[i]; i++)
        if (a[i] == '\n') shared = i + 1;
    return shared;
}

// word NULL: any schedule will do, the empty one too. Lines with which the schedule of an earlier
// target begins, too, were run for that one.
static void check_heuristic(const char *text, const char *word, const int64_t *var) {
    Arena *arena = arena_new();
    const char *first[COUNT_OF(targets)];
    for (int t = 0; t < COUNT_OF(targets); t++) {
        Kernel *kernel = kernel_parse(arena, "heuristic_test", text);
        const char *candidate[CANDIDATES_MAX];
        if (wants_factoring(kernel)) factor(kernel);
        accumulate(kernel);
        int candidates = schedule_candidates(arena, kernel, &targets[t], candidate);
        CHECK(candidates > 0);
        CHECK_TEXT(candidate[candidates - 1], "");
        if (word) CHECK(strstr(candidate[0], word) != NULL);
        first[t] = candidate[0];
        size_t checked = 0;
        for (int before = 0; before < t; before++) {
            size_t shared = lines_shared(first[before], first[t]);
            if (shared > checked) checked = shared;
        }
        run_rest(arena, kernel, first[t], checked, var);
    }
    arena_free(arena);
}

static void check_matmul(int m, int n, int k, const char *word) {
    Arena *arena = arena_new();
    check_heuristic(
        arena_print(
            arena,
            "kernel mm\nout c f32[%d]\nin a f32[%d]\nin b f32[%d]\nfor i < %d {\n for j < %d {\n"
            "  c[%d*i + j] = (add 1 (reduce add k<%d (mul a[%d*i + k] b[%d*k + j])))\n }\n}\n",
            m * n, m * k, k * n, m, n, n, k, k, n),
        word, NULL);
    arena_free(arena);
}

TEST(heuristic_tiles_products) {
    check_matmul(12, 64, 20, "TENSORCORE");
    check_matmul(28, 128, 9, "TENSORCORE");
}

TEST(heuristic_takes_tall_tiles_of_one_vector) {
    check_matmul(20, 72, 7, "TENSORCORE");
    check_matmul(20, 80, 7, "TENSORCORE");
    Arena *arena = arena_new();
    Kernel *kernel =
        kernel_parse(arena, "mm",
                     "kernel mm\nout c f32[800]\nin a f32[140]\nin b "
                     "f32[280]\nfor i < 20 { for j < 40 {\n"
                     "c[40*i + j] = (reduce add k<7 (mul a[7*i + k] b[40*k + j])) } }\n");
    const char *candidate[CANDIDATES_MAX];
    accumulate(kernel);
    schedule_candidates(arena, kernel, &targets[1], candidate);
    CHECK(strstr(candidate[0], "TENSORCORE avx2_fma 10x8 on") != NULL);
    arena_free(arena);
}

TEST(heuristic_peels_what_fills_no_tile) {
    check_matmul(13, 75, 11, "TENSORCORE");
    check_matmul(29, 70, 3, "TENSORCORE");
}

// Too large to evaluate after every line.
TEST(heuristic_packs_deep_products_once) {
    Arena *arena = arena_new();
    const char *text =
        "kernel mm\nout c f32[8192]\nin a f32[41472]\nin b f32[20736]\nfor i < 128 {\n for j < "
        "64 {\n"
        "  c[64*i + j] = (reduce add k<324 (mul a[324*i + k] b[64*k + j]))\n }\n}\n";
    Kernel *plain = kernel_parse(arena, "plain", text), *tiled = kernel_parse(arena, "tiled", text);
    const char *candidate[CANDIDATES_MAX];
    accumulate(tiled);
    schedule_candidates(arena, tiled, &targets[0], candidate);
    CHECK(strstr(candidate[0], "in shared") != NULL);
    schedule_apply(tiled, candidate[0]);
    void **wanted = run_memory(arena, plain), **got = run_memory(arena, tiled);
    kernel_eval(plain, wanted, NULL);
    kernel_eval(tiled, got, NULL);
    run_compare(plain, got, wanted, "tiled");
    arena_free(arena);
}

TEST(heuristic_tiles_symbolic_columns) {
    for (int64_t keys = 60; keys <= 96; keys += 7)
        check_heuristic(
            "kernel scores\nvar keys 1..96\nout c f32[1536]\nin a f32[128]\nin b f32[768]\n"
            "for i < 16 {\n for j < keys {\n"
            "  c[96*i + j] = (reduce add k<8 (mul a[8*i + k] b[8*j + k]))\n }\n}\n",
            "TENSORCORE", &keys);
}

TEST(heuristic_folds_rows_in_lanes) {
    check_heuristic(
        "kernel softmax\nin x f32[375]\nout y f32[375]\nfor i < 5 {\n for j < 75 {\n"
        "  y[75*i + j] = (mul (exp2 (add x[75*i + j] (mul (reduce max k<75 x[75*i + k]) -1)))"
        " (recip (reduce add l<75 (exp2 (add x[75*i + l] (mul (reduce max k<75 x[75*i + k]) "
        "-1))))))\n }\n}\n",
        NULL, NULL);
    check_heuristic("kernel dot\nin x f32[256]\nin w f32[2560]\nout y f32[10]\nfor i < 10 {\n"
                    "  y[i] = (reduce add k<256 (mul x[k] w[256*i + k]))\n}\n",
                    "RFACTOR", NULL);
}

TEST(heuristic_keeps_group_lanes_apart) {
    check_heuristic(
        "kernel q4_1\nin w u8[960]\nin w16 u16[480]\nin x f32[64]\nout y f32[24]\nfor r < 24 {\n"
        "  y[r] = (reduce add g<2 h<2 b<16 (mul x[32*g + 16*h + b] (add (mul (cast:f32 "
        "(bitcast:f16 w16[20*r + 10*g]))"
        " (cast:f32 (and (shr w[40*r + 20*g + b + 4] (cast:u8 @i32(4*h))) 15:u8)))"
        " (cast:f32 (bitcast:f16 w16[20*r + 10*g + 1])))))\n}\n",
        "DISTRIBUTE", NULL);
}

TEST(heuristic_sums_across_rows) {
    int64_t keys = 37;
    check_heuristic(
        "kernel mix\nvar keys 1..64\nin p f32[192]\nin v f32[2048]\nout o f32[96]\nfor h < 3 {\n"
        " for d < 32 {\n"
        "  o[32*h + d] = (reduce add k<keys (mul p[64*h + k] v[32*k + d]))\n }\n}\n",
        "STAGE", &keys);
}

TEST(heuristic_vectorizes_chains) {
    check_heuristic(
        "kernel chain\nin x f32[1000]\nout y f32[1000]\nfor i < 1000 {\n  y[i] = (fma x[i] x[i] "
        "1)\n}\n",
        "VECTORIZE", NULL);
}

// Weights (out, in): their rows are read in order, the other operand is transposed.
static void check_linear(int rows, int columns, int k, const char *word) {
    Arena *arena = arena_new();
    check_heuristic(
        arena_print(arena,
                    "kernel linear\nout c f32[%d]\nin a f32[%d]\nin w f16[%d]\nfor i < %d {\n "
                    "for j < %d {\n  c[%d*i + j] = (exp2 (reduce add k<%d h<16 (mul a[%d*i + 16*k "
                    "+ h] (cast:f32 w[%d*j + 16*k + h]))))\n }\n}\n",
                    rows * columns, rows * 16 * k, columns * 16 * k, rows, columns, columns, k,
                    16 * k, 16 * k),
        word, NULL);
    arena_free(arena);
}

TEST(heuristic_turns_products_with_weights) {
    check_linear(16, 24, 2, "in shared convert");
    check_linear(32, 12, 1, "in shared convert");
    check_linear(8, 24, 2, "in shared convert");
    check_linear(13, 36, 1, "in shared convert");
    check_linear(4, 12, 3, "in shared convert");
    check_linear(16, 26, 1, NULL);  // no tile fills its columns
}

// A product with weights (out, in) in GGUF's Q4_1, two codes a byte.
static void check_weights(int rows, int out, const char *word) {
    enum { IN = 64 };
    Arena *arena = arena_new();
    int blocks = out * IN / 32;
    check_heuristic(
        arena_print(arena,
                    "kernel w\nout y f32[%d]\nin x f32[%d]\nweight d f16[%d]\nweight c u8[%d]\n"
                    "for i < %d { for j < %d {\n"
                    "y[%d*i + j] = (reduce add k<2 h<2 b<16 (mul x[64*i + 32*k + 16*h + b]\n"
                    "(add (mul (cast:f32 d[20*j + 10*k]) (cast:f32 (and (shr c[40*j + 20*k + b + 4]"
                    " (mul (cast:u8 @i32(h)) 4:u8)) 15:u8))) (cast:f32 d[20*j + 10*k + 1]))))\n"
                    "} }\n",
                    rows * out, rows * IN, 10 * blocks, 20 * blocks, rows, out, out),
        word, NULL);
    arena_free(arena);
}

// Two of them with one x.
static void check_pair(int rows, int out, const char *word) {
    Arena *arena = arena_new();
    const char *sum = "(reduce add k<2 b<32 (mul x[64*i + 32*k + b] (mul (cast:f32 d%d[2*j + k])"
                      " (cast:f32 (bitcast:i8 c%d[64*j + 32*k + b])))))";
    check_heuristic(
        arena_print(arena,
                    "kernel w\nout y f32[%d]\nin x f32[%d]\nweight d1 f16[%d]\nweight c1 u8[%d]\n"
                    "weight d2 f16[%d]\nweight c2 u8[%d]\nfor i < %d { for j < %d {\n"
                    "y[%d*i + j] = (mul (recip (add 2 %s)) %s)\n} }\n",
                    rows * out, rows * 64, 2 * out, 64 * out, 2 * out, 64 * out, rows, out, out,
                    arena_print(arena, sum, 1, 1), arena_print(arena, sum, 2, 2)),
        word, NULL);
    arena_free(arena);
}

TEST(heuristic_lays_out_two_weights_of_one_x) {
    check_pair(1, 64, "ORDER b i j10 j11\n");
    check_pair(1, 48, "STAGE c2 at top over j0 k b j1 in once\n");
    check_pair(3, 64, "PIPELINE c1_once");
    check_pair(8, 64, "SPILL s_2\nUNROLL i1_finish_spill_2\nVECTORIZE j11_finish");
    check_pair(13, 96, "STAGE c2_once at j10 over k b j11 in L2 convert\n");
    check_pair(7, 40, NULL);  // rows in no groups of 16
}

// Rows of weights in groups, two at a time: heads whose pairs are rotated.
static void check_heads(int rows, int pairs, const char *word) {
    Arena *arena = arena_new();
    int head = 32 * 2 * pairs;
    const char *sum = "(reduce add k<32 (mul x[32*i + k] w[%d*h + 64*j + k + %d]))";
    const char *a = arena_print(arena, sum, head, 0), *b = arena_print(arena, sum, head, 32);
    check_heuristic(
        arena_print(arena,
                    "kernel w\nout y f32[%d]\nin x f32[%d]\nweight w f32[%d]\n"
                    "for h < 3 { for i < %d { for j < %d {\ny[%d*h + %d*i + 2*j] = (add %s (mul 2 "
                    "%s))\ny[%d*h + %d*i + 2*j + 1] = (add %s (mul -2 %s))\n} } }\n",
                    6 * rows * pairs, rows * 32, 3 * head, rows, pairs, 2 * rows * pairs, 2 * pairs,
                    a, b, 2 * rows * pairs, 2 * pairs, b, a),
        word, NULL);
    arena_free(arena);
}

TEST(heuristic_shares_groups_of_heads) {
    check_heads(1, 32, "FUSE h j0\nTHREAD h_j0\n");
    check_heads(2, 64, "STAGE w at top over h j0 k j1 in once\n");
    check_heads(13, 32, "FUSE h j0\nTHREAD h_j0\n");
    check_heads(24, 64, "SPILL s_2\nUNROLL i1_finish_spill_2\n");
}

TEST(heuristic_lays_weights_out) {
    check_weights(1, 64, "COMPUTE_AT s_3 at top over k\n");
    check_weights(1, 48, "SPLIT j 16\nSTAGE c at top over j0 k b0 j1 b1 in once\n");
    check_weights(3, 64, "PIPELINE c_once 3277\n");
    check_weights(8, 64, "SPLIT j 32\nSTAGE d at top over j0 k j1 in once\n");
    check_weights(13, 96, "TENSORCORE");
    check_weights(7, 40, NULL);  // rows in no groups of 16
}

// A convolution padded by 1, of `places` x `places`, with a stride.
static void check_convolution(int filters, int places, int stride, const char *word) {
    enum { CHANNELS = 2, WINDOW = 3 };
    Arena *arena = arena_new();
    int side = places * stride, image = side * side;
    const char *inside = arena_print(
        arena,
        "(and (and (cmplt @i32(-1) @i32(%d*y + v - 1)) (cmplt @i32(%d*y + v - 1) @i32(%d))) "
        "(and (cmplt @i32(-1) @i32(%d*x + u - 1)) (cmplt @i32(%d*x + u - 1) @i32(%d))))",
        stride, stride, side, stride, stride, side);
    check_heuristic(
        arena_print(arena,
                    "kernel conv\nout r f32[%d]\nin a f32[%d]\nweight w f32[%d]\n"
                    "for o < %d { for y < %d { for x < %d {\n"
                    "r[%d*o + %d*y + x] = (max 0 (reduce add c<2 v<3 u<3 (mul\n"
                    "a[%d*c + %d*v + %d*y + u + %d*x - %d if %s] w[18*o + 9*c + 3*v + u])))\n"
                    "} } }\n",
                    filters * places * places, CHANNELS * image,
                    filters * CHANNELS * WINDOW * WINDOW, filters, places, places, places * places,
                    places, image, side, stride * side, stride, side + 1, inside),
        word, NULL);
    arena_free(arena);
}

TEST(heuristic_tiles_convolutions) {
    check_convolution(6, 24, 1, "STAGE a at top over c y+v x+u in shared convert\n");
    check_convolution(7, 24, 2, "STAGE a at top over c 2*y+v 2*x+u in shared convert\n");
    check_convolution(7, 23, 1, "UNROLL y_x1_a_shared\n");             // rows in no vectors
    check_convolution(64, 7, 1, "THREAD y_x0_a_shared_c_a_shared\n");  // few places
    check_convolution(65, 7, 2, "THREAD o0\n");
}

// Filters that depend on a loop around are laid out with it; threads share that loop if what is in
// it is short.
TEST(heuristic_shares_groups_of_channels) {
    static const char *const form =
        "kernel groups\nout r f32[%d]\nin a f32[%d]\n%s w f32[%d]\n"
        "for g < %d { for o < 4 { for y < 6 { for x < 6 {\n"
        "r[144*g + 36*o + 6*y + x] = (reduce add c<2 v<3 u<3 (mul\n"
        "a[128*g + 64*c + 8*v + 8*y + u + x] w[72*g + 18*o + 9*c + 3*v + u]))\n} } } }\n";
    static const struct {
        int groups;
        const char *head, *word;
    } cases[] = {{2, "weight", "STAGE w at top over g o0 c v u o1 in once convert\n"},
                 {2, "in", "STAGE w at g over o0 c v u o1 in shared convert\nTHREAD o0_w\n"},
                 {8, "in", "STAGE w at g over o0 c v u o1 in L2 convert\n"},
                 {8, "weight", "THREAD g\nSTAGE a at g over c y+v x+u in L2 convert\n"}};
    Arena *arena = arena_new();
    for (int i = 0; i < COUNT_OF(cases); i++) {
        int groups = cases[i].groups;
        check_heuristic(arena_print(arena, form, 144 * groups, 128 * groups, cases[i].head,
                                    72 * groups, groups),
                        cases[i].word, NULL);
    }
    arena_free(arena);
}

// Nothing is copied for windows that do not overlap, as channels of one image and those of the
// next; places that lie in a row are loaded in vectors.
TEST(heuristic_takes_rows_of_places_as_they_are) {
    check_heuristic("kernel rows\nout r f32[1152]\nin a f32[864]\nin w f32[96]\n"
                    "for o < 8 { for n < 6 { for x < 24 {\n"
                    "r[144*o + 24*n + x] = (reduce add c<6 (mul a[144*n + 24*c + x] w[6*o + c]))\n"
                    "} } }\n",
                    "STAGE a at n_x0 over c n_x1 in L2 convert\n", NULL);
    check_heuristic("kernel rows\nout r f32[672]\nin a f32[504]\nin w f32[96]\n"
                    "for o < 8 { for y < 12 { for x < 7 {\n"
                    "r[84*o + 7*y + x] = (reduce add c<6 (mul a[84*c + 7*y + x] w[6*o + c]))\n"
                    "} } }\n",
                    "SPLIT y_x1_a ", NULL);
}

TEST(heuristic_takes_results_in_squares_apart) {
    check_heuristic("kernel squares\nout r f32[1920]\nin a f32[720]\nweight w f32[96]\n"
                    "for n < 2 { for y < 5 { for i < 4 { for x < 12 { for j < 4 {\n"
                    "r[960*n + 192*y + 48*i + 4*x + j] = (max 0 (reduce add k<6 (mul "
                    "a[360*n + 60*k + 12*y + x] w[24*i + 6*j + k])))\n} } } } }\n",
                    "ORDER i j x\nFUSE i j\n", NULL);
}

TEST(heuristic_computes_an_exponential_once) {
    check_heuristic("kernel softmax\nin x f32[18000]\nout y f32[18000]\nfor i < 30 {\n"
                    "let m = (reduce max k<600 x[600*i + k])\n"
                    "let s = (reduce add l<600 (exp2 (add x[600*i + l] (mul m -1))))\n"
                    "for j < 600 { y[600*i + j] = (mul (exp2 (add x[600*i + j] (mul m -1))) "
                    "(recip s)) } }\n",
                    "REUSE l j in own\nTHREAD i\n", NULL);
}

// Threads share the rows of a mean of losses, in pieces where they are many; two loops become one.
TEST(heuristic_shares_a_sum_of_rows) {
    static const char *const loss =
        "kernel loss\nout y f32[1]\nin x f32[24000]\nin t i32[600]\n"
        "let m over k<600 = (reduce max l<40 x[40*k + l])\nlet at in 0..39 over k<600 = "
        "(cast:i64 t[k])\ny[0] = (reduce add k<600 (add (add (log2 (reduce add n<40 (exp2 (add "
        "x[40*k + n] (mul m -1))))) m) (mul x[40*k + at if (cmplt at @i64(40))] -1)))\n";
    check_heuristic(loss, "SPLIT k 3 guard\nRFACTOR k0 in shared\nTHREAD k0\nSPLIT ", NULL);
    check_heuristic("kernel squares\nout y f32[1]\nin x f32[24000]\ny[0] = (reduce add i<2 k<120 "
                    "(exp2 (reduce max l<100 x[12000*i + 100*k + l])))\n",
                    "FUSE i k\nRFACTOR i_k in shared\nTHREAD i_k\n", NULL);
    check_heuristic("kernel mean\nout y f32[1]\nin x f32[24000]\nlet m over i<200 = (mul (reduce "
                    "add l<120 x[120*i + l]) -0.0078125)\n"
                    "y[0] = (reduce add i<200 k<120 (mul (add x[120*i + k] m) x[120*i + k]))\n",
                    "RFACTOR i in shared\nTHREAD i\nSPLIT l ", NULL);
}
