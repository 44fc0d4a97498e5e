/* driver.c - a stand-in for NVIDIA's driver, which driver_test.c builds into a library of its own:
 * one GPU in the memory of this process. What is started is done only once it is waited for, so
 * that whoever waits too little is found out; its addresses are none of the process. Two kernels,
 * by name:
 *   add (float *to, const float *from, int count)    to += from
 *   fault ()                                         every later call fails
 * and, if this is linked with libpicograd.a, those of the cubins that compiler.c makes, which run
 * on simt. They may be given what lies in its memory, and integers below 2^32.
 * In: DRIVER_ROOM, the bytes of its memory; DRIVER_DEVICES, how many GPUs it names; DRIVER_INIT,
 * what cuInit returns.  Out: a CUresult each; stand_in_counts.                                */
#define _GNU_SOURCE
#include "stand_in.h"
#include "runtime/cuda_driver.h"
#include "runtime/runtime.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FUNCTION(name, symbol, arguments) \
    __attribute__((visibility("default"))) CUresult symbol arguments;
#include "runtime/cuda.def"
#undef FUNCTION

enum {
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    NOT_FOUND = 500,
    FIRST = 7,  // CUdevice of GPU 0
    SHARED_MOST = 200 << 10,
    LARGEST = 1000,  // of every list here
    PARAMS = 80,
};
static const uint64_t there = (uint64_t)1 << 62;  // where its memory begins

__attribute__((weak)) int simt_launch(SimtFunction *function, int64_t blocks, int threads,
                                      int64_t shared_bytes, void *const *param);
__attribute__((visibility("default"))) StandInCounts stand_in_counts;

typedef enum { COPY, FILL, ADD, FAULT, RECORD, CALL } Kind;

typedef struct {
    Kind kind;
    void *to;
    const void *from;
    size_t count;  // bytes; of an ADD, values; of a CALL, blocks
    int value;
    CUfunction function;  // of a CALL, as is what follows
    unsigned threads, shared;
    uint64_t param[PARAMS];
} Work;

typedef struct CUgraph_st {
    Work work[LARGEST];
    int count;
    bool left_out[LARGEST];
} Ops;

struct CUfunc_st {
    Kind kind;
    const char *name;
    unsigned shared;  // bytes that a launch may have
    SimtFunction *simt;
    int params;
    unsigned threads;
};

struct CUevent_st {
    float time;
};

struct CUmod_st {
    void *library;  // of a cubin of compiler.c's
    char *text;     // its kernels
};

static struct CUfunc_st functions[] = {{.kind = ADD, .name = "add", .shared = 48 << 10},
                                       {.kind = FAULT, .name = "fault", .shared = 48 << 10}};
static char context, stream;
static _Thread_local CUcontext current;
static struct {
    size_t used, size[LARGEST];  // by block
    void *block[LARGEST], *pinned[LARGEST];
    size_t pinned_size[LARGEST];
    Ops started;
    CUresult fault;
    float clock;
} gpu;

// ---- what is started, and done later -----------------------------------------------------------

static void call(const Work *work) {
    void *param[PARAMS];
    for (int i = 0; i < work->function->params; i++) param[i] = (void *)(uintptr_t)&work->param[i];
    if (simt_launch(work->function->simt, (int64_t)work->count, (int)work->threads, work->shared,
                    param))
        gpu.fault = CUDA_ERROR_ILLEGAL_ADDRESS;
}

static void run(const Work *work) {
    gpu.clock += 1;
    if (work->kind == CALL) call(work);
    if (work->kind == COPY) memcpy(work->to, work->from, work->count);
    if (work->kind == FILL) memset(work->to, work->value, work->count);
    if (work->kind == FAULT) gpu.fault = CUDA_ERROR_ILLEGAL_ADDRESS;
    if (work->kind == RECORD) ((CUevent)work->to)->time = gpu.clock;
    for (size_t i = 0; work->kind == ADD && i < work->count; i++)
        ((float *)work->to)[i] += ((const float *)work->from)[i];
}

static CUresult finish(void) {
    for (int i = 0; i < gpu.started.count && !gpu.fault; i++) run(&gpu.started.work[i]);
    gpu.started.count = 0;
    return gpu.fault;
}

static CUresult start(Work work) {
    Ops *list = &gpu.started;
    if (current != (CUcontext)&context) return INVALID_CONTEXT;
    if (list->count == LARGEST) finish();
    if (!gpu.fault) list->work[list->count++] = work;
    return gpu.fault;
}

