/* variants_test.c - what schedules make of kernels, written by hand: tiles, threads, folds, masks,
 * gathers; on every instruction set. */
#include "codegen/run.h"
#include "test.h"

#include <math.h>
#include <string.h>
#include <sys/mman.h>

typedef void Check(const Run *run, int threads);

static void check_everywhere(const char *text, Check *check_one) {
    for (int i = 0; run_isas[i]; i++) {
        if (!run_isa(run_isas[i])) continue;
        Run run = run_compile(text);
        for (int threads = 1; threads <= 3; threads++) check_one(&run, threads);
        run_free(&run);
    }
}

// ---- a register tile over a packed matrix ------------------------------------------------------

static const char tiled[] =
    "kernel matmul_tiled\n"
    "in a f32[4608]\n in b f32[7680]\n in bias f32[80]\n out c f32[3840]\n"
    "shared pack f32[7680]\n register s f32[96]\n"
    "thread for p < 5 { for kp < 96 { unroll for jp < 2 { vector for vp < 8 {\n"
    "  pack[1536*p + 16*kp + 8*jp + vp] = b[80*kp + 16*p + 8*jp + vp] } } } }\n"
    "thread for i < 8 { for j < 5 {\n"
    "  unroll for i1 < 6 { unroll for j1 < 2 { vector for v1 < 8 { "
    "init s[16*i1 + 8*j1 + v1] = 0 } } }\n"
    "  for k < 96 { unroll for i2 < 6 { unroll for j2 < 2 { vector for v2 < 8 {\n"
    "    update s[16*i2 + 8*j2 + v2] = (fma a[576*i + 96*i2 + k] pack[1536*j + 16*k + 8*j2 + "
    "v2] s[16*i2 + 8*j2 + v2])\n"
    "  } } } }\n"
    "  unroll for i3 < 6 { unroll for j3 < 2 { vector for v3 < 8 {\n"
    "    finish c[480*i + 80*i3 + 16*j + 8*j3 + v3] = (add s[16*i3 + 8*j3 + v3] bias[16*j + "
    "8*j3 + v3]) } } } } }\n";

static void check_tiled(const Run *run, int threads) {
    Arena *arena = arena_new();
    float *a = random_floats(arena, 4608, 1), *b = random_floats(arena, 7680, 2),
          *bias = random_floats(arena, 80, 3);
    float *c = arena_array(arena, float, 3840);
    run_call(run, threads, (void *[]){a, b, bias, c}, NULL);
    for (int i = 0; i < 48; i++)
        for (int j = 0; j < 80; j++) {
            float sum = 0;
            for (int k = 0; k < 96; k++) sum = fmaf(a[96 * i + k], b[80 * k + j], sum);
            CHECK_NEAR(c[80 * i + j], sum + bias[j], 0);
        }
    arena_free(arena);
}

// The k loop from its first multiply on: twelve sums in registers, none of them ever on the stack.
static void check_inner_loop(const char *assembly) {
    const char *at = strstr(assembly, "vfmadd"), *end = strstr(at, "\tj");
    int multiplies = 0;
    CHECK(at && end);
    for (; at < end; at = strchr(at, '\n') + 1) {
        int length = (int)strcspn(at, "\n");
        multiplies += strstr(at, "vfmadd") && strstr(at, "vfmadd") < at + length;
        const char *stack = strstr(at, "(%rsp)"), *frame = strstr(at, "(%rbp)");
        CHECK(!(stack && stack < at + length) && !(frame && frame < at + length));
    }
    CHECK_INT(multiplies, 12);
}

TEST(tiled_matmul_keeps_its_sums_in_registers) {
    if (!run_isa("avx2")) SKIP("this CPU has no AVX2");
    Run run = run_render(tiled);
    char *assembly = compiler_assembly(run.arena, run.source);
    CHECK(assembly != NULL);
    check_inner_loop(assembly);
    run_free(&run);
}

TEST(tiled_matmul) { check_everywhere(tiled, check_tiled); }

// ---- folds: lanes, then threads ----------------------------------------------------------------

// Rows of 64: eight running lanes, folded in a fixed tree; then the rows, by way of every thread.
static const char folds[] =
    "kernel folds\n"
    "in x f32[640]\n out sum f32[10]\n out largest f32[10]\n out all f32[1]\n"
    "shared part f32[10]\n register p f32[8]\n register s f32[1]\n register m f32[1]\n"
    " register t f32[1]\n"
    "thread for i < 10 {\n"
    "  vector for v < 8 { init p[v] = 0 }\n"
    "  init s[0] = 0\n init m[0] = -inf\n"
    "  for k < 8 {\n"
    "    vector for v1 < 8 { update p[v1] = (add p[v1] x[64*i + 8*k + v1]) }\n"
    "    vector for v2 < 8 { update m[0] = (max x[64*i + 8*k + v2] m[0]) }\n"
    "  }\n"
    "  vector for v3 < 8 { update s[0] = (add s[0] p[v3]) }\n"
    "  finish sum[i] = s[0]\n"
    "  finish largest[i] = m[0]\n"
    "  part[i] = s[0]\n"
    "}\n"
    "init t[0] = 0\n"
    "for i2 < 10 { update t[0] = (add t[0] part[i2]) }\n"
    "finish all[0] = t[0]\n";

