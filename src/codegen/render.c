/* render.c - a program's names, indices and values as text, which its renderers share.
 * In: a verified program.  Out: pieces of C.
 * Invariants: a value used once, before anything changes, is written where it is used, else it is a
 * constant `_7`, after its step. Addresses are i64 on a CPU, as a wrapping i32 costs an extension
 * at every access, and i32 on a GPU, where 64 bits are several instructions, if intervals allow it.
 *   %5 = f32 load a[96*i + k] ... set s %9   =>   s = fma_f32(a[96*i + k], b[80*k + j], s);   */
#include "codegen/render.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { INLINE_MAX = 72 };

// ---- names -------------------------------------------------------------------------------------

static bool is_taken(const Render *render, const char *name) {
    static const char reserved[] =
        " auto break case char const continue default do double else enum extern float for goto if "
        "self class new delete this template typename operator private public protected virtual "
        "namespace using try catch throw bool true false explicit friend mutable and or not xor "
        "block lane warp workspace "
        "inline int long register restrict return short signed sizeof static struct switch typedef "
        "typeof union unsigned void volatile while asm linux unix args thread threads barrier ";
    if (prelude_has(name)) return true;
    const char *found = strstr(reserved, name);
    if (found && found[-1] == ' ' && found[strlen(name)] == ' ') return true;
    for (int i = 0; i < render->taken.count; i++)
        if (!strcmp(render->taken.at[i], name)) return true;
    return false;
}

const char *render_name(Render *render, const char *name) {
    char *mine = arena_text(render->arena, name);
    for (char *at = mine; *at; at++)
        if (!isalnum((unsigned char)*at)) *at = '_';
    if (prelude_has(mine)) mine = PRINT("own_%s", mine);
    while (is_taken(render, mine)) mine = PRINT("%s_", mine);
    *list_add(render->arena, &render->taken) = mine;
    return mine;
}

void render_open(Render *render, int32_t taken) {
    *list_add(render->arena, &render->scopes) = taken;
}

void render_close(Render *render) {
    render->taken.count = render->scopes.at[--render->scopes.count];
}

const char *render_element(DType dtype) { return dtype == DT_BOOL ? "u8" : dtypes[dtype].text; }

// "f32x8": what helpers' names end with. In a variable a bool is an i32.
const char *render_suffix(Render *render, DType dtype, int lanes) {
    return lanes > 1 ? PRINT("%sx%d", dtypes[dtype].text, lanes) : dtypes[dtype].text;
}

const char *render_type(Render *render, ValueType type) {
    return render_suffix(render, type.dtype == DT_BOOL ? DT_I32 : type.dtype, type.lanes);
}

const Step *render_step_of(const Render *render, int32_t id) {
    return &render->program->steps.at[id];
}

bool render_masked(const Render *render, const Step *step) {  // lane by lane
    return step->condition >= 0 && render_step_of(render, step->condition)->type.lanes > 1;
}

// ---- lines -------------------------------------------------------------------------------------

static bool may_break(const char *at) {
    return *at == ' ' && (at[-1] == ',' || strchr("?:|&+", at[1]));
}

void render_line(Render *render, const char *format, ...) {
    Text made = text_new(render->arena);
    va_list arguments;
    va_start(arguments, format);
    text_add_list(&made, format, arguments);
    va_end(arguments);
    int indent = 4 * render->scopes.count, length;
    for (const char *rest = made.at; *rest; rest += length + (rest[length] == ' ')) {
        length = (int)strlen(rest);
        if (length > RENDER_COLUMNS - indent)
            for (length = RENDER_COLUMNS - indent; length && !may_break(rest + length);) length--;
        if (!length) length = (int)strlen(rest);
        text_add(&render->text, "%*s%.*s\n", indent, "", length, rest);
        indent = 4 * render->scopes.count + 4;
    }
}

// A number, a name, a call, an element: what needs no parentheses as an operand.
static bool is_primary(const char *text) {
    text += *text == '-' && strpbrk(text, ".e0123456789") == text + 1;
    while (isalnum((unsigned char)*text) || *text == '_' || *text == '.') text++;
    while (*text == '(' || *text == '[' || *text == '{') {
        int depth = 0;
        do depth += strchr("([{", *text) ? 1 : strchr(")]}", *text) ? -1 : 0;
        while (*++text && depth);
    }
    return !*text;
}

