/* split.c - cuts text into the words within which BPE may merge.
 * In: valid UTF-8 and the name of a rule.  Out: the words in order; together they are the text.
 * Invariant: each expression of a rule cuts every piece that the ones before it left, into its
 * matches and the gaps between them; an expression sees one piece at a time, so that "at the end"
 * in it means the end of the piece.
 *   smollm:  "I have 12  cats" -> "I" " have" " " "1" "2" " " " cats"                          */
#include "io/io.h"

#include <stdlib.h>
#include <string.h>

#ifdef PG_HAVE_PCRE2
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

typedef pcre2_code Expression;

typedef struct {
    pcre2_match_data *data;
    pcre2_match_context *context;
} Found;

static void found_free(Found *found) {
    pcre2_match_data_free(found->data);
    pcre2_match_context_free(found->context);
}

// False without memory. No limit on steps: an expression takes as many as its match has characters,
// which PCRE2 would refuse from ten million on.
static bool found_new(Found *found) {
    *found = (Found){pcre2_match_data_create(1, NULL), pcre2_match_context_create(NULL)};
    if (found->data && found->context) {
        pcre2_set_match_limit(found->context, UINT32_MAX);
        return true;
    }
    found_free(found);
    return false;
}

static Expression *expression_new(const char *text) {
    int error;
    size_t at;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP,
                                     &error, &at, NULL);
    if (code) {
        pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // may fail: it only makes matching faster
    } else {
        fail("PCRE2 refuses a splitting rule (error %d at %zu). Hint: it must know Unicode", error,
             at);
    }
    return code;
}

static void expression_free(Expression *code) { pcre2_code_free(code); }

// 1 and the first match at or after `from`, 0 if there is none, -1 with a message.
static int expression_find(const Expression *code, const Found *found, TextSpan text, size_t from,
                           size_t *start, size_t *end) {
    PCRE2_SPTR subject = (PCRE2_SPTR)text.at;
    int count = pcre2_match(code, subject, text.length, from, PCRE2_NO_UTF_CHECK, found->data,
                            found->context);
    if (count == PCRE2_ERROR_JIT_STACKLIMIT) {
        uint32_t options = PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT;
        count = pcre2_match(code, subject, text.length, from, options, found->data, found->context);
    }
    *start = pcre2_get_ovector_pointer(found->data)[0];
    *end = pcre2_get_ovector_pointer(found->data)[1];
    if (count == PCRE2_ERROR_NOMATCH) return 0;
    return count < 0 ? fail("splitting text into words failed, PCRE2 error %d", count) : 1;
}
#else
typedef void Expression;
typedef struct {
    int unused;
} Found;

static bool found_new(Found *found) {
    (void)found;
    return true;
}

static void found_free(Found *found) { (void)found; }

static Expression *expression_new(const char *text) {
    (void)text;
    fail("this build has no PCRE2, which tokenizers need: install libpcre2-dev, then run make");
    return NULL;
}

static void expression_free(Expression *code) { (void)code; }

static int expression_find(const Expression *code, const Found *found, TextSpan text, size_t from,
                           size_t *start, size_t *end) {
    (void)code, (void)found, (void)text, (void)from, (void)start, (void)end;
    return fail("this build has no PCRE2");
}
#endif

// Letters, numbers and punctuation that Unicode 15 and 16 added: the tokenizers library knows them,
// PCRE2 before 10.45 does not. The digits' own list goes on to Unicode 17, as that library's does.
#define NEW_UPPER "\\x{1c89}\\x{a7cb}-\\x{a7cc}\\x{a7da}\\x{a7dc}\\x{10d50}-\\x{10d65}"
#define NEW_LOWER "\\x{1c8a}\\x{a7cd}\\x{a7db}\\x{10d70}-\\x{10d85}\\x{1df25}-\\x{1df2a}"
#define NEW_OTHER                                                               \
    "\\x{105c0}-\\x{105f3}\\x{10d4a}-\\x{10d4f}\\x{10d6f}\\x{10ec2}-\\x{10ec4}" \
    "\\x{1123f}-\\x{11240}\\x{11380}-\\x{11389}\\x{1138b}\\x{1138e}"            \
    "\\x{11390}-\\x{113b5}\\x{113b7}\\x{113d1}\\x{113d3}\\x{11bc0}-\\x{11be0}"  \
    "\\x{11f02}\\x{11f04}-\\x{11f10}\\x{11f12}-\\x{11f33}\\x{1342f}"            \
    "\\x{13441}-\\x{13446}\\x{13460}-\\x{143fa}\\x{16100}-\\x{1611d}"           \
    "\\x{16d40}-\\x{16d6c}\\x{18cff}\\x{1b132}\\x{1b155}\\x{1e030}-\\x{1e06d}"  \
    "\\x{1e4d0}-\\x{1e4eb}\\x{1e5d0}-\\x{1e5ed}\\x{1e5f0}\\x{2b739}"            \
    "\\x{2ebf0}-\\x{2ee5d}\\x{31350}-\\x{323af}"
