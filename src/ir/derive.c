/* derive.c - what each op asks of its sources, and the dtype and shape that it gives.
 * In: a draft of a node.  Out: the draft with dtype and shape set where the op determines them.
 * Invariant: a draft that returns is a node; all else is fatal, with both shapes and a hint.
 *   window{0, 3, 2, 1} of (9, 4) has the shape (4, 4, 3)                                       */
#include "ir/ir.h"

static const char *text_of(const Graph *graph, Shape shape) {
    return graph_shape_text(graph, shape);
}

static Shape source_shape(const Graph *graph, const NodeDraft *draft, int source) {
    return node_shape(graph, draft->source[source]);
}

// Whether a <= b for all values of the VARs.
static bool at_most(const Graph *graph, Size a, Size b) {
    IndexTable *table = graph_indices(graph);
    if (!size_is_symbolic(a) && !size_is_symbolic(b)) return a <= b;
    return index_low(table, index_sub(table, size_index(table, b), size_index(table, a))) >= 0;
}

static void check_axis(const NodeDraft *draft, int64_t axis, int rank) {
    if (axis < 0 || axis >= rank)
        fatal("%s: there is no axis %ld in %d axes", ops[draft->op].text, axis, rank);
}

static void check_sizes(const Graph *graph, const NodeDraft *draft) {
    if (draft->shape.rank < 0 || draft->shape.rank > RANK_MAX)
        fatal("%s: %d axes. Hint: at most %d", ops[draft->op].text, draft->shape.rank, RANK_MAX);
    for (int axis = 0; axis < draft->shape.rank; axis++)
        if (!at_most(graph, 0, draft->shape.size[axis]))
            fatal("%s: axis %d of %s may be negative", ops[draft->op].text, axis,
                  text_of(graph, draft->shape));
}

static void check_counts(const Graph *graph, const NodeDraft *draft) {
    int fewest = ops[draft->op].arity, most = fewest, words = 0;
    if (draft->op == OP_LOAD) fewest = 0;
    if (draft->sources < fewest || draft->sources > most)
        fatal("%s: %d sources. Hint: it takes %d", ops[draft->op].text, draft->sources, most);
    for (int i = 0; i < draft->sources; i++) graph_node(graph, draft->source[i]);
    int rank = draft->sources ? graph_node(graph, draft->source[0])->rank : 0;
    for (const char *letter = op_args(draft->op); *letter; letter++)
        words += *letter == 'N' || *letter == 'S' ? rank : 1;
    bool in_kernel = draft->op == OP_REDUCE && rank == 0;
    if (draft->args != words && !(in_kernel && draft->args > words))
        fatal("%s: %d argument words. Hint: it takes %d", ops[draft->op].text, draft->args, words);
}

static bool takes(int properties, DType dtype) {
    if (properties & FLOATS) return dtype_is_float(dtype);
    if (properties & INTEGERS) return !dtype_is_float(dtype) && dtype != DT_BOOL;
    if (properties & BITS) return !dtype_is_float(dtype);
    return true;
}

static void derive_bitcast(const Graph *graph, NodeDraft *draft) {
    DType from = node_dtype(graph, draft->source[0]);
    int64_t had = dtypes[from].bytes, wants = dtypes[draft->dtype].bytes;
    if (draft->dtype == DT_BOOL && from != DT_BOOL)
        fatal("bitcast: %s to bool. Hint: compare with 0 instead", dtypes[from].text);
    if (had == wants) return;
    IndexTable *table = graph_indices(graph);
    Shape *shape = &draft->shape;
    int last = shape->rank - 1;
    int64_t rest = 1;
    if (last >= 0) {
        Index bytes = size_index(table, size_scale(table, shape->size[last], had));
        if (index_is_const(table, index_mod(table, bytes, wants), &rest) && rest == 0)
            shape->size[last] = size_from_index(table, index_div(table, bytes, wants));
    }
    if (rest != 0)
        fatal("bitcast: %s %s has no whole number of %s in its last axis. Hint: reshape first",
              dtypes[from].text, text_of(graph, *shape), dtypes[draft->dtype].text);
}

