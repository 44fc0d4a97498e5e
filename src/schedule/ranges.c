/* ranges.c - a stored value becomes a kernel: each node gets its reader's loops as coordinates.
 * In: a root of the tensor graph, which other nodes are in memory.  Out: loops around one store.
 * Invariant: movement ops leave no trace but in indices; a read that a PAD or a GATHER may send
 * outside has a condition.
 *   %2 = permute{1, 0} %0 ; %3 = exp2 %2
 *   =>   for i { for j { out[8*i + j] = (exp2 a[4*j + i]) } }                                  */
#include "schedule/schedule.h"

typedef struct {
    Id node, condition;
    Index coordinate[RANK_MAX];
    int rank;
    Id value;  // of the kernel's graph
} Lowered;

// Where a loop's number is divided on its way into an index (a packed group's 32, a reshape's row),
// cutting the loop there makes the index affine. Loops are counted as they are made; a kernel with
// cuts is lowered a second time.
enum { CUTS_MAX = 6, MADE_MAX = 64 };
typedef struct {
    int count;
    int64_t every[CUTS_MAX];  // descending, each divides the one before and the extent
} Cuts;

// The loops of a REDUCE node: wherever the node is computed, its loops are these. So two uses of a
// value that differ in outer loops only are equal once those are put in place of each other.
typedef struct {
    Id node;
    Index coordinate[RANK_MAX];  // along the folded axes
    int32_t loop[RANK_MAX * (CUTS_MAX + 1)];
    int loops;
} Folded;

typedef struct {
    const Ranges *ranges;
    const Graph *graph;
    Cuts *cuts;  // of each loop as made; NULL in the first round
    int made;
    int32_t first_loop[MADE_MAX];  // the kernel's loop of each loop made
    Id root;                       // computed here, although it is stored
    Kernel *kernel;
    Arena *arena;
    IndexTable *indices;    // the kernel's
    LIST(Lowered) lowered;  // a node at the same coordinates is one expression, its loops included
    Map *memo;              // finds it
    LIST(Folded) folded;
    LIST(int32_t) slot, buffer;  // PARAM slots in order; buffer ids of the kernel
    LIST(DType) as;  // the dtype each slot is read as: BITCAST gives memory a second name
} Lowering;

static Id lower(Lowering *to, Id id, const Index *coordinate, Id condition);

static Index copy_var(void *context, IndexTable *table, const Atom *atom) {
    (void)context;
    return index_atom(table, atom->kind, atom->of, atom->low, atom->high);
}

static Index size_here(Lowering *to, Size size) {
    if (!size_is_symbolic(size)) return index_const(to->indices, size);
    IndexTable *from = graph_indices(to->graph);
    return index_copy(to->indices, from, size_index(from, size), copy_var, NULL);
}

static int64_t capacity(const Lowering *to, Size size) {
    return size_max(graph_indices(to->graph), size);
}

// ---- memory ------------------------------------------------------------------------------------
static int reads(const Lowering *to) {
    int count = 0;
    for (int32_t i = 0; i < to->kernel->buffers.count; i++)
        count += !to->kernel->buffers.at[i].written;
    return count;
}

static int32_t slot_buffer(Lowering *to, int32_t slot, DType as, bool written) {
    for (int32_t i = 0; i < to->slot.count; i++) {
        if (to->slot.at[i] != slot || to->as.at[i] != as) continue;
        if (written) to->kernel->buffers.at[to->buffer.at[i]].written = true;
        return to->buffer.at[i];
    }
    const Slot *info = &to->ranges->module->slots.at[slot];
    int64_t elements = info->elements * dtypes[info->dtype].bytes / dtypes[as].bytes;
    const char name[2] = {(char)('a' + reads(to) % 8), 0};  // loops are named from i on
    int32_t buffer =
        kernel_buffer(to->kernel, written ? "out" : name, as, SPACE_PARAM, elements, written);
    to->kernel->buffers.at[buffer].is_weight = info->is_weight;
    *list_add(to->arena, &to->slot) = slot;
    *list_add(to->arena, &to->as) = as;
    *list_add(to->arena, &to->buffer) = buffer;
    return buffer;
}

