/* matmul.c - c = a b in fp32, any strides, for one instruction set.
 * In: three matrices.  Out: c, or c + a b.
 * Invariant: an element of c is made by one thread, from blocks of k in order: the bits do not
 * depend on the number of threads.
 *
 * BLIS's loops: a block of b, KC x n, and a block of a, MC x KC, are copied into panels that a
 * register tile reads from end to end. A panel of b stays in L1 while the panels of a's block,
 * which stays in L2, pass by. What is too thin for that to pay reads the matrices where they are.
 *   for j (NC) for p (KC) { pack b; for i (MC) { pack a; for j (2 vectors) for i (rows) tile } } */
#include "runtime/library/matmul.h"

#include <stdlib.h>
#include <string.h>

// KC x 2 vectors of b are half of an L1 of 32 KB and more; MC x KC of a a third of an L2 of 512 KB.
enum { KC = 256, MC = 168, NC = 2048, NC_SHORT = 256 };

// ---- the register tile -------------------------------------------------------------------------

// c[i][j] (+)= sum over p of a[i * a_m + p * a_k] * b[p * b_k + j]: rows x 2 vectors.
static inline __attribute__((always_inline)) void tile(int rows, int64_t k, const float *a,
                                                       int64_t a_m, int64_t a_k, const float *b,
                                                       int64_t b_k, float *c, int64_t c_m,
                                                       bool accumulate) {
    Vector sum[TILE_ROWS][2];
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) sum[i][0] = sum[i][1] = (Vector){0};
    for (int64_t p = 0; p < k; p++, a += a_k, b += b_k) {
        Vector left = vector_load(b), right = vector_load(b + LANES);
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++) {
            Vector x = vector_of(a[i * a_m]);
            sum[i][0] = vector_fma(x, left, sum[i][0]);
            sum[i][1] = vector_fma(x, right, sum[i][1]);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++, c += c_m) {
        if (accumulate) sum[i][0] += vector_load(c), sum[i][1] += vector_load(c + LANES);
        vector_store(c, sum[i][0]);
        vector_store(c + LANES, sum[i][1]);
    }
}

typedef struct {
    int64_t k;
    const float *a;
    int64_t a_m, a_k;
    const float *b;
    int64_t b_k;
} Operands;

static void tile_panels(const Operands *of, float *c, int64_t c_m, bool accumulate) {
    tile(TILE_ROWS, of->k, of->a, 1, TILE_ROWS, of->b, TILE_COLUMNS, c, c_m, accumulate);
}

static void tile_rows(int rows, const Operands *of, float *c, int64_t c_m, bool accumulate) {
    switch (rows) {
#define ROWS(count)                                                                        \
    case count:                                                                            \
        tile(count < TILE_ROWS ? count : TILE_ROWS, of->k, of->a, of->a_m, of->a_k, of->b, \
             of->b_k, c, c_m, accumulate);                                                 \
        return;
        ROWS(1)
        ROWS(2)
        ROWS(3)
        ROWS(4) ROWS(5) ROWS(6) ROWS(7) ROWS(8) ROWS(9) ROWS(10) ROWS(11) ROWS(12) ROWS(13) ROWS(14)
#undef ROWS
    }
}

// A tile of c that may lack columns or have strides: made aside, then written.
static void tile_edge(int rows, int64_t columns, const Operands *of, const Matmul *to, float *c,
                      bool accumulate) {
    float whole[TILE_ROWS * TILE_COLUMNS];
    tile_rows(rows, of, whole, TILE_COLUMNS, false);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) {
            float *element = c + i * to->c_m + j * to->c_n;
            *element = whole[i * TILE_COLUMNS + j] + (accumulate ? *element : 0);
        }
}

