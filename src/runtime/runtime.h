/* runtime.h - where kernels run: buffers, the reference interpreter, the chunk interpreter, the
 * kernel library, the compiler and its cache, a GPU on the CPU. */
#ifndef PICOGRAD_RUNTIME_H
#define PICOGRAD_RUNTIME_H
#include "ir/ir.h"

// ---- buffer.c: memory --------------------------------------------------------------------------
// Reference-counted, named by ids that are never used again; 64-byte aligned, readable for 64 bytes
// past the end. Thread-safe.
// A new one has count 1 and is zeroed; a large one becomes resident page by page as it is written.
// Fatal with the sizes if there is no memory.
int64_t buffer_new(size_t bytes);
int64_t buffer_scratch(size_t bytes);  // the same, not zeroed: for what is written as a whole
// Memory of somebody else's, who is told by release(owner), if not NULL, when its count is 0.
int64_t buffer_wrap(void *at, size_t bytes, void (*release)(void *owner), void *owner);
void buffer_retain(int64_t id);
void buffer_release(int64_t id);
int64_t buffer_references(int64_t id);
// Memory here, after what a GPU has done to it, until a GPU next writes it. Fatal if that failed.
void *buffer_data(int64_t id);        // to read and write
const void *buffer_read(int64_t id);  // to read: what a GPU has of it stays valid
// The same on a GPU: its address there, after what was written here; 0 with a message.
typedef struct Cuda Cuda;
uint64_t buffer_on_device(int64_t id, Cuda *gpu, bool will_write);
bool buffer_is_there(int64_t id);   // it has memory on a GPU
void buffer_leave_gpu(int64_t id);  // gives that back, if its bytes are here as well
int64_t buffer_side_changes(void);  // while it stays, so do addresses and which sides are valid
size_t buffer_bytes(int64_t id);
int64_t buffer_version(int64_t id);  // starts at 0
int64_t buffer_advance(int64_t id);  // the next version, after an ASSIGN
int64_t buffer_live_bytes(void);     // of all buffer_new still alive, for tests and metrics

// ---- reference.c: the oracle -------------------------------------------------------------------
// Walks a tensor graph element by element: slow, and shares no code with any lowering.
typedef struct {
    void *(*buffer)(void *context, int64_t id);     // BUFFER's memory
    void *(*param)(void *context, int64_t number);  // PARAM's memory
    int64_t (*var)(void *context, int32_t var);     // VAR's value
    void *context;
} Binding;
// Writes the value of node `output` to `to`, contiguous in the sizes that it has under these VARs.
// An ASSIGN writes its buffer.
void reference_run(const Graph *graph, Id output, const Binding *binding, void *to);

// ---- interpreter.c: kernels without a compiler -------------------------------------------------
// Runs a kernel in unscheduled form, over chunks that fit the first-level cache.
void interpret(const Kernel *kernel, void *const *buffer, const int64_t *var);
// One expression of a kernel, without its statements. Each loop is where interpreter_move put it
// last, at first at 0.
typedef struct Interpreter Interpreter;
Interpreter *interpreter_new(Arena *arena, const Kernel *kernel, void *const *buffer,
                             const int64_t *var);
void interpreter_move(Interpreter *interpreter, int32_t loop, int64_t position);
// The values at all points of a box of loops, the first one outermost, in their compute type.
void interpreter_box(Interpreter *interpreter, Id value, int loops, const int32_t *loop,
                     const int64_t *first, const int64_t *extent, void *to);

// ---- compile.c: C text to a loaded function ----------------------------------------------------
typedef struct PgArgs {
    void *const *buffer;  // PARAMs in order
    const int64_t *var;   // VARs of the kernel's graph
    void *workspace;      // own_bytes a thread, then shared_bytes
    void (*wait)(Barrier *barrier, int thread);
} PgArgs;
typedef void KernelFunction(const PgArgs *args, int thread, int threads, Barrier *barrier);
typedef struct {
    const char *symbol;        // pg_k_<hash of the source>
    const char *source;        // C, without includes
    const char *compiler;      // its path; NULL: compiler_path's
    const char *flags;         // more of them, which win; NULL: none
    KernelFunction *function;  // filled in; stays loaded until the process ends
    void *object;              // filled in, for compile_forget
    bool from_cache;           // filled in
} CompileUnit;
char *compiler_path(Arena *arena);  // PG_CC, else cc, gcc, clang on PATH; NULL with a message
bool compiler_available(void);
// compiler_path's first, then the other compilers on PATH, unless PG_CC names one; their number.
enum { COMPILERS_MAX = 3 };
int compiler_choices(Arena *arena, const char *choice[COMPILERS_MAX]);
// Runs a compiler process a core; -1 with the compiler's first error.
int compile_units(CompileUnit *unit, int count);
// For a search: what is compiled is not cached, and unloaded by compile_forget. Different sources.
int compile_trials(CompileUnit *unit, int count);
void compile_forget(CompileUnit *unit, int count);
char *compiler_key(Arena *arena, const char *path);  // path, mtime, size, flags; NULL: a message
// For PG_DEBUG; NULL with the compiler's first error.
char *compiler_assembly(Arena *arena, const char *source);
// Of a compiler's log the line that says what is wrong, else the first one.
const char *compiler_error(Arena *arena, const char *log);

