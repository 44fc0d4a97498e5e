/* edits.c - what to try next: schedules like one that is there.
 * In: a schedule's text, the kernel after it.  Out: other texts, each with what was changed.
 * Invariant: nothing is known about any kernel. A number is changed, everywhere or in one line; a
 * line is left out; two loops of an order change places; what is staged lies elsewhere; a loop that
 * is left gets a kind. Most results are legal, transforms refuse the others.
 *   SPLIT i 6, TENSORCORE avx2_fma 6x16   =>   SPLIT i 4, TENSORCORE avx2_fma 4x16   (6 is 4)   */
#include "schedule/schedule.h"

#include <stdlib.h>
#include <string.h>

enum { LINES_MAX = 64, NUMBERS_MAX = 8 };
typedef struct {
    Arena *arena;
    const Kernel *kernel;
    char *line[LINES_MAX];
    int lines, lanes;
    EditList *edits;
} Edits;

static bool is_verb(const char *line, const char *verb) {
    size_t length = strlen(verb);
    return !strncmp(line, verb, length) && line[length] == ' ';
}

// The schedule with `instead` (NULL: nothing) in place of a line; what: of the change.
static void propose(Edits *to, int at, const char *instead, const char *what) {
    Text text = text_new(to->arena);
    for (int i = 0; i < to->lines; i++)
        if (i != at)
            text_add(&text, "%s\n", to->line[i]);
        else if (instead)
            text_add(&text, "%s\n", instead);
    if (at == to->lines) text_add(&text, "%s\n", instead);
    *list_add(to->arena, to->edits) = (Edit){text.at ? text.at : "", what};
}

static void replace(Edits *to, int at, const char *instead) {
    propose(to, at, instead, arena_print(to->arena, "%s, not %s", instead, to->line[at]));
}

// ---- numbers -----------------------------------------------------------------------------------

static int numbers_near(int64_t value, int64_t number[NUMBERS_MAX]) {
    const int64_t near[] = {value / 2,     value * 2, value * 3 / 2, value * 3 / 4,
                            value * 4 / 3, value - 1, value + 1,     value * 4};
    int count = 0;
    for (int i = 0; i < COUNT_OF(near); i++) {
        bool known = near[i] < 2 || near[i] == value;
        for (int j = 0; j < count; j++) known |= number[j] == near[i];
        if (!known) number[count++] = near[i];
    }
    return count;
}

// A line with `now` in place of its numbers that are `was` (a tile's rows, its columns, a factor).
static char *renumbered(Arena *arena, const char *line, int64_t was, int64_t now) {
    Text text = text_new(arena);
    for (const char *at = line; *at;) {
        char *end = (char *)(uintptr_t)at + 1;
        char before = at > line ? at[-1] : ' ';
        bool begins = *at >= '1' && *at <= '9' && (before == ' ' || before == 'x');
        long long value = begins ? strtoll(at, &end, 10) : 0;
        bool ends = !*end || *end == ' ' || *end == 'x';
        if (begins && ends && value == was)
            text_add(&text, "%lld", (long long)now);
        else
            text_add_bytes(&text, at, (size_t)(end - at));
        at = end;
    }
    return text.at;
}

static void renumber_all(Edits *to, int64_t was, int64_t now) {
    Text text = text_new(to->arena);
    for (int i = 0; i < to->lines; i++) {
        bool sized = is_verb(to->line[i], "SPLIT") || is_verb(to->line[i], "TENSORCORE");
        text_add(&text, "%s\n", sized ? renumbered(to->arena, to->line[i], was, now) : to->line[i]);
    }
    *list_add(to->arena, to->edits) =
        (Edit){text.at, arena_print(to->arena, "%lld is %lld", (long long)was, (long long)now)};
}

static void edit_numbers(Edits *to) {
    int64_t seen[LINES_MAX], number[NUMBERS_MAX];
    int count = 0;
    for (int i = 0; i < to->lines; i++) {
        const char *line = to->line[i], *last = strrchr(line, ' ');
        bool split = is_verb(line, "SPLIT");
        if (!split && !is_verb(line, "UNROLL") && !is_verb(line, "PIPELINE")) continue;
        if (split) last = strchr(line + strlen("SPLIT "), ' ');
        int64_t value = last ? strtoll(last, NULL, 10) : 0;
        int near = value ? numbers_near(value, number) : 0;
        bool known = !split;
        for (int j = 0; j < count; j++) known |= seen[j] == value;
        if (!known) seen[count++] = value;
        for (int n = 0; n < near; n++) {
            replace(to, i, renumbered(to->arena, line, value, number[n]));
            if (!known) renumber_all(to, value, number[n]);
        }
    }
}

