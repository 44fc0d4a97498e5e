/* kernel_spread.c - blocks of a GPU: which of a block's threads holds an element of a buffer that
 * lies in registers.
 * In: a kernel with block loops, a buffer.  Out: how its elements are spread.
 * Invariant: an element is the same thread's wherever it is used: the loops over warps and threads,
 * or digits of their numbers, are digits of the index, of equal place and range in all accesses.
 *   thread for t < 64 { for i < 8 { s[8*t + i] = .. } }   =>   thread t holds s[i], 8 elements
 *   thread for t < 64 { for i < 8 { s[64*(t/8) + 8*i + t%8] = .. } }   =>   the same             */
#include "ir/ir.h"

#include <string.h>

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

// The loop of whose number the atom is a digit, without a stride: t, t/8, t%8, t/8%4; -1: of none.
// extent 0: all that is left of the number.
static int32_t digit_of(const IndexTable *table, const Atom *atom, Digit *digit) {
    const Term *terms;
    *digit = (Digit){.by = 1};
    if (atom->kind == ATOM_LOOP) return atom->of;
    if (atom->kind != ATOM_DIV && atom->kind != ATOM_MOD) return -1;
    bool alone = index_terms(table, atom->of, &terms) == 1 && terms->scale == 1 &&
                 !index_constant(table, atom->of);
    int32_t loop = alone ? digit_of(table, index_atom_of(table, terms->atom), digit) : -1;
    if (loop < 0 || digit->extent % atom->by) return -1;
    if (atom->kind == ATOM_MOD) {
        digit->extent = atom->by;
        return loop;
    }
    digit->extent /= atom->by;
    return __builtin_mul_overflow(digit->by, atom->by, &digit->by) ? -1 : loop;
}

// Lower digits of the number first. False if they overlap.
static bool add_digit(DigitList *to, Digit digit) {
    Digit *at = to->digit + to->count;
    if (to->count == DIGITS_MAX) return false;
    for (; at > to->digit && at[-1].by > digit.by; at--) *at = at[-1];
    *at = digit;
    bool behind = at == to->digit || at[-1].by * at[-1].extent <= digit.by,
         before = at == to->digit + to->count || digit.by * digit.extent <= at[1].by;
    to->count++;
    return behind && before;
}

// NULL, or why the index has no digits of the loop's number.
static const char *find_digits(const Kernel *kernel, const Statement *around, Index index,
                               DigitList *to) {
    static const char *const none = "has an index of which the loop over threads is no digit";
    IndexTable *table = graph_indices(kernel->graph);
    const Term *terms;
    int64_t threads;
    *to = (DigitList){0};
    if (!around || !index_uses(table, index, ATOM_LOOP, around->loop)) return NULL;
    if (!index_is_const(table, kernel->loops.at[around->loop].extent, &threads) ||
        threads > BLOCK_THREADS_MAX)
        return "is spread over a number of threads that is no constant up to 1024";
    for (int i = 0; i < index_terms(table, index, &terms); i++) {
        Digit digit;
        const Atom *atom = index_atom_of(table, terms[i].atom);
        Index alone = index_scale(table, index_of_atom(table, atom), terms[i].scale);
        if (!index_uses(table, alone, ATOM_LOOP, around->loop)) continue;
        if (digit_of(table, atom, &digit) < 0) return none;
        digit.stride = terms[i].scale;
        if (!digit.extent) digit.extent = threads / digit.by;
        bool whole = digit.by <= threads && digit.extent && digit.extent <= threads &&
                     threads % (digit.by * digit.extent) == 0;
        if (!whole || digit.stride < 1 ||
            !is_apart(table, index_sub(table, index, alone), &digit) || !add_digit(to, digit))
            return none;
    }
    return NULL;
}

// A warp's product: its threads are digits by the unit's order.
static bool is_warp_tile(const Kernel *kernel, const Access *access, Spread *spread) {
    const Statement *around = kernel_tile_around(kernel, access->statement);
    TileUse tile;
    if (!around || kernel_tile(kernel, around, &tile) ||
        (tile.kind != TILE_WARP && tile.kind != TILE_WARPGROUP))
        return false;
    int64_t stride = access->buffer == tile.buffer[0] ? 2 : 1;
    spread->thread = (DigitList){1, {{1, WARP_THREADS, stride}}};
    return true;
}

static int64_t holders(const DigitList *digits) {
    int64_t count = 1;
    for (int i = 0; i < digits->count; i++) count *= digits->digit[i].extent;
    return count;
}

static bool digits_equal(const DigitList *a, const DigitList *b) {
    return a->count == b->count && !memcmp(a->digit, b->digit, (size_t)a->count * sizeof *a->digit);
}

// Each of the loop's iterations has elements of its own.
static bool covers(const Kernel *kernel, const Statement *loop, const DigitList *digits) {
    IndexTable *table = graph_indices(kernel->graph);
    return holders(digits) == index_high(table, kernel->loops.at[loop->loop].extent);
}

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
        const Statement *warp = kernel_around(kernel, access->statement, LOOP_WARP);
        const char *wrong = find_digits(kernel, warp, access->index, &here.warp);
        if (!wrong && !is_warp_tile(kernel, access, &here))
            wrong = find_digits(kernel, thread, access->index, &here.thread);
        if (wrong) return wrong;
        if (i == 0) *spread = here, in_loop = thread, launch = in;
        if (in != launch)
            return "is in registers and used in several launches. Hint: make it shared";
        if (!digits_equal(&here.warp, &spread->warp) ||
            !digits_equal(&here.thread, &spread->thread))
            return "is spread over threads in one place and otherwise in another";
        elsewhere |= thread != in_loop;
        if (access->load >= 0 || !thread) continue;
        stored_in = thread;
        several |= loop_set_meets(kernel_loops_inside(thread->body),
                                  kernel_loops_of_index(kernel, access->index));
    }
    spread->folded = stored_in && elsewhere && !spread->thread.count;
    if (spread->folded && several) return "is folded by all threads in more than one element";
    bool some = stored_in && spread->thread.count && !covers(kernel, stored_in, &spread->thread);
    return some && elsewhere ? "is one element of several threads, of which each has its own"
                             : NULL;
}

static Index without(IndexTable *table, Index element, const Digit *digit) {
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
    for (int64_t below = INT64_MAX;;) {  // the higher digit of the index goes first
        const Digit *next = NULL;
        for (int i = 0; i < 2 * DIGITS_MAX; i++) {
            const DigitList *of = i < DIGITS_MAX ? &spread->warp : &spread->thread;
            const Digit *digit = &of->digit[i % DIGITS_MAX];
            if (i % DIGITS_MAX >= of->count || digit->stride >= below) continue;
            if (!next || digit->stride > next->stride) next = digit;
        }
        if (!next) return element;
        element = without(table, element, next);
        below = next->stride;
    }
}

int64_t kernel_own_size(const Spread *spread, int64_t size) {
    int64_t all = holders(&spread->warp) * holders(&spread->thread);
    return (size + all - 1) / all;
}
