/* scalars.c - a program without vectors, for machines whose lanes are threads.
 * In: a program.  Out: the same, each lane a scalar; what lies side by side in memory is still
 * loaded and stored 4, 8 or 16 bytes at a time.
 * Invariants: what is moved at once is aligned to its size: every term of its index is a multiple.
 * Of steps in a row, one loads what several load, if nothing is stored there between: the
 * compilers would do so too, and now the text says what is moved.
 *   %1 = f32x4 load a[4*t + lane] ; %2 = f32x4 mul %1 %1 ; store y[4*t + lane] %2
 *   =>   %1 = f32x4 load a[4*t] ; %2..%5 = lane %1 0..3 ; %6..%9 = mul ; set wide lane 0..3 ; .. */
#include "codegen/codegen.h"

#include <string.h>

enum { LANES_MAX = 64, WIDE_BYTES = 16 };
typedef struct {
    Arena *arena;
    const Program *from;
    Program *to;
    int32_t *lane;        // by step and lane: its step there
    int32_t *variable;    // by variable: the first of its lanes'
    int at;               // the lane being made
    int32_t scalars;      // variables before those that gather lanes
    LIST(int32_t) loads;  // of the steps in a row, what is still in memory
} Scalars;

static const Step *step_of(const Scalars *to, int32_t id) { return &to->from->steps.at[id]; }

static int32_t add(Scalars *to, Step step) {
    *list_add(to->arena, &to->to->steps) = step;
    return to->to->steps.count - 1;
}

// The step with the value's lane, or with the scalar.
static int32_t value_at(const Scalars *to, int32_t value, int lane) {
    if (value < 0) return -1;
    return to->lane[(int64_t)value * LANES_MAX + (step_of(to, value)->type.lanes > 1 ? lane : 0)];
}

static Index map_atom(void *context, IndexTable *table, const Atom *atom) {
    const Scalars *to = context;
    if (atom->kind == ATOM_LOOP && atom->of < 0) return index_const(table, to->at);
    int32_t of = atom->of;
    if (atom->kind == ATOM_LOOP) of = value_at(to, of, 0);
    if (atom->kind == ATOM_VALUE) of = value_at(to, of, to->at);
    return index_atom(table, atom->kind, of, atom->low, atom->high);
}

static Index index_at(Scalars *to, Index index, int lane) {
    to->at = lane;
    return index < 0 ? -1 : index_copy(to->to->indices, to->from->indices, index, map_atom, to);
}

// The step, for one lane of it.
static int32_t add_lane(Scalars *to, const Step *step, int lane) {
    Step one = *step;
    one.type.lanes = 1;
    for (int i = 0; i < 3; i++) one.source[i] = value_at(to, step->source[i], lane);
    one.condition = value_at(to, step->condition, lane);
    one.index = index_at(to, step->index, lane);
    one.limit = index_at(to, step->limit, lane);
    for (int i = 0; i < step_places(step); i++) one.at[i] = index_at(to, step->at[i], lane);
    return add(to, one);
}

// ---- memory ------------------------------------------------------------------------------------

// How many elements from this lane on are moved at once: as many as are known to be aligned.
static int wide_lanes(Scalars *to, const Step *step, ValueType type, int lane) {
    int64_t stride;
    IndexTable *indices = to->to->indices;
    const Term *terms;
    bool whole = step->condition < 0 || step_of(to, step->condition)->type.lanes == 1;
    bool can = whole && type.dtype != DT_BOOL &&
               index_stride(to->from->indices, step->index, -type.lanes, &stride) && stride == 1;
    int lanes = can ? type.lanes - lane : 1;
    Index first = index_at(to, step->index, lane);
    int count = index_terms(indices, first, &terms);
    while (lanes & (lanes - 1)) lanes &= lanes - 1;
    for (; lanes > 1; lanes /= 2) {
        bool aligned = index_constant(indices, first) % lanes == 0;
        for (int i = 0; i < count; i++) aligned &= terms[i].scale % lanes == 0;
        if (aligned && lanes * dtypes[type.dtype].bytes <= WIDE_BYTES) break;
    }
    return lanes * dtypes[type.dtype].bytes < 4 ? 1 : lanes;
}

