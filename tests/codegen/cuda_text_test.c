/* cuda_text_test.c - NVRTC takes every kernel that the tests before this one compiled for simt.
 * In: PG_CUDA_TEXT, the folder of their texts (scripts/test.sh); PG_CUDA_ARCHS, "sm_80,sm_90a";
 * PG_CUDA_LIST, a file that gets what each kernel takes.  Out: at a failure, each kernel that does
 * not compile, by name, with the compiler's line. No GPU is needed.                             */
#include "codegen/codegen.h"
#include "runtime/runtime.h"
#include "test.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

enum {
    BATCHES = 64,  // texts are compiled many to a program; by their hash, so that one that is new
                   // changes one program
    CACHE_LARGEST = 300 << 20,
};

typedef struct {
    const char *symbol, *source;
    bool spills;
} Source;

static Arena *arena;
static LIST(Source) kernels;

static uint64_t batch_of(const char *symbol) {
    return strtoull(symbol + strlen("pg_k_"), NULL, 16) % BATCHES;
}

static void read_texts(const char *folder) {
    struct dirent **entry;
    int count = scandir(folder, &entry, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        const char *name = entry[i]->d_name, *end = strstr(name, ".cu");
        if (strncmp(name, "pg_k_", 5) || !end) continue;
        const char *path = arena_print(arena, "%s/%s", folder, name);
        Source kernel = {.symbol = arena_print(arena, "%.*s", (int)(end - name), name),
                         .source = file_read(arena, path, NULL)};
        if (!kernel.source) fatal("%s", error_text());
        *list_add(arena, &kernels) = kernel;
    }
}

// Cubins stay in the build folder from one run to the next, until there are too many.
static void use_own_cache(void) {
    CacheInfo info;
    setenv("PG_CACHE", arena_print(arena, "%s/cubins", getenv("PG_BUILD")), 1);
    if (!cache_info(arena, &info) && info.bytes > CACHE_LARGEST) cache_clear();
}

static bool is_for(const Source *kernel, const char *arch) {
    return strtol(arch + strlen("sm_"), NULL, 10) >= 90 || !text_needs_sm_90(kernel->source);
}

// The texts of all batches, once for each architecture.
static int add_units(NvrtcUnit *unit, const char *archs) {
    int count = 0;
    for (const char *at = archs; *at; at += strcspn(at, ","), at += *at == ',') {
        const char *arch = arena_print(arena, "%.*s", (int)strcspn(at, ","), at);
        for (int batch = 0; batch < BATCHES; batch++) {
            Text text = text_new(arena);
            for (int i = 0; i < kernels.count; i++)
                if (batch_of(kernels.at[i].symbol) == (uint64_t)batch &&
                    is_for(&kernels.at[i], arch))
                    text_add(&text, "%s\n", kernels.at[i].source);
            if (!text.count) continue;
            unit[count++] = (NvrtcUnit){
                .name = arena_print(arena, "batch %d", batch), .source = text.at, .arch = arch};
        }
    }
    return count;
}

// The "// kernel max_8x32" that a text begins with, then what is wrong with it.
static void name_culprits(const char *archs) {
    for (int i = 0; i < kernels.count; i++)
        for (const char *at = archs; *at; at += strcspn(at, ","), at += *at == ',') {
            NvrtcUnit unit = {.name = kernels.at[i].symbol,
                              .source = kernels.at[i].source,
                              .arch = arena_print(arena, "%.*s", (int)strcspn(at, ","), at)};
            if (!is_for(&kernels.at[i], unit.arch) || !nvrtc_compile(arena, &unit, 1)) continue;
            printf("%.*s: %s\n", (int)strcspn(unit.source, "\n"), unit.source, error_text());
        }
}

static Source *kernel_of(const char *function) {
    for (int i = 0; i < kernels.count; i++)
        if (!strncmp(function, kernels.at[i].symbol, strlen(kernels.at[i].symbol)))
            return &kernels.at[i];
    fatal("the log names %s, which is no kernel", function);
}

static void note_uses(const NvrtcUnit *unit, int count, FILE *list) {
    for (int i = 0; i < count; i++)
        for (int j = 0; j < unit[i].kernels; j++) {
            const NvrtcKernel *at = &unit[i].kernel[j];
            Source *kernel = kernel_of(at->name);
            if (list)
                fprintf(list,
                        "%-24s %-7s %4d registers %6ld stack %5ld spilled %6ld shared  %.*s\n",
                        at->name, unit[i].arch, at->registers, (long)at->stack,
                        (long)(at->spill_stores + at->spill_loads), (long)at->shared,
                        (int)strcspn(kernel->source, "\n"), kernel->source);
            kernel->spills |= at->spill_stores + at->spill_loads > 0;
        }
}

TEST(nvrtc_takes_every_kernel) {
    const char *folder = env_text("CUDA_TEXT", NULL), *to = env_text("CUDA_LIST", NULL),
               *archs = env_text("CUDA_ARCHS", "sm_80,sm_90a");
    if (!folder || !getenv("PG_BUILD")) SKIP("PG_CUDA_TEXT names no texts. Hint: make check");
    if (!nvrtc_available()) SKIP(error_text());
    arena = arena_new();
    read_texts(folder);
    CHECK(kernels.count > 0);
    use_own_cache();
    NvrtcUnit *unit = arena_array(arena, NvrtcUnit, BATCHES * (int64_t)strlen(archs));
    int count = add_units(unit, archs);
    if (nvrtc_compile(arena, unit, count)) name_culprits(archs);
    for (int i = 0; i < count; i++) CHECK(unit[i].cubin != NULL);
    FILE *list = to ? fopen(to, "w") : NULL;
    note_uses(unit, count, list);
    if (list) fclose(list);
    int spilling = 0;
    for (int i = 0; i < kernels.count; i++) {
        if (!kernels.at[i].spills) continue;
        spilling++;
        printf("%s spills: %.*s\n", kernels.at[i].symbol, (int)strcspn(kernels.at[i].source, "\n"),
               kernels.at[i].source);
    }
    printf("%d kernels, of which %d spill\n", kernels.count, spilling);
    CHECK_INT(spilling, 0);
}
