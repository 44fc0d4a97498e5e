/* online_test.c - which kernels become blocks of keys, and that they compute what they did: before,
 * after, and after each line of their schedule. */
#include "kernel_run.h"

#include <math.h>

// A kernel of `rows` queries in each of 2 heads, `keys` keys, 8 elements; `score` is what is done
// to a product of a query and a key.
static char *attention(Arena *arena, int rows, const char *keys, const char *score,
                       const char *body) {
    Text text = text_new(arena);
    text_add(&text, "kernel attention\nvar keys 0..100\nout out f32[%d]\nin q f32[%d]\n", 16 * rows,
             16 * rows);
    text_add(&text, "in k f32[1600]\nin v f32[1600]\nfor h < 2 {\n for i < %d {\n  for d < 8 {\n",
             rows);
    const char *names[] = {"K", "L", "M"};
    const char *dot = "(reduce add e<8 (mul q[%d*h + 8*i + e] k[800*h + 8*%s + e]))";
    for (int n = 0; n < 3; n++) {
        const char *product = arena_print(arena, dot, 8 * rows, names[n]);
        text_add(&text, "   let s%s over %s<%s = (%s %s)\n", names[n], names[n], keys, score,
                 product);
    }
    text_add(&text, "   let m = (mul (reduce max M<%s sM) -1)\n", keys);
    text_add(&text, "   let p over K<%s = (exp2 (mul (add sK m) 1.5))\n", keys);
    text_add(&text, "   let l = (recip (reduce add L<%s (exp2 (mul (add sL m) 1.5))))\n", keys);
    text_add(&text, "   out[%d*h + 8*i + d] = %s\n  }\n }\n}\n", 8 * rows,
             arena_print(arena, body, keys));
    return text.at;
}

static const char *const divided_last = "(mul (reduce add K<%s (mul p v[800*h + 8*K + d])) l)";
static const char *const divided_first = "(reduce add K<%s (mul (mul p l) v[800*h + 8*K + d]))";

static void check_same(Arena *arena, const char *text, int64_t keys) {
    const char *candidate[CANDIDATES_MAX];
    ScheduleTarget target = {.unit = "avx2_fma", .lanes = 8, .tile_m = 6, .tile_n = 16};
    Kernel *plain = kernel_parse(arena, "online_test", text),
           *blocks = kernel_parse(arena, "online_test", text);
    void **wanted = run_memory(arena, plain), **got = run_memory(arena, plain);
    accumulate(plain);
    kernel_eval(plain, wanted, &keys);
    run_check_finite(plain, wanted);
    CHECK(online(blocks, false));
    accumulate(blocks);
    kernel_eval(blocks, got, &keys);
    run_compare(blocks, got, wanted, "online");
    CHECK(schedule_candidates(arena, blocks, &target, candidate) >= 3);
    CHECK(strstr(candidate[0], "THREAD") && strstr(candidate[0], "VECTORIZE"));
    run_schedule(arena, blocks, candidate[0], &keys);
}

// The tiles of a GPU, of which the last may be filled up.
static void check_tiles_same(Arena *arena, const char *text, int64_t keys) {
    Kernel *plain = kernel_parse(arena, "online_test", text),
           *tiles = kernel_parse(arena, "online_test", text);
    void **wanted = run_memory(arena, plain), **got = run_memory(arena, plain);
    accumulate(plain);
    kernel_eval(plain, wanted, &keys);
    CHECK(online(tiles, true));
    accumulate(tiles);
    kernel_verify(tiles);
    kernel_eval(tiles, got, &keys);
    run_compare(tiles, got, wanted, "online on a GPU");
}

TEST(online_on_a_gpu_keeps_what_is_computed) {
    static const int rows[] = {1, 8, 45};
    static const int64_t keys[] = {1, 64, 97};
    for (int r = 0; r < COUNT_OF(rows); r++)
        for (int k = 0; k < COUNT_OF(keys); k++) {
            Arena *arena = arena_new();
            const char *last = k % 2 ? divided_last : divided_first;
            check_tiles_same(arena, attention(arena, rows[r], "keys", "mul 0.25", last), keys[k]);
            arena_free(arena);
        }
}

// A mask that chooses powers chooses scores instead; other choices stay kernels of their own.
TEST(online_on_a_gpu_takes_masks_into_the_scores) {
    static const char *const masked =
        "(mul (reduce add K<%1$s (mul (where (cmplt 0 q[K + i]) p 0) v[800*h + 8*K + d])) (recip "
        "(reduce add L<%1$s (where (cmplt 0 q[%2$s + i]) (exp2 (mul (add sL m) 1.5)) 0))))";
    Arena *arena = arena_new();
    for (int same = 0; same < 2; same++) {
        const char *body = arena_print(arena, masked, "40", same ? "L" : "2*L");
        char *text = attention(arena, 40, "40", "mul 0.25", body);
        CHECK_INT(online_fits(kernel_parse(arena, "online_test", text), true), same);
        if (same) check_tiles_same(arena, text, 0);
    }
    arena_free(arena);
}

