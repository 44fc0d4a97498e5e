/* matmul_thin.c - products of few rows, which use each element of b few times: they are as fast as
 * memory gives b.
 * In: matrices, a with few rows.  Out: c, or c + a b.
 * Invariant: b is read where it lies, in order, several of its rows at a time.
 *   b_k == 1, a weight (n, k): dot products with its rows     b_n == 1, (k, n): sums of its rows */
#include "runtime/library/matmul.h"

#include <string.h>

// ---- dot products ------------------------------------------------------------------------------

enum { DOTS = 12 };  // sums that fit in the registers, beside what they are made of

// to[i * columns + j] = row i of a times row j of b, but for what is left of k. Each has `steps`
// sums, so that additions overlap where there are few of them.
static inline __attribute__((always_inline)) void dots(int rows, int columns, int steps,
                                                       const Matmul *of, const float *a,
                                                       const float *b, float *to) {
    Vector sum[DOTS] = {{0}};
    for (int64_t p = 0; p + steps * LANES <= of->k; p += steps * LANES)
#pragma GCC unroll 8
        for (int j = 0; j < columns * steps; j++) {
            int64_t at = p + j % steps * LANES;
            Vector y = vector_load(b + j / steps * of->b_n + at);
#pragma GCC unroll 3
            for (int i = 0; i < rows; i++) {
                Vector *total = &sum[i * columns * steps + j];
                *total = vector_fma(vector_load(a + i * of->a_m + at), y, *total);
            }
        }
    float sums[DOTS];
#pragma GCC unroll 3
    for (int i = 0; i < rows * columns * steps; i += 4)
        four_store(sums + i, vector_sums(sum[i], sum[i + 1], sum[i + 2], sum[i + 3]));
#pragma GCC unroll 12
    for (int i = 0; i < rows * columns; i++) {
        to[i] = sums[i * steps];
        for (int s = 1; s < steps; s++) to[i] += sums[i * steps + s];
    }
}

// What is left of k, from p on. Not inlined: it would slow the many that are divisible.
static __attribute__((noinline)) void dots_rest(int rows, int columns, int64_t p, const Matmul *of,
                                                const float *a, const float *b, float *to) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            for (int64_t q = p; q < of->k; q++)
                to[i * columns + j] += a[i * of->a_m + q] * b[j * of->b_n + q];
}

static void dots_at(const Matmul *of, int rows, int columns, int64_t i, int64_t j) {
    const float *a = of->a + i * of->a_m, *b = of->b + j * of->b_n;
    float *c = of->c + i * of->c_m + j * of->c_n, to[DOTS];
    int steps = columns > 1 ? 1 : rows == 1 ? 8 : 4;
    if (columns == 8)
        dots(1, 8, 1, of, a, b, to);
    else if (columns == 4 && rows == 2)
        dots(2, 4, 1, of, a, b, to);
    else if (columns == 4)
        dots(3, 4, 1, of, a, b, to);
    else if (rows == 1)
        dots(1, 1, 8, of, a, b, to);
    else if (rows == 2)
        dots(2, 1, 4, of, a, b, to);
    else
        dots(3, 1, 4, of, a, b, to);
    int64_t rest = of->k % (steps * LANES);
    if (rest) dots_rest(rows, columns, of->k - rest, of, a, b, to);
    for (int x = 0; x < rows; x++)
        for (int y = 0; y < columns; y++) {
            float *element = c + x * of->c_m + y * of->c_n;
            *element = to[x * columns + y] + (of->accumulate ? *element : 0);
        }
}

// Asks for a_k == 1 and b_k == 1.
void LIBRARY_NAME(matmul_dots)(const Matmul *of) {
    int most = of->m == 1 ? 8 : 4, rows, columns;
    for (int64_t j = 0; j < of->n; j += columns) {
        columns = of->n - j >= most ? most : 1;
        for (int64_t i = 0; i < of->m; i += rows) {
            int64_t left = of->m - i;
            rows = left == 4 ? 2 : (int)min_i64(left, 3);  // one row is never left of several
            dots_at(of, rows, columns, i, j);
        }
    }
}

