/* transform_through.c - PIPELINE of a loop through registers: what is computed on its way to shared
 * memory is loaded while an earlier slice is computed with, and stored behind that.
 * In: a loop of a block whose body fills shared memory, perhaps behind copies that PIPELINE made
 * asynchronous, then reads it.
 * Out: two places for what is filled; the first filled before the loop; a body that loads the next
 * slice into registers, computes with this one, then stores the next one to the other place.
 * Invariant: a store `apart` goes where nobody reads before the SETTLE at the body's beginning, and
 * a barrier (codegen/scan.c) follows that; a register is the same thread's in both its nests.
 *   PIPELINE k through reg   for k < 8 { b_shared[t] = (tf32 b[32*k + t]) ; .. b_shared[t] .. }  =>
 *       b_shared[t] = (tf32 b[t])
 *       for k < 8 { settle 0 ; b_next[t] = b[32*k + t + 32] when k < 7 ; .. b_shared[32*(k%2) + t]
 *                   .. ; apart b_shared[32*((k + 1)%2) + t] = (tf32 b_next[t]) when k < 7 }      */
#include "schedule/schedule.h"

enum { PLACES = 2, NEST_MAX = 16 };
typedef struct {
    const ScheduleLine *line;
    Kernel *kernel;
    IndexTable *table;
    Statement *loop, **fill, *rest;  // fill: the link to what fills; rest: what is behind it
    int64_t extent;
    int32_t buffers;  // before registers are added
    bool *filled;     // by buffer
    Id there;         // there is a next slice
} Through;

static bool reads_given(const Through *to, Id value) {
    IdList nodes = kernel_nodes(to->line->arena, to->kernel, value);
    for (int i = 0; i < nodes.count; i++) {
        const Node *node = graph_node(to->kernel->graph, nodes.at[i]);
        if (node->op != OP_LOAD) continue;
        const KernelBuffer *from = &to->kernel->buffers.at[node->arg[0]];
        if (from->space != SPACE_PARAM || from->written) return false;
    }
    return true;
}

// All that the statement's tree does is to store what it computes from memory that does not change.
static bool fills(Through *to, const Statement *statement) {
    if (statement->kind == STATEMENT_LOOP) {
        for (const Statement *at = statement->body; at; at = at->next)
            if (!fills(to, at)) return false;
        return true;
    }
    if (statement->kind != STATEMENT_STORE || statement->role != ROLE_STORE ||
        to->kernel->buffers.at[statement->buffer].space != SPACE_SHARED ||
        !reads_given(to, statement->value))
        return false;
    to->filled[statement->buffer] = true;
    return true;
}

static bool is_under_way(const Statement *statement) {
    while (statement->kind == STATEMENT_LOOP && statement->body) statement = statement->body;
    return statement->kind == STATEMENT_SETTLE || statement->kind == STATEMENT_COMMIT ||
           (statement->kind == STATEMENT_STORE && statement->role == ROLE_ASYNC);
}

static void find_fill(Through *to) {
    to->fill = &to->loop->body;
    while (*to->fill && is_under_way(*to->fill)) to->fill = &(*to->fill)->next;
    Statement *last = NULL;
    for (to->rest = *to->fill; to->rest && fills(to, to->rest); to->rest = to->rest->next)
        last = to->rest;
    if (!last || !to->rest)
        line_refuse(to->line, to->loop, "it does not fill shared memory first, then read it");
    places_check(to->line, to->filled, to->buffers, to->loop, to->rest);
    last->next = NULL;
}

// ---- registers ---------------------------------------------------------------------------------

// What a register holds of a value: the load that it is made of, so that nobody waits for it before
// it is stored, else all of it.
static Id held_of(const Kernel *kernel, Id value) {
    Id at = value;
    while (graph_node(kernel->graph, at)->op != OP_LOAD &&
           graph_node(kernel->graph, at)->sources == 1)
        at = graph_node(kernel->graph, at)->source[0];
    return graph_node(kernel->graph, at)->op == OP_LOAD ? at : value;
}

static int32_t add_registers(const Through *to, const Statement *store, DType dtype, int loops,
                             const int32_t *loop) {
    const KernelBuffer *filled = &to->kernel->buffers.at[store->buffer];
    int64_t size = 1, extent;
    for (int i = 0; i < loops; i++)
        if (!index_is_const(to->table, to->kernel->loops.at[loop[i]].extent, &extent) ||
            __builtin_mul_overflow(size, extent, &size) || size > INT32_MAX)
            line_refuse(to->line, store, "its loops have no constant extents");
    const char *name = arena_print(to->line->arena, "%s_next", filled->name);
    for (int n = 2; kernel_has_name(to->kernel, name); n++)
        name = arena_print(to->line->arena, "%s_next%d", filled->name, n);
    return kernel_buffer(to->kernel, name, dtype, SPACE_REGISTER, size, true);
}

