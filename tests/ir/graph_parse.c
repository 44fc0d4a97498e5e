/* graph_parse.c - the tensor dialect, read: graph_print's text.
 * In: text, in which a node's line comes after those of its sources.  Out: a graph, its outputs.
 * Invariant: parsing what was printed and printing it again gives the same text; another text is
 * fatal with its place.
 *   %0 = param{0} f32 (4)   %1 = exp2 f32 (4) %0   out %1                                       */
#include "ir/graph_parse.h"

#include <string.h>

typedef struct {
    Reader reader;
    Arena *arena;
    Graph *graph;
    LIST(Id) ids;  // by the number in the text
    LIST(int64_t) args;
    double value;  // of a const; its word depends on the dtype, which comes later
} Parsing;

static int64_t parse_int(Parsing *parsing) {
    int64_t value;
    if (!reader_int(&parsing->reader, &value))
        reader_fatal(&parsing->reader, "expected an integer");
    return value;
}

static const char *parse_name(Parsing *parsing, const char *what) {
    const char *name = reader_name(&parsing->reader, parsing->arena);
    if (!name) reader_fatal(&parsing->reader, "expected %s", what);
    return name;
}

static Op parse_op(Parsing *parsing) {
    Op op;
    const char *name = parse_name(parsing, "an op");
    if (!op_find(name, &op) || op >= OP_LOAD)
        reader_fatal(&parsing->reader, "'%s' is no op of a tensor graph", name);
    return op;
}

static int32_t parse_var(Parsing *parsing, const char *name) {
    for (int32_t i = 0; i < graph_vars(parsing->graph); i++)
        if (strcmp(graph_var_info(parsing->graph, i)->name, name) == 0) return i;
    reader_fatal(&parsing->reader, "no line declares the var '%s'", name);
}

static Index find_var(void *context, Reader *reader, const char *name) {
    (void)reader;
    Parsing *parsing = context;
    return graph_var_index(parsing->graph, parse_var(parsing, name));
}

static Shape parse_sizes(Parsing *parsing) {
    IndexTable *table = graph_indices(parsing->graph);
    Shape shape = {0};
    reader_expect(&parsing->reader, "(");
    while (!reader_take(&parsing->reader, ")")) {
        if (shape.rank == RANK_MAX) reader_fatal(&parsing->reader, "more than %d axes", RANK_MAX);
        if (shape.rank) reader_expect(&parsing->reader, ",");
        Index size = index_parse(&parsing->reader, parsing->arena, table, find_var, parsing);
        shape.size[shape.rank++] = size_from_index(table, size);
    }
    return shape;
}

static void add_word(Parsing *parsing, int64_t word) {
    *list_add(parsing->arena, &parsing->args) = word;
}

static void parse_const(Parsing *parsing) {
    int64_t integer;
    if (reader_int(&parsing->reader, &integer)) {
        parsing->value = (double)integer;
        add_word(parsing, integer);
        return;
    }
    if (!reader_number(&parsing->reader, &parsing->value))
        reader_fatal(&parsing->reader, "expected a number");
    add_word(parsing, 0);
}

static int64_t parse_bits(Parsing *parsing, bool first) {
    int64_t bits = 0;
    while (!reader_peek(&parsing->reader, "}")) {
        if (!first) reader_expect(&parsing->reader, ",");
        first = false;
        int64_t axis = parse_int(parsing);
        if (axis < 0 || axis >= RANK_MAX)
            reader_fatal(&parsing->reader, "axis %ld is not 0 to %d", axis, RANK_MAX - 1);
        bits |= (int64_t)1 << axis;
    }
    return bits;
}

static void parse_numbers(Parsing *parsing) {
    while (!reader_peek(&parsing->reader, "}")) {
        add_word(parsing, parse_int(parsing));
        if (!reader_take(&parsing->reader, ",")) return;
    }
}

static void parse_args(Parsing *parsing, Op op) {
    Reader *reader = &parsing->reader;
    const char *letters = op_args(op);
    parsing->args.count = 0;
    if (!*letters) return;
    reader_expect(reader, "{");
    for (const char *letter = letters; *letter; letter++) {
        if (letter > letters && *letter != 'b') reader_expect(reader, ",");
        if (*letter == 'n') add_word(parsing, parse_int(parsing));
        if (*letter == 'c') parse_const(parsing);
        if (*letter == 'o') add_word(parsing, parse_op(parsing));
        if (*letter == 'v') add_word(parsing, parse_var(parsing, parse_name(parsing, "a var")));
        if (*letter == 'b') add_word(parsing, parse_bits(parsing, letter == letters));
        if (*letter == 'N') parse_numbers(parsing);
        if (*letter == 'S') {
            Shape sizes = parse_sizes(parsing);
            for (int i = 0; i < sizes.rank; i++) add_word(parsing, sizes.size[i]);
        }
    }
    reader_expect(reader, "}");
}

static Id parse_id(Parsing *parsing) {
    reader_expect(&parsing->reader, "%");
    int64_t number = parse_int(parsing);
    if (number < 0 || number >= parsing->ids.count)
        reader_fatal(&parsing->reader, "%%%ld has no line before this one", number);
    return parsing->ids.at[number];
}

static void parse_node(Parsing *parsing) {
    if (parse_int(parsing) != parsing->ids.count)
        reader_fatal(&parsing->reader, "expected the node %%%d", parsing->ids.count);
    reader_expect(&parsing->reader, "=");
    Op op = parse_op(parsing);
    parse_args(parsing, op);
    DType dtype;
    if (!dtype_find(parse_name(parsing, "a dtype"), &dtype))
        reader_fatal(&parsing->reader, "this dtype is not known");
    Shape shape = parse_sizes(parsing);
    Id source[3], id;
    for (int i = 0; i < ops[op].arity; i++) source[i] = parse_id(parsing);
    if (op == OP_CONST && dtype_is_float(dtype))
        id = node_const_float(parsing->graph, dtype, shape, parsing->value);
    else if (op == OP_CONST)
        id = node_const_int(parsing->graph, dtype, shape, parsing->args.at[0]);
    else
        id = node_make(parsing->graph, op, dtype, shape, ops[op].arity, source, parsing->args.count,
                       parsing->args.at);
    *list_add(parsing->arena, &parsing->ids) = id;
}

GraphProgram graph_parse(Arena *arena, const char *name, const char *text) {
    Parsing parsing = {reader_new(name, text), arena, graph_new(arena), {0}, {0}, 0};
    Reader *reader = &parsing.reader;
    while (reader_take(reader, "var")) {
        const char *var = parse_name(&parsing, "a name");
        int64_t low = parse_int(&parsing);
        reader_expect(reader, "..");
        graph_var(parsing.graph, var, low, parse_int(&parsing));
    }
    while (reader_take(reader, "%")) parse_node(&parsing);
    reader_expect(reader, "out");
    LIST(Id) outputs = {0};
    while (reader_peek(reader, "%")) *list_add(arena, &outputs) = parse_id(&parsing);
    reader_skip(reader);
    if (reader->at < reader->end) reader_fatal(reader, "expected nothing behind the outputs");
    return (GraphProgram){parsing.graph, outputs.count, outputs.at};
}
