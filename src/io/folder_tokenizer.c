/* folder_tokenizer.c - a folder's tokenizer, as the keys that GGUF has for it.
 * In: tokenizer.json; tokenizer_config.json, special_tokens_map.json, generation_config.json and
 * chat_template.jinja where they are there.  Out: tokenizer.* keys.
 * Invariant: the vocabulary has as many tokens as the embedding has rows; an id that no file names
 * is an unused token, [PADn], as llama.cpp's converter makes it.
 *   {"model": {"type": "BPE", "vocab": {"a": 0, ...}, "merges": ["a b", ...]}, ...}
 *      =>   tokenizer.ggml.model gpt2, .tokens ["a", ...], .merges ["a b", ...]                 */
#include "io/io.h"

#include <stdlib.h>
#include <string.h>

enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5, BYTE = 6 };
enum { VOCABULARY_LIMIT = 1 << 24, SPLIT_MAX = 512 };
enum { PADDING_MAX = 1 << 16 };  // rows of the embedding without a token, beside as many as tokens
#define ADDED_SCORE -1000.0f     // tells tokens added later from those that were trained

typedef struct {
    Folder *folder;
    const char *path;                    // of tokenizer.json
    const Json *root, *model;            // model: of root
    const Json *settings, *special_map;  // of files that need not be there
    FolderRules rules;
    TextSpan *texts;  // of ids; at NULL: none yet
    int32_t *kinds;
    float *scores;
    TextSpan *merges;
    int64_t merge_count;
    Map *by_text;
} Vocabulary;

// ---- tokens ------------------------------------------------------------------------------------

typedef struct {
    const Vocabulary *vocabulary;
    TextSpan text;
} TextQuery;

static bool same_text(const void *context, int32_t id) {
    const TextQuery *query = context;
    TextSpan text = query->vocabulary->texts[id];
    return text.length == query->text.length && !memcmp(text.at, query->text.at, text.length);
}

static int32_t find_text(const Vocabulary *vocabulary, TextSpan text) {
    return map_find(vocabulary->by_text, hash_bytes(text.at, text.length, secret()), same_text,
                    &(TextQuery){vocabulary, text});
}

static int shown(TextSpan text) { return (int)min_i64((int64_t)text.length, 60); }

static int add_token(Vocabulary *vocabulary, int64_t id, TextSpan text, int32_t kind) {
    int32_t there = find_text(vocabulary, text);
    if (id < 0 || id >= vocabulary->folder->vocabulary)
        return fail("%s: token '%.*s' has the id %lld, but the embedding has %lld rows",
                    vocabulary->path, shown(text), text.at, (long long)id,
                    (long long)vocabulary->folder->vocabulary);
    if (there >= 0 ? there != id : vocabulary->texts[id].at != NULL)
        return fail("%s: token '%.*s' of id %lld has the text or the id of another",
                    vocabulary->path, shown(text), text.at, (long long)id);
    vocabulary->kinds[id] = kind;
    if (there >= 0) return 0;
    vocabulary->texts[id] = text;
    map_add(vocabulary->folder->arena, vocabulary->by_text,
            hash_bytes(text.at, text.length, secret()), (int32_t)id);
    return 0;
}

static bool is_byte(TextSpan text) {
    static const char digits[] = "0123456789ABCDEF";
    return text.length == 6 && !memcmp(text.at, "<0x", 3) && text.at[5] == '>' &&
           memchr(digits, text.at[3], sizeof digits - 1) &&
           memchr(digits, text.at[4], sizeof digits - 1);
}

static int32_t kind_of(const Vocabulary *vocabulary, TextSpan text) {
    bool falls_back = false;
    json_truth(json_member(vocabulary->model, "byte_fallback"), &falls_back);
    return falls_back && is_byte(text) ? BYTE : NORMAL;
}

static int read_map(Vocabulary *vocabulary, const Json *map) {
    for (JsonMember entry = json_first(map); entry.name; entry = json_next(map, entry)) {
        int64_t id;
        TextSpan text = {entry.name, strlen(entry.name)};
        if (!json_int(entry.value, &id))
            return fail("%s: the id of token '%.60s' is no whole number", vocabulary->path,
                        entry.name);
        if (add_token(vocabulary, id, text, kind_of(vocabulary, text))) return -1;
    }
    return 0;
}