// ---- nvrtc.c: CUDA C++ to machine code of an NVIDIA GPU ----------------------------------------
typedef struct {
    const char *name;  // extern "C", as the text has it
    int registers;     // of a thread
    int64_t stack;     // bytes of a thread, spills and arrays that are indexed at run time
    int64_t spill_stores, spill_loads;
    int64_t shared;  // bytes of a block, without what a launch adds
} NvrtcKernel;
typedef struct {
    const char *name;  // for messages
    const char *source;
    const char *arch;     // "sm_80"
    const void *cubin;    // filled in, as is what follows; in the arena
    size_t size;          // of the cubin, bytes
    NvrtcKernel *kernel;  // in the compiler's order
    int kernels;
    const char *log;  // ptxas's, which those come from; also what it finds slow
    bool from_cache;
} NvrtcUnit;
bool nvrtc_available(void);  // if not, error_text says how to get it
// Units on all threads at once; -1 with the first error: the unit's name, the line, what is wrong.
int nvrtc_compile(Arena *arena, NvrtcUnit *unit, int count);

// ---- simt.c: a GPU on the CPU ------------------------------------------------------------------
// What a kernel of prelude_gpu.c's is given, which declares the same.
typedef struct {
    uint32_t word[16];
} SimtLane;  // what a lane has for its warp
typedef struct SimtThread SimtThread;
struct SimtThread {
    int32_t thread, block, blocks, threads;
    char *shared;
    SimtLane *give;
    // Waits for the others; then those of the warp's lanes, from its first on.
    const SimtLane *(*meet)(SimtThread *self, int32_t where);
    void (*copy)(SimtThread *self, void *to, const void *from, int32_t bytes, int32_t there);
    void (*commit)(SimtThread *self);
    void (*settle)(SimtThread *self, int32_t groups);
    // SIMT_INIT ..: of a barrier for bytes, with a count, bytes or a parity
    void (*arrival)(SimtThread *self, int32_t what, void *at, int32_t value);
    void (*bulk)(SimtThread *self, void *to, const void *from, int32_t bytes, void *at);
    void (*product)(SimtThread *self, float *c, const float *a, int64_t b, int32_t columns);
    void (*order)(SimtThread *self, int32_t what);  // groups to wait for, or SIMT_FENCE ..
    void (*access)(SimtThread *self, const void *at, int64_t bytes, int32_t write,
                   const void *site);  // of texts that were compiled for checks
};
enum { SIMT_INIT, SIMT_INIT_FENCE, SIMT_EXPECT, SIMT_WAIT };
enum { SIMT_FENCE = -1, SIMT_COMMIT = -2, SIMT_SHOW = -3 };
typedef void SimtFunction(SimtThread *self, void *const *param);
// CompileUnit.flags. A thread's code is scalar. GCC 12 turns comparisons of neighbours into masks
// of -1 where 1 was meant (x / x of four lanes); -O1 compiles in half the time.
#define SIMT_FLAGS "-O1 -fno-tree-slp-vectorize"
enum { SIMT_SHARED_MAX = 227 << 10 };  // bytes: sm_90's
// What nothing was written to holds NaNs: shared memory, and where a copy is still under way to, or
// a product.
enum { SIMT_UNWRITTEN = 0x7fdead00, SIMT_UNDER_WAY = 0x7fdead01, SIMT_SUMMING = 0x7fdead02 };
// Runs a compiled kernel; `param` is an array of pointers to its arguments. -1 with what is wrong
// in it, after which results are undefined.
int simt_launch(SimtFunction *function, int64_t blocks, int threads, int64_t shared_bytes,
                void *const *param);

// ---- simt_check.c: the same, slowly, where every access is told --------------------------------
// A CompileUnit's source and flags for it. A helper's accesses are those of its caller's line, so
// all that may be is inlined; the tab keeps the definition one word.
char *simt_checked_source(Arena *arena, const char *source);
#define SIMT_CHECKED_FLAGS                                                    \
    "-O0 -fsanitize=thread -DSIMT_QUIET=__attribute__((no_sanitize_thread)) " \
    "-Dinline=inline\t__attribute__((always_inline))"
