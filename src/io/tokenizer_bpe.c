/* tokenizer_bpe.c - byte-level BPE, as GPT-2, Llama 3 and Qwen have it.
 * In: a text.  Out: ids.
 * Invariant: each word of the text's splitting rule is merged by itself, from its bytes.
 *   "Hello you" -> "Hello" | " you" -> H e l l o ... -> Hello | Gyou, where G stands for U+0120
 * The vocabulary writes each byte as a visible character: 'A' as itself, ' ' as U+0120
 * (bytes_to_unicode in GPT-2's encoder.py). Control and user-defined tokens are plain text.    */
#include "io/tokenizer.h"

#include <string.h>

enum { CHARACTERS = 0x144, RULE_NAME = 64 };

typedef struct {
    Splitter *splitter;
    Merges merges;
    int32_t byte_token[256];  // -1 where the vocabulary has none
} Bpe;

// Bytes that are visible in Latin-1 stand for themselves; the others take U+0100 and on, in order.
static int character_of(int byte) {
    if (byte <= 0x20) return 0x100 + byte;
    if (byte >= 0x7f && byte <= 0xa0) return 0x121 + byte - 0x7f;
    return byte == 0xad ? 0x143 : byte;
}

static void byte_table(int16_t byte_of[CHARACTERS]) {
    memset(byte_of, -1, CHARACTERS * sizeof *byte_of);
    for (int byte = 0; byte < 256; byte++) byte_of[character_of(byte)] = (int16_t)byte;
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

// False if a character stands for no byte: the token is then plain text.
static bool decode(const int16_t *byte_of, TextSpan text, char *bytes, size_t *count) {
    *count = 0;
    for (size_t i = 0; i < text.length; i++) {
        int character = (unsigned char)text.at[i];
        if (character >= 0x80) {
            int next = i + 1 < text.length ? (unsigned char)text.at[++i] : 0;
            if (character >> 5 != 6 || next >> 6 != 2) return false;
            character = (character & 0x1f) << 6 | (next & 0x3f);
        }
        if (character >= CHARACTERS || byte_of[character] < 0) return false;
        bytes[(*count)++] = (char)byte_of[character];
    }
    return true;
}

static void load_pieces(Tokenizer *tokenizer) {
    int16_t byte_of[CHARACTERS];
    byte_table(byte_of);
    for (int32_t id = 0; id < tokenizer->token_count; id++) {
        Token *token = &tokenizer->tokens[id];
        size_t count;
        if (token->kind == CONTROL || token->kind == USER_DEFINED || token->kind == UNKNOWN)
            continue;
        char *bytes = arena_alloc(tokenizer->arena, token->text.length);
        if (decode(byte_of, token->text, bytes, &count)) token->bytes = (TextSpan){bytes, count};
    }
}

static int load_bytes(const Tokenizer *tokenizer, Bpe *bpe, Arena *scratch) {
    int found = 0;
    for (int byte = 0; byte < 256; byte++) {
        Text text = text_new(scratch);
        add_character(&text, byte);
        bpe->byte_token[byte] = tokenizer_find_text(tokenizer, text.at, text.count);
        found += bpe->byte_token[byte] >= 0;
    }
    if (found) return 0;
    return fail("%s: the vocabulary has no token for any single byte", tokenizer->path);
}

static int load_splitter(const Tokenizer *tokenizer, Bpe *bpe, const Gguf *gguf) {
    TextSpan rule = {"default", 7};
    if (gguf_find_key(gguf, "tokenizer.ggml.pre") && gguf_text(gguf, "tokenizer.ggml.pre", &rule)) {
        return -1;
    }
    char name[RULE_NAME] = "";
    memcpy(name, rule.at, rule.length < sizeof name ? rule.length : sizeof name - 1);
    bpe->splitter = splitter_new(name);
    return bpe->splitter ? 0 : fail("%s: %s", tokenizer->path, error_text());
}

static int bpe_open(Tokenizer *tokenizer, const Gguf *gguf, Arena *scratch) {
    Bpe *bpe = tokenizer->own = arena_object(tokenizer->arena, Bpe);
    if (load_splitter(tokenizer, bpe, gguf)) return -1;
    tokenizer->adds_bos = splitter_adds_bos(bpe->splitter);
    load_pieces(tokenizer);
    if (load_bytes(tokenizer, bpe, scratch)) return -1;
    return merges_load(&bpe->merges, tokenizer, gguf, scratch);
}

static void bpe_close(Tokenizer *tokenizer) {
    if (tokenizer->own) splitter_free(((Bpe *)tokenizer->own)->splitter);
}

// A word that is a token as a whole, or -1.
static int32_t find_word(Encoding *encoding, const char *word, size_t length) {
    Text letters = text_new(encoding->scratch);
    for (size_t i = 0; i < length; i++) add_character(&letters, (unsigned char)word[i]);
    int32_t id = tokenizer_find_text(encoding->tokenizer, letters.at, letters.count);
    return id >= 0 && encoding->tokenizer->tokens[id].kind == NORMAL ? id : -1;
}

static void split(Encoding *encoding, const char *word, size_t length) {
    const Bpe *bpe = encoding->tokenizer->own;
    int32_t whole = splitter_whole_words(bpe->splitter) ? find_word(encoding, word, length) : -1;
    if (whole >= 0) {
        merge_add(encoding, whole, 0);
        return;
    }
    merge_reserve(encoding, length);
    for (size_t i = 0; i < length; i++) {
        int32_t id = bpe->byte_token[(unsigned char)word[i]];
        if (id >= 0) merge_add(encoding, id, i);
    }
}

static Join join(Encoding *encoding, const Symbol *left, const Symbol *right) {
    const Bpe *bpe = encoding->tokenizer->own;
    return merges_find(&bpe->merges, left->token, right->token);
}

static void emit(Encoding *encoding, const Symbol *symbol) {
    encoding_add(encoding, symbol->token);
}

static int encode_word(void *context, const char *word, size_t length) {
    static const MergeRule rule = {split, join, emit};
    merge_word(context, &rule, word, length);
    return 0;
}

static int bpe_encode(Encoding *encoding, const char *text, size_t length) {
    const Bpe *bpe = encoding->tokenizer->own;
    TextSpan normal = {text, length};
    if (splitter_normalises(bpe->splitter) && normalise_nfc(encoding->scratch, normal, &normal)) {
        return -1;
    }
    return splitter_run(bpe->splitter, normal.at, normal.length, encode_word, encoding);
}

const TokenizerKind tokenizer_bpe = {
    .model = "gpt2",
    .open = bpe_open,
    .close = bpe_close,
    .encode = bpe_encode,
};
