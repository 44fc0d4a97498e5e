/* cuda.c - NVIDIA's GPUs, through their driver, which is loaded when first asked for.
 * In: cubins, launches, bytes to move.  Out: work on a GPU, in the order in which it was started.
 * Invariants: a GPU has one stream, on which all work of all threads is ordered; each call makes
 * the GPU's context current on its thread; an error is one line with the kernel's name or what was
 * done, and the driver's own words. A fault inside a kernel is seen by a later call, and ends all
 * use of the GPU in this process; running out of memory ends nothing.
 *   Cuda *gpu = cuda_open(0);
 *   const DeviceMemory *a = cuda_get(gpu, 4000);
 *   cuda_write(gpu, a->at, values, 4000);                                                       */
#define _GNU_SOURCE
#include "runtime/cuda_driver.h"
#include "runtime/runtime.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    DEVICES = 64,
    STAGE = 8 << 20,        // bytes of memory that the GPU reads and writes by itself; two of them
    STAGED_FROM = 1 << 20,  // smaller copies are left to the driver
    SHARED_USUAL = 48 << 10,  // bytes that a launch has without asking
    THREADS_OF_BLOCK = 1024,
};

typedef struct {
    void *at;
    CUevent done;
} Stage;

struct Cuda {
    int device;
    CudaInfo info;
    CUcontext context;
    CUstream stream;
    Pool *pool;
    _Atomic(const char *) last;  // the kernel that was launched last
    pthread_mutex_t lock;        // of what follows
    Arena *arena;
    Stage stage[2];
};

static struct {
    pthread_mutex_t lock;
    bool ready;
    int devices, version;
    Cuda *open[DEVICES];
#define FUNCTION(name, symbol, arguments) CUresult(*name) arguments;
#include "runtime/cuda.def"
#undef FUNCTION
} driver = {.lock = PTHREAD_MUTEX_INITIALIZER};

// ---- errors ------------------------------------------------------------------------------------

// CUDA_ERROR_NO_DEVICE: no CUDA-capable device is detected
static const char *describe(Arena *arena, CUresult result) {
    const char *name = NULL, *text = NULL;
    driver.GetErrorName(result, &name);
    driver.GetErrorString(result, &text);
    if (!name) return arena_print(arena, "error %d", result);
    return arena_print(arena, "%s: %s", name, text ? text : "");
}

static int refuse(const Cuda *gpu, CUresult result, const char *format, ...) PRINTF(3, 4);

static int refuse(const Cuda *gpu, CUresult result, const char *format, ...) {
    Arena *arena = arena_new();
    Text text = text_new(arena);
    va_list arguments;
    va_start(arguments, format);
    text_add_list(&text, format, arguments);
    va_end(arguments);
    text_add(&text, ": %s", describe(arena, result));
    const char *last = atomic_load(&gpu->last);
    bool fault = result >= CUDA_ERROR_ILLEGAL_ADDRESS && result < CUDA_ERROR_NOT_PERMITTED &&
                 result != CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
    if (fault && last)
        text_add(&text,
                 ". The kernel launched last is %s. Hint: PG_CUDA_GRAPH=0 CUDA_LAUNCH_BLOCKING=1 "
                 "finds the one at fault",
                 last);
    fail("cuda:%d: %s", gpu->device, text.at);
    arena_free(arena);
    return -1;
}

static int check(const Cuda *gpu, CUresult result, const char *what) {
    return result ? refuse(gpu, result, "%s", what) : 0;
}

// ---- the driver and its devices ----------------------------------------------------------------

static int find_functions(void *library, const char *path) {
    const struct {
        const char *symbol;
        void *at;
    } functions[] = {
#define FUNCTION(name, symbol, arguments) {#symbol, &driver.name},
#include "runtime/cuda.def"
#undef FUNCTION
    };
    for (int i = 0; i < COUNT_OF(functions); i++) {
        void *function = dlsym(library, functions[i].symbol);
        if (!function)
            return fail("%s has no %s. Hint: a driver of CUDA 12 or later", path,
                        functions[i].symbol);
        memcpy(functions[i].at, &function, sizeof function);
    }
    return 0;
}

