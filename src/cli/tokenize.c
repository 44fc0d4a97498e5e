/* tokenize.c - picograd tokenize: text in, token ids out; or ids in, text out.
 *   picograd tokenize -m smollm2 -p "Hello, world!"   =>   19556 28 905 17                       */
#include "cli/cli.h"

#include <string.h>

typedef struct {
    const char *prompt, *file, *decode;
    bool pieces, no_bos, no_special;
} Wishes;

static bool is_valid(Arena *arena, TextSpan text) {
    Text out = text_new(arena);
    Utf8Stream stream = {0};
    utf8_push(&stream, text.at, text.length, &out);
    utf8_finish(&stream, &out);
    return out.count == text.length && !memcmp(out.at, text.at, out.count);
}

// A part of a character as \xNN, one a byte.
static void print_quoted(Arena *arena, TextSpan piece) {
    bool valid = is_valid(arena, piece);
    putchar('"');
    for (size_t i = 0; i < piece.length; i++) {
        unsigned char byte = (unsigned char)piece.at[i];
        if (byte == '\n') {
            fputs("\\n", stdout);
        } else if (byte == '"' || byte == '\\') {
            printf("\\%c", byte);
        } else if (byte < ' ' || byte == 0x7f || (byte >= 0x80 && !valid)) {
            printf("\\x%02x", byte);
        } else {
            putchar(byte);
        }
    }
    puts("\"");
}

static void print_ids(Arena *arena, const Session *session, const IdList *ids, bool pieces) {
    for (int32_t i = 0; i < ids->count; i++) {
        printf(i && !pieces ? " %d" : "%d", ids->at[i]);
        if (!pieces) continue;
        putchar(' ');
        print_quoted(arena, generation_piece(session->tokenizer, ids->at[i]));
    }
    if (!pieces) putchar('\n');
}

static int encode(Arena *arena, const Session *session, const Wishes *wishes, TextSpan text) {
    IdList ids = {0};
    int flags = (wishes->no_bos ? 0 : TOKENIZE_BOS) | (wishes->no_special ? 0 : TOKENIZE_SPECIAL);
    int result =
        session->tokenizer
            ? tokenizer_encode(session->tokenizer, arena, text.at, text.length, flags, &ids)
            : session_encode(session, arena, text.at, text.length, true, &ids);
    if (result < 0) return failed();
    print_ids(arena, session, &ids, wishes->pieces);
    return EXIT_DONE;
}

static int decode(Arena *arena, const Session *session, const char *list) {
    IdList ids = {0};
    Text out = text_new(arena);
    int status = ids_read(arena, "--decode", list, " ", tokenizer_count(session->tokenizer), &ids);
    if (status != EXIT_DONE) return status;
    tokenizer_decode(session->tokenizer, ids.at, ids.count, &out);
    fwrite(out.at, 1, out.count, stdout);
    putchar('\n');
    return EXIT_DONE;
}

static int tokenize(Arena *arena, Session *session, const Wishes *wishes) {
    TextSpan text = {0};
    int status = EXIT_DONE;
    if (wishes->decode && (wishes->prompt || wishes->file))
        return usage_wrong("--decode takes ids instead of a text: leave -p and -f out");
    if (!wishes->decode) status = prompt_read(arena, wishes->prompt, wishes->file, &text);
    if (status == EXIT_DONE) status = session_open(session, false);
    if (status != EXIT_DONE) return status;
    if (!wishes->decode) return encode(arena, session, wishes, text);
    if (session->tokenizer) return decode(arena, session, wishes->decode);
    return usage_wrong("--decode needs a model with a tokenizer, which random has not");
}

int run_tokenize(int count, char **argument) {
    Wishes wishes = {0};
    // clang-format off
    const Option table[] = {
        MODEL_OPTION,
        {"--prompt", "-p", OPTION_TEXT, &wishes.prompt, 0, 0, "TEXT",
         "what to split; - reads standard input"},
        {"--file", "-f", OPTION_TEXT, &wishes.file, 0, 0, "FILE", "the same, from a file"},
        {"--pieces", NULL, OPTION_FLAG, &wishes.pieces, 0, 0, NULL,
         "a line for each token: its id and its text"},
        {"--no-bos", NULL, OPTION_FLAG, &wishes.no_bos, 0, 0, NULL,
         "no BOS token in front, even if the model asks for one"},
        {"--no-special", NULL, OPTION_FLAG, &wishes.no_special, 0, 0, NULL,
         "the names of control tokens, like <|im_end|>, are plain text"},
        {"--decode", NULL, OPTION_TEXT, &wishes.decode, 0, 0, "IDS",
         "the text of these ids instead: \"19556 28\""},
    };
    // clang-format on
    int rests, parsed = OPTIONS_PARSE("tokenize", table, count, argument, 0, NULL, &rests);
    if (parsed) return parsed < 0 ? EXIT_USAGE : EXIT_DONE;
    Arena *arena = arena_new();
    Session session = {0};
    int status = tokenize(arena, &session, &wishes);
    session_close(&session);
    arena_free(arena);
    return status;
}
