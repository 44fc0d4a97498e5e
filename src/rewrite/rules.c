/* rules.c - the algebra, one row a rule.
 * In: a match of the left side.  Out: the right side, where a row says `!`.
 * Invariant: both sides have the same dtype and shape and are equal as the row's class says;
 * tests/rewrite/rules_test.c evaluates them all.
 *   (mul (mul ?x 2) 3)  =>  (mul ?x 6)                                                          */
#include "ir/scalar.h"
#include "rewrite/rewrite.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

// ---- conditions --------------------------------------------------------------------------------

static DType root_dtype(const Match *match) { return node_dtype(match->graph, match->root); }

static const Node *root_node(const Match *match) { return graph_node(match->graph, match->root); }

static bool gives_integers(const Match *match) { return !dtype_is_float(root_dtype(match)); }

static bool first_is_integer(const Match *match) {
    return !dtype_is_float(node_dtype(match->graph, match->at[0]));
}

static bool first_is_bool(const Match *match) {
    return node_dtype(match->graph, match->at[0]) == DT_BOOL;
}

static bool gives_bool(const Match *match) { return root_dtype(match) == DT_BOOL; }

static bool same_dtype(const Match *match) {
    return node_dtype(match->graph, match->at[0]) == root_dtype(match);
}

static bool same_shape(const Match *match) {
    return shape_equal(node_shape(match->graph, match->at[0]),
                       node_shape(match->graph, match->root));
}

static bool keeps_order(const Match *match) {
    const Node *node = root_node(match);
    for (int axis = 0; axis < node->rank; axis++)
        if (node->arg[axis] != axis) return false;
    return true;
}

static bool all_are_single(const Node *node, int64_t axes) {
    for (int axis = 0; axis < node->rank; axis++)
        if (axes >> axis & 1 && node->size[axis] != 1) return false;
    return true;
}

static bool flips_nothing(const Match *match) {
    return all_are_single(root_node(match), root_node(match)->arg[0]);
}

static bool folds_nothing(const Match *match) {
    const Node *node = root_node(match);
    return node->rank && all_are_single(graph_node(match->graph, match->at[0]), node->arg[1]);
}

static bool scans_nothing(const Match *match) {
    return root_node(match)->size[root_node(match)->arg[1]] == 1;
}

static bool counts_nothing(const Match *match) {
    return root_node(match)->size[root_node(match)->arg[0]] == 1;
}

static Scalar scalar_of(const Graph *graph, Id id) {
    int64_t integer;
    double value = node_const_value(graph, id, &integer);
    if (dtype_is_float(node_dtype(graph, id))) return (Scalar){.real = (float)value};
    return (Scalar){.integer = integer};
}

static Id const_node(Graph *graph, DType dtype, Shape shape, Scalar value) {
    if (dtype_is_float(dtype)) return node_const_float(graph, dtype, shape, (double)value.real);
    return node_const_int(graph, dtype, shape, value.integer);
}

static bool second_is_lowest(const Match *match) {
    DType dtype = node_dtype(match->graph, match->at[1]);
    Scalar value = scalar_of(match->graph, match->at[1]), least = scalar_identity(OP_MAX, dtype);
    return dtype_is_float(dtype) ? value.real == least.real : value.integer == least.integer;
}

static bool second_is_all_ones(const Match *match) {
    DType dtype = node_dtype(match->graph, match->at[1]);
    return scalar_of(match->graph, match->at[1]).integer == scalar_wrap(dtype, -1);
}

// What two constants make of each other must neither overflow nor vanish.
static bool joins_safely(const Match *match) {
    DType dtype = root_dtype(match);
    if (dtype != DT_F32) return false;
    Scalar a = scalar_of(match->graph, match->at[1]), b = scalar_of(match->graph, match->at[2]);
    float joined = scalar_apply((Op)root_node(match)->op, dtype, a, b, (Scalar){0}).real;
    if (root_node(match)->op == OP_ADD) return isfinite(joined);
    return isnormal(joined) && isnormal(a.real) && isnormal(b.real);
}

// ---- constants ---------------------------------------------------------------------------------

