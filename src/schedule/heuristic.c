/* heuristic.c - a good schedule without search.
 * In: a kernel in explicit form, a target.  Out: schedules as text, best first.
 * Invariant: nothing is measured and nothing is changed; a candidate that does not fit is refused
 * by its transforms, and the next is taken. The last candidate is empty.
 *
 * Three shapes of kernel are told apart by what their innermost sums do:
 *   tile   a product of matrices: both operands are read again and again
 *          =>  a packed panel, and a tile of the result in registers; turned around where the panel
 *              would have to be transposed
 *   lanes  a sum along contiguous memory: a dot product, a norm
 *          =>  partial sums in the lanes of vectors
 *   rows   a sum across rows of contiguous memory, or no sum at all
 *          =>  lanes along the contiguous loop */
#include "schedule/heuristic.h"

enum {
    THREAD_WORK = 1 << 15,  // operations below which sharing them costs more than it saves
    UNROLLED = 64,          // FMAs in a row
};

// ---- looking -----------------------------------------------------------------------------------
void find_chain(Heuristic *to) {
    Statement *at = to->kernel->body;
    to->loops = 0;
    for (; at->kind == STATEMENT_LOOP && !at->next && to->loops < CHAIN_MAX; at = at->body)
        to->chain[to->loops++] = at->loop;
    to->body = at;
}

static bool is_innermost(const Statement *loop) {
    for (const Statement *at = loop->body; at; at = at->next)
        if (at->kind == STATEMENT_LOOP) return false;
    return true;
}

// How a loop's accesses move: the number that are contiguous in it, and whether any jumps.
static int contiguous_accesses(const Heuristic *to, Statement *list, int32_t loop, bool *jumps) {
    AccessList accesses = kernel_accesses(to->arena, to->kernel, list, -1);
    int contiguous = 0;
    *jumps = false;
    for (int i = 0; i < accesses.count; i++) {
        int64_t stride;
        if (!index_stride(to->indices, accesses.at[i].index, loop, &stride) ||
            (stride != 0 && stride != 1))
            *jumps = true;
        else
            contiguous += stride == 1;
    }
    return contiguous;
}

// The loop holds stores alone, and all of them fold over it.
static bool is_fold_loop(const Heuristic *to, const Statement *loop) {
    for (const Statement *at = loop->body; at; at = at->next) {
        if (at->kind != STATEMENT_STORE || at->role != ROLE_UPDATE) return false;
        LoopSet used = kernel_loops_of_index(to->kernel, at->index);
        if (loop_set_has(&used, loop->loop)) return false;
    }
    return true;
}

// ---- writing -----------------------------------------------------------------------------------
const char *filled(const Heuristic *to, const char *form) {
    Text text = text_new(to->arena);
    for (const char *at = form; *at; at++)
        if (*at == '$')
            text_add(&text, "%s", to->word[(unsigned char)*++at]);
        else
            text_add_bytes(&text, at, 1);
    return text.at;
}

void add(Heuristic *to, const char *lines) { text_add(&to->text, "%s", filled(to, lines)); }

const char *decimal(const Heuristic *to, int64_t number) {
    return arena_print(to->arena, "%lld", (long long)number);
}

void add_vectors(Heuristic *to, const char *loop, bool several) {
    to->word['x'] = filled(to, loop);
    add(to, several ? "SPLIT $x $v\nUNROLL $x0\nVECTORIZE $x1\n" : "VECTORIZE $x\n");
}

void set_tile(Heuristic *to, int64_t rows, int64_t columns) {
    to->word['m'] = decimal(to, rows);
    to->word['n'] = decimal(to, columns);
}

// ---- lanes and rows ----------------------------------------------------------------------------
// Partial sums: as many as fill `unroll` vectors, folded after the loop.
static void add_lanes(Heuristic *to, int32_t loop) {
    int64_t extent = 0, lanes = to->target->lanes;
    bool constant = constant_extent(to, loop, &extent);
    if (constant && extent < 2 * lanes) return;
    int64_t unroll = constant && extent % (4 * lanes) == 0   ? 4
                     : constant && extent % (2 * lanes) == 0 ? 2
                                                             : 1;
    if (!constant) unroll = 2;
    to->word['k'] = name_of(to, loop), to->word['n'] = decimal(to, unroll * lanes);
    if (!constant || extent != unroll * lanes) {
        add(to, "SPLIT $k $n peel\n");
        to->word['k'] = filled(to, "$k1");
    }
    add(to, "RFACTOR $k\n");
    add_vectors(to, "$k", unroll > 1);
    add_vectors(to, "$k_init", unroll > 1);
    add_vectors(to, "$k_fold", unroll > 1);
}

