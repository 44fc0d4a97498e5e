/* generation_test.c - the loop that chooses tokens, on a small random model: how it ends, what it
 * guesses, what it forgets when the context is full. */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "models/models.h"
#include "test.h"

enum { PROMPT = 12, CONTEXT = 48 };
static const char folder[] = "tests/models/small/llama";

typedef struct {
    Gguf *gguf;
    Tokenizer *tokenizer;
    Llama *llama;
    Generation *generation;
    Sampler sampler;
    LogitBias never[8];  // the tokens that end a text
    char text[4096];
    IdList ids;
    int most;
} Fixture;

static Fixture fixture;

static void open_small(int64_t context) {
    Fixture *f = &fixture;
    pg_set_mode(PG_GRAPH);
    *f = (Fixture){.most = 1000, .sampler = {SAMPLER_DEFAULTS}};
    f->sampler.temperature = 0;
    f->gguf = gguf_open(folder);
    if (!f->gguf) SKIP("this build reads no folders");
    f->tokenizer = tokenizer_open(f->gguf);
    f->llama = llama_open(f->gguf, context, 1);
    CHECK(f->tokenizer && f->llama);
    f->generation = generation_new(f->llama, f->tokenizer);
    f->sampler.bias = f->never;
    for (int32_t id = 0; id < tokenizer_count(f->tokenizer); id++)
        if (tokenizer_is_end(f->tokenizer, id))
            f->never[f->sampler.biases++] = (LogitBias){id, -INFINITY};
    int32_t ids[PROMPT];
    for (int i = 0; i < PROMPT; i++) ids[i] = 30 + 7 * i;
    generation_add(f->generation, ids, PROMPT);
}

static void close_small(void) {
    sampler_free(&fixture.sampler);
    generation_free(fixture.generation);
    llama_close(fixture.llama);
    tokenizer_close(fixture.tokenizer);
    gguf_close(fixture.gguf);
}

static bool hear(void *context, int32_t id, TextSpan text) {
    Fixture *f = context;
    size_t end = strlen(f->text);
    CHECK(end + text.length < sizeof f->text);
    memcpy(f->text + end, text.at, text.length);
    f->most -= id >= 0;
    return f->most > 0;
}

static GenerationHow how(int64_t count) {
    return (GenerationHow){
        .sampler = &fixture.sampler, .count = count, .show = hear, .context = &fixture};
}

static GenerationResult run(GenerationHow by) {
    GenerationResult result;
    CHECK_INT(generation_run(fixture.generation, &by, &result), 0);
    return result;
}

// Greedy tokens of the prompt and `count` more, found by llama_forward alone.
static void check_history(int64_t count) {
    const IdList *history = generation_history(fixture.generation);
    Llama *llama = llama_open(fixture.gguf, 256, 1);
    static float logits[4096];
    CHECK_INT(history->count, PROMPT + count);
    for (int32_t i = 0; i < history->count; i++) {
        int64_t best = 0;
        for (int64_t j = 1; i >= PROMPT && j < llama_config(llama)->vocabulary; j++)
            if (logits[j] > logits[best] && !tokenizer_is_end(fixture.tokenizer, (int32_t)j))
                best = j;
        if (i >= PROMPT) CHECK_INT(history->at[i], best);
        CHECK_INT(llama_forward(llama, &history->at[i], 1, logits, NULL), 0);
    }
    llama_close(llama);
}

TEST(as_many_tokens_as_asked_for) {
    open_small(CONTEXT);
    GenerationResult result = run(how(9));
    CHECK_INT(result.end, GENERATION_COUNT);
    CHECK_INT(result.count, 9);
    CHECK_INT(result.steps, 8);
    CHECK_INT(result.prompt_count, PROMPT);
    check_history(9);
    result = run(how(5));  // goes on behind
    CHECK_INT(result.prompt_count, 1);
    check_history(14);
    close_small();
}

TEST(until_the_context_is_full) {
    open_small(CONTEXT);
    GenerationResult result = run(how(-1));
    CHECK_INT(result.end, GENERATION_FULL);
    CHECK_INT(result.count, CONTEXT - PROMPT);
    check_history(CONTEXT - PROMPT);
    result = run(how(-1));
    CHECK_INT(result.end, GENERATION_FULL);
    CHECK_INT(result.count, 0);
    close_small();
}

TEST(a_callback_ends_it) {
    open_small(CONTEXT);
    fixture.most = 3;
    GenerationResult result = run(how(20));
    CHECK_INT(result.end, GENERATION_CANCELLED);
    CHECK_INT(result.count, 3);
    close_small();
}

