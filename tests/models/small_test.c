/* small_test.c - the small models of tests/models/small against transformers in fp32: every way of
 * rotating, windows, biases, tied heads, several files (tests/golden/make_small_models.py). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/models.h"
#include "test.h"

#ifdef PG_HAVE_JANSSON
#define NEEDS_JANSSON
#else
#define NEEDS_JANSSON SKIP("this build has no jansson")
#endif

enum { IDS_MAX = 256, CHOSEN = 12 };

typedef struct {
    int count;
    int32_t ids[IDS_MAX], chosen[CHOSEN];
    double logsumexp[IDS_MAX], logits[IDS_MAX][CHOSEN];
} Golden;

static void read_position(FILE *file, Golden *golden, int position) {
    int found;
    CHECK(fscanf(file, " position %d logsumexp %lf", &found, &golden->logsumexp[position]) == 2);
    CHECK_INT(found, position);
    for (int i = 0; i < CHOSEN; i++) {
        CHECK(fscanf(file, "%lf", &golden->logits[position][i]) == 1);
    }
}

static void read_golden(const char *name, Golden *golden) {
    FILE *file = fopen("tests/golden/small.txt", "r");
    char line[512], wanted[64];
    double rounding;
    int count;
    CHECK(file);
    snprintf(wanted, sizeof wanted, "case %s\n", name);
    do CHECK(fgets(line, sizeof line, file));
    while (strcmp(line, wanted));
    CHECK(fgets(line, sizeof line, file));
    CHECK(fscanf(file, " prompt %d", &golden->count) == 1);
    CHECK(golden->count > 24 && golden->count <= IDS_MAX);
    for (int i = 0; i < golden->count; i++) CHECK(fscanf(file, "%d", &golden->ids[i]) == 1);
    CHECK(fscanf(file, " rounding %lf ids %d", &rounding, &count) == 2);
    CHECK_INT(count, CHOSEN);
    for (int i = 0; i < CHOSEN; i++) CHECK(fscanf(file, "%d", &golden->chosen[i]) == 1);
    for (int i = 0; i < golden->count; i++) read_position(file, golden, i);
    fclose(file);
}

static void check_logits(const Golden *golden, int position, const float *logits,
                         int64_t vocabulary) {
    double sum = 0;
    for (int64_t i = 0; i < vocabulary; i++) sum += exp((double)logits[i]);
    CHECK_NEAR(log(sum), golden->logsumexp[position], 1e-4);
    for (int i = 0; i < CHOSEN; i++) {
        CHECK_NEAR(logits[golden->chosen[i]], golden->logits[position][i], 1e-4);
    }
}

// All at once, and again as what is generated runs: in pieces, by the cache.
static void check_model(const char *name) {
    NEEDS_JANSSON;
    Arena *arena = arena_new();
    Golden *golden = arena_object(arena, Golden);
    read_golden(name, golden);
    Gguf *gguf = gguf_open(arena_print(arena, "tests/models/small/%s", name));
    Llama *llama = gguf ? llama_open(gguf, 0, 1) : NULL;
    if (!llama) fatal("%s", error_text());
    int64_t vocabulary = llama_config(llama)->vocabulary;
    float *logits = arena_array(arena, float, golden->count *vocabulary);
    for (int piece = golden->count; piece > 0; piece /= 4) {
        llama_rewind(llama, 0);
        for (int at = 0; at < golden->count; at += piece) {
            int count = golden->count - at < piece ? golden->count - at : piece;
            CHECK_INT(llama_forward(llama, golden->ids + at, count, NULL, logits + at * vocabulary),
                      0);
        }
        for (int i = 0; i < golden->count; i++) {
            check_logits(golden, i, logits + i * vocabulary, vocabulary);
        }
    }
    llama_close(llama);
    gguf_close(gguf);
    arena_free(arena);
}

TEST(llama) { check_model("llama"); }
TEST(llama_in_two_files) { check_model("sharded"); }
TEST(llama_with_linear_scaling) { check_model("llama-linear"); }
TEST(llama_with_yarn) { check_model("llama-yarn"); }
TEST(llama_3s_scaling) { check_model("llama-llama3"); }
TEST(llama_with_its_own_head_size_and_biases) { check_model("llama-headdim"); }
TEST(mistral_with_a_window) { check_model("mistral"); }
TEST(qwen2) { check_model("qwen2"); }
TEST(qwen2_with_a_window_on_some_layers) { check_model("qwen2-window"); }
