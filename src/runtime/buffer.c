/* buffer.c - reference-counted memory, named by ids.
 * In: sizes.  Out: ids; memory, 64-byte aligned and readable 64 bytes past the end, zeroed or not.
 * A buffer has a side here and, once a GPU has used it, one there. What is asked for on the side
 * that is behind is copied then, once; on the side ahead, nothing is. Where a process computes on a
 * GPU, a new buffer has no memory until a side is asked for, and a side here that fell behind gives
 * its memory back: what a GPU makes for itself takes no room here.
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
    void *at;  // NULL: none yet, or given back
    size_t bytes;
    bool zeroed;   // what it holds before it has memory
    bool wrapped;  // somebody else's, who is told by release(owner) if that is not NULL
    void (*release)(void *owner);
    void *owner;
} Memory;

typedef enum { HERE, BOTH, THERE, NOWHERE } Newest;  // where the newest bytes are

typedef struct {
    _Atomic int64_t id;  // 0 while the slot is free
    Memory memory;
    _Atomic(Newest) newest;  // sides change under sides_lock, and are read after it
    Cuda *gpu;               // of the side there
    const DeviceMemory *there;
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

static int64_t buffer_add(Memory memory, Newest newest) {
    pthread_mutex_lock(&registry.lock);
    Buffer *buffer = slot_take();
    pthread_mutex_unlock(&registry.lock);
    if (!buffer) fatal("out of memory: no room for a buffer beside %d others", registry.slots);
    int64_t id = buffer->next_id;
    buffer->next_id += 1 << SLOT_BITS;
    buffer->memory = memory;
    buffer->there = NULL;
    atomic_store(&buffer->newest, newest);
    atomic_store(&buffer->count, 1);
    atomic_store(&buffer->version, 0);
    atomic_store_explicit(&buffer->id, id, memory_order_release);
    return id;
}

static _Noreturn void no_room(size_t bytes) {
    fatal("out of memory: no buffer of %zu bytes beside %ld bytes in use", bytes,
          buffer_live_bytes());
}

static int64_t buffer_make(size_t bytes, bool zeroed) {
    bool later = device()->kind == DEVICE_CUDA;
    void *at = later ? NULL : memory_get(bytes, zeroed);
    if (!at && !later) no_room(bytes);
    atomic_fetch_add(&registry.live_bytes, (int64_t)bytes);
    return buffer_add((Memory){.at = at, .bytes = bytes, .zeroed = zeroed}, later ? NOWHERE : HERE);
}

int64_t buffer_new(size_t bytes) { return buffer_make(bytes, true); }

int64_t buffer_scratch(size_t bytes) { return buffer_make(bytes, false); }

int64_t buffer_wrap(void *at, size_t bytes, void (*release)(void *owner), void *owner) {
    return buffer_add((Memory){at, bytes, false, true, release, owner}, HERE);
}

void buffer_retain(int64_t id) { atomic_fetch_add(&buffer_at(id)->count, 1); }

void buffer_release(int64_t id) {
    Buffer *buffer = buffer_at(id);
    if (atomic_fetch_sub(&buffer->count, 1) > 1) return;
    atomic_store(&buffer->id, 0);
    Memory memory = buffer->memory;
    if (buffer->there) cuda_put(buffer->gpu, buffer->there);
    if (!memory.wrapped) {
        atomic_fetch_sub(&registry.live_bytes, (int64_t)memory.bytes);
        if (memory.at) memory_put(memory.at, memory.bytes);
    } else if (memory.release) {
        memory.release(memory.owner);
    }
    pthread_mutex_lock(&registry.lock);
    buffer->next_free = registry.free_slot;
    registry.free_slot = (int32_t)(id & ((1 << SLOT_BITS) - 1));
    pthread_mutex_unlock(&registry.lock);
}

int64_t buffer_references(int64_t id) { return atomic_load(&buffer_at(id)->count); }

size_t buffer_bytes(int64_t id) { return buffer_at(id)->memory.bytes; }

int64_t buffer_version(int64_t id) { return atomic_load(&buffer_at(id)->version); }

int64_t buffer_advance(int64_t id) { return atomic_fetch_add(&buffer_at(id)->version, 1) + 1; }

int64_t buffer_live_bytes(void) { return atomic_load(&registry.live_bytes); }

// ---- two sides ---------------------------------------------------------------------------------

static pthread_mutex_t sides_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic int64_t side_changes;

int64_t buffer_side_changes(void) { return atomic_load(&side_changes); }

static Newest newest_of(const Buffer *buffer) {
    return atomic_load_explicit(&buffer->newest, memory_order_acquire);
}

static void set_newest(Buffer *buffer, Newest newest) {
    atomic_store_explicit(&buffer->newest, newest, memory_order_release);
}

// Makes this side as new as the other.
static int catch_up_here(Buffer *buffer) {
    Memory *memory = &buffer->memory;
    Newest newest = newest_of(buffer);
    if (newest < THERE) return 0;
    if (!memory->at) memory->at = memory_get(memory->bytes, newest == NOWHERE && memory->zeroed);
    if (!memory->at)
        return fail("out of memory: no room for %zu bytes from the GPU", memory->bytes);
    if (newest == THERE &&
        cuda_read(buffer->gpu, memory->at, buffer->there->at, (int64_t)memory->bytes))
        return -1;
    set_newest(buffer, newest == NOWHERE ? HERE : BOTH);
    return 0;
}

static void come_home(Buffer *buffer, bool will_write) {
    pthread_mutex_lock(&sides_lock);
    atomic_fetch_add(&side_changes, 1);
    int status = catch_up_here(buffer);
    if (!status && will_write) set_newest(buffer, HERE);
    pthread_mutex_unlock(&sides_lock);
    if (status) fatal("%s", error_text());
}

void *buffer_data(int64_t id) {
    Buffer *buffer = buffer_at(id);
    if (newest_of(buffer) != HERE) come_home(buffer, true);
    return buffer->memory.at;
}

const void *buffer_read(int64_t id) {
    Buffer *buffer = buffer_at(id);
    if (newest_of(buffer) >= THERE) come_home(buffer, false);
    return buffer->memory.at;
}

// From another GPU by way of this side.
static int leave_other_gpu(Buffer *buffer, const Cuda *gpu) {
    if (!buffer->there || buffer->gpu == gpu) return 0;
    if (catch_up_here(buffer)) return -1;
    set_newest(buffer, HERE);
    cuda_put(buffer->gpu, buffer->there);
    buffer->there = NULL;
    return 0;
}

// Pages of a mapped file are not looked at again.
static int catch_up_there(Buffer *buffer, Cuda *gpu) {
    const Memory *memory = &buffer->memory;
    int64_t bytes = (int64_t)memory->bytes;
    if (leave_other_gpu(buffer, gpu)) return -1;
    if (!buffer->there && !(buffer->there = cuda_get(gpu, bytes + PAST_END))) return -1;
    buffer->gpu = gpu;
    Newest newest = newest_of(buffer);
    if (newest == NOWHERE && memory->zeroed && cuda_fill(gpu, buffer->there->at, 0, bytes))
        return -1;
    if (newest == HERE && cuda_write(gpu, buffer->there->at, memory->at, bytes)) return -1;
    if (newest == HERE && memory->wrapped) file_pages_drop(memory->at, memory->bytes);
    set_newest(buffer, newest == HERE ? BOTH : newest == NOWHERE ? THERE : newest);
    return 0;
}

static void fall_behind_here(Buffer *buffer) {
    Memory *memory = &buffer->memory;
    set_newest(buffer, THERE);
    if (memory->wrapped || !memory->at) return;
    memory_put(memory->at, memory->bytes);
    memory->at = NULL;
}

uint64_t buffer_on_device(int64_t id, Cuda *gpu, bool will_write) {
    Buffer *buffer = buffer_at(id);
    Newest newest = newest_of(buffer);
    bool ready = newest == THERE || (newest == BOTH && !will_write);
    if (ready && buffer->gpu == gpu) return buffer->there->at;
    pthread_mutex_lock(&sides_lock);
    atomic_fetch_add(&side_changes, 1);
    int status = catch_up_there(buffer, gpu);
    if (!status && will_write) fall_behind_here(buffer);
    pthread_mutex_unlock(&sides_lock);
    return status ? 0 : buffer->there->at;
}

bool buffer_is_there(int64_t id) {
    Newest newest = newest_of(buffer_at(id));
    return newest == BOTH || newest == THERE;
}

// What the GPU still does with it comes before what gets its memory next does.
void buffer_leave_gpu(int64_t id) {
    Buffer *buffer = buffer_at(id);
    pthread_mutex_lock(&sides_lock);
    if (newest_of(buffer) == BOTH) {
        atomic_fetch_add(&side_changes, 1);
        set_newest(buffer, HERE);
        cuda_put(buffer->gpu, buffer->there);
        buffer->there = NULL;
    }
    pthread_mutex_unlock(&sides_lock);
}
