/* roofline.c - picograd roofline: how near each kernel comes to what the machine can do.
 * In: rows, or a model, of which one token runs.  Out: the roofs and a table of kernels, JSON, a
 * picture.
 * Invariant: a kernel's time is its best of several runs, as a roof is; a program's data lies in
 * the level of memory that holds all of it.
 *   picograd roofline softmax:4096 -o roofline.png   =>   softmax's kernels under the roofs     */
#include "cli/roofline.h"

#include "engine/engine.h"
#include "runtime/runtime.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    Roofline line;
    int32_t first, next;  // of the kernels of the run that goes on, the first run's places
    const char *program;
    const char *json, *picture;
    int64_t runs, size;
} Run;

// ---- kernels -----------------------------------------------------------------------------------
static void watch(void *context, int kernels, const KernelTime *time) {
    Run *run = context;
    Roofline *line = &run->line;
    for (int i = 0; i < kernels; i++) {
        if (!time[i].calls) continue;
        if (run->next == line->kernels.count)
            *list_add(line->arena, &line->kernels) =
                (RooflineKernel){.program = run->program,
                                 .name = arena_text(line->arena, time[i].name),
                                 .calls = time[i].calls,
                                 .seconds = INFINITY,
                                 .operations = time[i].operations,
                                 .bytes = time[i].bytes};
        RooflineKernel *kernel = &line->kernels.at[run->next++];
        kernel->seconds = fmin(kernel->seconds, fmax(time[i].seconds, 1e-9));
    }
}

typedef int Step(void *of);

static int watch_runs(Run *run, const char *program, Step *step, void *of) {
    Roofline *line = &run->line;
    run->program = arena_text(line->arena, program);
    run->first = line->kernels.count;
    engine_watch(watch, run);
    int status = 0;
    for (int64_t i = 0; i <= run->runs && status == 0; i++) {  // the first one warms up
        hint("%s: run %lld of %lld ...", program, (long long)i, (long long)run->runs);
        run->next = run->first;
        status = step(of);
    }
    engine_watch(NULL, NULL);
    hint_clear();
    double bytes = 0;
    for (int32_t i = run->first; i < line->kernels.count; i++) bytes += line->kernels.at[i].bytes;
    for (int32_t i = run->first; i < line->kernels.count; i++) {
        RooflineKernel *kernel = &line->kernels.at[i];
        kernel->level = roofs_level(&line->roofs, bytes);
        kernel->share =
            roofs_seconds(&line->roofs, kernel->level, kernel->operations, kernel->bytes) /
            kernel->seconds;
    }
    return status < 0 ? failed() : EXIT_DONE;
}

static int step_row(void *of) { return work_run(of); }

typedef struct {
    Llama *llama;
    int32_t *ids;
    int64_t size;
} ModelStep;

static int step_model(void *of) {
    const ModelStep *step = of;
    llama_rewind(step->llama, 0);
    return llama_forward(step->llama, step->ids, step->size, NULL, NULL);
}

static int watch_row(Run *run, const char *name) {
    Row row;
    Work work = {0};
    if (row_find(name, &row) < 0) return EXIT_USAGE;
    int status = work_open(&work, &row) < 0 ? failed() : watch_runs(run, name, step_row, &work);
    work_close(&work);
    return status;
}

static int watch_model(Run *run) {
    Session session;
    common.context = max_i64(common.context, run->size);
    int status = session_open(&session, true);
    if (status != EXIT_DONE) return status;
    ModelStep step = {session.llama, arena_array(run->line.arena, int32_t, run->size), run->size};
    const char *name = arena_print(run->line.arena, "%s, %lld token%s", common.model,
                                   (long long)run->size, run->size == 1 ? "" : "s");
    status = watch_runs(run, name, step_model, &step);
    session_close(&session);
    return status;
}

// ---- text and JSON -----------------------------------------------------------------------------
static void print_roofs(const Roofs *roofs, const char *cpu) {
    printf("%s, %d thread%s, %s\n", cpu, thread_count(), thread_count() == 1 ? "" : "s",
           target()->name);
    printf("  %-8s %9.1f GFLOP/s of multiply-adds\n", "FMA", 1e-9 * roofs->peak);
    if (roofs->tile > 0)
        printf("  %-8s %9.1f GFLOP/s of bf16 tiles, of which tf32 takes three a product\n", "AMX",
               1e-9 * roofs->tile);
    for (int i = 0; i < roofs->levels; i++) {
        const RoofLevel *level = &roofs->level[i];
        printf("  %-8s %9.1f GB/s read; ridge at %.2f FLOP/B", level->name, 1e-9 * level->rate,
               roofs_ridge(roofs, level));
        if (isfinite(level->bytes)) printf("; up to %.1f MB", 1e-6 * level->bytes);
        printf("\n");
    }
}

static void print_kernels(const Roofline *line) {
    const char *program = "";
    for (int32_t i = 0; i < line->kernels.count; i++) {
        const RooflineKernel *kernel = &line->kernels.at[i];
        if (strcmp(program, kernel->program))
            printf("\n%s\n%5s  %-30s %10s %9s %8s %8s  %s\n", program = kernel->program, "calls",
                   "kernel", "us", "GFLOP/s", "GB/s", "FLOP/B", "of its roof");
        printf("%5d  %-30s %10.1f %9.2f %8.2f %8.2f  %3.0f %% %s\n", kernel->calls, kernel->name,
               1e6 * kernel->seconds, 1e-9 * kernel->operations / kernel->seconds,
               1e-9 * kernel->bytes / kernel->seconds, roofline_intensity(kernel),
               100 * kernel->share, roofline_bound(&line->roofs, kernel));
    }
}