static void derive_map(const Graph *graph, NodeDraft *draft) {
    const OpInfo *info = &ops[draft->op];
    bool chooses = info->properties & CHOOSES;
    DType dtype = node_dtype(graph, draft->source[draft->sources - 1]);
    draft->shape = source_shape(graph, draft, 0);
    for (int i = 0; i < draft->sources; i++) {
        Shape shape = source_shape(graph, draft, i);
        if (!shape_equal(draft->shape, shape))
            fatal("%s: shapes %s and %s differ. Hint: broadcast or reshape first", info->text,
                  text_of(graph, draft->shape), text_of(graph, shape));
        DType wanted = chooses && i == 0 ? DT_BOOL : dtype,
              got = node_dtype(graph, draft->source[i]);
        if (got != wanted)
            fatal("%s: source %d is %s, not %s. Hint: cast it", info->text, i, dtypes[got].text,
                  dtypes[wanted].text);
    }
    if (!takes(info->properties, dtype))
        fatal("%s: it does not take %s. Hint: cast first", info->text, dtypes[dtype].text);
    if (draft->op == OP_BITCAST) derive_bitcast(graph, draft);
    if (!(info->properties & TYPED)) draft->dtype = info->properties & TO_BOOL ? DT_BOOL : dtype;
}

// A shape as its symbolic sizes and the products of the plain ones before, between and behind them.
static int plain_runs(const Graph *graph, Shape shape, Size *symbolic, int64_t *product) {
    int runs = 0;
    product[0] = 1;
    for (int axis = 0; axis < shape.rank; axis++) {
        if (size_is_symbolic(shape.size[axis])) {
            symbolic[runs++] = shape.size[axis];
            product[runs] = 1;
        } else if (__builtin_mul_overflow(product[runs], shape.size[axis], &product[runs])) {
            fatal("reshape: %s has more than 2^63 elements", text_of(graph, shape));
        }
    }
    return runs;
}

static void check_reshape(const Graph *graph, const NodeDraft *draft) {
    Size had[RANK_MAX], wants[RANK_MAX];
    int64_t before[RANK_MAX + 1], after[RANK_MAX + 1];
    Shape from = source_shape(graph, draft, 0);
    int runs = plain_runs(graph, from, had, before);
    bool same = runs == plain_runs(graph, draft->shape, wants, after);
    for (int i = 0; same && i < runs; i++) same = had[i] == wants[i];
    for (int i = 0; same && i <= runs; i++) same = before[i] == after[i];
    if (!same)
        fatal("reshape: %s does not become %s. Hint: the products of the sizes must be equal%s",
              text_of(graph, from), text_of(graph, draft->shape),
              runs ? ", and an axis of symbolic size stays whole" : "");
}

static void derive_permute(const Graph *graph, NodeDraft *draft) {
    Shape from = source_shape(graph, draft, 0);
    uint32_t seen = 0;
    for (int axis = 0; axis < from.rank; axis++) {
        check_axis(draft, draft->arg[axis], from.rank);
        seen |= 1u << draft->arg[axis];
        draft->shape.size[axis] = from.size[draft->arg[axis]];
    }
    if (seen != (1u << from.rank) - 1)
        fatal("permute: %s: an axis is named twice. Hint: name each once", text_of(graph, from));
}

static void check_expand(const Graph *graph, const NodeDraft *draft) {
    Shape from = source_shape(graph, draft, 0);
    bool fits = from.rank == draft->shape.rank;
    for (int axis = 0; fits && axis < from.rank; axis++)
        fits = from.size[axis] == 1 || from.size[axis] == draft->shape.size[axis];
    if (!fits)
        fatal("expand: %s does not become %s. Hint: only axes of size 1 stretch; reshape first",
              text_of(graph, from), text_of(graph, draft->shape));
}

static void derive_pad(const Graph *graph, NodeDraft *draft) {
    for (int axis = 0; axis < draft->shape.rank; axis++) {
        Size before = draft->arg[axis], after = draft->arg[draft->shape.rank + axis];
        if (!at_most(graph, 0, before) || !at_most(graph, 0, after))
            fatal("pad: axis %d of %s is padded by less than 0. Hint: shrink", axis,
                  text_of(graph, draft->shape));
        Size *size = &draft->shape.size[axis];
        *size =
            size_add(graph_indices(graph), size_add(graph_indices(graph), *size, before), after);
    }
}

