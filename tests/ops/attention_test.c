/* attention_test.c - attention traced and compiled, beside the same call by call and beside plain
 * loops in double: lengths around blocks and tiles, masks that hide whole blocks, scores that are
 * huge, infinite or no numbers. */
#include "engine/compiled.h"
#include "tensor/values.h"

#include <math.h>
#include <stdlib.h>

typedef enum { ALL, CAUSAL, SOME, ADDED, NONE_OF_FIRST } Mask;
typedef struct {
    int64_t heads, key_heads, queries, keys, size;
    Mask mask;
    double scale;  // of queries and keys
} Case;

static const Case *now;  // the case that is traced

static float *numbers(int64_t count, double scale, uint32_t seed) {
    float *x = malloc(sizeof *x * (size_t)count);
    for (int64_t i = 0; i < count; i++) {
        seed = seed * 1664525 + 1013904223;
        x[i] = (float)(scale * ((double)(seed >> 8) / (1 << 24) - 0.5));
    }
    return x;
}

// SOME hides all keys of the first two thirds from odd queries, and every third one from all.
static bool is_seen(const Case *c, int64_t query, int64_t key) {
    if (c->mask == CAUSAL) return key <= query + c->keys - c->queries;
    if (c->mask == NONE_OF_FIRST) return query > 0;
    if (c->mask != SOME && c->mask != ADDED) return true;
    return key % 3 != 1 && (query % 2 == 0 || key >= 2 * c->keys / 3);
}

static PgTensor *mask_of(const Case *c) {
    if (c->mask == ALL || c->mask == CAUSAL) return NULL;
    int64_t count = c->queries * c->keys;
    float *added = malloc(sizeof *added * (size_t)count);
    for (int64_t i = 0; i < count; i++)
        added[i] = is_seen(c, i / c->keys, i % c->keys) ? 0 : -INFINITY;
    PgTensor *mask = pg_from_data(PG_F32, PG_SHAPE(c->queries, c->keys), added);
    free(added);
    return c->mask == ADDED ? mask : pg_eq(mask, pg_scalar(0));
}

static void attend(void *none, PgTensor **in, PgTensor **out) {
    (void)none;
    PgAttention how = {.mask = now->mask > CAUSAL ? in[3] : NULL,
                       .causal = now->mask == CAUSAL,
                       .offset = now->mask == CAUSAL ? now->keys - now->queries : 0};
    out[0] = pg_attention(in[0], in[1], in[2], how);
}

static double plain(const Case *c, const float *q, const float *k, const float *v, int64_t head,
                    int64_t query, int64_t d) {
    int64_t key_head = head / (c->heads / c->key_heads), D = c->size;
    double most = -(double)INFINITY, sum = 0, out = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t key = 0; key < c->keys; key++) {
            double score = 0;
            if (!is_seen(c, query, key)) continue;
            for (int64_t e = 0; e < D; e++)
                score += (double)q[(head * c->queries + query) * D + e] *
                         (double)k[(key_head * c->keys + key) * D + e];
            score /= sqrt((double)D);
            if (pass == 0) most = fmax(most, score);
            if (pass == 0) continue;
            sum += exp(score - most);
            out += exp(score - most) * (double)v[(key_head * c->keys + key) * D + d];
        }
    return sum > 0 ? out / sum : 0;
}

static float *run(const Case *c, PgTensor **in, PgMode mode) {
    PgMode before = pg_mode();
    PgFunction *function = pg_function(attend, NULL, 4, 1);
    PgTensor *out;
    size_t bytes = sizeof(float) * (size_t)(c->heads * c->queries * c->size);
    float *got = malloc(bytes);
    now = c;
    pg_set_mode(mode);
    CHECK_INT(pg_call(function, in, &out), 0);
    if (unit_is_gpu() && mode == PG_GRAPH && c->keys > 1) CHECK_INT(engine_kernels(), 1);
    pg_to_host(pg_contiguous(out), got, bytes);
    pg_set_mode(before);
    pg_function_free(function);
    return got;
}

static void check_case(const Case *c) {
    int64_t D = c->size, rows = c->heads * c->queries, key_rows = c->key_heads * c->keys;
    float *q = numbers(rows * D, c->scale, 1), *k = numbers(key_rows * D, c->scale, 2),
          *v = numbers(key_rows * D, 2, 3);
    pg_scope_begin();
    PgTensor *mask = mask_of(c);
    PgTensor *in[] = {pg_from_data(PG_F32, PG_SHAPE(c->heads, c->queries, D), q),
                      pg_from_data(PG_F32, PG_SHAPE(c->key_heads, c->keys, D), k),
                      pg_from_data(PG_F32, PG_SHAPE(c->key_heads, c->keys, D), v),
                      mask ? mask : pg_scalar(0)};
    float *traced = run(c, in, PG_GRAPH), *eager = run(c, in, PG_EAGER);
    for (int64_t i = 0; i < rows * D; i++) {
        double want = plain(c, q, k, v, i / (c->queries * D), i / D % c->queries, i % D);
        double room = 2e-6 * (1 + c->scale * c->scale);  // of what a score is rounded by
        CHECK_NEAR(traced[i], want, room);
        CHECK_NEAR(traced[i], (double)eager[i], room);
    }
    pg_scope_end();
    free(traced), free(eager), free(q), free(k), free(v);
}

