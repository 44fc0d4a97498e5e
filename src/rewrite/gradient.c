/* gradient.c - reverse mode: one rule an op, each says what its sources get of what it got.
 * In: a graph, a loss, nodes to differentiate by.  Out: more nodes of that graph.
 * Invariant: rules emit only ops that have rules, so gradients have gradients. A rule that is
 * missing does not compile: the table names gradient_OP for every row of ops.def.
 *   %2 = mul %0 %1 with gradient %9   =>   %0 gets mul %9 %1, %1 gets mul %9 %0                 */
#include "rewrite/rewrite.h"

#include <string.h>

typedef struct {
    Graph *graph;
    const Id *wrt;
    int count;
    bool *leads;  // by node: a wrt is on its way down, over floats only
    Id *flow;     // by node: the sum of what has come in; -1 if nothing has
} Gradient;

// `out` is the gradient of node `id`.
typedef void GradientRule(Gradient *g, const Node *node, Id id, Id out);

// ---- what the rules are written with -----------------------------------------------------------

static bool wants(const Gradient *g, const Node *node, int source) {
    return g->leads[node->source[source]];
}

static void give(Gradient *g, const Node *node, int source, Id value) {
    Id *flow = &g->flow[node->source[source]];
    if (!wants(g, node, source)) return;
    *flow = *flow < 0 ? value : node_binary(g->graph, OP_ADD, *flow, value);
}

static Id mul(Gradient *g, Id x, Id y) { return node_binary(g->graph, OP_MUL, x, y); }

static Id constant(Graph *graph, Id like, double value) {
    return node_const_float(graph, node_dtype(graph, like), node_shape(graph, like), value);
}

static Id scale(Gradient *g, Id x, double by) { return mul(g, x, constant(g->graph, x, by)); }

static Size size_of(const Graph *graph, Id x, int axis) { return graph_node(graph, x)->size[axis]; }

static Id widen(Gradient *g, Id x, Id like) {
    return node_expand(g->graph, x, node_shape(g->graph, like));
}

// Element i becomes x[i - by] along the axis; zeros come in.
static Id shift(Graph *graph, Id x, int axis, int64_t by) {
    Size before[RANK_MAX] = {0}, after[RANK_MAX] = {0}, start[RANK_MAX] = {0};
    if (by > 0) before[axis] = by;
    if (by < 0) after[axis] = start[axis] = -by;
    return node_shrink(graph, node_pad(graph, x, before, after), start, graph_node(graph, x)->size);
}

// The same with a one coming in: products of what lies before each element, from inclusive ones.
static Id shift_in_one(Graph *graph, Id x, int axis) {
    Shape shape = node_shape(graph, x);
    Id position = node_iota(graph, DT_I64, shape, axis);
    Id inside = node_binary(graph, OP_CMPNE, position, node_const_int(graph, DT_I64, shape, 0));
    Id shifted = shift(graph, x, axis, 1);
    return node_where(graph, inside, shifted, constant(graph, x, 1));
}

static Id product_before(Graph *graph, Id x, int axis) {
    return shift_in_one(graph, node_scan(graph, OP_MUL, x, axis), axis);
}

// ---- no gradient -------------------------------------------------------------------------------

static void none(Gradient *g, const Node *node, Id id, Id out) {
    (void)g, (void)node, (void)id, (void)out;
}

static void kernel_only(Gradient *g, const Node *node, Id id, Id out) {
    (void)g, (void)id, (void)out;
    fatal("gradient: %s is of the kernel dialect. Hint: differentiate the tensor graph",
          ops[node->op].text);
}

static void gradient_ASSIGN(Gradient *g, const Node *node, Id id, Id out) {
    (void)g, (void)node, (void)id, (void)out;
    fatal("gradient: the loss reads memory that an assign changed. Hint: compute a new value "
          "instead, or assign under no_grad or to a detached value");
}

