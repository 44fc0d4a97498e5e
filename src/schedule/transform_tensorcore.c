/* transform_tensorcore.c - TENSORCORE: an accumulator's tile onto a matrix unit.
 * In: an accumulator with an element for each point of an m x n tile, updated under k, i, j.
 * Out: every nest on it unrolled over rows and vectors, so that the tile lives in registers.
 * Invariant: after unrolling every access has a constant element, vectors start at whole vectors.
 *   TENSORCORE avx2_fma 6x16 on s   for k { for i < 6 { for j < 16 { update s[16*i + j] } } }  =>
 *       for k { unroll for i < 6 { unroll for j0 < 2 { vector for j1 < 8 { update s[..] } } } }  */
#include "schedule/schedule.h"

typedef struct {
    const ScheduleLine *line;
    Kernel *kernel;
    const MatrixUnit *unit;
    int64_t m, n;
} Tile;

static Statement *loop_around(const Tile *tile, Statement *statement) {
    Statement *loop = kernel_parent(tile->kernel, statement);
    if (!loop) line_refuse(tile->line, statement, "no loops around it");
    return loop;
}

static void check_extent(const Tile *tile, const Statement *loop, Index element, int64_t stride,
                         int64_t extent) {
    IndexTable *table = graph_indices(tile->kernel->graph);
    const Loop *info = &tile->kernel->loops.at[loop->loop];
    int64_t had_stride = 0, had = 0;
    bool fits = index_stride(table, element, loop->loop, &had_stride) &&
                index_is_const(table, info->extent, &had) && had_stride == stride && had == extent;
    if (!fits)
        line_refuse(tile->line, loop, "the tile needs a loop of %lld here, with stride %lld in it",
                    (long long)extent, (long long)stride);
    if (info->kind != LOOP_SERIAL) line_refuse(tile->line, loop, "it has a kind already");
}

// update s[n*i + j] = a * b + s[n*i + j]  under a loop that s does not move with.
static void check_update(const Tile *tile, const Statement *update, const Statement *rows) {
    const Node *value = graph_node(tile->kernel->graph, update->value);
    Op fold;
    bool product = legal_fold(tile->kernel, update, &fold) && fold == OP_ADD && value->op == OP_FMA;
    Statement *depth = kernel_parent(tile->kernel, rows);
    LoopSet used = kernel_loops_of_index(tile->kernel, update->index);
    if (!product || update->condition >= 0)
        line_refuse(tile->line, update, "not a sum of products");
    if (!depth || loop_set_has(&used, depth->loop))
        line_refuse(tile->line, rows, "the loop around it is not one that is summed over");
}

static void set_kind(const Tile *tile, int32_t loop, LoopKind kind) {
    tile->kernel->loops.at[loop].kind = kind;
}

static void tile_nest(const Tile *tile, Statement *store, Index element) {
    Kernel *kernel = tile->kernel;
    Statement *columns = loop_around(tile, store),
              *rows = tile->m > 1 ? loop_around(tile, columns) : columns;
    check_extent(tile, columns, element, 1, tile->n);
    if (tile->m > 1) check_extent(tile, rows, element, tile->n, tile->m);
    if (store->role == ROLE_UPDATE) check_update(tile, store, rows);
    if (tile->m > 1) set_kind(tile, rows->loop, LOOP_UNROLL);
    int32_t lanes = columns->loop;
    if (tile->n > tile->unit->lanes) {
        lanes = split_loop(tile->line, columns->loop, tile->unit->lanes, "guard");
        set_kind(tile, columns->loop, LOOP_UNROLL);
    }
    Statement *vector = kernel_loop_statement(kernel, lanes),
              *against = legal_vector(kernel, vector);
    if (against)
        line_refuse(tile->line, against, "lanes of loop %s would meet in it",
                    kernel->loops.at[lanes].name);
    set_kind(tile, lanes, LOOP_VECTOR);
}

// "6x16"
static void read_size(Tile *tile, const char *text) {
    Reader reader = reader_new("tile", text);
    bool good = reader_int(&reader, &tile->m) && *reader.at++ == 'x' &&
                reader_int(&reader, &tile->n) && !*reader.at;
    int64_t columns = tile->unit->lanes * (int64_t)tile->unit->registers;
    bool whole = tile->m == tile->unit->rows && tile->n > 0 && tile->n <= columns &&
                 tile->n % tile->unit->lanes == 0;
    if (tile->unit->warps && good && !whole)
        line_refuse(tile->line, NULL, "no tile %s. Hint: %dx%d", text, tile->unit->rows,
                    (int)columns);
    if (good && tile->unit->rows > 1) return;  // transform_tiles knows which fit
    int64_t most = tile->unit->registers, lanes = tile->unit->lanes, row = tile->n / lanes;
    good = good && tile->m > 0 && tile->m < most && row > 0 && row < most && tile->n % lanes == 0;
    if (!good || (tile->m + 1) * row + 1 > most)
        line_refuse(tile->line, NULL,
                    "no tile %s. Hint: %lld registers of %lld columns, a row and "
                    "one for the operands",
                    text, (long long)most, (long long)lanes);
}

void transform_tensorcore(const ScheduleLine *line) {
    Kernel *kernel = line->kernel;
    Tile tile = {.line = line, .kernel = kernel, .unit = matrix_unit_find(line_word(line, 1))};
    if (!tile.unit) line_refuse(line, NULL, "no matrix unit %s", line->word[1]);
    read_size(&tile, line_word(line, 2));
    line_expect(line, 3, "on");
    int32_t buffer = line_buffer(line, line_word(line, 4));
    if (tile.unit->warps) {
        transform_warps(line, tile.unit, tile.n, buffer);
        return;
    }
    if (tile.unit->rows > 1) {
        transform_tiles(line, tile.unit, tile.m, tile.n, buffer);
        return;
    }
    AccessList accesses = kernel_accesses(line->arena, kernel, kernel->body, buffer);
    Statement *last = NULL;
    for (int i = 0; i < accesses.count; i++) {
        if (accesses.at[i].statement == last) continue;
        last = accesses.at[i].statement;
        tile_nest(&tile, last, accesses.at[i].index);
    }
}
