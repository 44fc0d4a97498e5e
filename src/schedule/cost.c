/* cost.c - what a kernel must at least do: float operations, and bytes to and from memory.
 * In: a kernel in unscheduled form.  Out: two counts, symbolic sizes at the given VARs.
 * Invariant: an element that many iterations read counts once; index arithmetic does not count.
 *   c[8*i + j] = (reduce add k<4 (mul a[4*i + k] b[8*k + j])), 2 x 8
 *   =>   128 operations, 4 * (8 + 32 + 16) bytes                                               */
#include "schedule/schedule.h"

typedef struct {
    const Kernel *kernel;
    const int64_t *var;
    double operations;
    double *read, *written;  // bytes of each buffer
    bool *counted;
} Count;

static int64_t var_value(void *context, const Atom *atom) {
    const Count *count = context;
    return atom->kind == ATOM_VAR ? count->var[atom->of] : 0;
}

static double extent_of(Count *count, int32_t loop) {
    return (double)index_value(graph_indices(count->kernel->graph),
                               count->kernel->loops.at[loop].extent, var_value, count);
}

static double iterations(Count *count, LoopSet loops) {
    double product = 1;
    for (int32_t loop = 0; loop < count->kernel->loops.count; loop++)
        if (loop_set_has(&loops, loop)) product *= extent_of(count, loop);
    return product;
}

// What several accesses touch of a buffer is no more than all of it.
static void count_access(Count *count, int32_t buffer, Index index, double *bytes) {
    const KernelBuffer *memory = &count->kernel->buffers.at[buffer];
    if (memory->space != SPACE_PARAM) return;
    double touched = iterations(count, kernel_loops_of_index(count->kernel, index));
    double size = dtypes[memory->dtype].bytes;
    bytes[buffer] += touched * size;
    if (bytes[buffer] > (double)memory->size * size) bytes[buffer] = (double)memory->size * size;
}

// A node runs once for each point of the loops that it depends on, a REDUCE for each of its body's.
static void count_value(Count *count, Id id) {
    if (count->counted[id]) return;
    count->counted[id] = true;
    const Node *node = graph_node(count->kernel->graph, id);
    for (int i = 0; i < node->sources; i++) count_value(count, node->source[i]);
    if (node->op == OP_LOAD)
        count_access(count, (int32_t)node->arg[0], (Index)node->arg[1], count->read);
    if (!dtype_is_float((DType)node->dtype)) return;
    int per = node->op == OP_FMA ? 2 : 1;
    if (node->op == OP_REDUCE) {
        LoopSet loops = kernel_loops_of(count->kernel, id);
        for (int64_t i = 0; i < node->arg[1]; i++) loop_set_add(&loops, (int32_t)node->arg[2 + i]);
        count->operations += iterations(count, loops);
    } else if (ops[node->op].properties & MAPS && node->op != OP_CAST && node->op != OP_BITCAST) {
        count->operations += per * iterations(count, kernel_loops_of(count->kernel, id));
    }
}

static void count_statements(Count *count, const Statement *statement) {
    for (; statement; statement = statement->next) {
        if (statement->kind == STATEMENT_LOOP) count_statements(count, statement->body);
        if (statement->kind != STATEMENT_STORE) continue;
        count_value(count, statement->value);
        count_access(count, statement->buffer, statement->index, count->written);
    }
}

void kernel_cost(const Kernel *kernel, const int64_t *var, double *operations, double *bytes) {
    Arena *scratch = arena_new();
    Count count = {.kernel = kernel, .var = var};
    count.counted = arena_array(scratch, bool, graph_count(kernel->graph));
    count.read = arena_array(scratch, double, kernel->buffers.count);
    count.written = arena_array(scratch, double, kernel->buffers.count);
    count_statements(&count, kernel->body);
    *operations = count.operations;
    *bytes = 0;
    for (int32_t i = 0; i < kernel->buffers.count; i++) *bytes += count.read[i] + count.written[i];
    arena_free(scratch);
}
