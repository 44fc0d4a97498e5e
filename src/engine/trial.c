/* trial.c - a kernel run on memory of its own, to be timed and compared.
 * In: a module's calls of one kernel.  Out: seconds a call; whether two versions agree.
 * Invariants: there is a buffer for each slot that those calls use, and runs take the calls in
 * turn, so that weights come from memory if a step's do; numbers lie in [0.5, 1.5), where sums do
 * not cancel and nothing becomes denormal; indices are 0, which lies in any interval. A GPU is
 * given the same buffers by its backend, whose clock counts.                                    */
#include "engine/search.h"
#include "ir/scalar.h"

#include <math.h>
#include <string.h>

enum { SETS_MAX = 64 };
static const int64_t bytes_max = (int64_t)1 << 31;

struct Trial {
    Arena *arena;
    Kernel *kernel;
    int sets;
    int64_t *buffer[SETS_MAX];  // of each call: each PARAM's
    LIST(int32_t) slots;
    LIST(int64_t) buffers;  // of those slots
    LIST(int64_t) made;     // for weights that are laid out
    int made_params;        // behind the kernel's
    int64_t *counted;       // by buffer: its part of `bytes`
    int64_t bytes, *var;
    void **before, **expected;  // what is in the first call's PARAMs that are written
    int64_t workspace;          // a buffer
};

// ---- memory ------------------------------------------------------------------------------------

static double random_number(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 40) / (1 << 24);
}

// Bytes are such that any two of them are an ordinary f16, as in a block of packed weights.
static void fill(char *at, DType dtype, int64_t elements, uint64_t *state) {
    int64_t bytes = dtypes[dtype].bytes;
    if (dtype_is_float(dtype))
        for (int64_t i = 0; i < elements; i++)
            scalar_store(dtype, at + i * bytes,
                         (Scalar){.real = 0.5f + (float)random_number(state)});
    else
        for (int64_t i = 0; i < elements * bytes; i++)
            at[i] = bytes == 1 && dtype != DT_BOOL ? (char)(0x28 + 16 * random_number(state)) : 0;
}

static int64_t buffer_of(Trial *trial, const Module *module, int32_t slot, uint64_t *state) {
    for (int i = 0; i < trial->slots.count; i++)
        if (trial->slots.at[i] == slot) return trial->buffers.at[i];
    const Slot *info = &module->slots.at[slot];
    int64_t bytes = info->elements * dtypes[info->dtype].bytes, id = buffer_new((size_t)bytes);
    *list_add(trial->arena, &trial->slots) = slot;
    *list_add(trial->arena, &trial->buffers) = id;
    fill(buffer_data(id), info->dtype, info->elements, state);
    trial->bytes += bytes;
    return id;
}

static int64_t bytes_of_call(const Module *module, const KernelCall *call) {
    int64_t sum = 0;
    for (int32_t i = 0; i < call->params; i++) {
        const Slot *slot = &module->slots.at[call->slot[i]];
        sum += slot->elements * dtypes[slot->dtype].bytes;
    }
    return sum;
}

static int64_t param_bytes(const Trial *trial, int32_t param) {
    const KernelBuffer *buffer = &trial->kernel->buffers.at[param];
    return buffer->size * dtypes[buffer->dtype].bytes;
}

static bool is_param(const Kernel *kernel, int32_t buffer) {
    return buffer < kernel->buffers.count && kernel->buffers.at[buffer].space == SPACE_PARAM;
}

static int32_t params_of(const Trial *trial) {
    int32_t params = 0;
    while (is_param(trial->kernel, params)) params++;
    return params;
}

Trial *trial_open(Arena *arena, const Module *module, const int32_t *unit, int32_t which) {
    Trial *trial = arena_object(arena, Trial);
    uint64_t state = 1;
    trial->arena = arena;
    for (int32_t i = 0; i < module->calls.count && trial->sets < SETS_MAX; i++) {
        const KernelCall *call = &module->calls.at[i];
        if (unit[i] != which) continue;
        if (trial->bytes + bytes_of_call(module, call) > bytes_max) {
            if (trial->sets) break;
            fail("kernel %s is not searched: it uses more than 2 GB", call->kernel->name);
            return NULL;
        }
        int64_t *buffer = trial->buffer[trial->sets++] = arena_array(arena, int64_t, call->params);
        for (int32_t p = 0; p < call->params; p++)
            buffer[p] = buffer_of(trial, module, call->slot[p], &state);
        if (!trial->kernel) trial->kernel = call->kernel;
    }
    const Graph *graph = trial->kernel->graph;
    trial->var = arena_array(arena, int64_t, graph_vars(graph) + 1);
    for (int32_t i = 0; i < graph_vars(graph); i++)
        trial->var[i] = middle_of(graph_var_info(graph, i));
    trial->before = arena_array(arena, void *, trial->kernel->buffers.count + 1);
    trial->expected = arena_array(arena, void *, trial->kernel->buffers.count + 1);
    for (int32_t p = 0; is_param(trial->kernel, p); p++)
        if (trial->kernel->buffers.at[p].written)
            trial->before[p] =
                arena_copy(arena, buffer_read(trial->buffer[0][p]), (size_t)param_bytes(trial, p));
    return trial;
}

