/* tune.c - bench --tune: a search for each kernel of the rows, or of a model's steps.
 * In: what the engine tells.  Out: a bar on a terminal, then a line a kernel.
 * Invariant: Ctrl-C ends the search, not what it found: the next one goes on from there.
 *   1 of 1  matmul_512x512   3120.4 us   2760.1 us   1.13x   21.4 s   ...                      */
#include "cli/cli.h"
#include "engine/engine.h"

#include <math.h>

enum { WIDTH = 4 };  // of the beam, unless PG_BEAM says so
static int kernels;

static void show_bar(const SearchNews *news) {
    enum { CELLS = 24 };
    char bar[CELLS + 1] = {0};
    int full = (int)min_i64((int64_t)CELLS * news->measured / news->planned, CELLS);
    for (int i = 0; i < CELLS; i++) bar[i] = i < full ? '#' : '.';
    hint("%d of %d  %s  [%s] %d tried, %.2fx in %.0f s", news->number + 1, news->of, news->kernel,
         bar, news->measured, news->heuristic / news->best, news->spent);
}

// Runs until the seconds spent are won back.
static const char *pays_after(const SearchNews *news, char *text, size_t size) {
    double gain = news->heuristic - news->best;
    if (gain <= 0) return "never";
    snprintf(text, size, "%.2g runs", ceil(news->spent / gain));
    return text;
}

static void show_result(const SearchNews *news) {
    char runs[32];
    hint_clear();
    if (!kernels++)
        printf("%-28s %12s %12s %6s %8s %11s  %s\n", "kernel", "heuristic", "searched", "gain",
               "search", "pays after", "by");
    printf("%-28s %9.1f us %9.1f us %5.2fx %6.1f s %11s  %s%s\n", news->kernel,
           1e6 * news->heuristic, 1e6 * news->best, news->heuristic / news->best, news->spent,
           pays_after(news, runs, sizeof runs), news->compiler,
           news->known ? ", known before" : "");
    fflush(stdout);
}

static void tell(const SearchNews *news) {
    if (news->done)
        show_result(news);
    else
        show_bar(news);
}

void tune_begin(void) {
    static Search search = {.stopped = interrupted, .tell = tell};
    search.width = (int)max_i64(1, env_int("BEAM", WIDTH));
    kernels = 0;
    interrupt_watch();
    engine_search(&search);
}

int tune_end(void) {
    engine_search(NULL);
    hint_clear();
    if (!interrupted()) return EXIT_DONE;
    say("stopped; the same command goes on from here");
    return EXIT_INTERRUPTED;
}
