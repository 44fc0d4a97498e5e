/* kernels_test.c - the kernels of tests/kernels, as they are written there, against plain loops. */
#include "codegen/run.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- the four of tests/kernels: every instruction set, one thread and two ----------------------

static void check_all(const float *got, const double *wanted, int64_t count, double tolerance) {
    for (int64_t i = 0; i < count; i++)
        CHECK_NEAR(got[i], wanted[i], tolerance * (1 + fabs(wanted[i])));
}

static void check_matmul(const Run *run, int threads) {
    float *a = random_floats(run->arena, 64 * 96, 1), *b = random_floats(run->arena, 96 * 80, 2);
    float *bias = random_floats(run->arena, 80, 3), *c = arena_array(run->arena, float, 64 * 80);
    double *wanted = arena_array(run->arena, double, 64 * 80);
    for (int i = 0; i < 64; i++)
        for (int j = 0; j < 80; j++) {
            double sum = bias[j];
            for (int k = 0; k < 96; k++) sum += (double)a[96 * i + k] * b[80 * k + j];
            wanted[80 * i + j] = sum / (1 + exp2(-2.4554669595930157 * sum));
        }
    run_call(run, threads, (void *[]){a, b, bias, c}, NULL);
    check_all(c, wanted, 64 * 80, 1e-5);
}

static void check_rmsnorm(const Run *run, int threads) {
    float *x = random_floats(run->arena, 12 * 64, 4), *w = random_floats(run->arena, 64, 5);
    float *b = random_floats(run->arena, 64 * 48, 6), *y = arena_array(run->arena, float, 12 * 48);
    float *scale = arena_array(run->arena, float, 12);
    double *wanted = arena_array(run->arena, double, 12 * 48), wanted_scale[12];
    for (int i = 0; i < 12; i++) {
        double square = 0;
        for (int k = 0; k < 64; k++) square += (double)x[64 * i + k] * x[64 * i + k];
        wanted_scale[i] = 1 / sqrt(square / 64 + 0.00001);
        for (int j = 0; j < 48; j++) {
            double sum = 0;
            for (int k = 0; k < 64; k++) sum += (double)x[64 * i + k] * w[k] * b[48 * k + j];
            wanted[48 * i + j] = sum * wanted_scale[i];
        }
    }
    run_call(run, threads, (void *[]){x, w, b, y, scale}, NULL);
    check_all(scale, wanted_scale, 12, 1e-6);
    check_all(y, wanted, 12 * 48, 1e-5);
}

static float half(uint16_t bits) {  // a normal f16
    return ldexpf(1 + (float)(bits & 0x3ff) / 1024, (bits >> 10 & 31) - 15) * (bits >> 15 ? -1 : 1);
}

static void check_q4_1(const Run *run, int threads) {
    uint8_t *w = arena_alloc(run->arena, 960);
    float *x = random_floats(run->arena, 64, 7), *y = arena_array(run->arena, float, 24);
    double wanted[24] = {0};
    uint32_t seed = 8;
    for (int i = 0; i < 960; i++) w[i] = (uint8_t)(128 + random_float(&seed) * 128);
    for (int block = 0; block < 48; block++) {
        uint16_t scale[2] = {(uint16_t)(0x2c00 + 37 * block), (uint16_t)(0xb000 + 11 * block)};
        memcpy(w + 20 * block, scale, sizeof scale);
        for (int i = 0; i < 32; i++) {
            int code = w[20 * block + 4 + i % 16] >> (i / 16 * 4) & 15;
            wanted[block / 2] +=
                (double)(half(scale[0]) * (float)code + half(scale[1])) * x[block % 2 * 32 + i];
        }
    }
    run_call(run, threads, (void *[]){w, w, x, y}, NULL);
    check_all(y, wanted, 24, 1e-5);
}

// Behind the last key lie NaNs: reading them shows.
static void check_attention(const Run *run, int threads) {
    float *q = random_floats(run->arena, 24, 9), *out = arena_array(run->arena, float, 24);
    for (int64_t keys = 1; keys <= 64; keys += 9) {
        float *k = random_floats(run->arena, 1536, 10), *v = random_floats(run->arena, 1536, 11);
        double wanted[24];
        for (int64_t i = keys * 24; i < 1536; i++) k[i] = v[i] = NAN;
        for (int h = 0; h < 3; h++) {
            double sum = 0, o[8] = {0};
            for (int64_t t = 0; t < keys; t++) {
                double score = 0;
                for (int d = 0; d < 8; d++) score += (double)q[8 * h + d] * k[24 * t + 8 * h + d];
                sum += exp2(score);
                for (int d = 0; d < 8; d++) o[d] += exp2(score) * v[24 * t + 8 * h + d];
            }
            for (int d = 0; d < 8; d++) wanted[8 * h + d] = o[d] / sum;
        }
        run_call(run, threads, (void *[]){q, k, v, out}, &keys);
        check_all(out, wanted, 24, 1e-5);
    }
}

