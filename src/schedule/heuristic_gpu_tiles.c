/* heuristic_gpu_tiles.c - a good schedule for a GPU where a kernel is a product of matrices.
 * In: a kernel in explicit form.  Out: schedules as text, best first.
 * Invariant: what a thread reads, its neighbour reads the next of, wherever a loop is contiguous.
 *
 * Each loop around the sum moves with one operand or with both. Those of one are the rows, those of
 * the other the columns; each side becomes one loop, and so does the sum, so that a convolution is
 * a product of filters and places whose copies find out where a place's element lies:
 *   out[n, o, y, x] = sum over c, v, u of w[o, c, v, u] in[n, c, y + v, x + u]
 *   =>  rows o, columns n_y_x, sum c_v_u
 * A block copies what its tile needs of both operands to its memory, a slice of the sum at a time,
 * and each thread has 4 x 4 elements of the tile, or so many several times, in registers (V. Volkov
 * and J. Demmel, 2008), or a warp's tensor cores have. Sizes may be VARs: tiles are whole; what
 * lies past the end is not read where it would leave a buffer, and not stored.                  */
#include "schedule/heuristic.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- which loops are what ----------------------------------------------------------------------
static void side_add(const Heuristic *to, Side *side, int32_t loop) {
    int64_t extent;
    bool is_var = !constant_extent(to, loop, &extent);
    int at = side->count++;
    for (; is_var && at > 0; at--) side->loop[at] = side->loop[at - 1];
    side->loop[at] = loop;
    side->vars += is_var;
    side->size *= largest_extent(to, loop);
}

static bool find_sides(const Heuristic *to, Tiling *found) {
    LoopSet left = kernel_loops_of(to->kernel, found->product.left),
            right = kernel_loops_of(to->kernel, found->product.right);
    found->rows.size = found->columns.size = found->around.size = found->sum.size = 1;
    for (int i = 0; i < to->loops; i++) {
        bool with_left = loop_set_has(&left, to->chain[i]),
             with_right = loop_set_has(&right, to->chain[i]);
        side_add(to,
                 with_left == with_right ? &found->around
                 : with_left             ? &found->rows
                                         : &found->columns,
                 to->chain[i]);
    }
    for (int i = 0; i < found->product.sums; i++) side_add(to, &found->sum, found->product.sum[i]);
    return found->rows.vars < 2 && found->columns.vars < 2 && found->sum.vars < 2;
}

static bool find_tiling(const Heuristic *to, Tiling *found) {
    enum { LEAST = 32 };  // rows and columns
    *found = (Tiling){0};
    int rows = to->loops - 2;
    while (rows >= 0 && !find_product_over(to, to->chain[rows], &found->product)) rows--;
    return rows >= 0 && find_sides(to, found) && found->rows.size >= LEAST &&
           found->columns.size >= LEAST;
}

static int64_t tiles_in(int64_t size, int64_t tile) { return (size + tile - 1) / tile; }

static int64_t tiles_of(const Tiling *found, const GpuTile *tile) {
    return found->around.size * tiles_in(found->rows.size, tile->rows) *
           tiles_in(found->columns.size, tile->columns);
}

// Seconds, of rounds of blocks with one on each multiprocessor, all of whose units are at work; of
// a sum in parts also those that write parts and read them again.
static double seconds_of(const Heuristic *to, const Tiling *found, const GpuTile *tile,
                         int64_t parts) {
    static const double launch = 3e-6;
    const GpuTarget *gpu = to->target->gpu;
    double products = to->target->tiles ? gpu->tf32 / 2 / gpu->sms : gpu->lanes * gpu->clock,
           results =
               (double)found->around.size * (double)found->rows.size * (double)found->columns.size;
    int64_t rounds = tiles_in(tiles_of(found, tile) * parts, gpu->sms);
    double seconds = (double)(rounds * tile->rows * tile->columns) * tile->cost *
                     (double)found->sum.size / (double)parts / products;
    if (parts > 1) seconds += launch + 2 * (double)parts * results * 4 / gpu->memory_rate;
    return seconds;
}

