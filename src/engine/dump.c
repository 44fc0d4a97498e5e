/* dump.c - every stage for a person to read: the module after a pass, what was compiled, how fast
 * each kernel ran.
 * In: a Compiled on its way.  Out: text on standard error; identical between runs but for times. */
#include <string.h>

#include "engine/search.h"

static FILE *told;
void engine_dump_to(FILE *to) { told = to; }
static FILE *output(void) { return told ? told : stderr; }

static bool is_wanted(const char *pass) {
    const char *list = env_text("DUMP", "");
    size_t length = strlen(pass);
    if (!strcmp(list, "all")) return true;
    for (const char *at = list; *at; at += strcspn(at, ","), at += *at == ',')
        if (strcspn(at, ",") == length && !strncmp(at, pass, length)) return true;
    return false;
}

static bool is_wanted_unit(int32_t unit) {
    int64_t only = env_int("KERNEL", -1);
    return only < 0 || only == unit;
}

static void dump_calls(const Compiled *compiled, Text *text) {
    const Module *module = compiled->module;
    static const char *const kinds[] = {"buffer", "param", "temporary"};
    for (int32_t i = 0; i < module->calls.count; i++) {
        const KernelCall *call = &module->calls.at[i];
        text_add(text, "# call %d: %s(", i, call->kernel->name);
        for (int32_t j = 0; j < call->params; j++) {
            const Slot *slot = &module->slots.at[call->slot[j]];
            text_add(text, "%s%s %lld", j ? ", " : "", kinds[slot->kind], (long long)slot->of);
            if (slot->kind == SLOT_TEMPORARY && slot->offset)
                text_add(text, " at %lld", (long long)slot->offset);
        }
        text_add(text, ")\n");
        if (!compiled->unit)
            text_add(text, "%s", kernel_print(compiled->arena, call->kernel));
        else
            text_add(text, "#   kernel %d\n", compiled->unit[i]);
    }
}

static const char *assembly_of(const Compiled *compiled, const Unit *unit) {
    const char *text = compiler_assembly(compiled->arena, unit->source);
    return text ? text : arena_print(compiled->arena, "# none: %s\n", error_text());
}

static void dump_unit(const Compiled *compiled, const char *pass, const Unit *unit, Text *text) {
    text_add(text, "# kernel %d: %s\n", (int)(unit - compiled->units.at), unit->kernel->name);
    if (!strcmp(pass, "tune")) {
        search_report(unit, text);
        return;
    }
    if (!strcmp(pass, "schedule")) text_add(text, "# schedule\n%s# loops\n", unit->schedule);
    if (unit->function)
        text_add(text, "%s", assembly_of(compiled, unit));
    else if (unit->source)
        text_add(text, "%s", unit->source);
    else if (unit->program)
        text_add(text, "%s", program_print(compiled->arena, unit->program));
    else
        text_add(text, "%s", kernel_print(compiled->arena, unit->kernel));
}

// A graph, then calls of kernels, then kernels; the memory plan is again about calls.
void dump_pass(const Compiled *compiled, const Pass *pass) {
    if (!is_wanted(pass->name)) return;
    bool calls = compiled->module && (!compiled->unit || !strcmp(pass->name, "plan"));
    bool units = compiled->unit && !calls;
    if (!units && !is_wanted_unit(-1)) return;
    Text text = text_new(compiled->arena);
    text_add(&text, "\n#### %s: %s\n", pass->name, pass->about);
    if (!compiled->module)
        text_add(
            &text, "%s",
            graph_print(compiled->arena, compiled->graph, compiled->outputs, compiled->output));
    if (calls) dump_calls(compiled, &text);
    for (int32_t i = 0; units && i < compiled->units.count; i++)
        if (is_wanted_unit(i)) dump_unit(compiled, pass->name, &compiled->units.at[i], &text);
    if (units && env_int("KERNEL", -1) >= compiled->units.count)
        text_add(&text, "# there is no kernel %s: the last is %d\n", env_text("KERNEL", ""),
                 compiled->units.count - 1);
    fputs(text.at, output());
}

void dump_units(const Compiled *compiled, int level) {
    const CompiledInfo *info = &compiled->info;
    say("compiled %d kernels, %d of them different, %d from the cache, in %.0f ms; %.1f MB of "
        "temporaries",
        compiled->launches, compiled->units.count, info->from_cache, 1e3 * info->compile_seconds,
        (double)info->temporary_bytes / 1e6);
    for (int32_t i = 0; i < compiled->units.count && level >= 3; i++) {
        const Unit *unit = &compiled->units.at[i];
        fprintf(output(), "#### %s %s\n%s", unit->symbol, unit->kernel->name, unit->text);
        fprintf(output(), "# schedule\n%s# kernel\n%s", unit->schedule,
                kernel_print(compiled->arena, unit->kernel));
        if (level >= 4) fputs(unit->source, output());
        if (level >= 5) fputs(assembly_of(compiled, unit), output());
    }
}

static _Thread_local EngineWatch *watching;
static _Thread_local void *watch_context;

void engine_watch(EngineWatch *watch, void *context) {
    watching = watch;
    watch_context = context;
}

bool dump_is_watched(void) { return watching; }

// A row a kernel: the sums over its calls.
static KernelTime *kernel_times(const Compiled *compiled, Arena *arena, const int64_t *var) {
    KernelTime *times = arena_array(arena, KernelTime, compiled->units.count);
    for (int32_t i = 0; i < compiled->module->calls.count; i++) {
        double operations, bytes;
        kernel_cost(compiled->module->calls.at[i].kernel, var, &operations, &bytes);
        KernelTime *sum = &times[compiled->unit[i]];
        *sum = (KernelTime){compiled->units.at[compiled->unit[i]].kernel->name, sum->calls + 1,
                            sum->seconds + compiled->seconds[i], sum->operations + operations,
                            sum->bytes + bytes};
    }
    return times;
}

static void print_times(const Compiled *compiled, const KernelTime *times) {
    double all = 0;
    for (int32_t i = 0; i < compiled->units.count; i++) all += times[i].seconds;
    fprintf(output(), "%6s %5s  %-28s %10s %5s %9s %8s\n", "kernel", "calls", "name", "us", "%",
            "GFLOP/s", "GB/s");
    for (int32_t i = 0; i < compiled->units.count; i++) {
        double seconds = times[i].seconds > 0 ? times[i].seconds : 1e-9;
        if (!times[i].calls || !is_wanted_unit(i)) continue;
        fprintf(output(), "%6d %5d  %-28s %10.1f %5.1f %9.2f %8.2f\n", i, times[i].calls,
                times[i].name, 1e6 * seconds, 100 * seconds / all,
                1e-9 * times[i].operations / seconds, 1e-9 * times[i].bytes / seconds);
    }
    fprintf(output(), "%6s %5d  %-28s %10.1f\n", "all", compiled->module->calls.count, "",
            1e6 * all);
}

void dump_times(const Compiled *compiled, const int64_t *var) {
    bool printed = env_int("DEBUG", 0) >= 2;
    if (!printed && !watching) return;
    Arena *arena = arena_new();
    const KernelTime *times = kernel_times(compiled, arena, var);
    if (printed) print_times(compiled, times);
    if (watching) watching(watch_context, compiled->units.count, times);
    arena_free(arena);
}
