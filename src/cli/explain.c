/* explain.c - picograd explain: how a program becomes instructions, stage by stage.
 * In: a row's name, or a model (one decode step).  Out: what PG_DUMP prints after each pass, in
 * order, how many kernels there are, then each one's time.
 *   picograd explain softmax:1024 --stage render   =>   the C of its kernels                     */
#include "cli/row.h"
#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *stage;
    int64_t kernel;
    Session session;
    Work work;
    int32_t token;
} Explain;

static const char time_stage[] = "time";

static const char *stage_name(const void *table, int i) {
    const char *about, *name = engine_pass(i, &about);
    (void)table;
    return name ? name : time_stage;
}

static int stage_count(void) {
    const char *about;
    int count = 0;
    while (engine_pass(count, &about)) count++;
    return count + 1;
}

static bool is_stage(const char *name) {
    for (int i = 0; i < stage_count(); i++)
        if (!strcmp(name, stage_name(NULL, i))) return true;
    return false;
}

void explain_help(Text *to) {
    const char *about, *name;
    text_add(to, "\nStages, in order:\n");
    for (int i = 0; (name = engine_pass(i, &about)); i++) text_add(to, "  %-9s %s\n", name, about);
    text_add(to, "  %-9s what each kernel takes\n\nRows:\n", time_stage);
    rows_add(to, false);
    text_add(to, "\nAny command prints stages to standard error: PG_DUMP=render picograd ...\n");
}

// ---- one step ----------------------------------------------------------------------------------
static int step(Explain *run) {
    if (!run->session.llama) return work_run(&run->work);
    llama_rewind(run->session.llama, 0);
    return llama_forward(run->session.llama, &run->token, 1, NULL, NULL);
}

static int with_switch(Explain *run, const char *name, const char *value) {
    setenv(name, value, true);
    int status = step(run);
    unsetenv(name);
    return status;
}

// No pass is called `time`: then what is compiled is kept for its costs, and nothing printed.
static int show_stages(Explain *run) {
    return with_switch(run, "PG_DUMP", run->stage ? run->stage : "all");
}

// A model's layers share their kernels; what is left over is before the first and behind the last.
static void show_count(const Explain *run) {
    if (run->stage && strcmp(run->stage, "fuse") != 0) return;
    printf("\n%d kernel%s", engine_kernels(), engine_kernels() == 1 ? "" : "s");
    if (run->session.llama) {
        int layers = (int)llama_config(run->session.llama)->layers;
        printf(" a step, %d in each of %d layers", engine_kernels() / layers, layers);
    }
    printf("\n");
}

static int show_times(Explain *run) {
    enum { WARM_UP = 3 };
    if (run->stage && strcmp(run->stage, time_stage)) return 0;
    for (int i = 0; i < WARM_UP; i++)
        if (step(run) < 0) return -1;
    printf("\n#### %s: what each kernel takes, %d thread%s\n", time_stage, thread_count(),
           thread_count() == 1 ? "" : "s");
    return with_switch(run, "PG_DEBUG", "2");
}

static int explain(Explain *run) {
    char number[24];
    snprintf(number, sizeof number, "%lld", (long long)run->kernel);
    if (run->kernel >= 0) setenv("PG_KERNEL", number, true);
    engine_dump_to(stdout);
    pg_set_mode(PG_GRAPH);
    if (!run->stage) {
        printf("stages:");
        for (int i = 0; i < stage_count(); i++) printf(" %s", stage_name(NULL, i));
        printf("; --stage NAME shows one\n");
    }
    if (show_stages(run) < 0) return failed();
    show_count(run);
    return show_times(run) < 0 ? failed() : EXIT_DONE;
}

static int open_and_explain(Explain *run, int count, const char **name) {
    Row row;
    if (run->stage && !is_stage(run->stage)) {
        const char *near = closest_name(run->stage, NULL, stage_count(), stage_name);
        return usage_wrong("explain: no stage %.60s; %s%s? Try: picograd explain --help",
                           run->stage, near ? "did you mean " : "which one", near ? near : "");
    }
    if (!count && !common.model)
        return usage_wrong("explain: what? Try: picograd explain matmul:256");
    if (count && common.model) return usage_wrong("explain: a row or a model, not both");
    if (count && row_find(name[0], &row) < 0) return EXIT_USAGE;
    if (count && row.kind->what != ROW_OF_TENSORS)
        return usage_wrong("explain: for a decode step of a model, give -m MODEL and no row");
    int status = count ? common_apply() : session_open(&run->session, true);
    if (status != EXIT_DONE) return status;
    return count && work_open(&run->work, &row) < 0 ? failed() : explain(run);
}

int run_explain(int count, char **argument) {
    Explain run = {.kernel = -1};
    const char *name = NULL;
    // clang-format off
    const Option table[] = {
        MODEL_OPTION,
        {"--stage", NULL, OPTION_TEXT, &run.stage, 0, 0, "NAME", "only this stage; see below"},
        {"--kernel", NULL, OPTION_INT, &run.kernel, 0, 1 << 24, "N",
         "only kernel N; --stage time lists them"},
        {"--threads", "-t", OPTION_INT, &common.threads, 1, 256, "N", "threads (one a core)"},
    };
    // clang-format on
    int names, parsed = OPTIONS_PARSE("explain", table, count, argument, 1, &name, &names);
    if (parsed) return parsed < 0 ? EXIT_USAGE : EXIT_DONE;
    int status = open_and_explain(&run, names, &name);
    work_close(&run.work);
    session_close(&run.session);
    return status;
}
