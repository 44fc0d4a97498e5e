/* gpu.c - units and calls on a GPU: programs are launches of blocks, and run one after another.
 * In: rendered units; a call's memory.  Out: what each launch is given; on simt, functions and the
 * kernels' effects (gpu_cuda.c has the other backend).
 * Invariants: a kernel's arguments are its PARAMs, the workspace and the VARs, as pointers to where
 * their values are, which never move; each is 8 bytes, and a VAR that a kernel does not read is 0,
 * so that equal values mean an equal launch.                                                    */
#include <string.h>
#include <unistd.h>

#include "engine/compiled.h"

// PG_SIMT_CHECK=1: every access of every kernel is held to the rules; slow.
static bool is_checked(void) {
    return profile_is_wanted() || (device()->kind == DEVICE_SIMT && env_int("SIMT_CHECK", 0));
}

const GpuTarget *gpu_row(void) {
    static _Thread_local GpuTarget row;
    static _Thread_local char architecture[16];
    const char *name = env_text("SIMT_GPU", "h100");
    const GpuTarget *simt = gpu_target(name);
    if (!device()->gpu && !simt) fatal("PG_SIMT_GPU: there is no GPU %.60s. Hint: h100", name);
    if (!device()->gpu) return simt;
    const CudaInfo *info = cuda_facts(device()->gpu);
    row = *gpu_target_like(info->name, 10 * info->major + info->minor);
    // sm_90a has what only this architecture has.
    snprintf(architecture, sizeof architecture, "sm_%d%d%s", info->major, info->minor,
             info->major == 9 && info->minor == 0 ? "a" : "");
    row.architecture = architecture;
    row.sms = info->processors;
    row.block_shared = info->shared;
    row.l2_bytes = info->l2;
    row.memory_bytes = (double)info->memory;
    return &row;
}

// PG_CUDA_TEXT=folder: what NVRTC is to take of each kernel.
static int keep_texts(const Compiled *compiled) {
    const char *folder = env_text("CUDA_TEXT", NULL);
    for (int32_t i = 0; i < compiled->units.count && folder; i++) {
        const Unit *unit = &compiled->units.at[i];
        const char *path = arena_print(compiled->arena, "%s/%s.cu", folder, unit->symbol);
        bool kept = !access(path, F_OK);
        if (!kept && file_write(path, unit->source, strlen(unit->source))) return -1;
    }
    return 0;
}

static int simt_compile(Compiled *compiled) {
    if (keep_texts(compiled)) return -1;
    CompileUnit *unit = arena_array(compiled->arena, CompileUnit, compiled->units.count);
    for (int32_t i = 0; i < compiled->units.count; i++)
        unit[i] =
            (CompileUnit){.symbol = arena_print(compiled->arena, "simt_%s",
                                                compiled->units.at[i].symbol + strlen("pg_k_")),
                          .source = compiled->units.at[i].source,
                          .flags = SIMT_FLAGS};
    for (int32_t i = 0; i < compiled->units.count && is_checked(); i++) {
        unit[i].source = simt_checked_source(compiled->arena, unit[i].source);
        unit[i].flags = SIMT_CHECKED_FLAGS;
    }
    if (compile_units(unit, compiled->units.count) < 0) return -1;
    for (int32_t i = 0; i < compiled->units.count; i++) {
        Unit *to = &compiled->units.at[i];
        memcpy(&to->simt, &unit[i].function, sizeof to->simt);  // an array's address
        compiled->info.from_cache += unit[i].from_cache;
    }
    return 0;
}

// ---- what a launch is given --------------------------------------------------------------------

static void keep_grids(Compiled *compiled, Arena *arena, const Unit *unit, Launch *launch) {
    const Program *program = unit->program;
    launch->grids = program_launches(program);
    launch->grid = arena_array(arena, Grid, launch->grids);
    for (int32_t i = 0, grid = 0; i < program->steps.count; i++) {
        const Step *step = &program->steps.at[i];
        if (step->kind != STEP_LAUNCH) continue;
        launch->grid[grid] = (Grid){
            .extent = index_copy(compiled->indices, program->indices, step->index, NULL, NULL),
            .threads = step->threads,
            .simt = unit->simt ? unit->simt[grid] : NULL,
            .cuda = unit->cuda ? &unit->cuda[grid] : NULL};
        grid++;
    }
}

static void keep_ranges(Arena *arena, const Program *program, Launch *launch) {
    launch->range = arena_array(arena, SimtRange, launch->params + 1);
    for (int32_t i = 0; i < launch->params; i++) {
        const ProgramBuffer *buffer = &program->buffers.at[i];
        int grain = dtypes[buffer->dtype].bytes;
        launch->range[i] = (SimtRange){
            .name = arena_text(arena, buffer->name), .bytes = buffer->size * grain, .grain = grain};
    }
    launch->range[launch->params] = (SimtRange){
        .name = "the workspace", .bytes = program->own_bytes + program->shared_bytes, .grain = 1};
}

