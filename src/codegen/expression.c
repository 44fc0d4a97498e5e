/* expression.c - lowering, the part that gives values: a kernel's expression becomes steps.
 * In: a node of the kernel's graph.  Out: the step with its value.
 * Invariants: a value is in the range of its node's dtype, f16 and bf16 are rounded after each op,
 * as scalar_apply does it; a load whose condition is false, or whose lane does not run, touches no
 * memory.   (add u8 a[i] b[i])  =>  cast i32, cast i32, add i32, and 255                       */
#include "codegen/lower.h"

int32_t step_add(Lower *lower, Step step) {
    if (step.kind == STEP_FOR || step.kind == STEP_END) lower->asked.count = 0;
    *list_add(lower->arena, &lower->program->steps) = step;
    return lower->program->steps.count - 1;
}

static const Step *step_of(const Lower *lower, int32_t value) {
    return &lower->program->steps.at[value];
}

int lanes_of(const Lower *lower, int32_t value) {
    return value < 0 ? 1 : step_of(lower, value)->type.lanes;
}

static DType dtype_of(const Lower *lower, int32_t value) {
    return step_of(lower, value)->type.dtype;
}

// ---- single steps ------------------------------------------------------------------------------

static Step step_let(Op op, DType dtype, int lanes) {
    return (Step){.kind = STEP_LET,
                  .op = op,
                  .type = {dtype, lanes},
                  .source = {-1, -1, -1},
                  .condition = -1,
                  .index = -1,
                  .limit = -1};
}

int32_t widened(Lower *lower, int32_t value, int lanes) {
    if (value < 0 || lanes == 1 || lanes_of(lower, value) == lanes) return value;
    Step step = step_let(OP_VEC, dtype_of(lower, value), lanes);
    step.source[0] = value;
    return step_add(lower, step);
}

int32_t let(Lower *lower, Op op, DType dtype, int32_t x, int32_t y, int32_t z) {
    int32_t source[3] = {x, y, z}, simple = simplified(lower, op, dtype, source);
    int lanes = 1;
    if (simple >= 0) return simple;
    for (int i = 0; i < 3; i++)
        if (lanes_of(lower, source[i]) > lanes) lanes = lanes_of(lower, source[i]);
    Step step = step_let(op, dtype, lanes);
    for (int i = 0; i < 3; i++) step.source[i] = widened(lower, source[i], lanes);
    return step_add(lower, step);
}

int32_t let_integer(Lower *lower, DType dtype, int64_t value) {
    Step step = step_let(OP_CONST, dtype, 1);
    step.integer = value;
    return step_add(lower, step);
}

int32_t let_number(Lower *lower, double value) {
    Step step = step_let(OP_CONST, DT_F32, 1);
    step.number = value;
    return step_add(lower, step);
}

static int32_t zero_of(Lower *lower, DType computes) {
    return computes == DT_F32 ? let_number(lower, 0) : let_integer(lower, computes, 0);
}

int32_t let_index(Lower *lower, Index index, DType dtype) {
    int64_t value;
    if (index_is_const(lower->program->indices, index, &value))
        return let_integer(lower, dtype, value);
    Step step = step_let(OP_INDEX, dtype, index_lanes(lower->program, index));
    step.index = index;
    return step_add(lower, step);
}

int32_t let_lane(Lower *lower, int32_t value, int lane) {
    if (lanes_of(lower, value) == 1) return value;
    Step step = step_let(OP_LANE, dtype_of(lower, value), 1);
    step.source[0] = value;
    step.lane = lane;
    return step_add(lower, step);
}

int32_t let_get(Lower *lower, int32_t variable) {
    ValueType type = lower->program->variables.at[variable].type;
    Step step = step_let(OP_LOAD, type.dtype, type.lanes);
    step.kind = STEP_GET;
    step.of = variable;
    return step_add(lower, step);
}

int32_t both(Lower *lower, int32_t a, int32_t b) {
    if (a < 0 || b < 0 || a == b) return a < 0 ? b : a;
    return let(lower, OP_AND, DT_BOOL, a, b, -1);
}

// ---- dtypes ------------------------------------------------------------------------------------

static bool is_storage(DType dtype) { return dtype_computed(dtype) != dtype; }

int32_t stored(Lower *lower, int32_t value, DType dtype) {
    if (!is_storage(dtype)) return value;
    const Step *step = step_of(lower, value);
    if (step->op == OP_CAST && step->kind == STEP_LET && dtype_of(lower, step->source[0]) == dtype)
        return step->source[0];  // it was just read so
    return let(lower, OP_CAST, dtype, value, -1, -1);
}

