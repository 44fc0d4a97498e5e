/* kernel.c - the kernel dialect's tree: built, and looked at.
 * In: names, extents, expressions.  Out: loops and buffers by id, statements in lists.
 * Invariant: loops, buffers and VARs of a kernel have different names; a loop is run by one
 * statement at most, so that an id also says where.
 *   i = kernel_loop(k, "i", 8); statement_loop(k, i, statement_store(k, ROLE_STORE, out, index, x))
 *   =>   for i < 8 { out[i] = x }                                                              */
#include "ir/ir.h"

#include <string.h>

Kernel *kernel_new(Arena *arena, const char *name) {
    Kernel *kernel = arena_object(arena, Kernel);
    kernel->name = arena_text(arena, name);
    kernel->graph = graph_new(arena);
    kernel->node_loops = arena_object(arena, LoopSetList);
    return kernel;
}

// ---- names -------------------------------------------------------------------------------------

int32_t kernel_find_loop(const Kernel *kernel, const char *name) {
    for (int32_t loop = 0; loop < kernel->loops.count; loop++)
        if (!strcmp(kernel->loops.at[loop].name, name)) return loop;
    return -1;
}

int32_t kernel_find_buffer(const Kernel *kernel, const char *name) {
    for (int32_t buffer = 0; buffer < kernel->buffers.count; buffer++)
        if (!strcmp(kernel->buffers.at[buffer].name, name)) return buffer;
    return -1;
}

bool kernel_has_name(const Kernel *kernel, const char *name) {
    // Words that the text form reads where a name could stand.
    static const char *const words[] = {
        "for",  "thread",  "vector", "unroll", "init",  "update", "finish", "let",   "barrier",
        "when", "if",      "in",     "inf",    "nan",   "true",   "false",  "over",  "ahead",
        "tile", "streams", "grid",   "warp",   "async", "apart",  "commit", "settle"};
    for (int i = 0; i < COUNT_OF(words); i++)
        if (!strcmp(words[i], name)) return true;
    for (int32_t var = 0; var < graph_vars(kernel->graph); var++)
        if (!strcmp(graph_var_info(kernel->graph, var)->name, name)) return true;
    return kernel_find_loop(kernel, name) >= 0 || kernel_find_buffer(kernel, name) >= 0;
}

static const char *unique_name(const Kernel *kernel, const char *name) {
    Arena *arena = graph_arena(kernel->graph);
    const char *unique = name;
    for (int i = 2; kernel_has_name(kernel, unique); i++)
        unique = arena_print(arena, "%s_%d", name, i);
    return arena_text(arena, unique);
}

// ---- builders ----------------------------------------------------------------------------------

int32_t kernel_loop(Kernel *kernel, const char *name, Size extent) {
    if (kernel->loops.count == LOOPS_MAX)
        fatal("kernel %s: more than %d loops. Hint: a schedule with fewer peels and stages",
              kernel->name, LOOPS_MAX);
    Loop loop = {.name = unique_name(kernel, name),
                 .extent = size_index(graph_indices(kernel->graph), extent),
                 .limit = -1};
    *list_add(graph_arena(kernel->graph), &kernel->loops) = loop;
    return kernel->loops.count - 1;
}

int32_t kernel_buffer(Kernel *kernel, const char *name, DType dtype, Space space, int64_t size,
                      bool written) {
    KernelBuffer buffer = {.name = unique_name(kernel, name),
                           .dtype = dtype,
                           .space = space,
                           .size = size,
                           .written = written};
    *list_add(graph_arena(kernel->graph), &kernel->buffers) = buffer;
    return kernel->buffers.count - 1;
}

Index kernel_loop_index(Kernel *kernel, int32_t loop) {
    IndexTable *table = graph_indices(kernel->graph);
    int64_t high = index_high(table, kernel->loops.at[loop].extent) - 1;
    return index_atom(table, ATOM_LOOP, loop, 0, max_i64(high, 0));
}

Id kernel_load(Kernel *kernel, int32_t buffer, Index index, Id condition) {
    return node_make(kernel->graph, OP_LOAD, kernel->buffers.at[buffer].dtype, (Shape){0},
                     condition >= 0, &condition, 2, (int64_t[]){buffer, index});
}

Id kernel_index(Kernel *kernel, Index index, DType dtype) {
    return node_make(kernel->graph, OP_INDEX, dtype, (Shape){0}, 0, NULL, 1, (int64_t[]){index});
}

