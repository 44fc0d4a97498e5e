/* registers_test.c - tiles of vectors stay in registers: the loop that sums them stores nothing. By
 * gcc, for CPUs other than this one, too. */
#include "codegen/run.h"
#include "schedule/schedule.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *pragma;
    ScheduleTarget target;
} cpus[] = {
    {"haswell", "arch=haswell", {"avx2_fma", 8, 6, 16, NULL, 512, 344, false}},
    {"skylake-avx512",
     "arch=skylake-avx512,prefer-vector-width=512",
     {"avx512_fma", 16, 14, 32, NULL, 320, 344, false}},
    {"sapphirerapids",
     "arch=sapphirerapids,prefer-vector-width=512",
     {"avx512_fma", 16, 14, 32, NULL, 320, 344, false}},
};

static int times_of(const char *word, const char *from, const char *end) {
    int times = 0;
    while ((from = strstr(from, word)) && from < end) from++, times++;
    return times;
}

// From one label to the jump back to it: what has the most multiplies.
static const char *find_loop(const char *text, const char **end) {
    const char *best = NULL;
    int most = 0;
    for (const char *at = text; (at = strstr(at, "\n.L")); at++) {
        const char *colon = strchr(at, ':');
        char label[32];
        if (!colon || colon - at > 20) continue;
        snprintf(label, sizeof label, "\t.L%.*s\n", (int)(colon - at - 3), at + 3);
        const char *jump = strstr(colon, label), *next = strstr(colon, "\n.L");
        int multiplies = jump ? times_of("vfmadd", colon, jump) : 0;
        if (!jump || (next && next < jump) || multiplies <= most) continue;
        most = multiplies;
        best = colon;
        *end = jump;
    }
    return best;
}

// Lines of the loop that touch the stack.
static int touches(const char *loop, const char *end) {
    return times_of("(%rsp)", loop, end) + times_of("(%rbp)", loop, end);
}

static void check_tile(int cpu, int m, int n, int k, int accumulators) {
    Arena *arena = arena_new();
    Kernel *kernel = kernel_parse(
        arena, "mm",
        arena_print(arena,
                    "kernel mm\nin a f32[%d]\nin b f32[%d]\nout c f32[%d]\nfor i < %d { for j < %d "
                    "{\nc[%d*i + j] = (reduce add k<%d (mul a[%d*i + k] b[%d*k + j])) } }\n",
                    m * k, k * n, m * n, m, n, n, k, k, n));
    const char *candidate[CANDIDATES_MAX];
    accumulate(kernel);
    schedule_candidates(arena, kernel, &cpus[cpu].target, candidate);
    schedule_apply(kernel, candidate[0]);
    Run run = run_render(kernel_print(arena, kernel));
    const char *source =
        arena_print(arena, "#pragma GCC target(\"%s\")\n%s", cpus[cpu].pragma, run.source);
    const char *assembly = compiler_assembly(arena, source), *end = NULL;
    CHECK(assembly != NULL);
    const char *loop = assembly ? find_loop(assembly, &end) : NULL;
    CHECK(loop != NULL);
    if (loop) {
        int multiplies = times_of("vfmadd", loop, end);
        CHECK(multiplies >= accumulators && multiplies % accumulators == 0);
        CHECK_INT(touches(loop, end), 0);
    }
    run_free(&run);
    arena_free(arena);
}

TEST(tiles_stay_in_registers) {
    run_isa("c");
    setenv("PG_CC", "gcc", 1);
    if (!compiler_available()) SKIP("there is no gcc");
    for (int cpu = 0; cpu < COUNT_OF(cpus); cpu++) {
        bool wide = cpus[cpu].target.lanes == 16;
        check_tile(cpu, 1008, 1024, 1024, wide ? 28 : 12);
        check_tile(cpu, wide ? 28 : 12, 64, 40, wide ? 28 : 12);
    }
}
