/* kernel_verify.c - what must hold of a kernel, checked after every pass that makes or changes one.
 * In: a kernel.  Out: nothing, or a fatal that names the statement.
 * Invariant: checked here, relied on by lowering: loops are in scope and run once, dtypes match,
 * every index lies in its buffer or is guarded, vector loops are innermost, thread loops do not
 * nest, block loops are outermost, and no two threads meet in one element.
 *   for k1 < 32, 100 - 32*k0 { .. a[32*k0 + k1] .. }   needs 100 elements of a, not 128       */
#include "ir/ir.h"

#include <stdlib.h>

typedef struct {
    const Kernel *kernel;
    const Graph *graph;
    IndexTable *table;
    Arena *arena;
    LIST(Index) facts;           // each is at most 0 wherever its loops run
    LoopSet running, seen, run;  // loops around the statement; met so far; run by some statement
    const Statement *at;
    // the loop of that kind around the statement; -1 if none
    int32_t block, warp, thread, vector;
    bool never;  // inside a loop that has no iteration
} Verifier;

static void refuse(const Verifier *verifier, const char *format, ...) PRINTF(2, 3);

static void refuse(const Verifier *verifier, const char *format, ...) {
    Text what = text_new(verifier->arena);
    va_list arguments;
    va_start(arguments, format);
    text_add_list(&what, format, arguments);
    va_end(arguments);
    fatal("kernel %s: %s: %s", verifier->kernel->name,
          verifier->at ? statement_text(verifier->arena, verifier->kernel, verifier->at) : "head",
          what.at);
}

static const char *loop_name(const Verifier *verifier, int32_t loop) {
    return verifier->kernel->loops.at[loop].name;
}

// ---- bounds ------------------------------------------------------------------------------------

// a < b
static void add_fact(Verifier *verifier, Index a, Index b) {
    Index one = index_const(verifier->table, 1);
    Index fact = index_add(verifier->table, index_sub(verifier->table, a, b), one);
    *list_add(verifier->arena, &verifier->facts) = fact;
}

// Constant extents are in the loop's interval already.
static void add_loop_facts(Verifier *verifier, int32_t loop) {
    const Loop *info = &verifier->kernel->loops.at[loop];
    int64_t high = index_high(verifier->table, info->extent) - 1;
    bool constant = index_low(verifier->table, info->extent) > high;
    if (constant && info->limit < 0) return;
    Index index = index_atom(verifier->table, ATOM_LOOP, loop, 0, max_i64(high, 0));
    if (!constant) add_fact(verifier, index, info->extent);
    if (info->limit >= 0) add_fact(verifier, index, info->limit);
}

// What a condition says about indices.
static void add_condition_facts(Verifier *verifier, Id condition) {
    if (condition < 0) return;
    const Node *node = graph_node(verifier->graph, condition);
    Index a, b;
    if (node->op == OP_AND) {
        add_condition_facts(verifier, node->source[0]);
        add_condition_facts(verifier, node->source[1]);
    } else if (node->op == OP_CMPLT && kernel_index_of(verifier->kernel, node->source[0], &a) &&
               kernel_index_of(verifier->kernel, node->source[1], &b)) {
        add_fact(verifier, a, b);
    }
}

static int64_t scale_in(const Verifier *verifier, Index index, int32_t atom) {
    const Term *terms;
    int count = index_terms(verifier->table, index, &terms);
    for (int i = 0; i < count; i++)
        if (terms[i].atom == atom) return terms[i].scale;
    return 0;
}

static int64_t bound(const Verifier *verifier, Index index, bool upper, int depth);

// How much less than its interval says an atom can be (upper), or more: the facts hold inside
// quotients, too.
static int64_t quotient_slack(const Verifier *verifier, const Atom *atom, bool upper, int depth) {
    if (atom->kind != ATOM_DIV) return 0;
    int64_t of = bound(verifier, atom->of, upper, depth), by = atom->by;
    int64_t quotient = of / by - (of % by < 0);
    return upper ? atom->high - quotient : quotient - atom->low;
}

