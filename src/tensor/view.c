/* view.c - other arrangements of the same elements, and the few copies made of them.
 * In: a handle, axes, sizes.  Out: a handle whose node is a chain of MOVES over the same base.
 * Invariant: a view computes nothing and copies nothing; its sizes may be symbolic wherever an axis
 * is not cut into parts.
 *   x[:, ::2] of (2, 6)  =>  %1 = window %0 {axis 1, size 1, stride 2}; %2 = reshape %1 (2, 3)   */
#include "tensor/tensor.h"

// ---- axes and shapes ------------------------------------------------------------------------

const char *shape_name(Graph *graph, Id x) {
    return graph_shape_text(graph, node_shape(graph, x));
}

int axis_of(const char *verb, Graph *graph, Id x, int axis) {
    int rank = node_shape(graph, x).rank;
    if (axis < -rank || axis >= rank)
        fatal("%s: there is no axis %d in shape %s. Hint: axes run from 0, or back from -1", verb,
              axis, shape_name(graph, x));
    return axis < 0 ? axis + rank : axis;
}

uint32_t axes_of(const char *verb, Graph *graph, Id x, int count, const int *axes) {
    if (!count) return (1u << node_shape(graph, x).rank) - 1;
    uint32_t set = 0;
    for (int i = 0; i < count; i++) {
        uint32_t bit = 1u << axis_of(verb, graph, x, axes[i]);
        if (set & bit) fatal("%s: axis %d is named twice", verb, axes[i]);
        set |= bit;
    }
    return set;
}

Shape shape_from(const char *verb, int rank, const int64_t *shape) {
    if (rank < 0 || rank > RANK_MAX)
        fatal("%s: rank %d. Hint: 0 to %d axes", verb, rank, RANK_MAX);
    Shape result = {.rank = rank};
    for (int i = 0; i < rank; i++) {
        if (shape[i] < 0) fatal("%s: size %lld of axis %d", verb, (long long)shape[i], i);
        result.size[i] = shape[i];
    }
    shape_capacity(graph_indices(scope_now()->graph), result);
    return result;
}

Shape shape_without(Shape shape, int axis) {
    shape.rank--;
    for (int i = axis; i < shape.rank; i++) shape.size[i] = shape.size[i + 1];
    return shape;
}

Id without_axes(Graph *graph, Id x, uint32_t axes) {
    Shape shape = node_shape(graph, x);
    for (int i = shape.rank - 1; i >= 0; i--)
        if (axes >> i & 1) shape = shape_without(shape, i);
    return shape.rank == node_shape(graph, x).rank ? x : node_reshape(graph, x, shape);
}

Id with_axis(Graph *graph, Id x, int axis) {
    Shape from = node_shape(graph, x), shape = {.rank = from.rank + 1};
    if (shape.rank > RANK_MAX)
        fatal("unsqueeze: shape %s already has the most axes there can be", shape_name(graph, x));
    for (int i = 0; i < shape.rank; i++)
        shape.size[i] = i == axis ? 1 : from.size[i - (i > axis)];
    return node_reshape(graph, x, shape);
}

Id shrink_axis(Graph *graph, Id x, int axis, Size start, Size size) {
    Shape shape = node_shape(graph, x);
    if (start == 0 && size == shape.size[axis]) return x;
    Size starts[RANK_MAX] = {0};
    starts[axis] = start;
    shape.size[axis] = size;
    return node_shrink(graph, x, starts, shape.size);
}

// ---- the same elements ----------------------------------------------------------------------

// The size that -1 stands for: what x has and the other sizes of the new shape leave.
static Size size_left(Graph *graph, Id x, int rank, const int64_t *shape) {
    Shape from = node_shape(graph, x);
    bool taken[RANK_MAX] = {false};
    int64_t wanted = 1, there = 1;
    Size left = -1;
    for (int i = 0; i < rank; i++) {
        if (shape[i] < 0) continue;
        if (!size_is_symbolic(shape[i])) wanted *= shape[i];
        for (int j = 0; size_is_symbolic(shape[i]) && j < from.rank; j++)
            if (from.size[j] == shape[i] && !taken[j]) {
                taken[j] = true;
                break;
            }
    }
    for (int j = 0; j < from.rank; j++) {
        if (!size_is_symbolic(from.size[j])) there *= from.size[j];
        else if (!taken[j]) left = left < 0 ? from.size[j] : 0;
    }
    if (left < 0 && wanted > 0 && there % wanted == 0) return there / wanted;
    if (left > 0 && wanted == there) return left;
    fatal("reshape: no size for the axis of -1 turns shape %s into the one asked for",
          shape_name(graph, x));
}

