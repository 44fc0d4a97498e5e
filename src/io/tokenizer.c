/* tokenizer.c - text to token ids and back: the vocabulary, its special tokens, the public calls.
 * In: the tokenizer.ggml keys of a GGUF file; text.  Out: ids; bytes.
 * Invariant: a kind of tokenizer (tokenizer.h) sees the text between special tokens, whose longest
 * one wins where several begin; user-defined tokens count always, control tokens when asked: text
 * from a stranger must not end a turn.
 *   "Hello<|im_end|>" -> "Hello" | <|im_end|>                                                    */
#include "io/tokenizer.h"

#include <math.h>
#include <string.h>

enum { SEEN_FEWEST = 64, SEEN_MOST = 1 << 14, TEXT_LIMIT = 1 << 29 };
// Finding the longest token at each place of a text takes as many steps as that token has bytes,
// and the tree of all tokens' texts some thirty times as much memory.
enum { TOKEN_BYTES = 1 << 12, VOCABULARY_BYTES = 1 << 24 };
// What converters give the user-defined tokens that were added to a sentencepiece model after its
// training (llama.cpp's convert_hf_to_gguf.py); Hugging Face cuts those out before it encodes.
#define ADDED_SCORE -1000.0f

static const TokenizerKind *const kinds[] = {&tokenizer_bpe, &tokenizer_spm, &tokenizer_unigram};
static const char *const turn_ends[] = {"<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>"};
static const char *const text_ends[] = {"<|endoftext|>", "<|end_of_text|>", "<|eom_id|>"};

typedef struct {
    const Tokenizer *tokenizer;
    TextSpan text;
} TokenQuery;

static bool same_token(const void *context, int32_t id) {
    const TokenQuery *query = context;
    TextSpan text = query->tokenizer->tokens[id].text;
    return text.length == query->text.length && !memcmp(text.at, query->text.at, text.length);
}

int32_t tokenizer_find_text(const Tokenizer *tokenizer, const char *at, size_t length) {
    return map_find(tokenizer->token_by_text, hash_bytes(at, length, secret()), same_token,
                    &(TokenQuery){tokenizer, {at, length}});
}

int tokenizer_load_bool(const Gguf *gguf, const char *name, bool *value) {
    return gguf_find_key(gguf, name) ? gguf_bool(gguf, name, value) : 0;
}

static int wrong_count(const Tokenizer *tokenizer, const char *name, int64_t count) {
    return fail("%s: the vocabulary has %d tokens but %s has %lld entries", tokenizer->path,
                tokenizer->token_count, name, (long long)count);
}

static int load_kinds(Tokenizer *tokenizer, const Gguf *gguf, Arena *scratch) {
    static const char name[] = "tokenizer.ggml.token_type";
    int64_t count;
    tokenizer->has_kinds = gguf_find_key(gguf, name);
    int32_t *values = NULL;
    if (tokenizer->has_kinds && !(values = gguf_array_i32(gguf, name, scratch, &count))) return -1;
    if (values && count != tokenizer->token_count) return wrong_count(tokenizer, name, count);
    for (int32_t id = 0; id < tokenizer->token_count; id++) {
        tokenizer->tokens[id].kind = values ? values[id] : NORMAL;
    }
    return 0;
}

static int load_scores(Tokenizer *tokenizer, const Gguf *gguf, Arena *scratch) {
    static const char name[] = "tokenizer.ggml.scores";
    int64_t count;
    tokenizer->has_scores = gguf_find_key(gguf, name);
    if (!tokenizer->has_scores) return 0;
    const float *scores = gguf_array_f32(gguf, name, scratch, &count);
    if (!scores) return -1;
    if (count != tokenizer->token_count) return wrong_count(tokenizer, name, count);
    for (int32_t id = 0; id < tokenizer->token_count; id++) {
        if (!isfinite(scores[id])) {
            return fail("%s: the score of token %d is %f", tokenizer->path, id, (double)scores[id]);
        }
        tokenizer->tokens[id].score = scores[id];
    }
    return 0;
}

