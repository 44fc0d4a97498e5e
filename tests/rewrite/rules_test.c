/* rules_test.c - both sides of every rule give the same numbers, as its class says.
 * Rules over elementwise ops are instantiated from their text, with every dtype that they take and
 * with NaN, infinities, both zeros, denormals and the limits of integers; the others have examples,
 * before and after. A rule that fires nowhere is a failure. */
#include "ir/graph_parse.h"
#include "ir/scalar.h"
#include "leaves.h"
#include "rewrite/rewrite.h"
#include "test.h"

#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- memory and comparing ----------------------------------------------------------------------

enum { ELEMENTS = 8192, PARAMS = 4 };
static char memory[PARAMS][ELEMENTS * 8], before[ELEMENTS * 8], after[ELEMENTS * 8];

static void *const rows[PARAMS] = {memory[0], memory[1], memory[2], memory[3]};
static const Binding binding = BINDING_TO(rows);

static bool close_enough(DType dtype, RuleClass class, bool any_zero, Scalar a, Scalar b) {
    if (!dtype_is_float(dtype)) return a.integer == b.integer;
    if (a.real != a.real || b.real != b.real) return a.real != a.real && b.real != b.real;
    if (class == RULE_EXACT)
        return a.real == b.real && (any_zero || !signbit(a.real) == !signbit(b.real));
    float tolerance = dtype == DT_F32 ? 1e-5f : dtype == DT_F16 ? 0x1p-8f : 0x1p-5f;
    return a.real == b.real || fabsf(a.real - b.real) <= tolerance * (1 + fabsf(a.real));
}

static void check_same(const char *what, RuleClass class, const Graph *old, Id old_root,
                       const Graph *new, Id new_root) {
    DType dtype = node_dtype(old, old_root);
    int64_t count = elements_of(old, old_root);
    CHECK(count <= ELEMENTS);
    reference_run(old, old_root, &binding, before);
    reference_run(new, new_root, &binding, after);
    for (int64_t i = 0; i < count; i++) {
        Scalar a = scalar_load(dtype, before + i * dtypes[dtype].bytes);
        Scalar b = scalar_load(dtype, after + i * dtypes[dtype].bytes);
        if (close_enough(dtype, class, strstr(what, "max"), a, b)) continue;
        printf("%s: element %ld: %.9g %ld, after %.9g %ld\n%s%s", what, (long)i, (double)a.real,
               (long)a.integer, (double)b.real, (long)b.integer,
               graph_print(graph_arena(old), old, 1, &old_root),
               graph_print(graph_arena(old), new, 1, &new_root));
        CHECK(!"the sides differ");
    }
}

// ---- samples -----------------------------------------------------------------------------------

static int samples(DType dtype, RuleClass class, Scalar *to) {
    static const float wild[] = {0.0f,    -0.0f,  1,        -1,        0.5f,
                                 -2.5f,   3,      INFINITY, -INFINITY, NAN,
                                 100.25f, 1e-40f, -1e30f,   FLT_MAX,   0x1p-126f};
    static const int64_t whole[] = {0,         1,         -1,        2,        7,
                                    -7,        100,       INT8_MIN,  INT8_MAX, INT32_MIN,
                                    INT32_MAX, INT64_MIN, INT64_MAX, 31,       33};
    static const float tame[] = {1, -1, 0.5f, -2.5f, 3, 17.5f, -0.125f};
    bool is_float = dtype_is_float(dtype);
    int count = dtype == DT_BOOL ? 2 : COUNT_OF(wild);
    if (is_float && class == RULE_REASSOCIATES) count = 11;  // no overflow on the way
    if (is_float && class == RULE_FINITE) count = COUNT_OF(tame);
    for (int i = 0; i < count; i++) {
        Scalar value = {.real = class == RULE_FINITE ? tame[i % COUNT_OF(tame)] : wild[i]};
        if (is_float)
            to[i] = scalar_cast(value, DT_F32, dtype);
        else
            to[i].integer = scalar_wrap(dtype, whole[i]);
    }
    return count;
}

