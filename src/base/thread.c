/* thread.c - a pool of threads that run one function together.
 * In: a body and its context.  Out: the body has run once on each of thread_count() threads.
 * Invariants: workers live as long as the process and sleep between runs; one run at a time; a
 * fatal on any thread frees the others from the barrier and is raised on the caller at the end.
 *   thread_run(body, &context);    // body(&context, 0, 4, barrier) here, 1 to 3 on workers     */
#define _GNU_SOURCE
#include "base/base.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    THREADS_LARGEST = 256,
    SPINS = 2000,  // pauses of 40 to 140 cycles: above a wait inside a step, below a time slice
    YIELDS = 50,
};

// A number whose change threads wait for. A change costs a system call only if one of them sleeps.
typedef struct {
    _Alignas(64) atomic_uint value;
    atomic_int sleepers;
} Gate;

struct Barrier {
    _Alignas(64) _Atomic int64_t taken[BARRIER_COUNTERS];
    int threads;
    atomic_bool broken;               // a thread has stopped and will never arrive
    _Alignas(64) atomic_int arrived;  // on a line of its own: waiters read the gate's
    Gate gate;
};

static struct {
    pthread_mutex_t lock;  // held for a whole run
    atomic_int wanted;     // threads of the next run; 0 until someone asks
    atomic_int spins;      // 0 if threads outnumber cores: spinning would delay who is waited for
    int started;           // threads there are, the caller's among them
    ThreadBody *body;
    void *context;
    Barrier barrier;
    atomic_bool failed;
    char message[ERROR_SIZE];  // of the first thread that failed
    atomic_int running;        // workers that are not done
    Gate done;
    Gate start[THREADS_LARGEST];  // a gate each, so that those left out of a run sleep through it
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .started = 1};

static _Thread_local bool inside;  // a run

static void pause_a_little(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

// Sequentially consistent on purpose: either the sleeper sees the new value or we see the sleeper.
static void gate_change(Gate *gate) {
    atomic_fetch_add(&gate->value, 1);
    if (atomic_load(&gate->sleepers))
        syscall(SYS_futex, &gate->value, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void gate_wait(Gate *gate, unsigned seen) {
    int spins = atomic_load_explicit(&pool.spins, memory_order_relaxed);
    for (int i = 0; i < spins + YIELDS; i++) {
        if (atomic_load_explicit(&gate->value, memory_order_acquire) != seen) return;
        if (i < spins)
            pause_a_little();
        else
            sched_yield();
    }
    atomic_fetch_add(&gate->sleepers, 1);
    while (atomic_load(&gate->value) == seen)
        syscall(SYS_futex, &gate->value, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    atomic_fetch_sub(&gate->sleepers, 1);
}

static void reset_counters(Barrier *barrier) {
    for (int i = 0; i < BARRIER_COUNTERS; i++)
        atomic_store_explicit(&barrier->taken[i], 0, memory_order_relaxed);
}

// Those who wait and those who come later leave by a fatal, whose message nobody reads.
static void barrier_break(Barrier *barrier) {
    atomic_store(&barrier->broken, true);
    gate_change(&barrier->gate);
}

// `thread` is there for barriers with a line per thread; this one counts and does not ask who came.
void barrier_wait(Barrier *barrier, int thread) {
    (void)thread;
    if (barrier->threads == 1) return;
    // The gate is read before `broken`: a break that we miss here changes the gate that we wait at.
    unsigned seen = atomic_load(&barrier->gate.value);
    if (atomic_load(&barrier->broken)) fatal("stopped, since another thread was");
    if (atomic_fetch_add(&barrier->arrived, 1) + 1 == barrier->threads) {
        atomic_store_explicit(&barrier->arrived, 0, memory_order_relaxed);
        reset_counters(barrier);
        gate_change(&barrier->gate);
        return;
    }
    gate_wait(&barrier->gate, seen);
    if (atomic_load_explicit(&barrier->broken, memory_order_relaxed))
        fatal("stopped, since another thread was");
}

static void call_body(void *thread) {
    pool.body(pool.context, *(int *)thread, pool.barrier.threads, &pool.barrier);
}

static void run_body(int thread) {
    inside = true;
    if (try_call(call_body, &thread)) {
        if (!atomic_exchange(&pool.failed, true)) strcpy(pool.message, error_text());
        barrier_break(&pool.barrier);
    }
    inside = false;
}

static void *worker(void *argument) {
    int thread = (int)(intptr_t)argument;
    for (unsigned seen = 0;; seen++) {
        gate_wait(&pool.start[thread], seen);
        run_body(thread);
        if (atomic_fetch_sub(&pool.running, 1) == 1) gate_change(&pool.done);
    }
    return NULL;
}

// Workers take no signals: the program's handlers run on the program's threads.
static int start_workers(int threads) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = 0;
    for (; pool.started < threads && !error; pool.started += !error) {
        pthread_t id;
        error = pthread_create(&id, NULL, worker, (void *)(intptr_t)pool.started);
        if (!error) pthread_detach(id);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

// The cores that this process may use: its affinity, and a container's share of processor time.
static int count_cores(void) {
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (!file) return count;
    long quota, period;  // microseconds; "max 100000" where there is no limit
    if (fscanf(file, "%ld %ld", &quota, &period) == 2 && quota > 0 && period > 0)
        count = (int)min_i64(count, (quota - 1) / period + 1);
    fclose(file);
    return count;
}

static int cores(void) {
    static atomic_int known;
    if (!known) known = count_cores();
    return known;
}

void thread_set_count(int threads) {
    if (threads < 1 || threads > THREADS_LARGEST)
        fatal("cannot run on %d threads. Hint: 1 to %d", threads, THREADS_LARGEST);
    pool.wanted = threads;
}

int thread_count(void) {
    if (!pool.wanted) {
        int64_t threads = env_int("THREADS", min_i64(cores(), THREADS_LARGEST));
        thread_set_count((int)min_i64(max_i64(threads, 0), INT_MAX));
    }
    return pool.wanted;
}

void thread_run(ThreadBody *body, void *context) {
    int threads = inside ? 1 : thread_count();
    if (threads == 1) {
        Barrier alone = {.threads = 1};
        body(context, 0, 1, &alone);
        return;
    }
    pthread_mutex_lock(&pool.lock);
    int error = start_workers(threads);
    if (error) {
        pthread_mutex_unlock(&pool.lock);
        fatal("cannot start %d threads: %s. Hint: set PG_THREADS lower", threads, strerror(error));
    }
    pool.body = body;
    pool.context = context;
    pool.barrier.threads = threads;
    atomic_store(&pool.barrier.broken, false);
    atomic_store(&pool.barrier.arrived, 0);
    reset_counters(&pool.barrier);
    atomic_store(&pool.failed, false);
    atomic_store(&pool.running, threads - 1);
    atomic_store(&pool.spins, threads > cores() ? 0 : SPINS);
    unsigned seen = atomic_load(&pool.done.value);
    for (int thread = 1; thread < threads; thread++) gate_change(&pool.start[thread]);
    run_body(0);
    gate_wait(&pool.done, seen);

    char message[ERROR_SIZE];
    bool failed = atomic_load(&pool.failed);
    if (failed) strcpy(message, pool.message);
    pthread_mutex_unlock(&pool.lock);
    if (failed) fatal_again(message);
}

void thread_share(int64_t count, int thread, int threads, int64_t *first, int64_t *last) {
    int64_t each = count / threads, longer = count % threads;  // the first `longer` get one more
    *first = each * thread + min_i64(thread, longer);
    *last = *first + each + (thread < longer);
}
