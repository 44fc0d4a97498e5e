/* library.c - which instruction set's functions run.
 * In: the CPU, PG_ISA.  Out: a row of functions.
 * Invariant: chosen once, for the whole process; the last row needs nothing and is complete.
 *   PG_ISA=avx2   =>   avx2's functions on a CPU with AVX-512, too                             */
#include "runtime/library/library.h"

#include <string.h>

extern const ChunkFunctions chunk_functions_avx512, chunk_functions_avx2, chunk_functions_c;
void matmul_avx512(const Matmul *matmul);
void matmul_avx2(const Matmul *matmul);
void matmul_c(const Matmul *matmul);

// The system saves the wide registers, too, where these say yes. Every CPU with AVX2 has F16C.
static bool has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_c(void) { return true; }

static const Library libraries[] = {
    {"avx512", has_avx512, &chunk_functions_avx512, matmul_avx512},
    {"avx2",   has_avx2,   &chunk_functions_avx2,   matmul_avx2  },
    {"c",      has_c,      &chunk_functions_c,      matmul_c     },
};

const Library *library_row(int row) { return row < COUNT_OF(libraries) ? &libraries[row] : NULL; }

// PG_ISA=ref is the reference interpreter's; what runs here beside it may be the best.
static const Library *choose(void) {
    const char *wanted = env_text("ISA", "ref");
    for (const Library *row = libraries; row < libraries + COUNT_OF(libraries); row++) {
        if (strcmp(wanted, "ref") && strcmp(wanted, row->name)) continue;
        if (row->needs()) return row;
        if (!strcmp(wanted, row->name))
            fatal("PG_ISA=%s: this CPU lacks it. Hint: leave PG_ISA unset for the best it has",
                  wanted);
    }
    fatal("PG_ISA=%s is not an instruction set. Hint: avx512, avx2, c or ref", wanted);
}

const Library *library(void) {
    static const Library *_Atomic chosen;
    const Library *row = atomic_load_explicit(&chosen, memory_order_acquire);
    if (row) return row;
    row = choose();
    atomic_store_explicit(&chosen, row, memory_order_release);
    return row;
}

void library_matmul(const Matmul *matmul) { library()->matmul(matmul); }
