/* safetensors_fuzz.c - bytes as a safetensors file: two tensors loaded, and read as integers. */
#include "fuzz/fuzz.h"
#include "picograd.h"

void fuzz_one(const uint8_t *data, size_t size) {
    static const char *const names[] = {"a", "b"};
    const char *path = fuzz_file(data, size);
    PgTensor *loaded[2];
    pg_scope_begin();
    for (int count = 1; count <= 2; count++) {
        if (pg_load(path, count, names, loaded)) {
            fuzz_refused(path);
            continue;
        }
        for (int i = 0; i < count; i++) {
            size_t values = (size_t)pg_count(loaded[i]);
            fuzz_check(values <= size, "more values than bytes");
            Arena *arena = arena_new();
            pg_to_host(pg_cast(loaded[i], PG_I64), arena_array(arena, int64_t, values),
                       values * sizeof(int64_t));
            arena_free(arena);
        }
    }
    pg_scope_end();
}
