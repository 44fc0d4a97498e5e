/* fuzz_lines.c - random lines of schedules, and the kernels to try them on: for fuzz_test.c, which
 * evaluates kernels, and for codegen/gpu_fuzz_test.c, which runs them on simt. */
#include "schedule/fuzz_lines.h"

// What transforms can get wrong: sums over odd sizes, state across iterations, overlapping reads,
// several accumulators, memory that is written and read, gathers, sizes known at run time.
const char *const fuzz_kernels[] = {
    "kernel matmul\nin a f32[63]\nin b f32[90]\nin bias f32[10]\nout c f32[70]\nregister s f32[1]\n"
    "for i < 7 { for j < 10 { init s[0] = 0\n"
    "for k < 9 { update s[0] = (fma a[9*i + k] b[10*k + j] s[0]) }\n"
    " finish c[10*i + j] = (add s[0] bias[j]) } }",

    "kernel softmax\nin x f32[60]\nout y f32[60]\nfor i < 5 { for j < 12 {\n"
    "let m = (reduce max k<12 x[12*i+k])\n"
    "let e = (reduce add l<12 (exp2 (add x[12*i+l] (mul m -1))))\n"
    "y[12*i+j] = (mul (exp2 (add x[12*i+j] (mul m -1))) (recip e)) } }",

    "kernel scan\nin x f32[24]\nout y f32[24]\nregister s f32[1]\n"
    "for i < 3 { init s[0] = 0 for k < 8 {"
    " update s[0] = (add s[0] x[8*i + k]) y[8*i + k] = s[0] } }",

    "kernel conv\nin x f32[40]\nin w f32[12]\nout y f32[32]\nregister s f32[1]\n"
    "for o < 4 { for i < 8 { init s[0] = 0 for c < 1 { for k < 3 { update s[0] = (fma w[3*o + k]"
    " x[i + k - 1 if (and (cmplt @i32(-1) @i32(i + k - 1)) (cmplt @i32(i + k - 1) @i32(8)))] s[0])"
    " } }"
    " finish y[8*o + i] = (max s[0] 0) } }",

    "kernel groups\nin q f32[48]\nin x f32[16]\nin d f32[6]\nin o f32[6]\nout y f32[3]\n"
    "register s f32[1]\nregister c f32[1]\nregister p f32[1]\n"
    "for r < 3 { init s[0] = 0 for g < 2 { init c[0] = 0 init p[0] = 0 for b < 8 {"
    " update c[0] = (fma q[16*r + 8*g + b] x[8*g + b] c[0]) update p[0] = (add x[8*g + b] p[0]) }"
    " update s[0] = (fma d[2*r + g] c[0] (fma o[2*r + g] p[0] s[0])) } finish y[r] = s[0] }",

    "kernel inplace\ninout x f32[32]\nin y f32[8]\nfor i < 4 { for j < 8 {"
    " x[8*i + j] = (mul x[8*i + j] y[j]) } }",

    "kernel shift\ninout x f32[33]\nfor i < 32 { x[i + 1] = (add x[i] x[i + 1]) }",

    "kernel pair\nin x f32[48]\nout y f32[48]\nout z f32[6]\nregister s f32[1]\nregister m f32[1]\n"
    "for i < 6 { init s[0] = 0 init m[0] = -inf for k < 8 {"
    " update s[0] = (fma x[8*i + k] x[8*i + k] s[0])"
    " update m[0] = (max m[0] x[8*i + k]) } finish z[i] = (sqrt s[0]) for j < 8 {"
    " finish y[8*i + j] = (fma x[8*i + j] m[0] z[i]) } }",

    "kernel gather\nvar n 1..6\nin ids i32[6]\nin w f32[64]\nout y f32[24]\nout t f32[4]\n"
    "for i < n { let r in 0..15 = (cast:i64 (and ids[i] 15:i32))\n"
    "for j < 4 { y[4*i + j] = w[4*r + j] } }\n"
    "for j2 < 4 { init t[j2] = 0 }\n"
    "for i2 < n { for j3 < 4 { update t[j3] = (add t[j3] y[4*i2 + j3]) } }",

    "kernel scatter\nin ids i32[8]\nin v f32[16]\nout y f32[8]\n"
    "for i < 4 { for j < 2 { init y[2*i + j] = 0 } }\n"
    "for n < 8 { for m < 2 { let r in 0..3 = (cast:i64 (and ids[n] 3:i32))"
    " update y[2*r + m] = (add y[2*r + m] v[2*n + m]) } }",

    // Digits of a loop, padding that is not stored, a copy of which two windows are read.
    "kernel digits\nin x f32[24]\nout y f32[48]\nout z f32[40]\nown p f32[10]\n"
    "for i < 12 { for j < 4 { y[4*(i%4) + j + 16*(i/4)] = (mul x[2*(i/2) + j] 2)"
    " when (cmplt @i32(j) @i32(3)) } }\n"
    "for n < 4 { for m < 10 { p[m] = x[2*n + m] }\n"
    "for l < 10 { z[10*n + l] = (add p[l/2] (mul p[l%5 + 5] x[n + l])) } }",

    // What a first loop computes and a second one computes again, perhaps of what has changed.
    "kernel again\ninout x f32[40]\nin w f32[8]\nout y f32[40]\nregister s f32[1]\n"
    "for i < 5 { init s[0] = 0\n"
    "for k < 8 { update s[0] = (add (exp2 (mul x[8*i + k] w[k])) s[0]) }\n"
    "for j < 8 { finish y[8*i + j] = (mul (exp2 (mul x[8*i + j] w[j])) s[0])"
    " when (cmplt @i32(j) @i32(7)) }\n"
    "for l < 8 { x[8*i + l] = (exp2 (mul x[8*i + l] w[l])) }\n"
    "for m < 8 { y[8*i + m] = (add y[8*i + m] (exp2 (mul x[8*i + m] w[m]))) } }",

    // Windows, two steps wide, of one image by two filters; rows that are padded.
    "kernel windows\nin x f32[30]\nin w f32[3]\nin v f32[2]\nout y f32[24]\n"
    "register s f32[1]\nregister t f32[1]\n"
    "for r < 2 { for i < 6 { init s[0] = 0 init t[0] = 0\n"
    "for k < 3 { update s[0] = (fma x[15*r + 2*i + k] w[k] s[0]) }\n"
    "for q < 2 { update t[0] = (fma x[15*r + i + 2*q] v[q] t[0]) }\n"
    "finish y[12*r + i] = s[0] finish y[12*r + i + 6] = (add t[0] s[0]) } }",

    "kernel codes\nin w u8[16]\nin d f32[2]\nin x f32[32]\nout y f32[1]\nregister s f32[1]\n"
    "init s[0] = 0\nfor g < 2 { for h < 2 { for b < 8 {"
    " let c = (and (shr w[8*g + b] (cast:u8 @i32(4*h))) 15:u8)"
    " update s[0] = (fma (mul (cast:f32 c) d[g]) x[16*g + 8*h + b] s[0]) } } }"
    " finish y[0] = s[0]",
    NULL};

