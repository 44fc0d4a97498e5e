/* simt_kernel.h - kernels for GPUs that tests write by hand, as a renderer would. */
#ifndef PICOGRAD_TESTS_SIMT_KERNEL_H
#define PICOGRAD_TESTS_SIMT_KERNEL_H
#include "runtime/runtime.h"
#include "test.h"

// The body of a kernel with const f32 *a, *b and f32 *c, which do not overlap, and i64 n.
// Where there is NVRTC it takes the same text, for both architectures that can have it; for blocks
// of up to 256 threads, if it names wgmma.
SimtFunction *simt_kernel(const char *body);
// Its text, with what it names of the preludes; for NVRTC the kernel is `name`.
char *kernel_text(Arena *arena, const char *body, const char **name);
SimtFunction *simt_checked(const char *body);  // for simt_check
uint32_t bits_of(float x);
float float_of(uint32_t bits);
float *simt_values(int64_t count, int seed);  // in thousandths from -1 to 1; for free
#endif
