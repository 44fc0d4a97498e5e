/* scan.c - what lowering must know of a whole kernel: what becomes variables, where threads meet.
 * In: a kernel.  Out: a promotion per buffer; the statements that a barrier must precede.
 * Invariants: a promoted buffer's accesses are constant once unrolled; between an access of shared
 * memory and a later one of the same, one of the two a write by another thread, there is a barrier.
 *   thread for i < 64 { p[i] = a[i] } thread for j < 64 { c[j] = p[j + 1] } => before the second */
#include "codegen/lower.h"

#include <string.h>

enum { VARIABLES_MAX = 256 };  // of one buffer; far above any register file

// ---- promotion ---------------------------------------------------------------------------------

// How many lanes an access moves: those of the vector loop around it; 1 if it does not depend on
// that loop; 0 if it is not constant once unrolled, or its lanes do not fill a variable.
static int access_lanes(const Kernel *kernel, const Access *access, bool in_blocks) {
    IndexTable *table = graph_indices(kernel->graph);
    LoopSet loops = kernel_loops_of_index(kernel, access->index);
    Index zero = index_const(table, 0), first = access->index, constant;
    int lanes = 1;
    const Statement *around = kernel_parent(kernel, access->statement);
    if (around && kernel->loops.at[around->loop].kind == LOOP_VECTOR &&
        loop_set_has(&loops, around->loop)) {
        int64_t stride, extent, rest;
        if (!index_stride(table, access->index, around->loop, &stride) || stride != 1) return 0;
        first = index_replace(table, access->index, ATOM_LOOP, around->loop, zero);
        if (!index_is_const(table, kernel->loops.at[around->loop].extent, &extent)) return 0;
        if (!index_is_const(table, index_mod(table, first, extent), &rest) || rest) return 0;
        lanes = (int)extent;
    }
    constant = first;
    for (int32_t loop = 0; loop < kernel->loops.count; loop++) {
        const Loop *info = &kernel->loops.at[loop];
        bool written_out = info->kind == LOOP_UNROLL && !info->steps;
        bool spread = in_blocks && (info->kind == LOOP_THREAD || info->kind == LOOP_WARP);
        if (loop_set_has(&loops, loop) && (written_out || spread))
            constant = index_replace(table, constant, ATOM_LOOP, loop, zero);
    }
    return index_is_const(table, constant, &(int64_t){0}) ? lanes : 0;
}

Promotion *scan_promotions(Arena *arena, const Kernel *kernel) {
    Promotion *promotion = arena_array(arena, Promotion, kernel->buffers.count);
    bool in_blocks = kernel_has_blocks(kernel);
    for (int32_t buffer = 0; buffer < kernel->buffers.count; buffer++) {
        Spread *spread = &promotion[buffer].spread;
        bool own = !space_is_common(kernel->buffers.at[buffer].space);
        if (in_blocks && own && kernel_spread(kernel, buffer, spread))
            fatal("lower: kernel %s was not verified", kernel->name);
        if (kernel->buffers.at[buffer].space != SPACE_REGISTER) continue;
        AccessList accesses = kernel_accesses(arena, kernel, kernel->body, buffer);
        int lanes = 1;
        bool in_tile = false;  // of a warp: an array, whose elements the instruction names
        for (int i = 0; i < accesses.count && in_blocks; i++)
            in_tile |= kernel_tile_around(kernel, accesses.at[i].statement) != NULL;
        if (in_tile) continue;
        if (accesses.count && kernel_tile_around(kernel, accesses.at[0].statement)) {
            promotion[buffer].lanes =
                UNIT_ROWS * UNIT_BYTES / dtypes[kernel->buffers.at[buffer].dtype].bytes;
            continue;
        }
        for (int i = 0; lanes && i < accesses.count; i++) {
            int moves = access_lanes(kernel, &accesses.at[i], in_blocks);
            if (moves != 1) lanes = moves && (lanes == 1 || lanes == moves) ? moves : 0;
        }
        int64_t size = kernel_own_size(spread, kernel->buffers.at[buffer].size);
        if (lanes && size > (int64_t)lanes * VARIABLES_MAX) lanes = 0;
        promotion[buffer].lanes = lanes;
    }
    return promotion;
}

// ---- threads -----------------------------------------------------------------------------------

bool scan_has_thread_loop(const Kernel *kernel, const Statement *list) {
    for (; list; list = list->next) {
        if (list->kind != STATEMENT_LOOP) continue;
        if (kernel->loops.at[list->loop].kind == LOOP_THREAD) return true;
        if (scan_has_thread_loop(kernel, list->body)) return true;
    }
    return false;
}

static bool is_common(const Kernel *kernel, int32_t buffer) {  // memory that all threads see
    return space_is_common(kernel->buffers.at[buffer].space);
}

