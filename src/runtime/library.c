/* library.c - which instruction set's functions run.
 * In: target(), which knows the CPU and PG_ISA.  Out: a row of functions.
 * Invariant: chosen once, for the whole process; the last row is plain C and complete.
 *   PG_ISA=avx2   =>   avx2's functions on a CPU with AVX-512, too                             */
#include "runtime/library/library.h"

#include <string.h>

#define EXTERN(isa)                                               \
    extern const ChunkFunctions chunk_functions_##isa;            \
    void matmul_##isa(const Matmul *);                            \
    double roof_multiply_add_##isa(int64_t steps, float *result); \
    double roof_read_##isa(const void *at, size_t bytes, int64_t times, uint32_t *result);
#define ROW(isa) \
    { #isa, &chunk_functions_##isa, matmul_##isa, roof_multiply_add_##isa, roof_read_##isa }

EXTERN(avx512)
EXTERN(avx2)
EXTERN(c)
static const Library libraries[] = {ROW(avx512), ROW(avx2), ROW(c), {0}};

const Library *library(void) {
    static const Library *_Atomic chosen;
    const Library *row = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (row) return row;
    const char *name = target()->name;
    for (row = libraries; strcmp(row->name, name); row++) {
    }
    atomic_store_explicit(&chosen, row, memory_order_relaxed);
    return row;
}

void library_matmul(const Matmul *matmul) { library()->matmul(matmul); }

double library_multiply_add(int64_t steps, float *result) {
    return library()->multiply_add(steps, result);
}

double library_read(const void *at, size_t bytes, int64_t times, uint32_t *result) {
    return library()->read(at, bytes, times, result);
}