static int64_t end_of(const Verifier *verifier, Index index, bool upper, int depth) {
    int64_t end = upper ? index_high(verifier->table, index) : -index_low(verifier->table, index);
    const Term *terms;
    int count = index_terms(verifier->table, index, &terms);
    for (int i = 0; i < count && end < INT64_MAX / 2 && depth && verifier->facts.count; i++) {
        const Atom *atom = index_atom_of(verifier->table, terms[i].atom);
        int64_t slack = quotient_slack(verifier, atom, (terms[i].scale > 0) == upper, depth - 1),
                less;
        if (slack > 0 && !__builtin_mul_overflow(slack, labs(terms[i].scale), &less)) end -= less;
    }
    return end;
}

// A bound of `index` from its interval and the facts. Taking c times a fact away moves the index up
// if c is positive, down if negative; c is chosen so that an atom vanishes, the best one of each
// fact. Inner loops come last in the list and go first, since their limits speak of outer loops.
static int64_t bound(const Verifier *verifier, Index index, bool upper, int depth) {
    IndexTable *table = verifier->table;
    for (int i = verifier->facts.count - 1; i >= 0; i--) {
        Index fact = verifier->facts.at[i], best = index;
        const Term *terms;
        int count = index_terms(table, fact, &terms);
        for (int t = 0; t < count; t++) {
            int64_t scale = scale_in(verifier, index, terms[t].atom);
            if (!scale || scale % terms[t].scale || (scale / terms[t].scale > 0) != upper) continue;
            Index moved = index_sub(table, index, index_scale(table, fact, scale / terms[t].scale));
            if (end_of(verifier, moved, upper, depth) <= end_of(verifier, best, upper, depth))
                best = moved;
        }
        index = best;
    }
    return upper ? end_of(verifier, index, true, depth) : -end_of(verifier, index, false, depth);
}

enum { QUOTIENTS = 2 };  // inside one another that are looked into

static void check_bounds(Verifier *verifier, int32_t buffer, Index index, Id condition) {
    const KernelBuffer *info = &verifier->kernel->buffers.at[buffer];
    if (verifier->never) return;
    int facts = verifier->facts.count;
    add_condition_facts(verifier, condition);
    add_condition_facts(verifier, verifier->at->condition);
    int64_t low = bound(verifier, index, false, QUOTIENTS),
            high = bound(verifier, index, true, QUOTIENTS);
    verifier->facts.count = facts;
    bool guarded = condition >= 0 || verifier->at->condition >= 0;
    if ((low < 0 || high >= info->size) && !guarded)
        refuse(verifier, "%s is indexed from %lld to %lld, it has %lld elements", info->name,
               (long long)low, (long long)high, (long long)info->size);
}

// ---- stores ------------------------------------------------------------------------------------

static void check_scope(const Verifier *verifier, LoopSet used, LoopSet allowed) {
    if (loop_set_within(used, allowed)) return;
    for (int32_t loop = 0; loop < verifier->kernel->loops.count; loop++)
        if (loop_set_has(&used, loop) && !loop_set_has(&allowed, loop))
            refuse(verifier, "loop %s is not around it", loop_name(verifier, loop));
}

static void check_node(Verifier *verifier, Id id) {
    const Node *node = graph_node(verifier->graph, id);
    bool known = node->op == OP_CONST || node->op == OP_LOAD || node->op == OP_INDEX ||
                 node->op == OP_REDUCE || ops[node->op].properties & MAPS;
    if (!known || node->rank) refuse(verifier, "%s has no place in a kernel", ops[node->op].text);
    if (node->op == OP_INDEX && node->dtype != DT_I32 && node->dtype != DT_I64)
        refuse(verifier, "an index is i32 or i64, not %s", dtypes[node->dtype].text);
    if (node->op == OP_LOAD) {
        if (node->dtype != verifier->kernel->buffers.at[node->arg[0]].dtype)
            refuse(verifier, "a load of %s gives %s",
                   verifier->kernel->buffers.at[node->arg[0]].name, dtypes[node->dtype].text);
        check_bounds(verifier, (int32_t)node->arg[0], (Index)node->arg[1],
                     node->sources ? node->source[0] : -1);
    }
    for (int64_t i = 0; node->op == OP_REDUCE && i < node->arg[1]; i++)
        if (loop_set_has(&verifier->run, (int32_t)node->arg[2 + i]))
            refuse(verifier, "loop %s is run by a statement and by a reduce",
                   loop_name(verifier, (int32_t)node->arg[2 + i]));
}

