/* fuzz_lines.h - random lines of schedules. */
#ifndef PICOGRAD_TESTS_FUZZ_LINES_H
#define PICOGRAD_TESTS_FUZZ_LINES_H
#include "schedule/schedule.h"

extern const char *const fuzz_kernels[];  // texts; NULL behind the last
extern uint64_t fuzz_state;               // the lines to come depend on it and on the kernel
const char *fuzz_line(Arena *arena, const Kernel *kernel);      // most are refused
const char *fuzz_gpu_line(Arena *arena, const Kernel *kernel);  // of those, and of GPUs' own
#endif
