/* normalise_charsmap.c - what sentencepiece does to a text before it looks for tokens.
 * In: a text; a map of characters from a GGUF file, which need not be there.
 * Out: the text with characters replaced, spaces written as U+2581.
 * Invariant: the map is read inside its bounds, wherever its numbers point.
 *   prefix:  "a  b" -> "_a__b", where _ is U+2581;   single, too: -> "_a_b"
 * The map is a double array, Darts-clone's: a unit is 32 bits, a child lies at its parent's offset
 * XOR its byte. A key's value is where its replacement begins (sentencepiece's normalizer.cc).  */
#include "io/tokenizer.h"

#include <string.h>

enum { U8 = 0, I8 = 1, KEYS_AT_MOST = 32 };  // keys that begin a text; more are not looked at there
enum { KEY_BYTES = 128, REPLACEMENT_BYTES = 1 << 10 };  // at most: a bad map could go in circles
#define UNIT_VALUE 0x7fffffffu

static uint32_t label(uint32_t unit) { return unit & 0x800000ffu; }

static bool has_value(uint32_t unit) { return unit >> 8 & 1; }

static uint32_t offset(uint32_t unit) { return (unit >> 10) << ((unit & 1u << 9) >> 6); }

static int load_map(Charsmap *map, Tokenizer *tokenizer, const Gguf *gguf) {
    const GgufKey *key = gguf_find_key(gguf, "tokenizer.ggml.precompiled_charsmap");
    uint32_t bytes = 0;
    if (!key) return 0;
    if (key->element != U8 && key->element != I8) {
        return fail("%s: tokenizer.ggml.precompiled_charsmap is not an array of bytes", map->path);
    }
    if (!key->bytes) return 0;
    if (key->bytes > sizeof bytes) memcpy(&bytes, key->at, sizeof bytes);
    if (!bytes || bytes % sizeof *map->units || bytes >= key->bytes - sizeof bytes) {
        return fail("%s: tokenizer.ggml.precompiled_charsmap is cut short: %zu bytes, %u of them "
                    "for its trie",
                    map->path, key->bytes, bytes);
    }
    map->units = arena_copy(tokenizer->arena, key->at + sizeof bytes, bytes);
    map->unit_count = bytes / sizeof *map->units;
    map->replacement_bytes = key->bytes - sizeof bytes - bytes;
    map->replacements =
        arena_copy(tokenizer->arena, key->at + sizeof bytes + bytes, map->replacement_bytes);
    return 0;
}

int charsmap_load(Charsmap *map, Tokenizer *tokenizer, const Gguf *gguf) {
    map->path = tokenizer->path;
    if (tokenizer_load_bool(gguf, "tokenizer.ggml.add_space_prefix", &map->prefix)) return -1;
    if (tokenizer_load_bool(gguf, "tokenizer.ggml.remove_extra_whitespaces", &map->single)) {
        return -1;
    }
    return load_map(map, tokenizer, gguf);
}

static int outside(const Charsmap *map) {
    return fail("%s: tokenizer.ggml.precompiled_charsmap points outside itself", map->path);
}

// The longest key that the text begins with: its bytes, 0 if there is none, and its value.
static int find_key(const Charsmap *map, TextSpan text, size_t *matched, uint32_t *value) {
    uint32_t at = offset(map->units[0]);
    *matched = 0;
    size_t left = text.length < KEY_BYTES ? text.length : KEY_BYTES;
    for (size_t i = 0, keys = 0; i < left && keys < KEYS_AT_MOST; i++) {
        uint8_t byte = (uint8_t)text.at[i];
        at ^= byte;
        if (at >= map->unit_count) return outside(map);
        uint32_t unit = map->units[at];
        if (label(unit) != byte) return 0;
        at ^= offset(unit);
        if (!has_value(unit)) continue;
        if (at >= map->unit_count) return outside(map);
        *value = map->units[at] & UNIT_VALUE;
        *matched = i + 1;
        keys++;
    }
    return 0;
}

// What the text's first characters become; *used: how many bytes they are.
static int replace(const Charsmap *map, TextSpan text, TextSpan *out, size_t *used) {
    uint32_t value = 0;
    *used = 0;
    if (!map->kept || trie_longest(map->kept, text.at, text.length, used) < 0) {
        if (map->units && find_key(map, text, used, &value)) return -1;
        if (*used) {
            if (value >= map->replacement_bytes) return outside(map);
            const char *at = map->replacements + value;
            size_t left = map->replacement_bytes - value;
            const char *end = memchr(at, 0, left < REPLACEMENT_BYTES ? left : REPLACEMENT_BYTES);
            if (!end) return outside(map);
            *out = (TextSpan){at, (size_t)(end - at)};
            return 0;
        }
        *used = utf8_length(text.at, text.length);
    }
    *out = (TextSpan){text.at, *used};
    return 0;
}

static bool is_space(TextSpan text) { return text.length == 1 && *text.at == ' '; }

static void add_escaped(Text *out, TextSpan text) {
    for (size_t i = 0; i < text.length; i++) {
        if (text.at[i] == ' ') {
            text_add_bytes(out, SPACE_MARK, SPACE_MARK_BYTES);
        } else {
            text_add_bytes(out, text.at + i, 1);
        }
    }
}

static int skip_spaces(const Charsmap *map, TextSpan *text) {
    TextSpan piece;
    for (size_t used; text->length; text->at += used, text->length -= used) {
        if (replace(map, *text, &piece, &used)) return -1;
        if (!is_space(piece)) break;
    }
    return 0;
}

static void drop_spaces_at_end(Text *out) {
    while (out->count >= SPACE_MARK_BYTES &&
           !memcmp(out->at + out->count - SPACE_MARK_BYTES, SPACE_MARK, SPACE_MARK_BYTES)) {
        out->count -= SPACE_MARK_BYTES;
    }
}

int charsmap_run(const Charsmap *map, const char *at, size_t length, Text *out) {
    TextSpan text = {at, length}, piece;
    bool after_space = map->single;
    if (map->single && skip_spaces(map, &text)) return -1;
    if (!text.length) return 0;
    if (map->prefix) text_add_bytes(out, SPACE_MARK, SPACE_MARK_BYTES);
    for (size_t used; text.length; text.at += used, text.length -= used) {
        if (replace(map, text, &piece, &used)) return -1;
        while (after_space && piece.length && *piece.at == ' ') piece.at++, piece.length--;
        add_escaped(out, piece);
        if (piece.length) after_space = map->single && piece.at[piece.length - 1] == ' ';
        if (out->count > INT32_MAX / 2) return fail("a normalised text of over 1 GB is too long");
    }
    if (map->single) drop_spaces_at_end(out);
    return 0;
}
