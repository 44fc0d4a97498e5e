/* convert.c - picograd convert: a model in another type, as one GGUF file.
 * In: a model that gguf_open opens, a type.  Out: a file with its keys and its tensors.
 * Invariant: the file is there whole or not at all; what is quantised already is not quantised
 * again unless that is asked for.
 *   picograd convert model-f16.gguf model-q4_k.gguf --type q4_k                                  */
#include "cli/cli.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

enum { SWAPS_MAX = 8, QUANTIZATION_VERSION = 2 };  // of the blocks' layouts, as ggml counts them

typedef struct {
    const char *in, *out, *type;
    bool force, requantize;
} Wish;

// Tensors that got another type than the one meant for them.
typedef struct {
    int wanted, got, count;
} Swap;

typedef struct {
    const Wish *wish;
    const Gguf *gguf;
    GgufWriter *writer;
    Recipe recipe;
    Swap swap[SWAPS_MAX];
    int swaps;
    int64_t values, bytes;
    double start;
} Conversion;

static bool is_quantised(int type) { return gguf_format(type)->layout.axis[0]; }

static void count_swap(Conversion *to, int wanted, int got) {
    int i = 0;
    while (i < to->swaps && (to->swap[i].wanted != wanted || to->swap[i].got != got)) i++;
    if (i == SWAPS_MAX) return;
    if (i == to->swaps) to->swap[to->swaps++] = (Swap){wanted, got, 0};
    to->swap[i].count++;
}

// The heads whose rows have Hugging Face's order and are to get that of GGUF's llama; 0: none.
static int64_t heads_to_pair(const Conversion *to, const GgufTensor *tensor) {
    TextSpan name = to->recipe.architecture;
    bool llama = name.length == 5 && !memcmp(name.at, "llama", 5);
    if (!gguf_is_folder(to->gguf) || !llama) return 0;
    if (strstr(tensor->name, ".attn_q.")) return to->recipe.heads;
    return strstr(tensor->name, ".attn_k.") ? to->recipe.key_heads : 0;
}

static int put_paired(Conversion *to, const GgufTensor *tensor, int type, int64_t heads) {
    int64_t count = tensor->rank > 1 ? tensor->shape[1] : tensor->shape[0];
    if (heads < 1 || count % heads || count / heads % 2)
        return fail("%s: tensor %s has %lld rows, which are not %lld heads of pairs", to->wish->in,
                    tensor->name, (long long)count, (long long)heads);
    gguf_put_tensor_paired(to->writer, tensor, type, heads);
    return 0;
}

static int put_tensor(Conversion *to, const GgufTensor *tensor) {
    int wanted = recipe_wanted(&to->recipe, tensor), type = recipe_fitting(tensor, wanted);
    const GgufFormat *from = gguf_format(tensor->type), *format = gguf_format(type);
    if (type != wanted) count_swap(to, wanted, type);
    if (type != tensor->type && is_quantised(type) && is_quantised(tensor->type) &&
        !to->wish->requantize)
        return fail("%s: tensor %s is %s already, and %s of it would be worse than either. Give "
                    "--requantize to do it, or convert the original",
                    to->wish->in, tensor->name, from->name, format->name);
    int64_t values = tensor->bytes / from->bytes * from->length;
    to->values += values;
    to->bytes += values / format->length * format->bytes;
    int64_t heads = heads_to_pair(to, tensor);
    if (heads) return put_paired(to, tensor, type, heads);
    gguf_put_tensor(to->writer, tensor, type);
    return 0;
}

static bool show_progress(void *context, int64_t done, int64_t all) {
    enum { WIDTH = 24 };
    static const char full[] = "========================";
    const Conversion *to = context;
    double part = (double)done / (double)all, seconds = clock_seconds() - to->start;
    hint("[%-*.*s] %3.0f %%, %.0f of %.0f MB, %.0f s left", WIDTH, (int)(part * WIDTH), full,
         100 * part, (double)done / 1e6, (double)all / 1e6, seconds / part - seconds);
    return !interrupted();
}

static void say_what_was_done(const Conversion *to) {
    for (int i = 0; i < to->swaps; i++) {
        const Swap *swap = &to->swap[i];
        const GgufFormat *wanted = gguf_format(swap->wanted);
        say("%d tensor%s stored as %s, not %s: the rows are no multiples of %d values", swap->count,
            swap->count == 1 ? " is" : "s are", gguf_format(swap->got)->name, wanted->name,
            wanted->length);
    }
    bool small = to->bytes < 1000000;
    say("%s: %lld tensors, %.1f %s, %.2f bits a value, in %.1f s", to->wish->out,
        (long long)gguf_tensor_count(to->gguf), (double)to->bytes / (small ? 1e3 : 1e6),
        small ? "kB" : "MB", 8 * (double)to->bytes / (double)max_i64(to->values, 1),
        clock_seconds() - to->start);
}