TEST(online_keeps_what_is_computed) {
    static const int rows[] = {1, 3, 8};
    static const int64_t keys[] = {1, 30, 66, 97};
    for (int r = 0; r < COUNT_OF(rows); r++)
        for (int k = 0; k < COUNT_OF(keys); k++) {
            Arena *arena = arena_new();
            const char *last = k % 2 ? divided_last : divided_first;
            check_same(arena, attention(arena, rows[r], "keys", "mul 0.25", last), keys[k]);
            arena_free(arena);
        }
    Arena *arena = arena_new();
    check_same(arena, attention(arena, 1, "70", "add 1", divided_last), 0);
    check_same(arena, attention(arena, 8, "100", "max -1", divided_last), 0);
    arena_free(arena);
}

static bool fits(Arena *arena, const char *score, const char *body) {
    char *text = attention(arena, 3, "keys", score, body);
    return online_fits(kernel_parse(arena, "online_test", text), false);
}

// What is no sum of multiples of the power stays as it is.
TEST(online_leaves_other_kernels) {
    Arena *arena = arena_new();
    CHECK(fits(arena, "mul 0.5", divided_last));
    CHECK(fits(arena, "mul 0.5", "(reduce add K<%s (where true:bool (mul p v[8*K + d]) 0))"));
    CHECK(!fits(arena, "mul 0.5", "(mul (reduce add K<%s (add p v[8*K + d])) l)"));
    CHECK(!fits(arena, "mul 0.5", "(mul (reduce add K<%s (mul (mul p p) v[8*K + d])) l)"));
    CHECK(!fits(arena, "mul 0.5", "(mul (reduce max K<%s (mul p v[8*K + d])) l)"));
    CHECK(!fits(arena, "mul 0.5", "(mul (reduce add K<%s (where true:bool p v[8*K + d])) l)"));
    CHECK(!fits(arena, "mul 0.5", "(add (reduce add J<7 v[8*J + d]) (reduce add K<%s p))"));
    CHECK(!fits(arena, "mul 0.5", "(reduce add K<%s p)"));
    arena_free(arena);
}

// ---- what a mask hides -------------------------------------------------------------------------

static const char *const causal = "(where (cmplt @i32(%s) @i32(i + keys - 127)) (mul (reduce add "
                                  "e<2 (mul q[256*h + 2*i + e] k[400*h + 2*%s + e])) 0.25) %s)";

// 128 queries, the last of keys 128..200, in each of 2 heads of 2 elements; powers of 2^scale.
static char *masked(Arena *arena, const char *score, const char *hidden, const char *scale) {
    Text text = text_new(arena);
    text_add(&text, "kernel masked\nvar keys 128..200\nout out f32[512]\nin q f32[512]\n"
                    "in k f32[800]\nin v f32[800]\nfor h < 2 {\n for i < 128 {\n  for d < 2 {\n");
    const char *names[] = {"K", "L", "M"};
    for (int n = 0; n < 3; n++)
        text_add(&text, "   let s%s over %s<keys = %s\n", names[n], names[n],
                 arena_print(arena, score, names[n], names[n], hidden));
    text_add(&text,
             "   let m = (mul (reduce max M<keys sM) -1)\n"
             "   let p over K<keys = (exp2 (mul (add sK m) %s))\n"
             "   let l = (recip (reduce add L<keys (exp2 (mul (add sL m) %s))))\n"
             "   out[256*h + 2*i + d] = (mul (reduce add K<keys (mul p v[400*h + 2*K + d])) "
             "l)\n  }\n }\n}\n",
             scale, scale);
    return text.at;
}

static Kernel *blocks_of(Arena *arena, const char *text) {
    Kernel *kernel = kernel_parse(arena, "online_test", text);
    CHECK(online(kernel, false));
    accumulate(kernel);
    kernel_verify(kernel);
    return kernel;
}

// How many blocks, and rests of one, a tile of queries goes through.
static int64_t blocks_run(Arena *arena, const Kernel *kernel, int64_t strip, int64_t keys) {
    Eval eval = {.kernel = kernel,
                 .arena = arena,
                 .var = &keys,
                 .at = arena_array(arena, int64_t, kernel->loops.count)};
    eval.at[kernel_find_loop(kernel, "strip")] = strip;
    return max_i64(0, eval_extent(&eval, kernel_find_loop(kernel, "block"))) +
           max_i64(0, eval_extent(&eval, kernel_find_loop(kernel, "rest")));
}

