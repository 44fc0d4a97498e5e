/* nvrtc_test.c - NVIDIA's run-time compiler: what a kernel takes, what is found again, what the
 * user is told. Needs NVRTC, but no GPU. */
#include "runtime/runtime.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

// In a process of its own, before any test here has loaded NVRTC.
static void check_message(const char *chosen, const char *message) {
    int pipes[2];
    char got[ERROR_SIZE] = "";
    CHECK_INT(pipe(pipes), 0);
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (!child) {
        setenv("PG_NVRTC", chosen, 1);
        bool told = !nvrtc_available() && write(pipes[1], error_text(), strlen(error_text())) > 0;
        _exit(!told);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && !status);
    CHECK(read(pipes[0], got, sizeof got - 1) > 0);
    check_part(got, message, "the message", __FILE__, __LINE__);
    close(pipes[0]);
    close(pipes[1]);
}

TEST(a_missing_library_is_one_line) {
    check_message("/nonexistent", "PG_NVRTC: cannot load /nonexistent: /nonexistent: cannot open");
    check_message("libm.so.6", "PG_NVRTC: cannot load libm.so.6: ");
}

static char folder[64];

static void remove_all(void) {
    char command[256];
    snprintf(command, sizeof command, "chmod -R u+w %s; rm -r %s", folder, folder);
    if (system(command)) perror(folder);
}

// An empty cache of this test's own; NVRTC may lie in the usual one.
static Arena *fresh_cache(void) {
    if (!nvrtc_available()) SKIP(error_text());
    if (!folder[0]) {
        strcpy(folder, "/tmp/picograd-test-XXXXXX");
        CHECK(mkdtemp(folder) != NULL);
        atexit(remove_all);
    }
    setenv("PG_CACHE", folder, 1);
    cache_clear();
    return arena_new();
}

#define KERNEL(threads) "extern \"C\" __global__ void __launch_bounds__(" #threads ") "

static const char add_source[] = KERNEL(256) "add(const float *a, float *b, long long n) {\n"
                                             "    long long i = blockIdx.x * 256ll + threadIdx.x;\n"
                                             "    if (i < n) b[i] += a[i];\n"
                                             "}\n";

static NvrtcUnit unit_of(const char *name, const char *source, const char *arch) {
    return (NvrtcUnit){.name = name, .source = source, .arch = arch};
}

static const NvrtcKernel *kernel_of(const NvrtcUnit *unit, const char *name) {
    for (int i = 0; i < unit->kernels; i++)
        if (!strcmp(unit->kernel[i].name, name)) return &unit->kernel[i];
    return NULL;
}

// An ELF file for NVIDIA's machine, 190.
static bool is_cubin(const NvrtcUnit *unit) {
    const uint8_t *at = unit->cubin;
    return unit->size > 64 && !memcmp(at, "\177ELF", 4) && at[18] == 190 && at[19] == 0;
}

TEST(a_kernel_compiles_for_both_architectures) {
    Arena *arena = fresh_cache();
    NvrtcUnit unit[] = {unit_of("add", add_source, "sm_80"), unit_of("add", add_source, "sm_90a")};
    CHECK_INT(nvrtc_compile(arena, unit, 2), 0);
    for (int i = 0; i < 2; i++) {
        CHECK(is_cubin(&unit[i]) && !unit[i].from_cache);
        CHECK_INT(unit[i].kernels, 1);
        const NvrtcKernel *add = kernel_of(&unit[i], "add");
        CHECK(add && add->registers >= 8 && add->registers <= 32);
        CHECK_INT(add->spill_stores + add->spill_loads + add->stack + add->shared, 0);
    }
    CHECK(unit[0].size != unit[1].size || memcmp(unit[0].cubin, unit[1].cubin, unit[0].size));
    arena_free(arena);
}

TEST(products_and_sums_are_not_fused) {
    Arena *arena = fresh_cache();
    static const char source[] = KERNEL(32) "k(float *a) { a[0] = a[1] * a[2] + a[3]; }\n";
    static const char fused[] = KERNEL(32) "k(float *a) { a[0] = fmaf(a[1], a[2], a[3]); }\n";
    NvrtcUnit unit[] = {unit_of("k", source, "sm_80"), unit_of("k", fused, "sm_80")};
    CHECK_INT(nvrtc_compile(arena, unit, 2), 0);
    CHECK(unit[0].size != unit[1].size || memcmp(unit[0].cubin, unit[1].cubin, unit[0].size));
    arena_free(arena);
}

