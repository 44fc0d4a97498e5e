/* render_c.c - a program becomes C, with GCC's vectors and no includes.
 * In: a verified program.  Out: the text of one file, its exported symbol named after its content.
 * Invariants: elements in memory have alignment 1; restrict is a parameter's, as clang heeds no
 * other.
 *   store y[i] %7   =>   y[i] = fma_f32(a[i], b[i], s);                                        */
#include "codegen/render.h"

// ---- steps -------------------------------------------------------------------------------------

// Is the first lane's address a multiple of the vector's bytes?
static bool is_aligned(Render *render, const Step *step, int lanes) {
    const Term *terms;
    Index first = render_at_lane(render, step->index, 0);
    bool aligned = index_constant(render->program->indices, first) % lanes == 0;
    int count = index_terms(render->program->indices, first, &terms);
    for (int i = 0; i < count; i++) aligned &= terms[i].scale % lanes == 0;
    return aligned;
}

static void store_line(Render *render, const Step *step) {
    ValueType type = render_step_of(render, step->source[0])->type;
    bool is_bool = type.dtype == DT_BOOL, masked = render_masked(render, step);
    const char *x = render->value[step->source[0]], *buffer = render->buffer[step->of];
    const char *guard =
        step->condition < 0 || masked ? "" : PRINT("if (%s) ", render->value[step->condition]);
    int64_t stride;
    if (type.lanes == 1) {
        render_line(render, "%s%s[%s] = %s;", guard, buffer, render_index(render, step->index, 0),
                    x);
    } else if (render_strides(render, step->index, type.lanes, &stride) && stride == 1) {
        const char *memory = render_suffix(render, is_bool ? DT_U8 : type.dtype, type.lanes);
        const char *mask = masked ? PRINT(", %s", render->value[step->condition]) : "";
        if (is_bool) x = PRINT("bool_to_%s(%s)", memory, x);
        bool streams = render->program->buffers.at[step->of].streams && type.dtype == DT_F32 &&
                       !masked && is_aligned(render, step, type.lanes);
        render_line(render, "%s%s_%s(%s%s, %s);", guard,
                    streams  ? "stream"
                    : masked ? "storeif"
                             : "store",
                    memory, render_address(render, step), mask, x);
    } else {
        for (int lane = 0; lane < type.lanes; lane++) {
            if (masked) guard = PRINT("if (%s[%d]) ", render->value[step->condition], lane);
            render_line(render, is_bool ? "%s%s[%s] = %s[%d] != 0;" : "%s%s[%s] = %s[%d];", guard,
                        buffer, render_index(render, step->index, lane), x, lane);
        }
    }
}

static void for_line(Render *render, int32_t id) {
    const Step *step = render_step_of(render, id);
    const char *first = "0", *end = render_index(render, step->index, 0);
    bool plain = index_is_const(render->program->indices, step->index, &(int64_t){0}) &&
                 step->limit < 0 && !step->share;
    if (step->limit >= 0) end = PRINT("min_i64(%s, %s)", end, render_index(render, step->limit, 0));
    if (step->share && step->counter >= 0) {
        const char *count = render_name(render, PRINT("%s_count", step->name));
        render_line(render, "const i64 %s = %s;", count, end);
        const char *from = render_name(render, PRINT("%s_first", step->name)),
                   *to = render_name(render, PRINT("%s_end", step->name));
        render_line(render, "i64 %s = -1, %s;", from, to);
        render_line(render, "while (take_i64(barrier, %d, %s, thread, threads, &%s, &%s))",
                    step->counter, count, from, to);
        const char *name = render->loop[id] = render_name(render, step->name);
        render_line(render, "for (i64 %s = %s; %s < %s; %s++) {", name, from, name, to, name);
        render_open(render, render->taken.count - 1);
        return;
    }
    if (step->share) {
        first = PRINT("share_i64(%s, thread, threads)", end);
        end = PRINT("share_i64(%s, thread + 1, threads)", end);
    }
    if (!plain) {
        const char *name = render_name(render, PRINT("%s_end", step->name));
        render_line(render, "const i64 %s = %s;", name, end);
        end = name;
    }
    const char *name = render->loop[id] = render_name(render, step->name);
    if (step->steps) render_line(render, "#pragma GCC unroll %d", step->steps);
    render_line(render, "for (i64 %s = %s; %s < %s; %s++) {", name, first, name, end, name);
    render_open(render, render->taken.count - 1);
}

