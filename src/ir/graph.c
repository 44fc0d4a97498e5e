/* graph.c - nodes: made, checked, shared.
 * In: ops, sources, sizes.  Out: ids; equal nodes have equal ids.
 * Invariants: a node's sources have smaller ids; every node has the dtype and the shape that its op
 * derives from its sources and arguments; a Node never moves and never changes.
 *   node_binary(graph, OP_ADD, x, y) == node_binary(graph, OP_ADD, x, y)                        */
#include "ir/ir.h"
#include "ir/scalar.h"

#include <math.h>
#include <string.h>

struct Graph {
    Arena *arena;
    IndexTable *indices;
    LIST(const Node *) nodes;
    Map *ids;  // from a node's hash
    LIST(Var) vars;
};

Graph *graph_new(Arena *arena) {
    Graph *graph = arena_object(arena, Graph);
    graph->arena = arena;
    graph->indices = index_table_new(arena);
    graph->ids = map_new(arena);
    return graph;
}

Arena *graph_arena(const Graph *graph) { return graph->arena; }

IndexTable *graph_indices(const Graph *graph) { return graph->indices; }

int32_t graph_count(const Graph *graph) { return graph->nodes.count; }

const Node *graph_node(const Graph *graph, Id id) {
    if (id < 0 || id >= graph->nodes.count)
        fatal("%%%d is not a node of this graph of %d nodes", id, graph->nodes.count);
    return graph->nodes.at[id];
}

Shape node_shape(const Graph *graph, Id id) {
    const Node *node = graph_node(graph, id);
    Shape shape = {.rank = node->rank};
    if (node->rank) memcpy(shape.size, node->size, node->rank * sizeof(Size));
    return shape;
}

DType node_dtype(const Graph *graph, Id id) { return (DType)graph_node(graph, id)->dtype; }

// ---- VARs --------------------------------------------------------------------------------------

int32_t graph_var(Graph *graph, const char *name, int64_t low, int64_t high) {
    if (low > high) fatal("var %s: %ld..%ld is empty", name, low, high);
    for (int32_t i = 0; i < graph->vars.count; i++) {
        const Var *var = &graph->vars.at[i];
        if (strcmp(var->name, name) != 0) continue;
        if (var->low == low && var->high == high) return i;
        fatal("var %s: %ld..%ld here, but %ld..%ld before. Hint: one name, one interval", name, low,
              high, var->low, var->high);
    }
    *list_add(graph->arena, &graph->vars) = (Var){arena_text(graph->arena, name), low, high};
    return graph->vars.count - 1;
}

int32_t graph_vars(const Graph *graph) { return graph->vars.count; }

const Var *graph_var_info(const Graph *graph, int32_t var) {
    if (var < 0 || var >= graph->vars.count) fatal("there is no var number %d in this graph", var);
    return &graph->vars.at[var];
}

Index graph_var_index(const Graph *graph, int32_t var) {
    const Var *info = graph_var_info(graph, var);
    return index_atom(graph->indices, ATOM_VAR, var, info->low, info->high);
}

// ---- making ------------------------------------------------------------------------------------

static uint64_t draft_hash(const NodeDraft *draft) {
    uint64_t hash = (uint64_t)draft->op << 48 | (uint64_t)draft->dtype << 40 |
                    (uint64_t)draft->sources << 36 | (uint64_t)draft->shape.rank << 32 |
                    (uint32_t)draft->args;
    hash = hash_bytes(draft->source, (size_t)draft->sources * sizeof(Id), hash);
    if (draft->args) hash = hash_bytes(draft->arg, (size_t)draft->args * sizeof(int64_t), hash);
    if (draft->shape.rank)
        hash = hash_bytes(draft->shape.size, (size_t)draft->shape.rank * sizeof(Size), hash);
    return hash;
}

static bool same_words(const void *a, const void *b, size_t bytes) {
    return !bytes || memcmp(a, b, bytes) == 0;
}

typedef struct {
    const Graph *graph;
    const NodeDraft *draft;
} Wanted;

