/* realize.c - the pipeline: from a traced graph to functions in memory.
 * In: a graph, its outputs and effects.  Out: a Compiled, ready to be called again and again.
 * Invariant: `passes` is the whole of it; a pass knows its input and its output, not its
 * neighbours.
 *   out = softmax(x)   =>   clean: 12 nodes, fuse: 1 kernel, ..., compile: pg_k_3f2a... */
#include <pthread.h>
#include <string.h>

#include "engine/search.h"
#include "rewrite/rewrite.h"

// ---- precision ---------------------------------------------------------------------------------
static atomic_int precision;  // 0 not known yet, 1 fp32, 2 tf32

void engine_set_tf32(bool tf32) { atomic_store(&precision, tf32 ? 2 : 1); }

bool engine_tf32(void) {
    const char *text = atomic_load(&precision) ? NULL : env_text("PRECISION", "fp32");
    if (text && strcmp(text, "fp32") != 0 && strcmp(text, "tf32") != 0)
        fatal("PG_PRECISION is '%s'. Hint: it is fp32 or tf32", text);
    if (text) engine_set_tf32(!strcmp(text, "tf32"));
    return atomic_load(&precision) == 2;
}

// ---- the passes --------------------------------------------------------------------------------
static int pass_capture(Compiled *compiled) {  // the graph as traced
    graph_verify(compiled->graph, compiled->outputs, compiled->output);
    return 0;
}

// Outputs and effects, one array, go through a rewrite together: what they share stays shared.
static void apply_rules(Compiled *compiled, RuleSet set) {
    compiled->graph =
        rewrite(compiled->arena, compiled->graph, rules(set), compiled->outputs + compiled->effects,
                compiled->output, compiled->output);
}

static int pass_clean(Compiled *compiled) {  // what only gradients needed
    apply_rules(compiled, RULES_CLEAN);
    return 0;
}

static int64_t matrix[WINOGRAD_MATRICES];  // buffers
static void make_matrices(void) {
    enum { MOST = 36 * 36, PAST_END = 16 };
    static float memory[WINOGRAD_MATRICES][MOST + PAST_END];
    for (int i = 0; i < WINOGRAD_MATRICES; i++)
        matrix[i] = buffer_wrap(memory[i], sizeof(float) * (size_t)winograd_matrix(i, memory[i]),
                                NULL, NULL);
}

static void apply_winograd(Compiled *compiled) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    int64_t where = env_int("WINOGRAD", -1);  // 0: nowhere; 1: wherever it can be; else if it pays
    if (!where || unit_is_gpu()) return;
    pthread_once(&once, make_matrices);
    Graph *graph = winograd(compiled->arena, compiled->graph, compiled->outputs + compiled->effects,
                            compiled->output, matrix, where == 1);
    if (!graph) return;
    compiled->graph = graph;
    apply_rules(compiled, RULES_ALGEBRA);  // axes of 1 that it made
}

static int pass_rewrite(Compiled *compiled) {
    apply_rules(compiled, RULES_ALGEBRA);
    apply_winograd(compiled);
    for (int i = 0; i < compiled->outputs; i++)  // an output has memory of its own
        compiled->output[i] = node_contiguous(compiled->graph, compiled->output[i]);
    return 0;
}

static int pass_fuse(Compiled *compiled) {
    compiled->module = fuse(compiled->arena, compiled->graph, compiled->outputs, compiled->output,
                            compiled->effects, compiled->effect,
                            unit_is_gpu()         ? PRODUCTS_GPU
                            : unit_target().tiles ? 1
                                                  : PRODUCTS_MAX);
    return 0;
}

static int32_t find_unit(const Compiled *compiled, const char *text) {
    for (int32_t i = 0; i < compiled->units.count; i++)
        if (!strcmp(compiled->units.at[i].text, text)) return i;
    return -1;
}

static int32_t add_unit(Compiled *compiled, const char *name, const char *text) {
    int32_t unit = find_unit(compiled, text);
    if (unit >= 0) return unit;
    Arena *arena = arena_new();
    *list_add(compiled->arena, &compiled->units) =
        (Unit){.arena = arena, .kernel = kernel_parse(arena, name, text), .text = text};
    return compiled->units.count - 1;
}

typedef struct {
    Unit *unit;
    int count;
    void (*work)(Unit *unit);
    atomic_int next;
} Units;

static void take_units(void *context, int thread, int threads, Barrier *barrier) {
    (void)thread, (void)threads, (void)barrier;
    Units *units = context;
    for (int i; (i = atomic_fetch_add(&units->next, 1)) < units->count;)
        units->work(&units->unit[i]);
}

