/* lower_gpu.c - lowering, the part for GPUs: launches, and what their threads do together.
 * In: a kernel whose parallel loops are over blocks, warps and threads.  Out: a LAUNCH for each
 * block loop, and for statements in a row outside of those, which one thread runs.
 * Invariants: a register that is not spread has the same value in all threads of a block (inside a
 * warp loop, of a warp); what all of them fold into it goes through one FOLD, to which all of them
 * come.
 *   thread for t < 256 { update s[0] = (add p[t] s[0]) }
 *   =>   set own 0 ; threads for t < 256 { set own (own + p) } ; %5 = fold add own ; set s */
#include "codegen/lower.h"

static const Loop *loop_of(const Lower *lower, const Statement *statement) {
    return &lower->kernel->loops.at[statement->loop];
}

static bool is_block(const Lower *lower, const Statement *statement) {
    return statement->kind == STATEMENT_LOOP && loop_of(lower, statement)->kind == LOOP_BLOCK;
}

// ---- launches ----------------------------------------------------------------------------------

static bool uses_spread(const Lower *lower, Statement *list) {
    AccessList accesses = kernel_accesses(lower->arena, lower->kernel, list, -1);
    for (int i = 0; i < accesses.count; i++)
        if (lower->promotion[accesses.at[i].buffer].spread.thread.count) return true;
    return false;
}

// Threads that the loops of a block ask for: as many as have an iteration each, if those hold
// registers of their own; other long loops, and those of an extent that changes, take what there
// is.
static int64_t threads_for(const Lower *lower, const Statement *list, int64_t warps) {
    enum { USUAL = 256 };
    int64_t most = 1;
    for (; list; list = list->next) {
        if (list->kind != STATEMENT_LOOP) continue;
        const Loop *loop = loop_of(lower, list);
        int64_t extent, of = warps;
        bool fixed = index_is_const(graph_indices(lower->kernel->graph), loop->extent, &extent);
        if (loop->kind == LOOP_WARP && fixed) of = extent;
        if (of) most = max_i64(most, of * WARP_THREADS);
        bool all = fixed && (extent <= USUAL || uses_spread(lower, list->body));
        if (loop->kind == LOOP_THREAD && !warps)
            most = max_i64(most, round_up(all ? max_i64(extent, 1) : USUAL, WARP_THREADS));
        most = max_i64(most, threads_for(lower, list->body, of));
    }
    return most;
}

static int32_t open_launch(Lower *lower, const char *name, Index blocks, int64_t threads) {
    lower->threads = (int32_t)threads;
    return step_add(lower, (Step){.kind = STEP_LAUNCH,
                                  .name = name,
                                  .index = blocks,
                                  .limit = -1,
                                  .condition = -1,
                                  .threads = lower->threads});
}

static void launch_blocks(Lower *lower, const Statement *statement) {
    const Loop *loop = loop_of(lower, statement);
    IndexTable *indices = lower->program->indices;
    Index blocks = mapped(lower, loop->extent);
    int32_t id = open_launch(lower, loop->name, blocks, threads_for(lower, statement->body, 0));
    int64_t last = max_i64(index_high(indices, blocks) - 1, 0);
    lower->loop_value[statement->loop] = index_atom(indices, ATOM_LOOP, id, 0, last);
    bool guarded = loop->limit >= 0;
    if (guarded) {
        int32_t block = let_index(lower, lower->loop_value[statement->loop], DT_I64);
        int32_t end = let_index(lower, mapped(lower, loop->limit), DT_I64);
        lower_open(lower, STEP_IF, let(lower, OP_CMPLT, DT_BOOL, block, end, -1));
    }
    lower_list(lower, statement->body);
    lower_wait(lower);
    if (guarded) lower_close(lower);
    lower_close(lower);
}

