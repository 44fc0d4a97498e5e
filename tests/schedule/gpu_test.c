/* gpu_test.c - rows of GPUs against published rates, occupancy and counts against values worked out
 * by hand. */
#include "test.h"

#include "schedule/schedule.h"

static const uint32_t ALL = UINT32_MAX;

static GpuOccupancy occupancy(const char *name, int threads, int registers, int64_t shared_bytes) {
    return gpu_occupancy(gpu_target(name), threads, registers, shared_bytes);
}

// ---- rows --------------------------------------------------------------------------------------
TEST(a_row_is_found_by_its_name) {
    CHECK_TEXT(gpu_target("a100")->architecture, "sm_80");
    CHECK_TEXT(gpu_target("h100")->architecture, "sm_90a");
    CHECK_TEXT(gpu_target("rtx3090")->architecture, "sm_86");
    CHECK_TEXT(gpu_target("rtx4090")->architecture, "sm_89");
    CHECK(gpu_target("h101") == NULL);
    int count = 0;
    while (gpu_target_at(count)) count++;
    CHECK_INT(count, 5);
    CHECK(gpu_target_at(-1) == NULL);
}

// As drivers name them.
TEST(a_row_is_found_for_a_product) {
    static const struct {
        const char *product, *row;
        int capability;
    } products[] = {{"NVIDIA A100-SXM4-80GB", "a100", 80},
                    {"NVIDIA H100 80GB HBM3", "h100", 90},
                    {"NVIDIA H200", "h200", 90},
                    {"NVIDIA GeForce RTX 3090 Ti", "rtx3090", 86},
                    {"NVIDIA GeForce RTX 4090", "rtx4090", 89},
                    {"NVIDIA GH200 480GB", "h200", 90},
                    {"NVIDIA A10", "rtx3090", 86},
                    {"NVIDIA A1000", "rtx3090", 86},
                    {"NVIDIA L40S", "rtx4090", 89},
                    {"NVIDIA B200", "h100", 100}};
    for (int i = 0; i < COUNT_OF(products); i++)
        CHECK_TEXT(gpu_target_like(products[i].product, products[i].capability)->name,
                   products[i].row);
}

// Lanes times clock is the TFLOP/s that NVIDIA publishes.
TEST(lanes_and_clock_give_the_published_rate) {
    static const struct {
        const char *name;
        double tflops;
    } published[] = {
        {"a100", 19.5}, {"h100", 66.9}, {"h200", 66.9}, {"rtx3090", 35.6}, {"rtx4090", 82.6}};
    for (int i = 0; i < COUNT_OF(published); i++) {
        const GpuTarget *target = gpu_target(published[i].name);
        CHECK_NEAR(2e-12 * target->lanes * target->sms * target->clock, published[i].tflops, 0.05);
        CHECK_INT(target->shared - target->block_shared, 1024);
    }
}

// ---- occupancy ---------------------------------------------------------------------------------
TEST(threads_fill_an_sm) {
    GpuOccupancy found = occupancy("a100", 256, 32, 0);  // 2048 / 256
    CHECK_INT(found.blocks, 8);
    CHECK_INT(found.warps, 64);
    CHECK_NEAR(found.share, 1, 0);
    CHECK_INT(found.limit, GPU_BY_THREADS);
    found = occupancy("rtx3090", 1024, 32, 0);  // of 1536 threads, 1024
    CHECK_INT(found.blocks, 1);
    CHECK_NEAR(found.share, 2.0 / 3, 1e-12);
    CHECK_TEXT(gpu_limit_name(found.limit), "threads");
}

TEST(blocks_of_one_warp_are_limited_by_their_number) {
    CHECK_INT(occupancy("a100", 32, 16, 0).blocks, 32);
    CHECK_INT(occupancy("a100", 32, 16, 0).limit, GPU_BY_BLOCKS);
    CHECK_NEAR(occupancy("a100", 32, 16, 0).share, 0.5, 0);
    CHECK_INT(occupancy("rtx3090", 64, 16, 0).warps, 32);  // 16 blocks
    CHECK_INT(occupancy("rtx4090", 64, 16, 0).warps, 48);  // 24 blocks, which are all threads
}

// 33 registers are 1056 a warp, so 1280; a quarter of an SM, 16384, holds 12 warps and not 15.
TEST(registers_come_in_pieces_of_256_a_warp) {
    GpuOccupancy found = occupancy("a100", 256, 33, 0);
    CHECK_INT(found.blocks, 6);
    CHECK_INT(found.warps, 48);
    CHECK_NEAR(found.share, 0.75, 0);
    CHECK_INT(found.limit, GPU_BY_REGISTERS);
    CHECK_INT(occupancy("rtx4090", 256, 40, 0).blocks, 6);  // 12 warps a quarter, all that fit
    CHECK_INT(occupancy("a100", 128, 255, 0).blocks, 2);    // 8192 a warp, 2 a quarter
    CHECK_INT(occupancy("h100", 1024, 64, 0).blocks, 1);    // 2048 a warp, 8 a quarter
    CHECK_INT(occupancy("h100", 160, 255, 0).blocks, 1);  // 8 warps in all, of which a block has 5
}

// 65 registers are 2304 a warp: 32 warps want 73728 of 65536.
TEST(a_block_with_too_many_registers_cannot_be_launched) {
    CHECK_INT(occupancy("h100", 1024, 65, 0).blocks, 0);
    CHECK_INT(occupancy("h100", 1024, 65, 0).limit, GPU_BY_REGISTERS);
    CHECK_INT(occupancy("h100", 32, 256, 0).blocks, 0);
    CHECK_INT(occupancy("h100", 1025, 16, 0).blocks, 0);
    CHECK_INT(occupancy("h100", 1025, 16, 0).limit, GPU_BY_THREADS);
    CHECK_INT(occupancy("h100", 1024, 0, 0).blocks, 2);  // unknown registers limit nothing
}

