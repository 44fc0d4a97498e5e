/* gpu_report.c - what a profiler would say of a kernel on a GPU, from what simt counted.
 * In: a GPU's row, a launch with its counts, its roofline.  Out: a block of text.
 * Invariant: what is counted is a plain number, what is modelled stands behind the word estimate.
 *   global loads   524288 requests, 1.0 lines each, 4.0 of 4 sectors   =>   coalesced       */
#include "cli/gpu_report.h"

#include <math.h>
#include <string.h>

enum { NUMBER = 32, NAME_WIDTH = 17, COLUMNS = 96, BAR = 12 };

// Four digits, a prefix and the unit: 2.147 GFLOP, 268.4 M instructions.
static const char *scaled(char text[NUMBER], double value, const char *unit) {
    static const char *const prefixes[] = {"", "k", "M", "G", "T", "P"};
    bool is_word = unit[0] >= 'a' && unit[0] <= 'z';
    int prefix = 0;
    while (value >= 999.95 && prefix + 1 < COUNT_OF(prefixes)) value /= 1000, prefix++;
    snprintf(text, NUMBER, "%.4g %s%s%s", value, prefixes[prefix], is_word && prefix ? " " : "",
             unit);
    return text;
}

static const char *time_of(char text[NUMBER], double seconds) {
    bool is_long = seconds >= 0.01;
    snprintf(text, NUMBER, "%.1f %s", seconds * (is_long ? 1e3 : 1e6), is_long ? "ms" : "us");
    return text;
}

static double ratio(double of, double by) { return by > 0 ? of / by : 0; }

static void add_name(Text *to, const char *name) { text_add(to, "  %-*s", NAME_WIDTH, name); }

// Words after a name, in as many lines as they need.
static void add_words(Text *to, const char *name, const char *words) {
    add_name(to, name);
    int column = 2 + NAME_WIDTH;
    for (bool first = true; *words; first = false) {
        int length = (int)strcspn(words, " ");
        if (column + 1 + length > COLUMNS) {
            text_add(to, "\n  %-*s", NAME_WIDTH, "");
            column = 2 + NAME_WIDTH;
            first = true;
        }
        text_add(to, "%s%.*s", first ? "" : " ", length, words);
        column += length + !first;
        words += length + (words[length] == ' ');
    }
    text_add(to, "\n");
}

// ---- counts ------------------------------------------------------------------------------------
static void add_registers(Text *to, const GpuProfile *profile) {
    add_name(to, "registers");
    if (!profile->registers)
        text_add(to, "not known, so occupancy is without them\n");
    else if (profile->spilled)
        text_add(to, "%d a thread, and %lld bytes of spills\n", profile->registers,
                 (long long)profile->spilled);
    else
        text_add(to, "%d a thread, no spills\n", profile->registers);
}

static void add_launch(Text *to, const GpuTarget *target, const GpuProfile *profile,
                       const GpuRoofline *line) {
    text_add(to, "%s on %s (%s)\n", profile->name, target->product, target->architecture);
    if (profile->counted && profile->counted < profile->blocks) {
        add_name(to, "counted");
        text_add(to, "%lld of %lld blocks; the others are taken for alike\n",
                 (long long)profile->counted, (long long)profile->blocks);
    }
    add_name(to, "launch");
    text_add(to, "%lld block%s of %d threads, ", (long long)profile->blocks,
             profile->blocks == 1 ? "" : "s", profile->threads);
    if (profile->shared_bytes)
        text_add(to, "%.1f KB of shared memory each\n", (double)profile->shared_bytes / 1024);
    else
        text_add(to, "no shared memory\n");
    add_registers(to, profile);
    const GpuOccupancy *occupancy = &line->occupancy;
    add_name(to, "occupancy");
    text_add(to, "%d blocks an SM: %d of %d warps, %.0f %%, limited by %s\n", occupancy->blocks,
             occupancy->warps, target->threads / GPU_WARP, 100 * occupancy->share,
             gpu_limit_name(occupancy->limit));
}

static void add_global(Text *to, const char *name, double requests, double lines, double sectors) {
    if (requests <= 0) return;
    add_name(to, name);
    text_add(to, "%.0f requests, %.1f lines each, %.1f of 4 sectors of a line\n", requests,
             lines / requests, ratio(sectors, lines));
}