// Row-major over upper bounds, so that strides are constants even where a size is a VAR.
static Index linear(Lowering *to, const Node *node, const Index *coordinate) {
    Index index = index_const(to->indices, 0);
    int64_t stride = 1;
    for (int axis = node->rank - 1; axis >= 0; axis--) {
        index = index_add(to->indices, index, index_scale(to->indices, coordinate[axis], stride));
        stride *= capacity(to, node->size[axis]);
    }
    return index;
}

// Memory that holds `stored`, as `node` sees it: after a BITCAST, with another dtype and last axis.
static Id load(Lowering *to, Id stored, const Node *node, const Index *coordinate, Id condition) {
    int32_t slot = to->ranges->slot_of(to->ranges->context, stored);
    int32_t buffer = slot_buffer(to, slot, (DType)node->dtype, false);
    return kernel_load(to->kernel, buffer, linear(to, node, coordinate), condition);
}

// ---- conditions --------------------------------------------------------------------------------
static Id both(Lowering *to, Id a, Id b) {
    if (a < 0) return b;
    return b < 0 ? a : node_binary(to->kernel->graph, OP_AND, a, b);
}

// low <= index < high as a bool node; -1 where the interval says it always holds.
static Id within(Lowering *to, Index index, Index high) {
    Graph *graph = to->kernel->graph;
    Id result = -1;
    if (index_low(to->indices, index) < 0)
        result = node_binary(graph, OP_CMPLT,
                             kernel_index(to->kernel, index_const(to->indices, -1), DT_I64),
                             kernel_index(to->kernel, index, DT_I64));
    if (index_high(to->indices, index_sub(to->indices, index, high)) >= 0)
        result = both(to, result,
                      node_binary(graph, OP_CMPLT, kernel_index(to->kernel, index, DT_I64),
                                  kernel_index(to->kernel, high, DT_I64)));
    return result;
}

static Id zero_outside(Lowering *to, Id condition, Id value) {
    Graph *graph = to->kernel->graph;
    if (condition < 0 || graph_node(graph, value)->op == OP_LOAD) return value;
    DType dtype = node_dtype(graph, value);
    Shape scalar = {0};
    Id zero = dtype_is_float(dtype) ? node_const_float(graph, dtype, scalar, 0)
                                    : node_const_int(graph, dtype, scalar, 0);
    return node_where(graph, condition, value, zero);
}

// ---- one op each -------------------------------------------------------------------------------
// Coordinates in `from` of the element at `coordinate` in `into`. Axes are matched from the right
// in the smallest groups of equal size, so an axis that stays whole (as a symbolic one must) keeps
// its coordinate.
static void reshape_coordinates(Lowering *to, const Node *into, const Index *coordinate,
                                const Node *from, Index *result) {
    int i = into->rank - 1, j = from->rank - 1;
    while (i >= 0 || j >= 0) {
        if (i >= 0 && j >= 0 && into->size[i] == from->size[j]) {
            result[j--] = coordinate[i--];
            continue;
        }
        if (j >= 0 && from->size[j] == 1) {
            result[j--] = index_const(to->indices, 0);
            continue;
        }
        if (i >= 0 && into->size[i] == 1) {
            i--;
            continue;
        }
        Index flat = coordinate[i];
        int64_t left = into->size[i--], right = from->size[j], scale = left;
        int last = j--;
        while (left != right) {
            if (left < right) {
                flat = index_add(to->indices, flat, index_scale(to->indices, coordinate[i], scale));
                scale *= into->size[i];
                left *= into->size[i--];
            } else {
                right *= from->size[j--];
            }
        }
        for (int axis = last; axis > j; axis--) {
            bool first = axis == j + 1;
            result[axis] = first ? flat : index_mod(to->indices, flat, from->size[axis]);
            flat = index_div(to->indices, flat, from->size[axis]);
        }
    }
}

// A loop, or the loops it is cut into, appended to `loop`; returns the coordinate.
static Index open_loop(Lowering *to, const char *name, Size size, int *loops, int32_t *loop) {
    Size extent = size_from_index(to->indices, size_here(to, size));
    if (to->made == MADE_MAX)
        fatal("a kernel needs more than %d loops. Hint: put pg_contiguous between", MADE_MAX);
    const Cuts *cuts = to->cuts ? &to->cuts[to->made] : NULL;
    Index coordinate = index_const(to->indices, 0);
    to->first_loop[to->made++] = to->kernel->loops.count;
    for (int i = 0; cuts && i < cuts->count; i++) {
        loop[*loops] = kernel_loop(to->kernel, name, extent / cuts->every[i]);
        Index outer = kernel_loop_index(to->kernel, loop[(*loops)++]);
        coordinate =
            index_add(to->indices, coordinate, index_scale(to->indices, outer, cuts->every[i]));
        extent = cuts->every[i];
    }
    loop[*loops] = kernel_loop(to->kernel, name, extent);
    return index_add(to->indices, coordinate, kernel_loop_index(to->kernel, loop[(*loops)++]));
}