// A block takes 1 KB more than it asks for: of 228 KB, 76 KB fit twice and not three times.
TEST(shared_memory_has_a_reserved_part_and_a_granularity) {
    CHECK_INT(occupancy("h100", 128, 32, 75 << 10).blocks, 3);
    CHECK_INT(occupancy("h100", 128, 32, (75 << 10) + 1).blocks, 2);
    CHECK_INT(occupancy("h100", 128, 168, 100 << 10).blocks, 2);  // registers would let 3
    CHECK_INT(occupancy("h100", 128, 168, 100 << 10).limit, GPU_BY_SHARED);
    CHECK_INT(occupancy("rtx4090", 256, 32, 99 << 10).blocks, 1);
    CHECK_INT(occupancy("rtx4090", 256, 32, 100 << 10).blocks, 0);
    // 18 times 12970 bytes fit, of which a block has 11946; 102 pieces of 128 fit 17 times.
    CHECK_INT(occupancy("h200", 64, 16, 11946).blocks, 17);
}

TEST(misuse_of_occupancy_stops) {
    CHECK_FATAL_TEXT(occupancy("h100", 0, 16, 0), "0 threads");
    CHECK_FATAL_TEXT(occupancy("h100", 32, 16, -1), "-1 bytes");
}

// ---- a warp's request --------------------------------------------------------------------------
// Lane i at base + i * stride bytes.
static const uint64_t *lanes(uint64_t base, uint64_t stride) {
    static uint64_t address[GPU_WARP];
    for (int i = 0; i < GPU_WARP; i++) address[i] = base + (uint64_t)i * stride;
    return address;
}

static void check_lines(const uint64_t *address, uint32_t active, int bytes, int line, int sector) {
    GpuLines found = gpu_lines(address, active, bytes);
    CHECK_INT(found.lines, line);
    CHECK_INT(found.sectors, sector);
}

TEST(lines_of_a_global_request) {
    check_lines(lanes(1 << 20, 4), ALL, 4, 1, 4);           // a row of f32
    check_lines(lanes(1 << 20, 4096), ALL, 4, 32, 32);      // a column
    check_lines(lanes(1 << 20, 16), ALL, 16, 4, 16);        // a row of float4
    check_lines(lanes(1 << 20, 8), ALL, 4, 2, 8);           // every second f32
    check_lines(lanes((1 << 20) + 4, 4), ALL, 4, 2, 5);     // a row that begins one f32 later
    check_lines(lanes(1 << 20, 0), ALL, 4, 1, 1);           // one element for all
    check_lines(lanes(1 << 20, 1), ALL, 1, 1, 1);           // a row of bytes
    check_lines(lanes(1 << 20, 4), 0xff, 4, 1, 1);          // by 8 lanes
    check_lines(lanes(1 << 20, 4096), 0x101, 4, 2, 2);      // by 2
    check_lines(lanes(1 << 20, 4), 0, 4, 0, 0);             // by none
    check_lines(lanes(UINT64_MAX - 127, 4), ALL, 4, 1, 4);  // at the end of what can be addressed
}

TEST(wavefronts_of_a_shared_request) {
    CHECK_INT(gpu_wavefronts(lanes(0, 4), ALL, 4), 1);     // a row
    CHECK_INT(gpu_wavefronts(lanes(0, 128), ALL, 4), 32);  // a column of 32 floats
    CHECK_INT(gpu_wavefronts(lanes(0, 132), ALL, 4), 1);   // of 33: padded
    CHECK_INT(gpu_wavefronts(lanes(0, 8), ALL, 4), 2);     // every second one
    CHECK_INT(gpu_wavefronts(lanes(64, 0), ALL, 4), 1);    // one for all
    CHECK_INT(gpu_wavefronts(lanes(0, 1), ALL, 1), 1);     // four lanes share a word
    CHECK_INT(gpu_wavefronts(lanes(0, 128), 0xf, 4), 4);   // by 4 lanes
    CHECK_INT(gpu_wavefronts(lanes(0, 4), 0, 4), 0);       // by none
}

// A tile of 32 x 32 f32: element (row, column) at column ^ row.
TEST(a_swizzled_column_has_no_conflict) {
    uint64_t column[GPU_WARP], row[GPU_WARP];
    for (uint64_t i = 0; i < GPU_WARP; i++) {
        column[i] = 4 * (32 * i + (5 ^ i));
        row[i] = 4 * (32 * 5 + (i ^ 5));
    }
    CHECK_INT(gpu_wavefronts(column, ALL, 4), 1);
    CHECK_INT(gpu_wavefronts(row, ALL, 4), 1);
}

// 512 bytes are four times what 32 banks give in a clock.
TEST(wide_shared_requests_go_in_parts) {
    CHECK_INT(gpu_wavefronts(lanes(0, 8), ALL, 8), 2);
    CHECK_INT(gpu_wavefronts(lanes(0, 16), ALL, 16), 4);
    CHECK_INT(gpu_wavefronts(lanes(0, 128), ALL, 16), 32);  // all 8 of a quarter in 4 banks
    CHECK_INT(gpu_wavefronts(lanes(0, 144), ALL, 16), 4);   // rows of 128 bytes, padded by 16
    CHECK_INT(gpu_wavefronts(lanes(0, 16), 0xff, 16), 1);   // one quarter only
    CHECK_FATAL_TEXT(gpu_wavefronts(lanes(0, 32), ALL, 32), "1 to 16 bytes");
}
