/* heuristic_weights.c - schedules for products with weights, which are laid out for them at load.
 * In: a kernel with weights (out, in), packed or not.  Out: a schedule, or none.
 * Invariant: the layout depends on the weight and its rows alone, so that a step for one token and
 * one for many read the same memory: groups of 32 rows (or 16), in each the weight's other loops in
 * order, innermost the rows; four bytes of a row make a word if they hold several codes each. A row
 * of the result is then a lane: nothing is folded across lanes, no panel is transposed, and a
 * thread reads one stream.
 *   y[j] = sum over k of w[64*j + k] x[k]
 *   =>   w_once[j0, k, j1] = w[64*(32*j0 + j1) + k], made once;
 *        for j0 { for k { for j1 < 32 { s[j1] += w_once[..] * x[k] } } }                         */
#include <math.h>

#include "schedule/heuristic.h"

enum { LEVELS_MAX = 4, LOADS_MAX = 8, FEW_ROWS = 3, WORD = 4 };
typedef struct {
    int32_t buffer;
    Index index;
    LoopSet loops;
    bool codes;      // several in a byte, which are shifted down
    LoopSet shifts;  // loops that say how far
} WeightLoad;
typedef struct {
    Heuristic *to;
    int32_t row;     // the loop over the weights' rows
    LoopSet bytes;   // loops over the bytes of a word
    LoopSet shifts;  // loops over the codes of a byte
    int outers;      // loops over groups of rows, outside of all others: heads
    int64_t group;
    WeightLoad load[LOADS_MAX];
    int loads;
} Weights;

// A weight's load that moves with the rows, and not by 1; false: one that no layout helps.
static bool add_load(Weights *weights, const Node *node) {
    const Heuristic *to = weights->to;
    Index index = (Index)node->arg[1];
    LoopSet loops = kernel_loops_of_index(to->kernel, index);
    int64_t stride, extent;
    if (!loop_set_has(&loops, weights->row)) return true;
    if (!to->kernel->buffers.at[node->arg[0]].is_weight || node->sources) return false;
    for (int i = 0; i < weights->loads; i++)
        if (weights->load[i].buffer == node->arg[0] && weights->load[i].index == index) return true;
    for (int32_t loop = 0; loop < to->kernel->loops.count; loop++) {
        if (!loop_set_has(&loops, loop)) continue;
        if (!index_stride(to->indices, index, loop, &stride) || !constant_extent(to, loop, &extent))
            return false;
        if (loop == weights->row && stride < 2) return false;
    }
    if (weights->loads == LOADS_MAX) return false;
    weights->load[weights->loads++] =
        (WeightLoad){.buffer = (int32_t)node->arg[0], .index = index, .loops = loops};
    return true;
}

static void find_codes(Weights *weights, const Node *node) {
    const Kernel *kernel = weights->to->kernel;
    if (node->op != OP_SHR) return;
    const Node *from = graph_node(kernel->graph, node->source[0]);
    for (int i = 0; i < weights->loads; i++) {
        WeightLoad *load = &weights->load[i];
        if (from->op != OP_LOAD || from->arg[0] != load->buffer || from->arg[1] != load->index)
            continue;
        load->codes = true;
        load->shifts = loop_set_union(load->shifts, kernel_loops_of(kernel, node->source[1]));
    }
}

static bool find_loads(Weights *weights, Statement *list) {
    const Heuristic *to = weights->to;
    for (; list; list = list->next) {
        if (list->kind == STATEMENT_LOOP && !find_loads(weights, list->body)) return false;
        if (list->kind != STATEMENT_STORE || list->role == ROLE_FINISH) continue;
        IdList nodes = statement_nodes(to->arena, to->kernel, list);
        for (int i = 0; i < nodes.count; i++) {
            const Node *node = graph_node(to->kernel->graph, nodes.at[i]);
            if (node->op == OP_LOAD && to->kernel->buffers.at[node->arg[0]].space == SPACE_PARAM &&
                !add_load(weights, node))
                return false;
            find_codes(weights, node);
        }
    }
    return true;
}

static bool moves_weights(const Weights *weights, int32_t loop) {
    for (int i = 0; i < weights->loads; i++)
        if (loop_set_has(&weights->load[i].loops, loop)) return true;
    return false;
}

