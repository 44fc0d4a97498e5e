/* heuristic_gpu.c - a good schedule for a GPU without search.
 * In: a kernel in explicit form.  Out: schedules as text, best first.
 * Invariant: what a thread reads, its neighbour reads the next of, wherever a loop is contiguous.
 *
 * A product of matrices becomes tiles: a block copies what its tile needs of both operands to its
 * memory, a slice of the sum at a time, and each thread has 4 x 4 elements of the tile, or so many
 * several times, in registers (V. Volkov and J. Demmel, 2008). Any other nest is told apart by what
 * is left inside of its parallel loops:
 *   stores alone, short sums    a thread for each element, four of them where they are contiguous
 *   long sums alone             a warp for each row, whose threads share the sums
 *   long loops                  a block for each row, whose threads share each of those loops    */
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

// ---- tiles -------------------------------------------------------------------------------------
// A tile of the result that a block computes, a slice of the sum at a time.
typedef struct {
    int rows, columns;  // of the tile
    int depth;          // of a slice
    int threads;
    bool units;     // on tensor cores
    int warp_side;  // a warp has so many rows and columns
} GpuTile;

// What is copied for a slice: as many of the sum for each row (or column) of the tile; by threads
// side by side along what is contiguous, four elements each.
static void add_copy(Heuristic *to, const Product *product, const GpuTile *tile, int32_t buffer,
                     int rows, const char *loops, const char *sums) {
    bool along_sum = moves_by_one(to, product, buffer, product->sum[0]);
    int64_t quads = (int64_t)rows * tile->depth / WIDE;
    to->word['x'] = buffer_name(to, buffer);
    to->word['l'] = filled(to, loops), to->word['d'] = filled(to, sums);
    to->word['o'] = filled(to, along_sum ? "$l $d" : "$d $l");
    to->word['t'] = decimal(to, min_i64(tile->threads, quads));
    if (tile->units || !along_sum)
        add(to, "FUSE $o as copy_$x\n");
    else  // laid out the other way
        add(to, "FUSE $l as rows_$x\nORDER rows_$x $d\nFUSE rows_$x $d as copy_$x\n");
    add(to, "SPLIT copy_$x 4\nSPLIT copy_$x0 $t\nORDER copy_$x01 copy_$x00\n"
            "UNROLL copy_$x00\nTHREAD copy_$x01\nVECTORIZE copy_$x1\n");
}

// A block for each tile, whatever loops are around; the last loops are the tile's.
static void add_blocks(Heuristic *to) {
    Text around = text_new(to->arena);
    for (int n = 0; n < to->loops - 2; n++) text_add(&around, "%s ", name_of(to, to->chain[n]));
    to->word['c'] = around.at ? around.at : "";
    add(to, "FUSE $c$i0 $j0 as tiles\nBLOCK tiles\nSTAGE $s at tiles in reg\nSPLIT $k $d$z\n");
}

// Rows of the tile are i = 64*i10 + 4*i110 + i111: i110 is a thread's, and so with columns.
static void add_thread_tile(Heuristic *to, const Product *product, const GpuTile *tile) {
    static const char *const nests[] = {"", "_init", "_finish"};
    add(to, "SPLIT $i $m$p\nSPLIT $j $n$q\nORDER $i0 $j0 $i1 $j1\n"
            "SPLIT $i1 64\nSPLIT $i11 4\nSPLIT $j1 64\nSPLIT $j11 4\n"
            "ORDER $i0 $j0 $i110 $j110 $i10 $i111 $j10 $j111\n");
    add_blocks(to);
    add(to,
        "ORDER $k0 $i110 $j110 $k1 $i10 $i111 $j10 $j111\n"
        "STAGE $a at $k0 over $i10 $i110 $i111 $k1 as $k1 $i10 $i110 $i111 in shared convert\n"
        "STAGE $b at $k0 over $j10 $j110 $j111 $k1 as $k1 $j10 $j110 $j111 in shared convert\n");
    add_copy(to, product, tile, product->rows_buffer, tile->rows, "$i10_$x $i110_$x $i111_$x",
             "$k1_$x");
    add_copy(to, product, tile, product->packed, tile->columns, "$j10_$x $j110_$x $j111_$x",
             "$k1_$x");
    for (int n = 0; n < COUNT_OF(nests); n++) {
        to->word['e'] = nests[n];
        add(to, "FUSE $i110$e $j110$e as own$e\nUNROLL $i10$e\nUNROLL $i111$e\nUNROLL $j10$e\n"
                "VECTORIZE $j111$e\n");
    }
    add(to, "UNROLL $k1\nTHREAD own own_init own_finish\n");
}

