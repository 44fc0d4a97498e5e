/* reference.c - the oracle: every op of the tensor dialect as one plain loop over its elements.
 * In: a node, the memory of its buffers, the values of its VARs.  Out: the node's elements.
 * Invariants: every node needed is computed once, in id order, into contiguous memory of its own;
 * nothing of fusion, lowering or vectors is shared with the paths that are checked against it.
 *   reduce{add, 2} of (2, 3): fold[i] += x[i, j], j from 0 to 2                               */
#include "ir/scalar.h"
#include "runtime/runtime.h"

#include <string.h>

// A node's value: row-major elements.
typedef struct {
    DType dtype;
    int rank;
    int64_t size[RANK_MAX], count;
    char *at;
} Array;

typedef struct {
    const Graph *graph;
    const Binding *binding;
    Arena *arena;
    IdList needed;
    Array *array;  // by node
    bool writes;   // an ASSIGN is needed: leaves keep a copy of what they were before it
} Run;

static size_t array_bytes(const Array *array) {
    return (size_t)array->count * (size_t)dtypes[array->dtype].bytes;
}

static Scalar get(const Array *array, int64_t element) {
    return scalar_load(array->dtype, array->at + element * dtypes[array->dtype].bytes);
}

static void put(Array *array, int64_t element, Scalar value) {
    scalar_store(array->dtype, array->at + element * dtypes[array->dtype].bytes, value);
}

static void coordinates(const Array *array, int64_t element, int64_t *at) {
    for (int axis = array->rank; axis-- > 0; element /= array->size[axis])
        at[axis] = element % array->size[axis];
}

static int64_t element_of(const Array *array, const int64_t *at) {
    int64_t element = 0;
    for (int axis = 0; axis < array->rank; axis++) element = element * array->size[axis] + at[axis];
    return element;
}

static int64_t atom_value(void *context, const Atom *atom) {
    const Run *run = context;
    return run->binding->var(run->binding->context, atom->of);
}

static int64_t size_value(Run *run, Size size) {
    IndexTable *table = graph_indices(run->graph);
    return index_value(table, size_index(table, size), atom_value, run);
}

static Array array_new(Run *run, Id id) {
    const Node *node = graph_node(run->graph, id);
    Array array = {.dtype = (DType)node->dtype, .rank = node->rank, .count = 1};
    for (int axis = 0; axis < node->rank; axis++) {
        array.size[axis] = size_value(run, node->size[axis]);
        if (array.size[axis] < 0 ||
            __builtin_mul_overflow(array.count, array.size[axis], &array.count))
            fatal("%%%d: axis %d has %ld elements", id, axis, array.size[axis]);
    }
    return array;
}

// ---- leaves ------------------------------------------------------------------------------------

static void run_const(Run *run, Id id, Array *out) {
    Scalar value;
    double real = node_const_value(run->graph, id, &value.integer);
    if (dtype_is_float(out->dtype)) value.real = (float)real;
    for (int64_t i = 0; i < out->count; i++) put(out, i, value);
}

static void run_iota(const Node *node, Array *out) {
    for (int64_t i = 0; i < out->count; i++) {
        int64_t at[RANK_MAX];
        coordinates(out, i, at);
        put(out, i, scalar_cast((Scalar){.integer = at[node->arg[0]]}, DT_I64, out->dtype));
    }
}

// The memory that a BUFFER, a PARAM, or a chain of views and ASSIGNs over one, stands for.
static char *memory_of(const Run *run, Id id) {
    const Node *node = graph_node(run->graph, id);
    while (ops[node->op].properties & MOVES || node->op == OP_ASSIGN)
        node = graph_node(run->graph, node->source[0]);
    const Binding *binding = run->binding;
    return node->op == OP_BUFFER ? binding->buffer(binding->context, node->arg[0])
                                 : binding->param(binding->context, node->arg[0]);
}

// ---- movement ----------------------------------------------------------------------------------

// Where in its source x the element at `at` of the movement `id` lies; false in the zeros of a PAD.
static bool source_at(Run *run, Id id, const int64_t *at, int64_t *from) {
    const Node *node = graph_node(run->graph, id);
    const Array *x = &run->array[node->source[0]];
    if (node->op == OP_RESHAPE) {
        coordinates(x, element_of(&run->array[id], at), from);
        return true;
    }
    memcpy(from, at, (size_t)x->rank * sizeof *at);
    switch (node->op) {
    case OP_PERMUTE:
        for (int axis = 0; axis < x->rank; axis++) from[node->arg[axis]] = at[axis];
        return true;
    case OP_EXPAND:
        for (int axis = 0; axis < x->rank; axis++)
            if (x->size[axis] == 1) from[axis] = 0;
        return true;
    case OP_PAD:
        for (int axis = 0; axis < x->rank; axis++) {
            from[axis] -= size_value(run, node->arg[axis]);
            if (from[axis] < 0 || from[axis] >= x->size[axis]) return false;
        }
        return true;
    case OP_SHRINK:
        for (int axis = 0; axis < x->rank; axis++) from[axis] += size_value(run, node->arg[axis]);
        return true;
    case OP_FLIP:
        for (int axis = 0; axis < x->rank; axis++)
            if (node->arg[0] >> axis & 1) from[axis] = x->size[axis] - 1 - at[axis];
        return true;
    case OP_WINDOW:  // arg: axis, size, stride, dilation; the place in the window comes last
        from[node->arg[0]] = at[node->arg[0]] * node->arg[2] + at[x->rank] * node->arg[3];
        return true;
    default: return false;
    }
}

