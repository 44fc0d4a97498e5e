/* estimate.c - the least time that a scheduled kernel can take, by a model of the machine.
 * In: a kernel after its schedule, a machine's measured rates, values of the VARs.  Out: seconds.
 * Invariant: optimistic. A bound is taken for what computes, for chains of sums, for loads, and for
 * what each cache level lets through; they overlap perfectly, so the largest is the time. A search
 * drops a candidate whose bound lies above a time that was measured, and takes the others by it.
 *   for k < 512 { update s[0] = (fma a[k] b[k] s[0]) }   =>   a chain of 512 steps of 4 cycles  */
#include "schedule/schedule.h"

enum {
    DEPTH_MAX = 32,
    CHAIN_STEP = 8,  // instructions that could start while a sum waits for itself: 4 cycles, 2 each
    POLYNOMIAL = 12,  // instructions of EXP2, LOG2, SIN
    SAMPLES = 64
};

typedef struct {
    Arena *arena;
    Kernel *kernel;
    const Machine *machine;
    const int64_t *var;
    int32_t around[DEPTH_MAX];  // loops around the statement, outermost first
    int depth;
    int64_t sample;  // of SAMPLES points along all loops, which a limit is the mean of
    double computes, loads, chain;  // instructions; the longest chain's
} Estimate;

static int64_t atom_value(void *context, const Atom *atom) {
    Estimate *to = context;
    if (atom->kind == ATOM_VAR) return to->var[atom->of];
    if (atom->kind != ATOM_LOOP) return 0;
    Index extent = to->kernel->loops.at[atom->of].extent;
    int64_t all = index_value(graph_indices(to->kernel->graph), extent, atom_value, to);
    return all > 0 ? (int64_t)((double)all * (double)to->sample / SAMPLES) : 0;
}

static int64_t value_of(Estimate *to, Index index) {
    return max_i64(0, index_value(graph_indices(to->kernel->graph), index, atom_value, to));
}

// Iterations that one thread runs.
static double extent_of(Estimate *to, int32_t loop) {
    const Loop *info = &to->kernel->loops.at[loop];
    int64_t extent = value_of(to, info->extent);
    int threads = info->kind == LOOP_THREAD ? to->machine->threads : 1;
    if (info->limit < 0) return (double)((extent + threads - 1) / threads);
    double sum = 0;
    for (to->sample = 0; to->sample < SAMPLES; to->sample++)
        sum += (double)min_i64(extent, value_of(to, info->limit));
    return sum / SAMPLES / threads;
}

// ---- instructions ------------------------------------------------------------------------------

static bool is_written_out(const Loop *loop) { return loop->kind == LOOP_UNROLL && !loop->steps; }

// How often something that depends on `loops` is computed: once for each iteration of the loops
// around, down to the last that it depends on. lanes: of the vector loop, 1 if it is not in it.
static double times_of(Estimate *to, const LoopSet *loops, double *lanes) {
    double times = 1;
    int depth = to->depth;
    while (depth && !loop_set_has(loops, to->around[depth - 1])) depth--;
    *lanes = 1;
    for (int i = 0; i < depth; i++) {
        const Loop *loop = &to->kernel->loops.at[to->around[i]];
        double extent = extent_of(to, to->around[i]);
        if (loop->kind == LOOP_VECTOR)
            *lanes = extent;
        else if (!is_written_out(loop) || loop_set_has(loops, to->around[i]))
            times *= extent;
    }
    return times;
}

// Instructions that move an element, or one for each lane. Bytes four apart are lanes of words, and
// a word is loaded once for its four bytes.
static void count_access(Estimate *to, int32_t buffer, Index index) {
    const KernelBuffer *memory = &to->kernel->buffers.at[buffer];
    LoopSet loops = kernel_loops_of_index(to->kernel, index);
    int64_t stride = 0;
    double lanes, times = times_of(to, &loops, &lanes);
    if (memory->space == SPACE_REGISTER) return;
    bool whole = lanes > 1 && index_stride(graph_indices(to->kernel->graph), index,
                                           to->around[to->depth - 1], &stride);
    double vectors = lanes * dtypes[memory->dtype].bytes / (4 * to->machine->lanes);
    if (whole && stride == 4 && memory->dtype == DT_U8) times /= 4, stride = 1, vectors *= 4;
    to->loads += times * (!whole || stride != 1 ? lanes : vectors > 1 ? vectors : 1);
}

// Known to the C compiler: made of loops that are written out.
static bool is_constant(const Estimate *to, Id id) {
    LoopSet loops = kernel_loops_of(to->kernel, id);
    for (int i = 0; i < to->depth; i++)
        if (is_written_out(&to->kernel->loops.at[to->around[i]]))
            loop_set_remove(&loops, to->around[i]);
    if (!loop_set_within(loops, (LoopSet){0})) return false;
    IdList nodes = kernel_nodes(to->arena, to->kernel, id);
    for (int i = 0; i < nodes.count; i++)
        if (graph_node(to->kernel->graph, nodes.at[i])->op == OP_LOAD) return false;
    return true;
}