bool sums_together(const Graph *graph, Id a, Id b) {
    const Node *x = graph_node(graph, a), *y = graph_node(graph, b);
    const Node *left = graph_node(graph, x->source[0]), *right = graph_node(graph, y->source[0]);
    if (x->op != OP_REDUCE || y->op != OP_REDUCE || x->arg[0] != OP_ADD || y->arg[0] != OP_ADD ||
        x->arg[1] != y->arg[1] || left->op != OP_MUL || right->op != OP_MUL ||
        !shape_equal(node_shape(graph, x->source[0]), node_shape(graph, y->source[0])))
        return false;
    for (int i = 0; i < 4; i++)
        if (left->source[i / 2] == right->source[i % 2]) return true;
    return false;
}

static const Folded *loops_of_fold(Lowering *to, Id id) {
    for (int32_t i = 0; i < to->folded.count; i++)
        if (to->folded.at[i].node == id || sums_together(to->graph, to->folded.at[i].node, id))
            return &to->folded.at[i];
    const Node *node = graph_node(to->graph, id), *source = graph_node(to->graph, node->source[0]);
    Folded folded = {.node = id};
    for (int axis = 0; axis < source->rank; axis++)
        if (node->arg[1] >> axis & 1 && source->size[axis] != 1)
            folded.coordinate[axis] =
                open_loop(to, "k", source->size[axis], &folded.loops, folded.loop);
    *list_add(to->arena, &to->folded) = folded;
    return &to->folded.at[to->folded.count - 1];
}

static Id lower_reduce(Lowering *to, Id id, const Index *coordinate, Id condition) {
    const Node *node = graph_node(to->graph, id), *source = graph_node(to->graph, node->source[0]);
    Folded folded = *loops_of_fold(to, id);  // the list grows
    Index inner[RANK_MAX];
    for (int axis = 0; axis < source->rank; axis++) {
        bool folds = node->arg[1] >> axis & 1 && source->size[axis] != 1;
        inner[axis] = folds ? folded.coordinate[axis] : coordinate[axis];
    }
    Id value = lower(to, node->source[0], inner, condition);
    if (!folded.loops) return value;
    return kernel_reduce(to->kernel, (Op)node->arg[0], value, folded.loops, folded.loop);
}

static Id lower_pad(Lowering *to, const Node *node, const Index *coordinate, Id condition) {
    const Node *source = graph_node(to->graph, node->source[0]);
    Index inner[RANK_MAX];
    Id inside = -1;
    for (int axis = 0; axis < node->rank; axis++) {
        inner[axis] = index_sub(to->indices, coordinate[axis], size_here(to, node->arg[axis]));
        inside = both(to, inside, within(to, inner[axis], size_here(to, source->size[axis])));
    }
    return zero_outside(to, inside, lower(to, node->source[0], inner, both(to, condition, inside)));
}

static Id lower_gather(Lowering *to, const Node *node, const Index *coordinate, Id condition) {
    Graph *graph = to->kernel->graph;
    const Node *source = graph_node(to->graph, node->source[0]);
    int axis = (int)node->arg[0];
    Id at = lower(to, node->source[1], coordinate, condition);
    if (node_dtype(graph, at) != DT_I64) at = node_cast(graph, at, DT_I64);
    Shape scalar = {0};
    Id size = kernel_index(to->kernel, size_here(to, source->size[axis]), DT_I64);
    Id inside =
        both(to, node_binary(graph, OP_CMPLT, node_const_int(graph, DT_I64, scalar, -1), at),
             node_binary(graph, OP_CMPLT, at, size));
    Index inner[RANK_MAX];
    for (int i = 0; i < node->rank; i++) inner[i] = coordinate[i];
    inner[axis] = index_atom(to->indices, ATOM_VALUE, at, 0, capacity(to, source->size[axis]) - 1);
    return zero_outside(to, inside, lower(to, node->source[0], inner, both(to, condition, inside)));
}