// A load of so many lanes from this one on. The steps behind it are its lanes, if it has several.
static int32_t load(Scalars *to, const Step *step, int lane, int lanes) {
    Index index = index_at(to, step->index, lane);
    int32_t condition = value_at(to, step->condition, lane);
    for (int32_t i = 0; i < to->loads.count; i++) {
        const Step *known = &to->to->steps.at[to->loads.at[i]];
        if (known->of == step->of && known->index == index && known->condition == condition &&
            known->type.lanes == lanes && known->type.dtype == step->type.dtype)
            return to->loads.at[i];
    }
    int32_t loaded = add_lane(to, step, lane);
    to->to->steps.at[loaded].type.lanes = lanes;
    *list_add(to->arena, &to->loads) = loaded;
    for (int i = 0; i < lanes && lanes > 1; i++)
        add(to, (Step){.kind = STEP_LET,
                       .op = OP_LANE,
                       .type = {step->type.dtype, 1},
                       .source = {loaded, -1, -1},
                       .lane = i,
                       .condition = -1,
                       .index = -1,
                       .limit = -1});
    return loaded;
}

static void add_load(Scalars *to, int32_t id) {
    const Step *step = step_of(to, id);
    int32_t *result = &to->lane[(int64_t)id * LANES_MAX];
    for (int lane = 0, lanes; lane < step->type.lanes; lane += lanes) {
        lanes = step->type.lanes > 1 ? wide_lanes(to, step, step->type, lane) : 1;
        int32_t loaded = load(to, step, lane, lanes);
        for (int i = 0; i < lanes; i++) result[lane + i] = loaded + (lanes > 1 ? 1 + i : 0);
    }
}

// Sixteen bytes at once where both places are aligned to them, else each element.
static void add_copy(Scalars *to, const Step *step) {
    Step from = *step;
    from.index = step->at[0];
    for (int lane = 0, lanes; lane < step->type.lanes; lane += lanes) {
        bool wide = wide_lanes(to, step, step->type, lane) == WIDE_BYTES / 4 &&
                    wide_lanes(to, &from, step->type, lane) == WIDE_BYTES / 4;
        lanes = wide ? WIDE_BYTES / 4 : 1;
        int32_t copied = add_lane(to, step, lane);
        to->to->steps.at[copied].type.lanes = lanes;
    }
}

// Buffer `of` holds what it held, whatever the step did.
static bool leaves(const Scalars *to, const Step *step, int32_t of) {
    const ProgramBuffer *loaded = &to->from->buffers.at[of];
    bool same = step->of == of;
    switch (step->kind) {
    case STEP_STORE:
        if (to->from->buffers.at[step->of].space == SPACE_PARAM && loaded->space == SPACE_PARAM)
            same |= !to->from->buffers.at[step->of].restricted && !loaded->restricted;
        return !same;
    case STEP_MMA:
    case STEP_MMA_HOLD: return step->tile[0] != of;
    case STEP_MMA_BEGIN:
    case STEP_MMA_COMMIT:
    case STEP_SHOW:
    case STEP_BARRIER:
    case STEP_FOLD: return loaded->space == SPACE_PARAM && !loaded->written;
    case STEP_LET:
    case STEP_GET:
    case STEP_SET: return true;
    default: return false;  // what follows need not run after what was before, or not once
    }
}

static void forget_loads(Scalars *to, const Step *step) {
    int32_t kept = 0;
    for (int32_t i = 0; i < to->loads.count; i++)
        if (leaves(to, step, to->to->steps.at[to->loads.at[i]].of))
            to->loads.at[kept++] = to->loads.at[i];
    to->loads.count = kept;
}

// The load that gave these lanes, and no others; -1: there is none.
static int32_t loaded_whole(const Scalars *to, int32_t value, int lane, int lanes) {
    int32_t loaded = to->to->steps.at[value_at(to, value, lane)].source[0];
    if (loaded < 0) return -1;
    ValueType type = to->to->steps.at[loaded].type;
    if (type.lanes != lanes || type.dtype != step_of(to, value)->type.dtype) return -1;
    for (int i = 0; i < lanes; i++) {
        const Step *one = &to->to->steps.at[value_at(to, value, lane + i)];
        bool same = one->kind == STEP_LET && one->op == OP_LANE && one->source[0] == loaded;
        if (!same || one->lane != i) return -1;
    }
    return loaded;
}

