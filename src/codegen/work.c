/* work.c - what a launch of blocks does, by the steps of its program: operations, instructions, how
 * many of a thread's instructions do not wait for each other, and what its warps ask memory for.
 * In: a program for GPUs, values of its VARs.  Out: counts over the whole grid; nothing is run.
 * Invariants: conditions hold, a loop's limit is that of its middle iteration, and one step is one
 * instruction; addresses are not computed, so instructions are at least these. A step asks for what
 * some warps of the middle block ask for, in the middle of all loops; what is loaded is 0 where an
 * index needs it.
 *   for k < 512 { x = load a[k]; s0 = fma x 2 s0; s1 = fma x 3 s1 }, 32 threads
 *   =>   65536 operations, 1536 instructions; 3 in the time of 2 that depend on each other;
 *        512 requests of one sector                                                            */
#include "codegen/codegen.h"

enum { WARP = GPU_WARP, PRODUCT_FLOPS = 2 * 16 * 8 * 8 };

// A register: a variable, or an element of an array that registers hold.
typedef struct {
    int32_t buffer;
    Index at;
    double ready;
} Register;

// Time is in instructions that depend on each other. A loop's body is walked once.
typedef struct {
    const Program *program;
    const Step *launch;
    const int64_t *var;
    Arena *arena;
    const bool *used;
    int64_t *middle, *extent;  // by FOR: of its iterations
    int32_t warp, lane;        // of whom addresses are
    double *value, *variable;  // when they are ready
    LIST(Register) registers;
    double ready, latest;          // all of before is; the last that is of any
    double steps;                  // of a thread
    double threads, warps, trips;  // that do a step, in a block; how often
    bool alone;                    // thread 0 does it
    LIST(int32_t) around;          // FORs
    GpuCounts found;
} Work;

static int64_t atom_value(void *context, const Atom *atom) {
    const Work *work = context;
    if (atom->kind == ATOM_VAR) return work->var[atom->of];
    return atom->kind == ATOM_LOOP && atom->of >= 0 ? work->middle[atom->of] : 0;
}

static int64_t value_of(Work *work, Index index) {
    return index_value(work->program->indices, index, atom_value, work);
}

static double *register_of(Work *work, int32_t buffer, Index at) {
    for (int i = 0; i < work->registers.count; i++)
        if (work->registers.at[i].buffer == buffer && work->registers.at[i].at == at)
            return &work->registers.at[i].ready;
    Register *added = list_add(work->arena, &work->registers);
    *added = (Register){buffer, at, 0};
    return &added->ready;
}

static double later(double a, double b) { return a > b ? a : b; }

static double sources_ready(const Work *work, const Step *step) {
    double ready = step->condition >= 0 ? work->value[step->condition] : 0;
    for (int i = 0; i < 3; i++)
        if (step->source[i] >= 0) ready = later(ready, work->value[step->source[i]]);
    return later(ready, work->ready);
}

// So many instructions, done `clocks` after `ready`.
static double issue(Work *work, double instructions, double ready, double clocks) {
    work->steps += instructions;
    work->found.instructions += instructions * work->warps * work->trips;
    work->latest = later(work->latest, ready + clocks);
    return ready + clocks;
}

static bool is_register(const Work *work, int32_t buffer) {
    return work->program->buffers.at[buffer].space == SPACE_REGISTER;
}

// ---- what a warp asks for ----------------------------------------------------------------------

// Of the threads that share the loop, in their middle round.
static int64_t iteration_of(const Work *work, int32_t loop) {
    int64_t extent = work->extent[loop], first, round;
    switch (work->program->steps.at[loop].share) {
    case SHARE_BLOCK:
        first = work->warp * WARP + work->lane;
        round = work->launch->threads;
        break;
    case SHARE_WARPS:
        first = work->warp;
        round = work->launch->threads / WARP;
        break;
    case SHARE_LANES:
        first = work->lane;
        round = WARP;
        break;
    default: return work->middle[loop];
    }
    return first + max_i64(extent - 1, 0) / round / 2 * round;
}

static int64_t lane_value(void *context, const Atom *atom) {
    const Work *work = context;
    if (atom->kind == ATOM_VAR) return work->var[atom->of];
    if (atom->kind == ATOM_LOOP) return atom->of >= 0 ? iteration_of(work, atom->of) : 0;
    const Step *step = &work->program->steps.at[atom->of];
    bool known = step->kind == STEP_LET && step->op == OP_INDEX;
    return known ? index_value(work->program->indices, step->index, lane_value, context) : 0;
}

