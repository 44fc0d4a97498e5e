/* buffer.c - reference-counted memory, named by ids.
 * In: sizes.  Out: ids; zeroed memory, 64-byte aligned and readable 64 bytes past the end.
 * Invariants: an id is a slot and how often that slot was used before, so it is found by one load
 * and never names two buffers; what a slot holds is written before its id and read after it.
 * Large memory is mapped: a page takes room once written. Small memory is kept and zeroed again,
 * since a map and its page faults would cost more than most eager ops.
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
    PAST_END = 64,          // bytes that vector loads may read past a buffer's end
    SMALLEST = 7,           // log2 of the bytes of a kept block
    LARGEST = 20,           // above it memory is mapped
    KEPT_BYTES = 32 << 20,  // most that waits to be used again
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
    int32_t slots, free_slot;  // slots: ever used; slot 0 never is
    Block *kept[LARGEST + 1];  // by log2 of the size
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

// log2 of the kept block for `bytes`; above LARGEST: to be mapped.
static int block_class(size_t bytes) {
    int class = SMALLEST;
    while (class <= LARGEST && (size_t)1 << class < bytes + PAST_END) class ++;
    return class;
}

static void *block_reuse(int class) {
    pthread_mutex_lock(&registry.lock);
    Block *block = registry.kept[class];
    if (block) {
        registry.kept[class] = block->next;
        registry.kept_bytes -= (size_t)1 << class;
    }
    pthread_mutex_unlock(&registry.lock);
    return block;
}

static size_t mapped_bytes(size_t bytes) { return (bytes + PAST_END + 4095) & ~(size_t)4095; }

// NULL if there is none. A hostile build gets each block from malloc, exact and never twice.
static void *memory_get(size_t bytes) {
    if (bytes > SIZE_MAX / 2) return NULL;
    int class = block_class(bytes);
    if (class > LARGEST) {
        void *at = mmap(NULL, mapped_bytes(bytes), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return at == MAP_FAILED ? NULL : at;
    }
    void *at = hostile() ? NULL : block_reuse(class);
    if (!at && posix_memalign(&at, 64, hostile() ? bytes + PAST_END : (size_t)1 << class))
        return NULL;
    return memset(at, 0, bytes + PAST_END);
}

static void memory_put(void *at, size_t bytes) {
    int class = block_class(bytes);
    if (class > LARGEST) {
        munmap(at, mapped_bytes(bytes));
        return;
    }
    Block *block = at;
    pthread_mutex_lock(&registry.lock);
    bool keep = !hostile() && registry.kept_bytes < KEPT_BYTES;
    if (keep) {
        block->next = registry.kept[class];
        registry.kept[class] = block;
        registry.kept_bytes += (size_t)1 << class;
    }
    pthread_mutex_unlock(&registry.lock);
    if (!keep) free(at);
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

int64_t buffer_new(size_t bytes) {
    void *at = memory_get(bytes);
    if (!at)
        fatal("out of memory: no buffer of %zu bytes beside %ld bytes in use", bytes,
              buffer_live_bytes());
    atomic_fetch_add(&registry.live_bytes, (int64_t)bytes);
    return buffer_add((Memory){.at = at, .bytes = bytes});
}

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

void *buffer_data(int64_t id) { return buffer_at(id)->memory.at; }

size_t buffer_bytes(int64_t id) { return buffer_at(id)->memory.bytes; }

int64_t buffer_version(int64_t id) { return atomic_load(&buffer_at(id)->version); }

int64_t buffer_advance(int64_t id) { return atomic_fetch_add(&buffer_at(id)->version, 1) + 1; }

int64_t buffer_live_bytes(void) { return atomic_load(&registry.live_bytes); }