// A change of width reads the same memory under another dtype: only the last axis scales.
static Id lower_bitcast(Lowering *to, const Node *node, const Index *coordinate, Id condition) {
    Id source = node->source[0];
    int from = dtypes[node_dtype(to->graph, source)].bytes, into = dtypes[node->dtype].bytes;
    if (from == into)
        return node_bitcast(to->kernel->graph, lower(to, source, coordinate, condition),
                            node->dtype);
    return load(to, source, node, coordinate, condition);
}

static Id lower_leaf(Lowering *to, const Node *node, const Index *coordinate) {
    Graph *graph = to->kernel->graph;
    Shape scalar = {0};
    if (node->op == OP_CONST)
        return node_make(graph, OP_CONST, (DType)node->dtype, scalar, 0, NULL, 1, node->arg);
    if (node->op == OP_VAR) {
        const Var *var = graph_var_info(to->graph, (int32_t)node->arg[0]);
        Index index = index_atom(to->indices, ATOM_VAR, (int32_t)node->arg[0], var->low, var->high);
        return kernel_index(to->kernel, index, DT_I64);
    }
    DType narrow = node->dtype == DT_I64 ? DT_I64 : DT_I32;
    Id value = kernel_index(to->kernel, coordinate[node->arg[0]], narrow);
    return node->dtype == narrow ? value : node_cast(graph, value, (DType)node->dtype);
}

static Id lower_move(Lowering *to, const Node *node, const Index *coordinate, Id condition) {
    const Node *source = graph_node(to->graph, node->source[0]);
    Index inner[RANK_MAX];
    if (node->op == OP_PAD) return lower_pad(to, node, coordinate, condition);
    if (node->op == OP_RESHAPE) reshape_coordinates(to, node, coordinate, source, inner);
    for (int axis = 0; axis < node->rank; axis++) {
        Index here = coordinate[axis];
        if (node->op == OP_PERMUTE) inner[node->arg[axis]] = here;
        if (node->op == OP_EXPAND)
            inner[axis] = source->size[axis] == 1 ? index_const(to->indices, 0) : here;
        if (node->op == OP_SHRINK)
            inner[axis] = index_add(to->indices, here, size_here(to, node->arg[axis]));
        if (node->op == OP_FLIP) {
            Index last = index_sub(to->indices, size_here(to, node->size[axis]),
                                   index_const(to->indices, 1));
            inner[axis] = node->arg[0] >> axis & 1 ? index_sub(to->indices, last, here) : here;
        }
    }
    if (node->op == OP_WINDOW) {  // arg: axis, size, stride, dilation
        for (int axis = 0; axis < source->rank; axis++) inner[axis] = coordinate[axis];
        inner[node->arg[0]] =
            index_add(to->indices, index_scale(to->indices, coordinate[node->arg[0]], node->arg[2]),
                      index_scale(to->indices, coordinate[node->rank - 1], node->arg[3]));
    }
    return lower(to, node->source[0], inner, condition);
}

static Id lower_map(Lowering *to, const Node *node, const Index *coordinate, Id condition) {
    Id source[3];
    for (int i = 0; i < node->sources; i++)
        source[i] = lower(to, node->source[i], coordinate, condition);
    Id folded = index_fold(to->kernel, (Op)node->op, (DType)node->dtype, source);
    if (folded >= 0) return folded;
    return node_make(to->kernel->graph, (Op)node->op, (DType)node->dtype, (Shape){0}, node->sources,
                     source, node->arg_count, node->arg);
}

static Id lower_node(Lowering *to, Id id, const Index *coordinate, Id condition) {
    const Node *node = graph_node(to->graph, id);
    for (int axis = 0; axis < node->rank; axis++)  // no element has a coordinate
        if (node->size[axis] == 0)
            return node_identity(to->kernel->graph, OP_ADD, (DType)node->dtype, (Shape){0});
    if (to->ranges->is_stored[id] && id != to->root)
        return load(to, id, node, coordinate, condition);
    if (node->op == OP_BITCAST) return lower_bitcast(to, node, coordinate, condition);
    if (ops[node->op].properties & LEAF) return lower_leaf(to, node, coordinate);
    if (ops[node->op].properties & MOVES) return lower_move(to, node, coordinate, condition);
    if (ops[node->op].properties & MAPS) return lower_map(to, node, coordinate, condition);
    if (node->op == OP_REDUCE) return lower_reduce(to, id, coordinate, condition);
    if (node->op == OP_GATHER) return lower_gather(to, node, coordinate, condition);
    // CONTIGUOUS, DETACH, WITHGRAD and COPY are their source's value.
    return lower(to, node->source[0], coordinate, condition);
}

