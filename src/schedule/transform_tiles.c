/* transform_tiles.c - TENSORCORE on a unit whose registers are tiles of bf16.
 * In: s += a * b in fp32 under a depth loop, tiles, and a tile's own loops; a and b staged in the
 * unit's layout, s staged in registers and before that in memory of the thread's own.
 * Out: a and b staged as bf16, s, a and b in tiles. A float is two bf16, hi and lo, and a * b is
 * lo*hi + hi*hi + hi*lo; what is exactly a bf16 is one.
 * Invariant: with each panel goes the range of its elements. Where a product could overflow, fall
 * below what the unit keeps, or is not finite, the same loops run in fp32 instead: hi would round
 * up to infinity, and infinity * lo is NaN.
 *   for k { for i0 { for j0 { for i { for j { for p { for q { update s } } } } } } }   =>
 *       for k_plain < 16, 16 - 16*fine { .. update s } s_reg = s
 *       for k < 16, 16*fine { b_reg = b a_reg = a_lo .. update s_reg .. } s = s_reg              */
#include "schedule/schedule.h"

#include <string.h>

enum { DEPTH, TILES_I, TILES_J, ROW, COLUMN, PAIR, HALF, LOOPS };
typedef struct {
    int32_t part[2];  // buffers of bf16: the whole value or hi, then lo
    int parts;
    int32_t tile;     // the buffer in registers
    int along;        // TILES_I or TILES_J
    int row, column;  // the loops that are its rows, and its columns' pairs
    Index at;         // where the update reads
    Id plain;         // what is read there in fp32
    Id most, least;   // magnitudes in its panel, as f32; those of 1 and of the elements but 0
} Operand;
typedef struct {
    const ScheduleLine *line;
    Kernel *kernel;
    Graph *graph;
    IndexTable *table;
    Statement *update;
    int32_t loop[LOOPS];
    Operand a, b;
} Tiling;

static int64_t extent_of(const Tiling *to, int32_t loop) {
    return index_high(to->table, to->kernel->loops.at[loop].extent);
}

static Id integer(const Tiling *to, int64_t value) {
    return node_const_int(to->graph, DT_I32, (Shape){0}, value);
}

static Id binary(const Tiling *to, Op op, Id x, Id y) { return node_binary(to->graph, op, x, y); }

// ---- what is there -----------------------------------------------------------------------------

static void find_loops(Tiling *to, int32_t buffer) {
    AccessList accesses = kernel_accesses(to->line->arena, to->kernel, to->kernel->body, buffer);
    Op fold;
    for (int i = 0; i < accesses.count; i++)
        if (accesses.at[i].statement->role == ROLE_UPDATE) to->update = accesses.at[i].statement;
    if (!to->update || !legal_fold(to->kernel, to->update, &fold) || fold != OP_ADD ||
        graph_node(to->graph, to->update->value)->op != OP_FMA || to->update->condition >= 0)
        line_refuse(to->line, to->update, "not a sum of products");
    Statement *at = to->update;
    for (int n = LOOPS; n--;) {
        Statement *parent = kernel_parent(to->kernel, at);
        const Loop *loop = parent ? &to->kernel->loops.at[parent->loop] : NULL;
        if (!parent || at->next || parent->body != at || loop->limit >= 0 ||
            loop->kind != LOOP_SERIAL)
            line_refuse(to->line, at, "it is not alone in seven plain loops");
        to->loop[n] = parent->loop;
        at = parent;
    }
}

// What stands for the loops of one index when it is to be another: strides tell which is which.
static Substitution *same_element(const Tiling *to, Index from, Index wanted) {
    Substitution *by = substitution_new(to->line->arena, to->kernel);
    LoopSet mine = kernel_loops_of_index(to->kernel, from),
            other = kernel_loops_of_index(to->kernel, wanted);
    for (int32_t f = 0; f < by->loops; f++) {
        int64_t stride = 0, step;
        if (!loop_set_has(&mine, f) || !index_stride(to->table, from, f, &stride)) continue;
        by->loop[f] = index_const(to->table, 0);
        for (int32_t m = 0; m < by->loops; m++)
            if (loop_set_has(&other, m) && index_stride(to->table, wanted, m, &step) &&
                step >= stride && step / stride < extent_of(to, f))
                by->loop[f] = index_add(
                    to->table, by->loop[f],
                    index_scale(to->table, kernel_loop_index(to->kernel, m), step / stride));
    }
    if (kernel_substitute_index(to->kernel, from, by) != wanted)
        line_refuse(to->line, to->update, "it is staged in another order than it is read");
    return by;
}

