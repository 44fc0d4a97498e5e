/* fuzz_test.c - random schedules: whatever a transform agrees to do keeps the result.
 * In: small kernels, a seed (PG_SEED, PG_ROUNDS for longer runs).  Out: checks; a failure prints
 * the schedule that led to it.
 * Invariant: a line that is refused is dropped, the kernel is read again from the text before.   */
#include "kernel_run.h"
#include "schedule/fuzz_lines.h"

typedef struct {
    Kernel *kernel;
    const char *line;
} Attempt;

static void attempt(void *argument) {
    Attempt *it = argument;
    schedule_apply(it->kernel, it->line);
}

typedef struct {
    Arena *arena;
    const Kernel *kernel;
    void **memory;
    const int64_t *var;
} Evaluation;

static void evaluate(void *argument) {
    Evaluation *it = argument;
    kernel_eval(it->kernel, it->memory, it->var);
    kernel_verify(kernel_parse(it->arena, "printed", kernel_print(it->arena, it->kernel)));
}

// One random schedule on one kernel; returns how many lines were applied.
typedef const char *Line(Arena *arena, const Kernel *kernel);
static int fuzz_round(const char *source, uint64_t seed, Line *pick_line) {
    Arena *arena = arena_new();
    fuzz_state = seed;
    Kernel *kernel = kernel_parse(arena, "fuzz", source);
    accumulate(kernel);
    char *text = kernel_print(arena, kernel);
    int64_t var[] = {5};
    void **wanted = run_memory(arena, kernel);
    kernel_eval(kernel, wanted, var);
    Text schedule = text_new(arena);
    int applied = 0;
    for (int i = 0; i < 24; i++) {
        Attempt it = {kernel_parse(arena, "fuzz", text), NULL};
        it.line = pick_line(arena, it.kernel);
        if (try_call(attempt, &it) < 0) continue;
        text_add(&schedule, "%s\n", it.line);
        const char *said = arena_print(arena, "seed %llu\n%s%s\nof\n%s\n", (unsigned long long)seed,
                                       schedule.at, it.line, source);
        void **got = run_memory(arena, it.kernel);
        if (try_call(evaluate, &(Evaluation){arena, it.kernel, got, var}) < 0)
            fatal("%s: %s", said, error_text());
        run_compare(it.kernel, got, wanted, said);
        run_check_text(arena, it.kernel);
        text = kernel_print(arena, it.kernel);
        applied++;
    }
    arena_free(arena);
    return applied;
}

static void fuzz_rounds(Line *pick_line) {
    uint64_t seed = (uint64_t)env_int("SEED", 1);
    int64_t rounds = env_int("ROUNDS", 300), applied = 0, kernels = 0;
    while (fuzz_kernels[kernels]) kernels++;
    for (int64_t i = 0; i < rounds; i++)
        applied += fuzz_round(fuzz_kernels[i % kernels], seed + (uint64_t)i, pick_line);
    CHECK(applied > 2 * rounds);
}

TEST(random_schedules) { fuzz_rounds(fuzz_line); }

TEST(random_schedules_of_gpus) { fuzz_rounds(fuzz_gpu_line); }
