/* pool_test.c - a device's memory: what is used again, cut, put together, given back. The device is
 * a row of addresses. */
#include "runtime/runtime.h"
#include "test.h"

#include <string.h>

enum { MB = 1 << 20 };

typedef struct {
    int64_t room;   // bytes that may be taken
    uint64_t next;  // addresses are never used again
    int gets, puts, settled;
    bool busy;
    int64_t size[1000];  // by address / 1 GB
} Raw;

static int take(void *context, int64_t bytes, uint64_t *at) {
    Raw *raw = context;
    if (bytes > raw->room) return -1;
    raw->gets++;
    raw->room -= bytes;
    *at = ++raw->next << 30;
    raw->size[raw->next] = bytes;
    return 0;
}

static void put(void *context, uint64_t at) {
    Raw *raw = context;
    raw->puts++;
    raw->room += raw->size[at >> 30];
    CHECK(raw->size[at >> 30] > 0);
    raw->size[at >> 30] = 0;
}

static int settle(void *context) {
    Raw *raw = context;
    raw->settled++;
    return raw->busy ? -1 : 0;
}

static Pool *pool_of(Raw *raw, int64_t room) {
    *raw = (Raw){.room = room};
    return pool_new(&(PoolSource){take, put, settle, raw});
}

TEST(a_block_is_used_again) {
    Raw raw;
    Pool *pool = pool_of(&raw, 1000 * MB);
    const DeviceMemory *a = pool_get(pool, 1000);
    uint64_t at = a->at;
    CHECK_INT(a->bytes, 1000);
    CHECK_INT(at % 512, 0);
    CHECK_INT(pool_live_bytes(pool), 1000);
    CHECK_INT(pool_held_bytes(pool), 2 * MB);
    pool_put(pool, a);
    CHECK_INT(pool_live_bytes(pool), 0);
    CHECK_INT(pool_held_bytes(pool), 2 * MB);
    a = pool_get(pool, 900);
    CHECK(a->at == at);
    CHECK_INT(raw.gets, 1);
    pool_put(pool, a);
    pool_free(pool);
    CHECK_INT(raw.puts, 1);
}

TEST(small_requests_share_a_segment) {
    Raw raw;
    Pool *pool = pool_of(&raw, 1000 * MB);
    const DeviceMemory *block[4096];
    for (int i = 0; i < 4096; i++) {
        block[i] = pool_get(pool, 512);
        CHECK(block[i]->at == block[0]->at + 512 * (uint64_t)i);
    }
    CHECK_INT(raw.gets, 1);
    const DeviceMemory *more = pool_get(pool, 0);
    CHECK_INT(raw.gets, 2);
    pool_put(pool, more);
    // Every other one, then the rest: what is free is put together.
    for (int i = 0; i < 4096; i += 2) pool_put(pool, block[i]);
    for (int i = 1; i < 4096; i += 2) pool_put(pool, block[i]);
    CHECK_INT(pool_give_back(pool), 4 * MB);
    CHECK_INT(pool_held_bytes(pool), 0);
    CHECK_INT(raw.room, 1000 * MB);
    pool_free(pool);
}

TEST(the_smallest_block_that_fits_is_taken_and_cut) {
    Raw raw;
    Pool *pool = pool_of(&raw, 1000 * MB);
    const DeviceMemory *large = pool_get(pool, 100 * MB), *middle = pool_get(pool, 40 * MB);
    uint64_t at_large = large->at, at_middle = middle->at;
    pool_put(pool, large);
    pool_put(pool, middle);
    const DeviceMemory *a = pool_get(pool, 30 * MB), *b = pool_get(pool, 30 * MB),
                       *c = pool_get(pool, 10 * MB);
    CHECK(a->at == at_middle);
    CHECK(b->at == at_large);
    CHECK(c->at == at_middle + 30 * MB);
    CHECK_INT(raw.gets, 2);
    // Less than 1 MB is not cut off a large block.
    pool_put(pool, c);
    const DeviceMemory *d = pool_get(pool, 10 * MB - 4096);
    CHECK(d->at == at_middle + 30 * MB);
    pool_put(pool, a);
    pool_put(pool, b);
    pool_put(pool, d);
    CHECK_INT(pool_give_back(pool), 140 * MB);
    pool_free(pool);
}