uint64_t fuzz_state;

static int pick(int count) {
    fuzz_state = fuzz_state * 6364136223846793005u + 1442695040888963407u;
    return (int)((int64_t)(fuzz_state >> 40) % count);
}

static const char *pick_loop(const Kernel *kernel) {
    LoopSet there = kernel_loops_inside(kernel->body);
    for (;;) {
        int32_t loop = pick(kernel->loops.count);
        if (loop_set_has(&there, loop)) return kernel->loops.at[loop].name;
    }
}

static const char *pick_buffer(const Kernel *kernel) {
    return kernel->buffers.at[pick(kernel->buffers.count)].name;
}

// Two or three loops of one nest, in any order.
static const char *pick_order(Arena *arena, const Kernel *kernel) {
    Statement *at = kernel_loop_statement(kernel, kernel_find_loop(kernel, pick_loop(kernel)));
    const char *name[4];
    int count = 0;
    for (; at && at->kind == STATEMENT_LOOP && count < 4; at = at->body)
        name[count++] = kernel->loops.at[at->loop].name;
    Text text = text_new(arena);
    text_add(&text, "ORDER");
    while (count) {
        int i = pick(count);
        text_add(&text, " %s", name[i]);
        name[i] = name[--count];
    }
    return text.at;
}

const char *fuzz_line(Arena *arena, const Kernel *kernel) {
    static const char *const tails[] = {"guard", "peel", "pad"}, *const spaces[] = {"reg", "own",
                                                                                    "shared"};
    static const int factors[] = {2, 3, 4, 8};
    const char *a = pick_loop(kernel), *b = pick_loop(kernel), *c = pick_loop(kernel);
    const char *buffer = pick_buffer(kernel), *space = spaces[pick(3)];
    const char *place = pick(6) ? a : "top";
    switch (pick(16)) {
    case 0:
    case 1: return arena_print(arena, "SPLIT %s %d %s", a, factors[pick(4)], tails[pick(3)]);
    case 2: return pick_order(arena, kernel);
    case 3: return arena_print(arena, "FUSE %s %s", a, b);
    case 4: return arena_print(arena, "THREAD %s", a);
    case 5: return arena_print(arena, "VECTORIZE %s", a);
    case 6: return arena_print(arena, pick(2) ? "UNROLL %s" : "UNROLL %s 4", a);
    case 7:
    case 8: return arena_print(arena, "STAGE %s at %s in %s", buffer, place, space);
    case 9:
        if (!pick(3))  // sums of loops
            return arena_print(arena, "STAGE %s at %s over %s%s+%s%s%s in %s%s", buffer, place,
                               pick(3) ? "" : "2*", b, c, pick(2) ? " " : "", pick(2) ? a : "",
                               space, pick(3) ? "" : " convert");
        return arena_print(arena, "STAGE %s at %s over %s%s%s in %s%s", buffer, place,
                           pick(4) ? b : "", pick(2) ? " " : "", pick(2) ? c : "", space,
                           pick(3) ? "" : " convert");
    case 10: return arena_print(arena, "SPILL %s", buffer);
    case 11: return arena_print(arena, "RFACTOR %s%s", a, pick(4) ? "" : " in shared");
    case 13: return arena_print(arena, "REUSE %s %s in %s", a, b, space);
    case 12: return arena_print(arena, "TABULATE %s at %s", buffer, place);
    case 14: return arena_print(arena, "STREAM %s", buffer);
    default: return arena_print(arena, "DISTRIBUTE %s", a);
    }
}

