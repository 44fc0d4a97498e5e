/* gpu.c - units and calls on a GPU: programs are launches of blocks, and run one after another.
 * In: rendered units; a call's memory.  Out: functions; the kernels' effects.
 * Invariant: a kernel's arguments are its PARAMs, the workspace and the VARs, as pointers to where
 * their values are, which never move.                                                           */
#include <string.h>

#include "engine/compiled.h"

// A thread's code is scalar. GCC 12 turns comparisons of neighbours into masks of -1 where 1 was
// meant (x / x of four lanes); -O1 compiles in half the time.
static const char simt_flags[] = "-O1 -fno-tree-slp-vectorize";

int gpu_compile(Compiled *compiled) {
    CompileUnit *unit = arena_array(compiled->arena, CompileUnit, compiled->units.count);
    for (int32_t i = 0; i < compiled->units.count; i++)
        unit[i] =
            (CompileUnit){.symbol = arena_print(compiled->arena, "simt_%s",
                                                compiled->units.at[i].symbol + strlen("pg_k_")),
                          .source = compiled->units.at[i].source,
                          .flags = simt_flags};
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
}

static int64_t var_value(void *context, const Atom *atom) {
    return ((const int64_t *)context)[atom->of];
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
            if (blocks > 0 && simt_launch(grid->function, blocks, grid->threads,
                                          launch->block_bytes, launch->param) < 0)
                return -1;
        }
        if (!compiled->seconds) continue;
        compiled->seconds[i] = clock_seconds() - start;
        start += compiled->seconds[i];
    }
    return 0;
}
