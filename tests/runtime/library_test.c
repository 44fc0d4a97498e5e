/* Every instruction set's matmul beside a plain loop: sizes, strides, accumulate, threads. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/library/library.h"
#include "test.h"

static uint64_t seed = 3;

static int64_t random_below(int64_t limit) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)(hash_bytes(&seed, sizeof seed, 0) % (uint64_t)limit);
}

// A matrix in memory of exactly its size, so that a sanitizer sees what is read beside it.
typedef struct {
    float *memory, *at;                  // at: element (0, 0)
    int64_t rows, columns, row, column;  // sizes; strides
} Matrix;

enum { BY_ROWS, BY_COLUMNS, APART, BACKWARDS, LAYOUTS };

static Matrix matrix_new(int64_t rows, int64_t columns, int layout) {
    Matrix new = {.rows = rows, .columns = columns, .row = 1, .column = 1};
    int64_t gap = random_below(2) * random_below(9);
    if (layout == BY_COLUMNS) new.column = rows + gap;
    if (layout == BY_ROWS) new.row = columns + gap;
    if (layout >= APART) new.column = 2, new.row = 2 * columns + 3;
    int64_t last = rows && columns ? (rows - 1) * new.row + (columns - 1) * new.column : -1;
    new.at = new.memory = malloc((size_t)(last + 1) * sizeof(float) + 1);
    for (int64_t i = 0; i <= last; i++) new.memory[i] = (float)random_below(2001) / 1000 - 1;
    if (layout == BACKWARDS && last >= 0) new.at += last, new.row *= -1, new.column *= -1;
    return new;
}

static float *element(const Matrix *of, int64_t i, int64_t j) {
    return &of->at[i * of->row + j * of->column];
}

static void check_product(const Library *isa, int64_t m, int64_t n, int64_t k, const int layout[3],
                          bool accumulate) {
    Matrix a = matrix_new(m, k, layout[0]), b = matrix_new(k, n, layout[1]);
    Matrix c = matrix_new(m, n, layout[2]);
    double *wanted = calloc((size_t)(m * n) + 1, sizeof *wanted);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = accumulate ? *element(&c, i, j) : 0;
            for (int64_t p = 0; p < k; p++)
                sum += (double)*element(&a, i, p) * (double)*element(&b, p, j);
            wanted[i * n + j] = sum;
            if (!accumulate) *element(&c, i, j) = NAN;
        }
    isa->matmul(&(Matmul){m, n, k, a.at, a.row, a.column, b.at, b.row, b.column, c.at, c.row,
                          c.column, accumulate});
    double worst = 0;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double error = fabs(*element(&c, i, j) - wanted[i * n + j]);
            if (!(error <= worst)) worst = error;
        }
    free(a.memory), free(b.memory), free(c.memory), free(wanted);
    if (worst <= 1e-6 * sqrt((double)k + 1) * 4) return;
    say("%s: %d x %d x %d, layouts %d %d %d, accumulate %d: error %g", isa->name, (int)m, (int)n,
        (int)k, layout[0], layout[1], layout[2], accumulate, worst);
    CHECK(false);
}

static void check_layouts(const Library *isa, int64_t m, int64_t n, int64_t k) {
    for (int all = 0; all < LAYOUTS * LAYOUTS * LAYOUTS; all++) {
        int layout[3] = {all % LAYOUTS, all / LAYOUTS % LAYOUTS, all / LAYOUTS / LAYOUTS};
        check_product(isa, m, n, k, layout, random_below(2));
    }
}

static void for_each_isa(void (*run)(const Library *)) {
    for (const Library *row = library(); row->name; row++) run(row);
}

static void small(const Library *isa) {
    for (int round = 0; round < 60; round++)
        check_layouts(isa, random_below(71), random_below(71), random_below(71));
}

TEST(sizes_below_71_in_all_layouts) { for_each_isa(small); }

static void thin(const Library *isa) {
    for (int64_t m = 0; m <= 9; m++)
        for (int round = 0; round < 3; round++) {
            check_layouts(isa, m, random_below(40), random_below(40));
            check_layouts(isa, random_below(40), m, random_below(40));
            check_layouts(isa, random_below(40), random_below(40), m);
        }
}

TEST(thin_ones) { for_each_isa(thin); }

static void large(const Library *isa) {
    static const int64_t sizes[][3] = {{1, 1500, 300}, {1500, 1, 300},  {1, 7, 9000},
                                       {5, 700, 600},  {200, 190, 530}, {13, 300, 700},
                                       {350, 33, 257}, {64, 2100, 65}};
    for (int i = 0; i < COUNT_OF(sizes); i++) {
        int layout[3] = {(int)random_below(2), (int)random_below(2), (int)random_below(2)};
        for (int threads = 1; threads <= 4; threads++) {
            thread_set_count(threads);
            check_product(isa, sizes[i][0], sizes[i][1], sizes[i][2], layout, threads % 2);
        }
    }
}

TEST(large_ones_on_threads) {
    int before = thread_count();
    for_each_isa(large);
    thread_set_count(before);
}

static void same_bits(const Library *isa) {
    enum { M = 250, N = 190, K = 600 };
    Matrix a = matrix_new(M, K, BY_ROWS), b = matrix_new(K, N, BY_COLUMNS);
    Matrix one = matrix_new(M, N, BY_ROWS), other = one;
    other.memory = other.at = malloc((size_t)(M * one.row) * sizeof(float));
    Matmul matmul = {M,     N,        K,      a.at,    a.row, a.column, b.at,
                     b.row, b.column, one.at, one.row, 1,     false};
    thread_set_count(1);
    isa->matmul(&matmul);
    thread_set_count(3);
    matmul.c = other.at;
    isa->matmul(&matmul);
    for (int64_t i = 0; i < M; i++)
        CHECK(!memcmp(element(&one, i, 0), element(&other, i, 0), N * sizeof(float)));
    free(a.memory), free(b.memory), free(one.memory), free(other.memory);
}

TEST(threads_do_not_change_bits) {
    int before = thread_count();
    for_each_isa(same_bits);
    thread_set_count(before);
}

TEST(infinity_stays_in_its_row_and_column) {
    float a[3 * 9] = {0}, b[9 * 9] = {0}, c[3 * 9];
    b[8] = INFINITY;
    a[0] = 1;
    for (int p = 0; p < 9; p++) b[9 * p + 3] = 1;
    library_matmul(&(Matmul){3, 9, 9, a, 9, 1, b, 9, 1, c, 9, 1, false});
    CHECK(isinf(c[8]) && isnan(c[9 + 8]));
    CHECK(c[3] == 1 && c[7] == 0 && c[9 + 7] == 0);
}

TEST(nothing_summed_is_zero) {
    float c[4] = {1, 2, 3, 4};
    library_matmul(&(Matmul){2, 2, 0, NULL, 0, 1, NULL, 2, 1, c, 2, 1, true});
    CHECK(c[0] == 1 && c[3] == 4);
    library_matmul(&(Matmul){2, 2, 0, NULL, 0, 1, NULL, 2, 1, c, 2, 1, false});
    CHECK(c[0] == 0 && c[3] == 0);
}

// An odd number of rounds leaves each bit that was read; what lies behind the end is not.
static void roofs(const Library *isa) {
    uint32_t *memory = aligned_alloc(64, 2048);
    for (int i = 0; i < 512; i++) memory[i] = 1U << i % 32;
    for (int words = 128; words < 512; words += 128) {
        uint32_t bits = 0;
        memory[words - 1] ^= 5;
        memory[words] ^= 1U << 9;
        CHECK_NEAR(isa->roof->read(memory, 4 * (size_t)words, 3, &bits), 3 * 4 * words, 0);
        CHECK_INT(bits, 5);
        memory[words - 1] ^= 5;
        memory[words] ^= 1U << 9;
    }
    free(memory);
    float once = 0, twice = 0;
    double of_one = isa->roof->multiply_add(1, &once), of_two = isa->roof->multiply_add(2, &twice);
    CHECK_NEAR(of_two, 2 * of_one, 0);
    CHECK_NEAR(once, 66 * 0.999 + 12 * 0.001, 1e-4);  // of 0 to 11
    CHECK_NEAR(twice, once * 0.999 + 12 * 0.001, 1e-4);
}

TEST(roofs_do_all_that_they_say) { for_each_isa(roofs); }
