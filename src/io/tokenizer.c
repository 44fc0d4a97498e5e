/* tokenizer.c - text to token ids and back, by byte-level BPE.
 * In: the vocabulary and merges of a GGUF file; text.  Out: ids; bytes.
 * Invariant: of all neighbours in a word that have a merge, those of the lowest rank merge first,
 * the leftmost of equals; a word ends where the splitter or a special token cuts.
 *   "Hello<|im_end|>" -> "Hello" | <|im_end|>,  H e l l o -> H el l o -> H ell o -> ... -> Hello
 * The vocabulary writes each byte as a visible character: 'A' as itself, ' ' as U+0120
 * (bytes_to_unicode in GPT-2's encoder.py). Control and user-defined tokens are plain text.    */
#define _GNU_SOURCE  // qsort_r
#include "io/io.h"

#include <stdlib.h>
#include <string.h>

enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4 };  // tokenizer.ggml.token_type
enum { CHARACTERS = 0x144, END_IDS = 16, VOCABULARY_LIMIT = 1 << 24, TEXT_LIMIT = 1 << 29 };

typedef struct {
    TextSpan text;   // as the vocabulary has it
    TextSpan bytes;  // what it stands for
    int32_t kind;
} Token;

typedef struct {
    int32_t left, right, result;
} Merge;

struct Tokenizer {
    Arena *arena;
    const char *path;
    Splitter *splitter;
    Token *tokens;
    Merge *merges;     // by rank
    int32_t *special;  // tokens cut out before splitting: by first byte, then longest first
    int32_t token_count, merge_count, special_count;
    int32_t special_from[257];    // those that begin with byte b: from[b] to from[b + 1]
    int32_t byte_token[256];      // -1 where the vocabulary has none
    int16_t byte_of[CHARACTERS];  // what a visible character stands for, or -1
    int32_t bos, eos, eot, end[END_IDS];
    int end_count;
    bool adds_bos;
    Map *token_by_text, *merge_by_pair;
};

static const char *const turn_ends[] = {"<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>"};
static const char *const text_ends[] = {"<|endoftext|>", "<|end_of_text|>", "<|eom_id|>"};

// Bytes that are visible in Latin-1 stand for themselves; the others take U+0100 and on, in order.
static int character_of(int byte) {
    if (byte <= 0x20) return 0x100 + byte;
    if (byte >= 0x7f && byte <= 0xa0) return 0x121 + byte - 0x7f;
    return byte == 0xad ? 0x143 : byte;
}

static void add_character(Text *out, int byte) {
    int character = character_of(byte);
    char utf8[2] = {(char)(0xc0 | character >> 6), (char)(0x80 | (character & 0x3f))};
    if (character < 0x80) {
        text_add_bytes(out, &(char){(char)character}, 1);
    } else {
        text_add_bytes(out, utf8, sizeof utf8);
    }
}

typedef struct {
    const Tokenizer *tokenizer;
    TextSpan text;
} TokenQuery;

static bool same_token(const void *context, int32_t id) {
    const TokenQuery *query = context;
    TextSpan text = query->tokenizer->tokens[id].text;
    return text.length == query->text.length && !memcmp(text.at, query->text.at, text.length);
}

static int32_t find_token(const Tokenizer *tokenizer, const char *at, size_t length) {
    return map_find(tokenizer->token_by_text, hash_bytes(at, length, 0), same_token,
                    &(TokenQuery){tokenizer, {at, length}});
}

// False if a character stands for no byte: the token is then plain text.
static bool decode(const Tokenizer *tokenizer, TextSpan text, char *bytes, size_t *count) {
    *count = 0;
    for (size_t i = 0; i < text.length; i++) {
        int character = (unsigned char)text.at[i];
        if (character >= 0x80) {
            int next = i + 1 < text.length ? (unsigned char)text.at[++i] : 0;
            if (character >> 5 != 6 || next >> 6 != 2) return false;
            character = (character & 0x1f) << 6 | (next & 0x3f);
        }
        if (character >= CHARACTERS || tokenizer->byte_of[character] < 0) return false;
        bytes[(*count)++] = (char)tokenizer->byte_of[character];
    }
    return true;
}

