/* transform_rfactor.c - RFACTOR and DISTRIBUTE: partial sums.
 * In: a loop in which accumulators are updated.  Out: an element of a new accumulator for each
 * iteration, and a loop that folds them.
 * Invariant: the same terms are folded by the same operation, in another order.
 *   RFACTOR k1   for k0 { for k1 < 8 { update s[0] = x + s[0] } }   =>
 *       for k1_init < 8 { init s_k1[k1_init] = 0 }
 *       for k0 { for k1 < 8 { update s_k1[k1] = x + s_k1[k1] } }
 *       for k1_fold < 8 { update s[0] = s_k1[k1_fold] + s[0] }                                   */
#include "schedule/schedule.h"

#include <string.h>

// ---- RFACTOR -----------------------------------------------------------------------------------

typedef struct {
    const ScheduleLine *line;
    Kernel *kernel;
    Statement *loop;    // the loop being factored
    Statement *region;  // the outermost loop around it in which the accumulator is only updated
    Statement *init, *fold;  // the bodies being made
} Rfactor;

// Climbs from the loop as long as nothing but this fold touches the accumulator, by one element.
static Statement *find_region(const Rfactor *to, int32_t buffer, Index element) {
    Statement *region = to->loop;
    LoopSet used = kernel_loops_of_index(to->kernel, element);
    for (;;) {
        Statement *parent = kernel_parent(to->kernel, region);
        Op fold;
        if (!parent || loop_set_has(&used, parent->loop) ||
            !legal_folds(to->kernel, parent->body, buffer, &fold))
            return region;
        region = parent;
    }
}

static Index partial_element(void *context, Kernel *kernel, Index element) {
    const Rfactor *to = context;
    return kernel_row_major(kernel, element, 1, &to->loop->loop);
}

static void append(Statement **list, Statement *statement) {
    while (*list) list = &(*list)->next;
    *list = statement;
}

// The loops inside the region that the element depends on; each iteration must have its own.
static LoopSet moving_loops(const Rfactor *to, const Statement *update, Index element) {
    Kernel *kernel = to->kernel;
    LoopSet used = kernel_loops_of_index(kernel, element),
            inside = kernel_loops_inside(to->region->body);
    if (!legal_element(kernel, element))
        line_refuse(to->line, update, "its element is read from memory");
    for (int32_t loop = 0; loop < kernel->loops.count; loop++)
        if (!loop_set_has(&inside, loop)) loop_set_remove(&used, loop);
    for (int32_t loop = 0; loop < kernel->loops.count; loop++) {
        LoopSet others = used;
        if (!loop_set_has(&used, loop)) continue;
        loop_set_remove(&others, loop);
        if (!legal_disjoint(kernel, loop, others, element, element))
            line_refuse(to->line, update, "iterations of loop %s share its elements",
                        kernel->loops.at[loop].name);
    }
    return used;
}

static void factor_accumulator(Rfactor *to, Statement *update, Space space) {
    Kernel *kernel = to->kernel;
    Graph *graph = kernel->graph;
    IndexTable *table = graph_indices(graph);
    int32_t from = update->buffer, loop = to->loop->loop, moving[LOOPS_MAX];
    KernelBuffer info = kernel->buffers.at[from];
    Index element = update->index;
    Op fold;
    int64_t size, iterations = index_high(table, kernel->loops.at[loop].extent);
    AccessList stores = kernel_accesses(to->line->arena, kernel, to->loop->body, from);
    for (int i = 0; i < stores.count; i++)
        if (stores.at[i].statement != update)
            line_refuse(to->line, stores.at[i].statement, "%s is updated in two places", info.name);
    legal_fold(kernel, update, &fold);
    if (__builtin_mul_overflow(info.size, iterations, &size) || size > INT32_MAX)
        line_refuse(to->line, update, "too many partial results");
    const char *name =
        arena_print(to->line->arena, "%s_%s", info.name, kernel->loops.at[loop].name);
    int32_t partial = kernel_buffer(kernel, name, info.dtype, space, size, true);
    statement_relocate(kernel, to->loop->body, from, partial, partial_element, to);

    Index place = partial_element(to, kernel, element);
    int loops = loop_set_list(moving_loops(to, update, element), moving);
    Id identity = node_identity(graph, fold, info.dtype, (Shape){0});
    Statement *init = statement_store(kernel, ROLE_INIT, partial, place, identity);
    Id sum = node_binary(graph, fold, kernel_load(kernel, partial, place, -1),
                         kernel_load(kernel, from, element, -1));
    Statement *last = statement_store(kernel, ROLE_UPDATE, from, element, sum);
    append(&to->init, statement_over(kernel, loops, moving, init, "_init"));
    append(&to->fold, statement_over(kernel, loops, moving, last, "_fold"));
}

