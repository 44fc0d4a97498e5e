/* fuzz_test.c - text that is nearly a kernel or a graph: words and numbers of good texts taken out,
 * doubled, moved or made extreme. It is refused, or it verifies or not; and what verifies survives
 * printing and parsing.  PG_SEED=n repeats one run.                                             */
#include "ir/graph_parse.h"
#include "test.h"

#include <string.h>

enum { WORDS_MAX = 2000, ROUNDS = 1000 };

static const char *const strange[] = {
    "0",
    "-1",
    "7",
    "2147483648",
    "4611686018427387904",
    "9223372036854775807",
    "i",
    "-9223372036854775808",
    "18446744073709551615",
    "1e999",
    "nan",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "%",
    "*",
    "/",
    "-",
    "<",
    "@",
    "bool",
    "reduce",
    "let",
    "update",
    "when",
    "unroll",
    "thread",
    "permute",
    "n",
};

static uint64_t state;

static int below(int count) {  // S. Vigna's splitmix64
    state += 0x9e3779b97f4a7c15;
    uint64_t z = (state ^ state >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (int)((z ^ z >> 31) % (uint64_t)count);
}

static const char *const kernels[] = {"attention", "matmul", "q4_1_matvec", "rmsnorm_matmul"};

static const char graph[] = "var n 1..9\n"
                            "%0 = const{0.5} f32 (2, 3)\n"
                            "%1 = param{3} f32 (n, 2, 3)\n"
                            "%2 = iota{1} i32 (2, 3)\n"
                            "%3 = reshape f32 (n, 6) %1\n"
                            "%4 = permute{1, 0} f32 (3, 2) %0\n"
                            "%5 = pad{(n, 0, 0), (0, 1, 1)} f32 (2*n, 3, 4) %1\n"
                            "%6 = shrink{(0, 1)} f32 (2, 2) %0\n"
                            "%7 = flip{0, 1} f32 (2, 3) %0\n"
                            "%8 = window{1, 2, 1, 2} f32 (2, 1, 2) %0\n"
                            "%9 = reduce{add, 0, 2} f32 (1, 2, 1) %1\n"
                            "%10 = gather{0} f32 (2, 3) %0 %2\n"
                            "%11 = cast bool (2, 3) %0\n"
                            "%12 = where f32 (2, 3) %11 %0 %10\n"
                            "%13 = bitcast f16 (n, 12) %3\n"
                            "out %12 %3 %4 %5 %6 %7 %8 %9 %13\n";

typedef struct {
    Arena *arena;
    const char *text;
    char *(*print)(Arena *arena, const char *text);  // parses, verifies, prints; fatal where not
    char *printed;
} Attempt;

static char *print_kernel(Arena *arena, const char *text) {
    Kernel *kernel = kernel_parse(arena, "fuzz", text);
    kernel_verify(kernel);
    return kernel_print(arena, kernel);
}

static char *print_graph(Arena *arena, const char *text) {
    GraphProgram program = graph_parse(arena, "fuzz", text);
    graph_verify(program.graph, program.outputs, program.output);
    return graph_print(arena, program.graph, program.outputs, program.output);
}

static void attempt(void *argument) {
    Attempt *it = argument;
    it->printed = it->print(it->arena, it->text);
}

// A word is a run of letters, digits and dots, or one other byte with the blanks before it.
static int split(Arena *arena, const char *text, const char **word) {
    int count = 0;
    while (*text && count < WORDS_MAX) {
        size_t blanks = strspn(text, " \n"), length = strcspn(text + blanks, " \n()[]{}%*/+-<,:=@");
        if (!length) length = text[blanks] != 0;
        word[count++] = arena_print(arena, "%.*s", (int)(blanks + length), text);
        text += blanks + length;
    }
    return count;
}

static const char *changed(Arena *arena, const char *text) {
    const char *word[WORDS_MAX];
    int count = split(arena, text, word);
    for (int changes = 1 + below(3); changes > 0; changes--) {
        const char **at = &word[below(count)], *other = word[below(count)];
        int kind = below(5);
        if (kind == 0) *at = "";
        if (kind == 1) *at = other;
        if (kind == 2) *at = arena_print(arena, "%s%s", *at, other);
        if (kind > 2) *at = arena_print(arena, " %s", strange[below(COUNT_OF(strange))]);
    }
    Text out = text_new(arena);
    for (int i = 0; i < count; i++) text_add(&out, "%s", word[i]);
    if (!below(10)) out.at[below((int)out.count)] = 0;
    return out.at;
}

// How many of the changed texts verify.
static int fuzz(const char *good, char *(*print)(Arena *arena, const char *text)) {
    int verified = 0;
    Arena *arena = arena_new();
    for (int i = 0; i < ROUNDS; i++) {
        Attempt it = {arena, changed(arena, good), print, NULL};
        if (!try_call(attempt, &it)) {
            Attempt again = {arena, it.printed, print, NULL};
            verified++;
            check(!try_call(attempt, &again), it.text, __FILE__, __LINE__);
            CHECK_TEXT(again.printed, it.printed);
        } else {
            CHECK(*error_text());
        }
        arena_reset(arena);
    }
    arena_free(arena);
    return verified;
}

TEST(kernels_nearly_right) {
    Arena *arena = arena_new();
    state = (uint64_t)env_int("SEED", 1);
    for (int i = 0; i < COUNT_OF(kernels); i++) {
        char *text =
            file_read(arena, arena_print(arena, "tests/kernels/%s.kernel", kernels[i]), NULL);
        CHECK(text != NULL);
        CHECK(fuzz(text, print_kernel) > 0);
    }
    arena_free(arena);
}

TEST(graphs_nearly_right) {
    state = (uint64_t)env_int("SEED", 1);
    CHECK(fuzz(graph, print_graph) > 0);
}