// The part of c at (i, j): up to TILE_ROWS x TILE_COLUMNS.
static void tile_at(const Matmul *to, int64_t i, int64_t j, const Operands *of, bool accumulate) {
    int rows = (int)min_i64(TILE_ROWS, to->m - i);
    int64_t columns = min_i64(TILE_COLUMNS, to->n - j);
    float *c = to->c + i * to->c_m + j * to->c_n;
    if (columns < TILE_COLUMNS || to->c_n != 1)
        tile_edge(rows, columns, of, to, c, accumulate);
    else if (rows == TILE_ROWS && of->a_m == 1 && of->a_k == TILE_ROWS && of->b_k == TILE_COLUMNS)
        tile_panels(of, c, to->c_m, accumulate);
    else
        tile_rows(rows, of, c, to->c_m, accumulate);
}

// ---- packing -----------------------------------------------------------------------------------

// to[4 columns of 4] = from[4 rows of 4]
static inline void transpose_four(const float *from, int64_t stride, float *to, int64_t to_stride) {
    Four a = four_load(from), b = four_load(from + stride);
    Four c = four_load(from + 2 * stride), d = four_load(from + 3 * stride);
    Four ab = FOUR_OF(a, b, 0, 4, 1, 5), cd = FOUR_OF(c, d, 0, 4, 1, 5);
    four_store(to, FOUR_OF(ab, cd, 0, 1, 4, 5));
    four_store(to + to_stride, FOUR_OF(ab, cd, 2, 3, 6, 7));
    ab = FOUR_OF(a, b, 2, 6, 3, 7), cd = FOUR_OF(c, d, 2, 6, 3, 7);
    four_store(to + 2 * to_stride, FOUR_OF(ab, cd, 0, 1, 4, 5));
    four_store(to + 3 * to_stride, FOUR_OF(ab, cd, 2, 3, 6, 7));
}

// A panel whose columns are contiguous: 4 x 4 at a time, a cache line of 4 of them after the other.
// The last four of a width of 6 or 14 overlap the ones before.
static inline __attribute__((always_inline)) void pack_across(int64_t width, int64_t k,
                                                              const float *from, int64_t stride,
                                                              float *to) {
    for (int64_t line = 0; line < k; line += 16)
        for (int64_t w = 0; w < width; w += 4) {
            int64_t at = min_i64(w, width - 4), p = line, end = min_i64(line + 16, k);
            for (; p + 4 <= end; p += 4)
                transpose_four(from + at * stride + p, stride, to + p * width + at, width);
            for (; p < end; p++)
                for (int64_t i = at; i < at + 4; i++) to[p * width + i] = from[i * stride + p];
        }
}

// Panels of `width` from an operand with `count` rows (a) or columns (b), `stride` apart:
//   to[w / width * width * k + p * width + w % width] = from[w * stride + p * stride_k]
// The last panel is filled up with 0. Three orders, each along memory.
static inline __attribute__((always_inline)) void pack(int64_t width, int64_t count, int64_t k,
                                                       const float *from, int64_t stride,
                                                       int64_t stride_k, float *to) {
    int64_t whole = stride == 1 || stride_k == 1 ? count / width * width : 0;
    for (int64_t p = 0; p < k && stride == 1; p++)
        for (int64_t w = 0; w < whole; w += width) {
            const float *row = from + w + p * stride_k;
            __builtin_prefetch(row + 4 * stride_k);  // rows are too short for the CPU to follow
            memcpy(to + w * k + p * width, row, (size_t)width * sizeof *to);
        }
    for (int64_t w = 0; w < whole && stride != 1; w += width)
        pack_across(width, k, from + w * stride, stride, to + w * k);
    for (int64_t w = whole; w < round_up(count, width); w++)
        for (int64_t p = 0; p < k; p++)
            to[w / width * width * k + p * width + w % width] =
                w < count ? from[w * stride + p * stride_k] : 0;
}

static void pack_a(const Matmul *of, int64_t i, int64_t m, int64_t p, int64_t k, float *to) {
    pack(TILE_ROWS, m, k, of->a + i * of->a_m + p * of->a_k, of->a_m, of->a_k, to);
}