// What is stored at once: what was loaded so, or a variable of several lanes, filled one by one.
static int32_t gathered(Scalars *to, int32_t value, int lane, int lanes) {
    ValueType type = {step_of(to, value)->type.dtype, lanes};
    int32_t loaded = loaded_whole(to, value, lane, lanes);
    if (loaded >= 0) return loaded;
    int32_t variable = to->scalars;
    for (; variable < to->to->variables.count; variable++) {
        ValueType known = to->to->variables.at[variable].type;
        if (known.dtype == type.dtype && known.lanes == lanes) break;
    }
    if (variable == to->to->variables.count)
        *list_add(to->arena, &to->to->variables) = (Variable){"wide", type};
    for (int i = 0; i < lanes; i++)
        add(to, (Step){.kind = STEP_SET,
                       .of = variable,
                       .lane = i,
                       .source = {value_at(to, value, lane + i), -1, -1},
                       .condition = -1,
                       .index = -1,
                       .limit = -1});
    return add(to, (Step){.kind = STEP_GET,
                          .op = OP_LOAD,
                          .type = type,
                          .of = variable,
                          .source = {-1, -1, -1},
                          .condition = -1,
                          .index = -1,
                          .limit = -1});
}

static void add_store(Scalars *to, int32_t id) {
    const Step *step = step_of(to, id);
    ValueType type = step_of(to, step->source[0])->type;
    for (int lane = 0, lanes; lane < type.lanes; lane += lanes) {
        lanes = type.lanes > 1 ? wide_lanes(to, step, type, lane) : 1;
        int32_t wide = lanes > 1 ? gathered(to, step->source[0], lane, lanes) : -1;
        int32_t stored = add_lane(to, step, lane);
        if (wide >= 0) to->to->steps.at[stored].source[0] = wide;
    }
}

// ---- the rest ----------------------------------------------------------------------------------

static void add_variable(Scalars *to, int32_t id) {
    const Step *step = step_of(to, id);
    int lanes = to->from->variables.at[step->of].type.lanes;
    for (int lane = 0; lane < lanes; lane++) {
        if (step->kind == STEP_SET && step->lane >= 0 && step->lane != lane) continue;
        Step one = *step;
        one.type.lanes = 1;
        one.of = to->variable[step->of] + lane;
        one.lane = -1;
        one.source[0] = value_at(to, step->source[0], lane);
        to->lane[(int64_t)id * LANES_MAX + lane] = add(to, one);
    }
}

static void add_let(Scalars *to, int32_t id) {
    const Step *step = step_of(to, id);
    for (int lane = 0; lane < step->type.lanes; lane++) {
        int32_t *result = &to->lane[(int64_t)id * LANES_MAX + lane];
        if (step->op == OP_VEC)
            *result = value_at(to, step->source[0], 0);
        else if (step->op == OP_LANE)
            *result = value_at(to, step->source[0], step->lane);
        else if (step->op == OP_PERM)
            *result = value_at(to, step->source[0], lane ^ step->lane);
        else
            *result = add_lane(to, step, lane);
    }
}

static void add_step(Scalars *to, int32_t id) {
    const Step *step = step_of(to, id);
    if (step->kind == STEP_GET || step->kind == STEP_SET)
        add_variable(to, id);
    else if (step->kind == STEP_STORE)
        add_store(to, id);
    else if (step->kind == STEP_COPY && !step->integer)
        add_copy(to, step);
    else if (step->kind == STEP_LET && step->op == OP_LOAD)
        add_load(to, id);
    else if (step->kind == STEP_LET)
        add_let(to, id);
    else
        to->lane[(int64_t)id * LANES_MAX] = add_lane(to, step, 0);
    forget_loads(to, step);
}

static void add_variables(Scalars *to) {
    for (int32_t i = 0; i < to->from->variables.count; i++) {
        const Variable *variable = &to->from->variables.at[i];
        to->variable[i] = to->to->variables.count;
        for (int lane = 0; lane < variable->type.lanes; lane++)
            *list_add(to->arena, &to->to->variables) = (Variable){
                variable->type.lanes == 1 ? variable->name
                                          : arena_print(to->arena, "%s_%d", variable->name, lane),
                {variable->type.dtype, 1}};
    }
}

Program *program_scalars(Arena *arena, const Program *program) {
    Program *made = arena_object(arena, Program);
    *made = *program;
    memset(&made->steps, 0, sizeof made->steps);
    memset(&made->variables, 0, sizeof made->variables);
    made->indices = index_table_new(arena);
    Scalars to = {.arena = arena,
                  .from = program,
                  .to = made,
                  .lane = arena_array(arena, int32_t, (int64_t)program->steps.count * LANES_MAX),
                  .variable = arena_array(arena, int32_t, program->variables.count)};
    add_variables(&to);
    to.scalars = made->variables.count;
    for (int32_t id = 0; id < program->steps.count; id++) add_step(&to, id);
    return made;
}
