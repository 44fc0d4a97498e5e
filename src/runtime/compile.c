/* compile.c - C text to loaded functions, by the system's compiler, through the cache.
 * In: units, each a text that exports one symbol.  Out: function pointers.
 * Invariants: no shell; units that are not cached are spread over one file a core, compiled at the
 * same time; what is loaded stays loaded, once; a compiler that fails leaves its message alone.
 *   cc -O2 ... -mavx2 -shared -o 0.so 0.c                                                        */
#define _GNU_SOURCE
#include "runtime/runtime.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

// Kernels are linked with -nostdlib: they call nothing but what compilers make of loops, memcpy and
// memset, which this process has. gcc 11 does not turn lists of lanes into vectors unless told to;
// TER, its joining of expressions, moves loads to where they keep sums out of registers
// (docs/11-measured.md). clang does without it and ignores the option.
static const char base_flags[] =
    "-std=gnu11 -O2 -ftree-slp-vectorize -fno-tree-ter -fno-math-errno -fno-trapping-math "
    "-ffp-contract=off -fwrapv -fPIC -pipe -w -Wno-psabi";

// ---- the compiler ------------------------------------------------------------------------------

static bool is_program(const char *path) {
    struct stat facts;
    return !stat(path, &facts) && S_ISREG(facts.st_mode) && !access(path, X_OK);
}

static char *find_on_path(Arena *arena, const char *name) {
    if (strchr(name, '/')) return is_program(name) ? arena_text(arena, name) : NULL;
    const char *at = getenv("PATH");
    while (at && *at) {
        int length = (int)strcspn(at, ":");
        char *path = arena_print(arena, "%.*s/%s", length, at, name);
        if (length && is_program(path)) return path;
        at += length + (at[length] == ':');
    }
    return NULL;
}

char *compiler_path(Arena *arena) {
    static const char *const names[] = {"cc", "gcc", "clang"};
    const char *chosen = env_text("CC", NULL);
    char *path = chosen ? find_on_path(arena, chosen) : NULL;
    for (int i = 0; !chosen && !path && i < COUNT_OF(names); i++)
        path = find_on_path(arena, names[i]);
    if (path) return path;
    if (chosen)
        fail("PG_CC: there is no program %s. Hint: a path or a name on PATH, no options", chosen);
    else
        fail("no C compiler: none of cc, gcc, clang is on PATH. Hint: install gcc, or set PG_CC");
    return NULL;
}

bool compiler_available(void) {
    Arena *arena = arena_new();
    bool available = compiler_path(arena);
    arena_free(arena);
    return available;
}

int compiler_choices(Arena *arena, const char *choice[COMPILERS_MAX]) {
    static const char *const names[] = {"gcc", "clang-19"};
    int count = 0;
    char *first = compiler_path(arena), same[PATH_MAX], other[PATH_MAX];
    if (!first) return 0;
    choice[count++] = first;
    for (int i = 0; i < COUNT_OF(names) && !env_text("CC", NULL); i++) {
        char *path = find_on_path(arena, names[i]);
        bool known = !path || !realpath(path, other);
        for (int j = 0; j < count && !known; j++)
            known = realpath(choice[j], same) && !strcmp(same, other);
        if (!known && count < COMPILERS_MAX) choice[count++] = path;
    }
    return count;
}

char *compiler_key(Arena *arena, const char *path) {
    struct stat facts;
    if (stat(path, &facts)) {
        fail("cannot look at %s: %s", path, strerror(errno));
        return NULL;
    }
    return arena_print(arena, "%s %ld.%09ld %ld %s %s", path, facts.st_mtim.tv_sec,
                       facts.st_mtim.tv_nsec, (long)facts.st_size, base_flags, target()->flags);
}

typedef LIST(char *) Words;

static void add_words(Arena *arena, Words *words, const char *text) {
    while (*text) {
        int length = (int)strcspn(text, " ");
        if (length) *list_add(arena, words) = arena_print(arena, "%.*s", length, text);
        text += length + (text[length] == ' ');
    }
}

// When a compiler that is started now hangs, by clock_seconds.
static double time_limit(void) { return clock_seconds() + (double)env_int("CC_SECONDS", 600); }

