/* simt_bulk_test.c - bulk copies and their barriers on simt: what they do, late, and what is found
 * wrong in how they are used. */
#include "codegen/codegen.h"
#include "simt_kernel.h"

#include <math.h>
#include <string.h>

enum { N = 1024 };
static float a[N + 4], c[N];

// Of two warps, with a barrier at 0 and 4 KB at 128.
#define HEAD                                 \
    "    i64 *came = (i64 *)shared_at(0);\n" \
    "    f32 *at = (f32 *)shared_at(128);\n" \
    "    const i32 thread = thread_index();\n"
#define INIT                                \
    HEAD "    if (thread == 0) {\n"         \
         "        barrier_init(came, 1);\n" \
         "        barrier_fence();\n"       \
         "    }\n"                          \
         "    barrier();\n"

static int launch(SimtFunction *function) {
    const float *from = (float *)(((uintptr_t)a + 15) / 16 * 16), *none = NULL;
    float *to = c;
    int64_t n = N;
    void *param[] = {&from, &none, &to, &n};
    for (int i = 0; i < N; i++) ((float *)(uintptr_t)from)[i] = (float)i;
    return simt_launch(function, 1, 64, 128 + 4 * N, param);
}

static int run_checked(const char *body, SimtCounts *counts) {
    const float *from = (float *)(((uintptr_t)a + 15) / 16 * 16), *none = NULL;
    float *to = c;
    int64_t n = N;
    void *param[] = {&from, &none, &to, &n};
    SimtRange range[] = {{"a", from, 4 * N, 4}, {"c", c, 4 * N, 4}};
    return simt_check(simt_checked(body), 1, 64, 128 + 4 * N, param, 2, range, counts);
}

static void check_wrong(const char *body, const char *part) {
    CHECK_FAIL(launch(simt_kernel(body)), part);
}

static void check_race(const char *body, const char *part) {
    SimtCounts counts;
    CHECK_FAIL(run_checked(body, &counts), part);
}

// Its destination holds NaNs until somebody waits for it.
TEST(a_bulk_copy_happens_at_the_wait) {
    SimtFunction *late = simt_kernel(INIT "    if (thread == 0) {\n"
                                          "        copy_bulk(at, a, 4096, came);\n"
                                          "        barrier_expect(came, 4096);\n"
                                          "        c[0] = at[5];\n"
                                          "        c[2] = at[1023];\n"
                                          "    }\n"
                                          "    barrier_wait(came, 0);\n"
                                          "    if (thread == 63) c[1] = at[5];\n");
    CHECK_INT(launch(late), 0);
    CHECK(isnan(c[0]) && isnan(c[2]) && c[1] == 5);
}

// Who waits by the wrong parity goes on at once.
TEST(a_wait_for_the_phase_before_is_none) {
    SimtFunction *wrong = simt_kernel(INIT "    if (thread == 0) {\n"
                                           "        copy_bulk(at, a, 64, came);\n"
                                           "        barrier_expect(came, 64);\n"
                                           "        barrier_wait(came, 1);\n"
                                           "        c[0] = at[5];\n"
                                           "    }\n"
                                           "    barrier_wait(came, 0);\n");
    CHECK_INT(launch(wrong), 0);
    CHECK(isnan(c[0]));
}

TEST(what_the_copy_engine_refuses) {
    check_wrong(INIT "    if (thread == 0) copy_bulk(at + 1, a, 16, came);",
                "thread 0 copies 16 bytes in bulk. Hint: a multiple of 16, from and to where that");
    check_wrong(INIT "    if (thread == 0) copy_bulk(at, a + 2, 16, came);", "copies 16 bytes");
    check_wrong(INIT "    if (thread == 0) copy_bulk(at, a, 24, came);", "copies 24 bytes");
    check_wrong(INIT "    if (thread == 0) copy_bulk(at, a, 0, came);", "copies 0 bytes");
    check_wrong(INIT "    if (thread == 0) copy_bulk(at + 4, a, 4096, came);",
                "thread 0 copies 4096 bytes to 144, of 4224 bytes of shared memory");
    check_wrong(HEAD "    if (thread == 0) barrier_init(came, 1);\n    barrier();\n"
                     "    if (thread == 1) copy_bulk(at, a, 16, came);",
                "thread 1 copies in bulk, and no fence is behind its barrier's init");
}

