/* simt_bulk.c - bulk copies of simt, and the barriers in shared memory that tell when they came.
 * In: what kernels ask of such barriers and of the copy engine.  Out: the same by PTX's rules, or
 * what is wrong with it.
 * Invariants: a barrier is in a phase, which ends when as many threads arrived as it is for and as
 * many bytes came as were expected; who waits for a phase by its parity goes on if another is under
 * way. A copy happens at the first wait for its phase, as late as it may.
 * Sources: the PTX ISA, "mbarrier" (phases, "Tracking asynchronous operations by the mbarrier
 * object", "mbarrier.try_wait"), "cp.async.bulk", "Async Proxy".
 *   init b 1 ; copy 4096 bytes on b ; expect 4096 at b ; wait b 0 => copied, and phase 1 begins  */
#include "runtime/simt.h"

#include <string.h>

static int64_t place_of(const Worker *worker, const void *at) {
    return (const char *)at - worker->shared;
}

static bool is_shared(const Worker *worker, const void *at, int64_t bytes) {
    int64_t place = place_of(worker, at);
    return place >= 0 && place <= worker->launch->shared_bytes - bytes;
}

// ---- phases ------------------------------------------------------------------------------------

// What has begun and did not come yet.
static int64_t bytes_under_way(const Worker *worker, const Arrival *arrival) {
    int64_t bytes = 0;
    for (int i = 0; i < worker->bulks.count; i++)
        if (worker->bulks.at[i].arrival == arrival->at) bytes += worker->bulks.at[i].copy.bytes;
    return bytes;
}

static void wake(Worker *worker, const Arrival *arrival) {
    for (int i = 0; i < worker->launch->threads; i++)
        if (worker->thread[i].waits_for == arrival->at) simt_wake(&worker->thread[i]);
}

static bool can_end(const Worker *worker, const Arrival *arrival) {
    return !arrival->missing && arrival->bytes == bytes_under_way(worker, arrival);
}

static void end(Worker *worker, Arrival *arrival) {
    int kept = 0;
    for (int i = 0; i < worker->bulks.count; i++) {
        Bulk bulk = worker->bulks.at[i];
        if (bulk.arrival != arrival->at) {
            worker->bulks.at[kept++] = bulk;
            continue;
        }
        memcpy(bulk.copy.to, bulk.copy.from, (size_t)bulk.copy.bytes);
        if (worker->launch->check) check_came(bulk.thread, &bulk.copy);
    }
    worker->bulks.count = kept;
    arrival->phase++;
    arrival->missing = arrival->count;
    arrival->bytes = 0;
}

// ---- what kernels call -------------------------------------------------------------------------

static Arrival *find(const Worker *worker, const void *at) {
    for (int i = 0; i < worker->arrivals.count; i++)
        if (worker->arrivals.at[i].at == at) return &worker->arrivals.at[i];
    return NULL;
}

// Until another one is initialised.
ON_FIBER static Arrival *arrival_at(Thread *thread, const void *at) {
    Worker *worker = thread->worker;
    Arrival *arrival = find(worker, at);
    if (worker->launch->check && is_shared(worker, at, ARRIVAL_BYTES))
        check_arrival(thread, at, false);
    if (arrival) return arrival;
    simt_refuse(thread, "thread %d uses a barrier at %ld, which nobody initialised",
                thread->self.thread, (long)place_of(worker, at));
}

ON_FIBER static void init(Thread *thread, void *at, int32_t count) {
    enum { MOST = (1 << 20) - 1 };
    Worker *worker = thread->worker;
    int64_t place = place_of(worker, at);
    if (!is_shared(worker, at, ARRIVAL_BYTES) || place % ARRIVAL_BYTES || count < 1 || count > MOST)
        simt_refuse(thread,
                    "thread %d initialises a barrier at %ld for %d threads. Hint: 8 bytes of "
                    "shared memory, aligned, for 1 to %d",
                    thread->self.thread, (long)place, count, MOST);
    if (find(worker, at))
        simt_refuse(thread, "thread %d initialises the barrier at %ld once more",
                    thread->self.thread, (long)place);
    if (worker->launch->check) check_arrival(thread, at, true);
    memset(at, 0, ARRIVAL_BYTES);
    *list_add(worker->arena, &worker->arrivals) =
        (Arrival){.at = at, .count = count, .missing = count, .by = thread->self.thread};
}

