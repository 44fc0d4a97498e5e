/* fuse.c - cut a graph into kernels: what is stored, what is computed where it is read.
 * In: a rewritten graph.  Out: a Module, kernels in run order.
 * Invariant: a value that crosses kernels has a slot; every other node lives in exactly the kernels
 * of its readers.
 *   %2 = mul %0 %1 ; %3 = reduce{add, 2} %2 ; %4 = add %3 %5
 *   =>   one kernel, no memory for %2 and %3
 *
 * Readers come after what they read, so one pass from the last node to the first sees a node's
 * readers before the node. The rules, for a node whose readers all live in one kernel (its owner):
 *   - movement and elementwise nodes are computed in place;
 *   - a fold is computed in place if its value depends on a prefix of the owner's loops only (a
 *     row's maximum under the row loop): accumulate() then places it there, once. The loops of a
 *     fold of all rows to one value count as the owner's (a mean of losses), if it has no others
 *     and a schedule can share them: their number is known. A contraction,
 *     whose operands are read again and again, only under all of the owner's loops, and not beside
 *     a row's fold; and one a kernel, or two that multiply the same x with weights (SwiGLU), which
 *     are summed in the same loops. Reshapes and permutations between them keep it one sum for each
 *     of the owner's elements (a cache's rows, an image put together from squares); a flip of an
 *     axis of two (rotated pairs) makes it two sums for the pair, if it is a product with weights;
 *   - an operand of a contraction is stored, unless it reads fewer bytes than it has: a packed
 *     weight is unpacked in place;
 *   - the powers of a softmax whose scores are a contraction, its folds and what weighs with them
 *     are computed in place, where online.c takes the kernel (attention).
 * A node with several owners is stored, unless it is movement, a cast, an unpacking, or cheap and
 * reads nothing, or its readers can read what it reads in its place: no more bytes than it has (an
 * activation and its slope). So is an elementwise node at the end of an expression of DEPTH_MAX. */
#include "schedule/schedule.h"

#include <stdlib.h>

enum { NOBODY = -1, MANY = -2, LEAVES_MAX = 4 };
typedef struct {
    bool live, stored, forced;
    bool aligned;  // each axis of size > 1 is an axis of the owner, or a loop of a fold inside it
    bool inside;   // some reader in the owner is a fold
    bool joined;   // several of its axes are one of the owner's
    bool of_weights;  // made of memory that never changes, axes in its order
    bool folds_rows;  // (owner) holds a fold under some of its loops only
    bool costly;      // its expression has an EXP2, LOG2 or SIN
    bool stretched;   // some reader needs each of its elements several times
    Id owner;
    int products;    // (owner) the contractions that it holds
    Id contraction;  // one of them
    Id over;         // (owner without loops) a fold in it whose loops count as its own, or 0
    uint8_t axes[RANK_MAX];  // the owner's axes that each of its own runs over, 0 none
    uint8_t turned;          // the owner's axes along which it is also read in another order
    int64_t reads;           // bytes of the memory that its expression reads; saturates
    int depth;               // of its expression, from a fold up
    int leaves;              // the different memories and folds that it is made of
    Id leaf[LEAVES_MAX];     // LEAVES_MAX: or more
} Place;
enum { DEPTH_MAX = 256 };  // of an expression: passes walk it down, and a compiler's time grows
typedef struct {
    Arena *arena;
    const Graph *graph;
    Module *module;
    int most;  // contractions of a kernel
    bool gpu;
    Place *place;
    const bool *refused;  // contractions that are no attention's after all
    Id *weighs;           // by node: the contraction that weighs by the softmax it is a fold of
    bool *stored;
    uint8_t *turned;  // by root: axes
    int32_t *slot;    // of each stored node, -1 before it has one
    int32_t *seen;    // by node: the last walk that met it
    int32_t walks;
} Fusion;

// Has this walk met the node before?
static bool meets_again(Fusion *fusion, Id id) {
    bool again = fusion->seen[id] == fusion->walks;
    fusion->seen[id] = fusion->walks;
    return again;
}

static int64_t node_elements(const Fusion *fusion, Id id) {
    return shape_capacity(graph_indices(fusion->graph), node_shape(fusion->graph, id));
}

static int64_t node_bytes(const Fusion *fusion, Id id) {
    return node_elements(fusion, id) * dtypes[node_dtype(fusion->graph, id)].bytes;
}