static int load_texts(Tokenizer *tokenizer, const Gguf *gguf, Arena *scratch) {
    int64_t count;
    size_t bytes = 0;
    TextSpan *texts = gguf_array_text(gguf, "tokenizer.ggml.tokens", scratch, &count);
    if (!texts) return -1;
    if (count < 1 || count > VOCABULARY_LIMIT) {
        return fail("%s: a vocabulary of %lld tokens", tokenizer->path, (long long)count);
    }
    tokenizer->token_count = (int32_t)count;
    tokenizer->tokens = arena_array(tokenizer->arena, Token, count);
    for (int64_t i = 0; i < count; i++) bytes += texts[i].length;
    if (bytes > VOCABULARY_BYTES) {
        return fail("%s: a vocabulary of %zu bytes", tokenizer->path, bytes);
    }
    char *room = arena_alloc(tokenizer->arena, bytes);
    for (int32_t id = 0; id < tokenizer->token_count; id++) {
        size_t length = texts[id].length;
        if (length > TOKEN_BYTES) {
            return fail("%s: token %d of the vocabulary has %zu bytes; %d are possible",
                        tokenizer->path, id, length, TOKEN_BYTES);
        }
        int32_t first = tokenizer_find_text(tokenizer, texts[id].at, length);
        if (first >= 0) {
            return fail("%s: tokens %d and %d of the vocabulary are the same text", tokenizer->path,
                        first, id);
        }
        if (length) memcpy(room, texts[id].at, length);
        tokenizer->tokens[id].text = tokenizer->tokens[id].bytes = (TextSpan){room, length};
        room += length;
        uint64_t hash = hash_bytes(texts[id].at, length, secret());
        map_add(tokenizer->arena, tokenizer->token_by_text, hash, id);
    }
    return 0;
}

static bool is_special(const Token *token) {
    bool kind = token->kind == CONTROL || token->kind == UNKNOWN || token->kind == USER_DEFINED;
    return kind && token->text.length > 0;
}

static bool is_cut(const Tokenizer *tokenizer, const Token *token) {
    if (!is_special(token)) return false;
    bool found_later = tokenizer->kind->finds_user_defined && tokenizer->has_scores;
    return token->kind != USER_DEFINED || !found_later || token->score <= ADDED_SCORE;
}

static const Trie *special_trie(Tokenizer *tokenizer, Arena *scratch, bool always) {
    LIST(TextSpan) texts = {0};
    IdList ids = {0};
    for (int32_t id = 0; id < tokenizer->token_count; id++) {
        const Token *token = &tokenizer->tokens[id];
        if (!token->cut || (always && token->kind != USER_DEFINED)) continue;
        *list_add(scratch, &texts) = token->text;
        *list_add(scratch, &ids) = id;
    }
    return trie_new(tokenizer->arena, texts.at, ids.at, ids.count);
}

static int load_id(const Tokenizer *tokenizer, const Gguf *gguf, const char *name, int32_t *id) {
    int64_t value = -1;
    *id = -1;
    if (!gguf_find_key(gguf, name)) return 0;
    if (gguf_int(gguf, name, &value)) return -1;
    if (value < 0 || value >= tokenizer->token_count) {
        return fail("%s: %s is %lld, but the vocabulary has %d tokens", tokenizer->path, name,
                    (long long)value, tokenizer->token_count);
    }
    *id = (int32_t)value;
    return 0;
}

static void add_end(Tokenizer *tokenizer, int32_t id) {
    if (id < 0 || tokenizer_is_end(tokenizer, id)) return;
    tokenizer->end[tokenizer->end_count++] = id;
}

static int load_ends(Tokenizer *tokenizer, const Gguf *gguf, Arena *scratch) {
    int64_t count;
    if (!gguf_find_key(gguf, GGUF_ENDS)) return 0;
    const int32_t *ids = gguf_array_i32(gguf, GGUF_ENDS, scratch, &count);
    if (!ids) return -1;
    for (int64_t i = 0; i < count; i++) {
        if (count > GGUF_ENDS_MAX || ids[i] < 0 || ids[i] >= tokenizer->token_count)
            return fail("%s: " GGUF_ENDS " must be at most %d ids of the vocabulary's %d tokens",
                        tokenizer->path, GGUF_ENDS_MAX, tokenizer->token_count);
        add_end(tokenizer, ids[i]);
    }
    return 0;
}