static int32_t computed(Lower *lower, int32_t value) {
    DType dtype = dtype_of(lower, value);
    if (!is_storage(dtype)) return value;
    return let(lower, OP_CAST, dtype_computed(dtype), value, -1, -1);
}

static int bits(DType dtype) { return 8 * dtypes[dtype].bytes; }

// Into the range (the precision) of a dtype that computes in a wider one.
static int32_t narrowed(Lower *lower, DType dtype, int32_t value) {
    if (!is_storage(dtype)) return value;
    if (dtype_is_float(dtype)) return computed(lower, stored(lower, value, dtype));
    if (dtypes[dtype].kind == KIND_UNSIGNED)
        return let(lower, OP_AND, DT_I32, value, let_integer(lower, DT_I32, (1 << bits(dtype)) - 1),
                   -1);
    int32_t unused = let_integer(lower, DT_I32, 32 - bits(dtype));
    return let(lower, OP_SHR, DT_I32, let(lower, OP_SHL, DT_I32, value, unused, -1), unused, -1);
}

// A bool vector is a mask of -1, so bool arithmetic is in bits.
static int32_t apply_bool(Lower *lower, Op op, int32_t x, int32_t y) {
    switch (op) {
    case OP_ADD:
    case OP_MAX: return let(lower, OP_OR, DT_BOOL, x, y, -1);
    case OP_MUL: return let(lower, OP_AND, DT_BOOL, x, y, -1);
    case OP_CMPNE: return let(lower, OP_XOR, DT_BOOL, x, y, -1);
    case OP_CMPLT:  // not x, and y
        x = let(lower, OP_XOR, DT_BOOL, x, let_integer(lower, DT_BOOL, 1), -1);
        return let(lower, OP_AND, DT_BOOL, x, y, -1);
    default: return let(lower, op, DT_BOOL, x, y, -1);
    }
}

int32_t apply(Lower *lower, Op op, DType dtype, int32_t x, int32_t y, int32_t z) {
    if (op == OP_EXP2 || op == OP_LOG2 || op == OP_SIN)
        fatal("lower: %s in kernel %s. Hint: expand it to polynomials first", ops[op].text,
              lower->kernel->name);
    if (!(ops[op].properties & MAPS))
        fatal("lower: %s in kernel %s. Hint: it has no form in a program", ops[op].text,
              lower->kernel->name);
    if (dtype == DT_BOOL && op != OP_WHERE) return apply_bool(lower, op, x, y);
    if ((op == OP_SHL || op == OP_SHR) && is_storage(dtype))
        y = let(lower, OP_AND, DT_I32, y, let_integer(lower, DT_I32, bits(dtype) - 1), -1);
    bool to_bool = ops[op].properties & TO_BOOL;
    int32_t value = let(lower, op, to_bool ? DT_BOOL : dtype_computed(dtype), x, y, z);
    bool stays = to_bool || op == OP_MAX || op == OP_WHERE || op == OP_TRUNC || op == OP_SHR ||
                 op == OP_AND || op == OP_OR || op == OP_XOR || op == OP_MOD;
    return stays ? value : narrowed(lower, dtype, value);
}

static int32_t cast(Lower *lower, DType from, DType to, int32_t value) {
    DType wide = dtype_computed(to);
    if (from == to) return value;
    if (to == DT_BOOL) {
        return let(lower, OP_CMPNE, DT_BOOL, value, zero_of(lower, dtype_computed(from)), -1);
    }
    if (dtype_of(lower, value) != wide) value = let(lower, OP_CAST, wide, value, -1, -1);
    if (!dtype_is_float(from) || dtype_is_float(to)) return narrowed(lower, to, value);
    if (!is_storage(to)) return value;
    // From a float to a narrow integer: i32 has saturated, now the narrow range does.
    bool is_signed = dtypes[to].kind == KIND_SIGNED;
    int64_t high = (1 << (bits(to) - is_signed)) - 1, low = is_signed ? -1 - high : 0;
    int32_t most = let_integer(lower, DT_I32, high);
    value = let(lower, OP_MAX, DT_I32, value, let_integer(lower, DT_I32, low), -1);
    int32_t fits = let(lower, OP_CMPLT, DT_BOOL, value, most, -1);
    return let(lower, OP_WHERE, DT_I32, fits, value, most);
}

