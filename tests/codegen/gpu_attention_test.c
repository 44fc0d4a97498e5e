/* gpu_attention_test.c - attention as one kernel on a GPU: what simt makes of it against the kernel
 * as fusion left it, counts derived by hand, and nothing that NVRTC spills. */
#include "codegen/gpu_run.h"
#include "test.h"

#include <string.h>

typedef struct {
    int64_t heads, queries, keys, size;  // keys: at most, if their number is a VAR
    bool causal, var;                    // causal: the last of the keys are the queries'
} Case;

static Arena *all;

static const char *keys_of(const Case *c) {
    return c->var ? "keys" : arena_print(all, "%ld", (long)c->keys);
}

// Row-major without the axes of one: "320*h + 8*i + ".
static const char *row(const Case *c, bool of_keys) {
    int64_t rows = of_keys ? c->keys : c->queries;
    const char *head = c->heads > 1 ? arena_print(all, "%ld*h + ", (long)(rows * c->size)) : "";
    if (of_keys || c->queries == 1) return head;
    return arena_print(all, "%s%ld*i + ", head, (long)c->size);
}

// A query's product with key `name`, or what a mask leaves of it.
static const char *score(const Case *c, const char *name) {
    const char *sum = arena_print(all, "(mul (reduce add e<%ld (mul q[%se] k[%s%ld*%s + e])) 0.25)",
                                  (long)c->size, row(c, false), row(c, true), (long)c->size, name);
    return c->causal ? arena_print(all, "(where (cmplt @i32(%s) @i32(i + %s - %ld)) %s -1e+30)",
                                   name, keys_of(c), (long)c->queries - 1, sum)
                     : sum;
}

static char *text_of(const Case *c) {
    long rows = (long)(c->heads * c->queries * c->size),
         memory = (long)(c->heads * c->keys * c->size);
    const char *const loop[] = {"h", "i", "d"};
    const int64_t extent[] = {c->heads, c->queries, c->size};
    Text text = text_new(all);
    text_add(&text, "kernel k\n");
    if (c->var) text_add(&text, "var keys %ld..%ld\n", (long)c->queries, (long)c->keys);
    text_add(&text, "out out f32[%ld]\nin q f32[%ld]\nin k f32[%ld]\nin v f32[%ld]\n", rows, rows,
             memory, memory);
    for (int n = 0; n < COUNT_OF(loop); n++)  // fusion leaves no loop of one iteration
        if (extent[n] > 1) text_add(&text, "for %s < %ld {\n", loop[n], (long)extent[n]);
    for (const char *const *name = (const char *[]){"K", "L", "M", NULL}; *name; name++)
        text_add(&text, "let s%s over %s<%s = %s\n", *name, *name, keys_of(c), score(c, *name));
    text_add(&text, "let m = (mul (reduce max M<%s sM) -1)\n", keys_of(c));
    text_add(&text, "let l = (recip (reduce add L<%s (exp2 (add sL m))))\n", keys_of(c));
    text_add(&text, "out[%sd] = (mul (reduce add K<%s (mul (exp2 (add sK m)) v[%s%ld*K + d])) l)\n",
             row(c, false), keys_of(c), row(c, true), (long)c->size);
    for (int n = 0; n < COUNT_OF(loop); n++)
        if (extent[n] > 1) text_add(&text, "}\n");
    return text.at;
}

static Gpu attention(const Case *c, char **text) {
    ScheduleTarget target = {.gpu = gpu_target("h100")};
    if (!all) all = arena_new();
    *text = text_of(c);
    Gpu gpu = gpu_render(*text, gpu_first(all, *text, &target));
    CHECK_INT(gpu_spills(&gpu), 0);
    return gpu;
}

static int launches(const Gpu *gpu) {
    int count = 0;
    for (int32_t i = 0; i < gpu->program->steps.count; i++)
        count += gpu->program->steps.at[i].kind == STEP_LAUNCH;
    return count;
}