static Statement *find_fill(const Tiling *to, int32_t buffer) {
    AccessList all = kernel_accesses(to->line->arena, to->kernel, to->kernel->body, buffer);
    if (to->kernel->buffers.at[buffer].space == SPACE_PARAM || all.count != 2 ||
        all.at[0].load >= 0)
        line_refuse(to->line, to->update, "%s is not staged for it alone",
                    to->kernel->buffers.at[buffer].name);
    return all.at[0].statement;
}

// ---- operands ----------------------------------------------------------------------------------

// The value as a bf16, if it is one exactly: an integer of 8 bits, too, and 0 in padding; else -1.
static Id exact_value(const Tiling *to, Id value) {
    Id zero = node_const_float(to->graph, DT_F32, (Shape){0}, 0);
    const Node *node = graph_node(to->graph, value);
    if (node->op == OP_WHERE && node->source[2] == zero) {
        Id condition = node->source[0], inside = exact_value(to, node->source[1]);
        zero = node_const_float(to->graph, DT_BF16, (Shape){0}, 0);
        return inside < 0 ? -1 : node_where(to->graph, condition, inside, zero);
    }
    DType from = node->op == OP_CAST ? node_dtype(to->graph, node->source[0]) : DT_F32;
    if (from == DT_BF16) return node->source[0];
    return from == DT_I8 || from == DT_U8 ? node_cast(to->graph, value, DT_BF16) : -1;
}

static Id widened(const Tiling *to, Id value) {
    return node_dtype(to->graph, value) == DT_F32 ? value : node_cast(to->graph, value, DT_F32);
}

static Id magnitude(const Tiling *to, Id bits) {
    return binary(to, OP_AND, bits, integer(to, INT32_MAX));
}

// Two folds over a copy of the nest that fills a panel: the greatest of the magnitudes, as bits,
// and of 2^31 less each, modulo 2^31, which leaves zeros out. They start at the magnitude of 1.
static void add_range(const Tiling *to, Operand *operand, Statement *nest, Index panel,
                      int64_t panels, const Substitution *by) {
    enum { ONE = 0x3f800000 };
    Kernel *kernel = to->kernel;
    KernelBuffer staged = kernel->buffers.at[operand->part[0]];
    const char *name = arena_print(to->line->arena, "%s_range", staged.name);
    int32_t range = kernel_buffer(kernel, name, DT_I32, staged.space, 2 * panels, true);
    Index zero = index_const(to->table, 0), main = kernel_substitute_index(kernel, panel, by);
    Statement *list =
        statement_copy(kernel, nest, "_range", substitution_new(to->line->arena, kernel));
    Statement *last = list, *store = list, *first = list;
    while (store->kind == STATEMENT_LOOP) store = store->body;
    Id value = node_bitcast(to->graph, widened(to, store->value), DT_I32);
    Id size = magnitude(to, value), found[2];
    Id term[2] = {size, magnitude(to, binary(to, OP_MUL, size, integer(to, -1)))};
    for (int n = 0; n < 2; n++) {
        int32_t sum = kernel_buffer(kernel, n ? "least" : "most", DT_I32, SPACE_REGISTER, 1, true);
        Id old = kernel_load(kernel, sum, zero, -1);
        Statement *init = statement_store(kernel, ROLE_INIT, sum, zero,
                                          integer(to, n ? INT32_MIN - (int64_t)ONE : ONE));
        Statement *update = n ? arena_copy(to->line->arena, store, sizeof *store) : store;
        *update =
            *statement_store(kernel, ROLE_UPDATE, sum, zero, binary(to, OP_MAX, term[n], old));
        if (n) store->next = update;
        Index place =
            index_add(to->table, index_scale(to->table, panel, 2), index_const(to->table, n));
        last->next = statement_store(kernel, ROLE_FINISH, range, place, old);
        last = last->next;
        init->next = first;
        first = init;
        place = index_add(to->table, index_scale(to->table, main, 2), index_const(to->table, n));
        found[n] = kernel_load(kernel, range, place, -1);
    }
    found[1] =
        binary(to, OP_ADD, binary(to, OP_MUL, found[1], integer(to, -1)), integer(to, INT32_MIN));
    operand->most = node_bitcast(to->graph, found[0], DT_F32);
    operand->least = node_bitcast(to->graph, found[1], DT_F32);
    last->next = nest;
    *kernel_link(kernel, nest) = first;
}

