/* heuristic_gpu.c - a good schedule for a GPU without search.
 * In: a kernel in explicit form.  Out: schedules as text, best first.
 * Invariant: what a thread reads, its neighbour reads the next of, wherever a loop is contiguous.
 *
 * A nest that is no product of matrices (heuristic_gpu_tiles.c) is told apart by what is left
 * inside of its parallel loops:
 *   stores alone, short sums    a thread for each element, four of them where they are contiguous
 *   long sums alone             a warp for each row, whose threads share the sums
 *   long loops                  a block for each row, whose threads share each of those loops    */
#include "schedule/heuristic.h"

enum {
    THREADS = 256,
    LONG = 64,  // iterations that are worth a block
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

const char *add_fused(Heuristic *to, const int32_t *loop, int loops) {
    const char *name = name_of(to, loop[0]);
    if (loops > 1) text_add(&to->text, "FUSE %s", name);
    for (int i = 1; i < loops; i++) {
        text_add(&to->text, " %s", name_of(to, loop[i]));
        name = arena_print(to->arena, "%s_%s", name, name_of(to, loop[i]));
    }
    if (loops > 1) text_add(&to->text, "\n");
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

// ---- a warp for each row -----------------------------------------------------------------------
// Rows that are sums alone, of a length that 32 threads share evenly, need no memory to fold in.
static bool is_for_warps(const Heuristic *to, Statement *body) {
    enum { LONGEST = 1 << 13 };
    int loops = 0;
    for (Statement *at = body; at; at = at->next) {
        int64_t extent;
        if (at->kind != STATEMENT_LOOP) continue;
        if (!only_stores(at->body) || !folds_alone(to, at) ||
            !constant_extent(to, at->loop, &extent) || extent % WARP_THREADS || extent > LONGEST)
            return false;
        loops++;
    }
    return loops > 0;
}

static void add_warp_rows(Heuristic *to, const char *rows, Statement *body) {
    enum { WARPS = 8 };
    text_add(&to->text, "SPLIT %s %d guard\nBLOCK %s0\nWARP %s1\n", rows, WARPS, rows, rows);
    for (Statement *at = body; at; at = at->next) {
        int64_t extent = 0;
        if (at->kind != STATEMENT_LOOP || !constant_extent(to, at->loop, &extent)) continue;
        bool wide = extent % (WIDE * WARP_THREADS) == 0 && moves_evenly(to, at->body, at->loop) &&
                    !legal_vector(to->kernel, at);
        to->word['k'] = name_of(to, at->loop);
        add(to, wide ? "SPLIT $k 4\nSPLIT $k0 32\nORDER $k01 $k00 $k1\nVECTORIZE $k1\n"
                       "THREAD $k01\n"
                     : "SPLIT $k 32\nORDER $k1 $k0\nTHREAD $k1\n");
    }
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
    const char *rows = add_fused(to, chain, loops);
    if (is_for_warps(to, body) && runs_of(to, chain, loops) >= LONG) {
        add_warp_rows(to, rows, body);
        return;
    }
    text_add(&to->text, "BLOCK %s\n", rows);
    add_row(to, body);
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