static bool reads_var(const Program *program, int32_t var) {
    for (int32_t i = 0; i < program->steps.count; i++) {
        const Step *step = &program->steps.at[i];
        if ((step->index >= 0 && index_uses(program->indices, step->index, ATOM_VAR, var)) ||
            (step->limit >= 0 && index_uses(program->indices, step->limit, ATOM_VAR, var)))
            return true;
        for (int place = 0; place < step_places(step); place++)
            if (index_uses(program->indices, step->at[place], ATOM_VAR, var)) return true;
    }
    return false;
}

void gpu_keep(Compiled *compiled, Arena *arena, const Unit *unit, Launch *launch) {
    const Program *program = unit->program;
    int32_t values = launch->params + 1 + program->vars.count;
    if (!compiled->indices) compiled->indices = index_table_new(compiled->kept);
    keep_grids(compiled, arena, unit, launch);
    launch->block_bytes = program_block_bytes(program);
    launch->vars = program->vars.count;
    launch->name = arena_text(arena, program->name);
    if (is_checked()) keep_ranges(arena, program, launch);
    launch->reads = arena_array(arena, bool, launch->vars);
    for (int32_t i = 0; i < launch->vars; i++) launch->reads[i] = reads_var(program, i);
    launch->values = values;
    launch->value = arena_array(arena, uint64_t, values);
    launch->given = arena_array(arena, uint64_t, values);
    launch->param = arena_array(arena, void *, values);
    for (int32_t i = 0; i < values; i++) launch->param[i] = &launch->value[i];
}

static int64_t var_value(void *context, const Atom *atom) {
    return ((const int64_t *)context)[atom->of];
}

void gpu_bind(const Compiled *compiled, Launch *launch, const int64_t *var) {
    for (int32_t i = 0; i < launch->params; i++)
        launch->value[i] = (uintptr_t)launch->args.buffer[i];
    launch->value[launch->params] = (uintptr_t)launch->args.workspace;
    for (int32_t i = 0; i < launch->vars; i++)
        if (launch->reads[i]) launch->value[launch->params + 1 + i] = (uint64_t)var[i];
    for (int32_t i = 0; i < launch->grids; i++) {
        Grid *grid = &launch->grid[i];
        int64_t blocks =
            index_value(compiled->indices, grid->extent, var_value, (void *)(uintptr_t)var);
        grid->blocks = max_i64(blocks, 0);
    }
}

// ---- simt --------------------------------------------------------------------------------------

static int run_grid(const Launch *launch, const Grid *grid) {
    if (!launch->range)
        return simt_launch(grid->simt, grid->blocks, grid->threads, launch->block_bytes,
                           launch->param);
    SimtCounts counts;
    for (int32_t i = 0; i < launch->params; i++) launch->range[i].at = launch->args.buffer[i];
    launch->range[launch->params].at = launch->args.workspace;
    if (launch->profiled && profile_is_wanted())
        return profile_launch(launch, (int32_t)(grid - launch->grid));
    return simt_check(grid->simt, grid->blocks, grid->threads, launch->block_bytes, launch->param,
                      launch->params + 1, launch->range, &counts);
}

static int simt_run(const Launch *launch) {
    for (int32_t i = 0; i < launch->grids; i++)
        if (launch->grid[i].blocks && run_grid(launch, &launch->grid[i]) < 0)
            return fail("kernel %s: %s", launch->name, error_text());
    return 0;
}

static int simt_replay(Compiled *compiled, const int64_t *var) {
    double start = clock_seconds();
    for (int32_t i = 0; i < compiled->launches; i++) {
        gpu_bind(compiled, &compiled->launch[i], var);
        if (simt_run(&compiled->launch[i])) return -1;
        if (!compiled->seconds) continue;
        compiled->seconds[i] = clock_seconds() - start;
        start += compiled->seconds[i];
    }
    return 0;
}

static int simt_once(Compiled *compiled, const Launch *launch) {
    (void)compiled;
    return simt_run(launch);
}

const Backend backend_simt = {.compile = simt_compile,
                              .enter = host_enter,
                              .leave = host_leave,
                              .address = host_address,
                              .replay = simt_replay,
                              .once = simt_once};

// ---- weights that are laid out -----------------------------------------------------------------

// What came to the GPU only to be laid out goes again: whoever reads it as well asks for it then.
int gpu_fill(Compiled *compiled, const Unit *unit, int32_t params, const int64_t *buffer) {
    const Backend *backend = compiled->backend;
    Launch launch = {.params = params, .buffer = arena_array(compiled->arena, void *, params)};
    bool *stays = arena_array(compiled->arena, bool, params);
    Room room;
    if (backend->enter(compiled, &room, 0, unit->program->shared_bytes)) return -1;
    launch.args = (PgArgs){.buffer = launch.buffer};
    int status = backend->address(compiled, room.workspace, true, &launch.args.workspace);
    for (int32_t i = 0; i < params && !status; i++) {
        stays[i] = i == params - 1 || buffer_is_there(buffer[i]);
        status = backend->address(compiled, buffer[i], i == params - 1, &launch.buffer[i]);
    }
    gpu_keep(compiled, compiled->arena, unit, &launch);
    gpu_bind(compiled, &launch, NULL);
    if (!status) status = backend->once(compiled, &launch);
    for (int32_t i = 0; i < params && !status; i++)
        if (!stays[i]) buffer_leave_gpu(buffer[i]);
    backend->leave(&room);
    return status;
}
