/* compiled.h - inside the engine: what the passes fill in, one after the other, and what a call
 * replays. */
#ifndef PICOGRAD_COMPILED_H
#define PICOGRAD_COMPILED_H
#include "codegen/codegen.h"
#include "engine/engine.h"
#include "runtime/runtime.h"
#include "schedule/schedule.h"

// One kernel as compiled; the calls of a module whose kernels are equal share it.
typedef struct {
    Arena *arena;          // its own: a pass works on several units at once
    Kernel *kernel;        // unscheduled, then scheduled, without what is made once
    const char *text;      // unscheduled
    const char *tuned;     // what a search found; NULL: nothing
    const char *compiler;  // likewise; NULL: the usual one
    const char *schedule;  // what was applied to it
    Program *program;
    char *source;
    char symbol[SYMBOL_SIZE];
    KernelFunction *function;
    SimtFunction *const *simt;  // of each launch, as is the next
    const CudaFunction *cuda;
    OnceList once;
    int32_t *once_unit;  // of each: the unit that makes it
} Unit;

// What PG_DEBUG=1 tells.
typedef struct {
    int from_cache;           // kernels
    double compile_seconds;   // all of engine_compile
    int64_t temporary_bytes;  // of the memory plan
} CompiledInfo;

// What a profile says of a kernel beside its counts.
typedef struct {
    const Unit *unit;
    Kernel *asked;      // unscheduled
    int number, calls;  // calls: 0: it is told at another
} Profiled;

// What a GPU is given for one kernel: blocks of threads, one launch after the other.
typedef struct {
    Index extent;           // of blocks, in Compiled's indices
    int64_t blocks, given;  // in this call; what the graph has
    int32_t threads;
    SimtFunction *simt;
    const CudaFunction *cuda;
} Grid;

// One kernel of a replay.
typedef struct {
    KernelFunction *function;
    int32_t grids;
    Grid *grid;  // on a GPU
    int64_t block_bytes;
    const char *name;
    SimtRange *range;  // each PARAM's memory and the workspace, where simt is to check; else NULL
    const Profiled *profiled;  // NULL: nobody asked
    int32_t values;            // of each PARAM, of the workspace and of each VAR
    uint64_t *value, *given;   // in this call; what the graph has
    void **param;              // where each value is
    int32_t vars;
    bool *reads;            // by VAR: the kernel reads it
    int32_t params, *slot;  // slot: of each PARAM
    void **buffer;          // each PARAM's memory in this call
    PgArgs args;
} Launch;

// Buffers that a call works in.
typedef struct {
    int64_t block, workspace;
} Room;

// What differs from device to device. -1: with a message.
typedef struct {
    int (*compile)(Compiled *compiled);  // the functions of its units
    // Around what a call does: room of at least so many bytes.
    int (*enter)(Compiled *compiled, Room *room, int64_t block_bytes, int64_t workspace_bytes);
    void (*leave)(Room *room);
    // Where a kernel finds a buffer.
    int (*address)(const Compiled *compiled, int64_t buffer, bool written, void **at);
    int (*replay)(Compiled *compiled, const int64_t *var);  // starts all launches
    int (*once)(Compiled *compiled, const Launch *launch);  // of a GPU: starts this one
    void (*forget)(Compiled *compiled);                     // NULL: it has nothing to free
} Backend;
extern const Backend backend_cpu, backend_simt, backend_cuda;

struct Compiled {
    const Device *device;
    const Backend *backend;
    int outputs, effects;
    // what the passes make; gone afterwards, unless PG_DUMP, PG_DEBUG=2 or a watch will look at it
    Arena *arena;  // NULL: gone
    Graph *graph;
    Id *output, *effect;  // effect: behind the outputs, in one array
    Module *module;
    LIST(Unit) units;
    int32_t *unit;  // of each call
    CompiledInfo info;
    // what a call replays
    Arena *kept;
    int32_t launches, slots;
    int32_t own_slots;  // those before what `load` adds, which comes retained
    Launch *launch;
    Slot *slot;
    int32_t *result;                  // slot of each output
    bool *written;                    // of each slot: some kernel writes it
    void **memory;                    // of each slot
    int64_t bound;                    // buffer_side_changes() when BUFFERs were bound; -1: never
    IndexTable *indices;              // of grids
    bool called, plain;               // plain: without a graph
    CudaGraph *step;                  // all launches as one
    int64_t own_bytes, shared_bytes;  // of workspace: each thread's, and for all
    double *seconds;                  // of each launch, if the passes' work is still there
};

// One row a pass; the loop over them in realize.c dumps and times. What a pass makes is verified
// where it is made: the graph as it comes in, a kernel as its loops change, a program when lowered.
typedef struct {
    const char *name, *about;        // about: what there is after it
    int (*run)(Compiled *compiled);  // -1 with error_text()
} Pass;

// once.c: the buffer that a unit fills from these buffers, which are weights: made at the first
// call, found later; retained for the caller. once_fill() fills all that were made.
// -1 if a GPU has no room for it.
int64_t once_buffer(Compiled *compiled, const Unit *unit, const Once *once, const int64_t *from);
void once_fill(void);
void once_sweep(void);          // forgets what nobody retains any more
int64_t once_live_bytes(void);  // of all that is laid out, for tests and metrics
// realize.c: from unscheduled to explicit form, as schedules take it; what the heuristic aims at.
void unit_explicit(Kernel *kernel);
ScheduleTarget unit_target(void);

Program *unit_lower(Arena *arena, const Kernel *kernel);
char *unit_render(Arena *arena, const Program *program, const char *comment,
                  char symbol[SYMBOL_SIZE]);

bool unit_is_gpu(void);  // what is compiled now is for one
// gpu.c: the figures of the GPU that is computed on; of simt, those of PG_SIMT_GPU, else an H100's.
const GpuTarget *gpu_row(void);

// call.c: what backends that use memory of the process share.
int host_enter(Compiled *compiled, Room *room, int64_t block_bytes, int64_t workspace_bytes);
void host_leave(Room *room);
int host_address(const Compiled *compiled, int64_t buffer, bool written, void **at);

// gpu.c: what GPUs share.
void gpu_keep(Compiled *compiled, Arena *arena, const Unit *unit, Launch *launch);
void gpu_bind(const Compiled *compiled, Launch *launch, const int64_t *var);  // fills its values
// Has a unit that makes a weight fill the last of these buffers.
int gpu_fill(Compiled *compiled, const Unit *unit, int32_t params, const int64_t *buffer);

// profile.c
bool profile_is_wanted(void);  // what is compiled is to be checked, and the passes' work kept
void profile_keep(const Compiled *compiled, int32_t call, Launch *launch);
// Runs a few blocks of a launch and tells of it; -1 with what they did wrong.
int profile_launch(const Launch *launch, int32_t number);

// dump.c
void dump_pass(const Compiled *compiled, const Pass *pass);
void dump_units(const Compiled *compiled, int level);
void dump_times(const Compiled *compiled, const int64_t *var);  // and tells the watch
bool dump_is_watched(void);
#endif