// Threads take units as they come; a few are done before a thread would be awake.
static void each_unit(Compiled *compiled, int32_t first, void (*work)(Unit *unit)) {
    enum { FEW = 4 };
    Units units = {
        .unit = compiled->units.at + first, .count = compiled->units.count - first, .work = work};
    if (units.count > FEW)
        thread_run(take_units, &units);
    else
        take_units(&units, 0, 1, NULL);
}

static int pass_unify(Compiled *compiled) {  // equal kernels are compiled once
    Module *module = compiled->module;
    compiled->unit = arena_array(compiled->arena, int32_t, module->calls.count);
    for (int32_t i = 0; i < module->calls.count; i++) {
        const Kernel *kernel = module->calls.at[i].kernel;
        int32_t first = 0;  // call of this very kernel
        while (module->calls.at[first].kernel != kernel) first++;
        compiled->unit[i] =
            first < i ? compiled->unit[first]
                      : add_unit(compiled, kernel->name, kernel_print(compiled->arena, kernel));
    }
    return 0;
}

static int pass_tune(Compiled *compiled) { return search_units(compiled); }

bool unit_is_gpu(void) { return device()->kind != DEVICE_CPU; }

// No later GPU has it.
static bool has_wgmma(const GpuTarget *row) { return !strcmp(row->architecture, "sm_90a"); }

ScheduleTarget unit_target(void) {
    ScheduleTarget row = *schedule_target(target()->lanes);
    row.gpu = unit_is_gpu() ? gpu_row() : NULL;
    if (row.gpu && engine_tf32()) row.tiles = has_wgmma(row.gpu) ? "wgmma_tf32" : "mma_tf32";
    if (row.gpu) return row;
    if (engine_tf32() && target()->amx) row.tiles = "amx_bf16";
    return row;
}

void unit_explicit(Kernel *kernel) {
    if (!online(kernel, unit_is_gpu()) && wants_factoring(kernel)) factor(kernel);
    accumulate(kernel);
}

typedef struct {
    Kernel *kernel;
    const char *schedule;
} Scheduling;

static void try_schedule(void *argument) {
    Scheduling *it = argument;
    schedule_apply(it->kernel, it->schedule);
}

static bool takes_schedule(Unit *unit, const char *text, const char *schedule) {
    Arena *scratch = arena_new();
    Scheduling it = {kernel_parse(scratch, unit->kernel->name, text), schedule};
    bool taken = try_privately(try_schedule, &it) == 0;
    if (!taken && env_int("DEBUG", 0) >= 3) say("schedule refused: %s", error_text());
    if (taken)  // without what its transforms looked at: 10 MB for attention
        unit->kernel =
            kernel_parse(unit->arena, unit->kernel->name, kernel_print(scratch, it.kernel));
    arena_free(scratch);
    if (taken) unit->schedule = schedule;
    return taken;
}

// What was found for it, else the first candidate that every transform accepts; the last one is
// empty and always is.
static void find_schedule(Unit *unit, const char *text) {
    const char *candidate[CANDIDATES_MAX];
    if (unit->tuned && takes_schedule(unit, text, unit->tuned)) return;
    if (unit->tuned) say("a tuned schedule is not used: %s", error_text());
    unit->compiler = NULL;
    ScheduleTarget row = unit_target();
    schedule_candidates(unit->arena, unit->kernel, &row, candidate);
    for (int i = 0; !takes_schedule(unit, text, candidate[i]); i++) {
    }
}

static void schedule_unit(Unit *unit) {
    unit_explicit(unit->kernel);
    find_schedule(unit, kernel_print(unit->arena, unit->kernel));
    unit->kernel = once_take_out(unit->arena, unit->kernel, &unit->once);
}

// What a kernel makes of weights alone is a unit of its own, scheduled in its turn.
static int pass_schedule(Compiled *compiled) {
    for (int32_t first = 0, last; first < compiled->units.count; first = last) {
        each_unit(compiled, first, schedule_unit);
        last = compiled->units.count;
        for (int32_t of = first; of < last; of++) {
            OnceList once = compiled->units.at[of].once;
            int32_t *unit = arena_array(compiled->arena, int32_t, once.count);
            for (int i = 0; i < once.count; i++)
                unit[i] =
                    add_unit(compiled, "once", kernel_print(compiled->arena, once.at[i].kernel));
            compiled->units.at[of].once_unit = unit;
        }
    }
    return 0;
}

static void expand_unit(Unit *unit) { expand_kernel(unit->kernel); }

static int pass_expand(Compiled *compiled) {  // EXP2, LOG2, SIN become polynomials
    each_unit(compiled, 0, expand_unit);
    return 0;
}

static int pass_plan(Compiled *compiled) {
    plan_memory(compiled->module);
    compiled->info.temporary_bytes = compiled->module->temporary_bytes;
    return 0;
}