#define NEW_MARKS                                                                  \
    "\\x{897}\\x{cf3}\\x{ece}\\x{10d69}-\\x{10d6d}\\x{10efc}-\\x{10eff}\\x{11241}" \
    "\\x{113b8}-\\x{113c0}\\x{113c2}\\x{113c5}\\x{113c7}-\\x{113ca}"               \
    "\\x{113cc}-\\x{113d0}\\x{113d2}\\x{113e1}-\\x{113e2}\\x{11f00}-\\x{11f01}"    \
    "\\x{11f03}\\x{11f34}-\\x{11f3a}\\x{11f3e}-\\x{11f42}\\x{11f5a}\\x{13440}"     \
    "\\x{13447}-\\x{13455}\\x{1611e}-\\x{1612f}\\x{1e08f}\\x{1e4ec}-\\x{1e4ef}"    \
    "\\x{1e5ee}-\\x{1e5ef}"
#define NEW_NUMBERS                                                                        \
    "\\x{10d40}-\\x{10d49}\\x{116d0}-\\x{116e3}\\x{11bf0}-\\x{11bf9}\\x{11f50}-\\x{11f59}" \
    "\\x{16130}-\\x{16139}\\x{16d70}-\\x{16d79}\\x{1ccf0}-\\x{1ccf9}\\x{1d2c0}-\\x{1d2d3}" \
    "\\x{1e4f0}-\\x{1e4f9}\\x{1e5f1}-\\x{1e5fa}"
#define NEW_PUNCTUATION                                                                \
    "\\x{1b4e}-\\x{1b4f}\\x{1b7f}\\x{10d6e}\\x{113d4}-\\x{113d5}\\x{113d7}-\\x{113d8}" \
    "\\x{11b00}-\\x{11b09}\\x{11be1}\\x{11f43}-\\x{11f4f}\\x{16d6d}-\\x{16d6f}\\x{1e5ff}"
#define LETTER      "\\p{L}" NEW_UPPER NEW_LOWER NEW_OTHER
#define NUMBER      "\\p{N}" NEW_NUMBERS
#define PUNCTUATION "\\p{P}" NEW_PUNCTUATION
#define DIGIT       NUMBER "\\x{11de0}-\\x{11de9}\\x{16ff4}-\\x{16ff6}"
// Letters as Mistral's rule has them: those of no case, and marks, count as both.
#define UPPER "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}" NEW_UPPER NEW_OTHER NEW_MARKS
#define LOWER "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}" NEW_LOWER NEW_OTHER NEW_MARKS
// Unicode's White_Space. PCRE2's \s has U+180E too, which left that property in Unicode 6.3.
#define SPACE "\\t-\\r\\x{85}\\p{Z}"

// Sources: GPT-2's encoder.py; the tokenizer.json of SmolLM2 (Digits, then ByteLevel's expression,
// which is GPT-2's), of Qwen2 and of Mistral Nemo; Llama 3's tokenizer.py; llama.cpp's list for
// files that name no rule. All end with one more alternative, |\s+, not needed here: what nothing
// matches is a piece all the same.
#define GPT2                                                                                 \
    "'s|'t|'re|'ve|'m|'ll|'d| ?[" LETTER "]+| ?[" NUMBER "]+| ?[^" SPACE LETTER NUMBER "]+|" \
    "[" SPACE "]+(?![^" SPACE "])"
#define LLAMA3                                                                                 \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n" LETTER NUMBER "]?[" LETTER "]+|[" NUMBER "]{1,3}|" \
    " ?[^" SPACE LETTER NUMBER "]+[\\r\\n]*|[" SPACE "]*[\\r\\n]+|[" SPACE "]+(?![^" SPACE "])"

#define TEKKEN                                                          \
    "[^\\r\\n" LETTER NUMBER "]?[" UPPER "]*[" LOWER "]+|"              \
    "[^\\r\\n" LETTER NUMBER "]?[" UPPER "]+[" LOWER "]*|[" NUMBER "]|" \
    " ?[^" SPACE LETTER NUMBER "]+[\\r\\n/]*|[" SPACE "]*[\\r\\n]+|[" SPACE "]+(?![^" SPACE "])"
#define SIGNS "[" PUNCTUATION "$+<=>^~|]+"

#define QWEN2                                                                             \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n" LETTER NUMBER "]?[" LETTER "]+|[" NUMBER "]|" \
    " ?[^" SPACE LETTER NUMBER "]+[\\r\\n]*|[" SPACE "]*[\\r\\n]+|[" SPACE "]+(?![^" SPACE "])"
#define SIGNS "[" PUNCTUATION "$+<=>^~|]+"

