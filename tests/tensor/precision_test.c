/* precision_test.c - tf32 on tiles of bf16: against fp64, no worse than factors of 11 significant
 * bits; what is out of range is computed as in fp32, bit for bit. On a CPU with AMX by AMX, on
 * every other by its sums in plain C. */
#include "engine/engine.h"
#include "runtime/runtime.h"
#include "values.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int m, n, k;
    float *a, *b, *c;
} Product;

static Product product_new(int m, int n, int k) {
    return (Product){m,
                     n,
                     k,
                     malloc(sizeof(float) * (size_t)(m * k)),
                     malloc(sizeof(float) * (size_t)(k * n)),
                     malloc(sizeof(float) * (size_t)(m * n))};
}

static void product_free(const Product *p) { free(p->a), free(p->b), free(p->c); }

static float next(uint32_t *seed) {  // 24 bits in [-1, 1)
    *seed = *seed * 1664525 + 1013904223;
    return (float)((int32_t)*seed >> 8) / (1 << 23);
}

// Magnitudes of `spread` powers of two around 1.
static void product_fill(const Product *p, int spread, uint32_t seed) {
    for (int i = 0; i < p->m * p->k; i++) {
        int power = spread ? (int)(seed >> 8) % spread - spread / 2 : 0;
        p->a[i] = ldexpf(next(&seed), power);
    }
    for (int i = 0; i < p->k * p->n; i++) {
        int power = spread ? (int)(seed >> 8) % spread - spread / 2 : 0;
        p->b[i] = ldexpf(next(&seed), power);
    }
}

static void matmul(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = pg_matmul(in[0], in[1]);
}

static void product_run(const Product *p, bool tf32) {
    engine_set_tf32(tf32);
    pg_scope_begin();
    pg_set_mode(PG_GRAPH);
    PgFunction *function = pg_function(matmul, NULL, 2, 1);
    PgTensor *in[] = {pg_from_data(PG_F32, PG_SHAPE(p->m, p->k), p->a),
                      pg_from_data(PG_F32, PG_SHAPE(p->k, p->n), p->b)},
             *out;
    CHECK_INT(pg_call(function, in, &out), 0);
    pg_to_host(out, p->c, sizeof *p->c * (size_t)(p->m * p->n));
    pg_function_free(function);
    pg_scope_end();
    engine_set_tf32(false);
}

static float rounded(float x) {  // to 11 significant bits, to nearest even
    uint32_t bits;
    memcpy(&bits, &x, sizeof x);
    if (isfinite(x)) bits = (bits + 0xfff + (bits >> 13 & 1)) & ~(uint32_t)0x1fff;
    memcpy(&x, &bits, sizeof x);
    return x;
}

// The largest |C - C64| / (|A||B|): of c, and of true tf32.
static void product_errors(const Product *p, double *mine, double *true_tf32) {
    *mine = *true_tf32 = 0;
    for (int i = 0; i < p->m; i++)
        for (int j = 0; j < p->n; j++) {
            double sum = 0, size = 0;
            float tf32 = 0;
            for (int k = 0; k < p->k; k++) {
                float a = p->a[p->k * i + k], b = p->b[p->n * k + j];
                sum += (double)a * b;
                size += fabs((double)a * b);
                tf32 = fmaf(rounded(a), rounded(b), tf32);
            }
            if (size == 0) {
                CHECK(p->c[p->n * i + j] == 0);
                continue;
            }
            *mine = fmax(*mine, fabs(p->c[p->n * i + j] - sum) / size);
            *true_tf32 = fmax(*true_tf32, fabs(tf32 - sum) / size);
        }
}

static void check_error(const Product *p, double most) {
    double mine, true_tf32;
    product_run(p, true);
    product_errors(p, &mine, &true_tf32);
    if (getenv("PG_SHOW"))
        printf("%d %d %d: %.3g, true tf32 %.3g\n", p->m, p->n, p->k, mine, true_tf32);
    CHECK(mine <= true_tf32);
    CHECK(mine <= most);
}

typedef void Body(void);

static void ask_target(void *found) { *(const Target **)found = target(); }

static void everywhere(Body *body) {
    static const char *const isas[] = {"amx-c", "avx512"};
    for (int i = 0; i < COUNT_OF(isas); i++) {
        const Target *found;
        setenv("PG_ISA", isas[i], 1);
        if (try_call(ask_target, &found) == 0 && found->amx) body();
    }
}

// ---- in range ----------------------------------------------------------------------------------

static void check_random(void) {
    static const int sizes[][3] = {
        {64, 32, 32}, {65, 33, 33}, {95, 47, 63}, {100, 64, 520}, {130, 70, 1100}};
    for (int i = 0; i < COUNT_OF(sizes); i++) {
        Product p = product_new(sizes[i][0], sizes[i][1], sizes[i][2]);
        product_fill(&p, 0, 1);
        check_error(&p, 1e-5);
        product_fill(&p, 40, 2);
        check_error(&p, 1e-4);
        product_free(&p);
    }
}

TEST(random_products_of_every_remainder) { everywhere(check_random); }