// As many parts as there are multiprocessors for, none shorter than some slices.
static int64_t most_parts(const Heuristic *to, const Tiling *found, const GpuTile *tile) {
    enum { LEAST = 128 };
    bool vars = found->rows.vars + found->columns.vars + found->around.vars + found->sum.vars > 0;
    int64_t most = to->target->gpu->sms / tiles_of(found, tile);
    return vars ? 1 : max_i64(min_i64(most, found->sum.size / LEAST), 1);
}

// The tile, and the parts of the sum, that take least.
static void choose_tile(const Heuristic *to, Tiling *found, bool in_parts, int tiles,
                        const GpuTile *all) {
    double least = INFINITY;
    for (const GpuTile *tile = all; tile < all + tiles; tile++) {
        int64_t most = in_parts ? most_parts(to, found, tile) : 1;
        for (int64_t parts = 1;; parts = most) {
            double seconds = seconds_of(to, found, tile, parts);
            if (seconds < least) least = seconds, found->tile = *tile, found->parts = parts;
            if (parts == most) break;
        }
    }
}

// Blocks that run at once should share what they read. With a group of g rows of tiles, done column
// by column, those on all multiprocessors read g rows and sms/g columns, and with g = 1 a whole row
// of tiles. Where L2 holds both operands, any order will do.
static void choose_group(const Heuristic *to, Tiling *found) {
    enum { MOST = 32 };
    const GpuTarget *gpu = to->target->gpu;
    const GpuTile *tile = &found->tile;
    int64_t rows = tiles_in(found->rows.size, tile->rows), sms = gpu->sms,
            columns = tiles_in(found->columns.size, tile->columns), least = INT64_MAX;
    double bytes = 4.0 * (double)found->sum.size * (double)(found->rows.size + found->columns.size);
    bool vars = found->rows.vars + found->columns.vars + found->around.vars > 0;
    found->group = 1;
    for (int64_t group = 1; group <= MOST && group <= rows; group++) {
        int64_t across = min_i64(columns, tiles_in(sms, group)),
                down = min_i64(rows, group * tiles_in(sms, group * columns)),
                read = across * tile->columns + down * tile->rows;
        if (rows % group || read >= least) continue;
        least = read, found->group = group;
        if (vars || bytes < gpu->l2_bytes / 2) return;
    }
}

// ---- copies ------------------------------------------------------------------------------------
// The element of a buffer that the product reads.
static Index element_of(const Heuristic *to, const Tiling *tiling, int32_t buffer) {
    AccessList all = kernel_accesses(to->arena, to->kernel, tiling->product.update, buffer);
    return all.at[0].index;
}

// So many iterations of the side's innermost loops follow each other in memory; the first of those.
static int64_t run_of(const Heuristic *to, Index element, const Side *side, int *first) {
    int64_t run = 1, stride, extent;
    for (*first = side->count; *first > 0; --*first, run *= extent) {
        int32_t loop = side->loop[*first - 1];
        bool moves = index_stride(to->indices, element, loop, &stride);
        extent = largest_extent(to, loop);
        if (!moves || (stride != run && extent > 1)) break;
    }
    return run;
}

bool is_along_sum(const Heuristic *to, const Tiling *tiling, int32_t buffer, const Side *side) {
    Index element = element_of(to, tiling, buffer);
    int first;
    return run_of(to, element, &tiling->sum, &first) > run_of(to, element, side, &first);
}

// Four iterations in a row of the side are sixteen bytes that begin at a multiple of sixteen.
static bool in_quads(const Heuristic *to, Index element, const Side *side) {
    const Term *terms;
    int first, count = index_terms(to->indices, element, &terms);
    bool quads = run_of(to, element, side, &first) % WIDE == 0 && first >= side->vars &&
                 index_constant(to->indices, element) % WIDE == 0;
    for (int i = 0; i < count; i++) {
        const Atom *atom = index_atom_of(to->indices, terms[i].atom);
        bool in_run = false;
        for (int n = first; n < side->count; n++)
            in_run |= atom->kind == ATOM_LOOP && atom->of == side->loop[n];
        quads &= !atom->by && (in_run || terms[i].scale % WIDE == 0);
    }
    return quads;
}

