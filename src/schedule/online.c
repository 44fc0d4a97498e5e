/* online.c - a softmax and the sums that it weighs, in one pass over what it runs along.
 * In: a kernel in unscheduled form.  Out: if its folds are a maximum of scores that are sums
 * themselves, and sums of multiples of 2^(c * (score - maximum)), statements that compute a score
 * once, a block of keys at a time; else nothing is changed.
 * Invariant: equal up to rounding, NaN and infinities included, but for keys that a mask hides from
 * all queries made together, which are not read. A state (maximum, sums) of some keys is valid for
 * another maximum when its sums are scaled by 2^(c * (old - new)); so states of blocks join, as in
 * tests/kernels/attention.kernel, and nothing as long as the keys is stored.
 *   for h { for d { out[d] = (mul (reduce add k<K (mul (exp2 (add s[k] (mul (reduce max l<K s[l])
 *   -1))) v[k,d])) (recip (reduce add ..))) } }   =>   for h { m = -inf; l = 0; o[d] = 0;
 *   for block { score[k]; m, score = 2^(score - m); l = l * scale + ..; o[d] = .. }; out = o / l }
 *
 * Source: M. Milakov and N. Gimelshein, Online normalizer calculation for softmax (2018); T. Dao
 * and others, FlashAttention (2022); the states of blocks apart: Flash-Decoding (2023). */
#include "schedule/schedule.h"

#include <math.h>

enum {
    SUMS_MAX = 4,
    CHAIN_MAX = 16,
    APART = 64,    // keys of a block whose state is made apart from others
    THROUGH = 64,  // of one that is joined to those before it
    MANY = 8,      // queries from which on blocks are joined as they come
    WIDEST = 64,   // queries at a time: their scores of a block are 16 KB
    CONDITIONS_MAX = 8,
};

typedef struct {
    int count;
    int32_t loop[CHAIN_MAX];
} Loops;

typedef struct {
    Id fold;                 // the REDUCE add
    Id body;                 // what it sums
    Id power;                // the EXP2 that the body is a multiple of
    int32_t loop;            // along the keys
    Loops extra;             // the store's loops that it depends on beside the rows'
    int64_t size;            // points of those
    int32_t state, partial;  // an element for each; in `partial` for each row and block as well
} Sum;

typedef struct {
    Kernel *kernel;
    Graph *graph;
    IndexTable *indices;
    Statement *store;
    Id value;       // its value, with factors outside of the sums that do not change them
    Loops rows;     // of the loops around the store those that the maximum depends on
    Loops rest;     // inside them
    Id max, score;  // the REDUCE max, and what it folds
    int32_t loop;   // of that
    double scale;   // the power is 2^(scale * (score - max)), times a constant
    Sum sum[SUMS_MAX];
    int sums;
    int32_t query;    // the row loop that the values do not depend on; -1: none
    int64_t queries;  // its extent
    int64_t width;    // how many of its iterations are made together, by loops `row`
    int32_t tile;     // query = width * tile + row, where width > 1
    Statement **end;  // of the list being made
    int32_t running;  // the buffer of the maximum of the keys so far
    Id scored;        // the score, with queries as they lie in the kernel's own memory
} Online;

static const Node *node_of(const Online *to, Id id) { return graph_node(to->graph, id); }

static Id real(const Online *to, double value) {
    return node_const_float(to->graph, DT_F32, (Shape){0}, value);
}

static int64_t extent_of(const Online *to, int32_t loop) {
    return index_high(to->indices, to->kernel->loops.at[loop].extent);
}

static Substitution *nothing(const Online *to) {
    return substitution_new(graph_arena(to->graph), to->kernel);
}

