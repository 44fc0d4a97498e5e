/* sides_test.c - buffers with a side here and one on a GPU, with a stand-in for it: what is copied,
 * when, and where there is memory; what a machine without a GPU is told. */
#include "runtime/runtime.h"
#include "stand_in.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

enum { MB = 1 << 20, COUNT = 1000, BYTES = COUNT * (int)sizeof(float) };

static StandInCounts *counts, before;

static Cuda *gpu_of_test(void) {
    counts = stand_in(100 * MB);
    if (device_set("cuda")) fatal("%s", error_text());
    before = *counts;
    return device()->gpu;
}

static void check_copied(int64_t there, int64_t here) {
    CHECK_INT(counts->bytes_there - before.bytes_there, there);
    CHECK_INT(counts->bytes_here - before.bytes_here, here);
}

TEST(a_machine_without_a_driver_compiler_or_gpu_says_what_to_do) {
    if (getenv("PG_LIBCUDA")) SKIP("a driver is named");
    setenv("PG_LIBCUDA", "/nonexistent", 1);
    CHECK_FAIL(device_set("cuda"), "no NVIDIA driver: /nonexistent is not there. Hint: install ");
    CHECK_FAIL(device_set("cuda:"), "there is no device cuda:. Hint: cpu, simt, cuda or cuda:N");
    CHECK_FAIL(device_set("cuda:1x"), "there is no device cuda:1x. Hint: ");
    CHECK_FAIL(device_set("cuda:-1"), "there is no device cuda:-1. Hint: ");
    CHECK_FAIL(device_set("CPU"), "there is no device CPU. Hint: ");
    CHECK_FAIL(device_set("cuda:64"), "there is no cuda:64: cuda:63 is the last");
    CHECK_FAIL(device_set("cuda:18446744073709551616"), "cuda:63 is the last");
    CHECK_INT(device()->kind, DEVICE_CPU);
    counts = stand_in(100 * MB);
    const char *compiler = getenv("PG_NVRTC");
    setenv("PG_NVRTC", "/nonexistent", 1);
    CHECK_FAIL(device_set("cuda:0"), "PG_NVRTC: cannot load /nonexistent: ");
    setenv("PG_NVRTC", compiler, 1);
    CHECK_FAIL(device_set("cuda:1"), "there is no cuda:1: this machine has 1 NVIDIA GPU, cuda:0");
    CHECK_INT(device()->kind, DEVICE_CPU);
    CHECK_INT(device_set("cuda"), 0);
    CHECK_INT(device()->kind, DEVICE_CUDA);
    const Device *first = device();
    CHECK_INT(device_set("simt") | device_set("cpu") | device_set("cuda:0"), 0);
    CHECK(device() == first && device()->gpu == cuda_open(0));
    CHECK_TEXT(device()->name, "cuda:0");
}

TEST(each_side_is_copied_once_and_when_asked_for) {
    Cuda *gpu = gpu_of_test();
    int64_t id = buffer_scratch(BYTES), live = cuda_live_bytes(gpu);
    float *here = buffer_data(id);
    for (int i = 0; i < COUNT; i++) here[i] = (float)i;
    CHECK_INT(cuda_live_bytes(gpu), live);
    uint64_t there = buffer_on_device(id, gpu, false);
    CHECK(there && buffer_on_device(id, gpu, false) == there);
    CHECK(buffer_read(id) == here);
    check_copied(BYTES, 0);
    CHECK(buffer_on_device(id, gpu, false) == there);
    check_copied(BYTES, 0);
    here = buffer_data(id);  // may be written to, so that side is behind
    here[7] = -1;
    CHECK(buffer_on_device(id, gpu, true) == there);
    check_copied(2 * BYTES, 0);
    CHECK(buffer_on_device(id, gpu, true) == there);
    CHECK_INT(cuda_fill(gpu, there, 0, 4), 0);
    const float *back = buffer_read(id);
    CHECK(back[0] == 0 && back[1] == 1 && back[7] == -1);
    check_copied(2 * BYTES, BYTES);
    CHECK(buffer_read(id) == back && buffer_on_device(id, gpu, false) == there);
    check_copied(2 * BYTES, BYTES);
    buffer_release(id);
    CHECK_INT(cuda_live_bytes(gpu), live);
}

