/* cuts_test.c - small valid files, cut at every byte, and with every byte changed: each bit of it
 * flipped, or all zeros, or all ones. Whatever comes of it is read or refused: no signal, no fatal,
 * no change takes ten seconds of the processor or more memory than a floor plus twice the file.
 * A child process reads them one after the other with its address space limited, so that what goes
 * beyond is refused by the system and seen as a fatal; it says in shared memory which it is at.
 * Under the sanitizers memory is not watched, since theirs cannot be limited so, and every seventh
 * byte has to do. */
#define _GNU_SOURCE  // MAP_ANONYMOUS
#include "fuzz/small_files.h"
#include "models/models.h"
#include "picograd.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__has_feature)  // clang's way to say it
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

enum { SECONDS = 10, MB = 1 << 20 };

typedef struct {
    FileBytes file;
    void (*read)(const uint8_t *bytes, size_t size);
    size_t floor;  // bytes of memory beside twice the file
    size_t dense;  // bytes at the start of which each is cut at and changed; 0: all of them
} Subject;

// What the child is at: `size` bytes of the file, byte `at` of them set to `value`.
typedef struct {
    size_t size, at;
    int value;
    int64_t done;
    char message[200];
} Place;

static Place *place;

static void child_fatal(const char *message) {
    snprintf(place->message, sizeof place->message, "fatal: %s", message);
    _exit(3);
}

// In a buffer of its very size, so that the sanitizers see one byte too many.
static void read_changed(const Subject *subject, size_t size, size_t at, int value) {
    place->size = size;
    place->at = at;
    place->value = value;
    uint8_t *exact = malloc(size ? size : 1);
    if (size) memcpy(exact, subject->file.at, size);
    if (at < size) exact[at] = (uint8_t)value;
    setitimer(ITIMER_PROF, &(struct itimerval){.it_value.tv_sec = SECONDS}, NULL);
    subject->read(exact, size);
    free(exact);
    place->done++;
}

static void limit_memory(size_t extra) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%ld", &pages) != 1) child_fatal("no /proc/self/statm");
    fclose(file);
    rlim_t bytes = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + extra;
    setrlimit(RLIMIT_AS, &(struct rlimit){bytes, bytes});
}

// Behind the dense part, values that are all of a kind.
static size_t step_at(const Subject *subject, size_t at) {
    return subject->dense && at >= subject->dense ? 97 : SANITIZED ? 7 : 1;
}

_Noreturn static void run_child(const Subject *subject) {
    size_t size = subject->file.size;
    fatal_hook(child_fatal);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    read_changed(subject, size, size, 0);
    if (!SANITIZED) limit_memory(subject->floor + 2 * size);
    for (size_t at = 0; at < size; at += step_at(subject, at)) {
        int byte = subject->file.at[at];
        read_changed(subject, at, at, 0);
        for (int bit = 0; bit < 8; bit++) read_changed(subject, size, at, byte ^ 1 << bit);
        read_changed(subject, size, at, 0);
        read_changed(subject, size, at, 0xff);
    }
    _exit(0);
}

static void check_subject(Subject subject) {
    thread_set_count(1);  // before the fork: a child has none of its parent's threads
    pg_set_mode(PG_EAGER);
    place = mmap(NULL, sizeof *place, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(place != MAP_FAILED);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) run_child(&subject);
    int status = 0;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    if (status)
        fatal("%zu of %zu bytes, byte %zu set to %d: %s %d %s", place->size, subject.file.size,
              place->at, place->value, WIFSIGNALED(status) ? "signal" : "status",
              WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), place->message);
    int64_t bytes = 0;
    for (size_t at = 0; at < subject.file.size; at += step_at(&subject, at)) bytes++;
    CHECK_INT(place->done, 1 + 11 * bytes);
    munmap(place, sizeof *place);
}

// ---- GGUF: values, tensors, a tokenizer, a model ------------------------------------------------

static void read_gguf(const uint8_t *bytes, size_t size) {
    Gguf *gguf = gguf_read("cut.gguf", (FileBytes){.at = bytes, .size = size});
    Arena *arena = arena_new();
    Text shown = text_new(arena);
    for (int64_t i = 0; gguf && i < gguf_key_count(gguf); i++)
        gguf_print_value(gguf_key(gguf, i), &shown);
    for (int64_t i = 0; gguf && i < gguf_tensor_count(gguf); i++) {
        const GgufTensor *tensor = gguf_tensor(gguf, i);
        const GgufFormat *format = gguf_format(tensor->type);
        int64_t count = tensor->bytes / format->bytes * format->length;
        gguf_decode(format, tensor->data, arena_array(arena, float, count), count);
    }
    arena_free(arena);
    gguf_close(gguf);
}

