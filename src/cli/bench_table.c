/* bench_table.c - picograd bench -m MODEL: a table with the names of llama-bench's.
 * In: a model, tokens of a prompt and tokens one by one.  Out: md, csv or JSON.
 *   -m smollm2 -p 512 -n 128   =>   | llama 135M Q4_1 | ... | pp512 | 408.10 ± 3.52 |            */
#include "cli/bench.h"
#include "runtime/runtime.h"

#include <math.h>
#include <string.h>

typedef struct {
    const char *file, *type;  // "llama 135M Q4_1"
    int64_t bytes, values;
} ModelFacts;

static int64_t random_values(const LlamaConfig *config) {
    int64_t heads = 2 * (config->heads + config->key_heads) * config->head_size;
    int64_t layer = config->width * (heads + 3 * config->hidden + 2);
    return config->layers * layer + config->width * (config->vocabulary + 1);
}

static ModelFacts model_facts(Bench *bench, const Session *session) {
    const Gguf *gguf = session->gguf;
    ModelFacts facts = {.file = common.model};
    int64_t of_type[64] = {0};
    int most = gguf ? GGUF_Q4_1 : random_model_find(common.model)->type;
    facts.bytes = llama_weight_bytes(session->llama);
    if (!gguf) facts.values = random_values(llama_config(session->llama));
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
    text_add(to, "%s  {\"cpu_info\": ", number ? ",\n" : "[\n");
    quote_json_text(to, cpu_name(bench->arena));
    text_add(to, ", \"backends\": \"CPU\", \"model_filename\": ");
    quote_json_text(to, facts->file);
    text_add(to, ", \"model_type\": \"%s\", \"model_size\": %lld, ", facts->type,
             (long long)facts->bytes);
    text_add(to, "\"model_n_params\": %lld, \"n_threads\": %d, \"mode\": \"%s\", ",
             (long long)facts->values, thread_count(), mode_name());
    text_add(to, "\"test\": \"%s\", \"n_prompt\": %lld, \"n_gen\": %lld, ", test,
             prompt ? (long long)size : 0, prompt ? 0 : (long long)size);
    text_add(to, "\"avg_ts\": %.4f, \"stddev_ts\": %.4f, \"median_ts\": %.4f, \"samples_ts\": ",
             mean(sample), deviation(sample), sample->median);
    bench_add_runs(to, sample);
    text_add(to, "}");
}

static void show(Bench *bench, const ModelFacts *facts, int64_t size, bool decode,
                 const Sample *sample, int number) {
    const char *test = arena_print(bench->arena, "%s%lld", decode ? "tg" : "pp", (long long)size);
    if (!strcmp(bench->form, "md"))
        print_md(facts, test, sample, number);
    else if (!strcmp(bench->form, "csv"))
        print_csv(facts, test, sample, number);
    else
        add_table_json(bench, facts, test, size, sample, number);
    fflush(stdout);
}

static int show_all(Bench *bench, const Session *session) {
    ModelFacts facts = model_facts(bench, session);
    int64_t sizes[] = {bench->prompt, bench->predict};
    int printed = 0;
    for (int i = 0; i < COUNT_OF(sizes); i++) {
        Row row;
        Measured measured;
        const char *name =
            arena_print(bench->arena, "%s:%lld", i ? "decode" : "prefill", (long long)sizes[i]);
        if (!sizes[i]) continue;
        if (row_find(name, &row) < 0) return EXIT_USAGE;
        int status = measure_model(bench, &row, session, &measured);
        if (status != EXIT_DONE) return status;
        show(bench, &facts, sizes[i], i, &measured.sample, printed++);
    }
    if (bench->lines.count) printf("%s\n]\n", bench->lines.at);
    return EXIT_DONE;
}

int bench_table(Bench *bench) {
    Session session;
    common.context = max_i64(1, max_i64(bench->prompt, bench->predict));
    int status = session_open(&session, true);
    if (status != EXIT_DONE) return status;
    status = show_all(bench, &session);
    session_close(&session);
    return status;
}
