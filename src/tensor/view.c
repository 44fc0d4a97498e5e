/* view.c - other arrangements of the same elements, and the few copies made of them.
 * In: a handle, axes, sizes.  Out: a handle whose node is a chain of MOVES over the same base.
 * Invariant: a view computes nothing and copies nothing; its sizes may be symbolic wherever an axis
 * is not cut into parts.
 *   x[:, ::2] of (2, 6)  =>  %1 = window %0 {axis 1, size 1, stride 2}; %2 = reshape %1 (2, 3)   */
#include "tensor/tensor.h"

// ---- axes and shapes ---------------------------------------------------------------------------

Shape shape_at(Id x) { return node_shape(graph_now(), x); }

DType dtype_at(Id x) { return node_dtype(graph_now(), x); }

const char *shape_name(Id x) { return graph_shape_text(graph_now(), shape_at(x)); }

int axis_of(const char *verb, Id x, int axis) {
    int rank = shape_at(x).rank;
    if (axis < -rank || axis >= rank)
        fatal("%s: there is no axis %d in shape %s. Hint: axes run from 0, or back from -1", verb,
              axis, shape_name(x));
    return axis < 0 ? axis + rank : axis;
}

uint32_t axes_of(const char *verb, Id x, int count, const int *axes) {
    if (!count) return (1u << shape_at(x).rank) - 1;
    uint32_t set = 0;
    for (int i = 0; i < count; i++) {
        uint32_t bit = 1u << axis_of(verb, x, axes[i]);
        if (set & bit) fatal("%s: axis %d is named twice. Hint: name each once", verb, axes[i]);
        set |= bit;
    }
    return set;
}

Shape shape_from(const char *verb, int rank, const int64_t *shape) {
    if (rank < 0 || rank > RANK_MAX) fatal("%s: rank %d. Hint: 0 to %d axes", verb, rank, RANK_MAX);
    Shape result = {.rank = rank};
    for (int i = 0; i < rank; i++) {
        if (shape[i] < 0) fatal("%s: size %lld of axis %d", verb, (long long)shape[i], i);
        result.size[i] = shape[i];
    }
    shape_capacity(graph_indices(graph_now()), result);
    return result;
}

static Shape shape_without(Shape shape, int axis) {
    shape.rank--;
    for (int i = axis; i < shape.rank; i++) shape.size[i] = shape.size[i + 1];
    return shape;
}

Id without_axes(Id x, uint32_t axes) {
    Shape shape = shape_at(x);
    for (int i = shape.rank - 1; i >= 0; i--)
        if (axes >> i & 1) shape = shape_without(shape, i);
    return shape.rank == shape_at(x).rank ? x : node_reshape(graph_now(), x, shape);
}

Id with_axis(Id x, int axis) {
    Shape from = shape_at(x), shape = {.rank = from.rank + 1};
    if (shape.rank > RANK_MAX)
        fatal("unsqueeze: shape %s already has the most axes there can be", shape_name(x));
    for (int i = 0; i < shape.rank; i++) shape.size[i] = i == axis ? 1 : from.size[i - (i > axis)];
    return node_reshape(graph_now(), x, shape);
}

Id shrink_axis(Id x, int axis, Size start, Size size) {
    Shape shape = shape_at(x);
    if (start == 0 && size == shape.size[axis]) return x;
    Size starts[RANK_MAX] = {0};
    starts[axis] = start;
    shape.size[axis] = size;
    return node_shrink(graph_now(), x, starts, shape.size);
}

// ---- the same elements -------------------------------------------------------------------------

// The size that -1 stands for: that of x over the product of `to`, which has 1 in its place.
static Size size_left(Id x, Shape to) {
    Shape from = shape_at(x);
    int64_t there = 1, wanted = 1;
    Size symbolic = 1;
    for (int i = 0; i < to.rank; i++) {
        bool open = size_is_symbolic(to.size[i]);
        if (!open) wanted *= to.size[i];
        for (int j = 0; open && j < from.rank; j++)
            if (from.size[j] == to.size[i]) from.size[j] = 1, open = false;
    }
    for (int j = 0; j < from.rank; j++) {
        if (size_is_symbolic(from.size[j]))
            symbolic = from.size[j];
        else
            there *= from.size[j];
    }
    if (symbolic != 1 && wanted == there) return symbolic;
    if (symbolic == 1 && wanted > 0 && there % wanted == 0) return there / wanted;
    fatal("reshape: no size for the axis of -1 makes shape %s fit", shape_name(x));
}

