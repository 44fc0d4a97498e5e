/* matmul_thin.c - products with few rows, which read each element of b once: as fast as memory gives
 * it is as fast as can be.
 * In: matrices with few rows of a (any number is right).  Out: c, or c + a b.
 * Invariant: b is read where it lies, in order, several rows at a time.
 *   b_k == 1, the rows of a weight (n, k): dot products     b_n == 1, (k, n): sums of b's rows    */
#include "runtime/library/matmul.h"

// ---- dot products -------------------------------------------------------------------------------

static float sum_of_four(Four x) { return (x[0] + x[2]) + (x[1] + x[3]); }

static Four halved(Vector x) {
    float lanes[LANES];
    vector_store(lanes, x);
    Four sum = four_load(lanes);
    for (int i = 4; i < LANES; i += 4) sum += four_load(lanes + i);
    return sum;
}

enum { DOTS = 12 };  // sums that registers hold beside what they are made of

// to[i * columns + j] = row i of a times row j of b; `steps` sums for each, so that additions
// overlap where there are few rows and columns.
static inline __attribute__((always_inline)) void dots(int rows, int columns, int steps,
                                                       const Matmul *of, const float *a,
                                                       const float *b, float *to) {
    Vector sum[DOTS] = {{0}};
    int64_t p = 0;
    for (; p + steps * LANES <= of->k; p += steps * LANES)
#pragma GCC unroll 4
        for (int s = 0; s < steps; s++)
#pragma GCC unroll 8
            for (int j = 0; j < columns; j++) {
                Vector y = vector_load(b + j * of->b_n + p + s * LANES);
#pragma GCC unroll 3
                for (int i = 0; i < rows; i++) {
                    Vector x = vector_load(a + i * of->a_m + p + s * LANES);
                    Vector *total = &sum[(i * columns + j) * steps + s];
                    *total = vector_fma(x, y, *total);
                }
            }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) {
            const float *x = a + i * of->a_m, *y = b + j * of->b_n;
            Vector total = sum[(i * columns + j) * steps];
            for (int s = 1; s < steps; s++) total += sum[(i * columns + j) * steps + s];
            float rest = 0;
            for (int64_t q = p; q < of->k; q++) rest += x[q] * y[q];
            to[i * columns + j] = sum_of_four(halved(total)) + rest;
        }
}

static void dots_at(const Matmul *of, int rows, int columns, int64_t i, int64_t j) {
    const float *a = of->a + i * of->a_m, *b = of->b + j * of->b_n;
    float to[DOTS];
    if (columns > 1 && rows == 1)
        dots(1, 8, 1, of, a, b, to);
    else if (columns > 1 && rows == 2)
        dots(2, 4, 1, of, a, b, to);
    else if (columns > 1)
        dots(3, 4, 1, of, a, b, to);
    else if (rows == 1)
        dots(1, 1, 8, of, a, b, to);
    else if (rows == 2)
        dots(2, 1, 4, of, a, b, to);
    else
        dots(3, 1, 4, of, a, b, to);
    for (int64_t x = 0; x < rows; x++)
        for (int64_t y = 0; y < columns; y++) {
            float *c = of->c + (i + x) * of->c_m + (j + y) * of->c_n;
            *c = to[x * columns + y] + (of->accumulate ? *c : 0);
        }
}

// Asks for a_k == 1 and b_k == 1.
void LIBRARY_NAME(matmul_dots)(const Matmul *of) {
    int most = of->m == 1 ? 8 : 4, rows, columns;
    for (int64_t j = 0; j < of->n; j += columns) {
        columns = of->n - j >= most ? most : 1;
        for (int64_t i = 0; i < of->m; i += rows) {
            int64_t left = of->m - i;
            rows = left == 4 ? 2 : (int)min_i64(left, 3);  // so that 1 is left only of 1
            dots_at(of, rows, columns, i, j);
        }
    }
}

// ---- sums of rows -------------------------------------------------------------------------------

enum { ROWS = 8, SUMS = 1024 };  // rows at a time; sums that are made together, 4 KB

// sum[j] += x[0] * b[0][j] + ... for `rows` rows of b
static inline __attribute__((always_inline)) void add_rows(int rows, int64_t n, const Matmul *of,
                                                           const float *x, const float *b,
                                                           float *sum) {
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) {
        Vector total = vector_load(sum + j);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
            total = vector_fma(vector_of(x[r * of->a_k]), vector_load(b + r * of->b_k + j), total);
        vector_store(sum + j, total);
    }
    for (; j < n; j++)
        for (int r = 0; r < rows; r++) sum[j] += x[r * of->a_k] * b[r * of->b_k + j];
}

// Asks for m == 1 and b_n == 1.
void LIBRARY_NAME(matmul_rows)(const Matmul *of) {
    for (int64_t j0 = 0; j0 < of->n; j0 += SUMS) {
        float sum[SUMS] = {0};
        int64_t n = min_i64(SUMS, of->n - j0), p = 0;
        const float *b = of->b + j0;
        for (; p + ROWS <= of->k; p += ROWS)
            add_rows(ROWS, n, of, of->a + p * of->a_k, b + p * of->b_k, sum);
        for (; p < of->k; p++) add_rows(1, n, of, of->a + p * of->a_k, b + p * of->b_k, sum);
        for (int64_t j = 0; j < n; j++) {
            float *c = of->c + (j0 + j) * of->c_n;
            *c = sum[j] + (of->accumulate ? *c : 0);
        }
    }
}
