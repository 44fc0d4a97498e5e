/* help.c - the commands and their options, for a person, for man and for a shell.
 * In: the table of commands, and the table of options that each hands to options_parse.
 * Out: text, man pages, completions for bash.
 * Invariant: all forms are made from the same tables; nothing about a command is written twice.
 *   picograd help --man generate | man -l -
 *   eval "$(picograd help --bash)"                                                             */
#include "cli/cli.h"

#include <ctype.h>
#include <string.h>

static const char summary[] = "runs language models, and shows how";
static const char first_try[] = "  picograd models pull smollm2\n"
                                "  picograd generate -m smollm2 -p \"Once upon a time\" -n 64\n";

typedef struct {
    const char *name, *about;
} Fact;

// clang-format off
static const Fact environment[] = {
    {"PG_THREADS", "threads, where -t does not say (one a core that the process may use)"},
    {"PG_MODE", "graph or eager, where --mode does not say"},
    {"PG_PRECISION", "fp32 or tf32, where --precision does not say"},
    {"PG_WINOGRAD", "convolutions of 3 x 3 with fewer products: 0: never, 1: always (if they pay)"},
    {"PG_ISA", "instruction set: avx512, avx2, c; amx-c: AMX in plain C; ref: the interpreter"},
    {"PG_CC", "the C compiler that compiles kernels (the first of cc, gcc, clang)"},
    {"PG_NVRTC", "libnvrtc.so, to compile for NVIDIA GPUs (a toolkit's, Python's, the system's)"},
    {"PG_CUDA_TEXT", "a folder for the CUDA text of each kernel compiled for simt or a GPU"},
    {"PG_LIBCUDA", "NVIDIA's driver (libcuda.so.1)"},
    {"PG_CACHE", "where kernels and models are kept ($XDG_CACHE_HOME/picograd, ~/.cache/picograd)"},
    {"PG_DUMP", "print programs after a stage, or after all; picograd explain --help lists them"},
    {"PG_KERNEL", "of those, only kernel N"},
    {"PG_DEBUG", "1: what was compiled, 2: how long each kernel took, 3: kernels and schedules"},
};
static const Fact exits[] = {
    {"0", "done"},
    {"1", "the work failed"},
    {"2", "the command line was wrong"},
    {"130", "stopped by Ctrl-C"},
};
// clang-format on

static enum { FORM_TEXT, FORM_MAN, FORM_BASH } form;

// ---- for a person ------------------------------------------------------------------------------
void help_overview(FILE *to) {
    static const char line[] = "  %-13s %s\n";
    fprintf(to, "picograd %s: %s.\n\nusage: picograd COMMAND [options]\n\n", PG_VERSION, summary);
    for (int i = 0; i < command_count; i++) fprintf(to, line, commands[i].name, commands[i].about);
    fprintf(to, "\npicograd COMMAND --help says more. A first try:\n%s\nEnvironment:\n", first_try);
    for (int i = 0; i < COUNT_OF(environment); i++)
        fprintf(to, line, environment[i].name, environment[i].about);
    fprintf(to, "\nExit status:");
    for (int i = 0; i < COUNT_OF(exits); i++)
        fprintf(to, "%s %s %s", i ? "," : "", exits[i].name, exits[i].about);
    fprintf(to, ".\n");
}

// A long help text goes on below itself.
static void print_option(const Option *option) {
    enum { LEFT = 26, WIDTH = 90 };
    char left[64];
    snprintf(left, sizeof left, "%s%s%s%s%s", option->letter ? option->letter : "",
             option->letter ? ", " : "", option->name, option->value ? " " : "",
             option->value ? option->value : "");
    printf("  %-*s", LEFT - 2, left);
    int column = LEFT;
    for (const char *word = option->help; *word;) {
        int length = (int)strcspn(word, " ");
        if (column + 1 + length > WIDTH && column > LEFT) {
            printf("\n%*s", LEFT, "");
            column = LEFT;
        }
        printf("%s%.*s", column > LEFT ? " " : "", length, word);
        column += length + (column > LEFT);
        word += length + (word[length] == ' ');
    }
    putchar('\n');
}

static void print_text(const Command *command, const char *more, const Option *option,
                       int options) {
    printf("usage: picograd %s %s\n%c%s.\n\n", command->name, command->arguments,
           toupper(command->about[0]), command->about + 1);
    for (int i = 0; i < options; i++) print_option(&option[i]);
    if (*more) printf("%s%s", options ? "\n" : "", more);
}