static void read_tokenizer(const uint8_t *bytes, size_t size) {
    static const char text[] = "Hello 12 worlds<|im_end|>\xff";
    Gguf *gguf = gguf_read("cut.gguf", (FileBytes){.at = bytes, .size = size});
    Tokenizer *tokenizer = gguf ? tokenizer_open(gguf) : NULL;
    Arena *arena = arena_new();
    IdList ids = {0};
    if (tokenizer)
        tokenizer_encode(tokenizer, arena, text, sizeof text - 1, TOKENIZE_SPECIAL, &ids);
    Text out = text_new(arena);
    if (tokenizer) tokenizer_decode(tokenizer, ids.at, ids.count, &out);
    arena_free(arena);
    tokenizer_close(tokenizer);
    gguf_close(gguf);
}

static void read_model(const uint8_t *bytes, size_t size) {
    float logits[8];
    // What a model keeps lives in the scope around the one that it is opened in.
    pg_scope_begin();
    pg_scope_begin();
    Gguf *gguf = gguf_read("cut.gguf", (FileBytes){.at = bytes, .size = size});
    Llama *llama = gguf ? llama_open(gguf, 4, 1) : NULL;
    if (llama && llama_config(llama)->vocabulary <= COUNT_OF(logits))
        llama_forward(llama, (int32_t[]){0}, 1, logits, NULL);
    if (llama) llama_close(llama);
    pg_scope_end();
    pg_scope_end();
    gguf_close(gguf);
}

static FileBytes model_file(Arena *arena) {
    GgufWriter *writer = gguf_writer_new();
    small_llama(writer, arena, 8);
    return small_gguf(arena, writer);
}

TEST(gguf) {
    Arena *arena = arena_new();
    check_subject((Subject){model_file(arena), read_gguf, 4 * MB, 0});
    arena_free(arena);
}

TEST(tokenizer) {
    Arena *arena = arena_new();
    GgufWriter *writer = gguf_writer_new();
    small_tokenizer(writer, arena, "llama-bpe");
    check_subject((Subject){small_gguf(arena, writer), read_tokenizer, 4 * MB, 0});
    arena_free(arena);
}

// The whole header; of the weights a few, since a step takes milliseconds.
TEST(model) {
    Arena *arena = arena_new();
    FileBytes file = model_file(arena);
    Gguf *gguf = gguf_read("model.gguf", file);
    CHECK(gguf != NULL);
    size_t header = (size_t)(gguf_tensor(gguf, 0)->data - file.at);
    gguf_close(gguf);
    check_subject((Subject){file, read_model, 64 * MB, header});
    arena_free(arena);
}

// ---- safetensors -------------------------------------------------------------------------------

static const char *file_in_memory(const uint8_t *bytes, size_t size) {
    static int file = -1;
    static char path[64];
    if (file < 0) file = memfd_create("cut", MFD_CLOEXEC);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    if (ftruncate(file, 0) || pwrite(file, bytes, size, 0) != (ssize_t)size)
        child_fatal("no file in memory");
    return path;
}

static void read_safetensors(const uint8_t *bytes, size_t size) {
    static const char *const names[] = {"a", "b"};
    const char *path = file_in_memory(bytes, size);
    PgTensor *loaded[2];
    pg_scope_begin();
    for (int count = 1; count <= 2; count++)
        if (!pg_load(path, count, names, loaded)) {
            int64_t values[64];
            size_t bytes_of_a = (size_t)pg_count(loaded[0]) * sizeof *values;
            if (bytes_of_a <= sizeof values)
                pg_to_host(pg_cast(loaded[0], PG_I64), values, bytes_of_a);
        }
    pg_scope_end();
}

TEST(safetensors) {
    Arena *arena = arena_new();
    check_subject((Subject){small_safetensors(arena), read_safetensors, 16 * MB, 0});
    arena_free(arena);
}

// ---- folders -----------------------------------------------------------------------------------

