/* schedule_fuzz.c - bytes as a kernel, a line `---`, and a schedule: the schedule is refused, or
 * what it makes of the kernel verifies and prints as a text that reads as the same kernel. */
#include "fuzz/fuzz.h"
#include "schedule/schedule.h"

#include <string.h>

typedef struct {
    Arena *arena;
    const char *text, *schedule;
    char *printed;
} Attempt;

static void attempt(void *context) {
    Attempt *it = context;
    Kernel *kernel = kernel_parse(it->arena, "fuzz", it->text);
    kernel_verify(kernel);
    schedule_apply(kernel, it->schedule);
    it->printed = kernel_print(it->arena, kernel);
}

void fuzz_one(const uint8_t *data, size_t size) {
    Arena *arena = arena_new();
    char *text = fuzz_text(arena, data, size), *cut = strstr(text, "\n---\n");
    if (cut) *cut = 0;
    Attempt once = {arena, text, cut ? cut + 5 : "", NULL};
    if (!try_call(attempt, &once)) {
        Attempt again = {arena, once.printed, "", NULL};
        fuzz_check(!try_call(attempt, &again), "a scheduled kernel does not verify");
        fuzz_check(!strcmp(again.printed, once.printed), "a scheduled kernel prints otherwise");
    }
    arena_free(arena);
}
