/* tokenizer_merge.c - merges the symbols of a word, by the rule of a kind of tokenizer.
 * In: a word.  Out: ids.
 * Invariant: of all neighbours that merge, those of the lowest rank do so first, the leftmost of
 * equals; what two symbols become is longer than either, so an entry of the heap that is out of
 * date has another rank than the join it stands for, or is the same as the right one.
 *   H e l l o -> H el l o -> H ell o -> Hell o -> Hello                                          */
#include "io/tokenizer.h"

#include <string.h>

enum { SEEN_WORD_BYTES = 256 };  // a longer word is hardly met again

void encoding_add(Encoding *encoding, int32_t id) {
    *list_add(encoding->arena, encoding->ids) = id;
}

void merge_reserve(Encoding *encoding, size_t count) {
    if (count <= (size_t)encoding->symbols.capacity) return;
    encoding->symbols.at = arena_array(encoding->scratch, Symbol, count);
    encoding->symbols.capacity = (int32_t)count;
}

void merge_add(Encoding *encoding, int32_t token, size_t start) {
    int32_t at = encoding->symbols.count;
    *list_add(encoding->scratch, &encoding->symbols) =
        (Symbol){token, (int32_t)start, at - 1, at + 1, {-1, -1}};
}

size_t merge_end(const Encoding *encoding, const Symbol *symbol) {
    if (symbol->next < 0) return encoding->word_length;
    return (size_t)encoding->symbols.at[symbol->next].start;
}

