/* folder_rules.c - which tokenizer a tokenizer.json describes, by what it does to a text.
 * In: its model, normalizer and pre_tokenizer.  Out: the names that GGUF has for them.
 * Invariant: a rule is recognised by all of its steps, in order, or not at all: one that is not
 * known makes the whole unknown, and the steps are named.
 *   Digits, ByteLevel with its expression   =>   model gpt2, pre smollm
 * Source: the tokenizer.json of each model, as the tokenizers library 0.22 writes it.           */
#include "io/io.h"

#include <string.h>

enum { STEPS_MAX = 16, SHOWN_BYTES = 200 };

#define BREAKS       "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define SIGNS        " ?[^\\s\\p{L}\\p{N}]+[\\r\\n"
#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
#define WORDS        "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define UPPER        "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER        "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*|"

// Byte-level BPE: the steps of the normalizer, then those of the pre_tokenizer.
static const struct {
    const char *steps, *pre;
} byte_level[] = {
    {"bytes(words)", "gpt-2"},
    {"digits bytes(words)", "smollm"},
    {"split(" CONTRACTIONS WORDS "\\p{N}{1,3}|" SIGNS "]*|" BREAKS ") bytes", "llama-bpe"},
    {"nfc split(" CONTRACTIONS WORDS "\\p{N}|" SIGNS "]*|" BREAKS ") bytes", "qwen2"},
    {"split(" CASED "\\p{N}|" SIGNS "/]*|" BREAKS ") bytes", "tekken"},
};

// Sentencepiece's: spaces become U+2581, and one may come first. Where Metaspace puts it before the
// text alone, GGUF has no name for that, and each piece between special tokens gets one.
static const struct {
    const char *steps;
    bool prefix, single;  // single: of spaces in a row one stays
} pieces[] = {
    {"prepend mark", true, false},
    {"mark", false, false},
    {"metaspace(first)", true, false},
    {"metaspace(always)", true, false},
    {"metaspace(never)", false, false},
    {"strip collapse metaspace(first)", true, true},
    {"strip collapse metaspace(always)", true, true},
    {"words metaspace(first)", true, true},
    {"words metaspace(always)", true, true},
};

typedef struct {
    Text text;
    int count;
    TextSpan charsmap;
} Steps;

static void add(Steps *steps, const char *name, TextSpan detail) {
    text_add(&steps->text, steps->count++ ? " %s" : "%s", name);
    if (!detail.at) return;
    text_add(&steps->text, "(");
    text_add_bytes(&steps->text, detail.at, detail.length);
    text_add(&steps->text, ")");
}

static bool is_true(const Json *object, const char *name, bool otherwise) {
    json_truth(json_member(object, name), &otherwise);
    return otherwise;
}

static void add_split(Steps *steps, const Json *step) {
    TextSpan expression = {"?", 1};
    bool cuts = json_is(json_member(step, "behavior"), "Isolated") &&
                !is_true(step, "invert", false) &&
                json_text(json_member(json_member(step, "pattern"), "Regex"), &expression);
    add(steps, cuts ? "split" : "split otherwise", expression);
}

static void add_replace(Steps *steps, const Json *step) {
    const Json *pattern = json_member(step, "pattern");
    bool mark = json_is(json_member(pattern, "String"), " ") &&
                json_is(json_member(step, "content"), "\xe2\x96\x81");
    bool collapse = json_is(json_member(pattern, "Regex"), " {2,}");
    add(steps, mark ? "mark" : collapse ? "collapse" : "replace", (TextSpan){0});
}

static void add_prepend(Steps *steps, const Json *step) {
    bool mark = json_is(json_member(step, "prepend"), "\xe2\x96\x81");
    add(steps, mark ? "prepend" : "prepend otherwise", (TextSpan){0});
}

static void add_strip(Steps *steps, const Json *step) {
    bool right = !is_true(step, "strip_left", true) && is_true(step, "strip_right", true);
    add(steps, right ? "strip" : "strip otherwise", (TextSpan){0});
}

// prepend_scheme is newer than add_prefix_space.
static void add_metaspace(Steps *steps, const Json *step) {
    TextSpan scheme = {"always", 6};
    if (!is_true(step, "add_prefix_space", true)) scheme = (TextSpan){"never", 5};
    json_text(json_member(step, "prepend_scheme"), &scheme);
    add(steps, "metaspace", scheme);
}

static void add_bytes(Steps *steps, const Json *step) {
    bool words = is_true(step, "use_regex", true);
    bool prefix = is_true(step, "add_prefix_space", true);
    add(steps, prefix ? "bytes behind a space" : "bytes", (TextSpan){words ? "words" : NULL, 5});
}

