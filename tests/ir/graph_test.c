/* graph_test.c - nodes are shared and checked; text and graph are the same thing. */
#include "ir/graph_parse.h"
#include "ir/scalar.h"
#include "test.h"

#include <math.h>
#include <string.h>

#define SHAPE(...) \
    ((Shape){.rank = sizeof((Size[]){__VA_ARGS__}) / sizeof(Size), .size = {__VA_ARGS__}})

static Arena *arena;
static Graph *graph;

static void start(void) {
    arena_free(arena);
    arena = arena_new();
    graph = graph_new(arena);
}

static Id input(DType dtype, Shape shape) { return node_param(graph, dtype, shape, 0); }

static const char *shape_of_node(Id id) { return graph_shape_text(graph, node_shape(graph, id)); }

static Size var_size(const char *name, int64_t low, int64_t high, int64_t plus) {
    IndexTable *table = graph_indices(graph);
    Index var = graph_var_index(graph, graph_var(graph, name, low, high));
    return size_from_index(table, index_add(table, var, index_const(table, plus)));
}

TEST(equal_nodes_are_one) {
    start();
    Id x = input(DT_F32, SHAPE(2, 3)), y = node_param(graph, DT_F32, SHAPE(2, 3), 1);
    CHECK_INT(node_binary(graph, OP_ADD, x, y), node_binary(graph, OP_ADD, x, y));
    CHECK(node_binary(graph, OP_ADD, x, y) != node_binary(graph, OP_ADD, y, x));
    CHECK_INT(node_const_float(graph, DT_F16, SHAPE(1), 1.0001),
              node_const_float(graph, DT_F16, SHAPE(1), 1.0));
    CHECK_INT(node_const_float(graph, DT_F32, SHAPE(1), NAN),
              node_const_float(graph, DT_F32, SHAPE(1), -NAN));
    CHECK(node_const_float(graph, DT_F32, SHAPE(1), 0.0) !=
          node_const_float(graph, DT_F32, SHAPE(1), -0.0));
    CHECK_INT(node_const_int(graph, DT_I8, SHAPE(1), 255),
              node_const_int(graph, DT_I8, SHAPE(1), -1));
}

TEST(elementwise_checks_shapes_and_dtypes) {
    start();
    Id x = input(DT_F32, SHAPE(2, 3)), i = input(DT_I32, SHAPE(2, 3)),
       t = input(DT_F32, SHAPE(3, 2));
    Id less = node_binary(graph, OP_CMPLT, i, i);
    CHECK_INT(node_dtype(graph, less), DT_BOOL);
    CHECK_INT(node_dtype(graph, node_where(graph, less, x, x)), DT_F32);
    CHECK_FATAL_TEXT(node_binary(graph, OP_ADD, x, t), "add: shapes (2, 3) and (3, 2) differ");
    CHECK_FATAL_TEXT(node_binary(graph, OP_ADD, x, i), "source 0 is f32, not i32");
    CHECK_FATAL_TEXT(node_where(graph, x, x, x), "source 0 is f32, not bool");
    CHECK_FATAL_TEXT(node_unary(graph, OP_SQRT, i), "it does not take i32");
    CHECK_FATAL_TEXT(node_binary(graph, OP_MOD, less, less), "it does not take bool");
    CHECK_FATAL_TEXT(node_binary(graph, OP_XOR, x, x), "it does not take f32");
    CHECK_FATAL_TEXT(node_unary(graph, OP_ADD, x), "1 sources");
    CHECK_FATAL_TEXT(graph_node(graph, 999), "not a node");
}

TEST(bitcast_scales_the_last_axis) {
    start();
    Id x = input(DT_U8, SHAPE(2, 12));
    CHECK_TEXT(shape_of_node(node_bitcast(graph, x, DT_F32)), "(2, 3)");
    CHECK_TEXT(shape_of_node(node_bitcast(graph, x, DT_I8)), "(2, 12)");
    CHECK_TEXT(shape_of_node(node_bitcast(graph, input(DT_F16, SHAPE(5)), DT_U8)), "(10)");
    CHECK_FATAL_TEXT(node_bitcast(graph, x, DT_I64), "no whole number of i64");
    CHECK_FATAL_TEXT(node_bitcast(graph, x, DT_BOOL), "compare with 0");
    CHECK_FATAL_TEXT(node_bitcast(graph, input(DT_F32, SHAPE()), DT_U8), "no whole number");
}