static const char *operand(Render *render, int32_t id) {
    const char *text = render->value[id];
    return is_primary(text) ? text : PRINT("(%s)", text);
}

// ---- indices -----------------------------------------------------------------------------------

static bool is_i32(int64_t low, int64_t high) { return low >= INT32_MIN && high <= INT32_MAX; }

// The sum and each part of it, in whatever order it is computed.
bool render_narrow(const Render *render, Index index) {
    const IndexTable *indices = render->program->indices;
    const Term *terms;
    int count = render->cuda ? index_terms(indices, index, &terms) : -1;
    int64_t reach = labs(index_constant(indices, index));
    for (int i = 0; i < count; i++) {
        const Atom *atom = index_atom_of(indices, terms[i].atom);
        int64_t most = max_i64(labs(max_i64(atom->low, -INT64_MAX)), labs(atom->high)), span;
        if (__builtin_mul_overflow(most, labs(terms[i].scale), &span) ||
            __builtin_add_overflow(reach, span, &reach))
            return false;
    }
    return count >= 0 && reach <= INT32_MAX;
}

// On a GPU: of 32 bits where its interval has room, or as wide as its sum is to be.
static const char *cuda_atom(Render *render, const Atom *atom, bool narrow) {
    const char *text = NULL;
    bool is_narrow = is_i32(atom->low, atom->high);
    if (atom->kind == ATOM_VAR) text = render->var[atom->of];
    if (atom->kind == ATOM_LOOP) text = render->loop[atom->of];
    if (atom->kind == ATOM_VALUE) {
        text = operand(render, atom->of);
        is_narrow = render_step_of(render, atom->of)->type.dtype == DT_I32;
    }
    if (!text) {
        bool in_i32 = render_narrow(render, atom->of) &&
                      index_low(render->program->indices, atom->of) >= 0 && atom->by <= INT32_MAX;
        const char *of = render_index(render, atom->of, 0), *name;
        if (atom->kind == ATOM_DIV)
            name = in_i32 ? "quotient_i32" : "idiv_i64";
        else
            name = in_i32 ? "rest_i32" : "mod_i64";
        text = PRINT("%s(%s, %ld)", name, of, atom->by);
        is_narrow = in_i32;
    }
    if (is_narrow == narrow) return text;
    return PRINT(narrow ? "(i32)%s" : "(i64)%s", is_primary(text) ? text : PRINT("(%s)", text));
}

static const char *atom_text(Render *render, const Atom *atom, int lane) {
    const IndexTable *indices = render->program->indices;
    if (atom->kind == ATOM_VAR) return render->var[atom->of];
    if (atom->kind == ATOM_LOOP) return render->loop[atom->of];
    if (atom->kind == ATOM_VALUE) {
        ValueType type = render_step_of(render, atom->of)->type;
        const char *value = operand(render, atom->of);
        if (type.lanes > 1) value = PRINT("%s[%d]", value, lane);
        return type.dtype == DT_I64 ? value : PRINT("(i64)%s", value);
    }
    const char *of = render_index(render, atom->of, lane);
    bool is_div = atom->kind == ATOM_DIV, small = index_low(indices, atom->of) >= 0 &&
                                                  atom->by <= UINT32_MAX &&
                                                  index_high(indices, atom->of) <= UINT32_MAX;
    if (small) return PRINT("%s(%s, %ld)", is_div ? "quotient_u32" : "rest_u32", of, atom->by);
    return PRINT("%s(%s, %ld)", is_div ? "idiv_i64" : "mod_i64", of, atom->by);
}

Index render_at_lane(Render *render, Index index, int lane) {
    IndexTable *indices = render->program->indices;
    int lanes = index_lanes(render->program, index);
    if (lanes == 1) return index;
    return index_replace(indices, index, ATOM_LOOP, -lanes, index_const(indices, lane));
}