// The terms of a sum in pairs that cancel but for their last bits.
static void check_cancelling(void) {
    Product p = product_new(64, 64, 64);
    product_fill(&p, 20, 3);
    for (int i = 0; i < 64 * 64; i += 2) p.a[i + 1] = -p.a[i] * (1 + 0x1p-20f);
    for (int k = 0; k < 64; k += 2) memcpy(p.b + 64 * (k + 1), p.b + 64 * k, 64 * sizeof *p.b);
    check_error(&p, 1e-4);
    product_free(&p);
}

TEST(sums_that_cancel) { everywhere(check_cancelling); }

static void check_few_bits(void) {  // two factors of 12 bits: nothing is dropped but lo * lo
    Product p = product_new(64, 32, 32);
    product_fill(&p, 0, 4);
    for (int i = 0; i < 64 * 32; i++) p.a[i] = rounded(p.a[i]);
    for (int i = 0; i < 32 * 32; i++) p.b[i] = (float)(i % 256 - 128);  // exactly a bf16
    double mine, true_tf32;
    product_run(&p, true);
    product_errors(&p, &mine, &true_tf32);
    CHECK(mine < 1e-6);
    product_free(&p);
}

TEST(numbers_of_eleven_bits_are_exact) { everywhere(check_few_bits); }

// ---- out of range ------------------------------------------------------------------------------

static float plain(const Product *p, int i, int j) {
    float sum = 0;
    for (int k = 0; k < p->k; k++) sum = fmaf(p->a[p->k * i + k], p->b[p->n * k + j], sum);
    return sum;
}

static bool equal_bits(float x, float y) { return isnan(x) ? isnan(y) : !memcmp(&x, &y, sizeof x); }

// The 32 x 32 tiles of the result that are fp32's, bit for bit.
static int plain_tiles(const Product *p) {
    int tiles = 0;
    for (int i = 0; i < p->m; i += 32)
        for (int j = 0; j < p->n; j += 32) {
            bool all = true;
            for (int x = i; x < i + 32 && x < p->m; x++)
                for (int y = j; y < j + 32 && y < p->n; y++)
                    all = all && equal_bits(p->c[p->n * x + y], plain(p, x, y));
            tiles += all;
        }
    return tiles;
}

// Elements (i, k) of a and (k, j) of b that are strange, and how many tiles of 96 x 64 meet them.
static void check_strange(void) {
    static const struct {
        float value;
        int i, k, j, tiles;  // i or j -1: not there
    } cases[] = {
        {0x1p-130f, 40, 3, -1, 2},      {-0x1p-149f, -1, 95, 10, 3},
        {INFINITY, -1, 5, 33, 3},       {-INFINITY, 0, 0, -1, 2},
        {NAN, 95, 17, -1, 2},           {FLT_MAX, 70, 1, -1, 2},
        {-FLT_MAX, 3, 2, 3, 4},         {0x1p111f, 64, 64, -1, 2},
        {0x1p-112f, -1, 64, 63, 3},     {INFINITY, 95, 95, 63, 4},
        {0x1p-126f * 1.5f, 1, 1, 1, 4}, {0x1p50f, 1, 1, 1, 0},
        {0x1p56f, 1, 1, 1, 1},          {0, 1, 1, 1, 0},
        {0x1p-20f, 1, 1, 1, 0},
    };
    Product p = product_new(96, 64, 96);
    for (int n = 0; n < COUNT_OF(cases); n++) {
        product_fill(&p, 0, 5);
        if (cases[n].i >= 0) p.a[96 * cases[n].i + cases[n].k] = cases[n].value;
        if (cases[n].j >= 0) p.b[64 * cases[n].k + cases[n].j] = cases[n].value;
        product_run(&p, true);
        CHECK_INT(plain_tiles(&p), cases[n].tiles);
    }
    product_free(&p);
}

TEST(panels_out_of_range_are_fp32) { everywhere(check_strange); }

// All of a times `left`, all of b times `right`.
static void check_scaled(float left, float right, bool in_range) {
    Product p = product_new(96, 64, 96);
    product_fill(&p, 0, 6);
    for (int i = 0; i < 96 * 96; i++) p.a[i] *= left;
    for (int i = 0; i < 96 * 64; i++) p.b[i] *= right;
    product_run(&p, true);
    CHECK_INT(plain_tiles(&p), in_range ? 0 : 6);
    double mine, true_tf32;
    product_errors(&p, &mine, &true_tf32);
    if (in_range) CHECK(mine <= true_tf32 && mine < 1e-5);
    product_free(&p);
}

static void check_ratios(void) {
    check_scaled(0x1p60f, 0x1p-60f, true);
    check_scaled(0x1p-60f, 0x1p60f, true);
    check_scaled(0x1p40f, 0x1p40f, true);
    check_scaled(0x1p-25f, 0x1p-25f, true);
    check_scaled(0x1p60f, 0x1p60f, false);
    check_scaled(0x1p-60f, 0x1p-60f, false);
    check_scaled(0x1p-140f, 1, false);
    check_scaled(0, 1, false);  // sums of zeros: the same either way
}

TEST(ratios_of_magnitudes) { everywhere(check_ratios); }
