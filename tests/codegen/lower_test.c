/* lower_test.c - kernel text in, program text out; and programs that must not pass. */
#include "codegen/run.h"
#include "test.h"

#include <math.h>
#include <string.h>

static void check_program(const char *kernel, const char *program) {
    Run run = run_render(kernel);
    const char *text = program_print(run.arena, run.program);
    CHECK_TEXT(strchr(text, '\n') + 1, program);
    run_free(&run);
}

TEST(a_kernel_without_thread_loops_is_thread_0s) {
    check_program("kernel k\nin a f32[8]\nout c f32[8]\nfor i < 8 { c[i] = (add a[i] 1) }\n",
                  "in a f32[8]\nout c f32[8]\n"
                  "once {\n  for i < 8 {\n    %2 = f32 load a[i]\n    %3 = f32 const 1\n"
                  "    %4 = f32 add %2 %3\n"
                  "    store c[i] %4\n  }\n}\n");
}

TEST(a_vector_loop_leaves_vectors) {
    check_program(
        "kernel k\nin a f32[32]\nout c f32[32]\nregister s f32[8]\n"
        "thread for i < 4 { vector for v < 8 { s[v] = (mul a[8*i + v] 2) }\n"
        "  vector for w < 8 { c[8*i + w] = s[w] } }\n",
        "in a f32[32]\nout c f32[32]\nvariable s f32x8\n"
        "share for i < 4 {\n  %1 = f32x8 load a[8*i + lane]\n  %2 = f32 const 2\n"
        "  %3 = f32x8 vec %2\n"
        "  %4 = f32x8 mul %1 %3\n  set s %4\n  %6 = f32x8 get s\n  store c[8*i + lane] %6\n}\n");
}

TEST(lanes_fold_by_halves) {
    check_program(
        "kernel k\nin a f32[4]\nout c f32[2]\nregister s f32[1]\n"
        "thread for i < 2 { init s[0] = 0\n vector for v < 4 { update s[0] = (add s[0] a[v]) }\n"
        "finish c[i] = s[0] }\n",
        "in a f32[4]\nout c f32[2]\nvariable s f32\n"
        "share for i < 2 {\n  %1 = f32 const 0\n  set s %1\n  %3 = f32x4 load a[lane]\n"
        "  %4 = f32x4 perm %3 2\n  %5 = f32x4 add %3 %4\n  %6 = f32x4 perm %5 1\n"
        "  %7 = f32x4 add %5 %6\n"
        "  %8 = f32 lane %7 0\n  %9 = f32 get s\n  %10 = f32 add %9 %8\n  set s %10\n"
        "  %12 = f32 get s\n  store c[i] %12\n}\n");
}

TEST(unrolling_promotes_to_variables) {
    check_program(
        "kernel k\nin a f32[3]\nout c f32[4]\nregister s f32[2]\n"
        "thread for i < 2 { unroll for u < 2 { s[1 - u] = a[i + u] }\n"
        "unroll for w < 2 { c[2*i + w] = s[w] } }\n",
        "in a f32[3]\nout c f32[4]\nvariable s_0 f32\nvariable s_1 f32\n"
        "share for i < 2 {\n  %1 = f32 load a[i]\n  set s_1 %1\n  %3 = f32 load a[i + 1]\n"
        "  set s_0 %3\n"
        "  %5 = f32 get s_0\n  store c[2*i] %5\n  %7 = f32 get s_1\n  store c[2*i + 1] %7\n}\n");
}

TEST(narrow_types_compute_in_wide_ones) {
    check_program(
        "kernel k\nin a u8[4]\nin h f16[4]\nout c u8[4]\nout g f16[4]\n"
        "thread for i < 4 { c[i] = (add a[i] a[i])\n g[i] = h[i] }\n",
        "in a u8[4]\nin h f16[4]\nout c u8[4]\nout g f16[4]\n"
        "share for i < 4 {\n  %1 = u8 load a[i]\n  %2 = i32 cast %1\n  %3 = i32 add %2 %2\n"
        "  %4 = i32 const 255\n  %5 = i32 and %3 %4\n  %6 = u8 cast %5\n  store c[i] %6\n"
        "  %8 = f16 load h[i]\n  store g[i] %8\n}\n");
}

