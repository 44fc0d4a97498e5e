/* transform_reuse.c - REUSE: what one loop computes, a later one reads and does not compute again.
 * In: two innermost loops of one list, of one extent.  Out: the first stores it, both load it.
 * Invariant: what is kept takes a function that is dear, and nothing that it is computed from
 * changes from the first loop on.
 *   REUSE k j in own   =>   own k_kept f32[8]
 *   for k < 8 { update s[0] = (add (exp2 x[k]) s[0]) }  for j < 8 { y[j] = (mul (exp2 x[j]) r[0]) }
 *       for k < 8 { k_kept[k] = (exp2 x[k])  update s[0] = (add k_kept[k] s[0]) }
 *       for j < 8 { y[j] = (mul k_kept[j] r[0]) }                                               */
#include "schedule/schedule.h"

static bool is_plain(const Kernel *kernel, const Statement *loop) {
    const Loop *info = &kernel->loops.at[loop->loop];
    for (const Statement *at = loop->body; at; at = at->next)
        if (at->kind != STATEMENT_STORE) return false;
    return info->kind == LOOP_SERIAL && info->limit < 0;
}

static bool is_computed(Kernel *kernel, const Statement *loop, Id value) {
    for (const Statement *at = loop->body; at; at = at->next)
        if (kernel_value_has(kernel, at->value, value)) return true;
    return false;
}

// Is it dear, and of nothing that is stored from `first` on?
static bool is_worth_keeping(Kernel *kernel, Statement *first, Id value) {
    Arena *arena = graph_arena(kernel->graph);
    IdList nodes = kernel_nodes(arena, kernel, value);
    bool dear = false;
    for (int i = 0; i < nodes.count; i++) {
        const Node *node = graph_node(kernel->graph, nodes.at[i]);
        dear |= node->op == OP_EXP2 || node->op == OP_LOG2 || node->op == OP_SIN;
        if (node->op != OP_LOAD) continue;
        AccessList accesses = kernel_accesses(arena, kernel, first, (int32_t)node->arg[0]);
        for (int a = 0; a < accesses.count; a++)
            if (accesses.at[a].load < 0) return false;
    }
    return dear;
}

// The outermost part of `value` that the first loop computes and that is worth keeping; -1.
static Id part_to_keep(Kernel *kernel, Statement *first, Id value) {
    if (is_computed(kernel, first, value) && is_worth_keeping(kernel, first, value)) return value;
    Node node = *graph_node(kernel->graph, value);
    for (int i = 0; i < node.sources && node.op != OP_LOAD; i++) {
        Id part = part_to_keep(kernel, first, node.source[i]);
        if (part >= 0) return part;
    }
    return -1;
}

Id reuse_find(Kernel *kernel, Statement *first, Statement *second) {
    if (!is_plain(kernel, first) || !is_plain(kernel, second) ||
        kernel->loops.at[first->loop].extent != kernel->loops.at[second->loop].extent)
        return -1;
    for (const Statement *at = second->body; at; at = at->next) {
        Substitution *by = substitution_new(graph_arena(kernel->graph), kernel);
        by->loop[second->loop] = kernel_loop_index(kernel, first->loop);
        Id part = part_to_keep(kernel, first, kernel_substitute(kernel, at->value, by));
        if (part >= 0) return part;
    }
    return -1;
}

// Loads `local` in the loop's statements in place of `value`.
static void load_instead(Kernel *kernel, Statement *loop, Id value, int32_t local) {
    Index at = kernel_loop_index(kernel, loop->loop);
    Id load = kernel_load(kernel, local, at, -1);
    Substitution *by = substitution_new(graph_arena(kernel->graph), kernel);
    by->node[value] = load;
    statement_substitute(kernel, loop->body, by);
}

void transform_reuse(const ScheduleLine *line) {
    Kernel *kernel = line->kernel;
    Statement *first = kernel_loop_statement(kernel, line_loop(line, line_word(line, 1))),
              *second = kernel_loop_statement(kernel, line_loop(line, line_word(line, 2)));
    line_expect(line, 3, "in");
    Space space = line_space(line, 4);
    const Statement *at = first->next;
    while (at && at != second) at = at->next;
    if (!at) line_refuse(line, second, "it does not follow loop %s", line_word(line, 1));
    Id value = reuse_find(kernel, first, second);
    if (value < 0) line_refuse(line, second, "nothing dear is computed in both, or it changes");

    Substitution *by = substitution_new(line->arena, kernel);
    by->loop[first->loop] = kernel_loop_index(kernel, second->loop);
    Id again = kernel_substitute(kernel, value, by);
    Index extent = kernel->loops.at[first->loop].extent;
    int32_t local =
        kernel_buffer(kernel, arena_print(line->arena, "%s_kept", line_word(line, 1)),
                      node_dtype(kernel->graph, value), space,
                      max_i64(1, index_high(graph_indices(kernel->graph), extent)), true);
    load_instead(kernel, first, value, local);
    load_instead(kernel, second, again, local);
    Statement *keep =
        statement_store(kernel, ROLE_STORE, local, kernel_loop_index(kernel, first->loop), value);
    keep->next = first->body;
    first->body = keep;
}
