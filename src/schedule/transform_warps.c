/* transform_warps.c - TENSORCORE, where the matrix unit is a GPU's and a tile is a warp's.
 * In: an accumulator that is updated by a product of what lies in registers, under the six loops of
 * a warp's tile, or the seven of four warps', whose b lies in shared memory (kernel_tile.c); loops
 * whose iterations are the warp's threads.
 * Out: the tile is one instruction; its factors are rounded where they are put where it reads them.
 * Invariant: after it each element is the same thread's in all nests (kernel_spread.c).
 *   TENSORCORE mma_tf32 16x8 on s with t t_init t_finish                                         */
#include "schedule/schedule.h"

// Those behind `with`.
static void set_threads(const ScheduleLine *line) {
    Kernel *kernel = line->kernel;
    line_expect(line, 5, "with");
    for (int word = 6; word < line->words || word == 6; word++) {
        Statement *at = kernel_loop_statement(kernel, line_loop(line, line_word(line, word)));
        Statement *against = legal_parallel(kernel, at, LOOP_THREAD);
        if (against)
            line_refuse(line, against, "threads of loop %s would meet in it", line->word[word]);
        kernel->loops.at[at->loop].kind = LOOP_THREAD;
    }
}

// The factor that moves with the rows comes first.
static void order_factors(Kernel *kernel, const Statement *rows) {
    Statement *update = rows->body;
    while (update->kind == STATEMENT_LOOP) update = update->body;
    const Node *value = graph_node(kernel->graph, update->value);
    if (value->op != OP_FMA) return;
    Id x = value->source[0], y = value->source[1], sum = value->source[2];
    LoopSet used = kernel_loops_of(kernel, x);
    if (!loop_set_has(&used, rows->loop)) update->value = node_fma(kernel->graph, y, x, sum);
}

void transform_warps(const ScheduleLine *line, const MatrixUnit *unit, int64_t n, int32_t buffer) {
    bool alone = unit->warps == 1;
    Kernel *kernel = line->kernel;
    AccessList accesses = kernel_accesses(line->arena, kernel, kernel->body, buffer);
    Statement *outermost = NULL;
    for (int i = 0; i < accesses.count && !outermost; i++)
        if (accesses.at[i].statement->role == ROLE_UPDATE) outermost = accesses.at[i].statement;
    for (int i = 0; i < (alone ? 6 : 7) && outermost; i++)
        outermost = kernel_parent(kernel, outermost);
    if (!outermost)
        line_refuse(line, NULL, "it is not updated under %s loops", alone ? "six" : "seven");
    order_factors(kernel, alone ? outermost : outermost->body);
    TileUse tile;
    const char *wrong = kernel_tile(kernel, outermost, &tile);
    if (wrong) line_refuse(line, outermost, "%s", wrong);
    if (tile.kind != (alone ? TILE_WARP : TILE_WARPGROUP) ||
        !kernel_around(kernel, outermost, LOOP_WARP))
        line_refuse(line, outermost, "a warp's product is inside a warp loop");
    if (!alone && tile.columns != n)
        line_refuse(line, outermost, "it has %lld columns", (long long)tile.columns);
    kernel->loops.at[outermost->loop].kind = LOOP_TILE;
    transform_round(line, tile.buffer[1]);
    transform_round(line, tile.buffer[2]);
    set_threads(line);
}
