/* scalars_test.c - what programs for GPUs move: kernel text in, program text out. */
#include "codegen/codegen.h"
#include "test.h"

#include <string.h>

static void check_program(const char *text, const char *program) {
    Arena *arena = arena_new();
    Kernel *kernel = kernel_parse(arena, "test", text);
    kernel_verify(kernel);
    Program *lowered = lower(arena, kernel, &(LowerOptions){.gpu = true});
    program_verify(lowered);
    const char *printed = program_print(arena, lowered);
    CHECK_TEXT(strstr(printed, "launch"), program);
    arena_free(arena);
}

TEST(what_several_use_is_loaded_once) {
    check_program("kernel k\nin a f32[64]\nout c f32[256]\n"
                  "grid for i < 2 { thread for t < 32 { unroll for u < 2 {\n"
                  "c[128*i + 32*u + t] = (mul a[32*i + t] a[t]) } } }\n",
                  "launch i < 2 of 32 threads {\n"
                  "  threads for t < 32 {\n"
                  "    %2 = f32 load a[32*i + t]\n"
                  "    %3 = f32 load a[t]\n"
                  "    %4 = f32 mul %2 %3\n"
                  "    store c[128*i + t] %4\n"
                  "    %6 = f32 mul %2 %3\n"
                  "    store c[128*i + t + 32] %6\n"
                  "  }\n"
                  "}\n");
}

TEST(a_store_or_a_barrier_makes_a_load_anew) {
    check_program("kernel k\nin a f32[32]\ninout c f32[32]\n"
                  "grid for i < 1 { thread for t < 32 {\n"
                  "c[t] = (add a[t] c[t])\nc[t] = (mul a[t] c[t]) } }\n",
                  "launch i < 1 of 32 threads {\n"
                  "  threads for t < 32 {\n"
                  "    %2 = f32 load a[t]\n"
                  "    %3 = f32 load c[t]\n"
                  "    %4 = f32 add %2 %3\n"
                  "    store c[t] %4\n"
                  "    %6 = f32 load c[t]\n"
                  "    %7 = f32 mul %2 %6\n"
                  "    store c[t] %7\n"
                  "  }\n"
                  "}\n");
    check_program("kernel k\nin a f32[32]\nout c f32[32]\nshared s f32[32]\nregister p f32[1]\n"
                  "grid for i < 1 { thread for t < 32 { s[t] = a[t] }\n"
                  "p[0] = (mul s[0] a[0])\nbarrier\np[0] = (fma s[0] a[0] p[0])\n"
                  "thread for u < 32 { c[u] = p[0] } }\n",
                  "launch i < 1 of 32 threads {\n"
                  "  threads for t < 32 {\n"
                  "    %2 = f32 load a[t]\n"
                  "    store s[t] %2\n"
                  "  }\n"
                  "  threads barrier\n"
                  "  %6 = f32 load s[0]\n"
                  "  %7 = f32 load a[0]\n"
                  "  %8 = f32 mul %6 %7\n"
                  "  set p %8\n"
                  "  threads barrier\n"
                  "  %11 = f32 load s[0]\n"
                  "  %12 = f32 get p\n"
                  "  %13 = f32 fma %11 %7 %12\n"
                  "  set p %13\n"
                  "  threads for u < 32 {\n"
                  "    %16 = f32 get p\n"
                  "    store c[u] %16\n"
                  "  }\n"
                  "}\n");
}

TEST(a_loop_loads_its_own) {
    check_program("kernel k\nin a f32[32]\nout c f32[32]\nregister s f32[1]\n"
                  "grid for i < 1 { thread for t < 32 {\n"
                  "init s[0] = a[t]\nfor k < 4 { update s[0] = (add a[t] s[0]) }\n"
                  "finish c[t] = s[0] } }\n",
                  "launch i < 1 of 32 threads {\n"
                  "  threads for t < 32 {\n"
                  "    %2 = f32 load a[t]\n"
                  "    set s %2\n"
                  "    for k < 4 {\n"
                  "      %5 = f32 load a[t]\n"
                  "      %6 = f32 get s\n"
                  "      %7 = f32 add %5 %6\n"
                  "      set s %7\n"
                  "    }\n"
                  "    %10 = f32 get s\n"
                  "    store c[t] %10\n"
                  "  }\n"
                  "}\n");
}

TEST(a_vector_is_copied_whole) {
    check_program("kernel k\nin a f32[128]\nout c f32[128]\n"
                  "grid for i < 1 { thread for t < 32 { vector for v < 4 {\n"
                  "c[4*t + v] = a[4*t + v] } } }\n",
                  "launch i < 1 of 32 threads {\n"
                  "  threads for t < 32 {\n"
                  "    %2 = f32x4 load a[4*t]\n"
                  "    store c[4*t] %2\n"
                  "  }\n"
                  "}\n");
}
