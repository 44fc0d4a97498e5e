/* render_cuda.c - a program for GPUs becomes text that is both C11 and CUDA C++.
 * In: a verified program of launches, without vectors but in memory.  Out: the text of one file: a
 * kernel for each launch.
 * Invariant: NVRTC and a C compiler take the same text; what only one of them knows has a name in
 * the prelude (prelude_gpu.c). There simt_<hash> is the table of the launches' functions.
 *   launch i < 8 of 256 threads { .. }   =>   KERNEL(256) pg_k_.._0(SELF f32_at *x, ..) { .. } */
#include "codegen/render.h"

#include <string.h>

static int32_t end_of(const Render *render, int32_t launch) {
    int depth = 0;
    for (int32_t id = launch;; id++) {
        const Step *step = render_step_of(render, id);
        depth += step_opens(step) - (step->kind == STEP_END);
        if (!depth) return id;
    }
}

// ---- steps -------------------------------------------------------------------------------------

static void store_line(Render *render, const Step *step) {
    ValueType type = render_step_of(render, step->source[0])->type;
    const char *x = render->value[step->source[0]], *buffer = render->buffer[step->of];
    const char *guard =
        step->condition < 0 ? "" : PRINT("if (%s) ", render->value[step->condition]);
    if (type.lanes == 1)
        render_line(render, "%s%s[%s] = %s;", guard, buffer, render_index(render, step->index, 0),
                    x);
    else
        render_line(render, "%sstore_%s(%s, %s);", guard,
                    render_suffix(render, type.dtype, type.lanes), render_address(render, step), x);
}

static const char *loop_type(Render *render, Index extent) {
    return index_high(render->program->indices, extent) <= INT32_MAX ? "i32" : "i64";
}

static const char *end_text(Render *render, const Step *step) {
    const char *end = render_index(render, step->index, 0);
    if (step->limit < 0) return end;
    bool narrow = render_narrow(render, step->index) && render_narrow(render, step->limit);
    return PRINT(narrow ? "min_i32(%s, %s)" : "min_i64(%s, %s)", end,
                 render_index(render, step->limit, 0));
}

// Iteration t is thread t's: no loop where there are as many threads, none where there are more.
static bool shared_line(Render *render, int32_t id, int32_t threads) {
    const Step *step = render_step_of(render, id);
    const char *who = step->share == SHARE_BLOCK   ? "thread"
                      : step->share == SHARE_WARPS ? "warp"
                                                   : "lane";
    int64_t extent, of = step->share == SHARE_BLOCK   ? threads
                         : step->share == SHARE_WARPS ? threads / WARP_THREADS
                                                      : WARP_THREADS;
    if (!step->share) return false;
    bool fixed = index_is_const(render->program->indices, step->index, &extent);
    if (!fixed || extent > of) return false;
    render->loop[id] = who;
    if (extent < of || step->limit >= 0)
        render_line(render, "if (%s < %s) {", who, end_text(render, step));
    else
        render_line(render, "{");
    render_open(render, render->taken.count);
    return true;
}

static void for_line(Render *render, int32_t id, int32_t threads) {
    const Step *step = render_step_of(render, id);
    const char *type = loop_type(render, step->index), *end = end_text(render, step);
    if (shared_line(render, id, threads)) return;
    if (!index_is_const(render->program->indices, step->index, &(int64_t){0}) || step->limit >= 0) {
        const char *name = render_name(render, PRINT("%s_end", step->name));
        render_line(render, "const %s %s = %s;", type, name, end);
        end = name;
    }
    const char *name = render->loop[id] = render_name(render, step->name);
    if (step->steps) render_line(render, "UNROLL(%d)", step->steps);
    render_line(render, "for (%s %s = %s; %s < %s; %s) {", type, name, step->share ? "thread" : "0",
                name, end, step->share ? PRINT("%s += %d", name, threads) : PRINT("%s++", name));
    render_open(render, render->taken.count - 1);
}

static void fold_line(Render *render, int32_t id, int32_t threads) {
    const Step *step = render_step_of(render, id);
    const char *type = render_type(render, step->type), *x = render->value[step->source[0]];
    const char *op = ops[step->op].text;
    render->value[id] = PRINT("_%d", id);
    if (step->share == SHARE_LANES)
        render_line(render, "const %s _%d = warp_%s_%s(ME %s);", type, id, op, type, x);
    else
        render_line(render, "const %s _%d = block_%s_%s(ME %s, shared_at(%ld), %d);", type, id, op,
                    type, x, render->program->chip_bytes, threads);
}

