/* gpu_roofline.c - where a kernel stands under the roofs of a GPU, from what was counted.
 * In: a GPU's row, a launch and its counts.  Out: the time at each roof, an estimate of the whole,
 * and a verdict: compute, bandwidth or latency bound, with the reason.
 * Invariant: a roof is a bound, all else is an estimate and is called one. The estimate is never
 * below a roof.
 *   memory at 8 %, compute at 21 %, no warp to issue in 88 % of clocks   =>   latency bound
 *
 * The estimate. Blocks go round the SMs, so the SM with most of them ends last. There a scheduler
 * holds some warps, and a warp's next instruction waits for its last one, or for one further back
 * where some are independent. By Little's law a scheduler then issues, each clock, at most
 *   warps * independent / latency
 * instructions (V. Volkov, Understanding Latency Hiding on GPUs, Berkeley 2016, chapter 4), latency
 * being the mean over the instructions. The slowest roof, or this, is the time. */
#include "schedule/schedule.h"

#include <math.h>

// Clocks until a value can be used: of FP32 arithmetic and of shared memory on an A100
// (Abdelkhalik et al. 2022, arXiv:2208.11174), of a tf32 mma of 16 x 8 x 8 (Sun et al. 2022,
// arXiv:2206.02874). Nothing waits for a store.
enum { ARITHMETIC_CLOCKS = 4, SHARED_CLOCKS = 23, TENSOR_CLOCKS = 25 };
enum { SECTOR = 32, ARITHMETIC_FLOPS = 2 * GPU_WARP, TENSOR_FLOPS = 2 * 16 * 8 * 8 };
// Below this share of both peaks a kernel waits more than it works: Nsight Compute's rule.
static const double BUSY = 0.6;

const char *gpu_roof_name(GpuRoof roof, const char **unit) {
    static const struct {
        const char *name, *unit;
    } names[] = {
        [GPU_FP32] = {"FP32", "FLOP"},
        [GPU_TENSOR] = {"TF32 tensor cores", "FLOP"},
        [GPU_ISSUE] = {"issue", "instructions"},
        [GPU_L1] = {"L1 and shared", "wavefronts"},
        [GPU_L2] = {"L2", "B"},
        [GPU_MEMORY] = {"memory", "B"},
    };
    *unit = names[roof].unit;
    return names[roof].name;
}

const char *gpu_verdict_name(GpuVerdict verdict) {
    static const char *const names[] = {[GPU_COMPUTE] = "compute bound",
                                        [GPU_BANDWIDTH] = "bandwidth bound",
                                        [GPU_LATENCY] = "latency bound",
                                        [GPU_NO_FIT] = "does not fit"};
    return names[verdict];
}

// ---- roofs -------------------------------------------------------------------------------------
static double l2_sectors(const GpuCounts *counts) {
    double all = counts->load_sectors + counts->store_sectors;
    return counts->l2_sectors > 0 ? fmin(counts->l2_sectors, all) : all;
}

// At least what the other counts say.
static double instructions(const GpuCounts *counts) {
    double least = counts->flops / ARITHMETIC_FLOPS + counts->tensor_flops / TENSOR_FLOPS +
                   counts->loads + counts->stores + counts->shared;
    return fmax(least, counts->instructions);
}

// Clocks of L1 and shared memory, which are one memory: a sector takes its part of what L1 gives in
// a clock, as rows and strides of a power of two were measured to (gpu-benches, gpu-strides).
static double l1_clocks(const GpuTarget *target, const GpuCounts *counts) {
    double sectors = counts->load_sectors + counts->store_sectors;
    return fmax(counts->loads + counts->stores, sectors * SECTOR / target->l1_rate) +
           counts->wavefronts;
}

static GpuRoof slowest_of(const GpuRoofline *line, GpuRoof first, GpuRoof last) {
    GpuRoof slowest = first;
    for (GpuRoof i = first; i <= last; i++)
        if (line->roof[i].seconds > line->roof[slowest].seconds) slowest = i;
    return slowest;
}

static void find_roofs(const GpuTarget *target, const GpuCounts *counts, GpuRoofline *line) {
    double clocks = target->sms * target->clock;
    const double amount[GPU_ROOFS] = {counts->flops,
                                      counts->tensor_flops,
                                      instructions(counts),
                                      l1_clocks(target, counts),
                                      SECTOR * l2_sectors(counts),
                                      counts->memory_bytes};
    const double rate[GPU_ROOFS] = {
        2 * target->lanes * clocks, target->tf32, GPU_SCHEDULERS * clocks, clocks, target->l2_rate,
        target->memory_rate};
    for (int i = 0; i < GPU_ROOFS; i++) {
        line->roof[i].amount = amount[i];
        line->roof[i].rate = rate[i];
        line->roof[i].seconds = amount[i] / rate[i];
    }
    line->slowest = slowest_of(line, GPU_FP32, GPU_MEMORY);
}

// ---- the estimate ------------------------------------------------------------------------------
// Of a load, by where its sectors are: in L1, in L2, in memory.
static double load_clocks(const GpuTarget *target, const GpuCounts *counts) {
    double all = counts->load_sectors + counts->store_sectors;
    if (all <= 0) return target->l1_clocks;
    double l2 = l2_sectors(counts) / all;
    double memory = fmin(l2, counts->memory_bytes / SECTOR / all);
    return target->l1_clocks * (1 - l2) + target->l2_clocks * (l2 - memory) +
           target->memory_clocks * memory;
}

