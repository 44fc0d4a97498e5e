/* transform_copy.c - STAGE of what is read: a tile of a buffer copied next to where it is used.
 * In: a buffer, a place, the loops over which it is read there.  Out: a copying nest at the place's
 * beginning, reads of the copy; if the buffer is written there, a nest at the end that copies back.
 * Invariant: what is written uses one index in all accesses; of what is only read, the first index
 * is copied, and other reads stay. The copy has an element for each value.
 *   STAGE b at j0 over j1 k as k j1 in L2   =>   own b_L2 f32[1536]
 *       for k_b < 96 { for j1_b < 16 { b_L2[16*k_b + j1_b] = b[80*k_b + 16*j0 + j1_b] } }    */
#include "schedule/schedule.h"

#include <string.h>

enum { OVER_MAX = 12 };
typedef struct {
    const ScheduleLine *line;
    Kernel *kernel;
    Statement **place;
    int32_t buffer;  // what is staged
    int32_t order[OVER_MAX];
    int loops;
    LoopSet over, inside;  // those loops; all loops at the place
    AccessList accesses;
    Id value;  // what is copied: the load, or an expression around it
    bool written;
} Copy;

// ---- the line ----------------------------------------------------------------------------------

// Loop names from `word` on, up to one of the words that end a list.
static int read_loops(Copy *copy, int word) {
    copy->loops = 0;
    for (;; word++) {
        const char *name = line_word(copy->line, word);
        if (!strcmp(name, "as") || !strcmp(name, "in")) return word;
        if (copy->loops == OVER_MAX) line_refuse(copy->line, NULL, "too many loops");
        copy->order[copy->loops++] = line_loop(copy->line, name);
    }
}

static LoopSet set_of(const Copy *copy) {
    LoopSet set = {0};
    for (int i = 0; i < copy->loops; i++) loop_set_add(&set, copy->order[i]);
    return set;
}

static int read_layout(Copy *copy) {
    int word = read_loops(copy, 5);
    copy->over = set_of(copy);
    if (!strcmp(copy->line->word[word], "as")) word = read_loops(copy, word + 1);
    LoopSet layout = set_of(copy);
    if (!loop_set_within(layout, copy->over) || !loop_set_within(copy->over, layout))
        line_refuse(copy->line, NULL, "`over` and `as` name different loops");
    for (int i = 0; i < copy->loops; i++)
        if (!loop_set_has(&copy->inside, copy->order[i]))
            line_refuse(copy->line, NULL, "loop %s is not inside the place",
                        copy->kernel->loops.at[copy->order[i]].name);
    return word;
}

// ---- what is copied ----------------------------------------------------------------------------

// Could the copying nest compute it? If it depends on no other loop and on nothing written there.
static bool can_copy(const Copy *copy, const AccessList *all, Id value) {
    LoopSet used = kernel_loops_of(copy->kernel, value);
    for (int32_t loop = 0; loop < copy->kernel->loops.count; loop++)
        if (loop_set_has(&used, loop) && loop_set_has(&copy->inside, loop) &&
            !loop_set_has(&copy->over, loop))
            return false;
    IdList nodes = kernel_nodes(copy->line->arena, copy->kernel, value);
    for (int n = 0; n < nodes.count; n++) {
        const Node *node = graph_node(copy->kernel->graph, nodes.at[n]);
        if (node->op != OP_LOAD || node->arg[0] == copy->buffer) continue;
        for (int i = 0; i < all->count; i++)
            if (all->at[i].load < 0 && all->at[i].buffer == node->arg[0]) return false;
    }
    return true;
}