const char *render_index(Render *render, Index index, int lane) {
    IndexTable *indices = render->program->indices;
    const Term *terms;
    index = render_at_lane(render, index, lane);
    int count = index_terms(indices, index, &terms);
    int64_t constant = index_constant(indices, index);
    if (!count) return PRINT("%ld", constant);
    Text text = text_new(render->arena);
    bool first = constant && terms[0].scale < 0;  // 7 - i
    bool narrow = render_narrow(render, index);
    if (first) text_add(&text, "%ld", constant);
    for (int i = 0; i < count; i++) {
        int64_t scale = terms[i].scale;
        text_add(&text, "%s", scale < 0 ? i || first ? " - " : "-" : i || first ? " + " : "");
        if (scale != 1 && scale != -1)
            text_add(&text, "%lu*", scale < 0 ? -(uint64_t)scale : (uint64_t)scale);
        const Atom *atom = index_atom_of(indices, terms[i].atom);
        text_add(&text, "%s",
                 render->cuda ? cuda_atom(render, atom, narrow) : atom_text(render, atom, lane));
    }
    if (constant && !first) text_add(&text, constant < 0 ? " - %ld" : " + %ld", labs(constant));
    return text.at;
}

bool render_strides(Render *render, Index index, int lanes, int64_t *stride) {
    return index_stride(render->program->indices, index, -lanes, stride) &&
           index_lanes(render->program, render_at_lane(render, index, 0)) == 1;
}

// ---- values ------------------------------------------------------------------------------------

static const char *constant_text(Render *render, const Step *step) {
    if (step->type.dtype == DT_F32) {
        if (isnan(step->number))
            return render->cuda ? "u32_as_f32(0x7fc00000)" : "__builtin_nanf(\"\")";
        if (isinf(step->number) && render->cuda)
            return step->number > 0 ? "u32_as_f32(0x7f800000)" : "u32_as_f32(0xff800000)";
        if (isinf(step->number)) return step->number > 0 ? "__builtin_inff()" : "-__builtin_inff()";
        const char *digits = PRINT("%.9g", (double)(float)step->number);
        return PRINT("%s%sf", digits, strpbrk(digits, ".e") ? "" : ".0");
    }
    if (step->integer == INT64_MIN) return "-9223372036854775807 - 1";
    return PRINT(step->type.dtype == DT_U32 ? "%ldu" : "%ld", step->integer);
}

// One element in memory, or one lane of a vector that has no shorter form.
static const char *lane_text(Render *render, const Step *step, int lane) {
    if (step->op == OP_INDEX) return render_index(render, step->index, lane);
    if (step->op == OP_PERM)
        return PRINT("%s[%d]", operand(render, step->source[0]), lane ^ step->lane);
    const char *text =
        PRINT("%s[%s]", render->buffer[step->of], render_index(render, step->index, lane));
    if (step->type.dtype == DT_BOOL)
        text = PRINT(step->type.lanes > 1 ? "-(%s != 0)" : "(%s != 0)", text);
    if (render_masked(render, step))
        text = PRINT("%s[%d] ? %s : 0", operand(render, step->condition), lane, text);
    return text;
}

static const char *list_text(Render *render, const Step *step) {
    Text text = text_new(render->arena);
    for (int lane = 0; lane < step->type.lanes; lane++)
        text_add(&text, "%s%s", lane ? ", " : "", lane_text(render, step, lane));
    return PRINT("(%s){%s}", render_type(render, step->type), text.at);
}

static const char *index_let(Render *render, const Step *step) {
    int64_t stride;
    int lanes = step->type.lanes;
    if (lanes == 1)
        return PRINT(step->type.dtype != DT_I64 ? "(i32)(%s)"
                     : render->cuda             ? "(i64)(%s)"
                                                : "%s",
                     lane_text(render, step, 0));
    if (!render_strides(render, step->index, lanes, &stride)) return list_text(render, step);
    Step lane = *step;
    lane.index =
        index_sub(render->program->indices, step->index, render_at_lane(render, step->index, 0));
    return PRINT("vec_%s(%s) + %s", render_type(render, step->type), lane_text(render, step, 0),
                 list_text(render, &lane));
}

const char *render_address(Render *render, const Step *step) {
    const char *first = render_index(render, step->index, 0);
    return strcmp(first, "0") ? PRINT("%s + %s", render->buffer[step->of], first)
                              : render->buffer[step->of];
}

