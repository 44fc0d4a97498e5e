/* trace.c - functions that are traced, compiled and called; sizes that change between calls.
 * In: a body of tensor code and its inputs.  Out: its outputs, from one compiled program a variant.
 * Invariants: a variant serves all inputs of its types and shapes, all values of its VARs and all
 * contents of captured memory; its scope holds the graph and the captured buffers while it lives.
 *   body: out[0] = in[0] + w   =>   %0 = param 0, %1 = buffer w, %2 = add %0 %1                  */
#include "engine/engine.h"
#include "tensor/tensor.h"

#include <string.h>

typedef struct {
    DType dtype;
    Shape shape;
} Form;

typedef struct {
    const Device *device;
    bool recording;
    Form *in, *out;  // out: sizes may be symbolic
    Scope *scope;    // what the trace left
    Compiled *compiled;
} Variant;

struct PgFunction {
    PgFunctionBody *body;
    void *context;
    int inputs, outputs, traces;
    Arena *arena;
    LIST(Variant) variants;
};

typedef struct {
    const char *name;
    int64_t value;
} Bound;

static _Thread_local struct {
    bool mode_known;
    PgMode mode;
    Arena *arena;  // of the list
    LIST(Bound) bound;
} self;

// ---- sizes -------------------------------------------------------------------------------------

static Bound *bound_find(const char *name) {
    for (int i = 0; i < self.bound.count; i++)
        if (!strcmp(self.bound.at[i].name, name)) return &self.bound.at[i];
    return NULL;
}

void pg_bind(const char *name, int64_t value) {
    Bound *bound = bound_find(name);
    Arena *arena = scope_root()->arena;
    if (!bound) *(bound = list_add(arena, &self.bound)) = (Bound){.name = arena_text(arena, name)};
    bound->value = value;
}

static int64_t bound_value(const char *name, int64_t low, int64_t high) {
    const Bound *bound = bound_find(name);
    if (!bound)
        fatal("var: %s has no value. Hint: pg_bind(\"%s\", %lld) before the call", name, name,
              (long long)low);
    if (bound->value < low || bound->value > high)
        fatal("var: %s is bound to %lld, outside %lld..%lld", name, (long long)bound->value,
              (long long)low, (long long)high);
    return bound->value;
}

int64_t pg_var(const char *name, int64_t low, int64_t high) {
    if (low < 0 || high < low || high >= INT32_MAX)
        fatal("var: %s has the interval %lld..%lld. Hint: 0 <= low <= high < 2^31", name,
              (long long)low, (long long)high);
    Scope *scope = scope_now();
    if (!scope->trace) return bound_value(name, low, high);
    int32_t var = graph_var(scope->graph, name, low, high);
    IndexTable *table = graph_indices(scope->graph);
    return size_from_index(table, index_atom(table, ATOM_VAR, var, low, high));
}

static IndexTable *size_table(const char *verb, int64_t a, int64_t b) {
    Scope *scope = scope_now();
    if ((size_is_symbolic(a) || size_is_symbolic(b)) && !scope->trace)
        fatal("%s: a symbolic size means nothing outside the function that it was traced in. "
              "Hint: call pg_var again",
              verb);
    return graph_indices(scope->graph);
}

int64_t pg_size_add(int64_t a, int64_t b) { return size_add(size_table("size_add", a, b), a, b); }

int64_t pg_size_sub(int64_t a, int64_t b) { return size_sub(size_table("size_sub", a, b), a, b); }

int64_t pg_size_scale(int64_t a, int64_t by) {
    return size_scale(size_table("size_scale", a, by), a, by);
}

PgTensor *pg_from_size(int64_t size) {
    size_table("from_size", size, 0);
    return tensor_view(node_size(scope_now()->graph, size));
}

// ---- modes -------------------------------------------------------------------------------------

void pg_set_mode(PgMode mode) {
    self.mode = mode;
    self.mode_known = true;
}

int pg_set_device(const char *name) { return device_set(name); }