static void check_folds(const Run *run, int threads) {
    Arena *arena = arena_new();
    float *x = random_floats(arena, 640, 5), sum[10], largest[10], all = 0, total = 0;
    run_call(run, threads, (void *[]){x, sum, largest, &all}, NULL);
    for (int i = 0; i < 10; i++) {
        float lane[8] = {0}, top = -INFINITY;
        for (int k = 0; k < 64; k++) lane[k % 8] += x[64 * i + k];
        for (int k = 0; k < 64; k++) top = fmaxf(top, x[64 * i + k]);
        for (int half = 4; half; half /= 2)
            for (int l = 0; l < half; l++) lane[l] += lane[l + half];
        CHECK_NEAR(sum[i], lane[0], 0);
        CHECK_NEAR(largest[i], top, 0);
        total += lane[0];
    }
    CHECK_NEAR(all, total, 0);
    arena_free(arena);
}

TEST(folds_over_lanes_and_threads) { check_everywhere(folds, check_folds); }

TEST(lanes_that_carry_on_are_refused) {
    Arena *arena = arena_new();
    Kernel *kernel =
        kernel_parse(arena, "k",
                     "kernel k\nin x f32[8]\nout y f32[1]\ninit y[0] = 1\n"
                     "vector for v < 8 { update y[0] = (add x[v] (mul y[0] y[0])) }\n");
    CHECK_FATAL_TEXT(lower(arena, kernel, &(LowerOptions){0}), "from lane to lane");
    arena_free(arena);
}

// ---- memory that must not be touched -----------------------------------------------------------

// `count` floats that end where the readable memory does.
static float *at_the_edge(int64_t count) {
    char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED);
    CHECK(mprotect(pages + 4096, 4096, PROT_NONE) == 0);
    return (float *)(void *)(pages + 4096) - count;
}

static void leave_edge(float *at, int64_t count) { munmap((char *)(at + count) - 4096, 8192); }

static const char guarded[] =
    "kernel guarded\n"
    "var n 1..60\n in x f32[60]\n out y f32[60]\n out z f32[120]\n out s f32[1]\n"
    "init s[0] = 0\n"
    "for i < (n + 7)/8 { vector for v < 8 {\n"
    "  y[8*i + v] = (add x[8*i + v if (cmplt @i32(8*i + v) @i32(n))] 1) when (cmplt @i32(8*i + "
    "v) @i32(n))\n"
    "  z[16*i + 2*v] = (where (cmplt x[8*i + v if (cmplt @i64(8*i + v) @i64(n))] 0) 1 2) when "
    "(cmplt @i64(8*i + v) @i64(n))\n"
    "  update s[0] = (add s[0] x[8*i + v if (cmplt @i32(8*i + v) @i32(n))])\n"
    "} }\n";

static void check_guarded(const Run *run, int threads) {
    for (int64_t n = 1; n <= 60; n += n < 20 ? 1 : 9) {
        float *x = at_the_edge(n), *y = at_the_edge(n), z[120], s, sum = 0;
        uint32_t seed = 1;
        for (int64_t i = 0; i < n; i++) sum += x[i] = random_float(&seed);
        for (int i = 0; i < 120; i++) z[i] = -1;
        run_call(run, threads, (void *[]){x, y, z, &s}, &n);
        for (int64_t i = 0; i < n; i++) CHECK_NEAR(y[i], x[i] + 1, 0);
        for (int i = 0; i < 120; i++)
            CHECK_NEAR(z[i], i % 2 || i >= 2 * n ? -1 : x[i / 2] < 0 ? 1 : 2, 0);
        CHECK_NEAR(s, sum, 1e-4);
        leave_edge(x, n);
        leave_edge(y, n);
    }
}

TEST(guards_keep_lanes_from_memory) { check_everywhere(guarded, check_guarded); }

// ---- gathers and scatters ----------------------------------------------------------------------

static const char gathers[] =
    "kernel gathers\n"
    "in ids i32[16]\n in table f16[640]\n out rows f32[1024]\n out column f32[16]\n"
    " out back f32[16]\n out odd bf16[32]\n"
    "thread for i < 16 { for d < 8 { vector for v < 8 {\n"
    "  let t in 0..9 = (cast:i64 ids[i])\n"
    "  rows[64*i + 8*d + v] = (cast:f32 table[64*t + 8*d + v]) } } }\n"
    "for j < 2 { vector for w < 8 {\n"
    "  let u in 0..9 = (cast:i64 ids[8*j + w])\n"
    "  column[8*j + w] = (cast:f32 table[64*u + 3])\n"
    "  back[15 - 8*j - w] = (cast:f32 ids[8*j + w])\n"
    "  odd[16*j + 2*w + 1] = (cast:bf16 ids[(8*j + w)/4])\n"
    "} }\n";