// A loop along bytes in which there are whole words.
static bool moves_bytes(const Weights *weights, int32_t loop) {
    const Heuristic *to = weights->to;
    int64_t stride, extent;
    for (int i = 0; i < weights->loads; i++) {
        const WeightLoad *load = &weights->load[i];
        if (load->codes && to->kernel->buffers.at[load->buffer].dtype == DT_U8 &&
            index_stride(to->indices, load->index, loop, &stride) && stride == 1 &&
            constant_extent(to, loop, &extent) && extent % WORD == 0)
            return true;
    }
    return false;
}

// SPLIT for each of those loops that is longer than a word.
static const char *cut_into_words(const Weights *weights) {
    const Heuristic *to = weights->to;
    const char *cuts = "";
    for (int32_t loop = 0; loop < to->kernel->loops.count; loop++)
        if (moves_bytes(weights, loop) && largest_extent(to, loop) > WORD)
            cuts = arena_print(to->arena, "%sSPLIT %s %d\n", cuts, name_of(to, loop), WORD);
    return cuts;
}

static bool find_weights(Heuristic *to, Weights *weights) {
    int64_t rows;
    *weights = (Weights){.to = to, .row = to->loops ? to->chain[to->loops - 1] : -1};
    if (weights->row < 0 || !constant_extent(to, weights->row, &rows) || rows % 16 ||
        to->target->lanes < 8)
        return false;
    if (!find_loads(weights, to->body) || !weights->loads) return false;
    while (weights->outers + 1 < to->loops && moves_weights(weights, to->chain[weights->outers]))
        weights->outers++;
    weights->group = rows % 32 || (weights->outers && rows == 32) ? 16 : 32;
    for (int32_t loop = 0; loop < to->kernel->loops.count; loop++)
        if (moves_bytes(weights, loop)) loop_set_add(&weights->bytes, loop);
    for (int i = 0; i < weights->loads; i++)
        if (loop_set_meets(weights->load[i].loops, weights->bytes))
            weights->shifts = loop_set_union(weights->shifts, weights->load[i].shifts);
    return true;
}

// Loops in the body, in the order of the nest: those over bytes, or the others.
static void add_used(Weights *weights, Statement *list, LoopSet used, bool bytes) {
    for (; list; list = list->next) {
        if (list->kind != STATEMENT_LOOP) continue;
        if (loop_set_has(&used, list->loop) && loop_set_has(&weights->bytes, list->loop) == bytes)
            text_add(&weights->to->text, " %s", name_of(weights->to, list->loop));
        add_used(weights, list->body, used, bytes);
    }
}

static void add_layout(Weights *weights) {
    Heuristic *to = weights->to;
    to->word['w'] = name_of(to, weights->row), to->word['g'] = decimal(to, weights->group);
    add(to, "SPLIT $w $g\n");
    for (int i = 0; i < weights->loads; i++) {
        to->word['x'] = buffer_name(to, weights->load[i].buffer);
        add(to, "STAGE $x at top over");
        for (int n = 0; n < weights->outers; n++)
            text_add(&to->text, " %s", name_of(to, to->chain[n]));
        add(to, " $w0");
        add_used(weights, to->body, weights->load[i].loops, false);
        add(to, " $w1");
        add_used(weights, to->body, weights->load[i].loops, true);
        add(to, " in once\n");
    }
}

// Threads share the groups of rows.
static void add_threads(const Weights *weights) {
    Heuristic *to = weights->to;
    const char *shared = arena_print(to->arena, "%s0", name_of(to, weights->row));
    for (int n = weights->outers - 1; n >= 0; n--) {
        const char *outer = name_of(to, to->chain[n]);
        text_add(&to->text, "FUSE %s %s\n", outer, shared);
        shared = arena_print(to->arena, "%s_%s", outer, shared);
    }
    text_add(&to->text, "THREAD %s\n", shared);
}

// What a load reads after the layout.
static const char *once_name(const Weights *weights, int load) {
    const Heuristic *to = weights->to;
    int32_t buffer = weights->load[load].buffer;
    int number = 1;
    for (int i = 0; i < load; i++) number += weights->load[i].buffer == buffer;
    return arena_print(to->arena, number > 1 ? "%s_once_%d" : "%s_once", buffer_name(to, buffer),
                       number);
}

static double bytes_of(const Weights *weights, const WeightLoad *load) {
    const Heuristic *to = weights->to;
    double bytes = dtypes[to->kernel->buffers.at[load->buffer].dtype].bytes;
    for (int32_t loop = 0; loop < to->kernel->loops.count; loop++)
        if (loop_set_has(&load->loops, loop)) bytes *= (double)largest_extent(to, loop);
    return bytes;
}

