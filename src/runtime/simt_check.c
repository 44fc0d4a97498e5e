/* simt_check.c - what every access of a kernel for GPUs is held to, and what it costs there.
 * In: the accesses that simt.c's threads make, meetings, copies.  Out: counts, or what was wrong.
 * Invariants: a byte of shared memory and an element of a buffer has a cell, which knows who wrote
 * it last and who read it since; one thread of the CPU runs all blocks; the n-th access that a
 * line makes in each lane of a warp is one request.
 * Two accesses of a block are ordered by a barrier between them, those of a warp by its barrier as
 * well; shuffles and matrix products order nothing, blocks of a launch have no order (CUDA C++
 * Programming Guide, "Memory Fence Functions", "Warp Shuffle Functions").
 *   simt_check(function, 2, 64, 512, param, 1, &(SimtRange){"c", c, 512, 4}, &counts)            */
#define _GNU_SOURCE
#include "runtime/simt.h"
#include "schedule/schedule.h"

#include <link.h>
#include <stdlib.h>
#include <string.h>

// Who, and when: how many barriers of its block and of its warp were before.
typedef struct {
    uint64_t block : 24, under_way : 1, thread : 10, epoch : 15, warp_epoch : 14;
} Stamp;
enum { BLOCKS_MAX = (1 << 24) - 2, EPOCHS_MAX = 1 << 15, WARP_EPOCHS_MAX = 1 << 14 };
enum { SECTOR_BYTES = 32 };

// block: from 1; 0: nobody. A third reader may be forgotten: who writes and conflicts with it
// mostly conflicts with one of two others as well.
typedef struct {
    Stamp write, read[2];
} Cell;

typedef struct {
    const char *name, *at;
    int64_t bytes;
    int grain;
    Cell *cell;
    int32_t *sector;  // of each: the last block that loaded of it, from 1
} Region;

typedef struct {
    uint64_t at[WARP_THREADS];  // places; the region is part of them
    uint32_t lanes;             // 0: counted
    int bytes;
} Request;

typedef struct {
    const void *site;
    bool shared, write, copies;
    int32_t made[BLOCK_THREADS_MAX];  // accesses, by thread
    struct {
        LIST(Request) requests;
        int first, counted;  // requests.at[0] is of the accesses with this number
    } warp[WARPS_MAX];
} Site;

struct Check {
    Arena *arena;
    SimtCounts *counts;
    int threads, regions;
    Region *region;                         // the first is shared memory
    const char *constants, *constants_end;  // the object that the kernel is in
    LIST(Site *) sites;
    Map *site_of;
    int64_t block;
    int epoch, warp_epoch[WARPS_MAX];
    // Writes to shared memory are numbered: the last one, by byte; by thread, up to which it has
    // shown its own to products, and up to which it had before this epoch.
    int64_t writes, *written;
    struct {
        int64_t last, before;
        int epoch;
    } shown[BLOCK_THREADS_MAX];
};

// ---- who, and in which order -------------------------------------------------------------------

static Stamp stamp_now(const Check *check, int thread) {
    return (Stamp){.block = (uint64_t)check->block + 1,
                   .thread = (uint64_t)thread,
                   .epoch = (uint64_t)check->epoch,
                   .warp_epoch = (uint64_t)check->warp_epoch[thread / WARP_THREADS]};
}

static bool is_ordered(Stamp before, Stamp now) {
    if (!before.block) return true;
    if (before.block != now.block) return false;
    if (before.thread == now.thread || before.epoch < now.epoch) return true;
    return before.thread / WARP_THREADS == now.thread / WARP_THREADS &&
           before.warp_epoch < now.warp_epoch;
}

static void add_reader(Cell *cell, Stamp now) {
    for (int i = 0; i < 2; i++)
        if (is_ordered(cell->read[i], now)) {
            cell->read[i] = now;
            return;
        }
    // Readers of two warps, or blocks: what orders one with a writer may not order the other.
    Stamp first = cell->read[0], second = cell->read[1];
    if (first.block == second.block && first.thread / WARP_THREADS == second.thread / WARP_THREADS)
        cell->read[1] = now;
}

typedef struct {
    Thread *thread;
    const Region *region;
    int64_t at, bytes;
    bool write, under_way;  // the end of a copy that has begun
} Touch;

