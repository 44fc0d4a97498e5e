/* search.c - better schedules than the heuristic's, by measurement.
 * In: the kernels of a module.  Out: for each a schedule and a compiler; all that was tried, in the
 * database of tuned.c.
 * Invariants: a candidate is applied, verified and compared with the heuristic's result before it
 * counts; a search that is stopped leaves what it measured, and goes on from there.
 *
 * A beam search, as tinygrad's BEAM and TVM's Ansor (L. Zheng et al., 2020) are in part: the first
 * candidates are the heuristic's for tiles of every shape, then edits of the best so far. What the
 * model of estimate.c holds to be slower than something measured is dropped; the others wait until
 * it is their turn, those first whose parent's time and bound promise most.
 *
 * On a GPU the model is of its row (codegen/work.c, schedule/gpu_roofline.c), and its clock counts.
 * simt has no clock that means anything: there the model's estimate stands for the time, and
 * results are compared where that takes seconds. */
#include "engine/search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rewrite/rewrite.h"

enum {
    BATCH = 8,    // candidates measured in a round, for each one of the beam's width
    ROUNDS = 8,   // of edits
    IDLE = 2,     // rounds without gain, after which it ends
    REPAIRS = 3,  // lines that a candidate may lose to refusals
    LONGER = 4,   // than the heuristic's a candidate's program may be: compiling takes the time
};

typedef struct {
    const char *schedule, *compiler, *what, *refused;
    const char *source;  // NULL: of an earlier search, not rendered yet
    char symbol[SYMBOL_SIZE];
    uint64_t hash;  // of the schedule
    Bound bound;
    double promise, seconds;  // seconds: INFINITY until it is measured
    TrialKernel run;
    void *object;
    Unit unit;                     // on a GPU
    int32_t steps;                 // of its program
    bool expanded, behind, ready;  // ready: it has been compiled
} Candidate;
typedef LIST(Candidate *) Candidates;

typedef struct {
    Arena *arena;
    const Search *how;
    const Compiled *compiled;
    const char *text;  // in explicit form
    Kernel *kernel;    // the same
    Trial *trial;      // NULL: how->measure measures
    Machine machine;
    const char *compiler[COMPILERS_MAX];
    int compilers;
    Tuned *tuned;
    TunedKey key;
    Candidate *heuristic;
    const char *layout;  // of weights: what makes it
    Candidates waiting, measured, refused;
    Map *seen;
    bool expected;  // what the heuristic's computes is known
    double scale;  // of bounds: 1, less where a time below a bound shows that the rates are too low
    double start, spent;
    SearchNews news;
} Searcher;

static const Search *asked;
void engine_search(const Search *how) { asked = how; }

static bool is_stopped(const Searcher *to) { return to->how->stopped && to->how->stopped(); }

static const char *name_of(const char *compiler) {
    const char *slash = strrchr(compiler, '/');
    return slash ? slash + 1 : compiler;
}

static const char *path_of(const Searcher *to, const char *compiler) {
    for (int i = 0; i < to->compilers; i++)
        if (!strcmp(name_of(to->compiler[i]), compiler)) return to->compiler[i];
    return NULL;
}

// ---- one candidate -----------------------------------------------------------------------------
typedef struct {
    Searcher *to;
    Candidate *candidate;
    Arena *arena;
    Kernel *kernel;
    const char *line;  // of the candidate's schedule, being applied
} Attempt;

// Weights that are laid out at load become PARAMs. All steps read one layout, so a search keeps the
// heuristic's.
static void lay_out(Attempt *it) {
    OnceList once = {0};
    Text layout = text_new(it->arena);
    it->kernel = once_take_out(it->arena, it->kernel, &once);
    for (int i = 0; i < once.count; i++)
        text_add(&layout, "%d %s\n", once.at[i].param, kernel_print(it->arena, once.at[i].kernel));
    const char *text = layout.at ? layout.at : "";
    Searcher *to = it->to;
    if (to->heuristic && strcmp(text, to->layout) != 0)
        fatal("it lays weights out in another way than the heuristic does");
    if (to->heuristic) return;
    to->layout = arena_text(to->arena, text);
    if (to->trial) trial_lay_out(to->trial, &once);
}