enum { EXPRESSIONS = 4 };  // at most, in a rule

typedef struct {
    const char *name;
    bool whole_words, adds_bos, normalises;
    const char *expressions[EXPRESSIONS];
} SplitRule;

static const SplitRule rules[] = {
    {"gpt-2", false, false, false, {GPT2}},
    {"smollm", false, false, false, {"[" DIGIT "]", GPT2}},
    {"llama-bpe", true, true, false, {LLAMA3}},
    {"qwen2", false, false, true, {QWEN2}},
    {"tekken", true, true, false, {TEKKEN}},
    {"default", false, false, false, {SIGNS, GPT2, "[" NUMBER "]+", "[0-9][0-9][0-9]"}},
};

// Other names of these rules: llama.cpp's llama-vocab.cpp.
static const struct {
    const char *name, *rule;
} aliases[] = {
    {"phi-2", "gpt-2"},         {"olmo", "gpt-2"},
    {"mpt", "gpt-2"},           {"jina-es", "gpt-2"},
    {"jina-de", "gpt-2"},       {"gigachat", "gpt-2"},
    {"starcoder", "smollm"},    {"refact", "smollm"},
    {"command-r", "smollm"},    {"codeshell", "smollm"},
    {"exaone", "smollm"},       {"minerva-7b", "smollm"},
    {"llama3", "llama-bpe"},    {"llama-v3", "llama-bpe"},
    {"falcon3", "llama-bpe"},   {"pixtral", "llama-bpe"},
    {"falcon-h1", "llama-bpe"}, {"midm-2.0", "llama-bpe"},
    {"lfm2", "llama-bpe"},      {"deepseek-r1-qwen", "qwen2"},
    {"megrez", "qwen2"},
};

struct Splitter {
    const SplitRule *rule;
    Expression *expressions[EXPRESSIONS];
};

static const SplitRule *find_rule(const char *name) {
    const char *wanted = name;
    for (int i = 0; i < COUNT_OF(aliases); i++) {
        if (strcmp(aliases[i].name, name) == 0) wanted = aliases[i].rule;
    }
    for (int i = 0; i < COUNT_OF(rules); i++) {
        if (strcmp(rules[i].name, wanted) == 0) return &rules[i];
    }
    fail("the splitting rule %.40s is not supported yet; gpt-2, smollm, llama-bpe, qwen2, tekken, "
         "default are",
         name);
    return NULL;
}

Splitter *splitter_new(const char *name) {
    const SplitRule *rule = find_rule(name);
    Splitter *splitter = rule ? calloc(1, sizeof *splitter) : NULL;
    if (!splitter) return NULL;
    splitter->rule = rule;
    for (int i = 0; i < EXPRESSIONS && rule->expressions[i]; i++) {
        splitter->expressions[i] = expression_new(rule->expressions[i]);
        if (splitter->expressions[i]) continue;
        splitter_free(splitter);
        return NULL;
    }
    return splitter;
}

void splitter_free(Splitter *splitter) {
    for (int i = 0; splitter && i < EXPRESSIONS; i++) expression_free(splitter->expressions[i]);
    free(splitter);
}

typedef struct {
    const Splitter *by;
    Found found;  // one for the whole run: making it takes longer than a match
    SplitWord *word;
    void *context;
} Split;

static int split_from(const Split *split, int i, const char *text, size_t length);

static int cut(const Split *split, int i, const char *text, size_t length) {
    size_t at = 0, start = 0, end = 0;
    while (at < length) {
        int found = expression_find(split->by->expressions[i], &split->found,
                                    (TextSpan){text, length}, at, &start, &end);
        if (found < 0) return -1;
        if (!found) break;
        if (split_from(split, i + 1, text + at, start - at)) return -1;
        if (split_from(split, i + 1, text + start, end - start)) return -1;
        at = end;  // an expression never matches nothing, so this moves on
    }
    return split_from(split, i + 1, text + at, length - at);
}

// Applies the expressions from the i-th on.
static int split_from(const Split *split, int i, const char *text, size_t length) {
    if (!length) return 0;
    if (i < EXPRESSIONS && split->by->expressions[i]) return cut(split, i, text, length);
    return split->word(split->context, text, length);
}

int splitter_run(const Splitter *splitter, const char *text, size_t length, SplitWord *word,
                 void *context) {
    Split split = {.by = splitter, .word = word, .context = context};
    if (!found_new(&split.found)) return fail("out of memory while splitting text");
    int result = split_from(&split, 0, text, length);
    found_free(&split.found);
    return result;
}

bool splitter_whole_words(const Splitter *splitter) { return splitter->rule->whole_words; }

bool splitter_adds_bos(const Splitter *splitter) { return splitter->rule->adds_bos; }

bool splitter_normalises(const Splitter *splitter) { return splitter->rule->normalises; }