// A shift by a known number is part of a mask or of a factor (codegen/simplify.c).
static void count_node(Estimate *to, Id id) {
    const Node *node = graph_node(to->kernel->graph, id);
    if (node->op == OP_LOAD) count_access(to, (int32_t)node->arg[0], (Index)node->arg[1]);
    if (!(ops[node->op].properties & MAPS) || node->op == OP_BITCAST) return;
    if (is_constant(to, node->op == OP_SHR ? node->source[1] : id)) return;
    LoopSet loops = kernel_loops_of(to->kernel, id);
    double lanes, times = times_of(to, &loops, &lanes), vectors = lanes / to->machine->lanes;
    bool is_long = node->op == OP_EXP2 || node->op == OP_LOG2 || node->op == OP_SIN;
    to->computes += times * (vectors > 1 ? vectors : 1) * (is_long ? POLYNOMIAL : 1);
}

// A sum waits for itself where the innermost loop that is left adds into one element.
static void count_chain(Estimate *to, const Statement *store) {
    double steps = 1;
    bool innermost = true;
    Op fold;
    if (!legal_fold(to->kernel, store, &fold)) return;
    LoopSet moves = kernel_loops_of_index(to->kernel, store->index);
    for (int i = to->depth - 1; i >= 0; i--) {
        const Loop *loop = &to->kernel->loops.at[to->around[i]];
        bool moved = loop_set_has(&moves, to->around[i]);
        if (loop->kind == LOOP_VECTOR || (is_written_out(loop) && moved)) continue;
        if (innermost && moved && !is_written_out(loop)) return;
        innermost &= is_written_out(loop);
        steps *= extent_of(to, to->around[i]);
    }
    if (steps * CHAIN_STEP > to->chain) to->chain = steps * CHAIN_STEP;
}

static void count_list(Estimate *to, const Statement *list) {
    for (; list; list = list->next) {
        if (list->kind == STATEMENT_LOOP && to->depth < DEPTH_MAX) {
            to->around[to->depth++] = list->loop;
            count_list(to, list->body);
            to->depth--;
        }
        if (list->kind != STATEMENT_STORE) continue;
        IdList nodes = statement_nodes(to->arena, to->kernel, list);
        for (int i = 0; i < nodes.count; i++) count_node(to, nodes.at[i]);
        count_access(to, list->buffer, list->index);
        count_chain(to, list);
    }
}

// ---- bytes -------------------------------------------------------------------------------------

// What one access touches while the loops in `inside` run. A stride takes whole cache lines.
static double bytes_touched(Estimate *to, const Access *access, const LoopSet *inside) {
    enum { LINE = 64 };
    const KernelBuffer *memory = &to->kernel->buffers.at[access->buffer];
    LoopSet loops = kernel_loops_of_index(to->kernel, access->index);
    double elements = 1;
    int64_t bytes = dtypes[memory->dtype].bytes, least = LINE / bytes, stride;
    for (int32_t loop = 0; loop < to->kernel->loops.count; loop++) {
        if (!loop_set_has(&loops, loop) || !loop_set_has(inside, loop)) continue;
        elements *= extent_of(to, loop);
        if (index_stride(graph_indices(to->kernel->graph), access->index, loop, &stride) && stride)
            least = min_i64(least, stride < 0 ? -stride : stride);
    }
    elements *= (double)max_i64(least, 1);
    if (elements > (double)memory->size) elements = (double)memory->size;
    return elements * (double)bytes;
}

static double bytes_of(Estimate *to, Statement *list, const LoopSet *inside) {
    AccessList all = kernel_accesses(to->arena, to->kernel, list, -1);
    double sum = 0;
    for (int i = 0; i < all.count; i++) {
        const Access *access = &all.at[i];
        bool seen = to->kernel->buffers.at[access->buffer].space == SPACE_REGISTER;
        for (int j = 0; j < i && !seen; j++)
            seen = all.at[j].buffer == access->buffer && all.at[j].index == access->index;
        if (!seen) sum += bytes_touched(to, access, inside);
    }
    return sum;
}

// Bytes that a cache of this size does not hold: what fits is fetched once, and what does not is
// fetched again in each iteration around.
static double bytes_missed(Estimate *to, Statement *list, double cache) {
    double sum = 0;
    for (Statement *at = list; at; at = at->next) {
        Statement *rest = at->next;
        at->next = NULL;
        LoopSet inside = kernel_loops_inside(at);
        double bytes = bytes_of(to, at, &inside);
        if (at->kind == STATEMENT_LOOP && bytes > cache)
            bytes = extent_of(to, at->loop) * bytes_missed(to, at->body, cache);
        at->next = rest;
        sum += bytes;
    }
    return sum;
}

Bound kernel_bound(Kernel *kernel, const Machine *machine, const int64_t *var, double cold_bytes) {
    Estimate to = {.arena = arena_new(), .kernel = kernel, .machine = machine, .var = var};
    count_list(&to, kernel->body);
    double bounds[] = {to.computes / machine->computes, to.chain / machine->computes,
                       to.loads * 4 * machine->lanes / machine->first,
                       bytes_missed(&to, kernel->body, machine->first_bytes) / machine->second,
                       cold_bytes / machine->memory};
    Bound bound = {0};
    for (int i = 0; i < COUNT_OF(bounds); i++) {
        if (bounds[i] > bound.least) bound.least = bounds[i];
        bound.sum += bounds[i];
    }
    arena_free(to.arena);
    return bound;
}