static Bound bound_on_gpu(const Attempt *it) {
    double operations, bytes;
    trial_cost(it->to->trial, &operations, &bytes);
    expand_kernel(it->kernel);
    return launches_bound(unit_lower(it->arena, it->kernel), gpu_row(), bytes,
                          trial_vars(it->to->trial));
}

static void apply(void *argument) {
    Attempt *it = argument;
    it->kernel = kernel_parse(it->arena, it->to->key.name, it->to->text);
    char *saved, *copy = arena_text(it->arena, it->candidate->schedule);
    for (char *line = strtok_r(copy, "\n", &saved); line; line = strtok_r(NULL, "\n", &saved)) {
        it->line = it->candidate->schedule + (line - copy);
        schedule_apply(it->kernel, line);
    }
    it->line = NULL;
    lay_out(it);
    const Searcher *to = it->to;
    if (to->trial && unit_is_gpu())
        it->candidate->bound = bound_on_gpu(it);
    else if (to->trial)
        it->candidate->bound = kernel_bound(it->kernel, &to->machine, trial_vars(to->trial),
                                            trial_cold_bytes(to->trial, &to->machine));
}

static void render(void *argument) {
    Attempt *it = argument;
    Searcher *to = it->to;
    Candidate *candidate = it->candidate;
    Arena *arena = unit_is_gpu() ? to->arena : it->arena;  // a GPU's launches are the program's
    expand_kernel(it->kernel);
    Program *program = unit_lower(arena, it->kernel);
    int32_t steps = program->steps.count;
    if (to->heuristic && steps > LONGER * to->heuristic->steps)
        fatal("%d steps, the heuristic's has %d", steps, to->heuristic->steps);
    candidate->steps = steps;
    candidate->run = (TrialKernel){.own_bytes = program->own_bytes,
                                   .shared_bytes = program->shared_bytes,
                                   .unit = unit_is_gpu() ? &candidate->unit : NULL,
                                   .compiled = to->compiled};
    candidate->unit = (Unit){.program = program};
    candidate->source = candidate->unit.source =
        unit_render(to->arena, program, to->key.kernel, candidate->unit.symbol);
    memcpy(candidate->symbol, candidate->unit.symbol, SYMBOL_SIZE);
}

// The kernel after the candidate's schedule; lines that do not fit a change any more are left out.
// NULL with error_text().
static Kernel *scheduled(Searcher *to, Arena *arena, Candidate *candidate, int repairs) {
    Attempt it = {.to = to, .candidate = candidate, .arena = arena};
    while (try_privately(apply, &it)) {
        if (!repairs-- || !it.line) return NULL;
        const char *end = it.line + strcspn(it.line, "\n");
        candidate->schedule = arena_print(to->arena, "%.*s%s", (int)(it.line - candidate->schedule),
                                          candidate->schedule, end + (*end == '\n'));
    }
    return it.kernel;
}

// Its C, from which it is compiled.
static bool prepare(Searcher *to, Candidate *candidate) {
    Arena *arena = arena_new();
    Attempt it = {.to = to, .candidate = candidate, .arena = arena};
    it.kernel = scheduled(to, arena, candidate, 0);
    bool legal = it.kernel && try_privately(render, &it) == 0;
    arena_free(arena);
    return legal;
}

static bool is_new(Searcher *to, const char *text, const char *compiler) {
    uint64_t key = hash_bytes(text, strlen(text), hash_bytes(compiler, strlen(compiler), 0));
    if (map_find(to->seen, key, NULL, NULL) >= 0) return false;
    map_add(to->arena, to->seen, key, 0);
    return true;
}

static Candidate *candidate_new(Searcher *to, const char *schedule, const char *compiler,
                                const char *what) {
    Candidate *it = arena_object(to->arena, Candidate);
    *it =
        (Candidate){.schedule = schedule, .compiler = compiler, .what = what, .seconds = INFINITY};
    it->hash = hash_bytes(schedule, strlen(schedule), 0);
    return it;
}

static void refuse(Searcher *to, Candidate *candidate, const char *why) {
    candidate->refused = arena_text(to->arena, why);
    *list_add(to->arena, &to->refused) = candidate;
}