Program *unit_lower(Arena *arena, const Kernel *kernel) {
    Program *program = lower(arena, kernel, &(LowerOptions){.gpu = unit_is_gpu()});
    program_verify(program);
    return program;
}

static void lower_unit(Unit *unit) { unit->program = unit_lower(unit->arena, unit->kernel); }

static int pass_lower(Compiled *compiled) {
    each_unit(compiled, 0, lower_unit);
    return 0;
}

char *unit_render(Arena *arena, const Program *program, const char *comment,
                  char symbol[SYMBOL_SIZE]) {
    return unit_is_gpu() ? render_cuda(arena, program, comment, symbol)
                         : render_c(arena, program, comment, symbol);
}

static void render_unit(Unit *unit) {
    unit->source = unit_render(unit->arena, unit->program, unit->text, unit->symbol);
}

static int pass_render(Compiled *compiled) {
    each_unit(compiled, 0, render_unit);
    return 0;
}

static int pass_compile(Compiled *compiled) { return compiled->backend->compile(compiled); }

static int forget_made(Compiled *compiled) {
    const Module *module = compiled->module;
    for (int32_t i = compiled->own_slots; i < module->slots.count; i++)
        buffer_release(module->slots.at[i].of);
    once_sweep();
    return -1;
}

// Weights are laid out as kernels read them: new slots, PARAMs of each call that asks for them.
static int pass_load(Compiled *compiled) {
    Module *module = compiled->module;
    compiled->own_slots = module->slots.count;
    for (int32_t i = 0; i < module->calls.count; i++) {
        KernelCall *call = &module->calls.at[i];
        const Unit *unit = &compiled->units.at[compiled->unit[i]];
        if (!unit->once.count) continue;
        int32_t *slot = arena_array(compiled->arena, int32_t, call->params + unit->once.count);
        memcpy(slot, call->slot, sizeof *slot * (size_t)call->params);
        for (int n = 0; n < unit->once.count; n++) {
            const Once *once = &unit->once.at[n];
            int64_t *from = arena_array(compiled->arena, int64_t, once->sources);
            for (int32_t s = 0; s < once->sources; s++)
                from[s] = module->slots.at[call->slot[once->from[s]]].of;
            int64_t made =
                once_buffer(compiled, &compiled->units.at[unit->once_unit[n]], once, from);
            if (made < 0) return forget_made(compiled);
            slot[once->param] = module->slots.count;
            *list_add(module->arena, &module->slots) = (Slot){.kind = SLOT_BUFFER,
                                                              .of = made,
                                                              .is_weight = true,
                                                              .dtype = once->dtype,
                                                              .elements = once->elements};
        }
        once_fill();
        // On the CPU what was laid out is not read any more.
        for (int n = 0; n < unit->once.count && !unit_is_gpu(); n++)
            for (int32_t s = 0; s < unit->once.at[n].sources; s++) {
                int64_t from = module->slots.at[slot[unit->once.at[n].from[s]]].of;
                file_pages_drop(buffer_read(from), buffer_bytes(from));
            }
        call->slot = slot;
        call->params += unit->once.count;
    }
    return 0;
}

static const Pass passes[] = {
    {"capture", "the graph, as the calls recorded it", pass_capture},
    {"clean", "the graph, without what only gradients needed", pass_clean},
    {"rewrite", "the graph, rewritten by the rules of algebra", pass_rewrite},
    {"fuse", "kernels in the order in which they run, and the buffers of each", pass_fuse},
    {"unify", "the different ones among them: those are compiled", pass_unify},
    {"tune", "what searches tried, and which schedules they found", pass_tune},
    {"schedule", "each kernel's schedule, and its loops after it", pass_schedule},
    {"expand", "the same, with exp2, log2 and sin as polynomials", pass_expand},
    {"plan", "where temporaries lie; those never alive together share memory", pass_plan},
    {"lower", "each kernel as a list of steps", pass_lower},
    {"render", "each kernel in C", pass_render},
    {"compile", "each kernel in assembly", pass_compile},
    {"load", "weights as the kernels read them", pass_load},
};
const char *engine_pass(int i, const char **about) {
    if (i >= COUNT_OF(passes)) return NULL;
    *about = passes[i].about;
    return passes[i].name;
}

static _Thread_local double all_compile_seconds;
double engine_compile_seconds(void) { return all_compile_seconds; }
static _Thread_local int last_kernels;
int engine_kernels(void) { return last_kernels; }

