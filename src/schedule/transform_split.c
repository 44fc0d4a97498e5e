/* transform_split.c - SPLIT and FUSE: one loop becomes two, two become one.
 * In: a loop and a factor; or two loops, one directly inside the other.  Out: the tree changed.
 * Invariant: the same iterations in the same order; a padded split runs some more, which touch no
 * memory but what is private to an iteration.
 *   SPLIT i 14   for i < 64 { x[i] }   =>
 *       for i0 < 5 { for i1 < 14, 64 - 14*i0 { x[14*i0 + i1] } }                                 */
#include "schedule/schedule.h"

#include <string.h>

// b may be part of a already.
static Id both(Graph *graph, Id a, Id b) {
    const Node *node = a < 0 ? NULL : graph_node(graph, a);
    if (!node) return b;
    bool has = a == b || (node->op == OP_AND && (node->source[0] == b || node->source[1] == b));
    return has ? a : node_binary(graph, OP_AND, a, b);
}

// index < bound
static Id below(Kernel *kernel, Index index, Index bound) {
    IndexTable *table = graph_indices(kernel->graph);
    bool narrow = index_high(table, index) <= INT32_MAX && index_high(table, bound) <= INT32_MAX;
    DType dtype = narrow ? DT_I32 : DT_I64;
    return node_binary(kernel->graph, OP_CMPLT, kernel_index(kernel, index, dtype),
                       kernel_index(kernel, bound, dtype));
}

// Iterations past the end read 0 where they would leave a buffer, and store only in what is private
// to the body: `keep` says which buffers are.
static void guard_memory(Kernel *kernel, Statement *list, LoopSet loops, Id inside,
                         const bool *keep) {
    Arena *arena = graph_arena(kernel->graph);
    IndexTable *table = graph_indices(kernel->graph);
    AccessList accesses = kernel_accesses(arena, kernel, list, -1);
    Substitution *by = substitution_new(arena, kernel);
    for (int i = 0; i < accesses.count; i++) {
        const Access *access = &accesses.at[i];
        if (access->load < 0) continue;
        LoopSet used = kernel_loops_of_index(kernel, access->index);
        bool moves = !loop_set_within(used, loops);
        bool leaves = index_high(table, access->index) >= kernel->buffers.at[access->buffer].size;
        if (!moves || !leaves) continue;
        const Node *load = graph_node(kernel->graph, access->load);
        Id condition = both(kernel->graph, load->sources ? load->source[0] : -1, inside);
        by->node[access->load] = kernel_load(kernel, access->buffer, access->index, condition);
    }
    statement_substitute(kernel, list, by);
    for (int i = 0; i < accesses.count; i++) {
        Statement *store = accesses.at[i].statement;
        if (accesses.at[i].load >= 0) continue;
        LoopSet used = kernel_loops_of_index(kernel, store->index);
        if (!keep[store->buffer] || !loop_set_within(used, loops))
            store->condition = both(kernel->graph, store->condition, inside);
    }
}

// A load reads 0 where its condition does not hold.
static Id zero_past(Kernel *kernel, Id value, Id inside) {
    Graph *graph = kernel->graph;
    Node node = *graph_node(graph, value);
    if (node.op == OP_LOAD)
        return kernel_load(kernel, (int32_t)node.arg[0], (Index)node.arg[1],
                           both(graph, node.sources ? node.source[0] : -1, inside));
    return node_where(graph, inside, value, node_const_float(graph, node.dtype, (Shape){0}, 0));
}

// A product that is added to a sum: past the end both factors are 0, so that it needs no condition.
static void zero_terms(const ScheduleLine *line, Statement *update, Id inside, bool *keep) {
    Graph *graph = line->kernel->graph;
    Op fold;
    while (update->kind == STATEMENT_LOOP && !update->next) update = update->body;
    if (update->next || !legal_fold(line->kernel, update, &fold) || fold != OP_ADD ||
        graph_node(graph, update->value)->op != OP_FMA)
        line_refuse(line, update, "not a sum of products. Hint: SPLIT .. pad");
    Node value = *graph_node(graph, update->value);
    Id x = zero_past(line->kernel, value.source[0], inside),
       y = zero_past(line->kernel, value.source[1], inside);
    update->value = node_fma(graph, x, y, value.source[2]);
    keep[update->buffer] = true;
}

// The iterations from `first` on, as a loop of their own with its own private buffers.
static Statement *peel_tail(Kernel *kernel, Statement *body, int32_t loop, int32_t tail,
                            Index first) {
    IndexTable *table = graph_indices(kernel->graph);
    bool *own = legal_privates(kernel, body);
    Substitution *by = substitution_new(graph_arena(kernel->graph), kernel);
    by->loop[loop] = index_add(table, first, kernel_loop_index(kernel, tail));
    Statement *copy = statement_copy(kernel, body, "_tail", by);
    for (int32_t buffer = 0, count = kernel->buffers.count; buffer < count; buffer++) {
        KernelBuffer info = kernel->buffers.at[buffer];
        if (!own[buffer] ||
            !kernel_accesses(graph_arena(kernel->graph), kernel, copy, buffer).count)
            continue;
        int32_t to = kernel_buffer(kernel, info.name, info.dtype, info.space, info.size, true);
        statement_relocate(kernel, copy, buffer, to, NULL, NULL);
    }
    return statement_loop(kernel, tail, copy);
}

