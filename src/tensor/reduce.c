/* reduce.c - operations along axes: folds, prefix folds, and reading or adding by index.
 * In: a handle and axes, counted from either end.  Out: folded axes are gone, or of size 1.
 * Invariant: a fold is one REDUCE over the axes together; the rest is arithmetic around it.
 *   mean (2, 3) over axis 1  =>  %1 = reduce %0 {add, axis 1}; %2 = mul %1 1/3  */
#include "tensor/tensor.h"

#include <math.h>

// ---- folds -------------------------------------------------------------------------------------

static PgTensor *fold(const char *verb, Op op, PgTensor *x, int count, const int *axes, bool keep) {
    Id id = tensor_in(x);
    uint32_t set = axes_of(verb, id, count, axes);
    if (set) id = node_reduce(graph_now(), op, id, set);
    return tensor_out(keep ? id : without_axes(id, set));
}

PgTensor *pg_sum(PgTensor *x, int count, const int *axes, bool keep) {
    compose_begin();
    if (pg_type(x) == PG_BOOL) x = pg_cast(x, PG_I64);
    return compose_end(fold("sum", OP_ADD, x, count, axes, keep));
}

PgTensor *pg_prod(PgTensor *x, int count, const int *axes, bool keep) {
    return fold("prod", OP_MUL, x, count, axes, keep);
}

PgTensor *pg_max(PgTensor *x, int count, const int *axes, bool keep) {
    return fold("max", OP_MAX, x, count, axes, keep);
}

PgTensor *pg_min(PgTensor *x, int count, const int *axes, bool keep) {
    compose_begin();
    PgTensor *(*turn)(PgTensor *) = dtype_is_float((DType)pg_type(x)) ? pg_neg : pg_not;
    return compose_end(turn(fold("min", OP_MAX, turn(x), count, axes, keep)));
}

// Of bool, a sum is "or" and a product is "and".
PgTensor *pg_any(PgTensor *x, int count, const int *axes, bool keep) {
    compose_begin();
    return compose_end(fold("any", OP_ADD, pg_cast(x, PG_BOOL), count, axes, keep));
}

PgTensor *pg_all(PgTensor *x, int count, const int *axes, bool keep) {
    compose_begin();
    return compose_end(fold("all", OP_MUL, pg_cast(x, PG_BOOL), count, axes, keep));
}

// How many elements are folded into one, as a scalar; a number where sizes are numbers.
static PgTensor *folded_count(const char *verb, PgTensor *x, int count, const int *axes) {
    Id id = tensor_in(x);
    uint32_t set = axes_of(verb, id, count, axes);
    Shape shape = shape_at(id);
    double plain = 1;
    PgTensor *symbolic = NULL;
    for (int i = 0; i < shape.rank; i++) {
        if (!(set >> i & 1)) continue;
        if (!size_is_symbolic(shape.size[i])) {
            plain *= (double)shape.size[i];
            continue;
        }
        PgTensor *size = pg_cast(pg_from_size(shape.size[i]), pg_type(x));
        symbolic = symbolic ? pg_mul(symbolic, size) : size;
    }
    return symbolic ? scaled(symbolic, plain) : pg_scalar(plain);
}

PgTensor *pg_mean(PgTensor *x, int count, const int *axes, bool keep) {
    compose_begin();
    PgTensor *sum = fold("mean", OP_ADD, wide(x), count, axes, keep);
    return compose_end(rounded(pg_div(sum, folded_count("mean", wide(x), count, axes)), x));
}

PgTensor *pg_variance(PgTensor *given, int count, const int *axes, int correction, bool keep) {
    compose_begin();
    PgTensor *x = wide(given), *centred = pg_sub(x, pg_mean(x, count, axes, true));
    PgTensor *sum = fold("variance", OP_ADD, pg_mul(centred, centred), count, axes, keep);
    PgTensor *freedom = pg_sub(folded_count("variance", x, count, axes), pg_scalar(correction));
    freedom = pg_cast(freedom, pg_type(x));
    return compose_end(rounded(pg_div(sum, pg_maximum(freedom, pg_scalar(0))), given));
}

PgTensor *pg_std(PgTensor *x, int count, const int *axes, int correction, bool keep) {
    compose_begin();
    return compose_end(rounded(pg_sqrt(pg_variance(wide(x), count, axes, correction, keep)), x));
}

// ---- exponentials ------------------------------------------------------------------------------

// The largest along the axes, where subtracting it is of use; its gradient cancels.
static PgTensor *safe_max(PgTensor *x, int count, const int *axes) {
    PgTensor *largest = pg_detach(pg_max(x, count, axes, true));
    PgTensor *finite = pg_lt(pg_abs(largest), pg_scalar(INFINITY));
    return pg_where(pg_or(finite, pg_ne(largest, largest)), largest, pg_scalar(0));
}