static bool is_shared_out(const Kernel *kernel, int32_t loop) {
    LoopKind kind = kernel->loops.at[loop].kind;
    return kind == LOOP_THREAD || kind == LOOP_WARP;
}

bool scan_is_for_one(const Kernel *kernel, const Statement *statement) {
    if (statement->kind == STATEMENT_STORE) return is_common(kernel, statement->buffer);
    if (statement->kind != STATEMENT_LOOP) return false;
    if (is_shared_out(kernel, statement->loop)) return false;
    for (const Statement *inner = statement->body; inner; inner = inner->next)
        if (!scan_is_for_one(kernel, inner)) return false;
    return true;
}

// What has been done with a buffer since the last barrier, by all threads or by thread 0 alone. An
// asynchronous copy is BEGUN, and then WRITTEN at the next SETTLE: until then nobody reads there.
// So is a store APART, and what was read before it lies elsewhere.
enum {
    READ_BY_ALL = 1,
    WRITTEN_BY_ALL = 2,
    READ_BY_ONE = 4,
    WRITTEN_BY_ONE = 8,
    BEGUN_BY_ALL = 16,
    APART_BY_ALL = 32,
    BEGUN_BY_ONE = 64,
    APART_BY_ONE = 128,
    BEGUN = BEGUN_BY_ALL | BEGUN_BY_ONE,
    APART = APART_BY_ALL | APART_BY_ONE
};

typedef struct {
    Arena *arena;
    const Kernel *kernel;
    const bool *aliased;
    StatementList needed;
    const Statement *without;  // of those: is it? NULL: they are being found
    bool missed;
} Scan;

// Buffers that may be the same memory count as one.
static int32_t memory_of(const Scan *scan, int32_t buffer) {
    if (!scan->aliased || scan->kernel->buffers.at[buffer].space != SPACE_PARAM) return buffer;
    for (int32_t other = 0; scan->aliased[buffer] && other < buffer; other++)
        if (scan->aliased[other]) return other;
    return buffer;
}

// What a loop's limit reads.
static void add_limit(const Scan *scan, int32_t loop, uint8_t *done) {
    Statement limit = {.index = scan->kernel->loops.at[loop].limit, .value = -1};
    limit.condition = -1;
    if (limit.index < 0) return;
    IdList nodes = statement_nodes(scan->arena, scan->kernel, &limit);
    for (int i = 0; i < nodes.count; i++) {
        const Node *node = graph_node(scan->kernel->graph, nodes.at[i]);
        if (node->op == OP_LOAD && is_common(scan->kernel, (int32_t)node->arg[0]))
            done[memory_of(scan, (int32_t)node->arg[0])] |= READ_BY_ALL;
    }
}

static void add_accesses(const Scan *scan, const Statement *list, bool inside, uint8_t *done) {
    for (; list; list = list->next) {
        if (list->kind == STATEMENT_LOOP) add_limit(scan, list->loop, done);
        if (list->kind == STATEMENT_LOOP)
            add_accesses(scan, list->body, inside || is_shared_out(scan->kernel, list->loop), done);
        if (list->kind != STATEMENT_STORE) continue;
        bool one = !inside && is_common(scan->kernel, list->buffer);
        Statement store = *list;
        store.next = NULL;
        AccessList accesses = kernel_accesses(scan->arena, scan->kernel, &store, -1);
        for (int i = 0; i < accesses.count; i++) {
            const Access *access = &accesses.at[i];
            int written = list->role == ROLE_ASYNC   ? BEGUN_BY_ALL
                          : list->role == ROLE_APART ? APART_BY_ALL
                                                     : WRITTEN_BY_ALL;
            int what = access->load < 0 ? written : READ_BY_ALL;
            if (is_common(scan->kernel, access->buffer))
                done[memory_of(scan, access->buffer)] |= (uint8_t)(one ? what << 2 : what);
        }
    }
}

static uint8_t *accesses_of(const Scan *scan, const Statement *statement) {
    uint8_t *done = arena_array(scan->arena, uint8_t, scan->kernel->buffers.count);
    Statement alone = *statement;
    alone.next = NULL;
    add_accesses(scan, &alone, false, done);
    return done;
}

// Places that are under way lie apart (transform_pipeline.c), so BEGUN after BEGUN is none.
static bool conflict(int before, int now) {
    now |= (now & BEGUN) / (BEGUN_BY_ALL / WRITTEN_BY_ALL);
    before &= ~(BEGUN | APART);
    if (now & APART && before & (WRITTEN_BY_ALL | WRITTEN_BY_ONE)) return true;
    int others = now & WRITTEN_BY_ALL   ? before
                 : now & WRITTEN_BY_ONE ? before & (READ_BY_ALL | WRITTEN_BY_ALL)
                                        : 0;
    if (now & READ_BY_ALL) others |= before & (WRITTEN_BY_ALL | WRITTEN_BY_ONE);
    if (now & READ_BY_ONE) others |= before & WRITTEN_BY_ALL;
    return others != 0;
}

