/* interpreter.c - run a kernel without a compiler.
 * In: a kernel in unscheduled form (stores whose values hold REDUCE), its memory, its VARs.  Out: the memory written.
 * Invariant: at its level, a node's array is valid while no loop that it depends on has moved and no store came between.
 *
 * Each node computes arrays of up to CHUNK values: the points of a box of the innermost loops (the region). What depends
 * on outer loops only is computed once and repeated. A REDUCE either runs its loops one by one over whole arrays, or,
 * where that reads memory in better order, opens a level whose region is its own loops and folds each array to a value.
 *   out[8*i + j] = (add a[8*i + j] b[i])   with 64 x 8 points   =>   2 regions of 32 x 8, two reads, one add each     */
#include <string.h>

#include "ir/scalar.h"
#include "runtime/chunk.h"
#include "runtime/runtime.h"

enum { RUN_LOOPS = 64, LEVELS_MAX = 8 };   // sets of loops are 64-bit words

typedef struct {
    int loops;                    // outermost first
    int32_t loop[RUN_LOOPS];
    int64_t count[RUN_LOOPS];     // points along each
    int points;
} Region;

typedef struct {
    void **array;                 // of each node: CHUNK values, NULL before first use
    int64_t *stamp;               // when it was computed; 0 never
    int64_t at[RUN_LOOPS];        // each loop's position; a region's loops: where the region starts
    int64_t moved[RUN_LOOPS];     // when it last changed
    Region region;
} Level;

typedef struct {                  // what an index depends on
    Index index;
    uint64_t loops;               // set of loops
    uint64_t varying;             // those inside VALUE atoms
} Reach;

typedef struct Interpreter {
    const Kernel *kernel;
    const Graph *graph;
    IndexTable *indices;
    void *const *buffer;          // PARAMs
    void **local;                 // memory of the other buffers
    const int64_t *var;
    Arena *arena;
    uint64_t *depends;            // of each node
    bool *reads_written;          // loads memory that this kernel writes
    Reach *reach;                // of each LOAD and INDEX node
    int64_t now, stored;          // stored: when a store last happened
    int depth;
    Level *level[LEVELS_MAX];
} Run;   // the header calls it an Interpreter

static const void *compute(Run *run, Id id);

static Level *level_of(Run *run) { return run->level[run->depth]; }

static void *memory(const Run *run, int32_t buffer) {
    bool param = run->kernel->buffers.at[buffer].space == SPACE_PARAM;
    return param ? run->buffer[buffer] : run->local[buffer];
}

static void move_to(Run *run, int32_t loop, int64_t position) {
    Level *level = level_of(run);
    level->at[loop] = position;
    level->moved[loop] = ++run->now;
}

static int64_t atom_value(void *context, const Atom *atom) {
    Run *run = context;
    if (atom->kind == ATOM_LOOP) return level_of(run)->at[atom->of];
    if (atom->kind == ATOM_VAR) return run->var[atom->of];
    const void *value = compute(run, atom->of);
    return *(const int64_t *)value;
}

static int64_t position(Run *run, Index index) { return index_value(run->indices, index, atom_value, run); }

static int64_t loop_extent(Run *run, int32_t loop) { return position(run, run->kernel->loops.at[loop].extent); }

// ---- what a node depends on -----------------------------------------------------------------------------------------
static Reach find_reach(const Run *run, Index index) {
    Reach reach = {.index = index};
    for (int32_t loop = 0; loop < run->kernel->loops.count; loop++)
        if (index_uses(run->indices, index, ATOM_LOOP, loop)) reach.loops |= 1ull << loop;
    for (Id id = 0; id < graph_count(run->graph); id++)
        if (index_uses(run->indices, index, ATOM_VALUE, id)) reach.varying |= run->depends[id];
    reach.loops |= reach.varying;
    return reach;
}

