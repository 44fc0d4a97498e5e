/* create.c - tensors from numbers and from the host's memory, and back.
 * In: shapes, values, memory.  Out: constants, which take no memory, or BUFFERs.
 * Invariant: no byte count reaches memcpy without an overflow check; a wrapped BUFFER is read-only
 * and readable 64 bytes past its end.
 *   pg_arange(PG_I64, 2, 8, 3)   =>   %0 = iota (2); %1 = mul %0 3; %2 = add %1 2                */
#include "tensor/tensor.h"

#include <string.h>

#define DTYPE(name, ...) _Static_assert((int)PG_##name == DT_##name, "PgType is dtypes.def");
#include "ir/dtypes.def"
#undef DTYPE

DType dtype_of(const char *verb, PgType type) {
    if ((int)type < 0 || (int)type >= DT_COUNT) fatal("%s: %d is no PgType", verb, (int)type);
    return (DType)type;
}

// ---- facts -------------------------------------------------------------------------------------

PgType pg_type(PgTensor *x) { return (PgType)dtype_at(tensor_in(x)); }

int pg_rank(PgTensor *x) { return shape_at(tensor_in(x)).rank; }

int64_t pg_shape(PgTensor *x, int axis) {
    Id id = tensor_in(x);
    return shape_at(id).size[axis_of("shape", id, axis)];
}

int64_t pg_count(PgTensor *x) {
    Shape shape = shape_at(tensor_in(x));
    for (int i = 0; i < shape.rank; i++)
        if (size_is_symbolic(shape.size[i]))
            fatal("count: shape %s has no one count. Hint: pg_from_size of each axis",
                  shape_name(tensor_in(x)));
    return shape_capacity(graph_indices(graph_now()), shape);
}

// ---- constants ---------------------------------------------------------------------------------

PgTensor *pg_scalar(double value) {
    PgTensor *scalar = tensor_view(node_const_float(graph_now(), DT_F32, (Shape){0}, value));
    scalar->adapts = true;
    scalar->value = value;
    return scalar;
}

PgTensor *pg_full(PgType type, int rank, const int64_t *shape, double value) {
    Shape full = shape_from("full", rank, shape);
    return tensor_view(constant(dtype_of("full", type), full, value));
}

PgTensor *pg_zeros(PgType type, int rank, const int64_t *shape) {
    return pg_full(type, rank, shape, 0);
}

PgTensor *pg_ones(PgType type, int rank, const int64_t *shape) {
    return pg_full(type, rank, shape, 1);
}

PgTensor *pg_arange(PgType type, int64_t start, int64_t end, int64_t step) {
    IndexTable *table = graph_indices(graph_now());
    DType dtype = dtype_of("arange", type);
    if (step == 0) fatal("arange: a step of 0. Hint: 1, or -1 to count down");
    Size span = step < 0 ? size_sub(table, start, end) : size_sub(table, end, start);
    if (size_is_symbolic(span) && step != 1)
        fatal("arange: a step of %lld over a symbolic size. Hint: a step of 1", (long long)step);
    int64_t stride = step < 0 ? -step : step;
    Size count = size_is_symbolic(span) ? span : span <= 0 ? 0 : (span + stride - 1) / stride;
    DType whole = dtype_is_float(dtype) ? DT_I64 : dtype;
    Shape shape = shape_from("arange", 1, &count);
    compose_begin();
    PgTensor *index = tensor_view(node_iota(graph_now(), whole, shape, 0));
    if (step != 1) index = scaled(index, (double)step);
    if (start != 0) index = pg_add(index, pg_cast(pg_from_size(start), (PgType)whole));
    return compose_end(pg_cast(index, type));
}

PgTensor *pg_linspace(double first, double last, int64_t count) {
    if (count < 0) fatal("linspace: a count of %lld. Hint: 0 or more", (long long)count);
    compose_begin();
    double step = count > 1 ? (last - first) / (double)(count - 1) : 0;
    return compose_end(shifted(scaled(pg_arange(PG_F32, 0, count, 1), step), first));
}

