/* base.h - what every layer stands on: memory, containers, text, errors, switches, threads, time.
 * Includes nothing of picograd's. Three lifetimes exist: an arena's, a reference count's, the
 * process's. */
#ifndef PICOGRAD_BASE_H
#define PICOGRAD_BASE_H
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define COUNT_OF(array)     ((int)(sizeof(array) / sizeof((array)[0])))
#define PRINTF(text, first) __attribute__((format(printf, text, first)))

static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t round_up(int64_t value, int64_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

// arena.c: many allocations, one free. PG_HOSTILE=1 gives every object its own chunk, so that
// sanitizers see an overrun or a use after reset.
typedef struct Arena Arena;
Arena *arena_new(void);
void arena_free(Arena *arena);           // NULL is allowed
void arena_reset(Arena *arena);          // frees every object, keeps a chunk for the next round
size_t arena_bytes(const Arena *arena);  // handed out since the last reset
// Zeroed, 64-byte aligned if it is 64 bytes or more, else 16; never NULL.
void *arena_alloc(Arena *arena, size_t bytes);
void *arena_array_bytes(Arena *arena, size_t count, size_t size);  // overflow-checked
#define arena_array(arena, type, count) \
    ((type *)arena_array_bytes(arena, (size_t)(count), sizeof(type)))
#define arena_object(arena, type) ((type *)arena_alloc(arena, sizeof(type)))
void *arena_copy(Arena *arena, const void *bytes, size_t count);
char *arena_text(Arena *arena, const char *text);
char *arena_print(Arena *arena, const char *format, ...) PRINTF(2, 3);

// A growable array in an arena:   LIST(int) ids = {0};  *list_add(arena, &ids) = 7;  ids.at[0]
// Pointers into `at` die at the next list_add; ids do not.
#define LIST(type)               \
    struct {                     \
        type *at;                \
        int32_t count, capacity; \
    }
#define list_add(arena, list)                                                                \
    ((list)->at =                                                                            \
         list_grow(arena, (list)->at, (list)->count, &(list)->capacity, sizeof *(list)->at), \
     &(list)->at[(list)->count++])
void *list_grow(Arena *arena, void *at, int32_t count, int32_t *capacity, size_t size);
typedef LIST(int32_t) IdList;  // node ids, token ids

// map.c: from a 64-bit key, mostly a hash, to int32 values of 0 or more. Whoever needs exact keys
// compares what the values name.
typedef struct Map Map;
typedef bool MapSame(const void *context, int32_t value);
Map *map_new(Arena *arena);
// The first value added under `key` for which same(context, value) holds (NULL: any); -1 if none.
int32_t map_find(const Map *map, uint64_t key, MapSame *same, const void *context);
void map_add(Arena *arena, Map *map, uint64_t key, int32_t value);    // whether or not it is there
uint64_t hash_bytes(const void *bytes, size_t count, uint64_t seed);  // equal on every machine

// text.c: a string under construction, in an arena; always in the C locale.
typedef struct {
    Arena *arena;
    char *at;  // always terminated
    size_t count, capacity;
} Text;
Text text_new(Arena *arena);
void text_add(Text *text, const char *format, ...) PRINTF(2, 3);
void text_add_list(Text *text, const char *format, va_list arguments) PRINTF(2, 0);
void text_add_bytes(Text *text, const char *bytes, size_t count);

// A reader of text that knows its position, for messages: what the parsers of both dialects and of
// rules are made with. `text` stays the caller's and is not copied.
typedef struct {
    const char *name, *start, *at, *end;  // name: what is read, for messages
    int open;                             // brackets of reader_open not closed yet
} Reader;
Reader reader_new(const char *name, const char *text);
void reader_skip(Reader *reader);                    // blanks, newlines, `# comments`
bool reader_take(Reader *reader, const char *word);  // skips, takes `word` if next and whole
bool reader_peek(Reader *reader, const char *word);
void reader_expect(Reader *reader, const char *word);  // fatal, with its place, if not next
// As taking "(" and expecting ")", for parsers that recurse: fatal before the stack overflows.
bool reader_open(Reader *reader);
void reader_close(Reader *reader);
// [A-Za-z_][A-Za-z0-9_]*, dots inside: `pack.b` is a name, of `i..n` only i. NULL if none is next.
const char *reader_name(Reader *reader, Arena *arena);
bool reader_int(Reader *reader, int64_t *value);    // 12 or -12, and not 1.5, 1e3, 0x1
bool reader_number(Reader *reader, double *value);  // also 0x1p-3, inf, -inf, nan
_Noreturn void reader_fatal(const Reader *reader, const char *format, ...) PRINTF(2, 3);

// error.c: misuse stops the calling thread (to try_call, else by exit 1); a refusal of the outside
// world returns -1.
enum { ERROR_SIZE = 2048 };             // a message with its final zero; longer ones are cut
void here(const char *file, int line);  // the user's call site, for this thread's next fatal
_Noreturn void fatal(const char *format, ...) PRINTF(1, 2);
_Noreturn void fatal_again(const char *message);  // on with what try_call caught, after clean-up
// Keeps the message for this thread, control characters as '?': one line. Always -1.
int fail(const char *format, ...) PRINTF(1, 2);
const char *error_text(void);  // the last message of this thread, "" if none
// Runs function(argument); -1 if it was stopped by fatal (the message is in error_text). Nests.
int try_call(void (*function)(void *), void *argument);
// The same for what may well be refused: the user's call has no part in it, and keeps its site.
int try_privately(void (*function)(void *), void *argument);
void fatal_hook(void (*hook)(const char *message));  // called before a fatal ends the process
void say(const char *format, ...) PRINTF(1, 2);      // a line on standard error: "picograd: ..."

// env.c: switches from the environment, PG_ prefix left out: env_int("DEBUG", 0) reads PG_DEBUG.
const char *env_text(const char *name, const char *fallback);
int64_t env_int(const char *name, int64_t fallback);  // a value that is not an integer is fatal
bool hostile(void);  // PG_HOSTILE=1: containers behave as badly as their contracts allow

// clock.c
double clock_seconds(void);  // monotonic

// thread.c: a pool of threads that run one function together; a barrier that spins, yields, sleeps.
typedef struct Barrier Barrier;
typedef void ThreadBody(void *context, int thread, int threads, Barrier *barrier);
int thread_count(void);              // PG_THREADS, else the cores this process may use
void thread_set_count(int threads);  // 1 to 256; takes effect at the next thread_run
// The caller is thread 0; returns when all are done. A fatal on any thread ends the others at their
// next barrier and is raised on the caller. Inside a body, thread_run runs on that thread alone.
void thread_run(ThreadBody *body, void *context);
void barrier_wait(Barrier *barrier, int thread);  // all writes before it are seen after it
// A Barrier begins with so many counters, int64_t, that are 0 after each barrier: of loops whose
// iterations threads take as they come, how many were taken.
enum { BARRIER_COUNTERS = 8 };
// A thread's part of `count` pieces of work: first <= i < last. Parts differ by one piece at most.
void thread_share(int64_t count, int thread, int threads, int64_t *first, int64_t *last);

// file.c: the outside world, with one clear line when it refuses.
typedef struct {
    const uint8_t *at;
    size_t size;
    bool mapped;
} FileBytes;
int file_map(const char *path, FileBytes *out);  // read-only; -1 if missing, empty or a folder
void file_unmap(FileBytes *bytes);
// Pages there that are a mapped file's leave the process until they are read again; the system may
// keep them, as it keeps files. Other memory stays as it is.
void file_pages_drop(const void *at, size_t size);
// A text of 64 MB at most; path NULL: standard input. NULL with a message; a zero byte follows the
// `*size` bytes (size may be NULL).
char *file_read(Arena *arena, const char *path, size_t *size);
// Writes a temporary file in the same folder, then renames it: a reader sees the old file or the
// whole new one.
int file_write(const char *path, const void *bytes, size_t size);
int folder_make(const char *path);  // like mkdir -p, mode 0700
// PG_CACHE, else $XDG_CACHE_HOME/picograd, else ~/.cache/picograd. Made if missing; NULL with a
// message if it cannot be, or if others could write in it (code is loaded from it).
const char *cache_folder(Arena *arena);
#endif
