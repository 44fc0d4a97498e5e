/* dump.c - every stage for a person to read: the module after a pass, what was compiled, how fast each kernel ran.
 * In: a Compiled on its way.  Out: text on standard error; identical between runs but for times.                      */
#include <string.h>

#include "engine/compiled.h"

static bool is_wanted(const char *pass) {
    const char *list = env_text("DUMP", "");
    size_t length = strlen(pass);
    if (!strcmp(list, "all")) return true;
    for (const char *at = list; *at; at += strcspn(at, ","), at += *at == ',')
        if (strcspn(at, ",") == length && !strncmp(at, pass, length)) return true;
    return false;
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
            if (slot->kind == SLOT_TEMPORARY && slot->offset) text_add(text, " at %lld", (long long)slot->offset);
        }
        text_add(text, ")\n");
        if (!compiled->unit) text_add(text, "%s", kernel_print(compiled->arena, call->kernel));
        else text_add(text, "#   unit %d\n", compiled->unit[i]);
    }
}

void dump_pass(const Compiled *compiled, const char *pass) {
    if (!is_wanted(pass)) return;
    Text text = text_new(compiled->arena);
    text_add(&text, "#### after %s\n", pass);
    if (!compiled->module)
        text_add(&text, "%s", graph_print(compiled->arena, compiled->graph, compiled->outputs, compiled->output));
    else if (!compiled->unit || !strcmp(pass, "plan")) dump_calls(compiled, &text);
    for (int32_t i = 0; i < compiled->units.count && strcmp(pass, "plan"); i++) {
        const Unit *unit = &compiled->units.at[i];
        text_add(&text, "# unit %d\n", i);
        if (unit->source) text_add(&text, "%s", unit->source);
        else if (unit->program) text_add(&text, "%s", program_print(compiled->arena, unit->program));
        else text_add(&text, "%s", kernel_print(compiled->arena, unit->kernel));
    }
    fputs(text.at, stderr);
}

void dump_units(const Compiled *compiled, int level) {
    const CompiledInfo *info = &compiled->info;
    say("compiled %d kernels, %d of them different, %d from the cache, in %.0f ms; %.1f MB of temporaries",
        info->kernels, info->unique_kernels, info->from_cache, 1e3 * info->compile_seconds,
        (double)info->temporary_bytes / 1e6);
    for (int32_t i = 0; i < compiled->units.count && level >= 3; i++) {
        const Unit *unit = &compiled->units.at[i];
        fprintf(stderr, "#### %s %s\n%s", unit->symbol, unit->kernel->name, unit->text);
        fprintf(stderr, "# schedule\n%s# kernel\n%s", unit->schedule, kernel_print(compiled->arena, unit->kernel));
        if (level >= 4) fprintf(stderr, "%s", unit->source);
        if (level >= 5) fprintf(stderr, "%s", compiler_assembly(compiled->arena, unit->source));
    }
}

void dump_times(const Compiled *compiled, const int64_t *var, const double *seconds) {
    double all = 0;
    for (int32_t i = 0; i < compiled->module->calls.count; i++) {
        const KernelCall *call = &compiled->module->calls.at[i];
        double operations, bytes, time = seconds[i] > 0 ? seconds[i] : 1e-9;
        kernel_cost(call->kernel, var, &operations, &bytes);
        all += time;
        fprintf(stderr, "%4d %-28s %9.1f us %8.2f GFLOP/s %7.2f GB/s  %s\n", i, call->kernel->name, 1e6 * time,
                1e-9 * operations / time, 1e-9 * bytes / time, compiled->units.at[compiled->unit[i]].symbol);
    }
    fprintf(stderr, "     %-28s %9.1f us\n", "all kernels", 1e6 * all);
}
