/* once.c - weights in the order in which kernels read them: made at load, shared by all that ask.
 * In: a compiled kernel that fills a buffer from weights.  Out: the buffer.
 * Invariant: one buffer for each filling and weights: a step for one token and a step for many that
 * lay a weight out alike read the same memory. It lives as long as one of them does. Buffers lie
 * side by side in large pages: each step reads all of them, and looks up few addresses.
 *   fill "i0 < 96, i1 < 18, .." of weight 7   =>   buffer 31, made now or found                */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/compiled.h"

enum { SOURCES_MAX = 4, LARGE_PAGE = 2 << 20, CHUNK_BYTES = 32 << 20, PAST_END = 64 };
typedef struct {
    char symbol[SYMBOL_SIZE];  // of the filling kernel
    int64_t from[SOURCES_MAX];
    int64_t buffer;
    int32_t sources;
    KernelFunction *function;  // that is still to fill it, else NULL
} Made;

typedef struct {
    char *mapped, *at;  // at: its first whole large page
    size_t size, used;  // bytes; size: from `at`
    int buffers;        // that are alive
} Chunk;

static struct {
    pthread_mutex_t lock;  // also while a buffer goes: those here die in once_sweep
    Made *made;
    int count, capacity;
    Chunk *chunk;  // that has room
} all = {.lock = PTHREAD_MUTEX_INITIALIZER};

static Made *find(const Made *wanted) {
    for (int i = 0; i < all.count; i++)
        if (!memcmp(all.made[i].from, wanted->from, sizeof wanted->from) &&
            !strcmp(all.made[i].symbol, wanted->symbol))
            return &all.made[i];
    return NULL;
}

static void chunk_release(void *owner) {
    Chunk *chunk = owner;
    if (--chunk->buffers) return;
    munmap(chunk->mapped, chunk->size + LARGE_PAGE);
    if (all.chunk == chunk) all.chunk = NULL;
    free(chunk);
}

static Chunk *chunk_new(size_t least) {
    Chunk *chunk = calloc(1, sizeof *chunk);
    if (!chunk) return NULL;
    size_t large = LARGE_PAGE;
    chunk->size = (least > CHUNK_BYTES ? least + large - 1 : CHUNK_BYTES) / large * large;
    chunk->mapped =
        mmap(NULL, chunk->size + large, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (chunk->mapped == MAP_FAILED) {
        free(chunk);
        return NULL;
    }
    chunk->at = chunk->mapped + (large - (uintptr_t)chunk->mapped % large) % large;
#ifdef MADV_HUGEPAGE
    madvise(chunk->at, chunk->size, MADV_HUGEPAGE);
#endif
    return chunk;
}

// A buffer for `bytes`, not zeroed.
static int64_t make_room(size_t bytes) {
    size_t size = (bytes + PAST_END + 63) / 64 * 64;
    if (hostile() || unit_is_gpu()) return buffer_scratch(bytes);
    if (!all.chunk || all.chunk->size - all.chunk->used < size) {
        Chunk *chunk = chunk_new(size);
        if (!chunk) return buffer_scratch(bytes);
        all.chunk = chunk;
    }
    Chunk *chunk = all.chunk;
    char *at = chunk->at + chunk->used;
    chunk->used += size;
    chunk->buffers++;
    return buffer_wrap(at, bytes, chunk_release, chunk);
}

static void fill(void *context, int thread, int threads, Barrier *barrier) {
    (void)context;
    for (int i = 0; i < all.count; i++) {
        const Made *made = &all.made[i];
        void *memory[SOURCES_MAX + 1];
        if (!made->function) continue;
        for (int32_t s = 0; s < made->sources; s++)
            memory[s] = (void *)(uintptr_t)buffer_read(made->from[s]);
        memory[made->sources] = buffer_data(made->buffer);
        made->function(&(PgArgs){.buffer = memory, .wait = barrier_wait}, thread, threads, barrier);
        barrier_wait(barrier, thread);
    }
}

// Threads go in once for all that is asked for: they sleep in between, and wake up slowly.
void once_fill(void) {
    bool any = false;
    pthread_mutex_lock(&all.lock);
    for (int i = 0; i < all.count; i++) any |= all.made[i].function != NULL;
    if (any) thread_run(fill, NULL);
    for (int i = 0; i < all.count; i++) all.made[i].function = NULL;
    pthread_mutex_unlock(&all.lock);
}

int64_t once_live_bytes(void) {
    int64_t bytes = 0;
    pthread_mutex_lock(&all.lock);
    for (int i = 0; i < all.count; i++) bytes += (int64_t)buffer_bytes(all.made[i].buffer);
    pthread_mutex_unlock(&all.lock);
    return bytes;
}

// On a GPU it is filled at once: work is done in the order of its launches.
static int64_t make(Compiled *compiled, const Unit *unit, const Once *once, const Made *made) {
    int64_t buffer = make_room((size_t)once->elements * (size_t)dtypes[once->dtype].bytes);
    int64_t param[SOURCES_MAX + 1];
    if (!unit_is_gpu()) return buffer;
    memcpy(param, made->from, sizeof *param * (size_t)made->sources);
    param[made->sources] = buffer;
    if (!gpu_fill(compiled, unit, made->sources + 1, param)) return buffer;
    buffer_release(buffer);
    return -1;
}

static void add(const Made *made) {
    if (all.count == all.capacity) {
        all.capacity = 2 * all.capacity + 64;
        all.made = realloc(all.made, sizeof *all.made * (size_t)all.capacity);
        if (!all.made) fatal("once: no memory");
    }
    all.made[all.count++] = *made;
}

int64_t once_buffer(Compiled *compiled, const Unit *unit, const Once *once, const int64_t *from) {
    Made made = {.sources = once->sources, .function = unit->function};
    if (once->sources > SOURCES_MAX) fatal("once: %s is made of too many weights", unit->symbol);
    strcpy(made.symbol, unit->symbol);
    memcpy(made.from, from, sizeof *from * (size_t)once->sources);
    pthread_mutex_lock(&all.lock);
    const Made *found = find(&made);
    made.buffer = found ? found->buffer : make(compiled, unit, once, &made);
    if (!found && made.buffer >= 0) add(&made);
    if (made.buffer >= 0) buffer_retain(made.buffer);
    pthread_mutex_unlock(&all.lock);
    return made.buffer;
}

void once_sweep(void) {
    pthread_mutex_lock(&all.lock);
    for (int i = all.count - 1; i >= 0; i--) {
        if (buffer_references(all.made[i].buffer) > 1) continue;
        buffer_release(all.made[i].buffer);
        all.made[i] = all.made[--all.count];
    }
    pthread_mutex_unlock(&all.lock);
}