// The memory that a node names, as in ASSIGN's first word: a BUFFER's id, or -1 - a PARAM's number.
static bool names_memory(const Node *node, int64_t *memory, int64_t *version) {
    if (node->op != OP_BUFFER && node->op != OP_PARAM && node->op != OP_ASSIGN) return false;
    *memory = node->op == OP_PARAM ? -1 - node->arg[0] : node->arg[0];
    *version = node->op == OP_PARAM ? -1 : node->arg[1];
    return true;
}

static bool is_older(const Node *node, const Node *assign) {
    int64_t memory, version;
    return names_memory(node, &memory, &version) && memory == assign->arg[0] &&
           version < assign->arg[1];
}

static bool is_memory(const Node *node) { return node->op == OP_BUFFER || node->op == OP_PARAM; }

static bool always_stored(const Node *node) {
    return is_memory(node) || node->op == OP_ASSIGN || node->op == OP_SCAN ||
           node->op == OP_SCATTER_ADD || node->op == OP_CONTIGUOUS || node->op == OP_COPY;
}

// The value a chain of movement looks at.
static Id below_movement(const Graph *graph, Id id) {
    const Node *node = graph_node(graph, id);
    while (ops[node->op].properties & MOVES || node->op == OP_DETACH)
        node = graph_node(graph, id = node->source[0]);
    return id;
}

static bool reads_less_than_it_has(const Fusion *fusion, Id id) {
    return fusion->place[id].reads < node_bytes(fusion, id);
}

// A product summed up whose operands are each read more than once.
static bool is_contraction(const Fusion *fusion, const Node *node) {
    if (node->op != OP_REDUCE || node->arg[0] != OP_ADD) return false;
    const Node *product = graph_node(fusion->graph, node->source[0]);
    if (product->op != OP_MUL) return false;
    int64_t whole = node_elements(fusion, node->source[0]);
    for (int i = 0; i < 2; i++)
        if (node_elements(fusion, below_movement(fusion->graph, product->source[i])) < whole)
            return true;
    return false;
}

// ---- softmax and what it weighs ----------------------------------------------------------------
// The first node of an op that a value is made of, by elementwise ops and movement; `only` stops at
// all but products and choices. -1 if there is none.
static Id find_below(Fusion *fusion, Id id, Op op, int64_t fold, bool only) {
    const Node *node = graph_node(fusion->graph, id);
    if (meets_again(fusion, id)) return -1;
    if (node->op == op && (op != OP_REDUCE || node->arg[0] == fold)) return id;
    bool through = ops[node->op].properties & (only ? MOVES : MOVES | MAPS);
    if (!through && node->op != OP_MUL && node->op != OP_WHERE) return -1;
    for (int i = node->op == OP_WHERE; i < node->sources; i++) {
        Id found = find_below(fusion, node->source[i], op, fold, only);
        if (found >= 0) return found;
    }
    return -1;
}

static Id power_below(Fusion *fusion, Id id) {
    fusion->walks++;
    return find_below(fusion, id, OP_EXP2, 0, true);
}

static Id fold_below(Fusion *fusion, Id id, Op fold) {
    fusion->walks++;
    return find_below(fusion, id, OP_REDUCE, fold, false);
}

// sum over keys of (2^(scores - max(scores)) * ..) * values, where scores are a contraction: notes
// the powers, the maximum and the contraction as belonging to it.
static void find_softmax(Fusion *fusion, Id weighing) {
    const Graph *graph = fusion->graph;
    const Node *node = graph_node(graph, weighing);
    if (!is_contraction(fusion, node) || fusion->refused[weighing]) return;
    Id power = power_below(fusion, node->source[0]);
    if (power < 0) return;
    Id max = fold_below(fusion, graph_node(graph, power)->source[0], OP_MAX);
    Id scores = max < 0 ? -1 : fold_below(fusion, graph_node(graph, max)->source[0], OP_ADD);
    if (scores < 0 || !is_contraction(fusion, graph_node(graph, scores))) return;
    fusion->weighs[weighing] = fusion->weighs[max] = fusion->weighs[scores] = weighing;
    fusion->weighs[power] = weighing;
}

// The sums of powers belong to what weighs with them.
static void find_sums(Fusion *fusion) {
    for (Id id = 0; id < graph_count(fusion->graph); id++) {
        const Node *sum = graph_node(fusion->graph, id);
        bool sums = fusion->place[id].live && sum->op == OP_REDUCE && sum->arg[0] == OP_ADD;
        if (!sums || is_contraction(fusion, sum)) continue;
        Id power = power_below(fusion, sum->source[0]);
        if (power >= 0) fusion->weighs[id] = fusion->weighs[power];
    }
}

