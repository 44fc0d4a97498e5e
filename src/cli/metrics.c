/* metrics.c - what a run measured, as JSON.
 * In: Metrics.  Out: a file that holds one object, whole or not at all.
 *   --metrics run.json   =>   {"load_ms": 12.1, ..., "isa": "avx2"}                              */
#include "cli/cli.h"
#include "engine/engine.h"
#include "runtime/runtime.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void metrics_intervals(Metrics *metrics, double *seconds, int64_t count) {
    if (!count) return;
    qsort(seconds, (size_t)count, sizeof *seconds, by_size);
    metrics->itl_p50_ms = 1e3 * seconds[(count - 1) / 2];
    metrics->itl_p95_ms = 1e3 * seconds[(95 * count - 1) / 100];  // 95 of 100 are not longer
    metrics->itl_max_ms = 1e3 * seconds[count - 1];
}

double per_second(double count, double seconds) { return seconds > 0 ? count / seconds : 0; }

int64_t peak_rss_bytes(void) {
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) ? 0 : (int64_t)usage.ru_maxrss * 1024;
}

// Asked before the work, whose result would be lost otherwise.
int metrics_check(const char *path) {
    if (!*path || !strcmp(path, "-"))
        return fail("--metrics takes a file, not '%s'; /dev/stderr is one", path);
    Arena *arena = arena_new();
    const char *slash = strrchr(path, '/');
    const char *folder = slash ? arena_print(arena, "%.*s", (int)(slash + 1 - path), path) : ".";
    bool there = !access(path, F_OK);
    int error = access(there ? path : folder, W_OK) ? errno : 0;
    if (slash && !slash[1]) error = EISDIR;
    arena_free(arena);
    return error ? fail("cannot write --metrics %s: %s", path, strerror(error)) : 0;
}

// null: could not be read.
static void add_energy(Text *to, const Metrics *metrics) {
    if (!(metrics->energy_j > 0)) {
        text_add(to, "  \"energy_j\": null,\n  \"tokens_per_j\": null,\n");
        return;
    }
    text_add(to, "  \"energy_j\": %.3f,\n  \"tokens_per_j\": %.4f,\n", metrics->energy_j,
             (double)metrics->generated_tokens / metrics->energy_j);
}

int metrics_write(const char *path, const Metrics *metrics) {
    Arena *arena = arena_new();
    Text text = text_new(arena);
    text_add(&text, "{\n  \"load_ms\": %.3f,\n  \"compile_ms\": %.3f,\n  \"ttft_ms\": %.3f,\n",
             metrics->load_ms, metrics->compile_ms, metrics->ttft_ms);
    text_add(&text, "  \"itl_ms\": {\"p50\": %.3f, \"p95\": %.3f, \"max\": %.3f},\n",
             metrics->itl_p50_ms, metrics->itl_p95_ms, metrics->itl_max_ms);
    text_add(&text,
             "  \"prompt_tokens\": %lld,\n  \"generated_tokens\": %lld,\n  \"steps\": %lld,\n",
             (long long)metrics->prompt_tokens, (long long)metrics->generated_tokens,
             (long long)metrics->steps);
    text_add(&text,
             "  \"prompt_tok_s\": %.3f,\n  \"decode_tok_s\": %.3f,\n  \"total_tok_s\": %.3f,\n",
             metrics->prompt_tok_s, metrics->decode_tok_s, metrics->total_tok_s);
    text_add(&text,
             "  \"peak_rss_bytes\": %lld,\n  \"weights_bytes\": %lld,\n  \"kv_bytes\": %lld,\n",
             (long long)peak_rss_bytes(), (long long)metrics->weights_bytes,
             (long long)metrics->kv_bytes);
    add_energy(&text, metrics);
    text_add(&text, "  \"mode\": \"%s\",\n  \"device\": \"%s\",\n  \"precision\": \"%s\",\n",
             mode_name(), device()->name, engine_tf32() ? "tf32" : "fp32");
    text_add(&text, "  \"threads\": %d,\n  \"isa\": \"%s\"\n}\n", thread_count(), target()->name);
    int status = file_write(path, text.at, text.count);
    arena_free(arena);
    return status;
}
