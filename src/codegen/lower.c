/* lower.c - a kernel becomes a program: loops, statements, threads, memory.
 * In: a kernel in explicit form.  Out: steps in the order in which they run.
 * Invariants: what stands outside of thread loops runs on every thread, but memory that all threads
 * see is written there by thread 0 alone; a vector loop leaves no loop behind, only vectors.
 *   vector for v < 8 { s[v] = (add s[v] a[8*i + v]) }
 *   =>   %1 = f32x8 load a[8*i + lane] ; %2 = f32x8 get s ; %3 = f32x8 add %2 %1 ; set s %3      */
#include "codegen/lower.h"
#include "ir/scalar.h"

enum {
    LANES_MAX = 64,
    UNROLL_MAX = 1024,
    STACK_BYTES_MAX = 1 << 14,  // of an array that is not promoted; larger ones go to the workspace
};

static const Loop *loop_of(const Lower *lower, const Statement *statement) {
    return &lower->kernel->loops.at[statement->loop];
}

int32_t lower_open(Lower *lower, StepKind kind, int32_t condition) {
    return step_add(lower, (Step){.kind = kind, .condition = condition, .index = -1, .limit = -1});
}

void lower_close(Lower *lower) { step_add(lower, (Step){.kind = STEP_END}); }

// ---- stores ------------------------------------------------------------------------------------

static void set_variable(Lower *lower, int32_t variable, int lane, int32_t value) {
    step_add(lower,
             (Step){.kind = STEP_SET, .of = variable, .lane = lane, .source = {value, -1, -1}});
}

static void store_variable(Lower *lower, const Statement *store, Index index, int32_t value) {
    int lane;
    int32_t variable = variable_of(lower, store->buffer, index, &lane);
    ValueType type = lower->program->variables.at[variable].type;
    if (lane < 0 && type.lanes > 1) {
        value = widened(lower, value, type.lanes);
        if (lower->mask >= 0)
            value = let(lower, OP_WHERE, type.dtype, lower->mask, value, let_get(lower, variable));
        set_variable(lower, variable, -1, value);
    } else if (lower->mask < 0) {
        set_variable(lower, variable, lane, let_lane(lower, value, lower->lanes - 1));
    } else {
        for (int i = 0; i < lower->lanes; i++) {
            lower_open(lower, STEP_IF, let_lane(lower, lower->mask, i));
            set_variable(lower, variable, lane, let_lane(lower, value, i));
            lower_close(lower);
        }
    }
}

void lower_value(Lower *lower, const Statement *store, Index index, int32_t value) {
    if (lower->promotion[store->buffer].lanes) {
        store_variable(lower, store, index, value);
        return;
    }
    int lanes = index_lanes(lower->program, index);
    if (lanes < lanes_of(lower, lower->mask)) lanes = lanes_of(lower, lower->mask);
    value = stored(lower, value, lower->kernel->buffers.at[store->buffer].dtype);
    // Of lanes that all write one element the last one wins, as it would in a serial loop.
    value = lanes == 1 ? let_lane(lower, value, lower->lanes - 1) : widened(lower, value, lanes);
    step_add(lower, (Step){.kind = STEP_STORE,
                           .of = lower->place[store->buffer],
                           .index = index,
                           .condition = lower->mask,
                           .source = {value, -1, -1}});
}

// ---- folds over lanes --------------------------------------------------------------------------

// x[0] op ... op x[L - 1] in a fixed tree: halves, then halves of the half.
int32_t lower_lanes(Lower *lower, Op op, DType dtype, int32_t value) {
    for (int half = lanes_of(lower, value) / 2; half; half /= 2) {
        int32_t other = let(lower, OP_PERM, dtype_computed(dtype), value, -1, -1);
        lower->program->steps.at[other].lane = half;
        value = apply(lower, op, dtype, value, other, -1);
    }
    return let_lane(lower, value, 0);
}

static bool is_old_value(const Lower *lower, const Statement *store, Id id) {
    const Node *node = graph_node(lower->kernel->graph, id);
    return node->op == OP_LOAD && node->arg[0] == store->buffer && node->arg[1] == store->index;
}

static bool reads_old_value(const Lower *lower, const Statement *store, Id value) {
    IdList nodes = kernel_nodes(lower->arena, lower->kernel, value);
    for (int i = 0; i < nodes.count; i++)
        if (is_old_value(lower, store, nodes.at[i])) return true;
    return false;
}

