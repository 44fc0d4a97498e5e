/* kernel_text.c - the kernel dialect as text: printed, and read again.
 * In: a kernel, or its text.  Out: the other.
 * Invariant: parse(print(k)) prints the same. A `let` is notation only: it names a node that one
 * statement uses twice or more, or that stands in an index; it is printed before that statement.
 *   for i < 8 {
 *     let t1 = (add a[i] 1)
 *     out[i] = (mul t1 t1)
 *   }                                                                                           */
#include "ir/ir.h"

#include <math.h>
#include <string.h>

static const char *const role_texts[ROLES] = {"",        "init ",  "update ",
                                              "finish ", "async ", "apart "};
static const char *const kind_texts[LOOP_KINDS] = {"",     "thread", "vector", "unroll",
                                                   "tile", "grid",   "warp"};
static const char *const space_texts[SPACES] = {"in", "register", "own", "shared", "once"};

// ---- print -------------------------------------------------------------------------------------

typedef struct {
    const Kernel *kernel;
    const Graph *graph;
    Arena *arena;
    Text text;          // where the next word goes
    Text lets;          // the `let` lines of the statement being printed
    bool *wanted;       // by node: it gets a `let` when it is met; NULL: there are none
    const Atom **atom;  // by node: as what it stands in an index; NULL if in none
    const char **name;  // by node: its `let`, once it has one
    int depth, count;   // of indentation, of lets
} Printer;

static const char *let_name(Printer *printer, Id id);

static const char *atom_name(void *context, const Atom *atom) {
    Printer *printer = context;
    if (atom->kind == ATOM_LOOP) return printer->kernel->loops.at[atom->of].name;
    if (atom->kind == ATOM_VAR) return graph_var_info(printer->graph, atom->of)->name;
    return printer->wanted ? let_name(printer, atom->of)
                           : arena_print(printer->arena, "%%%d", atom->of);
}

static void print_index(Printer *printer, Index index) {
    index_print(&printer->text, graph_indices(printer->graph), index, atom_name, printer);
}

// The shortest text that reads back as the same float: constants are rounded to their dtype.
static const char *shortest(Arena *arena, float value) {
    for (int digits = 1;; digits++) {
        Text text = text_new(arena);
        text_add(&text, "%.*g", digits, (double)value);
        Reader reader = reader_new("number", text.at);
        double again = 0;
        if ((reader_number(&reader, &again) && (float)again == value) || digits == 9)
            return text.at;
    }
}

static void print_const(Printer *printer, Id id) {
    DType dtype = node_dtype(printer->graph, id);
    int64_t integer = 0;
    double value = node_const_value(printer->graph, id, &integer);
    if (dtype == DT_BOOL)
        text_add(&printer->text, "%s", integer ? "true" : "false");
    else if (!dtype_is_float(dtype))
        text_add(&printer->text, "%lld", (long long)integer);
    else if (!isfinite(value))
        text_add(&printer->text, isnan(value) ? "nan" : value < 0 ? "-inf" : "inf");
    else if (value == 0 && signbit(value))
        text_add(&printer->text, "-0.0");
    else {
        text_add(&printer->text, "%s", shortest(printer->arena, (float)value));
    }
    if (dtype != DT_F32) text_add(&printer->text, ":%s", dtypes[dtype].text);
}

static void print_value(Printer *printer, Id id);

static void print_load(Printer *printer, const Node *node) {
    text_add(&printer->text, "%s[", printer->kernel->buffers.at[node->arg[0]].name);
    print_index(printer, (Index)node->arg[1]);
    if (node->sources) {
        text_add(&printer->text, " if ");
        print_value(printer, node->source[0]);
    }
    text_add(&printer->text, "]");
}

// `k<96`; an extent that is neither a number nor a name stands in parentheses.
static void print_bound(Printer *printer, int32_t loop) {
    const Loop *info = &printer->kernel->loops.at[loop];
    Text extent = text_new(printer->arena);
    index_print(&extent, graph_indices(printer->graph), info->extent, atom_name, printer);
    bool simple = !strpbrk(extent.at, " */%+");
    text_add(&printer->text, simple ? " %s<%s" : " %s<(%s)", info->name, extent.at);
}