// The one integer vector that is the index of the step, -1 if it is more than that.
static int32_t lookup_value(const Render *render, const Step *step) {
    const IndexTable *indices = render->program->indices;
    const Term *terms;
    int count = index_terms(indices, step->index, &terms);
    const Atom *atom = count == 1 ? index_atom_of(indices, terms[0].atom) : NULL;
    bool plain = atom && atom->kind == ATOM_VALUE && terms[0].scale == 1 &&
                 index_constant(indices, step->index) == 0;
    return plain ? atom->of : -1;
}

// Sixteen floats of this thread's own: a table that a permutation of registers reads.
static bool is_lookup(const Render *render, const Step *step) {
    enum { ENTRIES = 16 };
    const ProgramBuffer *table = &render->program->buffers.at[step->of];
    int32_t value = lookup_value(render, step);
    return table->space == SPACE_REGISTER && table->size == ENTRIES && table->dtype == DT_F32 &&
           value >= 0 && !render_masked(render, step) &&
           render_step_of(render, value)->type.dtype == DT_I32 &&
           render_step_of(render, value)->type.lanes == step->type.lanes;
}

static const char *load_let(Render *render, const Step *step) {
    int64_t stride;
    int lanes = step->type.lanes;
    bool is_bool = step->type.dtype == DT_BOOL, masked = render_masked(render, step);
    DType from = render->program->buffers.at[step->of].dtype;
    const char *text, *memory = render_suffix(render, is_bool ? DT_U8 : step->type.dtype, lanes);
    if (lanes == 1) {
        text = lane_text(render, step, 0);
    } else if (render->cuda) {
        text = PRINT("load_%s(%s)", memory, render_address(render, step));
    } else if (render_strides(render, step->index, lanes, &stride) &&
               stride * dtypes[from].bytes == dtypes[step->type.dtype].bytes) {
        text = masked ? PRINT("loadif_%s(%s, %s)", memory, render_address(render, step),
                              render->value[step->condition])
                      : PRINT("load_%s(%s)", memory, render_address(render, step));
        if (is_bool) text = PRINT("u8_to_boolx%d(%s)", lanes, text);
    } else if (is_lookup(render, step)) {
        text = PRINT("lookup_%s(%s, %s)", memory, render->buffer[step->of],
                     render->value[lookup_value(render, step)]);
    } else {
        text = list_text(render, step);
    }
    if (step->condition < 0 || masked) return text;
    const char *form = render->cuda ? "zeros(%s)" : "(%s){0}",
               *zero = lanes > 1 ? arena_print(render->arena, form, render_type(render, step->type))
                                 : "0";
    return PRINT("%s ? %s : %s", operand(render, step->condition), text, zero);
}

static const char *cast_let(Render *render, const Step *step) {
    DType from = render_step_of(render, step->source[0])->type.dtype, to = step->type.dtype;
    bool half = to == DT_F16 || to == DT_BF16;
    if (step->type.lanes == 1 && !dtype_is_float(from) && !half)
        return PRINT("(%s)%s", dtypes[to].text, operand(render, step->source[0]));
    return PRINT("%s_to_%s(%s)", dtypes[from].text, render_suffix(render, to, step->type.lanes),
                 render->value[step->source[0]]);
}

static const char *bitcast_let(Render *render, const Step *step) {
    DType from = render_step_of(render, step->source[0])->type.dtype, to = step->type.dtype;
    if (step->type.lanes == 1 && (from == DT_F32 || to == DT_F32))
        return PRINT("%s_as_%s(%s)", dtypes[from].text, dtypes[to].text,
                     render->value[step->source[0]]);
    return PRINT("(%s)%s", render_type(render, step->type), operand(render, step->source[0]));
}

// The next word of an op table's expression, or the next character if none begins here.
static size_t word_length(const char *at) {
    size_t length = 0;
    while (isalnum((unsigned char)at[length]) || at[length] == '_') length++;
    return length ? length : 1;
}

static const char *op_expression(Op op, int lanes) {
    return lanes > 1 && ops[op].vector[0] ? ops[op].vector : ops[op].scalar;
}