PgTensor *pg_reshape(PgTensor *x, int rank, const int64_t *shape) {
    Id id = tensor_in(x);
    int64_t sizes[RANK_MAX] = {0};
    int open = -1;
    for (int i = 0; i < rank && i < RANK_MAX; i++) {
        sizes[i] = shape[i] == -1 ? 1 : shape[i];
        if (shape[i] != -1) continue;
        if (open >= 0) fatal("reshape: axes %d and %d are both -1. Hint: one may be", open, i);
        open = i;
    }
    Shape to = shape_from("reshape", rank, sizes);
    if (open >= 0) to.size[open] = size_left(id, to);
    return tensor_view(shape_equal(to, shape_at(id)) ? id : node_reshape(graph_now(), id, to));
}

PgTensor *pg_permute(PgTensor *x, int count, const int *axes) {
    Id id = tensor_in(x);
    if (count != shape_at(id).rank)
        fatal("permute: %d axes for shape %s. Hint: name each axis once", count, shape_name(id));
    int order[RANK_MAX];
    for (int i = 0; i < count; i++) order[i] = axis_of("permute", id, axes[i]);
    return tensor_view(node_permute(graph_now(), id, order));
}

PgTensor *pg_transpose(PgTensor *x, int axis, int other) {
    Id id = tensor_in(x);
    axis = axis_of("transpose", id, axis);
    other = axis_of("transpose", id, other);
    int order[RANK_MAX];
    for (int i = 0; i < RANK_MAX; i++) order[i] = i == axis ? other : i == other ? axis : i;
    return tensor_view(node_permute(graph_now(), id, order));
}

PgTensor *pg_expand(PgTensor *x, int rank, const int64_t *shape) {
    return tensor_view(broadcast(tensor_in(x), shape_from("expand", rank, shape)));
}

PgTensor *pg_squeeze(PgTensor *x, int axis) {
    Id id = tensor_in(x);
    axis = axis_of("squeeze", id, axis);
    if (shape_at(id).size[axis] != 1)
        fatal("squeeze: axis %d of shape %s is not of size 1", axis, shape_name(id));
    return tensor_view(without_axes(id, 1u << axis));
}

PgTensor *pg_unsqueeze(PgTensor *x, int axis) {
    Id id = tensor_in(x);
    int rank = shape_at(id).rank;
    if (axis < -rank - 1 || axis > rank)
        fatal("unsqueeze: axis %d is not in the result of shape %s and one more", axis,
              shape_name(id));
    return tensor_view(with_axis(id, axis < 0 ? axis + rank + 1 : axis));
}

PgTensor *pg_flip(PgTensor *x, int count, const int *axes) {
    Id id = tensor_in(x);
    return tensor_view(node_flip(graph_now(), id, axes_of("flip", id, count, axes)));
}

PgTensor *pg_detach(PgTensor *x) { return tensor_view(node_detach(graph_now(), tensor_in(x))); }

PgTensor *pg_unfold(PgTensor *x, int axis, int64_t size, int64_t stride, int64_t dilation) {
    Id id = tensor_in(x);
    axis = axis_of("unfold", id, axis);
    return tensor_view(node_window(graph_now(), id, axis, size, stride, dilation));
}

// ---- parts -------------------------------------------------------------------------------------

// As Python's slice.indices does: from the end if negative, then into [low, high].
static int64_t clamped(int64_t at, int64_t size, int64_t low, int64_t high) {
    if (at < 0) at += size;
    return at < low ? low : at > high ? high : at;
}

static Id slice_plain(Id x, int axis, int64_t start, int64_t end, int64_t step) {
    int64_t size = shape_at(x).size[axis];
    bool back = step < 0;
    int64_t low = back ? -1 : 0, high = back ? size - 1 : size;
    start = start == PG_NONE ? (back ? high : low) : clamped(start, size, low, high);
    end = end == PG_NONE ? (back ? low : high) : clamped(end, size, low, high);
    int64_t stride = back ? -step : step, span = back ? start - end : end - start;
    if (span <= 0) return shrink_axis(x, axis, 0, 0);
    x = shrink_axis(x, axis, back ? end + 1 : start, span);
    if (back) x = node_flip(graph_now(), x, 1u << axis);
    if (stride == 1) return x;
    x = node_window(graph_now(), x, axis, 1, stride, 1);
    return without_axes(x, 1u << (shape_at(x).rank - 1));
}