typedef struct {
    const char *name;  // for messages
    const void *at;
    int64_t bytes;
    int grain;  // bytes of an element: two threads may write to neighbours
} SimtRange;    // memory that a kernel is given
typedef struct {
    // Requests are of a warp, bytes what its lanes asked for; by gpu_lines and gpu_wavefronts.
    int64_t loads, load_lines, load_sectors, load_bytes;
    int64_t block_sectors;  // of loads, where a block asks for each once
    int64_t stores, store_lines, store_sectors, store_bytes;
    int64_t
        memory_bytes;  // of elements that were read before they were written, and of written ones
    int64_t shared, wavefronts, conflict_free, shared_bytes;  // requests of shared memory
    // Instructions of a warp. A copy is also a load and a request of shared memory. mmas: of 16 x 8
    // by 8 x 8; a product of four warps is several, and reads wavefronts without requests.
    int64_t barriers, warp_barriers, shuffles, ballots, mmas, copies;
} SimtCounts;
// -1 also for what hardware lets pass: an access outside of the ranges, of shared memory that
// nothing was written to, of what a copy is still under way to; two threads' accesses to a place,
// one of them a write, with no barrier between; threads that meet at different places.
int simt_check(SimtFunction *function, int64_t blocks, int threads, int64_t shared_bytes,
               void *const *param, int ranges, const SimtRange *range, SimtCounts *counts);
// The same for blocks first, first + step ... of the grid alone: the others are not run.
int simt_check_some(SimtFunction *function, int64_t blocks, int64_t first, int64_t step,
                    int threads, int64_t shared_bytes, void *const *param, int ranges,
                    const SimtRange *range, SimtCounts *counts);

// ---- pool.c: memory of a device, kept and used again -------------------------------------------
typedef struct {
    uint64_t at;    // an address of the device, a multiple of 512
    int64_t bytes;  // as they were asked for
} DeviceMemory;
typedef struct {
    int (*get)(void *context, int64_t bytes, uint64_t *at);  // -1 where there is no room
    void (*put)(void *context, uint64_t at);
    int (*settle)(void *context);  // until nothing uses what was put back; -1: not now
    void *context;
} PoolSource;
typedef struct Pool Pool;  // thread-safe
Pool *pool_new(const PoolSource *source);
void pool_free(Pool *pool);
// NULL if there is no room, also after all that is free went back to the source.
const DeviceMemory *pool_get(Pool *pool, int64_t bytes);
void pool_put(Pool *pool, const DeviceMemory *memory);
int64_t pool_give_back(Pool *pool);         // segments without a used block; their bytes
int64_t pool_live_bytes(const Pool *pool);  // asked for and not put back
int64_t pool_held_bytes(const Pool *pool);  // from the source

// ---- cuda.c: NVIDIA's GPUs ---------------------------------------------------------------------
typedef struct {
    char name[128];
    int major, minor;         // compute capability: sm_90 is 9, 0
    int processors;           // multiprocessors
    int clock, memory_clock;  // kHz
    int memory_bits;          // of the bus
    int l2, shared;           // bytes; shared: that a block may have
    int64_t memory;           // bytes
    int version;              // of CUDA, by the driver: 13000 is 13.0
} CudaInfo;
int cuda_devices(void);  // how many; -1: there is no driver, or no GPU
int cuda_info(int device, CudaInfo *info);
// A GPU in use, by any number of threads; it stays open. NULL with a message. All work below is
// done in the order of its calls; only what says so waits for it.
Cuda *cuda_open(int device);
const CudaInfo *cuda_facts(const Cuda *gpu);
int cuda_wait(Cuda *gpu);  // until all work is done; -1 also for a fault of an earlier kernel
// NULL with what was asked for and what is free. It holds anything, in a hostile build NaN.
const DeviceMemory *cuda_get(Cuda *gpu, int64_t bytes);
void cuda_put(Cuda *gpu, const DeviceMemory *memory);
int64_t cuda_give_back(Cuda *gpu);   // to the driver, what is not in use; its bytes
int64_t cuda_live_bytes(Cuda *gpu);  // of all cuda_get not yet put back
int cuda_room(Cuda *gpu, int64_t *free_bytes, int64_t *total_bytes);  // by the driver
// After it, `from` may be changed.
int cuda_write(Cuda *gpu, uint64_t to, const void *from, int64_t bytes);
int cuda_read(Cuda *gpu, void *to, uint64_t from, int64_t bytes);  // waits
int cuda_copy(Cuda *gpu, uint64_t to, uint64_t from, int64_t bytes);
int cuda_fill(Cuda *gpu, uint64_t at, uint8_t value, int64_t bytes);
// Kernels of a cubin, whose name is for messages. A launch has as many bytes of shared memory as
// its function was found with; param: the address of each argument's value.
typedef struct CudaModule CudaModule;
typedef struct {
    const char *name;
    void *handle;
    int64_t shared_bytes;
} CudaFunction;
CudaModule *cuda_module(Cuda *gpu, const char *name, const void *cubin);
void cuda_module_free(Cuda *gpu, CudaModule *module);
int cuda_function(Cuda *gpu, CudaModule *module, const char *name, int64_t shared_bytes,
                  CudaFunction *function);
