/* once.c - what a kernel makes of weights alone is taken out of it, to be made once and for all.
 * In: a scheduled kernel that fills ONCE buffers at its top.  Out: kernels that fill one each, and
 * the kernel without them, which reads them as weights.
 * Invariant: a ONCE buffer is filled by one nest at the top, which reads weights and no VARs; so
 * the same memory serves every call, and every kernel that wants it laid out this way.
 *   weight a f32[4096] ; once a_once f32[4096] ; for k { for j { a_once[..] = a[..] } } ; REST
 *   =>   weight a ; weight a_once ; REST    and   weight a ; out b ; for i0 { for i1 { .. } }    */
#include "schedule/schedule.h"

static Statement *innermost(Statement *nest) {
    while (nest->kind == STATEMENT_LOOP) nest = nest->body;
    return nest;
}

// A step of the outer loop is as far as all of the inner one's, in `index`.
static bool continues(const Kernel *kernel, Index index, int32_t outer, int32_t inner) {
    IndexTable *table = graph_indices(kernel->graph);
    int64_t step, small, extent;
    return index_stride(table, index, outer, &step) && index_stride(table, index, inner, &small) &&
           index_is_const(table, kernel->loops.at[inner].extent, &extent) && step == extent * small;
}

static bool all_continue(const Kernel *kernel, const Statement *store, int32_t outer,
                         int32_t inner) {
    IdList nodes = statement_nodes(graph_arena(kernel->graph), kernel, store);
    bool all = continues(kernel, store->index, outer, inner);
    for (int i = 0; i < nodes.count; i++) {
        const Node *node = graph_node(kernel->graph, nodes.at[i]);
        if (node->op == OP_LOAD || node->op == OP_INDEX)
            all &= continues(kernel, (Index)node->arg[node->op == OP_LOAD], outer, inner);
    }
    return all;
}

static bool runs_once(const Kernel *kernel, const Statement *loop) {
    int64_t extent;
    return index_is_const(graph_indices(kernel->graph), kernel->loops.at[loop->loop].extent,
                          &extent) &&
           extent == 1;
}

// A copy says where it goes in as few loops as can be: two kernels may cut one loop differently.
static void merge_loops(Kernel *kernel, Statement *outer) {
    IndexTable *table = graph_indices(kernel->graph);
    while (outer->kind == STATEMENT_LOOP && outer->body->kind == STATEMENT_LOOP) {
        Statement *inner = outer->body, *store = innermost(inner), *next = outer->next;
        if (runs_once(kernel, outer)) {
            *outer = *inner;
            outer->next = next;
            continue;
        }
        if (!all_continue(kernel, store, outer->loop, inner->loop)) {
            outer = inner;
            continue;
        }
        Index extent = kernel->loops.at[outer->loop].extent;
        extent =
            index_scale(table, extent, index_high(table, kernel->loops.at[inner->loop].extent));
        int32_t whole = kernel_loop(kernel, "whole", size_from_index(table, extent));
        Substitution *by = substitution_new(graph_arena(kernel->graph), kernel);
        by->loop[outer->loop] = index_const(table, 0);
        by->loop[inner->loop] = kernel_loop_index(kernel, whole);
        statement_substitute(kernel, store, by);
        *outer =
            (Statement){.kind = STATEMENT_LOOP, .next = next, .loop = whole, .body = inner->body};
    }
}

// Loops and buffers are named by their order, so that equal fillings have equal texts.
static Kernel *filling(Arena *arena, Kernel *kernel, Statement *nest) {
    merge_loops(kernel, nest);
    Kernel *fill = kernel_parse(arena, "once", kernel_print_part(arena, kernel, nest));
    fill->name = "once";
    for (int32_t i = 0; i < fill->loops.count; i++)
        fill->loops.at[i].name = arena_print(arena, "i%d", i);
    for (int32_t i = 0; i < fill->buffers.count; i++) {
        fill->buffers.at[i].name = arena_print(arena, "%c", 'a' + i);
        fill->buffers.at[i].ahead = 0;
    }
    kernel_verify(fill);
    return fill;
}

static Once take_out(Arena *arena, Kernel *kernel, Statement *nest) {
    Once once = {.to = innermost(nest)->buffer};
    KernelBuffer *filled = &kernel->buffers.at[once.to];
    AccessList accesses = kernel_accesses(arena, kernel, nest, -1);
    bool *reads = arena_array(arena, bool, kernel->buffers.count);
    for (int i = 0; i < accesses.count; i++)
        if (accesses.at[i].load >= 0) reads[accesses.at[i].buffer] = true;
    once.from = arena_array(arena, int32_t, kernel->buffers.count);
    for (int32_t i = 0; i < kernel->buffers.count; i++)
        if (reads[i]) once.from[once.sources++] = i;
    filled->space = SPACE_PARAM;
    once.kernel = filling(arena, kernel, nest);
    once.dtype = filled->dtype;
    once.elements = filled->size;
    filled->written = false;
    filled->is_weight = true;
    return once;
}

Kernel *once_take_out(Arena *arena, Kernel *kernel, OnceList *list) {
    int32_t params = 0;
    for (Statement **link = &kernel->body; *link;) {
        Statement *nest = *link, *store = innermost(nest);
        if (store->kind != STATEMENT_STORE ||
            kernel->buffers.at[store->buffer].space != SPACE_ONCE) {
            link = &nest->next;
            continue;
        }
        *link = nest->next;
        nest->next = NULL;
        *list_add(arena, list) = take_out(arena, kernel, nest);
    }
    if (!list->count) return kernel;
    for (int32_t i = 0; i < kernel->buffers.count; i++) {  // PARAMs go first
        for (int n = 0; n < list->count; n++)
            if (list->at[n].to == i) list->at[n].param = params;
        params += kernel->buffers.at[i].space == SPACE_PARAM;
    }
    return kernel_parse(arena, kernel->name, kernel_print(arena, kernel));
}
