/* tokenizer_spm.c - sentencepiece's BPE, as Llama 2 and Mistral have it.
 * In: a text.  Out: ids.
 * Invariant: of all neighbours that together are a token, those whose token has the highest score
 * merge first, the leftmost of equals (sentencepiece's bpe_model.cc).
 *   "the end" -> "_the_end", where _ is U+2581 -> _the | _end;   a character without a token
 *   becomes the tokens of its bytes
 * A vocabulary without scores has merges instead, as Hugging Face's tokenizer.json writes it.  */
#define _GNU_SOURCE  // qsort_r
#include "io/tokenizer.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { NO_TOKEN = -1, FROZEN = -2 };  // Symbol.token; FROZEN - id: user-defined, never merged

typedef struct {
    Pieces pieces;
    bool by_score;
    Merges merges;   // unless by_score
    int32_t *ranks;  // by token, 0 for the highest score; equal scores have equal ranks
    size_t longest;  // token, in bytes
    bool has_unused;
    bool crosses_words;  // some token has a space behind something else
} Spm;

static int by_score(const void *a, const void *b, void *context) {
    const Token *tokens = context;
    float left = tokens[*(const int32_t *)a].score, right = tokens[*(const int32_t *)b].score;
    return (left < right) - (left > right);
}

static void load_ranks(Spm *spm, const Tokenizer *tokenizer, Arena *scratch) {
    int32_t count = tokenizer->token_count, rank = 0;
    int32_t *order = arena_array(scratch, int32_t, count);
    for (int32_t i = 0; i < count; i++) order[i] = i;
    qsort_r(order, (size_t)count, sizeof *order, by_score, tokenizer->tokens);
    spm->ranks = arena_array(tokenizer->arena, int32_t, count);
    for (int32_t i = 0; i < count; i++) {
        if (i && tokenizer->tokens[order[i]].score < tokenizer->tokens[order[i - 1]].score) rank++;
        spm->ranks[order[i]] = rank;
    }
}

// 0 if no space begins here.
static size_t space_at(const char *at, size_t left) {
    if (left && *at == ' ') return 1;
    return left >= SPACE_MARK_BYTES && !memcmp(at, SPACE_MARK, SPACE_MARK_BYTES) ? 3 : 0;
}

static bool crosses_words(TextSpan text) {
    bool after_other = false;
    for (size_t i = 0; i < text.length;) {
        size_t space = space_at(text.at + i, text.length - i);
        if (space && after_other) return true;
        after_other = !space;
        i += space ? space : 1;
    }
    return false;
}

static int spm_open(Tokenizer *tokenizer, const Gguf *gguf, Arena *scratch) {
    Spm *spm = tokenizer->own = arena_object(tokenizer->arena, Spm);
    tokenizer->adds_bos = true;
    spm->pieces.charsmap.prefix = true;
    spm->by_score = tokenizer->has_scores;
    if (pieces_load(&spm->pieces, tokenizer, gguf, scratch)) return -1;
    for (int32_t id = 0; id < tokenizer->token_count; id++) {
        const Token *token = &tokenizer->tokens[id];
        if (!pieces_has(tokenizer, id) || token->cut) continue;
        if (token->text.length > spm->longest) spm->longest = token->text.length;
        spm->has_unused = spm->has_unused || token->kind == UNUSED;
        spm->crosses_words = spm->crosses_words || crosses_words(token->text);
    }
    if (!spm->by_score) return merges_load(&spm->merges, tokenizer, gguf, scratch);
    load_ranks(spm, tokenizer, scratch);
    return 0;
}

static int32_t find_piece(const Tokenizer *tokenizer, const char *at, size_t length) {
    int32_t id = tokenizer_find_text(tokenizer, at, length);
    return id >= 0 && pieces_has(tokenizer, id) ? id : NO_TOKEN;
}

static void split(Encoding *encoding, const char *word, size_t length) {
    const Tokenizer *tokenizer = encoding->tokenizer;
    const Spm *spm = tokenizer->own;
    const Trie *user_defined = spm->pieces.user_defined;
    size_t characters = 0;
    for (size_t i = 0; i < length; i++) characters += ((uint8_t)word[i] & 0xc0) != 0x80;
    merge_reserve(encoding, characters);
    for (size_t i = 0, size; i < length; i += size) {
        int32_t frozen = -1;
        if (user_defined) frozen = trie_longest(user_defined, word + i, length - i, &size);
        if (frozen < 0) size = utf8_length(word + i, length - i);
        merge_add(encoding, frozen < 0 ? find_piece(tokenizer, word + i, size) : FROZEN - frozen,
                  i);
    }
}

