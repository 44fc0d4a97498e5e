/* generate.c - picograd generate: text in, text out.
 * In: a model and a prompt.  Out: the generated text alone on standard output, as it comes; all
 * else on standard error.
 * Invariant: what is shown is valid UTF-8 and never the beginning of the stop text.
 *   picograd generate -m smollm2 -p "Once upon a time" -n 64 --temp 0                            */
#define _GNU_SOURCE  // memmem
#include "cli/cli.h"
#include "engine/engine.h"
#include "runtime/runtime.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    Session session;
    Arena *arena;
    const char *prompt, *file, *stop;
    int64_t count;
    bool ids, chat;
    Sampling sampling;
    IdList history;  // the prompt, then what was generated
    int64_t prompt_count, generated;
    Text out;  // generated text, valid UTF-8
    size_t shown;
    Utf8Stream stream;
    double start, first, last;  // clock: before the prompt, at the first and the last token
    double *interval;           // seconds between tokens
    double prompt_compile;      // seconds
    Energy energy;
} Generate;

// ---- Ctrl-C ------------------------------------------------------------------------------------
static volatile sig_atomic_t interrupted;

static void on_interrupt(int number) {
    (void)number;
    interrupted = 1;
}

// The first one ends the text, the next one the process.
static void catch_interrupt(void) {
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
}

// ---- what is printed ---------------------------------------------------------------------------
static int show_bytes(const char *bytes, size_t count) {
    if (!count || (fwrite(bytes, 1, count, stdout) == count && !fflush(stdout))) return 0;
    return fail("cannot write standard output: %s", strerror(errno));
}

static int show_up_to(Generate *run, size_t end) {
    if (run->ids || end <= run->shown) return 0;
    size_t begin = run->shown;
    run->shown = end;
    return show_bytes(run->out.at + begin, end - begin);
}

// Where the stop text begins, else where text ends that cannot become it.
static size_t find_stop(const Generate *run, bool *found) {
    size_t stop = run->stop ? strlen(run->stop) : 0, end = run->out.count;
    size_t unseen = end - run->shown;  // what was shown holds no beginning of it
    if (!stop || !unseen) return end;
    const char *from = run->out.at + run->shown, *at = memmem(from, unseen, run->stop, stop);
    *found = at != NULL;
    if (at) return (size_t)(at - run->out.at);
    for (size_t held = stop < unseen ? stop : unseen; held > 0; held--)
        if (!memcmp(run->out.at + end - held, run->stop, held)) return end - held;
    return end;
}

// *stopped: the stop text has come up.
static int show_token(Generate *run, int32_t id, bool *stopped) {
    char number[16];
    int digits = snprintf(number, sizeof number, run->generated ? " %d" : "%d", id);
    if (run->ids && show_bytes(number, (size_t)digits) < 0) return -1;
    bool hidden = run->session.tokenizer && tokenizer_is_control(run->session.tokenizer, id);
    TextSpan piece = session_piece(&run->session, id);
    if (!hidden) utf8_push(&run->stream, piece.at, piece.length, &run->out);
    return show_up_to(run, find_stop(run, stopped));
}

static int show_end(Generate *run) {
    bool found = false;
    utf8_finish(&run->stream, &run->out);
    size_t end = find_stop(run, &found);
    if (show_up_to(run, found ? end : run->out.count) < 0) return -1;
    return run->ids || isatty(STDOUT_FILENO) ? show_bytes("\n", 1) : 0;
}

// ---- the loop ----------------------------------------------------------------------------------
static const char *busy(void) { return pg_mode() == PG_GRAPH ? "compiling ..." : "thinking ..."; }

// In pieces as large as llama's own, so that Ctrl-C need not wait for all of it.
static int read_prompt(Generate *run, float *logits) {
    enum { PIECE = 512 };
    for (int64_t done = 0; done < run->prompt_count && !interrupted;) {
        int64_t piece = min_i64(PIECE, run->prompt_count - done);
        if (done)
            hint("read %lld of %lld tokens ...", (long long)done, (long long)run->prompt_count);
        else
            hint("%s", busy());
        const int32_t *ids = run->history.at + done;
        done += piece;
        float *to = done == run->prompt_count ? logits : NULL;
        if (llama_forward(run->session.llama, ids, piece, to, NULL) < 0) return -1;
    }
    hint_clear();
    run->first = run->last = clock_seconds();  // until there is a token
    return 0;
}

static int next_logits(Generate *run, int32_t id, float *logits) {
    if (run->generated == 1 && pg_mode() == PG_GRAPH) hint(" %s", busy());
    int status = llama_forward(run->session.llama, &id, 1, logits, NULL);
    if (run->generated == 1) hint_clear();
    return status;
}

static int64_t tokens_wanted(const Generate *run) {
    int64_t context = llama_config(run->session.llama)->context;
    int64_t room = context - run->prompt_count;
    if (run->count > room)
        say("%lld tokens are asked for, %lld fit into the context of %lld. Hint: a larger -c",
            (long long)run->count, (long long)room, (long long)context);
    return run->count < 0 ? room : min_i64(run->count, room);
}

