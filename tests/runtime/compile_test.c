/* compile_test.c - the compiler and its cache: what is found again, what is made again, what the
 * user is told. */
#include "runtime/runtime.h"
#include "test.h"

#include <dirent.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64];

static void remove_all(void) {
    char command[256];
    snprintf(command, sizeof command, "chmod -R u+w %s; rm -r %s", folder, folder);
    if (system(command)) perror(folder);
}

// An empty cache of this test's own. Objects stay loaded by name, so each test has its own names.
static Arena *fresh_cache(void) {
    if (!folder[0]) {
        strcpy(folder, "/tmp/picograd-test-XXXXXX");
        CHECK(mkdtemp(folder) != NULL);
        atexit(remove_all);
    }
    setenv("PG_CACHE", folder, 1);
    unsetenv("PG_CC");
    cache_clear();
    return arena_new();
}

static CompileUnit unit_of(Arena *arena, const char *name, int value) {
    const char *symbol = arena_print(arena, "pg_k_%s", name);
    return (CompileUnit){
        .symbol = symbol,
        .source = arena_print(arena,
                              "void %s(void *args, int thread, int threads, void *barrier);\n"
                              "void %s(void *args, int thread, int threads, void *barrier) {\n"
                              "    (void)thread, (void)threads, (void)barrier;\n"
                              "    **(int **)*(void **)args = %d;\n}\n",
                              symbol, symbol, value)};
}

static int value_of(const CompileUnit *unit) {
    int value = -1;
    void *buffer[] = {&value};
    unit->function(&(PgArgs){.buffer = buffer}, 0, 1, NULL);
    return value;
}

static int64_t entries(Arena *arena) {
    CacheInfo info;
    CHECK_INT(cache_info(arena, &info), 0);
    CHECK(!info.entries == !info.bytes);
    return info.entries;
}

// The path of the one entry of a unit.
static char *entry_of(Arena *arena, const char *name) {
    char *kernels = arena_print(arena, "%s/kernels", folder), *found = NULL;
    DIR *list = opendir(kernels);
    CHECK(list != NULL);
    for (struct dirent *entry; (entry = readdir(list));)
        if (!strncmp(entry->d_name + 5, name, strlen(name)))
            found = arena_print(arena, "%s/%s", kernels, entry->d_name);
    closedir(list);
    CHECK(found != NULL);
    return found;
}