static bool takes_part(const Work *work) {
    for (int i = 0; i < work->around.count; i++)
        if (iteration_of(work, work->around.at[i]) >= work->extent[work->around.at[i]])
            return false;
    return !work->alone || (!work->warp && !work->lane);
}

// The warp's lanes that do a step, and the byte of the index's element for each.
static uint32_t lanes_of(Work *work, Index index, int64_t grain, uint64_t at[WARP]) {
    uint32_t active = 0;
    for (work->lane = 0; work->lane < WARP; work->lane++) {
        if (!takes_part(work)) continue;
        int64_t element = index_value(work->program->indices, index, lane_value, work);
        at[work->lane] = (uint64_t)max_i64(element * grain, 0);
        active |= (uint32_t)1 << work->lane;
    }
    return active;
}

// By what is asked for at once, in all warps that come to it: a mean of those that are looked at.
static void ask(Work *work, int32_t of, Index index, int64_t grain, int lanes, bool stores) {
    enum { LOOKED_AT = 4 };
    const ProgramBuffer *buffer = &work->program->buffers.at[of];
    int bytes = (int)min_i64(grain * lanes, GPU_ACCESS_MAX), warps = 0;
    double lines = 0, sectors = 0, wavefronts = 0, quiet = 0;
    int32_t all = (work->launch->threads + WARP - 1) / WARP, step = (all - 1) / LOOKED_AT + 1;
    for (work->warp = 0; work->warp < all; work->warp += step) {
        uint64_t at[WARP];
        uint32_t active = lanes_of(work, index, grain, at);
        if (!active) continue;
        warps++;
        if (buffer->on_chip) {
            wavefronts += gpu_wavefronts(at, active, bytes);
            quiet += gpu_quiet_wavefronts(active, bytes);
        } else {
            GpuLines touched = gpu_lines(at, active, bytes);
            lines += touched.lines;
            sectors += touched.sectors;
        }
    }
    if (!warps) return;
    double requests = work->warps * work->trips * (double)(grain * lanes) / bytes,
           each = requests / warps;
    GpuCounts *to = &work->found;
    if (buffer->on_chip) {
        to->shared += requests;
        to->wavefronts += each * wavefronts;
        to->conflict_free += each * quiet;
    } else if (stores) {
        to->stores += requests;
        to->store_lines += each * lines;
        to->store_sectors += each * sectors;
    } else {
        to->loads += requests;
        to->load_lines += each * lines;
        to->load_sectors += each * sectors;
    }
}

static bool is_own(const Work *work, int32_t buffer) {
    Space space = work->program->buffers.at[buffer].space;
    return space == SPACE_REGISTER || space == SPACE_THREAD;
}

static int64_t grain_of(const Work *work, int32_t buffer) {
    return dtypes[work->program->buffers.at[buffer].dtype].bytes;
}

// One instruction; lines of global memory, each a wavefront of the block's.
static void ask_in_bulk(Work *work, const Step *step) {
    enum { LINE = 128, SECTOR = 32 };
    GpuCounts *to = &work->found;
    double times = work->warps * work->trips,
           bytes = (double)(step->integer * grain_of(work, step->of));
    to->loads += times;
    to->load_lines += times * bytes / LINE;
    to->load_sectors += times * bytes / SECTOR;
    to->shared += times;
    to->wavefronts += times * bytes / LINE;
    to->conflict_free += times * bytes / LINE;
}

static void ask_of_step(Work *work, const Step *step) {
    switch (step->kind) {
    case STEP_LET:
        if (step->op == OP_LOAD && !is_own(work, step->of))
            ask(work, step->of, step->index, grain_of(work, step->of),
                (int)(step->type.lanes * dtypes[step->type.dtype].bytes / grain_of(work, step->of)),
                false);
        break;
    case STEP_STORE:
        if (!is_own(work, step->of))
            ask(work, step->of, step->index, grain_of(work, step->of),
                work->program->steps.at[step->source[0]].type.lanes, true);
        break;
    case STEP_COPY:
        if (step->integer) {
            ask_in_bulk(work, step);
            break;
        }
        ask(work, step->tile[0], step->at[0], grain_of(work, step->of), step->type.lanes, false);
        ask(work, step->of, step->index, grain_of(work, step->of), step->type.lanes, true);
        break;
    default: break;
    }
}

// ---- instructions ------------------------------------------------------------------------------

