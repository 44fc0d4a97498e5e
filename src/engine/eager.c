/* eager.c - one API call's graph, computed at once without a compiler.
 * In: a little graph over memory.  Out: new buffers.
 * Invariant: a contraction goes to the library's matmul, everything else to the interpreter.
 *   reduce{add} (mul a[64*i + k] b[8*k + j])   =>   library_matmul: i is its m, j its n, k its k */
#include <string.h>

#include "engine/engine.h"
#include "rewrite/rewrite.h"
#include "runtime/runtime.h"
#include "schedule/schedule.h"

enum { AXES_MAX = 2 * RANK_MAX + 8 };
enum { TILE = 1 << 16 };  // elements of an operand unpacked at a time
enum { A, B, C };         // operands, and the result

typedef struct {
    int32_t loop;
    bool folded;
    int64_t extent;
    int64_t stride[3];  // in a, b, c
    bool used[3];
} Axis;

typedef struct {
    const Kernel *kernel;
    void *const *buffer;
    int axes;
    Axis axis[AXES_MAX];
    Id value[2];     // expression of each operand
    bool packed[2];  // not a plain f32 load: unpacked to a tile first
    float *base[3];
} Contraction;

// ---- recognising one ---------------------------------------------------------------------------
static bool add_axis(Contraction *contraction, int32_t loop, bool folded) {
    const Kernel *kernel = contraction->kernel;
    Axis axis = {.loop = loop, .folded = folded};
    if (contraction->axes == AXES_MAX) return false;
    if (!index_is_const(graph_indices(kernel->graph), kernel->loops.at[loop].extent, &axis.extent))
        return false;
    contraction->axis[contraction->axes++] = axis;
    return true;
}

static bool affine_in_all(const Contraction *contraction, Index index, int which, Axis *axis) {
    for (int i = 0; i < contraction->axes; i++) {
        if (!index_stride(graph_indices(contraction->kernel->graph), index, axis[i].loop,
                          &axis[i].stride[which]))
            return false;
        axis[i].used[which] = axis[i].stride[which] != 0;
    }
    return true;
}

static bool match_operand(Contraction *contraction, Id id, int which) {
    const Kernel *kernel = contraction->kernel;
    const Node *node = graph_node(kernel->graph, id);
    contraction->value[which] = id;
    if (node->dtype != DT_F32) return false;
    bool plain = node->op == OP_LOAD && !node->sources;
    if (plain && affine_in_all(contraction, (Index)node->arg[1], which, contraction->axis)) {
        contraction->base[which] =
            (float *)contraction->buffer[node->arg[0]] +
            index_constant(graph_indices(kernel->graph), (Index)node->arg[1]);
        return true;
    }
    LoopSet used = kernel_loops_of(kernel, id);
    contraction->packed[which] = true;
    for (int i = 0; i < contraction->axes; i++)
        contraction->axis[i].used[which] = loop_set_has(&used, contraction->axis[i].loop);
    return true;
}

static bool match(Contraction *contraction) {
    const Kernel *kernel = contraction->kernel;
    const Statement *statement = kernel->body;
    for (; statement->kind == STATEMENT_LOOP && !statement->next; statement = statement->body)
        if (!add_axis(contraction, statement->loop, false)) return false;
    if (statement->kind != STATEMENT_STORE || statement->next || statement->role != ROLE_STORE)
        return false;
    const Node *fold = graph_node(kernel->graph, statement->value);
    if (fold->op != OP_REDUCE || fold->arg[0] != OP_ADD || fold->dtype != DT_F32) return false;
    for (int i = 0; i < fold->arg[1]; i++)
        if (!add_axis(contraction, (int32_t)fold->arg[2 + i], true)) return false;
    const Node *product = graph_node(kernel->graph, fold->source[0]);
    if (product->op != OP_MUL || kernel->buffers.at[statement->buffer].dtype != DT_F32)
        return false;
    if (!match_operand(contraction, product->source[A], A) ||
        !match_operand(contraction, product->source[B], B))
        return false;
    if (!affine_in_all(contraction, statement->index, C, contraction->axis)) return false;
    contraction->base[C] = (float *)contraction->buffer[statement->buffer] +
                           index_constant(graph_indices(kernel->graph), statement->index);
    if (contraction->packed[A] && contraction->packed[B]) return false;
    for (int i = 0; i < contraction->axes; i++) {
        const Axis *axis = &contraction->axis[i];
        if (axis->folded ? !axis->used[A] || !axis->used[B] : !axis->used[C]) return false;
    }
    return true;
}

