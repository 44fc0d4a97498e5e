/* interpreter.c - run a kernel without a compiler.
 * In: a kernel in unscheduled form (stores hold REDUCE), memory, VARs.  Out: the memory written.
 * Invariant: at its level, a node's array is valid until a loop it depends on moves, or a store.
 *
 * Each node computes arrays of up to CHUNK values: the points of a box of the innermost loops (the
 * region). What depends on outer loops only is computed once and repeated. A REDUCE either runs its
 * loops one by one over whole arrays, or, where that reads memory in better order, opens a level
 * whose region is its own loops and folds each array to a value.
 *   out[8*i + j] = (add a[8*i + j] b[i])   64 x 8 points => 2 regions of 32 x 8, two reads each */
#include <string.h>

#include "ir/scalar.h"
#include "runtime/chunk.h"
#include "runtime/runtime.h"

enum { RUN_LOOPS = 64, LEVELS_MAX = 8 };  // sets of loops are 64-bit words

typedef struct {
    int loops;     // outermost first
    int points;    // product of the counts
    uint64_t set;  // of its loops
    int32_t loop[RUN_LOOPS];
    int64_t count[RUN_LOOPS];  // points along each
} Region;

typedef struct {
    const void **value;        // of each node: its values, in its array or where memory has them
    void **array;              // of each node: room for CHUNK values, NULL before first use
    int64_t *stamp;            // when it was computed; 0 never
    int64_t at[RUN_LOOPS];     // each loop's position; a region's loops: where the region starts
    int64_t moved[RUN_LOOPS];  // when it last changed
    Region region;
} Level;

typedef struct {  // what an index depends on
    Index index;
    uint64_t loops;    // set of loops
    uint64_t varying;  // those inside VALUE atoms
} Reach;

typedef struct {
    const Statement *statement;
    Reach reach;
} Store;

typedef struct Interpreter {
    const Kernel *kernel;
    const Graph *graph;
    IndexTable *indices;
    void *const *buffer;  // PARAMs
    void **local;         // memory of the other buffers
    const int64_t *var;
    Arena *arena;
    uint64_t *depends;    // of each node
    bool *reads_written;  // loads memory that this kernel writes
    Reach *reach;         // of each LOAD and INDEX node
    int64_t now, stored;  // stored: when a store last happened
    int depth;
    Level *level[LEVELS_MAX];
    LIST(const Store *) stores;  // those that have run
} Run;                           // the header calls it an Interpreter

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

static int64_t position(Run *run, Index index) {
    return index_value(run->indices, index, atom_value, run);
}

static int64_t loop_extent(Run *run, int32_t loop) {
    return position(run, run->kernel->loops.at[loop].extent);
}

// ---- what a node depends on --------------------------------------------------------------------
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
        if (node->op == OP_LOAD)
            run->reads_written[id] |= run->kernel->buffers.at[node->arg[0]].written;
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

// ---- memory over a region ----------------------------------------------------------------------
typedef struct {
    Run *run;
    DType dtype;
    char *memory, *values;
    const uint8_t *condition;  // one a point; NULL: all
    bool writes;               // values to memory
} Transfer;
// Moves the points from number `first`; the patch of them starts at `element`.
typedef void Piece(const Transfer *transfer, int first, int64_t element, const Patch *patch);

static void index_piece(const Transfer *transfer, int first, int64_t element, const Patch *patch) {
    int64_t *wide = (int64_t *)transfer->values + first;
    int32_t *narrow = (int32_t *)transfer->values + first;
    for (int row = 0; row < patch->rows; row++, element += patch->row_stride)
        for (int i = 0; i < patch->count; i++)
            if (transfer->dtype == DT_I64)
                *wide++ = element + i * patch->stride;
            else
                *narrow++ = (int32_t)(element + i * patch->stride);
}

// How an index that is affine in the region's loops walks through memory.
typedef struct {
    int64_t start;
    int64_t stride[RUN_LOOPS];
    Patch patch;  // of the innermost loops; those that follow each other are one
    int outer;    // loops around a patch
} Walk;