static Id fold(const Match *match) {
    const Node *node = root_node(match);
    Graph *graph = match->graph;
    Scalar value[3] = {{0}};
    DType from = node_dtype(graph, node->source[node->sources - 1]), to = (DType)node->dtype;
    for (int i = 0; i < node->sources; i++) value[i] = scalar_of(graph, node->source[i]);
    Scalar result = scalar_apply((Op)node->op, from, value[0], value[1], value[2]);
    if (node->op == OP_CAST) result = scalar_cast(value[0], from, to);
    if (node->op == OP_BITCAST) {
        if (dtypes[from].bytes != dtypes[to].bytes) return -1;
        uint64_t bytes = 0;
        scalar_store(from, &bytes, value[0]);
        result = scalar_load(to, &bytes);
    }
    return const_node(graph, to, node_shape(graph, match->root), result);
}

// A constant moved is the constant in another shape; what PAD adds must be equal to it.
static Id move_const(const Match *match) {
    Scalar value = scalar_of(match->graph, match->at[0]);
    bool zero = gives_integers(match) ? !value.integer : value.real == 0 && !signbit(value.real);
    if (root_node(match)->op == OP_PAD && !zero) return -1;
    return const_node(match->graph, root_dtype(match), node_shape(match->graph, match->root),
                      value);
}

// How many elements one fold takes together; -1 if that is symbolic or 0.
static int64_t folded_count(const Node *from, int64_t axes) {
    int64_t count = 1;
    for (int axis = 0; axis < from->rank; axis++) {
        if (!(axes >> axis & 1)) continue;
        if (size_is_symbolic(from->size[axis]) || from->size[axis] == 0) return -1;
        if (__builtin_mul_overflow(count, from->size[axis], &count)) return -1;
    }
    return count;
}

static Id times(Graph *graph, Id x, int64_t count) {
    DType dtype = node_dtype(graph, x);
    Shape shape = node_shape(graph, x);
    Id factor = dtype_is_float(dtype) ? node_const_float(graph, dtype, shape, (double)count)
                                      : node_const_int(graph, dtype, shape, count);
    return node_binary(graph, OP_MUL, x, factor);
}

// Equal elements along the folded axes that EXPAND made: sum by a product, max by taking one.
static Id reduce_expand(const Match *match) {
    Graph *graph = match->graph;
    const Node *root = root_node(match), *wide = graph_node(graph, root->source[0]);
    const Node *narrow = graph_node(graph, match->at[0]);
    int64_t axes = root->arg[1], equal = 0;
    for (int axis = 0; axis < wide->rank; axis++)
        if (axes >> axis & 1 && narrow->size[axis] == 1 && wide->size[axis] != 1)
            equal |= (int64_t)1 << axis;
    int64_t count = folded_count(wide, equal);
    if (!equal || count < 0 || root->arg[0] == OP_MUL) return -1;
    // The count must be exact as a factor; bf16 has 8 bits for it.
    if (dtype_is_float(root->dtype) && count > (root->dtype == DT_F32 ? 1 << 24 : 1 << 8))
        return -1;
    Shape shape = node_shape(graph, root->source[0]);
    for (int axis = 0; axis < shape.rank; axis++)
        if (equal >> axis & 1) shape.size[axis] = 1;
    Id one = node_expand(graph, match->at[0], shape);
    Id rest = node_reduce(graph, (Op)root->arg[0], one, (uint32_t)(axes & ~equal));
    return root->arg[0] == OP_ADD ? times(graph, rest, count) : rest;
}

static Id reduce_const(const Match *match) {
    Graph *graph = match->graph;
    Shape narrow = node_shape(graph, match->at[0]);
    if (!narrow.rank) return -1;
    for (int axis = 0; axis < narrow.rank; axis++) narrow.size[axis] = 1;
    Id one = const_node(graph, root_dtype(match), narrow, scalar_of(graph, match->at[0]));
    Match expanded = {graph, match->root, {one}};
    return reduce_expand(&expanded);
}

// ---- movements ---------------------------------------------------------------------------------

static const Node *inner_node(const Match *match) {
    return graph_node(match->graph, root_node(match)->source[0]);
}