// Containers and WSL have the driver outside the loader's path.
static int load_driver(void) {
    const char *paths[] = {env_text("LIBCUDA", "libcuda.so.1"),
                           "/usr/local/nvidia/lib64/libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1"};
    void *library = NULL;
    int tries = env_text("LIBCUDA", NULL) ? 1 : COUNT_OF(paths), i = 0;
    while (!library && i < tries) library = dlopen(paths[i++], RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return fail("no NVIDIA driver: %s is not there. Hint: install the driver, or --device cpu",
                    paths[0]);
    return find_functions(library, paths[i - 1]);
}

// Kernels are loaded with their module, not when they are first launched.
static int start_driver(void) {
    if (load_driver()) return -1;
    setenv("CUDA_MODULE_LOADING", "EAGER", 0);
    CUresult result = driver.Init(0);
    if (!result) result = driver.DriverGetVersion(&driver.version);
    if (!result) result = driver.DeviceGetCount(&driver.devices);
    if (!result) return 0;
    Arena *arena = arena_new();
    fail("%s: %s",
         result == CUDA_ERROR_NO_DEVICE ? "no NVIDIA GPU" : "NVIDIA's driver does not start",
         describe(arena, result));
    arena_free(arena);
    return -1;
}

int cuda_devices(void) {
    pthread_mutex_lock(&driver.lock);
    int result = driver.ready ? 0 : start_driver();
    driver.ready = !result;
    int devices = result ? -1 : (int)min_i64(driver.devices, DEVICES);
    pthread_mutex_unlock(&driver.lock);
    return devices;
}

static int find_device(int number) {
    int devices = cuda_devices();
    if (devices < 0) return -1;
    if (number >= 0 && number < devices) return 0;
    return fail("there is no cuda:%d: this machine has %d NVIDIA GPU%s", number, devices,
                devices == 1 ? ", cuda:0" : "s");
}

int cuda_info(int number, CudaInfo *info) {
    if (find_device(number)) return -1;
    const struct {
        CUdevice_attribute attribute;
        int *to;
    } facts[] = {
        {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, &info->major},
        {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, &info->minor},
        {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, &info->processors},
        {CU_DEVICE_ATTRIBUTE_CLOCK_RATE, &info->clock},
        {CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, &info->memory_clock},
        {CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, &info->memory_bits},
        {CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, &info->l2},
        {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, &info->shared},
    };
    *info = (CudaInfo){.version = driver.version};
    Cuda gpu = {.device = number};
    CUdevice device;
    size_t bytes = 0;
    CUresult result = driver.DeviceGet(&device, number);
    if (!result) result = driver.DeviceGetName(info->name, sizeof info->name, device);
    if (!result) result = driver.DeviceTotalMem(&bytes, device);
    for (int i = 0; i < COUNT_OF(facts) && !result; i++)
        result = driver.DeviceGetAttribute(facts[i].to, facts[i].attribute, device);
    info->memory = (int64_t)bytes;
    return check(&gpu, result, "asking what it is");
}

// ---- a device in use ---------------------------------------------------------------------------

// Should this fail, so does what follows, and says so.
static void enter(const Cuda *gpu) { driver.CtxSetCurrent(gpu->context); }

static int take_raw(void *gpu, int64_t bytes, uint64_t *at) {
    CUdeviceptr address;
    enter(gpu);
    if (driver.MemAlloc(&address, (size_t)bytes)) return -1;
    *at = address;
    return 0;
}

static void put_raw(void *gpu, uint64_t at) {
    enter(gpu);
    driver.MemFree(at);  // fails after a fault, which the next call tells
}

static int settle(void *context) {
    Cuda *gpu = context;
    enter(gpu);
    return driver.StreamSynchronize(gpu->stream) ? -1 : 0;
}

static int start_device(Cuda *gpu) {
    CUdevice device;
    if (cuda_info(gpu->device, &gpu->info)) return -1;
    CUresult result = driver.DeviceGet(&device, gpu->device);
    if (!result) result = driver.PrimaryCtxRetain(&gpu->context, device);
    if (!result) result = driver.CtxSetCurrent(gpu->context);
    if (!result) result = driver.StreamCreate(&gpu->stream, CU_STREAM_NON_BLOCKING);
    if (result) return refuse(gpu, result, "starting it");
    gpu->pool = pool_new(&(PoolSource){take_raw, put_raw, settle, gpu});
    return 0;
}

Cuda *cuda_open(int device) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    if (find_device(device)) return NULL;
    pthread_mutex_lock(&lock);
    if (!driver.open[device]) {
        Arena *arena = arena_new();
        Cuda *gpu = arena_object(arena, Cuda);
        *gpu = (Cuda){.device = device, .arena = arena, .lock = PTHREAD_MUTEX_INITIALIZER};
        if (!start_device(gpu))
            driver.open[device] = gpu;
        else
            arena_free(arena);
    }
    Cuda *gpu = driver.open[device];
    pthread_mutex_unlock(&lock);
    return gpu;
}

const CudaInfo *cuda_facts(const Cuda *gpu) { return &gpu->info; }

