/* ir.h - what every later layer passes around: element types, ops, sizes, index expressions,
 * graphs, kernels.
 *
 * A Graph is a hash-consed DAG of nodes with dense ids. Equal nodes are one node. Sources have
 * smaller ids than what uses them, so id order is an order in which to compute. The tensor dialect
 * is a Graph; the expressions of a Kernel are nodes of a Graph of its own. A node never changes: a
 * pass reads one graph and writes another. */
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
// What a fold of it sums in: f16 and bf16 are rounded once, at the end.
static inline DType dtype_folded(DType dtype) { return dtype_is_float(dtype) ? DT_F32 : dtype; }

// ---- ops.def -----------------------------------------------------------------------------------
typedef enum {
#define OP(name, ...) OP_##name,
#include "ir/ops.def"
#undef OP
    OP_COUNT
} Op;
enum {                     // properties
    LEAF = 1 << 0,         // has no sources
    MOVES = 1 << 1,        // index arithmetic on one source
    MAPS = 1 << 2,         // element by element: the sources have the node's shape
    TYPED = 1 << 3,        // the maker chooses the result's dtype
    FLOATS = 1 << 4,       // takes floats only
    INTEGERS = 1 << 5,     // takes integers only, and not bool
    BITS = 1 << 6,         // takes integers or bool
    TO_BOOL = 1 << 7,      // gives bool
    CHOOSES = 1 << 8,      // the first source is a bool, the other two are alike
    COMMUTES = 1 << 9,     // op(x, y) is op(y, x)
    ASSOCIATES = 1 << 10,  // exactly for integers and max, up to rounding for floats
    FOLDS = 1 << 11,       // arg[0] is the Op that folds: OP_ADD, OP_MAX or OP_MUL
    SPECIAL = 1 << 12,     // none of these: see derive.c
};
typedef struct {
    const char *text;
    int arity, properties;
    const char *scalar, *vector;  // C; "" where the table has none
    const char *documentation;
} OpInfo;
extern const OpInfo ops[OP_COUNT];
bool op_find(const char *text, Op *op);