static bool same_node(const void *context, int32_t id) {
    const Wanted *wanted = context;
    const NodeDraft *draft = wanted->draft;
    const Node *node = wanted->graph->nodes.at[id];
    return node->op == draft->op && node->dtype == draft->dtype &&
           node->sources == draft->sources && node->arg_count == draft->args &&
           node->rank == draft->shape.rank &&
           same_words(node->source, draft->source, (size_t)draft->sources * sizeof(Id)) &&
           same_words(node->arg, draft->arg, (size_t)draft->args * sizeof(int64_t)) &&
           same_words(node->size, draft->shape.size, (size_t)draft->shape.rank * sizeof(Size));
}

// The node of a derived draft, made if it is not there.
static Id intern(Graph *graph, const NodeDraft *draft) {
    uint64_t hash = draft_hash(draft);
    Id id = map_find(graph->ids, hash, same_node, &(Wanted){graph, draft});
    if (id >= 0) return id;
    Node *node = arena_object(graph->arena, Node);
    *node = (Node){.op = (uint8_t)draft->op,
                   .dtype = (uint8_t)draft->dtype,
                   .sources = (uint8_t)draft->sources,
                   .rank = (uint8_t)draft->shape.rank,
                   .arg_count = draft->args};
    memcpy(node->source, draft->source, (size_t)draft->sources * sizeof(Id));
    if (draft->args)
        node->arg = arena_copy(graph->arena, draft->arg, (size_t)draft->args * sizeof(int64_t));
    if (node->rank)
        node->size = arena_copy(graph->arena, draft->shape.size, node->rank * sizeof(Size));
    *list_add(graph->arena, &graph->nodes) = node;
    map_add(graph->arena, graph->ids, hash, graph->nodes.count - 1);
    return graph->nodes.count - 1;
}

static Id make(Graph *graph, NodeDraft draft) {
    static const Id none[1];
    if (!draft.source) draft.source = none;
    node_derive(graph, &draft);
    return intern(graph, &draft);
}

Id node_make(Graph *graph, Op op, DType dtype, Shape shape, int sources, const Id *source, int args,
             const int64_t *arg) {
    Id id = make(graph, (NodeDraft){op, dtype, shape, sources, args, source, arg});
    if (node_dtype(graph, id) != dtype || !shape_equal(node_shape(graph, id), shape))
        fatal("%s: it gives %s %s, not %s %s", ops[op].text, dtypes[node_dtype(graph, id)].text,
              graph_shape_text(graph, node_shape(graph, id)), dtypes[dtype].text,
              graph_shape_text(graph, shape));
    return id;
}

// ---- constructors ------------------------------------------------------------------------------

static Id leaf(Graph *graph, Op op, DType dtype, Shape shape, int args, const int64_t *arg) {
    return make(graph, (NodeDraft){op, dtype, shape, 0, args, NULL, arg});
}

Id node_const_float(Graph *graph, DType dtype, Shape shape, double value) {
    if (!dtype_is_float(dtype)) fatal("const: %s is not a float", dtypes[dtype].text);
    double rounded = (double)scalar_cast((Scalar){.real = (float)value}, DT_F32, dtype).real;
    if (rounded != rounded) rounded = (double)NAN;  // one NaN, so that equal constants are one node
    int64_t bits;
    memcpy(&bits, &rounded, sizeof bits);
    return leaf(graph, OP_CONST, dtype, shape, 1, &bits);
}

Id node_const_int(Graph *graph, DType dtype, Shape shape, int64_t value) {
    if (dtype_is_float(dtype)) fatal("const: %s is not an integer", dtypes[dtype].text);
    return leaf(graph, OP_CONST, dtype, shape, 1, (int64_t[]){scalar_wrap(dtype, value)});
}

double node_const_value(const Graph *graph, Id id, int64_t *integer) {
    const Node *node = graph_node(graph, id);
    if (node->op != OP_CONST) fatal("%%%d is a %s, not a const", id, ops[node->op].text);
    double value = (double)node->arg[0];
    if (dtype_is_float(node->dtype)) memcpy(&value, node->arg, sizeof value);
    if (integer) *integer = dtype_is_float(node->dtype) ? 0 : node->arg[0];
    return value;
}