// "thread 3 writes 4 bytes of shared memory at 128"
ON_FIBER static void refuse(const Touch *touch, const char *problem) {
    simt_refuse(touch->thread, "thread %d %s %ld bytes of %s at %ld%s", touch->thread->self.thread,
                touch->write ? "writes" : "reads", (long)touch->bytes, touch->region->name,
                (long)touch->at, problem);
}

ON_FIBER static void refuse_race(const Touch *touch, Stamp other, const char *did) {
    char text[128];
    if ((int64_t)other.block - 1 != touch->thread->self.block)
        snprintf(text, sizeof text, ", which thread %d of block %d %s: blocks have no order",
                 (int)other.thread, (int)other.block - 1, did);
    else
        snprintf(text, sizeof text, ", which thread %d %s, with no %s between", (int)other.thread,
                 did, other.under_way ? "wait for it" : "barrier");
    refuse(touch, text);
}

ON_FIBER static void mark(Check *check, const Touch *touch) {
    Stamp now = stamp_now(check, touch->thread->self.thread);
    int grain = touch->region->grain;
    bool shared = touch->region == check->region;
    Cell *cell = &touch->region->cell[touch->at / grain];
    Cell *end = &touch->region->cell[(touch->at + touch->bytes - 1) / grain + 1];
    for (; cell < end; cell++) {
        if (cell->write.under_way) refuse_race(touch, cell->write, "still copies to");
        if (shared && !touch->write && !cell->write.block)
            refuse(touch, ", which nothing was written to");
        if (!is_ordered(cell->write, now)) refuse_race(touch, cell->write, "wrote");
        for (int i = 0; i < 2 && touch->write; i++)
            if (!is_ordered(cell->read[i], now)) refuse_race(touch, cell->read[i], "read");
        // Memory gives what was not written here, once, and takes what is written, once.
        bool fresh = !cell->write.block && (touch->write || !cell->read[0].block);
        if (fresh && !shared) check->counts->memory_bytes += grain;
        if (!touch->write) {
            add_reader(cell, now);
            continue;
        }
        *cell = (Cell){.write = now};
        cell->write.under_way = touch->under_way;
        if (shared) check->written[cell - check->region->cell] = ++check->writes;
    }
}

// A block finds again in L1 what it loaded before, and no other block does.
static void count_sectors(const Check *check, const Touch *touch) {
    int32_t block = (int32_t)check->block + 1;
    if (touch->write || touch->region == check->region) return;
    int64_t last = (touch->at + touch->bytes - 1) / SECTOR_BYTES;
    for (int64_t i = touch->at / SECTOR_BYTES; i <= last; i++) {
        check->counts->block_sectors += touch->region->sector[i] != block;
        touch->region->sector[i] = block;
    }
}

// ---- requests of a warp ------------------------------------------------------------------------

static void count_request(SimtCounts *counts, const Site *site, const Request *request) {
    int64_t bytes = (int64_t)__builtin_popcount(request->lanes) * request->bytes;
    if (site->shared) {
        counts->shared++;
        counts->wavefronts += gpu_wavefronts(request->at, request->lanes, request->bytes);
        counts->conflict_free += gpu_quiet_wavefronts(request->lanes, request->bytes);
        counts->shared_bytes += bytes;
        counts->copies += site->copies;
        return;
    }
    GpuLines lines = gpu_lines(request->at, request->lanes, request->bytes);
    *(site->write ? &counts->stores : &counts->loads) += 1;
    *(site->write ? &counts->store_lines : &counts->load_lines) += lines.lines;
    *(site->write ? &counts->store_sectors : &counts->load_sectors) += lines.sectors;
    *(site->write ? &counts->store_bytes : &counts->load_bytes) += bytes;
}

typedef struct {
    const Check *check;
    const void *site;
    bool shared, write;
} SiteKey;

static bool same_site(const void *context, int32_t value) {
    const SiteKey *key = context;
    const Site *site = key->check->sites.at[value];
    return site->site == key->site && site->shared == key->shared && site->write == key->write;
}