// In a process of its own, so that nothing is loaded here: whether the unit comes from the cache.
static void check_in_new_process(const char *name, int value, bool from_cache) {
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (!child) {
        CompileUnit unit = unit_of(arena_new(), name, value);
        int good = compile_units(&unit, 1) == 0 && value_of(&unit) == value &&
                   unit.from_cache == from_cache;
        if (!good) fprintf(stderr, "from_cache %d: %s\n", unit.from_cache, error_text());
        _exit(!good);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_INT(status, 0);
}

TEST(many_units_at_once) {
    Arena *arena = fresh_cache();
    CompileUnit unit[20];
    for (int i = 0; i < 20; i++)
        unit[i] = unit_of(arena, arena_print(arena, "many%d", i % 15), i % 15);
    CHECK_INT(compile_units(unit, 20), 0);
    for (int i = 0; i < 20; i++) CHECK_INT(value_of(&unit[i]), i % 15);
    CHECK_INT(entries(arena), 15);
    CHECK(!unit[0].from_cache);
    CHECK_INT(compile_units(unit, 20), 0);
    CHECK(unit[0].from_cache && unit[19].from_cache);
    CHECK(!unit[0].compiler);  // what a call found lives as long as the call
    CHECK_INT(compile_units(unit, 0), 0);
    arena_free(arena);
}

TEST(another_process_finds_it) {
    Arena *arena = fresh_cache();
    check_in_new_process("found", 7, false);
    check_in_new_process("found", 7, true);
    check_in_new_process("beside", 8, false);
    CHECK_INT(cache_clear(), 2);
    CHECK_INT(entries(arena), 0);
    check_in_new_process("found", 7, false);
    arena_free(arena);
}

TEST(a_damaged_entry_is_made_again) {
    Arena *arena = fresh_cache();
    check_in_new_process("damaged", 9, false);
    size_t size;
    char *path = entry_of(arena, "damaged"), *bytes = file_read(arena, path, &size);
    for (size_t cut = 0; cut < 3; cut++) {  // empty, half, all but a byte
        FILE *file = fopen(path, "wb");
        size_t keep = cut == 0 ? 0 : cut == 1 ? size / 2 : size - 1;
        CHECK(fwrite(bytes, 1, keep, file) == keep && fclose(file) == 0);
        check_in_new_process("damaged", 9, false);
        check_in_new_process("damaged", 9, true);
    }
    bytes[size / 2] ^= 1;
    CHECK_INT(file_write(path, bytes, size), 0);
    check_in_new_process("damaged", 9, false);
    arena_free(arena);
}

TEST(another_compiler_or_target_is_another_entry) {
    Arena *arena = fresh_cache();
    CompileUnit unit = unit_of(arena, "twice", 4);
    CHECK_INT(compile_units(&unit, 1), 0);
    setenv("PG_ISA", strcmp(target()->name, "c") ? "c" : "ref", 1);
    CHECK_INT(compile_units(&unit, 1), 0);
    CHECK_INT(entries(arena), 1 + (strcmp(getenv("PG_ISA"), "c") == 0));
    unsetenv("PG_ISA");
    arena_free(arena);
}

TEST(flags_are_of_a_unit) {
    Arena *arena = fresh_cache();
    CompileUnit unit[3];
    for (int i = 0; i < 3; i++) unit[i] = unit_of(arena, i == 2 ? "flagged" : "flags", 3);
    for (int i = 0; i < 3; i++)
        unit[i].source =
            arena_print(arena, "#ifndef THREE\n#define THREE 3\n#endif\n%.*sTHREE;\n}\n",
                        (int)(strrchr(unit[i].source, '3') - unit[i].source), unit[i].source);
    unit[1].flags = "-O0 -DTHREE=4";
    CHECK_INT(compile_units(unit, 3), 0);
    CHECK_INT(value_of(&unit[0]), 3);
    CHECK_INT(value_of(&unit[1]), 4);
    CHECK_INT(value_of(&unit[2]), 3);
    CHECK_INT(entries(arena), 3);
    arena_free(arena);
}

TEST(processes_fill_the_cache_together) {
    Arena *arena = fresh_cache();
    fflush(stdout);
    for (int i = 0; i < 4; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child) continue;
        CompileUnit unit[3];
        for (int u = 0; u < 3; u++) unit[u] = unit_of(arena, arena_print(arena, "race%d", u), u);
        bool good = compile_units(unit, 3) == 0;
        for (int u = 0; u < 3; u++) good = good && value_of(&unit[u]) == u;
        _exit(!good);
    }
    for (int i = 0; i < 4; i++) {
        int status;
        CHECK(wait(&status) > 0);
        CHECK_INT(status, 0);
    }
    CHECK_INT(entries(arena), 3);
    check_in_new_process("race1", 1, true);
    arena_free(arena);
}

static void *compile_same(void *argument) {
    CompileUnit *unit = argument;
    return (void *)(intptr_t)compile_units(unit, 1);
}

TEST(threads_compile_together) {
    Arena *arena = fresh_cache();
    CompileUnit unit[4];
    pthread_t thread[4];
    for (int i = 0; i < 4; i++) {
        unit[i] = unit_of(arena, arena_print(arena, "thread%d", i % 2), i % 2);
        CHECK(pthread_create(&thread[i], NULL, compile_same, &unit[i]) == 0);
    }
    for (int i = 0; i < 4; i++) {
        void *result;
        pthread_join(thread[i], &result);
        CHECK(result == NULL && value_of(&unit[i]) == i % 2);
    }
    arena_free(arena);
}

TEST(what_the_compiler_says_is_told) {
    Arena *arena = fresh_cache();
    CompileUnit unit[2] = {unit_of(arena, "good", 1),
                           {.symbol = "pg_k_bad", .source = "int x = 1;\nint y = nothing;\n"}};
    CHECK_FAIL(compile_units(unit, 2), "nothing");
    CHECK(strstr(error_text(), "error") && !strchr(error_text(), '\n'));
    CHECK(compiler_assembly(arena, "int x = nothing;\n") == NULL);
    CHECK(strstr(compiler_assembly(arena, unit[0].source), "pg_k_good") != NULL);
    unit[1].source = "int pg_k_not_it;\n";
    CHECK_FAIL(compile_units(unit + 1, 1), "pg_k_bad");
    arena_free(arena);
}

