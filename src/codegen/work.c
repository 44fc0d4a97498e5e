/* work.c - what a launch of blocks does, by the steps of its program: operations, instructions, and
 * how many of a thread's instructions do not wait for each other.
 * In: a program for GPUs, values of its VARs.  Out: counts over the whole grid.
 * Invariant: conditions hold, a loop's limit is that of its middle iteration, and one step is one
 * instruction; addresses are not counted, so instructions are at least these.
 *   for k < 512 { x = load a[k]; s0 = fma x 2 s0; s1 = fma x 3 s1 }, 32 threads
 *   =>   65536 operations, 1536 instructions; 3 in the time of 2 that depend on each other      */
#include "codegen/codegen.h"

enum { WARP = 32 };

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
    int64_t *middle;           // by FOR: of its iterations
    double *value, *variable;  // when they are ready
    LIST(Register) registers;
    double ready, latest;          // all of before is; the last that is of any
    double steps;                  // of a thread
    double threads, warps, trips;  // that do a step, in a block; how often
    LaunchWork found;
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
    for (int i = 0; i < 3; i++)
        ready = later(ready, *register_of(work, step->tile[i], step->at[i]));
    *register_of(work, step->tile[0], step->at[0]) = issue(work, 1, ready, 1);
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
    double times = share_out(work, step, (double)max_i64(extent, 0));
    work->ready = work->latest;
    int32_t end = body(work, at + 1);
    work->steps = before.steps + times * (work->steps - before.steps);
    work->latest = before.latest + times * (work->latest - before.latest);
    work->ready = work->latest;
    work->threads = before.threads;
    work->warps = before.warps;
    work->trips = before.trips;
    return end;
}

// Up to its END, whose place is returned.
static int32_t body(Work *work, int32_t at) {
    for (;; at++) {
        const Step *step = &work->program->steps.at[at];
        if (!work->used[at]) continue;
        switch (step->kind) {
        case STEP_END: return at;
        case STEP_FOR: at = loop(work, at); break;
        case STEP_LAUNCH:
        case STEP_IF:
        case STEP_ONCE: at = body(work, at + 1); break;
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

LaunchWork launch_work(const Program *program, int launch, const int64_t *var) {
    Arena *arena = arena_new();
    int32_t at = find_launch(program, launch), steps = program->steps.count;
    const Step *step = &program->steps.at[at];
    Work work = {.program = program,
                 .launch = step,
                 .var = var,
                 .arena = arena,
                 .used = program_used(arena, program),
                 .middle = arena_array(arena, int64_t, steps),
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