// Two codes a byte, four bytes a word: the word is loaded, and what would shift a code down goes
// into the factor; halves of a word keep the masks few.
TEST(bytes_four_apart_are_words) {
    check_program(
        "kernel k\nin x f32[2]\nin w u8[32]\nout c f32[8]\nthread for i < 1 { vector for v < 8 {\n"
        "c[v] = (mul x[0] (cast:f32 (and (shr w[4*v + 3] 4:u8) 15:u8))) } }\n",
        "in x f32[2]\nin w u8[32]\nout c f32[8]\nshare for i < 1 {\n  %1 = f32 load x[0]\n"
        "  %2 = i32x8 load w[4*lane]\n  %21 = i32 const 16\n  %22 = i32x8 vec %21\n"
        "  %23 = i32x8 shr %2 %22\n  %24 = i32 const 61440\n  %25 = i32x8 vec %24\n"
        "  %26 = i32x8 and %23 %25\n  %27 = f32x8 vec %1\n  %28 = f32 const 0.000244140625\n"
        "  %29 = f32x8 vec %28\n  %30 = f32x8 mul %27 %29\n  %31 = f32x8 cast %26\n"
        "  %32 = f32x8 mul %30 %31\n  store c[lane] %32\n}\n");
}

// The same numbers as one by one, whatever the codes.
TEST(words_give_the_same_numbers) {
    enum { ROWS = 8, BYTES = 4, SETS = 64 };
    Run run =
        run_compile("kernel k\nin x f32[8]\nin w u8[2048]\nout c f32[512]\nregister s f32[8]\n"
                    "thread for i < 64 { vector for r < 8 { s[r] = 0 }\n"
                    "unroll for b < 4 { unroll for h < 2 { vector for v < 8 {\n"
                    "update s[v] = (fma x[2*b + h] (cast:f32 (and (shr w[32*i + 4*v + b]\n"
                    "(mul (cast:u8 @i32(h)) 4:u8)) 15:u8)) s[v]) } } }\n"
                    "vector for o < 8 { c[8*i + o] = s[o] } }\n");
    float x[2 * BYTES], got[ROWS * SETS];
    uint8_t w[ROWS * BYTES * SETS];
    for (int i = 0; i < COUNT_OF(x); i++) x[i] = (float)(i * i - 11) / 7.0f;
    for (int i = 0; i < COUNT_OF(w); i++) w[i] = (uint8_t)(i * 37 + i / 256);
    CHECK(strstr(run.source, "load_i32x8(w") && !strstr(run.source, "load_u8"));
    CHECK(!strstr(run.source, "vec_i32x8(255)"));
    run_call(&run, 1, (void *[]){x, w, got}, NULL);
    for (int i = 0; i < COUNT_OF(got); i++) {
        float wanted = 0;
        for (int b = 0; b < BYTES; b++)
            for (int h = 0; h < 2; h++)
                wanted = fmaf(x[2 * b + h], (float)(w[BYTES * i + b] >> 4 * h & 15), wanted);
        CHECK(got[i] == wanted);
    }
    run_free(&run);
}

// A shift by more than a word's bits is one by the rest; a mask of the sign's copies keeps them.
TEST(odd_shifts_are_what_they_say) {
    Run run =
        run_compile("kernel k\nin x f32[1]\nin a i32[8]\nout b i32[8]\nout c f32[8]\nout d f32[8]\n"
                    "thread for i < 1 { vector for v < 8 {\n"
                    "b[v] = (and (shr (shr a[v] 35:i32) -30:i32) 1023:i32)\n"
                    "c[v] = (mul x[0] (cast:f32 (and (shr a[v] 37:i32) 255:i32)))\n"
                    "d[v] = (mul x[0] (cast:f32 (and (shr a[v] 28:i32) 4095:i32))) } }\n");
    int32_t a[8], b[8];
    float x = 3, c[8], d[8];
    for (int i = 0; i < 8; i++) a[i] = (int32_t)(0x9e3779b9u * (uint32_t)(i + 1));
    run_call(&run, 1, (void *[]){&x, a, b, c, d}, NULL);
    for (int i = 0; i < 8; i++) {
        CHECK_INT(b[i], a[i] >> 3 >> 2 & 1023);
        CHECK(c[i] == 3 * (float)(a[i] >> 5 & 255));
        CHECK(d[i] == 3 * (float)(a[i] >> 28 & 4095));
    }
    run_free(&run);
}