// All up to the next block loop.
static Statement *part_of(Lower *lower, const Statement *list) {
    Statement *first = NULL, **link = &first;
    for (; list && !is_block(lower, list); list = list->next) {
        *link = arena_object(lower->arena, Statement);
        **link = *list;
        (*link)->next = NULL;
        link = &(*link)->next;
    }
    return first;
}

static void launch_one(Lower *lower, const Statement *list) {
    if (scan_has_thread_loop(lower->kernel, list))
        fatal("lower: kernel %s has a thread loop outside of a block loop. Hint: BLOCK comes first",
              lower->kernel->name);
    open_launch(lower, "only", index_const(lower->program->indices, 1), 1);
    lower->inside = true;
    lower_list(lower, list);
    lower->inside = false;
    lower_close(lower);
}

void lower_launches(Lower *lower) {
    const Statement *at = lower->kernel->body;
    while (at) {
        if (is_block(lower, at)) {
            launch_blocks(lower, at);
            at = at->next;
            continue;
        }
        launch_one(lower, part_of(lower, at));
        while (at && !is_block(lower, at)) at = at->next;
    }
}

static bool uses(const Lower *lower, Statement *list, int32_t buffer) {
    return kernel_accesses(lower->arena, lower->kernel, list, buffer).count > 0;
}

bool lower_on_chip(const Lower *lower, int32_t buffer) {
    int blocks = 0;
    for (Statement *at = lower->kernel->body; at; at = at->next) {
        Statement alone = *at;
        alone.next = NULL;
        if (!uses(lower, &alone, buffer)) continue;
        if (!is_block(lower, at)) return false;
        blocks++;
    }
    return blocks == 1;
}

// ---- warps and threads -------------------------------------------------------------------------

void lower_warp(Lower *lower, const Statement *statement) {
    lower->warp = statement->loop;
    lower_body(lower, statement, SHARE_WARPS, -1);
    lower->warp = -1;
}

// Those in the loop's body that fold into registers that are not each thread's own.
static void find_folds(Lower *lower, const Statement *list) {
    for (; list; list = list->next) {
        if (list->kind == STATEMENT_LOOP) find_folds(lower, list->body);
        if (list->kind != STATEMENT_STORE ||
            space_is_common(lower->kernel->buffers.at[list->buffer].space) ||
            !lower->promotion[list->buffer].spread.folded)
            continue;
        Fold fold;
        if (!lower_fold_of(lower, list, &fold))
            fatal("lower: all threads of kernel %s write %s", lower->kernel->name,
                  statement_text(lower->arena, lower->kernel, list));
        DType dtype = lower->kernel->buffers.at[list->buffer].dtype;
        *list_add(lower->arena, &lower->program->variables) = (Variable){
            arena_print(lower->arena, "%s_own", lower->kernel->buffers.at[list->buffer].name),
            {dtype_computed(dtype), 1}};
        *list_add(lower->arena, &lower->folds) =
            (ThreadFold){list, lower->program->variables.count - 1, fold.op, fold.x, fold.y};
    }
}

static void set(Lower *lower, int32_t variable, int32_t value) {
    step_add(lower,
             (Step){.kind = STEP_SET, .of = variable, .lane = -1, .source = {value, -1, -1}});
}

// What all threads have goes to where each of them has it.
static void finish_fold(Lower *lower, const ThreadFold *fold) {
    const Statement *store = fold->store;
    DType dtype = lower->kernel->buffers.at[store->buffer].dtype;
    Index element = mapped_element(lower, store->buffer, store->index);
    int32_t own = let_get(lower, fold->variable);
    Step step = {.kind = STEP_FOLD,
                 .op = dtype == DT_BOOL && fold->op == OP_ADD ? OP_MAX : fold->op,
                 .type = {dtype_computed(dtype), 1},
                 .share = lower->warp >= 0 ? SHARE_LANES : SHARE_BLOCK,
                 .source = {own, -1, -1},
                 .condition = -1,
                 .index = -1,
                 .limit = -1};
    int32_t all = step_add(lower, step);
    lower->statement++;
    Fold whole;
    lower_fold_of(lower, store, &whole);
    lower_value(lower, store, element,
                apply(lower, fold->op, dtype, expression(lower, whole.old), all, -1));
}

