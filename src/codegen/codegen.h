/* codegen.h - from a kernel to text: the program dialect, lowering to it, the C renderer. */
#ifndef PICOGRAD_CODEGEN_H
#define PICOGRAD_CODEGEN_H
#include "schedule/schedule.h"

// ---- program.c: the program dialect ------------------------------------------------------------
// A Program is an ordered list of steps, close to C. A step's id is its place in the list; %7 is
// the value of step 7. Values are assigned once; what changes lies in buffers and in variables.
//
// Arithmetic is in f32, i32, u32, i64 and bool. The other dtypes are storage: their values are only
// loaded, stored, cast to and from, and bitcast; narrow integers compute as i32, kept in range.
// A value with several lanes is a vector; a bool vector is a mask of 0 and -1 in i32 lanes. A
// variable of 1024 bytes is a tile, which only TILE steps touch.
typedef struct {
    DType dtype;
    int lanes;
} ValueType;
typedef enum {
    STEP_LET,      // value = op(source...)
    STEP_GET,      // value = variable
    STEP_SET,      // variable = source[0], or one lane of it
    STEP_STORE,    // buffer[index] = source[0], if (or in the lanes where) condition
    STEP_LAUNCH,   // of a GPU: it is one of `index` blocks of `threads` threads
    STEP_FOR,      // 0 <= it < index, and < limit
    STEP_IF,       // condition
    STEP_ONCE,     // thread 0 alone
    STEP_END,      // of the innermost LAUNCH, FOR, IF or ONCE
    STEP_FOLD,     // value = source[0] of all threads that share, folded by op
    STEP_BARRIER,  // all threads meet; they all come here
    STEP_AHEAD,    // asks for the cache line that lies `integer` bytes behind buffer[index]
    STEP_COPY,     // buffer[index] = buffer tile[0][at[0]], 0 where no condition; not at once; so
                   // many elements as the type has lanes, or `integer` by the copy engine
    STEP_COMMIT,   // the copies since the last one are a group
    STEP_SETTLE,   // waits for all of this thread's groups but the last `integer`
    STEP_MMA,      // a warp's product: registers tile[0] from at[0] on += tile[1] * tile[2]
    // An MMA with columns begins behind a BEGIN, is of the group that ends at the next COMMIT, and
    // is done behind a WAIT, which waits for all groups.
    STEP_MMA_BEGIN,
    STEP_MMA_COMMIT,
    STEP_MMA_WAIT,
    STEP_MMA_HOLD,  // registers tile[0] are computed up to here, and not behind it
    STEP_SHOW,      // what this thread has written to the block's memory is shown to MMAs
    STEP_TILE,      // tile[0] = rows of buffer[index], or those = tile[0], or tile[0] += product
} StepKind;
// Whose the iterations of a loop are; who folds or meets.
typedef enum {
    SHARE_NONE,
    SHARE_THREADS,  // of a CPU: each has a part
    SHARE_BLOCK,    // iteration t is thread t's of the block; those behind the last wrap around
    SHARE_WARPS,    // warp w's of the block
    SHARE_LANES,    // thread t's of the warp
} Share;
typedef struct {
    StepKind kind;
    Op op;              // LET: CONST INDEX LOAD VEC LANE PERM CAST BITCAST, or an elementwise one
    ValueType type;     // of the value; LOAD: the buffer's, or i32 lanes of four u8 each
    int32_t source[3];  // steps; -1: none
    int32_t condition;  // LOAD, STORE, IF: a bool, or a mask over the lanes; -1: always
    int32_t of;         // LOAD, STORE: buffer. GET, SET: variable
    int32_t lane;       // LANE, SET: which (SET: -1 for all). PERM: lane l takes l ^ lane
    Index index;        // LOAD, STORE, INDEX: where lanes differ, of lane_atom. FOR: the extent
    Index limit;        // FOR; -1: none
    Share share;        // FOR, FOLD, BARRIER, ONCE
    int32_t counter;    // SHARE_THREADS: they take them as they come, by this one of the barrier's
                        // counters; -1: each has a fixed part, as thread_share gives it
    int32_t threads;    // LAUNCH
    int32_t steps;      // FOR: iterations that the C compiler is told to unroll; 0: as it likes
    const char *name;   // FOR
    TileKind does;      // TILE
    int32_t tile[3];    // TILE: variables; PRODUCT: the sum, then its factors. MMA: buffers
    Index at[3];        // MMA, COPY
    int64_t columns;    // MMA: of four warps, so many, tile[2] in the block's memory; 0: of one
    int64_t apart[2];   // its pieces there, along k and along the columns; elements
    int64_t stride;     // TILE: elements from row to row
    double number;      // CONST f32
    int64_t integer;    // CONST of the other dtypes
} Step;
typedef struct {
    const char *name;
    DType dtype;
    Space space;   // PARAM, REGISTER (an array on the stack), THREAD or SHARED
    int64_t size;  // elements
    bool written;
    bool restricted;  // while the program runs, its memory is changed through this name alone
    bool streams;     // whole vectors are stored past the caches
    int64_t offset;   // THREAD, SHARED: bytes into the thread's, the shared part of the workspace
    bool on_chip;     // SHARED: bytes into the memory of a GPU's block
} ProgramBuffer;
typedef struct {
    const char *name;
    ValueType type;
} Variable;
typedef struct {
    Arena *arena;
    const char *name;
    // Atoms: LOOP is a FOR's step or lane_atom, VAR a VAR, VALUE a step with an integer value.
    IndexTable *indices;
    LIST(Var) vars;
    LIST(ProgramBuffer) buffers;  // PARAMs first, in ABI order
    LIST(Variable) variables;
    LIST(Step) steps;
    int64_t own_bytes, shared_bytes;  // of workspace: a thread's, and for all; multiples of 64
    int64_t chip_bytes;               // of the memory of a GPU's block
    int64_t came;                     // bytes into it: barriers for groups of bulk copies
} Program;
static inline bool type_is_tile(ValueType type) {
    return type.lanes * dtypes[type.dtype].bytes == UNIT_ROWS * UNIT_BYTES;
}
static inline bool step_has_value(const Step *step) {
    return step->kind == STEP_LET || step->kind == STEP_GET || step->kind == STEP_FOLD;
}
static inline int step_places(const Step *step) {  // of `at`
    return step->kind == STEP_MMA ? 3 : step->kind == STEP_COPY;
}
static inline bool step_opens(const Step *step) {
    return step->kind == STEP_FOR || step->kind == STEP_IF || step->kind == STEP_ONCE ||
           step->kind == STEP_LAUNCH;
}
DType dtype_computed(DType dtype);                     // f32 for f16, i32 for u8, ...
Index lane_atom(IndexTable *indices, int lanes);       // the lane's number, in a vector of so many
int index_lanes(const Program *program, Index index);  // 1 where all lanes agree
// By step: it has an effect, or a value that one with an effect needs. Others are not written.
bool *program_used(Arena *arena, const Program *program);
char *program_print(Arena *arena, const Program *program);
void program_verify(const Program *program);  // fatal with the step: scopes, types, lanes

