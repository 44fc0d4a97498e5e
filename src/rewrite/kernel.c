/* kernel.c - rules applied inside a kernel, whose nodes are named by its statements' trees.
 * In: a kernel.  Out: the same kernel, its statements pointing at rewritten values.
 * Invariant: loops and memory stay; only what is computed from them changes.
 *   y[i] = (exp2 x[i])   =>   y[i] = the polynomial of it */
#include <string.h>

#include "rewrite/rewrite.h"

static const Rule *rule_for(const Node *node) {
    size_t length = strlen(ops[node->op].text);
    for (int i = 0; i < rules_expand_count; i++)  // "(exp2 ?x) => !"
        if (!strncmp(rules_expand[i].text + 1, ops[node->op].text, length) &&
            rules_expand[i].text[1 + length] == ' ')
            return &rules_expand[i];
    return NULL;
}

static Id expanded(Graph *graph, Id id, const Id *source) {
    const Rule *rule = rule_for(graph_node(graph, id));
    Match match = {.graph = graph, .root = id};
    if (!rule) return -1;
    match.at[0] = source[0];
    return rule->make(&match);
}

void expand_kernel(Kernel *kernel) {
    Arena *scratch = arena_new();
    Substitution *by = substitution_new(scratch, kernel);
    by->make = expanded;
    statement_substitute(kernel, kernel->body, by);
    kernel_verify(kernel);
    arena_free(scratch);
}
