/* profile_test.c - counts of whole kernels, held to numbers derived by hand. */
#include "engine/engine.h"
#include "picograd.h"
#include "runtime/runtime.h"
#include "schedule/schedule.h"
#include "test.h"

#include <string.h>

typedef struct {
    int launches, calls;   // of all
    LaunchProfile launch;  // the last
    GpuProfile profile;
    bool named;  // its text has the function
} Told;

static void keep(void *context, const LaunchProfile *launch) {
    Told *told = context;
    told->launches++;
    told->calls += launch->calls;
    told->launch = *launch;
    told->profile = *launch->profile;
    told->named = strstr(launch->source, launch->entry);
}

// Of a function of two tensors of one shape.
static float zeros[1024 * 1024];
static Told profile_of(PgFunctionBody *body, int64_t rows, int64_t columns) {
    Told told = {0};
    if (device_set("simt")) fatal("%s", error_text());
    PgMode mode = pg_mode();
    pg_set_mode(PG_GRAPH);
    pg_scope_begin();
    PgTensor *in[2], *out;
    for (int i = 0; i < 2; i++) in[i] = pg_from_data(PG_F32, PG_SHAPE(rows, columns), zeros);
    PgFunction *function = pg_function(body, NULL, 2, 1);
    engine_profile(keep, &told);
    if (pg_call(function, in, &out)) fatal("%s", error_text());
    engine_profile(NULL, NULL);
    pg_function_free(function);
    pg_scope_end();
    pg_set_mode(mode);
    if (device_set("cpu")) fatal("%s", error_text());
    return told;
}

#define CHECK_COUNT(count, wanted) CHECK_INT((int64_t)(told.profile.counts.count), wanted)

static void sum(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = pg_add(in[0], in[1]);
}

// 16 bytes a lane: a warp asks for 512, four lines, all of whose sectors it takes.
TEST(a_sum_of_4096_elements) {
    Told told = profile_of(sum, 64, 64);
    CHECK_INT(told.launches, 1);
    CHECK_INT(told.launch.calls, 1);
    CHECK_INT(told.profile.blocks * told.profile.threads, 4096 / 4);
    CHECK_COUNT(flops, 4096);
    CHECK_COUNT(loads, 2 * 4096 / 4 / 32);
    CHECK_COUNT(load_lines, 4 * 64);
    CHECK_COUNT(load_sectors, 16 * 64);
    CHECK_COUNT(stores, 32);
    CHECK_COUNT(store_lines, 4 * 32);
    CHECK_COUNT(l2_sectors, 16 * (64 + 32));
    CHECK_COUNT(memory_bytes, 3 * 4 * 4096);
    CHECK_COUNT(shared, 0);
}

static void normalize(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = pg_softmax(in[0], -1);
}

// Each row is read three times and written once; a block finds its row in L1 after the first.
TEST(softmax_of_16_rows_of_256) {
    Told told = profile_of(normalize, 16, 256);
    CHECK_INT(told.launches, 1);
    CHECK_INT(told.profile.blocks, 16);
    CHECK_INT(told.profile.counted, 4);
    CHECK_COUNT(loads, 3 * 4096 / 4 / 32);
    CHECK_COUNT(load_lines, 4 * told.profile.counts.loads);
    CHECK_COUNT(store_lines, 4 * 32);
    CHECK_COUNT(l2_sectors, 2 * 4096 / 8);
    CHECK_COUNT(memory_bytes, 2 * 4 * 4096);
    CHECK_COUNT(wavefronts, told.profile.counts.conflict_free);
}

static void product(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = pg_matmul(in[0], in[1]);
}

static void four_products(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = in[0];
    for (int i = 0; i < 4; i++) out[0] = pg_matmul(out[0], in[1]);
}

TEST(a_kernel_is_told_once) {
    Told told = profile_of(four_products, 64, 64);
    CHECK(told.launches < 4);
    CHECK_INT(told.calls, 4);
}

TEST(a_product_of_64) {
    Told told = profile_of(product, 64, 64);
    CHECK_INT(told.launches, 1);
    CHECK_COUNT(flops, 2 * 64 * 64 * 64);
    CHECK_COUNT(memory_bytes, 3 * 4 * 4096);
    CHECK(told.profile.counts.shared > 0);
    CHECK(told.profile.counts.wavefronts < 1.05 * told.profile.counts.conflict_free);
    CHECK(told.profile.counts.instructions >= 2 * 64 * 64 * 64 / 64);
    CHECK(told.profile.counts.independent > 4);
    CHECK(told.named);
}

// Of 128 blocks some stand for all; each has a row of a's tiles and a column of b's.
TEST(some_blocks_of_a_product) {
    Told told = profile_of(product, 1024, 1024);
    CHECK(told.profile.blocks > told.profile.counted);
    CHECK_COUNT(flops, 2.0 * 1024 * 1024 * 1024);
    CHECK_COUNT(memory_bytes, 3 * 4 * 1024 * 1024);
    CHECK_COUNT(stores * 32 * 16, 4 * 1024 * 1024);
}
