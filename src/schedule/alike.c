/* alike.c - kernels that differ in their memory only are made once: a model's layers are equal.
 * In: a root.  Out: its kernel, perhaps an earlier root's, with the slots of this one.
 * Invariant: a form is all that kernel_from_root reads of a graph: the nodes down to what is
 * stored, sources first, numbered as they are met, and of memory what its slot says. So roots of
 * equal forms have equal kernels.
 *   %7 = add %1 %6 ; %9 = add %8 %7, all of them f32 (576)   =>   one kernel, called twice       */
#include "schedule/schedule.h"

#include <string.h>

typedef struct {
    int64_t *form;
    int32_t words;
    KernelCall call;  // its slots by number in the form
} Known;

struct Alike {
    Arena *arena;
    const Ranges *ranges;
    const Graph *graph;
    LIST(Known) known;
    Map *map;  // finds them, by a hash of the form
    LIST(int64_t) form;
    IdList nodes, slots;  // that the form has numbered
    int32_t *number;      // by node: from 1 on; 0: none yet
};

Alike *alike_new(Arena *arena, const Ranges *ranges) {
    Alike *to = arena_object(arena, Alike);
    const Graph *graph = ranges->module->graph;
    *to = (Alike){.arena = arena, .ranges = ranges, .graph = graph, .map = map_new(arena)};
    to->number = arena_array(arena, int32_t, graph_count(graph));
    return to;
}

static void add(Alike *to, int count, const int64_t *word) {
    for (int i = 0; i < count; i++) *list_add(to->arena, &to->form) = word[i];
}

static int32_t slot_number(Alike *to, int32_t slot) {
    for (int32_t i = 0; i < to->slots.count; i++)
        if (to->slots.at[i] == slot) return i;
    *list_add(to->arena, &to->slots) = slot;
    return to->slots.count - 1;
}

static void add_memory(Alike *to, Id id) {
    int32_t slot = to->ranges->slot_of(to->ranges->context, id);
    const Slot *info = &to->ranges->module->slots.at[slot];
    add(to, 4, (int64_t[]){slot_number(to, slot), info->is_weight, info->dtype, info->elements});
}

// Sources in the order in which lowering meets them, since that gives memory its slots.
static void add_node(Alike *to, Id id, bool stored) {
    const Node *node = graph_node(to->graph, id);
    int sources = stored ? 0 : node->op == OP_WITHGRAD ? 1 : node->sources;
    if (to->number[id]) return;
    for (int axis = 0; axis < node->rank; axis++)  // what has no elements is not read
        if (node->size[axis] == 0) stored = false, sources = 0;
    for (int i = 0; i < sources; i++) {
        Id source = node->source[node->op == OP_GATHER ? 1 - i : i];
        add_node(to, source, to->ranges->is_stored[source]);
    }
    add(to, 5, (int64_t[]){node->op, node->dtype, stored, node->rank, sources});
    add(to, node->rank, node->size);
    for (int i = 0; i < sources; i++) add(to, 1, (int64_t[]){to->number[node->source[i]]});
    if (stored)
        add_memory(to, id);
    else if (node->op != OP_ASSIGN)
        add(to, node->arg_count, node->arg);
    *list_add(to->arena, &to->nodes) = id;
    to->number[id] = to->nodes.count;
}

static void make_form(Alike *to, Id root) {
    const Node *shape = graph_node(to->graph, root_shape(to->graph, root));
    while (to->nodes.count) to->number[to->nodes.at[--to->nodes.count]] = 0;
    to->form.count = to->slots.count = 0;
    add(to, 2, (int64_t[]){to->ranges->turned[root], shape->rank});
    add(to, shape->rank, shape->size);
    if (graph_node(to->graph, root)->op != OP_ASSIGN) add_memory(to, root);
    add_node(to, root, false);
}

static bool same_form(const void *context, int32_t which) {
    const Alike *to = context;
    const Known *known = &to->known.at[which];
    return known->words == to->form.count &&
           !memcmp(known->form, to->form.at, sizeof *known->form * (size_t)known->words);
}

KernelCall alike_call(Alike *to, Id root) {
    make_form(to, root);
    size_t bytes = sizeof *to->form.at * (size_t)to->form.count;
    uint64_t hash = hash_bytes(to->form.at, bytes, 0);
    int32_t which = map_find(to->map, hash, same_form, to);
    if (which < 0) {
        KernelCall made = kernel_from_root(to->ranges, root);
        for (int32_t i = 0; i < made.params; i++) made.slot[i] = slot_number(to, made.slot[i]);
        which = to->known.count;
        map_add(to->arena, to->map, hash, which);
        *list_add(to->arena, &to->known) =
            (Known){arena_copy(to->arena, to->form.at, bytes), to->form.count, made};
    }
    KernelCall call = to->known.at[which].call;
    const int32_t *number = call.slot;
    call.root = root;
    call.slot = arena_array(to->ranges->module->arena, int32_t, call.params);
    for (int32_t i = 0; i < call.params; i++) call.slot[i] = to->slots.at[number[i]];
    return call;
}