static void add_vector(Heuristic *to, int32_t loop) {
    int64_t extent;
    bool constant = constant_extent(to, loop, &extent);
    if (constant && extent < to->target->lanes) return;
    bool whole = constant && extent == to->target->lanes;
    to->word['x'] = name_of(to, loop);
    add(to, whole ? "VECTORIZE $x\n" : "SPLIT $x $v peel\nVECTORIZE $x1\n");
    if (!whole) to->split = loop;
}

// A group's sums are scaled and added up in the loop around: lanes are folded after all groups.
static void add_group_lanes(Heuristic *to, int32_t loop) {
    int64_t extent, lanes = to->target->lanes;
    to->word['k'] = name_of(to, loop);
    if (!constant_extent(to, loop, &extent) || extent % lanes) return;
    if (extent > lanes) {
        add(to, "SPLIT $k $v\nUNROLL $k0\n");
        to->word['k'] = filled(to, "$k1");
    }
    add(to, "RFACTOR $k\nDISTRIBUTE $k_fold\nRFACTOR $k_fold\n"
            "VECTORIZE $k\nVECTORIZE $k_init\nVECTORIZE $k_fold\n"
            "VECTORIZE $k_fold_init\nVECTORIZE $k_fold_fold\n");
}

// What DISTRIBUTE takes: a multiple of the loop's sums is added to another one behind it.
static bool is_scaled(const Heuristic *to, const Statement *loop) {
    const Graph *graph = to->kernel->graph;
    const Statement *use = loop->next;
    if (!use || use->kind != STATEMENT_STORE || use->role != ROLE_UPDATE) return false;
    AccessList sums = kernel_accesses(to->arena, to->kernel, loop->body, -1);
    bool *reads = arena_array(to->arena, bool, graph_count(graph));
    IdList nodes = kernel_nodes(to->arena, to->kernel, use->value);
    for (int i = 0; i < nodes.count; i++) {
        const Node *node = graph_node(graph, nodes.at[i]);
        bool *here = &reads[nodes.at[i]], product = node->op == OP_MUL || node->op == OP_FMA;
        for (int n = 0; node->op == OP_LOAD && n < sums.count; n++)
            *here |= sums.at[n].load < 0 && sums.at[n].buffer == node->arg[0];
        for (int s = 0; s < node->sources; s++) *here |= reads[node->source[s]];
        if (!*here || node->op == OP_LOAD || node->op == OP_ADD) continue;
        if (!product || (reads[node->source[0]] && reads[node->source[1]])) return false;
    }
    return true;
}

// grouped: what the loops here sum up is scaled and added to a sum outside.
static void add_innermost(Heuristic *to, Statement *list, bool grouped) {
    for (Statement *at = list; at; at = at->next) {
        bool jumps;
        int64_t extent;
        if (at->kind != STATEMENT_LOOP) continue;
        bool in_group = grouped || is_scaled(to, at);
        if (!is_innermost(at)) {
            add_innermost(to, at->body, in_group);
            if (in_group && constant_extent(to, at->loop, &extent) && extent <= 4)
                text_add(&to->text, "UNROLL %s\n", name_of(to, at->loop));
            continue;
        }
        if (!contiguous_accesses(to, at->body, at->loop, &jumps) || jumps) continue;
        if (is_fold_loop(to, at) && in_group)
            add_group_lanes(to, at->loop);
        else if (is_fold_loop(to, at))
            add_lanes(to, at->loop);
        else if (!legal_vector(to->kernel, at))
            add_vector(to, at->loop);
    }
}

