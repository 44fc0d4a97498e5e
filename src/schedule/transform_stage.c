/* transform_stage.c - STAGE of what is computed: accumulators for a whole tile.
 * In: a value and the loop whose body is to hold its tile.  Out: the loops between them fissioned.
 * Invariant: each statement (or run of stores of one role) of the innermost body gets a nest of its
 * own; what one nest leaves for another has an element for each iteration.
 *   STAGE c at j0 in reg   for j1 < 8 { init s[0]; for k { update s[0] }; finish c[j1] = s[0] }  =>
 *       for j1_init < 8 { init s[j1_init] }  for j1 < 8 { for k { update s[j1] } }
 *       for j1_finish < 8 { finish c[j1_finish] = s[j1_finish] }                                 */
#include "schedule/schedule.h"

#include <string.h>

enum { CHAIN_MAX = 16 };
typedef struct {
    const ScheduleLine *line;
    Kernel *kernel;
    Statement **place;            // the list that is to hold the nests
    Statement *chain[CHAIN_MAX];  // the loops to fission, outermost first
    int loops;
    Statement *list;           // the innermost body
    LoopSet varying;           // all loops inside the place
    LIST(Statement *) groups;  // the body's pieces, unlinked from each other
} Stage;

// The loops between the place and the body that computes `buffer`.
static void find_chain(Stage *stage, int32_t buffer) {
    Kernel *kernel = stage->kernel;
    AccessList accesses = kernel_accesses(stage->line->arena, kernel, *stage->place, buffer);
    Statement *store = NULL, *around = NULL;
    for (int i = 0; i < accesses.count && !store; i++)
        if (accesses.at[i].load < 0) store = accesses.at[i].statement;
    if (!store)
        line_refuse(stage->line, NULL, "%s is not stored there", kernel->buffers.at[buffer].name);
    for (Statement *at = *stage->place; at; at = at->next)
        if (at == store) line_refuse(stage->line, store, "no loop is between it and the place");
    around = kernel_parent(kernel, store);
    stage->list = around->body;
    for (;; around = kernel_parent(kernel, around)) {
        if (stage->loops == CHAIN_MAX) line_refuse(stage->line, store, "too many loops around it");
        if (stage->loops && around->body->next)
            line_refuse(stage->line, around,
                        "its body is not one loop. Hint: STAGE the inner loops first");
        if (kernel->loops.at[around->loop].kind != LOOP_SERIAL)
            line_refuse(stage->line, around, "stage before loops get a kind");
        memmove(stage->chain + 1, stage->chain, (size_t)stage->loops++ * sizeof *stage->chain);
        stage->chain[0] = around;
        for (Statement *at = *stage->place; at; at = at->next)
            if (at == around) return;
    }
}

// Unlinks the pieces: loops stand alone, neighbouring stores of one role stay together.
static void split_groups(Stage *stage) {
    Statement *last = NULL;
    for (Statement *at = stage->list, *next; at; last = at, at = next) {
        next = at->next;
        bool joins = last && at->kind == STATEMENT_STORE && last->kind == STATEMENT_STORE &&
                     at->role == last->role;
        if (joins) continue;
        if (last) last->next = NULL;
        *list_add(stage->line->arena, &stage->groups) = at;
    }
}

static int64_t extent_of(const Kernel *kernel, const Statement *loop) {
    return index_high(graph_indices(kernel->graph), kernel->loops.at[loop->loop].extent);
}

// Row-major: the old element, then the chain's loops.
static Index expanded(void *context, Kernel *kernel, Index element) {
    const Stage *stage = context;
    for (int i = 0; i < stage->loops; i++)
        element = kernel_row_major(kernel, element, 1, &stage->chain[i]->loop);
    return element;
}

// An access, and the piece that it is in.
typedef struct {
    Access access;
    int group;
} Crossing;
typedef LIST(Crossing) CrossingList;

// Iterations of the chain must not meet in a buffer that two groups touch, unless it is expanded.
static void check_crossings(const Stage *stage, int32_t buffer, const CrossingList *all) {
    Kernel *kernel = stage->kernel;
    for (int i = 0; i < all->count; i++) {
        const Crossing *a = &all->at[i];
        for (int j = 0; j < all->count && a->access.load < 0; j++) {
            const Crossing *b = &all->at[j];
            for (int l = 0; l < stage->loops && a->group != b->group; l++) {
                int32_t loop = stage->chain[l]->loop;
                LoopSet others = stage->varying;
                loop_set_remove(&others, loop);
                if (!legal_disjoint(kernel, loop, others, a->access.index, b->access.index))
                    line_refuse(stage->line, a->access.statement,
                                "iterations of loop %s meet in %s", kernel->loops.at[loop].name,
                                kernel->buffers.at[buffer].name);
            }
        }
    }
}

