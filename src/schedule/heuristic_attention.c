/* heuristic_attention.c - schedules of what online.c makes: a softmax in blocks of keys.
 * In: a kernel in explicit form, a target.  Out: a schedule as text, or NULL.
 * Invariant: online.c's names are taken at their word; a kernel that happens to have them and is
 * something else is refused by the transforms.
 *   few rows:  ORDER block h_part , THREAD block , THREAD h , lanes .. , UNROLL d_sum0 */
#include "schedule/schedule.h"

#include <string.h>

enum { WRITTEN_OUT = 16 };  // vectors that a loop over a state or a head's size may have

typedef struct {
    Arena *arena;
    const Kernel *kernel;
    const ScheduleTarget *target;
    int lanes;
    Text text;
} Attention;

static const char *name_of(const Attention *to, const Statement *loop) {
    return to->kernel->loops.at[loop->loop].name;
}

static bool folds_over(const Attention *to, const Statement *loop, const Statement *store) {
    LoopSet used = kernel_loops_of_index(to->kernel, store->index);
    return store->role == ROLE_UPDATE && !loop_set_has(&used, loop->loop);
}

// One vector of partial sums: there are many such sums, which need not wait for each other.
static void add_loop(Attention *to, const Statement *loop) {
    static const char *const suffixes[] = {"", "_init", "_fold"};
    const char *name = name_of(to, loop);
    const Loop *info = &to->kernel->loops.at[loop->loop];
    IndexTable *indices = graph_indices(to->kernel->graph);
    int64_t extent, lanes = to->lanes;
    bool constant = index_is_const(indices, info->extent, &extent),
         folds = folds_over(to, loop, loop->body);
    if (info->limit >= 0 || index_high(indices, info->extent) < lanes) return;
    if (!constant || extent > lanes) {
        text_add(&to->text, "SPLIT %s %lld peel\n", name, (long long)lanes);
        if (constant && extent <= WRITTEN_OUT * lanes && strncmp(name, "power", 5) != 0)
            text_add(&to->text, "UNROLL %s0\n", name);
        name = arena_print(to->arena, "%s1", name);
    }
    if (folds) text_add(&to->text, "RFACTOR %s\n", name);
    for (int i = 0; i < (folds ? COUNT_OF(suffixes) : 1); i++)
        text_add(&to->text, "VECTORIZE %s%s\n", name, suffixes[i]);
}

