/* bench.c - picograd bench: how fast, as a number with its spread.
 * In: rows by name, or a model.  Out: a line a row, or JSON; or a table like llama-bench's.
 * Invariants: inputs are made once, before; the first run compiles, warms up and does not count.
 *   picograd bench matmul:1024   =>   matmul:1024   92.1 GFLOP/s ± 1 %                       */
#include "cli/cli.h"
#include "runtime/runtime.h"

#include <math.h>
#include <string.h>

typedef struct {
    Session session;  // for the rows of models
    bool open;
    Arena *arena;
    const char *json, *form;
    int64_t prompt, predict, samples;
    bool list;
    Text lines;  // of JSON
} Bench;

typedef struct {
    const Row *row;
    int64_t size;
    Work work;     // unless the row is of a model
    Llama *llama;  // else
    int32_t *ids;
    float *logits;
} Job;

// ---- running a row -----------------------------------------------------------------------------
static int run_model(const Job *job) {
    bool prefill = !strcmp(job->row->name, "prefill");
    llama_rewind(job->llama, 0);
    if (prefill) return llama_forward(job->llama, job->ids, job->size, job->logits, NULL);
    for (int64_t i = 0; i < job->size; i++)
        if (llama_forward(job->llama, job->ids + i, 1, job->logits, NULL) < 0) return -1;
    return 0;
}

static int run_job(const Job *job) {
    return job->row->of_model ? run_model(job) : work_run(&job->work);
}

// What a run does, in units of the row's unit times a second.
static double job_amount(const Job *job) {
    if (job->row->of_model) return (double)job->size;
    return 1e-9 * job->row->factor * pow((double)job->size, job->row->power);
}

// A run of a kernel is short, so as many as half a second holds count as one.
static int speed(const Job *job, double *result) {
    double start = clock_seconds(), least = job->row->of_model ? 0 : 0.5, taken = 0;
    int64_t times = 0;
    for (; times == 0 || taken < least; times++) {
        if (run_job(job) < 0) return -1;
        taken = clock_seconds() - start;
    }
    *result = job_amount(job) * (double)times / taken;
    return 0;
}

static int measure(const Job *job, int64_t samples, Sample *sample) {
    const char *name = job->row->name;
    hint("%s:%lld: warming up ...", name, (long long)job->size);
    int status = run_job(job);
    *sample = (Sample){0};
    for (int64_t i = 0; i < samples && status == 0; i++) {
        double run;
        hint("%s:%lld: run %lld of %lld ...", name, (long long)job->size, (long long)i + 1,
             (long long)samples);
        status = speed(job, &run);
        if (status == 0) sample_add(sample, run);
    }
    hint_clear();
    return status;
}

static int open_model(Bench *bench) {
    if (bench->open) return EXIT_DONE;
    int status = session_open(&bench->session, true);
    bench->open = status == EXIT_DONE;
    return status;
}

static Job job_new(Bench *bench, const Row *row, int64_t size) {
    Job job = {.row = row, .size = size};
    if (!row->of_model) {
        job.work = work_open(row, size);
        return job;
    }
    job.llama = bench->session.llama;
    uint64_t vocabulary = (uint64_t)llama_config(job.llama)->vocabulary, state = 1;
    job.logits = arena_array(bench->arena, float, vocabulary);
    job.ids = arena_array(bench->arena, int32_t, size);
    for (int64_t i = 0; i < size; i++) {  // any ids: a linear congruential generator, Knuth's
        state = state * 6364136223846793005 + 1442695040888963407;
        job.ids[i] = (int32_t)((state >> 33) % vocabulary);
    }
    return job;
}

// ---- rows --------------------------------------------------------------------------------------
// Bytes of a name that JSON would not take as they are become blanks.
static const char *json_name(Arena *arena, const char *name) {
    char *copy = arena_text(arena, name);
    for (char *at = copy; *at; at++)
        if (*at < ' ' || *at > '~' || *at == '"' || *at == '\\') *at = ' ';
    return copy;
}

static void add_runs(Text *to, const Sample *sample) {
    text_add(to, "[");
    for (int i = 0; i < sample->runs; i++) text_add(to, "%s%.4f", i ? ", " : "", sample->run[i]);
    text_add(to, "]");
}

