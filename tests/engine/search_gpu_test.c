/* search_gpu_test.c - searches for kernels of GPUs: on simt by the model of a GPU's row, on CUDA (a
 * stand-in for the driver, whose kernels simt runs) by its events. */
#include "../runtime/stand_in.h"
#include "engine/compiled.h"
#include "engine/search.h"
#include "picograd.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 64, MB = 1 << 20 };

static SearchNews last;
static int most;  // candidates; behind that the search is stopped
static char schedule[1 << 13], compiler[16];

static void listen(const SearchNews *news) {
    last = *news;
    snprintf(schedule, sizeof schedule, "%s", news->result.schedule);
    snprintf(compiler, sizeof compiler, "%s", news->result.compiler);
}
static bool at_limit(void) { return last.measured > most; }

static void product(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    out[0] = pg_matmul(in[0], in[1]);
}

// Compiles and runs a b on this device; a[i][k] = i + k, b is 2 on its diagonal.
static void run(const char *device, const Search *how) {
    static float a[N * N], b[N * N];
    PgTensor *out;
    for (int i = 0; i < N * N; i++) a[i] = (float)(i / N + i % N), b[i] = i / N == i % N ? 2 : 0;
    if (pg_set_device(device)) fatal("%s", pg_error());
    last = (SearchNews){0};
    pg_set_mode(PG_GRAPH);
    pg_scope_begin();
    engine_search(how);
    PgFunction *function = pg_function(product, NULL, 2, 1);
    PgTensor *in[2] = {pg_from_data(PG_F32, PG_SHAPE(N, N), a),
                       pg_from_data(PG_F32, PG_SHAPE(N, N), b)};
    CHECK_INT(pg_call(function, in, &out), 0);
    engine_search(NULL);
    for (int i = 0; i < N; i += 7)
        for (int j = 0; j < N; j += 5)
            CHECK_NEAR(pg_item(pg_select(pg_select(out, 0, i), 0, j)), 2.0 * (i + j), 0);
    pg_function_free(function);
    pg_scope_end();
    CHECK_INT(pg_set_device("cpu"), 0);
}

// The heuristic's tile of 64 x 64 is one block; an H100 has room for more, and the model knows it.
TEST(on_simt_the_model_decides) {
    stand_in(100 * MB);  // for its cache folder
#ifndef PG_HAVE_SQLITE
    SKIP("this build has no SQLite, in which results are kept");
#endif
    most = 40;
    Search how = {.width = 2, .stopped = at_limit, .tell = listen};
    run("simt", &how);
    CHECK(last.done && last.measured > 8 && last.refused > 0);
    CHECK_TEXT(compiler, "the model");
    CHECK(last.result.best > 0 && last.result.best < 0.8 * last.result.heuristic);
    CHECK_INT(tuned_count(), 1);
    Search again = how;
    char found[sizeof schedule];
    memcpy(found, schedule, sizeof found);
    most = 0;  // so nothing new is tried
    run("simt", &again);
    CHECK_TEXT(schedule, found);
    setenv("PG_SIMT_GPU", "rtx4090", 1);  // another GPU, so another place
    most = 1;
    run("simt", &how);
    CHECK_INT(tuned_count(), 2);
    unsetenv("PG_SIMT_GPU");
}

TEST(on_cuda_its_clock_decides) {
    StandInCounts *counts = stand_in(100 * MB);
#ifndef PG_HAVE_SQLITE
    SKIP("this build has no SQLite, in which results are kept");
#endif
    most = 4;
    int64_t launches = counts->launches;
    Search how = {.width = 1, .stopped = at_limit, .tell = listen};
    run("cuda", &how);
    CHECK(last.done && last.measured > 1);
    CHECK_TEXT(compiler, "nvrtc");
    CHECK(last.result.best > 0 && last.result.best < INFINITY);
    CHECK(counts->launches - launches > 4 * last.measured);
}
