/* heuristic_gpu.c - a good schedule for a GPU without search.
 * In: a kernel in explicit form.  Out: schedules as text, best first.
 * Invariant: what a thread reads, its neighbour reads the next of, wherever a loop is contiguous.
 *
 * A product of matrices becomes tiles: a block copies what its tile needs of both operands to its
 * memory, a slice of the sum at a time, and each thread has 4 x 4 elements of the tile, or so many
 * several times, in registers (V. Volkov and J. Demmel, 2008). Any other nest is told apart by what
 * is left inside of its parallel loops:
 *   stores alone, or short sums    a thread for each element, four of them where they are contiguous
 *   long loops                     a block for each row, whose threads share each of those loops   */
#include "schedule/heuristic.h"

enum {
    THREADS = 256,
    LONG = 64,  // iterations that are worth a block
    WIDE = 4,   // elements that a thread moves at once
};

static Statement *statement_of(const Heuristic *to, int32_t loop) {
    return kernel_loop_statement(to->kernel, loop);
}

static bool only_stores(const Statement *list) {
    for (; list; list = list->next)
        if (list->kind != STATEMENT_STORE) return false;
    return true;
}

// The loops of the perfect nest from here on whose iterations may be blocks.
static int parallel_chain(const Heuristic *to, Statement *at, int32_t *chain) {
    int loops = 0;
    for (; at && at->kind == STATEMENT_LOOP && loops < CHAIN_MAX; at = at->body) {
        if ((loops && at->next) || legal_parallel(to->kernel, at, LOOP_BLOCK)) break;
        chain[loops++] = at->loop;
        if (at->body->next) break;
    }
    return loops;
}

// One loop in place of several; its name.
static const char *add_fused(Heuristic *to, const int32_t *loop, int loops) {
    const char *name = name_of(to, loop[0]);
    for (int i = 1; i < loops; i++) {
        text_add(&to->text, "FUSE %s %s\n", name, name_of(to, loop[i]));
        name = arena_print(to->arena, "%s_%s", name, name_of(to, loop[i]));
    }
    return name;
}

static double runs_of(const Heuristic *to, const int32_t *loop, int loops) {
    double runs = 1;
    for (int i = 0; i < loops; i++) runs *= (double)largest_extent(to, loop[i]);
    return runs;
}

// ---- a thread for each element -----------------------------------------------------------------
// Elements side by side in this loop are side by side in memory where they are stored.
static bool is_wide(const Heuristic *to, Statement *body, int32_t loop) {
    int64_t extent, stride;
    if (!constant_extent(to, loop, &extent) || extent % WIDE || !only_stores(body)) return false;
    for (const Statement *at = body; at; at = at->next)
        if (at->condition >= 0 || !index_stride(to->indices, at->index, loop, &stride) ||
            stride != 1 || legal_vector(to->kernel, statement_of(to, loop)))
            return false;
    return true;
}

static void add_elements(Heuristic *to, const int32_t *loop, int loops) {
    Statement *innermost = statement_of(to, loop[loops - 1]);
    bool wide = is_wide(to, innermost->body, loop[loops - 1]);
    const char *name = add_fused(to, loop, loops);
    double runs = runs_of(to, loop, loops) / (wide ? WIDE : 1);
    int threads = THREADS;
    while (threads > 1 && runs < (threads > 32 ? 64.0 : 1.0) * threads) threads /= 2;
    if (wide) {
        text_add(&to->text, "SPLIT %s %d\nVECTORIZE %s1\n", name, WIDE, name);
        name = arena_print(to->arena, "%s0", name);
    }
    text_add(&to->text, "SPLIT %s %d guard\nBLOCK %s0\nTHREAD %s1\n", name, threads, name, name);
}

// ---- a block for each row ----------------------------------------------------------------------
static bool folds_alone(const Heuristic *to, const Statement *loop) {
    for (const Statement *at = loop->body; at; at = at->next) {
        Op fold;
        LoopSet used = kernel_loops_of_index(to->kernel, at->index);
        if (at->kind != STATEMENT_STORE ||
            space_is_common(to->kernel->buffers.at[at->buffer].space) ||
            loop_set_has(&used, loop->loop) || !legal_fold(to->kernel, at, &fold))
            return false;
    }
    return true;
}

