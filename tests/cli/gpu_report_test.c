/* gpu_report_test.c - the text about a kernel on a GPU, whole. */
#include "test.h"

#include "../../src/cli/gpu_report.c"

static void check_report(const char *target, const GpuProfile *profile, const char *wanted) {
    Arena *arena = arena_new();
    Text text = text_new(arena);
    GpuRoofline line = gpu_roofline(arena, gpu_target(target), profile);
    gpu_report_add(&text, gpu_target(target), profile, &line);
    CHECK_TEXT(text.at, wanted);
    arena_free(arena);
}

// A matmul of 1024, a thread an element and a warp 32 of a row of c: for each k, a warp loads one
// f32 of a for all lanes, a sector, and 32 of a row of b, four.
static const GpuProfile naive = {
    .name = "matmul_0",
    .blocks = 4096,
    .threads = 256,
    .registers = 32,
    .counts = {.flops = 2147483648.0,
               .instructions = 268435456,
               .loads = 67108864,
               .load_lines = 67108864,
               .load_sectors = 167772160,
               .stores = 32768,
               .store_lines = 32768,
               .store_sectors = 131072,
               .l2_sectors = 20971520,
               .memory_bytes = 12582912},
};

// clang-format off
TEST(a_naive_matmul) {
    check_report("h100", &naive,
"matmul_0 on H100 SXM5 80 GB (sm_90a)\n"
"  launch           4096 blocks of 256 threads, no shared memory\n"
"  registers        32 a thread, no spills\n"
"  occupancy        8 blocks an SM: 64 of 64 warps, 100 %, limited by threads\n"
"  global loads     67108864 requests, 1.0 lines each, 2.5 of 4 sectors of a line\n"
"  global stores    32768 requests, 1.0 lines each, 4.0 of 4 sectors of a line\n"
"  bytes            L1 5.373 GB, L2 671.1 MB, memory 12.58 MB at least\n"
"  operations       FP32 2.147 GFLOP, tensor cores 0 FLOP; at least 268.4 M instructions of warps\n"
"  FLOP a byte      L1 0.25 (ridge 2.0), L2 3.20 (ridge 6.9), memory 170.67 (ridge 20.0)\n"
"  roof                            amount                   peak        time  share\n"
"  FP32                       2.147 GFLOP          66.91 TFLOP/s     32.1 us   10 %  #\n"
"  issue             268.4 M instructions 1.045 T instructions/s    256.8 us   82 %  ##########\n"
"  L1 and shared       67.14 M wavefronts   261.4 G wavefronts/s    256.9 us   82 %  ##########\n"
"  L2                            671.1 MB               9.7 TB/s     69.2 us   22 %  ###\n"
"  memory                        12.58 MB             3.352 TB/s      3.8 us    1 %\n"
"  estimate         313.9 us; a scheduler has 16.0 warps, each with 1.0 instructions that do not\n"
"                   wait for each other, which take 19.0 clocks; none is eligible in 18 % of\n"
"                   clocks\n"
"  bandwidth bound  L1 and shared at 82 % of its peak, compute at 82 % (estimate)\n");
}
// clang-format on

// Tiles of 128 x 128 in shared memory, whose columns are read with conflicts of four.
static const GpuProfile tiled = {
    .name = "matmul_1",
    .blocks = 64,
    .counted = 4,
    .threads = 256,
    .shared_bytes = 32768,
    .counts = {.tensor_flops = 2147483648.0,
               .instructions = 6e6,
               .loads = 131072,
               .load_lines = 524288,
               .load_sectors = 2097152,
               .stores = 8192,
               .store_lines = 32768,
               .store_sectors = 131072,
               .shared = 1e6,
               .wavefronts = 4e6,
               .conflict_free = 1e6,
               .memory_bytes = 12582912,
               .independent = 16},
};

// clang-format off
TEST(a_tile_in_shared_memory) {
    check_report("rtx3090", &tiled,
"matmul_1 on GeForce RTX 3090 (sm_86)\n"
"  counted          4 of 64 blocks; the others are taken for alike\n"
"  launch           64 blocks of 256 threads, 32.0 KB of shared memory each\n"
"  registers        not known, so occupancy is without them\n"
"  occupancy        3 blocks an SM: 24 of 48 warps, 50 %, limited by shared memory\n"
"  global loads     131072 requests, 4.0 lines each, 4.0 of 4 sectors of a line\n"
"  global stores    8192 requests, 4.0 lines each, 4.0 of 4 sectors of a line\n"
"  shared memory    1000000 requests, 4.0 wavefronts each, 1.0 without bank conflicts\n"
"  bytes            L1 71.3 MB, L2 71.3 MB, memory 12.58 MB at least\n"
"  operations       FP32 0 FLOP, tensor cores 2.147 GFLOP; at least 6 M instructions of warps\n"
"  FLOP a byte      L1 3.28 (ridge 2.0), L2 30.12 (ridge 14.8), memory 170.67 (ridge 38.0)\n"
"  roof                            amount                   peak        time  share\n"
"  TF32 tensor cores          2.147 GFLOP           35.6 TFLOP/s     60.3 us   78 %  #########\n"
"  issue                 6 M instructions   556 G instructions/s     10.8 us   14 %  ##\n"
"  L1 and shared       5.114 M wavefronts     139 G wavefronts/s     36.8 us   48 %  ######\n"
"  L2                             71.3 MB               2.4 TB/s     29.7 us   38 %  #####\n"
"  memory                        12.58 MB               936 GB/s     13.4 us   17 %  ##\n"
"  estimate         77.3 us; a scheduler has 2.0 warps, each with 16.0 instructions that do not\n"
"                   wait for each other, which take 16.2 clocks; none is eligible in 86 % of\n"
"                   clocks\n"
"  compute bound    TF32 tensor cores at 78 % of its peak, memory at 48 % (estimate)\n");
}
// clang-format on

static const GpuProfile large = {.name = "copy_0",
                                 .blocks = 7,
                                 .threads = 96,
                                 .registers = 255,
                                 .spilled = 24,
                                 .shared_bytes = 200 << 10};

// clang-format off
TEST(too_much_shared_memory) {
    check_report("rtx4090", &large,
"copy_0 on GeForce RTX 4090 (sm_89)\n"
"  launch           7 blocks of 96 threads, 200.0 KB of shared memory each\n"
"  registers        255 a thread, and 24 bytes of spills\n"
"  occupancy        0 blocks an SM: 0 of 48 warps, 0 %, limited by shared memory\n"
"  bytes            L1 0 B, L2 0 B, memory 0 B at least\n"
"  operations       FP32 0 FLOP, tensor cores 0 FLOP; at least 0 instructions of warps\n"
"  does not fit     no block fits an SM of this GPU, by shared memory\n");
}
// clang-format on
