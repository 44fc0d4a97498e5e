/* heuristic_images.c - schedules for products whose columns are the places of an image.
 * In: a kernel like a convolution: rows of filters, columns over two loops.  Out: a schedule.
 * Invariant: the image is copied once, padding included as zeros, so that what a window sees is a
 * sum of loops; the two loops of places become one, so that an image of any width fills whole
 * tiles; filters lie in groups, as the tile reads them.
 *   out[o, y, x] = sum over c, v, u of w[o, c, v, u] in[c, y + v - 1, x + u - 1]
 *   =>   in_shared[c, y+v, x+u] = in[..], or 0
 * Of many places, a panel of what 16 see is gathered for all filters: im2col without its memory.
 *        thread for y_x0 { panel[c, v, u, y_x1] = in_shared[..]
 *                          for o0 { a tile of 6 filters by 16 places } }
 * Of few, all panels are gathered first; threads share the filters, of which there are more, and
 * filters are the lanes, so that a tile may have as many places as leave few over.
 *        panel[y_x0, c, v, u, y_x1] = in_shared[..]
 *        thread for o0 { for y_x0 { a tile of 6 places by 16 filters } }                         */
#include "schedule/heuristic.h"

#include <string.h>

typedef struct {
    Product product;
    int64_t filters, height, width;
    int outers;            // loops around filters and places
    Index at;              // the image's element
    bool seen[CHAIN_MAX];  // sums that move over the image as y or x does
    bool woven;            // filters over two loops, between those of places
    bool apart;            // threads share a loop around
    bool flat;             // the two loops of places become one
} Convolution;

static bool uses(const Heuristic *to, Id value, int32_t loop) {
    LoopSet used = kernel_loops_of(to->kernel, value);
    return loop_set_has(&used, loop);
}

// Places in whole tiles of n; a tile of one register's width costs about a sixth more a place.
static int64_t tile_width(const ScheduleTarget *target, int64_t places) {
    int64_t wide = round_up(places, target->tile_n), narrow = round_up(places, target->lanes);
    return 7 * narrow < 6 * wide ? target->lanes : target->tile_n;
}

// Results that lie as squares in an image, y i x j of "out[y, i, x, j] = sum over k of w[i, j, k]
// in[k, y, x]": looked at as i j y x, with i and j as one loop.
static void unweave(Heuristic *to, Convolution *found) {
    if (to->loops < 4) return;
    int32_t *last = to->chain + to->loops - 4, y = last[0], i = last[1], x = last[2], j = last[3];
    last[0] = i, last[1] = j, last[2] = y, last[3] = x;
    Product *product = &found->product;
    found->woven = find_product_over(to, j, product) && uses(to, product->left, i) &&
                   !uses(to, product->right, i) && uses(to, product->right, y) &&
                   !uses(to, product->left, y);
    if (!found->woven) last[0] = y, last[1] = i, last[2] = x, last[3] = j;
}

static bool find_convolution(Heuristic *to, Convolution *found) {
    enum { ROWS_LEAST = 4 };
    Product *product = &found->product;
    if (!to->target->unit || to->loops < 3) return false;
    unweave(to, found);
    const int32_t *last = to->chain + to->loops - 3;  // filters, y, x
    if (!find_product_over(to, last[0], product) || uses(to, product->left, last[1]) ||
        !uses(to, product->right, last[1]) || !constant_extent(to, last[0], &found->filters) ||
        !constant_extent(to, last[1], &found->height) ||
        !constant_extent(to, last[2], &found->width))
        return false;
    if (found->woven) found->filters *= largest_extent(to, last[-1]);
    found->outers = to->loops - 3 - found->woven;
    if (found->filters < ROWS_LEAST) return false;
    AccessList accesses = kernel_accesses(to->arena, to->kernel, product->update, product->packed);
    found->at = accesses.at[0].index;
    return true;
}

