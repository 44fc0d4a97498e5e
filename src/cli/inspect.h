/* inspect.h - what picograd inspect finds in a model file, and the ways to show it. */
#ifndef PICOGRAD_INSPECT_H
#define PICOGRAD_INSPECT_H
#include "cli/cli.h"

// Token kinds as tokenizer.ggml.token_type numbers them.
enum { TOKEN_KINDS = 7 };
extern const char *const token_kinds[TOKEN_KINDS];
typedef struct {
    const char *role;  // "bos", of tokenizer.ggml.bos_token_id
    int64_t id;
    TextSpan text;  // as the vocabulary has it
} SpecialToken;
typedef struct {
    const char *name;    // "layers"
    const GgufKey *key;  // llama.block_count
} Hyperparameter;
typedef struct {
    const Gguf *gguf;
    TextSpan architecture;
    int64_t values;  // of all tensors
    LIST(Hyperparameter) hyper;
    TextSpan tokenizer, rule;  // tokenizer.ggml.model and pre; length 0: not said
    int64_t tokens, merges, kinds[TOKEN_KINDS];
    LIST(SpecialToken) special;
    LIST(SpecialToken) ends;  // at which generation stops, by any name
    TextSpan template;
    const char *template_name;    // as --chat-template takes it; NULL: none, or not known
    const char *template_system;  // the message that it begins with by itself; NULL: none
    const char *unusable;         // why picograd cannot use the tokenizer; NULL: it can
} InspectFacts;
InspectFacts inspect_facts(Arena *arena, const Gguf *gguf);
int64_t tensor_values(const GgufTensor *tensor);
// Of a type, or of all with type -1.
typedef struct {
    int64_t tensors, values, bytes;
} TensorTotal;
TensorTotal tensor_total(const Gguf *gguf, int type);

// inspect_json.c
void inspect_add_json(Text *to, const InspectFacts *facts);
void inspect_add_value(Text *to, const Gguf *gguf, const GgufKey *key);  // in full
#endif
