/* main.c - the picograd command: finds the command and hands it the rest of the line.
 * In: the command line.  Out: exit status 0 done, 1 the work failed, 2 the line was wrong.
 * Invariant: done means that standard output took everything; what went wrong is one line.
 *   picograd generate -m smollm2 -p "Once upon a time" -n 64                                   */
#include "cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

int run_generate(int, char **), run_chat(int, char **);
int run_tokenize(int, char **), run_perplexity(int, char **);
int run_models(int, char **), run_inspect(int, char **), run_bench(int, char **);
int run_explain(int, char **), run_cache(int, char **), run_devices(int, char **);
int run_convert(int, char **), run_roofline(int, char **);

// clang-format off
const Command commands[] = {
    {"generate", "-m MODEL -p TEXT [options]", "continue a text",
     "Standard output carries the generated text alone; everything else goes to standard error.\n"
     SAMPLER_HELP "\n"
     "  picograd generate -m smollm2 -p \"The sky is blue because\" -n 64\n"
     "  echo \"Why is the sky blue?\" | picograd generate -m smollm2 --chat -p - --temp 0\n"
     "  picograd generate -m random -p \"no model at hand\" -n 16",
     run_generate},
    {"chat", "-m MODEL [--system TEXT] [options]", "talk with a model",
     "A message is a line, typed or from a pipe; a line that ends with \\ goes on in the next,\n"
     "and \"\"\" begins and ends a message of several. /help lists the commands, such as /reset,\n"
     "/save FILE and /regen. Ctrl-C stops an answer; Ctrl-D, or Ctrl-C twice, leaves. Standard\n"
     "output carries the answers alone. What was typed is kept in\n"
     "$XDG_STATE_HOME/picograd/history, else ~/.local/state/picograd/history.\n" SAMPLER_HELP "\n"
     "  picograd chat -m smollm2 --system \"You answer in one sentence.\"\n"
     "  printf 'Name a colour.\\nAnd another.\\n' | picograd chat -m smollm2 --temp 0",
     run_chat},
    {"tokenize", "-m MODEL -p TEXT", "print the token ids of a text, on one line",
     "  picograd tokenize -m smollm2 -p \"Hello, world!\"          prints  19556 28 905 17\n"
     "  picograd tokenize -m smollm2 --decode \"19556 28 905 17\"  prints  Hello, world!\n"
     "--pieces quotes a token's text: a line's end as \\n, what is no whole character as \\xNN.",
     run_tokenize},
    {"perplexity", "-m MODEL -f FILE [--ctx N]",
     "print how badly a model predicts a text, in nats a token",
     "The number is the mean of -log p(token | all tokens before it), over the first N tokens but\n"
     "the very first. Lower is better; e to its power is the perplexity.",
     run_perplexity},
    {"models", "[pull NAME]", "list the models known by name, or fetch one",
     "random and names that begin so are made on the spot, to measure: random:1b in seconds, and\n"
     "2.5 GB of memory.\n"
     "  picograd models pull smollm2     fetches a small model, 98 MB, into the cache\n"
     "  picograd bench decode:128 -m random:1b",
     run_models},
    {"inspect", "MODEL", "print what a model file holds",
     "  picograd inspect smollm2\n"
     "  picograd inspect some/model.gguf",
     run_inspect},
    {"convert", "IN OUT --type TYPE", "store a model in another type, as a GGUF file",
     "IN is a name, a file or a folder, as -m takes it. TYPE is what most weights become. As in\n"
     "llama-quantize, norms and biases stay f32; the output (or the embedding, if it is both)\n"
     "becomes q6_k; q2_k to q5_k and iq4 store some of attn_v, attn_output and ffn_down in more\n"
     "bits (q3_k, q4_k and q5_k are its Q3_K_M, Q4_K_M and Q5_K_M). Types with a k and iq4_xs\n"
     "need rows in multiples of 256; where they are not, q4_k becomes q5_0, q6_k q8_0, q5_k\n"
     "q5_1, q2_k and q3_k q4_0, iq4_xs iq4_nl.\n"
     "  picograd convert model-f16.gguf model-q4_k.gguf --type q4_k",
     run_convert},
    {"bench", "ROW... | -m MODEL [-p N] [-n N]", "measure speed",
     "Each number is the median of five runs after a warm-up; ± is half of the distance from the\n"
     "slowest to the fastest run. Inputs are made once, before.\n"
     "  picograd bench matmul:1024 matmul:2048\n"
     "  picograd bench decode:128 -m smollm2 --json -\n"
     "  picograd bench -m smollm2 -p 512 -n 128 -o md     a table like llama-bench's",
     run_bench},
    {"roofline", "[ROW...] [-m MODEL] [-o FILE]",
     "show how near kernels come to what the machine can do",
     "The roofs are measured first: multiply-adds, and reads from each level of memory, by all\n"
     "threads. A kernel can be no faster than either allows; its share of that is shown.\n"
     "  picograd roofline                                     the roofs alone\n"
     "  picograd roofline matmul:1024 softmax:4096 -o roofline.png\n"
     "  picograd roofline -m smollm2 -o roofline.svg          one token through the model",
     run_roofline},
    {"explain", "ROW | -m MODEL", "show how a program becomes instructions, stage by stage",
     "  picograd explain softmax:1024\n"
     "  picograd explain matmul:256 --stage render\n"
     "  picograd explain matmul:1024 --device simt --gpu h100 --stage profile\n"
     "  picograd explain -m smollm2 --stage time     one token through the model",
     run_explain},
    {"devices", "[--json]", "print what the machine offers, and what of it a run takes",
     "NVIDIA GPUs are there with their driver; --device cuda:N takes one, and needs NVRTC.",
     run_devices},
    {"cache", "info | clear", "say what compiled kernels are kept, or remove them",
     "Kernels are compiled once and kept in $PG_CACHE, else $XDG_CACHE_HOME/picograd, else\n"
     "~/.cache/picograd. Removing them is safe: what is needed is compiled again.",
     run_cache},
};
// clang-format on
const int command_count = COUNT_OF(commands);

