/* ir.h - what every later layer passes around: element types, ops, sizes, index expressions,
 * graphs, kernels.
 *
 * A Graph is a hash-consed DAG of nodes with dense ids: equal nodes are one node, sources have
 * smaller ids, so id order is a topological order. The tensor dialect is a Graph; the
 * expressions of a Kernel are nodes of a Graph of its own. A pass reads one graph and writes
 * another; nothing is ever changed in place. */
#ifndef PICOGRAD_IR_H
#define PICOGRAD_IR_H
#include "base/base.h"

// ---- dtypes.def --------------------------------------------------------------------------------
typedef enum {
#define DTYPE(name, ...) DT_##name,
#include "ir/dtypes.def"
#undef DTYPE
    DT_COUNT
} DType;
typedef enum { KIND_FLOAT, KIND_SIGNED, KIND_UNSIGNED, KIND_BOOL } DTypeKind;
typedef struct {
    const char *text;  // "f32"
    int bytes;         // of a stored element
    DTypeKind kind;
    const char *stored, *computed;  // C types
} DTypeInfo;
extern const DTypeInfo dtypes[DT_COUNT];
bool dtype_find(const char *text, DType *dtype);
static inline bool dtype_is_float(DType dtype) { return dtypes[dtype].kind == KIND_FLOAT; }

// ---- ops.def -----------------------------------------------------------------------------------
typedef enum {
#define OP(name, ...) OP_##name,
#include "ir/ops.def"
#undef OP
    OP_COUNT
} Op;
enum {                  // properties
    LEAF = 1 << 0,      // no sources
    MOVES = 1 << 1,     // index arithmetic on one source
    MAPS = 1 << 2,      // element by element: sources have the node's shape
    TYPED = 1 << 3,     // the result's dtype is chosen
    FLOATS = 1 << 4,    // takes floats only
    INTEGERS = 1 << 5,  // takes integers only (not bool)
    BITS = 1 << 6,      // takes integers or bool
    TO_BOOL = 1 << 7,   // gives bool
    CHOOSES = 1 << 8,   // first source bool, the other two alike
    COMMUTES = 1 << 9,
    ASSOCIATES = 1 << 10,  // exactly for integers and max, up to rounding for floats
    FOLDS = 1 << 11,       // arg[0] is the folding Op: OP_ADD, OP_MAX or OP_MUL
    SPECIAL = 1 << 12,
};
enum { READS_X = 1, READS_Y = 2, READS_Z = 4, READS_OUT = 8 };
typedef struct {
    const char *text;
    int arity, properties;
    const char *scalar, *vector;  // "" where the table has none
    int gradient_reads;
    const char *documentation;
} OpInfo;
extern const OpInfo ops[OP_COUNT];
bool op_find(const char *text, Op *op);

// ---- index.c: index expressions ----------------------------------------------------------------
// An Index is the canonical form of an integer expression: constant + sum of scale * atom, terms
// sorted by atom, no zero scale, equal expressions have equal ids. It knows its interval. Atoms are
// loops, VARs, floor division and modulo of an Index by a positive constant, and the value of an
// integer node (for gathers).
typedef int32_t Index;  // an id in its IndexTable
typedef int32_t Id;     // a node in its graph; prints as %12
typedef struct IndexTable IndexTable;
typedef enum { ATOM_LOOP, ATOM_VAR, ATOM_DIV, ATOM_MOD, ATOM_VALUE } AtomKind;
typedef struct {
    AtomKind kind;
    int32_t of;         // loop id, VAR id, Index (DIV, MOD) or node id (VALUE)
    int64_t by;         // DIV, MOD: the positive divisor
    int64_t low, high;  // inclusive
} Atom;
typedef struct {
    int64_t scale;
    int32_t atom;
} Term;
IndexTable *index_table_new(Arena *arena);
Index index_const(IndexTable *table, int64_t value);
// An atom's interval is fixed when it is first made; LOOP: [0, extent's upper bound - 1].
Index index_atom(IndexTable *table, AtomKind kind, int32_t of, int64_t low, int64_t high);
Index index_add(IndexTable *table, Index a, Index b);
Index index_sub(IndexTable *table, Index a, Index b);
Index index_scale(IndexTable *table, Index a, int64_t scale);
Index index_div(IndexTable *table, Index a, int64_t by);  // floor; by > 0
Index index_mod(IndexTable *table, Index a, int64_t by);  // 0 <= result < by; by > 0
bool index_is_const(const IndexTable *table, Index a, int64_t *value);
int64_t index_low(const IndexTable *table, Index a);  // inclusive bounds; saturate, never wrap
int64_t index_high(const IndexTable *table, Index a);
int64_t index_constant(const IndexTable *table, Index a);               // the constant part
int index_terms(const IndexTable *table, Index a, const Term **terms);  // returns their number
const Atom *index_atom_of(const IndexTable *table, int32_t atom);
bool index_uses(const IndexTable *table, Index a, AtomKind kind,
                int32_t of);  // also inside div, mod