static Site *site_of(Check *check, const void *at, bool shared, bool write) {
    SiteKey key = {check, at, shared, write};
    uint64_t hash = hash_bytes(&at, sizeof at, 2 * shared + write);
    int32_t found = map_find(check->site_of, hash, same_site, &key);
    if (found >= 0) return check->sites.at[found];
    Site *site = arena_object(check->arena, Site);
    site->site = at;
    site->shared = shared;
    site->write = write;
    map_add(check->arena, check->site_of, hash, check->sites.count);
    return *list_add(check->arena, &check->sites) = site;
}

// The lanes of this thread's warp that there are.
static uint32_t all_lanes(const Check *check, int warp) {
    int64_t lanes = min_i64(check->threads - warp * WARP_THREADS, WARP_THREADS);
    return UINT32_MAX >> (WARP_THREADS - lanes);
}

static void add_request(Check *check, const Touch *touch, const void *at) {
    bool shared = touch->region == check->region;
    int thread = touch->thread->self.thread, lane = thread % WARP_THREADS,
        number = thread / WARP_THREADS;
    Site *site = site_of(check, at, shared, touch->write);
    site->copies = touch->under_way;
    __typeof__(site->warp[0]) *warp = &site->warp[number];
    int place = site->made[thread]++ - warp->first;
    while (place >= warp->requests.count)
        *list_add(check->arena, &warp->requests) = (Request){.bytes = (int)touch->bytes};
    Request *request = &warp->requests.at[place];
    uint64_t region = (uint64_t)(touch->region - check->region);
    request->at[lane] = region << 40 | (uint64_t)touch->at;
    request->lanes |= UINT32_C(1) << lane;
    if (request->lanes != all_lanes(check, number)) return;
    count_request(check->counts, site, request);
    request->lanes = 0;
    if (++warp->counted < warp->requests.count) return;
    warp->first += warp->counted;
    warp->requests.count = warp->counted = 0;
}

// ---- what simt.c tells -------------------------------------------------------------------------

ON_FIBER static void refuse_outside(const Check *check, Thread *thread, const char *at,
                                    int64_t bytes, bool write) {
    const Region *near = NULL;
    int64_t least = INT64_MAX, ahead = 0;
    for (int i = 0; i < check->regions; i++) {
        const Region *region = &check->region[i];
        int64_t before = (int64_t)((uintptr_t)region->at - (uintptr_t)at);
        int64_t behind = bytes - before - region->bytes;
        if (!region->bytes || max_i64(before, behind) >= least) continue;
        least = max_i64(before, behind);
        ahead = before;
        near = region;
    }
    const char *verb = write ? "writes" : "reads";
    if (!near)
        simt_refuse(thread, "thread %d %s %ld bytes, and was given no memory", thread->self.thread,
                    verb, (long)bytes);
    simt_refuse(thread, "thread %d %s %ld bytes at %ld of %s, which has %ld bytes",
                thread->self.thread, verb, (long)bytes, (long)-ahead, near->name,
                (long)near->bytes);
}

static bool is_inside(const void *at, const void *start, const void *end) {
    return (uintptr_t)at >= (uintptr_t)start && (uintptr_t)at < (uintptr_t)end;
}

static const Region *region_of(const Check *check, const char *at, int64_t bytes) {
    for (int i = 0; i < check->regions; i++) {
        int64_t place = (int64_t)((uintptr_t)at - (uintptr_t)check->region[i].at);
        if (place >= 0 && place <= check->region[i].bytes - bytes) return &check->region[i];
    }
    return NULL;
}

ON_FIBER static void check_part(Check *check, Thread *thread, const char *at, int64_t bytes,
                                bool write, const void *site, bool under_way) {
    const Region *region = region_of(check, at, bytes);
    if (region) {
        Touch touch = {thread, region, at - region->at, bytes, write, under_way};
        mark(check, &touch);
        count_sectors(check, &touch);
        add_request(check, &touch, site);
    } else if (write || !is_inside(at, check->constants, check->constants_end)) {
        refuse_outside(check, thread, at, bytes, write);
    }
}

void check_access(SimtThread *self, const void *at, int64_t bytes, int32_t write,
                  const void *site) {
    Thread *thread = (Thread *)self;
    Check *check = thread->worker->launch->check;
    uintptr_t frame = (uintptr_t)__builtin_frame_address(0);
    if (!check || frame / STACK_BYTES == (uintptr_t)at / STACK_BYTES) return;
    if (is_inside(at, thread->worker, thread->worker + 1)) return;
    for (int64_t done = 0; done < bytes; done += 16)
        check_part(check, thread, (const char *)at + done, min_i64(bytes - done, 16), write, site,
                   false);
}

