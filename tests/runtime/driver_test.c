/* driver_test.c - what cuda.c asks of NVIDIA's driver, with a stand-in for it: order, waiting,
 * memory that runs out, graphs, messages. What only a GPU can show is in cuda_test.c. */
#include "runtime/runtime.h"
#include "test.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MB = 1 << 20, ROOM = 100 * MB };

static char folder[64];

static void remove_all(void) {
    char command[256];
    snprintf(command, sizeof command, "rm -r %s", folder);
    if (system(command)) perror(folder);
}

static Cuda *gpu_of_test(void) {
    if (!folder[0]) {
        Arena *arena = arena_new();
        const char *compiler = compiler_path(arena);
        if (!compiler) SKIP(error_text());
        strcpy(folder, "/tmp/picograd-test-XXXXXX");
        CHECK(mkdtemp(folder) != NULL);
        atexit(remove_all);
        char *library = arena_print(arena, "%s/libcuda.so", folder);
        CHECK_INT(system(arena_print(
                      arena, "%s -std=gnu11 -shared -fPIC -Isrc tests/runtime/driver.c -o %s",
                      compiler, library)),
                  0);
        setenv("PG_LIBCUDA", library, 1);
        setenv("DRIVER_ROOM", arena_print(arena, "%d", ROOM), 1);
        arena_free(arena);
    }
    Cuda *gpu = cuda_open(0);
    CHECK(gpu != NULL);
    return gpu;
}

TEST(what_a_device_is) {
    Cuda *gpu = gpu_of_test();
    CHECK(gpu == cuda_open(0));
    CHECK_INT(cuda_devices(), 1);
    CHECK(cuda_open(1) == NULL);
    CHECK_TEXT(error_text(), "there is no cuda:1: this machine has 1 NVIDIA GPU, cuda:0");
    CudaInfo info;
    CHECK_FAIL(cuda_info(-1, &info), "there is no cuda:-1");
    CHECK_INT(cuda_info(0, &info), 0);
    CHECK_TEXT(info.name, "Stand-in \"7\"");
    CHECK_INT(info.major * 10 + info.minor, 90);
    CHECK_INT(info.memory, ROOM);
    CHECK_INT(info.processors, 16);
    CHECK_INT(cuda_facts(gpu)->l2, 38);
    CHECK_INT(info.version, 12040);
}

// Sizes around those of a stage, and odd ones; twice, so that stages are used again.
TEST(what_is_written_is_read) {
    Cuda *gpu = gpu_of_test();
    static const int64_t sizes[] = {0,          1,      4097,           MB - 1,      MB,
                                    8 * MB - 1, 8 * MB, 8 * MB + 12345, 16 * MB + 1, 41 * MB};
    uint8_t *from = malloc(41 * MB), *to = malloc(41 * MB);
    for (int i = 0; i < 2 * COUNT_OF(sizes); i++) {
        int64_t bytes = sizes[i % COUNT_OF(sizes)];
        for (int64_t j = 0; j < bytes; j++) from[j] = (uint8_t)(j * 7 + j / 1000 + i);
        const DeviceMemory *a = cuda_get(gpu, bytes), *b = cuda_get(gpu, bytes);
        CHECK(a && b);
        CHECK_INT(cuda_write(gpu, a->at, from, bytes), 0);
        memset(from, 0xee, 41 * MB);  // it may be changed at once
        CHECK_INT(cuda_fill(gpu, b->at, 3, bytes), 0);
        CHECK_INT(cuda_copy(gpu, b->at, a->at, bytes / 2), 0);
        CHECK_INT(cuda_read(gpu, to, b->at, bytes), 0);
        bool same = true;
        for (int64_t j = 0; j < bytes; j++)
            same &= to[j] == (j < bytes / 2 ? (uint8_t)(j * 7 + j / 1000 + i) : 3);
        CHECK(same);
        cuda_put(gpu, a);
        cuda_put(gpu, b);
    }
    CHECK_INT(cuda_live_bytes(gpu), 0);
    CHECK_INT(cuda_wait(gpu), 0);
    cuda_give_back(gpu);
    free(from);
    free(to);
}

static void launch_add(Cuda *gpu, const CudaFunction *add, uint64_t to, uint64_t from, int count) {
    CHECK_INT(cuda_launch(gpu, add, 1, 32, (void *[]){&to, &from, &count}), 0);
}