// An update reads the element that it replaces, an init does not.
static void check_role(const Verifier *verifier, IdList nodes) {
    const Statement *store = verifier->at;
    bool reads = false;
    for (int i = 0; i < nodes.count; i++) {
        const Node *node = graph_node(verifier->graph, nodes.at[i]);
        reads |=
            node->op == OP_LOAD && node->arg[0] == store->buffer && node->arg[1] == store->index;
    }
    if (store->role == ROLE_UPDATE && !reads) refuse(verifier, "an update reads what it updates");
    if (store->role == ROLE_INIT && reads) refuse(verifier, "an init reads what it initialises");
}

static void check_apart(const Verifier *verifier, int32_t loop, const char *who) {
    LoopSet used = kernel_loops_of_index(verifier->kernel, verifier->at->index);
    if (loop < 0 || loop_set_has(&used, loop)) return;
    if (index_high(verifier->table, verifier->kernel->loops.at[loop].extent) > 1)
        refuse(verifier, "all %s of loop %s write the same element", who,
               loop_name(verifier, loop));
}

static void check_race(const Verifier *verifier) {
    Space space = verifier->kernel->buffers.at[verifier->at->buffer].space;
    if (!space_is_common(space)) return;
    check_apart(verifier, verifier->thread, "threads");
    check_apart(verifier, verifier->warp, "warps");
    if (space == SPACE_PARAM) check_apart(verifier, verifier->block, "blocks");
}

static void check_store(Verifier *verifier) {
    const Statement *store = verifier->at;
    const KernelBuffer *buffer = &verifier->kernel->buffers.at[store->buffer];
    DType dtype = node_dtype(verifier->graph, store->value);
    IdList nodes = statement_nodes(verifier->arena, verifier->kernel, store);
    check_scope(verifier, kernel_loops_of(verifier->kernel, store->value), verifier->running);
    check_scope(verifier, kernel_loops_of_index(verifier->kernel, store->index), verifier->running);
    if (dtype != buffer->dtype)
        refuse(verifier, "stores %s in a buffer of %s", dtypes[dtype].text,
               dtypes[buffer->dtype].text);
    if (!buffer->written) refuse(verifier, "stores in an input");
    if (store->condition >= 0) {
        check_scope(verifier, kernel_loops_of(verifier->kernel, store->condition),
                    verifier->running);
        if (node_dtype(verifier->graph, store->condition) != DT_BOOL)
            refuse(verifier, "its condition is not a bool");
    }
    for (int i = 0; i < nodes.count; i++) check_node(verifier, nodes.at[i]);
    check_bounds(verifier, store->buffer, store->index, -1);
    check_role(verifier, nodes);
    check_race(verifier);
    bool copies = graph_node(verifier->graph, store->value)->op == OP_LOAD &&
                  buffer->space == SPACE_SHARED && dtypes[dtype].bytes == 4;
    if (store->role == ROLE_ASYNC && !copies)
        refuse(verifier, "what is copied while others compute is plain, of 4 bytes, and shared");
}

// ---- loops -------------------------------------------------------------------------------------

static void check_list(Verifier *verifier, const Statement *list);