TEST(what_only_the_gpu_makes_is_never_here) {
    Cuda *gpu = gpu_of_test();
    int64_t live = buffer_live_bytes(), id = buffer_scratch(BYTES);
    CHECK_INT(buffer_live_bytes() - live, BYTES);
    uint64_t there = buffer_on_device(id, gpu, true);
    CHECK_INT(cuda_fill(gpu, there, 0x3f, BYTES), 0);
    check_copied(0, 0);
    CHECK_INT(*(const int *)buffer_read(id), 0x3f3f3f3f);
    check_copied(0, BYTES);
    buffer_release(id);
    CHECK_INT(buffer_live_bytes() - live, 0);
}

// Zeros are not copied: they are made on the side that is asked for.
TEST(new_memory_is_zero_on_either_side) {
    Cuda *gpu = gpu_of_test();
    int64_t a = buffer_new(BYTES), b = buffer_new(BYTES);
    CHECK(buffer_on_device(a, gpu, false) != 0);
    check_copied(0, 0);
    for (int i = 0; i < COUNT; i++) CHECK(((const float *)buffer_read(a))[i] == 0);
    for (int i = 0; i < COUNT; i++) CHECK(((const float *)buffer_read(b))[i] == 0);
    check_copied(0, BYTES);
    int64_t none = buffer_new(0);
    CHECK(buffer_on_device(none, gpu, true) && buffer_read(none));
    buffer_release(a);
    buffer_release(b);
    buffer_release(none);
}

// What is wrapped stays where it is, and is copied once.
TEST(wrapped_memory_goes_there_once) {
    Cuda *gpu = gpu_of_test();
    static float weights[COUNT + 16] = {1, 2, 3};
    int64_t id = buffer_wrap(weights, BYTES, NULL, NULL), live = cuda_live_bytes(gpu);
    uint64_t there = buffer_on_device(id, gpu, false);
    float value;
    CHECK_INT(cuda_read(gpu, &value, there + 8, 4), 0);
    CHECK(value == 3 && buffer_read(id) == weights);
    CHECK(buffer_on_device(id, gpu, false) == there);
    check_copied(BYTES, 4);
    buffer_release(id);
    CHECK_INT(cuda_live_bytes(gpu), live);
}

TEST(memory_there_is_given_back_if_the_bytes_are_here) {
    Cuda *gpu = gpu_of_test();
    static float weights[COUNT + 16] = {1, 2, 3};
    int64_t live = cuda_live_bytes(gpu), id = buffer_wrap(weights, BYTES, NULL, NULL);
    CHECK(!buffer_is_there(id));
    buffer_leave_gpu(id);
    CHECK(buffer_on_device(id, gpu, false) && buffer_is_there(id));
    int64_t changes = buffer_side_changes();
    buffer_leave_gpu(id);
    CHECK(!buffer_is_there(id) && buffer_side_changes() > changes);
    CHECK_INT(cuda_live_bytes(gpu), live);
    CHECK(buffer_read(id) == weights);
    CHECK(buffer_on_device(id, gpu, true) != 0);  // newer there
    buffer_leave_gpu(id);
    CHECK(buffer_is_there(id));
    check_copied(2 * BYTES, 0);
    buffer_release(id);
    CHECK_INT(cuda_live_bytes(gpu), live);
}

// A buffer of the CPU's, before and after a GPU is chosen.
TEST(the_cpu_sees_what_the_gpu_did) {
    Cuda *gpu = gpu_of_test();
    CHECK_INT(device_set("cpu"), 0);
    int64_t id = buffer_new(BYTES);
    ((float *)buffer_data(id))[1] = 5;
    uint64_t there = buffer_on_device(id, gpu, true);
    CHECK_INT(cuda_copy(gpu, there, there + 4, 4), 0);
    CHECK(((float *)buffer_data(id))[0] == 5);
    buffer_release(id);
}

TEST(no_room_there_ends_nothing) {
    Cuda *gpu = gpu_of_test();
    int64_t large = buffer_new(200 * MB), small = buffer_new(BYTES);
    CHECK_INT((int64_t)buffer_on_device(large, gpu, true), 0);
    check_part(error_text(), "out of memory on cuda:0: 200.0 MB asked for, ", "the message",
               __FILE__, __LINE__);
    CHECK(((const char *)buffer_read(large))[200 * MB - 1] == 0);
    CHECK(buffer_on_device(small, gpu, true) != 0);
    buffer_release(large);
    buffer_release(small);
}