// It waits, if its schedule is legal and new.
static void propose(Searcher *to, const Candidate *parent, const char *schedule,
                    const char *compiler, const char *what) {
    if (!is_new(to, schedule, compiler)) return;
    Candidate *it = candidate_new(to, schedule, compiler, what);
    Arena *arena = arena_new();
    const Kernel *legal = scheduled(to, arena, it, REPAIRS);
    arena_free(arena);
    if (!legal) {
        refuse(to, it, error_text());
    } else if (it->schedule == schedule || is_new(to, it->schedule, compiler)) {
        bool known = parent && parent->bound.sum > 0;
        it->promise = it->bound.sum * (known ? parent->seconds / parent->bound.sum : 1);
        *list_add(to->arena, &to->waiting) = it;
    }
}

// ---- measuring ---------------------------------------------------------------------------------

// By a clock: not where a test's stands for it, nor on simt.
static bool is_run(const Searcher *to) { return to->trial && device()->kind != DEVICE_SIMT; }

static void forget(Candidate **list, int count) {
    for (int i = 0; i < count && !unit_is_gpu(); i++) {
        compile_forget(&(CompileUnit){.object = list[i]->object}, 1);
        list[i]->object = list[i]->run.function = NULL;
    }
}

static int compile_for_cpu(Searcher *to, Candidate **list, int count) {
    CompileUnit *unit = arena_array(to->arena, CompileUnit, count);
    for (int i = 0; i < count; i++)
        unit[i] = (CompileUnit){
            .symbol = list[i]->symbol, .source = list[i]->source, .compiler = list[i]->compiler};
    int status = compile_trials(unit, count);
    for (int i = 0; i < count; i++) {
        list[i]->object = unit[i].object;
        list[i]->run.function = unit[i].function;
        list[i]->ready = !status;
    }
    return status;
}

static int compile_for_gpu(Searcher *to, Candidate **list, int count) {
    Compiled units = {.device = to->compiled->device,
                      .backend = to->compiled->backend,
                      .arena = to->arena,
                      .kept = to->arena};
    for (int i = 0; i < count; i++) *list_add(to->arena, &units.units) = list[i]->unit;
    int status = units.backend->compile(&units);
    for (int i = 0; i < count && !status; i++) {
        list[i]->unit = units.units.at[i];
        list[i]->ready = true;
    }
    return status;
}

// All in one call of each compiler. One that cannot be compiled is found by halves.
static void compile_candidates(Searcher *to, Candidate **list, int count) {
    int status =
        unit_is_gpu() ? compile_for_gpu(to, list, count) : compile_for_cpu(to, list, count);
    if (!status) return;
    forget(list, count);
    if (count == 1)
        refuse(to, list[0], error_text());
    else
        for (int first = 0, half = count / 2; first < count; first += half, half = count - half)
            compile_candidates(to, list + first, half);
}

// In turn, so that what else the machine does hits all alike. The least time counts: disturbances
// only add. Who is clearly behind is not measured again, but for the last decision: one bad moment
// must not lose it.
static void time_candidates(Searcher *to, Candidate **list, int count, int rounds, double least) {
    static const double far[] = {8, 2, 1.3, 1.15};
    for (int round = 0; round < rounds && !is_stopped(to); round++) {
        double best = INFINITY;
        for (int i = 0; i < count && !is_stopped(to); i++) {
            Candidate *it = list[i];
            if (it->refused || it->behind || (is_run(to) && !it->ready)) continue;
            double seconds = is_run(to)  ? trial_time(to->trial, &it->run, least)
                             : to->trial ? it->bound.sum
                                         : to->how->measure(it->schedule, name_of(it->compiler));
            it->seconds = fmin(it->seconds, seconds);
            best = fmin(best, it->seconds);
        }
        for (int i = 0; i < count && rounds <= COUNT_OF(far); i++)
            list[i]->behind |= list[i]->seconds > best * far[round];
    }
    for (int i = 0; i < count; i++) {
        list[i]->behind = false;
        if (list[i]->bound.least > 0)
            to->scale = fmin(to->scale, list[i]->seconds / list[i]->bound.least);
    }
}

