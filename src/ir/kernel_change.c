/* kernel_change.c - expressions and statements rebuilt with other loops and other nodes.
 * In: a kernel, what stands in place of which loop or node.  Out: new nodes; statements changed.
 * Invariant: nodes never change, a statement points at rebuilt ones; a value inside an index (a
 * gather) is rebuilt with it and keeps its interval.
 *   i => 14*i0 + i1    turns    a[96*i + k]    into    a[1344*i0 + 96*i1 + k]                   */
#include "ir/ir.h"

Substitution *substitution_new(Arena *arena, const Kernel *kernel) {
    Substitution *by = arena_object(arena, Substitution);
    by->loops = kernel->loops.count;
    by->nodes = graph_count(kernel->graph);
    by->loop = arena_array(arena, Index, by->loops);
    by->node = arena_array(arena, Id, by->nodes);
    for (int32_t i = 0; i < by->loops; i++) by->loop[i] = -1;
    for (int32_t i = 0; i < by->nodes; i++) by->node[i] = -1;
    return by;
}

typedef struct {
    Kernel *kernel;
    const Substitution *by;
    Id *now;  // by node: what it has become; all that a node needs comes before it
} Rebuild;

static Index rebuild_atom(void *context, IndexTable *table, const Atom *atom) {
    Rebuild *rebuild = context;
    int32_t of = atom->of;
    if (atom->kind == ATOM_LOOP && of < rebuild->by->loops && rebuild->by->loop[of] >= 0)
        return rebuild->by->loop[of];
    if (atom->kind == ATOM_VALUE) of = rebuild->now[of];
    return index_atom(table, atom->kind, of, atom->low, atom->high);
}

static Index rebuild_index(Rebuild *rebuild, Index index) {
    IndexTable *table = graph_indices(rebuild->kernel->graph);
    return index_copy(table, table, index, rebuild_atom, rebuild);
}

// What a REDUCE binds: the loop that stands in place of one, if a loop alone does.
static int64_t rebuild_loop(const Rebuild *rebuild, int64_t loop) {
    IndexTable *table = graph_indices(rebuild->kernel->graph);
    const Term *terms;
    Index now = loop < rebuild->by->loops ? rebuild->by->loop[loop] : -1;
    if (now < 0 || index_terms(table, now, &terms) != 1) return loop;
    const Atom *atom = index_atom_of(table, terms->atom);
    bool plain = atom->kind == ATOM_LOOP && terms->scale == 1 && !index_constant(table, now);
    return plain ? atom->of : loop;
}

static Id rebuild_node(Rebuild *rebuild, Id id) {
    if (id < rebuild->by->nodes && rebuild->by->node[id] >= 0) return rebuild->by->node[id];
    Node node = *graph_node(rebuild->kernel->graph, id);  // the graph may move
    int64_t indexed[2] = {node.arg_count > 0 ? node.arg[0] : 0,
                          node.arg_count > 1 ? node.arg[1] : 0};
    Id source[3];
    for (int i = 0; i < node.sources; i++) source[i] = rebuild->now[node.source[i]];
    Id made = rebuild->by->make ? rebuild->by->make(rebuild->kernel->graph, id, source) : -1;
    if (made >= 0) return made;
    if (node.op == OP_LOAD) indexed[1] = rebuild_index(rebuild, (Index)node.arg[1]);
    if (node.op == OP_INDEX) indexed[0] = rebuild_index(rebuild, (Index)node.arg[0]);
    if (node.op == OP_REDUCE) {
        int32_t loop[LOOPS_MAX];
        for (int64_t i = 0; i < node.arg[1]; i++)
            loop[i] = (int32_t)rebuild_loop(rebuild, node.arg[2 + i]);
        return kernel_reduce(rebuild->kernel, (Op)node.arg[0], source[0], (int)node.arg[1], loop);
    }
    const int64_t *arg = node.op == OP_LOAD || node.op == OP_INDEX ? indexed : node.arg;
    return node_make(rebuild->kernel->graph, node.op, node.dtype, (Shape){0}, node.sources, source,
                     node.arg_count, arg);
}

static Rebuild rebuild_nodes(Kernel *kernel, const Substitution *by, IdList nodes) {
    Id last = nodes.count ? nodes.at[nodes.count - 1] : 0;
    Rebuild rebuild = {kernel, by, arena_array(graph_arena(kernel->graph), Id, last + 1)};
    for (int i = 0; i < nodes.count; i++)
        rebuild.now[nodes.at[i]] = rebuild_node(&rebuild, nodes.at[i]);
    return rebuild;
}

