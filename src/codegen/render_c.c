/* render_c.c - a program becomes C, with GCC's vectors and no includes.
 * In: a verified program.  Out: the text of one file, its exported symbol named after its content.
 * Invariants: a value that is used once, before anything changes, is written where it is used, else it
 * is a constant `_7` after its step; addresses are i64, since a wrapping i32 would cost an extension at
 * each access; elements in memory have alignment 1, and restrict holds through a function's parameters
 * (clang knows no other).
 *   %5 = f32 load a[96*i + k] ... set s %9   =>   s = fma_f32(a[96*i + k], b[80*k + j], s);      */
#include "codegen/codegen.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

enum { LINE_MAX_COLUMNS = 100, INLINE_MAX = 72 };
static const char hash_place[] = "################";  // where the content's hash goes

typedef struct {
    Arena *arena;
    const Program *program;
    Text text;
    bool *named;             // by step: more than one place uses it
    bool *whole;             // by step: what is stored, so that it may fill a line
    const char **value;      // by step: how it is written where it is used
    const char **loop;       // by step: a FOR's variable
    const char **buffer, **variable, **var;
    LIST(const char *) taken;
    LIST(int32_t) scopes;    // by open block: how many names were taken before it
} Render;

// ---- names --------------------------------------------------------------------------------------

static bool is_taken(const Render *render, const char *name) {
    static const char reserved[] =
        " auto break case char const continue default do double else enum extern float for goto if inline "
        "int long register restrict return short signed sizeof static struct switch typedef typeof union "
        "unsigned void volatile while asm linux unix i386 args thread threads barrier own shared ";
    if (prelude_has(name)) return true;
    const char *found = strstr(reserved, name);
    if (found && found[-1] == ' ' && found[strlen(name)] == ' ') return true;
    for (int i = 0; i < render->taken.count; i++)
        if (!strcmp(render->taken.at[i], name)) return true;
    return false;
}