static void run_movement(Run *run, Id id, Array *out) {
    const Array *x = &run->array[graph_node(run->graph, id)->source[0]];
    for (int64_t i = 0; i < out->count; i++) {
        int64_t at[RANK_MAX], from[RANK_MAX];
        coordinates(out, i, at);
        if (source_at(run, id, at, from)) put(out, i, get(x, element_of(x, from)));
    }
}

// ---- element by element ------------------------------------------------------------------------

static void run_map(Run *run, const Node *node, Array *out) {
    const Array *source[3] = {0};
    for (int s = 0; s < node->sources; s++) source[s] = &run->array[node->source[s]];
    DType dtype = source[node->sources - 1]->dtype;
    for (int64_t i = 0; i < out->count; i++) {
        Scalar x[3] = {0};
        for (int s = 0; s < node->sources; s++) x[s] = get(source[s], i);
        put(out, i,
            node->op == OP_CAST ? scalar_cast(x[0], dtype, out->dtype)
                                : scalar_apply((Op)node->op, dtype, x[0], x[1], x[2]));
    }
}

// ---- folds -------------------------------------------------------------------------------------

// Sums and products of floats are folded in double, from left to right, and rounded once; all else
// as the op does it.
typedef struct {
    Op op;
    DType dtype;
    double wide;
    Scalar exact;
} Fold;

static bool fold_is_wide(const Fold *fold) {
    return dtype_is_float(fold->dtype) && fold->op != OP_MAX;
}

static Fold fold_new(Op op, DType dtype) {
    return (Fold){op, dtype, op == OP_MUL, scalar_identity(op, dtype)};
}

static void fold_start(Fold *fold, Scalar x) {
    fold->exact = x;
    if (fold_is_wide(fold)) fold->wide = (double)x.real;
}

static void fold_in(Fold *fold, Scalar x) {
    if (!fold_is_wide(fold))
        fold->exact = scalar_apply(fold->op, fold->dtype, fold->exact, x, x);
    else if (fold->op == OP_ADD)
        fold->wide += (double)x.real;
    else
        fold->wide *= (double)x.real;
}

static Scalar fold_value(const Fold *fold) {
    if (!fold_is_wide(fold)) return fold->exact;
    return scalar_cast((Scalar){.real = (float)fold->wide}, DT_F32, fold->dtype);
}

static Fold *folds_new(Run *run, Op op, const Array *out) {
    Fold *folds = arena_array(run->arena, Fold, out->count);
    for (int64_t i = 0; i < out->count; i++) folds[i] = fold_new(op, out->dtype);
    return folds;
}

static void folds_put(const Fold *folds, Array *out) {
    for (int64_t i = 0; i < out->count; i++) put(out, i, fold_value(&folds[i]));
}

static void run_reduce(Run *run, const Node *node, Array *out) {
    const Array *x = &run->array[node->source[0]];
    Fold *folds = folds_new(run, (Op)node->arg[0], out);
    for (int64_t i = 0; i < x->count; i++) {
        int64_t at[RANK_MAX];
        coordinates(x, i, at);
        for (int axis = 0; axis < x->rank; axis++)
            if (node->arg[1] >> axis & 1) at[axis] = 0;
        fold_in(&folds[element_of(out, at)], get(x, i));
    }
    folds_put(folds, out);
}

static void run_scan(Run *run, const Node *node, Array *out) {
    const Array *x = &run->array[node->source[0]];
    Fold *folds = folds_new(run, (Op)node->arg[0], out);
    for (int64_t i = 0; i < x->count; i++) {
        int64_t at[RANK_MAX] = {0};
        coordinates(x, i, at);
        if (at[node->arg[1]]-- > 0) folds[i] = folds[element_of(x, at)];
        fold_in(&folds[i], get(x, i));
    }
    folds_put(folds, out);
}

// ---- gather, scatter, assign -------------------------------------------------------------------