static Id reshape_again(const Match *match) {
    return node_reshape(match->graph, match->at[0], node_shape(match->graph, match->root));
}

static Id expand_again(const Match *match) {
    return node_expand(match->graph, match->at[0], node_shape(match->graph, match->root));
}

static Id permute_again(const Match *match) {
    int axes[RANK_MAX];
    for (int axis = 0; axis < root_node(match)->rank; axis++)
        axes[axis] = (int)inner_node(match)->arg[root_node(match)->arg[axis]];
    return node_permute(match->graph, match->at[0], axes);
}

static Id pad_again(const Match *match) {
    Size sum[2 * RANK_MAX];
    int rank = root_node(match)->rank;
    for (int i = 0; i < 2 * rank; i++)
        sum[i] = size_add(graph_indices(match->graph), root_node(match)->arg[i],
                          inner_node(match)->arg[i]);
    return node_pad(match->graph, match->at[0], sum, sum + rank);
}

static Id shrink_again(const Match *match) {
    Size start[RANK_MAX];
    for (int axis = 0; axis < root_node(match)->rank; axis++)
        start[axis] = size_add(graph_indices(match->graph), root_node(match)->arg[axis],
                               inner_node(match)->arg[axis]);
    return node_shrink(match->graph, match->at[0], start, root_node(match)->size);
}

static Id flip_again(const Match *match) {
    return node_flip(match->graph, match->at[0],
                     (uint32_t)(root_node(match)->arg[0] ^ inner_node(match)->arg[0]));
}

// A box that takes nothing of the padding is a box of what was padded.
static Id shrink_pad(const Match *match) {
    IndexTable *table = graph_indices(match->graph);
    const Node *root = root_node(match), *pad = inner_node(match);
    Shape from = node_shape(match->graph, match->at[0]);
    Size start[RANK_MAX];
    for (int axis = 0; axis < from.rank; axis++) {
        start[axis] = size_sub(table, root->arg[axis], pad->arg[axis]);
        Size end = size_add(table, start[axis], root->size[axis]);
        Size room = size_sub(table, from.size[axis], end);
        if (index_low(table, size_index(table, start[axis])) < 0 ||
            index_low(table, size_index(table, room)) < 0)
            return -1;
    }
    return node_shrink(match->graph, match->at[0], start, root->size);
}

static Id reduce_again(const Match *match) {
    const Node *root = root_node(match), *inner = inner_node(match);
    if (!root->rank || root->arg[0] != inner->arg[0]) return -1;
    return node_reduce(match->graph, (Op)root->arg[0], match->at[0],
                       (uint32_t)(root->arg[1] | inner->arg[1]));
}

// ---- casts -------------------------------------------------------------------------------------

// Whether `to` has every value of `from`.
static bool widens(DType from, DType to) {
    static const int significand[DT_COUNT] = {[DT_F32] = 24, [DT_F16] = 11, [DT_BF16] = 8};
    if (from == to || from == DT_BOOL) return true;
    if (to == DT_BOOL) return false;
    bool sign = dtypes[from].kind == KIND_SIGNED;
    int bits = 8 * dtypes[from].bytes - sign, room = 8 * dtypes[to].bytes;
    if (dtype_is_float(from)) return to == DT_F32;
    if (dtype_is_float(to)) return bits <= significand[to];
    return dtypes[to].kind == KIND_SIGNED ? bits <= room - 1 : !sign && bits <= room;
}

// The first of two casts goes if it keeps the value and the second treats both dtypes alike:
// integers wrap on their way to an integer, floats saturate.
static Id cast_again(const Match *match) {
    DType from = node_dtype(match->graph, match->at[0]), middle = (DType)inner_node(match)->dtype;
    DType to = root_dtype(match);
    bool alike = dtype_is_float(from) == dtype_is_float(middle) || dtype_is_float(to) ||
                 to == DT_BOOL || to == from;
    return widens(from, middle) && alike ? node_cast(match->graph, match->at[0], to) : -1;
}

static Id bitcast_again(const Match *match) {
    return node_bitcast(match->graph, match->at[0], root_dtype(match));
}

// ---- the tables --------------------------------------------------------------------------------

