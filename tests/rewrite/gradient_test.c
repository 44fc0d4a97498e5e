/* gradient_test.c - gradients against finite differences, first and second, for every op. */
#include "ir/graph_parse.h"
#include "leaves.h"
#include "rewrite/rewrite.h"
#include "test.h"

#include <math.h>
#include <string.h>

enum { PARAMS = 3, ELEMENTS = 64 };
static float memory[PARAMS][ELEMENTS];

static void *const rows[PARAMS] = {memory[0], memory[1], memory[2]};
static const Binding binding = BINDING_TO(rows);

static int elements(const Graph *graph, Id id) {
    CHECK(elements_of(graph, id) <= ELEMENTS);
    return (int)elements_of(graph, id);
}

static void run(const Graph *graph, Id id, float *to) {
    CHECK_INT(node_dtype(graph, id), DT_F32);
    reference_run(graph, id, &binding, to);
}

static float weight(int i) { return (float)((7 * i) % 11 - 5) / 8; }

static double loss_of(const Graph *graph, Id output) {
    float value[ELEMENTS];
    double sum = 0;
    run(graph, output, value);
    for (int i = 0; i < elements(graph, output); i++) sum += (double)value[i] * (double)weight(i);
    return sum;
}

static double difference(const Graph *graph, Id output, float *at) {
    float step = 0x1p-6f, old = *at;
    double slope[2];
    for (int i = 0; i < 2; i++, step /= 2) {
        *at = old + step;
        double above = loss_of(graph, output);
        *at = old - step;
        slope[i] = (above - loss_of(graph, output)) / (2 * (double)step);
    }
    *at = old;
    return (4 * slope[1] - slope[0]) / 3;  // the step's square cancels
}

// A node with the weights of the loss.
static Id weights(Graph *graph, Id like) {
    Shape shape = node_shape(graph, like);
    Id sum = node_const_float(graph, DT_F32, shape, 0);
    Id index = node_const_int(graph, DT_I64, shape, 0);
    for (int axis = 0; axis < shape.rank; axis++) {
        int64_t size = size_is_symbolic(shape.size[axis]) ? 3 : shape.size[axis];
        index = node_binary(graph, OP_MUL, index, node_const_int(graph, DT_I64, shape, size));
        index = node_binary(graph, OP_ADD, index, node_iota(graph, DT_I64, shape, axis));
    }
    for (int i = 0; i < elements(graph, like); i++) {
        Id other = node_binary(graph, OP_CMPNE, index, node_const_int(graph, DT_I64, shape, i));
        sum = node_where(graph, other, sum,
                         node_const_float(graph, DT_F32, shape, (double)weight(i)));
    }
    return sum;
}

// Gradients of `output` by the params against differences; their ids go to `slope`.
static void check_slopes(const char *text, Graph *graph, Id output, int count, const Id *wrt,
                         Id *slope) {
    gradient(graph, output, weights(graph, output), count, wrt, slope);
    graph_verify(graph, count, slope);
    for (int p = 0; p < count; p++) {
        float got[ELEMENTS];
        float *at = memory[graph_node(graph, wrt[p])->arg[0]];
        run(graph, slope[p], got);
        for (int i = 0; i < elements(graph, wrt[p]); i++) {
            double wanted = difference(graph, output, at + i);
            if (fabs((double)got[i] - wanted) <= 2e-3 * (1 + fabs(wanted))) continue;
            printf("%selement %d of %%%d: %g, not %g\n", text, i, wrt[p], (double)got[i], wanted);
            CHECK(!"the gradient differs");
        }
    }
}

static void fill(void) {
    for (int p = 0; p < PARAMS; p++)
        for (int i = 0; i < ELEMENTS; i++)
            memory[p][i] = (float)((i * 7 + p * 5) % 13 - 6) / 4 + (float)(p + 1) / 16;
}

static int params_of(const Graph *graph, Id *wrt) {
    int count = 0;
    for (Id id = 0; id < graph_count(graph); id++)
        if (graph_node(graph, id)->op == OP_PARAM) wrt[count++] = id;
    return count;
}

static void check_program(const char *text) {
    Arena *arena = arena_new();
    GraphProgram program = graph_parse(arena, "program", text);
    Id wrt[PARAMS], slope[PARAMS], second[PARAMS];
    int count = params_of(program.graph, wrt);
    fill();
    check_slopes(text, program.graph, program.output[0], count, wrt, slope);
    for (int i = 0; i < count; i++) check_slopes(text, program.graph, slope[i], count, wrt, second);
    arena_free(arena);
}