// The element of x that element i of `index` picks along `axis`; -1 if it is outside.
static int64_t picked(const Array *x, const Array *index, int64_t i, int64_t axis) {
    int64_t at[RANK_MAX];
    coordinates(index, i, at);
    at[axis] = get(index, i).integer;
    return at[axis] < 0 || at[axis] >= x->size[axis] ? -1 : element_of(x, at);
}

static void run_gather(Run *run, const Node *node, Array *out) {
    const Array *x = &run->array[node->source[0]], *index = &run->array[node->source[1]];
    for (int64_t i = 0; i < out->count; i++) {
        int64_t from = picked(x, index, i, node->arg[0]);
        if (from >= 0) put(out, i, get(x, from));
    }
}

static void run_scatter_add(Run *run, const Node *node, Array *out) {
    const Array *x = &run->array[node->source[0]], *index = &run->array[node->source[1]];
    Fold *folds = folds_new(run, OP_ADD, out);
    for (int64_t i = 0; i < x->count; i++) fold_start(&folds[i], get(x, i));
    for (int64_t i = 0; i < index->count; i++) {
        int64_t to = picked(x, index, i, node->arg[0]);
        if (to >= 0) fold_in(&folds[to], get(&run->array[node->source[2]], i));
    }
    folds_put(folds, out);
}

static bool moves(const Run *run, Id id) {
    return ops[graph_node(run->graph, id)->op].properties & MOVES;
}

// `out` has the shape of the memory at the view's root.
static void run_assign(Run *run, const Node *node, Array *out) {
    const Array *value = &run->array[node->source[1]];
    Array memory = *out;
    memory.at = memory_of(run, node->source[0]);
    for (int64_t i = 0; i < value->count; i++) {
        int64_t at[RANK_MAX], from[RANK_MAX];
        coordinates(value, i, at);
        for (Id view = node->source[0]; moves(run, view);
             view = graph_node(run->graph, view)->source[0]) {
            source_at(run, view, at, from);
            memcpy(at, from, sizeof at);
        }
        put(&memory, element_of(&memory, at), get(value, i));
    }
    memcpy(out->at, memory.at, array_bytes(out));
}

// ---- all of it ---------------------------------------------------------------------------------

static void run_node(Run *run, Id id) {
    const Node *node = graph_node(run->graph, id);
    int properties = ops[node->op].properties;
    Array *out = &run->array[id];
    *out = array_new(run, id);
    bool leaf = node->op == OP_BUFFER || node->op == OP_PARAM;
    if (leaf && !run->writes) {
        out->at = memory_of(run, id);
        return;
    }
    out->at = arena_array(run->arena, char, array_bytes(out));
    if (properties & MOVES) {
        run_movement(run, id, out);
        return;
    }
    if (properties & MAPS && node->op != OP_BITCAST) {
        run_map(run, node, out);
        return;
    }
    switch (node->op) {
    case OP_CONST: run_const(run, id, out); break;
    case OP_IOTA: run_iota(node, out); break;
    case OP_VAR:
        put(out, 0,
            (Scalar){.integer = run->binding->var(run->binding->context, (int32_t)node->arg[0])});
        break;
    case OP_REDUCE: run_reduce(run, node, out); break;
    case OP_SCAN: run_scan(run, node, out); break;
    case OP_GATHER: run_gather(run, node, out); break;
    case OP_SCATTER_ADD: run_scatter_add(run, node, out); break;
    case OP_ASSIGN: run_assign(run, node, out); break;
    case OP_BUFFER:
    case OP_PARAM: memcpy(out->at, memory_of(run, id), array_bytes(out)); break;
    case OP_BITCAST:
    case OP_WITHGRAD:
    case OP_CONTIGUOUS:
    case OP_DETACH:
    case OP_COPY: memcpy(out->at, run->array[node->source[0]].at, array_bytes(out)); break;
    default: fatal("%%%d: %s is no op of the tensor dialect", id, ops[node->op].text);
    }
}

static void run_all(void *context) {
    Run *run = context;
    for (int32_t i = 0; i < run->needed.count; i++)
        run->writes |= graph_node(run->graph, run->needed.at[i])->op == OP_ASSIGN;
    for (int32_t i = 0; i < run->needed.count; i++) run_node(run, run->needed.at[i]);
}

void reference_run(const Graph *graph, Id output, const Binding *binding, void *to) {
    Arena *arena = arena_new();
    Run run = {.graph = graph,
               .binding = binding,
               .arena = arena,
               .needed = graph_nodes(arena, graph, 1, &output, -1),
               .array = arena_array(arena, Array, output + 1)};
    int stopped = try_call(run_all, &run);
    if (!stopped) memcpy(to, run.array[output].at, array_bytes(&run.array[output]));
    arena_free(arena);
    if (stopped) fatal_again(error_text());
}
