/* index_fold.c - arithmetic on coordinates is index arithmetic.
 * In: an op over coordinates and constants.  Out: one index expression, in i32 if that holds it.
 * Invariant: the same value; what is compared or converted has 32 bits, so that a vector of it is
 * as wide as one of f32.
 *   (cmplt @i64(k) (add @i64(i) @i64(position)))   =>   (cmplt @i32(k) @i32(i + position)) */
#include "schedule/schedule.h"

static bool is_narrow(const Kernel *kernel, Index index) {
    const IndexTable *table = graph_indices(kernel->graph);
    return index_low(table, index) >= INT32_MIN && index_high(table, index) <= INT32_MAX;
}

Id index_fold(Kernel *kernel, Op op, DType dtype, const Id *source) {
    IndexTable *table = graph_indices(kernel->graph);
    Graph *graph = kernel->graph;
    Index a, b = -1;
    int64_t scale;
    if (!(op == OP_ADD || op == OP_MUL || op == OP_CMPLT || op == OP_CMPNE || op == OP_CAST))
        return -1;
    if (!kernel_index_of(kernel, source[0], &a) || !is_narrow(kernel, a)) return -1;
    if (op == OP_CAST) {
        bool wide = node_dtype(graph, source[0]) == DT_I64;
        if (dtype == DT_I32 || dtype == DT_I64) return kernel_index(kernel, a, dtype);
        return wide ? node_cast(graph, kernel_index(kernel, a, DT_I32), dtype) : -1;
    }
    if (!kernel_index_of(kernel, source[1], &b) || !is_narrow(kernel, b)) return -1;
    if (op == OP_CMPLT || op == OP_CMPNE)
        return node_binary(graph, op, kernel_index(kernel, a, DT_I32),
                           kernel_index(kernel, b, DT_I32));
    if (op == OP_MUL && index_is_const(table, a, &scale))
        a = b;
    else if (op == OP_MUL && !index_is_const(table, b, &scale))
        return -1;
    Index result = op == OP_ADD ? index_add(table, a, b) : index_scale(table, a, scale);
    return is_narrow(kernel, result) ? kernel_index(kernel, result, dtype) : -1;
}
