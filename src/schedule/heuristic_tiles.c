/* heuristic_tiles.c - a product of matrices on a unit whose registers are tiles.
 * In: the product's loops and operands, by name.  Out: its schedule.
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
static void add_packing(const TiledProduct *product, Text *text, const char *loop) {
    const char *inner = arena_print(product->arena, "%s_range1", loop);
    text_add(text, "SPLIT %s_range %d\nRFACTOR %s\n", loop, product->lanes, inner);
    text_add(text, "VECTORIZE %s\nVECTORIZE %s_init\nVECTORIZE %s_fold\n", inner, inner, inner);
    text_add(text, "SPLIT %s %d\nVECTORIZE %s1\n", loop, product->lanes, loop);
}

// The loops of one step's 32 terms: those of a's row, and the pairs and halves they consist of.
typedef struct {
    const char *panel, *step, *row, *split, *pair, *half;
    int64_t steps;
} Terms;

// One sum of all terms; of groups of 32; of groups of 2 x 16, as the halves of bytes are laid out.
static bool find_terms(const TiledProduct *product, Terms *terms) {
    const char *last = product->k[product->sums - 1], *k = product->k[0];
    *terms = (Terms){.panel = arena_print(product->arena, "%s0", k),
                     .step = arena_print(product->arena, "%s1", k),
                     .steps = product->terms[0]};
    if (product->sums == 3) {
        terms->pair = last;
        terms->half = product->k[1];
        terms->row = arena_print(product->arena, "%s %s", last, product->k[1]);
        return product->terms[1] == 2 && product->terms[2] == STEP / 2;
    }
    terms->split = last;
    if (product->sums == 1) {
        terms->steps = divided_up(product->terms[0], STEP);
        terms->step = arena_print(product->arena, "%s10", k);
        terms->split = arena_print(product->arena, "%s11", k);
    }
    terms->row = terms->split;
    terms->pair = arena_print(product->arena, "%s0", terms->split);
    terms->half = arena_print(product->arena, "%s1", terms->split);
    return product->sums == 1 || product->terms[1] == STEP;
}

// What is contiguous along the sum is packed along it, in vectors: it becomes the rows.
static void turn(TiledProduct *product) {
    TiledProduct was = *product;
    product->turned = true;
    product->i = was.j, product->j = was.i;
    product->rows = was.columns, product->columns = was.rows;
    product->a = was.b, product->b = was.a;
    product->a_along = true, product->b_along = false;
}

static void add_vectors(const TiledProduct *product, Text *text, const char *loop) {
    text_add(text, "SPLIT %s %d\nVECTORIZE %s1\n", loop, product->lanes, loop);
}

// The result's rows are finished along memory.
static void add_finish(const TiledProduct *product, Text *text) {
    const char *i = product->i, *j = product->j;
    if (product->turned)
        text_add(text,
                 "ORDER %s0_finish %s10_finish %s110_finish %s10_finish %s11_finish "
                 "%s111_finish\n",
                 j, i, i, j, j, i);
    add_vectors(product, text,
                arena_print(product->arena, product->turned ? "%s111_finish" : "%s11_finish",
                            product->turned ? i : j));
}

const char *tiles_schedule(TiledProduct product) {
    Terms terms;
    if (product.rows < ROWS_LEAST || product.columns < TILE || !find_terms(&product, &terms))
        return NULL;
    if (product.turned) turn(&product);
    const char *i = product.i, *j = product.j, *s = product.s, *a = product.a, *b = product.b;
    int64_t block = min_i64(BLOCK, divided_up(divided_up(product.rows, TILE), SHARES));
    int64_t depth = divided_up(terms.steps, divided_up(terms.steps, DEPTH / STEP));
    Text text = text_new(product.arena);
    text_add(&text, "SPLIT %s %lld pad\nSPLIT %s1 %d\nSPLIT %s11 16\n", i,
             (long long)(TILE * block), i, TILE, i);
    text_add(&text, "SPLIT %s %d pad\nSPLIT %s1 16\nORDER %s0 %s0 %s10 %s110 %s111 %s10 %s11\n", j,
             TILE, j, i, j, i, i, i, j, j);
    if (product.sums == 1)
        text_add(&text, "SPLIT %s %lld zero\nSPLIT %s1 %d\n", product.k[0],
                 (long long)(STEP * depth), product.k[0], STEP);
    else
        text_add(&text, "SPLIT %s %lld zero\n", product.k[0], (long long)depth);
    text_add(&text, "STAGE %s at %s0 in own\nORDER %s %s0 %s10 %s %s110 %s10 %s111 %s11 %s\n", s, i,
             terms.panel, j, i, terms.step, i, j, i, j, terms.row);
    text_add(&text, "STAGE %s at %s10 over %s110 %s10 %s111 %s11 in reg\n", s, i, i, j, i, j);
    text_add(&text, "STAGE %s at %s over %s10 %s %s110 %s111 %s in L2 convert\n", a, terms.panel, i,
             terms.step, i, i, terms.row);
    if (terms.split) text_add(&text, "SPLIT %s 2\n", terms.split);
    text_add(&text, "STAGE %s at %s over %s0 %s %s %s10 %s %s11 %s in shared convert\n", b,
             product.place, j, terms.panel, terms.step, j, terms.pair, j, terms.half);
    text_add(&text, "TENSORCORE %s %dx%d on %s_reg\nTHREAD %s0\nTHREAD %s0_%s\n", product.unit,
             TILE, TILE, s, i, j, b);
    add_vectors(&product, &text, arena_print(product.arena, "%s11_init", j));
    add_vectors(&product, &text, arena_print(product.arena, "%s11_plain", j));
    add_finish(&product, &text);
    if (product.a_along && terms.split)
        add_packing(&product, &text, arena_print(product.arena, "%s_%s", terms.split, a));
    if (product.a_along && !terms.split) {
        const char *half = arena_print(product.arena, "%s_%s", terms.half, a),
                   *pair = arena_print(product.arena, "%s_%s", terms.pair, a);
        text_add(&text, "ORDER %s %s\nORDER %s_range %s_range\n", half, pair, half, pair);
        add_packing(&product, &text, pair);
    }
    if (product.b_along) {
        const char *half = arena_print(product.arena, "%s_%s", terms.half, b),
                   *column = arena_print(product.arena, "%s11_%s", j, b);
        text_add(&text, "ORDER %s %s\nORDER %s_range %s_range\n", half, column, half, column);
        add_packing(&product, &text, column);
    }
    return text.at;
}
