/* thread_test.c - the pool, its barrier, and what happens when a thread stops. */
#include "test.h"

#include <pthread.h>
#include <unistd.h>

enum { THREADS = 8, ROUNDS = 200 };

typedef struct {
    int64_t values[THREADS];
    int64_t wrong[THREADS];
    int rounds;
} Shared;

// Each thread writes its cell, then adds up everyone's: right only if the barrier orders them.
static void add_up(void *context, int thread, int threads, Barrier *barrier) {
    Shared *shared = context;
    for (int round = 0; round < shared->rounds; round++) {
        shared->values[thread] = round + thread;
        barrier_wait(barrier, thread);
        int64_t sum = 0;
        for (int i = 0; i < threads; i++) sum += shared->values[i];
        shared->wrong[thread] += sum != (int64_t)round * threads + threads * (threads - 1) / 2;
        barrier_wait(barrier, thread);
    }
}

TEST(a_barrier_orders) {
    for (int threads = 1; threads <= THREADS; threads++) {
        thread_set_count(threads);
        Shared shared = {.rounds = ROUNDS};
        thread_run(add_up, &shared);
        for (int i = 0; i < threads; i++) CHECK_INT(shared.wrong[i], 0);
    }
}

TEST(runs_follow_each_other) {
    for (int i = 0; i < 2000; i++) {
        thread_set_count(1 + i % 3);
        Shared shared = {.rounds = 1};
        thread_run(add_up, &shared);
        for (int j = 0; j < 1 + i % 3; j++) CHECK_INT(shared.wrong[j], 0);
        if (i % 500 == 0) usleep(20000);  // long enough for the workers to fall asleep
    }
}

static void stop_one(void *context, int thread, int threads, Barrier *barrier) {
    int stopping = *(int *)context;
    barrier_wait(barrier, thread);
    if (thread == stopping) fatal("thread %d of %d stops", thread, threads);
    for (int i = 0; i < 3; i++) barrier_wait(barrier, thread);
}

TEST(a_fatal_on_a_thread_is_raised_on_the_caller) {
    for (int stopping = 0; stopping < THREADS; stopping++) {
        thread_set_count(THREADS);
        CHECK_FATAL(thread_run(stop_one, &stopping));
        char wanted[64];
        snprintf(wanted, sizeof wanted, "thread %d of %d stops", stopping, THREADS);
        CHECK_TEXT(error_text(), wanted);
        Shared shared = {.rounds = 3};
        thread_run(add_up, &shared);
        CHECK_INT(shared.wrong[0], 0);
    }
}

TEST(the_call_site_is_kept) {
    thread_set_count(2);
    int stopping = 0;
    here("user.c", 3);
    CHECK_FATAL(thread_run(stop_one, &stopping));
    CHECK_TEXT(error_text(), "user.c:3: thread 0 of 2 stops");
}

static void count_threads(void *context, int thread, int threads, Barrier *barrier) {
    (void)thread;
    (void)barrier;
    *(int *)context = threads;
}

static void run_inside(void *context, int thread, int threads, Barrier *barrier) {
    (void)threads;
    thread_run(count_threads, (int *)context + thread);
    barrier_wait(barrier, thread);
}

TEST(a_run_inside_a_run_is_alone) {
    thread_set_count(4);
    int counts[4] = {0};
    thread_run(run_inside, counts);
    for (int i = 0; i < 4; i++) CHECK_INT(counts[i], 1);
}

static void *run_from_elsewhere(void *context) {
    for (int i = 0; i < 200; i++) thread_run(add_up, context);
    return NULL;
}

TEST(two_callers_take_turns) {
    thread_set_count(3);
    Shared shared[2] = {{.rounds = 2}, {.rounds = 2}};
    pthread_t other;
    CHECK_INT(pthread_create(&other, NULL, run_from_elsewhere, &shared[0]), 0);
    run_from_elsewhere(&shared[1]);
    pthread_join(other, NULL);
    for (int i = 0; i < 3; i++) CHECK_INT(shared[0].wrong[i] + shared[1].wrong[i], 0);
}

TEST(counts_out_of_range_are_fatal) {
    CHECK_FATAL_TEXT(thread_set_count(0), "1 to 256");
    CHECK_FATAL_TEXT(thread_set_count(257), "1 to 256");
}

TEST(shares_cover_the_work_once) {
    for (int64_t count = 0; count < 40; count++)
        for (int threads = 1; threads < 12; threads++) {
            int64_t next = 0, first, last;
            for (int thread = 0; thread < threads; thread++) {
                thread_share(count, thread, threads, &first, &last);
                CHECK_INT(first, next);
                CHECK(last - first == count / threads || last - first == count / threads + 1);
                next = last;
            }
            CHECK_INT(next, count);
        }
    int64_t first, last;
    thread_share(INT64_MAX, 255, 256, &first, &last);
    CHECK_INT(last, INT64_MAX);
}
