/* sample.c - several runs as one number with its spread, and on which CPU they ran.
 *   {9, 10, 11, 10, 10}   =>   median 10, spread 0.2                                             */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void sample_add(Sample *sample, double run) {
    double sorted[SAMPLES_MAX];
    sample->run[sample->runs++] = run;
    int last = sample->runs - 1;
    memcpy(sorted, sample->run, sizeof sample->run);
    qsort(sorted, (size_t)sample->runs, sizeof *sorted, by_size);
    sample->median = 0.5 * (sorted[last / 2] + sorted[(last + 1) / 2]);
    sample->spread = (sorted[last] - sorted[0]) / sample->median;
}

const char *cpu_name(Arena *arena) {
    char *facts = file_read(arena, "/proc/cpuinfo", NULL);
    char *line = facts ? strstr(facts, "model name") : NULL;
    char *name = line ? strchr(line, ':') : NULL;
    if (!name) return "unknown";
    name += 1 + strspn(name + 1, " \t");
    name[strcspn(name, "\n")] = 0;
    return name;
}