// ---- running one -------------------------------------------------------------------------------
static bool same_kind(const Axis *a, const Axis *b) {
    return a->folded == b->folded && a->used[A] == b->used[A] && a->used[B] == b->used[B];
}

// Axis `inner` continues where `outer` steps, in every operand: the two are one.
static bool can_merge(const Axis *outer, const Axis *inner) {
    if (!same_kind(outer, inner)) return false;
    for (int which = A; which <= C; which++)
        if (outer->stride[which] != inner->stride[which] * inner->extent) return false;
    return true;
}

static int merge_axes(Axis *axis, int axes) {
    for (int i = 0; i < axes; i++)
        for (int j = 0; j < axes; j++) {
            if (i == j || !can_merge(&axis[i], &axis[j])) continue;
            axis[j].extent *= axis[i].extent;
            axis[i] = axis[--axes];
            return merge_axes(axis, axes);
        }
    return axes;
}

// The longest axis that is in a (not b), b (not a) or folded; -1 if there is none.
static int longest(const Axis *axis, int axes, bool folded, bool in_a, bool in_b) {
    int best = -1;
    for (int i = 0; i < axes; i++) {
        if (axis[i].folded != folded || axis[i].used[A] != in_a || axis[i].used[B] != in_b)
            continue;
        if (best < 0 || axis[i].extent > axis[best].extent) best = i;
    }
    return best;
}

static void multiply(const Axis *axis, int axes, const int chosen[3], int at, float *const base[3],
                     bool accumulate) {
    while (at < axes && (at == chosen[0] || at == chosen[1] || at == chosen[2])) at++;
    if (at < axes) {
        for (int64_t i = 0; i < axis[at].extent; i++) {
            float *next[3];
            for (int which = A; which <= C; which++)
                next[which] = base[which] + i * axis[at].stride[which];
            multiply(axis, axes, chosen, at + 1, next, accumulate || (axis[at].folded && i > 0));
        }
        return;
    }
    Axis one = {.extent = 1};
    const Axis *m = chosen[0] < 0 ? &one : &axis[chosen[0]],
               *n = chosen[1] < 0 ? &one : &axis[chosen[1]];
    const Axis *k = chosen[2] < 0 ? &one : &axis[chosen[2]];
    library_matmul(&(Matmul){.m = m->extent,
                             .n = n->extent,
                             .k = k->extent,
                             .accumulate = accumulate,
                             .a = base[A],
                             .a_m = m->stride[A],
                             .a_k = k->stride[A],
                             .b = base[B],
                             .b_k = k->stride[B],
                             .b_n = n->stride[B],
                             .c = base[C],
                             .c_m = m->stride[C],
                             .c_n = n->stride[C]});
}

static void run_plain(const Axis *source, int axes, float *const base[3]) {
    Axis axis[AXES_MAX];
    memcpy(axis, source, sizeof *axis * (size_t)axes);
    axes = merge_axes(axis, axes);
    int chosen[3] = {longest(axis, axes, false, true, false),
                     longest(axis, axes, false, false, true),
                     longest(axis, axes, true, true, true)};
    multiply(axis, axes, chosen, 0, base, false);
}

// The packed operand, a tile at a time, which are pieces of a thread's share of its first own axis.
typedef struct {
    const Contraction *contraction;
    int packed;    // A or B
    int cut;       // the axis that is cut, -1: none
    int64_t rows;  // of a tile
} Unpacking;

