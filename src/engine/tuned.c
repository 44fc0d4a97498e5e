/* tuned.c - schedules that searches found, in a database of SQLite's in the cache folder.
 * In: a kernel's text and what else its speed depends on.  Out: a schedule, a compiler, times.
 * Invariants: nothing read from the file is believed: a schedule goes through the parser and the
 * transforms' checks, a compiler is one that was found here by that name; a damaged file is removed
 * with one line; without the library, and without the file, all is as if nothing had been found.
 *   (kernel matmul_512x512, "AMD EPYC ...", gcc's key, 2 threads)   =>   SPLIT i 4 peel ...      */
#include "engine/search.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// The first processor's: the others are like it.
static void add_cpu(Arena *arena, Text *to) {
    static const char *const words[] = {"cpu family", "model", "stepping", "flags"};
    char *facts = file_read(arena, "/proc/cpuinfo", NULL), *saved;
    size_t end = facts && strstr(facts, "\n\n") ? (size_t)(strstr(facts, "\n\n") - facts) : 0;
    if (facts) facts[end] = 0;
    for (char *line = facts ? strtok_r(facts, "\n", &saved) : NULL; line;
         line = strtok_r(NULL, "\n", &saved))
        for (int i = 0; i < COUNT_OF(words); i++)
            if (!strncmp(line, words[i], strlen(words[i]))) text_add(to, "%s\n", line);
}

// simt has no speed of its own: the row that its kernels are made for has.
static const char *place_on_gpu(Arena *arena) {
    Cuda *gpu = device()->gpu;
    const CudaInfo *facts = gpu ? cuda_facts(gpu) : NULL;
    return arena_print(arena, "%s, %d SMs, CUDA %d%s\n%s\n", gpu ? facts->name : gpu_row()->name,
                       gpu_row()->sms, gpu ? facts->version : 0, engine_tf32() ? ", tf32" : "",
                       PG_CODEGEN);
}

const char *tuned_place(Arena *arena) {
    if (unit_is_gpu()) return place_on_gpu(arena);
    const char *choice[COMPILERS_MAX];
    Text place = text_new(arena);
    int count = compiler_choices(arena, choice);
    add_cpu(arena, &place);
    for (int i = 0; i < count; i++) {
        const char *key = compiler_key(arena, choice[i]);
        if (!key) return NULL;
        text_add(&place, "%s\n", key);
    }
    text_add(&place, "%d threads%s\n%s\n", thread_count(), engine_tf32() ? ", tf32" : "",
             PG_CODEGEN);
    return count ? place.at : NULL;
}

static char *database_path(Arena *arena) {
    const char *folder = cache_folder(arena);
    return folder ? arena_print(arena, "%s/tuned.db", folder) : NULL;
}

static void remove_file(Arena *arena, const char *path) {
    unlink(path);
    unlink(arena_print(arena, "%s-journal", path));
}

bool tuned_clear(void) {
    Arena *arena = arena_new();
    char *path = database_path(arena);
    bool found = path && !access(path, F_OK);
    if (found) remove_file(arena, path);
    arena_free(arena);
    return found;
}

#ifdef PG_HAVE_SQLITE
#include <dlfcn.h>
#include <pthread.h>
#include <sqlite3.h>

// Looked up when it is first wanted, so that a program which links libpicograd.a needs nothing.
#define SQLITE_CALLS(X) \
    X(bind_text)        \
    X(busy_timeout)     \
    X(close)            \
    X(column_double)    \
    X(column_int)       \
    X(column_int64)     \
    X(column_text)      \
    X(db_config)        \
    X(errmsg)           \
    X(exec)             \
    X(finalize)         \
    X(limit)            \
    X(open_v2)          \
    X(prepare_v2)       \
    X(step)
#define FIELD(name) __typeof__(sqlite3_##name) *name;
static struct { SQLITE_CALLS(FIELD) } lite;

static bool has_library;
static void find_library(void) {
#define ROW(name) {"sqlite3_" #name, (void **)&lite.name},
    static const struct {
        const char *name;
        void **to;
    } call[] = {SQLITE_CALLS(ROW)};
    void *library = dlopen("libsqlite3.so.0", RTLD_NOW | RTLD_LOCAL);
    has_library = library != NULL;
    for (int i = 0; i < COUNT_OF(call) && has_library; i++)
        has_library = (*call[i].to = dlsym(library, call[i].name)) != NULL;
}

static bool find_library_once(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find_library);
    return has_library;
}

enum { VERSION = 1, TEXT_MAX = 1 << 22, BUSY_MS = 2000 };
struct Tuned {
    Arena *arena;
    const char *path;
    sqlite3 *file;
};

// Once a process: what is wrong will be wrong again.
static int warn(const Tuned *tuned, const char *what) {
    static atomic_bool warned;
    if (!atomic_exchange(&warned, true))
        say("%s: %s; tuned schedules are not kept. Hint: picograd cache clear", tuned->path, what);
    return -1;
}

static void check(const Tuned *tuned, int status) {
    if (status == SQLITE_CORRUPT || status == SQLITE_NOTADB) {
        say("%s is damaged; tuned schedules start anew", tuned->path);
        remove_file(tuned->arena, tuned->path);
    } else if (status != SQLITE_OK && status != SQLITE_DONE) {
        warn(tuned, lite.errmsg(tuned->file));
    }
}

static sqlite3_stmt *query(Tuned *tuned, const char *sql, int values, const char *const *value) {
    sqlite3_stmt *query = NULL;
    if (!tuned) return NULL;
    check(tuned, lite.prepare_v2(tuned->file, sql, -1, &query, NULL));
    for (int i = 0; query && i < values; i++)
        lite.bind_text(query, i + 1, value[i], -1, SQLITE_STATIC);
    return query;
}