// Moves the entry at `i` down to where it is no larger than those below it.
static void sift_down(uint64_t *heap, int32_t count, int32_t i) {
    uint64_t entry = heap[i];
    for (int32_t child = 2 * i + 1; child < count; child = 2 * i + 1) {
        if (child + 1 < count && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= entry) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = entry;
}

static uint64_t entry_of(int32_t rank, int32_t left) {
    return (uint64_t)(uint32_t)rank << 32 | (uint32_t)left;
}

static void heap_push(Encoding *encoding, uint64_t entry) {
    int32_t i = encoding->heap.count;
    *list_add(encoding->scratch, &encoding->heap) = entry;
    uint64_t *heap = encoding->heap.at;
    for (; i > 0 && heap[(i - 1) / 2] > entry; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = entry;
}

static uint64_t heap_pop(Encoding *encoding) {
    uint64_t *heap = encoding->heap.at, top = heap[0];
    int32_t count = --encoding->heap.count;
    if (count) {
        heap[0] = heap[count];
        sift_down(heap, count, 0);
    }
    return top;
}

static bool consider(Encoding *encoding, const MergeRule *rule, int32_t left) {
    Symbol *symbols = encoding->symbols.at;
    if (left < 0) return false;
    symbols[left].join = (Join){-1, -1};
    if (symbols[left].next < 0) return false;
    symbols[left].join = rule->join(encoding, &symbols[left], &symbols[symbols[left].next]);
    return symbols[left].join.rank >= 0;
}

static void consider_and_push(Encoding *encoding, const MergeRule *rule, int32_t left) {
    if (!consider(encoding, rule, left)) return;
    heap_push(encoding, entry_of(encoding->symbols.at[left].join.rank, left));
}

static void merge_once(Encoding *encoding, const MergeRule *rule) {
    uint64_t top = heap_pop(encoding);
    int32_t left = (int32_t)(uint32_t)top;
    Symbol *symbols = encoding->symbols.at, *symbol = &symbols[left];
    if (symbol->join.rank != (int32_t)(top >> 32)) return;
    Symbol *right = &symbols[symbol->next];
    symbol->token = symbol->join.token;
    symbol->next = right->next;
    right->join.rank = -1;
    if (symbol->next >= 0) symbols[symbol->next].previous = left;
    consider_and_push(encoding, rule, symbol->previous);
    consider_and_push(encoding, rule, left);
}

// All first neighbours at once: a heap of n entries is made in n steps.
static void merge_all(Encoding *encoding, const MergeRule *rule) {
    int32_t count = encoding->symbols.count;
    encoding->heap.count = 0;
    if (count > encoding->heap.capacity) {
        encoding->heap.at = arena_array(encoding->scratch, uint64_t, count);
        encoding->heap.capacity = count;
    }
    for (int32_t i = 0; i < count; i++) {
        if (!consider(encoding, rule, i)) continue;
        *list_add(encoding->scratch, &encoding->heap) =
            entry_of(encoding->symbols.at[i].join.rank, i);
    }
    for (int32_t i = encoding->heap.count / 2 - 1; i >= 0; i--) {
        sift_down(encoding->heap.at, encoding->heap.count, i);
    }
    while (encoding->heap.count) merge_once(encoding, rule);
}

static void encode_word(Encoding *encoding, const MergeRule *rule) {
    encoding->symbols.count = 0;
    rule->split(encoding, encoding->word, encoding->word_length);
    if (!encoding->symbols.count) return;
    encoding->symbols.at[encoding->symbols.count - 1].next = -1;
    merge_all(encoding, rule);
    for (int32_t i = 0; i >= 0; i = encoding->symbols.at[i].next) {
        rule->emit(encoding, &encoding->symbols.at[i]);
    }
}

static bool same_word(const SeenWord *seen, uint64_t hash, const char *word, size_t length) {
    return seen->hash == hash && seen->length == (int32_t)length &&
           !memcmp(seen->word, word, length);
}

void merge_word(Encoding *encoding, const MergeRule *rule, const char *word, size_t length) {
    encoding->word = word;
    encoding->word_length = length;
    if (!encoding->seen_count || length > SEEN_WORD_BYTES) {
        encode_word(encoding, rule);
        return;
    }
    uint64_t hash = hash_bytes(word, length, 0);
    SeenWord *seen = &encoding->seen[hash & (encoding->seen_count - 1)];
    if (same_word(seen, hash, word, length)) {
        for (int32_t i = 0; i < seen->count; i++) {
            encoding_add(encoding, encoding->ids->at[seen->first + i]);
        }
        return;
    }
    int32_t first = encoding->ids->count;
    encode_word(encoding, rule);
    int32_t count = encoding->ids->count - first;
    *seen = (SeenWord){word, hash, (int32_t)length, first, count};
}

static uint64_t pair_key(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

// "h ell": the names of two tokens, whose texts together are a third's.
static int load_merge(Merges *merges, Tokenizer *tokenizer, int32_t rank, TextSpan text,
                      char *room) {
    size_t at = 1;
    while (at < text.length && text.at[at] != ' ') at++;
    if (at + 1 >= text.length) {
        return fail("%s: merge %d of the tokenizer does not name two tokens", tokenizer->path,
                    rank);
    }
    size_t rest = text.length - at - 1;
    memcpy(room, text.at, at);
    memcpy(room + at, text.at + at + 1, rest);
    int32_t left = tokenizer_find_text(tokenizer, room, at);
    int32_t right = tokenizer_find_text(tokenizer, room + at, rest);
    int32_t result = tokenizer_find_text(tokenizer, room, at + rest);
    if (left < 0 || right < 0 || result < 0) {
        return fail("%s: merge %d of the tokenizer names a token that the vocabulary lacks",
                    tokenizer->path, rank);
    }
    if (merges_find(merges, left, right).rank >= 0) {
        return fail("%s: merge %d of the tokenizer appears twice", tokenizer->path, rank);
    }
    merges->by_rank[rank] = (Join){rank, result};
    map_add(tokenizer->arena, merges->rank_by_pair, pair_key(left, right) ^ secret(), rank);
    return 0;
}

int merges_load(Merges *merges, Tokenizer *tokenizer, const Gguf *gguf, Arena *scratch) {
    int64_t count;
    size_t longest = 0;
    TextSpan *texts = gguf_array_text(gguf, "tokenizer.ggml.merges", scratch, &count);
    if (!texts) return -1;
    if (count > VOCABULARY_LIMIT) {
        return fail("%s: a tokenizer of %lld merges", tokenizer->path, (long long)count);
    }
    merges->rank_by_pair = map_new(tokenizer->arena);
    merges->by_rank = arena_array(tokenizer->arena, Join, count);
    for (int64_t i = 0; i < count; i++) {
        if (texts[i].length > longest) longest = texts[i].length;
    }
    char *room = arena_alloc(scratch, longest);
    for (int32_t rank = 0; rank < (int32_t)count; rank++) {
        if (load_merge(merges, tokenizer, rank, texts[rank], room)) return -1;
    }
    return 0;
}

Join merges_find(const Merges *merges, int32_t left, int32_t right) {
    int32_t rank = map_find(merges->rank_by_pair, pair_key(left, right) ^ secret(), NULL, NULL);
    return rank < 0 ? (Join){-1, -1} : merges->by_rank[rank];
}