static void print_call(Printer *printer, const Node *node) {
    text_add(&printer->text, "(%s", ops[node->op].text);
    if (ops[node->op].properties & TYPED) text_add(&printer->text, ":%s", dtypes[node->dtype].text);
    if (node->op == OP_REDUCE) text_add(&printer->text, " %s", ops[node->arg[0]].text);
    for (int64_t i = 0; node->op == OP_REDUCE && i < node->arg[1]; i++)
        print_bound(printer, (int32_t)node->arg[2 + i]);
    for (int i = 0; i < node->sources; i++) {
        text_add(&printer->text, " ");
        print_value(printer, node->source[i]);
    }
    text_add(&printer->text, ")");
}

static void print_node(Printer *printer, Id id) {
    const Node *node = graph_node(printer->graph, id);
    if (node->op == OP_CONST) {
        print_const(printer, id);
    } else if (node->op == OP_INDEX) {
        text_add(&printer->text, "@%s(", dtypes[node->dtype].text);
        print_index(printer, (Index)node->arg[0]);
        text_add(&printer->text, ")");
    } else if (node->op == OP_LOAD) {
        print_load(printer, node);
    } else {
        print_call(printer, node);
    }
}

static void print_value(Printer *printer, Id id) {
    if (printer->wanted[id])
        text_add(&printer->text, "%s", let_name(printer, id));
    else
        print_node(printer, id);
}

// The atoms in `index` that stand for values, by node.
static void find_values(const IndexTable *table, Index index, const Atom **value) {
    const Term *terms;
    int count = index_terms(table, index, &terms);
    for (int i = 0; i < count; i++) {
        const Atom *atom = index_atom_of(table, terms[i].atom);
        if (atom->kind == ATOM_DIV || atom->kind == ATOM_MOD) find_values(table, atom->of, value);
        if (atom->kind == ATOM_VALUE) value[atom->of] = atom;
    }
}

// The name of a node that has a `let`; its line is made the first time, after those that it needs.
static const char *let_name(Printer *printer, Id id) {
    const Kernel *kernel = printer->kernel;
    if (printer->name[id]) return printer->name[id];
    Text outer = printer->text;
    printer->text = text_new(printer->arena);
    print_node(printer, id);
    const char *value = printer->text.at, *name;
    printer->text = text_new(printer->arena);
    LoopSet loops = kernel_loops_of(kernel, id), around = kernel_loops_inside(kernel->body);
    const char *over = " over";  // loops of a REDUCE that is written further on
    for (int32_t loop = 0; loop < kernel->loops.count; loop++) {
        if (!loop_set_has(&loops, loop) || loop_set_has(&around, loop)) continue;
        text_add(&printer->text, "%s", over);
        print_bound(printer, loop);
        over = "";
    }
    do {
        name = arena_print(printer->arena, "t%d", ++printer->count);
    } while (kernel_has_name(kernel, name));
    text_add(&printer->lets, "%*slet %s", 2 * printer->depth, "", name);
    const Atom *atom = printer->atom[id];
    if (atom)
        text_add(&printer->lets, " in %lld..%lld", (long long)atom->low, (long long)atom->high);
    text_add(&printer->lets, "%s = %s\n", printer->text.at, value);
    printer->text = outer;
    printer->name[id] = name;
    return name;
}

// A `let` is for what a store uses twice or more and is long to write, and what stands in an index.
static void find_lets(Printer *printer, const Statement *store) {
    int32_t count = graph_count(printer->graph);
    IdList nodes = statement_nodes(printer->arena, printer->kernel, store);
    int *uses = arena_array(printer->arena, int, count);
    printer->atom = arena_array(printer->arena, const Atom *, count);
    printer->wanted = arena_array(printer->arena, bool, count);
    printer->name = arena_array(printer->arena, const char *, count);
    const IndexTable *table = graph_indices(printer->graph);
    find_values(table, store->index, printer->atom);
    for (int i = 0; i < nodes.count; i++) {
        const Node *node = graph_node(printer->graph, nodes.at[i]);
        for (int s = 0; s < node->sources; s++) uses[node->source[s]]++;
        if (node->op == OP_LOAD) find_values(table, (Index)node->arg[1], printer->atom);
        if (node->op == OP_INDEX) find_values(table, (Index)node->arg[0], printer->atom);
    }
    if (store->value >= 0) uses[store->value]++;
    if (store->condition >= 0) uses[store->condition]++;
    for (int i = 0; i < nodes.count; i++) {
        Id id = nodes.at[i];
        const Node *node = graph_node(printer->graph, id);
        bool longer =
            node->op == OP_LOAD ? node->sources > 0 : node->op != OP_CONST && node->op != OP_INDEX;
        printer->wanted[id] = printer->atom[id] || (longer && uses[id] > 1);
    }
}

