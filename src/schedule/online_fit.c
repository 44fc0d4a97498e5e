/* online_fit.c - whether a kernel is a softmax of sums and the sums that it weighs.
 * In: a kernel in unscheduled form.  Out: its store, its folds, and which of its loops are rows.
 * Invariant: nothing is changed. The folds are a maximum of scores that are sums themselves, and
 * sums of multiples of 2^(c * (score - maximum)); of a GPU's, also whether threads can share them.
 *   out[d] = (mul (reduce add k<K (mul (exp2 (add s[k] (mul (reduce max l<K s[l]) -1))) v[k,d]))
 *   (recip (reduce add ..)))   =>   max, s, sums o and l                                         */
#include "schedule/online.h"

#include <math.h>

enum {
    MANY = 8,     // queries from which on blocks are joined as they come
    WIDEST = 64,  // queries at a time: their scores of a block are 16 KB
    // On a GPU: queries of a tile, and of how many tiles there are enough; a thread holds an eighth
    // of a value's elements, and of a block's scores.
    GPU_WIDEST = 128,
    GPU_LEAST = 32,
    GPU_ENOUGH = 128,
    GPU_LARGEST = 128,
    TOGETHER = 8,
};

bool online_has_op(const Online *to, Id value, Op op) {
    IdList nodes = kernel_nodes(graph_arena(to->graph), to->kernel, value);
    for (int i = 0; i < nodes.count; i++)
        if (node_of(to, nodes.at[i])->op == op) return true;
    return false;
}

static bool is_fold(const Online *to, Id id, Op op) {
    const Node *node = node_of(to, id);
    return node->op == OP_REDUCE && node->arg[0] == op && node->arg[1] == 1 &&
           node->dtype == DT_F32;
}

// x with `loop` in place of the loop of the maximum: the score of another fold's key.
static Id score_along(const Online *to, int32_t loop) {
    Substitution *by = nothing(to);
    by->loop[to->loop] = kernel_loop_index(to->kernel, loop);
    return kernel_substitute(to->kernel, to->score, by);
}

Id online_power(const Online *to, const Sum *sum, Id score, Id max) {
    Substitution *by = nothing(to);
    Id along = score_along(to, sum->loop);
    if (along < by->nodes) by->node[along] = score;
    by->node[to->max] = max;
    return kernel_substitute(to->kernel, sum->power, by);
}

Id online_weighed(const Online *to, const Sum *sum) {
    Substitution *by = nothing(to);
    by->node[sum->power] = real(to, 1);
    return kernel_substitute(to->kernel, sum->body, by);
}

static void split_factors(const Online *to, Id id, int32_t loop, Id product[2]) {
    const Node *node = node_of(to, id);
    if (node->op == OP_MUL) {
        Id second = node->source[1];  // the graph may move
        split_factors(to, node->source[0], loop, product);
        split_factors(to, second, loop, product);
        return;
    }
    LoopSet loops = kernel_loops_of(to->kernel, id);
    Id *side = &product[loop_set_has(&loops, loop)];
    *side = *side < 0 ? id : node_binary(to->graph, OP_MUL, *side, id);
}

// A sum's factors that do not change along its loop, outside of it.
static Id hoisted(const Online *to, Id id) {
    if (!is_fold(to, id, OP_ADD)) return id;
    Id product[2] = {-1, -1};
    int32_t loop = (int32_t)node_of(to, id)->arg[2];
    split_factors(to, node_of(to, id)->source[0], loop, product);
    if (product[0] < 0 || product[1] < 0) return id;
    Id sum = kernel_reduce(to->kernel, OP_ADD, product[1], 1, &loop);
    return node_binary(to->graph, OP_MUL, product[0], sum);
}

// The EXP2 of the maximum that x is a multiple of, -1 if there is none.
static Id power_in(const Online *to, Id x) {
    const Node *node = node_of(to, x);
    const Id *source = node->source;
    if (node->op == OP_EXP2) return kernel_value_has(to->kernel, x, to->max) ? x : -1;
    if (node->op == OP_MUL) {
        bool first = kernel_value_has(to->kernel, source[0], to->max);
        return first == kernel_value_has(to->kernel, source[1], to->max)
                   ? -1
                   : power_in(to, source[!first]);
    }
    if (node->op != OP_WHERE || kernel_value_has(to->kernel, source[0], to->max)) return -1;
    for (int i = 1; i < 3; i++)  // the other one is 0
        if (node_of(to, source[3 - i])->op == OP_CONST &&
            node_const_value(to->graph, source[3 - i], NULL) == 0)
            return power_in(to, source[i]);
    return -1;
}

