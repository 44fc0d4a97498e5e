/* gpu_fuzz_test.c - random schedules of GPUs, run on simt: what lowering makes of whatever the
 * transforms agree to do computes what the kernel did before, in any order of threads.
 * In: small kernels, a seed (PG_SEED, PG_ROUNDS for longer runs).  Out: checks; a failure prints
 * the schedule that led to it.
 * Invariant: simt's checked build finds nothing: no race, nothing unwritten, all in bounds.      */
#include "../schedule/kernel_run.h"
#include "codegen/run.h"
#include "rewrite/rewrite.h"
#include "schedule/fuzz_lines.h"

enum { LINES = 40, AT_ONCE = 16 };

typedef struct {
    Kernel *kernel;
    const char *line;
    Program *program;
    Arena *arena;
} Attempt;

static void attempt_line(void *argument) {
    Attempt *it = argument;
    schedule_apply(it->kernel, it->line);
}

static void attempt_lower(void *argument) {
    Attempt *it = argument;
    it->program = lower(it->arena, it->kernel, &(LowerOptions){.gpu = true});
    program_verify(it->program);
}

typedef struct {
    uint64_t seed;
    const char *source, *said;
    Kernel *kernel;
    const Program *program;
    char *text, symbol[SYMBOL_SIZE];
} Round;

// The kernel after a random schedule; false where lowering refuses it, or there are no threads.
static bool make_round(Arena *arena, Round *round) {
    fuzz_state = round->seed;
    Kernel *kernel = kernel_parse(arena, "fuzz", round->source);
    accumulate(kernel);
    char *text = kernel_print(arena, kernel);
    Text schedule = text_new(arena);
    for (int i = 0; i < LINES; i++) {
        Attempt it = {.kernel = kernel_parse(arena, "fuzz", text)};
        it.line = fuzz_gpu_line(arena, it.kernel);
        if (try_call(attempt_line, &it) < 0) continue;
        text_add(&schedule, "%s\n", it.line);
        text = kernel_print(arena, it.kernel);
    }
    round->kernel = kernel_parse(arena, "fuzz", text);
    round->said = arena_print(arena, "seed %llu\n%sof\n%s\n", (unsigned long long)round->seed,
                              schedule.at ? schedule.at : "", round->source);
    if (!kernel_has_blocks(round->kernel) || !strstr(text, "thread for")) return false;
    expand_kernel(round->kernel);
    Attempt it = {.kernel = round->kernel, .arena = arena};
    if (try_call(attempt_lower, &it) < 0) {
        bool refused = strstr(error_text(), "all threads of kernel") ||
                       strstr(error_text(), "carries a value from") ||
                       strstr(error_text(), "thread loop outside of a block loop");
        if (!refused) fatal("%s%s", round->said, error_text());
        return false;
    }
    round->program = it.program;
    round->text = render_cuda(arena, it.program, NULL, round->symbol);
    return true;
}

static SimtFunction *const *functions_of(const CompileUnit *unit) {
    SimtFunction *const *functions;
    memcpy(&functions, &unit->function, sizeof functions);
    return functions;
}

static int64_t var_value(void *context, const Atom *atom) {
    return ((const int64_t *)context)[atom->of];
}

static void run_round(Arena *arena, const Round *round, const CompileUnit *unit, bool checked) {
    enum { MOST = 16, WORKSPACE = 1 << 16 };
    int64_t var[] = {5};
    void **wanted = run_memory(arena, round->kernel), **got = run_memory(arena, round->kernel);
    Kernel *plain = kernel_parse(arena, "fuzz", round->source);
    kernel_eval(plain, wanted, var);
    void *param[MOST], *address[MOST], *workspace = arena_alloc(arena, WORKSPACE);
    SimtRange range[MOST];
    SimtCounts counts;
    int params = 0, launch = 0;
    for (; round->kernel->buffers.at[params].space == SPACE_PARAM; params++) {
        const KernelBuffer *buffer = &round->kernel->buffers.at[params];
        int grain = dtypes[buffer->dtype].bytes;
        address[params] = got[params];
        param[params] = &address[params];
        range[params] = (SimtRange){buffer->name, got[params], buffer->size * grain, grain};
        if (params + 1 == round->kernel->buffers.count) {
            params++;
            break;
        }
    }
    if (round->program->own_bytes + round->program->shared_bytes > WORKSPACE)
        fatal("%sa workspace of more than %d bytes", round->said, WORKSPACE);
    memset(workspace, 0xff, WORKSPACE);
    param[params] = &workspace;
    range[params] = (SimtRange){"the workspace", workspace, WORKSPACE, 1};
    param[params + 1] = &var[0];
    for (int32_t i = 0; i < round->program->steps.count; i++) {
        const Step *step = &round->program->steps.at[i];
        if (step->kind != STEP_LAUNCH) continue;
        int64_t blocks = index_value(round->program->indices, step->index, var_value, var),
                bytes = program_block_bytes(round->program);
        SimtFunction *function = functions_of(unit)[launch++];
        int status = checked ? simt_check(function, blocks, step->threads, bytes, param, params + 1,
                                          range, &counts)
                             : simt_launch(function, blocks, step->threads, bytes, param);
        if (status) fatal("%s%s\n%s", round->said, error_text(), round->text);
    }
    run_compare(round->kernel, got, wanted, round->said);
}

static int run_rounds(Arena *arena, Round *round, int rounds) {
    CompileUnit unit[2 * AT_ONCE];
    int made = 0;
    for (int i = 0; i < rounds; i++)
        if (make_round(arena, &round[i])) round[made++] = round[i];
    for (int i = 0; i < 2 * made; i++) {
        const Round *it = &round[i / 2];
        unit[i] =
            (CompileUnit){.symbol = arena_print(arena, "simt_%s", it->symbol + strlen("pg_k_")),
                          .source = i % 2 ? simt_checked_source(arena, it->text) : it->text,
                          .flags = i % 2 ? SIMT_CHECKED_FLAGS : SIMT_FLAGS};
    }
    if (compile_units(unit, 2 * made)) {
        if (made == 1) puts(round[0].text);
        fatal("%s", error_text());
    }
    for (int i = 0; i < 2 * made; i++) run_round(arena, &round[i / 2], &unit[i], i % 2);
    return made;
}

TEST(random_schedules_on_simt) {
    uint64_t seed = (uint64_t)env_int("SEED", 1);
    int64_t rounds = env_int("ROUNDS", 192), kernels = 0, made = 0;
    run_private_cache();
    while (fuzz_kernels[kernels]) kernels++;
    for (int64_t first = 0; first < rounds; first += AT_ONCE) {
        Arena *arena = arena_new();
        Round round[AT_ONCE];
        int count = (int)min_i64(rounds - first, AT_ONCE);
        for (int i = 0; i < count; i++)
            round[i] = (Round){.seed = seed + (uint64_t)(first + i),
                               .source = fuzz_kernels[(first + i) % kernels]};
        made += run_rounds(arena, round, count);
        arena_free(arena);
    }
    CHECK(4 * made > rounds);
}