TEST(before_the_stop_text) {
    char text[4096], stop[8] = "";
    open_small(CONTEXT);
    run(how(20));
    strcpy(text, fixture.text);
    close_small();
    CHECK(strlen(text) > 12);
    memcpy(stop, text + 6, 4);
    open_small(CONTEXT);
    GenerationHow by = how(20);
    by.stop = stop;
    GenerationResult result = run(by);
    CHECK_INT(result.end, GENERATION_STOP);
    CHECK(result.text.length <= 6);
    CHECK(!strncmp(fixture.text, text, strlen(fixture.text)));
    CHECK(!strstr(fixture.text, stop));
    close_small();
}

// A model that repeats itself is guessed right; the tokens are the same.
TEST(lookup_takes_fewer_steps) {
    open_small(256);
    GenerationHow by = how(120);
    by.lookup = true;
    GenerationResult result = run(by);
    CHECK_INT(result.count, 120);
    CHECK(result.guessed > 0);
    CHECK_INT(result.steps + result.guessed, 119);
    check_history(120);
    close_small();
}

TEST(a_full_context_forgets_its_older_half) {
    open_small(CONTEXT);
    int32_t first[4];
    memcpy(first, generation_history(fixture.generation)->at, sizeof first);
    GenerationHow by = how(100);
    by.shift = true;
    by.keep = 4;
    GenerationResult result = run(by);
    CHECK_INT(result.end, GENERATION_COUNT);
    CHECK_INT(result.count, 100);
    const IdList *history = generation_history(fixture.generation);
    CHECK_INT(history->count, PROMPT + 100 - result.forgotten);
    CHECK(history->count <= CONTEXT);
    CHECK_INT(result.forgotten % 22, 0);  // (48 - 4) / 2 at a time
    CHECK(!memcmp(history->at, first, sizeof first));
    close_small();
}

TEST(nothing_to_continue) {
    open_small(CONTEXT);
    GenerationResult result;
    GenerationHow by = how(1);
    generation_rewind(fixture.generation, 0);
    CHECK_FAIL(generation_run(fixture.generation, &by, &result), "nothing to continue");
    close_small();
}

TEST(a_prompt_longer_than_the_context) {
    open_small(CONTEXT);
    GenerationResult result;
    GenerationHow by = how(1);
    for (int i = 0; i < CONTEXT; i++) generation_add(fixture.generation, &(int32_t){i}, 1);
    CHECK_FAIL(generation_run(fixture.generation, &by, &result), "do not fit a context of 48");
    by.shift = true;
    CHECK_FAIL(generation_run(fixture.generation, &by, &result), "do not fit a context of 48");
    close_small();
}

// Of one layer, whose keys and values are of single tokens: what is shifted is as newly read.
TEST(a_shifted_cache_is_as_if_newly_read) {
    open_small(CONTEXT);
    Arena *arena = arena_new();
    const char *path = arena_print(arena, "/tmp/picograd-one-layer-%d.gguf", (int)getpid());
    GgufWriter *writer = gguf_writer_new();
    gguf_put_int(writer, "llama.block_count", 1);
    gguf_put_keys(writer, fixture.gguf);
    for (int64_t i = 0; i < gguf_tensor_count(fixture.gguf); i++) {
        const GgufTensor *tensor = gguf_tensor(fixture.gguf, i);
        gguf_put_tensor(writer, tensor, tensor->type);
    }
    CHECK_INT(gguf_writer_save(writer, path), 0);
    gguf_writer_free(writer);
    Gguf *gguf = gguf_open(path);
    CHECK(gguf != NULL);
    Llama *llama = llama_open(gguf, CONTEXT, 1);
    int32_t ids[20], left[20];
    float expected[4096], got[4096];
    for (int i = 0; i < 20; i++) ids[i] = 20 + 11 * i;
    memcpy(left, ids, 3 * sizeof *ids);
    memcpy(left + 3, ids + 10, 10 * sizeof *ids);
    CHECK_INT(llama_forward(llama, left, 13, expected, NULL), 0);
    llama_rewind(llama, 0);
    CHECK_INT(llama_forward(llama, ids, 19, NULL, NULL), 0);
    llama_shift(llama, 3, 7);
    CHECK_INT(llama_position(llama), 12);
    CHECK_INT(llama_forward(llama, ids + 19, 1, got, NULL), 0);
    for (int64_t i = 0; i < llama_config(llama)->vocabulary; i++)
        CHECK_NEAR(got[i], expected[i], 1e-4);
    llama_close(llama);
    gguf_close(gguf);
    unlink(path);
    arena_free(arena);
    close_small();
}