// The c of x = c * part + what does not depend on part; NAN if x has no such form.
static double slope(const Online *to, Id x, Id part) {
    const Node *node = node_of(to, x);
    const Id *source = node->source;
    if (x == part) return 1;
    if (!kernel_value_has(to->kernel, x, part)) return 0;
    if (node->op == OP_ADD) return slope(to, source[0], part) + slope(to, source[1], part);
    for (int i = 0; i < 2 && node->op == OP_MUL; i++)
        if (node_of(to, source[i])->op == OP_CONST)
            return node_const_value(to->graph, source[i], NULL) * slope(to, source[!i], part);
    return (double)NAN;
}

// Of a power, nothing but the score changes along the keys, and it falls as the maximum rises.
static bool is_power(Online *to, const Sum *sum) {
    Id argument = node_of(to, sum->power)->source[0], along = score_along(to, sum->loop);
    double up = slope(to, argument, along), down = slope(to, argument, to->max);
    if (!(up > 0) || up != -down) return false;
    to->scale = up;
    Id zero = real(to, 0), one = real(to, 1), plain = online_power(to, sum, zero, one);
    return !online_has_op(to, plain, OP_LOAD) && !online_has_op(to, plain, OP_INDEX) &&
           plain == online_power(to, &to->sum[0], zero, one);
}

// Of a body, the choice between a multiple of the power and 0; -1: there is none.
static Id choice_in(const Online *to, Id x) {
    const Node *node = node_of(to, x);
    bool product = node->op == OP_MUL;
    if (node->op == OP_WHERE) return x;
    return product ? choice_in(
                         to, node->source[!kernel_value_has(to->kernel, node->source[0], to->max)])
                   : -1;
}

// Keys that no sum counts, whatever their score, have the score -inf then: what is weighed does not
// depend on a mask any more.
static bool take_choice(Online *to, Sum *sum) {
    Id choice = choice_in(to, sum->body), seen = -1;
    if (choice >= 0) {
        const Node *where = node_of(to, choice);
        Id condition = where->source[0], counted = where->source[1];
        if (!kernel_value_has(to->kernel, counted, sum->power)) return false;
        Substitution *by = nothing(to);
        by->node[choice] = counted;
        sum->body = kernel_substitute(to->kernel, sum->body, by);
        by = nothing(to);
        by->loop[sum->loop] = at_loop(to, to->loop);
        seen = kernel_substitute(to->kernel, condition, by);
    }
    if (to->sums > 1) return seen == to->seen;
    to->seen = seen;
    if (seen >= 0) to->scored = node_where(to->graph, seen, to->score, real(to, -(double)INFINITY));
    return true;
}

static bool fits_sum(Online *to, Id fold) {
    const Loop *loops = to->kernel->loops.at;
    if (!is_fold(to, fold, OP_ADD) || to->sums == ONLINE_SUMS) return false;
    Sum *sum = &to->sum[to->sums++];
    *sum = (Sum){.fold = fold,
                 .body = node_of(to, fold)->source[0],
                 .loop = (int32_t)node_of(to, fold)->arg[2],
                 .size = 1};
    sum->power = power_in(to, sum->body);
    if (sum->power < 0 || loops[sum->loop].extent != loops[to->loop].extent || !is_power(to, sum) ||
        (to->gpu && !take_choice(to, sum)))
        return false;
    LoopSet used = kernel_loops_of(to->kernel, fold);
    for (int i = 0; i < to->rest.count; i++) {
        int32_t loop = to->rest.loop[i];
        if (!loop_set_has(&used, loop)) continue;
        sum->extra.loop[sum->extra.count++] = loop;
        sum->size *= extent_of(to, loop);
    }
    return true;
}

// The folds of a value that are not inside of others.
static void outer_folds(const Online *to, Id value, IdList *folds) {
    const Node *node = node_of(to, value);
    for (int i = 0; i < folds->count; i++)
        if (folds->at[i] == value) return;
    if (node->op == OP_REDUCE)
        *list_add(graph_arena(to->graph), folds) = value;
    else
        for (int i = 0; i < node->sources; i++) outer_folds(to, node->source[i], folds);
}

static Id find_max(const Online *to, Id value) {
    IdList nodes = kernel_nodes(graph_arena(to->graph), to->kernel, value);
    for (int i = 0; i < nodes.count; i++)
        if (is_fold(to, nodes.at[i], OP_MAX) &&
            online_has_op(to, node_of(to, nodes.at[i])->source[0], OP_REDUCE))
            return nodes.at[i];
    return -1;
}

// The store, and the loops around it, all of a constant extent; the maximum's come first.
static bool find_store(Online *to) {
    LoopSet used = kernel_loops_of(to->kernel, to->max);
    int64_t extent;
    for (const Statement *at = to->kernel->body; at != to->store; at = at->body) {
        bool is_row = loop_set_has(&used, at->loop);
        Loops *loops = is_row ? &to->rows : &to->rest;
        if (is_row && to->rest.count) return false;
        if (!index_is_const(to->indices, to->kernel->loops.at[at->loop].extent, &extent))
            return false;
        loop_set_remove(&used, at->loop);
        loops->loop[loops->count++] = at->loop;
    }
    return loop_set_within(used, (LoopSet){0});
}