static void find_depends(Run *run) {
    for (Id id = 0; id < graph_count(run->graph); id++) {
        const Node *node = graph_node(run->graph, id);
        for (int i = 0; i < node->sources; i++) {
            run->depends[id] |= run->depends[node->source[i]];
            run->reads_written[id] |= run->reads_written[node->source[i]];
        }
        if (node->op == OP_LOAD || node->op == OP_INDEX) {
            run->reach[id] = find_reach(run, (Index)node->arg[node->op == OP_LOAD]);
            run->depends[id] |= run->reach[id].loops;
        }
        if (node->op == OP_LOAD) run->reads_written[id] |= run->kernel->buffers.at[node->arg[0]].written;
        if (node->op != OP_REDUCE) continue;
        for (int i = 0; i < node->arg[1]; i++) run->depends[id] &= ~(1ull << node->arg[2 + i]);
    }
}

static bool is_valid(Run *run, Id id) {
    const Level *level = level_of(run);
    int64_t stamp = level->stamp[id];
    if (!stamp || (run->reads_written[id] && stamp < run->stored)) return false;
    for (uint64_t set = run->depends[id]; set; set &= set - 1)
        if (level->moved[__builtin_ctzll(set)] > stamp) return false;
    return true;
}

// ---- memory over a region -------------------------------------------------------------------------------------------
typedef struct {
    Run *run;
    DType dtype;
    char *memory, *values;
    const uint8_t *condition;     // one a point; NULL: all
} Transfer;
// Moves `count` points from number `first`; their elements are element, element + stride, ...
typedef void Piece(const Transfer *transfer, int first, int count, int64_t element, int64_t stride);

static void for_points(const Transfer *transfer, Index index, Piece *piece) {   // where the index is not affine
    Level *level = level_of(transfer->run);
    const Region *region = &level->region;
    int64_t start[RUN_LOOPS];
    for (int i = 0; i < region->loops; i++) start[i] = level->at[region->loop[i]];
    for (int point = 0; point < region->points; point++) {
        int64_t rest = point;
        for (int i = region->loops - 1; i >= 0; i--) {
            level->at[region->loop[i]] = start[i] + rest % region->count[i];
            rest /= region->count[i];
        }
        piece(transfer, point, 1, position(transfer->run, index), 0);
    }
    for (int i = 0; i < region->loops; i++) level->at[region->loop[i]] = start[i];
}

// A gather whose index varies inside the region: one value of the VALUE atom a point.
static int64_t gathered_value(void *context, const Atom *atom) {
    void **pair = context;
    Run *run = pair[0];
    int point = *(const int *)pair[1];
    if (atom->kind == ATOM_VALUE) return ((const int64_t *)compute(run, atom->of))[point];
    return atom_value(run, atom);
}

static void for_gathered(const Transfer *transfer, Index index, Piece *piece) {
    Run *run = transfer->run;
    Level *level = level_of(run);
    const Region *region = &level->region;
    int64_t start[RUN_LOOPS];
    int point = 0;
    void *pair[2] = {run, &point};
    for (int i = 0; i < region->loops; i++) start[i] = level->at[region->loop[i]];
    for (; point < region->points; point++) {
        int64_t rest = point;
        int64_t element;
        for (int i = region->loops - 1; i >= 0; i--) {
            level->at[region->loop[i]] = start[i] + rest % region->count[i];
            rest /= region->count[i];
        }
        element = index_value(run->indices, index, gathered_value, pair);
        piece(transfer, point, 1, element, 0);
    }
    for (int i = 0; i < region->loops; i++) level->at[region->loop[i]] = start[i];
}

static void for_pieces(const Transfer *transfer, const Reach *reach, Piece *piece) {
    Run *run = transfer->run;
    const Region *region = &level_of(run)->region;
    int64_t stride[RUN_LOOPS], count[RUN_LOOPS], counter[RUN_LOOPS] = {0};
    uint64_t inside = 0;
    bool affine = true;
    int last = -1;
    for (int i = 0; i < region->loops && affine; i++) {   // loops that step on where the next one ends are one
        int64_t here = 0;
        affine = index_stride(run->indices, reach->index, region->loop[i], &here);
        bool joins = last >= 0 && stride[last] == here * region->count[i];
        if (!joins) count[++last] = 1;
        stride[last] = here;
        count[last] *= region->count[i];
    }
    for (int i = 0; i < region->loops; i++) inside |= 1ull << region->loop[i];
    if (reach->varying & inside) {
        for_gathered(transfer, reach->index, piece);
        return;
    }
    if (!affine) {
        for_points(transfer, reach->index, piece);
        return;
    }
    int64_t element = position(run, reach->index);
    int along = last < 0 ? 1 : (int)count[last];
    for (int point = 0; point < region->points; point += along) {
        piece(transfer, point, along, element, last < 0 ? 0 : stride[last]);
        for (int i = last - 1; i >= 0; i--) {
            element += stride[i];
            if (++counter[i] < count[i]) break;
            element -= stride[i] * count[i];
            counter[i] = 0;
        }
    }
}

