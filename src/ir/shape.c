/* shape.c - sizes that are numbers or expressions over VARs, and shapes of them.
 * In: sizes.  Out: sizes in canonical form: equal sizes are equal words, constants plain numbers.
 * Invariant: a plain size is below SIZE_SYMBOLIC, so that it never reads as the id of an Index.
 *   (keys + 1) - keys => 1    (3, 1) with (2, 3, 4) => (2, 3, 4)                             */
#include "ir/ir.h"

#include <string.h>

Index size_index(IndexTable *table, Size size) {
    if (!size_is_symbolic(size)) return index_const(table, size);
    if (!index_is_symbolic(table, size - SIZE_SYMBOLIC))
        fatal("a size of %ld is beyond every memory. Hint: an overflow?", size);
    return (Index)(size - SIZE_SYMBOLIC);
}

Size size_from_index(IndexTable *table, Index index) {
    int64_t value;
    if (!index_is_const(table, index, &value)) return SIZE_SYMBOLIC + index;
    if (value >= SIZE_SYMBOLIC) fatal("a size of %ld is beyond every memory", value);
    return value;
}

Size size_add(IndexTable *table, Size a, Size b) {
    return size_from_index(table, index_add(table, size_index(table, a), size_index(table, b)));
}

Size size_sub(IndexTable *table, Size a, Size b) {
    return size_from_index(table, index_sub(table, size_index(table, a), size_index(table, b)));
}

Size size_scale(IndexTable *table, Size a, int64_t by) {
    return size_from_index(table, index_scale(table, size_index(table, a), by));
}

int64_t size_max(IndexTable *table, Size size) {
    return size_is_symbolic(size) ? index_high(table, size_index(table, size)) : size;
}

Shape shape_of(int rank, ...) {
    if (rank < 0 || rank > RANK_MAX)
        fatal("a shape of rank %d. Hint: 0 to %d axes", rank, RANK_MAX);
    Shape shape = {.rank = rank};
    va_list sizes;
    va_start(sizes, rank);
    for (int i = 0; i < rank; i++) shape.size[i] = va_arg(sizes, int64_t);
    va_end(sizes);
    return shape;
}

bool shape_equal(Shape a, Shape b) {
    return a.rank == b.rank && !memcmp(a.size, b.size, (size_t)a.rank * sizeof(Size));
}

int64_t shape_capacity(IndexTable *table, Shape shape) {
    int64_t capacity = 1;
    bool empty = false;
    for (int i = 0; i < shape.rank; i++) {
        int64_t size = size_max(table, shape.size[i]);
        if (size < 0) fatal("axis %d has the size %ld", i, size);
        empty |= size == 0;
        if (size && __builtin_mul_overflow(capacity, size, &capacity))
            fatal("a shape of rank %d has more elements than 64 bits count. Hint: an overflow?",
                  shape.rank);
    }
    return empty ? 0 : capacity;
}

bool shape_broadcast(Shape a, Shape b, Shape *out) {
    *out = (Shape){.rank = (int)max_i64(a.rank, b.rank)};
    for (int i = 0; i < out->rank; i++) {
        int in_a = i - out->rank + a.rank, in_b = i - out->rank + b.rank;
        Size x = in_a < 0 ? 1 : a.size[in_a], y = in_b < 0 ? 1 : b.size[in_b];
        if (x != y && x != 1 && y != 1) return false;
        out->size[i] = x == 1 ? y : x;
    }
    return true;
}