static bool has_work(const Heuristic *to) {
    double operations, bytes;
    int64_t *highest = arena_array(to->arena, int64_t, graph_vars(to->kernel->graph) + 1);
    for (int32_t i = 0; i < graph_vars(to->kernel->graph); i++)
        highest[i] = graph_var_info(to->kernel->graph, i)->high;
    kernel_cost(to->kernel, highest, &operations, &bytes);
    return operations + bytes >= THREAD_WORK;
}

int32_t thread_loop(Heuristic *to) {
    int32_t best = -1;
    if (!has_work(to)) return best;
    for (int i = 0; i < to->loops; i++) {
        int64_t extent = largest_extent(to, to->chain[i]);
        if (extent < 2 ||
            legal_parallel(to->kernel, kernel_loop_statement(to->kernel, to->chain[i]),
                           LOOP_THREAD))
            continue;
        if (best < 0 || extent > largest_extent(to, best)) best = to->chain[i];
        if (extent >= 8) break;
    }
    return best;
}

// A sum of all rows, each of which is folded first, and no loop around it: threads share pieces of
// it, whose sums are added up behind them. The pieces, and the result, are the same on any machine.
static void add_shared_sum(Heuristic *to) {
    enum { PIECES = 256 };
    Statement *sum = to->kernel->body;
    Op fold;
    while (sum && sum->kind == STATEMENT_STORE && sum->role == ROLE_INIT) sum = sum->next;
    if (!sum || sum->kind != STATEMENT_LOOP || sum == to->kernel->body || is_innermost(sum) ||
        !has_work(to))
        return;
    for (Statement *init = to->kernel->body; init != sum; init = init->next)
        if (!legal_folds(to->kernel, sum->body, init->buffer, &fold)) return;
    const char *name = name_of(to, sum->loop);
    int64_t extent = 1, all = 1;
    for (Statement *at = sum;; at = at->body) {
        if (!constant_extent(to, at->loop, &extent)) return;
        all *= extent;
        if (at->body->kind != STATEMENT_LOOP || at->body->next || is_innermost(at->body)) break;
        const char *inner = name_of(to, at->body->loop);
        text_add(&to->text, "FUSE %s %s\n", name, inner);
        name = arena_print(to->arena, "%s_%s", name, inner);
    }
    if (all > PIECES) {
        text_add(&to->text, "SPLIT %s %lld guard\n", name,
                 (long long)((all + PIECES - 1) / PIECES));
        name = arena_print(to->arena, "%s0", name);
    }
    text_add(&to->text, "RFACTOR %s in shared\nTHREAD %s\n", name, name);
}

// A row of exponentials that a second loop would compute again is kept, if caches hold it.
static void add_reuse(Heuristic *to, Statement *list) {
    enum { LONGEST = 1 << 16 };
    for (Statement *second = list; second; second = second->next) {
        if (second->kind != STATEMENT_LOOP) continue;
        add_reuse(to, second->body);
        if (largest_extent(to, second->loop) > LONGEST) continue;
        Statement *first = list;
        while (first != second &&
               (first->kind != STATEMENT_LOOP || reuse_find(to->kernel, first, second) < 0))
            first = first->next;
        if (first != second)
            text_add(&to->text, "REUSE %s %s in own\n", name_of(to, first->loop),
                     name_of(to, second->loop));
    }
}

// The loop that threads share goes first, while its iterations are plain to see; if its vectors are
// what is shared, last.
static const char *plain_schedule(Heuristic *to) {
    to->text = text_new(to->arena);
    int32_t shared = thread_loop(to), last = to->loops ? to->chain[to->loops - 1] : -1;
    bool cut =
        shared >= 0 && shared == last && is_innermost(kernel_loop_statement(to->kernel, last));
    if (shared >= 0 && !cut) add_reuse(to, to->kernel->body);
    if (shared >= 0 && !cut) text_add(&to->text, "THREAD %s\n", name_of(to, shared));
    if (!to->loops) add_shared_sum(to);
    add_innermost(to, to->kernel->body, false);
    if (cut) text_add(&to->text, "THREAD %s%s\n", name_of(to, last), to->split == last ? "0" : "");
    return to->text.at ? to->text.at : "";
}