static void check_place(const Verifier *verifier, const Loop *loop, bool constant, int64_t extent) {
    bool lanes = loop->kind == LOOP_THREAD && verifier->warp >= 0;
    if (loop->kind == LOOP_BLOCK && !loop_set_within(verifier->running, (LoopSet){0}))
        refuse(verifier, "a block loop is outermost");
    if (loop->kind == LOOP_WARP &&
        (verifier->block < 0 || verifier->warp >= 0 || verifier->thread >= 0))
        refuse(verifier, "a warp loop is in a block, and in no other loop over warps or threads");
    if ((loop->kind == LOOP_WARP || lanes) && (!constant || extent > WARP_THREADS))
        refuse(verifier, "a block has up to %d warps, and a warp %d threads", WARP_THREADS,
               WARP_THREADS);
}

static void check_kind(const Verifier *verifier, const Statement *statement) {
    const Loop *loop = &verifier->kernel->loops.at[statement->loop];
    int64_t extent = 0;
    bool constant = index_is_const(verifier->table, loop->extent, &extent);
    check_place(verifier, loop, constant, extent);
    if (verifier->vector >= 0)
        refuse(verifier, "the vector loop %s is not innermost",
               loop_name(verifier, verifier->vector));
    if (loop->kind == LOOP_THREAD && verifier->thread >= 0)
        refuse(verifier, "inside the thread loop %s", loop_name(verifier, verifier->thread));
    if (loop->kind == LOOP_VECTOR && (!constant || extent < 1 || extent & (extent - 1)))
        refuse(verifier, "a vector loop has a constant power of two of iterations");
    if (loop->kind == LOOP_VECTOR && loop->limit >= 0)
        refuse(verifier, "a vector loop has no limit");
    TileUse tile;
    const char *wrong =
        loop->kind == LOOP_TILE ? kernel_tile(verifier->kernel, statement, &tile) : NULL;
    if (wrong) refuse(verifier, "%s", wrong);
    bool alone = verifier->block >= 0 && verifier->warp < 0 && verifier->thread < 0;
    if (loop->kind == LOOP_TILE && tile.kind == TILE_BULK && !alone)
        refuse(verifier, "a bulk copy is a block's, in no loop over warps or threads");
    if (loop->kind == LOOP_UNROLL && !loop->steps && !constant)
        refuse(verifier, "an unrolled loop has a constant number of iterations");
}

static void check_loop(Verifier *verifier, const Statement *statement) {
    Verifier before = *verifier;
    const Loop *loop = &verifier->kernel->loops.at[statement->loop];
    if (loop_set_has(&verifier->seen, statement->loop)) refuse(verifier, "the loop is run twice");
    loop_set_add(&verifier->seen, statement->loop);
    check_scope(verifier, kernel_loops_of_index(verifier->kernel, loop->extent), (LoopSet){0});
    if (loop->limit >= 0)
        check_scope(verifier, kernel_loops_of_index(verifier->kernel, loop->limit),
                    verifier->running);
    check_kind(verifier, statement);
    if (!statement->body) refuse(verifier, "an empty loop");
    loop_set_add(&verifier->running, statement->loop);
    if (loop->kind == LOOP_BLOCK) verifier->block = statement->loop;
    if (loop->kind == LOOP_WARP) verifier->warp = statement->loop;
    if (loop->kind == LOOP_THREAD) verifier->thread = statement->loop;
    if (loop->kind == LOOP_VECTOR) verifier->vector = statement->loop;
    verifier->never |= index_high(verifier->table, loop->extent) <= 0;
    add_loop_facts(verifier, statement->loop);
    check_list(verifier, statement->body);
    verifier->facts.count = before.facts.count;
    verifier->running = before.running;
    verifier->block = before.block;
    verifier->warp = before.warp;
    verifier->thread = before.thread;
    verifier->vector = before.vector;
    verifier->never = before.never;
}

static void check_list(Verifier *verifier, const Statement *list) {
    for (; list; list = list->next) {
        verifier->at = list;
        if (list->kind == STATEMENT_LOOP) check_loop(verifier, list);
        if (list->kind == STATEMENT_STORE) check_store(verifier);
        bool meets = list->kind != STATEMENT_LOOP && list->kind != STATEMENT_STORE;
        if (meets && verifier->thread >= 0)
            refuse(verifier, "inside the thread loop %s", loop_name(verifier, verifier->thread));
    }
}