static void print_store(Printer *printer, const Statement *store, int depth) {
    Text outer = printer->text;
    find_lets(printer, store);
    printer->depth = depth;
    printer->lets = printer->text = text_new(printer->arena);
    text_add(&printer->text, "%*s%s%s[", 2 * depth, "", role_texts[store->role],
             printer->kernel->buffers.at[store->buffer].name);
    print_index(printer, store->index);
    text_add(&printer->text, "] = ");
    print_value(printer, store->value);
    if (store->condition >= 0) {
        text_add(&printer->text, " when ");
        print_value(printer, store->condition);
    }
    text_add(&outer, "%s%s\n", printer->lets.at, printer->text.at);
    printer->text = outer;
    printer->wanted = NULL;
}

static void print_loop_head(Printer *printer, int32_t loop) {
    const Loop *info = &printer->kernel->loops.at[loop];
    text_add(&printer->text, info->kind ? "%s " : "", kind_texts[info->kind]);
    if (info->kind == LOOP_UNROLL && info->steps) text_add(&printer->text, "%d ", info->steps);
    text_add(&printer->text, "for %s < ", info->name);
    print_index(printer, info->extent);
    if (info->limit < 0) return;
    text_add(&printer->text, ", ");
    print_index(printer, info->limit);
}

// What a limit reads from memory gets a `let`.
static void print_for(Printer *printer, int32_t loop, int depth) {
    Statement limit = {.index = printer->kernel->loops.at[loop].limit, .value = -1};
    limit.condition = -1;
    Text outer = printer->text;
    printer->depth = depth;
    printer->lets = printer->text = text_new(printer->arena);
    if (limit.index >= 0) find_lets(printer, &limit);
    text_add(&printer->text, "%*s", 2 * depth, "");
    print_loop_head(printer, loop);
    text_add(&outer, "%s%s {\n", printer->lets.at, printer->text.at);
    printer->text = outer;
    printer->wanted = NULL;
}

static void print_meeting(Text *text, const Statement *statement) {
    if (statement->kind == STATEMENT_SETTLE)
        text_add(text, "settle %d", statement->groups);
    else
        text_add(text, statement->kind == STATEMENT_COMMIT ? "commit" : "barrier");
}

static void print_list(Printer *printer, const Statement *list, int depth) {
    for (; list; list = list->next) {
        if (list->kind == STATEMENT_STORE) {
            print_store(printer, list, depth);
            continue;
        }
        if (list->kind != STATEMENT_LOOP) {
            text_add(&printer->text, "%*s", 2 * depth, "");
            print_meeting(&printer->text, list);
            text_add(&printer->text, "\n");
            continue;
        }
        print_for(printer, list->loop, depth);
        print_list(printer, list->body, depth + 1);
        text_add(&printer->text, "%*s}\n", 2 * depth, "");
    }
}

static void print_buffer(Printer *printer, int32_t id) {
    const KernelBuffer *buffer = &printer->kernel->buffers.at[id];
    const char *head = space_texts[buffer->space];
    if (buffer->space == SPACE_PARAM && buffer->written) {
        AccessList accesses =
            kernel_accesses(printer->arena, printer->kernel, printer->kernel->body, id);
        head = accesses.count && accesses.at[0].load >= 0 ? "inout" : "out";
    }
    if (buffer->is_weight) head = "weight";
    text_add(&printer->text, "%s %s %s[%lld]", head, buffer->name, dtypes[buffer->dtype].text,
             (long long)buffer->size);
    if (buffer->streams) text_add(&printer->text, " streams");
    text_add(&printer->text, buffer->ahead ? " ahead %d\n" : "\n", buffer->ahead);
}

