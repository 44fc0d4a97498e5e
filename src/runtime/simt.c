/* simt.c - a GPU on the CPU: runs kernels that were written for CUDA and compiled as C.
 * In: a function of a rendered text, a grid, its arguments.  Out: its effects, or what was wrong.
 * Invariants: a block is run by one thread of the pool; its CUDA threads are fibers, which change
 * only where they meet or wait for copies; the order in which they start and go on is random, the
 * same for the same PG_SIMT_SEED and block; an asynchronous copy happens as late as it may, and its
 * destination holds NaNs until then, as does shared memory that nothing was written to.
 *   simt_launch(function, 4096 / 256, 256, 0, (void *[]){&a, &c, &n})                            */
#define _GNU_SOURCE
#include "runtime/simt.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifndef __x86_64__
#error "simt.c changes fibers with x86-64's instructions"
#endif

enum {
    PAGE_BYTES = 4096,
    // A stack is two of the 65530 mappings that a process may have.
    WORKERS_MAX = 16,
};

static const char *const place_text[PLACES] = {
    "nowhere",  "a barrier",        "a warp's barrier",        "a shuffle",
    "a ballot", "a matrix product", "a product of four warps", "a barrier for bytes",
    "the end"};

static struct {
    pthread_mutex_t lock;
    Worker *free;
} workers = {.lock = PTHREAD_MUTEX_INITIALIZER};

// ---- fibers ------------------------------------------------------------------------------------

// Keeps what a call must keep (System V ABI for x86-64, 3.2.1) on this stack and this stack's
// pointer in *from, and goes on where `to` was kept. The control words of floats are all the same.
// Outside of C, so that no compiler concludes which registers a call of it leaves alone.
void simt_change_fiber(void **from, void *to);
__asm__(".text\n"
        ".globl simt_change_fiber\n"
        ".hidden simt_change_fiber\n"
        ".type simt_change_fiber, @function\n"
        "simt_change_fiber:\n"
        "push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
        "mov %rsp, (%rdi)\n mov %rsi, %rsp\n"
        "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret\n"
        ".size simt_change_fiber, . - simt_change_fiber\n");

// A stack's last word: whose it is. The top is of the stack that runs.
static Thread **stack_owner(uintptr_t at) {
    return (Thread **)((at | (STACK_BYTES - 1)) + 1 - sizeof(Thread *));
}

PRINTF(2, 3) static void stop(Worker *worker, const char *format, ...) {
    if (worker->stopped) return;
    worker->stopped = true;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(worker->message, sizeof worker->message, format, arguments);
    va_end(arguments);
}

static char *stack_take(Worker *worker) {
    if (worker->free_count) return worker->free_stack[--worker->free_count];
    char *stack = worker->stacks + (size_t)worker->stacks_made * STACK_BYTES;
    if (mprotect(stack + PAGE_BYTES, STACK_BYTES - PAGE_BYTES, PROT_READ | PROT_WRITE)) {
        stop(worker, "cannot map a fiber's stack: %s", strerror(errno));
        return NULL;
    }
    worker->stacks_made++;
    return stack;
}

static Thread *next_unstarted(Worker *worker) {
    Thread *thread = &worker->thread[worker->next_start];
    worker->started++;
    worker->next_start += worker->step;
    if (worker->next_start >= worker->launch->threads)
        worker->next_start -= worker->launch->threads;
    thread->where = RUNS;
    thread->group = thread->copies.count = 0;
    thread->waits_for = NULL;
    thread->products.count = thread->sums.count = thread->product_group = thread->fenced = 0;
    return thread;
}

static bool some_unstarted(const Worker *worker) {
    return worker->started < worker->launch->threads;
}

static void fiber_main(void);

