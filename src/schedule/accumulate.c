/* accumulate.c - folds made explicit.
 * In: a kernel whose values hold REDUCE.  Out: accumulators: init, update and finish statements.
 * Invariants: a REDUCE is computed once, in the deepest loop among those its value depends on,
 * before the first statement there that needs it; those needed together over equal ranges share one
 * nest, unless one needs the other.
 *   for i { for j { y[i,j] = x[i,j] * (reduce add k x[i,k]) } }   =>
 *   for i { init s[0] = 0; for k { update s[0] = (add x[i,k] s[0]) }; for j { finish y[i,j] } } */
#include "schedule/schedule.h"

typedef struct {
    Id fold;   // the REDUCE
    Id value;  // what stands for it: a load of its accumulator
} Placed;
typedef struct {
    Statement *nest;  // outermost loop
    Statement *innermost;
    IdList folds;
} Nest;
typedef struct {
    Kernel *kernel;
    Arena *arena;
    LIST(Placed) placed;
    LIST(Nest) nests;  // of the group being placed
    LoopSet taken;     // loops that a statement runs
} Accumulate;

static const Node *node_of(const Accumulate *to, Id id) {
    return graph_node(to->kernel->graph, id);
}

static bool is_placed(const Accumulate *to, Id fold) {
    for (int i = 0; i < to->placed.count; i++)
        if (to->placed.at[i].fold == fold) return true;
    return false;
}

static bool has_node(IdList nodes, Id id) {
    for (int i = 0; i < nodes.count; i++)
        if (nodes.at[i] == id) return true;
    return false;
}

static Substitution *placed_values(const Accumulate *to) {
    Substitution *by = substitution_new(to->arena, to->kernel);
    for (int i = 0; i < to->placed.count; i++)
        by->node[to->placed.at[i].fold] = to->placed.at[i].value;
    return by;
}

// ---- which folds, and where --------------------------------------------------------------------

// A store from `first` up to `statement` changes what the fold reads.
static bool changes_before(const Accumulate *to, const Statement *first, const Statement *statement,
                           Id fold) {
    for (; first != statement; first = first->next)
        if (kernel_value_reads(to->kernel, fold, first->buffer)) return true;
    return false;
}

// Marks the REDUCEs in one statement's tree that are not placed yet and can be under `scope`,
// before `first`.
static void find_ready(const Accumulate *to, const Statement *first, const Statement *statement,
                       LoopSet scope, bool *ready) {
    if (statement->kind == STATEMENT_LOOP)
        for (const Statement *child = statement->body; child; child = child->next)
            find_ready(to, child, child, scope, ready);
    if (statement->kind != STATEMENT_STORE) return;
    IdList nodes = statement_nodes(to->arena, to->kernel, statement);
    for (int i = 0; i < nodes.count; i++)
        if (node_of(to, nodes.at[i])->op == OP_REDUCE && !is_placed(to, nodes.at[i]) &&
            loop_set_within(kernel_loops_of(to->kernel, nodes.at[i]), scope) &&
            !changes_before(to, first, statement, nodes.at[i]))
            ready[nodes.at[i]] = true;
}

// Does the statement's tree use the fold? Stores that do are its finish.
static bool mark_users(const Accumulate *to, Statement *statement, Id fold) {
    bool uses = false;
    if (statement->kind == STATEMENT_LOOP)
        for (Statement *child = statement->body; child; child = child->next)
            uses |= mark_users(to, child, fold);
    if (statement->kind != STATEMENT_STORE) return uses;
    uses = has_node(statement_nodes(to->arena, to->kernel, statement), fold);
    if (uses && statement->role == ROLE_STORE) statement->role = ROLE_FINISH;
    return uses;
}

// The fold is computed before `list`: what it reads must not be written until its last use.
static void check_unwritten(const Accumulate *to, Statement *list, Id fold) {
    Statement *last = NULL;
    for (Statement *at = list; at; at = at->next)
        if (mark_users(to, at, fold)) last = at;
    for (Statement *at = list; at; at = at == last ? NULL : at->next) {
        if (at == last && at->kind == STATEMENT_STORE) return;
        Statement one = *at;
        one.next = NULL;
        AccessList accesses = kernel_accesses(to->arena, to->kernel, &one, -1);
        for (int i = 0; i < accesses.count; i++)
            if (accesses.at[i].load < 0 &&
                kernel_value_reads(to->kernel, fold, accesses.at[i].buffer))
                fatal("accumulate: kernel %s: %s changes what loop %s folds. Hint: store in "
                      "another buffer",
                      to->kernel->name,
                      statement_text(to->arena, to->kernel, accesses.at[i].statement),
                      to->kernel->loops.at[node_of(to, fold)->arg[2]].name);
    }
}

// ---- one fold ----------------------------------------------------------------------------------

static bool same_ranges(const Accumulate *to, const Node *a, const Node *b) {
    const Loop *loops = to->kernel->loops.at;
    for (int64_t i = 0; i < a->arg[1] && a->arg[1] == b->arg[1]; i++)
        if (loops[a->arg[2 + i]].extent != loops[b->arg[2 + i]].extent) return false;
    return a->arg[1] == b->arg[1];
}

