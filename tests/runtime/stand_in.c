/* stand_in.c - builds the stand-ins for NVIDIA's driver and compiler, and has this process use
 * them.
 * In: libpicograd.a of the build folder.  Out: PG_LIBCUDA, PG_NVRTC, PG_CACHE.                  */
#define _GNU_SOURCE
#include "stand_in.h"
#include "runtime/runtime.h"
#include "test.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[] = "/tmp/picograd-test-XXXXXX";

static void remove_all(void) {
    char command[256];
    snprintf(command, sizeof command, "rm -r %s", folder);
    if (system(command)) perror(folder);
}

static const char *build(Arena *arena, const char *compiler, const char *name, const char *source,
                         const char *more) {
    char *path = arena_print(arena, "%s/%s", folder, name);
    CHECK_INT(system(arena_print(arena,
                                 "%s -std=gnu11 -shared -fPIC -w -fvisibility=hidden -Isrc "
                                 "-Itests/runtime %s -o %s %s",
                                 compiler, source, path, more)),
              0);
    return path;
}

// Where this program was built, of which it is tests/<folder>/<name>.
static const char *build_folder(Arena *arena) {
    char path[1024];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    CHECK(length > 0);
    path[length] = 0;
    char *end = strstr(path, "/tests/");
    CHECK(end != NULL);
    return arena_print(arena, "%.*s", (int)(end - path), path);
}

StandInCounts *stand_in(int64_t bytes) {
    static void *driver;
    Arena *arena = arena_new();
    const char *compiler = compiler_path(arena);
    if (!compiler) SKIP(error_text());
    if (!driver) {
        CHECK(mkdtemp(folder) != NULL);
        atexit(remove_all);
        const char *library =
            build(arena, compiler, "libcuda.so", "tests/runtime/driver.c",
                  arena_print(arena,
                              "-Wl,-u,simt_launch %s/libpicograd.a -Wl,-Bsymbolic -ldl -lm "
                              "-lpthread $(pkg-config --libs libpcre2-8 2>/dev/null)",
                              build_folder(arena)));
        setenv("PG_NVRTC", build(arena, compiler, "libnvrtc.so", "tests/runtime/compiler.c", ""),
               1);
        setenv("PG_LIBCUDA", library, 1);
        setenv("PG_CACHE", arena_print(arena, "%s/cache", folder), 1);
        setenv("STAND_IN_FOLDER", folder, 1);
        setenv("DRIVER_ROOM", arena_print(arena, "%ld", bytes), 1);
        driver = dlopen(library, RTLD_NOW | RTLD_LOCAL);
        CHECK(driver != NULL);
    }
    arena_free(arena);
    return dlsym(driver, "stand_in_counts");
}