static void tile_line(Render *render, const Step *step) {
    const char *tile = render->variable[step->tile[0]];
    if (step->does == TILE_PRODUCT) {
        render_line(render, "tile_product(%s, %s, %s);", tile, render->variable[step->tile[1]],
                    render->variable[step->tile[2]]);
        return;
    }
    DType dtype = render->program->buffers.at[step->of].dtype;
    render_line(render, "%s(%s, %s, %ld);", step->does == TILE_LOAD ? "tile_load" : "tile_store",
                tile, render_address(render, step), step->stride * dtypes[dtype].bytes);
}

// Before others may read: what was stored past the caches arrives.
static void wait_for_streams(Render *render) {
    const Program *program = render->program;
    for (int32_t i = 0; i < program->buffers.count; i++) {
        if (!program->buffers.at[i].streams) continue;
        render_line(render, "streamed_f32();");
        return;
    }
}

static void step_line(Render *render, int32_t id) {
    const Step *step = render_step_of(render, id);
    switch (step->kind) {
    case STEP_LET:
    case STEP_GET: render_let(render, id); return;
    case STEP_STORE: store_line(render, step); return;
    case STEP_FOR: for_line(render, id); return;
    case STEP_BARRIER:
        wait_for_streams(render);
        render_line(render, "args->wait(barrier, thread);");
        return;
    case STEP_AHEAD:
        render_line(render, "__builtin_prefetch((const char *)(%s) + %ld);",
                    render_address(render, step), step->integer);
        return;
    case STEP_TILE: tile_line(render, step); return;
    case STEP_SET: {
        const char *lane = step->lane < 0 ? "" : PRINT("[%d]", step->lane);
        render_line(render, "%s%s = %s;", render->variable[step->of], lane,
                    render->value[step->source[0]]);
        return;
    }
    case STEP_LAUNCH:
    case STEP_FOLD:
    case STEP_COPY:
    case STEP_COMMIT:
    case STEP_SETTLE:
    case STEP_MMA:
    case STEP_MMA_BEGIN:
    case STEP_MMA_COMMIT:
    case STEP_MMA_WAIT:
    case STEP_MMA_HOLD:
    case STEP_SHOW: fatal("render: step %d is a GPU's", id);
    case STEP_IF: render_line(render, "if (%s) {", render->value[step->condition]); break;
    case STEP_ONCE: render_line(render, "if (thread == 0) {"); break;
    case STEP_END:
        render_close(render);
        render_line(render, "}");
        return;
    }
    render_open(render, render->taken.count);
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
                 render_element(buffer->dtype), buffer->restricted ? "restrict " : "",
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
            render_line(render, "_Alignas(64) %s %s[%ld];", render_element(buffer->dtype),
                        render->buffer[i], buffer->size);
    }
    for (int32_t i = 0; i < program->variables.count; i++)
        if (!type_is_tile(program->variables.at[i].type))
            render_line(render, "%s %s;", render_type(render, program->variables.at[i].type),
                        render->variable[i]);
}

static void add_functions(Render *render) {
    Text parameters = text_new(render->arena), arguments = text_new(render->arena);
    const char *rest = "const PgArgs *args, int thread, int threads, PgBarrier *barrier";
    add_parameters(render, &parameters, &arguments);
    render_line(render, "static void body_%s(%s%s) {", RENDER_HASH, parameters.at, rest);
    render_open(render, render->taken.count);
    add_locals(render);
    if (render->tiles) render_line(render, "tile_begin();");
    for (int32_t id = 0; id < render->program->steps.count; id++) step_line(render, id);
    if (render->tiles) render_line(render, "tile_end();");
    wait_for_streams(render);
    render_close(render);
    render_line(render, "}\n");
    render_line(render, "void pg_k_%s(%s) {", RENDER_HASH, rest);
    render_open(render, render->taken.count);
    render_line(render, "body_%s(%sargs, thread, threads, barrier);", RENDER_HASH, arguments.at);
    render_close(render);
    render_line(render, "}");
}

char *render_c(Arena *arena, const Program *program, const char *comment,
               char symbol[SYMBOL_SIZE]) {
    Render *render = render_new(arena, program, false);
    add_functions(render);
    return render_file(render, comment, symbol);
}
