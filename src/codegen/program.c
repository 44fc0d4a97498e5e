/* program.c - the program dialect: an ordered list of typed steps, printed and verified.
 * In: steps as lower.c writes them.  Out: text for people and golden tests; a fatal with the step.
 * Invariant: a value is used only behind its step and inside the block that it was made in.
 *   for i < 4 {
 *     %1 = f32x8 load a[8*i + lane]
 *     store c[8*i + lane] %1
 *   }                                                                                          */
#include "codegen/codegen.h"

#include <string.h>

DType dtype_computed(DType dtype) {
    if (dtype_is_float(dtype)) return DT_F32;
    return dtypes[dtype].bytes < 4 && dtype != DT_BOOL ? DT_I32 : dtype;
}

Index lane_atom(IndexTable *indices, int lanes) {
    return index_atom(indices, ATOM_LOOP, -lanes, 0, lanes - 1);
}

int index_lanes(const Program *program, Index index) {
    const Term *terms;
    int lanes = 1, count = index_terms(program->indices, index, &terms);
    for (int i = 0; i < count && lanes == 1; i++) {
        const Atom *atom = index_atom_of(program->indices, terms[i].atom);
        if (atom->kind == ATOM_LOOP && atom->of < 0) lanes = -atom->of;
        if (atom->kind == ATOM_DIV || atom->kind == ATOM_MOD)
            lanes = index_lanes(program, atom->of);
        if (atom->kind == ATOM_VALUE) lanes = program->steps.at[atom->of].type.lanes;
    }
    return lanes;
}

// ---- use ---------------------------------------------------------------------------------------

static void use_index(const Program *program, Index index, bool *used) {
    const Term *terms;
    int count = index < 0 ? 0 : index_terms(program->indices, index, &terms);
    for (int i = 0; i < count; i++) {
        const Atom *atom = index_atom_of(program->indices, terms[i].atom);
        if (atom->kind == ATOM_DIV || atom->kind == ATOM_MOD) use_index(program, atom->of, used);
        if (atom->kind == ATOM_VALUE) used[atom->of] = true;
    }
}

bool *program_used(Arena *arena, const Program *program) {
    bool *used = arena_array(arena, bool, program->steps.count);
    for (int32_t id = program->steps.count - 1; id >= 0; id--) {
        const Step *step = &program->steps.at[id];
        if (!step_has_value(step)) used[id] = true;
        if (!used[id]) continue;
        for (int i = 0; i < 3; i++)
            if (step->source[i] >= 0) used[step->source[i]] = true;
        if (step->condition >= 0) used[step->condition] = true;
        use_index(program, step->index, used);
        use_index(program, step->limit, used);
        for (int i = 0; i < step_places(step); i++) use_index(program, step->at[i], used);
    }
    return used;
}

// Folds of a block pass through memory behind all else: a value of 8 bytes at most for each warp.
int64_t program_block_bytes(const Program *program) {
    enum { FOLD_BYTES = 8 * BLOCK_THREADS_MAX / WARP_THREADS };
    for (int32_t i = 0; i < program->steps.count; i++)
        if (program->steps.at[i].kind == STEP_FOLD && program->steps.at[i].share == SHARE_BLOCK)
            return program->chip_bytes + FOLD_BYTES;
    return program->chip_bytes;
}

// ---- text --------------------------------------------------------------------------------------

// Names are asked for by messages about broken programs, too.
static const char *buffer_name(const Program *program, int32_t buffer) {
    return buffer >= 0 && buffer < program->buffers.count ? program->buffers.at[buffer].name : "?";
}

static const char *variable_name(const Program *program, int32_t variable) {
    return variable >= 0 && variable < program->variables.count
               ? program->variables.at[variable].name
               : "?";
}

static const char *atom_name(void *context, const Atom *atom) {
    const Program *program = context;
    if (atom->kind == ATOM_VAR)
        return atom->of < program->vars.count ? program->vars.at[atom->of].name : "?";
    if (atom->kind == ATOM_VALUE) return arena_print(program->arena, "%%%d", atom->of);
    return atom->of < 0 ? "lane" : program->steps.at[atom->of].name;
}

static void add_index(Text *text, const Program *program, Index index) {
    index_print(text, program->indices, index, atom_name, (void *)(uintptr_t)program);
}

static void add_type(Text *text, ValueType type) {
    text_add(text, type.lanes > 1 ? "%sx%d" : "%s", dtypes[type.dtype].text, type.lanes);
}

