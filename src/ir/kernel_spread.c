/* kernel_spread.c - blocks of a GPU: which of a block's threads holds an element of a buffer that
 * lies in registers.
 * In: a kernel with block loops, a buffer.  Out: how its elements are spread.
 * Invariant: an element is the same thread's wherever it is used: the loops over warps and threads
 * are digits of the index, of equal place and range in all accesses.
 *   thread for t < 64 { for i < 8 { s[8*t + i] = .. } }   =>   thread t holds s[i], 8 elements   */
#include "ir/ir.h"

static bool has_kind(const Kernel *kernel, const Statement *list, LoopKind kind) {
    for (; list; list = list->next) {
        if (list->kind != STATEMENT_LOOP) continue;
        if (kernel->loops.at[list->loop].kind == kind || has_kind(kernel, list->body, kind))
            return true;
    }
    return false;
}

bool kernel_has_blocks(const Kernel *kernel) { return has_kind(kernel, kernel->body, LOOP_BLOCK); }

const Statement *kernel_around(const Kernel *kernel, const Statement *statement, LoopKind kind) {
    const Statement *at = kernel_parent(kernel, statement);
    while (at && kernel->loops.at[at->loop].kind != kind) at = kernel_parent(kernel, at);
    return at;
}

// What is left of the index fits between the digit's steps, or counts whole turns of it.
static bool is_apart(const IndexTable *table, Index rest, const Digit *digit) {
    int64_t turn, low, high, constant = index_constant(table, rest);
    const Term *terms;
    int count = index_terms(table, rest, &terms);
    if (constant < 0 || __builtin_mul_overflow(digit->stride, digit->extent, &turn)) return false;
    low = high = constant % turn;
    for (int i = 0; i < count; i++) {
        const Atom *atom = index_atom_of(table, terms[i].atom);
        if (terms[i].scale % turn == 0 && terms[i].scale > 0) continue;
        int64_t span;
        if (terms[i].scale < 0 || atom->low < 0 ||
            __builtin_mul_overflow(terms[i].scale, atom->high, &span) ||
            __builtin_add_overflow(high, span, &high))
            return false;
    }
    return low / digit->stride == high / digit->stride && high < digit->stride;
}

// NULL, or why the loop is no digit of the index.
static const char *find_digit(const Kernel *kernel, const Statement *around, Index index,
                              Digit *digit) {
    IndexTable *table = graph_indices(kernel->graph);
    *digit = (Digit){0};
    if (!around) return NULL;
    if (!index_stride(table, index, around->loop, &digit->stride))
        return "has an index of which the loop over threads is no digit";
    if (!digit->stride) return NULL;
    if (!index_is_const(table, kernel->loops.at[around->loop].extent, &digit->extent) ||
        digit->extent > BLOCK_THREADS_MAX)
        return "is spread over a number of threads that is no constant up to 1024";
    Index rest = index_replace(table, index, ATOM_LOOP, around->loop, index_const(table, 0));
    if (digit->stride < 0 || !is_apart(table, rest, digit))
        return "has an index of which the loop over threads is no digit";
    return NULL;
}

// A warp's product: its threads are digits by the unit's order.
static bool is_warp_tile(const Kernel *kernel, const Access *access, Spread *spread) {
    const Statement *around = kernel_tile_around(kernel, access->statement);
    TileUse tile;
    if (!around || kernel_tile(kernel, around, &tile) ||
        (tile.kind != TILE_WARP && tile.kind != TILE_WARPGROUP))
        return false;
    spread->thread = (Digit){access->buffer == tile.buffer[0] ? 2 : 1, WARP_THREADS};
    return true;
}

static bool digits_equal(Digit a, Digit b) { return a.stride == b.stride && a.extent == b.extent; }

// What is launched with the statement: its block loop, or all that stands in a row without one.
static const Statement *launch_of(const Kernel *kernel, const Statement *statement) {
    const Statement *top = statement, *first = NULL;
    for (const Statement *at = top; at; at = kernel_parent(kernel, at)) top = at;
    for (const Statement *at = kernel->body; at; at = at->next) {
        bool is_block = at->kind == STATEMENT_LOOP && kernel->loops.at[at->loop].kind == LOOP_BLOCK;
        if (is_block || !first) first = at;
        if (at == top) return first;
        if (is_block) first = NULL;
    }
    return NULL;
}

const char *kernel_spread(const Kernel *kernel, int32_t buffer, Spread *spread) {
    AccessList accesses = kernel_accesses(graph_arena(kernel->graph), kernel, kernel->body, buffer);
    const Statement *launch = NULL, *in_loop = NULL, *stored_in = NULL;
    bool elsewhere = false;  // used in other loops over threads, or outside of them
    bool several = false;    // elements are stored to in a loop over threads
    *spread = (Spread){0};
    for (int i = 0; i < accesses.count; i++) {
        const Access *access = &accesses.at[i];
        const Statement *thread = kernel_around(kernel, access->statement, LOOP_THREAD);
        const Statement *in = launch_of(kernel, access->statement);
        Spread here = {0};
        const char *wrong = find_digit(kernel, kernel_around(kernel, access->statement, LOOP_WARP),
                                       access->index, &here.warp);
        if (!wrong && !is_warp_tile(kernel, access, &here))
            wrong = find_digit(kernel, thread, access->index, &here.thread);
        if (wrong) return wrong;
        if (i == 0) *spread = here, in_loop = thread, launch = in;
        if (in != launch)
            return "is in registers and used in several launches. Hint: make it shared";
        if (!digits_equal(here.warp, spread->warp) || !digits_equal(here.thread, spread->thread))
            return "is spread over threads in one place and otherwise in another";
        elsewhere |= thread != in_loop;
        if (access->load >= 0 || !thread) continue;
        stored_in = thread;
        several |= loop_set_meets(kernel_loops_inside(thread->body),
                                  kernel_loops_of_index(kernel, access->index));
    }
    spread->folded = stored_in && elsewhere && !spread->thread.extent;
    if (spread->folded && several) return "is folded by all threads in more than one element";
    return NULL;
}

static Index without(IndexTable *table, Index element, const Digit *digit) {
    if (!digit->extent) return element;
    Index turns = index_div(table, element, digit->stride * digit->extent);
    return index_add(table, index_scale(table, turns, digit->stride),
                     index_mod(table, element, digit->stride));
}

Index kernel_own_element(const Kernel *kernel, const Spread *spread, int32_t warp, int32_t thread,
                         Index element) {
    IndexTable *table = graph_indices(kernel->graph);
    Index zero = index_const(table, 0);
    if (warp >= 0) element = index_replace(table, element, ATOM_LOOP, warp, zero);
    if (thread >= 0) element = index_replace(table, element, ATOM_LOOP, thread, zero);
    bool thread_first = spread->thread.stride > spread->warp.stride;  // the higher digit goes first
    element = without(table, element, thread_first ? &spread->thread : &spread->warp);
    return without(table, element, thread_first ? &spread->warp : &spread->thread);
}

int64_t kernel_own_size(const Spread *spread, int64_t size) {
    int64_t holders = max_i64(spread->warp.extent, 1) * max_i64(spread->thread.extent, 1);
    return (size + holders - 1) / holders;
}