// Sources are not read any more: of each memory, what it took does not count.
static void discount_sources(Trial *trial, const Once *once) {
    for (int32_t i = 0; i < once->sources; i++)
        for (int set = 0; set < trial->sets; set++)
            for (int b = 0; b < trial->buffers.count; b++) {
                if (trial->buffers.at[b] != trial->buffer[set][once->from[i]]) continue;
                trial->bytes -= trial->counted[b];
                trial->counted[b] = 0;
            }
}

void trial_lay_out(Trial *trial, const OnceList *once) {
    int params = params_of(trial);
    uint64_t state = 2;
    if (!once->count) return;
    trial->counted = arena_array(trial->arena, int64_t, trial->buffers.count);
    for (int b = 0; b < trial->buffers.count; b++)
        trial->counted[b] = (int64_t)buffer_bytes(trial->buffers.at[b]);
    for (int n = 0; n < once->count; n++) discount_sources(trial, &once->at[n]);
    for (int set = 0; set < trial->sets; set++) {
        int64_t *buffer = arena_array(trial->arena, int64_t, params + once->count);
        memcpy(buffer, trial->buffer[set], sizeof *buffer * (size_t)params);
        for (int n = 0; n < once->count; n++) {
            const Once *made = &once->at[n];
            int64_t bytes = made->elements * dtypes[made->dtype].bytes, id;
            id = buffer_new((size_t)bytes);
            *list_add(trial->arena, &trial->made) = id;
            fill(buffer_data(id), made->dtype, made->elements, &state);
            buffer[made->param] = id;
            trial->bytes += bytes;
        }
        trial->buffer[set] = buffer;
    }
    trial->made_params = once->count;
}

void trial_close(Trial *trial) {
    for (int i = 0; i < trial->made.count; i++) buffer_release(trial->made.at[i]);
    for (int i = 0; i < trial->buffers.count; i++) buffer_release(trial->buffers.at[i]);
    if (trial->workspace) buffer_release(trial->workspace);
}

const int64_t *trial_vars(const Trial *trial) { return trial->var; }

double trial_cold_bytes(const Trial *trial, const Machine *machine) {
    return (double)trial->bytes > machine->last_bytes ? (double)trial->bytes / trial->sets : 0;
}

void trial_cost(const Trial *trial, double *operations, double *bytes) {
    kernel_cost(trial->kernel, trial->var, operations, bytes);
}

// ---- running -----------------------------------------------------------------------------------
typedef struct {
    const Trial *trial;
    const TrialKernel *kernel;
    void **buffer[SETS_MAX];  // the memory of each PARAM
    void *workspace;
    int64_t calls;
    double seconds;
} Run;

static void run_calls(void *context, int thread, int threads, Barrier *barrier) {
    Run *run = context;
    const Trial *trial = run->trial;
    PgArgs args = {.var = trial->var, .workspace = run->workspace, .wait = barrier_wait};
    barrier_wait(barrier, thread);
    double start = clock_seconds();
    for (int64_t i = 0; i < run->calls; i++) {
        args.buffer = run->buffer[i % trial->sets];
        run->kernel->function(&args, thread, threads, barrier);
        barrier_wait(barrier, thread);
    }
    if (!thread) run->seconds = clock_seconds() - start;
}

static int64_t workspace_of(Trial *trial, const TrialKernel *kernel) {
    size_t bytes = (size_t)(kernel->own_bytes * thread_count() + kernel->shared_bytes);
    if (!trial->workspace || buffer_bytes(trial->workspace) < bytes) {
        if (trial->workspace) buffer_release(trial->workspace);
        trial->workspace = buffer_scratch(bytes + 64);
    }
    return trial->workspace;
}

// A call of so many launches, whose backend tells how long each took. INFINITY: it failed.
static int bind_on_gpu(Trial *trial, const TrialKernel *kernel, Compiled *call) {
    int params = params_of(trial) + trial->made_params;
    void *workspace;
    if (call->backend->address(call, workspace_of(trial, kernel), true, &workspace)) return -1;
    for (int32_t i = 0; i < call->launches; i++) {
        Launch *launch = &call->launch[i];
        const int64_t *buffer = trial->buffer[i % trial->sets];
        *launch = (Launch){.params = params, .buffer = arena_array(call->kept, void *, params)};
        launch->args = (PgArgs){.buffer = launch->buffer, .workspace = workspace};
        for (int p = 0; p < params; p++) {
            bool written = is_param(trial->kernel, p) && trial->kernel->buffers.at[p].written;
            if (call->backend->address(call, buffer[p], written, &launch->buffer[p])) return -1;
        }
        gpu_keep(call, call->kept, kernel->unit, launch);
    }
    return 0;
}