static double mean_latency(const GpuTarget *target, const GpuCounts *counts) {
    double all = instructions(counts), tensor = counts->tensor_flops / TENSOR_FLOPS;
    double arithmetic = all - tensor - counts->loads - counts->shared;
    if (all <= 0) return ARITHMETIC_CLOCKS;
    return (arithmetic * ARITHMETIC_CLOCKS + tensor * TENSOR_CLOCKS +
            counts->loads * load_clocks(target, counts) + counts->shared * SHARED_CLOCKS) /
           all;
}

// L2 and memory serve all SMs; what an SM does takes as long as on the one with most blocks.
static double kernel_seconds(const GpuRoofline *line, double issued) {
    double of_sm = line->roof[slowest_of(line, GPU_FP32, GPU_L1)].seconds;
    double waiting = line->roof[GPU_ISSUE].seconds / issued;
    return fmax(line->roof[slowest_of(line, GPU_L2, GPU_MEMORY)].seconds,
                line->rounds * fmax(of_sm, waiting));
}

static void estimate(const GpuTarget *target, const GpuProfile *profile, GpuRoofline *line) {
    int64_t most = (profile->blocks - 1) / target->sms + 1;
    int warps = (profile->threads + GPU_WARP - 1) / GPU_WARP;
    line->rounds = (double)most * target->sms / (double)profile->blocks;
    line->warps = (double)(min_i64(most, line->occupancy.blocks) * warps) / GPU_SCHEDULERS;
    line->latency = mean_latency(target, &profile->counts);
    double issued = fmin(1, line->warps * fmax(1, profile->counts.independent) / line->latency);
    line->seconds = kernel_seconds(line, issued);
    if (line->seconds <= 0) return;
    line->compute = line->roof[slowest_of(line, GPU_FP32, GPU_ISSUE)].seconds / line->seconds;
    line->memory = line->roof[slowest_of(line, GPU_L1, GPU_MEMORY)].seconds / line->seconds;
    line->stalled = 1 - line->roof[GPU_ISSUE].seconds / line->seconds;
}

// ---- the verdict -------------------------------------------------------------------------------
static const char *why_waiting(Arena *arena, const GpuTarget *target, const GpuProfile *profile,
                               const GpuRoofline *line) {
    int64_t most = (profile->blocks - 1) / target->sms + 1;
    long long blocks = (long long)profile->blocks;
    if (profile->blocks < target->sms)
        return arena_print(arena, "a grid of %lld block%s leaves %lld of %d SMs idle", blocks,
                           blocks == 1 ? "" : "s", (long long)target->sms - blocks, target->sms);
    if (BUSY * line->rounds >= 1)
        return arena_print(arena,
                           "%lld blocks are %lld on the fullest of %d SMs and %.1f on average",
                           blocks, (long long)most, target->sms, (double)blocks / target->sms);
    if (most < line->occupancy.blocks)
        return arena_print(arena, "a small grid: %lld blocks on an SM, where %d fit",
                           (long long)most, line->occupancy.blocks);
    if (line->occupancy.share < 0.5)
        return arena_print(arena, "too few warps: %.1f a scheduler, limited by %s", line->warps,
                           gpu_limit_name(line->occupancy.limit));
    return arena_print(arena, "dependencies: %.1f warps a scheduler do not hide what they wait for",
                       line->warps);
}

// The peak that a busy kernel is near.
static GpuRoof nearest(const GpuRoofline *line) {
    return line->verdict == GPU_COMPUTE ? slowest_of(line, GPU_FP32, GPU_ISSUE)
                                        : slowest_of(line, GPU_L1, GPU_MEMORY);
}

void gpu_judge(Arena *arena, const GpuTarget *target, const GpuProfile *profile,
               GpuRoofline *line) {
    double memory = 100 * line->memory, compute = 100 * line->compute;
    const char *unit;
    if (!line->occupancy.blocks) {
        line->verdict = GPU_NO_FIT;
        line->reason = arena_print(arena, "no block fits an SM of this GPU, by %s",
                                   gpu_limit_name(line->occupancy.limit));
        return;
    }
    if (line->memory < BUSY && line->compute < BUSY) {
        line->verdict = GPU_LATENCY;
        line->reason = arena_print(
            arena,
            "memory at %.0f %% and compute at %.0f %% of their peaks, and in %.0f %% of clocks a "
            "scheduler has no eligible warp (estimate): %s",
            memory, compute, 100 * line->stalled, why_waiting(arena, target, profile, line));
        return;
    }
    line->verdict = line->memory >= line->compute ? GPU_BANDWIDTH : GPU_COMPUTE;
    const char *name = gpu_roof_name(nearest(line), &unit);
    line->reason = arena_print(
        arena, "%s at %.0f %% of its peak, %s at %.0f %% (estimate)", name, fmax(memory, compute),
        line->verdict == GPU_BANDWIDTH ? "compute" : "memory", fmin(memory, compute));
}

GpuRoofline gpu_roofline(Arena *arena, const GpuTarget *target, const GpuProfile *profile) {
    GpuRoofline line = {0};
    if (profile->blocks < 1)
        fatal("gpu_roofline: a grid of %lld blocks", (long long)profile->blocks);
    line.occupancy =
        gpu_occupancy(target, profile->threads, profile->registers, profile->shared_bytes);
    find_roofs(target, &profile->counts, &line);
    if (line.occupancy.blocks) estimate(target, profile, &line);
    gpu_judge(arena, target, profile, &line);
    return line;
}