Id node_identity(Graph *graph, Op fold, DType dtype, Shape shape) {
    Scalar value = scalar_identity(fold, dtype);
    if (dtype_is_float(dtype)) return node_const_float(graph, dtype, shape, (double)value.real);
    return node_const_int(graph, dtype, shape, value.integer);
}

Id node_buffer(Graph *graph, DType dtype, Shape shape, int64_t id, int64_t version) {
    return leaf(graph, OP_BUFFER, dtype, shape, 2, (int64_t[]){id, version});
}

Id node_param(Graph *graph, DType dtype, Shape shape, int64_t number) {
    return leaf(graph, OP_PARAM, dtype, shape, 1, &number);
}

Id node_var(Graph *graph, int32_t var) {
    return leaf(graph, OP_VAR, DT_I64, (Shape){0}, 1, (int64_t[]){var});
}

static Id size_const(Graph *graph, int64_t value) {
    return node_const_int(graph, DT_I64, (Shape){0}, value);
}

static Id index_node(Graph *graph, Index index);

static Id atom_node(Graph *graph, Atom atom) {
    if (atom.kind == ATOM_VAR) return node_var(graph, atom.of);
    if (atom.kind != ATOM_DIV && atom.kind != ATOM_MOD)
        fatal("a size is made of VARs, not of loops or values");
    Id of = index_node(graph, atom.of), by = size_const(graph, atom.by);
    return node_binary(graph, atom.kind == ATOM_DIV ? OP_IDIV : OP_MOD, of, by);
}

static Id index_node(Graph *graph, Index index) {
    const Term *terms;
    int count = index_terms(graph->indices, index, &terms);
    int64_t constant = index_constant(graph->indices, index);
    Id sum = constant || !count ? size_const(graph, constant) : -1;
    for (int i = 0; i < count; i++) {
        Id value = atom_node(graph, *index_atom_of(graph->indices, terms[i].atom));
        if (terms[i].scale != 1)
            value = node_binary(graph, OP_MUL, value, size_const(graph, terms[i].scale));
        sum = sum < 0 ? value : node_binary(graph, OP_ADD, value, sum);
    }
    return sum;
}

Id node_size(Graph *graph, Size size) {
    return index_node(graph, size_index(graph->indices, size));
}

Id node_iota(Graph *graph, DType dtype, Shape shape, int axis) {
    return leaf(graph, OP_IOTA, dtype, shape, 1, (int64_t[]){axis});
}

static Id unary(Graph *graph, Op op, Id x, Shape shape, int args, const int64_t *arg) {
    return make(graph, (NodeDraft){op, node_dtype(graph, x), shape, 1, args, &x, arg});
}

Id node_reshape(Graph *graph, Id x, Shape shape) {
    return unary(graph, OP_RESHAPE, x, shape, 0, NULL);
}

Id node_permute(Graph *graph, Id x, const int *axes) {
    int64_t arg[RANK_MAX];
    Shape shape = node_shape(graph, x);
    for (int i = 0; i < shape.rank; i++) arg[i] = axes[i];
    return unary(graph, OP_PERMUTE, x, shape, shape.rank, arg);
}

Id node_expand(Graph *graph, Id x, Shape shape) {
    return unary(graph, OP_EXPAND, x, shape, 0, NULL);
}

Id node_pad(Graph *graph, Id x, const Size *before, const Size *after) {
    int64_t arg[2 * RANK_MAX];
    Shape shape = node_shape(graph, x);
    memcpy(arg, before, (size_t)shape.rank * sizeof(Size));
    memcpy(arg + shape.rank, after, (size_t)shape.rank * sizeof(Size));
    return unary(graph, OP_PAD, x, shape, 2 * shape.rank, arg);
}

Id node_shrink(Graph *graph, Id x, const Size *start, const Size *size) {
    Shape shape = node_shape(graph, x);
    memcpy(shape.size, size, (size_t)shape.rank * sizeof(Size));
    return unary(graph, OP_SHRINK, x, shape, shape.rank, start);
}