static void add_leaf(Place *place, Id leaf) {
    for (int i = 0; i < place->leaves; i++)
        if (place->leaf[i] == leaf) return;
    if (place->leaves < LEAVES_MAX) place->leaf[place->leaves++] = leaf;
}

// Could each reader make it anew, and read no more than it would read of it? A bool counts as what
// it was made from: that is read beside it as a rule.
static bool is_as_good_as_its_leaves(const Fusion *fusion, Id id) {
    const Place *place = &fusion->place[id];
    int64_t bytes = 0;
    for (int i = 0; i < place->leaves; i++) bytes += node_bytes(fusion, place->leaf[i]);
    return place->leaves && place->leaves < LEAVES_MAX && !place->stretched &&
           bytes <= max_i64(node_bytes(fusion, id), 4 * node_elements(fusion, id));
}

static bool keeps_order(const Node *permute) {
    int64_t last = -1;
    for (int axis = 0; axis < permute->rank; axis++) {
        if (permute->size[axis] == 1) continue;
        if (permute->arg[axis] < last) return false;
        last = permute->arg[axis];
    }
    return true;
}

static bool is_of_weights(const Fusion *fusion, const Node *node) {
    if (is_memory(node)) return node->op == OP_BUFFER && node->arg[1] == VERSION_READ_ONLY;
    bool keeps = node->op == OP_PERMUTE ? keeps_order(node) : !(ops[node->op].properties & SPECIAL);
    for (int i = 0; i < node->sources; i++) keeps &= fusion->place[node->source[i]].of_weights;
    return keeps && node->op != OP_REDUCE;
}

// Bytes read by each node's expression, and what it costs, if only what must be stored is.
static void count_reads(Fusion *fusion) {
    for (Id id = 0; id < graph_count(fusion->graph); id++) {
        const Node *node = graph_node(fusion->graph, id);
        Place *place = &fusion->place[id];
        bool ends = always_stored(node);
        place->of_weights = is_of_weights(fusion, node);
        if (ends) place->reads = node_bytes(fusion, id);
        place->costly = node->op == OP_EXP2 || node->op == OP_LOG2 || node->op == OP_SIN;
        for (int i = 0; i < node->sources && !ends; i++) {
            place->reads =
                min_i64(place->reads + fusion->place[node->source[i]].reads, INT64_MAX / 4);
            place->costly |= fusion->place[node->source[i]].costly;
            const Place *source = &fusion->place[node->source[i]];
            for (int l = 0; l < source->leaves; l++) add_leaf(place, source->leaf[l]);
            int depth = 1 + fusion->place[node->source[i]].depth;
            if (depth > place->depth && node->op != OP_REDUCE) place->depth = depth;
        }
        if (ends || node->op == OP_REDUCE) place->leaves = 1, place->leaf[0] = id;
        if (place->depth < DEPTH_MAX || !(ops[node->op].properties & MAPS)) continue;
        place->forced = true;
        place->depth = 0;
    }
}

// What a node is to some ASSIGNs, a bit each.
enum { ASSIGNS_MAX = 64 };
typedef struct {
    uint64_t after;  // it depends on what the ASSIGN gives
    uint64_t old;    // it is made from bytes that the ASSIGN replaces
    uint64_t reads;  // it is made from the memory that the ASSIGN writes
} Relation;

static Relation relation_of(const Graph *graph, Id id, const IdList *assigns, const Relation *of) {
    const Node *node = graph_node(graph, id);
    Relation to = {0};
    int64_t memory, version;
    for (int i = 0; i < assigns->count && names_memory(node, &memory, &version); i++) {
        const Node *assign = graph_node(graph, assigns->at[i]);
        uint64_t bit = (uint64_t)1 << i;
        if (memory == assign->arg[0]) to.reads |= bit;
        if (is_older(node, assign)) to.old |= bit;
        if (id == assigns->at[i]) to.after |= bit;
    }
    for (int i = 0; i < node->sources; i++) {
        const Relation *source = &of[node->source[i]];
        to.after |= source->after;
        to.reads |= source->reads;
        if (node->op != OP_ASSIGN) to.old |= source->old;
    }
    return to;
}