static void read_piece(const Transfer *transfer, int first, int count, int64_t element, int64_t stride) {
    int width = dtypes[transfer->dtype].bytes;
    size_t bytes = (size_t)chunk_bytes(transfer->dtype);
    char *to = transfer->values + (size_t)first * bytes;
    if (!transfer->condition) {
        chunk_read(transfer->dtype, count, transfer->memory + element * width, stride, to);
        return;
    }
    for (int i = 0; i < count; i++) {
        if (transfer->condition[first + i])
            chunk_read(transfer->dtype, 1, transfer->memory + (element + i * stride) * width, 0, to + (size_t)i * bytes);
        else memset(to + (size_t)i * bytes, 0, bytes);
    }
}

static void write_piece(const Transfer *transfer, int first, int count, int64_t element, int64_t stride) {
    int width = dtypes[transfer->dtype].bytes;
    size_t bytes = (size_t)chunk_bytes(transfer->dtype);
    const char *from = transfer->values + (size_t)first * bytes;
    if (!transfer->condition) {
        chunk_write(transfer->dtype, count, from, transfer->memory + element * width, stride);
        return;
    }
    for (int i = 0; i < count; i++)
        if (transfer->condition[first + i])
            chunk_write(transfer->dtype, 1, from + (size_t)i * bytes,
                        transfer->memory + (element + i * stride) * width, 0);
}

static void index_piece(const Transfer *transfer, int first, int count, int64_t element, int64_t stride) {
    int64_t *wide = (int64_t *)transfer->values;
    int32_t *narrow = (int32_t *)transfer->values;
    for (int i = 0; i < count && transfer->dtype == DT_I64; i++) wide[first + i] = element + i * stride;
    for (int i = 0; i < count && transfer->dtype != DT_I64; i++) narrow[first + i] = (int32_t)(element + i * stride);
}

// ---- boxes of loops as regions ----------------------------------------------------------------------------------------
typedef void Body(Run *run, void *context);
typedef struct {
    int loops;                    // outermost first
    int32_t loop[RUN_LOOPS];
    int64_t first[RUN_LOOPS], extent[RUN_LOOPS];
    int outer;                    // loops run one by one; the others are the region, the first of them in steps
    int64_t step;
    Body *body;
    void *context;
} Box;

static void choose_region(Box *box) {
    int64_t points = 1;
    box->outer = box->loops;
    box->step = 1;
    while (box->outer > 0 && (box->outer == box->loops || CHUNK / points >= 2)) {
        box->step = min_i64(CHUNK / points, box->extent[--box->outer]);
        points *= box->step;
        if (box->step < box->extent[box->outer]) break;
    }
}

static void run_region(Run *run, const Box *box) {
    Region *region = &level_of(run)->region;
    int64_t left = box->outer < box->loops ? box->extent[box->outer] : 1;
    for (int64_t at = 0; at < left; at += box->step) {
        *region = (Region){.loops = box->loops - box->outer, .points = 1};
        for (int i = box->outer; i < box->loops; i++) {
            bool stepped = i == box->outer;
            int64_t count = stepped ? min_i64(box->step, left - at) : box->extent[i];
            region->loop[i - box->outer] = box->loop[i];
            region->count[i - box->outer] = count;
            region->points *= (int)count;
            move_to(run, box->loop[i], box->first[i] + (stepped ? at : 0));
        }
        box->body(run, box->context);
    }
}