// ---- copies on their way -----------------------------------------------------------------------
// The bulk copies of a group come to a barrier, one of as many in turn as groups are under way and
// one more; its phase is over when one thread has said how many bytes that are, and they are there.
// Group g is phase g / places of barrier g % places.

static void find_bulk(Render *render, int32_t first, int32_t last) {
    render->bulk.places = 0;
    render->bulk.alone = true;
    bool any = false;
    int64_t most = 0;
    for (int32_t id = first; id < last; id++) {
        const Step *step = render_step_of(render, id);
        any |= step->kind == STEP_COPY && step->integer;
        if (step->kind == STEP_COPY && !step->integer) render->bulk.alone = false;
        if (step->kind == STEP_SETTLE) most = max_i64(most, step->integer);
    }
    if (any) render->bulk.places = (int32_t)most + 2;
}

static void add_bulk(Render *render) {
    const char *came = render->bulk.came = render_name(render, "came");
    render->bulk.group = render_name(render, "group");
    render->bulk.bytes = render_name(render, "coming");
    render_line(render, "i64 *%s = (i64 *)shared_at(%ld);", came, render->program->came);
    render_line(render, "u32 %s = 0;", render->bulk.group);
    render_line(render, "i32 %s = 0;", render->bulk.bytes);
    render_line(render, "if (thread_index() == 0) {");
    render_line(render, "    for (i32 i = 0; i < %d; i++) barrier_init(%s + i, 1);",
                render->bulk.places, came);
    render_line(render, "    barrier_fence();");
    render_line(render, "}");
    render_line(render, "barrier();");
}

static void commit_lines(Render *render) {
    const char *group = render->bulk.group, *bytes = render->bulk.bytes;
    if (!render->bulk.places || !render->bulk.alone) render_line(render, "copy_async_commit();");
    if (!render->bulk.places) return;
    render_line(render, "if (thread_index() == 0) barrier_expect(%s + %s %% %d, %s);",
                render->bulk.came, group, render->bulk.places, bytes);
    render_line(render, "%s = 0;", bytes);
    render_line(render, "%s++;", group);
}

static void settle_lines(Render *render, const Step *step) {
    int32_t places = render->bulk.places;
    if (!places || !render->bulk.alone) render_line(render, "copy_async_wait(%ld);", step->integer);
    if (!places) return;
    const char *group = PRINT("(%s - %ld)", render->bulk.group, step->integer + 1);
    render_line(render, "barrier_wait(%s + %s %% %d, (i32)(%s / %d & 1));", render->bulk.came,
                group, places, group, places);
}

static void copy_line(Render *render, const Step *step) {
    int bytes = step->type.lanes * dtypes[step->type.dtype].bytes;
    const char *from = render_index(render, step->at[0], 0);
    if (step->integer) {
        const char *all = PRINT("%ld", step->integer * bytes);
        render_line(render, "copy_bulk(%s, %s + %s, %s, %s + %s %% %d);",
                    render_address(render, step), render->buffer[step->tile[0]], from, all,
                    render->bulk.came, render->bulk.group, render->bulk.places);
        render_line(render, "%s += %s;", render->bulk.bytes, all);
        return;
    }
    const char *condition =
        step->condition < 0 ? "" : PRINT(", %s", render->value[step->condition]);
    render_line(render, "copy_async_%d%s(%s, %s + %s%s);", bytes, *condition ? "_if" : "",
                render_address(render, step), render->buffer[step->tile[0]], from, condition);
}

// ---- all steps ---------------------------------------------------------------------------------

static const char *registers(Render *render, const Step *step, int which) {
    const char *first = render_index(render, step->at[which], 0);
    return PRINT("%s + %s", render->buffer[step->tile[which]], first);
}

static void product_line(Render *render, const Step *step) {
    const char *sum = registers(render, step, 0), *a = registers(render, step, 1),
               *b = registers(render, step, 2);
    if (step->columns)
        render_line(render, "wgmma_tf32_64x%ldx8(%s, %s, wgmma_descriptor(%s, %ld, %ld));",
                    step->columns, sum, a, b, 4 * step->apart[0], 4 * step->apart[1]);
    else
        render_line(render, "mma_tf32_16x8x8(%s, %s, %s);", sum, a, b);
}

