/* energy.c - the energy that the CPU's packages took, where the kernel lets it be read.
 * In: a folder of counters as Linux's powercap shows them (Intel's and AMD's RAPL).  Out: joules.
 * Invariant: nothing is guessed. A counter that is missing, not readable, not a number, or that may
 * have wrapped around twice makes the energy NAN.
 *   intel-rapl:0/name "package-0", energy_uj 5000000, later 7500000   =>   2.5
 * A package's counter includes its cores and whatever else runs on them, memory chips not. Parts of
 * a package (intel-rapl:0:0), the whole machine (psys) and second views (intel-rapl-mmio) are left
 * out: they would count twice.
 * Source: Documentation/power/powercap/powercap.rst of Linux.                                  */
#include "cli/cli.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// No package takes more; so a counter cannot wrap around sooner than its range over this.
enum { WATTS_MOST = 1000, NOTE_SECONDS = 10 };

static int read_number(Arena *arena, const char *path, int64_t *number) {
    char *end, *text = file_read(arena, path, NULL);
    if (!text) return -1;
    errno = 0;
    *number = strtoll(text, &end, 10);
    bool right = *text >= '0' && *text <= '9' && !errno && (!*end || !strcmp(end, "\n"));
    return right ? 0 : fail("%s: not a number of microjoules", path);
}

static int read_counter(const EnergyPackage *package, int64_t *microjoules) {
    Arena *arena = arena_new();
    const char *path = arena_print(arena, "%s/energy_uj", package->folder);
    int status = read_number(arena, path, microjoules);
    if (status == 0 && *microjoules > package->range)
        status = fail("%s: more than max_energy_range_uj", path);
    arena_free(arena);
    return status;
}

// intel-rapl:0 and no other; what it measures is in its file `name`.
static bool is_package(Arena *arena, const char *folder, const char *name) {
    static const char prefix[] = "intel-rapl:";
    if (strncmp(name, prefix, strlen(prefix))) return false;
    const char *number = name + strlen(prefix);
    if (!*number || number[strspn(number, "0123456789")]) return false;
    const char *text = file_read(arena, arena_print(arena, "%s/%s/name", folder, name), NULL);
    return text && !strncmp(text, "package", strlen("package"));
}

static int add_package(Arena *arena, Energy *energy, const char *folder, const char *name) {
    if (energy->packages == COUNT_OF(energy->package))
        return fail("%s: more than %d packages", folder, COUNT_OF(energy->package));
    EnergyPackage *package = &energy->package[energy->packages];
    int length = snprintf(package->folder, sizeof package->folder, "%s/%s", folder, name);
    if (length >= (int)sizeof package->folder) return fail("%s: its name is too long", folder);
    const char *range = arena_print(arena, "%s/max_energy_range_uj", package->folder);
    if (read_number(arena, range, &package->range) < 0) return -1;
    energy->packages++;
    return read_counter(package, &package->last);
}

static int add_packages(Arena *arena, Energy *energy, const char *folder) {
    DIR *entries = opendir(folder);
    if (!entries) return fail("cannot open %s: %s", folder, strerror(errno));
    int status = 0;
    for (struct dirent *entry; status == 0 && (entry = readdir(entries));)
        if (is_package(arena, folder, entry->d_name))
            status = add_package(arena, energy, folder, entry->d_name);
    closedir(entries);
    if (status == 0 && !energy->packages) return fail("%s has no counter of a package", folder);
    return status;
}

int energy_start(Energy *energy, const char *folder) {
    Arena *arena = arena_new();
    *energy = (Energy){.read_at = clock_seconds()};
    energy->known = !add_packages(arena, energy, folder ? folder : "/sys/class/powercap");
    arena_free(arena);
    return energy->known ? 0 : -1;
}

static int add_since(EnergyPackage *package, double seconds, double *joules) {
    int64_t now;
    if (read_counter(package, &now) < 0) return -1;
    if (seconds * WATTS_MOST * 1e6 > (double)package->range)
        return fail("%s may have wrapped around twice in %.0f s", package->folder, seconds);
    int64_t taken = now - package->last;
    *joules += 1e-6 * (double)(taken < 0 ? taken + package->range : taken);
    package->last = now;
    return 0;
}

double energy_joules(Energy *energy) {
    double now = clock_seconds();
    for (int i = 0; energy->known && i < energy->packages; i++)
        energy->known = !add_since(&energy->package[i], now - energy->read_at, &energy->joules);
    energy->read_at = now;
    return energy->known ? energy->joules : NAN;
}

void energy_note(Energy *energy) {
    if (energy->known && clock_seconds() - energy->read_at > NOTE_SECONDS) energy_joules(energy);
}