// Starts `compiler flags... options... -o output input`, messages to `log`; its process, or -1.
static pid_t start_compiler(Arena *arena, const char *compiler, const char *options, char *input,
                            char *output, const char *log) {
    Words words = {0}, environment = {0};
    *list_add(arena, &words) = arena_text(arena, compiler);
    add_words(arena, &words, base_flags);
    add_words(arena, &words, target()->flags);
    add_words(arena, &words, options);
    *list_add(arena, &words) = arena_text(arena, "-o");
    *list_add(arena, &words) = output;
    *list_add(arena, &words) = input;
    *list_add(arena, &words) = NULL;
    for (char **at = environ; *at; at++)
        if (strncmp(*at, "LC_ALL=", 7)) *list_add(arena, &environment) = *at;
    *list_add(arena, &environment) = arena_text(arena, "LC_ALL=C");  // we look for "error"
    *list_add(arena, &environment) = NULL;

    posix_spawn_file_actions_t actions;
    pid_t process;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    int error = posix_spawn(&process, compiler, &actions, NULL, words.at, environment.at);
    posix_spawn_file_actions_destroy(&actions);
    if (!error) return process;
    fail("cannot start %s: %s", compiler, strerror(error));
    return -1;
}

const char *compiler_error(Arena *arena, const char *log) {
    if (!log || !*log) return "it said nothing";
    const char *at = strstr(log, "error");
    if (!at) at = log;
    while (at > log && at[-1] != '\n') at--;
    return arena_print(arena, "%.*s", (int)min_i64((int64_t)strcspn(at, "\n"), 400), at);
}