// ---- memory of one thread ----------------------------------------------------------------------

typedef struct {
    bool stored;     // by statements inside a thread loop
    bool elsewhere;  // touched in several thread loops, or in one and outside
    int32_t thread;  // the loop that it was first touched in; -1 outside, -2 not yet
} Touch;

static void touch_list(Verifier *verifier, Statement *list, int32_t thread, Touch *touch) {
    for (; list; list = list->next) {
        bool threads = list->kind == STATEMENT_LOOP &&
                       verifier->kernel->loops.at[list->loop].kind == LOOP_THREAD;
        if (list->kind == STATEMENT_LOOP)
            touch_list(verifier, list->body, threads ? list->loop : thread, touch);
        if (list->kind != STATEMENT_STORE) continue;
        Statement one = *list;
        one.next = NULL;
        AccessList accesses = kernel_accesses(verifier->arena, verifier->kernel, &one, -1);
        for (int i = 0; i < accesses.count; i++) {
            Touch *it = &touch[accesses.at[i].buffer];
            if (it->thread == -2) it->thread = thread;
            if (it->thread != thread) it->elsewhere = true;
            it->stored |= thread >= 0 && accesses.at[i].load < 0;
        }
    }
}

// A thread loop writes a thread's own memory for itself only: other loops may divide otherwise.
static void check_threads(Verifier *verifier) {
    int32_t count = verifier->kernel->buffers.count;
    Touch *touch = arena_array(verifier->arena, Touch, count);
    for (int32_t i = 0; i < count; i++) touch[i].thread = -2;
    touch_list(verifier, verifier->kernel->body, -1, touch);
    verifier->at = NULL;
    for (int32_t i = 0; i < count; i++) {
        const KernelBuffer *buffer = &verifier->kernel->buffers.at[i];
        bool own = buffer->space == SPACE_REGISTER || buffer->space == SPACE_THREAD;
        if (own && touch[i].stored && touch[i].elsewhere)
            refuse(verifier,
                   "%s is written in a thread loop and used outside. Hint: make it shared",
                   buffer->name);
    }
}

static void check_spreads(Verifier *verifier) {
    verifier->at = NULL;
    for (int32_t i = 0; i < verifier->kernel->buffers.count; i++) {
        Spread spread;
        if (space_is_common(verifier->kernel->buffers.at[i].space)) continue;
        const char *wrong = kernel_spread(verifier->kernel, i, &spread);
        if (wrong) refuse(verifier, "%s %s", verifier->kernel->buffers.at[i].name, wrong);
    }
}

void kernel_verify(const Kernel *kernel) {
    Verifier verifier = {.kernel = kernel,
                         .graph = kernel->graph,
                         .table = graph_indices(kernel->graph),
                         .arena = graph_arena(kernel->graph),
                         .run = kernel_loops_inside(kernel->body),
                         .block = -1,
                         .warp = -1,
                         .thread = -1,
                         .vector = -1};
    for (int32_t loop = 0; loop < kernel->loops.count; loop++)
        if (!loop_set_has(&verifier.run, loop)) add_loop_facts(&verifier, loop);
    for (int32_t i = 0; i < kernel->buffers.count; i++) {
        const KernelBuffer *buffer = &kernel->buffers.at[i];
        if (buffer->space == SPACE_PARAM && i > 0 && buffer[-1].space != SPACE_PARAM)
            refuse(&verifier, "the PARAM %s comes after a local buffer", buffer->name);
        if (buffer->streams && (buffer->space != SPACE_PARAM || !buffer->written))
            refuse(&verifier, "%s streams, but it is no result", buffer->name);
    }
    check_list(&verifier, kernel->body);
    if (kernel_has_blocks(kernel))
        check_spreads(&verifier);
    else
        check_threads(&verifier);
}