// ---- rules over elementwise ops, from their text -----------------------------------------------

typedef struct {
    Reader reader;
    Arena *arena;
    Graph *graph;
    RuleClass class;
    int64_t elements;  // of every variable
    DType dtype[3];    // of the root's operands; under one cast; under two
    unsigned choice;   // which samples the constants get, mixed radix
    unsigned choices;  // how many there are
    const char *name[PARAMS];
    Id node[PARAMS];
    DType variable[PARAMS];
    bool is_const[PARAMS];
    int names;
} Instance;

static Id number(Instance *instance, DType dtype, double value) {
    if (dtype_is_float(dtype))
        return node_const_float(instance->graph, dtype, shape_of(1, instance->elements), value);
    return node_const_int(instance->graph, dtype, shape_of(1, instance->elements), (int64_t)value);
}

static Id variable(Instance *instance, DType dtype, bool is_const) {
    const char *name = reader_name(&instance->reader, instance->arena);
    int i = 0;
    while (i < instance->names && strcmp(instance->name[i], name) != 0) i++;
    if (i < instance->names) return instance->node[i];
    Scalar value[16];
    int count = samples(dtype, instance->class, value);
    Id id;
    if (is_const) {
        Scalar chosen = value[instance->choice / instance->choices % (unsigned)count];
        instance->choices *= (unsigned)count;
        id = dtype_is_float(dtype)
                 ? number(instance, dtype, (double)chosen.real)
                 : node_const_int(instance->graph, dtype, shape_of(1, instance->elements),
                                  chosen.integer);
    } else {
        id = node_param(instance->graph, dtype, shape_of(1, instance->elements), i);
    }
    instance->name[i] = name;
    instance->variable[i] = dtype;
    instance->is_const[i] = is_const;
    instance->names++;
    return instance->node[i] = id;
}

static Id instantiate(Instance *instance, DType dtype, int depth, int casts) {
    Reader *reader = &instance->reader;
    double value;
    Op op;
    if (reader_take(reader, "?")) return variable(instance, dtype, false);
    if (reader_take(reader, "$")) return variable(instance, dtype, true);
    if (reader_number(reader, &value)) return number(instance, dtype, value);
    reader_expect(reader, "(");
    CHECK(op_find(reader_name(reader, instance->arena), &op));
    bool typed = ops[op].properties & TYPED;
    DType inner = typed ? instance->dtype[casts + 1] : dtype;
    if (ops[op].properties & TO_BOOL && depth) inner = DT_BOOL;
    Id source[3];
    for (int i = 0; i < ops[op].arity; i++) {
        DType wanted = ops[op].properties & CHOOSES && i == 0 ? DT_BOOL : inner;
        source[i] = instantiate(instance, wanted, depth + 1, casts + typed);
    }
    reader_expect(reader, ")");
    if (op == OP_CAST) return node_cast(instance->graph, source[0], dtype);
    if (op == OP_BITCAST) return node_bitcast(instance->graph, source[0], dtype);
    if (ops[op].arity == 1) return node_unary(instance->graph, op, source[0]);
    if (ops[op].arity == 2) return node_binary(instance->graph, op, source[0], source[1]);
    if (op == OP_FMA) return node_fma(instance->graph, source[0], source[1], source[2]);
    return node_where(instance->graph, source[0], source[1], source[2]);
}

typedef struct {
    Instance *instance;
    Id root;
} Attempt;

static void attempt(void *context) {
    Attempt *try = context;
    try->root = instantiate(try->instance, try->instance->dtype[0], 0, 0);
}

// All combinations of samples along the variables' memory.
static void fill(const Instance *instance) {
    int stride = 1;
    for (int i = 0; i < instance->names; i++) {
        if (instance->is_const[i]) continue;
        Scalar value[16];
        DType dtype = instance->variable[i];
        int count = samples(dtype, instance->class, value);
        for (int e = 0; e < instance->elements; e++)
            scalar_store(dtype, memory[i] + e * dtypes[dtype].bytes, value[e / stride % count]);
        stride *= count;
    }
    CHECK(stride <= instance->elements);
}

