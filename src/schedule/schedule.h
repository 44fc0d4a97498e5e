/* schedule.h - from a graph to kernels, and from a kernel to a faster kernel. Offers candidates,
 * measures nothing. */
#ifndef PICOGRAD_SCHEDULE_H
#define PICOGRAD_SCHEDULE_H
#include "ir/ir.h"

// ---- fuse.c, ranges.c: fusion ------------------------------------------------------------------
// A Module is a graph cut into kernels in run order. Every value that crosses kernels has a slot:
// memory that was there before (BUFFER, PARAM), or that a kernel fills (TEMPORARY, also outputs).
typedef enum { SLOT_BUFFER, SLOT_PARAM, SLOT_TEMPORARY } SlotKind;
typedef struct {
    SlotKind kind;
    int64_t of;      // BUFFER: its id; PARAM: its number; TEMPORARY: the node that it holds
    bool is_weight;  // BUFFER: it never changes
    DType dtype;
    int64_t elements;  // symbolic sizes at their upper bounds
    int64_t offset;    // of a TEMPORARY that is no output, in the module's block; by plan_memory
} Slot;
typedef struct {
    Kernel *kernel;  // of all calls that differ in their memory only
    Id root;         // the node whose value the kernel stores
    int32_t *slot;   // the slot of each PARAM buffer of the kernel
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
// Outputs must not be leaves (wrap them in CONTIGUOUS); effects are ASSIGNs that must happen.
// products: contractions that a kernel may hold. 0: one, and nothing is computed before or after
// it, so that the eager library's matmul can take its place. PRODUCTS_GPU: one; two with a softmax
// between them where the threads of a GPU's blocks can share them.
enum { PRODUCTS_GPU = -1, PRODUCTS_MAX = 2 };
Module *fuse(Arena *arena, const Graph *graph, int outputs, const Id *output, int effects,
             const Id *effect, int products);

// ranges.c: one kernel in unscheduled form, with the slots of its PARAMs. Values of nodes that
// is_stored marks are read from memory, which slot_of names; all others are computed in place.
typedef struct {
    Module *module;
    const bool *is_stored;
    const uint8_t *turned;  // by root: an axis of two whose loop is written out, as a mask
    int32_t (*slot_of)(void *context, Id node);
    void *context;
} Ranges;
KernelCall kernel_from_root(const Ranges *ranges, Id root);
// alike.c: the same, with one kernel for all roots that differ in their memory only.
typedef struct Alike Alike;
Alike *alike_new(Arena *arena, const Ranges *ranges);
KernelCall alike_call(Alike *to, Id root);
// The node whose axes a root's loops run over.
Id root_shape(const Graph *graph, Id root);
// Two sums of products over the same axes that share a factor: in one kernel their loops are one.
bool sums_together(const Graph *graph, Id a, Id b);

// index_fold.c: an op over INDEX and CONST nodes as one INDEX, or in a narrower type; -1 if it is
// neither.
Id index_fold(Kernel *kernel, Op op, DType dtype, const Id *source);

// plan.c: offsets of temporaries by liveness.
void plan_memory(Module *module);

// factor.c: what does not change inside a sum moves out of it. Over a group of packed weights,
//   sum((s c + o) x)  =>  s sum(c x) + o sum(x)
void factor(Kernel *kernel);

// online.c: a softmax of sums, and the sums that it weighs (attention), as blocks of keys whose
// states are joined, before accumulate(). Whether the kernel is of that form; it is changed by the
// second only. gpu: in tiles that blocks of threads share.
// What has the score HIDDEN or less has no power beside what is seen; no sum of products is as low.
static const double HIDDEN = -1e30;
bool online_fits(Kernel *kernel, bool gpu);
bool online(Kernel *kernel, bool gpu);

// cost.c: float operations of a kernel in unscheduled form, and the bytes that it must move, for
// these values of the VARs.
void kernel_cost(Kernel *kernel, const int64_t *var, double *operations, double *bytes);

typedef struct GpuTarget GpuTarget;  // below

// heuristic.c: the schedules worth trying on a kernel in explicit form, best first, the empty one
// last; returns their number.
typedef struct {
    const char *unit;      // of matrix_units.c; NULL: none
    int lanes;             // f32 of a vector register
    int tile_m, tile_n;    // of the unit
    const char *tiles;     // a unit of tiles, where tf32 is asked for and there is one; NULL: none
    int depth, block;      // of a packed panel: rows; of rows that a thread takes: how many
    const GpuTarget *gpu;  // blocks of threads; of what is above, tiles counts; NULL: a CPU
} ScheduleTarget;
enum { CANDIDATES_MAX = 15 };
int schedule_candidates(Arena *arena, Kernel *kernel, const ScheduleTarget *target,
                        const char *candidate[CANDIDATES_MAX]);
// The best row for registers of so many lanes.
const ScheduleTarget *schedule_target(int lanes);
// Of a kernel in unscheduled form: it has sums that factor() helps, and no product to be tiled.
bool wants_factoring(const Kernel *kernel);

// edits.c: schedules like one that is there, most of them legal; kernel: after that schedule.
typedef struct {
    const char *schedule, *what;  // what: the change, for people
} Edit;
typedef LIST(Edit) EditList;
void schedule_edits(Arena *arena, const Kernel *kernel, const char *schedule, int lanes,
                    EditList *edits);

// estimate.c: a bound of the seconds that a scheduled kernel takes; cold_bytes: of what comes from
// memory and not from a cache.
typedef struct Machine {
    double computes;                 // vector instructions a second, of one thread
    double first, second;            // bytes a second that a thread reads from its caches
    double memory;                   // bytes a second that all threads read
    double first_bytes, last_bytes;  // sizes of the first and the last cache
    int lanes, threads;
} Machine;
typedef struct {
    double least;  // if all that it does overlaps
    double sum;    // if nothing does
} Bound;
Bound kernel_bound(Kernel *kernel, const Machine *machine, const int64_t *var, double cold_bytes);

// gpu.c: GPUs by name, as rows of data, with the sources of their figures.
enum { GPU_WARP = 32, GPU_SCHEDULERS = 4, GPU_ACCESS_MAX = 16 };  // lanes; of an SM; bytes of one
struct GpuTarget {
    const char *name, *product, *architecture;  // h100, H100 SXM5 80 GB, sm_90a
    int sms;
    double clock;                  // boost, a second
    int lanes;                     // FP32 lanes of an SM
    double tf32;                   // operations of tensor cores a second, dense
    int threads, blocks;           // at once on an SM
    int registers;                 // of an SM
    int64_t shared, block_shared;  // bytes of shared memory of an SM, and that a block may ask for
    double l1_rate;                // bytes a clock of an SM's L1; its shared memory gives 128
    double l2_rate, memory_rate;   // bytes a second
    double l2_bytes, memory_bytes;
    double l1_clocks, l2_clocks, memory_clocks;  // until a load's value is there
};
const GpuTarget *gpu_target(const char *name);  // NULL if there is none
const GpuTarget *gpu_target_at(int i);          // NULL behind the last one
// The row of a GPU with this product name and compute capability (90: 9.0), else of one like it.
const GpuTarget *gpu_target_like(const char *product, int capability);
// What of a launch is on one SM at a time, and why not more. registers: of a thread; 0: unknown.
typedef enum { GPU_BY_THREADS, GPU_BY_BLOCKS, GPU_BY_REGISTERS, GPU_BY_SHARED } GpuLimit;
typedef struct {
    int blocks, warps;  // 0: such a block cannot be launched
    double share;       // of the warps that an SM can hold
    GpuLimit limit;
} GpuOccupancy;
GpuOccupancy gpu_occupancy(const GpuTarget *target, int threads, int registers,
                           int64_t shared_bytes);
const char *gpu_limit_name(GpuLimit limit);
// What one instruction of a warp asks for, where the lanes in `active` access `bytes` each, 1 to
// 16: of global memory, distinct lines of 128 bytes and sectors of 32; of shared memory, whose byte
// 0 is in bank 0, the clocks that it takes: lanes that want one word share it, 8 bytes a lane are
// done by halves of a warp and 16 by quarters.
typedef struct {
    int lines, sectors;
} GpuLines;
GpuLines gpu_lines(const uint64_t address[GPU_WARP], uint32_t active, int bytes);
int gpu_wavefronts(const uint64_t address[GPU_WARP], uint32_t active, int bytes);
int gpu_quiet_wavefronts(uint32_t active, int bytes);  // if no two words were of one bank

// gpu_roofline.c: how long a kernel must take on a GPU, and what stands in its way.
// Counted over all of a launch. Instructions and requests are of warps; a request is a load or
// store of global or shared memory, by gpu_lines and gpu_wavefronts.
typedef struct {
    double flops, tensor_flops;  // a multiply-add is two
    double instructions;         // of all kinds; what is counted below is part of them
    double loads, load_lines, load_sectors;
    double stores, store_lines, store_sectors;
    double l2_sectors;                         // that L1 asks L2 for; 0: unknown, so all of them
    double memory_bytes;                       // distinct: what memory gives and takes at least
    double shared, wavefronts, conflict_free;  // requests; wavefronts; those of no bank conflicts
    // Instructions of a warp that do not wait for each other: accumulators of a thread, loads that
    // run ahead. Less than 1 is 1: each waits for the one before.
    double independent;
} GpuCounts;
typedef struct GpuProfile {
    const char *name;
    int64_t blocks,
        counted;             // counted: of so many blocks, the others being taken for alike; 0: all
    int threads, registers;  // of a block; of a thread, 0: unknown
    int64_t spilled;         // bytes of a thread that are stored for want of registers, and loaded
    int64_t shared_bytes;    // of a block
    GpuCounts counts;
} GpuProfile;
typedef enum {
    GPU_FP32,
    GPU_TENSOR,
    GPU_ISSUE,  // of instructions, one a clock and scheduler
    GPU_L1,     // and shared memory
    GPU_L2,
    GPU_MEMORY,
    GPU_ROOFS
} GpuRoof;
typedef enum { GPU_COMPUTE, GPU_BANDWIDTH, GPU_LATENCY, GPU_NO_FIT } GpuVerdict;
typedef struct {
    GpuOccupancy occupancy;
    struct {
        double amount, rate;  // of the whole GPU, a second
        double seconds;       // if nothing else took time
    } roof[GPU_ROOFS];
    GpuRoof slowest;
    // Estimates, by the model in gpu_roofline.c:
    double rounds;           // blocks of the SM that has most, by those of an even share
    double warps, latency;   // of a scheduler; clocks until a warp's next instruction
    double seconds;          // of the kernel
    double compute, memory;  // shares of these seconds that the slowest roof of that kind takes
    double stalled;          // share of a scheduler's clocks in which it has no warp to issue
    GpuVerdict verdict;
    const char *reason;  // a sentence
} GpuRoofline;
GpuRoofline gpu_roofline(Arena *arena, const GpuTarget *target, const GpuProfile *profile);
// Verdict and reason of what the other fields say.
void gpu_judge(Arena *arena, const GpuTarget *target, const GpuProfile *profile, GpuRoofline *line);
const char *gpu_roof_name(GpuRoof roof, const char **unit);
const char *gpu_verdict_name(GpuVerdict verdict);

// ---- transforms: from a kernel to a faster one -------------------------------------------------
// accumulate.c: from unscheduled to explicit form. A REDUCE becomes an accumulator in a register,
// with init, update and finish statements:
//   c[i] = (reduce add k<96 x[96*i + k])
//   =>   init s[0] = 0; for k < 96 { update s[0] = (add x[96*i + k] s[0]) }; finish c[i] = s[0]
void accumulate(Kernel *kernel);
// old (fold) x, with one rounding where it is a sum of products.
Id fold_into(Graph *graph, Op fold, Id x, Id old);

// transform.c: a schedule is text, a transform a line, `#` comments. It changes a kernel that is in
// explicit form; kernel_verify holds after each line. What a transform cannot do it refuses, with a
// fatal that names statement and loop.
//   SPLIT i 14 [guard|peel|pad|zero]
//                                i = 14*i0 + i1. Where 14 does not divide the extent: i1 gets a
//                                limit (guard); the rest gets a loop i2 (peel); all iterations run,
//                                and their accesses are guarded (pad); or they add products of 0
//                                to a sum (zero)
//   ORDER k0 i0 j0               the loops of one perfect nest, outermost first
//   FUSE i j [k ..] [as t]       i, j directly inside it and so on become one loop, i_j or t
//   THREAD i                     the iterations are shared among the threads; in a block, thread t
//                                runs iteration t, all threads may fold into one register, and
//                                several loops named together may use registers that are each
//                                thread's own
//   BLOCK i                      the iterations are a GPU's blocks of threads; `BLOCK top`: all is
//                                one block's
//   WARP w                       in a block, warp w runs iteration w
//   VECTORIZE j                  the iterations are the lanes of vectors
//   UNROLL k [8]                 the iterations are written out; 8: a loop over 8 at a time is left
//   PIPELINE w 4096              a load of w asks for what lies 4096 bytes further
//   PIPELINE k0 3 [bulk]         in a block: what loop k0 copies to shared memory first is copied
//                                two iterations ahead, to one of three places, while others
//                                compute; bulk: by sm_90's copy engine, a run an instruction
//   PIPELINE k0 through reg      what loop k0 computes and stores to shared memory first is loaded
//                                to registers an iteration ahead, and stored, to the other of two
//                                places, behind what computes with the first
//   STREAM y                     whole vectors of y, which nothing here reads, go past the caches
//   STAGE c at j0 in reg         the loops between j0 and the statements that make c are split into
//                                a nest for each statement, the copies named i1_init, i1_finish and
//                                so on; c's accumulator gets an element for each iteration
//   STAGE a at i0 over i1 k [as k i1] in L2 [convert]
//                                what a's accesses inside i0 touch while i1 and k run is copied, by
//                                loops k_a and i1_a, to a local buffer laid out in that order, and
//                                written back if it is stored to. `at top`: at the kernel's start.
//                                Of loops that only matter as a sum, `over y+v`, one element a sum;
//                                `2*x+u`, innermost: even ones first, so steps of x are a row.
//                                `as i +4 k`: 4 elements stay free behind each row of k.
//                                convert: the largest expression around the load that depends on
//                                no other loop is copied instead. Spaces: reg, own (or L1, L2),
//                                shared, once (of weights, at top: made when they are loaded)
//   COMPUTE_AT s at top over k   the accumulator s, whose value depends on no loop there but k, is
//                                computed for each k before all else; its readers read that
//   REUSE k j in own             what loop k computes that loop j, behind it, would compute again
//                                is kept for it: an exponential, a logarithm, a sine
//   RFACTOR k1 [in shared]       accumulators that k1 updates get an element for each iteration; a
//                                loop k1_fold folds them
//   RFACTOR k0 apart in shared   the same for all of a kernel whose loops hold one sum: its nest
//                                ends with k0, and another, of loops i_fold .., folds and finishes
//   DISTRIBUTE k1_fold           s += x * (sum over k1_fold of p) becomes s += sum of x * p
//   SPILL s                      s's tile is copied from registers to memory, for the nest that
//                                finishes it
//   TABULATE w at g              what codes of 4 bits read from w become while g's body runs is
//                                computed for all sixteen, by a loop w_t, and looked up
//   TENSORCORE avx2_fma 6x16 on s
//                                every nest on s becomes a tile of vector registers
//   TENSORCORE amx_bf16 32x32 on s
//                                of registers that are tiles; what was staged for it becomes bf16,
//                                loops .._range find the range of each panel, loops .._plain run
//                                in fp32 what is out of range
//   TENSORCORE mma_tf32 16x8 on s with t
//                                the six loops around s's update, in a warp loop, become a warp's
//                                product (ir.h, kernel_tile.c); what was staged for it is rounded
//                                to tf32; t and the loops named behind it are the warp's threads
//   TENSORCORE wgmma_tf32 64x128 on s with t
//                                the same of seven loops and four warps, for 8 to 256 columns: b is
//                                read from shared memory, and rounded where it is put there
void schedule_apply(Kernel *kernel, const char *schedule);
// What REUSE would keep, by the first loop's index; -1: nothing.
Id reuse_find(Kernel *kernel, Statement *first, Statement *second);

// once.c: what a scheduled kernel fills in space `once` is taken out of it: `kernel`, which fills
// the buffer that becomes its PARAM number `param` from its PARAMs `from`.
typedef struct {
    Kernel *kernel;  // unscheduled: sources, then what is filled
    int32_t sources, *from;
    int32_t to, param;  // to: the buffer before PARAMs were put in order
    DType dtype;
    int64_t elements;
} Once;
typedef LIST(Once) OnceList;
Kernel *once_take_out(Arena *arena, Kernel *kernel, OnceList *list);  // the kernel that is left
// matrix_units.c
typedef struct {
    const char *name;
    int registers;  // for a tile of accumulators, a row of b and an element of a
    int lanes;      // columns of one register
    int rows;       // of one register: 1, a vector; more, a tile
    int warps;      // a GPU's: the tile is that of so many warps; 0: a CPU's
} MatrixUnit;
const MatrixUnit *matrix_unit_find(const char *name);  // NULL if there is none

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
// The list that `at i0` or `at top` means.
Statement **line_place(const ScheduleLine *line, int word);
typedef void Transform(const ScheduleLine *line);
Transform transform_split, transform_fuse, transform_order, transform_thread, transform_block,
    transform_warp, transform_vectorize, transform_unroll, transform_pipeline, transform_stream,
    transform_stage, transform_compute_at, transform_reuse, transform_rfactor, transform_distribute,
    transform_tensorcore, transform_spill, transform_tabulate;
void transform_stage_copy(const ScheduleLine *line);                   // STAGE with `over`
void transform_pipeline_loop(const ScheduleLine *line, int32_t loop);  // PIPELINE of a loop
void transform_through(const ScheduleLine *line, int32_t loop);        // .. through registers
// transform_pipeline.c: shared memory that is filled first in each iteration of a loop, by buffer.
// Refuses what is not only read in the rest of the loop; lets a list's accesses go to one of
// several places; makes room for those.
void places_check(const ScheduleLine *line, const bool *filled, int32_t buffers, Statement *loop,
                  Statement *rest);
void places_move(const ScheduleLine *line, const bool *filled, int32_t buffers, Statement *list,
                 Index place);
void places_make(const ScheduleLine *line, const bool *filled, int32_t buffers, int64_t places);
// Cuts a loop's iterations into pieces of `factor`; returns the inner loop. tail: "guard", "peel",
// "pad".
int32_t split_loop(const ScheduleLine *line, int32_t loop, int64_t factor, const char *tail);

// transform_warps.c: TENSORCORE, where the tile is that of warps.
void transform_warps(const ScheduleLine *line, const MatrixUnit *unit, int64_t n, int32_t buffer);

// transform_round.c: what is stored to the buffer is rounded to tf32, there or where it was made.
void transform_round(const ScheduleLine *line, int32_t buffer);

// transform_tiles.c: TENSORCORE, where a register has rows.
void transform_tiles(const ScheduleLine *line, const MatrixUnit *unit, int64_t m, int64_t n,
                     int32_t buffer);

// transform_legal.c: which iterations may change places.
// Two different iterations of `loop` never touch one element, the first through a, the second
// through b, whatever the loops in `varying` are at.
bool legal_disjoint(const Kernel *kernel, int32_t loop, LoopSet varying, Index a, Index b);
// The index means the same everywhere: it gathers nothing from memory that is written.
bool legal_element(const Kernel *kernel, Index index);
// The store is `element = element (fold) x`, where x does not read the buffer. fold: ADD, MAX, MUL.
bool legal_fold(const Kernel *kernel, const Statement *store, Op *fold);
// Nothing in the list's trees touches the buffer but such stores, all of one fold.
bool legal_folds(Kernel *kernel, Statement *list, int32_t buffer, Op *fold);
// By buffer: it is local and used only in this list, each run of which stores what it reads.
bool *legal_privates(Kernel *kernel, Statement *list);
// May all iterations run on different threads, blocks or warps (kind); as one vector; in any order?
// NULL, or a statement that stands against it.
Statement *legal_parallel(Kernel *kernel, Statement *loop, LoopKind kind);
Statement *legal_vector(Kernel *kernel, Statement *loop);
Statement *legal_reorder(Kernel *kernel, LoopSet nest, Statement *body);

#endif
