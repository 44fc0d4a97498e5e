/* heuristic_attention.c - schedules of what online.c makes: a softmax in blocks of keys.
 * In: a kernel in explicit form, a target.  Out: a schedule as text, or NULL.
 * Invariant: online.c's names are taken at their word; a kernel that happens to have them and is
 * something else is refused by the transforms.
 *   few rows:  ORDER block h_part , THREAD block , THREAD h , lanes .. , UNROLL d_sum0 */
#include "schedule/heuristic.h"

#include <string.h>

enum { WRITTEN_OUT = 16 };  // vectors that a loop over a state or a head's size may have

static const char *loop_name(const Heuristic *to, const Statement *loop) {
    return name_of(to, loop->loop);
}

static bool folds_over(const Heuristic *to, const Statement *loop, const Statement *store) {
    LoopSet used = kernel_loops_of_index(to->kernel, store->index);
    return store->role == ROLE_UPDATE && !loop_set_has(&used, loop->loop);
}

// One vector of partial sums: there are many such sums, which need not wait for each other.
static void add_loop(Heuristic *to, const Statement *loop) {
    const char *name = loop_name(to, loop);
    const Loop *info = &to->kernel->loops.at[loop->loop];
    int64_t extent, lanes = to->target->lanes;
    bool constant = constant_extent(to, loop->loop, &extent),
         folds = folds_over(to, loop, loop->body);
    to->word['x'] = name;
    if (info->limit >= 0 || largest_extent(to, loop->loop) < lanes) return;
    if (!constant || extent > lanes) {
        add(to, "SPLIT $x $v peel\n");
        if (constant && extent <= WRITTEN_OUT * lanes && strncmp(name, "power", 5) != 0)
            add(to, "UNROLL $x0\n");
        to->word['x'] = filled(to, "$x1");
    }
    add(to, folds ? "RFACTOR $x\nVECTORIZE $x\nVECTORIZE $x_init\nVECTORIZE $x_fold\n"
                  : "VECTORIZE $x\n");
}

static void add_lanes(Heuristic *to, const Statement *list) {
    for (; list; list = list->next) {
        if (list->kind != STATEMENT_LOOP) continue;
        bool innermost = true;
        for (const Statement *at = list->body; at; at = at->next)
            innermost &= at->kind == STATEMENT_STORE;
        if (innermost)
            add_loop(to, list);
        else
            add_lanes(to, list->body);
    }
}

// Blocks of keys side by side: outermost, so that the heads that share keys take a block together.
static const char *few_rows(Heuristic *to) {
    const Statement *parts = to->kernel->body, *joins = parts->next, *at = parts;
    int32_t block = kernel_find_loop(to->kernel, "block");
    text_add(&to->text, "ORDER block");
    for (; at->kind == STATEMENT_LOOP && at->loop != block; at = at->body)
        text_add(&to->text, " %s", loop_name(to, at));
    text_add(&to->text, "\nTHREAD block\n");
    if (at != parts) text_add(&to->text, "THREAD %s\n", loop_name(to, joins));
    add_lanes(to, to->kernel->body);
    return to->text.at;
}

// ---- many rows ---------------------------------------------------------------------------------

static int64_t extent_or_0(const Heuristic *to, const Statement *loop) {
    int64_t extent;
    return constant_extent(to, loop->loop, &extent) ? extent : 0;
}

// Queries are lanes; all that a key gives to a sum is in registers at a time.
static void add_row(Heuristic *to, const char *row, int64_t width) {
    add_vectors(to, row, width != to->target->lanes);
}

// Registers of a tile: whole columns of queries, and as many rows as divide the extent evenly.
static void find_tile(const Heuristic *to, int64_t extent, int64_t width, int64_t *m, int64_t *n) {
    *n = width % to->target->tile_n ? to->target->lanes : to->target->tile_n;
    *m = to->target->tile_m * to->target->tile_n / *n;
    while (extent % *m) --*m;
}

static void add_names(Heuristic *to, const Statement *loops, const char *last) {
    for (; loops->kind == STATEMENT_LOOP; loops = loops->body)
        text_add(&to->text, " %s", loop_name(to, loops));
    text_add(&to->text, " %s\n", filled(to, last));
}

// for key { for row { init s; for e { update s }; score = f(s) } }
static void add_scores(Heuristic *to, const Statement *keys) {
    const Statement *rows = keys->body, *init = rows->body, *sum = init->next;
    int64_t width = extent_or_0(to, rows), extent = extent_or_0(to, keys), m, n;
    to->word['k'] = loop_name(to, keys), to->word['j'] = loop_name(to, rows);
    to->word['s'] = buffer_name(to, init->buffer);
    if (!extent) {
        add(to, "STAGE $s at $k in reg\nORDER");
        add_names(to, sum, "$j");
        add_row(to, "$j", width);
        add_row(to, "$j_init", width);
        add_row(to, "$j_finish", width);
        return;
    }
    find_tile(to, extent, width, &m, &n);
    set_tile(to, m, n);
    add(to, "SPLIT $k $m\nSPLIT $j $n\nORDER $k0 $j0 $k1 $j1\nSTAGE $s at $j0 in reg\nORDER");
    add_names(to, sum, "$k1 $j1");
    add(to, n > to->target->lanes ? "SPILL $s\nSPLIT $j1_finish $v\nVECTORIZE $j1_finish1\n"
                                  : "SPILL $s\nVECTORIZE $j1_finish\n");
    add(to, "TENSORCORE $u $mx$n on $s\n");
    text_add(&to->text, "UNROLL %s 4\n", loop_name(to, sum));
}

