/* library.c - which instruction set's functions run.
 * In: target(), which knows the CPU and PG_ISA.  Out: a row of functions.
 * Invariant: chosen once, for the whole process; the last row is plain C and complete.
 *   PG_ISA=avx2   =>   avx2's functions on a CPU with AVX-512, too                             */
#include "runtime/library/library.h"

#include <string.h>

extern const ChunkFunctions chunk_functions_avx512, chunk_functions_avx2, chunk_functions_c;
extern const RoofFunctions roof_functions_avx512, roof_functions_avx2, roof_functions_c;
void matmul_avx512(const Matmul *matmul);
void matmul_avx2(const Matmul *matmul);
void matmul_c(const Matmul *matmul);

static const Library libraries[] = {
    {"avx512", &chunk_functions_avx512, &roof_functions_avx512, matmul_avx512},
    {"avx2", &chunk_functions_avx2, &roof_functions_avx2, matmul_avx2},
    {"c", &chunk_functions_c, &roof_functions_c, matmul_c},
    {"amx-c", &chunk_functions_c, &roof_functions_c, matmul_c},
    {NULL, NULL, NULL, NULL},
};

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

const RoofFunctions *library_roofs(void) { return library()->roof; }