// The innermost loop of the chain is contiguous and a sum inside it is not: the sum's accumulators
// become a row of vectors, and the sum's loops go outside.
//   for d { init s; for k { update s }; finish }   =>   for k { for d { .. } }
static const char *row_schedule(Heuristic *to) {
    int32_t row = to->loops ? to->chain[to->loops - 1] : -1;
    Statement *init = to->body, *sum = init ? init->next : NULL;
    int64_t extent;
    bool jumps;
    if (row < 0 || init->kind != STATEMENT_STORE || init->role != ROLE_INIT) return NULL;
    if (!sum || sum->kind != STATEMENT_LOOP || !sum->next || sum->next->next) return NULL;
    if (!constant_extent(to, row, &extent) || extent < to->target->lanes) return NULL;
    if (!contiguous_accesses(to, sum, row, &jumps) || jumps) return NULL;
    to->text = text_new(to->arena);
    int32_t shared = thread_loop(to);
    if (shared >= 0 && shared != row) text_add(&to->text, "THREAD %s\n", name_of(to, shared));
    int64_t wide = 8 * to->target->lanes;
    to->word['s'] = buffer_name(to, init->buffer);
    to->word['j'] = name_of(to, row), to->word['n'] = decimal(to, wide);
    to->word['o'] = to->loops > 1 ? name_of(to, to->chain[to->loops - 2]) : "top";
    if (extent > wide && extent % wide == 0) {
        add(to, "SPLIT $j $n\n");
        to->word['o'] = filled(to, "$j0"), to->word['j'] = filled(to, "$j1");
        extent = wide;
    }
    if (extent > wide || extent % to->target->lanes) return NULL;
    add(to, "STAGE $s at $o in reg\nORDER");
    for (Statement *at = sum; at->kind == STATEMENT_LOOP; at = at->body) {
        if (at->next && at != sum) return NULL;
        text_add(&to->text, " %s", name_of(to, at->loop));
    }
    add(to, " $j\n");
    add_vectors(to, "$j", true);
    add_vectors(to, "$j_init", true);
    add_vectors(to, "$j_finish", true);
    if (shared >= 0 && shared == row && to->word['o'][0] != 't') add(to, "THREAD $o\n");
    return to->text.at;
}

// ---- tiles -------------------------------------------------------------------------------------
// The load in an operand that moves with the most loops: what a STAGE of the operand is named by.
static int32_t main_buffer(const Heuristic *to, Id operand, LoopSet loops) {
    IdList nodes = kernel_nodes(to->arena, to->kernel, operand);
    int32_t best = -1, most = -1;
    for (int i = 0; i < nodes.count; i++) {
        const Node *node = graph_node(to->kernel->graph, nodes.at[i]);
        if (node->op != OP_LOAD) continue;
        LoopSet used = kernel_loops_of_index(to->kernel, (Index)node->arg[1]);
        int32_t count = 0;
        for (int32_t loop = 0; loop < to->kernel->loops.count; loop++)
            count += loop_set_has(&used, loop) && loop_set_has(&loops, loop);
        if (count > most) most = count, best = (int32_t)node->arg[0];
    }
    return best;
}

bool columns_are_contiguous(const Heuristic *to, const Product *product) {
    bool jumps;
    return contiguous_accesses(to, product->update, product->columns, &jumps) > 0 && !jumps;
}

bool find_product(const Heuristic *to, Product *product) {
    return to->loops > 1 && find_product_over(to, to->chain[to->loops - 2], product);
}

bool find_product_over(const Heuristic *to, int32_t rows, Product *product) {
    return find_products(to, rows, 1, product) == 1;
}

static bool find_operands(const Heuristic *to, Product *product) {
    const Node *value = graph_node(to->kernel->graph, product->update->value);
    if (value->op != OP_FMA) return false;
    LoopSet a = kernel_loops_of(to->kernel, value->source[0]),
            b = kernel_loops_of(to->kernel, value->source[1]);
    bool swapped = loop_set_has(&a, product->columns);
    LoopSet *left = swapped ? &b : &a, *right = swapped ? &a : &b;
    if (loop_set_has(left, product->columns) || loop_set_has(right, product->rows)) return false;
    if (!loop_set_has(left, product->rows) || !loop_set_has(right, product->columns)) return false;
    LoopSet loops = *right;
    for (int i = 0; i < to->loops; i++)
        if (to->chain[i] != product->columns) loop_set_remove(&loops, to->chain[i]);
    product->left = value->source[swapped];
    product->right = value->source[!swapped];
    product->packed = main_buffer(to, product->right, loops);
    product->rows_buffer = main_buffer(to, product->left, *left);
    product->plain = graph_node(to->kernel->graph, product->right)->op == OP_LOAD;
    return product->packed >= 0 && product->rows_buffer >= 0;
}