Id node_flip(Graph *graph, Id x, uint32_t axes) {
    return unary(graph, OP_FLIP, x, (Shape){0}, 1, (int64_t[]){axes});
}

Id node_window(Graph *graph, Id x, int axis, int64_t size, int64_t stride, int64_t dilation) {
    int64_t arg[] = {axis, size, stride, dilation};
    return unary(graph, OP_WINDOW, x, (Shape){0}, 4, arg);
}

Id node_map(Graph *graph, Op op, DType dtype, const Id *source) {
    return make(graph, (NodeDraft){op, dtype, (Shape){0}, ops[op].arity, 0, source, NULL});
}

Id node_cast(Graph *graph, Id x, DType dtype) { return node_map(graph, OP_CAST, dtype, &x); }

Id node_bitcast(Graph *graph, Id x, DType dtype) { return node_map(graph, OP_BITCAST, dtype, &x); }

Id node_unary(Graph *graph, Op op, Id x) {
    return make(graph, (NodeDraft){.op = op, .sources = 1, .source = &x});
}

Id node_binary(Graph *graph, Op op, Id x, Id y) {
    return make(graph, (NodeDraft){.op = op, .sources = 2, .source = (Id[]){x, y}});
}

Id node_where(Graph *graph, Id condition, Id x, Id y) {
    return node_map(graph, OP_WHERE, node_dtype(graph, x), (Id[]){condition, x, y});
}

Id node_fma(Graph *graph, Id x, Id y, Id z) {
    return node_map(graph, OP_FMA, node_dtype(graph, x), (Id[]){x, y, z});
}

Id node_reduce(Graph *graph, Op fold, Id x, uint32_t axes) {
    return unary(graph, OP_REDUCE, x, (Shape){0}, 2, (int64_t[]){fold, axes});
}

Id node_scan(Graph *graph, Op fold, Id x, int axis) {
    return unary(graph, OP_SCAN, x, (Shape){0}, 2, (int64_t[]){fold, axis});
}

Id node_gather(Graph *graph, Id x, Id index, int axis) {
    return make(graph, (NodeDraft){.op = OP_GATHER,
                                   .sources = 2,
                                   .source = (Id[]){x, index},
                                   .args = 1,
                                   .arg = (int64_t[]){axis}});
}

Id node_scatter_add(Graph *graph, Id x, Id index, Id values, int axis) {
    return make(graph, (NodeDraft){.op = OP_SCATTER_ADD,
                                   .sources = 3,
                                   .source = (Id[]){x, index, values},
                                   .args = 1,
                                   .arg = (int64_t[]){axis}});
}

Id node_assign(Graph *graph, Id view, Id value, int64_t id, int64_t version) {
    return make(graph, (NodeDraft){.op = OP_ASSIGN,
                                   .sources = 2,
                                   .source = (Id[]){view, value},
                                   .args = 2,
                                   .arg = (int64_t[]){id, version}});
}

Id node_withgrad(Graph *graph, Id value, Id surrogate) {
    return node_binary(graph, OP_WITHGRAD, value, surrogate);
}

Id node_contiguous(Graph *graph, Id x) { return node_unary(graph, OP_CONTIGUOUS, x); }

Id node_detach(Graph *graph, Id x) { return node_unary(graph, OP_DETACH, x); }

// ---- copying -----------------------------------------------------------------------------------

typedef struct {
    Graph *to;
    const Graph *from;
    const Id *map;
} Copying;

static Index copy_atom(void *context, IndexTable *table, const Atom *atom) {
    const Copying *copying = context;
    if (atom->kind == ATOM_VAR) {
        const Var *var = graph_var_info(copying->from, atom->of);
        return graph_var_index(copying->to, graph_var(copying->to, var->name, var->low, var->high));
    }
    int32_t of = atom->kind == ATOM_VALUE ? copying->map[atom->of] : atom->of;
    return index_atom(table, atom->kind, of, atom->low, atom->high);
}

static Index copy_index(Copying *copying, Index index) {
    return index_copy(copying->to->indices, copying->from->indices, index, copy_atom, copying);
}

static Size copy_size(Copying *copying, Size size) {
    if (!size_is_symbolic(size)) return size;
    Index index = copy_index(copying, size_index(copying->from->indices, size));
    return size_from_index(copying->to->indices, index);
}

