/* transform_compute.c - COMPUTE_AT: a fold that loops around it repeat is computed once for them.
 * In: an accumulator, a place, the loops there that its value depends on.  Out: a nest at the
 * place's beginning that computes it for each of their iterations; its readers read that.
 * Invariant: the value depends on no other loop inside the place, and on nothing written there.
 *   COMPUTE_AT s at top over k
 *       for j { for k { init s[0]; for b { update s[0] }; .. s[0] .. } }   =>
 *       for k_s { init s_own[k_s]; for b_s { update s_own[k_s] } }
 *       for j { for k { .. s_own[k] .. } }                                                      */
#include "schedule/schedule.h"

#include <string.h>

enum { LOOPS_AROUND = 12 };
typedef struct {
    const ScheduleLine *line;
    Kernel *kernel;
    Statement **place;
    int32_t buffer;
    int32_t over[LOOPS_AROUND], chain[LOOPS_AROUND];  // chain: from the init's list to the update
    int overs, chained;
    Statement *init, *update;
} Compute;

static void find_stores(Compute *to) {
    AccessList all = kernel_accesses(to->line->arena, to->kernel, to->kernel->body, to->buffer);
    for (int i = 0; i < all.count; i++) {
        Statement *store = all.at[i].statement;
        if (all.at[i].load >= 0) continue;
        Statement **role = store->role == ROLE_INIT ? &to->init : &to->update;
        if (*role) line_refuse(to->line, store, "it is stored in two places");
        *role = store;
    }
    if (!to->init || !to->update)
        line_refuse(to->line, to->init, "it is no accumulator with an init and one update");
    Statement *list = kernel_parent(to->kernel, to->init), *around = to->update;
    while ((around = kernel_parent(to->kernel, around)) != list) {
        if (!around || to->chained == LOOPS_AROUND)
            line_refuse(to->line, to->update, "its init stands elsewhere");
        memmove(to->chain + 1, to->chain, sizeof *to->chain * (size_t)to->chained++);
        to->chain[0] = around->loop;
    }
}

static void check_value(const Compute *to) {
    LoopSet used = kernel_loops_of(to->kernel, to->update->value),
            inside = kernel_loops_inside(*to->place);
    for (int i = 0; i < to->overs; i++) loop_set_remove(&used, to->over[i]);
    for (int i = 0; i < to->chained; i++) loop_set_remove(&used, to->chain[i]);
    for (int32_t loop = 0; loop < to->kernel->loops.count; loop++)
        if (loop_set_has(&used, loop) && loop_set_has(&inside, loop))
            line_refuse(to->line, to->update, "it depends on loop %s",
                        to->kernel->loops.at[loop].name);
    AccessList all = kernel_accesses(to->line->arena, to->kernel, *to->place, -1), mine = {0};
    Statement alone = *to->update;
    alone.next = NULL;
    mine = kernel_accesses(to->line->arena, to->kernel, &alone, -1);
    for (int i = 0; i < mine.count; i++)
        for (int j = 0; j < all.count && mine.at[i].buffer != to->buffer; j++)
            if (all.at[j].load < 0 && all.at[j].buffer == mine.at[i].buffer)
                line_refuse(to->line, all.at[j].statement, "it changes what is computed from");
}

static Index element_of(void *context, Kernel *kernel, Index element) {
    const Compute *to = context;
    (void)element;  // 0: the only one
    element = index_const(graph_indices(kernel->graph), 0);
    return kernel_row_major(kernel, element, to->overs, to->over);
}

// Loops that hold nothing any more go, too.
static void unlink_statement(Kernel *kernel, Statement *statement) {
    Statement *parent = kernel_parent(kernel, statement);
    *kernel_link(kernel, statement) = statement->next;
    statement->next = NULL;
    if (parent && !parent->body) unlink_statement(kernel, parent);
}

static Statement *computing_nest(const Compute *to) {
    Kernel *kernel = to->kernel;
    Substitution *by = substitution_new(to->line->arena, kernel);
    const char *suffix = arena_print(to->line->arena, "_%s", kernel->buffers.at[to->buffer].name);
    int32_t over[LOOPS_AROUND], chain[LOOPS_AROUND];
    for (int i = 0; i < to->overs; i++) over[i] = kernel_loop_copy(kernel, to->over[i], suffix, by);
    for (int i = 0; i < to->chained; i++)
        chain[i] = kernel_loop_copy(kernel, to->chain[i], suffix, by);
    statement_substitute(kernel, to->init, by);
    statement_substitute(kernel, to->update, by);
    to->init->next = statement_nest(kernel, to->chained, chain, to->update);
    return statement_nest(kernel, to->overs, over, to->init);
}

void transform_compute_at(const ScheduleLine *line) {
    Kernel *kernel = line->kernel;
    Compute to = {.line = line, .kernel = kernel, .buffer = line_buffer(line, line_word(line, 1))};
    KernelBuffer info = kernel->buffers.at[to.buffer];
    int64_t size = 1;
    line_expect(line, 2, "at");
    to.place = line_place(line, 3);
    line_expect(line, 4, "over");
    for (int word = 5; word < line->words; word++) {
        if (to.overs == LOOPS_AROUND) line_refuse(line, NULL, "too many loops");
        int32_t loop = to.over[to.overs++] = line_loop(line, line->word[word]);
        Index extent = kernel->loops.at[loop].extent;
        if (kernel->loops.at[loop].kind != LOOP_SERIAL || kernel->loops.at[loop].limit >= 0)
            line_refuse(line, NULL, "loop %s has a kind or a limit already", line->word[word]);
        if (__builtin_mul_overflow(size, index_high(graph_indices(kernel->graph), extent), &size) ||
            size > INT32_MAX)
            line_refuse(line, NULL, "too many values");
    }
    if (info.space != SPACE_REGISTER || info.size != 1)
        line_refuse(line, NULL, "%s is not one accumulator in a register", info.name);
    find_stores(&to);
    check_value(&to);
    const char *name = arena_print(line->arena, "%s_own", info.name);
    int32_t own = kernel_buffer(kernel, name, info.dtype, SPACE_THREAD, size, true);
    statement_relocate(kernel, kernel->body, to.buffer, own, element_of, &to);
    unlink_statement(kernel, to.update);
    unlink_statement(kernel, to.init);
    Statement *nest = computing_nest(&to);
    nest->next = *to.place;
    *to.place = nest;
}