int find_products(const Heuristic *to, int32_t rows, int most, Product *product) {
    Statement *at = to->body;
    Product shape = {.rows = rows, .columns = to->chain[to->loops - 1]};
    int inits = 0, products = 0;
    for (; at && at->kind == STATEMENT_STORE && at->role == ROLE_INIT; at = at->next) inits++;
    if (!inits || inits > most || !at || at->kind != STATEMENT_LOOP) return 0;
    shape.finish = at->next;
    if (!shape.finish || (inits == 1 && shape.finish->next)) return 0;
    for (const Statement *store = shape.finish; store; store = store->next)
        if (store->kind != STATEMENT_STORE) return 0;
    for (; at->kind == STATEMENT_LOOP; at = at->body) {
        if (shape.sums == CHAIN_MAX || (shape.sums && at->next)) return 0;
        shape.sum[shape.sums++] = at->loop;
    }
    for (; at; at = at->next, products++) {
        if (products == inits || at->kind != STATEMENT_STORE) return 0;
        product[products] = shape;
        product[products].update = at;
        if (!find_operands(to, &product[products])) return 0;
    }
    return products == inits ? products : 0;
}

// A divisor where there is a good one, so that no rows are left over.
static int64_t rows_of_tile(int64_t rows, int64_t most) {
    for (int64_t tile = most; tile > most / 2; tile--)
        if (rows % tile == 0) return tile;
    return most;
}

int64_t padded_tile(int64_t rows, int64_t most) {
    int64_t best = most, least = INT64_MAX;
    for (int64_t m = most; m > most / 2; m--) {
        int64_t cost = (rows + m - 1) / m * m * (100 + 3 * (most - m));
        if (cost < least) least = cost, best = m;
    }
    return best;
}

void set_words(Heuristic *to, const Product *product) {
    const char **word = to->word;
    word['i'] = name_of(to, product->rows), word['j'] = name_of(to, product->columns);
    word['k'] = name_of(to, product->sum[0]), word['r'] = "";
    word['z'] = name_of(to, product->sum[product->sums - 1]);
    for (int sum = 1; sum < product->sums; sum++)
        word['r'] = arena_print(to->arena, "%s %s", word['r'], name_of(to, product->sum[sum]));
    word['s'] = buffer_name(to, product->update->buffer);
    word['a'] = buffer_name(to, product->rows_buffer);
    word['b'] = buffer_name(to, product->packed);
    word['o'] = "top", word['u'] = to->target->unit;
    for (int i = 1; i < to->loops; i++)
        if (to->chain[i] == product->rows) word['o'] = name_of(to, to->chain[i - 1]);
}

// How much of the outermost sum goes into a panel that stays in the first-level cache: a divisor,
// or all of it.
static int64_t panel_depth(const Heuristic *to, const Product *product) {
    int64_t outer, inner = 1, extent;
    for (int sum = 1; sum < product->sums; sum++) {
        if (!constant_extent(to, product->sum[sum], &extent)) return 0;
        inner *= extent;
    }
    if (!constant_extent(to, product->sum[0], &outer)) return 0;
    for (int64_t depth = outer; depth > 1; depth--)
        if (outer % depth == 0 && depth * inner <= to->target->depth) return depth;
    return outer;
}

void add_unrolled(Heuristic *to, const char *sum, int64_t tile) {
    int64_t registers = max_i64(1, tile / to->target->lanes), steps = 1;
    while (2 * steps * registers <= UNROLLED) steps *= 2;
    if (steps > 1) add(to, arena_print(to->arena, "UNROLL %s %lld\n", sum, (long long)steps));
}

