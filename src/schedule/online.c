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
#include "schedule/online.h"

#include <math.h>

enum {
    APART = 64,      // keys of a block whose state is made apart from others
    GPU_APART = 32,  // on a GPU, where a thread has all of their scores
    THROUGH = 64,    // of one that is joined to those before it
    GPU_GAP = 4,     // elements
    CONDITIONS_MAX = 8,
};

// ---- statements --------------------------------------------------------------------------------

// Keys base .. base + extent, at most `most`; those from `limit` on are not there (-1: all are): a
// loop ends before them, or on a GPU, what they are made of is not read, and their scores are -inf.
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

// A buffer of the kernel's own has `size` elements for each query made together; those of one query
// lie `width` apart, so that lanes are queries.
static int32_t new_register(const Online *to, const char *name, int64_t size) {
    return kernel_buffer(to->kernel, name, DT_F32, SPACE_REGISTER, size * to->width, true);
}

static bool is_tiled(const Online *to) { return to->gpu && to->width > 1; }

// What a thread of a GPU reads that another one made.
static int32_t new_met(const Online *to, const char *name, int64_t size) {
    Space space = is_tiled(to) ? SPACE_SHARED : SPACE_REGISTER;
    return kernel_buffer(to->kernel, name, DT_F32, space, size, true);
}

static Index own(const Online *to, Index element) {
    if (to->width == 1) return element;
    return index_add(to->indices, index_scale(to->indices, element, to->width),
                     index_mod(to->indices, at_loop(to, to->query), to->width));
}

static Id load(const Online *to, int32_t buffer, Index element) {
    return kernel_load(to->kernel, buffer, own(to, element), -1);
}

// On a GPU a thread stores outputs of a query side by side, and 8 threads scores of different keys,
// which the gap lets them do at once.
static Index state_at(const Online *to, const Sum *sum, Index element) {
    if (!is_tiled(to)) return own(to, element);
    Index row = own(to, number(to, 0));
    return index_add(to->indices, index_scale(to->indices, row, sum->size), element);
}

static int64_t gap(const Online *to) { return is_tiled(to) ? GPU_GAP : 0; }

static Index score_at(const Online *to, Index key) {
    return index_add(to->indices, own(to, key), index_scale(to->indices, key, gap(to)));
}

static Id load_score(const Online *to, int32_t score, Index key) {
    return kernel_load(to->kernel, score, score_at(to, key), -1);
}