static void find_pieces(Walk *walk, const Region *region) {
    int last = region->loops - 1;
    walk->patch = (Patch){1, 1, 0, 0};
    walk->outer = 0;
    if (last < 0) return;
    int64_t along = region->count[last], stride = walk->stride[last];
    while (last > 0 && walk->stride[last - 1] == stride * along) along *= region->count[--last];
    walk->patch.count = (int)along;
    walk->patch.stride = stride;
    if (!last--) return;
    walk->patch.rows = (int)region->count[last];
    walk->patch.row_stride = walk->stride[last];
    walk->outer = last;
}

static bool find_walk(Run *run, const Reach *reach, Walk *walk) {
    const Region *region = &level_of(run)->region;
    if (reach->varying & region->set) return false;
    for (int i = 0; i < region->loops; i++)
        if (!index_stride(run->indices, reach->index, region->loop[i], &walk->stride[i]))
            return false;
    walk->start = position(run, reach->index);
    find_pieces(walk, region);
    return true;
}

static void for_walk(const Transfer *transfer, const Walk *walk, Piece *piece) {
    const Region *region = &level_of(transfer->run)->region;
    int64_t counter[RUN_LOOPS], element = walk->start;
    for (int i = 0; i < walk->outer; i++) counter[i] = 0;
    int points = walk->patch.rows * walk->patch.count;
    for (int point = 0; point < region->points; point += points) {
        piece(transfer, point, element, &walk->patch);
        for (int i = walk->outer - 1; i >= 0; i--) {
            element += walk->stride[i];
            if (++counter[i] < region->count[i]) break;
            element -= walk->stride[i] * region->count[i];
            counter[i] = 0;
        }
    }
}

// ---- where an index is not affine: its value at each point -------------------------------------
static void map_constant(Op op, int points, int64_t constant, int64_t *x) {
    int64_t values[CHUNK];
    chunk_fill(DT_I64, points, &constant, values);
    chunk_map(op, DT_I64, points, x, values, NULL, x);
}

static void index_values(Run *run, Index index, int64_t *to);

static void atom_values(Run *run, const Atom *atom, int64_t scale, int64_t *to) {
    int points = level_of(run)->region.points;
    bool power = (atom->by & (atom->by - 1)) == 0, divides = atom->kind == ATOM_DIV;
    if (atom->kind == ATOM_VALUE)
        memcpy(to, compute(run, atom->of), (size_t)points * sizeof *to);
    else
        index_values(run, (Index)atom->of, to);
    if (atom->kind != ATOM_VALUE && power)
        map_constant(divides ? OP_SHR : OP_AND, points,
                     divides ? __builtin_ctzll((uint64_t)atom->by) : atom->by - 1, to);
    else if (atom->kind != ATOM_VALUE)
        map_constant(divides ? OP_IDIV : OP_MOD, points, atom->by, to);
    if (scale != 1) map_constant(OP_MUL, points, scale, to);
}

// First what is affine, in one walk; then the other terms, each an array that is added.
static void index_values(Run *run, Index index, int64_t *to) {
    const Region *region = &level_of(run)->region;
    const Term *term;
    int terms = index_terms(run->indices, index, &term);
    int64_t values[CHUNK];
    Walk walk;
    walk.start = index_constant(run->indices, index);
    for (int i = 0; i < region->loops; i++) walk.stride[i] = 0;
    for (int t = 0; t < terms; t++) {
        const Atom *atom = index_atom_of(run->indices, term[t].atom);
        if (atom->kind == ATOM_LOOP || atom->kind == ATOM_VAR)
            walk.start += term[t].scale * atom_value(run, atom);
        for (int i = 0; i < region->loops && atom->kind == ATOM_LOOP; i++)
            if (region->loop[i] == atom->of) walk.stride[i] = term[t].scale;
    }
    find_pieces(&walk, region);
    for_walk(&(Transfer){run, DT_I64, NULL, (char *)to, NULL, false}, &walk, index_piece);
    for (int t = 0; t < terms; t++) {
        const Atom *atom = index_atom_of(run->indices, term[t].atom);
        if (atom->kind == ATOM_LOOP || atom->kind == ATOM_VAR) continue;
        atom_values(run, atom, term[t].scale, values);
        chunk_map(OP_ADD, DT_I64, region->points, to, values, NULL, to);
    }
}