// The factor of loop in a, if a is scale * loop + rest with no loop in rest; false otherwise. 0 if
// not used.
bool index_stride(const IndexTable *table, Index a, int32_t loop, int64_t *stride);
// a with every atom (kind, of) replaced by b; DIV and MOD are simplified again.
Index index_replace(IndexTable *table, Index a, AtomKind kind, int32_t of, Index b);
// Rebuilds a in another table, atoms LOOP/VAR/VALUE through the callback (NULL: unchanged ids).
typedef Index IndexMap(void *context, IndexTable *to, const Atom *atom);
Index index_copy(IndexTable *to, const IndexTable *from, Index a, IndexMap *map, void *context);
// The value, atoms' values from the callback (LOOP, VAR, VALUE only).
typedef int64_t IndexValue(void *context, const Atom *atom);
int64_t index_value(const IndexTable *table, Index a, IndexValue *value, void *context);
// Text: 32*i + k + 5, (i + 3)/16, (i + 3)%16; names come from the callback.
typedef const char *IndexName(void *context, const Atom *atom);
void index_print(Text *text, const IndexTable *table, Index a, IndexName *name, void *context);
// Parses that form; `find` gives a name's Index or is fatal through the reader.
typedef Index IndexFind(void *context, Reader *reader, const char *name);
Index index_parse(Reader *reader, Arena *scratch, IndexTable *table, IndexFind *find,
                  void *context);

// ---- shape.c: sizes and shapes -----------------------------------------------------------------
// A Size is an int64: a plain number, or (values of SIZE_SYMBOLIC and above) the id of an Index
// over VARs in the graph's table. Sums, differences and products with a constant keep it a Size.
typedef int64_t Size;
enum { RANK_MAX = 8 };
#define SIZE_SYMBOLIC ((Size)1 << 62)
typedef struct {
    int rank;
    Size size[RANK_MAX];
} Shape;
static inline bool size_is_symbolic(Size size) { return size >= SIZE_SYMBOLIC; }
Index size_index(IndexTable *table, Size size);
Size size_from_index(IndexTable *table, Index index);  // plain if constant
Size size_add(IndexTable *table, Size a, Size b);
Size size_sub(IndexTable *table, Size a, Size b);
Size size_scale(IndexTable *table, Size a, int64_t by);
int64_t size_max(IndexTable *table, Size size);  // upper bound
Shape shape_of(int rank, ...);                   // int64_t sizes
bool shape_equal(Shape a, Shape b);
int64_t shape_capacity(IndexTable *table,
                       Shape shape);  // product of upper bounds; fatal on overflow
// The common shape of two under broadcasting (right-aligned, 1 stretches); false if there is none.
bool shape_broadcast(Shape a, Shape b, Shape *out);

// ---- graph.c: the tensor dialect, and expressions of kernels -----------------------------------
typedef struct {
    uint8_t op, dtype, sources, rank;
    Id source[3];
    int32_t arg_count;
    const int64_t *arg;  // words whose meaning is the op's, see the constructors; NULL if none
    const Size *size;    // rank sizes; NULL for rank 0. Kernel expressions are scalars: rank 0.
} Node;
typedef struct {
    const char *name;
    int64_t low, high;  // inclusive; buffers are sized for `high`
} Var;
typedef struct Graph Graph;
Graph *graph_new(Arena *arena);
Arena *graph_arena(const Graph *graph);
IndexTable *graph_indices(const Graph *graph);
int32_t graph_count(const Graph *graph);
const Node *graph_node(const Graph *graph, Id id);
Shape node_shape(const Graph *graph, Id id);
DType node_dtype(const Graph *graph, Id id);
// A node before it is made. node_derive (derive.c) sets dtype and shape where the op determines
// them; fatal if the sources, shapes or arguments do not fit.
typedef struct {
    Op op;
    DType dtype;
    Shape shape;
    int sources, args;
    const Id *source;
    const int64_t *arg;
} NodeDraft;
void node_derive(const Graph *graph, NodeDraft *draft);
// The one constructor: checks arity, dtypes and shapes against the op table (fatal), hash-conses,
// does no rewriting.
Id node_make(Graph *graph, Op op, DType dtype, Shape shape, int sources, const Id *source, int args,
             const int64_t *arg);
