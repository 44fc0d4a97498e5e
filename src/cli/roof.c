/* roof.c - the machine's roofs, measured: multiply-adds in registers, and reads from each level of
 * memory, by all threads at once.
 * In: the caches' sizes.  Out: Roofs.
 * Invariant: a level's data fits it and is beyond the level below; the best of several short runs
 * counts, since nothing can make a run faster than the machine is.
 *   2 cores of Zen 3   =>   FMA 205 GFLOP/s, L1 395 GB/s, L2 220, L3 140, memory 35             */
#include "cli/roof.h"

#include "cli/machine.h"
#include "engine/engine.h"
#include "runtime/runtime.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { READ_UNIT = 512 };  // bytes; see RoofFunctions

typedef enum { LOAD_MULTIPLY_ADD, LOAD_READ, LOAD_TILES } LoadKind;
typedef struct {
    LoadKind kind;
    char *memory;  // of LOAD_READ
    size_t bytes;  // of each thread
    int64_t times;
    double *done;       // of each thread
    uint32_t *results;  // of each thread, so that they are used
} Load;

static void run_load(void *context, int thread, int threads, Barrier *barrier) {
    const Load *load = context;
    float number = 0;
    uint32_t bits = 0;
    (void)threads;
    barrier_wait(barrier, thread);
    const RoofFunctions *roof = library_roofs();
    if (load->kind == LOAD_READ)
        load->done[thread] = roof->read(load->memory + load->bytes * (size_t)thread, load->bytes,
                                        load->times, &bits);
    else if (load->kind == LOAD_TILES)
        load->done[thread] = roof->tiles(load->times);
    else
        load->done[thread] = roof->multiply_add(load->times, &number);
    load->results[thread] = bits + (uint32_t)number;
}

static double seconds_of(Load *load) {
    double start = clock_seconds();
    thread_run(run_load, load);
    return clock_seconds() - start;
}

// Of all threads, a second.
static double best_rate(Load *load) {
    enum { RUNS = 8 };
    static const double least = 0.02;
    double best = 0;
    Arena *arena = arena_new();
    load->done = arena_array(arena, double, thread_count());
    load->results = arena_array(arena, uint32_t, thread_count());
    for (load->times = 1; seconds_of(load) < least;) load->times *= 2;
    for (int run = 0; run < RUNS; run++) {
        double seconds = seconds_of(load), done = 0;
        for (int i = 0; i < thread_count(); i++) done += load->done[i];
        best = fmax(best, done / seconds);
    }
    arena_free(arena);
    return best;
}

static double measure_level(char *memory, double bytes) {
    size_t each = (size_t)(bytes / thread_count()) / READ_UNIT * READ_UNIT;
    return best_rate(
        &(Load){.kind = LOAD_READ, .memory = memory, .bytes = each > 0 ? each : READ_UNIT});
}

// The levels' names and sizes: data caches, each counted as often as the threads have one.
static void find_levels(Roofs *roofs) {
    Arena *arena = arena_new();
    Caches caches = {0};
    machine_caches(arena, &caches);
    static const char *const names[] = {"L1", "L2", "L3"};
    for (int32_t i = 0; i < caches.count; i++) {
        const Cache *cache = &caches.at[i];
        int sharing = (int)max_i64(1, cache->threads);
        int copies = (thread_count() + sharing - 1) / sharing;
        for (int j = 0; j < COUNT_OF(names); j++)
            if (!strncmp(cache->name, names[j], 2) && cache->name[2] != 'i' && roofs->levels == j)
                roofs->level[roofs->levels++] =
                    (RoofLevel){names[j], (double)cache->bytes * copies, 0};
    }
    roofs->level[roofs->levels++] = (RoofLevel){"memory", INFINITY, 0};
    arena_free(arena);
}

static void measure_peaks(Roofs *roofs) {
    enum { TF32_PRODUCTS = 3 };  // hi hi + hi lo + lo hi
    roofs->peak = roofs->bound = best_rate(&(Load){.kind = LOAD_MULTIPLY_ADD});
    if (!target()->amx || !library_roofs()->tiles) return;
    roofs->tile = best_rate(&(Load){.kind = LOAD_TILES});
    if (engine_tf32()) roofs->bound = fmax(roofs->peak, roofs->tile / TF32_PRODUCTS);
}

int roofs_measure(Roofs *roofs) {
    static const double enough = 256 << 20;
    *roofs = (Roofs){0};
    find_levels(roofs);
    double largest = roofs->levels > 1 ? roofs->level[roofs->levels - 2].bytes : 0;
    size_t bytes = (size_t)fmax(enough, 4 * largest) / READ_UNIT * READ_UNIT;
    char *memory = aligned_alloc(READ_UNIT, bytes);
    if (!memory) return fail("no memory to measure the roofs with: %zu MB", bytes >> 20);
    memset(memory, 1, bytes);
    measure_peaks(roofs);
    for (int i = 0; i < roofs->levels; i++) {
        RoofLevel *level = &roofs->level[i];
        bool is_cache = isfinite(level->bytes);
        level->rate = measure_level(memory, is_cache ? 0.5 * level->bytes : (double)bytes);
    }
    free(memory);
    return 0;
}

const RoofLevel *roofs_level(const Roofs *roofs, double bytes) {
    int i = 0;
    while (i + 1 < roofs->levels && bytes > roofs->level[i].bytes) i++;
    return &roofs->level[i];
}

double roofs_seconds(const Roofs *roofs, const RoofLevel *level, double operations, double bytes) {
    return fmax(operations / roofs->bound, bytes / level->rate);
}

double roofs_ridge(const Roofs *roofs, const RoofLevel *level) {
    return roofs->bound / level->rate;
}