#define X  "%0 = param{0} f32 (2, 3)\n"
#define XY X "%1 = param{1} f32 (2, 3)\n"
#define N  "var n 1..4\n%0 = param{0} f32 (2, n)\n"
// Squares of movements, so that a second derivative is there to be checked.
#define SQUARE(id, next, shape) "%" next " = mul f32 " shape " %" id " %" id "\nout %" next

static const char *const programs[] = {
    X "%1 = reshape f32 (3, 1, 2) %0\n" SQUARE("1", "2", "(3, 1, 2)"),
    "%0 = param{0} f32 (2, 3, 4)\n%1 = permute{1, 2, 0} f32 (3, 4, 2) %0\n" SQUARE("1", "2",
                                                                                   "(3, 4, 2)"),
    "%0 = param{0} f32 (2, 1, 3)\n%1 = expand f32 (2, 4, 3) %0\n" SQUARE("1", "2", "(2, 4, 3)"),
    X "%1 = pad{(1, 0), (0, 2)} f32 (3, 5) %0\n" SQUARE("1", "2", "(3, 5)"),
    X "%1 = shrink{(1, 1)} f32 (1, 2) %0\n" SQUARE("1", "2", "(1, 2)"),
    X "%1 = flip{0, 1} f32 (2, 3) %0\n" SQUARE("1", "2", "(2, 3)"),
    "%0 = param{0} f32 (9)\n%1 = window{0, 3, 1, 1} f32 (7, 3) %0\n" SQUARE("1", "2", "(7, 3)"),
    "%0 = param{0} f32 (2, 9, 2)\n%1 = window{1, 3, 2, 2} f32 (2, 3, 2, 3) %0\n" SQUARE(
        "1", "2", "(2, 3, 2, 3)"),
    "%0 = param{0} f32 (9)\n%1 = window{0, 2, 5, 3} f32 (2, 2) %0\n" SQUARE("1", "2", "(2, 2)"),
    X "%1 = cast f16 (2, 3) %0\n%2 = cast f32 (2, 3) %1\n%3 = mul f32 (2, 3) %0 %2\nout %3",
    X "%1 = mul f32 (2, 3) %0 %0\n%2 = withgrad f32 (2, 3) %1 %1\nout %2",
    X "%1 = mul f32 (2, 3) %0 %0\n%2 = const{1} f32 (2, 3)\n%3 = add f32 (2, 3) %1 %2\n"
      "%4 = recip f32 (2, 3) %3\nout %4",
    X "%1 = mul f32 (2, 3) %0 %0\n%2 = const{1} f32 (2, 3)\n%3 = add f32 (2, 3) %1 %2\n"
      "%4 = sqrt f32 (2, 3) %3\nout %4",
    X "%1 = mul f32 (2, 3) %0 %0\n%2 = const{1} f32 (2, 3)\n%3 = add f32 (2, 3) %1 %2\n"
      "%4 = log2 f32 (2, 3) %3\nout %4",
    X "%1 = exp2 f32 (2, 3) %0\nout %1",
    X "%1 = sin f32 (2, 3) %0\nout %1",
    XY "%2 = add f32 (2, 3) %0 %1\n%3 = mul f32 (2, 3) %2 %1\nout %3",
    XY "%2 = max f32 (2, 3) %0 %1\n" SQUARE("2", "3", "(2, 3)"),
    XY "%2 = cmplt bool (2, 3) %0 %1\n%3 = mul f32 (2, 3) %0 %1\n"
       "%4 = where f32 (2, 3) %2 %3 %1\nout %4",
    XY "%2 = param{2} f32 (2, 3)\n%3 = fma f32 (2, 3) %0 %1 %2\n%4 = mul f32 (2, 3) %3 %2\nout %4",
    X "%1 = trunc f32 (2, 3) %0\n%2 = mul f32 (2, 3) %0 %1\nout %2",
    X "%1 = reduce{add, 0} f32 (1, 3) %0\n" SQUARE("1", "2", "(1, 3)"),
    X "%1 = reduce{max, 1} f32 (2, 1) %0\n" SQUARE("1", "2", "(2, 1)"),
    X "%1 = reduce{mul, 1} f32 (2, 1) %0\nout %1",
    X "%1 = reduce{mul, 0, 1} f32 (1, 1) %0\nout %1",
    X "%1 = scan{add, 1} f32 (2, 3) %0\n" SQUARE("1", "2", "(2, 3)"),
    "%0 = param{0} f32 (2, 5)\n%1 = scan{max, 1} f32 (2, 5) %0\n" SQUARE("1", "2", "(2, 5)"),
    "%0 = param{0} f32 (2, 5)\n%1 = scan{mul, 1} f32 (2, 5) %0\nout %1",
    "%0 = param{0} f32 (5, 2)\n%1 = scan{mul, 0} f32 (5, 2) %0\nout %1",
    X "%1 = iota{1} i32 (4, 3)\n%2 = gather{0} f32 (4, 3) %0 %1\n" SQUARE("2", "3", "(4, 3)"),
    XY
    "%2 = iota{0} i32 (2, 3)\n%3 = scatter_add{1} f32 (2, 3) %0 %2 %1\n" SQUARE("3", "4", "(2, 3)"),
    X "%1 = contiguous f32 (2, 3) %0\n" SQUARE("1", "2", "(2, 3)"),
    N "%1 = flip{1} f32 (2, n) %0\n%2 = pad{(0, 1), (0, n)} f32 (2, 2*n + 1) %1\n"
      "%3 = shrink{(0, 1)} f32 (2, n) %2\n%4 = mul f32 (2, n) %0 %3\n"
      "%5 = reduce{add, 1} f32 (2, 1) %4\nout %5",
    N "%1 = scan{mul, 1} f32 (2, n) %0\nout %1",
    N "%1 = reduce{mul, 1} f32 (2, 1) %0\nout %1",
    // used three times, at two depths
    X "%1 = mul f32 (2, 3) %0 %0\n%2 = mul f32 (2, 3) %1 %0\n%3 = add f32 (2, 3) %2 %1\nout %3",
};

