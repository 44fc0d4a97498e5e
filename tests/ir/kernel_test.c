/* The kernel dialect: text both ways, what the verifier refuses, rebuilding. */
#include "kernel_eval.h"
#include "test.h"

static const char *const files[] = {"attention", "matmul", "q4_1_matvec", "rmsnorm_matmul"};

static Kernel *parse(Arena *arena, const char *text) {
    Kernel *kernel = kernel_parse(arena, "test", text);
    kernel_verify(kernel);
    return kernel;
}

// `text` is already as it is printed.
static void check_same(const char *text) {
    Arena *arena = arena_new();
    CHECK_TEXT(kernel_print(arena, parse(arena, text)), text);
    arena_free(arena);
}

static void check_parse_refused(const char *text, const char *message) {
    Arena *arena = arena_new();
    CHECK_FATAL_TEXT(kernel_parse(arena, "test", text), message);
    arena_free(arena);
}

static void check_verify_refused(const char *text, const char *message) {
    Arena *arena = arena_new();
    Kernel *kernel = kernel_parse(arena, "test", text);
    CHECK_FATAL_TEXT(kernel_verify(kernel), message);
    arena_free(arena);
}

// ---- text --------------------------------------------------------------------------------------

TEST(files_survive_printing) {
    for (int i = 0; i < COUNT_OF(files); i++) {
        Arena *arena = arena_new();
        char *text =
            file_read(arena, arena_print(arena, "tests/kernels/%s.kernel", files[i]), NULL);
        CHECK(text != NULL);
        char *printed = kernel_print(arena, parse(arena, text));
        CHECK_TEXT(kernel_print(arena, parse(arena, printed)), printed);
        arena_free(arena);
    }
}

TEST(constants_of_every_kind) {
    check_same("kernel t\nout y f32[8]\nout z i64[2]\nout b bool[2]\nout h f16[1]\n"
               "y[0] = 2\ny[1] = 1.5\ny[2] = -0.1\ny[3] = inf\ny[4] = -inf\ny[5] = nan\n"
               "y[6] = -0.0\ny[7] = 1e-30\n"
               "z[0] = 9007199254740993:i64\nz[1] = -9223372036854775808:i64\n"
               "b[0] = true:bool\nb[1] = false:bool\nh[0] = 0.5:f16\n");
}

TEST(heads_and_loops_of_every_kind) {
    check_same("kernel t\nvar n 1..64\nin x f32[64]\nout y f32[64]\ninout z f32[64]\n"
               "register r f32[16]\nown o f32[64]\nshared s f32[64]\n"
               "thread for i < (n + 15)/16 {\n"
               "  unroll for u < 2 {\n"
               "    unroll 4 for j < 8, n - 16*i - 8*u {\n"
               "      s[16*i + 8*u + j] = x[16*i + 8*u + j]\n"
               "    }\n"
               "  }\n"
               "}\n"
               "barrier\n"
               "vector for v < 16 {\n"
               "  init r[v] = 0\n"
               "  o[v] = r[v]\n"
               "  y[v] = s[v] when (cmplt @i32(v) @i32(n))\n"
               "  update z[v] = (add z[v] x[v])\n"
               "}\n");
}

TEST(buffers_may_be_called_out) { check_same("kernel t\nout out f32[1]\nout[0] = 1\n"); }

TEST(lets_name_what_is_used_twice) {
    check_same("kernel t\nin x f32[8]\nout y f32[8]\n"
               "for i < 8 {\n"
               "  let t1 = (add x[i] 1)\n"
               "  let t2 = (mul t1 t1)\n"
               "  y[i] = (add t2 (recip t2))\n"
               "}\n");
}

TEST(lets_name_values_in_indices) {
    check_same("kernel t\nin ids i32[8]\nin x f32[64]\nout y f32[8]\n"
               "for i < 8 {\n"
               "  let t1 in 0..7 = (cast:i64 (and ids[i] 7:i32))\n"
               "  y[i] = x[8*t1 + i]\n"
               "}\n");
}

TEST(lets_reach_into_a_reduce) {
    check_same("kernel t\nvar n 1..8\nin x f32[64]\nout y f32[8]\n"
               "for i < 8 {\n"
               "  let t1 over k<(8*n) = (add x[k] 1)\n"
               "  y[i] = (reduce add k<(8*n) (mul t1 t1))\n"
               "}\n");
}

