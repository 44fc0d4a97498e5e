/* inspect.c - picograd inspect: what a model file holds.
 * In: a GGUF file.  Out: its model, metadata, tokenizer, tensors and their sums, for a person to
 * read; or a part of them; or one JSON object.
 *   picograd inspect smollm2 --key llama.block_count   =>   30                                   */
#include "cli/inspect.h"

#include <math.h>
#include <string.h>

typedef struct {
    const char *keys, *tensors, *key;
    bool template, json;
} Inspect;

static const char *bytes_text(Arena *arena, int64_t bytes) {
    if (bytes < 10000) return arena_print(arena, "%lld B", (long long)bytes);
    if (bytes < 10000000) return arena_print(arena, "%.1f kB", (double)bytes / 1e3);
    return arena_print(arena, "%.1f MB", (double)bytes / 1e6);
}

// A part of a text that is shown on a line: valid UTF-8, control characters as ?.
static const char *shown(Arena *arena, TextSpan text, size_t longest) {
    Text line = text_new(arena);
    Utf8Stream stream = {0};
    utf8_push(&stream, text.at, text.length < longest ? text.length : longest, &line);
    utf8_finish(&stream, &line);
    for (char *at = line.at; *at; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f) *at = '?';
    return text.length > longest ? arena_print(arena, "%s...", line.at) : line.at;
}

// ---- the model and its metadata ----------------------------------------------------------------
static const char *count_text(Arena *arena, int64_t count) {
    double value = (double)count;
    if (value >= 1e9) return arena_print(arena, "%.2f G", value / 1e9);
    return arena_print(arena, value >= 1e6 ? "%.1f M" : "%.1f k",
                       value / (value >= 1e6 ? 1e6 : 1e3));
}

// A base of 1e+06 is 1000000 to a reader.
static void add_hyperparameter(Text *to, const Gguf *gguf, const Hyperparameter *hyper) {
    double number;
    text_add(to, "%s ", hyper->name);
    if (gguf_number(gguf, hyper->key->name, &number) == 0 && number == floor(number) &&
        fabs(number) < 1e15)
        text_add(to, "%.0f", number);
    else
        gguf_print_value(hyper->key, to);
}

static void print_model(Arena *arena, const InspectFacts *facts) {
    if (!facts->architecture.length) return;
    Text line = text_new(arena);
    for (int32_t i = 0; i < facts->hyper.count; i++) {
        text_add(&line, i ? ", " : ": ");
        add_hyperparameter(&line, facts->gguf, &facts->hyper.at[i]);
    }
    printf("%s of %s parameters%s\n", shown(arena, facts->architecture, 60),
           count_text(arena, facts->values), line.at);
}

static bool is_wanted(const char *part, const char *name) { return !part || strstr(name, part); }

static void print_metadata(Arena *arena, const Gguf *gguf, const char *part) {
    int widest = 0;
    int64_t count = gguf_key_count(gguf), shown = 0;
    for (int64_t i = 0; i < count; i++) {
        const char *name = gguf_key(gguf, i)->name;
        if (!is_wanted(part, name)) continue;
        widest = (int)max_i64(widest, (int64_t)strlen(name));
        shown++;
    }
    widest = (int)min_i64(widest, 44);
    printf("\nmetadata: %lld keys\n", (long long)shown);
    for (int64_t i = 0; i < count; i++) {
        Text value = text_new(arena);
        if (!is_wanted(part, gguf_key(gguf, i)->name)) continue;
        gguf_print_value(gguf_key(gguf, i), &value);
        printf("  %-*s  %s\n", widest, gguf_key(gguf, i)->name, value.at);
    }
}

// ---- the tokenizer -----------------------------------------------------------------------------
static void print_row(const char *name, const char *format, ...) PRINTF(2, 3);

static void print_row(const char *name, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    printf("  %-18s ", name);
    vprintf(format, arguments);
    putchar('\n');
    va_end(arguments);
}