TEST(barriers_that_are_none) {
    check_wrong(HEAD "    if (thread == 3) barrier_wait(came, 0);",
                "thread 3 uses a barrier at 0, which nobody initialised");
    check_wrong(INIT "    if (thread == 3) barrier_expect(came + 1, 0);", "uses a barrier at 8");
    check_wrong(HEAD "    if (thread == 3) barrier_init((i64 *)shared_at(4), 1);",
                "thread 3 initialises a barrier at 4 for 1 threads. Hint: 8 bytes");
    check_wrong(HEAD "    if (thread == 3) barrier_init(came, (i32)n - 1024);", "for 0 threads");
    check_wrong(HEAD "    if (thread == 3) barrier_init((i64 *)shared_at(4224), 1);", "at 4224");
    check_wrong(INIT "    if (thread == 3) barrier_init(came, 1);",
                "thread 3 initialises the barrier at 0 once more");
}

TEST(bytes_that_do_not_come) {
    check_wrong(
        INIT "    if (thread == 0) {\n        copy_bulk(at, a, 64, came);\n"
             "        barrier_expect(came, 128);\n    }\n    barrier_wait(came, 0);",
        "threads 0 to 63 at a barrier for bytes: the barrier at 0 waits for 0 to arrive and "
        "128 bytes to come");
    check_wrong(INIT "    if (thread == 0) {\n        copy_bulk(at, a, 64, came);\n"
                     "        barrier_expect(came, 48);\n    }\n    barrier_wait(came, 0);",
                "the barrier at 0 expects 48 bytes, and 64 are copied");
    check_wrong(INIT "    barrier_wait(came, 0);",
                "the barrier at 0 waits for 1 to arrive and 0 bytes to come");
    check_wrong(INIT "    if (thread == 0) {\n        copy_bulk(at, a, 64, came);\n"
                     "        barrier_expect(came, 64);\n    }\n    barrier();\n"
                     "    if (thread == 1) barrier_expect(came, 0);",
                "thread 1 arrives at the barrier at 0, where all 1 have arrived");
    check_wrong(INIT "    if (thread == 0) {\n        copy_bulk(at, a, 64, came);\n"
                     "        barrier_expect(came, 64);\n    }",
                "nobody waits for the bulk copy of 64 bytes to 128");
}

// ---- checked -----------------------------------------------------------------------------------

#define COPY_ALL                                   \
    INIT "    if (thread == 0) {\n"                \
         "        copy_bulk(at, a, 4096, came);\n" \
         "        barrier_expect(came, 4096);\n"   \
         "    }\n"
#define READ_ALL "    for (i32 i = 0; i < 16; i++) c[64 * i + thread] = at[64 * i + thread];\n"

// One request: 4 KB are 32 lines of 4 sectors, and 32 wavefronts of shared memory.
TEST(a_bulk_copy_is_counted_as_lines) {
    SimtCounts counts;
    CHECK_INT(
        run_checked(COPY_ALL "    barrier_wait(came, 0);\n    barrier();\n" READ_ALL, &counts), 0);
    for (int i = 0; i < N; i++) CHECK(c[i] == (float)i);
    CHECK_INT(counts.copies, 1);
    CHECK_INT(counts.loads, 1);
    CHECK_INT(counts.load_lines, 32);
    CHECK_INT(counts.load_sectors, 128);
    CHECK_INT(counts.load_bytes, 4096);
    CHECK_INT(counts.memory_bytes, 2 * 4096);
    CHECK_INT(counts.shared, 1 + 2 * 16);
    CHECK_INT(counts.wavefronts, 32 + 2 * 16);
    CHECK_INT(counts.barriers, 2 * 2);
}

TEST(races_with_a_bulk_copy) {
    check_race(COPY_ALL "    if (thread == 9) c[0] = at[5];\n    barrier_wait(came, 0);\n",
               "thread 9 reads 4 bytes of shared memory at 148, which thread 0 still copies to");
    check_race(INIT "    at[thread] = 1;\n"
                    "    if (thread == 0) {\n        copy_bulk(at, a, 4096, came);\n"
                    "        barrier_expect(came, 4096);\n    }\n    barrier_wait(came, 0);",
               "thread 0 writes");
    check_race(HEAD "    if (thread == 0) {\n        barrier_init(came, 1);\n"
                    "        barrier_fence();\n        barrier_expect(came, 0);\n    }\n"
                    "    warp_barrier();\n    barrier_wait(came, 0);",
               "of shared memory at 0, which thread 0 wrote, with no barrier between");
    check_race(INIT "    if (thread == 0) copy_bulk(at, a + 1008, 128, came);",
               "reads 16 bytes at 4096 of a, which has 4096 bytes");
}