int cuda_wait(Cuda *gpu) {
    enter(gpu);
    return check(gpu, driver.StreamSynchronize(gpu->stream), "waiting for its work");
}

// ---- memory ------------------------------------------------------------------------------------

int cuda_room(Cuda *gpu, int64_t *free_bytes, int64_t *total_bytes) {
    size_t available, total;
    enter(gpu);
    if (check(gpu, driver.MemGetInfo(&available, &total), "asking for its memory")) return -1;
    *free_bytes = (int64_t)available;
    *total_bytes = (int64_t)total;
    return 0;
}

const DeviceMemory *cuda_get(Cuda *gpu, int64_t bytes) {
    const double mb = 1 << 20;
    const DeviceMemory *memory = pool_get(gpu->pool, bytes);
    int64_t available, total;
    if (memory) {
        if (!hostile() || !cuda_fill(gpu, memory->at, 0xff, bytes)) return memory;
        pool_put(gpu->pool, memory);
        return NULL;
    }
    if (cuda_room(gpu, &available, &total)) return NULL;
    fail("out of memory on cuda:%d: %.1f MB asked for, %.1f of %.1f MB free, %.1f MB in use here",
         gpu->device, (double)bytes / mb, (double)available / mb, (double)total / mb,
         (double)pool_live_bytes(gpu->pool) / mb);
    return NULL;
}

void cuda_put(Cuda *gpu, const DeviceMemory *memory) { pool_put(gpu->pool, memory); }

int64_t cuda_give_back(Cuda *gpu) { return pool_give_back(gpu->pool); }

int64_t cuda_live_bytes(Cuda *gpu) { return pool_live_bytes(gpu->pool); }

// Memory that the GPU copies to and from by itself, at once; the lock is held.
static CUresult open_stages(Cuda *gpu) {
    CUresult result = 0;
    for (int i = 0; i < COUNT_OF(gpu->stage) && !result; i++) {
        Stage *stage = &gpu->stage[i];
        if (!stage->done) result = driver.EventCreate(&stage->done, CU_EVENT_DISABLE_TIMING);
        if (!result && !stage->at) result = driver.MemAllocHost(&stage->at, STAGE);
    }
    return result;
}

// While the GPU takes one stage's bytes, the next ones are put into the other.
static CUresult write_staged(Cuda *gpu, uint64_t to, const char *from, int64_t bytes) {
    CUresult result = open_stages(gpu);
    for (int64_t at = 0, i = 0; at < bytes && !result; at += STAGE, i ^= 1) {
        Stage *stage = &gpu->stage[i];
        size_t count = (size_t)min_i64(STAGE, bytes - at);
        result = driver.EventSynchronize(stage->done);
        if (result) break;
        memcpy(stage->at, from + at, count);
        result = driver.MemcpyHtoDAsync(to + (uint64_t)at, stage->at, count, gpu->stream);
        if (!result) result = driver.EventRecord(stage->done, gpu->stream);
    }
    return result;
}

// Each part is asked for one step before it is taken.
static CUresult read_staged(Cuda *gpu, char *to, uint64_t from, int64_t bytes) {
    CUresult result = open_stages(gpu);
    int64_t parts = (bytes + STAGE - 1) / STAGE;
    for (int64_t part = 0; part <= parts && !result; part++) {
        if (part < parts) {
            Stage *stage = &gpu->stage[part % 2];
            size_t count = (size_t)min_i64(STAGE, bytes - part * STAGE);
            result = driver.MemcpyDtoHAsync(stage->at, from + (uint64_t)(part * STAGE), count,
                                            gpu->stream);
            if (!result) result = driver.EventRecord(stage->done, gpu->stream);
        }
        if (part == 0 || result) continue;
        Stage *stage = &gpu->stage[(part - 1) % 2];
        int64_t at = (part - 1) * STAGE;
        result = driver.EventSynchronize(stage->done);
        if (!result) memcpy(to + at, stage->at, (size_t)min_i64(STAGE, bytes - at));
    }
    return result;
}

int cuda_write(Cuda *gpu, uint64_t to, const void *from, int64_t bytes) {
    CUresult result = 0;
    enter(gpu);
    if (bytes >= STAGED_FROM) {
        pthread_mutex_lock(&gpu->lock);
        result = write_staged(gpu, to, from, bytes);
        pthread_mutex_unlock(&gpu->lock);
    } else if (bytes) {
        result = driver.MemcpyHtoDAsync(to, from, (size_t)bytes, gpu->stream);
    }
    return check(gpu, result, "copying to it");
}

