/* transform_legal.c - which iterations of a kernel may change places.
 * In: loops, statements.  Out: whether a change keeps the result; if not, which statement says so.
 * Invariant: "yes" is proven by index arithmetic; what cannot be proven is "no". Three things prove
 * that iterations do not depend on each other through a buffer: they touch different elements
 * (disjoint), they only fold into it by one operation (folds), or each writes before it reads and
 * nobody reads afterwards (private).
 *   for j < 80 { c[80*i + j] = .. }    80*i + j == 80*i + j' and j != j' cannot be              */
#include "schedule/schedule.h"

#include <stdlib.h>

static int64_t gcd(int64_t a, int64_t b) { return b ? gcd(b, a % b) : a; }

// ---- disjoint ----------------------------------------------------------------------------------

// An index as a sum: stride * loop + what other moving loops add + what stays while they move.
typedef struct {
    int64_t stride;
    int64_t low, high;  // of the moving terms smaller than the stride, and the constant
    int64_t period;     // the larger moving terms are multiples of it; 0: there are none
    Index fixed;
} Motion;

static bool reads_written(const Kernel *kernel, Id value) {
    IdList nodes = kernel_nodes(graph_arena(kernel->graph), kernel, value);
    for (int i = 0; i < nodes.count; i++) {
        const Node *node = graph_node(kernel->graph, nodes.at[i]);
        if (node->op == OP_LOAD && kernel->buffers.at[node->arg[0]].written) return true;
    }
    return false;
}

bool legal_element(const Kernel *kernel, Index index) {
    const IndexTable *table = graph_indices(kernel->graph);
    const Term *terms;
    int count = index_terms(table, index, &terms);
    for (int i = 0; i < count; i++) {
        const Atom *atom = index_atom_of(table, terms[i].atom);
        bool nested = atom->kind == ATOM_DIV || atom->kind == ATOM_MOD;
        if (nested && !legal_element(kernel, atom->of)) return false;
        if (atom->kind == ATOM_VALUE && reads_written(kernel, atom->of)) return false;
    }
    return true;
}

// False if the index moves with `loop` in another way than by a stride. loop -1: none.
static bool motion_of(const Kernel *kernel, int32_t loop, LoopSet varying, Index index,
                      Motion *motion) {
    IndexTable *table = graph_indices(kernel->graph);
    const Term *terms;
    int count = index_terms(table, index, &terms);
    *motion = (Motion){.low = index_constant(table, index), .high = index_constant(table, index)};
    if (!legal_element(kernel, index)) return false;
    if (loop >= 0 && !index_stride(table, index, loop, &motion->stride)) return false;
    motion->fixed = index_sub(table, index, index_const(table, motion->low));
    for (int i = 0; i < count; i++) {
        const Atom *atom = index_atom_of(table, terms[i].atom);
        Index alone = index_of_atom(table, atom);
        LoopSet used = kernel_loops_of_index(kernel, alone);
        bool is_loop = atom->kind == ATOM_LOOP && atom->of == loop;
        bool moves = loop >= 0 && loop_set_has(&used, loop);
        if (!moves && !loop_set_meets(used, varying)) continue;
        motion->fixed = index_sub(table, motion->fixed, index_scale(table, alone, terms[i].scale));
        if (is_loop) continue;
        if (moves) return false;
        int64_t scale = terms[i].scale;
        if (loop >= 0 && llabs(scale) > llabs(motion->stride)) {
            motion->period = gcd(motion->period, llabs(scale));
        } else {
            motion->low += min_i64(scale * atom->low, scale * atom->high);
            motion->high += max_i64(scale * atom->low, scale * atom->high);
        }
    }
    return true;
}

static int64_t last_iteration(const Kernel *kernel, int32_t loop) {
    return index_high(graph_indices(kernel->graph), kernel->loops.at[loop].extent) - 1;
}