// Room for all combinations of 15 samples of each ?x; one of four is bool.
static int64_t elements_for(const char *text) {
    int variables = 0;
    for (const char *name = "abcdxyz"; *name; name++)
        variables += strstr(text, (char[]){'?', *name, 0}) != NULL;
    return (int64_t[]){1, 15, 15 * 15, 15 * 15 * 15, 2 * 15 * 15 * 15}[variables];
}

// Whether the rule fires; if so, whether both sides agree. -1 when there are no more constants.
static int fires(const Rule *rule, const DType *dtype, unsigned choice) {
    Arena *arena = arena_new();
    Instance instance = {reader_new("rule", rule->text),
                         arena,
                         graph_new(arena),
                         rule->class,
                         elements_for(rule->text),
                         {dtype[0], dtype[1], dtype[2]},
                         choice,
                         1,
                         {0},
                         {0},
                         {0},
                         {0},
                         0};
    Attempt try = {&instance, -1};
    int result = 0;
    if (try_call(attempt, &try) == 0 && choice < instance.choices) {
        RuleTable *table = rule_table_new(arena);
        rule_table_add(table, rule);
        Id root;
        Graph *graph = rewrite(arena, instance.graph, table, 1, &try.root, &root);
        const char *old = graph_print(arena, instance.graph, 1, &try.root);
        result = strcmp(old, graph_print(arena, graph, 1, &root)) != 0;
        fill(&instance);
        if (result) check_same(rule->text, rule->class, instance.graph, try.root, graph, root);
    } else {
        result = -1;
    }
    arena_free(arena);
    return result;
}

static bool is_elementwise(const Rule *rule) {
    static const char *const others[] = {"(*",     "reshape", "permute",    "expand",  "pad",
                                         "shrink", "flip",    "window",     "iota",    "reduce",
                                         "scan",   "detach",  "contiguous", "withgrad"};
    for (int i = 0; i < COUNT_OF(others); i++)
        if (strstr(rule->text, others[i])) return false;
    return true;
}

static int fired_with_casts(const Rule *rule) {
    int fired = 0;
    for (int to = 0; to < DT_COUNT; to++)
        for (int middle = 0; middle < DT_COUNT; middle++)
            for (int from = 0; from < DT_COUNT; from++)
                fired += fires(rule, (DType[]){(DType)to, (DType)middle, (DType)from}, 0) > 0;
    return fired;
}

static int fired_anywhere(const Rule *rule) {
    int fired = 0;
    if (strstr(rule->text, "cast")) return fired_with_casts(rule);
    for (int dtype = 0; dtype < DT_COUNT; dtype++)
        for (unsigned choice = 0;; choice++) {
            int result = fires(rule, (DType[]){(DType)dtype, (DType)dtype, (DType)dtype}, choice);
            if (result < 0) break;
            fired += result;
        }
    return fired;
}

static void check_set(RuleSet set) {
    const Rule *list;
    int count = rules_list(set, &list);
    for (int i = 0; i < count; i++) {
        if (!is_elementwise(&list[i])) continue;
        if (fired_anywhere(&list[i])) continue;
        printf("%s fires nowhere\n", list[i].text);
        CHECK(!"a rule that fires nowhere");
    }
}

TEST(algebra_keeps_values) { check_set(RULES_ALGEBRA); }
TEST(finite_rules_keep_finite_values) { check_set(RULES_FINITE); }