// The loops $o that copy $x become one, whose iterations threads share.
static void add_shared_copy(Heuristic *to, const GpuTile *tile, int rows, bool wide) {
    int64_t count = (int64_t)rows * tile->depth / (wide ? WIDE : 1);
    to->word['t'] = decimal(to, min_i64(tile->threads, count));
    add(to, "FUSE $o as copy_$x\n");
    add(to, wide ? "SPLIT copy_$x 4\nSPLIT copy_$x0 $t\nORDER copy_$x01 copy_$x00\n"
                   "UNROLL copy_$x00\nTHREAD copy_$x01\nVECTORIZE copy_$x1\n"
                 : "SPLIT copy_$x $t\nORDER copy_$x1 copy_$x0\nUNROLL copy_$x0\nTHREAD copy_$x1\n");
}

// What is copied for a slice: as many of the sum for each row (or column) of the tile, by threads
// side by side along what is contiguous. Four elements each, if they lie so in both memories.
void add_side_copy(Heuristic *to, const Tiling *tiling, int32_t buffer, const Side *side, int rows,
                   const char *loops, const char *sums) {
    bool along_sum = is_along_sum(to, tiling, buffer, side),
         turned = along_sum && !to->target->tiles,
         wide = !turned &&
                in_quads(to, element_of(to, tiling, buffer), along_sum ? &tiling->sum : side);
    to->word['x'] = buffer_name(to, buffer);
    to->word['l'] = filled(to, loops), to->word['d'] = filled(to, sums);
    to->word['o'] = filled(to, along_sum ? "$l $d" : "$d $l");
    if (turned) {  // laid out the other way
        add(to, "FUSE $l as rows_$x\nORDER rows_$x $d\n");
        to->word['o'] = filled(to, "rows_$x $d");
    }
    add_shared_copy(to, &tiling->tile, rows, wide);
}

// ---- blocks ------------------------------------------------------------------------------------
// The sides as one loop each, and the sum.
static void add_sides(Heuristic *to, const Tiling *tiling) {
    const Side *side[] = {&tiling->around, &tiling->rows, &tiling->columns};
    Text order = text_new(to->arena);
    int at = 0;
    bool moves = false;
    for (int n = 0; n < COUNT_OF(side); n++)
        for (int i = 0; i < side[n]->count; i++) {
            text_add(&order, " %s", name_of(to, side[n]->loop[i]));
            moves |= to->chain[at++] != side[n]->loop[i];
        }
    if (moves) text_add(&to->text, "ORDER%s\n", order.at);
    to->word['i'] = add_fused(to, tiling->rows.loop, tiling->rows.count);
    to->word['j'] = add_fused(to, tiling->columns.loop, tiling->columns.count);
    to->word['k'] = add_fused(to, tiling->sum.loop, tiling->sum.count);
}

// A block for each tile, whatever loops are around. Of loops whose extents are VARs one can be the
// outermost of those that become one; a block walks the others. The words: g, the blocks'; h, what
// one walks; o, the innermost of both.
void find_blocks(Heuristic *to, const Tiling *tiling) {
    Text blocks = text_new(to->arena), walks = text_new(to->arena);
    const char *name[CHAIN_MAX + 4];
    bool is_var[CHAIN_MAX + 4] = {false};
    int count = 0, first = 0;
    if (tiling->parts > 1) name[count++] = to->word['P'];
    for (int i = 0; i < tiling->around.count; i++) {
        is_var[count] = i < tiling->around.vars;
        name[count++] = name_of(to, tiling->around.loop[i]);
    }
    is_var[count] = tiling->rows.vars > 0;
    name[count++] = filled(to, tiling->group > 1 ? "$i00" : "$i0");
    is_var[count] = tiling->columns.vars > 0;
    name[count++] = filled(to, "$j0");
    if (tiling->group > 1) {
        name[count++] = filled(to, "$i01");
        add(to, arena_print(to->arena, "SPLIT $i0 %lld\n", (long long)tiling->group));
    }
    while (first < count && !is_var[first]) first++;
    if (first < count) text_add(&blocks, " %s", name[first]);
    for (int i = 0; i < count; i++)
        if (i != first) text_add(is_var[i] ? &walks : &blocks, " %s", name[i]);
    to->word['g'] = blocks.at;
    to->word['h'] = walks.count ? walks.at : "";
    to->word['o'] = walks.count        ? strrchr(walks.at, ' ') + 1
                    : tiling->walk > 1 ? "tiles1"
                                       : "tiles";
}