// The loop moves by one, or stays, in all that it loads.
static bool moves_evenly(const Heuristic *to, Statement *body, int32_t loop) {
    int64_t extent, stride;
    if (!constant_extent(to, loop, &extent) || extent % WIDE || extent < 2 * WIDE) return false;
    AccessList accesses = kernel_accesses(to->arena, to->kernel, body, -1);
    for (int i = 0; i < accesses.count; i++)
        if (!index_stride(to->indices, accesses.at[i].index, loop, &stride) || stride < 0 ||
            stride > 1)
            return false;
    return true;
}

static void add_shared_loop(Heuristic *to, Statement *at) {
    const char *name = name_of(to, at->loop);
    bool wide = only_stores(at->body) && moves_evenly(to, at->body, at->loop) &&
                !legal_vector(to->kernel, at);
    if (wide)
        text_add(&to->text, "SPLIT %s %d\nVECTORIZE %s1\nTHREAD %s0\n", name, WIDE, name, name);
    else
        text_add(&to->text, "THREAD %s\n", name);
}

// Each loop of the list is shared by the block's threads, or what is in it is.
static void add_row(Heuristic *to, Statement *list) {
    for (Statement *at = list; at; at = at->next) {
        if (at->kind != STATEMENT_LOOP) continue;
        bool parallel = !legal_parallel(to->kernel, at, LOOP_BLOCK), inner = only_stores(at->body);
        bool enough = inner || largest_extent(to, at->loop) >= LONG;
        if ((parallel && enough) || (inner && folds_alone(to, at)))
            add_shared_loop(to, at);
        else
            add_row(to, at->body);
    }
}

// The iterations of the longest loop that a block's threads would share.
static int64_t longest(const Heuristic *to, const Statement *list) {
    int64_t most = 0;
    for (; list; list = list->next)
        if (list->kind == STATEMENT_LOOP)
            most = max_i64(most, max_i64(largest_extent(to, list->loop), longest(to, list->body)));
    return most;
}

static void add_nest(Heuristic *to, Statement *at) {
    int32_t chain[CHAIN_MAX];
    int loops = parallel_chain(to, at, chain);
    if (!loops) return;
    Statement *body = statement_of(to, chain[loops - 1])->body;
    if (longest(to, body) < LONG) {
        add_elements(to, chain, loops);
        return;
    }
    text_add(&to->text, "BLOCK %s\n", add_fused(to, chain, loops));
    add_row(to, body);
}

// ---- tiles -------------------------------------------------------------------------------------
enum {
    SIDE = 64,          // rows or columns of a tile that the block's threads have four of each
    DEPTH = 8,          // of the sum that is copied at a time
    MANY_BLOCKS = 128,  // fewer are made twice as many, and smaller
};

static const char *tail_for(int64_t extent, int64_t by, const char *tail) {
    return extent % by ? tail : "";
}

// The loops of a copy, `name` and those behind it, as one that threads share, four elements each.
static void add_copy(Heuristic *to, const char *outer, const char *inner) {
    text_add(&to->text, "FUSE %s %s\nSPLIT %s_%s %d\nTHREAD %s_%s0\nVECTORIZE %s_%s1\n", outer,
             inner, outer, inner, WIDE, outer, inner, outer, inner);
}

// Rows of the tile are i = 64*i10 + 4*i110 + i111, of which i110 is a thread's and its copies are
// named after buffer b.
static void add_panel(Heuristic *to, const Product *product, const char *i, int32_t buffer) {
    const char *b = buffer_name(to, buffer), *k = name_of(to, product->sum[0]);
    bool along_sum = moves_by_one(to, product, buffer, product->sum[0]);
    text_add(&to->text,
             "STAGE %s at %s0 over %s10 %s110 %s111 %s1 as %s1 %s10 %s110 %s111 in "
             "shared convert\n",
             b, k, i, i, i, k, k, i, i, i);
    text_add(&to->text, "FUSE %s10_%s %s110_%s\nFUSE %s10_%s_%s110_%s %s111_%s\n", i, b, i, b, i, b,
             i, b, i, b);
    const char *row = arena_print(to->arena, "%s10_%s_%s110_%s_%s111_%s", i, b, i, b, i, b);
    const char *depth = arena_print(to->arena, "%s1_%s", k, b);
    if (along_sum) text_add(&to->text, "ORDER %s %s\n", row, depth);
    add_copy(to, along_sum ? row : depth, along_sum ? depth : row);
}

