/* buffer.c - reference-counted memory, named by ids.
 * In: sizes.  Out: ids; memory, 64-byte aligned and readable 64 bytes past the end, zeroed or not.
 * Invariants: an id is a slot and how often that slot was used before, so it is found by one load
 * and never names two buffers; what a slot holds is written before its id and read after it.
 * Zeroed memory that is large is mapped: a page takes room once written. All other memory is kept
 * and used again, since a map and its page faults would cost more than most eager ops.
 *   int64_t id = buffer_new(400); float *at = buffer_data(id); buffer_release(id);             */
#define _GNU_SOURCE
#include "runtime/runtime.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    SLOT_BITS = 24,  // 16 million buffers at a time; the bits above count uses of the slot
    CHUNK = 4096,    // slots are made so many at a time, and never move
    CHUNKS = (1 << SLOT_BITS) / CHUNK,
    PAST_END = 64,  // bytes that vector loads may read past a buffer's end
    SMALLEST = 7,   // log2 of the bytes of a kept block
    LARGEST = 17,   // of a block from malloc; above it memory is mapped
    LARGEST_KEPT = 27,
    KEPT_BYTES = 192 << 20,  // most that waits to be used again: a result of 64 MB and its operand
};

typedef struct {
    void *at;
    size_t bytes;
    bool wrapped;  // somebody else's, who is told by release(owner) if that is not NULL
    void (*release)(void *owner);
    void *owner;
} Memory;

typedef struct {
    _Atomic int64_t id;  // 0 while the slot is free
    Memory memory;
    _Atomic int64_t count, version;
    int64_t next_id;    // of the slot's next use
    int32_t next_free;  // 0 ends the list
} Buffer;

typedef struct Block Block;  // free memory
struct Block {
    Block *next;
};

static struct {
    pthread_mutex_t lock;
    _Atomic(Buffer *) chunks[CHUNKS];
    int32_t slots, free_slot;       // slots: ever used; slot 0 never is
    Block *kept[LARGEST_KEPT + 1];  // by log2 of the size
    size_t kept_bytes;
    _Atomic int64_t live_bytes;
} registry = {.lock = PTHREAD_MUTEX_INITIALIZER};

static Buffer *slot_at(int64_t slot) {
    Buffer *chunk = atomic_load_explicit(&registry.chunks[slot / CHUNK], memory_order_acquire);
    return chunk ? &chunk[slot % CHUNK] : NULL;
}

static Buffer *buffer_at(int64_t id) {
    Buffer *buffer = id > 0 ? slot_at(id & ((1 << SLOT_BITS) - 1)) : NULL;
    if (!buffer || atomic_load_explicit(&buffer->id, memory_order_acquire) != id)
        fatal("buffer %ld is not alive. Hint: it was released, or never made", id);
    return buffer;
}

// ---- memory ------------------------------------------------------------------------------------

// log2 of the kept block for `bytes`; above LARGEST_KEPT: never kept.
static int block_class(size_t bytes) {
    int class = SMALLEST;
    while (class <= LARGEST_KEPT && (size_t)1 << class < bytes + PAST_END) class ++;
    return class;
}

static size_t block_bytes(int class, size_t bytes) {
    if (class <= LARGEST_KEPT) return (size_t)1 << class;
    return (bytes + PAST_END + 4095) & ~(size_t)4095;
}

static void *block_reuse(int class) {
    if (class > LARGEST_KEPT) return NULL;
    pthread_mutex_lock(&registry.lock);
    Block *block = registry.kept[class];
    if (block) {
        registry.kept[class] = block->next;
        registry.kept_bytes -= (size_t)1 << class;
    }
    pthread_mutex_unlock(&registry.lock);
    return block;
}

static bool block_keep(int class, Block *block) {
    if (class > LARGEST_KEPT || hostile()) return false;
    pthread_mutex_lock(&registry.lock);
    bool keep = registry.kept_bytes + ((size_t)1 << class) <= KEPT_BYTES;
    if (keep) {
        block->next = registry.kept[class];
        registry.kept[class] = block;
        registry.kept_bytes += (size_t)1 << class;
    }
    pthread_mutex_unlock(&registry.lock);
    return keep;
}