static void run_box_from(Run *run, const Box *box, int depth) {
    if (depth == box->outer) {
        run_region(run, box);
        return;
    }
    for (int64_t at = 0; at < box->extent[depth]; at++) {
        move_to(run, box->loop[depth], box->first[depth] + at);
        run_box_from(run, box, depth + 1);
    }
}

static void run_box(Run *run, Box *box) {
    for (int i = 0; i < box->loops; i++)
        if (box->extent[i] <= 0) return;
    choose_region(box);
    run_box_from(run, box, 0);
}

static Level *level_new(Arena *arena, int32_t nodes) {
    Level *level = arena_object(arena, Level);
    level->array = arena_array(arena, void *, nodes);
    level->stamp = arena_array(arena, int64_t, nodes);
    level->region.points = 1;
    return level;
}

// A level in which every loop stands where it stands in the one outside, and the region is one point.
static void level_enter(Run *run) {
    const Level *outside = level_of(run);
    if (++run->depth == LEVELS_MAX) fatal("interpreter: reductions nested more than %d deep", LEVELS_MAX - 1);
    if (!run->level[run->depth]) run->level[run->depth] = level_new(run->arena, graph_count(run->graph));
    Level *level = level_of(run);
    for (int i = 0; i < level->region.loops; i++) level->moved[level->region.loop[i]] = ++run->now;
    for (int i = 0; i < outside->region.loops; i++) level->moved[outside->region.loop[i]] = ++run->now;
    for (int32_t loop = 0; loop < run->kernel->loops.count; loop++)
        if (level->at[loop] != outside->at[loop]) move_to(run, loop, outside->at[loop]);
    level->region = (Region){.points = 1};
}

// ---- REDUCE -----------------------------------------------------------------------------------------------------------
typedef struct {
    const Node *node;
    char *sum;                    // CHUNK values, or the one value so far
    int points;                   // live values of sum
} Fold;

static void fold_array(Run *run, void *context) {
    Fold *fold = context;
    DType dtype = (DType)fold->node->dtype;
    int points = level_of(run)->region.points;
    const void *value = compute(run, fold->node->source[0]);
    chunk_map((Op)fold->node->arg[0], dtype, points, fold->sum, value, NULL, fold->sum);
    fold->points = points > fold->points ? points : fold->points;
}

static void fill_identity(const Node *node, void *to) {
    Scalar identity = scalar_identity((Op)node->arg[0], (DType)node->dtype);
    chunk_fill((DType)node->dtype, CHUNK, &identity, to);
}

static Box reduce_box(Run *run, const Node *node) {
    Box box = {.loops = (int)node->arg[1]};
    for (int i = 0; i < box.loops; i++) {
        box.loop[i] = (int32_t)node->arg[2 + i];
        box.extent[i] = loop_extent(run, box.loop[i]);
    }
    return box;
}

// The REDUCE at one point, its own loops as regions of the level inside; the result is repeated `times` at `to`.
static void reduce_across(Run *run, const Node *node, int times, char *to) {
    char sum[CHUNK * 8];
    Fold fold = {.node = node, .sum = sum};
    Box box = reduce_box(run, node);
    box.body = fold_array;
    box.context = &fold;
    fill_identity(node, sum);
    run_box(run, &box);
    chunk_fold((Op)node->arg[0], (DType)node->dtype, fold.points ? fold.points : 1, sum);
    chunk_fill((DType)node->dtype, times, sum, to);
}

static void reduce_points(Run *run, const Node *node, char *to) {
    const Region region = level_of(run)->region;
    const Level *outside = level_of(run);
    size_t bytes = (size_t)chunk_bytes((DType)node->dtype);
    level_enter(run);
    for (int point = 0; point < region.points; point++) {
        int64_t rest = point;
        for (int i = region.loops - 1; i >= 0; i--) {
            int64_t at = outside->at[region.loop[i]] + rest % region.count[i];
            if (level_of(run)->at[region.loop[i]] != at) move_to(run, region.loop[i], at);
            rest /= region.count[i];
        }
        reduce_across(run, node, 1, to + (size_t)point * bytes);
    }
    run->depth--;
}