static void add_lanes(Attention *to, const Statement *list) {
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
static const char *few_rows(Attention *to) {
    const Statement *parts = to->kernel->body, *joins = parts->next, *at = parts;
    int32_t block = kernel_find_loop(to->kernel, "block");
    text_add(&to->text, "ORDER block");
    for (; at->kind == STATEMENT_LOOP && at->loop != block; at = at->body)
        text_add(&to->text, " %s", name_of(to, at));
    text_add(&to->text, "\nTHREAD block\n");
    if (at != parts) text_add(&to->text, "THREAD %s\n", name_of(to, joins));
    add_lanes(to, to->kernel->body);
    return to->text.at;
}

// ---- many rows ---------------------------------------------------------------------------------

static int64_t constant_extent(const Attention *to, const Statement *loop) {
    int64_t extent = 0;
    Index size = to->kernel->loops.at[loop->loop].extent;
    return index_is_const(graph_indices(to->kernel->graph), size, &extent) ? extent : 0;
}

static const char *lane_loop(Attention *to, const char *name, int64_t extent) {
    if (extent == to->lanes) return name;
    text_add(&to->text, "SPLIT %s %d\nUNROLL %s0\n", name, to->lanes, name);
    return arena_print(to->arena, "%s1", name);
}

// Queries are lanes; all that a key gives to a sum is in registers at a time.
static void add_row(Attention *to, const char *row, int64_t width) {
    text_add(&to->text, "VECTORIZE %s\n", lane_loop(to, row, width));
}

// Registers of a tile: whole columns of queries, and as many rows as divide the extent evenly.
static void find_tile(const Attention *to, int64_t extent, int64_t width, int64_t *m, int64_t *n) {
    *n = width % to->target->tile_n ? to->lanes : to->target->tile_n;
    *m = to->target->tile_m * to->target->tile_n / *n;
    while (extent % *m) --*m;
}

static void add_names(Attention *to, const Statement *loops, const char *last) {
    for (; loops->kind == STATEMENT_LOOP; loops = loops->body)
        text_add(&to->text, " %s", name_of(to, loops));
    text_add(&to->text, " %s\n", last);
}

// for key { for row { init s; for e { update s }; score = f(s) } }
static void add_scores(Attention *to, const Statement *keys) {
    const Statement *rows = keys->body, *init = rows->body, *sum = init->next;
    const char *key = name_of(to, keys), *row = name_of(to, rows),
               *s = to->kernel->buffers.at[init->buffer].name;
    int64_t width = constant_extent(to, rows), extent = constant_extent(to, keys);
    if (!extent) {
        text_add(&to->text, "STAGE %s at %s in reg\nORDER", s, key);
        add_names(to, sum, row);
        add_row(to, row, width);
        add_row(to, arena_print(to->arena, "%s_init", row), width);
        add_row(to, arena_print(to->arena, "%s_finish", row), width);
        return;
    }
    int64_t m, n;
    find_tile(to, extent, width, &m, &n);
    const char *half = n > to->lanes ? "1" : "";
    text_add(&to->text, "SPLIT %s %lld\nSPLIT %s %lld\nORDER %s0 %s0 %s1 %s1\n", key, (long long)m,
             row, (long long)n, key, row, key, row);
    text_add(&to->text, "STAGE %s at %s0 in reg\nORDER", s, row);
    add_names(to, sum, arena_print(to->arena, "%s1 %s1", key, row));
    text_add(&to->text, "SPILL %s\n", s);
    if (*half) text_add(&to->text, "SPLIT %s1_finish %d\n", row, to->lanes);
    text_add(&to->text, "VECTORIZE %s1_finish%s\nTENSORCORE %s %lldx%lld on %s\n", row, half,
             to->target->unit, (long long)m, (long long)n, s);
    text_add(&to->text, "UNROLL %s 4\n", name_of(to, sum));
}

// What the copy of o that the next STAGE makes will be called.
static const char *next_copy(const Attention *to, const char *o) {
    const char *stage = arena_print(to->arena, "STAGE %s at", o), *at = to->text.at;
    int copies = 1;
    while ((at = strstr(at, stage))) at++, copies++;
    return arena_print(to->arena, copies > 1 ? "%s_reg_%d" : "%s_reg", o, copies);
}

// for key { for d { for row { update o } } }
static void add_outputs(Attention *to, const Statement *keys) {
    const Statement *sums = keys->body, *rows = sums->body;
    const char *key = name_of(to, keys), *d = name_of(to, sums), *row = name_of(to, rows),
               *o = to->kernel->buffers.at[rows->body->buffer].name;
    int64_t width = constant_extent(to, rows), extent = constant_extent(to, sums);
    if (!constant_extent(to, keys)) {
        text_add(&to->text, "ORDER %s %s %s\nSTAGE %s at %s over %s in reg\n", d, key, row, o, d,
                 row);
        add_row(to, row, width);
        add_row(to, arena_print(to->arena, "%s_%s", row, o), width);
        add_row(to, arena_print(to->arena, "%s_%s_out", row, o), width);
        return;
    }
    int64_t m, n;
    find_tile(to, extent, width, &m, &n);
    text_add(&to->text, "SPLIT %s %lld\nSPLIT %s %lld\nORDER %s0 %s0 %s %s1 %s1\n", d, (long long)m,
             row, (long long)n, d, row, key, d, row);
    const char *copy = next_copy(to, o);
    text_add(&to->text, "STAGE %s at %s0 over %s1 %s1 in reg\n", o, row, d, row);
    text_add(&to->text, "TENSORCORE %s %lldx%lld on %s\nUNROLL %s 4\n", to->target->unit,
             (long long)m, (long long)n, copy, key);
}

// for key { for row { update m } }: the folds of four vectors of rows wait in registers.
static void add_fold(Attention *to, const Statement *keys) {
    const Statement *rows = keys->body;
    const char *row = name_of(to, rows), *m = to->kernel->buffers.at[rows->body->buffer].name;
    int64_t width = constant_extent(to, rows), some = 4 * to->lanes;
    while (width % some) some /= 2;
    text_add(&to->text, "SPLIT %s %lld\nORDER %s0 %s %s1\nSTAGE %s at %s0 over %s1 in reg\n", row,
             (long long)some, row, name_of(to, keys), row, m, row, row);
    add_row(to, arena_print(to->arena, "%s1", row), some);
    add_row(to, arena_print(to->arena, "%s1_%s", row, m), some);
    add_row(to, arena_print(to->arena, "%s1_%s_out", row, m), some);
}

static bool is_row(const Attention *to, const Statement *loop) {
    return strstr(name_of(to, loop), "_row") != NULL;
}

static void add_nests(Attention *to, const Statement *list) {
    for (; list; list = list->next) {
        const Statement *inner = list;
        if (list->kind != STATEMENT_LOOP) continue;
        while (inner->body->kind == STATEMENT_LOOP) inner = inner->body;
        bool scores = inner->body->role == ROLE_INIT && inner->body->next;
        bool outputs = inner->body->role == ROLE_UPDATE && list->body->body == inner;
        if (!strncmp(name_of(to, list), "block", 5) || !strncmp(name_of(to, list), "rest", 4))
            add_nests(to, list->body);
        else if (scores)
            add_scores(to, list);
        else if (outputs)
            add_outputs(to, list);
        else if (is_row(to, inner) && list->body == inner && folds_over(to, list, inner->body))
            add_fold(to, list);
        else if (is_row(to, inner))
            text_add(&to->text, "SPLIT %s %d\nVECTORIZE %s1\n", name_of(to, inner), to->lanes,
                     name_of(to, inner));
        else
            add_loop(to, inner);
    }
}

// Tiles of queries of all heads are shared among threads: of a mask's triangle the later tiles see
// more. Each takes blocks of keys one after the other.
static const char *many_rows(Attention *to) {
    const Statement *at = to->kernel->body;
    const char *shared = name_of(to, at);
    for (at = at->body; at->kind == STATEMENT_LOOP && !at->next; at = at->body) {
        text_add(&to->text, "FUSE %s %s\n", shared, name_of(to, at));
        shared = arena_print(to->arena, "%s_%s", shared, name_of(to, at));
    }
    text_add(&to->text, "THREAD %s\n", shared);
    add_nests(to, at);
    return to->text.at;
}

const char *attention_schedule(Arena *arena, const Kernel *kernel, const ScheduleTarget *target) {
    Attention to = {.arena = arena, .kernel = kernel, .target = target, .lanes = target->lanes};
    if (kernel_find_loop(kernel, "block") < 0 || kernel_find_buffer(kernel, "against") < 0)
        return NULL;
    to.text = text_new(arena);
    if (kernel_find_buffer(kernel, "part_m") >= 0) return few_rows(&to);
    return target->unit ? many_rows(&to) : NULL;
}
