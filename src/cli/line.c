/* line.c - lines from a person, edited and remembered, or from a pipe.
 * In: a terminal or a file.  Out: lines without their end.
 * Invariant: what was typed is kept in $XDG_STATE_HOME/picograd/history (~/.local/state), which
 * only its owner can read, the last 1000 lines of it.
 *   line_read(line, "> ", &text)   =>   LINE_READ                                                */
#include "cli/cli.h"

#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef PG_HAVE_LIBEDIT
#define Tokenizer EditTokenizer  // it has one, too
#include <histedit.h>
#undef Tokenizer
#else
typedef void EditLine, History;
#endif

struct LineReader {
    Arena *arena;
    EditLine *edit;  // NULL: lines come as they are
    History *history;
    const char *path;  // of the history; NULL: nothing is kept
    bool terminal, colour, pressed, was_empty;
    char prompt[64];
};

bool line_is_terminal(const LineReader *reader) { return reader->terminal; }

// ---- plain -------------------------------------------------------------------------------------
static LineResult read_plain(LineReader *reader, Text *line) {
    char *bytes = NULL;
    size_t room = 0;
    if (reader->terminal) fprintf(stderr, "%s", reader->prompt);
    errno = 0;
    ssize_t count = getline(&bytes, &room, stdin);
    bool stopped = count < 0 && errno == EINTR;
    if (count > 0) text_add_bytes(line, bytes, (size_t)count - (bytes[count - 1] == '\n'));
    free(bytes);
    if (stopped) clearerr(stdin);
    return stopped ? LINE_INTERRUPTED : count < 0 ? LINE_END : LINE_READ;
}

#ifdef PG_HAVE_LIBEDIT
// ---- history -----------------------------------------------------------------------------------
enum { HISTORY_LINES = 1000 };

static const char *history_path(Arena *arena) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME"), *folder;
    if (state && state[0] == '/')
        folder = arena_print(arena, "%s/picograd", state);
    else if (home && home[0] == '/')
        folder = arena_print(arena, "%s/.local/state/picograd", home);
    else
        return NULL;
    return folder_make(folder) < 0 ? NULL : arena_print(arena, "%s/history", folder);
}

static void history_load(LineReader *reader) {
    HistEvent event;
    if (!reader->path || access(reader->path, R_OK)) return;
    char *text = file_read(reader->arena, reader->path, NULL);
    for (char *next; text && *text; text = next) {
        size_t length = strcspn(text, "\n");
        next = text + length + (text[length] == '\n');
        text[length] = 0;
        if (length) history(reader->history, &event, H_ENTER, text);
    }
}

static void history_save(LineReader *reader) {
    HistEvent event;
    Text text = text_new(reader->arena);
    if (!reader->path) return;
    for (int more = history(reader->history, &event, H_LAST); more >= 0;
         more = history(reader->history, &event, H_PREV))
        text_add(&text, "%.*s\n", (int)strcspn(event.str, "\n"), event.str);
    mode_t mask = umask(077);
    if (file_write(reader->path, text.at, text.count) < 0) reader->path = NULL;
    umask(mask);
}

void line_remember(LineReader *reader, const char *line) {
    HistEvent event;
    if (reader->history && *line) history(reader->history, &event, H_ENTER, line);
}

// ---- edited ------------------------------------------------------------------------------------
static LineReader *reader_of(EditLine *edit) {
    LineReader *reader = NULL;
    el_get(edit, EL_CLIENTDATA, &reader);
    return reader;
}

static char *prompt_of(EditLine *edit) { return reader_of(edit)->prompt; }

// While a line is edited Ctrl-C and Ctrl-Z are keys, not signals.
static unsigned char press(EditLine *edit, int key) {
    (void)key;
    LineReader *reader = reader_of(edit);
    const LineInfo *line = el_line(edit);
    reader->pressed = true;
    reader->was_empty = line->lastchar == line->buffer;
    return CC_EOF;
}