static void note_time(Generate *run) {
    double now = clock_seconds();
    if (run->generated == 0)
        run->first = now;
    else
        run->interval[run->generated - 1] = now - run->last;
    run->last = now;
    energy_note(&run->energy);
}

static int generate_tokens(Generate *run) {
    int64_t vocabulary = llama_config(run->session.llama)->vocabulary;
    int64_t wanted = tokens_wanted(run);
    float *logits = arena_array(run->arena, float, vocabulary);
    run->interval = arena_array(run->arena, double, wanted + 1);
    double compiled = engine_compile_seconds();
    energy_start(&run->energy, NULL);
    run->start = clock_seconds();
    if (read_prompt(run, logits) < 0) return -1;
    run->prompt_compile = engine_compile_seconds() - compiled;
    for (bool stopped = false; !stopped && !interrupted && run->generated < wanted;) {
        int32_t id = sampler_next(&run->sampling.sampler, logits, vocabulary, run->history.at,
                                  run->history.count);
        if (session_is_end(&run->session, id)) return 0;
        note_time(run);
        if (show_token(run, id, &stopped) < 0) return -1;
        *list_add(run->arena, &run->history) = id;
        run->generated++;
        bool more = !stopped && !interrupted && run->generated < wanted;
        if (more && next_logits(run, id, logits) < 0) return -1;
    }
    return 0;
}

// ---- what was measured -------------------------------------------------------------------------
static double per_second(int64_t count, double seconds) {
    return seconds > 0 ? (double)count / seconds : 0;
}

static Metrics measure(Generate *run) {
    int64_t intervals = max_i64(run->generated - 1, 0);
    double compile = engine_compile_seconds(), prefill = run->first - run->start;
    double decode = run->last - run->first - (compile - run->prompt_compile);
    Metrics metrics = {
        .load_ms = 1e3 * run->session.load_seconds,
        .compile_ms = 1e3 * compile,
        .ttft_ms = 1e3 * prefill,
        .prompt_tokens = run->prompt_count,
        .generated_tokens = run->generated,
        .prompt_tok_s = per_second(run->prompt_count, prefill - run->prompt_compile),
        .decode_tok_s = per_second(intervals, decode),
        .total_tok_s = per_second(run->generated, run->last - run->start),
        .weights_bytes = llama_weight_bytes(run->session.llama),
        .kv_bytes = llama_cache_bytes(run->session.llama),
        .energy_j = energy_joules(&run->energy),
    };
    metrics_intervals(&metrics, run->interval, intervals);
    return metrics;
}

// In a terminal, and where 2>&1 has led both into one log, the text is what stands before.
static bool one_output(void) {
    struct stat out, err;
    return !fstat(STDOUT_FILENO, &out) && !fstat(STDERR_FILENO, &err) && out.st_dev == err.st_dev &&
           out.st_ino == err.st_ino;
}

static void print_speed(const Metrics *metrics) {
    if (isatty(STDERR_FILENO) || one_output()) fputc('\n', stderr);
    char speed[64] = "";  // one token has no interval to the next
    if (metrics->generated_tokens > 1)
        snprintf(speed, sizeof speed, " at %.1f tokens/s", metrics->decode_tok_s);
    say("%lld prompt token%s at %.1f tokens/s, %lld generated%s", (long long)metrics->prompt_tokens,
        metrics->prompt_tokens == 1 ? "" : "s", metrics->prompt_tok_s,
        (long long)metrics->generated_tokens, speed);
    say("loaded in %.0f ms, compiled in %.0f ms, first token after %.0f ms; %s mode, %d thread%s, "
        "%s; peak memory %.0f MB",
        metrics->load_ms, metrics->compile_ms, metrics->ttft_ms, mode_name(), thread_count(),
        thread_count() == 1 ? "" : "s", target()->name, (double)peak_rss_bytes() / 1e6);
}

// ---- the prompt --------------------------------------------------------------------------------
// The system message that the model's template begins with unless the user gives one, if any:
// '<|im_start|>system\nYou are ...<|im_end|>\n' in its quotes.
static void add_system_message(const Gguf *gguf, Text *to) {
    static const char begin[] = "<|im_start|>system", end[] = "<|im_end|>";
    TextSpan template;
    if (!gguf || !gguf_find_key(gguf, "tokenizer.chat_template") ||
        gguf_text(gguf, "tokenizer.chat_template", &template) < 0)
        return;
    const char *limit = template.at + template.length;
    const char *at = memmem(template.at, template.length, begin, strlen(begin));
    const char *last = at ? memmem(at, (size_t)(limit - at), end, strlen(end)) : NULL;
    if (!last || memchr(at, '\'', (size_t)(last - at))) return;
    for (last += strlen(end); at < last; at++) {
        bool newline = at[0] == '\\' && at[1] == 'n';
        text_add_bytes(to, newline ? "\n" : at, 1);
        at += newline;
    }
    text_add(to, "\n");
}

