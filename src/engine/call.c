/* call.c - replay a compiled module: threads go in once, run every kernel with a barrier between,
 * and come out.
 * In: buffers of the PARAMs, values of the VARs.  Out: buffers of the results.
 * Invariant: no text is touched; memory comes from what buffers keep, and temporaries go back. */
#include "engine/compiled.h"

static void replay(void *context, int thread, int threads, Barrier *barrier) {
    const Compiled *compiled = context;
    double start = clock_seconds();
    for (int32_t i = 0; i < compiled->launches; i++) {
        compiled->launch[i].function(&compiled->launch[i].args, thread, threads, barrier);
        barrier_wait(barrier, thread);
        if (!compiled->seconds || thread) continue;
        compiled->seconds[i] = clock_seconds() - start;
        start += compiled->seconds[i];
    }
}

static void bind_made(Compiled *compiled, char *block, int64_t *result) {
    for (int32_t i = 0; i < compiled->slots; i++)
        if (compiled->slot[i].kind == SLOT_TEMPORARY)
            compiled->memory[i] = block + compiled->slot[i].offset;
    for (int i = 0; i < compiled->outputs; i++) {
        const Slot *slot = &compiled->slot[compiled->result[i]];
        int before = 0;
        while (compiled->result[before] != compiled->result[i]) before++;
        if (before < i) {  // the same value twice
            buffer_retain(result[i] = result[before]);
            continue;
        }
        result[i] = buffer_scratch((size_t)slot->elements * (size_t)dtypes[slot->dtype].bytes);
        compiled->memory[compiled->result[i]] = buffer_data(result[i]);
    }
}

// Kernels were fused and loops reordered as if different slots were different memory.
static int check_distinct(const Compiled *compiled, int32_t slot) {
    for (int32_t i = 0; i < compiled->slots; i++) {
        bool ours = compiled->slot[i].kind == SLOT_TEMPORARY;  // perhaps of the last call
        if (i == slot || ours || compiled->memory[i] != compiled->memory[slot]) continue;
        if (compiled->written[i] || compiled->written[slot])
            return fail(
                "input %lld of a compiled function is memory that it also uses under another "
                "name, and writes. Give a copy (pg_contiguous), or pass it once",
                (long long)compiled->slot[slot].of);
    }
    return 0;
}

static void bind_launches(Compiled *compiled, const int64_t *var, void *workspace) {
    compiled->workspace = workspace;
    for (int32_t i = 0; i < compiled->launches; i++) {
        Launch *launch = &compiled->launch[i];
        launch->args.var = var;
        launch->args.workspace = workspace;
        for (int32_t j = 0; j < launch->params; j++)
            launch->buffer[j] = compiled->memory[launch->slot[j]];
    }
}

// Temporaries and workspace are a call's, not a compiled function's: one function runs at a time,
// and all of them take the same memory in turn.
int engine_call(Compiled *compiled, const int64_t *param, const int64_t *var, int64_t *result) {
    for (int32_t i = 0; i < compiled->slots; i++)
        if (compiled->slot[i].kind == SLOT_PARAM)
            compiled->memory[i] = buffer_data(param[compiled->slot[i].of]);
    for (int32_t i = 0; i < compiled->slots; i++)
        if (compiled->slot[i].kind == SLOT_PARAM && check_distinct(compiled, i) < 0) return -1;
    int64_t shared = compiled->own_bytes * thread_count() + compiled->shared_bytes;
    int64_t block = buffer_scratch((size_t)compiled->info.temporary_bytes),
            workspace = buffer_scratch((size_t)shared);
    bind_made(compiled, buffer_data(block), result);
    bind_launches(compiled, var, buffer_data(workspace));
    int status = 0;
    if (compiled->indices)
        status = gpu_replay(compiled, var);
    else
        thread_run(replay, compiled);
    if (compiled->seconds) dump_times(compiled, var);
    buffer_release(block);
    buffer_release(workspace);
    for (int i = 0; i < compiled->outputs && status < 0; i++) buffer_release(result[i]);
    return status;
}