TEST(reshape_keeps_symbolic_axes_whole) {
    start();
    Size n = var_size("n", 1, 9, 0);
    Id x = input(DT_F32, SHAPE(2, 3, n, 4));
    CHECK_TEXT(shape_of_node(node_reshape(graph, x, SHAPE(6, n, 2, 2))), "(6, n, 2, 2)");
    CHECK_TEXT(shape_of_node(node_reshape(graph, x, SHAPE(3, 2, n, 1, 4))), "(3, 2, n, 1, 4)");
    CHECK_FATAL_TEXT(node_reshape(graph, x, SHAPE(2, 3, 4, n)), "stays whole");
    CHECK_FATAL_TEXT(node_reshape(graph, x, SHAPE(6, var_size("m", 1, 9, 0), 4)), "(6, m, 4)");
    CHECK_FATAL_TEXT(node_reshape(graph, input(DT_F32, SHAPE(2, 3)), SHAPE(5)),
                     "(2, 3) does not become (5)");
    CHECK_FATAL_TEXT(node_reshape(graph, x, SHAPE((Size)1 << 40, (Size)1 << 40)), "more than 2^63");
}

TEST(movement_checks_its_arguments) {
    start();
    Id x = input(DT_F32, SHAPE(2, 3));
    CHECK_TEXT(shape_of_node(node_permute(graph, x, (int[]){1, 0})), "(3, 2)");
    CHECK_FATAL_TEXT(node_permute(graph, x, (int[]){1, 1}), "named twice");
    CHECK_FATAL_TEXT(node_permute(graph, x, (int[]){1, 2}), "no axis 2");
    CHECK_FATAL_TEXT(node_expand(graph, x, SHAPE(2, 6)), "only axes of size 1");
    CHECK_TEXT(shape_of_node(node_pad(graph, x, (Size[]){1, 0}, (Size[]){0, 2})), "(3, 5)");
    CHECK_FATAL_TEXT(node_pad(graph, x, (Size[]){-1, 0}, (Size[]){0, 0}), "by less than 0");
    CHECK_TEXT(shape_of_node(node_shrink(graph, x, (Size[]){1, 1}, (Size[]){1, 2})), "(1, 2)");
    CHECK_FATAL_TEXT(node_shrink(graph, x, (Size[]){1, 1}, (Size[]){1, 3}),
                     "a box of (1, 3) at (1, 1) is not inside (2, 3)");
    CHECK_FATAL_TEXT(node_flip(graph, x, 4), "not all in (2, 3)");
    CHECK_FATAL_TEXT(node_reduce(graph, OP_ADD, x, 4), "not all in (2, 3)");
    CHECK_FATAL_TEXT(node_reduce(graph, OP_XOR, x, 1), "add, max or mul");
    CHECK_FATAL_TEXT(node_scan(graph, OP_ADD, x, 2), "no axis 2");
}

TEST(window_counts_positions) {
    start();
    Id x = input(DT_F32, SHAPE(9, 4));
    CHECK_TEXT(shape_of_node(node_window(graph, x, 0, 3, 2, 1)), "(4, 4, 3)");
    CHECK_TEXT(shape_of_node(node_window(graph, x, 0, 3, 1, 4)), "(1, 4, 3)");
    CHECK_FATAL_TEXT(node_window(graph, x, 1, 5, 1, 1), "pad first");
    CHECK_FATAL_TEXT(node_window(graph, x, 1, 2, 0, 1), "1 or more");
    Id y = input(DT_F32, SHAPE(var_size("n", 2, 9, 1)));
    CHECK_TEXT(shape_of_node(node_window(graph, y, 0, 2, 1, 2)), "(n - 1, 2)");
    CHECK_FATAL_TEXT(node_window(graph, y, 0, 2, 1, 3), "pad first");
}

TEST(symbolic_slices_are_proved) {
    start();
    Size keys = var_size("position", 0, 4095, 1);
    Id cache = node_buffer(graph, DT_F16, SHAPE(4096, 64), 7, 0);
    Id seen = node_shrink(graph, cache, (Size[]){0, 0}, (Size[]){keys, 64});
    CHECK_TEXT(shape_of_node(seen), "(position + 1, 64)");
    Size past = var_size("position", 0, 4095, 2);
    CHECK_FATAL_TEXT(node_shrink(graph, cache, (Size[]){0, 0}, (Size[]){past, 64}),
                     "is not inside");
}