TEST(kernels_run_in_order) {
    Cuda *gpu = gpu_of_test();
    CudaModule *module = cuda_module(gpu, "k", "a cubin");
    CHECK(module != NULL);
    CudaFunction add;
    CHECK_INT(cuda_function(gpu, module, "add", 64 << 10, &add), 0);
    CHECK_TEXT(add.name, "add");
    float values[] = {1, 2, 3};
    const DeviceMemory *a = cuda_get(gpu, sizeof values), *b = cuda_get(gpu, sizeof values);
    CHECK_INT(cuda_write(gpu, a->at, values, sizeof values), 0);
    CHECK_INT(cuda_fill(gpu, b->at, 0, sizeof values), 0);
    CudaEvent *first = cuda_event(gpu), *second = cuda_event(gpu);
    double seconds;
    CHECK_INT(cuda_event_record(gpu, first), 0);
    for (int i = 0; i < 4; i++) launch_add(gpu, &add, b->at, a->at, 3);
    launch_add(gpu, &add, a->at, b->at, 2);
    CHECK_INT(cuda_event_record(gpu, second), 0);
    CHECK_INT(cuda_launch(gpu, &add, 0, 32, NULL), 0);
    CHECK_INT(cuda_event_seconds(gpu, first, second, &seconds), 0);
    CHECK_NEAR(seconds, 0.006, 1e-9);
    CHECK_INT(cuda_read(gpu, values, a->at, sizeof values), 0);
    CHECK(values[0] == 5 && values[1] == 10 && values[2] == 3);
    cuda_event_free(gpu, first);
    cuda_event_free(gpu, second);
    cuda_module_free(gpu, module);
    cuda_put(gpu, a);
    cuda_put(gpu, b);
}

// b += a, a += b; and so on. What a launch is given is read when the graph is made or changed.
TEST(a_graph_repeats_its_launches) {
    Cuda *gpu = gpu_of_test();
    CudaModule *module = cuda_module(gpu, "k", "a cubin");
    CudaFunction add;
    CHECK_INT(cuda_function(gpu, module, "add", 0, &add), 0);
    float value = 1;
    int count = 1;
    const DeviceMemory *a = cuda_get(gpu, 4), *b = cuda_get(gpu, 4), *c = cuda_get(gpu, 4);
    uint64_t at[] = {a->at, b->at, c->at};
    CHECK_INT(cuda_write(gpu, at[0], &value, 4) | cuda_write(gpu, at[1], &value, 4), 0);
    CHECK_INT(cuda_write(gpu, at[2], &value, 4), 0);
    CudaLaunch launch[] = {{&add, 1, 32, (void *[]){&at[1], &at[0], &count}},
                           {&add, 1, 32, (void *[]){&at[0], &at[1], &count}}};
    CudaGraph *graph = cuda_graph(gpu, 2, launch);
    CHECK(graph != NULL);
    at[1] = 0;
    CHECK_INT(cuda_read(gpu, &value, b->at, 4), 0);
    CHECK(value == 1);
    for (int i = 0; i < 3; i++) CHECK_INT(cuda_graph_launch(gpu, graph), 0);
    CHECK_INT(cuda_read(gpu, &value, a->at, 4), 0);
    CHECK(value == 21);  // 1 1, 3 2, 8 5, 21 13
    // Its second launch gives c += b; then nothing.
    at[1] = b->at;
    launch[1].param = (void *[]){&at[2], &at[1], &count};
    CHECK_INT(cuda_graph_change(gpu, graph, 1, &launch[1]), 0);
    CHECK_INT(cuda_graph_launch(gpu, graph), 0);
    CHECK_INT(cuda_read(gpu, &value, c->at, 4), 0);
    CHECK(value == 35);
    launch[1].blocks = 0;
    CHECK_INT(cuda_graph_change(gpu, graph, 1, &launch[1]), 0);
    CHECK_INT(cuda_graph_launch(gpu, graph), 0);
    CHECK_INT(cuda_read(gpu, &value, c->at, 4), 0);
    CHECK(value == 35);
    CHECK_INT(cuda_read(gpu, &value, b->at, 4), 0);
    CHECK(value == 55);
    launch[1].blocks = 1;
    CHECK_INT(cuda_graph_change(gpu, graph, 1, &launch[1]), 0);
    CHECK_INT(cuda_graph_launch(gpu, graph), 0);
    CHECK_INT(cuda_read(gpu, &value, c->at, 4), 0);
    CHECK(value == 35 + 76);
    launch[1].blocks = INT64_MAX;
    CHECK_FAIL(cuda_graph_change(gpu, graph, 1, &launch[1]), "kernel add needs 92233720368547");
    CHECK(cuda_graph(gpu, 2, launch) == NULL);
    launch[1].blocks = 0;
    CudaGraph *one = cuda_graph(gpu, 2, launch);  // left out from the start
    CHECK_INT(cuda_graph_launch(gpu, one), 0);
    CHECK_INT(cuda_read(gpu, &value, c->at, 4), 0);
    CHECK(value == 35 + 76);
    cuda_graph_free(gpu, one);
    cuda_graph_free(gpu, graph);
    cuda_module_free(gpu, module);
    cuda_put(gpu, a);
    cuda_put(gpu, b);
    cuda_put(gpu, c);
    cuda_give_back(gpu);
}

