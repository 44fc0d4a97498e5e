/* simt_kernel.c - see simt_kernel.h. */
#include "simt_kernel.h"

#include "codegen/codegen.h"

#include <stdlib.h>
#include <string.h>

char *kernel_text(Arena *arena, const char *body, const char **name) {
    Text text = text_new(arena);
    prelude_add(&text, arena, body, true);
    uint64_t hash = hash_bytes(body, strlen(body), hash_bytes(text.at, text.count, 0));
    *name = arena_print(arena, "pg_k_%016lx_0", (unsigned long)hash);
    const char *symbol = arena_print(arena, "simt_%s", *name + strlen("pg_k_"));
    text_add(&text,
             "KERNEL(%d) %s(SELF const f32 *__restrict__ a, const f32 *__restrict__ b,\n"
             "                     f32 *__restrict__ c, i64 n) {\n%s\n}\n"
             "#ifndef __CUDACC__\n"
             "SIMT_QUIET void %s(SimtThread *self, void *const *param) {\n"
             "    %s(self, *(const f32 **)param[0], *(const f32 **)param[1],\n"
             "            *(f32 **)param[2], *(const i64 *)param[3]);\n"
             "}\n#endif\n",
             strstr(body, "wgmma_") ? 256 : 1024, *name, body, symbol, *name);
    return text.at;
}

static SimtFunction *compiled(const char *body, bool checked) {
    Arena *arena = arena_new();
    const char *name, *text = kernel_text(arena, body, &name);
    const char *symbol = arena_print(arena, "simt_%s", name + strlen("pg_k_"));
    CompileUnit unit = {.symbol = symbol,
                        .source = checked ? simt_checked_source(arena, text) : text,
                        .flags = checked ? SIMT_CHECKED_FLAGS : SIMT_FLAGS};
    if (compile_units(&unit, 1)) fatal("%s", error_text());
    if (!checked && nvrtc_available()) {
        NvrtcUnit cuda[] = {{.name = symbol, .source = text, .arch = "sm_90a"},
                            {.name = symbol, .source = text, .arch = "sm_80"}};
        if (nvrtc_compile(arena, cuda, text_needs_sm_90(body) ? 1 : 2)) fatal("%s", error_text());
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

uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
