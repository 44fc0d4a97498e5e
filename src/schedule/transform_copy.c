/* transform_copy.c - STAGE of what is read: a tile of a buffer copied next to where it is used.
 * In: a buffer, a place, the loops over which it is read there.  Out: a copying nest at the place's
 * beginning, reads of the copy; if the buffer is written there, a nest at the end that copies back.
 * Invariant: what is written uses one index in all accesses; of what is only read, the first index
 * is copied, and other reads stay. The copy has an element for each value.
 *   STAGE b at j0 over j1 k as k j1 in L2   =>   own b_L2 f32[1536]
 *       for k_b < 96 { for j1_b < 16 { b_L2[16*k_b + j1_b] = b[80*k_b + 16*j0 + j1_b] } }
 * Of loops that only occur as a sum, the copy has an element for each value of the sum:
 *   STAGE x at y0 over y1+v in L2           =>   own x_L2 f32[10], read as x_L2[y1 + v]
 *       for y1_v_x < 10 { x_L2[y1_v_x] = x[8*y0 + y1_v_x] }                                   */
#include "schedule/schedule.h"

#include <string.h>

enum { OVER_MAX = 12 };
typedef struct {
    const char *word;  // a loop's name, or a sum: 2*y1+v
    int32_t loop;      // runs over its values: that loop, or one for the sum
    int32_t replaced;  // of a sum: a term that occurs once, which is the sum less the others
    Index at;          // its value where the copy is read
    int64_t step;      // 2 of 2*y1+v, innermost: even values lie first, so those of one v in a row
    int64_t gap;       // elements left free behind all that the axes further in run over
} Axis;
typedef struct {
    const ScheduleLine *line;
    Kernel *kernel;
    Statement **place;
    int32_t buffer;  // what is staged
    Axis axis[OVER_MAX];
    int axes;
    LoopSet over, inside;  // the loops in them; all loops at the place
    AccessList accesses;
    Id value;  // what is copied: the load, or an expression around it
    bool written;
} Copy;

// ---- the line ----------------------------------------------------------------------------------

static int32_t loop_inside(Copy *copy, const char *name) {
    int32_t loop = line_loop(copy->line, name);
    if (!loop_set_has(&copy->inside, loop))
        line_refuse(copy->line, NULL, "loop %s is not inside the place", name);
    if (loop_set_has(&copy->over, loop)) line_refuse(copy->line, NULL, "loop %s twice", name);
    loop_set_add(&copy->over, loop);
    return loop;
}

// A sum of loops, each perhaps times a number. It must take all values from 0 to its highest: terms
// in order, none is larger than what those before it reach, and 1.
static Axis read_sum(Copy *copy, const char *word) {
    Kernel *kernel = copy->kernel;
    IndexTable *table = graph_indices(kernel->graph);
    Axis axis = {.word = word, .replaced = -1, .at = index_const(table, 0), .step = 1};
    Text name = text_new(copy->line->arena);
    int64_t scale[OVER_MAX], high[OVER_MAX], reach = 0;
    int terms = 0;
    for (Reader reader = reader_new("schedule", word); *reader.at; terms++) {
        const char *part = reader.at;
        size_t length = strcspn(part, "+");
        if (terms == OVER_MAX) line_refuse(copy->line, NULL, "too many loops in %s", word);
        scale[terms] = 1;
        if (*part >= '0' && *part <= '9' &&
            (!reader_int(&reader, &scale[terms]) || scale[terms] < 1 || *reader.at++ != '*'))
            line_refuse(copy->line, NULL, "%s should be like 2*y+v", word);
        const char *term =
            arena_print(copy->line->arena, "%.*s", (int)(part + length - reader.at), reader.at);
        int32_t loop = loop_inside(copy, term);
        reader.at = part + length + (part[length] == '+');
        text_add(&name, "%s%s", terms ? "_" : "", term);
        high[terms] = index_high(table, kernel->loops.at[loop].extent) - 1;
        if (scale[terms] == 1) axis.replaced = loop;
        axis.step = max_i64(axis.step, scale[terms]);
        Index index = index_scale(table, kernel_loop_index(kernel, loop), scale[terms]);
        axis.at = index_add(table, axis.at, index);
    }
    for (bool found = true; found;) {
        found = false;
        for (int i = 0; i < terms; i++) {
            if (!scale[i] || scale[i] > reach + 1) continue;
            if (high[i] > (INT32_MAX - reach) / scale[i])
                line_refuse(copy->line, NULL, "%s is too large", word);
            reach += scale[i] * high[i];
            scale[i] = 0;
            found = true;
        }
    }
    for (int i = 0; i < terms; i++)
        if (scale[i]) line_refuse(copy->line, NULL, "%s leaves out values", word);
    axis.loop = kernel_loop(kernel, name.at, reach + 1);
    return axis;
}