// Terms by falling scale: the text does not show in which order indices were made.
TEST(indices_read_as_row_major) {
    Arena *arena = arena_new();
    Kernel *kernel = parse(arena, "kernel t\nin x f32[24]\nout y f32[24]\n"
                                  "for j < 2 { for i < 3 { for k < 4 {"
                                  " y[k + 4*j + 8*i] = x[4*j + 8*i + k] } } }");
    CHECK_TEXT(kernel_print(arena, kernel), "kernel t\nin x f32[24]\nout y f32[24]\n"
                                            "for j < 2 {\n"
                                            "  for i < 3 {\n"
                                            "    for k < 4 {\n"
                                            "      y[8*i + 4*j + k] = x[8*i + 4*j + k]\n"
                                            "    }\n"
                                            "  }\n"
                                            "}\n");
    arena_free(arena);
}

TEST(text_is_refused_with_its_place) {
    check_parse_refused("kernel t\nout y f32[1]\nz[0] = 1\n", "test:3:2: no buffer 'z'");
    check_parse_refused("kernel t\nout y f32[1]\ny[k] = 1\n", "no loop, VAR or let 'k'");
    check_parse_refused("kernel t\nout y f32[1]\ny[0] = (twist 1)\n", "no op 'twist'");
    check_parse_refused("kernel t\nout y f99[1]\n", "no dtype 'f99'");
    check_parse_refused("kernel t\nout y f32[-1]\n", "negative size");
    check_parse_refused("kernel t\nout y f32[1]\nout y f32[1]\n", "'y' is there already");
    check_parse_refused("kernel t\nout y f32[4]\nfor y < 4 { y[0] = 1 }", "'y' is there already");
    check_parse_refused("kernel t\nout y f32[4]\nfor i < 4 { y[i] = 1", "expected '}'");
    check_parse_refused("kernel t\nout y f32[4]\n}\n", "expected a statement");
    check_parse_refused("kernel t\nvar n 4..1\n", "empty interval");
    check_parse_refused("kernel t\nin x i32[4]\nout y f32[4]\n"
                        "let a = (cast:i64 x[0])\ny[a] = 1\n",
                        "'a' has no interval");
    check_parse_refused("kernel t\nin x f32[4]\nout y f32[4]\n"
                        "y[0] = (add (reduce add k<4 x[k]) (reduce add k<3 x[k]))",
                        "loop 'k' had another extent before");
}

// ---- verify ------------------------------------------------------------------------------------

TEST(indices_stay_inside_buffers) {
    check_verify_refused("kernel t\nout y f32[7]\nfor i < 8 { y[i] = 1 }",
                         "y is indexed from 0 to 7, it has 7 elements");
    check_verify_refused("kernel t\nin x f32[8]\nout y f32[8]\nfor i < 8 { y[i] = x[i - 1] }",
                         "x is indexed from -1 to 6");
    check_verify_refused("kernel t\nout y f32[99]\nfor i < 4 { for j < 32, 101 - 32*i {"
                         " y[32*i + j] = 1 } }",
                         "y is indexed from 0 to 100");
}

TEST(limits_and_conditions_are_bounds) {
    Arena *arena = arena_new();
    parse(arena, "kernel t\nout y f32[100]\nfor i < 4 { for j < 32, 100 - 32*i {"
                 " y[32*i + j] = 1 } }");
    parse(arena, "kernel t\nvar n 1..40\nin x f32[80]\nout y f32[40]\n"
                 "for i < (n + 7)/8 { for j < 8 {"
                 " y[8*i + j] = x[16*i + 2*j + 1 if (cmplt @i32(8*i + j) @i32(n))]"
                 " when (cmplt @i32(8*i + j) @i32(n)) } }");
    // A loop without iterations touches nothing.
    parse(arena, "kernel t\nout y f32[1]\nfor i < 0 { y[i + 5] = 1 }");
    arena_free(arena);
}

TEST(stores_are_checked) {
    check_verify_refused("kernel t\nin x f32[1]\nx[0] = 1", "stores in an input");
    check_verify_refused("kernel t\nout y i32[1]\ny[0] = 1", "stores f32 in a buffer of i32");
    check_verify_refused("kernel t\nout y f32[1]\ny[0] = 1 when 1:i32",
                         "its condition is not a bool");
    check_verify_refused("kernel t\nout y f32[1]\nupdate y[0] = 1",
                         "an update reads what it updates");
    check_verify_refused("kernel t\nout y f32[1]\ninit y[0] = (add y[0] 1)",
                         "an init reads what it initialises");
    check_verify_refused("kernel t\nout y f32[1]\nregister s f32[1]\nin x f32[1]\ny[0] = x[0]",
                         "the PARAM x comes after a local buffer");
    check_verify_refused("kernel t\nout y f32[1]\nregister s f32[8] streams\ny[0] = 1",
                         "s streams, but it is no result");
    check_verify_refused("kernel t\nin x f32[1] streams\nout y f32[1]\ny[0] = x[0]",
                         "x streams, but it is no result");
}