TEST(out_of_memory_ends_nothing) {
    Cuda *gpu = gpu_of_test();
    int64_t available, total;
    cuda_give_back(gpu);
    const DeviceMemory *a = cuda_get(gpu, 60 * MB);
    CHECK(a != NULL);
    CHECK(cuda_get(gpu, 50 * MB) == NULL);
    CHECK_TEXT(error_text(), "out of memory on cuda:0: 50.0 MB asked for, 40.0 of 100.0 MB free, "
                             "60.0 MB in use here");
    CHECK(cuda_get(gpu, INT64_MAX) == NULL);
    const DeviceMemory *b = cuda_get(gpu, 30 * MB);
    CHECK(b != NULL);
    cuda_put(gpu, a);
    cuda_put(gpu, b);
    // Neither block is large enough, so both go back to the driver.
    CHECK((a = cuda_get(gpu, 95 * MB)) != NULL);
    CHECK_INT(cuda_room(gpu, &available, &total), 0);
    CHECK_INT(available, 4 * MB);
    CHECK_INT(total, ROOM);
    CHECK_INT(cuda_live_bytes(gpu), 95 * MB);
    cuda_put(gpu, a);
    CHECK_INT(cuda_give_back(gpu), 96 * MB);
}

TEST(messages_name_the_kernel) {
    Cuda *gpu = gpu_of_test();
    CudaFunction function;
    CHECK(cuda_module(gpu, "pg_k_1", "no cubin") == NULL);
    CHECK_TEXT(error_text(), "cuda:0: loading pg_k_1 (GPU sm_90, driver of CUDA 12.4): "
                             "CUDA_ERROR_INVALID_IMAGE: what the driver says");
    CudaModule *module = cuda_module(gpu, "k", "a cubin");
    CHECK_FAIL(cuda_function(gpu, module, "pg_k_2", 0, &function),
               "cuda:0: finding kernel pg_k_2: CUDA_ERROR_NOT_FOUND: what the driver says");
    CHECK_FAIL(cuda_function(gpu, module, "add", 1 << 20, &function),
               "cuda:0: kernel add wants 1048576 bytes of shared memory, and a block has 204800");
    CHECK_INT(cuda_function(gpu, module, "add", 0, &function), 0);
    CHECK_FAIL(cuda_launch(gpu, &function, INT64_MAX, 32, NULL), "kernel add needs 92233720368547");
    CHECK_FATAL_TEXT(cuda_launch(gpu, &function, 1, 2048, NULL), "kernel add is launched with 1 b");
    cuda_module_free(gpu, module);
}

static void *write_on_thread(void *argument) {
    Cuda *gpu = argument;
    const DeviceMemory *memory = cuda_get(gpu, 2 * MB);
    char *bytes = calloc(1, 2 * MB);
    intptr_t failed = !memory || cuda_write(gpu, memory->at, bytes, 2 * MB) ||
                      cuda_read(gpu, bytes, memory->at, 2 * MB);
    if (memory) cuda_put(gpu, memory);
    free(bytes);
    return (void *)failed;
}

TEST(another_thread_uses_it_too) {
    Cuda *gpu = gpu_of_test();
    pthread_t thread;
    void *failed;
    CHECK_INT(pthread_create(&thread, NULL, write_on_thread, gpu), 0);
    CHECK_INT(pthread_join(thread, &failed), 0);
    CHECK(!failed);
}

// The last test: nothing works after it, and everything says so.
TEST(a_fault_is_told_by_what_comes_later) {
    Cuda *gpu = gpu_of_test();
    CudaModule *module = cuda_module(gpu, "k", "a cubin");
    CudaFunction fault;
    CHECK_INT(cuda_function(gpu, module, "fault", 0, &fault), 0);
    const DeviceMemory *a = cuda_get(gpu, 4);
    CHECK_INT(cuda_launch(gpu, &fault, 1, 32, NULL), 0);
    CHECK_FAIL(cuda_wait(gpu), "cuda:0: waiting for its work: CUDA_ERROR_ILLEGAL_ADDRESS: what the "
                               "driver says. The kernel launched last is fault. Hint: ");
    float value;
    CHECK_FAIL(cuda_read(gpu, &value, a->at, 4), "copying from it: CUDA_ERROR_ILLEGAL_ADDRESS");
    CHECK(cuda_get(gpu, 40 * MB) == NULL);
    check_part(error_text(), "CUDA_ERROR_ILLEGAL_ADDRESS", "the message", __FILE__, __LINE__);
    CHECK_FAIL(cuda_launch(gpu, &fault, 1, 32, NULL), "launching kernel fault: CUDA_ERROR_ILLEGAL");
    cuda_put(gpu, a);
    cuda_module_free(gpu, module);
}