// The most that `value` is where `all` holds, of which `condition` is a part: `part < bound` may be
// in it, and value be scale*part + rest, of which the same may be said.
static int64_t most_by(const Kernel *kernel, Id all, Id condition, Index value, int64_t most) {
    const Node *node = condition < 0 ? NULL : graph_node(kernel->graph, condition);
    if (!node) return most;
    if (node->op == OP_AND) {
        most = most_by(kernel, all, node->source[0], value, most);
        return most_by(kernel, all, node->source[1], value, most);
    }
    const Node *x = node->sources ? graph_node(kernel->graph, node->source[0]) : node,
               *bound = node->sources > 1 ? graph_node(kernel->graph, node->source[1]) : node;
    bool says = node->op == OP_CMPLT && x->op == OP_INDEX && bound->op == OP_INDEX;
    IndexTable *table = graph_indices(kernel->graph);
    const Term *part, *whole;
    int64_t scale = 0, span;
    if (!says || !index_terms(table, (Index)x->arg[0], &part)) return most;
    for (int i = index_terms(table, value, &whole) - 1; i >= 0; i--)
        if (whole[i].atom == part->atom) scale = whole[i].scale / part->scale;
    if (scale < 1) return most;
    Index rest = index_sub(table, value, index_scale(table, (Index)x->arg[0], scale));
    int64_t more = most_by(kernel, all, all, rest, index_high(table, rest));
    if (__builtin_mul_overflow(scale, index_high(table, (Index)bound->arg[0]) - 1, &span) ||
        __builtin_add_overflow(span, more, &span))
        return most;
    return min_i64(most, span);
}

static int64_t most_within(const Kernel *kernel, Id condition, Index value, int64_t most) {
    return most_by(kernel, condition, condition, value, most);
}

// What two iterations must have in common to meet: the digits of numbers.
typedef struct {
    Index at[32];
    int count;
} Digits;

// Adds the digits of an index to those that are there: taken by size, each stride is beyond what
// the smaller ones reach together (a number in mixed radix), so that equal numbers have equal
// digits. Iterations of padding, which the condition excludes, do not count. apart: so have numbers
// that differ by no more than that. False if it is no such number.
static bool add_digits(const Kernel *kernel, LoopSet moving, Index index, int64_t apart,
                       Id condition, Digits *digits) {
    IndexTable *table = graph_indices(kernel->graph);
    const Term *terms;
    int count = index_terms(table, index, &terms);
    int64_t reach = apart, before = 0;
    Index zero = index_const(table, 0), smaller = zero;  // smaller: the terms up to this stride
    for (;;) {                                           // the next larger stride of a moving loop
        int64_t stride = INT64_MAX, span;
        Index digit = zero, term = smaller;
        for (int i = 0; i < count; i++) {
            const Atom *atom = index_atom_of(table, terms[i].atom);
            Index alone = index_of_atom(table, atom);
            int64_t scale = llabs(terms[i].scale);
            if (!loop_set_meets(kernel_loops_of_index(kernel, alone), moving)) continue;
            if (scale <= before || scale > stride) continue;
            if (scale < stride) digit = zero, term = smaller;
            stride = scale;
            digit = index_add(table, digit, index_scale(table, alone, terms[i].scale / scale));
            term = index_add(table, term, index_scale(table, alone, terms[i].scale));
        }
        if (stride == INT64_MAX) return true;
        int64_t last = max_i64(index_high(table, digit), -index_low(table, digit));
        if (digits->count == COUNT_OF(digits->at) || stride <= reach ||
            __builtin_mul_overflow(stride, last, &span))
            return false;
        digits->at[digits->count++] = digit;
        smaller = term;
        int64_t most = most_within(kernel, condition, smaller, INT64_MAX / 4);
        reach = min_i64(reach + span, apart + most - index_low(table, smaller));
        before = stride;
    }
}

