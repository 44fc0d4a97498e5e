/* tensor.h - inside the tensor layer: scopes, handles, and the steps that every call shares.
 * A call takes handles, turns each into a node of the innermost scope's graph (tensor_in), makes
 * nodes, and gives a handle back: of a view (tensor_view) or of a value (tensor_out), which is
 * realised at once unless the scope traces. Composites call the public functions between
 * compose_begin and compose_end, and only their result is realised.
 *   PgTensor *pg_silu(PgTensor *x) {
 *       compose_begin();
 *       return compose_end(pg_mul(x, pg_sigmoid(x)));
 *   }                                                                                            */
#ifndef PICOGRAD_TENSOR_H
#define PICOGRAD_TENSOR_H
#define PG_NO_CALL_SITES  // the call site is the user's
#include "engine/engine.h"
#include "picograd.h"
#include "runtime/runtime.h"

// What is known of a node's value in memory, contiguous.
typedef struct {
    int64_t buffer, version;  // worthless once the buffer has moved on to another version
    bool known;
    bool given;  // pg_keep gave the buffer away: it may not be given twice
} Value;

typedef struct {
    int64_t buffer;  // of a PARAM: -1 - its number
    int64_t version;
    Id node;  // the buffer's content now
} Current;

typedef struct {
    int nested;        // scopes opened inside, which share the trace's
    LIST(Id) effects;  // ASSIGNs in order
} Trace;

typedef struct PgScope Scope;
struct PgScope {
    Scope *outer;
    int depth;        // 0: the root
    uint32_t serial;  // no other scope's
    Arena *arena;
    Arena *scratch;  // for the computation being made
    Graph *graph;
    LIST(Value) values;     // by node; may be shorter than the graph
    LIST(int64_t) held;     // buffers released with the scope
    LIST(Current) current;  // memory assigned to while the scope was innermost
    Map *imported;          // (serial, node) of another scope => node
    Trace *trace;           // NULL: calls compute
};

struct PgTensor {
    Scope *scope;
    Id id;
    bool adapts;   // pg_scalar's: it takes the type of what it meets
    double value;  // of pg_scalar's, unrounded
};

// scope.c
Scope *scope_now(void);  // innermost
Graph *graph_now(void);  // its graph: ids without one are of it
Scope *scope_root(void);
Scope *scope_push(void);
void scope_pop(void);       // frees the innermost
Scope *scope_detach(void);  // pops it without freeing it: that is the caller's to do
void scope_free(Scope *scope);
void scope_hold(Scope *scope, int64_t buffer);  // takes over one reference
void compose_begin(void);
PgTensor *compose_end(PgTensor *result);
PgTensor *tensor_view(Id id);
PgTensor *tensor_out(Id id);
bool is_recording(void);  // history is kept
void must_not_trace(const char *verb, const char *hint);
// Runs function(argument); -1 if it was stopped, and the scopes that it opened are closed.
int guarded_call(void (*function)(void *), void *argument);

// realise.c
Id tensor_in(PgTensor *x);         // x in the innermost scope's graph, on its memory as it is now
bool is_memory(const Node *node);  // BUFFER, PARAM or ASSIGN
int64_t memory_of(const Node *node);                  // its buffer; of a PARAM: -1 - its number
Id view_base(const Graph *graph, Id id);              // below all views
Id view_rebase(Graph *graph, Id id, Id base);         // the same views of another base
Current *current_find(Scope *scope, int64_t buffer);  // NULL if the scope did not assign to it
bool is_packed(Scope *scope, Id id);  // weights that are computed where they are used
void realise(Scope *scope, int count, const Id *id);  // as Values
// The value in a buffer: a new one; one that no other pg_keep was given; one that holds nothing
// else. The reference is the caller's, the caller's, the scope's.
int64_t realise_copy(Scope *scope, Id id);
int64_t realise_given(Scope *scope, Id id);
int64_t realise_whole(Scope *scope, Id id);
Id graph_copy_leaves(Scope *from, Id id, Scope *to);  // realised nodes become BUFFERs

// element.c: nodes of other shapes and types
Id broadcast(Id x, Shape shape);
Id constant(DType dtype, Shape shape, double value);
Id tensor_like(const char *verb, PgTensor *x, Id like);     // x in like's type and shape
PgTensor *with_slope_of(PgTensor *value, PgTensor *other);  // value with other's gradient
PgTensor *wide(PgTensor *x);  // f32 of a half: what a formula computes in, to round once
PgTensor *rounded(PgTensor *x, PgTensor *like);  // x in like's type
PgTensor *scaled(PgTensor *x, double by);
PgTensor *shifted(PgTensor *x, double by);

// view.c
Shape shape_at(Id x);
DType dtype_at(Id x);
const char *shape_name(Id x);                   // "(2, 3)", for messages
int axis_of(const char *verb, Id x, int axis);  // 0 <= result < rank
uint32_t axes_of(const char *verb, Id x, int count, const int *axes);
Shape shape_from(const char *verb, int rank, const int64_t *shape);
void must_be_alike(const char *verb, PgTensor *x, PgTensor *y);  // in type
Id without_axes(Id x, uint32_t axes);                            // which have size 1
Id with_axis(Id x, int axis);                                    // a new one, of size 1
Id shrink_axis(Id x, int axis, Size start, Size size);

// create.c
DType dtype_of(const char *verb, PgType type);
size_t bytes_of(DType dtype, Shape shape);  // fatal on overflow

// random.c: 20 rounds of Threefry 2x32; u32 tensors of one shape
void threefry(PgTensor *const key[2], PgTensor *const counter[2], PgTensor *out[2]);
#endif
