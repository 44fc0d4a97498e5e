/* nvrtc.c - CUDA C++ to machine code, by NVIDIA's run-time compiler, through the cache.
 * In: texts and the architectures that they are for.  Out: cubins, and what each kernel takes.
 * Invariants: the library is loaded at its first use, or a line says where to get it; one that was
 * found stays loaded; a cache entry is ptxas's log, a zero byte, the cubin, so that registers and
 * spills are known of a cubin that was found, too.
 *   NvrtcUnit unit = {.name = "pg_k_12", .source = text, .arch = "sm_90a"};
 *   if (nvrtc_compile(arena, &unit, 1)) return -1;                                              */
#define _GNU_SOURCE
#include "runtime/runtime.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// --ptxas-options=-v: the log has what kernels take. Warnings would be of helpers that a text does
// not use.
static const char *const options[] = {"--std=c++17", "--fmad=false",
                                      "--device-as-default-execution-space", "--ptxas-options=-v",
                                      "--disable-warnings"};

// ---- the library -------------------------------------------------------------------------------
// Its functions return 0 or an error for GetErrorString, as nvrtc.h of CUDA 12 and 13 has them.

typedef struct Program Program;

#define FUNCTIONS(F)                                                                  \
    F(int, Version, (int *major, int *minor))                                         \
    F(const char *, GetErrorString, (int result))                                     \
    F(int, CreateProgram,                                                             \
      (Program * *program, const char *source, const char *name, int headers,         \
       const char *const *header, const char *const *include))                        \
    F(int, DestroyProgram, (Program * *program))                                      \
    F(int, CompileProgram, (Program * program, int count, const char *const *option)) \
    F(int, GetProgramLogSize, (Program * program, size_t * size))                     \
    F(int, GetProgramLog, (Program * program, char *log))                             \
    F(int, GetCUBINSize, (Program * program, size_t * size))                          \
    F(int, GetCUBIN, (Program * program, char *cubin))

static struct {
    pthread_mutex_t lock;
    bool loaded;
    char key[512];  // what of the library and the options a cubin depends on
#define F(type, name, arguments) type(*name) arguments;
    FUNCTIONS(F)
#undef F
} nvrtc = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool find_functions(void *library) {
    const struct {
        const char *symbol;
        void *at;
    } functions[] = {
#define F(type, name, arguments) {"nvrtc" #name, &nvrtc.name},
        FUNCTIONS(F)
#undef F
    };
    for (int i = 0; i < COUNT_OF(functions); i++) {
        void *function = dlsym(library, functions[i].symbol);
        if (!function) return false;
        memcpy(functions[i].at, &function, sizeof function);
    }
    return true;
}

// The library's path, size and age are in the key, beside its version.
static bool describe(Arena *arena) {
    int major, minor, count = 0;
    Dl_info info;
    struct stat facts;
    void *address;
    memcpy(&address, &nvrtc.Version, sizeof address);
    if (nvrtc.Version(&major, &minor) || !dladdr(address, &info) || stat(info.dli_fname, &facts))
        return false;
    count = snprintf(nvrtc.key, sizeof nvrtc.key, "%d.%d %ld.%09ld %ld", major, minor,
                     facts.st_mtim.tv_sec, facts.st_mtim.tv_nsec, (long)facts.st_size);
    for (int i = 0; i < COUNT_OF(options); i++)
        count += snprintf(nvrtc.key + count, sizeof nvrtc.key - (size_t)count, " %s", options[i]);
    // NVRTC opens its builtins by name alone, which finds them once they are loaded by path. Where
    // they are not beside it, it may find them on the loader's path.
    const char *end = strrchr(info.dli_fname, '/');
    if (end)
        dlopen(arena_print(arena, "%.*s/libnvrtc-builtins.so.%d.%d", (int)(end - info.dli_fname),
                           info.dli_fname, major, minor),
               RTLD_NOW | RTLD_LOCAL);
    return true;
}

static bool try_library(Arena *arena, const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) return false;
    if (find_functions(library) && describe(arena)) return true;
    dlclose(library);
    return false;
}

static const char *const names[] = {"libnvrtc.so.13", "libnvrtc.so.12"};

static bool try_folder(Arena *arena, const char *folder) {
    for (int i = 0; i < COUNT_OF(names); i++)
        if (try_library(arena, arena_print(arena, "%s/%s", folder, names[i]))) return true;
    return false;
}

