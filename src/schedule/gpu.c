/* gpu.c - named GPUs as rows of data, and what is counted of a kernel on one.
 * In: a GPU's name; a launch's threads, registers and shared memory; what 32 lanes access.
 * Out: a row; blocks that fit an SM, and what limits them; cache lines, sectors and wavefronts.
 * Invariant: nothing is measured here. A row holds published figures, a count is arithmetic.
 *   h100, 128 threads of 168 registers, 100 KB shared   =>   2 blocks an SM, by shared memory   */
#include "schedule/schedule.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

// Sources, by column:
//   architecture, threads, blocks, shared memory: CUDA C++ Programming Guide, "Technical
//     Specifications per Compute Capability". They hold for a capability, the rest for a product.
//   SMs, clock, lanes, tf32, L2 size, memory: NVIDIA's whitepapers on the A100 (2020), the H100
//     (2022; its clock is 1.98 GHz for FP32, and 1.83 for tensor cores), GA102 (2021) and Ada
//     (2022), the H200's datasheet (2024). tf32 without sparsity.
//   L1, L2, latencies: measured, github.com/te42kyfo/gpu-benches at 1c36d50, gpu-cache,
//     gpu-l2-cache, gpu-latency. A100 80 GB and H200 as they are. H100: L2 and latencies of the
//     same chip, as an H200 and at 1755 MHz as a PCIe card. 4090: from an L40, which has the same
//     chip; its L2 has 96 MB and 2100 bytes a clock, of which the 4090 has three quarters. 3090:
//     from an A40, the same chip, at 1740 MHz; its latencies are an estimate, the A100's to L2
//     (Chips and Cheese, 2021, measured more than 100 ns from L1 to L2), and the L40's 254 ns to
//     memory.
// clang-format off
static const GpuTarget targets[] = {
    {.name = "a100", .product = "A100 SXM 80 GB", .architecture = "sm_80",
     .sms = 108, .clock = 1.410e9, .lanes = 64, .tf32 = 156e12,
     .threads = 2048, .blocks = 32, .registers = 65536,
     .shared = 164 << 10, .block_shared = 163 << 10,
     .l1_rate = 128, .l2_rate = 5.4e12, .memory_rate = 2.039e12,
     .l2_bytes = 40 << 20, .memory_bytes = 80e9,
     .l1_clocks = 36, .l2_clocks = 211, .memory_clocks = 568},
    {.name = "h100", .product = "H100 SXM5 80 GB", .architecture = "sm_90a",
     .sms = 132, .clock = 1.980e9, .lanes = 128, .tf32 = 494.7e12,
     .threads = 2048, .blocks = 32, .registers = 65536,
     .shared = 228 << 10, .block_shared = 227 << 10,
     .l1_rate = 128, .l2_rate = 9.7e12, .memory_rate = 3.352e12,
     .l2_bytes = 50 << 20, .memory_bytes = 80e9,
     .l1_clocks = 34, .l2_clocks = 266, .memory_clocks = 650},
    {.name = "h200", .product = "H200 SXM 141 GB", .architecture = "sm_90a",
     .sms = 132, .clock = 1.980e9, .lanes = 128, .tf32 = 494.7e12,
     .threads = 2048, .blocks = 32, .registers = 65536,
     .shared = 228 << 10, .block_shared = 227 << 10,
     .l1_rate = 128, .l2_rate = 9.7e12, .memory_rate = 4.8e12,
     .l2_bytes = 50 << 20, .memory_bytes = 141e9,
     .l1_clocks = 34, .l2_clocks = 266, .memory_clocks = 650},
    {.name = "rtx3090", .product = "GeForce RTX 3090", .architecture = "sm_86",
     .sms = 82, .clock = 1.695e9, .lanes = 128, .tf32 = 35.6e12,
     .threads = 1536, .blocks = 16, .registers = 65536,
     .shared = 100 << 10, .block_shared = 99 << 10,
     .l1_rate = 64, .l2_rate = 2.4e12, .memory_rate = 0.936e12,
     .l2_bytes = 6 << 20, .memory_bytes = 24e9,
     .l1_clocks = 36, .l2_clocks = 211, .memory_clocks = 430},
    {.name = "rtx4090", .product = "GeForce RTX 4090", .architecture = "sm_89",
     .sms = 128, .clock = 2.520e9, .lanes = 128, .tf32 = 82.6e12,
     .threads = 1536, .blocks = 24, .registers = 65536,
     .shared = 100 << 10, .block_shared = 99 << 10,
     .l1_rate = 64, .l2_rate = 4.0e12, .memory_rate = 1.008e12,
     .l2_bytes = 72 << 20, .memory_bytes = 24e9,
     .l1_clocks = 36, .l2_clocks = 277, .memory_clocks = 632},
};
// clang-format on

