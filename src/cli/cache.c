/* cache.c - picograd cache: what compiled kernels and tuned schedules are kept, and removing them.
 *   picograd cache info   =>   ~/.cache/picograd/kernels: 31 kernels, 1.2 MB                     */
#include "cli/cli.h"
#include "engine/engine.h"
#include "runtime/runtime.h"

#include <string.h>

static int print_info(void) {
    Arena *arena = arena_new();
    CacheInfo info;
    int status = cache_info(arena, &info);
    if (status == 0)
        printf("%s: %lld kernel%s, %.1f MB\n", info.folder, (long long)info.entries,
               info.entries == 1 ? "" : "s", (double)info.bytes / 1e6);
    int64_t tuned = status == 0 ? tuned_count() : -1;
    if (tuned >= 0)
        printf("%s/tuned.db: %lld tuned schedule%s\n", cache_folder(arena), (long long)tuned,
               tuned == 1 ? "" : "s");
    arena_free(arena);
    return status < 0 ? failed() : EXIT_DONE;
}

static int clear(void) {
    int64_t removed = cache_clear();
    if (removed < 0) return failed();
    printf("removed %lld kernel%s\n", (long long)removed, removed == 1 ? "" : "s");
    if (tuned_clear()) printf("removed the tuned schedules\n");
    return EXIT_DONE;
}

int run_cache(int count, char **argument) {
    const char *word = NULL;
    int words, parsed = options_parse("cache", NULL, 0, count, argument, 1, &word, &words);
    if (parsed) return parsed < 0 ? EXIT_USAGE : EXIT_DONE;
    if (words && !strcmp(word, "info")) return print_info();
    if (words && !strcmp(word, "clear")) return clear();
    return usage_wrong("cache: %s? Try: picograd cache info, or picograd cache clear",
                       words ? word : "what");
}
