/* cli.h - the picograd command: one file a command, one table of options each. */
#ifndef PICOGRAD_CLI_H
#define PICOGRAD_CLI_H
#include "models/models.h"

// Exit status: done, the work failed, the command line was wrong, stopped by Ctrl-C.
enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };

// ---- main.c ------------------------------------------------------------------------------------
typedef struct {
    const char *name, *arguments, *about;
    const char *help;  // more, after the options; may be NULL
    int (*run)(int count, char **argument);
} Command;
extern const Command commands[];
extern const int command_count;
int failed(void);                                       // prints error_text(); EXIT_FAILED
int usage_wrong(const char *format, ...) PRINTF(1, 2);  // prints what is wrong; EXIT_USAGE

// ---- options.c ---------------------------------------------------------------------------------
typedef enum { OPTION_FLAG, OPTION_INT, OPTION_NUMBER, OPTION_TEXT } OptionKind;
typedef struct {
    const char *name, *letter;  // "--threads", "-t"; letter may be NULL
    OptionKind kind;
    void *to;                  // bool, int64_t, double or const char *
    double low, high;          // of INT and NUMBER
    const char *value, *help;  // "N", "threads to use"
} Option;
// Options from `count` words into their variables; what is no option goes to rest (at most
// rest_max). --help prints and returns 1; a wrong line says what is wrong and returns -1; else 0.
int options_parse(const char *command, const Option *option, int options, int count,
                  char **argument, int rest_max, const char **rest, int *rests);
#define OPTIONS_PARSE(command, table, count, argument, rest_max, rest, rests) \
    options_parse(command, table, COUNT_OF(table), count, argument, rest_max, rest, rests)
// The one of `count` names that `word` was probably meant to be; NULL if none is near.
typedef const char *NameAt(const void *table, int i);
const char *closest_name(const char *word, const void *table, int count, NameAt *name);

// ---- session.c: a model opened as the common options say ---------------------------------------
typedef struct {
    const char *model, *device, *mode, *precision, *metrics;
    int64_t context, threads;
    bool verbose;
} Common;
extern Common common;
// clang-format off
#define MODEL_OPTION                                                                          \
    {"--model", "-m", OPTION_TEXT, &common.model, 0, 0, "MODEL",                              \
     "a GGUF file, or a name that picograd models lists"}
#define CONTEXT_OPTION                                                                        \
    {"--ctx-size", "-c", OPTION_INT, &common.context, 1, 1 << 24, "N",                        \
     "tokens there is room for, the prompt included (4096, or the model's)"}
#define RUN_OPTIONS                                                                           \
    {"--threads", "-t", OPTION_INT, &common.threads, 1, 256, "N", "threads (one a core)"},    \
    {"--mode", NULL, OPTION_TEXT, &common.mode, 0, 0, "MODE",                                 \
     "graph: compiled first (the default); eager: op by op"},                                 \
    {"--device", NULL, OPTION_TEXT, &common.device, 0, 0, "DEVICE", "cpu"},                   \
    {"--precision", NULL, OPTION_TEXT, &common.precision, 0, 0, "TYPE",                       \
     "fp32, or tf32 (computed as fp32 on this device)"},                                      \
    {"--verbose", "-v", OPTION_FLAG, &common.verbose, 0, 0, NULL, "say more on standard error"}
#define METRICS_OPTION                                                                        \
    {"--metrics", NULL, OPTION_TEXT, &common.metrics, 0, 0, "FILE",                           \
     "write what was measured, as JSON"}
// clang-format on

typedef struct {
    Gguf *gguf;            // NULL: random weights
    Tokenizer *tokenizer;  // NULL: random weights; tokens are bytes
    Llama *llama;
    double load_seconds;
} Session;
int common_apply(void);  // checks and sets device, mode, threads, metrics; EXIT_*
int session_open(Session *session, bool with_weights);  // EXIT_*; says why
void session_close(Session *session);
int session_encode(const Session *session, Arena *arena, const char *text, size_t length,
                   bool special, IdList *ids);
TextSpan session_piece(const Session *session, int32_t id);
bool session_is_end(const Session *session, int32_t id);
const char *mode_name(void);  // as --mode takes it
// The text of -p ("-": standard input) or of the file of -f, for *text; EXIT_*, says why.
int prompt_read(Arena *arena, const char *prompt, const char *file, TextSpan *text);
// What takes a while, in a line that a terminal shows until the next hint or hint_clear.
void hint(const char *format, ...) PRINTF(1, 2);
void hint_clear(void);

// ---- metrics.c ---------------------------------------------------------------------------------
typedef struct {
    double load_ms;     // opening the model
    double compile_ms;  // all of it, wherever in the run it happened
    double ttft_ms;     // from the prompt's ids to the first token, as the user waits for it
    double itl_p50_ms, itl_p95_ms, itl_max_ms;  // from one token to the next
    int64_t prompt_tokens, generated_tokens;
    double prompt_tok_s, decode_tok_s;  // compiling left out
    double total_tok_s;                 // generated, over the whole time: compiling and prompt too
    int64_t weights_bytes, kv_bytes;
} Metrics;
int metrics_check(const char *path);  // -1 with error_text() if it could not be written
int metrics_write(const char *path, const Metrics *metrics);               // -1 with error_text()
int64_t peak_rss_bytes(void);                                              // of this process
void metrics_intervals(Metrics *metrics, double *seconds, int64_t count);  // itl_*; sorts seconds

// ---- sample.c: what is measured, and how often -------------------------------------------------
enum { SAMPLES_MAX = 100 };
typedef struct {
    int runs;
    double run[SAMPLES_MAX];  // work per second, in order of time
    double median;
    double spread;  // highest - lowest, over the median
} Sample;
void sample_add(Sample *sample, double run);  // a Sample starts as {0}
const char *cpu_name(Arena *arena);

// ---- row.c: what bench measures and explain explains, by name: matmul:1024 ---------------------
typedef struct {
    const char *name, *about, *unit;
    bool of_model;         // prefill and decode need -m
    PgFunctionBody *body;  // else: of `inputs` matrices of N x N
    int inputs;
    double power, factor;  // operations (GFLOP/s) or bytes (GB/s): factor * N^power
} Row;
extern const Row rows[];
extern const int row_count;
const Row *row_find(const char *text, int64_t *size);  // of name:size; NULL, having said why
void rows_print(bool of_models);
typedef struct {
    PgFunction *function;
    PgTensor *in[2];
} Work;
Work work_open(const Row *row, int64_t size);  // inputs are made here, once
int work_run(const Work *work);                // -1 with error_text()
void work_close(Work *work);
#endif
