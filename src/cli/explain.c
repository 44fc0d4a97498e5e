/* explain.c - picograd explain: how a program becomes instructions, stage by stage.
 * In: a row's name, or a model (one decode step).  Out: what PG_DUMP prints after each pass, in
 * order, how many kernels there are, then each one's time; on simt, what a profiler would say of
 * it on a GPU instead.
 *   picograd explain softmax:1024 --stage render   =>   the C of its kernels                     */
#include "cli/gpu_report.h"
#include "cli/row.h"
#include "engine/engine.h"
#include "runtime/runtime.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *stage, *gpu;
    int64_t kernel;
    Session session;
    Work work;
    int32_t token;
    const GpuTarget *target;
    Text *profiles;
} Explain;

// ---- stages: the engine's passes, then ours ----------------------------------------------------
static const char profile_stage[] = "profile", time_stage[] = "time";
static const struct {
    const char *name, *about;
    bool simt;
} own_stages[] = {
    {profile_stage, "on simt: what a profiler would say of each kernel on a GPU", true},
    {time_stage, "what each kernel takes", false},
};

static int pass_count(void) {
    const char *about;
    int count = 0;
    while (engine_pass(count, &about)) count++;
    return count;
}

static int stage_count(void) { return pass_count() + COUNT_OF(own_stages); }

static const char *stage_name(const void *table, int i) {
    const char *about, *name = engine_pass(i, &about);
    (void)table;
    return name ? name : own_stages[i - pass_count()].name;
}

static bool is_stage(const char *name) {
    for (int i = 0; i < stage_count(); i++)
        if (!strcmp(name, stage_name(NULL, i))) return true;
    return false;
}

static bool is_simt(void) { return device()->kind == DEVICE_SIMT; }

// How long simt takes says nothing of a GPU: who wants to know asks for it.
static bool is_shown(const Explain *run, const char *own_stage) {
    if (run->stage) return !strcmp(run->stage, own_stage);
    for (int i = 0; i < COUNT_OF(own_stages); i++)
        if (!strcmp(own_stages[i].name, own_stage)) return own_stages[i].simt == is_simt();
    return false;
}

static const char *gpu_name(const void *table, int i) {
    (void)table;
    return gpu_target_at(i)->name;
}

static int gpu_count(void) {
    int count = 0;
    while (gpu_target_at(count)) count++;
    return count;
}

void explain_help(Text *to) {
    const char *about, *name;
    text_add(to, "\nStages, in order:\n");
    for (int i = 0; (name = engine_pass(i, &about)); i++) text_add(to, "  %-9s %s\n", name, about);
    for (int i = 0; i < COUNT_OF(own_stages); i++)
        text_add(to, "  %-9s %s\n", own_stages[i].name, own_stages[i].about);
    text_add(to, "\nGPUs:\n");
    for (int i = 0; i < gpu_count(); i++)
        text_add(to, "  %-9s %s, %s\n", gpu_target_at(i)->name, gpu_target_at(i)->product,
                 gpu_target_at(i)->architecture);
    text_add(to, "\nRows:\n");
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

// What NVRTC knows of it, where there is NVRTC.
static void find_registers(Arena *arena, const GpuTarget *target, const LaunchProfile *launch,
                           GpuProfile *profile) {
    NvrtcUnit unit = {
        .name = launch->entry, .source = launch->source, .arch = target->architecture};
    if (nvrtc_compile(arena, &unit, 1)) return;
    for (int i = 0; i < unit.kernels; i++) {
        if (strcmp(unit.kernel[i].name, launch->entry) != 0) continue;
        profile->registers = unit.kernel[i].registers;
        profile->spilled = unit.kernel[i].spill_stores + unit.kernel[i].spill_loads;
    }
}

static void add_profile(void *context, const LaunchProfile *launch) {
    const Explain *run = context;
    if (run->kernel >= 0 && launch->kernel != run->kernel) return;
    Text *to = run->profiles;
    GpuProfile profile = *launch->profile;
    Text name = text_new(to->arena);
    text_add(&name, "kernel %d: %s", launch->kernel, profile.name);
    if (launch->launches > 1)
        text_add(&name, ", launch %d of %d", launch->launch + 1, launch->launches);
    if (launch->calls > 1) text_add(&name, ", called %d times", launch->calls);
    profile.name = name.at;
    find_registers(to->arena, run->target, launch, &profile);
    GpuRoofline line = gpu_roofline(to->arena, run->target, &profile);
    text_add(to, "%s", to->count ? "\n" : "");
    gpu_report_add(to, run->target, &profile, &line);
}

static void show_profiles(const Explain *run) {
    printf("\n#### %s: what a profiler would say of each kernel, by the counts of simt\n",
           profile_stage);
    if (!nvrtc_available()) say("registers are not known: %s", error_text());
    fputs(run->profiles->at, stdout);
}

// No pass is called `time` or `profile`: then what is compiled is kept, and nothing printed.
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
    if (!is_shown(run, time_stage)) return 0;
    for (int i = 0; i < WARM_UP; i++)
        if (step(run) < 0) return -1;
    printf("\n#### %s: what each kernel takes, %d thread%s\n", time_stage, thread_count(),
           thread_count() == 1 ? "" : "s");
    return with_switch(run, "PG_DEBUG", "2");
}