// One buffer: nothing to do if one group alone touches it, else an element an iteration.
static void expand_buffer(Stage *stage, int32_t buffer, bool is_private, Space space) {
    Kernel *kernel = stage->kernel;
    KernelBuffer *info = &kernel->buffers.at[buffer];
    CrossingList all = {0};
    int64_t iterations = 1;  // of the whole chain
    bool stored = false, crosses = false;
    for (int g = 0; g < stage->groups.count; g++) {
        AccessList here = kernel_accesses(stage->line->arena, kernel, stage->groups.at[g], buffer);
        for (int i = 0; i < here.count; i++) {
            stored |= here.at[i].load < 0;
            crosses |= all.count && all.at[0].group != g;
            *list_add(stage->line->arena, &all) = (Crossing){here.at[i], g};
        }
    }
    if (!stored || !crosses) return;
    if (!is_private) {
        check_crossings(stage, buffer, &all);
        return;
    }
    for (int i = 0; i < stage->loops; i++)
        if (__builtin_mul_overflow(iterations, extent_of(kernel, stage->chain[i]), &iterations) ||
            iterations > INT32_MAX / max_i64(info->size, 1))
            line_refuse(stage->line, stage->chain[0], "the tile is too large");
    for (int g = 0; g < stage->groups.count; g++)
        statement_relocate(kernel, stage->groups.at[g], buffer, buffer, expanded, stage);
    info->size *= iterations;
    info->space = space;
}

// The group whose nest keeps the loops' names: the first that updates in a loop of its own.
static int main_group(const Stage *stage) {
    for (int g = 0; g < stage->groups.count; g++)
        if (stage->groups.at[g]->kind == STATEMENT_LOOP) return g;
    return 0;
}

static Statement *nest_of(const Stage *stage, Statement *group, bool keeps_names) {
    static const char *const suffixes[ROLES] = {"_store", "_init", "_update", "_finish"};
    Kernel *kernel = stage->kernel;
    Substitution *by = substitution_new(stage->line->arena, kernel);
    int32_t loop[CHAIN_MAX];
    for (int i = 0; i < stage->loops; i++) {
        const char *suffix = group->kind == STATEMENT_STORE ? suffixes[group->role] : "";
        loop[i] = stage->chain[i]->loop;
        if (!keeps_names) loop[i] = kernel_loop_copy(kernel, loop[i], suffix, by);
    }
    if (!keeps_names) statement_substitute(kernel, group, by);
    return statement_nest(kernel, stage->loops, loop, group);
}

static void stage_computed(const ScheduleLine *line) {
    Stage stage = {.line = line, .kernel = line->kernel};
    int32_t buffer = line_buffer(line, line_word(line, 1));
    line_expect(line, 2, "at");
    stage.place = line_place(line, 3);
    line_expect(line, 4, "in");
    Space space = line_space(line, 5);
    find_chain(&stage, buffer);

    bool *private = legal_privates(stage.kernel, stage.list);
    stage.varying = kernel_loops_inside(*stage.place);
    split_groups(&stage);
    if (stage.groups.count < 2)
        line_refuse(line, stage.list, "the body of loop %s has nothing to take apart",
                    stage.kernel->loops.at[stage.chain[stage.loops - 1]->loop].name);
    for (int32_t i = 0; i < stage.kernel->buffers.count; i++)
        expand_buffer(&stage, i, private[i], space);

    Statement **link = kernel_link(stage.kernel, stage.chain[0]), *rest = stage.chain[0]->next;
    int names = main_group(&stage);
    for (int g = 0; g < stage.groups.count; g++, link = &(*link)->next)
        *link = nest_of(&stage, stage.groups.at[g], g == names);
    *link = rest;
}

void transform_stage(const ScheduleLine *line) {
    if (!strcmp(line_word(line, 4), "over"))
        transform_stage_copy(line);
    else
        stage_computed(line);
}
