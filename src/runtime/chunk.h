/* chunk.h - the interpreter's elementwise operations, over arrays of up to CHUNK values. */
#ifndef PICOGRAD_CHUNK_H
#define PICOGRAD_CHUNK_H
#include "ir/ir.h"

enum { CHUNK = 2048 };  // values an array: a step costs little beside it, three fit L1

// to[i] = op(x[i], y[i], z[i]). Arrays hold the compute type of `dtype`, the sources'; a comparison
// writes bytes of bool.
void chunk_map(Op op, DType dtype, int count, const void *x, const void *y, const void *z,
               void *to);
// to[i] = condition[i] ? y[i] : z[i], any dtype.
void chunk_where(DType dtype, int count, const uint8_t *condition, const void *y, const void *z,
                 void *to);
void chunk_cast(DType from, DType into, int count, const void *x, void *to);
// x[0] becomes the fold of `count` values. Pairs are folded first, which keeps sums of floats
// accurate; the rest of x is overwritten.
void chunk_fold(Op fold, DType dtype, int count, void *x);
void chunk_fill(DType dtype, int count, const void *value, void *to);  // value in every place
// Elements row_stride*r + stride*i for r < rows, i < count; CHUNK of them at most.
typedef struct {
    int rows, count;
    int64_t row_stride, stride;
} Patch;
// Stored elements of a patch of memory to compute type, row after row, and back.
void chunk_read(DType dtype, const Patch *patch, const void *from, void *to);
void chunk_write(DType dtype, const Patch *patch, const void *x, void *to);
int chunk_bytes(DType dtype);  // of a value in its compute type
#endif