// ---- for man -----------------------------------------------------------------------------------
// The code point of the UTF-8 at *text, which moves past it; the texts are our own.
static unsigned next_character(const char **text) {
    unsigned first = (unsigned char)*(*text)++;
    unsigned value = first < 0x80 ? first : first & (first < 0xe0 ? 0x1f : 0x0f);
    while (first >= 0x80 && ((unsigned char)**text & 0xc0) == 0x80)
        value = value << 6 | ((unsigned char)*(*text)++ & 0x3f);
    return value;
}

// groff makes typographic signs of some of ASCII's unless told otherwise.
static void print_man_text(const char *text, size_t length) {
    static const struct {
        char from;
        const char *to;
    } signs[] = {{'-', "\\-"},   {'\\', "\\e"},  {'\'', "\\(aq"},
                 {'`', "\\(ga"}, {'^', "\\(ha"}, {'~', "\\(ti"}};
    const char *end = text + length;
    if (length && *text == '.') fputs("\\&", stdout);
    while (text < end) {
        unsigned character = next_character(&text);
        const char *sign = NULL;
        for (int i = 0; i < COUNT_OF(signs); i++)
            if (character == (unsigned char)signs[i].from) sign = signs[i].to;
        if (sign)
            fputs(sign, stdout);
        else
            printf(character < 0x80 ? "%c" : "\\[u%04X]", character);
    }
}

static void print_man_line(const char *text) {
    print_man_text(text, strlen(text));
    putchar('\n');
}

// Prose, and lines that begin with blanks, which stay as they are. Nothing stands between the
// first of them and the macro before.
static void print_man_block(const char *text) {
    bool any = false, apart = false, example = false;
    while (*text) {
        size_t length = strcspn(text, "\n");
        bool indented = !strncmp(text, "  ", 2);
        if (length) {
            if (example && !indented) puts(".EE");
            if (any && (apart || indented != example)) puts(".PP");
            if (indented && !example) puts(".EX");
            print_man_text(text, length);
            putchar('\n');
            example = indented;
            any = true;
        }
        apart = !length;
        text += length + (text[length] == '\n');
    }
    if (example) puts(".EE");
}

static void print_man_fact(const char *name, const char *about) {
    printf(".TP\n\\fB%s\\fR\n", name);
    print_man_line(about);
}

// What the user puts in stands in capitals.
static void print_man_arguments(const char *text) {
    while (*text) {
        size_t length = strcspn(text, " []|.");
        bool italic = length && strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == length;
        if (italic) fputs("\\fI", stdout);
        print_man_text(text, length ? length : 1);
        if (italic) fputs("\\fR", stdout);
        text += length ? length : 1;
    }
    putchar('\n');
}

static void print_man_title(const char *command) {
    char capitals[64];
    snprintf(capitals, sizeof capitals, "%s%s", command ? "-" : "", command ? command : "");
    for (char *at = capitals; *at; at++) *at = (char)toupper(*at);
    printf(".\\\" Made by picograd help --man from the tables behind --help.\n");
    printf(".TH PICOGRAD%s 1 \"\" \"picograd %s\" \"picograd\"\n.SH NAME\n", capitals, PG_VERSION);
}

static void print_man_overview(void) {
    print_man_title(NULL);
    printf("picograd \\- ");
    print_man_line(summary);
    printf(".SH SYNOPSIS\n.B picograd\n\\fICOMMAND\\fR [options]\n.SH COMMANDS\n");
    for (int i = 0; i < command_count; i++) {
        printf(".TP\n\\fBpicograd\\-%s\\fR(1)\n", commands[i].name);
        print_man_line(commands[i].about);
    }
    printf(".SH EXAMPLES\n");
    print_man_block(first_try);
    printf(".SH ENVIRONMENT\n");
    for (int i = 0; i < COUNT_OF(environment); i++)
        print_man_fact(environment[i].name, environment[i].about);
    printf(".SH EXIT STATUS\n");
    for (int i = 0; i < COUNT_OF(exits); i++) print_man_fact(exits[i].name, exits[i].about);
}

static void print_man_option(const Option *option) {
    printf(".TP\n");
    const char *names[] = {option->letter, option->name};
    for (int i = 0; i < COUNT_OF(names); i++) {
        if (!names[i]) continue;
        printf("%s\\fB", i && option->letter ? ", " : "");
        print_man_text(names[i], strlen(names[i]));
        printf("\\fR");
    }
    if (option->value) printf(" \\fI%s\\fR", option->value);
    putchar('\n');
    print_man_line(option->help);
}

static void print_man(const Command *command, const char *more, const Option *option, int options) {
    print_man_title(command->name);
    printf("picograd\\-%s \\- ", command->name);
    print_man_line(command->about);
    printf(".SH SYNOPSIS\n.B picograd %s\n", command->name);
    print_man_arguments(command->arguments);
    if (options) printf(".SH OPTIONS\n");
    for (int i = 0; i < options; i++) print_man_option(&option[i]);
    if (*more) printf(".SH DESCRIPTION\n");
    print_man_block(more);
    printf(".SH SEE ALSO\n\\fBpicograd\\fR(1)\n");
}