// Leaves; steps (their slope is 0); what only integers and bools have.
#define gradient_CONST   none
#define gradient_BUFFER  none
#define gradient_PARAM   none
#define gradient_VAR     none
#define gradient_IOTA    none
#define gradient_BITCAST none
#define gradient_TRUNC   none
#define gradient_IDIV    none
#define gradient_MOD     none
#define gradient_CMPLT   none
#define gradient_CMPNE   none
#define gradient_AND     none
#define gradient_OR      none
#define gradient_XOR     none
#define gradient_SHL     none
#define gradient_SHR     none
#define gradient_DETACH  none
#define gradient_LOAD    kernel_only
#define gradient_INDEX   kernel_only
#define gradient_TF32    kernel_only
#define gradient_VEC     kernel_only
#define gradient_LANE    kernel_only
#define gradient_PERM    kernel_only

// ---- movements: each has an adjoint among the others -------------------------------------------

static void gradient_RESHAPE(Gradient *g, const Node *node, Id id, Id out) {
    (void)id;
    give(g, node, 0, node_reshape(g->graph, out, node_shape(g->graph, node->source[0])));
}

static void gradient_PERMUTE(Gradient *g, const Node *node, Id id, Id out) {
    (void)id;
    int inverse[RANK_MAX];
    for (int axis = 0; axis < node->rank; axis++) inverse[node->arg[axis]] = axis;
    give(g, node, 0, node_permute(g->graph, out, inverse));
}

static void gradient_EXPAND(Gradient *g, const Node *node, Id id, Id out) {
    (void)id;
    uint32_t repeated = 0;
    for (int axis = 0; axis < node->rank; axis++)
        if (size_of(g->graph, node->source[0], axis) != node->size[axis]) repeated |= 1u << axis;
    give(g, node, 0, node_reduce(g->graph, OP_ADD, out, repeated));
}

static void gradient_PAD(Gradient *g, const Node *node, Id id, Id out) {
    (void)id;
    const Node *x = graph_node(g->graph, node->source[0]);
    if (node->rank) out = node_shrink(g->graph, out, node->arg, x->size);
    give(g, node, 0, out);
}

static void gradient_SHRINK(Gradient *g, const Node *node, Id id, Id out) {
    (void)id;
    IndexTable *table = graph_indices(g->graph);
    Size after[RANK_MAX];
    for (int axis = 0; axis < node->rank; axis++) {
        Size end = size_add(table, node->arg[axis], node->size[axis]);
        after[axis] = size_sub(table, size_of(g->graph, node->source[0], axis), end);
    }
    if (node->rank) out = node_pad(g->graph, out, node->arg, after);
    give(g, node, 0, out);
}

static void gradient_FLIP(Gradient *g, const Node *node, Id id, Id out) {
    (void)id;
    give(g, node, 0, node_flip(g->graph, out, (uint32_t)node->arg[0]));
}

// stride - 1 zeros behind each element but the last.
static Id spread(Graph *graph, Id x, int axis, int64_t stride) {
    Shape shape = node_shape(graph, x), apart = {.rank = shape.rank + 1};
    if (stride == 1 || shape.size[axis] == 0) return x;
    for (int i = 0; i < apart.rank; i++)
        apart.size[i] = i <= axis ? shape.size[i] : i == axis + 1 ? 1 : shape.size[i - 1];
    Size nothing[RANK_MAX] = {0}, behind[RANK_MAX] = {0};
    behind[axis + 1] = stride - 1;
    Id padded = node_pad(graph, node_reshape(graph, x, apart), nothing, behind);
    shape.size[axis] *= stride;
    Id joined = node_reshape(graph, padded, shape);
    shape.size[axis] -= stride - 1;
    return node_shrink(graph, joined, nothing, shape.size);
}

// Place j of every window reads x from j * dilation on, in steps of stride: a padded sum over j.
static void gradient_WINDOW(Gradient *g, const Node *node, Id id, Id out) {
    (void)id;
    Graph *graph = g->graph;
    IndexTable *table = graph_indices(graph);
    int axis = (int)node->arg[0], last = node->rank - 1;
    int64_t size = node->arg[1], stride = node->arg[2], dilation = node->arg[3];
    Shape x = node_shape(graph, node->source[0]);
    Id sum = -1;
    for (int64_t j = 0; j < size; j++) {
        Shape place = node_shape(graph, out);
        Size start[RANK_MAX] = {0}, before[RANK_MAX] = {0}, after[RANK_MAX] = {0};
        start[last] = j;
        place.size[last] = 1;
        Id slice = node_shrink(graph, out, start, place.size);
        place.rank--;
        slice = spread(graph, node_reshape(graph, slice, place), axis, stride);
        before[axis] = j * dilation;
        Size end = size_add(table, size_of(graph, slice, axis), before[axis]);
        after[axis] = size_sub(table, x.size[axis], end);
        slice = node_pad(graph, slice, before, after);
        sum = sum < 0 ? slice : node_binary(graph, OP_ADD, sum, slice);
    }
    give(g, node, 0, sum);
}

