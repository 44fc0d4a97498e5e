/* transform.c - schedules: text, one transform a line, applied to a kernel.
 * In: a kernel in explicit form, a schedule.  Out: the same kernel, its tree changed.
 * Invariant: after each line the kernel verifies and computes what it did before, up to the order
 * in which one accumulator's terms are added.
 *   schedule_apply(kernel, "SPLIT j 8\nVECTORIZE j1\nTHREAD i\n")                              */
#include "schedule/schedule.h"

#include <string.h>

static const struct {
    const char *name;
    Transform *apply;
} transforms[] = {
    {"SPLIT", transform_split},
    {"ORDER", transform_order},
    {"FUSE", transform_fuse},
    {"THREAD", transform_thread},
    {"BLOCK", transform_block},
    {"WARP", transform_warp},
    {"VECTORIZE", transform_vectorize},
    {"UNROLL", transform_unroll},
    {"PIPELINE", transform_pipeline},
    {"STREAM", transform_stream},
    {"STAGE", transform_stage},
    {"COMPUTE_AT", transform_compute_at},
    {"REUSE", transform_reuse},
    {"RFACTOR", transform_rfactor},
    {"DISTRIBUTE", transform_distribute},
    {"TENSORCORE", transform_tensorcore},
    {"SPILL", transform_spill},
    {"TABULATE", transform_tabulate},
};

_Noreturn void line_refuse(const ScheduleLine *line, const Statement *at, const char *format, ...) {
    Text what = text_new(line->arena);
    va_list arguments;
    va_start(arguments, format);
    text_add_list(&what, format, arguments);
    va_end(arguments);
    const char *where = at ? statement_text(line->arena, line->kernel, at) : "";
    fatal("kernel %s: %s: %s%s%s", line->kernel->name, line->text, where, at ? ": " : "", what.at);
}

const char *line_word(const ScheduleLine *line, int word) {
    if (word >= line->words) line_refuse(line, NULL, "the line ends too early");
    return line->word[word];
}

int32_t line_loop(const ScheduleLine *line, const char *name) {
    int32_t loop = kernel_find_loop(line->kernel, name);
    if (loop >= 0 && kernel_loop_statement(line->kernel, loop)) return loop;
    Text names = text_new(line->arena);
    LoopSet there = kernel_loops_inside(line->kernel->body);
    for (int32_t i = 0; i < line->kernel->loops.count; i++)
        if (loop_set_has(&there, i)) text_add(&names, " %s", line->kernel->loops.at[i].name);
    line_refuse(line, NULL, "no loop %s. Hint: there are%s", name, names.at);
}

int32_t line_buffer(const ScheduleLine *line, const char *name) {
    int32_t buffer = kernel_find_buffer(line->kernel, name);
    if (buffer < 0) line_refuse(line, NULL, "no buffer %s", name);
    return buffer;
}

int64_t line_number(const ScheduleLine *line, int word) {
    int64_t value;
    Reader reader = reader_new("schedule", line_word(line, word));
    if (!reader_int(&reader, &value) || *reader.at || value < 1)
        line_refuse(line, NULL, "%s is not a number of 1 or more", line->word[word]);
    return value;
}

void line_expect(const ScheduleLine *line, int word, const char *text) {
    if (strcmp(line_word(line, word), text) != 0)
        line_refuse(line, NULL, "'%s' should be '%s'", line->word[word], text);
}

Space line_space(const ScheduleLine *line, int word) {
    static const struct {
        const char *name;
        Space space;
    } spaces[] = {{"reg", SPACE_REGISTER},
                  {"own", SPACE_THREAD},
                  {"L1", SPACE_THREAD},
                  {"L2", SPACE_THREAD},
                  {"shared", SPACE_SHARED}};
    const char *name = line_word(line, word);
    for (int i = 0; i < COUNT_OF(spaces); i++)
        if (!strcmp(spaces[i].name, name)) return spaces[i].space;
    line_refuse(line, NULL,
                "no space %s. Hint: reg, own, L1, L2, shared; once for a copy of a weight", name);
}

Statement **line_place(const ScheduleLine *line, int word) {
    const char *name = line_word(line, word);
    if (!strcmp(name, "top")) return &line->kernel->body;
    Statement *loop = kernel_loop_statement(line->kernel, line_loop(line, name));
    if (line->kernel->loops.at[loop->loop].kind == LOOP_VECTOR)
        line_refuse(line, loop, "nothing is staged in a vector loop");
    return &loop->body;
}

static void apply_line(Kernel *kernel, const char *text) {
    Arena *arena = graph_arena(kernel->graph);
    ScheduleLine line = {.kernel = kernel, .arena = arena, .text = text};
    char *rest = arena_text(arena, text), *saved;
    for (char *word = strtok_r(rest, " \t\r", &saved); word;
         word = strtok_r(NULL, " \t\r", &saved)) {
        if (line.words == COUNT_OF(line.word)) line_refuse(&line, NULL, "too many words");
        line.word[line.words++] = word;
    }
    if (!line.words) return;
    for (int i = 0; i < COUNT_OF(transforms); i++) {
        if (strcmp(transforms[i].name, line.word[0]) != 0) continue;
        transforms[i].apply(&line);
        kernel_verify(kernel);
        return;
    }
    line_refuse(&line, NULL, "no transform %s", line.word[0]);
}

void schedule_apply(Kernel *kernel, const char *schedule) {
    while (*schedule) {
        size_t length = strcspn(schedule, "\n");
        size_t used = strcspn(schedule, "#\n");
        while (used && strchr(" \t\r", schedule[used - 1])) used--;
        char *line = arena_alloc(graph_arena(kernel->graph), used + 1);
        memcpy(line, schedule, used);
        apply_line(kernel, line);
        schedule += length + (schedule[length] == '\n');
    }
}
