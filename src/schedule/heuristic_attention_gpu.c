/* heuristic_attention_gpu.c - schedules for GPUs of what online.c makes: softmax in blocks of keys.
 * In: a kernel in explicit form.  Out: a schedule as text, or NULL.
 * Invariant: what a nest does is told from the buffers that it uses; a kernel that is something
 * else is refused by the transforms.
 *
 * Many queries: a block of threads has a tile of them, a thread for each. All of its threads copy
 * the keys and values of a block of keys to shared memory. For both products a warp has 32 queries,
 * of which a thread has 8: two groups of 4, 16 apart, and of keys, or of elements of a value, every
 * 8th group of 4. So what a thread reads 16 bytes of, its neighbours read the next of. The scores
 * go to shared memory, a row of queries for each key with 4 elements free behind it; there the
 * thread that a query belongs to finds their maximum and takes the powers.
 *
 * Few queries: a warp has a part of one query's keys, and its threads share the elements of a head;
 * a second launch joins the parts.
 *   BLOCK tiles , STAGE keys , STAGE values , .. , THREAD own own_init .. top_row power_row ..   */
#include <string.h>

#include "schedule/heuristic.h"

typedef struct {
    Heuristic *to;
    int32_t out, scores;  // buffers: of a tile's outputs, of a part's scores
    int64_t width;        // of a tile: queries
    Text threads;         // loops that are shared at last, all together
} Attention;

static const char *loop_name(const Attention *at, const Statement *loop) {
    return name_of(at->to, loop->loop);
}

static Statement *innermost(Statement *nest) {
    while (nest->kind == STATEMENT_LOOP && nest->body->kind == STATEMENT_LOOP) nest = nest->body;
    return nest;
}

static bool accesses(const Attention *at, Statement *nest, int32_t buffer) {
    Statement alone = *nest;
    alone.next = NULL;
    return kernel_accesses(at->to->arena, at->to->kernel, &alone, buffer).count > 0;
}

// The list inside a chain of loops.
static Statement *inside_chain(Statement *nest, int32_t loop[CHAIN_MAX], int *loops) {
    for (*loops = 0; nest && nest->kind == STATEMENT_LOOP && *loops < CHAIN_MAX;
         nest = nest->body) {
        loop[(*loops)++] = nest->loop;
        if (nest->body->next) return nest->body;
    }
    return NULL;
}

static int64_t extent_of(const Attention *at, const Statement *loop) {
    return largest_extent(at->to, loop->loop);
}

// The PARAM of which what the store reads moves with the loop; -1: there is none.
static int32_t param_along(const Attention *at, Statement *store, int32_t loop) {
    AccessList list = kernel_accesses(at->to->arena, at->to->kernel, store, -1);
    for (int i = 0; i < list.count && list.at[i].statement == store; i++) {
        LoopSet used = kernel_loops_of_index(at->to->kernel, list.at[i].index);
        bool reads = list.at[i].load >= 0 && loop_set_has(&used, loop);
        if (reads && at->to->kernel->buffers.at[list.at[i].buffer].space == SPACE_PARAM)
            return list.at[i].buffer;
    }
    return -1;
}

static void share(Attention *at, const char *loops) {
    text_add(&at->threads, " %s", filled(at->to, loops));
}

// So many threads as there are queries, or as divide a copy of x * y elements evenly.
static void set_copiers(Attention *at, int64_t x, int64_t y) {
    int64_t threads = at->width;
    while (x * y / 4 % threads) threads /= 2;
    at->to->word['t'] = decimal(at->to, threads);
}

// Loop x is contiguous in memory, y where it is copied to: threads take 32 bytes of a row each two,
// and rows one after another, so that both are accessed in whole sectors and without conflicts.
static void add_turned_copy(Heuristic *to, const char *x, const char *y) {
    to->word['x'] = x, to->word['y'] = y;
    add(to, "SPLIT $x 8\nSPLIT $x1 4\nORDER $x0 $y $x10 $x11\nFUSE $x0 $y $x10 as $x_copy\n"
            "SPLIT $x_copy $t\nORDER $x_copy1 $x_copy0\nUNROLL $x_copy0\nVECTORIZE $x11\n"
            "THREAD $x_copy1\n");
}

// d and r: for d { for r { .. } } or the other way, perhaps in a loop k over keys: outputs, which
// are in registers.
static void add_outputs(Attention *at, const Statement *rows, const Statement *elements,
                        const char *keys) {
    Heuristic *to = at->to;
    int64_t size = extent_of(at, elements), group = size % 32 == 0 ? 4 : size % 16 == 0 ? 2 : 1;
    to->word['r'] = loop_name(at, rows), to->word['d'] = loop_name(at, elements);
    to->word['g'] = decimal(to, group), to->word['h'] = decimal(to, 8 * group);
    to->word['k'] = keys;
    add(to, "SPLIT $r 32\nSPLIT $r1 16\nSPLIT $r11 4\nSPLIT $d $h\nSPLIT $d1 $g\n"
            "ORDER $r0 $d10 $r110 $k $r10 $r111 $d0 $d11\nFUSE $r0 $d10 $r110 as $r_own\n"
            "UNROLL $r10\nUNROLL $r111\nUNROLL $d0\nVECTORIZE $d11\n");
    share(at, "$r_own");
}

