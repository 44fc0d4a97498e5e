/* gpu_roofline_test.c - times at roofs, the estimate and verdicts against values worked out by
 * hand. */
#include "test.h"

#include "schedule/schedule.h"

#include <string.h>

static Arena *arena;

static GpuRoofline roofline_of(const char *name, const GpuProfile *profile) {
    if (!arena) arena = arena_new();
    return gpu_roofline(arena, gpu_target(name), profile);
}

// 2^26 f32 copied by 16 bytes a lane: 1024 elements a block, 128 a warp.
static GpuProfile copy(void) {
    const double requests = (1 << 26) / 128;
    return (GpuProfile){.blocks = 1 << 16,
                        .threads = 256,
                        .registers = 16,
                        .counts = {.instructions = 10 * requests,
                                   .loads = requests,
                                   .load_lines = 4 * requests,
                                   .load_sectors = 16 * requests,
                                   .stores = requests,
                                   .store_lines = 4 * requests,
                                   .store_sectors = 16 * requests,
                                   .memory_bytes = 2.0 * (1 << 28)}};
}

TEST(a_copy_is_bandwidth_bound) {
    GpuProfile profile = copy();
    GpuRoofline line = roofline_of("a100", &profile);
    CHECK_INT(line.slowest, GPU_MEMORY);
    CHECK_NEAR(line.seconds, 536870912 / 2.039e12, 1e-12);
    CHECK_NEAR(line.memory, 1, 1e-12);
    CHECK_INT(line.verdict, GPU_BANDWIDTH);
    // 32 sectors of 32 bytes are 8 clocks of L1, for each of 2^19 warps.
    CHECK_NEAR(line.roof[GPU_L1].amount, 8.0 * (1 << 19), 0);
    CHECK_NEAR(line.roof[GPU_L2].amount, 536870912, 0);
    CHECK_NEAR(line.roof[GPU_ISSUE].seconds, 10.0 * (1 << 19) / (108 * 4 * 1.41e9), 1e-12);
    // 9 instructions of 4 clocks, a load of 568: 16 warps issue 0.26 a clock.
    CHECK_NEAR(line.latency, (9 * 4 + 568) / 10.0, 1e-9);
    CHECK_NEAR(line.warps, 16, 0);
    CHECK_TEXT(line.reason, "memory at 100 % of its peak, compute at 3 % (estimate)");
}

// An A100 has 64 FP32 lanes an SM, for 4 schedulers of 32: half of the clocks issue.
TEST(multiply_adds_are_compute_bound) {
    GpuProfile profile = {.blocks = 108 * 8,
                          .threads = 256,
                          .registers = 32,
                          .counts = {.flops = 1e12, .memory_bytes = 1e6, .independent = 8}};
    GpuRoofline line = roofline_of("a100", &profile);
    CHECK_INT(line.slowest, GPU_FP32);
    CHECK_NEAR(line.seconds, 1e12 / (2 * 64 * 108 * 1.41e9), 1e-9);
    CHECK_NEAR(line.compute, 1, 1e-12);
    CHECK_NEAR(line.stalled, 0.5, 1e-12);
    CHECK_TEXT(gpu_verdict_name(line.verdict), "compute bound");
    CHECK(strstr(line.reason, "FP32 at 100 %") == line.reason);
}

// A warp on each SM, 1000 loads from memory one after the other: 1000 * 568 clocks.
TEST(a_chain_of_loads_is_latency_bound) {
    GpuProfile profile = {.blocks = 108 * 32,
                          .threads = 32,
                          .shared_bytes = 160 << 10,
                          .counts = {.loads = 108 * 32 * 1000.0,
                                     .load_sectors = 108 * 32 * 1000.0,
                                     .memory_bytes = 108 * 32 * 32000.0}};
    GpuRoofline line = roofline_of("a100", &profile);
    CHECK_NEAR(line.warps, 0.25, 0);
    CHECK_NEAR(line.seconds, 32 * 568000 / 1.41e9, 1e-9);
    CHECK_NEAR(line.stalled, 1 - 0.25 / 568, 1e-9);
    CHECK_INT(line.verdict, GPU_LATENCY);
    CHECK_TEXT(line.reason, "memory at 0 % and compute at 0 % of their peaks, and in 100 % of "
                            "clocks a scheduler has no eligible warp (estimate): too few warps: "
                            "0.2 a scheduler, limited by shared memory");
    profile.counts.independent = 10;
    CHECK_NEAR(roofline_of("a100", &profile).seconds, 32 * 56800 / 1.41e9, 1e-9);
    // L2 holds what the SMs share: of 32 bytes a load, half come from it.
    profile.counts =
        (GpuCounts){.loads = 1, .load_sectors = 4, .l2_sectors = 2, .memory_bytes = 32};
    CHECK_NEAR(roofline_of("a100", &profile).latency, (2 * 36 + 211 + 568) / 4.0, 1e-9);
}