// ---- elementwise -------------------------------------------------------------------------------

static void gradient_CAST(Gradient *g, const Node *node, Id id, Id out) {
    (void)id;
    give(g, node, 0, node_cast(g->graph, out, node_dtype(g->graph, node->source[0])));
}

static void gradient_RECIP(Gradient *g, const Node *node, Id id, Id out) {
    give(g, node, 0, scale(g, mul(g, out, mul(g, id, id)), -1));
}

static void gradient_SQRT(Gradient *g, const Node *node, Id id, Id out) {
    Id slope = node_unary(g->graph, OP_RECIP, id);
    give(g, node, 0, mul(g, scale(g, out, 0.5), slope));
}

static void gradient_EXP2(Gradient *g, const Node *node, Id id, Id out) {
    give(g, node, 0, mul(g, scale(g, out, 0.693147180559945309), id));  // ln 2
}

static void gradient_LOG2(Gradient *g, const Node *node, Id id, Id out) {
    (void)id;
    Id slope = node_unary(g->graph, OP_RECIP, node->source[0]);
    give(g, node, 0, mul(g, scale(g, out, 1.44269504088896341), slope));  // 1 / ln 2
}

// cos(x) = 1 - 2 sin(x/2)^2: halving is exact, while adding pi/2 to a large x is not.
static void gradient_SIN(Gradient *g, const Node *node, Id id, Id out) {
    (void)id;
    Id half = node_unary(g->graph, OP_SIN, scale(g, node->source[0], 0.5));
    Id doubled = scale(g, half, -2);
    Id cosine = node_fma(g->graph, doubled, half, constant(g->graph, half, 1));
    give(g, node, 0, mul(g, out, cosine));
}

static void gradient_ADD(Gradient *g, const Node *node, Id id, Id out) {
    (void)id;
    give(g, node, 0, out);
    give(g, node, 1, out);
}

static void gradient_MUL(Gradient *g, const Node *node, Id id, Id out) {
    (void)id;
    if (wants(g, node, 0)) give(g, node, 0, mul(g, out, node->source[1]));
    if (wants(g, node, 1)) give(g, node, 1, mul(g, out, node->source[0]));
}

// All of it to the larger; of two equals, half to each.
static void gradient_MAX(Gradient *g, const Node *node, Id id, Id out) {
    (void)id;
    Graph *graph = g->graph;
    for (int i = 0; i < 2; i++) {
        if (!wants(g, node, i)) continue;
        Id mine = node->source[i], other = node->source[1 - i];
        Id half = scale(g, out, 0.5), less = node_binary(graph, OP_CMPLT, mine, other);
        Id tied = node_where(graph, less, constant(graph, out, 0), half);
        Id more = node_binary(graph, OP_CMPLT, other, mine);
        give(g, node, i, node_where(graph, more, out, tied));
    }
}

static void gradient_WHERE(Gradient *g, const Node *node, Id id, Id out) {
    (void)id;
    Id zero = constant(g->graph, out, 0);
    if (wants(g, node, 1)) give(g, node, 1, node_where(g->graph, node->source[0], out, zero));
    if (wants(g, node, 2)) give(g, node, 2, node_where(g->graph, node->source[0], zero, out));
}

static void gradient_FMA(Gradient *g, const Node *node, Id id, Id out) {
    gradient_MUL(g, node, id, out);
    give(g, node, 2, out);
}

// ---- folds -------------------------------------------------------------------------------------