// A reader that depends on an ASSIGN must not compute anew from the bytes that the ASSIGN replaced.
// A value made from the buffer that it is assigned to is stored first: the two may overlap anyhow.
static void keep_old_bytes(Fusion *fusion, const IdList *assigns) {
    const Graph *graph = fusion->graph;
    Relation *of = arena_array(fusion->arena, Relation, graph_count(graph));
    for (Id id = 0; id < graph_count(graph); id++) {
        const Node *node = graph_node(graph, id);
        of[id] = relation_of(graph, id, assigns, of);
        for (int i = 0; i < node->sources && fusion->place[id].live; i++) {
            Id source = node->source[i];
            bool is_target = node->op == OP_ASSIGN && i == 0;
            if (of[id].after & of[source].old & ~of[source].after && !is_target &&
                !is_memory(graph_node(graph, source)))
                fusion->place[source].forced = true;
        }
    }
    for (int i = 0; i < assigns->count; i++) {
        Id value = graph_node(graph, assigns->at[i])->source[1];
        if (of[value].reads >> i & 1) fusion->place[value].forced = true;
    }
}

static void mark_live(Fusion *fusion, Id id) {
    if (fusion->place[id].live) return;
    fusion->place[id].live = true;
    const Node *node = graph_node(fusion->graph, id);
    for (int i = 0; i < node->sources; i++)
        if (!(node->op == OP_WITHGRAD && i == 1)) mark_live(fusion, node->source[i]);
}

// ---- one node, seen from its readers -----------------------------------------------------------
// The node whose shape the owner's loops run over.
static Id loops_of(const Fusion *fusion, Id owner) { return root_shape(fusion->graph, owner); }

// `source` is read by a node of `owner` under these axes.
static void claim(Fusion *fusion, Id source, Id owner, bool aligned, bool inside,
                  const uint8_t *axes, uint8_t turned) {
    Place *place = &fusion->place[source];
    int rank = graph_node(fusion->graph, source)->rank;
    bool first = place->owner == NOBODY;
    if (!first && place->owner != owner) place->owner = MANY;
    if (first) place->owner = owner;
    if (first) place->aligned = aligned;
    place->inside |= inside;
    place->turned |= turned;
    if (!aligned) place->aligned = false;
    for (int i = 0; i < rank && aligned; i++)  // read under several loops: under none in particular
        place->axes[i] = first || place->axes[i] == axes[i] ? axes[i] : 0;
}

// Axes of a reshape's source, if axes of size 1 come and go, others are cut into several, or
// several become one, of which each runs over a part.
static bool reshape_axes(const Node *node, const Node *source, const uint8_t *from, uint8_t *into,
                         bool *joins) {
    int i = 0;
    for (int j = 0; j < source->rank; j++) {
        Size left = source->size[j];
        into[j] = 0;
        while (left != 1 && i < node->rank && node->size[i] == 1) i++;
        if (i < node->rank && left > 1 && left < node->size[i] &&
            !size_is_symbolic(node->size[i])) {
            for (; left < node->size[i] && j + 1 < source->rank &&
                   !size_is_symbolic(source->size[j + 1]);
                 into[j] = from[i])
                into[j++] = from[i], left *= source->size[j];
            if (left != node->size[i++]) return false;
            *joins = true;
            continue;
        }
        for (bool all = true; left != 1; i++) {
            while (i < node->rank && node->size[i] == 1) i++;
            bool cuts = i < node->rank && !size_is_symbolic(left) &&
                        !size_is_symbolic(node->size[i]) && node->size[i] > 1 &&
                        left % node->size[i] == 0;
            if (i == node->rank || (!cuts && node->size[i] != left)) return false;
            left = node->size[i] == left ? 1 : left / node->size[i];
            all &= from[i] != 0;
            into[j] = all ? into[j] | from[i] : 0;
        }
    }
    return true;
}

// What an ASSIGN stores; loops may run over what was reshaped into it.
static bool is_assigned(const Fusion *fusion, Id owner, Id id) {
    const Node *node = owner < 0 ? NULL : graph_node(fusion->graph, owner);
    return node && node->op == OP_ASSIGN && node->source[1] == id;
}

// Do the loops of this fold count as those of its owner?
static bool folds_all(Fusion *fusion, Id owner, Id id) {
    const Node *node = graph_node(fusion->graph, id),
               *source = graph_node(fusion->graph, node->source[0]);
    const Place *place = &fusion->place[id];
    if (owner < 0 || (place->inside && !place->stored) || fusion->place[owner].over ||
        node_elements(fusion, id) != 1 || node_elements(fusion, loops_of(fusion, owner)) != 1 ||
        is_contraction(fusion, node))
        return false;
    for (int i = 0; i < source->rank; i++)
        if (size_is_symbolic(source->size[i])) return false;
    fusion->place[owner].over = id;
    return true;
}