// A weight streams from memory: it is asked for a page ahead, which its loads reach together.
static void add_requests(Weights *weights) {
    enum { AHEAD = 4096 };
    Heuristic *to = weights->to;
    double all = 0;
    for (int i = 0; i < weights->loads; i++) all += bytes_of(weights, &weights->load[i]);
    for (int i = 0; i < weights->loads; i++)
        text_add(&to->text, "PIPELINE %s %d\n", once_name(weights, i),
                 (int)ceil(AHEAD * bytes_of(weights, &weights->load[i]) / all));
}

// ---- a row of the result, or few: lanes --------------------------------------------------------
typedef struct {
    Weights *weights;
    const char *tile, *lane;  // the loops of the accumulators: rows of x and vectors, lanes
    Text copies;              // UNROLL and VECTORIZE of each copy of those loops
    bool few;                 // there are rows of x
} Lanes;

// The copies that STAGE makes have this suffix.
static void add_copy(Lanes *lanes, const char *suffix) {
    Heuristic *to = lanes->weights->to;
    to->word['x'] = suffix;
    text_add(&lanes->copies, "%s",
             filled(to, lanes->few ? "UNROLL $i$x\nUNROLL $w10$x\nVECTORIZE $w11$x\n"
                                   : "UNROLL $w10$x\nVECTORIZE $w11$x\n"));
}

// The innermost sums: those that move through the weights outside, so that what is loaded is used
// by the others at once.
static void add_sum_order(Lanes *lanes, const int32_t *sum, int sums) {
    Heuristic *to = lanes->weights->to;
    int64_t extent, steps = 1, tile = lanes->weights->group / to->target->lanes;
    const char *unrolled = NULL;
    text_add(&to->text, "ORDER");
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < sums; i++) {
            bool moves = moves_weights(lanes->weights, sum[i]);
            if (moves == pass) continue;
            text_add(&to->text, " %s", name_of(to, sum[i]));
            bool whole = !moves || loop_set_has(&lanes->weights->bytes, sum[i]);
            if (!whole) unrolled = name_of(to, sum[i]);
            if (!whole || !constant_extent(to, sum[i], &extent) || extent > 4) continue;
            text_add(&lanes->copies, "UNROLL %s\n", name_of(to, sum[i]));
            steps *= extent;
        }
    }
    text_add(&to->text, "%s%s\n", lanes->tile, lanes->lane);
    for (extent = 1; 2 * extent * steps * tile <= 32;) extent *= 2;
    if (unrolled && extent > 1)
        text_add(&lanes->copies, "UNROLL %s %lld\n", unrolled, (long long)extent);
}

// One level of sums: { init s, loops { .. }, what is done with s }; inside, perhaps another level.
static bool add_level(Lanes *lanes, Statement *list, const char *place, int level) {
    Heuristic *to = lanes->weights->to;
    Statement *nest = list, *inner;
    int32_t sum[CHAIN_MAX];
    int sums = 0;
    while (nest && nest->kind == STATEMENT_STORE && nest->role == ROLE_INIT) nest = nest->next;
    if (level == LEVELS_MAX || nest == list || !nest || nest->kind != STATEMENT_LOOP) return false;
    for (Statement *at = nest->next; at; at = at->next)
        if (at->kind != STATEMENT_STORE) return false;
    for (inner = nest; inner->kind == STATEMENT_LOOP; inner = inner->body) {
        if (sums == CHAIN_MAX || (inner != nest && inner->next)) return false;
        sum[sums++] = inner->loop;
    }
    text_add(&to->text, "STAGE %s at %s in reg\n", buffer_name(to, list->buffer), place);
    const char *number = level ? arena_print(to->arena, "_%d", level + 1) : "";
    add_copy(lanes, arena_print(to->arena, "_init%s", number));
    number = level > 1 ? arena_print(to->arena, "_%d", level) : "";
    add_copy(lanes, level ? arena_print(to->arena, "_update%s", number) : "_finish");
    if (inner->role == ROLE_UPDATE) {
        add_sum_order(lanes, sum, sums);
        return true;
    }
    text_add(&to->text, "ORDER");
    for (int i = 0; i < sums; i++) {
        text_add(&to->text, " %s", name_of(to, sum[i]));
        if (loop_set_has(&lanes->weights->shifts, sum[i]))
            text_add(&lanes->copies, "UNROLL %s\n", name_of(to, sum[i]));
    }
    text_add(&to->text, "%s%s\n", lanes->tile, lanes->lane);
    return add_level(lanes, inner, name_of(to, sum[sums - 1]), level + 1);
}

