/* run.h - from kernel text to a function that was called, for the tests of codegen. */
#ifndef PICOGRAD_TEST_RUN_H
#define PICOGRAD_TEST_RUN_H
#include "codegen/codegen.h"
#include "runtime/runtime.h"

typedef struct {
    Arena *arena;
    const Program *program;
    char *source, symbol[SYMBOL_SIZE];
    KernelFunction *function;  // run_compile's
} Run;
Run run_render(const char *text);  // not compiled
Run run_compile(const char *text);
void run_link(Run *run);         // compiles its source
Run run_read(const char *path);  // a file's text, compiled
void run_free(Run *run);
// On so many threads; the workspace is full of NaNs before.
void run_call(const Run *run, int threads, void *const *buffer, const int64_t *var);

// PG_ISA for what follows; false if this CPU does not have it. run_isas: all names, then NULL.
extern const char *const run_isas[];
bool run_isa(const char *name);
// A cache of this process's own, removed at its end; called by run_compile.
void run_private_cache(void);

float random_float(uint32_t *seed);  // in [-1, 1), multiples of 2^-12
float *random_floats(Arena *arena, int64_t count, uint32_t seed);
#endif
