/* inspect_json.c - a model file as one JSON object.
 * In: InspectFacts.  Out: text. An array longer than LISTED is left to `inspect --key NAME --json`.
 *   {"model": {"architecture": "llama", ...}, "metadata": {...}, "tokenizer": {...}, ...}        */
#include "cli/inspect.h"

#include <ctype.h>
#include <string.h>

enum { LISTED = 64 };

static bool is_text(int type) { return !strcmp(gguf_type_name(type), "text"); }

// inf and nan, which JSON has no numbers for, are null.
static void add_number(Text *to, const GgufKey *key, int64_t i) {
    Text number = text_new(to->arena);
    gguf_print_element(key, i, &number);
    text_add(to, "%s", strpbrk(number.at, "in") ? "null" : number.at);
}

void inspect_add_value(Text *to, const Gguf *gguf, const GgufKey *key) {
    int64_t count = key->count;
    if (is_text(key->type)) {
        quote_json(to, (const char *)key->at, key->bytes);
        return;
    }
    if (key->element < 0) {
        add_number(to, key, 0);
        return;
    }
    const TextSpan *text =
        is_text(key->element) ? gguf_array_text(gguf, key->name, to->arena, &count) : NULL;
    text_add(to, "[");
    for (int64_t i = 0; i < count; i++) {
        if (i) text_add(to, ", ");
        if (text)
            quote_json(to, text[i].at, text[i].length);
        else
            add_number(to, key, i);
    }
    text_add(to, "]");
}

static void add_name(Text *to, const char *name, bool first) {
    text_add(to, "%s    ", first ? "" : ",\n");
    quote_json_text(to, name);
    text_add(to, ": ");
}

static void add_metadata(Text *to, const Gguf *gguf) {
    text_add(to, "  \"metadata\": {\n");
    for (int64_t i = 0; i < gguf_key_count(gguf); i++) {
        const GgufKey *key = gguf_key(gguf, i);
        add_name(to, key->name, i == 0);
        if (key->count > LISTED)
            text_add(to, "{\"array\": \"%s\", \"count\": %lld}", gguf_type_name(key->element),
                     (long long)key->count);
        else
            inspect_add_value(to, gguf, key);
    }
    text_add(to, "\n  },\n");
}

static void add_model(Text *to, const InspectFacts *facts) {
    text_add(to, "  \"model\": {\n    \"architecture\": ");
    quote_json(to, facts->architecture.at, facts->architecture.length);
    text_add(to, ",\n    \"parameters\": %lld", (long long)facts->values);
    for (int32_t i = 0; i < facts->hyper.count; i++) {
        char *name = arena_text(to->arena, facts->hyper.at[i].name);
        for (char *at = name; *at; at++) *at = *at == ' ' ? '_' : (char)tolower(*at);
        add_name(to, name, false);
        inspect_add_value(to, facts->gguf, facts->hyper.at[i].key);
    }
    text_add(to, "\n  },\n");
}

static void add_tokenizer(Text *to, const InspectFacts *facts) {
    text_add(to, "  \"tokenizer\": {\n    \"model\": ");
    quote_json(to, facts->tokenizer.at, facts->tokenizer.length);
    text_add(to, ",\n    \"pre\": ");
    quote_json(to, facts->rule.at, facts->rule.length);
    text_add(to, ",\n    \"tokens\": %lld,\n    \"merges\": %lld,\n    \"kinds\": {",
             (long long)facts->tokens, (long long)facts->merges);
    for (int i = 0; i < TOKEN_KINDS; i++)
        text_add(to, "%s\"%s\": %lld", i ? ", " : "", token_kinds[i], (long long)facts->kinds[i]);
    text_add(to, "},\n    \"special\": {");
    for (int32_t i = 0; i < facts->special.count; i++) {
        text_add(to, "%s", i ? ", " : "");
        quote_json_text(to, facts->special.at[i].role);
        text_add(to, ": {\"id\": %lld, \"text\": ", (long long)facts->special.at[i].id);
        quote_json(to, facts->special.at[i].text.at, facts->special.at[i].text.length);
        text_add(to, "}");
    }
    text_add(to, "},\n    \"ends\": [");
    for (int32_t i = 0; i < facts->ends.count; i++)
        text_add(to, "%s%lld", i ? ", " : "", (long long)facts->ends.at[i].id);
    text_add(to, "],\n    \"chat_template\": ");
    quote_json_text(to, facts->template_name);
    text_add(to, ",\n    \"system_message\": ");
    quote_json_text(to, facts->template_system);
    text_add(to, ",\n    \"unusable\": ");
    quote_json_text(to, facts->unusable);
    text_add(to, "\n  },\n");
}

static void add_tensors(Text *to, const Gguf *gguf) {
    text_add(to, "  \"tensors\": [\n");
    for (int64_t i = 0; i < gguf_tensor_count(gguf); i++) {
        const GgufTensor *tensor = gguf_tensor(gguf, i);
        text_add(to, "%s    {\"name\": ", i ? ",\n" : "");
        quote_json_text(to, tensor->name);
        text_add(to, ", \"type\": \"%s\", \"shape\": [", gguf_format(tensor->type)->name);
        for (int axis = tensor->rank - 1; axis >= 0; axis--)
            text_add(to, "%lld%s", (long long)tensor->shape[axis], axis ? ", " : "");
        text_add(to, "], \"bytes\": %lld}", (long long)tensor->bytes);
    }
    text_add(to, "\n  ]\n");
}

void inspect_add_json(Text *to, const InspectFacts *facts) {
    text_add(to, "{\n  \"path\": ");
    quote_json_text(to, gguf_path(facts->gguf));
    text_add(to, ",\n  \"bytes\": %lld,\n", (long long)gguf_bytes(facts->gguf));
    add_model(to, facts);
    add_metadata(to, facts->gguf);
    add_tokenizer(to, facts);
    add_tensors(to, facts->gguf);
    text_add(to, "}\n");
}
