/* transform_spill.c - SPILL: a tile of accumulators leaves its registers before it is used.
 * In: an accumulator with an element for each point of a tile.  Out: a nest that copies the tile to
 * memory, and the finishing nest reading that copy.
 * Invariant: the same values; but what finishes need not be unrolled with the tile, and its
 * constants do not compete with the accumulators for registers (GCC 12 spilled the accumulators of
 * a tile whose epilogue was a silu: a third of the speed).
 *   SPILL s   for i1_finish { for j1_finish { finish c[..] = f(s[16*i1_finish + j1_finish]) } }
 *   =>        for i1_finish_spill { for j1_finish_spill { s_spill[..] = s[..] } }
 *             for i1_finish { for j1_finish { finish c[..] = f(s_spill[..]) } }                  */
#include "schedule/schedule.h"

static bool updates(const ScheduleLine *line, Statement *list, int32_t buffer) {
    AccessList accesses = kernel_accesses(line->arena, line->kernel, list, buffer);
    for (int i = 0; i < accesses.count; i++)
        if (accesses.at[i].load < 0) return true;
    return false;
}

// The nest only reads the tile, all of it by one index, under loops that still have no kind: those
// that move in the tile.
static LoopSet check_nest(const ScheduleLine *line, Statement *nest, int32_t buffer, Index index) {
    const Kernel *kernel = line->kernel;
    if (kernel->buffers.at[buffer].space == SPACE_PARAM) line_refuse(line, nest, "it is not local");
    LoopSet inside = kernel_loops_inside(nest->body), moving = kernel_loops_of_index(kernel, index);
    loop_set_add(&inside, nest->loop);
    AccessList accesses = kernel_accesses(line->arena, line->kernel, nest->body, buffer);
    for (int i = 0; i < accesses.count; i++)
        if (accesses.at[i].load < 0 || accesses.at[i].index != index)
            line_refuse(line, accesses.at[i].statement, "another element is used there as well");
    for (int32_t loop = 0; loop < kernel->loops.count; loop++) {
        const Loop *info = &kernel->loops.at[loop];
        bool plain = info->kind == LOOP_SERIAL && info->limit < 0;
        if (!loop_set_has(&inside, loop)) loop_set_remove(&moving, loop);
        if (loop_set_has(&moving, loop) && !plain)
            line_refuse(line, nest, "loop %s has a kind or a limit", info->name);
    }
    return moving;
}

void transform_spill(const ScheduleLine *line) {
    Kernel *kernel = line->kernel;
    int32_t buffer = line_buffer(line, line_word(line, 1));
    AccessList accesses = kernel_accesses(line->arena, kernel, kernel->body, buffer);
    const Access *use = NULL;
    for (int i = 0; i < accesses.count && !use; i++)
        if (accesses.at[i].load >= 0 && accesses.at[i].statement->buffer != buffer)
            use = &accesses.at[i];
    if (!use) line_refuse(line, NULL, "nothing uses %s", kernel->buffers.at[buffer].name);
    Statement *nest = use->statement, *parent;
    while ((parent = kernel_parent(kernel, nest)) && !updates(line, parent->body, buffer))
        nest = parent;
    if (nest == use->statement)
        line_refuse(line, nest, "it is in no nest of its own. Hint: STAGE makes one");
    int32_t loop[LOOPS_MAX];
    int loops = loop_set_list(check_nest(line, nest, buffer, use->index), loop);

    KernelBuffer info = kernel->buffers.at[buffer];
    const char *name = arena_print(line->arena, "%s_spill", info.name);
    int32_t copy = kernel_buffer(kernel, name, info.dtype, SPACE_REGISTER, info.size, true);
    Statement *store = statement_store(kernel, ROLE_STORE, copy, use->index,
                                       kernel_load(kernel, buffer, use->index, -1));
    Statement *copies = statement_over(kernel, loops, loop, store, "_spill");
    Statement *after = nest->next;
    nest->next = NULL;
    statement_relocate(kernel, nest, buffer, copy, NULL, NULL);
    nest->next = after;
    *kernel_link(kernel, nest) = copies;
    copies->next = nest;
}