TEST(constants_fold_as_the_reference_computes) {
    for (int op = 0; op < OP_COUNT; op++) {
        if (!(ops[op].properties & MAPS) || ops[op].properties & TYPED) continue;
        for (int dtype = 0; dtype < DT_COUNT; dtype++)
            for (unsigned choice = 0;; choice++) {
                static const char *const sources[] = {"", "$a", "$a $b", "$c $a $b"};
                char text[64];
                snprintf(text, sizeof text, "(%s %s) => !", ops[op].text, sources[ops[op].arity]);
                Arena *arena = arena_new();
                Instance instance = {.reader = reader_new("fold", text),
                                     .arena = arena,

                                     .graph = graph_new(arena),
                                     .elements = 1,
                                     .dtype = {(DType)dtype},
                                     .choice = choice,
                                     .choices = 1};
                Attempt try = {&instance, -1};
                bool more = try_call(attempt, &try) == 0 && choice < instance.choices;
                if (more) {
                    Id root;
                    Graph *graph =
                        rewrite(arena, instance.graph, rules(RULES_ALGEBRA), 1, &try.root, &root);
                    bool stays = op == OP_EXP2 || op == OP_LOG2 || op == OP_SIN;
                    CHECK_INT(graph_node(graph, root)->op, stays ? op : OP_CONST);
                    check_same(text, RULE_EXACT, instance.graph, try.root, graph, root);
                }
                arena_free(arena);
                if (!more) break;
            }
    }
}

// ---- the other rules, by example ---------------------------------------------------------------

typedef struct {
    const char *before, *after;
} Example;

#define P  "%0 = param{0} f32 (2, 3)\n"
#define P1 "%0 = param{0} f32 (2, 1)\n"

#define EXAMPLE(...) \
    { __VA_ARGS__ }

