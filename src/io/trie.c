/* trie.c - texts by their prefixes.
 * In: texts, each with a value.  Out: nodes that one byte leads on from.
 * Invariant: a node's children lie side by side, ordered by byte; a node is a common prefix of the
 * texts whose range of the sorted list it was made from.
 *   {"a": 5, "ab": 7}: root -a-> node 1 (5) -b-> node 2 (7); trie_longest of "abc" is 7          */
#define _GNU_SOURCE  // qsort_r
#include "io/tokenizer.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    int32_t first, value;  // first: of its children
    uint16_t count;        // of its children
    uint8_t byte;          // that leads here
} Node;

struct Trie {
    Node *nodes;
    int32_t from_root[256];  // the root has the most children, and is left most often
};

typedef struct {
    int32_t low, high;  // of the sorted texts
    size_t depth;       // bytes that they have in common
} Range;

typedef struct {
    Arena *scratch;
    const TextSpan *texts;
    const int32_t *values, *order;
    LIST(Node) nodes;
    LIST(Range) ranges;  // of the same node
} Builder;

static int compare(const void *a, const void *b, void *context) {
    const TextSpan *left = (const TextSpan *)context + *(const int32_t *)a;
    const TextSpan *right = (const TextSpan *)context + *(const int32_t *)b;
    size_t common = left->length < right->length ? left->length : right->length;
    int order = common ? memcmp(left->at, right->at, common) : 0;
    return order ? order : (left->length > right->length) - (left->length < right->length);
}

static uint8_t byte_at(const Builder *builder, int32_t i, size_t depth) {
    return (uint8_t)builder->texts[builder->order[i]].at[depth];
}

static void add_node(Builder *builder, uint8_t byte, Range range) {
    *list_add(builder->scratch, &builder->nodes) = (Node){.value = -1, .byte = byte};
    *list_add(builder->scratch, &builder->ranges) = range;
}

static void add_children(Builder *builder, int32_t node) {
    Range range = builder->ranges.at[node];
    int32_t low = range.low, first = builder->nodes.count;
    for (; low < range.high; low++) {
        int32_t i = builder->order[low];
        if (builder->texts[i].length > range.depth) break;
        builder->nodes.at[node].value = builder->values[i];
    }
    for (int32_t next; low < range.high; low = next) {
        uint8_t byte = byte_at(builder, low, range.depth);
        for (next = low + 1; next < range.high; next++) {
            if (byte_at(builder, next, range.depth) != byte) break;
        }
        add_node(builder, byte, (Range){low, next, range.depth + 1});
    }
    builder->nodes.at[node].first = first;
    builder->nodes.at[node].count = (uint16_t)(builder->nodes.count - first);
}

Trie *trie_new(Arena *arena, const TextSpan *texts, const int32_t *values, int32_t count) {
    Arena *scratch = arena_new();
    int32_t *order = arena_array(scratch, int32_t, count);
    for (int32_t i = 0; i < count; i++) order[i] = i;
    if (count) qsort_r(order, (size_t)count, sizeof *order, compare, (void *)texts);
    Builder builder = {.scratch = scratch, .texts = texts, .values = values, .order = order};
    add_node(&builder, 0, (Range){0, count, 0});
    for (int32_t node = 0; node < builder.nodes.count; node++) add_children(&builder, node);
    Trie *trie = arena_object(arena, Trie);
    size_t bytes = (size_t)builder.nodes.count * sizeof(Node);
    trie->nodes = arena_copy(arena, builder.nodes.at, bytes);
    memset(trie->from_root, -1, sizeof trie->from_root);
    for (int32_t child = 1; child <= trie->nodes[0].count; child++) {
        trie->from_root[trie->nodes[child].byte] = child;
    }
    arena_free(scratch);
    return trie;
}

int32_t trie_step(const Trie *trie, int32_t node, char byte) {
    uint8_t wanted = (uint8_t)byte;
    if (node == 0) return trie->from_root[wanted];
    int32_t low = trie->nodes[node].first, high = low + trie->nodes[node].count;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        uint8_t found = trie->nodes[middle].byte;
        if (found == wanted) return middle;
        if (found < wanted) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return -1;
}

int32_t trie_value(const Trie *trie, int32_t node) { return trie->nodes[node].value; }

int32_t trie_longest(const Trie *trie, const char *text, size_t length, size_t *matched) {
    int32_t node = 0, value = -1;
    for (size_t i = 0; i < length; i++) {
        node = trie_step(trie, node, text[i]);
        if (node < 0) break;
        if (trie->nodes[node].value < 0) continue;
        value = trie->nodes[node].value;
        *matched = i + 1;
    }
    return value;
}