static void add_digits(Steps *steps, const Json *step) {
    bool single = is_true(step, "individual_digits", false);
    add(steps, single ? "digits" : "numbers", (TextSpan){0});
}

static void add_charsmap(Steps *steps, const Json *step) {
    json_text(json_member(step, "precompiled_charsmap"), &steps->charsmap);
}

static void add_nfc(Steps *steps, const Json *step) {
    (void)step;
    add(steps, "nfc", (TextSpan){0});
}

static void add_words(Steps *steps, const Json *step) {
    (void)step;
    add(steps, "words", (TextSpan){0});
}

static const struct {
    const char *type;
    void (*add)(Steps *steps, const Json *step);
} kinds[] = {
    {"Split", add_split},           {"Replace", add_replace},      {"Prepend", add_prepend},
    {"Strip", add_strip},           {"Metaspace", add_metaspace},  {"ByteLevel", add_bytes},
    {"Digits", add_digits},         {"Precompiled", add_charsmap}, {"NFC", add_nfc},
    {"WhitespaceSplit", add_words},
};

static void add_one(Steps *steps, const Json *step) {
    TextSpan type = {"?", 1};
    for (int i = 0; i < COUNT_OF(kinds); i++) {
        if (!json_is(json_member(step, "type"), kinds[i].type)) continue;
        kinds[i].add(steps, step);
        return;
    }
    json_text(json_member(step, "type"), &type);
    add(steps, "unknown", type);
}

// One step, or a Sequence of them under `list`.
static void add_all(Steps *steps, const Json *step, const char *list) {
    const Json *sequence = json_member(step, list);
    if (!step) return;
    if (!json_is(json_member(step, "type"), "Sequence")) {
        add_one(steps, step);
        return;
    }
    for (int64_t i = 0; i < json_count(sequence) && steps->count < STEPS_MAX; i++) {
        add_one(steps, json_element(sequence, i));
    }
}

// What other models put at the ends of words, or inside them.
static void add_affix(Steps *steps, const Json *model, const char *name) {
    TextSpan text;
    if (json_text(json_member(model, name), &text) && text.length) add(steps, name, text);
}

static int unknown(const char *path, const char *what, const Steps *steps) {
    return fail("%s: %s with the steps '%.*s' is not supported yet; those of GPT-2, SmolLM, Llama "
                "2 and 3, Mistral and Qwen 2 are",
                path, what, SHOWN_BYTES, steps->text.at);
}

static bool find_byte_level(const Steps *steps, FolderRules *rules) {
    for (int i = 0; i < COUNT_OF(byte_level); i++) {
        if (strcmp(byte_level[i].steps, steps->text.at) != 0) continue;
        rules->model = "gpt2";
        rules->pre = byte_level[i].pre;
        return true;
    }
    return false;
}

static int find_pieces(const char *path, const char *what, const Steps *steps, FolderRules *rules) {
    for (int i = 0; i < COUNT_OF(pieces); i++) {
        if (strcmp(pieces[i].steps, steps->text.at) != 0) continue;
        rules->prefix = pieces[i].prefix;
        rules->single = pieces[i].single;
        rules->charsmap = steps->charsmap;
        return 0;
    }
    return unknown(path, what, steps);
}

int folder_read_rules(const Folder *folder, const char *path, const Json *root,
                      FolderRules *rules) {
    const Json *model = json_member(root, "model"), *type = json_member(model, "type");
    Steps steps = {.text = text_new(folder->arena)};
    *rules = (FolderRules){0};
    add_all(&steps, json_member(root, "normalizer"), "normalizers");
    add_all(&steps, json_member(root, "pre_tokenizer"), "pretokenizers");
    add_affix(&steps, model, "continuing_subword_prefix");
    add_affix(&steps, model, "end_of_word_suffix");
    if (json_is(type, "Unigram")) {
        rules->model = "t5";
        return find_pieces(path, "a unigram model", &steps, rules);
    }
    if (type && !json_is(type, "BPE"))  // older files do not say what BPE is
        return fail("%s: a tokenizer that is neither BPE nor Unigram is not supported yet", path);
    if (find_byte_level(&steps, rules))
        return 0;  // whatever byte_fallback is: each byte has a token
    if (!is_true(model, "byte_fallback", false)) return unknown(path, "byte-level BPE", &steps);
    rules->model = "llama";
    return find_pieces(path, "BPE with byte fallback", &steps, rules);
}
