/* ladder.c - see ladder.h. */
#include "schedule/ladder.h"

#include "rewrite/rewrite.h"
#include "schedule/schedule.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

const char *const ladder_names[LADDER_RUNGS] = {
    "1-naive",   "2-coalesced",    "3-shared-memory", "4-column", "5-square",
    "6-vectors", "7-tensor-cores", "8-pipeline",      "9-wgmma",
};

static char *read_text(Arena *arena, const char *name) {
    char *text = file_read(arena, arena_print(arena, "bench/ladder/%s", name), NULL);
    if (!text) fatal("%s", error_text());
    return text;
}

// The kernel is written for 1024 rows and columns.
static const char *resized(Arena *arena, const char *at, int n) {
    Text text = text_new(arena);
    while (*at) {
        int digits = (int)strspn(at, "0123456789");
        int64_t number = digits ? strtoll(at, NULL, 10) : 0;
        if (number == 1024 || number == 1024 * 1024)
            text_add(&text, "%lld", number == 1024 ? (long long)n : (long long)n * n);
        else
            text_add(&text, "%.*s", digits ? digits : 1, at);
        at += digits ? digits : 1;
    }
    return text.at;
}

static void remove_gaps(char *schedule) {
    for (char *at; (at = strchr(schedule, '+'));)
        for (schedule = at; *at == '+' || isdigit((unsigned char)*at); at++) *at = ' ';
}

Rung ladder_read(int rung, int n, bool gaps) {
    Arena *arena = arena_new();
    Rung made = {.arena = arena, .name = ladder_names[rung], .n = n};
    char *schedule = read_text(arena, arena_print(arena, "%s.schedule", made.name));
    if (!gaps) remove_gaps(schedule);
    Kernel *kernel =
        kernel_parse(arena, made.name, resized(arena, read_text(arena, "matmul.kernel"), n));
    kernel_verify(kernel);
    schedule_apply(kernel, schedule);
    expand_kernel(kernel);
    Program *program = lower(arena, kernel, &(LowerOptions){.gpu = true});
    program_verify(program);
    made.source = render_cuda(arena, program, NULL, made.symbol);
    made.shared_bytes = program_block_bytes(program);
    made.work = launch_work(program, 0, NULL);
    for (int32_t i = 0; i < program->steps.count; i++) {
        const Step *step = &program->steps.at[i];
        if (step->kind != STEP_LAUNCH) continue;
        if (made.blocks) fatal("%s has two launches", made.name);
        made.threads = step->threads;
        if (!index_is_const(program->indices, step->index, &made.blocks))
            fatal("%s has a grid of no fixed size", made.name);
    }
    return made;
}

void ladder_free(Rung *rung) { arena_free(rung->arena); }

static SimtFunction *compile(const Rung *rung, bool checked) {
    CompileUnit unit = {
        .symbol = arena_print(rung->arena, "simt_%s", rung->symbol + strlen("pg_k_")),
        .source = checked ? simt_checked_source(rung->arena, rung->source) : rung->source,
        .flags = checked ? SIMT_CHECKED_FLAGS : SIMT_FLAGS};
    if (compile_units(&unit, 1)) fatal("%s", error_text());
    SimtFunction *const *functions;
    memcpy(&functions, &unit.function, sizeof functions);
    return functions[0];
}

void ladder_run(const Rung *rung, const float *a, const float *b, float *c) {
    char *workspace = NULL;
    void *param[] = {&a, &b, &c, &workspace};
    if (simt_launch(compile(rung, false), rung->blocks, rung->threads, rung->shared_bytes, param))
        fatal("%s: %s", rung->name, error_text());
}

SimtCounts ladder_count(const Rung *rung, int64_t blocks, const float *a, const float *b,
                        float *c) {
    char *workspace = NULL;
    void *param[] = {&a, &b, &c, &workspace};
    int64_t bytes = (int64_t)rung->n * rung->n * 4;
    const SimtRange range[] = {{"a", a, bytes, 4}, {"b", b, bytes, 4}, {"c", c, bytes, 4}};
    SimtCounts counts;
    if (simt_check(compile(rung, true), blocks, rung->threads, rung->shared_bytes, param, 3, range,
                   &counts))
        fatal("%s: %s", rung->name, error_text());
    return counts;
}

int ladder_compile(const Rung *rung, const char *architecture, NvrtcKernel *kernel) {
    if (!nvrtc_available()) return -1;
    NvrtcUnit unit = {.name = rung->name, .source = rung->source, .arch = architecture};
    if (nvrtc_compile(rung->arena, &unit, 1)) fatal("%s", error_text());
    if (unit.kernels != 1) fatal("%s: %d kernels", rung->name, unit.kernels);
    *kernel = unit.kernel[0];
    return 0;
}