int32_t split_loop(const ScheduleLine *line, int32_t loop, int64_t factor, const char *tail) {
    Kernel *kernel = line->kernel;
    IndexTable *table = graph_indices(kernel->graph);
    Statement *at = kernel_loop_statement(kernel, loop);
    Loop info = kernel->loops.at[loop];
    bool peels = !strcmp(tail, "peel"), pads = !strcmp(tail, "pad"), zeros = !strcmp(tail, "zero");
    int64_t left = -1;
    Index rest = index_mod(table, info.extent, factor);
    bool even = index_is_const(table, rest, &left) && left == 0;
    if (!peels && !pads && !zeros && strcmp(tail, "guard") != 0)
        line_refuse(line, at, "no tail '%s'. Hint: guard, peel, pad, zero", tail);
    if (info.kind != LOOP_SERIAL) line_refuse(line, at, "split a loop before it gets a kind");
    if (info.limit >= 0 && !even)
        line_refuse(line, at, "the loop has a limit and %lld does not divide it",
                    (long long)factor);
    if (peels && index_high(table, info.extent) < factor)
        line_refuse(line, at, "fewer iterations than %lld", (long long)factor);

    Index up = index_add(table, info.extent, index_const(table, peels ? 0 : factor - 1));
    Size pieces = size_from_index(table, index_div(table, up, factor));
    int32_t outer = kernel_loop(kernel, arena_print(line->arena, "%s0", info.name), pieces);
    int32_t inner = kernel_loop(kernel, arena_print(line->arena, "%s1", info.name), factor);
    Index start = index_scale(table, kernel_loop_index(kernel, outer), factor);
    Index whole = index_add(table, start, kernel_loop_index(kernel, inner));
    if (info.limit >= 0)
        kernel->loops.at[inner].limit = index_sub(table, info.limit, start);
    else if (!even && !peels && !pads && !zeros)
        kernel->loops.at[inner].limit = index_sub(table, info.extent, start);

    if (!even && peels) {
        const char *name = arena_print(line->arena, "%s2", info.name);
        int32_t last = kernel_loop(kernel, name, size_from_index(table, rest));
        Index first = index_scale(table, index_div(table, info.extent, factor), factor);
        Statement *copy = peel_tail(kernel, at->body, loop, last, first);
        copy->next = at->next;
        at->next = copy;
    }
    bool *keep = (pads || zeros) && !even ? legal_privates(kernel, at->body) : NULL;
    Substitution *by = substitution_new(line->arena, kernel);
    by->loop[loop] = whole;
    statement_substitute(kernel, at->body, by);
    if (keep) {
        LoopSet others;
        for (int i = 0; i < COUNT_OF(others.word); i++) others.word[i] = UINT64_MAX;
        loop_set_remove(&others, outer);
        loop_set_remove(&others, inner);
        Id inside = below(kernel, whole, info.extent);
        if (zeros) zero_terms(line, at->body, inside, keep);
        guard_memory(kernel, at->body, others, inside, keep);
    }
    at->body = statement_loop(kernel, inner, at->body);
    at->loop = outer;
    return inner;
}

void transform_split(const ScheduleLine *line) {
    int32_t loop = line_loop(line, line_word(line, 1));
    split_loop(line, loop, line_number(line, 2), line->words > 3 ? line->word[3] : "guard");
}

static int32_t fuse_two(const ScheduleLine *line, int32_t loop, int32_t nested, const char *name) {
    Kernel *kernel = line->kernel;
    IndexTable *table = graph_indices(kernel->graph);
    Statement *outer = kernel_loop_statement(kernel, loop),
              *inner = kernel_loop_statement(kernel, nested);
    Loop a = kernel->loops.at[loop], b = kernel->loops.at[nested];
    int64_t size;
    if (outer->body != inner || inner->next)
        line_refuse(line, inner, "not alone inside %s", a.name);
    if (a.limit >= 0 || b.limit >= 0)
        line_refuse(line, a.limit >= 0 ? outer : inner, "it has a limit");
    if (a.kind != LOOP_SERIAL || b.kind != LOOP_SERIAL)
        line_refuse(line, inner, "fuse loops before they get a kind");
    if (!index_is_const(table, b.extent, &size) || size < 1)
        line_refuse(line, inner, "its extent is not a constant of 1 or more");
    Size extent = size_from_index(table, index_scale(table, a.extent, size));
    if (name && kernel_has_name(kernel, name))
        line_refuse(line, outer, "%s is a name or a word of the language already", name);
    if (!name) name = arena_print(line->arena, "%s_%s", a.name, b.name);
    int32_t fused = kernel_loop(kernel, name, extent);
    Substitution *by = substitution_new(line->arena, kernel);
    by->loop[loop] = index_div(table, kernel_loop_index(kernel, fused), size);
    by->loop[nested] = index_mod(table, kernel_loop_index(kernel, fused), size);
    outer->loop = fused;
    outer->body = inner->body;
    statement_substitute(kernel, outer->body, by);
    return fused;
}

void transform_fuse(const ScheduleLine *line) {
    int32_t loop = line_loop(line, line_word(line, 1));
    bool named = line->words > 4 && !strcmp(line->word[line->words - 2], "as");
    int last = named ? line->words - 3 : line->words - 1;
    for (int word = 2; word <= last || word == 2; word++) {
        const char *name = named && word == last ? line->word[line->words - 1] : NULL;
        loop = fuse_two(line, loop, line_loop(line, line_word(line, word)), name);
    }
}
