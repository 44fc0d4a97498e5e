/* random_test.c - random weights: the shapes, the numbers themselves, and that they run. */
#include "models/llama.h"

#include <math.h>
#include <string.h>

#include "test.h"

enum { WIDTH = 64, VOCABULARY = 256 };

static const RandomModel *tiny(void) {
    const RandomModel *found = random_model_find("random:tiny");
    CHECK(found != NULL);
    return found;
}

static void read(PgTensor *from, float *to, int64_t count) {
    pg_scope_begin();
    pg_to_host(pg_contiguous(from), to, (size_t)count * sizeof *to);
    pg_scope_end();
}

static int64_t weights(const LlamaConfig *config) {
    int64_t heads = 2 * (config->heads + config->key_heads) * config->head_size;
    return config->layers * config->width * (heads + 3 * config->hidden + 2) +
           config->width * (config->vocabulary + 1);
}

TEST(shapes_of_known_models) {
    CHECK_INT(weights(&random_model_find("random")->config), 134515008);      // SmolLM2-135M
    CHECK_INT(weights(&random_model_find("random:1b")->config), 1235814400);  // Llama-3.2-1B
    CHECK_INT(random_model_find("random:1b")->type, GGUF_BF16);
    CHECK(random_model_find("random:2b") == NULL);
    CHECK(random_model_find("rando") == NULL);
}

// Word i of the bits is splitmix64's number i, whoever fills it in.
TEST(numbers_do_not_depend_on_threads) {
    static float one[WIDTH * WIDTH], many[WIDTH * WIDTH];
    for (int threads = 1; threads <= 5; threads++) {
        thread_set_count(threads);
        Llama *llama = llama_random(tiny(), 8, 1, 1);
        read(llama->layer[15].query.weight, threads == 1 ? one : many, WIDTH * WIDTH);
        llama_close(llama);
        CHECK(threads == 1 || !memcmp(one, many, sizeof one));
    }
}

// By Python, with the seed 1: bits of splitmix64(2^32 + 1), each byte minus 127.5, times
// 1 / (73.9 * 8), rounded to bf16.
TEST(numbers_are_the_same_everywhere) {
    static const float expected[8] = {0.169921875f,    0.1123046875f,  -0.1650390625f,
                                      0.010986328125f, 0.205078125f,   -0.1142578125f,
                                      -0.2001953125f,  -0.09716796875f};
    static float got[VOCABULARY * WIDTH];
    Llama *llama = llama_random(tiny(), 8, 1, 1);
    read(llama->embedding, got, VOCABULARY * WIDTH);
    for (int i = 0; i < 8; i++) CHECK(got[i] == expected[i]);
    double sum = 0, squares = 0;
    for (int i = 0; i < VOCABULARY * WIDTH; i++) sum += got[i], squares += (double)got[i] * got[i];
    CHECK_NEAR(sum / (VOCABULARY * WIDTH), 0, 4e-3);  // four deviations of the mean
    CHECK_NEAR(squares / VOCABULARY, 1, 0.02);
    CHECK_INT(llama_weight_bytes(llama), 2 * weights(&tiny()->config) + 2 * WIDTH * (2 * 16 + 1));
    llama_close(llama);
}

TEST(eager_equals_graph) {
    static float logits[2][VOCABULARY];
    const int32_t ids[5] = {5, 77, 255, 0, 9};
    for (int mode = 0; mode < 2; mode++) {
        pg_set_mode(mode ? PG_EAGER : PG_GRAPH);
        Llama *llama = llama_random(tiny(), 64, 1, 7);
        CHECK_INT(llama_config(llama)->context, 64);
        CHECK_INT(llama_forward(llama, ids, 5, logits[mode], NULL), 0);
        llama_close(llama);
    }
    pg_set_mode(PG_GRAPH);
    double size = 0;
    for (int i = 0; i < VOCABULARY; i++) {
        CHECK_NEAR(logits[0][i], logits[1][i], 1e-4);
        size += (double)logits[0][i] * logits[0][i] / VOCABULARY;
    }
    CHECK(size > 0.1 && size < 10);  // each layer keeps the size of what passes
}