static void claim_sources(Fusion *fusion, Id id) {
    const Node *node = graph_node(fusion->graph, id);
    Place *place = &fusion->place[id];
    bool starts = place->stored;  // a kernel of its own
    Id owner = starts ? id : place->owner;
    uint8_t axes[RANK_MAX], identity[RANK_MAX];
    for (int i = 0; i < RANK_MAX; i++) identity[i] = (uint8_t)(1u << i);
    const uint8_t *mine = starts ? identity : place->axes;
    for (int s = 0; s < node->sources; s++) {
        if (node->op == OP_WITHGRAD && s == 1) continue;
        const Node *source = graph_node(fusion->graph, node->source[s]);
        bool aligned = (starts || place->aligned) && owner >= 0, inside = !starts && place->inside;
        uint8_t turned = starts ? 0 : place->turned;
        bool joined = !starts && place->joined;
        for (int i = 0; i < source->rank; i++) axes[i] = i < node->rank ? mine[i] : 0;
        for (int i = 0; i < node->rank && node->op == OP_FLIP; i++)
            if (node->arg[0] >> i & 1) turned |= mine[i];
        if (node->op == OP_RESHAPE)
            aligned = aligned && reshape_axes(node, source, mine, axes, &joined);
        else if (node->op == OP_PERMUTE)
            for (int i = 0; i < node->rank; i++) axes[node->arg[i]] = mine[i];
        else if (node->op == OP_REDUCE) {
            inside = true;
            bool all = folds_all(fusion, owner, id);
            for (int i = 0; i < source->rank; i++)
                if (node->arg[1] >> i & 1) axes[i] = all ? identity[i] : 0;
        } else if (node->op != OP_EXPAND && node->op != OP_ASSIGN && node->op != OP_FLIP &&
                   (ops[node->op].properties & (MOVES | SPECIAL)) && node->op != OP_DETACH &&
                   node->op != OP_CONTIGUOUS && node->op != OP_WITHGRAD && node->op != OP_COPY)
            aligned = false;
        else if (node->op == OP_SCAN)
            aligned = false;
        bool looped = is_assigned(fusion, owner, id) && loops_of(fusion, owner) == node->source[s];
        for (int i = 0; i < source->rank; i++)
            axes[i] = source->size[i] == 1 ? 0 : looped ? identity[i] : axes[i];
        claim(fusion, node->source[s], owner, aligned || looped, inside, axes, turned);
        fusion->place[node->source[s]].joined |= joined;
        fusion->place[node->source[s]].stretched |=
            (!starts && place->stretched) ||
            node_elements(fusion, id) > node_elements(fusion, node->source[s]);
    }
}

// A fold inside the one whose loops are the owner's.
static bool is_under_fold(const Fusion *fusion, const Place *place) {
    return place->inside && fusion->place[place->owner].over;
}

// Does the fold's value depend on a prefix of the owner's loops only? How many of them?
static bool under_prefix(const Fusion *fusion, Id id, int *loops, int *owner_loops) {
    const Node *node = graph_node(fusion->graph, id);
    const Place *place = &fusion->place[id];
    const Node *owner = graph_node(fusion->graph, loops_of(fusion, place->owner));
    if (is_under_fold(fusion, place))
        owner = graph_node(fusion->graph,
                           graph_node(fusion->graph, fusion->place[place->owner].over)->source[0]);
    if (!place->aligned) return false;
    uint32_t used = 0;
    for (int i = 0; i < node->rank; i++) {
        if (node->size[i] == 1) continue;
        if (!place->axes[i]) return false;
        used |= place->axes[i];
    }
    *loops = *owner_loops = 0;
    bool prefix = true, ended = false;
    for (int i = 0; i < owner->rank; i++) {
        if (owner->size[i] == 1) continue;
        ++*owner_loops;
        if (!(used >> i & 1))
            ended = true;
        else if (ended)
            prefix = false;
        else
            ++*loops;
    }
    return prefix;
}

// A second product is summed in the loops of the first if both multiply the same x with weights,
// which are laid out for that.
static bool joins(const Fusion *fusion, const Place *home, Id id) {
    const Graph *graph = fusion->graph;
    if (home->products == fusion->most || !sums_together(graph, home->contraction, id))
        return false;
    for (int i = 0; i < 2; i++) {
        const Node *sum = graph_node(graph, i ? id : home->contraction);
        const Node *product = graph_node(graph, sum->source[0]);
        bool first = fusion->place[product->source[0]].of_weights;
        if (first == fusion->place[product->source[1]].of_weights) return false;
    }
    return true;
}