// The elements equal to the maximum share alike.
static Id reduce_max(Gradient *g, const Node *node, Id id, Id out) {
    Graph *graph = g->graph;
    Id x = node->source[0];
    Id other = node_binary(graph, OP_CMPNE, x, widen(g, id, x));
    Id zero = constant(graph, x, 0);
    Id chosen = node_where(graph, other, zero, constant(graph, x, 1));
    Id winners = node_reduce(graph, OP_ADD, chosen, (uint32_t)node->arg[1]);
    Id share = mul(g, out, node_unary(graph, OP_RECIP, winners));
    return node_where(graph, other, zero, widen(g, share, x));
}

// One axis at a time; along it, the product of the others is that before times that behind. No
// division: zeros are as good as other numbers.
static Id reduce_mul(Gradient *g, const Node *node, Id out) {
    Graph *graph = g->graph;
    Id partial[RANK_MAX + 1] = {node->source[0]};
    int axes[RANK_MAX], count = 0;
    for (int axis = 0; axis < node->rank; axis++) {
        if (!(node->arg[1] >> axis & 1)) continue;
        partial[count + 1] = node_reduce(graph, OP_MUL, partial[count], 1u << axis);
        axes[count++] = axis;
    }
    while (count-- > 0) {
        Id x = partial[count], flipped = node_flip(graph, x, 1u << axes[count]);
        Id before = product_before(graph, x, axes[count]);
        Id behind = product_before(graph, flipped, axes[count]);
        Id others = mul(g, before, node_flip(graph, behind, 1u << axes[count]));
        out = mul(g, widen(g, out, x), others);
    }
    return out;
}

static void gradient_REDUCE(Gradient *g, const Node *node, Id id, Id out) {
    Op fold = (Op)node->arg[0];
    if (fold == OP_ADD) out = widen(g, out, node->source[0]);
    if (fold == OP_MAX) out = reduce_max(g, node, id, out);
    if (fold == OP_MUL) out = reduce_mul(g, node, out);
    give(g, node, 0, out);
}

static Id scan_add(Gradient *g, Id out, int axis) {
    Id flipped = node_flip(g->graph, out, 1u << axis);
    return node_flip(g->graph, node_scan(g->graph, OP_ADD, flipped, axis), 1u << axis);
}

// Each gradient goes to where the running maximum came from; of equals, the last.
static Id scan_max(Gradient *g, const Node *node, Id id, Id out, int axis) {
    Graph *graph = g->graph;
    Id x = node->source[0];
    Shape shape = node_shape(graph, x);
    Id older = node_binary(graph, OP_CMPNE, x, id), zero = node_const_int(graph, DT_I64, shape, 0);
    Id from = node_where(graph, older, zero, node_iota(graph, DT_I64, shape, axis));
    Id winner = node_scan(graph, OP_MAX, from, axis);
    return node_scatter_add(graph, constant(graph, x, 0), winner, out, axis);
}

// y[i] = y[i-1] * x[i], so x[i] gets y[i-1] * a[i] with a[i] = out[i] + x[i+1] * a[i+1]. That
// recurrence is solved by doubling: after a step, a[i] = sum[i] + reach[i] * a[i + step].
static Id scan_mul(Gradient *g, const Node *node, Id id, Id out, int axis) {
    Graph *graph = g->graph;
    int64_t most = size_max(graph_indices(graph), node->size[axis]);
    Id sum = out, reach = shift(graph, node->source[0], axis, -1);
    for (int64_t step = 1; step < most; step *= 2) {
        sum = node_fma(graph, reach, shift(graph, sum, axis, -step), sum);
        reach = mul(g, reach, shift(graph, reach, axis, -step));
    }
    return mul(g, shift_in_one(graph, id, axis), sum);
}

static void gradient_SCAN(Gradient *g, const Node *node, Id id, Id out) {
    Op fold = (Op)node->arg[0];
    int axis = (int)node->arg[1];
    if (fold == OP_ADD) out = scan_add(g, out, axis);
    if (fold == OP_MAX) out = scan_max(g, node, id, out, axis);
    if (fold == OP_MUL) out = scan_mul(g, node, id, out, axis);
    give(g, node, 0, out);
}

// ---- the rest ----------------------------------------------------------------------------------