// The first load that can be copied decides. Where the buffer is written, too, all accesses use its
// index.
static void find_load(Copy *copy, const AccessList *all) {
    copy->accesses = kernel_accesses(copy->line->arena, copy->kernel, *copy->place, copy->buffer);
    const Access *first = NULL, *any = NULL;
    for (int i = 0; i < copy->accesses.count; i++) {
        const Access *access = &copy->accesses.at[i];
        if (access->load < 0)
            copy->written = true;
        else if (any = access, !first && can_copy(copy, all, access->load))
            first = access;
    }
    if (!any) line_refuse(copy->line, NULL, "nothing there reads it");
    if (!first)
        line_refuse(copy->line, any->statement,
                    "what it reads depends on other loops there, or is written there");
    for (int i = 0; i < copy->accesses.count && copy->written; i++) {
        const Access *access = &copy->accesses.at[i];
        bool same = access->load < 0 ? access->index == first->index : access->load == first->load;
        if (!same)
            line_refuse(copy->line, access->statement, "it uses other elements than %s",
                        statement_text(copy->line->arena, copy->kernel, first->statement));
    }
    copy->value = first->load;
}

static bool contains(const Copy *copy, Id value, Id part) {
    IdList nodes = kernel_nodes(copy->line->arena, copy->kernel, value);
    for (int n = 0; n < nodes.count; n++)
        if (nodes.at[n] == part) return true;
    return false;
}

// The outermost expression in `value` around the load that can be copied.
static Id widest(const Copy *copy, const AccessList *all, Id value) {
    if (can_copy(copy, all, value)) return value;
    const Node *node = graph_node(copy->kernel->graph, value);
    for (int i = 0; i < node->sources; i++)
        if (contains(copy, node->source[i], copy->value)) return widest(copy, all, node->source[i]);
    return copy->value;
}

static void find_converted(Copy *copy, const AccessList *all) {
    Id load = copy->value, found = -1;
    if (copy->written) line_refuse(copy->line, NULL, "convert is for what is only read");
    for (int i = 0; i < copy->accesses.count; i++) {
        const Statement *store = copy->accesses.at[i].statement;
        if (copy->accesses.at[i].load != load) continue;
        Id wide = contains(copy, store->value, load) ? widest(copy, all, store->value) : load;
        if (found >= 0 && wide != found)
            line_refuse(copy->line, store,
                        "another conversion than elsewhere. Hint: without convert");
        found = wide;
    }
    copy->value = found;
}

// ---- the tree ----------------------------------------------------------------------------------

static int64_t copy_size(const Copy *copy) {
    int64_t size = 1;
    for (int i = 0; i < copy->loops; i++) {
        Index extent = copy->kernel->loops.at[copy->order[i]].extent;
        if (__builtin_mul_overflow(size, index_high(graph_indices(copy->kernel->graph), extent),
                                   &size) ||
            size > INT32_MAX)
            line_refuse(copy->line, NULL, "the copy is too large");
    }
    return size;
}

// Row-major over the layout's loops.
static Index copy_element(const Copy *copy) {
    IndexTable *table = graph_indices(copy->kernel->graph);
    Index element = index_const(table, 0);
    for (int i = 0; i < copy->loops; i++) {
        Index extent = copy->kernel->loops.at[copy->order[i]].extent;
        element = index_scale(table, element, index_high(table, extent));
        element = index_add(table, element, kernel_loop_index(copy->kernel, copy->order[i]));
    }
    return element;
}

static Statement *copy_nest(const Copy *copy, Statement *store, const char *suffix) {
    Kernel *kernel = copy->kernel;
    Substitution *by = substitution_new(copy->line->arena, kernel);
    const char *name = kernel->buffers.at[copy->buffer].name;
    suffix = arena_print(copy->line->arena, "_%s%s", name, suffix);
    int32_t loop[OVER_MAX];
    for (int i = 0; i < copy->loops; i++) {
        loop[i] = kernel_loop_copy(kernel, copy->order[i], suffix, by);
        kernel->loops.at[loop[i]].kind = LOOP_SERIAL;
        kernel->loops.at[loop[i]].steps = 0;
    }
    statement_substitute(kernel, store, by);
    for (int i = copy->loops - 1; i >= 0; i--) store = statement_loop(kernel, loop[i], store);
    return store;
}

