/* session.c - a model, opened as the options that commands share say.
 * In: common.  Out: tokenizer and llama, ready.
 * Invariant: every refusal is one line and an exit status.
 *   common.model = "smollm2"; session_open(&session, true)   =>   EXIT_DONE                      */
#include "cli/cli.h"
#include "engine/engine.h"
#include "runtime/runtime.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

Common common;

static bool is_one_of(const char *word, const char *one, const char *other) {
    return !word || !strcmp(word, one) || (other && !strcmp(word, other));
}

int common_apply(void) {
    if (common.device && !device_is_name(common.device))
        return usage_wrong("--device %.60s: cpu, cuda, cuda:N or simt", common.device);
    if (!is_one_of(common.precision, "fp32", "tf32"))
        return usage_wrong("--precision %.60s: fp32 or tf32", common.precision);
    if (!is_one_of(common.mode, "graph", "eager"))
        return usage_wrong("--mode %.60s: graph or eager", common.mode);
    if (common.device && device_set(common.device) < 0) return failed();
    if (common.mode) pg_set_mode(strcmp(common.mode, "eager") ? PG_GRAPH : PG_EAGER);
    if (common.threads) thread_set_count((int)common.threads);
    if (common.precision) engine_set_tf32(!strcmp(common.precision, "tf32"));
    if (engine_tf32() && !target()->amx && common.verbose)
        say("tf32 is computed as fp32: this CPU has no AMX that a process may use");
    target(), thread_count(),
        device();  // refuse PG_ISA, PG_THREADS, PG_DEVICE here, before any work
    return common.metrics && metrics_check(common.metrics) < 0 ? failed() : EXIT_DONE;
}

const char *mode_name(void) { return pg_mode() == PG_EAGER ? "eager" : "graph"; }

static int open_file(Session *session, bool with_weights) {
    ModelFiles files;
    int status = model_open_files(&files, common.model, common.ids, with_weights, common.context,
                                  max_i64(1, common.sequences));
    session->gguf = files.gguf;
    session->tokenizer = files.tokenizer;
    session->llama = files.llama;
    return status;
}

static int which_model(void) {
    return usage_wrong("which model? Try: -m smollm2 (first: picograd models pull smollm2)");
}

int session_open(Session *session, bool with_weights) {
    double start = clock_seconds();
    *session = (Session){0};
    int status = common_apply();
    if (status != EXIT_DONE) return status;
    if (!common.model) return which_model();
    const RandomModel *random = random_model_find(common.model);
    if (random) {
        int64_t sequences = max_i64(1, common.sequences);
        if (with_weights && !(session->llama = llama_random(random, common.context, sequences, 1)))
            return failed();
    } else if (open_file(session, with_weights) < 0) {
        session_close(session);
        return failed();
    }
    session->load_seconds = clock_seconds() - start;
    return EXIT_DONE;
}

void session_close(Session *session) {
    model_close_files(&(ModelFiles){session->gguf, session->tokenizer, session->llama});
    *session = (Session){0};
}

int session_encode(const Session *session, Arena *arena, const char *text, size_t length,
                   bool special, IdList *ids) {
    int flags = TOKENIZE_BOS | (special ? TOKENIZE_SPECIAL : 0);
    if (session->tokenizer)
        return tokenizer_encode(session->tokenizer, arena, text, length, flags, ids);
    for (size_t i = 0; i < length; i++) *list_add(arena, ids) = (uint8_t)text[i];
    return 0;
}

bool session_is_end(const Session *session, int32_t id) {
    return session->tokenizer && tokenizer_is_end(session->tokenizer, id);
}

int prompt_read(Arena *arena, const char *prompt, const char *file, TextSpan *text) {
    if (!common.model) return which_model();  // before a text is waited for
    if (prompt && file) return usage_wrong("-p and -f are both given; one is enough");
    if (!prompt && !file)
        return usage_wrong("which text? Give -p TEXT, -p - for standard input, or -f FILE");
    *text = (TextSpan){prompt, prompt ? strlen(prompt) : 0};
    if (!file && strcmp(prompt, "-")) return EXIT_DONE;
    if (!file && isatty(STDIN_FILENO)) say("type the prompt; Ctrl-D on an empty line ends it");
    text->at = file_read(arena, file, &text->length);
    return text->at ? EXIT_DONE : failed();
}

int ids_read(Arena *arena, const char *option, const char *list, const char *between, int64_t count,
             IdList *ids) {
    for (const char *at = list + strspn(list, between), *end; *at;
         at = end + strspn(end, between)) {
        char *rest;
        errno = 0;
        long id = strtol(at, &rest, 10);
        end = rest;
        if (end == at || errno || (*end && !strchr(between, *end)))
            return usage_wrong("%s takes ids with spaces%s between them, not: %.40s", option,
                               strchr(between, ',') ? " or commas" : "", at);
        if (id < 0 || id >= count) {
            fail("%s: there is no token %ld; the vocabulary has %lld", option, id,
                 (long long)count);
            return failed();
        }
        *list_add(arena, ids) = (int32_t)id;
    }
    return EXIT_DONE;
}

// ---- hints -------------------------------------------------------------------------------------
// The cursor's place is kept, since generated text may stand on the same line.
static bool hint_shown;

void hint_clear(void) {
    static const char back_and_erase[] = "\0338\033[K";
    if (hint_shown) fputs(back_and_erase, stderr);
    hint_shown = false;
}

void hint(const char *format, ...) {
    static const char keep_place[] = "\0337";
    if (!isatty(STDERR_FILENO)) return;
    hint_clear();
    hint_shown = true;
    va_list arguments;
    va_start(arguments, format);
    fputs(keep_place, stderr);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
}
