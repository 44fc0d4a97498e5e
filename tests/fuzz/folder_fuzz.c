/* folder_fuzz.c - bytes as the JSON files of a Hugging Face folder, with the weights of a small
 * model: config.json, tokenizer.json, tokenizer_config.json and the index of the weights' files,
 * joined by lines `---`. The first byte chooses the weights. What opens is used: a token is run, a
 * text encoded. An index that is not empty takes the place of the single file. */
#define _GNU_SOURCE  // mkdtemp
#include "fuzz/fuzz.h"
#include "models/models.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const models[] = {"llama", "mistral", "qwen2-window"};
enum { MODELS = COUNT_OF(models), FILES = 4 };
static const char *const files[FILES] = {"config.json", "tokenizer.json", "tokenizer_config.json",
                                         "model.safetensors.index.json"};
static const char *const weights[] = {"model.safetensors", "model-00001-of-00001.safetensors"};

static char folders[MODELS][2][40];  // of each model: with the file, with the index

static void end(void) {
    char path[PATH_MAX];
    for (int model = 0; model < MODELS; model++)
        for (int index = 0; index < 2; index++) {
            for (int i = 0; i < FILES + 1; i++) {
                const char *name = i < FILES ? files[i] : weights[index];
                snprintf(path, sizeof path, "%s/%s", folders[model][index], name);
                unlink(path);
            }
            rmdir(folders[model][index]);
        }
}

static void begin(void) {
    char from[PATH_MAX], to[PATH_MAX], real[PATH_MAX];
    if (folders[0][0][0]) return;
    for (int model = 0; model < MODELS; model++)
        for (int index = 0; index < 2; index++) {
            char *folder = folders[model][index];
            snprintf(folder, sizeof folders[0][0], "/tmp/picograd-fuzz-XXXXXX");
            snprintf(from, sizeof from, "tests/models/small/%s/%s", models[model], weights[0]);
            fuzz_check(mkdtemp(folder) && realpath(from, real), "run this from the top folder");
            snprintf(to, sizeof to, "%s/%s", folder, weights[index]);
            fuzz_check(!symlink(real, to), "no link to the weights");
        }
    atexit(end);
}

// Where there is nothing to write there is no such file.
static void put(const char *folder, const char *name, const char *text, size_t length) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path);
    if (!length) return;
    FILE *file = fopen(path, "wb");
    fuzz_check(file && fwrite(text, 1, length, file) == length && !fclose(file), "a file");
}

static void use(const Gguf *gguf) {
    static const char text[] = "Hello  12\n<|im_end|>\xc3\xa9\xff";
    Arena *arena = arena_new();
    IdList ids = {0};
    Llama *llama = llama_open(gguf, 4, 1);
    if (!llama) fuzz_refused("/tmp/picograd-fuzz-");
    if (llama)
        fuzz_check(!llama_forward(llama, (int32_t[]){0}, 1, NULL, NULL), "a token is not run");
    llama_close(llama);
    Tokenizer *tokenizer = tokenizer_open(gguf);
    if (!tokenizer) fuzz_refused("/tmp/picograd-fuzz-");
    if (tokenizer) {
        Template *template = template_open(arena, gguf, tokenizer, NULL);
        if (!template) fuzz_refused("");
        int flags = TOKENIZE_BOS | TOKENIZE_SPECIAL;
        int status = tokenizer_encode(tokenizer, arena, text, sizeof text - 1, flags, &ids);
        for (int32_t i = 0; !status && i < ids.count; i++)
            fuzz_check(ids.at[i] >= 0 && ids.at[i] < tokenizer_count(tokenizer), "an id");
    }
    tokenizer_close(tokenizer);
    arena_free(arena);
}

void fuzz_one(const uint8_t *data, size_t size) {
    begin();
    if (!size) return;
    Arena *arena = arena_new();
    const char *at = fuzz_text(arena, data + 1, size - 1), *limit = at + size - 1;
    const char *part[FILES] = {0};
    size_t length[FILES] = {0};
    for (int i = 0; i < FILES && at < limit; i++) {
        const char *line = memmem(at, (size_t)(limit - at), "\n---\n", 5);
        part[i] = at;
        length[i] = (size_t)((line ? line : limit) - at);
        at = line ? line + 5 : limit;
    }
    const char *folder = folders[data[0] % MODELS][length[FILES - 1] > 0];
    for (int i = 0; i < FILES; i++) put(folder, files[i], part[i], length[i]);
    Gguf *gguf = gguf_open(folder);
    if (!gguf) fuzz_refused("");
    if (gguf) use(gguf);
    gguf_close(gguf);
    arena_free(arena);
}
