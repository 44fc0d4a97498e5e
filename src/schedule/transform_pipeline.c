/* transform_pipeline.c - PIPELINE of a loop: copies to shared memory that are on their way while
 * earlier ones are computed with.
 * In: a loop of a block whose body first fills shared memory, then reads it.
 * Out: so many places for each copy, a loop before it that fills all but one of them, and a body
 * that waits for the copy that is needed now, then begins the one that is needed last.
 * Invariant: an iteration reads what was copied for it; the place that is filled in an iteration is
 * the one that was read in the iteration before, so one barrier (codegen/scan.c) behind the wait is
 * for both: what any thread copied is there, and what any thread read is done with.
 *   PIPELINE k 3   for k < 8 { a_shared[t] = a[32*k + t] ; .. a_shared[t] .. }   =>
 *       for k_first < 2 { async a_shared[32*k_first + t] = a[32*k_first + t] ; commit }
 *       for k < 8 { settle 1 ; async a_shared[32*((k + 2)%3) + t] = a[32*(k + 2) + t] when k < 6 ;
 *                   commit ; .. a_shared[32*(k%3) + t] .. }
 *   PIPELINE k 3 bulk   what lies in runs of memory is copied by the copy engine (kernel_tile.c):
 *       tile for t < 32 { async a_shared[..] = a[..] when .. }
 * Sources: NVIDIA's CUDA C++ Programming Guide, "Asynchronous Data Copies"; CUTLASS's main loop of
 * several stages (gemm/threadblock/mma_multistage.h), which waits and begins in this order.     */
#include "schedule/schedule.h"

typedef struct {
    const ScheduleLine *line;
    Kernel *kernel;
    IndexTable *table;
    Statement *loop, *rest;  // rest: of its body, behind what fills
    int64_t stages, extent;
    bool *filled;  // by buffer
} Pipeline;

// All that the statement's tree does is to copy from memory that does not change to shared memory.
static bool fills(Pipeline *to, Statement *statement) {
    Kernel *kernel = to->kernel;
    if (statement->kind == STATEMENT_LOOP) {
        for (Statement *at = statement->body; at; at = at->next)
            if (!fills(to, at)) return false;
        return true;
    }
    if (statement->kind != STATEMENT_STORE || statement->role != ROLE_STORE ||
        kernel->buffers.at[statement->buffer].space != SPACE_SHARED)
        return false;
    const Node *load = graph_node(kernel->graph, statement->value);
    if (load->op != OP_LOAD || dtypes[load->dtype].bytes != 4) return false;
    const KernelBuffer *from = &kernel->buffers.at[load->arg[0]];
    if (from->space != SPACE_ONCE && (from->space != SPACE_PARAM || from->written)) return false;
    to->filled[statement->buffer] = true;
    return true;
}

void places_check(const ScheduleLine *line, const bool *filled, int32_t buffers, Statement *loop,
                  Statement *rest) {
    Kernel *kernel = line->kernel;
    for (int32_t i = 0; i < buffers; i++) {
        if (!filled[i]) continue;
        AccessList all = kernel_accesses(line->arena, kernel, kernel->body, i),
                   here = kernel_accesses(line->arena, kernel, loop->body, i),
                   behind = kernel_accesses(line->arena, kernel, rest, i);
        bool reads = all.count == here.count;
        for (int n = 0; n < behind.count; n++) reads &= behind.at[n].load >= 0;
        if (!reads)
            line_refuse(line, loop, "%s is not only filled first and then read there",
                        kernel->buffers.at[i].name);
    }
}

static int64_t place_size(const Kernel *kernel, int32_t buffer) {
    enum { ALIGNED = 32 };  // elements: a place begins at the first bank
    return round_up(kernel->buffers.at[buffer].size, ALIGNED);
}

static Index add_offset(void *context, Kernel *kernel, Index element) {
    return index_add(graph_indices(kernel->graph), element, *(Index *)context);
}

void places_move(const ScheduleLine *line, const bool *filled, int32_t buffers, Statement *list,
                 Index place) {
    IndexTable *table = graph_indices(line->kernel->graph);
    for (int32_t i = 0; i < buffers; i++) {
        if (!filled[i]) continue;
        Index offset = index_scale(table, place, place_size(line->kernel, i));
        statement_relocate(line->kernel, list, i, i, add_offset, &offset);
    }
}

void places_make(const ScheduleLine *line, const bool *filled, int32_t buffers, int64_t places) {
    for (int32_t i = 0; i < buffers; i++)
        if (filled[i]) line->kernel->buffers.at[i].size = places * place_size(line->kernel, i);
}