static int write_file(Conversion *to, int type) {
    if (recipe_open(&to->recipe, to->gguf, type) < 0) return -1;
    gguf_put_int(to->writer, "general.file_type", recipe_file_type(type));
    gguf_put_int(to->writer, "general.quantization_version", QUANTIZATION_VERSION);
    gguf_put_keys(to->writer, to->gguf);
    for (int64_t i = 0; i < gguf_tensor_count(to->gguf); i++)
        if (put_tensor(to, gguf_tensor(to->gguf, i)) < 0) return -1;
    interrupt_catch();
    gguf_writer_watch(to->writer, show_progress, to);
    int status = gguf_writer_save(to->writer, to->wish->out);
    hint_clear();
    if (status == 0) say_what_was_done(to);
    return status;
}

static int check_out(const char *path, const Wish *wish) {
    struct stat in, out;
    if (stat(wish->out, &out)) return 0;
    if (!stat(path, &in) && in.st_dev == out.st_dev && in.st_ino == out.st_ino)
        return fail("%s is what is to be read; give another name for what is written", wish->out);
    if (wish->force) return 0;
    return fail("%s is there already; give --force to replace it", wish->out);
}

static int convert(const Wish *wish, const GgufFormat *format) {
    Arena *arena = arena_new();
    Conversion to = {.wish = wish, .start = clock_seconds()};
    const char *path = models_find(arena, wish->in);
    int status = path && check_out(path, wish) == 0 ? 0 : -1;
    Gguf *gguf = status == 0 ? gguf_open(path) : NULL;
    if (gguf) {
        to.gguf = gguf;
        to.writer = gguf_writer_new();
        status = write_file(&to, format->type);
        gguf_writer_free(to.writer);
    }
    gguf_close(gguf);
    arena_free(arena);
    if (gguf && status == 0) return EXIT_DONE;
    int code = failed();
    return interrupted() ? EXIT_INTERRUPTED : code;
}

static const char *type_name(const void *table, int i) {
    (void)table;
    const GgufFormat *format = gguf_format(i);
    return format && format->encode ? format->name : "";
}

static int unknown_type(const char *name) {
    enum { TYPES = 64 };
    Arena *arena = arena_new();
    Text known = text_new(arena);
    for (int i = 0; i < TYPES; i++)
        if (type_name(NULL, i)[0]) text_add(&known, " %s", type_name(NULL, i));
    for (size_t i = 0; i < known.count; i++)
        if (known.at[i] >= 'A' && known.at[i] <= 'Z') known.at[i] = (char)(known.at[i] + 32);
    int status = usage_wrong("convert: no type %.40s; there are%s", name, known.at);
    arena_free(arena);
    return status;
}

int run_convert(int count, char **argument) {
    Wish wish = {0};
    // clang-format off
    const Option table[] = {
        {"--type", NULL, OPTION_TEXT, &wish.type, 0, 0, "TYPE",
         "f32, f16, bf16, q8_0, q5_0, q5_1, q4_0, q4_1, q2_k, q3_k, q4_k, q5_k, q6_k, iq4_nl or "
         "iq4_xs"},
        {"--requantize", NULL, OPTION_FLAG, &wish.requantize, 0, 0, NULL,
         "quantise what is quantised already in another type"},
        {"--force", NULL, OPTION_FLAG, &wish.force, 0, 0, NULL, "replace OUT if it is there"},
        {"--threads", "-t", OPTION_INT, &common.threads, 1, 256, "N", "threads (one a core)"},
    };
    // clang-format on
    const char *file[2];
    int files, parsed = OPTIONS_PARSE("convert", table, count, argument, 2, file, &files);
    if (parsed) return parsed < 0 ? EXIT_USAGE : EXIT_DONE;
    if (files < 2)
        return usage_wrong("convert: from what to what? Try: picograd convert IN OUT --type q4_k");
    if (random_model_find(file[0]))
        return usage_wrong("convert: random weights are made on the spot; there is no file");
    if (!wish.type) return usage_wrong("convert: which type? Try: --type q4_k");
    const GgufFormat *format = gguf_format_named(wish.type);
    if (!format || !format->encode) return unknown_type(wish.type);
    int status = common_apply();
    if (status != EXIT_DONE) return status;
    wish.in = file[0];
    wish.out = file[1];
    return convert(&wish, format);
}