static Id load_state(const Online *to, const Sum *sum, Index element) {
    return kernel_load(to->kernel, sum->state, state_at(to, sum, element), -1);
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
static void put_at(Online *to, const char *what, int32_t outer, const Loops *loops,
                   const Substitution *by, Role role, int32_t buffer, Index index, Id value) {
    Statement *nest = statement_store(to->kernel, role, buffer, index, value);
    nest = inside(to, loops, by, rows(to, what, nest));
    put(to, outer < 0 ? nest : statement_loop(to->kernel, outer, nest));
}

static void put_store(Online *to, const char *what, int32_t outer, const Loops *loops,
                      const Substitution *by, Role role, int32_t buffer, Index element, Id value) {
    put_at(to, what, outer, loops, by, role, buffer, own(to, element), value);
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

// index < bound
static Id below(const Online *to, Index index, Index bound) {
    bool narrow =
        index_high(to->indices, index) <= INT32_MAX && index_high(to->indices, bound) <= INT32_MAX;
    DType dtype = narrow ? DT_I32 : DT_I64;
    return node_binary(to->graph, OP_CMPLT, kernel_index(to->kernel, index, dtype),
                       kernel_index(to->kernel, bound, dtype));
}

// The value, which loads what moves with the loop where the condition holds.
static Id guarded(const Online *to, Id value, int32_t loop, Id condition) {
    if (condition < 0) return value;
    IdList nodes = kernel_nodes(graph_arena(to->graph), to->kernel, value);
    Substitution *by = nothing(to);
    for (int i = 0; i < nodes.count; i++) {
        const Node *node = node_of(to, nodes.at[i]);
        if (node->op != OP_LOAD || to->kernel->buffers.at[node->arg[0]].space != SPACE_PARAM)
            continue;
        LoopSet used = kernel_loops_of_index(to->kernel, (Index)node->arg[1]);
        if (!loop_set_has(&used, loop)) continue;
        int32_t buffer = (int32_t)node->arg[0];
        Index index = (Index)node->arg[1];
        Id both =
            node->sources ? node_binary(to->graph, OP_AND, node->source[0], condition) : condition;
        by->node[nodes.at[i]] = kernel_load(to->kernel, buffer, index, both);
    }
    return kernel_substitute(to->kernel, value, by);
}

// The last tile of a GPU's may have queries that are not there.
static Id query_is_there(const Online *to) {
    if (!to->gpu || to->queries % to->width == 0) return -1;
    return below(to, at_loop(to, to->query), number(to, to->queries));
}

static Id for_queries(const Online *to, Id value) {
    return guarded(to, value, to->query, query_is_there(to));
}

// A sum's state becomes 0, or is scaled, for each point of its extra loops. factor -1: none.
static void put_states(Online *to, const Sum *sum, int32_t factor) {
    bool fresh = factor < 0;
    Substitution *by = copies(to, &sum->extra, "_sum");
    Index element = row_major(to, number(to, 0), &sum->extra, by);
    Id value =
        fresh ? real(to, 0)
              : node_binary(to->graph, OP_MUL, load_state(to, sum, element), scalar(to, factor));
    put_at(to, fresh ? "start" : "scale", -1, &sum->extra, by, fresh ? ROLE_INIT : ROLE_UPDATE,
           sum->state, state_at(to, sum, element), value);
}

static void put_start(Online *to) {
    to->running = new_register(to, "m", 1);
    put_scalar(to, "start", ROLE_INIT, to->running, real(to, -(double)INFINITY));
    for (int i = 0; i < to->sums; i++) {
        Sum *sum = &to->sum[i];
        sum->state = sum->extra.count ? new_register(to, "o", sum->size)
                                      : new_met(to, "l", sum->size * to->width);
        put_states(to, sum, -1);
    }
}

// for key { for d { o[d] += score[key] * .. } }; what is weighed may not be there behind the keys.
static void put_sum(Online *to, const Sum *sum, const Keys *keys, int32_t score) {
    bool reads = online_has_op(to, online_weighed(to, sum), OP_LOAD);
    int32_t key = new_loop(to, "key", keys->extent, reads && !to->gpu ? keys->limit : -1);
    Substitution *by = copies(to, &sum->extra, "_sum");
    by->loop[sum->loop] = index_add(to->indices, keys->base, at_loop(to, key));
    by->node[sum->power] = load_score(to, score, at_loop(to, key));
    Id body = kernel_substitute(to->kernel, sum->body, by);
    if (to->gpu && keys->limit >= 0)
        body = guarded(to, body, key, below(to, at_loop(to, key), keys->limit));
    Index element = row_major(to, number(to, 0), &sum->extra, by);
    body = fold_into(to->graph, OP_ADD, body, load_state(to, sum, element));
    put_at(to, "sum", key, &sum->extra, by, ROLE_UPDATE, sum->state, state_at(to, sum, element),
           body);
}

// score[key] = value, for all keys or those that are there
static void put_scores(Online *to, const char *name, const Keys *keys, bool all, int32_t score,
                       Id value) {
    int32_t key = new_loop(to, name, keys->extent, all || to->gpu ? -1 : keys->limit);
    Substitution *by = nothing(to);
    by->loop[to->loop] = index_add(to->indices, all ? number(to, 0) : keys->base, at_loop(to, key));
    value = kernel_substitute(to->kernel, value, by);
    if (to->gpu && !all) value = for_queries(to, value);
    if (to->gpu && !all && keys->limit >= 0) {
        Id there = below(to, at_loop(to, key), keys->limit);
        value = guarded(to, value, key, there);
        value = node_where(to->graph, there, value, real(to, -(double)INFINITY));
    }
    put_at(to, name, key, &none, NULL, ROLE_STORE, score, score_at(to, at_loop(to, key)), value);
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
    int32_t score = new_met(to, "score", keys->most * (to->width + gap(to))),
            next = new_register(to, "next", 1),
            factor = fresh ? -1 : new_met(to, "scale", to->width);
    Id here = load_score(to, score, at_loop(to, to->loop));
    if (keys->limit >= 0 && !to->gpu)
        put_scores(to, "pad", keys, true, score, real(to, -(double)INFINITY));
    put_scores(to, "key", keys, false, score, to->scored);
    put_scalar(to, "next", ROLE_STORE, next, scalar(to, to->running));
    put_max(to, next, keys->extent, here, to->loop);
    int32_t against = put_against(to, next);
    if (!fresh)
        put_scalar(to, "factor", ROLE_STORE, factor,
                   power(to, scalar(to, to->running), scalar(to, against)));
    put_scalar(to, "m", ROLE_STORE, to->running, scalar(to, next));
    put_scores(to, "power", keys, true, score,
               online_power(to, &to->sum[0], here, scalar(to, against)));
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
        by->node[sum->fold] = load_state(to, sum, element);
    }
    to->store->role = ROLE_FINISH;
    to->store->condition = query_is_there(to);
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
    int32_t buffer = new_met(to, "query", size * to->width);
    Substitution *by = copies(to, &loops, "_sum");
    put_store(to, "query", -1, &loops, by, ROLE_STORE, buffer,
              row_major(to, number(to, 0), &loops, by),
              for_queries(to, kernel_substitute(to->kernel, factor, by)));
    by = nothing(to);
    by->node[factor] = load(to, buffer, row_major(to, number(to, 0), &loops, NULL));
    to->scored = kernel_substitute(to->kernel, to->scored, by);
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

// Keys of a block that are joined to those before it.
static int64_t keys_through(const Online *to) {
    Index keys = to->kernel->loops.at[to->loop].extent;
    int64_t most = THROUGH;
    for (int i = 0; i < to->sums && to->gpu; i++)
        if (to->sum[i].size > ONLINE_HELD) most = THROUGH / 2;
    if (to->gpu) return most;
    return min_i64(max_i64(1, index_high(to->indices, keys)),
                   min_i64(most, 4 * to->width));  // few queries: a short rest
}

// Many queries: blocks of keys one after the other, what is left over as a shorter one, or on a GPU
// as one that is filled up; not those that are hidden from all queries.
static void run_through(Online *to) {
    Index keys = to->kernel->loops.at[to->loop].extent;
    int64_t most = keys_through(to), left = -1;
    Index up = to->gpu ? index_add(to->indices, keys, number(to, most - 1)) : keys;
    Index whole = index_div(to->indices, up, most), rest = index_mod(to->indices, keys, most);
    Index some = index_div(to->indices, index_add(to->indices, rest, number(to, most - 1)), most);
    bool even = index_is_const(to->indices, rest, &left) && left == 0;
    Statement *body = NULL;
    to->tile = new_loop(to, "strip", number(to, pieces(to->queries, to->width)), -1);
    to->rows.loop[to->rows.count - 1] = to->tile;
    Index end = find_end_of_tile(to), ends[2] = {-1, -1};
    if (end >= 0) {
        up = index_add(to->indices, end, number(to, most - 1));
        ends[0] = index_div(to->indices, up, most);
        ends[1] = index_sub(to->indices, end, index_scale(to->indices, whole, most));
    }
    to->end = &body;
    put_queries(to);
    put_start(to);
    for (int part = 0; part < (even || to->gpu ? 1 : 2); part++) {
        Statement **after = to->end, *blocks = NULL;
        int32_t block = new_loop(to, part ? "rest" : "block", part ? some : whole, ends[part]);
        Index base = index_scale(to->indices, part ? whole : at_loop(to, block), most);
        Index limit = to->gpu && !even ? index_sub(to->indices, keys, base) : -1;
        to->end = &blocks;
        put_block(to, &(Keys){base, part ? rest : number(to, most), limit, most}, false);
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
    int64_t keys =
        min_i64(max_i64(1, index_high(to->indices, extent)), to->gpu ? GPU_APART : APART);
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

bool online(Kernel *kernel, bool gpu) {
    Online to;
    if (!online_find(&to, kernel, gpu)) return false;
    if (to.width > 1)
        run_through(&to);
    else
        run_apart(&to);
    return true;
}