bool lower_fold_of(const Lower *lower, const Statement *store, Fold *fold) {
    if (!reads_old_value(lower, store, store->value)) return false;
    const Node *node = graph_node(lower->kernel->graph, store->value);
    *fold = (Fold){.op = node->op, .old = -1, .y = -1};
    if (node->op == OP_ADD || node->op == OP_MAX || node->op == OP_MUL) {
        int old = !is_old_value(lower, store, node->source[0]);
        fold->old = node->source[old];
        fold->x = node->source[!old];
    } else if (node->op == OP_FMA) {
        *fold = (Fold){OP_ADD, node->source[2], node->source[0], node->source[1]};
    }
    if (fold->old < 0 || !is_old_value(lower, store, fold->old) ||
        graph_node(lower->kernel->graph, fold->old)->sources ||
        reads_old_value(lower, store, fold->x) ||
        (fold->y >= 0 && reads_old_value(lower, store, fold->y)))
        fatal("lower: `%s` in kernel %s carries a value from %s. Hint: such a loop folds by add, "
              "max or mul; else RFACTOR it",
              statement_text(lower->arena, lower->kernel, store), lower->kernel->name,
              lower->lanes > 1 ? "lane to lane" : "thread to thread");
    return true;
}

int32_t lower_identity(Lower *lower, Op fold, DType dtype) {
    Scalar identity = scalar_identity(fold, dtype);
    return dtype_computed(dtype) == DT_F32
               ? let_number(lower, identity.real)
               : let_integer(lower, dtype_computed(dtype), identity.integer);
}

static void store_fold(Lower *lower, const Statement *store, Index index, const Fold *fold) {
    DType dtype = lower->kernel->buffers.at[store->buffer].dtype, computes = dtype_computed(dtype);
    int32_t mask = lower->mask;
    int32_t value = expression(lower, fold->x);
    if (fold->y >= 0) value = apply(lower, OP_MUL, dtype, value, expression(lower, fold->y), -1);
    value = widened(lower, value, lower->lanes);
    if (mask >= 0) {
        value = let(lower, OP_WHERE, computes, mask, value, lower_identity(lower, fold->op, dtype));
    }
    value = lower_lanes(lower, fold->op, dtype, value);
    if (mask >= 0) lower_open(lower, STEP_IF, lower_lanes(lower, OP_OR, DT_BOOL, mask));
    lower->mask = -1;
    value = apply(lower, fold->op, dtype, expression(lower, fold->old), value, -1);
    lower_value(lower, store, index, value);
    lower->mask = mask;
    if (mask >= 0) lower_close(lower);
}

static void lower_store(Lower *lower, const Statement *store) {
    int32_t mask = lower->mask, condition = -1;
    if (store->condition >= 0) condition = expression(lower, store->condition);
    bool guarded = condition >= 0 && lanes_of(lower, condition) == 1;
    if (guarded)
        lower_open(lower, STEP_IF, condition);
    else
        lower->mask = both(lower, mask, condition);
    if (lower_thread_fold(lower, store) || lower_copy(lower, store)) {
        if (guarded) lower_close(lower);
        lower->mask = mask;
        return;
    }
    Index index = mapped_element(lower, store->buffer, store->index);
    Fold fold;
    if (lower->lanes > 1 && index_lanes(lower->program, index) == 1 &&
        lower_fold_of(lower, store, &fold))
        store_fold(lower, store, index, &fold);
    else
        lower_value(lower, store, index, expression(lower, store->value));
    if (guarded) lower_close(lower);
    lower->mask = mask;
}

// ---- loops -------------------------------------------------------------------------------------

// value < limit; -1 if that is so for all values of the VARs and loops.
static int32_t below(Lower *lower, int64_t value, Index limit) {
    if (index_low(lower->program->indices, limit) > value) return -1;
    int32_t least = let_integer(lower, DT_I64, value);
    return let(lower, OP_CMPLT, DT_BOOL, least, let_index(lower, limit, DT_I64), -1);
}

static int64_t constant_extent(const Lower *lower, const Loop *loop, int64_t most) {
    int64_t extent;
    if (!index_is_const(graph_indices(lower->kernel->graph), loop->extent, &extent) ||
        extent > most)
        fatal("lower: loop %s of kernel %s is to be unrolled or vectorised. Hint: that needs a "
              "constant extent of %ld or less; SPLIT it",
              loop->name, lower->kernel->name, most);
    return extent;
}

