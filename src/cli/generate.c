/* generate.c - picograd generate: text in, text out.
 * In: a model and a prompt.  Out: the generated text alone on standard output, as it comes; all
 * else on standard error.
 * Invariant: a text is shown once, as generation.c gives it out.
 *   picograd generate -m smollm2 -p "Once upon a time" -n 64 --temp 0                            */
#include "cli/cli.h"
#include "engine/engine.h"
#include "runtime/runtime.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    Session session;
    Arena *arena;
    const char *prompt, *prompt_ids, *file, *stop, *state, *on_full, *template_name, *system;
    int64_t count, keep, parallel;
    bool ids, chat, lookup;
    Sampling sampling;
    IdList tokens;  // of the prompt
    Generation *generation;
    GenerationResult result;
    int64_t shown;  // tokens
    bool lost;      // what was shown could not be written
    Energy energy;
} Generate;

// ---- what is printed ---------------------------------------------------------------------------
static bool print_bytes(const char *bytes, size_t count) {
    if (!count || (fwrite(bytes, 1, count, stdout) == count && !fflush(stdout))) return true;
    fail("cannot write standard output: %s", strerror(errno));
    return false;
}

static const char *busy(void) { return pg_mode() == PG_GRAPH ? "compiling ..." : "thinking ..."; }

// What is compiled for the second token shows as a hint behind the first.
static bool show(void *context, int32_t id, TextSpan text) {
    Generate *run = context;
    char number[16];
    int digits = snprintf(number, sizeof number, run->shown ? " %d" : "%d", id);
    hint_clear();
    energy_note(&run->energy);
    bool done = run->ids ? id < 0 || print_bytes(number, (size_t)digits)
                         : print_bytes(text.at, text.length);
    run->shown += id >= 0;
    run->lost |= !done;
    if (done && id >= 0 && run->shown == 1 && pg_mode() == PG_GRAPH) hint(" %s", busy());
    return done && !interrupted();
}

static bool reading(void *context, int64_t done, int64_t count) {
    (void)context;
    if (done)
        hint("read %lld of %lld tokens ...", (long long)done, (long long)count);
    else
        hint("%s", busy());
    return !interrupted();
}

// ---- what was measured -------------------------------------------------------------------------
static Metrics measure(Generate *run) {
    const GenerationResult *result = &run->result;
    int64_t intervals = max_i64(result->count - 1, 0);
    double decode = result->seconds - result->first_seconds;
    decode -= result->compile_seconds - result->prompt_compile_seconds;
    Metrics metrics = {
        .load_ms = 1e3 * run->session.load_seconds,
        .compile_ms = 1e3 * engine_compile_seconds(),
        .ttft_ms = 1e3 * result->first_seconds,
        .prompt_tokens = result->prompt_count,
        .generated_tokens = result->count,
        .steps = result->steps,
        .prompt_tok_s = per_second((double)result->prompt_count,
                                   result->first_seconds - result->prompt_compile_seconds),
        .decode_tok_s = per_second((double)intervals, decode),
        .total_tok_s = per_second((double)result->count, result->seconds),
        .weights_bytes = llama_weight_bytes(run->session.llama),
        .kv_bytes = llama_cache_bytes(run->session.llama),
        .energy_j = energy_joules(&run->energy),
    };
    metrics_intervals(&metrics, result->interval, intervals);
    return metrics;
}

// In a terminal, and where 2>&1 has led both into one log, the text is what stands before.
static bool one_output(void) {
    struct stat out, err;
    return !fstat(STDOUT_FILENO, &out) && !fstat(STDERR_FILENO, &err) && out.st_dev == err.st_dev &&
           out.st_ino == err.st_ino;
}

void print_speed(const Metrics *metrics) {
    if (isatty(STDERR_FILENO) || one_output()) fputc('\n', stderr);
    char speed[64] = "";  // one token has no interval to the next
    if (metrics->decode_tok_s > 0)
        snprintf(speed, sizeof speed, " at %.1f tokens/s", metrics->decode_tok_s);
    say("%lld prompt token%s at %.1f tokens/s, %lld generated%s", (long long)metrics->prompt_tokens,
        metrics->prompt_tokens == 1 ? "" : "s", metrics->prompt_tok_s,
        (long long)metrics->generated_tokens, speed);
    say("loaded in %.0f ms, compiled in %.0f ms, first token after %.0f ms; %s mode, %d thread%s, "
        "%s; peak memory %.0f MB",
        metrics->load_ms, metrics->compile_ms, metrics->ttft_ms, mode_name(), thread_count(),
        thread_count() == 1 ? "" : "s",
        device()->kind == DEVICE_CPU ? target()->name : device()->name,
        (double)peak_rss_bytes() / 1e6);
}

