/* pool.c - memory of a device: taken in segments, cut into blocks, kept and used again.
 * In: where raw memory comes from.  Out: blocks, whose addresses are multiples of 512.
 * Invariants: the blocks of a segment lie side by side, and no two neighbours are both free; a free
 * block is in the bin of its size. A block may be used again as soon as it is put back: work on it
 * was started earlier, and runs earlier.
 * Small and large requests have segments of their own, so that no small one keeps a large one whole
 * from being put together again (the sizes are PyTorch's, c10/cuda/CUDACachingAllocator).
 *   const DeviceMemory *a = pool_get(pool, 4000); ... pool_put(pool, a);                        */
#include "runtime/runtime.h"

#include <pthread.h>

enum {
    GRAIN = 512,        // bytes; sizes of blocks are multiples
    SMALL = 1 << 20,    // the largest request of the small kind; no less is cut off a large block
    MIDDLE = 10 << 20,  // from here on, a segment for each request that finds no block
    SMALL_SEGMENT = 2 << 20,
    MIDDLE_SEGMENT = 20 << 20,
    BINS = 48,  // by log2 of the size in grains
};

typedef struct Block Block;
struct Block {
    DeviceMemory memory;     // first: whoever has it, has the block
    int64_t size;            // bytes, of which memory.bytes were asked for
    Block *before, *after;   // in its segment
    Block *next, *previous;  // in its bin, while it is free
    bool used, large;
};

struct Pool {
    pthread_mutex_t lock;
    Arena *arena;
    PoolSource source;
    Block *bin[2][BINS];  // small, large
    Block *spare;         // structs that wait for another block
    _Atomic int64_t live, held;
};

Pool *pool_new(const PoolSource *source) {
    Arena *arena = arena_new();
    Pool *pool = arena_object(arena, Pool);
    *pool = (Pool){.lock = PTHREAD_MUTEX_INITIALIZER, .arena = arena, .source = *source};
    return pool;
}

// ---- bins --------------------------------------------------------------------------------------

static int bin_of(int64_t size) {
    int bin = 63 - __builtin_clzll((uint64_t)(size / GRAIN));
    return (int)min_i64(bin, BINS - 1);
}

static void bin_add(Pool *pool, Block *block) {
    Block **bin = &pool->bin[block->large][bin_of(block->size)];
    block->used = false;
    block->previous = NULL;
    block->next = *bin;
    if (*bin) (*bin)->previous = block;
    *bin = block;
}

static void bin_remove(Pool *pool, Block *block) {
    if (block->next) block->next->previous = block->previous;
    if (block->previous)
        block->previous->next = block->next;
    else
        pool->bin[block->large][bin_of(block->size)] = block->next;
}

// The smallest free block of at least `size`.
static Block *find_block(const Pool *pool, bool large, int64_t size) {
    Block *best = NULL;
    for (int bin = bin_of(size); bin < BINS && !best; bin++)
        for (Block *at = pool->bin[large][bin]; at; at = at->next)
            if (at->size >= size && (!best || at->size < best->size)) best = at;
    return best;
}

// ---- blocks ------------------------------------------------------------------------------------

static Block *block_new(Pool *pool, Block block) {
    Block *at = pool->spare;
    if (at)
        pool->spare = at->next;
    else
        at = arena_object(pool->arena, Block);
    *at = block;
    return at;
}

static void block_drop(Pool *pool, Block *block) {
    *block = (Block){.next = pool->spare};
    pool->spare = block;
}

// What is left behind the first `size` bytes becomes a free block, if it is of use.
static void cut(Pool *pool, Block *block, int64_t size) {
    int64_t left = block->size - size;
    if (left < (block->large ? SMALL + 1 : GRAIN)) return;
    Block *rest = block_new(pool, (Block){.memory.at = block->memory.at + (uint64_t)size,
                                          .size = left,
                                          .before = block,
                                          .after = block->after,
                                          .large = block->large});
    if (rest->after) rest->after->before = rest;
    block->after = rest;
    block->size = size;
    bin_add(pool, rest);
}

// A block takes in the one after it.
static void join(Pool *pool, Block *block) {
    Block *after = block->after;
    block->size += after->size;
    block->after = after->after;
    if (after->after) after->after->before = block;
    block_drop(pool, after);
}

// ---- segments ----------------------------------------------------------------------------------

static int64_t give_back(Pool *pool) {
    int64_t bytes = 0;
    if (pool->source.settle(pool->source.context)) return 0;
    for (int large = 0; large < 2; large++)
        for (int bin = 0; bin < BINS; bin++)
            for (Block *at = pool->bin[large][bin], *next; at; at = next) {
                next = at->next;
                if (at->before || at->after) continue;
                bin_remove(pool, at);
                pool->source.put(pool->source.context, at->memory.at);
                bytes += at->size;
                block_drop(pool, at);
            }
    pool->held -= bytes;
    return bytes;
}

// Where there is no room for a segment, all that is free goes back; then the request alone may fit.
static Block *segment_new(Pool *pool, bool large, int64_t size) {
    const PoolSource *source = &pool->source;
    int64_t bytes = !large          ? SMALL_SEGMENT
                    : size < MIDDLE ? MIDDLE_SEGMENT
                                    : round_up(size, SMALL_SEGMENT);
    uint64_t at;
    if (source->get(source->context, bytes, &at)) {
        give_back(pool);
        if (source->get(source->context, bytes, &at)) {
            bytes = size;
            if (source->get(source->context, bytes, &at)) return NULL;
        }
    }
    pool->held += bytes;
    Block *block = block_new(pool, (Block){.memory.at = at, .size = bytes, .large = large});
    bin_add(pool, block);
    return block;
}

const DeviceMemory *pool_get(Pool *pool, int64_t bytes) {
    if (bytes < 0 || bytes > INT64_MAX / 4) return NULL;
    int64_t size = round_up(max_i64(bytes, 1), GRAIN);
    bool large = size > SMALL;
    pthread_mutex_lock(&pool->lock);
    Block *block = find_block(pool, large, size);
    if (!block) block = segment_new(pool, large, size);
    if (block) {
        bin_remove(pool, block);
        cut(pool, block, size);
        block->used = true;
        block->memory.bytes = bytes;
        pool->live += bytes;
    }
    pthread_mutex_unlock(&pool->lock);
    return block ? &block->memory : NULL;
}

void pool_put(Pool *pool, const DeviceMemory *memory) {
    Block *block = (Block *)(uintptr_t)memory;
    pthread_mutex_lock(&pool->lock);
    bool used = block->used;
    if (used) {
        block->used = false;
        pool->live -= memory->bytes;
        if (block->after && !block->after->used) {
            bin_remove(pool, block->after);
            join(pool, block);
        }
        if (block->before && !block->before->used) {
            block = block->before;
            bin_remove(pool, block);
            join(pool, block);
        }
        bin_add(pool, block);
    }
    pthread_mutex_unlock(&pool->lock);
    if (!used) fatal("memory of a device is put back twice");
}

int64_t pool_give_back(Pool *pool) {
    pthread_mutex_lock(&pool->lock);
    int64_t bytes = give_back(pool);
    pthread_mutex_unlock(&pool->lock);
    return bytes;
}

int64_t pool_live_bytes(const Pool *pool) { return atomic_load(&pool->live); }

int64_t pool_held_bytes(const Pool *pool) { return atomic_load(&pool->held); }

void pool_free(Pool *pool) {
    if (pool->live)
        fatal("a pool is freed while %ld bytes of it are in use", pool_live_bytes(pool));
    give_back(pool);
    arena_free(pool->arena);
}
