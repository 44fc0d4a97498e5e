/* simt.h - what the two parts of simt share: simt.c, which runs blocks, and simt_check.c, which is
 * told of every access. */
#ifndef PICOGRAD_SIMT_H
#define PICOGRAD_SIMT_H
#include "runtime/runtime.h"

#include <pthread.h>

enum { WARPS_MAX = BLOCK_THREADS_MAX / WARP_THREADS };
// A fiber's stack: aligned to its size; its first page is not mapped, its last word says whose it
// is.
enum { STACK_BYTES = 1 << 18 };

// Where a thread is: in one of prelude_gpu.c's places, or in none of them.
enum { RUNS, BARRIER, WARP_BARRIER, SHUFFLE, BALLOT, MMA, WARPGROUP, ARRIVAL, ENDED, PLACES };
enum { GROUP_THREADS = WARPGROUP_WARPS * WARP_THREADS };

typedef struct Worker Worker;
typedef struct Check Check;
typedef struct {
    void *to;
    const void *from;
    int32_t bytes, there, group;
} Copy;
enum { ARRIVAL_BYTES = 8 };
typedef struct {
    const char *at;      // in shared memory
    int count, missing;  // threads that arrive in a phase; that did not yet
    int64_t bytes;       // expected in this phase
    int32_t phase, by;   // by: who initialised it
    bool shown;          // to the copy engine
} Arrival;
// A product of four warps that is under way, as this thread has a part in it.
typedef struct {
    float *c;
    const float *a;
    float kept[4], row[2][8];  // a as it was; both of the thread's rows of it
    uint64_t b;
    int columns, group;
} Product;
// Registers that products sum in: what they were, while they hold NaNs.
typedef struct {
    float *c;
    int count, products;  // under way
    float value[WARPGROUP_COLUMNS_MAX / 2];
} Sum;
typedef struct {
    SimtThread self;  // first: what the kernel gets is a Thread's address
    Worker *worker;
    void *sp;  // of its fiber, which does not run
    int where;
    const void *site;  // of the call that it waits in
    int turn;          // which of two places it gives to others from: the last may still be read
    int group;         // of its next copy
    LIST(Copy) copies;
    const void *waits_for;  // the place of an Arrival; else NULL
    LIST(Product) products;
    LIST(Sum) sums;
    int product_group;  // of its next product
    bool fenced;        // registers may be those of products
} Thread;
typedef struct {
    Copy copy;
    const void *arrival;  // its place
    Thread *thread;
} Bulk;

typedef struct {
    SimtFunction *function;
    void *const *param;
    int64_t blocks;
    int threads;
    int64_t shared_bytes, piece;
    uint64_t seed;
    Check *check;          // NULL: nobody is told
    int64_t first, step;   // not 0: blocks first, first + step ... alone
    _Atomic int64_t next;  // block that nobody has begun
    atomic_bool failed;
    pthread_mutex_t lock;
    char message[ERROR_SIZE];  // the first
} Launch;

struct Worker {
    Worker *next;  // among those that are free
    Launch *launch;
    Arena *arena;
    char *stacks, *shared;
    int stacks_made, free_count;
    char *free_stack[BLOCK_THREADS_MAX];
    Thread thread[BLOCK_THREADS_MAX];
    SimtLane lane[2][BLOCK_THREADS_MAX];
    void *home;  // stack pointer of run_block
    uint64_t random;
    int32_t next_start, step, started;  // step: to the next to start after that, around the end
    int32_t ready[BLOCK_THREADS_MAX], ready_at, ready_count;  // a ring of those that may go on
    LIST(Arrival) arrivals;
    LIST(Bulk) bulks;  // under way
    int at_barrier, ended, in_warp[WARPS_MAX], warp_where[WARPS_MAX];
    int in_group[WARPS_MAX / WARPGROUP_WARPS];
    uint64_t group_b[WARPS_MAX / WARPGROUP_WARPS];  // what the first to come multiplies by
    bool stopped;                                   // the message says why
    char message[ERROR_SIZE];
};

// Of functions with locals, in which a fiber may be left for good: the address sanitizer's marks
// around them would stay on a stack that others get.
#define ON_FIBER __attribute__((no_sanitize("address")))

void simt_let_others(Thread *thread);                     // those that can run do so first
void simt_wait_for(Thread *thread, const void *arrival);  // until somebody wakes it
void simt_wake(Thread *thread);
void simt_fill(void *at, size_t bytes, uint32_t value);
int simt_run(Launch *launch);  // the fields up to check are filled in
// Called on a thread's fiber: the launch ends here.
_Noreturn void simt_refuse(Thread *thread, const char *format, ...) PRINTF(2, 3);

// ---- simt_bulk.c -------------------------------------------------------------------------------
void simt_arrival(SimtThread *self, int32_t what, void *at, int32_t value);
void simt_bulk(SimtThread *self, void *to, const void *from, int32_t bytes, void *at);
void bulk_begin(Worker *worker);         // of a block
const char *bulk_stuck(Worker *worker);  // what a thread waits for, if one does
const char *bulk_left(Worker *worker);   // at the end of a block: what is wrong, or NULL
// ---- simt_products.c ---------------------------------------------------------------------------
void product_begin(SimtThread *self, float *c, const float *a, int64_t b, int32_t columns);
void product_order(SimtThread *self, int32_t what);
int64_t simt_piece(const Product *product, int piece);  // its place in shared memory
void product_end(Thread *thread);                       // the thread has come to its end

// ---- simt_check.c, told by simt.c where launch->check is not NULL ------------------------------
void check_access(SimtThread *self, const void *at, int64_t bytes, int32_t write, const void *site);
void check_copy(Thread *thread, const Copy *copy, const void *site);  // begins
void check_copied(Thread *thread, const Copy *copy);
void check_bulk(Thread *thread, const Copy *copy);
void check_came(Thread *thread, const Copy *copy);
void check_arrival(Thread *thread, const char *at, bool write);
// The thread's product reads shared memory; what the thread wrote there is shown to products.
void check_product(Thread *thread, const Product *product);
void check_shown(const Thread *thread);
// Threads first to first + count - 1 met; `last` is the one that came last.
void check_met(Thread *last, int where, int first, int count);
void check_block(Check *check, const Worker *worker, int64_t block);  // begins
void check_block_end(Check *check);
#endif