// Rendered now, or before: another schedule may have given the same code.
static bool has_code(Searcher *to, Candidate *it) {
    if (it->source || it->refused) return !it->refused;
    if (!prepare(to, it)) refuse(to, it, error_text());
    return !it->refused && (is_new(to, it->symbol, it->compiler) || it->seconds < INFINITY);
}

// Compiles them; who computes something else than the heuristic's kernel is refused.
static void compare(Searcher *to, Candidate **list, int count) {
    compile_candidates(to, list, count);
    if (!to->expected && to->heuristic->ready) trial_expect(to->trial, &to->heuristic->run);
    for (int i = 0; i < count && to->expected; i++)
        if (list[i]->ready && !trial_agrees(to->trial, &list[i]->run))
            refuse(to, list[i], "its result differs from the heuristic's");
    to->expected = true;
}

// The number of those that have code, which come first in the list then.
static int measure(Searcher *to, Candidate **list, int count, int rounds, double least) {
    int good = 0;
    for (int i = 0; i < count; i++)
        if (has_code(to, list[i])) list[good++] = list[i];
    if (is_run(to)) compare(to, list, good);
    time_candidates(to, list, good, rounds, least);
    if (is_run(to)) forget(list, good);
    return good;
}

static int by_seconds(const void *a, const void *b) {
    double x = (*(Candidate *const *)a)->seconds, y = (*(Candidate *const *)b)->seconds;
    return (x > y) - (x < y);
}

static int by_promise(const void *a, const void *b) {
    const Candidate *x = *(Candidate *const *)a, *y = *(Candidate *const *)b;
    if (x->promise != y->promise) return x->promise > y->promise ? 1 : -1;
    return x->hash < y->hash ? -1 : x->hash > y->hash;  // of equals, any
}

static Candidate *best_of(const Searcher *to) { return to->measured.at[0]; }

// The most promising of those that wait, beside the best so far. False if nothing was left.
static bool measure_next(Searcher *to) {
    int batch = BATCH * to->how->width, kept = 0, count = 0;
    Candidate **list = arena_array(to->arena, Candidate *, batch + 1), *best = best_of(to);
    list[count++] = best;
    if (to->waiting.count)
        qsort(to->waiting.at, (size_t)to->waiting.count, sizeof *list, by_promise);
    for (int i = 0; i < to->waiting.count; i++) {
        Candidate *it = to->waiting.at[i];
        bool hopeless = it->bound.least * to->scale > best->seconds;
        to->news.dropped += hopeless;
        if (!hopeless && count <= batch)
            list[count++] = it;
        else if (!hopeless)
            to->waiting.at[kept++] = it;
    }
    to->waiting.count = kept;
    int good = measure(to, list, count, 4, 0.002);
    for (int i = 0; i < good; i++)
        if (list[i] != best && !list[i]->refused && list[i]->seconds < INFINITY)
            *list_add(to->arena, &to->measured) = list[i];
    qsort(to->measured.at, (size_t)to->measured.count, sizeof *list, by_seconds);
    return count > 1;
}

// ---- where candidates come from ----------------------------------------------------------------

static void propose_of_target(Searcher *to, const ScheduleTarget *target) {
    const char *candidate[CANDIDATES_MAX];
    int count = schedule_candidates(to->arena, to->kernel, target, candidate);
    const char *what = target->gpu ? "another of the heuristic's"
                       : target->unit
                           ? arena_print(to->arena, "the heuristic's, %d x %d, %d deep",
                                         target->tile_m, target->tile_n, target->depth)
                           : arena_print(to->arena, "the heuristic's, %d lanes", target->lanes);
    for (int i = 0; i < count && !is_stopped(to); i++)
        propose(to, NULL, candidate[i], to->compiler[0], what);
}