// The buffers that are PARAMs, or those that are not; of `kernel->body` alone, if it is a part.
static void print_buffers(Printer *printer, bool params, bool is_part) {
    const Kernel *kernel = printer->kernel;
    for (int32_t buffer = 0; buffer < kernel->buffers.count; buffer++) {
        if ((kernel->buffers.at[buffer].space == SPACE_PARAM) != params) continue;
        if (is_part && !kernel_accesses(printer->arena, kernel, kernel->body, buffer).count)
            continue;
        print_buffer(printer, buffer);
    }
}

static char *print_kernel(Arena *arena, const Kernel *kernel, bool is_part) {
    Printer printer = {
        .kernel = kernel, .graph = kernel->graph, .arena = arena, .text = text_new(arena)};
    text_add(&printer.text, "kernel %s\n", kernel->name);
    for (int32_t var = 0; var < graph_vars(kernel->graph) && !is_part; var++) {
        const Var *info = graph_var_info(kernel->graph, var);
        text_add(&printer.text, "var %s %lld..%lld\n", info->name, (long long)info->low,
                 (long long)info->high);
    }
    print_buffers(&printer, true, is_part);
    print_buffers(&printer, false, is_part);
    print_list(&printer, kernel->body, 0);
    return printer.text.at;
}

char *kernel_print(Arena *arena, const Kernel *kernel) {
    return print_kernel(arena, kernel, false);
}

char *kernel_print_part(Arena *arena, const Kernel *kernel, Statement *list) {
    Kernel part = *kernel;
    part.body = list;
    return print_kernel(arena, &part, true);
}

char *statement_text(Arena *arena, const Kernel *kernel, const Statement *statement) {
    Printer printer = {
        .kernel = kernel, .graph = kernel->graph, .arena = arena, .text = text_new(arena)};
    if (statement->kind == STATEMENT_LOOP) {
        print_loop_head(&printer, statement->loop);
    } else if (statement->kind == STATEMENT_STORE) {
        text_add(&printer.text, "%s%s[", role_texts[statement->role],
                 kernel->buffers.at[statement->buffer].name);
        print_index(&printer, statement->index);
        text_add(&printer.text, "]");
    } else {
        print_meeting(&printer.text, statement);
    }
    return printer.text.at;
}

// ---- parse -------------------------------------------------------------------------------------

typedef struct {
    const char *name;
    Id value;
    Index index;  // -1: the let has no interval
} Let;
typedef struct {
    Reader in;
    Arena *arena;
    Kernel *kernel;
    LIST(Let) lets;  // in force, innermost last
} Parser;

static const char *parse_name(Parser *parser, const char *of_what) {
    const char *name = reader_name(&parser->in, parser->arena);
    if (!name) reader_fatal(&parser->in, "expected the name of a %s", of_what);
    return name;
}

static int64_t parse_int(Parser *parser) {
    int64_t value;
    if (!reader_int(&parser->in, &value)) reader_fatal(&parser->in, "expected an integer");
    return value;
}

static DType parse_dtype(Parser *parser) {
    DType dtype;
    const char *name = parse_name(parser, "dtype");
    if (!dtype_find(name, &dtype)) reader_fatal(&parser->in, "no dtype '%s'", name);
    return dtype;
}

static const Let *find_let(const Parser *parser, const char *name) {
    for (int i = parser->lets.count - 1; i >= 0; i--)
        if (!strcmp(parser->lets.at[i].name, name)) return &parser->lets.at[i];
    return NULL;
}

static Index find_index(void *context, Reader *reader, const char *name) {
    Parser *parser = context;
    Graph *graph = parser->kernel->graph;
    const Let *let = find_let(parser, name);
    if (let && let->index < 0)
        reader_fatal(reader, "'%s' has no interval. Hint: let %s in low..high = ...", name, name);
    if (let) return let->index;
    int32_t loop = kernel_find_loop(parser->kernel, name);
    if (loop >= 0) return kernel_loop_index(parser->kernel, loop);
    for (int32_t var = 0; var < graph_vars(graph); var++) {
        const Var *info = graph_var_info(graph, var);
        if (!strcmp(info->name, name))
            return index_atom(graph_indices(graph), ATOM_VAR, var, info->low, info->high);
    }
    reader_fatal(reader, "no loop, VAR or let '%s'", name);
}

