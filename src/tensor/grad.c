/* grad.c - where autograd is entered: gradients are nodes, made by the rewrite layer.
 * In: a scalar loss and tensors.  Out: one tensor for each, all computed together.
 * Invariant: a gradient is asked for by the very node that the loss was made from.
 *   pg_grad(sum(x * x), x)   =>   x + x                                                          */
#include "rewrite/rewrite.h"
#include "tensor/tensor.h"

// The loss may have read wrt's memory before pg_assign replaced what was there.
static void must_know(Scope *scope, Id loss, Id wrt) {
    const Graph *graph = scope->graph;
    Id base = view_base(graph, wrt);
    IdList nodes = graph_nodes(scope->scratch, graph, 1, &loss, -1);
    for (int32_t i = 0; i < nodes.count; i++)
        if (nodes.at[i] == wrt) return;
    for (int32_t i = 0; i < nodes.count && is_memory(graph_node(graph, base)); i++) {
        const Node *node = graph_node(graph, nodes.at[i]);
        if (!is_memory(node) || nodes.at[i] == base) continue;
        if (memory_of(node) == memory_of(graph_node(graph, base)))
            fatal("grad: pg_assign replaced a tensor of shape %s after the loss had read it. "
                  "Hint: call pg_grad before pg_assign",
                  shape_name(wrt));
    }
}

void pg_grad(PgTensor *loss, int count, PgTensor **wrt, PgTensor **out) {
    Scope *scope = scope_now();
    Graph *graph = scope->graph;
    Id of = tensor_in(loss);
    arena_reset(scope->scratch);
    if (node_shape(graph, of).rank || !dtype_is_float(node_dtype(graph, of)))
        fatal("grad: the loss is %s of shape %s. Hint: a float scalar, as pg_sum or pg_mean gives",
              dtypes[node_dtype(graph, of)].text, shape_name(of));
    Id *by = arena_array(scope->arena, Id, count), *result = arena_array(scope->arena, Id, count);
    for (int i = 0; i < count; i++) {
        by[i] = tensor_in(wrt[i]);
        must_know(scope, of, by[i]);
        if (graph_node(graph, view_base(graph, by[i]))->op == OP_CONST)
            fatal("grad: tensor %d is a constant, which is one with all that equal it. "
                  "Hint: pg_keep it, or pg_from_data",
                  i);
    }
    gradient(graph, of, -1, count, by, result);
    Id *base = arena_array(scope->arena, Id, count);
    for (int i = 0; i < count; i++) base[i] = view_base(graph, result[i]);
    if (!scope->trace) realise(scope, count, base);
    for (int i = 0; i < count; i++) out[i] = tensor_out(result[i]);
}