TEST(what_each_kernel_of_a_text_takes) {
    Arena *arena = fresh_cache();
    static const char source[] = KERNEL(32) "stack(float *a, int n) {\n"
                                            "    float t[500];\n"
                                            "    for (int i = 0; i < 500; i++) t[i] = a[i * n];\n"
                                            "    a[0] = t[n];\n"
                                            "}\n"
        // 128 values live across a loop where a thread may have 64 registers.
        KERNEL(
            1024) "spill(float *a, int n) {\n"
                  "    float t[128];\n"
                  "#pragma unroll\n"
                  "    for (int i = 0; i < 128; i++) t[i] = a[i * 1024 + threadIdx.x];\n"
                  "    for (int j = 0; j < n; j++)\n"
                  "#pragma unroll\n"
                  "        for (int i = 0; i < 128; i++) t[i] = t[i] * t[(i + 1) % 128] + a[j];\n"
                  "#pragma unroll\n"
                  "    for (int i = 0; i < 128; i++) a[i * 1024 + threadIdx.x] = t[i];\n"
                  "}\n" KERNEL(256) "share(float *a) {\n"
                                    "    __shared__ float t[256];\n"
                                    "    t[threadIdx.x] = a[threadIdx.x];\n"
                                    "    __syncthreads();\n"
                                    "    a[threadIdx.x] = t[255 - threadIdx.x];\n"
                                    "}\n";
    NvrtcUnit unit = unit_of("three", source, "sm_80");
    CHECK_INT(nvrtc_compile(arena, &unit, 1), 0);
    CHECK_INT(unit.kernels, 3);
    const NvrtcKernel *stack = kernel_of(&unit, "stack"), *spill = kernel_of(&unit, "spill"),
                      *share = kernel_of(&unit, "share");
    CHECK(stack && spill && share);
    CHECK_INT(stack->stack, 2000);
    CHECK_INT(stack->spill_stores, 0);
    CHECK(spill->spill_stores >= 256 && spill->spill_loads >= 256);
    CHECK(spill->registers > 32 && spill->registers <= 64);
    CHECK_INT(share->shared, 1024);
    CHECK_INT(share->stack + stack->shared + spill->shared, 0);
    arena_free(arena);
}

TEST(errors_name_the_kernel_and_the_line) {
    Arena *arena = fresh_cache();
    NvrtcUnit unit[] = {unit_of("add", add_source, "sm_80"),
                        unit_of("wrong", KERNEL(32) "wrong() {\n    missing = 1;\n}\n", "sm_80"),
                        unit_of("later", "also wrong", "sm_80")};
    CHECK_FAIL(nvrtc_compile(arena, unit, 3),
               "NVRTC cannot compile wrong for sm_80: wrong(2): error: identifier \"missing\" is "
               "undefined");
    CHECK(!strchr(error_text(), '\n'));
    unit[0].arch = "sm_7";
    CHECK_FAIL(nvrtc_compile(arena, unit, 1), "NVRTC cannot compile add for sm_7: nvrtc: error: ");
    // What failed is not kept.
    CHECK_FAIL(nvrtc_compile(arena, unit, 1), "--gpu-architecture");
    static const char large[] =
        KERNEL(32) "large(float *a, int n) {\n"
                   "    __shared__ float t[1 << 20];\n"
                   "    t[n] = a[n], __syncthreads(), a[0] = t[threadIdx.x];\n}\n";
    NvrtcUnit shared = unit_of("large", large, "sm_80");
    CHECK_FAIL(nvrtc_compile(arena, &shared, 1),
               "NVRTC_ERROR_COMPILATION: Used 10 registers, used 1 barriers, 4194304 bytes smem");
    arena_free(arena);
}

TEST(the_second_time_it_comes_from_the_cache) {
    Arena *arena = fresh_cache();
    NvrtcUnit first = unit_of("first", add_source, "sm_80"), second = first,
              other = unit_of("other", add_source, "sm_86");
    CHECK_INT(nvrtc_compile(arena, &first, 1), 0);
    CHECK_INT(nvrtc_compile(arena, &second, 1), 0);
    CHECK_INT(nvrtc_compile(arena, &other, 1), 0);
    CHECK(!first.from_cache && second.from_cache && !other.from_cache);
    CHECK_INT(second.size, first.size);
    CHECK(!memcmp(second.cubin, first.cubin, first.size));
    CHECK_INT(second.kernels, 1);
    CHECK_TEXT(second.kernel[0].name, "add");
    CHECK_INT(second.kernel[0].registers, first.kernel[0].registers);
    CHECK_TEXT(second.log, first.log);
    CacheInfo info;
    CHECK_INT(cache_info(arena, &info), 0);
    CHECK_INT(info.entries, 2);
    // One that is damaged is made again.
    char command[256];
    snprintf(command, sizeof command, "for f in %s/kernels/*; do echo >>$f; done", folder);
    CHECK_INT(system(command), 0);
    CHECK_INT(nvrtc_compile(arena, &second, 1), 0);
    CHECK(!second.from_cache && second.size == first.size);
    CHECK_INT(nvrtc_compile(arena, &second, 1), 0);
    CHECK(second.from_cache);
    arena_free(arena);
}

TEST(many_at_once_are_each_their_own) {
    Arena *arena = fresh_cache();
    enum { COUNT = 24 };
    NvrtcUnit unit[COUNT];
    for (int i = 0; i < COUNT; i++) {
        char *name = arena_print(arena, "k%d", i);
        unit[i] = unit_of(name, arena_print(arena, KERNEL(32) "%s(int *a) { *a = %d; }", name, i),
                          "sm_80");
    }
    CHECK_INT(nvrtc_compile(arena, unit, COUNT), 0);
    for (int i = 0; i < COUNT; i++) {
        CHECK_INT(unit[i].kernels, 1);
        CHECK_TEXT(unit[i].kernel[0].name, unit[i].name);
        CHECK(is_cubin(&unit[i]));
    }
    arena_free(arena);
}