ON_FIBER static void expect(Thread *thread, Arrival *arrival, int32_t bytes) {
    Worker *worker = thread->worker;
    long place = (long)place_of(worker, arrival->at);
    if (!arrival->missing)
        simt_refuse(thread, "thread %d arrives at the barrier at %ld, where all %d have arrived",
                    thread->self.thread, place, arrival->count);
    arrival->missing--;
    arrival->bytes += bytes;
    int64_t come = bytes_under_way(worker, arrival);
    if (bytes < 0 || (!arrival->missing && arrival->bytes < come))
        simt_refuse(thread, "the barrier at %ld expects %ld bytes, and %ld are copied", place,
                    (long)arrival->bytes, (long)come);
    if (!arrival->missing && !arrival->bytes) end(worker, arrival);
    wake(worker, arrival);
}

// The other threads run first, as where cp.async is waited for, if there is something to wait for.
ON_FIBER static void wait_for(Thread *thread, const void *at, int32_t parity) {
    int32_t phase = arrival_at(thread, at)->phase;
    if ((phase & 1) != parity) return;
    simt_let_others(thread);
    for (Arrival *arrival; (arrival = find(thread->worker, at))->phase == phase;)
        if (can_end(thread->worker, arrival))
            end(thread->worker, arrival);
        else
            simt_wait_for(thread, at);
}

ON_FIBER void simt_arrival(SimtThread *self, int32_t what, void *at, int32_t value) {
    Thread *thread = (Thread *)self;
    Worker *worker = thread->worker;
    switch (what) {
    case SIMT_INIT: init(thread, at, value); return;
    case SIMT_INIT_FENCE:
        for (int i = 0; i < worker->arrivals.count; i++)
            worker->arrivals.at[i].shown |= worker->arrivals.at[i].by == self->thread;
        return;
    case SIMT_EXPECT: expect(thread, arrival_at(thread, at), value); return;
    default: wait_for(thread, at, value & 1);
    }
}

ON_FIBER void simt_bulk(SimtThread *self, void *to, const void *from, int32_t bytes, void *at) {
    enum { GRAIN = 16 };
    Thread *thread = (Thread *)self;
    Worker *worker = thread->worker;
    Arrival *arrival = arrival_at(thread, at);
    if (((uintptr_t)to | (uintptr_t)from | (uintptr_t)bytes) % GRAIN || bytes <= 0)
        simt_refuse(thread,
                    "thread %d copies %d bytes in bulk. Hint: a multiple of %d, from and to where "
                    "that is aligned",
                    self->thread, bytes, GRAIN);
    if (!is_shared(worker, to, bytes))
        simt_refuse(thread, "thread %d copies %d bytes to %ld, of %ld bytes of shared memory",
                    self->thread, bytes, (long)place_of(worker, to),
                    (long)worker->launch->shared_bytes);
    if (!arrival->shown)
        simt_refuse(thread, "thread %d copies in bulk, and no fence is behind its barrier's init",
                    self->thread);
    Copy copy = {.to = to, .from = from, .bytes = bytes, .there = 1};
    if (worker->launch->check) check_bulk(thread, &copy);
    simt_fill(to, (size_t)bytes, SIMT_UNDER_WAY);
    *list_add(worker->arena, &worker->bulks) = (Bulk){copy, at, thread};
    wake(worker, arrival);
}

// ---- a block -----------------------------------------------------------------------------------

void bulk_begin(Worker *worker) { worker->arrivals.count = worker->bulks.count = 0; }

const char *bulk_stuck(Worker *worker) {
    for (int i = 0; i < worker->launch->threads; i++) {
        const Arrival *arrival = find(worker, worker->thread[i].waits_for);
        if (!arrival) continue;
        return arena_print(
            worker->arena, ": the barrier at %ld waits for %d to arrive and %ld bytes to come",
            (long)place_of(worker, arrival->at), arrival->missing, (long)arrival->bytes);
    }
    return "";
}

const char *bulk_left(Worker *worker) {
    if (!worker->bulks.count) return NULL;
    const Copy *copy = &worker->bulks.at[0].copy;
    return arena_print(worker->arena, "nobody waits for the bulk copy of %d bytes to %ld",
                       copy->bytes, (long)place_of(worker, copy->to));
}