void check_copy(Thread *thread, const Copy *copy, const void *site) {
    Check *check = thread->worker->launch->check;
    if (copy->there) check_part(check, thread, copy->from, copy->bytes, false, site, false);
    check_part(check, thread, copy->to, copy->bytes, true, site, true);
}

void check_copied(Thread *thread, const Copy *copy) {
    Check *check = thread->worker->launch->check;
    int64_t at = (char *)copy->to - check->region->at;
    for (int i = 0; i < copy->bytes; i++) {
        check->region->cell[at + i] = (Cell){.write = stamp_now(check, thread->self.thread)};
        check->written[at + i] = ++check->writes;
    }
}

void check_shown(const Thread *thread) {
    Check *check = thread->worker->launch->check;
    __typeof__(check->shown[0]) *shown = &check->shown[thread->self.thread];
    if (shown->epoch < check->epoch) shown->before = shown->last;
    shown->last = check->writes;
    shown->epoch = check->epoch;
}

// Pieces of 8 columns by 4 k are 128 bytes in a row, a wavefront each. Each is marked by two
// threads for all.
ON_FIBER void check_product(Thread *thread, const Product *product) {
    enum { PIECE_BYTES = 128, READERS = 2 };
    Check *check = thread->worker->launch->check;
    int pieces = product->columns / 8 * 2, own = thread->self.thread % GROUP_THREADS;
    if (!own) {
        check->counts->mmas += product->columns / 2;
        check->counts->wavefronts += pieces;
        check->counts->conflict_free += pieces;
        check->counts->shared_bytes += pieces * PIECE_BYTES;
    }
    for (int i = own; i < READERS * pieces; i += GROUP_THREADS) {
        Touch touch = {thread,      check->region, simt_piece(product, i % pieces),
                       PIECE_BYTES, false,         false};
        mark(check, &touch);
        for (int64_t at = touch.at; at < touch.at + PIECE_BYTES; at++) {
            __typeof__(check->shown[0]) *shown =
                &check->shown[check->region->cell[at].write.thread];
            if (check->written[at] > (shown->epoch < check->epoch ? shown->last : shown->before))
                refuse(&touch, ", which who wrote it has not shown to products");
        }
    }
}

// A place that threads meet at: what they do there is no race, but before it is initialised.
ON_FIBER void check_arrival(Thread *thread, const char *at, bool write) {
    Check *check = thread->worker->launch->check;
    Touch touch = {thread, check->region, at - check->region->at, ARRIVAL_BYTES, write, false};
    mark(check, &touch);
}

// One instruction of one thread; the engine reads L2, and writes a wavefront of shared memory at a
// time.
ON_FIBER void check_bulk(Thread *thread, const Copy *copy) {
    enum { LINE = 128 };
    Check *check = thread->worker->launch->check;
    SimtCounts *counts = check->counts;
    int64_t lines = (copy->bytes + LINE - 1) / LINE;
    for (int32_t done = 0; done < copy->bytes; done += 16) {
        const char *from = (const char *)copy->from + done;
        Touch touch = {thread, check->region, (char *)copy->to + done - check->region->at,
                       16,     true,          true};
        mark(check, &touch);
        touch = (Touch){thread, region_of(check, from, 16), 0, 16, false, false};
        if (!touch.region) refuse_outside(check, thread, from, 16, false);
        touch.at = from - touch.region->at;
        mark(check, &touch);
        count_sectors(check, &touch);
    }
    counts->loads++;
    counts->load_lines += lines;
    counts->load_sectors += copy->bytes / SECTOR_BYTES;
    counts->load_bytes += copy->bytes;
    counts->shared++;
    counts->copies++;
    counts->wavefronts += lines;
    counts->conflict_free += lines;
    counts->shared_bytes += copy->bytes;
}

// All who wait for it may read it then, and do so before others may. Products read by the way on
// which it came: nobody must show it to them.
void check_came(Thread *thread, const Copy *copy) {
    Check *check = thread->worker->launch->check;
    int64_t at = (char *)copy->to - check->region->at;
    Stamp stamp = stamp_now(check, thread->self.thread);
    if (stamp.epoch) stamp.epoch--;
    for (int i = 0; i < copy->bytes; i++) {
        check->region->cell[at + i] = (Cell){.write = stamp};
        check->written[at + i] = 0;
    }
}