// body under a copy of the factored loop.
static Statement *over_iterations(const Rfactor *to, Statement *body, const char *suffix) {
    Substitution *by = substitution_new(to->line->arena, to->kernel);
    int32_t loop = kernel_loop_copy(to->kernel, to->loop->loop, suffix, by);
    statement_substitute(to->kernel, body, by);
    return statement_loop(to->kernel, loop, body);
}

// ---- apart -------------------------------------------------------------------------------------
// The sum's own nest, and one behind it that folds and finishes, so that the factored loop may run
// on other threads, or other blocks, without a meeting in between:
//   RFACTOR k0 apart in shared
//       for i { init s[0] = 0 for k0 { for k1 { update s[0] } } finish c[i] = s[0] }   =>
//   for i { for k0 { init s[0] = 0 for k1 { update s[0] } finish s_k0[4*k0 + i] = s[0] } }
//   for i_fold { init s_fold[0] = 0 for k0_fold { update s_fold[0] = s_k0[..] + s_fold[0] }
//                finish c[i_fold] = s_fold[0] }
typedef struct {
    const ScheduleLine *line;
    Kernel *kernel;
    Statement *loop, *init, *finish;  // init and finish: before and behind the loop
    Statement *top;
    int32_t nest[LOOPS_MAX];  // the loop, then those around it, outermost first
    int loops;
    Op fold;
} Apart;

static void find_nest(Apart *to) {
    Kernel *kernel = to->kernel;
    Statement *around = kernel_parent(kernel, to->loop);
    if (!around) line_refuse(to->line, to->loop, "no loop is around it");
    to->init = around->body, to->finish = to->loop->next, to->top = around;
    for (; around; to->top = around, around = kernel_parent(kernel, around)) {
        const Loop *info = &kernel->loops.at[around->loop];
        if (info->limit >= 0 || info->kind != LOOP_SERIAL)
            line_refuse(to->line, around, "it has a limit or a kind");
        to->nest[++to->loops] = around->loop;
    }
    for (int i = 1, j = to->loops; i < j; i++, j--) {
        int32_t loop = to->nest[i];
        to->nest[i] = to->nest[j], to->nest[j] = loop;
    }
    to->nest[0] = to->loop->loop;
    for (Statement *at = to->top; at != to->loop; at = at->body == to->init ? to->loop : at->body)
        if (at->next || kernel->body != to->top)
            line_refuse(to->line, at, "it is not all there is");
}

static void check_sum(Apart *to) {
    Kernel *kernel = to->kernel;
    Arena *arena = to->line->arena;
    const Statement *init = to->init;
    bool framed = init->kind == STATEMENT_STORE && init->role == ROLE_INIT &&
                  init->next == to->loop && to->finish;
    if (!framed || kernel->buffers.at[init->buffer].size != 1 ||
        kernel->buffers.at[init->buffer].space != SPACE_REGISTER ||
        !legal_folds(kernel, to->loop->body, init->buffer, &to->fold))
        line_refuse(to->line, init, "it is not one sum, between an init and a finish");
    AccessList inner = kernel_accesses(arena, kernel, to->loop->body, -1),
               last = kernel_accesses(arena, kernel, to->finish, -1);
    for (int i = 0; i < inner.count; i++) {
        bool stored = inner.at[i].load < 0 && inner.at[i].buffer != init->buffer;
        for (int n = 0; n < last.count; n++)
            stored |= last.at[n].load < 0 && last.at[n].buffer == inner.at[i].buffer;
        if (stored)
            line_refuse(to->line, inner.at[i].statement, "something besides the sum depends on it");
    }
}