// A name of C's that is like `name` and nobody else's.
static const char *own_name(Render *render, const char *name) {
    char *mine = arena_print(render->arena, "%s", name);
    for (char *at = mine; *at; at++)
        if (!isalnum((unsigned char)*at)) *at = '_';
    while (is_taken(render, mine)) mine = arena_print(render->arena, "%s_", mine);
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

static const char *type_name(Render *render, ValueType type) {
    const char *element = type.dtype == DT_BOOL ? "i32" : dtypes[type.dtype].text;
    return type.lanes > 1 ? arena_print(render->arena, "%sx%d", element, type.lanes) : element;
}

// "f32x8", "boolx8": what helpers' names end with.
static const char *suffix(Render *render, DType dtype, int lanes) {
    return lanes > 1 ? arena_print(render->arena, "%sx%d", dtypes[dtype].text, lanes)
                     : dtypes[dtype].text;
}

// ---- lines --------------------------------------------------------------------------------------

static int indent_of(const Render *render) { return 4 * render->scopes.count; }

static bool may_break(const char *space) {
    return *space == ' ' && (space[-1] == ',' || strchr("?:|&+", space[1]));
}

static void line(Render *render, const char *format, ...) PRINTF(2, 3);

// Long ones are broken behind a comma, or before an operator.
static void line(Render *render, const char *format, ...) {
    Text made = text_new(render->arena);
    va_list arguments;
    va_start(arguments, format);
    text_add_list(&made, format, arguments);
    va_end(arguments);
    int indent = indent_of(render);
    for (const char *rest = made.at;;) {
        int room = LINE_MAX_COLUMNS - indent, length = (int)strlen(rest);
        if (length > room)
            for (length = room; length && !may_break(rest + length);) length--;
        if (!length) length = (int)strlen(rest);
        text_add(&render->text, "%*s%.*s\n", indent, "", length, rest);
        rest += length;
        if (!*rest) return;
        rest += *rest == ' ';
        indent = indent_of(render) + 4;
    }
}

// A name, a number, a call, an element: what needs no parentheses as an operand.
static bool is_primary(const char *text) {
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
    return is_primary(text) ? text : arena_print(render->arena, "(%s)", text);
}

// ---- indices ------------------------------------------------------------------------------------

static const char *index_text(Render *render, Index index, int lane);

static const char *atom_text(Render *render, const Atom *atom, int lane) {
    const IndexTable *indices = render->program->indices;
    if (atom->kind == ATOM_VAR) return render->var[atom->of];
    if (atom->kind == ATOM_LOOP) return render->loop[atom->of];
    if (atom->kind == ATOM_VALUE) {
        ValueType type = render->program->steps.at[atom->of].type;
        const char *value = operand(render, atom->of);
        if (type.lanes > 1) value = arena_print(render->arena, "%s[%d]", value, lane);
        return type.dtype == DT_I64 ? value : arena_print(render->arena, "(i64)%s", value);
    }
    const char *of = index_text(render, atom->of, lane);
    bool small = index_low(indices, atom->of) >= 0 && index_high(indices, atom->of) <= UINT32_MAX &&
                 atom->by <= UINT32_MAX;
    const char *helper = atom->kind == ATOM_DIV ? small ? "quotient_u32" : "idiv_i64"
                         : small                ? "rest_u32"
                                                : "mod_i64";
    return arena_print(render->arena, "%s(%s, %ld)", helper, of, atom->by);
}

// In i64. `lane` stands for the lane atom.
static const char *index_text(Render *render, Index index, int lane) {
    IndexTable *indices = render->program->indices;
    int lanes = index_lanes(render->program, index);
    if (lanes > 1)
        index = index_replace(indices, index, ATOM_LOOP, -lanes, index_const(indices, lane));
    const Term *terms;
    int count = index_terms(indices, index, &terms);
    int64_t constant = index_constant(indices, index);
    Text text = text_new(render->arena);
    for (int i = 0; i < count; i++) {
        int64_t scale = terms[i].scale;
        text_add(&text, "%s", scale < 0 ? i ? " - " : "-" : i ? " + " : "");
        if (scale != 1 && scale != -1) text_add(&text, "%lu*", scale < 0 ? -(uint64_t)scale : (uint64_t)scale);
        text_add(&text, "%s", atom_text(render, index_atom_of(indices, terms[i].atom), lane));
    }
    if (!count) return arena_print(render->arena, "%ld", constant);
    if (constant) text_add(&text, constant < 0 ? " - %lu" : " + %lu",
                           constant < 0 ? -(uint64_t)constant : (uint64_t)constant);
    return text.at;
}

// Lanes that are `stride` apart, from the text for lane 0; false if they have no such form.
static bool index_steps(Render *render, const Step *step, int64_t *stride) {
    const IndexTable *indices = render->program->indices;
    if (!index_stride(indices, step->index, -step->type.lanes, stride)) return false;
    Index first = index_replace(render->program->indices, step->index, ATOM_LOOP, -step->type.lanes,
                                index_const(render->program->indices, 0));
    return index_lanes(render->program, first) == 1;
}

// ---- values -------------------------------------------------------------------------------------

static const char *constant_text(Render *render, const Step *step) {
    if (step->type.dtype == DT_F32) {
        if (isnan(step->number)) return "__builtin_nanf(\"\")";
        if (isinf(step->number)) return step->number > 0 ? "__builtin_inff()" : "-__builtin_inff()";
        const char *digits = arena_print(render->arena, "%.9g", (double)(float)step->number);
        return arena_print(render->arena, "%s%sf", digits, strpbrk(digits, ".e") ? "" : ".0");
    }
    const char *unsigned_end = step->type.dtype == DT_U32 ? "u" : "";
    if (step->integer == INT64_MIN) return "-9223372036854775807 - 1";
    return arena_print(render->arena, "%ld%s", step->integer, unsigned_end);
}

// {e for lane 0, e for lane 1, ...} of the type.
static const char *list_text(Render *render, ValueType type, const char *(*lane_text)(Render *, const Step *, int),
                             const Step *step) {
    Text text = text_new(render->arena);
    text_add(&text, "(%s){", type_name(render, type));
    for (int lane = 0; lane < type.lanes; lane++)
        text_add(&text, "%s%s", lane ? ", " : "", lane_text(render, step, lane));
    text_add(&text, "}");
    return text.at;
}

static const char *index_lane(Render *render, const Step *step, int lane) {
    return index_text(render, step->index, lane);
}

static const char *perm_lane(Render *render, const Step *step, int lane) {
    return arena_print(render->arena, "%s[%d]", operand(render, step->source[0]), lane ^ step->lane);
}

static const char *iota_lane(Render *render, const Step *step, int lane) {
    (void)step;
    return arena_print(render->arena, "%d", lane);
}

static const char *element_lane(Render *render, const Step *step, int lane) {
    const char *text = arena_print(render->arena, "%s[%s]", render->buffer[step->of],
                                   index_text(render, step->index, lane));
    if (step->type.dtype == DT_BOOL)
        text = arena_print(render->arena, step->type.lanes > 1 ? "-(%s != 0)" : "(%s != 0)", text);
    if (step->condition < 0 || render->program->steps.at[step->condition].type.lanes == 1) return text;
    return arena_print(render->arena, "%s[%d] ? %s : 0", operand(render, step->condition), lane, text);
}

static const char *index_result(Render *render, const Step *step) {
    int64_t stride;
    const char *first = index_text(render, step->index, 0);
    if (step->type.lanes == 1)
        return step->type.dtype == DT_I64 ? first : arena_print(render->arena, "(i32)(%s)", first);
    if (!index_steps(render, step, &stride)) return list_text(render, step->type, index_lane, step);
    const char *text = list_text(render, step->type, iota_lane, step);
    if (stride != 1) text = arena_print(render->arena, "%s * %ld", text, stride);
    if (!strcmp(first, "0")) return text;
    return arena_print(render->arena, "vec_%s(%s) + %s", suffix(render, step->type.dtype, step->type.lanes),
                       first, text);
}

static const char *address(Render *render, const Step *step) {
    const char *first = index_text(render, step->index, 0);
    if (!strcmp(first, "0")) return render->buffer[step->of];
    return arena_print(render->arena, "%s + %s", render->buffer[step->of], first);
}

static const char *load_value(Render *render, const Step *step) {
    Arena *arena = render->arena;
    int lanes = step->type.lanes;
    bool is_bool = step->type.dtype == DT_BOOL;
    int64_t stride;
    bool masked = step->condition >= 0 && render->program->steps.at[step->condition].type.lanes > 1;
    const char *text, *memory = suffix(render, is_bool ? DT_U8 : step->type.dtype, lanes);
    if (lanes == 1) {
        text = element_lane(render, step, 0);
    } else if (index_steps(render, step, &stride) && stride == 1) {
        const char *from = address(render, step);
        text = masked ? arena_print(arena, "loadif_%s(%s, %s)", memory, from, render->value[step->condition])
                      : arena_print(arena, "load_%s(%s)", memory, from);
        if (is_bool) text = arena_print(arena, "u8_to_boolx%d(%s)", lanes, text);
    } else {
        text = list_text(render, step->type, element_lane, step);
    }
    if (step->condition < 0 || masked) return text;
    const char *zero = lanes > 1 ? arena_print(arena, "(%s){0}", type_name(render, step->type)) : "0";
    return arena_print(arena, "%s ? %s : %s", operand(render, step->condition), text, zero);
}

static const char *cast_value(Render *render, const Step *step) {
    ValueType from = render->program->steps.at[step->source[0]].type, to = step->type;
    const char *x = render->value[step->source[0]];
    bool plain = to.lanes == 1 && dtypes[from.dtype].kind != KIND_FLOAT &&
                 to.dtype != DT_F16 && to.dtype != DT_BF16;
    if (plain) return arena_print(render->arena, "(%s)%s", type_name(render, to), operand(render, step->source[0]));
    return arena_print(render->arena, "%s_to_%s(%s)", dtypes[from.dtype].text,
                       suffix(render, to.dtype, to.lanes), x);
}

static const char *bitcast_value(Render *render, const Step *step) {
    DType from = render->program->steps.at[step->source[0]].type.dtype, to = step->type.dtype;
    if (step->type.lanes == 1 && (from == DT_F32 || to == DT_F32))
        return arena_print(render->arena, "%s_as_%s(%s)", dtypes[from].text, dtypes[to].text,
                           render->value[step->source[0]]);
    return arena_print(render->arena, "(%s)%s", type_name(render, step->type),
                       operand(render, step->source[0]));
}

static const char *expression_of(Op op, int lanes) {
    return lanes > 1 && ops[op].vector[0] ? ops[op].vector : ops[op].scalar;
}

static size_t word_length(const char *at) {
    size_t length = 0;
    while (isalnum((unsigned char)at[length]) || at[length] == '_') length++;
    return length;
}

// How often the op's expression names source 0, 1 or 2.
static int mentions(Op op, int lanes, int source) {
    int count = 0;
    for (const char *at = expression_of(op, lanes); *at;) {
        size_t length = word_length(at);
        count += length == 1 && *at == 'x' + source;
        at += length ? length : 1;
    }
    return count;
}

// Between a parenthesis and commas.
static bool is_argument(const char *expression, const char *at) {
    const char *before = at - 1;
    while (before > expression && *before == ' ') before--;
    return at > expression && strchr("(,", *before) && at[1] && strchr(",)", at[1]);
}

// The op table's expression with x, y, z and the prelude's functions put in.
static const char *map_value(Render *render, const Step *step) {
    int lanes = step->type.lanes;
    DType dtype = render->program->steps.at[step->source[ops[step->op].arity - 1]].type.dtype;
    bool wide = lanes > 1 && dtypes[dtype].bytes == 8;  // masks are i32, those of i64 lanes i64
    Text text = text_new(render->arena);
    const char *expression = expression_of(step->op, lanes);
    for (const char *at = expression; *at;) {
        size_t length = word_length(at);
        if (length == 1 && *at >= 'x' && *at <= 'z') {
            int32_t source = step->source[*at - 'x'];
            bool mask = render->program->steps.at[source].type.dtype == DT_BOOL && wide;
            bool argument = is_argument(expression, at);
            if (mask) text_add(&text, "__builtin_convertvector(%s, i64x%d)", render->value[source], lanes);
            else text_add(&text, "%s", argument ? render->value[source] : operand(render, source));
        } else if (length > 1) {  // SELECT, FMA_
            for (size_t i = 0; i < length && at[i] != '_'; i++) text_add(&text, "%c", tolower(at[i]));
            text_add(&text, "_%s", suffix(render, dtype, lanes));
        } else {
            text_add(&text, "%c", *at);
        }
        at += length ? length : 1;
    }
    if (wide && step->type.dtype == DT_BOOL)
        return arena_print(render->arena, "__builtin_convertvector(%s, i32x%d)", text.at, lanes);
    return text.at;
}

static const char *let_value(Render *render, const Step *step) {
    Arena *arena = render->arena;
    switch (step->op) {
    case OP_CONST: return constant_text(render, step);
    case OP_INDEX: return index_result(render, step);
    case OP_LOAD: return load_value(render, step);
    case OP_CAST: return cast_value(render, step);
    case OP_BITCAST: return bitcast_value(render, step);
    case OP_PERM: return list_text(render, step->type, perm_lane, step);
    case OP_LANE:
        return arena_print(arena, step->type.dtype == DT_BOOL ? "(%s[%d] != 0)" : "%s[%d]",
                           operand(render, step->source[0]), step->lane);
    case OP_VEC:
        if (step->type.dtype == DT_BOOL)
            return arena_print(arena, "vec_i32x%d(-%s)", step->type.lanes, operand(render, step->source[0]));
        return arena_print(arena, "vec_%s(%s)", suffix(render, step->type.dtype, step->type.lanes),
                           render->value[step->source[0]]);
    default: return map_value(render, step);
    }
}

// ---- where a value is written -------------------------------------------------------------------

typedef struct {
    int32_t *uses;         // by step: places that use it
    int32_t *last_change;  // by step: the last one before it that changes something
    bool *named;
} Uses;

static void use(const Render *render, Uses *uses, int32_t value, int32_t at, int times) {
    if (value < 0) return;
    const Step *step = &render->program->steps.at[value];
    if (step->kind == STEP_LET && step->op == OP_CONST) return;
    uses->uses[value] += times;
    bool again = uses->uses[value] > 1 && step->kind != STEP_GET;
    if (again || uses->last_change[at] > value) uses->named[value] = true;
    StepKind user = render->program->steps.at[at].kind;
    if (user == STEP_SET || user == STEP_STORE) render->whole[value] = true;
}

static void use_index(const Render *render, Uses *uses, Index index, int32_t at, int times) {
    if (index < 0) return;
    const Term *terms;
    int count = index_terms(render->program->indices, index, &terms);
    for (int i = 0; i < count; i++) {
        const Atom *atom = index_atom_of(render->program->indices, terms[i].atom);
        if (atom->kind == ATOM_DIV || atom->kind == ATOM_MOD) use_index(render, uses, atom->of, at, times);
        if (atom->kind == ATOM_VALUE) use(render, uses, atom->of, at, times);
    }
}

static bool *find_named(Render *render) {
    int32_t count = render->program->steps.count, changed = -1;
    Uses uses = {arena_array(render->arena, int32_t, count), arena_array(render->arena, int32_t, count),
                 arena_array(render->arena, bool, count)};
    for (int32_t id = 0; id < count; id++) {
        const Step *step = &render->program->steps.at[id];
        uses.last_change[id] = changed;
        bool is_let = step->kind == STEP_LET;
        bool is_map = is_let && ops[step->op].properties & MAPS && step->op != OP_CAST && step->op != OP_BITCAST;
        int lanes = step->type.lanes;
        if (step->kind == STEP_STORE) lanes = render->program->steps.at[step->source[0]].type.lanes;
        bool by_lane = lanes > 1 && (step->kind == STEP_STORE || (is_let && step->op == OP_PERM));
        for (int i = 0; i < 3; i++)
            use(render, &uses, step->source[i], id,
                is_map ? mentions(step->op, lanes, i) : 1 + by_lane);
        use(render, &uses, step->condition, id, lanes > 1 ? 2 : 1);
        use_index(render, &uses, step->index, id, lanes > 1 ? 2 : 1);
        use_index(render, &uses, step->limit, id, 1);
        if (!step_has_value(step)) changed = id;
    }
    return uses.named;
}

static void let_line(Render *render, int32_t id) {
    const Step *step = &render->program->steps.at[id];
    const char *text = step->kind == STEP_GET ? render->variable[step->of] : let_value(render, step);
    bool is_constant = step->kind == STEP_LET && step->op == OP_CONST;
    render->value[id] = text;
    if (!is_constant && (render->named[id] || (strlen(text) > INLINE_MAX && !render->whole[id]))) {
        render->value[id] = arena_print(render->arena, "_%d", id);
        line(render, "const %s _%d = %s;", type_name(render, step->type), id, text);
    }
}

// ---- steps --------------------------------------------------------------------------------------

static void store_line(Render *render, const Step *step) {
    const Step *value = &render->program->steps.at[step->source[0]];
    int lanes = value->type.lanes;
    bool is_bool = value->type.dtype == DT_BOOL;
    bool masked = step->condition >= 0 && render->program->steps.at[step->condition].type.lanes > 1;
    const char *guard = step->condition < 0 || masked
                            ? "" : arena_print(render->arena, "if (%s) ", render->value[step->condition]);
    const char *x = render->value[step->source[0]];
    Step place = *step;
    place.type = value->type;
    int64_t stride;
    if (lanes == 1) {
        line(render, "%s%s[%s] = %s;", guard, render->buffer[step->of], index_text(render, step->index, 0), x);
    } else if (index_steps(render, &place, &stride) && stride == 1) {
        const char *memory = suffix(render, is_bool ? DT_U8 : value->type.dtype, lanes);
        if (is_bool) x = arena_print(render->arena, "bool_to_u8x%d(%s)", lanes, x);
        if (masked)
            line(render, "storeif_%s(%s, %s, %s);", memory, address(render, step), render->value[step->condition], x);
        else
            line(render, "%sstore_%s(%s, %s);", guard, memory, address(render, step), x);
    } else {
        for (int lane = 0; lane < lanes; lane++) {
            if (masked) guard = arena_print(render->arena, "if (%s[%d]) ", render->value[step->condition], lane);
            line(render, is_bool ? "%s%s[%s] = %s[%d] != 0;" : "%s%s[%s] = %s[%d];", guard,
                 render->buffer[step->of], index_text(render, step->index, lane), x, lane);
        }
    }
}

static void for_line(Render *render, int32_t id) {
    const Step *step = &render->program->steps.at[id];
    const IndexTable *indices = render->program->indices;
    const char *first = "0", *end = index_text(render, step->index, 0);
    bool plain = index_terms(indices, step->index, &(const Term *){NULL}) == 0;
    if (step->limit >= 0) {
        end = arena_print(render->arena, "min_i64(%s, %s)", end, index_text(render, step->limit, 0));
        plain = false;
    }
    if (step->share) {
        first = arena_print(render->arena, "share_i64(%s, thread, threads)", end);
        end = arena_print(render->arena, "share_i64(%s, thread + 1, threads)", end);
    }
    if (!plain || step->share) {
        const char *limit = own_name(render, arena_print(render->arena, "%s_end", step->name));
        line(render, "const i64 %s = %s;", limit, end);
        end = limit;
    }
    const char *name = render->loop[id] = own_name(render, step->name);
    line(render, "for (i64 %s = %s; %s < %s; %s++) {", name, first, name, end, name);
    open_scope(render, render->taken.count - 1);
}

static void step_line(Render *render, int32_t id) {
    const Step *step = &render->program->steps.at[id];
    switch (step->kind) {
    case STEP_LET:
    case STEP_GET: let_line(render, id); break;
    case STEP_SET:
        if (step->lane < 0) line(render, "%s = %s;", render->variable[step->of], render->value[step->source[0]]);
        else line(render, "%s[%d] = %s;", render->variable[step->of], step->lane, render->value[step->source[0]]);
        break;
    case STEP_STORE: store_line(render, step); break;
    case STEP_FOR: for_line(render, id); break;
    case STEP_IF:
        line(render, "if (%s) {", render->value[step->condition]);
        open_scope(render, render->taken.count);
        break;
    case STEP_ONCE:
        line(render, "if (thread == 0) {");
        open_scope(render, render->taken.count);
        break;
    case STEP_ELSE:
    case STEP_END:
        close_scope(render);
        line(render, step->kind == STEP_ELSE ? "} else {" : "}");
        if (step->kind == STEP_ELSE) open_scope(render, render->taken.count);
        break;
    case STEP_BARRIER: line(render, "args->wait(barrier, thread);"); break;
    }
}

// ---- the file -----------------------------------------------------------------------------------

static const char *pointer_type(Render *render, const ProgramBuffer *buffer) {
    bool param = buffer->space == SPACE_PARAM;
    return arena_print(render->arena, "%s%s_at *%s", param && !buffer->written ? "const " : "",
                       element_name(buffer->dtype), buffer->restricted ? "restrict " : "");
}

static void add_parameters(Render *render, Text *text) {
    const Program *program = render->program;
    for (int32_t i = 0; i < program->buffers.count; i++) {
        const ProgramBuffer *buffer = &program->buffers.at[i];
        if (buffer->space != SPACE_REGISTER)
            text_add(text, "%s%s, ", pointer_type(render, buffer), render->buffer[i]);
    }
    for (int32_t i = 0; i < program->vars.count; i++) text_add(text, "i64 %s, ", render->var[i]);
    text_add(text, "const PgArgs *args, int thread, int threads, PgBarrier *barrier");
}

static void add_arguments(Render *render, Text *text) {
    const Program *program = render->program;
    for (int32_t i = 0; i < program->buffers.count; i++) {
        const ProgramBuffer *buffer = &program->buffers.at[i];
        if (buffer->space == SPACE_PARAM) text_add(text, "args->buffer[%d], ", i);
        if (buffer->space == SPACE_THREAD)
            text_add(text, "workspace + thread * %ldL + %ld, ", program->own_bytes, buffer->offset);
        if (buffer->space == SPACE_SHARED)
            text_add(text, "workspace + threads * %ldL + %ld, ", program->own_bytes, buffer->offset);
    }
    for (int32_t i = 0; i < program->vars.count; i++) text_add(text, "args->var[%d], ", i);
    text_add(text, "args, thread, threads, barrier");
}

static void add_locals(Render *render) {
    const Program *program = render->program;
    for (int32_t i = 0; i < program->buffers.count; i++) {
        const ProgramBuffer *buffer = &program->buffers.at[i];
        if (buffer->space == SPACE_REGISTER)
            line(render, "_Alignas(64) %s %s[%ld];", element_name(buffer->dtype), render->buffer[i], buffer->size);
    }
    for (int32_t i = 0; i < program->variables.count;) {
        ValueType type = program->variables.at[i].type;
        Text text = text_new(render->arena);
        text_add(&text, "%s %s", type_name(render, type), render->variable[i]);
        for (i++; i < program->variables.count; i++) {
            ValueType next = program->variables.at[i].type;
            if (next.dtype != type.dtype || next.lanes != type.lanes) break;
            text_add(&text, ", %s", render->variable[i]);
        }
        line(render, "%s;", text.at);
    }
}

static void name_everything(Render *render) {
    const Program *program = render->program;
    Arena *arena = render->arena;
    render->buffer = arena_array(arena, const char *, program->buffers.count);
    render->variable = arena_array(arena, const char *, program->variables.count);
    render->var = arena_array(arena, const char *, program->vars.count);
    render->value = arena_array(arena, const char *, program->steps.count);
    render->loop = arena_array(arena, const char *, program->steps.count);
    for (int32_t i = 0; i < program->vars.count; i++)
        render->var[i] = own_name(render, program->vars.at[i].name);
    for (int32_t i = 0; i < program->buffers.count; i++)
        render->buffer[i] = own_name(render, program->buffers.at[i].name);
    for (int32_t i = 0; i < program->variables.count; i++)
        render->variable[i] = own_name(render, program->variables.at[i].name);
}

static void add_comment(Text *text, const char *comment) {
    text_add(text, "/*");
    for (; *comment; comment++) {
        if (*comment == '\n' && comment[1]) text_add(text, "\n *");
        else if (*comment == '\n') continue;
        else text_add(text, "%s%c", comment[-1] == '\n' || *comment == '/' ? " " : "", *comment);
    }
    text_add(text, " */\n");
}

static void add_functions(Render *render) {
    const Program *program = render->program;
    Text parameters = text_new(render->arena), arguments = text_new(render->arena);
    add_parameters(render, &parameters);
    add_arguments(render, &arguments);
    line(render, "static void body_%s(%s) {", hash_place, parameters.at);
    open_scope(render, render->taken.count);
    add_locals(render);
    for (int32_t id = 0; id < program->steps.count; id++) step_line(render, id);
    close_scope(render);
    line(render, "}\n");
    line(render, "void pg_k_%s(const PgArgs *args, int thread, int threads, PgBarrier *barrier) {",
         hash_place);
    open_scope(render, render->taken.count);
    if (program->own_bytes || program->shared_bytes) line(render, "char *workspace = args->workspace;");
    line(render, "body_%s(%s);", hash_place, arguments.at);
    close_scope(render);
    line(render, "}");
}

char *render_c(Arena *arena, const Program *program, const char *comment, char symbol[SYMBOL_SIZE]) {
    Render render = {.arena = arena, .program = program, .text = text_new(arena)};
    name_everything(&render);
    render.whole = arena_array(arena, bool, program->steps.count);
    render.named = find_named(&render);
    add_functions(&render);
    Text file = text_new(arena);
    if (comment) add_comment(&file, comment);
    prelude_add(&file, arena, render.text.at);
    text_add_bytes(&file, render.text.at, render.text.count);
    char hash[17];
    snprintf(hash, sizeof hash, "%016lx", hash_bytes(file.at, file.count, 0));
    for (char *at = file.at; (at = strstr(at, hash_place));) memcpy(at, hash, 16);
    snprintf(symbol, SYMBOL_SIZE, "pg_k_%s", hash);
    return file.at;
}