TEST(gradients_match_differences) {
    for (int i = 0; i < COUNT_OF(programs); i++) check_program(programs[i]);
}

TEST(every_op_is_in_a_program) {
    for (int op = 0; op < OP_LOAD; op++) {
        if (ops[op].properties & (LEAF | BITS | INTEGERS | TO_BOOL) || op == OP_BITCAST) continue;
        if (op == OP_ASSIGN || op == OP_COPY || op == OP_DETACH) continue;
        char name[32];
        snprintf(name, sizeof name, " = %s", ops[op].text);
        bool found = false;
        for (int i = 0; i < COUNT_OF(programs); i++) found |= strstr(programs[i], name) != NULL;
        if (!found) printf("no program has %s\n", ops[op].text);
        CHECK(found);
    }
}

// The gradient by param 0 of the sum of what a program gives.
static void slope_of(const char *text, const float *x, int count, float *to) {
    Arena *arena = arena_new();
    GraphProgram program = graph_parse(arena, "program", text);
    Id wrt[PARAMS], slope[PARAMS];
    params_of(program.graph, wrt);
    memcpy(memory[0], x, (size_t)count * sizeof *x);
    gradient(program.graph, program.output[0], -1, 1, wrt, slope);
    run(program.graph, slope[0], to);
    arena_free(arena);
}

#define CHECK_SLOPE(text, x, ...)                                  \
    do {                                                           \
        float got[ELEMENTS], wanted[] = {__VA_ARGS__};             \
        slope_of(text, x, COUNT_OF(wanted), got);                  \
        for (int i_ = 0; i_ < COUNT_OF(wanted); i_++)              \
            CHECK_NEAR((double)got[i_], (double)wanted[i_], 1e-5); \
    } while (0)

#define V "%0 = param{0} f32 (4)\n"

TEST(ties_share) {
    const float x[] = {3, 1, 3, 2};
    CHECK_SLOPE(V "%1 = reduce{max, 0} f32 (1) %0\nout %1", x, 0.5f, 0, 0.5f, 0);
    CHECK_SLOPE(V "%1 = const{3} f32 (4)\n%2 = max f32 (4) %0 %1\nout %2", x, 0.5f, 0, 0.5f, 0);
    CHECK_SLOPE(V "%1 = max f32 (4) %0 %0\nout %1", x, 1, 1, 1, 1);
    CHECK_SLOPE(V "%1 = scan{max, 0} f32 (4) %0\nout %1", x, 2, 0, 2, 0);
}

