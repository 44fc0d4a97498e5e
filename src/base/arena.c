/* arena.c - many allocations, one free.
 * In: sizes.  Out: zeroed memory that lives until arena_reset or arena_free.
 * Invariant: the newest chunk is first in the list, and only it is still handed out from.
 *   int *ids = arena_array(mem, int, 100); ... arena_free(mem);                             */
#include "base/base.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK_FIRST = 16 << 10, CHUNK_LARGEST = 1 << 20 };

typedef struct Chunk Chunk;
struct Chunk {
    _Alignas(64) Chunk *next;
    size_t capacity, used;  // bytes after this header
};

struct Arena {
    Chunk *chunks;
    size_t bytes;
    size_t chunk_size;  // of the next chunk
};

Arena *arena_new(void) {
    Arena *arena = calloc(1, sizeof *arena);
    if (!arena) fatal("out of memory: no room for an arena");
    arena->chunk_size = CHUNK_FIRST;
    return arena;
}

// Frees all but `kept`.
static void free_chunks(Arena *arena, const Chunk *kept) {
    for (Chunk *chunk = arena->chunks, *next; chunk; chunk = next) {
        next = chunk->next;
        if (chunk != kept) free(chunk);
    }
}

void arena_free(Arena *arena) {
    if (!arena) return;
    free_chunks(arena, NULL);
    free(arena);
}

void arena_reset(Arena *arena) {
    Chunk *kept = hostile() ? NULL : arena->chunks;
    while (kept && kept->capacity > CHUNK_LARGEST) kept = kept->next;
    free_chunks(arena, kept);
    if (kept) {
        kept->used = 0;
        kept->next = NULL;
    }
    arena->chunks = kept;
    arena->bytes = 0;
}

size_t arena_bytes(const Arena *arena) { return arena->bytes; }

static Chunk *chunk_new(Arena *arena, size_t bytes) {
    size_t capacity = bytes;
    if (!hostile()) {
        capacity = arena->chunk_size > bytes ? arena->chunk_size : bytes;
        if (arena->chunk_size < CHUNK_LARGEST) arena->chunk_size *= 2;
    }
    // Not aligned_alloc: it wants a rounded size, which would hide a small overrun from sanitizers.
    void *memory = NULL;
    if (capacity > SIZE_MAX - sizeof(Chunk) ||
        posix_memalign(&memory, _Alignof(Chunk), sizeof(Chunk) + capacity))
        fatal("out of memory: cannot get %zu bytes", capacity);
    Chunk *chunk = memory;
    *chunk = (Chunk){.next = arena->chunks, .capacity = capacity};
    arena->chunks = chunk;
    return chunk;
}

void *arena_alloc(Arena *arena, size_t bytes) {
    size_t alignment = bytes >= 64 ? 64 : 16;
    Chunk *chunk = arena->chunks;
    size_t first = chunk ? (chunk->used + alignment - 1) & ~(alignment - 1) : 0;
    if (!chunk || hostile() || first > chunk->capacity || chunk->capacity - first < bytes) {
        chunk = chunk_new(arena, bytes);
        first = 0;
    }
    chunk->used = first + bytes;
    arena->bytes += bytes;
    return memset((char *)(chunk + 1) + first, 0, bytes);
}

void *arena_array_bytes(Arena *arena, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        fatal("out of memory: %zu objects of %zu bytes", count, size);
    return arena_alloc(arena, bytes);
}

void *arena_copy(Arena *arena, const void *bytes, size_t count) {
    void *copy = arena_alloc(arena, count);
    return count ? memcpy(copy, bytes, count) : copy;
}

char *arena_text(Arena *arena, const char *text) {
    return arena_copy(arena, text, strlen(text) + 1);
}

char *arena_print(Arena *arena, const char *format, ...) {
    Text text = text_new(arena);
    va_list arguments;
    va_start(arguments, format);
    text_add_list(&text, format, arguments);
    va_end(arguments);
    return text.at;
}

void *list_grow(Arena *arena, void *at, int32_t count, int32_t *capacity, size_t size) {
    if (count < *capacity) return at;
    if (*capacity > INT32_MAX / 2) fatal("a list cannot have more than %d entries", INT32_MAX);
    *capacity = *capacity ? 2 * *capacity : hostile() ? 1 : 8;
    void *grown = arena_array_bytes(arena, (size_t)*capacity, size);
    if (count) memcpy(grown, at, (size_t)count * size);
    return grown;
}