static void reduce_serially(Run *run, const Node *node, char *to) {
    Fold fold = {.node = node, .sum = to};
    Box box = reduce_box(run, node);
    fill_identity(node, to);
    for (int i = 0; i < box.loops; i++) {
        if (box.extent[i] <= 0) return;
        move_to(run, box.loop[i], 0);
    }
    for (int i = 0; i >= 0;) {
        fold_array(run, &fold);
        for (i = box.loops - 1; i >= 0; i--) {
            Level *level = level_of(run);
            int64_t next = level->at[box.loop[i]] + 1;
            move_to(run, box.loop[i], next < box.extent[i] ? next : 0);
            if (next < box.extent[i]) break;
        }
    }
}

// How many loads below `id` walk contiguously along `loop`.
static int contiguous_loads(const Run *run, Id id, int32_t loop) {
    int count = 0;
    for (Id below = 0; below <= id; below++) {
        const Node *node = graph_node(run->graph, below);
        int64_t stride;
        if (node->op == OP_LOAD && run->depends[below] >> loop & 1 &&
            index_stride(run->indices, (Index)node->arg[1], loop, &stride) && stride == 1)
            count++;
    }
    return count;
}

static void compute_reduce(Run *run, Id id, char *to) {
    const Node *node = graph_node(run->graph, id);
    const Region *region = &level_of(run)->region;
    uint64_t inside = 0;
    for (int i = 0; i < region->loops; i++) inside |= 1ull << region->loop[i];
    if (!(run->depends[id] & inside)) {
        level_enter(run);
        char value[8];
        reduce_across(run, node, 1, value);
        run->depth--;
        chunk_fill((DType)node->dtype, CHUNK, value, to);
        return;
    }
    int32_t mine = (int32_t)node->arg[1 + node->arg[1]], theirs = region->loop[region->loops - 1];
    bool across = contiguous_loads(run, id, mine) > contiguous_loads(run, id, theirs) && loop_extent(run, mine) >= 8;
    if (across || (region->points < 8 && loop_extent(run, mine) >= 32)) reduce_points(run, node, to);
    else reduce_serially(run, node, to);
}

// ---- one node -----------------------------------------------------------------------------------------------------------
static void compute_const(const Run *run, Id id, void *to) {
    Scalar value = {0};
    DType dtype = node_dtype(run->graph, id);
    double real = node_const_value(run->graph, id, &value.integer);
    if (dtype_is_float(dtype)) value.real = (float)real;
    chunk_fill(dtype, CHUNK, &value, to);
}

static void compute_load(Run *run, Id id, char *to) {
    const Node *node = graph_node(run->graph, id);
    Transfer transfer = {run, (DType)node->dtype, memory(run, (int32_t)node->arg[0]), to, NULL};
    if (node->sources) transfer.condition = compute(run, node->source[0]);
    const Region *region = &level_of(run)->region;
    uint64_t inside = 0;
    for (int i = 0; i < region->loops; i++) inside |= 1ull << region->loop[i];
    if (run->depends[id] & inside) {
        for_pieces(&transfer, &run->reach[id], read_piece);
        return;
    }
    char value[8] = {0};
    transfer.values = value;
    if (!node->sources || transfer.condition[0])
        read_piece(&(Transfer){run, transfer.dtype, transfer.memory, value, NULL}, 0, 1,
                   position(run, run->reach[id].index), 0);
    chunk_fill((DType)node->dtype, CHUNK, value, to);
}

static void compute_index(Run *run, Id id, char *to) {
    DType dtype = node_dtype(run->graph, id);
    const Region *region = &level_of(run)->region;
    uint64_t inside = 0;
    for (int i = 0; i < region->loops; i++) inside |= 1ull << region->loop[i];
    Transfer transfer = {run, dtype, NULL, to, NULL};
    if (run->depends[id] & inside) {
        for_pieces(&transfer, &run->reach[id], index_piece);
        return;
    }
    char value[8] = {0};
    transfer.values = value;
    index_piece(&transfer, 0, 1, position(run, run->reach[id].index), 0);
    chunk_fill(dtype, CHUNK, value, to);
}