static void add_shared(Text *to, const GpuCounts *counts) {
    if (counts->shared <= 0) return;
    add_name(to, "shared memory");
    text_add(to, "%.0f requests, %.1f wavefronts each, %.1f without bank conflicts\n",
             counts->shared, counts->wavefronts / counts->shared,
             counts->conflict_free / counts->shared);
}

static void add_totals(Text *to, const GpuCounts *counts, const GpuRoofline *line) {
    char l1[NUMBER], l2[NUMBER], memory[NUMBER], fp32[NUMBER], tensor[NUMBER], all[NUMBER];
    add_name(to, "bytes");
    text_add(to, "L1 %s, L2 %s, memory %s at least\n",
             scaled(l1, 32 * (counts->load_sectors + counts->store_sectors), "B"),
             scaled(l2, line->roof[GPU_L2].amount, "B"), scaled(memory, counts->memory_bytes, "B"));
    add_name(to, "operations");
    text_add(to, "FP32 %s, tensor cores %s; at least %s of warps\n",
             scaled(fp32, counts->flops, "FLOP"), scaled(tensor, counts->tensor_flops, "FLOP"),
             scaled(all, line->roof[GPU_ISSUE].amount, "instructions"));
}

// ---- roofs -------------------------------------------------------------------------------------
static void add_roof(Text *to, const GpuRoofline *line, GpuRoof roof) {
    char amount[NUMBER], rate[NUMBER], time[NUMBER], bar[BAR + 1] = "";
    const char *unit, *name = gpu_roof_name(roof, &unit);
    double share = ratio(line->roof[roof].seconds, line->seconds);
    int length = (int)lrint(BAR * fmin(share, 1));
    memset(bar, '#', (size_t)length);
    text_add(to, "  %-17s %20s %20s/s %11s %4.0f %%%s%s\n", name,
             scaled(amount, line->roof[roof].amount, unit),
             scaled(rate, line->roof[roof].rate, unit), time_of(time, line->roof[roof].seconds),
             100 * share, length ? "  " : "", bar);
}

// Where the kernel stands on the picture of roofs: operations a byte, beside what makes the roof of
// a level of memory and the one of operations meet. A wavefront is 128 bytes.
static void add_intensity(Text *to, const GpuCounts *counts, const GpuRoofline *line) {
    static const struct {
        GpuRoof roof;
        const char *name;
        double bytes;
    } levels[] = {{GPU_L1, "L1", 128}, {GPU_L2, "L2", 1}, {GPU_MEMORY, "memory", 1}};
    GpuRoof peak = counts->tensor_flops > 0 ? GPU_TENSOR : GPU_FP32;
    double operations = counts->flops + counts->tensor_flops;
    if (operations <= 0) return;
    add_name(to, "FLOP a byte");
    for (int i = 0; i < COUNT_OF(levels); i++)
        text_add(to, "%s%s %.2f (ridge %.1f)", i ? ", " : "", levels[i].name,
                 ratio(operations, levels[i].bytes * line->roof[levels[i].roof].amount),
                 line->roof[peak].rate / (levels[i].bytes * line->roof[levels[i].roof].rate));
    text_add(to, "\n");
}

static void add_estimate(Text *to, const GpuProfile *profile, const GpuRoofline *line) {
    char time[NUMBER];
    add_words(to, "estimate",
              arena_print(to->arena,
                          "%s; a scheduler has %.1f warps, each with %.1f instructions that do "
                          "not wait for each other, which take %.1f clocks; none is eligible in "
                          "%.0f %% of clocks",
                          time_of(time, line->seconds), line->warps,
                          fmax(1, profile->counts.independent), line->latency,
                          100 * line->stalled));
}

void gpu_report_add(Text *to, const GpuTarget *target, const GpuProfile *profile,
                    const GpuRoofline *line) {
    const GpuCounts *counts = &profile->counts;
    add_launch(to, target, profile, line);
    add_global(to, "global loads", counts->loads, counts->load_lines, counts->load_sectors);
    add_global(to, "global stores", counts->stores, counts->store_lines, counts->store_sectors);
    add_shared(to, counts);
    add_totals(to, counts, line);
    add_intensity(to, counts, line);
    if (line->occupancy.blocks) {
        text_add(to, "  %-17s %20s %22s %11s %6s\n", "roof", "amount", "peak", "time", "share");
        for (GpuRoof roof = GPU_FP32; roof < GPU_ROOFS; roof++)
            if (line->roof[roof].amount > 0) add_roof(to, line, roof);
        add_estimate(to, profile, line);
    }
    add_words(to, gpu_verdict_name(line->verdict), line->reason);
}
