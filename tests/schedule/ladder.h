/* ladder.h - the rungs of bench/ladder: one kernel, a product of square matrices, by schedules from
 * naive to pipelined tensor cores. For ladder_test.c, which holds them to what they should do, and
 * for bench/ladder/table.c, which prints what they do. */
#ifndef PICOGRAD_TESTS_LADDER_H
#define PICOGRAD_TESTS_LADDER_H
#include "codegen/codegen.h"
#include "runtime/runtime.h"

enum { LADDER_RUNGS = 9, LADDER_WGMMA = 8 };          // from rung LADDER_WGMMA on: for sm_90a alone
extern const char *const ladder_names[LADDER_RUNGS];  // of the files, without .schedule

// A rung's text, for matrices of n x n.
typedef struct {
    Arena *arena;
    const char *name, *source;
    char symbol[SYMBOL_SIZE];
    int n, threads;
    int64_t blocks, shared_bytes;
    GpuCounts work;
} Rung;
// gaps: of shared memory, as the schedule has them; else none.
Rung ladder_read(int rung, int n, bool gaps);
void ladder_free(Rung *rung);
// c = a b on simt, without checks.
void ladder_run(const Rung *rung, const float *a, const float *b, float *c);
// The first blocks of it, checked: what they ask for.
SimtCounts ladder_count(const Rung *rung, int64_t blocks, const float *a, const float *b, float *c);
// -1 where there is no NVRTC; error_text says why.
int ladder_compile(const Rung *rung, const char *architecture, NvrtcKernel *kernel);
#endif
