/* buffer_test.c - ids, contents, reference counts, small and mapped memory, threads. */
#include "runtime/runtime.h"
#include "test.h"

#include <string.h>

static bool all_zero(const uint8_t *at, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if (at[i]) return false;
    return true;
}

TEST(memory_is_zero_aligned_and_readable_past_its_end) {
    static const size_t sizes[] = {0, 1, 63, 64, 100, 4096, 100000, 1 << 20, 5 << 20};
    for (int round = 0; round < 3; round++) {  // later rounds get used memory
        for (int i = 0; i < COUNT_OF(sizes); i++) {
            int64_t id = buffer_new(sizes[i]);
            uint8_t *at = buffer_data(id);
            CHECK_INT((int64_t)((uintptr_t)at % 64), 0);
            CHECK_INT((int64_t)buffer_bytes(id), (int64_t)sizes[i]);
            CHECK(all_zero(at, sizes[i] + 64));
            memset(at, 0xff, sizes[i]);
            buffer_release(id);
        }
    }
}

TEST(ids_are_never_reused) {
    int64_t first = buffer_new(10);
    buffer_release(first);
    for (int i = 0; i < 10000; i++) {
        int64_t id = buffer_new(10);
        CHECK(id != first && id > 0);
        buffer_release(id);
    }
    CHECK_FATAL_TEXT(buffer_data(first), "not alive");
    CHECK_FATAL_TEXT(buffer_release(first), "not alive");
    CHECK_FATAL_TEXT(buffer_data(0), "not alive");
    CHECK_FATAL_TEXT(buffer_data(-1), "not alive");
    CHECK_FATAL_TEXT(buffer_data(INT64_MAX), "not alive");
}

TEST(many_at_a_time) {
    enum { COUNT = 10000 };
    static int64_t id[COUNT];
    int64_t before = buffer_live_bytes();
    for (int i = 0; i < COUNT; i++) {
        id[i] = buffer_new(sizeof(int));
        *(int *)buffer_data(id[i]) = i;
    }
    CHECK_INT(buffer_live_bytes() - before, COUNT * (int64_t)sizeof(int));
    for (int i = 0; i < COUNT; i++) CHECK_INT(*(int *)buffer_data(id[i]), i);
    for (int i = 0; i < COUNT; i++) buffer_release(id[i]);
    CHECK_INT(buffer_live_bytes(), before);
}

TEST(the_last_release_frees) {
    int64_t id = buffer_new(8);
    buffer_retain(id);
    buffer_release(id);
    CHECK(buffer_data(id));
    buffer_release(id);
    CHECK_FATAL_TEXT(buffer_retain(id), "not alive");
}

TEST(versions_advance) {
    int64_t id = buffer_new(8);
    CHECK_INT(buffer_version(id), 0);
    CHECK_INT(buffer_advance(id), 1);
    CHECK_INT(buffer_advance(id), 2);
    CHECK_INT(buffer_version(id), 2);
    buffer_release(id);
}

static void count_release(void *owner) { ++*(int *)owner; }

TEST(wrapped_memory_goes_back_to_its_owner) {
    int released = 0;
    char bytes[5] = "abcd";
    int64_t before = buffer_live_bytes();
    int64_t id = buffer_wrap(bytes + 1, 3, count_release, &released);
    CHECK(buffer_data(id) == bytes + 1);
    CHECK_INT(buffer_live_bytes(), before);
    buffer_release(id);
    CHECK_INT(released, 1);
    CHECK_TEXT(bytes, "abcd");
    buffer_release(buffer_wrap(bytes, 3, NULL, NULL));
}

TEST(no_memory_is_fatal_with_sizes) {
    CHECK_FATAL_TEXT(buffer_new((size_t)1 << 60), "1152921504606846976 bytes");
    CHECK_FATAL_TEXT(buffer_new(SIZE_MAX), "out of memory");
}

// Each thread makes, fills, checks and releases its own, and keeps one shared buffer alive.
static void churn(void *context, int thread, int threads, Barrier *barrier) {
    int64_t shared = *(const int64_t *)context, id[16];
    (void)threads;
    for (int round = 0; round < 500; round++) {
        buffer_retain(shared);
        for (int i = 0; i < 16; i++) {
            size_t bytes = (size_t)(1 + (round * 37 + i * 1009) % 9000);
            id[i] = buffer_new(bytes);
            if (!all_zero(buffer_data(id[i]), bytes)) fatal("not zero");
            memset(buffer_data(id[i]), thread + 1, bytes);
        }
        for (int i = 0; i < 16; i++) {
            const uint8_t *at = buffer_data(id[i]);
            if (at[0] != thread + 1 || at[buffer_bytes(id[i]) - 1] != thread + 1)
                fatal("two threads share a buffer");
            buffer_release(id[i]);
        }
        buffer_release(shared);
    }
    barrier_wait(barrier, thread);
}

TEST(threads) {
    int64_t before = buffer_live_bytes(), shared = buffer_new(64);
    thread_set_count(4);
    thread_run(churn, &shared);
    buffer_release(shared);
    CHECK_INT(buffer_live_bytes(), before);
}