// Axes from `word` on, up to one of the words that end a list.
static int read_axes(Copy *copy, int word) {
    for (;; word++) {
        const char *name = line_word(copy->line, word);
        if (!strcmp(name, "as") || !strcmp(name, "in")) return word;
        if (copy->axes == OVER_MAX) line_refuse(copy->line, NULL, "too many loops");
        Axis *axis = &copy->axis[copy->axes++];
        if (strpbrk(name, "+*")) {
            *axis = read_sum(copy, name);
            continue;
        }
        int32_t loop = loop_inside(copy, name);
        *axis = (Axis){name, loop, -1, kernel_loop_index(copy->kernel, loop), 1, 0};
    }
}

// The axes in the order that the words from `word` on have.
static int order_axes(Copy *copy, int word) {
    for (int i = 0; i < copy->axes; i++, word++) {
        int from = i;
        while (from < copy->axes && strcmp(copy->axis[from].word, line_word(copy->line, word)) != 0)
            from++;
        if (from == copy->axes)
            line_refuse(copy->line, NULL, "`over` and `as` name different loops");
        Axis axis = copy->axis[from];
        copy->axis[from] = copy->axis[i];
        copy->axis[i] = axis;
        if (*line_word(copy->line, word + 1) != '+') continue;
        Reader reader = reader_new("schedule", line_word(copy->line, ++word) + 1);
        bool right = reader_int(&reader, &copy->axis[i].gap) && !*reader.at;
        if (!right || copy->axis[i].gap < 1 || copy->axis[i].gap > 1024 || i + 1 == copy->axes)
            line_refuse(copy->line, NULL, "%s should be like +4, between two loops",
                        line_word(copy->line, word));
    }
    return word;
}

static int read_layout(Copy *copy) {
    int word = read_axes(copy, 5);
    if (!strcmp(copy->line->word[word], "as")) word = order_axes(copy, word + 1);
    for (int i = 0; i + 1 < copy->axes; i++) copy->axis[i].step = 1;
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
    for (int i = 0; i < all->count; i++)
        if (all->at[i].load < 0 && all->at[i].buffer != copy->buffer &&
            kernel_value_reads(copy->kernel, value, all->at[i].buffer))
            return false;
    return true;
}

