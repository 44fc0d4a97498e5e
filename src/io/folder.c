/* folder.c - a model as Hugging Face's libraries keep it: a folder of JSON and safetensors files.
 * In: a folder's path.  Out: a Gguf: the same keys and the same tensor names as a converted file.
 * Invariant: a Gguf made here holds nothing that a GGUF file could not, and is checked by the same
 * code; files outside the folder are not read, and no pickle is opened. The rows of attn_q and
 * attn_k keep the folder's order: a rotation's two numbers lie half a head apart.
 *   {"num_hidden_layers": 30}, model.layers.0.self_attn.q_proj.weight
 *      =>   llama.block_count = 30, blk.0.attn_q.weight                                          */
#include "io/io.h"

#include <string.h>
#include <sys/stat.h>

const char *folder_path(const Folder *folder, const char *name) {
    return arena_print(folder->arena, "%s/%s", folder->path, name);
}

bool folder_has(const Folder *folder, const char *name) {
    struct stat facts;
    return stat(folder_path(folder, name), &facts) == 0;
}

// Takes the writer over.
static Gguf *make(Folder *folder) {
    Gguf *gguf = gguf_of_folder(folder->path, folder->writer);
    folder->writer = NULL;
    if (!gguf) return NULL;
    int status = folder_add_weights(folder, gguf);
    if (!status && folder->factors)
        status = gguf_add_values(gguf, "rope_freqs.weight", folder->factors, folder->factor_count);
    if (!status) return gguf;
    gguf_close(gguf);
    return NULL;
}

static int read_all(Folder *folder) {
    if (folder_map_weights(folder)) return -1;
    folder->vocabulary = folder_vocabulary(folder);
    if (folder->vocabulary < 0) return -1;
    return folder_read_config(folder) || folder_read_tokenizer(folder) ? -1 : 0;
}

static Gguf *open_folder(Folder *folder) {
    if (!folder_has(folder, "config.json")) {
        fail("%s: a folder without a config.json is no model", folder->path);
        return NULL;
    }
    Json *config = json_open(folder_path(folder, "config.json"));
    folder->config = config;
    Gguf *gguf = config && !read_all(folder) ? make(folder) : NULL;
    json_close(config);
    return gguf;
}

Gguf *folder_open(const char *path) {
    Arena *arena = arena_new();
    Folder folder = {.arena = arena, .writer = gguf_writer_new()};
    char *name = arena_text(arena, path);
    for (size_t end = strlen(name); end > 1 && name[end - 1] == '/'; end--) name[end - 1] = 0;
    folder.path = name;
    Gguf *gguf = open_folder(&folder);
    for (int i = 0; i < folder.files.count; i++) file_unmap(&folder.files.at[i].bytes);
    gguf_writer_free(folder.writer);
    arena_free(arena);
    return gguf;
}
