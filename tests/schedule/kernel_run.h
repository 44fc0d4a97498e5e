/* kernel_run.h - test kernels on made-up memory, before and after transforms.
 * In: a kernel's text or file, a schedule.  Out: checks that results agree after every line.   */
#ifndef PICOGRAD_KERNEL_RUN_H
#define PICOGRAD_KERNEL_RUN_H
#include "../ir/kernel_eval.h"
#include "schedule/schedule.h"
#include "test.h"

static int64_t run_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)(*state >> 40);
}

// Floats are multiples of 1/8 up to 2 in magnitude, so that small sums are exact in any order.
// Two PARAMs `x` and `x16` are the same memory: Q4_1 blocks with plausible scales.
static inline void **run_memory(Arena *arena, const Kernel *kernel) {
    void **memory = arena_array(arena, void *, kernel->buffers.count);
    uint64_t state = 1;
    for (int32_t i = 0; i < kernel->buffers.count; i++) {
        const KernelBuffer *buffer = &kernel->buffers.at[i];
        if (buffer->space != SPACE_PARAM) break;
        memory[i] =
            arena_alloc(arena, (size_t)buffer->size * (size_t)dtypes[buffer->dtype].bytes + 1);
        for (int64_t e = 0; e < buffer->size; e++) {
            Scalar value = {.integer = run_random(&state) % 256};
            if (dtype_is_float(buffer->dtype))
                value.real = (float)(run_random(&state) % 33 - 16) / 8;
            char *at = (char *)memory[i] + e * dtypes[buffer->dtype].bytes;
            scalar_store(buffer->dtype, at, value);
        }
        if (strcmp(buffer->name, "w16") != 0) continue;
        memory[i] = memory[i - 1];
        uint16_t *words = memory[i];
        for (int64_t block = 0; block < buffer->size / 10; block++)
            for (int word = 0; word < 2; word++)
                words[10 * block + word] = f16_round((float)(run_random(&state) % 17 - 8) / 16);
    }
    return memory;
}

// Every written PARAM of the two, element by element.
static inline void run_compare(const Kernel *kernel, void **got, void **wanted, const char *line) {
    for (int32_t i = 0; i < kernel->buffers.count; i++) {
        const KernelBuffer *buffer = &kernel->buffers.at[i];
        if (buffer->space != SPACE_PARAM || !buffer->written) continue;
        for (int64_t e = 0; e < buffer->size; e++) {
            const void *a = (char *)got[i] + e * dtypes[buffer->dtype].bytes;
            const void *b = (char *)wanted[i] + e * dtypes[buffer->dtype].bytes;
            if (!dtype_is_float(buffer->dtype)) {
                CHECK_INT(scalar_load(buffer->dtype, a).integer,
                          scalar_load(buffer->dtype, b).integer);
                continue;
            }
            double x = (double)scalar_load(buffer->dtype, a).real;
            double y = (double)scalar_load(buffer->dtype, b).real;
            double size = y < 0 ? -y : y;
            check_near(x, y, 1e-5 * (size > 1 ? size : 1), line, buffer->name, (int)e);
        }
    }
}

// A NaN would equal any NaN.
static inline void run_check_finite(const Kernel *kernel, void **memory) {
    for (int32_t i = 0; i < kernel->buffers.count; i++) {
        const KernelBuffer *buffer = &kernel->buffers.at[i];
        if (buffer->space != SPACE_PARAM || !dtype_is_float(buffer->dtype)) continue;
        for (int64_t e = 0; e < buffer->size; e++) {
            const void *at = (char *)memory[i] + e * dtypes[buffer->dtype].bytes;
            CHECK(__builtin_isfinite(scalar_load(buffer->dtype, at).real));
        }
    }
}

// Text must survive being read, and say the same kernel.
static inline void run_check_text(Arena *arena, const Kernel *kernel) {
    char *text = kernel_print(arena, kernel);
    Kernel *again = kernel_parse(arena, "printed", text);
    kernel_verify(again);
    CHECK_TEXT(kernel_print(arena, again), text);
}

static inline Kernel *run_kernel(Arena *arena, const char *path) {
    char *text = file_read(arena, path, NULL);
    if (!text) fatal("%s", error_text());
    return kernel_parse(arena, path, text);
}

// Applies the schedule line by line; the kernel computes the same after each. Returns its text.
// The schedule's first `checked` bytes, whole lines, were run on this kernel before.
static inline char *run_rest(Arena *arena, Kernel *kernel, const char *schedule, size_t checked,
                             const int64_t *var) {
    const char *rest = schedule + checked;
    void **wanted = run_memory(arena, kernel);
    kernel_verify(kernel);
    kernel_eval(kernel, wanted, var);
    run_check_finite(kernel, wanted);
    while (*schedule) {
        size_t length = strcspn(schedule, "\n");
        char *line = arena_print(arena, "%.*s", (int)length, schedule);
        schedule += length + (schedule[length] == '\n');
        schedule_apply(kernel, line);
        if (schedule <= rest) continue;
        run_check_text(arena, kernel);
        void **got = run_memory(arena, kernel);
        kernel_eval(kernel, got, var);
        run_compare(kernel, got, wanted, line);
    }
    return kernel_print(arena, kernel);
}

static inline char *run_schedule(Arena *arena, Kernel *kernel, const char *schedule,
                                 const int64_t *var) {
    return run_rest(arena, kernel, schedule, 0, var);
}
#endif