int failed(void) {
    fflush(stdout);
    say("%s", error_text());
    return EXIT_FAILED;
}

int usage_wrong(const char *format, ...) {
    char what[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    say("%s", what);
    return EXIT_USAGE;
}

static const char *command_name(const void *table, int i) {
    return ((const Command *)table)[i].name;
}

const Command *command_find(const char *name) {
    for (int i = 0; i < command_count; i++)
        if (!strcmp(commands[i].name, name)) return &commands[i];
    const char *near = closest_name(name, commands, command_count, command_name);
    if (near)
        usage_wrong("no command %.100s. Did you mean %s?", name, near);
    else
        usage_wrong("no command %.100s. Try: picograd --help", name);
    return NULL;
}

static int run(int count, char **argument) {
    if (count < 2) {
        help_overview(stderr);
        return EXIT_USAGE;
    }
    const char *name = argument[1];
    if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help"))
        return run_help(count - 2, argument + 2);
    if (!strcmp(name, "--version")) {
        printf("picograd %s\n", PG_VERSION);
        return EXIT_DONE;
    }
    const Command *command = command_find(name);
    return command ? command->run(count - 2, argument + 2) : EXIT_USAGE;
}

int main(int count, char **argument) {
    signal(SIGXFSZ, SIG_IGN);  // a limit on the size of files becomes an error of write
    tune_report();
    int status = run(count, argument);
    errno = 0;
    bool lost = fflush(stdout) || ferror(stdout);
    if (lost && status == EXIT_DONE) {
        fail("cannot write standard output: %s", errno ? strerror(errno) : "an error came up");
        return failed();
    }
    return status;
}
