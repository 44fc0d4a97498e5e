/* gpu_run.c - see gpu_run.h. */
#include "codegen/gpu_run.h"

#include "rewrite/rewrite.h"
#include "test.h"

#include <string.h>

static void make_explicit(Kernel *kernel) {
    online(kernel, true);
    accumulate(kernel);
}

Gpu gpu_render(const char *text, const char *schedule) {
    Gpu gpu = {.arena = arena_new()};
    gpu.kernel = kernel_parse(gpu.arena, "test", text);
    gpu.schedule = arena_text(gpu.arena, schedule);
    kernel_verify(gpu.kernel);
    make_explicit(gpu.kernel);
    schedule_apply(gpu.kernel, schedule);
    gpu.kernel = once_take_out(gpu.arena, gpu.kernel, &gpu.once);
    expand_kernel(gpu.kernel);
    gpu.program = lower(gpu.arena, gpu.kernel, &(LowerOptions){.gpu = true});
    program_verify(gpu.program);
    gpu.source = render_cuda(gpu.arena, gpu.program, NULL, gpu.symbol);
    return gpu;
}

void gpu_free(Gpu *gpu) { arena_free(gpu->arena); }

bool gpu_has(const Gpu *gpu, const char *part) {
    return strstr(strstr(gpu->source, "KERNEL("), part);
}

static void apply(void *argument) {
    const char *const *schedule = ((void **)argument)[1];
    schedule_apply(((void **)argument)[0], *schedule);
}

const char *gpu_first(Arena *arena, const char *text, const ScheduleTarget *target) {
    const char *candidate[CANDIDATES_MAX];
    Kernel *kernel = kernel_parse(arena, "test", text);
    make_explicit(kernel);
    schedule_candidates(arena, kernel, target, candidate);
    for (int first = 0;; first++) {
        Kernel *attempt = kernel_parse(arena, "test", text);
        make_explicit(attempt);
        void *both[] = {attempt, (void *)(uintptr_t)&candidate[first]};
        if (!try_privately(apply, both)) return candidate[first];
    }
}

static SimtFunction *const *compile(const Gpu *gpu, bool checked) {
    run_private_cache();
    CompileUnit unit = {.symbol = arena_print(gpu->arena, "simt_%s", gpu->symbol + strlen("pg_k_")),
                        .source =
                            checked ? simt_checked_source(gpu->arena, gpu->source) : gpu->source,
                        .flags = checked ? SIMT_CHECKED_FLAGS : SIMT_FLAGS};
    if (compile_units(&unit, 1)) fatal("%s\n%s", error_text(), gpu->source);
    SimtFunction *const *functions;
    memcpy(&functions, &unit.function, sizeof functions);
    return functions;
}

static int64_t var_value(void *context, const Atom *atom) {
    return ((const int64_t *)context)[atom->of];
}

enum { MOST = 16 };
typedef struct {
    void *param[MOST + 1], *workspace;
    SimtRange range[MOST + 1];
    int ranges;
} Memory;

static void give(const Gpu *gpu, Memory *to, void **buffer, const int64_t *var) {
    int64_t room = gpu->program->own_bytes + gpu->program->shared_bytes + 64;
    int params = 0;
    to->workspace = arena_alloc(gpu->arena, (size_t)room);
    for (; params < gpu->kernel->buffers.count; params++) {
        const KernelBuffer *from = &gpu->kernel->buffers.at[params];
        if (from->space != SPACE_PARAM) break;
        int grain = dtypes[from->dtype].bytes;
        to->param[params] = &buffer[params];
        to->range[params] = (SimtRange){from->name, buffer[params], from->size * grain, grain};
    }
    to->param[params] = &to->workspace;
    to->range[params] = (SimtRange){"workspace", to->workspace, room, 4};
    to->ranges = params + 1;
    for (int32_t v = 0; v < gpu->program->vars.count; v++)
        to->param[params + 1 + v] = (void *)(uintptr_t)&var[v];
}

