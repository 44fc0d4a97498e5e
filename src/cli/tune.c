/* tune.c - bench --tune: a search for each kernel of the rows, or of a model's steps; what
 * explain --stage tune tells of one.
 * In: what the engine tells.  Out: a bar on a terminal, then a line a kernel.
 * Invariant: Ctrl-C ends the search, not what it found: the next one goes on from there.
 *   1 of 1  matmul_512x512   3120.4 us   2760.1 us   1.13x   21.4 s   ...                      */
#include "cli/cli.h"
#include "engine/engine.h"
#include "schedule/schedule.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 4 };  // of the beam, unless PG_BEAM says so
static int kernels;

static void show_bar(const SearchNews *news) {
    enum { CELLS = 24 };
    char bar[CELLS + 1] = {0};
    int full = (int)min_i64((int64_t)CELLS * news->measured / news->planned, CELLS);
    for (int i = 0; i < CELLS; i++) bar[i] = i < full ? '#' : '.';
    hint("%d of %d  %s  [%s] %d tried, %.2fx in %.0f s", news->number + 1, news->of, news->kernel,
         bar, news->measured, news->result.heuristic / news->result.best, news->result.spent);
}

// Runs until the seconds spent are won back.
static const char *pays_after(const SearchNews *news, char *text, size_t size) {
    double gain = news->result.heuristic - news->result.best;
    if (gain <= 0) return "never";
    snprintf(text, size, "%.2g runs", ceil(news->result.spent / gain));
    return text;
}

static void show_result(const SearchNews *news) {
    char runs[32];
    hint_clear();
    if (!kernels++)
        printf("%-28s %12s %12s %6s %8s %11s  %s\n", "kernel", "heuristic", "searched", "gain",
               "search", "pays after", "by");
    printf("%-28s %9.1f us %9.1f us %5.2fx %6.1f s %11s  %s%s\n", news->kernel,
           1e6 * news->result.heuristic, 1e6 * news->result.best,
           news->result.heuristic / news->result.best, news->result.spent,
           pays_after(news, runs, sizeof runs), news->result.compiler,
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

// ---- what was tried ----------------------------------------------------------------------------
typedef struct {
    double operations, bytes;  // of a call
    double computes, reads;    // operations and bytes a second
    double seconds;            // that it takes at least
} Roof;

// With each VAR in the middle of its interval, as the search had it.
static Roof roof_of(Kernel *kernel, const struct Machine *machine) {
    const Graph *graph = kernel->graph;
    int64_t *var = arena_array(graph_arena(graph), int64_t, graph_vars(graph) + 1);
    for (int32_t i = 0; i < graph_vars(graph); i++) {
        const Var *info = graph_var_info(graph, i);
        var[i] = info->low + (info->high - info->low) / 2;
    }
    Roof roof = {.computes = 2 * machine->computes * machine->lanes * machine->threads};
    kernel_cost(kernel, var, &roof.operations, &roof.bytes);
    bool cached = roof.bytes < machine->last_bytes;
    roof.reads = cached ? machine->second * machine->threads : machine->memory;
    roof.seconds = fmax(roof.operations / roof.computes, roof.bytes / roof.reads);
    return roof;
}

static void add_trials(Text *to, const char *trials, const Roof *roof) {
    enum { MOST = 12, WORDS = 6 };
    char *rest = arena_text(to->arena, trials), *line, *word[WORDS];
    for (int shown = 0, refused = 0; (line = strsep(&rest, "\n"));) {
        for (int i = 0; i < WORDS; i++) word[i] = strsep(&line, "\t");
        double seconds = word[WORDS - 1] && !line ? strtod(word[0], NULL) : -1;
        bool first = seconds > 0 && !strcmp(word[4], "the heuristic's");
        if (first || (seconds > 0 && shown++ < MOST))
            text_add(to, "# %8.1f %6.1f %8.2f %6.2f %6.1f  %-9s %s\n", 1e6 * seconds,
                     1e6 * strtod(word[1], NULL), 1e-9 * roof->operations / seconds,
                     1e-9 * roof->bytes / seconds, 100 * roof->seconds / seconds, word[3], word[4]);
        else if (seconds == 0 && refused++ < MOST)
            text_add(to, "# refused: %s\n", word[4]);
    }
}

static void report(Kernel *kernel, const TunedResult *result, const struct Machine *machine,
                   Text *to) {
    if (!result) {
        text_add(to, "# not searched; its schedule is the heuristic's\n");
        return;
    }
    Roof roof = roof_of(kernel, machine);
    text_add(to,
             "# %.1f MFLOP, %.2f MB; the roof is %.1f us: %.1f GFLOP/s, %.1f GB/s\n"
             "# %.1f s of search%s; side by side at the end, the heuristic's takes %.1f us and this"
             " %.1f us:\n%s"
             "#       us  bound  GFLOP/s   GB/s roof %%  by        what was tried\n",
             1e-6 * roof.operations, 1e-6 * roof.bytes, 1e6 * roof.seconds, 1e-9 * roof.computes,
             1e-9 * roof.reads, result->spent, result->complete ? "" : " so far",
             1e6 * result->heuristic, 1e6 * result->best, result->schedule);
    add_trials(to, result->trials, &roof);
}

void tune_report(void) { engine_report(report); }