static void check_shrink(const Graph *graph, const NodeDraft *draft) {
    Shape from = source_shape(graph, draft, 0), to = draft->shape, start = {.rank = from.rank};
    for (int axis = 0; axis < from.rank; axis++) start.size[axis] = draft->arg[axis];
    bool fits = from.rank == to.rank;
    for (int axis = 0; fits && axis < from.rank; axis++)
        fits = at_most(graph, 0, start.size[axis]) &&
               at_most(graph, size_add(graph_indices(graph), start.size[axis], to.size[axis]),
                       from.size[axis]);
    if (!fits)
        fatal("shrink: a box of %s at %s is not inside %s. Hint: stay inside", text_of(graph, to),
              text_of(graph, start), text_of(graph, from));
}

static void derive_window(const Graph *graph, NodeDraft *draft) {
    Shape *shape = &draft->shape;
    IndexTable *table = graph_indices(graph);
    int64_t axis = draft->arg[0], size = draft->arg[1], stride = draft->arg[2];
    int64_t dilation = draft->arg[3], reach;
    check_axis(draft, axis, shape->rank);
    if (shape->rank == RANK_MAX)
        fatal("window: %s has no room for another axis", text_of(graph, *shape));
    if (size < 1 || stride < 1 || dilation < 1)
        fatal("window: size %ld, stride %ld, dilation %ld. Hint: they are 1 or more", size, stride,
              dilation);
    if (__builtin_mul_overflow(size - 1, dilation, &reach) || reach >= INT64_MAX / 2 ||
        !at_most(graph, reach + 1, shape->size[axis]))
        fatal("window: size %ld, dilation %ld do not fit axis %ld of %s. Hint: pad first", size,
              dilation, axis, text_of(graph, *shape));
    Index last =
        index_sub(table, size_index(table, shape->size[axis]), index_const(table, reach + 1));
    Index count = index_add(table, index_div(table, last, stride), index_const(table, 1));
    shape->size[axis] = size_from_index(table, count);
    shape->size[shape->rank++] = size;
}

static void check_fold(const NodeDraft *draft) {
    int64_t fold = draft->arg[0];
    if (fold != OP_ADD && fold != OP_MAX && fold != OP_MUL)
        fatal("%s: it folds by add, max or mul only", ops[draft->op].text);
}

static void derive_reduce(const Graph *graph, NodeDraft *draft) {
    check_fold(draft);
    if (draft->shape.rank == 0) return;  // a kernel's, over loops
    if (draft->arg[1] < 0 || draft->arg[1] >> draft->shape.rank)
        fatal("reduce: axes %lx are not all in %s", draft->arg[1], text_of(graph, draft->shape));
    for (int axis = 0; axis < draft->shape.rank; axis++)
        if (draft->arg[1] >> axis & 1) draft->shape.size[axis] = 1;
}

// `index` picks along one axis; along the others it walks over x, which must be as large.
static void check_picks(const Graph *graph, const NodeDraft *draft) {
    Shape x = source_shape(graph, draft, 0), index = source_shape(graph, draft, 1);
    DType dtype = node_dtype(graph, draft->source[1]);
    if (!takes(INTEGERS, dtype))
        fatal("%s: its indices are %s. Hint: cast them to i64", ops[draft->op].text,
              dtypes[dtype].text);
    check_axis(draft, draft->arg[0], x.rank);
    bool fits = x.rank == index.rank;
    for (int axis = 0; fits && axis < x.rank; axis++)
        fits = axis == draft->arg[0] || at_most(graph, index.size[axis], x.size[axis]);
    if (!fits)
        fatal("%s: indices %s do not fit %s. Hint: same rank, and off axis %ld no size larger",
              ops[draft->op].text, text_of(graph, index), text_of(graph, x), draft->arg[0]);
}

static void check_alike(const Graph *graph, const NodeDraft *draft, Id a, Id b) {
    if (!shape_equal(node_shape(graph, a), node_shape(graph, b)))
        fatal("%s: shapes %s and %s differ. Hint: broadcast or reshape first", ops[draft->op].text,
              text_of(graph, node_shape(graph, a)), text_of(graph, node_shape(graph, b)));
    if (draft->op == OP_SCATTER_ADD && a == draft->source[1])
        return;  // indices have a dtype of their own
    if (node_dtype(graph, a) != node_dtype(graph, b))
        fatal("%s: %s and %s. Hint: cast one of them", ops[draft->op].text,
              dtypes[node_dtype(graph, a)].text, dtypes[node_dtype(graph, b)].text);
}

