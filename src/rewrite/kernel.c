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

// Values inside values are reached by going round again: a round replaces the outermost.
void expand_kernel(Kernel *kernel) {
    Arena *scratch = arena_new();
    for (bool changed = true; changed;) {
        changed = false;
        AccessList stores = kernel_accesses(scratch, kernel, kernel->body, -1);
        bool *used = arena_array(scratch, bool, graph_count(kernel->graph));
        Substitution *by = substitution_new(scratch, kernel);
        for (int i = 0; i < stores.count; i++) {
            if (stores.at[i].load >= 0) continue;
            IdList nodes = statement_nodes(scratch, kernel, stores.at[i].statement);
            for (int n = 0; n < nodes.count; n++) used[nodes.at[n]] = true;
        }
        for (Id id = 0, nodes = by->nodes; id < nodes; id++) {
            const Rule *rule = used[id] ? rule_for(graph_node(kernel->graph, id)) : NULL;
            if (!rule) continue;
            Match match = {.graph = kernel->graph, .root = id};
            match.at[0] = graph_node(kernel->graph, id)->source[0];
            by->node[id] = rule->make(&match);
            changed = true;
        }
        if (changed) statement_substitute(kernel, kernel->body, by);
    }
    arena_free(scratch);
}
