/* tokenizer_unigram.c - sentencepiece's unigram, as T5 has it.
 * In: a text.  Out: ids.
 * Invariant: of all ways to write the normalised text as tokens, the one with the highest sum of
 * scores is found, from left to right: the best way to each place needs only the best ways to the
 * places before it. Sums are rounded as in sentencepiece's unigram_model.cc, EncodeOptimized.
 *   {"a": -1, "b": -1, "ab": -1.5} and "ab" -> "ab", since -1.5 > -1 - 1                         */
#include "io/tokenizer.h"

#include <float.h>

#define UNKNOWN_PENALTY 10.0f  // below the lowest score: kUnkPenalty there

typedef struct {
    Pieces pieces;
    const Trie *trie;  // of all tokens that stand for text
    float unknown, highest;
} Unigram;

typedef struct {
    int32_t token, start;  // of the best way's last token; start -1: no way yet
    float sum;
} Best;

static int unigram_open(Tokenizer *tokenizer, const Gguf *gguf, Arena *scratch) {
    Unigram *unigram = tokenizer->own = arena_object(tokenizer->arena, Unigram);
    LIST(TextSpan) texts = {0};
    IdList ids = {0};
    float lowest = FLT_MAX;
    if (!tokenizer->has_scores) {
        return fail("%s: a unigram tokenizer needs tokenizer.ggml.scores", tokenizer->path);
    }
    if (pieces_load(&unigram->pieces, tokenizer, gguf, scratch)) return -1;
    unigram->highest = FLT_MIN;  // and not -FLT_MAX, as there
    for (int32_t id = 0; id < tokenizer->token_count; id++) {
        const Token *token = &tokenizer->tokens[id];
        if (token->kind == NORMAL && token->score < lowest) lowest = token->score;
        if (token->kind == NORMAL && token->score > unigram->highest)
            unigram->highest = token->score;
        if (!pieces_has(tokenizer, id) || token->kind == UNUSED || token->cut) continue;
        if (!token->text.length) continue;
        bool escape = token->kind == USER_DEFINED;
        *list_add(scratch, &texts) = escape ? pieces_escaped(scratch, token->text) : token->text;
        *list_add(scratch, &ids) = id;
    }
    unigram->unknown = lowest - UNKNOWN_PENALTY;
    unigram->trie = trie_new(tokenizer->arena, texts.at, ids.at, ids.count);
    return 0;
}

// A sum is compared before it is rounded to float: a way better by less than that still wins.
static void consider(Best *best, size_t start, double sum, int32_t token) {
    if (best->start >= 0 && !(sum > (double)best->sum)) return;
    *best = (Best){token, (int32_t)start, (float)sum};
}

// Goes on from the best way to `start`; the character there has `size` bytes.
static void extend(const Tokenizer *tokenizer, Best *best, TextSpan text, size_t start,
                   size_t size) {
    const Unigram *unigram = tokenizer->own;
    float before = best[start].sum;
    bool has_character = false;
    int32_t node = 0;
    for (size_t end = start; end < text.length;) {
        node = trie_step(unigram->trie, node, text.at[end++]);
        if (node < 0) break;
        int32_t id = trie_value(unigram->trie, node);
        if (id < 0) continue;
        double score = (double)tokenizer->tokens[id].score;
        if (tokenizer->tokens[id].kind == USER_DEFINED)
            score = (double)((float)(end - start) * unigram->highest) - 0.1;
        consider(&best[end], start, score + (double)before, id);
        has_character = has_character || end - start == size;
    }
    if (has_character) return;
    float sum = unigram->unknown + before;
    consider(&best[start + size], start, (double)sum, tokenizer->unknown);
}

static void emit(Encoding *encoding, const Best *best, TextSpan text) {
    const Tokenizer *tokenizer = encoding->tokenizer;
    const Unigram *unigram = tokenizer->own;
    LIST(int32_t) ends = {0};  // from the last to the first
    for (int32_t end = (int32_t)text.length; end > 0; end = best[end].start) {
        *list_add(encoding->scratch, &ends) = end;
    }
    for (int32_t i = ends.count - 1; i >= 0; i--) {
        const Best *last = &best[ends.at[i]];
        if (last->token >= 0 && last->token != tokenizer->unknown) {
            encoding_add(encoding, last->token);
        } else {
            pieces_add_unknown(encoding, &unigram->pieces, text.at + last->start,
                               (size_t)(ends.at[i] - last->start));
        }
    }
}

static int unigram_encode(Encoding *encoding, const char *text, size_t length) {
    const Unigram *unigram = encoding->tokenizer->own;
    int32_t start = encoding->ids->count;
    Text out = text_new(encoding->scratch);
    if (charsmap_run(&unigram->pieces.charsmap, text, length, &out)) return -1;
    TextSpan normal = {out.at, out.count};
    Best *best = arena_array(encoding->scratch, Best, normal.length + 1);
    for (size_t i = 1; i <= normal.length; i++) best[i].start = -1;
    for (size_t i = 0, size; i < normal.length; i += size) {
        size = utf8_length(normal.at + i, normal.length - i);
        extend(encoding->tokenizer, best, normal, i, size);
    }
    emit(encoding, best, normal);
    pieces_fuse_unknown(encoding, start);
    return 0;
}

const TokenizerKind tokenizer_unigram = {
    .model = "t5",
    .finds_user_defined = true,
    .open = unigram_open,
    .encode = unigram_encode,
};