// The loops of BLIS (F. Van Zee and R. van de Geijn, 2015): all of b packed once, shared; each
// thread takes blocks of l rows, packs a cut of them, d deep, to stay in its second-level cache,
// and runs the tile over all columns. Partial sums wait in memory of the thread's own for the next
// cut.
static void add_deep_tile(Heuristic *to, const Product *product, int64_t tile) {
    add(to, "SPLIT $i $l pad\nSPLIT $i1 $m\nORDER $j $i0 $i10 $i11\n"
            "SPLIT $j $n peel\nORDER $i0 $j0 $i10 $i11 $j1\nSPLIT $k $d\n"
            "STAGE $s at $i0 in own\nORDER $k0 $j0 $i10 $k1$r $i11 $j1\n"
            "STAGE $s at $i10 over $i11 $j1 in reg\n"
            "STAGE $a at $k0 over $i10 $i11 $k1$r as $i10 $k1$r $i11 in L2\n"
            "STAGE $b at $o over $j0 $k0 $k1$r $j1 in shared convert\n"
            "SPLIT $j1_init $v\nVECTORIZE $j1_init1\n"
            "SPLIT $j1_finish $v\nVECTORIZE $j1_finish1\n"
            "TENSORCORE $u $mx$n on $s_reg\nTHREAD $i0\nTHREAD $j0_$b\n");
    if (columns_are_contiguous(to, product))
        add(to, "SPLIT $j1_$b $v\nUNROLL $j1_$b0\nVECTORIZE $j1_$b1\n");
    add_unrolled(to, product->sums > 1 ? "$z" : "$k1", tile);
}

// A panel of b's columns, packed by the thread that takes them, serves all rows.
static void add_tile(Heuristic *to, const Product *product, int64_t tile) {
    add(to, "SPLIT $i $m peel\nORDER $j $i0 $i1\nSPLIT $j $n peel\nORDER $j0 $i0 $i1 $j1\n"
            "STAGE $s at $i0 in reg\nORDER $k$r $i1 $j1\n"
            "STAGE $b at $j0 over $k$r $j1 in L2 convert\n");
    if (graph_node(to->kernel->graph, product->finish->value)->op != OP_LOAD)
        add(to, "SPILL $s\nSPLIT $j1_finish $v\nVECTORIZE $j1_finish1\n");
    add(to, "TENSORCORE $u $mx$n on $s\nTHREAD $j0\n");
    add_unrolled(to, "$z", tile);
}

bool moves_by_one(const Heuristic *to, const Product *product, int32_t buffer, int32_t loop) {
    AccessList accesses = kernel_accesses(to->arena, to->kernel, product->update, -1);
    for (int i = 0; i < accesses.count; i++) {
        int64_t stride;
        if (accesses.at[i].buffer == buffer &&
            index_stride(to->indices, accesses.at[i].index, loop, &stride) && stride == 1)
            return true;
    }
    return false;
}

// Whether the operand is worth turning around, and with which tile: m columns by n rows.
static bool find_turned(const Heuristic *to, const Product *product, int64_t *m, int64_t *n) {
    enum { PANEL = 1 << 15, FEW = 64, TALLEST = 12 };  // PANEL: floats; FEW: rows that any is for
    const MatrixUnit *unit = to->target->unit ? matrix_unit_find(to->target->unit) : NULL;
    int64_t rows, columns, depth = 1, last = 0, lanes = to->target->lanes;
    for (int sum = 0; sum < product->sums; sum++, depth *= last)
        if (!constant_extent(to, product->sum[sum], &last)) return false;
    if (!unit || to->loops != 2 || last % lanes || !constant_extent(to, product->rows, &rows) ||
        !constant_extent(to, product->columns, &columns) || rows < 4 ||
        !moves_by_one(to, product, product->packed, product->sum[product->sums - 1]))
        return false;
    *n = rows % to->target->tile_n ? lanes : to->target->tile_n;
    *m = rows_of_tile(columns, min_i64(TALLEST, (unit->registers - 1) / (*n / lanes) - 1));
    return columns % *m == 0 && (rows <= FEW || *m * depth <= PANEL);
}

