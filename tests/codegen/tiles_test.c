/* tiles_test.c - tiles as instructions: the sums that AMX makes, bit for bit, in plain C everywhere
 * and by AMX itself where avx512 stands for a CPU that has it. */
#include "codegen/run.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static float flushed(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x; }

static float widened(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float x;
    memcpy(&x, &wide, sizeof x);
    return flushed(x);
}

// TDPBF16PS of Intel's manual: the even terms, the odd terms, both, and what was there.
static float element(const uint16_t *a, const uint16_t *b, float sum, int i, int j) {
    for (int k = 0; k < 2; k++) {
        float part[2] = {0, 0};
        for (int p = 0; p < 16; p++)
            for (int q = 0; q < 2; q++)
                part[q] = flushed(fmaf(
                    widened(a[64 * i + 32 * k + 2 * p + q]),
                    widened(b[1024 * k + 512 * (j / 16) + 32 * p + 2 * (j % 16) + q]), part[q]));
        sum = flushed(flushed(sum) + flushed(part[0] + part[1]));
    }
    return sum;
}

static void fill(uint16_t *to, uint32_t seed, bool strange) {
    for (int i = 0; i < 2048; i++) {
        seed = seed * 1664525 + 1013904223;
        uint32_t sign = seed >> 31 << 15, exponent = 0x3f80 + (seed >> 20 & 7) * 0x80;
        to[i] = (uint16_t)(sign | (exponent + (seed >> 8 & 0x7f)));
        if (strange && seed >> 24 < 3) to[i] = (uint16_t)(seed >> 8 & 0x807f);  // a denormal
        if (strange && seed >> 24 == 4) to[i] = (uint16_t)(sign | 0x80);        // the least number
        if (strange && (seed >> 16 & 0x3ff) == 5) to[i] = (uint16_t)(sign | 0x7f80 | (i & 1));
    }
}

static void check_product(const Run *run, bool strange) {
    uint16_t *a = arena_array(run->arena, uint16_t, 2048),
             *b = arena_array(run->arena, uint16_t, 2048);
    float *c = random_floats(run->arena, 1024, 3), before[1024];
    fill(a, 1, strange);
    fill(b, 2, strange);
    if (strange) c[5] = 0x1p-130f, c[6] = INFINITY, c[7] = NAN;
    memcpy(before, c, sizeof before);
    run_call(run, 1, (void *[]){a, b, c}, NULL);
    for (int i = 0; i < 32; i++)
        for (int j = 0; j < 32; j++) {
            float wanted = element(a, b, before[32 * i + j], i, j), got = c[32 * i + j];
            CHECK(isnan(wanted) ? isnan(got) : !memcmp(&wanted, &got, sizeof got));
        }
}

TEST(products_of_tiles) {
    static const char *const isas[] = {"amx-c", "c", "avx2", "avx512"};
    for (int i = 0; i < COUNT_OF(isas); i++) {
        if (!run_isa(isas[i])) continue;
        Run run = run_read("tests/kernels/tiles.kernel");
        check_product(&run, false);
        check_product(&run, true);
        run_free(&run);
    }
}

static int times_of(const char *word, const char *text) {
    int times = 0;
    while ((text = strstr(text, word))) text++, times++;
    return times;
}

// Both compilers write AMX's instructions, and all 64 bytes of the shapes are there to be read.
static void check_assembly(const char *compiler) {
    setenv("PG_CC", compiler, 1);
    Arena *arena = arena_new();
    if (compiler_available()) {
        char *text = file_read(arena, "tests/kernels/tiles.kernel", NULL);
        Run run = run_render(text);
        // Not for this CPU's flags: the text says which it needs.
        char *source = arena_print(arena, "#pragma GCC target(\"amx-tile,amx-bf16\")\n%s%s",
                                   "#define __AMX_BF16__ 1\n", run.source);
        char *assembly = compiler_assembly(arena, source);
        CHECK(assembly != NULL);
        if (!assembly) assembly = "";
        int products = times_of("tdpbf16ps", assembly);  // 4 a step, which may be unrolled
        CHECK(products >= 4);
        CHECK_INT(times_of("tileloadd", assembly), products + 4);
        CHECK_INT(times_of("tilestored", assembly), 4);
        CHECK_INT(times_of("ldtilecfg", assembly), 1);
        CHECK(times_of("tilerelease", assembly) >= 1);
        CHECK_INT(times_of(".value\t64", assembly) + times_of(".short\t64", assembly), 8);
        run_free(&run);
    }
    arena_free(arena);
    unsetenv("PG_CC");
}

TEST(gcc_and_clang_write_the_instructions) {
    run_isa("c");
    check_assembly("gcc");
    check_assembly("clang-19");
}

TEST(a_ninth_tile_is_refused) {
    Arena *arena = arena_new();
    Kernel *kernel =
        kernel_parse(arena, "t",
                     "kernel t\nin m f32[2304]\nout o f32[2304]\nregister s f32[2304]\n"
                     "unroll for t < 9 { tile for r < 16 { for c < 16 { s[256*t + 16*r + c] = "
                     "m[256*t + 16*r + c] } } }\n"
                     "unroll for u < 9 { tile for w < 16 { for v < 16 { o[256*u + 16*w + v] = "
                     "s[256*u + 16*w + v] } } }\n");
    Program *program = lower(arena, kernel, &(LowerOptions){0});
    CHECK_FATAL_TEXT(program_verify(program), "9 tiles");
    arena_free(arena);
}

TEST(a_tile_loop_is_one_instruction) {
    static const struct {
        const char *body, *message;
    } wrong[] = {
        {"tile for r < 16 { for c < 8 { s[16*r + c] = m[16*r + c] } }", "16 rows of 16 f32"},
        {"tile for r < 16 { for c < 16 { s[8*r + c] = m[16*r + c] } }", "not rows of a tile"},
        {"tile for r < 16 { for c < 16 { s[16*r + c] = (mul m[16*r + c] 2) } }",
         "a tile is loaded"},
        {"tile for r < 16 { for c < 16 { m[16*r + c] = o[16*r + c] } }", "to or from a register"},
        {"tile for r < 16 { for c < 16 { s[16*r + c] = m[16*r + c] o[c] = 1 } }", "one store"},
    };
    for (int i = 0; i < COUNT_OF(wrong); i++) {
        Arena *arena = arena_new();
        Kernel *kernel = kernel_parse(
            arena, "t",
            arena_print(arena,
                        "kernel t\ninout m f32[256]\nout o f32[256]\nregister s f32[256]\n%s",
                        wrong[i].body));
        CHECK_FATAL_TEXT(kernel_verify(kernel), wrong[i].message);
        arena_free(arena);
    }
}