static void pack_b(const Matmul *of, int64_t j, int64_t n, int64_t p, int64_t k, float *to) {
    pack(TILE_COLUMNS, n, k, of->b + j * of->b_n + p * of->b_k, of->b_n, of->b_k, to);
}

// ---- loops over tiles --------------------------------------------------------------------------

static int64_t ceil_of(int64_t count, int64_t by) { return (count + by - 1) / by; }

// Nearly equal blocks of at most `most`, each a multiple of `unit`.
static int64_t block_size(int64_t size, int64_t most, int64_t unit) {
    return round_up(ceil_of(size, ceil_of(size, most)), unit);
}

static void multiply_packed(const Matmul *part) {
    int64_t mc = block_size(part->m, MC, TILE_ROWS), kc = block_size(part->k, KC, 1);
    bool once = part->m <= mc;  // a block of a serves all of b: short blocks of b stay in L2
    int64_t nc = block_size(part->n, once ? NC_SHORT : NC, TILE_COLUMNS);
    int64_t floats_a = round_up(mc * kc, 16), floats = floats_a + round_up(nc * kc, 16);
    float *a = aligned_alloc(64, (size_t)floats * sizeof *a), *b = a + floats_a;
    if (!a) fatal("matmul: no memory for %lld bytes", (long long)floats * 4);
    for (int64_t p = 0; p < part->k; p += kc)
        for (int64_t j0 = 0; j0 < part->n; j0 += nc) {
            int64_t k = min_i64(kc, part->k - p), n = min_i64(nc, part->n - j0);
            pack_b(part, j0, n, p, k, b);
            for (int64_t i0 = 0; i0 < part->m; i0 += mc) {
                int64_t m = min_i64(mc, part->m - i0);
                if (!once || !j0) pack_a(part, i0, m, p, k, a);
                for (int64_t j = 0; j < n; j += TILE_COLUMNS)
                    for (int64_t i = 0; i < m; i += TILE_ROWS) {
                        Operands of = {k, a + i * k, 1, TILE_ROWS, b + j * k, TILE_COLUMNS};
                        tile_at(part, i0 + i, j0 + j, &of, part->accumulate || p);
                    }
            }
        }
    free(a);
}

// Asks for b_n == 1: full tiles read b, and a, where they are.
static void multiply_in_place(const Matmul *part) {
    _Alignas(64) float edge[KC * TILE_COLUMNS];
    for (int64_t p = 0; p < part->k; p += KC)
        for (int64_t j = 0; j < part->n; j += TILE_COLUMNS) {
            Operands of = {.k = min_i64(KC, part->k - p), .a_m = part->a_m, .a_k = part->a_k};
            of.b = part->b + p * part->b_k + j, of.b_k = part->b_k;
            if (part->n - j < TILE_COLUMNS) {
                pack_b(part, j, part->n - j, p, of.k, edge);
                of.b = edge, of.b_k = TILE_COLUMNS;
            }
            for (int64_t i = 0; i < part->m; i += TILE_ROWS) {
                of.a = part->a + i * part->a_m + p * part->a_k;
                tile_at(part, i, j, &of, part->accumulate || p);
            }
        }
}

static void multiply_nothing(const Matmul *part) {
    for (int64_t i = 0; i < part->m && !part->accumulate; i++)
        for (int64_t j = 0; j < part->n; j++) part->c[i * part->c_m + j * part->c_n] = 0;
}

// ---- which loops, on how many threads ----------------------------------------------------------

typedef struct {
    Matmul matmul;
    void (*multiply)(const Matmul *part);
    int parts_m, parts_n;  // of c; a thread each
} Job;