const char *gpu_tile_schedule(Heuristic *to) {
    Product product;
    int64_t rows, columns, depth, blocks = 1, wide = 2 * SIDE;
    if (!find_product(to, &product) || product.sums != 1) return NULL;
    if (!constant_extent(to, product.rows, &rows) ||
        !constant_extent(to, product.columns, &columns) ||
        !constant_extent(to, product.sum[0], &depth) || rows < SIDE / 2 || columns < SIDE / 2 ||
        depth < DEPTH)
        return NULL;
    for (int n = 0; n < to->loops - 2; n++) blocks *= largest_extent(to, to->chain[n]);
    if (blocks * (rows / wide) * (columns / wide) < MANY_BLOCKS) wide = SIDE;
    const char *i = name_of(to, product.rows), *j = name_of(to, product.columns),
               *k = name_of(to, product.sum[0]), *s = buffer_name(to, product.update->buffer);
    to->text = text_new(to->arena);
    text_add(&to->text, "SPLIT %s %d%s\nSPLIT %s %d%s\nORDER %s0 %s0 %s1 %s1\n", i, (int)wide,
             tail_for(rows, wide, " pad"), j, (int)wide, tail_for(columns, wide, " pad"), i, j, i,
             j);
    text_add(&to->text, "SPLIT %s1 %d\nSPLIT %s11 %d\nSPLIT %s1 %d\nSPLIT %s11 %d\n", i, SIDE, i,
             WIDE, j, SIDE, j, WIDE);
    text_add(&to->text, "ORDER %s0 %s0 %s110 %s110 %s10 %s111 %s10 %s111\n", i, j, i, j, i, i, j,
             j);
    const char *block = arena_print(to->arena, "%s0", i);
    for (int n = to->loops - 3; n >= 0; n--) {
        const char *batch = name_of(to, to->chain[n]);
        text_add(&to->text, "FUSE %s %s\n", batch, block);
        block = arena_print(to->arena, "%s_%s", batch, block);
    }
    text_add(&to->text, "FUSE %s %s0\nBLOCK %s_%s0\nSTAGE %s at %s_%s0 in reg\n", block, j, block,
             j, s, block, j);
    text_add(&to->text, "SPLIT %s %d%s\nORDER %s0 %s110 %s110 %s1 %s10 %s111 %s10 %s111\n", k,
             DEPTH, tail_for(depth, DEPTH, " zero"), k, i, j, k, i, i, j, j);
    add_panel(to, &product, i, product.rows_buffer);
    add_panel(to, &product, j, product.packed);
    static const char *const nests[] = {"", "_init", "_finish"};
    for (int n = 0; n < COUNT_OF(nests); n++) {
        const char *e = nests[n];
        text_add(&to->text,
                 "FUSE %s110%s %s110%s\nUNROLL %s10%s\nUNROLL %s111%s\nUNROLL %s10%s\n"
                 "VECTORIZE %s111%s\n",
                 i, e, j, e, i, e, i, e, j, e, j, e);
    }
    text_add(&to->text,
             "UNROLL %s1\nTHREAD %s110_%s110 %s110_init_%s110_init "
             "%s110_finish_%s110_finish\n",
             k, i, j, i, j, i, j);
    return to->text.at;
}

const char *gpu_schedule(Heuristic *to) {
    to->text = text_new(to->arena);
    bool nests = true;
    for (Statement *at = to->kernel->body; at; at = at->next) nests &= at->kind == STATEMENT_LOOP;
    if (nests) {
        for (Statement *at = to->kernel->body; at; at = at->next) add_nest(to, at);
    } else {
        text_add(&to->text, "BLOCK top\n");
        add_row(to, to->kernel->body);
    }
    return to->text.at ? to->text.at : "";
}

// A thread for each iteration of the outermost loops, whatever is in them.
const char *gpu_plain_schedule(Heuristic *to) {
    to->text = text_new(to->arena);
    for (Statement *at = to->kernel->body; at; at = at->next) {
        if (at->kind != STATEMENT_LOOP || legal_parallel(to->kernel, at, LOOP_BLOCK)) continue;
        const char *name = name_of(to, at->loop);
        text_add(&to->text, "SPLIT %s 64 guard\nBLOCK %s0\nTHREAD %s1\n", name, name, name);
    }
    return to->text.at ? to->text.at : "";
}
