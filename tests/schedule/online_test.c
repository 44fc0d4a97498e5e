/* online_test.c - which kernels become blocks of keys, and that they compute what they did: before,
 * after, and after each line of their schedule. */
#include "kernel_run.h"

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
    CHECK(online(blocks));
    accumulate(blocks);
    kernel_eval(blocks, got, &keys);
    run_compare(blocks, got, wanted, "online");
    CHECK(schedule_candidates(arena, blocks, &target, candidate) >= 3);
    CHECK(strstr(candidate[0], "THREAD") && strstr(candidate[0], "VECTORIZE"));
    run_schedule(arena, blocks, candidate[0], &keys);
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
    return online_fits(kernel_parse(arena, "online_test", text));
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