static void step_line(Render *render, int32_t id, int32_t threads) {
    const Step *step = render_step_of(render, id);
    switch (step->kind) {
    case STEP_LET:
    case STEP_GET: render_let(render, id); return;
    case STEP_STORE: store_line(render, step); return;
    case STEP_FOR: for_line(render, id, threads); return;
    case STEP_FOLD: fold_line(render, id, threads); return;
    case STEP_COPY: copy_line(render, step); return;
    case STEP_COMMIT: commit_lines(render); return;
    case STEP_SETTLE: settle_lines(render, step); return;
    case STEP_MMA: product_line(render, step); return;
    case STEP_MMA_HOLD:
        render_line(render, "wgmma_hold(%s, %ld);", render->buffer[step->tile[0]],
                    render->program->buffers.at[step->tile[0]].size);
        return;
    case STEP_MMA_BEGIN: render_line(render, "wgmma_fence();"); return;
    case STEP_MMA_COMMIT: render_line(render, "wgmma_commit();"); return;
    case STEP_MMA_WAIT: render_line(render, "wgmma_wait(0);"); return;
    case STEP_SHOW: render_line(render, "shared_fence_async();"); return;
    case STEP_BARRIER:
        render_line(render, step->share == SHARE_LANES ? "warp_barrier();" : "barrier();");
        return;
    case STEP_SET: {
        const char *x = render->value[step->source[0]], *variable = render->variable[step->of];
        if (step->lane < 0)
            render_line(render, "%s = %s;", variable, x);
        else
            render_line(render, "lane_of(%s, %d) = %s;", variable, step->lane, x);
        return;
    }
    case STEP_IF: render_line(render, "if (%s) {", render->value[step->condition]); break;
    case STEP_ONCE:
        if (threads == 1)
            render_line(render, "{");
        else
            render_line(render, "if (%s == 0) {", step->share == SHARE_LANES ? "lane" : "thread");
        break;
    case STEP_END:
        render_close(render);
        render_line(render, "}");
        return;
    default: fatal("render: a program for GPUs has no step of kind %d", step->kind);
    }
    render_open(render, render->taken.count);
}

// ---- a kernel ----------------------------------------------------------------------------------

static void add_parameters(Render *render, Text *parameters, Text *arguments) {
    const Program *program = render->program;
    int param = 0;
    for (int32_t i = 0; i < program->buffers.count; i++) {
        const ProgramBuffer *buffer = &program->buffers.at[i];
        if (buffer->space != SPACE_PARAM) continue;
        const char *written = buffer->written ? "" : "const ",
                   *type = render_element(buffer->dtype);
        text_add(parameters, "%s%s_at *%s%s, ", written, type,
                 buffer->restricted ? "__restrict__ " : "", render->buffer[i]);
        text_add(arguments, "*(%s%s_at *const *)param[%d], ", written, type, param++);
    }
    text_add(parameters, "char *workspace");
    text_add(arguments, "*(char *const *)param[%d]", param++);
    for (int32_t i = 0; i < program->vars.count; i++) {
        text_add(parameters, ", i64 %s_var", render->var[i]);
        text_add(arguments, ", *(const i64 *)param[%d]", param++);
    }
}

// Which of the program's buffers and variables the launch uses.
static void find_used(const Render *render, int32_t first, int32_t last, bool *buffer,
                      bool *variable) {
    for (int32_t id = first; id < last; id++) {
        const Step *step = render_step_of(render, id);
        bool is_memory =
            step->kind == STEP_STORE || (step->kind == STEP_LET && step->op == OP_LOAD);
        if (!render->used[id]) continue;
        if (is_memory) buffer[step->of] = true;
        if (step->kind == STEP_COPY) buffer[step->of] = true;
        if (step->kind == STEP_MMA_HOLD) buffer[step->tile[0]] = true;
        for (int i = 0; i < step_places(step); i++) buffer[step->tile[i]] = true;
        if (step->kind == STEP_GET || step->kind == STEP_SET) variable[step->of] = true;
    }
}

// Those of a type in a row.
static void add_variables(Render *render, const bool *used) {
    const Program *program = render->program;
    for (int32_t i = 0, next; i < program->variables.count; i = next) {
        ValueType type = program->variables.at[i].type;
        Text names = text_new(render->arena);
        for (next = i; next < program->variables.count; next++) {
            ValueType other = program->variables.at[next].type;
            if (other.dtype != type.dtype || other.lanes != type.lanes) break;
            if (used[next])
                text_add(&names, "%s%s", names.count ? ", " : "", render->variable[next]);
        }
        if (names.count) render_line(render, "%s %s;", render_type(render, type), names.at);
    }
}