static void load_token(Tokenizer *tokenizer, int32_t id, TextSpan text, int32_t kind, char *room) {
    Token *token = &tokenizer->tokens[id];
    size_t count;
    memcpy(room, text.at, text.length);
    token->kind = kind;
    token->text = token->bytes = (TextSpan){room, text.length};
    if (kind == CONTROL || kind == USER_DEFINED || kind == UNKNOWN) return;
    char *bytes = room + text.length;
    if (decode(tokenizer, token->text, bytes, &count)) token->bytes = (TextSpan){bytes, count};
}

static int load_kinds(Tokenizer *tokenizer, const Gguf *gguf, Arena *scratch, int32_t **kinds) {
    int64_t count;
    *kinds = NULL;
    if (!gguf_find_key(gguf, "tokenizer.ggml.token_type")) return 0;
    *kinds = gguf_array_i32(gguf, "tokenizer.ggml.token_type", scratch, &count);
    if (!*kinds) return -1;
    if (count == tokenizer->token_count) return 0;
    return fail("%s: the vocabulary has %d tokens but tokenizer.ggml.token_type has %lld entries",
                tokenizer->path, tokenizer->token_count, (long long)count);
}

static int load_tokens(Tokenizer *tokenizer, const Gguf *gguf, Arena *scratch) {
    int64_t count;
    int32_t *kinds;
    size_t bytes = 0;
    TextSpan *texts = gguf_array_text(gguf, "tokenizer.ggml.tokens", scratch, &count);
    if (!texts) return -1;
    if (count < 1 || count > VOCABULARY_LIMIT) {
        return fail("%s: a vocabulary of %lld tokens", tokenizer->path, (long long)count);
    }
    tokenizer->token_count = (int32_t)count;
    tokenizer->tokens = arena_array(tokenizer->arena, Token, count);
    if (load_kinds(tokenizer, gguf, scratch, &kinds)) return -1;
    for (int64_t i = 0; i < count; i++) bytes += texts[i].length;
    char *room = arena_alloc(tokenizer->arena, 2 * bytes);  // a token's text, then its bytes
    for (int32_t id = 0; id < tokenizer->token_count; id++) {
        TextSpan text = texts[id];
        int32_t first = find_token(tokenizer, text.at, text.length);
        if (first >= 0) {
            return fail("%s: tokens %d and %d of the vocabulary are the same text", tokenizer->path,
                        first, id);
        }
        load_token(tokenizer, id, text, kinds ? kinds[id] : NORMAL, room);
        room += 2 * text.length;
        uint64_t hash = hash_bytes(text.at, text.length, 0);
        map_add(tokenizer->arena, tokenizer->token_by_text, hash, id);
    }
    return 0;
}

static int load_bytes(Tokenizer *tokenizer, Arena *scratch) {
    int found = 0;
    for (int byte = 0; byte < 256; byte++) {
        Text text = text_new(scratch);
        add_character(&text, byte);
        tokenizer->byte_token[byte] = find_token(tokenizer, text.at, text.count);
        found += tokenizer->byte_token[byte] >= 0;
    }
    if (found) return 0;
    return fail("%s: the vocabulary has no token for any single byte", tokenizer->path);
}

