/* file.c - files and folders, with one clear line when the outside world refuses.
 * In: paths.  Out: bytes, or -1 (NULL) and error_text().
 * Invariant: nothing half-written is ever seen under the name that was asked for.
 *   FileBytes bytes; if (file_map(path, &bytes)) return -1;                        */
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

// What file_map has mapped and file_unmap has not.
typedef struct Mapping Mapping;
struct Mapping {
    uintptr_t first, end;
    Mapping *next;
};
static struct {
    pthread_mutex_t lock;
    Mapping *first;
} mappings = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void remember(const FileBytes *bytes) {
    Mapping *mapping = malloc(sizeof *mapping);
    if (!mapping) return;  // its pages stay
    uintptr_t at = (uintptr_t)bytes->at;
    pthread_mutex_lock(&mappings.lock);
    *mapping = (Mapping){at, at + bytes->size, mappings.first};
    mappings.first = mapping;
    pthread_mutex_unlock(&mappings.lock);
}

static void forget(const FileBytes *bytes) {
    pthread_mutex_lock(&mappings.lock);
    Mapping **link = &mappings.first, *found;
    while (*link && (*link)->first != (uintptr_t)bytes->at) link = &(*link)->next;
    found = *link;
    if (found) *link = found->next;
    pthread_mutex_unlock(&mappings.lock);
    free(found);
}

void file_pages_drop(const void *at, size_t size) {
    const uintptr_t page = 4095;
    uintptr_t first = ((uintptr_t)at + page) & ~page, end = ((uintptr_t)at + size) & ~page;
    pthread_mutex_lock(&mappings.lock);
    for (const Mapping *it = mappings.first; it && first < end; it = it->next)
        if (it->first <= first && end <= it->end)
            madvise((void *)first, end - first, MADV_DONTNEED);
    pthread_mutex_unlock(&mappings.lock);
}

int file_map(const char *path, FileBytes *out) {
    *out = (FileBytes){0};
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe is not waited for
    if (file < 0) return fail("cannot open %s: %s", path, strerror(errno));
    struct stat facts;
    void *at = MAP_FAILED;
    if (fstat(file, &facts))
        fail("cannot look at %s: %s", path, strerror(errno));
    else if (!S_ISREG(facts.st_mode))
        fail("cannot read %s: it is %s", path,
             S_ISDIR(facts.st_mode) ? "a folder" : "not a regular file");
    else if (!facts.st_size)
        fail("cannot read %s: it is empty", path);
    else {
        at = mmap(NULL, (size_t)facts.st_size, PROT_READ, MAP_PRIVATE, file, 0);
        if (at == MAP_FAILED) fail("cannot map %s: %s", path, strerror(errno));
    }
    close(file);
    if (at == MAP_FAILED) return -1;
    *out = (FileBytes){.at = at, .size = (size_t)facts.st_size, .mapped = true};
    remember(out);
    return 0;
}

void file_unmap(FileBytes *bytes) {
    if (bytes->mapped) {
        forget(bytes);
        munmap((void *)(uintptr_t)bytes->at, bytes->size);
    }
    *bytes = (FileBytes){0};
}

enum { READ_MAX = 64 << 20 };  // a text that is larger is a mistake, as /dev/zero is

// Reads to the end rather than to a size: pipes have none.
char *file_read(Arena *arena, const char *path, size_t *size) {
    const char *name = path ? path : "standard input";
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    if (file < 0) {
        fail("cannot open %s: %s", name, strerror(errno));
        return NULL;
    }
    Text text = text_new(arena);
    char buffer[1 << 14];
    ssize_t count = 1;
    while (text.count <= READ_MAX &&
           ((count = read(file, buffer, sizeof buffer)) > 0 || (count < 0 && errno == EINTR)))
        if (count > 0) text_add_bytes(&text, buffer, (size_t)count);
    if (count < 0) fail("cannot read %s: %s", name, strerror(errno));
    if (count > 0) fail("%s has more than %d MB of text. Give a shorter one", name, READ_MAX >> 20);
    if (path) close(file);
    if (size) *size = text.count;
    return count ? NULL : text.at;
}

static int write_all(int file, const char *at, size_t size) {
    while (size) {
        ssize_t count = write(file, at, size);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return -1;
        at += count;
        size -= (size_t)count;
    }
    return 0;
}

// Beside `path`, so that rename does not cross file systems; a dead process's file is passed over.
static int open_temporary(const char *path, char *name, size_t size) {
    static atomic_uint counter;
    for (int attempt = 0; attempt < 100; attempt++) {
        int length = snprintf(name, size, "%s.%d.%u.tmp", path, (int)getpid(), counter++);
        if (length < 0 || (size_t)length >= size) {
            errno = ENAMETOOLONG;
            return -1;
        }
        int file = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (file >= 0 || errno != EEXIST) return file;
    }
    return -1;
}

// Devices and pipes are written in place: a file renamed over /dev/null would replace the device.
static int write_special(const char *path, const void *bytes, size_t size) {
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0) return fail("cannot write %s: %s", path, strerror(errno));
    int error = write_all(file, bytes, size) ? errno : 0;
    if (close(file) && !error) error = errno;
    return error ? fail("cannot write %s: %s", path, strerror(error)) : 0;
}

int file_write(const char *path, const void *bytes, size_t size) {
    struct stat facts;
    if (!stat(path, &facts) && !S_ISREG(facts.st_mode)) return write_special(path, bytes, size);
    char name[PATH_MAX];
    int file = open_temporary(path, name, sizeof name);
    if (file < 0) return fail("cannot write %s: %s", path, strerror(errno));
    int error = write_all(file, bytes, size) || fsync(file) ? errno : 0;
    if (close(file) && !error) error = errno;
    if (!error && rename(name, path)) error = errno;
    if (!error) return 0;
    unlink(name);
    return fail("cannot write %s: %s", path, strerror(error));
}

int folder_make(const char *path) {
    char part[PATH_MAX];
    if (strlen(path) >= sizeof part) return fail("the folder name %.100s... is too long", path);
    strcpy(part, path);
    for (char *at = part; *at; at++) {
        if (at[1] != '/' && at[1] != 0) continue;
        char after = at[1];
        at[1] = 0;
        int error = mkdir(part, 0700) ? errno : 0;
        struct stat facts;
        if (error && (stat(part, &facts) || !S_ISDIR(facts.st_mode)))
            return fail("cannot make the folder %s: %s", part, strerror(error));
        at[1] = after;
    }
    return 0;
}

// Code is loaded from here, so nobody else may be able to write in it.
static int check_private(const char *path) {
    struct stat facts;
    if (stat(path, &facts)) return fail("cannot look at %s: %s", path, strerror(errno));
    if (facts.st_uid != geteuid() || facts.st_mode & (S_IWGRP | S_IWOTH))
        return fail("others could write in %s. Hint: chmod 700 it, or set PG_CACHE", path);
    return 0;
}

const char *cache_folder(Arena *arena) {
    const char *chosen = env_text("CACHE", NULL);
    const char *shared = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char *path;
    if (chosen)
        path = arena_text(arena, chosen);
    else if (shared && shared[0] == '/')
        path = arena_print(arena, "%s/picograd", shared);
    else if (home && home[0] == '/')
        path = arena_print(arena, "%s/.cache/picograd", home);
    else {
        fail("no folder for the cache: HOME is not set. Hint: set PG_CACHE");
        return NULL;
    }
    return folder_make(path) || check_private(path) ? NULL : path;
}
