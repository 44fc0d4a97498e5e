/* run.c - what the tests of codegen share; see run.h. */
#include "codegen/run.h"
#include "rewrite/rewrite.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const run_isas[] = {"c", "avx2", "avx512", NULL};

static void ask_target(void *nothing) {
    (void)nothing;
    target();
}

bool run_isa(const char *name) {
    setenv("PG_ISA", name, 1);
    return try_call(ask_target, NULL) == 0;
}

static char cache[] = "/tmp/picograd-test-XXXXXX";

static void remove_cache(void) {
    setenv("PG_CACHE", cache, 1);
    cache_clear();
    char kernels[sizeof cache + 8];
    snprintf(kernels, sizeof kernels, "%s/kernels", cache);
    rmdir(kernels);
    rmdir(cache);
}

void run_private_cache(void) {
    static bool made;
    if (made) return;
    made = true;
    if (!mkdtemp(cache)) fatal("cannot make %s", cache);
    atexit(remove_cache);
    setenv("PG_CACHE", cache, 1);
}

Run run_render(const char *text) {
    Run run = {.arena = arena_new()};
    Kernel *kernel = kernel_parse(run.arena, "test", text);
    kernel_verify(kernel);
    expand_kernel(kernel);
    Program *program = lower(run.arena, kernel, &(LowerOptions){0});
    program_verify(program);
    run.program = program;
    run.source = render_c(run.arena, program, kernel_print(run.arena, kernel), run.symbol);
    return run;
}

void run_link(Run *run) {
    run_private_cache();
    CompileUnit unit = {.symbol = run->symbol, .source = run->source};
    if (compile_units(&unit, 1)) fatal("%s\n%s", error_text(), run->source);
    run->function = unit.function;
}

Run run_compile(const char *text) {
    Run run = run_render(text);
    run_link(&run);
    return run;
}

Run run_read(const char *path) {
    Arena *arena = arena_new();
    char *text = file_read(arena, path, NULL);
    if (!text) fatal("%s", error_text());
    Run run = run_compile(text);
    arena_free(arena);
    return run;
}

void run_free(Run *run) { arena_free(run->arena); }

typedef struct {
    KernelFunction *function;
    PgArgs args;
} Call;

static void call(void *context, int thread, int threads, Barrier *barrier) {
    const Call *it = context;
    it->function(&it->args, thread, threads, barrier);
}

void run_call(const Run *run, int threads, void *const *buffer, const int64_t *var) {
    Arena *arena = arena_new();
    size_t bytes = (size_t)(run->program->own_bytes * threads + run->program->shared_bytes);
    Call it = {run->function, {buffer, var, arena_alloc(arena, bytes + 64), barrier_wait}};
    memset(it.args.workspace, 0xff, bytes);
    int before = thread_count();
    thread_set_count(threads);
    thread_run(call, &it);
    thread_set_count(before);
    arena_free(arena);
}

float random_float(uint32_t *seed) {
    *seed = *seed * 1664525 + 1013904223;
    return (float)((int)(*seed >> 19) - 4096) / 4096;
}

float *random_floats(Arena *arena, int64_t count, uint32_t seed) {
    float *at = arena_array(arena, float, count);
    for (int64_t i = 0; i < count; i++) at[i] = random_float(&seed);
    return at;
}