// The sum in parts, a loop around all others, named P; k is one of them from now on. What adds the
// parts up has a thread for each element.
static void add_parts(Heuristic *to, const Tiling *tiling) {
    int64_t depth = round_up(tiles_in(tiling->sum.size, tiling->parts), tiling->tile.depth);
    to->word['d'] = decimal(to, depth);
    add(to, tiling->sum.size % depth ? "SPLIT $k $d zero\n" : "SPLIT $k $d\n");
    add(to, "RFACTOR $k0 apart in shared\nFUSE");
    for (int i = 0; i < tiling->around.count; i++)
        text_add(&to->text, " %s_fold", name_of(to, tiling->around.loop[i]));
    add(to, " $i_fold $j_fold as folds\n"
            "SPLIT folds 256 guard\nBLOCK folds0\nTHREAD folds1\n");
    to->word['P'] = filled(to, "$k0");
    to->word['k'] = filled(to, "$k1");
    to->word['z'] = "";
}

void add_blocks(Heuristic *to, const Tiling *tiling) {
    bool several = strchr(to->word['g'] + 1, ' ');
    if (tiling->walk > 1)
        add(to, arena_print(to->arena, "FUSE$g as tiles\nSPLIT tiles %lld guard\nBLOCK tiles0\n",
                            (long long)tiling->walk));
    else
        add(to, several ? "FUSE$g as tiles\nBLOCK tiles\n" : "BLOCK$g\n");
    add(to, "STAGE $s at $o in reg\n");
}

// ---- tiles -------------------------------------------------------------------------------------
// Rows of the tile are i = 64*i10 + 4*i110 + i111: i110 is a thread's, and so with columns. A row
// of the sum in shared memory has four elements free behind it where threads write columns.
static void add_thread_tile(Heuristic *to, const Tiling *tiling) {
    static const char *const nests[] = {"", "_init", "_finish"};
    const Product *product = &tiling->product;
    bool left_along = is_along_sum(to, tiling, product->rows_buffer, &tiling->rows),
         right_along = is_along_sum(to, tiling, product->packed, &tiling->columns);
    add(to, "SPLIT $i $m$p\nSPLIT $j $n$q\n");
    find_blocks(to, tiling);
    add(to, "ORDER$g$h $i1 $j1\n"
            "SPLIT $i1 $R\nSPLIT $i11 4\nSPLIT $j1 $C\nSPLIT $j11 4\n"
            "ORDER$g$h $i110 $j110 $i10 $i111 $j10 $j111\n");
    add_blocks(to, tiling);
    add(to, "SPLIT $k $d$z\nORDER $k0 $i110 $j110 $k1 $i10 $i111 $j10 $j111\n"
            "STAGE $a at $k0 over $i10 $i110 $i111 $k1 ");
    add(to, left_along ? "as $k1 +4 $i10 $i110 $i111 in shared convert\n"
                       : "as $k1 $i10 $i110 $i111 in shared convert\n");
    add(to, "STAGE $b at $k0 over $j10 $j110 $j111 $k1 ");
    add(to, right_along ? "as $k1 +4 $j10 $j110 $j111 in shared convert\n"
                        : "as $k1 $j10 $j110 $j111 in shared convert\n");
    add_side_copy(to, tiling, product->rows_buffer, &tiling->rows, tiling->tile.rows,
                  "$i10_$x $i110_$x $i111_$x", "$k1_$x");
    add_side_copy(to, tiling, product->packed, &tiling->columns, tiling->tile.columns,
                  "$j10_$x $j110_$x $j111_$x", "$k1_$x");
    for (int n = 0; n < COUNT_OF(nests); n++) {
        to->word['e'] = nests[n];
        add(to, "FUSE $i110$e $j110$e as own$e\nUNROLL $i10$e\nUNROLL $i111$e\nUNROLL $j10$e\n"
                "VECTORIZE $j111$e\n");
    }
    add(to, "UNROLL $k1\nTHREAD own own_init own_finish\n");
}