// "2*y+v": the loop of places, and the sum that moves the window over the image as it does, with
// the step nearest to its own and a shorter reach. The loop alone if there is none.
typedef struct {
    const char *axis, *loop;  // for STAGE, and as STAGE names the loop
} Window;
static Window find_window(const Heuristic *to, Convolution *of, int32_t loop, bool overlap) {
    int64_t step, extent, best_step = 0, nearest = INT64_MAX;
    int best = -1;
    const char *name = name_of(to, loop);
    Window none = {name, name};
    if (!index_stride(to->indices, of->at, loop, &step) || step < 1 ||
        !constant_extent(to, loop, &extent))
        return none;
    for (int sum = 0; sum < of->product.sums; sum++) {
        int64_t own, count;
        if (of->seen[sum] || !index_stride(to->indices, of->at, of->product.sum[sum], &own) ||
            own < 1 || !constant_extent(to, of->product.sum[sum], &count) ||
            own * (count - 1) >= step * extent || (overlap && own * count <= step))
            continue;
        int64_t ratio = own > step ? own / step : step / own;
        if (ratio < nearest) nearest = ratio, best = sum, best_step = own;
    }
    if (best < 0) return none;
    of->seen[best] = true;
    int64_t common = min_i64(step, best_step);
    const char *sum = name_of(to, of->product.sum[best]);
    Window window = {.loop = arena_print(to->arena, "%s_%s", name, sum)};
    if (step > common) name = arena_print(to->arena, "%lld*%s", (long long)(step / common), name);
    if (best_step > common)
        sum = arena_print(to->arena, "%lld*%s", (long long)(best_step / common), sum);
    window.axis = arena_print(to->arena, "%s+%s", name, sum);
    return window;
}

// The copy of the image: its other sums, then the two axes. Nothing if no window moves over it.
static void add_copy(Heuristic *to, Convolution *of) {
    enum { SHARED_LEAST = 8 };  // iterations that threads can share evenly
    int32_t down = to->chain[to->loops - 2], right = to->chain[to->loops - 1];
    Window x = find_window(to, of, right, false), y = find_window(to, of, down, false);
    if (x.axis == x.loop || y.axis == y.loop) {  // one alone may be what lies side by side anyway
        memset(of->seen, 0, sizeof of->seen);
        x = find_window(to, of, right, true), y = find_window(to, of, down, true);
    }
    if (x.axis == x.loop && y.axis == y.loop) return;
    const char *shared = y.loop;
    int64_t channels;
    add(to, "STAGE $b at $o over");
    for (int sum = 0; sum < of->product.sums; sum++) {
        if (of->seen[sum]) continue;
        const char *name = name_of(to, of->product.sum[sum]);
        bool many =
            constant_extent(to, of->product.sum[sum], &channels) && channels >= SHARED_LEAST;
        if (many && shared == y.loop) shared = name;
        text_add(&to->text, " %s", name);
    }
    text_add(&to->text, " %s %s in %s convert\n", y.axis, x.axis, of->apart ? "L2" : "shared");
    if (!of->apart) text_add(&to->text, "THREAD %s_%s\n", shared, to->word['b']);
    to->word['b'] = filled(to, of->apart ? "$b_L2" : "$b_shared");
}

// Groups of filters, laid out once if they are weights, else in the loop that they depend on.
static void add_filters(Heuristic *to, const Convolution *of) {
    bool once = to->kernel->buffers.at[of->product.rows_buffer].is_weight;
    to->word['h'] = "top", to->word['g'] = "";
    for (int i = 0; i < of->outers; i++)
        if (uses(to, of->product.left, to->chain[i])) {
            to->word['h'] = name_of(to, to->chain[i]);
            to->word['g'] = filled(to, "$g $h");
        }
    if (once)
        add(to, "STAGE $a at top over$g $i0 $k$r $i1 in once convert\n");
    else if (of->apart && *to->word['g'])
        add(to, "STAGE $a at $h over $i0 $k$r $i1 in L2 convert\n");
    else
        add(to, "STAGE $a at $h over $i0 $k$r $i1 in shared convert\nTHREAD $i0_$a\n");
}

// All sums as one loop, unrolled: panels and filters lie in its order.
static void add_sum(Heuristic *to, const Convolution *of, int64_t tile) {
    const char *k = to->word['k'];
    for (int sum = 1; sum < of->product.sums; sum++) {
        const char *next = name_of(to, of->product.sum[sum]);
        text_add(&to->text, "FUSE %s %s\n", k, next);
        k = arena_print(to->arena, "%s_%s", k, next);
    }
    add_unrolled(to, k, tile);
}

// All places lie in a row: no window moves over them.
static bool rows_follow(const Heuristic *to, const Convolution *of) {
    int64_t down, across, own;
    for (int i = 0; i < of->product.sums; i++)
        if (!index_stride(to->indices, of->at, of->product.sum[i], &own) ||
            own < of->height * of->width)
            return false;
    return index_stride(to->indices, of->at, to->chain[to->loops - 2], &down) &&
           index_stride(to->indices, of->at, to->chain[to->loops - 1], &across) && across == 1 &&
           down == of->width;
}

