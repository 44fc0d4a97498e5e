/* inspect.c - picograd inspect: what a model file holds, for a person to read.
 * In: a GGUF file.  Out: its metadata, what the tokenizer makes of it, its tensors, their sums.
 *   picograd inspect smollm2                                                                     */
#include "cli/cli.h"

#include <string.h>

static const char *bytes_text(Arena *arena, int64_t bytes) {
    if (bytes < 10000) return arena_print(arena, "%lld B", (long long)bytes);
    if (bytes < 10000000) return arena_print(arena, "%.1f kB", (double)bytes / 1e3);
    return arena_print(arena, "%.1f MB", (double)bytes / 1e6);
}

static void print_metadata(Arena *arena, const Gguf *gguf) {
    int widest = 0;
    int64_t count = gguf_key_count(gguf);
    for (int64_t i = 0; i < count; i++)
        widest = (int)max_i64(widest, (int64_t)strlen(gguf_key(gguf, i)->name));
    widest = (int)min_i64(widest, 44);
    printf("\nmetadata: %lld keys\n", (long long)count);
    for (int64_t i = 0; i < count; i++) {
        Text value = text_new(arena);
        gguf_print_value(gguf_key(gguf, i), &value);
        printf("  %-*s  %s\n", widest, gguf_key(gguf, i)->name, value.at);
    }
}

static void print_token(Arena *arena, const Tokenizer *tokenizer, const char *what, int32_t id) {
    if (id < 0) {
        printf("  %-18s none\n", what);
        return;
    }
    Text text = text_new(arena);
    Utf8Stream stream = {0};
    TextSpan piece = tokenizer_piece(tokenizer, id);
    utf8_push(&stream, piece.at, piece.length, &text);
    printf("  %-18s %d  %s\n", what, id, text.at);
}

static void print_tokenizer(Arena *arena, const Gguf *gguf) {
    Tokenizer *tokenizer = tokenizer_open(gguf);
    printf("\ntokenizer\n");
    if (!tokenizer) {
        printf("  not usable: %s\n", error_text());
        return;
    }
    int32_t control = 0;
    for (int32_t i = 0; i < tokenizer_count(tokenizer); i++)
        control += tokenizer_is_control(tokenizer, i);
    printf("  %-18s %d, %d of them control tokens\n", "tokens", tokenizer_count(tokenizer),
           control);
    print_token(arena, tokenizer, "begins a text", tokenizer_bos(tokenizer));
    print_token(arena, tokenizer, "ends a text", tokenizer_eos(tokenizer));
    print_token(arena, tokenizer, "ends a turn", tokenizer_eot(tokenizer));
    printf("  %-18s %s\n", "--chat",
           tokenizer_find(tokenizer, "<|im_start|>") < 0 ? "no: it has no <|im_start|>" : "ChatML");
    tokenizer_close(tokenizer);
}

static int64_t tensor_values(const GgufTensor *tensor) {
    return tensor->shape[0] * tensor->shape[1] * tensor->shape[2] * tensor->shape[3];
}

// As picograd writes shapes: the axis whose elements lie side by side comes last.
static const char *shape_text(Arena *arena, const GgufTensor *tensor) {
    Text text = text_new(arena);
    for (int axis = tensor->rank - 1; axis >= 0; axis--)
        text_add(&text, "%s%lld", axis < tensor->rank - 1 ? " x " : "",
                 (long long)tensor->shape[axis]);
    return text.at;
}

static void print_tensors(Arena *arena, const Gguf *gguf) {
    int widest = 0;
    int64_t count = gguf_tensor_count(gguf);
    for (int64_t i = 0; i < count; i++)
        widest = (int)max_i64(widest, (int64_t)strlen(gguf_tensor(gguf, i)->name));
    widest = (int)min_i64(widest, 48);
    printf("\ntensors: %lld\n", (long long)count);
    for (int64_t i = 0; i < count; i++) {
        const GgufTensor *tensor = gguf_tensor(gguf, i);
        printf("  %-*s  %-5s %14s %12s\n", widest, tensor->name, gguf_format(tensor->type)->name,
               shape_text(arena, tensor), bytes_text(arena, tensor->bytes));
    }
}

static void print_total(Arena *arena, const Gguf *gguf, int type, const char *name) {
    int64_t tensors = 0, values = 0, bytes = 0;
    for (int64_t i = 0; i < gguf_tensor_count(gguf); i++) {
        const GgufTensor *tensor = gguf_tensor(gguf, i);
        if (type >= 0 && tensor->type != type) continue;
        tensors++;
        values += tensor_values(tensor);
        bytes += tensor->bytes;
    }
    if (!tensors) return;
    printf("  %-6s %8lld %12.3f M %12s %8.2f\n", name, (long long)tensors, (double)values / 1e6,
           bytes_text(arena, bytes), 8 * (double)bytes / (double)max_i64(values, 1));
}

static void print_totals(Arena *arena, const Gguf *gguf) {
    enum { TYPES = 64 };
    printf("\n  %-6s %8s %14s %12s %8s\n", "type", "tensors", "values", "bytes", "bits");
    for (int type = 0; type < TYPES; type++) {
        const GgufFormat *format = gguf_format(type);
        if (format) print_total(arena, gguf, type, format->name);
    }
    print_total(arena, gguf, -1, "all");
}

int run_inspect(int count, char **argument) {
    const char *name = NULL;
    int names, parsed = options_parse("inspect", NULL, 0, count, argument, 1, &name, &names);
    if (parsed) return parsed < 0 ? EXIT_USAGE : EXIT_DONE;
    if (!names) return usage_wrong("inspect: which model? Try: picograd inspect smollm2");
    if (!strcmp(name, "random"))
        return usage_wrong("inspect: random weights are made on the spot; there is no file");
    Arena *arena = arena_new();
    const char *path = models_find(arena, name);
    Gguf *gguf = path ? gguf_open(path) : NULL;
    if (gguf) {
        printf("%s: %s\n", path, bytes_text(arena, gguf_bytes(gguf)));
        print_metadata(arena, gguf);
        print_tokenizer(arena, gguf);
        print_tensors(arena, gguf);
        print_totals(arena, gguf);
    }
    gguf_close(gguf);
    arena_free(arena);
    return gguf ? EXIT_DONE : failed();
}
