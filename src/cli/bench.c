/* bench.c - picograd bench: how fast, as a number with its spread.
 * In: rows by name, or a model.  Out: a line a row, or JSON; or a table like llama-bench's.
 * Invariants: a row runs in a process of its own, so that nothing of the rows before it is there;
 * inputs are made once, before; the first run compiles, warms up and does not count.
 *   picograd bench matmul:1024   =>   matmul:1024   92.1 GFLOP/s ± 1 %                       */
#include "cli/bench.h"
#include "engine/engine.h"
#include "runtime/runtime.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

// ---- runs --------------------------------------------------------------------------------------
typedef struct {
    const Row *row;
    Work work;     // unless the row is of a model
    Llama *llama;  // else
    int32_t *ids;
    float *logits;
    bool tune;
    int64_t steps;  // of a run
    double amount;  // of a step, in units of the row's unit times a second
} Job;

static int run_model(const Job *job) {
    int64_t size = job->row->size[0];
    llama_rewind(job->llama, 0);
    if (job->row->kind->what == ROW_PREFILL)
        return llama_forward(job->llama, job->ids, size, job->logits, NULL);
    for (int64_t i = 0; i < size; i++)
        if (llama_forward(job->llama, job->ids + i, 1, job->logits, NULL) < 0) return -1;
    return 0;
}

static int run_job(const Job *job) { return job->llama ? run_model(job) : work_run(&job->work); }

// A run of a kernel is short, so as many as half a second holds count as one.
static int speed(const Job *job, double *result) {
    double start = clock_seconds(), least = job->llama ? 0 : 0.5, taken = 0;
    int64_t times = 0;
    for (; times == 0 || taken < least; times++) {
        if (run_job(job) < 0) return -1;
        taken = clock_seconds() - start;
    }
    *result = job->amount * (double)(job->steps * times) / taken;
    return 0;
}

// A run compiles, and so searches; what it computes does not matter.
static int tune(const Job *job) {
    tune_begin();
    int status = run_job(job);
    int ended = tune_end();
    return status < 0 ? failed() : ended;
}

static int measure(const Job *job, int64_t samples, const char *name, Measured *to) {
    int status = job->tune ? tune(job) : EXIT_DONE;
    if (status != EXIT_DONE) return status;
    hint("%s: warming up ...", name);
    status = run_job(job);
    for (int64_t i = 0; i < samples && status == 0; i++) {
        double run;
        hint("%s: run %lld of %lld ...", name, (long long)i + 1, (long long)samples);
        status = speed(job, &run);
        if (status == 0) sample_add(&to->sample, run);
    }
    hint_clear();
    if (status < 0) return failed();
    to->step_seconds = job->amount / to->sample.median;
    to->compile_seconds = engine_compile_seconds();
    to->peak_bytes = peak_rss_bytes();
    return EXIT_DONE;
}

// ---- what a row measures -----------------------------------------------------------------------
static const char *row_name(Bench *bench, const Row *row) {
    return arena_print(bench->arena, "%s:%lld", row->kind->name, (long long)row->size[0]);
}

static int measure_tensors(Bench *bench, const Row *row, Measured *to) {
    Job job = {.row = row, .tune = bench->tune, .steps = 1};
    *to = (Measured){0};
    int status = work_open(&job.work, row) < 0 ? failed() : EXIT_DONE;
    to->operations = row->plan.operations;
    to->bytes = job.work.bytes;
    job.amount = 1e-9 * (to->operations > 0 ? to->operations : to->bytes);
    if (status == EXIT_DONE) status = measure(&job, bench->samples, row_name(bench, row), to);
    work_close(&job.work);
    return status;
}

