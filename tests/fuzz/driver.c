/* driver.c - runs a fuzz target where there is no libFuzzer: seeded changes of given files.
 * In: folders and files of inputs; of libFuzzer's options -runs=N, -max_total_time=SECONDS,
 * -timeout=SECONDS, -seed=N, -artifact_prefix=PATH; others are passed over. Without -runs and
 * -max_total_time each input is run once, as it is.
 * Out: exit status 0, or the signal that an input ended with, which is kept as PREFIXcrash. Knows
 * nothing of coverage: it makes up numbers and joins inputs, and finds less than libFuzzer.      */
#include "fuzz/fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { INPUT_MAX = 1 << 16 };

typedef struct {
    uint8_t *at;
    size_t size;
} Input;

static struct {
    int64_t runs, seconds, timeout;
    const char *prefix;
    uint64_t random;
    Arena *arena;
    LIST(Input) inputs;
    int64_t done;
} driver = {.timeout = 10, .prefix = "", .random = 1};

static Input current;  // for on_signal

static void on_signal(int number) {
    char path[512];
    if (snprintf(path, sizeof path, "%scrash", driver.prefix) < (int)sizeof path) {
        int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        ssize_t written = write(file, current.at, current.size);
        (void)written;
    }
    static const char said[] = "fuzz: ended by a signal; the input is kept as crash\n";
    ssize_t written = write(STDERR_FILENO, said, sizeof said - 1);
    (void)written;
    signal(number, SIG_DFL);
    raise(number);
}

static uint64_t below(uint64_t count) {  // S. Vigna's splitmix64
    driver.random += 0x9e3779b97f4a7c15;
    uint64_t z = driver.random;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (z ^ z >> 31) % count;
}

// In a buffer of its very size, so that the sanitizers see one byte too many.
static void run(const uint8_t *data, size_t size) {
    current = (Input){malloc(size ? size : 1), size};
    if (size) memcpy(current.at, data, size);
    alarm((unsigned)driver.timeout);
    LLVMFuzzerTestOneInput(current.at, size);
    alarm(0);
    free(current.at);
    driver.done++;
}

static void add_file(const char *path) {
    FileBytes bytes;
    if (file_map(path, &bytes)) {
        *list_add(driver.arena, &driver.inputs) = (Input){arena_alloc(driver.arena, 1), 0};
        return;
    }
    *list_add(driver.arena, &driver.inputs) =
        (Input){arena_copy(driver.arena, bytes.at, bytes.size), bytes.size};
    file_unmap(&bytes);
}

static int by_name(const void *left, const void *right) {
    return strcmp(*(char *const *)left, *(char *const *)right);
}

static void add_folder(const char *path) {
    LIST(char *) names = {0};
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder && (entry = readdir(folder));)
        if (entry->d_name[0] != '.')
            *list_add(driver.arena, &names) =
                arena_print(driver.arena, "%s/%s", path, entry->d_name);
    if (folder) closedir(folder);
    if (names.count) qsort(names.at, (size_t)names.count, sizeof *names.at, by_name);
    for (int i = 0; i < names.count; i++) add_file(names.at[i]);
}

static bool take_number(const char *argument, const char *name, int64_t *value) {
    size_t length = strlen(name);
    if (strncmp(argument, name, length) != 0) return false;
    *value = strtoll(argument + length, NULL, 10);
    return true;
}

static void take_argument(const char *argument) {
    static const char prefix[] = "-artifact_prefix=";
    struct stat facts;
    int64_t seed;
    if (take_number(argument, "-runs=", &driver.runs)) return;
    if (take_number(argument, "-max_total_time=", &driver.seconds)) return;
    if (take_number(argument, "-timeout=", &driver.timeout)) return;
    if (take_number(argument, "-seed=", &seed)) driver.random = (uint64_t)seed;
    if (!strncmp(argument, prefix, sizeof prefix - 1)) driver.prefix = argument + sizeof prefix - 1;
    if (argument[0] == '-') return;
    bool folder = !stat(argument, &facts) && S_ISDIR(facts.st_mode);
    folder ? add_folder(argument) : add_file(argument);
}

static const uint64_t extremes[] = {
    0,          1,          127,       128,        255,        256,        INT32_MAX,  1u << 31,
    UINT32_MAX, 1ull << 32, INT64_MAX, 1ull << 63, 1ull << 61, UINT64_MAX, 0x7f800000, 0x7fc00000u,
};

static void set_number(uint8_t *at, size_t size) {
    uint64_t value = below(2) ? extremes[below(COUNT_OF(extremes))] : below(64);
    size_t bytes = (size_t)1 << below(4), place = below(size);
    if (bytes > size - place) bytes = size - place;
    memcpy(at + place, &value, bytes);
}

// Puts a piece of another input in the place of a piece of this one.
static size_t join(uint8_t *at, size_t size) {
    const Input *other = &driver.inputs.at[below((uint64_t)driver.inputs.count)];
    if (!other->size) return size;
    size_t from = below(other->size), count = 1 + below(other->size - from);
    size_t place = below(size + 1), gone = below(2) ? 0 : below(size - place + 1);
    if (below(4)) count = 1 + (count - 1) % 16, gone = gone ? 1 + (gone - 1) % 16 : 0;
    if (size - gone + count > INPUT_MAX) return size;
    memmove(at + place + count, at + place + gone, size - place - gone);
    memcpy(at + place, other->at + from, count);
    return size - gone + count;
}

static void run_changed(void) {
    static uint8_t bytes[INPUT_MAX];
    const Input *input = &driver.inputs.at[below((uint64_t)driver.inputs.count)];
    size_t size = input->size < INPUT_MAX ? input->size : INPUT_MAX;
    memcpy(bytes, input->at, size);
    for (uint64_t changes = 1 + below(4); changes > 0; changes--) {
        uint64_t kind = size ? below(8) : 7;
        if (kind < 2) bytes[below(size)] ^= (uint8_t)(1 << below(8));
        if (kind == 2) bytes[below(size)] = (uint8_t)below(256);
        if (kind > 2 && kind < 6) set_number(bytes, size);
        if (kind == 6 && !below(4)) size = below(size + 1);
        if (kind == 7) size = join(bytes, size);
    }
    run(bytes, size);
}

int main(int count, char **arguments) {
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGALRM};
    driver.arena = arena_new();
    LLVMFuzzerInitialize(&count, &arguments);
    for (int i = 1; i < count; i++) take_argument(arguments[i]);
    for (int i = 0; i < COUNT_OF(signals); i++) signal(signals[i], on_signal);
    double end = clock_seconds() + (double)driver.seconds;
    for (int i = 0; i < driver.inputs.count; i++)
        run(driver.inputs.at[i].at, driver.inputs.at[i].size);
    while (driver.inputs.count && (driver.done < driver.runs || clock_seconds() < end))
        run_changed();
    printf("Done %lld runs\n", (long long)driver.done);
    arena_free(driver.arena);
    return 0;
}