// The same bits as with all blocks, for which the limits are taken away.
TEST(online_skips_blocks_that_a_mask_hides) {
    static const int64_t keys[] = {128, 129, 190, 200}, run[][2] = {{1, 2}, {2, 3}, {2, 3}, {3, 4}};
    for (int n = 0; n < COUNT_OF(keys); n++) {
        Arena *arena = arena_new();
        char *text = masked(arena, causal, "-1e+30", "1.5");
        Kernel *some = blocks_of(arena, text), *all = blocks_of(arena, text);
        void **got = run_memory(arena, some), **wanted = run_memory(arena, some);
        all->loops.at[kernel_find_loop(all, "block")].limit = -1;
        all->loops.at[kernel_find_loop(all, "rest")].limit = -1;
        for (int64_t strip = 0; strip < 2; strip++) {
            CHECK_INT(blocks_run(arena, some, strip, keys[n]), run[n][strip]);
            CHECK_INT(blocks_run(arena, all, strip, keys[n]), (keys[n] + 63) / 64);
        }
        kernel_eval(some, got, &keys[n]);
        kernel_eval(all, wanted, &keys[n]);
        run_check_finite(some, got);
        CHECK(!memcmp(got[0], wanted[0], 512 * sizeof(float)));
        ((float *)got[3])[2 * (keys[n] - 1)] = NAN;  // what the last query alone sees
        kernel_eval(some, got, &keys[n]);
        CHECK(!memcmp(got[0], wanted[0], 128 * sizeof(float)) && isnan(((float *)got[0])[254]));
        arena_free(arena);
    }
}

static void check_tiles(Arena *arena, Kernel *kernel, int64_t keys) {
    const char *candidate[CANDIDATES_MAX];
    ScheduleTarget target = {.unit = "avx2_fma", .lanes = 8, .tile_m = 6, .tile_n = 16};
    schedule_candidates(arena, kernel, &target, candidate);
    CHECK(strstr(candidate[0], "TENSORCORE") && strstr(candidate[0], "FUSE h strip"));
    CHECK(strstr(candidate[0], "STAGE next at top_row0 over top_row1 in reg"));
    run_schedule(arena, kernel, candidate[0], &keys);
}

TEST(what_skips_blocks_takes_a_schedule) {
    Arena *arena = arena_new();
    check_tiles(arena, blocks_of(arena, masked(arena, causal, "-1e+30", "1.5")), 129);
    arena_free(arena);
}

static bool skips(Arena *arena, const char *score, const char *hidden, const char *scale) {
    const Kernel *kernel = blocks_of(arena, masked(arena, score, hidden, scale));
    return kernel->loops.at[kernel_find_loop(kernel, "block")].limit >= 0;
}

// A row that sees no key weighs the hidden ones; a score that is not low enough weighs something.
TEST(online_skips_only_what_has_no_effect) {
    Arena *arena = arena_new();
    const char *dot = "(reduce add e<2 (mul q[256*h + 2*i + e] k[400*h + 2*%s + e]))";
    CHECK(skips(arena, causal, "-1e+30", "0.01") && skips(arena, causal, "-inf", "1"));
    CHECK(!skips(arena, causal, "-1e+20", "1") && !skips(arena, causal, "-1e+30", "1e-30"));
    static const struct {
        const char *seen;
        bool skips;
    } masks[] = {
        {"(cmplt @i32(%s) @i32(i + 1))", true},
        {"(cmplt @i32(%s) @i32(i))", false},
        {"(cmplt @i32(%s) @i32(128 - i))", true},
        {"(cmplt @i32(%s) @i32(127 - i))", false},
        {"(cmplt @i32(2*%s) @i32(i + 1))", false},
        {"(cmplt @i32(i) @i32(%s + 1))", false},
        {"(and (cmplt @i32(i) @i32(%1$s + 9)) (cmplt @i32(%1$s) @i32(i + 1)))", true},
        {"(and (cmplt @i32(i) @i32(%1$s + 1)) (cmplt @i32(%1$s) @i32(i + 1)))", true},
        {"(and (cmplt @i32(i) @i32(%1$s)) (cmplt @i32(%1$s) @i32(i + 1)))", false},
        {"(and (cmplt @i32(%1$s) @i32(i + 1)) (cmpne @i32(%1$s) @i32(3)))", false},
        {"(and (cmplt @i32(%1$s) @i32(i + 1)) (cmplt 0 k[%1$s]))", false},
    };
    for (int i = 0; i < COUNT_OF(masks); i++) {
        const char *score = arena_print(arena, "(where %s %s %%3$s)", masks[i].seen, dot);
        for (char *at; (at = strstr(score, "%s"));)  // the key's name each time
            score = arena_print(arena, "%.*s%%1$s%s", (int)(at - score), score, at + 2);
        CHECK(skips(arena, score, "-1e+30", "1") == masks[i].skips);
    }
    arena_free(arena);
}
