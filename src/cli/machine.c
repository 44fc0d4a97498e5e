/* machine.c - what the machine offers, as the system tells it.
 * In: /proc, /sys, the C compiler, libcuda where there is one.  Out: a Machine.
 * Invariant: what cannot be found out is 0, NULL or an empty list; nothing is guessed, and nothing
 * needs to be there.                                                                           */
#define _GNU_SOURCE
#include "cli/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

// ---- processors --------------------------------------------------------------------------------
// /proc/cpuinfo has a block of lines a processor, an empty line behind each. NULL after the last.
static const char *next_processor(const char *block) {
    const char *end = strstr(block, "\n\n");
    return end && end[2] ? end + 2 : NULL;
}

// What stands behind the colon of a line that begins with `name`, in a block that ends with a blank
// line.
static TextSpan processor_fact(const char *block, const char *name) {
    size_t length = strlen(name);
    while (block && *block && *block != '\n') {
        size_t line = strcspn(block, "\n"), colon = strcspn(block, ":\n");
        if (!strncmp(block, name, length) && colon < line && strchr("\t :", block[length])) {
            colon += 1 + strspn(block + colon + 1, " ");
            return (TextSpan){block + colon, colon < line ? line - colon : 0};
        }
        block += line + (block[line] == '\n');
    }
    return (TextSpan){"", 0};
}

static int fact_number(const char *block, const char *name) {
    TextSpan text = processor_fact(block, name);
    return text.length ? atoi(text.at) : -1;
}

// Threads of one core have its number, within a socket.
static void count_cores(Machine *machine, Arena *arena, const char *facts) {
    typedef struct {
        int socket, core;
    } Core;
    LIST(Core) seen = {0};
    for (const char *block = facts; block; block = next_processor(block)) {
        Core core = {fact_number(block, "physical id"), fact_number(block, "core id")};
        bool known = core.core < 0, new_socket = !known;
        for (int32_t i = 0; i < seen.count; i++) {
            known |= seen.at[i].socket == core.socket && seen.at[i].core == core.core;
            new_socket &= seen.at[i].socket != core.socket;
        }
        if (!known) *list_add(arena, &seen) = core;
        machine->sockets += new_socket;
    }
    machine->cores = seen.count;
}

static bool has_word(TextSpan text, const char *word) {
    const char *end = text.at + text.length;
    for (const char *at = text.at; at < end;) {
        size_t length = strcspn(at, " \n");
        if (strlen(word) == length && !strncmp(at, word, length)) return true;
        at += length + 1;
    }
    return false;
}

static void ask_target(void *context) { *(const Target **)context = target(); }

// What a run would take, asked of who takes it.
static void find_isas(Machine *machine, Arena *arena) {
    static const char *const names[] = {"c", "avx2", "avx512"};
    const char *chosen = getenv("PG_ISA");
    const char *before = chosen ? arena_text(arena, chosen) : NULL;
    machine->isa = target()->name;
    unsetenv("PG_ISA");
    bool tiles = target()->amx;
    for (int i = 0; i < COUNT_OF(names); i++) {
        const Target *found;
        setenv("PG_ISA", names[i], true);
        if (try_call(ask_target, &found) == 0) *list_add(arena, &machine->isas) = names[i];
    }
    if (tiles) *list_add(arena, &machine->isas) = "amx_bf16";
    before ? setenv("PG_ISA", before, true) : unsetenv("PG_ISA");
}

static void find_processors(Machine *machine, Arena *arena) {
    // As Linux names them; each could make products of small types faster.
    static const char *const unused[] = {"avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16",
                                         "amx_int8", "amx_fp16",    "amx_bf16"};
    cpu_set_t set;
    machine->cpu = cpu_name(arena);
    machine->usable = sched_getaffinity(0, sizeof set, &set) ? 0 : CPU_COUNT(&set);
    machine->online = (int)sysconf(_SC_NPROCESSORS_ONLN);
    machine->threads = thread_count();
    find_isas(machine, arena);
    const char *facts = file_read(arena, "/proc/cpuinfo", NULL);
    if (!facts) return;
    count_cores(machine, arena, facts);
    TextSpan flags = processor_fact(facts, "flags");
    const char *last = machine->isas.at[machine->isas.count - 1];  // perhaps amx_bf16
    for (int i = 0; i < COUNT_OF(unused); i++)
        if (has_word(flags, unused[i]) && strcmp(unused[i], last) != 0)
            *list_add(arena, &machine->unused) = unused[i];
}

// "0-3,8" names 5.
static int count_listed(const char *list) {
    int count = 0;
    while (*list >= '0' && *list <= '9') {
        char *end;
        long first = strtol(list, &end, 10), last = *end == '-' ? strtol(end + 1, &end, 10) : first;
        count += (int)(last - first + 1);
        list = end + (*end == ',');
    }
    return count;
}