// Memory of the process that is not pinned is copied at once.
static CUresult start_copy(void *to, const void *from, size_t bytes, const void *host) {
    bool pinned = false;
    for (int i = 0; i < LARGEST; i++)
        pinned |= gpu.pinned[i] &&
                  (size_t)((const char *)host - (char *)gpu.pinned[i]) < gpu.pinned_size[i];
    CUresult result =
        bytes ? start((Work){.kind = COPY, .to = to, .from = from, .count = bytes}) : INVALID_VALUE;
    return result || pinned || !host ? result : finish();
}

// NULL if it is not in the GPU's memory.
static void *address(CUdeviceptr at) {
    for (int i = 0; i < LARGEST; i++)
        if (gpu.block[i] && at - there - (uintptr_t)gpu.block[i] < gpu.size[i])
            return (void *)(uintptr_t)(at - there);
    return NULL;
}

// ---- the driver --------------------------------------------------------------------------------

// The number in a variable of the environment.
static int64_t setting(const char *name, int64_t otherwise) {
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}

CUresult cuInit(unsigned flags) {
    return flags ? INVALID_VALUE : (CUresult)setting("DRIVER_INIT", 0);
}

CUresult cuGetErrorName(CUresult result, const char **name) {
    static const struct {
        CUresult result;
        const char *name;
    } names[] = {
        {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"},
        {CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE"},
        {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE"},
        {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT"},
        {NOT_FOUND, "CUDA_ERROR_NOT_FOUND"},
        {CUDA_ERROR_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS"},
    };
    *name = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].result == result) *name = names[i].name;
    return *name ? 0 : INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult result, const char **text) {
    const char *name;
    *text = cuGetErrorName(result, &name) ? NULL : "what the driver says";
    return *text ? 0 : INVALID_VALUE;
}

CUresult cuDriverGetVersion(int *version) { return *version = 12040, 0; }
CUresult cuDeviceGetCount(int *count) { return *count = (int)setting("DRIVER_DEVICES", 1), 0; }
CUresult cuDeviceGet(CUdevice *device, int number) { return *device = FIRST + number, 0; }

CUresult cuDeviceGetName(char *name, int size, CUdevice device) {
    return snprintf(name, (size_t)size, "Stand-in \"%d\"", device) < size ? 0 : INVALID_VALUE;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
    *value = (int)attribute;
    if (attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) *value = device + 2;
    if (attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR) *value = 0;
    if (attribute == CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN) *value = SHARED_MOST;
    return 0;
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
    *bytes = (size_t)setting("DRIVER_ROOM", (int64_t)device << 30);
    return 0;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *to, CUdevice device) {
    *to = (CUcontext)&context;
    return device == FIRST ? 0 : INVALID_VALUE;
}

CUresult cuCtxSetCurrent(CUcontext wanted) { return current = wanted, 0; }

CUresult cuMemGetInfo_v2(size_t *available, size_t *total) {
    cuDeviceTotalMem_v2(total, FIRST);
    *available = *total - gpu.used;
    return gpu.fault;
}

CUresult cuMemAlloc_v2(CUdeviceptr *at, size_t bytes) {
    size_t available, total;
    if (cuMemGetInfo_v2(&available, &total)) return gpu.fault;
    if (current != (CUcontext)&context) return INVALID_CONTEXT;
    if (bytes > available) return OUT_OF_MEMORY;
    int i = 0;
    while (gpu.block[i]) i++;
    if (posix_memalign(&gpu.block[i], 512, gpu.size[i] = bytes)) return OUT_OF_MEMORY;
    gpu.used += bytes;
    *at = there + (uintptr_t)gpu.block[i];
    return 0;
}

CUresult cuMemFree_v2(CUdeviceptr at) {
    int i = 0;
    if (finish()) return gpu.fault;
    while (i < LARGEST && gpu.block[i] != address(at)) i++;
    if (i == LARGEST) return INVALID_VALUE;
    free(gpu.block[i]);
    gpu.block[i] = NULL;
    gpu.used -= gpu.size[i];
    return 0;
}

CUresult cuMemAllocHost_v2(void **at, size_t bytes) {
    int i = 0;
    while (gpu.pinned[i]) i++;
    *at = gpu.pinned[i] = malloc(gpu.pinned_size[i] = bytes);
    return *at ? 0 : OUT_OF_MEMORY;
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream on) {
    if (on != (CUstream)&stream || !address(to)) return INVALID_VALUE;
    stand_in_counts.bytes_there += (int64_t)bytes;
    return start_copy(address(to), from, bytes, from);
}

CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream on) {
    if (on != (CUstream)&stream || !address(from)) return INVALID_VALUE;
    stand_in_counts.bytes_here += (int64_t)bytes;
    return start_copy(to, address(from), bytes, to);
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream on) {
    if (on != (CUstream)&stream) return INVALID_VALUE;
    return start_copy(address(to), address(from), bytes, NULL);
}

CUresult cuMemsetD8Async(CUdeviceptr at, unsigned char value, size_t count, CUstream on) {
    if (on != (CUstream)&stream || !count || !address(at)) return INVALID_VALUE;
    return start((Work){.kind = FILL, .to = address(at), .count = count, .value = value});
}

CUresult cuStreamCreate(CUstream *to, unsigned flags) {
    *to = (CUstream)&stream;
    return flags == CU_STREAM_NON_BLOCKING ? 0 : INVALID_VALUE;
}

CUresult cuStreamSynchronize(CUstream on) {
    return on == (CUstream)&stream ? finish() : INVALID_VALUE;
}

// ---- graphs: a node is its place in the list, from 1 on ----------------------------------------

// What a launch does, if it is one.
static CUresult work_of(CUfunction function, const unsigned blocks[3], const unsigned threads[3],
                        unsigned shared_bytes, void **param, Work *work) {
    bool one = blocks[1] == 1 && blocks[2] == 1 && threads[1] == 1 && threads[2] == 1;
    if (!one || !blocks[0] || !threads[0] || shared_bytes > function->shared) return INVALID_VALUE;
    *work = (Work){.kind = function->kind, .function = function, .count = blocks[0]};
    if (function->kind == ADD) {
        work->to = address(*(CUdeviceptr *)param[0]);
        work->from = address(*(CUdeviceptr *)param[1]);
        work->count = (size_t) * (int *)param[2];
    }
    if (function->kind != CALL) return 0;
    if (threads[0] > function->threads) return INVALID_VALUE;
    work->threads = threads[0];
    work->shared = shared_bytes;
    for (int i = 0; i < function->params; i++) {
        uint64_t value = *(const uint64_t *)param[i], wide = value >> 32;
        work->param[i] = wide && wide != UINT32_MAX ? (uintptr_t)address(value) : value;
        if (wide && !work->param[i]) gpu.fault = CUDA_ERROR_ILLEGAL_ADDRESS;
    }
    return 0;
}

static CUresult work_of_node(const CUDA_KERNEL_NODE_PARAMS *node, Work *work) {
    if (!node->function || node->extra || node->kernel) return INVALID_VALUE;
    return work_of(node->function, node->blocks, node->threads, node->shared_bytes, node->param,
                   work);
}

CUresult cuGraphCreate(CUgraph *graph, unsigned flags) {
    *graph = calloc(1, sizeof **graph);
    return *graph && !flags ? 0 : INVALID_VALUE;
}

// In order: behind the last one.
CUresult cuGraphAddKernelNode_v2(CUgraphNode *node, CUgraph graph, const CUgraphNode *after,
                                 size_t count, const CUDA_KERNEL_NODE_PARAMS *param) {
    size_t last = (size_t)graph->count;
    if (current != (CUcontext)&context) return INVALID_CONTEXT;
    if (last == LARGEST || count != (last > 0) || (count && (size_t)(uintptr_t)*after != last))
        return INVALID_VALUE;
    *node = (CUgraphNode)(uintptr_t)++graph->count;
    return work_of_node(param, &graph->work[last]);
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags) {
    Ops *copy = malloc(sizeof *copy);
    stand_in_counts.graphs++;
    if (copy) *copy = *graph;
    *exec = (CUgraphExec)copy;
    return copy && !flags ? 0 : INVALID_VALUE;
}

CUresult cuGraphExecKernelNodeSetParams_v2(CUgraphExec exec, CUgraphNode node,
                                           const CUDA_KERNEL_NODE_PARAMS *param) {
    Ops *list = (Ops *)exec;
    size_t place = (size_t)(uintptr_t)node - 1;
    stand_in_counts.changes++;
    return place < (size_t)list->count ? work_of_node(param, &list->work[place]) : INVALID_VALUE;
}

CUresult cuGraphNodeSetEnabled(CUgraphExec exec, CUgraphNode node, unsigned enabled) {
    Ops *list = (Ops *)exec;
    size_t place = (size_t)(uintptr_t)node - 1;
    if (place >= (size_t)list->count || enabled > 1) return INVALID_VALUE;
    list->left_out[place] = !enabled;
    return 0;
}

CUresult cuGraphDestroy(CUgraph graph) { return free(graph), 0; }
CUresult cuGraphUpload(CUgraphExec exec, CUstream on) { return exec && on ? 0 : INVALID_VALUE; }
CUresult cuGraphExecDestroy(CUgraphExec exec) { return free(exec), 0; }

CUresult cuGraphLaunch(CUgraphExec exec, CUstream on) {
    const Ops *list = (const Ops *)exec;
    CUresult result = on == (CUstream)&stream ? 0 : INVALID_VALUE;
    stand_in_counts.graph_launches++;
    for (int i = 0; i < list->count && !result; i++)
        if (!list->left_out[i]) result = start(list->work[i]);
    return result;
}

// ---- kernels -----------------------------------------------------------------------------------

CUresult cuModuleLoadData(CUmodule *to, const void *image) {
    size_t head = strlen(STAND_IN_CUBIN);
    CUmodule module = calloc(1, sizeof *module);
    *to = module;
    if (!module || !strcmp(image, "a cubin")) return module ? 0 : OUT_OF_MEMORY;
    if (!simt_launch || strncmp(image, STAND_IN_CUBIN, head)) return INVALID_IMAGE;
    module->text = strdup((const char *)image + head);
    char *path = strndup(module->text, strcspn(module->text, "\n"));
    module->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    free(path);
    return module->library ? 0 : INVALID_IMAGE;
}

CUresult cuModuleUnload(CUmodule module) {
    finish();
    free(module->text);
    free(module);  // its library and functions stay
    return 0;
}

// A line of the cubin is a kernel: its name, parameters, threads; pg_k_<hash>_<n> is the n-th of
// the table simt_<hash>.
static CUresult find_simt(CUfunction *to, CUmodule module, const char *name) {
    const char *line = module->text ? strstr(module->text, name) : NULL;
    char table[64];
    CUfunction function = calloc(1, sizeof *function);
    int number, end = 0;
    if (!line || !function ||
        sscanf(line, "%*s %d %u", &function->params, &function->threads) != 2 ||
        function->params > PARAMS)
        return NOT_FOUND;
    if (sscanf(name, "pg_k_%*[0-9a-f]%n_%d", &end, &number) != 1) return NOT_FOUND;
    snprintf(table, sizeof table, "simt_%.*s", end - 5, name + 5);
    SimtFunction *const *functions_of = dlsym(module->library, table);
    if (!functions_of) return NOT_FOUND;
    function->kind = CALL;
    function->name = strdup(name);
    function->shared = 48 << 10;
    function->simt = functions_of[number];
    *to = function;
    return 0;
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
    for (int i = 0; i < 2; i++)
        if (!strcmp(functions[i].name, name)) return *function = &functions[i], 0;
    return find_simt(function, module, name);
}

CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
    function->shared = (unsigned)value;
    return attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES && value <= SHARED_MOST
               ? 0
               : INVALID_VALUE;
}

CUresult cuLaunchKernel(CUfunction function, unsigned blocks_x, unsigned blocks_y,
                        unsigned blocks_z, unsigned threads_x, unsigned threads_y,
                        unsigned threads_z, unsigned shared_bytes, CUstream on, void **param,
                        void **extra) {
    Work work;
    if (extra || on != (CUstream)&stream) return INVALID_VALUE;
    CUresult result =
        work_of(function, (unsigned[]){blocks_x, blocks_y, blocks_z},
                (unsigned[]){threads_x, threads_y, threads_z}, shared_bytes, param, &work);
    stand_in_counts.launches++;
    return result ? result : start(work);
}

CUresult cuEventCreate(CUevent *event, unsigned flags) {
    (void)flags;
    *event = calloc(1, sizeof **event);
    return *event ? 0 : OUT_OF_MEMORY;
}

CUresult cuEventDestroy_v2(CUevent event) { return free(event), 0; }

CUresult cuEventRecord(CUevent event, CUstream on) {
    return on == (CUstream)&stream ? start((Work){.kind = RECORD, .to = event}) : INVALID_VALUE;
}

CUresult cuEventSynchronize(CUevent event) { return event ? finish() : INVALID_VALUE; }

CUresult cuEventElapsedTime(float *milliseconds, CUevent first, CUevent second) {
    *milliseconds = second->time - first->time;
    return 0;
}