int cuda_read(Cuda *gpu, void *to, uint64_t from, int64_t bytes) {
    CUresult result = 0;
    enter(gpu);
    if (bytes >= STAGED_FROM) {
        pthread_mutex_lock(&gpu->lock);
        result = read_staged(gpu, to, from, bytes);
        pthread_mutex_unlock(&gpu->lock);
    } else if (bytes) {
        result = driver.MemcpyDtoHAsync(to, from, (size_t)bytes, gpu->stream);
        if (!result) result = driver.StreamSynchronize(gpu->stream);
    }
    return check(gpu, result, "copying from it");
}

int cuda_copy(Cuda *gpu, uint64_t to, uint64_t from, int64_t bytes) {
    enter(gpu);
    if (!bytes) return 0;
    return check(gpu, driver.MemcpyDtoDAsync(to, from, (size_t)bytes, gpu->stream),
                 "copying on it");
}

int cuda_fill(Cuda *gpu, uint64_t at, uint8_t value, int64_t bytes) {
    enter(gpu);
    if (!bytes) return 0;
    return check(gpu, driver.MemsetD8Async(at, value, (size_t)bytes, gpu->stream),
                 "filling memory");
}

// ---- kernels -----------------------------------------------------------------------------------

// Modules and events are the driver's, under our names.
CudaModule *cuda_module(Cuda *gpu, const char *name, const void *cubin) {
    CUmodule module;
    enter(gpu);
    CUresult result = driver.ModuleLoadData(&module, cubin);
    if (!result) return (CudaModule *)module;
    refuse(gpu, result, "loading %s (GPU sm_%d%d, driver of CUDA %d.%d)", name, gpu->info.major,
           gpu->info.minor, driver.version / 1000, driver.version % 1000 / 10);
    return NULL;
}

void cuda_module_free(Cuda *gpu, CudaModule *module) {
    enter(gpu);
    driver.ModuleUnload((CUmodule)module);
}

int cuda_function(Cuda *gpu, CudaModule *module, const char *name, int64_t shared_bytes,
                  CudaFunction *function) {
    CUfunction found;
    enter(gpu);
    CUresult result = driver.ModuleGetFunction(&found, (CUmodule)module, name);
    if (result) return refuse(gpu, result, "finding kernel %s", name);
    if (shared_bytes > gpu->info.shared)
        return fail("cuda:%d: kernel %s wants %ld bytes of shared memory, and a block has %d",
                    gpu->device, name, shared_bytes, gpu->info.shared);
    if (shared_bytes > SHARED_USUAL)
        result = driver.FuncSetAttribute(found, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                         (int)shared_bytes);
    if (result) return refuse(gpu, result, "permitting shared memory of kernel %s", name);
    pthread_mutex_lock(&gpu->lock);
    const char *kept = arena_text(gpu->arena, name);
    pthread_mutex_unlock(&gpu->lock);
    *function = (CudaFunction){.name = kept, .handle = found, .shared_bytes = shared_bytes};
    return 0;
}

static int check_launch(const Cuda *gpu, const CudaFunction *function, int64_t blocks,
                        int threads) {
    if (threads < 1 || threads > THREADS_OF_BLOCK || blocks < 0)
        fatal("kernel %s is launched with %ld blocks of %d threads", function->name, blocks,
              threads);
    if (blocks <= INT_MAX) return 0;
    return fail("cuda:%d: kernel %s needs %ld blocks, and a launch has %d at most", gpu->device,
                function->name, blocks, INT_MAX);
}

int cuda_launch(Cuda *gpu, const CudaFunction *function, int64_t blocks, int threads,
                void *const *param) {
    if (check_launch(gpu, function, blocks, threads)) return -1;
    if (!blocks) return 0;
    enter(gpu);
    CUresult result =
        driver.LaunchKernel(function->handle, (unsigned)blocks, 1, 1, (unsigned)threads, 1, 1,
                            (unsigned)function->shared_bytes, gpu->stream, (void **)param, NULL);
    if (result) return refuse(gpu, result, "launching kernel %s", function->name);
    atomic_store_explicit(&gpu->last, function->name, memory_order_relaxed);
    return 0;
}

// ---- time --------------------------------------------------------------------------------------

CudaEvent *cuda_event(Cuda *gpu) {
    CUevent event;
    enter(gpu);
    return check(gpu, driver.EventCreate(&event, 0), "making an event") ? NULL : (CudaEvent *)event;
}

void cuda_event_free(Cuda *gpu, CudaEvent *event) {
    enter(gpu);
    driver.EventDestroy((CUevent)event);
}

