/* map.c - from a 64-bit key to an int32: what hash-consing and caches stand on.
 * In: keys, mostly hashes.  Out: the values added under a key, oldest first.
 * Invariants: no free slot lies between a key's home slot and its entries; one slot is always free.
 *   map_add(mem, map, key, 7); map_find(map, key, NULL, NULL) == 7                               */
#include "base/base.h"

#include <string.h>

typedef struct {
    uint64_t key;
    int32_t value;  // EMPTY in a free slot
} Slot;

enum { EMPTY = -1 };

struct Map {
    Slot *slots;
    uint32_t count, capacity;  // capacity is a power of two
};

static Slot *slots_new(Arena *arena, uint32_t capacity) {
    Slot *slots = arena_array(arena, Slot, capacity);
    for (uint32_t i = 0; i < capacity; i++) slots[i].value = EMPTY;
    return slots;
}

Map *map_new(Arena *arena) {
    Map *map = arena_object(arena, Map);
    map->capacity = hostile() ? 2 : 64;
    map->slots = slots_new(arena, map->capacity);
    return map;
}

static uint64_t mix(uint64_t value) {
    value ^= value >> 32;
    value *= 0xe9846af9b1a615d;  // odd, about half of its bits set; so that nearby keys spread
    value ^= value >> 32;
    value *= 0xe9846af9b1a615d;
    return value ^ value >> 28;
}

static uint32_t home(const Map *map, uint64_t key) {
    return (uint32_t)mix(key) & (map->capacity - 1);
}

static uint32_t next_slot(const Map *map, uint32_t slot) {
    return (slot + 1) & (map->capacity - 1);
}

int32_t map_find(const Map *map, uint64_t key, MapSame *same, const void *context) {
    for (uint32_t slot = home(map, key); map->slots[slot].value != EMPTY;
         slot = next_slot(map, slot)) {
        const Slot *found = &map->slots[slot];
        if (found->key == key && (!same || same(context, found->value))) return found->value;
    }
    return -1;
}

static void put(Map *map, uint64_t key, int32_t value) {
    uint32_t slot = home(map, key);
    while (map->slots[slot].value != EMPTY) slot = next_slot(map, slot);
    map->slots[slot] = (Slot){key, value};
}

// Walks from behind a free slot, so that no run is cut in two and equal keys keep their order.
static void grow(Arena *arena, Map *map) {
    if (map->capacity > UINT32_MAX / 2) fatal("a map cannot have over %u slots", map->capacity);
    Map old = *map;
    map->capacity *= 2;
    map->slots = slots_new(arena, map->capacity);
    uint32_t start = 0;
    while (old.slots[start].value != EMPTY) start++;
    for (uint32_t slot = next_slot(&old, start); slot != start; slot = next_slot(&old, slot))
        if (old.slots[slot].value != EMPTY) put(map, old.slots[slot].key, old.slots[slot].value);
}

void map_add(Arena *arena, Map *map, uint64_t key, int32_t value) {
    if (value < 0) fatal("map_add: the value %d is negative. Hint: store an id", value);
    if (4 * ((uint64_t)map->count + 1) > 3 * (uint64_t)map->capacity) grow(arena, map);
    put(map, key, value);
    map->count++;
}

// Eight bytes at a time, little end first, as all our machines have it.
uint64_t hash_bytes(const void *bytes, size_t count, uint64_t seed) {
    const char *at = bytes;
    uint64_t hash = mix(seed ^ (count + 1) * 0x9e3779b97f4a7c15);
    for (; count >= 8; count -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        hash = mix(hash ^ word) + word;
    }
    uint64_t rest = 0;
    if (count) memcpy(&rest, at, count);
    return mix(hash ^ rest);
}