const GpuTarget *gpu_target_at(int i) {
    return i >= 0 && i < COUNT_OF(targets) ? &targets[i] : NULL;
}

const GpuTarget *gpu_target(const char *name) {
    for (int i = 0; i < COUNT_OF(targets); i++)
        if (!strcmp(targets[i].name, name)) return &targets[i];
    return NULL;
}

// The letters and digits of `product` from here on are those of `name`, whatever is between them.
static bool begins_with(const char *product, const char *name) {
    for (; *name; name++, product++) {
        while (*product && !isalnum((unsigned char)*product)) product++;
        if (tolower((unsigned char)*product) != *name) return false;
    }
    return !isdigit((unsigned char)*product);
}

const GpuTarget *gpu_target_like(const char *product, int capability) {
    const GpuTarget *like = &targets[0];
    for (int i = 0; i < COUNT_OF(targets); i++) {
        for (const char *at = product; *at; at++)
            if (begins_with(at, targets[i].name)) return &targets[i];
        int own = atoi(targets[i].architecture + strlen("sm_")),
            best = atoi(like->architecture + strlen("sm_"));
        if (own <= capability && own > best) like = &targets[i];
    }
    return like;
}

// ---- occupancy ---------------------------------------------------------------------------------
// The rules are those of cuda_occupancy.h in CUDA 13.0, and equal for capabilities 8.0 to 9.0.
enum {
    BLOCK_THREADS = 1024,
    THREAD_REGISTERS = 255,
    REGISTER_UNIT = 256,    // registers are given to warps in such pieces, of a quarter of the SM's
    SHARED_UNIT = 128,      // bytes
    SHARED_RESERVED = 1024  // of each block, by the driver
};

static int blocks_by_registers(const GpuTarget *target, int warps, int registers) {
    if (!registers) return target->blocks;
    if (registers > THREAD_REGISTERS) return 0;
    int of_warp = (int)round_up((int64_t)registers * GPU_WARP, REGISTER_UNIT);
    // The check at launch takes a block's warps to be spread over all partitions.
    if (of_warp * round_up(warps, GPU_SCHEDULERS) > target->registers) return 0;
    return target->registers / GPU_SCHEDULERS / of_warp * GPU_SCHEDULERS / warps;
}

static int blocks_by_shared(const GpuTarget *target, int64_t bytes) {
    if (bytes > target->block_shared) return 0;
    return (int)(target->shared / round_up(bytes + SHARED_RESERVED, SHARED_UNIT));
}