// Several loops, one of each nest that there is at the top of the block.
static const char *pick_threads(Arena *arena, const Kernel *kernel) {
    Text text = text_new(arena);
    text_add(&text, "THREAD");
    for (int i = 0, count = 1 + pick(3); i < count; i++) text_add(&text, " %s", pick_loop(kernel));
    return text.at;
}

// A loop around the copies to a buffer that a block's threads share.
static const char *pick_copying(const Kernel *kernel) {
    for (int32_t buffer = kernel->buffers.count - 1; buffer >= 0; buffer--) {
        if (kernel->buffers.at[buffer].space != SPACE_SHARED) continue;
        AccessList all = kernel_accesses(graph_arena(kernel->graph), kernel, kernel->body, buffer);
        const Statement *at = all.count ? all.at[0].statement : NULL;
        for (int i = pick(3) + 2; i > 0 && at; i--) at = kernel_parent(kernel, at);
        if (at) return kernel->loops.at[at->loop].name;
    }
    return pick_loop(kernel);
}

// Loops are cut, ordered and staged first; then they are shared out.
const char *fuzz_gpu_line(Arena *arena, const Kernel *kernel) {
    const char *a = pick_loop(kernel), *b = pick_loop(kernel), *c = pick_loop(kernel);
    const Statement *first = kernel->body;
    bool blocks = kernel_has_blocks(kernel);
    if (!blocks && !pick(6) && first->kind == STATEMENT_LOOP)
        return arena_print(arena, "BLOCK %s", kernel->loops.at[first->loop].name);
    switch (pick(blocks ? 16 : 9)) {
    case 0:
        return arena_print(arena, "FUSE %s %s%s%s as f%d", a, b, pick(2) ? " " : "",
                           pick(2) ? c : "", pick(100));
    case 1:
    case 2:
        return arena_print(arena, "STAGE %s at %s over %s %s as %s +%d %s in shared",
                           pick_buffer(kernel), a, b, c, pick(2) ? c : b, 1 + pick(4),
                           pick(2) ? b : c);
    case 3:
    case 4:
        return arena_print(arena, "STAGE %s at %s over %s in %s", pick_buffer(kernel), a, b,
                           pick(3) ? "shared" : "reg");
    case 5: return arena_print(arena, "STAGE %s at %s in reg", pick_buffer(kernel), a);
    case 6: return arena_print(arena, "SPLIT %s %d %s", a, 2 + pick(3), pick(2) ? "pad" : "guard");
    case 7: return pick_order(arena, kernel);
    case 8: return pick(4) ? fuzz_line(arena, kernel) : "BLOCK top";
    case 9:
    case 10: return arena_print(arena, "PIPELINE %s %d", pick_copying(kernel), 2 + pick(2));
    case 11: return arena_print(arena, "WARP %s", a);
    case 12: return pick_threads(arena, kernel);
    case 13: return fuzz_line(arena, kernel);
    default: return arena_print(arena, "THREAD %s", a);
    }
}