PgMode pg_mode(void) {
    if (self.mode_known) return self.mode;
    const char *text = env_text("MODE", NULL);
    if (text && strcmp(text, "eager") != 0 && strcmp(text, "graph") != 0)
        fatal("PG_MODE is '%s'. Hint: it is eager or graph", text);
    self.mode = text && !strcmp(text, "eager") ? PG_EAGER : PG_GRAPH;
    self.mode_known = true;
    if (!text && device()->kind != DEVICE_CUDA && !compiler_available()) {
        say("no C compiler found (PG_CC, cc, gcc, clang), so everything runs eagerly, slower");
        self.mode = PG_EAGER;
    }
    return self.mode;
}

// ---- functions ---------------------------------------------------------------------------------

PgFunction *pg_function(PgFunctionBody *body, void *context, int inputs, int outputs) {
    if (inputs < 0 || outputs < 0) fatal("function: %d inputs, %d outputs", inputs, outputs);
    Arena *arena = arena_new();
    PgFunction *function = arena_object(arena, PgFunction);
    *function = (PgFunction){
        .body = body, .context = context, .inputs = inputs, .outputs = outputs, .arena = arena};
    return function;
}

void pg_function_free(PgFunction *function) {
    if (!function) return;
    for (int i = 0; i < function->variants.count; i++) {
        engine_free(function->variants.at[i].compiled);
        scope_free(function->variants.at[i].scope);
    }
    arena_free(function->arena);
}

int pg_function_traces(const PgFunction *function) { return function->traces; }

typedef struct {
    PgFunction *function;
    PgTensor **in, **out;
    Variant *variant;
} Call;

static void run_body(const Call *call) {
    const PgFunction *function = call->function;
    for (int i = 0; i < function->outputs; i++) call->out[i] = NULL;
    function->body(function->context, call->in, call->out);
    for (int i = 0; i < function->outputs; i++)
        if (!call->out[i]) fatal("call: the function left out[%d] unset", i);
}

static void run_inside_trace(const Call *call) {
    run_body(call);
    for (int i = 0; i < call->function->outputs; i++) call->out[i] = pg_detach(call->out[i]);
}

// A result is a tensor of its own, as in graph mode: an input handed back is copied.
static void run_eager(void *argument) {
    const Call *call = argument;
    Scope *scope = scope_push();
    run_body(call);
    for (int i = 0; i < call->function->outputs; i++) {
        PgTensor *out = call->out[i];
        call->out[i] = pg_keep(out->scope == scope ? out : pg_contiguous(out));
    }
    pg_scope_end();
}

static Form form_of(PgTensor *x) {
    Id id = tensor_in(x);
    return (Form){dtype_at(id), shape_at(id)};
}

static void trace(void *argument) {
    Call *call = argument;
    PgFunction *function = call->function;
    Variant *variant = call->variant;
    Scope *scope = scope_push();
    scope->trace = arena_object(scope->arena, Trace);
    PgTensor **in = arena_array(scope->arena, PgTensor *, function->inputs);
    for (int i = 0; i < function->inputs; i++)
        in[i] =
            tensor_view(node_param(scope->graph, variant->in[i].dtype, variant->in[i].shape, i));
    function->traces++;
    run_body(&(Call){.function = function, .in = in, .out = call->out});
    if (scope->trace->nested) fatal("call: the function left a scope open. Hint: pg_scope_end");
    Id *output = arena_array(scope->arena, Id, function->outputs);
    for (int i = 0; i < function->outputs; i++) {
        variant->out[i] = form_of(call->out[i]);
        output[i] = tensor_in(call->out[i]);
        if (graph_node(scope->graph, output[i])->sources == 0)
            output[i] = node_contiguous(scope->graph, output[i]);
    }
    variant->compiled = engine_compile(scope->graph, function->outputs, output,
                                       scope->trace->effects.count, scope->trace->effects.at);
    if (!variant->compiled) {
        scope_pop();
        return;
    }
    variant->scope = scope_detach();
}

static bool variant_fits(const Variant *variant, const PgFunction *function, const Form *in) {
    if (variant->recording != is_recording() || variant->device != device()) return false;
    for (int i = 0; i < function->inputs; i++)
        if (variant->in[i].dtype != in[i].dtype || !shape_equal(variant->in[i].shape, in[i].shape))
            return false;
    return true;
}

