/* realise.c - nodes and memory: which values are known, how they become known, which bytes a
 * handle means now.
 * In: a handle, or nodes of a scope's graph.  Out: nodes of the innermost scope's graph; buffers.
 * Invariants: a Value or BUFFER is good while its buffer has its version, else it has moved on;
 * what is computed is the cone of nodes above the nearest values, copied to a graph of its own.
 *   y = x*x in memory;  realise(sum(y)) computes   %0 = buffer y, %1 = reduce %0                 */
#include "tensor/tensor.h"

Id view_base(const Graph *graph, Id id) {
    for (;; id = graph_node(graph, id)->source[0]) {
        const Node *node = graph_node(graph, id);
        if (!(ops[node->op].properties & MOVES) && node->op != OP_DETACH) return id;
    }
}

Id view_rebase(Graph *graph, Id id, Id base) {
    LIST(Id) views = {0};
    Id old = view_base(graph, id);
    for (; id != old; id = graph_node(graph, id)->source[0])
        *list_add(graph_arena(graph), &views) = id;
    for (int i = views.count - 1; i >= 0; i--) {
        const Node *node = graph_node(graph, views.at[i]);
        base = node_make(graph, node->op, node->dtype, node_shape(graph, views.at[i]), 1, &base,
                         node->arg_count, node->arg);
    }
    return base;
}

// ---- values ------------------------------------------------------------------------------------

static Value *value_at(Scope *scope, Id id) {
    if (id >= scope->values.count) return NULL;
    Value *value = &scope->values.at[id];
    return value->known && buffer_version(value->buffer) == value->version ? value : NULL;
}

static void value_set(Scope *scope, Id id, int64_t buffer, int64_t version) {
    while (scope->values.count <= id) *list_add(scope->arena, &scope->values) = (Value){0};
    scope->values.at[id] = (Value){.buffer = buffer, .version = version, .known = true};
}

static bool is_in_memory(Scope *scope, Id id) {
    return graph_node(scope->graph, id)->op == OP_BUFFER || value_at(scope, id);
}

bool is_packed(Scope *scope, Id id) {
    Id base = view_base(scope->graph, id);
    return graph_node(scope->graph, base)->sources > 0 && !is_in_memory(scope, base);
}

// ---- copying cones -----------------------------------------------------------------------------

typedef enum {
    COPY_HISTORY,  // everything; values stay known
    COPY_LEAVES,   // values become BUFFERs
    COPY_COMPUTE,  // so too, and memory that has moved on is fatal
} CopyMode;

typedef struct {
    CopyMode mode;
    Scope *from;
    Graph *to;
    Scope *holder;  // of `to`, to keep the BUFFERs alive; NULL if that goes without saying
} Copy;

static Id copy_buffer(const Copy *copy, Id id, int64_t buffer, int64_t version) {
    int32_t count = graph_count(copy->to);
    Id leaf = node_buffer(copy->to, node_dtype(copy->from->graph, id),
                          node_shape(copy->from->graph, id), buffer, version);
    if (copy->holder && leaf == count) {
        buffer_retain(buffer);
        scope_hold(copy->holder, buffer);
    }
    return leaf;
}

static void must_not_have_moved(const Copy *copy, Id id, const Node *node) {
    // The version after the present one is that of the assignment being made.
    if (node->arg[1] == VERSION_READ_ONLY || node->arg[1] >= buffer_version(node->arg[0])) return;
    fatal("assign: a value of shape %s was overwritten that is still needed, here or by a "
          "gradient. Hint: call pg_grad before pg_assign, or assign to a pg_keep of a copy",
          graph_shape_text(copy->from->graph, node_shape(copy->from->graph, id)));
}

// The copy of a node whose sources are not copied; -1: they are.
static Id copy_leaf(const Copy *copy, Id id) {
    const Node *node = graph_node(copy->from->graph, id);
    const Value *value = copy->mode == COPY_HISTORY ? NULL : value_at(copy->from, id);
    if (value) return copy_buffer(copy, id, value->buffer, value->version);
    if (copy->mode == COPY_COMPUTE && (node->op == OP_BUFFER || node->op == OP_ASSIGN))
        must_not_have_moved(copy, id, node);
    if (node->op == OP_BUFFER) return copy_buffer(copy, id, node->arg[0], node->arg[1]);
    return node->sources ? -1 : node_rebuild(copy->to, copy->from->graph, id, NULL);
}

// A walk over cones: down to mark what is wanted, and up again to copy it, since ids are in order.
typedef struct {
    Id *map;      // by node: its copy
    char *state;  // UNSEEN, WANTED or COPIED
    Id lowest;    // of those wanted
} Walk;
enum { UNSEEN, WANTED, COPIED };