static bool lowered_same(const void *context, int32_t value) {
    const Lowered *const *pair = context;
    const Lowered *key = pair[0], *entry = &pair[1][value];
    if (key->node != entry->node || key->condition != entry->condition) return false;
    for (int i = 0; i < key->rank; i++)
        if (key->coordinate[i] != entry->coordinate[i]) return false;
    return true;
}

static Id lower(Lowering *to, Id id, const Index *coordinate, Id condition) {
    Lowered key = {.node = id, .condition = condition, .rank = graph_node(to->graph, id)->rank};
    uint64_t hash = hash_bytes(&id, sizeof id, (uint64_t)condition);
    for (int i = 0; i < key.rank; i++) key.coordinate[i] = coordinate[i];
    hash = hash_bytes(key.coordinate, sizeof(Index) * (size_t)key.rank, hash);
    const Lowered *pair[2] = {&key, to->lowered.at};
    int32_t found = map_find(to->memo, hash, lowered_same, pair);
    if (found >= 0) return to->lowered.at[found].value;
    key.value = lower_node(to, id, coordinate, condition);
    map_add(to->arena, to->memo, hash, to->lowered.count);
    *list_add(to->arena, &to->lowered) = key;
    return key.value;
}

// ---- whole kernels -----------------------------------------------------------------------------
// Loops over the axes of a shape, outermost first; coordinates are written to `coordinate`.
static int open_loops(Lowering *to, const Node *node, uint32_t axes, int32_t *loop,
                      Index *coordinate) {
    static const char *const names[RANK_MAX] = {"i", "j", "l", "m", "n", "o", "p", "q"};
    int loops = 0;
    for (int axis = 0; axis < node->rank; axis++) {
        if (!(axes >> axis & 1)) continue;
        coordinate[axis] = index_const(to->indices, 0);
        if (node->size[axis] == 1) continue;
        coordinate[axis] = open_loop(to, names[axis], node->size[axis], &loops, loop);
    }
    return loops;
}

Id root_shape(const Graph *graph, Id root) {
    const Node *node = graph_node(graph, root), *value = node;
    if (node->op != OP_ASSIGN) return root;
    value = graph_node(graph, node->source[1]);
    bool joins = value->op == OP_RESHAPE && graph_node(graph, value->source[0])->rank > value->rank;
    return joins ? value->source[0] : node->source[1];
}

static Statement *store_value(Lowering *to, Id root, int32_t out, const Index *coordinate) {
    Id value = lower_node(to, root, coordinate, -1);
    return statement_store(to->kernel, ROLE_STORE, out,
                           linear(to, graph_node(to->graph, root), coordinate), value);
}

// The target of an ASSIGN is a chain of movement over memory: its LOAD says which element to write.
static Statement *store_assigned(Lowering *to, const Node *node, const Node *shape,
                                 const Index *coordinate) {
    Index at[RANK_MAX];
    reshape_coordinates(to, shape, coordinate, graph_node(to->graph, node->source[1]), at);
    const Node *target = graph_node(to->kernel->graph, lower(to, node->source[0], at, -1));
    if (target->op != OP_LOAD || target->sources)
        fatal("assign: the target is not a view of memory. Hint: assign to a tensor or to a slice "
              "of one");
    int32_t buffer = (int32_t)target->arg[0];
    Index index = (Index)target->arg[1];
    to->kernel->buffers.at[buffer].written = true;
    Id value = lower(to, node->source[1], at, -1);
    return statement_store(to->kernel, ROLE_STORE, buffer, index, value);
}

static Statement *store_root(Lowering *to, Id root) {
    const Node *node = graph_node(to->graph, root),
               *shape = graph_node(to->graph, root_shape(to->graph, root));
    int32_t loop[RANK_MAX * (CUTS_MAX + 1)], out = -1;
    Index coordinate[RANK_MAX];
    uint8_t turned = to->ranges->turned[root];
    if (node->op != OP_ASSIGN)
        out = slot_buffer(to, to->ranges->slot_of(to->ranges->context, root), (DType)node->dtype,
                          true);
    int loops = open_loops(to, shape, ~(uint32_t)turned, loop, coordinate);
    Statement *stores = NULL, **last = &stores;
    for (int which = 0; which < (turned ? 2 : 1); which++, last = &(*last)->next) {
        for (int axis = 0; axis < shape->rank; axis++)
            if (turned >> axis & 1) coordinate[axis] = index_const(to->indices, which);
        *last = node->op == OP_ASSIGN ? store_assigned(to, node, shape, coordinate)
                                      : store_value(to, root, out, coordinate);
    }
    return statement_nest(to->kernel, loops, loop, stores);
}