// The op table's expression with x, y, z and the prelude's functions put in. Masks have i32 lanes;
// the expression's own are as wide as its operands.
static const char *map_let(Render *render, const Step *step) {
    int lanes = step->type.lanes;
    DType dtype = render_step_of(render, step->source[ops[step->op].arity - 1])->type.dtype;
    bool wide = lanes > 1 && dtypes[dtype].bytes == 8;
    Text text = text_new(render->arena);
    size_t length;
    for (const char *at = op_expression(step->op, lanes); *at; at += length) {
        length = word_length(at);
        if (length == 1 && *at >= 'x' && *at <= 'z') {
            int32_t source = step->source[*at - 'x'];
            bool mask = wide && render_step_of(render, source)->type.dtype == DT_BOOL;
            const char *x = operand(render, source);
            text_add(&text, "%s", mask ? PRINT("i32_to_i64x%d(%s)", lanes, x) : x);
        } else if (length > 1) {  // SELECT, FMA_
            for (size_t i = 0; i < length && at[i] != '_'; i++)
                text_add(&text, "%c", tolower(at[i]));
            text_add(&text, "_%s", render_suffix(render, dtype, lanes));
        } else {
            text_add(&text, "%c", *at);
        }
    }
    return wide && step->type.dtype == DT_BOOL ? PRINT("i64_to_i32x%d(%s)", lanes, text.at)
                                               : text.at;
}

static const char *let_text(Render *render, const Step *step) {
    bool is_bool = step->type.dtype == DT_BOOL;
    switch (step->op) {
    case OP_CONST: return constant_text(render, step);
    case OP_INDEX: return index_let(render, step);
    case OP_LOAD: return load_let(render, step);
    case OP_CAST: return cast_let(render, step);
    case OP_BITCAST: return bitcast_let(render, step);
    case OP_PERM: return list_text(render, step);
    case OP_LANE:
        if (render->cuda)
            return PRINT("lane_of(%s, %d)", operand(render, step->source[0]), step->lane);
        return PRINT(is_bool ? "(%s[%d] != 0)" : "%s[%d]", operand(render, step->source[0]),
                     step->lane);
    case OP_VEC:
        return PRINT(is_bool ? "vec_%s(-%s)" : "vec_%s(%s)", render_type(render, step->type),
                     operand(render, step->source[0]));
    default: return map_let(render, step);
    }
}

// ---- where a value is written ------------------------------------------------------------------

typedef struct {
    Render *render;
    int32_t *count;        // by step: places that use it
    int32_t *last_change;  // by step: the last one before it that changes something
} Uses;

static void use(Uses *uses, int32_t value, int32_t at, int times) {
    if (value < 0) return;
    const Step *step = render_step_of(uses->render, value);
    StepKind user = render_step_of(uses->render, at)->kind;
    uses->count[value] += times;
    if (step->kind == STEP_LET && step->op == OP_CONST) return;
    bool again = uses->count[value] > 1 && step->kind != STEP_GET;
    if (again || uses->last_change[at] > value) uses->render->named[value] = true;
    if (user == STEP_SET || user == STEP_STORE) uses->render->whole[value] = true;
}

static void use_index(Uses *uses, Index index, int32_t at, int times) {
    const IndexTable *indices = uses->render->program->indices;
    const Term *terms;
    int count = index < 0 ? 0 : index_terms(indices, index, &terms);
    for (int i = 0; i < count; i++) {
        const Atom *atom = index_atom_of(indices, terms[i].atom);
        if (atom->kind == ATOM_DIV || atom->kind == ATOM_MOD) use_index(uses, atom->of, at, times);
        if (atom->kind == ATOM_VALUE) use(uses, atom->of, at, times);
    }
}