static void check_gathers(const Run *run, int threads) {
    int32_t ids[16];
    uint16_t table[640], odd[32] = {0};
    float rows[1024], column[16], back[16];
    for (int i = 0; i < 16; i++) ids[i] = i * 7 % 10;
    for (int i = 0; i < 640; i++) table[i] = (uint16_t)(0x4c00 + i);  // 16 + i / 64
    run_call(run, threads, (void *[]){ids, table, rows, column, back, odd}, NULL);
    for (int i = 0; i < 16; i++) {
        for (int d = 0; d < 64; d++) CHECK_NEAR(rows[64 * i + d], 16 + (64 * ids[i] + d) / 64.0, 0);
        CHECK_NEAR(column[i], 16 + (64 * ids[i] + 3) / 64.0, 0);
        CHECK_NEAR(back[15 - i], ids[i], 0);
        uint32_t bits = (uint32_t)odd[2 * i + 1] << 16;
        float value;
        memcpy(&value, &bits, 4);
        CHECK_NEAR(value, ids[i / 4], 0);
        CHECK_INT(odd[2 * i], 0);
    }
}

TEST(gathers_and_scatters) { check_everywhere(gathers, check_gathers); }

// ---- threads that meet -------------------------------------------------------------------------

// Sixteen rounds in which every element needs others of the round before, each a barrier or two.
static const char rounds[] =
    "kernel rounds\n"
    "in x i32[300]\n out y i32[300]\n out count i32[1]\n"
    "shared p i32[300]\n shared q i32[300]\n own mine i32[300]\n register r i32[1]\n"
    "thread for i < 300 { p[i] = x[i] }\n"
    "init count[0] = 0:i32\n"
    "for round < 16 {\n"
    "  for o < 300 { mine[o] = (add p[299 - o] 1:i32) }\n"
    "  thread for i1 < 300 { q[i1] = (add (mul mine[i1] 3:i32) @i32(round)) }\n"
    "  thread for i2 < 300 { p[i2] = q[(i2 + 77)%300] }\n"
    "  update count[0] = (add count[0] q[0])\n"
    "}\n"
    "r[0] = count[0]\n"
    "thread for i3 < 300 { y[i3] = (add p[i3] r[0]) }\n";

static void check_rounds(const Run *run, int threads) {
    int32_t x[300], y[300], p[300], q[300], got, count = 0;
    for (int i = 0; i < 300; i++) p[i] = x[i] = i * i;
    for (int round = 0; round < 16; round++) {
        for (int i = 0; i < 300; i++)
            q[i] = (int32_t)(((uint32_t)p[299 - i] + 1) * 3 + (uint32_t)round);
        for (int i = 0; i < 300; i++) p[i] = q[(i + 77) % 300];
        count = (int32_t)((uint32_t)count + (uint32_t)q[0]);
    }
    for (int again = 0; again < 10; again++) {
        run_call(run, threads, (void *[]){x, y, &got}, NULL);
        CHECK_INT(got, count);
        for (int i = 0; i < 300; i++) CHECK_INT(y[i], (int32_t)((uint32_t)p[i] + (uint32_t)count));
    }
}

TEST(threads_meet_where_they_must) { check_everywhere(rounds, check_rounds); }

// ---- arrays, large registers, unrolled tails ---------------------------------------------------

static const char arrays[] =
    "kernel arrays\n"
    "var n 0..8\n in x f32[64]\n out y f32[64]\n out z f32[8]\n out b bool[8]\n"
    "register small f32[64]\n register big f32[8192]\n register flag bool[8]\n"
    "for i < 64 { small[63 - i] = x[i] }\n"
    "for j < 8192 { big[j] = (cast:f32 @i32(j)) }\n"
    "for k < 8 { vector for v < 8 { y[8*k + v] = (add small[8*k + v] big[1000*k + v]) } }\n"
    "unroll for u < 8 { z[u] = -1 }\n"
    "unroll for u1 < 8, n { z[u1] = x[9*u1] }\n"
    "vector for w < 8 { flag[w] = (cmplt x[w] 0) }\n"
    "vector for w1 < 8 { b[w1] = (add flag[w1] (cmplt 0.5 x[w1])) }\n";

static void check_arrays(const Run *run, int threads) {
    Arena *arena = arena_new();
    float *x = random_floats(arena, 64, 3), y[64], z[8];
    uint8_t b[8];
    for (int64_t n = 0; n <= 8; n++) {
        run_call(run, threads, (void *[]){x, y, z, b}, &n);
        for (int i = 0; i < 64; i++) CHECK_NEAR(y[i], x[63 - i] + (float)(i / 8 * 1000 + i % 8), 0);
        for (int i = 0; i < 8; i++) CHECK_NEAR(z[i], i < n ? x[9 * i] : -1, 0);
        for (int i = 0; i < 8; i++) CHECK_INT(b[i], x[i] < 0 || x[i] > 0.5f);
    }
    arena_free(arena);
}

TEST(arrays_and_unrolled_tails) { check_everywhere(arrays, check_arrays); }