static Id slice_exact(Id x, int axis, Size start, Size end) {
    if (start == PG_NONE) start = 0;
    if (end == PG_NONE) end = shape_at(x).size[axis];
    return shrink_axis(x, axis, start, pg_size_sub(end, start));
}

PgTensor *pg_slice(PgTensor *x, int axis, int64_t start, int64_t end, int64_t step) {
    Id id = tensor_in(x);
    axis = axis_of("slice", id, axis);
    bool symbolic = size_is_symbolic(start) || size_is_symbolic(end) ||
                    size_is_symbolic(shape_at(id).size[axis]);
    if (step == 0 || step == INT64_MIN || (symbolic && step != 1))
        fatal("slice: a step of %lld. Hint: not 0, and 1 where sizes are symbolic",
              (long long)step);
    return tensor_view(symbolic ? slice_exact(id, axis, start, end)
                                : slice_plain(id, axis, start, end, step));
}

PgTensor *pg_select(PgTensor *x, int axis, int64_t index) {
    Id id = tensor_in(x);
    axis = axis_of("select", id, axis);
    if (index < 0) index = pg_size_add(shape_at(id).size[axis], index);
    return tensor_view(without_axes(shrink_axis(id, axis, index, 1), 1u << axis));
}

void pg_split(PgTensor *x, int axis, int count, const int64_t *sizes, PgTensor **out) {
    int64_t start = 0, end = 0;
    for (int i = 0; i < count; i++, start = end) {
        if (sizes[i] < 0) fatal("split: a size of %lld. Hint: 0 or more", (long long)sizes[i]);
        end = pg_size_add(start, sizes[i]);
        out[i] = pg_slice(x, axis, start, end, 1);
    }
    if (end != pg_shape(x, axis))
        fatal("split: the sizes do not sum to that of axis %d of shape %s. Hint: name every part",
              axis, shape_name(tensor_in(x)));
}

// ---- copies ------------------------------------------------------------------------------------

PgTensor *pg_contiguous(PgTensor *x) {
    return tensor_out(node_contiguous(graph_now(), tensor_in(x)));
}

PgTensor *pg_pad(PgTensor *x, const int64_t *before, const int64_t *after, double value) {
    Id id = tensor_in(x);
    Id padded = node_pad(graph_now(), id, before, after);
    if (value == 0) return tensor_out(padded);
    Id inside = node_pad(graph_now(), constant(DT_BOOL, shape_at(id), 1), before, after);
    Id around = constant(dtype_at(id), shape_at(padded), value);
    return tensor_out(node_where(graph_now(), inside, padded, around));
}

// Each operand in its place in the whole, zeros elsewhere, and the sum.
PgTensor *pg_concat(int count, PgTensor **x, int axis) {
    if (count < 1) fatal("concat: nothing to put together. Hint: one tensor or more");
    Id first = tensor_in(x[0]);
    axis = axis_of("concat", first, axis);
    Size total = 0, start = 0;
    for (int i = 0; i < count; i++) {
        Shape like = shape_at(first), shape = shape_at(tensor_in(x[i]));
        like.size[axis] = shape.size[axis];
        if (!shape_equal(like, shape))
            fatal("concat: shapes %s and %s differ beside axis %d. Hint: all other axes alike",
                  shape_name(first), shape_name(tensor_in(x[i])), axis);
        total = pg_size_add(total, shape.size[axis]);
    }
    compose_begin();
    PgTensor *sum = NULL;
    for (int i = 0; i < count; i++) {
        Size before[RANK_MAX] = {0}, after[RANK_MAX] = {0};
        before[axis] = start;
        start = pg_size_add(start, pg_shape(x[i], axis));
        after[axis] = pg_size_sub(total, start);
        PgTensor *placed = pg_pad(x[i], before, after, 0);
        sum = sum ? pg_add(sum, placed) : placed;
    }
    return compose_end(sum);
}

PgTensor *pg_stack(int count, PgTensor **x, int axis) {
    compose_begin();
    PgTensor **layer = arena_array(scope_now()->arena, PgTensor *, count);
    if (axis < 0 && count > 0) axis += pg_rank(x[0]) + 1;
    for (int i = 0; i < count; i++) layer[i] = pg_unsqueeze(x[i], axis);
    return compose_end(pg_concat(count, layer, axis));
}
