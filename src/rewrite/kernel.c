/* kernel.c - rules applied inside a kernel, whose nodes are named by its statements' trees.
 * In: a kernel.  Out: the same kernel, its statements pointing at rewritten values.
 * Invariant: loops and memory stay; only what is computed from them changes.
 *   y[i] = (exp2 x[i])   =>   y[i] = the polynomial of it
 *   (add (mul x y) z)    =>   (fma x y z)                   */
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

// x*y + z rounds once: half the operations of a polynomial, and half the time until it is there.
// -1: not such a sum.
static Id contracted(Graph *graph, Id id, const Id *source) {
    const Node *sum = graph_node(graph, id);
    if (sum->op != OP_ADD || sum->dtype != DT_F32) return -1;
    for (int i = 0; i < 2; i++) {
        Node product = *graph_node(graph, source[i]);
        if (product.op == OP_MUL)
            return node_fma(graph, product.source[0], product.source[1], source[1 - i]);
    }
    return -1;
}

static Id expanded(Graph *graph, Id id, const Id *source) {
    const Rule *rule = rule_for(graph_node(graph, id));
    Match match = {.graph = graph, .root = id};
    if (!rule) return contracted(graph, id, source);
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