static double let(Work *work, const Step *step) {
    double ready = sources_ready(work, step);
    int lanes = step->type.lanes;
    switch (step->op) {
    case OP_CONST:
    case OP_VEC:
    case OP_LANE:
    case OP_BITCAST: return ready;
    case OP_LOAD:
        if (is_register(work, step->of)) return *register_of(work, step->of, step->index);
        return issue(work, 1, ready, 1);
    default: break;
    }
    bool counts = dtype_is_float(step->type.dtype) && ops[step->op].properties & MAPS;
    if (counts && step->op != OP_CAST)
        work->found.flops += (step->op == OP_FMA ? 2 : 1) * lanes * work->threads * work->trips;
    return issue(work, lanes, ready, 1);
}

// A warp folds in five steps of a shuffle and an operation, a block's warps once more.
static double fold(Work *work, const Step *step) {
    int clocks = (step->share == SHARE_LANES ? 1 : 2) * 10;
    return issue(work, clocks, sources_ready(work, step), clocks);
}

static void product(Work *work, const Step *step) {
    double ready = work->ready;
    for (int i = 0; i < (step->columns ? 2 : 3); i++)
        ready = later(ready, *register_of(work, step->tile[i], step->at[i]));
    *register_of(work, step->tile[0], step->at[0]) = issue(work, 1, ready, 1);
    double times = work->warps * work->trips, tiles = step->columns ? (double)step->columns / 8 : 1;
    work->found.tensor_flops += PRODUCT_FLOPS * tiles * times;
    if (!step->columns) return;
    // Four warps together read two pieces of 128 bytes for 8 columns, a wavefront each.
    work->found.wavefronts += 2 * tiles / WARPGROUP_WARPS * times;
    work->found.conflict_free += 2 * tiles / WARPGROUP_WARPS * times;
}

static void store(Work *work, const Step *step) {
    double ready = sources_ready(work, step);
    if (is_register(work, step->of))
        *register_of(work, step->of, step->index) = ready;
    else
        issue(work, 1, ready, 0);
}

static void set(Work *work, const Step *step) {
    double ready = sources_ready(work, step);
    if (step->lane > 0) ready = later(ready, work->variable[step->of]);
    work->variable[step->of] = ready;
}

static int32_t body(Work *work, int32_t at);

// How often a thread comes, and how many threads and warps of a block do.
static double share_out(Work *work, const Step *step, double extent) {
    int64_t most;
    switch (step->share) {
    case SHARE_BLOCK:
        work->threads = extent;
        work->warps = (double)(((int64_t)extent + WARP - 1) / WARP);
        most = work->launch->threads;
        break;
    case SHARE_WARPS:
        work->threads = extent * WARP;
        work->warps = extent;
        most = work->launch->threads / WARP;
        break;
    case SHARE_LANES:
        work->threads *= extent / WARP;
        work->warps *= (double)(((int64_t)extent + WARP - 1) / WARP);
        most = WARP;
        break;
    default: work->trips *= extent; return extent;
    }
    return (double)(((int64_t)extent + most - 1) / most);
}

static int32_t loop(Work *work, int32_t at) {
    const Step *step = &work->program->steps.at[at];
    Work before = *work;
    int64_t extent = value_of(work, step->index);
    if (step->limit >= 0) extent = min_i64(extent, value_of(work, step->limit));
    work->middle[at] = max_i64(extent, 0) / 2;
    work->extent[at] = extent;
    *list_add(work->arena, &work->around) = at;
    double times = share_out(work, step, (double)max_i64(extent, 0));
    work->ready = work->latest;
    int32_t end = body(work, at + 1);
    work->around.count--;
    work->steps = before.steps + times * (work->steps - before.steps);
    work->latest = before.latest + times * (work->latest - before.latest);
    work->ready = work->latest;
    work->threads = before.threads;
    work->warps = before.warps;
    work->trips = before.trips;
    return end;
}

static int32_t once(Work *work, int32_t at) {
    double threads = work->threads, warps = work->warps;
    work->threads = work->warps = work->alone = 1;
    int32_t end = body(work, at + 1);
    work->threads = threads;
    work->warps = warps;
    work->alone = false;
    return end;
}

