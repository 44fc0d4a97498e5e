/* heuristic_wgmma.c - a product of matrices on a GPU with wgmma (sm_90a).
 * In: a product.  Out: schedules as text, best first: a block's warps have 16 rows of its tile
 * each, four of them multiply by all of its columns at once.
 * Invariant: b lies in shared memory in pieces of 8 columns by 4 of the sum, side by side along the
 * columns (kernel_tile.c); what is copied is read along what is contiguous, and written to all
 * banks evenly.
 *   c (4096, 4096) = a b   =>   tiles of 128 x 256: 8 warps, wgmma_tf32 64x256, slices of 32     */
#include "schedule/heuristic.h"

#include <string.h>

// A fragment's 32 threads find a in 32 banks: 4 elements stay free behind each row of the sum's, or
// 8 behind each of the tile's. Where b is contiguous along the sum, threads side by side write to
// pieces that are 16 bytes more than a multiple of 128 apart.
static void add_stages(Heuristic *to, bool left_along, bool gap) {
    add(to, "STAGE $b at $k0 over $j10 $k10 $k110 $j110 $j1110 $j1111 $k111 as $j10 $k10 $k110 ");
    add(to, gap ? "+4 $j110 $j1110 $j1111 $k111 in shared convert\n"
                : "$j110 $j1110 $j1111 $k111 in shared convert\n");
    add(to, "STAGE $a at $k0 over $i10 $i110 $i111 $k10 $k110 $k111 ");
    add(to, left_along ? "as $i10 $i110 $i111 +4 $k10 $k110 $k111 in shared convert\n"
                       : "as $k10 $k110 $k111 +8 $i10 $i110 $i111 in shared convert\n");
}

// Four of the sum for each column: 16 bytes of shared memory, if not of the other.
static void add_copy_of_columns(Heuristic *to, const Tiling *tiling, bool along) {
    to->word['t'] = decimal(to, tiling->tile.threads);
    add(to, along ? "ORDER $j10_$b $j110_$b $j1110_$b $j1111_$b $k10_$b $k110_$b\n"
                    "FUSE $j10_$b $j110_$b $j1110_$b $j1111_$b $k10_$b $k110_$b as copy_$b\n"
                  : "FUSE $j10_$b $k10_$b $k110_$b $j110_$b $j1110_$b $j1111_$b as copy_$b\n");
    add(to, "SPLIT copy_$b $t\nORDER copy_$b1 copy_$b0\nUNROLL copy_$b0\nTHREAD copy_$b1\n"
            "VECTORIZE $k111_$b\n");
}

// A weight as the instruction reads it: panels of 64 columns, in each so many slices of the sum. A
// slice is one run of memory for each panel of the tile.
static void add_layout(Heuristic *to) {
    add(to, "STAGE $b at top over $j0 $j10 $k0 $k10 $k110 $j110 $j1110 $j1111 $k111 "
            "as $j0 $j10 $k0 $k10 $k110 $j110 $j1110 $j1111 $k111 in once convert\n");
    to->word['b'] = filled(to, "$b_once");
}

static void add_group_tile(Heuristic *to, const Tiling *tiling) {
    static const char *const nests[] = {"_init", "_finish"};
    const Product *product = &tiling->product;
    bool left_along = is_along_sum(to, tiling, product->rows_buffer, &tiling->rows),
         right_along = is_along_sum(to, tiling, product->packed, &tiling->columns);
    add(to, "SPLIT $i $m$p\nSPLIT $j $n$q\n");
    find_blocks(to, tiling);
    add(to, "ORDER$g$h $i1 $j1\nSPLIT $i1 16\nSPLIT $i11 8\n"
            "SPLIT $j1 $C\nSPLIT $j11 8\nSPLIT $j111 2\n"
            "ORDER$g$h $i10 $j10 $j110 $i110 $i111 $j1110 $j1111\n"
            "SPLIT $k $d$z\nSPLIT $k1 8\nSPLIT $k11 4\n");
    if (tiling->laid_out) add_layout(to);
    add_blocks(to, tiling);
    add(to, "ORDER $k0 $i10 $k10 $j10 $j110 $i110 $i111 $j1110 $j1111 $k110 $k111\n");
    add_stages(to, left_along, right_along && !tiling->laid_out);
    add(to, "WARP $i10 $i10_init $i10_finish\n"
            "STAGE $a_shared at $i10 over $k10 $i110 $i111 $k110 $k111 "
            "as $k10 $k110 $i110 $i111 $k111 in reg\n"
            "FUSE $i111_$a_shared $k111_$a_shared as lanes_$a\n"
            "ORDER lanes_$a $k10_$a_shared $k110_$a_shared $i110_$a_shared\n");
    for (int i = 0; i < COUNT_OF(nests); i++) {
        to->word['e'] = nests[i];
        add(to, "FUSE $i111$e $j1110$e as lanes$e\nORDER lanes$e $j10$e $j110$e $i110$e $j1111$e\n"
                "UNROLL $j10$e\nUNROLL $j110$e\nUNROLL $i110$e\n");
    }
    add(to, "UNROLL $j1111_init\nVECTORIZE $j1111_finish\n"
            "TENSORCORE wgmma_tf32 64x$C on $s with lanes_init lanes_finish lanes_$a\n"
            "UNROLL $k10\nUNROLL $j10\n"
            "UNROLL $k10_$a_shared\nUNROLL $k110_$a_shared\nUNROLL $i110_$a_shared\n");
    add_side_copy(to, tiling, product->rows_buffer, &tiling->rows, tiling->tile.rows,
                  "$i10_$x $i110_$x $i111_$x", "$k10_$x $k110_$x $k111_$x");
    if (!tiling->laid_out) add_copy_of_columns(to, tiling, right_along);
}

// What an element costs is what its tile asks L2 for; 64 x 256 sums of four warps are all the
// registers that a thread can spare. An instruction has all columns of the tile, or of a panel.
static const char *schedule(Heuristic *to, TileForm form) {
    enum { TILES = 4, PANEL = 64 };
    GpuTile tiles[TILES] = {{128, 256, 32, 256, 0, 256, 1},
                            {128, 128, 32, 256, 0, 128, 1.33},
                            {64, 128, 32, 128, 0, 128, 2},
                            {64, 64, 32, 128, 0, 64, 2.67}};
    if (!to->target->tiles || strcmp(to->target->tiles, "wgmma_tf32") != 0) return NULL;
    for (int i = 0; i < TILES && form == TILES_BULK; i++) tiles[i].inner_columns = PANEL;
    return tile_schedule_of(to, form, TILES, tiles, add_group_tile);
}

const char *wgmma_tile_schedule(Heuristic *to) { return schedule(to, TILES_USUAL); }

// Weights are laid out and rounded at load, and their slices copied by the engine.
const char *wgmma_weight_schedule(Heuristic *to) { return schedule(to, TILES_BULK); }

// The same with both operands a slice ahead through registers, where b is rounded.
const char *wgmma_through_schedule(Heuristic *to) {
    const char *tile = wgmma_tile_schedule(to), *k = to->word['k'];
    return tile ? arena_print(to->arena, "%sPIPELINE %s0 through reg\n", tile, k) : NULL;
}

// The rows' operand two slices ahead, where it is copied as it is.
const char *wgmma_pipelined_schedule(Heuristic *to) {
    const char *tile = wgmma_tile_schedule(to), *k = to->word['k'];
    return tile ? arena_print(to->arena, "%sPIPELINE %s0 3\nPIPELINE %s0 through reg\n", tile, k, k)
                : NULL;
}