// What the copy of o that the next STAGE makes will be called.
static const char *next_copy(const Heuristic *to) {
    const char *stage = filled(to, "STAGE $s at"), *at = to->text.at;
    int copies = 1;
    while ((at = strstr(at, stage))) at++, copies++;
    return arena_print(to->arena, copies > 1 ? "%s_reg_%d" : "%s_reg", to->word['s'], copies);
}

// for key { for d { for row { update o } } }
static void add_outputs(Heuristic *to, const Statement *keys) {
    const Statement *sums = keys->body, *rows = sums->body;
    int64_t width = extent_or_0(to, rows), extent = extent_or_0(to, sums), m, n;
    to->word['k'] = loop_name(to, keys), to->word['i'] = loop_name(to, sums);
    to->word['j'] = loop_name(to, rows), to->word['s'] = buffer_name(to, rows->body->buffer);
    if (!extent_or_0(to, keys)) {
        add(to, "ORDER $i $k $j\nSTAGE $s at $i over $j in reg\n");
        add_row(to, "$j", width);
        add_row(to, "$j_$s", width);
        add_row(to, "$j_$s_out", width);
        return;
    }
    find_tile(to, extent, width, &m, &n);
    set_tile(to, m, n);
    to->word['c'] = next_copy(to);
    add(to, "SPLIT $i $m\nSPLIT $j $n\nORDER $i0 $j0 $k $i1 $j1\n"
            "STAGE $s at $j0 over $i1 $j1 in reg\nTENSORCORE $u $mx$n on $c\nUNROLL $k 4\n");
}

// for key { for row { update m } }: the folds of four vectors of rows wait in registers.
static void add_fold(Heuristic *to, const Statement *keys) {
    const Statement *rows = keys->body;
    int64_t width = extent_or_0(to, rows), some = 4 * to->target->lanes;
    while (width % some) some /= 2;
    to->word['k'] = loop_name(to, keys), to->word['j'] = loop_name(to, rows);
    to->word['s'] = buffer_name(to, rows->body->buffer), to->word['n'] = decimal(to, some);
    add(to, "SPLIT $j $n\nORDER $j0 $k $j1\nSTAGE $s at $j0 over $j1 in reg\n");
    add_row(to, "$j1", some);
    add_row(to, "$j1_$s", some);
    add_row(to, "$j1_$s_out", some);
}

static bool is_row(const Heuristic *to, const Statement *loop) {
    return strstr(loop_name(to, loop), "_row") != NULL;
}

static void add_nests(Heuristic *to, const Statement *list) {
    for (; list; list = list->next) {
        const Statement *inner = list;
        if (list->kind != STATEMENT_LOOP) continue;
        while (inner->body->kind == STATEMENT_LOOP) inner = inner->body;
        bool scores = inner->body->role == ROLE_INIT && inner->body->next;
        bool outputs = inner->body->role == ROLE_UPDATE && list->body->body == inner;
        if (!strncmp(loop_name(to, list), "block", 5) || !strncmp(loop_name(to, list), "rest", 4))
            add_nests(to, list->body);
        else if (scores)
            add_scores(to, list);
        else if (outputs)
            add_outputs(to, list);
        else if (is_row(to, inner) && list->body == inner && folds_over(to, list, inner->body))
            add_fold(to, list);
        else if (is_row(to, inner))
            text_add(&to->text, "SPLIT %s %d\nVECTORIZE %s1\n", loop_name(to, inner),
                     to->target->lanes, loop_name(to, inner));
        else
            add_loop(to, inner);
    }
}

// Tiles of queries of all heads are shared among threads: of a mask's triangle the later tiles see
// more. Each takes blocks of keys one after the other.
static const char *many_rows(Heuristic *to) {
    const Statement *at = to->kernel->body;
    const char *shared = loop_name(to, at);
    for (at = at->body; at->kind == STATEMENT_LOOP && !at->next; at = at->body) {
        text_add(&to->text, "FUSE %s %s\n", shared, loop_name(to, at));
        shared = arena_print(to->arena, "%s_%s", shared, loop_name(to, at));
    }
    text_add(&to->text, "THREAD %s\n", shared);
    add_nests(to, at);
    return to->text.at;
}

const char *attention_schedule(Heuristic *to) {
    if (kernel_find_loop(to->kernel, "block") < 0 || kernel_find_buffer(to->kernel, "against") < 0)
        return NULL;
    to->text = text_new(to->arena);
    to->word['u'] = to->target->unit;
    if (kernel_find_buffer(to->kernel, "part_m") >= 0) return few_rows(to);
    return to->target->unit ? many_rows(to) : NULL;
}
