/* chunk.c - the interpreter's elementwise operations.
 * In: arrays of values in their compute type.  Out: an array.
 * Invariant: the same bits as scalar_apply's, whichever instruction set computes them.
 *   chunk_map(OP_ADD, DT_F32, 3, {1,2,3}, {4,5,6}, NULL, to)   =>   {5,7,9}                    */
#include "runtime/library/library.h"

int chunk_bytes(DType dtype) {
    static const int bytes[DT_COUNT] = {
#define DTYPE(name, text, size, kind, stored, computed) [DT_##name] = (int)sizeof(computed),
#include "ir/dtypes.def"
#undef DTYPE
    };
    return bytes[dtype];
}

void chunk_map(Op op, DType dtype, int count, const void *x, const void *y, const void *z,
               void *to) {
    library()->chunk->map(op, dtype, count, x, y, z, to);
}

void chunk_where(DType dtype, int count, const uint8_t *condition, const void *y, const void *z,
                 void *to) {
    library()->chunk->where(dtype, count, condition, y, z, to);
}

void chunk_cast(DType from, DType into, int count, const void *x, void *to) {
    library()->chunk->cast(from, into, count, x, to);
}

void chunk_fold(Op fold, DType dtype, int count, void *x) {
    library()->chunk->fold(fold, dtype, count, x);
}

void chunk_fill(DType dtype, int count, const void *value, void *to) {
    library()->chunk->fill(dtype, count, value, to);
}

void chunk_read(DType dtype, const Patch *patch, const void *from, void *to) {
    library()->chunk->read(dtype, patch, from, to);
}

void chunk_write(DType dtype, const Patch *patch, const void *x, void *to) {
    library()->chunk->write(dtype, patch, x, to);
}