// Node `id` of `from` again in `to`, over the nodes that `map` (by `from`'s ids) gives for its
// sources and for the values inside its indices; sizes, indices and VARs are translated. What
// copying passes are made of.
Id node_rebuild(Graph *to, const Graph *from, Id id, const Id *map);
// One letter an arg word: n number, N rank numbers, s Size, S rank Sizes, c constant, b axes as
// bits, o Op, v VAR, x Index. A kernel's REDUCE differs: {fold, count, loops...}.
const char *op_args(Op op);
// Which nodes the outputs need, by id; also those inside the indices of a kernel's loads.
bool *graph_reached(Arena *arena, const Graph *graph, int outputs, const Id *output);

int32_t graph_var(Graph *graph, const char *name, int64_t low,
                  int64_t high);  // id; same name: same VAR, same interval
const Var *graph_var_info(const Graph *graph, int32_t var);
int32_t graph_vars(const Graph *graph);
Index graph_var_index(const Graph *graph, int32_t var);

// Constructors of the tensor dialect; shapes are checked (fatal), sizes may be symbolic where it
// says Size.
Id node_const_float(Graph *graph, DType dtype, Shape shape,
                    double value);  // arg: the bits of a double
Id node_const_int(Graph *graph, DType dtype, Shape shape,
                  int64_t value);  // arg: the value, wrapped to dtype
Id node_buffer(Graph *graph, DType dtype, Shape shape, int64_t id,
               int64_t version);  // arg: id, version
Id node_param(Graph *graph, DType dtype, Shape shape, int64_t number);
Id node_var(Graph *graph, int32_t var);                          // i64 scalar
Id node_size(Graph *graph, Size size);                           // i64 scalar: VARs and constants
Id node_iota(Graph *graph, DType dtype, Shape shape, int axis);  // arg: axis
Id node_reshape(Graph *graph, Id x, Shape shape);                // symbolic axes must stay whole
Id node_permute(Graph *graph, Id x, const int *axes);  // out axis i is x's axes[i]; arg: axes
Id node_expand(Graph *graph, Id x, Shape shape);       // same rank; only sizes of 1 change
Id node_pad(Graph *graph, Id x, const Size *before,
            const Size *after);  // arg: before[rank], after[rank]
Id node_shrink(Graph *graph, Id x, const Size *start, const Size *size);  // arg: start[rank]
Id node_flip(Graph *graph, Id x, uint32_t axes);                          // arg: bit set of axes
Id node_window(Graph *graph, Id x, int axis, int64_t size, int64_t stride,
               int64_t dilation);  // arg: those four
Id node_cast(Graph *graph, Id x, DType dtype);
Id node_bitcast(Graph *graph, Id x, DType dtype);
Id node_unary(Graph *graph, Op op, Id x);
Id node_binary(Graph *graph, Op op, Id x, Id y);  // same shape and dtype; CMP* gives bool
Id node_where(Graph *graph, Id condition, Id x, Id y);
Id node_fma(Graph *graph, Id x, Id y, Id z);
Id node_reduce(Graph *graph, Op fold, Id x,
               uint32_t axes);                        // arg: fold, axes; folded axes get size 1
Id node_scan(Graph *graph, Op fold, Id x, int axis);  // arg: fold, axis
Id node_gather(Graph *graph, Id x, Id index,
               int axis);  // shape of index; other axes of x as large or larger; arg: axis
Id node_scatter_add(Graph *graph, Id x, Id index, Id values, int axis);  // shape of x; arg: axis
Id node_assign(Graph *graph, Id view, Id value, int64_t id,
               int64_t version);  // the whole buffer after the write; arg: id, new version
Id node_withgrad(Graph *graph, Id value, Id surrogate);
Id node_contiguous(Graph *graph, Id x);
Id node_detach(Graph *graph, Id x);
double node_const_value(const Graph *graph, Id id,
                        int64_t *integer);  // of a CONST; integer may be NULL