static void add_json(Bench *bench, const char *name, const char *unit, const Sample *sample) {
    text_add(&bench->lines, "{\"row\": \"%s\", \"median\": %.4f, \"unit\": \"%s\", ", name,
             sample->median, unit);
    text_add(&bench->lines, "\"spread\": %.4f, \"runs\": ", sample->spread);
    add_runs(&bench->lines, sample);
    text_add(&bench->lines,
             ", \"version\": \"picograd %s\", \"cpu\": \"%s\", \"threads\": %d, \"mode\": \"%s\", "
             "\"isa\": \"%s\"}\n",
             PG_VERSION, json_name(bench->arena, cpu_name(bench->arena)), thread_count(),
             mode_name(), target()->name);
}

static int bench_row(Bench *bench, const char *name) {
    int64_t size;
    const Row *row = row_find(name, &size);
    Sample sample;
    int status = row->of_model ? open_model(bench) : EXIT_DONE;
    if (status != EXIT_DONE) return status;
    Job job = job_new(bench, row, size);
    int measured = measure(&job, bench->samples, &sample);
    work_close(&job.work);
    if (measured < 0) return failed();
    if (bench->json)
        add_json(bench, name, row->unit, &sample);
    else
        printf("%-14s %10.2f %-8s ±%5.1f %%   %s, %d thread%s, %s\n", name, sample.median,
               row->unit, 50 * sample.spread, mode_name(), thread_count(),
               thread_count() == 1 ? "" : "s", target()->name);
    fflush(stdout);
    return EXIT_DONE;
}

static int bench_rows(Bench *bench, int count, const char **name) {
    int64_t size;
    for (int i = 0; i < count; i++) {  // first whether all are right
        const Row *row = row_find(name[i], &size);
        if (!row) return EXIT_USAGE;
        if (!row->of_model) continue;
        if (!common.model)
            return usage_wrong("row %s is of a model. Try: -m smollm2, or -m random", name[i]);
        common.context = max_i64(common.context, size);
    }
    int status = common_apply();
    for (int i = 0; i < count && status == EXIT_DONE; i++) status = bench_row(bench, name[i]);
    if (status != EXIT_DONE || !bench->json) return status;
    if (!strcmp(bench->json, "-"))
        fputs(bench->lines.at, stdout);
    else if (file_write(bench->json, bench->lines.at, bench->lines.count) < 0)
        return failed();
    return EXIT_DONE;
}

// ---- a table like llama-bench's ----------------------------------------------------------------
typedef struct {
    const char *file, *type;  // "llama 135M Q4_1"
    int64_t bytes, values;
} ModelFacts;

static int64_t random_values(const LlamaConfig *config) {
    int64_t heads = 2 * (config->heads + config->key_heads) * config->head_size;
    int64_t layer = config->width * (heads + 3 * config->hidden + 2);
    return config->layers * layer + config->width * (config->vocabulary + 1);
}

static ModelFacts model_facts(Bench *bench) {
    const Gguf *gguf = bench->session.gguf;
    ModelFacts facts = {.file = common.model};
    int64_t of_type[64] = {0};
    int most = GGUF_Q4_1;
    facts.bytes = llama_weight_bytes(bench->session.llama);
    if (!gguf) facts.values = random_values(llama_config(bench->session.llama));
    for (int64_t i = 0; gguf && i < gguf_tensor_count(gguf); i++) {
        const GgufTensor *tensor = gguf_tensor(gguf, i);
        facts.values += tensor->shape[0] * tensor->shape[1] * tensor->shape[2] * tensor->shape[3];
        of_type[tensor->type] += tensor->bytes;
        if (of_type[tensor->type] > of_type[most]) most = tensor->type;
    }
    bool billions = facts.values >= 1000000000;
    facts.type = arena_print(bench->arena, "%s %.*f%s %s", gguf ? "llama" : "random", billions,
                             (double)facts.values / (billions ? 1e9 : 1e6), billions ? "B" : "M",
                             gguf_format(most)->name);
    return facts;
}

static double mean(const Sample *sample) {
    double sum = 0;
    for (int i = 0; i < sample->runs; i++) sum += sample->run[i];
    return sum / sample->runs;
}

static double deviation(const Sample *sample) {
    double sum = 0, middle = mean(sample);
    for (int i = 0; i < sample->runs; i++)
        sum += (sample->run[i] - middle) * (sample->run[i] - middle);
    return sample->runs > 1 ? sqrt(sum / (sample->runs - 1)) : 0;
}