// What the heuristic would do with fewer multiprocessors, or more: larger tiles and smaller ones,
// sums in parts; and without one matrix unit or the other.
static void propose_seeds_of_gpu(Searcher *to, const ScheduleTarget *usual) {
    static const int sms[] = {0, 1, 8, 32, 512, 2048};  // 0: as many as there are
    const char *const units[] = {usual->tiles, "mma_tf32", NULL};
    for (int i = usual->tiles ? 0 : COUNT_OF(units) - 1; i < COUNT_OF(units); i++)
        for (int n = 0; n < COUNT_OF(sms); n++) {
            GpuTarget gpu = *usual->gpu;
            ScheduleTarget like = *usual;
            if (sms[n]) gpu.sms = sms[n];
            like.gpu = &gpu;
            like.tiles = units[i];
            propose_of_target(to, &like);
        }
}

// Tiles of all shapes that fit the registers, panels of several depths; lanes in vectors of half to
// twice the registers' width.
static void propose_seeds(Searcher *to) {
    static const int depths[] = {160, 320, 640, 1 << 16};
    const ScheduleTarget usual = unit_target();
    if (usual.gpu) {
        propose_seeds_of_gpu(to, &usual);
        return;
    }
    const MatrixUnit *unit = usual.unit ? matrix_unit_find(usual.unit) : NULL;
    for (int i = 0; unit && i < 4 * 3 * COUNT_OF(depths); i++) {
        ScheduleTarget like = usual;
        int wide = 1 + i % 4;
        like.tile_m = (unit->registers - 1) / wide - 1 - i / 4 % 3;
        like.tile_n = wide * usual.lanes;
        like.depth = depths[i / 12];
        if (like.tile_m > 0) propose_of_target(to, &like);
    }
    for (int lanes = usual.lanes / 2; lanes <= 2 * usual.lanes; lanes *= 2) {
        ScheduleTarget like = usual;
        like.lanes = lanes;
        like.unit = NULL;
        propose_of_target(to, &like);
    }
}

static void propose_edits(Searcher *to, Candidate *parent) {
    EditList edits = {0};
    Arena *arena = arena_new();
    const Kernel *kernel = scheduled(to, arena, parent, 0);
    parent->expanded = true;
    for (int i = 0; i < to->compilers; i++)
        propose(to, parent, parent->schedule, to->compiler[i],
                arena_print(to->arena, "%s; by %s", parent->what, name_of(to->compiler[i])));
    enum { GPU_LANES = 4 };  // that a thread loads at once
    int lanes = unit_is_gpu() ? GPU_LANES : target()->lanes;
    if (kernel) schedule_edits(to->arena, kernel, parent->schedule, lanes, &edits);
    arena_free(arena);
    for (int i = 0; i < edits.count && !is_stopped(to); i++)
        propose(to, parent, edits.at[i].schedule, parent->compiler,
                arena_print(to->arena, "%s; %s", parent->what, edits.at[i].what));
}

// The first of the heuristic's that is legal: what all others are compared with.
static void find_heuristic(Searcher *to) {
    const char *candidate[CANDIDATES_MAX];
    ScheduleTarget usual = unit_target();
    schedule_candidates(to->arena, to->kernel, &usual, candidate);
    for (int i = 0; !to->heuristic; i++) {
        Candidate *it = candidate_new(to, candidate[i], to->compiler[0], "the heuristic's");
        if (prepare(to, it)) to->heuristic = it;
    }
    is_new(to, to->heuristic->schedule, to->compiler[0]);
    is_new(to, to->heuristic->symbol, to->compiler[0]);
}

// ---- what is kept ------------------------------------------------------------------------------
// TunedResult's lines.
static void add_line(Searcher *to, Text *text, const Candidate *it) {
    text_add(text, "%.9g\t%.9g\t%.9g\t%s\t%s", it->refused ? 0 : it->seconds, it->bound.least,
             it->bound.sum, name_of(it->compiler), it->what);
    if (it->refused) text_add(text, ": %s", it->refused);
    char *schedule = arena_text(to->arena, it->schedule);
    for (char *at = schedule; *at; at++)
        if (*at == '\n') *at = ';';
    text_add(text, "\t%s\n", schedule);
}