TEST(products_with_zeros) {
    const float one[] = {2, 0, 3, 4}, two[] = {2, 0, 0, 4};
    CHECK_SLOPE(V "%1 = reduce{mul, 0} f32 (1) %0\nout %1", one, 0, 24, 0, 0);
    CHECK_SLOPE(V "%1 = reduce{mul, 0} f32 (1) %0\nout %1", two, 0, 0, 0, 0);
    CHECK_SLOPE(V "%1 = scan{mul, 0} f32 (4) %0\nout %1", one, 1, 2 + 6 + 24, 0, 0);
    CHECK_SLOPE(V "%1 = scan{mul, 0} f32 (4) %0\nout %1", two, 1, 2, 0, 0);
}

TEST(what_gradients_do_not_pass) {
    const float x[] = {1, 2, 3, 4};
    CHECK_SLOPE(V "%1 = detach f32 (4) %0\n%2 = mul f32 (4) %0 %1\nout %2", x, 1, 2, 3, 4);
    CHECK_SLOPE(V "%1 = trunc f32 (4) %0\nout %1", x, 0, 0, 0, 0);
    CHECK_SLOPE(V "%1 = cast i32 (4) %0\n%2 = cast f32 (4) %1\nout %2", x, 0, 0, 0, 0);
    CHECK_SLOPE(V "%1 = const{7} f32 (4)\nout %1", x, 0, 0, 0, 0);
}

TEST(withgrad_follows_the_surrogate) {
    const float x[] = {1, 2, 3, 4};
    CHECK_SLOPE(V
                "%1 = sin f32 (4) %0\n%2 = mul f32 (4) %0 %0\n%3 = withgrad f32 (4) %1 %2\nout %3",
                x, 2, 4, 6, 8);
}

TEST(gathers_add_up) {
    const float x[] = {1, 2, 3, 4};
    CHECK_SLOPE(V "%1 = iota{0} i32 (6)\n%2 = const{1} i32 (6)\n%3 = shr i32 (6) %1 %2\n"
                  "%4 = gather{0} f32 (6) %0 %3\nout %4",
                x, 2, 2, 2, 0);
    CHECK_SLOPE(V "%1 = iota{0} i32 (6)\n%2 = gather{0} f32 (6) %0 %1\nout %2", x, 1, 1, 1, 1);
}

TEST(interior_nodes_have_gradients) {
    Arena *arena = arena_new();
    GraphProgram program =
        graph_parse(arena, "program", V "%1 = exp2 f32 (4) %0\n%2 = mul f32 (4) %1 %1\nout %2");
    Id slope[2];
    gradient(program.graph, 2, -1, 2, (Id[]){1, 2}, slope);
    CHECK_TEXT(graph_print(arena, program.graph, 2, slope),
               V "%1 = exp2 f32 (4) %0\n%2 = const{1} f32 (4)\n%3 = mul f32 (4) %2 %1\n"
                 "%4 = add f32 (4) %3 %3\nout %4 %2\n");
    arena_free(arena);
}

static void differentiate(Arena *arena, const char *text, Id seed) {
    GraphProgram program = graph_parse(arena, "program", text);
    Id wrt[PARAMS], slope[PARAMS];
    gradient(program.graph, program.output[0], seed, params_of(program.graph, wrt), wrt, slope);
}

TEST(misuse_says_why) {
    Arena *arena = arena_new();
    CHECK_FATAL_TEXT(differentiate(arena, V "%1 = cast i32 (4) %0\nout %1", -1), "the loss is i32");
    CHECK_FATAL_TEXT(
        differentiate(arena, "%0 = param{0} i32 (4)\n%1 = cast f32 (4) %0\nout %1", -1),
        "taken by is i32");
    CHECK_FATAL_TEXT(differentiate(arena, V "%1 = const{1} f32 (2)\nout %0", 1),
                     "the seed is f32 (2), the loss f32 (4)");
    CHECK_FATAL_TEXT(
        differentiate(arena, V "%1 = buffer{3, 0} f32 (4)\n%2 = assign{3, 1} f32 (4) %1 %0\nout %2",
                      -1),
        "compute a new value");
    arena_free(arena);
}
