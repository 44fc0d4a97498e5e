/* tokenizer_pieces.c - what sentencepiece's two kinds of vocabulary have in common.
 * In: a vocabulary, a GGUF file.  Out: the bytes of its tokens, its byte tokens, its settings.
 * Invariant: only normal, user-defined and unused tokens are found in a text; byte and control
 * tokens are not, even if it has their names in it (sentencepiece's model_interface.cc).
 *   "<0x0A>", a byte token, stands for a newline; "_the", where _ is U+2581, for " the"          */
#include "io/tokenizer.h"

#include <string.h>

static int hexadecimal(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

// The byte that "<0x0A>" names, or -1.
static int byte_named(TextSpan text) {
    if (text.length != 6 || memcmp(text.at, "<0x", 3) || text.at[5] != '>') return -1;
    int high = hexadecimal(text.at[3]), low = hexadecimal(text.at[4]);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

static bool mark_at(TextSpan text, size_t at) {
    return text.length - at >= SPACE_MARK_BYTES && !memcmp(text.at + at, SPACE_MARK, 3);
}

static TextSpan unescaped(Arena *arena, TextSpan text) {
    size_t count = 0;
    char *room = arena_alloc(arena, text.length);
    for (size_t i = 0; i < text.length; count++) {
        bool mark = mark_at(text, i);
        room[count] = mark ? ' ' : text.at[i];
        i += mark ? SPACE_MARK_BYTES : 1;
    }
    return (TextSpan){room, count};
}

TextSpan pieces_escaped(Arena *arena, TextSpan text) {
    Text out = text_new(arena);
    for (size_t i = 0; i < text.length; i++) {
        bool space = text.at[i] == ' ';
        text_add_bytes(&out, space ? SPACE_MARK : text.at + i, space ? SPACE_MARK_BYTES : 1);
    }
    return (TextSpan){out.at, out.count};
}

static int load_byte(Pieces *pieces, Tokenizer *tokenizer, int32_t id) {
    Token *token = &tokenizer->tokens[id];
    int byte = byte_named(token->text);
    if (!tokenizer->has_kinds && byte >= 0) token->kind = BYTE;
    if (token->kind != BYTE) return 0;
    if (byte < 0) {
        return fail("%s: token %d is of the kind byte, but its text is not like <0x0A>",
                    tokenizer->path, id);
    }
    pieces->byte_token[byte] = id;
    token->bytes = (TextSpan){arena_copy(tokenizer->arena, &(char){(char)byte}, 1), 1};
    return 0;
}

bool pieces_has(const Tokenizer *tokenizer, int32_t id) {
    int32_t kind = tokenizer->tokens[id].kind;
    return kind != CONTROL && kind != UNKNOWN && kind != BYTE;
}

static void load_user_defined(Pieces *pieces, Tokenizer *tokenizer, Arena *scratch) {
    LIST(TextSpan) texts = {0}, escaped = {0};
    IdList ids = {0};
    for (int32_t id = 0; id < tokenizer->token_count; id++) {
        const Token *token = &tokenizer->tokens[id];
        if (token->kind != USER_DEFINED || !token->text.length || token->cut) continue;
        *list_add(scratch, &texts) = token->text;
        *list_add(scratch, &escaped) = pieces_escaped(scratch, token->text);
        *list_add(scratch, &ids) = id;
    }
    if (!ids.count) return;
    pieces->user_defined = trie_new(tokenizer->arena, escaped.at, ids.at, ids.count);
    pieces->charsmap.kept = trie_new(tokenizer->arena, texts.at, ids.at, ids.count);
}

int pieces_load(Pieces *pieces, Tokenizer *tokenizer, const Gguf *gguf, Arena *scratch) {
    memset(pieces->byte_token, -1, sizeof pieces->byte_token);
    for (int32_t id = 0; id < tokenizer->token_count; id++) {
        Token *token = &tokenizer->tokens[id];
        if (load_byte(pieces, tokenizer, id)) return -1;
        if (!pieces_has(tokenizer, id) || token->cut) continue;
        token->bytes = unescaped(tokenizer->arena, token->text);
    }
    if (charsmap_load(&pieces->charsmap, tokenizer, gguf)) return -1;
    load_user_defined(pieces, tokenizer, scratch);
    tokenizer->drops_space = pieces->charsmap.prefix;
    return 0;
}

size_t utf8_length(const char *at, size_t left) {
    uint8_t lead = (uint8_t)*at;
    size_t length = lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    return length < left ? length : left;
}

void pieces_add_unknown(Encoding *encoding, const Pieces *pieces, const char *at, size_t length) {
    const int32_t *byte_token = pieces->byte_token;
    bool all = true;
    for (size_t i = 0; i < length; i++) all = all && byte_token[(uint8_t)at[i]] >= 0;
    for (size_t i = 0; all && i < length; i++) encoding_add(encoding, byte_token[(uint8_t)at[i]]);
    int32_t unknown = encoding->tokenizer->unknown;
    if (!all && unknown >= 0) encoding_add(encoding, unknown);
}

void pieces_fuse_unknown(Encoding *encoding, int32_t start) {
    int32_t *ids = encoding->ids->at, unknown = encoding->tokenizer->unknown, kept = start;
    if (unknown < 0) return;
    for (int32_t i = start; i < encoding->ids->count; i++) {
        if (ids[i] == unknown && kept > start && ids[kept - 1] == unknown) continue;
        ids[kept++] = ids[i];
    }
    encoding->ids->count = kept;
}