// The word p: the loop of places.
static void many_places(Heuristic *to, const Convolution *of) {
    int64_t lanes = to->target->lanes,
            n = tile_width(to->target, of->flat ? of->height * of->width : of->width),
            m = padded_tile(of->filters, to->target->tile_m * (to->target->tile_n / n));
    set_tile(to, m, n);
    add(to, "SPLIT $i $m pad\n");
    add_filters(to, of);
    add(to, of->flat || of->woven ? "SPLIT $p $n pad\nORDER $p0 $i0 $i1 $p1\n"
                                  : "SPLIT $p $n pad\nORDER $y $p0 $i0 $i1 $p1\n");
    add(to, "STAGE $s at $i0 in reg\nORDER $k$r $i1 $p1\n"
            "STAGE $b at $p0 over $k$r $p1 in L2 convert\n");
    // Vectors of places lie in a row if they fill it; else an element at a time, all divisions done
    // before.
    if (of->flat && of->width % lanes && !rows_follow(to, of))
        add(to, "UNROLL $p1_$b\n");
    else
        add_vectors(to, "$p1_$b", n > lanes);
    // A tile's row of woven results is a part of the image's.
    add(to, of->woven   ? "SPILL $s\nORDER $p1_finish $i1_finish\nUNROLL $i1_finish\n"
            : n > lanes ? "SPILL $s\nSPLIT $p1_finish $v\nVECTORIZE $p1_finish1\n"
                        : "SPILL $s\nVECTORIZE $p1_finish\n");
    add(to, of->apart ? "TENSORCORE $u $mx$n on $s\n" : "TENSORCORE $u $mx$n on $s\nTHREAD $p0\n");
    add_sum(to, of, m * n);
}

static void few_places(Heuristic *to, const Convolution *of) {
    int64_t m = padded_tile(of->height * of->width, to->target->tile_m), n = to->target->tile_n;
    set_tile(to, m, n);
    add(to, "SPLIT $i $n pad\n");
    add_filters(to, of);
    add(to, "SPLIT $p $m pad\nORDER $i0 $p0 $p1 $i1\nSTAGE $s at $p0 in reg\nORDER $k$r $p1 $i1\n"
            "STAGE $b at $o over $p0 $k$r $p1 in shared convert\nUNROLL $p1_$b\n"
            "FUSE $p0_$b $k_$b\nTHREAD $p0_$b_$k_$b\n"
            "SPILL $s\nTENSORCORE $u $mx$n on $s\nTHREAD $i0\n");
    add_sum(to, of, m * n);
}

// Where what is around is shared, and one of its iterations is short, threads need not wait for
// each other: a product of a few channels (groups), or of one with a matrix (winograd.c).
static bool is_apart(Heuristic *to, const Convolution *of) {
    enum { SHORT = 1 << 21 };  // multiplications
    int64_t work = of->filters * of->height * of->width, extent;
    for (int i = 0; i < of->product.sums; i++) {
        if (!constant_extent(to, of->product.sum[i], &extent)) return false;
        work *= extent;
        if (work > SHORT) return false;
    }
    int32_t shared = thread_loop(to);
    for (int i = 0; i < of->outers; i++)
        if (to->chain[i] == shared) return true;
    return false;
}

// Rows of an image that nearly fill vectors are looked at one by one where the product is small:
// to find out where places lie would take as long as it does.
static bool is_flat(const Heuristic *to, const Convolution *of) {
    int64_t wide = round_up(of->width, to->target->lanes);
    return !of->woven && (!of->apart || rows_follow(to, of) || 4 * of->width < 3 * wide);
}

// Few: threads cannot share them evenly.
const char *image_schedule(Heuristic *from) {
    enum { TILES_LEAST = 16 };
    Heuristic own = *from, *to = &own;
    Convolution of = {0};
    if (!find_convolution(to, &of)) return NULL;
    int64_t places = of.height * of.width;
    bool few = places < TILES_LEAST * to->target->tile_n && of.filters >= 2 * to->target->tile_n;
    of.apart = is_apart(to, &of);
    of.flat = is_flat(to, &of);
    to->text = text_new(to->arena);
    set_words(to, &of.product);
    to->word['o'] = of.outers ? name_of(to, to->chain[of.outers - 1]) : "top";
    to->word['y'] = name_of(to, to->chain[to->loops - 2]);
    to->word['p'] = of.flat ? filled(to, "$y_$j") : to->word['j'];
    if (of.apart) text_add(&to->text, "THREAD %s\n", name_of(to, thread_loop(to)));
    add_copy(to, &of);
    if (of.woven) {
        to->word['w'] = name_of(to, to->chain[to->loops - 4]);
        add(to, "ORDER $w $i $j\nFUSE $w $i\n");
        to->word['i'] = filled(to, "$w_$i");
    }
    if (of.flat) add(to, "FUSE $y $j\n");
    if (few && !of.apart && !of.woven)
        few_places(to, &of);
    else
        many_places(to, &of);
    return to->text.at;
}