// NULL with a message if there is no code.
static Variant *variant_for(PgFunction *function, PgTensor **in, PgTensor **out) {
    Form *form = arena_array(scope_now()->arena, Form, function->inputs);
    for (int i = 0; i < function->inputs; i++) form[i] = form_of(in[i]);
    for (int i = 0; i < function->variants.count; i++)
        if (variant_fits(&function->variants.at[i], function, form))
            return &function->variants.at[i];
    Variant variant = {
        .device = device(),
        .recording = is_recording(),
        .in = arena_copy(function->arena, form, (size_t)function->inputs * sizeof *form),
        .out = arena_array(function->arena, Form, function->outputs)};
    Call call = {.function = function, .out = out, .variant = &variant};
    if (guarded_call(trace, &call)) fatal_again(error_text());
    if (!variant.compiled) return NULL;
    *list_add(function->arena, &function->variants) = variant;
    return &function->variants.at[function->variants.count - 1];
}

static int64_t param_buffer(const Variant *variant, PgTensor *x, int number) {
    Scope *scope = scope_now();
    Id id = tensor_in(x);
    if (is_packed(scope, id))
        fatal("call: input %d is a packed weight. Hint: let the function capture it", number);
    const Node *node = graph_node(scope->graph, id);
    if (!current_find(variant->scope, -1 - number)) return realise_whole(scope, id);
    if (node->op == OP_ASSIGN || (node->op == OP_BUFFER && node->arg[1] != VERSION_READ_ONLY))
        return node->arg[0];
    fatal("call: the function assigns to input %d, which is not memory to write to. "
          "Hint: pg_keep it first",
          number);
}

static int64_t value_of_var(void *context, const Atom *atom) {
    return ((const int64_t *)context)[atom->of];
}

static PgTensor *result_tensor(const Graph *graph, Form form, int64_t buffer, int64_t *var) {
    Scope *scope = scope_now();
    for (int i = 0; i < form.shape.rank; i++)
        if (size_is_symbolic(form.shape.size[i]))
            form.shape.size[i] = index_value(graph_indices(graph),
                                             size_index(graph_indices(graph), form.shape.size[i]),
                                             value_of_var, var);
    scope_hold(scope, buffer);
    return tensor_view(
        node_buffer(scope->graph, form.dtype, form.shape, buffer, buffer_version(buffer)));
}

static int run_compiled(PgFunction *function, PgTensor **in, PgTensor **out) {
    Variant *variant = variant_for(function, in, out);
    if (!variant) return -1;
    Arena *arena = scope_now()->arena;
    const Graph *graph = variant->scope->graph;
    int64_t *param = arena_array(arena, int64_t, function->inputs);
    int64_t *var = arena_array(arena, int64_t, graph_vars(graph));
    int64_t *result = arena_array(arena, int64_t, function->outputs);
    for (int i = 0; i < function->inputs; i++) param[i] = param_buffer(variant, in[i], i);
    for (int i = 0; i < graph_vars(graph); i++) {
        const Var *info = graph_var_info(graph, i);
        var[i] = bound_value(info->name, info->low, info->high);
    }
    if (engine_call(variant->compiled, param, var, result)) return -1;
    for (int i = 0; i < variant->scope->current.count; i++) {
        int64_t memory = variant->scope->current.at[i].buffer;
        buffer_advance(memory < 0 ? param[-1 - memory] : memory);
    }
    for (int i = 0; i < function->outputs; i++)
        out[i] = result_tensor(graph, variant->out[i], result[i], var);
    return 0;
}

int pg_call(PgFunction *function, PgTensor **in, PgTensor **out) {
    Call call = {.function = function, .in = in, .out = out};
    if (scope_now()->trace) {
        run_inside_trace(&call);
        return 0;
    }
    if (pg_mode() == PG_GRAPH) return run_compiled(function, in, out);
    if (guarded_call(run_eager, &call)) fatal_again(error_text());
    return 0;
}