static Matmul transposed(const Matmul *of) {
    return (Matmul){.m = of->n,
                    .n = of->m,
                    .k = of->k,
                    .accumulate = of->accumulate,
                    .a = of->b,
                    .a_m = of->b_n,
                    .a_k = of->b_k,
                    .b = of->a,
                    .b_k = of->a_k,
                    .b_n = of->a_m,
                    .c = of->c,
                    .c_m = of->c_n,
                    .c_n = of->c_m};
}

// Below these, measured on Zen 3, reading in place is faster than packing. With b_k above NEAR the
// rows of a tile share few sets of the caches.
enum { THIN = 8, THIN_LONG = 32, LONG = 256, SMALL = 1 << 17, NEAR = 256 };

static void (*choose_multiply(const Matmul *of))(const Matmul *) {
    if (!of->k) return multiply_nothing;
    int64_t dots = of->k < LONG ? THIN : THIN_LONG;
    if (of->m <= dots && of->b_k == 1 && of->a_k == 1) return LIBRARY_NAME(matmul_dots);
    if (of->b_n != 1) return multiply_packed;
    if (of->m > 1 && of->b_k <= NEAR && of->n <= SMALL / of->k) return multiply_in_place;
    return of->m <= THIN ? LIBRARY_NAME(matmul_rows) : multiply_packed;
}

// How many parts along m, of `threads` in all, leave the largest part smallest.
static int choose_parts(const Matmul *of, int threads) {
    if (of->m <= THIN) return 1;
    int best = 1;
    double least = 0;
    for (int parts = 1; parts <= threads; parts++) {
        if (threads % parts) continue;
        double m = (double)(ceil_of(ceil_of(of->m, TILE_ROWS), parts) * TILE_ROWS);
        double n = (double)(ceil_of(ceil_of(of->n, TILE_COLUMNS), threads / parts) * TILE_COLUMNS);
        double cost = m * n + 8 * (m + n);  // tiles, and what is packed for them
        if (parts > 1 && cost >= least) continue;
        least = cost;
        best = parts;
    }
    return best;
}

static void multiply_part(void *context, int thread, int threads, Barrier *barrier) {
    (void)barrier;
    const Job *job = context;
    Matmul part = job->matmul;
    int64_t i, m, j, n;
    int parts_m = threads == 1 ? 1 : job->parts_m, parts_n = threads / parts_m;
    thread_share(ceil_of(part.m, TILE_ROWS), thread / parts_n, parts_m, &i, &m);
    thread_share(ceil_of(part.n, TILE_COLUMNS), thread % parts_n, parts_n, &j, &n);
    i *= TILE_ROWS, j *= TILE_COLUMNS;
    part.m = min_i64(part.m, m * TILE_ROWS) - i;
    part.n = min_i64(part.n, n * TILE_COLUMNS) - j;
    if (part.m <= 0 || part.n <= 0) return;
    part.a += i * part.a_m;
    part.b += j * part.b_n;
    part.c += i * part.c_m + j * part.c_n;
    job->multiply(&part);
}

// Time of one thread, in floats that come from memory; the products beside them are 8 at a time.
static double cost_of(const Matmul *of) {
    double m = (double)of->m, n = (double)of->n, k = (double)of->k;
    return m * n * k / 8 + m * k + k * n + m * n;
}

void LIBRARY_NAME(matmul)(const Matmul *matmul) {
    if (matmul->m <= 0 || matmul->n <= 0) return;
    bool thin = matmul->m <= THIN || matmul->n <= THIN;
    bool turn = thin ? matmul->n < matmul->m : matmul->c_n != 1 && matmul->c_m == 1;
    Job job = {.matmul = turn ? transposed(matmul) : *matmul, .parts_m = 1};
    job.multiply = choose_multiply(&job.matmul);
    if (thread_count() == 1 || cost_of(matmul) < 1 << 16) {
        job.multiply(&job.matmul);
        return;
    }
    job.parts_m = choose_parts(&job.matmul, thread_count());
    thread_run(multiply_part, &job);
}