static int finish_compiler(Arena *arena, pid_t process, const char *compiler, const char *log,
                           double limit) {
    int status;
    if (process < 0) return -1;
    for (pid_t ended; (ended = waitpid(process, &status, WNOHANG)) != process; usleep(1000)) {
        if (ended < 0) return fail("cannot wait for %s: %s", compiler, strerror(errno));
        if (clock_seconds() > limit) kill(process, SIGKILL);
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return 0;
    if (clock_seconds() > limit)
        return fail("%s did not end. Hint: PG_CC names another, PG_CC_SECONDS gives it longer",
                    compiler);
    return fail("%s could not compile a kernel: %s", compiler,
                compiler_error(arena, file_read(arena, log, NULL)));
}

// ---- a folder to work in -----------------------------------------------------------------------

static char *open_workplace(Arena *arena) {
    const char *parent = getenv("TMPDIR");
    char *folder = arena_print(arena, "%s/picograd-XXXXXX", parent && *parent ? parent : "/tmp");
    if (mkdtemp(folder)) return folder;
    fail("cannot make a folder like %s: %s. Hint: set TMPDIR", folder, strerror(errno));
    return NULL;
}

typedef struct {
    char *source, *object, *log;
} Paths;

static Paths paths_of(Arena *arena, const char *folder, int file, const char *ending) {
    return (Paths){arena_print(arena, "%s/%d.c", folder, file),
                   arena_print(arena, "%s/%d.%s", folder, file, ending),
                   arena_print(arena, "%s/%d.log", folder, file)};
}

static void remove_paths(const Paths *paths) {
    unlink(paths->source);
    unlink(paths->object);
    unlink(paths->log);
}

char *compiler_assembly(Arena *arena, const char *source) {
    char *compiler = compiler_path(arena), *folder = compiler ? open_workplace(arena) : NULL;
    if (!folder) return NULL;
    Paths paths = paths_of(arena, folder, 0, "s");
    char *text = NULL;
    if (!file_write(paths.source, source, strlen(source))) {
        pid_t process = start_compiler(arena, compiler, "-S -fno-asynchronous-unwind-tables",
                                       paths.source, paths.object, paths.log);
        if (!finish_compiler(arena, process, compiler, paths.log, time_limit()))
            text = file_read(arena, paths.object, NULL);
    }
    remove_paths(&paths);
    rmdir(folder);
    return text;
}

// ---- what is loaded ----------------------------------------------------------------------------

static struct {
    pthread_mutex_t lock;  // held for a whole compile_units
    Arena *arena;
    Map *place;
    LIST(KernelFunction *) functions;
} loaded = {.lock = PTHREAD_MUTEX_INITIALIZER};

static KernelFunction *find_loaded(const char *name) {
    if (!loaded.arena) {
        loaded.arena = arena_new();
        loaded.place = map_new(loaded.arena);
    }
    int32_t at = map_find(loaded.place, hash_bytes(name, strlen(name), 0), NULL, NULL);
    return at < 0 ? NULL : loaded.functions.at[at];
}

// Finds a unit's symbol in the object at `path`; it is remembered under `name`, if not NULL.
static int load_unit(CompileUnit *unit, const char *path, const char *name) {
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    void *function = object ? dlsym(object, unit->symbol) : NULL;
    if (!function) return fail("cannot load a compiled kernel: %s", dlerror());
    memcpy(&unit->function, &function, sizeof function);
    unit->object = object;
    if (!name) return 0;
    *list_add(loaded.arena, &loaded.functions) = unit->function;
    map_add(loaded.arena, loaded.place, hash_bytes(name, strlen(name), 0),
            loaded.functions.count - 1);
    return 0;
}

// ---- many units --------------------------------------------------------------------------------

typedef struct {
    Paths paths;
    const char *compiler, *flags;
    LIST(int) units;
    Text source;
    pid_t process;
} File;

typedef struct {
    Arena *arena;
    CompileUnit *unit;
    int count;
    bool passing;       // on trial: neither cached nor kept
    const char **name;  // by unit: of its cache entry
    const char **compiler;
    File *file;
    int files, result;
    double limit;
} Batch;

// The names of units to be compiled: those that are not loaded, cached, or equal to an earlier one.
static int find_missing(Batch *batch, int *missing) {
    int count = 0;
    for (int i = 0; i < batch->count; i++) {
        CompileUnit *unit = &batch->unit[i];
        unit->function = batch->passing ? NULL : find_loaded(batch->name[i]);
        bool kept = !unit->function && !batch->passing;
        char *path = kept ? cache_find(batch->arena, batch->name[i]) : NULL;
        unit->from_cache = unit->function || (path && !load_unit(unit, path, batch->name[i]));
        bool twice = false;
        for (int j = 0; j < count; j++) twice |= !strcmp(batch->name[missing[j]], batch->name[i]);
        if (!unit->function && !twice) missing[count++] = i;
    }
    return count;
}

static const char *flags_of(const CompileUnit *unit) { return unit->flags ? unit->flags : ""; }

// As many files for a compiler and its flags as there are cores; a unit goes to the one with least
// text so far.
static void share_out(Batch *batch, const int *missing, int count, const char *folder) {
    batch->file = arena_array(batch->arena, File, count);
    for (int i = 0; i < count; i++) {
        const CompileUnit *unit = &batch->unit[missing[i]];
        File *least = NULL;
        int of_compiler = 0;
        for (int f = 0; f < batch->files; f++) {
            File *file = &batch->file[f];
            if (strcmp(file->compiler, batch->compiler[missing[i]])) continue;
            if (strcmp(file->flags, flags_of(unit))) continue;
            of_compiler++;
            if (!least || file->source.count < least->source.count) least = file;
        }
        if (of_compiler < thread_count()) {
            least = &batch->file[batch->files];
            *least = (File){.paths = paths_of(batch->arena, folder, batch->files++, "so"),
                            .compiler = batch->compiler[missing[i]],
                            .flags = flags_of(unit),
                            .source = text_new(batch->arena)};
        }
        text_add(&least->source, "%s\n", unit->source);
        *list_add(batch->arena, &least->units) = missing[i];
    }
}

// One that is cut would end this process: its loader reads where the bytes should be. Linkers write
// the table of sections last.
static bool is_whole(const char *object, size_t size) {
    ElfW(Ehdr) head;
    if (size < sizeof head) return false;
    memcpy(&head, object, sizeof head);
    return !memcmp(head.e_ident, ELFMAG, SELFMAG) && head.e_shoff <= size &&
           (size_t)head.e_shnum * head.e_shentsize <= size - head.e_shoff;
}

// Into the cache and into this process.
static int finish_file(Batch *batch, File *file) {
    Arena *arena = batch->arena;
    if (finish_compiler(arena, file->process, file->compiler, file->paths.log, batch->limit))
        return -1;
    const char **name = arena_array(arena, const char *, file->units.count);
    for (int i = 0; i < file->units.count; i++) name[i] = batch->name[file->units.at[i]];
    size_t size;
    char *bytes = file_read(arena, file->paths.object, &size);
    if (!bytes || !is_whole(bytes, size))
        return fail("%s says that it is done but wrote no whole object", file->compiler);
    const char *cached =
        batch->passing ? NULL : cache_add(arena, file->units.count, name, bytes, size);
    for (int i = 0; i < file->units.count; i++) {
        CompileUnit *unit = &batch->unit[file->units.at[i]];
        // Either place may be on a file system from which nothing may be run.
        if (cached && !load_unit(unit, cached, name[i])) continue;
        if (load_unit(unit, file->paths.object, batch->passing ? NULL : name[i])) return -1;
    }
    return 0;
}

static int compile_missing(Batch *batch, const int *missing, int count) {
    char *folder = open_workplace(batch->arena);
    if (!folder) return -1;
    share_out(batch, missing, count, folder);
    batch->limit = time_limit();
    for (int f = 0; f < batch->files; f++) {
        File *file = &batch->file[f];
        file->process = -1;
        const char *options = arena_print(batch->arena, "-shared -nostdlib %s", file->flags);
        if (!file_write(file->paths.source, file->source.at, file->source.count))
            file->process = start_compiler(batch->arena, file->compiler, options,
                                           file->paths.source, file->paths.object, file->paths.log);
    }
    int result = 0;
    for (int f = 0; f < batch->files; f++) {
        char *message = result ? arena_text(batch->arena, error_text()) : NULL;
        if (finish_file(batch, &batch->file[f])) result = -1;
        if (message) fail("%s", message);  // the first one counts
        remove_paths(&batch->file[f].paths);
    }
    rmdir(folder);
    return result;
}

static int compile_all(Batch *batch) {
    const char *usual = compiler_path(batch->arena), *last = NULL, *key = NULL;
    if (!usual) return -1;
    batch->name = arena_array(batch->arena, const char *, batch->count);
    batch->compiler = arena_array(batch->arena, const char *, batch->count);
    for (int i = 0; i < batch->count; i++) {
        const CompileUnit *unit = &batch->unit[i];
        batch->compiler[i] = unit->compiler ? unit->compiler : usual;
        if (last != batch->compiler[i]) key = compiler_key(batch->arena, last = batch->compiler[i]);
        if (!key) return -1;
        const char *flags = flags_of(unit);
        uint64_t hash = hash_bytes(flags, strlen(flags), hash_bytes(key, strlen(key), 0));
        batch->name[i] = arena_print(batch->arena, "%s-%016lx.so", unit->symbol, hash);
    }
    int *missing = arena_array(batch->arena, int, batch->count);
    int count = find_missing(batch, missing);
    if (count && compile_missing(batch, missing, count)) return -1;
    for (int i = 0; i < batch->count && !batch->passing; i++)
        if (!batch->unit[i].function) batch->unit[i].function = find_loaded(batch->name[i]);
    return 0;
}

static void compile_batch(void *batch) { ((Batch *)batch)->result = compile_all(batch); }

static int compile(CompileUnit *unit, int count, bool passing) {
    Batch batch = {.arena = arena_new(), .unit = unit, .count = count, .passing = passing};
    pthread_mutex_lock(&loaded.lock);
    bool stopped = try_call(compile_batch, &batch);  // a fatal must not leave the lock behind
    pthread_mutex_unlock(&loaded.lock);
    arena_free(batch.arena);
    if (stopped) {
        char message[ERROR_SIZE];
        strcpy(message, error_text());
        fatal_again(message);
    }
    return batch.result;
}

int compile_units(CompileUnit *unit, int count) { return compile(unit, count, false); }

int compile_trials(CompileUnit *unit, int count) { return compile(unit, count, true); }

void compile_forget(CompileUnit *unit, int count) {
    for (int i = 0; i < count; i++) {
        if (unit[i].object) dlclose(unit[i].object);
        unit[i].object = unit[i].function = NULL;
    }
}