static double run_on_gpu(Trial *trial, const TrialKernel *kernel, int64_t calls) {
    enum { AT_ONCE = 256 };
    Arena *arena = arena_new();
    double sum = 0;
    while (calls > 0 && sum < INFINITY) {
        Compiled call = {.device = device(),
                         .backend = kernel->compiled->backend,
                         .arena = arena,
                         .kept = arena,
                         .launches = (int32_t)min_i64(calls, AT_ONCE)};
        call.launch = arena_array(arena, Launch, call.launches);
        call.seconds = arena_array(arena, double, call.launches);
        if (bind_on_gpu(trial, kernel, &call) || call.backend->replay(&call, trial->var))
            sum = INFINITY;
        for (int32_t i = 0; i < call.launches; i++) sum += call.seconds[i];
        calls -= call.launches;
    }
    arena_free(arena);
    return sum;
}

static double run(Trial *trial, const TrialKernel *kernel, int64_t calls) {
    if (kernel->unit) return run_on_gpu(trial, kernel, calls);
    Arena *arena = arena_new();
    int params = params_of(trial) + trial->made_params;
    Run it = {.trial = trial, .kernel = kernel, .calls = calls};
    for (int set = 0; set < trial->sets; set++) {
        it.buffer[set] = arena_array(arena, void *, params);
        for (int p = 0; p < params; p++) it.buffer[set][p] = buffer_data(trial->buffer[set][p]);
    }
    it.workspace = buffer_data(workspace_of(trial, kernel));
    thread_run(run_calls, &it);
    arena_free(arena);
    return it.seconds;
}

double trial_time(Trial *trial, const TrialKernel *kernel, double least) {
    int64_t calls = 1;
    for (;;) {
        double seconds = run(trial, kernel, calls);
        if (seconds >= least || calls > INT32_MAX) return seconds / (double)calls;
        calls *= seconds * 10 > least ? 2 : 10;
    }
}

// ---- comparing ---------------------------------------------------------------------------------

static void run_afresh(Trial *trial, const TrialKernel *kernel) {
    for (int32_t p = 0; is_param(trial->kernel, p); p++)
        if (trial->before[p])
            memcpy(buffer_data(trial->buffer[0][p]), trial->before[p],
                   (size_t)param_bytes(trial, p));
    run(trial, kernel, 1);
}

void trial_expect(Trial *trial, const TrialKernel *kernel) {
    run_afresh(trial, kernel);
    for (int32_t p = 0; is_param(trial->kernel, p); p++)
        if (trial->before[p])
            trial->expected[p] = arena_copy(trial->arena, buffer_read(trial->buffer[0][p]),
                                            (size_t)param_bytes(trial, p));
}

// Sums in another order differ by a few units in the last place of what is summed.
static bool are_close(DType dtype, const char *got, const char *wanted, int64_t elements) {
    double largest = 0, step = dtype == DT_F32 ? 0x1p-23 : dtype == DT_F16 ? 0x1p-10 : 0x1p-7;
    int64_t bytes = dtypes[dtype].bytes;
    for (int64_t i = 0; i < elements; i++) {
        double size = fabs((double)scalar_load(dtype, wanted + i * bytes).real);
        if (isfinite(size) && size > largest) largest = size;
    }
    for (int64_t i = 0; i < elements; i++) {
        double x = (double)scalar_load(dtype, got + i * bytes).real,
               y = (double)scalar_load(dtype, wanted + i * bytes).real;
        bool same = isnan(x) ? isnan(y) : x == y || fabs(x - y) <= 256 * step * largest;
        if (!same) return false;
    }
    return true;
}

bool trial_agrees(Trial *trial, const TrialKernel *kernel) {
    run_afresh(trial, kernel);
    for (int32_t p = 0; is_param(trial->kernel, p); p++) {
        const KernelBuffer *buffer = &trial->kernel->buffers.at[p];
        if (!trial->before[p]) continue;
        const void *got = buffer_read(trial->buffer[0][p]);
        bool same = dtype_is_float(buffer->dtype)
                        ? are_close(buffer->dtype, got, trial->expected[p], buffer->size)
                        : !memcmp(got, trial->expected[p], (size_t)param_bytes(trial, p));
        if (!same) return false;
    }
    return true;
}
