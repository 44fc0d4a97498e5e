/* gguf_parts.c - a model in several GGUF files.
 * In: one of the files, opened.  Out: the keys of the first, the tensors of all.
 * Invariant: every file is there, says which of how many it is, and together they hold as many
 * tensors as the first says.
 *   any of  m-00001-of-00002.gguf  split.no 0  split.count 2  split.tensors.count 9  7 tensors
 *           m-00002-of-00002.gguf  split.no 1  split.count 2                         2 tensors
 * Source: gguf-split of llama.cpp.                                                              */
#include "io/io.h"

#include <stdlib.h>
#include <string.h>

enum { PARTS_MAX = 99999 };  // five digits

typedef struct {
    const char *path;
    int stem;  // bytes of path before the numbers
    int64_t count;
} Parts;

static const char *part_path(Arena *arena, const Parts *parts, int64_t i) {
    return arena_print(arena, "%.*s-%05d-of-%05d.gguf", parts->stem, parts->path, (int)i + 1,
                       (int)parts->count);
}

static int check_number(const Gguf *part, const char *name, int64_t wanted) {
    int64_t number;
    if (gguf_int(part, name, &number)) return -1;
    if (number == wanted) return 0;
    return fail("%s: %s is %lld, but as its name says it must be %lld", gguf_path(part), name,
                (long long)number, (long long)wanted);
}

static int check_part(const Gguf *part, const Parts *parts, int64_t i) {
    return check_number(part, "split.count", parts->count) || check_number(part, "split.no", i);
}

static Gguf *read_part(Arena *arena, const Parts *parts, int64_t i) {
    const char *path = part_path(arena, parts, i);
    FileBytes file;
    if (file_map(path, &file)) {
        const char *reason = arena_text(arena, error_text());
        fail("part %d of %d is missing: %s", (int)i + 1, (int)parts->count, reason);
        return NULL;
    }
    Gguf *part = gguf_read(path, file);
    if (!part || !check_part(part, parts, i)) return part;
    gguf_close(part);
    return NULL;
}

static int join_all(Arena *arena, const Parts *parts, Gguf *first) {
    int64_t tensors;
    for (int64_t i = 1; i < parts->count; i++) {
        Gguf *part = read_part(arena, parts, i);
        if (!part || gguf_join(first, part)) return -1;
    }
    if (gguf_int(first, "split.tensors.count", &tensors)) return -1;
    if (tensors == gguf_tensor_count(first)) return 0;
    return fail("%s: split.tensors.count is %lld, but the %d parts have %lld tensors",
                gguf_path(first), (long long)tensors, (int)parts->count,
                (long long)gguf_tensor_count(first));
}

// The numbers are those that the name would be printed with.
static int read_name(Arena *arena, const Gguf *part, Parts *parts) {
    static const char numbers[] = "-00001-of-00001.gguf";
    int length = (int)strlen(parts->path) - (int)(sizeof numbers - 1);
    int64_t i = length >= 0 ? strtol(parts->path + length + 1, NULL, 10) - 1 : -1;
    parts->stem = length;
    if (i >= 0 && i < parts->count && !strcmp(part_path(arena, parts, i), parts->path)) return 0;
    return fail("%s: the file is one of %d parts of a model, but its name does not end like "
                "-%05d-of-%05d.gguf; give it the name it was made with",
                gguf_path(part), (int)parts->count, 1, (int)parts->count);
}

static Gguf *open_all(Arena *arena, const Gguf *part, int64_t count) {
    Parts parts = {.path = gguf_path(part), .count = count};
    if (count < 0 || count > PARTS_MAX) {
        fail("%s: split.count is %lld, outside 0 to %d", parts.path, (long long)count, PARTS_MAX);
        return NULL;
    }
    if (read_name(arena, part, &parts)) return NULL;
    Gguf *first = read_part(arena, &parts, 0);
    if (!first || !join_all(arena, &parts, first)) return first;
    gguf_close(first);
    return NULL;
}

Gguf *gguf_open_parts(Gguf *part) {
    int64_t count;
    Gguf *whole = NULL;
    bool known = gguf_int(part, "split.count", &count) == 0;
    if (known && (count == 0 || count == 1)) return part;  // 0: parts that were merged
    Arena *arena = arena_new();
    if (known) whole = open_all(arena, part, count);
    gguf_close(part);
    arena_free(arena);
    return whole;
}