// Of a step: two operations for each weight that a token meets, and attention's; every weight is
// read once, and what is in the cache of the tokens before.
static void count_model(const Row *row, const Llama *llama, Measured *to) {
    const LlamaConfig *config = llama_config(llama);
    bool prefill = row->kind->what == ROW_PREFILL;
    double width = (double)config->width, size = (double)row->size[0], layers = config->layers;
    double heads = (double)(config->heads * config->head_size);
    double keys = (double)(config->key_heads * config->head_size);
    double layer = width * (2 * heads + 2 * keys + 3 * (double)config->hidden);
    double tokens = prefill ? size : 1, seen = 0.5 * (size + 1);  // by a token, in the mean
    double head = width * (double)config->vocabulary;
    to->operations = 2 * tokens * layers * layer + 2 * head + 4 * layers * heads * seen * tokens;
    to->bytes = (double)llama_weight_bytes(llama) + 4 * 2 * layers * keys * seen;
}

static void fill_ids(Job *job, Arena *arena) {
    uint64_t vocabulary = (uint64_t)llama_config(job->llama)->vocabulary, state = 1;
    job->logits = arena_array(arena, float, vocabulary);
    job->ids = arena_array(arena, int32_t, job->row->size[0] + 1);
    for (int64_t i = 0; i <= job->row->size[0]; i++) {  // any: a congruential generator, Knuth's
        state = state * 6364136223846793005 + 1442695040888963407;
        job->ids[i] = (int32_t)((state >> 33) % vocabulary);
    }
}

int measure_model(Bench *bench, const Row *row, const Session *session, Measured *to) {
    bool prefill = row->kind->what == ROW_PREFILL;
    Job job = {.row = row, .llama = session->llama, .tune = bench->tune};
    job.steps = prefill ? 1 : row->size[0];
    job.amount = prefill ? (double)row->size[0] : 1;
    fill_ids(&job, bench->arena);
    *to = (Measured){0};
    count_model(row, session->llama, to);
    return measure(&job, bench->samples, row_name(bench, row), to);
}

// Both steps of a model, once: N tokens, then one.
static int run_both(Bench *bench, const Row *row, const Session *session, Measured *to) {
    Job job = {.row = row, .llama = session->llama};
    int64_t size = row->size[0];
    fill_ids(&job, bench->arena);
    *to = (Measured){0};
    if (llama_forward(job.llama, job.ids, size, job.logits, NULL) < 0) return failed();
    if (llama_forward(job.llama, job.ids + size, 1, job.logits, NULL) < 0) return failed();
    to->compile_seconds = engine_compile_seconds();
    to->peak_bytes = peak_rss_bytes();
    bool memory = row->kind->what == ROW_MEMORY;
    sample_add(&to->sample, memory ? 1e-6 * (double)to->peak_bytes : 1e3 * to->compile_seconds);
    return EXIT_DONE;
}

// With a cache of kernels of its own, empty at first, and gone afterwards.
static int run_cold(Bench *bench, const Row *row, const Session *session, Measured *to) {
    const char *parent = getenv("TMPDIR");
    char *folder = arena_print(bench->arena, "%s/picograd-cold-XXXXXX", parent ? parent : "/tmp");
    if (!mkdtemp(folder)) {
        fail("cannot make %s for an empty cache: %s", folder, strerror(errno));
        return failed();
    }
    setenv("PG_CACHE", folder, true);
    int status = run_both(bench, row, session, to);
    cache_clear();
    rmdir(arena_print(bench->arena, "%s/kernels", folder));
    rmdir(folder);
    return status;
}

static int measure_row(Bench *bench, const Row *row, Measured *to) {
    Session session;
    if (row->kind->what == ROW_OF_TENSORS) return measure_tensors(bench, row, to);
    int status = session_open(&session, true);
    if (status != EXIT_DONE) return status;
    if (row->kind->what == ROW_PREFILL || row->kind->what == ROW_DECODE)
        status = measure_model(bench, row, &session, to);
    else if (row->kind->what == ROW_COLD)
        status = run_cold(bench, row, &session, to);
    else
        status = run_both(bench, row, &session, to);
    session_close(&session);
    return status;
}