static void call(Gpu *gpu, bool checked, void **buffer, const int64_t *var) {
    SimtFunction *const *function = compile(gpu, checked);
    int64_t bytes = program_block_bytes(gpu->program);
    Memory memory;
    int launch = 0;
    give(gpu, &memory, buffer, var);
    for (int32_t i = 0; i < gpu->program->steps.count; i++) {
        const Step *step = &gpu->program->steps.at[i];
        if (step->kind != STEP_LAUNCH) continue;
        int64_t blocks =
            index_value(gpu->program->indices, step->index, var_value, (void *)(uintptr_t)var);
        int status =
            checked ? simt_check(function[launch], blocks, step->threads, bytes, memory.param,
                                 memory.ranges, memory.range, &gpu->counts)
                    : simt_launch(function[launch], blocks, step->threads, bytes, memory.param);
        if (status) fatal("%s\n%s", error_text(), gpu->source);
        launch++;
    }
}

SimtCounts gpu_count(Gpu *gpu, int64_t blocks, void **buffer) {
    SimtFunction *const *function = compile(gpu, true);
    SimtCounts counts = {0};
    Memory memory;
    const Step *step = gpu->program->steps.at;
    give(gpu, &memory, buffer, NULL);
    while (step->kind != STEP_LAUNCH) step++;
    if (simt_check(function[0], blocks, step->threads, program_block_bytes(gpu->program),
                   memory.param, memory.ranges, memory.range, &counts))
        fatal("%s\n%s", error_text(), gpu->source);
    return counts;
}

// The PARAMs: those that are given, and what is made of them once.
static void **with_made(const Gpu *gpu, void **given) {
    int32_t made = 0;
    void **all = arena_array(gpu->arena, void *, gpu->kernel->buffers.count);
    for (int32_t i = 0; i < gpu->kernel->buffers.count; i++) {
        const Once *once = made < gpu->once.count ? &gpu->once.at[made] : NULL;
        if (gpu->kernel->buffers.at[i].space != SPACE_PARAM) break;
        if (!once || once->param != i) {
            all[i] = given[i - made];
            continue;
        }
        all[i] = arena_array(gpu->arena, float, once->elements);
        void *buffer[] = {given[once->from[0]], all[i]};
        interpret(once->kernel, buffer, NULL);
        made++;
    }
    return all;
}

void gpu_check(Gpu *gpu, const char *text, void **buffer, int64_t size, double tolerance,
               const int64_t *var) {
    Arena *arena = arena_new();
    Kernel *plain = kernel_parse(arena, "test", text);
    size_t bytes = sizeof(float) * (size_t)size;
    float *wanted = arena_array(arena, float, size), *got = arena_array(arena, float, size);
    expand_kernel(plain);
    memset(wanted, 0xff, bytes);
    buffer[0] = wanted;
    interpret(plain, buffer, var);
    for (int checked = 0; checked < 2; checked++) {
        memset(got, 0xff, bytes);
        buffer[0] = got;
        call(gpu, checked, with_made(gpu, buffer), var);
        for (int64_t i = 0; i < size; i++)  // what is past a VAR's end nobody writes
            if (memcmp(&wanted[i], &got[i], sizeof *got) != 0)
                CHECK_NEAR((double)got[i], (double)wanted[i], tolerance);
    }
    arena_free(arena);
}

int64_t gpu_spills(const Gpu *gpu) {
    static const char *const archs[] = {"sm_80", "sm_90a"};
    int64_t bytes = 0;
    for (int i = 0; i < COUNT_OF(archs) && nvrtc_available(); i++) {
        if (gpu_has(gpu, "wgmma_") && strcmp(archs[i], "sm_90a") != 0) continue;
        NvrtcUnit unit = {.name = "test", .source = gpu->source, .arch = archs[i]};
        if (nvrtc_compile(gpu->arena, &unit, 1)) fatal("%s\n%s", error_text(), gpu->source);
        for (int k = 0; k < unit.kernels; k++)
            bytes += unit.kernel[k].stack + unit.kernel[k].spill_stores;
    }
    return bytes;
}
