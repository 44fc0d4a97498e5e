/* table.c - what each rung of the ladder asks of a GPU, and what that GPU makes of it at best.
 * In: a GPU's name, else h100; rows of the matrices, a multiple of 128, else 1024; this folder's
 * kernel and schedules; NVRTC, for registers.
 * Out: two tables in Markdown, as docs/12-gpu-ladder.md has them.
 * Invariant: one block is run on simt and counted, times the blocks; they are all alike.
 *   1-naive: a block of 256 threads loads 16384 times, 33 lines for two loads   =>   x 4096      */
#include "schedule/ladder.h"
#include "schedule/schedule.h"

#include <stdlib.h>
#include <string.h>

enum {
    ROWS_MOST = 4096,
    OPERATIONS = 2 * GPU_WARP,       // of an instruction of a warp
    PRODUCT_FLOPS = 2 * 16 * 8 * 8,  // of one of its tensor core
};

typedef struct {
    GpuProfile profile;
    GpuRoofline line;
    double l1_bytes;  // of global memory, in sectors of 32
} Measured;

// A block asks L2 once for each sector that it loads: L1 has room for what it uses again.
static GpuCounts of_launch(const Rung *rung, const SimtCounts *block) {
    double blocks = (double)rung->blocks;
    return (GpuCounts){
        .flops = rung->work.flops,
        .tensor_flops = blocks * PRODUCT_FLOPS * (double)block->mmas,
        .instructions = rung->work.instructions,
        .independent = rung->work.independent,
        .loads = blocks * (double)block->loads,
        .load_lines = blocks * (double)block->load_lines,
        .load_sectors = blocks * (double)block->load_sectors,
        .stores = blocks * (double)block->stores,
        .store_lines = blocks * (double)block->store_lines,
        .store_sectors = blocks * (double)block->store_sectors,
        .l2_sectors = blocks * (double)(block->block_sectors + block->store_sectors),
        .memory_bytes = 3.0 * 4 * rung->n * rung->n,
        .shared = blocks * (double)block->shared,
        .wavefronts = blocks * (double)block->wavefronts,
        .conflict_free = blocks * (double)block->conflict_free,
    };
}

static Measured measure(const Rung *rung, const GpuTarget *target) {
    int64_t elements = (int64_t)rung->n * rung->n;
    float *memory = arena_array(rung->arena, float, 3 * elements);
    SimtCounts block = ladder_count(rung, 1, memory, memory + elements, memory + 2 * elements);
    NvrtcKernel kernel = {0};
    if (ladder_compile(rung, target->architecture, &kernel)) say("%s", error_text());
    Measured found = {.profile = {.name = rung->name,
                                  .blocks = rung->blocks,
                                  .threads = rung->threads,
                                  .registers = kernel.registers,
                                  .shared_bytes = rung->shared_bytes,
                                  .counts = of_launch(rung, &block)}};
    const GpuCounts *counts = &found.profile.counts;
    found.l1_bytes = 32 * (counts->load_sectors + counts->store_sectors);
    found.line = gpu_roofline(rung->arena, target, &found.profile);
    return found;
}

// Requests and wavefronts are for as many products as a warp does in one instruction.
static void print_counts(const Measured *rungs, int count, double flops) {
    printf("| rung | global loads | lines each | shared requests | wavefronts | conflict-free | "
           "L1 gives | FLOP a byte | L2 gives | FLOP a byte |\n"
           "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n");
    for (int i = 0; i < count; i++) {
        const GpuCounts *counts = &rungs[i].profile.counts;
        double products = flops / OPERATIONS;
        double l2_bytes = 32 * counts->l2_sectors;
        printf("| %s | %.3f | %.1f | %.3f | %.3f | %.3f | %.0f MB | %.2f | %.0f MB | %.1f |\n",
               rungs[i].profile.name, counts->loads / products, counts->load_lines / counts->loads,
               counts->shared / products, counts->wavefronts / products,
               counts->conflict_free / products, rungs[i].l1_bytes / 1e6, flops / rungs[i].l1_bytes,
               l2_bytes / 1e6, flops / l2_bytes);
    }
}

static void print_bounds(const Measured *rungs, int count, const GpuTarget *target) {
    printf("\n| rung on %s | blocks x threads | registers | shared | occupancy | "
           "slowest roof | at least | estimate | verdict | measured |\n"
           "|---|---:|---:|---:|---:|---|---:|---:|---|---|\n",
           target->product);
    for (int i = 0; i < count; i++) {
        const GpuProfile *profile = &rungs[i].profile;
        const GpuRoofline *line = &rungs[i].line;
        const char *unit;
        printf("| %s | %lld x %d | %d | %.1f KB | %.0f %% | %s | %.0f us | %.0f us | %s | not "
               "measured yet |\n",
               profile->name, (long long)profile->blocks, profile->threads, profile->registers,
               (double)profile->shared_bytes / 1024, 100 * line->occupancy.share,
               gpu_roof_name(line->slowest, &unit), 1e6 * line->roof[line->slowest].seconds,
               1e6 * line->seconds, gpu_verdict_name(line->verdict));
    }
}

int main(int count, char **word) {
    const GpuTarget *target = gpu_target(count > 1 ? word[1] : "h100");
    int rows = count > 2 ? atoi(word[2]) : 1024;
    if (!target || count > 3 || rows < 128 || rows % 128 || rows > ROWS_MOST) {
        say("usage: table [a100|h100|h200|rtx3090|rtx4090 [rows, a multiple of 128]]");
        return 2;
    }
    Rung rung[LADDER_RUNGS];
    Measured rungs[LADDER_RUNGS];
    int rung_count = strcmp(target->architecture, "sm_90a") ? LADDER_WGMMA : LADDER_RUNGS;
    for (int i = 0; i < rung_count; i++) {
        rung[i] = ladder_read(i, rows, true);
        rungs[i] = measure(&rung[i], target);
    }
    print_counts(rungs, rung_count, 2.0 * rows * rows * rows);
    print_bounds(rungs, rung_count, target);
    printf("\n");
    for (int i = 0; i < rung_count; i++) printf("%s: %s\n", rung[i].name, rungs[i].line.reason);
    for (int i = 0; i < rung_count; i++) ladder_free(&rung[i]);
    return 0;
}