// ---- the prompt --------------------------------------------------------------------------------
static int encode_chat(Generate *run, TextSpan prompt) {
    const Session *session = &run->session;
    if (!session->gguf)
        return fail("--chat: random weights know no conversation. Leave --chat out");
    Template *template =
        template_open(run->arena, session->gguf, session->tokenizer, run->template_name);
    if (!template) return -1;
    Message system = {BY_SYSTEM, run->system, run->system ? strlen(run->system) : 0};
    Message messages[] = {system, {BY_USER, prompt.at, prompt.length}};
    return template_encode(template, session->tokenizer, run->arena, messages + !run->system,
                           1 + (run->system != NULL), 0, -1, &run->tokens);
}

static int encode_prompt(Generate *run, TextSpan prompt) {
    int64_t vocabulary = llama_config(run->session.llama)->vocabulary;
    if (run->prompt_ids)
        return ids_read(run->arena, "--prompt-ids", run->prompt_ids, " ,", vocabulary,
                        &run->tokens);
    int status = run->chat ? encode_chat(run, prompt)
                           : session_encode(&run->session, run->arena, prompt.at, prompt.length,
                                            true, &run->tokens);
    return status < 0 ? failed() : EXIT_DONE;
}

static int check_prompt(const Generate *run) {
    const IdList *ids = &run->tokens;
    int64_t context = llama_config(run->session.llama)->context;
    if (!ids->count) return fail("the prompt is empty: there is nothing to continue");
    if (ids->count + (run->count != 0) > context)
        return fail("the prompt has %d tokens, which leave no room in a context of %lld. Give a "
                    "larger -c or a shorter prompt",
                    ids->count, (long long)context);
    bool ends = !run->on_full || strcmp(run->on_full, "shift") != 0;
    if (ends && run->count > context - ids->count)
        say("%lld tokens are asked for, %lld fit into the context of %lld. Hint: a larger -c, or "
            "--on-full shift",
            (long long)run->count, (long long)(context - ids->count), (long long)context);
    return 0;
}

// What the state file has of the prompt need not be read again, but for the last token, whose
// logits are wanted.
static int resume(Generate *run) {
    const IdList *ids = &run->tokens, *kept = generation_history(run->generation);
    int32_t same = 0;
    TextSpan extra;
    if (run->state && !access(run->state, F_OK) &&
        generation_restore(run->generation, run->state, run->arena, &extra) < 0)
        return -1;
    while (same < kept->count && same < ids->count - 1 && kept->at[same] == ids->at[same]) same++;
    generation_rewind(run->generation, same);
    generation_add(run->generation, ids->at + same, ids->count - same);
    if (same && common.verbose)
        say("%d of %d prompt tokens are in %s", same, ids->count, run->state);
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
    for (int32_t i = 0; i < run->tokens.count; i++) fprintf(stderr, " %d", run->tokens.at[i]);
    fputc('\n', stderr);
}

// ---- the run -----------------------------------------------------------------------------------
static int generate_text(Generate *run) {
    GenerationHow how = {.sampler = &run->sampling.sampler,
                         .count = run->count,
                         .stop = run->stop,
                         .shift = run->on_full && !strcmp(run->on_full, "shift"),
                         .keep = run->keep < 0 ? run->tokens.count : run->keep,
                         .lookup = run->lookup,
                         .show = show,
                         .reading = reading,
                         .context = run};
    run->generation = generation_new(run->session.llama, run->session.tokenizer);
    if (resume(run) < 0) return -1;
    interrupt_catch();
    energy_start(&run->energy, NULL);
    int status = generation_run(run->generation, &how, &run->result);
    hint_clear();
    if (run->lost || (status < 0 && !interrupted())) return -1;  // Ctrl-C reaches a compiler, too
    if ((run->ids || isatty(STDOUT_FILENO)) && !print_bytes("\n", 1)) return -1;
    if (run->result.end == GENERATION_FULL && run->count < 0)
        say("the context of %lld tokens is full. Hint: a larger -c, or --on-full shift",
            (long long)llama_config(run->session.llama)->context);
    if (run->state && generation_save(run->generation, run->state, (TextSpan){"", 0}) < 0)
        return -1;
    Metrics metrics = measure(run);
    print_speed(&metrics);
    return common.metrics ? metrics_write(common.metrics, &metrics) : 0;
}

static int generate_parallel(Generate *run, TextSpan prompts) {
    Parallel parallel = {.session = &run->session,
                         .sampler = &run->sampling.sampler,
                         .count = run->count,
                         .ids = run->ids};
    parallel_lines(&parallel, run->arena, prompts);
    common.sequences = min_i64(run->parallel, parallel.lines);
    if (!parallel.lines) return usage_wrong("generate: --parallel: there is no prompt in the file");
    int status = session_open(&run->session, true);
    if (status == EXIT_DONE) status = sampling_open(&run->sampling, run->arena, &run->session);
    if (status != EXIT_DONE) return status;
    interrupt_catch();
    if (parallel_run(&parallel) < 0) return failed();
    return interrupted() ? EXIT_INTERRUPTED : EXIT_DONE;
}

