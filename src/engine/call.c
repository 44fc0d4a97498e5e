/* call.c - replay a compiled module: threads go in once, run every kernel with a barrier between,
 * and come out.
 * In: buffers of the PARAMs, values of the VARs.  Out: buffers of the results.
 * Invariant: nothing is allocated and no text is touched, but for the results' buffers. */
#include "engine/compiled.h"

typedef struct {
    const Compiled *compiled;
    double *seconds;  // of each call; NULL: not asked for
} Replay;

static void replay(void *context, int thread, int threads, Barrier *barrier) {
    const Replay *job = context;
    const Compiled *compiled = job->compiled;
    double start = job->seconds ? clock_seconds() : 0;
    for (int32_t i = 0; i < compiled->module->calls.count; i++) {
        compiled->units.at[compiled->unit[i]].function(&compiled->args[i], thread, threads,
                                                       barrier);
        barrier_wait(barrier, thread);
        if (!job->seconds || thread) continue;
        job->seconds[i] = clock_seconds() - start;
        start += job->seconds[i];
    }
}

static void bind_results(Compiled *compiled, int64_t *result) {
    const Module *module = compiled->module;
    for (int i = 0; i < module->outputs; i++) {
        const Slot *slot = &module->slots.at[module->output[i]];
        int before = 0;
        while (module->output[before] != module->output[i]) before++;
        if (before < i) {  // the same value twice
            buffer_retain(result[i] = result[before]);
            continue;
        }
        result[i] = buffer_scratch((size_t)slot->elements * (size_t)dtypes[slot->dtype].bytes);
        compiled->memory[module->output[i]] = buffer_data(result[i]);
    }
}

// Kernels were fused and loops reordered as if different slots were different memory.
static int check_distinct(const Compiled *compiled, int32_t slot) {
    for (int32_t i = 0; i < compiled->module->slots.count; i++) {
        bool ours =
            compiled->module->slots.at[i].kind == SLOT_TEMPORARY;  // perhaps of the last call
        if (i == slot || ours || compiled->memory[i] != compiled->memory[slot]) continue;
        if (compiled->written[i] || compiled->written[slot])
            return fail(
                "input %lld of a compiled function is memory that it also uses under another "
                "name, and writes. Give a copy (pg_contiguous), or pass it once",
                (long long)compiled->module->slots.at[slot].of);
    }
    return 0;
}

int engine_call(Compiled *compiled, const int64_t *param, const int64_t *var, int64_t *result) {
    const Module *module = compiled->module;
    for (int32_t i = 0; i < module->slots.count; i++)
        if (module->slots.at[i].kind == SLOT_PARAM)
            compiled->memory[i] = buffer_data(param[module->slots.at[i].of]);
    for (int32_t i = 0; i < module->slots.count; i++)
        if (module->slots.at[i].kind == SLOT_PARAM && check_distinct(compiled, i) < 0) return -1;
    bind_results(compiled, result);
    for (int32_t i = 0; i < module->calls.count; i++) {
        const KernelCall *call = &module->calls.at[i];
        for (int32_t j = 0; j < call->params; j++)
            compiled->buffer[i][j] = compiled->memory[call->slot[j]];
        compiled->args[i].var = var;
    }
    Replay job = {compiled, NULL};
    Arena *scratch = NULL;
    if (env_int("DEBUG", 0) >= 2) {
        scratch = arena_new();
        job.seconds = arena_array(scratch, double, module->calls.count);
    }
    thread_run(replay, &job);
    if (job.seconds) dump_times(compiled, var, job.seconds);
    arena_free(scratch);
    return 0;
}