static void add_roofs(Text *to, const Roofs *roofs) {
    text_add(to, "{\"isa\": \"%s\", \"threads\": %d, \"peak\": %.4g, \"tile\": ", target()->name,
             thread_count(), roofs->peak);
    text_add(to, roofs->tile > 0 ? "%.4g" : "null", roofs->tile);
    text_add(to, ", \"bound\": %.4g, \"levels\": [", roofs->bound);
    for (int i = 0; i < roofs->levels; i++) {
        const RoofLevel *level = &roofs->level[i];
        text_add(to, "%s{\"name\": \"%s\", \"bytes\": ", i ? ", " : "", level->name);
        text_add(to, isfinite(level->bytes) ? "%.0f" : "null", level->bytes);
        text_add(to, ", \"rate\": %.4g, \"ridge\": %.4g}", level->rate, roofs_ridge(roofs, level));
    }
    text_add(to, "]");
}

static void add_kernels(Text *to, const Roofline *line) {
    text_add(to, ", \"kernels\": [");
    for (int32_t i = 0; i < line->kernels.count; i++) {
        const RooflineKernel *kernel = &line->kernels.at[i];
        text_add(to, "%s{\"program\": ", i ? ", " : "");
        quote_json_text(to, kernel->program);
        text_add(to,
                 ", \"name\": \"%s\", \"calls\": %d, \"seconds\": %.4g, \"operations\": %.6g, "
                 "\"bytes\": %.6g, \"share\": %.4f, \"bound\": \"%s\"}",
                 kernel->name, kernel->calls, kernel->seconds, kernel->operations, kernel->bytes,
                 kernel->share, roofline_bound(&line->roofs, kernel));
    }
    text_add(to, "]}\n");
}

static int write_json(const Run *run) {
    Text text = text_new(run->line.arena);
    add_roofs(&text, &run->line.roofs);
    add_kernels(&text, &run->line);
    if (strcmp(run->json, "-"))
        return file_write(run->json, text.at, text.count) < 0 ? failed() : EXIT_DONE;
    fputs(text.at, stdout);
    return EXIT_DONE;
}

// ---- the command -------------------------------------------------------------------------------
static int check_names(int count, const char **name) {
    for (int i = 0; i < count; i++) {
        Row row;
        if (row_find(name[i], &row) < 0) return EXIT_USAGE;
        if (row.kind->what != ROW_OF_TENSORS)
            return usage_wrong("roofline: for a model, give -m MODEL and no row");
    }
    return EXIT_DONE;
}

static int roofline(Run *run, int count, const char **name) {
    int status = check_names(count, name);
    if (status == EXIT_DONE && run->picture) status = roofline_check_picture(run->picture);
    if (status == EXIT_DONE) status = common_apply();
    if (status != EXIT_DONE) return status;
    if (common.mode && pg_mode() == PG_EAGER)
        return usage_wrong("roofline: eager mode has no kernels to show");
    pg_set_mode(PG_GRAPH);
    if (roofs_measure(&run->line.roofs) < 0) return failed();
    for (int i = 0; i < count && status == EXIT_DONE; i++) status = watch_row(run, name[i]);
    if (common.model && status == EXIT_DONE) status = watch_model(run);
    if (status != EXIT_DONE) return status;
    if (run->json) status = write_json(run);
    if (!run->json || strcmp(run->json, "-")) {
        print_roofs(&run->line.roofs, cpu_name(run->line.arena));
        print_kernels(&run->line);
    }
    fflush(stdout);
    if (status == EXIT_DONE && run->picture)
        status = roofline_draw(&run->line, run->picture) < 0 ? failed() : EXIT_DONE;
    return status;
}

int run_roofline(int count, char **argument) {
    Run run = {.runs = 10, .size = 1};
    const char *name[32];
    // clang-format off
    const Option table[] = {
        MODEL_OPTION,
        {"--n-prompt", "-p", OPTION_INT, &run.size, 1, 512, "N", "tokens of the model's step (1)"},
        {"--output", "-o", OPTION_TEXT, &run.picture, 0, 0, "FILE",
         "draw the roofline, as .png or .svg; needs gnuplot"},
        {"--json", NULL, OPTION_TEXT, &run.json, 0, 0, "FILE",
         "write roofs and kernels as JSON; - is standard output"},
        {"--repetitions", "-r", OPTION_INT, &run.runs, 1, 1000, "N",
         "runs, of which a kernel's best one counts (10)"},
        RUN_OPTIONS,
    };
    // clang-format on
    int names;
    int parsed = OPTIONS_PARSE("roofline", table, count, argument, COUNT_OF(name), name, &names);
    if (parsed) return parsed < 0 ? EXIT_USAGE : EXIT_DONE;
    run.line.arena = arena_new();
    int status = roofline(&run, names, name);
    arena_free(run.line.arena);
    return status;
}
