/* render_c.c - a program becomes C, with GCC's vectors and no includes.
 * In: a verified program.  Out: the text of one file, its exported symbol named after its content.
 * Invariants: a value used once, before anything changes, is written where it is used, else it is a
 * constant `_7`, after its step; addresses are i64, as a wrapping i32 costs an extension at every
 * access; elements in memory have alignment 1; restrict is a parameter's (clang heeds no other).
 *   %5 = f32 load a[96*i + k] ... set s %9   =>   s = fma_f32(a[96*i + k], b[80*k + j], s);   */
#include "codegen/codegen.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PRINT(...) arena_print(render->arena, __VA_ARGS__)
enum { COLUMNS = 100, INLINE_MAX = 72 };
static const char hash_place[] = "################";  // where the content's hash goes

typedef struct {
    Arena *arena;
    const Program *program;
    Text text;
    const bool *used;    // by step
    bool *named;         // by step: more than one place uses it
    bool *whole;         // by step: what is stored, so that it may fill a line
    const char **value;  // by step: how it is written where it is used
    const char **loop;   // by step: a FOR's variable
    const char **buffer, **variable, **var;
    int tiles;
    LIST(const char *) taken;
    LIST(int32_t) scopes;  // by open block: how many names were taken before it
} Render;

// ---- names -------------------------------------------------------------------------------------

static bool is_taken(const Render *render, const char *name) {
    static const char reserved[] =
        " auto break case char const continue default do double else enum extern float for goto if "
        "inline int long register restrict return short signed sizeof static struct switch typedef "
        "typeof union unsigned void volatile while asm linux unix args thread threads barrier ";
    if (prelude_has(name)) return true;
    const char *found = strstr(reserved, name);
    if (found && found[-1] == ' ' && found[strlen(name)] == ' ') return true;
    for (int i = 0; i < render->taken.count; i++)
        if (!strcmp(render->taken.at[i], name)) return true;
    return false;
}

// A name of C's that is like `name` and nobody else's.
static const char *own_name(Render *render, const char *name) {
    char *mine = arena_text(render->arena, name);
    for (char *at = mine; *at; at++)
        if (!isalnum((unsigned char)*at)) *at = '_';
    if (prelude_has(mine)) mine = PRINT("own_%s", mine);
    while (is_taken(render, mine)) mine = PRINT("%s_", mine);
    *list_add(render->arena, &render->taken) = mine;
    return mine;
}

// Names taken since there were `taken` of them end with the block.
static void open_scope(Render *render, int32_t taken) {
    *list_add(render->arena, &render->scopes) = taken;
}

static void close_scope(Render *render) {
    render->taken.count = render->scopes.at[--render->scopes.count];
}

static const char *element_name(DType dtype) {  // in memory
    return dtype == DT_BOOL ? "u8" : dtypes[dtype].text;
}

// "f32x8": what helpers' names end with. In a variable a bool is an i32.
static const char *type_suffix(Render *render, DType dtype, int lanes) {
    return lanes > 1 ? PRINT("%sx%d", dtypes[dtype].text, lanes) : dtypes[dtype].text;
}

static const char *type_name(Render *render, ValueType type) {
    return type_suffix(render, type.dtype == DT_BOOL ? DT_I32 : type.dtype, type.lanes);
}

static const Step *step_of(const Render *render, int32_t id) {
    return &render->program->steps.at[id];
}

static bool is_masked(const Render *render, const Step *step) {  // lane by lane
    return step->condition >= 0 && step_of(render, step->condition)->type.lanes > 1;
}

// ---- lines -------------------------------------------------------------------------------------

static bool may_break(const char *at) {
    return *at == ' ' && (at[-1] == ',' || strchr("?:|&+", at[1]));
}

static void line(Render *render, const char *format, ...) PRINTF(2, 3);