static void for_positions(const Transfer *transfer, Index index, Piece *piece) {
    int64_t at[CHUNK];
    int points = level_of(transfer->run)->region.points, last;
    index_values(transfer->run, index, at);
    for (int first = 0; first < points; first = last) {
        last = first + 1;
        int64_t stride = last < points ? at[last] - at[first] : 0;
        while (last < points && at[last] - at[last - 1] == stride) last++;
        piece(transfer, first, at[first], &(Patch){1, last - first, 0, stride});
    }
}

static void for_pieces(const Transfer *transfer, const Reach *reach, Piece *piece) {
    Walk walk;
    if (find_walk(transfer->run, reach, &walk))
        for_walk(transfer, &walk, piece);
    else
        for_positions(transfer, reach->index, piece);
}

static void move_patch(const Transfer *transfer, int first, int64_t element, const Patch *patch) {
    DType dtype = transfer->dtype;
    char *values = transfer->values + (size_t)first * (size_t)chunk_bytes(dtype);
    char *at = transfer->memory + element * dtypes[dtype].bytes;
    if (transfer->writes)
        chunk_write(dtype, patch, values, at);
    else
        chunk_read(dtype, patch, at, values);
}

// Where the condition is false, zeros are read and nothing is written.
static void move_piece(const Transfer *transfer, int first, int64_t element, const Patch *patch) {
    size_t bytes = (size_t)chunk_bytes(transfer->dtype);
    if (!transfer->condition) {
        move_patch(transfer, first, element, patch);
        return;
    }
    const uint8_t *condition = transfer->condition + first;
    for (int point = 0, next; point < patch->rows * patch->count; point = next) {
        int row = point / patch->count, column = point % patch->count;
        for (next = point + 1; next < (row + 1) * patch->count; next++)
            if (condition[next] != condition[point]) break;
        if (condition[point])
            move_patch(transfer, first + point,
                       element + row * patch->row_stride + column * patch->stride,
                       &(Patch){1, next - point, 0, patch->stride});
        else if (!transfer->writes)
            memset(transfer->values + (size_t)(first + point) * bytes, 0,
                   (size_t)(next - point) * bytes);
    }
}

// ---- boxes of loops as regions -----------------------------------------------------------------
typedef void Body(Run *run, void *context);
typedef struct {
    int loops;  // outermost first
    int32_t loop[RUN_LOOPS];
    int64_t first[RUN_LOOPS], extent[RUN_LOOPS];
    int outer;  // loops run one by one; the others are the region, the first of them in steps
    int64_t step;
    Body *body;
    void *context;
} Box;

// Steps of the same length, as far as that goes: a region of another shape computes anew what would
// still be valid.
static void choose_region(Box *box) {
    int64_t points = 1;
    box->outer = box->loops;
    box->step = 1;
    while (box->outer > 0 && (box->outer == box->loops || CHUNK / points >= 2)) {
        int64_t extent = box->extent[--box->outer], most = CHUNK / points;
        int64_t steps = (extent + most - 1) / most;
        box->step = (extent + steps - 1) / steps;
        points *= box->step;
        if (box->step < extent) break;
    }
}

// Loops that stay where they are, in a region of the same shape, do not move: what depends on them
// alone is still valid.
static void enter_region(Run *run, const Box *box, int64_t at, int64_t count) {
    Level *level = level_of(run);
    Region *region = &level->region;
    bool same = region->loops == box->loops - box->outer;
    region->loops = box->loops - box->outer;
    region->points = 1;
    region->set = 0;
    for (int i = 0; i < region->loops; i++) {
        int32_t loop = box->loop[box->outer + i];
        int64_t points = i ? box->extent[box->outer + i] : count;
        same &= region->loop[i] == loop && region->count[i] == points;
        region->loop[i] = loop;
        region->count[i] = points;
        region->points *= (int)points;
        region->set |= 1ull << loop;
    }
    for (int i = 0; i < region->loops; i++) {
        int64_t first = box->first[box->outer + i] + (i ? 0 : at);
        if (!same || level->at[region->loop[i]] != first) move_to(run, region->loop[i], first);
    }
}

