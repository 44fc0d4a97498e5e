/* values.h - tensors beside lists of numbers. */
#ifndef PICOGRAD_TESTS_VALUES_H
#define PICOGRAD_TESTS_VALUES_H
#include "picograd.h"
#include "test.h"

// All elements, row-major, within 1e-6 of 1 and the value.
#define CHECK_VALUES(x, ...)                                                                  \
    check_values((x), (const double[]){__VA_ARGS__}, COUNT_OF(((double[]){__VA_ARGS__})), #x, \
                 __FILE__, __LINE__)
#define CHECK_SHAPE(x, ...) check_shape((x), PG_SHAPE(__VA_ARGS__), #x, __FILE__, __LINE__)

void check_values(PgTensor *x, const double *wanted, int count, const char *what, const char *file,
                  int line);
void check_shape(PgTensor *x, int rank, const int64_t *shape, const char *what, const char *file,
                 int line);
PgTensor *iota(int rank, const int64_t *shape);  // f32 in memory: 0, 1, 2 ...
PgTensor *vector(int count, const float *value);
#define VECTOR(...) vector(COUNT_OF(((float[]){__VA_ARGS__})), (float[]){__VA_ARGS__})
#endif