static void want(const Copy *copy, Walk *walk, Id id) {
    if (walk->state[id] != UNSEEN) return;
    walk->map[id] = copy_leaf(copy, id);
    walk->state[id] = walk->map[id] < 0 ? WANTED : COPIED;
    if (walk->state[id] == WANTED && id < walk->lowest) walk->lowest = id;
}

static void copy_cones(const Copy *copy, int count, const Id *root, Id *result) {
    const Graph *from = copy->from->graph;
    Id highest = 0;
    for (int i = 0; i < count; i++) highest = root[i] > highest ? root[i] : highest;
    Walk walk = {arena_array(copy->from->scratch, Id, highest + 1),
                 arena_array(copy->from->scratch, char, highest + 1), highest + 1};
    for (int i = 0; i < count; i++) want(copy, &walk, root[i]);
    for (Id id = highest; id >= walk.lowest; id--) {
        const Node *node = graph_node(from, id);
        for (int i = 0; walk.state[id] == WANTED && i < node->sources; i++)
            want(copy, &walk, node->source[i]);
    }
    for (Id id = walk.lowest; id <= highest; id++) {
        if (walk.state[id] != WANTED) continue;
        walk.map[id] = node_rebuild(copy->to, from, id, walk.map);
        const Value *value = copy->mode == COPY_HISTORY ? value_at(copy->from, id) : NULL;
        if (value) value_set(copy->holder, walk.map[id], value->buffer, value->version);
    }
    for (int i = 0; i < count; i++) result[i] = walk.map[root[i]];
}

static Id copied(CopyMode mode, Scope *from, Id id, Scope *to) {
    Id result;
    arena_reset(from->scratch);
    copy_cones(&(Copy){mode, from, to->graph, to}, 1, &id, &result);
    return result;
}

Id graph_copy_leaves(Scope *from, Id id, Scope *to) { return copied(COPY_LEAVES, from, id, to); }

// A node of another scope, in the innermost one's graph.
static Id import(Scope *from, Id id, Scope *to) {
    uint64_t key = (uint64_t)from->serial << 32 | (uint32_t)id;
    Id known = map_find(to->imported, key, NULL, NULL);
    if (known >= 0) return known;
    known = copied(to->trace ? COPY_LEAVES : COPY_HISTORY, from, id, to);
    map_add(to->arena, to->imported, key, known);
    return known;
}

// ---- computing ---------------------------------------------------------------------------------

static void compute(Scope *scope, int count, const Id *id, int64_t *result) {
    arena_reset(scope->scratch);
    Copy copy = {COPY_COMPUTE, scope, graph_new(scope->scratch), NULL};
    Id *output = arena_array(scope->scratch, Id, count);
    copy_cones(&copy, count, id, output);
    engine_eager(copy.to, count, output, result);
}

void realise(Scope *scope, int count, const Id *id) {
    Id *missing = arena_array(scope->arena, Id, count);
    int64_t *result = arena_array(scope->arena, int64_t, count);
    int missing_count = 0;
    for (int i = 0; i < count; i++) {
        bool known = is_in_memory(scope, id[i]) || !graph_node(scope->graph, id[i])->sources;
        for (int j = 0; j < missing_count; j++) known |= missing[j] == id[i];
        if (!known) missing[missing_count++] = id[i];
    }
    if (!missing_count) return;
    compute(scope, missing_count, missing, result);
    for (int i = 0; i < missing_count; i++) {
        scope_hold(scope, result[i]);
        value_set(scope, missing[i], result[i], buffer_version(result[i]));
    }
}

// Zeros are what a new buffer has, in pages that are not there until they are written to.
int64_t realise_copy(Scope *scope, Id id) {
    const Node *node = graph_node(scope->graph, id);
    int64_t result;
    if (node->op == OP_CONST && node->arg[0] == 0)
        return buffer_new(bytes_of((DType)node->dtype, node_shape(scope->graph, id)));
    compute(scope, 1, &id, &result);
    return result;
}

int64_t realise_given(Scope *scope, Id id) {
    const Node *node = graph_node(scope->graph, id);
    Value *value = value_at(scope, id);
    int64_t buffer;
    if (node->op == OP_BUFFER || node->op == OP_ASSIGN) {
        buffer = node->arg[0];
    } else if (value && !value->given) {
        value->given = true;
        buffer = value->buffer;
    } else {
        return realise_copy(scope, id);
    }
    buffer_retain(buffer);
    return buffer;
}

int64_t realise_whole(Scope *scope, Id id) {
    const Node *node = graph_node(scope->graph, id);
    if (node->op == OP_BUFFER) return node->arg[0];
    if (node->sources > 0) {
        realise(scope, 1, &id);
        return value_at(scope, id)->buffer;
    }
    int64_t buffer = realise_copy(scope, id);
    scope_hold(scope, buffer);
    return buffer;
}