// How often its statements run, sizes at their largest.
static double runs_of(const Kernel *kernel, const Statement *statement) {
    if (statement->kind != STATEMENT_LOOP) return statement->kind == STATEMENT_STORE;
    double runs = 0;
    for (const Statement *at = statement->body; at; at = at->next) runs += runs_of(kernel, at);
    Index extent = kernel->loops.at[statement->loop].extent;
    return runs * (double)index_high(graph_indices(kernel->graph), extent);
}

// Threads take iterations as they come where there is time for it: in shorter loops each has a
// fixed part, so that it reads one stream, and finds in its cache what it left there. A counter
// serves one run of one loop: inside another loop, no barrier need be between runs.
static int32_t counter_for(Lower *lower, const Statement *statement) {
    static const double least = 1 << 22;
    if (lower->around || lower->counters == BARRIER_COUNTERS ||
        runs_of(lower->kernel, statement) < least)
        return -1;
    return lower->counters++;
}

void lower_body(Lower *lower, const Statement *statement, Share share, int counter) {
    const Loop *loop = loop_of(lower, statement);
    IndexTable *indices = lower->program->indices;
    bool inside = lower->inside;
    Step step = {.kind = STEP_FOR,
                 .name = loop->name,
                 .share = share,
                 .counter = counter,
                 .steps = loop->kind == LOOP_UNROLL ? loop->steps : 0,
                 .limit = -1,
                 .condition = -1};
    step.index = mapped(lower, loop->extent);
    if (loop->limit >= 0) step.limit = mapped(lower, loop->limit);
    int32_t id = step_add(lower, step);
    int64_t last = index_high(indices, step.index) - 1;
    lower->loop_value[statement->loop] = index_atom(indices, ATOM_LOOP, id, 0, max_i64(last, 0));
    lower->inside |= loop->kind == LOOP_THREAD;
    lower->around++;
    lower_list(lower, statement->body);
    if (share == SHARE_NONE) lower_wait(lower);
    lower->around--;
    lower->inside = inside;
    lower_close(lower);
}

static void lower_for(Lower *lower, const Statement *statement) {
    const Loop *loop = loop_of(lower, statement);
    bool share = loop->kind == LOOP_THREAD;
    if (share && lower->inside)
        fatal("lower: thread loop %s of kernel %s is inside another. Hint: FUSE them", loop->name,
              lower->kernel->name);
    if (share && lower->gpu)
        lower_thread(lower, statement);
    else if (loop->kind == LOOP_WARP)
        lower_warp(lower, statement);
    else
        lower_body(lower, statement, share ? SHARE_THREADS : SHARE_NONE,
                   share ? counter_for(lower, statement) : -1);
}

static void lower_unrolled(Lower *lower, const Statement *statement) {
    const Loop *loop = loop_of(lower, statement);
    IndexTable *indices = lower->program->indices;
    int64_t extent = constant_extent(lower, loop, UNROLL_MAX);
    Index limit = loop->limit < 0 ? index_const(indices, extent) : mapped(lower, loop->limit);
    for (int64_t i = 0; i < extent && index_high(indices, limit) > i; i++) {
        lower->loop_value[statement->loop] = index_const(indices, i);
        int32_t condition = below(lower, i, limit);
        if (condition >= 0) lower_open(lower, STEP_IF, condition);
        lower_list(lower, statement->body);
        if (condition >= 0) lower_close(lower);
    }
}

static void lower_vector(Lower *lower, const Statement *statement) {
    const Loop *loop = loop_of(lower, statement);
    int64_t lanes = constant_extent(lower, loop, LANES_MAX);
    bool innermost = true;
    for (const Statement *inner = statement->body; inner; inner = inner->next)
        innermost &= inner->kind == STATEMENT_STORE;
    if (lanes & (lanes - 1) || lanes < 1 || loop->limit >= 0 || !innermost)
        fatal(
            "lower: vector loop %s of kernel %s cannot be one. Hint: it is innermost, has no limit "
            "and a power of two of iterations",
            loop->name, lower->kernel->name);
    lower->lanes = (int)lanes;
    lower->loop_value[statement->loop] = lanes > 1 ? lane_atom(lower->program->indices, (int)lanes)
                                                   : index_const(lower->program->indices, 0);
    lower_list(lower, statement->body);
    lower->lanes = 1;
}