bool kernel_index_of(const Kernel *kernel, Id id, Index *index) {
    const Node *node = graph_node(kernel->graph, id);
    if (node->dtype != DT_I32 && node->dtype != DT_I64) return false;
    if (node->op == OP_INDEX) *index = (Index)node->arg[0];
    if (node->op == OP_CONST) *index = index_const(graph_indices(kernel->graph), node->arg[0]);
    return node->op == OP_INDEX || node->op == OP_CONST;
}

Id kernel_reduce(Kernel *kernel, Op fold, Id value, int loops, const int32_t *loop) {
    int64_t *arg = arena_array(graph_arena(kernel->graph), int64_t, 2 + loops);
    arg[0] = fold;
    arg[1] = loops;
    for (int i = 0; i < loops; i++) arg[2 + i] = loop[i];
    return node_make(kernel->graph, OP_REDUCE, node_dtype(kernel->graph, value), (Shape){0}, 1,
                     &value, 2 + loops, arg);
}

Statement *statement_store(Kernel *kernel, Role role, int32_t buffer, Index index, Id value) {
    Statement *statement = arena_object(graph_arena(kernel->graph), Statement);
    *statement = (Statement){.kind = STATEMENT_STORE,
                             .role = role,
                             .loop = -1,
                             .buffer = buffer,
                             .index = index,
                             .value = value,
                             .condition = -1};
    return statement;
}

Statement *statement_loop(Kernel *kernel, int32_t loop, Statement *body) {
    Statement *statement = arena_object(graph_arena(kernel->graph), Statement);
    *statement = (Statement){.kind = STATEMENT_LOOP, .loop = loop, .body = body, .condition = -1};
    return statement;
}

Statement *statement_meeting(Kernel *kernel, StatementKind kind, int32_t groups) {
    Statement *statement = arena_object(graph_arena(kernel->graph), Statement);
    *statement = (Statement){.kind = kind, .loop = -1, .condition = -1, .groups = groups};
    return statement;
}

Statement *statement_nest(Kernel *kernel, int loops, const int32_t *loop, Statement *body) {
    while (loops--) body = statement_loop(kernel, loop[loops], body);
    return body;
}

Index kernel_row_major(Kernel *kernel, Index element, int loops, const int32_t *loop) {
    IndexTable *table = graph_indices(kernel->graph);
    for (int i = 0; i < loops; i++) {
        int64_t extent = index_high(table, kernel->loops.at[loop[i]].extent);
        element = index_scale(table, element, extent);
        element = index_add(table, element, kernel_loop_index(kernel, loop[i]));
    }
    return element;
}

// ---- which loops -------------------------------------------------------------------------------

LoopSet loop_set_union(LoopSet a, LoopSet b) {
    for (int i = 0; i < COUNT_OF(a.word); i++) a.word[i] |= b.word[i];
    return a;
}

bool loop_set_within(LoopSet a, LoopSet b) {
    for (int i = 0; i < COUNT_OF(a.word); i++)
        if (a.word[i] & ~b.word[i]) return false;
    return true;
}

bool loop_set_meets(LoopSet a, LoopSet b) {
    for (int i = 0; i < COUNT_OF(a.word); i++)
        if (a.word[i] & b.word[i]) return true;
    return false;
}

int loop_set_list(LoopSet set, int32_t loop[LOOPS_MAX]) {
    int count = 0;
    for (int32_t id = 0; id < LOOPS_MAX; id++)
        if (loop_set_has(&set, id)) loop[count++] = id;
    return count;
}

LoopSet kernel_loops_of_index(const Kernel *kernel, Index index) {
    const IndexTable *table = graph_indices(kernel->graph);
    LoopSet set = {0};
    const Term *terms;
    int count = index_terms(table, index, &terms);
    for (int i = 0; i < count; i++) {
        const Atom *atom = index_atom_of(table, terms[i].atom);
        if (atom->kind == ATOM_LOOP) loop_set_add(&set, atom->of);
        if (atom->kind == ATOM_DIV || atom->kind == ATOM_MOD)
            set = loop_set_union(set, kernel_loops_of_index(kernel, atom->of));
        if (atom->kind == ATOM_VALUE) set = loop_set_union(set, kernel_loops_of(kernel, atom->of));
    }
    return set;
}

static LoopSet node_loops(const Kernel *kernel, const Node *node) {
    LoopSet set = {0};
    for (int i = 0; i < node->sources; i++)
        set = loop_set_union(set, kernel->node_loops->at[node->source[i]]);
    if (node->op == OP_LOAD)
        set = loop_set_union(set, kernel_loops_of_index(kernel, (Index)node->arg[1]));
    if (node->op == OP_INDEX) set = kernel_loops_of_index(kernel, (Index)node->arg[0]);
    for (int64_t i = 0; node->op == OP_REDUCE && i < node->arg[1]; i++)
        loop_set_remove(&set, (int32_t)node->arg[2 + i]);
    return set;
}