static void compute_map(Run *run, Id id, void *to) {
    const Node *node = graph_node(run->graph, id);
    const Region *region = &level_of(run)->region;
    uint64_t inside = 0;
    const void *source[3] = {NULL, NULL, NULL};
    for (int i = 0; i < region->loops; i++) inside |= 1ull << region->loop[i];
    int points = run->depends[id] & inside ? region->points : CHUNK;
    for (int i = 0; i < node->sources; i++) source[i] = compute(run, node->source[i]);
    DType dtype = node_dtype(run->graph, node->source[0]);
    if (node->op == OP_WHERE) chunk_where((DType)node->dtype, points, source[0], source[1], source[2], to);
    else if (node->op == OP_CAST) chunk_cast(dtype, (DType)node->dtype, points, source[0], to);
    else if (node->op == OP_BITCAST) {
        char stored[CHUNK * 8];   // the bits of the stored form
        chunk_write(dtype, points, source[0], stored, 1);
        chunk_read((DType)node->dtype, points, stored, 1, to);
    } else chunk_map((Op)node->op, dtype, points, source[0], source[1], source[2], to);
}

// CHUNK values: those of the region's points, or one value repeated if the node does not depend on the region.
static const void *compute(Run *run, Id id) {
    Level *level = level_of(run);
    if (is_valid(run, id)) return level->array[id];
    const Node *node = graph_node(run->graph, id);
    if (!level->array[id])
        level->array[id] = arena_alloc(run->arena, (size_t)CHUNK * (size_t)chunk_bytes((DType)node->dtype));
    void *to = level->array[id];
    if (node->op == OP_CONST) compute_const(run, id, to);
    else if (node->op == OP_LOAD) compute_load(run, id, to);
    else if (node->op == OP_INDEX) compute_index(run, id, to);
    else if (node->op == OP_REDUCE) compute_reduce(run, id, to);
    else compute_map(run, id, to);
    level->stamp[id] = ++run->now;
    return to;
}

// ---- statements -----------------------------------------------------------------------------------------------------
typedef struct {
    const Statement *statement;
    Reach reach;
} Store;

static void run_store(Run *run, void *context) {
    const Store *store = context;
    const Statement *statement = store->statement;
    const KernelBuffer *buffer = &run->kernel->buffers.at[statement->buffer];
    Transfer transfer = {run, buffer->dtype, memory(run, statement->buffer), NULL, NULL};
    if (statement->condition >= 0) transfer.condition = compute(run, statement->condition);
    transfer.values = (char *)(uintptr_t)compute(run, statement->value);
    for_pieces(&transfer, &store->reach, write_piece);
    run->stored = ++run->now;
}

static void run_statements(Run *run, const Statement *statement);

// Loops around one plain store run as regions; around anything else, one by one.
static void run_loop(Run *run, const Statement *statement, int64_t first, int64_t count) {
    Box box = {0};
    const Statement *inner = statement;
    for (; inner->kind == STATEMENT_LOOP; inner = inner->body) {
        box.loop[box.loops] = inner->loop;
        box.first[box.loops] = box.loops ? 0 : first;
        box.extent[box.loops] = box.loops ? loop_extent(run, inner->loop) : count;
        box.loops++;
        if (inner->body->next) break;
    }
    if (inner->kind == STATEMENT_STORE && inner->role == ROLE_STORE) {
        Store store = {inner, find_reach(run, inner->index)};
        box.body = run_store;
        box.context = &store;
        run_box(run, &box);
        return;
    }
    for (int64_t at = first; at < first + count; at++) {
        move_to(run, statement->loop, at);
        run_statements(run, statement->body);
    }
}

static void run_statements(Run *run, const Statement *statement) {
    for (; statement; statement = statement->next) {
        if (statement->kind == STATEMENT_LOOP) run_loop(run, statement, 0, loop_extent(run, statement->loop));
        if (statement->kind != STATEMENT_STORE) continue;
        Store store = {statement, find_reach(run, statement->index)};
        level_of(run)->region = (Region){.points = 1};
        run_store(run, &store);
    }
}