// ---- sums of rows ------------------------------------------------------------------------------

enum { SUMS = 4096 };  // that are made together: 16 KB, half of L1

// Some rows of x and of sum, `terms` rows of b, a step of `vectors` of each.
static inline __attribute__((always_inline)) void add_step(int rows, int vectors, int terms,
                                                           const Matmul *of, const float *x,
                                                           const float *b, int64_t n,
                                                           float *restrict sum) {
    Vector total[4];
#pragma GCC unroll 4
    for (int i = 0; i < rows * vectors; i++)
        total[i] = vector_load(sum + i / vectors * n + i % vectors * LANES);
#pragma GCC unroll 8
    for (int t = 0; t < terms; t++) {
        const float *y = b + t * of->b_k;
        // With one row the CPU's own prefetching is enough; with more, its streams are too short.
        if (rows > 1) __builtin_prefetch(y + terms * of->b_k);
#pragma GCC unroll 4
        for (int i = 0; i < rows * vectors; i++) {
            Vector scale = vector_of(x[i / vectors * of->a_m + t * of->a_k]);
            total[i] = vector_fma(scale, vector_load(y + i % vectors * LANES), total[i]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < rows * vectors; i++)
        vector_store(sum + i / vectors * n + i % vectors * LANES, total[i]);
}

// sum[i][j] += x[i][0] * b[0][j] + ..., j < n
static inline __attribute__((always_inline)) void add_rows(int rows, int vectors, int terms,
                                                           const Matmul *of, const float *x,
                                                           const float *b, int64_t n, float *sum) {
    int64_t j = 0;
    for (; j + vectors * LANES <= n; j += vectors * LANES)
        add_step(rows, vectors, terms, of, x, b + j, n, sum + j);
    for (; j + LANES <= n; j += LANES) add_step(rows, 1, terms, of, x, b + j, n, sum + j);
    for (; j < n; j++)
        for (int i = 0; i < rows; i++)
            for (int t = 0; t < terms; t++)
                sum[i * n + j] += x[i * of->a_m + t * of->a_k] * b[t * of->b_k + j];
}

// A few rows of b, times all rows of x.
static void add_to_all(int terms, const Matmul *of, const float *x, const float *b, int64_t n,
                       float *sum) {
    if (terms == 8) add_rows(1, 4, 8, of, x, b, n, sum);
    for (int64_t i = 0; i < of->m && terms < 8; i += 2, x += 2 * of->a_m, sum += 2 * n) {
        bool two = of->m - i > 1;
        if (two && terms == 4) add_rows(2, 2, 4, of, x, b, n, sum);
        if (two && terms == 1) add_rows(2, 1, 1, of, x, b, n, sum);
        if (!two && terms == 4) add_rows(1, 1, 4, of, x, b, n, sum);
        if (!two && terms == 1) add_rows(1, 1, 1, of, x, b, n, sum);
    }
}

// Asks for b_n == 1.
void LIBRARY_NAME(matmul_rows)(const Matmul *of) {
    int64_t width = SUMS / of->m / LANES * LANES;
    int most = of->m == 1 ? 8 : 4, terms;
    for (int64_t j = 0; j < of->n; j += width) {
        float sum[SUMS];
        int64_t n = min_i64(width, of->n - j);
        memset(sum, 0, (size_t)(of->m * n) * sizeof *sum);
        for (int64_t p = 0; p < of->k; p += terms) {
            terms = of->k - p >= most ? most : 1;
            add_to_all(terms, of, of->a + p * of->a_k, of->b + p * of->b_k + j, n, sum);
        }
        for (int64_t i = 0; i < of->m; i++)
            for (int64_t x = 0; x < n; x++) {
                float *c = of->c + i * of->c_m + (j + x) * of->c_n;
                *c = sum[i * n + x] + (of->accumulate ? *c : 0);
            }
    }
}