static void lower_tile(Lower *lower, const Statement *loop) {
    TileUse tile;
    const char *wrong = kernel_tile(lower->kernel, loop, &tile);
    Step step = {.kind = STEP_TILE, .condition = -1, .source = {-1, -1, -1}, .limit = -1};
    if (wrong) fatal("lower: kernel %s: %s", lower->kernel->name, wrong);
    if (tile.kind == TILE_BULK) {
        lower_bulk(lower, loop, &tile);
        return;
    }
    if (tile.kind == TILE_WARP || tile.kind == TILE_WARPGROUP) {
        lower_product(lower, &tile);
        return;
    }
    for (int i = 0; i < (tile.kind == TILE_PRODUCT ? 3 : 1); i++) {
        int lane;
        if (!type_is_tile((ValueType){lower->kernel->buffers.at[tile.buffer[i]].dtype,
                                      lower->promotion[tile.buffer[i]].lanes}))
            fatal("lower: %s of kernel %s is used outside of tiles as well",
                  lower->kernel->buffers.at[tile.buffer[i]].name, lower->kernel->name);
        step.tile[i] = variable_of(lower, tile.buffer[i], mapped(lower, tile.first[i]), &lane);
    }
    step.does = tile.kind;
    step.stride = tile.stride;
    step.index = -1;
    if (tile.kind != TILE_PRODUCT) {
        step.of = lower->place[tile.memory];
        step.index = mapped(lower, tile.from);
    }
    step_add(lower, step);
}

// ---- lists -------------------------------------------------------------------------------------

static void lower_statement(Lower *lower, const Statement *statement) {
    lower->statement++;  // from 1: nothing is remembered yet
    if (statement->kind == STATEMENT_STORE) {
        lower_store(lower, statement);
    } else if (statement->kind == STATEMENT_COMMIT || statement->kind == STATEMENT_SETTLE) {
        StepKind kind = statement->kind == STATEMENT_COMMIT ? STEP_COMMIT : STEP_SETTLE;
        if (lower->gpu)
            step_add(lower, (Step){.kind = kind, .integer = statement->groups, .condition = -1});
    } else if (statement->kind == STATEMENT_LOOP) {
        const Loop *loop = loop_of(lower, statement);
        if (loop->kind == LOOP_UNROLL && !loop->steps)
            lower_unrolled(lower, statement);
        else if (loop->kind == LOOP_VECTOR)
            lower_vector(lower, statement);
        else if (loop->kind == LOOP_TILE)
            lower_tile(lower, statement);
        else
            lower_for(lower, statement);
    }
}

static bool meets_before(const Lower *lower, const Statement *statement) {
    if (statement->kind == STATEMENT_BARRIER) return true;
    for (int i = 0; i < lower->barriers.count; i++)
        if (lower->barriers.at[i] == statement) return true;
    return false;
}

void lower_list(Lower *lower, const Statement *list) {
    bool once = false, group = false;
    for (; list; list = list->next) {
        bool meets = !lower->inside || once ? meets_before(lower, list) : false;
        bool alone = scan_is_for_one(lower->kernel, list);
        if (once && (meets || !alone)) {
            lower_close(lower);
            once = lower->inside = false;
        }
        Share who = !lower->gpu ? SHARE_NONE : lower->warp >= 0 ? SHARE_LANES : SHARE_BLOCK;
        if (group && (meets || !lower_is_group(lower, list))) group = lower_end_group(lower);
        if (meets) lower_before_barrier(lower);
        if (meets) step_add(lower, (Step){.kind = STEP_BARRIER, .share = who, .condition = -1});
        if (alone && !lower->inside) {
            int32_t open = lower_open(lower, STEP_ONCE, -1);
            lower->program->steps.at[open].share = who;
            once = lower->inside = true;
        }
        if (!group) group = lower_begin_group(lower, list);
        lower_statement(lower, list);
    }
    if (group) lower_end_group(lower);
    if (once) {
        lower_close(lower);
        lower->inside = false;
    }
}

// ---- memory ------------------------------------------------------------------------------------

static int64_t reserve(const Kernel *kernel, const KernelBuffer *buffer, int64_t *total) {
    int64_t bytes, offset = *total;
    if (__builtin_mul_overflow(buffer->size, dtypes[buffer->dtype].bytes, &bytes) ||
        bytes > INT64_MAX - 64 - *total)
        fatal("lower: buffer %s of kernel %s has %ld elements", buffer->name, kernel->name,
              buffer->size);
    *total += round_up(bytes, 64);
    return offset;
}