static void add_place(Text *text, const Program *program, const Step *step) {
    text_add(text, " %s[", buffer_name(program, step->of));
    add_index(text, program, step->index);
    if (step->condition >= 0) text_add(text, " if %%%d", step->condition);
    text_add(text, "]");
}

static void add_let(Text *text, const Program *program, const Step *step) {
    add_type(text, step->type);
    text_add(text, " %s", ops[step->op].text);
    if (step->op == OP_CONST && step->type.dtype == DT_F32) text_add(text, " %.9g", step->number);
    if (step->op == OP_CONST && step->type.dtype != DT_F32) text_add(text, " %ld", step->integer);
    if (step->op == OP_LOAD) add_place(text, program, step);
    if (step->op == OP_INDEX) {
        text_add(text, " ");
        add_index(text, program, step->index);
    }
    for (int i = 0; i < 3; i++)
        if (step->source[i] >= 0) text_add(text, " %%%d", step->source[i]);
    if (step->op == OP_LANE || step->op == OP_PERM) text_add(text, " %d", step->lane);
}

static const char *const share_texts[] = {"", "share ", "threads ", "warps ", "lanes "};

static void add_for(Text *text, const Program *program, const Step *step) {
    if (step->steps) text_add(text, "unroll %d ", step->steps);
    text_add(text, "%sfor %s < ", share_texts[step->share], step->name);
    add_index(text, program, step->index);
    if (step->limit >= 0) {
        text_add(text, ", ");
        add_index(text, program, step->limit);
    }
    text_add(text, " {");
}

static void add_tile(Text *text, const Program *program, const Step *step) {
    const char *tile = variable_name(program, step->tile[0]);
    text_add(text, "tile ");
    if (step->does == TILE_PRODUCT) {
        text_add(text, "%s += %s %s", tile, variable_name(program, step->tile[1]),
                 variable_name(program, step->tile[2]));
        return;
    }
    text_add(text, step->does == TILE_LOAD ? "%s = load" : "store %s to", tile);
    add_place(text, program, step);
    text_add(text, " by %ld", step->stride);
}

static void add_step(Text *text, const Program *program, int32_t id) {
    const Step *step = &program->steps.at[id];
    if (step_has_value(step)) text_add(text, "%%%d = ", id);
    switch (step->kind) {
    case STEP_LET: add_let(text, program, step); break;
    case STEP_GET:
        add_type(text, step->type);
        text_add(text, " get %s", variable_name(program, step->of));
        break;
    case STEP_SET:
        text_add(text, "set %s", variable_name(program, step->of));
        if (step->lane >= 0) text_add(text, " lane %d", step->lane);
        text_add(text, " %%%d", step->source[0]);
        break;
    case STEP_STORE:
        text_add(text, "store");
        add_place(text, program, step);
        text_add(text, " %%%d", step->source[0]);
        break;
    case STEP_LAUNCH:
        text_add(text, "launch %s < ", step->name);
        add_index(text, program, step->index);
        text_add(text, " of %d threads {", step->threads);
        break;
    case STEP_FOLD:
        add_type(text, step->type);
        text_add(text, " fold %s%s %%%d", share_texts[step->share], ops[step->op].text,
                 step->source[0]);
        break;
    case STEP_FOR: add_for(text, program, step); break;
    case STEP_IF: text_add(text, "if %%%d {", step->condition); break;
    case STEP_ONCE: text_add(text, "%sonce {", share_texts[step->share]); break;
    case STEP_END: text_add(text, "}"); break;
    case STEP_BARRIER: text_add(text, "%sbarrier", share_texts[step->share]); break;
    case STEP_AHEAD:
        text_add(text, "ahead %ld", step->integer);
        add_place(text, program, step);
        break;
    case STEP_COPY:
        text_add(text, step->integer ? "copy in bulk %ld to %s[" : "copy %ld to %s[",
                 step->integer ? step->integer : step->type.lanes, buffer_name(program, step->of));
        add_index(text, program, step->index);
        text_add(text, "] from %s[", buffer_name(program, step->tile[0]));
        add_index(text, program, step->at[0]);
        text_add(text, step->condition < 0 ? "]" : " if %%%d]", step->condition);
        break;
    case STEP_COMMIT: text_add(text, "commit"); break;
    case STEP_SETTLE: text_add(text, "settle %ld", step->integer); break;
    case STEP_MMA:
        for (int i = 0; i < 3; i++) {
            text_add(text,
                     i == 0   ? "mma %s["
                     : i == 1 ? " += %s["
                              : " %s[",
                     buffer_name(program, step->tile[i]));
            add_index(text, program, step->at[i]);
            text_add(text, "]");
        }
        if (step->columns)
            text_add(text, " of %ld columns by %ld and %ld", step->columns, step->apart[0],
                     step->apart[1]);
        break;
    case STEP_MMA_HOLD: text_add(text, "hold %s", buffer_name(program, step->tile[0])); break;
    case STEP_MMA_BEGIN: text_add(text, "begin"); break;
    case STEP_MMA_COMMIT: text_add(text, "end"); break;
    case STEP_MMA_WAIT: text_add(text, "wait"); break;
    case STEP_SHOW: text_add(text, "show"); break;
    case STEP_TILE: add_tile(text, program, step); break;
    }
}