// Schedules count on a product's innermost axis: no other may be cut, and its last part stays last.
static bool keeps_innermost(const Node *shape, const Node *node, const Place *place) {
    int last = node->rank - 1, innermost = shape->rank - 1;
    while (last > 0 && node->size[last] == 1) last--;
    while (innermost > 0 && shape->size[innermost] == 1) innermost--;
    for (int axis = 0; axis < node->rank; axis++) {
        bool cut = place->axes[axis] & (place->axes[axis] - 1);
        if (cut && (axis != last || !(place->axes[axis] >> innermost & 1))) return false;
    }
    return true;
}

// A product with weights that is read in both orders along one axis of two (a rotation of pairs) is
// made for both, with its reader's loop over that axis written out.
static bool turns_pairs(const Fusion *fusion, const Node *shape, Id id) {
    const Node *product = graph_node(fusion->graph, graph_node(fusion->graph, id)->source[0]);
    const Place *place = fusion->place;
    bool weighs = place[product->source[0]].of_weights != place[product->source[1]].of_weights;
    for (int axis = 0; axis < shape->rank && weighs; axis++)
        if (place[id].turned == 1 << axis) return shape->size[axis] == 2 && fusion->most > 1;
    return false;
}

static bool fold_in_place(Fusion *fusion, Id id) {
    const Node *node = graph_node(fusion->graph, id);
    Place *place = &fusion->place[id];
    int loops, owner_loops;
    if (fusion->weighs[id] >= 0 && place->owner >= 0)  // once for each element of its kernel
        return fusion->weighs[id] != id ||
               node_elements(fusion, loops_of(fusion, place->owner)) == node_elements(fusion, id);
    if (place->owner < 0 || !under_prefix(fusion, id, &loops, &owner_loops)) return false;
    const Node *owner = graph_node(fusion->graph, place->owner);
    if (owner->op == OP_SCAN || owner->op == OP_SCATTER_ADD) return false;
    Place *home = &fusion->place[place->owner];
    if (!is_contraction(fusion, node)) {  // a tile of a contraction has no place for a row's fold
        bool rows = loops < owner_loops || is_under_fold(fusion, place);
        if ((rows && home->products) || place->turned || place->joined) return false;
        home->folds_rows |= rows;
        return true;
    }
    if (home->folds_rows || !fusion->most || loops < owner_loops || place->inside ||
        (home->products && !joins(fusion, home, id)))
        return false;
    if (is_contraction(fusion, owner)) return false;
    Id over = loops_of(fusion, place->owner);
    if (place->joined && node_elements(fusion, id) != node_elements(fusion, over)) return false;
    const Node *shape = graph_node(fusion->graph, over);
    if (!keeps_innermost(shape, node, place)) return false;
    if (place->turned && (home->products || !turns_pairs(fusion, shape, id))) return false;
    home->products += place->turned ? 2 : 1;
    home->contraction = id;
    fusion->turned[place->owner] = place->turned;
    return true;
}

static bool is_stored(Fusion *fusion, Id id) {
    const Node *node = graph_node(fusion->graph, id);
    const Place *place = &fusion->place[id];
    if (always_stored(node) || place->forced) return true;
    if (ops[node->op].properties & (LEAF | MOVES)) return false;
    if (node->op == OP_REDUCE) return !fold_in_place(fusion, id);
    if (place->owner >= 0 || node->op == OP_DETACH || node->op == OP_CAST || node->op == OP_BITCAST)
        return false;
    if (is_as_good_as_its_leaves(fusion, id)) return false;
    return place->costly || (place->reads > 0 && !reads_less_than_it_has(fusion, id));
}

static void store_operands(Fusion *fusion, Id id) {
    const Node *node = graph_node(fusion->graph, id);
    if (!is_contraction(fusion, node)) return;
    const Node *product = graph_node(fusion->graph, node->source[0]);
    int64_t whole = node_elements(fusion, node->source[0]);
    for (int i = 0; i < 2; i++) {
        Id operand = below_movement(fusion->graph, product->source[i]);
        int properties = ops[graph_node(fusion->graph, operand)->op].properties;
        bool weighs = fusion->weighs[id] == id && power_below(fusion, operand) >= 0;
        if (properties & MAPS && node_elements(fusion, operand) < whole && !weighs &&
            !reads_less_than_it_has(fusion, operand))
            fusion->place[operand].forced = true;
    }
}