TEST(small_blocks_are_not_in_large_segments) {
    Raw raw;
    Pool *pool = pool_of(&raw, 1000 * MB);
    pool_put(pool, pool_get(pool, 64 * MB));
    const DeviceMemory *small = pool_get(pool, 100);
    CHECK_INT(raw.gets, 2);
    CHECK_INT(pool_give_back(pool), 64 * MB);
    CHECK_INT(pool_held_bytes(pool), 2 * MB);
    pool_put(pool, small);
    pool_free(pool);
}

TEST(what_is_free_goes_back_where_there_is_no_room) {
    Raw raw;
    Pool *pool = pool_of(&raw, 100 * MB);
    const DeviceMemory *kept = pool_get(pool, 20 * MB);
    for (int i = 0; i < 2; i++) pool_put(pool, pool_get(pool, 30 * MB + i * 10 * MB));
    CHECK_INT(pool_held_bytes(pool), 90 * MB);
    CHECK_INT(raw.settled, 0);
    const DeviceMemory *large = pool_get(pool, 75 * MB);
    CHECK(large != NULL);
    CHECK_INT(raw.settled, 1);
    CHECK_INT(pool_held_bytes(pool), 96 * MB);
    // There is none for this one, and the pool is as it was.
    CHECK(pool_get(pool, 5 * MB) == NULL);
    CHECK(pool_get(pool, INT64_MAX) == NULL);
    CHECK(pool_get(pool, -1) == NULL);
    CHECK_INT(pool_live_bytes(pool), 95 * MB);
    // 4 MB are left, too few for a segment of 20 MB.
    const DeviceMemory *last = pool_get(pool, 3 * MB);
    CHECK(last != NULL);
    CHECK_INT(pool_held_bytes(pool), 99 * MB);
    pool_put(pool, large);
    // While what was put back may be in use, nothing is given back.
    raw.busy = true;
    CHECK(pool_get(pool, 80 * MB) == NULL);
    CHECK_INT(pool_held_bytes(pool), 99 * MB);
    raw.busy = false;
    CHECK((large = pool_get(pool, 77 * MB)) != NULL);
    pool_put(pool, kept);
    pool_put(pool, large);
    pool_put(pool, last);
    pool_free(pool);
    CHECK_INT(raw.room, 100 * MB);
}

TEST(twice_back_is_fatal) {
    Raw raw;
    Pool *pool = pool_of(&raw, 100 * MB);
    const DeviceMemory *a = pool_get(pool, 100), *b = pool_get(pool, 100);
    pool_put(pool, a);
    CHECK_FATAL_TEXT(pool_put(pool, a), "twice");
    CHECK_FATAL_TEXT(pool_free(pool), "100 bytes of it are in use");
    pool_put(pool, b);
    pool_free(pool);
}

// No two used blocks overlap, whatever the order, and all comes together again.
TEST(random_sizes_never_overlap) {
    Raw raw;
    Pool *pool = pool_of(&raw, 1000 * MB);
    enum { COUNT = 64 };
    const DeviceMemory *block[COUNT] = {0};
    uint64_t random = 1;
    int64_t live = 0;
    for (int step = 0; step < 20000; step++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        int i = (int)(random >> 33) % COUNT;
        if (block[i]) {
            live -= block[i]->bytes;
            pool_put(pool, block[i]);
            block[i] = NULL;
            continue;
        }
        int64_t bytes = (int64_t)(random >> 40) >> (random >> 36) % 20;
        CHECK((block[i] = pool_get(pool, bytes)) != NULL);
        live += bytes;
        for (int j = 0; j < COUNT; j++)
            CHECK(j == i || !block[j] || block[j]->at >= block[i]->at + (uint64_t)bytes ||
                  block[i]->at >= block[j]->at + (uint64_t)block[j]->bytes);
        CHECK_INT(pool_live_bytes(pool), live);
    }
    for (int i = 0; i < COUNT; i++)
        if (block[i]) pool_put(pool, block[i]);
    pool_free(pool);
    CHECK_INT(raw.room, 1000 * MB);
    CHECK_INT(raw.gets, raw.puts);
}