TEST(gather_and_scatter_fit) {
    start();
    Id x = input(DT_F32, SHAPE(5, 3)), wide = input(DT_I64, SHAPE(7, 2)), values;
    CHECK_TEXT(shape_of_node(node_gather(graph, x, wide, 0)), "(7, 2)");
    CHECK_FATAL_TEXT(node_gather(graph, x, wide, 1), "do not fit");
    CHECK_FATAL_TEXT(node_gather(graph, x, x, 1), "its indices are f32");
    values = input(DT_F32, SHAPE(7, 2));
    CHECK_TEXT(shape_of_node(node_scatter_add(graph, x, wide, values, 0)), "(5, 3)");
    CHECK_FATAL_TEXT(node_scatter_add(graph, x, wide, x, 0), "(7, 2) and (5, 3) differ");
    CHECK_FATAL_TEXT(node_scatter_add(graph, x, wide, wide, 0), "i64 into f32");
}

TEST(assign_gives_the_whole_buffer) {
    start();
    Id buffer = node_buffer(graph, DT_F32, SHAPE(4, 4), 3, 0);
    Id row = node_shrink(graph, buffer, (Size[]){1, 0}, (Size[]){1, 4});
    Id after = node_assign(graph, row, input(DT_F32, SHAPE(1, 4)), 3, 1);
    CHECK_TEXT(shape_of_node(after), "(4, 4)");
    CHECK_TEXT(shape_of_node(node_assign(graph, after, buffer, 3, 2)), "(4, 4)");
    Id wide = node_expand(graph, row, SHAPE(4, 4));
    CHECK_FATAL_TEXT(node_assign(graph, wide, buffer, 3, 1), "through expand");
    Id sum = node_binary(graph, OP_ADD, buffer, buffer);
    CHECK_FATAL_TEXT(node_assign(graph, sum, buffer, 3, 1), "add has no memory");
}

TEST(sizes_become_values) {
    start();
    IndexTable *table = graph_indices(graph);
    Index n = graph_var_index(graph, graph_var(graph, "n", 0, 9));
    Index size =
        index_add(table, index_scale(table, index_div(table, n, 4), 2), index_const(table, 1));
    Id value = node_size(graph, size_from_index(table, size));
    CHECK_TEXT(graph_print(arena, graph, 1, &value), "var n 0..9\n"
                                                     "%0 = const{1} i64 ()\n"
                                                     "%1 = var{n} i64 ()\n"
                                                     "%2 = const{4} i64 ()\n"
                                                     "%3 = idiv i64 () %1 %2\n"
                                                     "%4 = const{2} i64 ()\n"
                                                     "%5 = mul i64 () %3 %4\n"
                                                     "%6 = add i64 () %5 %0\n"
                                                     "out %6\n");
}

// One line of every kind of argument; what the parser and the printer agree on.
static const char *const everything =
    "var n 1..9\n"
    "var position 0..4095\n"
    "%0 = const{0.1} f32 (2, 3)\n"
    "%1 = const{-0.0} f16 ()\n"
    "%2 = const{-inf} bf16 ()\n"
    "%3 = const{nan} f32 ()\n"
    "%4 = const{-9223372036854775808} i64 (2)\n"
    "%5 = buffer{12, 1} f32 (2, 3)\n"
    "%6 = param{3} f32 (n, 2, 3)\n"
    "%7 = var{position} i64 ()\n"
    "%8 = iota{1} i32 (2, 3)\n"
    "%9 = reshape f32 (n, 6) %6\n"
    "%10 = permute{1, 0} f32 (3, 2) %0\n"
    "%11 = pad{(position, 0, 0), (0, 1, 1)} f32 (n + position, 3, 4) %6\n"
    "%12 = shrink{(0, 1)} f32 (2, 2) %0\n"
    "%13 = flip{0, 1} f32 (2, 3) %0\n"
    "%14 = window{1, 2, 1, 2} f32 (2, 1, 2) %0\n"
    "%15 = reduce{add, 0, 2} f32 (1, 2, 1) %6\n"
    "%16 = reduce{max} f32 (2, 3) %0\n"
    "%17 = scan{mul, 1} f32 (2, 3) %0\n"
    "%18 = gather{0} f32 (2, 3) %0 %8\n"
    "%19 = scatter_add{1} f32 (2, 3) %0 %8 %5\n"
    "%20 = assign{12, 2} f32 (2, 3) %5 %0\n"
    "%21 = cast bool (2, 3) %0\n"
    "%22 = where f32 (2, 3) %21 %0 %5\n"
    "%23 = fma f32 (2, 3) %0 %0 %5\n"
    "%24 = withgrad f32 (2, 3) %0 %5\n"
    "out %24 %1 %2 %3 %4 %7 %9 %10 %11 %12 %13 %14 %15 %16 %17 %18 "
    "%19 %20 %22 %23 %22\n";