// A weight in the order in which warps read it: panels of 64 columns, in each so many slices of the
// sum, in those for each 8 of the sum the fragments of two tiles of 8 columns, four words a thread.
// A slice is one run of memory, whatever the tile, and a fragment is read 16 bytes at a time.
static void add_layout(Heuristic *to, const GpuTile *tile) {
    bool panels = tile->inner_columns == 64;  // of a warp's own
    to->word['l'] = filled(to, panels ? "$j10 $k10" : "$k10 $j10");
    to->word['f'] = filled(to, "$j110 $j11110 $j11111 $k111 $j1110 $k110");
    to->word['y'] = filled(to, panels ? "$j10 $k0 $k10" : "$k0 $k10 $j10");
    add(to, "STAGE $b at top over $j0 $y $f as $j0 $y $f in once convert\n");
    to->word['b'] = filled(to, "$b_once");
    to->word['y'] = filled(to, "$l $f");
}

static void add_laid_out_copy(Heuristic *to, const GpuTile *tile) {
    to->word['x'] = to->word['b'];
    to->word['l'] = filled(to, tile->inner_columns == 64 ? "$j10_$x $k10_$x" : "$k10_$x $j10_$x");
    to->word['o'] = filled(to, "$l $j110_$x $j11110_$x $j11111_$x $k111_$x $j1110_$x $k110_$x");
    add_shared_copy(to, tile, tile->columns, true);
}

// Tiles of 16 x 8 by 8, whose rows, columns and sum are halved as mma.m16n8k8's threads hold them
// (kernel_tile.c); four elements free behind each row of 32, or eight behind each of 128, let the
// 32 threads that read a fragment find it in 32 banks.
static void add_warp_tile(Heuristic *to, const Tiling *tiling) {
    static const char *const nests[] = {"_init", "_finish"};
    const Product *product = &tiling->product;
    const GpuTile *tile = &tiling->tile;
    bool left_along = is_along_sum(to, tiling, product->rows_buffer, &tiling->rows),
         right_along = is_along_sum(to, tiling, product->packed, &tiling->columns);
    add(to, "SPLIT $i $m$p\nSPLIT $j $n$q\n");
    find_blocks(to, tiling);
    add(to, "ORDER$g$h $i1 $j1\n"
            "SPLIT $i1 $R\nSPLIT $i11 16\nSPLIT $i111 8\n"
            "SPLIT $j1 $C\nSPLIT $j11 16\nSPLIT $j111 8\nSPLIT $j1111 2\n"
            "ORDER$g$h $i10 $j10 $i110 $j110 $j1110 $i1110 $i1111 $j11110 $j11111\n"
            "SPLIT $k $d$z\nSPLIT $k1 8\nSPLIT $k11 4\n");
    to->word['y'] =
        filled(to, right_along ? "$j10 $j110 $j1110 $j11110 $j11111 +4 $k10 $k110 $k111"
                               : "$k10 $k110 $k111 +8 $j10 $j110 $j1110 $j11110 $j11111");
    if (tiling->laid_out) add_layout(to, tile);
    add_blocks(to, tiling);
    add(to,
        "ORDER $k0 $i10 $j10 $k10 $i110 $j110 $j1110 $i1110 $i1111 $j11110 $j11111 $k110 $k111\n"
        "STAGE $a at $k0 over $i10 $i110 $i1110 $i1111 $k10 $k110 $k111 ");
    add(to, left_along ? "as $i10 $i110 $i1110 $i1111 +4 $k10 $k110 $k111 in shared convert\n"
                       : "as $k10 $k110 $k111 +8 $i10 $i110 $i1110 $i1111 in shared convert\n");
    add(to, "STAGE $b at $k0 over $k10 $k110 $k111 $j10 $j110 $j1110 $j11110 $j11111 as $y "
            "in shared convert\n"
            "FUSE $i10 $j10 as warps\nFUSE $i10_init $j10_init as warps_init\n"
            "FUSE $i10_finish $j10_finish as warps_finish\nWARP warps warps_init warps_finish\n"
            "STAGE $a_shared at $k10 over $i110 $i1110 $i1111 $k110 $k111 "
            "as $i110 $k110 $i1110 $i1111 $k111 in reg\n"
            "STAGE $b_shared at $k10 over $j110 $j1110 $j11110 $j11111 $k110 $k111 "
            "as $j110 $j1110 $k110 $j11110 $j11111 $k111 in reg\n"
            "FUSE $i1111_$a_shared $k111_$a_shared as lanes_$a\n"
            "ORDER lanes_$a $i110_$a_shared $k110_$a_shared $i1110_$a_shared\n"
            "FUSE $j11110_$b_shared $j11111_$b_shared $k111_$b_shared as lanes_$b\n"
            "ORDER lanes_$b $j110_$b_shared $j1110_$b_shared $k110_$b_shared\n");
    for (int n = 0; n < COUNT_OF(nests); n++) {
        to->word['e'] = nests[n];
        add(to, "FUSE $i1111$e $j11110$e as lanes$e\n"
                "ORDER lanes$e $i110$e $j110$e $j1110$e $i1110$e $j11111$e\n"
                "UNROLL $i110$e\nUNROLL $j110$e\nUNROLL $j1110$e\nUNROLL $i1110$e\n");
    }
    add(to, "UNROLL $j11111_init\nVECTORIZE $j11111_finish\n"
            "TENSORCORE mma_tf32 16x8 on $s with lanes_init lanes_finish lanes_$a lanes_$b\n"
            "UNROLL $k10\nUNROLL $i110\nUNROLL $j110\nUNROLL $j1110\nUNROLL $i110_$a_shared\n"
            "UNROLL $k110_$a_shared\nUNROLL $i1110_$a_shared\nUNROLL $j110_$b_shared\n");
    add(to, tiling->laid_out ? "FUSE $j1110_$b_shared $k110_$b_shared as four\nVECTORIZE four\n"
                             : "UNROLL $j1110_$b_shared\nUNROLL $k110_$b_shared\n");
    add_side_copy(to, tiling, product->rows_buffer, &tiling->rows, tile->rows,
                  "$i10_$x $i110_$x $i1110_$x $i1111_$x", "$k10_$x $k110_$x $k111_$x");
    if (tiling->laid_out && !tiling->bulk) add_laid_out_copy(to, tile);
    if (!tiling->laid_out)
        add_side_copy(to, tiling, product->packed, &tiling->columns, tile->columns,
                      "$j10_$x $j110_$x $j1110_$x $j11110_$x $j11111_$x",
                      "$k10_$x $k110_$x $k111_$x");
}