// Written back, each element must be there once: iterations of the layout's loops never meet.
static void check_written(const Copy *copy) {
    Index index = copy->accesses.at[0].index;
    for (int i = 0; i < copy->loops; i++) {
        LoopSet others = copy->over;
        loop_set_remove(&others, copy->order[i]);
        if (!legal_disjoint(copy->kernel, copy->order[i], others, index, index))
            line_refuse(copy->line, copy->accesses.at[0].statement,
                        "it is written, and iterations of loop %s share elements",
                        copy->kernel->loops.at[copy->order[i]].name);
    }
}

// Made once, it depends on weights alone: on no VAR, and on nothing that a call brings.
static void check_once(const Copy *copy) {
    const Kernel *kernel = copy->kernel;
    IdList nodes = kernel_nodes(copy->line->arena, kernel, copy->value);
    if (copy->place != &kernel->body) line_refuse(copy->line, NULL, "`once` is `at top`");
    for (int i = 0; i < copy->loops; i++)
        if (!index_is_const(graph_indices(kernel->graph), kernel->loops.at[copy->order[i]].extent,
                            &(int64_t){0}))
            line_refuse(copy->line, NULL, "the extent of loop %s is a VAR's",
                        kernel->loops.at[copy->order[i]].name);
    for (int n = 0; n < nodes.count; n++) {
        const Node *node = graph_node(kernel->graph, nodes.at[n]);
        bool loads = node->op == OP_LOAD, indexed = loads || node->op == OP_INDEX;
        bool fixed = !loads || kernel->buffers.at[node->arg[0]].is_weight;
        for (int32_t var = 0; var < graph_vars(kernel->graph) && indexed; var++)
            fixed &=
                !index_uses(graph_indices(kernel->graph), (Index)node->arg[loads], ATOM_VAR, var);
        if (!fixed) line_refuse(copy->line, copy->accesses.at[0].statement, "it is no weight");
    }
}

void transform_stage_copy(const ScheduleLine *line) {
    Kernel *kernel = line->kernel;
    Copy copy = {.line = line, .kernel = kernel};
    copy.buffer = line_buffer(line, line_word(line, 1));
    line_expect(line, 2, "at");
    copy.place = line_place(line, 3);
    copy.inside = kernel_loops_inside(*copy.place);
    int word = read_layout(&copy);
    line_expect(line, word, "in");
    Space space = line_space(line, word + 1);
    AccessList all = kernel_accesses(line->arena, kernel, *copy.place, -1);
    find_load(&copy, &all);
    Id load = copy.value;
    if (copy.written) check_written(&copy);
    if (line->words > word + 2) {
        line_expect(line, word + 2, "convert");
        find_converted(&copy, &all);
    }
    if (space == SPACE_ONCE) check_once(&copy);

    const char *name = arena_print(line->arena, "%s_%s", kernel->buffers.at[copy.buffer].name,
                                   line->word[word + 1]);
    Index from = (Index)graph_node(kernel->graph, load)->arg[1], element = copy_element(&copy);
    int32_t local = kernel_buffer(kernel, name, node_dtype(kernel->graph, copy.value), space,
                                  copy_size(&copy), true);
    Id read = kernel_load(kernel, local, element, -1);
    if (copy.written) {
        statement_relocate(kernel, *copy.place, copy.buffer, local, NULL, NULL);
        AccessList moved = kernel_accesses(line->arena, kernel, *copy.place, local);
        Substitution *by = substitution_new(line->arena, kernel);
        for (int i = 0; i < moved.count; i++)
            if (moved.at[i].load >= 0)
                by->node[moved.at[i].load] = read;
            else
                moved.at[i].statement->index = element;
        statement_substitute(kernel, *copy.place, by);
        Statement **end = copy.place;
        while (*end) end = &(*end)->next;
        *end =
            copy_nest(&copy, statement_store(kernel, ROLE_STORE, copy.buffer, from, read), "_out");
    } else {
        Substitution *by = substitution_new(line->arena, kernel);
        by->node[copy.value] = read;
        statement_substitute(kernel, *copy.place, by);
    }
    Statement *fill =
        copy_nest(&copy, statement_store(kernel, ROLE_STORE, local, element, copy.value), "");
    fill->next = *copy.place;
    *copy.place = fill;
}