// Unigram's: [["text", score], ...], the id is the place.
static int read_list(Vocabulary *vocabulary, const Json *list) {
    for (int64_t id = 0; id < json_count(list); id++) {
        const Json *entry = json_element(list, id);
        TextSpan text;
        double score;
        if (!json_text(json_element(entry, 0), &text) ||
            !json_number(json_element(entry, 1), &score))
            return fail("%s: entry %lld of vocab is not [text, score]", vocabulary->path,
                        (long long)id);
        if (add_token(vocabulary, id, text, kind_of(vocabulary, text))) return -1;
        vocabulary->scores[id] = (float)score;
    }
    return 0;
}

static int read_added(Vocabulary *vocabulary) {
    const Json *added = json_member(vocabulary->root, "added_tokens");
    for (int64_t i = 0; i < json_count(added); i++) {
        const Json *token = json_element(added, i);
        TextSpan text;
        int64_t id;
        bool special = false;
        if (!json_text(json_member(token, "content"), &text) ||
            !json_int(json_member(token, "id"), &id))
            return fail("%s: added token %lld has no content or no id", vocabulary->path,
                        (long long)i);
        json_truth(json_member(token, "special"), &special);
        if (add_token(vocabulary, id, text, special ? CONTROL : USER_DEFINED)) return -1;
        vocabulary->scores[id] = ADDED_SCORE;
    }
    return 0;
}

static int read_unknown(Vocabulary *vocabulary) {
    TextSpan text;
    int64_t id = -1;
    if (json_text(json_member(vocabulary->model, "unk_token"), &text))
        id = find_text(vocabulary, text);
    else if (json_member(vocabulary->model, "unk_id") &&
             !json_int(json_member(vocabulary->model, "unk_id"), &id))
        return fail("%s: unk_id is no whole number", vocabulary->path);
    if (id < 0) return 0;
    if (id >= vocabulary->folder->vocabulary || !vocabulary->texts[id].at)
        return fail("%s: unk_id %lld is no token", vocabulary->path, (long long)id);
    if (strcmp(vocabulary->rules.model, "gpt2") != 0) vocabulary->kinds[id] = UNKNOWN;
    gguf_put_int(vocabulary->folder->writer, "tokenizer.ggml.unknown_token_id", id);
    return 0;
}

static int read_tokens(Vocabulary *vocabulary) {
    Folder *folder = vocabulary->folder;
    const Json *vocab = json_member(vocabulary->model, "vocab");
    if (folder->vocabulary > VOCABULARY_LIMIT)
        return fail("%s: an embedding of %lld rows is too large for a tokenizer", folder->path,
                    (long long)folder->vocabulary);
    int64_t tokens = json_count(vocab) + json_count(json_member(vocabulary->root, "added_tokens"));
    if (folder->vocabulary > 2 * tokens + PADDING_MAX)
        return fail("%s: it has %lld tokens, but the embedding has %lld rows", vocabulary->path,
                    (long long)tokens, (long long)folder->vocabulary);
    bool scored = !strcmp(vocabulary->rules.model, "t5");
    if (!(scored ? json_element(vocab, 0) : json_first(vocab).value))
        return fail("%s: there is no vocabulary in it", vocabulary->path);
    vocabulary->texts = arena_array(folder->arena, TextSpan, folder->vocabulary);
    vocabulary->kinds = arena_array(folder->arena, int32_t, folder->vocabulary);
    vocabulary->scores = arena_array(folder->arena, float, folder->vocabulary);
    if (scored ? read_list(vocabulary, vocab) : read_map(vocabulary, vocab)) return -1;
    if (read_added(vocabulary) || read_unknown(vocabulary)) return -1;
    for (int64_t id = 0; id < folder->vocabulary; id++) {
        if (vocabulary->texts[id].at) continue;
        const char *text = arena_print(folder->arena, "[PAD%lld]", (long long)id);
        if (add_token(vocabulary, id, (TextSpan){text, strlen(text)}, UNUSED)) return -1;
    }
    return 0;
}

// ---- merges ------------------------------------------------------------------------------------

// "a b", or ["a", "b"] as newer files have it.
static int read_merge(Vocabulary *vocabulary, const Json *merge, TextSpan *out) {
    TextSpan left, right;
    if (json_text(merge, out)) return 0;
    if (json_count(merge) != 2 || !json_text(json_element(merge, 0), &left) ||
        !json_text(json_element(merge, 1), &right) || memchr(left.at, ' ', left.length) ||
        memchr(right.at, ' ', right.length))
        return -1;
    Text text = text_new(vocabulary->folder->arena);
    text_add_bytes(&text, left.at, left.length);
    text_add(&text, " ");
    text_add_bytes(&text, right.at, right.length);
    *out = (TextSpan){text.at, text.count};
    return 0;
}

