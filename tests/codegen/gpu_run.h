/* gpu_run.h - from kernel text and a schedule with blocks to what simt makes of it. */
#ifndef PICOGRAD_TEST_GPU_RUN_H
#define PICOGRAD_TEST_GPU_RUN_H
#include "codegen/run.h"
#include "schedule/schedule.h"

typedef struct {
    Arena *arena;
    Kernel *kernel;
    const char *schedule;
    Program *program;
    char *source, symbol[SYMBOL_SIZE];
    SimtCounts counts;  // of the checked build's launches
    OnceList once;      // what is made of weights, of PARAMs that are given
} Gpu;
Gpu gpu_render(const char *text, const char *schedule);
void gpu_free(Gpu *gpu);
bool gpu_has(const Gpu *gpu, const char *part);  // behind the prelude
// The first schedule of the heuristic that the transforms take.
const char *gpu_first(Arena *arena, const char *text, const ScheduleTarget *target);
// As compiled for speed and as checked, it gives what the chunk interpreter makes of the
// unscheduled kernel. Buffer 0, of `size` floats, is the result; the others are given.
void gpu_check(Gpu *gpu, const char *text, void **buffer, int64_t size, double tolerance,
               const int64_t *var);
// What the first blocks of the first launch ask for, checked; buffers in the order of PARAMs.
SimtCounts gpu_count(Gpu *gpu, int64_t blocks, void **buffer);
// Bytes that a thread stores for want of registers, on either architecture; 0 without NVRTC.
int64_t gpu_spills(const Gpu *gpu);
#endif