// ---- index.c: index expressions ----------------------------------------------------------------
// An Index is an integer expression in canonical form: a constant plus a sum of scale * atom, terms
// sorted by atom, no scale zero. So equal expressions have equal ids. Each knows its interval. An
// atom is a loop, a VAR, the quotient (rounded down) or remainder of an Index by a positive
// constant, or the value of an integer node, for gathers.
typedef int32_t Index;  // an id in its IndexTable
typedef int32_t Id;     // a node in its graph; prints as %12
typedef struct IndexTable IndexTable;
typedef enum { ATOM_LOOP, ATOM_VAR, ATOM_DIV, ATOM_MOD, ATOM_VALUE } AtomKind;
typedef struct {
    AtomKind kind;
    int32_t of;         // LOOP, VAR, VALUE: the loop's, VAR's or node's id; DIV, MOD: an Index
    int64_t by;         // DIV, MOD: the divisor, 1 or more
    int64_t low, high;  // inclusive
} Atom;
typedef struct {
    int64_t scale;
    int32_t atom;
} Term;
IndexTable *index_table_new(Arena *arena);
Index index_const(IndexTable *table, int64_t value);
// An atom's interval is fixed when it is first made; a LOOP's is [0, upper bound of extent - 1].
Index index_atom(IndexTable *table, AtomKind kind, int32_t of, int64_t low, int64_t high);
Index index_add(IndexTable *table, Index a, Index b);
Index index_sub(IndexTable *table, Index a, Index b);
Index index_scale(IndexTable *table, Index a, int64_t scale);
Index index_div(IndexTable *table, Index a, int64_t by);      // rounded down; by > 0
Index index_mod(IndexTable *table, Index a, int64_t by);      // 0 <= result < by; by > 0
bool index_is_symbolic(const IndexTable *table, int64_t id);  // of an Index with atoms
bool index_is_const(const IndexTable *table, Index a, int64_t *value);
int64_t index_low(const IndexTable *table, Index a);  // inclusive bounds; saturate, never wrap
int64_t index_high(const IndexTable *table, Index a);
int64_t index_constant(const IndexTable *table, Index a);               // the constant part
int index_terms(const IndexTable *table, Index a, const Term **terms);  // returns their number
const Atom *index_atom_of(const IndexTable *table, int32_t atom);
Index index_of_atom(IndexTable *table, const Atom *atom);
// Does the atom (kind, of) occur in a, inside quotients and remainders too?
bool index_uses(const IndexTable *table, Index a, AtomKind kind, int32_t of);
// The s of a = s * loop + rest, where rest does not depend on the loop; 0 if a does not. False if a
// has no such form.
bool index_stride(const IndexTable *table, Index a, int32_t loop, int64_t *stride);
// a with b in place of every atom (kind, of); quotients and remainders are simplified again.
Index index_replace(IndexTable *table, Index a, AtomKind kind, int32_t of, Index b);
// a in another table. `map` gives what stands for a LOOP, VAR or VALUE; NULL keeps their ids.
typedef Index IndexMap(void *context, IndexTable *to, const Atom *atom);
Index index_copy(IndexTable *to, const IndexTable *from, Index a, IndexMap *map, void *context);
// The number that a is when `value` gives those of its LOOPs, VARs and VALUEs.
typedef int64_t IndexValue(void *context, const Atom *atom);
int64_t index_value(const IndexTable *table, Index a, IndexValue *value, void *context);
// As text: 32*i + k + 5, (i + 3)/16, (i + 3)%16, with the names that `name` gives.
typedef const char *IndexName(void *context, const Atom *atom);
void index_print(Text *text, const IndexTable *table, Index a, IndexName *name, void *context);
// Reads that form. `find` gives a name's Index, or is fatal through the reader.
typedef Index IndexFind(void *context, Reader *reader, const char *name);
Index index_parse(Reader *reader, Arena *scratch, IndexTable *table, IndexFind *find,
                  void *context);

// ---- shape.c: sizes and shapes -----------------------------------------------------------------
// A Size is a plain number or, from SIZE_SYMBOLIC on, the id of an Index over VARs in the graph's
// table. Sums, differences and products with a constant are Sizes again.
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
// The product of the sizes' upper bounds: what memory must hold. Fatal on overflow.
int64_t shape_capacity(IndexTable *table, Shape shape);
// The common shape of two under broadcasting (right-aligned, 1 stretches); false if there is none.
bool shape_broadcast(Shape a, Shape b, Shape *out);