// Weights (out, in), packed ones too, lie contiguous along the sum: a panel of their columns would
// be transposed element by element. Turned around, their rows are unpacked in order, vectors at a
// time, and an element of theirs meets a vector of rows of the other operand, which is transposed
// once. The tile is m columns by n rows then; rows are padded to whole vectors.
static const char *turned_schedule(Heuristic *to) {
    Product product;
    int64_t m, n, lanes = to->target->lanes;
    if (!find_product(to, &product) || !find_turned(to, &product, &m, &n)) return NULL;
    bool several = largest_extent(to, product.sum[product.sums - 1]) > lanes;
    to->text = text_new(to->arena);
    set_words(to, &product);
    set_tile(to, m, n);
    add(to, "SPLIT $i $n pad\nORDER $j $i0 $i1\nSPLIT $j $m\nORDER $j0 $i0 $j1 $i1\n"
            "STAGE $s at $i0 in reg\nORDER $k$r $j1 $i1\n"
            "STAGE $a at top over $i0 $k$r $i1 in shared convert\nTHREAD $k_$a\n");
    if (!product.plain) {
        add(to, "STAGE $b at $j0 over $j1 $k$r in L2 convert\n");
        add(to, several ? "SPLIT $z_$b $v\nVECTORIZE $z_$b1\n" : "VECTORIZE $z_$b\n");
    }
    add(to, n > lanes ? "SPILL $s\nSPLIT $i1_finish $v\n" : "SPILL $s\n");
    if (largest_extent(to, product.rows) % n == 0)
        add(to, n > lanes ? "VECTORIZE $i1_finish1\n" : "VECTORIZE $i1_finish\n");
    add(to, "TENSORCORE $u $mx$n on $s\nTHREAD $j0\n");
    add_unrolled(to, "$z", m * n);
    return to->text.at;
}

// Rows of a block: whole tiles, in as few blocks as leave each thread four, or as the target says;
// somewhat less if fewer are left over.
static int64_t block_rows(const ScheduleTarget *target, int64_t rows, int64_t m) {
    int64_t tiles = (rows + m - 1) / m, most = max_i64(1, target->block / m);
    int64_t blocks = max_i64((tiles + most - 1) / most, min_i64(4 * thread_count(), tiles / 8));
    int64_t largest = (tiles + blocks - 1) / blocks, best = largest;
    for (int64_t block = largest; block > largest * 3 / 4; block--)
        if (round_up(tiles, block) < round_up(tiles, best)) best = block;
    return best * m;
}

// What does not fill a tile is peeled off.
static const char *product_schedule(Heuristic *to) {
    enum { DEEP_LEAST = 128 };  // rows
    Product product;
    int64_t m, whole, tile_m = to->target->tile_m, tile_n = to->target->tile_n;
    if (!to->target->unit || !find_product(to, &product)) return NULL;
    int64_t columns = largest_extent(to, product.columns), lanes = to->target->lanes;
    bool fixed = constant_extent(to, product.columns, &columns);
    if (fixed && columns % tile_n && columns % lanes == 0) {  // as many registers, one wide
        tile_m *= tile_n / lanes;
        tile_n = lanes;
    }
    if (!constant_extent(to, product.rows, &m) || m < 4 || columns < 2 * tile_n) return NULL;
    int64_t depth = panel_depth(to, &product), tile = rows_of_tile(m, min_i64(m, tile_m));
    bool deep = fixed && columns % tile_n == 0 && constant_extent(to, product.sum[0], &whole) &&
                depth && depth < whole && m >= DEEP_LEAST;
    if (deep && (m % tile || 4 * tile < 3 * tile_m)) tile = padded_tile(m, tile_m);
    to->text = text_new(to->arena);
    set_words(to, &product);
    set_tile(to, tile, tile_n);
    to->word['d'] = decimal(to, depth);
    to->word['l'] = decimal(to, block_rows(to->target, m, tile));
    if (deep)
        add_deep_tile(to, &product, tile * tile_n);
    else
        add_tile(to, &product, tile * tile_n);
    return to->text.at;
}

static const char *tile_schedule(Heuristic *to) {
    const char *tile = product_schedule(to);
    return tile ? tile : row_schedule(to);
}

