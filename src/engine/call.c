/* call.c - replay a compiled module: threads go in once, run every kernel with a barrier between,
 * and come out.
 * In: buffers of the PARAMs, values of the VARs.  Out: buffers of the results.
 * Invariant: no text is touched; memory comes from what buffers keep, and temporaries go back. */
#include "engine/compiled.h"

// ---- the CPU -----------------------------------------------------------------------------------

static int cpu_compile(Compiled *compiled) {
    CompileUnit *unit = arena_array(compiled->arena, CompileUnit, compiled->units.count);
    for (int32_t i = 0; i < compiled->units.count; i++)
        unit[i] = (CompileUnit){.symbol = compiled->units.at[i].symbol,
                                .source = compiled->units.at[i].source,
                                .compiler = compiled->units.at[i].compiler};
    if (compile_units(unit, compiled->units.count) < 0) return -1;
    for (int32_t i = 0; i < compiled->units.count; i++) {
        compiled->units.at[i].function = unit[i].function;
        compiled->info.from_cache += unit[i].from_cache;
    }
    return 0;
}

int host_enter(Compiled *compiled, Room *room, int64_t block_bytes, int64_t workspace_bytes) {
    (void)compiled;
    *room = (Room){buffer_scratch((size_t)block_bytes), buffer_scratch((size_t)workspace_bytes)};
    return 0;
}

void host_leave(Room *room) {
    buffer_release(room->block);
    buffer_release(room->workspace);
}

int host_address(const Compiled *compiled, int64_t buffer, bool written, void **at) {
    (void)compiled;
    *at = written ? buffer_data(buffer) : (void *)(uintptr_t)buffer_read(buffer);
    return 0;
}

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

static int cpu_replay(Compiled *compiled, const int64_t *var) {
    (void)var;
    thread_run(replay, compiled);
    return 0;
}

const Backend backend_cpu = {.compile = cpu_compile,
                             .enter = host_enter,
                             .leave = host_leave,
                             .address = host_address,
                             .replay = cpu_replay};

// ---- any device --------------------------------------------------------------------------------

// What was captured stays where it is, unless a GPU comes or goes.
static int bind_given(Compiled *compiled, const int64_t *param) {
    int64_t changes = buffer_side_changes();
    bool bound = compiled->bound == changes;
    for (int32_t i = 0; i < compiled->slots; i++) {
        const Slot *slot = &compiled->slot[i];
        if (slot->kind == SLOT_TEMPORARY || (bound && slot->kind == SLOT_BUFFER)) continue;
        int64_t buffer = slot->kind == SLOT_PARAM ? param[slot->of] : slot->of;
        if (compiled->backend->address(compiled, buffer, compiled->written[i],
                                       &compiled->memory[i]))
            return -1;
    }
    compiled->bound = changes;
    return 0;
}

// How many results were made; less than all: there is no room for more.
static int bind_made(Compiled *compiled, char *block, int64_t *result) {
    for (int32_t i = 0; i < compiled->slots; i++)
        if (compiled->slot[i].kind == SLOT_TEMPORARY)
            compiled->memory[i] = block + compiled->slot[i].offset;
    for (int i = 0; i < compiled->outputs; i++) {
        int32_t of = compiled->result[i];
        const Slot *slot = &compiled->slot[of];
        int before = 0;
        while (compiled->result[before] != of) before++;
        if (before < i) {  // the same value twice
            buffer_retain(result[i] = result[before]);
            continue;
        }
        result[i] = buffer_scratch((size_t)slot->elements * (size_t)dtypes[slot->dtype].bytes);
        if (!compiled->backend->address(compiled, result[i], true, &compiled->memory[of])) continue;
        buffer_release(result[i]);
        return i;
    }
    return compiled->outputs;
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
    for (int32_t i = 0; i < compiled->launches; i++) {
        Launch *launch = &compiled->launch[i];
        launch->args.var = var;
        launch->args.workspace = workspace;
        for (int32_t j = 0; j < launch->params; j++)
            launch->buffer[j] = compiled->memory[launch->slot[j]];
    }
}

// In the room of a call. Results are made, or none is.
static int run(Compiled *compiled, const Room *room, const int64_t *var, int64_t *result) {
    const Backend *backend = compiled->backend;
    void *block, *workspace;
    if (backend->address(compiled, room->block, true, &block) ||
        backend->address(compiled, room->workspace, true, &workspace))
        return -1;
    int made = bind_made(compiled, block, result);
    int status = made < compiled->outputs ? -1 : 0;
    if (!status) {
        bind_launches(compiled, var, workspace);
        status = backend->replay(compiled, var);
    }
    for (int i = 0; i < made && status; i++) buffer_release(result[i]);
    return status;
}

// Temporaries and workspace are a call's, not a compiled function's: one function runs at a time,
// and all of them take the same memory in turn.
int engine_call(Compiled *compiled, const int64_t *param, const int64_t *var, int64_t *result) {
    const Backend *backend = compiled->backend;
    int64_t shared = compiled->own_bytes * thread_count() + compiled->shared_bytes;
    Room room;
    if (bind_given(compiled, param)) return -1;
    for (int32_t i = 0; i < compiled->slots; i++)
        if (compiled->slot[i].kind == SLOT_PARAM && check_distinct(compiled, i) < 0) return -1;
    if (backend->enter(compiled, &room, compiled->info.temporary_bytes, shared)) return -1;
    int status = run(compiled, &room, var, result);
    backend->leave(&room);
    if (!status && compiled->seconds) dump_times(compiled, var);
    return status;
}
