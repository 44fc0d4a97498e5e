/* tokenize.c - picograd tokenize: text in, token ids out, on one line.
 *   picograd tokenize -m smollm2 -p "Hello, world!"   =>   19556 28 905 17                       */
#include "cli/cli.h"

static int tokenize(Arena *arena, Session *session, const char *prompt, const char *file) {
    IdList ids = {0};
    TextSpan text;
    int status = prompt_read(arena, prompt, file, &text);
    if (status == EXIT_DONE) status = session_open(session, false);
    if (status != EXIT_DONE) return status;
    if (session_encode(session, arena, text.at, text.length, true, &ids) < 0) return failed();
    for (int32_t i = 0; i < ids.count; i++) printf(i ? " %d" : "%d", ids.at[i]);
    putchar('\n');
    return EXIT_DONE;
}

int run_tokenize(int count, char **argument) {
    const char *prompt = NULL, *file = NULL;
    // clang-format off
    const Option table[] = {
        MODEL_OPTION,
        {"--prompt", "-p", OPTION_TEXT, &prompt, 0, 0, "TEXT",
         "what to split; - reads standard input"},
        {"--file", "-f", OPTION_TEXT, &file, 0, 0, "FILE", "the same, from a file"},
    };
    // clang-format on
    int rests, parsed = OPTIONS_PARSE("tokenize", table, count, argument, 0, NULL, &rests);
    if (parsed) return parsed < 0 ? EXIT_USAGE : EXIT_DONE;
    Arena *arena = arena_new();
    Session session = {0};
    int status = tokenize(arena, &session, prompt, file);
    session_close(&session);
    arena_free(arena);
    return status;
}