typedef void Check(const Run *run, int threads);

static void check_everywhere(const char *path, Check *check_one) {
    for (int i = 0; run_isas[i]; i++) {
        if (!run_isa(run_isas[i])) continue;
        Run run = run_read(path);
        for (int threads = 1; threads <= 2; threads++) check_one(&run, threads);
        run_free(&run);
    }
}

TEST(matmul) { check_everywhere("tests/kernels/matmul.kernel", check_matmul); }
TEST(rmsnorm_matmul) { check_everywhere("tests/kernels/rmsnorm_matmul.kernel", check_rmsnorm); }
TEST(q4_1_matvec) { check_everywhere("tests/kernels/q4_1_matvec.kernel", check_q4_1); }
TEST(attention) { check_everywhere("tests/kernels/attention.kernel", check_attention); }

TEST(many_kernels_in_one_file) {
    static const char *const names[] = {"matmul", "rmsnorm_matmul", "q4_1_matvec", "attention"};
    Arena *arena = arena_new();
    run_private_cache();
    cache_clear();
    CompileUnit unit[COUNT_OF(names)];
    int before = thread_count();
    unsetenv("PG_ISA");
    for (int i = 0; i < COUNT_OF(names); i++) {
        char *text =
            file_read(arena, arena_print(arena, "tests/kernels/%s.kernel", names[i]), NULL);
        CHECK(text != NULL);
        Run run = run_render(
            arena_print(arena, "kernel again_%s", strstr(text, "kernel ") + 7));  // not loaded yet
        unit[i] = (CompileUnit){.symbol = arena_text(arena, run.symbol),
                                .source = arena_text(arena, run.source)};
        run_free(&run);
    }
    thread_set_count(1);
    CHECK_INT(compile_units(unit, COUNT_OF(names)), 0);
    thread_set_count(before);
    for (int i = 0; i < COUNT_OF(names); i++) CHECK(unit[i].function && !unit[i].from_cache);
    arena_free(arena);
}

// ---- a table of sixteen ------------------------------------------------------------------------

// y = 2 to the (d times a 4-bit code), looked up: a permute of registers where the target has one.
static void check_lookup(int lanes) {
    Arena *arena = arena_new();
    Run run = run_compile(arena_print(
        arena,
        "kernel lookup\nin w u8[64]\nin d f32[4]\nout y f32[64]\nregister w_table f32[16]\n"
        "for g < 4 { for t0 < %d { vector for t1 < %d {\n"
        "w_table[%d*t0 + t1] = (exp2 (mul d[g] (cast:f32 @i32(%d*t0 + t1)))) } }\n"
        "for b0 < %d { vector for b1 < %d {\n"
        "let t in 0..15 = (cast:i32 (and w[16*g + %d*b0 + b1] 15:u8))\n"
        "y[16*g + %d*b0 + b1] = w_table[t] } } }",
        16 / lanes, lanes, lanes, lanes, 16 / lanes, lanes, lanes, lanes));
    CHECK(strstr(run.source, "lookup_f32x") != NULL);
    uint8_t w[64];
    float d[] = {0.5f, -0.25f, 1, 0}, y[64];
    for (int i = 0; i < 64; i++) w[i] = (uint8_t)(i * 37);
    run_call(&run, 1, (void *[]){w, d, y}, NULL);
    for (int i = 0; i < 64; i++) {
        double wanted = exp2((double)d[i / 16] * (w[i] & 15));
        CHECK_NEAR(y[i], wanted, 1e-5 * wanted);
    }
    run_free(&run);
    arena_free(arena);
}

TEST(a_table_is_looked_up) {
    for (int i = 0; run_isas[i]; i++)
        for (int lanes = 4; run_isa(run_isas[i]) && lanes <= 16; lanes *= 2) check_lookup(lanes);
    run_isa("ref");
}

