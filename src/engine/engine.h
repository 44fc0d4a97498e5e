/* engine.h - from a graph to numbers, in either execution model. The only layer that knows the
 * whole pipeline. */
#ifndef PICOGRAD_ENGINE_H
#define PICOGRAD_ENGINE_H
#include "ir/ir.h"

// ---- eager.c -----------------------------------------------------------------------------------
// Computes each output into a new contiguous buffer (count 1) whose id goes to result[i]. Leaves
// are CONST, IOTA and BUFFER (by id; the memory's current content), VARs do not occur. An output
// that is an ASSIGN writes its buffer in place and gives that buffer's id, retained. No compiler is
// needed.
void engine_eager(const Graph *graph, int outputs, const Id *output, int64_t *result);

// ---- realize.c, call.c -------------------------------------------------------------------------
// Compiles once, for all values of the VARs and all contents of BUFFERs and PARAMs. ASSIGNs named
// in `effects` happen at every call, after all readers of the bytes that they replace. NULL with
// error_text() if the compiler fails.
//   PG_DUMP=PASS[,PASS...] or all  the module after these passes; the last one's is the assembly
//   PG_KERNEL=N                    of that only kernel N
//   PG_DEBUG=1                     what was compiled and how long it took
//            2                     also each kernel's time at each call
//            3, 4, 5               also each kernel with its schedule; its C; its assembly
typedef struct Compiled Compiled;
Compiled *engine_compile(const Graph *graph, int outputs, const Id *output, int effects,
                         const Id *effect);
void engine_free(Compiled *compiled);
// param[n] is the buffer id of PARAM n; var[v] the value of the graph's VAR v; result[i] a new
// buffer of the output's capacity. No allocation and no string work but for the results. -1 with
// error_text() if a worker met an error.
int engine_call(Compiled *compiled, const int64_t *param, const int64_t *var, int64_t *result);
double engine_compile_seconds(void);  // of all engine_compile calls of this thread
int engine_kernels(void);             // that a call of what was compiled last runs
// One kernel: how often a call ran it (perhaps never: `calls` 0 and no name), how long in all, and
// what that must at least do.
typedef struct {
    const char *name;
    int calls;
    double seconds, operations, bytes;
} KernelTime;
typedef void EngineWatch(void *context, int kernels, const KernelTime *kernel);
// Each call of what this thread compiles from now on is told to `watch`, NULL: no longer.
void engine_watch(EngineWatch *watch, void *context);
// One launch of a kernel on a GPU, profiled on simt: a few of its blocks are run, checked and
// counted. What a call computes meanwhile is undefined.
struct GpuProfile;  // schedule.h's; without what only the compiler for a GPU knows
typedef struct {
    int kernel, calls;           // its number among those compiled; of a call
    int launch, launches;        // which one, of how many
    const char *source, *entry;  // in CUDA C; its function there
    const struct GpuProfile *profile;
} LaunchProfile;
typedef void EngineProfile(void *context, const LaunchProfile *launch);
// Calls of what this thread compiles for simt from now on tell each kernel's launches, once a call;
// NULL: no longer.
void engine_profile(EngineProfile *tell, void *context);
void engine_dump_to(FILE *to);  // what PG_DUMP and PG_DEBUG print; standard error unless told
// What products of matrices may be rounded to; PG_PRECISION unless told. tf32: no worse than
// factors of 11 significant bits summed in fp32, on a CPU with AMX; elsewhere it is fp32.
void engine_set_tf32(bool tf32);
bool engine_tf32(void);
// The name of pass i, as PG_DUMP takes it; NULL after the last.
const char *engine_pass(int i, const char **about);

// ---- search.c: schedules that are measured -----------------------------------------------------
// A kernel's schedule is what a search found for it, else the heuristic's. engine_compile searches
// where PG_BEAM=N, or engine_search, asks for it; PG_BEAM=0 takes the heuristic's alone.
typedef struct {
    const char *schedule, *compiler;  // the best; compiler: its name
    // Of each candidate a line, tabs between: seconds (0: refused), its bounds, compiler, what it
    // is or why it was refused, the schedule with ; for line ends.
    const char *trials;
    double heuristic, best;  // seconds a call
    double spent;            // seconds, of this and of earlier searches
    bool complete;
} TunedResult;
typedef struct {
    const char *kernel;
    int number, of;                  // of the kernels being compiled
    int measured, refused, dropped;  // candidates; dropped: hopeless by the model
    int planned;                     // to be measured at most
    bool done, known;                // known: a search had ended before
    TunedResult result;              // so far
} SearchNews;
typedef struct {
    int width;                             // schedules that are looked around from at a time
    bool (*stopped)(void);                 // asked between measurements; NULL: never
    void (*tell)(const SearchNews *news);  // after each round, and when done; may be NULL
    // Seconds a call, in place of the clock: for tests. NULL: the clock.
    double (*measure)(const char *schedule, const char *compiler);
} Search;
void engine_search(const Search *how);  // of compiles from now on; NULL: what PG_BEAM says
// Adds what PG_DUMP=tune tells of a kernel, as `#` lines; result NULL: it was not searched. The
// machine is schedule.h's.
struct Machine;
typedef void SearchReport(Kernel *kernel, const TunedResult *result, const struct Machine *machine,
                          Text *to);
void engine_report(SearchReport *report);  // NULL: nothing is told
int64_t tuned_count(void);                 // kernels whose schedules are kept; -1: no database
bool tuned_clear(void);                    // removes it; whether it was there
#endif