// From the digits x/n + y and x%n the number x + n*y; -1: they are no such two.
static Index joined(IndexTable *table, Index high, Index low) {
    const Term *terms, *part;
    const Atom *rest =
        index_terms(table, low, &terms) == 1 ? index_atom_of(table, terms->atom) : NULL;
    if (!rest || rest->kind != ATOM_MOD || terms->scale != 1) return -1;
    Index over = index_div(table, rest->of, rest->by);
    if (index_terms(table, over, &part) != 1) return -1;
    for (int i = index_terms(table, high, &terms) - 1; i >= 0; i--)
        if (terms[i].atom == part->atom && terms[i].scale == part->scale)
            return index_add(table, index_scale(table, index_sub(table, high, over), rest->by),
                             rest->of);
    return -1;
}

// Different iterations of `loop` give values that differ by more than `apart`, wherever the moving
// loops are: its number is one of the digits, or of those of a number that they tell.
static bool is_injective(const Kernel *kernel, int32_t loop, LoopSet moving, Index index,
                         int64_t apart, Id condition) {
    IndexTable *table = graph_indices(kernel->graph);
    const Term *term;
    Digits digits = {.count = 0};
    if (!add_digits(kernel, moving, index, apart, condition, &digits)) return false;
    for (int i = 0; i < digits.count; i++) {
        bool alone = index_terms(table, digits.at[i], &term) == 1;
        const Atom *atom = alone ? index_atom_of(table, term->atom) : NULL;
        if (alone && atom->kind == ATOM_LOOP && atom->of == loop) return true;
        for (int j = 0; j < i; j++) {
            int before = digits.count;
            Index whole = joined(table, digits.at[i], digits.at[j]);
            if (whole < 0) whole = joined(table, digits.at[j], digits.at[i]);
            if (whole >= 0 && !add_digits(kernel, moving, whole, 0, condition, &digits))
                digits.count = before;
        }
    }
    return false;
}

static bool disjoint_when(const Kernel *kernel, int32_t loop, LoopSet varying, Index a, Index b,
                          Id condition) {
    IndexTable *table = graph_indices(kernel->graph);
    Motion in_a, in_b;
    int64_t fixed, last = last_iteration(kernel, loop);
    if (last <= 0) return true;
    LoopSet moving = varying;
    loop_set_add(&moving, loop);
    if (index_is_const(table, index_sub(table, a, b), &fixed) && legal_element(kernel, a) &&
        is_injective(kernel, loop, moving, a, llabs(fixed), condition))
        return true;
    if (!motion_of(kernel, loop, varying, a, &in_a) || !motion_of(kernel, loop, varying, b, &in_b))
        return false;
    if (!index_is_const(table, index_sub(table, in_a.fixed, in_b.fixed), &fixed) || fixed)
        return false;
    int64_t stride = llabs(in_a.stride), period = gcd(in_a.period, in_b.period), reach;
    if (in_a.stride != in_b.stride || !stride) return false;
    int64_t apart = max_i64(llabs(in_a.low - in_b.high), llabs(in_a.high - in_b.low));
    if (apart >= stride || __builtin_mul_overflow(stride, last, &reach)) return false;
    return !period || reach + apart < period;
}

bool legal_disjoint(const Kernel *kernel, int32_t loop, LoopSet varying, Index a, Index b) {
    return disjoint_when(kernel, loop, varying, a, b, -1);
}

// ---- folds -------------------------------------------------------------------------------------

// value is old, or one of its operands folds into old and the others do not read its buffer.
static bool folds_into(const Kernel *kernel, Id value, Op fold, int32_t buffer, Index element) {
    const Node *node = graph_node(kernel->graph, value);
    if (node->op == OP_LOAD)
        return node->arg[0] == buffer && node->arg[1] == element && !node->sources;
    bool fused = fold == OP_ADD && node->op == OP_FMA;
    if (node->op != fold && !fused) return false;
    int chains = 0, readers = 0;
    for (int i = fused ? 2 : 0; i < node->sources; i++)
        chains += folds_into(kernel, node->source[i], fold, buffer, element);
    for (int i = 0; i < node->sources; i++)
        readers += kernel_value_reads(kernel, node->source[i], buffer);
    return chains == 1 && readers == 1;
}