static void print_md(const ModelFacts *facts, const char *test, const Sample *sample, int number) {
    if (number == 0)
        printf("| %-20s | %10s | %10s | %-7s | %7s | %8s | %18s |\n"
               "| -------------------- | ---------: | ---------: | ------- | ------: | -------: | "
               "-----------------: |\n",
               "model", "size", "params", "backend", "threads", "test", "t/s");
    printf("| %-20s | %6.2f MiB | %8.2f M | %-7s | %7d | %8s | %9.2f ± %6.2f |\n", facts->type,
           (double)facts->bytes / (1 << 20), (double)facts->values / 1e6, "CPU", thread_count(),
           test, sample->median, 0.5 * sample->spread * sample->median);
}

static void print_csv(const ModelFacts *facts, const char *test, const Sample *sample, int number) {
    if (number == 0)
        puts("model_filename,model_type,model_size,model_n_params,backends,n_threads,test,avg_ts,"
             "stddev_ts,median_ts");
    printf("\"%s\",\"%s\",%lld,%lld,\"CPU\",%d,\"%s\",%.4f,%.4f,%.4f\n", facts->file, facts->type,
           (long long)facts->bytes, (long long)facts->values, thread_count(), test, mean(sample),
           deviation(sample), sample->median);
}

static void add_table_json(Bench *bench, const ModelFacts *facts, const char *test, int64_t size,
                           const Sample *sample, int number) {
    Text *to = &bench->lines;
    bool prompt = test[0] == 'p';
    text_add(to, "%s  {\"cpu_info\": \"%s\", \"backends\": \"CPU\", ", number ? ",\n" : "[\n",
             json_name(bench->arena, cpu_name(bench->arena)));
    text_add(to, "\"model_filename\": \"%s\", \"model_type\": \"%s\", \"model_size\": %lld, ",
             json_name(bench->arena, facts->file), facts->type, (long long)facts->bytes);
    text_add(to, "\"model_n_params\": %lld, \"n_threads\": %d, \"mode\": \"%s\", ",
             (long long)facts->values, thread_count(), mode_name());
    text_add(to, "\"test\": \"%s\", \"n_prompt\": %lld, \"n_gen\": %lld, ", test,
             prompt ? (long long)size : 0, prompt ? 0 : (long long)size);
    text_add(to, "\"avg_ts\": %.4f, \"stddev_ts\": %.4f, \"median_ts\": %.4f, \"samples_ts\": ",
             mean(sample), deviation(sample), sample->median);
    add_runs(to, sample);
    text_add(to, "}");
}

static int bench_model(Bench *bench) {
    int64_t sizes[] = {bench->prompt, bench->predict};
    common.context = max_i64(1, max_i64(sizes[0], sizes[1]));
    int status = open_model(bench);
    if (status != EXIT_DONE) return status;
    ModelFacts facts = model_facts(bench);
    int printed = 0;
    for (int i = 0; i < 2; i++) {
        int64_t size;
        Sample sample;
        const char *row =
            arena_print(bench->arena, "%s:%lld", i ? "decode" : "prefill", (long long)sizes[i]);
        const char *test =
            arena_print(bench->arena, "%s%lld", i ? "tg" : "pp", (long long)sizes[i]);
        if (!sizes[i]) continue;
        Job job = job_new(bench, row_find(row, &size), sizes[i]);
        if (measure(&job, bench->samples, &sample) < 0) return failed();
        if (!strcmp(bench->form, "md"))
            print_md(&facts, test, &sample, printed);
        else if (!strcmp(bench->form, "csv"))
            print_csv(&facts, test, &sample, printed);
        else
            add_table_json(bench, &facts, test, sizes[i], &sample, printed);
        fflush(stdout);
        printed++;
    }
    if (bench->lines.count) printf("%s\n]\n", bench->lines.at);
    return EXIT_DONE;
}

static int bench_all(Bench *bench, int count, const char **name) {
    if (bench->list) {
        rows_add(&bench->lines, true);
        fputs(bench->lines.at, stdout);
        return EXIT_DONE;
    }
    if (strcmp(bench->form, "md") && strcmp(bench->form, "csv") && strcmp(bench->form, "json"))
        return usage_wrong("bench: -o %.60s: md, csv or json", bench->form);
    if (count) return bench_rows(bench, count, name);
    if (!common.model)
        return usage_wrong(
            "bench: what? Give a row (picograd bench --list) or a model (-m smollm2)");
    return bench_model(bench);
}

int run_bench(int count, char **argument) {
    Bench bench = {.form = "md", .prompt = 512, .predict = 128, .samples = 5};
    const char *name[32];
    // clang-format off
    const Option table[] = {
        {"--list", NULL, OPTION_FLAG, &bench.list, 0, 0, NULL, "say which rows there are"},
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
    if (bench.open) session_close(&bench.session);
    arena_free(bench.arena);
    return status;
}