#define EXACT(...) \
    { .class = RULE_EXACT, .text = __VA_ARGS__ }
#define REASSOCIATES(...) \
    { .class = RULE_REASSOCIATES, .text = __VA_ARGS__ }
#define FINITE(...) \
    { .class = RULE_FINITE, .text = __VA_ARGS__ }

static const Rule clean[] = {
    EXACT("(detach ?x) => ?x"),
    EXACT("(withgrad ?x ?y) => ?x"),
};

static const Rule algebra[] = {
    // constants
    EXACT("(* $a) => !", .make = fold),
    EXACT("(* $a $b) => !", .make = fold),
    EXACT("(* $a $b $c) => !", .make = fold),
    EXACT("(add (add ?x $a) $b) => (add ?x (add $a $b))", .when = gives_integers),
    EXACT("(mul (mul ?x $a) $b) => (mul ?x (mul $a $b))", .when = gives_integers),
    REASSOCIATES("(add (add ?x $a) $b) => (add ?x (add $a $b))", .when = joins_safely),
    EXACT("(mul (mul ?x -1) -1) => ?x"),
    REASSOCIATES("(mul (mul ?x $a) $b) => (mul ?x (mul $a $b))", .when = joins_safely),
    EXACT("(max (max ?x $a) $b) => (max ?x (max $a $b))"),
    EXACT("(and (and ?x $a) $b) => (and ?x (and $a $b))"),
    EXACT("(or (or ?x $a) $b) => (or ?x (or $a $b))"),
    EXACT("(xor (xor ?x $a) $b) => (xor ?x (xor $a $b))"),
    // identities
    EXACT("(add ?x -0) => ?x"),
    REASSOCIATES("(add ?x 0) => ?x"),
    EXACT("(mul ?x 1) => ?x"),
    EXACT("(mul ?x 0) => 0", .when = gives_integers),
    EXACT("(fma ?x 1 ?y) => (add ?x ?y)"),
    EXACT("(fma 1 ?x ?y) => (add ?x ?y)"),
    EXACT("(fma ?x ?y -0) => (mul ?x ?y)"),
    EXACT("(max ?x ?x) => ?x"),
    EXACT("(max ?x $c) => ?x", .when = second_is_lowest),
    EXACT("(max (max ?x ?y) ?y) => (max ?x ?y)"),
    EXACT("(trunc (trunc ?x)) => (trunc ?x)"),
    EXACT("(idiv ?x 1) => ?x"),
    EXACT("(idiv 0 ?x) => 0"),
    EXACT("(mod ?x 1) => 0"),
    EXACT("(mod 0 ?x) => 0"),
    EXACT("(mod ?x ?x) => 0"),
    EXACT("(shl ?x 0) => ?x"),
    EXACT("(shl 0 ?x) => 0"),
    EXACT("(shr ?x 0) => ?x"),
    EXACT("(shr 0 ?x) => 0"),
    EXACT("(and ?x ?x) => ?x"),
    EXACT("(and ?x 0) => 0"),
    EXACT("(and ?x $c) => ?x", .when = second_is_all_ones),
    EXACT("(or ?x ?x) => ?x"),
    EXACT("(or ?x 0) => ?x"),
    EXACT("(or ?x $c) => $c", .when = second_is_all_ones),
    EXACT("(xor ?x ?x) => 0"),
    EXACT("(xor ?x 0) => ?x"),
    // conditions
    EXACT("(cmplt ?x ?x) => 0"),
    EXACT("(cmplt ?x $c) => 0", .when = second_is_lowest),
    EXACT("(cmpne ?x ?x) => 0", .when = first_is_integer),
    EXACT("(cmpne ?x 0) => ?x", .when = first_is_bool),
    EXACT("(cmpne (cast ?x) 0) => ?x", .when = first_is_bool),
    EXACT("(cmpne (cmpne ?x 1) 1) => ?x", .when = first_is_bool),
    EXACT("(where 1 ?x ?y) => ?x"),
    EXACT("(where 0 ?x ?y) => ?y"),
    EXACT("(where ?c ?x ?x) => ?x"),
    EXACT("(where ?c 1 0) => ?c", .when = gives_bool),
    EXACT("(where (cmpne ?c 1) ?x ?y) => (where ?c ?y ?x)", .when = first_is_bool),
    EXACT("(where ?c (where ?c ?x ?y) ?z) => (where ?c ?x ?z)"),
    EXACT("(where ?c ?x (where ?c ?y ?z)) => (where ?c ?x ?z)"),
    // casts
    EXACT("(cast ?x) => ?x", .when = same_dtype),
    EXACT("(cast (cast ?x)) => !", .make = cast_again),
    EXACT("(bitcast ?x) => ?x", .when = same_dtype),
    EXACT("(bitcast (bitcast ?x)) => !", .make = bitcast_again),
    // movements
    EXACT("(reshape ?x) => ?x", .when = same_shape),
    EXACT("(reshape (reshape ?x)) => !", .make = reshape_again),
    EXACT("(reshape $c) => !", .make = move_const),
    EXACT("(permute ?x) => ?x", .when = keeps_order),
    EXACT("(permute (permute ?x)) => !", .make = permute_again),
    EXACT("(permute $c) => !", .make = move_const),
    EXACT("(expand ?x) => ?x", .when = same_shape),
    EXACT("(expand (expand ?x)) => !", .make = expand_again),
    EXACT("(expand $c) => !", .make = move_const),
    EXACT("(pad ?x) => ?x", .when = same_shape),
    EXACT("(pad (pad ?x)) => !", .make = pad_again),
    EXACT("(pad $c) => !", .make = move_const),
    EXACT("(shrink ?x) => ?x", .when = same_shape),
    EXACT("(shrink (shrink ?x)) => !", .make = shrink_again),
    EXACT("(shrink (pad ?x)) => !", .make = shrink_pad),
    EXACT("(shrink $c) => !", .make = move_const),
    EXACT("(flip ?x) => ?x", .when = flips_nothing),
    EXACT("(flip (flip ?x)) => !", .make = flip_again),
    EXACT("(flip $c) => !", .make = move_const),
    EXACT("(window $c) => !", .make = move_const),
    EXACT("(iota) => 0", .when = counts_nothing),
    // folds
    REASSOCIATES("(reduce ?x) => ?x", .when = folds_nothing),
    REASSOCIATES("(reduce (reduce ?x)) => !", .make = reduce_again),
    REASSOCIATES("(reduce $c) => !", .make = reduce_const),
    REASSOCIATES("(reduce (expand ?x)) => !", .make = reduce_expand),
    REASSOCIATES("(scan ?x) => ?x", .when = scans_nothing),
    // values
    EXACT("(detach (detach ?x)) => (detach ?x)"),
    EXACT("(contiguous (contiguous ?x)) => (contiguous ?x)"),
};