static bool divides(const Side *side, int64_t by) { return !side->vars && side->size % by == 0; }

// A weight in single precision, which all loops around the product share.
static bool can_lay_out(const Heuristic *to, const Tiling *tiling) {
    const KernelBuffer *buffer = &to->kernel->buffers.at[tiling->product.packed];
    LoopSet used = kernel_loops_of(to->kernel, tiling->product.right);
    for (int n = 0; n < tiling->around.count; n++)
        if (loop_set_has(&used, tiling->around.loop[n])) return false;
    bool fixed = !tiling->columns.vars && !tiling->sum.vars && tiling->parts == 1;
    return to->target->tiles && buffer->is_weight && buffer->dtype == DT_F32 &&
           tiling->product.plain && fixed;
}

// False if the product has no tiles of that form.
static bool find_form(const Heuristic *to, Tiling *found, TileForm form, int tiles,
                      const GpuTile *tile) {
    if (!find_tiling(to, found)) return false;
    found->walk = 1;
    found->bulk = form == TILES_BULK;
    found->laid_out = found->bulk || form == TILES_LAID_OUT;
    choose_tile(to, found, true, tiles, tile);
    if (form == TILES_WHOLE && found->parts == 1) return false;
    if (form == TILES_WHOLE) choose_tile(to, found, false, tiles, tile);
    if ((found->laid_out && !can_lay_out(to, found)) || found->sum.size < found->tile.depth)
        return false;
    choose_group(to, found);
    if (form != TILES_WALKING) return true;
    found->walk = tiles_in(tiles_of(found, &found->tile), to->target->gpu->sms);
    return !found->rows.vars && !found->columns.vars && !found->around.vars && found->walk > 1;
}