// for key { for row { init s; for e { update s }; score = f(s) } }
static void add_scores(Attention *at, Statement *keys) {
    static const char *const nests[] = {"", "_init", "_finish"};
    Heuristic *to = at->to;
    Statement *rows = keys->body, *init = rows->body, *sum = init->next;
    int32_t from = param_along(at, sum->body, keys->loop);
    if (from < 0) return;
    to->word['k'] = loop_name(at, keys), to->word['r'] = loop_name(at, rows);
    to->word['e'] = loop_name(at, sum), to->word['s'] = buffer_name(to, init->buffer);
    to->word['b'] = buffer_name(to, from);
    add(to, "STAGE $b at $o over $k $e as $e +4 $k in shared convert\n");
    set_copiers(at, extent_of(at, keys), extent_of(at, sum));
    add_turned_copy(to, filled(to, "$e_$b"), filled(to, "$k_$b"));
    add(to, "SPLIT $r 32\nSPLIT $r1 16\nSPLIT $r11 4\nSPLIT $k 32\nSPLIT $k1 4\n"
            "ORDER $r0 $k10 $r110 $k0 $k11 $r10 $r111\nSTAGE $s at $o in reg\n"
            "ORDER $r0 $k10 $r110 $e $k0 $k11 $r10 $r111\nUNROLL $e 4\n");
    for (int n = 0; n < COUNT_OF(nests); n++) {
        to->word['n'] = nests[n];
        add(to,
            "FUSE $r0$n $k10$n $r110$n as $k_own$n\nUNROLL $k0$n\nUNROLL $k11$n\nUNROLL $r10$n\n"
            "VECTORIZE $r111$n\n");
        share(at, "$k_own$n");
    }
}

// for key { for d { for row { update o } } }
static void add_sums(Attention *at, Statement *keys) {
    Heuristic *to = at->to;
    Statement *elements = keys->body, *rows = elements->body;
    int32_t from = param_along(at, rows->body, keys->loop);
    if (from < 0) return;
    to->word['k'] = loop_name(at, keys), to->word['d'] = loop_name(at, elements);
    to->word['b'] = buffer_name(to, from);
    set_copiers(at, extent_of(at, keys), extent_of(at, elements));
    add(to, "STAGE $b at $o over $k $d in shared convert\nFUSE $k_$b $d_$b as $d_copy\n"
            "SPLIT $d_copy 4\nSPLIT $d_copy0 $t\nORDER $d_copy01 $d_copy00\n"
            "UNROLL $d_copy00\nVECTORIZE $d_copy1\nTHREAD $d_copy01\n");
    add_outputs(at, rows, elements, loop_name(at, keys));
    text_add(&to->text, "UNROLL %s 4\n", loop_name(at, keys));
}

// A thread for each query, which goes through the keys.
static void add_rows(Attention *at, Statement *nest) {
    Statement *rows = innermost(nest);
    at->to->word['r'] = loop_name(at, rows);
    at->to->word['k'] = loop_name(at, nest);
    if (rows != nest) add(at->to, "ORDER $r $k\nUNROLL $k 8\n");
    share(at, "$r");
}

static void add_nest(Attention *at, Statement *nest) {
    Statement *inner = innermost(nest), *store = inner->body;
    bool finishes = store->role == ROLE_FINISH, outputs = accesses(at, nest, at->out);
    if (store->role == ROLE_INIT && store->next)
        add_scores(at, nest);
    else if (outputs && nest->body != inner)
        add_sums(at, nest);
    else if (outputs)
        add_outputs(at, finishes ? nest : inner, finishes ? inner : nest, "");
    else if (store->role != ROLE_STORE || param_along(at, store, inner->loop) < 0)
        add_rows(at, nest);
    else {
        set_copiers(at, extent_of(at, nest), extent_of(at, inner));
        add_turned_copy(at->to, loop_name(at, nest), loop_name(at, inner));
    }
}

// What lies in registers and is not the same for all elements of a value.
static int32_t find_outputs(const Attention *at, Statement *finish) {
    const Kernel *kernel = at->to->kernel;
    AccessList last = kernel_accesses(at->to->arena, at->to->kernel, finish, -1);
    for (int i = 0; i < last.count; i++)
        if (kernel->buffers.at[last.at[i].buffer].space == SPACE_REGISTER) return last.at[i].buffer;
    return -1;
}

static const char *many_queries(Heuristic *to) {
    Attention at = {.to = to, .threads = text_new(to->arena)};
    Statement *block = NULL, *finish = NULL;
    for (Statement *nest = to->body; nest; finish = nest, nest = nest->next) {
        if (nest->kind != STATEMENT_LOOP) return NULL;
        if (nest->body->next) block = nest;
    }
    if (!to->loops || !block || block == finish) return NULL;
    at.width = extent_of(&at, finish);
    at.out = find_outputs(&at, finish);
    to->word['o'] = loop_name(&at, block);
    text_add(&to->text, "BLOCK %s\n", add_fused(to, to->chain, to->loops));
    for (Statement *nest = to->body; nest; nest = nest->next)
        if (nest != block) add_nest(&at, nest);
    for (Statement *nest = block->body; nest; nest = nest->next) add_nest(&at, nest);
    text_add(&to->text, "THREAD%s\n", at.threads.at);
    return to->text.at;
}