// A fold in the sums that has nothing to do with the result's loops (the sum of a group of x, which
// a format's offset is multiplied with) is computed once; its statements go from the tree.
static void add_computed_once(Heuristic *to, Statement *list) {
    LoopSet result = {0};
    for (int i = 0; i < to->loops; i++) loop_set_add(&result, to->chain[i]);
    AccessList stores = kernel_accesses(to->arena, to->kernel, list, -1);
    for (int i = 0; i < stores.count; i++) {
        Statement *update = stores.at[i].statement;
        LoopSet used = kernel_loops_of(to->kernel, update->value);
        bool uses = false;
        if (stores.at[i].load >= 0 || update->role != ROLE_UPDATE) continue;
        for (int n = 0; n < to->loops; n++) uses |= loop_set_has(&used, to->chain[n]);
        AccessList all = kernel_accesses(to->arena, to->kernel, list, update->buffer);
        Statement *init = all.at[0].statement, *around = kernel_parent(to->kernel, init);
        IdList nodes = statement_nodes(to->arena, to->kernel, update);
        for (int n = 0; n < nodes.count; n++) {
            const Node *node = graph_node(to->kernel->graph, nodes.at[n]);
            uses |= node->op == OP_LOAD && node->arg[0] != update->buffer &&
                    to->kernel->buffers.at[node->arg[0]].space != SPACE_PARAM;
        }
        if (uses || loop_set_has(&result, around->loop)) continue;
        text_add(&to->text, "COMPUTE_AT %s at top over", buffer_name(to, update->buffer));
        const char *loops = "";
        for (; !loop_set_has(&result, around->loop); around = kernel_parent(to->kernel, around))
            if (loop_set_has(&used, around->loop))
                loops = arena_print(to->arena, " %s%s", name_of(to, around->loop), loops);
        text_add(&to->text, "%s\n", loops);
    }
}

static const char *lanes_schedule(Weights *weights) {
    Heuristic *to = weights->to;
    int64_t rows = 1;
    int loops = to->loops - weights->outers;
    Lanes lanes = {.weights = weights, .few = loops > 1, .copies = text_new(to->arena)};
    if (loops > 2) return NULL;
    if (lanes.few && (!constant_extent(to, to->chain[to->loops - 2], &rows) || rows > FEW_ROWS))
        return NULL;
    to->text = text_new(to->arena);
    bool shared = thread_loop(to) >= 0;
    add_computed_once(to, to->body);
    add_layout(weights);
    add(to, "SPLIT $w1 $v\n");
    if (lanes.few) {
        to->word['i'] = name_of(to, to->chain[to->loops - 2]);
        add(to, "ORDER $w0 $i $w10 $w11\n");
    }
    lanes.tile = filled(to, lanes.few ? " $i $w10" : " $w10");
    lanes.lane = filled(to, " $w11");
    add_copy(&lanes, "");
    if (!add_level(&lanes, to->body, filled(to, "$w0"), 0)) return NULL;
    if (shared) add_threads(weights);
    text_add(&to->text, "%s", lanes.copies.at);
    add_requests(weights);
    return to->text.at;
}

// ---- many rows: tiles --------------------------------------------------------------------------
static const char *packed_name(const Weights *weights, const Product *product) {
    const Heuristic *to = weights->to;
    IdList nodes = kernel_nodes(to->arena, to->kernel, product->right);
    for (int i = 0; i < weights->loads; i++)
        for (int n = 0; n < nodes.count && weights->load[i].buffer == product->packed; n++) {
            const Node *node = graph_node(to->kernel->graph, nodes.at[n]);
            if (node->op == OP_LOAD && node->arg[0] == product->packed &&
                node->arg[1] == weights->load[i].index)
                return once_name(weights, i);
        }
    return "";
}