static int load_ids(Tokenizer *tokenizer, const Gguf *gguf) {
    int32_t eom;
    if (load_id(tokenizer, gguf, "tokenizer.ggml.bos_token_id", &tokenizer->bos)) return -1;
    if (load_id(tokenizer, gguf, "tokenizer.ggml.eos_token_id", &tokenizer->eos)) return -1;
    if (load_id(tokenizer, gguf, "tokenizer.ggml.eot_token_id", &tokenizer->eot)) return -1;
    if (load_id(tokenizer, gguf, "tokenizer.ggml.eom_token_id", &eom)) return -1;
    if (load_id(tokenizer, gguf, "tokenizer.ggml.unknown_token_id", &tokenizer->unknown)) return -1;
    for (int32_t id = 0; id < tokenizer->token_count && tokenizer->unknown < 0; id++) {
        if (tokenizer->tokens[id].kind == UNKNOWN) tokenizer->unknown = id;
    }
    for (int i = 0; i < COUNT_OF(turn_ends); i++) {
        int32_t id = tokenizer_find(tokenizer, turn_ends[i]);
        if (tokenizer->eot < 0) tokenizer->eot = id;
        add_end(tokenizer, id);
    }
    for (int i = 0; i < COUNT_OF(text_ends); i++) {
        add_end(tokenizer, tokenizer_find(tokenizer, text_ends[i]));
    }
    if (tokenizer->eot < 0) tokenizer->eot = tokenizer->eos;
    add_end(tokenizer, tokenizer->eos);
    add_end(tokenizer, tokenizer->eot);
    add_end(tokenizer, eom);
    tokenizer->adds_bos = tokenizer->adds_bos && tokenizer->bos >= 0;
    if (tokenizer_load_bool(gguf, "tokenizer.ggml.add_bos_token", &tokenizer->adds_bos)) return -1;
    if (!tokenizer->adds_bos || tokenizer->bos >= 0) return 0;
    return fail("%s: a BOS token is asked for but tokenizer.ggml.bos_token_id is missing",
                tokenizer->path);
}

static int load_kind(Tokenizer *tokenizer, const Gguf *gguf) {
    TextSpan model;
    if (gguf_text(gguf, "tokenizer.ggml.model", &model)) return -1;
    for (int i = 0; i < COUNT_OF(kinds); i++) {
        if (strlen(kinds[i]->model) != model.length) continue;
        if (!memcmp(model.at, kinds[i]->model, model.length)) tokenizer->kind = kinds[i];
    }
    if (tokenizer->kind) return 0;
    return fail("%s: tokenizer model %.*s is not supported yet; gpt2 (byte-level BPE), llama "
                "(sentencepiece BPE) and t5 (unigram) are",
                tokenizer->path, (int)min_i64((int64_t)model.length, 40), model.at);
}

static int load(Tokenizer *tokenizer, const Gguf *gguf, Arena *scratch) {
    if (load_kind(tokenizer, gguf)) return -1;
    if (load_texts(tokenizer, gguf, scratch)) return -1;
    if (load_kinds(tokenizer, gguf, scratch)) return -1;
    if (load_scores(tokenizer, gguf, scratch)) return -1;
    for (int32_t id = 0; id < tokenizer->token_count; id++) {
        tokenizer->tokens[id].cut = is_cut(tokenizer, &tokenizer->tokens[id]);
    }
    if (tokenizer->kind->open(tokenizer, gguf, scratch)) return -1;
    tokenizer->special = special_trie(tokenizer, scratch, false);
    tokenizer->always_special = special_trie(tokenizer, scratch, true);
    return load_ends(tokenizer, gguf, scratch) || load_ids(tokenizer, gguf) ? -1 : 0;
}

Tokenizer *tokenizer_open(const Gguf *gguf) {
    Arena *arena = arena_new(), *scratch = arena_new();
    Tokenizer *tokenizer = arena_object(arena, Tokenizer);
    tokenizer->arena = arena;
    tokenizer->path = arena_text(arena, gguf_path(gguf));
    tokenizer->token_by_text = map_new(arena);
    int result = load(tokenizer, gguf, scratch);
    arena_free(scratch);
    if (!result) return tokenizer;
    tokenizer_close(tokenizer);
    return NULL;
}

void tokenizer_close(Tokenizer *tokenizer) {
    if (!tokenizer) return;
    if (tokenizer->kind && tokenizer->kind->close) tokenizer->kind->close(tokenizer);
    arena_free(tokenizer->arena);
}