static int read_merges(Vocabulary *vocabulary) {
    const Json *merges = json_member(vocabulary->model, "merges");
    vocabulary->merge_count = json_count(merges);
    vocabulary->merges = arena_array(vocabulary->folder->arena, TextSpan, vocabulary->merge_count);
    for (int64_t i = 0; i < vocabulary->merge_count; i++) {
        if (read_merge(vocabulary, json_element(merges, i), &vocabulary->merges[i]))
            return fail("%s: merge %lld is neither \"a b\" nor [\"a\", \"b\"]", vocabulary->path,
                        (long long)i);
    }
    return 0;
}

// The token that a merge makes; -1 with a message.
static int32_t find_merged(const Vocabulary *vocabulary, int64_t rank, char *room) {
    TextSpan merge = vocabulary->merges[rank];
    const char *space = memchr(merge.at, ' ', merge.length);
    size_t left = space ? (size_t)(space - merge.at) : 0;
    if (left) {
        memcpy(room, merge.at, left);
        memcpy(room + left, space + 1, merge.length - left - 1);
        int32_t id = find_text(vocabulary, (TextSpan){room, merge.length - 1});
        if (id >= 0) return id;
    }
    return fail("%s: merge %lld, '%.*s', makes no token of the vocabulary", vocabulary->path,
                (long long)rank, shown(merge), merge.at);
}

// Ways to put this token together of two others; none of sentencepiece's is as long as SPLIT_MAX.
static int64_t count_splits(const Vocabulary *vocabulary, TextSpan text) {
    int64_t count = 0;
    if (text.length > SPLIT_MAX) return 0;
    for (size_t i = 1; i < text.length; i++) {
        if (((unsigned char)text.at[i] & 0xc0) == 0x80) continue;  // inside a character
        count += find_text(vocabulary, (TextSpan){text.at, i}) >= 0 &&
                 find_text(vocabulary, (TextSpan){text.at + i, text.length - i}) >= 0;
    }
    return count;
}

static void put_scores(const Vocabulary *vocabulary) {
    gguf_put_array_f32(vocabulary->folder->writer, "tokenizer.ggml.scores", vocabulary->scores,
                       vocabulary->folder->vocabulary);
}

// Sentencepiece has scores and no merges: two neighbours become one if their text is a token. Files
// of its models, written as merges, have every such pair, and the rank of a token's first merge
// orders as its score does. Files with fewer merges were never sentencepiece's, and keep them.
static int put_scores_or_merges(Vocabulary *vocabulary) {
    Folder *folder = vocabulary->folder;
    size_t longest = 1;
    int64_t splits = 0, merged = 0;
    for (int64_t i = 0; i < vocabulary->merge_count; i++) {
        longest = longest > vocabulary->merges[i].length ? longest : vocabulary->merges[i].length;
    }
    char *room = arena_alloc(folder->arena, longest);
    for (int64_t rank = vocabulary->merge_count - 1; rank >= 0; rank--) {
        int32_t id = find_merged(vocabulary, rank, room);
        if (id < 0) return -1;
        vocabulary->scores[id] = -(float)rank;
        merged += vocabulary->kinds[id] == NORMAL;
    }
    for (int64_t id = 0; id < folder->vocabulary; id++) {
        if (vocabulary->kinds[id] != NORMAL) continue;
        splits += count_splits(vocabulary, vocabulary->texts[id]);
    }
    if (splits != merged) {
        gguf_put_array_text(folder->writer, "tokenizer.ggml.merges", vocabulary->merges,
                            vocabulary->merge_count);
        return 0;
    }
    put_scores(vocabulary);
    return 0;
}

// ---- sentencepiece's map of characters ---------------------------------------------------------

// Base64 of RFC 4648, without line breaks.
static int put_charsmap(const Vocabulary *vocabulary) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    TextSpan text = vocabulary->rules.charsmap;
    uint32_t bits = 0;
    int64_t count = 0;
    uint8_t *bytes = arena_alloc(vocabulary->folder->arena, text.length + 1);
    while (text.length && text.at[text.length - 1] == '=') text.length--;
    for (size_t i = 0; i < text.length; i++) {
        const char *digit = memchr(digits, text.at[i], sizeof digits - 1);
        if (!digit) return fail("%s: precompiled_charsmap is not base64", vocabulary->path);
        bits = bits << 6 | (uint32_t)(digit - digits);
        if (i % 4) bytes[count++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
    }
    if (count)
        gguf_put_array_u8(vocabulary->folder->writer, "tokenizer.ggml.precompiled_charsmap", bytes,
                          count);
    return 0;
}