static Join join(Encoding *encoding, const Symbol *left, const Symbol *right) {
    const Tokenizer *tokenizer = encoding->tokenizer;
    const Spm *spm = tokenizer->own;
    if (left->token <= FROZEN || right->token <= FROZEN) return (Join){-1, -1};
    if (!spm->by_score) return merges_find(&spm->merges, left->token, right->token);
    size_t length = merge_end(encoding, right) - (size_t)left->start;
    if (length > spm->longest) return (Join){-1, -1};
    int32_t id = find_piece(tokenizer, encoding->word + left->start, length);
    if (id < 0) return (Join){-1, -1};
    if (tokenizer->tokens[id].kind == UNUSED) encoding->halves[id] = right->start - left->start;
    return (Join){spm->ranks[id], id};
}

// An unused token becomes the two that it was last put together from, and so on.
static void emit_unused(Encoding *encoding, const char *at, size_t length) {
    const Tokenizer *tokenizer = encoding->tokenizer;
    const Spm *spm = tokenizer->own;
    LIST(TextSpan) left = {0};
    *list_add(encoding->scratch, &left) = (TextSpan){at, length};
    while (left.count) {
        TextSpan text = left.at[--left.count];
        int32_t id = find_piece(tokenizer, text.at, text.length);
        bool unused = id >= 0 && tokenizer->tokens[id].kind == UNUSED;
        size_t half = unused ? (size_t)encoding->halves[id] : 0;
        if (half) {
            *list_add(encoding->scratch, &left) = (TextSpan){text.at + half, text.length - half};
            *list_add(encoding->scratch, &left) = (TextSpan){text.at, half};
        } else if (id >= 0) {
            encoding_add(encoding, id);
        } else {
            pieces_add_unknown(encoding, &spm->pieces, text.at, text.length);
        }
    }
}

static void emit(Encoding *encoding, const Symbol *symbol) {
    const Spm *spm = encoding->tokenizer->own;
    const char *at = encoding->word + symbol->start;
    size_t length = merge_end(encoding, symbol) - (size_t)symbol->start;
    if (symbol->token <= FROZEN) {
        encoding_add(encoding, FROZEN - symbol->token);
    } else if (symbol->token == NO_TOKEN) {
        pieces_add_unknown(encoding, &spm->pieces, at, length);
    } else if (encoding->tokenizer->tokens[symbol->token].kind == UNUSED) {
        emit_unused(encoding, at, length);
    } else {
        encoding_add(encoding, symbol->token);
    }
}

// Where the word that begins the text ends: no token goes on from there.
static size_t word_end(const char *text, size_t length) {
    bool after_other = false;
    for (size_t i = 0; i < length;) {
        size_t space = space_at(text + i, length - i);
        if (space && after_other) return i;
        after_other = !space;
        i += space ? space : 1;
    }
    return length;
}

static int spm_encode(Encoding *encoding, const char *text, size_t length) {
    static const MergeRule rule = {split, join, emit};
    const Spm *spm = encoding->tokenizer->own;
    int32_t start = encoding->ids->count;
    Text normal = text_new(encoding->scratch);
    if (charsmap_run(&spm->pieces.charsmap, text, length, &normal)) return -1;
    // What an unused token is put together from may differ between words; the last one counts.
    bool whole = spm->crosses_words || spm->has_unused;
    if (spm->has_unused && !encoding->halves) {
        int32_t count = encoding->tokenizer->token_count;
        encoding->halves = arena_array(encoding->scratch, int32_t, count);
    }
    for (size_t at = 0, size; at < normal.count; at += size) {
        size = whole ? normal.count : word_end(normal.at + at, normal.count - at);
        merge_word(encoding, &rule, normal.at + at, size);
    }
    pieces_fuse_unknown(encoding, start);
    return 0;
}

const TokenizerKind tokenizer_spm = {
    .model = "llama",
    .finds_user_defined = true,
    .open = spm_open,
    .encode = spm_encode,
};