static void show_names(void) {
    printf("stages:");
    for (int i = 0; i < pass_count(); i++) printf(" %s", stage_name(NULL, i));
    for (int i = 0; i < COUNT_OF(own_stages); i++)
        if (own_stages[i].simt == is_simt()) printf(" %s", own_stages[i].name);
    printf("; --stage NAME shows one\n");
}

static int explain(Explain *run) {
    char number[24];
    snprintf(number, sizeof number, "%lld", (long long)run->kernel);
    if (run->kernel >= 0) setenv("PG_KERNEL", number, true);
    engine_dump_to(stdout);
    pg_set_mode(PG_GRAPH);
    if (!run->stage) show_names();
    bool profiled = is_shown(run, profile_stage);
    if (profiled) engine_profile(add_profile, run);
    int status = show_stages(run);
    engine_profile(NULL, NULL);
    if (status < 0) return failed();
    show_count(run);
    if (profiled) show_profiles(run);
    return show_times(run) < 0 ? failed() : EXIT_DONE;
}

static int refuse_gpu(const char *name) {
    const char *near = closest_name(name, NULL, gpu_count(), gpu_name);
    if (near) return usage_wrong("explain: no GPU %.60s; did you mean %s?", name, near);
    Arena *arena = arena_new();
    Text names = text_new(arena);
    for (int i = 0; i < gpu_count(); i++)
        text_add(&names, "%s%s", i ? ", " : "", gpu_name(NULL, i));
    int status = usage_wrong("explain: no GPU %.60s; there are %s", name, names.at);
    arena_free(arena);
    return status;
}

static int check_names(Explain *run) {
    if (run->stage && !is_stage(run->stage)) {
        const char *near = closest_name(run->stage, NULL, stage_count(), stage_name);
        return usage_wrong("explain: no stage %.60s; %s%s? Try: picograd explain --help",
                           run->stage, near ? "did you mean " : "which one", near ? near : "");
    }
    const char *name = run->gpu ? run->gpu : env_text("SIMT_GPU", "h100");
    run->target = gpu_target(name);
    if (run->gpu) setenv("PG_SIMT_GPU", name, true);  // kernels are made for it, too
    return run->target ? EXIT_DONE : refuse_gpu(name);
}

static int check_device(const Explain *run) {
    int status = common_apply();
    if (status != EXIT_DONE || is_simt()) return status;
    if (run->gpu) return usage_wrong("explain: --gpu %.60s goes with --device simt", run->gpu);
    if (run->stage && !strcmp(run->stage, profile_stage))
        return usage_wrong("explain: stage %s goes with --device simt", profile_stage);
    return EXIT_DONE;
}

static int open_and_explain(Explain *run, int count, const char **name) {
    Row row;
    int status = check_names(run);
    if (status != EXIT_DONE) return status;
    if (!count && !common.model)
        return usage_wrong("explain: what? Try: picograd explain matmul:256");
    if (count && common.model) return usage_wrong("explain: a row or a model, not both");
    if (count && row_find(name[0], &row) < 0) return EXIT_USAGE;
    if (count && row.kind->what != ROW_OF_TENSORS)
        return usage_wrong("explain: for a decode step of a model, give -m MODEL and no row");
    status = check_device(run);
    if (status == EXIT_DONE && !count) status = session_open(&run->session, true);
    if (status != EXIT_DONE) return status;
    return count && work_open(&run->work, &row) < 0 ? failed() : explain(run);
}

int run_explain(int count, char **argument) {
    Arena *arena = arena_new();
    Text profiles = text_new(arena);
    Explain run = {.kernel = -1, .profiles = &profiles};
    const char *name = NULL;
    // clang-format off
    const Option table[] = {
        MODEL_OPTION,
        {"--stage", NULL, OPTION_TEXT, &run.stage, 0, 0, "NAME", "only this stage; see below"},
        {"--kernel", NULL, OPTION_INT, &run.kernel, 0, 1 << 24, "N",
         "only kernel N; --stage time lists them"},
        DEVICE_OPTION,
        PRECISION_OPTION,
        {"--gpu", NULL, OPTION_TEXT, &run.gpu, 0, 0, "NAME",
         "with --device simt: the GPU that kernels are held against; see below (h100)"},
        {"--threads", "-t", OPTION_INT, &common.threads, 1, 256, "N", "threads (one a core)"},
    };
    // clang-format on
    int names, parsed = OPTIONS_PARSE("explain", table, count, argument, 1, &name, &names);
    int status = parsed < 0 ? EXIT_USAGE : EXIT_DONE;
    if (!parsed) status = open_and_explain(&run, names, &name);
    work_close(&run.work);
    session_close(&run.session);
    arena_free(arena);
    return status;
}