// A panel is what is filled while the loops run that the update's own loops do not read along.
static void find_panel(const Tiling *to, Operand *operand, Statement *fill) {
    Kernel *kernel = to->kernel;
    Substitution *by = same_element(to, fill->index, operand->at);
    Statement *nest = fill, *chain[16], *parent;
    int loops = 0;
    Index panel = index_const(to->table, 0);
    int64_t panels = 1;
    LoopSet own = {0};
    for (int n = 0; n < LOOPS; n++) loop_set_add(&own, to->loop[n]);
    while ((parent = kernel_parent(kernel, nest)) && loops < COUNT_OF(chain)) {
        LoopSet inside = kernel_loops_inside(parent->body);
        if (loop_set_has(&inside, to->loop[DEPTH])) break;
        if (parent->body->next) line_refuse(to->line, parent, "it is not a perfect nest");
        chain[loops++] = nest = parent;
    }
    while (loops--) {
        Index main =
            kernel_substitute_index(kernel, kernel_loop_index(kernel, chain[loops]->loop), by);
        LoopSet used = kernel_loops_of_index(kernel, main);
        bool apart = true;
        for (int n = 0; n < LOOPS; n++) apart &= !loop_set_has(&used, to->loop[n]);
        if (!apart) break;
        panel = kernel_row_major(kernel, panel, 1, &chain[loops]->loop);
        panels *= extent_of(to, chain[loops]->loop);
        nest = chain[loops]->body;
    }
    operand->plain = kernel_substitute(kernel, widened(to, fill->value), by);
    add_range(to, operand, nest, panel, panels, by);
}

static void split_operand(const Tiling *to, Operand *operand, Id factor) {
    Kernel *kernel = to->kernel;
    const Node *node = graph_node(to->graph, factor);
    if (node->op == OP_CAST) node = graph_node(to->graph, node->source[0]);
    if (node->op != OP_LOAD || (node->dtype != DT_F32 && node->dtype != DT_BF16))
        line_refuse(to->line, to->update, "a factor is not staged. Hint: STAGE .. convert");
    operand->part[0] = (int32_t)node->arg[0];
    operand->at = (Index)node->arg[1];
    Statement *fill = find_fill(to, operand->part[0]);
    find_panel(to, operand, fill);
    KernelBuffer *staged = &kernel->buffers.at[operand->part[0]];
    const char *name = arena_print(to->line->arena, "%s_tile", staged->name);
    operand->parts = 1;
    operand->tile = kernel_buffer(kernel, name, DT_BF16, SPACE_REGISTER,
                                  512 * extent_of(to, to->loop[operand->along]), true);
    staged = &kernel->buffers.at[operand->part[0]];
    if (staged->dtype == DT_BF16) return;
    Id whole = fill->value, exact = exact_value(to, whole);
    staged->dtype = DT_BF16;
    fill->value = exact >= 0 ? exact : node_cast(to->graph, whole, DT_BF16);
    if (exact >= 0) return;
    Id minus = node_const_float(to->graph, DT_F32, (Shape){0}, -1);
    Id rest = binary(to, OP_ADD, whole, binary(to, OP_MUL, widened(to, fill->value), minus));
    operand->parts = 2;
    operand->part[1] = kernel_buffer(kernel, arena_print(to->line->arena, "%s_lo", staged->name),
                                     DT_BF16, staged->space, staged->size, true);
    Statement *low = statement_store(kernel, ROLE_STORE, operand->part[1], fill->index,
                                     node_cast(to->graph, rest, DT_BF16));
    low->condition = fill->condition;
    low->next = fill->next;
    fill->next = low;
}

// ---- tiles -------------------------------------------------------------------------------------

static int32_t new_loop(const Tiling *to, const char *name, int64_t extent, LoopKind kind) {
    int32_t loop = kernel_loop(to->kernel, name, extent);
    to->kernel->loops.at[loop].kind = kind;
    return loop;
}

static Index scaled(const Tiling *to, int32_t loop, int64_t by) {
    return index_scale(to->table, kernel_loop_index(to->kernel, loop), by);
}

static Index sum_of(const Tiling *to, Index a, Index b, Index c) {
    return index_add(to->table, index_add(to->table, a, b), c);
}