static void add_variables(Lower *lower, int32_t buffer) {
    const KernelBuffer *from = &lower->kernel->buffers.at[buffer];
    Promotion *promotion = &lower->promotion[buffer];
    ValueType type = {from->dtype, promotion->lanes};
    if (!type_is_tile(type)) type.dtype = dtype_computed(from->dtype);
    int64_t size = kernel_own_size(&promotion->spread, from->size);
    int64_t count = (size + promotion->lanes - 1) / promotion->lanes;
    promotion->first = lower->program->variables.count;
    for (int64_t i = 0; i < count; i++) {
        const char *name =
            count == 1 ? from->name : arena_print(lower->arena, "%s_%ld", from->name, i);
        *list_add(lower->arena, &lower->program->variables) = (Variable){name, type};
    }
}

static void add_buffers(Lower *lower) {
    Program *program = lower->program;
    for (int32_t i = 0; i < lower->kernel->buffers.count; i++) {
        const KernelBuffer *from = &lower->kernel->buffers.at[i];
        ProgramBuffer buffer = {.name = from->name,
                                .dtype = from->dtype,
                                .space = from->space,
                                .size = from->size,
                                .written = from->written,
                                .streams = from->streams};
        if (lower->promotion[i].lanes) {
            add_variables(lower, i);
            continue;
        }
        if (lower->gpu && !space_is_common(from->space)) {
            buffer.space = SPACE_REGISTER;
            buffer.size = kernel_own_size(&lower->promotion[i].spread, from->size);
        }
        if (!lower->gpu && from->space == SPACE_REGISTER &&
            from->size > STACK_BYTES_MAX / dtypes[from->dtype].bytes)
            buffer.space = SPACE_THREAD;
        if (from->space == SPACE_ONCE) buffer.space = SPACE_SHARED;
        if (buffer.space == SPACE_THREAD)
            buffer.offset = reserve(lower->kernel, from, &program->own_bytes);
        buffer.on_chip = lower->gpu && from->space == SPACE_SHARED && lower_on_chip(lower, i);
        if (buffer.on_chip)
            buffer.offset = reserve(lower->kernel, from, &program->chip_bytes);
        else if (buffer.space == SPACE_SHARED)
            buffer.offset = reserve(lower->kernel, from, &program->shared_bytes);
        lower->place[i] = program->buffers.count;
        *list_add(lower->arena, &program->buffers) = buffer;
    }
}

// Behind a barrier, memory may have changed that this thread did not write.
static void set_restricted(Program *program, const bool *aliased) {
    bool meets = false;
    for (int32_t i = 0; i < program->steps.count; i++)
        meets |= program->steps.at[i].kind == STEP_BARRIER;
    for (int32_t i = 0; i < program->buffers.count; i++) {
        ProgramBuffer *buffer = &program->buffers.at[i];
        bool changes =
            buffer->space == SPACE_SHARED || (buffer->space == SPACE_PARAM && buffer->written);
        bool two_names = buffer->space == SPACE_PARAM && aliased && aliased[i];
        buffer->restricted = !two_names && !(meets && changes);
    }
}

Program *lower(Arena *arena, const Kernel *kernel, const LowerOptions *options) {
    Program *program = arena_object(arena, Program);
    program->arena = arena;
    program->name = kernel->name;
    program->indices = index_table_new(arena);
    for (int32_t i = 0; i < graph_vars(kernel->graph); i++)
        *list_add(arena, &program->vars) = *graph_var_info(kernel->graph, i);
    Lower lower = {.arena = arena,
                   .kernel = kernel,
                   .program = program,
                   .promotion = scan_promotions(arena, kernel),
                   .place = arena_array(arena, int32_t, kernel->buffers.count),
                   .barriers = scan_barriers(arena, kernel, options->aliased),
                   .loop_value = arena_array(arena, Index, kernel->loops.count),
                   .lanes = 1,
                   .mask = -1,
                   .gpu = options->gpu,
                   .role = lower_product_roles(arena, kernel),
                   .warp = -1,
                   .thread = -1,
                   .value = arena_array(arena, int32_t, graph_count(kernel->graph)),
                   .valued_in = arena_array(arena, int32_t, graph_count(kernel->graph))};
    add_buffers(&lower);
    if (lower.gpu) {
        lower_launches(&lower);
    } else if (scan_has_thread_loop(kernel, kernel->body)) {
        lower_list(&lower, kernel->body);
    } else {  // all of it is thread 0's
        lower.inside = true;
        lower_open(&lower, STEP_ONCE, -1);
        lower_list(&lower, kernel->body);
        lower_close(&lower);
    }
    set_restricted(program, options->aliased);
    return lower.gpu ? program_scalars(arena, program) : program;
}