// A thread on a stack of its own: simt_change_fiber enters it as if it had left from fiber_main's
// first instruction: six registers, that address, and a stack that is aligned as after a call. The
// stacks' tops lie apart, or all would be in the same few sets of the caches.
static Thread *start_fiber(Worker *worker) {
    char *stack = stack_take(worker);
    if (!stack) return NULL;
    Thread *thread = next_unstarted(worker);
    *stack_owner((uintptr_t)stack) = thread;
    size_t number = (size_t)(stack - worker->stacks) / STACK_BYTES;
    void **top = (void **)(stack + STACK_BYTES - 32 - number * 5 * 64 % (STACK_BYTES / 8));
    *top = (void *)(uintptr_t)fiber_main;
    thread->sp = memset(top - 6, 0, 6 * sizeof *top);
    return thread;
}

// Those that may go on come first: they have stacks, and their warp's are in the caches.
static Thread *next_thread(Worker *worker, bool rather_new) {
    if (worker->stopped) return NULL;
    if (some_unstarted(worker) && (rather_new || !worker->ready_count)) return start_fiber(worker);
    if (!worker->ready_count) return NULL;
    Thread *thread = &worker->thread[worker->ready[worker->ready_at]];
    worker->ready_at = (worker->ready_at + 1) % BLOCK_THREADS_MAX;
    worker->ready_count--;
    return thread;
}

// Another fiber runs, until somebody changes to this one; home when none can.
static void leave(Worker *worker, void **sp, const Thread *self, bool rather_new) {
    Thread *next = next_thread(worker, rather_new);
    if (next && next == self) return;
    simt_change_fiber(sp, next ? next->sp : worker->home);
}