// BITCAST to another width, and elements picked by GATHER, are read from memory.
static void store_sources(Fusion *fusion, const Node *node) {
    if (node->op == OP_BITCAST) {
        DType from = node_dtype(fusion->graph, node->source[0]);
        if (dtypes[from].bytes != dtypes[node->dtype].bytes)
            fusion->place[node->source[0]].forced = true;
    }
    if (node->op == OP_GATHER) {
        Id table = below_movement(fusion->graph, node->source[0]);
        const Node *source = graph_node(fusion->graph, table);
        if (ops[source->op].properties & MAPS && !reads_less_than_it_has(fusion, table) &&
            fusion->place[table].reads > 0)
            fusion->place[table].forced = true;
    }
}

// ---- slots and order ---------------------------------------------------------------------------
static int32_t slot_of(void *context, Id id) {
    Fusion *fusion = context;
    if (fusion->slot[id] >= 0) return fusion->slot[id];
    const Node *node = graph_node(fusion->graph, id);
    Module *module = fusion->module;
    int64_t of = id, version = 0;
    bool external = names_memory(node, &of, &version);
    SlotKind kind = !external ? SLOT_TEMPORARY : of < 0 ? SLOT_PARAM : SLOT_BUFFER;
    if (kind == SLOT_PARAM) of = -1 - of;
    for (int32_t i = 0; i < module->slots.count && external;
         i++)  // versions of a buffer share its memory
        if (module->slots.at[i].kind == kind && module->slots.at[i].of == of)
            return fusion->slot[id] = i;
    *list_add(module->arena, &module->slots) =
        (Slot){.kind = kind,
               .of = of,
               .is_weight = kind == SLOT_BUFFER && version == VERSION_READ_ONLY,
               .dtype = (DType)node->dtype,
               .elements = node_elements(fusion, id)};
    return fusion->slot[id] = module->slots.count - 1;
}

// The stored nodes that a root's kernel reads.
static void list_reads(Fusion *fusion, Id id, Id root, IdList *reads) {
    if (meets_again(fusion, id)) return;
    if (fusion->stored[id] && id != root) {
        *list_add(fusion->arena, reads) = id;
        return;
    }
    const Node *node = graph_node(fusion->graph, id);
    for (int i = 0; i < node->sources; i++)
        if (!(node->op == OP_WITHGRAD && i == 1)) list_reads(fusion, node->source[i], root, reads);
}

// before[i] lists the kernels that must wait for kernel i, because they read what it stores, or
// replace bytes that it reads; waits[i] counts those that it waits for.
typedef struct {
    int roots;
    Id *root;
    IdList *before;
    int32_t *waits;
} Order;

static void add_order(Arena *scratch, Order *order, int first, int second) {
    *list_add(scratch, &order->before[first]) = second;
    order->waits[second]++;
}

static Order kernel_order(Fusion *fusion, Arena *scratch) {
    const Graph *graph = fusion->graph;
    int32_t count = graph_count(graph);
    Order order = {.root = arena_array(scratch, Id, count)};
    int32_t *number = arena_array(scratch, int32_t, count);  // of a root
    IdList assigns = {0};
    for (Id id = 0; id < count; id++) {
        if (!fusion->stored[id] || is_memory(graph_node(graph, id))) continue;
        if (graph_node(graph, id)->op == OP_ASSIGN) *list_add(scratch, &assigns) = order.roots;
        number[id] = order.roots;
        order.root[order.roots++] = id;
    }
    order.before = arena_array(scratch, IdList, order.roots);
    order.waits = arena_array(scratch, int32_t, order.roots);
    IdList reads = {0};
    for (int i = 0; i < order.roots; i++) {
        reads.count = 0;
        fusion->walks++;
        list_reads(fusion, order.root[i], order.root[i], &reads);
        for (int32_t n = 0; n < reads.count; n++) {
            const Node *read = graph_node(graph, reads.at[n]);
            if (!is_memory(read)) add_order(scratch, &order, number[reads.at[n]], i);
            for (int32_t j = 0; j < assigns.count; j++)
                if (assigns.at[j] != i &&
                    is_older(read, graph_node(graph, order.root[assigns.at[j]])))
                    add_order(scratch, &order, i, assigns.at[j]);
        }
    }
    return order;
}

