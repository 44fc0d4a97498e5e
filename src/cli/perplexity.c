/* perplexity.c - picograd perplexity: how badly a model predicts a text.
 * In: ids[0 .. count).  Out: mean over t = 1 .. count-1 of -log p(ids[t] | ids[0 .. t)), in nats.
 *   picograd perplexity -m smollm2 -f text.txt --ctx 256   =>   3.822298                         */
#include "cli/cli.h"
#include "engine/engine.h"

#include <math.h>
#include <unistd.h>

// -log softmax(row)[id]
static double token_loss(const float *row, int64_t vocabulary, int32_t id) {
    double top = row[0], sum = 0;
    for (int64_t i = 1; i < vocabulary; i++)
        if (row[i] > top) top = row[i];
    for (int64_t i = 0; i < vocabulary; i++) sum += exp(row[i] - top);
    return top + log(sum) - row[id];
}

static int mean_loss(Llama *llama, const int32_t *ids, int64_t count, double *loss) {
    enum { PIECE = 64 };
    int64_t vocabulary = llama_config(llama)->vocabulary;
    Arena *arena = arena_new();
    float *logits = arena_array(arena, float, PIECE *vocabulary);
    double sum = 0;
    int status = 0;
    hint("%s", pg_mode() == PG_GRAPH ? "compiling ..." : "0 tokens ...");
    for (int64_t done = 0; done < count - 1 && status == 0;) {
        int64_t piece = min_i64(PIECE, count - 1 - done);
        status = llama_forward(llama, ids + done, piece, NULL, logits);
        for (int64_t i = 0; i < piece && status == 0; i++)
            sum += token_loss(logits + i * vocabulary, vocabulary, ids[done + i + 1]);
        done += piece;
        hint("%lld of %lld tokens, %.4f so far", (long long)done, (long long)count - 1,
             sum / (double)done);
    }
    hint_clear();
    *loss = sum / (double)(count - 1);
    arena_free(arena);
    return status;
}

static int write_metrics(const Session *session, int64_t count, double seconds) {
    if (!common.metrics) return 0;
    double compile = engine_compile_seconds();
    Metrics metrics = {
        .load_ms = 1e3 * session->load_seconds,
        .compile_ms = 1e3 * compile,
        .prompt_tokens = count,
        .prompt_tok_s = seconds > compile ? (double)count / (seconds - compile) : 0,
        .weights_bytes = llama_weight_bytes(session->llama),
        .kv_bytes = llama_cache_bytes(session->llama),
    };
    return metrics_write(common.metrics, &metrics);
}

static int perplexity(Arena *arena, Session *session, const char *file, int64_t tokens) {
    IdList ids = {0};
    TextSpan text;
    double loss, start = clock_seconds();
    if (!file) return usage_wrong("which text? Give -f FILE");
    int status = prompt_read(arena, NULL, file, &text);
    if (status != EXIT_DONE) return status;
    common.context = min_i64(tokens, 3 * (int64_t)text.length + 2);  // a byte is 3 tokens at most
    status = session_open(session, true);
    if (status != EXIT_DONE) return status;
    if (session_encode(session, arena, text.at, text.length, false, &ids) < 0) return failed();
    int64_t count = min_i64(tokens, ids.count);
    if (count < 2) {
        fail("%s has %d tokens; at least 2 are needed", file, ids.count);
        return failed();
    }
    if (count < tokens) say("%s has only %lld tokens; all are used", file, (long long)count);
    if (mean_loss(session->llama, ids.at, count, &loss) < 0) return failed();
    printf("%.6f\n", loss);
    if (common.verbose) say("perplexity %.4f over %lld tokens", exp(loss), (long long)count - 1);
    double seconds = clock_seconds() - start - session->load_seconds;
    return write_metrics(session, count - 1, seconds) < 0 ? failed() : EXIT_DONE;
}

int run_perplexity(int count, char **argument) {
    const char *file = NULL;
    int64_t tokens = 512;
    // clang-format off
    const Option table[] = {
        MODEL_OPTION,
        {"--file", "-f", OPTION_TEXT, &file, 0, 0, "FILE", "the text"},
        {"--ctx", NULL, OPTION_INT, &tokens, 2, 1 << 24, "N", "over its first N tokens (512)"},
        RUN_OPTIONS,
        METRICS_OPTION,
    };
    // clang-format on
    int rests, parsed = OPTIONS_PARSE("perplexity", table, count, argument, 0, NULL, &rests);
    if (parsed) return parsed < 0 ? EXIT_USAGE : EXIT_DONE;
    Arena *arena = arena_new();
    Session session = {0};
    int status = perplexity(arena, &session, file, tokens);
    session_close(&session);
    arena_free(arena);
    return status;
}