static int encode_part(Encoding *encoding, const char *text, size_t length) {
    return length ? encoding->tokenizer->kind->encode(encoding, text, length) : 0;
}

static int encode_text(Encoding *encoding, const Trie *special, const char *text, size_t length) {
    size_t start = 0, at = 0, size = 0;
    while (at < length) {
        int32_t id = trie_longest(special, text + at, length - at, &size);
        if (id < 0) {
            at++;
            continue;
        }
        if (encode_part(encoding, text + start, at - start)) return -1;
        encoding_add(encoding, id);
        start = at += size;
    }
    return encode_part(encoding, text + start, at - start);
}

// Words seen before are remembered in a table that grows with the text, up to SEEN_MOST.
static void make_seen(Encoding *encoding, size_t length) {
    if (length < SEEN_FEWEST) return;
    encoding->seen_count = SEEN_FEWEST;
    while (encoding->seen_count < SEEN_MOST && encoding->seen_count < length / 4)
        encoding->seen_count *= 2;
    encoding->seen = arena_array(encoding->scratch, SeenWord, encoding->seen_count);
}

int tokenizer_encode(const Tokenizer *tokenizer, Arena *arena, const char *text, size_t length,
                     int flags, IdList *ids) {
    if (length > TEXT_LIMIT) return fail("a text of %zu bytes is too long to tokenize", length);
    Encoding encoding = {
        .tokenizer = tokenizer, .scratch = arena_new(), .arena = arena, .ids = ids};
    const Trie *special = flags & TOKENIZE_SPECIAL ? tokenizer->special : tokenizer->always_special;
    Text valid = text_new(encoding.scratch);
    Utf8Stream stream = {0};
    size_t size;
    utf8_push(&stream, text, length, &valid);
    utf8_finish(&stream, &valid);
    bool has_bos = trie_longest(special, valid.at, valid.count, &size) == tokenizer->bos;
    if (flags & TOKENIZE_BOS && tokenizer->adds_bos && !has_bos)
        encoding_add(&encoding, tokenizer->bos);
    make_seen(&encoding, valid.count);
    int result = encode_text(&encoding, special, valid.at, valid.count);
    arena_free(encoding.scratch);
    return result;
}

TextSpan tokenizer_piece(const Tokenizer *tokenizer, int32_t id) {
    if (id < 0 || id >= tokenizer->token_count) {
        fatal("tokenizer_piece: id %d, but the vocabulary has %d tokens", id,
              tokenizer->token_count);
    }
    return tokenizer->tokens[id].bytes;
}

void tokenizer_decode(const Tokenizer *tokenizer, const int32_t *ids, int64_t count, Text *out) {
    bool first = true;  // of a part that encode would have put a space in front of
    for (int64_t i = 0; i < count; i++) {
        TextSpan piece = tokenizer_piece(tokenizer, ids[i]);
        bool drop = first && tokenizer->drops_space && piece.length && *piece.at == ' ';
        first = tokenizer->tokens[ids[i]].cut;
        if (drop && !first) piece = (TextSpan){piece.at + 1, piece.length - 1};
        text_add_bytes(out, piece.at, piece.length);
    }
}

int32_t tokenizer_count(const Tokenizer *tokenizer) { return tokenizer->token_count; }

int32_t tokenizer_find(const Tokenizer *tokenizer, const char *text) {
    int32_t id = tokenizer_find_text(tokenizer, text, strlen(text));
    return id >= 0 && is_special(&tokenizer->tokens[id]) ? id : -1;
}

int32_t tokenizer_bos(const Tokenizer *tokenizer) { return tokenizer->bos; }

int32_t tokenizer_eos(const Tokenizer *tokenizer) { return tokenizer->eos; }

int32_t tokenizer_eot(const Tokenizer *tokenizer) { return tokenizer->eot; }

bool tokenizer_is_end(const Tokenizer *tokenizer, int32_t id) {
    for (int i = 0; i < tokenizer->end_count; i++) {
        if (tokenizer->end[i] == id) return true;
    }
    return false;
}

bool tokenizer_is_control(const Tokenizer *tokenizer, int32_t id) {
    if (id < 0 || id >= tokenizer->token_count) return false;
    int32_t kind = tokenizer->tokens[id].kind;
    return kind == CONTROL || kind == UNKNOWN;
}