// A nest of this group over the same ranges that comes after all that the fold needs.
static Nest *find_nest(Accumulate *to, Id fold) {
    IdList needs = kernel_nodes(to->arena, to->kernel, fold);
    for (int i = to->nests.count - 1; i >= 0; i--) {
        Nest *nest = &to->nests.at[i];
        for (int n = 0; n < nest->folds.count; n++)
            if (has_node(needs, nest->folds.at[n])) return NULL;
        if (same_ranges(to, node_of(to, nest->folds.at[0]), node_of(to, fold))) return nest;
    }
    return NULL;
}

static Nest *new_nest(Accumulate *to, const Node *reduce) {
    Nest nest = {0};
    for (int64_t i = 0; i < reduce->arg[1]; i++) {
        int32_t loop = (int32_t)reduce->arg[2 + i];
        const Loop *info = &to->kernel->loops.at[loop];
        if (loop_set_has(&to->taken, loop))  // shared by two REDUCEs that need nests of their own
            loop = kernel_loop(to->kernel, info->name,
                               size_from_index(graph_indices(to->kernel->graph), info->extent));
        loop_set_add(&to->taken, loop);
        Statement *statement = statement_loop(to->kernel, loop, NULL);
        if (nest.nest)
            nest.innermost->body = statement;
        else
            nest.nest = statement;
        nest.innermost = statement;
    }
    *list_add(to->arena, &to->nests) = nest;
    return &to->nests.at[to->nests.count - 1];
}

Id fold_into(Graph *graph, Op fold, Id x, Id old) {
    const Node *node = graph_node(graph, x);
    bool fused = fold == OP_ADD && node->op == OP_MUL && dtype_is_float(node->dtype);
    if (fused) return node_fma(graph, node->source[0], node->source[1], old);
    return node_binary(graph, fold, x, old);
}

static void append(Statement **list, Statement *statement) {
    while (*list) list = &(*list)->next;
    *list = statement;
}

// Adds the fold to a nest; returns its init statement. f16 and bf16 fold in f32.
static Statement *place_fold(Accumulate *to, Id fold) {
    Kernel *kernel = to->kernel;
    Graph *graph = kernel->graph;
    const Node *reduce = node_of(to, fold);
    Nest *nest = find_nest(to, fold);
    if (!nest) nest = new_nest(to, reduce);
    *list_add(to->arena, &nest->folds) = fold;

    Op op = (Op)reduce->arg[0];
    DType dtype = reduce->dtype, wide = dtype_folded(dtype);
    int32_t buffer = kernel_buffer(kernel, "s", wide, SPACE_REGISTER, 1, true);
    Index zero = index_const(graph_indices(graph), 0);
    Id old = kernel_load(kernel, buffer, zero, -1);

    Substitution *by = placed_values(to);
    const Statement *at = nest->nest;
    for (int64_t i = 0; i < reduce->arg[1]; i++, at = at->body)
        by->loop[reduce->arg[2 + i]] = kernel_loop_index(kernel, at->loop);
    Id value = kernel_substitute(kernel, reduce->source[0], by);
    if (wide != dtype) value = node_cast(graph, value, wide);
    Id sum = fold_into(graph, op, value, old);
    append(&nest->innermost->body, statement_store(kernel, ROLE_UPDATE, buffer, zero, sum));

    Id result = wide == dtype ? old : node_cast(graph, old, dtype);
    *list_add(to->arena, &to->placed) = (Placed){fold, result};
    Id identity = node_identity(graph, op, wide, (Shape){0});
    return statement_store(kernel, ROLE_INIT, buffer, zero, identity);
}

// ---- the tree ----------------------------------------------------------------------------------

static bool is_update(const Statement *statement) {
    return statement && statement->kind == STATEMENT_STORE && statement->role == ROLE_UPDATE;
}

// Puts what `*link` needs and `scope` allows before it; updates in a row share their nests.
static void place_before(Accumulate *to, Statement **link, LoopSet scope) {
    int32_t count = graph_count(to->kernel->graph);
    bool *ready = arena_array(to->arena, bool, count), any = false;
    for (Statement *at = *link; at; at = is_update(at) && is_update(at->next) ? at->next : NULL)
        find_ready(to, *link, at, scope, ready);
    Statement *list = *link, *first = NULL;
    to->nests.count = 0;
    for (Id id = 0; id < count; id++) {  // sources first, so inner folds first
        if (!ready[id]) continue;
        int nests = to->nests.count;
        check_unwritten(to, list, id);
        Statement *init = place_fold(to, id);
        Statement **place = &first;  // a shared nest's inits stand together before it
        int nest = 0;
        while (!has_node(to->nests.at[nest].folds, id)) nest++;
        while (*place && *place != to->nests.at[nest].nest) place = &(*place)->next;
        init->next = *place;
        *place = init;
        if (to->nests.count > nests) init->next = to->nests.at[nest].nest;
        any = true;
    }
    if (!any) return;
    statement_substitute(to->kernel, list, placed_values(to));
    append(&first, list);
    *link = first;
}

static void place_list(Accumulate *to, Statement **link, LoopSet scope) {
    for (; *link; link = &(*link)->next) {
        place_before(to, link, scope);
        if ((*link)->kind != STATEMENT_LOOP) continue;
        LoopSet inside = scope;
        loop_set_add(&inside, (*link)->loop);
        place_list(to, &(*link)->body, inside);
    }
}

void accumulate(Kernel *kernel) {
    Accumulate to = {.kernel = kernel, .arena = graph_arena(kernel->graph)};
    to.taken = kernel_loops_inside(kernel->body);
    place_list(&to, &kernel->body, (LoopSet){0});
    kernel_verify(kernel);
}