int cuda_event_record(Cuda *gpu, CudaEvent *event) {
    enter(gpu);
    return check(gpu, driver.EventRecord((CUevent)event, gpu->stream), "recording an event");
}

int cuda_event_seconds(Cuda *gpu, CudaEvent *first, CudaEvent *second, double *seconds) {
    float milliseconds = 0;
    enter(gpu);
    CUresult result = driver.EventSynchronize((CUevent)second);
    if (!result) result = driver.EventElapsedTime(&milliseconds, (CUevent)first, (CUevent)second);
    *seconds = milliseconds / 1000.0;
    return check(gpu, result, "waiting for an event");
}

// ---- graphs ------------------------------------------------------------------------------------

struct CudaGraph {
    int launches;
    CUgraph graph;  // whose nodes name those of exec
    CUgraphExec exec;
    CUgraphNode *node;
    bool *left_out;
};

// Of a launch of no blocks: of one, which is left out.
static int describe_launch(const Cuda *gpu, const CudaLaunch *launch,
                           CUDA_KERNEL_NODE_PARAMS *node) {
    const CudaFunction *function = launch->function;
    *node = (CUDA_KERNEL_NODE_PARAMS){.function = function->handle,
                                      .blocks = {(unsigned)max_i64(launch->blocks, 1), 1, 1},
                                      .threads = {(unsigned)launch->threads, 1, 1},
                                      .shared_bytes = (unsigned)function->shared_bytes,
                                      .param = (void **)launch->param};
    return check_launch(gpu, function, launch->blocks, launch->threads);
}

static int graph_leave_out(Cuda *gpu, CudaGraph *graph, int number, bool out) {
    if (graph->left_out[number] == out) return 0;
    graph->left_out[number] = out;
    return check(gpu, driver.GraphNodeSetEnabled(graph->exec, graph->node[number], !out),
                 "changing a graph");
}

static int graph_fill(Cuda *gpu, CudaGraph *graph, const CudaLaunch *launch) {
    CUresult result = driver.GraphCreate(&graph->graph, 0);
    for (int i = 0; i < graph->launches && !result; i++) {
        CUDA_KERNEL_NODE_PARAMS node;
        if (describe_launch(gpu, &launch[i], &node)) return -1;
        result = driver.GraphAddKernelNode(&graph->node[i], graph->graph,
                                           i ? &graph->node[i - 1] : NULL, i > 0, &node);
    }
    if (!result) result = driver.GraphInstantiate(&graph->exec, graph->graph, 0);
    if (result) return refuse(gpu, result, "making a graph of %d kernels", graph->launches);
    for (int i = 0; i < graph->launches; i++)
        if (graph_leave_out(gpu, graph, i, !launch[i].blocks)) return -1;
    return check(gpu, driver.GraphUpload(graph->exec, gpu->stream), "uploading a graph");
}

CudaGraph *cuda_graph(Cuda *gpu, int launches, const CudaLaunch *launch) {
    CudaGraph *graph = calloc(1, sizeof *graph);
    size_t size = sizeof *graph->node + sizeof *graph->left_out;
    void *nodes = calloc((size_t)launches + 1, size);
    if (!graph || !nodes) fatal("out of memory: no room for a graph of %d kernels", launches);
    graph->launches = launches;
    graph->node = nodes;
    graph->left_out = (bool *)(graph->node + launches + 1);
    enter(gpu);
    if (!graph_fill(gpu, graph, launch)) return graph;
    cuda_graph_free(gpu, graph);
    return NULL;
}

int cuda_graph_change(Cuda *gpu, CudaGraph *graph, int number, const CudaLaunch *launch) {
    CUDA_KERNEL_NODE_PARAMS node;
    enter(gpu);
    if (describe_launch(gpu, launch, &node)) return -1;
    CUresult result = driver.GraphExecKernelNodeSetParams(graph->exec, graph->node[number], &node);
    if (result) return refuse(gpu, result, "changing kernel %s of a graph", launch->function->name);
    return graph_leave_out(gpu, graph, number, !launch->blocks);
}

int cuda_graph_launch(Cuda *gpu, CudaGraph *graph) {
    enter(gpu);
    CUresult result = driver.GraphLaunch(graph->exec, gpu->stream);
    if (result) return refuse(gpu, result, "launching a graph");
    atomic_store_explicit(&gpu->last, "one of a graph", memory_order_relaxed);
    return 0;
}

void cuda_graph_free(Cuda *gpu, CudaGraph *graph) {
    enter(gpu);
    if (graph->exec) driver.GraphExecDestroy(graph->exec);
    if (graph->graph) driver.GraphDestroy(graph->graph);
    free(graph->node);
    free(graph);
}
