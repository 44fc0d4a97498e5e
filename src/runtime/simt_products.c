/* simt_products.c - wgmma on the CPU: products of four warps, which are done when they are waited
 * for.
 * In: what a rendered text calls: fences, products, groups, waits (codegen/prelude_gpu.c).
 * Out: the products' sums, or what was wrong.
 * Invariants: the registers that are summed in hold NaNs from a product's begin to the wait for it,
 * and b is read at the wait, so whoever touches either in between gets or makes a wrong result;
 * what is written to those registers, or to a's, is an error.
 *   wgmma_fence(); wgmma_tf32_64x8x8(c, a, b); wgmma_commit(); wgmma_wait(0)
 * Source: the PTX ISA's "Asynchronous Warpgroup Level Matrix Instructions".                     */
#include "runtime/simt.h"

#include <string.h>

#define UNUSED INT64_C(0xc000c000)  // bits of a descriptor
enum { PIECES_K = 2, ROWS = 2, WORD = 4, LINE_BYTES = 16, PIECE_BYTES = 128 };

// Fields of 14 bits that count 16 bytes ("Matrix Descriptor Format").
static int64_t field(uint64_t descriptor, int bit) {
    return (int64_t)(descriptor >> bit & 0x3fff) * LINE_BYTES;
}

int64_t simt_piece(const Product *product, int piece) {
    return field(product->b, 0) + piece % PIECES_K * field(product->b, 16) +
           piece / PIECES_K * field(product->b, 32);
}

static float rounded(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits &= 0xffffe000;
    memcpy(&x, &bits, sizeof x);
    return x;
}

// ---- begin -------------------------------------------------------------------------------------

static Sum *find_sum(Thread *thread, const float *c) {
    for (int i = 0; i < thread->sums.count; i++)
        if (thread->sums.at[i].c == c) return &thread->sums.at[i];
    return NULL;
}

static void fill(float *c, int count) {
    const uint32_t value = SIMT_SUMMING;
    for (int i = 0; i < count; i++) memcpy(c + i, &value, sizeof value);
}

static bool is_filled(const float *c, int count) {
    const uint32_t value = SIMT_SUMMING;
    for (int i = 0; i < count; i++)
        if (memcmp(c + i, &value, sizeof value)) return false;
    return true;
}

ON_FIBER static void add_product(Thread *thread, float *c, int count) {
    Sum *sum = find_sum(thread, c);
    if (!sum) {
        if (!thread->fenced)
            simt_refuse(thread, "thread %d begins a product in registers behind no wgmma_fence",
                        thread->self.thread);
        sum = list_add(thread->worker->arena, &thread->sums);
        *sum = (Sum){.c = c, .count = count};
        memcpy(sum->value, c, sizeof *c * (size_t)count);
        fill(c, count);
    }
    if (sum->count != count || !is_filled(c, count))
        simt_refuse(thread, "thread %d changed registers that a product sums in",
                    thread->self.thread);
    sum->products++;
}

// A row's eight elements are those of four threads: k % 4 is whose, k / 4 which.
ON_FIBER void product_begin(SimtThread *self, float *c, const float *a, int64_t b,
                            int32_t columns) {
    Thread *thread = (Thread *)self;
    Worker *worker = thread->worker;
    if (self->threads % GROUP_THREADS)
        simt_refuse(thread, "a product of four warps in a block of %d threads", self->threads);
    if (b & UNUSED || (uint64_t)b >> 46 || columns < 8 || columns > WARPGROUP_COLUMNS_MAX)
        simt_refuse(thread,
                    "thread %d has a descriptor %lx, which has other bits than an address "
                    "and two offsets",
                    self->thread, (unsigned long)b);
    Product product = {c,           a,       {a[0], a[1], a[2], a[3]}, {{0}},
                       (uint64_t)b, columns, thread->product_group};
    int group = self->thread / GROUP_THREADS;
    if (!worker->in_group[group]) worker->group_b[group] = product.b;
    if (worker->group_b[group] != product.b)
        simt_refuse(thread, "threads of four warps from %d on multiply by different matrices",
                    group * GROUP_THREADS);
    memcpy(self->give->word, a, sizeof product.kept);
    const SimtLane *lane = self->meet(self, WARPGROUP);
    const SimtLane *row = lane + self->thread % WARP_THREADS / 4 * 4;
    for (int r = 0; r < ROWS; r++)
        for (int k = 0; k < 8; k++) {
            memcpy(&product.row[r][k], &row[k % 4].word[k / 4 * ROWS + r], WORD);
            product.row[r][k] = rounded(product.row[r][k]);
        }
    add_product(thread, c, columns / 2);
    *list_add(thread->worker->arena, &thread->products) = product;
}