// What is written lane by lane, or is named twice by the op table's expression, is used twice.
static void use_sources(Uses *uses, int32_t id) {
    const Step *step = render_step_of(uses->render, id);
    int lanes = step->type.lanes, mentions[3] = {1, 1, 1};
    bool is_store = step->kind == STEP_STORE, is_let = step->kind == STEP_LET;
    if (is_store) lanes = render_step_of(uses->render, step->source[0])->type.lanes;
    if (lanes > 1 && (is_store || (is_let && step->op == OP_PERM))) mentions[0] = 2;
    if (is_let && ops[step->op].properties & MAPS) {
        const char *at = op_expression(step->op, lanes);
        for (; *at; at += word_length(at))
            if (word_length(at) == 1 && *at >= 'x' && *at <= 'z') mentions[*at - 'x']++;
        for (int i = 0; i < 3; i++) mentions[i] -= mentions[i] > 1;
    }
    for (int i = 0; i < 3; i++) use(uses, step->source[i], id, mentions[i]);
    use(uses, step->condition, id, lanes > 1 ? 2 : 1);
    use_index(uses, step->index, id, lanes > 1 ? 2 : 1);
    use_index(uses, step->limit, id, 1);
    for (int i = 0; i < step_places(step); i++) use_index(uses, step->at[i], id, 1);
}

static void find_named(Render *render) {
    int32_t count = render->program->steps.count, changed = -1;
    Uses uses = {render, arena_array(render->arena, int32_t, count),
                 arena_array(render->arena, int32_t, count)};
    for (int32_t id = 0; id < count; id++) {
        uses.last_change[id] = changed;
        if (!step_has_value(render_step_of(render, id))) changed = id;
    }
    for (int32_t id = count - 1; id >= 0; id--)
        if (render->used[id]) use_sources(&uses, id);
}

void render_let(Render *render, int32_t id) {
    const Step *step = render_step_of(render, id);
    if (!render->used[id]) return;
    bool is_constant = step->kind == STEP_LET && step->op == OP_CONST;
    const char *text = step->kind == STEP_GET ? render->variable[step->of] : let_text(render, step);
    render->value[id] = text;
    bool is_long = strlen(text) > INLINE_MAX && !render->whole[id];
    if (is_constant || (!render->named[id] && !is_long)) return;
    render->value[id] = PRINT("_%d", id);
    render_line(render, "const %s _%d = %s;", render_type(render, step->type), id, text);
}

// ---- all of it ---------------------------------------------------------------------------------
static void name_everything(Render *render) {
    const Program *program = render->program;
    Arena *arena = render->arena;
    render->buffer = arena_array(arena, const char *, program->buffers.count);
    render->variable = arena_array(arena, const char *, program->variables.count);
    render->var = arena_array(arena, const char *, program->vars.count);
    render->value = arena_array(arena, const char *, program->steps.count);
    render->loop = arena_array(arena, const char *, program->steps.count);
    render->used = program_used(arena, program);
    render->named = arena_array(arena, bool, program->steps.count);
    render->whole = arena_array(arena, bool, program->steps.count);
    for (int32_t i = 0; i < program->vars.count; i++)
        render->var[i] = render_name(render, program->vars.at[i].name);
    for (int32_t i = 0; i < program->buffers.count; i++)
        render->buffer[i] = render_name(render, program->buffers.at[i].name);
    for (int32_t i = 0; i < program->variables.count; i++)  // a tile is a register's number
        render->variable[i] = type_is_tile(program->variables.at[i].type)
                                  ? PRINT("%d", render->tiles++)
                                  : render_name(render, program->variables.at[i].name);
}

Render *render_new(Arena *arena, const Program *program, bool cuda) {
    Render *render = arena_object(arena, Render);
    *render = (Render){.arena = arena, .program = program, .cuda = cuda, .text = text_new(arena)};
    name_everything(render);
    find_named(render);
    return render;
}

char *render_file(Render *render, const char *comment, char symbol[SYMBOL_SIZE]) {
    Text file = text_new(render->arena);
    for (int length; comment && *comment; comment += length + (comment[length] == '\n')) {
        length = (int)strcspn(comment, "\n");
        text_add(&file, "// %.*s\n", length, comment);
    }
    prelude_add(&file, render->arena, render->text.at, render->cuda);
    text_add_bytes(&file, render->text.at, render->text.count);
    char hash[17];
    snprintf(hash, sizeof hash, "%016lx", hash_bytes(file.at, file.count, 0));
    for (char *at = file.at; (at = strstr(at, RENDER_HASH));) memcpy(at, hash, 16);
    snprintf(symbol, SYMBOL_SIZE, "pg_k_%s", hash);
    return file.at;
}