ON_FIBER _Noreturn void simt_refuse(Thread *thread, const char *format, ...) {
    char message[ERROR_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    stop(thread->worker, "%s", message);
    leave(thread->worker, &thread->sp, thread, false);
    __builtin_unreachable();  // nobody changes to a fiber after a stop
}

// Threads that come to their end without a wait run one after another on one fiber.
ON_FIBER static void fiber_main(void) {
    Thread **owner = stack_owner((uintptr_t)__builtin_frame_address(0));
    Worker *worker = (*owner)->worker;
    for (void *nowhere;;) {
        Thread *thread = *owner;
        worker->launch->function(&thread->self, worker->launch->param);
        product_end(thread);
        thread->where = ENDED;
        worker->ended++;
        if (!worker->ready_count && some_unstarted(worker)) {
            *owner = next_unstarted(worker);
            continue;
        }
        worker->free_stack[worker->free_count++] = (char *)(owner + 1) - STACK_BYTES;
        leave(worker, &nowhere, NULL, false);
    }
}

// ---- an order ----------------------------------------------------------------------------------

// SplitMix64 (Steele, Lea, Flood 2014).
static uint64_t random_next(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static int common_divisor(int a, int b) { return b ? common_divisor(b, a % b) : a; }

// One of the orders first, first + step, first + 2 step ... of 0 to count - 1: forwards, backwards,
// and with neighbours apart, for less than it takes to shuffle them.
static void choose_order(Worker *worker, int count, int *first, int *step) {
    *first = (int)(random_next(&worker->random) % (unsigned)count);
    *step = 1 + (int)(random_next(&worker->random) % (unsigned)count);
    while (common_divisor(*step, count) != 1) --*step;
}

static void ready_add(Worker *worker, int number) {
    worker->ready[(worker->ready_at + worker->ready_count++) % BLOCK_THREADS_MAX] = number;
}

// Threads that met go on before others do.
static void release(Worker *worker, int from, int count) {
    int first, step;
    choose_order(worker, count, &first, &step);
    worker->ready_at = (worker->ready_at + BLOCK_THREADS_MAX - count) % BLOCK_THREADS_MAX;
    worker->ready_count += count;
    for (int i = 0, at = first; i < count; i++, at = (at + step) % count) {
        worker->thread[from + at].where = RUNS;
        worker->ready[(worker->ready_at + i) % BLOCK_THREADS_MAX] = from + at;
    }
}

// ---- what kernels call -------------------------------------------------------------------------

static void met(Thread *last, int where, int first, int count) {
    if (last->worker->launch->check) check_met(last, where, first, count);
    release(last->worker, first, count);
}

static void arrive(Thread *thread, int where) {
    Worker *worker = thread->worker;
    if (where == BARRIER) {
        if (++worker->at_barrier < worker->launch->threads) return;
        worker->at_barrier = 0;
        met(thread, where, 0, worker->launch->threads);
        return;
    }
    if (where == WARPGROUP) {
        int group = thread->self.thread / GROUP_THREADS;
        if (++worker->in_group[group] < GROUP_THREADS) return;
        worker->in_group[group] = 0;
        met(thread, where, group * GROUP_THREADS, GROUP_THREADS);
        return;
    }
    int warp = thread->self.thread / WARP_THREADS;
    if (!worker->in_warp[warp]) worker->warp_where[warp] = where;
    if (worker->warp_where[warp] != where) {  // this thread waits for what the others are not at
        worker->in_warp[warp] = 0;
        return;
    }
    if (++worker->in_warp[warp] < WARP_THREADS) return;
    worker->in_warp[warp] = 0;
    met(thread, where, warp * WARP_THREADS, WARP_THREADS);
}

static const SimtLane *meet(SimtThread *self, int32_t where) {
    Thread *thread = (Thread *)self;
    Worker *worker = thread->worker;
    const SimtLane *given = &worker->lane[thread->turn][self->thread / WARP_THREADS * WARP_THREADS];
    thread->turn ^= 1;
    self->give = &worker->lane[thread->turn][self->thread];
    thread->where = where;
    thread->site = __builtin_return_address(0);
    arrive(thread, where);
    leave(worker, &thread->sp, thread, false);
    return given;
}

void simt_fill(void *at, size_t bytes, uint32_t value) {
    for (size_t i = 0; i + 4 <= bytes; i += 4) memcpy((char *)at + i, &value, 4);
}

ON_FIBER static void copy(SimtThread *self, void *to, const void *from, int32_t bytes,
                          int32_t there) {
    Thread *thread = (Thread *)self;
    Worker *worker = thread->worker;
    uintptr_t places = (uintptr_t)to | (there ? (uintptr_t)from : 0);
    int64_t at = (char *)to - self->shared;
    if (places % bytes)
        simt_refuse(thread, "thread %d copies %d bytes from or to where they are not aligned",
                    self->thread, bytes);
    if (at < 0 || at > worker->launch->shared_bytes - bytes)
        simt_refuse(thread, "thread %d copies %d bytes to %ld, of %ld bytes of shared memory",
                    self->thread, bytes, (long)at, (long)worker->launch->shared_bytes);
    Copy one = {to, from, bytes, there, thread->group};
    if (worker->launch->check) check_copy(thread, &one, __builtin_return_address(0));
    simt_fill(to, (size_t)bytes, SIMT_UNDER_WAY);
    *list_add(worker->arena, &thread->copies) = one;
}

static void commit(SimtThread *self) { ((Thread *)self)->group++; }

static void finish_copy(Thread *thread, const Copy *one) {
    if (one->there)
        memcpy(one->to, one->from, one->bytes);
    else
        memset(one->to, 0, one->bytes);
    if (thread->worker->launch->check) check_copied(thread, one);
}

void simt_let_others(Thread *thread) {
    ready_add(thread->worker, thread->self.thread);
    leave(thread->worker, &thread->sp, thread, true);
}

void simt_wait_for(Thread *thread, const void *arrival) {
    thread->where = ARRIVAL;
    thread->waits_for = arrival;
    leave(thread->worker, &thread->sp, thread, true);
}

void simt_wake(Thread *thread) {
    thread->where = RUNS;
    thread->waits_for = NULL;
    ready_add(thread->worker, thread->self.thread);
}

// The other threads run first: who relies on this one's copies without meeting it sees what is
// there before them.
ON_FIBER static void settle(SimtThread *self, int32_t groups) {
    Thread *thread = (Thread *)self;
    simt_let_others(thread);
    int kept = 0;
    for (int i = 0; i < thread->copies.count; i++) {
        Copy one = thread->copies.at[i];
        if (one.group < thread->group - groups)
            finish_copy(thread, &one);
        else
            thread->copies.at[kept++] = one;
    }
    thread->copies.count = kept;
}

// ---- a block -----------------------------------------------------------------------------------

// "threads 0 to 31 at a barrier, thread 32 at a ballot, and others"
static void stop_divergent(Worker *worker) {
    enum { SHOWN = 8 };
    int threads = worker->launch->threads, shown = 0;
    Text text = text_new(worker->arena);
    for (int i = 0, end; i < threads && shown < SHOWN; i = end, shown++) {
        int where = worker->thread[i].where;
        for (end = i + 1; end < threads && worker->thread[end].where == where; end++) continue;
        if (end - i > 1)
            text_add(&text, "threads %d to %d at %s", i, end - 1, place_text[where]);
        else
            text_add(&text, "thread %d at %s", i, place_text[where]);
        if (end < threads) text_add(&text, shown + 1 < SHOWN ? ", " : ", and others");
    }
    stop(worker, "not all threads meet: %s%s", text.at, bulk_stuck(worker));
}

static void run_block(Worker *worker, int64_t block) {
    const Launch *launch = worker->launch;
    uint64_t place[2] = {launch->seed, (uint64_t)block};
    worker->random = hash_bytes(place, sizeof place, 0);
    choose_order(worker, launch->threads, &worker->next_start, &worker->step);
    worker->started = worker->ended = worker->ready_count = worker->at_barrier = 0;
    memset(worker->in_warp, 0, sizeof worker->in_warp);
    memset(worker->in_group, 0, sizeof worker->in_group);
    for (int i = 0; i < launch->threads; i++) worker->thread[i].self.block = (int32_t)block;
    simt_fill(worker->shared, (size_t)launch->shared_bytes, SIMT_UNWRITTEN);
    bulk_begin(worker);
    if (launch->check) check_block(launch->check, worker, block);
    leave(worker, &worker->home, NULL, true);
    if (launch->check) check_block_end(launch->check);
    if (worker->ended < launch->threads) stop_divergent(worker);
    if (bulk_left(worker)) stop(worker, "%s", bulk_left(worker));
}

static Worker *worker_new(void) {
    Worker *worker = calloc(1, sizeof *worker);
    if (!worker) fatal("out of memory for a worker of simt: %zu bytes", sizeof *worker);
    // Whole stacks, and one more for the sake of their alignment; shared memory behind them.
    size_t stacks = (size_t)(BLOCK_THREADS_MAX + 1) * STACK_BYTES;
    char *at = mmap(NULL, stacks + STACK_BYTES * 4, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) fatal("cannot map the stacks of simt: %s", strerror(errno));
    worker->stacks = at + (STACK_BYTES - (uintptr_t)at % STACK_BYTES) % STACK_BYTES;
    worker->shared = worker->stacks + (size_t)BLOCK_THREADS_MAX * STACK_BYTES;
    if (mprotect(worker->shared, SIMT_SHARED_MAX, PROT_READ | PROT_WRITE))
        fatal("cannot map the shared memory of simt: %s", strerror(errno));
    worker->arena = arena_new();
    for (int i = 0; i < BLOCK_THREADS_MAX; i++) worker->thread[i].worker = worker;
    return worker;
}

static Worker *worker_take(Launch *launch) {
    pthread_mutex_lock(&workers.lock);
    Worker *worker = workers.free;
    if (worker) workers.free = worker->next;
    pthread_mutex_unlock(&workers.lock);
    if (!worker) worker = worker_new();
    worker->launch = launch;
    worker->stopped = false;
    for (int i = 0; i < launch->threads; i++) {
        Thread *thread = &worker->thread[i];
        thread->turn = 0;
        thread->self = (SimtThread){.thread = i,
                                    .blocks = (int32_t)launch->blocks,
                                    .threads = launch->threads,
                                    .shared = worker->shared,
                                    .give = &worker->lane[0][i],
                                    .meet = meet,
                                    .copy = copy,
                                    .commit = commit,
                                    .access = check_access,
                                    .arrival = simt_arrival,
                                    .bulk = simt_bulk,
                                    .settle = settle,
                                    .product = product_begin,
                                    .order = product_order};
    }
    return worker;
}

// Fibers that wait for ever are forgotten: their stacks are those of the next launch.
static void worker_give(Worker *worker) {
    worker->free_count = 0;
    for (int i = 0; i < worker->stacks_made; i++)
        worker->free_stack[worker->free_count++] = worker->stacks + (size_t)i * STACK_BYTES;
    pthread_mutex_lock(&workers.lock);
    worker->next = workers.free;
    workers.free = worker;
    pthread_mutex_unlock(&workers.lock);
}

static void keep_message(Launch *launch, const Worker *worker, int64_t block) {
    Dl_info facts;
    bool named = dladdr((void *)(uintptr_t)launch->function, &facts) && facts.dli_sname;
    pthread_mutex_lock(&launch->lock);
    if (!atomic_exchange(&launch->failed, true))
        snprintf(launch->message, sizeof launch->message, "%.150s, block %ld: %.*s",
                 named ? facts.dli_sname : "a kernel", (long)block, ERROR_SIZE - 200,
                 worker->message);
    pthread_mutex_unlock(&launch->lock);
}

static void run_blocks(void *context, int thread, int threads, Barrier *barrier) {
    (void)threads, (void)barrier;
    Launch *launch = context;
    if (thread >= WORKERS_MAX || atomic_load(&launch->next) >= launch->blocks) return;
    Worker *worker = worker_take(launch);
    while (!atomic_load(&launch->failed)) {
        int64_t block = atomic_fetch_add(&launch->next, launch->piece);
        int64_t end = min_i64(block + (launch->step ? 1 : launch->piece), launch->blocks);
        if (block >= end) break;
        for (; block < end && !worker->stopped; block++) {
            run_block(worker, block);
            if (worker->stopped) keep_message(launch, worker, block);
        }
    }
    worker_give(worker);
}

int simt_run(Launch *launch) {
    if (launch->blocks < 0 || launch->blocks > INT32_MAX || launch->threads < 1 ||
        launch->threads > BLOCK_THREADS_MAX)
        return fail("cannot launch %ld blocks of %d threads. Hint: 2^31 - 1 of %d at most",
                    (long)launch->blocks, launch->threads, BLOCK_THREADS_MAX);
    if (launch->shared_bytes < 0 || launch->shared_bytes > SIMT_SHARED_MAX)
        return fail("cannot launch with %ld bytes of shared memory. Hint: %d at most",
                    (long)launch->shared_bytes, SIMT_SHARED_MAX);
    pthread_mutex_init(&launch->lock, NULL);
    launch->seed = (uint64_t)env_int("SIMT_SEED", 1);
    launch->piece = max_i64(launch->blocks / (8 * thread_count()), 1);
    if (launch->step) launch->piece = launch->step;
    atomic_init(&launch->next, launch->first);
    // One thread keeps the books of a check; to wake others for one block takes longer than most.
    if (launch->check || launch->blocks == 1)
        run_blocks(launch, 0, 1, NULL);
    else
        thread_run(run_blocks, launch);
    pthread_mutex_destroy(&launch->lock);
    return launch->failed ? fail("%s", launch->message) : 0;
}

int simt_launch(SimtFunction *function, int64_t blocks, int threads, int64_t shared_bytes,
                void *const *param) {
    Launch launch = {.function = function,
                     .param = param,
                     .blocks = blocks,
                     .threads = threads,
                     .shared_bytes = shared_bytes};
    return simt_run(&launch);
}