static void keep_result(Searcher *to, bool complete) {
    enum { REFUSED_MAX = 32 };  // enough to see why
    Text trials = text_new(to->arena);
    for (int i = 0; i < to->measured.count; i++) add_line(to, &trials, to->measured.at[i]);
    for (int i = 0; i < to->refused.count && i < REFUSED_MAX; i++)
        add_line(to, &trials, to->refused.at[i]);
    const Candidate *best = best_of(to);
    to->news.measured = to->measured.count;
    to->news.refused = to->refused.count;
    to->news.done = complete || is_stopped(to);
    to->news.result = (TunedResult){.schedule = best->schedule,
                                    .compiler = name_of(best->compiler),
                                    .trials = trials.at,
                                    .heuristic = to->heuristic->seconds,
                                    .best = best->seconds,
                                    .spent = to->spent + clock_seconds() - to->start,
                                    .complete = complete};
    tuned_keep(to->tuned, &to->key, &to->news.result);
    if (to->how->tell) to->how->tell(&to->news);
}

// The five words of a line, in place; false if it is none.
static bool read_line(char *line, char *word[6]) {
    for (int i = 0; i < 6; i++) word[i] = strsep(&line, "\t");
    return word[5] && !line;
}

// What an earlier search measured.
static void take_up(Searcher *to, const char *trials) {
    char *word[6], *rest = arena_text(to->arena, trials), *line;
    while ((line = strsep(&rest, "\n"))) {
        const char *compiler = read_line(line, word) ? path_of(to, word[3]) : NULL;
        double seconds = compiler ? strtod(word[0], NULL) : 0;
        if (!(seconds > 0 && seconds < INFINITY)) continue;
        for (char *at = word[5]; *at; at++)
            if (*at == ';') *at = '\n';
        if (!is_new(to, word[5], compiler)) continue;
        Candidate *it = candidate_new(to, word[5], compiler, word[4]);
        it->bound = (Bound){strtod(word[1], NULL), strtod(word[2], NULL)};
        it->seconds = seconds;
        *list_add(to->arena, &to->measured) = it;
    }
}

// ---- one kernel --------------------------------------------------------------------------------

// The best and the heuristic's once more, side by side; a gain that may be noise is none.
static void decide(Searcher *to) {
    enum { FINALISTS = 4, FEW = 100000000 };  // operations, which simt runs in seconds
    static const double least_gain = 0.98;
    Candidate *list[FINALISTS], *best = to->heuristic;
    int count = 0;
    list[count++] = to->heuristic;
    for (int i = 0; i < to->measured.count && count < FINALISTS; i++)
        if (to->measured.at[i] != to->heuristic) list[count++] = to->measured.at[i];
    for (int i = 0; i < count && !is_stopped(to); i++) list[i]->seconds = INFINITY;
    int good = measure(to, list, count, 8, 0.005);
    if (to->trial && !is_run(to)) {
        double operations, bytes;
        trial_cost(to->trial, &operations, &bytes);
        if (operations < FEW) compare(to, list, good);
    }
    for (int i = 0; i < good; i++)
        if (!list[i]->refused && list[i]->seconds < best->seconds) best = list[i];
    if (best->seconds > least_gain * to->heuristic->seconds) best = to->heuristic;
    for (int i = to->measured.count - 1; i > 0; i--)  // the winner leads, whatever its time was
        if (to->measured.at[i] == best) {
            to->measured.at[i] = to->measured.at[i - 1];
            to->measured.at[i - 1] = best;
        }
}

static void search_beam(Searcher *to) {
    propose_seeds(to);
    measure_next(to);
    keep_result(to, false);
    int idle = 0;
    for (int round = 0; round < ROUNDS && idle < IDLE && !is_stopped(to); round++) {
        double before = best_of(to)->seconds;
        for (int i = 0, looked = 0; i < to->measured.count && looked < to->how->width; i++) {
            if (to->measured.at[i]->expanded) continue;
            propose_edits(to, to->measured.at[i]);
            looked++;
        }
        if (!measure_next(to)) break;
        idle = best_of(to)->seconds < 0.99 * before ? 0 : idle + 1;
        keep_result(to, false);
    }
    decide(to);
}