// A part of an operand, into its registers.
static Statement *load_tiles(const Tiling *to, const Operand *operand, int part) {
    int32_t loop[3] = {new_loop(to, "t", extent_of(to, to->loop[operand->along]), LOOP_UNROLL),
                       new_loop(to, "r", UNIT_ROWS, LOOP_TILE), new_loop(to, "c", 32, LOOP_SERIAL)};
    Substitution *by = substitution_new(to->line->arena, to->kernel);
    int64_t pair = 0, half = 0;
    index_stride(to->table, operand->at, to->loop[operand->column], &pair);
    index_stride(to->table, operand->at, to->loop[HALF], &half);
    if (pair != 2 || half != 1)
        line_refuse(to->line, to->update, "pairs of its terms are not neighbours in %s",
                    to->kernel->buffers.at[operand->part[0]].name);
    by->loop[to->loop[operand->along]] = kernel_loop_index(to->kernel, loop[0]);
    by->loop[to->loop[operand->row]] = kernel_loop_index(to->kernel, loop[1]);
    by->loop[to->loop[operand->column]] = kernel_loop_index(to->kernel, loop[2]);
    by->loop[to->loop[HALF]] = index_const(to->table, 0);
    Index from = kernel_substitute_index(to->kernel, operand->at, by);  // 2*c for c: too far
    from = index_sub(to->table, from, scaled(to, loop[2], 1));
    Index at =
        sum_of(to, scaled(to, loop[0], 512), scaled(to, loop[1], 32), scaled(to, loop[2], 1));
    Id value = kernel_load(to->kernel, operand->part[part], from, -1);
    return statement_nest(to->kernel, 3, loop,
                          statement_store(to->kernel, ROLE_STORE, operand->tile, at, value));
}

static Statement *product_of(const Tiling *to) {
    static const char *const names[LOOPS] = {"", "ti", "tj", "i", "j", "p", "q"};
    int32_t loop[LOOPS];
    Substitution *by = substitution_new(to->line->arena, to->kernel);
    for (int n = TILES_I; n < LOOPS; n++) {
        LoopKind kind = n <= TILES_J ? LOOP_UNROLL : n == ROW ? LOOP_TILE : LOOP_SERIAL;
        loop[n] = new_loop(to, names[n], extent_of(to, to->loop[n]), kind);
        by->loop[to->loop[n]] = kernel_loop_index(to->kernel, loop[n]);
    }
    Index half = scaled(to, loop[HALF], 1);
    Index s = kernel_substitute_index(to->kernel, to->update->index, by);
    Index a = sum_of(to, scaled(to, loop[TILES_I], 512), scaled(to, loop[ROW], 32),
                     index_add(to->table, scaled(to, loop[PAIR], 2), half));
    Index b = sum_of(to, scaled(to, loop[TILES_J], 512), scaled(to, loop[PAIR], 32),
                     index_add(to->table, scaled(to, loop[COLUMN], 2), half));
    Id value = node_fma(to->graph, widened(to, kernel_load(to->kernel, to->a.tile, a, -1)),
                        widened(to, kernel_load(to->kernel, to->b.tile, b, -1)),
                        kernel_load(to->kernel, to->update->buffer, s, -1));
    Statement *store = statement_store(to->kernel, ROLE_UPDATE, to->update->buffer, s, value);
    return statement_nest(to->kernel, LOOPS - 1, loop + 1, store);
}

// In an order that keeps a tile where it is for two products.
static Statement *products_of(const Tiling *to) {
    static const int order[3][2] = {{1, 0}, {0, 0}, {0, 1}};  // a's part, b's
    Statement *first = NULL, **end = &first;
    int a = -1, b = -1;
    for (int n = 0; n < COUNT_OF(order); n++) {
        if (order[n][0] >= to->a.parts || order[n][1] >= to->b.parts) continue;
        if (b != order[n][1]) *end = load_tiles(to, &to->b, b = order[n][1]), end = &(*end)->next;
        if (a != order[n][0]) *end = load_tiles(to, &to->a, a = order[n][0]), end = &(*end)->next;
        *end = product_of(to);
        end = &(*end)->next;
    }
    return first;
}

// The nests that bring the sums and take them away; returns the first.
static Statement *copy_tiles(const Tiling *to) {
    AccessList accesses =
        kernel_accesses(to->line->arena, to->kernel, to->kernel->body, to->update->buffer);
    Statement *first = NULL;
    for (int i = 0; i < accesses.count; i++) {
        Statement *store = accesses.at[i].statement, *at = store;
        if (store == to->update) continue;
        const Node *load = graph_node(to->graph, store->value);
        if (load->op != OP_LOAD) line_refuse(to->line, store, "not a copy. Hint: STAGE s in own");
        if (!first) first = store;
        for (int n = 4; n--;) {
            at = kernel_parent(to->kernel, at);
            if (!at) line_refuse(to->line, store, "it is not in four loops");
            to->kernel->loops.at[at->loop].kind = n < 2    ? LOOP_UNROLL
                                                  : n == 2 ? LOOP_TILE
                                                           : LOOP_SERIAL;
        }
    }
    if (!first || first->buffer != to->update->buffer)
        line_refuse(to->line, to->update,
                    "its sums are not loaded. Hint: STAGE s in own, then reg");
    return first;
}