Id kernel_substitute(Kernel *kernel, Id value, const Substitution *by) {
    IdList nodes = kernel_nodes(graph_arena(kernel->graph), kernel, value);
    return rebuild_nodes(kernel, by, nodes).now[value];
}

// A store's index, condition and value are rebuilt together: they share nodes.
static void substitute_store(Kernel *kernel, Statement *store, const Substitution *by) {
    IdList nodes = statement_nodes(graph_arena(kernel->graph), kernel, store);
    Rebuild rebuild = rebuild_nodes(kernel, by, nodes);
    store->index = rebuild_index(&rebuild, store->index);
    store->value = rebuild.now[store->value];
    if (store->condition >= 0) store->condition = rebuild.now[store->condition];
}

Index kernel_substitute_index(Kernel *kernel, Index index, const Substitution *by) {
    Statement store = {.index = index,
                       .value = node_const_int(kernel->graph, DT_I32, (Shape){0}, 0)};
    store.condition = -1;
    substitute_store(kernel, &store, by);
    return store.index;
}

void statement_substitute(Kernel *kernel, Statement *list, const Substitution *by) {
    for (; list; list = list->next) {
        if (list->kind == STATEMENT_STORE) substitute_store(kernel, list, by);
        if (list->kind != STATEMENT_LOOP) continue;
        Index limit = kernel->loops.at[list->loop].limit;
        if (limit >= 0)
            kernel->loops.at[list->loop].limit = kernel_substitute_index(kernel, limit, by);
        statement_substitute(kernel, list->body, by);
    }
}

void statement_relocate(Kernel *kernel, Statement *list, int32_t from, int32_t to,
                        Relocate *relocate, void *context) {
    Arena *arena = graph_arena(kernel->graph);
    AccessList accesses = kernel_accesses(arena, kernel, list, from);
    Substitution *by = substitution_new(arena, kernel);
    for (int i = 0; i < accesses.count; i++) {
        const Access *access = &accesses.at[i];
        Index element = relocate ? relocate(context, kernel, access->index) : access->index;
        if (access->load < 0) {
            access->statement->buffer = to;
            access->statement->index = element;
        } else {
            const Node *load = graph_node(kernel->graph, access->load);
            Id condition = load->sources ? load->source[0] : -1;
            by->node[access->load] = kernel_load(kernel, to, element, condition);
        }
    }
    statement_substitute(kernel, list, by);
}

int32_t kernel_loop_copy(Kernel *kernel, int32_t from, const char *suffix, Substitution *by) {
    Arena *arena = graph_arena(kernel->graph);
    const char *name = arena_print(arena, "%s%s", kernel->loops.at[from].name, suffix);
    int32_t to = kernel_loop(kernel, name, 0);
    Loop loop = kernel->loops.at[from];
    loop.name = kernel->loops.at[to].name;
    if (loop.limit >= 0) loop.limit = kernel_substitute_index(kernel, loop.limit, by);
    kernel->loops.at[to] = loop;
    by->loop[from] = kernel_loop_index(kernel, to);
    return to;
}

Statement *statement_over(Kernel *kernel, int loops, const int32_t *loop, Statement *store,
                          const char *suffix) {
    Substitution *by = substitution_new(graph_arena(kernel->graph), kernel);
    int32_t copy[LOOPS_MAX];
    for (int i = 0; i < loops; i++) {
        copy[i] = kernel_loop_copy(kernel, loop[i], suffix, by);
        kernel->loops.at[copy[i]].kind = LOOP_SERIAL;
        kernel->loops.at[copy[i]].steps = 0;
    }
    statement_substitute(kernel, store, by);
    return statement_nest(kernel, loops, copy, store);
}

Statement *statement_copy(Kernel *kernel, const Statement *list, const char *suffix,
                          Substitution *by) {
    Statement *first = NULL, **link = &first;
    for (; list; list = list->next, link = &(*link)->next) {
        *link = arena_copy(graph_arena(kernel->graph), list, sizeof *list);
        (*link)->next = NULL;
        if (list->kind == STATEMENT_STORE) substitute_store(kernel, *link, by);
        if (list->kind != STATEMENT_LOOP) continue;
        (*link)->loop = kernel_loop_copy(kernel, list->loop, suffix, by);
        (*link)->body = statement_copy(kernel, list->body, suffix, by);
    }
    return first;
}