#ifdef PG_HAVE_JANSSON
static const char tokenizer_json[] =
    "{\"added_tokens\": [{\"id\": 5, \"content\": \"</s>\", \"special\": true}],\n"
    " \"normalizer\": null,\n"
    " \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false},\n"
    " \"model\": {\"type\": \"BPE\", \"unk_token\": null, \"byte_fallback\": false,\n"
    "  \"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2, \"\\u0120\": 3, \"\\u0120ab\": 4},\n"
    "  \"merges\": [\"a b\", [\"\\u0120\", \"ab\"]]}}\n";

static char folder[] = "/tmp/picograd-cut-XXXXXX";
static const char *changing;  // the file that is read as `bytes` in the next folder

static const char *in_folder(const char *name) {
    static char path[100];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void put_file(const char *name, const void *bytes, size_t size) {
    FILE *file = fopen(in_folder(name), "wb");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file)) child_fatal("no file");
}

static void read_folder(const uint8_t *bytes, size_t size) {
    put_file(changing, bytes, size);
    pg_scope_begin();
    Gguf *gguf = gguf_open(folder);
    Arena *arena = arena_new();
    IdList ids = {0};
    Tokenizer *tokenizer = gguf ? tokenizer_open(gguf) : NULL;
    if (tokenizer) tokenizer_encode(tokenizer, arena, "ab ab</s>", 9, TOKENIZE_SPECIAL, &ids);
    llama_close(gguf ? llama_open(gguf, 4, 1) : NULL);
    tokenizer_close(tokenizer);
    arena_free(arena);
    pg_scope_end();
    gguf_close(gguf);
}

static FileBytes file_of(Arena *arena, const char *path) {
    size_t size;
    char *bytes = file_read(arena, path, &size);
    if (!bytes) fatal("%s. Hint: run this from the top folder", error_text());
    return (FileBytes){.at = (const uint8_t *)bytes, .size = size};
}

static void check_folder(const char *name) {
    static const char weights[] = "tests/models/small/llama/model.safetensors";
    Arena *arena = arena_new();
    FileBytes config = file_of(arena, "tests/models/small/llama/config.json");
    FileBytes tokenizer = {.at = (const uint8_t *)tokenizer_json, sizeof tokenizer_json - 1};
    FileBytes whole = file_of(arena, weights);
    strcpy(folder, "/tmp/picograd-cut-XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
    put_file("config.json", config.at, config.size);
    put_file("tokenizer.json", tokenizer.at, tokenizer.size);
    put_file("model.safetensors", whole.at, whole.size);
    Gguf *gguf = gguf_open(folder);
    CHECK(gguf != NULL);
    gguf_close(gguf);
    changing = name;
    bool of_tokenizer = !strcmp(name, "tokenizer.json");
    check_subject((Subject){of_tokenizer ? tokenizer : config, read_folder, 16 * MB, 0});
    const char *names[] = {"config.json", "tokenizer.json", "model.safetensors"};
    for (int i = 0; i < COUNT_OF(names); i++) unlink(in_folder(names[i]));
    rmdir(folder);
    arena_free(arena);
}

TEST(config_json) { check_folder("config.json"); }
TEST(tokenizer_json) { check_folder("tokenizer.json"); }
#endif

// ---- saved states ------------------------------------------------------------------------------

static Llama *llama;
static FileBytes state;

// Whole, or nothing has changed.
static void read_state(const uint8_t *bytes, size_t size) {
    Arena *arena = arena_new();
    IdList ids = {0};
    TextSpan extra;
    llama_rewind(llama, 1);
    int status = llama_restore(llama, file_in_memory(bytes, size), arena, &ids, &extra);
    if (llama_position(llama) != (status ? 1 : 3)) child_fatal("the position is another");
    bool whole = size == state.size && !memcmp(bytes, state.at, size);
    if (whole != !status) child_fatal(status ? error_text() : "a damaged state is restored");
    arena_free(arena);
}

TEST(state) {
    static const int32_t ids[] = {1, 2, 3};
    Arena *arena = arena_new();
    thread_set_count(1);
    pg_set_mode(PG_EAGER);
    Gguf *gguf = gguf_read("model.gguf", model_file(arena));
    llama = llama_open(gguf, 4, 1);
    CHECK(llama != NULL);
    CHECK_INT(llama_forward(llama, ids, COUNT_OF(ids), NULL, NULL), 0);
    state = small_state(arena, llama, ids);
    check_subject((Subject){state, read_state, 4 * MB, 0});
    llama_close(llama);
    gguf_close(gguf);
    arena_free(arena);
}