static const Example examples[] = {
    EXAMPLE(P "%1 = reshape f32 (2, 3) %0\nout %1", P "out %0\n"),
    EXAMPLE(P "%1 = reshape f32 (6) %0\n%2 = reshape f32 (3, 2) %1\nout %2",
            P "%1 = reshape f32 (3, 2) %0\nout %1\n"),
    EXAMPLE(P "%1 = reshape f32 (6) %0\n%2 = reshape f32 (2, 3) %1\nout %2", P "out %0\n"),
    EXAMPLE("%0 = const{2} f32 (2, 3)\n%1 = reshape f32 (6) %0\nout %1",
            "%0 = const{2} f32 (6)\nout %0\n"),
    EXAMPLE(P "%1 = permute{0, 1} f32 (2, 3) %0\nout %1", P "out %0\n"),
    EXAMPLE("%0 = param{0} f32 (2, 3, 4)\n%1 = permute{1, 2, 0} f32 (3, 4, 2) %0\n"
            "%2 = permute{1, 0, 2} f32 (4, 3, 2) %1\nout %2",
            "%0 = param{0} f32 (2, 3, 4)\n%1 = permute{2, 1, 0} f32 (4, 3, 2) %0\nout %1\n"),
    EXAMPLE("%0 = const{2} i8 (2, 3)\n%1 = permute{1, 0} i8 (3, 2) %0\nout %1",
            "%0 = const{2} i8 (3, 2)\nout %0\n"),
    EXAMPLE(P "%1 = expand f32 (2, 3) %0\nout %1", P "out %0\n"),
    EXAMPLE(
        "%0 = param{0} f32 (1, 1)\n%1 = expand f32 (2, 1) %0\n%2 = expand f32 (2, 3) %1\nout %2",
        "%0 = param{0} f32 (1, 1)\n%1 = expand f32 (2, 3) %0\nout %1\n"),
    EXAMPLE("%0 = const{2} f32 (1)\n%1 = expand f32 (4) %0\nout %1",
            "%0 = const{2} f32 (4)\nout %0\n"),
    EXAMPLE(P "%1 = pad{(0, 0), (0, 0)} f32 (2, 3) %0\nout %1", P "out %0\n"),
    EXAMPLE(
        P "%1 = pad{(1, 0), (0, 2)} f32 (3, 5) %0\n%2 = pad{(0, 1), (2, 0)} f32 (5, 6) %1\nout %2",
        P "%1 = pad{(1, 1), (2, 2)} f32 (5, 6) %0\nout %1\n"),
    EXAMPLE("%0 = const{0} f32 (2)\n%1 = pad{(1), (1)} f32 (4) %0\nout %1",
            "%0 = const{0} f32 (4)\nout %0\n"),
    EXAMPLE(P "%1 = shrink{(0, 0)} f32 (2, 3) %0\nout %1", P "out %0\n"),
    EXAMPLE(P "%1 = shrink{(0, 1)} f32 (2, 2) %0\n%2 = shrink{(1, 1)} f32 (1, 1) %1\nout %2",
            P "%1 = shrink{(1, 2)} f32 (1, 1) %0\nout %1\n"),
    EXAMPLE(P "%1 = pad{(1, 2), (1, 2)} f32 (4, 7) %0\n%2 = shrink{(1, 2)} f32 (2, 3) %1\nout %2",
            P "out %0\n"),
    EXAMPLE(P "%1 = pad{(1, 2), (1, 2)} f32 (4, 7) %0\n%2 = shrink{(2, 3)} f32 (1, 2) %1\nout %2",
            P "%1 = shrink{(1, 1)} f32 (1, 2) %0\nout %1\n"),
    EXAMPLE(P "%1 = pad{(1, 2), (1, 2)} f32 (4, 7) %0\n%2 = shrink{(0, 2)} f32 (2, 3) %1\nout %2", P
            "%1 = pad{(1, 2), (1, 2)} f32 (4, 7) %0\n%2 = shrink{(0, 2)} f32 (2, 3) %1\nout %2\n"),
    EXAMPLE("%0 = const{2} f32 (9)\n%1 = shrink{(1)} f32 (4) %0\nout %1",
            "%0 = const{2} f32 (4)\nout %0\n"),
    EXAMPLE(P1 "%1 = flip{1} f32 (2, 1) %0\nout %1", P1 "out %0\n"),
    EXAMPLE(P "%1 = flip{0, 1} f32 (2, 3) %0\n%2 = flip{1} f32 (2, 3) %1\nout %2",
            P "%1 = flip{0} f32 (2, 3) %0\nout %1\n"),
    EXAMPLE(P "%1 = flip{1} f32 (2, 3) %0\n%2 = flip{1} f32 (2, 3) %1\nout %2", P "out %0\n"),
    EXAMPLE("%0 = const{2} f32 (9)\n%1 = flip{0} f32 (9) %0\nout %1",
            "%0 = const{2} f32 (9)\nout %0\n"),
    EXAMPLE("%0 = const{2} f32 (9)\n%1 = window{0, 3, 2, 1} f32 (4, 3) %0\nout %1",
            "%0 = const{2} f32 (4, 3)\nout %0\n"),
    EXAMPLE("%0 = iota{1} i32 (2, 1)\nout %0", "%0 = const{0} i32 (2, 1)\nout %0\n"),
    EXAMPLE("%0 = iota{1} i32 (1, 2)\nout %0", "%0 = iota{1} i32 (1, 2)\nout %0\n"),
    EXAMPLE(P1 "%1 = reduce{mul, 1} f32 (2, 1) %0\nout %1", P1 "out %0\n"),
    EXAMPLE(P "%1 = reduce{add} f32 (2, 3) %0\nout %1", P "out %0\n"),
    EXAMPLE(P "%1 = reduce{add, 1} f32 (2, 1) %0\n%2 = reduce{add, 0} f32 (1, 1) %1\nout %2",
            P "%1 = reduce{add, 0, 1} f32 (1, 1) %0\nout %1\n"),
    EXAMPLE(P "%1 = reduce{add, 1} f32 (2, 1) %0\n%2 = reduce{max, 0} f32 (1, 1) %1\nout %2",
            P "%1 = reduce{add, 1} f32 (2, 1) %0\n%2 = reduce{max, 0} f32 (1, 1) %1\nout %2\n"),
    EXAMPLE("%0 = const{1.5} f32 (4, 3)\n%1 = reduce{add, 0, 1} f32 (1, 1) %0\nout %1",
            "%0 = const{18} f32 (1, 1)\nout %0\n"),
    EXAMPLE("%0 = const{100} i8 (4, 3)\n%1 = reduce{add, 0} i8 (1, 3) %0\nout %1",
            "%0 = const{-112} i8 (1, 3)\nout %0\n"),
    EXAMPLE("%0 = const{7} i8 (4, 3)\n%1 = reduce{max, 1} i8 (4, 1) %0\nout %1",
            "%0 = const{7} i8 (4, 1)\nout %0\n"),
    EXAMPLE(P1 "%1 = expand f32 (2, 5) %0\n%2 = reduce{add, 0, 1} f32 (1, 1) %1\nout %2",
            P1 "%1 = const{5} f32 (1, 1)\n%2 = reduce{add, 0} f32 (1, 1) %0\n"
               "%3 = mul f32 (1, 1) %2 %1\nout %3\n"),
    EXAMPLE(P1 "%1 = expand f32 (2, 5) %0\n%2 = reduce{max, 1} f32 (2, 1) %1\nout %2",
            P1 "out %0\n"),
    EXAMPLE(P1 "%1 = expand f32 (2, 0) %0\n%2 = reduce{add, 1} f32 (2, 1) %1\nout %2",
            P1 "%1 = expand f32 (2, 0) %0\n%2 = reduce{add, 1} f32 (2, 1) %1\nout %2\n"),
    EXAMPLE(P1 "%1 = scan{add, 1} f32 (2, 1) %0\nout %1", P1 "out %0\n"),
    EXAMPLE(P "%1 = detach f32 (2, 3) %0\n%2 = detach f32 (2, 3) %1\nout %2",
            P "%1 = detach f32 (2, 3) %0\nout %1\n"),
    EXAMPLE(P "%1 = contiguous f32 (2, 3) %0\n%2 = contiguous f32 (2, 3) %1\nout %2",
            P "%1 = contiguous f32 (2, 3) %0\nout %1\n"),
    EXAMPLE("var n 1..9\n%0 = param{0} f32 (n, 2)\n%1 = pad{(1, 0), (n, 0)} f32 (2*n + 1, 2) %0\n"
            "%2 = shrink{(1, 0)} f32 (n, 2) %1\nout %2",
            "var n 1..9\n%0 = param{0} f32 (n, 2)\nout %0\n"),
    // a rule's result is rewritten as well
    EXAMPLE(P "%1 = const{1} f32 (1, 1)\n%2 = expand f32 (2, 3) %1\n%3 = mul f32 (2, 3) %0 %2\n"
              "%4 = mul f32 (2, 3) %2 %3\n%5 = cast f32 (2, 3) %4\nout %5 %3",
            P "out %0 %0\n"),
};