static void add_buffer(Text *text, const ProgramBuffer *buffer) {
    static const char *const spaces[] = {"in", "stack", "own", "shared"};
    bool param = buffer->space == SPACE_PARAM;
    text_add(text, "%s %s %s[%ld]", param && buffer->written ? "out" : spaces[buffer->space],
             buffer->name, dtypes[buffer->dtype].text, buffer->size);
    if (buffer->space == SPACE_THREAD || buffer->space == SPACE_SHARED)
        text_add(text, buffer->on_chip ? " on chip at %ld" : " at %ld", buffer->offset);
    if (buffer->streams) text_add(text, " streams");
    text_add(text, buffer->restricted ? "\n" : " unrestricted\n");
}

char *program_print(Arena *arena, const Program *program) {
    Text text = text_new(arena);
    text_add(&text, "program %s\n", program->name);
    for (int i = 0; i < program->vars.count; i++) {
        const Var *var = &program->vars.at[i];
        text_add(&text, "var %s %ld..%ld\n", var->name, var->low, var->high);
    }
    for (int i = 0; i < program->buffers.count; i++) add_buffer(&text, &program->buffers.at[i]);
    for (int i = 0; i < program->variables.count; i++) {
        text_add(&text, "variable %s ", program->variables.at[i].name);
        add_type(&text, program->variables.at[i].type);
        text_add(&text, "\n");
    }
    int depth = 0;
    const bool *used = program_used(arena, program);
    for (int32_t id = 0; id < program->steps.count; id++) {
        StepKind kind = program->steps.at[id].kind;
        if (!used[id]) continue;
        depth -= kind == STEP_END;
        text_add(&text, "%*s", 2 * depth, "");
        add_step(&text, program, id);
        text_add(&text, "\n");
        depth += step_opens(&program->steps.at[id]);
    }
    return text.at;
}

// ---- verification ------------------------------------------------------------------------------

typedef struct {
    const Program *program;
    int32_t id;      // of the step being looked at
    int32_t *block;  // by step: the step that opened the block it is in; -1: the program itself
    bool *open;      // by step: a block opened there is not closed yet
} Verifier;

_Noreturn static void refuse(const Verifier *verifier, const char *what) {
    Text text = text_new(verifier->program->arena);
    add_step(&text, verifier->program, verifier->id);
    fatal("program %s, step %d: `%s`: %s", verifier->program->name, verifier->id, text.at, what);
}

static bool in_scope(const Verifier *verifier, int32_t id) {
    return id >= 0 && id < verifier->id &&
           (verifier->block[id] < 0 || verifier->open[verifier->block[id]]);
}

static ValueType type_of(const Verifier *verifier, int32_t id) {
    if (!in_scope(verifier, id) || !step_has_value(&verifier->program->steps.at[id]))
        refuse(verifier, "it uses a value that is not there");
    return verifier->program->steps.at[id].type;
}

static bool type_is(ValueType type, DType dtype, int lanes) {
    return type.dtype == dtype && type.lanes == lanes;
}

static void check_index(const Verifier *verifier, Index index, int lanes) {
    const Program *program = verifier->program;
    if (index < 0) refuse(verifier, "it has no index");
    const Term *terms;
    int count = index_terms(program->indices, index, &terms);
    for (int i = 0; i < count; i++) {
        const Atom *atom = index_atom_of(program->indices, terms[i].atom);
        if (atom->kind == ATOM_DIV || atom->kind == ATOM_MOD) {
            check_index(verifier, atom->of, lanes);
        } else if (atom->kind == ATOM_VAR) {
            if (atom->of >= program->vars.count)
                refuse(verifier, "it uses a VAR that is not there");
        } else if (atom->kind == ATOM_VALUE) {
            ValueType type = type_of(verifier, atom->of);
            if (type.dtype != DT_I32 && type.dtype != DT_I64 && type.dtype != DT_U32)
                refuse(verifier, "an index is made of integers");
            if (type.lanes != 1 && type.lanes != lanes)
                refuse(verifier, "the index has other lanes");
        } else if (atom->of < 0) {
            if (-atom->of != lanes) refuse(verifier, "the index has other lanes");
        } else if (!in_scope(verifier, atom->of) || !verifier->open[atom->of]) {
            refuse(verifier, "it uses a loop that is not around it");
        }
    }
}

