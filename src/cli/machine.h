/* machine.h - what the machine offers. Texts and lists lie in the arena that was given. */
#ifndef PICOGRAD_MACHINE_H
#define PICOGRAD_MACHINE_H
#include "cli/cli.h"
#include "runtime/runtime.h"

typedef LIST(const char *) Names;
typedef struct {
    const char *name;  // "L1d"
    int64_t bytes;
    int threads;  // that share one
} Cache;
typedef LIST(Cache) Caches;  // of the first core
typedef struct {
    const char *cpu;
    int usable, online;  // hardware threads: of this process, of the machine
    int cores, sockets;  // 0: unknown
    int threads;         // that a run uses
    const char *isa;     // that a run uses
    Names isas;          // that picograd can use here
    Names unused;        // instructions there that it does not use yet
    Caches caches;
    int64_t memory, available, memory_limit;  // bytes; limit 0: none
    const char *compiler, *compiler_version;  // NULL: none; not known
    const char *no_energy;                    // why the counters cannot be read; NULL: they can
    const char *cuda;                         // why there are no gpus; NULL: there are
    const char *no_nvrtc;                     // why they cannot be used; NULL: they can
    int cuda_version;                         // 13000: 13.0
    LIST(CudaInfo) gpus;
} Machine;
const Machine *machine_facts(Arena *arena);
void machine_caches(Arena *arena, Caches *caches);
#endif
