/* search.h - inside the engine: what a search is made of. */
#ifndef PICOGRAD_SEARCH_H
#define PICOGRAD_SEARCH_H
#include "engine/compiled.h"

// ---- tuned.c: what searches found, in cache_folder()/tuned.db ----------------------------------
typedef struct {
    const char *kernel;  // its text in unscheduled form
    const char *place;   // tuned_place's
    const char *name;    // of the kernel, for people; NULL: no kernel
} TunedKey;
typedef struct Tuned Tuned;
// What a result depends on beside the kernel: CPU, compilers and flags, threads, the checksum of
// picograd's code that makes kernels. NULL: there is no compiler.
const char *tuned_place(Arena *arena);
// NULL if there is none (`make`: if there can be none, having said so once). One that is damaged is
// removed, with a line.
Tuned *tuned_open(Arena *arena, bool make);
void tuned_close(Tuned *tuned);
bool tuned_find(Tuned *tuned, const TunedKey *key, TunedResult *result);
void tuned_keep(Tuned *tuned, const TunedKey *key, const TunedResult *result);

// ---- trial.c: kernels run on memory of their own -----------------------------------------------
typedef struct Trial Trial;
static inline int64_t middle_of(const Var *var) { return var->low + (var->high - var->low) / 2; }
// The memory that a module's calls of a kernel use, by slot, with made-up values. NULL with a
// message if that is too much.
Trial *trial_open(Arena *arena, const Module *module, const int32_t *unit, int32_t which);
void trial_close(Trial *trial);
// The PARAMs that take the place of weights in the kernels to come, with made-up values.
void trial_lay_out(Trial *trial, const OnceList *once);
const int64_t *trial_vars(const Trial *trial);  // the middle of each VAR's interval
// Of those of a call that no cache holds from one step to the next.
double trial_cold_bytes(const Trial *trial, const Machine *machine);
void trial_cost(const Trial *trial, double *operations, double *bytes);  // of a call: kernel_cost's
typedef struct {
    KernelFunction *function;
    int64_t own_bytes, shared_bytes;  // of its Program
    // On a GPU, in place of the function: a unit that has been compiled, by whose backend.
    const Unit *unit;
    const Compiled *compiled;
} TrialKernel;
// Seconds a call, of as many calls as take `least` seconds.
double trial_time(Trial *trial, const TrialKernel *kernel, double least);
// Runs it once; what it writes becomes what trial_agrees compares with.
void trial_expect(Trial *trial, const TrialKernel *kernel);
bool trial_agrees(Trial *trial, const TrialKernel *kernel);  // up to rounding

// ---- search.c ----------------------------------------------------------------------------------
// The schedule and the compiler of each unit that a search found, now or earlier.
int search_units(Compiled *compiled);
void search_report(const Unit *unit, Text *to);  // what engine_report's function tells of it

// machine.c: rates of the machine, measured once and kept beside the schedules.
void machine_find(Arena *arena, Tuned *tuned, const char *place, Machine *machine);
Machine machine_of_gpu(const GpuTarget *gpu);  // for what is told of it
#endif