TEST(without_a_compiler) {
    Arena *arena = fresh_cache();
    CompileUnit unit = unit_of(arena, "none", 1);
    CHECK(compiler_available());
    setenv("PG_CC", "no-such-compiler", 1);
    CHECK(!compiler_available());
    CHECK_FAIL(compile_units(&unit, 1), "no-such-compiler");
    char *path = arena_text(arena, getenv("PATH"));
    unsetenv("PG_CC");
    setenv("PATH", "", 1);
    CHECK(!compiler_available());
    CHECK_FAIL(compile_units(&unit, 1), "Hint: install");
    setenv("PATH", path, 1);
    arena_free(arena);
}

// A shell script as the compiler; $out is where the object belongs.
static void use_compiler(Arena *arena, const char *commands) {
    const char *script = arena_print(
        arena, "#!/bin/sh\nfor word; do [ \"$last\" = -o ] && out=$word; last=$word; done\n%s\n",
        commands);
    char *path = arena_print(arena, "%s/cc", folder);
    CHECK_INT(file_write(path, script, strlen(script)), 0);
    CHECK_INT(chmod(path, 0700), 0);
    setenv("PG_CC", path, 1);
}

TEST(a_compiler_that_lies) {
    Arena *arena = fresh_cache();
    CompileUnit unit = unit_of(arena, "lied", 1);
    use_compiler(arena, "exit 0");
    CHECK_FAIL(compile_units(&unit, 1), "no whole object");
    use_compiler(arena, "echo garbage >$out");
    CHECK_FAIL(compile_units(&unit, 1), "no whole object");
    use_compiler(arena, "cc \"$@\" && truncate -s 5000 $out");
    CHECK_FAIL(compile_units(&unit, 1), "no whole object");
    CHECK_INT(entries(arena), 0);
    arena_free(arena);
}

TEST(a_compiler_that_hangs) {
    Arena *arena = fresh_cache();
    CompileUnit unit = unit_of(arena, "hung", 1);
    use_compiler(arena, "exec sleep 1000");
    setenv("PG_CC_SECONDS", "0", 1);
    CHECK_FAIL(compile_units(&unit, 1), "did not end");
    unsetenv("PG_CC_SECONDS");
    arena_free(arena);
}

TEST(without_a_cache) {
    Arena *arena = fresh_cache();
    CompileUnit unit = unit_of(arena, "unkept", 5);
    setenv("PG_CACHE", "/proc/nowhere", 1);  // for root, too
    CacheInfo info;
    CHECK_FAIL(cache_info(arena, &info), "/proc/nowhere");
    CHECK_INT(compile_units(&unit, 1), 0);
    CHECK_INT(value_of(&unit), 5);
    CHECK(!unit.from_cache);
    arena_free(arena);
}

TEST(a_cache_that_others_can_write_is_not_used) {
    Arena *arena = fresh_cache();
    CompileUnit unit = unit_of(arena, "open", 6);
    char *kernels = arena_print(arena, "%s/kernels", folder);
    CHECK_INT(entries(arena), 0);
    CHECK(chmod(kernels, 0777) == 0);
    CacheInfo info;
    CHECK_FAIL(cache_info(arena, &info), "others could write");
    CHECK_INT(compile_units(&unit, 1), 0);
    CHECK_INT(value_of(&unit), 6);
    CHECK(chmod(kernels, 0700) == 0);
    CHECK_INT(entries(arena), 0);
    arena_free(arena);
}

TEST(a_cache_that_takes_no_files) {
    Arena *arena = fresh_cache();
    CompileUnit unit = unit_of(arena, "nofile", 3);
    char *kernels = arena_print(arena, "%s/kernels", folder);
    rmdir(kernels);
    if (symlink("/dev/full", kernels)) SKIP("no symbolic links here");
    CHECK_INT(compile_units(&unit, 1), 0);
    CHECK_INT(value_of(&unit), 3);
    CHECK(unlink(kernels) == 0);
    arena_free(arena);
}

TEST(targets) {
    setenv("PG_ISA", "c", 1);
    CHECK_TEXT(target()->name, "c");
    setenv("PG_ISA", "sse9", 1);
    CHECK_FATAL_TEXT(target(), "sse9");
    CompileUnit unit = {.symbol = "pg_k_x", .source = ""};
    CHECK_FATAL_TEXT(compile_units(&unit, 1), "sse9");
    unsetenv("PG_ISA");
    CHECK(target()->lanes >= 4 && target()->registers >= 16);
    Arena *arena = fresh_cache();  // and the lock is free again
    unit = unit_of(arena, "after", 2);
    CHECK_INT(compile_units(&unit, 1), 0);
    arena_free(arena);
}
