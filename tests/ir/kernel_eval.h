/* kernel_eval.h - runs any kernel by walking its tree: the slow truth that transforms are held to.
 * In: a kernel, its PARAMs' memory, its VARs.  Out: the memory written.
 * Invariants: no access leaves its buffer, local memory begins as garbage (NaN in floats), threads
 * of a loop run last to first, each on garbage of its own, and touch nothing that another of them
 * writes; lanes of a vector store all read before one writes.                                   */
#ifndef PICOGRAD_KERNEL_EVAL_H
#define PICOGRAD_KERNEL_EVAL_H
#include "ir/ir.h"
#include "ir/scalar.h"

#include <string.h>

typedef struct {
    const Kernel *kernel;
    Arena *arena;
    void **memory;  // by buffer
    const int64_t *var;
    int64_t *at;  // by loop
    // In a thread loop: the iteration, from 1; by buffer that all threads see, by element: which
    // iteration wrote it, which read it, 0: none, -1: several.
    int64_t thread, **writer, **reader;
} Eval;

static Scalar eval_value(Eval *eval, Id id);

static int64_t eval_atom(void *context, const Atom *atom) {
    Eval *eval = context;
    if (atom->kind == ATOM_LOOP) return eval->at[atom->of];
    if (atom->kind == ATOM_VAR) return eval->var[atom->of];
    return eval_value(eval, atom->of).integer;
}

static int64_t eval_index(Eval *eval, Index index) {
    return index_value(graph_indices(eval->kernel->graph), index, eval_atom, eval);
}

static void *eval_element(Eval *eval, int32_t buffer, int64_t element) {
    const KernelBuffer *info = &eval->kernel->buffers.at[buffer];
    if (element < 0 || element >= info->size)
        fatal("eval: %s[%lld] of %lld", info->name, (long long)element, (long long)info->size);
    return (char *)eval->memory[buffer] + element * dtypes[info->dtype].bytes;
}

static void eval_meet(Eval *eval, int32_t buffer, int64_t element, bool writes) {
    const KernelBuffer *info = &eval->kernel->buffers.at[buffer];
    int64_t thread = eval->thread;
    if (!thread || !space_is_common(info->space)) return;
    int64_t *writer = &eval->writer[buffer][element], *reader = &eval->reader[buffer][element];
    if ((*writer && *writer != thread) || (writes && *reader && *reader != thread))
        fatal("eval: threads meet in %s[%lld]", info->name, (long long)element);
    if (writes) *writer = thread;
    if (!writes) *reader = *reader && *reader != thread ? -1 : thread;
}

static Scalar eval_load(Eval *eval, const Node *node) {
    if (node->sources && !eval_value(eval, node->source[0]).integer)
        return dtype_is_float(node->dtype) ? (Scalar){.real = 0} : (Scalar){.integer = 0};
    int32_t buffer = (int32_t)node->arg[0];
    int64_t element = eval_index(eval, (Index)node->arg[1]);
    const void *at = eval_element(eval, buffer, element);
    eval_meet(eval, buffer, element, false);
    return scalar_load(node->dtype, at);
}

static int64_t eval_extent(Eval *eval, int32_t loop) {
    const Loop *info = &eval->kernel->loops.at[loop];
    int64_t extent = eval_index(eval, info->extent);
    return info->limit < 0 ? extent : min_i64(extent, eval_index(eval, info->limit));
}

static Scalar eval_reduce(Eval *eval, const Node *node, int depth, Scalar sum) {
    if (depth == node->arg[1])
        return scalar_apply((Op)node->arg[0], node->dtype, sum, eval_value(eval, node->source[0]),
                            sum);
    int32_t loop = (int32_t)node->arg[2 + depth];
    int64_t extent = eval_extent(eval, loop);
    for (int64_t i = 0; i < extent; i++) {
        eval->at[loop] = i;
        sum = eval_reduce(eval, node, depth + 1, sum);
    }
    return sum;
}

static Scalar eval_const(const Graph *graph, Id id) {
    int64_t integer = 0;
    double real = node_const_value(graph, id, &integer);
    return dtype_is_float(node_dtype(graph, id)) ? (Scalar){.real = (float)real}
                                                 : (Scalar){.integer = integer};
}

static Scalar eval_bitcast(DType from, DType to, Scalar value) {
    uint64_t bits = 0;
    scalar_store(from, &bits, value);
    return scalar_load(to, &bits);
}

static Scalar eval_value(Eval *eval, Id id) {
    const Graph *graph = eval->kernel->graph;
    const Node *node = graph_node(graph, id);
    Scalar source[3] = {{0}, {0}, {0}};
    if (node->op == OP_CONST) return eval_const(graph, id);
    if (node->op == OP_INDEX) return (Scalar){.integer = eval_index(eval, (Index)node->arg[0])};
    if (node->op == OP_LOAD) return eval_load(eval, node);
    if (node->op == OP_REDUCE)
        return eval_reduce(eval, node, 0, scalar_identity((Op)node->arg[0], node->dtype));
    for (int i = 0; i < node->sources; i++) source[i] = eval_value(eval, node->source[i]);
    DType from = node_dtype(graph, node->source[node->sources - 1]);
    if (node->op == OP_CAST) return scalar_cast(source[0], from, node->dtype);
    if (node->op == OP_BITCAST) return eval_bitcast(from, node->dtype, source[0]);
    return scalar_apply(node->op, from, source[0], source[1], source[2]);
}

