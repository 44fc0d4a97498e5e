/* gpu.c - units and calls on a GPU: programs are launches of blocks, and run one after another.
 * In: rendered units; a call's memory.  Out: functions; the kernels' effects.
 * Invariant: a kernel's arguments are its PARAMs, the workspace and the VARs, as pointers to where
 * their values are, which never move.                                                           */
#include <string.h>

#include "engine/compiled.h"

// PG_SIMT_CHECK=1: every access of every kernel is held to the rules; slow.
static bool is_checked(void) { return device()->kind == DEVICE_SIMT && env_int("SIMT_CHECK", 0); }

int gpu_compile(Compiled *compiled) {
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

// ---- what a call replays -----------------------------------------------------------------------
static void keep_grids(Compiled *compiled, const Unit *unit, Launch *launch) {
    const Program *program = unit->program;
    for (int32_t i = 0; i < program->steps.count; i++)
        launch->grids += program->steps.at[i].kind == STEP_LAUNCH;
    launch->grid = arena_array(compiled->kept, Grid, launch->grids);
    for (int32_t i = 0, grid = 0; i < program->steps.count; i++) {
        const Step *step = &program->steps.at[i];
        if (step->kind != STEP_LAUNCH) continue;
        Index blocks = index_copy(compiled->indices, program->indices, step->index, NULL, NULL);
        launch->grid[grid] = (Grid){blocks, step->threads, unit->simt[grid]};
        grid++;
    }
}

static void keep_ranges(Compiled *compiled, const Program *program, Launch *launch) {
    launch->range = arena_array(compiled->kept, SimtRange, launch->params + 1);
    for (int32_t i = 0; i < launch->params; i++) {
        const ProgramBuffer *buffer = &program->buffers.at[i];
        int grain = dtypes[buffer->dtype].bytes;
        launch->range[i] = (SimtRange){.name = arena_text(compiled->kept, buffer->name),
                                       .bytes = buffer->size * grain,
                                       .grain = grain};
    }
    launch->range[launch->params] = (SimtRange){
        .name = "the workspace", .bytes = program->own_bytes + program->shared_bytes, .grain = 1};
}

void gpu_keep(Compiled *compiled, int32_t call, Launch *launch) {
    const Unit *unit = &compiled->units.at[compiled->unit[call]];
    if (!compiled->indices) compiled->indices = index_table_new(compiled->kept);
    keep_grids(compiled, unit, launch);
    launch->block_bytes = program_block_bytes(unit->program);
    launch->param =
        arena_array(compiled->kept, void *, launch->params + 1 + unit->program->vars.count);
    for (int32_t i = 0; i < launch->params; i++) launch->param[i] = &launch->buffer[i];
    launch->param[launch->params] = &compiled->workspace;
    launch->vars = unit->program->vars.count;
    launch->name = arena_text(compiled->kept, unit->program->name);
    if (is_checked()) keep_ranges(compiled, unit->program, launch);
}

static int64_t var_value(void *context, const Atom *atom) {
    return ((const int64_t *)context)[atom->of];
}

static int run_grid(const Compiled *compiled, const Launch *launch, const Grid *grid,
                    int64_t blocks) {
    if (!launch->range)
        return simt_launch(grid->function, blocks, grid->threads, launch->block_bytes,
                           launch->param);
    SimtCounts counts;
    for (int32_t i = 0; i < launch->params; i++) launch->range[i].at = launch->buffer[i];
    launch->range[launch->params].at = compiled->workspace;
    return simt_check(grid->function, blocks, grid->threads, launch->block_bytes, launch->param,
                      launch->params + 1, launch->range, &counts);
}

int gpu_replay(Compiled *compiled, const int64_t *var) {
    double start = clock_seconds();
    for (int32_t i = 0; i < compiled->launches; i++) {
        const Launch *launch = &compiled->launch[i];
        for (int32_t v = 0; v < launch->vars; v++)
            launch->param[launch->params + 1 + v] = (void *)(uintptr_t)&var[v];
        for (int32_t g = 0; g < launch->grids; g++) {
            const Grid *grid = &launch->grid[g];
            int64_t blocks =
                index_value(compiled->indices, grid->blocks, var_value, (void *)(uintptr_t)var);
            if (blocks > 0 && run_grid(compiled, launch, grid, blocks) < 0)
                return fail("kernel %s: %s", launch->name, error_text());
        }
        if (!compiled->seconds) continue;
        compiled->seconds[i] = clock_seconds() - start;
        start += compiled->seconds[i];
    }
    return 0;
}