TEST(loops_are_checked) {
    check_verify_refused("kernel t\nout y f32[4]\nfor i < 4 { y[i] = 1 } y[i] = 1",
                         "loop i is not around it");
    check_verify_refused("kernel t\nout y f32[4]\n"
                         "for i < 4 { y[i] = 1 } for j < 4, 4 - i { y[j] = 1 }",
                         "loop i is not around it");
    check_verify_refused("kernel t\nout y f32[4]\nfor i < 4 { }", "an empty loop");
    check_verify_refused("kernel t\nout y f32[6]\nvector for i < 6 { y[i] = 1 }", "power of two");
    check_verify_refused(
        "kernel t\nout y f32[8]\nvector for i < 2 { for j < 4 { y[4*i + j] = 1 } }",
        "the vector loop i is not innermost");
    check_verify_refused("kernel t\nout y f32[8]\n"
                         "thread for i < 2 { thread for j < 4 { y[4*i + j] = 1 } }",
                         "inside the thread loop i");
    check_verify_refused("kernel t\nin x f32[4]\nout y f32[4]\n"
                         "for k < 4 { y[k] = (reduce add k<4 x[k]) }",
                         "loop k is run by a statement and by a reduce");
}

TEST(threads_do_not_meet) {
    check_verify_refused("kernel t\nout y f32[4]\nthread for i < 4 { y[0] = 1 }",
                         "all threads of loop i write the same element");
    check_verify_refused("kernel t\nout y f32[4]\nregister s f32[4]\n"
                         "thread for i < 4 { s[i] = 1 } for j < 4 { y[j] = s[j] }",
                         "s is written in a thread loop and used outside");
}

// ---- rebuilding --------------------------------------------------------------------------------

TEST(a_copy_has_loops_of_its_own) {
    Arena *arena = arena_new();
    Kernel *kernel = parse(arena, "kernel t\nin x f32[8]\nout y f32[8]\n"
                                  "for i < 2 { for j < 4 { y[4*i + j] = x[4*i + j] } }");
    Substitution *by = substitution_new(arena, kernel);
    Statement *copy = statement_copy(kernel, kernel->body, "_copy", by);
    kernel->body->next = copy;
    kernel_verify(kernel);
    CHECK_TEXT(kernel_print(arena, kernel), "kernel t\nin x f32[8]\nout y f32[8]\n"
                                            "for i < 2 {\n"
                                            "  for j < 4 {\n"
                                            "    y[4*i + j] = x[4*i + j]\n"
                                            "  }\n"
                                            "}\n"
                                            "for i_copy < 2 {\n"
                                            "  for j_copy < 4 {\n"
                                            "    y[4*i_copy + j_copy] = x[4*i_copy + j_copy]\n"
                                            "  }\n"
                                            "}\n");
    arena_free(arena);
}

TEST(substitution_reaches_into_gathers) {
    Arena *arena = arena_new();
    Kernel *kernel = parse(arena, "kernel t\nin ids i32[8]\nin x f32[8]\nout y f32[8]\n"
                                  "for i < 4 { for j < 2 {\n"
                                  "let r in 0..7 = (cast:i64 (and ids[i] 7:i32)) y[i] = x[r] } }");
    Substitution *by = substitution_new(arena, kernel);
    int32_t i = kernel_find_loop(kernel, "i"), j = kernel_find_loop(kernel, "j");
    by->loop[i] =
        index_add(graph_indices(kernel->graph), kernel_loop_index(kernel, i),
                  index_scale(graph_indices(kernel->graph), kernel_loop_index(kernel, j), 4));
    Statement *store = kernel->body->body->body;
    statement_substitute(kernel, store, by);
    CHECK_TEXT(strstr(kernel_print(arena, kernel), "    let"),
               "    let t1 in 0..7 = (cast:i64 (and ids[4*j + i] 7:i32))\n"
               "    y[4*j + i] = x[t1]\n  }\n}\n");
    LoopSet loops = kernel_loops_of(kernel, store->value);
    CHECK(loop_set_has(&loops, i) && loop_set_has(&loops, j));
    arena_free(arena);
}