static void unpack_and_multiply(const Unpacking *unpacking, Interpreter *interpreter, int64_t first,
                                int64_t count, float *tile, const int64_t *batch) {
    const Contraction *contraction = unpacking->contraction;
    Axis axis[AXES_MAX];
    int32_t loop[AXES_MAX];
    int64_t start[AXES_MAX], extent[AXES_MAX], size = 1;
    int inside = 0, axes = 0, order[AXES_MAX], batches = 0;
    float *base[3] = {contraction->base[A], contraction->base[B], contraction->base[C]};
    base[unpacking->packed] = tile;  // whose strides are 0 but for those given below
    for (int i = 0; i < contraction->axes; i++) {
        Axis next = contraction->axis[i];
        bool outside = !next.folded && next.used[A] && next.used[B];
        if (i == unpacking->cut) {
            next.extent = count;
            for (int which = A; which <= C; which++) base[which] += first * next.stride[which];
        }
        if (outside) {
            for (int which = A; which <= C; which++)
                base[which] += batch[batches] * next.stride[which];
            interpreter_move(interpreter, next.loop, batch[batches++]);
            continue;
        }
        if (next.used[unpacking->packed]) {
            loop[inside] = next.loop;
            start[inside] = i == unpacking->cut ? first : 0;
            extent[inside] = next.extent;
            order[inside++] = axes;
        }
        axis[axes++] = next;
    }
    for (int i = inside - 1; i >= 0; size *= extent[i--])
        axis[order[i]].stride[unpacking->packed] = size;
    interpreter_box(interpreter, contraction->value[unpacking->packed], inside, loop, start, extent,
                    tile);
    run_plain(axis, axes, base);
}

static int64_t batch_count(const Contraction *contraction) {
    int64_t count = 1;
    for (int i = 0; i < contraction->axes; i++) {
        const Axis *axis = &contraction->axis[i];
        if (!axis->folded && axis->used[A] && axis->used[B]) count *= axis->extent;
    }
    return count;
}

static void batch_position(const Contraction *contraction, int64_t number, int64_t *position) {
    int batches = 0;
    for (int i = 0; i < contraction->axes; i++) {
        const Axis *axis = &contraction->axis[i];
        if (axis->folded || !axis->used[A] || !axis->used[B]) continue;
        position[batches++] = number % axis->extent;
        number /= axis->extent;
    }
}

static void unpack_thread(void *context, int thread, int threads, Barrier *barrier) {
    const Unpacking *unpacking = context;
    const Contraction *contraction = unpacking->contraction;
    (void)barrier;
    int64_t rows = unpacking->cut < 0 ? 1 : contraction->axis[unpacking->cut].extent, first, last;
    thread_share(rows, thread, threads, &first, &last);
    Arena *arena = arena_new();
    Interpreter *interpreter =
        interpreter_new(arena, contraction->kernel, contraction->buffer, NULL);
    int64_t tile_size = unpacking->rows;
    for (int i = 0; i < contraction->axes; i++)
        if (contraction->axis[i].used[unpacking->packed] && i != unpacking->cut)
            tile_size *= contraction->axis[i].extent;
    float *tile = arena_array(arena, float, tile_size);
    for (int64_t number = 0, batches = batch_count(contraction); number < batches; number++) {
        int64_t batch[AXES_MAX];
        batch_position(contraction, number, batch);
        for (int64_t row = first; row < last; row += unpacking->rows)
            unpack_and_multiply(unpacking, interpreter, row, min_i64(unpacking->rows, last - row),
                                tile, batch);
    }
    arena_free(arena);
}

static void run_contraction(const Contraction *contraction) {
    if (!contraction->packed[A] && !contraction->packed[B]) {
        run_plain(contraction->axis, contraction->axes, contraction->base);
        return;
    }
    Unpacking unpacking = {contraction, contraction->packed[A] ? A : B, -1, 1};
    int64_t row = 1;
    for (int i = 0; i < contraction->axes; i++) {
        const Axis *axis = &contraction->axis[i];
        if (!axis->used[unpacking.packed] || (!axis->folded && axis->used[A] && axis->used[B]))
            continue;
        if (!axis->folded && unpacking.cut < 0)
            unpacking.cut = i;
        else
            row *= axis->extent;
    }
    unpacking.rows = max_i64(1, TILE / row);
    thread_run(unpack_thread, &unpacking);
}

// ---- a graph -----------------------------------------------------------------------------------
static void run_call(const KernelCall *call, const int64_t *buffer_of_slot) {
    void *memory[64];
    if (call->params > COUNT_OF(memory)) fatal("%s reads more than 63 buffers", call->kernel->name);
    for (int32_t i = 0; i < call->params; i++) {
        int64_t buffer = buffer_of_slot[call->slot[i]];
        memory[i] = call->kernel->buffers.at[i].written ? buffer_data(buffer)
                                                        : (void *)(uintptr_t)buffer_read(buffer);
    }
    Contraction contraction = {.kernel = call->kernel, .buffer = memory};
    if (match(&contraction))
        run_contraction(&contraction);
    else
        interpret(call->kernel, memory, NULL);
}