static void move_to(const Pipeline *to, Statement *list, Index place) {
    places_move(to->line, to->filled, to->kernel->buffers.count, list, place);
}

static void set_async(const Pipeline *to, Statement *list, Id condition) {
    Graph *graph = to->kernel->graph;
    for (; list; list = list->next) {
        if (list->kind == STATEMENT_LOOP) set_async(to, list->body, condition);
        if (list->kind != STATEMENT_STORE) continue;
        list->role = ROLE_ASYNC;
        if (condition < 0) continue;
        list->condition = list->condition < 0
                              ? condition
                              : node_binary(graph, OP_AND, list->condition, condition);
    }
}

// ---- in bulk -----------------------------------------------------------------------------------

typedef struct {
    int32_t loop[LOOPS_MAX];
    int64_t extent[LOOPS_MAX], stride[LOOPS_MAX];
    bool inside[LOOPS_MAX];  // of the run
    int loops;
    Statement *store;
    Index to, from;
} Run;

// Loops of one body each around the store, whoever runs them. stride: of those in which the copy
// goes as far from one iteration to the next as what is copied; 0: of others.
static bool find_run(const Pipeline *to, Statement *nest, Run *run) {
    const Kernel *kernel = to->kernel;
    for (; nest->kind == STATEMENT_LOOP; nest = nest->body) {
        const Loop *loop = &kernel->loops.at[nest->loop];
        bool plain = loop->kind == LOOP_SERIAL || loop->kind == LOOP_UNROLL ||
                     loop->kind == LOOP_VECTOR || loop->kind == LOOP_THREAD;
        if (!plain || loop->limit >= 0 || (run->loops && nest->next) ||
            !index_is_const(to->table, loop->extent, &run->extent[run->loops]))
            return false;
        run->loop[run->loops++] = nest->loop;
    }
    const Node *load = graph_node(kernel->graph, nest->value);
    run->store = nest;
    run->to = nest->index;
    run->from = (Index)load->arg[1];
    for (int i = 0; i < run->loops; i++) {
        int64_t other;
        bool even = index_stride(to->table, run->to, run->loop[i], &run->stride[i]) &&
                    index_stride(to->table, run->from, run->loop[i], &other);
        if (!even || other != run->stride[i]) run->stride[i] = 0;
    }
    return nest->condition < 0 && !load->sources && !nest->next;
}

// The loops, innermost in memory first, that go on where the others end; how many elements that is.
static int64_t grow_run(Run *run) {
    int64_t elements = 1;
    for (int i = 0; i < run->loops; i++) {
        if (run->inside[i] || (run->extent[i] > 1 && run->stride[i] != elements)) continue;
        run->inside[i] = true;
        elements *= run->extent[i];
        i = -1;
    }
    return elements;
}

// The nest as loops around runs that the copy engine copies; NULL if it is not of such, or threads
// share more than one of them.
static Statement *in_bulk(const Pipeline *to, Statement *nest) {
    Kernel *kernel = to->kernel;
    Run run = {0};
    TileUse tile;
    if (!find_run(to, nest, &run)) return NULL;
    int64_t elements = grow_run(&run);
    int32_t around[LOOPS_MAX],
        buffer = run.store->buffer, loops = 0,
        all = kernel_loop(kernel,
                          arena_print(to->line->arena, "%s_run", kernel->buffers.at[buffer].name),
                          elements);
    Index zero = index_const(to->table, 0), element = kernel_loop_index(kernel, all);
    for (int i = 0; i < run.loops; i++) {
        if (!run.inside[i]) {
            if (kernel->loops.at[run.loop[i]].kind == LOOP_THREAD) return NULL;
            around[loops++] = run.loop[i];
            continue;
        }
        run.to = index_replace(to->table, run.to, ATOM_LOOP, run.loop[i], zero);
        run.from = index_replace(to->table, run.from, ATOM_LOOP, run.loop[i], zero);
    }
    int32_t source = (int32_t)graph_node(kernel->graph, run.store->value)->arg[0];
    Statement *copy =
        statement_store(kernel, ROLE_ASYNC, buffer, index_add(to->table, run.to, element),
                        kernel_load(kernel, source, index_add(to->table, run.from, element), -1));
    Statement *loop = statement_loop(kernel, all, copy);
    kernel->loops.at[all].kind = LOOP_TILE;
    if (kernel_tile(kernel, loop, &tile)) return NULL;
    for (int i = 0; i < loops; i++) kernel->loops.at[around[i]].kind = LOOP_SERIAL;
    return statement_nest(kernel, loops, around, loop);
}