PgTensor *pg_logsumexp(PgTensor *given, int count, const int *axes, bool keep) {
    compose_begin();
    PgTensor *x = wide(given), *largest = safe_max(x, count, axes);
    PgTensor *sum = fold("logsumexp", OP_ADD, pg_exp(pg_sub(x, largest)), count, axes, true);
    PgTensor *result = rounded(pg_add(pg_log(sum), largest), given);
    if (keep) return compose_end(result);
    uint32_t set = axes_of("logsumexp", tensor_in(x), count, axes);
    return compose_end(tensor_view(without_axes(tensor_in(result), set)));
}

PgTensor *pg_softmax(PgTensor *given, int axis) {
    compose_begin();
    PgTensor *x = wide(given), *largest = pg_detach(pg_max(x, 1, &axis, true));
    PgTensor *power = pg_exp(pg_sub(x, largest));
    return compose_end(rounded(pg_div(power, pg_sum(power, 1, &axis, true)), given));
}

PgTensor *pg_log_softmax(PgTensor *given, int axis) {
    compose_begin();
    PgTensor *x = wide(given), *centred = pg_sub(x, pg_detach(pg_max(x, 1, &axis, true)));
    PgTensor *sum = pg_sum(pg_exp(centred), 1, &axis, true);
    return compose_end(rounded(pg_sub(centred, pg_log(sum)), given));
}

// ---- where the largest is ----------------------------------------------------------------------

// A NaN counts as the largest. Indices are negated, so that the first is the largest of them.
PgTensor *pg_argmax(PgTensor *x, int axis, bool keep) {
    compose_begin();
    Id id = tensor_in(x);
    axis = axis_of("argmax", id, axis);
    if (shape_at(id).size[axis] == 0)
        fatal("argmax: axis %d of shape %s has no elements. Hint: one or more", axis,
              shape_name(id));
    PgTensor *found = pg_eq(x, pg_max(x, 1, &axis, true));
    if (dtype_is_float(dtype_at(id))) found = pg_or(found, pg_ne(x, x));
    PgTensor *index = tensor_view(node_iota(graph_now(), DT_I64, shape_at(id), axis));
    PgTensor *first = pg_where(found, pg_neg(index), pg_scalar(-0x1p62));
    return compose_end(pg_neg(pg_max(first, 1, &axis, keep)));
}

PgTensor *pg_argmin(PgTensor *x, int axis, bool keep) {
    compose_begin();
    bool floats = dtype_is_float((DType)pg_type(x));
    return compose_end(pg_argmax(floats ? pg_neg(x) : pg_not(x), axis, keep));
}

// ---- prefixes ----------------------------------------------------------------------------------

static PgTensor *scan(const char *verb, Op op, PgTensor *x, int axis) {
    compose_begin();
    Id id = tensor_in(wide(x));
    PgTensor *result = tensor_view(node_scan(graph_now(), op, id, axis_of(verb, id, axis)));
    return compose_end(rounded(result, x));
}

PgTensor *pg_cumsum(PgTensor *x, int axis) { return scan("cumsum", OP_ADD, x, axis); }

PgTensor *pg_cumprod(PgTensor *x, int axis) { return scan("cumprod", OP_MUL, x, axis); }

// ---- by index ----------------------------------------------------------------------------------

PgTensor *pg_gather(PgTensor *x, int axis, PgTensor *index) {
    Id id = tensor_in(x);
    return tensor_out(node_gather(graph_now(), id, tensor_in(index), axis_of("gather", id, axis)));
}

PgTensor *pg_scatter_add(PgTensor *x, int axis, PgTensor *index, PgTensor *values) {
    must_be_alike("scatter_add", x, values);
    compose_begin();
    Id id = tensor_in(wide(x)), added = tensor_in(wide(values));
    axis = axis_of("scatter_add", id, axis);
    id = node_scatter_add(graph_now(), id, tensor_in(index), added, axis);
    return compose_end(rounded(tensor_view(id), x));
}

PgTensor *pg_index(PgTensor *x, int axis, PgTensor *index) {
    Id id = tensor_in(x), by = tensor_in(index);
    axis = axis_of("index", id, axis);
    if (shape_at(by).rank != 1)
        fatal("index: the index has shape %s. Hint: one axis; pg_gather takes any", shape_name(by));
    Shape shape = shape_at(id), aligned = {.rank = shape.rank};
    for (int i = 0; i < shape.rank; i++) aligned.size[i] = 1;
    shape.size[axis] = aligned.size[axis] = shape_at(by).size[0];
    by = broadcast(node_reshape(graph_now(), by, aligned), shape);
    return tensor_out(node_gather(graph_now(), id, by, axis));
}

PgTensor *pg_embedding(PgTensor *table, PgTensor *index) {
    Shape rows = shape_at(tensor_in(index)), from = shape_at(tensor_in(table));
    if (from.rank != 2)
        fatal("embedding: the table has shape %s. Hint: (rows, width)",
              shape_name(tensor_in(table)));
    compose_begin();
    PgTensor *flat = rows.rank == 1 ? index : pg_reshape(index, PG_SHAPE(-1));
    rows.size[rows.rank++] = from.size[1];
    return compose_end(pg_reshape(pg_index(table, 0, flat), rows.rank, rows.size));
}