// The identity of a fold in a dtype: 0, lowest (-inf), 1, as a CONST of that shape.
Id node_identity(Graph *graph, Op fold, DType dtype, Shape shape);

// graph_text.c: "%2 = add f32 (2, 3) %0 %1" one node a line, args in braces after the op; parse
// reads what print writes.
// Only nodes that the outputs need are printed; the last line names the outputs: "out %2".
typedef struct {
    Graph *graph;
    int outputs;
    Id *output;
} GraphProgram;
char *graph_print(Arena *arena, const Graph *graph, int outputs, const Id *output);
const char *graph_shape_text(const Graph *graph,
                             Shape shape);  // "(2, position + 1)", in the graph's arena
GraphProgram graph_parse(Arena *arena, const char *name, const char *text);
void graph_verify(const Graph *graph, int outputs, const Id *output);  // fatal with the node's line

// ---- kernel.c: the kernel dialect --------------------------------------------------------------
// A kernel is a tree of loops over statements `buffer[index] = value`. Values are scalar nodes of
// the kernel's graph;
// LOAD {buffer, Index} with an optional condition, INDEX {Index} and REDUCE {fold, count, loops...}
// occur only here.
// REDUCE exists until accumulate() (schedule layer) makes accumulators with init, update and finish
// statements of it.
typedef enum { LOOP_SERIAL, LOOP_THREAD, LOOP_VECTOR, LOOP_UNROLL, LOOP_KINDS } LoopKind;
enum { LOOP_STEPS_MAX = 64 };
typedef struct {
    const char *name;
    Index extent;  // of constants and VARs; runs 0 <= loop < extent
    Index limit;   // further bound from outer loops (a guarded tail): also loop < limit; -1 if none
    LoopKind kind;
    int32_t steps;  // UNROLL: iterations in a row, and a loop over such rows; 0: all, and no loop
} Loop;
// Where a buffer lives. PARAM: passed in. REGISTER: vector registers if every index unrolls to a
// constant, else the stack. THREAD: each thread's own workspace. SHARED: one workspace for all
// threads, ordered by barriers.
typedef enum { SPACE_PARAM, SPACE_REGISTER, SPACE_THREAD, SPACE_SHARED, SPACES } Space;
typedef struct {
    const char *name;
    DType dtype;
    Space space;
    int64_t size;  // elements; PARAM: the least that must be there
    bool written;  // PARAM: an output (or in place)
} KernelBuffer;
typedef enum { ROLE_STORE, ROLE_INIT, ROLE_UPDATE, ROLE_FINISH, ROLES } Role;
typedef enum { STATEMENT_LOOP, STATEMENT_STORE, STATEMENT_BARRIER } StatementKind;
typedef struct Statement Statement;
struct Statement {
    StatementKind kind;
    Statement *next;  // sibling, in order
    // LOOP
    int32_t loop;
    Statement *body;
    // STORE
    Role role;  // what it does to an accumulator; STORE if none
    int32_t buffer;
    Index index;  // element of the buffer
    Id value;
    Id condition;  // bool node; -1: always
};
typedef LIST(Loop) LoopList;
typedef LIST(KernelBuffer) KernelBufferList;
// A set of loops, by id.
enum { LOOPS_MAX = 256 };  // of one kernel, copies by transforms included
typedef struct {
    uint64_t word[LOOPS_MAX / 64];
} LoopSet;
typedef LIST(LoopSet) LoopSetList;
typedef struct {
    const char *name;
    Graph *graph;  // expressions, indices, VARs
    LoopList loops;
    KernelBufferList buffers;  // PARAMs first, in ABI order
    Statement *body;
    LoopSetList *
        // by node: what its value depends on; grows with the graph, see kernel_loops_of
        node_loops;
} Kernel;

// kernel.c: builders
Kernel *kernel_new(Arena *arena, const char *name);
int32_t kernel_loop(Kernel *kernel, const char *name, Size extent);  // id; the name is made unique
int32_t kernel_buffer(Kernel *kernel, const char *name, DType dtype, Space space, int64_t size,
                      bool written);
Index kernel_loop_index(Kernel *kernel, int32_t loop);
Id kernel_load(Kernel *kernel, int32_t buffer, Index index,
               Id condition);  // condition -1: always; arg: buffer, index