static int32_t bitcast(Lower *lower, DType from, DType to, int32_t value) {
    if (from == DT_BOOL) return cast(lower, from, to, value);
    value = stored(lower, value, from);
    return from == to ? computed(lower, value)
                      : computed(lower, let(lower, OP_BITCAST, to, value, -1, -1));
}

// ---- memory ------------------------------------------------------------------------------------

static Index map_atom(void *context, IndexTable *to, const Atom *atom) {
    Lower *lower = context;
    if (atom->kind == ATOM_LOOP) return lower->loop_value[atom->of];
    int32_t of = atom->kind == ATOM_VALUE ? expression(lower, atom->of) : atom->of;
    return index_atom(to, atom->kind, of, atom->low, atom->high);
}

Index mapped(Lower *lower, Index index) {
    return index_copy(lower->program->indices, graph_indices(lower->kernel->graph), index, map_atom,
                      lower);
}

Index mapped_element(Lower *lower, int32_t buffer, Index index) {
    if (lower->gpu && !space_is_common(lower->kernel->buffers.at[buffer].space))
        index = kernel_own_element(lower->kernel, &lower->promotion[buffer].spread, lower->warp,
                                   lower->thread, index);
    return mapped(lower, index);
}

int32_t variable_of(const Lower *lower, int32_t buffer, Index index, int *lane) {
    IndexTable *indices = lower->program->indices;
    Promotion promotion = lower->promotion[buffer];
    int lanes = index_lanes(lower->program, index);
    int64_t element;
    if (lanes > 1)
        index = index_replace(indices, index, ATOM_LOOP, -lanes, index_const(indices, 0));
    if (!index_is_const(indices, index, &element))
        fatal("lower: an index of %s in kernel %s did not unroll to a constant",
              lower->kernel->buffers.at[buffer].name, lower->kernel->name);
    *lane = lanes == promotion.lanes ? -1 : (int)(element % promotion.lanes);
    return promotion.first + (int32_t)(element / promotion.lanes);
}

static int32_t load_variable(Lower *lower, int32_t buffer, Index index, int32_t condition) {
    int lane;
    int32_t value = let_get(lower, variable_of(lower, buffer, index, &lane));
    if (lane >= 0) value = let_lane(lower, value, lane);
    if (condition < 0) return value;
    DType dtype = dtype_of(lower, value);
    return let(lower, OP_WHERE, dtype, condition, value, zero_of(lower, dtype));
}

// One request for a cache line, although several loads of the block read it.
static void ask_ahead(Lower *lower, int32_t buffer, Index index) {
    enum { LINE = 64 };
    const KernelBuffer *from = &lower->kernel->buffers.at[buffer];
    IndexTable *indices = lower->program->indices;
    int lanes = index_lanes(lower->program, index);
    Index first = index_const(indices, 0);
    if (!from->ahead) return;
    if (lanes > 1) index = index_replace(indices, index, ATOM_LOOP, -lanes, first);
    if (index_lanes(lower->program, index) > 1) return;
    int64_t element = index_constant(indices, index), byte = element * dtypes[from->dtype].bytes;
    Index moving = index_sub(indices, index, index_const(indices, element));
    for (int i = 0; i < lower->asked.count; i++) {
        const Asked *asked = &lower->asked.at[i];
        if (asked->buffer == buffer && asked->moving == moving && byte >= asked->byte &&
            byte < asked->byte + LINE)
            return;
    }
    *list_add(lower->arena, &lower->asked) = (Asked){buffer, moving, byte};
    step_add(lower, (Step){.kind = STEP_AHEAD,
                           .of = lower->place[buffer],
                           .index = index,
                           .condition = -1,
                           .integer = from->ahead});
}

// Lanes that are bytes four apart: a lane's byte is part of its word of 32 bits, which is loaded;
// loads of the words' other bytes are loads of the same words. -1: not so.
static int32_t load_words(Lower *lower, int32_t buffer, Index index) {
    IndexTable *indices = lower->program->indices;
    const KernelBuffer *from = &lower->kernel->buffers.at[buffer];
    int lanes = index_lanes(lower->program, index);
    int64_t stride, byte;
    if (lanes == 1 || from->dtype != DT_U8 || from->written ||
        !index_stride(indices, index, -lanes, &stride) || stride != 4 ||
        !index_is_const(indices, index_mod(indices, index, 4), &byte))
        return -1;
    Step step = step_let(OP_LOAD, DT_I32, lanes);
    step.of = lower->place[buffer];
    step.index = index_sub(indices, index, index_const(indices, byte));
    int32_t word = step_add(lower, step);
    word = let(lower, OP_SHR, DT_I32, word, let_integer(lower, DT_I32, 8 * byte), -1);
    return let(lower, OP_AND, DT_I32, word, let_integer(lower, DT_I32, UINT8_MAX), -1);
}