static Id in_type(Graph *graph, Id x, DType dtype) {
    return node_dtype(graph, x) == dtype ? x : node_cast(graph, x, dtype);
}

// Summed in f32, whatever the type.
static void gradient_GATHER(Gradient *g, const Node *node, Id id, Id out) {
    (void)id;
    Graph *graph = g->graph;
    Id zero = node_const_float(graph, DT_F32, node_shape(graph, node->source[0]), 0);
    Id sum = node_scatter_add(graph, zero, node->source[1], in_type(graph, out, DT_F32),
                              (int)node->arg[0]);
    give(g, node, 0, in_type(graph, sum, (DType)node->dtype));
}

static void gradient_SCATTER_ADD(Gradient *g, const Node *node, Id id, Id out) {
    (void)id;
    give(g, node, 0, out);
    if (wants(g, node, 2))
        give(g, node, 2, node_gather(g->graph, out, node->source[1], (int)node->arg[0]));
}

static void gradient_WITHGRAD(Gradient *g, const Node *node, Id id, Id out) {
    (void)id;
    give(g, node, 1, out);
}

static void pass_on(Gradient *g, const Node *node, Id id, Id out) {
    (void)id;
    give(g, node, 0, out);
}

#define gradient_CONTIGUOUS pass_on
#define gradient_COPY       pass_on

static GradientRule *const rule_of[OP_COUNT] = {
#define OP(name, ...) gradient_##name,
#include "ir/ops.def"
#undef OP
};

// ---- the sweep ---------------------------------------------------------------------------------

static bool is_wrt(const Gradient *g, Id id) {
    for (int i = 0; i < g->count; i++)
        if (g->wrt[i] == id) return true;
    return false;
}

static bool source_leads(const Gradient *g, const Node *node) {
    if (!dtype_is_float((DType)node->dtype) || node->op == OP_DETACH) return false;
    bool any = false;
    for (int i = node->op == OP_WITHGRAD; i < node->sources; i++) any |= g->leads[node->source[i]];
    return any;
}

static void check_float(const Graph *graph, Id id, const char *what) {
    DType dtype = node_dtype(graph, id);
    if (!dtype_is_float(dtype))
        fatal("gradient: %s is %s. Hint: only floats have gradients; cast first", what,
              dtypes[dtype].text);
}

static void check_seed(const Graph *graph, Id loss, Id seed) {
    if (node_dtype(graph, seed) != node_dtype(graph, loss) ||
        !shape_equal(node_shape(graph, seed), node_shape(graph, loss)))
        fatal(
            "gradient: the seed is %s %s, the loss %s %s. Hint: they must be alike",
            dtypes[node_dtype(graph, seed)].text, graph_shape_text(graph, node_shape(graph, seed)),
            dtypes[node_dtype(graph, loss)].text, graph_shape_text(graph, node_shape(graph, loss)));
}

void gradient(Graph *graph, Id loss, Id seed, int count, const Id *wrt, Id *out) {
    Arena *arena = graph_arena(graph);
    Gradient g = {graph, wrt, count, arena_array(arena, bool, graph_count(graph)),
                  arena_array(arena, Id, graph_count(graph))};
    check_float(graph, loss, "the loss");
    for (int i = 0; i < count; i++) check_float(graph, wrt[i], "what it is taken by");
    if (seed >= 0) check_seed(graph, loss, seed);
    int32_t nodes = graph_count(graph);
    for (Id id = 0; id < nodes; id++) {
        g.leads[id] = is_wrt(&g, id) || source_leads(&g, graph_node(graph, id));
        g.flow[id] = -1;
    }
    if (g.leads[loss]) g.flow[loss] = seed >= 0 ? seed : constant(graph, loss, 1);
    for (Id id = loss; id >= 0; id--) {
        const Node *node = graph_node(graph, id);
        if (g.flow[id] >= 0 && source_leads(&g, node)) rule_of[node->op](&g, node, id, g.flow[id]);
    }
    for (int i = 0; i < count; i++)
        out[i] = g.flow[wrt[i]] >= 0 ? g.flow[wrt[i]] : constant(graph, wrt[i], 0);
}
