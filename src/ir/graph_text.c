/* graph_text.c - the tensor dialect as text, and verified.
 * In: a graph and its outputs.  Out: text; or a fatal with the node that is wrong.
 * Invariant: the text says all that the graph is: the tests read it again (tests/ir/graph_parse.h).
 *   var position 0..4095
 *   %0 = param{0} f32 (position + 1, 64)
 *   %1 = reduce{add, 1} f32 (position + 1, 1) %0
 *   out %1                                                                                   */
#include "ir/ir.h"

#include <string.h>

// ---- printing ----------------------------------------------------------------------------------

static const char *atom_name(void *context, const Atom *atom) {
    if (atom->kind != ATOM_VAR) return "?";
    return graph_var_info(context, atom->of)->name;
}

static void print_sizes(Text *text, const Graph *graph, int count, const Size *size) {
    IndexTable *table = graph_indices(graph);
    text_add(text, "(");
    for (int i = 0; i < count; i++) {
        if (i) text_add(text, ", ");
        if (size_is_symbolic(size[i]))
            index_print(text, table, size_index(table, size[i]), atom_name, (void *)graph);
        else
            text_add(text, "%ld", size[i]);
    }
    text_add(text, ")");
}

const char *graph_shape_text(const Graph *graph, Shape shape) {
    Text text = text_new(graph_arena(graph));
    print_sizes(&text, graph, shape.rank, shape.size);
    return text.at;
}

// The fewest digits that read back as the same f32; %.9g always does.
static void print_const(Text *text, DType dtype, int64_t word) {
    if (!dtype_is_float(dtype)) {
        text_add(text, "%ld", word);
        return;
    }
    double value, again;
    memcpy(&value, &word, sizeof value);
    size_t start = text->count;
    for (int digits = 6; digits <= 9; digits++) {
        text->count = start;
        text_add(text, "%.*g", digits, value);
        Reader reader = reader_new("const", text->at + start);
        if (reader_number(&reader, &again) && (float)again == (float)value) break;
    }
    if (value == 0 && word != 0) text_add(text, ".0");  // -0 would read as the integer 0
}

static void print_bits(Text *text, int64_t bits, const char *separator) {
    for (int axis = 0; axis < RANK_MAX; axis++) {
        if (!(bits >> axis & 1)) continue;
        text_add(text, "%s%d", separator, axis);
        separator = ", ";
    }
}

static void print_args(Text *text, const Graph *graph, const Node *node) {
    const int64_t *arg = node->arg;
    const char *separator = "";
    if (!*op_args((Op)node->op)) return;
    text_add(text, "{");
    for (const char *letter = op_args((Op)node->op); *letter; letter++, separator = ", ") {
        if (*letter == 'b') {
            print_bits(text, *arg++, separator);
            continue;
        }
        text_add(text, "%s", separator);
        if (*letter == 'n') text_add(text, "%ld", *arg++);
        if (*letter == 'c') print_const(text, (DType)node->dtype, *arg++);
        if (*letter == 'o') text_add(text, "%s", ops[*arg++].text);
        if (*letter == 'v') text_add(text, "%s", graph_var_info(graph, (int32_t)*arg++)->name);
        if (*letter == 'N')
            for (int i = 0; i < node->rank; i++) text_add(text, "%s%ld", i ? ", " : "", *arg++);
        if (*letter == 'S') {
            print_sizes(text, graph, node->rank, arg);
            arg += node->rank;
        }
    }
    text_add(text, "}");
}

// `number` renames ids; NULL keeps them.
static void print_node(Text *text, const Graph *graph, Id id, const Id *number) {
    const Node *node = graph_node(graph, id);
    text_add(text, "%%%d = %s", number ? number[id] : id, ops[node->op].text);
    print_args(text, graph, node);
    text_add(text, " %s ", dtypes[node->dtype].text);
    print_sizes(text, graph, node->rank, node->size);
    for (int i = 0; i < node->sources; i++)
        text_add(text, " %%%d", number ? number[node->source[i]] : node->source[i]);
}

char *graph_print(Arena *arena, const Graph *graph, int outputs, const Id *output) {
    Text text = text_new(arena);
    IdList nodes = graph_nodes(arena, graph, outputs, output, -1);
    Id *number = arena_array(arena, Id, graph_count(graph)), next = 0;
    for (int32_t i = 0; i < graph_vars(graph); i++) {
        const Var *var = graph_var_info(graph, i);
        text_add(&text, "var %s %ld..%ld\n", var->name, var->low, var->high);
    }
    for (int32_t i = 0; i < nodes.count; i++) {
        Id id = nodes.at[i];
        if (graph_node(graph, id)->op >= OP_LOAD)
            fatal("graph_print: %s is of the kernel dialect", ops[graph_node(graph, id)->op].text);
        number[id] = next++;
        print_node(&text, graph, id, number);
        text_add(&text, "\n");
    }
    text_add(&text, "out");
    for (int i = 0; i < outputs; i++) text_add(&text, " %%%d", number[output[i]]);
    text_add(&text, "\n");
    return text.at;
}

// ---- verifying ---------------------------------------------------------------------------------

static const char *node_fault(const Graph *graph, Id id) {
    const Node *node = graph_node(graph, id);
    if (node->op >= OP_LOAD) return "it is of the kernel dialect";
    for (int i = 0; i < node->sources; i++)
        if (node->source[i] >= id) return "a source does not come before it";
    NodeDraft draft = {(Op)node->op,  (DType)node->dtype, node_shape(graph, id),
                       node->sources, node->arg_count,    node->source,
                       node->arg};
    node_derive(graph, &draft);
    if (draft.dtype != (DType)node->dtype) return "its op gives another dtype";
    if (!shape_equal(draft.shape, node_shape(graph, id))) return "its op gives another shape";
    return NULL;
}

void graph_verify(const Graph *graph, int outputs, const Id *output) {
    IdList nodes = graph_nodes(graph_arena(graph), graph, outputs, output, -1);
    for (int32_t i = 0; i < nodes.count; i++) {
        const char *fault = node_fault(graph, nodes.at[i]);
        if (!fault) continue;
        Text line = text_new(graph_arena(graph));
        print_node(&line, graph, nodes.at[i], NULL);
        fatal("graph_verify: %s: %s", fault, line.at);
    }
}