// By its name, else as it begins.
static void print_template(Arena *arena, const InspectFacts *facts) {
    TextSpan text = facts->template;
    const char *end = memchr(text.at, '\n', text.length);
    if (end) text.length = (size_t)(end - text.at);
    if (facts->template_name)
        print_row("chat template", "%s", facts->template_name);
    else
        print_row("chat template", "not known: %s", shown(arena, text, 60));
    const char *system = facts->template_system;
    if (system)
        print_row("system message", "%s", shown(arena, (TextSpan){system, strlen(system)}, 100));
}

static void print_tokenizer(Arena *arena, const InspectFacts *facts) {
    printf("\ntokenizer\n");
    if (facts->unusable) print_row("not usable", "%s", facts->unusable);
    if (facts->tokenizer.length) print_row("model", "%s", shown(arena, facts->tokenizer, 60));
    if (facts->rule.length) print_row("rule", "%s", shown(arena, facts->rule, 60));
    Text kinds = text_new(arena);
    for (int i = 0; i < TOKEN_KINDS; i++)
        if (facts->kinds[i])
            text_add(&kinds, "%s%lld %s", kinds.count ? ", " : ": ", (long long)facts->kinds[i],
                     token_kinds[i]);
    print_row("tokens", "%lld%s", (long long)facts->tokens, kinds.at);
    if (facts->merges) print_row("merges", "%lld", (long long)facts->merges);
    for (int32_t i = 0; i < facts->special.count; i++)
        print_row(facts->special.at[i].role, "%lld  %s", (long long)facts->special.at[i].id,
                  shown(arena, facts->special.at[i].text, 60));
    for (int32_t i = 0; i < facts->ends.count; i++)
        print_row("ends a text", "%lld  %s", (long long)facts->ends.at[i].id,
                  shown(arena, facts->ends.at[i].text, 60));
    if (facts->template.length) print_template(arena, facts);
}

// ---- tensors -----------------------------------------------------------------------------------
// As picograd writes shapes: the axis whose elements lie side by side comes last.
static const char *shape_text(Arena *arena, const GgufTensor *tensor) {
    Text text = text_new(arena);
    for (int axis = tensor->rank - 1; axis >= 0; axis--)
        text_add(&text, "%s%lld", axis < tensor->rank - 1 ? " x " : "",
                 (long long)tensor->shape[axis]);
    return text.at;
}

static void print_tensors(Arena *arena, const Gguf *gguf, const char *part) {
    int widest = 0;
    int64_t count = gguf_tensor_count(gguf), shown = 0;
    for (int64_t i = 0; i < count; i++) {
        const char *name = gguf_tensor(gguf, i)->name;
        if (!is_wanted(part, name)) continue;
        widest = (int)max_i64(widest, (int64_t)strlen(name));
        shown++;
    }
    widest = (int)min_i64(widest, 48);
    printf("\ntensors: %lld\n", (long long)shown);
    for (int64_t i = 0; i < count; i++) {
        const GgufTensor *tensor = gguf_tensor(gguf, i);
        if (!is_wanted(part, tensor->name)) continue;
        printf("  %-*s  %-5s %14s %12s\n", widest, tensor->name, gguf_format(tensor->type)->name,
               shape_text(arena, tensor), bytes_text(arena, tensor->bytes));
    }
}