static void count_meeting(const Check *check, int where) {
    SimtCounts *counts = check->counts;
    switch (where) {
    case BARRIER: counts->barriers += (check->threads + WARP_THREADS - 1) / WARP_THREADS; break;
    case WARP_BARRIER: counts->warp_barriers++; break;
    case SHUFFLE: counts->shuffles++; break;
    case BALLOT: counts->ballots++; break;
    case WARPGROUP: break;  // check_product counts what it is worth
    default: counts->mmas++;
    }
}

ON_FIBER void check_met(Thread *last, int where, int first, int count) {
    const Worker *worker = last->worker;
    Check *check = worker->launch->check;
    for (int i = first; i < first + count; i++)
        if (worker->thread[i].site != last->site)
            simt_refuse(last, "threads %d and %d meet at different places of the program", i,
                        last->self.thread);
    count_meeting(check, where);
    int *epoch = where == BARRIER        ? &check->epoch
                 : where == WARP_BARRIER ? &check->warp_epoch[first / WARP_THREADS]
                                         : NULL;
    if (epoch && ++*epoch == (where == BARRIER ? EPOCHS_MAX : WARP_EPOCHS_MAX))
        simt_refuse(last, "there are %d barriers, more than can be told apart", *epoch);
}

void check_block(Check *check, const Worker *worker, int64_t block) {
    check->block = block;
    check->epoch = 0;
    memset(check->warp_epoch, 0, sizeof check->warp_epoch);
    check->region->at = worker->shared;
    memset(check->region->cell, 0, (size_t)check->region->bytes * sizeof(Cell));
    memset(check->written, 0, (size_t)check->region->bytes * sizeof *check->written);
    memset(check->shown, 0, sizeof check->shown);
    check->writes = 0;
}

// Counts what only some lanes of a warp asked for.
void check_block_end(Check *check) {
    for (int i = 0; i < check->sites.count; i++) {
        Site *site = check->sites.at[i];
        memset(site->made, 0, sizeof site->made);
        for (int warp = 0; warp < WARPS_MAX; warp++) {
            for (int r = 0; r < site->warp[warp].requests.count; r++)
                if (site->warp[warp].requests.at[r].lanes)
                    count_request(check->counts, site, &site->warp[warp].requests.at[r]);
            site->warp[warp].requests.count = 0;
            site->warp[warp].first = site->warp[warp].counted = 0;
        }
    }
}

// What -fsanitize=thread has compilers call before each access; see Worker's stacks for `self`.
char *simt_checked_source(Arena *arena, const char *source) {
    static const char tellers[] =
        "#ifndef PG_HAS_SIMT_TELL\n"
        "#define PG_HAS_SIMT_TELL\n"
        "#define SIMT_TELL(name, given, bytes, write) \\\n"
        "    SIMT_QUIET void __tsan_##name given { \\\n"
        "        char *frame = __builtin_frame_address(0); \\\n"
        "        SimtThread *self = *(SimtThread **)(((i64)frame | %d) - 7); \\\n"
        "        self->access(self, at, bytes, write, __builtin_return_address(0)); \\\n"
        "    }\n"
        "#define SIMT_TELL_BOTH(name, given, bytes) \\\n"
        "    SIMT_TELL(read##name, given, bytes, 0) SIMT_TELL(write##name, given, bytes, 1)\n"
        "#define SIMT_TELL_ALL(bytes) \\\n"
        "    SIMT_TELL_BOTH(bytes, (void *at), bytes) \\\n"
        "    SIMT_TELL(unaligned_read##bytes, (void *at), bytes, 0) \\\n"
        "    SIMT_TELL(unaligned_write##bytes, (void *at), bytes, 1)\n"
        "#pragma GCC visibility push(hidden)\n"
        "SIMT_TELL_ALL(1) SIMT_TELL_ALL(2) SIMT_TELL_ALL(4) SIMT_TELL_ALL(8) SIMT_TELL_ALL(16)\n"
        "SIMT_TELL_BOTH(_range, (void *at, unsigned long bytes), bytes)\n"
        "SIMT_QUIET void __tsan_init(void) {}\n"
        "SIMT_QUIET void __tsan_func_entry(void *from) {}\n"
        "SIMT_QUIET void __tsan_func_exit(void) {}\n"
        "#pragma GCC visibility pop\n"
        "#endif\n";
    Text text = text_new(arena);
    text_add(&text, "%s\n", source);
    text_add(&text, tellers, STACK_BYTES - 1);
    return text.at;
}

