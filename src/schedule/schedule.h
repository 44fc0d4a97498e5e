/* schedule.h - from a graph to kernels, and from a kernel to a faster kernel. Offers candidates,
 * measures nothing. */
#ifndef PICOGRAD_SCHEDULE_H
#define PICOGRAD_SCHEDULE_H
#include "ir/ir.h"

// ---- fuse.c, ranges.c: fusion ------------------------------------------------------------------
// A Module is a graph cut into kernels in run order. Every value that crosses kernels has a slot:
// memory that is there before (BUFFER, PARAM), or made by a kernel (TEMPORARY, of which outputs are
// some).
typedef enum { SLOT_BUFFER, SLOT_PARAM, SLOT_TEMPORARY } SlotKind;
typedef struct {
    SlotKind kind;
    int64_t of;  // BUFFER: its id; PARAM: its number; TEMPORARY: the node that it holds
    DType dtype;
    int64_t elements;  // symbolic sizes at their upper bounds
    int64_t
        offset;  // TEMPORARY, not an output: into the module's block of memory, after plan_memory
} Slot;
typedef struct {
    Kernel *kernel;
    Id root;        // the node whose value the kernel stores
    int32_t *slot;  // the slot of each PARAM buffer of the kernel
    int32_t params;
} KernelCall;
typedef struct {
    Arena *arena;
    const Graph *graph;
    LIST(Slot) slots;
    LIST(KernelCall) calls;  // in run order
    int outputs;
    int32_t *output;          // slots
    int64_t temporary_bytes;  // of the block that temporaries share
} Module;
// Outputs must not be leaves (wrap them in CONTIGUOUS); effects are ASSIGN nodes that must happen.
// contractions_alone: a contraction gets a kernel without anything before or after it, for the
// eager library.
Module *fuse(Arena *arena, const Graph *graph, int outputs, const Id *output, int effects,
             const Id *effect, bool contractions_alone);

// ranges.c: one kernel in unscheduled form. is_stored[node]: its value is read from memory, not
// computed in place; slot_of names that memory. The kernel's PARAMs are listed in call->slot.
typedef struct {
    Module *module;
    const bool *is_stored;
    int32_t (*slot_of)(void *context, Id node);
    void *context;
} Ranges;
KernelCall kernel_from_root(const Ranges *ranges, Id root);

// index_fold.c: op over INDEX and CONST nodes as one INDEX, or narrower; -1 if it is not of that
// kind.
Id index_fold(Kernel *kernel, Op op, DType dtype, const Id *source);

// plan.c: offsets of temporaries by liveness.
void plan_memory(Module *module);

// factor.c: what does not change inside a sum moves out of it: sum of (s c + o) x over a group is s
// sum(c x) + o sum(x).
void factor(Kernel *kernel);

// cost.c: float operations, and bytes that must move, of a kernel in unscheduled form. var: by VAR.
void kernel_cost(const Kernel *kernel, const int64_t *var, double *operations, double *bytes);

// heuristic.c: schedules worth trying on a kernel in explicit form, best first, the empty one last;
// returns how many.
typedef struct {
    const char *unit;    // of matrix_units.c; NULL: none
    int lanes;           // f32 of a vector register
    int tile_m, tile_n;  // of the unit
} ScheduleTarget;
enum { CANDIDATES_MAX = 4 };
int schedule_candidates(Arena *arena, Kernel *kernel, const ScheduleTarget *target,
                        const char *candidate[CANDIDATES_MAX]);
bool wants_factoring(const Kernel *kernel);  // in unscheduled form: a sum that is not to be tiled

// ---- transforms: from a kernel to a faster one -------------------------------------------------
// accumulate.c: REDUCE becomes explicit: an accumulator in a register, with init, update and finish
// statements.
// c[i] = (reduce add k<96 x[96*i + k])   =>   init s[0] = 0; for k < 96 { update s[0] = (add x[..]
// s[0]) }; finish c[i] = s[0]
void accumulate(Kernel *kernel);