// init; for k { update; store }: a prefix fold keeps its running value in an accumulator.
static Statement *store_scan(Lowering *to, Id root) {
    const Node *node = graph_node(to->graph, root);
    Graph *graph = to->kernel->graph;
    Op fold = (Op)node->arg[0];
    uint32_t axis = (uint32_t)node->arg[1];
    int32_t loop[RANK_MAX * (CUTS_MAX + 1)], along[CUTS_MAX + 1];
    Index coordinate[RANK_MAX], zero = index_const(to->indices, 0);
    int32_t out =
        slot_buffer(to, to->ranges->slot_of(to->ranges->context, root), (DType)node->dtype, true);
    int loops = open_loops(to, node, ~(1u << axis), loop, coordinate);
    int scans = open_loops(to, node, 1u << axis, along, coordinate);
    Id value = lower(to, node->source[0], coordinate, -1);
    int32_t sum = kernel_buffer(to->kernel, "s", (DType)node->dtype, SPACE_REGISTER, 1, true);
    Shape scalar = {0};
    Statement *init = statement_store(to->kernel, ROLE_INIT, sum, zero,
                                      node_identity(graph, fold, (DType)node->dtype, scalar));
    Id next = node_binary(graph, fold, kernel_load(to->kernel, sum, zero, -1), value);
    Statement *update = statement_store(to->kernel, ROLE_UPDATE, sum, zero, next);
    update->next = statement_store(to->kernel, ROLE_STORE, out, linear(to, node, coordinate),
                                   kernel_load(to->kernel, sum, zero, -1));
    init->next = statement_nest(to->kernel, scans, along, update);
    return statement_nest(to->kernel, loops, loop, init);
}

// Copies x, then adds each value at its index. The axis and those that index it run in order.
static Statement *store_scatter(Lowering *to, Id root) {
    const Node *node = graph_node(to->graph, root);
    const Node *index_node = graph_node(to->graph, node->source[1]);
    Graph *graph = to->kernel->graph;
    int axis = (int)node->arg[0];
    int32_t out =
        slot_buffer(to, to->ranges->slot_of(to->ranges->context, root), (DType)node->dtype, true);
    int32_t loop[RANK_MAX * (CUTS_MAX + 1)];
    Index coordinate[RANK_MAX];
    int loops = open_loops(to, node, ~0u, loop, coordinate);
    Statement *copy = statement_store(to->kernel, ROLE_INIT, out, linear(to, node, coordinate),
                                      lower(to, node->source[0], coordinate, -1));
    copy = statement_nest(to->kernel, loops, loop, copy);
    loops = open_loops(to, index_node, ~0u, loop, coordinate);
    Id at = lower(to, node->source[1], coordinate, -1);
    Id value = lower(to, node->source[2], coordinate, -1);
    if (node_dtype(graph, at) != DT_I64) at = node_cast(graph, at, DT_I64);
    Shape scalar = {0};
    Id inside =
        both(to, node_binary(graph, OP_CMPLT, node_const_int(graph, DT_I64, scalar, -1), at),
             node_binary(graph, OP_CMPLT, at,
                         kernel_index(to->kernel, size_here(to, node->size[axis]), DT_I64)));
    coordinate[axis] =
        index_atom(to->indices, ATOM_VALUE, at, 0, capacity(to, node->size[axis]) - 1);
    Index element = linear(to, node, coordinate);
    Id sum = node_binary(graph, OP_ADD, kernel_load(to->kernel, out, element, inside), value);
    Statement *update = statement_store(to->kernel, ROLE_UPDATE, out, element, sum);
    update->condition = inside;
    copy->next = statement_nest(to->kernel, loops, loop, update);
    return copy;
}