// ---- a launch ----------------------------------------------------------------------------------

static int find_object(struct dl_phdr_info *object, size_t size, void *argument) {
    (void)size;
    Check *check = argument;
    const char *start = NULL, *end = NULL;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        if (part->p_type != PT_LOAD) continue;
        const char *at = (const char *)(object->dlpi_addr + part->p_vaddr);
        if (!start || at < start) start = at;
        if (at + part->p_memsz > end) end = at + part->p_memsz;
    }
    if (!is_inside(check->constants, start, end)) return 0;
    check->constants = start;
    check->constants_end = end;
    return 1;
}

// Most of a large region is of blocks that are not run: what is not touched takes no memory.
static int add_region(Check *check, const SimtRange *range) {
    if (range->bytes < 0 || range->grain < 1 || range->bytes >= INT64_C(1) << 40)
        fatal("simt_check: %s has %ld bytes in elements of %d", range->name, (long)range->bytes,
              range->grain);
    Region *region = &check->region[check->regions++];
    *region = (Region){
        .name = range->name, .at = range->at, .bytes = range->bytes, .grain = range->grain};
    region->cell = calloc((size_t)(range->bytes / range->grain + 1), sizeof *region->cell);
    region->sector = calloc((size_t)(range->bytes / SECTOR_BYTES + 1), sizeof *region->sector);
    if (region->cell && region->sector) return 0;
    return fail("no memory to check the accesses to %s, which has %ld bytes", range->name,
                (long)range->bytes);
}

static int add_regions(Check *check, int64_t shared_bytes, int ranges, const SimtRange *range) {
    if (add_region(check, &(SimtRange){"shared memory", NULL, shared_bytes, 1})) return -1;
    for (int i = 0; i < ranges; i++)
        if (add_region(check, &range[i])) return -1;
    return 0;
}

static void free_regions(Check *check) {
    for (int i = 0; i < check->regions; i++) {
        free(check->region[i].cell);
        free(check->region[i].sector);
    }
    arena_free(check->arena);
}

int simt_check_some(SimtFunction *function, int64_t blocks, int64_t first, int64_t step,
                    int threads, int64_t shared_bytes, void *const *param, int ranges,
                    const SimtRange *range, SimtCounts *counts) {
    if (first < 0 || step < 1)
        fatal("simt_check_some: blocks %ld, then each %ld", (long)first, (long)step);
    if (blocks > BLOCKS_MAX)
        return fail("cannot check %ld blocks. Hint: %d at most", (long)blocks, BLOCKS_MAX);
    if (shared_bytes < 0 || shared_bytes > SIMT_SHARED_MAX)
        return fail("cannot check with %ld bytes of shared memory. Hint: %d at most",
                    (long)shared_bytes, SIMT_SHARED_MAX);
    Arena *arena = arena_new();
    Check check = {.arena = arena,
                   .counts = counts,
                   .threads = threads,
                   .region = arena_array(arena, Region, ranges + 1),
                   .written = arena_array(arena, int64_t, shared_bytes + 1),
                   .constants = (const char *)(uintptr_t)function,
                   .site_of = map_new(arena)};
    *counts = (SimtCounts){0};
    dl_iterate_phdr(find_object, &check);
    Launch launch = {.function = function,
                     .param = param,
                     .blocks = blocks,
                     .threads = threads,
                     .shared_bytes = shared_bytes,
                     .check = &check,
                     .first = first,
                     .step = step};
    int result = add_regions(&check, shared_bytes, ranges, range) ? -1 : simt_run(&launch);
    free_regions(&check);
    return result;
}

int simt_check(SimtFunction *function, int64_t blocks, int threads, int64_t shared_bytes,
               void *const *param, int ranges, const SimtRange *range, SimtCounts *counts) {
    return simt_check_some(function, blocks, 0, 1, threads, shared_bytes, param, ranges, range,
                           counts);
}