PgTensor *pg_eye(PgType type, int64_t size) {
    compose_begin();
    PgTensor *mask = pg_and(pg_tril_mask(size, size, 0), pg_not(pg_tril_mask(size, size, -1)));
    return compose_end(pg_cast(mask, type));
}

PgTensor *pg_tril_mask(int64_t rows, int64_t columns, int64_t diagonal) {
    Shape shape = shape_from("tril_mask", 2, (const int64_t[]){rows, columns});
    compose_begin();
    PgTensor *row = tensor_view(node_iota(graph_now(), DT_I64, shape, 0));
    PgTensor *column = tensor_view(node_iota(graph_now(), DT_I64, shape, 1));
    PgTensor *bound = pg_add(row, shifted(pg_from_size(diagonal), 1));
    return compose_end(pg_lt(column, bound));
}

// ---- the host ----------------------------------------------------------------------------------

size_t bytes_of(DType dtype, Shape shape) {
    int64_t count = shape_capacity(graph_indices(graph_now()), shape), bytes;
    if (__builtin_mul_overflow(count, (int64_t)dtypes[dtype].bytes, &bytes))
        fatal("%lld elements of %d bytes are too many", (long long)count, dtypes[dtype].bytes);
    return (size_t)bytes;
}

static int64_t copied(const void *data, size_t bytes) {
    int64_t buffer = buffer_scratch(bytes);
    if (bytes) memcpy(buffer_data(buffer), data, bytes);
    return buffer;
}

static PgTensor *in_memory(DType dtype, Shape shape, int64_t buffer, int64_t version) {
    scope_hold(scope_now(), buffer);
    return tensor_view(node_buffer(graph_now(), dtype, shape, buffer, version));
}

PgTensor *pg_from_data(PgType type, int rank, const int64_t *shape, const void *data) {
    must_not_trace("from_data", "make it outside, or give it as an input");
    DType dtype = dtype_of("from_data", type);
    Shape full = shape_from("from_data", rank, shape);
    return in_memory(dtype, full, copied(data, bytes_of(dtype, full)), 0);
}

PgTensor *pg_wrap(PgType type, int rank, const int64_t *shape, const void *data, size_t beyond,
                  void (*release)(void *owner), void *owner) {
    enum { READABLE_PAST_END = 64 };
    must_not_trace("wrap", "make it outside: the function captures it");
    DType dtype = dtype_of("wrap", type);
    Shape full = shape_from("wrap", rank, shape);
    size_t bytes = bytes_of(dtype, full);
    bool stays = beyond >= READABLE_PAST_END;
    int64_t buffer =
        stays ? buffer_wrap((void *)(uintptr_t)data, bytes, release, owner) : copied(data, bytes);
    if (!stays && release) release(owner);
    return in_memory(dtype, full, buffer, VERSION_READ_ONLY);
}

void pg_to_host(PgTensor *x, void *data, size_t bytes) {
    must_not_trace("to_host", "return the tensor through out and read it after pg_call");
    Id id = tensor_in(x);
    size_t there = bytes_of(dtype_at(id), shape_at(id));
    if (bytes != there)
        fatal("to_host: %s of shape %s has %zu bytes, not %zu", dtypes[dtype_at(id)].text,
              shape_name(id), there, bytes);
    const void *from = buffer_read(realise_whole(scope_now(), id));
    if (bytes) memcpy(data, from, bytes);
}

// Its one element as `type`, which holds every value of x's type.
static void item(PgTensor *x, PgType type, void *value) {
    must_not_trace("item", "return the tensor through out and read it after pg_call");
    if (pg_count(x) != 1)
        fatal("item: shape %s has more than one element, or none. Hint: pg_select, or pg_to_host",
              shape_name(tensor_in(x)));
    pg_to_host(pg_cast(x, type), value, (size_t)dtypes[type].bytes);
}

double pg_item(PgTensor *x) {
    float value;
    if (!dtype_is_float(dtype_at(tensor_in(x)))) return (double)pg_item_int(x);
    item(x, PG_F32, &value);
    return (double)value;
}

int64_t pg_item_int(PgTensor *x) {
    int64_t value;
    item(x, PG_I64, &value);
    return value;
}