bool legal_fold(const Kernel *kernel, const Statement *store, Op *fold) {
    static const Op folds[] = {OP_ADD, OP_MAX, OP_MUL};
    if (store->kind != STATEMENT_STORE) return false;
    if (graph_node(kernel->graph, store->value)->op == OP_LOAD) return false;
    if (store->condition >= 0 && kernel_value_reads(kernel, store->condition, store->buffer))
        return false;
    for (int i = 0; i < COUNT_OF(folds); i++) {
        *fold = folds[i];
        if (folds_into(kernel, store->value, *fold, store->buffer, store->index)) return true;
    }
    return false;
}

bool legal_folds(Kernel *kernel, Statement *list, int32_t buffer, Op *fold) {
    AccessList accesses = kernel_accesses(graph_arena(kernel->graph), kernel, list, buffer);
    Op first = OP_COUNT;
    for (int i = 0; i < accesses.count; i++) {
        const Statement *store = accesses.at[i].statement;
        if (store->buffer != buffer || !legal_fold(kernel, store, fold)) return false;
        if (first != OP_COUNT && *fold != first) return false;
        first = *fold;
    }
    return accesses.count > 0;
}

// ---- private -----------------------------------------------------------------------------------

// The elements that an access touches: scale * loop for each loop, sorted, neighbours joined where
// 8*a + b with b < 8 is one range.
typedef struct {
    int64_t scale, extent;
    Index limit;
} Range;
typedef struct {
    int count;
    Range range[16];
    bool any;  // more than the ranges: any element of the interval
    int64_t low, high;
    Index fixed;
    LoopSet maybe;  // of a store: the loops around that may run no iteration
} Region;

static int by_scale(const void *a, const void *b) {
    int64_t x = ((const Range *)a)->scale, y = ((const Range *)b)->scale;
    return (x > y) - (x < y);
}

// A load's element that is a quotient, a remainder or comes from memory may be any of its interval.
static bool region_of(const Kernel *kernel, LoopSet varying, Index index, bool loads,
                      Region *region) {
    IndexTable *table = graph_indices(kernel->graph);
    Motion motion;
    const Term *terms;
    int count = index_terms(table, index, &terms), kept = 0;
    if (!motion_of(kernel, -1, varying, index, &motion)) return false;
    *region = (Region){.low = motion.low, .high = motion.high, .fixed = motion.fixed};
    for (int i = 0; i < count; i++) {
        const Atom *atom = index_atom_of(table, terms[i].atom);
        LoopSet used = kernel_loops_of_index(kernel, index_of_atom(table, atom));
        if (atom->kind == ATOM_LOOP && !loop_set_has(&varying, atom->of)) continue;
        if (atom->kind != ATOM_LOOP && loop_set_within(used, (LoopSet){0})) continue;
        if (atom->kind != ATOM_LOOP && loads) {
            region->any = true;
            continue;
        }
        if (atom->kind != ATOM_LOOP || region->count == COUNT_OF(region->range)) return false;
        const Loop *loop = &kernel->loops.at[atom->of];
        int64_t extent = index_high(table, loop->extent);
        bool symbolic = index_low(table, loop->extent) != extent;
        Index limit = loop->limit < 0 && symbolic ? loop->extent : loop->limit;
        region->range[region->count++] = (Range){terms[i].scale, extent, limit};
    }
    qsort(region->range, (size_t)region->count, sizeof(Range), by_scale);
    for (int i = 0; i < region->count; i++) {
        Range *last = kept ? &region->range[kept - 1] : NULL, next = region->range[i];
        bool joins =
            last && last->limit < 0 && next.limit < 0 && next.scale == last->scale * last->extent;
        if (joins)
            last->extent *= next.extent;
        else
            region->range[kept++] = next;
    }
    region->count = kept;
    return true;
}

// Is all that a load touches touched by the store?
static bool region_covers(const Region *store, const Region *load) {
    if (store->fixed != load->fixed) return false;
    bool dense = !store->count ||
                 (store->count == 1 && store->range[0].scale == 1 && store->range[0].limit < 0);
    if (dense) return store->low <= load->low && load->high <= store->high;
    if (load->any || store->low != load->low || store->count != load->count) return false;
    for (int i = 0; i < store->count; i++) {
        const Range *a = &store->range[i], *b = &load->range[i];
        if (a->scale != b->scale || a->extent < b->extent) return false;
        if (a->limit >= 0 && a->limit != b->limit) return false;
    }
    return true;
}