// ---- in fp32 -----------------------------------------------------------------------------------

// The same sums, on the memory that the tiles are loaded from.
static int32_t add_plain(const Tiling *to, const Statement *load) {
    static const int order[LOOPS] = {DEPTH, PAIR, HALF, TILES_I, ROW, TILES_J, COLUMN};
    Kernel *kernel = to->kernel;
    const Node *from = graph_node(to->graph, load->value);
    int32_t memory = (int32_t)from->arg[0], loop[LOOPS];
    Index at = (Index)from->arg[1];
    at = kernel_substitute_index(kernel, at, same_element(to, load->index, to->update->index));
    Id value = node_fma(to->graph, to->a.plain, to->b.plain, kernel_load(kernel, memory, at, -1));
    Statement *store = statement_store(kernel, ROLE_UPDATE, memory, at, value);
    Substitution *by = substitution_new(to->line->arena, kernel);
    for (int n = 0; n < LOOPS; n++)
        loop[n] = kernel_loop_copy(kernel, to->loop[order[n]], "_plain", by);
    statement_substitute(kernel, store, by);
    Statement *nest = statement_nest(kernel, LOOPS, loop, store),
              *place = kernel_parent(kernel, load);
    for (int n = 0; n < 3; n++) place = kernel_parent(kernel, place);
    nest->next = place;
    *kernel_link(kernel, place) = nest;
    return loop[0];
}

// Products of the greatest stay finite, those of the least keep what true tf32 keeps: lo*hi is 2^-8
// of hi*hi at most, and the unit has no number below 2^-126. A NaN is less than nothing.
static Index is_fine(const Tiling *to) {
    Id high = node_const_float(to->graph, DT_F32, (Shape){0}, 0x1p110),
       low = node_const_float(to->graph, DT_F32, (Shape){0}, 0x1p-110);
    Id below = binary(to, OP_CMPLT, binary(to, OP_MUL, to->a.most, to->b.most), high),
       above = binary(to, OP_CMPLT, low, binary(to, OP_MUL, to->a.least, to->b.least));
    Id fine = node_cast(to->graph, binary(to, OP_AND, below, above), DT_I32);
    return index_atom(to->table, ATOM_VALUE, fine, 0, 1);
}

void transform_tiles(const ScheduleLine *line, const MatrixUnit *unit, int64_t m, int64_t n,
                     int32_t buffer) {
    Kernel *kernel = line->kernel;
    Tiling to = {.line = line,
                 .kernel = kernel,
                 .graph = kernel->graph,
                 .table = graph_indices(kernel->graph),
                 .a = {.along = TILES_I, .row = ROW, .column = PAIR},
                 .b = {.along = TILES_J, .row = PAIR, .column = COLUMN}};
    find_loops(&to, buffer);
    int64_t rows = extent_of(&to, to.loop[TILES_I]), columns = extent_of(&to, to.loop[TILES_J]);
    if (m != UNIT_ROWS * rows || n != UNIT_ROWS * columns ||
        rows * columns + rows + columns > unit->registers)
        line_refuse(line, to.update, "no tile %lldx%lld here", (long long)m, (long long)n);
    const Node *value = graph_node(to.graph, to.update->value);
    Id x = value->source[0], y = value->source[1];
    LoopSet loops = kernel_loops_of(kernel, x);
    bool swapped = loop_set_has(&loops, to.loop[COLUMN]);
    split_operand(&to, &to.a, swapped ? y : x);
    split_operand(&to, &to.b, swapped ? x : y);
    const Statement *load = copy_tiles(&to);
    int32_t plain = add_plain(&to, load), depth = to.loop[DEPTH];
    Index whole = kernel->loops.at[depth].extent,
          fine = index_scale(to.table, is_fine(&to), extent_of(&to, depth));
    kernel->loops.at[depth].limit = fine;
    kernel->loops.at[plain].limit = index_sub(to.table, whole, fine);
    kernel_loop_statement(kernel, depth)->body = products_of(&to);
}