static bool search_kernel(Searcher *to) {
    to->start = clock_seconds();
    to->spent = to->news.result.spent;
    to->seen = map_new(to->arena);
    to->news.planned = BATCH * to->how->width * (ROUNDS + 1);
    find_heuristic(to);
    *list_add(to->arena, &to->measured) = to->heuristic;
    measure(to, &(Candidate *){to->heuristic}, 1, 4, 0.002);
    if (to->heuristic->refused || to->heuristic->seconds == INFINITY) return false;
    if (to->news.result.trials) take_up(to, to->news.result.trials);
    search_beam(to);
    keep_result(to, !is_stopped(to));
    return true;
}

// ---- a module's kernels ------------------------------------------------------------------------

static bool open_kernel(Searcher *to, const Compiled *compiled, int32_t number) {
    if (!to->machine.lanes && !to->how->measure && !unit_is_gpu())
        machine_find(to->arena, to->tuned, to->key.place, &to->machine);
    to->kernel = kernel_parse(to->arena, to->key.name, to->key.kernel);
    unit_explicit(to->kernel);
    to->text = kernel_print(to->arena, to->kernel);
    to->waiting.count = to->measured.count = to->refused.count = 0;
    to->heuristic = NULL;
    to->expected = false;
    to->scale = 1;
    if (to->how->measure) return true;
    to->trial = trial_open(to->arena, compiled->module, compiled->unit, number);
    if (!to->trial) say("%s", error_text());
    return to->trial;
}

static void tune_unit(Searcher *to, Compiled *compiled, int32_t number, bool searches) {
    Unit *unit = &compiled->units.at[number];
    to->key.kernel = unit->text;
    to->key.name = unit->kernel->name;
    to->news =
        (SearchNews){.kernel = unit->kernel->name, .number = number, .of = compiled->units.count};
    bool found = tuned_find(to->tuned, &to->key, &to->news.result);
    if (searches && !to->news.result.complete) {
        if (!open_kernel(to, compiled, number)) return;
        found = search_kernel(to);
        if (to->trial) trial_close(to->trial);
        if (!found) return;
    } else if (!found) {
        return;
    } else if (to->how->tell) {
        to->news.done = to->news.known = true;
        to->how->tell(&to->news);
    }
    const char *compiler = path_of(to, to->news.result.compiler);
    if (!compiler) return;
    unit->tuned = arena_text(compiled->arena, to->news.result.schedule);
    unit->compiler = arena_text(compiled->arena, compiler);
}

static Searcher searcher_new(const Search *how, bool make) {
    Arena *arena = arena_new();
    Searcher to = {.arena = arena, .how = how, .tuned = tuned_open(arena, make)};
    to.key.place = to.tuned || make ? tuned_place(arena) : NULL;
    to.compilers = to.key.place && !unit_is_gpu() ? compiler_choices(arena, to.compiler) : 0;
    if (unit_is_gpu()) to.compiler[to.compilers++] = device()->gpu ? "nvrtc" : "the model";
    return to;
}

int search_units(Compiled *compiled) {
    Search by_switch = {.width = (int)max_i64(-1, env_int("BEAM", -1))};
    const Search *how = asked ? asked : &by_switch;
    if (!how->width) return 0;
    Searcher to = searcher_new(how, how->width > 0);
    to.compiled = compiled;
    for (int32_t i = 0; i < compiled->units.count && to.key.place; i++)
        tune_unit(&to, compiled, i, how->width > 0 && !is_stopped(&to));
    tuned_close(to.tuned);
    arena_free(to.arena);
    return 0;
}

// ---- what was tried ----------------------------------------------------------------------------

static SearchReport *reporting;
void engine_report(SearchReport *report) { reporting = report; }

void search_report(const Unit *unit, Text *text) {
    Searcher to = searcher_new(&(Search){0}, false);
    TunedResult result;
    to.key.kernel = unit->text;
    bool found = to.key.place && tuned_find(to.tuned, &to.key, &result);
    if (found && unit_is_gpu()) to.machine = machine_of_gpu(gpu_row());
    if (found && !unit_is_gpu()) machine_find(to.arena, to.tuned, to.key.place, &to.machine);
    if (reporting) reporting(unit->kernel, found ? &result : NULL, &to.machine, text);
    tuned_close(to.tuned);
    arena_free(to.arena);
}