// A packed panel of 512 rows and 16 columns takes a first-level cache's 32 KB, one of 320 and 32
// takes 40. 344 rows of the other operand stream from the caches behind it, and the longer the
// block, the less often panels and partial sums do (docs/11-measured.md).
const ScheduleTarget *schedule_target(int lanes) {
    static const ScheduleTarget targets[] = {{"avx512_fma", 16, 14, 32, NULL, 320, 344, NULL},
                                             {"avx2_fma", 8, 6, 16, NULL, 512, 344, NULL},
                                             {NULL, 4, 4, 8, NULL, 512, 344, NULL}};
    const ScheduleTarget *row = targets;
    while (row->lanes > lanes && row->unit) row++;
    return row;
}

// ---- all together ------------------------------------------------------------------------------
// A result that no cache holds would push out what is read, and have each of its lines fetched
// before they are written.
static const char *with_streams(const Heuristic *to, const char *schedule) {
    enum { LEAST = 1 << 25 };  // bytes
    for (int32_t i = 0; i < to->kernel->buffers.count; i++) {
        const KernelBuffer *buffer = &to->kernel->buffers.at[i];
        bool large = buffer->size >= LEAST / dtypes[buffer->dtype].bytes;
        bool read = false;
        if (buffer->space != SPACE_PARAM || !buffer->written || !large) continue;
        AccessList accesses = kernel_accesses(to->arena, to->kernel, to->kernel->body, i);
        for (int n = 0; n < accesses.count; n++) read |= accesses.at[n].load >= 0;
        if (!read) schedule = arena_print(to->arena, "%sSTREAM %s\n", schedule, buffer->name);
    }
    return schedule;
}

int schedule_candidates(Arena *arena, Kernel *kernel, const ScheduleTarget *target,
                        const char *candidate[CANDIDATES_MAX]) {
    Heuristic to = {.arena = arena,
                    .kernel = kernel,
                    .indices = graph_indices(kernel->graph),
                    .target = target,
                    .split = -1};
    static const char *(*const find[])(Heuristic *) = {
        tiles_schedule, weights_schedule, image_schedule,     turned_schedule,
        flat_schedule,  tile_schedule,    attention_schedule, plain_schedule,
    };
    int candidates = 0;
    static const char *(*const find_gpu[])(Heuristic *) = {gpu_attention_schedule,
                                                           wgmma_weight_schedule,
                                                           wgmma_pipelined_schedule,
                                                           wgmma_through_schedule,
                                                           wgmma_tile_schedule,
                                                           gpu_weight_bulk_schedule,
                                                           gpu_weight_pipelined_schedule,
                                                           gpu_weight_schedule,
                                                           gpu_pipelined_schedule,
                                                           gpu_tile_schedule,
                                                           gpu_whole_schedule,
                                                           gpu_walking_schedule,
                                                           gpu_schedule,
                                                           gpu_plain_schedule};
    find_chain(&to);
    for (int i = 0; target->gpu && i < COUNT_OF(find_gpu); i++) {
        const char *found = find_gpu[i](&to);
        if (found) candidate[candidates++] = found;
    }
    to.word['v'] = decimal(&to, target->lanes);
    for (int i = 0; !target->gpu && i < COUNT_OF(find); i++) {
        const char *found = find[i](&to);
        if (found) candidate[candidates++] = with_streams(&to, found);
    }
    candidate[candidates++] = "";
    return candidates;
}

// A sum that no tile reads again is factored: its inner loops are where the time goes. A product of
// matrices, both of whose operands are read again under some loop, is not.
bool wants_factoring(const Kernel *kernel) {
    Id fold = -1;
    for (Id id = 0; id < graph_count(kernel->graph); id++)
        if (graph_node(kernel->graph, id)->op == OP_REDUCE) fold = id;
    if (fold < 0) return false;
    const Node *product = graph_node(kernel->graph, graph_node(kernel->graph, fold)->source[0]);
    if (product->op != OP_MUL) return false;
    LoopSet a = kernel_loops_of(kernel, product->source[0]),
            b = kernel_loops_of(kernel, product->source[1]);
    bool again_a = false, again_b = false;
    for (const Statement *at = kernel->body; at->kind == STATEMENT_LOOP && !at->next;
         at = at->body) {
        again_a |= !loop_set_has(&a, at->loop) && loop_set_has(&b, at->loop);
        again_b |= !loop_set_has(&b, at->loop) && loop_set_has(&a, at->loop);
    }
    return !(again_a && again_b);
}
