/* scope.c - who owns tensors, and for how long.
 * In: pg_scope_begin and pg_scope_end.  Out: a stack of scopes a thread, a root at its bottom.
 * Invariants: a scope's graph, handles and buffers die together; a tensor's scope is the innermost
 * one, one around it, or one that was left; while a trace is open, scopes opened inside share the
 * trace's.
 *   pg_scope_begin(); state = pg_keep(step(state)); pg_scope_end();                              */
#include "tensor/tensor.h"

#include <pthread.h>
#include <stdatomic.h>

static _Thread_local struct {
    Scope *scope;
    bool no_grad;
    int composing;
    PgCaller caller;
} self;

static pthread_key_t thread_key;

static void thread_ends(void *root) {
    (void)root;
    while (self.scope) scope_pop();
}

static void thread_key_make(void) { pthread_key_create(&thread_key, thread_ends); }

Scope *scope_push(void) {
    static atomic_uint serials;
    Arena *arena = arena_new();
    Scope *scope = arena_object(arena, Scope);
    *scope = (Scope){.outer = self.scope,
                     .depth = self.scope ? self.scope->depth + 1 : 0,
                     .serial = atomic_fetch_add(&serials, 1),
                     .arena = arena,
                     .scratch = arena_new(),
                     .graph = graph_new(arena),
                     .imported = map_new(arena)};
    return self.scope = scope;
}

Scope *scope_now(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (self.scope) return self.scope;
    pthread_once(&once, thread_key_make);
    pthread_setspecific(thread_key, scope_push());
    return self.scope;
}

Graph *graph_now(void) { return scope_now()->graph; }

Scope *scope_root(void) {
    Scope *scope = scope_now();
    while (scope->outer) scope = scope->outer;
    return scope;
}

Scope *scope_detach(void) {
    Scope *scope = self.scope;
    self.scope = scope->outer;
    return scope;
}

void scope_free(Scope *scope) {
    for (int i = 0; i < scope->held.count; i++) buffer_release(scope->held.at[i]);
    arena_free(scope->scratch);
    arena_free(scope->arena);
}

void scope_pop(void) { scope_free(scope_detach()); }

void scope_hold(Scope *scope, int64_t buffer) { *list_add(scope->arena, &scope->held) = buffer; }

void pg_scope_begin(void) {
    Scope *scope = scope_now();
    if (scope->trace)
        scope->trace->nested++;
    else
        scope_push();
}

void pg_scope_end(void) {
    Scope *scope = scope_now();
    bool open = scope->trace ? scope->trace->nested > 0 : scope->outer != NULL;
    if (!open) fatal("scope_end: no scope is open. Hint: each needs its pg_scope_begin");
    if (scope->trace)
        scope->trace->nested--;
    else
        scope_pop();
}

PgScope *pg_scope_leave(void) {
    must_not_trace("scope_leave", "leave the scope outside of the function");
    if (!scope_now()->outer) fatal("scope_leave: no scope is open. Hint: pg_scope_begin");
    return scope_detach();
}

void pg_scope_free(PgScope *scope) {
    if (scope) scope_free(scope);
}

int guarded_call(void (*function)(void *), void *argument) {
    Scope *scope = scope_now();
    int nested = scope->trace ? scope->trace->nested : 0, composing_before = self.composing;
    bool no_grad = self.no_grad;
    int status = try_call(function, argument);
    if (status == 0) return 0;
    while (self.scope->depth > scope->depth) scope_pop();
    if (scope->trace) scope->trace->nested = nested;
    self.composing = composing_before;
    self.no_grad = no_grad;
    return -1;
}

int pg_try(void (*function)(void *), void *argument) { return guarded_call(function, argument); }

const char *pg_error(void) { return error_text(); }

void pg_on_fatal(void (*hook)(const char *message)) { fatal_hook(hook); }

// A caller is never inside a composite, though one may have been left by a fatal.
PgCaller pg_here(const char *file, int line) {
    PgCaller before = self.caller;
    pg_back(&(PgCaller){file, line});
    return before;
}

void pg_back(const PgCaller *caller) {
    self.composing = 0;
    self.caller = *caller;
    here(caller->file, caller->line);
}

bool pg_no_grad(bool on) {
    bool old = self.no_grad;
    self.no_grad = on;
    return old;
}

bool is_recording(void) { return !self.no_grad; }

void must_not_trace(const char *verb, const char *hint) {
    if (scope_now()->trace)
        fatal("%s: this function is being traced, so no values exist yet. Hint: %s", verb, hint);
}

void compose_begin(void) { self.composing++; }

PgTensor *compose_end(PgTensor *result) {
    self.composing--;
    return tensor_out(tensor_in(result));
}

static PgTensor *tensor_new(Scope *scope, Id id) {
    PgTensor *tensor = arena_object(scope->arena, PgTensor);
    *tensor = (PgTensor){.scope = scope, .id = id};
    return tensor;
}

PgTensor *tensor_view(Id id) { return tensor_new(scope_now(), id); }

// Without history a result is a leaf, with a buffer that no other node shares.
static Id leaf_of(Scope *scope, Id id) {
    int64_t buffer = realise_copy(scope, id);
    scope_hold(scope, buffer);
    return node_buffer(scope->graph, node_dtype(scope->graph, id), node_shape(scope->graph, id),
                       buffer, buffer_version(buffer));
}

// What lies below the views of a result is computed, and the views stay views.
PgTensor *tensor_out(Id id) {
    Scope *scope = scope_now();
    if (self.composing) return tensor_view(id);
    if (scope->trace) return tensor_view(self.no_grad ? node_detach(scope->graph, id) : id);
    Id base = view_base(scope->graph, id);
    if (self.no_grad && graph_node(scope->graph, base)->sources)
        id = view_rebase(scope->graph, id, leaf_of(scope, base));
    else
        realise(scope, 1, &base);
    return tensor_view(id);
}

PgTensor *pg_keep(PgTensor *x) {
    Scope *scope = scope_now(), *outer = scope->outer ? scope->outer : scope;
    Id id = tensor_in(x);
    if (scope->trace) {
        if (!scope->trace->nested)
            must_not_trace("keep", "return the value through out, or pg_assign it");
        return tensor_view(node_detach(scope->graph, id));
    }
    const Node *node = graph_node(scope->graph, id);
    if (is_packed(scope, id)) return tensor_new(outer, graph_copy_leaves(scope, id, outer));
    int64_t buffer = realise_given(scope, id);
    int64_t version = node->op == OP_BUFFER && node->arg[1] == VERSION_READ_ONLY
                          ? VERSION_READ_ONLY
                          : buffer_version(buffer);
    scope_hold(outer, buffer);
    return tensor_new(outer, node_buffer(outer->graph, node->dtype, node_shape(scope->graph, id),
                                         buffer, version));
}
