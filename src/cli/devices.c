/* devices.c - picograd devices: what this machine offers, and what of it a run takes.
 * Out: a line a fact, or one JSON object.
 *   picograd devices   =>   isa   avx2 (of c, avx2)                                              */
#include "cli/machine.h"

#include <stdlib.h>
#include <string.h>

// What of OPTIONAL in the Makefile was there when this was built: "1" then, else the macro's name.
#define TEXT_OF(value)  #value
#define VALUE_OF(macro) TEXT_OF(macro)
static const struct {
    const char *name, *value;
} libraries[] = {
    {"pcre2", VALUE_OF(PG_HAVE_PCRE2)},       {"jansson", VALUE_OF(PG_HAVE_JANSSON)},
    {"utf8proc", VALUE_OF(PG_HAVE_UTF8PROC)}, {"libedit", VALUE_OF(PG_HAVE_LIBEDIT)},
    {"sqlite3", VALUE_OF(PG_HAVE_SQLITE)},
};
static bool is_built_in(int library) { return !strcmp(libraries[library].value, "1"); }

static const char *const switches[] = {"PG_DEVICE", "PG_ISA",       "PG_THREADS",
                                       "PG_MODE",   "PG_PRECISION", "PG_CC"};

static const char *switch_value(const char *name) {
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

// ---- for a person ------------------------------------------------------------------------------
static const char *joined(Arena *arena, const Names *names) {
    Text text = text_new(arena);
    for (int32_t i = 0; i < names->count; i++) text_add(&text, "%s%s", i ? ", " : "", names->at[i]);
    return text.at;
}

static const char *size_text(Arena *arena, int64_t bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int unit = 0;
    double value = (double)bytes;
    for (; value >= 1024 && unit + 1 < COUNT_OF(units); unit++) value /= 1024;
    return arena_print(arena, value < 10 && unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

static void print_line(const char *name, const char *format, ...) PRINTF(2, 3);

static void print_line(const char *name, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    printf("%-10s ", name);
    vprintf(format, arguments);
    putchar('\n');
    va_end(arguments);
}

static void print_processors(Arena *arena, const Machine *machine) {
    print_line("cpu", "%s", machine->cpu);
    Text cores = text_new(arena);
    if (machine->cores)
        text_add(&cores, "; %d core%s, %d socket%s", machine->cores, machine->cores == 1 ? "" : "s",
                 machine->sockets, machine->sockets == 1 ? "" : "s");
    print_line("threads", "%d to use of %d%s", machine->usable, machine->online, cores.at);
    print_line("isa", "%s", joined(arena, &machine->isas));
    if (machine->unused.count)
        print_line("", "%s: there, not used yet", joined(arena, &machine->unused));
    Text caches = text_new(arena);
    for (int32_t i = 0; i < machine->caches.count; i++) {
        const Cache *cache = &machine->caches.at[i];
        text_add(&caches, "%s%s %s", i ? ", " : "", cache->name, size_text(arena, cache->bytes));
        if (cache->threads > 1) text_add(&caches, " for %d threads", cache->threads);
    }
    print_line("caches", "%s", caches.count ? caches.at : "not known");
}

static void print_gpus(Arena *arena, const Machine *machine) {
    if (machine->cuda) print_line("cuda", "%s", machine->cuda);
    for (int32_t i = 0; i < machine->gpus.count; i++) {
        const CudaInfo *gpu = &machine->gpus.at[i];
        print_line("cuda", "%d: %s, %s, compute capability %d.%d%s", i, gpu->name,
                   size_text(arena, gpu->memory), gpu->major, gpu->minor,
                   gpu->major < DEVICE_CAPABILITY ? ", which is not used: too old" : "");
    }
    if (machine->no_nvrtc) print_line("", "%s", machine->no_nvrtc);
}

static void print_text(Arena *arena, const Machine *machine) {
    print_processors(arena, machine);
    Text limit = text_new(arena), built = text_new(arena), set = text_new(arena);
    if (machine->memory_limit)
        text_add(&limit, "; a limit of %s", size_text(arena, machine->memory_limit));
    print_line("memory", "%s, %s free%s", size_text(arena, machine->memory),
               size_text(arena, machine->available), limit.at);
    if (machine->compiler)
        print_line("compiler", "%s: %s", machine->compiler,
                   machine->compiler_version ? machine->compiler_version : "says no version");
    else
        print_line("compiler", "none: everything runs eagerly");
    for (int i = 0; i < COUNT_OF(libraries); i++)
        text_add(&built, "%s%s%s", i ? ", " : "", is_built_in(i) ? "" : "without ",
                 libraries[i].name);
    print_line("libraries", "%s", built.at);
    print_line("energy", "%s", machine->no_energy ? machine->no_energy : "can be read");
    print_gpus(arena, machine);
    for (int i = 0; i < COUNT_OF(switches); i++)
        if (switch_value(switches[i]))
            text_add(&set, " %s=%s", switches[i], switch_value(switches[i]));
    print_line("a run", "%s, %s, %d thread%s, %s mode%s%s", device()->name, machine->isa,
               machine->threads, machine->threads == 1 ? "" : "s", mode_name(),
               set.count ? "; set:" : "", set.at);
}

// ---- JSON --------------------------------------------------------------------------------------
static void add_names(Text *to, const char *name, const Names *names) {
    text_add(to, "  \"%s\": [", name);
    for (int32_t i = 0; i < names->count; i++)
        text_add(to, "%s\"%s\"", i ? ", " : "", names->at[i]);
    text_add(to, "],\n");
}

static void add_text(Text *to, const char *name, const char *value) {
    text_add(to, "  \"%s\": ", name);
    quote_json_text(to, value);
    text_add(to, ",\n");
}

static void add_lists(Text *to, const Machine *machine) {
    add_names(to, "isas", &machine->isas);
    add_names(to, "unused", &machine->unused);
    text_add(to, "  \"caches\": [");
    for (int32_t i = 0; i < machine->caches.count; i++) {
        const Cache *cache = &machine->caches.at[i];
        text_add(to, "%s{\"name\": \"%s\", \"bytes\": %lld, \"threads\": %d}", i ? ", " : "",
                 cache->name, (long long)cache->bytes, cache->threads);
    }
    text_add(to, "],\n  \"gpus\": [");
    for (int32_t i = 0; i < machine->gpus.count; i++) {
        const CudaInfo *gpu = &machine->gpus.at[i];
        text_add(to, "%s{\"name\": ", i ? ", " : "");
        quote_json_text(to, gpu->name);
        text_add(to, ", \"memory_bytes\": %lld, \"compute_capability\": \"%d.%d\"}",
                 (long long)gpu->memory, gpu->major, gpu->minor);
    }
    text_add(to, "],\n  \"libraries\": {");
    for (int i = 0; i < COUNT_OF(libraries); i++)
        text_add(to, "%s\"%s\": %s", i ? ", " : "", libraries[i].name,
                 is_built_in(i) ? "true" : "false");
    text_add(to, "},\n");
}

static void print_json(Arena *arena, const Machine *machine) {
    Text text = text_new(arena), *to = &text;
    text_add(to, "{\n");
    add_text(to, "cpu", machine->cpu);
    text_add(to, "  \"usable_threads\": %d,\n  \"online_threads\": %d,\n", machine->usable,
             machine->online);
    text_add(to, "  \"cores\": %d,\n  \"sockets\": %d,\n", machine->cores, machine->sockets);
    text_add(to, "  \"memory_bytes\": %lld,\n  \"available_bytes\": %lld,\n",
             (long long)machine->memory, (long long)machine->available);
    text_add(to, "  \"memory_limit_bytes\": %lld,\n", (long long)machine->memory_limit);
    add_lists(to, machine);
    add_text(to, "compiler", machine->compiler);
    add_text(to, "compiler_version", machine->compiler_version);
    add_text(to, "no_energy", machine->no_energy);
    add_text(to, "no_cuda", machine->cuda);
    add_text(to, "no_nvrtc", machine->no_nvrtc);
    text_add(to, "  \"cuda_driver\": %d,\n", machine->cuda_version);
    for (int i = 0; i < COUNT_OF(switches); i++)
        add_text(to, switches[i], switch_value(switches[i]));
    text_add(to, "  \"device\": \"%s\",\n  \"isa\": \"%s\",\n  \"threads\": %d,\n", device()->name,
             machine->isa, machine->threads);
    text_add(to, "  \"mode\": \"%s\"\n}\n", mode_name());
    fputs(to->at, stdout);
}

int run_devices(int count, char **argument) {
    bool json = false;
    const Option table[] = {
        {"--json", NULL, OPTION_FLAG, &json, 0, 0, NULL, "print one JSON object"},
    };
    int rests, parsed = OPTIONS_PARSE("devices", table, count, argument, 0, NULL, &rests);
    if (parsed) return parsed < 0 ? EXIT_USAGE : EXIT_DONE;
    Arena *arena = arena_new();
    const Machine *machine = machine_facts(arena);
    json ? print_json(arena, machine) : print_text(arena, machine);
    arena_free(arena);
    return EXIT_DONE;
}
