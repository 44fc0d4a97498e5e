/* plan.c - where temporaries live: one block of memory, places reused when their value is dead.
 * In: a Module in run order.  Out: each TEMPORARY's offset, and the size of the block.
 * Invariant: two values that are alive at the same kernel do not overlap; outputs are not in the
 * block.
 *   a: kernels 0..1, 4096 bytes ; b: 1..2, 4096 ; c: 2..3, 4096   =>   a 0, b 4096, c 0 */
#include "schedule/schedule.h"

typedef struct {
    int32_t slot, first, last;  // calls that write and last read it
    int64_t bytes;
} Life;

static bool is_output(const Module *module, int32_t slot) {
    for (int i = 0; i < module->outputs; i++)
        if (module->output[i] == slot) return true;
    return false;
}

static bool together(const Life *a, const Life *b) {
    return a->first <= b->last && b->first <= a->last;
}

// Greedy by size: J. Lee and others, On-Device Neural Net Inference with Mobile GPUs (2019).
static void sort_by_size(Life *life, int lives) {
    for (int i = 1; i < lives; i++) {
        Life moving = life[i];
        int at = i;
        for (; at > 0 && life[at - 1].bytes < moving.bytes; at--) life[at] = life[at - 1];
        life[at] = moving;
    }
}

// The lowest offset at which `bytes` fit between those already placed and alive at the same time.
static int64_t lowest_place(const Module *module, const Life *life, int placed) {
    int64_t offset = 0;
    for (bool moved = true; moved;) {
        moved = false;
        for (int i = 0; i < placed; i++) {
            int64_t start = module->slots.at[life[i].slot].offset, end = start + life[i].bytes;
            if (!together(&life[i], &life[placed]) || start >= offset + life[placed].bytes ||
                end <= offset)
                continue;
            offset = end;
            moved = true;
        }
    }
    return offset;
}

void plan_memory(Module *module) {
    Arena *scratch = arena_new();
    Life *life = arena_array(scratch, Life, module->slots.count);
    int32_t *number = arena_array(scratch, int32_t, module->slots.count);
    int lives = 0;
    for (int32_t slot = 0; slot < module->slots.count; slot++) {
        const Slot *info = &module->slots.at[slot];
        number[slot] = -1;
        if (info->kind != SLOT_TEMPORARY || is_output(module, slot)) continue;
        number[slot] = lives;
        int64_t bytes =
            round_up(info->elements * dtypes[info->dtype].bytes + 64, 64);  // readable past the end
        life[lives++] = (Life){slot, module->calls.count, -1, bytes};
    }
    for (int32_t call = 0; call < module->calls.count; call++)
        for (int32_t i = 0; i < module->calls.at[call].params; i++) {
            int32_t which = number[module->calls.at[call].slot[i]];
            if (which < 0) continue;
            if (life[which].first > call) life[which].first = call;
            life[which].last = call;
        }
    sort_by_size(life, lives);
    for (int i = 0; i < lives; i++) {
        int64_t offset = lowest_place(module, life, i);
        module->slots.at[life[i].slot].offset = offset;
        module->temporary_bytes = max_i64(module->temporary_bytes, offset + life[i].bytes);
    }
    arena_free(scratch);
}