TEST(text_and_graph_agree) {
    start();
    GraphProgram program = graph_parse(arena, "everything", everything);
    graph_verify(program.graph, program.outputs, program.output);
    CHECK_TEXT(graph_print(arena, program.graph, program.outputs, program.output), everything);
}

TEST(printing_leaves_out_what_no_output_needs) {
    start();
    Id x = input(DT_F32, SHAPE(2));
    node_unary(graph, OP_SIN, x);
    Id root = node_unary(graph, OP_SQRT, x);
    CHECK_TEXT(graph_print(arena, graph, 1, &root),
               "%0 = param{0} f32 (2)\n%1 = sqrt f32 (2) %0\nout %1\n");
}

static void parse(const char *text) { graph_parse(arena, "test", text); }

TEST(bad_text_says_where) {
    start();
    CHECK_FATAL_TEXT(parse("%0 = param{0} f32 (2)\n%1 = sqrt f32 (3) %0\nout %1"),
                     "sqrt: it gives f32 (2), not f32 (3)");
    CHECK_FATAL_TEXT(parse("%0 = param{0} f32 (2)\n%1 = squrt f32 (2) %0"), "test:2:");
    CHECK_FATAL_TEXT(parse("%0 = sqrt f32 (2) %0"), "%0 has no line before");
    CHECK_FATAL_TEXT(parse("%1 = param{0} f32 (2)"), "expected the node %0");
    CHECK_FATAL_TEXT(parse("%0 = param{0} f32 (m)"), "declares the var 'm'");
    CHECK_FATAL_TEXT(parse("%0 = param f32 (2)"), "expected '{'");
    CHECK_FATAL_TEXT(parse("%0 = param{0} f31 (2)"), "dtype is not known");
    CHECK_FATAL_TEXT(parse("%0 = param{0} f32 (-2)"), "may be negative");
    CHECK_FATAL_TEXT(parse("%0 = param{0} f32 (1, 1, 1, 1, 1, 1, 1, 1, 1)"), "more than 8 axes");
    CHECK_FATAL_TEXT(parse("%0 = load f32 ()"), "no op of a tensor graph");
    CHECK_FATAL_TEXT(parse("%0 = const{1} f32 ()\nout %0 junk"), "nothing behind");
    CHECK_FATAL_TEXT(parse("var n 3..1\nout"), "is empty");
    CHECK_FATAL_TEXT(parse("var n 1..3\nvar n 1..4\nout"), "one name, one interval");
    CHECK_FATAL_TEXT(parse("%0 = const{1} f32 (2)\n%1 = flip{9} f32 (2) %0"), "axis 9");
    CHECK_FATAL_TEXT(parse("%0 = const{1} f32 (2)\n%1 = permute{0, 1} f32 (2) %0"),
                     "argument words");
    CHECK_FATAL_TEXT(parse("%0 = const{1} i32 (2)\n%1 = reduce{cmplt, 0} i32 (1) %0"),
                     "add, max or mul");
}

TEST(rebuilding_translates_vars_and_sizes) {
    start();
    GraphProgram program = graph_parse(arena, "everything", everything);
    graph_var(graph, "position", 0, 4095);  // another number here than there
    Id *map = arena_array(arena, Id, graph_count(program.graph));
    for (Id id = 0; id < graph_count(program.graph); id++)
        map[id] = node_rebuild(graph, program.graph, id, map);
    Id *output = arena_array(arena, Id, program.outputs);
    for (int i = 0; i < program.outputs; i++) output[i] = map[program.output[i]];
    const char *text = graph_print(arena, graph, program.outputs, output);
    CHECK(strncmp(text, "var position 0..4095\nvar n 1..9\n", 32) == 0);
    CHECK(strstr(text, "pad{(position, 0, 0), (0, 1, 1)} f32 ("));
    CHECK(strstr(text, "%7 = var{position} i64 ()"));
    graph_verify(graph, program.outputs, output);
}

