/* transform_round.c - where a matrix unit's factors are rounded to tf32: as early as they are made.
 * In: a buffer that the unit reads.  Out: TF32 in each store to it, or in what it is a copy of.
 * Invariant: what the unit reads is rounded once. Where it is a copy, or a copy of a copy, of what
 * is made of weights once (schedule/once.c), that is where: then it costs nothing in the kernel.
 *   once w_once[..] = w[..] ; w_shared[..] = w_once[..] ; w_reg[..] = w_shared[..]
 *   =>   once w_once[..] = (tf32 w[..])                                                          */
#include "schedule/schedule.h"

static void round_stores(const AccessList *accesses, Kernel *kernel) {
    for (int i = 0; i < accesses->count; i++) {
        Statement *store = accesses->at[i].statement;
        bool rounded = graph_node(kernel->graph, store->value)->op == OP_TF32;
        if (accesses->at[i].load < 0 && !rounded)
            store->value = node_unary(kernel->graph, OP_TF32, store->value);
    }
}

// The buffer that all stores to this one copy from, and nothing else reads; -1 if there is none.
static int32_t copied_from(const ScheduleLine *line, int32_t buffer, const AccessList *accesses) {
    Kernel *kernel = line->kernel;
    int32_t from = -1;
    for (int i = 0; i < accesses->count; i++) {
        const Node *value = graph_node(kernel->graph, accesses->at[i].statement->value);
        if (accesses->at[i].load >= 0) continue;
        if (value->op != OP_LOAD || (from >= 0 && value->arg[0] != from)) return -1;
        from = (int32_t)value->arg[0];
    }
    if (from < 0 || kernel->buffers.at[from].space == SPACE_PARAM) return -1;
    AccessList all = kernel_accesses(line->arena, kernel, kernel->body, from);
    for (int i = 0; i < all.count; i++)
        if (all.at[i].load >= 0 && all.at[i].statement->buffer != buffer) return -1;
    return from;
}

static bool round_where_made(const ScheduleLine *line, int32_t buffer) {
    Kernel *kernel = line->kernel;
    AccessList accesses = kernel_accesses(line->arena, kernel, kernel->body, buffer);
    bool once = kernel->buffers.at[buffer].space == SPACE_ONCE;
    int32_t from = once ? -1 : copied_from(line, buffer, &accesses);
    if (once) round_stores(&accesses, kernel);
    return once || (from >= 0 && round_where_made(line, from));
}

void transform_round(const ScheduleLine *line, int32_t buffer) {
    AccessList accesses = kernel_accesses(line->arena, line->kernel, line->kernel->body, buffer);
    if (!round_where_made(line, buffer)) round_stores(&accesses, line->kernel);
}
