/* cache.c - compiled kernels on disk: shared objects and cubins by name, checked before use.
 * In: names that say all that an object depends on.  Out: intact files, to be loaded.
 * Invariants: an entry is the object, then a trailer with its size and checksum, so that what was
 * cut or damaged is made again; entries come by rename, so that any number of processes may fill
 * the cache at once; kernels of one object are hard links to one file. Without it all is slower.
 *   pg_k_0123456789abcdef-fedcba9876543210.so                                                    */
#include "runtime/runtime.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char prefix[] = "pg_k_";
static const char magic[8] = "PGKERNEL";

typedef struct {
    char magic[8];
    uint64_t size, hash;
} Trailer;

// The folder, made if it is missing; NULL with a message.
static char *open_folder(Arena *arena) {
    const char *parent = cache_folder(arena);
    if (!parent) return NULL;
    char *folder = arena_print(arena, "%s/kernels", parent);
    struct stat facts;
    if (folder_make(folder)) return NULL;
    if (stat(folder, &facts)) {
        fail("cannot look at %s: %s", folder, strerror(errno));
        return NULL;
    }
    if (facts.st_uid == geteuid() && !(facts.st_mode & (S_IWGRP | S_IWOTH))) return folder;
    fail("others could write in %s. Hint: chmod 700 it", folder);
    return NULL;
}

static bool is_intact(const char *path) {
    FileBytes bytes;
    Trailer trailer;
    if (file_map(path, &bytes)) return false;
    bool intact = bytes.size > sizeof trailer;
    if (intact) {
        size_t size = bytes.size - sizeof trailer;
        memcpy(&trailer, bytes.at + size, sizeof trailer);
        intact = !memcmp(trailer.magic, magic, sizeof magic) && trailer.size == size &&
                 trailer.hash == hash_bytes(bytes.at, size, 0);
    }
    file_unmap(&bytes);
    return intact;
}

char *cache_find(Arena *arena, const char *name) {
    char *folder = open_folder(arena);
    if (!folder) return NULL;
    char *path = arena_print(arena, "%s/%s", folder, name);
    struct stat facts;
    if (stat(path, &facts) || facts.st_uid != geteuid()) return NULL;
    return is_intact(path) ? path : NULL;
}

void *cache_read(Arena *arena, const char *name, size_t *size) {
    const char *path = cache_find(arena, name);
    FileBytes bytes;
    if (!path || file_map(path, &bytes)) return NULL;
    *size = bytes.size - (size_t)min_i64(sizeof(Trailer), (int64_t)bytes.size);
    void *content = arena_copy(arena, bytes.at, *size);
    file_unmap(&bytes);
    return content;
}

static char *warn_once(void) {
    static atomic_bool warned;
    if (!atomic_exchange(&warned, true)) say("compiled kernels are not kept: %s", error_text());
    return NULL;
}

// Another name for a file; its bytes again where the file system has no links.
static int add_name(Arena *arena, const char *first, const char *path, const Text *content) {
    char *temporary = arena_print(arena, "%s.%d.tmp", path, (int)getpid());
    unlink(temporary);
    if (link(first, temporary)) return file_write(path, content->at, content->count);
    int error = rename(temporary, path) ? errno : 0;
    unlink(temporary);  // rename leaves it if both are the same file
    return error ? fail("cannot write %s: %s", path, strerror(error)) : 0;
}

char *cache_add(Arena *arena, int count, const char *const *name, const void *bytes, size_t size) {
    Trailer trailer = {.size = size, .hash = hash_bytes(bytes, size, 0)};
    memcpy(trailer.magic, magic, sizeof magic);
    char *folder = open_folder(arena);
    if (!folder) return warn_once();
    Text content = text_new(arena);
    text_add_bytes(&content, bytes, size);
    text_add_bytes(&content, (const char *)&trailer, sizeof trailer);
    char *first = arena_print(arena, "%s/%s", folder, name[0]);
    if (file_write(first, content.at, content.count)) return warn_once();
    for (int i = 1; i < count; i++)
        if (add_name(arena, first, arena_print(arena, "%s/%s", folder, name[i]), &content))
            return warn_once();
    return first;
}

static DIR *open_entries(Arena *arena, char **folder) {
    *folder = open_folder(arena);
    if (!*folder) return NULL;
    DIR *entries = opendir(*folder);
    if (!entries) fail("cannot read %s: %s", *folder, strerror(errno));
    return entries;
}

static bool is_entry(const char *name) { return !strncmp(name, prefix, sizeof prefix - 1); }

int cache_info(Arena *arena, CacheInfo *info) {
    char *folder;
    DIR *entries = open_entries(arena, &folder);
    if (!entries) return -1;
    *info = (CacheInfo){.folder = folder};
    for (struct dirent *entry; (entry = readdir(entries));) {
        struct stat facts;
        if (!is_entry(entry->d_name) || fstatat(dirfd(entries), entry->d_name, &facts, 0)) continue;
        info->entries++;
        info->bytes += facts.st_size / max_i64((int64_t)facts.st_nlink, 1);
    }
    closedir(entries);
    return 0;
}

int64_t cache_clear(void) {
    Arena *arena = arena_new();
    char *folder;
    int64_t removed = -1;
    DIR *entries = open_entries(arena, &folder);
    if (entries) {
        removed = 0;
        for (struct dirent *entry; (entry = readdir(entries));)
            removed += is_entry(entry->d_name) && !unlinkat(dirfd(entries), entry->d_name, 0);
        closedir(entries);
    }
    arena_free(arena);
    return removed;
}
