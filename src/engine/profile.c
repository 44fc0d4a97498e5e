/* profile.c - what a profiler would say of the kernels of a call: a few blocks of each launch are
 * run where every access is told, and stand for all.
 * In: a launch, and memory as the call has it.  Out: its counts over the whole grid, told.
 * Invariant: what is counted is of the blocks that ran, times how many there are; the same blocks
 * each time.
 *   64 blocks   =>   blocks 10, 31 and 52 are run, and counted 21 and a third times              */
#include "engine/compiled.h"

static _Thread_local EngineProfile *telling;
static _Thread_local void *tell_context;

void engine_profile(EngineProfile *tell, void *context) {
    telling = tell;
    tell_context = context;
}

bool profile_is_wanted(void) { return telling && device()->kind == DEVICE_SIMT; }

// Memory gives and takes at least what the unscheduled kernel reads and writes; where that is done
// in several launches, or what they work in, whatever they touch.
static double memory_bytes(const Launch *launch, double counted, const int64_t *var) {
    double most = 0, operations;
    for (int32_t i = 0; i <= launch->params; i++) most += (double)launch->range[i].bytes;
    if (launch->grids == 1) kernel_cost(launch->profiled->asked, var, &operations, &most);
    return counted < most ? counted : most;
}

// What its program says, and in place of it what was seen of memory.
static GpuCounts counts_of(const SimtCounts *simt, double times, const GpuCounts *work) {
    GpuCounts counts = *work;
    counts.loads = times * (double)simt->loads;
    counts.load_lines = times * (double)simt->load_lines;
    counts.load_sectors = times * (double)simt->load_sectors;
    counts.stores = times * (double)simt->stores;
    counts.store_lines = times * (double)simt->store_lines;
    counts.store_sectors = times * (double)simt->store_sectors;
    counts.l2_sectors = times * (double)(simt->block_sectors + simt->store_sectors);
    counts.memory_bytes = times * (double)simt->memory_bytes;
    counts.shared = times * (double)simt->shared;
    counts.wavefronts = times * (double)simt->wavefronts;
    counts.conflict_free = times * (double)simt->conflict_free;
    return counts;
}

// In the order of the VARs; the kernel is given their addresses.
static const int64_t *vars_of(Arena *arena, const Launch *launch) {
    int64_t *var = arena_array(arena, int64_t, launch->vars);
    for (int32_t i = 0; i < launch->vars; i++)
        var[i] = *(const int64_t *)launch->param[launch->params + 1 + i];
    return var;
}

// Four blocks, fewer of those that take long: to be told of an access takes a thousand clocks.
static int64_t sampled(double instructions, int64_t blocks) {
    enum { MOST = 4 };
    static const double patience = 1e6;  // instructions of warps, about ten seconds
    double fit = patience * (double)blocks / (instructions + 1);
    return fit < 1 ? 1 : fit > MOST ? MOST : (int64_t)fit;
}

// Where every 8th or 16th block is alike (the first tile of queries sees few keys, the last all of
// them), those that are run are not: they are 5 apart in 8.
static int64_t apart(int64_t step) {
    enum { ALIKE = 8, ODD = 5 };
    return step < ALIKE ? max_i64(step, 1) : step / ALIKE * ALIKE + ODD;
}

int profile_launch(const Launch *launch, int32_t number) {
    const Grid *grid = &launch->grid[number];
    const Unit *unit = launch->profiled->unit;
    if (!launch->profiled->calls) return 0;
    Arena *arena = arena_new();
    const int64_t *var = vars_of(arena, launch);
    GpuCounts work = launch_work(unit->program, number, var);
    int64_t blocks = grid->blocks;
    int64_t step = apart(blocks / sampled(work.instructions, blocks)), first = step / 2;
    int64_t counted = (blocks - first + step - 1) / step;
    SimtCounts simt;
    if (simt_check_some(grid->simt, blocks, first, step, grid->threads, launch->block_bytes,
                        launch->param, launch->params + 1, launch->range, &simt) < 0) {
        arena_free(arena);
        return -1;
    }
    GpuProfile profile = {.name = launch->name,
                          .blocks = blocks,
                          .counted = counted,
                          .threads = grid->threads,
                          .shared_bytes = launch->block_bytes,
                          .counts = counts_of(&simt, (double)blocks / (double)counted, &work)};
    profile.counts.memory_bytes = memory_bytes(launch, profile.counts.memory_bytes, var);
    LaunchProfile told = {.kernel = launch->profiled->number,
                          .calls = launch->profiled->calls,
                          .launch = number,
                          .launches = launch->grids,
                          .source = unit->source,
                          .entry = arena_print(arena, "%s_%d", unit->symbol, number),
                          .profile = &profile};
    telling(tell_context, &told);
    arena_free(arena);
    return 0;
}

// A kernel is profiled at its first call, and not run at the others.
void profile_keep(const Compiled *compiled, int32_t call, Launch *launch) {
    int32_t number = compiled->unit[call], first = 0, calls = 0;
    while (compiled->unit[first] != number) first++;
    for (int32_t i = 0; i < compiled->module->calls.count; i++)
        calls += compiled->unit[i] == number;
    Profiled profiled = {.unit = &compiled->units.at[number],
                         .asked = compiled->module->calls.at[call].kernel,
                         .number = number,
                         .calls = call == first ? calls : 0};
    launch->profiled = arena_copy(compiled->kept, &profiled, sizeof profiled);
}