TEST(half_floats_round_to_nearest_even) {
    for (uint32_t bits = 0; bits < 65536; bits++) {
        float value = f16_widen((uint16_t)bits), brain = bf16_widen((uint16_t)bits);
        if (value == value) CHECK_INT(f16_round(value), bits);
        if (value != value) CHECK(f16_widen(f16_round(value)) != f16_widen(f16_round(value)));
        if (brain == brain) CHECK_INT(bf16_round(brain), bits);
        float next = f16_widen((uint16_t)(bits + 1)), middle = value / 2 + next / 2;
        if (isfinite(value) && isfinite(next)) CHECK_INT(f16_round(middle) & 1, 0);
    }
    CHECK_INT(f16_round(65519), 0x7bff);
    CHECK_INT(f16_round(65520), 0x7c00);
    CHECK_INT(f16_round(0x1p-25f), 0);
    CHECK_INT(f16_round(0x1.01p-25f), 1);
    CHECK_INT(bf16_round(0x1.01p0f), 0x3f80);
    CHECK_INT(bf16_round(0x1.03p0f), 0x3f82);
    CHECK_INT(bf16_round(0x1.ffffp127f), 0x7f80);
}

static int64_t integer(Op op, DType dtype, int64_t x, int64_t y) {
    return scalar_apply(op, dtype, (Scalar){.integer = x}, (Scalar){.integer = y}, (Scalar){0})
        .integer;
}

static float real(Op op, float x, float y) {
    return scalar_apply(op, DT_F32, (Scalar){.real = x}, (Scalar){.real = y}, (Scalar){0}).real;
}

TEST(integers_wrap_and_round_down) {
    CHECK_INT(integer(OP_ADD, DT_I8, 127, 1), -128);
    CHECK_INT(integer(OP_MUL, DT_U16, 65535, 65535), 1);
    CHECK_INT(integer(OP_MUL, DT_I64, INT64_MIN, -1), INT64_MIN);
    CHECK_INT(integer(OP_ADD, DT_BOOL, 1, 1), 1);
    CHECK_INT(integer(OP_IDIV, DT_I32, -7, 2), -4);
    CHECK_INT(integer(OP_MOD, DT_I32, -7, 2), 1);
    CHECK_INT(integer(OP_MOD, DT_I32, 7, -2), -1);
    CHECK_INT(integer(OP_IDIV, DT_I32, INT32_MIN, -1), INT32_MIN);
    CHECK_INT(integer(OP_IDIV, DT_I64, INT64_MIN, -1), INT64_MIN);
    CHECK_INT(integer(OP_IDIV, DT_I32, 7, 0), 0);
    CHECK_INT(integer(OP_MOD, DT_I32, 7, 0), 0);
    CHECK_INT(integer(OP_SHL, DT_I32, 1, 33), 2);
    CHECK_INT(integer(OP_SHR, DT_I32, -8, 1), -4);
    CHECK_INT(integer(OP_SHR, DT_U32, 4294967288, 1), 2147483644);
    CHECK_INT(integer(OP_CMPLT, DT_U8, 255, 0), 0);
}

TEST(floats_follow_ieee) {
    CHECK(isnan(real(OP_MAX, NAN, 1)) && isnan(real(OP_MAX, 1, NAN)));
    CHECK_INT(
        scalar_apply(OP_CMPNE, DT_F32, (Scalar){.real = NAN}, (Scalar){.real = NAN}, (Scalar){0})
            .integer,
        1);
    CHECK_NEAR(real(OP_TRUNC, -1.7f, 0), -1, 0);
    Scalar one = {.integer = 1}, half = {.real = 0.5f}, two = {.real = 2};
    CHECK_NEAR(scalar_apply(OP_WHERE, DT_F32, one, half, two).real, 0.5, 0);
    CHECK_NEAR(scalar_apply(OP_FMA, DT_F16, two, half, (Scalar){.real = 4095}).real, 4096, 0);
}

TEST(casts_saturate) {
    CHECK_INT(scalar_cast((Scalar){.real = 300}, DT_F32, DT_U8).integer, 255);
    CHECK_INT(scalar_cast((Scalar){.real = -0.9f}, DT_F32, DT_U8).integer, 0);
    CHECK_INT(scalar_cast((Scalar){.real = -1e30f}, DT_F32, DT_I32).integer, INT32_MIN);
    CHECK_INT(scalar_cast((Scalar){.real = INFINITY}, DT_F32, DT_I64).integer, INT64_MAX);
    CHECK_INT(scalar_cast((Scalar){.real = NAN}, DT_F32, DT_I32).integer, 0);
    CHECK_INT(scalar_cast((Scalar){.real = NAN}, DT_F32, DT_BOOL).integer, 1);
    CHECK_INT(scalar_cast((Scalar){.integer = 511}, DT_I32, DT_I8).integer, -1);
    CHECK_INT(scalar_cast((Scalar){.integer = 256}, DT_I32, DT_BOOL).integer, 1);
    CHECK_NEAR(scalar_cast((Scalar){.real = 70000}, DT_F32, DT_F16).real, INFINITY, 0);
}
