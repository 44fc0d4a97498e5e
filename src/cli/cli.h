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
const Command *command_find(const char *name);          // NULL, having said what is near
int failed(void);                                       // prints error_text(); EXIT_FAILED
int usage_wrong(const char *format, ...) PRINTF(1, 2);  // prints what is wrong; EXIT_USAGE

// ---- options.c ---------------------------------------------------------------------------------
typedef enum { OPTION_FLAG, OPTION_INT, OPTION_NUMBER, OPTION_TEXT, OPTION_TEXTS } OptionKind;
enum { OPTION_TEXTS_MAX = 256 };
typedef struct {  // of an option that may be given often
    const char *at[OPTION_TEXTS_MAX];
    int count;
} OptionTexts;
typedef struct {
    const char *name, *letter;  // "--threads", "-t"; letter may be NULL
    OptionKind kind;
    void *to;                  // bool, int64_t, double, const char * or OptionTexts
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

// ---- help.c: `picograd help`, --help ------------------------------------------------------------
void help_overview(FILE *to);
// Of a command with these options, in the form that was asked for.
void help_of_options(const char *name, const Option *option, int options);
int run_help(int count, char **argument);
void explain_help(Text *to);  // explain.c: its stages and rows

// ---- quote.c -----------------------------------------------------------------------------------
void quote_json(Text *to, const char *at, size_t length);
void quote_json_text(Text *to, const char *text);  // NULL: null

// ---- session.c: a model opened as the common options say ---------------------------------------
typedef struct {
    const char *model, *device, *mode, *precision, *metrics;
    int64_t context, threads;
    int64_t sequences;  // that run in step; 0: one
    bool verbose;
    bool ids;  // tokens are given as ids, so that a model whose tokenizer cannot be made will do
} Common;
extern Common common;
// clang-format off
#define MODEL_OPTION                                                                          \
    {"--model", "-m", OPTION_TEXT, &common.model, 0, 0, "MODEL",                              \
     "a GGUF file, a Hugging Face folder, or a name of picograd models"}
#define CONTEXT_OPTION                                                                        \
    {"--ctx-size", "-c", OPTION_INT, &common.context, 1, 1 << 24, "N",                        \
     "tokens there is room for, the prompt included (4096, or the model's)"}
#define DEVICE_OPTION                                                                         \
    {"--device", NULL, OPTION_TEXT, &common.device, 0, 0, "DEVICE",                           \
     "cpu; cuda or cuda:N, an NVIDIA GPU; simt, a GPU's kernels on the CPU (cpu)"}
#define PRECISION_OPTION                                                                      \
    {"--precision", NULL, OPTION_TEXT, &common.precision, 0, 0, "TYPE",                       \
     "fp32, or tf32 (for CPUs with AMX; elsewhere computed as fp32)"}
#define RUN_OPTIONS                                                                           \
    {"--threads", "-t", OPTION_INT, &common.threads, 1, 256, "N", "threads (one a core)"},    \
    {"--mode", NULL, OPTION_TEXT, &common.mode, 0, 0, "MODE",                                 \
     "graph: compiled first (the default); eager: op by op"},                                 \
    DEVICE_OPTION,                                                                            \
    PRECISION_OPTION,                                                                         \
    {"--verbose", "-v", OPTION_FLAG, &common.verbose, 0, 0, NULL, "say more on standard error"}
#define CHAT_OPTIONS(template_name, system)                                                   \
    {"--chat-template", NULL, OPTION_TEXT, &(template_name), 0, 0, "NAME",                    \
     "the chat template that the model was trained on, where its file does not say"},         \
    {"--system", NULL, OPTION_TEXT, &(system), 0, 0, "TEXT",                                  \
     "tell the model what it is (what its chat template says)"}
#define METRICS_OPTION                                                                        \
    {"--metrics", NULL, OPTION_TEXT, &common.metrics, 0, 0, "FILE",                           \
     "write what was measured, as JSON"}
// clang-format on

typedef struct {
    Gguf *gguf;            // NULL: random weights
    Tokenizer *tokenizer;  // NULL: random weights, whose tokens are bytes; or common.ids
    Llama *llama;
    double load_seconds;
} Session;
int common_apply(void);  // checks and sets device, mode, threads, metrics; EXIT_*
int session_open(Session *session, bool with_weights);  // EXIT_*; says why
void session_close(Session *session);
int session_encode(const Session *session, Arena *arena, const char *text, size_t length,
                   bool special, IdList *ids);
bool session_is_end(const Session *session, int32_t id);
const char *mode_name(void);  // as --mode takes it
// The text of -p ("-": standard input) or of the file of -f, for *text; EXIT_*, says why.
int prompt_read(Arena *arena, const char *prompt, const char *file, TextSpan *text);
// Token ids in a text, with these characters between them, each below `count`; EXIT_*, says why.
int ids_read(Arena *arena, const char *option, const char *list, const char *between, int64_t count,
             IdList *ids);
// What takes a while, in a line that a terminal shows until the next hint or hint_clear.
void hint(const char *format, ...) PRINTF(1, 2);
void hint_clear(void);

// ---- sampling.c: the options of a sampler, llama.cpp's names and defaults ----------------------
typedef struct {
    Sampler sampler;
    int64_t seed;
    OptionTexts biases;  // "198-inf"
    bool ignore_end;
} Sampling;
#define SAMPLING_DEFAULTS \
    { .sampler = {SAMPLER_DEFAULTS}, .seed = -1 }
// clang-format off
#define SAMPLER_OPTIONS(s)                                                                    \
    {"--temp", NULL, OPTION_NUMBER, &(s).sampler.temperature, 0, 100, "T",                    \
     "temperature: 0 takes the likeliest token, more is bolder (0.8)"},                       \
    {"--top-k", NULL, OPTION_INT, &(s).sampler.top_k, 0, 1 << 24, "K",                        \
     "choose among the K likeliest tokens; 0: all (40)"},                                     \
    {"--typical", NULL, OPTION_NUMBER, &(s).sampler.typical_p, 0, 1, "P",                     \
     "choose among the most typical that together have probability P; 1: all (1)"},           \
    {"--top-p", NULL, OPTION_NUMBER, &(s).sampler.top_p, 0, 1, "P",                           \
     "choose among the likeliest that together have probability P; 1: all (0.95)"},           \
    {"--min-p", NULL, OPTION_NUMBER, &(s).sampler.min_p, 0, 1, "P",                           \
     "choose none with less than P times the likeliest's probability; 0: all (0.05)"},        \
    {"--mirostat", NULL, OPTION_INT, &(s).sampler.mirostat, 0, 2, "N",                        \
     "2: mirostat 2 instead of --top-k to --min-p; 0: no (0)"},                                   \
    {"--mirostat-ent", NULL, OPTION_NUMBER, &(s).sampler.mirostat_tau, 0, 100, "TAU",         \
     "the surprise that mirostat aims at, in bits a token (5)"},                              \
    {"--mirostat-lr", NULL, OPTION_NUMBER, &(s).sampler.mirostat_eta, 0, 1, "ETA",            \
     "how fast mirostat gets there (0.1)"},                                                   \
    {"--repeat-penalty", NULL, OPTION_NUMBER, &(s).sampler.repeat_penalty, 0.01, 100, "R",    \
     "make tokens that were there less likely; 1: no (1)"},                                   \
    {"--frequency-penalty", NULL, OPTION_NUMBER, &(s).sampler.frequency_penalty, -100, 100,   \
     "F", "take F off a token's logit for each time that it was there (0)"},                  \
    {"--presence-penalty", NULL, OPTION_NUMBER, &(s).sampler.presence_penalty, -100, 100,     \
     "F", "take F off the logit of each token that was there (0)"},                           \
    {"--repeat-last-n", NULL, OPTION_INT, &(s).sampler.repeat_last, -1, 1 << 24, "N",         \
     "how many of the last tokens penalties look at; -1: all (64)"},                          \
    {"--logit-bias", "-l", OPTION_TEXTS, &(s).biases, 0, 0, "ID+X",                           \
     "add X to the logit of token ID, or ID-X; 198-inf: never token 198; may be repeated"},   \
    {"--ignore-eos", NULL, OPTION_FLAG, &(s).ignore_end, 0, 0, NULL,                          \
     "never end by itself: the tokens that end a text or turn are never chosen"},             \
    {"--seed", "-s", OPTION_INT, &(s).seed, -1, 9e15, "S",                                    \
     "the same seed gives the same text (-1: another each time)"}
// clang-format on
// For the help of commands with these options.
#define SAMPLER_HELP                                                                         \
    "A token is chosen in this order: logit bias, penalties, --top-k, --typical, --top-p,\n" \
    "--min-p, --temp, draw; with --mirostat: logit bias, penalties, --temp, mirostat, draw."
// Biases, ends and seed into the sampler, once the model is open; EXIT_*, says why.
int sampling_open(Sampling *sampling, Arena *arena, const Session *session);
void sampling_close(Sampling *sampling);

// ---- tune.c ------------------------------------------------------------------------------------
void tune_begin(void);   // what is compiled from now on is searched, and told about
int tune_end(void);      // EXIT_DONE, or EXIT_INTERRUPTED
void tune_report(void);  // what searches tried, wherever PG_DUMP=tune asks

// ---- interrupt.c -------------------------------------------------------------------------------
void interrupt_catch(void);  // from now on; the second Ctrl-C ends the process
void interrupt_watch(void);  // the same, but none ends the process
bool interrupted(void);      // since then

// ---- line.c: lines from a terminal, edited and remembered, or from a pipe -----------------------
typedef struct LineReader LineReader;
typedef enum {
    LINE_READ,
    LINE_END,
    LINE_INTERRUPTED,  // Ctrl-C at an empty line
    LINE_DROPPED,      // Ctrl-C at a line with something in it
} LineResult;
LineReader *line_open(void);  // standard input
void line_close(LineReader *reader);
bool line_is_terminal(const LineReader *reader);
// Appends a line without its newline. The prompt is for a person.
LineResult line_read(LineReader *reader, const char *prompt, Text *line);
void line_remember(LineReader *reader, const char *line);  // for the arrow keys

// ---- generate.c, parallel.c --------------------------------------------------------------------
typedef struct {
    const Session *session;
    const Sampler *sampler;  // copied for each sequence
    TextSpan *line;          // the prompts
    int64_t lines;
    int64_t count;  // tokens at most; -1: until the texts end or the context is full
    bool ids;
} Parallel;
void parallel_lines(Parallel *parallel, Arena *arena, TextSpan text);  // empty ones are left out
int parallel_run(const Parallel *parallel);                            // -1 with error_text()

// ---- metrics.c ---------------------------------------------------------------------------------
typedef struct {
    double load_ms;     // opening the model
    double compile_ms;  // all of it, wherever in the run it happened
    double ttft_ms;     // from the prompt's ids to the first token, as the user waits for it
    double itl_p50_ms, itl_p95_ms, itl_max_ms;  // from one token to the next
    int64_t prompt_tokens, generated_tokens;
    int64_t steps;                      // of the model after the prompt
    double prompt_tok_s, decode_tok_s;  // compiling left out; decode of one sequence
    double total_tok_s;  // generated, over the whole time: compiling and prompt too; of several
                         // sequences in step, over the time between tokens
    int64_t weights_bytes, kv_bytes;
    double energy_j;  // from the prompt's ids to the last token; NAN where it cannot be read
} Metrics;
int metrics_check(const char *path);  // -1 with error_text() if it could not be written
int metrics_write(const char *path, const Metrics *metrics);               // -1 with error_text()
void print_speed(const Metrics *metrics);                                  // generate.c
double per_second(double count, double seconds);                           // 0 in no time
int64_t peak_rss_bytes(void);                                              // of this process
void metrics_intervals(Metrics *metrics, double *seconds, int64_t count);  // itl_*; sorts seconds

// ---- energy.c ----------------------------------------------------------------------------------
typedef struct {
    char folder[256];
    int64_t range, last;  // of its counter, in microjoules
} EnergyPackage;
typedef struct {
    bool known;
    int packages;
    double joules, read_at;  // up to this clock
    EnergyPackage package[16];
} Energy;
// Counters below `folder`, NULL: the machine's. -1 with error_text() where they cannot be read;
// energy_joules gives NAN then.
int energy_start(Energy *energy, const char *folder);
void energy_note(Energy *energy);      // at least once a minute: counters wrap around
double energy_joules(Energy *energy);  // of all packages, since the start

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
#endif