// NVIDIA's wheels, of PyTorch's among others: nvidia/cu13/lib, nvidia/cuda_nvrtc/lib.
static bool try_python(Arena *arena) {
    FILE *python = popen("PATH=\"${VIRTUAL_ENV:+$VIRTUAL_ENV/bin:}$PATH\" exec python3 -c '"
                         "import glob, sys\n"
                         "for path in sys.path:\n"
                         "    for file in sorted(glob.glob(glob.escape(path or \".\") +\n"
                         "                       \"/nvidia/*/lib/libnvrtc.so.1[23]\"))[::-1]:\n"
                         "        print(file)' 2>/dev/null </dev/null",
                         "r");
    if (!python) return false;
    char line[PATH_MAX];
    bool found = false;
    while (!found && fgets(line, sizeof line, python)) {
        line[strcspn(line, "\n")] = 0;
        found = line[0] == '/' && try_library(arena, line);
    }
    pclose(python);
    return found;
}

static int find_library(Arena *arena) {
    const char *chosen = env_text("NVRTC", NULL), *toolkit = getenv("CUDA_HOME");
    if (chosen) {
        if (try_library(arena, chosen)) return 0;
        const char *reason = dlerror();
        return fail("PG_NVRTC: cannot load %s: %s", chosen, reason ? reason : "it is not NVRTC");
    }
    if (toolkit && *toolkit &&
        (try_folder(arena, arena_print(arena, "%s/lib64", toolkit)) ||
         try_folder(arena, arena_print(arena, "%s/lib", toolkit))))
        return 0;
    const char *cache = cache_folder(arena);
    if (cache && try_folder(arena, arena_print(arena, "%s/nvrtc", cache))) return 0;
    if (try_python(arena)) return 0;
    for (int i = 0; i < COUNT_OF(names); i++)
        if (try_library(arena, names[i])) return 0;
    return fail("no NVRTC, which compiles kernels for NVIDIA GPUs. Hint: make deps, or pip install "
                "nvidia-cuda-nvrtc==13.0.*, or PG_NVRTC=path/to/libnvrtc.so.13");
}

static int load_library(Arena *arena) {
    pthread_mutex_lock(&nvrtc.lock);
    int result = nvrtc.loaded ? 0 : find_library(arena);
    nvrtc.loaded = !result;
    pthread_mutex_unlock(&nvrtc.lock);
    return result;
}

bool nvrtc_available(void) {
    Arena *arena = arena_new();
    int result = load_library(arena);
    arena_free(arena);
    return !result;
}

// ---- what kernels take -------------------------------------------------------------------------

// The number in front of `what` in a line.
static int64_t number_before(const char *line, const char *what) {
    const char *end = strstr(line, what), *at = end;
    while (at && at > line && at[-1] >= '0' && at[-1] <= '9') at--;
    return at == end ? 0 : strtoll(at, NULL, 10);
}

// A kernel begins with its name; functions that are not inlined have their own stack and spills.
static void read_log(Arena *arena, const char *log, NvrtcUnit *unit) {
    static const char entry[] = "Compiling entry function '";
    LIST(NvrtcKernel) kernels = {0};
    for (const char *at = log; *at;) {
        int length = (int)strcspn(at, "\n");
        const char *line = arena_print(arena, "%.*s", length, at), *name = strstr(line, entry);
        at += length + (at[length] == '\n');
        if (name) {
            name += sizeof entry - 1;
            *list_add(arena, &kernels) =
                (NvrtcKernel){.name = arena_print(arena, "%.*s", (int)strcspn(name, "'"), name)};
        }
        if (!kernels.count) continue;
        NvrtcKernel *kernel = &kernels.at[kernels.count - 1];
        kernel->stack = max_i64(kernel->stack, number_before(line, " bytes stack frame"));
        kernel->spill_stores += number_before(line, " bytes spill stores");
        kernel->spill_loads += number_before(line, " bytes spill loads");
        kernel->registers += (int)number_before(line, " registers");
        kernel->shared += number_before(line, " bytes smem");
    }
    unit->log = arena_text(arena, log);
    unit->kernel = kernels.at;
    unit->kernels = kernels.count;
}

// ---- compiling ---------------------------------------------------------------------------------

typedef struct {
    Arena *arena;  // the caller's; under the lock
    NvrtcUnit *unit;
    int count;
    atomic_int next;
    pthread_mutex_t lock;
    int failed;  // the first unit that failed, else count
    const char *message;
} Batch;