// Long ones are broken behind a comma, or before an operator.
static void line(Render *render, const char *format, ...) {
    Text made = text_new(render->arena);
    va_list arguments;
    va_start(arguments, format);
    text_add_list(&made, format, arguments);
    va_end(arguments);
    int indent = 4 * render->scopes.count, length;
    for (const char *rest = made.at; *rest; rest += length + (rest[length] == ' ')) {
        length = (int)strlen(rest);
        if (length > COLUMNS - indent)
            for (length = COLUMNS - indent; length && !may_break(rest + length);) length--;
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

static const char *index_text(Render *render, Index index, int lane);

static const char *atom_text(Render *render, const Atom *atom, int lane) {
    const IndexTable *indices = render->program->indices;
    if (atom->kind == ATOM_VAR) return render->var[atom->of];
    if (atom->kind == ATOM_LOOP) return render->loop[atom->of];
    if (atom->kind == ATOM_VALUE) {
        ValueType type = step_of(render, atom->of)->type;
        const char *value = operand(render, atom->of);
        if (type.lanes > 1) value = PRINT("%s[%d]", value, lane);
        return type.dtype == DT_I64 ? value : PRINT("(i64)%s", value);
    }
    const char *of = index_text(render, atom->of, lane);
    bool is_div = atom->kind == ATOM_DIV, small = index_low(indices, atom->of) >= 0 &&
                                                  atom->by <= UINT32_MAX &&
                                                  index_high(indices, atom->of) <= UINT32_MAX;
    if (small) return PRINT("%s(%s, %ld)", is_div ? "quotient_u32" : "rest_u32", of, atom->by);
    return PRINT("%s(%s, %ld)", is_div ? "idiv_i64" : "mod_i64", of, atom->by);
}

static Index at_lane(Render *render, Index index, int lane) {
    IndexTable *indices = render->program->indices;
    int lanes = index_lanes(render->program, index);
    if (lanes == 1) return index;
    return index_replace(indices, index, ATOM_LOOP, -lanes, index_const(indices, lane));
}

// In i64. `lane` stands for the lane atom.
static const char *index_text(Render *render, Index index, int lane) {
    IndexTable *indices = render->program->indices;
    const Term *terms;
    index = at_lane(render, index, lane);
    int count = index_terms(indices, index, &terms);
    int64_t constant = index_constant(indices, index);
    if (!count) return PRINT("%ld", constant);
    Text text = text_new(render->arena);
    bool first = constant && terms[0].scale < 0;  // 7 - i
    if (first) text_add(&text, "%ld", constant);
    for (int i = 0; i < count; i++) {
        int64_t scale = terms[i].scale;
        text_add(&text, "%s", scale < 0 ? i || first ? " - " : "-" : i || first ? " + " : "");
        if (scale != 1 && scale != -1)
            text_add(&text, "%lu*", scale < 0 ? -(uint64_t)scale : (uint64_t)scale);
        text_add(&text, "%s", atom_text(render, index_atom_of(indices, terms[i].atom), lane));
    }
    if (constant && !first) text_add(&text, constant < 0 ? " - %ld" : " + %ld", labs(constant));
    return text.at;
}

// Whether lanes are at equal distances from each other.
static bool index_steps(Render *render, Index index, int lanes, int64_t *stride) {
    return index_stride(render->program->indices, index, -lanes, stride) &&
           index_lanes(render->program, at_lane(render, index, 0)) == 1;
}

// ---- values ------------------------------------------------------------------------------------

static const char *constant_text(Render *render, const Step *step) {
    if (step->type.dtype == DT_F32) {
        if (isnan(step->number)) return "__builtin_nanf(\"\")";
        if (isinf(step->number)) return step->number > 0 ? "__builtin_inff()" : "-__builtin_inff()";
        const char *digits = PRINT("%.9g", (double)(float)step->number);
        return PRINT("%s%sf", digits, strpbrk(digits, ".e") ? "" : ".0");
    }
    if (step->integer == INT64_MIN) return "-9223372036854775807 - 1";
    return PRINT(step->type.dtype == DT_U32 ? "%ldu" : "%ld", step->integer);
}

// One element in memory, or one lane of a vector that has no shorter form.
static const char *lane_text(Render *render, const Step *step, int lane) {
    if (step->op == OP_INDEX) return index_text(render, step->index, lane);
    if (step->op == OP_PERM)
        return PRINT("%s[%d]", operand(render, step->source[0]), lane ^ step->lane);
    const char *text =
        PRINT("%s[%s]", render->buffer[step->of], index_text(render, step->index, lane));
    if (step->type.dtype == DT_BOOL)
        text = PRINT(step->type.lanes > 1 ? "-(%s != 0)" : "(%s != 0)", text);
    if (is_masked(render, step))
        text = PRINT("%s[%d] ? %s : 0", operand(render, step->condition), lane, text);
    return text;
}

static const char *list_text(Render *render, const Step *step) {
    Text text = text_new(render->arena);
    for (int lane = 0; lane < step->type.lanes; lane++)
        text_add(&text, "%s%s", lane ? ", " : "", lane_text(render, step, lane));
    return PRINT("(%s){%s}", type_name(render, step->type), text.at);
}

static const char *index_let(Render *render, const Step *step) {
    int64_t stride;
    int lanes = step->type.lanes;
    if (lanes == 1)
        return PRINT(step->type.dtype == DT_I64 ? "%s" : "(i32)(%s)", lane_text(render, step, 0));
    if (!index_steps(render, step->index, lanes, &stride)) return list_text(render, step);
    Step lane = *step;
    lane.index = index_sub(render->program->indices, step->index, at_lane(render, step->index, 0));
    return PRINT("vec_%s(%s) + %s", type_name(render, step->type), lane_text(render, step, 0),
                 list_text(render, &lane));
}

static const char *address(Render *render, const Step *step) {
    const char *first = index_text(render, step->index, 0);
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
           value >= 0 && !is_masked(render, step) && step_of(render, value)->type.dtype == DT_I32 &&
           step_of(render, value)->type.lanes == step->type.lanes;
}

static const char *load_let(Render *render, const Step *step) {
    int64_t stride;
    int lanes = step->type.lanes;
    bool is_bool = step->type.dtype == DT_BOOL, masked = is_masked(render, step);
    DType from = render->program->buffers.at[step->of].dtype;
    const char *text, *memory = type_suffix(render, is_bool ? DT_U8 : step->type.dtype, lanes);
    if (lanes == 1) {
        text = lane_text(render, step, 0);
    } else if (index_steps(render, step->index, lanes, &stride) &&
               stride * dtypes[from].bytes == dtypes[step->type.dtype].bytes) {
        text = masked ? PRINT("loadif_%s(%s, %s)", memory, address(render, step),
                              render->value[step->condition])
                      : PRINT("load_%s(%s)", memory, address(render, step));
        if (is_bool) text = PRINT("u8_to_boolx%d(%s)", lanes, text);
    } else if (is_lookup(render, step)) {
        text = PRINT("lookup_%s(%s, %s)", memory, render->buffer[step->of],
                     render->value[lookup_value(render, step)]);
    } else {
        text = list_text(render, step);
    }
    if (step->condition < 0 || masked) return text;
    const char *zero = lanes > 1 ? PRINT("(%s){0}", type_name(render, step->type)) : "0";
    return PRINT("%s ? %s : %s", operand(render, step->condition), text, zero);
}

static const char *cast_let(Render *render, const Step *step) {
    DType from = step_of(render, step->source[0])->type.dtype, to = step->type.dtype;
    bool half = to == DT_F16 || to == DT_BF16;
    if (step->type.lanes == 1 && !dtype_is_float(from) && !half)
        return PRINT("(%s)%s", dtypes[to].text, operand(render, step->source[0]));
    return PRINT("%s_to_%s(%s)", dtypes[from].text, type_suffix(render, to, step->type.lanes),
                 render->value[step->source[0]]);
}

static const char *bitcast_let(Render *render, const Step *step) {
    DType from = step_of(render, step->source[0])->type.dtype, to = step->type.dtype;
    if (step->type.lanes == 1 && (from == DT_F32 || to == DT_F32))
        return PRINT("%s_as_%s(%s)", dtypes[from].text, dtypes[to].text,
                     render->value[step->source[0]]);
    return PRINT("(%s)%s", type_name(render, step->type), operand(render, step->source[0]));
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
    DType dtype = step_of(render, step->source[ops[step->op].arity - 1])->type.dtype;
    bool wide = lanes > 1 && dtypes[dtype].bytes == 8;
    Text text = text_new(render->arena);
    size_t length;
    for (const char *at = op_expression(step->op, lanes); *at; at += length) {
        length = word_length(at);
        if (length == 1 && *at >= 'x' && *at <= 'z') {
            int32_t source = step->source[*at - 'x'];
            bool mask = wide && step_of(render, source)->type.dtype == DT_BOOL;
            const char *x = operand(render, source);
            text_add(&text, "%s", mask ? PRINT("i32_to_i64x%d(%s)", lanes, x) : x);
        } else if (length > 1) {  // SELECT, FMA_
            for (size_t i = 0; i < length && at[i] != '_'; i++)
                text_add(&text, "%c", tolower(at[i]));
            text_add(&text, "_%s", type_suffix(render, dtype, lanes));
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
        return PRINT(is_bool ? "(%s[%d] != 0)" : "%s[%d]", operand(render, step->source[0]),
                     step->lane);
    case OP_VEC:
        return PRINT(is_bool ? "vec_%s(-%s)" : "vec_%s(%s)", type_name(render, step->type),
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
    const Step *step = step_of(uses->render, value);
    StepKind user = step_of(uses->render, at)->kind;
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
    const Step *step = step_of(uses->render, id);
    int lanes = step->type.lanes, mentions[3] = {1, 1, 1};
    bool is_store = step->kind == STEP_STORE, is_let = step->kind == STEP_LET;
    if (is_store) lanes = step_of(uses->render, step->source[0])->type.lanes;
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
}

static void find_named(Render *render) {
    int32_t count = render->program->steps.count, changed = -1;
    Uses uses = {render, arena_array(render->arena, int32_t, count),
                 arena_array(render->arena, int32_t, count)};
    for (int32_t id = 0; id < count; id++) {
        uses.last_change[id] = changed;
        if (!step_has_value(step_of(render, id))) changed = id;
    }
    for (int32_t id = count - 1; id >= 0; id--)
        if (render->used[id]) use_sources(&uses, id);
}

// ---- steps -------------------------------------------------------------------------------------

static void let_line(Render *render, int32_t id) {
    const Step *step = step_of(render, id);
    if (!render->used[id]) return;
    bool is_constant = step->kind == STEP_LET && step->op == OP_CONST;
    const char *text = step->kind == STEP_GET ? render->variable[step->of] : let_text(render, step);
    render->value[id] = text;
    bool is_long = strlen(text) > INLINE_MAX && !render->whole[id];
    if (is_constant || (!render->named[id] && !is_long)) return;
    render->value[id] = PRINT("_%d", id);
    line(render, "const %s _%d = %s;", type_name(render, step->type), id, text);
}

// Is the first lane's address a multiple of the vector's bytes?
static bool is_aligned(Render *render, const Step *step, int lanes) {
    const Term *terms;
    Index first = at_lane(render, step->index, 0);
    bool aligned = index_constant(render->program->indices, first) % lanes == 0;
    int count = index_terms(render->program->indices, first, &terms);
    for (int i = 0; i < count; i++) aligned &= terms[i].scale % lanes == 0;
    return aligned;
}

static void store_line(Render *render, const Step *step) {
    ValueType type = step_of(render, step->source[0])->type;
    bool is_bool = type.dtype == DT_BOOL, masked = is_masked(render, step);
    const char *x = render->value[step->source[0]], *buffer = render->buffer[step->of];
    const char *guard =
        step->condition < 0 || masked ? "" : PRINT("if (%s) ", render->value[step->condition]);
    int64_t stride;
    if (type.lanes == 1) {
        line(render, "%s%s[%s] = %s;", guard, buffer, index_text(render, step->index, 0), x);
    } else if (index_steps(render, step->index, type.lanes, &stride) && stride == 1) {
        const char *memory = type_suffix(render, is_bool ? DT_U8 : type.dtype, type.lanes);
        const char *mask = masked ? PRINT(", %s", render->value[step->condition]) : "";
        if (is_bool) x = PRINT("bool_to_%s(%s)", memory, x);
        bool streams = render->program->buffers.at[step->of].streams && type.dtype == DT_F32 &&
                       !masked && is_aligned(render, step, type.lanes);
        line(render, "%s%s_%s(%s%s, %s);", guard,
             streams  ? "stream"
             : masked ? "storeif"
                      : "store",
             memory, address(render, step), mask, x);
    } else {
        for (int lane = 0; lane < type.lanes; lane++) {
            if (masked) guard = PRINT("if (%s[%d]) ", render->value[step->condition], lane);
            line(render, is_bool ? "%s%s[%s] = %s[%d] != 0;" : "%s%s[%s] = %s[%d];", guard, buffer,
                 index_text(render, step->index, lane), x, lane);
        }
    }
}

static void for_line(Render *render, int32_t id) {
    const Step *step = step_of(render, id);
    const char *first = "0", *end = index_text(render, step->index, 0);
    bool plain = index_is_const(render->program->indices, step->index, &(int64_t){0}) &&
                 step->limit < 0 && !step->share;
    if (step->limit >= 0) end = PRINT("min_i64(%s, %s)", end, index_text(render, step->limit, 0));
    if (step->share && step->counter >= 0) {
        const char *count = own_name(render, PRINT("%s_count", step->name));
        line(render, "const i64 %s = %s;", count, end);
        const char *from = own_name(render, PRINT("%s_first", step->name)),
                   *to = own_name(render, PRINT("%s_end", step->name));
        line(render, "i64 %s = -1, %s;", from, to);
        line(render, "while (take_i64(barrier, %d, %s, thread, threads, &%s, &%s))", step->counter,
             count, from, to);
        const char *name = render->loop[id] = own_name(render, step->name);
        line(render, "for (i64 %s = %s; %s < %s; %s++) {", name, from, name, to, name);
        open_scope(render, render->taken.count - 1);
        return;
    }
    if (step->share) {
        first = PRINT("share_i64(%s, thread, threads)", end);
        end = PRINT("share_i64(%s, thread + 1, threads)", end);
    }
    if (!plain) {
        const char *name = own_name(render, PRINT("%s_end", step->name));
        line(render, "const i64 %s = %s;", name, end);
        end = name;
    }
    const char *name = render->loop[id] = own_name(render, step->name);
    if (step->steps) line(render, "#pragma GCC unroll %d", step->steps);
    line(render, "for (i64 %s = %s; %s < %s; %s++) {", name, first, name, end, name);
    open_scope(render, render->taken.count - 1);
}

static void tile_line(Render *render, const Step *step) {
    const char *tile = render->variable[step->tile[0]];
    if (step->does == TILE_PRODUCT) {
        line(render, "tile_product(%s, %s, %s);", tile, render->variable[step->tile[1]],
             render->variable[step->tile[2]]);
        return;
    }
    DType dtype = render->program->buffers.at[step->of].dtype;
    line(render, "%s(%s, %s, %ld);", step->does == TILE_LOAD ? "tile_load" : "tile_store", tile,
         address(render, step), step->stride * dtypes[dtype].bytes);
}

// Before others may read: what was stored past the caches arrives.
static void wait_for_streams(Render *render) {
    const Program *program = render->program;
    for (int32_t i = 0; i < program->buffers.count; i++) {
        if (!program->buffers.at[i].streams) continue;
        line(render, "streamed_f32();");
        return;
    }
}

static void step_line(Render *render, int32_t id) {
    const Step *step = step_of(render, id);
    switch (step->kind) {
    case STEP_LET:
    case STEP_GET: let_line(render, id); return;
    case STEP_STORE: store_line(render, step); return;
    case STEP_FOR: for_line(render, id); return;
    case STEP_BARRIER:
        wait_for_streams(render);
        line(render, "args->wait(barrier, thread);");
        return;
    case STEP_AHEAD:
        line(render, "__builtin_prefetch((const char *)(%s) + %ld);", address(render, step),
             step->integer);
        return;
    case STEP_TILE: tile_line(render, step); return;
    case STEP_SET: {
        const char *lane = step->lane < 0 ? "" : PRINT("[%d]", step->lane);
        line(render, "%s%s = %s;", render->variable[step->of], lane,
             render->value[step->source[0]]);
        return;
    }
    case STEP_IF: line(render, "if (%s) {", render->value[step->condition]); break;
    case STEP_ONCE: line(render, "if (thread == 0) {"); break;
    case STEP_END:
        close_scope(render);
        line(render, "}");
        return;
    }
    open_scope(render, render->taken.count);
}

// ---- the file ----------------------------------------------------------------------------------

// What the body takes, and what it is given.
static void add_parameters(Render *render, Text *parameters, Text *arguments) {
    const Program *program = render->program;
    for (int32_t i = 0; i < program->buffers.count; i++) {
        const ProgramBuffer *buffer = &program->buffers.at[i];
        bool param = buffer->space == SPACE_PARAM;
        if (buffer->space == SPACE_REGISTER) continue;
        text_add(parameters, "%s%s_at *%s%s, ", param && !buffer->written ? "const " : "",
                 element_name(buffer->dtype), buffer->restricted ? "restrict " : "",
                 render->buffer[i]);
        if (param)
            text_add(arguments, "args->buffer[%d], ", i);
        else
            text_add(arguments, "args->workspace + %s * %ldL + %ld, ",
                     buffer->space == SPACE_THREAD ? "thread" : "threads", program->own_bytes,
                     buffer->offset);
    }
    for (int32_t i = 0; i < program->vars.count; i++) {
        text_add(parameters, "i64 %s, ", render->var[i]);
        text_add(arguments, "args->var[%d], ", i);
    }
}

static void add_locals(Render *render) {
    const Program *program = render->program;
    for (int32_t i = 0; i < program->buffers.count; i++) {
        const ProgramBuffer *buffer = &program->buffers.at[i];
        if (buffer->space == SPACE_REGISTER)
            line(render, "_Alignas(64) %s %s[%ld];", element_name(buffer->dtype), render->buffer[i],
                 buffer->size);
    }
    for (int32_t i = 0; i < program->variables.count; i++)
        if (!type_is_tile(program->variables.at[i].type))
            line(render, "%s %s;", type_name(render, program->variables.at[i].type),
                 render->variable[i]);
}

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
        render->var[i] = own_name(render, program->vars.at[i].name);
    for (int32_t i = 0; i < program->buffers.count; i++)
        render->buffer[i] = own_name(render, program->buffers.at[i].name);
    for (int32_t i = 0; i < program->variables.count; i++)  // a tile is a register's number
        render->variable[i] = type_is_tile(program->variables.at[i].type)
                                  ? PRINT("%d", render->tiles++)
                                  : own_name(render, program->variables.at[i].name);
}

static void add_functions(Render *render) {
    Text parameters = text_new(render->arena), arguments = text_new(render->arena);
    const char *rest = "const PgArgs *args, int thread, int threads, PgBarrier *barrier";
    add_parameters(render, &parameters, &arguments);
    line(render, "static void body_%s(%s%s) {", hash_place, parameters.at, rest);
    open_scope(render, render->taken.count);
    add_locals(render);
    if (render->tiles) line(render, "tile_begin();");
    for (int32_t id = 0; id < render->program->steps.count; id++) step_line(render, id);
    if (render->tiles) line(render, "tile_end();");
    wait_for_streams(render);
    close_scope(render);
    line(render, "}\n");
    line(render, "void pg_k_%s(%s) {", hash_place, rest);
    open_scope(render, render->taken.count);
    line(render, "body_%s(%sargs, thread, threads, barrier);", hash_place, arguments.at);
    close_scope(render);
    line(render, "}");
}

char *render_c(Arena *arena, const Program *program, const char *comment,
               char symbol[SYMBOL_SIZE]) {
    Render it = {.arena = arena, .program = program, .text = text_new(arena)}, *render = &it;
    name_everything(render);
    find_named(render);
    add_functions(render);
    Text file = text_new(arena);
    for (int length; comment && *comment; comment += length + (comment[length] == '\n')) {
        length = (int)strcspn(comment, "\n");
        text_add(&file, "// %.*s\n", length, comment);
    }
    prelude_add(&file, arena, render->text.at);
    text_add_bytes(&file, render->text.at, render->text.count);
    char hash[17];
    snprintf(hash, sizeof hash, "%016lx", hash_bytes(file.at, file.count, 0));
    for (char *at = file.at; (at = strstr(at, hash_place));) memcpy(at, hash, 16);
    snprintf(symbol, SYMBOL_SIZE, "pg_k_%s", hash);
    return file.at;
}