static void fill_floats(void) {
    static const float special[] = {-0.0f, INFINITY, NAN};
    for (int i = 0; i < ELEMENTS; i++) {
        float value = i % 7 == 5 ? special[i / 7 % 3] : (float)(i * 7 % 11 - 5) / 8;
        memcpy(memory[0] + 4 * i, &value, sizeof value);
    }
}

TEST(movements_and_folds_by_example) {
    for (int i = 0; i < COUNT_OF(examples); i++) {
        Arena *arena = arena_new();
        GraphProgram program = graph_parse(arena, "example", examples[i].before);
        Id *root = arena_array(arena, Id, program.outputs);
        Graph *graph = rewrite(arena, program.graph, rules(RULES_ALGEBRA), program.outputs,
                               program.output, root);
        graph_verify(graph, program.outputs, root);
        CHECK_TEXT(graph_print(arena, graph, program.outputs, root), examples[i].after);
        fill_floats();
        bool folds = strstr(examples[i].before, "reduce") || strstr(examples[i].before, "scan");
        for (int o = 0; o < program.outputs; o++)
            check_same("example", folds ? RULE_REASSOCIATES : RULE_EXACT, program.graph,
                       program.output[o], graph, root[o]);
        arena_free(arena);
    }
}

TEST(every_other_rule_has_an_example) {
    const Rule *list;
    int count = rules_list(RULES_ALGEBRA, &list);
    for (int r = 0; r < count; r++) {
        bool fired = is_elementwise(&list[r]) || strstr(list[r].text, "(*");
        for (int i = 0; i < COUNT_OF(examples) && !fired; i++) {
            Arena *arena = arena_new();
            RuleTable *table = rule_table_new(arena);
            rule_table_add(table, &list[r]);
            GraphProgram program = graph_parse(arena, "example", examples[i].before);
            char *old = graph_print(arena, program.graph, program.outputs, program.output);
            Graph *graph = rewrite(arena, program.graph, table, program.outputs, program.output,
                                   program.output);
            fired = strcmp(old, graph_print(arena, graph, program.outputs, program.output)) != 0;
            arena_free(arena);
        }
        if (!fired) printf("%s has no example\n", list[r].text);
        CHECK(fired);
    }
}