static uint64_t pair_key(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static int32_t find_merge(const Tokenizer *tokenizer, int32_t left, int32_t right) {
    return map_find(tokenizer->merge_by_pair, pair_key(left, right), NULL, NULL);
}

// "h ell": the names of two tokens, whose texts together are a third's.
static int load_merge(Tokenizer *tokenizer, int32_t rank, TextSpan text, Arena *scratch) {
    size_t at = 1;
    while (at < text.length && text.at[at] != ' ') at++;
    if (at + 1 >= text.length) {
        return fail("%s: merge %d of the tokenizer does not name two tokens", tokenizer->path,
                    rank);
    }
    char *joined = arena_copy(scratch, text.at, text.length);
    memmove(joined + at, joined + at + 1, text.length - at - 1);
    Merge merge = {find_token(tokenizer, text.at, at),
                   find_token(tokenizer, text.at + at + 1, text.length - at - 1),
                   find_token(tokenizer, joined, text.length - 1)};
    if (merge.left < 0 || merge.right < 0 || merge.result < 0) {
        return fail("%s: merge %d of the tokenizer names a token that the vocabulary lacks",
                    tokenizer->path, rank);
    }
    if (find_merge(tokenizer, merge.left, merge.right) >= 0) {
        return fail("%s: merge %d of the tokenizer appears twice", tokenizer->path, rank);
    }
    tokenizer->merges[rank] = merge;
    map_add(tokenizer->arena, tokenizer->merge_by_pair, pair_key(merge.left, merge.right), rank);
    return 0;
}

static int load_merges(Tokenizer *tokenizer, const Gguf *gguf, Arena *scratch) {
    int64_t count;
    TextSpan *texts = gguf_array_text(gguf, "tokenizer.ggml.merges", scratch, &count);
    if (!texts) return -1;
    if (count > VOCABULARY_LIMIT) {
        return fail("%s: a tokenizer of %lld merges", tokenizer->path, (long long)count);
    }
    tokenizer->merge_count = (int32_t)count;
    tokenizer->merges = arena_array(tokenizer->arena, Merge, count);
    for (int32_t rank = 0; rank < tokenizer->merge_count; rank++) {
        if (load_merge(tokenizer, rank, texts[rank], scratch)) return -1;
    }
    return 0;
}

static bool is_special(const Token *token) {
    bool kind = token->kind == CONTROL || token->kind == UNKNOWN || token->kind == USER_DEFINED;
    return kind && token->text.length > 0;
}

static int compare_special(const void *a, const void *b, void *context) {
    const Token *tokens = context;
    const TextSpan *left = &tokens[*(const int32_t *)a].text;
    const TextSpan *right = &tokens[*(const int32_t *)b].text;
    int first = (unsigned char)*left->at - (unsigned char)*right->at;
    return first ? first : (left->length < right->length) - (left->length > right->length);
}

static void load_special(Tokenizer *tokenizer) {
    int32_t count = 0;
    for (int32_t id = 0; id < tokenizer->token_count; id++) {
        count += is_special(&tokenizer->tokens[id]);
    }
    tokenizer->special = arena_array(tokenizer->arena, int32_t, count);
    for (int32_t id = 0; id < tokenizer->token_count; id++) {
        const Token *token = &tokenizer->tokens[id];
        if (!is_special(token)) continue;
        tokenizer->special[tokenizer->special_count++] = id;
        tokenizer->special_from[(unsigned char)*token->text.at + 1]++;
    }
    for (int byte = 0; byte < 256; byte++) {
        tokenizer->special_from[byte + 1] += tokenizer->special_from[byte];
    }
    qsort_r(tokenizer->special, (size_t)count, sizeof *tokenizer->special, compare_special,
            tokenizer->tokens);
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

static int load_ids(Tokenizer *tokenizer, const Gguf *gguf) {
    int32_t eom;
    if (load_id(tokenizer, gguf, "tokenizer.ggml.bos_token_id", &tokenizer->bos)) return -1;
    if (load_id(tokenizer, gguf, "tokenizer.ggml.eos_token_id", &tokenizer->eos)) return -1;
    if (load_id(tokenizer, gguf, "tokenizer.ggml.eot_token_id", &tokenizer->eot)) return -1;
    if (load_id(tokenizer, gguf, "tokenizer.ggml.eom_token_id", &eom)) return -1;
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
    tokenizer->adds_bos = splitter_adds_bos(tokenizer->splitter) && tokenizer->bos >= 0;
    if (!gguf_find_key(gguf, "tokenizer.ggml.add_bos_token")) return 0;
    if (gguf_bool(gguf, "tokenizer.ggml.add_bos_token", &tokenizer->adds_bos)) return -1;
    if (!tokenizer->adds_bos || tokenizer->bos >= 0) return 0;
    return fail("%s: a BOS token is asked for but tokenizer.ggml.bos_token_id is missing",
                tokenizer->path);
}

static int load_splitter(Tokenizer *tokenizer, const Gguf *gguf) {
    TextSpan model, rule = {"default", 7};
    if (gguf_text(gguf, "tokenizer.ggml.model", &model)) return -1;
    if (model.length != 4 || memcmp(model.at, "gpt2", 4)) {
        return fail("%s: tokenizer model %.*s is not supported yet; byte-level BPE (gpt2) is",
                    tokenizer->path, (int)min_i64((int64_t)model.length, 40), model.at);
    }
    if (gguf_find_key(gguf, "tokenizer.ggml.pre") && gguf_text(gguf, "tokenizer.ggml.pre", &rule)) {
        return -1;
    }
    char name[64] = "";
    memcpy(name, rule.at, rule.length < sizeof name ? rule.length : sizeof name - 1);
    tokenizer->splitter = splitter_new(name);
    return tokenizer->splitter ? 0 : fail("%s: %s", tokenizer->path, error_text());
}

static int load(Tokenizer *tokenizer, const Gguf *gguf, Arena *scratch) {
    memset(tokenizer->byte_of, -1, sizeof tokenizer->byte_of);
    for (int byte = 0; byte < 256; byte++) tokenizer->byte_of[character_of(byte)] = (int16_t)byte;
    if (load_splitter(tokenizer, gguf)) return -1;
    if (load_tokens(tokenizer, gguf, scratch)) return -1;
    if (load_bytes(tokenizer, scratch)) return -1;
    if (load_merges(tokenizer, gguf, scratch)) return -1;
    load_special(tokenizer);
    return load_ids(tokenizer, gguf);
}

Tokenizer *tokenizer_open(const Gguf *gguf) {
    Arena *arena = arena_new(), *scratch = arena_new();
    Tokenizer *tokenizer = arena_object(arena, Tokenizer);
    tokenizer->arena = arena;
    tokenizer->path = arena_text(arena, gguf_path(gguf));
    tokenizer->token_by_text = map_new(arena);
    tokenizer->merge_by_pair = map_new(arena);
    int result = load(tokenizer, gguf, scratch);
    arena_free(scratch);
    if (!result) return tokenizer;
    tokenizer_close(tokenizer);
    return NULL;
}

void tokenizer_close(Tokenizer *tokenizer) {
    if (!tokenizer) return;
    splitter_free(tokenizer->splitter);
    arena_free(tokenizer->arena);
}

typedef struct {
    int32_t id;              // -1: merged into the one before
    int32_t previous, next;  // -1 at the ends
} Symbol;

typedef struct {
    const Tokenizer *tokenizer;
    Arena *scratch, *arena;  // arena: of ids
    IdList *ids;
    Text letters;          // the word as the vocabulary would write it
    LIST(Symbol) symbols;  // of the word
    LIST(uint64_t) heap;   // rank << 32 | left symbol, the smallest on top; may be out of date
} Encoder;

static void heap_push(Encoder *encoder, uint64_t key) {
    *list_add(encoder->scratch, &encoder->heap) = key;
    uint64_t *heap = encoder->heap.at;
    int32_t i = encoder->heap.count - 1;
    for (; i > 0 && heap[(i - 1) / 2] > key; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = key;
}

static uint64_t heap_pop(Encoder *encoder) {
    uint64_t *heap = encoder->heap.at, top = heap[0], last = heap[--encoder->heap.count];
    int32_t count = encoder->heap.count, i = 0;
    for (int32_t child = 1; child < count; child = 2 * i + 1) {
        if (child + 1 < count && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= last) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}

static void consider(Encoder *encoder, int32_t left) {
    const Symbol *symbols = encoder->symbols.at;
    int32_t right = left < 0 ? -1 : symbols[left].next;
    if (right < 0) return;
    int32_t rank = find_merge(encoder->tokenizer, symbols[left].id, symbols[right].id);
    if (rank >= 0) heap_push(encoder, pair_key(rank, left));
}

static void merge_once(Encoder *encoder) {
    uint64_t top = heap_pop(encoder);
    int32_t left = (int32_t)(uint32_t)top;
    const Merge *merge = &encoder->tokenizer->merges[top >> 32];
    Symbol *symbols = encoder->symbols.at, *symbol = &symbols[left];
    int32_t right = symbol->next;
    // Either side may have merged otherwise since; their ids then differ for good.
    if (symbol->id != merge->left || right < 0 || symbols[right].id != merge->right) return;
    symbol->id = merge->result;
    symbol->next = symbols[right].next;
    symbols[right].id = -1;
    if (symbol->next >= 0) symbols[symbol->next].previous = left;
    consider(encoder, symbol->previous);
    consider(encoder, left);
}

static int32_t find_word(Encoder *encoder, const char *word, size_t length) {
    Text *letters = &encoder->letters;
    letters->count = 0;
    for (size_t i = 0; i < length; i++) add_character(letters, (unsigned char)word[i]);
    int32_t id = find_token(encoder->tokenizer, letters->at, letters->count);
    return id >= 0 && encoder->tokenizer->tokens[id].kind == NORMAL ? id : -1;
}

static int encode_word(void *context, const char *word, size_t length) {
    Encoder *encoder = context;
    const Tokenizer *tokenizer = encoder->tokenizer;
    bool whole = splitter_whole_words(tokenizer->splitter);
    int32_t id = whole ? find_word(encoder, word, length) : -1;
    if (id >= 0) {
        *list_add(encoder->arena, encoder->ids) = id;
        return 0;
    }
    encoder->symbols.count = encoder->heap.count = 0;
    for (size_t i = 0; i < length; i++) {
        id = tokenizer->byte_token[(unsigned char)word[i]];
        int32_t at = encoder->symbols.count;
        if (id < 0) continue;
        *list_add(encoder->scratch, &encoder->symbols) = (Symbol){id, at - 1, at + 1};
    }
    int32_t count = encoder->symbols.count;
    if (count) encoder->symbols.at[count - 1].next = -1;
    for (int32_t i = 0; i < count; i++) consider(encoder, i);
    while (encoder->heap.count) merge_once(encoder);
    for (int32_t i = 0; i < count; i++) {
        id = encoder->symbols.at[i].id;
        if (id >= 0) *list_add(encoder->arena, encoder->ids) = id;
    }
    return 0;
}

// The longest special token that `text` begins with, or -1. User-defined tokens are always cut
// out, control tokens only when asked: text from a stranger must not end a turn.
static int32_t special_at(const Tokenizer *tokenizer, const char *text, size_t length, int flags) {
    int byte = (unsigned char)*text;
    for (int32_t i = tokenizer->special_from[byte]; i < tokenizer->special_from[byte + 1]; i++) {
        const Token *token = &tokenizer->tokens[tokenizer->special[i]];
        if (token->kind != USER_DEFINED && !(flags & TOKENIZE_SPECIAL)) continue;
        if (token->text.length > length) continue;
        if (!memcmp(token->text.at, text, token->text.length)) return tokenizer->special[i];
    }
    return -1;
}

static int encode_text(Encoder *encoder, const char *text, size_t length, int flags) {
    const Tokenizer *tokenizer = encoder->tokenizer;
    size_t start = 0, at = 0;
    while (at < length) {
        int32_t id = special_at(tokenizer, text + at, length - at, flags);
        if (id < 0) {
            at++;
            continue;
        }
        const char *before = text + start;
        if (splitter_run(tokenizer->splitter, before, at - start, encode_word, encoder)) return -1;
        *list_add(encoder->arena, encoder->ids) = id;
        start = at += tokenizer->tokens[id].text.length;
    }
    return splitter_run(tokenizer->splitter, text + start, at - start, encode_word, encoder);
}

int tokenizer_encode(const Tokenizer *tokenizer, Arena *arena, const char *text, size_t length,
                     int flags, IdList *ids) {
    if (length > TEXT_LIMIT) return fail("a text of %zu bytes is too long to tokenize", length);
    if (flags & TOKENIZE_BOS && tokenizer->adds_bos) *list_add(arena, ids) = tokenizer->bos;
    Encoder encoder = {.tokenizer = tokenizer, .scratch = arena_new(), .arena = arena, .ids = ids};
    encoder.letters = text_new(encoder.scratch);
    Text valid = text_new(encoder.scratch);
    Utf8Stream stream = {0};
    utf8_push(&stream, text, length, &valid);
    utf8_finish(&stream, &valid);
    int result = encode_text(&encoder, valid.at, valid.count, flags);
    arena_free(encoder.scratch);
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
    for (int64_t i = 0; i < count; i++) {
        TextSpan piece = tokenizer_piece(tokenizer, ids[i]);
        text_add_bytes(out, piece.at, piece.length);
    }
}

int32_t tokenizer_count(const Tokenizer *tokenizer) { return tokenizer->token_count; }

int32_t tokenizer_find(const Tokenizer *tokenizer, const char *text) {
    int32_t id = find_token(tokenizer, text, strlen(text));
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