// x is packed once for all threads, its rows padded to whole tiles. A panel of columns serves all
// rows of x and is packed by the thread that takes it; a group of the weights' rows is unpacked to
// one or two. weights NULL: the columns lie side by side in memory already. Two products of one x
// have a panel each, half as wide, and tiles side by side in registers. The words p: where a panel
// is packed; q: the loops over panels; c: their columns.
static const char *panel_schedule(Heuristic *to, const Product *product, int products,
                                  Weights *weights) {
    int64_t rows, group = weights ? weights->group : to->target->tile_n,
                  n = min_i64(to->target->tile_n / products, group), lanes = to->target->lanes;
    if (!constant_extent(to, product->rows, &rows) || rows <= FEW_ROWS) return NULL;
    if (products > 1 && n != lanes) return NULL;
    int64_t m = padded_tile(rows, to->target->tile_m);
    to->text = text_new(to->arena);
    set_words(to, product);
    set_tile(to, m, n);
    to->word['c'] = filled(to, "$j1"), to->word['p'] = to->word['q'] = filled(to, "$j0");
    if (weights)
        add_layout(weights);
    else
        add(to, "SPLIT $j $n\n");
    if (n < group) {
        add(to, "SPLIT $c $n\n");
        to->word['c'] = filled(to, "$j11");
        to->word['p'] = filled(to, "$j10"), to->word['q'] = filled(to, "$j0 $j10");
    }
    add(to, "SPLIT $i $m pad\nORDER $q $i0 $i1 $c\nSTAGE $s at $i0 in reg\nORDER $k$r $i1 $c\n"
            "STAGE $a at top over $i0 $k$r $i1 in shared convert\nTHREAD $i0_$a\n");
    for (int p = 0; p < products; p++) {
        if (weights && product[p].plain) continue;
        if (weights) to->word['b'] = packed_name(weights, &product[p]);
        add(to, "STAGE $b at $p over $k$r $c in L2 convert\n");
        add_vectors(to, "$c_$b", true);
        LoopSet fixed = weights ? loop_set_union(weights->bytes, weights->shifts) : (LoopSet){0};
        for (int sum = 0; sum < product->sums; sum++)
            if (loop_set_has(&fixed, product[p].sum[sum]))
                text_add(&to->text, "UNROLL %s_%s\n", name_of(to, product[p].sum[sum]),
                         to->word['b']);
    }
    for (int p = 0; p < products; p++)
        text_add(&to->text, "SPILL %s\n", buffer_name(to, product[p].update->buffer));
    for (int p = 1; p < products; p++) {  // the other nests are those of the first
        to->word['x'] = decimal(to, p + 1);
        add(to, "UNROLL $i1_finish_spill_$x\nVECTORIZE $c_finish_spill_$x\n");
    }
    add_vectors(to, "$c_finish", true);
    add(to, "TENSORCORE $u $mx$n on $s\n");
    if (weights)
        add_threads(weights);
    else
        add(to, "THREAD $j0\n");
    add_unrolled(to, "$z", m * n * products);
    return to->text.at;
}

// A product of many rows whose panels fit beside a tile's rows in a second-level cache: without a
// cut of the sum, partial results stay in registers.
const char *flat_schedule(Heuristic *to) {
    enum { ROWS_LEAST = 64, PANEL_BYTES = 1 << 16 };
    Product product;
    int64_t rows, columns, depth = sizeof(float), extent;
    if (!to->target->unit || to->loops != 2 || !find_product(to, &product) ||
        !constant_extent(to, product.rows, &rows) || rows < ROWS_LEAST ||
        !constant_extent(to, product.columns, &columns) || columns % to->target->tile_n ||
        !columns_are_contiguous(to, &product))
        return NULL;
    for (int sum = 0; sum < product.sums; sum++, depth *= extent)
        if (!constant_extent(to, product.sum[sum], &extent)) return NULL;
    return depth * to->target->tile_n > PANEL_BYTES ? NULL : panel_schedule(to, &product, 1, NULL);
}

static const char *schedule_of(Weights *weights) {
    Heuristic *to = weights->to;
    Product product[PRODUCTS_MAX];
    int products = to->target->unit && to->loops - weights->outers == 2
                       ? find_products(to, to->chain[weights->outers], PRODUCTS_MAX, product)
                       : 0;
    for (int p = 0; p < products; p++)
        if (product[p].columns != weights->row || product[p].rows_buffer != product->rows_buffer)
            products = 0;
    const char *panel = products ? panel_schedule(to, product, products, weights) : NULL;
    return panel ? panel : lanes_schedule(weights);
}

const char *weights_schedule(Heuristic *to) {
    Weights weights;
    if (!find_weights(to, &weights)) return NULL;
    const char *cuts = cut_into_words(&weights);
    if (!*cuts) return schedule_of(&weights);
    Heuristic cut = *to;
    cut.kernel = kernel_parse(to->arena, to->kernel->name, kernel_print(to->arena, to->kernel));
    cut.indices = graph_indices(cut.kernel->graph);
    schedule_apply(cut.kernel, cuts);
    find_chain(&cut);
    const char *found = find_weights(&cut, &weights) ? schedule_of(&weights) : NULL;
    return found ? arena_print(to->arena, "%s%s", cuts, found) : NULL;
}