static int32_t load(Lower *lower, const Node *node) {
    int32_t buffer = (int32_t)node->arg[0];
    int32_t condition = node->sources ? expression(lower, node->source[0]) : -1;
    Index index = mapped_element(lower, buffer, (Index)node->arg[1]);
    if (lower->promotion[buffer].lanes) return load_variable(lower, buffer, index, condition);
    condition = both(lower, condition, lower->mask);
    int lanes = index_lanes(lower->program, index);
    if (lanes == 1) lanes = lanes_of(lower, condition);
    if (!lower->gpu) ask_ahead(lower, buffer, index);
    int32_t word = condition < 0 && !lower->gpu ? load_words(lower, buffer, index) : -1;
    if (word >= 0) return word;
    Step step = step_let(OP_LOAD, lower->kernel->buffers.at[buffer].dtype, lanes);
    step.of = lower->place[buffer];
    step.index = index;
    step.condition = condition;
    return computed(lower, step_add(lower, step));
}

// ---- expressions -------------------------------------------------------------------------------

static int32_t constant(Lower *lower, Id id) {
    DType dtype = node_dtype(lower->kernel->graph, id);
    int64_t integer;
    double number = node_const_value(lower->kernel->graph, id, &integer);
    if (!dtype_is_float(dtype)) return let_integer(lower, dtype_computed(dtype), integer);
    return narrowed(lower, dtype, let_number(lower, number));
}

// x < y where vectors are whole: all lanes are below or none is, if x begins at a whole vector and
// y is the beginning of one. -1: it is not so, or vectors have masks.
static int32_t whole_below(Lower *lower, const Node *node) {
    const Graph *graph = lower->kernel->graph;
    IndexTable *indices = lower->program->indices;
    const Node *x = graph_node(graph, node->source[0]), *y = graph_node(graph, node->source[1]);
    int64_t stride, rest;
    if (!lower->gpu || lower->lanes == 1 || x->op != OP_INDEX || y->op != OP_INDEX) return -1;
    Index first = mapped(lower, (Index)x->arg[0]), end = mapped(lower, (Index)y->arg[0]);
    if (!index_stride(indices, first, -lower->lanes, &stride) || stride != 1) return -1;
    first = index_replace(indices, first, ATOM_LOOP, -lower->lanes, index_const(indices, 0));
    if (!index_is_const(indices, index_mod(indices, first, lower->lanes), &rest) || rest ||
        !index_is_const(indices, index_mod(indices, end, lower->lanes), &rest) || rest)
        return -1;
    return let(lower, OP_CMPLT, DT_BOOL, let_index(lower, first, x->dtype),
               let_index(lower, end, y->dtype), -1);
}

static int32_t make(Lower *lower, Id id) {
    const Graph *graph = lower->kernel->graph;
    const Node *node = graph_node(graph, id);
    if (node->op == OP_CONST) return constant(lower, id);
    if (node->op == OP_LOAD) return load(lower, node);
    if (node->op == OP_INDEX)
        return let_index(lower, mapped(lower, (Index)node->arg[0]), node->dtype);
    int32_t source[3] = {-1, -1, -1}, whole = node->op == OP_CMPLT ? whole_below(lower, node) : -1;
    if (whole >= 0) return whole;
    for (int i = 0; i < node->sources; i++) source[i] = expression(lower, node->source[i]);
    DType from = node->sources ? node_dtype(graph, node->source[node->sources - 1]) : node->dtype;
    if (node->op == OP_CAST) return cast(lower, from, node->dtype, source[0]);
    if (node->op == OP_BITCAST) return bitcast(lower, from, node->dtype, source[0]);
    return apply(lower, node->op, from, source[0], source[1], source[2]);
}

int32_t expression(Lower *lower, Id node) {
    if (lower->valued_in[node] != lower->statement) {
        lower->value[node] = make(lower, node);
        lower->valued_in[node] = lower->statement;
    }
    return lower->value[node];
}