static bool is_needed(const Scan *scan, const Statement *statement) {
    for (int i = 0; i < scan->needed.count; i++)
        if (scan->needed.at[i] == statement) return statement != scan->without;
    return false;
}

static bool conflicts(const Scan *scan, const uint8_t *done, const uint8_t *now) {
    for (int32_t i = 0; i < scan->kernel->buffers.count; i++)
        if (conflict(done[i], now[i])) return true;
    return false;
}

static void scan_list(Scan *scan, const Statement *list, uint8_t *done);

// A pass of the loop follows what was before the loop, or another pass.
static void scan_loop(Scan *scan, const Statement *loop, uint8_t *done) {
    int32_t buffers = scan->kernel->buffers.count;
    uint8_t *before = arena_array(scan->arena, uint8_t, buffers);
    for (bool more = true; more;) {
        memcpy(before, done, (size_t)buffers);
        scan_list(scan, loop->body, done);
        more = false;
        for (int32_t i = 0; i < buffers; i++) {
            more |= (done[i] & ~before[i]) != 0;
            done[i] |= before[i];
        }
    }
}

// What has begun stays so: a SETTLE waits for the oldest copies, and which they are is not known.
static void scan_meeting(const Scan *scan, StatementKind kind, uint8_t *done) {
    for (int32_t i = 0; i < scan->kernel->buffers.count; i++) {
        if (kind == STATEMENT_BARRIER) done[i] &= BEGUN | APART;
        if (kind != STATEMENT_SETTLE) continue;
        done[i] |= (done[i] & BEGUN) / (BEGUN_BY_ALL / WRITTEN_BY_ALL);
        done[i] |= (done[i] & APART) / (APART_BY_ALL / WRITTEN_BY_ALL);
        done[i] &= (uint8_t)~APART;
    }
}

// `done` goes from what was done before the list to what is done behind it.
static void scan_list(Scan *scan, const Statement *list, uint8_t *done) {
    for (; list; list = list->next) {
        size_t buffers = (size_t)scan->kernel->buffers.count;
        if (list->kind != STATEMENT_LOOP && list->kind != STATEMENT_STORE) {
            scan_meeting(scan, list->kind, done);
            continue;
        }
        LoopKind kind =
            list->kind == STATEMENT_LOOP ? scan->kernel->loops.at[list->loop].kind : LOOP_THREAD;
        if (kind == LOOP_BLOCK) {  // launched for itself
            memset(done, 0, buffers);
            scan_list(scan, list->body, done);
            memset(done, 0, buffers);
            continue;
        }
        if (kind == LOOP_WARP)  // meets the others as a whole, and itself inside
            scan_list(scan, list->body, arena_array(scan->arena, uint8_t, (int64_t)buffers));
        bool mixed =
            kind != LOOP_THREAD && kind != LOOP_WARP && !scan_is_for_one(scan->kernel, list);
        // Threads meet once before a loop if that saves them from meeting in each of its passes.
        bool whole = !mixed || !scan_has_thread_loop(scan->kernel, list->body);
        const uint8_t *now = accesses_of(scan, list);
        if (whole && !is_needed(scan, list) && conflicts(scan, done, now)) {
            scan->missed = true;
            if (!scan->without) *list_add(scan->arena, &scan->needed) = list;
        }
        if (is_needed(scan, list)) scan_meeting(scan, STATEMENT_BARRIER, done);
        if (mixed)
            scan_loop(scan, list, done);
        else
            for (size_t i = 0; i < buffers; i++) done[i] |= now[i];
    }
}

// A barrier that was found before one further up in a loop was may be there for nothing.
static void drop_needless(Scan *scan) {
    StatementList found = scan->needed;
    for (int i = 0; i < found.count && found.count > 1; i++) {
        scan->without = found.at[i];
        scan->missed = false;
        scan_list(scan, scan->kernel->body,
                  arena_array(scan->arena, uint8_t, scan->kernel->buffers.count));
        if (scan->missed) continue;
        for (int n = i; n + 1 < found.count; n++) found.at[n] = found.at[n + 1];
        found.count--;
        scan->needed = found;
        i--;
    }
}

StatementList scan_barriers(Arena *arena, const Kernel *kernel, const bool *aliased) {
    Scan scan = {.arena = arena, .kernel = kernel, .aliased = aliased};
    if (scan_has_thread_loop(kernel, kernel->body))
        scan_list(&scan, kernel->body, arena_array(arena, uint8_t, kernel->buffers.count));
    if (kernel_has_blocks(kernel)) drop_needless(&scan);
    return scan.needed;
}