TEST(threads_meet_between_a_write_and_a_read) {
    check_program("kernel k\nin a f32[8]\nout c f32[8]\nshared p f32[8]\n"
                  "thread for i < 8 { p[i] = a[i] }\nthread for j < 8 { c[j] = p[7 - j] }\n",
                  "in a f32[8]\nout c f32[8] unrestricted\nshared p f32[8] at 0 unrestricted\n"
                  "share for i < 8 {\n  %1 = f32 load a[i]\n  store p[i] %1\n}\nbarrier\n"
                  "share for j < 8 {\n  %6 = f32 load p[7 - j]\n  store c[j] %6\n}\n");
}

TEST(threads_do_not_meet_for_nothing) {  // other buffers; own memory; what all threads only read
    check_program(
        "kernel k\nin a f32[8]\nout c f32[8]\nout d f32[8]\nout e f32[1]\nregister r f32[1]\n"
        "thread for i < 8 { c[i] = a[i] }\nr[0] = a[0]\nthread for j < 8 { d[j] = r[0] }\n"
        "e[0] = r[0]\n",
        "in a f32[8]\nout c f32[8]\nout d f32[8]\nout e f32[1]\nvariable r f32\n"
        "share for i < 8 {\n  %1 = f32 load a[i]\n  store c[i] %1\n}\n%4 = f32 load a[0]\n"
        "set r %4\n"
        "share for j < 8 {\n  %7 = f32 get r\n  store d[j] %7\n}\nonce {\n  %11 = f32 get r\n"
        "  store e[0] %11\n}\n");
}

TEST(threads_meet_once_before_a_loop) {
    check_program("kernel k\nin a f32[8]\nout c f32[1]\nshared p f32[8]\nregister s f32[1]\n"
                  "thread for i < 8 { p[i] = a[i] }\ninit s[0] = 0\n"
                  "for j < 8 { update s[0] = (add s[0] p[j]) }\n"
                  "finish c[0] = s[0]\n",
                  "in a f32[8]\nout c f32[1] unrestricted\nshared p f32[8] at 0 unrestricted\n"
                  "variable s f32\n"
                  "share for i < 8 {\n  %1 = f32 load a[i]\n  store p[i] %1\n}\n%4 = f32 const 0\n"
                  "set s %4\nbarrier\n"
                  "for j < 8 {\n  %8 = f32 get s\n  %9 = f32 load p[j]\n  %10 = f32 add %8 %9\n"
                  "  set s %10\n}\n"
                  "once {\n  %14 = f32 get s\n  store c[0] %14\n}\n");
}

TEST(gathers_name_the_lane_and_the_value) {
    check_program("kernel k\nin ids i32[8]\nin t f32[40]\nout c f32[8]\n"
                  "thread for i < 2 { vector for v < 4 { let u in 0..9 = (cast:i64 ids[4*i + v])\n"
                  "  c[4*i + v] = t[4*u + 1] } }\n",
                  "in ids i32[8]\nin t f32[40]\nout c f32[8]\n"
                  "share for i < 2 {\n  %1 = i32x4 load ids[4*i + lane]\n  %2 = i64x4 cast %1\n"
                  "  %3 = f32x4 load t[4*%2 + 1]\n  store c[4*i + lane] %3\n}\n");
}