// Iterations that threads take as they come: each runs once, also where few are left for many.
static void check_taken(int rows, int threads) {
    enum { LONG = 1 << 20 };
    Arena *arena = arena_new();
    Run run = run_compile(
        arena_print(arena,
                    "kernel taken\ninout n i32[%d]\ninout m i32[%d]\n"
                    "thread for i < %d { for j < %d { n[i] = (add n[i] 1:i32) } }\n"
                    "thread for k < %d { for l < %d { m[k] = (add m[k] n[%d - k]) } }\n",
                    rows, rows, rows, LONG, rows, LONG + 1, rows - 1));
    bool long_enough = (int64_t)rows * LONG >= 1 << 22;
    CHECK(!!strstr(run.source, "take_i64(barrier, 1, k_count") == long_enough);
    int32_t *n = arena_array(arena, int32_t, rows + 16),
            *m = arena_array(arena, int32_t, rows + 16);
    for (int call = 1; call <= 2; call++) {
        run_call(&run, threads, (void *[]){n, m}, NULL);
        for (int i = 0; i < rows; i++) CHECK_INT(n[i], call * LONG);
        for (int i = 0; i < rows; i++) CHECK_INT(m[i], (call == 1 ? 1 : 3) * LONG);  // mod 2^32
    }
    run_free(&run);
    arena_free(arena);
}

TEST(threads_take_iterations_as_they_come) {
    check_taken(3, 2);
    for (int threads = 1; threads <= 5; threads++) check_taken(4 + threads, threads);
    check_taken(64, 7);
}

// Aligned vectors go past the caches, others and tails do not; a barrier waits for them.
static void check_streamed(int lanes) {
    enum { ROWS = 3, LONG = 37 };
    Arena *arena = arena_new();
    int whole = LONG / lanes;
    Run run = run_compile(
        arena_print(arena,
                    "kernel stream\nin x f32[%d]\nout y f32[%d] streams\nout z f32[%d] streams\n"
                    "thread for i < %d { for j0 < %d { vector for j1 < %d {\n"
                    "y[64*i + %d*j0 + j1] = (mul x[%d*i + %d*j0 + j1] 2)\n"
                    "z[65*i + %d*j0 + j1] = (mul x[%d*i + %d*j0 + j1] 3) } }\n"
                    "for j2 < %d { y[64*i + j2 + %d] = x[%d*i + j2 + %d] } }\n",
                    ROWS * LONG, ROWS * 64, ROWS * 65, ROWS, whole, lanes, lanes, LONG, lanes,
                    lanes, LONG, lanes, LONG - whole * lanes, whole * lanes, LONG, whole * lanes));
    CHECK(strstr(run.source, arena_print(arena, "    stream_f32x%d(y + ", lanes)) != NULL);
    CHECK(strstr(run.source, arena_print(arena, "    stream_f32x%d(z + ", lanes)) == NULL);
    CHECK(strstr(run.source, "    streamed_f32();") != NULL);
    float *x = random_floats(arena, ROWS * LONG, 7);
    static _Alignas(64) float y[ROWS * 64 + 16], z[ROWS * 65 + 16];
    run_call(&run, 2, (void *[]){x, y, z}, NULL);
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < LONG; j++) {
            bool vector = j < whole * lanes;
            CHECK(y[64 * i + j] == (vector ? 2 : 1) * x[LONG * i + j]);
            if (vector) CHECK(z[65 * i + j] == 3 * x[LONG * i + j]);
        }
    run_free(&run);
    arena_free(arena);
}

TEST(results_are_streamed) {
    for (int i = 0; run_isas[i]; i++)
        for (int lanes = 4; run_isa(run_isas[i]) && lanes <= 16; lanes *= 2) check_streamed(lanes);
    run_isa("ref");
}

static int count_of(const char *text, const char *part) {
    int count = 0;
    for (const char *at = text; (at = strstr(at, part)); at++) count++;
    return count;
}

// Also at a barrier that stands before the store, in a loop's next pass behind it.
TEST(each_barrier_waits_for_what_was_streamed) {
    Run run = run_render("kernel passes\nin x f32[8]\nout y f32[32] streams\nshared p f32[8]\n"
                         "for r < 4 { thread for i < 8 { p[i] = (mul x[i] (cast:f32 @i32(r))) }\n"
                         "thread for j < 1 { vector for l < 8 { y[8*r + l] = p[7 - l] } } }");
    int waits = count_of(run.source, "args->wait(barrier, thread);");
    CHECK_INT(waits, 2);
    CHECK_INT(count_of(run.source, " streamed_f32();"), waits + 1);
    run_free(&run);
}