// ---- what a call replays -----------------------------------------------------------------------
static void keep_launches(Compiled *compiled) {
    const Module *module = compiled->module;
    Arena *kept = compiled->kept;
    compiled->launches = module->calls.count;
    compiled->launch = arena_array(kept, Launch, compiled->launches);
    compiled->written = arena_array(kept, bool, compiled->slots);
    for (int32_t i = 0; i < compiled->launches; i++) {
        const KernelCall *call = &module->calls.at[i];
        Launch *launch = &compiled->launch[i];
        *launch = (Launch){.function = compiled->units.at[compiled->unit[i]].function,
                           .params = call->params,
                           .buffer = arena_array(kept, void *, call->params)};
        launch->slot = arena_copy(kept, call->slot, sizeof *call->slot * (size_t)call->params);
        launch->args = (PgArgs){.buffer = launch->buffer, .wait = barrier_wait};
        if (unit_is_gpu()) gpu_keep(compiled, kept, &compiled->units.at[compiled->unit[i]], launch);
        if (profile_is_wanted()) profile_keep(compiled, i, launch);
        for (int32_t j = 0; j < call->params; j++)
            compiled->written[call->slot[j]] |=
                compiled->units.at[compiled->unit[i]].kernel->buffers.at[j].written;
    }
}

static void keep(Compiled *compiled) {
    const Module *module = compiled->module;
    compiled->slots = module->slots.count;
    compiled->slot = arena_copy(compiled->kept, module->slots.at,
                                sizeof *compiled->slot * (size_t)compiled->slots);
    compiled->memory = arena_array(compiled->kept, void *, compiled->slots);
    for (int32_t i = 0; i < compiled->own_slots; i++)
        if (compiled->slot[i].kind == SLOT_BUFFER) buffer_retain(compiled->slot[i].of);
    compiled->result = arena_copy(compiled->kept, module->output,
                                  sizeof *compiled->result * (size_t)compiled->outputs);
    keep_launches(compiled);
    for (int32_t i = 0; i < compiled->units.count; i++) {
        const Program *program = compiled->units.at[i].program;
        compiled->own_bytes = max_i64(compiled->own_bytes, program->own_bytes);
        compiled->shared_bytes = max_i64(compiled->shared_bytes, program->shared_bytes);
    }
}

static int run_passes(Compiled *compiled) {
    for (int i = 0; i < COUNT_OF(passes); i++) {
        double start = clock_seconds();
        if (passes[i].run(compiled) < 0) return -1;
        if (env_int("DEBUG", 0) >= 2)
            say("%-8s %8.2f ms", passes[i].name, 1e3 * (clock_seconds() - start));
        dump_pass(compiled, &passes[i]);
    }
    return 0;
}

static void free_work(Compiled *compiled) {
    if (!compiled->arena) return;
    for (int32_t i = 0; i < compiled->units.count; i++) arena_free(compiled->units.at[i].arena);
    arena_free(compiled->arena);
    compiled->arena = NULL;
}

static const Backend *const backends[] = {
    [DEVICE_CPU] = &backend_cpu, [DEVICE_SIMT] = &backend_simt, [DEVICE_CUDA] = &backend_cuda};

Compiled *engine_compile(const Graph *graph, int outputs, const Id *output, int effects,
                         const Id *effect) {
    double start = clock_seconds();
    Arena *arena = arena_new(), *kept = arena_new();
    Compiled *compiled = arena_object(kept, Compiled);
    *compiled = (Compiled){.device = device(),
                           .backend = backends[device()->kind],
                           .bound = -1,
                           .arena = arena,
                           .kept = kept,
                           .outputs = outputs,
                           .effects = effects};
    compiled->output = arena_array(arena, Id, outputs + effects);
    compiled->effect = compiled->output + outputs;
    if (outputs) memcpy(compiled->output, output, sizeof *output * (size_t)outputs);
    if (effects) memcpy(compiled->effect, effect, sizeof *effect * (size_t)effects);
    compiled->graph = (Graph *)(uintptr_t)graph;  // read by `clean`, which makes a graph of our own
    if (run_passes(compiled) < 0) {
        free_work(compiled);
        arena_free(kept);
        return NULL;
    }
    keep(compiled);
    compiled->info.compile_seconds = clock_seconds() - start;
    all_compile_seconds += compiled->info.compile_seconds;
    last_kernels = compiled->launches;
    int64_t debug = env_int("DEBUG", 0);
    if (debug >= 1) dump_units(compiled, (int)debug);
    bool looked_at =
        debug >= 2 || *env_text("DUMP", "") || dump_is_watched() || profile_is_wanted();
    if (looked_at) compiled->seconds = arena_array(kept, double, compiled->launches);
    if (!looked_at) free_work(compiled);
    return compiled;
}

void engine_free(Compiled *compiled) {
    if (!compiled) return;
    for (int32_t i = 0; i < compiled->slots; i++)
        if (compiled->slot[i].kind == SLOT_BUFFER) buffer_release(compiled->slot[i].of);
    once_sweep();
    if (compiled->backend->forget) compiled->backend->forget(compiled);
    free_work(compiled);
    arena_free(compiled->kept);
}