TEST(what_is_left_of_earlier_stages_is_refused) {
    Arena *arena = arena_new();
    const char *head = "kernel k\nin a f32[8]\nout c f32[8]\nfor i < 8 { c[i] = ";
    Kernel *exp2 = kernel_parse(arena, "k", arena_print(arena, "%s(exp2 a[i]) }", head));
    Kernel *reduce =
        kernel_parse(arena, "k", arena_print(arena, "%s(reduce add k<8 a[k]) }", head));
    CHECK_FATAL_TEXT(lower(arena, exp2, &(LowerOptions){0}), "expand it");
    CHECK_FATAL_TEXT(lower(arena, reduce, &(LowerOptions){0}), "reduce");
    arena_free(arena);
}

TEST(aliased_params_are_not_restrict) {
    Arena *arena = arena_new();
    Kernel *kernel = kernel_parse(arena, "k",
                                  "kernel k\nin a f32[8]\nout c f32[8]\nin b f32[8]\n"
                                  "for i < 8 { c[i] = (add a[i] b[i]) }\n");
    bool aliased[] = {true, true, false};
    Program *program = lower(arena, kernel, &(LowerOptions){.aliased = aliased});
    char symbol[SYMBOL_SIZE], *source = render_c(arena, program, NULL, symbol);
    CHECK(strstr(source, "const f32_at *a, f32_at *c, const f32_at *restrict b"));
    arena_free(arena);
}

TEST(c_names_are_c_names) {
    Run run = run_compile(
        "kernel int\nvar while 0..8\nin double f32[8]\nout pack.b f32[8]\nout pack_b f32[8]\n"
        "for fma_f32 < while { pack.b[fma_f32] = double[fma_f32]\npack_b[fma_f32] = 0 }\n");
    float in[8] = {1, 2, 3}, out[8] = {0}, zero[8];
    run_call(&run, 1, (void *[]){in, out, zero}, &(int64_t){3});
    CHECK(out[2] == 3 && out[3] == 0);
    run_free(&run);
}

TEST(the_symbol_is_the_contents) {
    const char *text = "kernel k\nin a f32[8]\nout c f32[8]\nfor i < 8 { c[i] = (add a[i] %d) }\n";
    Arena *arena = arena_new();
    Run one = run_render(arena_print(arena, text, 1)),
        same = run_render(arena_print(arena, text, 1));
    Run other = run_render(arena_print(arena, text, 2));
    CHECK_TEXT(one.symbol, same.symbol);
    CHECK(strcmp(one.symbol, other.symbol) && strstr(one.source, one.symbol));
    run_free(&one);
    run_free(&same);
    run_free(&other);
    arena_free(arena);
}

// ---- the verifier ------------------------------------------------------------------------------

static Program *program_of(Arena *arena) {
    Kernel *kernel = kernel_parse(
        arena, "k", "kernel k\nin a f32[8]\nout c f32[8]\nthread for i < 8 { c[i] = a[i] }\n");
    return lower(arena, kernel, &(LowerOptions){0});  // 0: share for, 1: load, 2: store, 3: end
}

static void spoil(Arena *arena, int step, Step with, const char *message) {
    Program *program = program_of(arena);
    program_verify(program);
    program->steps.at[step] = with;
    CHECK_FATAL_TEXT(program_verify(program), message);
}

TEST(programs_are_verified) {
    Arena *arena = arena_new();
    const Step *good = program_of(arena)->steps.at;
    Step step = good[1];
    step.type.lanes = 3;
    spoil(arena, 1, step, "power of two");
    step = good[1];
    step.type.dtype = DT_I32;
    spoil(arena, 1, step, "another dtype");
    step = good[1];
    step.of = 7;
    spoil(arena, 1, step, "no such buffer");
    step = good[2];
    step.source[0] = 2;
    spoil(arena, 2, step, "not there");
    step = good[2];
    step.condition = 1;
    spoil(arena, 2, step, "not bool");
    spoil(arena, 3, (Step){.kind = STEP_BARRIER}, "is not ended");
    spoil(arena, 0, (Step){.kind = STEP_END}, "ends nothing");
    spoil(arena, 3, (Step){.kind = STEP_SET, .source = {1, -1, -1}}, "no such variable");
    arena_free(arena);
}
