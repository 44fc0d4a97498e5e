/* inspect_facts.c - what a model file says of its model and tokenizer.
 * In: an open file.  Out: InspectFacts, whose texts lie in the file.
 * Invariant: nothing needs to be there, and any architecture will do: what is missing or of another
 * type is left out.                                                                            */
#include "cli/inspect.h"

#include <string.h>

const char *const token_kinds[TOKEN_KINDS] = {"undefined", "normal", "unknown", "control",
                                              "user",      "unused", "byte"};

static TextSpan text_of(const Gguf *gguf, const char *name) {
    TextSpan text;
    return gguf_find_key(gguf, name) && gguf_text(gguf, name, &text) == 0 ? text
                                                                          : (TextSpan){"", 0};
}

static void find_hyperparameters(Arena *arena, InspectFacts *facts) {
    static const char *const names[][2] = {
        {"layers", "block_count"},
        {"width", "embedding_length"},
        {"hidden", "feed_forward_length"},
        {"heads", "attention.head_count"},
        {"key heads", "attention.head_count_kv"},
        {"head size", "attention.key_length"},
        {"window", "attention.sliding_window"},
        {"experts", "expert_count"},
        {"vocabulary", "vocab_size"},
        {"context", "context_length"},
        {"RoPE base", "rope.freq_base"},
        {"RoPE size", "rope.dimension_count"},
        {"RoPE scaling", "rope.scaling.type"},
        {"RoPE factor", "rope.scaling.factor"},
    };
    for (int i = 0; i < COUNT_OF(names); i++) {
        const char *name =
            arena_print(arena, "%.*s.%s", (int)min_i64((int64_t)facts->architecture.length, 64),
                        facts->architecture.at, names[i][1]);
        const GgufKey *key = gguf_find_key(facts->gguf, name);
        if (key) *list_add(arena, &facts->hyper) = (Hyperparameter){names[i][0], key};
    }
}

static void count_kinds(Arena *arena, InspectFacts *facts) {
    static const char name[] = "tokenizer.ggml.token_type";
    int64_t count;
    const int32_t *kind =
        gguf_find_key(facts->gguf, name) ? gguf_array_i32(facts->gguf, name, arena, &count) : NULL;
    for (int64_t i = 0; kind && i < count; i++)
        facts->kinds[kind[i] >= 0 && kind[i] < TOKEN_KINDS ? kind[i] : 0]++;
}

// tokenizer.ggml.bos_token_id, ...
static void find_special(Arena *arena, InspectFacts *facts) {
    static const char begin[] = "tokenizer.ggml.", end[] = "_token_id";
    enum { BEGIN = sizeof begin - 1, END = sizeof end - 1 };
    int64_t count = 0;
    const char *tokens = "tokenizer.ggml.tokens";
    const TextSpan *text = gguf_find_key(facts->gguf, tokens)
                               ? gguf_array_text(facts->gguf, tokens, arena, &count)
                               : NULL;
    facts->tokens = text ? count : 0;
    for (int64_t i = 0; i < gguf_key_count(facts->gguf); i++) {
        const char *name = gguf_key(facts->gguf, i)->name;
        int64_t id, length = (int64_t)strlen(name);
        if (length <= BEGIN + END || strncmp(name, begin, BEGIN) ||
            strcmp(name + length - END, end) || gguf_int(facts->gguf, name, &id) < 0)
            continue;
        *list_add(arena, &facts->special) = (SpecialToken){
            .role = arena_print(arena, "%.*s", (int)(length - BEGIN - END), name + BEGIN),
            .id = id,
            .text = id >= 0 && id < facts->tokens ? text[id] : (TextSpan){"", 0},
        };
    }
}

int64_t tensor_values(const GgufTensor *tensor) {
    return tensor->shape[0] * tensor->shape[1] * tensor->shape[2] * tensor->shape[3];
}

TensorTotal tensor_total(const Gguf *gguf, int type) {
    TensorTotal total = {0};
    for (int64_t i = 0; i < gguf_tensor_count(gguf); i++) {
        const GgufTensor *tensor = gguf_tensor(gguf, i);
        if (type >= 0 && tensor->type != type) continue;
        total.tensors++;
        total.values += tensor_values(tensor);
        total.bytes += tensor->bytes;
    }
    return total;
}

static void ask_tokenizer(Arena *arena, InspectFacts *facts) {
    Tokenizer *tokenizer = tokenizer_open(facts->gguf);
    if (!tokenizer) {
        facts->unusable = arena_text(arena, error_text());
        return;
    }
    for (int32_t id = 0; id < tokenizer_count(tokenizer); id++) {
        if (!tokenizer_is_end(tokenizer, id)) continue;
        TextSpan piece = tokenizer_piece(tokenizer, id);
        piece.at = arena_copy(arena, piece.at, piece.length);
        *list_add(arena, &facts->ends) = (SpecialToken){"end", id, piece};
    }
    const Template *template = template_open(arena, facts->gguf, tokenizer, NULL);
    if (template) {
        facts->template_name = template_name(template);
        facts->template_system = template_system(template);
    }
    tokenizer_close(tokenizer);
}

InspectFacts inspect_facts(Arena *arena, const Gguf *gguf) {
    const GgufKey *merges = gguf_find_key(gguf, "tokenizer.ggml.merges");
    InspectFacts facts = {
        .gguf = gguf,
        .architecture = text_of(gguf, "general.architecture"),
        .values = tensor_total(gguf, -1).values,
        .tokenizer = text_of(gguf, "tokenizer.ggml.model"),
        .rule = text_of(gguf, "tokenizer.ggml.pre"),
        .merges = merges ? merges->count : 0,
        .template = text_of(gguf, "tokenizer.chat_template"),
    };
    find_hyperparameters(arena, &facts);
    count_kinds(arena, &facts);
    find_special(arena, &facts);
    ask_tokenizer(arena, &facts);
    return facts;
}