static int add_chat(Generate *run, TextSpan *prompt) {
    const Tokenizer *tokenizer = run->session.tokenizer;
    if (tokenizer && tokenizer_find(tokenizer, "<|im_start|>") < 0)
        return fail("--chat: the model has no <|im_start|> token, so it does not know ChatML. "
                    "Leave --chat out");
    Text text = text_new(run->arena);
    add_system_message(run->session.gguf, &text);
    text_add(&text, "<|im_start|>user\n");
    text_add_bytes(&text, prompt->at, prompt->length);
    text_add(&text, "<|im_end|>\n<|im_start|>assistant\n");
    *prompt = (TextSpan){text.at, text.count};
    return 0;
}

static int encode_prompt(Generate *run, TextSpan prompt) {
    if (run->chat && add_chat(run, &prompt) < 0) return -1;
    IdList *ids = &run->history;
    if (session_encode(&run->session, run->arena, prompt.at, prompt.length, true, ids) < 0)
        return -1;
    int64_t context = llama_config(run->session.llama)->context;
    run->prompt_count = run->history.count;
    if (!run->prompt_count) return fail("the prompt is empty: there is nothing to continue");
    if (run->prompt_count + (run->count != 0) > context)
        return fail("the prompt has %lld tokens, which leave no room in a context of %lld. Give a "
                    "larger -c or a shorter prompt",
                    (long long)run->prompt_count, (long long)context);
    return 0;
}

static void print_start(const Generate *run) {
    const LlamaConfig *config = llama_config(run->session.llama);
    say("%lld layers of width %lld, %lld heads (%lld of keys), vocabulary %lld, context %lld; seed "
        "%llu",
        (long long)config->layers, (long long)config->width, (long long)config->heads,
        (long long)config->key_heads, (long long)config->vocabulary, (long long)config->context,
        (unsigned long long)run->sampling.sampler.state);
    fprintf(stderr, "picograd: prompt ids:");
    for (int32_t i = 0; i < run->history.count; i++) fprintf(stderr, " %d", run->history.at[i]);
    fputc('\n', stderr);
}

// What is printed is UTF-8; another stop text could be found inside a character.
static bool is_utf8(Arena *arena, const char *text) {
    Text valid = text_new(arena);
    Utf8Stream stream = {0};
    utf8_push(&stream, text, strlen(text), &valid);
    utf8_finish(&stream, &valid);
    return !strcmp(valid.at, text);
}

static int generate(Generate *run) {
    TextSpan prompt;
    if (run->stop && !is_utf8(run->arena, run->stop))
        return usage_wrong("generate: --stop is not valid UTF-8, so it could never come up");
    int status = prompt_read(run->arena, run->prompt, run->file, &prompt);
    if (status == EXIT_DONE) status = session_open(&run->session, true);
    if (status == EXIT_DONE) status = sampling_open(&run->sampling, run->arena, &run->session);
    if (status != EXIT_DONE) return status;
    if (!run->session.gguf) say("these are random weights: the words mean nothing");
    if (encode_prompt(run, prompt) < 0) return failed();
    if (common.verbose) print_start(run);
    catch_interrupt();
    int done = generate_tokens(run);
    hint_clear();
    if (done < 0 && !interrupted) return failed();  // Ctrl-C reaches a compiler at work, too
    if (show_end(run) < 0) return failed();
    Metrics metrics = measure(run);
    print_speed(&metrics);
    if (common.metrics && metrics_write(common.metrics, &metrics) < 0) return failed();
    return interrupted ? EXIT_INTERRUPTED : EXIT_DONE;
}

int run_generate(int count, char **argument) {
    Generate run = {.count = -1, .sampling = SAMPLING_DEFAULTS};
    // clang-format off
    const Option table[] = {
        MODEL_OPTION,
        {"--prompt", "-p", OPTION_TEXT, &run.prompt, 0, 0, "TEXT",
         "what to continue; - reads standard input"},
        {"--file", "-f", OPTION_TEXT, &run.file, 0, 0, "FILE", "the same, from a file"},
        {"--predict", "-n", OPTION_INT, &run.count, -1, 1 << 24, "N",
         "tokens at most (-1: until the model ends the text or the context is full)"},
        CONTEXT_OPTION,
        {"--chat", NULL, OPTION_FLAG, &run.chat, 0, 0, NULL,
         "ask: put the prompt into the model's chat template (ChatML)"},
        SAMPLER_OPTIONS(run.sampling),
        {"--stop", NULL, OPTION_TEXT, &run.stop, 0, 0, "TEXT", "end before this text"},
        {"--ids", NULL, OPTION_FLAG, &run.ids, 0, 0, NULL,
         "print token ids, on one line, instead of text"},
        RUN_OPTIONS, METRICS_OPTION,
    };
    // clang-format on
    int rests, parsed = OPTIONS_PARSE("generate", table, count, argument, 0, NULL, &rests);
    if (parsed) return parsed < 0 ? EXIT_USAGE : EXIT_DONE;
    run.arena = arena_new();
    run.out = text_new(run.arena);
    int status = generate(&run);
    sampling_close(&run.sampling);
    session_close(&run.session);
    arena_free(run.arena);
    return status;
}
