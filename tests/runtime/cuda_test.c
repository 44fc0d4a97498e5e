/* cuda_test.c - NVIDIA's GPUs: on a machine with one, what it does; on any, what the user is told.
 * Order, waiting and errors are tested without a GPU in driver_test.c. */
#include "runtime/runtime.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MB = 1 << 20 };

// In a process of its own, before any test here has loaded the driver.
static void check_message(const char *library, const char *message) {
    int pipes[2];
    char got[ERROR_SIZE] = "";
    CHECK_INT(pipe(pipes), 0);
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (!child) {
        CudaInfo info;
        setenv("PG_LIBCUDA", library, 1);
        bool told = cuda_devices() == -1 && cuda_info(0, &info) == -1 && !cuda_open(0) &&
                    write(pipes[1], error_text(), strlen(error_text())) > 0;
        _exit(!told);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && !status);
    CHECK(read(pipes[0], got, sizeof got - 1) > 0);
    CHECK_TEXT(got, message);
    close(pipes[0]);
    close(pipes[1]);
}

TEST(a_missing_driver_is_one_line) {
    check_message("/nonexistent",
                  "no NVIDIA driver: /nonexistent is not there. Hint: install the driver, or "
                  "--device cpu");
    check_message("libm.so.6", "libm.so.6 has no cuInit. Hint: a driver of CUDA 12 or later");
}

static Cuda *gpu_of_test(void) {
    if (cuda_devices() < 0) SKIP(error_text());
    Cuda *gpu = cuda_open(0);
    if (!gpu) fatal("%s", error_text());
    return gpu;
}

// The kernel of a text, compiled for this GPU.
static CudaFunction compile(Cuda *gpu, const char *source, const char *name, int64_t shared) {
    if (!nvrtc_available()) SKIP(error_text());
    Arena *arena = arena_new();
    const CudaInfo *info = cuda_facts(gpu);
    NvrtcUnit unit = {.name = name,
                      .source = source,
                      .arch = arena_print(arena, "sm_%d%d", info->major, info->minor)};
    CudaFunction function;
    if (nvrtc_compile(arena, &unit, 1)) fatal("%s", error_text());
    CudaModule *module = cuda_module(gpu, name, unit.cubin);
    if (!module || cuda_function(gpu, module, name, shared, &function)) fatal("%s", error_text());
    arena_free(arena);
    return function;
}

static const char axpy_source[] =
    "extern \"C\" __global__ void __launch_bounds__(256)\n"
    "axpy(float *to, const float *from, float by, long long n) {\n"
    "    for (long long i = blockIdx.x * 256ll + threadIdx.x; i < n; i += gridDim.x * 256ll)\n"
    "        to[i] += by * from[i];\n"
    "}\n";

static void launch_axpy(Cuda *gpu, const CudaFunction *axpy, uint64_t to, uint64_t from, float by,
                        int64_t count) {
    CHECK_INT(cuda_launch(gpu, axpy, 1000, 256, (void *[]){&to, &from, &by, &count}), 0);
}

TEST(what_a_gpu_is) {
    Cuda *gpu = gpu_of_test();
    const CudaInfo *info = cuda_facts(gpu);
    int64_t available, total;
    CHECK(info->name[0] && info->major >= 5 && info->processors > 0 && info->l2 > 0);
    CHECK(info->memory >= (int64_t)256 * MB && info->shared >= 48 << 10);
    CHECK(info->version >= 11040);
    CHECK_INT(cuda_room(gpu, &available, &total), 0);
    CHECK(available > 0 && available <= total && total <= info->memory);
    printf("%s, sm_%d%d, %d multiprocessors, CUDA %d\n", info->name, info->major, info->minor,
           info->processors, info->version);
}