// As many places for slices as leave room for two blocks on a multiprocessor, or for one whose sums
// are half of its registers.
static void add_pipeline(Heuristic *to, const Tiling *tiling) {
    enum { GAP = 4, LEAST = 2, MOST = 4 };
    const GpuTile *tile = &tiling->tile;
    const GpuTarget *gpu = to->target->gpu;
    bool one = 2 * tile->rows * tile->columns >= gpu->registers;
    int64_t bytes = (int64_t)(tile->rows + tile->columns) * (tile->depth + GAP) * 4,
            slices = (tiling->sum.size + tile->depth - 1) / tile->depth,
            shared = one ? gpu->block_shared : gpu->shared / 2,
            room = min_i64(shared / bytes, MOST);
    to->word['t'] = decimal(to, min_i64(max_i64(room, LEAST), slices));
    add(to, "PIPELINE $k0 $t bulk\n");
}

const char *tile_schedule_of(Heuristic *to, TileForm form, int tiles, const GpuTile *tile,
                             AddTile *add_tile) {
    Tiling tiling;
    if (!find_form(to, &tiling, form, tiles, tile)) return NULL;
    tile = &tiling.tile;
    to->text = text_new(to->arena);
    set_words(to, &tiling.product);
    set_tile(to, tile->rows, tile->columns);
    to->word['p'] = divides(&tiling.rows, tile->rows) ? "" : " pad";
    to->word['q'] = divides(&tiling.columns, tile->columns) ? "" : " pad";
    to->word['z'] = divides(&tiling.sum, tile->depth) ? "" : " zero";
    to->word['R'] = decimal(to, tile->inner_rows);
    to->word['C'] = decimal(to, tile->inner_columns);
    add_sides(to, &tiling);
    if (tiling.parts > 1) add_parts(to, &tiling);
    to->word['d'] = decimal(to, tile->depth);
    add_tile(to, &tiling);
    if (tiling.bulk) add_pipeline(to, &tiling);
    return to->text.at;
}

static const char *usual_schedule(Heuristic *to, TileForm form) {
    enum { TILES = 4 };
    // clang-format off
    static const GpuTile tiles[2][TILES] = {
        {{128, 128, 8, 256, 64, 64, 1},
         {128, 64, 8, 128, 64, 32, 1.05},
         {64, 128, 8, 128, 32, 64, 1.05},
         {64, 64, 8, 256, 64, 64, 2}},
        {{128, 128, 32, 128, 64, 64, 1},
         {128, 64, 32, 128, 64, 32, 1.25},
         {64, 128, 32, 128, 32, 64, 1.25},
         {64, 64, 32, 128, 32, 32, 1.6}},
    };
    // clang-format on
    bool units = to->target->tiles != NULL;
    return tile_schedule_of(to, form, TILES, tiles[units], units ? add_warp_tile : add_thread_tile);
}

// With copies two slices ahead, where they are plain.
static const char *pipelined(const Heuristic *to, const char *tile) {
    int places = to->target->tiles ? 2 : 3;  // of 36 KB or of 8
    return tile ? arena_print(to->arena, "%sPIPELINE %s0 %d\n", tile, to->word['k'], places) : NULL;
}

const char *gpu_weight_bulk_schedule(Heuristic *to) {
    enum { HAS_ENGINE = 90 };
    long since = strtol(to->target->gpu->architecture + strlen("sm_"), NULL, 10);
    return since >= HAS_ENGINE ? usual_schedule(to, TILES_BULK) : NULL;
}
const char *gpu_weight_pipelined_schedule(Heuristic *to) {
    return pipelined(to, usual_schedule(to, TILES_LAID_OUT));
}
const char *gpu_weight_schedule(Heuristic *to) { return usual_schedule(to, TILES_LAID_OUT); }
const char *gpu_pipelined_schedule(Heuristic *to) {
    return pipelined(to, usual_schedule(to, TILES_USUAL));
}
const char *gpu_tile_schedule(Heuristic *to) { return usual_schedule(to, TILES_USUAL); }
const char *gpu_whole_schedule(Heuristic *to) {
    return pipelined(to, usual_schedule(to, TILES_WHOLE));
}
const char *gpu_walking_schedule(Heuristic *to) {
    return pipelined(to, usual_schedule(to, TILES_WALKING));
}