Id kernel_index(Kernel *kernel, Index index, DType dtype);  // i32 or i64; arg: index
Id kernel_reduce(Kernel *kernel, Op fold, Id value, int loops,
                 const int32_t *loop);  // arg: fold, count, loops...
Statement *statement_store(Kernel *kernel, Role role, int32_t buffer, Index index, Id value);
Statement *statement_loop(Kernel *kernel, int32_t loop, Statement *body);
bool kernel_has_name(const Kernel *kernel, const char *name);  // taken, or a word of the text form
int32_t kernel_find_loop(const Kernel *kernel, const char *name);    // -1 if none
int32_t kernel_find_buffer(const Kernel *kernel, const char *name);  // -1 if none

// kernel.c: looking at a kernel
static inline bool loop_set_has(const LoopSet *set, int32_t loop) {
    return set->word[loop / 64] >> loop % 64 & 1;
}
static inline void loop_set_add(LoopSet *set, int32_t loop) {
    set->word[loop / 64] |= (uint64_t)1 << loop % 64;
}
static inline void loop_set_remove(LoopSet *set, int32_t loop) {
    set->word[loop / 64] &= ~((uint64_t)1 << loop % 64);
}
LoopSet loop_set_union(LoopSet a, LoopSet b);
bool loop_set_within(LoopSet a, LoopSet b);  // a is a subset of b
LoopSet kernel_loops_of(const Kernel *kernel,
                        Id value);  // loops it depends on; not those its REDUCEs bind
LoopSet kernel_loops_of_index(const Kernel *kernel, Index index);
LoopSet kernel_loops_inside(
    const Statement *list);  // loops of the loop statements in a list's trees
IdList kernel_nodes(Arena *arena, const Kernel *kernel,
                    Id value);  // all that it is made of, sources first
IdList statement_nodes(Arena *arena, const Kernel *kernel,
                       const Statement *store);  // value, condition, index
typedef struct {
    int32_t buffer;
    Index index;
    Id load;  // the LOAD node; -1: the store itself
    Statement *statement;
} Access;
typedef LIST(Access) AccessList;
// Accesses of a buffer (-1: of all) in a list's trees, in reading order; a store's loads come
// before it.
AccessList kernel_accesses(Arena *arena, const Kernel *kernel, Statement *list, int32_t buffer);
Statement *kernel_parent(const Kernel *kernel,
                         const Statement *statement);  // the loop around it; NULL at the top
Statement **kernel_link(Kernel *kernel,
                        const Statement *statement);  // the pointer that points at it
Statement *kernel_loop_statement(const Kernel *kernel, int32_t loop);  // NULL if no `for` runs it
char *statement_text(Arena *arena, const Kernel *kernel,
                     const Statement *statement);  // "update s[4*i]", for messages

// kernel_change.c: rebuilding expressions and statements
typedef struct {
    Index *loop;           // by loop: what stands in its place; -1: it stays
    Id *node;              // by node of the expression before the change; -1: it stays
    int32_t loops, nodes;  // how many there were when this was made; later ones stay
} Substitution;
Substitution *substitution_new(Arena *arena, const Kernel *kernel);
Id kernel_substitute(Kernel *kernel, Id value,
                     const Substitution *by);  // also inside indices, and values inside those
Index kernel_substitute_index(Kernel *kernel, Index index, const Substitution *by);
void statement_substitute(Kernel *kernel, Statement *list,
                          const Substitution *by);  // in place, the list's whole trees
int32_t kernel_loop_copy(Kernel *kernel, int32_t loop, const char *suffix,
                         Substitution *by);  // stands for it in `by`
Statement *statement_copy(Kernel *kernel, const Statement *list, const char *suffix,
                          Substitution *by);  // loops too
// Every access of buffer `from` in the list's trees goes to `to` instead, at relocate's element
// (NULL: the same).
typedef Index Relocate(void *context, Kernel *kernel, Index element);
void statement_relocate(Kernel *kernel, Statement *list, int32_t from, int32_t to,
                        Relocate *relocate, void *context);

char *kernel_print(Arena *arena, const Kernel *kernel);
Kernel *kernel_parse(Arena *arena, const char *name,
                     const char *text);  // reads what kernel_print writes
void kernel_verify(
    const Kernel *kernel);  // fatal with the statement: scopes, dtypes, bounds by interval
#endif
