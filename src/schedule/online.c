/* online.c - a softmax and the sums that it weighs, in one pass over what it runs along.
 * In: a kernel in unscheduled form.  Out: if its folds are a maximum of scores that are sums
 * themselves, and sums of multiples of 2^(c * (score - maximum)), statements that compute a score
 * once, a block of keys at a time; else nothing is changed.
 * Invariant: equal up to rounding, NaN and infinities included. A state (maximum, sums) of some
 * keys is valid for another maximum when its sums are scaled by 2^(c * (old - new)); so states of
 * blocks join, as in tests/kernels/attention.kernel, and nothing as long as the keys is stored.
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
    THROUGH = 96,  // of one that is joined to those before it, with WIDEST queries
    MANY = 8,      // queries from which on blocks are joined as they come
    WIDEST = 64,   // queries at a time: their scores of a block are 24 KB
};

typedef struct {
    Id fold;                   // the REDUCE add
    Id body;                   // what it sums
    Id power;                  // the EXP2 that the body is a multiple of
    int32_t loop;              // along the keys
    int32_t extra[CHAIN_MAX];  // the store's loops that it depends on beside the rows'
    int extras;
    int64_t size;            // points of those
    int32_t state, partial;  // an element for each; in `partial` for each row and block as well
} Sum;

typedef struct {
    Kernel *kernel;
    Graph *graph;
    IndexTable *indices;
    Statement *store;
    int32_t chain[CHAIN_MAX];  // the loops around it
    int loops, rows;           // the first `rows` are those that the maximum depends on
    Id max, score;             // the REDUCE max, and what it folds
    int32_t loop;              // of that
    double scale;              // the power is 2^(scale * (score - max)), times a constant
    Sum sum[SUMS_MAX];
    int sums;
    Statement **end;    // of the list being made
    int32_t running;    // the buffer of the maximum of the keys so far
    int32_t query;      // the row loop that the values do not depend on; -1: none
    int64_t queries;    // its extent
    int64_t width;      // how many of its iterations are made together, by loops `row`
    int32_t tile, row;  // query = width * tile + row, where width > 1
    Id scored;          // the score, with queries as they lie in the kernel's own memory
} Online;

static const Node *node_of(const Online *to, Id id) { return graph_node(to->graph, id); }

static bool contains(const Online *to, Id value, Id part) {
    IdList nodes = kernel_nodes(graph_arena(to->graph), to->kernel, value);
    for (int i = 0; i < nodes.count; i++)
        if (nodes.at[i] == part) return true;
    return false;
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
    Substitution *by = substitution_new(graph_arena(to->graph), to->kernel);
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
    if (node->op == OP_EXP2) return contains(to, x, to->max) ? x : -1;
    if (node->op == OP_MUL) {
        bool first = contains(to, source[0], to->max);
        return first == contains(to, source[1], to->max) ? -1 : power_in(to, source[!first]);
    }
    if (node->op != OP_WHERE || contains(to, source[0], to->max)) return -1;
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
    if (!contains(to, x, part)) return 0;
    if (node->op == OP_ADD) return slope(to, source[0], part) + slope(to, source[1], part);
    for (int i = 0; i < 2 && node->op == OP_MUL; i++)
        if (node_of(to, source[i])->op == OP_CONST)
            return node_const_value(to->graph, source[i], NULL) * slope(to, source[!i], part);
    return (double)NAN;
}

// The power of a score and a maximum that are these nodes.
static Id power_of(const Online *to, const Sum *sum, Id score, Id max) {
    Substitution *by = substitution_new(graph_arena(to->graph), to->kernel);
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
    Id zero = node_const_float(to->graph, DT_F32, (Shape){0}, 0),
       one = node_const_float(to->graph, DT_F32, (Shape){0}, 1);
    Id plain = power_of(to, sum, zero, one);
    return !has_op(to, plain, OP_LOAD) && !has_op(to, plain, OP_INDEX) &&
           plain == power_of(to, &to->sum[0], zero, one);
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
    for (int i = to->rows; i < to->loops; i++) {
        int64_t extent;
        if (!loop_set_has(&used, to->chain[i])) continue;
        if (!index_is_const(to->indices, loops[to->chain[i]].extent, &extent)) return false;
        sum->extra[sum->extras++] = to->chain[i];
        sum->size *= extent;
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

static bool find_store(Online *to) {
    Statement *at = to->kernel->body;
    for (; at && at->kind == STATEMENT_LOOP && !at->next; at = at->body) {
        if (to->loops == CHAIN_MAX) return false;
        to->chain[to->loops++] = at->loop;
    }
    to->store = at;
    return at && at->kind == STATEMENT_STORE && !at->next && at->condition < 0 &&
           at->role == ROLE_STORE;
}

static bool find_rows(Online *to) {
    LoopSet used = kernel_loops_of(to->kernel, to->max);
    for (; to->rows < to->loops && loop_set_has(&used, to->chain[to->rows]); to->rows++) {
        int64_t extent;
        const Loop *loop = &to->kernel->loops.at[to->chain[to->rows]];
        if (!index_is_const(to->indices, loop->extent, &extent)) return false;
        loop_set_remove(&used, to->chain[to->rows]);
    }
    return loop_set_within(used, (LoopSet){0});
}

static int64_t extent_of(const Online *to, int32_t loop) {
    return index_high(to->indices, to->kernel->loops.at[loop].extent);
}

// The longest row loop along which what is weighed is the same becomes the innermost one. False if
// it is long and cannot be cut into vectors.
static bool find_query(Online *to) {
    LoopSet used = {0};
    for (int i = 0; i < to->sums; i++) {
        Substitution *by = substitution_new(graph_arena(to->graph), to->kernel);
        by->node[to->sum[i].power] = node_const_float(to->graph, DT_F32, (Shape){0}, 1);
        Id weighed = kernel_substitute(to->kernel, to->sum[i].body, by);
        used = loop_set_union(used, kernel_loops_of(to->kernel, weighed));
    }
    int best = -1;
    for (int i = 0; i < to->rows; i++)
        if (!loop_set_has(&used, to->chain[i]) &&
            (best < 0 || extent_of(to, to->chain[i]) >= extent_of(to, to->chain[best])))
            best = i;
    to->query = best < 0 ? -1 : to->chain[best];
    for (int i = best; best >= 0 && i + 1 < to->rows; i++) to->chain[i] = to->chain[i + 1];
    if (best >= 0) to->chain[to->rows - 1] = to->query;
    to->width = 1;
    to->queries = best < 0 ? 1 : extent_of(to, to->query);
    for (int64_t width = MANY; width <= min_i64(to->queries, WIDEST); width += MANY)
        if (to->queries % width == 0) to->width = width;
    return to->queries < MANY || to->width > 1;
}

static bool find_all(Online *to) {
    IdList folds = {0};
    bool weighs = false;
    if (!find_store(to)) return false;
    Substitution *by = substitution_new(graph_arena(to->graph), to->kernel);
    for (Id id = 0; id < by->nodes; id++) {
        Id now = hoisted(to, id);
        if (now != id) by->node[id] = now;
    }
    Id value = kernel_substitute(to->kernel, to->store->value, by);
    to->max = find_max(to, value);
    if (to->max < 0 || !find_rows(to)) return false;
    to->score = node_of(to, to->max)->source[0];
    to->loop = (int32_t)node_of(to, to->max)->arg[2];
    outer_folds(to, value, &folds);
    for (int i = 0; i < folds.count; i++) {
        if (folds.at[i] == to->max) continue;
        if (!fits_sum(to, folds.at[i])) return false;
        weighs |= to->sum[to->sums - 1].extras > 0;
    }
    if (!weighs || !find_query(to)) return false;
    to->store->value = value;
    return true;
}

static Online online_new(Kernel *kernel) {
    return (Online){
        .kernel = kernel, .graph = kernel->graph, .indices = graph_indices(kernel->graph)};
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

static void put(Online *to, Statement *statement) {
    *to->end = statement;
    while (*to->end) to->end = &(*to->end)->next;
}

static Id real(const Online *to, double value) {
    return node_const_float(to->graph, DT_F32, (Shape){0}, value);
}

static Index first(const Online *to) { return index_const(to->indices, 0); }

static int32_t new_loop(const Online *to, const char *name, Index extent, Index limit) {
    int32_t loop = kernel_loop(to->kernel, name, size_from_index(to->indices, extent));
    to->kernel->loops.at[loop].limit = limit;
    return loop;
}

static Index at_loop(const Online *to, int32_t loop) { return kernel_loop_index(to->kernel, loop); }

static Substitution *nothing(const Online *to) {
    return substitution_new(graph_arena(to->graph), to->kernel);
}

// A local buffer has `size` elements for each query made together; those of one query lie `width`
// apart, so that lanes are queries.
static int32_t new_register(const Online *to, const char *name, int64_t size) {
    return kernel_buffer(to->kernel, name, DT_F32, SPACE_REGISTER, size * to->width, true);
}

static Index own(const Online *to, Index element) {
    if (to->width == 1) return element;
    return index_add(to->indices, index_scale(to->indices, element, to->width),
                     at_loop(to, to->row));
}

static Id load(const Online *to, int32_t buffer, Index element) {
    return kernel_load(to->kernel, buffer, own(to, element), -1);
}

static Id scalar(const Online *to, int32_t buffer) { return load(to, buffer, first(to)); }

// What is made between the two is a store for one query.
static void open_row(Online *to, const char *what) {
    const char *name = arena_print(graph_arena(to->graph), "%s_row", what);
    if (to->width > 1) to->row = new_loop(to, name, index_const(to->indices, to->width), -1);
}

static Statement *close_row(const Online *to, Statement *store) {
    if (to->width == 1) return store;
    Substitution *by = nothing(to);
    Index before = index_scale(to->indices, at_loop(to, to->tile), to->width);
    by->loop[to->query] = index_add(to->indices, before, at_loop(to, to->row));
    statement_substitute(to->kernel, store, by);
    return statement_loop(to->kernel, to->row, store);
}

static Statement *store_own(const Online *to, Role role, int32_t buffer, Index element, Id value) {
    return close_row(to, statement_store(to->kernel, role, buffer, own(to, element), value));
}

static void put_scalar(Online *to, Role role, int32_t buffer, Id value) {
    put(to, store_own(to, role, buffer, first(to), value));
}

// 2^(scale * (x - max))
static Id power(const Online *to, Id x, Id max) {
    Graph *graph = to->graph;
    Id down = node_binary(graph, OP_ADD, x, node_binary(graph, OP_MUL, max, real(to, -1)));
    return node_unary(graph, OP_EXP2, node_binary(graph, OP_MUL, down, real(to, to->scale)));
}

// What powers are taken against: a maximum of -inf stands for no score yet, and -inf less itself
// is no number.
static Id safe(const Online *to, Id max) {
    Id seen = node_binary(to->graph, OP_CMPNE, max, real(to, -(double)INFINITY));
    return node_where(to->graph, seen, max, real(to, 0));
}

// Row-major over some loops, after `outer`; `by` says what stands in their place.
static Index row_major(const Online *to, Index outer, int loops, const int32_t *loop,
                       const Substitution *by) {
    for (int i = 0; i < loops; i++) {
        Index here = by ? by->loop[loop[i]] : at_loop(to, loop[i]);
        outer = index_scale(to->indices, outer, extent_of(to, loop[i]));
        outer = index_add(to->indices, outer, here);
    }
    return outer;
}

static Substitution *copy_loops(const Online *to, int loops, const int32_t *loop) {
    Substitution *by = nothing(to);
    for (int i = 0; i < loops; i++) kernel_loop_copy(to->kernel, loop[i], "_sum", by);
    return by;
}

// The statement inside the copies.
static Statement *over_copies(const Online *to, int loops, const int32_t *loop,
                              const Substitution *by, Statement *statement) {
    for (int i = loops - 1; i >= 0; i--) {
        const Term *copy;
        index_terms(to->indices, by->loop[loop[i]], &copy);
        int32_t of = index_atom_of(to->indices, copy->atom)->of;
        statement = statement_loop(to->kernel, of, statement);
    }
    return statement;
}

static Index state_element(const Online *to, const Sum *sum, const Substitution *by) {
    return row_major(to, first(to), sum->extras, sum->extra, by);
}

// A sum's state becomes 0, or is scaled, for each point of its extra loops. factor -1: none.
static void put_states(Online *to, const Sum *sum, int32_t factor) {
    open_row(to, factor < 0 ? "start" : "scale");
    Substitution *by = copy_loops(to, sum->extras, sum->extra);
    Index element = state_element(to, sum, by);
    Id value = real(to, 0);
    if (factor >= 0)
        value = node_binary(to->graph, OP_MUL, load(to, sum->state, element), scalar(to, factor));
    Role role = factor < 0 ? ROLE_INIT : ROLE_UPDATE;
    Statement *store = store_own(to, role, sum->state, element, value);
    put(to, over_copies(to, sum->extras, sum->extra, by, store));
}

static void put_start(Online *to) {
    to->running = new_register(to, "m", 1);
    open_row(to, "start");
    put_scalar(to, ROLE_INIT, to->running, real(to, -(double)INFINITY));
    for (int i = 0; i < to->sums; i++) {
        to->sum[i].state = new_register(to, to->sum[i].extras ? "o" : "l", to->sum[i].size);
        put_states(to, &to->sum[i], -1);
    }
}

// Besides the power, does the body read what is not there beyond the last key?
static bool reads_memory(const Online *to, const Sum *sum) {
    Substitution *by = nothing(to);
    by->node[sum->power] = real(to, 1);
    return has_op(to, kernel_substitute(to->kernel, sum->body, by), OP_LOAD);
}

// for key { for d { o[d] += score[key] * .. } }
static void put_sum(Online *to, const Sum *sum, const Keys *keys, int32_t score) {
    Index limit = reads_memory(to, sum) ? keys->limit : -1;
    int32_t key = new_loop(to, "key", keys->extent, limit);
    open_row(to, "sum");
    Substitution *by = copy_loops(to, sum->extras, sum->extra);
    by->loop[sum->loop] = index_add(to->indices, keys->base, at_loop(to, key));
    by->node[sum->power] = load(to, score, at_loop(to, key));
    Id body = kernel_substitute(to->kernel, sum->body, by);
    Index element = state_element(to, sum, by);
    body = fold_into(to->graph, OP_ADD, body, load(to, sum->state, element));
    Statement *update = store_own(to, ROLE_UPDATE, sum->state, element, body);
    update = over_copies(to, sum->extras, sum->extra, by, update);
    put(to, statement_loop(to->kernel, key, update));
}

// score[key] = value, for all keys or those that are there
static void put_scores(Online *to, const char *name, const Keys *keys, bool all, int32_t score,
                       Id value) {
    int32_t key = new_loop(to, name, keys->extent, all ? -1 : keys->limit);
    Substitution *by = nothing(to);
    by->loop[to->loop] = index_add(to->indices, all ? first(to) : keys->base, at_loop(to, key));
    value = kernel_substitute(to->kernel, value, by);
    Statement *store = store_own(to, ROLE_STORE, score, at_loop(to, key), value);
    put(to, statement_loop(to->kernel, key, store));
}

// max = the larger of it and of all scores
static void put_max(Online *to, int32_t max, Index extent, Id score, int32_t along) {
    int32_t key = new_loop(to, "top", extent, -1);
    Substitution *by = nothing(to);
    by->loop[along] = at_loop(to, key);
    score = kernel_substitute(to->kernel, score, by);
    Id value = node_binary(to->graph, OP_MAX, score, scalar(to, max));
    put(to, statement_loop(to->kernel, key, store_own(to, ROLE_UPDATE, max, first(to), value)));
}

// Joins the keys to the running state. The sums of no key yet need no scaling: `fresh`.
static void put_block(Online *to, const Keys *keys, bool fresh) {
    int32_t score = new_register(to, "score", keys->most), next = new_register(to, "next", 1),
            against = new_register(to, "against", 1), scale = -1;
    if (keys->limit >= 0) {
        open_row(to, "pad");
        put_scores(to, "pad", keys, true, score, real(to, -(double)INFINITY));
    }
    open_row(to, "score");
    put_scores(to, "key", keys, false, score, to->scored);
    open_row(to, "next");
    put_scalar(to, ROLE_STORE, next, scalar(to, to->running));
    open_row(to, "top");
    put_max(to, next, keys->extent, load(to, score, at_loop(to, to->loop)), to->loop);
    open_row(to, "against");
    put_scalar(to, ROLE_STORE, against, safe(to, scalar(to, next)));
    if (!fresh) {
        scale = new_register(to, "scale", 1);
        open_row(to, "factor");
        put_scalar(to, ROLE_STORE, scale, power(to, scalar(to, to->running), scalar(to, against)));
    }
    open_row(to, "m");
    put_scalar(to, ROLE_STORE, to->running, scalar(to, next));
    open_row(to, "power");
    Id score_here = load(to, score, at_loop(to, to->loop));
    put_scores(to, "power", keys, true, score,
               power_of(to, &to->sum[0], score_here, scalar(to, against)));
    for (int i = 0; i < to->sums; i++) {
        if (!fresh) put_states(to, &to->sum[i], scale);
        put_sum(to, &to->sum[i], keys, score);
    }
}

// The store, which takes the states' values in place of the folds.
static void put_finish(Online *to) {
    open_row(to, "out");
    Substitution *by = nothing(to);
    by->node[to->max] = scalar(to, to->running);
    for (int i = 0; i < to->sums; i++) {
        const Sum *sum = &to->sum[i];
        by->node[sum->fold] = load(to, sum->state, state_element(to, sum, NULL));
    }
    Statement *nest = to->store;
    nest->role = ROLE_FINISH;
    statement_substitute(to->kernel, nest, by);
    for (int i = to->loops - 1; i >= to->rows; i--)
        nest = statement_loop(to->kernel, to->chain[i], nest);
    put(to, close_row(to, nest));
}

static Statement *over_rows(const Online *to, Statement *body) {
    for (int i = to->rows - 1; i >= 0; i--) {
        bool tiled = to->width > 1 && to->chain[i] == to->query;
        body = statement_loop(to->kernel, tiled ? to->tile : to->chain[i], body);
    }
    return body;
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
    const Node *reduce = node_of(to, fold);
    int32_t loop[CHAIN_MAX];
    int loops = (int)reduce->arg[1];
    int64_t size = 1;
    for (int i = 0; i < loops; i++) size *= extent_of(to, loop[i] = (int32_t)reduce->arg[2 + i]);
    int32_t buffer = new_register(to, "query", size);
    open_row(to, "query");
    Substitution *by = copy_loops(to, loops, loop);
    Index element = row_major(to, first(to), loops, loop, by);
    Id value = kernel_substitute(to->kernel, factor, by);
    put(to, over_copies(to, loops, loop, by, store_own(to, ROLE_STORE, buffer, element, value)));
    by = nothing(to);
    Index row = index_mod(to->indices, at_loop(to, to->query), to->width);
    element = index_scale(to->indices, row_major(to, first(to), loops, loop, NULL), to->width);
    by->node[factor] = kernel_load(to->kernel, buffer, index_add(to->indices, element, row), -1);
    to->scored = kernel_substitute(to->kernel, to->score, by);
}

// Many queries: blocks of keys one after the other, what is left over as a shorter one.
static void run_through(Online *to) {
    Index keys = to->kernel->loops.at[to->loop].extent, one = index_const(to->indices, 1);
    int64_t all = max_i64(1, index_high(to->indices, keys)), left = -1;
    int64_t most = min_i64(all, THROUGH * to->width / WIDEST);  // few queries: a short rest
    Index whole = index_div(to->indices, keys, most), rest = index_mod(to->indices, keys, most);
    Statement *body = NULL;
    to->tile = new_loop(to, "tile", index_const(to->indices, to->queries / to->width), -1);
    to->end = &body;
    put_queries(to);
    put_start(to);
    for (int part = 0; part < 2; part++) {
        Statement **after = to->end, *blocks = NULL;
        if (part == 1 && index_is_const(to->indices, rest, &left) && left == 0) break;
        Index up = index_add(to->indices, rest, index_const(to->indices, most - 1));
        int32_t block = part ? new_loop(to, "rest", index_div(to->indices, up, most), -1)
                             : new_loop(to, "block", whole, -1);
        Index base = index_scale(to->indices, part ? whole : at_loop(to, block), most);
        Keys here = {base, part ? rest : index_scale(to->indices, one, most), -1, most};
        to->end = &blocks;
        put_block(to, &here, false);
        to->end = after;
        put(to, statement_loop(to->kernel, block, blocks));
    }
    put_finish(to);
    to->kernel->body = over_rows(to, body);
}

// ---- side by side ------------------------------------------------------------------------------

typedef struct {
    int32_t loop, max;  // over blocks; their maxima
    Index blocks;
    int64_t most;
} Parts;

static Index part_of(const Online *to, const Parts *parts, Index block) {
    Index row = row_major(to, first(to), to->rows, to->chain, NULL);
    return index_add(to->indices, index_scale(to->indices, row, parts->most), block);
}

static int32_t shared(const Online *to, const char *name, int64_t size) {
    return kernel_buffer(to->kernel, name, DT_F32, SPACE_SHARED, size, true);
}

static void put_part(Online *to, const Parts *parts, Sum *sum, int64_t size) {
    Index part = part_of(to, parts, at_loop(to, parts->loop));
    Substitution *by = copy_loops(to, sum->extras, sum->extra);
    sum->partial = shared(to, sum->extras ? "part_o" : "part_l", size * sum->size);
    Statement *store = statement_store(to->kernel, ROLE_STORE, sum->partial,
                                       row_major(to, part, sum->extras, sum->extra, by),
                                       load(to, sum->state, state_element(to, sum, by)));
    put(to, over_copies(to, sum->extras, sum->extra, by, store));
}

static Statement *blocks_apart(Online *to, Parts *parts, int64_t keys) {
    Statement *body = NULL, *at;
    int64_t size = parts->most;
    for (int i = 0; i < to->rows; i++) size *= extent_of(to, to->chain[i]);
    to->end = &body;
    parts->loop = new_loop(to, "block", parts->blocks, -1);
    parts->max = shared(to, "part_m", size);
    Index base = index_scale(to->indices, at_loop(to, parts->loop), keys);
    Index left = index_sub(to->indices, to->kernel->loops.at[to->loop].extent, base);
    bool whole = index_low(to->indices, left) >= keys;
    put_start(to);
    put_block(to, &(Keys){base, index_const(to->indices, keys), whole ? -1 : left, keys}, true);
    Index part = part_of(to, parts, at_loop(to, parts->loop));
    put(to, statement_store(to->kernel, ROLE_STORE, parts->max, part, scalar(to, to->running)));
    for (int i = 0; i < to->sums; i++) put_part(to, parts, &to->sum[i], size);

    Substitution *by = nothing(to);
    body = statement_loop(to->kernel, parts->loop, body);
    for (int i = 0; i < to->rows; i++) kernel_loop_copy(to->kernel, to->chain[i], "_part", by);
    at = over_copies(to, to->rows, to->chain, by, body);
    statement_substitute(to->kernel, at, by);
    return at;
}

// for block { for d { o[d] += part_o[block, d] * part_m[block] } }
static void put_joined(Online *to, const Parts *parts, const Sum *sum) {
    int32_t block = new_loop(to, "join", parts->blocks, -1);
    Substitution *by = copy_loops(to, sum->extras, sum->extra);
    Index part = part_of(to, parts, at_loop(to, block)), element = state_element(to, sum, by);
    Index partial = row_major(to, part, sum->extras, sum->extra, by);
    Id value = node_fma(to->graph, load(to, sum->partial, partial), load(to, parts->max, part),
                        load(to, sum->state, element));
    Statement *update = store_own(to, ROLE_UPDATE, sum->state, element, value);
    update = over_copies(to, sum->extras, sum->extra, by, update);
    put(to, statement_loop(to->kernel, block, update));
}

// Few queries: threads share the blocks, whose states are joined afterwards. The maximum of a block
// becomes what its sums are scaled by.
static void run_apart(Online *to) {
    Index extent = to->kernel->loops.at[to->loop].extent;
    int64_t keys = min_i64(max_i64(1, index_high(to->indices, extent)), APART);
    Index up = index_add(to->indices, extent, index_const(to->indices, keys - 1));
    Parts parts = {.blocks = index_div(to->indices, up, keys)};
    parts.most = index_high(to->indices, parts.blocks);
    Statement *nest = blocks_apart(to, &parts, keys), *body = NULL;
    to->end = &body;
    put_start(to);
    int32_t block = new_loop(to, "power", parts.blocks, -1);
    Index part = part_of(to, &parts, at_loop(to, block));
    put_max(to, to->running, parts.blocks, load(to, parts.max, part), block);
    int32_t against = new_register(to, "against", 1);
    put_scalar(to, ROLE_STORE, against, safe(to, scalar(to, to->running)));
    Id factor = power(to, load(to, parts.max, part), scalar(to, against));
    Statement *store = statement_store(to->kernel, ROLE_STORE, parts.max, part, factor);
    put(to, statement_loop(to->kernel, block, store));
    for (int i = 0; i < to->sums; i++) put_joined(to, &parts, &to->sum[i]);
    put_finish(to);
    nest->next = over_rows(to, body);
    to->kernel->body = nest;
}

bool online(Kernel *kernel) {
    Online to = online_new(kernel);
    if (!find_all(&to)) return false;
    to.scored = to.score;
    if (to.width > 1)
        run_through(&to);
    else
        run_apart(&to);
    return true;
}