// ---- ids of special tokens ---------------------------------------------------------------------

// A token's text is given as text or as {"content": text}; false if it is not given.
static bool named_text(const Vocabulary *vocabulary, const char *name, TextSpan *text) {
    const Json *places[] = {json_member(vocabulary->settings, name),
                            json_member(vocabulary->special_map, name)};
    for (int i = 0; i < COUNT_OF(places); i++) {
        if (json_text(places[i], text) || json_text(json_member(places[i], "content"), text))
            return true;
    }
    return false;
}

typedef struct {
    int32_t at[GGUF_ENDS_MAX];
    int count;
} Ids;

static int add_id(const Vocabulary *vocabulary, const Json *json, const char *name, Ids *ids) {
    int64_t id;
    if (!json_int(json, &id) || id < 0 || id >= vocabulary->folder->vocabulary)
        return fail("%s: %s must be a token's id, below %lld", vocabulary->folder->path, name,
                    (long long)vocabulary->folder->vocabulary);
    for (int i = 0; i < ids->count; i++) {
        if (ids->at[i] == id) return 0;
    }
    if (ids->count == GGUF_ENDS_MAX)
        return fail("%s: %s has more than %d ids", vocabulary->folder->path, name, GGUF_ENDS_MAX);
    ids->at[ids->count++] = (int32_t)id;
    return 0;
}

// A number or a list of numbers.
static int add_ids(const Vocabulary *vocabulary, const Json *config, const char *name, Ids *ids) {
    const Json *json = json_member(config, name);
    double number;
    if (!json) return 0;
    if (json_number(json, &number)) return add_id(vocabulary, json, name, ids);
    for (int64_t i = 0; i < json_count(json); i++) {
        if (add_id(vocabulary, json_element(json, i), name, ids)) return -1;
    }
    return 0;
}

// The tokenizer's own comes first, then what generation stops at.
static int read_ids(const Vocabulary *vocabulary, const Json *generation, const char *token,
                    const char *token_id, Ids *ids) {
    TextSpan text;
    *ids = (Ids){0};
    if (named_text(vocabulary, token, &text)) {
        int32_t id = find_text(vocabulary, text);
        if (id < 0)
            return fail("%s: the %s '%.*s' is not in the vocabulary", vocabulary->path, token,
                        shown(text), text.at);
        ids->at[ids->count++] = id;
    }
    if (add_ids(vocabulary, generation, token_id, ids)) return -1;
    return ids->count ? 0 : add_ids(vocabulary, vocabulary->folder->config, token_id, ids);
}

// What puts BOS in front, if the settings do not say: a template that begins with a special token.
static bool template_begins(const Json *processor) {
    const Json *list = json_member(processor, "processors");
    for (int64_t i = 0; i < json_count(list); i++) {
        if (template_begins(json_element(list, i))) return true;
    }
    return json_member(json_element(json_member(processor, "single"), 0), "SpecialToken") != NULL;
}

static int put_ids(const Vocabulary *vocabulary, const Json *generation) {
    GgufWriter *writer = vocabulary->folder->writer;
    Ids begin, end, pad;
    bool adds = template_begins(json_member(vocabulary->root, "post_processor"));
    if (read_ids(vocabulary, generation, "bos_token", "bos_token_id", &begin) ||
        read_ids(vocabulary, generation, "eos_token", "eos_token_id", &end) ||
        read_ids(vocabulary, NULL, "pad_token", "pad_token_id", &pad))
        return -1;
    json_truth(json_member(vocabulary->settings, "add_bos_token"), &adds);
    if (begin.count) gguf_put_int(writer, "tokenizer.ggml.bos_token_id", begin.at[0]);
    if (end.count) gguf_put_int(writer, "tokenizer.ggml.eos_token_id", end.at[0]);
    if (pad.count) gguf_put_int(writer, "tokenizer.ggml.padding_token_id", pad.at[0]);
    if (end.count > 1) gguf_put_array_i32(writer, GGUF_ENDS, end.at, end.count);
    gguf_put_bool(writer, "tokenizer.ggml.add_bos_token", adds && begin.count);
    return 0;
}

