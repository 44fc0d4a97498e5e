/* transform_tabulate.c - TABULATE: what a small integer becomes, looked up instead of computed.
 * In: a buffer whose elements hold codes of 4 bits, a place.  Out: a table of 16 results, made at
 * the place's beginning, and reads of it where they were computed.
 * Invariant: a code is an AND with a constant below 16 of something read from the buffer; what is
 * tabulated is the largest expression around it whose other parts stay the same inside the place.
 *   TABULATE w at g   for g { for b < 16 { .. (fma (cast:f32 (and w[..] 15:u8)) d[g] o[g]) .. } }
 *   =>   register w_table f32[16]
 *        for g { for w_t < 16 { w_table[w_t] = (fma (cast:f32 @i32(w_t)) d[g] o[g]) }
 *                for b < 16 { .. w_table[(and w[..] 15:u8)] .. } }                             */
#include "schedule/schedule.h"

enum { ENTRIES = 16, LOOKUPS_MAX = 32 };
typedef struct {
    const ScheduleLine *line;
    Kernel *kernel;
    int32_t buffer;
    LoopSet inside;       // loops at the place
    AccessList accesses;  // at the place
    Id code, result;      // of the lookup being made
} Tabulate;

static bool is_code(const Tabulate *to, Id id) {
    const Graph *graph = to->kernel->graph;
    const Node *node = graph_node(graph, id);
    if (node->op != OP_AND || node->dtype == DT_BOOL ||
        !kernel_value_reads(to->kernel, id, to->buffer))
        return false;
    for (int i = 0; i < 2; i++) {
        int64_t mask = -1;
        if (graph_node(graph, node->source[i])->op == OP_CONST)
            node_const_value(graph, node->source[i], &mask);
        if (mask >= 0 && mask < ENTRIES) return true;
    }
    return false;
}

// The same in all iterations at the place.
static bool stays(const Tabulate *to, Id value) {
    if (loop_set_meets(kernel_loops_of(to->kernel, value), to->inside)) return false;
    for (int i = 0; i < to->accesses.count; i++)
        if (to->accesses.at[i].load < 0 &&
            kernel_value_reads(to->kernel, value, to->accesses.at[i].buffer))
            return false;
    return true;
}

static bool is_function_of_code(const Tabulate *to, Id value) {
    const Node *node = graph_node(to->kernel->graph, value);
    if (value == to->code) return true;
    if (!(ops[node->op].properties & MAPS)) return false;
    for (int i = 0; i < node->sources; i++) {
        Id source = node->source[i];
        if (kernel_value_has(to->kernel, source, to->code) ? !is_function_of_code(to, source)
                                                           : !stays(to, source))
            return false;
    }
    return true;
}

// The outermost f32 in `value` that the code alone moves; -1 if there is none.
static Id widest(const Tabulate *to, Id value) {
    const Node *node = graph_node(to->kernel->graph, value);
    if (!kernel_value_has(to->kernel, value, to->code) || value == to->code) return -1;
    if (node->dtype == DT_F32 && is_function_of_code(to, value)) return value;
    Id found = -1;
    for (int i = 0; i < node->sources && found < 0; i++) found = widest(to, node->source[i]);
    return found;
}

// The next code that is still computed with; false if none is left.
static bool find_lookup(Tabulate *to) {
    for (int i = 0; i < to->accesses.count; i++) {
        const Statement *store = to->accesses.at[i].statement;
        IdList nodes = kernel_nodes(to->line->arena, to->kernel, store->value);
        for (int n = 0; n < nodes.count; n++) {
            to->code = nodes.at[n];
            to->result = is_code(to, to->code) ? widest(to, store->value) : -1;
            if (to->result >= 0) return true;
        }
    }
    return false;
}

void transform_tabulate(const ScheduleLine *line) {
    Kernel *kernel = line->kernel;
    Graph *graph = kernel->graph;
    Tabulate to = {.line = line, .kernel = kernel};
    to.buffer = line_buffer(line, line_word(line, 1));
    line_expect(line, 2, "at");
    Statement **place = line_place(line, 3);
    to.inside = kernel_loops_inside(*place);
    to.accesses = kernel_accesses(line->arena, kernel, *place, -1);
    const char *name = kernel->buffers.at[to.buffer].name;
    int32_t loop = kernel_loop(kernel, arena_print(line->arena, "%s_t", name), ENTRIES), table = -1;
    Id filled = -1;
    int lookups = 0;
    for (; lookups < LOOKUPS_MAX && find_lookup(&to); lookups++) {
        Substitution *fill = substitution_new(line->arena, kernel);
        Index entry = kernel_loop_index(kernel, loop);
        fill->node[to.code] =
            node_cast(graph, kernel_index(kernel, entry, DT_I32), node_dtype(graph, to.code));
        Id value = kernel_substitute(kernel, to.result, fill);
        if (filled >= 0 && value != filled)
            line_refuse(line, NULL, "codes of %s become different things there", name);
        if (filled < 0)
            table = kernel_buffer(kernel, arena_print(line->arena, "%s_table", name), DT_F32,
                                  SPACE_REGISTER, ENTRIES, true);
        filled = value;
        Index at = index_atom(graph_indices(graph), ATOM_VALUE, node_cast(graph, to.code, DT_I32),
                              0, ENTRIES - 1);
        Substitution *use = substitution_new(line->arena, kernel);
        use->node[to.result] = kernel_load(kernel, table, at, -1);
        statement_substitute(kernel, *place, use);
        to.accesses = kernel_accesses(line->arena, kernel, *place, -1);
    }
    if (!lookups)
        line_refuse(line, NULL, "no f32 there depends on a code of %s. Hint: a code is (and .. 15)",
                    name);
    Statement *fill = statement_loop(
        kernel, loop,
        statement_store(kernel, ROLE_STORE, table, kernel_loop_index(kernel, loop), filled));
    fill->next = *place;
    *place = fill;
}