// ---- few queries -------------------------------------------------------------------------------

// Elements of a head: 8 or 16 bytes a thread where they come out even, side by side in a warp.
static void add_lanes(Attention *at, const Statement *loop, const char *inside) {
    Heuristic *to = at->to;
    int64_t size = extent_of(at, loop),
            group = size % 128 == 0  ? 4
                    : size % 64 == 0 ? 2
                                     : 1,
            lanes = min_i64(size / group, WARP_THREADS);
    while (size / group % lanes) lanes--;
    to->word['d'] = loop_name(at, loop), to->word['k'] = inside;
    to->word['g'] = decimal(to, group), to->word['h'] = decimal(to, lanes);
    add(to, "SPLIT $d $g\nSPLIT $d0 $h\n");
    add(to, *inside ? "ORDER $d01 $k $d00 $d1\n" : "ORDER $d01 $d00 $d1\n");
    add(to, "UNROLL $d00\nVECTORIZE $d1\n");
    share(at, "$d01");
}

// A part's keys: all threads of a warp make each score together, so all of them have it.
static void add_part(Attention *at, Statement *list) {
    for (Statement *nest = list; nest; nest = nest->next) {
        Statement *body = nest->body;
        if (nest->kind != STATEMENT_LOOP) continue;
        bool scores = body->next != NULL, sums = body->kind == STATEMENT_LOOP,
             keys = accesses(at, nest, at->scores);
        if (scores)
            add_lanes(at, body->next, "");
        else if (sums || !keys)
            add_lanes(at, sums ? body : nest, sums ? loop_name(at, nest) : "");
        if (keys) text_add(&at->to->text, "UNROLL %s\n", loop_name(at, nest));
    }
}

// All parts of a row: threads share them where they are folded, else the elements.
static void add_join(Attention *at, Statement *list) {
    Heuristic *to = at->to;
    for (Statement *nest = list; nest; nest = nest->next) {
        if (nest->kind != STATEMENT_LOOP) continue;
        bool sums = nest->body->kind == STATEMENT_LOOP;
        to->word['k'] = loop_name(at, nest);
        to->word['d'] = loop_name(at, sums ? nest->body : nest);
        if (sums) add(to, "ORDER $d $k\nUNROLL $k 16\n");
        share(at, "$d");
    }
}

// The buffer of a part's scores.
static int32_t find_scores(const Statement *list) {
    for (const Statement *nest = list; nest; nest = nest->next)
        for (const Statement *at = nest->body; nest->kind == STATEMENT_LOOP && at; at = at->next)
            if (at->kind == STATEMENT_STORE && at->role == ROLE_FINISH) return at->buffer;
    return -1;
}

// The warps of a block have the same part of keys for some of the last rows, heads that share keys
// if there are such: what one reads the others find in the cache.
static void add_parts(Attention *at, const int32_t *loop, int loops) {
    enum { WARPS = 8 };
    Heuristic *to = at->to;
    int64_t rows = largest_extent(to, loop[loops - 2]), warps = min_i64(rows, WARPS);
    while (rows % warps) warps--;
    to->word['r'] = name_of(to, loop[loops - 2]), to->word['w'] = decimal(to, warps);
    to->word['p'] = name_of(to, loop[loops - 1]);
    for (int i = 0; i < loops - 2; i++)
        to->word['p'] = arena_print(to->arena, "%s %s", to->word['p'], name_of(to, loop[i]));
    add(to, "SPLIT $r $w\nORDER $p $r0 $r1\nFUSE $p $r0 as parts\nBLOCK parts\nWARP $r1\n");
}

// A warp for each part of a row's keys; a second launch joins the parts.
static const char *few_queries(Heuristic *to) {
    Attention at = {.to = to, .threads = text_new(to->arena)};
    int32_t part[CHAIN_MAX], row[CHAIN_MAX];
    int parts, rows;
    Statement *list = inside_chain(to->kernel->body, part, &parts),
              *join = inside_chain(to->kernel->body->next, row, &rows);
    at.scores = find_scores(list);
    if (!list || !join || at.scores < 0 || parts < 2) return NULL;
    add_parts(&at, part, parts);
    add_part(&at, list);
    text_add(&to->text, "BLOCK %s\n", add_fused(to, row, rows));
    add_join(&at, join);
    text_add(&to->text, "THREAD%s\n", at.threads.at);
    return to->text.at;
}

const char *gpu_attention_schedule(Heuristic *to) {
    if (kernel_find_buffer(to->kernel, "against") < 0) return NULL;
    to->text = text_new(to->arena);
    return kernel_find_buffer(to->kernel, "part_m") >= 0 ? few_queries(to) : many_queries(to);
}