static const Rule finite_only[] = {
    FINITE("(mul ?x 0) => 0"),           FINITE("(fma ?x 0 ?y) => ?y"),
    FINITE("(add ?x (mul ?x -1)) => 0"), FINITE("(mul ?x (recip ?x)) => 1"),
    FINITE("(recip (recip ?x)) => ?x"),  FINITE("(log2 (exp2 ?x)) => ?x"),
};

int rules_list(RuleSet set, const Rule **list) {
    const Rule *const lists[RULES_SETS] = {clean, algebra, finite_only, rules_expand};
    const int counts[RULES_SETS] = {COUNT_OF(clean), COUNT_OF(algebra), COUNT_OF(finite_only),
                                    rules_expand_count};
    *list = lists[set];
    return counts[set];
}

static RuleTable *tables[RULES_SETS];

static void tables_add(RuleTable *table, RuleSet set) {
    const Rule *list;
    int count = rules_list(set, &list);
    for (int i = 0; i < count; i++) rule_table_add(table, &list[i]);
}

static void tables_open(void) {
    Arena *arena = arena_new();  // the process's
    for (int set = 0; set < RULES_SETS; set++) {
        tables[set] = rule_table_new(arena);
        if (set == RULES_FINITE) tables_add(tables[set], RULES_ALGEBRA);
        tables_add(tables[set], (RuleSet)set);
    }
}

const RuleTable *rules(RuleSet set) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, tables_open);
    return tables[set];
}