static Index parse_index(Parser *parser) {
    return index_parse(&parser->in, parser->arena, graph_indices(parser->kernel->graph), find_index,
                       parser);
}

static void check_unused(Parser *parser, const char *name) {
    if (kernel_has_name(parser->kernel, name))
        reader_fatal(&parser->in, "'%s' is there already, or is a word of the language", name);
}

static int32_t parse_new_loop(Parser *parser, const char *name, Index extent) {
    check_unused(parser, name);
    IndexTable *table = graph_indices(parser->kernel->graph);
    return kernel_loop(parser->kernel, name, size_from_index(table, extent));
}

// `k<96`, where a `let over` may have said it already. False if something else is next.
static bool parse_bound(Parser *parser, int32_t *loop) {
    Reader before = parser->in;
    const char *name = reader_name(&parser->in, parser->arena);
    if (!name || !reader_take(&parser->in, "<")) {
        parser->in = before;
        return false;
    }
    IndexTable *table = graph_indices(parser->kernel->graph);
    int64_t number;
    Index extent;
    if (reader_take(&parser->in, "(")) {
        extent = parse_index(parser);
        reader_expect(&parser->in, ")");
    } else if (reader_int(&parser->in, &number)) {
        extent = index_const(table, number);
    } else {
        extent = find_index(parser, &parser->in, parse_name(parser, "VAR"));
    }
    *loop = kernel_find_loop(parser->kernel, name);
    if (*loop < 0) *loop = parse_new_loop(parser, name, extent);
    if (parser->kernel->loops.at[*loop].extent != extent)
        reader_fatal(&parser->in, "loop '%s' had another extent before", name);
    return true;
}

static Id parse_value(Parser *parser);

static Id parse_reduce(Parser *parser) {
    const char *name = parse_name(parser, "fold");
    Op fold;
    int32_t loop[RANK_MAX];
    int loops = 0;
    if (!op_find(name, &fold)) reader_fatal(&parser->in, "no op '%s'", name);
    while (loops < RANK_MAX && parse_bound(parser, &loop[loops])) loops++;
    return kernel_reduce(parser->kernel, fold, parse_value(parser), loops, loop);
}

// After "(": (add x y), (cast:f32 x), (reduce max k<96 x)
static Id parse_call(Parser *parser) {
    const char *name = parse_name(parser, "op");
    Op op;
    DType dtype = DT_F32;
    Id source[3], result;
    if (!op_find(name, &op) || !(op == OP_REDUCE || ops[op].properties & MAPS))
        reader_fatal(&parser->in, "no op '%s' in kernels", name);
    bool typed = ops[op].properties & TYPED;
    if (typed) {
        reader_expect(&parser->in, ":");
        dtype = parse_dtype(parser);
    }
    if (op == OP_REDUCE) {
        result = parse_reduce(parser);
    } else {
        for (int i = 0; i < ops[op].arity; i++) source[i] = parse_value(parser);
        result = node_map(parser->kernel->graph, op, dtype, source);
    }
    reader_close(&parser->in);
    return result;
}

static DType parse_suffix(Parser *parser, DType otherwise) {
    return reader_take(&parser->in, ":") ? parse_dtype(parser) : otherwise;
}

static bool parse_const(Parser *parser, Id *result) {
    Graph *graph = parser->kernel->graph;
    bool truth = reader_peek(&parser->in, "true"), number = true;
    int64_t integer = truth;
    double value = 0;
    if (truth || reader_peek(&parser->in, "false"))
        reader_name(&parser->in, parser->arena);
    else if (reader_int(&parser->in, &integer))
        value = (double)integer;
    else
        number = reader_number(&parser->in, &value);
    if (!number) return false;
    DType dtype = parse_suffix(parser, DT_F32);
    *result = dtype_is_float(dtype) ? node_const_float(graph, dtype, (Shape){0}, value)
                                    : node_const_int(graph, dtype, (Shape){0}, integer);
    return true;
}

static Id parse_load(Parser *parser, int32_t buffer) {
    Id condition = -1;
    reader_expect(&parser->in, "[");
    Index index = parse_index(parser);
    if (reader_take(&parser->in, "if")) condition = parse_value(parser);
    reader_expect(&parser->in, "]");
    return kernel_load(parser->kernel, buffer, index, condition);
}

