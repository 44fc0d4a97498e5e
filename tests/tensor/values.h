/* values.h - tensors beside lists of numbers. */
#ifndef PICOGRAD_TESTS_VALUES_H
#define PICOGRAD_TESTS_VALUES_H
#include "picograd.h"
#include "test.h"

#include <math.h>

// All elements, row-major, within 1e-6 of 1 and the value.
#define CHECK_VALUES(x, ...)                                                                  \
    check_values((x), (const double[]){__VA_ARGS__}, COUNT_OF(((double[]){__VA_ARGS__})), #x, \
                 __FILE__, __LINE__)
#define CHECK_SHAPE(x, ...) check_shape((x), PG_SHAPE(__VA_ARGS__), #x, __FILE__, __LINE__)

static inline void check_values(PgTensor *x, const double *wanted, int count, const char *what,
                                const char *file, int line) {
    check_int(pg_count(x), count, what, file, line);
    PgTensor *flat = pg_reshape(x, PG_SHAPE(-1));
    for (int i = 0; i < count; i++)
        check_near(pg_item(pg_select(flat, 0, i)), wanted[i], 1e-6 * (1 + fabs(wanted[i])), what,
                   file, line);
}

static inline void check_shape(PgTensor *x, int rank, const int64_t *shape, const char *what,
                               const char *file, int line) {
    check_int(pg_rank(x), rank, what, file, line);
    for (int i = 0; i < rank; i++) check_int(pg_shape(x, i), shape[i], what, file, line);
}

// f32 in memory: 0, 1, 2 ...
static inline PgTensor *iota(int rank, const int64_t *shape) {
    pg_scope_begin();
    PgTensor *count = pg_arange(PG_F32, 0, pg_count(pg_zeros(PG_F32, rank, shape)), 1);
    PgTensor *result = pg_keep(pg_reshape(count, rank, shape));
    pg_scope_end();
    return result;
}

static inline PgTensor *vector(int count, const float *value) {
    return pg_from_data(PG_F32, PG_SHAPE(count), value);
}

#define VECTOR(...) vector(COUNT_OF(((float[]){__VA_ARGS__})), (float[]){__VA_ARGS__})
#endif
