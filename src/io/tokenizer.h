/* tokenizer.h - what tokenizer*.c and normalise*.c share; other files see io.h alone.
 * A kind of tokenizer is a row: how it opens, and how it encodes a text without special tokens.
 *   "</s>Hello" -> tokenizer.c: </s> | "Hello" -> the kind's encode                              */
#ifndef PICOGRAD_TOKENIZER_H
#define PICOGRAD_TOKENIZER_H
#include "io/io.h"

// tokenizer.ggml.token_type
enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5, BYTE = 6 };
// Sentencepiece's space, U+2581.
#define SPACE_MARK "\xe2\x96\x81"
enum { SPACE_MARK_BYTES = 3, VOCABULARY_LIMIT = 1 << 24, ENDS_LIMIT = 16 + GGUF_ENDS_MAX };

typedef struct {
    TextSpan text;   // as the vocabulary has it
    TextSpan bytes;  // what it stands for
    int32_t kind;
    float score;  // 0 where the file has none
    bool cut;     // out of a text before its kind's encode sees it
} Token;

// trie.c: texts by their prefixes. Nodes are numbers, the root is 0.
typedef struct Trie Trie;
Trie *trie_new(Arena *arena, const TextSpan *texts, const int32_t *values, int32_t count);
int32_t trie_step(const Trie *trie, int32_t node, char byte);  // -1 if no text goes on like this
int32_t trie_value(const Trie *trie, int32_t node);            // -1 if no text ends here
// The value of the longest of the texts that `text` begins with, or -1.
int32_t trie_longest(const Trie *trie, const char *text, size_t length, size_t *matched);

typedef struct Encoding Encoding;
typedef struct {
    const char *model;  // as tokenizer.ggml.model names it
    // Whether texts that were made tokens by the user, while it was trained, are found by encode;
    // else they are cut out before, with the control tokens.
    bool finds_user_defined;
    // Loads what it needs into tokenizer->own, and sets each token's bytes; -1 with a message.
    int (*open)(Tokenizer *tokenizer, const Gguf *gguf, Arena *scratch);
    void (*close)(Tokenizer *tokenizer);                                 // may be NULL
    int (*encode)(Encoding *encoding, const char *text, size_t length);  // valid UTF-8, not empty
} TokenizerKind;
extern const TokenizerKind tokenizer_bpe, tokenizer_spm, tokenizer_unigram;

struct Tokenizer {
    Arena *arena;
    const char *path;
    const TokenizerKind *kind;
    void *own;
    Token *tokens;
    int32_t token_count;
    Map *token_by_text;
    const Trie *special;         // all texts that are cut out before encode
    const Trie *always_special;  // those of them that are cut out even if nobody asks
    int32_t bos, eos, eot, unknown, end[ENDS_LIMIT];
    int end_count;
    bool adds_bos, has_scores, has_kinds;
    bool drops_space;  // decoding leaves out the space that encoding put in front
};
int32_t tokenizer_find_text(const Tokenizer *tokenizer, const char *at, size_t length);  // or -1
// False and unchanged if the file has no such key; -1 with a message if it is of another type.
int tokenizer_load_bool(const Gguf *gguf, const char *name, bool *value);

// tokenizer_merge.c: neighbours become one, the lowest rank first, the leftmost of equals.
typedef struct {
    int32_t rank;   // -1: the two do not merge
    int32_t token;  // what they become
} Join;
typedef struct {
    int32_t token;           // or less than 0, for what only its kind knows
    int32_t start;           // in the word
    int32_t previous, next;  // symbols; -1 at the ends
    Join join;               // with the next
} Symbol;
typedef struct {
    // Cuts a word into symbols, by merge_add.
    void (*split)(Encoding *encoding, const char *word, size_t length);
    Join (*join)(Encoding *encoding, const Symbol *left, const Symbol *right);
    void (*emit)(Encoding *encoding, const Symbol *symbol);  // adds the ids of what is left
} MergeRule;
typedef struct {
    const char *word;  // in a text that lives as long as the call
    uint64_t hash;
    int32_t length, first, count;  // its ids in the list of the call
} SeenWord;

struct Encoding {  // one call of tokenizer_encode
    const Tokenizer *tokenizer;
    Arena *scratch;  // until the call ends
    Arena *arena;    // of ids
    IdList *ids;
    const char *word;  // the one being merged
    size_t word_length;
    LIST(Symbol) symbols;
    LIST(uint64_t) heap;  // rank << 32 | left symbol, the smallest on top; may be out of date
    SeenWord *seen;       // by hash; a newer word takes the place of an older one
    size_t seen_count;    // a power of two, or 0
    int32_t *halves;      // tokenizer_spm.c: how an unused token was last put together
};
// Room for so many symbols, at once: a list that doubles would take up three times as much.
void merge_reserve(Encoding *encoding, size_t count);
void merge_add(Encoding *encoding, int32_t token, size_t start);
// Adds the ids of a word. A word that the call has seen is not merged again.
void merge_word(Encoding *encoding, const MergeRule *rule, const char *word, size_t length);
// Where a symbol ends, and the next starts.
size_t merge_end(const Encoding *encoding, const Symbol *symbol);
void encoding_add(Encoding *encoding, int32_t id);

// The merges of a file, by rank.
typedef struct {
    Join *by_rank;
    Map *rank_by_pair;
} Merges;
int merges_load(Merges *merges, Tokenizer *tokenizer, const Gguf *gguf, Arena *scratch);
Join merges_find(const Merges *merges, int32_t left, int32_t right);

// normalise.c: Unicode's normal form C. The result may be the text itself; else it is in the arena.
int normalise_nfc(Arena *arena, TextSpan text, TextSpan *out);

// normalise_charsmap.c: what sentencepiece does to a text before it looks for tokens.
typedef struct {
    const char *path;
    const uint32_t *units;  // of the map's trie; NULL: characters stay as they are
    size_t unit_count;
    const char *replacements;  // texts that each end with a zero
    size_t replacement_bytes;
    const Trie *kept;  // texts that the map leaves alone; may be NULL
    bool prefix;       // a space comes first
    bool single;       // of spaces in a row one stays, and none at the ends
} Charsmap;
int charsmap_load(Charsmap *map, Tokenizer *tokenizer, const Gguf *gguf);
int charsmap_run(const Charsmap *map, const char *text, size_t length, Text *out);

// What tokenizer_spm.c and tokenizer_unigram.c share, in tokenizer_pieces.c.
typedef struct {
    Charsmap charsmap;
    const Trie *user_defined;  // tokens that are never merged; NULL if there are none
    int32_t byte_token[256];   // -1 where the vocabulary has none
} Pieces;
int pieces_load(Pieces *pieces, Tokenizer *tokenizer, const Gguf *gguf, Arena *scratch);
bool pieces_has(const Tokenizer *tokenizer, int32_t id);  // may stand for text
// What no token stands for: its bytes' tokens, or the unknown token.
void pieces_add_unknown(Encoding *encoding, const Pieces *pieces, const char *at, size_t length);
// Of unknown tokens in a row since ids had `start` entries, one stays.
void pieces_fuse_unknown(Encoding *encoding, int32_t start);
// As a token looks in a normalised text.
TextSpan pieces_escaped(Arena *arena, TextSpan text);
// Bytes of the character that starts here. Tokens of a bad file may cut characters: 1 inside one.
size_t utf8_length(const char *at, size_t left);
#endif