static Id parse_value(Parser *parser) {
    Id result;
    if (reader_open(&parser->in)) return parse_call(parser);
    if (parse_const(parser, &result)) return result;
    if (reader_take(&parser->in, "@")) {
        DType dtype = parse_dtype(parser);
        reader_expect(&parser->in, "(");
        Index index = parse_index(parser);
        reader_expect(&parser->in, ")");
        return kernel_index(parser->kernel, index, dtype);
    }
    const char *name = parse_name(parser, "value");
    const Let *let = find_let(parser, name);
    if (let) return let->value;
    int32_t buffer = kernel_find_buffer(parser->kernel, name);
    if (buffer < 0) reader_fatal(&parser->in, "no buffer or let '%s'", name);
    return parse_load(parser, buffer);
}

static void parse_let(Parser *parser) {
    Let let = {.name = parse_name(parser, "let"), .index = -1};
    int64_t low = 0, high = 0;
    int32_t loop;
    check_unused(parser, let.name);
    bool bounded = reader_take(&parser->in, "in");
    if (bounded) {
        low = parse_int(parser);
        reader_expect(&parser->in, "..");
        high = parse_int(parser);
    }
    if (reader_take(&parser->in, "over"))
        while (parse_bound(parser, &loop)) {
        }
    reader_expect(&parser->in, "=");
    let.value = parse_value(parser);
    IndexTable *table = graph_indices(parser->kernel->graph);
    if (bounded) let.index = index_atom(table, ATOM_VALUE, let.value, low, high);
    *list_add(parser->arena, &parser->lets) = let;
}

static Statement *parse_store(Parser *parser) {
    Role role = ROLE_STORE;
    if (reader_take(&parser->in, "init"))
        role = ROLE_INIT;
    else if (reader_take(&parser->in, "update"))
        role = ROLE_UPDATE;
    else if (reader_take(&parser->in, "finish"))
        role = ROLE_FINISH;
    else if (reader_take(&parser->in, "async"))
        role = ROLE_ASYNC;
    else if (reader_take(&parser->in, "apart"))
        role = ROLE_APART;
    const char *name = parse_name(parser, "buffer");
    int32_t buffer = kernel_find_buffer(parser->kernel, name);
    if (buffer < 0) reader_fatal(&parser->in, "no buffer '%s'", name);
    reader_expect(&parser->in, "[");
    Index index = parse_index(parser);
    reader_expect(&parser->in, "]");
    reader_expect(&parser->in, "=");
    Statement *store = statement_store(parser->kernel, role, buffer, index, parse_value(parser));
    if (reader_take(&parser->in, "when")) store->condition = parse_value(parser);
    return store;
}

static Statement *parse_list(Parser *parser);

static int32_t parse_steps(Parser *parser) {
    int64_t steps = 0;
    if (reader_peek(&parser->in, "for")) return 0;
    if (!reader_int(&parser->in, &steps) || steps < 2 || steps > LOOP_STEPS_MAX)
        reader_fatal(&parser->in, "how many iterations in a row? 2 to %d", LOOP_STEPS_MAX);
    return (int32_t)steps;
}

static Statement *parse_loop(Parser *parser, LoopKind kind) {
    int32_t steps = kind == LOOP_UNROLL ? parse_steps(parser) : 0;
    reader_expect(&parser->in, "for");
    const char *name = parse_name(parser, "loop");
    reader_expect(&parser->in, "<");
    int32_t loop = parse_new_loop(parser, name, parse_index(parser));
    Index limit = reader_take(&parser->in, ",") ? parse_index(parser) : -1;
    parser->kernel->loops.at[loop].limit = limit;
    parser->kernel->loops.at[loop].kind = kind;
    parser->kernel->loops.at[loop].steps = steps;
    reader_expect(&parser->in, "{");
    Statement *body = parse_list(parser);
    reader_expect(&parser->in, "}");
    return statement_loop(parser->kernel, loop, body);
}

