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
static void add_stages(Heuristic *to, bool left_along, bool right_along) {
    add(to, "STAGE $b at $k0 over $k10 $k110 $j10 $j110 $j111 $k111 as $k10 $k110 ");
    add(to, right_along ? "+4 $j10 $j110 $j111 $k111 in shared convert\n"
                        : "$j10 $j110 $j111 $k111 in shared convert\n");
    add(to, "STAGE $a at $k0 over $i10 $i110 $i111 $k10 $k110 $k111 ");
    add(to, left_along ? "as $i10 $i110 $i111 +4 $k10 $k110 $k111 in shared convert\n"
                       : "as $k10 $k110 $k111 +8 $i10 $i110 $i111 in shared convert\n");
}

// Four of the sum for each column: 16 bytes of shared memory, if not of the other.
static void add_copy_of_columns(Heuristic *to, const Tiling *tiling, bool along) {
    to->word['t'] = decimal(to, tiling->tile.threads);
    add(to, along ? "ORDER $j10_$b $j110_$b $j111_$b $k10_$b $k110_$b\n"
                    "FUSE $j10_$b $j110_$b $j111_$b $k10_$b $k110_$b as copy_$b\n"
                  : "FUSE $k10_$b $k110_$b $j10_$b $j110_$b $j111_$b as copy_$b\n");
    add(to, "SPLIT copy_$b $t\nORDER copy_$b1 copy_$b0\nUNROLL copy_$b0\nTHREAD copy_$b1\n"
            "VECTORIZE $k111_$b\n");
}

static void add_group_tile(Heuristic *to, const Tiling *tiling) {
    static const char *const nests[] = {"_init", "_finish"};
    const Product *product = &tiling->product;
    bool left_along = is_along_sum(to, tiling, product->rows_buffer, &tiling->rows),
         right_along = is_along_sum(to, tiling, product->packed, &tiling->columns);
    add(to, "SPLIT $i $m$p\nSPLIT $j $n$q\n");
    find_blocks(to, tiling);
    add(to, "ORDER$g$h $i1 $j1\nSPLIT $i1 16\nSPLIT $i11 8\nSPLIT $j1 8\nSPLIT $j11 2\n"
            "ORDER$g$h $i10 $j10 $i110 $i111 $j110 $j111\n");
    add_blocks(to, tiling);
    add(to, "SPLIT $k $d$z\nSPLIT $k1 8\nSPLIT $k11 4\n"
            "ORDER $k0 $i10 $k10 $j10 $i110 $i111 $j110 $j111 $k110 $k111\n");
    add_stages(to, left_along, right_along);
    add(to, "WARP $i10 $i10_init $i10_finish\n"
            "STAGE $a_shared at $i10 over $k10 $i110 $i111 $k110 $k111 "
            "as $k10 $k110 $i110 $i111 $k111 in reg\n"
            "FUSE $i111_$a_shared $k111_$a_shared as lanes_$a\n"
            "ORDER lanes_$a $k10_$a_shared $k110_$a_shared $i110_$a_shared\n");
    for (int i = 0; i < COUNT_OF(nests); i++) {
        to->word['e'] = nests[i];
        add(to, "FUSE $i111$e $j110$e as lanes$e\nORDER lanes$e $j10$e $i110$e $j111$e\n"
                "UNROLL $j10$e\nUNROLL $i110$e\n");
    }
    add(to, "UNROLL $j111_init\nVECTORIZE $j111_finish\n"
            "TENSORCORE wgmma_tf32 64x$n on $s with lanes_init lanes_finish lanes_$a\n"
            "UNROLL $k10\nUNROLL $k10_$a_shared\nUNROLL $k110_$a_shared\nUNROLL $i110_$a_shared\n");
    add_side_copy(to, tiling, product->rows_buffer, &tiling->rows, tiling->tile.rows,
                  "$i10_$x $i110_$x $i111_$x", "$k10_$x $k110_$x $k111_$x");
    add_copy_of_columns(to, tiling, right_along);
}

// What an element costs is what its tile asks L2 for; 64 x 256 sums of four warps are all the
// registers that a thread can spare.
const char *wgmma_tile_schedule(Heuristic *to) {
    static const GpuTile tiles[] = {{128, 256, 32, 256, 0, 0, 1},
                                    {128, 128, 32, 256, 0, 0, 1.33},
                                    {64, 128, 32, 128, 0, 0, 2},
                                    {64, 64, 32, 128, 0, 0, 2.67}};
    if (!to->target->tiles || strcmp(to->target->tiles, "wgmma_tf32") != 0) return NULL;
    return tile_schedule_of(to, TILES_USUAL, COUNT_OF(tiles), tiles, add_group_tile);
}

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