// The next row; the query ends with the last one.
static bool next(Tuned *tuned, sqlite3_stmt *query) {
    int status = query ? lite.step(query) : SQLITE_DONE;
    if (status == SQLITE_ROW) return true;
    check(tuned, status);
    lite.finalize(query);
    return false;
}

static int prepare(Tuned *tuned) {
    static const char table[] =
        "create table tuned(kernel text, place text, name text, schedule text, compiler text,"
        " heuristic real, best real, spent real, complete int, trials text,"
        " primary key(kernel, place)); pragma user_version = 1";
    int found = -1;
    sqlite3_stmt *version = query(tuned, "pragma user_version", 0, NULL);
    while (next(tuned, version)) found = lite.column_int(version, 0);
    if (found == 0) check(tuned, lite.exec(tuned->file, table, NULL, NULL, NULL));
    if (found > 0 && found != VERSION) return warn(tuned, "written by another version of picograd");
    return found < 0 ? -1 : 0;
}

// Only data is taken from the file: no triggers, views or functions that somebody put there.
static int open_file(Tuned *tuned, bool make) {
    int flags = SQLITE_OPEN_READWRITE | (make ? SQLITE_OPEN_CREATE : 0);
    if (lite.open_v2(tuned->path, &tuned->file, flags, NULL))
        return warn(tuned, lite.errmsg(tuned->file));
    lite.busy_timeout(tuned->file, BUSY_MS);
    lite.limit(tuned->file, SQLITE_LIMIT_LENGTH, TEXT_MAX);
    lite.db_config(tuned->file, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    lite.db_config(tuned->file, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    lite.db_config(tuned->file, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    return prepare(tuned);
}

Tuned *tuned_open(Arena *arena, bool make) {
    Tuned *tuned = arena_object(arena, Tuned);
    *tuned = (Tuned){.arena = arena, .path = database_path(arena)};
    if (!find_library_once()) {
        if (make) warn(tuned, "libsqlite3.so.0 is not there");
        return NULL;
    }
    for (int attempt = 0; tuned->path && attempt < 2; attempt++) {
        struct stat facts;
        bool there = !lstat(tuned->path, &facts);
        if (!there && !make) return NULL;
        if (there && (!S_ISREG(facts.st_mode) || facts.st_uid != geteuid())) {
            warn(tuned, "no file of this user's");
            return NULL;
        }
        if (!open_file(tuned, make)) return tuned;
        tuned_close(tuned);
    }
    return NULL;
}

void tuned_close(Tuned *tuned) {
    if (tuned) lite.close(tuned->file);
}

static const char *column_text(const Tuned *tuned, sqlite3_stmt *row, int column) {
    const char *text = (const char *)lite.column_text(row, column);
    return arena_text(tuned->arena, text ? text : "");
}

static const char *hash_text(Arena *arena, const char *text) {
    return arena_print(arena, "%016lx", hash_bytes(text, strlen(text), 0));
}

bool tuned_find(Tuned *tuned, const TunedKey *key, TunedResult *result) {
    *result = (TunedResult){0};
    if (!tuned) return false;
    const char *value[] = {hash_text(tuned->arena, key->kernel),
                           hash_text(tuned->arena, key->place)};
    sqlite3_stmt *row =
        query(tuned,
              "select schedule, compiler, heuristic, best, spent, complete, trials from tuned"
              " where kernel = ? and place = ?",
              COUNT_OF(value), value);
    while (next(tuned, row))
        *result = (TunedResult){
            column_text(tuned, row, 0), column_text(tuned, row, 1), column_text(tuned, row, 6),
            lite.column_double(row, 2), lite.column_double(row, 3), lite.column_double(row, 4),
            lite.column_int(row, 5),
        };
    return result->schedule;
}

void tuned_keep(Tuned *tuned, const TunedKey *key, const TunedResult *result) {
    if (!tuned) return;
    const char *value[] = {hash_text(tuned->arena, key->kernel),
                           hash_text(tuned->arena, key->place),
                           key->name,
                           result->schedule,
                           result->compiler,
                           arena_print(tuned->arena, "%.9g", result->heuristic),
                           arena_print(tuned->arena, "%.9g", result->best),
                           arena_print(tuned->arena, "%.9g", result->spent),
                           result->complete ? "1" : "0",
                           result->trials};
    next(tuned, query(tuned, "insert or replace into tuned values(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                      COUNT_OF(value), value));
}

int64_t tuned_count(void) {
    Arena *arena = arena_new();
    Tuned *tuned = tuned_open(arena, false);
    int64_t count = tuned ? 0 : -1;
    sqlite3_stmt *row = query(tuned, "select count(*) from tuned where name is not null", 0, NULL);
    while (next(tuned, row)) count = lite.column_int64(row, 0);
    tuned_close(tuned);
    arena_free(arena);
    return count;
}
#else
Tuned *tuned_open(Arena *arena, bool make) {
    static atomic_bool warned;
    (void)arena;
    if (make && !atomic_exchange(&warned, true))
        say("tuned schedules are not kept: built without libsqlite3 (Debian's libsqlite3-dev)");
    return NULL;
}
void tuned_close(Tuned *tuned) { (void)tuned; }
bool tuned_find(Tuned *tuned, const TunedKey *key, TunedResult *result) {
    (void)tuned, (void)key;
    *result = (TunedResult){0};
    return false;
}
void tuned_keep(Tuned *tuned, const TunedKey *key, const TunedResult *result) {
    (void)tuned, (void)key, (void)result;
}
int64_t tuned_count(void) { return -1; }
#endif
