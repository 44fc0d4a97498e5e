/* ir_fuzz.c - bytes as the text of a graph, or of a kernel if they begin with that word: refused
 * with a message; or what verifies prints as a text that reads as the same. */
#include "fuzz/fuzz.h"
#include "ir/graph_parse.h"

#include <string.h>

typedef struct {
    Arena *arena;
    const char *text;
    char *printed;
} Attempt;

static void attempt(void *context) {
    Attempt *it = context;
    if (!strncmp(it->text, "kernel", 6)) {
        Kernel *kernel = kernel_parse(it->arena, "fuzz", it->text);
        kernel_verify(kernel);
        it->printed = kernel_print(it->arena, kernel);
    } else {
        GraphProgram program = graph_parse(it->arena, "fuzz", it->text);
        graph_verify(program.graph, program.outputs, program.output);
        it->printed = graph_print(it->arena, program.graph, program.outputs, program.output);
    }
}

void fuzz_one(const uint8_t *data, size_t size) {
    Arena *arena = arena_new();
    Attempt once = {arena, fuzz_text(arena, data, size), NULL};
    if (!try_call(attempt, &once)) {
        Attempt again = {arena, once.printed, NULL};
        fuzz_check(!try_call(attempt, &again), "what was printed does not parse");
        fuzz_check(!strcmp(again.printed, once.printed), "it prints otherwise the second time");
    }
    arena_free(arena);
}