TEST(what_a_value_is_made_of) {
    Arena *arena = arena_new();
    Kernel *kernel =
        parse(arena, "kernel t\nin ids i32[8]\nin x f32[8]\nin z f32[8]\nout y f32[8]\n"
                     "for i < 4 { for j < 2 {\n"
                     "let r in 0..7 = (cast:i64 (and ids[i] 7:i32)) y[i] = x[r] } }");
    Id value = kernel->body->body->body->value;
    const char *const read[] = {"ids", "x"}, *const others[] = {"z", "y"};
    for (int i = 0; i < 2; i++) {
        CHECK(kernel_value_reads(kernel, value, kernel_find_buffer(kernel, read[i])));
        CHECK(!kernel_value_reads(kernel, value, kernel_find_buffer(kernel, others[i])));
    }
    IdList nodes = kernel_nodes(arena, kernel, value);
    for (int i = 0; i < nodes.count; i++) CHECK(kernel_value_has(kernel, value, nodes.at[i]));
    CHECK(!kernel_value_has(kernel, nodes.at[0], value));
    LoopSet i = {0}, both = {0};
    loop_set_add(&i, 64);
    CHECK(!loop_set_meets(i, both));
    loop_set_add(&both, 1);
    CHECK(!loop_set_meets(i, both));
    loop_set_add(&both, 64);
    CHECK(loop_set_meets(i, both));
    arena_free(arena);
}

// Transforms ask again and again: a question costs what the value is made of, not what the kernel's
// graph holds.
TEST(what_a_value_is_made_of_is_found_in_little_memory) {
    Arena *arena = arena_new(), *scratch = arena_new();
    Kernel *kernel = kernel_parse(arena, "t",
                                  "kernel t\nin a f32[8]\nout b f32[8]\n"
                                  "for i < 8 {\n  b[i] = (add a[i] 1)\n}\n");
    Id value = kernel->body->body->value;
    for (int i = 0; i < 6400; i++) node_const_int(kernel->graph, DT_I64, (Shape){0}, i);
    CHECK_INT(kernel_nodes(scratch, kernel, value).count, 3);
    CHECK(arena_bytes(scratch) <= 6400 / 8 + 64);
    arena_free(scratch);
    arena_free(arena);
}

TEST(names_stay_apart) {
    Arena *arena = arena_new();
    Kernel *kernel = kernel_new(arena, "t");
    int32_t a = kernel_loop(kernel, "k", 4), b = kernel_loop(kernel, "k", 4);
    int32_t c = kernel_buffer(kernel, "k", DT_F32, SPACE_PARAM, 1, true);
    CHECK_TEXT(kernel->loops.at[a].name, "k");
    CHECK_TEXT(kernel->loops.at[b].name, "k_2");
    CHECK_TEXT(kernel->buffers.at[c].name, "k_3");
    int32_t d = kernel_buffer(kernel, "for", DT_F32, SPACE_PARAM, 1, true);
    CHECK_TEXT(kernel->buffers.at[d].name, "for_2");
    arena_free(arena);
}

// ---- the four kernels beside plain loops -------------------------------------------------------

TEST(the_hand_written_matmul_is_right) {
    Arena *arena = arena_new();
    Kernel *kernel = parse(arena, file_read(arena, "tests/kernels/matmul.kernel", NULL));
    float *a = arena_array(arena, float, 6144), *b = arena_array(arena, float, 7680);
    float *bias = arena_array(arena, float, 80), *c = arena_array(arena, float, 5120);
    for (int i = 0; i < 6144; i++) a[i] = (float)(i * 7 % 17 - 8) / 16;
    for (int i = 0; i < 7680; i++) b[i] = (float)(i * 5 % 13 - 6) / 16;
    for (int i = 0; i < 80; i++) bias[i] = (float)(i % 9 - 4) / 4;
    kernel_eval(kernel, (void *[]){a, b, bias, c}, NULL);
    for (int i = 0; i < 64; i += 21)
        for (int j = 0; j < 80; j += 13) {
            double sum = (double)bias[j];
            for (int k = 0; k < 96; k++) sum += (double)a[96 * i + k] * (double)b[80 * k + j];
            double e = __builtin_exp2(-2.4554669595930157 * sum);
            CHECK_NEAR((double)c[80 * i + j], sum / (1 + e), 1e-5);
        }
    arena_free(arena);
}

TEST(a_limit_may_be_read_from_memory) {
    static const char text[] = "kernel t\n"
                               "in n i32[4]\n"
                               "out y f32[32]\n"
                               "for i < 4 {\n"
                               "  let t1 in 0..8 = n[i]\n"
                               "  for j < 8, t1 {\n"
                               "    y[8*i + j] = 1\n"
                               "  }\n"
                               "}\n";
    Arena *arena = arena_new();
    Kernel *kernel = kernel_parse(arena, "t", text);
    kernel_verify(kernel);
    CHECK_TEXT(kernel_print(arena, kernel), text);
    arena_free(arena);
}
