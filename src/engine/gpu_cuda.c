/* gpu_cuda.c - units and calls on an NVIDIA GPU.
 * In: rendered units; what each launch is given.  Out: loaded kernels; work on the GPU.
 * Invariants: a module stays loaded, under its content's name, for all that ask for it; one call at
 * a time starts its work, so that all calls may share the memory of temporaries and workspace.
 * The first call launches one kernel after another. From the second on a step is one CUDA graph,
 * whose nodes remember what they were given: a launch with another address, VAR or number of blocks
 * is changed in the graph (cuGraphExecKernelNodeSetParams) before the graph is launched. So nothing
 * is ever captured anew, and a decoding step changes the few kernels that read its position.
 * The other way, VARs in a small array in the GPU's memory, would leave the graph as it is, but
 * every kernel that reads one would begin with a load that its addresses wait for, blocks that
 * depend on VARs would still need changes, and simt and plain launches pass VARs by value as well.
 *   call 1: kernels 0 .. 212   call 2: a graph of 213   call 3: 48 changed, one launch          */
#include <pthread.h>
#include <string.h>

#include "engine/compiled.h"

// ---- kernels -----------------------------------------------------------------------------------

typedef struct {
    Cuda *gpu;
    char symbol[SYMBOL_SIZE];
    const CudaFunction *function;  // of each launch
} Loaded;

static struct {
    pthread_mutex_t lock;
    Arena *arena;
    Map *map;
    LIST(Loaded) list;
} all = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool same_loaded(const void *context, int32_t value) {
    const Loaded *wanted = context, *it = &all.list.at[value];
    return it->gpu == wanted->gpu && !strcmp(it->symbol, wanted->symbol);
}

static uint64_t key_of(const char *symbol) { return hash_bytes(symbol, strlen(symbol), 0); }

static const CudaFunction *find_loaded(Cuda *gpu, const char *symbol) {
    Loaded wanted = {.gpu = gpu};
    strcpy(wanted.symbol, symbol);
    pthread_mutex_lock(&all.lock);
    int32_t found = all.map ? map_find(all.map, key_of(symbol), same_loaded, &wanted) : -1;
    const CudaFunction *function = found < 0 ? NULL : all.list.at[found].function;
    pthread_mutex_unlock(&all.lock);
    return function;
}

static int find_functions(Cuda *gpu, CudaModule *module, const Unit *unit, CudaFunction *function) {
    int count = program_launches(unit->program);
    for (int i = 0; i < count; i++) {
        char name[SYMBOL_SIZE + 16];
        snprintf(name, sizeof name, "%s_%d", unit->symbol, i);
        if (cuda_function(gpu, module, name, program_block_bytes(unit->program), &function[i]))
            return -1;
    }
    return 0;
}

static int load(Cuda *gpu, Unit *unit, const void *cubin) {
    CudaModule *module = cuda_module(gpu, unit->symbol, cubin);
    if (!module) return -1;
    pthread_mutex_lock(&all.lock);
    if (!all.map) all.map = map_new(all.arena = arena_new());
    CudaFunction *function =
        arena_array(all.arena, CudaFunction, program_launches(unit->program) + 1);
    int status = find_functions(gpu, module, unit, function);
    if (!status) {
        Loaded *loaded = list_add(all.arena, &all.list);
        *loaded = (Loaded){.gpu = gpu, .function = unit->cuda = function};
        strcpy(loaded->symbol, unit->symbol);
        map_add(all.arena, all.map, key_of(unit->symbol), all.list.count - 1);
    }
    pthread_mutex_unlock(&all.lock);
    if (status) cuda_module_free(gpu, module);
    return status;
}

static int cuda_compile(Compiled *compiled) {
    Cuda *gpu = compiled->device->gpu;
    NvrtcUnit *unit = arena_array(compiled->arena, NvrtcUnit, compiled->units.count);
    Unit **of = arena_array(compiled->arena, Unit *, compiled->units.count);
    int count = 0;
    for (int32_t i = 0; i < compiled->units.count; i++) {
        Unit *it = &compiled->units.at[i];
        it->cuda = find_loaded(gpu, it->symbol);
        compiled->info.from_cache += it->cuda != NULL;
        if (it->cuda) continue;
        of[count] = it;
        unit[count++] =
            (NvrtcUnit){.name = it->symbol, .source = it->source, .arch = gpu_row()->architecture};
    }
    if (count && nvrtc_compile(compiled->arena, unit, count)) return -1;
    for (int i = 0; i < count; i++) {
        if (load(gpu, of[i], unit[i].cubin)) return -1;
        compiled->info.from_cache += unit[i].from_cache;
    }
    return 0;
}

// ---- memory ------------------------------------------------------------------------------------

// Of the call that is starting its work; kept for the next one. The stream orders what uses it.
static struct {
    pthread_mutex_t lock;
    const Device *device;
    Room room;
} kept = {.lock = PTHREAD_MUTEX_INITIALIZER};

// Room for `bytes`, grown only; what was in it does not matter.
static void grow(int64_t *buffer, const Device *device, int64_t bytes) {
    bool fits = *buffer && device == kept.device && (int64_t)buffer_bytes(*buffer) >= bytes;
    if (fits) return;
    if (*buffer) buffer_release(*buffer);
    *buffer = buffer_scratch((size_t)bytes);
}