// Each load of a warp waits for the one before, and is a sector from memory.
static GpuProfile chains(int64_t blocks) {
    return (GpuProfile){.blocks = blocks,
                        .threads = 256,
                        .registers = 33,
                        .counts = {.loads = 1e6, .load_sectors = 1e6, .memory_bytes = 32e6}};
}

TEST(a_small_grid_is_named) {
    GpuProfile profile = chains(100);
    GpuRoofline line = roofline_of("h100", &profile);
    CHECK_NEAR(line.rounds, 1.32, 1e-12);
    CHECK_NEAR(line.warps, 2, 0);
    CHECK_INT(line.verdict, GPU_LATENCY);
    CHECK(strstr(line.reason, "a grid of 100 blocks leaves 32 of 132 SMs idle") != NULL);
    profile = chains(2 * 132);
    line = roofline_of("h100", &profile);
    CHECK_NEAR(line.seconds, 1e6 / (132 * 4) * 650 / 4 / 1.98e9, 1e-12);
    CHECK(strstr(line.reason, "a small grid: 2 blocks on an SM, where 6 fit") != NULL);
}

// 133 blocks of 1024 threads: one SM has two to do, all others wait.
TEST(a_tail_is_named) {
    GpuProfile profile = {.blocks = 133,
                          .threads = 1024,
                          .registers = 64,
                          .counts = {.flops = 1e12, .independent = 16}};
    GpuRoofline line = roofline_of("h100", &profile);
    CHECK_NEAR(line.compute, 133.0 / 264, 1e-12);
    CHECK_INT(line.verdict, GPU_LATENCY);
    CHECK(strstr(line.reason, "133 blocks are 2 on the fullest of 132 SMs and 1.0 on average"));
    profile.blocks = 264;
    CHECK_NEAR(roofline_of("h100", &profile).compute, 1, 1e-12);
}

TEST(dependencies_are_named_where_there_are_warps) {
    GpuProfile profile = chains(108 * 60);
    GpuRoofline line = roofline_of("a100", &profile);
    CHECK_NEAR(line.warps, 12, 0);
    CHECK_INT(line.verdict, GPU_LATENCY);
    CHECK(strstr(line.reason, "dependencies: 12.0 warps a scheduler do not hide") != NULL);
}

// What a profiler said of a kernel, read as it reads it.
TEST(low_utilisation_and_no_eligible_warps_read_as_latency_bound) {
    GpuProfile profile = {.blocks = 1 << 20, .threads = 128};
    GpuRoofline line = {
        .occupancy = {.blocks = 2, .warps = 8, .share = 0.125, .limit = GPU_BY_REGISTERS},
        .rounds = 1,
        .warps = 2,
        .memory = 0.08,
        .compute = 0.21,
        .stalled = 0.88};
    arena = arena ? arena : arena_new();
    gpu_judge(arena, gpu_target("h100"), &profile, &line);
    CHECK_INT(line.verdict, GPU_LATENCY);
    CHECK_TEXT(line.reason, "memory at 8 % and compute at 21 % of their peaks, and in 88 % of "
                            "clocks a scheduler has no eligible warp (estimate): too few warps: "
                            "2.0 a scheduler, limited by registers");
    line.compute = 0.61;
    gpu_judge(arena, gpu_target("h100"), &profile, &line);
    CHECK_INT(line.verdict, GPU_COMPUTE);
    line.memory = 0.93;
    gpu_judge(arena, gpu_target("h100"), &profile, &line);
    CHECK_INT(line.verdict, GPU_BANDWIDTH);
}

// Half of the wavefronts are those of conflicts: shared memory is the roof.
TEST(bank_conflicts_are_clocks_of_l1) {
    GpuProfile profile = {.blocks = 108 * 8,
                          .threads = 256,
                          .counts = {.shared = 1e8, .wavefronts = 32e8, .conflict_free = 1e8}};
    GpuRoofline line = roofline_of("a100", &profile);
    CHECK_INT(line.slowest, GPU_L1);
    CHECK_NEAR(line.seconds, 32e8 / (108 * 1.41e9), 1e-12);
    CHECK_INT(line.verdict, GPU_BANDWIDTH);
}

TEST(what_does_not_fit_is_said) {
    GpuProfile profile = {.blocks = 1, .threads = 128, .shared_bytes = 200 << 10};
    CHECK_INT(roofline_of("h100", &profile).verdict, GPU_LATENCY);
    CHECK_TEXT(roofline_of("rtx4090", &profile).reason,
               "no block fits an SM of this GPU, by shared memory");
    profile.blocks = 0;
    CHECK_FATAL_TEXT(roofline_of("h100", &profile), "a grid of 0 blocks");
}