// The loops of `inside` around a statement; or those of them that may run no iteration, unless the
// element moves with them: then a range says how far they go.
static LoopSet loops_around(const Kernel *kernel, const Access *access, LoopSet inside,
                            bool maybe) {
    const IndexTable *table = graph_indices(kernel->graph);
    LoopSet around = {0}, used = kernel_loops_of_index(kernel, access->index);
    const Statement *at = access->statement;
    while ((at = kernel_parent(kernel, at)) && loop_set_has(&inside, at->loop)) {
        const Loop *loop = &kernel->loops.at[at->loop];
        bool runs = index_low(table, loop->extent) > 0 &&
                    (loop->limit < 0 || index_low(table, loop->limit) > 0);
        if (!maybe || (!runs && !loop_set_has(&used, at->loop))) loop_set_add(&around, at->loop);
    }
    return around;
}

static bool is_private(Kernel *kernel, Statement *list, int32_t buffer) {
    Arena *arena = graph_arena(kernel->graph);
    if (kernel->buffers.at[buffer].space == SPACE_PARAM) return false;
    AccessList all = kernel_accesses(arena, kernel, kernel->body, buffer);
    AccessList here = kernel_accesses(arena, kernel, list, buffer);
    LoopSet varying = kernel_loops_inside(list);
    LIST(Region) stored = {0};
    if (all.count != here.count) return false;
    for (int i = 0; i < here.count; i++) {
        const Access *access = &here.at[i];
        Region region;
        LoopSet around = loops_around(kernel, access, varying, false);
        bool covered = false;
        if (!region_of(kernel, varying, access->index, access->load >= 0, &region)) return false;
        region.maybe = loops_around(kernel, access, varying, true);
        for (int s = 0; s < stored.count && !covered; s++)
            covered = loop_set_within(stored.at[s].maybe, around) &&
                      region_covers(&stored.at[s], &region);
        if (access->load >= 0 && !covered) return false;
        if (access->load < 0 && access->statement->condition < 0)
            *list_add(arena, &stored) = region;
    }
    return true;
}

bool *legal_privates(Kernel *kernel, Statement *list) {
    bool *result = arena_array(graph_arena(kernel->graph), bool, kernel->buffers.count);
    for (int32_t buffer = 0; buffer < kernel->buffers.count; buffer++)
        result[buffer] = is_private(kernel, list, buffer);
    return result;
}

// ---- what a transform asks ---------------------------------------------------------------------

// A statement through which two accesses of one buffer meet in different iterations of `loop`.
static Statement *meets(Kernel *kernel, const AccessList *accesses, int32_t loop, LoopSet varying,
                        int32_t buffer) {
    for (int i = 0; i < accesses->count; i++) {
        const Access *a = &accesses->at[i];
        if (a->buffer != buffer || a->load >= 0) continue;
        for (int j = 0; j < accesses->count; j++) {
            const Access *b = &accesses->at[j];
            if (b->buffer != buffer) continue;
            bool same = a->statement->condition == b->statement->condition;
            Id condition = same ? a->statement->condition : -1;
            if (!disjoint_when(kernel, loop, varying, a->index, b->index, condition))
                return a->statement;
        }
    }
    return NULL;
}

static bool is_stored(const AccessList *accesses, int32_t buffer) {
    for (int i = 0; i < accesses->count; i++)
        if (accesses->at[i].buffer == buffer && accesses->at[i].load < 0) return true;
    return false;
}

// Whether each iteration has the buffer for itself: all of it, memory that a block's threads share
// as well if iterations are blocks.
static bool is_own(Kernel *kernel, Statement *loop, int32_t buffer, LoopKind kind) {
    Space space = kernel->buffers.at[buffer].space;
    bool local = !space_is_common(space) || (kind == LOOP_BLOCK && space == SPACE_SHARED);
    return local && is_private(kernel, loop->body, buffer);
}