static void check_condition(const Verifier *verifier, int lanes) {
    int32_t condition = verifier->program->steps.at[verifier->id].condition;
    if (condition < 0) return;
    ValueType type = type_of(verifier, condition);
    if (type.dtype != DT_BOOL) refuse(verifier, "its condition is not bool");
    if (type.lanes != 1 && type.lanes != lanes) refuse(verifier, "its condition has other lanes");
}

static void check_place(const Verifier *verifier, ValueType type) {
    const Step *step = &verifier->program->steps.at[verifier->id];
    if (step->of < 0 || step->of >= verifier->program->buffers.count)
        refuse(verifier, "there is no such buffer");
    DType dtype = verifier->program->buffers.at[step->of].dtype;
    bool words = step->op == OP_LOAD && dtype == DT_U8 && type.dtype == DT_I32 && type.lanes > 1;
    if (dtype != type.dtype && !words) refuse(verifier, "the buffer has another dtype");
    check_index(verifier, step->index, type.lanes);
    check_condition(verifier, type.lanes);
}

static void check_map(const Verifier *verifier, const Step *step) {
    const OpInfo *info = &ops[step->op];
    ValueType last = type_of(verifier, step->source[info->arity - 1]);
    bool converts = step->op == OP_CAST || step->op == OP_BITCAST;
    DType gives = info->properties & TO_BOOL ? DT_BOOL : converts ? step->type.dtype : last.dtype;
    if (!type_is(last, last.dtype, step->type.lanes) || step->type.dtype != gives)
        refuse(verifier, "it gives another type");
    if (!converts && dtype_computed(last.dtype) != last.dtype)
        refuse(verifier, "storage is not computed in");
    if (step->op == OP_BITCAST && dtypes[last.dtype].bytes != dtypes[gives].bytes)
        refuse(verifier, "the widths differ");
    for (int i = 0; i < info->arity - 1; i++) {
        DType wanted = i == 0 && info->properties & CHOOSES ? DT_BOOL : last.dtype;
        if (!type_is(type_of(verifier, step->source[i]), wanted, last.lanes))
            refuse(verifier, "its sources differ in type");
    }
}

static void check_let(const Verifier *verifier, const Step *step) {
    ValueType type = step->type;
    if (step->op == OP_LOAD) {
        check_place(verifier, type);
    } else if (step->op == OP_INDEX) {
        if (type.dtype != DT_I32 && type.dtype != DT_I64)
            refuse(verifier, "an index is i32 or i64");
        check_index(verifier, step->index, type.lanes);
    } else if (step->op == OP_VEC) {
        if (!type_is(type_of(verifier, step->source[0]), type.dtype, 1))
            refuse(verifier, "it takes a scalar of its dtype");
    } else if (step->op == OP_LANE || step->op == OP_PERM) {
        ValueType from = type_of(verifier, step->source[0]);
        if (step->lane < 0 || step->lane >= from.lanes || from.dtype != type.dtype ||
            type.lanes != (step->op == OP_LANE ? 1 : from.lanes))
            refuse(verifier, "it does not fit its vector");
    } else if (step->op == OP_CONST) {
        if (type.lanes != 1 || dtype_computed(type.dtype) != type.dtype)
            refuse(verifier, "a constant is one value to compute with");
    } else if (ops[step->op].properties & MAPS) {
        check_map(verifier, step);
    } else {
        refuse(verifier, "a program has no such op");
    }
}

static void check_variable(const Verifier *verifier, const Step *step) {
    if (step->of < 0 || step->of >= verifier->program->variables.count)
        refuse(verifier, "there is no such variable");
    ValueType type = verifier->program->variables.at[step->of].type;
    ValueType value = step->kind == STEP_GET ? step->type : type_of(verifier, step->source[0]);
    bool one = step->kind == STEP_SET && step->lane >= 0;
    if (one && step->lane >= type.lanes) refuse(verifier, "the variable has fewer lanes");
    if (!type_is(value, type.dtype, one ? 1 : type.lanes))
        refuse(verifier, "the variable has another type");
}