// ---- wait --------------------------------------------------------------------------------------

ON_FIBER static void check_bounds(Thread *thread, const Product *product) {
    int64_t bytes = thread->worker->launch->shared_bytes;
    for (int piece = 0; piece < product->columns / 8 * PIECES_K; piece++)
        if (simt_piece(product, piece) > bytes - PIECE_BYTES)
            simt_refuse(thread, "a product reads %d bytes at %ld of shared memory, which has %ld",
                        PIECE_BYTES, (long)simt_piece(product, piece), (long)bytes);
}

ON_FIBER static void multiply(Thread *thread, const Product *product, float *sum) {
    const Worker *worker = thread->worker;
    for (int piece = 0; piece < product->columns / 8 * PIECES_K; piece++) {
        int64_t at = simt_piece(product, piece);
        for (int i = 0; i < 2 * ROWS; i++) {
            int r = i / 2, column = thread->self.thread % 4 * 2 + i % 2;
            float b[4];
            memcpy(b, worker->shared + at + column * LINE_BYTES, sizeof b);
            for (int k = 0; k < 4; k++)
                sum[piece / PIECES_K * 4 + i] +=
                    product->row[r][piece % PIECES_K * 4 + k] * rounded(b[k]);
        }
    }
}

ON_FIBER static void finish(Thread *thread, const Product *product) {
    Sum *sum = find_sum(thread, product->c);
    if (memcmp(product->a, product->kept, sizeof product->kept))
        simt_refuse(thread, "thread %d changed registers that a product reads",
                    thread->self.thread);
    if (!is_filled(sum->c, sum->count))
        simt_refuse(thread, "thread %d changed registers that a product sums in",
                    thread->self.thread);
    check_bounds(thread, product);
    if (thread->worker->launch->check) check_product(thread, product);
    multiply(thread, product, sum->value);
    sum->products--;
}

// The other threads run first: who writes to b without meeting this one does so before it is read.
ON_FIBER static void wait_for(Thread *thread, int groups) {
    simt_let_others(thread);
    int kept = 0;
    for (int i = 0; i < thread->products.count; i++) {
        Product product = thread->products.at[i];
        if (product.group < thread->product_group - groups)
            finish(thread, &product);
        else
            thread->products.at[kept++] = product;
    }
    thread->products.count = kept;
    kept = 0;
    for (int i = 0; i < thread->sums.count; i++) {
        Sum *sum = &thread->sums.at[i];
        if (sum->products)
            thread->sums.at[kept++] = *sum;
        else
            memcpy(sum->c, sum->value, sizeof *sum->c * (size_t)sum->count);
    }
    thread->sums.count = kept;
    thread->fenced = kept > 0;
}

ON_FIBER void product_order(SimtThread *self, int32_t what) {
    Thread *thread = (Thread *)self;
    if (what == SIMT_FENCE) thread->fenced = true;
    if (what == SIMT_COMMIT) thread->product_group++;
    if (what == SIMT_SHOW && thread->worker->launch->check) check_shown(thread);
    if (what >= 0) wait_for(thread, what);
}

ON_FIBER void product_end(Thread *thread) {
    if (thread->products.count)
        simt_refuse(thread, "thread %d ends before its products do", thread->self.thread);
}
