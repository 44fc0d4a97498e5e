/* heuristic_images.c - schedules for products whose columns are the places of an image.
 * In: a kernel like a convolution: rows of filters, columns over two loops.  Out: a schedule.
 * Invariant: the two loops become one, so that an image of any width fills whole tiles; a panel of
 * what a few places see is gathered once (padding included, as zeros) for all filters, which is
 * im2col without its memory.
 *   out[o, y, x] = sum over c, v, u of w[o, c, v, u] in[c, y + v, x + u]
 *   =>   for y_x0 { panel[c, v, u, y_x1] = in[..]; for o0 { a tile of 6 filters by 16 places } } */
#include "schedule/heuristic.h"

static bool uses(const Heuristic *to, Id value, int32_t loop) {
    LoopSet used = kernel_loops_of(to->kernel, value);
    return loop_set_has(&used, loop);
}

// Places in whole tiles of n; a tile of one register's width costs about a sixth more a place.
static int64_t tile_width(const ScheduleTarget *target, int64_t places) {
    int64_t wide = round_up(places, target->tile_n), narrow = round_up(places, target->lanes);
    return 7 * narrow < 6 * wide ? target->lanes : target->tile_n;
}

const char *image_schedule(Heuristic *to) {
    enum { ROWS_LEAST = 4 };
    Product product;
    int64_t filters, height, width, m = to->target->tile_m;
    if (!to->target->unit || to->loops < 3) return NULL;
    const int32_t *last = to->chain + to->loops - 3;  // filters, y, x
    if (!find_product_over(to, last[0], &product) || uses(to, product.left, last[1]) ||
        !uses(to, product.right, last[1]) || !constant_extent(to, last[0], &filters) ||
        !constant_extent(to, last[1], &height) || !constant_extent(to, last[2], &width) ||
        filters < ROWS_LEAST)
        return NULL;
    int64_t n = tile_width(to->target, height * width);
    if (n < to->target->tile_n) m *= to->target->tile_n / n;
    m = padded_tile(filters, m);
    const char *o = name_of(to, last[0]), *y = name_of(to, last[1]), *x = name_of(to, last[2]);
    const char *place = arena_print(to->arena, "%s_%s", y, x),
               *s = to->kernel->buffers.at[product.update->buffer].name;
    Tile tile = {.m = m, .n = n};
    to->text = text_new(to->arena);
    text_add(&to->text, "FUSE %s %s\nSPLIT %s %lld pad\nSPLIT %s %lld pad\n", y, x, place,
             (long long)n, o, (long long)m);
    text_add(&to->text, "ORDER %s0 %s0 %s1 %s1\nSTAGE %s at %s0 in reg\nORDER", place, o, o, place,
             s, o);
    add_sums(to, &product, name_of(to, product.sum[0]));
    text_add(&to->text, " %s1 %s1\nSTAGE %s at %s0 over", o, place,
             to->kernel->buffers.at[product.packed].name, place);
    add_sums(to, &product, name_of(to, product.sum[0]));
    text_add(&to->text, " %s1 in L2 convert\nSPILL %s\n", place, s);
    if (n > to->target->lanes)
        text_add(&to->text, "SPLIT %s1_finish %d\n", place, to->target->lanes);
    text_add(&to->text, "VECTORIZE %s1_finish%s\nTENSORCORE %s %lldx%lld on %s\nTHREAD %s0\n",
             place, n > to->target->lanes ? "1" : "", to->target->unit, (long long)m, (long long)n,
             s, place);
    add_unrolled(to, name_of(to, product.sum[product.sums - 1]), &tile);
    return to->text.at;
}