static void copy_args(Copying *copying, const Node *node, int64_t *arg) {
    const char *letter = op_args((Op)node->op);
    int rank = node->sources ? graph_node(copying->from, node->source[0])->rank : 0;
    int word = 0;
    for (; *letter && word < node->arg_count; letter++) {
        int count = *letter == 'N' || *letter == 'S' ? rank : 1;
        for (int i = 0; i < count; i++, word++) {
            if (*letter == 'S') arg[word] = copy_size(copying, arg[word]);
            if (*letter == 'x') arg[word] = copy_index(copying, (Index)arg[word]);
            if (*letter == 'v') {
                const Var *var = graph_var_info(copying->from, (int32_t)arg[word]);
                arg[word] = graph_var(copying->to, var->name, var->low, var->high);
            }
        }
    }
}

Id node_rebuild(Graph *to, const Graph *from, Id id, const Id *map) {
    const Node *node = graph_node(from, id);
    Copying copying = {to, from, map};
    Id source[3];
    int64_t arg[2 * RANK_MAX], *args = arg;
    if (node->arg_count > COUNT_OF(arg)) args = arena_array(to->arena, int64_t, node->arg_count);
    for (int i = 0; i < node->sources; i++) source[i] = map[node->source[i]];
    if (node->arg_count) memcpy(args, node->arg, (size_t)node->arg_count * sizeof *args);
    Shape shape = node_shape(from, id);
    if (to != from) {
        copy_args(&copying, node, args);
        for (int axis = 0; axis < shape.rank; axis++)
            shape.size[axis] = copy_size(&copying, shape.size[axis]);
    }
    return make(to, (NodeDraft){(Op)node->op, (DType)node->dtype, shape, node->sources,
                                node->arg_count, source, args});
}

// ---- what is needed ----------------------------------------------------------------------------

// A set of nodes has a bit for each: a statement uses few of its kernel's, and it is asked often.
static void mark(uint64_t *marked, Id id) { marked[id / 64] |= (uint64_t)1 << id % 64; }

static void mark_index(const Graph *graph, Index index, uint64_t *marked) {
    const Term *terms;
    int count = index_terms(graph->indices, index, &terms);
    for (int i = 0; i < count; i++) {
        const Atom *atom = index_atom_of(graph->indices, terms[i].atom);
        if (atom->kind == ATOM_DIV || atom->kind == ATOM_MOD) mark_index(graph, atom->of, marked);
        if (atom->kind == ATOM_VALUE) mark(marked, atom->of);
    }
}

static void mark_sources(const Graph *graph, const Node *node, uint64_t *marked) {
    for (int i = 0; i < node->sources; i++) mark(marked, node->source[i]);
    if (node->op == OP_LOAD) mark_index(graph, (Index)node->arg[1], marked);
    if (node->op == OP_INDEX) mark_index(graph, (Index)node->arg[0], marked);
}

IdList graph_nodes(Arena *arena, const Graph *graph, int roots, const Id *root, Index index) {
    IdList list = {0};
    int words = graph->nodes.count / 64 + 1;
    uint64_t *marked = arena_array(arena, uint64_t, words);
    for (int i = 0; i < roots; i++)
        if (root[i] != -1 && graph_node(graph, root[i])) mark(marked, root[i]);
    if (index >= 0) mark_index(graph, index, marked);
    for (int i = words - 1; i >= 0; i--) {  // sources have smaller ids
        for (uint64_t seen = 0, left; (left = marked[i] & ~seen);) {
            int bit = 63 - __builtin_clzll(left);
            seen |= (uint64_t)1 << bit;
            mark_sources(graph, graph_node(graph, 64 * i + bit), marked);
        }
        list.capacity += __builtin_popcountll(marked[i]);
    }
    list.at = arena_array(arena, Id, list.capacity);
    for (int i = 0; i < words; i++)
        for (uint64_t left = marked[i]; left; left &= left - 1)
            list.at[list.count++] = 64 * i + __builtin_ctzll(left);
    return list;
}
