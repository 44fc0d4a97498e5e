/* transform_order.c - ORDER, THREAD, BLOCK, WARP, VECTORIZE, UNROLL, PIPELINE: which iterations run
 * when, and where.
 * In: loops by name.  Out: the nest's loops in another order; a loop of another kind. PIPELINE:
 * when what a buffer holds is asked for.
 * Invariant: iterations change places only where no statement needs them in order.
 *   ORDER k i j   for i { for j { for k { update s[16*i + j] = .. } } }   =>
 *       for k { for i { for j { update s[16*i + j] = .. } } }                                    */
#include "schedule/schedule.h"

#include <string.h>

// The outermost loop statement among those named; they must be one perfect nest.
static Statement *find_nest(const ScheduleLine *line, LoopSet named) {
    const Kernel *kernel = line->kernel;
    for (int word = 1; word < line->words; word++) {
        Statement *top = kernel_loop_statement(kernel, kernel_find_loop(kernel, line->word[word]));
        Statement *parent = kernel_parent(kernel, top);
        if (parent && loop_set_has(&named, parent->loop)) continue;
        Statement *at = top;
        for (int depth = 2; depth < line->words; depth++) {
            Statement *child = at->body;
            bool single = child->kind == STATEMENT_LOOP && !child->next;
            if (!single || !loop_set_has(&named, child->loop))
                line_refuse(line, at,
                            "its body is not one loop of those named. Hint: ORDER takes one "
                            "perfect nest; STAGE makes such nests");
            at = child;
        }
        return top;
    }
    line_refuse(line, NULL, "no loops named");
}

void transform_order(const ScheduleLine *line) {
    Kernel *kernel = line->kernel;
    LoopSet named = {0};
    int32_t order[COUNT_OF(line->word)];
    for (int word = 1; word < line->words; word++) {
        order[word] = line_loop(line, line->word[word]);
        if (loop_set_has(&named, order[word]))
            line_refuse(line, NULL, "%s twice", line->word[word]);
        loop_set_add(&named, order[word]);
    }
    Statement *top = find_nest(line, named), *innermost = top;
    for (int depth = 2; depth < line->words; depth++) innermost = innermost->body;
    Statement *against = legal_reorder(kernel, named, innermost->body);
    if (against)
        line_refuse(line, against, "iterations of loop %s may depend on each other through it",
                    kernel->loops.at[top->loop].name);
    for (int word = 1; word < line->words; word++, top = top->body) top->loop = order[word];
}

static Statement *serial_loop(const ScheduleLine *line, int word) {
    int32_t loop = line_loop(line, line_word(line, word));
    Statement *at = kernel_loop_statement(line->kernel, loop);
    if (line->kernel->loops.at[loop].kind != LOOP_SERIAL)
        line_refuse(line, at, "it has a kind already");
    return at;
}

static void set_parallel(const ScheduleLine *line, LoopKind kind, const char *who) {
    Kernel *kernel = line->kernel;
    for (int word = 1; word < line->words || word == 1; word++) {
        Statement *at = serial_loop(line, word);
        Statement *against = legal_parallel(kernel, at, kind);
        if (against)
            line_refuse(line, against, "%s of loop %s would meet in it. Hint: RFACTOR a fold first",
                        who, kernel->loops.at[at->loop].name);
        kernel->loops.at[at->loop].kind = kind;
    }
}

void transform_thread(const ScheduleLine *line) { set_parallel(line, LOOP_THREAD, "threads"); }

// All statements are one block's.
static void block_all(const ScheduleLine *line) {
    Kernel *kernel = line->kernel;
    int32_t loop = kernel_loop(kernel, "all", 1);
    if (kernel_has_blocks(kernel)) line_refuse(line, kernel->body, "there are blocks already");
    kernel->loops.at[loop].kind = LOOP_BLOCK;
    kernel->body = statement_loop(kernel, loop, kernel->body);
}

void transform_block(const ScheduleLine *line) {
    if (!strcmp(line_word(line, 1), "top"))
        block_all(line);
    else
        set_parallel(line, LOOP_BLOCK, "blocks");
}

void transform_warp(const ScheduleLine *line) { set_parallel(line, LOOP_WARP, "warps"); }

void transform_vectorize(const ScheduleLine *line) {
    Kernel *kernel = line->kernel;
    Statement *at = serial_loop(line, 1);
    Loop *loop = &kernel->loops.at[at->loop];
    int64_t lanes = 0;
    if (!index_is_const(graph_indices(kernel->graph), loop->extent, &lanes) ||
        lanes & (lanes - 1) || lanes < 1 || loop->limit >= 0)
        line_refuse(line, at,
                    "lanes are a constant power of two without a limit. Hint: SPLIT by 8, "
                    "peel or pad");
    for (const Statement *child = at->body; child; child = child->next)
        if (child->kind != STATEMENT_STORE)
            line_refuse(line, child, "inside loop %s. Hint: ORDER or STAGE make %s innermost",
                        loop->name, loop->name);
    Statement *against = legal_vector(kernel, at);
    if (against)
        line_refuse(line, against,
                    "lanes of loop %s would meet in it. Hint: STAGE it, so that each "
                    "lane has its own",
                    loop->name);
    loop->kind = LOOP_VECTOR;
}

void transform_pipeline(const ScheduleLine *line) {
    int32_t loop = kernel_find_loop(line->kernel, line_word(line, 1));
    if (loop >= 0 && kernel_loop_statement(line->kernel, loop)) {
        bool through = line->words > 2 && !strcmp(line->word[2], "through");
        (through ? transform_through : transform_pipeline_loop)(line, loop);
        return;
    }
    KernelBuffer *buffer = &line->kernel->buffers.at[line_buffer(line, line_word(line, 1))];
    int64_t ahead = line_number(line, 2);
    if (buffer->space == SPACE_REGISTER) line_refuse(line, NULL, "it is in registers");
    if (ahead > AHEAD_MAX) line_refuse(line, NULL, "at most %d bytes ahead", AHEAD_MAX);
    buffer->ahead = (int32_t)ahead;
}

void transform_stream(const ScheduleLine *line) {
    int32_t buffer = line_buffer(line, line_word(line, 1));
    KernelBuffer *info = &line->kernel->buffers.at[buffer];
    AccessList accesses = kernel_accesses(line->arena, line->kernel, line->kernel->body, buffer);
    if (info->space != SPACE_PARAM || !info->written) line_refuse(line, NULL, "it is no result");
    for (int i = 0; i < accesses.count; i++)
        if (accesses.at[i].load >= 0)
            line_refuse(line, accesses.at[i].statement, "it is read here");
    info->streams = true;
}

void transform_unroll(const ScheduleLine *line) {
    Kernel *kernel = line->kernel;
    Statement *at = serial_loop(line, 1);
    Loop *loop = &kernel->loops.at[at->loop];
    int64_t extent, steps = line->words > 2 ? line_number(line, 2) : 0;
    if (steps == 1 || steps > LOOP_STEPS_MAX)
        line_refuse(line, at, "%lld in a row: 2 to %d", (long long)steps, LOOP_STEPS_MAX);
    if (!steps && !index_is_const(graph_indices(kernel->graph), loop->extent, &extent))
        line_refuse(line, at, "its extent is not a constant. Hint: UNROLL %s 4", loop->name);
    loop->kind = LOOP_UNROLL;
    loop->steps = (int32_t)steps;
}
