/* heuristic_tiles.c - a product of matrices on a unit whose registers are tiles.
 * In: a kernel.  Out: its schedule, if it is such a product and the target names a unit.
 * Invariant: the loops are BLIS's, as in heuristic.c: b is packed once for all threads; a thread
 * takes blocks of rows and packs 512 terms of them at a time, to stay in its second-level cache;
 * sums wait in memory of its own for the next 512. What no tile divides is padded with zeros.
 *   2048 x 2048 x 2048   =>   blocks of 256 rows, panels of 32 columns and 512 terms             */
#include "schedule/heuristic.h"

enum {
    TILE = 32,       // rows and columns of four tiles of sums
    STEP = 32,       // terms an instruction adds
    DEPTH = 512,     // terms of a packed panel: 32 columns of hi and lo are 64 KB
    BLOCK = 8,       // tiles of rows that a thread takes: with 512 terms 512 KB
    SHARES = 4,      // blocks there should be, for threads to share
    ROWS_LEAST = 64  // packing b costs about as much as fp32 does with so many rows
};

static int64_t divided_up(int64_t value, int64_t by) { return (value + by - 1) / by; }

// Vectors along a loop that is contiguous in what is packed, also where the range is found.
static void add_packing(Heuristic *to, const char *loop) {
    to->word['x'] = filled(to, loop);
    add(to, "SPLIT $x_range $v\nRFACTOR $x_range1\nVECTORIZE $x_range1\n"
            "VECTORIZE $x_range1_init\nVECTORIZE $x_range1_fold\nSPLIT $x $v\nVECTORIZE $x1\n");
}

// The words e: the loop of steps; t: of a step's 32 terms; p h: the pairs and halves they consist
// of. One sum of all terms; of groups of 32; of groups of 2 x 16, as the halves of bytes are laid
// out.
static bool find_terms(Heuristic *to, const Product *product, int64_t *steps) {
    int64_t terms[3];
    const char **word = to->word;
    for (int i = 0; i < product->sums; i++)
        if (!constant_extent(to, product->sum[i], &terms[i])) return false;
    *steps = product->sums == 1 ? divided_up(terms[0], STEP) : terms[0];
    word['e'] = filled(to, product->sums == 1 ? "$k10" : "$k1");
    if (product->sums == 3) {
        word['p'] = word['z'], word['h'] = name_of(to, product->sum[1]);
        word['t'] = filled(to, "$p $h");
        return terms[1] == 2 && terms[2] == STEP / 2;
    }
    word['t'] = product->sums == 1 ? filled(to, "$k11") : word['z'];
    word['p'] = filled(to, "$t0"), word['h'] = filled(to, "$t1");
    return product->sums == 1 || terms[1] == STEP;
}

// What is contiguous along the sum is packed along it, in vectors: it becomes the rows.
static void turn(Heuristic *to) {
    const char **word = to->word, *i = word['i'], *a = word['a'];
    word['i'] = word['j'], word['j'] = i;
    word['a'] = word['b'], word['b'] = a;
}

static void add_tiles(Heuristic *to, const Product *product) {
    add(to, "SPLIT $i $l pad\nSPLIT $i1 $m\nSPLIT $i11 16\nSPLIT $j $n pad\nSPLIT $j1 16\n"
            "ORDER $i0 $j0 $i10 $i110 $i111 $j10 $j11\nSPLIT $k $d zero\n");
    if (product->sums == 1) add(to, "SPLIT $k1 $q\n");
    add(to, "STAGE $s at $i0 in own\nORDER $k0 $j0 $i10 $e $i110 $j10 $i111 $j11 $t\n"
            "STAGE $s at $i10 over $i110 $j10 $i111 $j11 in reg\n"
            "STAGE $a at $k0 over $i10 $e $i110 $i111 $t in L2 convert\n");
    if (product->sums < 3) add(to, "SPLIT $t 2\n");
    add(to, "STAGE $b at $o over $j0 $k0 $e $j10 $p $j11 $h in shared convert\n"
            "TENSORCORE $u $mx$n on $s_reg\nTHREAD $i0\nTHREAD $j0_$b\n"
            "SPLIT $j11_init $v\nVECTORIZE $j11_init1\n"
            "SPLIT $j11_plain $v\nVECTORIZE $j11_plain1\n");
}

const char *tiles_schedule(Heuristic *to) {
    Product product;
    int64_t rows, columns, steps;
    if (!to->target->tiles || !find_product(to, &product) || product.sums > 3) return NULL;
    set_words(to, &product);
    int32_t last = product.sum[product.sums - 1];
    bool turned = moves_by_one(to, &product, product.packed, last);
    bool a_along = turned || moves_by_one(to, &product, product.rows_buffer, last);
    bool b_along = !turned && moves_by_one(to, &product, product.packed, product.columns);
    if (!constant_extent(to, product.rows, &rows) || rows < ROWS_LEAST ||
        !constant_extent(to, product.columns, &columns) || columns < TILE ||
        !find_terms(to, &product, &steps))
        return NULL;
    if (turned) turn(to);
    int64_t tiles = divided_up(turned ? columns : rows, TILE);
    int64_t depth = divided_up(steps, divided_up(steps, DEPTH / STEP));
    to->text = text_new(to->arena);
    set_tile(to, TILE, TILE);
    to->word['u'] = to->target->tiles, to->word['q'] = decimal(to, STEP);
    to->word['l'] = decimal(to, TILE * min_i64(BLOCK, divided_up(tiles, SHARES)));
    to->word['d'] = decimal(to, product.sums == 1 ? STEP * depth : depth);
    add_tiles(to, &product);
    if (turned)  // the result's rows are finished along memory
        add(to, "ORDER $j0_finish $i10_finish $i110_finish $j10_finish $j11_finish $i111_finish\n"
                "SPLIT $i111_finish $v\nVECTORIZE $i111_finish1\n");
    else
        add(to, "SPLIT $j11_finish $v\nVECTORIZE $j11_finish1\n");
    if (a_along && product.sums == 3) add(to, "ORDER $h_$a $p_$a\nORDER $h_$a_range $p_$a_range\n");
    if (a_along) add_packing(to, product.sums == 3 ? "$p_$a" : "$t_$a");
    if (b_along) {
        add(to, "ORDER $h_$b $j11_$b\nORDER $h_$b_range $j11_$b_range\n");
        add_packing(to, "$j11_$b");
    }
    return to->text.at;
}