// NULL if there is none. A hostile build gets each block new and, if not zeroed, full of NaN.
static void *memory_get(size_t bytes, bool zeroed) {
    if (bytes > SIZE_MAX / 2) return NULL;
    int class = block_class(bytes);
    bool mapped = class > LARGEST;
    void *at = hostile() || (mapped && zeroed) ? NULL : block_reuse(class);
    if (!at && mapped) {
        at = mmap(NULL, block_bytes(class, bytes), PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED) return NULL;
    } else if (!at) {
        size_t size = hostile() ? bytes + PAST_END : block_bytes(class, bytes);
        if (posix_memalign(&at, 64, size)) return NULL;
    }
    if (zeroed && !mapped) memset(at, 0, bytes + PAST_END);
    if (!zeroed && hostile()) memset(at, 0xff, bytes);
    return at;
}

static void memory_put(void *at, size_t bytes) {
    int class = block_class(bytes);
    if (block_keep(class, at)) return;
    if (class > LARGEST)
        munmap(at, block_bytes(class, bytes));
    else
        free(at);
}

// ---- buffers -----------------------------------------------------------------------------------

// A slot that nobody uses, NULL if there is no room; the lock is held.
static Buffer *slot_take(void) {
    if (registry.free_slot) {
        Buffer *buffer = slot_at(registry.free_slot);
        registry.free_slot = buffer->next_free;
        return buffer;
    }
    int32_t slot = registry.slots + 1;
    if (slot == 1 << SLOT_BITS) return NULL;
    if (!slot_at(slot)) {
        Buffer *chunk = calloc(CHUNK, sizeof *chunk);
        if (!chunk) return NULL;
        atomic_store_explicit(&registry.chunks[slot / CHUNK], chunk, memory_order_release);
    }
    registry.slots = slot;
    slot_at(slot)->next_id = slot;
    return slot_at(slot);
}

static int64_t buffer_add(Memory memory) {
    pthread_mutex_lock(&registry.lock);
    Buffer *buffer = slot_take();
    pthread_mutex_unlock(&registry.lock);
    if (!buffer) fatal("out of memory: no room for a buffer beside %d others", registry.slots);
    int64_t id = buffer->next_id;
    buffer->next_id += 1 << SLOT_BITS;
    buffer->memory = memory;
    atomic_store(&buffer->count, 1);
    atomic_store(&buffer->version, 0);
    atomic_store_explicit(&buffer->id, id, memory_order_release);
    return id;
}

static int64_t buffer_make(size_t bytes, bool zeroed) {
    void *at = memory_get(bytes, zeroed);
    if (!at)
        fatal("out of memory: no buffer of %zu bytes beside %ld bytes in use", bytes,
              buffer_live_bytes());
    atomic_fetch_add(&registry.live_bytes, (int64_t)bytes);
    return buffer_add((Memory){.at = at, .bytes = bytes});
}

int64_t buffer_new(size_t bytes) { return buffer_make(bytes, true); }

int64_t buffer_scratch(size_t bytes) { return buffer_make(bytes, false); }

int64_t buffer_wrap(void *at, size_t bytes, void (*release)(void *owner), void *owner) {
    return buffer_add((Memory){at, bytes, true, release, owner});
}

void buffer_retain(int64_t id) { atomic_fetch_add(&buffer_at(id)->count, 1); }

void buffer_release(int64_t id) {
    Buffer *buffer = buffer_at(id);
    if (atomic_fetch_sub(&buffer->count, 1) > 1) return;
    atomic_store(&buffer->id, 0);
    Memory memory = buffer->memory;
    if (!memory.wrapped) {
        atomic_fetch_sub(&registry.live_bytes, (int64_t)memory.bytes);
        memory_put(memory.at, memory.bytes);
    } else if (memory.release) {
        memory.release(memory.owner);
    }
    pthread_mutex_lock(&registry.lock);
    buffer->next_free = registry.free_slot;
    registry.free_slot = (int32_t)(id & ((1 << SLOT_BITS) - 1));
    pthread_mutex_unlock(&registry.lock);
}

int64_t buffer_references(int64_t id) { return atomic_load(&buffer_at(id)->count); }

void *buffer_data(int64_t id) { return buffer_at(id)->memory.at; }

size_t buffer_bytes(int64_t id) { return buffer_at(id)->memory.bytes; }

int64_t buffer_version(int64_t id) { return atomic_load(&buffer_at(id)->version); }

int64_t buffer_advance(int64_t id) { return atomic_fetch_add(&buffer_at(id)->version, 1) + 1; }

int64_t buffer_live_bytes(void) { return atomic_load(&registry.live_bytes); }