static void check_scatter(const Graph *graph, const NodeDraft *draft) {
    check_picks(graph, draft);
    check_alike(graph, draft, draft->source[1], draft->source[2]);
    DType x = node_dtype(graph, draft->source[0]), values = node_dtype(graph, draft->source[2]);
    if (x != values)
        fatal("scatter_add: %s into %s. Hint: cast one of them", dtypes[values].text,
              dtypes[x].text);
}

// The memory under a view that can be written through: no element twice, none that is not there.
static Id written_root(const Graph *graph, Id view) {
    const Node *node = graph_node(graph, view);
    while (ops[node->op].properties & MOVES) {
        if (node->op == OP_EXPAND || node->op == OP_PAD || node->op == OP_WINDOW)
            fatal("assign: it cannot write through %s. Hint: assign to a plain slice",
                  ops[node->op].text);
        view = node->source[0];
        node = graph_node(graph, view);
    }
    if (node->op != OP_BUFFER && node->op != OP_PARAM && node->op != OP_ASSIGN)
        fatal(
            "assign: a value of %s has no memory to write to. Hint: make it contiguous and keep it",
            ops[node->op].text);
    return view;
}

static void derive_assign(const Graph *graph, NodeDraft *draft) {
    check_alike(graph, draft, draft->source[0], draft->source[1]);
    draft->shape = node_shape(graph, written_root(graph, draft->source[0]));
}

static void check_leaf(const Graph *graph, const NodeDraft *draft) {
    const char *text = ops[draft->op].text;
    if (draft->op == OP_IOTA) {
        check_axis(draft, draft->arg[0], draft->shape.rank);
        if (draft->dtype == DT_BOOL) fatal("iota: bool cannot count. Hint: compare an i32 one");
    }
    if (draft->op == OP_VAR) graph_var_info(graph, (int32_t)draft->arg[0]);
    if (draft->op == OP_VAR && (draft->dtype != DT_I64 || draft->shape.rank))
        fatal("var: it is an i64 scalar, not %s %s", dtypes[draft->dtype].text,
              text_of(graph, draft->shape));
    if (draft->op == OP_INDEX && draft->dtype != DT_I32 && draft->dtype != DT_I64)
        fatal("%s: it is i32 or i64, not %s", text, dtypes[draft->dtype].text);
}

void node_derive(const Graph *graph, NodeDraft *draft) {
    check_counts(graph, draft);
    int properties = ops[draft->op].properties;
    bool chosen = properties & LEAF || draft->op == OP_RESHAPE || draft->op == OP_EXPAND ||
                  draft->op == OP_SHRINK || draft->op == OP_LOAD;
    if (chosen) check_sizes(graph, draft);
    if (!chosen && draft->sources) draft->shape = source_shape(graph, draft, 0);
    if (draft->sources && !(properties & TYPED) && draft->op != OP_LOAD)
        draft->dtype = node_dtype(graph, draft->source[0]);
    if (properties & LEAF) check_leaf(graph, draft);
    if (properties & MAPS) derive_map(graph, draft);
    switch (draft->op) {
    case OP_RESHAPE: check_reshape(graph, draft); break;
    case OP_PERMUTE: derive_permute(graph, draft); break;
    case OP_EXPAND: check_expand(graph, draft); break;
    case OP_PAD: derive_pad(graph, draft); break;
    case OP_SHRINK: check_shrink(graph, draft); break;
    case OP_FLIP:
        if (draft->arg[0] < 0 || draft->arg[0] >> draft->shape.rank)
            fatal("flip: axes %lx are not all in %s", draft->arg[0], text_of(graph, draft->shape));
        break;
    case OP_WINDOW: derive_window(graph, draft); break;
    case OP_REDUCE: derive_reduce(graph, draft); break;
    case OP_SCAN:
        check_fold(draft);
        check_axis(draft, draft->arg[1], draft->shape.rank);
        break;
    case OP_GATHER:
        check_picks(graph, draft);
        draft->shape = source_shape(graph, draft, 1);
        break;
    case OP_SCATTER_ADD: check_scatter(graph, draft); break;
    case OP_ASSIGN: derive_assign(graph, draft); break;
    case OP_WITHGRAD: check_alike(graph, draft, draft->source[0], draft->source[1]); break;
    default: break;
    }
}