static int cuda_enter(Compiled *compiled, Room *room, int64_t block_bytes,
                      int64_t workspace_bytes) {
    pthread_mutex_lock(&kept.lock);
    grow(&kept.room.block, compiled->device, block_bytes);
    grow(&kept.room.workspace, compiled->device, workspace_bytes);
    kept.device = compiled->device;
    *room = kept.room;
    return 0;
}

static void cuda_leave(Room *room) {
    (void)room;
    pthread_mutex_unlock(&kept.lock);
}

static int cuda_address(const Compiled *compiled, int64_t buffer, bool written, void **at) {
    *at = (void *)(uintptr_t)buffer_on_device(buffer, compiled->device->gpu, written);
    return *at ? 0 : -1;
}

// ---- a call ------------------------------------------------------------------------------------

static CudaLaunch launch_of(const Launch *launch, const Grid *grid) {
    return (CudaLaunch){.function = grid->cuda,
                        .blocks = grid->blocks,
                        .threads = grid->threads,
                        .param = launch->param};
}

static int run(Compiled *compiled, const Launch *launch) {
    for (int32_t i = 0; i < launch->grids; i++) {
        const Grid *grid = &launch->grid[i];
        if (cuda_launch(compiled->device->gpu, grid->cuda, grid->blocks, grid->threads,
                        launch->param))
            return -1;
    }
    return 0;
}

static int run_all(Compiled *compiled) {
    for (int32_t i = 0; i < compiled->launches; i++)
        if (run(compiled, &compiled->launch[i])) return -1;
    return 0;
}

static int run_between(Compiled *compiled, CudaEvent **event) {
    Cuda *gpu = compiled->device->gpu;
    for (int32_t i = 0; i <= compiled->launches; i++)
        if (!(event[i] = cuda_event(gpu))) return -1;
    if (cuda_event_record(gpu, event[0])) return -1;
    for (int32_t i = 0; i < compiled->launches; i++)
        if (run(compiled, &compiled->launch[i]) || cuda_event_record(gpu, event[i + 1])) return -1;
    for (int32_t i = 0; i < compiled->launches; i++)
        if (cuda_event_seconds(gpu, event[i], event[i + 1], &compiled->seconds[i])) return -1;
    return 0;
}

static int run_timed(Compiled *compiled) {
    Arena *arena = arena_new();
    CudaEvent **event = arena_array(arena, CudaEvent *, compiled->launches + 1);
    int status = run_between(compiled, event);
    for (int32_t i = 0; i <= compiled->launches; i++)
        if (event[i]) cuda_event_free(compiled->device->gpu, event[i]);
    arena_free(arena);
    return status;
}

static void remember(Launch *launch) {
    memcpy(launch->given, launch->value, sizeof *launch->value * (size_t)launch->values);
    for (int32_t i = 0; i < launch->grids; i++) launch->grid[i].given = launch->grid[i].blocks;
}

static CudaGraph *make_graph(Compiled *compiled) {
    Arena *arena = arena_new();
    int count = 0, at = 0;
    for (int32_t i = 0; i < compiled->launches; i++) count += compiled->launch[i].grids;
    CudaLaunch *launch = arena_array(arena, CudaLaunch, count);
    for (int32_t i = 0; i < compiled->launches; i++) {
        Launch *it = &compiled->launch[i];
        for (int32_t g = 0; g < it->grids; g++) launch[at++] = launch_of(it, &it->grid[g]);
        remember(it);
    }
    CudaGraph *graph = cuda_graph(compiled->device->gpu, count, launch);
    arena_free(arena);
    return graph;
}

static int change_graph(Compiled *compiled) {
    int at = 0;
    for (int32_t i = 0; i < compiled->launches; i++) {
        Launch *launch = &compiled->launch[i];
        bool other = memcmp(launch->given, launch->value,
                            sizeof *launch->value * (size_t)launch->values) != 0;
        for (int32_t g = 0; g < launch->grids; g++, at++) {
            CudaLaunch now = launch_of(launch, &launch->grid[g]);
            if (!other && launch->grid[g].given == now.blocks) continue;
            if (cuda_graph_change(compiled->device->gpu, compiled->step, at, &now)) return -1;
        }
        remember(launch);
    }
    return 0;
}

static void drop_graph(Compiled *compiled) {
    if (compiled->step) cuda_graph_free(compiled->device->gpu, compiled->step);
    compiled->step = NULL;
}

// Where there is no graph to be had, the kernels still run.
static int run_graph(Compiled *compiled) {
    bool ready = compiled->step && !change_graph(compiled);
    if (!ready) {
        drop_graph(compiled);
        compiled->step = make_graph(compiled);
    }
    if (compiled->step) return cuda_graph_launch(compiled->device->gpu, compiled->step);
    say("kernels are launched one by one: %s", error_text());
    compiled->plain = true;
    return run_all(compiled);
}

static int cuda_replay(Compiled *compiled, const int64_t *var) {
    for (int32_t i = 0; i < compiled->launches; i++) gpu_bind(compiled, &compiled->launch[i], var);
    if (compiled->seconds) return run_timed(compiled);
    bool again = compiled->called;
    compiled->called = true;
    if (!again) compiled->plain = !env_int("CUDA_GRAPH", 1) || !compiled->launches;
    return again && !compiled->plain ? run_graph(compiled) : run_all(compiled);
}

const Backend backend_cuda = {.compile = cuda_compile,
                              .enter = cuda_enter,
                              .leave = cuda_leave,
                              .address = cuda_address,
                              .replay = cuda_replay,
                              .once = run,
                              .forget = drop_graph};