static bool has_op(const Online *to, Id value, Op op) {
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

// ---- what fits ---------------------------------------------------------------------------------

// x with `loop` in place of the loop of the maximum: the score of another fold's key.
static Id score_along(const Online *to, int32_t loop) {
    Substitution *by = nothing(to);
    by->loop[to->loop] = kernel_loop_index(to->kernel, loop);
    return kernel_substitute(to->kernel, to->score, by);
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

// The power of a score and a maximum that are these nodes.
static Id power_of(const Online *to, const Sum *sum, Id score, Id max) {
    Substitution *by = nothing(to);
    Id along = score_along(to, sum->loop);
    if (along < by->nodes) by->node[along] = score;
    by->node[to->max] = max;
    return kernel_substitute(to->kernel, sum->power, by);
}

// Of a power, nothing but the score changes along the keys, and it falls as the maximum rises.
static bool is_power(Online *to, const Sum *sum) {
    Id argument = node_of(to, sum->power)->source[0], along = score_along(to, sum->loop);
    double up = slope(to, argument, along), down = slope(to, argument, to->max);
    if (!(up > 0) || up != -down) return false;
    to->scale = up;
    Id zero = real(to, 0), one = real(to, 1), plain = power_of(to, sum, zero, one);
    return !has_op(to, plain, OP_LOAD) && !has_op(to, plain, OP_INDEX) &&
           plain == power_of(to, &to->sum[0], zero, one);
}

// What the power is multiplied with.
static Id weighed(const Online *to, const Sum *sum) {
    Substitution *by = nothing(to);
    by->node[sum->power] = real(to, 1);
    return kernel_substitute(to->kernel, sum->body, by);
}

static bool fits_sum(Online *to, Id fold) {
    const Loop *loops = to->kernel->loops.at;
    if (!is_fold(to, fold, OP_ADD) || to->sums == SUMS_MAX) return false;
    Sum *sum = &to->sum[to->sums++];
    *sum = (Sum){.fold = fold,
                 .body = node_of(to, fold)->source[0],
                 .loop = (int32_t)node_of(to, fold)->arg[2],
                 .size = 1};
    sum->power = power_in(to, sum->body);
    if (sum->power < 0 || loops[sum->loop].extent != loops[to->loop].extent || !is_power(to, sum))
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
            has_op(to, node_of(to, nodes.at[i])->source[0], OP_REDUCE))
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

// The longest row loop along which what is weighed is the same becomes the innermost one. False if
// it is long and cannot be cut into vectors.
static bool find_query(Online *to) {
    Loops *rows = &to->rows;
    LoopSet used = {0};
    int best = -1;
    for (int i = 0; i < to->sums; i++)
        used = loop_set_union(used, kernel_loops_of(to->kernel, weighed(to, &to->sum[i])));
    for (int i = 0; i < rows->count; i++)
        if (!loop_set_has(&used, rows->loop[i]) &&
            (best < 0 || extent_of(to, rows->loop[i]) >= extent_of(to, rows->loop[best])))
            best = i;
    to->query = best < 0 ? -1 : rows->loop[best];
    to->queries = best < 0 ? 1 : extent_of(to, to->query);
    for (int i = best; best >= 0 && i + 1 < rows->count; i++) rows->loop[i] = rows->loop[i + 1];
    if (best >= 0) rows->loop[rows->count - 1] = to->query;
    for (int64_t width = MANY; width <= min_i64(to->queries, WIDEST); width += MANY)
        if (to->queries % width == 0) to->width = width;
    return to->queries < MANY || to->width > 1;
}

static Online online_new(Kernel *kernel) {
    Online to = {.kernel = kernel, .graph = kernel->graph, .width = 1};
    Statement *at = kernel->body;
    int loops = 0;
    to.indices = graph_indices(kernel->graph);
    for (; at && at->kind == STATEMENT_LOOP && !at->next; at = at->body) loops++;
    bool plain = at && at->kind == STATEMENT_STORE && at->role == ROLE_STORE && !at->next;
    if (plain && at->condition < 0 && loops <= CHAIN_MAX) to.store = at;
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
    return weighs && find_query(to);
}

bool online_fits(Kernel *kernel) {
    Online to = online_new(kernel);
    return find_all(&to);
}

// ---- statements --------------------------------------------------------------------------------

// Keys base .. base + extent, at most `most`; those from `limit` on are not there (-1: all are).
typedef struct {
    Index base, extent, limit;
    int64_t most;
} Keys;

static const Loops none = {0};

static void put(Online *to, Statement *statement) {
    *to->end = statement;
    while (*to->end) to->end = &(*to->end)->next;
}

static Index number(const Online *to, int64_t value) { return index_const(to->indices, value); }

static int32_t new_loop(const Online *to, const char *name, Index extent, Index limit) {
    int32_t loop = kernel_loop(to->kernel, name, size_from_index(to->indices, extent));
    to->kernel->loops.at[loop].limit = limit;
    return loop;
}

static Index at_loop(const Online *to, int32_t loop) { return kernel_loop_index(to->kernel, loop); }

// A buffer of the kernel's own has `size` elements for each query made together; those of one query
// lie `width` apart, so that lanes are queries.
static int32_t new_register(const Online *to, const char *name, int64_t size) {
    return kernel_buffer(to->kernel, name, DT_F32, SPACE_REGISTER, size * to->width, true);
}

static Index own(const Online *to, Index element) {
    if (to->width == 1) return element;
    return index_add(to->indices, index_scale(to->indices, element, to->width),
                     index_mod(to->indices, at_loop(to, to->query), to->width));
}

static Id load(const Online *to, int32_t buffer, Index element) {
    return kernel_load(to->kernel, buffer, own(to, element), -1);
}

static Id scalar(const Online *to, int32_t buffer) { return load(to, buffer, number(to, 0)); }

// Row-major over some loops, after `outer`; `by` says what stands in their place.
static Index row_major(const Online *to, Index outer, const Loops *loops, const Substitution *by) {
    for (int i = 0; i < loops->count; i++) {
        int32_t loop = loops->loop[i];
        outer = index_scale(to->indices, outer, extent_of(to, loop));
        outer = index_add(to->indices, outer, by ? by->loop[loop] : at_loop(to, loop));
    }
    return outer;
}

static Substitution *copies(const Online *to, const Loops *loops, const char *suffix) {
    Substitution *by = nothing(to);
    for (int i = 0; i < loops->count; i++) kernel_loop_copy(to->kernel, loops->loop[i], suffix, by);
    return by;
}

// The nest inside loops, or what stands in their place.
static Statement *inside(const Online *to, const Loops *loops, const Substitution *by,
                         Statement *nest) {
    for (int i = loops->count - 1; i >= 0; i--) {
        const Term *copy;
        int32_t loop = loops->loop[i];
        if (by) index_terms(to->indices, by->loop[loop], &copy);
        if (by) loop = index_atom_of(to->indices, copy->atom)->of;
        nest = statement_loop(to->kernel, loop, nest);
    }
    return nest;
}

// The nest for each query that is made together.
static Statement *rows(const Online *to, const char *what, Statement *nest) {
    if (to->width == 1) return nest;
    const char *name = arena_print(graph_arena(to->graph), "%s_row", what);
    int32_t row = new_loop(to, name, number(to, to->width), -1);
    Substitution *by = nothing(to);
    Index before = index_scale(to->indices, at_loop(to, to->tile), to->width);
    by->loop[to->query] = index_add(to->indices, before, at_loop(to, row));
    statement_substitute(to->kernel, nest, by);
    return statement_loop(to->kernel, row, nest);
}

// for outer { for the loops' copies { for row { buffer[element] = value } } }; outer -1: without
static void put_store(Online *to, const char *what, int32_t outer, const Loops *loops,
                      const Substitution *by, Role role, int32_t buffer, Index element, Id value) {
    Statement *nest = statement_store(to->kernel, role, buffer, own(to, element), value);
    nest = inside(to, loops, by, rows(to, what, nest));
    put(to, outer < 0 ? nest : statement_loop(to->kernel, outer, nest));
}

static void put_scalar(Online *to, const char *what, Role role, int32_t buffer, Id value) {
    put_store(to, what, -1, &none, NULL, role, buffer, number(to, 0), value);
}

// 2^(scale * (x - max))
static Id power(const Online *to, Id x, Id max) {
    Graph *graph = to->graph;
    Id down = node_binary(graph, OP_ADD, x, node_binary(graph, OP_MUL, max, real(to, -1)));
    return node_unary(graph, OP_EXP2, node_binary(graph, OP_MUL, down, real(to, to->scale)));
}

// What powers are taken against: a maximum of -inf stands for no score yet, and -inf less itself
// is no number.
static int32_t put_against(Online *to, int32_t max) {
    int32_t against = new_register(to, "against", 1);
    Id seen = node_binary(to->graph, OP_CMPNE, scalar(to, max), real(to, -(double)INFINITY));
    Id value = node_where(to->graph, seen, scalar(to, max), real(to, 0));
    put_scalar(to, "against", ROLE_STORE, against, value);
    return against;
}

// A sum's state becomes 0, or is scaled, for each point of its extra loops. factor -1: none.
static void put_states(Online *to, const Sum *sum, int32_t factor) {
    bool fresh = factor < 0;
    Substitution *by = copies(to, &sum->extra, "_sum");
    Index element = row_major(to, number(to, 0), &sum->extra, by);
    Id value =
        fresh ? real(to, 0)
              : node_binary(to->graph, OP_MUL, load(to, sum->state, element), scalar(to, factor));
    put_store(to, fresh ? "start" : "scale", -1, &sum->extra, by, fresh ? ROLE_INIT : ROLE_UPDATE,
              sum->state, element, value);
}

static void put_start(Online *to) {
    to->running = new_register(to, "m", 1);
    put_scalar(to, "start", ROLE_INIT, to->running, real(to, -(double)INFINITY));
    for (int i = 0; i < to->sums; i++) {
        Sum *sum = &to->sum[i];
        sum->state = new_register(to, sum->extra.count ? "o" : "l", sum->size);
        put_states(to, sum, -1);
    }
}

// for key { for d { o[d] += score[key] * .. } }; what is weighed may not be there behind the keys.
static void put_sum(Online *to, const Sum *sum, const Keys *keys, int32_t score) {
    bool reads = has_op(to, weighed(to, sum), OP_LOAD);
    int32_t key = new_loop(to, "key", keys->extent, reads ? keys->limit : -1);
    Substitution *by = copies(to, &sum->extra, "_sum");
    by->loop[sum->loop] = index_add(to->indices, keys->base, at_loop(to, key));
    by->node[sum->power] = load(to, score, at_loop(to, key));
    Id body = kernel_substitute(to->kernel, sum->body, by);
    Index element = row_major(to, number(to, 0), &sum->extra, by);
    body = fold_into(to->graph, OP_ADD, body, load(to, sum->state, element));
    put_store(to, "sum", key, &sum->extra, by, ROLE_UPDATE, sum->state, element, body);
}

// score[key] = value, for all keys or those that are there
static void put_scores(Online *to, const char *name, const Keys *keys, bool all, int32_t score,
                       Id value) {
    int32_t key = new_loop(to, name, keys->extent, all ? -1 : keys->limit);
    Substitution *by = nothing(to);
    by->loop[to->loop] = index_add(to->indices, all ? number(to, 0) : keys->base, at_loop(to, key));
    value = kernel_substitute(to->kernel, value, by);
    put_store(to, name, key, &none, NULL, ROLE_STORE, score, at_loop(to, key), value);
}

// max = the larger of it and of all scores; `along` is the loop that the score moves with.
static void put_max(Online *to, int32_t max, Index extent, Id score, int32_t along) {
    int32_t key = new_loop(to, "top", extent, -1);
    Substitution *by = nothing(to);
    by->loop[along] = at_loop(to, key);
    score = kernel_substitute(to->kernel, score, by);
    Id value = node_binary(to->graph, OP_MAX, score, scalar(to, max));
    put_store(to, "top", key, &none, NULL, ROLE_UPDATE, max, number(to, 0), value);
}

// Joins the keys to the running state. The sums of no key yet need no scaling: `fresh`.
static void put_block(Online *to, const Keys *keys, bool fresh) {
    int32_t score = new_register(to, "score", keys->most), next = new_register(to, "next", 1),
            factor = fresh ? -1 : new_register(to, "scale", 1);
    Id here = load(to, score, at_loop(to, to->loop));
    if (keys->limit >= 0) put_scores(to, "pad", keys, true, score, real(to, -(double)INFINITY));
    put_scores(to, "key", keys, false, score, to->scored);
    put_scalar(to, "next", ROLE_STORE, next, scalar(to, to->running));
    put_max(to, next, keys->extent, here, to->loop);
    int32_t against = put_against(to, next);
    if (!fresh)
        put_scalar(to, "factor", ROLE_STORE, factor,
                   power(to, scalar(to, to->running), scalar(to, against)));
    put_scalar(to, "m", ROLE_STORE, to->running, scalar(to, next));
    put_scores(to, "power", keys, true, score,
               power_of(to, &to->sum[0], here, scalar(to, against)));
    for (int i = 0; i < to->sums; i++) {
        if (!fresh) put_states(to, &to->sum[i], factor);
        put_sum(to, &to->sum[i], keys, score);
    }
}

// The store, which takes the states' values in place of the folds.
static void put_finish(Online *to) {
    Substitution *by = nothing(to);
    by->node[to->max] = scalar(to, to->running);
    for (int i = 0; i < to->sums; i++) {
        const Sum *sum = &to->sum[i];
        Index element = row_major(to, number(to, 0), &sum->extra, NULL);
        by->node[sum->fold] = load(to, sum->state, element);
    }
    to->store->role = ROLE_FINISH;
    to->store->value = kernel_substitute(to->kernel, to->value, by);
    put(to, rows(to, "out", inside(to, &to->rest, NULL, to->store)));
}

// ---- one after the other -----------------------------------------------------------------------

// A factor of a score's sum that does not change along the keys; -1: none.
static Id query_in(const Online *to, Id fold) {
    const Node *node = node_of(to, fold);
    if (node->op != OP_REDUCE || node->arg[0] != OP_ADD) return -1;
    const Node *product = node_of(to, node->source[0]);
    for (int i = 0; i < 2 && product->op == OP_MUL; i++) {
        LoopSet used = kernel_loops_of(to->kernel, product->source[i]);
        if (loop_set_has(&used, to->query) && !loop_set_has(&used, to->loop))
            return product->source[i];
    }
    return -1;
}

// Queries are copied once for all keys: query[e][row]. The loops of a score's sum are those of e.
static void put_queries(Online *to) {
    IdList nodes = kernel_nodes(graph_arena(to->graph), to->kernel, to->score);
    Id fold = -1, factor = -1;
    for (int i = 0; i < nodes.count && factor < 0; i++) factor = query_in(to, fold = nodes.at[i]);
    if (factor < 0) return;
    Loops loops = {.count = (int)node_of(to, fold)->arg[1]};
    int64_t size = 1;
    for (int i = 0; i < loops.count; i++)
        size *= extent_of(to, loops.loop[i] = (int32_t)node_of(to, fold)->arg[2 + i]);
    int32_t buffer = new_register(to, "query", size);
    Substitution *by = copies(to, &loops, "_sum");
    put_store(to, "query", -1, &loops, by, ROLE_STORE, buffer,
              row_major(to, number(to, 0), &loops, by), kernel_substitute(to->kernel, factor, by));
    by = nothing(to);
    by->node[factor] = load(to, buffer, row_major(to, number(to, 0), &loops, NULL));
    to->scored = kernel_substitute(to->kernel, to->score, by);
}

// A conjunction of comparisons a < b, as the a - b; false if something else is in it.
static bool find_conditions(const Online *to, Id id, Index *below, int *count) {
    const Node *node = node_of(to, id);
    const Id *source = node->source;
    Index a, b;
    if (node->op == OP_AND)
        return find_conditions(to, source[0], below, count) &&
               find_conditions(to, source[1], below, count);
    if (node->op != OP_CMPLT || *count == CONDITIONS_MAX ||
        !kernel_index_of(to->kernel, source[0], &a) || !kernel_index_of(to->kernel, source[1], &b))
        return false;
    below[(*count)++] = index_sub(to->indices, a, b);
    return true;
}

// From which key on all keys are hidden from a row, of which it is known that it sees the key
// before: its maximum is a seen score by then, and powers of hidden ones are 0. -1: not known.
static Index find_end(const Online *to) {
    const Node *score = node_of(to, to->score);
    Index below[CONDITIONS_MAX], end = -1;
    int64_t step;
    int count = 0;
    bool hides = score->op == OP_WHERE && node_of(to, score->source[2])->op == OP_CONST &&
                 node_const_value(to->graph, score->source[2], NULL) <= HIDDEN &&
                 to->scale * HIDDEN < -1e10;
    if (!hides || !find_conditions(to, score->source[0], below, &count)) return -1;
    for (int i = 0; i < count; i++)  // key - end < 0
        if (index_stride(to->indices, below[i], to->loop, &step) && step == 1)
            end = index_sub(to->indices, at_loop(to, to->loop), below[i]);
    if (end < 0 || index_low(to->indices, end) < 1) return -1;
    Index last = index_sub(to->indices, end, number(to, 1));
    for (int i = 0; i < count; i++) {
        Index there = index_replace(to->indices, below[i], ATOM_LOOP, to->loop, last);
        if (index_high(to->indices, there) >= 0) return -1;
    }
    return end;
}

// The same of the queries that are made together.
static Index find_end_of_tile(const Online *to) {
    Index end = find_end(to);
    int64_t step;
    if (end < 0 || !index_stride(to->indices, end, to->query, &step)) return -1;
    Index query = index_add(to->indices, index_scale(to->indices, at_loop(to, to->tile), to->width),
                            number(to, step > 0 ? to->width - 1 : 0));
    return index_replace(to->indices, end, ATOM_LOOP, to->query, query);
}

// Many queries: blocks of keys one after the other, what is left over as a shorter one; not those
// that are hidden from all queries.
static void run_through(Online *to) {
    Index keys = to->kernel->loops.at[to->loop].extent;
    int64_t all = max_i64(1, index_high(to->indices, keys)), left = -1;
    int64_t most = min_i64(all, min_i64(THROUGH, 4 * to->width));  // few queries: a short rest
    Index whole = index_div(to->indices, keys, most), rest = index_mod(to->indices, keys, most);
    Index some = index_div(to->indices, index_add(to->indices, rest, number(to, most - 1)), most);
    Statement *body = NULL;
    to->tile = new_loop(to, "strip", number(to, to->queries / to->width), -1);
    to->rows.loop[to->rows.count - 1] = to->tile;
    Index end = find_end_of_tile(to), ends[2] = {-1, -1};
    if (end >= 0) {
        Index up = index_add(to->indices, end, number(to, most - 1));
        ends[0] = index_div(to->indices, up, most);
        ends[1] = index_sub(to->indices, end, index_scale(to->indices, whole, most));
    }
    to->end = &body;
    put_queries(to);
    put_start(to);
    for (int part = 0; part < 2; part++) {
        Statement **after = to->end, *blocks = NULL;
        if (part == 1 && index_is_const(to->indices, rest, &left) && left == 0) break;
        int32_t block = new_loop(to, part ? "rest" : "block", part ? some : whole, ends[part]);
        Index base = index_scale(to->indices, part ? whole : at_loop(to, block), most);
        to->end = &blocks;
        put_block(to, &(Keys){base, part ? rest : number(to, most), -1, most}, false);
        to->end = after;
        put(to, statement_loop(to->kernel, block, blocks));
    }
    put_finish(to);
    to->kernel->body = inside(to, &to->rows, NULL, body);
}

// ---- side by side ------------------------------------------------------------------------------

typedef struct {
    int32_t loop, max;  // over blocks; their maxima
    Index blocks;
    int64_t most, size;  // blocks at most; those of all rows
} Parts;

static Index part_of(const Online *to, const Parts *parts, int32_t block) {
    Index row = row_major(to, number(to, 0), &to->rows, NULL);
    return index_add(to->indices, index_scale(to->indices, row, parts->most), at_loop(to, block));
}

static int32_t shared(const Online *to, const char *name, int64_t size) {
    return kernel_buffer(to->kernel, name, DT_F32, SPACE_SHARED, size, true);
}

static void put_part(Online *to, const Parts *parts, Sum *sum) {
    Substitution *by = copies(to, &sum->extra, "_sum");
    Index part = row_major(to, part_of(to, parts, parts->loop), &sum->extra, by);
    Id state = load(to, sum->state, row_major(to, number(to, 0), &sum->extra, by));
    sum->partial = shared(to, sum->extra.count ? "part_o" : "part_l", parts->size * sum->size);
    put_store(to, "part", -1, &sum->extra, by, ROLE_STORE, sum->partial, part, state);
}

static Statement *blocks_apart(Online *to, Parts *parts, int64_t keys) {
    Statement *body = NULL;
    to->end = &body;
    parts->size = parts->most;
    for (int i = 0; i < to->rows.count; i++) parts->size *= extent_of(to, to->rows.loop[i]);
    parts->loop = new_loop(to, "block", parts->blocks, -1);
    parts->max = shared(to, "part_m", parts->size);
    Index base = index_scale(to->indices, at_loop(to, parts->loop), keys);
    Index left = index_sub(to->indices, to->kernel->loops.at[to->loop].extent, base);
    bool whole = index_low(to->indices, left) >= keys;
    put_start(to);
    put_block(to, &(Keys){base, number(to, keys), whole ? -1 : left, keys}, true);
    put_store(to, "part", -1, &none, NULL, ROLE_STORE, parts->max, part_of(to, parts, parts->loop),
              scalar(to, to->running));
    for (int i = 0; i < to->sums; i++) put_part(to, parts, &to->sum[i]);
    Substitution *by = copies(to, &to->rows, "_part");
    body = inside(to, &to->rows, by, statement_loop(to->kernel, parts->loop, body));
    statement_substitute(to->kernel, body, by);
    return body;
}

// for block { for d { o[d] += part_o[block, d] * part_m[block] } }
static void put_joined(Online *to, const Parts *parts, const Sum *sum) {
    int32_t block = new_loop(to, "join", parts->blocks, -1);
    Substitution *by = copies(to, &sum->extra, "_sum");
    Index part = part_of(to, parts, block), element = row_major(to, number(to, 0), &sum->extra, by);
    Id value = node_fma(to->graph, load(to, sum->partial, row_major(to, part, &sum->extra, by)),
                        load(to, parts->max, part), load(to, sum->state, element));
    put_store(to, "join", block, &sum->extra, by, ROLE_UPDATE, sum->state, element, value);
}

// Few queries: threads share the blocks, whose states are joined afterwards. The maximum of a block
// becomes what its sums are scaled by.
static void run_apart(Online *to) {
    Index extent = to->kernel->loops.at[to->loop].extent;
    int64_t keys = min_i64(max_i64(1, index_high(to->indices, extent)), APART);
    Index up = index_add(to->indices, extent, number(to, keys - 1));
    Parts parts = {.blocks = index_div(to->indices, up, keys)};
    parts.most = index_high(to->indices, parts.blocks);
    Statement *nest = blocks_apart(to, &parts, keys), *body = NULL;
    to->end = &body;
    put_start(to);
    int32_t block = new_loop(to, "power", parts.blocks, -1);
    Index part = part_of(to, &parts, block);
    put_max(to, to->running, parts.blocks, load(to, parts.max, part), block);
    Id factor = power(to, load(to, parts.max, part), scalar(to, put_against(to, to->running)));
    put_store(to, "power", block, &none, NULL, ROLE_STORE, parts.max, part, factor);
    for (int i = 0; i < to->sums; i++) put_joined(to, &parts, &to->sum[i]);
    put_finish(to);
    nest->next = inside(to, &to->rows, NULL, body);
    to->kernel->body = nest;
}

bool online(Kernel *kernel) {
    Online to = online_new(kernel);
    if (!find_all(&to)) return false;
    if (to.width > 1)
        run_through(&to);
    else
        run_apart(&to);
    return true;
}