static void factor_apart(const ScheduleLine *line, Statement *loop, Space space) {
    Kernel *kernel = line->kernel;
    Graph *graph = kernel->graph;
    Apart to = {.line = line, .kernel = kernel, .loop = loop};
    find_nest(&to);
    check_sum(&to);
    int32_t sum = to.init->buffer;
    KernelBuffer info = kernel->buffers.at[sum];
    Index zero = index_const(graph_indices(graph), 0);
    int64_t size = 1;
    for (int i = 0; i <= to.loops; i++)
        if (__builtin_mul_overflow(
                size, index_high(graph_indices(graph), kernel->loops.at[to.nest[i]].extent),
                &size) ||
            size > INT32_MAX)
            line_refuse(line, loop, "too many partial results");
    const char *name =
        arena_print(line->arena, "%s_%s", info.name, kernel->loops.at[loop->loop].name);
    int32_t partial = kernel_buffer(kernel, name, info.dtype, space, size, true),
            whole = kernel_buffer(kernel, arena_print(line->arena, "%s_fold", info.name),
                                  info.dtype, SPACE_REGISTER, 1, true);
    Index place = kernel_row_major(kernel, zero, to.loops + 1, to.nest);
    Id old = kernel_load(kernel, whole, zero, -1), part = kernel_load(kernel, partial, place, -1),
       identity = node_identity(graph, to.fold, info.dtype, (Shape){0});

    // behind: the init, a fold over the loop, the finish
    Statement *update = statement_store(kernel, ROLE_UPDATE, whole, zero,
                                        node_binary(graph, to.fold, part, old)),
              *folds = statement_loop(kernel, loop->loop, update);
    to.init->next = folds;
    folds->next = to.finish;
    statement_relocate(kernel, to.init, sum, whole, NULL, NULL);
    Substitution *by = substitution_new(line->arena, kernel);
    Statement *behind =
        statement_copy(kernel, statement_nest(kernel, to.loops, to.nest + 1, to.init), "_fold", by);

    Statement *init = statement_store(kernel, ROLE_INIT, sum, zero, identity);
    init->next = loop->body;
    loop->body = init;
    while (init->next) init = init->next;
    init->next =
        statement_store(kernel, ROLE_FINISH, partial, place, kernel_load(kernel, sum, zero, -1));
    loop->next = NULL;
    kernel_loop_statement(kernel, to.nest[to.loops])->body = loop;
    to.top->next = behind;
}

void transform_rfactor(const ScheduleLine *line) {
    Kernel *kernel = line->kernel;
    int32_t loop = line_loop(line, line_word(line, 1));
    Rfactor to = {.line = line, .kernel = kernel, .loop = kernel_loop_statement(kernel, loop)};
    Space space = SPACE_REGISTER;
    bool apart = line->words > 2 && !strcmp(line->word[2], "apart");
    if (line->words > 2) {
        line_expect(line, 2 + apart, "in");
        space = line_space(line, 3 + apart);
    }
    if (kernel->loops.at[loop].kind != LOOP_SERIAL)
        line_refuse(line, to.loop, "it has a kind already");
    if (kernel->loops.at[loop].limit >= 0)
        line_refuse(line, to.loop, "it has a limit. Hint: SPLIT with peel or pad");

    if (apart) {
        factor_apart(line, to.loop, space);
        return;
    }
    AccessList accesses = kernel_accesses(line->arena, kernel, to.loop->body, -1);
    for (int i = 0; i < accesses.count; i++) {
        Statement *update = accesses.at[i].statement;
        LoopSet used = kernel_loops_of_index(kernel, update->index);
        Op fold;
        if (accesses.at[i].load >= 0 || loop_set_has(&used, loop) ||
            !legal_folds(kernel, to.loop->body, update->buffer, &fold))
            continue;
        Statement *region = find_region(&to, update->buffer, update->index);
        if (to.region && region != to.region)
            line_refuse(line, update, "its sum spans other loops than that of %s",
                        statement_text(line->arena, kernel, accesses.at[0].statement));
        to.region = region;
        factor_accumulator(&to, update, space);
    }
    if (!to.region) line_refuse(line, to.loop, "no accumulator is folded over it");
    Statement **link = kernel_link(kernel, to.region);
    Statement *init = over_iterations(&to, to.init, "_init");
    Statement *fold = over_iterations(&to, to.fold, "_fold");
    fold->next = to.region->next;
    to.region->next = fold;
    init->next = to.region;
    *link = init;
}

// ---- DISTRIBUTE --------------------------------------------------------------------------------

typedef struct {
    const ScheduleLine *line;
    Kernel *kernel;
    AccessList inner;  // of the loop's body: its stores are the sums
} Distribute;