static void add_condition(const Through *to, Statement *store) {
    store->condition = store->condition < 0
                           ? to->there
                           : node_binary(to->kernel->graph, OP_AND, store->condition, to->there);
}

// Two equal nests: one gets what loads to registers, the other what stores from there.
static void split(const Through *to, Statement *load, Statement *store, int loops,
                  int32_t (*loop)[NEST_MAX]) {
    Kernel *kernel = to->kernel;
    for (; load; load = load->next, store = store->next) {
        if (load->kind == STATEMENT_LOOP) {
            if (loops == NEST_MAX) line_refuse(to->line, store, "too many loops around it");
            loop[0][loops] = load->loop, loop[1][loops] = store->loop;
            split(to, load->body, store->body, loops + 1, loop);
            continue;
        }
        Index zero = index_const(to->table, 0);
        Id held = held_of(kernel, store->value);
        int32_t next = add_registers(to, store, node_dtype(kernel->graph, held), loops, loop[1]);
        load->value = held_of(kernel, load->value);
        load->buffer = next;
        load->index = kernel_row_major(kernel, zero, loops, loop[0]);
        Id taken = kernel_load(kernel, next, kernel_row_major(kernel, zero, loops, loop[1]), -1);
        Substitution *by = substitution_new(to->line->arena, kernel);
        by->node[held] = taken;
        store->value = kernel_substitute(kernel, store->value, by);
        store->role = ROLE_APART;
        add_condition(to, load);
        add_condition(to, store);
    }
}

static void move_to(const Through *to, Statement *list, Index slice) {
    places_move(to->line, to->filled, to->buffers, list, index_mod(to->table, slice, PLACES));
}

static void put_first(const Through *to, const Statement *fill) {
    Substitution *by = substitution_new(to->line->arena, to->kernel);
    by->loop[to->loop->loop] = index_const(to->table, 0);
    Statement *first = statement_copy(to->kernel, fill, "_first", by),
              **link = kernel_link(to->kernel, to->loop);
    statement_last(first)->next = *link;
    *link = first;
}

void transform_through(const ScheduleLine *line, int32_t loop) {
    Kernel *kernel = line->kernel;
    Through to = {.line = line,
                  .kernel = kernel,
                  .table = graph_indices(kernel->graph),
                  .loop = kernel_loop_statement(kernel, loop),
                  .buffers = kernel->buffers.count,
                  .filled = arena_array(line->arena, bool, kernel->buffers.count)};
    line_expect(line, 2, "through");
    line_expect(line, 3, "reg");
    if (kernel->loops.at[loop].kind != LOOP_SERIAL || !kernel_around(kernel, to.loop, LOOP_BLOCK))
        line_refuse(line, to.loop, "it is no plain loop of a block");
    if (!index_is_const(to.table, kernel->loops.at[loop].extent, &to.extent) ||
        to.extent < PLACES || kernel->loops.at[loop].limit >= 0)
        line_refuse(line, to.loop, "it has no constant number of iterations of %d or more", PLACES);
    find_fill(&to);
    Index now = kernel_loop_index(kernel, loop),
          next = index_add(to.table, now, index_const(to.table, 1));
    to.there = node_binary(kernel->graph, OP_CMPLT, kernel_index(kernel, next, DT_I32),
                           kernel_index(kernel, index_const(to.table, to.extent), DT_I32));
    Statement *store = *to.fill;
    put_first(&to, store);
    Substitution *by = substitution_new(line->arena, kernel);
    by->loop[loop] = next;
    statement_substitute(kernel, store, by);
    Statement *load = statement_copy(kernel, store, "_load", substitution_new(line->arena, kernel));
    int32_t around[2][NEST_MAX];
    bool waits = to.loop->body->kind == STATEMENT_SETTLE;
    move_to(&to, store, next);
    move_to(&to, to.rest, now);
    split(&to, load, store, 0, around);
    *to.fill = load;
    statement_last(load)->next = to.rest;
    statement_last(to.rest)->next = store;
    if (!waits) {
        Statement *settle = statement_meeting(kernel, STATEMENT_SETTLE, 0);
        settle->next = to.loop->body;
        to.loop->body = settle;
    }
    places_make(line, to.filled, to.buffers, PLACES);
}