// ---- processes ---------------------------------------------------------------------------------
// The one that forks has no threads yet: only what it forks runs kernels.
static int measure_apart(Bench *bench, const Row *row, Measured *to) {
    int pipes[2], status;
    if (bench->tune) interrupt_watch();
    fflush(NULL);
    if (pipe(pipes)) return fail("no pipe: %s", strerror(errno)), failed();
    pid_t process = fork();
    if (process == 0) {
        close(pipes[0]);
        status = measure_row(bench, row, to);
        bool told = write(pipes[1], to, sizeof *to) == sizeof *to;
        fflush(NULL);
        _exit(told ? status : EXIT_FAILED);
    }
    close(pipes[1]);
    ssize_t got = -1;
    while (process > 0 && (got = read(pipes[0], to, sizeof *to)) < 0 && errno == EINTR)
        kill(process, SIGINT);  // Ctrl-C is for the search
    bool told = got == sizeof *to;
    close(pipes[0]);
    if (process < 0) return fail("no process: %s", strerror(errno)), failed();
    if (waitpid(process, &status, 0) < 0 || WIFSIGNALED(status)) {
        fail("the process that measured %s did not end by itself", row->kind->name);
        return failed();
    }
    return WEXITSTATUS(status) || told ? WEXITSTATUS(status) : EXIT_FAILED;
}

// What happens once in a process is sampled by several of them.
static int measure_samples(Bench *bench, const Row *row, Measured *to) {
    bool once = row_less_is_better(row->kind);
    int status = measure_apart(bench, row, to);
    if (row->kind->what == ROW_WARM && status == EXIT_DONE)  // now the kernels are in the cache
        status = measure_apart(bench, row, to);
    for (int64_t i = 1; once && i < bench->samples && status == EXIT_DONE; i++) {
        Measured next;
        status = measure_apart(bench, row, &next);
        if (status == EXIT_DONE) sample_add(&to->sample, next.sample.run[0]);
    }
    return status;
}

// ---- rows --------------------------------------------------------------------------------------
void bench_add_runs(Text *to, const Sample *sample) {
    text_add(to, "[");
    for (int i = 0; i < sample->runs; i++) text_add(to, "%s%.4f", i ? ", " : "", sample->run[i]);
    text_add(to, "]");
}

static void add_json(Bench *bench, const char *name, const Row *row, const Measured *measured) {
    Text *to = &bench->lines;
    const Sample *sample = &measured->sample;
    text_add(to, "{\"row\": ");
    quote_json_text(to, name);
    text_add(to,
             ", \"median\": %.4f, \"unit\": \"%s\", \"spread\": %.4f, \"runs\": ", sample->median,
             row->kind->unit, sample->spread);
    bench_add_runs(to, sample);
    if (measured->step_seconds > 0)
        text_add(to, ", \"step_seconds\": %.4g, \"operations\": %.6g, \"bytes\": %.6g",
                 measured->step_seconds, measured->operations, measured->bytes);
    text_add(to, ", \"compile_ms\": %.1f, \"peak_rss_bytes\": %lld",
             1e3 * measured->compile_seconds, (long long)measured->peak_bytes);
    text_add(to, ", \"version\": \"picograd %s\", \"cpu\": ", PG_VERSION);
    quote_json_text(to, cpu_name(bench->arena));
    text_add(to, ", \"threads\": %d, \"mode\": \"%s\", \"precision\": \"%s\", \"isa\": \"%s\"}\n",
             thread_count(), mode_name(), common.precision ? common.precision : "fp32",
             target()->name);
}

static int bench_row(Bench *bench, const char *name) {
    Row row;
    Measured measured;
    if (row_find(name, &row) < 0) return EXIT_USAGE;
    int status = measure_samples(bench, &row, &measured);
    if (status != EXIT_DONE) return status;
    if (bench->json)
        add_json(bench, name, &row, &measured);
    else
        printf("%-31s %10.2f %-8s ±%5.1f %%   %s, %d thread%s, %s\n", name, measured.sample.median,
               row.kind->unit, 50 * measured.sample.spread, mode_name(), thread_count(),
               thread_count() == 1 ? "" : "s", target()->name);
    fflush(stdout);
    return EXIT_DONE;
}