// So many queries at a time that they come out even; 1: there is no such number.
static int64_t even_width(const Online *to) {
    int64_t most = 1;
    for (int64_t width = MANY; width <= min_i64(to->queries, WIDEST); width += MANY)
        if (to->queries % width == 0) most = width;
    return most;
}

// The largest tile of which there are enough for all multiprocessors; the last one may be padded.
static int64_t gpu_width(const Online *to) {
    int64_t tiles = 1, width = GPU_WIDEST;
    if (to->queries < MANY) return 1;
    for (int i = 0; i < to->rows.count; i++)
        if (to->rows.loop[i] != to->query) tiles *= extent_of(to, to->rows.loop[i]);
    for (int i = 0; i < to->sums; i++)
        if (to->sum[i].size > ONLINE_HELD) width = GPU_WIDEST / 2;
    while (width > GPU_LEAST &&
           (tiles * pieces(to->queries, width) < GPU_ENOUGH || to->queries <= width / 2))
        width /= 2;
    return width;
}

// The longest row loop along which what is weighed is the same becomes the innermost one. False if
// it is long and cannot be cut into vectors.
static bool find_query(Online *to) {
    Loops *rows = &to->rows;
    LoopSet used = {0};
    int best = -1;
    for (int i = 0; i < to->sums; i++)
        used = loop_set_union(used, kernel_loops_of(to->kernel, online_weighed(to, &to->sum[i])));
    for (int i = 0; i < rows->count; i++)
        if (!loop_set_has(&used, rows->loop[i]) &&
            (best < 0 || extent_of(to, rows->loop[i]) >= extent_of(to, rows->loop[best])))
            best = i;
    to->query = best < 0 ? -1 : rows->loop[best];
    to->queries = best < 0 ? 1 : extent_of(to, to->query);
    for (int i = best; best >= 0 && i + 1 < rows->count; i++) rows->loop[i] = rows->loop[i + 1];
    if (best >= 0) rows->loop[rows->count - 1] = to->query;
    to->width = to->gpu ? gpu_width(to) : even_width(to);
    return to->queries < MANY || to->width > 1;
}

// A GPU's threads share the elements of keys and values by eights.
static bool fits_threads(const Online *to) {
    const Node *scores = NULL;
    IdList nodes = kernel_nodes(graph_arena(to->graph), to->kernel, to->score);
    for (int i = 0; i < nodes.count && !scores; i++)
        if (node_of(to, nodes.at[i])->op == OP_REDUCE) scores = node_of(to, nodes.at[i]);
    int weighed = 0;
    for (int i = 0; i < to->sums; i++) {
        const Sum *sum = &to->sum[i];
        weighed += sum->extra.count;
        bool tiled = sum->size % TOGETHER == 0 && sum->size <= GPU_LARGEST;
        if (sum->extra.count && to->width > 1 && !tiled) return false;
    }
    return weighed == 1 && scores && scores->arg[1] == 1 &&
           (to->width == 1 || extent_of(to, (int32_t)scores->arg[2]) % TOGETHER == 0);
}

static Online online_new(Kernel *kernel, bool gpu) {
    Online to = {.kernel = kernel, .graph = kernel->graph, .gpu = gpu, .width = 1};
    Statement *at = kernel->body;
    int loops = 0;
    to.indices = graph_indices(kernel->graph);
    for (; at && at->kind == STATEMENT_LOOP && !at->next; at = at->body) loops++;
    bool plain = at && at->kind == STATEMENT_STORE && at->role == ROLE_STORE && !at->next;
    if (plain && at->condition < 0 && loops <= ONLINE_LOOPS) to.store = at;
    to.seen = -1;
    return to;
}

static bool find_all(Online *to) {
    IdList folds = {0};
    bool weighs = false;
    if (!to->store) return false;
    Substitution *by = nothing(to);
    for (Id id = 0; id < by->nodes; id++) {
        Id now = hoisted(to, id);
        if (now != id) by->node[id] = now;
    }
    to->value = kernel_substitute(to->kernel, to->store->value, by);
    to->max = find_max(to, to->value);
    if (to->max < 0 || !find_store(to)) return false;
    to->score = to->scored = node_of(to, to->max)->source[0];
    to->loop = (int32_t)node_of(to, to->max)->arg[2];
    outer_folds(to, to->value, &folds);
    for (int i = 0; i < folds.count; i++) {
        if (folds.at[i] == to->max) continue;
        if (!fits_sum(to, folds.at[i])) return false;
        weighs |= to->sum[to->sums - 1].extra.count > 0;
    }
    return weighs && find_query(to) && (!to->gpu || fits_threads(to));
}

bool online_find(Online *to, Kernel *kernel, bool gpu) {
    *to = online_new(kernel, gpu);
    return find_all(to);
}

bool online_fits(Kernel *kernel, bool gpu) {
    Online to;
    return online_find(&to, kernel, gpu);
}