PgTensor *pg_reshape(PgTensor *x, int rank, const int64_t *shape) {
    Graph *graph = scope_now()->graph;
    Id id = tensor_in(x);
    int64_t sizes[RANK_MAX];
    if (rank < 0 || rank > RANK_MAX) fatal("reshape: rank %d. Hint: 0 to %d", rank, RANK_MAX);
    int open = -1;
    for (int i = 0; i < rank; i++) {
        sizes[i] = shape[i];
        if (shape[i] != -1) continue;
        if (open >= 0) fatal("reshape: axes %d and %d are both -1. Hint: one may be", open, i);
        open = i;
    }
    if (open >= 0) sizes[open] = size_left(graph, id, rank, shape);
    Shape to = shape_from("reshape", rank, sizes);
    if (shape_equal(to, node_shape(graph, id))) return tensor_view(id);
    return tensor_view(node_reshape(graph, id, to));
}

PgTensor *pg_permute(PgTensor *x, int count, const int *axes) {
    Graph *graph = scope_now()->graph;
    Id id = tensor_in(x);
    if (count != node_shape(graph, id).rank)
        fatal("permute: %d axes for shape %s. Hint: name each axis once", count,
              shape_name(graph, id));
    int order[RANK_MAX];
    for (int i = 0; i < count; i++) order[i] = axis_of("permute", graph, id, axes[i]);
    return tensor_view(node_permute(graph, id, order));
}

PgTensor *pg_transpose(PgTensor *x, int axis, int other) {
    Graph *graph = scope_now()->graph;
    Id id = tensor_in(x);
    axis = axis_of("transpose", graph, id, axis);
    other = axis_of("transpose", graph, id, other);
    int order[RANK_MAX];
    for (int i = 0; i < RANK_MAX; i++) order[i] = i == axis ? other : i == other ? axis : i;
    return tensor_view(node_permute(graph, id, order));
}

PgTensor *pg_expand(PgTensor *x, int rank, const int64_t *shape) {
    Graph *graph = scope_now()->graph;
    return tensor_view(broadcast(graph, tensor_in(x), shape_from("expand", rank, shape)));
}

PgTensor *pg_squeeze(PgTensor *x, int axis) {
    Graph *graph = scope_now()->graph;
    Id id = tensor_in(x);
    axis = axis_of("squeeze", graph, id, axis);
    if (node_shape(graph, id).size[axis] != 1)
        fatal("squeeze: axis %d of shape %s is not of size 1", axis, shape_name(graph, id));
    return tensor_view(without_axes(graph, id, 1u << axis));
}

PgTensor *pg_unsqueeze(PgTensor *x, int axis) {
    Graph *graph = scope_now()->graph;
    Id id = tensor_in(x);
    int rank = node_shape(graph, id).rank;
    if (axis < -rank - 1 || axis > rank)
        fatal("unsqueeze: axis %d is not in the result of shape %s and one more", axis,
              shape_name(graph, id));
    return tensor_view(with_axis(graph, id, axis < 0 ? axis + rank + 1 : axis));
}

PgTensor *pg_flip(PgTensor *x, int count, const int *axes) {
    Graph *graph = scope_now()->graph;
    Id id = tensor_in(x);
    return tensor_view(node_flip(graph, id, axes_of("flip", graph, id, count, axes)));
}

PgTensor *pg_detach(PgTensor *x) {
    return tensor_view(node_detach(scope_now()->graph, tensor_in(x)));
}

PgTensor *pg_unfold(PgTensor *x, int axis, int64_t size, int64_t stride, int64_t dilation) {
    Graph *graph = scope_now()->graph;
    Id id = tensor_in(x);
    axis = axis_of("unfold", graph, id, axis);
    return tensor_view(node_window(graph, id, axis, size, stride, dilation));
}

// ---- parts ----------------------------------------------------------------------------------

// As Python's slice.indices does: from the end if negative, then into [low, high].
static int64_t clamped(int64_t at, int64_t size, int64_t low, int64_t high) {
    if (at < 0) at += size;
    return at < low ? low : at > high ? high : at;
}

static Id slice_plain(Graph *graph, Id x, int axis, int64_t start, int64_t end, int64_t step) {
    int64_t size = node_shape(graph, x).size[axis];
    bool back = step < 0;
    int64_t low = back ? -1 : 0, high = back ? size - 1 : size;
    start = start == PG_NONE ? (back ? high : low) : clamped(start, size, low, high);
    end = end == PG_NONE ? (back ? low : high) : clamped(end, size, low, high);
    int64_t stride = back ? -step : step, span = back ? start - end : end - start;
    if (span <= 0) return shrink_axis(graph, x, axis, 0, 0);
    x = shrink_axis(graph, x, axis, back ? end + 1 : start, span);
    if (back) x = node_flip(graph, x, 1u << axis);
    if (stride == 1) return x;
    x = node_window(graph, x, axis, 1, stride, 1);
    return without_axes(graph, x, 1u << (node_shape(graph, x).rank - 1));
}