// A store to an element that is the same in all iterations, even if there is only one.
static Statement *stored_alike(const Kernel *kernel, const AccessList *accesses, int32_t loop,
                               int32_t buffer) {
    for (int i = 0; i < accesses->count; i++) {
        const Access *access = &accesses->at[i];
        LoopSet used = kernel_loops_of_index(kernel, access->index);
        if (access->buffer == buffer && access->load < 0 && !loop_set_has(&used, loop))
            return access->statement;
    }
    return NULL;
}

// All threads of a block, or of a warp, fold into it together.
static bool is_folded(Kernel *kernel, Statement *loop, int32_t buffer) {
    Op fold;
    AccessList accesses = kernel_accesses(graph_arena(kernel->graph), kernel, loop->body, buffer);
    for (int i = 0; i < accesses.count; i++) {
        LoopSet used = kernel_loops_of_index(kernel, accesses.at[i].index);
        if (loop_set_has(&used, loop->loop)) return false;
    }
    return legal_folds(kernel, loop->body, buffer, &fold);
}

Statement *legal_parallel(Kernel *kernel, Statement *loop, LoopKind kind) {
    AccessList accesses = kernel_accesses(graph_arena(kernel->graph), kernel, loop->body, -1);
    LoopSet varying = kernel_loops_inside(loop->body);
    bool in_block = kernel_around(kernel, loop, LOOP_BLOCK);
    for (int32_t buffer = 0; buffer < kernel->buffers.count; buffer++) {
        bool own = !space_is_common(kernel->buffers.at[buffer].space);
        if (!is_stored(&accesses, buffer) || is_own(kernel, loop, buffer, kind)) continue;
        for (int i = 0; own && !in_block && i < accesses.count; i++)
            if (accesses.at[i].buffer == buffer) return accesses.at[i].statement;
        Statement *against = meets(kernel, &accesses, loop->loop, varying, buffer);
        if (own && in_block && kind != LOOP_BLOCK) {  // others have a register of that name, too
            Statement *store = stored_alike(kernel, &accesses, loop->loop, buffer);
            if (store && kind == LOOP_THREAD && is_folded(kernel, loop, buffer)) continue;
            if (store) return store;
        }
        if (against) return against;
    }
    return NULL;
}

Statement *legal_vector(Kernel *kernel, Statement *loop) {
    AccessList accesses = kernel_accesses(graph_arena(kernel->graph), kernel, loop->body, -1);
    Op fold;
    for (int32_t buffer = 0; buffer < kernel->buffers.count; buffer++) {
        if (!is_stored(&accesses, buffer)) continue;
        Statement *against = meets(kernel, &accesses, loop->loop, (LoopSet){0}, buffer);
        if (!against) continue;
        LoopSet used = kernel_loops_of_index(kernel, against->index);
        bool folds = legal_folds(kernel, loop->body, buffer, &fold);
        if (!folds || loop_set_has(&used, loop->loop)) return against;
    }
    return NULL;
}

Statement *legal_reorder(Kernel *kernel, LoopSet nest, Statement *body) {
    AccessList accesses = kernel_accesses(graph_arena(kernel->graph), kernel, body, -1);
    LoopSet varying = loop_set_union(nest, kernel_loops_inside(body));
    Op fold;
    for (int32_t buffer = 0; buffer < kernel->buffers.count; buffer++) {
        if (!is_stored(&accesses, buffer) || legal_folds(kernel, body, buffer, &fold) ||
            is_private(kernel, body, buffer))
            continue;
        for (int32_t loop = 0; loop < kernel->loops.count; loop++) {
            if (!loop_set_has(&nest, loop)) continue;
            LoopSet others = varying;
            loop_set_remove(&others, loop);
            Statement *against = meets(kernel, &accesses, loop, others, buffer);
            if (against) return against;
        }
    }
    return NULL;
}