// Copies that can be are made in bulk.
static Statement *fill_in_bulk(const Pipeline *to, Statement *fill) {
    Statement *first = fill, **link = &first;
    int found = 0;
    for (; *link; link = &(*link)->next) {
        Statement *next = (*link)->next, *made;
        (*link)->next = NULL;
        if ((made = in_bulk(to, *link))) *link = made;
        found += made != NULL;
        (*link)->next = next;
    }
    if (!found)
        line_refuse(to->line, fill, "no copy is of runs of %d bytes or more, aligned", BULK_GRAIN);
    return first;
}

// ---- places ------------------------------------------------------------------------------------

// Before the loop: the copies for its first iterations.
static void put_first(const Pipeline *to, const Statement *fill) {
    Kernel *kernel = to->kernel;
    int32_t first = kernel_loop(
        kernel, arena_print(to->line->arena, "%s_first", kernel->loops.at[to->loop->loop].name),
        to->stages - 1);
    Substitution *by = substitution_new(to->line->arena, kernel);
    by->loop[to->loop->loop] = kernel_loop_index(kernel, first);
    Statement *copies = statement_copy(kernel, fill, "_first", by);
    move_to(to, copies, kernel_loop_index(kernel, first));
    set_async(to, copies, -1);
    statement_last(copies)->next = statement_meeting(kernel, STATEMENT_COMMIT, 0);
    Statement **link = kernel_link(kernel, to->loop),
              *before = statement_loop(kernel, first, copies);
    before->next = *link;
    *link = before;
}

// In the loop: the copies for the iteration that comes so many later, if there is one.
static void put_ahead(const Pipeline *to, Statement *fill) {
    Kernel *kernel = to->kernel;
    Index now = kernel_loop_index(kernel, to->loop->loop),
          later = index_add(to->table, now, index_const(to->table, to->stages - 1));
    Substitution *by = substitution_new(to->line->arena, kernel);
    by->loop[to->loop->loop] = later;
    statement_substitute(kernel, fill, by);
    move_to(to, fill, index_mod(to->table, later, to->stages));
    Id there = node_binary(kernel->graph, OP_CMPLT, kernel_index(kernel, later, DT_I32),
                           kernel_index(kernel, index_const(to->table, to->extent), DT_I32));
    set_async(to, fill, there);
    move_to(to, to->rest, index_mod(to->table, now, to->stages));
    Statement *commit = statement_meeting(kernel, STATEMENT_COMMIT, 0);
    statement_last(fill)->next = commit;
    commit->next = to->rest;
    to->loop->body = statement_meeting(kernel, STATEMENT_SETTLE, (int32_t)to->stages - 2);
    to->loop->body->next = fill;
}

void transform_pipeline_loop(const ScheduleLine *line, int32_t loop) {
    Pipeline to = {.line = line,
                   .kernel = line->kernel,
                   .table = graph_indices(line->kernel->graph),
                   .loop = kernel_loop_statement(line->kernel, loop),
                   .stages = line_number(line, 2),
                   .filled = arena_array(line->arena, bool, line->kernel->buffers.count)};
    Statement *fill = to.loop->body, *last = NULL;
    for (to.rest = fill; to.rest && fills(&to, to.rest); to.rest = to.rest->next) last = to.rest;
    if (to.stages < 2 || to.stages > GROUPS_MAX)
        line_refuse(line, NULL, "2 to %d places, not %lld", GROUPS_MAX, (long long)to.stages);
    if (line->kernel->loops.at[loop].kind != LOOP_SERIAL ||
        !kernel_around(line->kernel, to.loop, LOOP_BLOCK))
        line_refuse(line, to.loop, "it is no plain loop of a block");
    if (!index_is_const(to.table, line->kernel->loops.at[loop].extent, &to.extent) ||
        to.extent < to.stages || line->kernel->loops.at[loop].limit >= 0)
        line_refuse(line, to.loop, "it has no constant number of iterations of %lld or more",
                    (long long)to.stages);
    if (!last || !to.rest)
        line_refuse(line, to.loop, "it does not begin with plain copies to shared memory");
    places_check(line, to.filled, line->kernel->buffers.count, to.loop, to.rest);
    last->next = NULL;
    if (line->words > 3) {
        line_expect(line, 3, "bulk");
        fill = fill_in_bulk(&to, fill);
    }
    to.loop->body = fill;
    put_first(&to, fill);
    put_ahead(&to, fill);
    places_make(line, to.filled, line->kernel->buffers.count, to.stages);
}