// ---- lower.c, expression.c, scan.c: kernel to program ------------------------------------------
typedef struct {
    // By PARAM: its memory is another PARAM's too, and is written. NULL: of none.
    const bool *aliased;
    bool gpu;  // launches of blocks, scalars; else threads of a CPU, and vectors
} LowerOptions;
// The kernel is in explicit form: no REDUCE, no EXP2, LOG2 or SIN are left.
Program *lower(Arena *arena, const Kernel *kernel, const LowerOptions *options);

// ---- render_c.c, prelude.c: program to C -------------------------------------------------------
// C11 with GCC's vectors and no includes, which exports one function, runtime.h's KernelFunction.
// The function's name goes to symbol: pg_k_ and a hash of the text. One file may hold several such
// texts.
enum { SYMBOL_SIZE = 24 };
char *render_c(Arena *arena, const Program *program, const char *comment, char symbol[SYMBOL_SIZE]);
// The types and functions that `body` uses, by their names: f32x8, fma_f32x8, f16_to_f32x8 ...
// cuda: as C and as CUDA C, with what a GPU's threads do together (prelude_gpu.c).
void prelude_add(Text *text, Arena *arena, const char *body, bool cuda);
bool prelude_has(const char *name);  // a name of its own

// ---- prelude_gpu.c: what kernels for GPUs are written with beside it ----------------------------
// KERNEL, SELF and ME, and the wrappers of PTX that `body` names. It needs prelude.c's f32, i32,
// u32 and i64. One text for NVRTC (__CUDACC__) and, with a SimtThread *self, for the C compiler,
// where SIMT_QUIET is of functions whose accesses are no part of a kernel.
void prelude_gpu_add(Text *text, Arena *arena, const char *body);
bool text_needs_sm_90(const char *text);  // it names what no GPU before sm_90 has
bool prelude_gpu_has(const char *name);   // a name of its own

// Bytes of memory on the chip that a block of a GPU takes.
int64_t program_block_bytes(const Program *program);

// ---- work.c: what a launch does, over the whole grid, for these values of the VARs --------------
// By the program alone: what L1 holds and memory gives (l2_sectors, memory_bytes) is not known.
GpuCounts launch_work(const Program *program, int launch, const int64_t *var);
int program_launches(const Program *program);
// Seconds that all its launches take on a GPU, at least and by estimate, if they move so many bytes
// of memory. Fatal if a block does not fit.
Bound launches_bound(const Program *program, const GpuTarget *target, double memory_bytes,
                     const int64_t *var);

// ---- scalars.c, render_cuda.c: programs for GPUs -----------------------------------------------
// The same program without vectors, but for loads and stores of 4, 8 or 16 bytes at once.
Program *program_scalars(Arena *arena, const Program *program);
// The common subset of C11 and CUDA C++: a kernel pg_k_<hash>_<n> for each launch n, which takes
// the PARAMs, the workspace and the VARs; where __CUDACC__ is not defined also simt_<hash>: by
// launch, functions that take them as cuLaunchKernel does.
char *render_cuda(Arena *arena, const Program *program, const char *comment,
                  char symbol[SYMBOL_SIZE]);
#endif