static void check_tile(const Verifier *verifier, const Step *step) {
    const Program *program = verifier->program;
    for (int i = 0; i < (step->does == TILE_PRODUCT ? 3 : 1); i++) {
        if (step->tile[i] < 0 || step->tile[i] >= program->variables.count ||
            !type_is_tile(program->variables.at[step->tile[i]].type))
            refuse(verifier, "there is no such tile");
    }
    DType dtype = program->variables.at[step->tile[0]].type.dtype;
    if (step->does != TILE_PRODUCT) check_place(verifier, (ValueType){dtype, 1});
}

static bool is_register(const Verifier *verifier, int32_t buffer) {
    return buffer >= 0 && buffer < verifier->program->buffers.count &&
           verifier->program->buffers.at[buffer].space == SPACE_REGISTER;
}

static void check_product(const Verifier *verifier, const Step *step) {
    for (int i = 0; i < 3; i++) {
        bool of_block = step->columns && i == 2;
        if (!of_block && !is_register(verifier, step->tile[i]))
            refuse(verifier, "a warp's product is of registers");
        if (of_block && (step->tile[i] < 0 || step->tile[i] >= verifier->program->buffers.count ||
                         !verifier->program->buffers.at[step->tile[i]].on_chip))
            refuse(verifier, "what four warps read is in the block's memory");
        check_index(verifier, step->at[i], 1);
    }
}

static void check_step(const Verifier *verifier) {
    const Step *step = &verifier->program->steps.at[verifier->id];
    int lanes = step->type.lanes;
    if (step_has_value(step) && (lanes < 1 || lanes > 64 || lanes & (lanes - 1)))
        refuse(verifier, "lanes are a power of two up to 64");
    switch (step->kind) {
    case STEP_LET: check_let(verifier, step); break;
    case STEP_GET:
    case STEP_SET: check_variable(verifier, step); break;
    case STEP_TILE: check_tile(verifier, step); break;
    case STEP_STORE: check_place(verifier, type_of(verifier, step->source[0])); break;
    case STEP_AHEAD: check_index(verifier, step->index, 1); break;
    case STEP_COPY:
        check_place(verifier, step->type);
        if (step->tile[0] < 0 || step->tile[0] >= verifier->program->buffers.count ||
            verifier->program->buffers.at[step->tile[0]].dtype != step->type.dtype)
            refuse(verifier, "it copies from another type");
        if (step->integer && !verifier->program->buffers.at[step->of].on_chip)
            refuse(verifier, "a bulk copy is to the memory of one launch's block");
        check_index(verifier, step->at[0], lanes);
        break;
    case STEP_MMA: check_product(verifier, step); break;
    case STEP_MMA_HOLD:
        if (!is_register(verifier, step->tile[0])) refuse(verifier, "these are no registers");
        break;
    case STEP_FOLD:
        if (!type_is(type_of(verifier, step->source[0]), step->type.dtype, 1) || lanes != 1 ||
            step->share < SHARE_BLOCK)
            refuse(verifier, "threads fold a scalar each");
        break;
    case STEP_LAUNCH:
    case STEP_FOR:
        check_index(verifier, step->index, 1);
        if (step->limit >= 0) check_index(verifier, step->limit, 1);
        break;
    case STEP_IF: check_condition(verifier, 1); break;
    default: break;
    }
}

void program_verify(const Program *program) {
    int32_t count = program->steps.count, block = -1;
    Verifier verifier = {.program = program,
                         .block = arena_array(program->arena, int32_t, count),
                         .open = arena_array(program->arena, bool, count)};
    for (int32_t id = 0; id < count; id++) {
        StepKind kind = program->steps.at[id].kind;
        verifier.id = id;
        check_step(&verifier);
        if (kind == STEP_LAUNCH && block >= 0) refuse(&verifier, "a launch is in nothing else");
        if (kind == STEP_END) {
            if (block < 0) refuse(&verifier, "it ends nothing");
            verifier.open[block] = false;
            block = verifier.block[block];
        }
        verifier.block[id] = block;
        if (step_opens(&program->steps.at[id])) {
            verifier.open[id] = true;
            block = id;
        }
    }
    int tiles = 0;
    for (int i = 0; i < program->variables.count; i++)
        tiles += type_is_tile(program->variables.at[i].type);
    if (tiles > UNIT_TILES)
        fatal("program %s: %d tiles, there are registers for %d", program->name, tiles, UNIT_TILES);
    if (block >= 0) fatal("program %s: step %d is not ended", program->name, block);
}