// Kernels in the order of their roots, as far as that respects kernel_order.
static void make_kernels(Fusion *fusion) {
    Arena *scratch = arena_new();
    Order order = kernel_order(fusion, scratch);
    Ranges ranges = {fusion->module, fusion->stored, fusion->turned, slot_of, fusion};
    Alike *alike = alike_new(scratch, &ranges);
    for (int left = order.roots; left > 0; left--) {
        int next = 0;
        while (next < order.roots && order.waits[next]) next++;
        if (next == order.roots)
            fatal(
                "fuse: an ASSIGN needs a value computed from its own result. Hint: copy it first");
        for (int32_t i = 0; i < order.before[next].count; i++)
            order.waits[order.before[next].at[i]]--;
        order.waits[next] = -1;
        *list_add(fusion->module->arena, &fusion->module->calls) =
            alike_call(alike, order.root[next]);
    }
    arena_free(scratch);
}

// Whether every kernel that was to be attention is what online() takes; notes those that are not.
static bool softmaxes_fit(const Fusion *fusion, bool *refused) {
    const Module *module = fusion->module;
    const Kernel *last = NULL;  // that fits: equal layers share it
    bool fit = true;
    for (Id id = 0; id < graph_count(fusion->graph); id++) {
        if (fusion->weighs[id] != id) continue;
        Id root = fusion->stored[id] ? id : fusion->place[id].owner;
        for (int32_t i = 0; i < module->calls.count; i++) {
            Kernel *kernel = module->calls.at[i].kernel;
            if (module->calls.at[i].root != root || kernel == last) continue;
            if (online_fits(kernel, fusion->gpu))
                last = kernel;
            else
                refused[id] = true, fit = false;
        }
    }
    return fit;
}

// False if it must be done again, since more is refused now.
static bool try_fuse(Module *module, int outputs, const Id *output, int effects, const Id *effect,
                     int products, bool *refused) {
    const Graph *graph = module->graph;
    int32_t count = graph_count(graph);
    Arena *scratch = arena_new();
    Fusion fusion = {.arena = scratch,
                     .graph = graph,
                     .module = module,
                     .refused = refused,
                     .most = abs(products),
                     .gpu = products == PRODUCTS_GPU};
    fusion.place = arena_array(scratch, Place, count);
    fusion.stored = arena_array(scratch, bool, count);
    fusion.turned = arena_array(scratch, uint8_t, count);
    fusion.slot = arena_array(scratch, int32_t, count);
    fusion.weighs = arena_array(scratch, Id, count);
    fusion.seen = arena_array(scratch, int32_t, count);
    for (Id id = 0; id < count; id++)
        fusion.place[id].owner = NOBODY, fusion.slot[id] = fusion.weighs[id] = -1;
    for (int i = 0; i < outputs; i++)
        mark_live(&fusion, output[i]), fusion.place[output[i]].forced = true;
    for (int i = 0; i < effects; i++) mark_live(&fusion, effect[i]);
    count_reads(&fusion);
    IdList assigns = {0};
    for (Id id = 0; id < count; id++) {
        if (!fusion.place[id].live) continue;
        if (products) find_softmax(&fusion, id);
        if (graph_node(graph, id)->op == OP_ASSIGN) *list_add(scratch, &assigns) = id;
        if (assigns.count < ASSIGNS_MAX) continue;
        keep_old_bytes(&fusion, &assigns);
        assigns.count = 0;
    }
    if (assigns.count) keep_old_bytes(&fusion, &assigns);
    if (products) find_sums(&fusion);
    for (Id id = count - 1; id >= 0; id--) {
        if (!fusion.place[id].live) continue;
        fusion.stored[id] = fusion.place[id].stored = is_stored(&fusion, id);
        store_operands(&fusion, id);
        store_sources(&fusion, graph_node(graph, id));
        claim_sources(&fusion, id);
    }
    make_kernels(&fusion);
    for (int i = 0; i < outputs; i++) module->output[i] = slot_of(&fusion, output[i]);
    bool fit = softmaxes_fit(&fusion, refused);
    arena_free(scratch);
    return fit;
}

Module *fuse(Arena *arena, const Graph *graph, int outputs, const Id *output, int effects,
             const Id *effect, int products) {
    bool *refused = arena_array(arena, bool, graph_count(graph));
    Module *module = arena_object(arena, Module);
    do {
        *module = (Module){.arena = arena, .graph = graph, .outputs = outputs};
        module->output = arena_array(arena, int32_t, outputs);
    } while (!try_fuse(module, outputs, output, effects, effect, products, refused));
    return module;
}