// transform.c: a schedule is text, one transform a line, `#` comments. Each refuses what it cannot
// do with a fatal that names statement and loop. On a kernel in explicit form; kernel_verify holds
// after each line.
//   SPLIT i 14 [guard|peel|pad]  i = 14*i0 + i1. Where 14 does not divide: i1 gets a limit (guard),
//                                the rest a loop i2 of its own (peel), or all iterations run and
//                                memory is guarded (pad)
//   ORDER k0 i0 j0               loops of one perfect nest, outermost first
//   FUSE i j                     j directly inside i: one loop i_j
//   THREAD i                     iterations are shared among the threads
//   VECTORIZE j                  iterations are lanes
//   UNROLL k [8]                 iterations are written out; 8: in a loop over so many at a time
//   STAGE c at j0 in reg         the loops between j0 and the statements that make c are fissioned,
//                                a nest a statement (copies are named i1_init, i1_finish, ...); c's
//                                accumulators get an element an iteration
//   STAGE a at i0 over i1 k [as k i1] in L2 [convert]
//                                what accesses of a inside i0 touch while i1 and k run is copied
//                                (loops k_a, i1_a) to a local buffer laid out in that order, and
//                                written back if stored. convert: what is copied is the largest
//                                expression around the load that depends on no other loop. `at top`
//                                is the kernel's beginning. Spaces: reg, own (or L1, L2), shared
//   RFACTOR k1 [in shared]       accumulators updated in k1 get an element an iteration; a loop
//                                k1_fold folds them
//   DISTRIBUTE k1_fold           s += x * (sum of p over k1_fold) becomes a sum over k1_fold of x*p
//   SPILL s                      s's tile is copied from registers to memory for the nest that
//                                finishes it
//   TENSORCORE avx2_fma 6x16 on s
//                                every nest on s becomes a tile of vector registers
void schedule_apply(Kernel *kernel, const char *schedule);

// One line being applied.
typedef struct {
    Kernel *kernel;
    Arena *arena;
    const char *text;
    const char *word[32];  // [0]: the transform
    int words;
} ScheduleLine;
_Noreturn void line_refuse(const ScheduleLine *line, const Statement *at, const char *format, ...)
    PRINTF(3, 4);
const char *line_word(const ScheduleLine *line, int word);      // refuses if there are fewer
int32_t line_loop(const ScheduleLine *line, const char *name);  // a loop that a statement runs
int32_t line_buffer(const ScheduleLine *line, const char *name);
int64_t line_number(const ScheduleLine *line, int word);  // 1 or more
void line_expect(const ScheduleLine *line, int word, const char *text);
Space line_space(const ScheduleLine *line, int word);
Statement **line_place(const ScheduleLine *line,
                       int word);  // the list that `at i0` or `at top` means
typedef void Transform(const ScheduleLine *line);
Transform transform_split, transform_fuse, transform_order, transform_thread, transform_vectorize,
    transform_unroll, transform_stage, transform_rfactor, transform_distribute,
    transform_tensorcore, transform_spill;
void transform_stage_copy(const ScheduleLine *line);  // STAGE with `over`
// The loop's iterations, in pieces of `factor`; returns the inner loop. tail: 'g'uard, 'p'eel or
// p'a'd.
int32_t split_loop(const ScheduleLine *line, int32_t loop, int64_t factor, const char *tail);

// transform_legal.c: which iterations may change places.
// Different iterations of `loop` never touch one element through a and b, however the loops in
// `varying` run.
bool legal_disjoint(const Kernel *kernel, int32_t loop, LoopSet varying, Index a, Index b);
bool legal_element(const Kernel *kernel,
                   Index index);  // it means the same everywhere: no gather from written memory
// store is `element = element (op) x`, nested: x does not read the buffer. fold: ADD, MAX or MUL.
bool legal_fold(const Kernel *kernel, const Statement *store, Op *fold);
bool legal_folds(Kernel *kernel, Statement *list, int32_t buffer,
                 Op *fold);  // nothing else touches it there
// A local buffer of which every element is stored before it is read, in each run of the list, and
// not used elsewhere.
bool legal_private(Kernel *kernel, Statement *list, int32_t buffer);
bool *legal_privates(Kernel *kernel, Statement *list);  // the same by buffer
// NULL, or a statement that stands against it: all iterations on different threads; in one vector;
// in any order.
Statement *legal_parallel(Kernel *kernel, Statement *loop);
Statement *legal_vector(Kernel *kernel, Statement *loop);
Statement *legal_reorder(Kernel *kernel, LoopSet nest, Statement *body);

// matrix_units.c
typedef struct {
    const char *name;
    int m, n;   // the largest tile of accumulators, in rows and columns
    int lanes;  // columns of one register
} MatrixUnit;
const MatrixUnit *matrix_unit_find(const char *name);  // NULL if there is none
#endif