static Id slice_exact(Graph *graph, Id x, int axis, Size start, Size end) {
    if (start == PG_NONE) start = 0;
    if (end == PG_NONE) end = node_shape(graph, x).size[axis];
    return shrink_axis(graph, x, axis, start, size_sub(graph_indices(graph), end, start));
}

PgTensor *pg_slice(PgTensor *x, int axis, int64_t start, int64_t end, int64_t step) {
    Graph *graph = scope_now()->graph;
    Id id = tensor_in(x);
    axis = axis_of("slice", graph, id, axis);
    bool symbolic = size_is_symbolic(start) || size_is_symbolic(end) ||
                    size_is_symbolic(node_shape(graph, id).size[axis]);
    if (step == 0 || step == INT64_MIN || (symbolic && step != 1))
        fatal("slice: a step of %lld. Hint: not 0, and 1 where sizes are symbolic",
              (long long)step);
    return tensor_view(symbolic ? slice_exact(graph, id, axis, start, end)
                                : slice_plain(graph, id, axis, start, end, step));
}

PgTensor *pg_select(PgTensor *x, int axis, int64_t index) {
    Graph *graph = scope_now()->graph;
    Id id = tensor_in(x);
    axis = axis_of("select", graph, id, axis);
    if (index < 0) index = size_add(graph_indices(graph), node_shape(graph, id).size[axis], index);
    return tensor_view(without_axes(graph, shrink_axis(graph, id, axis, index, 1), 1u << axis));
}

void pg_split(PgTensor *x, int axis, int count, const int64_t *sizes, PgTensor **out) {
    Graph *graph = scope_now()->graph;
    Id id = tensor_in(x);
    axis = axis_of("split", graph, id, axis);
    Size start = 0;
    for (int i = 0; i < count; i++) start = size_add(graph_indices(graph), start, sizes[i]);
    if (start != node_shape(graph, id).size[axis])
        fatal("split: the sizes do not sum to that of axis %d of shape %s", axis,
              shape_name(graph, id));
    start = 0;
    for (int i = 0; i < count; i++) {
        Size end = size_add(graph_indices(graph), start, sizes[i]);
        out[i] = tensor_view(slice_exact(graph, id, axis, start, end));
        start = end;
    }
}

// ---- copies ---------------------------------------------------------------------------------

PgTensor *pg_contiguous(PgTensor *x) {
    return tensor_out(node_contiguous(scope_now()->graph, tensor_in(x)));
}

PgTensor *pg_pad(PgTensor *x, const int64_t *before, const int64_t *after, double value) {
    Graph *graph = scope_now()->graph;
    Id id = tensor_in(x);
    Id padded = node_pad(graph, id, before, after);
    if (value == 0) return tensor_out(padded);
    Id inside = constant(graph, DT_BOOL, node_shape(graph, id), 1);
    Id around = constant(graph, node_dtype(graph, id), node_shape(graph, padded), value);
    return tensor_out(node_where(graph, node_pad(graph, inside, before, after), padded, around));
}

// Each operand in its place in the whole, zeros elsewhere, and the sum.
PgTensor *pg_concat(int count, PgTensor **x, int axis) {
    Graph *graph = scope_now()->graph;
    IndexTable *table = graph_indices(graph);
    if (count < 1) fatal("concat: nothing to put together");
    Id first = tensor_in(x[0]), sum = -1;
    axis = axis_of("concat", graph, first, axis);
    Size total = 0, start = 0;
    for (int i = 0; i < count; i++) {
        Id id = tensor_in(x[i]);
        Shape like = node_shape(graph, first), shape = node_shape(graph, id);
        if (shape.rank == like.rank) like.size[axis] = shape.size[axis];
        if (!shape_equal(like, shape) || node_dtype(graph, id) != node_dtype(graph, first))
            fatal("concat: %s %s does not fit %s %s but for axis %d", shape_name(graph, id),
                  dtypes[node_dtype(graph, id)].text, shape_name(graph, first),
                  dtypes[node_dtype(graph, first)].text, axis);
        total = size_add(table, total, shape.size[axis]);
    }
    for (int i = 0; i < count; i++) {
        Id id = tensor_in(x[i]);
        Size before[RANK_MAX] = {0}, after[RANK_MAX] = {0};
        Size end = size_add(table, start, node_shape(graph, id).size[axis]);
        before[axis] = start;
        after[axis] = size_sub(table, total, end);
        Id placed = node_pad(graph, id, before, after);
        sum = sum < 0 ? placed : node_binary(graph, OP_ADD, sum, placed);
        start = end;
    }
    return tensor_out(sum);
}

PgTensor *pg_stack(int count, PgTensor **x, int axis) {
    compose_begin();
    PgTensor **layer = arena_array(scope_now()->arena, PgTensor *, count);
    if (axis < 0 && count > 0) axis += pg_rank(x[0]) + 1;
    for (int i = 0; i < count; i++) layer[i] = pg_unsqueeze(x[i], axis);
    return compose_end(pg_concat(count, layer, axis));
}