static const char *root_name(Arena *arena, const Graph *graph, Id root) {
    const Node *node = graph_node(graph, root), *named = node;
    while (ops[named->op].properties & MOVES || named->op == OP_CONTIGUOUS ||
           named->op == OP_COPY || named->op == OP_DETACH)
        named = graph_node(graph, named->source[0]);
    Text name = text_new(arena);
    text_add(&name, "%s", ops[named->op].text);
    for (int axis = 0; axis < node->rank; axis++)
        text_add(&name, "%s%lld", axis ? "x" : "_",
                 (long long)size_max(graph_indices(graph), node->size[axis]));
    return name.at;
}

// ---- cuts --------------------------------------------------------------------------------------
static void add_cut(Cuts *cuts, int64_t extent, int64_t every) {
    if (every <= 1 || every >= extent || extent % every || cuts->count == CUTS_MAX) return;
    int at = 0;
    for (; at < cuts->count && cuts->every[at] >= every; at++)
        if (cuts->every[at] == every || cuts->every[at] % every) return;
    if (at < cuts->count && every % cuts->every[at]) return;
    for (int i = cuts->count++; i > at; i--) cuts->every[i] = cuts->every[i - 1];
    cuts->every[at] = every;
}

static void find_cuts(Lowering *to, Index index, Cuts *cuts) {
    const Term *term;
    int terms = index_terms(to->indices, index, &term);
    for (int i = 0; i < terms; i++) {
        const Atom *atom = index_atom_of(to->indices, term[i].atom);
        if (atom->kind != ATOM_DIV && atom->kind != ATOM_MOD) continue;
        const Term *inside;
        int insides = index_terms(to->indices, atom->of, &inside);
        for (int j = 0; j < insides; j++) {
            const Atom *loop = index_atom_of(to->indices, inside[j].atom);
            int64_t scale = inside[j].scale < 0 ? -inside[j].scale : inside[j].scale, extent;
            if (loop->kind != ATOM_LOOP || atom->by % scale) continue;
            if (!index_is_const(to->indices, to->kernel->loops.at[loop->of].extent, &extent))
                continue;
            for (int made = 0; made < to->made; made++)
                if (to->first_loop[made] == loop->of)
                    add_cut(&cuts[made], extent, atom->by / scale);
        }
        find_cuts(to, atom->of, cuts);
    }
}

static bool has_cuts(Lowering *to, Cuts *cuts) {
    const Graph *graph = to->kernel->graph;
    for (Id id = 0; id < graph_count(graph); id++) {
        const Node *node = graph_node(graph, id);
        if (node->op == OP_LOAD) find_cuts(to, (Index)node->arg[1], cuts);
        if (node->op == OP_INDEX) find_cuts(to, (Index)node->arg[0], cuts);
    }
    for (int made = 0; made < to->made; made++)
        if (cuts[made].count) return true;
    return false;
}

static Lowering lower_root(const Ranges *ranges, Id root, Cuts *cuts) {
    const Graph *graph = ranges->module->graph;
    Arena *arena = ranges->module->arena;
    const Node *node = graph_node(graph, root);
    Kernel *kernel = kernel_new(arena, root_name(arena, graph, root));
    Lowering to = {.ranges = ranges,
                   .graph = graph,
                   .cuts = cuts,
                   .root = root,
                   .kernel = kernel,
                   .arena = arena,
                   .indices = graph_indices(kernel->graph),
                   .memo = map_new(arena)};
    for (int32_t var = 0; var < graph_vars(graph); var++) {  // the same ids as in the module
        const Var *info = graph_var_info(graph, var);
        graph_var(kernel->graph, info->name, info->low, info->high);
    }
    kernel->body = node->op == OP_SCAN          ? store_scan(&to, root)
                   : node->op == OP_SCATTER_ADD ? store_scatter(&to, root)
                                                : store_root(&to, root);
    return to;
}

KernelCall kernel_from_root(const Ranges *ranges, Id root) {
    Arena *arena = ranges->module->arena;
    Cuts *cuts = arena_array(arena, Cuts, MADE_MAX);
    Lowering to = lower_root(ranges, root, NULL);
    if (has_cuts(&to, cuts)) to = lower_root(ranges, root, cuts);
    int32_t *slot = arena_array(arena, int32_t, to.slot.count);
    for (int32_t i = 0; i < to.slot.count; i++) slot[i] = to.slot.at[i];
    return (KernelCall){.kernel = to.kernel, .root = root, .slot = slot, .params = to.slot.count};
}
