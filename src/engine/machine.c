/* machine.c - how fast this machine computes and reads: what a bound is made of.
 * In: nothing.  Out: four rates, from kernels of our own that do one thing each.
 * Invariant: measured once for a place, and kept beside the schedules under a name that no kernel
 * has; the best of many runs counts, since whatever else the machine does only takes away.
 *   avx2, 2 threads   =>   7.5e9 vectors computed; 160, 80, 30 GB/s from caches and memory       */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/search.h"

static int64_t cache_bytes(int name, int64_t usual) {
    long bytes = sysconf(name);
    return bytes > 0 ? bytes : usual;
}

static Module *module_of(Arena *arena, Kernel *kernel) {
    Module *module = arena_object(arena, Module);
    KernelCall call = {.kernel = kernel, .slot = arena_array(arena, int32_t, 2), .params = 2};
    for (int i = 0; i < call.params; i++) {
        call.slot[i] = i;
        *list_add(arena, &module->slots) =
            (Slot){.dtype = kernel->buffers.at[i].dtype, .elements = kernel->buffers.at[i].size};
    }
    *list_add(arena, &module->calls) = call;
    return module;
}

// Of a kernel as it stands, with two buffers.
static double seconds_of(Arena *arena, const char *text) {
    enum { ROUNDS = 16 };
    char symbol[SYMBOL_SIZE];
    Kernel *kernel = kernel_parse(arena, "machine", text);
    Program *program = lower(arena, kernel, &(LowerOptions){0});
    CompileUnit unit = {.source = render_c(arena, program, "", symbol), .symbol = symbol};
    double best = INFINITY;
    if (compile_trials(&unit, 1)) return best;
    TrialKernel run = {.function = unit.function,
                       .own_bytes = program->own_bytes,
                       .shared_bytes = program->shared_bytes};
    Trial *trial = trial_open(arena, module_of(arena, kernel), (int32_t[]){0}, 0);
    for (int i = 0; i < ROUNDS; i++) best = fmin(best, trial_time(trial, &run, 0.004));
    trial_close(trial);
    compile_forget(&unit, 1);
    return best;
}

// Each of so many threads folds numbers into twelve vectors, `repeats` times over its `elements`:
// those that it reads, or (computes) constants.
static double fold_seconds(Arena *arena, bool computes, int64_t threads, int64_t elements,
                           int64_t repeats) {
    int64_t lanes = target()->lanes, all = 12 * lanes, steps = elements / all;
    const char *tile = arena_print(arena, "s[%ld*i1 + v1]", lanes), *value;
    value = computes ? arena_print(arena, "(fma %s 0.5 0.5)", tile)
                     : arena_print(arena, "(add %s x[%ld*t + %ld*k + %ld*i1 + v1])", tile,
                                   steps * all, all, lanes);
    return seconds_of(
        arena, arena_print(arena,
                           "kernel machine\nin x f32[%ld]\nout y f32[%ld]\nregister s f32[%ld]\n"
                           "thread for t < %ld {\n"
                           "unroll for i < 12 { vector for v < %ld { init s[%ld*i + v] = 0 } }\n"
                           "for r < %ld { for k < %ld { unroll for i1 < 12 {\n"
                           "vector for v1 < %ld { update %s = %s } } } }\n"
                           "unroll for i2 < 12 { vector for v2 < %ld {\n"
                           "finish y[%ld*t + %ld*i2 + v2] = s[%ld*i2 + v2] } } }",
                           threads * steps * all, threads * all, all, threads, lanes, lanes,
                           repeats, steps, lanes, tile, value, lanes, all, lanes, lanes));
}

void machine_find(Arena *arena, Tuned *tuned, const char *place, Machine *machine) {
    enum { STEPS = 1 << 26, BYTES = 1 << 28, LEAST = 1 << 26, MOST = 1 << 29 };
    int64_t first = cache_bytes(_SC_LEVEL1_DCACHE_SIZE, 1 << 15),
            second = cache_bytes(_SC_LEVEL2_CACHE_SIZE, 1 << 19),
            last = cache_bytes(_SC_LEVEL3_CACHE_SIZE, second), threads = thread_count(),
            large = min_i64(max_i64(2 * last, LEAST), MOST) / 4;
    *machine = (Machine){.first_bytes = (double)first,
                         .last_bytes = (double)last,
                         .lanes = target()->lanes,
                         .threads = thread_count()};
    double *rate[] = {&machine->computes, &machine->first, &machine->second, &machine->memory};
    TunedKey key = {"machine", place, NULL};
    TunedResult kept;
    char *at = tuned_find(tuned, &key, &kept) ? (char *)(uintptr_t)kept.schedule : "";
    bool known = true;
    for (int i = 0; i < COUNT_OF(rate); i++) {
        *rate[i] = strtod(at, &at);
        known &= *rate[i] > 0 && *rate[i] < INFINITY;
    }
    if (known) return;
    machine->computes = STEPS / (double)machine->lanes / fold_seconds(arena, true, 1, STEPS, 1);
    machine->first = BYTES / fold_seconds(arena, false, 1, first / 8, 2 * BYTES / first);
    machine->second = BYTES / fold_seconds(arena, false, 1, second / 8, 2 * BYTES / second);
    machine->memory = 4. * large / fold_seconds(arena, false, threads, large / threads, 1);
    kept = (TunedResult){.compiler = "", .trials = "", .complete = true};
    kept.schedule = arena_print(arena, "%g %g %g %g", *rate[0], *rate[1], *rate[2], *rate[3]);
    tuned_keep(tuned, &key, &kept);
}

Machine machine_of_gpu(const GpuTarget *gpu) {
    return (Machine){.computes = gpu->lanes * gpu->sms * gpu->clock,
                     .second = gpu->l2_rate,
                     .memory = gpu->memory_rate,
                     .last_bytes = gpu->l2_bytes,
                     .lanes = 1,
                     .threads = 1};
}