// ---- the chat template -------------------------------------------------------------------------

// One text, or a list of {"name": ..., "template": ...}.
static const Json *settings_template(const Vocabulary *vocabulary) {
    const Json *json = json_member(vocabulary->settings, "chat_template");
    TextSpan text;
    if (json_text(json, &text)) return json;
    for (int64_t i = 0; i < json_count(json); i++) {
        const Json *entry = json_element(json, i);
        if (json_is(json_member(entry, "name"), "default")) return json_member(entry, "template");
    }
    return NULL;
}

static int put_template(const Vocabulary *vocabulary) {
    static const char file_name[] = "chat_template.jinja", key[] = "tokenizer.chat_template";
    Folder *folder = vocabulary->folder;
    TextSpan text;
    if (!folder_has(folder, file_name)) {
        if (json_text(settings_template(vocabulary), &text))
            gguf_put_span(folder->writer, key, text);
        return 0;
    }
    FileBytes file;
    if (file_map(folder_path(folder, file_name), &file)) return -1;
    gguf_put_span(folder->writer, key, (TextSpan){(const char *)file.at, file.size});
    file_unmap(&file);
    return 0;
}

// ---- all of it ---------------------------------------------------------------------------------

static int put_vocabulary(Vocabulary *vocabulary) {
    Folder *folder = vocabulary->folder;
    const FolderRules *rules = &vocabulary->rules;
    bool bytes = !strcmp(rules->model, "gpt2");
    gguf_put_text(folder->writer, "tokenizer.ggml.model", rules->model);
    gguf_put_text(folder->writer, "tokenizer.ggml.pre", bytes ? rules->pre : "default");
    gguf_put_array_text(folder->writer, "tokenizer.ggml.tokens", vocabulary->texts,
                        folder->vocabulary);
    gguf_put_array_i32(folder->writer, "tokenizer.ggml.token_type", vocabulary->kinds,
                       folder->vocabulary);
    if (bytes) {
        gguf_put_array_text(folder->writer, "tokenizer.ggml.merges", vocabulary->merges,
                            vocabulary->merge_count);
        return 0;
    }
    gguf_put_bool(folder->writer, "tokenizer.ggml.add_space_prefix", rules->prefix);
    gguf_put_bool(folder->writer, "tokenizer.ggml.remove_extra_whitespaces", rules->single);
    if (put_charsmap(vocabulary)) return -1;
    if (!strcmp(rules->model, "llama")) return put_scores_or_merges(vocabulary);
    put_scores(vocabulary);
    return 0;
}

static int read_all(Vocabulary *vocabulary, const Json *generation) {
    if (folder_read_rules(vocabulary->folder, vocabulary->path, vocabulary->root,
                          &vocabulary->rules) ||
        read_tokens(vocabulary) || read_merges(vocabulary) || put_vocabulary(vocabulary))
        return -1;
    return put_ids(vocabulary, generation) || put_template(vocabulary) ? -1 : 0;
}

// A file that need not be there: then *root is NULL.
static int open_optional(const Folder *folder, const char *name, Json **root) {
    *root = NULL;
    if (!folder_has(folder, name)) return 0;
    *root = json_open(folder_path(folder, name));
    return *root ? 0 : -1;
}

int folder_read_tokenizer(Folder *folder) {
    Vocabulary vocabulary = {.folder = folder, .path = folder_path(folder, "tokenizer.json")};
    Json *root = NULL, *settings = NULL, *special = NULL, *generation = NULL;
    if (!folder_has(folder, "tokenizer.json"))
        return fail("%s is missing; load the tokenizer in transformers and save it with "
                    "save_pretrained",
                    vocabulary.path);
    root = json_open(vocabulary.path);
    int status = root ? 0 : -1;
    if (!status) status = open_optional(folder, "tokenizer_config.json", &settings);
    if (!status) status = open_optional(folder, "special_tokens_map.json", &special);
    if (!status) status = open_optional(folder, "generation_config.json", &generation);
    vocabulary.root = root;
    vocabulary.model = json_member(root, "model");
    vocabulary.settings = settings;
    vocabulary.special_map = special;
    vocabulary.by_text = map_new(folder->arena);
    if (!status) status = read_all(&vocabulary, generation);
    json_close(root);
    json_close(settings);
    json_close(special);
    json_close(generation);
    return status;
}
