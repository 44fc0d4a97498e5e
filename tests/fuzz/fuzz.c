#define _GNU_SOURCE  // memfd_create
#include "fuzz/fuzz.h"

#include "picograd.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void on_fatal(const char *message) {
    fprintf(stderr, "fuzz: fatal: %s\n", message);
    abort();
}

// One thread and no compiler: an input takes microseconds, and what it does it does again.
int LLVMFuzzerInitialize(int *count, char ***arguments) {
    (void)count, (void)arguments;
    fatal_hook(on_fatal);
    thread_set_count(1);
    pg_set_mode(PG_EAGER);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_one(data, size);
    return 0;
}

void fuzz_check(bool holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "fuzz: %s; the last message: %s\n", what, error_text());
    abort();
}

void fuzz_refused(const char *name) {
    fuzz_check(strstr(error_text(), name) != NULL, "a refusal does not name the file");
    for (const char *at = error_text(); *at; at++)
        fuzz_check((unsigned char)*at >= ' ' && *at != 0x7f, "a refusal has control characters");
}

char *fuzz_text(Arena *arena, const uint8_t *data, size_t size) {
    char *text = arena_alloc(arena, size + 1);
    if (size) memcpy(text, data, size);
    return text;
}

const char *fuzz_file(const uint8_t *data, size_t size) {
    static char path[64];
    static int file = -1;
    if (file < 0) file = memfd_create("fuzz", MFD_CLOEXEC);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    bool written = file >= 0 && !ftruncate(file, 0) && pwrite(file, data, size, 0) == (ssize_t)size;
    fuzz_check(written, "a file in memory cannot be written");
    return path;
}