static const Statement *sum_of(const Distribute *in, int32_t buffer) {
    for (int i = 0; i < in->inner.count; i++)
        if (in->inner.at[i].load < 0 && in->inner.at[i].buffer == buffer)
            return in->inner.at[i].statement;
    return NULL;
}

static bool reads_sum(const Distribute *in, Id value) {
    for (int i = 0; i < in->inner.count; i++)
        if (in->inner.at[i].load < 0 &&
            kernel_value_reads(in->kernel, value, in->inner.at[i].buffer))
            return true;
    return false;
}

// A sum of multiples of the sums, and of `old` if it is allowed.
static bool is_linear(const Distribute *in, Id value, Id old) {
    const Node *node = graph_node(in->kernel->graph, value);
    const Id *x = node->source;
    if (value == old) return true;
    if (node->op == OP_LOAD) return reads_sum(in, value);
    if (node->op == OP_ADD)
        return (is_linear(in, x[0], old) && is_linear(in, x[1], -1)) ||
               (is_linear(in, x[0], -1) && is_linear(in, x[1], old));
    bool product = node->op == OP_MUL || (node->op == OP_FMA && is_linear(in, x[2], old));
    return product && ((is_linear(in, x[0], -1) && !reads_sum(in, x[1])) ||
                       (is_linear(in, x[1], -1) && !reads_sum(in, x[0])));
}

// What the update adds to its accumulator.
static Id added_term(const Distribute *in, const Statement *update) {
    Graph *graph = in->kernel->graph;
    const Node *node = graph_node(graph, update->value);
    Id old = kernel_load(in->kernel, update->buffer, update->index, -1);
    if (node->op == OP_FMA && node->source[2] == old)
        return node_binary(graph, OP_MUL, node->source[0], node->source[1]);
    if (node->op == OP_ADD && node->source[0] == old) return node->source[1];
    if (node->op == OP_ADD && node->source[1] == old) return node->source[0];
    line_refuse(in->line, update, "not a sum that starts with what it updates");
}

static void remove_inits(Distribute *in, int32_t buffer) {
    AccessList all = kernel_accesses(in->line->arena, in->kernel, in->kernel->body, buffer);
    for (int i = 0; i < all.count; i++) {
        Statement *store = all.at[i].statement;
        const Node *value = graph_node(in->kernel->graph, store->value);
        bool zero =
            value->op == OP_CONST && node_const_value(in->kernel->graph, store->value, NULL) == 0;
        if (all.at[i].load >= 0 || store->role != ROLE_INIT || !zero)
            line_refuse(in->line, store, "the sum is used for something else as well");
        *kernel_link(in->kernel, store) = store->next;
    }
}

void transform_distribute(const ScheduleLine *line) {
    Kernel *kernel = line->kernel;
    int32_t loop = line_loop(line, line_word(line, 1));
    Statement *sums = kernel_loop_statement(kernel, loop), *use = sums->next;
    Distribute in = {.line = line, .kernel = kernel};
    in.inner = kernel_accesses(line->arena, kernel, sums->body, -1);
    Op fold;
    if (!use || !legal_fold(kernel, use, &fold) || fold != OP_ADD)
        line_refuse(line, sums, "no sum follows it");
    for (const Statement *at = sums->body; at; at = at->next)
        if (!legal_fold(kernel, at, &fold) || fold != OP_ADD || at->condition >= 0)
            line_refuse(line, at, "not a sum");
    Id old = kernel_load(kernel, use->buffer, use->index, -1);
    if (sum_of(&in, use->buffer) || use->condition >= 0 || !is_linear(&in, use->value, old))
        line_refuse(line, use, "not a multiple of the sums over loop %s",
                    kernel->loops.at[loop].name);

    Substitution *by = substitution_new(line->arena, kernel);
    for (const Statement *at = sums->body; at; at = at->next) {
        Id sum = kernel_load(kernel, at->buffer, at->index, -1);
        if (sum >= by->nodes) line_refuse(line, at, "nothing reads the sum");
        by->node[sum] = added_term(&in, at);
    }
    Statement *first = sums->body;
    sums->body = use;
    sums->next = use->next;
    use->next = NULL;
    statement_substitute(kernel, use, by);
    for (const Statement *at = first; at; at = at->next) remove_inits(&in, at->buffer);
}
