/* cost.c - what a kernel must at least do: float operations, and bytes to and from memory.
 * In: a kernel in unscheduled form.  Out: two counts, symbolic sizes at the given VARs.
 * Invariant: an element that many iterations read counts once, and so does what several folds along
 * the same have in common; index arithmetic and keys that a mask hides do not count.
 *   c[8*i + j] = (reduce add k<4 (mul a[4*i + k] b[8*k + j])), 2 x 8
 *   =>   128 operations, 4 * (8 + 32 + 16) bytes                                               */
#include "schedule/schedule.h"

enum { SAMPLES = 64 };

typedef struct {
    Kernel *kernel;
    const int64_t *var;
    double *seen;     // by loop: the share of its iterations that no mask hides
    int64_t *sample;  // by loop: of SAMPLES points along it
    double operations;
    double *read, *written;  // bytes of each buffer
    bool *counted;
} Count;

static double extent_of(Count *count, int32_t loop);

static int64_t atom_value(void *context, const Atom *atom) {
    Count *count = context;
    if (atom->kind == ATOM_VAR) return count->var[atom->of];
    if (atom->kind != ATOM_LOOP) return 0;
    return (int64_t)(extent_of(count, atom->of) * (double)count->sample[atom->of] / SAMPLES);
}

static int64_t value_of(Count *count, Index index) {
    return index_value(graph_indices(count->kernel->graph), index, atom_value, count);
}

static double extent_of(Count *count, int32_t loop) {
    return (double)value_of(count, count->kernel->loops.at[loop].extent);
}

static double iterations(Count *count, LoopSet loops) {
    double product = 1;
    for (int32_t loop = 0; loop < count->kernel->loops.count; loop++)
        if (loop_set_has(&loops, loop)) product *= extent_of(count, loop);
    return product;
}

static double operations(Count *count, LoopSet loops) {
    double product = iterations(count, loops);
    for (int32_t loop = 0; loop < count->kernel->loops.count; loop++)
        if (loop_set_has(&loops, loop)) product *= count->seen[loop];
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
        count->operations += operations(count, loops);
    } else if (ops[node->op].properties & MAPS && node->op != OP_CAST && node->op != OP_BITCAST) {
        count->operations += per * operations(count, kernel_loops_of(count->kernel, id));
    }
}

static void count_statements(Count *count, const Statement *statement, const Substitution *by) {
    for (; statement; statement = statement->next) {
        if (statement->kind == STATEMENT_LOOP) count_statements(count, statement->body, by);
        if (statement->kind != STATEMENT_STORE) continue;
        count_value(count, kernel_substitute(count->kernel, statement->value, by));
        count_access(count, statement->buffer, statement->index, count->written);
    }
}

// ---- folds along the same ----------------------------------------------------------------------

// The loop of a REDUCE over one loop, -1 of all other nodes.
static int32_t fold_loop(const Kernel *kernel, Id id) {
    const Node *node = graph_node(kernel->graph, id);
    return node->op == OP_REDUCE && node->arg[1] == 1 ? (int32_t)node->arg[2] : -1;
}

// May `own` become `loop`? Not where a fold over one depends on the other.
static bool can_share(const Kernel *kernel, int32_t own, int32_t loop, const int32_t *now) {
    if (own == loop || kernel->loops.at[own].extent != kernel->loops.at[loop].extent) return false;
    for (Id id = 0; id < graph_count(kernel->graph); id++) {
        int32_t folded = fold_loop(kernel, id);
        if (folded < 0 || (now[folded] != own && now[folded] != loop)) continue;
        LoopSet used = kernel_loops_of(kernel, id);
        for (int32_t other = 0; other < kernel->loops.count; other++)
            if (loop_set_has(&used, other) && now[other] == (now[folded] == own ? loop : own))
                return false;
    }
    return true;
}

// A softmax's maximum and its sums have loops of their own over the same scores: one loop for all.
static Substitution *share_loops(Kernel *kernel) {
    Arena *arena = graph_arena(kernel->graph);
    Substitution *by = substitution_new(arena, kernel);
    int32_t *now = arena_array(arena, int32_t, by->loops);
    for (int32_t loop = 0; loop < by->loops; loop++) now[loop] = loop;
    for (Id id = 0; id < by->nodes; id++)
        for (Id first = 0; first < id; first++) {
            int32_t own = fold_loop(kernel, id), loop = fold_loop(kernel, first);
            if (own < 0 || loop < 0 || now[own] != own || now[loop] != loop) continue;
            if (!can_share(kernel, own, loop, now)) continue;
            now[own] = loop;
            by->loop[own] = kernel_loop_index(kernel, loop);
        }
    return by;
}

static void share_statements(Kernel *kernel, const Statement *list, const Substitution *by) {
    for (; list; list = list->next)
        if (list->kind == STATEMENT_LOOP)
            share_statements(kernel, list->body, by);
        else if (list->kind == STATEMENT_STORE)
            kernel_substitute(kernel, list->value, by);
}

// ---- masks -------------------------------------------------------------------------------------

// A score that is HIDDEN unless one index is less than another, of a row and a key: the share of
// points at which it is seen.
static void find_seen(Count *count, Id id) {
    const Kernel *kernel = count->kernel;
    const Node *node = graph_node(kernel->graph, id), *less;
    int32_t row = -1, key = fold_loop(kernel, id);
    Index a, b;
    if (key < 0) return;
    node = graph_node(kernel->graph, node->source[0]);
    if (node->op != OP_WHERE || graph_node(kernel->graph, node->source[2])->op != OP_CONST ||
        node_const_value(kernel->graph, node->source[2], NULL) > HIDDEN)
        return;
    less = graph_node(kernel->graph, node->source[0]);
    LoopSet used = kernel_loops_of(kernel, node->source[0]);
    if (less->op != OP_CMPLT || !kernel_index_of(kernel, less->source[0], &a) ||
        !kernel_index_of(kernel, less->source[1], &b))
        return;
    loop_set_remove(&used, key);
    for (int32_t loop = 0; loop < kernel->loops.count; loop++)
        if (loop_set_has(&used, loop)) row = loop;
    int points = 0;
    for (int i = 0; i < SAMPLES * SAMPLES; i++) {
        count->sample[key] = i % SAMPLES;
        if (row >= 0) count->sample[row] = i / SAMPLES;
        points += value_of(count, a) < value_of(count, b);
    }
    count->seen[key] = (double)points / (SAMPLES * SAMPLES);
}

void kernel_cost(Kernel *kernel, const int64_t *var, double *operations, double *bytes) {
    Arena *scratch = arena_new();
    Count count = {.kernel = kernel, .var = var};
    count.sample = arena_array(scratch, int64_t, kernel->loops.count);
    count.seen = arena_array(scratch, double, kernel->loops.count);
    for (int32_t i = 0; i < kernel->loops.count; i++) count.seen[i] = 1;
    Substitution *by = share_loops(kernel);
    share_statements(kernel, kernel->body, by);
    count.counted = arena_array(scratch, bool, graph_count(kernel->graph));
    for (Id id = 0; id < graph_count(kernel->graph); id++) find_seen(&count, id);
    count.read = arena_array(scratch, double, kernel->buffers.count);
    count.written = arena_array(scratch, double, kernel->buffers.count);
    count_statements(&count, kernel->body, by);
    *operations = count.operations;
    *bytes = 0;
    for (int32_t i = 0; i < kernel->buffers.count; i++) *bytes += count.read[i] + count.written[i];
    arena_free(scratch);
}