GpuOccupancy gpu_occupancy(const GpuTarget *target, int threads, int registers,
                           int64_t shared_bytes) {
    if (threads < 1 || registers < 0 || shared_bytes < 0)
        fatal("gpu_occupancy: %d threads, %d registers, %lld bytes", threads, registers,
              (long long)shared_bytes);
    int warps = (threads + GPU_WARP - 1) / GPU_WARP, all_warps = target->threads / GPU_WARP;
    int blocks[] = {
        [GPU_BY_THREADS] = threads <= BLOCK_THREADS ? all_warps / warps : 0,
        [GPU_BY_BLOCKS] = target->blocks,
        [GPU_BY_REGISTERS] = blocks_by_registers(target, warps, registers),
        [GPU_BY_SHARED] = blocks_by_shared(target, shared_bytes),
    };
    GpuOccupancy found = {.blocks = blocks[0]};
    for (int i = 1; i < COUNT_OF(blocks); i++)
        if (blocks[i] < found.blocks) found = (GpuOccupancy){.blocks = blocks[i], .limit = i};
    found.warps = found.blocks * warps;
    found.share = (double)found.warps / all_warps;
    return found;
}

const char *gpu_limit_name(GpuLimit limit) {
    static const char *const names[] = {[GPU_BY_THREADS] = "threads",
                                        [GPU_BY_BLOCKS] = "blocks",
                                        [GPU_BY_REGISTERS] = "registers",
                                        [GPU_BY_SHARED] = "shared memory"};
    return names[limit];
}

// ---- a warp's request --------------------------------------------------------------------------
enum { LINE = 128, SECTOR = 32, BANK = 4, BANKS = 32 };

// Distinct pieces of `unit` bytes that lanes touch. An access that is not aligned, which a GPU
// refuses, touches one more.
typedef struct {
    uint64_t at[GPU_WARP * (GPU_ACCESS_MAX / BANK + 1)];
    int count;
} Pieces;

static void pieces_add(Pieces *to, uint64_t address, int bytes, int unit) {
    uint64_t last = (address + (uint64_t)bytes - 1) / (uint64_t)unit;
    for (uint64_t piece = address / (uint64_t)unit; piece <= last; piece++) {
        int i = to->count;
        while (i > 0 && to->at[i - 1] != piece) i--;
        if (!i) to->at[to->count++] = piece;
    }
}

static Pieces pieces_of(const uint64_t *address, uint32_t active, int first, int lanes, int bytes,
                        int unit) {
    Pieces found;
    found.count = 0;
    if (bytes < 1 || bytes > GPU_ACCESS_MAX) fatal("a lane accesses 1 to 16 bytes, not %d", bytes);
    for (int lane = first; lane < first + lanes; lane++)
        if (active >> lane & 1) pieces_add(&found, address[lane], bytes, unit);
    return found;
}

GpuLines gpu_lines(const uint64_t address[GPU_WARP], uint32_t active, int bytes) {
    return (GpuLines){.lines = pieces_of(address, active, 0, GPU_WARP, bytes, LINE).count,
                      .sectors = pieces_of(address, active, 0, GPU_WARP, bytes, SECTOR).count};
}

// Banks work side by side, and each gives one word: the fullest one decides.
static int wavefronts_of(const Pieces *words) {
    int of_bank[BANKS] = {0}, most = 0;
    for (int i = 0; i < words->count; i++) {
        int count = ++of_bank[words->at[i] % BANKS];
        if (count > most) most = count;
    }
    return most;
}

static int lanes_at_once(int bytes) {
    return bytes <= BANK ? GPU_WARP : bytes <= 2 * BANK ? GPU_WARP / 2 : GPU_WARP / 4;
}

int gpu_quiet_wavefronts(uint32_t active, int bytes) {
    int lanes = lanes_at_once(bytes), busy = 0;
    for (int first = 0; first < GPU_WARP; first += lanes)
        busy += (active >> first & UINT32_MAX >> (GPU_WARP - lanes)) != 0;
    return busy;
}

int gpu_wavefronts(const uint64_t address[GPU_WARP], uint32_t active, int bytes) {
    int lanes = lanes_at_once(bytes);
    int sum = 0;
    for (int first = 0; first < GPU_WARP; first += lanes) {
        Pieces words = pieces_of(address, active, first, lanes, bytes, BANK);
        sum += wavefronts_of(&words);
    }
    return sum;
}