// ---- lines -------------------------------------------------------------------------------------

static void edit_order(Edits *to, int at) {
    char *word[32], *saved, *copy = arena_text(to->arena, to->line[at]);
    int words = 0;
    for (char *w = strtok_r(copy, " ", &saved); w && words < COUNT_OF(word);
         w = strtok_r(NULL, " ", &saved))
        word[words++] = w;
    for (int i = 1; i + 1 < words; i++) {
        Text text = text_new(to->arena);
        for (int j = 0; j < words; j++)
            text_add(&text, "%s%s", j ? " " : "", word[j == i ? i + 1 : j == i + 1 ? i : j]);
        replace(to, at, text.at);
    }
}

static void edit_words(Edits *to, int at, const char *const *word, int words) {
    char *line = to->line[at];
    for (int i = 0; i < words; i++) {
        char *found = strstr(line, word[i]);
        for (int j = 0; j < words && found; j++)
            if (j != i)
                replace(to, at,
                        arena_print(to->arena, "%.*s%s%s", (int)(found - line), line, word[j],
                                    found + strlen(word[i])));
    }
}

static void edit_lines(Edits *to) {
    static const char *const kept[] = {"SPLIT", "VECTORIZE", "TENSORCORE"},
                             *const spaces[] = {" in L2", " in shared", " in reg"},
                             *const tails[] = {" peel", " pad", " guard"};
    for (int i = 0; i < to->lines; i++) {
        bool keeps = false;
        for (int k = 0; k < COUNT_OF(kept); k++) keeps |= is_verb(to->line[i], kept[k]);
        if (!keeps) propose(to, i, NULL, arena_print(to->arena, "no %s", to->line[i]));
        if (is_verb(to->line[i], "ORDER")) edit_order(to, i);
        if (is_verb(to->line[i], "SPLIT")) edit_words(to, i, tails, COUNT_OF(tails));
        if (is_verb(to->line[i], "STAGE")) edit_words(to, i, spaces, COUNT_OF(spaces));
    }
}

// ---- loops that are left -----------------------------------------------------------------------

static void add_line(Edits *to, const char *line) {
    propose(to, to->lines, line, arena_print(to->arena, "and %s", line));
}

static void add_vector(Edits *to, const char *name, int lanes) {
    propose(to, to->lines,
            arena_print(to->arena, "SPLIT %s %d peel\nVECTORIZE %s1", name, lanes, name),
            arena_print(to->arena, "and vectors of %d along %s", lanes, name));
}

// The loops whose iterations threads share become others.
static void move_threads(Edits *to, const char *name) {
    Edits moved = *to;
    moved.lines = 0;
    for (int i = 0; i < to->lines; i++)
        if (!is_verb(to->line[i], "THREAD")) moved.line[moved.lines++] = to->line[i];
    add_line(&moved, arena_print(to->arena, "THREAD %s", name));
}

static void edit_loops(Edits *to) {
    LoopSet there = kernel_loops_inside(to->kernel->body);
    for (int32_t i = 0; i < to->kernel->loops.count; i++) {
        const Loop *loop = &to->kernel->loops.at[i];
        const char *name = loop->name;
        int64_t most = index_high(graph_indices(to->kernel->graph), loop->extent);
        if (!loop_set_has(&there, i) || loop->kind != LOOP_SERIAL || most < 2) continue;
        move_threads(to, name);
        if (most <= 16) add_line(to, arena_print(to->arena, "UNROLL %s", name));
        for (int steps = 2; steps <= 8 && steps < most; steps *= 2)
            add_line(to, arena_print(to->arena, "UNROLL %s %d", name, steps));
        for (int lanes = to->lanes; lanes <= 2 * to->lanes && lanes <= most; lanes *= 2)
            add_vector(to, name, lanes);
    }
}

void schedule_edits(Arena *arena, const Kernel *kernel, const char *schedule, int lanes,
                    EditList *edits) {
    Edits to = {.arena = arena, .kernel = kernel, .lanes = lanes, .edits = edits};
    char *saved, *copy = arena_text(arena, schedule);
    for (char *line = strtok_r(copy, "\n", &saved); line; line = strtok_r(NULL, "\n", &saved))
        if (to.lines < LINES_MAX) to.line[to.lines++] = line;
    edit_numbers(&to);
    edit_lines(&to);
    edit_loops(&to);
}
