/* file_test.c - files, folders, the cache folder. */
#include "test.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

// A fresh folder that is the working folder until folder_leave.
static char folder[64];

static void folder_enter(void) {
    strcpy(folder, "/tmp/picograd_test_XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
    CHECK_INT(chdir(folder), 0);
}

static void folder_leave(void) {
    char command[100];
    CHECK_INT(chdir("/"), 0);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    CHECK_INT(system(command), 0);
}

static int entries(const char *path) {
    DIR *open = opendir(path);
    if (!open) return -1;
    int count = 0;
    for (struct dirent *entry; (entry = readdir(open));) count += entry->d_name[0] != '.';
    closedir(open);
    return count;
}

TEST(what_is_written_is_read) {
    folder_enter();
    Arena *arena = arena_new();
    char bytes[100000];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (char)(i * 7);
    CHECK_INT(file_write("a", "old", 3), 0);
    CHECK_INT(file_write("a", bytes, sizeof bytes), 0);
    CHECK_INT(entries("."), 1);
    size_t size = 0;
    char *read = file_read(arena, "a", &size);
    CHECK_INT(size, sizeof bytes);
    CHECK_INT(memcmp(read, bytes, sizeof bytes), 0);
    CHECK_INT(read[size], 0);
    FileBytes map;
    CHECK_INT(file_map("a", &map), 0);
    CHECK_INT(map.size, sizeof bytes);
    CHECK_INT(memcmp(map.at, bytes, sizeof bytes), 0);
    file_unmap(&map);
    CHECK(map.at == NULL);
    arena_free(arena);
    folder_leave();
}

TEST(the_umask_holds) {
    folder_enter();
    mode_t before = umask(027);
    CHECK_INT(file_write("a", "x", 1), 0);
    umask(before);
    struct stat facts;
    CHECK_INT(stat("a", &facts), 0);
    CHECK_INT(facts.st_mode & 0777, 0640);
    folder_leave();
}

TEST(bad_files_get_a_line) {
    folder_enter();
    Arena *arena = arena_new();
    FileBytes map;
    CHECK_FAIL(file_map("missing", &map), "cannot open missing: No such file");
    CHECK_INT(mkdir("folder", 0700), 0);
    CHECK_FAIL(file_map("folder", &map), "a folder");
    CHECK_INT(file_write("empty", "", 0), 0);
    CHECK_FAIL(file_map("empty", &map), "empty");
    CHECK_FAIL(file_map("/dev/null", &map), "not a regular file");
    CHECK_INT(mkfifo("pipe", 0600), 0);
    CHECK_FAIL(file_map("pipe", &map), "not a regular file");
    CHECK(file_read(arena, "missing", NULL) == NULL);
    CHECK(file_read(arena, "folder", NULL) == NULL);
    CHECK_TEXT(error_text(), "cannot read folder: Is a directory");
    CHECK_TEXT(file_read(arena, "empty", NULL), "");
    CHECK_FAIL(file_write("nowhere/a", "x", 1), "cannot write nowhere/a");
    arena_free(arena);
    folder_leave();
}

TEST(a_device_stays_a_device) {
    CHECK_INT(file_write("/dev/null", "x", 1), 0);
    struct stat facts;
    CHECK_INT(stat("/dev/null", &facts), 0);
    CHECK(S_ISCHR(facts.st_mode));
    if (access("/dev/full", W_OK) == 0) CHECK_FAIL(file_write("/dev/full", "x", 1), "No space");
}

TEST(a_failed_write_leaves_the_old_file) {
    folder_enter();
    CHECK_INT(file_write("a", "old", 3), 0);
    char *large = calloc(1, 1 << 20);
    struct rlimit before, small;
    CHECK_INT(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 1 << 16;
    signal(SIGXFSZ, SIG_IGN);
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &small), 0);
    int written = file_write("a", large, 1 << 20);
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &before), 0);
    free(large);
    CHECK_FAIL(written, "cannot write a");
    Arena *arena = arena_new();
    CHECK_TEXT(file_read(arena, "a", NULL), "old");
    CHECK_INT(entries("."), 1);
    arena_free(arena);
    folder_leave();
}

TEST(folders_are_made_with_their_parents) {
    folder_enter();
    CHECK_INT(folder_make("a/b/c"), 0);
    CHECK_INT(folder_make("a//b/c/"), 0);
    struct stat facts;
    CHECK_INT(stat("a/b/c", &facts), 0);
    CHECK_INT(facts.st_mode & 0777, 0700);
    CHECK_INT(file_write("a/file", "x", 1), 0);
    CHECK_FAIL(folder_make("a/file/b"), "a/file");
    folder_leave();
}

TEST(the_cache_is_private) {
    folder_enter();
    Arena *arena = arena_new();
    const char *cache = getenv("PG_CACHE");
    char *before = cache ? arena_text(arena, cache) : NULL;
    char *wanted = arena_print(arena, "%s/cache/deep", folder);
    setenv("PG_CACHE", wanted, 1);
    CHECK_TEXT(cache_folder(arena), wanted);
    CHECK_INT(entries(wanted), 0);
    CHECK_INT(chmod(wanted, 0777), 0);
    CHECK(cache_folder(arena) == NULL);
    CHECK(strstr(error_text(), "others could write") != NULL);
    setenv("PG_CACHE", "/dev/null/x", 1);
    CHECK(cache_folder(arena) == NULL);
    if (before)
        setenv("PG_CACHE", before, 1);
    else
        unsetenv("PG_CACHE");
    arena_free(arena);
    folder_leave();
}

// How many of this process's pages are a file's; the system counts them roughly.
static long resident_file_pages(void) {
    long size = 0, resident = 0, shared = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file && fscanf(file, "%ld %ld %ld", &size, &resident, &shared) == 3);
    fclose(file);
    return shared;
}

TEST(pages_of_mapped_files_are_dropped) {
    enum { SIZE = 8 << 20 };
    char *text = malloc(SIZE);
    FileBytes bytes;
    folder_enter();
    for (int i = 0; i < SIZE; i++) text[i] = (char)(i * 31 >> 3);
    CHECK_INT(file_write("large", text, SIZE), 0);
    CHECK_INT(file_map("large", &bytes), 0);
    CHECK(!memcmp(bytes.at, text, SIZE));
    long before = resident_file_pages();
    file_pages_drop(bytes.at + 100, SIZE - 4096);
    CHECK(before - resident_file_pages() > SIZE / 4096 * 15 / 16);  // counting reads some in
    CHECK(!memcmp(bytes.at, text, SIZE));
    file_pages_drop(text, SIZE);  // no mapped file's
    file_pages_drop(bytes.at, SIZE + 8192);
    CHECK(!memcmp(bytes.at, text, SIZE));
    file_unmap(&bytes);
    folder_leave();
    free(text);
}