static unsigned char suspend(EditLine *edit, int key) {
    (void)edit, (void)key;
    kill(0, SIGTSTP);
    return CC_REFRESH;
}

static void open_editor(LineReader *reader) {
    HistEvent event;
    if (!setlocale(LC_CTYPE, "") || MB_CUR_MAX == 1) setlocale(LC_CTYPE, "C.UTF-8");
    reader->edit = el_init("picograd", stdin, stderr, stderr);
    reader->history = history_init();
    if (!reader->edit || !reader->history) return;
    reader->path = history_path(reader->arena);
    history(reader->history, &event, H_SETSIZE, HISTORY_LINES);
    history(reader->history, &event, H_SETUNIQUE, 1);
    history_load(reader);
    el_set(reader->edit, EL_CLIENTDATA, reader);
    el_set(reader->edit, EL_PROMPT_ESC, prompt_of, '\1');
    el_set(reader->edit, EL_EDITOR, "emacs");
    el_set(reader->edit, EL_SIGNAL, 1);
    el_set(reader->edit, EL_HIST, history, reader->history);
    el_set(reader->edit, EL_SETTY, "-d", "-isig", NULL);
    el_set(reader->edit, EL_ADDFN, "press", "Ctrl-C", press);
    el_set(reader->edit, EL_BIND, "^C", "press", NULL);
    el_set(reader->edit, EL_ADDFN, "suspend", "Ctrl-Z", suspend);
    el_set(reader->edit, EL_BIND, "^Z", "suspend", NULL);
    el_set(reader->edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_source(reader->edit, NULL);  // ~/.editrc
}

static LineResult read_edited(LineReader *reader, Text *line) {
    int count = 0;
    reader->pressed = false;
    errno = 0;
    const char *bytes = el_gets(reader->edit, &count);
    if (reader->pressed) {
        fputs("^C\n", stderr);
        return reader->was_empty ? LINE_INTERRUPTED : LINE_DROPPED;
    }
    if (!bytes && count < 0 && errno == EINTR) return LINE_INTERRUPTED;
    if (!bytes || count <= 0) return LINE_END;
    size_t length = strlen(bytes);
    text_add_bytes(line, bytes, length - (length && bytes[length - 1] == '\n'));
    return LINE_READ;
}

static void close_editor(LineReader *reader) {
    if (reader->history) {
        history_save(reader);
        history_end(reader->history);
    }
    if (reader->edit) el_end(reader->edit);
}
#else
void line_remember(LineReader *reader, const char *line) { (void)reader, (void)line; }
static void open_editor(LineReader *reader) {
    (void)reader;
    say("built without libedit, so lines cannot be edited");
}
static LineResult read_edited(LineReader *reader, Text *line) { return read_plain(reader, line); }
static void close_editor(LineReader *reader) { (void)reader; }
#endif

// ---- either ------------------------------------------------------------------------------------
LineReader *line_open(void) {
    Arena *arena = arena_new();
    LineReader *reader = arena_object(arena, LineReader);
    const char *no_colour = getenv("NO_COLOR"), *terminal = getenv("TERM");
    *reader = (LineReader){.arena = arena};
    reader->terminal = isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
    reader->colour = !(no_colour && *no_colour) && terminal && strcmp(terminal, "dumb") != 0;
    if (reader->terminal) open_editor(reader);
    return reader;
}

LineResult line_read(LineReader *reader, const char *prompt, Text *line) {
    // The editor takes what stands between two bytes of 1 to be of no width, before a character.
    const char *format = reader->colour && reader->edit ? "\1\033[1;32m\1%s\1\033[0m\1 "
                         : reader->colour               ? "\033[1;32m%s\033[0m "
                                                        : "%s ";
    snprintf(reader->prompt, sizeof reader->prompt, format, prompt);
    return reader->edit ? read_edited(reader, line) : read_plain(reader, line);
}

void line_close(LineReader *reader) {
    close_editor(reader);
    arena_free(reader->arena);
}