static int check_rows(int count, const char **name) {
    for (int i = 0; i < count; i++) {
        Row row;
        if (row_find(name[i], &row) < 0) return EXIT_USAGE;
        if (row.kind->what == ROW_OF_TENSORS) continue;
        if (!common.model)
            return usage_wrong("row %s is of a model. Try: -m smollm2, or -m random", name[i]);
        common.context = max_i64(common.context, row.size[0] + row_less_is_better(row.kind));
    }
    return EXIT_DONE;
}

static int write_json(const Bench *bench) {
    if (strcmp(bench->json, "-"))
        return file_write(bench->json, bench->lines.at, bench->lines.count) < 0 ? failed() : 0;
    fputs(bench->lines.at, stdout);
    return EXIT_DONE;
}

static int bench_rows(Bench *bench, int count, const char **name) {
    int status = check_rows(count, name);  // all of them, before any work
    if (status == EXIT_DONE) status = common_apply();
    for (int i = 0; i < count && status == EXIT_DONE; i++) status = bench_row(bench, name[i]);
    return status == EXIT_DONE && bench->json ? write_json(bench) : status;
}

static int list_rows(Bench *bench) {
    if (bench->json) {
        rows_add_json(&bench->lines);
        return write_json(bench);
    }
    rows_add(&bench->lines, true);
    fputs(bench->lines.at, stdout);
    return EXIT_DONE;
}

static int bench_all(Bench *bench, int count, const char **name) {
    if (bench->list) return list_rows(bench);
    if (strcmp(bench->form, "md") && strcmp(bench->form, "csv") && strcmp(bench->form, "json"))
        return usage_wrong("bench: -o %.60s: md, csv or json", bench->form);
    if (bench->tune && common.mode && strcmp(common.mode, "graph"))
        return usage_wrong("bench: --tune is for --mode graph, in which kernels have schedules");
    if (count) return bench_rows(bench, count, name);
    if (!common.model)
        return usage_wrong(
            "bench: what? Give a row (picograd bench --list) or a model (-m smollm2)");
    return bench_table(bench);
}

int run_bench(int count, char **argument) {
    Bench bench = {.form = "md", .prompt = 512, .predict = 128, .samples = 5};
    const char *name[128];
    // clang-format off
    const Option table[] = {
        {"--list", NULL, OPTION_FLAG, &bench.list, 0, 0, NULL,
         "say which rows there are; with --json those that make bench runs"},
        {"--tune", NULL, OPTION_FLAG, &bench.tune, 0, 0, NULL,
         "search for faster schedules first, and keep them; Ctrl-C stops, a later one goes on"},
        {"--json", NULL, OPTION_TEXT, &bench.json, 0, 0, "FILE",
         "write the rows as JSON, an object a line; - is standard output"},
        {"--repetitions", "-r", OPTION_INT, &bench.samples, 1, SAMPLES_MAX, "N",
         "runs of each row after the one that warms up (5)"},
        MODEL_OPTION,
        {"--n-prompt", "-p", OPTION_INT, &bench.prompt, 0, 1 << 20, "N",
         "without rows: tokens of the prompt (512)"},
        {"--n-gen", "-n", OPTION_INT, &bench.predict, 0, 1 << 20, "N",
         "without rows: tokens one by one (128)"},
        {"--output", "-o", OPTION_TEXT, &bench.form, 0, 0, "FORM",
         "without rows: md, csv or json (md)"},
        RUN_OPTIONS,
    };
    // clang-format on
    int names;
    int parsed = OPTIONS_PARSE("bench", table, count, argument, COUNT_OF(name), name, &names);
    if (parsed) return parsed < 0 ? EXIT_USAGE : EXIT_DONE;
    bench.arena = arena_new();
    bench.lines = text_new(bench.arena);
    int status = bench_all(&bench, names, name);
    arena_free(bench.arena);
    return status;
}