TEST(attention_of_one_query) {
    static const int64_t keys[] = {1, 2, 7, 63, 64, 65, 130, 257};
    for (int i = 0; i < COUNT_OF(keys); i++) {
        check_case(&(Case){6, 2, 1, keys[i], 16, ALL, 2});
        check_case(&(Case){2, 2, 1, keys[i], 24, SOME, 2});
        check_case(&(Case){3, 1, 1, keys[i], 5, CAUSAL, 8});
    }
    check_case(&(Case){2, 1, 1, 300, 128, ADDED, 2});
}

TEST(attention_of_many_queries) {
    check_case(&(Case){4, 2, 64, 64, 16, CAUSAL, 2});
    check_case(&(Case){2, 1, 64, 200, 32, CAUSAL, 2});
    check_case(&(Case){6, 2, 192, 192, 16, CAUSAL, 2});
    check_case(&(Case){2, 1, 128, 300, 24, CAUSAL, 2});
    check_case(&(Case){2, 1, 128, 192, 64, SOME, 2});
    check_case(&(Case){2, 2, 64, 97, 16, ADDED, 2});
    check_case(&(Case){2, 1, 32, 5, 16, ALL, 2});
    check_case(&(Case){2, 1, 50, 131, 16, CAUSAL, 2});
    check_case(&(Case){2, 1, 8, 131, 16, CAUSAL, 2});
    check_case(&(Case){2, 1, 64, 192, 24, NONE_OF_FIRST, 2});
}

// Scores of +-1e4 and more: all but one power of a row vanish.
TEST(attention_of_extreme_scores) {
    check_case(&(Case){2, 1, 1, 150, 16, ALL, 200});
    check_case(&(Case){2, 1, 64, 150, 16, CAUSAL, 200});
    check_case(&(Case){2, 1, 128, 200, 16, CAUSAL, 200});
}

// What one score makes of its row, and of no other.
static void check_odd(float odd, int64_t queries, bool spoils) {
    Case c = {1, 1, queries, 140, 16, ALL, 2};
    float *q = numbers(queries * 16, 2, 1), *k = numbers(140 * 16, 2, 2),
          *v = numbers(140 * 16, 2, 3);
    for (int e = 0; e < 16; e++) k[100 * 16 + e] = 0;
    k[100 * 16] = odd;
    for (int64_t t = 0; t < queries; t++) q[16 * t] = t == 1 ? 0 : 1;
    q[0] = 1;
    pg_scope_begin();
    PgTensor *in[] = {pg_from_data(PG_F32, PG_SHAPE(1, queries, 16), q),
                      pg_from_data(PG_F32, PG_SHAPE(1, 140, 16), k),
                      pg_from_data(PG_F32, PG_SHAPE(1, 140, 16), v), pg_scalar(0)};
    float *traced = run(&c, in, PG_GRAPH), *eager = run(&c, in, PG_EAGER);
    CHECK(isnan(traced[0]) == spoils);
    for (int64_t i = 0; i < 16 * queries; i++) {
        CHECK(isnan(traced[i]) == isnan(eager[i]));
        if (!isnan(eager[i])) CHECK_NEAR(traced[i], (double)eager[i], 1e-5);
    }
    pg_scope_end();
    free(traced), free(eager), free(q), free(k), free(v);
}

TEST(attention_of_infinite_scores) {
    for (int64_t queries = 1; queries <= 64; queries += 63) {
        check_odd(NAN, queries, true);
        check_odd(INFINITY, queries, true);
        check_odd(-INFINITY, queries, false);
    }
}

// The number of keys is a VAR: compiled once.
static void grow(void *none, PgTensor **in, PgTensor **out) {
    (void)none;
    int64_t queries = pg_shape(in[0], 1), start = pg_var("start", 0, 255),
            end = pg_size_add(start, queries);
    out[0] = pg_attention(in[0], pg_slice(in[1], -2, 0, end, 1), pg_slice(in[2], -2, 0, end, 1),
                          (PgAttention){.causal = true, .offset = start});
}

static void check_growing(int64_t queries) {
    static const int64_t starts[] = {0, 1, 31, 32, 33, 63, 64, 127, 128, 191, 192, 255};
    enum { KEYS = 448, SIZE = 16 };
    float *q = numbers(2 * queries * SIZE, 2, 1), *all = numbers(KEYS * SIZE, 2, 2),
          *v = numbers(KEYS * SIZE, 2, 3),
          *got = malloc(sizeof(float) * (size_t)(2 * queries * SIZE));
    PgFunction *function = pg_function(grow, NULL, 3, 1);
    pg_scope_begin();
    PgTensor *in[] = {pg_from_data(PG_F32, PG_SHAPE(2, queries, SIZE), q),
                      pg_from_data(PG_F32, PG_SHAPE(1, KEYS, SIZE), all),
                      pg_from_data(PG_F32, PG_SHAPE(1, KEYS, SIZE), v)};
    for (int s = 0; s < COUNT_OF(starts); s++) {
        Case c = {2, 1, queries, starts[s] + queries, SIZE, CAUSAL, 2};
        PgTensor *out;
        pg_bind("start", starts[s]);
        CHECK_INT(pg_call(function, in, &out), 0);
        pg_to_host(pg_contiguous(out), got, sizeof(float) * (size_t)(2 * queries * SIZE));
        for (int64_t i = 0; i < 2 * queries * SIZE; i++)
            CHECK_NEAR(got[i],
                       plain(&c, q, all, v, i / (queries * SIZE), i / SIZE % queries, i % SIZE),
                       1e-5);
    }
    CHECK_INT(pg_function_traces(function), 1);
    pg_scope_end();
    pg_function_free(function);
    free(q), free(all), free(v), free(got);
}

TEST(attention_over_a_growing_cache) {
    check_growing(1);
    check_growing(8);
    check_growing(64);
    check_growing(192);
}