static bool eval_runs(Eval *eval, const Statement *store) {
    return store->condition < 0 || eval_value(eval, store->condition).integer;
}

static void eval_put(Eval *eval, int32_t buffer, int64_t element, Scalar value) {
    scalar_store(eval->kernel->buffers.at[buffer].dtype, eval_element(eval, buffer, element),
                 value);
    eval_meet(eval, buffer, element, true);
}

static void eval_store(Eval *eval, const Statement *store) {
    if (!eval_runs(eval, store)) return;
    Scalar value = eval_value(eval, store->value);
    eval_put(eval, store->buffer, eval_index(eval, store->index), value);
}

// All lanes of one store; a fold over lanes has one element and goes lane by lane.
static void eval_lanes(Eval *eval, const Statement *store, int32_t loop, int64_t lanes) {
    Scalar *value = arena_array(eval->arena, Scalar, lanes);
    int64_t *element = arena_array(eval->arena, int64_t, lanes);
    LoopSet used = kernel_loops_of_index(eval->kernel, store->index);
    bool folds = !loop_set_has(&used, loop);
    for (int64_t lane = 0; lane < lanes; lane++) {
        eval->at[loop] = lane;
        element[lane] = -1;
        if (folds) eval_store(eval, store);
        if (folds || !eval_runs(eval, store)) continue;
        value[lane] = eval_value(eval, store->value);
        element[lane] = eval_index(eval, store->index);
    }
    for (int64_t lane = 0; lane < lanes; lane++)
        if (element[lane] >= 0) eval_put(eval, store->buffer, element[lane], value[lane]);
}

// Nobody has met; of what each thread has, what the loop stores in is garbage. In a block what is
// used elsewhere, too, is spread among threads or folded by all.
static void eval_threads_begin(Eval *eval, Statement *body, bool *garbage) {
    const Kernel *kernel = eval->kernel;
    AccessList accesses = kernel_accesses(eval->arena, kernel, body, -1);
    for (int32_t i = 0; i < kernel->buffers.count; i++) {
        eval->writer[i] = arena_array(eval->arena, int64_t, kernel->buffers.at[i].size);
        eval->reader[i] = arena_array(eval->arena, int64_t, kernel->buffers.at[i].size);
    }
    for (int i = 0; i < accesses.count; i++) {
        int32_t buffer = accesses.at[i].buffer;
        bool common = space_is_common(kernel->buffers.at[buffer].space);
        garbage[buffer] |= !common && accesses.at[i].load < 0;
    }
    if (!kernel_has_blocks(kernel)) return;
    for (int32_t i = 0; i < kernel->buffers.count; i++)
        garbage[i] &= kernel_accesses(eval->arena, kernel, kernel->body, i).count ==
                      kernel_accesses(eval->arena, kernel, body, i).count;
}

static void eval_list(Eval *eval, const Statement *list);

static void eval_thread(Eval *eval, const Statement *body, int64_t iteration, const bool *garbage) {
    for (int32_t i = 0; i < eval->kernel->buffers.count; i++) {
        const KernelBuffer *info = &eval->kernel->buffers.at[i];
        if (garbage[i])
            memset(eval->memory[i], 0xff, (size_t)info->size * (size_t)dtypes[info->dtype].bytes);
    }
    eval->thread = iteration + 1;
    eval_list(eval, body);
    eval->thread = 0;
}

static void eval_list(Eval *eval, const Statement *list) {
    for (; list; list = list->next) {
        if (list->kind == STATEMENT_STORE) eval_store(eval, list);
        if (list->kind != STATEMENT_LOOP) continue;
        LoopKind kind = eval->kernel->loops.at[list->loop].kind;
        int64_t extent = eval_extent(eval, list->loop);
        if (kind == LOOP_VECTOR)
            for (const Statement *store = list->body; store; store = store->next)
                eval_lanes(eval, store, list->loop, extent);
        bool *garbage = kind == LOOP_THREAD
                            ? arena_array(eval->arena, bool, eval->kernel->buffers.count)
                            : NULL;
        if (garbage) eval_threads_begin(eval, list->body, garbage);
        for (int64_t i = 0; i < extent && kind != LOOP_VECTOR; i++) {
            int64_t at = eval->at[list->loop] = kind == LOOP_THREAD ? extent - 1 - i : i;
            if (kind == LOOP_THREAD)
                eval_thread(eval, list->body, at, garbage);
            else
                eval_list(eval, list->body);
        }
    }
}

static inline void kernel_eval(const Kernel *kernel, void *const *param, const int64_t *var) {
    Arena *arena = arena_new();
    Eval eval = {kernel,
                 arena,
                 arena_array(arena, void *, kernel->buffers.count),
                 var,
                 arena_array(arena, int64_t, kernel->loops.count),
                 0,
                 arena_array(arena, int64_t *, kernel->buffers.count),
                 arena_array(arena, int64_t *, kernel->buffers.count)};
    for (int32_t i = 0; i < kernel->buffers.count; i++) {
        const KernelBuffer *buffer = &kernel->buffers.at[i];
        size_t bytes = (size_t)buffer->size * (size_t)dtypes[buffer->dtype].bytes;
        if (buffer->space == SPACE_PARAM)
            eval.memory[i] = param[i];
        else
            eval.memory[i] = memset(arena_alloc(arena, bytes + 1), 0xff, bytes);
    }
    eval_list(&eval, kernel->body);
    arena_free(arena);
}
#endif