// ptxas's refusals, as of too much shared memory, leave no error in the log; what it counted does.
static int refuse(Arena *arena, const NvrtcUnit *unit, int result, const char *log) {
    const char *reason = nvrtc.GetErrorString(result), *used = strstr(log, "Used ");
    if (strstr(log, "error"))
        reason = compiler_error(arena, log);
    else if (used)
        reason = arena_print(arena, "%s: %.*s", reason, (int)strcspn(used, "\n"), used);
    return fail("NVRTC cannot compile %s for %s: %s", unit->name, unit->arch, reason);
}

// The log, a zero byte, the cubin.
static int take_result(Arena *arena, const NvrtcUnit *unit, Program *program, int result,
                       Text *content) {
    size_t size = 0;
    char *log = arena_text(arena, "");
    if (!nvrtc.GetProgramLogSize(program, &size) && size) {
        log = arena_array(arena, char, size + 1);
        if (nvrtc.GetProgramLog(program, log)) *log = 0;
    }
    if (result || (result = nvrtc.GetCUBINSize(program, &size)))
        return refuse(arena, unit, result, log);
    char *cubin = arena_array(arena, char, size);
    if ((result = nvrtc.GetCUBIN(program, cubin))) return refuse(arena, unit, result, log);
    text_add_bytes(content, log, strlen(log) + 1);
    text_add_bytes(content, cubin, size);
    return 0;
}

static int compile_unit(Arena *arena, const NvrtcUnit *unit, Text *content) {
    const char *option[COUNT_OF(options) + 1] = {
        arena_print(arena, "--gpu-architecture=%s", unit->arch)};
    memcpy(option + 1, options, sizeof options);
    Program *program;
    int result = nvrtc.CreateProgram(&program, unit->source, unit->name, 0, NULL, NULL);
    if (result) return refuse(arena, unit, result, "");
    result = nvrtc.CompileProgram(program, COUNT_OF(option), option);
    result = take_result(arena, unit, program, result, content);
    nvrtc.DestroyProgram(&program);
    return result;
}

static int make_unit(Arena *arena, Batch *batch, NvrtcUnit *unit) {
    uint64_t key = hash_bytes(nvrtc.key, strlen(nvrtc.key), 0);
    const char *name = arena_print(arena, "pg_k_%016lx-%016lx.cubin",
                                   hash_bytes(unit->source, strlen(unit->source), 0),
                                   hash_bytes(unit->arch, strlen(unit->arch), key));
    Text content = text_new(arena);
    size_t size;
    const char *cached = cache_read(arena, name, &size);
    if (cached) text_add_bytes(&content, cached, size);
    size_t log = strnlen(content.at, content.count);
    unit->from_cache = log + 1 < content.count;
    if (!unit->from_cache) {
        content.count = 0;
        if (compile_unit(arena, unit, &content)) return -1;
        log = strlen(content.at);
        cache_add(arena, 1, &name, content.at, content.count);
    }
    pthread_mutex_lock(&batch->lock);
    unit->size = content.count - log - 1;
    unit->cubin = arena_copy(batch->arena, content.at + log + 1, unit->size);
    read_log(batch->arena, content.at, unit);
    pthread_mutex_unlock(&batch->lock);
    return 0;
}

// Units are taken in order, so the first that fails is the same one on any number of threads.
static void make_units(void *context, int thread, int threads, Barrier *barrier) {
    (void)thread, (void)threads, (void)barrier;
    Batch *batch = context;
    Arena *arena = arena_new();
    for (int i; (i = atomic_fetch_add(&batch->next, 1)) < batch->count; arena_reset(arena)) {
        if (!make_unit(arena, batch, &batch->unit[i])) continue;
        pthread_mutex_lock(&batch->lock);
        if (i < batch->failed) batch->message = arena_text(batch->arena, error_text());
        batch->failed = (int)min_i64(i, batch->failed);
        pthread_mutex_unlock(&batch->lock);
        atomic_store(&batch->next, batch->count);
    }
    arena_free(arena);
}

int nvrtc_compile(Arena *arena, NvrtcUnit *unit, int count) {
    if (load_library(arena)) return -1;
    Batch batch = {.arena = arena,
                   .unit = unit,
                   .count = count,
                   .lock = PTHREAD_MUTEX_INITIALIZER,
                   .failed = count};
    if (count == 1)
        make_units(&batch, 0, 1, NULL);
    else
        thread_run(make_units, &batch);
    return batch.message ? fail("%s", batch.message) : 0;
}