static void run_begin(Run *run, Arena *arena, const Kernel *kernel, void *const *buffer, const int64_t *var) {
    int32_t nodes = graph_count(kernel->graph);
    if (kernel->loops.count > RUN_LOOPS) fatal("interpreter: %s has more than %d loops", kernel->name, RUN_LOOPS);
    *run = (Run){.kernel = kernel, .graph = kernel->graph, .indices = graph_indices(kernel->graph),
                 .buffer = buffer, .var = var, .arena = arena};
    run->local = arena_array(arena, void *, kernel->buffers.count);
    for (int32_t i = 0; i < kernel->buffers.count; i++) {
        const KernelBuffer *local = &kernel->buffers.at[i];
        if (local->space == SPACE_PARAM) continue;
        run->local[i] = arena_array_bytes(arena, (size_t)local->size, (size_t)dtypes[local->dtype].bytes);
    }
    run->depends = arena_array(arena, uint64_t, nodes);
    run->reads_written = arena_array(arena, bool, nodes);
    run->reach = arena_array(arena, Reach, nodes);
    run->level[0] = level_new(arena, nodes);
    find_depends(run);
}

typedef struct {
    const Kernel *kernel;
    void *const *buffer;
    const int64_t *var;
} Job;

// The outermost loop of a single nest is shared among the threads, if its iterations store to different places.
static void run_thread(void *context, int thread, int threads, Barrier *barrier) {
    const Job *job = context;
    (void)barrier;
    Arena *arena = arena_new();
    Run *run = arena_object(arena, Run);
    run_begin(run, arena, job->kernel, job->buffer, job->var);
    const Statement *top = job->kernel->body;
    int64_t extent = loop_extent(run, top->loop), first, last;
    thread_share(extent, thread, threads, &first, &last);
    if (last > first) run_loop(run, top, first, last - first);
    arena_free(arena);
}

static int64_t work_of(const Kernel *kernel) {
    int64_t work = 1;
    for (int32_t i = 0; i < kernel->loops.count; i++) {
        int64_t extent = index_high(graph_indices(kernel->graph), kernel->loops.at[i].extent);
        work = work > INT64_MAX / 1024 / max_i64(extent, 1) ? INT64_MAX / 1024 : work * max_i64(extent, 1);
    }
    return work;
}

void interpret(const Kernel *kernel, void *const *buffer, const int64_t *var) {
    Job job = {kernel, buffer, var};
    const Statement *top = kernel->body;
    bool nest = top->kind == STATEMENT_LOOP && !top->next && top->body->role != ROLE_UPDATE;
    if (nest && thread_count() > 1 && work_of(kernel) >= 1 << 15) {
        thread_run(run_thread, &job);
        return;
    }
    Arena *arena = arena_new();
    Run *run = arena_object(arena, Run);
    run_begin(run, arena, kernel, buffer, var);
    run_statements(run, top);
    arena_free(arena);
}

// ---- one expression over a box ----------------------------------------------------------------------------------------
Interpreter *interpreter_new(Arena *arena, const Kernel *kernel, void *const *buffer, const int64_t *var) {
    Run *run = arena_object(arena, Run);
    run_begin(run, arena, kernel, buffer, var);
    return run;
}

void interpreter_move(Interpreter *run, int32_t loop, int64_t position) { move_to(run, loop, position); }

typedef struct {
    Id value;
    char *to;
} Evaluation;

static void append_values(Run *run, void *context) {
    Evaluation *evaluation = context;
    size_t bytes = (size_t)level_of(run)->region.points * (size_t)chunk_bytes(node_dtype(run->graph, evaluation->value));
    memcpy(evaluation->to, compute(run, evaluation->value), bytes);
    evaluation->to += bytes;
}

void interpreter_box(Interpreter *run, Id value, int loops, const int32_t *loop, const int64_t *first,
                     const int64_t *extent, void *to) {
    Evaluation evaluation = {value, to};
    Box box = {.loops = loops, .body = append_values, .context = &evaluation};
    for (int i = 0; i < loops; i++) {
        box.loop[i] = loop[i];
        box.first[i] = first[i];
        box.extent[i] = extent[i];
    }
    run_box(run, &box);
}