// Queries, once a tile, are turned without a gap: two elements of a row are in one bank.
static void check_conflicts(const Case *c, const Gpu *gpu) {
    int64_t conflicts = gpu->counts.wavefronts - gpu->counts.conflict_free;
    int64_t width = c->heads < 128    ? 32
                    : c->queries > 64 ? 128
                                      : 64,
            tiles = c->heads * ((c->queries + width - 1) / width);
    CHECK_INT(conflicts, c->queries < 8 ? 0 : tiles * width * c->size / 32);
}

static SimtCounts check_case(const Case *c, const int64_t *keys) {
    char *text;
    Gpu gpu = attention(c, &text);
    int64_t rows = c->heads * c->queries * c->size, memory = c->heads * c->keys * c->size;
    void *buffer[] = {NULL, random_floats(all, rows, 1), random_floats(all, memory, 2),
                      random_floats(all, memory, 3)};
    gpu_check(&gpu, text, buffer, rows, 2e-6, keys);
    CHECK_INT(launches(&gpu), c->queries < 8 ? 2 : 1);
    check_conflicts(c, &gpu);
    SimtCounts counts = gpu.counts;
    gpu_free(&gpu);
    return counts;
}

TEST(many_queries_are_tiles_of_one_kernel) {
    check_case(&(Case){2, 32, 64, 32, true, false}, NULL);
    check_case(&(Case){1, 40, 70, 16, true, false}, NULL);  // the last tile has 8 queries
    check_case(&(Case){1, 33, 33, 24, false, false}, NULL);
    check_case(&(Case){1, 8, 40, 128, false, false}, NULL);
}

TEST(the_number_of_keys_may_be_a_var) {
    for (const int64_t *keys = (const int64_t[]){32, 33, 64, 65, 100, 0}; *keys; keys++)
        check_case(&(Case){1, 32, 100, 8, true, true}, keys);
}

// 128 heads are enough for larger tiles.
TEST(tiles_grow_with_the_number_of_heads) {
    check_case(&(Case){128, 40, 20, 8, false, false}, NULL);
    check_case(&(Case){128, 72, 12, 8, false, false}, NULL);
}

// Of 64 queries and keys, the first 32 queries see half of the keys, but a block of keys is 64; of
// 128, the tiles of 32 see one, one, two and two blocks.
TEST(blocks_of_keys_that_no_query_sees_are_not_read) {
    SimtCounts some = check_case(&(Case){1, 128, 128, 8, true, false}, NULL),
               every = check_case(&(Case){1, 128, 128, 8, false, false}, NULL);
    enum { QUADS = 128 * 2, OF_BLOCK = 2 * 64 * 2 };  // of queries; of a block's keys and values
    CHECK_INT(every.loads, (QUADS + 4 * 2 * OF_BLOCK) / 32);
    CHECK_INT(some.loads, (QUADS + 6 * OF_BLOCK) / 32);
}

TEST(one_query_is_parts_of_keys_and_their_join) {
    check_case(&(Case){4, 1, 64, 128, false, false}, NULL);
    check_case(&(Case){3, 1, 70, 64, false, false}, NULL);
    check_case(&(Case){2, 3, 40, 20, false, false}, NULL);
    for (const int64_t *keys = (const int64_t[]){1, 31, 32, 33, 100, 0}; *keys; keys++)
        check_case(&(Case){2, 1, 100, 16, false, true}, keys);
}

// At the sizes of models, with tiles of 128 and of 64 queries.
TEST(attention_of_models_does_not_spill) {
    char *text;
    Gpu wide = attention(&(Case){32, 1024, 1024, 64, true, false}, &text),
        deep = attention(&(Case){32, 1024, 2048, 128, true, true}, &text),
        one = attention(&(Case){32, 1, 4096, 128, false, true}, &text);
    CHECK(gpu_has(&wide, "KERNEL(128)") && gpu_has(&deep, "KERNEL(64)"));
    CHECK(gpu_has(&one, "KERNEL(256)") && gpu_has(&one, "load_f32x4(k + "));
    CHECK_INT(program_block_bytes(wide.program), 99 << 10);  // what an RTX 4090 has
    gpu_free(&wide), gpu_free(&deep), gpu_free(&one);
}