// Up to its END, whose place is returned.
static int32_t body(Work *work, int32_t at) {
    for (;; at++) {
        const Step *step = &work->program->steps.at[at];
        if (!work->used[at]) continue;
        ask_of_step(work, step);
        switch (step->kind) {
        case STEP_END: return at;
        case STEP_FOR: at = loop(work, at); break;
        case STEP_LAUNCH:
        case STEP_IF: at = body(work, at + 1); break;
        case STEP_ONCE: at = once(work, at); break;
        case STEP_LET: work->value[at] = let(work, step); break;
        case STEP_GET: work->value[at] = later(work->variable[step->of], work->ready); break;
        case STEP_FOLD: work->value[at] = fold(work, step); break;
        case STEP_SET: set(work, step); break;
        case STEP_STORE: store(work, step); break;
        case STEP_MMA: product(work, step); break;
        case STEP_COPY:
        case STEP_COMMIT:
        case STEP_SETTLE: issue(work, 1, work->ready, 0); break;
        case STEP_BARRIER: work->ready = issue(work, 1, work->latest, 1); break;
        default: break;
        }
    }
}

static int32_t find_launch(const Program *program, int launch) {
    for (int32_t i = 0; i < program->steps.count; i++)
        if (program->steps.at[i].kind == STEP_LAUNCH && !launch--) return i;
    fatal("launch_work: %s has no such launch", program->name);
}

GpuCounts launch_work(const Program *program, int launch, const int64_t *var) {
    Arena *arena = arena_new();
    int32_t at = find_launch(program, launch), steps = program->steps.count;
    const Step *step = &program->steps.at[at];
    Work work = {.program = program,
                 .launch = step,
                 .var = var,
                 .arena = arena,
                 .used = program_used(arena, program),
                 .middle = arena_array(arena, int64_t, steps),
                 .extent = arena_array(arena, int64_t, steps),
                 .value = arena_array(arena, double, steps),
                 .variable = arena_array(arena, double, program->variables.count),
                 .threads = step->threads,
                 .warps = (step->threads + WARP - 1) / WARP};
    int64_t blocks = value_of(&work, step->index);
    work.middle[at] = blocks / 2;
    work.trips = (double)blocks;
    body(&work, at + 1);
    work.found.independent = work.latest > 0 ? work.steps / work.latest : 1;
    arena_free(arena);
    return work.found;
}

int program_launches(const Program *program) {
    int count = 0;
    for (int32_t i = 0; i < program->steps.count; i++)
        count += program->steps.at[i].kind == STEP_LAUNCH;
    return count;
}

// ---- how long it takes -------------------------------------------------------------------------

// Variables and arrays that live at once, beside those that addresses and loops take. The compiler
// needs fewer where some are dead, so this is no bound.
static int registers_of(const Program *program) {
    enum { OTHERS = 32, WORD = 4, MOST = 255 };
    int64_t bytes = 0;
    for (int32_t i = 0; i < program->variables.count; i++) {
        ValueType type = program->variables.at[i].type;
        bytes += type.lanes * dtypes[type.dtype].bytes;
    }
    for (int32_t i = 0; i < program->buffers.count; i++) {
        const ProgramBuffer *buffer = &program->buffers.at[i];
        if (buffer->space == SPACE_REGISTER) bytes += buffer->size * dtypes[buffer->dtype].bytes;
    }
    return (int)min_i64(bytes / WORD + OTHERS, MOST);
}

static int64_t var_value(void *context, const Atom *atom) {
    return atom->kind == ATOM_VAR ? ((const int64_t *)context)[atom->of] : 0;
}

Bound launches_bound(const Program *program, const GpuTarget *target, double memory_bytes,
                     const int64_t *var) {
    Arena *arena = arena_new();
    Bound bound = {0};
    for (int i = 0; i < program_launches(program); i++) {
        const Step *step = &program->steps.at[find_launch(program, i)];
        int64_t blocks =
            index_value(program->indices, step->index, var_value, (void *)(uintptr_t)var);
        GpuProfile profile = {.name = program->name,
                              .blocks = max_i64(blocks, 1),
                              .threads = step->threads,
                              .registers = registers_of(program),
                              .shared_bytes = program_block_bytes(program),
                              .counts = launch_work(program, i, var)};
        if (!i) profile.counts.memory_bytes = memory_bytes;
        GpuRoofline line = gpu_roofline(arena, target, &profile);
        if (!line.occupancy.blocks)
            fatal("a block of %d threads with %lld bytes of shared memory does not fit",
                  step->threads, (long long)profile.shared_bytes);
        bound.least += line.roof[line.slowest].seconds;
        bound.sum += line.seconds;
    }
    arena_free(arena);
    return bound;
}