// What is printed is UTF-8; another stop text could be found inside a character.
static bool is_utf8(Arena *arena, const char *text) {
    Text valid = text_new(arena);
    Utf8Stream stream = {0};
    utf8_push(&stream, text, strlen(text), &valid);
    utf8_finish(&stream, &valid);
    return !strcmp(valid.at, text);
}

static int check_options(const Generate *run) {
    if (run->stop && !is_utf8(run->arena, run->stop))
        return usage_wrong("generate: --stop is not valid UTF-8, so it could never come up");
    if ((run->template_name || run->system) && !run->chat)
        return usage_wrong("generate: --chat-template and --system are for --chat");
    if (run->prompt_ids && (run->prompt || run->file || run->chat || run->parallel))
        return usage_wrong("generate: --prompt-ids is the whole prompt: leave -p, -f, --chat and "
                           "--parallel out");
    if (run->on_full && strcmp(run->on_full, "stop") && strcmp(run->on_full, "shift"))
        return usage_wrong("generate: --on-full %.60s: stop or shift", run->on_full);
    if (run->parallel && (run->stop || run->state || run->chat || run->lookup || run->on_full))
        return usage_wrong("generate: --parallel goes without --stop, --state, --chat, --lookup "
                           "and --on-full");
    return EXIT_DONE;
}

static int generate(Generate *run) {
    TextSpan prompt = {0};
    int status = check_options(run);
    common.ids = run->prompt_ids;
    if (status == EXIT_DONE && !run->prompt_ids)
        status = prompt_read(run->arena, run->prompt, run->file, &prompt);
    if (status == EXIT_DONE && run->parallel) return generate_parallel(run, prompt);
    if (status == EXIT_DONE) status = session_open(&run->session, true);
    if (status == EXIT_DONE) status = sampling_open(&run->sampling, run->arena, &run->session);
    if (status == EXIT_DONE && !run->session.gguf && !run->chat)
        say("these are random weights: the words mean nothing");
    if (status == EXIT_DONE) status = encode_prompt(run, prompt);
    if (status != EXIT_DONE) return status;
    if (check_prompt(run) < 0) return failed();
    run->ids |= run->prompt_ids && !run->session.tokenizer;
    if (common.verbose) print_start(run);
    if (generate_text(run) < 0) return failed();
    return interrupted() ? EXIT_INTERRUPTED : EXIT_DONE;
}

int run_generate(int count, char **argument) {
    Generate run = {.count = -1, .sampling = SAMPLING_DEFAULTS};
    // clang-format off
    const Option table[] = {
        MODEL_OPTION,
        {"--prompt", "-p", OPTION_TEXT, &run.prompt, 0, 0, "TEXT",
         "what to continue; - reads standard input"},
        {"--file", "-f", OPTION_TEXT, &run.file, 0, 0, "FILE", "the same, from a file"},
        {"--prompt-ids", NULL, OPTION_TEXT, &run.prompt_ids, 0, 0, "IDS",
         "the prompt as token ids: \"504 4587 30\" or 504,4587,30; where there is no tokenizer, "
         "ids are printed"},
        {"--predict", "-n", OPTION_INT, &run.count, -1, 1 << 24, "N",
         "tokens at most (-1: until the model ends the text or the context is full)"},
        CONTEXT_OPTION,
        {"--on-full", NULL, OPTION_TEXT, &run.on_full, 0, 0, "HOW",
         "when the context is full: stop (the default), or shift: forget the older half"},
        {"--keep", NULL, OPTION_INT, &run.keep, -1, 1 << 24, "N",
         "with shift: never forget the first N tokens; -1: the prompt (0)"},
        {"--chat", NULL, OPTION_FLAG, &run.chat, 0, 0, NULL,
         "ask: put the prompt into the model's chat template"},
        CHAT_OPTIONS(run.template_name, run.system),
        SAMPLER_OPTIONS(run.sampling),
        {"--stop", NULL, OPTION_TEXT, &run.stop, 0, 0, "TEXT", "end before this text"},
        {"--lookup", NULL, OPTION_FLAG, &run.lookup, 0, 0, NULL,
         "guess tokens from what the text repeats: the same text, sooner where it does"},
        {"--state", NULL, OPTION_TEXT, &run.state, 0, 0, "FILE",
         "keep the cache of keys and values there: what another prompt begins with as this one "
         "did is not read again"},
        {"--parallel", NULL, OPTION_INT, &run.parallel, 1, 256, "N",
         "continue each line of the prompt, N of them in one step"},
        {"--ids", NULL, OPTION_FLAG, &run.ids, 0, 0, NULL,
         "print token ids, on one line, instead of text"},
        RUN_OPTIONS, METRICS_OPTION,
    };
    // clang-format on
    int rests, parsed = OPTIONS_PARSE("generate", table, count, argument, 0, NULL, &rests);
    if (parsed) return parsed < 0 ? EXIT_USAGE : EXIT_DONE;
    run.arena = arena_new();
    int status = generate(&run);
    generation_free(run.generation);
    sampling_close(&run.sampling);
    session_close(&run.session);
    arena_free(run.arena);
    return status;
}