// ---- for bash ----------------------------------------------------------------------------------
static bool is_one_of(const char *word, const char *const *names) {
    while (*names && strcmp(word, *names)) names++;
    return *names;
}

static void print_model_names(void) {
    for (int i = 0; i < random_model_count; i++) printf(" %s", random_models[i].name);
    for (int i = 0; i < models_count(); i++) printf(" %s", models_at(i)->name);
}

// After an option that takes a value: files, where it is the name of one.
static void print_bash_option(const Option *option) {
    static const char *const files[] = {"FILE", "FOLDER", "IN", "OUT", "MODEL", NULL};
    if (!option->value) return;
    printf("        %s%s%s)", option->letter ? option->letter : "", option->letter ? " | " : "",
           option->name);
    if (is_one_of(option->value, files)) printf(" files=yes");
    if (!strcmp(option->value, "MODEL")) {
        printf(" words='");
        print_model_names();
        putchar('\'');
    }
    printf(" ;;\n");
}

// Of "info | clear" both; of "[options]" nothing.
static void print_bash_arguments(const char *text) {
    if (!strncmp(text, "MODEL", strlen("MODEL"))) print_model_names();
    while (*text) {
        int length = (int)strcspn(text, " []|");
        bool literal = length && strspn(text, "abcdefghijklmnopqrstuvwxyz") == (size_t)length;
        if (literal && text[length] != ']') printf(" %.*s", length, text);
        text += length ? length : 1;
    }
}

static void print_bash(const Command *command, const Option *option, int options) {
    printf("    %s)\n        case $last in\n", command->name);
    for (int i = 0; i < options; i++) print_bash_option(&option[i]);
    printf("        *) files=yes words='--help");
    for (int i = 0; i < options; i++) printf(" %s", option[i].name);
    print_bash_arguments(command->arguments);
    printf("' ;;\n        esac ;;\n");
}

static void show_command(const Command *command) { command->run(1, (char *[]){"--help"}); }

static void print_bash_script(void) {
    printf("# bash completion of picograd, made by picograd help --bash\n"
           "_picograd() {\n"
           "    local word=${COMP_WORDS[COMP_CWORD]} last=${COMP_WORDS[COMP_CWORD - 1]}\n"
           "    local command=${COMP_WORDS[1]} words='' files=''\n"
           "    [ \"$COMP_CWORD\" = 1 ] && command=help\n"
           "    case $command in\n"
           "    help) words='help --version");
    for (int i = 0; i < command_count; i++) printf(" %s", commands[i].name);
    printf("' ;;\n");
    for (int i = 0; i < command_count; i++) show_command(&commands[i]);
    printf("    esac\n"
           "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\"\n"
           "        [ \"$files\" ] && compgen -f -- \"$word\")\n"
           "    [ \"$files\" ] && compopt -o filenames 2>/dev/null\n"
           "}\n"
           "complete -F _picograd picograd\n");
}

// Help that other tables hold.
static const struct {
    const char *command;
    void (*add)(Text *to);
} from_tables[] = {{"explain", explain_help}};

// ---- which form --------------------------------------------------------------------------------
void help_of_options(const char *name, const Option *option, int options) {
    const Command *command = command_find(name);
    Arena *arena = arena_new();
    Text more = text_new(arena);
    if (command->help) text_add(&more, "%s\n", command->help);
    for (int i = 0; i < COUNT_OF(from_tables); i++)
        if (!strcmp(from_tables[i].command, name)) from_tables[i].add(&more);
    switch (form) {
    case FORM_TEXT: print_text(command, more.at, option, options); break;
    case FORM_MAN: print_man(command, more.at, option, options); break;
    case FORM_BASH: print_bash(command, option, options); break;
    }
    arena_free(arena);
}

int run_help(int count, char **argument) {
    const char *word = count ? argument[0] : "";
    form = !strcmp(word, "--man") ? FORM_MAN : !strcmp(word, "--bash") ? FORM_BASH : FORM_TEXT;
    if (form == FORM_BASH) {
        print_bash_script();
        return EXIT_DONE;
    }
    if (!strcmp(word, "--commands")) {
        for (int i = 0; i < command_count; i++) puts(commands[i].name);
        return EXIT_DONE;
    }
    if (form == FORM_MAN) count--, argument++;
    if (!count) {
        form == FORM_MAN ? print_man_overview() : help_overview(stdout);
        return EXIT_DONE;
    }
    const Command *command = command_find(argument[0]);
    if (!command) return EXIT_USAGE;
    show_command(command);
    return EXIT_DONE;
}