void machine_caches(Arena *arena, Caches *caches) {
    for (int i = 0;; i++) {
        const char *folder = arena_print(arena, "/sys/devices/system/cpu/cpu0/cache/index%d", i);
        char *level = file_read(arena, arena_print(arena, "%s/level", folder), NULL);
        char *type = file_read(arena, arena_print(arena, "%s/type", folder), NULL);
        char *size = file_read(arena, arena_print(arena, "%s/size", folder), NULL);
        char *list = file_read(arena, arena_print(arena, "%s/shared_cpu_list", folder), NULL);
        if (!level || !type || !size || !list) return;
        bool for_code = !strncmp(type, "Instruction", 11), for_data = !strncmp(type, "Data", 4);
        *list_add(arena, caches) = (Cache){
            .name = arena_print(arena, "L%d%s", atoi(level),
                                for_code   ? "i"
                                : for_data ? "d"
                                           : ""),
            .bytes = (int64_t)atoi(size) << (strchr(size, 'M') ? 20 : 10),
            .threads = count_listed(list),
        };
    }
}

// ---- memory ------------------------------------------------------------------------------------
static int64_t memory_fact(const char *facts, const char *name) {
    const char *at = facts ? strstr(facts, name) : NULL;
    return at ? 1024 * (int64_t)strtoll(at + strlen(name), NULL, 10) : 0;
}

static void find_memory(Machine *machine, Arena *arena) {
    const char *facts = file_read(arena, "/proc/meminfo", NULL);
    machine->memory = memory_fact(facts, "MemTotal:");
    machine->available = memory_fact(facts, "MemAvailable:");
    const char *limit = file_read(arena, "/sys/fs/cgroup/memory.max", NULL);
    machine->memory_limit = limit ? strtoll(limit, NULL, 10) : 0;  // "max": 0
}

// ---- the compiler ------------------------------------------------------------------------------
// The first line that a program prints within ten seconds; NULL if there is none.
static const char *first_line(Arena *arena, char *const *command) {
    enum { PATIENCE = 10000 };  // milliseconds
    char line[256];
    int pipes[2];
    pid_t process;
    size_t count = 0;
    if (pipe2(pipes, O_CLOEXEC)) return NULL;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, pipes[1], 1);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    int error = posix_spawn(&process, command[0], &actions, NULL, command, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(pipes[1]);
    struct pollfd wait = {.fd = pipes[0], .events = POLLIN};
    while (!error && count < sizeof line && poll(&wait, 1, PATIENCE) == 1) {
        ssize_t got = read(pipes[0], line + count, sizeof line - count);
        if (got <= 0 || memchr(line + count, '\n', (size_t)got)) {
            count += (size_t)max_i64(got, 0);
            break;
        }
        count += (size_t)got;
    }
    close(pipes[0]);
    if (!error) kill(process, SIGKILL), waitpid(process, NULL, 0);
    const char *end = memchr(line, '\n', count);
    return end ? arena_print(arena, "%.*s", (int)(end - line), line) : NULL;
}

static void find_compiler(Machine *machine, Arena *arena) {
    char *path = compiler_path(arena);
    if (!path) return;
    machine->compiler = path;
    machine->compiler_version = first_line(arena, (char *[]){path, "--version", NULL});
}

// ---- CUDA --------------------------------------------------------------------------------------
static void find_gpus(Machine *machine, Arena *arena) {
    int count = cuda_devices();
    CudaInfo info;
    if (!count) machine->cuda = "the NVIDIA driver has no device";
    for (int i = 0; i < count && !cuda_info(i, &info); i++) {
        *list_add(arena, &machine->gpus) = info;
        machine->cuda_version = info.version;
    }
    if (machine->gpus.count && !nvrtc_available())
        machine->no_nvrtc = arena_text(arena, error_text());
    if (count && !machine->gpus.count) {
        const char *hint = strstr(error_text(), ". Hint: ");
        int length = hint ? (int)(hint - error_text()) : ERROR_SIZE;
        machine->cuda = arena_print(arena, "%.*s", length, error_text());
    }
}

const Machine *machine_facts(Arena *arena) {
    Machine *machine = arena_object(arena, Machine);
    Energy energy;
    find_processors(machine, arena);
    machine_caches(arena, &machine->caches);
    find_memory(machine, arena);
    find_compiler(machine, arena);
    if (energy_start(&energy, NULL) < 0) machine->no_energy = arena_text(arena, error_text());
    find_gpus(machine, arena);
    return machine;
}