static void add_locals(Render *render, int32_t first, int32_t last) {
    const Program *program = render->program;
    bool *buffer = arena_array(render->arena, bool, program->buffers.count);
    bool *variable = arena_array(render->arena, bool, program->variables.count);
    find_used(render, first, last, buffer, variable);
    for (int32_t i = 0; i < program->vars.count; i++) {
        bool narrow = program->vars.at[i].high <= INT32_MAX && program->vars.at[i].low >= INT32_MIN;
        render_line(render, "const %s %s = (%s)%s_var;", narrow ? "i32" : "i64", render->var[i],
                    narrow ? "i32" : "i64", render->var[i]);
    }
    for (int32_t i = 0; i < program->buffers.count; i++) {
        const ProgramBuffer *at = &program->buffers.at[i];
        const char *type = render_element(at->dtype);
        if (!buffer[i] || at->space == SPACE_PARAM) continue;
        if (at->space == SPACE_REGISTER)
            render_line(render, "%s %s[%ld];", type, render->buffer[i], at->size);
        else
            render_line(render, "%s_at *%s = (%s_at *)(%s);", type, render->buffer[i], type,
                        PRINT(at->on_chip ? "shared_at(%ld)" : "workspace + %ld", at->offset));
    }
    add_variables(render, variable);
}

// The numbers of this thread: those that the launch asks for.
static void add_numbers(Render *render, int32_t first, int32_t last, int32_t threads) {
    bool uses[SHARE_LANES + 1] = {false};
    for (int32_t id = first; id < last; id++) {
        const Step *step = render_step_of(render, id);
        if (step->kind == STEP_FOR || (step->kind == STEP_ONCE && threads > 1))
            uses[step->share] = true;
    }
    if (uses[SHARE_BLOCK] || uses[SHARE_WARPS] || uses[SHARE_LANES])
        render_line(render, "const i32 thread = thread_index();");
    if (uses[SHARE_WARPS]) render_line(render, "const i32 warp = thread / %d;", WARP_THREADS);
    if (uses[SHARE_LANES]) render_line(render, "const i32 lane = thread %% %d;", WARP_THREADS);
}

static int32_t add_kernel(Render *render, int32_t launch, int number) {
    const Step *step = render_step_of(render, launch);
    Text parameters = text_new(render->arena), arguments = text_new(render->arena);
    int32_t end = end_of(render, launch);
    add_parameters(render, &parameters, &arguments);
    render_line(render, "KERNEL(%d) pg_k_" RENDER_HASH "_%d(SELF %s) {", step->threads, number,
                parameters.at);
    render_open(render, render->taken.count);
    const char *block = render->loop[launch] = render_name(render, step->name);
    render_line(render, "const i32 %s = block_index();", block);
    add_numbers(render, launch + 1, end, step->threads);
    add_locals(render, launch + 1, end);
    find_bulk(render, launch + 1, end);
    if (render->bulk.places) add_bulk(render);
    for (int32_t id = launch + 1; id < end; id++) step_line(render, id, step->threads);
    render_close(render);
    render_line(render, "}");
    render_line(render, "#ifndef __CUDACC__");
    render_line(render,
                "static SIMT_QUIET void simt_" RENDER_HASH
                "_%d(SimtThread *self, void *const *param) {",
                number);
    render_open(render, render->taken.count);
    render_line(render, "pg_k_" RENDER_HASH "_%d(self, %s);", number, arguments.at);
    render_close(render);
    render_line(render, "}\n#endif\n");
    return end;
}

char *render_cuda(Arena *arena, const Program *program, const char *comment,
                  char symbol[SYMBOL_SIZE]) {
    Render *render = render_new(arena, program, true);
    int launches = 0;
    for (int32_t id = 0; id < program->steps.count; id++) id = add_kernel(render, id, launches++);
    render_line(render, "#ifndef __CUDACC__");
    render_line(render, "SimtFunction *const simt_" RENDER_HASH "[] = {");
    for (int i = 0; i < launches; i++) render_line(render, "    simt_" RENDER_HASH "_%d,", i);
    render_line(render, "};\n#endif");
    return render_file(render, comment, symbol);
}