static void print_total(Arena *arena, const Gguf *gguf, int type, const char *name) {
    TensorTotal total = tensor_total(gguf, type);
    if (!total.tensors) return;
    printf("  %-6s %8lld %12.3f M %12s %8.2f\n", name, (long long)total.tensors,
           (double)total.values / 1e6, bytes_text(arena, total.bytes),
           8 * (double)total.bytes / (double)max_i64(total.values, 1));
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

// ---- one value, in full ------------------------------------------------------------------------
static const char *key_name(const void *table, int i) { return gguf_key(table, i)->name; }

static const GgufKey *find_key(const Gguf *gguf, const char *name) {
    const GgufKey *key = gguf_find_key(gguf, name);
    if (key) return key;
    const char *near = closest_name(name, gguf, (int)gguf_key_count(gguf), key_name);
    if (near)
        fail("%s: no key %.100s; did you mean %s?", gguf_path(gguf), name, near);
    else
        fail("%s: no key %.100s", gguf_path(gguf), name);
    return NULL;
}

// Texts byte by byte, elements of an array a line each.
static int print_value(Arena *arena, const Gguf *gguf, const char *name) {
    const GgufKey *key = find_key(gguf, name);
    if (!key) return -1;
    bool array = key->element >= 0;
    int64_t count = key->count;
    int type = array ? key->element : key->type;
    const TextSpan *text = &(TextSpan){(const char *)key->at, key->bytes};
    if (strcmp(gguf_type_name(type), "text"))
        text = NULL;
    else if (array)
        text = gguf_array_text(gguf, name, arena, &count);
    for (int64_t i = 0; i < count; i++) {
        Text line = text_new(arena);
        if (text)
            fwrite(text[i].at, 1, text[i].length, stdout);
        else
            gguf_print_element(key, i, &line);
        puts(line.at);
    }
    return 0;
}

// ---- which of them -----------------------------------------------------------------------------
static void inspect_text(Arena *arena, const Inspect *how, const Gguf *gguf) {
    bool all = !how->keys && !how->tensors;
    printf("%s: %s\n", gguf_path(gguf), bytes_text(arena, gguf_bytes(gguf)));
    InspectFacts facts = {0};
    if (all) {
        facts = inspect_facts(arena, gguf);
        print_model(arena, &facts);
    }
    if (all || how->keys) print_metadata(arena, gguf, how->keys);
    if (all) print_tokenizer(arena, &facts);
    if (all || how->tensors) print_tensors(arena, gguf, how->tensors);
    if (all) print_totals(arena, gguf);
}

static int inspect_json(Arena *arena, const char *name, const Gguf *gguf) {
    Text json = text_new(arena);
    const GgufKey *key = name ? find_key(gguf, name) : NULL;
    if (name && !key) return -1;
    if (key) {
        inspect_add_value(&json, gguf, key);
        text_add(&json, "\n");
    } else {
        InspectFacts facts = inspect_facts(arena, gguf);
        inspect_add_json(&json, &facts);
    }
    fputs(json.at, stdout);
    return 0;
}

static int inspect(Arena *arena, const Inspect *how, const Gguf *gguf) {
    const char *name = how->template ? "tokenizer.chat_template" : how->key;
    if (how->json) return inspect_json(arena, name, gguf);
    if (name) return print_value(arena, gguf, name);
    inspect_text(arena, how, gguf);
    return 0;
}

int run_inspect(int count, char **argument) {
    const char *name = NULL;
    Inspect how = {0};
    // clang-format off
    const Option table[] = {
        {"--keys", NULL, OPTION_TEXT, &how.keys, 0, 0, "TEXT",
         "only the metadata whose names have TEXT in them"},
        {"--tensors", NULL, OPTION_TEXT, &how.tensors, 0, 0, "TEXT",
         "only the tensors whose names have TEXT in them"},
        {"--key", NULL, OPTION_TEXT, &how.key, 0, 0, "NAME",
         "only this value, in full: a text as it is, an array with an element a line"},
        {"--template", NULL, OPTION_FLAG, &how.template, 0, 0, NULL,
         "only the chat template, in full"},
        {"--json", NULL, OPTION_FLAG, &how.json, 0, 0, NULL,
         "as JSON; long arrays are left to --key NAME --json"},
    };
    // clang-format on
    int names, parsed = OPTIONS_PARSE("inspect", table, count, argument, 1, &name, &names);
    if (parsed) return parsed < 0 ? EXIT_USAGE : EXIT_DONE;
    if (!names) return usage_wrong("inspect: which model? Try: picograd inspect smollm2");
    if (random_model_find(name))
        return usage_wrong("inspect: random weights are made on the spot; there is no file");
    if (how.json && (how.keys || how.tensors))
        return usage_wrong("inspect: --json takes --key or --template, not --keys or --tensors");
    Arena *arena = arena_new();
    const char *path = models_find(arena, name);
    Gguf *gguf = path ? gguf_open(path) : NULL;
    int status = gguf ? inspect(arena, &how, gguf) : -1;
    gguf_close(gguf);
    arena_free(arena);
    return status < 0 ? failed() : EXIT_DONE;
}