static const char *rewritten(Arena *arena, RuleSet set, const char *text) {
    GraphProgram program = graph_parse(arena, "test", text);
    Graph *graph =
        rewrite(arena, program.graph, rules(set), program.outputs, program.output, program.output);
    return graph_print(arena, graph, program.outputs, program.output);
}

TEST(cleaning_drops_what_gradients_needed) {
    Arena *arena = arena_new();
    CHECK_TEXT(rewritten(arena, RULES_CLEAN,
                         P "%1 = detach f32 (2, 3) %0\n%2 = sin f32 (2, 3) %0\n"
                           "%3 = withgrad f32 (2, 3) %1 %2\nout %3"),
               P "out %0\n");
    arena_free(arena);
}

TEST(vars_keep_their_numbers) {
    Arena *arena = arena_new();
    CHECK_TEXT(
        rewritten(arena, RULES_ALGEBRA, "var a 0..9\nvar n 1..9\n%0 = param{0} f32 (n)\nout %0"),
        "var a 0..9\nvar n 1..9\n%0 = param{0} f32 (n)\nout %0\n");
    arena_free(arena);
}

static void add_rule(Arena *arena, const char *text) {
    Rule rule = {text, RULE_EXACT, NULL, NULL};
    rule_table_add(rule_table_new(arena), &rule);
}

static void go_round(Arena *arena) {
    static const Rule circle[] = {{"(add ?x ?y) => (mul ?x ?y)", RULE_EXACT, NULL, NULL},
                                  {"(mul ?x ?y) => (add ?x ?y)", RULE_EXACT, NULL, NULL}};
    RuleTable *table = rule_table_new(arena);
    for (int i = 0; i < COUNT_OF(circle); i++) rule_table_add(table, &circle[i]);
    GraphProgram program = graph_parse(arena, "test", P "%1 = add f32 (2, 3) %0 %0\nout %1");
    rewrite(arena, program.graph, table, 1, program.output, program.output);
}

TEST(bad_rules_say_why) {
    Arena *arena = arena_new();
    CHECK_FATAL_TEXT(add_rule(arena, "(add ?x) => ?x"), "add takes 2 sources");
    CHECK_FATAL_TEXT(add_rule(arena, "(plus ?x ?y) => ?x"), "no op");
    CHECK_FATAL_TEXT(add_rule(arena, "?x => ?x"), "a rule is (op ...)");
    CHECK_FATAL_TEXT(add_rule(arena, "(sin ?x) => !"), "with make()");
    CHECK_FATAL_TEXT(add_rule(arena, "(sin ?x) -> ?x"), "expected '=>'");
    CHECK_FATAL_TEXT(go_round(arena), "round in a circle");
    arena_free(arena);
}