static void run_region(Run *run, const Box *box) {
    int64_t left = box->outer < box->loops ? box->extent[box->outer] : 1;
    for (int64_t at = 0; at < left; at += box->step) {
        enter_region(run, box, at, min_i64(box->step, left - at));
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

static void leave_region(Level *level) {
    level->region.loops = 0;
    level->region.points = 1;
    level->region.set = 0;
}

static Level *level_new(Arena *arena, int32_t nodes) {
    Level *level = arena_object(arena, Level);
    level->value = arena_array(arena, const void *, nodes);
    level->array = arena_array(arena, void *, nodes);
    level->stamp = arena_array(arena, int64_t, nodes);
    leave_region(level);
    return level;
}

// A level in which every loop stands where it stands in the one outside, and the region is one
// point.
static void level_enter(Run *run) {
    const Level *outside = level_of(run);
    if (++run->depth == LEVELS_MAX)
        fatal("interpreter: reductions nested more than %d deep", LEVELS_MAX - 1);
    if (!run->level[run->depth])
        run->level[run->depth] = level_new(run->arena, graph_count(run->graph));
    Level *level = level_of(run);
    for (int i = 0; i < level->region.loops; i++) level->moved[level->region.loop[i]] = ++run->now;
    for (int i = 0; i < outside->region.loops; i++)
        level->moved[outside->region.loop[i]] = ++run->now;
    for (int32_t loop = 0; loop < run->kernel->loops.count; loop++)
        if (level->at[loop] != outside->at[loop]) move_to(run, loop, outside->at[loop]);
    leave_region(level);
}

// ---- REDUCE ------------------------------------------------------------------------------------
typedef struct {
    const Node *node;
    char *sum;   // CHUNK values
    int points;  // how many of them are live; 0 before the first array, which is the longest
} Fold;

static void fold_array(Run *run, void *context) {
    Fold *fold = context;
    Op op = (Op)fold->node->arg[0];
    DType dtype = dtype_folded(fold->node->dtype);
    int points = level_of(run)->region.points;
    if (!fold->points) {
        Scalar identity = scalar_identity(op, dtype);
        chunk_fill(dtype, points, &identity, fold->sum);
        fold->points = points;
    }
    const void *value = compute(run, fold->node->source[0]);
    chunk_map(op, dtype, points, fold->sum, value, NULL, fold->sum);
}

static void reduce_box(Run *run, const Node *node, Box *box) {
    box->loops = (int)node->arg[1];
    for (int i = 0; i < box->loops; i++) {
        box->loop[i] = (int32_t)node->arg[2 + i];
        box->first[i] = 0;
        box->extent[i] = loop_extent(run, box->loop[i]);
    }
}

// The REDUCE at one point: a value, made by its own loops as regions of the level inside.
static void reduce_across(Run *run, const Node *node, char *to) {
    char sum[CHUNK * 8];
    Fold fold = {.node = node, .sum = sum};
    Scalar identity = scalar_identity((Op)node->arg[0], dtype_folded(node->dtype));
    Box box;
    reduce_box(run, node, &box);
    box.body = fold_array;
    box.context = &fold;
    run_box(run, &box);
    chunk_fold((Op)node->arg[0], dtype_folded(node->dtype), fold.points, sum);
    chunk_fill(dtype_folded(node->dtype), 1, fold.points ? sum : (void *)&identity, to);
}

// A value for each of the points that differ in a loop that the REDUCE depends on, then for all.
static void reduce_points(Run *run, Id id, char *to) {
    const Node *node = graph_node(run->graph, id);
    const Level *outside = level_of(run);
    const Region *region = &outside->region;
    DType dtype = dtype_folded(node->dtype);
    char values[CHUNK * 8];
    Walk walk = {.start = 0};
    int distinct = 1;
    for (int i = region->loops - 1; i >= 0; i--) {
        bool depends = run->depends[id] >> region->loop[i] & 1;
        walk.stride[i] = depends ? distinct : 0;
        if (depends) distinct *= (int)region->count[i];
    }
    level_enter(run);
    for (int value = 0; value < distinct; value++) {
        for (int i = 0; i < region->loops; i++) {
            if (!walk.stride[i]) continue;
            int32_t loop = region->loop[i];
            int64_t at = outside->at[loop] + value / walk.stride[i] % region->count[i];
            if (level_of(run)->at[loop] != at) move_to(run, loop, at);
        }
        reduce_across(run, node, values + value * chunk_bytes(dtype));
    }
    run->depth--;
    find_pieces(&walk, region);
    for_walk(&(Transfer){run, dtype, values, to, NULL, false}, &walk, move_piece);
}

// Its loops one by one, over the arrays of this level.
static void reduce_serially(Run *run, Id id, char *to) {
    const Node *node = graph_node(run->graph, id);
    Fold fold = {.node = node, .sum = to};
    Scalar identity = scalar_identity((Op)node->arg[0], dtype_folded(node->dtype));
    Box box;
    reduce_box(run, node, &box);
    bool empty = false;
    for (int i = 0; i < box.loops; i++) {
        empty = empty || box.extent[i] <= 0;
        move_to(run, box.loop[i], 0);
    }
    if (empty) chunk_fill(dtype_folded(node->dtype), level_of(run)->region.points, &identity, to);
    for (int i = empty ? -1 : 0; i >= 0;) {
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

// Nanoseconds, roughly: a pass over an array has a fixed cost; one point after the other has more
// of them, but reads memory in order.
static bool reduce_by_points(Run *run, Id id) {
    const Node *node = graph_node(run->graph, id);
    const Region *region = &level_of(run)->region;
    int64_t terms = 1, distinct = 1;
    for (int i = 0; i < node->arg[1]; i++) terms *= loop_extent(run, (int32_t)node->arg[2 + i]);
    for (int i = 0; i < region->loops; i++)
        if (run->depends[id] >> region->loop[i] & 1) distinct *= region->count[i];
    int32_t mine = (int32_t)node->arg[1 + node->arg[1]], theirs = region->loop[region->loops - 1];
    bool in_order = contiguous_loads(run, id, theirs) >= contiguous_loads(run, id, mine);
    int64_t serial = terms * (80 + region->points / (in_order ? 4 : 1));
    return distinct * (400 + terms / (in_order ? 1 : 4)) < serial;
}

static void compute_reduce(Run *run, Id id, char *to) {
    const Node *node = graph_node(run->graph, id);
    int points = level_of(run)->region.points;
    if (!(run->depends[id] & level_of(run)->region.set)) {
        level_enter(run);
        char value[8];
        reduce_across(run, node, value);
        run->depth--;
        chunk_fill(dtype_folded(node->dtype), points = CHUNK, value, to);
    } else
        (reduce_by_points(run, id) ? reduce_points : reduce_serially)(run, id, to);
    if (node->dtype != dtype_folded(node->dtype))
        chunk_cast(DT_F32, (DType)node->dtype, points, to, to);
}

// ---- one node ----------------------------------------------------------------------------------
static void compute_const(const Run *run, Id id, void *to) {
    Scalar value = {0};
    DType dtype = node_dtype(run->graph, id);
    double real = node_const_value(run->graph, id, &value.integer);
    if (dtype_is_float(dtype)) value.real = (float)real;
    chunk_fill(dtype, CHUNK, &value, to);
}

// Memory that is as an array would be, and does not change, is its own array.
static const void *compute_load(Run *run, Id id, char *to) {
    const Node *node = graph_node(run->graph, id);
    DType dtype = (DType)node->dtype;
    const Reach *reach = &run->reach[id];
    Transfer transfer = {run, dtype, memory(run, (int32_t)node->arg[0]), to, NULL, false};
    if (node->sources) transfer.condition = compute(run, node->source[0]);
    if (run->depends[id] & level_of(run)->region.set) {
        Walk walk;
        bool plain = !node->sources && !run->reads_written[id] && dtype != DT_BOOL &&
                     dtypes[dtype].bytes == chunk_bytes(dtype);
        bool walks = find_walk(run, reach, &walk);
        if (walks && plain && walk.patch.stride == 1 &&
            walk.patch.count == level_of(run)->region.points)
            return transfer.memory + walk.start * dtypes[dtype].bytes;
        if (walks)
            for_walk(&transfer, &walk, move_piece);
        else
            for_positions(&transfer, reach->index, move_piece);
        return to;
    }
    transfer.values = (char[8]){0};
    if (!node->sources || transfer.condition[0])
        move_piece(&transfer, 0, position(run, reach->index), &(Patch){1, 1, 0, 0});
    chunk_fill(dtype, CHUNK, transfer.values, to);
    return to;
}

static void compute_index(Run *run, Id id, char *to) {
    DType dtype = node_dtype(run->graph, id);
    Transfer transfer = {run, dtype, NULL, to, NULL, false};
    if (run->depends[id] & level_of(run)->region.set) {
        for_pieces(&transfer, &run->reach[id], index_piece);
        return;
    }
    int64_t value = position(run, run->reach[id].index);
    chunk_fill(dtype, CHUNK, &value, to);
}

static void compute_map(Run *run, Id id, void *to) {
    const Node *node = graph_node(run->graph, id);
    const Region *region = &level_of(run)->region;
    const void *source[3] = {NULL, NULL, NULL};
    int points = run->depends[id] & region->set ? region->points : CHUNK;
    for (int i = 0; i < node->sources; i++) source[i] = compute(run, node->source[i]);
    DType dtype = node_dtype(run->graph, node->source[0]);
    if (node->op == OP_WHERE)
        chunk_where((DType)node->dtype, points, source[0], source[1], source[2], to);
    else if (node->op == OP_CAST)
        chunk_cast(dtype, (DType)node->dtype, points, source[0], to);
    else if (node->op == OP_BITCAST) {
        char stored[CHUNK * 8];  // the bits of the stored form
        Patch all = {1, points, 0, 1};
        chunk_write(dtype, &all, source[0], stored);
        chunk_read((DType)node->dtype, &all, stored, to);
    } else
        chunk_map((Op)node->op, dtype, points, source[0], source[1], source[2], to);
}

// CHUNK values: those of the region's points, or one value repeated if the node does not depend on
// the region.
static const void *compute(Run *run, Id id) {
    Level *level = level_of(run);
    if (is_valid(run, id)) return level->value[id];
    const Node *node = graph_node(run->graph, id);
    size_t bytes = (size_t)CHUNK * (size_t)chunk_bytes((DType)node->dtype);
    if (!level->array[id]) level->array[id] = arena_alloc(run->arena, bytes);
    void *to = level->array[id];
    level->value[id] = to;
    if (node->op == OP_CONST)
        compute_const(run, id, to);
    else if (node->op == OP_LOAD)
        level->value[id] = compute_load(run, id, to);
    else if (node->op == OP_INDEX)
        compute_index(run, id, to);
    else if (node->op == OP_REDUCE)
        compute_reduce(run, id, to);
    else
        compute_map(run, id, to);
    level->stamp[id] = ++run->now;
    return level->value[id];
}

// ---- statements --------------------------------------------------------------------------------
static const Store *store_of(Run *run, const Statement *statement) {
    for (int32_t i = 0; i < run->stores.count; i++)
        if (run->stores.at[i]->statement == statement) return run->stores.at[i];
    Store *store = arena_object(run->arena, Store);
    *store = (Store){statement, find_reach(run, statement->index)};
    *list_add(run->arena, &run->stores) = store;
    return store;
}

static void run_store(Run *run, void *context) {
    const Store *store = context;
    const Statement *statement = store->statement;
    const KernelBuffer *buffer = &run->kernel->buffers.at[statement->buffer];
    Transfer transfer = {run, buffer->dtype, memory(run, statement->buffer), NULL, NULL, true};
    if (statement->condition >= 0) transfer.condition = compute(run, statement->condition);
    transfer.values = (char *)(uintptr_t)compute(run, statement->value);
    for_pieces(&transfer, &store->reach, move_piece);
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
        box.body = run_store;
        box.context = (void *)(uintptr_t)store_of(run, inner);
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
        if (statement->kind == STATEMENT_LOOP)
            run_loop(run, statement, 0, loop_extent(run, statement->loop));
        if (statement->kind != STATEMENT_STORE) continue;
        leave_region(level_of(run));
        run_store(run, (void *)(uintptr_t)store_of(run, statement));
    }
}

Interpreter *interpreter_new(Arena *arena, const Kernel *kernel, void *const *buffer,
                             const int64_t *var) {
    Run *run = arena_object(arena, Run);
    int32_t nodes = graph_count(kernel->graph);
    if (kernel->loops.count > RUN_LOOPS)
        fatal("interpreter: %s has more than %d loops", kernel->name, RUN_LOOPS);
    *run = (Run){.kernel = kernel,
                 .graph = kernel->graph,
                 .indices = graph_indices(kernel->graph),
                 .buffer = buffer,
                 .var = var,
                 .arena = arena};
    run->local = arena_array(arena, void *, kernel->buffers.count);
    for (int32_t i = 0; i < kernel->buffers.count; i++) {
        const KernelBuffer *local = &kernel->buffers.at[i];
        if (local->space == SPACE_PARAM) continue;
        run->local[i] =
            arena_array_bytes(arena, (size_t)local->size, (size_t)dtypes[local->dtype].bytes);
    }
    run->depends = arena_array(arena, uint64_t, nodes);
    run->reads_written = arena_array(arena, bool, nodes);
    run->reach = arena_array(arena, Reach, nodes);
    run->level[0] = level_new(arena, nodes);
    find_depends(run);
    return run;
}

typedef struct {
    const Kernel *kernel;
    void *const *buffer;
    const int64_t *var;
} Job;

// The outermost loop of a single nest is shared among the threads, if its iterations store to
// different places.
static void run_thread(void *context, int thread, int threads, Barrier *barrier) {
    const Job *job = context;
    (void)barrier;
    Arena *arena = arena_new();
    Run *run = interpreter_new(arena, job->kernel, job->buffer, job->var);
    const Statement *top = job->kernel->body;
    int64_t first = 0, last = 0;
    if (threads > 1) thread_share(loop_extent(run, top->loop), thread, threads, &first, &last);
    if (last > first) run_loop(run, top, first, last - first);
    if (threads == 1) run_statements(run, top);
    arena_free(arena);
}

static int64_t work_of(const Kernel *kernel) {
    int64_t work = 1;
    for (int32_t i = 0; i < kernel->loops.count; i++) {
        int64_t extent = index_high(graph_indices(kernel->graph), kernel->loops.at[i].extent);
        work = work > INT64_MAX / 1024 / max_i64(extent, 1) ? INT64_MAX / 1024
                                                            : work * max_i64(extent, 1);
    }
    return work;
}

void interpret(const Kernel *kernel, void *const *buffer, const int64_t *var) {
    Job job = {kernel, buffer, var};
    const Statement *top = kernel->body;
    bool nest = top->kind == STATEMENT_LOOP && !top->next && top->body->role != ROLE_UPDATE;
    if (nest && thread_count() > 1 && work_of(kernel) >= 1 << 15)
        thread_run(run_thread, &job);
    else
        run_thread(&job, 0, 1, NULL);
}

// ---- one expression over a box -----------------------------------------------------------------
void interpreter_move(Interpreter *run, int32_t loop, int64_t position) {
    move_to(run, loop, position);
}

typedef struct {
    Id value;
    char *to;
} Evaluation;

static void append_values(Run *run, void *context) {
    Evaluation *evaluation = context;
    size_t bytes = (size_t)level_of(run)->region.points *
                   (size_t)chunk_bytes(node_dtype(run->graph, evaluation->value));
    memcpy(evaluation->to, compute(run, evaluation->value), bytes);
    evaluation->to += bytes;
}

void interpreter_box(Interpreter *run, Id value, int loops, const int32_t *loop,
                     const int64_t *first, const int64_t *extent, void *to) {
    Evaluation evaluation = {value, to};
    Box box = {.loops = loops, .body = append_values, .context = &evaluation};
    for (int i = 0; i < loops; i++) {
        box.loop[i] = loop[i];
        box.first[i] = first[i];
        box.extent[i] = extent[i];
    }
    run_box(run, &box);
}
