/* models.c - picograd models: the models known by name, and fetching them.
 *   picograd models pull smollm2   =>   the file lies in the cache, checked                      */
#include "cli/cli.h"

#include <string.h>

static int print_models(void) {
    Arena *arena = arena_new();
    printf("%-11s %9s  %-6s  %s\n", "NAME", "SIZE", "CACHED", "WHAT");
    for (int i = 0; i < models_count(); i++) {
        const Model *model = models_at(i);
        printf("%-11s %6.1f MB  %-6s  %s\n", model->name, (double)model->bytes / 1e6,
               models_cached(arena, model) ? "yes" : "no", model->about);
        printf("%-29s from %s %s on the Python package index\n", "", model->package,
               model->version);
    }
    for (int i = 0; i < random_model_count; i++)
        printf("%-11s %9s  %-6s  %s\n", random_models[i].name, "-", "-", random_models[i].about);
    const char *folder = cache_folder(arena);
    if (folder)
        printf("\ncache: %s/models\n", folder);
    else
        say("%s", error_text());
    printf("fetch: picograd models pull NAME     any other GGUF file: -m PATH\n");
    arena_free(arena);
    return EXIT_DONE;
}

int run_models(int count, char **argument) {
    const char *word[2];
    int words, parsed = options_parse("models", NULL, 0, count, argument, 2, word, &words);
    if (parsed) return parsed < 0 ? EXIT_USAGE : EXIT_DONE;
    if (words == 0) return print_models();
    if (strcmp(word[0], "pull"))
        return usage_wrong("models: what is '%.100s' for? Try: picograd models pull NAME", word[0]);
    if (words == 1) return usage_wrong("models pull: which one? picograd models lists them");
    if (random_model_find(word[1])) return EXIT_DONE;  // made on the spot
    return models_pull(word[1]) < 0 ? failed() : EXIT_DONE;
}