TEST(what_is_written_is_read) {
    Cuda *gpu = gpu_of_test();
    static const int64_t sizes[] = {1, 4097, MB - 1, MB, 8 * MB + 12345, 100 * MB};
    uint8_t *from = malloc(100 * MB), *to = malloc(100 * MB);
    for (int i = 0; i < 2 * COUNT_OF(sizes); i++) {
        int64_t bytes = sizes[i % COUNT_OF(sizes)];
        for (int64_t j = 0; j < bytes; j++) from[j] = (uint8_t)(j * 7 + j / 1000 + i);
        const DeviceMemory *a = cuda_get(gpu, bytes), *b = cuda_get(gpu, bytes);
        CHECK(a && b);
        CHECK_INT(cuda_write(gpu, a->at, from, bytes), 0);
        memset(from, 0xee, 100 * MB);  // it may be changed at once
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
    free(from);
    free(to);
}

TEST(a_kernel_runs_and_is_timed) {
    Cuda *gpu = gpu_of_test();
    enum { COUNT = 10000019 };
    CudaFunction axpy = compile(gpu, axpy_source, "axpy", 0);
    const DeviceMemory *a = cuda_get(gpu, COUNT * 4), *b = cuda_get(gpu, COUNT * 4);
    float *values = malloc(COUNT * 4);
    for (int i = 0; i < COUNT; i++) values[i] = (float)(i % 1000);
    CHECK(a && b);
    CHECK_INT(cuda_write(gpu, a->at, values, COUNT * 4), 0);
    CHECK_INT(cuda_fill(gpu, b->at, 0, COUNT * 4), 0);
    CudaEvent *first = cuda_event(gpu), *second = cuda_event(gpu);
    CHECK(first && second);
    CHECK_INT(cuda_event_record(gpu, first), 0);
    for (int i = 0; i < 10; i++) launch_axpy(gpu, &axpy, b->at, a->at, 0.5f, COUNT);
    CHECK_INT(cuda_event_record(gpu, second), 0);
    double seconds = 0;
    CHECK_INT(cuda_event_seconds(gpu, first, second, &seconds), 0);
    CHECK(seconds > 0 && seconds < 10);
    CHECK_INT(cuda_read(gpu, values, b->at, COUNT * 4), 0);
    bool same = true;
    for (int i = 0; i < COUNT; i++) same &= values[i] == 5 * (float)(i % 1000);
    CHECK(same);
    cuda_event_free(gpu, first);
    cuda_event_free(gpu, second);
    cuda_put(gpu, a);
    cuda_put(gpu, b);
    free(values);
}

TEST(a_block_has_the_shared_memory_it_asks_for) {
    Cuda *gpu = gpu_of_test();
    int bytes = cuda_facts(gpu)->shared;
    CudaFunction reverse = compile(gpu,
                                   "extern \"C\" __global__ void reverse(int *a, int n) {\n"
                                   "    extern __shared__ int t[];\n"
                                   "    for (int i = threadIdx.x; i < n; i += 256) t[i] = a[i];\n"
                                   "    __syncthreads();\n"
                                   "    for (int i = threadIdx.x; i < n; i += 256)\n"
                                   "        a[i] = t[n - 1 - i];\n"
                                   "}\n",
                                   "reverse", bytes);
    int count = bytes / 4, *values = malloc((size_t)bytes);
    for (int i = 0; i < count; i++) values[i] = i;
    const DeviceMemory *a = cuda_get(gpu, bytes);
    uint64_t at = a->at;
    CHECK_INT(cuda_write(gpu, at, values, bytes), 0);
    CHECK_INT(cuda_launch(gpu, &reverse, 1, 256, (void *[]){&at, &count}), 0);
    CHECK_INT(cuda_read(gpu, values, at, bytes), 0);
    bool same = true;
    for (int i = 0; i < count; i++) same &= values[i] == count - 1 - i;
    CHECK(same);
    cuda_put(gpu, a);
    free(values);
}

// b += a, a += b; then with other factors, and with one launch left out.
TEST(a_graph_repeats_its_launches) {
    Cuda *gpu = gpu_of_test();
    CudaFunction axpy = compile(gpu, axpy_source, "axpy", 0);
    float value = 1, by = 1;
    int64_t count = 1;
    const DeviceMemory *a = cuda_get(gpu, 4), *b = cuda_get(gpu, 4);
    uint64_t to = a->at, from = b->at;
    CHECK_INT(cuda_write(gpu, a->at, &value, 4) | cuda_write(gpu, b->at, &value, 4), 0);
    CudaLaunch launch[] = {{&axpy, 1, 256, (void *[]){&from, &to, &by, &count}},
                           {&axpy, 1, 256, (void *[]){&to, &from, &by, &count}}};
    CudaGraph *graph = cuda_graph(gpu, 2, launch);
    CHECK(graph != NULL);
    CHECK_INT(cuda_read(gpu, &value, b->at, 4), 0);
    CHECK(value == 1);
    for (int i = 0; i < 3; i++) CHECK_INT(cuda_graph_launch(gpu, graph), 0);
    CHECK_INT(cuda_read(gpu, &value, a->at, 4), 0);
    CHECK(value == 21);
    by = 2;
    CHECK_INT(cuda_graph_change(gpu, graph, 0, &launch[0]), 0);
    launch[1].blocks = 0;
    CHECK_INT(cuda_graph_change(gpu, graph, 1, &launch[1]), 0);
    CHECK_INT(cuda_graph_launch(gpu, graph), 0);
    CHECK_INT(cuda_read(gpu, &value, b->at, 4), 0);
    CHECK(value == 13 + 2 * 21);
    launch[1].blocks = 1000;
    CHECK_INT(cuda_graph_change(gpu, graph, 1, &launch[1]), 0);
    CHECK_INT(cuda_graph_launch(gpu, graph), 0);
    CHECK_INT(cuda_read(gpu, &value, a->at, 4), 0);
    CHECK(value == 21 + 2 * (55 + 2 * 21));
    cuda_graph_free(gpu, graph);
    cuda_put(gpu, a);
    cuda_put(gpu, b);
}

TEST(out_of_memory_ends_nothing) {
    Cuda *gpu = gpu_of_test();
    int64_t bytes = cuda_facts(gpu)->memory;
    CHECK(cuda_get(gpu, 2 * bytes) == NULL);
    check_part(error_text(), "out of memory on cuda:0: ", "the message", __FILE__, __LINE__);
    CHECK(cuda_get(gpu, INT64_MAX) == NULL);
    // As long as there is room; then all of it is there again.
    enum { MOST = 64 };
    const DeviceMemory *part[MOST];
    int count = 0;
    while (count < MOST && (part[count] = cuda_get(gpu, bytes / 8))) count++;
    CHECK(count > 0 && count < 8);
    int kept = count;
    while (count) cuda_put(gpu, part[--count]);
    const DeviceMemory *whole = cuda_get(gpu, bytes / 8 * kept);
    CHECK(whole != NULL);
    CHECK_INT(cuda_fill(gpu, whole->at, 0, whole->bytes), 0);
    CHECK_INT(cuda_wait(gpu), 0);
    cuda_put(gpu, whole);
    CHECK(cuda_give_back(gpu) >= bytes / 8 * kept);
    CHECK_INT(cuda_live_bytes(gpu), 0);
}

// The last test: nothing works on the GPU after it, and everything says so.
TEST(a_fault_is_told_by_what_comes_later) {
    Cuda *gpu = gpu_of_test();
    CudaFunction fault =
        compile(gpu, "extern \"C\" __global__ void fault(int *a) { *a = 1; }", "fault", 0);
    const DeviceMemory *a = cuda_get(gpu, 4);
    uint64_t wild = 64;
    CHECK_FAIL(
        cuda_launch(gpu, &(CudaFunction){"axpy", fault.handle, 1 << 30}, 1, 32, (void *[]){&wild}),
        "cuda:0: launching kernel axpy: CUDA_ERROR_");
    CHECK_INT(cuda_launch(gpu, &fault, 1, 32, (void *[]){&wild}), 0);
    CHECK_FAIL(cuda_wait(gpu), "cuda:0: waiting for its work: CUDA_ERROR_ILLEGAL_ADDRESS");
    check_part(error_text(), "The kernel launched last is fault", "the message", __FILE__,
               __LINE__);
    int value;
    CHECK_FAIL(cuda_read(gpu, &value, a->at, 4), "CUDA_ERROR_ILLEGAL_ADDRESS");
}