static Statement *parse_statement(Parser *parser) {
    for (int kind = 1; kind < LOOP_KINDS; kind++) {
        if (!reader_take(&parser->in, kind_texts[kind])) continue;
        return parse_loop(parser, (LoopKind)kind);
    }
    if (reader_peek(&parser->in, "for")) return parse_loop(parser, LOOP_SERIAL);
    StatementKind kind = reader_take(&parser->in, "barrier")  ? STATEMENT_BARRIER
                         : reader_take(&parser->in, "commit") ? STATEMENT_COMMIT
                         : reader_take(&parser->in, "settle") ? STATEMENT_SETTLE
                                                              : STATEMENT_STORE;
    if (kind == STATEMENT_STORE) return parse_store(parser);
    int64_t groups = kind == STATEMENT_SETTLE ? parse_int(parser) : 0;
    if (groups < 0 || groups > GROUPS_MAX)
        reader_fatal(&parser->in, "settle leaves 0 to %d groups", GROUPS_MAX);
    return statement_meeting(parser->kernel, kind, (int32_t)groups);
}

// Statements up to a "}" or the end; their lets end with them.
static Statement *parse_list(Parser *parser) {
    Statement *first = NULL, **link = &first;
    int lets = parser->lets.count;
    for (;;) {
        reader_skip(&parser->in);
        if (parser->in.at >= parser->in.end || *parser->in.at == '}') break;
        if (reader_take(&parser->in, "let")) {
            parse_let(parser);
            continue;
        }
        *link = parse_statement(parser);
        link = &(*link)->next;
    }
    parser->lets.count = lets;
    return first;
}

// `in a f32[6144]` and its kin; false at the first statement, which may begin with a buffer `out[`.
static bool parse_buffer(Parser *parser) {
    static const struct {
        const char *word;
        Space space;
        bool written, is_weight;
    } heads[] = {{"in", SPACE_PARAM, false, false},   {"out", SPACE_PARAM, true, false},
                 {"inout", SPACE_PARAM, true, false}, {"register", SPACE_REGISTER, true, false},
                 {"own", SPACE_THREAD, true, false},  {"shared", SPACE_SHARED, true, false},
                 {"once", SPACE_ONCE, true, false},   {"weight", SPACE_PARAM, false, true}};
    for (int i = 0; i < COUNT_OF(heads); i++) {
        Reader before = parser->in;
        if (!reader_take(&parser->in, heads[i].word)) continue;
        if (reader_peek(&parser->in, "[")) {
            parser->in = before;
            return false;
        }
        const char *name = parse_name(parser, "buffer");
        check_unused(parser, name);
        DType dtype = parse_dtype(parser);
        reader_expect(&parser->in, "[");
        int64_t size = parse_int(parser);
        reader_expect(&parser->in, "]");
        if (size < 0) reader_fatal(&parser->in, "buffer '%s' has a negative size", name);
        int32_t buffer =
            kernel_buffer(parser->kernel, name, dtype, heads[i].space, size, heads[i].written);
        parser->kernel->buffers.at[buffer].is_weight = heads[i].is_weight;
        parser->kernel->buffers.at[buffer].streams = reader_take(&parser->in, "streams");
        if (reader_take(&parser->in, "ahead")) {
            int64_t ahead = parse_int(parser);
            if (ahead < 1 || ahead > AHEAD_MAX)
                reader_fatal(&parser->in, "buffer '%s' is asked for %ld bytes ahead: 1 to %d", name,
                             ahead, AHEAD_MAX);
            parser->kernel->buffers.at[buffer].ahead = (int32_t)ahead;
        }
        return true;
    }
    return false;
}

Kernel *kernel_parse(Arena *arena, const char *name, const char *text) {
    Parser parser = {.in = reader_new(name, text), .arena = arena};
    reader_expect(&parser.in, "kernel");
    parser.kernel = kernel_new(arena, parse_name(&parser, "kernel"));
    while (reader_take(&parser.in, "var")) {
        const char *var = parse_name(&parser, "VAR");
        int64_t low = parse_int(&parser);
        reader_expect(&parser.in, "..");
        int64_t high = parse_int(&parser);
        if (low > high) reader_fatal(&parser.in, "VAR '%s' has an empty interval", var);
        graph_var(parser.kernel->graph, var, low, high);
    }
    while (parse_buffer(&parser)) {
    }
    parser.kernel->body = parse_list(&parser);
    if (parser.in.at < parser.in.end) reader_fatal(&parser.in, "expected a statement");
    return parser.kernel;
}