// ---- what a handle means now -------------------------------------------------------------------

int64_t memory_of(const Node *node) {
    return node->op == OP_PARAM ? -1 - node->arg[0] : node->arg[0];
}

static int64_t version_of(const Node *node) { return node->op == OP_PARAM ? 0 : node->arg[1]; }

bool is_memory(const Node *node) {
    return node->op == OP_BUFFER || node->op == OP_ASSIGN || node->op == OP_PARAM;
}

Current *current_find(Scope *scope, int64_t buffer) {
    for (int i = 0; i < scope->current.count; i++)
        if (scope->current.at[i].buffer == buffer) return &scope->current.at[i];
    return NULL;
}

// The version that a program running now would see. A trace counts its own.
static int64_t version_now(Scope *scope, int64_t buffer) {
    const Current *current = scope->trace ? current_find(scope, buffer) : NULL;
    if (current) return current->version;
    return buffer < 0 ? 0 : buffer_version(buffer);
}

// The node that stands for the memory of `base` as it is now.
static Id base_now(Scope *scope, Id base) {
    const Node *node = graph_node(scope->graph, base);
    if (!is_memory(node) || version_of(node) == VERSION_READ_ONLY) return base;
    int64_t version = version_now(scope, memory_of(node));
    if (version == version_of(node)) return base;
    const Current *current = current_find(scope, memory_of(node));
    if (current && current->version == version) return current->node;
    return node_buffer(scope->graph, node->dtype, node_shape(scope->graph, base), memory_of(node),
                       version);
}

Id tensor_in(PgTensor *x) {
    Scope *scope = scope_now();
    Id id = x->scope == scope ? x->id : import(x->scope, x->id, scope);
    Id base = view_base(scope->graph, id), now = base_now(scope, base);
    if (now == base) return id;
    id = view_rebase(scope->graph, id, now);
    if (x->scope == scope) x->id = id;
    return id;
}

// ---- assign ------------------------------------------------------------------------------------

// The place that a view names, which has nothing to do with gradients.
static Id without_detach(Graph *graph, Id view) {
    const Node *node = graph_node(graph, view);
    if (node->op == OP_DETACH) return without_detach(graph, node->source[0]);
    if (!(ops[node->op].properties & MOVES)) return view;
    Id source = without_detach(graph, node->source[0]);
    return node_make(graph, node->op, node->dtype, node_shape(graph, view), 1, &source,
                     node->arg_count, node->arg);
}

static void current_set(Scope *scope, int64_t buffer, int64_t version, Id node) {
    Current *current = current_find(scope, buffer);
    if (!current) current = list_add(scope->arena, &scope->current);
    *current = (Current){buffer, version, node};
}

// The value is computed first, into other memory: it may read what is about to be overwritten.
static void assign_now(Scope *scope, Id view, Id value, Id target) {
    Graph *graph = scope->graph;
    int64_t buffer = memory_of(graph_node(graph, target)), version = buffer_version(buffer) + 1;
    Id base = view_base(graph, value);
    const Node *node = graph_node(graph, base);
    Id assign = node_assign(graph, view, value, buffer, version);
    if (is_memory(node) && memory_of(node) == buffer) base = value;
    realise(scope, 1, &base);
    int64_t result;
    compute(scope, 1, &assign, &result);
    buffer_release(result);  // the scope, or one around, holds it already
    buffer_advance(buffer);
    value_set(scope, assign, buffer, version);
    if (!is_recording())
        assign = node_buffer(graph, node_dtype(graph, target), node_shape(graph, target), buffer,
                             version);
    current_set(scope, buffer, version, assign);
}

void pg_assign(PgTensor *view, PgTensor *value) {
    Scope *scope = scope_now();
    Graph *graph = scope->graph;
    Id to = without_detach(graph, tensor_in(view)), from = tensor_like("assign", value, to);
    Id target = view_base(graph, to);
    const Node *node = graph_node(graph, target);
    if (!is_memory(node))
        fatal("assign: this tensor of shape %s was computed, so it is no memory to write to. "
              "Hint: pg_keep it first",
              shape_name(to));
    if (version_of(node) == VERSION_READ_ONLY)
        fatal("assign: the memory of this tensor of shape %s is read-only. Hint: assign to "
              "pg_keep(pg_contiguous(x))",
              shape_name(to));
    if (!scope->trace) {
        assign_now(scope, to, from, target);
        return;
    }
    if (!is_recording()) from = node_detach(graph, from);
    int64_t version = version_of(node) + 1;
    Id assign = node_assign(graph, to, from, memory_of(node), version);
    *list_add(scope->arena, &scope->trace->effects) = assign;
    current_set(scope, memory_of(node), version, assign);
}