// Tiles of 16 x 8 by 8, whose rows, columns and sum are halved as mma.m16n8k8's threads hold them
// (kernel_tile.c); four elements free behind each row of 32, or eight behind each of 128, let the
// 32 threads that read a fragment find it in 32 banks.
static void add_warp_tile(Heuristic *to, const Product *product, const GpuTile *tile) {
    static const char *const nests[] = {"_init", "_finish"};
    bool right_along = moves_by_one(to, product, product->packed, product->sum[0]),
         left_along = moves_by_one(to, product, product->rows_buffer, product->sum[0]);
    to->word['w'] = decimal(to, tile->warp_side);
    add(to,
        "SPLIT $i $m$p\nSPLIT $j $n$q\nORDER $i0 $j0 $i1 $j1\n"
        "SPLIT $i1 $w\nSPLIT $i11 16\nSPLIT $i111 8\nSPLIT $j1 $w\nSPLIT $j11 8\nSPLIT $j111 2\n"
        "ORDER $i0 $j0 $i10 $j10 $i110 $j110 $i1110 $i1111 $j1110 $j1111\n");
    add_blocks(to);
    add(to, "SPLIT $k1 8\nSPLIT $k11 4\n"
            "ORDER $k0 $i10 $j10 $k10 $i110 $j110 $i1110 $i1111 $j1110 $j1111 $k110 $k111\n"
            "STAGE $a at $k0 over $i10 $i110 $i1110 $i1111 $k10 $k110 $k111 ");
    add(to, left_along ? "as $i10 $i110 $i1110 $i1111 +4 $k10 $k110 $k111 in shared convert\n"
                       : "as $k10 $k110 $k111 +8 $i10 $i110 $i1110 $i1111 in shared convert\n");
    add(to, "STAGE $b at $k0 over $k10 $k110 $k111 $j10 $j110 $j1110 $j1111 ");
    add(to, right_along ? "as $j10 $j110 $j1110 $j1111 +4 $k10 $k110 $k111 in shared convert\n"
                        : "as $k10 $k110 $k111 +8 $j10 $j110 $j1110 $j1111 in shared convert\n");
    add(to, "FUSE $i10 $j10 as warps\nFUSE $i10_init $j10_init as warps_init\n"
            "FUSE $i10_finish $j10_finish as warps_finish\nWARP warps warps_init warps_finish\n"
            "STAGE $a_shared at $k10 over $i110 $i1110 $i1111 $k110 $k111 "
            "as $i110 $k110 $i1110 $i1111 $k111 in reg\n"
            "STAGE $b_shared at $k10 over $j110 $j1110 $j1111 $k110 $k111 "
            "as $j110 $k110 $j1110 $j1111 $k111 in reg\n"
            "FUSE $i1111_$a_shared $k111_$a_shared as lanes_$a\n"
            "ORDER lanes_$a $i110_$a_shared $k110_$a_shared $i1110_$a_shared\n"
            "FUSE $j1110_$b_shared $j1111_$b_shared $k111_$b_shared as lanes_$b\n"
            "ORDER lanes_$b $j110_$b_shared $k110_$b_shared\n");
    for (int n = 0; n < COUNT_OF(nests); n++) {
        to->word['e'] = nests[n];
        add(to, "FUSE $i1111$e $j1110$e as lanes$e\n"
                "ORDER lanes$e $i110$e $j110$e $i1110$e $j1111$e\n"
                "UNROLL $i110$e\nUNROLL $j110$e\nUNROLL $i1110$e\n");
    }
    add(to, "UNROLL $j1111_init\nVECTORIZE $j1111_finish\n"
            "TENSORCORE mma_tf32 16x8 on $s with lanes_init lanes_finish lanes_$a lanes_$b\n"
            "UNROLL $k10\nUNROLL $i110\nUNROLL $j110\nUNROLL $i110_$a_shared\n"
            "UNROLL $k110_$a_shared\nUNROLL $i1110_$a_shared\nUNROLL $j110_$b_shared\n"
            "UNROLL $k110_$b_shared\n");
    add_copy(to, product, tile, product->rows_buffer, tile->rows,
             "$i10_$x $i110_$x $i1110_$x $i1111_$x", "$k10_$x $k110_$x $k111_$x");
    add_copy(to, product, tile, product->packed, tile->columns,
             "$j10_$x $j110_$x $j1110_$x $j1111_$x", "$k10_$x $k110_$x $k111_$x");
}

// The largest tile of which there are enough for all multiprocessors, else the smallest.
static GpuTile choose_tile(const Heuristic *to, int64_t rows, int64_t columns) {
    static const GpuTile tiles[2][2] = {
        {{128, 128, 8, 256, false, 0}, {64, 64, 8, 256, false, 0}},
        {{128, 128, 32, 128, true, 64}, {64, 64, 32, 128, true, 32}},
    };
    const GpuTile *large = &tiles[to->target->tiles != NULL][0];
    int64_t blocks = 1;
    for (int n = 0; n < to->loops - 2; n++) blocks *= largest_extent(to, to->chain[n]);
    bool enough =
        blocks * (rows / large->rows) * (columns / large->columns) >= to->target->gpu->sms;
    return enough ? large[0] : large[1];
}

const char *gpu_tile_schedule(Heuristic *to) {
    enum { LEAST = 32 };  // rows and columns
    Product product;
    int64_t rows, columns, depth;
    if (!find_product(to, &product) || product.sums != 1) return NULL;
    if (!constant_extent(to, product.rows, &rows) ||
        !constant_extent(to, product.columns, &columns) ||
        !constant_extent(to, product.sum[0], &depth) || rows < LEAST || columns < LEAST)
        return NULL;
    GpuTile tile = choose_tile(to, rows, columns);
    if (depth < tile.depth) return NULL;
    to->text = text_new(to->arena);
    set_words(to, &product);
    set_tile(to, tile.rows, tile.columns);
    to->word['d'] = decimal(to, tile.depth);
    to->word['p'] = rows % tile.rows ? " pad" : "";
    to->word['q'] = columns % tile.columns ? " pad" : "";
    to->word['z'] = depth % tile.depth ? " zero" : "";
    if (tile.units)
        add_warp_tile(to, &product, &tile);
    else
        add_thread_tile(to, &product, &tile);
    return to->text.at;
}

// The same with copies two slices ahead, where they are plain.
const char *gpu_pipelined_schedule(Heuristic *to) {
    const char *tile = gpu_tile_schedule(to);
    int places = to->target->tiles ? 2 : 3;  // of 36 KB or of 8
    return tile ? arena_print(to->arena, "%sPIPELINE %s0 %d\n", tile, to->word['k'], places) : NULL;
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