void lower_thread(Lower *lower, const Statement *statement) {
    int first = lower->folds.count;
    find_folds(lower, statement->body);
    for (int i = first; i < lower->folds.count; i++) {
        const ThreadFold *fold = &lower->folds.at[i];
        DType dtype = lower->kernel->buffers.at[fold->store->buffer].dtype;
        set(lower, fold->variable, lower_identity(lower, fold->op, dtype));
    }
    lower->thread = statement->loop;
    lower_body(lower, statement, lower->warp >= 0 ? SHARE_LANES : SHARE_BLOCK, -1);
    lower->thread = -1;
    for (int i = first; i < lower->folds.count; i++) finish_fold(lower, &lower->folds.at[i]);
    lower->folds.count = first;
}

bool lower_thread_fold(Lower *lower, const Statement *store) {
    for (int i = 0; i < lower->folds.count; i++) {
        const ThreadFold *fold = &lower->folds.at[i];
        if (fold->store != store) continue;
        DType dtype = lower->kernel->buffers.at[store->buffer].dtype;
        int32_t own = let_get(lower, fold->variable), value = expression(lower, fold->value);
        if (lower->lanes > 1 && fold->y >= 0)
            value = apply(lower, OP_MUL, dtype, value, expression(lower, fold->y), -1);
        if (lower->lanes > 1)
            value = lower_lanes(lower, fold->op, dtype, widened(lower, value, lower->lanes));
        value = fold->y < 0 || lower->lanes > 1
                    ? apply(lower, fold->op, dtype, own, value, -1)
                    : apply(lower, OP_FMA, dtype, value, expression(lower, fold->y), own);
        set(lower, fold->variable, value);
        return true;
    }
    return false;
}

// ---- copies on their way -----------------------------------------------------------------------

bool lower_copy(Lower *lower, const Statement *store) {
    if (store->role != ROLE_ASYNC || !lower->gpu) return false;
    const Node *load = graph_node(lower->kernel->graph, store->value);
    Step step = {.kind = STEP_COPY,
                 .type = {lower->kernel->buffers.at[store->buffer].dtype, lower->lanes},
                 .of = lower->place[store->buffer],
                 .tile = {lower->place[load->arg[0]], -1, -1},
                 .source = {-1, -1, -1},
                 .limit = -1};
    step.condition = load->sources ? expression(lower, load->source[0]) : -1;
    step.condition = both(lower, step.condition, lower->mask);
    step.index = mapped(lower, store->index);
    step.at[0] = mapped(lower, (Index)load->arg[1]);
    step_add(lower, step);
    return true;
}

void lower_bulk(Lower *lower, const Statement *loop, const TileUse *tile) {
    enum { PLACES_BYTES = 128 };  // of GROUPS_MAX + 2 barriers; what is behind stays aligned
    Id when = loop->body->condition;
    if (!lower->gpu) {
        lower_body(lower, loop, SHARE_NONE, -1);
        return;
    }
    if (!lower->program->came) {
        lower->program->came = lower->program->chip_bytes;
        lower->program->chip_bytes += PLACES_BYTES;
    }
    if (when >= 0) lower_open(lower, STEP_IF, expression(lower, when));
    Step step = {.kind = STEP_COPY,
                 .type = {lower->kernel->buffers.at[tile->buffer[0]].dtype, 1},
                 .of = lower->place[tile->buffer[0]],
                 .tile = {lower->place[tile->memory], -1, -1},
                 .source = {-1, -1, -1},
                 .condition = -1,
                 .limit = -1,
                 .integer = tile->stride};
    step.index = mapped(lower, tile->first[0]);
    step.at[0] = mapped(lower, tile->from);
    step_add(lower, step);
    if (when >= 0) lower_close(lower);
}