// What the statements before fill and do not read is complete after them: the copy is made there.
static Statement **after_filling(const Copy *copy) {
    Statement **place = copy->place;
    for (Statement *at = *copy->place; at; at = at->next) {
        Statement *next = at->next;
        at->next = NULL;
        AccessList here = kernel_accesses(copy->line->arena, copy->kernel, at, copy->buffer);
        at->next = next;
        bool loads = false, stores = false;
        for (int i = 0; i < here.count; i++)
            if (here.at[i].load < 0)
                stores = true;
            else
                loads = true;
        if (stores && loads) return copy->place;
        if (stores) place = &at->next;
    }
    return *place ? place : copy->place;
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

// The outermost expression in `value` around the load that can be copied.
static Id widest(const Copy *copy, const AccessList *all, Id value) {
    if (can_copy(copy, all, value)) return value;
    const Node *node = graph_node(copy->kernel->graph, value);
    for (int i = 0; i < node->sources; i++)
        if (kernel_value_has(copy->kernel, node->source[i], copy->value))
            return widest(copy, all, node->source[i]);
    return copy->value;
}

static void find_converted(Copy *copy, const AccessList *all) {
    Id load = copy->value, found = -1;
    if (copy->written) line_refuse(copy->line, NULL, "convert is for what is only read");
    for (int i = 0; i < copy->accesses.count; i++) {
        const Statement *store = copy->accesses.at[i].statement;
        if (copy->accesses.at[i].load != load) continue;
        Id wide = kernel_value_has(copy->kernel, store->value, load)
                      ? widest(copy, all, store->value)
                      : load;
        if (found >= 0 && wide != found)
            line_refuse(copy->line, store,
                        "another conversion than elsewhere. Hint: without convert");
        found = wide;
    }
    copy->value = found;
}

// ---- the tree ----------------------------------------------------------------------------------

static int64_t axis_extent(const Copy *copy, const Axis *axis) {
    Index extent = copy->kernel->loops.at[axis->loop].extent;
    return round_up(index_high(graph_indices(copy->kernel->graph), extent), axis->step);
}

// Elements from one value of the axis to the next; of axis -1: of all.
static int64_t axis_stride(const Copy *copy, int axis) {
    int64_t size = 1;
    for (int i = copy->axes - 1; i > axis; i--)
        if (__builtin_mul_overflow(size, axis_extent(copy, &copy->axis[i]), &size) ||
            (size += i > 0 ? copy->axis[i - 1].gap : 0) > INT32_MAX)
            line_refuse(copy->line, NULL, "the copy is too large");
    return size;
}

// Row-major over the axes: where the copy is read, or where it is filled.
static Index copy_element(const Copy *copy, bool read) {
    IndexTable *table = graph_indices(copy->kernel->graph);
    Index element = index_const(table, 0);
    for (int i = 0; i < copy->axes; i++) {
        const Axis *axis = &copy->axis[i];
        int64_t extent = axis_extent(copy, axis);
        Index at = read ? axis->at : kernel_loop_index(copy->kernel, axis->loop);
        Index rest = index_scale(table, index_mod(table, at, axis->step), extent / axis->step);
        at = index_add(table, rest, index_div(table, at, axis->step));
        element = index_add(table, element, index_scale(table, at, axis_stride(copy, i)));
    }
    return element;
}

// The value by the loops that run over sums: one term of each is the sum less the others. Then none
// of its terms may be left.
static Id by_sums(const Copy *copy) {
    Kernel *kernel = copy->kernel;
    IndexTable *table = graph_indices(kernel->graph);
    Substitution *by = substitution_new(copy->line->arena, kernel);
    LoopSet axes = {0};
    bool sums = false;
    for (int i = 0; i < copy->axes; i++) {
        const Axis *axis = &copy->axis[i];
        loop_set_add(&axes, axis->loop);
        if (axis->replaced < 0) continue;
        Index others = index_sub(table, axis->at, kernel_loop_index(kernel, axis->replaced));
        by->loop[axis->replaced] = index_sub(table, kernel_loop_index(kernel, axis->loop), others);
        sums = true;
    }
    if (!sums) return copy->value;
    if (copy->written) line_refuse(copy->line, NULL, "a sum of loops is for what is only read");
    Id value = kernel_substitute(kernel, copy->value, by);
    LoopSet used = kernel_loops_of(kernel, value);
    for (int32_t loop = 0; loop < kernel->loops.count; loop++)
        if (loop_set_has(&used, loop) && loop_set_has(&copy->over, loop) &&
            !loop_set_has(&axes, loop))
            line_refuse(copy->line, copy->accesses.at[0].statement,
                        "what it reads does not depend on the sum of %s alone",
                        kernel->loops.at[loop].name);
    return value;
}

static Statement *copy_nest(const Copy *copy, Statement *store, const char *suffix) {
    const char *name = copy->kernel->buffers.at[copy->buffer].name;
    int32_t loop[OVER_MAX];
    for (int i = 0; i < copy->axes; i++) loop[i] = copy->axis[i].loop;
    return statement_over(copy->kernel, copy->axes, loop, store,
                          arena_print(copy->line->arena, "_%s%s", name, suffix));
}

// Written back, each element must be there once: iterations of the layout's loops never meet.
static void check_written(const Copy *copy) {
    Index index = copy->accesses.at[0].index;
    for (int i = 0; i < copy->axes; i++) {
        LoopSet others = copy->over;
        loop_set_remove(&others, copy->axis[i].loop);
        if (!legal_disjoint(copy->kernel, copy->axis[i].loop, others, index, index))
            line_refuse(copy->line, copy->accesses.at[0].statement,
                        "it is written, and iterations of loop %s share elements",
                        copy->axis[i].word);
    }
}

// What no statement wrote, since its condition did not hold, is written back as well: it may be an
// element that another thread writes.
static void check_threads(const Copy *copy) {
    Statement *at = *copy->place;
    while ((at = kernel_parent(copy->kernel, at))) {
        LoopKind kind = copy->kernel->loops.at[at->loop].kind;
        bool threads = kind == LOOP_THREAD || kind == LOOP_BLOCK || kind == LOOP_WARP;
        Statement *against = threads ? legal_parallel(copy->kernel, at, kind) : NULL;
        if (against)
            line_refuse(copy->line, against, "threads of loop %s would meet in it",
                        copy->kernel->loops.at[at->loop].name);
    }
}

// Made once, it depends on weights alone: on no VAR, and on nothing that a call brings.
static void check_once(const Copy *copy) {
    const Kernel *kernel = copy->kernel;
    IdList nodes = kernel_nodes(copy->line->arena, kernel, copy->value);
    if (copy->place != &kernel->body) line_refuse(copy->line, NULL, "`once` is `at top`");
    for (int i = 0; i < copy->axes; i++)
        if (!index_is_const(graph_indices(kernel->graph),
                            kernel->loops.at[copy->axis[i].loop].extent, &(int64_t){0}))
            line_refuse(copy->line, NULL, "the extent of loop %s is a VAR's", copy->axis[i].word);
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
    copy.place = after_filling(&copy);
    copy.inside = kernel_loops_inside(*copy.place);
    int word = read_layout(&copy);
    line_expect(line, word, "in");
    bool once = !strcmp(line_word(line, word + 1), "once");
    Space space = once ? SPACE_ONCE : line_space(line, word + 1);
    AccessList all = kernel_accesses(line->arena, kernel, *copy.place, -1);
    find_load(&copy, &all);
    Id load = copy.value;
    if (copy.written) check_written(&copy);
    if (line->words > word + 2) {
        line_expect(line, word + 2, "convert");
        find_converted(&copy, &all);
    }
    if (once) check_once(&copy);

    const char *name = arena_print(line->arena, "%s_%s", kernel->buffers.at[copy.buffer].name,
                                   line->word[word + 1]);
    Index from = (Index)graph_node(kernel->graph, load)->arg[1];
    Index element = copy_element(&copy, true), filled = copy_element(&copy, false);
    Id value = by_sums(&copy);
    int32_t local = kernel_buffer(kernel, name, node_dtype(kernel->graph, copy.value), space,
                                  axis_stride(&copy, -1), true);
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
        copy_nest(&copy, statement_store(kernel, ROLE_STORE, local, filled, value), "");
    fill->next = *copy.place;
    *copy.place = fill;
    if (copy.written) check_threads(&copy);
}