static void run_module(const Module *module, int64_t *result) {
    int64_t *buffer = arena_array(module->arena, int64_t, module->slots.count);
    for (int32_t i = 0; i < module->slots.count; i++) {
        const Slot *slot = &module->slots.at[i];
        bool made = slot->kind == SLOT_TEMPORARY;
        buffer[i] = made
                        ? buffer_scratch((size_t)slot->elements * (size_t)dtypes[slot->dtype].bytes)
                        : slot->of;
        if (!made) buffer_retain(buffer[i]);
    }
    for (int32_t i = 0, first; i < module->calls.count; i++) {
        Kernel *kernel = module->calls.at[i].kernel;
        for (first = 0; module->calls.at[first].kernel != kernel;) first++;
        if (first == i) expand_kernel(kernel);  // the same polynomials as compiled code, once
        run_call(&module->calls.at[i], buffer);
    }
    for (int i = 0; i < module->outputs; i++) {
        result[i] = buffer[module->output[i]];
        buffer_retain(result[i]);
    }
    for (int32_t i = 0; i < module->slots.count; i++) buffer_release(buffer[i]);
}

static void *reference_buffer(void *context, int64_t id) {
    (void)context;
    return buffer_data(id);
}

// PG_ISA=ref: the oracle.
static void run_reference(const Graph *graph, int outputs, const Id *output, int64_t *result) {
    Binding binding = {.buffer = reference_buffer};
    for (int i = 0; i < outputs; i++) {
        const Node *node = graph_node(graph, output[i]);
        int64_t elements = shape_capacity(graph_indices(graph), node_shape(graph, output[i]));
        int64_t made = buffer_scratch((size_t)elements * (size_t)dtypes[node->dtype].bytes);
        reference_run(graph, output[i], &binding, buffer_data(made));
        result[i] = made;
        if (node->op != OP_ASSIGN) continue;
        buffer_release(made);
        buffer_retain(result[i] = node->arg[0]);
    }
}

// On a GPU each call's graph is compiled; a graph that was there before is found in the caches.
static void run_compiled(const Graph *graph, int outputs, const Id *output, int64_t *result) {
    Arena *arena = arena_new();
    Id *value = arena_array(arena, Id, outputs), *effect = arena_array(arena, Id, outputs);
    int64_t *made = arena_array(arena, int64_t, outputs);
    int values = 0, effects = 0;
    for (int i = 0; i < outputs; i++)
        if (graph_node(graph, output[i])->op == OP_ASSIGN)
            effect[effects++] = output[i];
        else
            value[values++] = output[i];
    Compiled *compiled = engine_compile(graph, values, value, effects, effect);
    bool done = compiled && !engine_call(compiled, NULL, NULL, made);
    engine_free(compiled);
    if (!done) arena_free(arena);
    if (!done) fatal("%s: %s", device()->name, error_text());
    for (int i = 0, next = 0; i < outputs; i++) {
        const Node *node = graph_node(graph, output[i]);
        if (node->op == OP_ASSIGN)
            buffer_retain(result[i] = node->arg[0]);
        else
            result[i] = made[next++];
    }
    arena_free(arena);
}

void engine_eager(const Graph *graph, int outputs, const Id *output, int64_t *result) {
    if (!strcmp(env_text("ISA", ""), "ref")) {
        run_reference(graph, outputs, output, result);
        return;
    }
    if (device()->kind != DEVICE_CPU) {
        run_compiled(graph, outputs, output, result);
        return;
    }
    Arena *arena = arena_new();
    Id *wanted = arena_array(arena, Id, outputs);
    Graph *clean = rewrite(arena, graph, rules(RULES_ALGEBRA), outputs, output, wanted);
    for (int i = 0; i < outputs; i++)
        if (graph_node(clean, wanted[i])->op != OP_ASSIGN)
            wanted[i] = node_contiguous(clean, wanted[i]);
    Module *module = fuse(arena, clean, outputs, wanted, 0, NULL, 0);
    run_module(module, result);
    arena_free(arena);
}