int cuda_launch(Cuda *gpu, const CudaFunction *function, int64_t blocks, int threads,
                void *const *param);
// The time between two points of the work.
typedef struct CudaEvent CudaEvent;
CudaEvent *cuda_event(Cuda *gpu);
void cuda_event_free(Cuda *gpu, CudaEvent *event);
int cuda_event_record(Cuda *gpu, CudaEvent *event);
int cuda_event_seconds(Cuda *gpu, CudaEvent *first, CudaEvent *second, double *seconds);  // waits
// Kernels, one after another, that the GPU is given at once. What they use must live as long. A
// launch may be changed, from the graph's next launch on; one of no blocks is left out.
typedef struct {
    const CudaFunction *function;
    int64_t blocks;
    int threads;
    void *const *param;
} CudaLaunch;
typedef struct CudaGraph CudaGraph;
CudaGraph *cuda_graph(Cuda *gpu, int launches, const CudaLaunch *launch);  // NULL with a message
int cuda_graph_change(Cuda *gpu, CudaGraph *graph, int number, const CudaLaunch *launch);
int cuda_graph_launch(Cuda *gpu, CudaGraph *graph);
void cuda_graph_free(Cuda *gpu, CudaGraph *graph);

// ---- device.c: where compiled functions run ----------------------------------------------------
typedef enum { DEVICE_CPU, DEVICE_SIMT, DEVICE_CUDA } DeviceKind;
enum { DEVICE_CAPABILITY = 8 };  // of a GPU, at least 8.0: it copies asynchronously, and has tf32
typedef struct {
    DeviceKind kind;
    int number;
    const char *name;
    Cuda *gpu;  // DEVICE_CUDA's
} Device;       // one of each, which stays
// Of all that is compiled from now on: "cpu", "simt", "cuda", which is "cuda:0"; -1 with what to
// do.
int device_set(const char *name);
bool device_is_name(const char *name);  // it may be one, here or elsewhere
const Device *device(void);             // the CPU, unless PG_DEVICE or device_set says another

// ---- target.c: the CPU -------------------------------------------------------------------------
typedef struct {
    const char *name;  // "avx512", "avx2", "c", "amx-c"
    int lanes;         // f32 lanes of a register
    int registers;
    const char *flags;  // for the compiler
    bool amx;           // tiles of bf16, permitted by the kernel; or their sums in plain C
} Target;
const Target *target(void);  // best this CPU has, or PG_ISA's

// ---- cache.c: compiled kernels on disk, in cache_folder()/kernels ------------------------------
typedef struct {
    const char *folder;
    int64_t entries, bytes;
} CacheInfo;
int cache_info(Arena *arena, CacheInfo *info);  // -1 if there can be no cache
int64_t cache_clear(void);                      // how many entries were removed
// The path of an entry whose content is what was added, else NULL.
char *cache_find(Arena *arena, const char *name);
void *cache_read(Arena *arena, const char *name, size_t *size);  // that content, else NULL
// One file under several names. Returns the path of the first; NULL, with one warning a
// process, if the cache cannot be written.
char *cache_add(Arena *arena, int count, const char *const *name, const void *bytes, size_t size);

// ---- library/: the matmul of eager mode, one source for all instruction sets -------------------
// c[m][n] = sum over k of a[m][k] * b[k][n] in f32.
typedef struct {
    int64_t m, n, k;
    const float *a;
    int64_t a_m, a_k;  // strides, in elements
    const float *b;
    int64_t b_k, b_n;
    float *c;
    int64_t c_m, c_n;
    bool accumulate;  // c += instead of c =
} Matmul;
void library_matmul(const Matmul *matmul);  // on all threads of the pool
// The machine's roofs, on the calling thread. They return the operations and bytes that they did;
// *result is to be used, or the compiler could leave them out.
typedef struct {
    double (*multiply_add)(int64_t steps, float *result);  // in registers
    // all of `at` that often; it is aligned to 64, `bytes` a multiple of 512
    double (*read)(const void *at, size_t bytes, int64_t times, uint32_t *result);
    double (*tiles)(int64_t steps);  // AMX's of bf16, where target()->amx; NULL: not among these
} RoofFunctions;
const RoofFunctions *library_roofs(void);
#endif
