/* simt_kernel.c - see simt_kernel.h. */
#include "simt_kernel.h"

#include "codegen/codegen.h"

#include <stdlib.h>
#include <string.h>

// What prelude.c declares for every text.
static const char types[] = "#ifndef PG_TEST_TYPES\n#define PG_TEST_TYPES\n"
                            "typedef float f32;\ntypedef int i32;\ntypedef unsigned int u32;\n"
                            "typedef long i64;\n#endif\n";

// The kernel `body` with up to three buffers a, b, c and a number n, as a renderer would write it.
static SimtFunction *compiled(const char *body, bool checked) {
    Arena *arena = arena_new();
    Text text = text_new(arena);
    text_add(&text, "%s", types);
    prelude_gpu_add(&text, arena, body);
    uint64_t hash = hash_bytes(body, strlen(body), hash_bytes(text.at, text.count, 0));
    const char *symbol = arena_print(arena, "simt_%016lx_0", (unsigned long)hash);
    text_add(&text,
             "KERNEL(1024) pg_k_%s(SELF const f32 *__restrict__ a, const f32 *__restrict__ b,\n"
             "                     f32 *__restrict__ c, i64 n) {\n%s\n}\n"
             "#ifndef __CUDACC__\n"
             "SIMT_QUIET void %s(SimtThread *self, void *const *param) {\n"
             "    pg_k_%s(self, *(const f32 **)param[0], *(const f32 **)param[1],\n"
             "            *(f32 **)param[2], *(const i64 *)param[3]);\n"
             "}\n#endif\n",
             symbol + 5, body, symbol, symbol + 5);
    CompileUnit unit = {.symbol = symbol,
                        .source = checked ? simt_checked_source(arena, text.at) : text.at,
                        .flags = checked ? SIMT_CHECKED_FLAGS : SIMT_FLAGS};
    if (compile_units(&unit, 1)) fatal("%s", error_text());
    if (!checked && nvrtc_available()) {
        NvrtcUnit cuda[] = {{.name = symbol, .source = text.at, .arch = "sm_80"},
                            {.name = symbol, .source = text.at, .arch = "sm_90a"}};
        if (nvrtc_compile(arena, cuda, 2)) fatal("%s", error_text());
    }
    arena_free(arena);
    return (SimtFunction *)(uintptr_t)unit.function;
}

SimtFunction *simt_kernel(const char *body) { return compiled(body, false); }

SimtFunction *simt_checked(const char *body) { return compiled(body, true); }

float *simt_values(int64_t count, int seed) {
    float *at = malloc((size_t)count * sizeof *at);
    for (int64_t i = 0; i < count; i++)
        at[i] = (float)(int64_t)(hash_bytes(&i, sizeof i, (uint64_t)seed) % 2001 - 1000) / 1000;
    return at;
}