LoopSet kernel_loops_of(const Kernel *kernel, Id value) {
    LoopSetList *known = kernel->node_loops;
    while (known->count <= value) {
        LoopSet set = node_loops(kernel, graph_node(kernel->graph, known->count));
        *list_add(graph_arena(kernel->graph), known) = set;
    }
    return known->at[value];
}

static void add_loops_inside(const Statement *list, LoopSet *set) {
    for (; list; list = list->next) {
        if (list->kind != STATEMENT_LOOP) continue;
        loop_set_add(set, list->loop);
        add_loops_inside(list->body, set);
    }
}

LoopSet kernel_loops_inside(const Statement *list) {
    LoopSet set = {0};
    add_loops_inside(list, &set);
    return set;
}

// ---- which nodes, which memory -----------------------------------------------------------------

IdList kernel_nodes(Arena *arena, const Kernel *kernel, Id value) {
    return graph_nodes(arena, kernel->graph, 1, &value, -1);
}

IdList statement_nodes(Arena *arena, const Kernel *kernel, const Statement *store) {
    Id root[] = {store->value, store->condition};
    return graph_nodes(arena, kernel->graph, 2, root, store->index);
}

bool kernel_value_has(const Kernel *kernel, Id value, Id part) {
    if (part >= value) return part == value;  // sources have smaller ids
    IdList nodes = kernel_nodes(graph_arena(kernel->graph), kernel, value);
    for (int i = 0; i < nodes.count; i++)
        if (nodes.at[i] == part) return true;
    return false;
}

bool kernel_value_reads(const Kernel *kernel, Id value, int32_t buffer) {
    IdList nodes = kernel_nodes(graph_arena(kernel->graph), kernel, value);
    for (int i = 0; i < nodes.count; i++) {
        const Node *node = graph_node(kernel->graph, nodes.at[i]);
        if (node->op == OP_LOAD && node->arg[0] == buffer) return true;
    }
    return false;
}

static void add_accesses(Arena *arena, const Kernel *kernel, Statement *list, int32_t buffer,
                         AccessList *accesses) {
    for (; list; list = list->next) {
        if (list->kind == STATEMENT_LOOP) add_accesses(arena, kernel, list->body, buffer, accesses);
        if (list->kind != STATEMENT_STORE) continue;
        IdList nodes = statement_nodes(arena, kernel, list);
        for (int i = 0; i < nodes.count; i++) {
            const Node *node = graph_node(kernel->graph, nodes.at[i]);
            if (node->op != OP_LOAD || (buffer >= 0 && node->arg[0] != buffer)) continue;
            *list_add(arena, accesses) =
                (Access){(int32_t)node->arg[0], (Index)node->arg[1], nodes.at[i], list};
        }
        if (buffer < 0 || list->buffer == buffer)
            *list_add(arena, accesses) = (Access){list->buffer, list->index, -1, list};
    }
}

AccessList kernel_accesses(Arena *arena, const Kernel *kernel, Statement *list, int32_t buffer) {
    AccessList accesses = {0};
    add_accesses(arena, kernel, list, buffer, &accesses);
    return accesses;
}

// ---- where -------------------------------------------------------------------------------------

static Statement **find_link(Statement **link, const Statement *statement, Statement *around,
                             Statement **parent) {
    for (; *link; link = &(*link)->next) {
        if (*link == statement) {
            *parent = around;
            return link;
        }
        if ((*link)->kind != STATEMENT_LOOP) continue;
        Statement **found = find_link(&(*link)->body, statement, *link, parent);
        if (found) return found;
    }
    return NULL;
}

Statement **kernel_link(Kernel *kernel, const Statement *statement) {
    Statement *parent;
    return find_link(&kernel->body, statement, NULL, &parent);
}

Statement *kernel_parent(const Kernel *kernel, const Statement *statement) {
    Statement *body = kernel->body, *parent = NULL;
    find_link(&body, statement, NULL, &parent);
    return parent;
}

static Statement *find_loop(Statement *list, int32_t loop) {
    for (; list; list = list->next) {
        if (list->kind != STATEMENT_LOOP) continue;
        if (list->loop == loop) return list;
        Statement *found = find_loop(list->body, loop);
        if (found) return found;
    }
    return NULL;
}

Statement *statement_last(Statement *list) {
    while (list->next) list = list->next;
    return list;
}

Statement *kernel_loop_statement(const Kernel *kernel, int32_t loop) {
    return find_loop(kernel->body, loop);
}