// ---- graph.c: the tensor dialect, and expressions of kernels -----------------------------------
typedef struct {
    uint8_t op, dtype, sources, rank;
    Id source[3];
    int32_t arg_count;
    const int64_t *arg;  // words whose meaning is the op's, see the constructors; NULL if none
    const Size *size;    // `rank` sizes; NULL for rank 0, which all of a kernel's nodes have
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
// A node before it is made. node_derive (derive.c) fills in the dtype and the shape where the op
// determines them, and is fatal if sources, shapes or arguments do not fit.
typedef struct {
    Op op;
    DType dtype;
    Shape shape;
    int sources, args;
    const Id *source;
    const int64_t *arg;
} NodeDraft;
void node_derive(const Graph *graph, NodeDraft *draft);
// The constructor under all others: checks arity, dtypes and shapes against the op table (fatal),
// then gives the node that is there already, or a new one. Rewrites nothing.
Id node_make(Graph *graph, Op op, DType dtype, Shape shape, int sources, const Id *source, int args,
             const int64_t *arg);
// Node `id` of `from`, made again in `to`; what copying passes are made of. map, by ids of `from`,
// gives the nodes of `to` that stand for its sources and for the values inside its indices; sizes,
// indices and VARs are translated.
Id node_rebuild(Graph *to, const Graph *from, Id id, const Id *map);
// What an op's arg words mean, a letter each: n a number, N `rank` numbers, s a Size, S `rank`
// Sizes, c a constant, b axes as bits, o an Op, v a VAR, x an Index. A kernel's REDUCE is the
// exception: {fold, count, loops...}.
const char *op_args(Op op);
// All nodes that the roots and the values in `index` are made of, sources first; also those inside
// the indices of a kernel's loads. -1: no root, no index.
IdList graph_nodes(Arena *arena, const Graph *graph, int roots, const Id *root, Index index);

// The VAR's id. A name is one VAR with one interval; another interval for it is fatal.
int32_t graph_var(Graph *graph, const char *name, int64_t low, int64_t high);
const Var *graph_var_info(const Graph *graph, int32_t var);
int32_t graph_vars(const Graph *graph);
Index graph_var_index(const Graph *graph, int32_t var);

// Constructors of the tensor dialect, with the words of `arg` in braces. Shapes are checked
// (fatal); a size may be symbolic where the type is Size or Shape.
Id node_const_float(Graph *graph, DType dtype, Shape shape, double value);  // {bits of a double}
Id node_const_int(Graph *graph, DType dtype, Shape shape, int64_t value);   // {value, wrapped}
double node_const_value(const Graph *graph, Id id, int64_t *integer);       // integer may be NULL
enum { VERSION_READ_ONLY = -1 };  // of a BUFFER that never changes; no ASSIGN names it
Id node_buffer(Graph *graph, DType dtype, Shape shape, int64_t id, int64_t version);  // {those two}
Id node_param(Graph *graph, DType dtype, Shape shape, int64_t number);                // {number}
Id node_var(Graph *graph, int32_t var);  // {var}; an i64 scalar
Id node_size(Graph *graph, Size size);   // the same number as nodes: VARs and constants
Id node_iota(Graph *graph, DType dtype, Shape shape, int axis);  // {axis}
Id node_reshape(Graph *graph, Id x, Shape shape);                // symbolic axes must stay whole
Id node_permute(Graph *graph, Id x, const int *axes);  // {axes}: axis i of it is axes[i] of x
Id node_expand(Graph *graph, Id x, Shape shape);       // of the same rank; only sizes of 1 change
Id node_pad(Graph *graph, Id x, const Size *before, const Size *after);   // {before..., after...}
Id node_shrink(Graph *graph, Id x, const Size *start, const Size *size);  // {start...}
Id node_flip(Graph *graph, Id x, uint32_t axes);                          // {axes}, as bits
// Windows of `size` elements, `dilation` apart, each `stride` after the last: {axis, size, stride,
// dilation}.
Id node_window(Graph *graph, Id x, int axis, int64_t size, int64_t stride, int64_t dilation);
// An op that MAPS: as many sources as it has; dtype: what a CAST or BITCAST gives.
Id node_map(Graph *graph, Op op, DType dtype, const Id *source);
Id node_cast(Graph *graph, Id x, DType dtype);
Id node_bitcast(Graph *graph, Id x, DType dtype);
Id node_unary(Graph *graph, Op op, Id x);
Id node_binary(Graph *graph, Op op, Id x, Id y);  // same shape and dtype; CMP* gives bool
Id node_where(Graph *graph, Id condition, Id x, Id y);
Id node_fma(Graph *graph, Id x, Id y, Id z);
Id node_reduce(Graph *graph, Op fold, Id x, uint32_t axes);  // {fold, axes}; axes get size 1
Id node_scan(Graph *graph, Op fold, Id x, int axis);         // {fold, axis}
// {axis}. The result has the index's shape; other axes of x are as large or larger.
Id node_gather(Graph *graph, Id x, Id index, int axis);
Id node_scatter_add(Graph *graph, Id x, Id index, Id values, int axis);  // {axis}; x's shape
// {id, version}: the whole buffer after `value` was written into a view of it.
Id node_assign(Graph *graph, Id view, Id value, int64_t id, int64_t version);
Id node_withgrad(Graph *graph, Id value, Id surrogate);
Id node_contiguous(Graph *graph, Id x);
Id node_detach(Graph *graph, Id x);
// The identity of a fold in a dtype: 0, lowest (-inf), 1, as a CONST of that shape.
Id node_identity(Graph *graph, Op fold, DType dtype, Shape shape);

// graph_text.c: "%2 = add f32 (2, 3) %0 %1", a line a node, args in braces after the op; the last
// line names the outputs: "out %2". Only what they need is printed.
char *graph_print(Arena *arena, const Graph *graph, int outputs, const Id *output);
// "(2, position + 1)", in the graph's arena.
const char *graph_shape_text(const Graph *graph, Shape shape);
void graph_verify(const Graph *graph, int outputs, const Id *output);  // fatal with the node's line

// ---- kernel.c: the kernel dialect --------------------------------------------------------------
// A kernel is a tree of loops over statements `buffer[index] = value`. Values are scalar nodes of
// the kernel's own graph. Three ops occur only here: LOAD {buffer, Index} with an optional
// condition, INDEX {Index}, and a REDUCE {fold, count, loops...} over loops. A REDUCE lasts until
// accumulate() of the schedule layer turns it into an accumulator with init, update and finish
// statements.
typedef enum {
    LOOP_SERIAL,
    LOOP_THREAD,
    LOOP_VECTOR,
    LOOP_UNROLL,
    LOOP_TILE,   // it and the loops in it, around one store, are one instruction of a matrix unit
    LOOP_BLOCK,  // of a GPU: outermost; an iteration is a block of threads that share memory
    LOOP_WARP,   // in a block: warp w runs iteration w; thread loops in it are over its 32 threads
    LOOP_KINDS
} LoopKind;
enum { LOOP_STEPS_MAX = 64, WARP_THREADS = 32, BLOCK_THREADS_MAX = 1024 };
typedef struct {
    const char *name;
    Index extent;  // of constants and VARs; runs 0 <= loop < extent
    Index limit;   // a guarded tail's second bound, from outer loops: also loop < limit; -1: none
    LoopKind kind;
    int32_t steps;  // UNROLL: so many iterations are written in a row; 0: all, and no loop is left
} Loop;
// Where a buffer lives. PARAM: passed in. REGISTER: in vector registers if every index unrolls to a
// constant, else on the stack. THREAD: in each thread's own workspace. SHARED: in one workspace for
// all threads, whose accesses barriers order. ONCE: like SHARED, but what fills it depends on
// weights alone, so that it may be made once and for all (schedule/once.c).
typedef enum { SPACE_PARAM, SPACE_REGISTER, SPACE_THREAD, SPACE_SHARED, SPACE_ONCE, SPACES } Space;
enum { AHEAD_MAX = 1 << 20 };
static inline bool space_is_common(Space space) {  // all threads see it
    return space != SPACE_REGISTER && space != SPACE_THREAD;
}
typedef struct {
    const char *name;
    DType dtype;
    Space space;
    int64_t size;    // elements; PARAM: the least that must be there
    bool written;    // PARAM: an output, perhaps in place
    bool is_weight;  // PARAM: its memory never changes
    bool streams;    // PARAM: whole vectors are stored past the caches
    int32_t ahead;   // a load also asks for what lies so many bytes further; 0: it does not
} KernelBuffer;
// ASYNC: a copy on its way to a block's shared memory; it arrives by the SETTLE that waits for its
// group, all that a thread has begun up to a COMMIT.
// APART: a store to where no other thread reads before the next SETTLE.
typedef enum {
    ROLE_STORE,
    ROLE_INIT,
    ROLE_UPDATE,
    ROLE_FINISH,
    ROLE_ASYNC,
    ROLE_APART,
    ROLES
} Role;
typedef enum {
    STATEMENT_LOOP,
    STATEMENT_STORE,
    STATEMENT_BARRIER,
    STATEMENT_COMMIT,
    STATEMENT_SETTLE,
} StatementKind;
typedef struct Statement Statement;
struct Statement {
    StatementKind kind;
    Statement *next;  // sibling, in order
    // LOOP
    int32_t loop;
    Statement *body;
    // STORE
    Role role;  // what it does to an accumulator; ROLE_STORE if it has none
    int32_t buffer;
    Index index;  // the buffer's element
    Id value;
    Id condition;  // a bool node; -1: always
    // SETTLE
    int32_t groups;  // the last ones, which may still be on their way
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
    LoopSetList *node_loops;  // kernel_loops_of, by node; grows with the graph
} Kernel;

// kernel.c: builders, with the words of `arg` in braces
Kernel *kernel_new(Arena *arena, const char *name);
int32_t kernel_loop(Kernel *kernel, const char *name, Size extent);  // id; the name is made unique
int32_t kernel_buffer(Kernel *kernel, const char *name, DType dtype, Space space, int64_t size,
                      bool written);
Index kernel_loop_index(Kernel *kernel, int32_t loop);
// {buffer, index}; condition -1: always.
Id kernel_load(Kernel *kernel, int32_t buffer, Index index, Id condition);
Id kernel_index(Kernel *kernel, Index index, DType dtype);        // {index}, as an i32 or i64
bool kernel_index_of(const Kernel *kernel, Id id, Index *index);  // of such a node or a constant
// {fold, count, loops...}
Id kernel_reduce(Kernel *kernel, Op fold, Id value, int loops, const int32_t *loop);
Statement *statement_store(Kernel *kernel, Role role, int32_t buffer, Index index, Id value);
Statement *statement_loop(Kernel *kernel, int32_t loop, Statement *body);
enum { GROUPS_MAX = 8 };
Statement *statement_meeting(Kernel *kernel, StatementKind kind, int32_t groups);
// The body in several, outermost first; the element of a buffer that has one for each iteration of
// them, in each element that it had.
Statement *statement_nest(Kernel *kernel, int loops, const int32_t *loop, Statement *body);
Index kernel_row_major(Kernel *kernel, Index element, int loops, const int32_t *loop);
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
bool loop_set_within(LoopSet a, LoopSet b);               // a is a subset of b
bool loop_set_meets(LoopSet a, LoopSet b);                // they have a loop in common
int loop_set_list(LoopSet set, int32_t loop[LOOPS_MAX]);  // by id; returns how many
// The loops that a value depends on, without those that its REDUCEs bind.
LoopSet kernel_loops_of(const Kernel *kernel, Id value);
LoopSet kernel_loops_of_index(const Kernel *kernel, Index index);
LoopSet kernel_loops_inside(const Statement *list);  // those that the list's trees run
// All nodes that a value is made of, sources first; the same of a store's value, condition, index.
IdList kernel_nodes(Arena *arena, const Kernel *kernel, Id value);
IdList statement_nodes(Arena *arena, const Kernel *kernel, const Statement *store);
bool kernel_value_has(const Kernel *kernel, Id value, Id part);
bool kernel_value_reads(const Kernel *kernel, Id value, int32_t buffer);
typedef struct {
    int32_t buffer;
    Index index;
    Id load;  // the LOAD; -1: it is the store itself
    Statement *statement;
} Access;
typedef LIST(Access) AccessList;
// The accesses of a buffer (-1: of all) in the list's trees, in order; a store comes after its
// loads.
AccessList kernel_accesses(Arena *arena, const Kernel *kernel, Statement *list, int32_t buffer);
// The loop around a statement, NULL at the top; the pointer that points at it.
Statement *kernel_parent(const Kernel *kernel, const Statement *statement);
Statement **kernel_link(Kernel *kernel, const Statement *statement);
Statement *kernel_loop_statement(const Kernel *kernel, int32_t loop);  // NULL if no `for` runs it
Statement *statement_last(Statement *list);                            // of its siblings
// "update s[4*i]", for messages.
char *statement_text(Arena *arena, const Kernel *kernel, const Statement *statement);

// kernel_tile.c: what an instruction of a matrix unit does. A tile has 16 rows of 64 bytes and is
// kept in a REGISTER buffer, one after another. A PRODUCT sums 32 terms for each of its 16 x 16
// elements: the even ones, the odd ones, then both and what was there, each sum from the left,
// rounded at every step, with denormals taken and given as zeros (Intel's TDPBF16PS).
//   LOAD     tile for r < 16 { for c < 16 { s[16*r + c] = m[32*r + c] } }   of bf16: c < 32
//   STORE    tile for r < 16 { for c < 16 { m[32*r + c] = s[16*r + c] } }
//   PRODUCT  tile for i < 16 { for j < 16 { for p < 16 { for q < 2 {
//              update s[16*i + j] = (fma a[32*i + 2*p + q] b[32*p + 2*j + q] s[16*i + j]) } } } }
//            where a and b are (cast:f32 ..) of bf16
// A GPU's warp multiplies 16 x 8 by 8 x 8 of f32, of which it reads 11 significant bits, as its 32
// threads hold them (PTX's mma.m16n8k8): element 8i + j of the sum is thread's (8i + j)/2 % 32, and
// so on, which these orders give.
//   WARP     tile for i1 < 2 { for i < 8 { for j < 4 { for j1 < 2 { for k1 < 2 { for k < 4 {
//              update s[64*i1 + 8*i + 2*j + j1] =
//                (fma a[32*i1 + 4*i + 64*k1 + k] b[8*j + 4*j1 + 32*k1 + k] s[..]) } } } } } }
// A GPU's copy engine copies a run of 16 bytes or more from global memory to a block's. One thread
// begins it; it is of the group that the next COMMIT ends.
//   BULK     tile for c < 2048 { async m[4*i + c] = p[8*j + c] when .. }
// Four warps from a multiple of 4 on multiply 64 x 8 by 8 x N of f32 (PTX's wgmma.m64nNk8): each
// has 16 rows of a and of the sum as WARP's threads hold them, the sum once for each 8 columns. All
// four read one b, in a block's shared memory: 8 columns by 4 k are 32 elements in a row, and those
// lie x apart along k, y along the columns.
//   WARPGROUP tile for j2 < N/8 { for i1 < 2 { .. { for k < 4 {
//               update s[128*j2 + 64*i1 + 8*i + 2*j + j1] =
//                 (fma a[32*i1 + 4*i + 64*k1 + k] b[y*j2 + 8*j + 4*j1 + x*k1 + k] s[..]) } .. } }
typedef enum { TILE_LOAD, TILE_STORE, TILE_PRODUCT, TILE_WARP, TILE_WARPGROUP, TILE_BULK } TileKind;
enum { BULK_GRAIN = 16 };  // bytes: sizes and places are multiples
enum { UNIT_ROWS = 16, UNIT_BYTES = 64, UNIT_TILES = 8 };
typedef struct {
    TileKind kind;
    int32_t buffer[3];  // in registers, but WARPGROUP's b: what changes or is stored; a and b
    Index first[3];     // the element of each at which its tile begins
    int32_t memory;     // LOAD, STORE; BULK: where from
    Index from;         // its element
    int64_t stride;     // from row to row, in elements; BULK: how many are copied
    int64_t columns;    // WARPGROUP: N
    int64_t apart[2];   // its x and y
} TileUse;
enum { WARPGROUP_WARPS = 4, WARPGROUP_ROWS = 64, WARPGROUP_COLUMNS_MAX = 256 };
const char *kernel_tile(const Kernel *kernel, const Statement *loop,
                        TileUse *tile);  // or what is wrong
const Statement *kernel_tile_around(const Kernel *kernel, const Statement *statement);  // or NULL

// kernel_spread.c: blocks of a GPU. Inside a block loop, iteration t of a thread loop is run by
// thread t, and a buffer in registers is each thread's: one whose index moves with the loops over
// warps and threads is spread, so that each holds its own elements; any other is the same in all of
// them, and a thread loop may fold into it, all together.
typedef struct {
    int64_t by, extent;  // of the loop's number: number / by % extent
    int64_t stride;      // what a step of it adds to the index
} Digit;
enum { DIGITS_MAX = 4 };
typedef struct {
    int count;  // 0: the index does not move with the loop
    Digit digit[DIGITS_MAX];
} DigitList;
typedef struct {
    DigitList warp, thread;
    bool folded;  // a thread loop folds into it
} Spread;
bool kernel_has_blocks(const Kernel *kernel);
// The innermost loop of that kind around the statement; NULL if there is none.
const Statement *kernel_around(const Kernel *kernel, const Statement *statement, LoopKind kind);
// Or what is wrong. A launch is a block loop, or statements in a row outside of those.
const char *kernel_spread(const Kernel *kernel, int32_t buffer, Spread *spread);
// An element of a spread buffer, inside these loops over warps and threads (-1: none), among those
// that its thread holds; how many that are.
Index kernel_own_element(const Kernel *kernel, const Spread *spread, int32_t warp, int32_t thread,
                         Index element);
int64_t kernel_own_size(const Spread *spread, int64_t size);

// kernel_change.c: expressions and statements again, with other loops and nodes in them
typedef struct {
    Index *loop;           // by loop: what stands in its place; -1: it stays
    Id *node;              // by node of the expression before the change; -1: it stays
    int32_t loops, nodes;  // how many there were when this was made; later ones stay
    // What a node becomes, given what its sources have become; -1: the same op. NULL: no such rule.
    Id (*make)(Graph *graph, Id id, const Id *source);
} Substitution;
Substitution *substitution_new(Arena *arena, const Kernel *kernel);
// Also inside indices, and in the values inside those.
Id kernel_substitute(Kernel *kernel, Id value, const Substitution *by);
Index kernel_substitute_index(Kernel *kernel, Index index, const Substitution *by);
// In place, in the list's whole trees.
void statement_substitute(Kernel *kernel, Statement *list, const Substitution *by);
// A new loop like this one, which `by` puts in its place; statements likewise, with their loops.
int32_t kernel_loop_copy(Kernel *kernel, int32_t loop, const char *suffix, Substitution *by);
Statement *statement_copy(Kernel *kernel, const Statement *list, const char *suffix,
                          Substitution *by);
// The store, changed, in a nest of copies of these loops, which are serial.
Statement *statement_over(Kernel *kernel, int loops, const int32_t *loop, Statement *store,
                          const char *suffix);
// Every access of buffer `from` in the list's trees goes to `to` instead, at the element that
// relocate gives (NULL: at the same).
typedef Index Relocate(void *context, Kernel *kernel, Index element);
void statement_relocate(Kernel *kernel, Statement *list, int32_t from, int32_t to,
                        Relocate *relocate, void *context);

// kernel_text.c, kernel_verify.c: parse reads what print writes; verify is fatal, with a statement
char *kernel_print(Arena *arena, const Kernel *kernel);
// The list, which uses no VARs, as a kernel of its own, with the buffers that it uses.
char *kernel_print_part(Arena *arena, const Kernel *kernel, Statement *list);
Kernel *kernel_parse(Arena *arena, const char *name, const char *text);
void kernel_verify(const Kernel *kernel);  // scopes, dtypes, and bounds by interval
#endif
